#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include "tests/mesh/citizen.h"

#include "tests/mesh/porter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct promise { /* a want that waits for its give, a give that nobody wanted yet, a monitor */
    int64_t number;
    gw_id id; /* token, nil, reference */
};
static const struct gw_field promise_fields[] = {
    GW_FIELD(struct promise, number),
    GW_FIELD(struct promise, id),
};
struct promises {
    struct promise *items;
    size_t len;
};
struct citizen {
    int64_t count;
    gw_strs log;
    struct promises wants, gifts, watches;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct citizen, count),
    GW_FIELD(struct citizen, log),
    GW_LIST(struct citizen, wants, promise_fields),
    GW_LIST(struct citizen, gifts, promise_fields),
    GW_LIST(struct citizen, watches, promise_fields),
};

static gw_err promise_add(struct promises *list, int64_t number, gw_id id)
{
    struct promise *items = realloc(list->items, (list->len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    list->items = items;
    items[list->len++] = (struct promise){number, id};
    return GW_OK;
}

static bool promise_take(struct promises *list, int64_t number, gw_id *ret)
{
    for (size_t i = 0; i < list->len; i++) {
        if (list->items[i].number == number) {
            *ret = list->items[i].id;
            list->items[i] = list->items[--list->len];
            return true;
        }
    }
    return false;
}

static gw_err line(struct gw_call *call, char what)
{
    struct citizen *c = gw_state(call);
    return gw_strs_addf(&c->log, "%c%lld", what, (long long)gw_arg_int(call, "number"));
}

static gw_value numbered(struct gw_call *call)
{
    gw_value args = gw_nil();
    if (gw_map_set(&args, "number", gw_int(gw_arg_int(call, "number"))) != GW_OK) {
        abort();
    }
    return args;
}

static gw_err note(struct gw_call *call)
{
    struct citizen *c = gw_state(call);
    GW_TRY(gw_add(&c->count, 1));
    GW_TRY(line(call, 'm'));
    return gw_reply_int(call, "count", c->count);
}

static gw_err relay(struct gw_call *call)
{
    GW_TRY(line(call, 's'));
    return gw_tell(call, gw_arg_id(call, "to"), "note", numbered(call));
}

static gw_err want(struct gw_call *call)
{
    struct citizen *c = gw_state(call);
    int64_t number = gw_arg_int(call, "number");
    gw_id token;
    GW_TRY(line(call, 'w'));
    if (promise_take(&c->gifts, number, &token)) {
        return gw_reply_int(call, "got", number);
    }
    GW_TRY(gw_reply_later(call, &token));
    return promise_add(&c->wants, number, token);
}

static gw_err give(struct gw_call *call)
{
    struct citizen *c = gw_state(call);
    int64_t number = gw_arg_int(call, "number");
    gw_id token;
    GW_TRY(line(call, 'g'));
    if (!promise_take(&c->wants, number, &token)) {
        return promise_add(&c->gifts, number, (gw_id){{0}});
    }
    gw_value reply = gw_nil();
    GW_TRY(gw_map_set(&reply, "got", gw_int(number)));
    return gw_answer(call, token, reply);
}

static const char *timer_name(int64_t number, char text[32])
{
    (void)snprintf(text, 32, "t%lld", (long long)number);
    return text;
}

static gw_err alarm_in(struct gw_call *call)
{
    char name[32];
    return gw_timer(call, timer_name(gw_arg_int(call, "number"), name), gw_arg_int(call, "ms"),
                    numbered(call));
}

static gw_err hush(struct gw_call *call)
{
    char name[32];
    GW_TRY(line(call, 'h'));
    return gw_timer_cancel(call, timer_name(gw_arg_int(call, "number"), name));
}

static gw_err on_timer(struct gw_call *call)
{
    return line(call, 't');
}

static gw_err watch(struct gw_call *call)
{
    struct citizen *c = gw_state(call);
    gw_id ref;
    GW_TRY(line(call, 'o'));
    GW_TRY(gw_monitor_with(
        call, &(struct gw_monitor){.agent = gw_arg_id(call, "agent"), .lost_ms = GW_NEVER}, &ref));
    return promise_add(&c->watches, gw_arg_int(call, "number"), ref);
}

/* The references stay: a second down for one would be logged, too. */
static gw_err on_down(struct gw_call *call)
{
    struct citizen *c = gw_state(call);
    gw_id ref = gw_down_ref(call);
    for (size_t i = 0; i < c->watches.len; i++) {
        if (gw_id_equal(&c->watches.items[i].id, &ref)) {
            return gw_strs_addf(&c->log, "d%lld", (long long)c->watches.items[i].number);
        }
    }
    return gw_strs_add(&c->log, "d-1");
}

static gw_err announce(struct gw_call *call)
{
    GW_TRY(line(call, 'a'));
    return gw_publish(call, gw_arg_str(call, "topic"), NULL, numbered(call));
}
static gw_err on_topic(struct gw_call *call)
{
    return line(call, 'p');
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

static gw_err go(struct gw_call *call)
{
    struct citizen *c = gw_state(call);
    GW_TRY(gw_strs_add(&c->log, "going"));
    return gw_dispatch(call, gw_arg_str(call, "to"));
}
static gw_err twin(struct gw_call *call)
{
    return gw_clone(call, gw_arg_str(call, "to"));
}
static gw_err doze(struct gw_call *call)
{
    return gw_deactivate_with(call, &(struct gw_sleep){.wake_after_ms = gw_arg_int(call, "ms")});
}

static gw_err spoil(struct gw_call *call)
{
    GW_TRY(line(call, 'q'));
    GW_TRY(gw_timer(call, "spoilt", 1, numbered(call)));
    GW_TRY(gw_tell(call, gw_self(call), "note", numbered(call)));
    return gw_call_fail(call, GW_EREFUSED, "spoilt on purpose");
}

/* A file of its own for each time that this runs: a run that is rolled back leaves it to nobody.
 * The line names the one that counts. */
static gw_err carry(struct gw_call *call)
{
    struct citizen *c = gw_state(call);
    long long number = (long long)gw_arg_int(call, "number");
    char path[64], name[32];
    uint64_t run = porter_new_file(call, path);
    (void)snprintf(name, sizeof name, "f%lld", number);
    GW_TRY(line(call, 'c'));
    GW_TRY(gw_strs_addf(&c->log, "=%lld:%llu", number, (unsigned long long)run));
    return gw_file(call, path, name, gw_arg_bool(call, "copy") ? GW_COPY : GW_MOVE);
}

static gw_err shed(struct gw_call *call)
{
    char name[32];
    (void)snprintf(name, sizeof name, "f%lld", (long long)gw_arg_int(call, "number"));
    GW_TRY(line(call, 'x'));
    return gw_file_drop(call, name);
}

static gw_err history(struct gw_call *call)
{
    const struct citizen *c = gw_state(call);
    return gw_reply_strs(call, "log", &c->log);
}

static gw_err hook(struct gw_call *call, const char *text)
{
    struct citizen *c = gw_state(call);
    char found[8192];
    GW_TRY(porter_files(call, found, sizeof found));
    if (strstr(found, "=gone")) {
        GW_TRY(gw_strs_addf(&c->log, "without%s", found));
    }
    return gw_strs_add(&c->log, text);
}
static gw_err on_create(struct gw_call *call)
{
    return hook(call, "create");
}
static gw_err on_dispatch(struct gw_call *call)
{
    return hook(call, "leave");
}
static gw_err on_arrive(struct gw_call *call)
{
    return hook(call, "arrive");
}
static gw_err on_retract(struct gw_call *call)
{
    return hook(call, "retract");
}
static gw_err on_clone(struct gw_call *call)
{
    return hook(call, "clone");
}
static gw_err on_deactivate(struct gw_call *call)
{
    return hook(call, "sleep");
}
static gw_err on_activate(struct gw_call *call)
{
    return hook(call, "wake");
}

static const struct gw_method methods[] = {
    {"note(number: int) -> (count: int)", note, 0},
    {"relay(to: agent, number: int)", relay, 0},
    {"want(number: int) -> (got: int)", want, 0},
    {"give(number: int)", give, 0},
    {"alarm(number: int, ms: int)", alarm_in, 0},
    {"hush(number: int)", hush, 0},
    {"watch(agent: agent, number: int)", watch, 0},
    {"announce(topic: string, number: int)", announce, 0},
    {"on_topic(number: int)", on_topic, 0},
    {"follow(topic: string, mesh: bool = true)", follow, 0},
    {"unfollow(topic: string)", unfollow, 0},
    {"go(to: string)", go, 0},
    {"twin(to: string)", twin, 0},
    {"doze(ms: int = 0)", doze, 0},
    {"spoil(number: int)", spoil, 0},
    {"carry(number: int, copy: bool)", carry, 0},
    {"shed(number: int)", shed, 0},
    {"history() -> (log: [string])", history, GW_READ},
};

#define HOOKS                                                                                      \
    .on_create = on_create, .on_dispatch = on_dispatch, .on_arrive = on_arrive,                    \
    .on_retract = on_retract, .on_clone = on_clone, .on_deactivate = on_deactivate,                \
    .on_activate = on_activate, .on_timer = on_timer, .on_down = on_down

#define TYPE(name_, version_)                                                                      \
    {                                                                                              \
        .abi = GW_ABI, .size = sizeof(struct gw_type), .name = (name_), .version = (version_),     \
        .state_size = sizeof(struct citizen), GW_FIELDS(fields), GW_METHODS(methods), HOOKS,       \
    }
const struct gw_type citizen_type = TYPE("citizen", 1);
const struct gw_type settler_type = TYPE("settler", 1);
static const struct gw_type newer_citizen_type = TYPE("citizen", 2);
static const struct gw_type newer_settler_type = TYPE("settler", 2);
const struct gw_type *const citizen_types[2] = {&citizen_type, &settler_type};
const struct gw_type *const citizen_newer_types[2] = {&newer_citizen_type, &newer_settler_type};
