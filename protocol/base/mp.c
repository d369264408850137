#include "protocol/base/mp.h"

#include <string.h>

#include <msgpack/pack.h>

#include "protocol/limits.h"

static int write_to_buf(void *ctx, const char *data, size_t len)
{
    struct buf *b = ctx;
    buf_add(b, data, len);
    return buf_ok(b) ? 0 : -1;
}

static msgpack_packer packer(struct buf *b)
{
    return (msgpack_packer){.data = b, .callback = write_to_buf};
}

void mp_nil(struct buf *b)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_nil(&pk);
}

void mp_bool(struct buf *b, bool v)
{
    msgpack_packer pk = packer(b);
    (void)(v ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk));
}

void mp_int(struct buf *b, int64_t v)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_int64(&pk, v);
}

void mp_uint(struct buf *b, uint64_t v)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_uint64(&pk, v);
}

void mp_float(struct buf *b, double v)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_double(&pk, v);
}

void mp_str(struct buf *b, const char *text)
{
    if (!text) {
        mp_nil(b);
        return;
    }
    mp_strn(b, text, strlen(text));
}

void mp_strn(struct buf *b, const char *text, size_t len)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_str(&pk, len);
    buf_add(b, text, len);
}

void mp_bin(struct buf *b, const void *data, size_t len)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_bin(&pk, len);
    buf_add(b, data, len);
}

void mp_span(struct buf *b, struct span s)
{
    mp_bin(b, s.p, s.n);
}

void mp_id(struct buf *b, const gw_id *id)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_ext(&pk, GW_ID_BYTES, MP_EXT_ID);
    buf_add(b, id->b, GW_ID_BYTES);
}

void mp_time(struct buf *b, gw_time t)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_ext(&pk, 8, MP_EXT_TIME);
    buf_add_u64(b, (uint64_t)t.ms);
}

void mp_array(struct buf *b, size_t n)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_array(&pk, n);
}

void mp_map(struct buf *b, size_t n)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_map(&pk, n);
}

/* --- reading --- */

/* One decoded header: what the element is, its number or its payload length. */
struct head {
    mp_type type;
    uint64_t u;       /* MP_UINT, MP_BOOL, counts, payload lengths */
    int64_t i;        /* MP_INT (negative only) */
    double f;         /* MP_FLOAT */
    int8_t ext;       /* MP_EXT */
    const uint8_t *p; /* first byte after the header */
};

struct mp mp_over(struct span s)
{
    return (struct mp){s.p, s.p ? s.p + s.n : s.p};
}

static uint64_t big_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static void set_signed(struct head *h, int64_t v)
{
    h->type = v < 0 ? MP_INT : MP_UINT;
    h->i = v;
    h->u = (uint64_t)v;
}

/* Which type the bytes 0xc0..0xdf announce, how many bytes of number follow. */
static const struct {
    uint8_t type, width;
} wide[32] = {
    [0x00] = {MP_NIL, 0},  [0x01] = {MP_INVALID, 0}, [0x02] = {MP_BOOL, 0},
    [0x03] = {MP_BOOL, 0}, [0x04] = {MP_BIN, 1},     [0x05] = {MP_BIN, 2},
    [0x06] = {MP_BIN, 4},  [0x07] = {MP_EXT, 1},     [0x08] = {MP_EXT, 2},
    [0x09] = {MP_EXT, 4},  [0x0a] = {MP_FLOAT, 4},   [0x0b] = {MP_FLOAT, 8},
    [0x0c] = {MP_UINT, 1}, [0x0d] = {MP_UINT, 2},    [0x0e] = {MP_UINT, 4},
    [0x0f] = {MP_UINT, 8}, [0x10] = {MP_INT, 1},     [0x11] = {MP_INT, 2},
    [0x12] = {MP_INT, 4},  [0x13] = {MP_INT, 8},     [0x14] = {MP_EXT, 0},
    [0x15] = {MP_EXT, 0},  [0x16] = {MP_EXT, 0},     [0x17] = {MP_EXT, 0},
    [0x18] = {MP_EXT, 0},  [0x19] = {MP_STR, 1},     [0x1a] = {MP_STR, 2},
    [0x1b] = {MP_STR, 4},  [0x1c] = {MP_ARRAY, 2},   [0x1d] = {MP_ARRAY, 4},
    [0x1e] = {MP_MAP, 2},  [0x1f] = {MP_MAP, 4},
};

