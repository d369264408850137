/* CALL frames of links and runners as operations (PROTOCOL.md 3). */
#include <stdlib.h>
#include <string.h>

#include "host/api.h"
#include "host/api_route.h"
#include "host/core/node.h"
#include "protocol/base/log.h"
#include "protocol/base/table.h"
#include "protocol/limits.h"
#include "protocol/value.h"

struct link_op {
    struct op_call call;   /* first: the handler gives it back */
    struct api_link *link; /* NULL: the caller is gone */
    uint64_t stream;
    bool running; /* inside node_call: answer only marks */
    bool answered;
    bool cancelled;
    UT_hash_handle hh;
    struct link_op *next, *prev; /* calls on stream 0 have no place in the hash */
};

struct api_link {
    struct node *node;
    link_kind kind;
    api_role role;
    void (*send)(void *arg, struct buf *frame);
    void *arg;
    struct link_op *open;   /* by stream */
    struct link_op *silent; /* on stream 0 */
    unsigned count;
    size_t bytes;               /* of the frames of all open calls */
    void (*on_room)(void *arg); /* NULL: nobody has stopped reading */
    const struct host_id *peer; /* of the host at the other end, or NULL */
};

static void reply_error(struct api_link *l, uint64_t stream, const struct gw_error *why)
{
    if (stream != 0) {
        struct buf b = {0};
        frame_reply(&b, stream, why->code, (struct span){0}, why);
        l->send(l->arg, &b);
    }
}

/* --- life of a call --- */

static void attach(struct api_link *l, struct link_op *o)
{
    if (o->stream != 0) {
        HASH_ADD(hh, l->open, stream, sizeof o->stream, o);
    } else {
        o->next = l->silent;
        if (o->next) {
            o->next->prev = o;
        }
        l->silent = o;
    }
    l->count++;
    l->bytes += o->call.bytes;
}

static void detach(struct link_op *o)
{
    struct api_link *l = o->link;
    if (!l) {
        return;
    }
    if (o->stream != 0) {
        HASH_DELETE(hh, l->open, o);
    } else {
        if (o->next) {
            o->next->prev = o->prev;
        }
        if (o->prev) {
            o->prev->next = o->next;
        } else {
            l->silent = o->next;
        }
    }
    l->count--;
    l->bytes -= o->call.bytes;
    o->link = NULL;
    if (l->on_room && l->bytes <= LIMIT_LINK_CALL_BYTES / 2) {
        void (*on_room)(void *) = l->on_room;
        l->on_room = NULL;
        on_room(l->arg);
    }
}

static void op_free(struct link_op *o)
{
    gw_value_free(&o->call.args);
    gw_value_free(&o->call.context);
    free(o);
}

static void on_answer(struct op_call *call, gw_err err, gw_value *result,
                      const struct gw_error *why)
{
    struct link_op *o = (struct link_op *)call;
    struct gw_error general = {0};
    struct buf value = {0}, b = {0};
    gw_assert(!o->answered);
    o->answered = true;
    if (o->link && o->stream != 0) {
        if (result) { /* an error may carry one, too: where the agent has moved to */
            value_pack(result, &value);
            if (!buf_ok(&value)) {
                err = GW_ENOMEM;
            } else if (o->link->kind == LINK_CLIENT &&
                       value.len > LIMIT_CLIENT_FRAME_BYTES - 1024) {
                err = gw_fail(&general, GW_ETOO_BIG, "the answer has %zu bytes, a client takes %u",
                              value.len, LIMIT_CLIENT_FRAME_BYTES);
                why = &general;
            }
        }
        if (err != GW_OK && !why) {
            (void)gw_fail(&general, err, "%s", gw_err_text(err));
            why = &general;
        }
        bool whole = buf_ok(&value) && err != GW_ETOO_BIG;
        struct span packed = whole ? buf_span(&value) : (struct span){0};
        frame_reply(&b, o->stream, err, packed, why);
        o->link->send(o->link->arg, &b);
        buf_free(&value);
    }
    if (result) {
        gw_value_free(result);
    }
    detach(o);
    if (!o->running) {
        op_free(o);
    }
}

static bool on_item(struct op_call *call, const gw_value *value)
{
    struct link_op *o = (struct link_op *)call;
    if (!o->link || o->cancelled || o->answered) {
        return false;
    }
    if (o->stream != 0) {
        struct buf b = {0};
        size_t at = frame_begin(&b, FRAME_ITEM, o->stream, 1);
        value_pack(value, &b);
        frame_end(&b, at);
        o->link->send(o->link->arg, &b);
    }
    return true;
}

/* --- reading a CALL --- */

static gw_err measure_map(struct mp m, const char *what, struct span *ret_raw, struct gw_error *why)
{
    return mp_skip(&m, ret_raw) == GW_OK
               ? GW_OK
               : gw_fail(why, GW_EPROTO, "the %s of the call are damaged", what);
}

static gw_err read_map(struct mp *m, const char *what, size_t max_bytes, gw_value *ret,
                       struct gw_error *why)
{
    struct mp whole = *m;
    struct span raw = {m->p, (size_t)(m->end - m->p)};
    gw_value v = gw_nil();
    if (raw.n > max_bytes) { /* with what comes behind; else nothing has to be measured */
        GW_TRY(measure_map(whole, what, &raw, why));
    }
    if (raw.n > max_bytes) {
        return gw_fail(why, GW_ETOO_BIG, "the %s of the call are larger than %zu bytes", what,
                       max_bytes);
    }
    if (value_unpack(m, &v) != GW_OK || (v.kind != GW_MAP && v.kind != GW_NIL)) {
        gw_value_free(&v);
        GW_TRY(measure_map(whole, what, &raw, why));
        return gw_fail(why, GW_EPROTO, "the %s of the call are not a map", what);
    }
    *ret = v;
    return GW_OK;
}

