/* Inside the store: the form of a batch and the table of operations that an engine fills in.
 *
 * Private to persistence/. A group is begin, any number of apply, commit; reads may come between
 * and see what was applied so far, so that the storage thread can keep the order of its queue
 * within one group. Who reads inside an open group shows the answer to nobody before the commit has
 * succeeded.
 *
 *     closed --begin--> open --apply ok, or one batch undone--> open --commit--> closed (durable)
 *                        |                                                          ^
 *                        +--apply: the whole group is undone--> lost --commit: the error--+ */
#ifndef PERSISTENCE_ENGINE_H
#define PERSISTENCE_ENGINE_H

#include "persistence/store.h"

#include "protocol/limits.h"

typedef enum store_op_kind {
    OP_PUT,
    OP_DEL,
    OP_DEL_PREFIX,
    OP_DEL_BELOW,
    OP_COPY_PREFIX, /* value = the new prefix */
} store_op_kind;

struct store_op {
    store_op_kind kind;
    store_table table;
    size_t key_at; /* offset into the batch's bytes */
    size_t key_len;
    size_t value_at; /* the same, unless `owned` */
    size_t value_len;
    uint8_t *owned; /* a value with memory of its own, or NULL */
};

#define BATCH_FIRST_OPS 8 /* operations without an allocation of their own */
struct store_batch {
    struct store_op *ops; /* `first`, or allocated */
    size_t count, cap;
    struct buf bytes;
    size_t file_bytes;         /* sum of the values that become files */
    gw_err failed;             /* sticky */
    struct store_chain *chain; /* held; NULL = of none */
    commit_point point;
    struct store_op first[BATCH_FIRST_OPS];
};

static inline struct span store_op_key(const struct store_batch *b, const struct store_op *op)
{
    return (struct span){b->bytes.data + op->key_at, op->key_len};
}
static inline struct span store_op_value(const struct store_batch *b, const struct store_op *op)
{
    return (struct span){op->owned ? op->owned : b->bytes.data + op->value_at, op->value_len};
}

/* Byte order: memcmp, then the shorter first. */
int store_compare(struct span a, struct span b);
/* The smallest key above all keys with `prefix` ([0..LIMIT_STORE_KEY_BYTES] bytes). */
struct store_bound {
    uint8_t bytes[LIMIT_STORE_KEY_BYTES + 1];
    size_t len;
};
struct span store_after_prefix(struct span prefix, struct store_bound *room);
/* A range as keys in [lo, hi); borrowed from `range` and `room`. */
void store_range_bounds(const struct store_range *range, struct store_bound *room,
                        struct span *ret_lo, struct span *ret_hi);

struct store_engine {
    const char *name;
    /* Open a group. With `batches` = 1 the engine may spare what undoes one batch among others. */
    void (*begin)(struct store *s, size_t batches);
    /* Apply one whole batch. On error nothing of it is left; the group may be lost with it (commit
     * then returns the error). */
    gw_err (*apply)(struct store *s, const struct store_batch *batch);
    /* GW_OK: durable. Otherwise everything of the group is certainly undone. */
    gw_err (*commit)(struct store *s);
    gw_err (*get)(struct store *s, store_table table, struct span key, struct buf *ret);
    gw_err (*scan)(struct store *s, const struct store_range *range, store_visit visit, void *arg);
    bool (*wants_idle)(const struct store *s);
    void (*idle)(struct store *s);
    void (*close)(struct store *s); /* frees s */
};

struct store { /* first member of each engine's own struct */
    const struct store_engine *engine;
};

/* The group calls with the checks that hold for each engine. `batch` NULL: GW_ENOMEM. */
void store_group_begin(struct store *s, size_t batches);
gw_err store_group_apply(struct store *s, const struct store_batch *batch) GW_MUST_USE;
gw_err store_group_commit(struct store *s) GW_MUST_USE;

#endif
