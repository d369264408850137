/* The engine without a disk: one treap (a search tree by key, a heap by random priority) per table.
 *
 * Priorities come from a generator with a fixed start, so that the simulator repeats itself.
 * Removed rows stay in a list until their batch is whole: undoing puts them back and takes the
 * added ones out, in reverse order. */
#include "persistence/engine.h"

#include <stdlib.h>
#include <string.h>

struct row {
    struct row *left, *right;
    uint32_t priority;
    uint32_t key_len;
    size_t value_len;
    uint8_t bytes[]; /* key, then value */
};

struct undo {
    store_table table;
    struct row *added;   /* in the tree, or NULL */
    struct row *removed; /* a row or a whole subtree, owned here, or NULL */
};

struct memory_store {
    struct store base;
    struct row *tables[TABLE_COUNT];
    uint32_t random;
    struct undo *undos;
    size_t undo_count, undo_cap;
};

static struct span row_key(const struct row *r)
{
    return (struct span){r->bytes, r->key_len};
}

static struct span row_value(const struct row *r)
{
    return (struct span){r->bytes + r->key_len, r->value_len};
}

/* --- the tree --- */
/* Rows below `key` to the left, the others to the right. */
static void split(struct row *t, struct span key, struct row **ret_left, struct row **ret_right)
{
    if (!t) {
        *ret_left = *ret_right = NULL;
    } else if (store_compare(row_key(t), key) < 0) {
        split(t->right, key, &t->right, ret_right);
        *ret_left = t;
    } else {
        split(t->left, key, ret_left, &t->left);
        *ret_right = t;
    }
}

/* All rows of `a` are below those of `b`. */
static struct row *merge(struct row *a, struct row *b)
{
    if (!a || !b) {
        return a ? a : b;
    }
    if (a->priority > b->priority) {
        a->right = merge(a->right, b);
        return a;
    }
    b->left = merge(a, b->left);
    return b;
}

/* Put a row or a subtree into a place of the tree where no row is. */
static void insert(struct row **root, struct row *rows)
{
    const struct row *first = rows;
    while (first->left) {
        first = first->left;
    }
    struct row *left, *right;
    split(*root, row_key(first), &left, &right);
    *root = merge(merge(left, rows), right);
}

/* Take the row with this key out; NULL when there is none. */
static struct row *detach(struct row **root, struct span key)
{
    while (*root) {
        struct row *t = *root;
        int order = store_compare(key, row_key(t));
        if (order == 0) {
            *root = merge(t->left, t->right);
            t->left = t->right = NULL;
            return t;
        }
        root = order < 0 ? &t->left : &t->right;
    }
    return NULL;
}

/* First row with a key >= `key` (> when `beyond`). */
static struct row *first_from(struct row *t, struct span key, bool beyond)
{
    struct row *found = NULL;
    while (t) {
        int order = store_compare(row_key(t), key);
        if (order > 0 || (order == 0 && !beyond)) {
            found = t;
            t = t->left;
        } else {
            t = t->right;
        }
    }
    return found;
}

/* Last row with a key < `key`. */
static struct row *last_below(struct row *t, struct span key)
{
    struct row *found = NULL;
    while (t) {
        if (store_compare(row_key(t), key) < 0) {
            found = t;
            t = t->right;
        } else {
            t = t->left;
        }
    }
    return found;
}

static void free_tree(struct row *t)
{
    if (t) {
        free_tree(t->left);
        free_tree(t->right);
        free(t);
    }
}

/* --- batches --- */
static struct row *new_row(struct memory_store *m, struct span key, struct span value)
{
    struct row *r = malloc(sizeof *r + key.n + value.n);
    if (!r) {
        return NULL;
    }
    m->random ^= m->random << 13;
    m->random ^= m->random >> 17;
    m->random ^= m->random << 5;
    r->left = r->right = NULL;
    r->priority = m->random;
    r->key_len = (uint32_t)key.n;
    r->value_len = value.n;
    memcpy(r->bytes, key.p, key.n);
    if (value.n > 0) {
        memcpy(r->bytes + key.n, value.p, value.n);
    }
    return r;
}

/* Room for one undo before anything changes, so that undoing itself cannot fail. */
static struct undo *next_undo(struct memory_store *m, store_table table)
{
    if (m->undo_count == m->undo_cap) {
        size_t cap = m->undo_cap ? m->undo_cap * 2 : 16;
        struct undo *undos = realloc(m->undos, cap * sizeof *undos);
        if (!undos) {
            return NULL;
        }
        m->undos = undos;
        m->undo_cap = cap;
    }
    struct undo *u = &m->undos[m->undo_count++];
    *u = (struct undo){.table = table};
    return u;
}

static gw_err put(struct memory_store *m, store_table table, struct span key, struct span value)
{
    struct undo *u = next_undo(m, table);
    struct row *r = u ? new_row(m, key, value) : NULL;
    if (!r) {
        return GW_ENOMEM;
    }
    u->removed = detach(&m->tables[table], key);
    u->added = r;
    insert(&m->tables[table], r);
    return GW_OK;
}

static gw_err del(struct memory_store *m, store_table table, struct span key)
{
    struct undo *u = next_undo(m, table);
    if (!u) {
        return GW_ENOMEM;
    }
    u->removed = detach(&m->tables[table], key);
    return GW_OK;
}

