/* Agents that crash again and again: quarantined with their state, told to who watches them, and
 * released; those who ran beside them are not. */
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
#include "tests/mesh/actor.h"

struct sentry {
    gw_strs log;
};
static const struct gw_field sentry_fields[] = {GW_FIELD(struct sentry, log)};
static gw_err watch(struct gw_call *call)
{
    return gw_monitor(call, gw_arg_id(call, "agent"), NULL);
}
static gw_err history(struct gw_call *call)
{
    const struct sentry *s = gw_state(call);
    return gw_reply_strs(call, "log", &s->log);
}
static gw_err on_down(struct gw_call *call)
{
    struct sentry *s = gw_state(call);
    return gw_strs_add(&s->log, gw_reason(call));
}
static const struct gw_method sentry_methods[] = {
    {"watch(agent: agent)", watch, 0}, {"history() -> (log: [string])", history, GW_READ}};
static const struct gw_type sentry_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "sentry",
    .version = 1,
    .state_size = sizeof(struct sentry),
    GW_FIELDS(sentry_fields),
    GW_METHODS(sentry_methods),
    .on_down = on_down,
};
static struct gw_type brittle_type; /* an actor that three crashes within a minute quarantine */
static const struct gw_type *const types[] = {&sentry_type, &brittle_type, &tally_type};

struct stage {
    struct mesh *m;
    gw_id agent, sentry;
    char id[GW_ID_TEXT];
};

static void stage_open(struct stage *s, uint64_t seed)
{
    brittle_type = actor_type;
    brittle_type.name = "brittle";
    brittle_type.quarantine_after = 3;
    brittle_type.quarantine_within_ms = 60000;
    s->m = actor_mesh_new(seed, 2);
    mesh_set_types(s->m, 0, types, 3);
    mesh_set_types(s->m, 1, types, 3);
    mesh_start_all(s->m);
    s->agent = mesh_create(s->m, 1, "brittle");
    s->sentry = mesh_create(s->m, 0, "sentry");
    (void)gw_id_text(&s->agent, s->id);
}

static void watch_it(struct stage *s)
{
    char args[80];
    (void)snprintf(args, sizeof args, "{'agent': '%s'}", s->id);
    actor_must(s->m, 0, &s->sentry, "watch", args);
    mesh_run(s->m, 1500);
}

static void crash(struct stage *s, int times)
{
    for (int i = 0; i < times; i++) {
        (void)actor_send(s->m, 1, &s->agent, "crash", "{}");
        mesh_run(s->m, 1000);
    }
}

static bool is_quarantined(struct stage *s)
{
    gw_value v = gw_nil();
    mesh_must(s->m, 1, &v, "show", "{'agent': '%s'}", s->id);
    bool yes = strcmp(gw_map_str(&v, "status", ""), "quarantined") == 0;
    mesh_assert(s->m, yes == (gw_map_str(&v, "fault", NULL) != NULL));
    gw_value_free(&v);
    return yes;
}

static void test_enter_and_release(void **state)
{
    (void)state;
    struct stage s;
    gw_value v = gw_nil();
    stage_open(&s, 1);
    watch_it(&s);
    actor_must(s.m, 1, &s.agent, "add", "{'by': 5}");
    crash(&s, 2);
    assert_false(is_quarantined(&s));
    crash(&s, 1);
    assert_true(is_quarantined(&s));
    assert_string_equal(actor_history(s.m, 0, &s.sentry), "crashed");
    assert_int_equal(actor_send(s.m, 0, &s.agent, "get", "{}"), GW_EQUARANTINED);
    mesh_must(s.m, 1, &v, "agents", "{'status': 'quarantined'}");
    assert_int_equal(gw_map_get(&v, "agents")->list.n, 1);
    gw_value_free(&v);
    watch_it(&s); /* watching one that is quarantined says so at once */
    assert_string_equal(actor_history(s.m, 0, &s.sentry), "crashed crashed");
    mesh_crash(s.m, 1);
    mesh_start_all(s.m);
    assert_true(is_quarantined(&s));
    mesh_must(s.m, 0, NULL, "activate", "{'agent': '%s'}", s.id);
    assert_false(is_quarantined(&s));
    mesh_must(s.m, 0, &v, "send", "{'agent': '%s', 'method': 'get'}", s.id);
    assert_int_equal(gw_map_int(gw_map_get(&v, "reply"), "count", -1), 5);
    gw_value_free(&v);
    crash(&s, 2); /* counted anew */
    assert_false(is_quarantined(&s));
    mesh_free(s.m);
}

