/* Writes around the page cache: whatever the order and the sizes, the file is what was written. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/files/direct.h"

#define ROOM (12u * 1024 * 1024)

static uint8_t want[ROOM], got[ROOM], bytes[3u * 1024 * 1024];

static int scratch(void)
{
    char path[] = "/var/tmp/godwit-direct-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void check(int fd, size_t n)
{
    size_t have = 0;
    ssize_t r;
    while (have < n && (r = pread(fd, got + have, n - have, (off_t)have)) > 0) {
        have += (size_t)r;
    }
    assert_int_equal(have, n);
    assert_memory_equal(got, want, n);
}

static void put(struct direct *d, size_t at, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(i * 31 + seed + (i >> 9));
    }
    memcpy(want + at, bytes, n);
    assert_int_equal(direct_write(d, at, bytes, n), 0);
}

static void test_in_order_and_not(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 30; seed++) {
        int fd = scratch();
        struct direct d;
        unsigned r = seed * 2654435761u;
        size_t end = 0, at = 0;
        memset(want, 0, sizeof want);
        assert_true(direct_open(&d, fd));
        for (int i = 0; i < 40 && at < ROOM - sizeof bytes; i++) {
            r = r * 1664525 + 1013904223;
            size_t n = 1 + (r >> 8) % (i % 3 == 0 ? sizeof bytes : 9000);
            if (i % 11 == 10) { /* somewhere before */
                at = (r >> 4) % (end + 1);
            }
            if (i % 13 == 12) {
                at = end + (r >> 5) % 70000; /* a hole */
            }
            at = at < ROOM - n ? at : 0;
            put(&d, at, n, r);
            at += n;
            end = at > end ? at : end;
        }
        assert_int_equal(direct_flush(&d), 0);
        direct_close(&d);
        check(fd, end);
        close(fd);
    }
}

static void test_nothing_is_written_unasked(void **state)
{
    (void)state;
    int fd = scratch();
    struct direct d;
    assert_true(direct_open(&d, fd));
    put(&d, 0, 1000, 1);
    direct_close(&d);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    close(fd);
}

static void test_failures_are_told(void **state)
{
    (void)state;
    int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    struct direct d;
    if (direct_open(&d, fd)) {
        put(&d, 0, 1000, 1);
        assert_int_not_equal(direct_flush(&d), 0);
        direct_close(&d);
    }
    close(fd);
    assert_false(direct_open(&d, -1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order_and_not),
        cmocka_unit_test(test_nothing_is_written_unasked),
        cmocka_unit_test(test_failures_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
