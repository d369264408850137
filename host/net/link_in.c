/* Reading of links. Small frames are parsed straight out of a shared scratch buffer, so that an
 * idle link holds no input memory and a batch of frames costs one read; only the beginning of a
 * frame that is not whole is kept. Large frames are read straight into their own memory, which
 * doubles with bytes received. */
#include <stdlib.h>
#include <string.h>

#include "host/net/link_private.h"
#include "protocol/limits.h"

#define SCRATCH_BYTES    (256u * 1024)
#define TURN_BYTES       (1024u * 1024) /* read of one link before the others have their turn */
#define DIRECT_BYTES     (16u * 1024)   /* larger frames are read into their own memory */
#define GROW_BYTES       (64u * 1024)
#define KEEP_BYTES       (256u * 1024) /* input memory that a link keeps between large frames */
#define TLS_RECORD_BYTES (16u * 1024)

static bool is_known(uint32_t kind)
{
    switch (kind) {
#define FRAME_KIND(name, number, cls, fields) case number:
#include "protocol/kinds.def"
#undef FRAME_KIND
        return true;
    default: return false;
    }
}

static void answer_unknown(struct link *l, const struct frame *f)
{
    struct gw_error why = {0};
    (void)gw_fail(&why, GW_ENOT_SUPPORTED, "frame kind %u is not known here", f->kind);
    struct buf b = {0};
    frame_reply(&b, f->stream, why.code, (struct span){0}, &why);
    link_send(l, &b);
}

static void answer_ping(struct link *l, const struct frame *f)
{
    struct buf b = {0};
    frame_end(&b, frame_begin(&b, FRAME_PONG, f->stream, 0));
    link_send(l, &b);
}

static void take_fragment(struct link *l, const struct frame *f)
{
    if (l->kind != LINK_PEER) {
        link_lost(l, "protocol error: a fragment on a link without fragments");
        return;
    }
    struct gw_error why = {0};
    struct buf whole;
    gw_err err = reassembly_add(&l->fragments, f, &whole, &why);
    if (err == GW_EAGAIN) {
        return;
    }
    if (err != GW_OK) {
        link_lostf(l, "protocol error: %s", why.text);
        return;
    }
    struct frame inner;
    if (frame_parse(buf_span(&whole), &inner) != GW_OK || inner.kind == FRAME_FRAGMENT) {
        link_lost(l, "protocol error: fragments that make no frame");
    } else {
        (void)link_in_deliver(l, &inner);
    }
    buf_free(&whole);
}

bool link_in_deliver(struct link *l, const struct frame *f)
{
    if (l->state != LINK_OPEN) {
        return false;
    }
    switch (f->kind) {
    case FRAME_PING: answer_ping(l, f); break;
    case FRAME_PONG: break;
    case FRAME_FRAGMENT: take_fragment(l, f); break;
    default:
        if (!is_known(f->kind)) {
            if (f->stream != 0) {
                answer_unknown(l, f);
            }
        } else if (l->ops) {
            l->ops->on_frame(l->arg, l, f);
        }
    }
    return l->state == LINK_OPEN;
}

/* Deliver all whole frames at the start of `in`; false when the link is over. */
static bool deliver_all(struct link *l, struct span *in)
{
    size_t max = link_max_frame_bytes(l->kind);
    for (;;) {
        struct frame f;
        gw_err err = frame_take(in, max, &f);
        if (err == GW_EAGAIN) {
            return true;
        }
        if (err != GW_OK) {
            if (in->n >= 4 && load_u32(in->p) > max) {
                link_lostf(l, "protocol error: a frame of %u bytes", load_u32(in->p));
            } else {
                link_lost(l, "protocol error: not a frame");
            }
            return false;
        }
        if (!link_in_deliver(l, &f)) {
            return false;
        }
    }
}

static uint8_t *scratch(void)
{
    static _Thread_local uint8_t *memory;
    if (!memory) {
        memory = xcalloc(1, SCRATCH_BYTES);
    }
    return memory;
}

/* Keep the beginning of a frame for the next read. */
static void keep(struct link *l, struct span rest)
{
    buf_reset(&l->in);
    buf_add(&l->in, rest.p, rest.n);
    l->in_need = rest.n >= 4 ? 4 + (size_t)load_u32(rest.p) : 0;
    if (!buf_ok(&l->in)) {
        link_lost(l, "out of memory");
    }
}

