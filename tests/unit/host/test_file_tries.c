/* What is remembered of interrupted copies of folders. */
#include "host/file_tries.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol/limits.h"

static char top[64], dir[128];

static int setup(void **state)
{
    snprintf(top, sizeof top, "/tmp/gwtriesXXXXXX");
    assert_non_null(mkdtemp(top));
    snprintf(dir, sizeof dir, "%s/copies", top);
    *state = tries_open(dir);
    return 0;
}

static int teardown(void **state)
{
    tries_sweep(*state, -10); /* all of them */
    tries_close(*state);
    (void)rmdir(dir);
    return rmdir(top);
}

static void test_keys(void **state)
{
    (void)state;
    struct host_id a = {{1}}, b = {{2}};
    char x[] = "x", y[] = "y", xy[] = "xy", none[] = "";
    char *one[] = {x, y}, *other[] = {xy, none};
    const gw_strs first = {one, 2, 2}, second = {other, 2, 2};
    char keys[4][TRY_KEY_TEXT];
    tries_key(&a, &first, "d", keys[0]);
    tries_key(&b, &first, "d", keys[1]);
    tries_key(&a, &second, "d", keys[2]);
    tries_key(&a, &first, "e", keys[3]);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(strlen(keys[i]), 64);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(keys[i], keys[k]);
        }
    }
    tries_key(&a, &first, "d", keys[1]);
    assert_string_equal(keys[0], keys[1]);
}

static void test_kept_and_forgotten(void **state)
{
    struct tries *t = *state;
    assert_int_equal(tries_find(t, "k1"), SINK_GUESS);
    tries_forget(t, "k1"); /* nothing */
    tries_keep(t, "k1", SINK_AS);
    tries_keep(t, "k2", SINK_INTO);
    assert_int_equal(tries_find(t, "k1"), SINK_AS);
    assert_int_equal(tries_find(t, "k2"), SINK_INTO);
    tries_keep(t, "k1", SINK_INTO); /* the first word counts */
    assert_int_equal(tries_find(t, "k1"), SINK_AS);
    struct tries *again = tries_open(dir); /* after a restart */
    assert_int_equal(tries_find(again, "k2"), SINK_INTO);
    tries_close(again);
    tries_forget(t, "k1");
    assert_int_equal(tries_find(t, "k1"), SINK_GUESS);
    tries_sweep(t, 3600);
    assert_int_equal(tries_find(t, "k2"), SINK_INTO);
    tries_sweep(t, -10);
    assert_int_equal(tries_find(t, "k2"), SINK_GUESS);
}

static void test_bounded(void **state)
{
    struct tries *t = *state;
    char key[32];
    for (unsigned i = 0; i <= LIMIT_FILE_TRIES; i++) {
        snprintf(key, sizeof key, "k%u", i);
        tries_keep(t, key, SINK_AS);
    }
    assert_int_equal(tries_find(t, "k9999"), SINK_AS);
    assert_int_equal(tries_find(t, key), SINK_GUESS);
    tries_forget(t, "k0");
    tries_keep(t, key, SINK_AS);
    assert_int_equal(tries_find(t, key), SINK_AS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test_setup_teardown(test_kept_and_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
