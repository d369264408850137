/* msgpack at the level of bytes: msgpack-c packs, a bounds-checked cursor of our own reads.
 *
 * Why an own reader: msgpack_unpack allocates for an announced array before its elements arrive, so
 * a 5-byte header can ask for gigabytes. The cursor allocates nothing and refuses any count that
 * the remaining bytes cannot hold. Source: msgpack specification 5 (2013). Any thread, one per
 * cursor. */
#ifndef PROTOCOL_BASE_MP_H
#define PROTOCOL_BASE_MP_H

#include <godwit/types.h>

#include "protocol/base/buf.h"

#define MP_EXT_ID   1 /* 16 bytes: gw_id */
#define MP_EXT_TIME 2 /* 8 bytes big-endian signed milliseconds: gw_time */

/* --- writing; failures stick in the buffer (buf_ok) --- */
void mp_nil(struct buf *b);
void mp_bool(struct buf *b, bool v);
void mp_int(struct buf *b, int64_t v);
void mp_uint(struct buf *b, uint64_t v);
void mp_float(struct buf *b, double v);
void mp_str(struct buf *b, const char *text); /* NULL writes nil */
void mp_strn(struct buf *b, const char *text, size_t len);
void mp_bin(struct buf *b, const void *data, size_t len);
void mp_span(struct buf *b, struct span s); /* as bin */
void mp_id(struct buf *b, const gw_id *id);
void mp_time(struct buf *b, gw_time t);
void mp_array(struct buf *b, size_t n);
void mp_map(struct buf *b, size_t n);

/* --- reading --- */
struct mp {
    const uint8_t *p;   /* next byte */
    const uint8_t *end; /* one past the last */
};
typedef enum mp_type {
    MP_END,     /* no bytes left */
    MP_INVALID, /* truncated, or the reserved byte 0xc1 */
    MP_NIL,
    MP_BOOL,
    MP_INT,
    MP_UINT, /* positive integers, whatever their width */
    MP_FLOAT,
    MP_STR,
    MP_BIN,
    MP_EXT,
    MP_ARRAY,
    MP_MAP,
} mp_type;

struct mp mp_over(struct span s);
mp_type mp_peek(const struct mp *m);
bool mp_done(const struct mp *m); /* no bytes left */
/* Each reads one element and moves on; GW_EPROTO (cursor unmoved) when the next element is of
 * another type, out of range or truncated. Views are borrowed from the input. */
gw_err mp_read_nil(struct mp *m) GW_MUST_USE;
gw_err mp_read_bool(struct mp *m, bool *ret) GW_MUST_USE;
gw_err mp_read_int(struct mp *m, int64_t *ret) GW_MUST_USE;
gw_err mp_read_uint(struct mp *m, uint64_t *ret) GW_MUST_USE;
gw_err mp_read_u32(struct mp *m, uint32_t *ret) GW_MUST_USE;
gw_err mp_read_float(struct mp *m, double *ret) GW_MUST_USE;    /* takes integers too */
gw_err mp_read_str(struct mp *m, struct span *ret) GW_MUST_USE; /* UTF-8 is not checked here */
gw_err mp_read_bin(struct mp *m, struct span *ret) GW_MUST_USE;
gw_err mp_read_id(struct mp *m, gw_id *ret) GW_MUST_USE;
gw_err mp_read_time(struct mp *m, gw_time *ret) GW_MUST_USE;
/* Counts are at most the elements that the remaining bytes can hold. */
gw_err mp_read_array(struct mp *m, size_t *ret_count) GW_MUST_USE;
gw_err mp_read_map(struct mp *m, size_t *ret_pairs) GW_MUST_USE;
/* A string into a fixed array of `cap` bytes with NUL; GW_EPROTO if longer or with a NUL inside. */
gw_err mp_read_text(struct mp *m, char *ret, size_t cap) GW_MUST_USE;
/* As mp_read_text, and nil reads as "". */
gw_err mp_read_text_or_nil(struct mp *m, char *ret, size_t cap) GW_MUST_USE;
/* Exactly n bytes of bin into ret. */
gw_err mp_read_fixed(struct mp *m, void *ret, size_t n) GW_MUST_USE;
/* Skip one whole element, nesting at most LIMIT_DEPTH; ret_raw (NULL allowed) gets its bytes. */
gw_err mp_skip(struct mp *m, struct span *ret_raw) GW_MUST_USE;
/* Skip n whole elements (unknown trailing members of an array: additions by newer peers). */
gw_err mp_skip_n(struct mp *m, size_t n) GW_MUST_USE;

#endif
