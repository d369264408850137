/* The engine: agents by id, and the course of one RUN. */
#include "agents/sdk/engine.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agents/sdk/call.h"
#include "protocol/base/log.h"
#include "protocol/base/table.h"
#include "protocol/value.h"

#define TYPES_MAX 256 /* types of one plugin: a guard against a damaged section, not a budget */

struct engine_agent {
    gw_id id;
    struct state state;
    UT_hash_handle hh;
};

struct engine {
    struct engine_io io;
    void *ctx;
    struct type *types[TYPES_MAX];
    size_t type_count;
    struct engine_agent *agents; /* by id */
    bool check_read;             /* verify that GW_READ methods change nothing */
};

/* In sanitizer builds always, else when asked: it packs the state twice. */
static bool want_check_read(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    const char *text = getenv("GODWIT_CHECK_READ");
    return text && strcmp(text, "1") == 0;
#endif
}

struct engine *engine_new(const struct engine_io *io, void *ctx)
{
    struct engine *e = xcalloc(1, sizeof *e);
    e->io = *io;
    e->ctx = ctx;
    e->check_read = want_check_read();
    return e;
}

void engine_free(struct engine *e)
{
    if (!e) {
        return;
    }
    struct engine_agent *a, *next;
    HASH_ITER (hh, e->agents, a, next) {
        state_drop(&a->state);
        HASH_DEL(e->agents, a);
        free(a);
    }
    for (size_t i = 0; i < e->type_count; i++) {
        type_deinit(e->types[i]);
        free(e->types[i]);
    }
    free(e);
}

static const struct type *find_type(const struct engine *e, const char *name)
{
    for (size_t i = 0; i < e->type_count; i++) {
        if (strcmp(e->types[i]->def->name, name) == 0) {
            return e->types[i];
        }
    }
    return NULL;
}

gw_err engine_add_type(struct engine *e, const struct gw_type *def, struct gw_error *why)
{
    if (e->type_count == TYPES_MAX) {
        return gw_fail(why, GW_EPLUGIN, "more than %d types in one plugin", TYPES_MAX);
    }
    struct type *t = xcalloc(1, sizeof *t);
    gw_err err = type_init(t, def, why);
    if (err != GW_OK) {
        free(t);
        return err;
    }
    if (find_type(e, def->name)) {
        type_deinit(t);
        free(t);
        return gw_fail(why, GW_EEXISTS, "two types are called \"%s\"", def->name);
    }
    e->types[e->type_count++] = t;
    return GW_OK;
}

gw_err engine_add_plugin(struct engine *e, const struct gw_plugin *plugin, struct gw_error *why)
{
    if (plugin->abi != GW_ABI) {
        gw_err err =
            gw_fail(why, GW_EABI, "the plugin was built for agent ABI %u, this Godwit has ABI %u",
                    plugin->abi, GW_ABI);
        gw_hint(why, "build it again with the headers of this Godwit");
        return err;
    }
    if (plugin->type_size != sizeof(struct gw_type)) {
        return gw_fail(why, GW_EABI, "struct gw_type has %u bytes in the plugin and %zu bytes here",
                       plugin->type_size, sizeof(struct gw_type));
    }
    if (plugin->type_count == 0) {
        return gw_fail(why, GW_EPLUGIN, "the plugin defines no agent type (GW_AGENT)");
    }
    for (size_t i = 0; i < plugin->type_count; i++) {
        GW_TRY(engine_add_type(e, plugin->types[i], why));
    }
    return GW_OK;
}