static gw_err del_range(struct memory_store *m, store_table table, struct span lo, struct span hi)
{
    if (store_compare(lo, hi) >= 0) {
        return GW_OK;
    }
    struct undo *u = next_undo(m, table);
    if (!u) {
        return GW_ENOMEM;
    }
    struct row *left, *middle, *right;
    split(m->tables[table], lo, &left, &right);
    split(right, hi, &middle, &right);
    m->tables[table] = merge(left, right);
    u->removed = middle;
    return GW_OK;
}

static gw_err copy_prefix(struct memory_store *m, store_table table, struct span from,
                          struct span to)
{
    struct store_bound room;
    struct span hi = store_after_prefix(from, &room);
    if (store_compare(from, to) == 0) {
        return GW_OK;
    }
    struct row *r = first_from(m->tables[table], from, false);
    while (r && store_compare(row_key(r), hi) < 0) {
        uint8_t key[LIMIT_STORE_KEY_BYTES];
        memcpy(key, r->bytes, r->key_len);
        memcpy(key, to.p, to.n);
        GW_TRY(put(m, table, (struct span){key, r->key_len}, row_value(r)));
        r = first_from(m->tables[table], row_key(r), true);
    }
    return GW_OK;
}

static gw_err apply_op(struct memory_store *m, const struct store_batch *b,
                       const struct store_op *op)
{
    struct span key = store_op_key(b, op), value = store_op_value(b, op);
    struct store_bound room;
    switch (op->kind) {
    case OP_PUT: return put(m, op->table, key, value);
    case OP_DEL: return del(m, op->table, key);
    case OP_DEL_PREFIX: return del_range(m, op->table, key, store_after_prefix(key, &room));
    case OP_DEL_BELOW: return del_range(m, op->table, (struct span){0}, key);
    case OP_COPY_PREFIX: return copy_prefix(m, op->table, key, value);
    }
    return GW_EFAIL;
}

static void undo_all(struct memory_store *m)
{
    while (m->undo_count > 0) {
        struct undo *u = &m->undos[--m->undo_count];
        if (u->added) {
            free(detach(&m->tables[u->table], row_key(u->added)));
        }
        if (u->removed) {
            insert(&m->tables[u->table], u->removed);
        }
    }
}

static void begin(struct store *s, size_t batches)
{
    (void)s;
    (void)batches;
}

static gw_err apply(struct store *s, const struct store_batch *batch)
{
    struct memory_store *m = (struct memory_store *)s;
    for (size_t i = 0; i < batch->count; i++) {
        gw_err err = apply_op(m, batch, &batch->ops[i]);
        if (err) {
            undo_all(m);
            return err;
        }
    }
    while (m->undo_count > 0) {
        free_tree(m->undos[--m->undo_count].removed);
    }
    return GW_OK;
}

static gw_err commit(struct store *s)
{
    (void)s;
    return GW_OK;
}

/* --- reading --- */
static gw_err get(struct store *s, store_table table, struct span key, struct buf *ret)
{
    struct memory_store *m = (struct memory_store *)s;
    const struct row *r = first_from(m->tables[table], key, false);
    if (!r || store_compare(row_key(r), key) != 0) {
        return GW_ENOT_FOUND;
    }
    buf_reset(ret);
    buf_add(ret, row_value(r).p, r->value_len);
    return buf_ok(ret) ? GW_OK : GW_ENOMEM;
}

static gw_err scan(struct store *s, const struct store_range *range, store_visit visit, void *arg)
{
    struct memory_store *m = (struct memory_store *)s;
    struct row *root = m->tables[range->table];
    struct store_bound room;
    struct span lo, hi;
    store_range_bounds(range, &room, &lo, &hi);
    struct row *r = range->backwards ? last_below(root, hi) : first_from(root, lo, false);
    for (size_t n = 0; r && (range->limit == 0 || n < range->limit); n++) {
        struct span key = row_key(r);
        if (range->backwards ? store_compare(key, lo) < 0 : store_compare(key, hi) >= 0) {
            break;
        }
        if (!visit(arg, key, row_value(r))) {
            break;
        }
        r = range->backwards ? last_below(root, key) : first_from(root, key, true);
    }
    return GW_OK;
}

/* --- life --- */
static bool wants_idle(const struct store *s)
{
    (void)s;
    return false;
}

static void idle(struct store *s)
{
    (void)s;
}

static void close_memory(struct store *s)
{
    struct memory_store *m = (struct memory_store *)s;
    for (int i = 0; i < TABLE_COUNT; i++) {
        free_tree(m->tables[i]);
    }
    free(m->undos);
    free(m);
}

static const struct store_engine engine = {
    .name = "memory",
    .begin = begin,
    .apply = apply,
    .commit = commit,
    .get = get,
    .scan = scan,
    .wants_idle = wants_idle,
    .idle = idle,
    .close = close_memory,
};

gw_err store_open_memory(struct store **ret)
{
    struct memory_store *m = calloc(1, sizeof *m);
    if (!m) {
        return GW_ENOMEM;
    }
    m->base.engine = &engine;
    m->random = 0x9e3779b9u;
    *ret = &m->base;
    return GW_OK;
}
