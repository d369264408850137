/* Messages while the agent moves: each is applied once (I4), whichever host took it, however often
 * it is sent again under its request key; tells between agents that move arrive once and in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/scene.h"

#define SENDS 40

/* Adds under SENDS keys through all hosts while the agent travels, faults included; then all again
 * through other hosts. */
struct flood {
    struct scene *s;
    struct mesh_call *calls[SENDS];
    size_t next;
};

static void send_next(void *arg)
{
    struct flood *f = arg;
    if (f->next < SENDS) {
        size_t i = f->next++;
        f->calls[i] = mesh_ask(f->s->m, i % 3, "send",
                               "{'agent': '%s', 'method': 'add', 'key': 'flood-%zu'}", f->s->id, i);
        mesh_at(f->s->m, (int64_t)mesh_random(f->s->m, 700), send_next, NULL, f);
    }
}

static bool all_sent(void *arg)
{
    const struct flood *f = arg;
    for (size_t i = 0; i < SENDS; i++) {
        if (!f->calls[i] || !f->calls[i]->done) {
            return false;
        }
    }
    return true;
}

static void expect_each_once(struct flood *f)
{
    struct scene *s = f->s;
    for (size_t i = 0; i < SENDS; i++) {
        char key[32];
        gw_err err = GW_OK;
        (void)snprintf(key, sizeof key, "flood-%zu", i);
        for (size_t round = 0; round < 10; round++) {
            err = mesh_add(s->m, (i + round + 1) % 3, &s->agent, key);
            if (err == GW_OK) {
                break;
            }
            mesh_run(s->m, 1000);
        }
        if (err != GW_OK) {
            mesh_fail(s->m, "message %zu is never acknowledged: %s", i, gw_err_name(err));
        }
        mesh_call_free(f->calls[i]);
    }
    s->adds += SENDS;
}

static void flood_while_moving(uint64_t seed, const struct fault *fault)
{
    struct scene s;
    struct flood f = {.s = &s};
    scene_open(&s, seed, 3);
    scene_arm(&s, fault);
    send_next(&f);
    mesh_run(s.m, 2);
    scene_dispatch(&s, 0, 1);
    (void)scene_wait(&s, 20000);
    scene_dispatch(&s, 2, 2);
    (void)scene_wait(&s, 20000);
    (void)mesh_run_until(s.m, all_sent, &f, 120000);
    mesh_heal(s.m);
    expect_each_once(&f);
    scene_verify(&s);
    scene_close(&s);
}

static void test_without_faults(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct scene s;
        struct flood f = {.s = &s};
        scene_open(&s, seed, 3);
        send_next(&f);
        mesh_run(s.m, (int64_t)mesh_random(s.m, 5));
        assert_int_equal(mesh_move(s.m, 0, &s.agent, 1), GW_OK);
        assert_int_equal(mesh_move(s.m, 1, &s.agent, 2), GW_OK);
        mesh_assert(s.m, mesh_run_until(s.m, all_sent, &f, 60000));
        for (size_t i = 0; i < SENDS; i++) {
            if (f.calls[i]->err != GW_OK) {
                mesh_fail(s.m, "message %zu failed although nothing did: %s", i,
                          gw_err_name(f.calls[i]->err));
            }
        }
        assert_int_equal(mesh_count(s.m, 0, &s.agent), 3 + SENDS);
        expect_each_once(&f);
        scene_verify(&s);
        scene_close(&s);
    }
}

static void test_with_cuts(void **state)
{
    (void)state;
    struct fault fault = NO_FAULT;
    fault.frame_fate = FATE_CUT;
    for (fault.frame_k = 0; fault.frame_k < 8; fault.frame_k++) {
        flood_while_moving(fault.frame_k, &fault);
    }
}

static void test_with_crashes(void **state)
{
    (void)state;
    for (size_t host = 0; host < 3; host++) {
        for (size_t k = 0; k < 24; k += 2) {
            struct fault fault = NO_FAULT;
            fault.commit_host = host;
            fault.commit_k = k;
            fault.commit_fate = k % 4 ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE;
            fault.restart_ms = 300;
            flood_while_moving(k, &fault);
        }
    }
}

