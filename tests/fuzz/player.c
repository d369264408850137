#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include "tests/fuzz/player.h"

#include <stdlib.h>
#include <string.h>

void (*player_crash)(size_t host);

#define LOG_MOST  60 /* of hooks: numbers always fit */
#define WANT_MOST 8
#define PAD_MOST  9000 /* beyond what a part of the state holds inline */

struct want {
    gw_id token;
};
static const struct gw_field want_fields[] = {GW_FIELD(struct want, token)};
struct player {
    int64_t count;
    gw_strs log;
    gw_id ref;
    struct {
        struct want *items;
        size_t len;
    } wants;
    gw_bytes pad;
    gw_value last;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct player, count), GW_FIELD(struct player, log),
    GW_FIELD(struct player, ref),   GW_LIST(struct player, wants, want_fields),
    GW_FIELD(struct player, pad),   GW_FIELD(struct player, last),
};

static gw_err line(struct gw_call *call, const char *text)
{
    struct player *p = gw_state(call);
    return p->log.len < LOG_MOST ? gw_strs_add(&p->log, text) : GW_OK;
}

static gw_err add(struct gw_call *call)
{
    struct player *p = gw_state(call);
    int64_t number = gw_arg_int(call, "number"), pad = gw_arg_int(call, "pad");
    GW_TRY(gw_add(&p->count, gw_arg_int(call, "by")));
    if (number >= 0) {
        GW_TRY(gw_strs_addf(&p->log, "#%lld", (long long)number));
    }
    if (pad > 0) {
        uint8_t *data = calloc(1, PAD_MOST);
        gw_err err = data ? gw_bytes_set(&p->pad, data, (size_t)(pad % PAD_MOST)) : GW_ENOMEM;
        free(data);
        GW_TRY(err);
    }
    return gw_reply_int(call, "count", p->count);
}

static gw_err get(struct gw_call *call)
{
    const struct player *p = gw_state(call);
    return gw_reply_int(call, "count", p->count);
}

static gw_err history(struct gw_call *call)
{
    const struct player *p = gw_state(call);
    return gw_reply_strs(call, "log", &p->log);
}

static gw_err number_of(struct gw_call *call, gw_value *ret)
{
    return gw_map_set(ret, "number", gw_int(gw_arg_int(call, "number")));
}

static gw_err relay(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(number_of(call, &args));
    return gw_tell(call, gw_arg_id(call, "to"), "add", args);
}

static gw_err want(struct gw_call *call)
{
    struct player *p = gw_state(call);
    if (p->wants.len == WANT_MOST) {
        return gw_call_fail(call, GW_EBUSY, "enough");
    }
    struct want *items = realloc(p->wants.items, (p->wants.len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    p->wants.items = items;
    items[p->wants.len++] = (struct want){{{0}}};
    return gw_reply_later(call, &items[p->wants.len - 1].token);
}

/* --- the verbs of act --- */
static gw_err timers(struct gw_call *call, const char *verb)
{
    const char *name = gw_arg_str(call, "text");
    int64_t ms = gw_arg_int(call, "n");
    gw_value args = gw_nil();
    if (strcmp(verb, "cancel") == 0) {
        return gw_timer_cancel(call, name);
    }
    GW_TRY(number_of(call, &args));
    return strcmp(verb, "timer") == 0   ? gw_timer(call, name, ms, args)
           : strcmp(verb, "every") == 0 ? gw_timer_every(call, name, ms, args)
                                        : gw_timer_each(call, name, ms, args);
}

static gw_err monitors(struct gw_call *call, const char *verb)
{
    struct player *p = gw_state(call);
    if (strcmp(verb, "demonitor") == 0) {
        return gw_demonitor(call, p->ref);
    }
    const struct gw_monitor what = {.agent = gw_arg_id(call, "agent"),
                                    .host = strcmp(verb, "monitor") == 0 ? NULL
                                                                         : gw_arg_str(call, "text"),
                                    .lost_ms = gw_arg_int(call, "n")};
    return gw_monitor_with(call, &what, &p->ref);
}

static gw_err topics(struct gw_call *call, const char *verb)
{
    const char *topic = gw_arg_str(call, "text");
    gw_scope scope = gw_arg_int(call, "n") & 1 ? GW_SCOPE_MESH : GW_SCOPE_HOST;
    gw_value args = gw_nil();
    if (strcmp(verb, "unsubscribe") == 0) {
        return gw_unsubscribe(call, topic);
    }
    if (strcmp(verb, "subscribe") == 0) {
        return gw_subscribe(call, topic, scope);
    }
    GW_TRY(number_of(call, &args));
    return gw_publish(call, topic, NULL, args);
}

static gw_err on_got(struct gw_call *call)
{
    return line(call, "got");
}

static gw_err messages(struct gw_call *call, const char *verb)
{
    gw_value args = gw_nil();
    GW_TRY(number_of(call, &args));
    if (strcmp(verb, "tell") == 0) {
        return gw_tell(call, gw_arg_id(call, "agent"), "add", args);
    }
    return gw_ask_then(call, gw_arg_id(call, "agent"), "add", args, "got");
}

static gw_err pay(struct gw_call *call, bool fail)
{
    struct player *p = gw_state(call);
    gw_value reply = gw_nil();
    if (p->wants.len == 0) {
        return GW_OK;
    }
    gw_id token = p->wants.items[--p->wants.len].token;
    if (fail) {
        return gw_answer_fail(call, token, GW_EREFUSED, "not today");
    }
    GW_TRY(gw_map_set(&reply, "got", gw_int(gw_arg_int(call, "n"))));
    return gw_answer(call, token, reply);
}

static gw_err travels(struct gw_call *call, const char *verb)
{
    const char *to = gw_arg_str(call, "text");
    const struct gw_stop stops[] = {{.to = to, .method = "add"}, {.to = "any"}};
    if (strcmp(verb, "dispatch") == 0) {
        return gw_dispatch(call, to);
    }
    if (strcmp(verb, "clone") == 0) {
        return gw_clone(call, to[0] ? to : NULL);
    }
    return to[0] ? gw_itinerary(call, stops, 1 + (gw_arg_int(call, "n") >> 1 & 1),
                                gw_arg_int(call, "n") & 1)
                 : gw_itinerary_cancel(call);
}

static gw_err act(struct gw_call *call)
{
    static const struct {
        const char *verb;
        gw_err (*run)(struct gw_call *call, const char *verb);
    } verbs[] = {
        {"timer", timers},       {"every", timers},     {"each", timers},
        {"cancel", timers},      {"monitor", monitors}, {"monitor_host", monitors},
        {"demonitor", monitors}, {"subscribe", topics}, {"unsubscribe", topics},
        {"publish", topics},     {"tell", messages},    {"ask_then", messages},
        {"dispatch", travels},   {"clone", travels},    {"itinerary", travels},
    };
    const char *verb = gw_arg_str(call, "verb");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verb, verbs[i].verb) == 0) {
            return verbs[i].run(call, verb);
        }
    }
    if (strncmp(verb, "pay", 3) == 0) {
        return pay(call, verb[3] != '\0');
    }
    if (strcmp(verb, "nap") == 0) {
        return gw_deactivate_with(call, &(struct gw_sleep){.wake_after_ms = gw_arg_int(call, "n")});
    }
    if (strcmp(verb, "deactivate") == 0) {
        return gw_deactivate(call);
    }
    if (strcmp(verb, "dispose") == 0) {
        return gw_dispose(call);
    }
    if (strcmp(verb, "crash") == 0 && player_crash) {
        player_crash((size_t)(gw_host_name(call)[1] - '0'));
        return GW_OK;
    }
    if (strcmp(verb, "log") == 0) {
        gw_log(call, GW_LOG_INFO, "%s", gw_arg_str(call, "text"));
        return GW_OK;
    }
    return gw_call_fail(call, GW_EREFUSED, "no such verb");
}

