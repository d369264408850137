/* The engine through its frames, as a host sees it. Long because the author types that misbehave
 * for it stand in the same file as the checks of what comes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/agents/rig.h"

#include "demos/counter.c"

#include "protocol/limits.h"

/* --- a type in two builds: renamed, added and large fields, .upgrade --- */

struct note_v1 {
    char *titel;
    int64_t weight; /* grams */
    gw_bytes data;
    gw_strs lines;
};
static const struct gw_field note_fields_v1[] = {
    GW_FIELD(struct note_v1, titel),
    GW_FIELD(struct note_v1, weight),
    GW_FIELD(struct note_v1, data),
    GW_FIELD(struct note_v1, lines),
};
struct note_v2 {
    char *title;
    int64_t weight; /* milligrams */
    gw_bytes data;
    gw_strs lines;
    char *colour;
    gw_bytes extra;
};
static const struct gw_field note_fields_v2[] = {
    GW_FIELD_RENAMED(struct note_v2, title, "titel"),
    GW_FIELD(struct note_v2, weight),
    GW_FIELD(struct note_v2, data),
    GW_FIELD(struct note_v2, lines),
    GW_FIELD_SINCE(struct note_v2, colour, 2),
    GW_FIELD_SINCE(struct note_v2, extra, 2),
};
static gw_err note_upgrade(void *state, uint32_t from)
{
    struct note_v2 *n = state;
    assert_int_equal(from, 1);
    n->weight *= 1000;
    return GW_OK;
}
static gw_err note_touch(struct gw_call *call)
{
    (void)call;
    return GW_OK;
}
static gw_err note_fill(struct gw_call *call)
{
    struct note_v1 *n = gw_state(call);
    size_t len = (size_t)gw_arg_int(call, "bytes");
    gw_bytes_clear(&n->data);
    n->data.data = calloc(1, len ? len : 1);
    n->data.len = len;
    return n->data.data ? GW_OK : GW_ENOMEM;
}
static gw_err note_lines(struct gw_call *call)
{
    struct note_v1 *n = gw_state(call);
    gw_strs_clear(&n->lines);
    for (int64_t i = 0; i < gw_arg_int(call, "n"); i++) {
        GW_TRY(gw_strs_addf(&n->lines, "line number %06d", (int)i));
    }
    return GW_OK;
}
static gw_err note_v2_set(struct gw_call *call)
{
    struct note_v2 *n = gw_state(call);
    free(n->colour);
    n->colour = strdup("red");
    n->extra.data = calloc(1, 10000);
    n->extra.len = 10000;
    return GW_OK;
}
static gw_err note_rubbish(struct gw_call *call)
{
    struct note_v1 *n = gw_state(call);
    free(n->titel);
    n->titel = malloc(6000);
    if (!n->titel) {
        return GW_ENOMEM;
    }
    memset(n->titel, 0xff, 5999); /* a file name may be anything */
    n->titel[5999] = '\0';
    return gw_reply_str(call, "text", n->titel);
}
static gw_err note_big_reply(struct gw_call *call)
{
    size_t n = (size_t)gw_arg_int(call, "bytes");
    gw_bytes b = {calloc(1, n), n};
    gw_err err = gw_reply_bytes(call, "data", b.data, b.len);
    free(b.data);
    return err;
}
static const struct gw_method note_methods[] = {
    {"touch()", note_touch},
    {"fill(bytes: int)", note_fill},
    {"lines(n: int)", note_lines},
    {"rubbish() -> (text: string)", note_rubbish},
    {"big_reply(bytes: int) -> (data: bytes)", note_big_reply, GW_READ},
};
static const struct gw_method note_methods_v2[] = {{"touch()", note_touch}, {"set()", note_v2_set}};
static const struct gw_type note_v1 = {GW_ABI,
                                       sizeof(struct gw_type),
                                       "note",
                                       .state_size = sizeof(struct note_v1),
                                       GW_FIELDS(note_fields_v1),
                                       GW_METHODS(note_methods)};
static const struct gw_type note_v2 = {GW_ABI,
                                       sizeof(struct gw_type),
                                       "note",
                                       .version = 2,
                                       .state_size = sizeof(struct note_v2),
                                       GW_FIELDS(note_fields_v2),
                                       GW_METHODS(note_methods_v2),
                                       .upgrade = note_upgrade,
                                       .oldest_reader = 1};

/* --- a type that uses every verb, and misuses some --- */

struct odd {
    int64_t n;
    void *cache; /* untabled */
};
static const struct gw_field odd_fields[] = {GW_FIELD(struct odd, n)};
static int unloads, cache_marks;

static gw_err odd_mark(struct gw_call *call)
{
    struct odd *o = gw_state(call);
    o->cache = &cache_marks;
    return GW_OK;
}
static gw_err odd_cached(struct gw_call *call)
{
    struct odd *o = gw_state(call);
    return gw_reply_bool(call, "yes", o->cache == &cache_marks);
}
static gw_err odd_fail(struct gw_call *call)
{
    struct odd *o = gw_state(call);
    o->n += 100;
    GW_TRY(gw_tell(call, rig_id(9), "never", gw_nil()));
    return gw_call_fail(call, GW_EREFUSED, "not with %d", (int)o->n);
}
static gw_err odd_return(struct gw_call *call)
{
    return (gw_err)gw_arg_int(call, "code");
}
static gw_err odd_bad_reply(struct gw_call *call)
{
    return gw_reply_str(call, "n", "text");
}
static gw_err odd_typo(struct gw_call *call)
{
    (void)gw_arg_int(call, "nn");
    return GW_OK;
}
static gw_err odd_cheat(struct gw_call *call)
{
    struct odd *o = gw_state(call);
    o->n++;
    return GW_OK;
}
static gw_err odd_read_dispatch(struct gw_call *call)
{
    return gw_dispatch(call, "beta");
}
static gw_err odd_act(struct gw_call *call)
{
    GW_TRY(gw_tell(call, rig_id(7), "ping", rig_map("x", gw_int(1))));
    GW_TRY(gw_clone(call, NULL));
    GW_TRY(gw_dispatch(call, "tag:disk"));
    assert_int_equal(gw_deactivate(call), GW_ECONFLICT);
    assert_int_equal(gw_dispose(call), GW_ECONFLICT);
    return GW_OK;
}
static gw_err odd_rest(struct gw_call *call)
{
    struct gw_sleep both = {.wake_after_ms = 1, .wake_at = {1}}, odd = {.flags = 8};
    struct gw_sleep early = {.wake_after_ms = -1}, torn = {.flags = 3};
    struct gw_sleep fine = {.wake_after_ms = 5, .flags = GW_SLEEP_QUEUE | GW_SLEEP_AT_START};
    struct gw_sleep wall = {.wake_at = {7}, .flags = GW_SLEEP_WAKE};
    assert_int_equal(gw_deactivate_with(call, &both), GW_EARG);
    assert_int_equal(gw_deactivate_with(call, &odd), GW_EARG);
    assert_int_equal(gw_deactivate_with(call, &early), GW_EARG);
    assert_int_equal(gw_deactivate_other_with(call, rig_id(7), &torn), GW_EARG);
    GW_TRY(gw_deactivate_other_with(call, rig_id(7), &wall));
    GW_TRY(gw_deactivate_with(call, &fine));
    assert_int_equal(gw_dispatch(call, "beta"), GW_ECONFLICT);
    return GW_OK;
}
static gw_err odd_tour(struct gw_call *call)
{
    struct gw_stop bad[] = {{.to = "a", .args = rig_map("x", gw_int(1))},
                            {.to = "", .args = rig_map("x", gw_int(1))}};
    assert_int_equal(gw_itinerary(call, bad, 2, 0), GW_EARG); /* and owns what it was given */
    struct gw_stop stops[] = {
        {.to = "beta", .method = "look", .args = rig_map("x", gw_int(1)), .policy = GW_STOP_WAIT},
        {.to = "tag:lab", .retries = 7},
    };
    GW_TRY(gw_itinerary(call, stops, 2, GW_STAY));
    return gw_itinerary_cancel(call);
}
static gw_err odd_flood(struct gw_call *call)
{
    gw_err err = GW_OK;
    while (err == GW_OK) {
        char *text = calloc(1, 100001);
        memset(text, 'x', 100000);
        err = gw_tell(call, rig_id(7), "ping", rig_map("x", gw_str(text)));
        free(text);
    }
    return err;
}
static gw_err odd_ask(struct gw_call *call)
{
    GW_AUTO(gw_value_free) gw_value reply = gw_nil();
    GW_AUTO(gw_value_free) gw_value hosts = gw_nil();
    gw_id made;
    GW_TRY(gw_ask(call, gw_arg_id(call, "whom"), "get", gw_nil(), &reply));
    GW_TRY(gw_create(call, "counter", rig_map("count", gw_int(3)), "beta", &made));
    GW_TRY(gw_hosts(call, &hosts));
    GW_TRY(gw_reply_int(call, "hosts", (int64_t)hosts.list.n));
    GW_TRY(gw_reply_id(call, "made", made));
    gw_value got = reply;
    reply = gw_nil();
    return gw_reply_value(call, "got", got);
}
static gw_err odd_where(struct gw_call *call)
{
    gw_log(call, GW_LOG_WARN, "hello %d", 5);
    GW_TRY(gw_reply_str(call, "host", gw_host_name(call)));
    GW_TRY(gw_reply_str(call, "home", gw_home(call)));
    GW_TRY(gw_reply_id(call, "sender", gw_sender(call)));
    GW_TRY(gw_reply_time(call, "now", gw_now(call)));
    return gw_reply_uint(call, "epoch", gw_epoch(call));
}
static void odd_unload(void *state)
{
    (void)state;
    unloads++;
}
static gw_err odd_create(struct gw_call *call)
{
    struct odd *o = gw_state(call);
    return o->n < 0 ? gw_call_fail(call, GW_EARG, "n is negative") : GW_OK;
}
/* Ask n times, wait for all, take the answers in the order in which wait_any gives them. */
static gw_err odd_fan(struct gw_call *call)
{
    struct gw_future *futures[300] = {0};
    size_t n = (size_t)gw_arg_int(call, "n"), index;
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        GW_TRY(gw_ask_async(call, gw_arg_id(call, "whom"), "get", gw_nil(), &futures[i]));
    }
    GW_TRY(gw_wait_all(call, futures, n, 50));
    for (size_t i = 0; i < n; i++) {
        gw_value reply;
        GW_TRY(gw_wait_any(call, futures, n, 0, &index));
        GW_TRY(gw_wait(call, futures[index], 0, &reply));
        sum += gw_map_int(&reply, "count", 0);
        gw_value_free(&reply);
    }
    gw_err err = gw_wait_any(call, futures, n, GW_FOREVER, &index); /* none is left */
    return err == GW_ENOT_FOUND ? gw_reply_int(call, "sum", sum) : GW_EFAIL;
}

