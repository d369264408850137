#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include "tests/mesh/actor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "protocol/value.h"
#include "tests/mesh/internal.h"

/* ---- the type ---- */

struct actor {
    int64_t count;
    gw_strs log;
    gw_strs route;
    bool moody;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct actor, count),
    GW_FIELD(struct actor, log),
    GW_FIELD(struct actor, route),
    GW_FIELD(struct actor, moody),
};

static struct mesh *playing; /* one mesh at a time */

static gw_err add(struct gw_call *call)
{
    struct actor *a = gw_state(call);
    int64_t number = gw_arg_int(call, "number");
    GW_TRY(gw_add(&a->count, gw_arg_int(call, "by")));
    if (number >= 0) {
        GW_TRY(gw_strs_addf(&a->log, "#%lld", (long long)number));
    }
    return gw_reply_int(call, "count", a->count);
}

static gw_err get(struct gw_call *call)
{
    const struct actor *a = gw_state(call);
    return gw_reply_int(call, "count", a->count);
}

static gw_err history(struct gw_call *call)
{
    const struct actor *a = gw_state(call);
    return gw_reply_strs(call, "log", &a->log);
}

static gw_err relay(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "number", gw_int(gw_arg_int(call, "number"))));
    return gw_tell(call, gw_arg_id(call, "to"), "add", args);
}

static gw_err flood(struct gw_call *call)
{
    for (int64_t i = 0; i < gw_arg_int(call, "n"); i++) {
        GW_TRY(gw_tell(call, gw_arg_id(call, "to"), "add", gw_nil()));
    }
    return GW_OK;
}

static gw_err go_on(struct gw_call *call)
{
    struct actor *a = gw_state(call);
    if (a->route.len == 0) {
        return GW_OK;
    }
    char *next = strdup(a->route.items[0]);
    gw_strs rest = {0};
    for (size_t i = 1; i < a->route.len; i++) {
        GW_TRY(gw_strs_add(&rest, a->route.items[i]));
    }
    gw_strs_clear(&a->route);
    a->route = rest;
    gw_err err = gw_dispatch(call, next);
    free(next);
    return err;
}

static gw_err tour(struct gw_call *call)
{
    struct actor *a = gw_state(call);
    const gw_value *stops = gw_arg_value(call, "stops");
    gw_strs_clear(&a->route);
    for (size_t i = 0; stops && i < stops->list.n; i++) {
        GW_TRY(gw_strs_add(&a->route, stops->list.items[i].s.p));
    }
    return go_on(call);
}

static gw_err both(struct gw_call *call)
{
    GW_TRY(gw_dispatch(call, gw_arg_str(call, "to")));
    return gw_clone(call, gw_arg_str(call, "clone"));
}

static gw_err nap(struct gw_call *call)
{
    return gw_deactivate(call);
}
static gw_err end(struct gw_call *call)
{
    return gw_dispose(call);
}

static gw_err finish(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "number", gw_int(99)));
    GW_TRY(gw_tell(call, gw_arg_id(call, "heir"), "add", args));
    return gw_dispose(call);
}

static gw_err mood(struct gw_call *call)
{
    struct actor *a = gw_state(call);
    a->moody = gw_arg_bool(call, "moody");
    return GW_OK;
}

static void end_runner(void *arg)
{
    mesh_crash_runner(playing, (size_t)(uintptr_t)arg);
}

/* Its answer never arrives: the runner ends before. */
static gw_err crash(struct gw_call *call)
{
    uintptr_t host = (uintptr_t)(gw_host_name(call)[1] - '0');
    mesh_at(playing, 1, end_runner, NULL, (void *)host);
    return GW_OK;
}

static gw_err big(struct gw_call *call)
{
    struct actor *a = gw_state(call);
    size_t n = (size_t)gw_arg_int(call, "bytes");
    uint8_t *data = calloc(1, n + 1);
    gw_err err = data ? gw_reply_bytes(call, "data", data, n) : GW_ENOMEM;
    a->count++;
    free(data);
    return err;
}

static gw_err shout(struct gw_call *call)
{
    gw_log(call, GW_LOG_INFO, "%s", gw_arg_str(call, "text"));
    return GW_OK;
}

static gw_err on_dispatch_failed(struct gw_call *call)
{
    struct actor *a = gw_state(call);
    return gw_strs_addf(&a->log, "failed %s", gw_arg_str(call, "code"));
}

