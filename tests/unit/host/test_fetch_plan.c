/* Which chunk is asked of whom: the plan that the sources of a fetch share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/fetch_plan.h"

#define MANY 100

static struct chunk_ref chunks[MANY];
static struct fetch_plan *plan;

static int begin(void **state)
{
    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        memset(&chunks[i], 0, sizeof chunks[i]);
        chunks[i].hash.b[0] = (uint8_t)i;
        chunks[i].len = (uint32_t)(1000 + i);
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    fetch_plan_free(plan);
    plan = NULL;
    return 0;
}

static void make(size_t n, const bool *wanted)
{
    fetch_plan_free(plan);
    assert_int_equal(fetch_plan_new(chunks, wanted, n, &plan), GW_OK);
}

static unsigned join(void)
{
    int n = fetch_plan_join(plan);
    assert_true(n >= 0);
    return (unsigned)n;
}

static bool is(const struct chunk_ref *c, size_t i)
{
    return c->hash.b[0] == i && c->len == chunks[i].len;
}

static void came(unsigned source, size_t i, plan_came wanted)
{
    assert_int_equal(fetch_plan_came(plan, source, &chunks[i].hash), wanted);
}

static void lacks(unsigned source, size_t i)
{
    assert_int_equal(fetch_plan_lacks(plan, source, &chunks[i].hash, false), GW_OK);
}

static void test_what_is_missing_is_asked_once(void **state)
{
    struct chunk_ref got[MANY];
    bool wanted[MANY] = {[2] = true, [5] = true, [7] = true};
    (void)state;
    chunks[7] = chunks[2]; /* stands there twice */
    make(10, wanted);
    assert_int_equal(fetch_plan_left(plan), 2);
    assert_int_equal(fetch_plan_left_bytes(plan), 1002 + 1005);
    unsigned a = join();
    assert_int_equal(fetch_plan_take(plan, a, 0, 8, got), 1); /* fair: not all at once */
    assert_true(is(&got[0], 2));
    assert_int_equal(fetch_plan_take(plan, a, 0, 8, got), 1);
    assert_true(is(&got[0], 5));
    assert_int_equal(fetch_plan_take(plan, a, 0, 8, got), 0);
    assert_int_equal(fetch_plan_for(plan, a), PLAN_WAIT);
    came(a, 2, CAME_NEW);
    came(a, 2, CAME_UNASKED);
    came(a, 3, CAME_UNASKED);
    came(a, 5, CAME_NEW);
    assert_int_equal(fetch_plan_left(plan), 0);
    assert_int_equal(fetch_plan_left_bytes(plan), 0);
    assert_int_equal(fetch_plan_for(plan, a), PLAN_NOTHING);
}

static void test_sources_share_the_work(void **state)
{
    struct chunk_ref got[MANY];
    unsigned of[2] = {0, 0};
    (void)state;
    make(MANY, NULL);
    unsigned source[2] = {join(), join()};
    bool seen[MANY] = {false};
    size_t turns = 0;
    while (fetch_plan_left(plan) > 0) {
        unsigned who = turns++ % 2;
        size_t n = fetch_plan_take(plan, source[who], 0, 16, got);
        assert_true(n > 0);
        assert_true(n <= 16);
        for (size_t i = 0; i < n; i++) {
            assert_false(seen[got[i].hash.b[0]]);
            seen[got[i].hash.b[0]] = true;
            came(source[who], got[i].hash.b[0], CAME_NEW);
        }
        of[who] += (unsigned)n;
    }
    assert_int_equal(of[0] + of[1], MANY);
    assert_true(of[0] > 30 && of[1] > 30);
}