/* A runner that dies: the agent goes on from its last commit, acknowledged adds stand. */
static void test_runner_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct scene s;
        struct flood f = {.s = &s};
        scene_open(&s, seed, 3);
        send_next(&f);
        for (int i = 0; i < 4; i++) {
            mesh_run(s.m, 1 + (int64_t)mesh_random(s.m, 4));
            mesh_crash_runner(s.m, 0);
        }
        mesh_assert(s.m, mesh_run_until(s.m, all_sent, &f, 120000));
        mesh_run(s.m, 2000);
        expect_each_once(&f);
        scene_verify(&s);
        scene_close(&s);
    }
}

/* A failing handler leaves the state as it was, on disk and in the runner. */
static void test_failed_handler_leaves_nothing(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 3, 3);
    assert_int_equal(mesh_op(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'spoil'}", s.id),
                     GW_EREFUSED);
    assert_int_equal(mesh_count(s.m, 0, &s.agent), 3);
    scene_verify(&s);
    scene_close(&s);
}

static void test_unknown_method_and_agent(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 3, 3);
    for (size_t via = 0; via < 3; via++) {
        assert_int_equal(mesh_op(s.m, via, NULL, "send", "{'agent': '%s', 'method': 'nix'}", s.id),
                         GW_EMETHOD_NOT_FOUND);
        assert_int_equal(mesh_op(s.m, via, NULL, "send",
                                 "{'agent': '01JD8Z5MESHMESHMESHMESHMES', 'method': 'get'}"),
                         GW_EAGENT_NOT_FOUND);
        assert_int_equal(mesh_op(s.m, via, NULL, "show", "{'agent': '../../x'}"),
                         GW_EAGENT_NOT_FOUND);
    }
    scene_verify(&s);
    scene_close(&s);
}

/* The state on disk is the one that was acknowledged: kill -9 right after each answer. */
static void test_acknowledged_is_durable(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 3, 3);
    for (int i = 0; i < 10; i++) {
        scene_add(&s);
        mesh_crash(s.m, 0);
        mesh_start_all(s.m);
        assert_int_equal(mesh_count(s.m, 1, &s.agent), s.adds);
    }
    scene_verify(&s);
    scene_close(&s);
}

/* --- tells: relay() at one agent tells another to add --- */
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

static gw_err relay(struct pair *p, size_t via, size_t number)
{
    return mesh_op(p->m, via, NULL, "send",
                   "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s', 'number': %zu}, "
                   "'text': true, 'key': 'relay-%zu'}",
                   p->from_id, p->to_id, number, number);
}

static void relay_surely(struct pair *p, size_t number)
{
    gw_err err = GW_OK;
    for (size_t i = 0; i < 20; i++) {
        err = relay(p, (number + i) % 3, number);
        if (err == GW_OK) {
            return;
        }
        mesh_run(p->m, 500);
    }
    mesh_fail(p->m, "relay %zu is never acknowledged: %s", number, gw_err_name(err));
}

/* All of them, once, in the order of their sending. */
static void expect_tells(struct pair *p, size_t n)
{
    int64_t count = mesh_count(p->m, 0, &p->to);
    if (count != (int64_t)n) {
        mesh_fail(p->m, "I4: %lld of %zu tells were applied", (long long)count, n);
    }
    const char *history = scene_history(p->m, 0, &p->to);
    const char *at = history;
    for (size_t i = 0; i < n; i++) {
        at = strchr(at, '#');
        size_t number = at ? strtoul(at + 1, NULL, 10) : SIZE_MAX;
        if (number != i) {
            mesh_fail(p->m, "I4: the order of tells is not kept: %s", history);
        }
        at++;
    }
}

static void test_tells_across_moves(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct pair p;
        pair_open(&p, seed);
        for (size_t i = 0; i < 30; i++) {
            relay_surely(&p, i);
            if (mesh_random(p.m, 4) == 0) {
                (void)mesh_move(p.m, 0, mesh_random(p.m, 2) ? &p.from : &p.to, mesh_random(p.m, 3));
            }
        }
        mesh_heal(p.m);
        mesh_run(p.m, 10000);
        mesh_expect_whole(p.m);
        expect_tells(&p, 30);
        mesh_free(p.m);
    }
}

