/* What messages carry with them: priorities order what was accepted, deadlines and traces cross
 * links, rows and tickets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/actor.h"
#include "tests/mesh/scene.h"

#define TRACE    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define TRACE_ID "4bf92f3577b34da6a3ce929d0e0e4736"

struct pair {
    struct mesh *m;
    gw_id from, to;
    char from_id[GW_ID_TEXT], to_id[GW_ID_TEXT];
};

static void pair_open(struct pair *p, uint64_t seed)
{
    p->m = mesh_new(seed, 3);
    mesh_start_all(p->m);
    p->from = mesh_create(p->m, 0, "tally");
    p->to = mesh_create(p->m, 1, "tally");
    (void)gw_id_text(&p->from, p->from_id);
    (void)gw_id_text(&p->to, p->to_id);
}

static void post(struct pair *p, int number, const char *more)
{
    mesh_must(
        p->m, 0, NULL, "send",
        "{'agent': '%s', 'method': 'post', 'text': true, 'args': {'to': '%s', 'number': %d%s%s}}",
        p->from_id, p->to_id, number, more[0] ? ", " : "", more);
}

static int64_t queued(struct pair *p)
{
    gw_value v = gw_nil();
    mesh_must(p->m, 0, &v, "show", "{'agent': '%s'}", p->to_id);
    int64_t n = gw_map_int(gw_map_get(&v, "mailbox"), "queued", -1);
    gw_value_free(&v);
    return n;
}

/* Asleep, and woken by nothing but `activate`. */
static void lay_down(struct pair *p)
{
    mesh_must(p->m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}", p->to_id);
}

static void get_up(struct pair *p)
{
    mesh_must(p->m, 0, NULL, "activate", "{'agent': '%s'}", p->to_id);
    mesh_run(p->m, 2000);
}

/* Numbers in the history, in their order: "3 1 2". */
static const char *numbers(struct mesh *m, const gw_id *agent)
{
    static char text[1024];
    const char *at = scene_history(m, 0, agent);
    size_t n = 0;
    text[0] = '\0';
    while ((at = strchr(at, '#'))) {
        n +=
            (size_t)snprintf(text + n, sizeof text - n, n ? " %ld" : "%ld", strtol(++at, NULL, 10));
    }
    return text;
}

/* --- priorities --- */

/* What waits runs by priority, 9 first, in the order of its coming within one. */
static void test_asks_run_by_priority(void **state)
{
    (void)state;
    struct scene s;
    struct mesh_call *calls[21];
    scene_open(&s, 1, 1);
    for (int i = 0; i <= 20; i++) { /* the first one runs at once */
        calls[i] = mesh_ask(s.m, 0, "send",
                            "{'agent': '%s', 'method': 'add', 'priority': %d, 'args': {'number': "
                            "%d}}",
                            s.id, i % 10, i);
    }
    for (int i = 0; i <= 20; i++) {
        assert_int_equal(mesh_wait(s.m, calls[i], 60000), GW_OK);
        mesh_call_free(calls[i]);
    }
    assert_string_equal(numbers(s.m, &s.agent),
                        "0 9 19 8 18 7 17 6 16 5 15 4 14 3 13 2 12 1 11 10 20");
    scene_close(&s);
}

/* The inbox keeps them over a crash, a move and sleep; within a priority the order of the sender
 * stands. */
static void test_priorities_are_durable(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct pair p;
        pair_open(&p, seed);
        lay_down(&p);
        for (int i = 0; i < 12; i++) {
            char more[32];
            snprintf(more, sizeof more, "'priority': %d", i % 3 ? i % 3 * 4 : 0); /* 5, 4, 8 */
            post(&p, i, more);
        }
        mesh_run(p.m, 2000);
        assert_int_equal(queued(&p), 12);
        if (seed != 1) {
            mesh_crash(p.m, 1);
            mesh_start_all(p.m);
        }
        if (seed > 2) {
            assert_int_equal(mesh_move(p.m, 0, &p.to, 2), GW_OK);
        }
        if (seed > 3) {
            mesh_crash(p.m, 2);
            mesh_start_all(p.m);
        }
        get_up(&p);
        assert_string_equal(numbers(p.m, &p.to), "2 5 8 11 0 3 6 9 1 4 7 10");
        mesh_free(p.m);
    }
}