static void test_what_a_lost_source_was_asked_is_open_again(void **state)
{
    struct chunk_ref got[MANY];
    struct chunk_ref orphan;
    (void)state;
    make(8, NULL);
    unsigned a = join(), b = join();
    size_t n = fetch_plan_take(plan, a, 0, 4, got);
    assert_int_equal(n, 2);
    came(a, 0, CAME_NEW);
    fetch_plan_drop(plan, a);
    assert_int_equal(fetch_plan_take(plan, a, 0, 4, got), 0);
    assert_int_equal(fetch_plan_for(plan, a), PLAN_NOTHING);
    came(a, 1, CAME_UNASKED);
    assert_int_equal(fetch_plan_take(plan, b, 0, 1, got), 1);
    assert_true(is(&got[0], 1)); /* first of all: it has waited */
    for (size_t left = 6; left > 0; left--) {
        assert_int_equal(fetch_plan_take(plan, b, 0, 1, got), 1);
    }
    assert_int_equal(fetch_plan_take(plan, b, 0, 1, got), 0);
    assert_false(fetch_plan_orphan(plan, &orphan));
    fetch_plan_drop(plan, b);
    assert_true(fetch_plan_orphan(plan, &orphan));
    assert_true(is(&orphan, 1));
}

static void test_a_part_is_asked_of_who_has_it(void **state)
{
    struct chunk_ref got[MANY], orphan;
    (void)state;
    make(10, NULL);
    unsigned whole = join(), part = join();
    for (size_t i = 0; i < 6; i++) { /* it has the last four */
        lacks(part, i);
    }
    size_t at = 0;
    assert_int_equal(fetch_plan_list(plan, part, &at, got, MANY), 4);
    assert_true(is(&got[0], 6));
    assert_int_equal(fetch_plan_take(plan, part, 0, 2, got), 2);
    assert_true(is(&got[0], 6) && is(&got[1], 7));
    /* the other one begins with what only it has */
    assert_int_equal(fetch_plan_take(plan, whole, 0, 2, got), 2);
    assert_true(is(&got[0], 0) && is(&got[1], 1));
    assert_int_equal(fetch_plan_take(plan, part, 0, 9, got), 2);
    assert_true(is(&got[0], 8) && is(&got[1], 9));
    assert_int_equal(fetch_plan_take(plan, part, 0, 9, got), 0);
    assert_int_equal(fetch_plan_for(plan, part), PLAN_WAIT); /* for its own four */
    for (size_t i = 6; i < 10; i++) {
        came(part, i, CAME_NEW);
    }
    assert_int_equal(fetch_plan_for(plan, part), PLAN_NOTHING);
    assert_int_equal(fetch_plan_for(plan, whole), PLAN_ASK);
    /* one that it was asked for is not there: nobody has it */
    assert_int_equal(fetch_plan_lacks(plan, whole, &chunks[5].hash, true), GW_EPROTO);
    assert_int_equal(fetch_plan_lacks(plan, whole, &chunks[0].hash, true), GW_OK);
    assert_true(fetch_plan_orphan(plan, &orphan));
    assert_true(is(&orphan, 0));
    memset(orphan.hash.b, 0xee, sizeof orphan.hash.b);
    assert_int_equal(fetch_plan_lacks(plan, whole, &orphan.hash, false), GW_EPROTO);
}

static void test_what_takes_long_is_asked_of_another_too(void **state)
{
    struct chunk_ref got[MANY];
    (void)state;
    make(2, NULL);
    unsigned slow = join(), fast = join(), third = join();
    assert_int_equal(fetch_plan_take(plan, slow, 1000, 9, got), 1);
    assert_int_equal(fetch_plan_take(plan, fast, 1000, 9, got), 1);
    came(fast, 1, CAME_NEW);
    assert_int_equal(fetch_plan_take(plan, fast, 1000 + PLAN_SLOW_MS - 1, 9, got), 0);
    assert_int_equal(fetch_plan_for(plan, fast), PLAN_WAIT);
    assert_int_equal(fetch_plan_take(plan, fast, 1000 + PLAN_SLOW_MS, 9, got), 1);
    assert_true(is(&got[0], 0));
    /* by two at most, and never twice of one */
    assert_int_equal(fetch_plan_take(plan, third, 1000000, 9, got), 0);
    assert_int_equal(fetch_plan_take(plan, slow, 1000000, 9, got), 0);
    fetch_plan_drop(plan, fast);
    assert_int_equal(fetch_plan_left(plan), 1);
    assert_int_equal(fetch_plan_take(plan, third, 1000000, 9, got), 1);
    came(third, 0, CAME_NEW);
    came(slow, 0, CAME_AGAIN);
    came(slow, 0, CAME_UNASKED);
    assert_int_equal(fetch_plan_left(plan), 0);
}

