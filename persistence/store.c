#include "persistence/engine.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "persistence/failpoint.h"
#include "protocol/base/log.h"

/* Values above this are kept where they were allocated: growing one buffer by doubling would copy a
 * large state several times. */
#define BATCH_OWNED_BYTES 4096u
#define BATCH_ROOM_BYTES  1000u /* for six rows of the usual size in one allocation */

/* --- batches --- */
struct store_batch *store_batch_new(void)
{
    struct store_batch *b = malloc(sizeof *b);
    if (!b) {
        return NULL;
    }
    b->ops = b->first;
    b->count = 0;
    b->cap = BATCH_FIRST_OPS;
    b->bytes = (struct buf){0};
    b->file_bytes = 0;
    b->failed = GW_OK;
    b->chain = NULL;
    b->point = POINT_NONE;
    if (!buf_reserve(&b->bytes, BATCH_ROOM_BYTES)) {
        free(b);
        return NULL;
    }
    return b;
}

void store_batch_point(struct store_batch *batch, commit_point point)
{
    if (batch) {
        batch->point = point;
    }
}

commit_point store_batch_get_point(const struct store_batch *batch)
{
    return batch ? batch->point : POINT_NONE;
}

void store_batch_free(struct store_batch *batch)
{
    if (!batch) {
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->ops[i].owned);
    }
    if (batch->ops != batch->first) {
        free(batch->ops);
    }
    buf_free(&batch->bytes);
    store_chain_drop(batch->chain);
    free(batch);
}

static bool grow(struct store_batch *b)
{
    size_t cap = b->cap * 2;
    struct store_op *ops = realloc(b->ops == b->first ? NULL : b->ops, cap * sizeof *ops);
    if (!ops) {
        return false;
    }
    if (b->ops == b->first) {
        memcpy(ops, b->first, sizeof b->first);
    }
    b->ops = ops;
    b->cap = cap;
    return true;
}

/* Append an operation with its key; NULL when the batch has failed. */
static struct store_op *add(struct store_batch *b, store_op_kind kind, store_table table,
                            struct span key)
{
    gw_assert((unsigned)table < TABLE_COUNT);
    if (!b || b->failed) {
        return NULL;
    }
    bool may_be_empty = kind == OP_DEL_PREFIX || kind == OP_DEL_BELOW;
    if (key.n > LIMIT_STORE_KEY_BYTES || (key.n == 0 && !may_be_empty)) {
        b->failed = GW_EARG;
        return NULL;
    }
    size_t at = b->bytes.len;
    buf_add(&b->bytes, key.p, key.n);
    if (!buf_ok(&b->bytes) || (b->count == b->cap && !grow(b))) {
        b->failed = GW_ENOMEM;
        return NULL;
    }
    struct store_op *op = &b->ops[b->count++];
    *op = (struct store_op){.kind = kind, .table = table, .key_at = at, .key_len = key.n};
    return op;
}

static void set_value(struct store_batch *b, struct store_op *op, struct span value)
{
    op->value_len = value.n;
    if (value.n > BATCH_OWNED_BYTES) {
        op->owned = malloc(value.n);
        if (!op->owned) {
            b->failed = GW_ENOMEM;
            return;
        }
        memcpy(op->owned, value.p, value.n);
        return;
    }
    op->value_at = b->bytes.len;
    buf_add(&b->bytes, value.p, value.n);
    if (!buf_ok(&b->bytes)) {
        b->failed = GW_ENOMEM;
    }
}

static void count_file(struct store_batch *b, size_t value_len)
{
    if (value_len > LIMIT_STORE_INLINE_BYTES) {
        b->file_bytes += value_len;
    }
}

void store_batch_put(struct store_batch *batch, store_table table, struct span key,
                     struct span value)
{
    struct store_op *op = add(batch, OP_PUT, table, key);
    if (op) {
        set_value(batch, op, value);
        count_file(batch, value.n);
    }
}

void store_batch_put_take(struct store_batch *batch, store_table table, struct span key,
                          struct buf *value)
{
    GW_AUTO(buf_free) struct buf taken = buf_take(value);
    struct store_op *op = add(batch, OP_PUT, table, key);
    if (!op) {
        return;
    }
    if (!buf_ok(&taken)) {
        batch->failed = GW_ENOMEM;
    } else if (taken.len > BATCH_OWNED_BYTES) {
        op->value_len = taken.len;
        op->owned = taken.data;
        taken = (struct buf){0};
        count_file(batch, op->value_len);
    } else {
        set_value(batch, op, buf_span(&taken));
    }
}

void store_batch_del(struct store_batch *batch, store_table table, struct span key)
{
    (void)add(batch, OP_DEL, table, key);
}

void store_batch_del_prefix(struct store_batch *batch, store_table table, struct span prefix)
{
    (void)add(batch, OP_DEL_PREFIX, table, prefix);
}

void store_batch_del_below(struct store_batch *batch, store_table table, struct span bound)
{
    (void)add(batch, OP_DEL_BELOW, table, bound);
}