gw_err engine_describe(const struct engine *e, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < e->type_count; i++) {
        gw_value v = {0};
        err = type_describe(e->types[i], &v);
        if (err == GW_OK) {
            err = gw_list_add(&list, v);
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

size_t engine_agents(const struct engine *e)
{
    return HASH_COUNT(e->agents);
}

/* --- agents --- */

gw_err engine_target(const struct frame *frame, gw_id *ret)
{
    struct mp m = frame->rest;
    return mp_read_id(&m, ret);
}

struct engine_agent *engine_hold(struct engine *e, const gw_id *id)
{
    struct engine_agent *a;
    HASH_FIND(hh, e->agents, id, sizeof *id, a);
    if (!a) {
        a = calloc(1, sizeof *a);
        if (!a) {
            return NULL;
        }
        a->id = *id;
        HASH_ADD(hh, e->agents, id, sizeof a->id, a);
    }
    return a;
}

void engine_release(struct engine *e, struct engine_agent *a)
{
    if (!a->state.obj) {
        HASH_DEL(e->agents, a);
        free(a);
    }
}

/* --- one RUN --- */

static const char *const hook_names[HOOK_COUNT] = {
    "",           "on_create",     "on_dispatch", "on_arrive",  "on_clone",
    "on_retract", "on_deactivate", "on_activate", "on_dispose", "on_timer",
    "run",        "on_down",       "load",
};

static const char *handler_name(const struct run *run)
{
    return run->hook == HOOK_METHOD ? run->method : hook_names[run->hook];
}

/* "counter.increment: " before what went wrong inside the handler or with its reply. */
static gw_err handler_failed(const struct run *run, gw_err err, struct gw_error *why)
{
    if (!why->text[0]) {
        gw_fail(why, err, "%s", gw_err_text(err));
    }
    gw_prefix(why, "%s.%s", run->type, handler_name(run));
    return err;
}

static gw_err no_method(const struct type *type, const struct run *run, struct gw_error *why)
{
    gw_fail(why, GW_EMETHOD_NOT_FOUND, "type \"%s\" has no method \"%s\"", run->type, run->method);
    struct buf names = {0};
    for (size_t i = 0; i < type->method_count; i++) {
        buf_addf(&names, "%s%s", i ? ", " : "", signature_name(type->methods[i].sig));
    }
    if (names.len > 0) {
        gw_hint(why, "it has %.*s", (int)names.len, (const char *)names.data);
    }
    buf_free(&names);
    return GW_EMETHOD_NOT_FOUND;
}

static gw_err no_field(const struct type *type, const char *name, struct gw_error *why)
{
    struct buf names = {0};
    for (size_t i = 0; i < type->fields.n; i++) {
        buf_addf(&names, "%s%s", i ? ", " : "", type->fields.items[i].name);
    }
    gw_fail(why, GW_EARG, "type \"%s\" has no field \"%.64s\"; its fields are: %.*s",
            type->def->name, name, names.len > 0 ? (int)names.len : 4,
            names.len > 0 ? (const char *)names.data : "none");
    buf_free(&names);
    return GW_EARG;
}

/* The arguments of create are the initial fields. */
static gw_err set_initial(struct gw_call *call, struct gw_error *why)
{
    const struct type *type = call->state->type;
    const gw_value *args = &call->args;
    if (args->kind == GW_NIL) {
        return GW_OK;
    }
    if (args->kind != GW_MAP) {
        return gw_fail(why, GW_EARG, "the initial state is not a map of fields");
    }
    for (size_t i = 0; i < args->map.n; i++) {
        const char *key = args->map.items[i].key;
        const struct gw_field *f =
            fields_find(type->fields, (struct span){(const uint8_t *)key, strlen(key)});
        if (!f) {
            return no_field(type, key, why);
        }
        GW_TRY(field_set(f, call->state->obj, &args->map.items[i].value,
                         call->run->flags & RUN_TEXT_ARGS, why));
    }
    return GW_OK;
}

/* Bring the object up as RUN wants it. */
static gw_err prepare_state(struct engine *e, struct state *s, const struct run *run,
                            struct gw_error *why)
{
    const struct type *type = find_type(e, run->type);
    if (s->pinned && (run->hook == HOOK_CREATE || run->hook == HOOK_RUN ||
                      run->flags & RUN_DISCARD || type != s->type)) {
        return gw_fail(why, GW_EPROTO, "the agent waits for its save");
    }
    if (!type) {
        return gw_fail(why, GW_ETYPE_NOT_FOUND, "this runner has no type \"%s\"", run->type);
    }
    if (run->hook == HOOK_CREATE) {
        return state_create(s, type);
    }
    if (run->has_parts) {
        gw_err err = state_load(s, type, run->parts, why);
        return err == GW_EUNKNOWN ? GW_EDECODE : err;
    }
    if (!s->obj || s->stale || s->type != type) {
        return gw_fail(why, GW_EUNKNOWN, "the state of this agent is not loaded");
    }
    return GW_OK;
}

/* Whoever asked takes of the answer what his method has a name for. */
static void leave_out_unknown(struct gw_call *call)
{
    gw_value *args = &call->args;
    size_t kept = 0;
    for (size_t i = 0; args->kind == GW_MAP && i < args->map.n; i++) {
        struct gw_member *m = &args->map.items[i];
        if (call_is_param(call, m->key)) {
            args->map.items[kept++] = *m;
        } else {
            free(m->key);
            gw_value_free(&m->value);
        }
    }
    if (args->kind == GW_MAP) {
        args->map.n = kept;
    }
}

/* Arguments and handler; *ret stays NULL for a hook that the type does not have. */
static gw_err prepare_call(struct gw_call *call, gw_handler *ret, struct gw_error *why)
{
    const struct run *run = call->run;
    const struct type *type = call->state->type;
    if (run->given) {
        call->args = *run->given->args;
        *run->given->args = (gw_value){0};
    } else if (value_unpack_span(run->args, &call->args) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "the arguments are not valid msgpack");
    }
    if (run->hook == HOOK_CREATE) {
        GW_TRY(set_initial(call, why));
    }
    if (run->hook != HOOK_METHOD) {
        *ret = type_hook(type->def, run->hook);
        return GW_OK;
    }
    call->method = type_method_find(type, run->method);
    if (!call->method && type->def->on_message) {
        call->any = true;
        *ret = type->def->on_message;
        return GW_OK;
    }
    if (!call->method) {
        return no_method(type, run, why);
    }
    *ret = call->method->def->handler;
    if (run->flags & RUN_ANSWER) {
        leave_out_unknown(call);
    }
    return signature_check_args(call->method->sig, &call->args, run->flags & RUN_TEXT_ARGS, why);
}

/* A host takes GW_EUNKNOWN as "send me the state", and other numbers might not even be codes. */
static gw_err handler_code(gw_err err)
{
    return err != GW_OK && (err == GW_EUNKNOWN || gw_err_from_wire((unsigned)err) != err) ? GW_EFAIL
                                                                                          : err;
}

static gw_err run_handler(struct gw_call *call, gw_handler handler, bool check_read,
                          struct gw_error *why)
{
    XXH128_hash_t before, after;
    check_read = check_read && call_reads(call);
    if (check_read) {
        GW_TRY(state_hash(call->state, &before, why));
    }
    gw_err said = handler(call), err = handler_code(said);
    if (call->bug.code != GW_OK) {
        *why = call->bug;
        return handler_failed(call->run, call->bug.code, why);
    }
    if (err != GW_OK) {
        *why = call->why; /* may be of an earlier verb when the handler failed without a sentence */
        if (why->code != said) {
            why->text[0] = why->hint[0] = '\0';
        }
        return handler_failed(call->run, err, why);
    }
    if (call->state->stale) {
        gw_fail(why, GW_EFAIL, "its gw_save failed and left half a state, and it went on");
        gw_hint(why, "return what gw_save says");
        return handler_failed(call->run, GW_EFAIL, why);
    }
    if (check_read) {
        GW_TRY(state_hash(call->state, &after, why));
        if (!XXH128_isEqual(before, after)) {
            call->state->stale = true;
            gw_fail(why, GW_EFAIL, "the method is declared GW_READ but changed the state");
            return handler_failed(call->run, GW_EFAIL, why);
        }
    }
    return GW_OK;
}

static gw_err check_reply(const struct gw_call *call, struct gw_error *why)
{
    if (call->later) {
        if (call->reply.kind == GW_NIL) {
            return GW_OK;
        }
        gw_fail(why, GW_EFAIL, "it replies, and asks to reply later");
        return handler_failed(call->run, GW_EFAIL, why);
    }
    if (call->method && signature_check_reply(call->method->sig, &call->reply, why) != GW_OK) {
        gw_prefix(why, "the reply does not fit its signature");
        return handler_failed(call->run, GW_EFAIL, why);
    }
    return GW_OK;
}

static gw_err reply_too_big(const struct gw_call *call, size_t n, struct gw_error *why)
{
    gw_fail(why, GW_ETOO_BIG, "the reply has %zu bytes, the limit is %u bytes", n,
            LIMIT_ARGS_BYTES);
    return handler_failed(call->run, GW_ETOO_BIG, why);
}

/* Hooks and methods without a reply give no bytes. */
static gw_err pack_reply(struct gw_call *call, struct buf *out, struct gw_error *why)
{
    GW_TRY(check_reply(call, why));
    size_t at = bin_begin(out);
    if ((call->method || call->any) && call->reply.kind != GW_NIL) {
        value_pack(&call->reply, out);
    }
    size_t n = bin_bytes(out, at);
    if (n > LIMIT_ARGS_BYTES) {
        return reply_too_big(call, n, why);
    }
    bin_end(out, at);
    return buf_ok(out) ? GW_OK : GW_ENOMEM;
}

/* Whether the parts have to be looked at. */
static bool needs_pack(const struct gw_call *call, gw_handler handler)
{
    if (call->run->flags & RUN_SNAPSHOT) {
        return true;
    }
    switch (call->run->hook) {
    case HOOK_CREATE:
    case HOOK_ARRIVE:
    case HOOK_RETRACT:
    case HOOK_CLONE: return true;
    default: return handler && !call_reads(call);
    }
}

/* Where the outcome of a handler goes: into a frame, or to a host in this process. */
struct outlet {
    struct buf *out;
    uint64_t stream;
    struct inline_done *done; /* NULL: a frame */
};

static gw_err finish_frame(struct gw_call *call, gw_handler handler, const struct outlet *to,
                           struct gw_error *why)
{
    struct buf *out = to->out;
    GW_TRY(call_pack_thens(call));
    size_t at = frame_begin(out, FRAME_DONE, to->stream, 7);
    mp_uint(out, GW_OK);
    mp_nil(out);
    mp_nil(out);
    GW_TRY(pack_reply(call, out, why));
    size_t changed = 0;
    if (needs_pack(call, handler)) {
        gw_err err = state_pack(call->state, call->run->flags & RUN_SNAPSHOT, out, &changed, why);
        if (err != GW_OK) {
            return handler_failed(call->run, err, why);
        }
    } else {
        mp_nil(out);
    }
    mp_array(out, call->action_count);
    buf_add(out, call->actions.data, call->actions.len);
    bool nothing = call->action_count == 0 && changed == 0;
    mp_uint(out, call_reads(call) || nothing ? DONE_READ : 0);
    frame_end(out, at);
    return buf_ok(out) ? GW_OK : GW_ENOMEM;
}

static gw_err finish_inline(struct gw_call *call, gw_handler handler, struct inline_done *done,
                            struct gw_error *why)
{
    size_t changed = 0, bytes = 0;
    GW_TRY(check_reply(call, why));
    if (call->later) { /* there is no call that could wait: the asker is a handler of this process
                        */
        gw_fail(why, GW_EINLINE, "a built-in type cannot reply later to another one");
        return handler_failed(call->run, GW_EINLINE, why);
    }
    if (!value_within(&call->reply, LIMIT_ARGS_BYTES, &bytes)) {
        if (bytes > LIMIT_ARGS_BYTES) {
            return reply_too_big(call, bytes, why);
        }
        gw_fail(why, GW_EFAIL, "the reply is nested deeper than %d", LIMIT_DEPTH);
        return handler_failed(call->run, GW_EFAIL, why);
    }
    if (needs_pack(call, handler)) {
        gw_err err = state_pack(call->state, false, &done->parts, &changed, why);
        if (err != GW_OK) {
            return handler_failed(call->run, err, why);
        }
        if (changed == 0) {
            buf_reset(&done->parts);
        }
    }
    if (call->action_count > 0) {
        mp_array(&done->actions, call->action_count);
        buf_add(&done->actions, call->actions.data, call->actions.len);
    }
    done->reply = call->reply;
    call->reply = (gw_value){0};
    TAILQ_CONCAT(&done->asks, &call->thens, link);
    return buf_ok(&done->actions) ? GW_OK : GW_ENOMEM;
}

static gw_err finish(struct gw_call *call, gw_handler handler, const struct outlet *to,
                     struct gw_error *why)
{
    return to->done ? finish_inline(call, handler, to->done, why)
                    : finish_frame(call, handler, to, why);
}

static void failed(uint64_t stream, gw_err code, const struct gw_error *why, struct buf *out)
{
    size_t at = frame_begin(out, FRAME_DONE, stream, 7);
    mp_uint(out, code);
    mp_str(out, why->text[0] ? why->text : gw_err_text(code));
    mp_str(out, why->hint[0] ? why->hint : NULL);
    mp_bin(out, "", 0);
    mp_nil(out);
    mp_array(out, 0);
    mp_uint(out, 0);
    frame_end(out, at);
}

/* The sentences at its end are long, and most calls need none: they are emptied, not zeroed. */
static void call_init(struct gw_call *call, const struct run *run, const struct engine *e,
                      struct state *s)
{
    memset(call, 0, offsetof(struct gw_call, why));
    call->run = run;
    memcpy(call->key, run->key, sizeof call->key);
    call->io = &e->io;
    call->io_ctx = e->ctx;
    call->state = s;
    call->begun_ms = run->given ? 0 : call_clock_ms(&e->io, e->ctx);
    call->why.code = call->bug.code = GW_OK;
    call->why.text[0] = call->why.hint[0] = call->bug.text[0] = call->bug.hint[0] = '\0';
    futures_init(call);
    TAILQ_INIT(&call->thens);
}

/* The whole course, up to an outcome or an error. */
static gw_err execute(struct engine *e, struct state *s, const struct run *run,
                      const struct outlet *to, struct gw_error *why)
{
    struct gw_call call;
    gw_handler handler = NULL;
    call_init(&call, run, e, s);
    call.stream = to->stream;
    bool touched = false; /* the object may differ from what the host was told */
    gw_err err = run->given ? GW_OK : prepare_state(e, s, run, why);
    if (err == GW_OK) {
        err = prepare_call(&call, &handler, why);
    }
    if (err == GW_OK && handler) {
        touched = !call_reads(&call);
        err = run_handler(&call, handler, e->check_read, why);
    }
    if (err == GW_OK) {
        touched = touched || needs_pack(&call, handler);
        err = finish(&call, handler, to, why);
    }
    if (err != GW_OK && touched) {
        s->stale = true;
    }
    call_deinit(&call);
    if (run->hook == HOOK_CREATE ? err != GW_OK : err == GW_OK && run->flags & RUN_DISCARD) {
        state_drop(s);
    }
    return err;
}

void engine_execute(struct engine *e, struct engine_agent *a, const struct frame *frame,
                    struct buf *out)
{
    if (frame->kind == FRAME_UNLOAD) {
        if (a->state.pinned) {
            a->state.stale = true;
        } else {
            state_drop(&a->state);
        }
        return;
    }
    struct run run;
    struct gw_error why = {0};
    size_t at = out->len;
    gw_err err = run_parse(frame, &run, &why);
    if (err == GW_OK) {
        const struct outlet to = {.out = out, .stream = frame->stream};
        err = execute(e, &a->state, &run, &to, &why);
    }
    if (err != GW_OK) {
        out->len = at;
        failed(frame->stream, err, &why, out);
    }
}

void engine_run(struct engine *e, const struct frame *frame, struct buf *out)
{
    gw_id id;
    struct engine_agent *a = NULL;
    gw_err err = engine_target(frame, &id);
    if (err == GW_OK && !(a = engine_hold(e, &id))) {
        err = GW_ENOMEM;
    }
    if (!a) {
        failed(frame->stream, err, &(struct gw_error){0}, out);
        return;
    }
    engine_execute(e, a, frame, out);
    engine_release(e, a);
}

void engine_call(struct engine *e, struct inline_run *in, struct inline_done *done)
{
    struct engine_agent *a;
    HASH_FIND(hh, e->agents, in->agent, sizeof *in->agent, a);
    if (!a || !a->state.obj || a->state.stale) {
        done->err = GW_EUNKNOWN;
        return;
    }
    struct run run;
    memset(&run, 0, offsetof(struct run, type_room));
    run.agent = *in->agent;
    run.type = in->type;
    run.method = in->method;
    run.epoch = in->epoch;
    run.hook = HOOK_METHOD;
    run.given = in;
    run.flags = in->flags;
    const struct outlet to = {.done = done};
    done->why->code = GW_OK;
    done->why->text[0] = done->why->hint[0] = '\0';
    done->err = execute(e, &a->state, &run, &to, done->why);
    if (done->err != GW_OK) {
        done->why->code = done->err;
        if (!done->why->text[0]) {
            gw_fail(done->why, done->err, "%s", gw_err_text(done->err));
        }
        buf_reset(&done->parts);
        buf_reset(&done->actions);
        gw_value_free(&done->reply);
        inline_asks_free(&done->asks);
    }
}
