/* State and answers that live in the memory of the host only: of agents whose type asks for less
 * durability than a commit at each message.
 *
 *   every_message   nothing is here
 *   transitions     what has changed since the last transaction; any transaction takes all of it
 * along volatile        what has changed since its life on this host began; nothing of it is ever
 * written
 *
 * A handler of such a type that leaves nothing but a changed state and an answer has no
 * transaction: both are kept here when it ends. What it does to others (tells, timers, wishes) and
 * accepted messages that it consumes have one as ever. Rows from here lie over those of the store
 * wherever the state is read: to load it into a runner, to show it, to send it away. So a runner
 * that ends loses nothing; a host that ends does. The answers keep a repeat from being applied
 * twice as long as the state lives that it was applied to. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

struct unsaved_row {
    store_table
        table; /* TABLE_STATES: key = name of the part; TABLE_REQUESTS: key of the request */
    bool gone; /* the part is no more */
    size_t key_len;
    uint8_t key[LIMIT_NAME_BYTES];
    struct buf value;
};
struct unsaved {
    struct unsaved_row *rows; /* answers in their order */
    size_t count, cap, answers, answer_bytes;
};

bool unsaved_is(const struct agent *a)
{
    return a->type->durability != DURABLE_EVERY_MESSAGE;
}

void unsaved_forget(struct agent *a)
{
    struct unsaved *u = a->unsaved;
    for (size_t i = 0; u && i < u->count; i++) {
        buf_free(&u->rows[i].value);
    }
    if (u) {
        free(u->rows);
        free(u);
        a->unsaved = NULL;
    }
}

static struct unsaved_row *find(const struct agent *a, store_table table, struct span key)
{
    struct unsaved *u = a->unsaved;
    for (size_t i = 0; u && i < u->count; i++) {
        struct unsaved_row *r = &u->rows[i];
        if (r->table == table && r->key_len == key.n && memcmp(r->key, key.p, key.n) == 0) {
            return r;
        }
    }
    return NULL;
}

/* Its value is empty then. */
static struct unsaved_row *row_of(struct agent *a, store_table table, struct span key)
{
    struct unsaved_row *r = find(a, table, key);
    if (r) {
        buf_reset(&r->value);
        return r;
    }
    struct unsaved *u = a->unsaved ? a->unsaved : xcalloc(1, sizeof *u);
    a->unsaved = u;
    if (u->count == u->cap) {
        size_t cap = u->cap ? u->cap * 2 : 4;
        struct unsaved_row *grown = realloc(u->rows, cap * sizeof *grown);
        if (!grown) {
            log_die("memory", "out of memory for the state of an agent");
        }
        u->rows = grown;
        u->cap = cap;
    }
    r = &u->rows[u->count++];
    *r = (struct unsaved_row){.table = table, .key_len = key.n};
    memcpy(r->key, key.p, key.n);
    return r;
}

static void set(struct unsaved_row *r, struct span value, bool gone)
{
    r->gone = gone;
    buf_add(&r->value, value.p, value.n);
    if (!buf_ok(&r->value)) {
        log_die("memory", "out of memory for the state of an agent");
    }
}

/* ---- what a handler has left ---- */

/* The next of a map of parts; false at its end. `ret_value` empty: the part is gone. */
static bool next_part(struct mp *m, size_t *left, struct span *ret_name, struct span *ret_value,
                      bool *ret_gone)
{
    if (*left == 0 || mp_read_str(m, ret_name) != GW_OK || ret_name->n > LIMIT_NAME_BYTES) {
        return false;
    }
    --*left;
    *ret_value = (struct span){0};
    *ret_gone = mp_peek(m) == MP_NIL;
    return *ret_gone ? mp_read_nil(m) == GW_OK : mp_read_bin(m, ret_value) == GW_OK;
}

static void keep_parts(struct agent *a, struct span parts)
{
    struct mp m = mp_over(parts);
    struct span name, value;
    size_t left = 0;
    bool gone;
    if (parts.n == 0 || mp_read_map(&m, &left) != GW_OK) {
        return; /* nil: nothing has changed */
    }
    while (next_part(&m, &left, &name, &value, &gone)) {
        set(row_of(a, TABLE_STATES, name), value, gone);
    }
}

static void drop_row(struct unsaved *u, struct unsaved_row *r)
{
    u->answers--;
    u->answer_bytes -= r->value.len;
    buf_free(&r->value);
    memmove(r, r + 1, (size_t)(u->rows + u->count - (r + 1)) * sizeof *r);
    u->count--;
}

void unsaved_drop_answer(struct agent *a, const uint8_t key[REQUEST_KEY_BYTES])
{
    struct unsaved_row *r = find(a, TABLE_REQUESTS, (struct span){key, REQUEST_KEY_BYTES});
    if (r) {
        drop_row(a->unsaved, r);
    }
}