void store_batch_copy_prefix(struct store_batch *batch, store_table table, struct span from,
                             struct span to)
{
    gw_assert(from.n == to.n);
    struct store_op *op = add(batch, OP_COPY_PREFIX, table, from);
    if (op) {
        set_value(batch, op, to);
    }
}

size_t store_batch_count(const struct store_batch *batch)
{
    return batch ? batch->count : 0;
}

/* --- chains --- */
struct store_chain {
    atomic_uint holders; /* both threads drop */
    gw_err err;          /* of the batch that broke it */
};

struct store_chain *store_chain_new(void)
{
    struct store_chain *chain = malloc(sizeof *chain);
    if (chain) {
        *chain = (struct store_chain){.err = GW_OK};
        atomic_init(&chain->holders, 1);
    }
    return chain;
}

void store_chain_drop(struct store_chain *chain)
{
    if (chain && atomic_fetch_sub(&chain->holders, 1) == 1) {
        free(chain);
    }
}

void store_batch_chain(struct store_batch *batch, struct store_chain *chain)
{
    if (batch && chain) {
        gw_assert(!batch->chain);
        atomic_fetch_add(&chain->holders, 1);
        batch->chain = chain;
    }
}

void store_batch_ended(const struct store_batch *batch, gw_err err)
{
    if (batch && batch->chain && batch->chain->err == GW_OK) {
        batch->chain->err = err;
    }
}

/* --- ranges --- */
int store_compare(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n > 0 ? memcmp(a.p, b.p, n) : 0;
    if (order != 0) {
        return order;
    }
    return a.n < b.n ? -1 : a.n > b.n;
}

struct span store_after_prefix(struct span prefix, struct store_bound *room)
{
    gw_assert(prefix.n <= LIMIT_STORE_KEY_BYTES);
    size_t n = prefix.n;
    while (n > 0 && prefix.p[n - 1] == 0xff) {
        n--;
    }
    if (n == 0) {
        /* No prefix is larger; one byte more than the longest key, all 0xff, is above every key. */
        memset(room->bytes, 0xff, sizeof room->bytes);
        room->len = sizeof room->bytes;
    } else {
        memcpy(room->bytes, prefix.p, n);
        room->bytes[n - 1]++;
        room->len = n;
    }
    return (struct span){room->bytes, room->len};
}

void store_range_bounds(const struct store_range *range, struct store_bound *room,
                        struct span *ret_lo, struct span *ret_hi)
{
    struct span lo = range->prefix, hi = store_after_prefix(range->prefix, room);
    if (range->backwards) {
        if (range->from.n > 0 && store_compare(range->from, hi) < 0) {
            hi = range->from;
        }
    } else if (store_compare(range->from, lo) > 0) {
        lo = range->from;
    }
    *ret_lo = lo;
    *ret_hi = hi;
}

/* --- dispatch --- */
void store_group_begin(struct store *s, size_t batches)
{
    s->engine->begin(s, batches);
}

gw_err store_group_apply(struct store *s, const struct store_batch *batch)
{
    if (!batch) {
        return GW_ENOMEM;
    }
    gw_err err = batch->failed ? batch->failed : batch->chain ? batch->chain->err : GW_OK;
    if (err == GW_OK) {
        failpoint_before(batch->point);
        err = s->engine->apply(s, batch);
    }
    store_batch_ended(batch, err);
    return err;
}

gw_err store_group_commit(struct store *s)
{
    return s->engine->commit(s);
}

void store_apply(struct store *store, struct store_batch *const *batches, size_t count,
                 gw_err *ret_errors)
{
    if (count == 0) {
        return;
    }
    store_group_begin(store, count);
    for (size_t i = 0; i < count; i++) {
        ret_errors[i] = store_group_apply(store, batches[i]);
    }
    gw_err err = store_group_commit(store);
    for (size_t i = 0; err && i < count; i++) {
        if (ret_errors[i] == GW_OK) {
            ret_errors[i] = err;
            store_batch_ended(batches[i], err);
        }
    }
}

gw_err store_get(struct store *store, store_table table, struct span key, struct buf *ret)
{
    gw_assert((unsigned)table < TABLE_COUNT);
    if (key.n == 0 || key.n > LIMIT_STORE_KEY_BYTES) {
        return GW_ENOT_FOUND; /* no batch can have put it */
    }
    return store->engine->get(store, table, key, ret);
}

gw_err store_scan(struct store *store, const struct store_range *range, store_visit visit,
                  void *arg)
{
    gw_assert((unsigned)range->table < TABLE_COUNT);
    if (range->prefix.n > LIMIT_STORE_KEY_BYTES) {
        return GW_OK;
    }
    return store->engine->scan(store, range, visit, arg);
}

bool store_wants_idle(const struct store *store)
{
    return store->engine->wants_idle(store);
}

void store_idle(struct store *store)
{
    store->engine->idle(store);
}

void store_close(struct store *store)
{
    if (store) {
        store->engine->close(store);
    }
}
