/* Verbs of a handler that reach beyond it: recorded ones, which become actions of DONE, and
 * blocking ones, which go out as CALL at once. */
#include "agents/sdk/call.h"

#include <string.h>

#include <sodium.h>

#include "protocol/base/id.h"
#include "protocol/value.h"

/* --- recorded --- */

gw_err call_record(struct gw_call *call, const char *verb, gw_value args)
{
    size_t before = call->actions.len;
    gw_err err = GW_OK;
    if (call_reads(call)) {
        err = gw_call_fail(call, GW_EREFUSED, "a GW_READ method cannot %s", verb);
    } else {
        mp_array(&call->actions, 2);
        mp_str(&call->actions, verb);
        if (args.kind == GW_NIL) {
            mp_map(&call->actions, 0);
        } else {
            value_pack(&args, &call->actions);
        }
        if (!buf_ok(&call->actions)) {
            err = gw_call_fail(call, GW_ENOMEM, "out of memory in %s", verb);
        } else if (call->actions.len > LIMIT_ARGS_BYTES) {
            err = gw_call_fail(call, GW_ETOO_BIG,
                               "what the handler records has %zu bytes, the limit is %u bytes",
                               call->actions.len, LIMIT_ARGS_BYTES);
            call->actions.len = before;
        } else {
            call->action_count++;
        }
    }
    gw_value_free(&args);
    return err;
}

/* Dispatch, deactivate and dispose: one of them in a handler. */
static gw_err record_leave(struct gw_call *call, const char *verb, gw_value args)
{
    if (call->leaves) {
        gw_value_free(&args);
        return gw_call_fail(
            call, GW_ECONFLICT,
            "this handler has recorded already where the agent goes: it cannot %s too", verb);
    }
    GW_TRY(call_record(call, verb, args));
    call->leaves = true;
    return GW_OK;
}

/* A map with one text, or nil for NULL. */
static gw_err with_text(const char *key, const char *text, gw_value *ret)
{
    gw_value v = {0}, map = {0};
    if (text) {
        GW_TRY(gw_value_set_str(&v, text, strlen(text)));
        GW_TRY(gw_map_set(&map, key, v));
    }
    *ret = map;
    return GW_OK;
}

gw_err gw_dispatch(struct gw_call *call, const char *selector)
{
    if (!selector || !selector[0]) {
        return gw_call_fail(call, GW_EARG, "dispatch needs a host");
    }
    gw_value args;
    GW_TRY(with_text("to", selector, &args));
    return record_leave(call, "dispatch", args);
}

gw_err gw_clone(struct gw_call *call, const char *selector)
{
    gw_value args;
    GW_TRY(with_text("to", selector, &args));
    return call_record(call, "clone", args);
}

gw_err gw_deactivate(struct gw_call *call)
{
    return record_leave(call, "deactivate", gw_nil());
}

static gw_err sleep_check(struct gw_call *call, const struct gw_sleep *sleep)
{
    uint32_t known = GW_SLEEP_QUEUE | GW_SLEEP_WAKE | GW_SLEEP_AT_START;
    if (sleep->wake_after_ms < 0 || sleep->wake_after_ms > LIMIT_TIMER_MS ||
        sleep->wake_at.ms < 0 || sleep->wake_at.ms > LIMIT_TIMER_AT_MS) {
        return gw_call_fail(call, GW_EARG, "the time to wake is out of range");
    }
    if (sleep->wake_after_ms > 0 && sleep->wake_at.ms > 0) {
        return gw_call_fail(call, GW_EARG, "sleep has both a time to sleep and a time to wake");
    }
    if (sleep->flags & ~known || (sleep->flags & GW_SLEEP_QUEUE && sleep->flags & GW_SLEEP_WAKE)) {
        return gw_call_fail(call, GW_EARG, "the flags 0x%x of a sleep cannot be", sleep->flags);
    }
    return GW_OK;
}