static void make_room(struct agent *a)
{
    struct unsaved *u = a->unsaved;
    while (u->answers > LIMIT_UNSAVED_ANSWERS || u->answer_bytes > LIMIT_REQUESTS_BYTES / 2) {
        struct unsaved_row *r = u->rows;
        while (r->table != TABLE_REQUESTS) {
            r++;
        }
        struct seen_request *seen = request_find(a->live, r->key);
        if (seen) {
            request_forget(a->live, seen);
        }
        drop_row(u, r);
    }
}

static void keep_answer(struct work *w)
{
    struct agent *a = w->agent;
    struct span key = {w->key, REQUEST_KEY_BYTES};
    int64_t now_ms = node_now_ms(w->node);
    struct buf row = {0};
    request_pack(w, now_ms, &row);
    struct unsaved_row *r = row_of(a, TABLE_REQUESTS, key);
    set(r, buf_span(&row), false);
    a->unsaved->answers++;
    a->unsaved->answer_bytes += row.len;
    buf_free(&row);
    request_remember(w, now_ms);
    make_room(a);
}

void unsaved_keep(struct work *w, bool answer)
{
    keep_parts(w->agent, w->result.parts);
    if (answer && w->has_key && !(w->result.flags & DONE_READ)) {
        keep_answer(w);
    }
}

bool unsaved_answer(const struct agent *a, const uint8_t key[REQUEST_KEY_BYTES], struct span *ret)
{
    const struct unsaved_row *r = find(a, TABLE_REQUESTS, (struct span){key, REQUEST_KEY_BYTES});
    if (r) {
        *ret = buf_span(&r->value);
    }
    return r != NULL;
}

/* ---- into the store ---- */

static bool is_in(struct span parts, const struct unsaved_row *r)
{
    struct mp m = mp_over(parts);
    struct span name, value;
    size_t left = 0;
    bool gone;
    if (parts.n == 0 || mp_read_map(&m, &left) != GW_OK) {
        return false;
    }
    while (next_part(&m, &left, &name, &value, &gone)) {
        if (name.n == r->key_len && memcmp(name.p, r->key, name.n) == 0) {
            return true;
        }
    }
    return false;
}

void unsaved_put(const struct agent *a, struct store_batch *batch, struct span but_parts)
{
    const struct unsaved *u = a->unsaved;
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    row_key(raw, &a->id, a->epoch);
    for (size_t i = 0; u && i < u->count; i++) {
        const struct unsaved_row *r = &u->rows[i];
        struct span key = {raw, ROW_KEY_BYTES + r->key_len};
        memcpy(raw + ROW_KEY_BYTES, r->key, r->key_len);
        if (r->table == TABLE_STATES && is_in(but_parts, r)) {
            continue; /* the newer one is written */
        }
        if (r->gone) {
            store_batch_del(batch, r->table, key);
        } else {
            store_batch_put(batch, r->table, key, buf_span(&r->value));
        }
    }
}

void unsaved_save_all(struct node *n)
{
    for (struct agent *a = n->agents; a; a = a->hh.next) {
        if (a->unsaved && a->type->durability != DURABLE_VOLATILE) {
            struct store_batch *batch = store_batch_new();
            unsaved_put(a, batch, (struct span){0});
            unsaved_forget(a);
            node_commit(n, batch, POINT_STOP_SAVED, NULL, NULL);
        }
    }
}

/* ---- over the rows of the store ---- */

static bool is_over(const struct agent *a, const struct storage_row *row)
{
    struct span key = {row->key.p + ROW_KEY_BYTES, row->key.n - ROW_KEY_BYTES};
    return (row->table == TABLE_STATES || row->table == TABLE_REQUESTS) &&
           find(a, row->table, key) != NULL;
}

struct storage_row *unsaved_over(const struct agent *a, const struct storage_row *rows, size_t n,
                                 size_t *ret_n)
{
    const struct unsaved *u = a->unsaved;
    size_t extra = u ? u->count : 0, count = 0, key_bytes = ROW_KEY_BYTES + LIMIT_NAME_BYTES;
    struct storage_row *all = xcalloc(1, (n + extra + 1) * sizeof *all + extra * key_bytes);
    uint8_t *keys = (uint8_t *)(all + n + extra + 1);
    for (size_t i = 0; i < n; i++) {
        if (!is_over(a, &rows[i])) {
            all[count++] = rows[i];
        }
    }
    for (size_t i = 0; i < extra; i++) {
        const struct unsaved_row *r = &u->rows[i];
        uint8_t *key = keys + i * key_bytes;
        if (!r->gone) {
            row_key(key, &a->id, a->epoch);
            memcpy(key + ROW_KEY_BYTES, r->key, r->key_len);
            all[count++] = (struct storage_row){
                r->table, {key, ROW_KEY_BYTES + r->key_len}, buf_span(&r->value)};
        }
    }
    *ret_n = count;
    return all;
}

void parts_of_rows(const struct storage_row *rows, size_t n, struct buf *out)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += rows[i].table == TABLE_STATES;
    }
    mp_map(out, count);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].table == TABLE_STATES) {
            struct span key = rows[i].key;
            mp_strn(out, (const char *)key.p + ROW_KEY_BYTES, key.n - ROW_KEY_BYTES);
            mp_span(out, rows[i].value);
        }
    }
}
