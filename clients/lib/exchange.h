/* One HTTP request with a body of any length either way, over a connection of its own to the host
 * of a client: what a link does not carry. Ctrl-C ends its waits as those of the client. One
 * thread.
 *
 *     exchange_open -> exchange_send ... -> exchange_answer -> exchange_read ... -> exchange_close
 *
 * A host may answer before it has taken the whole body: then sending ends at once, and is no
 * failure. */
#ifndef CLIENTS_LIB_EXCHANGE_H
#define CLIENTS_LIB_EXCHANGE_H

#include <godwit/client.h>

#include "protocol/base/buf.h"

#define EXCHANGE_CHUNKED UINT64_MAX /* of a body: its length is not known */

struct exchange;

struct exchange_request {
    const char *method, *path; /* with query, percent-encoded */
    const char *headers;       /* further lines ("A: b\r\n"), or NULL */
    uint64_t body_bytes;       /* or EXCHANGE_CHUNKED */
    bool expect;        /* wait until the host wants the body: it may be large, and not be wanted */
    int64_t silence_ms; /* so long nothing may happen: GW_ETIMEOUT */
};
/* Connects and sends the head. GW_EUNREACHABLE, GW_EBUSY; GW_ETIMEOUT, GW_ECANCELLED, GW_ENOMEM. */
gw_err exchange_open(struct gw_client *client, const struct exchange_request *request,
                     struct exchange **ret, struct gw_error *why) GW_MUST_USE;
/* A part of the body. GW_EUNREACHABLE: the connection broke, and nothing was answered. */
gw_err exchange_send(struct exchange *x, const void *data, size_t n,
                     struct gw_error *why) GW_MUST_USE;
bool exchange_is_answered(const struct exchange *x); /* the rest of the body is not wanted */
/* The end of the body, then the head of the answer. An error status is the host's own error. */
gw_err exchange_answer(struct exchange *x, struct gw_error *why) GW_MUST_USE;
/* A header of the answer, also of an error. False: it has none, or it does not fit. */
bool exchange_header(const struct exchange *x, const char *name, char *ret, size_t cap);
/* The next bytes of the answer's body, borrowed until the next call. GW_ENOT_FOUND: that was all;
 * GW_EUNREACHABLE: the connection ended before it. */
gw_err exchange_read(struct exchange *x, struct span *ret, struct gw_error *why) GW_MUST_USE;
/* The rest of the body as JSON; `ret` is replaced. */
gw_err exchange_value(struct exchange *x, gw_value *ret, struct gw_error *why) GW_MUST_USE;
void exchange_close(struct exchange *x); /* NULL allowed */

/* Sleep, unless Ctrl-C comes: GW_ECANCELLED. */
gw_err exchange_pause(struct gw_client *client, int64_t ms, struct gw_error *why) GW_MUST_USE;
/* Append text as a part of a query. */
void exchange_add_encoded(const char *text, struct buf *out);

#endif