static void head_wide(struct head *h, uint8_t c, size_t left)
{
    size_t width = wide[c & 0x1f].width;
    h->type = (mp_type)wide[c & 0x1f].type;
    bool fixed_ext = c >= 0xd4 && c <= 0xd8;
    size_t extra = h->type == MP_EXT ? 1 : 0; /* the ext type byte */
    if (left < width + extra) {
        h->type = MP_INVALID;
        return;
    }
    uint64_t raw = big_endian(h->p, width);
    h->u = raw;
    if (c == 0xc3) {
        h->u = 1;
    } else if (h->type == MP_FLOAT && width == 4) {
        uint32_t bits = (uint32_t)raw;
        float f;
        memcpy(&f, &bits, 4);
        h->f = f;
    } else if (h->type == MP_FLOAT) {
        memcpy(&h->f, &raw, 8);
    } else if (h->type == MP_INT) {
        unsigned shift = 64 - 8 * (unsigned)width;
        set_signed(h, (int64_t)(raw << shift) >> shift);
    }
    h->p += width;
    if (fixed_ext) {
        h->u = 1ULL << (c - 0xd4);
    }
    if (extra) {
        h->ext = (int8_t)*h->p++;
    }
}

/* Decode the header at the cursor and check that its payload or its elements can be there. */
static struct head head_at(const struct mp *m)
{
    struct head h = {.type = MP_END};
    if (m->p >= m->end) {
        return h;
    }
    uint8_t c = *m->p;
    h.p = m->p + 1;
    if (c <= 0x7f) {
        h.type = MP_UINT;
        h.u = c;
    } else if (c <= 0x8f) {
        h.type = MP_MAP;
        h.u = c & 0x0f;
    } else if (c <= 0x9f) {
        h.type = MP_ARRAY;
        h.u = c & 0x0f;
    } else if (c <= 0xbf) {
        h.type = MP_STR;
        h.u = c & 0x1f;
    } else if (c >= 0xe0) {
        set_signed(&h, (int8_t)c);
    } else {
        head_wide(&h, c, (size_t)(m->end - h.p));
    }
    size_t left = h.type == MP_INVALID ? 0 : (size_t)(m->end - h.p);
    bool payload = h.type == MP_STR || h.type == MP_BIN || h.type == MP_EXT || h.type == MP_ARRAY;
    if ((payload && h.u > left) || (h.type == MP_MAP && h.u > left / 2)) {
        h.type = MP_INVALID;
    }
    return h;
}

mp_type mp_peek(const struct mp *m)
{
    return head_at(m).type;
}

bool mp_done(const struct mp *m)
{
    return m->p >= m->end;
}

gw_err mp_read_nil(struct mp *m)
{
    struct head h = head_at(m);
    if (h.type != MP_NIL) {
        return GW_EPROTO;
    }
    m->p = h.p;
    return GW_OK;
}

gw_err mp_read_bool(struct mp *m, bool *ret)
{
    struct head h = head_at(m);
    if (h.type != MP_BOOL) {
        return GW_EPROTO;
    }
    *ret = h.u != 0;
    m->p = h.p;
    return GW_OK;
}

gw_err mp_read_int(struct mp *m, int64_t *ret)
{
    struct head h = head_at(m);
    if (h.type != MP_INT && (h.type != MP_UINT || h.u > INT64_MAX)) {
        return GW_EPROTO;
    }
    *ret = (int64_t)h.u;
    m->p = h.p;
    return GW_OK;
}

gw_err mp_read_uint(struct mp *m, uint64_t *ret)
{
    struct head h = head_at(m);
    if (h.type != MP_UINT) {
        return GW_EPROTO;
    }
    *ret = h.u;
    m->p = h.p;
    return GW_OK;
}

gw_err mp_read_u32(struct mp *m, uint32_t *ret)
{
    struct head h = head_at(m);
    if (h.type != MP_UINT || h.u > UINT32_MAX) {
        return GW_EPROTO;
    }
    *ret = (uint32_t)h.u;
    m->p = h.p;
    return GW_OK;
}

