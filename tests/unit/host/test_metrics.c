/* Histograms: an observation falls into the bucket whose bound is not below it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/core/metrics.h"

static void test_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        struct histogram h = {0};
        assert_true(i == 0 || histogram_bounds_us[i] > histogram_bounds_us[i - 1]);
        histogram_add(&h, histogram_bounds_us[i]);
        assert_int_equal(h.counts[i], 1);
        histogram_add(&h, histogram_bounds_us[i] + 1);
        assert_int_equal(h.counts[i + 1], 1);
        assert_int_equal(h.sum_us, 2 * histogram_bounds_us[i] + 1);
        assert_int_equal(histogram_count(&h), 2);
    }
}

static void test_extremes(void **state)
{
    (void)state;
    struct histogram h = {0};
    histogram_add(&h, 0);
    histogram_add(&h, -1);
    histogram_add(&h, INT64_MIN);
    assert_int_equal(h.counts[0], 3);
    assert_int_equal(h.sum_us, 0);
    histogram_add(&h, INT64_MAX);
    assert_int_equal(h.counts[HISTOGRAM_BOUNDS], 1);
    assert_int_equal(h.sum_us, INT64_MAX);
}

static void test_outcomes(void **state)
{
    (void)state;
    struct metrics m = {0};
    metrics_message(&m, GW_OK, 5);
    metrics_message(&m, GW_ECRASHED, 5);
    metrics_message(&m, GW_EREFUSED, 5);
    metrics_message(&m, GW_EARG, 5);
    assert_int_equal(m.messages[MESSAGE_OK], 1);
    assert_int_equal(m.messages[MESSAGE_CRASHED], 1);
    assert_int_equal(m.messages[MESSAGE_ERROR], 2);
    assert_int_equal(histogram_count(&m.message), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_outcomes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
