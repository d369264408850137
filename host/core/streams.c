/* Marks of the streams of an agent: the last number that was accepted from another agent, or given
 * to it. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

static int compare_mark(const struct stream_mark *s, const gw_id *other, bool out)
{
    int c = memcmp(&s->other, other, sizeof *other);
    return c ? c : (int)s->out - (int)out;
}

/* Where it stands, or would stand. */
static size_t mark_place(const struct live *live, const gw_id *other, bool out)
{
    size_t low = 0, high = live->stream_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_mark(&live->streams[middle], other, out) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct stream_mark *stream_find(struct live *live, const gw_id *other, bool out)
{
    size_t at = mark_place(live, other, out);
    bool there = at < live->stream_count && compare_mark(&live->streams[at], other, out) == 0;
    return there ? &live->streams[at] : NULL;
}

struct stream_mark *stream_of(struct live *live, const gw_id *other, bool out)
{
    struct stream_mark *s = stream_find(live, other, out);
    if (s) {
        return s;
    }
    if (live->stream_count == live->stream_cap) {
        size_t cap = live->stream_cap ? live->stream_cap * 2 : 4;
        s = realloc(live->streams, cap * sizeof *s);
        if (!s) {
            log_die("memory", "out of memory for the streams of an agent");
        }
        live->streams = s;
        live->stream_cap = cap;
    }
    size_t at = mark_place(live, other, out);
    s = &live->streams[at];
    memmove(s + 1, s, (live->stream_count++ - at) * sizeof *s);
    *s = (struct stream_mark){.other = *other, .out = out};
    return s;
}

struct stream_mark *stream_next(struct live *live, const gw_id *other)
{
    static const gw_id nobody = {{0}};
    const struct stream_mark *base = stream_find(live, &nobody, true);
    uint64_t least = base ? base->mark : 0;
    struct stream_mark *s = stream_of(live, other, true);
    s->mark = (s->mark > least ? s->mark : least) + 1;
    return s;
}

void stream_put(struct store_batch *batch, const struct agent *a, const struct stream_mark *s)
{
    uint8_t raw[ROW_KEY_BYTES + STREAM_KEY_BYTES];
    struct buf value = {0};
    row_key(raw, &a->id, a->epoch);
    memcpy(raw + ROW_KEY_BYTES, s->other.b, GW_ID_BYTES);
    raw[ROW_KEY_BYTES + GW_ID_BYTES] = s->out ? STREAM_OUT : STREAM_IN;
    mp_uint(&value, s->mark);
    store_batch_put_take(batch, TABLE_STREAMS, (struct span){raw, sizeof raw}, &value);
    buf_free(&value);
}
