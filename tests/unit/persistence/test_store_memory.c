/* The memory engine when each of its allocations fails once: a batch is applied whole or not at
 * all. The source is included, so that its allocations are this file's. */
#include "persistence/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/persistence/scratch.h"

static int fail_after; /* the n-th allocation from now fails; 0 = none */

static bool fails_now(void)
{
    return fail_after > 0 && --fail_after == 0;
}

static void *failing_malloc(size_t n)
{
    return fails_now() ? NULL : malloc(n);
}

static void *failing_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : calloc(n, size);
}

static void *failing_realloc(void *p, size_t n)
{
    return fails_now() ? NULL : realloc(p, n);
}

gw_err open_failing(struct store **ret);
#define malloc            failing_malloc
#define calloc            failing_calloc
#define realloc           failing_realloc
#define store_open_memory open_failing
#include "persistence/store_memory.c"
#undef malloc
#undef calloc
#undef realloc
#undef store_open_memory

static struct span text(const char *s)
{
    return (struct span){(const uint8_t *)s, strlen(s)};
}

static bool list_rows(void *arg, struct span key, struct span value)
{
    struct buf *out = arg;
    buf_add(out, key.p, key.n);
    buf_add(out, "=", 1);
    buf_add(out, value.p, value.n);
    buf_add(out, " ", 1);
    return true;
}

static void assert_rows(struct store *store, const char *want)
{
    struct buf out = {0};
    struct store_range all = {.table = TABLE_STATES};
    assert_int_equal(store_scan(store, &all, list_rows, &out), GW_OK);
    buf_add(&out, "", 1);
    assert_string_equal((const char *)out.data, want);
    buf_free(&out);
}

static void no_memory_undoes_the_batch(void **state)
{
    (void)state;
    struct store_batch *start = store_batch_new(), *b = store_batch_new();
    gw_err err;
    char key[16];
    store_batch_del_prefix(start, TABLE_STATES, (struct span){0});
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "a%d", i);
        store_batch_put(start, TABLE_STATES, text(key), text("1"));
    }
    for (int i = 0; i < 20;
         i++) { /* each kind, over and over the same rows; more than one undo list */
        store_batch_put(b, TABLE_STATES, text("a1"), text("2"));
        store_batch_put(b, TABLE_STATES, text("b1"), text("2"));
        store_batch_del(b, TABLE_STATES, text("a2"));
        store_batch_copy_prefix(b, TABLE_STATES, text("a"), text("c"));
        store_batch_del_prefix(b, TABLE_STATES, text("b"));
        store_batch_del_below(b, TABLE_STATES, text("a1"));
    }
    bool hit = true;
    int faults = 0;
    for (int n = 1; hit; n++) {
        struct store *store = NULL;
        assert_int_equal(open_failing(&store), GW_OK);
        store_apply(store, &start, 1, &err);
        assert_int_equal(err, GW_OK);
        fail_after = n;
        store_apply(store, &b, 1, &err);
        hit = fail_after == 0;
        fail_after = 0;
        assert_int_equal(err, hit ? GW_ENOMEM : GW_OK);
        if (hit) {
            faults++;
            assert_rows(store, "a0=1 a1=1 a2=1 a3=1 a4=1 ");
        }
        store_apply(store, &b, 1, &err);
        assert_int_equal(err, GW_OK);
        assert_rows(store, "a1=2 a3=1 a4=1 c0=1 c1=2 c3=1 c4=1 ");
        store_close(store);
    }
    assert_true(faults > 100);
    struct store *none = NULL;
    fail_after = 1;
    assert_int_equal(open_failing(&none), GW_ENOMEM);
    store_batch_free(start);
    store_batch_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_memory_undoes_the_batch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
