/* The contract of store.h: the same tests over both engines. Files, damage and crashes are in
 * test_store_disk.c. */
#include "persistence/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"
#include "tests/unit/persistence/scratch.h"

struct world {
    struct scratch dir;
    struct store *store;
    bool on_disk;
};

static int open_world(void **state, bool on_disk)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->on_disk = on_disk;
    scratch_make(&w->dir);
    struct gw_error why = {0};
    gw_err err =
        on_disk ? store_open_sqlite(w->dir.path, &w->store, &why) : store_open_memory(&w->store);
    if (err) {
        fail_msg("%s", why.text);
    }
    *state = w;
    return 0;
}

static int on_memory(void **state)
{
    return open_world(state, false);
}

static int on_sqlite(void **state)
{
    return open_world(state, true);
}

static int close_world(void **state)
{
    struct world *w = *state;
    store_close(w->store);
    scratch_remove(&w->dir);
    free(w);
    return 0;
}

/* --- helpers --- */
static struct span text(const char *s)
{
    return (struct span){(const uint8_t *)s, strlen(s)};
}

static gw_err apply(struct store *store, struct store_batch *batch)
{
    gw_err err = GW_EFAIL;
    store_apply(store, &batch, 1, &err);
    store_batch_free(batch);
    return err;
}

static void put(struct store *store, store_table table, const char *key, const char *value)
{
    struct store_batch *b = store_batch_new();
    store_batch_put(b, table, text(key), text(value));
    assert_int_equal(apply(store, b), GW_OK);
}

static void assert_value(struct store *store, store_table table, struct span key, struct span want)
{
    struct buf got = {0};
    assert_int_equal(store_get(store, table, key, &got), GW_OK);
    assert_int_equal(got.len, want.n);
    if (want.n > 0) {
        assert_memory_equal(got.data, want.p, want.n);
    }
    buf_free(&got);
}

static void assert_absent(struct store *store, store_table table, struct span key)
{
    struct buf got = {0};
    assert_int_equal(store_get(store, table, key, &got), GW_ENOT_FOUND);
    buf_free(&got);
}

static bool list_keys(void *arg, struct span key, struct span value)
{
    struct buf *out = arg;
    (void)value;
    if (out->len > 0) {
        buf_add(out, " ", 1);
    }
    buf_add(out, key.p, key.n);
    return true;
}

static void assert_keys(struct store *store, struct store_range range, const char *want)
{
    struct buf out = {0};
    assert_int_equal(store_scan(store, &range, list_keys, &out), GW_OK);
    buf_add(&out, "", 1);
    assert_string_equal((const char *)out.data, want);
    buf_free(&out);
}

static struct buf filled(size_t n, uint8_t seed)
{
    struct buf b = {0};
    assert_true(buf_reserve(&b, n + 1));
    for (size_t i = 0; i < n; i++) {
        b.data[i] = (uint8_t)(seed + i * 7 + (i >> 8));
    }
    b.len = n;
    return b;
}

static void assert_files(const struct world *w, size_t want)
{
    if (w->on_disk) {
        assert_int_equal(scratch_count(&w->dir, "blobs"), want);
    }
}

/* --- tests --- */
static void put_get_replace_delete(void **state)
{
    struct world *w = *state;
    assert_absent(w->store, TABLE_META, text("a"));
    put(w->store, TABLE_META, "a", "1");
    put(w->store, TABLE_META, "b", "2");
    put(w->store, TABLE_META, "a", "one");
    assert_value(w->store, TABLE_META, text("a"), text("one"));
    assert_absent(w->store, TABLE_AGENTS, text("a")); /* tables are apart */
    struct store_batch *b = store_batch_new();
    store_batch_del(b, TABLE_META, text("a"));
    store_batch_del(b, TABLE_META, text("never there"));
    assert_int_equal(store_batch_count(b), 2);
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_absent(w->store, TABLE_META, text("a"));
    assert_value(w->store, TABLE_META, text("b"), text("2"));
}

