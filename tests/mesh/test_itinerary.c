/* Itineraries: each stop once, whatever crashes on the way; hosts that are away, by policy; seen in
 * show, replaced, cancelled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include <godwit/agent.h>

#include "host/core/itinerary.h"
#include "host/core/sleepers.h"
#include "tests/mesh/trap.h"
#include "tests/mesh/virtual.h"

/* --- rover: writes down where it was --- */
struct rover {
    gw_strs log;
    int64_t ends;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct rover, log),
    GW_FIELD(struct rover, ends),
};

static gw_err look(struct gw_call *call)
{
    struct rover *r = gw_state(call);
    GW_TRY(gw_strs_add(&r->log, gw_host_name(call)));
    return gw_reply_str(call, "seen", gw_host_name(call));
}
static gw_err balk(struct gw_call *call)
{
    struct rover *r = gw_state(call);
    GW_TRY(gw_strs_add(&r->log, "never"));
    return gw_call_fail(call, GW_EREFUSED, "not at %s", gw_host_name(call));
}
static gw_err big(struct gw_call *call)
{
    static uint8_t bytes[LIMIT_STOP_BYTES + 1];
    return gw_reply_bytes(call, "bytes", bytes, (size_t)gw_arg_int(call, "n"));
}
static gw_err go(struct gw_call *call)
{
    struct rover *r = gw_state(call);
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "n", gw_int(5)));
    const struct gw_stop stops[] = {
        {.to = "h1", .method = "look"},
        {.to = "h2", .method = "big", .args = args, .policy = GW_STOP_SKIP},
    };
    GW_TRY(gw_strs_add(&r->log, "go"));
    return gw_itinerary(call, stops, 2, gw_arg_bool(call, "stay") ? GW_STAY : 0);
}
static gw_err halt(struct gw_call *call)
{
    return gw_itinerary_cancel(call);
}
static gw_err turn_back(struct gw_call *call) /* a stop that changes its mind */
{
    struct rover *r = gw_state(call);
    const struct gw_stop stops[] = {{.to = "h0", .method = "look"}};
    GW_TRY(gw_strs_add(&r->log, "back"));
    return gw_itinerary(call, stops, 1, GW_STAY);
}
static gw_err wrong(struct gw_call *call)
{
    const struct gw_stop none[] = {{.to = ""}}, odd[] = {{.to = "h1", .method = "a b"}};
    const struct gw_stop list[] = {{.to = "h1", .args = {.kind = GW_LIST}}};
    if (gw_itinerary(call, none, 1, 0) != GW_EARG || gw_itinerary(call, odd, 1, 0) != GW_EARG ||
        gw_itinerary(call, list, 1, 0) != GW_EARG || gw_itinerary(call, odd, 0, 0) != GW_EARG ||
        gw_itinerary(call, none, 1, 2) != GW_EARG) {
        return gw_call_fail(call, GW_EFAIL, "it was taken");
    }
    return GW_OK;
}
static gw_err log_of(struct gw_call *call)
{
    const struct rover *r = gw_state(call);
    GW_TRY(gw_reply_int(call, "ends", r->ends));
    return gw_reply_strs(call, "log", &r->log);
}
static gw_err on_itinerary_done(struct gw_call *call)
{
    struct rover *r = gw_state(call);
    const gw_value *stops = gw_arg_value(call, "stops");
    r->ends++;
    return stops && stops->kind == GW_LIST ? GW_OK : GW_EARG;
}
static gw_err on_dispatch(struct gw_call *call)
{
    return gw_itinerary_cancel(call) == GW_ENOT_SUPPORTED ? GW_OK : GW_EFAIL;
}

static const struct gw_method methods[] = {
    {"look(by: int = 1) -> (seen: string)", look, 0},
    {"fail()", balk, 0},
    {"big(n: int) -> (bytes: bytes)", big, GW_READ},
    {"go(stay: bool = false)", go, 0},
    {"halt()", halt, 0},
    {"turn_back()", turn_back, 0},
    {"wrong()", wrong, 0},
    {"log() -> (ends: int, log: [string])", log_of, GW_READ},
    {"on_itinerary_done(stops: any)", on_itinerary_done, 0},
};
static const struct gw_type rover = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "rover",
    .version = 1,
    .state_size = sizeof(struct rover),
    GW_FIELDS(fields),
    GW_METHODS(methods),
    .on_dispatch = on_dispatch,
};
static const struct gw_type *const types[] = {&rover};