/* --- hooks --- */
static gw_err on_create(struct gw_call *call)
{
    return line(call, "create");
}
static gw_err on_dispatch(struct gw_call *call)
{
    return line(call, "leave");
}
static gw_err on_arrive(struct gw_call *call)
{
    return line(call, "arrive");
}
static gw_err on_clone(struct gw_call *call)
{
    return line(call, "clone");
}
static gw_err on_deactivate(struct gw_call *call)
{
    return line(call, "sleep");
}
static gw_err on_activate(struct gw_call *call)
{
    return line(call, "wake");
}
static gw_err on_timer(struct gw_call *call)
{
    return line(call, gw_timer_name(call));
}
static gw_err on_down(struct gw_call *call)
{
    return line(call, gw_reason(call));
}

/* Saves twice on its way. */
static gw_err run(struct gw_call *call)
{
    struct player *p = gw_state(call);
    for (; p->count < 2; p->count++) {
        GW_TRY(gw_save(call));
    }
    return line(call, "ran");
}

static const struct gw_method methods[] = {
    {"add(by: int = 1, number: int = -1, pad: int = 0) -> (count: int)", add, 0},
    {"get() -> (count: int)", get, GW_READ},
    {"history() -> (log: [string])", history, GW_READ},
    {"relay(to: agent, number: int)", relay, 0},
    {"act(verb: string, text: string = \"\", agent: agent?, n: int = 0, number: int = -1)", act, 0},
    {"want() -> (got: int)", want, 0},
    {"got(reply: any?, code: string?, text: string?)", on_got, 0},
    {"on_topic(number: int = -1)", on_got, 0},
};

#define PLAYER(NAME, ...)                                                                          \
    {                                                                                              \
        .abi = GW_ABI, .size = sizeof(struct gw_type), .name = NAME, .version = 1,                 \
        .state_size = sizeof(struct player), GW_FIELDS(fields), GW_METHODS(methods),               \
        .on_create = on_create, .on_dispatch = on_dispatch, .on_arrive = on_arrive,                \
        .on_clone = on_clone, .on_deactivate = on_deactivate, .on_activate = on_activate,          \
        .on_timer = on_timer, .on_down = on_down, __VA_ARGS__                                      \
    }

const struct gw_type player_type = PLAYER("player", .oldest_reader = 0);
const struct gw_type desk_type = PLAYER("desk", .oldest_reader = 0);
static const struct gw_type lazy_type = PLAYER("lazy", .durability = GW_TRANSITIONS);
static const struct gw_type digger_type = PLAYER("digger", .run = run);
const struct gw_type *const player_types[] = {&player_type, &lazy_type, &digger_type};
const size_t player_type_count = sizeof player_types / sizeof player_types[0];
