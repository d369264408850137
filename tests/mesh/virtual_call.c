/* Operations at a virtual host: asked by the test, or by a peer with a CALL frame. */
#include "tests/mesh/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "protocol/json.h"
#include "protocol/value.h"

/* --- the door --- */
static void open_free(struct mesh_open *o)
{
    LIST_REMOVE(o, link);
    gw_value_free(&o->op.args);
    gw_value_free(&o->op.context);
    free(o);
}

/* Over whatever link there is by then: harder than life, where the answer of a lost link is lost,
 * too. */
static void answer_peer(struct mesh_open *o, gw_err err, const gw_value *result,
                        const struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf out = {0}, value = {0};
    if (result) {
        value_pack(result, &value);
    }
    frame_reply(&out, o->stream, err, buf_span(&value), why);
    vlink_send(o->host, &o->from->id, &out);
}

static void answer(struct op_call *op, gw_err err, gw_value *result, const struct gw_error *why)
{
    struct mesh_open *o = (struct mesh_open *)op;
    if (o->from) {
        answer_peer(o, err, result, why);
    } else if (o->call) {
        struct mesh_call *c = o->call;
        gw_assert(!c->done);
        c->done = true;
        c->done_us = o->host->mesh->now_us;
        c->open = NULL;
        c->err = o->host->dying ? GW_EUNREACHABLE : err;
        if (err == GW_OK && result) {
            c->value = *result;
            *result = gw_nil();
        }
        if (why) {
            c->why = *why;
        }
        mesh_note(o->host->mesh, "%s answers %s: %s%s%s", o->host->name, op->op->name,
                  gw_err_name(c->err), err != GW_OK && why ? ": " : "",
                  err != GW_OK && why ? why->text : "");
    }
    if (result) {
        gw_value_free(result);
    }
    open_free(o);
}

static bool item(struct op_call *op, const gw_value *value)
{
    struct mesh_open *o = (struct mesh_open *)op;
    if (o->call) {
        gw_value copy = gw_nil();
        return gw_value_copy(value, &copy) == GW_OK && gw_list_add(&o->call->items, copy) == GW_OK;
    }
    if (!o->from || o->cancelled) {
        return false;
    }
    GW_AUTO(buf_free) struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_ITEM, o->stream, 1);
    value_pack(value, &out);
    frame_end(&out, at);
    vlink_send(o->host, &o->from->id, &out);
    return true;
}

static void tell_gone(struct mesh_open *o)
{
    void (*on_gone)(void *) = o->op.on_gone;
    o->op.on_gone = NULL;
    if (on_gone) {
        on_gone(o->op.gone_arg);
    }
}

static void cancel(struct vhost *h, const struct vhost *from, uint64_t stream)
{
    struct mesh_open *o;
    LIST_FOREACH (o, &h->calls, link) {
        if (o->from == from && o->stream == stream && !o->cancelled) {
            o->cancelled = true;
            tell_gone(o);
            return;
        }
    }
}

void mesh_be_impatient(struct mesh *m)
{
    m->impatient = true;
}

/* Takes args and context. */
static void run_op(struct vhost *h, const char *name, gw_value *args, gw_value *context,
                   struct mesh_open seed)
{
    struct mesh_open *o = xcalloc(1, sizeof *o);
    *o = seed;
    o->host = h;
    o->op.op = op_find(name);
    o->op.args = *args;
    o->op.context = *context;
    o->op.role = seed.from ? ROLE_PEER : ROLE_ADMIN;
    o->op.peer = seed.from ? &seed.from->id : NULL;
    o->op.answer = answer;
    o->op.item = item;
    o->op.waits = seed.from || !h->mesh->impatient;
    o->op.bytes = 1000;
    LIST_INSERT_HEAD(&h->calls, o, link);
    if (o->call) {
        o->call->open = o;
    }
    struct gw_error why;
    if (!o->op.op) {
        static const struct op none = {.name = "?"};
        o->op.op = &none;
        gw_fail(&why, GW_ENOT_SUPPORTED, "no operation \"%s\"", name);
        op_fail(&o->op, &why);
    } else if (signature_check_args(op_signature(o->op.op), &o->op.args, false, &why) != GW_OK) {
        op_fail(&o->op, &why);
    } else {
        node_call(h->node, &o->op);
    }
}

static gw_err read_call(const struct frame *frame, char name[LIMIT_NAME_BYTES + 1], gw_value *args,
                        gw_value *context)
{
    struct mp m = frame->rest;
    GW_TRY(mp_read_text(&m, name, LIMIT_NAME_BYTES + 1));
    GW_TRY(value_unpack(&m, args));
    return frame->fields > 2 ? value_unpack(&m, context) : GW_OK;
}

void vcall_frame(struct vhost *h, struct vhost *from, const struct frame *frame)
{
    char name[LIMIT_NAME_BYTES + 1];
    gw_value args = gw_nil(), context = gw_nil();
    if (frame->kind != FRAME_CALL) {
        cancel(h, from, frame->stream);
        return;
    }
    if (read_call(frame, name, &args, &context) != GW_OK) {
        mesh_fail(h->mesh, "%s sent a CALL that does not parse", from->name);
    }
    run_op(h, name, &args, &context, (struct mesh_open){.from = from, .stream = frame->stream});
}

/* The node is gone: who still waits is told that the host is. */
void vcall_host_down(struct vhost *h)
{
    while (!LIST_EMPTY(&h->calls)) {
        struct mesh_open *o = LIST_FIRST(&h->calls);
        if (o->call) {
            o->call->done = true;
            o->call->done_us = h->mesh->now_us;
            o->call->open = NULL;
            o->call->err = GW_EUNREACHABLE;
            gw_fail(&o->call->why, GW_EUNREACHABLE, "host \"%s\" went down", h->name);
        }
        open_free(o);
    }
}

