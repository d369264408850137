/* Trace context: what W3C allows, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"
#include "protocol/trace.h"

#define GOOD "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static struct span span_of(const char *text)
{
    return (struct span){(const uint8_t *)text, strlen(text)};
}

static void good_ones(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {GOOD, GOOD},
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
         "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"},
        /* flags of later levels are dropped */
        {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", GOOD},
        /* a later version, with and without more behind it */
        {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", GOOD},
        {"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what.the=future", GOOD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trace t;
        char text[TRACE_TEXT];
        assert_int_equal(trace_parse(span_of(cases[i].in), &t), GW_OK);
        assert_string_equal(trace_text(&t, text), cases[i].out);
    }
}

static void bad_ones(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "00",
        GOOD "x",
        GOOD "-",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        " " GOOD,
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01what",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct trace t = {.flags = 7};
        assert_int_equal(trace_parse(span_of(bad[i]), &t), GW_EPROTO);
        assert_int_equal(t.flags, 7);
    }
}

static void every_byte_counts(void **state)
{
    (void)state;
    char text[sizeof GOOD];
    struct trace t;
    for (size_t i = 0; i < sizeof GOOD - 1; i++) {
        memcpy(text, GOOD, sizeof GOOD);
        text[i] = 'G';
        assert_int_equal(trace_parse(span_of(text), &t), GW_EPROTO);
        assert_int_equal(trace_parse((struct span){(const uint8_t *)GOOD, i}, &t), GW_EPROTO);
    }
}

static void states(void **state)
{
    (void)state;
    static const char *const good[] = {"rojo=00f067aa0ba902b7", "rojo=1,congo=t61rcWkgMzE",
                                       "a=1, ,b=2", "fw529a3039@dt=FfxWFfWFfW", "a=1,\tb=x y"};
    static const char *const bad[] = {"",        "a",     "A=1", "a=",    "=1", "a=1=2", "a=1,a=2",
                                      "a=b\x7f", "a b=1", "ä=1", "a=1\n", ",",  "a.b=1"};
    char many[LIMIT_TRACE_STATE_BYTES + 8];
    size_t n = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(trace_state_is_valid(span_of(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(trace_state_is_valid(span_of(bad[i])));
    }
    for (int i = 0; i < 32; i++) { /* so many members, and one more */
        n += (size_t)snprintf(many + n, sizeof many - n, "k%d=v,", i);
    }
    assert_true(trace_state_is_valid((struct span){(const uint8_t *)many, n}));
    snprintf(many + n, sizeof many - n, "z=1");
    assert_false(trace_state_is_valid(span_of(many)));
    memset(many, 'a', sizeof many); /* so many bytes, and one more */
    many[100] = '=';
    many[300] = ',';
    many[400] = '=';
    many[LIMIT_TRACE_STATE_BYTES] = 'b';
    assert_true(
        trace_state_is_valid((struct span){(const uint8_t *)many, LIMIT_TRACE_STATE_BYTES}));
    assert_false(
        trace_state_is_valid((struct span){(const uint8_t *)many, LIMIT_TRACE_STATE_BYTES + 1}));
}

static void rows(void **state)
{
    (void)state;
    struct trace t, back;
    GW_AUTO(buf_free) struct buf out = {0};
    assert_int_equal(trace_parse(span_of(GOOD), &t), GW_OK);
    trace_pack(&t, &out);
    trace_pack(&(struct trace){0}, &out);
    mp_bin(&out, (uint8_t[TRACE_RAW_BYTES]){0}, TRACE_RAW_BYTES);
    mp_bin(&out, "short", 5);
    struct mp m = mp_over(buf_span(&out));
    assert_int_equal(trace_unpack(&m, &back), GW_OK);
    assert_memory_equal(&back, &t, sizeof t);
    assert_int_equal(trace_unpack(&m, &back), GW_OK);
    assert_true(trace_is_none(&back));
    assert_int_equal(trace_unpack(&m, &back), GW_OK);
    assert_true(trace_is_none(&back));
    assert_int_equal(trace_unpack(&m, &back), GW_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones),
        cmocka_unit_test(bad_ones),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(states),
        cmocka_unit_test(rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
