/* The virtual mesh itself: its clock, its links, its store, and that a seed repeats itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "tests/mesh/scene.h"

/* --- the queue --- */
struct order {
    int seen[8];
    size_t n;
};
struct mark {
    struct order *order;
    int number;
};
static void note_mark(void *arg)
{
    struct mark *mark = arg;
    mark->order->seen[mark->order->n++] = mark->number;
}

static void test_events_come_by_time_then_by_number(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(1, 1);
    struct order order = {0};
    struct mark marks[] = {{&order, 0}, {&order, 1}, {&order, 2}, {&order, 3}, {&order, 4}};
    static const int64_t delays[] = {50, 10, 50, 10, 0};
    for (size_t i = 0; i < 5; i++) {
        mesh_at(m, delays[i], note_mark, NULL, &marks[i]);
    }
    mesh_run(m, 1);
    static const int want[] = {4, 1, 3, 0, 2};
    assert_int_equal(order.n, 5);
    assert_memory_equal(order.seen, want, sizeof want);
    assert_int_equal(mesh_now_us(m), 1000);
    assert_false(mesh_step(m));
    mesh_free(m);
}

static void test_what_is_left_is_dropped(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(1, 1);
    struct order order = {0};
    struct mark mark = {&order, 7};
    mesh_at(m, 1000000, note_mark, note_mark, &mark);
    mesh_run(m, 10);
    assert_int_equal(order.n, 0);
    mesh_free(m);
    assert_int_equal(order.n, 1);
}

static void test_many_events_stay_in_order(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(2, 1);
    struct order order = {0};
    struct mark mark = {&order, 1};
    for (int i = 0; i < 5000; i++) {
        mesh_at(m, (int64_t)mesh_random(m, 100000), note_mark, NULL, &mark);
    }
    int64_t last = 0;
    while (mesh_step(m)) {
        assert_true(mesh_now_us(m) >= last);
        last = mesh_now_us(m);
        order.n = 0;
    }
    mesh_free(m);
}

/* --- chance --- */
static void test_libsodium_is_seeded(void **state)
{
    (void)state;
    uint8_t a[40], b[40], c[40];
    struct mesh *m = mesh_new(5, 1);
    randombytes_buf(a, sizeof a);
    mesh_free(m);
    m = mesh_new(5, 1);
    randombytes_buf(b, sizeof b);
    mesh_free(m);
    m = mesh_new(6, 1);
    randombytes_buf(c, sizeof c);
    mesh_free(m);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
}

static uint64_t a_busy_life(uint64_t seed, uint64_t *ret_events)
{
    struct scene s;
    scene_open(&s, seed, 3);
    scene_dispatch(&s, 0, 1);
    mesh_run(s.m, 2);
    mesh_crash(s.m, 1);
    mesh_cut(s.m, 0, 2);
    mesh_run(s.m, 300);
    scene_verify(&s);
    uint64_t digest = mesh_digest(s.m);
    *ret_events = mesh_events(s.m);
    scene_close(&s);
    return digest;
}

static void test_a_seed_repeats_itself(void **state)
{
    (void)state;
    uint64_t events[3];
    uint64_t one = a_busy_life(21, &events[0]), two = a_busy_life(21, &events[1]),
             other = a_busy_life(22, &events[2]);
    assert_int_equal(events[0], events[1]);
    assert_true(one == two);
    assert_true(one != other);
}

/* --- links --- */
struct meter {
    size_t frames, lost;
    mesh_fate fate;
};
static mesh_fate meter(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct meter *meter = arg;
    (void)from, (void)to, (void)frame;
    meter->frames++;
    return meter->fate;
}

static void test_links_go_and_come(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(3, 3);
    mesh_start_all(m);
    assert_true(mesh_linked(m, 0, 1) && mesh_linked(m, 1, 0) && mesh_linked(m, 1, 2));
    mesh_cut(m, 0, 1);
    assert_false(mesh_linked(m, 0, 1));
    mesh_run(m, 10000);
    assert_true(mesh_linked(m, 0, 1));
    mesh_part(m, 0, 1, true);
    mesh_run(m, 10000);
    assert_false(mesh_linked(m, 0, 1));
    assert_true(mesh_linked(m, 0, 2));
    mesh_part(m, 0, 1, false);
    mesh_run(m, 2000);
    assert_true(mesh_linked(m, 0, 1));
    mesh_crash(m, 2);
    assert_false(mesh_alive(m, 2));
    assert_false(mesh_linked(m, 0, 2));
    mesh_start_all(m);
    assert_true(mesh_linked(m, 0, 2));
    mesh_free(m);
}

