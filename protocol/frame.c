#include "protocol/frame.h"

static const struct {
    uint32_t number;
    frame_class cls;
    const char *name;
} kinds[] = {
#define FRAME_KIND(name, number, cls, fields) {number, CLASS_##cls, #name},
#include "protocol/kinds.def"
#undef FRAME_KIND
};
#define KINDS (sizeof kinds / sizeof kinds[0])

size_t frame_begin(struct buf *b, frame_kind kind, uint64_t stream, size_t n_fields)
{
    size_t at = b->len;
    buf_add_u32(b, 0);
    mp_array(b, 2 + n_fields);
    mp_uint(b, kind);
    mp_uint(b, stream);
    return at;
}

void frame_end(struct buf *b, size_t at)
{
    if (buf_ok(b)) {
        buf_put_u32(b, at, (uint32_t)(b->len - at - 4));
    }
}

gw_err frame_parse(struct span raw, struct frame *ret)
{
    struct frame f = {.raw = raw, .rest = mp_over(raw)};
    size_t n;
    GW_TRY(mp_read_array(&f.rest, &n));
    if (n < 2) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_u32(&f.rest, &f.kind));
    GW_TRY(mp_read_uint(&f.rest, &f.stream));
    f.fields = n - 2;
    *ret = f;
    return GW_OK;
}

gw_err frame_take(struct span *in, size_t max_bytes, struct frame *ret)
{
    if (in->n < 4) {
        return GW_EAGAIN;
    }
    size_t len = load_u32(in->p);
    if (len == 0 || len > max_bytes) {
        return GW_EPROTO;
    }
    if (in->n - 4 < len) {
        return GW_EAGAIN;
    }
    GW_TRY(frame_parse((struct span){in->p + 4, len}, ret));
    in->p += 4 + len;
    in->n -= 4 + len;
    return GW_OK;
}

const char *frame_kind_name(uint32_t kind)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (kinds[i].number == kind) {
            return kinds[i].name;
        }
    }
    return "?";
}

frame_class frame_kind_class(uint32_t kind)
{
    for (size_t i = 0; i < KINDS; i++) {
        if (kinds[i].number == kind) {
            return kinds[i].cls;
        }
    }
    return CLASS_MESSAGE;
}

void frame_reply(struct buf *b, uint64_t stream, gw_err code, struct span value,
                 const struct gw_error *why)
{
    size_t at = frame_begin(b, FRAME_REPLY, stream, 4);
    mp_uint(b, code);
    if (value.n > 0) {
        buf_add(b, value.p, value.n);
    } else {
        mp_nil(b);
    }
    mp_str(b, code != GW_OK && why ? why->text : NULL);
    mp_str(b, code != GW_OK && why && why->hint[0] ? why->hint : NULL);
    frame_end(b, at);
}
