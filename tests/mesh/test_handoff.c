/* The handoff, cut at every frame, crashed at every commit, on each side. After each: never two
 * runnable copies (virtual_check.c), exactly one after healing, with the right state, still able to
 * go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/mesh/scene.h"

#define SEED 7

static void test_plain_move(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, SEED, 3);
    gw_value v = gw_nil();
    mesh_must(s.m, 0, &v, "dispatch", "{'agent': '%s', 'to': 'h1'}", s.id);
    assert_int_equal(gw_map_int(&v, "epoch", 0), 2);
    assert_string_equal(gw_map_str(&v, "host", ""), "h1");
    gw_value_free(&v);
    uint64_t epoch = 0;
    assert_int_equal(mesh_where(s.m, &s.agent, &epoch), 1);
    assert_int_equal(epoch, 2);
    mesh_run(s.m, 2000);
    assert_int_equal(mesh_copies(s.m, &s.agent), 1);
    assert_int_equal(node_moves_count(mesh_node(s.m, 0)), 0);
    assert_int_equal(node_moves_count(mesh_node(s.m, 1)), 0);
    assert_string_equal(scene_history(s.m, 0, &s.agent), "create leave arrive");
    for (size_t via = 0; via < 3; via++) {
        assert_int_equal(mesh_count(s.m, via, &s.agent), 3);
    }
    scene_verify(&s);
    scene_close(&s);
}

static void test_move_asked_elsewhere_and_by_itself(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, SEED, 3);
    /* asked at a host where it is not, to that host, to a third */
    assert_int_equal(mesh_move(s.m, 1, &s.agent, 1), GW_OK);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 1);
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 2), GW_OK);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 2);
    /* by its own verb */
    mesh_must(s.m, 0, NULL, "send", "{'agent': '%s', 'method': 'go', 'args': {'to': 'h0'}}", s.id);
    mesh_run(s.m, 1000);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 0);
    scene_verify(&s);
    scene_close(&s);
}

static void test_large_state_moves(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, SEED, 3);
    mesh_must(s.m, 0, NULL, "send", "{'agent': '%s', 'method': 'load', 'args': {'bytes': 700000}}",
              s.id);
    for (size_t i = 1; i <= 4; i++) {
        assert_int_equal(mesh_move(s.m, 2, &s.agent, i % 3), GW_OK);
        scene_add(&s);
    }
    scene_verify(&s);
    scene_close(&s);
}

/* One move h0 to h1 with a fault; what must hold while the fault lasts, then healing. */
static bool run_fault(const struct fault *fault, const struct fault *second, uint64_t seed)
{
    struct scene s;
    scene_open(&s, seed, 3);
    scene_arm(&s, fault);
    if (second) {
        scene_arm_second(&s, second);
    }
    scene_dispatch(&s, 0, 1);
    (void)scene_wait(&s, 30000);
    mesh_run(s.m, 3000);
    bool fired = second ? s.second.frame_fired || s.second.commit_fired
                        : s.fault.frame_fired || s.fault.commit_fired;
    bool answered = s.call->done && s.call->err == GW_OK;
    scene_verify(&s);
    uint64_t epoch = 0;
    (void)mesh_where(s.m, &s.agent, &epoch);
    if (answered && epoch < 3) { /* verify adds one move of its own */
        mesh_fail(s.m, "a dispatch that was answered well has left no trace");
    }
    scene_close(&s);
    return fired;
}

/* Try k = 0, 1, 2, … until nothing fires; at least `least` places must exist. */
static void each_frame(struct fault fault, size_t least)
{
    size_t k = 0;
    for (;; k++) {
        fault.frame_k = k;
        if (!run_fault(&fault, NULL, SEED + k)) {
            break;
        }
    }
    assert_true(k >= least);
}

static void each_commit(struct fault fault, size_t least)
{
    size_t k = 0;
    for (;; k++) {
        fault.commit_k = k;
        if (!run_fault(&fault, NULL, SEED + k)) {
            break;
        }
    }
    assert_true(k >= least);
}

static struct fault frame_fault(mesh_fate fate, int64_t part_ms, int64_t restart_ms)
{
    struct fault f = NO_FAULT;
    f.frame_fate = fate;
    f.part_ms = part_ms;
    f.restart_ms = restart_ms;
    return f;
}

static struct fault commit_fault(size_t host, commit_fate fate, int64_t restart_ms)
{
    struct fault f = NO_FAULT;
    f.commit_host = host;
    f.commit_fate = fate;
    f.restart_ms = restart_ms;
    return f;
}

