#include "protocol/trace.h"

#include <string.h>

#include "protocol/limits.h"

#define VERSION_0_BYTES 55
#define STATE_MEMBERS   32  /* section 3.3.1.1 */
#define STATE_KEY_MAX   256 /* section 3.3.1.3.1 */
#define STATE_VALUE_MAX 256

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        any |= p[i];
    }
    return any == 0;
}

bool trace_is_none(const struct trace *t)
{
    return all_zero(t->id, sizeof t->id);
}

/* Lower case only (section 3.2: HEXDIGLC). */
static int digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex(const uint8_t *text, uint8_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

gw_err trace_parse(struct span text, struct trace *ret)
{
    struct trace t;
    uint8_t version;
    const uint8_t *p = text.p;
    if (text.n < VERSION_0_BYTES || !hex(p, &version, 1) || version == 0xff || p[2] != '-' ||
        !hex(p + 3, t.id, sizeof t.id) || p[35] != '-' || !hex(p + 36, t.span, sizeof t.span) ||
        p[52] != '-' || !hex(p + 53, &t.flags, 1)) {
        return GW_EPROTO;
    }
    /* A later version may go on behind a dash (section 4.3). */
    if (text.n > VERSION_0_BYTES && (version == 0 || p[VERSION_0_BYTES] != '-')) {
        return GW_EPROTO;
    }
    if (trace_is_none(&t) || all_zero(t.span, sizeof t.span)) {
        return GW_EPROTO;
    }
    t.flags &= TRACE_SAMPLED;
    *ret = t;
    return GW_OK;
}

static char *put_hex(char *at, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *at++ = digits[p[i] >> 4];
        *at++ = digits[p[i] & 15];
    }
    return at;
}

const char *trace_text(const struct trace *t, char ret[TRACE_TEXT])
{
    char *at = put_hex(ret, (const uint8_t[]){0}, 1);
    *at++ = '-';
    at = put_hex(at, t->id, sizeof t->id);
    *at++ = '-';
    at = put_hex(at, t->span, sizeof t->span);
    *at++ = '-';
    at = put_hex(at, &t->flags, 1);
    *at = '\0';
    return ret;
}

/* ---- tracestate ---- */

static bool key_is_valid(struct span key)
{
    if (key.n == 0 || key.n > STATE_KEY_MAX ||
        !((key.p[0] >= 'a' && key.p[0] <= 'z') || (key.p[0] >= '0' && key.p[0] <= '9'))) {
        return false;
    }
    for (size_t i = 1; i < key.n; i++) {
        uint8_t c = key.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("_-*/@", c)))) {
            return false;
        }
    }
    return true;
}

static bool value_is_valid(struct span value)
{
    if (value.n == 0 || value.n > STATE_VALUE_MAX || value.p[value.n - 1] == ' ') {
        return false;
    }
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < 0x20 || value.p[i] > 0x7e || value.p[i] == '=') {
            return false;
        }
    }
    return true;
}

static struct span trim(struct span s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) {
        s.n--;
    }
    return s;
}

bool trace_state_is_valid(struct span text)
{
    struct span keys[STATE_MEMBERS];
    size_t count = 0;
    if (text.n == 0 || text.n > LIMIT_TRACE_STATE_BYTES) {
        return false;
    }
    for (size_t at = 0; at <= text.n;) {
        const uint8_t *comma = memchr(text.p + at, ',', text.n - at);
        size_t end = comma ? (size_t)(comma - text.p) : text.n;
        struct span member = trim((struct span){text.p + at, end - at});
        at = end + 1;
        if (member.n == 0) {
            continue; /* empty members are allowed (section 3.3.1.2) */
        }
        const uint8_t *equal = memchr(member.p, '=', member.n);
        struct span key = {member.p, equal ? (size_t)(equal - member.p) : 0};
        if (count == STATE_MEMBERS || !equal || !key_is_valid(key) ||
            !value_is_valid((struct span){equal + 1, member.n - key.n - 1})) {
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            if (keys[i].n == key.n && memcmp(keys[i].p, key.p, key.n) == 0) {
                return false;
            }
        }
        keys[count++] = key;
    }
    return count > 0;
}

/* ---- rows ---- */

void trace_pack(const struct trace *t, struct buf *out)
{
    uint8_t raw[TRACE_RAW_BYTES];
    if (trace_is_none(t)) {
        mp_nil(out);
        return;
    }
    memcpy(raw, t->id, TRACE_ID_BYTES);
    memcpy(raw + TRACE_ID_BYTES, t->span, TRACE_SPAN_BYTES);
    raw[TRACE_RAW_BYTES - 1] = t->flags;
    mp_bin(out, raw, sizeof raw);
}

void trace_of_bytes(const uint8_t raw[TRACE_RAW_BYTES], struct trace *ret)
{
    struct trace t;
    memcpy(t.id, raw, TRACE_ID_BYTES);
    memcpy(t.span, raw + TRACE_ID_BYTES, TRACE_SPAN_BYTES);
    t.flags = raw[TRACE_RAW_BYTES - 1] & TRACE_SAMPLED;
    *ret = trace_is_none(&t) || all_zero(t.span, sizeof t.span) ? (struct trace){0} : t;
}

gw_err trace_unpack(struct mp *m, struct trace *ret)
{
    uint8_t raw[TRACE_RAW_BYTES];
    if (mp_peek(m) == MP_NIL) {
        *ret = (struct trace){0};
        return mp_read_nil(m);
    }
    GW_TRY(mp_read_fixed(m, raw, sizeof raw));
    trace_of_bytes(raw, ret);
    return GW_OK;
}
