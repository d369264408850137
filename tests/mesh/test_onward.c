/* Agents that go on before they have come to rest: what has just arrived and is still being read
 * moves on, goes where it is, is told of by hosts whose disk is full; a move that was called off is
 * followed by another at once; a wish ends while its agent departs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/handoff.h"
#include "host/core/internal.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/citizen.h"
#include "tests/mesh/trap.h"

#define READ_US 300000 /* of a store, long enough for what is done meanwhile */

struct way {
    struct mesh *m;
    gw_id id;
    char text[GW_ID_TEXT];
};

/* A citizen at h0 with a timer of 20 s, which is its mail; reads of h1 are slow. */
static void way_open(struct way *w, uint64_t seed)
{
    w->m = mesh_new(seed, 3);
    for (size_t i = 0; i < 3; i++) {
        mesh_set_types(w->m, i, citizen_types, 2);
    }
    mesh_start_all(w->m);
    w->id = mesh_create(w->m, 0, "citizen");
    (void)gw_id_text(&w->id, w->text);
    actor_must(w->m, 0, &w->id, "alarm", "{'number': 1, 'ms': 20000}");
    mesh_slow_reads(w->m, 1, READ_US);
}

static void way_close(struct way *w)
{
    mesh_heal(w->m);
    mesh_expect_whole(w->m);
    mesh_free(w->m);
}

/* To h1, and from there to h2 before it is read there. */
static void go_through(struct way *w)
{
    assert_int_equal(mesh_move(w->m, 0, &w->id, 1), GW_OK);
    assert_true(mesh_where(w->m, &w->id, NULL) == 1);
    const struct agent *a = agent_find(mesh_node(w->m, 1), &w->id);
    assert_true(a && a->loading);
    struct mesh_call *on = mesh_ask(w->m, 1, "dispatch", "{'agent': '%s', 'to': 'h2'}", w->text);
    assert_int_equal(mesh_wait(w->m, on, 30000), GW_OK);
    mesh_call_free(on);
}

static size_t lines(struct way *w, const char *line)
{
    return actor_lines(w->m, 2, &w->id, line);
}

/* Asleep: its timers travel on, and no hook of a move runs. */
static void test_asleep(void **state)
{
    (void)state;
    struct way w;
    way_open(&w, 1);
    mesh_must(w.m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}", w.text);
    go_through(&w);
    mesh_run(w.m, 10000);
    mesh_must(w.m, 2, NULL, "activate", "{'agent': '%s'}", w.text);
    assert_int_equal(lines(&w, "t1"), 0);
    assert_int_equal(lines(&w, "leave") + lines(&w, "arrive"), 0);
    mesh_run(w.m, 15000);
    assert_int_equal(lines(&w, "t1"), 1);
    way_close(&w);
}

/* With a time to wake, too. */
static void test_asleep_for_a_while(void **state)
{
    (void)state;
    struct way w;
    way_open(&w, 2);
    mesh_must(w.m, 0, NULL, "deactivate",
              "{'agent': '%s', 'wake_on_message': false, 'wake_after': 5000}", w.text);
    go_through(&w);
    mesh_run(w.m, 8000);
    assert_int_equal(lines(&w, "wake"), 1);
    assert_int_equal(lines(&w, "leave") + lines(&w, "arrive"), 0);
    mesh_run(w.m, 15000);
    assert_int_equal(lines(&w, "t1"), 1);
    way_close(&w);
}

/* Awake, and told something meanwhile: on_arrive runs at h1 before it leaves. */
static void test_awake(void **state)
{
    (void)state;
    for (int told = 0; told < 2; told++) {
        struct way w;
        way_open(&w, 3);
        assert_int_equal(mesh_move(w.m, 0, &w.id, 1), GW_OK);
        const struct agent *a = agent_find(mesh_node(w.m, 1), &w.id);
        assert_true(a && a->loading && a->pending);
        struct mesh_call *tell =
            told
                ? mesh_ask(w.m, 1, "send",
                           "{'agent': '%s', 'method': 'note', 'args': {'number': 2}, 'tell': true}",
                           w.text)
                : NULL;
        struct mesh_call *on = mesh_ask(w.m, 1, "dispatch", "{'agent': '%s', 'to': 'h2'}", w.text);
        assert_int_equal(mesh_wait(w.m, on, 30000), GW_OK);
        mesh_run(w.m, 25000);
        assert_int_equal(lines(&w, "leave"), 2);
        assert_int_equal(lines(&w, "arrive"), 2);
        assert_int_equal(lines(&w, "t1"), 1);
        mesh_call_free(on);
        mesh_call_free(tell);
        way_close(&w);
    }
}