static void test_cut_at_every_frame(void **state)
{
    (void)state;
    each_frame(frame_fault(FATE_CUT, 0, 0), 4);
    each_frame(frame_fault(FATE_CUT, 5000, 0), 4);
    each_frame(frame_fault(FATE_CUT, -1, 0), 4);
    each_frame(frame_fault(FATE_CUT_AFTER, 0, 0), 4);
}

static void test_lose_every_frame(void **state)
{
    (void)state;
    each_frame(frame_fault(FATE_LOSE, 0, 0), 4);
}

static void test_double_every_frame(void **state)
{
    (void)state;
    each_frame(frame_fault(FATE_TWICE, 0, 0), 4);
    each_frame(frame_fault(FATE_LATE, 0, 0), 4);
}

static void test_crash_at_every_frame(void **state)
{
    (void)state;
    static const int64_t restarts[] = {0, 300, 40000, -1};
    for (size_t i = 0; i < sizeof restarts / sizeof restarts[0]; i++) {
        each_frame(frame_fault(FATE_CRASH_FROM, 0, restarts[i]), 4);
        each_frame(frame_fault(FATE_CRASH_TO, 0, restarts[i]), 4);
        each_frame(frame_fault(FATE_CRASH_TO_AFTER, 0, restarts[i]), 4);
    }
}

static void test_crash_at_every_commit(void **state)
{
    (void)state;
    static const int64_t restarts[] = {0, 300, 40000, -1};
    for (size_t i = 0; i < sizeof restarts / sizeof restarts[0]; i++) {
        for (size_t host = 0; host < 2; host++) {
            each_commit(commit_fault(host, COMMIT_CRASH_BEFORE, restarts[i]), 2);
            each_commit(commit_fault(host, COMMIT_CRASH_AFTER, restarts[i]), 2);
        }
    }
}

/* The disk is full for one transaction, with certainty rolled back. */
static void test_fail_every_commit(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        each_commit(commit_fault(host, COMMIT_FAIL, 0), 2);
    }
}

/* The disk sleeps for 5 s at any commit: QUERYs and repeats meet what is not decided yet (H3, H4).
 */
static void test_slow_at_every_commit(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        each_commit(commit_fault(host, COMMIT_SLOW, 0), 2);
    }
}

/* The same, and the link is cut meanwhile. */
static void test_slow_commit_and_cuts(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        bool fired = true;
        for (size_t k = 0; fired; k++) {
            struct scene s;
            struct fault f = commit_fault(host, COMMIT_SLOW, 0);
            f.commit_k = k;
            scene_open(&s, SEED + k, 3);
            scene_arm(&s, &f);
            scene_dispatch(&s, 0, 1);
            for (int i = 0; i < 12; i++) {
                mesh_run(s.m, 500);
                if (i % 3 == 0) {
                    mesh_cut(s.m, 0, 1);
                }
            }
            (void)scene_wait(&s, 30000);
            fired = s.fault.commit_fired;
            scene_verify(&s);
            scene_close(&s);
        }
    }
}

/* A crash at commit i, then a second fault at any frame or commit of what follows. */
static void then_each(struct fault first)
{
    static const mesh_fate fates[] = {FATE_CUT, FATE_LOSE, FATE_CRASH_TO, FATE_CRASH_FROM};
    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++) {
        struct fault second = frame_fault(fates[i], 0, 200);
        for (second.frame_k = 0; run_fault(&first, &second, SEED + i); second.frame_k++) {
        }
    }
    for (size_t host = 0; host < 2; host++) {
        for (int after = 0; after < 2; after++) {
            struct fault second =
                commit_fault(host, after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE, 200);
            for (second.commit_k = 0; second.commit_k < 6; second.commit_k++) {
                if (!run_fault(&first, &second, SEED + second.commit_k)) {
                    break;
                }
            }
        }
    }
}

static void test_crash_then_second_fault(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        for (int after = 0; after < 2; after++) {
            struct fault first =
                commit_fault(host, after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE, 100);
            for (first.commit_k = 0; run_fault(&first, NULL, SEED); first.commit_k++) {
                then_each(first);
            }
        }
    }
}

static void test_cut_then_second_fault(void **state)
{
    (void)state;
    struct fault first = frame_fault(FATE_CUT, 0, 0);
    for (first.frame_k = 0; run_fault(&first, NULL, SEED); first.frame_k++) {
        then_each(first);
    }
}

/* --- when one side stays away --- */
static bool departed(struct mesh *m, size_t host, const gw_id *agent);