/* Only hosts and runners speak for somebody else. */
static gw_err check_context(const struct api_link *l, const gw_value *context, struct gw_error *why)
{
    for (size_t i = 0; l->kind == LINK_CLIENT && context->kind == GW_MAP && i < context->map.n;
         i++) {
        const char *key = context->map.items[i].key;
        if (strcmp(key, "text") != 0 && strcmp(key, "traceparent") != 0 &&
            strcmp(key, "tracestate") != 0) {
            return gw_fail(why, GW_EDENIED,
                           "a client may put only \"text\" and its trace into the context");
        }
    }
    return GW_OK;
}

static gw_err read_call(const struct api_link *l, const struct frame *f, struct op_call *ret,
                        struct gw_error *why)
{
    struct mp m = f->rest;
    char name[LIMIT_NAME_BYTES + 1];
    if (f->fields < 2 || mp_read_text(&m, name, sizeof name) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "a call is [op, args, context]");
    }
    ret->op = op_find(name);
    if (!ret->op) {
        gw_fail(why, GW_ENOT_SUPPORTED, "the operation is not known here");
        gw_hint(why, "this host may be of an older version; GET /v1 lists its operations");
        return GW_ENOT_SUPPORTED;
    }
    GW_TRY(role_check(ret->op->name, ret->op->role, l->role, why));
    GW_TRY(read_map(&m, "arguments", LIMIT_ARGS_BYTES + LIMIT_FRAGMENT_BYTES, &ret->args, why));
    if (f->fields >= 3) {
        GW_TRY(read_map(&m, "contents of the context", LIMIT_FRAGMENT_BYTES, &ret->context, why));
    }
    GW_TRY(check_context(l, &ret->context, why));
    if (ret->args.kind == GW_NIL) {
        ret->args.kind = GW_MAP;
        ret->args.map.items = NULL;
        ret->args.map.n = ret->args.map.cap = 0;
    }
    bool text = gw_map_bool(&ret->context, "text", false);
    return signature_check_args(op_signature(ret->op), &ret->args, text, why);
}

static gw_err check_place(const struct api_link *l, uint64_t stream, struct gw_error *why)
{
    const unsigned most = l->kind == LINK_PEER ? LIMIT_PEER_CALLS : LIMIT_LINK_CALLS;
    struct link_op *same;
    HASH_FIND(hh, l->open, &stream, sizeof stream, same);
    if (same) {
        return gw_fail(why, GW_EPROTO, "stream %llu has a call already",
                       (unsigned long long)stream);
    }
    if (l->count >= most || (l->kind == LINK_PEER && l->bytes >= LIMIT_PEER_CALL_BYTES)) {
        return gw_fail(why, GW_EBUSY, "%u calls of together %zu bytes are open on this link",
                       l->count, l->bytes);
    }
    return GW_OK;
}

static void take_call(struct api_link *l, const struct frame *f)
{
    struct gw_error why = {0};
    struct op_call call = {.role = l->role,
                           .peer = l->peer,
                           .answer = on_answer,
                           .item = on_item,
                           .waits = true,
                           .bytes = f->raw.n};
    gw_err err = check_place(l, f->stream, &why);
    if (err == GW_OK) {
        err = read_call(l, f, &call, &why);
    }
    if (err != GW_OK) {
        gw_value_free(&call.args);
        gw_value_free(&call.context);
        reply_error(l, f->stream, &why);
        return;
    }
    struct link_op *o = xcalloc(1, sizeof *o);
    o->call = call;
    o->link = l;
    o->stream = f->stream;
    attach(l, o);
    o->running = true;
    node_call(l->node, &o->call);
    o->running = false;
    if (o->answered) {
        op_free(o);
    }
}

static void tell_gone(struct link_op *o)
{
    void (*on_gone)(void *) = o->call.on_gone;
    o->call.on_gone = NULL;
    if (on_gone) {
        on_gone(o->call.gone_arg);
    }
}

static void take_cancel(struct api_link *l, uint64_t stream)
{
    struct link_op *o;
    HASH_FIND(hh, l->open, &stream, sizeof stream, o);
    if (o && !o->cancelled) {
        o->cancelled = true;
        tell_gone(o);
    }
}

/* --- the door --- */

struct api_link *api_link_new(struct node *node, link_kind kind, api_role role,
                              void (*send)(void *arg, struct buf *frame), void *arg)
{
    struct api_link *l = xcalloc(1, sizeof *l);
    l->node = node;
    l->kind = kind;
    l->role = role;
    l->send = send;
    l->arg = arg;
    return l;
}

void api_link_set_peer(struct api_link *l, const struct host_id *peer)
{
    l->peer = peer;
}

void api_link_frame(struct api_link *l, const struct frame *frame)
{
    if (frame->kind == FRAME_CALL) {
        take_call(l, frame);
    } else if (frame->kind == FRAME_CANCEL) {
        take_cancel(l, frame->stream);
    }
}

bool api_link_is_full(struct api_link *l, void (*on_room)(void *arg))
{
    bool full = l->bytes > LIMIT_LINK_CALL_BYTES;
    l->on_room = full ? on_room : NULL;
    return full;
}

void api_link_free(struct api_link *l)
{
    if (!l) {
        return;
    }
    l->on_room = NULL;
    while (l->open || l->silent) {
        struct link_op *o = l->open ? l->open : l->silent;
        detach(o);
        tell_gone(o); /* its handler may answer, and free it, in here */
    }
    free(l);
}