static gw_err line(struct gw_call *call, const char *text)
{
    struct actor *a = gw_state(call);
    return gw_strs_add(&a->log, text);
}
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
    GW_TRY(line(call, "arrive"));
    return go_on(call);
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
    const struct actor *a = gw_state(call);
    if (a->moody) {
        return gw_call_fail(call, GW_EREFUSED, "not in the mood");
    }
    return line(call, "wake");
}
static gw_err on_dispose(struct gw_call *call)
{
    const struct actor *a = gw_state(call);
    return a->moody ? gw_call_fail(call, GW_EREFUSED, "not in the mood") : GW_OK;
}

static const struct gw_method methods[] = {
    {"add(by: int = 1, number: int = -1) -> (count: int)", add, 0},
    {"get() -> (count: int)", get, GW_READ},
    {"history() -> (log: [string])", history, GW_READ},
    {"relay(to: agent, number: int)", relay, 0},
    {"flood(to: agent, n: int)", flood, 0},
    {"tour(stops: [string])", tour, 0},
    {"both(to: string, clone: string)", both, 0},
    {"nap()", nap, 0},
    {"end()", end, 0},
    {"finish(heir: agent)", finish, 0},
    {"mood(moody: bool)", mood, 0},
    {"crash()", crash, 0},
    {"big(bytes: int) -> (data: bytes)", big, 0},
    {"shout(text: string)", shout, 0},
    {"on_dispatch_failed(to: string, code: string, text: string)", on_dispatch_failed, 0},
};

const struct gw_type actor_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "actor",
    .version = 1,
    .state_size = sizeof(struct actor),
    GW_FIELDS(fields),
    GW_METHODS(methods),
    .on_create = on_create,
    .on_dispatch = on_dispatch,
    .on_arrive = on_arrive,
    .on_clone = on_clone,
    .on_deactivate = on_deactivate,
    .on_activate = on_activate,
    .on_dispose = on_dispose,
};
const struct gw_type *const actor_types[] = {&actor_type, &tally_type};
const size_t actor_type_count = sizeof actor_types / sizeof actor_types[0];

/* ---- the mesh ---- */

struct mesh *actor_mesh_new(uint64_t seed, size_t hosts)
{
    playing = mesh_new(seed, hosts);
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_types(playing, i, actor_types, actor_type_count);
    }
    return playing;
}

struct mesh *actor_mesh(uint64_t seed, size_t hosts)
{
    struct mesh *m = actor_mesh_new(seed, hosts);
    mesh_start_all(m);
    return m;
}

gw_err actor_send(struct mesh *m, size_t via, const gw_id *agent, const char *method,
                  const char *args)
{
    char id[GW_ID_TEXT];
    return mesh_op(m, via, NULL, "send",
                   "{'agent': '%s', 'method': '%s', 'args': %s, 'text': true}",
                   gw_id_text(agent, id), method, args);
}

void actor_must(struct mesh *m, size_t via, const gw_id *agent, const char *method,
                const char *args)
{
    gw_err err = actor_send(m, via, agent, method, args);
    if (err != GW_OK) {
        mesh_fail(m, "%s is answered by %s", method, gw_err_name(err));
    }
}

gw_err actor_relay(struct mesh *m, size_t via, const gw_id *from, const gw_id *to, int number,
                   const char *key)
{
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    return mesh_op(
        m, via, NULL, "send",
        "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s', 'number': %d}, 'text': true, "
        "'key': '%s'}",
        gw_id_text(from, a), gw_id_text(to, b), number, key);
}

const char *actor_history(struct mesh *m, size_t via, const gw_id *agent)
{
    static char text[8192];
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, via, &v, "send", "{'agent': '%s', 'method': 'history'}", gw_id_text(agent, id));
    const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; log && log->kind == GW_LIST && i < log->list.n && at < sizeof text; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? " " : "",
                               log->list.items[i].s.p);
    }
    gw_value_free(&v);
    return text;
}

size_t actor_lines(struct mesh *m, size_t via, const gw_id *agent, const char *want)
{
    char text[8192], *rest = text;
    size_t n = 0;
    (void)snprintf(text, sizeof text, "%s", actor_history(m, via, agent));
    for (const char *word; (word = strsep(&rest, " "));) {
        n += strcmp(word, want) == 0;
    }
    return n;
}

size_t actor_events(struct mesh *m, size_t host, const char *kind)
{
    size_t n = 0;
    struct mesh_call *c = mesh_ask(m, host, "events", "{'limit': 100000}");
    mesh_assert(m, mesh_wait(m, c, 60000) == GW_OK);
    for (size_t i = 0; c->items.kind == GW_LIST && i < c->items.list.n; i++) {
        n += strcmp(gw_map_str(&c->items.list.items[i], "kind", ""), kind) == 0;
    }
    mesh_call_free(c);
    return n;
}