/* --- one of them in a mesh --- */
#define HOSTS 3
struct stage {
    struct mesh *m;
    gw_id agent;
    char id[GW_ID_TEXT];
};

static void stage_open(struct stage *s, uint64_t seed)
{
    *s = (struct stage){.m = mesh_new(seed, HOSTS)};
    for (size_t i = 0; i < HOSTS; i++) {
        mesh_set_types(s->m, i, types, 1);
    }
    mesh_start_all(s->m);
    s->agent = mesh_create(s->m, 0, "rover");
    (void)gw_id_text(&s->agent, s->id);
    mesh_run(s->m, 31000); /* hosts that are away count as away */
}

static void stage_close(struct stage *s)
{
    mesh_free(s->m);
}

static void set(struct stage *s, const char *stops, const char *more)
{
    mesh_must(s->m, 0, NULL, "itinerary", "{'agent': '%s', 'stops': [%s]%s}", s->id, stops, more);
}

static size_t any_alive(struct stage *s)
{
    for (size_t i = 0; i < HOSTS; i++) {
        if (mesh_ready(s->m, i)) {
            return i;
        }
    }
    return 0;
}

/* From `show`: "STATE AT: " and of each stop its state, with the host where it was done. */
static const char *progress(struct stage *s)
{
    static char text[400];
    gw_value v = gw_nil();
    for (int i = 0; i < 60; i++) {
        if (mesh_op(s->m, any_alive(s), &v, "show", "{'agent': '%s'}", s->id) == GW_OK) {
            break;
        }
        mesh_run(s->m, 500);
    }
    const gw_value *it = gw_map_get(&v, "itinerary"), *stops = gw_map_get(it, "stops");
    if (!stops) {
        gw_value_free(&v);
        return "none";
    }
    int n = snprintf(text, sizeof text, "%s %lld:", gw_map_str(it, "state", "?"),
                     (long long)gw_map_int(it, "at", -1));
    for (size_t i = 0; i < stops->list.n; i++) {
        const gw_value *one = &stops->list.items[i];
        n += snprintf(text + n, sizeof text - (size_t)n, " %s%s%s", gw_map_str(one, "state", "?"),
                      gw_map_get(one, "host") ? "@" : "", gw_map_str(one, "host", ""));
    }
    gw_value_free(&v);
    return text;
}

/* What it wrote down: "h1 h2". */
static const char *log_text(struct stage *s, int64_t *ret_ends)
{
    static char text[400];
    gw_value v = gw_nil();
    text[0] = '\0';
    mesh_must(s->m, any_alive(s), &v, "send", "{'agent': '%s', 'method': 'log'}", s->id);
    const gw_value *reply = gw_map_get(&v, "reply"), *log = gw_map_get(reply, "log");
    for (size_t i = 0; log && log->kind == GW_LIST && i < log->list.n; i++) {
        size_t n = strlen(text);
        (void)snprintf(text + n, sizeof text - n, "%s%s", n ? " " : "", log->list.items[i].s.p);
    }
    if (ret_ends) {
        *ret_ends = gw_map_int(reply, "ends", -1);
    }
    gw_value_free(&v);
    return text;
}

#define LOOK(host, policy) "{'to': '" host "', 'method': 'look', 'policy': '" policy "'}"

