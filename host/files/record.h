/* Records of a file session over a byte stream: what both ends say to each other, one at a time.
 *
 * On the wire: u32 length of the rest (big-endian) | u8 kind | body. The body of DATA is
 *     u8 flags | 32 bytes SHA-256 of the file up to and with this record | bytes
 * of every other kind a msgpack array, of which further members are ignored (newer peers add some).
 * PROTOCOL.md, 9, says who says what when.
 *
 * Who writes much (the sender) must take what comes while it waits for room, because its peer may
 * wait for room as well: it names a function that does. The other end writes little and just waits.
 * Bytes that wait to be written, and those of a record that has begun, are bounded by
 * RECORD_OUT_BYTES and the LIMIT_RECORD_ rows. One thread. */
#ifndef HOST_FILES_RECORD_H
#define HOST_FILES_RECORD_H

#include "host/files/io.h"
#include "host/files/progress.h"
#include "host/files/rate.h"
#include "protocol/base/mp.h"

/* Never reused. Members in brackets. */
typedef enum record_kind {
    /* Sender, once: [version, flags (record_open), destination (bin) or nil, [ticket, agent] or
     * nil, placing (sink.h)]. One of destination and ticket is nil. */
    RECORD_OPEN = 1,
    RECORD_OPENED = 2,    /* receiver: [version, placing, path (bin)] go on */
    RECORD_ENTRY = 3,     /* sender: [index, entry (entry.h)] */
    RECORD_VERDICT = 4,   /* receiver: [index, record_verdict, its chunks follow unasked (bool)] */
    RECORD_FAILED = 5,    /* receiver: [index, error (number), text, hint] this one is not made */
    RECORD_LIST = 6,      /* sender: [index] name the chunks of what you have of it */
    RECORD_BASIS = 7,     /* receiver: [index, basis, bin of n * 36 bytes, more follow (bool)] */
    RECORD_START = 8,     /* sender: [index] its content follows */
    RECORD_DATA = 9,      /* sender: bytes of it, see above */
    RECORD_COPY = 10,     /* sender: [basis, offset, length] bytes of it that the receiver has */
    RECORD_HOLE = 11,     /* sender: [length] zeros of it */
    RECORD_GIVE_UP = 12,  /* sender: [index] no more of this one; its index may be told again */
    RECORD_FLUSH = 13,    /* sender: [] the window is full of files that are not placed */
    RECORD_FINISH = 14,   /* sender: [] that was all */
    RECORD_FINISHED = 15, /* receiver: [files, bytes] all is on the disk */
    RECORD_ERROR = 16,    /* both: [error (number), text, hint] the session ends */
    RECORD_ALIVE = 17,    /* both: [] busy, but here */
} record_kind;

/* What becomes of an entry. WHOLE and BASIS ask for its content, the others are the last word. */
typedef enum record_verdict {
    VERDICT_SAME = 1,   /* it is there already */
    VERDICT_KEPT = 2,   /* what is there is newer, and stays */
    VERDICT_DONE = 3,   /* folder or link: made */
    VERDICT_WHOLE = 4,  /* file: send all of it */
    VERDICT_BASIS = 5,  /* file: there is something to build upon */
    VERDICT_PLACED = 6, /* file: visible and durable */
} record_verdict;

/* Flags of OPEN. */
typedef enum record_open {
    OPEN_ONE_SOURCE = 1, /* what is sent has one top */
    OPEN_OVERWRITE = 2,
    OPEN_UPDATE = 4,
    OPEN_VERIFY = 8,
    OPEN_DRY_RUN = 16,
    OPEN_ALL = 31,
} record_open;

/* A basis: what the receiver has of a file. */
#define BASIS_OLD   0 /* the file at the destination */
#define BASIS_REST  1 /* what an interrupted try left */
#define BASIS_COUNT 2

#define RECORD_VERSION      1
#define RECORD_HEAD_BYTES   5
#define RECORD_DIGEST_BYTES 32
#define RECORD_DATA_HEAD    (1 + RECORD_DIGEST_BYTES)
#define RECORD_DATA_BYTES   (1024u * 1024) /* content of one DATA record, before it is compressed */
#define RECORD_OUT_BYTES    (64u * 1024)   /* of small records that are written together */