gw_err mp_read_float(struct mp *m, double *ret)
{
    struct head h = head_at(m);
    if (h.type == MP_FLOAT) {
        *ret = h.f;
    } else if (h.type == MP_UINT) {
        *ret = (double)h.u;
    } else if (h.type == MP_INT) {
        *ret = (double)h.i;
    } else {
        return GW_EPROTO;
    }
    m->p = h.p;
    return GW_OK;
}

static gw_err read_payload(struct mp *m, mp_type type, struct span *ret)
{
    struct head h = head_at(m);
    if (h.type != type) {
        return GW_EPROTO;
    }
    *ret = (struct span){h.p, (size_t)h.u};
    m->p = h.p + h.u;
    return GW_OK;
}

gw_err mp_read_str(struct mp *m, struct span *ret)
{
    return read_payload(m, MP_STR, ret);
}

gw_err mp_read_bin(struct mp *m, struct span *ret)
{
    return read_payload(m, MP_BIN, ret);
}

static gw_err read_ext(struct mp *m, int8_t ext, void *ret, size_t n)
{
    struct head h = head_at(m);
    if (h.type != MP_EXT || h.ext != ext || h.u != n) {
        return GW_EPROTO;
    }
    memcpy(ret, h.p, n);
    m->p = h.p + n;
    return GW_OK;
}

gw_err mp_read_id(struct mp *m, gw_id *ret)
{
    return read_ext(m, MP_EXT_ID, ret->b, GW_ID_BYTES);
}

gw_err mp_read_time(struct mp *m, gw_time *ret)
{
    uint8_t raw[8];
    GW_TRY(read_ext(m, MP_EXT_TIME, raw, sizeof raw));
    ret->ms = (int64_t)load_u64(raw);
    return GW_OK;
}

static gw_err read_count(struct mp *m, mp_type type, size_t *ret)
{
    struct head h = head_at(m);
    if (h.type != type) {
        return GW_EPROTO;
    }
    *ret = (size_t)h.u;
    m->p = h.p;
    return GW_OK;
}

gw_err mp_read_array(struct mp *m, size_t *ret_count)
{
    return read_count(m, MP_ARRAY, ret_count);
}

gw_err mp_read_map(struct mp *m, size_t *ret_pairs)
{
    return read_count(m, MP_MAP, ret_pairs);
}

gw_err mp_read_text(struct mp *m, char *ret, size_t cap)
{
    struct mp at = *m;
    struct span s;
    GW_TRY(mp_read_str(&at, &s));
    if (!span_text(s, ret, cap)) {
        return GW_EPROTO;
    }
    *m = at;
    return GW_OK;
}

gw_err mp_read_text_or_nil(struct mp *m, char *ret, size_t cap)
{
    if (mp_peek(m) == MP_NIL) {
        ret[0] = '\0';
        return mp_read_nil(m);
    }
    return mp_read_text(m, ret, cap);
}

gw_err mp_read_fixed(struct mp *m, void *ret, size_t n)
{
    struct mp at = *m;
    struct span s;
    GW_TRY(mp_read_bin(&at, &s));
    if (s.n != n) {
        return GW_EPROTO;
    }
    memcpy(ret, s.p, n);
    *m = at;
    return GW_OK;
}

static gw_err skip(struct mp *m, unsigned depth)
{
    struct head h = head_at(m);
    bool nests = h.type == MP_ARRAY || h.type == MP_MAP;
    if (h.type == MP_END || h.type == MP_INVALID || (nests && depth >= LIMIT_DEPTH)) {
        return GW_EPROTO;
    }
    m->p = h.p;
    if (h.type == MP_STR || h.type == MP_BIN || h.type == MP_EXT) {
        m->p += h.u;
    } else if (nests) {
        uint64_t n = h.type == MP_MAP ? h.u * 2 : h.u;
        for (uint64_t i = 0; i < n; i++) {
            GW_TRY(skip(m, depth + 1));
        }
    }
    return GW_OK;
}

gw_err mp_skip(struct mp *m, struct span *ret_raw)
{
    struct mp at = *m;
    GW_TRY(skip(&at, 0));
    if (ret_raw) {
        *ret_raw = (struct span){m->p, (size_t)(at.p - m->p)};
    }
    *m = at;
    return GW_OK;
}

gw_err mp_skip_n(struct mp *m, size_t n)
{
    struct mp at = *m;
    for (size_t i = 0; i < n; i++) {
        GW_TRY(mp_skip(&at, NULL));
    }
    *m = at;
    return GW_OK;
}
