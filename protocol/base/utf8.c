#include "protocol/base/utf8.h"

#include <stdint.h>
#include <string.h>

static bool is_tail(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t utf8_step(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        return n >= 2 && is_tail(s[1]) ? 2 : 0;
    }
    if (s[0] >= 0xe0 && s[0] <= 0xef) {
        if (n < 3 || !is_tail(s[1]) || !is_tail(s[2])) {
            return 0;
        }
        return (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ? 0 : 3;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        if (n < 4 || !is_tail(s[1]) || !is_tail(s[2]) || !is_tail(s[3])) {
            return 0;
        }
        return (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f) ? 0 : 4;
    }
    return 0;
}

/* How many bytes from p are plain ASCII without NUL, eight at a time. */
static size_t ascii_run(const char *p, size_t n)
{
    const uint64_t high = 0x8080808080808080u, ones = 0x0101010101010101u;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t w;
        memcpy(&w, p + i, 8);
        if ((w & high) || ((w - ones) & ~w & high)) {
            break;
        }
    }
    while (i < n && (signed char)p[i] > 0) {
        i++;
    }
    return i;
}

size_t utf8_run(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        i += ascii_run(p + i, n - i);
        size_t step = i < n && p[i] ? utf8_step(p + i, n - i) : 0;
        if (step == 0) {
            break;
        }
        i += step;
    }
    return i;
}

bool utf8_is_valid(const char *p, size_t n)
{
    return utf8_run(p, n) == n;
}

/* Control characters include U+0080 to U+009F: some terminals obey them. */
void utf8_clean(char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        size_t step = utf8_step(text + i, n - i);
        bool c1 = step == 2 && c == 0xc2 && (unsigned char)text[i + 1] < 0xa0;
        if (step == 0 || c < 0x20 || c == 0x7f || c1) {
            memset(text + i, '?', step ? step : 1);
        }
        i += step ? step : 1;
    }
}
