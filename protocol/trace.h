/* Trace context: which request a piece of work belongs to, across hosts and other people's tools.
 *
 * Form and rules are those of the W3C recommendation "Trace Context", level 1
 * (https://www.w3.org/TR/trace-context-1/): `traceparent` is version, trace id, parent id and flags
 * in lower-case hex, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; `tracestate` is a
 * list of key=value of other systems, passed on as it came. What does not fit the form to the
 * letter is ignored as a whole, never repaired (section 4: "the vendor MUST ignore"). */
#ifndef PROTOCOL_TRACE_H
#define PROTOCOL_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/base/mp.h"

#define TRACE_ID_BYTES   16
#define TRACE_SPAN_BYTES 8
#define TRACE_RAW_BYTES  (TRACE_ID_BYTES + TRACE_SPAN_BYTES + 1)
#define TRACE_TEXT       56   /* traceparent and NUL */
#define TRACE_SAMPLED    0x01 /* the one flag of level 1; others are dropped (section 3.2.2.5) */

/* All-zero: none. */
struct trace {
    uint8_t id[TRACE_ID_BYTES];
    uint8_t span[TRACE_SPAN_BYTES];
    uint8_t flags;
};

bool trace_is_none(const struct trace *t);
/* A traceparent; of a later version what level 1 knows of it. GW_EPROTO: not well formed, or an id
 * of zeros. */
gw_err trace_parse(struct span text, struct trace *ret) GW_MUST_USE;
const char *trace_text(const struct trace *t, char ret[TRACE_TEXT]);
/* A tracestate that may be passed on: at most LIMIT_TRACE_STATE_BYTES, 32 members, no key twice. */
bool trace_state_is_valid(struct span text);

/* As it stands in rows: bin of TRACE_RAW_BYTES, nil for none. */
void trace_pack(const struct trace *t, struct buf *out);
/* Those bytes; half a trace (an id of zeros) is none. */
void trace_of_bytes(const uint8_t raw[TRACE_RAW_BYTES], struct trace *ret);
/* GW_EPROTO: neither; half a trace (an id of zeros) reads as none. */
gw_err trace_unpack(struct mp *m, struct trace *ret) GW_MUST_USE;

#endif
