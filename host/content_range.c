#include "host/content_range.h"

#include <string.h>
#include <strings.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Decimal digits at *at; numbers too large to be meant become the largest. False: there is none. */
static bool take_number(const char **at, uint64_t *ret)
{
    const char *p = *at;
    uint64_t n = 0;
    if (!is_digit(*p)) {
        return false;
    }
    for (; is_digit(*p); p++) {
        n = n > (UINT64_MAX - 9) / 10 ? UINT64_MAX : n * 10 + (uint64_t)(*p - '0');
    }
    *ret = n;
    *at = p;
    return true;
}

range_kind content_range_parse(const char *value, uint64_t size, uint64_t *ret_from,
                               uint64_t *ret_to)
{
    uint64_t first = 0, last = 0;
    if (!value || strncasecmp(value, "bytes=", 6) != 0) {
        return RANGE_ALL;
    }
    const char *p = value + 6;
    p += strspn(p, " \t");
    bool has_first = take_number(&p, &first);
    if (*p++ != '-') {
        return RANGE_ALL;
    }
    bool has_last = take_number(&p, &last);
    p += strspn(p, " \t");
    if (*p || (!has_first && !has_last) || (has_first && has_last && last < first)) {
        return RANGE_ALL;
    }
    if (!has_first) { /* the last so many */
        first = last < size ? size - last : 0;
        last = last ? UINT64_MAX - 1 : 0;
        has_last = false;
        if (size == 0 || last == 0) {
            return RANGE_NONE;
        }
    }
    if (first >= size) {
        return RANGE_NONE;
    }
    *ret_from = first;
    *ret_to = has_last && last < size - 1 ? last + 1 : size;
    return RANGE_PART;
}

bool content_is_known(const char *value, const char *hash)
{
    size_t n = strlen(hash);
    while (value && *value) {
        value += strspn(value, " \t,");
        if (*value == '*') {
            return true;
        }
        if (strncmp(value, "W/", 2) == 0) {
            value += 2;
        }
        if (*value != '"') {
            return false;
        }
        const char *end = strchr(++value, '"');
        if (!end) {
            return false;
        }
        if ((size_t)(end - value) == n && memcmp(value, hash, n) == 0) {
            return true;
        }
        value = end + 1;
    }
    return false;
}