static gw_err odd_fan_mistakes(struct gw_call *call)
{
    struct gw_future *f, *none[2] = {0};
    size_t index;
    gw_value list = {.kind = GW_LIST};
    if (gw_ask_async(call, gw_arg_id(call, "whom"), "get", list, &f) != GW_EARG ||
        gw_wait_all(call, none, 2, GW_FOREVER) != GW_OK ||
        gw_wait_any(call, none, 2, GW_FOREVER, &index) != GW_ENOT_FOUND) {
        return GW_EFAIL;
    }
    GW_TRY(gw_ask_async(call, gw_arg_id(call, "whom"), "get", gw_nil(), &f));
    GW_TRY(gw_wait(call, f, GW_FOREVER, NULL)); /* the answer is not wanted */
    bool over = gw_future_done(call, f) && gw_wait(call, f, 0, NULL) == GW_ENOT_FOUND;
    GW_TRY(gw_ask_async(call, gw_arg_id(call, "whom"), "get", gw_nil(), &f)); /* nobody waits */
    return over ? GW_OK : GW_EFAIL;
}

static gw_err odd_later(struct gw_call *call)
{
    gw_id token, again;
    GW_TRY(gw_reply_later(call, &token));
    GW_TRY(gw_reply_later(call, &again)); /* is the same */
    if (!gw_id_equal(&token, &again) ||
        (!gw_id_is_nil(&token) && gw_answer(call, token, gw_nil()) != GW_EARG)) {
        return GW_EFAIL;
    }
    if (gw_arg_bool(call, "both")) {
        GW_TRY(gw_reply_int(call, "n", 1));
    }
    return GW_OK;
}

static gw_err odd_read_later(struct gw_call *call)
{
    gw_id token;
    return gw_reply_later(call, &token);
}

static gw_err odd_answer(struct gw_call *call)
{
    gw_value map = gw_nil(), list = {.kind = GW_LIST};
    gw_id token = gw_arg_id(call, "token"), nobody = {{0}};
    GW_TRY(gw_map_set(&map, "n", gw_int(4)));
    GW_TRY(gw_answer(call, token, map));
    GW_TRY(gw_answer_fail(call, token, GW_EBUSY, "not %s", "today"));
    GW_TRY(gw_answer(call, nobody, gw_nil()));
    return gw_answer(call, token, list) == GW_EARG &&
                   gw_answer_fail(call, token, GW_OK, "well") == GW_EARG &&
                   gw_answer_fail(call, token, (gw_err)7777, "what") == GW_EARG
               ? GW_OK
               : GW_EFAIL;
}

static const struct gw_method odd_methods[] = {
    {"mark()", odd_mark},
    {"cached() -> (yes: bool)", odd_cached, GW_READ},
    {"fail()", odd_fail},
    {"ret(code: int)", odd_return},
    {"bad_reply() -> (n: int)", odd_bad_reply},
    {"typo(n: int?)", odd_typo},
    {"cheat()", odd_cheat, GW_READ},
    {"read_dispatch()", odd_read_dispatch, GW_READ},
    {"act()", odd_act},
    {"rest()", odd_rest},
    {"tour()", odd_tour},
    {"flood()", odd_flood},
    {"ask(whom: agent) -> (got: any, made: agent, hosts: int)", odd_ask},
    {"fan(whom: agent, n: int) -> (sum: int)", odd_fan, GW_READ},
    {"fan_mistakes(whom: agent)", odd_fan_mistakes},
    {"later(both: bool = false) -> (n: int)", odd_later},
    {"read_later()", odd_read_later, GW_READ},
    {"answer(token: agent)", odd_answer},
    {"where() -> (host: string, home: string, sender: agent, now: time, epoch: uint)", odd_where,
     GW_READ},
};
GW_AGENT(odd, struct odd, GW_FIELDS(odd_fields), GW_METHODS(odd_methods), .on_unload = odd_unload,
         .on_create = odd_create);

/* --- the fake host --- */

static struct {
    gw_value calls; /* [{op, args, context}] */
    gw_err answer;
    bool silent; /* asks are not answered */
    size_t open; /* asks that were not dropped */
    char log[200];
} host;

struct engine_ask {
    gw_err err;
    struct gw_error why;
    gw_value value;
    bool answered;
};

static gw_err fake_start(void *ctx, const char *op, const gw_value *args, const gw_value *context,
                         bool waits, struct engine_ask **ret, struct gw_error *why)
{
    (void)ctx, (void)waits, (void)why;
    gw_value a, c, entry = rig_map("op", gw_str(op));
    struct engine_ask *ask = calloc(1, sizeof *ask);
    assert_int_equal(gw_value_copy(args, &a), GW_OK);
    assert_int_equal(gw_value_copy(context, &c), GW_OK);
    assert_int_equal(gw_map_set(&entry, "args", a), GW_OK);
    assert_int_equal(gw_map_set(&entry, "context", c), GW_OK);
    assert_int_equal(gw_list_add(&host.calls, entry), GW_OK);
    ask->answered = !host.silent;
    if (host.answer != GW_OK) {
        ask->err = gw_fail(&ask->why, host.answer, "the other side says no");
    } else if (strcmp(op, "send") == 0) {
        ask->value = rig_map("reply", rig_map("count", gw_int(42)));
    } else if (strcmp(op, "create") == 0) {
        gw_id id = rig_id(77);
        ask->value = rig_map("agent", gw_id_value(&id));
    } else {
        ask->value.kind = GW_LIST;
        assert_int_equal(gw_list_add(&ask->value, rig_map("name", gw_str("alpha"))), GW_OK);
    }
    host.open++;
    *ret = ask;
    return GW_OK;
}

static gw_err fake_wait(void *ctx, struct engine_ask *const *asks, size_t n, bool all,
                        int64_t timeout_ms, struct gw_error *why)
{
    (void)ctx, (void)timeout_ms, (void)why;
    size_t answered = 0;
    for (size_t i = 0; i < n; i++) {
        answered += asks[i]->answered;
    }
    return answered >= (all ? n : 1) ? GW_OK : GW_ETIMEOUT;
}

static uint64_t fake_answered(void *ctx, const struct engine_ask *ask)
{
    (void)ctx;
    return ask->answered;
}

static gw_err fake_take(void *ctx, struct engine_ask *ask, gw_value *ret, struct gw_error *why)
{
    (void)ctx;
    if (ask->err != GW_OK) {
        *why = ask->why;
        return ask->err;
    }
    *ret = ask->value;
    ask->value = gw_nil();
    return GW_OK;
}

static void fake_drop(void *ctx, struct engine_ask *ask)
{
    (void)ctx;
    gw_value_free(&ask->value);
    free(ask);
    host.open--;
}

static void fake_log(void *ctx, const gw_id *agent, unsigned level, const char *text,
                     const char *trace)
{
    (void)ctx, (void)agent, (void)trace;
    snprintf(host.log, sizeof host.log, "%u %s", level, text);
}

static int64_t fake_now(void *ctx)
{
    (void)ctx;
    return 1234567;
}

static struct engine *engine_of(const struct gw_type *a, const struct gw_type *b)
{
    static const struct engine_io io = {.start = fake_start,
                                        .wait = fake_wait,
                                        .answered = fake_answered,
                                        .take = fake_take,
                                        .drop = fake_drop,
                                        .log = fake_log,
                                        .now_ms = fake_now};
    struct engine *e = engine_new(&io, NULL);
    struct gw_error why = {0};
    assert_int_equal(engine_add_type(e, a, &why), GW_OK);
    if (b) {
        assert_int_equal(engine_add_type(e, b, &why), GW_OK);
    }
    return e;
}

static struct rig_done go(struct engine *e, struct rig_run r)
{
    static uint64_t stream;
    struct buf in = {0}, out = {0};
    struct frame f;
    struct rig_done d;
    rig_pack(&in, ++stream, r);
    struct span s = buf_span(&in);
    assert_int_equal(frame_take(&s, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    engine_run(e, &f, &out);
    s = buf_span(&out);
    assert_int_equal(frame_take(&s, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    assert_int_equal(s.n, 0);
    assert_int_equal(rig_parse(&f, &d), GW_OK);
    assert_int_equal(d.stream, stream);
    buf_free(&in);
    buf_free(&out);
    return d;
}

/* Run; the code must be `want`; what it commits goes to `store`. */
static struct rig_done want(struct engine *e, gw_value *store, gw_err code, struct rig_run r)
{
    struct rig_done d = go(e, r);
    if (d.code != code) {
        fail_msg("code %s (%s), not %s", gw_err_name(d.code), d.text, gw_err_name(code));
    }
    if (store && d.code == GW_OK) {
        rig_commit(store, &d);
    }
    return d;
}

static void quiet(struct engine *e, gw_value *store, gw_err code, struct rig_run r)
{
    struct rig_done d = want(e, store, code, r);
    rig_done_free(&d);
}

#define ID                rig_id(1)
#define METHOD(t, m, ...) ((struct rig_run){.agent = ID, .type = t, .method = m, __VA_ARGS__})
#define HOOK(t, h, ...)   ((struct rig_run){.agent = ID, .type = t, .hook = h, __VA_ARGS__})

/* --- tests --- */

static void counter_counts(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_counter, NULL);
    gw_value store = {0};
    struct rig_done d =
        want(e, &store, GW_OK, HOOK("counter", HOOK_CREATE, .args = rig_map("count", gw_int(5))));
    assert_int_equal(rig_parts(&d), 1);
    assert_int_equal(d.flags, 0);
    rig_done_free(&d);

    d = want(e, &store, GW_OK, METHOD("counter", "increment", .args = rig_map("by", gw_int(2))));
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 7);
    assert_int_equal(rig_parts(&d), 1);
    rig_done_free(&d);
    d = want(e, &store, GW_OK, METHOD("counter", "increment")); /* by: int = 1 */
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 8);
    rig_done_free(&d);
    d = want(e, &store, GW_OK,
             METHOD("counter", "increment", .flags = RUN_TEXT_ARGS,
                    .args = rig_map("by", gw_str("34"))));
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 42);
    rig_done_free(&d);

