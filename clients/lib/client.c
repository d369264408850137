#include <godwit/client.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clients/lib/session.h"
#include "protocol/trace.h"

#define BUSY_PAUSE_MOST_MS 4000 /* between two tries at a host that is full */
#define CONNECT_MS         10000
#define RETRY_MS           3000

struct gw_client {
    struct session session;
};

struct session *client_session(struct gw_client *client)
{
    return &client->session;
}

/* Only what is well formed: others are as good as none (W3C Trace Context, section 4). */
static gw_err take_trace(struct session *s, const struct gw_client_options *o, struct gw_error *why)
{
    struct trace parent;
    struct span text = {(const uint8_t *)o->traceparent,
                        o->traceparent ? strlen(o->traceparent) : 0};
    struct span state = {(const uint8_t *)o->tracestate, o->tracestate ? strlen(o->tracestate) : 0};
    if (trace_parse(text, &parent) != GW_OK) {
        return GW_OK;
    }
    s->traceparent = strdup(o->traceparent);
    if (trace_state_is_valid(state)) {
        s->tracestate = strdup(o->tracestate);
    }
    return s->traceparent ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
}

static gw_err open_session(struct session *s, const struct gw_client_options *o,
                           struct gw_error *why)
{
    s->connect_ms = o->connect_ms > 0 ? o->connect_ms : CONNECT_MS;
    s->retry_ms = o->retry_ms ? o->retry_ms : RETRY_MS;
    int64_t deadline = conn_deadline(s->connect_ms);
    if (s->wake_fd < 0) {
        return gw_fail(why, GW_EIO, "cannot make a client: %s", strerror(errno));
    }
    GW_TRY(take_trace(s, o, why));
    GW_TRY(gw_home_path(o->home, s->home, sizeof s->home, why));
    if (o->token_file) {
        GW_TRY(file_token(o->token_file, s->token, why));
    }
    GW_TRY(find_host(s->home, o->host, &s->conn, &s->target, deadline, why));
    return session_dial(s, deadline, why);
}

gw_err gw_client_open(const struct gw_client_options *options, struct gw_client **ret,
                      struct gw_error *why)
{
    static const struct gw_client_options none;
    struct gw_client *client = malloc(sizeof *client);
    if (!client) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    session_init(&client->session);
    gw_err err = open_session(&client->session, options ? options : &none, why);
    if (err != GW_OK) {
        session_deinit(&client->session);
        free(client);
        return err;
    }
    *ret = client;
    return GW_OK;
}

void gw_client_close(struct gw_client *client)
{
    if (client) {
        session_push(&client->session);
        session_deinit(&client->session);
        free(client);
    }
}

void gw_client_interrupt(struct gw_client *client)
{
    session_interrupt(&client->session);
}

const char *gw_client_where(const struct gw_client *client)
{
    return client->session.target.text;
}

bool gw_client_is_local(const struct gw_client *client)
{
    return client->session.target.local;
}

size_t gw_client_in_flight(const struct gw_client *client)
{
    return client->session.calls.count;
}

/* ---- waiting ---- */

/* One step of waiting: take what has come, else wait for more. `late` begins as false. */
static gw_err step(struct session *s, int64_t deadline_ms, bool *late, struct gw_error *why)
{
    if (session_interrupted(s)) {
        return gw_fail(why, GW_ECANCELLED, "interrupted");
    }
    struct gw_error fault = {0};
    gw_err err = session_take_frame(s, &fault);
    if (err == GW_EAGAIN) {
        if (*late) { /* one look after the deadline; more would let a chatty host hold us */
            return gw_fail(why, GW_ETIMEOUT, "no answer in time");
        }
        *late = deadline_ms != CONN_NEVER && conn_now_ms() >= deadline_ms;
        err = session_exchange(s, deadline_ms, why);
        if (err == GW_ECANCELLED) {
            session_interrupted(s);
        }
        GW_TRY(err);
    } else if (err != GW_OK) {
        session_lost(s, &fault);
    }
    return GW_OK;
}