/* It wishes to go where it is: it arrives once, whichever transaction of that is rolled back. */
static bool go_nowhere(size_t k)
{
    struct way w;
    struct trap t = {.k = k, .host = 0, .fate = COMMIT_FAIL};
    way_open(&w, 10 + k);
    trap_arm(&t, w.m);
    struct mesh_call *go =
        mesh_ask(w.m, 0, "send", "{'agent': '%s', 'method': 'go', 'args': {'to': 'h0'}}", w.text);
    mesh_run(w.m, 10000);
    size_t going = actor_lines(w.m, 0, &w.id, "going");
    assert_true(go->done && going == (go->err == GW_OK));
    assert_int_equal(actor_lines(w.m, 0, &w.id, "arrive"), going);
    mesh_call_free(go);
    mesh_on_commit(w.m, NULL, NULL);
    way_close(&w);
    return t.fired;
}

static void test_where_it_is(void **state)
{
    (void)state;
    size_t k = 0;
    while (go_nowhere(k)) {
        k++;
    }
    assert_true(k >= 3); /* the handler, the end of the wish, on_arrive */
}

/* Its home hears where it is while its disk is full, and knows that after a crash. */
static void test_home_is_full(void **state)
{
    (void)state;
    struct way w;
    way_open(&w, 4);
    assert_int_equal(mesh_move(w.m, 0, &w.id, 1), GW_OK);
    mesh_run(w.m, 3000);
    mesh_fill_disk(w.m, 0, 2500);
    assert_int_equal(mesh_move(w.m, 1, &w.id, 2), GW_OK);
    mesh_run(w.m, 100);
    assert_int_equal(agent_fence(mesh_node(w.m, 0), &w.id), 3);
    mesh_run(w.m, 6000);
    mesh_crash(w.m, 0);
    mesh_part(w.m, 0, 1, true);
    mesh_part(w.m, 0, 2, true);
    mesh_start(w.m, 0);
    mesh_run(w.m, 1000);
    assert_int_equal(agent_fence(mesh_node(w.m, 0), &w.id), 3);
    way_close(&w);
}

/* The disk of h0 sleeps at each of its next `left` commits; those of a departure alone, if set. */
struct sleeper {
    struct way *w;
    size_t left;
    bool departure;
};

static const struct agent *at_h0(const struct way *w)
{
    return agent_find(mesh_node(w->m, 0), &w->id);
}

static commit_fate sleep_at(void *arg, size_t host)
{
    struct sleeper *s = arg;
    const struct agent *a = host == 0 ? at_h0(s->w) : NULL;
    bool departs = a && a->move && a->move->t->phase == OUT_COMMITTING;
    if (host != 0 || s->left == 0 || (s->departure && !departs)) {
        return COMMIT_PASS;
    }
    s->left--;
    return COMMIT_SLOW;
}

static bool has_slept(void *arg)
{
    return ((const struct sleeper *)arg)->left == 0;
}

static bool is_done(void *arg)
{
    return ((const struct mesh_call *)arg)->done;
}

static struct mesh_call *dispatch(struct way *w, const char *to)
{
    return mesh_ask(w->m, 0, "dispatch", "{'agent': '%s', 'to': '%s'}", w->text, to);
}

static struct mesh_call *note(struct way *w, int number)
{
    return mesh_ask(w->m, 0, "send", "{'agent': '%s', 'method': 'note', 'args': {'number': %d}}",
                    w->text, number);
}