    d = want(e, &store, GW_OK, METHOD("counter", "get"));
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 42);
    assert_int_equal(d.flags, DONE_READ);
    assert_int_equal(d.parts.len, 0);
    rig_done_free(&d);

    d = want(e, &store, GW_OK, METHOD("counter", "increment", .args = rig_map("by", gw_int(0))));
    assert_int_equal(d.flags, DONE_READ); /* nothing changed */
    assert_int_equal(rig_parts(&d), 0);
    rig_done_free(&d);

    gw_value small = rig_small(&store);
    assert_int_equal(gw_map_int(&small, "", 0), 1); /* version */
    assert_int_equal(gw_map_int(&small, "count", 0), 42);
    gw_value_free(&small);
    gw_value_free(&store);
    engine_free(e);
}

static void arguments_are_checked(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_counter, NULL);
    quiet(e, NULL, GW_OK, HOOK("counter", HOOK_CREATE));
    quiet(e, NULL, GW_EARG, METHOD("counter", "increment", .args = rig_map("bye", gw_int(2))));
    quiet(e, NULL, GW_EARG, METHOD("counter", "increment", .args = rig_map("by", gw_str("2"))));
    quiet(e, NULL, GW_EARG,
          METHOD("counter", "increment", .flags = RUN_TEXT_ARGS,
                 .args = rig_map("by", gw_str("two"))));
    struct rig_done d = want(e, NULL, GW_EMETHOD_NOT_FOUND, METHOD("counter", "incremend"));
    assert_non_null(strstr(d.text, "incremend"));
    assert_non_null(strstr(d.hint, "increment, get"));
    rig_done_free(&d);
    quiet(e, NULL, GW_ETYPE_NOT_FOUND, METHOD("contour", "get"));
    d = want(e, NULL, GW_OK, METHOD("counter", "increment")); /* not stale: no handler had run */
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 1);
    rig_done_free(&d);
    engine_free(e);
}

static void create_sets_fields(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_counter, &gw_agent_odd);
    struct rig_done d =
        want(e, NULL, GW_EARG, HOOK("counter", HOOK_CREATE, .args = rig_map("cont", gw_int(1))));
    assert_non_null(strstr(d.text, "cont"));
    assert_non_null(strstr(d.text, "count, events"));
    rig_done_free(&d);
    assert_int_equal(engine_agents(e), 0);
    quiet(e, NULL, GW_EARG, HOOK("counter", HOOK_CREATE, .args = rig_map("count", gw_str("x"))));
    quiet(e, NULL, GW_EARG, HOOK("counter", HOOK_CREATE, .args = gw_int(4)));
    quiet(e, NULL, GW_OK,
          HOOK("counter", HOOK_CREATE, .flags = RUN_TEXT_ARGS,
               .args = rig_map("count", gw_str("9"))));
    d = want(e, NULL, GW_OK, METHOD("counter", "get"));
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 9);
    rig_done_free(&d);
    /* a failing on_create leaves nothing */
    d = want(e, NULL, GW_EARG,
             (struct rig_run){.agent = rig_id(2),
                              .type = "odd",
                              .hook = HOOK_CREATE,
                              .args = rig_map("n", gw_int(-1))});
    assert_string_equal(d.text, "odd.on_create: n is negative");
    rig_done_free(&d);
    assert_int_equal(engine_agents(e), 1);
    engine_free(e);
}

static void unknown_without_parts(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_counter, NULL);
    quiet(e, NULL, GW_EUNKNOWN, METHOD("counter", "get"));
    assert_int_equal(engine_agents(e), 0);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("counter", HOOK_CREATE, .args = rig_map("count", gw_int(3))));
    struct buf in = {0}, out = {0}; /* UNLOAD */
    struct frame f;
    size_t at = frame_begin(&in, FRAME_UNLOAD, 0, 1);
    mp_id(&in, &(gw_id){{1, [15] = 1}});
    frame_end(&in, at);
    struct span s = buf_span(&in);
    assert_int_equal(frame_take(&s, 1000, &f), GW_OK);
    engine_run(e, &f, &out);
    assert_int_equal(out.len, 0);
    assert_int_equal(engine_agents(e), 0);
    buf_free(&in);
    struct buf parts = {0};
    value_pack(&store, &parts);
    quiet(e, NULL, GW_EUNKNOWN, METHOD("counter", "get"));
    struct rig_done d = want(e, NULL, GW_OK, METHOD("counter", "get", .parts = &parts));
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 3);
    rig_done_free(&d);
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(e);
}

static void failure_does_not_leak(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("odd", HOOK_CREATE, .args = rig_map("n", gw_int(1))));
    quiet(e, &store, GW_OK, METHOD("odd", "mark"));
    struct rig_done d = want(e, &store, GW_EREFUSED, METHOD("odd", "fail"));
    assert_string_equal(d.text, "odd.fail: not with 101");
    assert_int_equal(d.actions.list.n, 0);
    assert_int_equal(rig_parts(&d), 0);
    rig_done_free(&d);
    quiet(e, &store, GW_EUNKNOWN, METHOD("odd", "cached")); /* stale */
    struct buf parts = {0};
    value_pack(&store, &parts);
    d = want(e, &store, GW_OK, METHOD("odd", "cached", .parts = &parts));
    assert_true(gw_map_bool(&d.reply, "yes", false)); /* the untabled member stayed */
    rig_done_free(&d);
    d = want(e, &store, GW_OK, HOOK("odd", HOOK_NONE, .flags = RUN_SNAPSHOT));
    rig_done_free(&d);
    gw_value small = rig_small(&store);
    assert_int_equal(gw_map_int(&small, "n", 0), 1);
    gw_value_free(&small);
    /* codes that mean something to a host do not come out of handlers */
    d = want(e, NULL, GW_EFAIL, METHOD("odd", "ret", .args = rig_map("code", gw_int(GW_EUNKNOWN))));
    rig_done_free(&d);
    d = want(e, NULL, GW_EFAIL,
             METHOD("odd", "ret", .parts = &parts, .args = rig_map("code", gw_int(9999))));
    rig_done_free(&d);
    d = want(e, NULL, GW_EOVERFLOW,
             METHOD("odd", "ret", .parts = &parts, .args = rig_map("code", gw_int(GW_EOVERFLOW))));
    assert_string_equal(d.text, "odd.ret: the number does not fit");
    rig_done_free(&d);
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(e);
}

static void mistakes_of_the_author(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("odd", HOOK_CREATE));
    struct buf parts = {0};
    value_pack(&store, &parts);
    struct rig_done d = want(e, NULL, GW_EFAIL, METHOD("odd", "bad_reply"));
    assert_non_null(strstr(d.text, "odd.bad_reply: the reply does not fit its signature"));
    rig_done_free(&d);
    d = want(e, NULL, GW_EARG, METHOD("odd", "typo", .parts = &parts));
    assert_non_null(strstr(d.text, "\"nn\""));
    rig_done_free(&d);
    d = want(e, NULL, GW_EREFUSED, METHOD("odd", "read_dispatch", .parts = &parts));
    assert_string_equal(d.text, "odd.read_dispatch: a GW_READ method cannot dispatch");
    rig_done_free(&d);
    d = want(e, NULL, GW_ETOO_BIG, METHOD("odd", "flood"));
    assert_non_null(strstr(d.text, "4194304"));
    rig_done_free(&d);
    engine_free(e);
    setenv("GODWIT_CHECK_READ", "1", 1);
    e = engine_of(&gw_agent_odd, NULL);
    d = want(e, NULL, GW_EFAIL, METHOD("odd", "cheat", .parts = &parts));
    assert_string_equal(d.text, "odd.cheat: the method is declared GW_READ but changed the state");
    rig_done_free(&d);
    quiet(e, NULL, GW_EUNKNOWN, METHOD("odd", "cached"));
    engine_free(e);
    unsetenv("GODWIT_CHECK_READ");
    buf_free(&parts);
    gw_value_free(&store);
}