static bool count_row(void *arg, struct span key, struct span value)
{
    (void)key, (void)value;
    ++*(size_t *)arg;
    return true;
}

size_t actor_rows(struct mesh *m, size_t host, store_table table)
{
    struct store_range range = {.table = table};
    size_t n = 0;
    mesh_assert(m, store_scan(m->hosts[host].store, &range, count_row, &n) == GW_OK);
    return n;
}

static bool keep_count(void *arg, struct span key, struct span value)
{
    gw_value part = gw_nil();
    if (key.n == GW_ID_BYTES + 8 && value_unpack_span(value, &part) == GW_OK) {
        *(int64_t *)arg = gw_map_int(&part, "count", 0);
        gw_value_free(&part);
    }
    return true;
}

int64_t actor_stored_count(struct mesh *m, size_t host, const gw_id *agent)
{
    struct store_range range = {.table = TABLE_STATES, .prefix = {agent->b, GW_ID_BYTES}};
    int64_t count = 0;
    mesh_assert(m, store_scan(m->hosts[host].store, &range, keep_count, &count) == GW_OK);
    return count;
}

gw_id actor_id_of(struct mesh *m, const gw_value *answer)
{
    gw_id id = {{0}};
    if (gw_id_parse(gw_map_str(answer, "agent", ""), &id) != GW_OK) {
        mesh_fail(m, "no agent in the answer");
    }
    return id;
}

/* ---- the wire ---- */

static mesh_fate on_frame(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct wire *w = arg;
    struct mp m = frame->rest;
    uint32_t code;
    if (frame->kind == FRAME_REPLY && from == w->to && to == w->from &&
        frame->stream >= 1000000000 && mp_read_u32(&m, &code) == GW_OK &&
        w->count < sizeof w->answers / sizeof w->answers[0]) {
        w->answers[w->count].stream = frame->stream;
        w->answers[w->count++].code = gw_err_from_wire(code);
    }
    return FATE_PASS;
}

void wire_open(struct wire *w, struct mesh *m, size_t from, size_t to)
{
    *w = (struct wire){.m = m, .from = from, .to = to, .next = 1000000000};
    mesh_on_frame(m, on_frame, w);
}

uint64_t wire_call(struct wire *w, const char *op, gw_value args, gw_value context)
{
    struct buf frame = {0};
    uint64_t stream = w->next++;
    size_t at = frame_begin(&frame, FRAME_CALL, stream, 3);
    mp_str(&frame, op);
    value_pack(&args, &frame);
    value_pack(&context, &frame);
    frame_end(&frame, at);
    mesh_inject(w->m, w->from, w->to, &frame);
    buf_free(&frame);
    gw_value_free(&args);
    gw_value_free(&context);
    return stream;
}

uint64_t wire_accept(struct wire *w, const gw_id *to, const gw_id *sender, int64_t seq,
                     int64_t since, int number)
{
    char text[GW_ID_TEXT];
    gw_value args = gw_nil(), context = gw_nil(), inner = gw_nil(), packed = gw_nil(),
             key = gw_nil();
    struct buf bytes = {0};
    uint8_t raw[16] = {(uint8_t)seq, (uint8_t)number, 7};
    gw_err err = gw_map_set(&inner, "number", gw_int(number));
    value_pack(&inner, &bytes);
    err |= gw_value_set_bytes(&packed, bytes.data, bytes.len);
    err |= gw_value_set_bytes(&key, raw, sizeof raw);
    err |= gw_map_set(&args, "agent", gw_str(gw_id_text(to, text)));
    err |= gw_map_set(&args, "sender", gw_str(gw_id_text(sender, text)));
    err |= gw_map_set(&args, "seq", gw_int(seq));
    err |= gw_map_set(&args, "since", gw_int(since));
    err |= gw_map_set(&args, "method", gw_str("add"));
    err |= gw_map_set(&args, "args", packed);
    err |= gw_map_set(&args, "key", key);
    err |= gw_map_set(&context, "hop", gw_bool(true));
    gw_assert(err == GW_OK);
    buf_free(&bytes);
    gw_value_free(&inner);
    return wire_call(w, "accept", args, context);
}

bool wire_answered(const struct wire *w, uint64_t stream, gw_err *ret)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->answers[i].stream == stream) {
            *ret = w->answers[i].code;
            return true;
        }
    }
    return false;
}

gw_err wire_wait(struct wire *w, uint64_t stream)
{
    gw_err code;
    for (int i = 0; i < 6000; i++) {
        if (wire_answered(w, stream, &code)) {
            return code;
        }
        mesh_run(w->m, 10);
    }
    mesh_fail(w->m, "a call on the wire is never answered");
}
