/* Token bucket and meter, under a clock of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/files/rate.h"

#define SECOND 1000000000LL

static void test_no_limit_lets_everything_go(void **state)
{
    (void)state;
    struct rate r = {0};
    int wait_ms = 0;
    assert_int_equal(rate_allow(&r, SIZE_MAX, 5, &wait_ms), SIZE_MAX);
    rate_take(&r, SIZE_MAX);
    assert_int_equal(rate_allow(&r, 1, 5, &wait_ms), 1);
}

/* Takes as much as it may for ten seconds of the clock. */
static uint64_t run(uint64_t per_s, size_t piece)
{
    struct rate r;
    int64_t now = 77 * SECOND, end = now + 10 * SECOND;
    uint64_t bytes = 0;
    rate_init(&r, per_s, now);
    while (now < end) {
        int wait_ms = 0;
        size_t n = rate_allow(&r, piece, now, &wait_ms);
        assert_true(n <= piece);
        if (n == 0) {
            assert_true(wait_ms >= 1);
            now += wait_ms * 1000000LL;
        }
        rate_take(&r, n);
        bytes += n;
    }
    return bytes;
}

static void test_limit_holds_over_time(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1, 100, 1000, 65536, 10 << 20, 300 << 20};
    static const size_t pieces[] = {1, 1000, 65536, 1 << 20};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        for (size_t k = 0; k < sizeof pieces / sizeof pieces[0]; k++) {
            if (rates[i] / pieces[k] > 1000000) {
                continue; /* a million calls a second are a test of patience */
            }
            uint64_t bytes = run(rates[i], pieces[k]), wanted = rates[i] * 10;
            assert_in_range(bytes, wanted - wanted / 20, wanted + wanted / 20 + (1 << 20));
        }
    }
}

static void test_a_rest_gives_no_more_than_the_burst(void **state)
{
    (void)state;
    struct rate r;
    int wait_ms = 0;
    rate_init(&r, 1 << 20, SECOND);
    rate_take(&r, 1 << 20);
    assert_int_equal(rate_allow(&r, 1 << 20, SECOND, &wait_ms), 0);
    assert_true(wait_ms > 0);
    assert_int_equal(rate_allow(&r, 1 << 20, 3600 * SECOND, &wait_ms), (1 << 20) / 20);
    /* A clock that goes back gives nothing and takes nothing. */
    assert_int_equal(rate_allow(&r, 1 << 20, SECOND, &wait_ms), (1 << 20) / 20);
}

static void test_meter_sees_a_slow_connection_only(void **state)
{
    (void)state;
    struct meter m = {0};
    int64_t now = SECOND;
    for (int i = 0; i < 100; i++) { /* 10 MB/s, mostly waited for */
        now += 10 * 1000000LL;
        meter_add(&m, 100000, 9 * 1000000LL, now);
    }
    assert_in_range(m.per_s, 9000000, 11000000);
    for (int i = 0; i < 100; i++) { /* the same, but the sender was busy itself */
        now += 10 * 1000000LL;
        meter_add(&m, 100000, 1000000LL, now);
    }
    assert_int_equal(m.per_s, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limit_lets_everything_go),
        cmocka_unit_test(test_limit_holds_over_time),
        cmocka_unit_test(test_a_rest_gives_no_more_than_the_burst),
        cmocka_unit_test(test_meter_sees_a_slow_connection_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