/* Flags of DATA. */
#define RECORD_ZSTD 1u /* the bytes are one zstd frame */
#define RECORD_LAST 2u /* the file ends with them */

struct record {
    record_kind kind;
    struct span body; /* borrowed, valid until the next call that reads */
    struct mp fields; /* all kinds but DATA: a cursor behind the head of the array */
    size_t count;     /* members of it that are left */
};
struct record_data {
    uint8_t flags;
    const uint8_t *digest; /* RECORD_DIGEST_BYTES */
    struct span bytes;
};

struct record_io {
    struct bulk_io *io;
    struct progress *progress; /* NULL allowed; its flag ends every call with GW_ECANCELLED */
    struct rate limit;         /* of what is written */
    struct meter meter;        /* of how fast that goes */
    /* Called when bytes have come while a write waits; takes whole records by record_take, and
     * writes nothing. NULL: they wait. */
    gw_err (*on_input)(void *arg);
    void *arg;
    struct gw_error *why; /* filled when a call fails; NULL allowed */
    uint8_t *in;          /* owned */
    size_t in_at, in_len, in_cap;
    struct buf out;
    size_t begun;      /* where the record that is being made begins in `out` */
    int silence_ms;    /* without a byte either way, then a wait fails; the owner may change it */
    int64_t active_ns; /* when a byte last moved, either way */
    int64_t wrote_ns;  /* when the last one went out */
    bool torn;         /* a write failed in the middle: nothing can be said any more */
};

/* takes_data: this end reads DATA, and holds as much as one; else 150 KiB. GW_ENOMEM. */
gw_err record_init(struct record_io *r, struct bulk_io *io, bool takes_data,
                   struct progress *progress, struct gw_error *why) GW_MUST_USE;
void record_deinit(struct record_io *r);

/* --- writing --- */
/* A control record: begin, append `fields` members to the result, end. They go out together, at the
 * latest with record_flush or before a wait for input. */
struct buf *record_begin(struct record_io *r, record_kind kind, size_t fields);
gw_err record_end(struct record_io *r) GW_MUST_USE;
/* DATA. Large ones are written from where they are. */
gw_err record_data(struct record_io *r, uint8_t flags, const uint8_t digest[RECORD_DIGEST_BYTES],
                   const void *bytes, size_t n) GW_MUST_USE;
gw_err record_flush(struct record_io *r) GW_MUST_USE;
/* Say ALIVE when nothing went out for a while: called now and then by whoever computes for long. */
gw_err record_alive(struct record_io *r) GW_MUST_USE;
/* The same before there is a record_io. *at: when it was said last; rate_now_ns() to begin with. */
gw_err record_alive_over(struct bulk_io *io, int64_t *at, struct gw_error *why) GW_MUST_USE;
/* The last words of a session: the error, then what the peer still sends is read and forgotten
 * until it closes, but not for long. Nothing when the stream is broken. (Closing with unread input
 * would take the words back.) */
void record_farewell(struct record_io *r, gw_err code, const struct gw_error *why);

/* --- reading --- */
/* The next record that is whole already; GW_EAGAIN: none. GW_EPROTO: not a record, too long. ALIVE
 * is not shown. ERROR is: a failure with the code and text of the peer. */
gw_err record_take(struct record_io *r, struct record *ret) GW_MUST_USE;
/* The same, and wait for it: flushes first. GW_ETIMEOUT when no byte moves for silence_ms;
 * GW_EUNREACHABLE when the peer closes before. */
gw_err record_next(struct record_io *r, struct record *ret) GW_MUST_USE;
/* Read what is there without waiting, then call on_input. */
gw_err record_poll(struct record_io *r) GW_MUST_USE;
/* Read [error, text, hint] of a peer, as ERROR and FAILED have them; never GW_OK, never without a
 * text, fit for a screen. GW_EPROTO. */
gw_err record_parse_failure(struct mp *m, struct gw_error *ret) GW_MUST_USE;
/* Split the body of DATA; GW_EPROTO. */
gw_err record_parse_data(const struct record *rec, struct record_data *ret) GW_MUST_USE;

const char *record_kind_name(record_kind kind);

#endif
