/* Bodies of requests, by length and in chunks: whole, cut into pieces, cut off, and wrong. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/http_body.h"

/* A connection that gives `text` in pieces of `step` bytes, and keeps what is written. */
struct wire {
    struct bulk_io io;
    const char *text;
    size_t n, at, step;
    char said[64];
};

static gw_err wire_read(void *ctx, void *to, size_t room, size_t *ret_n)
{
    struct wire *w = ctx;
    size_t n = w->n - w->at < w->step ? w->n - w->at : w->step;
    n = n < room ? n : room;
    if (n == 0) {
        return GW_ENOT_FOUND;
    }
    memcpy(to, w->text + w->at, n);
    w->at += n;
    *ret_n = n;
    return GW_OK;
}

static gw_err wire_write(void *ctx, const void *from, size_t n, size_t *ret_n)
{
    struct wire *w = ctx;
    snprintf(w->said, sizeof w->said, "%.*s", (int)n, (const char *)from);
    *ret_n = n;
    return GW_OK;
}

static gw_err wire_wait(void *ctx, bool to_read, bool to_write, int timeout_ms)
{
    (void)ctx, (void)to_read, (void)to_write, (void)timeout_ms;
    return GW_OK;
}

static void wire_describe(void *ctx, struct gw_error *why)
{
    (void)ctx, (void)why;
}

static void wire_init(struct wire *w, const char *text, size_t n, size_t step)
{
    *w = (struct wire){.io = {.ctx = w,
                              .read = wire_read,
                              .write = wire_write,
                              .wait = wire_wait,
                              .describe = wire_describe},
                       .text = text,
                       .n = n,
                       .step = step};
}

/* Read a body to its end into `ret`; how it ended. */
static gw_err read_all(struct wire *w, const struct http_head *head, size_t room, char *ret,
                       size_t cap, size_t *ret_n)
{
    struct http_body *b = malloc(sizeof *b); /* of its own: a sanitizer sees what it oversteps */
    struct gw_error why = {0};
    size_t len = 0, n;
    gw_err err;
    assert_non_null(b);
    http_body_init(b, head, &w->io);
    while ((err = http_body_read(b, ret + len, room < cap - len ? room : cap - len, &n, &why)) ==
           GW_OK) {
        assert_true(n > 0 && n <= room);
        len += n;
        assert_true(len < cap);
    }
    if (err == GW_ENOT_FOUND) { /* and it stays at its end */
        assert_int_equal(http_body_read(b, ret, 1, &n, &why), GW_ENOT_FOUND);
    } else {
        assert_true(why.text[0] != '\0');
    }
    *ret_n = len;
    free(b);
    return err;
}

static void expect(const struct http_head *head, const char *text, gw_err end, const char *body)
{
    static const size_t steps[] = {1, 2, 3, 7, 4096};
    char got[256];
    size_t n;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        for (size_t room = 1; room < 9; room += 3) {
            struct wire w;
            wire_init(&w, text, strlen(text), steps[i]);
            assert_int_equal(read_all(&w, head, room, got, sizeof got, &n), end);
            if (body) {
                assert_int_equal(n, strlen(body));
                assert_memory_equal(got, body, n);
            }
        }
    }
}

static const struct http_head chunked = {.chunked = true};

static void test_by_length(void **state)
{
    struct http_head head = {.body_bytes = 5};
    struct http_head none = {0};
    (void)state;
    expect(&head, "hello", GW_ENOT_FOUND, "hello");
    expect(&head, "hello GET / HTTP/1.1", GW_ENOT_FOUND, "hello"); /* no more than said */
    expect(&head, "hell", GW_EUNREACHABLE, "hell");
    expect(&none, "more", GW_ENOT_FOUND, "");
}

static void test_chunks(void **state)
{
    (void)state;
    expect(&chunked, "0\r\n\r\n", GW_ENOT_FOUND, "");
    expect(&chunked, "5\r\nhello\r\n0\r\n\r\n", GW_ENOT_FOUND, "hello");
    expect(&chunked, "1\r\nh\r\n4\r\nello\r\n00\r\n\r\nrest", GW_ENOT_FOUND, "hello");
    expect(&chunked, "A;x=\"y\"\r\n0123456789\r\n00a ; z\r\n0123456789\r\n0;q\r\n\r\n",
           GW_ENOT_FOUND, "01234567890123456789");
    expect(&chunked, "2\r\n\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\n", GW_ENOT_FOUND, "\r\n");
}

static void test_wrong_chunks(void **state)
{
    static const char *const wrong[] = {
        "\r\n",
        "x\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 x\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\rabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nA\x01: b\r\n\r\n",
        "fffffffffffffffff\r\nabc",
        "1000000000000000\r\nabc",
        "\xff\xff\r\n",
    };
    static const char *const cut[] = {
        "",
        "3",
        "3\r",
        "3\r\n",
        "3\r\nab",
        "3\r\nabc",
        "3\r\nabc\r\n",
        "3\r\nabc\r\n0\r\n",
        "0\r\nA",
        "fffffffffffffff\r\nabc",
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        print_message("%zu\n", i);
        expect(&chunked, wrong[i], GW_EPROTO, NULL);
    }
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        expect(&chunked, cut[i], GW_EUNREACHABLE, NULL);
    }
}

/* A line without end, and trailers without end. */
static void test_bounds(void **state)
{
    char got[16];
    size_t n;
    struct wire w;
    char *text = malloc(100000);
    (void)state;
    assert_non_null(text);
    memset(text, '0', 100000);
    wire_init(&w, text, 100000, 4096);
    assert_int_equal(read_all(&w, &chunked, 8, got, sizeof got, &n), GW_EPROTO);
    assert_true(w.at < 20000);
    memcpy(text, "0\r\n", 3);
    for (size_t i = 3; i + 4 <= 100000; i += 4) {
        memcpy(text + i, "A:\r\n", 4);
    }
    wire_init(&w, text, 99999, 4096);
    assert_int_equal(read_all(&w, &chunked, 8, got, sizeof got, &n), GW_EPROTO);
    assert_true(w.at < 20000);
    free(text);
}

static void test_go_on(void **state)
{
    struct http_head head = {.body_bytes = 5, .expect_continue = true};
    struct http_head empty = {.expect_continue = true};
    char got[16];
    size_t n;
    struct wire w;
    (void)state;
    wire_init(&w, "hello", 5, 2);
    assert_int_equal(read_all(&w, &head, 8, got, sizeof got, &n), GW_ENOT_FOUND);
    assert_string_equal(w.said, "HTTP/1.1 100 Continue\r\n\r\n");
    wire_init(&w, "", 0, 2);
    assert_int_equal(read_all(&w, &empty, 8, got, sizeof got, &n), GW_ENOT_FOUND);
    assert_string_equal(w.said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_length),    cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_wrong_chunks), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