static void every_table(void **state)
{
    struct world *w = *state;
    struct store_batch *b = store_batch_new();
    for (int t = 0; t < TABLE_COUNT; t++) {
        uint8_t v = (uint8_t)t;
        store_batch_put(b, (store_table)t, text("key"), (struct span){&v, 1});
    }
    assert_int_equal(apply(w->store, b), GW_OK);
    for (int t = 0; t < TABLE_COUNT; t++) {
        uint8_t v = (uint8_t)t;
        assert_value(w->store, (store_table)t, text("key"), (struct span){&v, 1});
        assert_keys(w->store, (struct store_range){.table = (store_table)t}, "key");
    }
}

static void operations_apply_in_order(void **state)
{
    struct world *w = *state;
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_META, text("x1"), text("first"));
    store_batch_put(b, TABLE_META, text("x1"), text("second"));
    store_batch_put(b, TABLE_META, text("x2"), text("gone"));
    store_batch_del(b, TABLE_META, text("x2"));
    store_batch_put(b, TABLE_META, text("y1"), text("gone"));
    store_batch_del_prefix(b, TABLE_META, text("y"));
    store_batch_put(b, TABLE_META, text("y2"), text("kept"));
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_keys(w->store, (struct store_range){.table = TABLE_META}, "x1 y2");
    assert_value(w->store, TABLE_META, text("x1"), text("second"));
}

static void values_empty_and_binary(void **state)
{
    struct world *w = *state;
    const uint8_t zero[3] = {0, 0, 0};
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_META, (struct span){zero, 1}, (struct span){0});
    store_batch_put(b, TABLE_META, (struct span){zero, 2}, (struct span){zero, 3});
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_value(w->store, TABLE_META, (struct span){zero, 1}, (struct span){0});
    assert_value(w->store, TABLE_META, (struct span){zero, 2}, (struct span){zero, 3});
}

static void key_at_its_limit(void **state)
{
    struct world *w = *state;
    uint8_t key[LIMIT_STORE_KEY_BYTES + 1];
    memset(key, 0xff, sizeof key);
    struct span longest = {key, LIMIT_STORE_KEY_BYTES};
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_META, longest, text("v"));
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_value(w->store, TABLE_META, longest, text("v"));
    b = store_batch_new();
    store_batch_copy_prefix(b, TABLE_META, (struct span){key, 2}, text("ab"));
    store_batch_del_prefix(b, TABLE_META, longest);
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_absent(w->store, TABLE_META, longest);
    memcpy(key, "ab", 2);
    assert_value(w->store, TABLE_META, longest, text("v"));
}

static void key_beyond_its_limit_is_refused(void **state)
{
    struct world *w = *state;
    uint8_t key[LIMIT_STORE_KEY_BYTES + 1] = {1};
    const struct span bad[] = {{key, sizeof key}, {key, 0}};
    for (int i = 0; i < 2; i++) {
        struct store_batch *b = store_batch_new();
        store_batch_put(b, TABLE_META, text("before"), text("v"));
        store_batch_put(b, TABLE_META, bad[i], text("v"));
        store_batch_put(b, TABLE_META, text("after"), text("v"));
        assert_int_equal(apply(w->store, b), GW_EARG);
        assert_absent(w->store, TABLE_META, bad[i]);
        assert_keys(w->store, (struct store_range){.table = TABLE_META}, "");
    }
    /* As a prefix or a start of a scan any length is only a place in the order. */
    put(w->store, TABLE_META, "k", "v");
    struct span above = {key, sizeof key};
    assert_keys(w->store, (struct store_range){.table = TABLE_META, .from = above}, "k");
    assert_keys(w->store, (struct store_range){.table = TABLE_META, .prefix = above}, "");
}

static void no_batch_is_no_memory(void **state)
{
    struct world *w = *state;
    store_batch_put(NULL, TABLE_META, text("k"), text("v"));
    store_batch_del(NULL, TABLE_META, text("k"));
    assert_int_equal(apply(w->store, NULL), GW_ENOMEM);
    struct buf broken = {.failed = true};
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_META, text("a"), text("v"));
    store_batch_put_take(b, TABLE_META, text("k"), &broken);
    assert_int_equal(apply(w->store, b), GW_ENOMEM);
    assert_absent(w->store, TABLE_META, text("a"));
    store_apply(w->store, NULL, 0, NULL);
    assert_int_equal(apply(w->store, store_batch_new()), GW_OK); /* empty */
}

