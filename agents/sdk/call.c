/* Verbs of a handler about itself: who and where, arguments, reply, log. */
#include "agents/sdk/call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "protocol/trace.h"
#include "protocol/value.h"

gw_err run_parse(const struct frame *frame, struct run *ret, struct gw_error *why)
{
    struct run *r = ret;
    struct mp m = frame->rest;
    gw_err err = frame->fields < 10 ? GW_EPROTO : GW_OK;
    *r = (struct run){.type = r->type_room, .method = r->method_room};
    if (err != GW_OK || (err = mp_read_id(&m, &r->agent)) != GW_OK ||
        (err = mp_read_text(&m, r->type_room, sizeof r->type_room)) != GW_OK ||
        (err = mp_read_uint(&m, &r->epoch)) != GW_OK ||
        (err = mp_read_u32(&m, &r->hook)) != GW_OK ||
        (err = mp_read_text_or_nil(&m, r->method_room, sizeof r->method_room)) != GW_OK) {
        return gw_fail(why, err, "the frame RUN is malformed");
    }
    if (mp_peek(&m) == MP_NIL) {
        err = mp_read_nil(&m);
    } else {
        err = mp_read_bin(&m, &r->args);
    }
    if (err != GW_OK || (err = mp_read_u32(&m, &r->flags)) != GW_OK) {
        return gw_fail(why, err, "the arguments or flags of the frame RUN are malformed");
    }
    err = mp_peek(&m) == MP_NIL ? mp_read_nil(&m) : mp_read_fixed(&m, r->key, sizeof r->key);
    if (err != GW_OK) {
        return gw_fail(why, err, "the key of the frame RUN is malformed");
    }
    r->has_parts = mp_peek(&m) != MP_NIL;
    if (mp_skip(&m, &r->parts) != GW_OK || mp_skip(&m, &r->context) != GW_OK ||
        r->hook >= HOOK_COUNT) {
        return gw_fail(why, GW_EPROTO, "the parts, context or hook of the frame RUN are malformed");
    }
    return GW_OK;
}

void call_deinit(struct gw_call *call)
{
    futures_deinit(call);
    gw_value_free(&call->args);
    gw_value_free(&call->reply);
    gw_value_free(&call->context);
    gw_value_free(&call->files);
    buf_free(&call->actions);
    inline_asks_free(&call->thens);
    gw_strs_clear(&call->texts);
}

const gw_value *call_context(struct gw_call *call)
{
    if (!call->context_read) {
        call->context_read = true; /* one that does not decode is empty: every key is optional */
        const struct inline_run *given = call->run->given;
        struct buf packed = {0};
        gw_value v;
        if (given) {
            given->context(given->arg, &packed);
        }
        gw_err err = value_unpack_span(given ? buf_span(&packed) : call->run->context, &v);
        if (err == GW_OK) {
            call->context = v;
        } else if ((err == GW_ENOMEM || !buf_ok(&packed)) && call->bug.code == GW_OK) {
            gw_fail(&call->bug, GW_ENOMEM, "out of memory for what came with the message");
        }
        buf_free(&packed);
    }
    return &call->context;
}

bool call_reads(const struct gw_call *call)
{
    return call->method && call->method->def->flags & GW_READ;
}

/* --- who and where --- */

void *gw_state(struct gw_call *call)
{
    return call->state->obj;
}

gw_id gw_self(const struct gw_call *call)
{
    return call->run->agent;
}

const char *gw_type_name(const struct gw_call *call)
{
    return call->run->type;
}

const char *gw_method_name(const struct gw_call *call)
{
    return call->run->hook == HOOK_METHOD ? call->run->method : "";
}

const char *gw_timer_name(const struct gw_call *call)
{
    return call->run->hook == HOOK_TIMER ? call->run->method : ""; /* RUN names it there */
}

uint64_t gw_epoch(const struct gw_call *call)
{
    return call->run->epoch;
}

const char *gw_host_name(struct gw_call *call)
{
    return gw_map_str(call_context(call), "host", "");
}

const char *gw_host_id(struct gw_call *call)
{
    return gw_map_str(call_context(call), "host_id", "");
}