/* Into `map`: {wake_on_message?, at_start?, wake_after?, wake_at?}. */
static gw_err sleep_args(const struct gw_sleep *sleep, gw_value *map)
{
    if (sleep->flags & (GW_SLEEP_QUEUE | GW_SLEEP_WAKE)) {
        GW_TRY(gw_map_set(map, "wake_on_message", gw_bool(sleep->flags & GW_SLEEP_WAKE)));
    }
    if (sleep->flags & GW_SLEEP_AT_START) {
        GW_TRY(gw_map_set(map, "at_start", gw_bool(true)));
    }
    if (sleep->wake_after_ms > 0) {
        GW_TRY(gw_map_set(map, "wake_after", gw_int(sleep->wake_after_ms)));
    }
    return sleep->wake_at.ms > 0 ? gw_map_set(map, "wake_at", gw_time_value(sleep->wake_at))
                                 : GW_OK;
}

gw_err gw_deactivate_with(struct gw_call *call, const struct gw_sleep *sleep)
{
    gw_value args = {0};
    GW_TRY(sleep_check(call, sleep));
    gw_err err = sleep_args(sleep, &args);
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    bool only_how = call->run->hook == HOOK_DEACTIVATE;
    return only_how ? call_record(call, "deactivate", args)
                    : record_leave(call, "deactivate", args);
}

gw_err gw_dispose(struct gw_call *call)
{
    return record_leave(call, "dispose", gw_nil());
}

gw_err verbs_message(struct gw_call *call, gw_value agent, const char *method, gw_value args,
                     gw_value *ret)
{
    gw_value map = {0};
    gw_err err = GW_OK;
    if (args.kind != GW_NIL && args.kind != GW_MAP) {
        err = gw_call_fail(call, GW_EARG, "the arguments for \"%s\" are not a map", method);
    }
    if (err == GW_OK) {
        err = gw_map_set(&map, "agent", agent);
    } else {
        gw_value_free(&agent);
    }
    if (err == GW_OK) {
        err = gw_map_set(&map, "method", gw_str(method));
    }
    if (err != GW_OK) {
        gw_value_free(&args);
    } else {
        err = gw_map_set(&map, "args", args);
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    *ret = map;
    return GW_OK;
}

gw_err verbs_add_options(struct gw_call *call, const struct gw_message_options *o, gw_value *map)
{
    if (!o) {
        return GW_OK;
    }
    if (o->priority < 0 || o->priority > 9) {
        return gw_call_fail(call, GW_EARG, "%d is not a priority (1 to 9, 0 = normal)",
                            o->priority);
    }
    if (o->deadline_ms < 0) {
        return gw_call_fail(call, GW_EARG, "a deadline of %lld ms lies in the past",
                            (long long)o->deadline_ms);
    }
    if (o->priority > 0) {
        GW_TRY(gw_map_set(map, "priority", gw_int(o->priority)));
    }
    return o->no_wake ? gw_map_set(map, "no_wake", gw_bool(true)) : GW_OK;
}

gw_err gw_tell(struct gw_call *call, gw_id agent, const char *method, gw_value args)
{
    return gw_tell_with(call, agent, method, args, NULL);
}

gw_err gw_tell_with(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                    const struct gw_message_options *options)
{
    if (call->run->hook == HOOK_DISPATCH || call->run->hook == HOOK_DISPOSE) {
        gw_value_free(
            &args); /* its transaction is the departure, or the end: no outbox is left behind it */
        return gw_call_fail(call, GW_ENOT_SUPPORTED,
                            "gw_tell cannot be used in on_dispatch or on_dispose");
    }
    gw_value map;
    GW_TRY(verbs_message(call, gw_id_value(&agent), method, args, &map));
    gw_err err = verbs_add_options(call, options, &map);
    if (err == GW_OK && options && options->deadline_ms > 0) {
        err = gw_map_set(&map, "left", gw_int(options->deadline_ms));
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    return call_record(call, "tell", map);
}

/* --- timers --- */

static gw_err timer_check(struct gw_call *call, const char *name)
{
    uint32_t hook = call->run->hook;
    if (hook == HOOK_DISPATCH || hook == HOOK_DISPOSE) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED,
                            "timers cannot be set or cancelled in on_dispatch or on_dispose");
    }
    if (!name || !name_is_valid(name)) {
        return gw_call_fail(call, GW_EARG, "\"%.80s\" is not a valid name of a timer",
                            name ? name : "");
    }
    return GW_OK;
}