static void large_values(void **state)
{
    struct world *w = *state;
    const size_t sizes[] = {LIMIT_STORE_INLINE_BYTES, LIMIT_STORE_INLINE_BYTES + 1, 3000000};
    for (size_t i = 0; i < 3; i++) {
        struct buf value = filled(sizes[i], (uint8_t)i);
        struct store_batch *b = store_batch_new();
        store_batch_put(b, TABLE_STATES, text("big"), buf_span(&value));
        assert_int_equal(apply(w->store, b), GW_OK);
        assert_value(w->store, TABLE_STATES, text("big"), buf_span(&value));
        assert_files(w, i > 0);
        buf_free(&value);
    }
    put(w->store, TABLE_STATES, "other", "small"); /* a batch that does not touch it */
    assert_files(w, 1);
    put(w->store, TABLE_STATES, "big", "small now");
    assert_files(w, 0);
    assert_value(w->store, TABLE_STATES, text("big"), text("small now"));
}

static void take_leaves_the_buffer_empty(void **state)
{
    struct world *w = *state;
    const size_t sizes[] = {0, 1, 4096, 4097, LIMIT_STORE_INLINE_BYTES + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct buf value = filled(sizes[i], 9), same = filled(sizes[i], 9);
        struct store_batch *b = store_batch_new();
        store_batch_put_take(b, TABLE_STATES, text("k"), &value);
        assert_null(value.data);
        assert_int_equal(value.len, 0);
        assert_int_equal(apply(w->store, b), GW_OK);
        assert_value(w->store, TABLE_STATES, text("k"), buf_span(&same));
        buf_free(&same);
    }
}

static void large_values_go_with_their_rows(void **state)
{
    struct world *w = *state;
    struct buf value = filled(LIMIT_STORE_INLINE_BYTES + 1, 1);
    struct store_batch *b = store_batch_new();
    const char *const keys[] = {"a1", "a2", "b1", "b2", "c1"};
    for (int i = 0; i < 5; i++) {
        store_batch_put(b, TABLE_STATES, text(keys[i]), buf_span(&value));
        store_batch_put(b, TABLE_EVENTS, text(keys[i]), text("small"));
    }
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_files(w, 5);
    b = store_batch_new();
    store_batch_del_prefix(b, TABLE_STATES, text("b"));
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_files(w, 3);
    b = store_batch_new();
    store_batch_del_below(b, TABLE_STATES, text("a2"));
    store_batch_del(b, TABLE_STATES, text("c1"));
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_files(w, 1);
    assert_keys(w->store, (struct store_range){.table = TABLE_STATES}, "a2");
    assert_keys(w->store, (struct store_range){.table = TABLE_EVENTS}, "a1 a2 b1 b2 c1");
    b = store_batch_new();
    store_batch_put(b, TABLE_STATES, text("made"), buf_span(&value)); /* and gone in one batch */
    store_batch_del_prefix(b, TABLE_STATES, (struct span){0});
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_files(w, 0);
    assert_keys(w->store, (struct store_range){.table = TABLE_STATES}, "");
    buf_free(&value);
}