/* Crashes that are far apart do not add up. */
static void test_within_a_time(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 2);
    for (int i = 0; i < 8; i++) {
        crash(&s, 1);
        mesh_run(s.m, 31000);
    }
    assert_false(is_quarantined(&s));
    mesh_free(s.m);
}

/* What was told to it waits, and is applied once it is released. */
static void test_messages_wait(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 3);
    gw_id teller = mesh_create(s.m, 0, "tally");
    crash(&s, 3);
    assert_true(is_quarantined(&s));
    assert_int_equal(actor_relay(s.m, 0, &teller, &s.agent, 7, "r1"), GW_OK);
    mesh_run(s.m, 5000);
    mesh_must(s.m, 1, NULL, "activate", "{'agent': '%s'}", s.id);
    mesh_run(s.m, 15000);
    assert_int_equal(actor_lines(s.m, 1, &s.agent, "#7"), 1);
    mesh_free(s.m);
}

/* Who merely ran on the same runner is not quarantined, however often that ends. */
static void test_bystanders_go_on(void **state)
{
    (void)state;
    struct stage s;
    char id[GW_ID_TEXT];
    stage_open(&s, 4);
    gw_id other = mesh_create(s.m, 1, "brittle");
    (void)gw_id_text(&other, id);
    for (int i = 0; i < 12 && !is_quarantined(&s); i++) {
        struct mesh_call *beside =
            mesh_ask(s.m, 1, "send", "{'agent': '%s', 'method': 'add', 'tell': true}", id);
        (void)actor_send(s.m, 1, &s.agent, "crash", "{}");
        mesh_run(s.m, 3000);
        mesh_call_free(beside);
    }
    assert_true(is_quarantined(&s));
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'add'}", id);
    mesh_free(s.m);
}

struct trouble {
    struct mesh *m;
    size_t count, at;
    commit_fate fate;
    bool done;
};

static void restart(void *arg)
{
    struct trouble *t = arg;
    mesh_start_all(t->m);
}

static commit_fate on_commit(void *arg, size_t host)
{
    struct trouble *t = arg;
    if (t->done || host != 1 || t->count++ != t->at) {
        return COMMIT_PASS;
    }
    t->done = true;
    if (t->fate == COMMIT_CRASH_BEFORE || t->fate == COMMIT_CRASH_AFTER) {
        mesh_at(t->m, 300001, restart, NULL, t);
    }
    return t->fate;
}

/* Its watcher hears of it once, whatever fails in between. */
static void test_across_crashes(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL,
                                        COMMIT_SLOW};
    for (size_t f = 0; f < 4; f++) {
        bool hit = true;
        for (size_t k = 0; hit; k++) {
            struct stage s;
            struct trouble t = {.at = k, .fate = fates[f]};
            stage_open(&s, k);
            watch_it(&s);
            t.m = s.m;
            mesh_on_commit(s.m, on_commit, &t);
            crash(&s, 3);
            mesh_run(s.m, 6000);
            mesh_heal(s.m);
            for (int i = 0; i < 4 && !is_quarantined(&s); i++) {
                crash(&s, 1);
            }
            mesh_run(s.m, 12000);
            assert_true(is_quarantined(&s));
            assert_string_equal(actor_history(s.m, 0, &s.sentry), "crashed");
            hit = t.done;
            mesh_free(s.m);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enter_and_release), cmocka_unit_test(test_within_a_time),
        cmocka_unit_test(test_messages_wait),     cmocka_unit_test(test_bystanders_go_on),
        cmocka_unit_test(test_across_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