/* Until the call (by its number; 0 = any) is done or wants no more items. */
static gw_err await(struct session *s, gw_ticket ticket, int64_t deadline_ms, struct call **ret,
                    struct gw_error *why)
{
    for (bool late = false;;) {
        struct call *call = ticket ? calls_find(&s->calls, ticket) : TAILQ_FIRST(&s->calls.done);
        if (call && (call->done || call->stopped)) {
            *ret = call;
            return GW_OK;
        }
        if (ticket ? !call : s->calls.count == 0) {
            return gw_fail(why, GW_ENOT_FOUND, "no such call is in flight");
        }
        GW_TRY(step(s, deadline_ms, &late, why));
    }
}

/* Hand the outcome out and end the call. */
static gw_err take(struct session *s, struct call *call, gw_value *ret, struct gw_error *why)
{
    gw_err err = call->done ? call->code : GW_OK;
    if (err == GW_OK && ret) {
        gw_value_free(ret);
        *ret = call->value;
        call->value = gw_nil();
    }
    if (err != GW_OK && why) {
        *why = call->why;
    }
    if (call->done) {
        calls_remove(&s->calls, call);
    } else {
        session_cancel(s, call);
    }
    return err;
}

static gw_err start(struct gw_client *client, const char *op, const gw_value *args,
                    gw_item_fn *on_item, void *arg, struct call **ret, struct gw_error *why)
{
    struct session *s = &client->session;
    if (!conn_is_open(&s->conn) && TAILQ_EMPTY(&s->calls.open)) {
        gw_err err = session_dial(s, conn_deadline(s->connect_ms), why);
        if (err == GW_ECANCELLED) {
            session_interrupted(s);
        }
        GW_TRY(err);
    }
    return session_start(s, op, args, on_item, arg, ret, why);
}

/* One call from beginning to end, with words about the time-out. */
static gw_err run_call(struct gw_client *client, const char *op, const gw_value *args,
                       int64_t timeout_ms, gw_item_fn *on_item, void *arg, gw_value *ret,
                       int64_t *ret_retry_ms, struct gw_error *why)
{
    struct session *s = &client->session;
    struct call *call;
    GW_TRY(start(client, op, args, on_item, arg, &call, why));
    gw_ticket ticket = call->stream;
    gw_err err = await(s, ticket, conn_deadline(timeout_ms), &call, why);
    if (err == GW_OK) {
        if (call->done && call->code == GW_EBUSY && ret_retry_ms) {
            *ret_retry_ms = gw_map_int(&call->value, "retry_ms", 0);
        }
        return take(s, call, ret, why);
    }
    call = calls_find(&s->calls, ticket);
    if (call && err == GW_ETIMEOUT) {
        (void)gw_fail(why, err, "%s did not answer \"%s\" within %lld ms", s->target.text, call->op,
                      (long long)timeout_ms);
    }
    if (call && call->key[0]) {
        gw_hint(
            why,
            "it may have been applied; repeated under the same key it is applied once: --op-key %s",
            call->key);
    }
    if (call) {
        session_cancel(s, call);
    }
    return err;
}

/* A host that is full has said when to come again; it has done nothing. False: the time is over. */
static bool come_again(struct gw_client *client, int64_t deadline_ms, int64_t *pause_ms)
{
    int64_t until = conn_now_ms() + *pause_ms;
    *pause_ms = *pause_ms * 2 < BUSY_PAUSE_MOST_MS ? *pause_ms * 2 : BUSY_PAUSE_MOST_MS;
    return until < deadline_ms && conn_sleep(&client->session.conn, until, NULL) == GW_OK;
}

gw_err gw_client_call(struct gw_client *client, const char *op, const gw_value *args,
                      int64_t timeout_ms, gw_value *ret, struct gw_error *why)
{
    int64_t deadline_ms = conn_deadline(timeout_ms), left_ms = timeout_ms, pause_ms = 0;
    for (;;) {
        int64_t retry_ms = 0;
        gw_err err = run_call(client, op, args, left_ms, NULL, NULL, ret, &retry_ms, why);
        if (err != GW_EBUSY || retry_ms <= 0) {
            return err;
        }
        pause_ms = pause_ms ? pause_ms : retry_ms;
        if (!come_again(client, deadline_ms, &pause_ms)) {
            return err;
        }
        left_ms = timeout_ms < 0 ? timeout_ms : deadline_ms - conn_now_ms();
    }
}

gw_err gw_client_stream(struct gw_client *client, const char *op, const gw_value *args,
                        int64_t timeout_ms, gw_item_fn *on_item, void *arg, struct gw_error *why)
{
    return run_call(client, op, args, timeout_ms, on_item, arg, NULL, NULL, why);
}