static void prefixes(void **state)
{
    struct world *w = *state;
    const uint8_t keys[][3] = {{0, 0, 1}, {1, 255, 0}, {1, 255, 255}, {2, 0, 0}, {255, 255, 255}};
    struct store_batch *b = store_batch_new();
    for (int i = 0; i < 5; i++) {
        store_batch_put(b, TABLE_TIMERS, (struct span){keys[i], 3}, text("v"));
    }
    store_batch_put(b, TABLE_TIMERS, (struct span){keys[4], 2}, text("v"));
    store_batch_del_prefix(b, TABLE_TIMERS, (struct span){keys[1], 2}); /* 1 255 */
    store_batch_del_prefix(b, TABLE_TIMERS, (struct span){keys[4], 1}); /* 255: has no successor */
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_value(w->store, TABLE_TIMERS, (struct span){keys[0], 3}, text("v"));
    assert_absent(w->store, TABLE_TIMERS, (struct span){keys[1], 3});
    assert_absent(w->store, TABLE_TIMERS, (struct span){keys[2], 3});
    assert_value(w->store, TABLE_TIMERS, (struct span){keys[3], 3}, text("v"));
    assert_absent(w->store, TABLE_TIMERS, (struct span){keys[4], 3});
    assert_absent(w->store, TABLE_TIMERS, (struct span){keys[4], 2});
}

static void del_below_is_exclusive(void **state)
{
    struct world *w = *state;
    put(w->store, TABLE_EVENTS, "a", "v");
    put(w->store, TABLE_EVENTS, "b", "v");
    put(w->store, TABLE_EVENTS, "c", "v");
    struct store_batch *b = store_batch_new();
    store_batch_del_below(b, TABLE_EVENTS, (struct span){0});
    store_batch_del_below(b, TABLE_EVENTS, text("b"));
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_keys(w->store, (struct store_range){.table = TABLE_EVENTS}, "b c");
}

static void copy_prefix(void **state)
{
    struct world *w = *state;
    struct buf big = filled(LIMIT_STORE_INLINE_BYTES + 5, 3), old = filled(400000, 4);
    struct store_batch *b = store_batch_new();
    store_batch_put(b, TABLE_STATES, text("e1"), text("exact"));
    store_batch_put(b, TABLE_STATES, text("e1/empty"), (struct span){0});
    store_batch_put(b, TABLE_STATES, text("e1/big"), buf_span(&big));
    store_batch_put(b, TABLE_STATES, text("e1/small"), text("s"));
    store_batch_put(b, TABLE_STATES, text("e2/small"), buf_span(&old)); /* replaced */
    store_batch_put(b, TABLE_STATES, text("e2/other"), text("kept"));
    store_batch_copy_prefix(b, TABLE_STATES, text("e1"), text("e2"));
    store_batch_copy_prefix(b, TABLE_STATES, text("e1"), text("e1"));
    store_batch_copy_prefix(b, TABLE_STATES, text("nothing"), text("NOTHING"));
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_keys(w->store, (struct store_range){.table = TABLE_STATES},
                "e1 e1/big e1/empty e1/small e2 e2/big e2/empty e2/other e2/small");
    assert_value(w->store, TABLE_STATES, text("e2/big"), buf_span(&big));
    assert_value(w->store, TABLE_STATES, text("e2/empty"), (struct span){0});
    assert_value(w->store, TABLE_STATES, text("e2/small"), text("s"));
    assert_files(w, 2);
    b = store_batch_new();
    store_batch_del_prefix(b, TABLE_STATES, text("e1"));
    assert_int_equal(apply(w->store, b), GW_OK);
    assert_value(w->store, TABLE_STATES, text("e2/big"), buf_span(&big)); /* has its own link */
    assert_files(w, 1);
    buf_free(&big);
    buf_free(&old);
}

static bool stop_at_two(void *arg, struct span key, struct span value)
{
    (void)key;
    (void)value;
    return ++*(int *)arg < 2;
}

