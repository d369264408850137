/* A client of a Godwit host: one connection, many calls in flight.
 *
 *     struct gw_client *client;
 *     struct gw_error why;
 *     gw_value result = gw_nil();
 *     if (gw_client_open(NULL, &client, &why) != GW_OK ||
 *         gw_client_create(client, "counter", NULL, -1, &result, &why) != GW_OK) {
 *         fprintf(stderr, "%s\n", why.text);
 *     }
 *
 * The operations are those of docs/operations.md; arguments and answers are maps. Agents are named
 * by id, by a unique ending of at least 4 characters, or by alias.
 *
 * Applied once: send, create, clone, dispatch and retract carry a request key (the caller's "key"
 * argument, or 16 random bytes as 32 hex digits). When the connection is lost, the client dials
 * once more and repeats such calls under the same key, and calls that only read or set a state
 * (status, show, activate …); the host answers a key that it knows from its record. What cannot be
 * repeated fails with GW_EUNREACHABLE.
 *
 * Threads: one at a time, except gw_client_interrupt. All calls block at most for their time-out;
 * SIGPIPE is never raised. Time-outs are milliseconds; GW_FOREVER waits without limit. */
#ifndef GODWIT_CLIENT_H
#define GODWIT_CLIENT_H

#include <godwit/types.h>

#define GW_KEY_TEXT 33 /* 32 hex digits and NUL */

struct gw_client;

/* How to reach a host; all-zero is a good default. Strings are copied. */
struct gw_client_options {
    /* NAME of a host (under `home`, or a member that a host under `home` knows), its host_id, or
     * "https://address:port". NULL: $GODWIT_HOST, else the one host that runs under `home`. */
    const char *host;
    const char *home;       /* NULL: $GODWIT_HOME, else ~/.godwit */
    const char *token_file; /* bearer token for a URL; NULL: the operator certificate of `home` */
    int64_t connect_ms;     /* for dialling and handshakes; 0: 10 s */
    int64_t retry_ms;       /* how long a lost connection is dialled again; 0: 3 s, < 0: never */
    /* The trace that all calls belong to, as the headers of W3C Trace Context; NULL, or what is not
     * well formed: the host begins a new one with each call. */
    const char *traceparent, *tracestate;
};

/* Connect. On GW_OK the client is the caller's, for gw_client_close.
 * Errors: GW_EUNREACHABLE nothing answers; GW_EAMBIGUOUS more than one host runs (the hint names
 * them); GW_EHOST_NOT_FOUND no such member; GW_EDENIED, GW_EUNAUTHENTICATED credentials;
 * GW_EIDENTITY the other end is not a host of this mesh; GW_EARG `host` is neither name, id nor
 * URL; GW_ETIMEOUT; GW_EPROTO. */
GW_API gw_err gw_client_open(const struct gw_client_options *options, struct gw_client **ret,
                             struct gw_error *why) GW_MUST_USE;
/* Open calls are dropped: a host goes on with what it has begun. NULL allowed. */
GW_API void gw_client_close(struct gw_client *client);
/* The blocking call that runs, or the next one, ends with GW_ECANCELLED. Async-signal-safe; any
 * thread. */
GW_API void gw_client_interrupt(struct gw_client *client);
/* The other end in words: `host "alpha"` or its URL. Borrowed until close. */
GW_API const char *gw_client_where(const struct gw_client *client);
/* Whether the connection is a unix socket of this machine. */
GW_API bool gw_client_is_local(const struct gw_client *client);

/* --- one call at a time --- */
/* Call an operation and wait for its answer.
 *   args  map, NULL or nil = none; borrowed
 *   ret   the answer, the caller's (its old content is freed); NULL = dropped; untouched on failure
 * Errors: those of the operation, with the host's words in `why`; GW_ETIMEOUT (the call is
 * cancelled: it may have been applied); GW_ECANCELLED interrupted; GW_EUNREACHABLE the connection
 * was lost and could not be made again (the hint names the key to repeat under); GW_EBUSY the host
 * was full to the end (calls that it turned away for that are tried again within the time-out);
 * GW_ETOO_BIG arguments above the limit of a frame, nothing was sent; GW_EPROTO the host broke the
 * protocol (the connection is closed). */