/* Life-cycle work has its place: what comes later does not overtake it, however urgent. */
static void test_lifecycle_is_not_overtaken(void **state)
{
    (void)state;
    struct scene s;
    struct mesh_call *calls[9];
    scene_open(&s, 1, 1);
    for (int i = 0; i < 9; i++) {
        if (i == 4) {
            calls[i] = mesh_ask(s.m, 0, "deactivate", "{'agent': '%s'}", s.id);
        } else {
            calls[i] = mesh_ask(s.m, 0, "send",
                                "{'agent': '%s', 'method': 'add', 'priority': %d, 'args': "
                                "{'number': %d}}",
                                s.id, i, i);
        }
    }
    for (int i = 0; i < 9; i++) {
        assert_int_equal(mesh_wait(s.m, calls[i], 60000), GW_OK);
        mesh_call_free(calls[i]);
    }
    const char *history = scene_history(s.m, 0, &s.agent);
    const char *sleep = strstr(history, "sleep");
    assert_non_null(sleep);
    assert_true(strstr(history, "#1") < sleep);
    assert_true(strstr(history, "#8") > sleep);
    assert_string_equal(numbers(s.m, &s.agent), "0 3 2 1 8 7 6 5");
    scene_close(&s);
}

/* --- deadlines --- */

static void test_a_late_tell_is_dropped(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        struct pair p;
        pair_open(&p, 3);
        lay_down(&p);
        post(&p, 1, "'deadline': '10s'");
        post(&p, 2, "");
        post(&p, 3, "'deadline': '1h'");
        mesh_run(p.m, 5000);
        assert_int_equal(queued(&p), 3);
        if (crash) {
            mesh_crash(p.m, 1);
            mesh_start_all(p.m);
        }
        mesh_run(p.m, 10000);
        get_up(&p);
        assert_string_equal(numbers(p.m, &p.to), "2 3");
        assert_int_equal(queued(&p), 0);
        assert_int_equal(actor_events(p.m, 1, "message.expired"), 1);
        mesh_crash(p.m, 1); /* it is out of the inbox */
        mesh_start_all(p.m);
        mesh_run(p.m, 1000);
        assert_string_equal(numbers(p.m, &p.to), "2 3");
        mesh_free(p.m);
    }
}

/* A tell that cannot be delivered in time leaves the outbox; those behind it go on. */
static void test_a_tell_expires_at_its_sender(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 4);
    mesh_part(p.m, 0, 1, true);
    post(&p, 1, "'deadline': '5s'");
    post(&p, 2, "");
    mesh_run(p.m, 20000);
    mesh_part(p.m, 0, 1, false);
    mesh_heal(p.m);
    mesh_run(p.m, 20000);
    assert_string_equal(numbers(p.m, &p.to), "2");
    assert_int_equal(actor_events(p.m, 0, "message.expired"), 1);
    mesh_free(p.m);
}

/* Clocks of hosts differ by days: a deadline is what is left of it. */
static void test_deadlines_move_with_the_agent(void **state)
{
    (void)state;
    for (int by = -1; by <= 1; by += 2) {
        struct pair p;
        pair_open(&p, 5);
        mesh_set_clock(p.m, 2, by * 86400000LL);
        lay_down(&p);
        post(&p, 1, "'deadline': '10s'");
        post(&p, 2, "'deadline': '100s'");
        mesh_run(p.m, 2000);
        assert_int_equal(mesh_move(p.m, 0, &p.to, 2), GW_OK);
        mesh_run(p.m, 20000);
        get_up(&p);
        assert_string_equal(numbers(p.m, &p.to), "2");
        mesh_free(p.m);
    }
}

static commit_fate slow_once(void *arg, size_t host)
{
    bool *armed = arg;
    bool now = *armed && host == 0;
    *armed = *armed && !now;
    return now ? COMMIT_SLOW : COMMIT_PASS;
}

/* The caller is told at its deadline, and what has not begun never runs. */
static void test_a_call_ends_at_its_deadline(void **state)
{
    (void)state;
    for (size_t via = 0; via < 2; via++) {
        struct scene s;
        bool armed = true;
        scene_open(&s, 2, 2);
        mesh_must(s.m, 0, NULL, "deactivate", "{'agent': '%s'}", s.id);
        mesh_on_commit(s.m, slow_once, &armed); /* its waking takes 5 s */
        int64_t began_us = mesh_now_us(s.m);
        assert_int_equal(mesh_op(s.m, via, NULL, "send",
                                 "{'agent': '%s', 'method': 'add', 'timeout': 1000}", s.id),
                         GW_ETIMEOUT);
        int64_t took_ms = (mesh_now_us(s.m) - began_us) / 1000;
        assert_in_range(took_ms, 990, 1010);
        mesh_run(s.m, 10000);
        assert_int_equal(mesh_count(s.m, 0, &s.agent), 3);
        scene_close(&s);
    }
}