static void scans(void **state)
{
    struct world *w = *state;
    const char *const keys[] = {"b2", "a", "c", "b1", "b", "b3"};
    for (int i = 0; i < 6; i++) {
        put(w->store, TABLE_INBOX, keys[i], "v");
    }
    put(w->store, TABLE_OUTBOX, "z", "v");
    const store_table t = TABLE_INBOX;
    struct span b = text("b"), b2 = text("b2"), c = text("c"), a = text("a");
#define R(...) ((struct store_range){.table = t, __VA_ARGS__})
    assert_keys(w->store, R(.limit = 0), "a b b1 b2 b3 c");
    assert_keys(w->store, R(.limit = 2), "a b");
    assert_keys(w->store, R(.backwards = true), "c b3 b2 b1 b a");
    assert_keys(w->store, R(.backwards = true, .limit = 1), "c");
    assert_keys(w->store, R(.prefix = b), "b b1 b2 b3");
    assert_keys(w->store, R(.prefix = b, .from = b2), "b2 b3");
    assert_keys(w->store, R(.prefix = b, .from = a), "b b1 b2 b3");
    assert_keys(w->store, R(.prefix = b, .from = c), "");
    assert_keys(w->store, R(.from = b2), "b2 b3 c");
    assert_keys(w->store, R(.prefix = b, .backwards = true), "b3 b2 b1 b");
    assert_keys(w->store, R(.prefix = b, .from = b2, .backwards = true), "b1 b"); /* exclusive */
    assert_keys(w->store, R(.prefix = b, .from = c, .backwards = true, .limit = 2), "b3 b2");
    assert_keys(w->store, R(.prefix = b, .from = a, .backwards = true), "");
    assert_keys(w->store, R(.from = b2, .backwards = true), "b1 b a");
#undef R
    int seen = 0;
    struct store_range all = {.table = t};
    assert_int_equal(store_scan(w->store, &all, stop_at_two, &seen), GW_OK);
    assert_int_equal(seen, 2);
}

static void neighbours_of_a_bad_batch_stand(void **state)
{
    struct world *w = *state;
    struct store_batch *group[3];
    gw_err errors[3];
    const char *const keys[] = {"one", "two", "three"};
    for (int i = 0; i < 3; i++) {
        group[i] = store_batch_new();
        store_batch_put(group[i], TABLE_META, text(keys[i]), text("v"));
    }
    store_batch_put(group[1], TABLE_META, (struct span){0}, text("bad"));
    store_apply(w->store, group, 3, errors);
    assert_int_equal(errors[0], GW_OK);
    assert_int_equal(errors[1], GW_EARG);
    assert_int_equal(errors[2], GW_OK);
    for (int i = 0; i < 3; i++) {
        store_batch_free(group[i]);
    }
    assert_keys(w->store, (struct store_range){.table = TABLE_META}, "one three");
}

static void batch_of_many_operations(void **state)
{
    struct world *w = *state;
    struct store_batch *b = store_batch_new();
    for (uint32_t i = 0; i < 5000; i++) {
        uint8_t key[4];
        store_u32(key, i * 2654435761u);
        store_batch_put(b, TABLE_INBOX, (struct span){key, 4}, (struct span){key, 4});
    }
    assert_int_equal(store_batch_count(b), 5000);
    assert_int_equal(apply(w->store, b), GW_OK);
    for (uint32_t i = 0; i < 5000; i++) {
        uint8_t key[4];
        store_u32(key, i * 2654435761u);
        assert_value(w->store, TABLE_INBOX, (struct span){key, 4}, (struct span){key, 4});
    }
    store_idle(w->store);
    assert_false(store_wants_idle(w->store));
}

