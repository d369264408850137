#include "host/net/reassembly.h"

/* The slot of a stream, or a free one, or -1 when all are taken. */
static int slot_of(const struct reassembly *r, uint64_t stream)
{
    int free_slot = -1;
    for (int i = 0; i < LIMIT_LINK_FRAGMENTED; i++) {
        if (r->open[i].stream == stream) {
            return i;
        }
        if (r->open[i].stream == 0 && free_slot < 0) {
            free_slot = i;
        }
    }
    return free_slot;
}

static gw_err read_fragment(const struct frame *f, bool *ret_last, struct span *ret_bytes,
                            struct gw_error *why)
{
    struct mp m = f->rest;
    if (f->fields < 2 || f->stream == 0 || mp_read_bool(&m, ret_last) != GW_OK ||
        mp_read_bin(&m, ret_bytes) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "a fragment is not [stream, last, bytes]");
    }
    if (ret_bytes->n > LIMIT_FRAGMENT_BYTES) {
        return gw_fail(why, GW_EPROTO, "a fragment of %zu bytes", ret_bytes->n);
    }
    if (ret_bytes->n == 0 && !*ret_last) {
        return gw_fail(why, GW_EPROTO, "a fragment without bytes");
    }
    return GW_OK;
}

gw_err reassembly_add(struct reassembly *r, const struct frame *fragment, struct buf *ret_whole,
                      struct gw_error *why)
{
    bool last;
    struct span bytes;
    GW_TRY(read_fragment(fragment, &last, &bytes, why));
    int i = slot_of(r, fragment->stream);
    if (i < 0) {
        return gw_fail(why, GW_EPROTO, "more than %d unfinished frames", LIMIT_LINK_FRAGMENTED);
    }
    struct buf *data = &r->open[i].data;
    if (data->len + bytes.n > LIMIT_MESSAGE_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "a fragmented frame is larger than %u bytes",
                       LIMIT_MESSAGE_BYTES);
    }
    if (r->bytes + bytes.n > LIMIT_LINK_REASSEMBLY_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "unfinished frames are larger than %u bytes together",
                       LIMIT_LINK_REASSEMBLY_BYTES);
    }
    buf_add(data, bytes.p, bytes.n);
    if (!buf_ok(data)) {
        return gw_fail(why, GW_ENOMEM, "no memory for a frame of %zu bytes", data->len + bytes.n);
    }
    r->open[i].stream = fragment->stream;
    r->bytes += bytes.n;
    if (!last) {
        return GW_EAGAIN;
    }
    r->bytes -= data->len;
    r->open[i].stream = 0;
    *ret_whole = buf_take(data);
    return GW_OK;
}

void reassembly_free(struct reassembly *r)
{
    for (int i = 0; i < LIMIT_LINK_FRAGMENTED; i++) {
        buf_free(&r->open[i].data);
    }
    *r = (struct reassembly){0};
}
