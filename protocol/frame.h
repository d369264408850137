/* Frames: the one wire form of peer links, client links and runner sockets.
 *
 * Shape: u32 length (big-endian, bytes, itself excluded) | msgpack array [kind, stream, ...]. What
 * follows kind and stream is listed in protocol/kinds.def and PROTOCOL.md 3. Unknown kinds are
 * answered (calls) or ignored (others); unknown trailing fields are ignored. */
#ifndef PROTOCOL_FRAME_H
#define PROTOCOL_FRAME_H

#include "protocol/base/mp.h"

#define PROTOCOL_VERSION 1

typedef enum frame_class { CLASS_CONTROL, CLASS_MESSAGE, CLASS_BULK, CLASS_COUNT } frame_class;

typedef enum frame_kind {
#define FRAME_KIND(name, number, cls, fields) FRAME_##name = number,
#include "protocol/kinds.def"
#undef FRAME_KIND
} frame_kind;

struct frame {
    uint32_t kind;   /* a frame_kind, or a number this build does not know */
    uint64_t stream; /* 0 = none */
    struct mp rest;  /* cursor over the fields after stream */
    size_t fields;   /* how many */
    struct span raw; /* the msgpack array, without the length */
};

/* Start a frame in an empty or filled buffer: room for the length, array of 2 + n, kind, stream.
 * Returns the offset to give to frame_end. */
size_t frame_begin(struct buf *b, frame_kind kind, uint64_t stream, size_t n_fields);
void frame_end(struct buf *b, size_t at);
/* Take the frame at the start of `in` (in->p moves behind it only on GW_OK).
 * Errors: GW_EAGAIN more bytes needed; GW_EPROTO length 0, larger than max_bytes, or not an array
 * [uint, uint, ...] (caller closes). The frame borrows from `in`. */
gw_err frame_take(struct span *in, size_t max_bytes, struct frame *ret) GW_MUST_USE;
/* Read the array of one frame (without the length). */
gw_err frame_parse(struct span raw, struct frame *ret) GW_MUST_USE;
const char *frame_kind_name(uint32_t kind); /* "RUN"; "?" when unknown */
frame_class frame_kind_class(uint32_t kind);

/* Append a whole REPLY. `value` is one packed element, or empty for nil. */
void frame_reply(struct buf *b, uint64_t stream, gw_err code, struct span value,
                 const struct gw_error *why);

/* --- runner frames: hooks and flags --- */
typedef enum frame_hook {
    HOOK_METHOD = 0,
    HOOK_CREATE,
    HOOK_DISPATCH,
    HOOK_ARRIVE,
    HOOK_CLONE,
    HOOK_RETRACT,
    HOOK_DEACTIVATE,
    HOOK_ACTIVATE,
    HOOK_DISPOSE,
    HOOK_TIMER,
    HOOK_RUN,
    HOOK_DOWN,
    HOOK_NONE, /* no handler: load and answer (with RUN_SNAPSHOT: pack) */
    HOOK_COUNT
} frame_hook;
#define RUN_TEXT_ARGS 1u  /* string arguments are as typed on a command line */
#define RUN_SNAPSHOT  2u  /* answer all parts, not only changed ones */
#define RUN_DISCARD   4u  /* drop the object afterwards: the result lives in the answer only */
#define RUN_ANSWER    8u  /* of an ask: arguments that the method does not have are left out */
#define RUN_TOLD      16u /* nobody waits for the reply */
#define DONE_READ     1u  /* a GW_READ method, or nothing changed: no commit is needed */

#endif
