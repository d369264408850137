#include "host/files/names.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "protocol/base/utf8.h"
#include "protocol/limits.h"

bool names_is_pattern(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\' && p[1]) {
            p++;
        } else if (*p == '*' || *p == '?' || *p == '[') {
            return true;
        }
    }
    return false;
}

/* The byte after the ']' of the class that begins at p[0] == '['; NULL when it has none. */
static const char *class_end(const char *p, const char *end)
{
    const char *at = p + 1;
    if (at < end && (*at == '!' || *at == '^')) {
        at++;
    }
    for (const char *first = at; at < end; at++) {
        if (*at == '\\' && at + 1 < end) {
            at++;
        } else if (*at == ']' && at > first) {
            return at + 1;
        }
    }
    return NULL;
}

static unsigned char class_byte(const char **p)
{
    if (**p == '\\') {
        (*p)++;
    }
    return (unsigned char)*(*p)++;
}

/* Whether c is of the class p .. end, brackets included. */
static bool class_has(const char *p, const char *end, unsigned char c)
{
    const char *at = p + 1, *last = end - 1;
    bool negated = *at == '!' || *at == '^', found = false;
    at += negated;
    while (at < last) {
        unsigned char low = class_byte(&at), high = low;
        if (at + 1 < last && *at == '-') {
            at++;
            high = class_byte(&at);
        }
        found |= c >= low && c <= high;
    }
    return found != negated;
}

/* One element of the pattern against one byte; *ret_next: what follows it. */
static bool element_fits(const char *p, const char *end, unsigned char c, const char **ret_next)
{
    *ret_next = p + 1;
    if (*p == '?') {
        return true;
    }
    if (*p == '[') {
        const char *close = class_end(p, end);
        if (close) {
            *ret_next = close;
            return class_has(p, close, c);
        }
    } else if (*p == '\\' && p + 1 < end) {
        p++;
        *ret_next = p + 1;
    }
    return (unsigned char)*p == c;
}

/* The classic: only the last '*' is ever tried again, so the time is bounded by the product. */
static bool part_fits(const char *p, size_t p_len, const char *name, size_t n, bool hidden)
{
    const char *p_end = p + p_len, *n_end = name + n, *star = NULL, *star_name = NULL, *next;
    if (!hidden && n > 0 && *name == '.' && p_len > 0 && *p != '.' && *p != '\\') {
        return false;
    }
    while (name < n_end) {
        if (p < p_end && *p == '*') {
            star = ++p;
            star_name = name;
        } else if (p < p_end && element_fits(p, p_end, (unsigned char)*name, &next)) {
            p = next;
            name++;
        } else if (star) {
            p = star;
            name = ++star_name;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*') {
        p++;
    }
    return p == p_end;
}

bool names_fit(const char *pattern, const char *name, bool hidden)
{
    return part_fits(pattern, strlen(pattern), name, strlen(name), hidden);
}

static size_t part_len(const char *p)
{
    return strcspn(p, "/");
}

/* What follows the part that begins at p; NULL after the last. */
static const char *part_next(const char *p)
{
    p += part_len(p);
    return *p ? p + 1 : NULL;
}

static bool is_any_parts(const char *p)
{
    return part_len(p) == 2 && p[0] == '*' && p[1] == '*';
}

/* As part_fits, with parts for bytes and "**" for '*'. */
bool names_fit_path(const char *pattern, const char *path, bool hidden)
{
    const char *p = pattern, *at = path, *star = NULL, *star_at = NULL;
    bool starred = false; /* star may be NULL: a "**" at the end */
    while (at) {
        if (p && is_any_parts(p)) {
            star = p = part_next(p);
            star_at = at;
            starred = true;
        } else if (p && part_fits(p, part_len(p), at, part_len(at), hidden)) {
            p = part_next(p);
            at = part_next(at);
        } else if (starred && (hidden || *star_at != '.')) {
            p = star;
            at = star_at = part_next(star_at);
        } else {
            return false;
        }
    }
    while (p && is_any_parts(p)) {
        p = part_next(p);
    }
    return !p;
}

gw_err names_check_pattern(const char *pattern, struct gw_error *why)
{
    size_t n = strlen(pattern);
    char shown[NAMES_SHOWN];
    if (n == 0) {
        return gw_fail(why, GW_EARG, "an empty pattern fits nothing");
    }
    if (n > LIMIT_FILE_PATTERN_BYTES) {
        return gw_fail(why, GW_EARG, "the pattern \"%s\" is longer than %d bytes",
                       names_show(pattern, shown, sizeof shown), LIMIT_FILE_PATTERN_BYTES);
    }
    for (const char *p = pattern, *part_end = p + part_len(p); *p; p++) {
        if (*p == '/') {
            part_end = p + 1 + part_len(p + 1);
        } else if (*p == '\\' && p + 1 == part_end) {
            return gw_fail(why, GW_EARG, "a part of the pattern \"%s\" ends in '\\'",
                           names_show(pattern, shown, sizeof shown));
        } else if (*p == '\\') {
            p++;
        } else if (*p == '[') {
            const char *close = class_end(p, part_end);
            if (!close) {
                return gw_fail(why, GW_EARG, "a '[' of the pattern \"%s\" has no ']'",
                               names_show(pattern, shown, sizeof shown));
            }
            p = close - 1;
        }
    }
    return GW_OK;
}

/* Append the n bytes from `from` to ret with its `room`, cleaned. Returns bytes written. */
static size_t add_clean(const char *from, size_t n, char *ret, size_t room)
{
    size_t used = 0;
    while (n > 0) {
        size_t step = utf8_step(from, n);
        bool wrong = step == 0 || (step == 1 && ((unsigned char)*from < 0x20 || *from == 0x7f)) ||
                     (step == 2 && (unsigned char)from[0] == 0xc2 && (unsigned char)from[1] < 0xa0);
        size_t len = wrong ? 1 : step;
        if (used + len > room) {
            break;
        }
        if (wrong) {
            ret[used] = '?';
        } else {
            memcpy(ret + used, from, len);
        }
        used += len;
        from += step ? step : 1;
        n -= step ? step : 1;
    }
    return used;
}

const char *names_show(const char *name, char *ret, size_t cap)
{
    size_t n = strlen(name);
    size_t used;
    if (n < cap) {
        used = add_clean(name, n, ret, cap - 1);
    } else {
        size_t half = (cap - 4) / 2;
        const char *tail = name + n - half;
        while (((unsigned char)*tail & 0xc0) == 0x80 && tail < name + n) {
            tail++; /* not into the middle of a character */
        }
        used = add_clean(name, half, ret, half);
        memcpy(ret + used, "...", 3);
        used += 3;
        used += add_clean(tail, strlen(tail), ret + used, cap - 1 - used);
    }
    ret[used] = '\0';
    return ret;
}