struct look {
    const gw_id *agent;
    const char *status; /* "" = not there */
};
static bool look_at(void *arg, const struct node_agent_view *view)
{
    struct look *l = arg;
    if (gw_id_equal(&view->agent, l->agent)) {
        l->status = view->status;
    }
    return true;
}
static bool departed(struct mesh *m, size_t host, const gw_id *agent)
{
    struct look l = {agent, ""};
    node_each_agent(mesh_node(m, host), look_at, &l);
    return l.status[0] == 'd';
}

/* However the destination vanishes, the source goes on alone unless it has committed. */
static void test_source_is_not_blocked(void **state)
{
    (void)state;
    bool fired = true;
    for (size_t k = 0; fired; k++) {
        for (int crash = 0; crash < 2; crash++) {
            struct scene s;
            scene_open(&s, SEED, 3);
            struct fault f = frame_fault(crash ? FATE_CRASH_TO : FATE_CUT, -1, -1);
            f.frame_k = k;
            scene_arm(&s, &f);
            scene_dispatch(&s, 0, 1);
            (void)scene_wait(&s, 60000);
            mesh_run(s.m, 60000);
            fired = s.fault.frame_fired;
            if (fired && mesh_alive(s.m, 0) && mesh_copies(s.m, &s.agent) > 0 &&
                !departed(s.m, 0, &s.agent) && mesh_where(s.m, &s.agent, NULL) == 0) {
                mesh_assert(s.m, s.call->done && s.call->err != GW_OK);
                mesh_assert(s.m, mesh_add(s.m, 0, &s.agent, "alone") == GW_OK);
                s.adds++;
            }
            scene_verify(&s);
            scene_close(&s);
        }
    }
}

/* --- back to the origin while it still waits for COMMITTED --- */
struct losing {
    bool on;
    size_t lost;
};
static mesh_fate lose_committed(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct losing *l = arg;
    if (l->on && frame->kind == FRAME_COMMITTED && from == 1 && to == 0) {
        l->lost++;
        return FATE_LOSE;
    }
    return FATE_PASS;
}

static void test_back_while_committed_is_lost(void **state)
{
    (void)state;
    struct scene s;
    struct losing losing = {.on = true};
    scene_open(&s, SEED, 3);
    mesh_on_frame(s.m, lose_committed, &losing);
    scene_dispatch(&s, 0, 1);
    mesh_run(s.m, 2000);
    assert_true(losing.lost > 0);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 1);
    struct mesh_call *back = mesh_ask(s.m, 1, "dispatch", "{'agent': '%s', 'to': 'h0'}", s.id);
    mesh_run(s.m, 5000);
    losing.on = false;
    mesh_run(s.m, 30000);
    mesh_call_free(back);
    scene_verify(&s);
    scene_close(&s);
}

/* And crashes of either host at any commit of the way back. */
static void test_back_and_crash(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        for (int after = 0; after < 2; after++) {
            bool fired = true;
            for (size_t k = 0; fired; k++) {
                struct scene s;
                struct fault f =
                    commit_fault(host, after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE, 200);
                f.commit_k = k;
                scene_open(&s, SEED + k, 3);
                struct losing losing = {.on = true};
                mesh_on_frame(s.m, lose_committed, &losing);
                scene_dispatch(&s, 0, 1);
                mesh_run(s.m, 1500);
                scene_arm(&s, &f);
                mesh_on_frame(s.m, lose_committed, &losing);
                struct mesh_call *back =
                    mesh_ask(s.m, 1, "dispatch", "{'agent': '%s', 'to': 'h0'}", s.id);
                mesh_run(s.m, 4000);
                losing.on = false;
                mesh_run(s.m, 4000);
                fired = s.fault.commit_fired && k < 12;
                mesh_call_free(back);
                scene_verify(&s);
                scene_close(&s);
            }
        }
    }
}

static void test_two_moves_at_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct scene s;
        scene_open(&s, seed, 3);
        struct mesh_call *one = mesh_ask(s.m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", s.id);
        mesh_run(s.m, (int64_t)mesh_random(s.m, 2));
        struct mesh_call *two =
            mesh_ask(s.m, seed % 2 ? 0 : 2, "dispatch", "{'agent': '%s', 'to': 'h2'}", s.id);
        gw_err first = mesh_wait(s.m, one, 60000), second = mesh_wait(s.m, two, 60000);
        /* asked through another host the second may come when the first is over */
        bool one_wins = first == GW_OK && second == GW_ECONFLICT;
        bool in_turn = first == GW_OK && second == GW_OK;
        if (!one_wins && !(in_turn && mesh_where(s.m, &s.agent, NULL) == 2)) {
            mesh_fail(s.m, "two moves at once: %s, %s", gw_err_name(first), gw_err_name(second));
        }
        mesh_call_free(one);
        mesh_call_free(two);
        scene_verify(&s);
        scene_close(&s);
    }
}