static void hooks_and_discard(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_counter, &gw_agent_odd);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("counter", HOOK_CREATE));
    /* no handler: nothing changed */
    struct rig_done d = want(e, &store, GW_OK, HOOK("counter", HOOK_ACTIVATE));
    assert_int_equal(d.flags, DONE_READ);
    rig_done_free(&d);
    /* dispatch on the snapshot, then the object is gone */
    gw_value ticket = {0};
    d = want(e, &ticket, GW_OK,
             HOOK("counter", HOOK_DISPATCH, .flags = RUN_SNAPSHOT | RUN_DISCARD));
    assert_int_equal(rig_parts(&d), 1);
    rig_done_free(&d);
    assert_int_equal(engine_agents(e), 0);
    struct buf parts = {0};
    value_pack(&ticket, &parts);
    d = want(e, &ticket, GW_OK,
             HOOK("counter", HOOK_ARRIVE, .parts = &parts, .epoch = 2,
                  .context = rig_map("host", gw_str("beta"))));
    assert_int_equal(rig_parts(&d), 1);
    rig_done_free(&d);
    d = want(e, NULL, GW_OK, METHOD("counter", "get"));
    const gw_value *events = gw_map_get(&d.reply, "events");
    assert_string_equal(events->list.items[0].s.p, "arrived at beta");
    rig_done_free(&d);
    /* arriving without a change of state answers no part */
    struct buf odd = {0};
    gw_value odd_store = {0};
    quiet(e, &odd_store, GW_OK,
          (struct rig_run){.agent = rig_id(3), .type = "odd", .hook = HOOK_CREATE});
    value_pack(&odd_store, &odd);
    d = want(
        e, NULL, GW_OK,
        (struct rig_run){.agent = rig_id(4), .type = "odd", .hook = HOOK_CLONE, .parts = &odd});
    assert_int_equal(rig_parts(&d), 0);
    rig_done_free(&d);
    unloads = 0;
    quiet(e, NULL, GW_OK,
          (struct rig_run){
              .agent = rig_id(4), .type = "odd", .hook = HOOK_NONE, .flags = RUN_DISCARD});
    assert_int_equal(unloads, 1);
    quiet(e, NULL, GW_EUNKNOWN,
          (struct rig_run){
              .agent = rig_id(4), .type = "odd", .hook = HOOK_NONE, .flags = RUN_DISCARD});
    buf_free(&parts);
    buf_free(&odd);
    gw_value_free(&odd_store);
    gw_value_free(&store);
    gw_value_free(&ticket);
    engine_free(e);
}

static void large_fields_are_parts(void **state)
{
    (void)state;
    struct engine *e = engine_of(&note_v1, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("note", HOOK_CREATE, .args = rig_map("titel", gw_str("a"))));
    assert_int_equal(store.map.n, 1);
    /* 4093 bytes pack to 4096: still inside; one more is a part of its own */
    quiet(e, &store, GW_OK, METHOD("note", "fill", .args = rig_map("bytes", gw_int(4093))));
    assert_int_equal(store.map.n, 1);
    struct rig_done d =
        want(e, &store, GW_OK, METHOD("note", "fill", .args = rig_map("bytes", gw_int(4094))));
    assert_int_equal(rig_parts(&d), 2); /* "" lost it, "data" has it */
    assert_int_equal(gw_map_get(&store, "data")->s.n, 4097);
    rig_done_free(&d);
    d = want(e, &store, GW_OK, METHOD("note", "touch"));
    assert_int_equal(rig_parts(&d), 0);
    rig_done_free(&d);
    d = want(e, &store, GW_OK, METHOD("note", "fill", .args = rig_map("bytes", gw_int(100000))));
    assert_int_equal(rig_parts(&d), 1);
    rig_done_free(&d);
    quiet(e, &store, GW_OK, METHOD("note", "lines", .args = rig_map("n", gw_int(1000))));
    assert_int_equal(store.map.n, 3);
    /* loading what was stored and changing nothing sends nothing */
    struct buf parts = {0};
    value_pack(&store, &parts);
    d = want(e, &store, GW_OK, METHOD("note", "touch", .parts = &parts));
    assert_int_equal(rig_parts(&d), 0);
    rig_done_free(&d);
    d = want(e, &store, GW_OK, HOOK("note", HOOK_NONE, .flags = RUN_SNAPSHOT));
    assert_int_equal(rig_parts(&d), 3);
    rig_done_free(&d);
    /* small again: the part goes */
    d = want(e, &store, GW_OK, METHOD("note", "fill", .args = rig_map("bytes", gw_int(10))));
    assert_int_equal(rig_parts(&d), 2);
    assert_null(gw_map_get(&store, "data"));
    rig_done_free(&d);
    gw_value small = rig_small(&store);
    assert_int_equal(gw_map_get(&small, "data")->s.n, 10);
    gw_value_free(&small);
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(e);
}

static void what_commits_loads_again(void **state)
{
    (void)state;
    struct engine *e = engine_of(&note_v1, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("note", HOOK_CREATE));
    struct rig_done d = want(e, &store, GW_OK, METHOD("note", "rubbish"));
    assert_int_equal(gw_map_str(&d.reply, "text", "")[0], '?');
    rig_done_free(&d);
    assert_int_equal(gw_map_get(&store, "titel")->s.n, 5999 + 3);
    struct buf parts = {0};
    value_pack(&store, &parts);
    quiet(e, &store, GW_OK, METHOD("note", "touch", .parts = &parts));
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(e);
}

static void limits_of_state_and_reply(void **state)
{
    (void)state;
    struct engine *e = engine_of(&note_v1, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("note", HOOK_CREATE));
    struct buf parts = {0};
    value_pack(&store, &parts);
    struct rig_done d = want(e, NULL, GW_ETOO_BIG,
                             METHOD("note", "fill", .args = rig_map("bytes", gw_int(64 << 20))));
    assert_non_null(strstr(d.text, "67108864"));
    rig_done_free(&d);
    quiet(e, NULL, GW_EUNKNOWN, METHOD("note", "touch"));
    /* 39 bytes of other packed state and headers fit beside it */
    quiet(
        e, NULL, GW_OK,
        METHOD("note", "fill", .parts = &parts, .args = rig_map("bytes", gw_int((64 << 20) - 64))));
    quiet(e, NULL, GW_OK, METHOD("note", "fill", .args = rig_map("bytes", gw_int(1))));
    quiet(e, NULL, GW_ETOO_BIG,
          METHOD("note", "big_reply", .args = rig_map("bytes", gw_int(4 << 20))));
    quiet(e, NULL, GW_OK, METHOD("note", "touch")); /* a failed GW_READ method spoils nothing */
    quiet(e, NULL, GW_OK,
          METHOD("note", "big_reply", .args = rig_map("bytes", gw_int((4 << 20) - 11))));
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(e);
}

static void versions_meet(void **state)
{
    (void)state;
    struct engine *one = engine_of(&note_v1, NULL), *two = engine_of(&note_v2, NULL);
    gw_value store = {0}, args = rig_map("titel", gw_str("old"));
    assert_int_equal(gw_map_set(&args, "weight", gw_int(5)), GW_OK);
    quiet(one, &store, GW_OK, HOOK("note", HOOK_CREATE, .args = args));
    struct buf parts = {0};
    value_pack(&store, &parts);
    /* to the newer build: alias, upgrade, defaults; the rewritten part is sent */
    struct rig_done d = want(two, &store, GW_OK, METHOD("note", "touch", .parts = &parts));
    assert_int_equal(rig_parts(&d), 1);
    rig_done_free(&d);
    gw_value small = rig_small(&store);
    assert_int_equal(gw_map_int(&small, "", 0), 2);
    assert_int_equal(gw_map_int(&small, "weight", 0), 5000);
    assert_string_equal(gw_map_str(&small, "titel", ""), "old"); /* stored under its first name */
    gw_value_free(&small);
    quiet(two, &store, GW_OK, METHOD("note", "set"));
    assert_non_null(gw_map_get(&store, "extra"));
    /* back to the older one: what it does not know stays, small and large */
    buf_reset(&parts);
    value_pack(&store, &parts);
    quiet(one, &store, GW_OK,
          METHOD("note", "fill", .parts = &parts, .args = rig_map("bytes", gw_int(3))));
    small = rig_small(&store);
    assert_string_equal(gw_map_str(&small, "titel", ""), "old");
    assert_string_equal(gw_map_str(&small, "colour", ""), "red");
    assert_int_equal(gw_map_int(&small, "", 0), 2);
    gw_value_free(&small);
    assert_int_equal(gw_map_get(&store, "extra")->s.n, 10003);
    /* and to the newer one again: not upgraded twice */
    buf_reset(&parts);
    value_pack(&store, &parts);
    quiet(two, &store, GW_OK, METHOD("note", "touch", .parts = &parts));
    small = rig_small(&store);
    assert_int_equal(gw_map_int(&small, "weight", 0), 5000);
    gw_value_free(&small);
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(one);
    engine_free(two);
}

/* With .upgrade and nothing else said, an older build would misread what the newer one writes: it
 * refuses, whether it lost the state in a move or has it in its own store. */
static void misreading_is_refused(void **state)
{
    (void)state;
    struct gw_type strict = note_v2;
    strict.oldest_reader = 0;
    struct engine *one = engine_of(&note_v1, NULL), *two = engine_of(&strict, NULL);
    gw_value store = {0};
    struct buf parts = {0};
    quiet(one, &store, GW_OK, HOOK("note", HOOK_CREATE));
    value_pack(&store, &parts);
    quiet(two, &store, GW_OK, METHOD("note", "touch", .parts = &parts));
    gw_value small = rig_small(&store);
    assert_int_equal(gw_map_int(&small, "~", 0), 2);
    gw_value_free(&small);
    buf_reset(&parts);
    value_pack(&store, &parts);
    struct rig_done d = go(one, METHOD("note", "touch", .parts = &parts));
    assert_int_equal(d.code, GW_EDECODE);
    assert_non_null(strstr(d.text, "can be read by versions from 2 on"));
    rig_done_free(&d);
    quiet(two, &store, GW_OK, METHOD("note", "touch", .parts = &parts));
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(one);
    engine_free(two);
}