static void test_frames_take_their_time_and_can_be_lost(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(4, 2);
    struct meter all = {.fate = FATE_PASS};
    mesh_start_all(m);
    gw_id agent = mesh_create(m, 1, "tally");
    mesh_set_delay(m, 0, 1, 20000);
    mesh_run(m, 1000);
    mesh_on_frame(m, meter, &all);
    int64_t before = mesh_now_us(m);
    assert_int_equal(mesh_add(m, 0, &agent, "k"), GW_OK);
    assert_true(mesh_now_us(m) - before >= 40000);
    assert_true(all.frames >= 2);
    all.fate = FATE_LOSE;
    struct mesh_call *call = mesh_ask(m, 0, "status", "{}");
    assert_int_equal(mesh_wait(m, call, 1000), GW_OK); /* needs no link */
    mesh_call_free(call);
    char id[GW_ID_TEXT];
    call = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'get'}", gw_id_text(&agent, id));
    assert_int_equal(mesh_wait(m, call, 1000), GW_ETIMEOUT);
    mesh_call_free(call);
    mesh_free(m);
}

static void test_injected_rubbish_harms_nobody(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 8, 3);
    for (uint32_t kind = 0; kind < 60; kind++) {
        for (size_t fields = 0; fields < 4; fields++) {
            struct buf b = {0};
            size_t at = frame_begin(&b, (frame_kind)kind, kind + 1, fields);
            for (size_t i = 0; i < fields; i++) {
                mesh_random(s.m, 2) ? mp_uint(&b, mesh_random(s.m, 1000)) : mp_str(&b, "x");
            }
            frame_end(&b, at);
            if (kind != FRAME_CALL) { /* the door of the mesh trusts its own hosts */
                mesh_inject(s.m, 2, mesh_random(s.m, 2), &b);
            }
            buf_free(&b);
            mesh_run(s.m, 20);
        }
    }
    scene_verify(&s);
    scene_close(&s);
}

/* --- the store over a crash --- */
struct nth {
    size_t left;
    commit_fate fate;
};
static commit_fate at_nth(void *arg, size_t host)
{
    struct nth *nth = arg;
    (void)host;
    return nth->left-- == 0 ? nth->fate : COMMIT_PASS;
}

static void test_a_crash_keeps_what_was_applied(void **state)
{
    (void)state;
    for (int after = 0; after < 2; after++) {
        struct mesh *m = mesh_new(9, 1);
        mesh_start_all(m);
        gw_id agent = mesh_create(m, 0, "tally");
        struct nth nth = {.left = 0, .fate = after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE};
        mesh_run(m, 100);
        mesh_on_commit(m, at_nth, &nth);
        assert_int_equal(mesh_add(m, 0, &agent, "k"), GW_EUNREACHABLE);
        assert_false(mesh_alive(m, 0));
        mesh_on_commit(m, NULL, NULL);
        mesh_start_all(m);
        assert_int_equal(mesh_count(m, 0, &agent), after);
        mesh_free(m);
    }
}

static void test_a_runner_comes_back(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(10, 1);
    mesh_start_all(m);
    gw_id agent = mesh_create(m, 0, "tally");
    assert_int_equal(mesh_add(m, 0, &agent, "k"), GW_OK);
    mesh_crash_runner(m, 0);
    mesh_run(m, 1000);
    assert_int_equal(mesh_count(m, 0, &agent), 1);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come_by_time_then_by_number),
        cmocka_unit_test(test_what_is_left_is_dropped),
        cmocka_unit_test(test_many_events_stay_in_order),
        cmocka_unit_test(test_libsodium_is_seeded),
        cmocka_unit_test(test_links_go_and_come),
        cmocka_unit_test(test_frames_take_their_time_and_can_be_lost),
        cmocka_unit_test(test_a_crash_keeps_what_was_applied),
        cmocka_unit_test(test_a_runner_comes_back),
        cmocka_unit_test(test_injected_rubbish_harms_nobody),
        cmocka_unit_test(test_a_seed_repeats_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