/* Counts how often on_dispatch is run. */
static bool count_leaving(void *arg, size_t host, const struct frame *frame)
{
    struct mp m = frame->rest;
    uint64_t hook = 0;
    (void)host;
    if (frame->kind == FRAME_RUN && mp_skip_n(&m, 3) == GW_OK && mp_read_uint(&m, &hook) == GW_OK) {
        *(size_t *)arg += hook == HOOK_DISPATCH;
    }
    return false;
}

/* A move waits for its agent to become quiet until its time is over; the next one begins while the
 * agent is still busy. on_dispatch runs once, for that one. */
static void test_called_off(void **state)
{
    (void)state;
    struct way w;
    struct sleeper s = {.w = &w, .left = 2};
    size_t leavings = 0;
    way_open(&w, 5);
    mesh_on_commit(w.m, sleep_at, &s);
    mesh_on_runner(w.m, count_leaving, &leavings);
    struct mesh_call *notes[] = {note(&w, 2), note(&w, 3)};
    mesh_run(w.m, 500);
    struct mesh_call *first = dispatch(&w, "h1");
    assert_true(mesh_run_until(w.m, is_done, first, HANDOFF_FREEZE_MS + 100));
    assert_int_equal(first->err, GW_EBUSY);
    assert_true(!at_h0(&w)->move && !notes[1]->done);
    struct mesh_call *second = dispatch(&w, "h2");
    assert_int_equal(mesh_wait(w.m, second, 30000), GW_OK);
    mesh_run(w.m, 25000);
    assert_true(mesh_where(w.m, &w.id, NULL) == 2);
    assert_int_equal(leavings, 1);
    assert_int_equal(lines(&w, "leave"), 1);
    assert_int_equal(lines(&w, "arrive"), 1);
    for (size_t i = 0; i < 2; i++) {
        assert_true(notes[i]->done && notes[i]->err == GW_OK);
        mesh_call_free(notes[i]);
    }
    assert_int_equal(lines(&w, "m2") + lines(&w, "m3"), 2);
    mesh_call_free(first);
    mesh_call_free(second);
    mesh_on_runner(w.m, NULL, NULL);
    mesh_on_commit(w.m, NULL, NULL);
    way_close(&w);
}

static bool count_one(void *arg, const struct node_agent_view *view)
{
    (void)view;
    ++*(size_t *)arg;
    return true;
}

/* It sleeps while the clone that it wished is made, which ends its wishes, and is awake again and
 * leaves by another one: the clone's receipt comes while the disk writes that it has left. */
static void test_wish_ends_as_it_departs(void **state)
{
    (void)state;
    struct way w;
    struct sleeper s = {.w = &w, .left = 1, .departure = true};
    size_t agents = 0;
    way_open(&w, 7);
    mesh_set_delay(w.m, 0, 1, 1000000);
    actor_must(w.m, 0, &w.id, "twin", "{'to': 'h1'}");
    mesh_run(w.m, 100);
    assert_true(at_h0(&w)->intent_busy);
    mesh_must(w.m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}", w.text);
    mesh_must(w.m, 0, NULL, "activate", "{'agent': '%s'}", w.text);
    mesh_on_commit(w.m, sleep_at, &s);
    actor_must(w.m, 0, &w.id, "go", "{'to': 'h2'}");
    assert_true(mesh_run_until(w.m, has_slept, &s, 500));
    assert_true(at_h0(&w)->intent_busy);
    mesh_run(w.m, 4000);
    assert_true(!at_h0(&w)->intent_busy);
    mesh_run(w.m, 25000);
    assert_true(mesh_where(w.m, &w.id, NULL) == 2);
    assert_int_equal(lines(&w, "leave"), 1);
    for (size_t i = 0; i < 3; i++) {
        node_each_agent(mesh_node(w.m, i), count_one, &agents);
    }
    assert_int_equal(agents, 2);
    mesh_on_commit(w.m, NULL, NULL);
    way_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asleep),
        cmocka_unit_test(test_asleep_for_a_while),
        cmocka_unit_test(test_awake),
        cmocka_unit_test(test_where_it_is),
        cmocka_unit_test(test_home_is_full),
        cmocka_unit_test(test_called_off),
        cmocka_unit_test(test_wish_ends_as_it_departs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