static void test_sleeping_agent_moves_asleep(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, SEED, 3);
    mesh_must(s.m, 0, NULL, "deactivate", "{'agent': '%s'}", s.id);
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 1), GW_OK);
    struct look l = {&s.agent, ""};
    node_each_agent(mesh_node(s.m, 1), look_at, &l);
    assert_string_equal(l.status, "inactive");
    mesh_crash(s.m, 1);
    mesh_start_all(s.m);
    assert_int_equal(mesh_count(s.m, 0, &s.agent), 3); /* a message wakes it */
    mesh_heal(s.m);
    mesh_expect_whole(s.m);
    scene_close(&s);
}

static void test_awake_agent_arrives_asleep(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, SEED, 3);
    mesh_must(s.m, 2, NULL, "dispatch", "{'agent': '%s', 'to': 'h1', 'inactive': true}", s.id);
    struct look l = {&s.agent, ""};
    node_each_agent(mesh_node(s.m, 1), look_at, &l);
    assert_string_equal(l.status, "inactive");
    assert_int_equal(mesh_count(s.m, 0, &s.agent), 3);
    mesh_heal(s.m);
    mesh_expect_whole(s.m);
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 2), GW_OK);
    assert_int_equal(mesh_count(s.m, 0, &s.agent), 3);
    scene_close(&s);
}

static void test_orderly_restart_keeps_all(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, SEED, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mesh_move(s.m, 0, &s.agent, (i + 1) % 3), GW_OK);
        for (size_t h = 0; h < 3; h++) {
            mesh_stop(s.m, h);
        }
        mesh_start_all(s.m);
        scene_add(&s);
    }
    scene_verify(&s);
    scene_close(&s);
}

static mesh_fate lose_commits(void *arg, size_t from, size_t to, const struct frame *frame)
{
    (void)arg, (void)from, (void)to;
    return frame->kind == FRAME_COMMIT || frame->kind == FRAME_QUERY_ANSWER ? FATE_LOSE : FATE_PASS;
}

/* A host whose links are up before it has read its store has no tickets and no fences yet: it does
 * not answer for them. */
static void test_starting_host_answers_nothing(void **state)
{
    (void)state;
    for (size_t slow = 0; slow < 2; slow++) {
        struct scene s;
        scene_open(&s, SEED + slow, 3);
        mesh_on_frame(s.m, lose_commits, NULL);
        scene_dispatch(&s, 0, 1);
        mesh_run(s.m, 1500); /* departed there, staged here */
        mesh_crash(s.m, slow);
        mesh_slow_reads(s.m, slow, 3000000);
        mesh_on_frame(s.m, NULL, NULL);
        mesh_start(s.m, slow);
        mesh_run(s.m, 30000);
        mesh_slow_reads(s.m, slow, 0);
        mesh_assert(s.m, mesh_where(s.m, &s.agent, NULL) == 1);
        scene_verify(&s);
        scene_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_move),
        cmocka_unit_test(test_move_asked_elsewhere_and_by_itself),
        cmocka_unit_test(test_large_state_moves),
        cmocka_unit_test(test_cut_at_every_frame),
        cmocka_unit_test(test_lose_every_frame),
        cmocka_unit_test(test_double_every_frame),
        cmocka_unit_test(test_crash_at_every_frame),
        cmocka_unit_test(test_crash_at_every_commit),
        cmocka_unit_test(test_fail_every_commit),
        cmocka_unit_test(test_slow_at_every_commit),
        cmocka_unit_test(test_slow_commit_and_cuts),
        cmocka_unit_test(test_crash_then_second_fault),
        cmocka_unit_test(test_cut_then_second_fault),
        cmocka_unit_test(test_source_is_not_blocked),
        cmocka_unit_test(test_back_while_committed_is_lost),
        cmocka_unit_test(test_back_and_crash),
        cmocka_unit_test(test_two_moves_at_once),
        cmocka_unit_test(test_sleeping_agent_moves_asleep),
        cmocka_unit_test(test_awake_agent_arrives_asleep),
        cmocka_unit_test(test_orderly_restart_keeps_all),
        cmocka_unit_test(test_starting_host_answers_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
