/* What a message carries with it besides its arguments: priority, deadline, trace context.
 *
 * A deadline is a moment of this host's monotonic clock while it is in memory. It crosses links and
 * goes to runners as the milliseconds that are left (`left`, clocks differ), stands in rows as a
 * wall time of the host that owns the row, and in tickets as what is left again. A trace crosses as
 * `traceparent` and `tracestate` (protocol/trace.h): what arrives is the sender's span, and each
 * piece of work is a span of its own under it. n->trace is the span that is at work at this moment:
 * events, moves and hooks that come from it take it from there. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- traces ---- */

/* Never all zero, which would be none. */
static void fresh(struct node *n, uint8_t *ret, size_t len)
{
    static const uint8_t zero[TRACE_ID_BYTES];
    do {
        node_random(n, ret, len);
    } while (memcmp(ret, zero, len) == 0);
}

struct trace trace_new(struct node *n)
{
    struct trace t = {0};
    fresh(n, t.id, sizeof t.id);
    fresh(n, t.span, sizeof t.span);
    return t;
}

struct trace trace_child(struct node *n, const struct trace *of)
{
    struct trace t = *of;
    if (trace_is_none(&t)) {
        return trace_new(n);
    }
    fresh(n, t.span, sizeof t.span);
    return t;
}

struct trace trace_enter(struct node *n, const struct trace *t)
{
    struct trace before = n->trace;
    n->trace = *t;
    return before;
}

/* ---- deadlines ---- */

static int64_t now_us(const struct node *n)
{
    return n->env->mono_us(n->env->ctx);
}

bool carry_is_late(const struct node *n, const struct carry *c)
{
    return c->deadline_us != 0 && now_us(n) >= c->deadline_us;
}

/* Never 0: that is none. */
static int64_t deadline_in(const struct node *n, int64_t left_ms)
{
    int64_t most = LIMIT_DEADLINE_MS;
    int64_t at = now_us(n) + (left_ms < most ? left_ms : most) * 1000;
    return at ? at : 1;
}

void carry_set_left(const struct node *n, struct carry *c, int64_t left_ms)
{
    c->deadline_us = left_ms > 0 ? deadline_in(n, left_ms) : 0;
}

/* At least 1: what is sent on has something left. */
static int64_t left_ms(const struct node *n, int64_t deadline_us)
{
    int64_t left = (deadline_us - now_us(n)) / 1000;
    return left > 0 ? left : 1;
}

int64_t call_left_ms(const struct node *n, const struct op_call *call, int64_t fallback_ms)
{
    return call->deadline_us ? left_ms(n, call->deadline_us) : fallback_ms;
}

/* The nearer one of what the caller has left and what this call may take; GW_ETIMEOUT when either
 * is nothing. */
static gw_err take_deadline(struct node *n, struct op_call *call, struct gw_error *why)
{
    const gw_value *sources[] = {gw_map_get(&call->context, "left"),
                                 gw_map_get(&call->args, "timeout")};
    for (size_t i = 0; i < 2; i++) {
        const gw_value *v = sources[i];
        if (!v || v->kind != GW_INT) {
            continue;
        }
        if (v->i <= 0) {
            return gw_fail(why, GW_ETIMEOUT,
                           "the deadline of the call lies in the past (%lld ms are left): nothing "
                           "was done",
                           (long long)v->i);
        }
        int64_t at = deadline_in(n, v->i);
        if (!call->deadline_us || at < call->deadline_us) {
            call->deadline_us = at;
        }
    }
    return GW_OK;
}

/* ---- calls ---- */

static struct span text_of(const gw_value *map, const char *key)
{
    const gw_value *v = gw_map_get(map, key);
    return v && v->kind == GW_STR ? (struct span){(const uint8_t *)v->s.p, v->s.n}
                                  : (struct span){0};
}

static char *text_dup(struct span s)
{
    char *text = xcalloc(s.n + 1, 1);
    memcpy(text, s.p, s.n);
    return text;
}

static struct span state_of(const struct op_call *call)
{
    struct span state = text_of(&call->context, "tracestate");
    struct trace parent;
    return state.n > 0 && trace_parse(text_of(&call->context, "traceparent"), &parent) == GW_OK &&
                   trace_state_is_valid(state)
               ? state
               : (struct span){0};
}

gw_err call_begin(struct node *n, struct op_call *call, struct gw_error *why)
{
    if (call->begun) { /* run again: it waits for something */
        if (call->deadline_us && now_us(n) >= call->deadline_us) {
            return gw_fail(why, GW_ETIMEOUT, "the agent did not become ready in time");
        }
        return GW_OK;
    }
    GW_TRY(take_deadline(n, call, why));
    call->begun = true;
    if (trace_parse(text_of(&call->context, "traceparent"), &call->trace) != GW_OK) {
        call->trace = call->op->role == ROLE_VIEWER || call->op->role == ROLE_NONE
                          ? (struct trace){0} /* looks at something, does nothing */
                          : trace_new(n);
    }
    return GW_OK;
}

void carry_of_call(struct node *n, const struct op_call *call, struct carry *ret)
{
    struct span state = state_of(call);
    ret->priority = (uint8_t)gw_map_int(&call->args, "priority", PRIORITY_NORMAL);
    ret->deadline_us = call->deadline_us;
    if (memcmp(ret->trace.id, call->trace.id, TRACE_ID_BYTES) != 0) {
        ret->trace = trace_child(n, &call->trace);
    }
    free(ret->state);
    ret->state = state.n > 0 ? text_dup(state) : NULL;
    struct span topic = text_of(&call->args, "topic");
    free(ret->topic);
    ret->topic = topic.n > 0 && strcmp(call->op->name, "accept") == 0 ? text_dup(topic) : NULL;
}