static void test_a_deadline_in_the_past_is_refused(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 2, 2);
    static const long long lefts[] = {0, -1, -86400000, INT64_MIN};
    for (size_t i = 0; i < sizeof lefts / sizeof lefts[0]; i++) {
        for (size_t via = 0; via < 2; via++) {
            int64_t began_us = mesh_now_us(s.m);
            assert_int_equal(mesh_op(s.m, via, NULL, "send",
                                     "{'agent': '%s', 'method': 'add', 'timeout': %lld}", s.id,
                                     lefts[i]),
                             lefts[i] == 0 ? GW_ETIMEOUT : GW_EARG);
            assert_int_equal(mesh_now_us(s.m), began_us);
        }
    }
    assert_int_equal(mesh_count(s.m, 0, &s.agent), 3);
    assert_int_equal(mesh_op(s.m, 0, NULL, "send",
                             "{'agent': '%s', 'method': 'add', 'timeout': %lld}", s.id,
                             (long long)INT64_MAX),
                     GW_OK);
    scene_close(&s);
}

/* What is left shrinks on its way, and the handler can read it. */
static void test_a_handler_knows_what_is_left(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 2, 2);
    mesh_set_delay(s.m, 0, 1, 200000);
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'mark', 'timeout': 60000}", s.id);
    const char *slash = strrchr(scene_history(s.m, 0, &s.agent), '/');
    assert_non_null(slash);
    assert_in_range(strtol(slash + 1, NULL, 10), 50000, 60000);
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'mark'}", s.id);
    slash = strrchr(scene_history(s.m, 0, &s.agent), '/');
    assert_string_equal(slash, "/-1");
    scene_close(&s);
}

static void test_no_wake_leaves_it_asleep(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 6);
    mesh_must(p.m, 0, NULL, "deactivate", "{'agent': '%s'}", p.to_id);
    post(&p, 1, "'no_wake': true");
    mesh_run(p.m, 2000);
    assert_int_equal(actor_events(p.m, 0, "message.failed"), 1);
    post(&p, 2, "");
    mesh_run(p.m, 2000);
    assert_string_equal(numbers(p.m, &p.to), "2");
    mesh_free(p.m);
}

/* --- traces --- */

/* The first event of a kind about an agent: its trace id, or "". Static storage. */
static const char *event_trace(struct mesh *m, size_t host, const char *kind, const char *agent)
{
    static char text[64];
    struct mesh_call *c = mesh_ask(m, host, "events", "{'limit': 1000, 'agent': '%s'}", agent);
    (void)mesh_wait(m, c, 1000);
    text[0] = '\0';
    for (size_t i = 0; c->items.kind == GW_LIST && i < c->items.list.n && !text[0]; i++) {
        const gw_value *e = &c->items.list.items[i];
        if (strcmp(gw_map_str(e, "kind", ""), kind) == 0) {
            snprintf(text, sizeof text, "%s", gw_map_str(e, "trace", ""));
        }
    }
    mesh_call_free(c);
    return text;
}

/* From a caller through a handler and its tell, over a sleep, a crash and a move; each piece of
 * work is a span of its own. */
static void test_a_trace_goes_along(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 7);
    lay_down(&p);
    mesh_set_trace(p.m, TRACE);
    mesh_must(p.m, 2, NULL, "send", "{'agent': '%s', 'method': 'mark'}", p.from_id);
    const char *own = strstr(scene_history(p.m, 0, &p.from), "00-" TRACE_ID "-");
    assert_non_null(own);
    assert_null(strstr(own, "00f067aa0ba902b7"));
    assert_non_null(strstr(own, "-01/"));
    post(&p, 1, "'method': 'mark'");
    mesh_run(p.m, 1000);
    mesh_crash(p.m, 1);
    mesh_start_all(p.m);
    assert_int_equal(mesh_move(p.m, 0, &p.to, 2), GW_OK);
    mesh_set_trace(p.m, NULL);
    get_up(&p);
    assert_non_null(strstr(scene_history(p.m, 0, &p.to), "00-" TRACE_ID "-"));
    assert_string_equal(event_trace(p.m, 1, "agent.dispatch", p.to_id), TRACE_ID);
    assert_string_equal(event_trace(p.m, 2, "agent.arrive", p.to_id), TRACE_ID);
    const char *woken = event_trace(p.m, 2, "agent.activate", p.to_id);
    assert_int_equal(strlen(woken), 32);
    assert_string_not_equal(woken, TRACE_ID);
    mesh_free(p.m);
}