static void test_only_so_many_sources(void **state)
{
    (void)state;
    make(1, NULL);
    for (unsigned i = 0; i < PLAN_SOURCES; i++) {
        assert_int_equal(join(), i);
    }
    assert_int_equal(fetch_plan_join(plan), -1);
    fetch_plan_drop(plan, PLAN_SOURCES - 1);
    make(0, NULL);
    assert_int_equal(fetch_plan_left(plan), 0);
    assert_int_equal(fetch_plan_for(plan, join()), PLAN_NOTHING);
}

/* The same numbers under the same seed on every machine. */
static unsigned roll(uint64_t *dice)
{
    *dice = *dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*dice >> 33);
}

/* Sources that come, go, lack, repeat themselves and send what nobody asked for: the numbers hold,
 * and as long as one of them has everything it ends. */
static void test_any_order_of_answers(void **state)
{
    struct chunk_ref got[4];
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        uint64_t dice = seed;
        make(MANY, NULL);
        unsigned honest = join(), other[6];
        bool gone[6] = {false};
        for (size_t i = 0; i < 6; i++) {
            other[i] = join();
        }
        int64_t now = 0;
        size_t here = 0;
        for (unsigned step = 0; fetch_plan_left(plan) > 0; step++) {
            assert_true(step < 20000);
            now += roll(&dice) % 1000;
            if (step % 300 == 299) { /* one that says nothing is given up in the end */
                fetch_plan_drop(plan, other[step / 300 % 6]);
                gone[step / 300 % 6] = true;
            }
            size_t who = (size_t)roll(&dice) % 7;
            unsigned source = who == 6 ? honest : other[who];
            size_t n = fetch_plan_take(plan, source, now, 1 + (size_t)roll(&dice) % 4, got);
            for (size_t i = 0; i < n; i++) {
                int what = who == 6 ? 0 : roll(&dice) % 4;
                if (what == 1) {
                    assert_int_equal(fetch_plan_lacks(plan, source, &got[i].hash, true), GW_OK);
                } else if (what == 2 && roll(&dice) % 8 == 0) {
                    fetch_plan_drop(plan, source);
                    gone[who] = true;
                    break;
                } else if (what != 3) {
                    here += fetch_plan_came(plan, source, &got[i].hash) == CAME_NEW;
                }
            }
            assert_int_equal(fetch_plan_left(plan), MANY - here);
            assert_true(who == 6 || !gone[who] || fetch_plan_for(plan, source) == PLAN_NOTHING);
        }
        assert_int_equal(here, MANY);
        assert_int_equal(fetch_plan_left_bytes(plan), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_missing_is_asked_once, begin, end),
        cmocka_unit_test_setup_teardown(test_sources_share_the_work, begin, end),
        cmocka_unit_test_setup_teardown(test_what_a_lost_source_was_asked_is_open_again, begin,
                                        end),
        cmocka_unit_test_setup_teardown(test_a_part_is_asked_of_who_has_it, begin, end),
        cmocka_unit_test_setup_teardown(test_what_takes_long_is_asked_of_another_too, begin, end),
        cmocka_unit_test_setup_teardown(test_only_so_many_sources, begin, end),
        cmocka_unit_test_setup_teardown(test_any_order_of_answers, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