static void test_tells_across_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct pair p;
        pair_open(&p, seed);
        for (size_t i = 0; i < 20; i++) {
            relay_surely(&p, i);
            switch (mesh_random(p.m, 6)) {
            case 0:
                (void)mesh_move(p.m, 0, mesh_random(p.m, 2) ? &p.from : &p.to, mesh_random(p.m, 3));
                break;
            case 1:
                mesh_run(p.m, (int64_t)mesh_random(p.m, 3));
                mesh_crash(p.m, mesh_random(p.m, 3));
                mesh_start_all(p.m);
                break;
            case 2: mesh_cut(p.m, 0, 1 + mesh_random(p.m, 2)); break;
            default: break;
            }
        }
        mesh_heal(p.m);
        mesh_run(p.m, 60000);
        mesh_expect_whole(p.m);
        expect_tells(&p, 20);
        mesh_free(p.m);
    }
}

/* H6: a message whose row is still on its way to the disk is not acknowledged, however often it
 * comes. */
struct slow {
    size_t host;
    bool done;
};
static commit_fate slow_once(void *arg, size_t host)
{
    struct slow *s = arg;
    if (s->done || host != s->host) {
        return COMMIT_PASS;
    }
    s->done = true;
    return COMMIT_SLOW;
}

static void test_tell_is_acknowledged_only_when_durable(void **state)
{
    (void)state;
    struct pair p;
    struct slow slow = {.host = 1};
    pair_open(&p, 5);
    mesh_on_commit(p.m, slow_once, &slow);
    assert_int_equal(relay(&p, 0, 0), GW_OK);
    mesh_run(p.m, 1000);
    assert_true(slow.done); /* it is being accepted */
    mesh_crash(p.m, 0);
    mesh_start(p.m, 0);
    mesh_run(p.m, 1500); /* sent again */
    mesh_crash(p.m, 1);  /* its acceptance never reached the disk */
    mesh_heal(p.m);
    mesh_run(p.m, 10000);
    expect_tells(&p, 1);
    mesh_free(p.m);
}

/* One-way messages of a client that came during a move, which is called off; while they have their
 * turn, one of them comes once more at each event. */
static void repeat_after(size_t events)
{
    enum { TOLD = 4 };
    struct pair p;
    struct mesh_call *calls[TOLD + 1];
    char id[GW_ID_TEXT];
    pair_open(&p, 91);
    mesh_set_delay(p.m, 0, 1, 200000); /* it stays on its way */
    struct mesh_call *move =
        mesh_ask(p.m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", gw_id_text(&p.from, id));
    mesh_run(p.m, 50);
    for (size_t i = 0; i <= TOLD; i++) {
        if (i == TOLD) {
            mesh_assert(p.m, !move->done);
            mesh_cut(p.m, 0, 1);
            while (!move->done || events-- > 0) {
                mesh_assert(p.m, mesh_step(p.m));
            }
        }
        calls[i] = mesh_ask(p.m, 0, "send",
                            "{'agent': '%s', 'method': 'add', 'args': {'by': 1}, 'tell': true, "
                            "'key': 'k%zu'}",
                            id, i % TOLD);
    }
    mesh_run(p.m, 30000);
    for (size_t i = 0; i <= TOLD; i++) {
        assert_int_equal(mesh_wait(p.m, calls[i], 1000), GW_OK);
        mesh_call_free(calls[i]);
    }
    assert_int_equal(mesh_count(p.m, 0, &p.from), TOLD);
    assert_int_not_equal(move->err, GW_OK);
    mesh_call_free(move);
    mesh_free(p.m);
}

static void test_repeats_of_what_waited_for_a_move(void **state)
{
    (void)state;
    for (size_t events = 0; events < 40; events++) {
        repeat_after(events);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_faults),
        cmocka_unit_test(test_with_cuts),
        cmocka_unit_test(test_with_crashes),
        cmocka_unit_test(test_runner_crashes),
        cmocka_unit_test(test_failed_handler_leaves_nothing),
        cmocka_unit_test(test_unknown_method_and_agent),
        cmocka_unit_test(test_acknowledged_is_durable),
        cmocka_unit_test(test_tells_across_moves),
        cmocka_unit_test(test_tells_across_crashes),
        cmocka_unit_test(test_tell_is_acknowledged_only_when_durable),
        cmocka_unit_test(test_repeats_of_what_waited_for_a_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
