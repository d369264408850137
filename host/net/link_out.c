/* Writing of links: a queue per class, small frames of a turn gathered into one write, large frames
 * of peer links cut into fragments that take turns. */
#include <stdlib.h>
#include <string.h>

#include "host/net/link_private.h"
#include "protocol/limits.h"

#define GATHER_BYTES  (64u * 1024)  /* small frames are gathered up to this */
#define SMALL_BYTES   (16u * 1024)  /* larger ones are written from where they are */
#define TURN_BYTES    (512u * 1024) /* written of one link before the others have their turn */
#define FRAGMENT_ROOM 32u           /* length, array, kind, stream, last, bin: at most 26 bytes */

void link_out_init(struct link_out *o)
{
    TAILQ_INIT(&o->control);
    TAILQ_INIT(&o->messages);
    TAILQ_INIT(&o->bulk);
    TAILQ_INIT(&o->begun);
}

static void chunk_free(struct out_chunk *c)
{
    if (c) {
        buf_free(&c->data);
        free(c);
    }
}

static void queue_clear(struct out_queue *q)
{
    struct out_chunk *c;
    while ((c = TAILQ_FIRST(q))) {
        TAILQ_REMOVE(q, c, next);
        chunk_free(c);
    }
}

void link_out_deinit(struct link_out *o)
{
    queue_clear(&o->control);
    queue_clear(&o->messages);
    queue_clear(&o->bulk);
    queue_clear(&o->begun);
    chunk_free(o->cur);
    o->cur = NULL;
}

static bool gathers(const struct out_chunk *to, size_t more)
{
    return more <= SMALL_BYTES && to->data.len + more <= GATHER_BYTES;
}

static void push(struct out_queue *q, struct buf *frame)
{
    struct out_chunk *last = TAILQ_LAST(q, out_queue);
    if (last && gathers(last, frame->len) && buf_reserve(&last->data, frame->len)) {
        buf_add(&last->data, frame->data, frame->len);
        buf_free(frame);
        return;
    }
    struct out_chunk *c = xcalloc(1, sizeof *c);
    if (last) {
        last->data.failed = false; /* a failed growth left its bytes whole */
    }
    c->data = buf_take(frame);
    TAILQ_INSERT_TAIL(q, c, next);
}

static frame_class class_of(const struct buf *frame)
{
    struct frame f;
    gw_err err = frame_parse((struct span){frame->data + 4, frame->len - 4}, &f);
    gw_assert(err == GW_OK);
    return frame_kind_class(f.kind);
}

void link_out_queue(struct link *l, struct buf *frame)
{
    struct link_out *o = &l->out;
    if (l->kind == LINK_PEER && frame->len - 4 > LIMIT_FRAGMENT_BYTES) {
        struct out_chunk *c = xcalloc(1, sizeof *c);
        c->data = buf_take(frame);
        c->at = 4; /* the length is that of the fragments now */
        o->queued += c->data.len - 4;
        TAILQ_INSERT_TAIL(&o->bulk, c, next);
        return;
    }
    o->queued += frame->len;
    switch (class_of(frame)) {
    case CLASS_CONTROL: push(&o->control, frame); break;
    default: push(&o->messages, frame); break;
    }
}

/* Begin fragmented frames as far as the other side's limits allow. */
static void begin_bulk(struct link_out *o)
{
    struct out_chunk *c;
    while ((c = TAILQ_FIRST(&o->bulk)) && o->begun_count < LIMIT_LINK_FRAGMENTED &&
           (o->begun_count == 0 || o->begun_bytes + c->data.len <= LIMIT_LINK_REASSEMBLY_BYTES)) {
        TAILQ_REMOVE(&o->bulk, c, next);
        c->stream = ++o->last_fragmented;
        o->begun_count++;
        o->begun_bytes += c->data.len;
        TAILQ_INSERT_TAIL(&o->begun, c, next);
    }
}

/* The next fragment of the frames in turn. */
static struct out_chunk *next_fragment(struct link_out *o)
{
    begin_bulk(o);
    struct out_chunk *c = TAILQ_FIRST(&o->begun);
    if (!c) {
        return NULL;
    }
    size_t left = c->data.len - c->at;
    /* With its head one fragment fills whole TLS records. */
    size_t most = LIMIT_FRAGMENT_BYTES - FRAGMENT_ROOM;
    size_t n = left < most ? left : most;
    struct out_chunk *f = xcalloc(1, sizeof *f);
    (void)buf_reserve(&f->data, n + FRAGMENT_ROOM);
    size_t at = frame_begin(&f->data, FRAME_FRAGMENT, c->stream, 2);
    mp_bool(&f->data, n == left);
    mp_bin(&f->data, c->data.data + c->at, n);
    frame_end(&f->data, at);
    if (!buf_ok(&f->data)) {
        chunk_free(f);
        return NULL; /* tried again in a later turn */
    }
    c->at += n;
    o->queued += f->data.len - n;
    TAILQ_REMOVE(&o->begun, c, next);
    if (c->at == c->data.len) {
        o->begun_count--;
        o->begun_bytes -= c->data.len;
        chunk_free(c);
    } else {
        TAILQ_INSERT_TAIL(&o->begun, c, next);
    }
    return f;
}

/* Append the head of `q` to what is about to be written, while it is small. */
static void gather(struct out_chunk *to, struct out_queue *q)
{
    struct out_chunk *c;
    while ((c = TAILQ_FIRST(q)) && c->data.len <= GATHER_BYTES &&
           to->data.len + c->data.len <= GATHER_BYTES && buf_reserve(&to->data, c->data.len)) {
        TAILQ_REMOVE(q, c, next);
        buf_add(&to->data, c->data.data, c->data.len);
        chunk_free(c);
    }
    to->data.failed = false;
}

static struct out_chunk *pop(struct out_queue *q)
{
    struct out_chunk *c = TAILQ_FIRST(q);
    if (c) {
        TAILQ_REMOVE(q, c, next);
    }
    return c;
}

static struct out_chunk *next_chunk(struct link_out *o)
{
    struct out_chunk *c = pop(&o->control);
    if (c) {
        gather(c, &o->messages);
        return c;
    }
    c = pop(&o->messages);
    return c ? c : next_fragment(o);
}

static void wait_for_socket(struct link *l, bool wait)
{
    bool writable = wait && !l->io.write_wants_read;
    l->out.waiting = wait;
    if (writable) {
        event_add(&l->ev_write, NULL);
    } else if (!l->io.read_wants_write) {
        event_del(&l->ev_write);
    }
}

void link_out_flush(struct link *l)
{
    struct link_out *o = &l->out;
    size_t written = 0;
    while (o->queued > 0 && written < TURN_BYTES) {
        if (!o->cur && !(o->cur = next_chunk(o))) {
            break;
        }
        struct out_chunk *c = o->cur;
        size_t n = 0;
        stream_result r = stream_write(&l->io, c->data.data + c->at, c->data.len - c->at, &n);
        if (r == STREAM_AGAIN) {
            break;
        }
        if (r != STREAM_OK) {
            link_lost(l,
                      r == STREAM_ERROR && l->io.why[0] ? l->io.why : "closed by the other side");
            return;
        }
        c->at += n;
        o->queued -= n;
        written += n;
        if (c->at == c->data.len) {
            o->cur = NULL;
            chunk_free(c);
        }
    }
    if (o->waiting != (o->queued > 0) || o->queued > 0) {
        wait_for_socket(l, o->queued > 0);
    }
}