static void test_round_trip(void **state)
{
    (void)state;
    struct stage s;
    int64_t ends;
    stage_open(&s, 1);
    assert_string_equal(progress(&s), "none");
    set(&s, LOOK("h0", "skip") ", " LOOK("h1", "skip") ", 'h2', " LOOK("h2", "skip"), "");
    mesh_run(s.m, 3000);
    assert_string_equal(progress(&s), "over 5: done@h0 done@h1 done@h2 done@h2 done@h0");
    assert_string_equal(log_text(&s, &ends), "h0 h1 h2");
    assert_int_equal(ends, 1);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 0);
    gw_value v = gw_nil();
    mesh_must(s.m, 1, &v, "itinerary", "{'agent': '%s'}", s.id); /* only to look */
    const gw_value *stop = &gw_map_get(gw_map_get(&v, "itinerary"), "stops")->list.items[1];
    assert_string_equal(gw_map_str(gw_map_get(stop, "reply"), "seen", ""), "h1");
    gw_value_free(&v);
    set(&s, LOOK("h2", "skip"), ", 'home': false"); /* another one */
    mesh_run(s.m, 3000);
    assert_string_equal(progress(&s), "over 1: done@h2");
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 2);
    mesh_must(s.m, 0, NULL, "deactivate", "{'agent': '%s'}", s.id);
    mesh_run(s.m, 5000);
    assert_int_equal(sleepers_count(mesh_node(s.m, 2)), 1);
    mesh_crash(s.m, 2);
    mesh_start_all(s.m);
    mesh_run(s.m, 2000);
    assert_string_equal(progress(&s), "over 1: done@h2"); /* it is part of the agent */
    set(&s, LOOK("h1", "skip"), ", 'home': false");       /* wakes it */
    mesh_run(s.m, 3000);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 1);
    stage_close(&s);
}

static void test_from_the_agent(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 2);
    mesh_must(s.m, 0, NULL, "send", "{'agent': '%s', 'method': 'wrong'}", s.id);
    assert_string_equal(progress(&s), "none");
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'go'}", s.id);
    mesh_run(s.m, 3000);
    assert_string_equal(progress(&s), "over 3: done@h1 done@h2 done@h0");
    assert_string_equal(log_text(&s, NULL), "go h1");
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'go', 'args': {'stay': true}}",
              s.id);
    mesh_run(s.m, 3000);
    assert_string_equal(progress(&s), "over 2: done@h1 done@h2");
    set(&s, "{'to': 'h1', 'method': 'turn_back'}, 'h2'", "");
    mesh_run(s.m, 3000);
    assert_string_equal(progress(&s), "over 1: done@h0"); /* the newer one, and not the result of
                                                             the method that made it */
    assert_string_equal(log_text(&s, NULL), "go h1 go h1 back h0");
    stage_close(&s);
}

static void test_failing_methods(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 3);
    set(&s,
        "{'to': 'h1', 'method': 'fail'}, {'to': 'h1', 'method': 'nothing'}, "
        "{'to': 'h2', 'method': 'big', 'args': {'n': 4096}}, "
        "{'to': 'h2', 'method': 'big', 'args': {'n': 4000}}",
        "");
    mesh_run(s.m, 4000);
    assert_string_equal(progress(&s), "over 5: failed@h1 failed@h1 done@h2 done@h2 done@h0");
    assert_string_equal(log_text(&s, NULL), "");
    gw_value v = gw_nil();
    mesh_must(s.m, 1, &v, "itinerary", "{'agent': '%s'}", s.id);
    const gw_value *stops = gw_map_get(gw_map_get(&v, "itinerary"), "stops");
    assert_string_equal(gw_map_str(&stops->list.items[0], "code", ""), "refused");
    assert_non_null(strstr(gw_map_str(&stops->list.items[0], "text", ""), "not at h1"));
    assert_null(gw_map_get(&stops->list.items[2], "reply")); /* too large to be kept */
    assert_non_null(strstr(gw_map_str(&stops->list.items[2], "text", ""), "limit"));
    assert_non_null(gw_map_get(&stops->list.items[3], "reply"));
    gw_value_free(&v);
    stage_close(&s);
}