GW_API gw_err gw_client_call(struct gw_client *client, const char *op, const gw_value *args,
                             int64_t timeout_ms, gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* One item of a stream, borrowed for the call. false ends the stream. */
typedef bool gw_item_fn(void *arg, const gw_value *item);
/* Call an operation that streams (events, logs): on_item is called for each item, until the host
 * ends the stream, on_item says so (both GW_OK), or the time is over (GW_ETIMEOUT). on_item must
 * not use `client`. */
GW_API gw_err gw_client_stream(struct gw_client *client, const char *op, const gw_value *args,
                               int64_t timeout_ms, gw_item_fn *on_item, void *arg,
                               struct gw_error *why) GW_MUST_USE;

/* --- many calls in flight --- */
typedef uint64_t gw_ticket; /* one call of one client; never 0, never used again */

/* Queue a call: it leaves with the next gw_client_wait or gw_client_flush, many in one write.
 * Errors: GW_EBUSY 4,096 calls are open; GW_ETOO_BIG; GW_ENOMEM; GW_EUNREACHABLE, GW_ETIMEOUT when
 * a lost connection could not be made again. */
GW_API gw_err gw_client_start(struct gw_client *client, const char *op, const gw_value *args,
                              gw_ticket *ret, struct gw_error *why) GW_MUST_USE;
/* Write what is queued without waiting for answers. Errors as gw_client_wait. */
GW_API gw_err gw_client_flush(struct gw_client *client, int64_t timeout_ms,
                              struct gw_error *why) GW_MUST_USE;
/* Wait for an answer, in whatever order they come.
 *   ticket  in: the call to wait for, or 0 for any; out: the call that ended, 0 when none did
 *   ret     as in gw_client_call
 * With *ticket out non-zero the result is the call's own, and the call is over. With 0: GW_ETIMEOUT
 * (the calls stay open; timeout_ms 0 only looks), GW_ECANCELLED interrupted, GW_ENOT_FOUND no such
 * call, or none is open. */
GW_API gw_err gw_client_wait(struct gw_client *client, gw_ticket *ticket, int64_t timeout_ms,
                             gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* Wait until one of these calls has ended, well or not; gw_client_wait then takes it without
 * waiting. 0 and calls that are over are passed over. Errors: GW_ENOT_FOUND none is left;
 * GW_ETIMEOUT, GW_ECANCELLED: the calls stay open. */
GW_API gw_err gw_client_wait_any(struct gw_client *client, const gw_ticket *tickets, size_t n,
                                 int64_t timeout_ms, size_t *ret_index,
                                 struct gw_error *why) GW_MUST_USE;
/* Wait until all of them have ended, well or not. Errors: GW_ETIMEOUT, GW_ECANCELLED. */
GW_API gw_err gw_client_wait_all(struct gw_client *client, const gw_ticket *tickets, size_t n,
                                 int64_t timeout_ms, struct gw_error *why) GW_MUST_USE;
/* Tell the host that nobody waits any longer and forget the call. It may have been applied. A
 * ticket that is over already is ignored. */
GW_API void gw_client_cancel(struct gw_client *client, gw_ticket ticket);
/* Calls begun and not yet taken by gw_client_wait or cancelled. */
GW_API size_t gw_client_in_flight(const struct gw_client *client);
/* Wait until the host closes the connection (it is stopping); items and answers meanwhile are
 * dropped. Errors: GW_ETIMEOUT, GW_ECANCELLED. */
GW_API gw_err gw_client_wait_closed(struct gw_client *client, int64_t timeout_ms,
                                    struct gw_error *why) GW_MUST_USE;

/* --- the usual calls; errors and `ret` as in gw_client_call, NULL options = defaults. send,
 * dispatch, retract and clone tell the host their time-out and give its answer 250 ms more to
 * arrive. --- */
struct gw_create_options {
    const gw_value *state; /* map of fields; NULL = defaults of the type */
    const char *at;        /* selector of the host; NULL = the host that is asked */
    const char *alias;
    const char *key; /* request key; NULL = generated */
    bool text;       /* string values are as typed on a command line: the host types them */
};
/* {agent, type, host, epoch} */
GW_API gw_err gw_client_create(struct gw_client *client, const char *type,
                               const struct gw_create_options *options, int64_t timeout_ms,
                               gw_value *ret, struct gw_error *why) GW_MUST_USE;
struct gw_send_options {
    const gw_value *args; /* map; NULL = none */
    const char *key;
    int priority; /* 1 to 9, 0 = normal (5); the least urgent of all, 0, goes by gw_client_call */
    bool tell;    /* answered when the message is accepted, without a reply */
    bool no_wake; /* a sleeping agent is not woken: GW_EINACTIVE */
    bool text;
};
/* {reply, host, epoch} */
GW_API gw_err gw_client_send(struct gw_client *client, const char *agent, const char *method,
                             const struct gw_send_options *options, int64_t timeout_ms,
                             gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* The same without waiting: begins the call, for gw_client_wait, _wait_any and _wait_all.
 * timeout_ms is for the host only. Errors as of gw_client_start. */
GW_API gw_err gw_client_ask_async(struct gw_client *client, const char *agent, const char *method,
                                  const struct gw_send_options *options, int64_t timeout_ms,
                                  gw_ticket *ret, struct gw_error *why) GW_MUST_USE;
struct gw_move_options {
    const char *key;
    bool inactive;          /* arrive asleep */
    bool dry_run;           /* only say whether it would be done: {possible, code, reason, …} */
    const gw_strs *require; /* tags that the host must have; NULL = none */
};
/* {agent, host, epoch, ticket}; `to` is a selector. */
GW_API gw_err gw_client_dispatch(struct gw_client *client, const char *agent, const char *to,
                                 const struct gw_move_options *options, int64_t timeout_ms,
                                 gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* The same; `to` NULL = to the host that is asked. */
GW_API gw_err gw_client_retract(struct gw_client *client, const char *agent, const char *to,
                                const struct gw_move_options *options, int64_t timeout_ms,
                                gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* {agent: the new one, of, type, host, epoch}; `to` NULL = where the agent is. */
GW_API gw_err gw_client_clone(struct gw_client *client, const char *agent, const char *to,
                              const struct gw_move_options *options, int64_t timeout_ms,
                              gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* {agent, status, host, epoch} each. */
/* How it sleeps; what is not said, its on_deactivate or its type decides. */
struct gw_sleep_options {
    int64_t wake_after_ms; /* > 0: wakes by itself when so much time has passed */
    gw_time wake_at;       /* ms > 0: when the clock of its host shows this; not both */
    bool no_wake_on_message, wake_on_message; /* not both */
    bool at_start;                            /* wakes when its host starts */
};
/* `o` may be NULL. GW_EREFUSED: the agent will not sleep, and says why. */
GW_API gw_err gw_client_deactivate(struct gw_client *client, const char *agent,
                                   const struct gw_sleep_options *o, int64_t timeout_ms,
                                   gw_value *ret, struct gw_error *why) GW_MUST_USE;
GW_API gw_err gw_client_activate(struct gw_client *client, const char *agent, int64_t timeout_ms,
                                 gw_value *ret, struct gw_error *why) GW_MUST_USE;
GW_API gw_err gw_client_dispose(struct gw_client *client, const char *agent, int64_t timeout_ms,
                                gw_value *ret, struct gw_error *why) GW_MUST_USE;
/* Everything about one agent (docs/operations.md, row show). */
GW_API gw_err gw_client_show(struct gw_client *client, const char *agent, int64_t timeout_ms,
                             gw_value *ret, struct gw_error *why) GW_MUST_USE;

/* A fresh request key. GW_EIO when the system has no random bytes to give. */
GW_API gw_err gw_client_make_key(char ret[GW_KEY_TEXT]) GW_MUST_USE;

/* --- what stands on this machine's disk; no host needs to run --- */
/* The home that is used for `home` (NULL: $GODWIT_HOME, else ~/.godwit). GW_EARG too long, or there
 * is neither; ret holds `cap` bytes. */
GW_API gw_err gw_home_path(const char *home, char *ret, size_t cap,
                           struct gw_error *why) GW_MUST_USE;
/* {home, mesh_id, signer, ca_expires, operator_expires, hosts: [{name, running, expires}]}; the
 * times are nil where no certificate can be read, mesh_id is nil when the home has no mesh. */
GW_API gw_err gw_home_status(const char *home, gw_value *ret, struct gw_error *why) GW_MUST_USE;

#endif