/* A state that holds both names: the present one counts, and is stored under the first. */
static void former_names_give_way(void **state)
{
    (void)state;
    static const char *const orders[2][2] = {{"titel", "title"}, {"title", "titel"}};
    struct engine *e = engine_of(&note_v2, NULL);
    for (int i = 0; i < 2; i++) {
        struct buf small = {0}, parts = {0};
        mp_map(&small, 3);
        mp_str(&small, "");
        mp_uint(&small, 2);
        for (int k = 0; k < 2; k++) {
            mp_str(&small, orders[i][k]);
            mp_str(&small, strcmp(orders[i][k], "title") == 0 ? "new" : "stale");
        }
        mp_map(&parts, 1);
        mp_str(&parts, "");
        mp_bin(&parts, small.data, small.len);
        gw_value store = {0};
        quiet(e, &store, GW_OK, METHOD("note", "touch", .parts = &parts));
        gw_value now = rig_small(&store);
        assert_string_equal(gw_map_str(&now, "titel", ""), "new");
        assert_null(gw_map_get(&now, "title"));
        gw_value_free(&now);
        gw_value_free(&store);
        buf_free(&small);
        buf_free(&parts);
    }
    engine_free(e);
}

static void damaged_parts_are_refused(void **state)
{
    (void)state;
    struct engine *e = engine_of(&note_v1, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("note", HOOK_CREATE, .args = rig_map("titel", gw_str("abc"))));
    quiet(e, &store, GW_OK, METHOD("note", "fill", .args = rig_map("bytes", gw_int(5000))));
    struct buf good = {0};
    value_pack(&store, &good);
    for (size_t cut = 0; cut < 400;
         cut++) { /* every byte of the small part, the head of the large */
        struct buf bad = {0};
        buf_add(&bad, good.data, good.len);
        assert_true(buf_ok(&bad));
        bad.data[cut] ^= 0xc1;
        struct mp m = mp_over(buf_span(&bad));
        if (mp_skip(&m, NULL) == GW_OK && mp_done(&m)) { /* else no frame could carry it */
            struct rig_done d = go(e, METHOD("note", "touch", .parts = &bad));
            assert_true(d.code == GW_OK || d.code == GW_EDECODE);
            rig_done_free(&d);
        }
        buf_free(&bad);
    }
    quiet(e, NULL, GW_OK, METHOD("note", "touch", .parts = &good));
    struct buf wrong = {0};
    mp_map(&wrong, 1);
    mp_str(&wrong, "");
    mp_bin(&wrong, "\x80\x80", 2); /* bytes behind the map */
    struct rig_done d = want(e, NULL, GW_EDECODE, METHOD("note", "touch", .parts = &wrong));
    assert_non_null(strstr(d.text, "part \"\""));
    rig_done_free(&d);
    quiet(e, NULL, GW_EUNKNOWN, METHOD("note", "touch"));
    buf_free(&wrong);
    buf_free(&good);
    gw_value_free(&store);
    engine_free(e);
}

static void actions_are_recorded(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    quiet(e, NULL, GW_OK, HOOK("odd", HOOK_CREATE));
    struct rig_done d = want(e, NULL, GW_OK, METHOD("odd", "act"));
    assert_int_equal(d.flags, 0);
    assert_int_equal(d.actions.list.n, 3);
    const gw_value *a = d.actions.list.items;
    assert_string_equal(a[0].list.items[0].s.p, "tell");
    assert_string_equal(gw_map_str(&a[0].list.items[1], "method", ""), "ping");
    assert_int_equal(gw_map_int(gw_map_get(&a[0].list.items[1], "args"), "x", 0), 1);
    assert_string_equal(a[1].list.items[0].s.p, "clone");
    assert_string_equal(a[2].list.items[0].s.p, "dispatch");
    assert_string_equal(gw_map_str(&a[2].list.items[1], "to", ""), "tag:disk");
    rig_done_free(&d);
    engine_free(e);
}

static void sleep_is_recorded(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    quiet(e, NULL, GW_OK, HOOK("odd", HOOK_CREATE));
    host.calls = gw_nil();
    struct rig_done d = want(e, NULL, GW_OK, METHOD("odd", "rest"));
    assert_int_equal(d.actions.list.n, 1);
    const gw_value *how = &d.actions.list.items[0].list.items[1];
    assert_string_equal(d.actions.list.items[0].list.items[0].s.p, "deactivate");
    assert_int_equal(gw_map_int(how, "wake_after", 0), 5);
    assert_false(gw_map_bool(how, "wake_on_message", true));
    assert_true(gw_map_bool(how, "at_start", false));
    assert_int_equal(host.calls.list.n, 1);
    const gw_value *asked = gw_map_get(&host.calls.list.items[0], "args");
    assert_int_equal(gw_map_get(asked, "wake_at")->time.ms, 7);
    assert_true(gw_map_bool(asked, "wake_on_message", false));
    gw_value_free(&host.calls);
    host.calls = gw_nil();
    rig_done_free(&d);
    engine_free(e);
}

static void itinerary_is_recorded(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    quiet(e, NULL, GW_OK, HOOK("odd", HOOK_CREATE));
    struct rig_done d = want(e, NULL, GW_OK, METHOD("odd", "tour"));
    assert_int_equal(d.actions.list.n, 2);
    const gw_value *a = d.actions.list.items;
    assert_string_equal(a[0].list.items[0].s.p, "itinerary");
    assert_false(gw_map_bool(&a[0].list.items[1], "home", true));
    const gw_value *stops = gw_map_get(&a[0].list.items[1], "stops");
    assert_int_equal(stops->list.n, 2);
    assert_string_equal(gw_map_str(&stops->list.items[0], "policy", ""), "wait");
    assert_int_equal(gw_map_int(gw_map_get(&stops->list.items[0], "args"), "x", 0), 1);
    assert_int_equal(gw_map_int(&stops->list.items[1], "retries", 0), 7);
    assert_null(gw_map_get(&stops->list.items[1], "method"));
    assert_true(gw_map_bool(&a[1].list.items[1], "cancel", false));
    rig_done_free(&d);
    engine_free(e);
}

static void sleep_of_types_is_checked(void **state)
{
    (void)state;
    static const struct engine_io io;
    struct engine *e = engine_new(&io, NULL);
    struct gw_error why = {0};
    struct gw_type t = gw_agent_odd;
    gw_value about = gw_nil();
    t.idle_timeout_ms = -1;
    assert_int_equal(engine_add_type(e, &t, &why), GW_EPLUGIN);
    t.idle_timeout_ms = 1500;
    t.sleep = GW_SLEEP_QUEUE | GW_SLEEP_WAKE;
    assert_int_equal(engine_add_type(e, &t, &why), GW_EPLUGIN);
    t.sleep = GW_SLEEP_QUEUE | GW_SLEEP_AT_START;
    assert_int_equal(engine_add_type(e, &t, &why), GW_OK);
    assert_int_equal(engine_describe(e, &about), GW_OK);
    const gw_value *one = &about.list.items[0], *sleep = gw_map_get(one, "sleep");
    assert_int_equal(gw_map_int(one, "idle_timeout_ms", 0), 1500);
    assert_false(gw_map_bool(sleep, "wake_on_message", true));
    assert_true(gw_map_bool(sleep, "at_start", false));
    gw_value_free(&about);
    engine_free(e);
}

/* --- timers --- */
struct bell {
    int64_t rung;
};
static const struct gw_field bell_fields[] = {GW_FIELD(struct bell, rung)};

static gw_err bell_set(struct gw_call *call)
{
    GW_TRY(gw_timer(call, "once", 1500, rig_map("by", gw_int(3))));
    GW_TRY(gw_timer_every(call, "beat", LIMIT_TIMER_PERIOD_MS, gw_nil()));
    GW_TRY(gw_timer_each(call, "each", LIMIT_TIMER_MS, gw_nil()));
    GW_TRY(gw_timer_at(call, "noon", (gw_time){1234567890123}, gw_nil()));
    return gw_timer_cancel(call, "once");
}
static gw_err bell_bad(struct gw_call *call)
{
    static const char *const names[] = {"", "a/b", "../x", "a b"};
    gw_value large = gw_nil();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(gw_timer(call, names[i], 1, rig_map("x", gw_str("freed"))), GW_EARG);
        assert_int_equal(gw_timer_cancel(call, names[i]), GW_EARG);
    }
    assert_int_equal(gw_timer(call, NULL, 1, gw_nil()), GW_EARG);
    assert_int_equal(gw_timer(call, "a", -1, gw_nil()), GW_EARG);
    assert_int_equal(gw_timer(call, "a", LIMIT_TIMER_MS + 1, gw_nil()), GW_EARG);
    assert_int_equal(gw_timer_every(call, "a", LIMIT_TIMER_PERIOD_MS - 1, gw_nil()), GW_EARG);
    assert_int_equal(gw_timer_each(call, "a", LIMIT_TIMER_MS + 1, gw_nil()), GW_EARG);
    assert_int_equal(gw_timer_at(call, "a", (gw_time){-1}, gw_nil()), GW_EARG);
    assert_int_equal(gw_timer_at(call, "a", (gw_time){LIMIT_TIMER_AT_MS + 1}, gw_nil()), GW_EARG);
    assert_int_equal(gw_timer(call, "a", 1, gw_str("no map")), GW_EARG);
    /* {"x": bytes}: six bytes around them */
    static const uint8_t zeros[LIMIT_TIMER_ARGS_BYTES];
    assert_int_equal(gw_value_set_bytes(&large, zeros, LIMIT_TIMER_ARGS_BYTES - 5), GW_OK);
    assert_int_equal(gw_timer(call, "a", 1, rig_map("x", large)), GW_ETOO_BIG);
    large = gw_nil();
    assert_int_equal(gw_value_set_bytes(&large, zeros, LIMIT_TIMER_ARGS_BYTES - 6), GW_OK);
    return gw_timer(call, "a", 0, rig_map("x", large));
}
static gw_err bell_read(struct gw_call *call)
{
    return gw_timer_cancel(call, "a");
}
static gw_err bell_on_timer(struct gw_call *call)
{
    struct bell *b = gw_state(call);
    assert_string_equal(gw_timer_name(call), "beat");
    assert_string_equal(gw_method_name(call), "");
    assert_false(gw_has_arg(call, "other"));
    b->rung += gw_arg_int(call, "by");
    return gw_timer(call, "next", 10, gw_nil());
}
static gw_err bell_on_dispatch(struct gw_call *call)
{
    assert_string_equal(gw_timer_name(call), "");
    assert_int_equal(gw_timer_cancel(call, "a"), GW_ENOT_SUPPORTED);
    return gw_timer(call, "a", 10, rig_map("x", gw_str("freed")));
}
static const struct gw_method bell_methods[] = {
    {"set()", bell_set},
    {"bad()", bell_bad},
    {"read()", bell_read, GW_READ},
};
GW_AGENT(bell, struct bell, GW_FIELDS(bell_fields), GW_METHODS(bell_methods),
         .on_timer = bell_on_timer, .on_dispatch = bell_on_dispatch);