static void test_hosts_that_are_away(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 4);
    mesh_crash(s.m, 1);
    set(&s, LOOK("h1", "skip") ", " LOOK("nowhere", "skip") ", " LOOK("h2", "skip"), "");
    mesh_run(s.m, 4000);
    assert_string_equal(progress(&s), "over 4: skipped skipped done@h2 done@h0");
    set(&s, "{'to': 'h1', 'method': 'look', 'retries': 2}, " LOOK("h2", "skip"), "");
    mesh_run(s.m, 2500);
    assert_string_equal(progress(&s), "waiting 0: ahead ahead ahead");
    mesh_run(s.m, 4000);
    assert_string_equal(progress(&s), "over 3: skipped done@h2 done@h0");
    set(&s, LOOK("h1", "wait") ", " LOOK("h2", "skip"), "");
    mesh_run(s.m, 120000);
    assert_string_equal(progress(&s), "waiting 0: ahead ahead ahead");
    mesh_crash(s.m, 0); /* also across a crash of the host where it waits */
    mesh_start_all(s.m);
    mesh_run(s.m, 5000);
    assert_string_equal(progress(&s), "over 3: done@h1 done@h2 done@h0");
    assert_string_equal(log_text(&s, NULL), "h2 h2 h1 h2");
    set(&s, LOOK("h1", "skip"), "");
    mesh_part(s.m, 0, 1, true); /* home is away: it is waited for */
    mesh_run(s.m, 100);
    stage_close(&s);
}

static void test_home_is_waited_for(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 5);
    set(&s, LOOK("h1", "skip"), ", 'home': false");
    mesh_run(s.m, 2000);
    mesh_crash(s.m, 0);
    mesh_must(s.m, 1, NULL, "itinerary", "{'agent': '%s', 'stops': [" LOOK("h2", "skip") "]}",
              s.id);
    mesh_run(s.m, 60000);
    assert_string_equal(progress(&s), "waiting 1: done@h2 ahead");
    mesh_start_all(s.m);
    mesh_run(s.m, 35000);
    assert_string_equal(progress(&s), "over 2: done@h2 done@h0");
    stage_close(&s);
}

static void test_cancel_and_disturb(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 6);
    mesh_part(s.m, 0, 1, true);
    set(&s, LOOK("h1", "wait"), "");
    mesh_run(s.m, 3000);
    mesh_must(s.m, 2, NULL, "dispatch", "{'agent': '%s', 'to': 'h2'}",
              s.id); /* from there it can */
    mesh_run(s.m, 2000);
    mesh_part(s.m, 0, 1, false);
    mesh_run(s.m, 35000);
    assert_string_equal(progress(&s), "over 2: done@h1 done@h0");
    mesh_crash(s.m, 1);
    set(&s, LOOK("h2", "skip") ", " LOOK("h1", "wait") ", " LOOK("h0", "skip"), "");
    mesh_run(s.m, 5000);
    mesh_must(s.m, 0, NULL, "deactivate", "{'agent': '%s'}", s.id);
    mesh_run(s.m, 5000);
    mesh_start_all(s.m);
    mesh_run(s.m, 10000);
    assert_string_equal(progress(&s), "asleep 1: done@h2 ahead ahead ahead");
    mesh_must(s.m, 0, NULL, "activate", "{'agent': '%s'}", s.id);
    mesh_run(s.m, 10000);
    assert_string_equal(progress(&s), "over 4: done@h2 done@h1 done@h0 done@h0");
    mesh_crash(s.m, 1);
    set(&s, LOOK("h1", "wait"), "");
    mesh_run(s.m, 5000);
    mesh_must(s.m, 0, NULL, "send", "{'agent': '%s', 'method': 'halt'}", s.id);
    assert_string_equal(progress(&s), "over 0: ahead ahead");
    set(&s, LOOK("h1", "wait"), "");
    mesh_run(s.m, 5000);
    mesh_must(s.m, 0, NULL, "itinerary", "{'agent': '%s', 'cancel': true}", s.id);
    mesh_start_all(s.m);
    mesh_run(s.m, 40000);
    assert_string_equal(progress(&s), "over 0: ahead ahead");
    assert_string_equal(log_text(&s, NULL), "h1 h2 h1 h0");
    static const char *const odd[] = {"",
                                      "5",
                                      "{'method': 'look'}",
                                      "{'to': 'h1', 'policy': 'x'}",
                                      "{'to': 'h1', 'method': 'a b'}",
                                      "{'to': 'h1', 'args': [1]}",
                                      "{'to': 'h1', 'retries': -1}"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        assert_int_equal(
            mesh_op(s.m, 0, NULL, "itinerary", "{'agent': '%s', 'stops': [%s]}", s.id, odd[i]),
            GW_EARG);
    }
    stage_close(&s);
}