gw_err gw_client_start(struct gw_client *client, const char *op, const gw_value *args,
                       gw_ticket *ret, struct gw_error *why)
{
    struct call *call;
    GW_TRY(start(client, op, args, NULL, NULL, &call, why));
    *ret = call->stream;
    return GW_OK;
}

gw_err gw_client_wait(struct gw_client *client, gw_ticket *ticket, int64_t timeout_ms,
                      gw_value *ret, struct gw_error *why)
{
    struct call *call;
    gw_ticket wanted = *ticket;
    *ticket = 0;
    GW_TRY(await(&client->session, wanted, conn_deadline(timeout_ms), &call, why));
    *ticket = call->stream;
    return take(&client->session, call, ret, why);
}

gw_err gw_client_wait_any(struct gw_client *client, const gw_ticket *tickets, size_t n,
                          int64_t timeout_ms, size_t *ret_index, struct gw_error *why)
{
    struct session *s = &client->session;
    int64_t deadline = conn_deadline(timeout_ms);
    for (bool late = false;;) {
        size_t open = 0;
        for (size_t i = 0; i < n; i++) {
            const struct call *call = tickets[i] ? calls_find(&s->calls, tickets[i]) : NULL;
            if (call && call->done) {
                *ret_index = i;
                return GW_OK;
            }
            open += call != NULL;
        }
        if (open == 0) {
            return gw_fail(why, GW_ENOT_FOUND, "none of these calls is in flight");
        }
        GW_TRY(step(s, deadline, &late, why));
    }
}

gw_err gw_client_wait_all(struct gw_client *client, const gw_ticket *tickets, size_t n,
                          int64_t timeout_ms, struct gw_error *why)
{
    struct session *s = &client->session;
    int64_t deadline = conn_deadline(timeout_ms);
    bool late = false;
    for (size_t i = 0; i < n;) {
        const struct call *call = tickets[i] ? calls_find(&s->calls, tickets[i]) : NULL;
        if (!call || call->done) {
            i++;
        } else {
            GW_TRY(step(s, deadline, &late, why));
        }
    }
    return GW_OK;
}

gw_err gw_client_flush(struct gw_client *client, int64_t timeout_ms, struct gw_error *why)
{
    struct session *s = &client->session;
    int64_t deadline = conn_deadline(timeout_ms);
    session_push(s);
    while (session_has_output(s) || (!conn_is_open(&s->conn) && !TAILQ_EMPTY(&s->calls.open))) {
        if (session_interrupted(s)) {
            return gw_fail(why, GW_ECANCELLED, "interrupted");
        }
        GW_TRY(
            session_exchange(s, deadline, why)); /* answers that come in stay for the next wait */
        session_push(s);
    }
    return GW_OK;
}

void gw_client_cancel(struct gw_client *client, gw_ticket ticket)
{
    struct call *call = calls_find(&client->session.calls, ticket);
    if (call) {
        session_cancel(&client->session, call);
    }
}

gw_err gw_client_wait_closed(struct gw_client *client, int64_t timeout_ms, struct gw_error *why)
{
    struct session *s = &client->session;
    int64_t deadline = conn_deadline(timeout_ms);
    session_push(s);
    while (conn_is_open(&s->conn)) {
        struct gw_error fault = {0};
        gw_err err = session_interrupted(s) ? gw_fail(why, GW_ECANCELLED, "interrupted") : GW_OK;
        GW_TRY(err);
        while (err == GW_OK) {
            err = session_take_frame(s, &fault);
        }
        if (err != GW_EAGAIN) {
            session_lost(s, &fault);
            break;
        }
        err = session_exchange(s, deadline, why);
        if (err == GW_ECANCELLED) {
            session_interrupted(s);
        }
        GW_TRY(err);
    }
    return GW_OK;
}

gw_err gw_client_make_key(char ret[GW_KEY_TEXT])
{
    uint8_t raw[(GW_KEY_TEXT - 1) / 2];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) {
        return GW_EIO;
    }
    for (size_t i = 0; i < sizeof raw; i++) {
        snprintf(ret + 2 * i, 3, "%02x", raw[i]);
    }
    return GW_OK;
}