/* --- for tests --- */
static gw_err args_of(const char *fmt, va_list list, gw_value *ret, struct gw_error *why)
{
    char text[2048];
    int n = vsnprintf(text, sizeof text, fmt, list);
    gw_assert(n >= 0 && (size_t)n < sizeof text);
    for (char *p = text; *p; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    return json_parse(text, (size_t)n, ret, why);
}

struct mesh_call *mesh_ask_value(struct mesh *m, size_t host, const char *op, gw_value args)
{
    struct vhost *h = &m->hosts[host];
    struct mesh_call *c = xcalloc(1, sizeof *c);
    gw_value context = gw_nil();
    if (!h->node || mesh_stands(h)) {
        c->done = true;
        c->done_us = m->now_us;
        c->err = gw_fail(&c->why, GW_EUNREACHABLE, "host \"%s\" is down", h->name);
        gw_value_free(&args);
        return c;
    }
    if (m->traceparent && gw_map_set(&context, "traceparent", gw_str(m->traceparent)) != GW_OK) {
        mesh_fail(m, "out of memory");
    }
    mesh_note(m, "%s is asked %s %s", h->name, op, gw_map_str(&args, "method", ""));
    run_op(h, op, &args, &context, (struct mesh_open){.call = c});
    if (h->node) {
        check_host(h);
    }
    return c;
}

static struct mesh_call *ask(struct mesh *m, size_t host, const char *op, const char *fmt,
                             va_list list)
{
    gw_value args = gw_nil();
    struct gw_error why;
    if (args_of(fmt, list, &args, &why) != GW_OK) {
        mesh_fail(m, "arguments of %s: %s", op, why.text);
    }
    return mesh_ask_value(m, host, op, args);
}

void mesh_set_trace(struct mesh *m, const char *traceparent)
{
    m->traceparent = traceparent;
}

struct mesh_call *mesh_ask(struct mesh *m, size_t host, const char *op, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    struct mesh_call *c = ask(m, host, op, fmt, list);
    va_end(list);
    return c;
}

static bool is_done(void *arg)
{
    const struct mesh_call *c = arg;
    return c->done;
}

gw_err mesh_wait(struct mesh *m, struct mesh_call *call, int64_t ms)
{
    return mesh_run_until(m, is_done, call, ms) ? call->err : GW_ETIMEOUT;
}

void mesh_call_leave(struct mesh_call *call)
{
    struct mesh_open *o = call->open;
    if (o) {
        o->call = NULL;
        call->open = NULL;
        tell_gone(o);
    }
}

void mesh_call_free(struct mesh_call *call)
{
    if (!call) {
        return;
    }
    if (call->open) {
        call->open->call = NULL; /* goes on unheard */
    }
    gw_value_free(&call->value);
    gw_value_free(&call->items);
    free(call);
}

static gw_err op_and_wait(struct mesh *m, size_t host, gw_value *ret, bool must, const char *op,
                          const char *fmt, va_list list)
{
    struct mesh_call *c = ask(m, host, op, fmt, list);
    gw_err err = mesh_wait(m, c, 60000);
    if (err == GW_OK && ret) {
        *ret = c->value;
        c->value = gw_nil();
    } else if (err != GW_OK && must) {
        mesh_fail(m, "%s at h%zu: %s: %s", op, host, gw_err_name(err), c->why.text);
    }
    mesh_call_free(c);
    return err;
}

gw_err mesh_op(struct mesh *m, size_t host, gw_value *ret, const char *op, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    gw_err err = op_and_wait(m, host, ret, false, op, fmt, list);
    va_end(list);
    return err;
}

void mesh_must(struct mesh *m, size_t host, gw_value *ret, const char *op, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    (void)op_and_wait(m, host, ret, true, op, fmt, list);
    va_end(list);
}

/* --- shorthands --- */
gw_id mesh_create(struct mesh *m, size_t host, const char *type)
{
    gw_value v = gw_nil();
    gw_id id = {0};
    mesh_must(m, host, &v, "create", "{'type': '%s'}", type);
    const gw_value *agent = gw_map_get(&v, "agent");
    if (agent && agent->kind == GW_ID) {
        id = agent->id;
    } else if (gw_id_parse(gw_map_str(&v, "agent", ""), &id) != GW_OK) {
        mesh_fail(m, "create answered no agent");
    }
    mesh_expect(m, &id);
    gw_value_free(&v);
    return id;
}

gw_err mesh_move(struct mesh *m, size_t via, const gw_id *agent, size_t to)
{
    char id[GW_ID_TEXT];
    return mesh_op(m, via, NULL, "dispatch", "{'agent': '%s', 'to': 'h%zu'}", gw_id_text(agent, id),
                   to);
}

gw_err mesh_add(struct mesh *m, size_t via, const gw_id *agent, const char *key)
{
    char id[GW_ID_TEXT];
    return mesh_op(m, via, NULL, "send", "{'agent': '%s', 'method': 'add', 'key': '%s'}",
                   gw_id_text(agent, id), key);
}

int64_t mesh_count(struct mesh *m, size_t via, const gw_id *agent)
{
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, via, &v, "send", "{'agent': '%s', 'method': 'get'}", gw_id_text(agent, id));
    int64_t count = gw_map_int(gw_map_get(&v, "reply"), "count", -1);
    gw_value_free(&v);
    return count;
}