/* --- each stop once, whatever happens --- */
static bool is_of_a_move(const struct frame *f)
{
    return f->kind == FRAME_STAGE || f->kind == FRAME_RECEIPT || f->kind == FRAME_COMMIT ||
           f->kind == FRAME_COMMITTED;
}

/* False: the trouble never came. */
static bool tour_with(struct trap t, uint64_t seed)
{
    struct stage s;
    int64_t ends;
    stage_open(&s, seed);
    set(&s, LOOK("h1", "wait") ", " LOOK("h2", "wait") ", " LOOK("h1", "wait"), "");
    trap_arm(&t, s.m);
    mesh_run(s.m, 60000);
    bool fired = t.fired;
    mesh_on_commit(s.m, NULL, NULL);
    mesh_on_frame(s.m, NULL, NULL);
    mesh_heal(s.m);
    mesh_run(s.m, 60000);
    mesh_expect_whole(s.m);
    const char *log = log_text(&s, &ends);
    if (strcmp(log, "h1 h2 h1") != 0 || ends != 1) {
        mesh_fail(s.m, "\"%s\", ended %lld times", log, (long long)ends);
    }
    assert_string_equal(progress(&s), "over 4: done@h1 done@h2 done@h1 done@h0");
    stage_close(&s);
    return fired;
}

static void test_crash_at_each_commit(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t i = 0; i < 3 * HOSTS; i++) {
        for (size_t at = 0;; at++) {
            struct trap t = {.host = i / 3, .fate = fates[i % 3], .k = at};
            if (!tour_with(t, 100 + at)) {
                break;
            }
        }
    }
}

static void test_trouble_at_each_frame(void **state)
{
    (void)state;
    static const mesh_fate fates[] = {FATE_CUT, FATE_TWICE, FATE_CRASH_FROM, FATE_CRASH_TO};
    for (size_t i = 0; i < 4; i++) {
        for (size_t at = 0;; at++) {
            struct trap t = {.frames = is_of_a_move, .frame_fate = fates[i], .k = at};
            if (!tour_with(t, 200 + at)) {
                break;
            }
        }
    }
}

/* --- rows from other hosts --- */
static void test_hostile_rows(void **state)
{
    (void)state;
    struct stage s;
    struct buf row = {0};
    stage_open(&s, 9);
    mesh_crash(s.m, 1);
    set(&s,
        LOOK("h2", "skip") ", {'to': 'h1', 'method': 'look', 'args': {'by': 2}, 'policy': 'wait'}",
        "");
    mesh_run(s.m, 4000);
    size_t where = mesh_where(s.m, &s.agent, NULL);
    itinerary_pack(agent_find(mesh_node(s.m, where), &s.agent)->itinerary, &row);
    struct itinerary *it = NULL;
    assert_int_equal(itinerary_unpack(buf_span(&row), &it), GW_OK);
    itinerary_free(it);
    for (size_t len = 0; len < row.len; len++) { /* every cut is noticed */
        assert_int_equal(itinerary_unpack((struct span){row.data, len}, &it), GW_EPROTO);
    }
    for (size_t i = 0; i < row.len * 8; i++) { /* no flip does harm */
        row.data[i / 8] ^= (uint8_t)(1u << i % 8);
        if (itinerary_unpack(buf_span(&row), &it) == GW_OK) {
            struct buf again = {0};
            itinerary_pack(it, &again);
            itinerary_free(it);
            assert_int_equal(itinerary_unpack(buf_span(&again), &it), GW_OK);
            itinerary_free(it);
            buf_free(&again);
        }
        row.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    buf_free(&row);
    stage_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),           cmocka_unit_test(test_from_the_agent),
        cmocka_unit_test(test_failing_methods),      cmocka_unit_test(test_hosts_that_are_away),
        cmocka_unit_test(test_home_is_waited_for),   cmocka_unit_test(test_cancel_and_disturb),
        cmocka_unit_test(test_crash_at_each_commit), cmocka_unit_test(test_trouble_at_each_frame),
        cmocka_unit_test(test_hostile_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