static gw_err timer_check_set(struct gw_call *call, const char *name, const gw_value *args)
{
    struct buf packed = {0};
    GW_TRY(timer_check(call, name));
    if (!call->state->type->def->on_timer) {
        return gw_call_fail(call, GW_EARG, "the type has no on_timer for timer \"%s\"", name);
    }
    if (args->kind != GW_NIL && args->kind != GW_MAP) {
        return gw_call_fail(call, GW_EARG, "the arguments of timer \"%s\" are not a map", name);
    }
    value_pack(args, &packed);
    size_t n = packed.len;
    bool whole = buf_ok(&packed);
    buf_free(&packed);
    if (!whole) {
        return gw_call_fail(call, GW_ENOMEM, "out of memory for timer \"%s\"", name);
    }
    if (n > LIMIT_TIMER_ARGS_BYTES) {
        return gw_call_fail(call, GW_ETOO_BIG,
                            "the arguments of timer \"%s\" have %zu bytes, the limit is %u bytes",
                            name, n, LIMIT_TIMER_ARGS_BYTES);
    }
    return GW_OK;
}

/* Record {name, when, period?, each?, args?}; takes ownership of when and args. */
static gw_err timer_record(struct gw_call *call, const char *name, gw_value when, int64_t period_ms,
                           bool each, gw_value args)
{
    gw_value map = {0};
    gw_err err = gw_map_set(&map, "when", when);
    if (err == GW_OK) {
        err = gw_map_set(&map, "name", gw_str(name));
    }
    if (err == GW_OK && period_ms > 0) {
        err = gw_map_set(&map, "period", gw_int(period_ms));
    }
    if (err == GW_OK && each) {
        err = gw_map_set(&map, "each", gw_bool(true));
    }
    if (err != GW_OK) {
        gw_value_free(&args);
    } else if (args.kind == GW_MAP) {
        err = gw_map_set(&map, "args", args);
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    return call_record(call, "timer", map);
}

gw_err gw_timer(struct gw_call *call, const char *name, int64_t delay_ms, gw_value args)
{
    gw_err err = timer_check_set(call, name, &args);
    if (err == GW_OK && (delay_ms < 0 || delay_ms > LIMIT_TIMER_MS)) {
        err = gw_call_fail(call, GW_EARG, "timer \"%s\" cannot wait for %lld ms", name,
                           (long long)delay_ms);
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    return timer_record(call, name, gw_int(delay_ms), 0, false, args);
}

static gw_err timer_periodic(struct gw_call *call, const char *name, int64_t period_ms, bool each,
                             gw_value args)
{
    gw_err err = timer_check_set(call, name, &args);
    if (err == GW_OK && (period_ms < LIMIT_TIMER_PERIOD_MS || period_ms > LIMIT_TIMER_MS)) {
        err = gw_call_fail(call, GW_EARG,
                           "timer \"%s\" cannot have a period of %lld ms, at least %d ms", name,
                           (long long)period_ms, LIMIT_TIMER_PERIOD_MS);
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    return timer_record(call, name, gw_int(period_ms), period_ms, each, args);
}

gw_err gw_timer_every(struct gw_call *call, const char *name, int64_t period_ms, gw_value args)
{
    return timer_periodic(call, name, period_ms, false, args);
}

gw_err gw_timer_each(struct gw_call *call, const char *name, int64_t period_ms, gw_value args)
{
    return timer_periodic(call, name, period_ms, true, args);
}

gw_err gw_timer_at(struct gw_call *call, const char *name, gw_time at, gw_value args)
{
    gw_err err = timer_check_set(call, name, &args);
    if (err == GW_OK && (at.ms < 0 || at.ms > LIMIT_TIMER_AT_MS)) {
        err = gw_call_fail(call, GW_EARG, "timer \"%s\" cannot be set to %lld ms since 1970", name,
                           (long long)at.ms);
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    return timer_record(call, name, gw_time_value(at), 0, false, args);
}

gw_err gw_timer_cancel(struct gw_call *call, const char *name)
{
    gw_value map = {0};
    GW_TRY(timer_check(call, name));
    GW_TRY(gw_map_set(&map, "name", gw_str(name)));
    return call_record(call, "timer_cancel", map);
}

/* --- blocking --- */

/* Key of the n-th blocking verb of this handler: a re-run of the handler repeats it, so that the
 * other side gives the answer that it recorded the first time. */
static gw_err set_key(struct gw_call *call, gw_value *args)
{
    uint8_t in[24], key[16];
    char text[BASE32_SIZE(sizeof key)];
    memcpy(in, call->key, 16);
    store_u64(in + 16, call->asks);
    crypto_generichash(key, sizeof key, in, sizeof in, NULL, 0);
    base32_encode(key, sizeof key, text);
    return gw_map_set(args, "key", gw_str(text));
}

gw_value verbs_agent_text(const gw_id *id)
{
    char text[GW_ID_TEXT];
    return gw_str(gw_id_text(id, text));
}

/* The caller's trace, and what time there is: what this handler has left, at most limit_ms (0 = no
 * limit of its own). */
static gw_err call_carry(struct gw_call *call, int64_t limit_ms, gw_value *context)
{
    int64_t left = gw_deadline_left_ms(call);
    if (left == 0) {
        return gw_call_fail(call, GW_ETIMEOUT,
                            "the deadline of this handler's caller has passed: nothing was asked");
    }
    left = limit_ms > 0 && limit_ms < left ? limit_ms : left;
    if (left != GW_NO_DEADLINE) {
        GW_TRY(gw_map_set(context, "left", gw_int(left)));
    }
    if (gw_trace(call)[0]) {
        GW_TRY(gw_map_set(context, "traceparent", gw_str(gw_trace(call))));
    }
    const char *state = gw_map_str(call_context(call), "tracestate", NULL);
    return state ? gw_map_set(context, "tracestate", gw_str(state)) : GW_OK;
}

/* context of a CALL: {agent: the caller, chain: [who waits, the caller last]}. An ask of an agent
 * in the chain would wait for itself. */
static gw_err call_chain(struct gw_call *call, const gw_id *target, gw_value *ret)
{
    gw_value chain = {.kind = GW_LIST}, context = {0};
    const gw_value *before = gw_map_get(call_context(call), "chain");
    gw_err err = call->bug.code == GW_ENOMEM ? GW_ENOMEM : GW_OK; /* who waits is not known */
    bool again = target && gw_id_equal(target, &call->run->agent);
    for (size_t i = 0; err == GW_OK && before && before->kind == GW_LIST && i < before->list.n;
         i++) {
        const gw_value *id = &before->list.items[i];
        if (id->kind == GW_ID) {
            again = again || (target && gw_id_equal(target, &id->id));
            err = gw_list_add(&chain, *id);
        }
    }
    if (err == GW_OK && again) {
        char text[GW_ID_TEXT];
        err = gw_call_fail(call, GW_EDEADLOCK, "agent %s waits for this call itself",
                           gw_id_text(target, text));
    }
    if (err == GW_OK) {
        err = gw_list_add(&chain, gw_id_value(&call->run->agent));
    }
    if (err != GW_OK) {
        gw_value_free(&chain);
        return err;
    }
    err = gw_map_set(&context, "chain", chain);
    if (err == GW_OK) {
        err = gw_map_set(&context, "agent", gw_id_value(&call->run->agent));
    }
    if (err != GW_OK) {
        gw_value_free(&context);
        return err;
    }
    *ret = context;
    return GW_OK;
}

gw_err verbs_prepare(struct gw_call *call, const char *op, const gw_id *target, bool keyed,
                     int64_t limit_ms, gw_value *args, gw_value *ret_context)
{
    if (!call->io->start) {
        return gw_call_fail(call, GW_EINLINE, "\"%s\" would block, and this type runs inline", op);
    }
    if (args->kind == GW_NIL) {
        args->kind = GW_MAP; /* an empty map */
    }
    call->asks++;
    if (keyed) {
        GW_TRY(set_key(call, args));
    }
    GW_TRY(call_chain(call, target, ret_context));
    return call_carry(call, limit_ms, ret_context);
}

gw_err verbs_outcome(struct gw_call *call, const char *op, gw_err err)
{
    if (err != GW_OK && !call->why.text[0]) {
        gw_fail(&call->why, err, "%s: %s", op, gw_err_text(err));
    }
    call->why.code = err;
    return err;
}

/* Make the call; takes ownership of args. `target`: the agent that will be at work meanwhile, or
 * NULL. limit_ms: 0 = as long as the caller of this handler has. */
static gw_err blocking_for(struct gw_call *call, const char *op, const gw_id *target, bool keyed,
                           int64_t limit_ms, gw_value args, gw_value *ret)
{
    gw_value context = {0};
    struct engine_ask *ask = NULL;
    gw_err err = verbs_prepare(call, op, target, keyed, limit_ms, &args, &context);
    if (err == GW_OK) {
        call->why = (struct gw_error){0};
        err = call->io->start(call->io_ctx, op, &args, &context, true, &ask, &call->why);
        if (err == GW_OK) {
            err = call->io->wait(call->io_ctx, &ask, 1, false, GW_FOREVER, &call->why);
        }
        if (err == GW_OK) {
            err = call->io->take(call->io_ctx, ask, ret, &call->why);
        }
        if (ask) {
            call->io->drop(call->io_ctx, ask);
        }
        err = verbs_outcome(call, op, err);
    }
    gw_value_free(&args);
    gw_value_free(&context);
    return err;
}

gw_err verbs_blocking(struct gw_call *call, const char *op, const gw_id *target, bool keyed,
                      gw_value args, gw_value *ret)
{
    return blocking_for(call, op, target, keyed, 0, args, ret);
}

gw_value verbs_take_member(gw_value whole, const char *key)
{
    gw_value out = whole;
    if (whole.kind == GW_MAP) {
        for (size_t i = 0; i < whole.map.n; i++) {
            if (strcmp(whole.map.items[i].key, key) == 0) {
                out = whole.map.items[i].value;
                whole.map.items[i].value = gw_nil();
                gw_value_free(&whole);
                return out;
            }
        }
    }
    return out;
}

gw_err gw_ask(struct gw_call *call, gw_id agent, const char *method, gw_value args,
              gw_value *ret_reply)
{
    return gw_ask_with(call, agent, method, args, NULL, ret_reply);
}

gw_err gw_ask_with(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                   const struct gw_message_options *options, gw_value *ret_reply)
{
    gw_value map, answer;
    GW_TRY(verbs_message(call, verbs_agent_text(&agent), method, args, &map));
    gw_err err = verbs_add_options(call, options, &map);
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    GW_TRY(
        blocking_for(call, "send", &agent, true, options ? options->deadline_ms : 0, map, &answer));
    *ret_reply = verbs_take_member(answer, "reply");
    return GW_OK;
}

/* An id that an answer gives as id or as text under `agent`. */
static gw_err take_agent(struct gw_call *call, gw_value answer, gw_id *ret)
{
    gw_value v = verbs_take_member(answer, "agent");
    gw_err err = GW_OK;
    if (v.kind == GW_ID) {
        *ret = v.id;
    } else if (v.kind != GW_STR || gw_id_parse(v.s.p, ret) != GW_OK) {
        err = gw_call_fail(call, GW_EPROTO, "the answer of the host names no agent");
    }
    gw_value_free(&v);
    return err;
}

static gw_err creation(struct gw_call *call, const char *type, gw_value state, const char *where,
                       bool child, bool outlive, gw_value *ret)
{
    gw_value args = {0};
    gw_err err = with_text("at", where, &args);
    if (err == GW_OK && child) {
        err = gw_map_set(&args, "parent", gw_id_value(&call->run->agent));
    }
    if (err == GW_OK && outlive) {
        err = gw_map_set(&args, "outlive", gw_bool(true));
    }
    if (err == GW_OK) {
        err = gw_map_set(&args, "type", gw_str(type));
    }
    if (err == GW_OK) {
        err = gw_map_set(&args, "state", state);
    } else {
        gw_value_free(&state);
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return gw_call_fail(call, err, "out of memory for a new agent");
    }
    *ret = args;
    return GW_OK;
}

gw_err verbs_creation(struct gw_call *call, const char *type, gw_value state, const char *where,
                      gw_value *ret)
{
    return creation(call, type, state, where, false, false, ret);
}

static gw_err create(struct gw_call *call, const char *type, gw_value state, const char *where,
                     bool child, bool outlive, gw_id *ret_agent)
{
    gw_value args, answer;
    GW_TRY(creation(call, type, state, where, child, outlive, &args));
    GW_TRY(verbs_blocking(call, "create", NULL, true, args, &answer));
    return take_agent(call, answer, ret_agent);
}

gw_err gw_create(struct gw_call *call, const char *type, gw_value state, const char *where,
                 gw_id *ret_agent)
{
    return create(call, type, state, where, false, false, ret_agent);
}

gw_err gw_create_child(struct gw_call *call, const char *type, gw_value state, const char *where,
                       gw_parent_end at_end, gw_id *ret_agent)
{
    if ((unsigned)at_end > GW_OUTLIVE_PARENT) {
        gw_value_free(&state);
        return gw_call_fail(call, GW_EARG, "%d says nothing about the end of a parent", at_end);
    }
    return create(call, type, state, where, true, at_end == GW_OUTLIVE_PARENT, ret_agent);
}

gw_err gw_hosts(struct gw_call *call, gw_value *ret_hosts)
{
    gw_value answer;
    GW_TRY(verbs_blocking(call, "hosts", NULL, false, gw_nil(), &answer));
    *ret_hosts = verbs_take_member(answer, "hosts");
    return GW_OK;
}

/* Life-cycle verbs about another agent. */
static gw_err about(struct gw_call *call, const char *op, gw_id agent, const char *to, bool keyed,
                    gw_value *ret)
{
    gw_value args = {0};
    gw_err err = with_text("to", to, &args);
    if (err == GW_OK) {
        err = gw_map_set(&args, "agent", verbs_agent_text(&agent));
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    return verbs_blocking(call, op, &agent, keyed, args, ret);
}

static gw_err about_quiet(struct gw_call *call, const char *op, gw_id agent, const char *to)
{
    gw_value answer = {0};
    GW_TRY(about(call, op, agent, to, false, &answer));
    gw_value_free(&answer);
    return GW_OK;
}

gw_err gw_dispatch_to(struct gw_call *call, gw_id agent, const char *selector)
{
    return about_quiet(call, "dispatch", agent, selector);
}

gw_err gw_retract(struct gw_call *call, gw_id agent, const char *selector)
{
    return about_quiet(call, "retract", agent, selector);
}

gw_err gw_clone_of(struct gw_call *call, gw_id agent, const char *selector, gw_id *ret_clone)
{
    gw_value answer = {0};
    GW_TRY(about(call, "clone", agent, selector, true, &answer));
    return take_agent(call, answer, ret_clone);
}

gw_err gw_deactivate_other(struct gw_call *call, gw_id agent)
{
    return about_quiet(call, "deactivate", agent, NULL);
}

gw_err gw_deactivate_other_with(struct gw_call *call, gw_id agent, const struct gw_sleep *sleep)
{
    gw_value args = {0}, answer = {0};
    GW_TRY(sleep_check(call, sleep));
    gw_err err = gw_map_set(&args, "agent", verbs_agent_text(&agent));
    if (err == GW_OK) {
        err = sleep_args(sleep, &args);
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    GW_TRY(verbs_blocking(call, "deactivate", &agent, false, args, &answer));
    gw_value_free(&answer);
    return GW_OK;
}

gw_err gw_activate_other(struct gw_call *call, gw_id agent)
{
    return about_quiet(call, "activate", agent, NULL);
}

gw_err gw_dispose_other(struct gw_call *call, gw_id agent)
{
    return about_quiet(call, "dispose", agent, NULL);
}
