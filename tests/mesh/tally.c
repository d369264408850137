#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include "tests/mesh/tally.h"

#include <stdlib.h>
#include <string.h>

struct tally {
    int64_t count;
    gw_strs log;
    gw_bytes load;
};
static const struct gw_field tally_fields[] = {
    GW_FIELD(struct tally, count),
    GW_FIELD(struct tally, log),
    GW_FIELD(struct tally, load),
};

static gw_err add(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    int64_t number = gw_arg_int(call, "number");
    GW_TRY(gw_add(&t->count, gw_arg_int(call, "by")));
    if (number >= 0) {
        GW_TRY(gw_strs_addf(&t->log, "#%lld", (long long)number));
    }
    return gw_reply_int(call, "count", t->count);
}

static gw_err get(struct gw_call *call)
{
    const struct tally *t = gw_state(call);
    return gw_reply_int(call, "count", t->count);
}

static gw_err history(struct gw_call *call)
{
    const struct tally *t = gw_state(call);
    return gw_reply_strs(call, "log", &t->log);
}

static gw_err relay(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "by", gw_int(gw_arg_int(call, "by"))));
    GW_TRY(gw_map_set(&args, "number", gw_int(gw_arg_int(call, "number"))));
    return gw_tell(call, gw_arg_id(call, "to"), "add", args);
}

static gw_err post(struct gw_call *call)
{
    gw_value args = gw_nil();
    struct gw_message_options o = {.priority = (int)gw_arg_int(call, "priority"),
                                   .deadline_ms = gw_arg_int(call, "deadline"),
                                   .no_wake = gw_arg_bool(call, "no_wake")};
    GW_TRY(gw_map_set(&args, "number", gw_int(gw_arg_int(call, "number"))));
    return gw_tell_with(call, gw_arg_id(call, "to"), gw_arg_str(call, "method"), args, &o);
}

static gw_err follow(struct gw_call *call)
{
    return gw_subscribe(call, gw_arg_str(call, "topic"),
                        gw_arg_bool(call, "mesh") ? GW_SCOPE_MESH : GW_SCOPE_HOST);
}

static gw_err unfollow(struct gw_call *call)
{
    return gw_unsubscribe(call, gw_arg_str(call, "topic"));
}

static gw_err on_topic(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    GW_TRY(gw_add(&t->count, 1));
    return gw_strs_addf(&t->log, "%s#%lld", gw_topic(call), (long long)gw_arg_int(call, "number"));
}

static gw_err announce(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "number", gw_int(gw_arg_int(call, "number"))));
    return gw_publish(call, gw_arg_str(call, "topic"), NULL, args);
}

static gw_err mark(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    int64_t left = gw_deadline_left_ms(call);
    return gw_strs_addf(&t->log, "%s/%lld", gw_trace(call),
                        left == GW_NO_DEADLINE ? -1LL : (long long)left);
}

static gw_err go(struct gw_call *call)
{
    return gw_dispatch(call, gw_arg_str(call, "to"));
}

static gw_err twin(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    GW_TRY(gw_add(&t->count, 1));
    const char *to = gw_arg_str(call, "to");
    return gw_clone(call, to[0] ? to : NULL);
}

static gw_err doze(struct gw_call *call)
{
    return gw_deactivate(call);
}

static gw_err load(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    size_t n = (size_t)gw_arg_int(call, "bytes");
    uint8_t *p = malloc(n ? n : 1);
    if (!p) {
        return GW_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(i * 31 >> 3);
    }
    gw_err err = gw_bytes_set(&t->load, p, n);
    free(p);
    return err;
}

static gw_err spoil(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    t->count += 1000;
    return gw_call_fail(call, GW_EREFUSED, "spoilt on purpose");
}

static gw_err on_create(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    return gw_strs_add(&t->log, "create");
}
static gw_err on_dispatch(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    return gw_strs_add(&t->log, "leave");
}
static gw_err on_arrive(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    return gw_strs_add(&t->log, "arrive");
}
static gw_err on_retract(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    return gw_strs_add(&t->log, "retract");
}
static gw_err on_clone(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    return gw_strs_add(&t->log, "clone");
}
static gw_err on_deactivate(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    return gw_strs_add(&t->log, "sleep");
}
static gw_err on_activate(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    return gw_strs_add(&t->log, "wake");
}

static const struct gw_method tally_methods[] = {
    {"add(by: int = 1, number: int = -1) -> (count: int)", add, 0},
    {"get() -> (count: int)", get, GW_READ},
    {"history() -> (log: [string])", history, GW_READ},
    {"relay(to: agent, by: int = 1, number: int = -1)", relay, 0},
    {"post(to: agent, number: int, method: string = \"add\", priority: int = 0, "
     "deadline: duration = 0, no_wake: bool = false)",
     post, 0},
    {"mark(number: int = -1)", mark, 0},
    {"follow(topic: string, mesh: bool = true)", follow, 0},
    {"unfollow(topic: string)", unfollow, 0},
    {"on_topic(number: int = -1)", on_topic, 0},
    {"announce(topic: string, number: int)", announce, 0},
    {"go(to: string)", go, 0},
    {"twin(to: string = \"\")", twin, 0},
    {"doze()", doze, 0},
    {"load(bytes: int)", load, 0},
    {"spoil()", spoil, 0},
};

const struct gw_type tally_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "tally",
    .version = 1,
    .state_size = sizeof(struct tally),
    GW_FIELDS(tally_fields),
    GW_METHODS(tally_methods),
    .on_create = on_create,
    .on_dispatch = on_dispatch,
    .on_arrive = on_arrive,
    .on_clone = on_clone,
    .on_retract = on_retract,
    .on_deactivate = on_deactivate,
    .on_activate = on_activate,
};

static gw_err stay(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    t->count += 1000; /* must leave no trace */
    return gw_call_fail(call, GW_EREFUSED, "I stay here");
}

const struct gw_type homebody_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "homebody",
    .version = 1,
    .state_size = sizeof(struct tally),
    GW_FIELDS(tally_fields),
    GW_METHODS(tally_methods),
    .on_dispatch = stay,
};

const struct gw_type grumpy_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "grumpy",
    .version = 1,
    .state_size = sizeof(struct tally),
    GW_FIELDS(tally_fields),
    GW_METHODS(tally_methods),
    .on_arrive = stay,
};

struct morph_text {
    char *v;
};
static const struct gw_field morph_text_fields[] = {
    GW_FIELD(struct morph_text, v),
};
const struct gw_type morph_text_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "morph",
    .version = 1,
    .state_size = sizeof(struct morph_text),
    GW_FIELDS(morph_text_fields),
};

struct morph_number {
    int64_t v;
};
static const struct gw_field morph_number_fields[] = {
    GW_FIELD(struct morph_number, v),
};
const struct gw_type morph_number_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "morph",
    .version = 1,
    .state_size = sizeof(struct morph_number),
    GW_FIELDS(morph_number_fields),
};

const struct gw_type *const tally_types[] = {&tally_type, &homebody_type, &grumpy_type,
                                             &morph_text_type};
const size_t tally_type_count = sizeof tally_types / sizeof tally_types[0];
