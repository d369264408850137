/* One link to a host as a client sees it: bytes in and out, frames, open calls, and what happens
 * when the connection is lost. client.c puts the public verbs on top.
 *
 *          dial ok                     lost, calls open that may be repeated
 *   down ----------> up ------------------------------------> down, retrying until retry_until_ms
 *     ^               |                                          |  dial ok: frames sent again, up
 *     '---------------'  lost, nothing to repeat                 '  time over: the calls fail, down
 *
 * A call is repeated once: when the second connection is lost too, it fails. One thread. */
#ifndef CLIENTS_LIB_SESSION_H
#define CLIENTS_LIB_SESSION_H

#include <stdatomic.h>

#include "clients/lib/call.h"
#include "clients/lib/find.h"

#define SESSION_RANDOM_BYTES 256

struct session {
    struct conn conn; /* closed = down */
    struct find_target target;
    char home[FILE_PATH_BYTES];
    char token[FILE_TOKEN_BYTES];   /* "" = none */
    struct tls *tls;                /* made with the first dial of a URL */
    char *traceparent, *tracestate; /* of every call, owned; NULL = none */
    struct buf in, out;
    size_t in_at, out_at; /* bytes already handled, already written */
    struct calls calls;
    int64_t connect_ms, retry_ms;
    int64_t retry_until_ms; /* while down with open calls */
    unsigned retries;
    int wake_fd;
    atomic_bool interrupted;
    uint8_t random[SESSION_RANDOM_BYTES]; /* for request keys; used from the end */
    size_t random_left;
};

/* Of a client, for what needs connections of its own (exchange.c). */
struct session *client_session(struct gw_client *client);
void session_init(struct session *s);
void session_deinit(struct session *s);
/* A connection to the target, not upgraded; the wake descriptor of `c` is kept. */
gw_err session_connect(struct session *s, struct conn *c, int64_t deadline_ms,
                       struct gw_error *why) GW_MUST_USE;
/* Connect (unless find_host has done so) and upgrade. Queues every open call again. */
gw_err session_dial(struct session *s, int64_t deadline_ms, struct gw_error *why) GW_MUST_USE;
/* Queue a new call. Errors as gw_client_start; the session must be up or retrying. */
gw_err session_start(struct session *s, const char *op, const gw_value *args, gw_item_fn *on_item,
                     void *arg, struct call **ret, struct gw_error *why) GW_MUST_USE;
/* Queue a CANCEL and forget the call. */
void session_cancel(struct session *s, struct call *call);
/* Handle one frame that has arrived. GW_EAGAIN none is whole; GW_EPROTO (the caller ends the
 * session with session_lost). */
gw_err session_take_frame(struct session *s, struct gw_error *why) GW_MUST_USE;
/* Write what is queued, wait, read: one step. A lost connection is not a failure here: calls end,
 * or are sent again by later steps. Errors: GW_ETIMEOUT, GW_ECANCELLED, GW_EIO, GW_ENOMEM. */
gw_err session_exchange(struct session *s, int64_t deadline_ms, struct gw_error *why) GW_MUST_USE;
/* Write what goes without waiting; losses are noticed later. */
void session_push(struct session *s);
bool session_has_output(const struct session *s);
/* The connection is of no use any more. GW_EPROTO: nothing is repeated. */
void session_lost(struct session *s, const struct gw_error *why);
/* Whether session_interrupt was called since the last time; clears it. */
bool session_interrupted(struct session *s);
void session_interrupt(struct session *s); /* async-signal-safe */

#endif
