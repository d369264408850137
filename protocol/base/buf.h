/* A growable byte buffer with a sticky failure: writers append without checking each step, the
 * owner asks buf_ok() once at the end. All-zero is an empty, usable buffer. Not thread-safe. */
#ifndef PROTOCOL_BASE_BUF_H
#define PROTOCOL_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <godwit/err.h>

struct buf {
    uint8_t *data; /* owned */
    size_t len;    /* bytes used */
    size_t cap;    /* bytes allocated */
    bool failed;   /* an allocation failed: content is incomplete */
};

/* Make room for `more` further bytes. On failure sets `failed` and returns false. */
bool buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_u32(struct buf *b, uint32_t big_endian_value);
void buf_add_u64(struct buf *b, uint64_t big_endian_value);
void buf_addf(struct buf *b, const char *fmt, ...) GW_PRINTF(2, 3);
/* Whether every append so far succeeded. */
bool buf_ok(const struct buf *b);
/* Drop the first n bytes. */
void buf_drop(struct buf *b, size_t n);
/* Keep the memory, forget content and failure. */
void buf_reset(struct buf *b);
void buf_free(struct buf *b);
/* Move the content out; `from` is empty afterwards. */
struct buf buf_take(struct buf *from);
/* Overwrite 4 bytes at `at` (which exist) with a big-endian number. */
void buf_put_u32(struct buf *b, size_t at, uint32_t value);

uint32_t load_u32(const uint8_t *p); /* big-endian */
uint64_t load_u64(const uint8_t *p);
void store_u32(uint8_t *p, uint32_t v);
void store_u64(uint8_t *p, uint64_t v);

/* A borrowed run of bytes. */
struct span {
    const uint8_t *p;
    size_t n;
};
static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->data, b->len};
}
bool span_is(struct span s, const char *text); /* equal to a NUL-terminated text */
/* Copy to a NUL-terminated array of `cap` bytes; false (and "") if it does not fit or holds NUL. */
bool span_text(struct span s, char *ret, size_t cap);

/* --- owned locals: GW_AUTO(buf_free) struct buf b = {0}; --- */
#define GW_AUTO(destroy) __attribute__((cleanup(destroy)))
void free_charp(char **p); /* for GW_AUTO(free_charp) char *text = NULL; */

/* Allocation that the process cannot go on without: small objects, as many as limits allow. It ends
 * with a message when there is no memory; what was acknowledged is on disk. */
void *xcalloc(size_t n, size_t size);
char *xstrdup(const char *text);

/* Keys and names are looked for in short lists, where most differ in their first letter. */
static inline bool text_same(const char *a, const char *b)
{
    return a[0] == b[0] && strcmp(a, b) == 0;
}

#endif