static void ended(struct link *l, stream_result r)
{
    if (r == STREAM_ERROR) {
        link_lost(l, l->io.why[0] ? l->io.why : "broken");
    } else if (r == STREAM_EOF) {
        link_lost(l, "closed by the other side");
    }
}

/* Whether another read can find more without waiting: saves a read(2) per message that finds
 * nothing. */
static bool may_have_more(const struct link *l, size_t got, size_t room)
{
    return l->io.ssl ? got == TLS_RECORD_BYTES || stream_has_pending(&l->io) : got == room;
}

/* Fill the scratch buffer, deliver, keep the rest. Returns bytes read; *ret_more: try again. */
static size_t read_batch(struct link *l, bool *ret_more)
{
    uint8_t *to = scratch();
    size_t kept = l->in.len, have = kept, n = 0;
    if (kept > 0) {
        memcpy(to, l->in.data, kept);
    }
    stream_result r;
    for (;;) {
        r = stream_read(&l->io, to + have, SCRATCH_BYTES - have, &n);
        if (r != STREAM_OK) {
            break;
        }
        bool more = may_have_more(l, n, SCRATCH_BYTES - have);
        have += n;
        *ret_more = more;
        if (!more || have == SCRATCH_BYTES) {
            break;
        }
    }
    if (r != STREAM_OK) {
        *ret_more = false;
    }
    if (have > kept) {
        struct span in = {to, have};
        if (deliver_all(l, &in)) {
            keep(l, in);
        }
    }
    ended(l, r);
    return have - kept;
}

/* Read on into the memory of one large frame; deliver it when it is whole. */
static size_t read_direct(struct link *l, bool *ret_more)
{
    size_t want = l->in_need - l->in.len;
    size_t room = l->in.len > GROW_BYTES ? l->in.len : GROW_BYTES;
    room = room < want ? room : want;
    if (l->in.cap - l->in.len < room && !buf_reserve(&l->in, room)) {
        link_lost(l, "out of memory");
        return 0;
    }
    room = l->in.cap - l->in.len < want ? l->in.cap - l->in.len : want;
    size_t n = 0;
    stream_result r = stream_read(&l->io, l->in.data + l->in.len, room, &n);
    *ret_more = r == STREAM_OK && may_have_more(l, n, room);
    if (r != STREAM_OK) {
        ended(l, r);
        return 0;
    }
    l->in.len += n;
    if (l->in.len == l->in_need) {
        struct buf whole = buf_take(&l->in);
        struct span in = buf_span(&whole);
        l->in_need = 0;
        *ret_more = true;
        if (deliver_all(l, &in) && whole.cap <= KEEP_BYTES && l->in.cap == 0) {
            l->in = whole;
            buf_reset(&l->in);
        } else {
            buf_free(&whole);
        }
    }
    return n;
}

/* After link_close with flush: what comes is dropped, its end is awaited. */
static void read_drop(struct link *l)
{
    size_t n, total = 0;
    stream_result r = STREAM_AGAIN;
    while (total < TURN_BYTES) {
        r = stream_read(&l->io, scratch(), SCRATCH_BYTES, &n);
        if (r != STREAM_OK) {
            break;
        }
        total += n;
    }
    if (r == STREAM_EOF || r == STREAM_ERROR) {
        link_lost(l, l->reason);
    }
}

void link_in_read(struct link *l)
{
    if (l->state == LINK_DRAINING) {
        read_drop(l);
        return;
    }
    if (l->paused) {
        return;
    }
    if (l->in_need == 0 && l->in.len >= 4) { /* bytes from before the link was made */
        struct buf early = buf_take(&l->in);
        struct span in = buf_span(&early);
        if (deliver_all(l, &in)) {
            keep(l, in);
        }
        buf_free(&early);
    }
    size_t total = 0;
    bool more = true;
    while (more && l->state == LINK_OPEN && !l->paused && total < TURN_BYTES) {
        more = false;
        total += l->in_need > DIRECT_BYTES ? read_direct(l, &more) : read_batch(l, &more);
    }
    if (total > 0) {
        l->last_in_ms = link_now_ms();
    }
    if (l->state == LINK_OPEN) {
        if (l->io.read_wants_write && !event_pending(&l->ev_write, EV_WRITE, NULL)) {
            event_add(&l->ev_write, NULL);
        }
        if (!l->paused && (more || stream_has_pending(&l->io))) {
            struct timeval next_turn = {0, 0};
            l->read_again = true;
            event_add(&l->ev_turn, &next_turn);
        }
    }
}