static gw_err deaf_set(struct gw_call *call)
{
    return gw_timer(call, "a", 10, rig_map("x", gw_str("freed")));
}
static const struct gw_method deaf_methods[] = {{"set()", deaf_set}};
GW_AGENT(deaf, struct bell, GW_FIELDS(bell_fields), GW_METHODS(deaf_methods));

static void timers_are_recorded(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_bell, &gw_agent_deaf);
    quiet(e, NULL, GW_OK, HOOK("bell", HOOK_CREATE));
    struct rig_done d = want(e, NULL, GW_OK, METHOD("bell", "set"));
    static const char *const verbs[] = {"timer", "timer", "timer", "timer", "timer_cancel"};
    static const char *const names[] = {"once", "beat", "each", "noon", "once"};
    assert_int_equal(d.flags, 0);
    assert_int_equal(d.actions.list.n, 5);
    for (size_t i = 0; i < 5; i++) {
        const gw_value *a = &d.actions.list.items[i];
        assert_string_equal(a->list.items[0].s.p, verbs[i]);
        assert_string_equal(gw_map_str(&a->list.items[1], "name", ""), names[i]);
        assert_int_equal(gw_map_bool(&a->list.items[1], "each", false), i == 2);
    }
    const gw_value *once = &d.actions.list.items[0].list.items[1];
    assert_int_equal(gw_map_int(once, "when", 0), 1500);
    assert_null(gw_map_get(once, "period"));
    assert_int_equal(gw_map_int(gw_map_get(once, "args"), "by", 0), 3);
    assert_int_equal(gw_map_int(&d.actions.list.items[1].list.items[1], "period", 0),
                     LIMIT_TIMER_PERIOD_MS);
    const gw_value *noon = gw_map_get(&d.actions.list.items[3].list.items[1], "when");
    assert_int_equal(noon->kind, GW_TIME);
    assert_int_equal(noon->time.ms, 1234567890123);
    rig_done_free(&d);
    d = want(e, NULL, GW_OK, METHOD("bell", "bad"));
    assert_int_equal(d.actions.list.n, 1); /* the last one */
    rig_done_free(&d);
    quiet(e, NULL, GW_EREFUSED, METHOD("bell", "read"));
    quiet(e, NULL, GW_ENOT_SUPPORTED, HOOK("bell", HOOK_DISPATCH));
    engine_free(e);
}

static void timers_fire_as_a_hook(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_bell, &gw_agent_deaf);
    gw_value store = {0};
    quiet(e, NULL, GW_OK, HOOK("bell", HOOK_CREATE));
    struct rig_done d =
        want(e, &store, GW_OK,
             HOOK("bell", HOOK_TIMER, .method = "beat", .args = rig_map("by", gw_int(4))));
    gw_value small = rig_small(&store);
    assert_int_equal(gw_map_int(&small, "rung", 0), 4);
    assert_int_equal(d.actions.list.n, 1);
    rig_done_free(&d);
    gw_value_free(&small);
    gw_value_free(&store);
    quiet(e, NULL, GW_OK, HOOK("deaf", HOOK_CREATE));
    quiet(e, NULL, GW_OK, HOOK("deaf", HOOK_TIMER, .method = "beat")); /* nobody hears it */
    d = want(e, NULL, GW_EARG, METHOD("deaf", "set"));
    assert_non_null(strstr(d.text, "on_timer"));
    rig_done_free(&d);
    engine_free(e);
}

static gw_value chain_of(uint8_t n)
{
    gw_value list = {0};
    gw_id id = rig_id(n);
    assert_int_equal(gw_list_add(&list, gw_id_value(&id)), GW_OK);
    return rig_map("chain", list);
}

static gw_value fan_of(uint8_t whom, int64_t n)
{
    gw_id id = rig_id(whom);
    gw_value args = rig_map("whom", gw_id_value(&id));
    assert_int_equal(gw_map_set(&args, "n", gw_int(n)), GW_OK);
    return args;
}

static const gw_value *call_key(size_t i)
{
    return gw_map_get(gw_map_get(&host.calls.list.items[i], "args"), "key");
}

static void asks_without_waiting(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    quiet(e, NULL, GW_OK, HOOK("odd", HOOK_CREATE));
    uint8_t key[16] = {9};
    for (int run = 0; run < 2; run++) { /* a re-run repeats the keys, in order */
        struct rig_done d =
            want(e, NULL, GW_OK, METHOD("odd", "fan", .key = key, .args = fan_of(5, 3)));
        assert_int_equal(gw_map_int(&d.reply, "sum", 0), 126);
        rig_done_free(&d);
    }
    assert_int_equal(host.calls.list.n, 6);
    for (size_t i = 0; i < 3; i++) {
        assert_true(gw_value_equal(call_key(i), call_key(i + 3)));
        assert_false(gw_value_equal(call_key(i), call_key((i + 1) % 3)));
    }
    quiet(e, NULL, GW_OK, METHOD("odd", "fan", .args = fan_of(5, LIMIT_ASKS_PER_HANDLER)));
    struct rig_done d = want(e, NULL, GW_EBUSY,
                             METHOD("odd", "fan", .args = fan_of(5, LIMIT_ASKS_PER_HANDLER + 1)));
    assert_string_equal(d.text, "odd.fan: 256 asks of this handler were not waited for");
    rig_done_free(&d);
    assert_int_equal(host.open, 0); /* those that were asked, too */
    gw_value_free(&host.calls);
    quiet(e, NULL, GW_EDEADLOCK, METHOD("odd", "fan", .args = fan_of(1, 1)));
    quiet(e, NULL, GW_EDEADLOCK,
          METHOD("odd", "fan", .args = fan_of(3, 1), .context = chain_of(3)));
    assert_int_equal(host.calls.list.n, 0);
    host.answer = GW_EUNREACHABLE;
    d = want(e, NULL, GW_EUNREACHABLE, METHOD("odd", "fan", .args = fan_of(5, 2)));
    assert_string_equal(d.text, "odd.fan: the other side says no");
    rig_done_free(&d);
    host.answer = GW_OK;
    host.silent = true;
    d = want(e, NULL, GW_ETIMEOUT, METHOD("odd", "fan", .args = fan_of(5, 2)));
    assert_string_equal(d.text, "odd.fan: no answer within 50 ms");
    rig_done_free(&d);
    host.silent = false;
    gw_id whom = rig_id(5);
    quiet(e, NULL, GW_OK,
          METHOD("odd", "fan_mistakes", .args = rig_map("whom", gw_id_value(&whom))));
    assert_int_equal(host.open, 0);
    gw_value_free(&host.calls);
    engine_free(e);
}

/* --- on_message: whatever has no method --- */

struct open_door {
    int64_t taken;
};
static const struct gw_field open_door_fields[] = {GW_FIELD(struct open_door, taken)};
static gw_err open_door_count(struct gw_call *call)
{
    const struct open_door *o = gw_state(call);
    return gw_reply_int(call, "taken", o->taken);
}
static gw_err open_door_any(struct gw_call *call)
{
    struct open_door *o = gw_state(call);
    gw_value copy = gw_nil();
    o->taken++; /* taken back when it is not handled */
    if (strcmp(gw_method_name(call), "stop") == 0) {
        return GW_ENOT_HANDLED;
    }
    GW_TRY(gw_value_copy(gw_args_value(call), &copy));
    GW_TRY(gw_reply_value(call, "args", copy));
    return gw_reply_str(call, "name", gw_method_name(call));
}
static const struct gw_method open_door_methods[] = {
    {"count() -> (taken: int)", open_door_count, GW_READ},
};
GW_AGENT(open_door, struct open_door, GW_FIELDS(open_door_fields), GW_METHODS(open_door_methods),
         .on_message = open_door_any);

static void any_message(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_open_door, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("open_door", HOOK_CREATE));
    struct buf parts = {0};
    struct rig_done d =
        want(e, &store, GW_OK, METHOD("open_door", "anything", .args = rig_map("x", gw_int(7))));
    assert_string_equal(gw_map_str(&d.reply, "name", ""), "anything");
    assert_int_equal(gw_map_int(gw_map_get(&d.reply, "args"), "x", 0), 7);
    rig_done_free(&d);
    value_pack(&store, &parts);
    d = want(e, NULL, GW_ENOT_HANDLED, METHOD("open_door", "stop"));
    assert_string_equal(d.text, "open_door.stop: the agent does not handle this message");
    rig_done_free(&d);
    d = want(e, NULL, GW_OK, METHOD("open_door", "count", .parts = &parts));
    assert_int_equal(gw_map_int(&d.reply, "taken", 0), 1);
    rig_done_free(&d);
    /* what has a method is checked by its signature as ever */
    quiet(e, NULL, GW_EARG, METHOD("open_door", "count", .args = rig_map("x", gw_int(7))));
    buf_free(&parts);
    gw_value_free(&store);
    engine_free(e);
}