void carry_clear(struct carry *c)
{
    free(c->state);
    free(c->topic);
    c->state = c->topic = NULL;
}

/* ---- contexts: members of the maps of CALL and RUN ---- */

static void pack_members(struct buf *out, struct span state, int64_t left)
{
    if (state.n > 0) {
        mp_str(out, "tracestate");
        mp_strn(out, (const char *)state.p, state.n);
    }
    if (left > 0) {
        mp_str(out, "left");
        mp_int(out, left);
    }
}

size_t carry_members(const struct carry *c)
{
    return (size_t)!trace_is_none(&c->trace) + (c->state != NULL) + (c->deadline_us != 0) +
           (c->topic != NULL);
}

void carry_pack_members(const struct node *n, const struct carry *c, struct buf *out)
{
    struct span state = {(const uint8_t *)c->state, c->state ? strlen(c->state) : 0};
    if (!trace_is_none(&c->trace)) { /* text is made of it where it is asked for */
        mp_str(out, "trace");
        trace_pack(&c->trace, out);
    }
    pack_members(out, state, c->deadline_us ? left_ms(n, c->deadline_us) : 0);
    if (c->topic) {
        mp_str(out, "topic");
        mp_str(out, c->topic);
    }
}

size_t call_members(const struct op_call *call)
{
    return (size_t)!trace_is_none(&call->trace) + (state_of(call).n > 0) + (call->deadline_us != 0);
}

void call_pack_members(const struct node *n, const struct op_call *call, struct buf *out)
{
    char text[TRACE_TEXT];
    if (!trace_is_none(&call->trace)) {
        mp_str(out, "traceparent");
        mp_str(out, trace_text(&call->trace, text));
    }
    pack_members(out, state_of(call), call->deadline_us ? left_ms(n, call->deadline_us) : 0);
}

gw_err carry_to_context(const struct node *n, const struct carry *c, gw_value *context)
{
    char text[TRACE_TEXT];
    if (!trace_is_none(&c->trace)) {
        GW_TRY(gw_map_set(context, "traceparent", gw_str(trace_text(&c->trace, text))));
    }
    if (c->state) {
        GW_TRY(gw_map_set(context, "tracestate", gw_str(c->state)));
    }
    return c->deadline_us ? gw_map_set(context, "left", gw_int(left_ms(n, c->deadline_us))) : GW_OK;
}

/* ---- rows: the last CARRY_FIELDS members of the rows of inbox and outbox ---- */

void carry_put(const struct node *n, const struct carry *c, struct buf *out)
{
    mp_uint(out, c->priority);
    mp_int(out, c->deadline_us ? node_now_ms(n) + (c->deadline_us - now_us(n)) / 1000 : 0);
    trace_pack(&c->trace, out);
    mp_str(out, c->state);
    mp_str(out, c->topic);
}

gw_err carry_read(struct node *n, struct mp *m, struct carry *ret)
{
    struct carry c = {0};
    uint32_t priority;
    int64_t at_ms;
    struct span state = {0};
    char topic[LIMIT_NAME_BYTES + 1];
    GW_TRY(mp_read_u32(m, &priority));
    GW_TRY(mp_read_int(m, &at_ms));
    GW_TRY(trace_unpack(m, &c.trace));
    if (mp_peek(m) == MP_NIL) {
        GW_TRY(mp_read_nil(m));
    } else {
        GW_TRY(mp_read_str(m, &state));
    }
    GW_TRY(mp_read_text_or_nil(m, topic, sizeof topic));
    if (priority > PRIORITY_MOST) {
        return GW_EPROTO;
    }
    c.priority = (uint8_t)priority;
    if (at_ms != 0) {
        int64_t left = at_ms - node_now_ms(n);
        c.deadline_us = left > 0 ? deadline_in(n, left) : 1; /* 1 µs after the start: passed */
    }
    if (trace_is_none(&c.trace)) {
        c.trace = ret->trace;
    }
    c.topic = name_is_valid(topic) ? xstrdup(topic) : NULL;
    c.state = trace_state_is_valid(state) ? text_dup(state) : NULL;
    carry_clear(ret);
    *ret = c;
    return GW_OK;
}

gw_err carry_shift(struct span row, int64_t by_ms, struct buf *out)
{
    struct mp m = mp_over(row);
    size_t fields;
    struct span head;
    int64_t at_ms;
    GW_TRY(mp_read_array(&m, &fields));
    if (fields <= CARRY_FIELDS) {
        return GW_OK; /* of an older host */
    }
    GW_TRY(mp_skip_n(&m, fields - CARRY_FIELDS + 1)); /* the priority, too */
    head = (struct span){row.p, (size_t)(m.p - row.p)};
    GW_TRY(mp_read_int(&m, &at_ms));
    if (at_ms == 0) {
        return GW_OK;
    }
    if (at_ms < -LIMIT_DEADLINE_MS || at_ms > INT64_MAX / 2) {
        return GW_EPROTO;
    }
    at_ms += by_ms;
    buf_add(out, head.p, head.n);
    mp_int(out, at_ms ? at_ms : -1);
    buf_add(out, m.p, (size_t)(m.end - m.p));
    return buf_ok(out) ? GW_OK : GW_ENOMEM;
}
