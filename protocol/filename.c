#include "protocol/filename.h"

#include <string.h>

#include "protocol/base/utf8.h"
#include "protocol/limits.h"

static bool begins(const char *p, size_t n, const char *with)
{
    size_t len = strlen(with);
    return n >= len && memcmp(p, with, len) == 0;
}

/* C0, DEL, C1 (C2 80 .. C2 9F), line and paragraph ends, marks that turn text round (E2 80 8E/8F,
 * A8 .. AE, E2 81 A6 .. A9): on a screen they would show another name. */
static bool is_control(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x20 || p[0] == 0x7f) {
        return true;
    }
    if (n >= 2 && p[0] == 0xc2 && p[1] < 0xa0) {
        return true;
    }
    if (n < 3 || p[0] != 0xe2) {
        return false;
    }
    return (p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae))) ||
           (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9);
}

bool filename_is_valid(const char *p, size_t n)
{
    if (n == 0 || n > LIMIT_CARRIED_NAME_BYTES || !utf8_is_valid(p, n) || begins(p, n, ".godwit") ||
        (n == 1 && p[0] == '.') || (n == 2 && memcmp(p, "..", 2) == 0)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '/' || is_control(p + i, n - i)) {
            return false;
        }
    }
    return true;
}

bool filename_is_path(const char *p, size_t n)
{
    if (n == 0 || n > LIMIT_CARRIED_PATH_BYTES || !utf8_is_valid(p, n) || p[n - 1] == '/') {
        return false;
    }
    for (size_t at = 0; at < n;) {
        const char *end = memchr(p + at, '/', n - at);
        size_t len = end ? (size_t)(end - (p + at)) : n - at;
        if (len == 2 && memcmp(p + at, "..", 2) == 0) {
            return false;
        }
        at += len + 1;
    }
    return true;
}
