#include "protocol/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool buf_reserve(struct buf *b, size_t more)
{
    if (b->failed) {
        return false;
    }
    if (more <= b->cap - b->len) {
        return true;
    }
    if (more > SIZE_MAX / 4 || b->len > SIZE_MAX / 4) {
        b->failed = true;
        return false;
    }
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap - b->len < more) {
        cap *= 2;
    }
    uint8_t *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    if (len > 0 && buf_reserve(b, len)) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
}

void buf_add_u32(struct buf *b, uint32_t v)
{
    uint8_t raw[4];
    store_u32(raw, v);
    buf_add(b, raw, sizeof raw);
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    uint8_t raw[8];
    store_u64(raw, v);
    buf_add(b, raw, sizeof raw);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !buf_reserve(b, (size_t)n + 1)) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

bool buf_ok(const struct buf *b)
{
    return !b->failed;
}

void buf_drop(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

struct buf buf_take(struct buf *from)
{
    struct buf out = *from;
    *from = (struct buf){0};
    return out;
}

void buf_put_u32(struct buf *b, size_t at, uint32_t value)
{
    if (b->len >= 4 && at <= b->len - 4) {
        store_u32(b->data + at, value);
    }
}

uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint64_t load_u64(const uint8_t *p)
{
    return (uint64_t)load_u32(p) << 32 | load_u32(p + 4);
}

void store_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

void store_u64(uint8_t *p, uint64_t v)
{
    store_u32(p, (uint32_t)(v >> 32));
    store_u32(p + 4, (uint32_t)v);
}

bool span_is(struct span s, const char *text)
{
    return s.n == strlen(text) && (s.n == 0 || memcmp(s.p, text, s.n) == 0);
}

bool span_text(struct span s, char *ret, size_t cap)
{
    if (s.n >= cap || (s.n > 0 && memchr(s.p, 0, s.n))) {
        ret[0] = '\0';
        return false;
    }
    if (s.n > 0) {
        memcpy(ret, s.p, s.n);
    }
    ret[s.n] = '\0';
    return true;
}

void free_charp(char **p)
{
    free(*p);
    *p = NULL;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p) {
        fputs("godwit: out of memory\n", stderr);
        abort();
    }
    return p;
}

char *xstrdup(const char *text)
{
    char *p = strdup(text);
    if (!p) {
        fputs("godwit: out of memory\n", stderr);
        abort();
    }
    return p;
}