/* A nested ask has the trace of its handler and the time that its caller has left, or less. */
static void asks_inherit(void **state)
{
    (void)state;
    static const char trace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    quiet(e, NULL, GW_OK, HOOK("odd", HOOK_CREATE));
    gw_id whom = rig_id(5);
    gw_value context = rig_map("left", gw_int(60000)), raw = gw_nil();
    static const uint8_t bytes[] = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3,
                                    0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36, 0x00, 0xf0,
                                    0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7, 0x01};
    assert_int_equal(gw_value_set_bytes(&raw, bytes, sizeof bytes), GW_OK);
    assert_int_equal(gw_map_set(&context, "trace", raw), GW_OK);
    assert_int_equal(gw_map_set(&context, "tracestate", gw_str("a=1")), GW_OK);
    quiet(e, NULL, GW_OK,
          METHOD("odd", "ask", .args = rig_map("whom", gw_id_value(&whom)), .context = context));
    for (size_t i = 0; i < 3; i++) {
        const gw_value *c = gw_map_get(&host.calls.list.items[i], "context");
        assert_string_equal(gw_map_str(c, "traceparent", ""), trace);
        assert_string_equal(gw_map_str(c, "tracestate", ""), "a=1");
        assert_in_range(gw_map_int(c, "left", 0), 30000, 60000);
    }
    gw_value_free(&host.calls);
    quiet(e, NULL, GW_OK, METHOD("odd", "ask", .args = rig_map("whom", gw_id_value(&whom))));
    assert_null(gw_map_get(gw_map_get(&host.calls.list.items[0], "context"), "left"));
    gw_value_free(&host.calls);
    /* nobody waits any more: nothing is asked */
    quiet(e, NULL, GW_ETIMEOUT,
          METHOD("odd", "ask", .args = rig_map("whom", gw_id_value(&whom)),
                 .context = rig_map("left", gw_int(0))));
    assert_int_equal(host.calls.kind, GW_NIL);
    engine_free(e);
}

static void replies_later(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    uint8_t key[16] = {9, 8};
    gw_id token;
    memcpy(token.b, key, sizeof key);
    quiet(e, NULL, GW_OK, HOOK("odd", HOOK_CREATE));
    struct rig_done d = want(e, NULL, GW_OK, METHOD("odd", "later", .key = key));
    assert_int_equal(d.reply.kind, GW_NIL);
    assert_int_equal(d.actions.list.n, 1);
    assert_string_equal(d.actions.list.items[0].list.items[0].s.p, "later");
    assert_int_equal(d.flags, 0);
    rig_done_free(&d);
    d = want(e, NULL, GW_OK, METHOD("odd", "later", .key = key, .flags = RUN_TOLD));
    assert_int_equal(d.actions.list.n, 0); /* nobody waits */
    rig_done_free(&d);
    quiet(e, NULL, GW_EREFUSED, METHOD("odd", "read_later"));
    d = want(e, NULL, GW_OK,
             METHOD("odd", "answer", .args = rig_map("token", gw_id_value(&token))));
    assert_int_equal(d.actions.list.n, 2);
    const gw_value *a = d.actions.list.items;
    assert_string_equal(a[0].list.items[0].s.p, "answer");
    assert_true(gw_id_equal(&gw_map_get(&a[0].list.items[1], "token")->id, &token));
    assert_int_equal(gw_map_int(gw_map_get(&a[0].list.items[1], "reply"), "n", 0), 4);
    assert_int_equal(gw_map_int(&a[1].list.items[1], "code", 0), GW_EBUSY);
    assert_string_equal(gw_map_str(&a[1].list.items[1], "text", ""), "not today");
    rig_done_free(&d);
    d = want(e, NULL, GW_EFAIL,
             METHOD("odd", "later", .key = key, .args = rig_map("both", gw_bool(true))));
    assert_string_equal(d.text, "odd.later: it replies, and asks to reply later");
    rig_done_free(&d);
    engine_free(e);
}

static void blocking_verbs(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    gw_value store = {0};
    quiet(e, &store, GW_OK, HOOK("odd", HOOK_CREATE));
    struct buf parts = {0};
    value_pack(&store, &parts);
    gw_id whom = rig_id(5);
    uint8_t key[16] = {7};
    struct rig_done d =
        want(e, NULL, GW_OK,
             METHOD("odd", "ask", .key = key, .args = rig_map("whom", gw_id_value(&whom)),
                    .context = chain_of(3)));
    assert_int_equal(gw_map_int(gw_map_get(&d.reply, "got"), "count", 0), 42);
    assert_int_equal(gw_map_get(&d.reply, "made")->id.b[15], 77);
    assert_int_equal(gw_map_int(&d.reply, "hosts", 0), 1);
    rig_done_free(&d);
    assert_int_equal(host.calls.list.n, 3);
    const gw_value *first = &host.calls.list.items[0], *args = gw_map_get(first, "args");
    assert_string_equal(gw_map_str(first, "op", ""), "send");
    assert_string_equal(gw_map_str(args, "method", ""), "get");
    assert_int_equal(strlen(gw_map_str(args, "key", "")), 26);
    char text[GW_ID_TEXT];
    assert_string_equal(gw_map_str(args, "agent", ""), gw_id_text(&whom, text));
    const gw_value *context = gw_map_get(first, "context"), *chain = gw_map_get(context, "chain");
    assert_int_equal(chain->list.n, 2);
    assert_int_equal(chain->list.items[0].id.b[15], 3);
    assert_int_equal(chain->list.items[1].id.b[15], 1);
    assert_int_equal(gw_map_get(context, "agent")->id.b[15], 1);
    /* a re-run repeats the keys, each ask has its own */
    quiet(e, NULL, GW_OK,
          METHOD("odd", "ask", .key = key, .args = rig_map("whom", gw_id_value(&whom))));
    const gw_value *c = host.calls.list.items;
    const gw_value *k0 = gw_map_get(gw_map_get(&c[0], "args"), "key");
    const gw_value *k1 = gw_map_get(gw_map_get(&c[1], "args"), "key");
    const gw_value *k3 = gw_map_get(gw_map_get(&c[3], "args"), "key");
    assert_true(gw_value_equal(k0, k3));
    assert_false(gw_value_equal(k0, k1));
    /* asking oneself, or who waits for one */
    gw_id self = rig_id(1), waits = rig_id(3);
    quiet(e, NULL, GW_EDEADLOCK, METHOD("odd", "ask", .args = rig_map("whom", gw_id_value(&self))));
    quiet(e, NULL, GW_EDEADLOCK,
          METHOD("odd", "ask", .parts = &parts, .context = chain_of(3),
                 .args = rig_map("whom", gw_id_value(&waits))));
    host.answer = GW_EUNREACHABLE;
    d = want(e, NULL, GW_EUNREACHABLE,
             METHOD("odd", "ask", .parts = &parts, .args = rig_map("whom", gw_id_value(&whom))));
    assert_string_equal(d.text, "odd.ask: the other side says no");
    rig_done_free(&d);
    host.answer = GW_OK;
    gw_value_free(&host.calls);
    engine_free(e);
    static const struct engine_io inline_io; /* a built-in type on the loop thread */
    e = engine_new(&inline_io, NULL);
    assert_int_equal(engine_add_type(e, &gw_agent_odd, NULL), GW_OK);
    quiet(e, NULL, GW_EINLINE,
          METHOD("odd", "ask", .parts = &parts, .args = rig_map("whom", gw_id_value(&whom))));
    quiet(e, NULL, GW_EINLINE, METHOD("odd", "fan", .parts = &parts, .args = fan_of(5, 1)));
    engine_free(e);
    buf_free(&parts);
    gw_value_free(&store);
}

static void who_and_where(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_odd, NULL);
    quiet(e, NULL, GW_OK, HOOK("odd", HOOK_CREATE));
    gw_value context = rig_map("host", gw_str("beta"));
    gw_id sender = rig_id(8);
    assert_int_equal(gw_map_set(&context, "sender", gw_id_value(&sender)), GW_OK);
    struct rig_done d =
        want(e, NULL, GW_OK, METHOD("odd", "where", .context = context, .epoch = 17));
    assert_string_equal(gw_map_str(&d.reply, "host", ""), "beta");
    assert_string_equal(gw_map_str(&d.reply, "home", "?"), "");
    assert_int_equal(gw_map_get(&d.reply, "sender")->id.b[15], 8);
    assert_int_equal(gw_map_get(&d.reply, "now")->time.ms, 1234567);
    assert_int_equal(gw_map_int(&d.reply, "epoch", 0), 17);
    assert_string_equal(host.log, "2 hello 5");
    rig_done_free(&d);
    engine_free(e);
}

static void bad_types_are_refused(void **state)
{
    (void)state;
    static const struct engine_io io;
    struct engine *e = engine_new(&io, NULL);
    struct gw_error why = {0};
    struct gw_type t = gw_agent_counter;
    t.abi = GW_ABI + 6;
    assert_int_equal(engine_add_type(e, &t, &why), GW_EABI);
    assert_non_null(strstr(why.text, "ABI 8"));
    assert_non_null(strstr(why.text, "ABI 2"));
    t = gw_agent_counter;
    t.size += 8;
    assert_int_equal(engine_add_type(e, &t, &why), GW_EABI);
    t = gw_agent_counter;
    t.name = "no/name";
    assert_int_equal(engine_add_type(e, &t, &why), GW_EPLUGIN);
    t = gw_agent_counter;
    t.state_size = 8; /* a field lies outside */
    assert_int_equal(engine_add_type(e, &t, &why), GW_EABI);
    static const struct gw_method typo[] = {{"increment(by: imt)", increment}};
    t = gw_agent_counter;
    t.methods = typo;
    t.method_count = 1;
    assert_int_equal(engine_add_type(e, &t, &why), GW_ESIGNATURE);
    assert_non_null(strchr(why.hint, '^'));
    static const struct gw_method twice[] = {{"a()", increment}, {"a(x: int)", increment}};
    t.methods = twice;
    t.method_count = 2;
    assert_int_equal(engine_add_type(e, &t, &why), GW_EPLUGIN);
    static const struct gw_method none[] = {{"a()", NULL}};
    t.methods = none;
    t.method_count = 1;
    assert_int_equal(engine_add_type(e, &t, &why), GW_EPLUGIN);
    assert_int_equal(engine_add_type(e, &gw_agent_counter, &why), GW_OK);
    assert_int_equal(engine_add_type(e, &gw_agent_counter, &why), GW_EEXISTS);
    struct gw_plugin p = {.abi = 3, .type_size = sizeof(struct gw_type)};
    assert_int_equal(engine_add_plugin(e, &p, &why), GW_EABI);
    p.abi = GW_ABI;
    assert_int_equal(engine_add_plugin(e, &p, &why), GW_EPLUGIN);
    engine_free(e);
}