/* One that is not well formed is ignored, and a new one begins. */
static void test_a_bad_trace_is_replaced(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "00",
                                      "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                                      "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                                      TRACE "x",
                                      TRACE "-00"};
    struct scene s;
    scene_open(&s, 8, 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mesh_set_trace(s.m, bad[i]);
        mesh_must(s.m, 0, NULL, "send", "{'agent': '%s', 'method': 'mark'}", s.id);
    }
    const char *history = scene_history(s.m, 0, &s.agent);
    size_t found = 0;
    for (const char *at = history; (at = strstr(at, "00-")); at += 3) {
        found += strncmp(at + 35, "-", 1) == 0;
    }
    assert_int_equal(found, sizeof bad / sizeof bad[0]);
    assert_null(strstr(history, TRACE_ID));
    assert_null(strstr(history, "00000000000000000000000000000000"));
    scene_close(&s);
}

/* --- what has ended --- */

/* Whoever asks, from wherever, is told `disposed`; a tell is an event at its sender, and those to
 * others go on. */
static void test_a_disposed_agent_says_so(void **state)
{
    (void)state;
    for (int moved = 0; moved < 2; moved++) {
        struct pair p;
        pair_open(&p, 9);
        if (moved) { /* its home is h1, it ends at h2 */
            assert_int_equal(mesh_move(p.m, 0, &p.to, 2), GW_OK);
        }
        mesh_expect_disposed(p.m, &p.to);
        mesh_must(p.m, 0, NULL, "dispose", "{'agent': '%s'}", p.to_id);
        for (int round = 0; round < 2; round++) {
            for (size_t via = 0; via < 3; via++) {
                assert_int_equal(
                    mesh_op(p.m, via, NULL, "send", "{'agent': '%s', 'method': 'get'}", p.to_id),
                    GW_EDISPOSED);
                assert_int_equal(mesh_op(p.m, via, NULL, "send",
                                         "{'agent': '%s', 'method': 'add', 'tell': true}", p.to_id),
                                 GW_EDISPOSED);
            }
            post(&p, 1, "");
            mesh_run(p.m, 2000);
            assert_int_equal(actor_events(p.m, 0, "message.failed"), round + 1);
            for (size_t host = 0; host < 3; host++) {
                mesh_crash(p.m, host);
            }
            mesh_start_all(p.m);
        }
        mesh_free(p.m);
    }
}

static size_t events_of(struct mesh *m, size_t host, const char *kind)
{
    struct mesh_call *c = mesh_ask(m, host, "events", "{'limit': 1000, 'kind': '%s'}", kind);
    gw_err err = mesh_wait(m, c, 1000);
    size_t n = err != GW_OK ? SIZE_MAX : c->items.kind == GW_LIST ? c->items.list.n : 0;
    mesh_call_free(c);
    return n;
}

static void test_events_by_kind(void **state)
{
    (void)state;
    struct pair p;
    pair_open(&p, 10);
    assert_int_equal(events_of(p.m, 0, "agent.create"), 1);
    assert_int_equal(mesh_move(p.m, 0, &p.from, 1), GW_OK);
    mesh_must(p.m, 0, NULL, "clone", "{'agent': '%s', 'to': 'h2'}", p.to_id);
    assert_int_equal(events_of(p.m, 0, "agent"), 2);
    assert_int_equal(events_of(p.m, 1, "agent.arrive"), 1);
    assert_int_equal(events_of(p.m, 2, "agent.clone"), 1);
    assert_int_equal(events_of(p.m, 0, "host.joined"), 2);
    assert_int_equal(events_of(p.m, 0, "age"), SIZE_MAX);
    assert_int_equal(events_of(p.m, 0, "nothing.known"), SIZE_MAX);
    mesh_crash(p.m, 0); /* who is known does not join again */
    mesh_start_all(p.m);
    assert_int_equal(events_of(p.m, 0, "host.joined"), 2);
    mesh_free(p.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asks_run_by_priority),
        cmocka_unit_test(test_priorities_are_durable),
        cmocka_unit_test(test_lifecycle_is_not_overtaken),
        cmocka_unit_test(test_a_late_tell_is_dropped),
        cmocka_unit_test(test_a_tell_expires_at_its_sender),
        cmocka_unit_test(test_deadlines_move_with_the_agent),
        cmocka_unit_test(test_a_call_ends_at_its_deadline),
        cmocka_unit_test(test_a_deadline_in_the_past_is_refused),
        cmocka_unit_test(test_a_handler_knows_what_is_left),
        cmocka_unit_test(test_no_wake_leaves_it_asleep),
        cmocka_unit_test(test_a_trace_goes_along),
        cmocka_unit_test(test_a_bad_trace_is_replaced),
        cmocka_unit_test(test_a_disposed_agent_says_so),
        cmocka_unit_test(test_events_by_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