const char *gw_home(struct gw_call *call)
{
    return gw_map_str(call_context(call), "home", "");
}

const char *gw_from(struct gw_call *call)
{
    return gw_map_str(call_context(call), "from", "");
}

const char *gw_reason(struct gw_call *call)
{
    if (call->run->hook == HOOK_DOWN) {
        return gw_map_str(&call->args, "reason", "");
    }
    return gw_map_str(call_context(call), "reason", "");
}

gw_id gw_sender(struct gw_call *call)
{
    if (call->run->given) {
        return *call->run->given->sender;
    }
    const gw_value *v = gw_map_get(call_context(call), "sender");
    return v && v->kind == GW_ID ? v->id : (gw_id){0};
}

gw_time gw_now(struct gw_call *call)
{
    if (call->io->now_ms) {
        return (gw_time){call->io->now_ms(call->io_ctx)};
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (gw_time){(int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000};
}

int64_t call_clock_ms(const struct engine_io *io, void *io_ctx)
{
    struct timespec now;
    if (io->now_ms) {
        return io->now_ms(io_ctx);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t gw_deadline_left_ms(struct gw_call *call)
{
    const gw_value *left = gw_map_get(call_context(call), "left");
    if (!left || left->kind != GW_INT) {
        return GW_NO_DEADLINE;
    }
    int64_t used = call_clock_ms(call->io, call->io_ctx) - call->begun_ms;
    return left->i > used ? left->i - used : 0;
}

const char *gw_topic(struct gw_call *call)
{
    return gw_map_str(call_context(call), "topic", "");
}

const char *gw_trace(struct gw_call *call)
{
    const gw_value *raw = gw_map_get(call_context(call), "trace");
    struct trace t;
    if (!call->trace[0] && raw && raw->kind == GW_BYTES && raw->s.n == TRACE_RAW_BYTES) {
        trace_of_bytes((const uint8_t *)raw->s.p, &t);
        if (!trace_is_none(&t)) {
            (void)trace_text(&t, call->trace);
        }
    }
    return call->trace;
}

/* --- failing and logging --- */

gw_err gw_call_fail(struct gw_call *call, gw_err code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    call->why.code = code;
    vsnprintf(call->why.text, sizeof call->why.text, fmt, ap);
    call->why.hint[0] = '\0';
    va_end(ap);
    return code;
}

struct gw_error *gw_call_why(struct gw_call *call)
{
    return &call->why;
}

void gw_log(struct gw_call *call, gw_log_level level, const char *fmt, ...)
{
    if (!call->io->log) {
        return;
    }
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    call->io->log(call->io_ctx, &call->run->agent, level, text, gw_trace(call));
}

/* --- arguments --- */

static void bug(struct gw_call *call, const char *fmt, const char *name, const char *more)
{
    if (call->bug.code == GW_OK) {
        gw_fail(&call->bug, GW_EARG, fmt, name, more);
    }
}

bool call_is_param(const struct gw_call *call, const char *name)
{
    const gw_value *params = &call->method->params;
    for (size_t i = 0; params->kind == GW_LIST && i < params->list.n; i++) {
        if (strcmp(params->list.items[i].s.p, name) == 0) {
            return true;
        }
    }
    return false;
}

const gw_value *gw_arg_value(struct gw_call *call, const char *name)
{
    const gw_value *v = gw_map_get(&call->args, name);
    if (!v && call->method && !call_is_param(call, name)) {
        bug(call, "the handler asks for an argument \"%s\" that its signature does not have%s",
            name, "");
    }
    return v;
}

const gw_value *gw_args_value(struct gw_call *call)
{
    return &call->args;
}

bool gw_has_arg(struct gw_call *call, const char *name)
{
    const gw_value *v = gw_arg_value(call, name);
    return v && v->kind != GW_NIL;
}

/* The argument if it is of that kind; NULL when absent; another kind is the author's bug. */
static const gw_value *typed(struct gw_call *call, const char *name, gw_kind kind, const char *word)
{
    const gw_value *v = gw_arg_value(call, name);
    if (!v || v->kind == GW_NIL) {
        return NULL;
    }
    if (v->kind != kind) {
        bug(call, "the handler asks for the argument \"%s\" as %s, which it is not", name, word);
        return NULL;
    }
    return v;
}

int64_t gw_arg_int(struct gw_call *call, const char *name)
{
    const gw_value *v = typed(call, name, GW_INT, "int");
    return v ? v->i : 0;
}

uint64_t gw_arg_uint(struct gw_call *call, const char *name)
{
    const gw_value *v = gw_arg_value(call, name);
    if (v && v->kind == GW_UINT) {
        return v->u;
    }
    v = typed(call, name, GW_INT, "uint");
    if (v && v->i < 0) {
        bug(call, "the handler asks for the argument \"%s\" as %s, but it is negative", name,
            "uint");
        return 0;
    }
    return v ? (uint64_t)v->i : 0;
}

bool gw_arg_bool(struct gw_call *call, const char *name)
{
    const gw_value *v = typed(call, name, GW_BOOL, "bool");
    return v && v->b;
}

double gw_arg_float(struct gw_call *call, const char *name)
{
    const gw_value *v = gw_arg_value(call, name);
    if (v && v->kind == GW_INT) {
        return (double)v->i;
    }
    v = typed(call, name, GW_FLOAT, "float");
    return v ? v->f : 0;
}

const char *gw_arg_str(struct gw_call *call, const char *name)
{
    const gw_value *v = typed(call, name, GW_STR, "string");
    return v ? v->s.p : "";
}

const uint8_t *gw_arg_bytes(struct gw_call *call, const char *name, size_t *ret_len)
{
    const gw_value *v = typed(call, name, GW_BYTES, "bytes");
    *ret_len = v ? v->s.n : 0;
    return v ? (const uint8_t *)v->s.p : NULL;
}

gw_id gw_arg_id(struct gw_call *call, const char *name)
{
    const gw_value *v = typed(call, name, GW_ID, "agent");
    return v ? v->id : (gw_id){0};
}

gw_time gw_arg_time(struct gw_call *call, const char *name)
{
    const gw_value *v = typed(call, name, GW_TIME, "time");
    return v ? v->time : (gw_time){0};
}

/* --- reply --- */

gw_err gw_reply_value(struct gw_call *call, const char *name, gw_value v)
{
    return gw_map_set(&call->reply, name, v);
}

gw_err gw_reply_int(struct gw_call *call, const char *name, int64_t v)
{
    return gw_reply_value(call, name, gw_int(v));
}

gw_err gw_reply_uint(struct gw_call *call, const char *name, uint64_t v)
{
    return gw_reply_value(call, name, gw_uint(v));
}

gw_err gw_reply_bool(struct gw_call *call, const char *name, bool v)
{
    return gw_reply_value(call, name, gw_bool(v));
}

gw_err gw_reply_float(struct gw_call *call, const char *name, double v)
{
    return gw_reply_value(call, name, gw_float(v));
}

gw_err gw_reply_str(struct gw_call *call, const char *name, const char *v)
{
    gw_value text = {0};
    GW_TRY(gw_value_set_str(&text, v ? v : "", v ? strlen(v) : 0));
    return gw_reply_value(call, name, text);
}

gw_err gw_reply_strs(struct gw_call *call, const char *name, const gw_strs *v)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < v->len; i++) {
        gw_value text = {0};
        err = gw_value_set_str(&text, v->items[i], strlen(v->items[i]));
        if (err == GW_OK) {
            err = gw_list_add(&list, text);
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    return gw_reply_value(call, name, list);
}

gw_err gw_reply_bytes(struct gw_call *call, const char *name, const void *data, size_t len)
{
    gw_value bytes = {0};
    GW_TRY(gw_value_set_bytes(&bytes, data, len));
    return gw_reply_value(call, name, bytes);
}

gw_err gw_reply_id(struct gw_call *call, const char *name, gw_id v)
{
    return gw_reply_value(call, name, gw_id_value(&v));
}

gw_err gw_reply_time(struct gw_call *call, const char *name, gw_time v)
{
    return gw_reply_value(call, name, gw_time_value(v));
}