static void types_are_described(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_counter, &gw_agent_odd);
    gw_value list;
    assert_int_equal(engine_describe(e, &list), GW_OK);
    assert_int_equal(list.list.n, 2);
    const gw_value *t = &list.list.items[0], *list_of = gw_map_get(t, "methods");
    assert_string_equal(gw_map_str(t, "name", ""), "counter");
    assert_int_equal(gw_map_int(t, "version", 0), 1);
    assert_int_equal(gw_map_int(t, "hooks", 0), 1 << HOOK_ARRIVE);
    assert_string_equal(gw_map_str(t, "durability", ""), "every_message");
    assert_int_equal(gw_map_get(t, "fields")->list.n, 2);
    assert_string_equal(gw_map_str(&list_of->list.items[0], "signature", ""),
                        "increment(by: int = 1) -> (count: int)");
    assert_false(gw_map_bool(&list_of->list.items[0], "read", true));
    assert_true(gw_map_bool(&list_of->list.items[1], "read", false));
    gw_value_free(&list);
    engine_free(e);
}

static void malformed_run_is_answered(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_counter, NULL);
    struct buf good = {0};
    rig_pack(&good, 5, METHOD("counter", "get"));
    for (size_t i = 6; i < good.len; i++) { /* every byte after kind and stream, damaged */
        struct buf bad = {0}, out = {0};
        struct frame f;
        buf_add(&bad, good.data, good.len);
        assert_true(buf_ok(&bad));
        bad.data[i] ^= 0xff;
        struct span s = buf_span(&bad);
        if (frame_take(&s, 100000, &f) == GW_OK && f.kind == FRAME_RUN) {
            struct rig_done d;
            engine_run(e, &f, &out);
            s = buf_span(&out);
            assert_int_equal(frame_take(&s, 100000, &f), GW_OK);
            assert_int_equal(rig_parse(&f, &d), GW_OK);
            assert_int_not_equal(d.code, GW_OK);
            rig_done_free(&d);
        }
        buf_free(&bad);
        buf_free(&out);
    }
    assert_int_equal(engine_agents(e), 0);
    buf_free(&good);
    engine_free(e);
}

/* --- monitors --- */
static gw_err sentry_set(struct gw_call *call)
{
    gw_id a, b, c;
    gw_id other = rig_id(9);
    GW_TRY(gw_monitor(call, other, &a));
    GW_TRY(gw_monitor_host(call, "beta", &b));
    GW_TRY(gw_monitor_with(call, &(struct gw_monitor){.agent = other, .lost_ms = GW_NEVER}, &c));
    assert_false(gw_id_equal(&a, &b) || gw_id_equal(&b, &c) || gw_id_is_nil(&a));
    GW_TRY(gw_monitor(call, other, NULL));
    return gw_demonitor(call, a);
}
static gw_err sentry_bad(struct gw_call *call)
{
    char name[LIMIT_NAME_BYTES + 2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    gw_id other = rig_id(9), nil = {{0}};
    assert_int_equal(gw_monitor(call, nil, NULL), GW_EARG);
    assert_int_equal(gw_monitor(call, gw_self(call), NULL), GW_EARG);
    assert_int_equal(gw_monitor_host(call, NULL, NULL), GW_EARG);
    assert_int_equal(gw_monitor_host(call, name, NULL), GW_EARG);
    struct gw_monitor what = {.agent = other, .host = "beta"};
    assert_int_equal(gw_monitor_with(call, &what, NULL), GW_EARG);
    what = (struct gw_monitor){.agent = other, .lost_ms = GW_NEVER - 1};
    assert_int_equal(gw_monitor_with(call, &what, NULL), GW_EARG);
    what.lost_ms = LIMIT_LOST_MS + 1;
    assert_int_equal(gw_monitor_with(call, &what, NULL), GW_EARG);
    assert_int_equal(gw_down_reason(call), GW_DOWN_NONE);
    assert_string_equal(gw_down_host(call), "");
    return GW_OK;
}
static gw_err sentry_on_down(struct gw_call *call)
{
    gw_id ref = gw_down_ref(call), agent = gw_down_agent(call), wanted = rig_id(5),
          watched = rig_id(6);
    assert_true(gw_id_equal(&ref, &wanted) && gw_id_equal(&agent, &watched));
    assert_int_equal(gw_down_reason(call), GW_DOWN_HOST_LOST);
    assert_string_equal(gw_reason(call), "host_lost");
    assert_string_equal(gw_down_host(call), "beta");
    return gw_monitor(call, agent, NULL);
}
static gw_err sentry_on_dispatch(struct gw_call *call)
{
    assert_int_equal(gw_demonitor(call, rig_id(1)), GW_ENOT_SUPPORTED);
    return gw_monitor(call, rig_id(9), NULL);
}
static const struct gw_method sentry_methods[] = {{"set()", sentry_set}, {"bad()", sentry_bad}};
GW_AGENT(sentry, struct bell, GW_FIELDS(bell_fields), GW_METHODS(sentry_methods),
         .on_down = sentry_on_down, .on_dispatch = sentry_on_dispatch);
static gw_err blind_set(struct gw_call *call)
{
    return gw_monitor(call, rig_id(9), NULL);
}
static const struct gw_method blind_methods[] = {{"set()", blind_set}};
GW_AGENT(blind, struct bell, GW_FIELDS(bell_fields), GW_METHODS(blind_methods));

static void monitors_are_recorded(void **state)
{
    (void)state;
    static const char *const verbs[] = {"monitor", "monitor", "monitor", "monitor", "demonitor"};
    struct engine *e = engine_of(&gw_agent_sentry, &gw_agent_blind);
    quiet(e, NULL, GW_OK, HOOK("sentry", HOOK_CREATE));
    struct rig_done d = want(e, NULL, GW_OK, METHOD("sentry", "set"));
    assert_int_equal(d.actions.list.n, 5);
    const gw_value *a = d.actions.list.items;
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(a[i].list.items[0].s.p, verbs[i]);
    }
    assert_string_equal(gw_map_str(&a[1].list.items[1], "host", ""), "beta");
    assert_null(gw_map_get(&a[1].list.items[1], "agent"));
    assert_int_equal(gw_map_int(&a[2].list.items[1], "lost", 0), -1);
    const gw_id *ref = &gw_map_get(&a[0].list.items[1], "ref")->id;
    assert_true(gw_id_equal(ref, &gw_map_get(&a[4].list.items[1], "ref")->id));
    rig_done_free(&d);
    quiet(e, NULL, GW_OK, METHOD("sentry", "bad"));
    quiet(e, NULL, GW_ENOT_SUPPORTED, HOOK("sentry", HOOK_DISPATCH));
    engine_free(e);
    e = engine_of(&gw_agent_blind, NULL);
    quiet(e, NULL, GW_OK, HOOK("blind", HOOK_CREATE));
    quiet(e, NULL, GW_EARG, METHOD("blind", "set"));
    engine_free(e);
}

static void downs_come_as_a_hook(void **state)
{
    (void)state;
    struct engine *e = engine_of(&gw_agent_sentry, NULL);
    gw_value args = gw_nil();
    gw_id ref = rig_id(5), agent = rig_id(6);
    assert_int_equal(gw_map_set(&args, "ref", gw_id_value(&ref)), GW_OK);
    assert_int_equal(gw_map_set(&args, "agent", gw_id_value(&agent)), GW_OK);
    assert_int_equal(gw_map_set(&args, "host", gw_str("beta")), GW_OK);
    assert_int_equal(gw_map_set(&args, "reason", gw_str("host_lost")), GW_OK);
    quiet(e, NULL, GW_OK, HOOK("sentry", HOOK_CREATE));
    struct rig_done d = want(e, NULL, GW_OK, HOOK("sentry", HOOK_DOWN, .args = args));
    assert_int_equal(d.actions.list.n, 1);
    rig_done_free(&d);
    engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sleep_is_recorded),
        cmocka_unit_test(itinerary_is_recorded),
        cmocka_unit_test(sleep_of_types_is_checked),
        cmocka_unit_test(counter_counts),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(create_sets_fields),
        cmocka_unit_test(unknown_without_parts),
        cmocka_unit_test(failure_does_not_leak),
        cmocka_unit_test(mistakes_of_the_author),
        cmocka_unit_test(hooks_and_discard),
        cmocka_unit_test(large_fields_are_parts),
        cmocka_unit_test(what_commits_loads_again),
        cmocka_unit_test(limits_of_state_and_reply),
        cmocka_unit_test(versions_meet),
        cmocka_unit_test(misreading_is_refused),
        cmocka_unit_test(former_names_give_way),
        cmocka_unit_test(damaged_parts_are_refused),
        cmocka_unit_test(actions_are_recorded),
        cmocka_unit_test(timers_are_recorded),
        cmocka_unit_test(timers_fire_as_a_hook),
        cmocka_unit_test(monitors_are_recorded),
        cmocka_unit_test(downs_come_as_a_hook),
        cmocka_unit_test(blocking_verbs),
        cmocka_unit_test(asks_without_waiting),
        cmocka_unit_test(asks_inherit),
        cmocka_unit_test(any_message),
        cmocka_unit_test(replies_later),
        cmocka_unit_test(who_and_where),
        cmocka_unit_test(bad_types_are_refused),
        cmocka_unit_test(types_are_described),
        cmocka_unit_test(malformed_run_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