/* --- both engines side by side: what one answers, the other answers --- */
static uint32_t seed;
static uint32_t pick(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

static struct span some_key(uint8_t room[4], uint32_t min)
{
    static const uint8_t alphabet[] = {0, 1, 'a', 254, 255};
    uint32_t n = min + pick(4 - min + 1);
    for (uint32_t i = 0; i < n; i++) {
        room[i] = alphabet[pick(sizeof alphabet)];
    }
    return (struct span){room, n};
}

static void some_operation(struct store_batch *x, struct store_batch *y)
{
    uint8_t a[4], b[4];
    store_table t = (store_table)pick(2);
    struct span key = some_key(a, 1);
    switch (pick(14)) {
    case 0:
        store_batch_del(x, t, key);
        store_batch_del(y, t, key);
        break;
    case 1:
        key.n = 1 + pick(2);
        store_batch_del_prefix(x, t, key);
        store_batch_del_prefix(y, t, key);
        break;
    case 2:
        key.p = (const uint8_t[]){pick(2)};
        key.n = 1;
        store_batch_del_below(x, t, key);
        store_batch_del_below(y, t, key);
        break;
    case 3: {
        struct span to = some_key(b, 4);
        key.n = to.n = 1 + pick((uint32_t)key.n);
        store_batch_copy_prefix(x, t, key, to);
        store_batch_copy_prefix(y, t, key, to);
        break;
    }
    default: {
        size_t size = pick(40) == 0 ? LIMIT_STORE_INLINE_BYTES + 1 : pick(300);
        struct buf value = filled(size, (uint8_t)pick(256));
        store_batch_put(x, t, key, buf_span(&value));
        store_batch_put_take(y, t, key, &value);
    }
    }
}

static bool dump(void *arg, struct span key, struct span value)
{
    struct buf *out = arg;
    buf_add_u32(out, (uint32_t)key.n);
    buf_add(out, key.p, key.n);
    buf_add_u32(out, (uint32_t)value.n);
    buf_add(out, value.p, value.n);
    return true;
}

static size_t compare(struct store *x, struct store *y, const struct store_range *range)
{
    struct buf a = {0}, b = {0};
    assert_int_equal(store_scan(x, range, dump, &a), GW_OK);
    assert_int_equal(store_scan(y, range, dump, &b), GW_OK);
    assert_int_equal(a.len, b.len);
    if (a.len > 0) {
        assert_memory_equal(a.data, b.data, a.len);
    }
    size_t len = a.len;
    buf_free(&a);
    buf_free(&b);
    return len;
}

static void one_group(struct store *x, struct store *y)
{
    struct store_batch *for_x[4], *for_y[4];
    gw_err errors[4];
    size_t n = 1 + pick(4);
    for (size_t i = 0; i < n; i++) {
        for_x[i] = store_batch_new();
        for_y[i] = store_batch_new();
        for (uint32_t ops = pick(6); ops > 0; ops--) {
            some_operation(for_x[i], for_y[i]);
        }
        if (pick(10) == 0) { /* not a key: the batch fails */
            store_batch_del(for_x[i], 0, (struct span){0});
            store_batch_del(for_y[i], 0, (struct span){0});
        }
    }
    store_apply(x, for_x, n, errors);
    store_apply(y, for_y, n, errors);
    for (size_t i = 0; i < n; i++) {
        store_batch_free(for_x[i]);
        store_batch_free(for_y[i]);
    }
}

static void engines_agree(void **state)
{
    struct world *w = *state;
    struct store *other;
    assert_int_equal(store_open_memory(&other), GW_OK);
    size_t seen = 0;
    for (uint32_t run = 1; run <= 4; run++) {
        seed = run;
        for (int round = 0; round < 300; round++) {
            one_group(w->store, other);
            uint8_t prefix[4], from[4];
            struct store_range range = {.table = (store_table)pick(2),
                                        .prefix = some_key(prefix, 0),
                                        .from = some_key(from, 0),
                                        .backwards = pick(2) == 0,
                                        .limit = pick(6)};
            range.prefix.n = range.prefix.n > 1 ? pick(2) : range.prefix.n;
            seen += compare(w->store, other, &range);
        }
        seen += compare(w->store, other, &(struct store_range){.table = 0});
        seen += compare(w->store, other, &(struct store_range){.table = 1});
    }
    assert_true(seen > 10000); /* bytes: the comparison was about something */
    store_close(other);
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, on_memory, close_world),                                 \
        cmocka_unit_test_setup_teardown(test, on_sqlite, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(put_get_replace_delete),
        BOTH(every_table),
        BOTH(operations_apply_in_order),
        BOTH(values_empty_and_binary),
        BOTH(key_at_its_limit),
        BOTH(key_beyond_its_limit_is_refused),
        BOTH(no_batch_is_no_memory),
        BOTH(large_values),
        BOTH(take_leaves_the_buffer_empty),
        BOTH(large_values_go_with_their_rows),
        BOTH(prefixes),
        BOTH(del_below_is_exclusive),
        BOTH(copy_prefix),
        BOTH(scans),
        BOTH(neighbours_of_a_bad_batch_stand),
        BOTH(batch_of_many_operations),
        BOTH(engines_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
