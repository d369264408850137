/* Create and clone: once per request key, whatever crashes; what a destination refuses leaves no
 * trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/scene.h"

/* --- how many agents there are in all --- */
struct count {
    size_t n;
};
static bool count_one(void *arg, const struct node_agent_view *view)
{
    (void)view;
    ((struct count *)arg)->n++;
    return true;
}
static size_t agents_in_all(struct mesh *m, size_t hosts)
{
    struct count c = {0};
    for (size_t i = 0; i < hosts; i++) {
        node_each_agent(mesh_node(m, i), count_one, &c);
    }
    return c.n;
}

static gw_id agent_of(struct mesh *m, const gw_value *v)
{
    gw_id id = {0};
    if (gw_id_parse(gw_map_str(v, "agent", ""), &id) != GW_OK) {
        mesh_fail(m, "no agent in the answer");
    }
    return id;
}

static void test_clone_here_and_there(void **state)
{
    (void)state;
    for (size_t to = 0; to < 3; to++) {
        struct scene s;
        gw_value v = gw_nil();
        scene_open(&s, 5 + to, 3);
        mesh_must(s.m, 2, &v, "clone", "{'agent': '%s', 'to': 'h%zu'}", s.id, to);
        gw_id clone = agent_of(s.m, &v);
        assert_string_equal(gw_map_str(&v, "of", ""), s.id);
        assert_int_equal(gw_map_int(&v, "epoch", 0), 1);
        gw_value_free(&v);
        mesh_expect(s.m, &clone);
        mesh_run(s.m, 1000);
        assert_int_equal(mesh_where(s.m, &clone, NULL), to);
        assert_int_equal(mesh_where(s.m, &s.agent, NULL), 0);
        assert_int_equal(mesh_count(s.m, 1, &clone), 3);
        assert_string_equal(scene_history(s.m, 1, &clone), "create clone");
        /* the two are strangers from now on */
        assert_int_equal(mesh_add(s.m, 0, &clone, "own"), GW_OK);
        assert_int_equal(mesh_add(s.m, 0, &clone, "add-0"), GW_OK); /* keys are not copied */
        assert_int_equal(mesh_count(s.m, 1, &clone), 5);
        assert_int_equal(mesh_move(s.m, 1, &clone, (to + 1) % 3), GW_OK);
        scene_verify(&s);
        scene_close(&s);
    }
}

/* A clone under a key, with a fault; asked again at the same host until it is answered: one clone.
 */
static bool clone_with_fault(const struct fault *fault, size_t to)
{
    struct scene s;
    scene_open(&s, 11, 3);
    scene_arm(&s, fault);
    gw_err err = GW_OK;
    gw_value v = gw_nil();
    for (int i = 0; i < 20; i++) {
        err = mesh_op(s.m, 0, &v, "clone", "{'agent': '%s', 'to': 'h%zu', 'key': 'clone-1'}", s.id,
                      to);
        if (err == GW_OK) {
            break;
        }
        mesh_run(s.m, 1000);
    }
    if (err != GW_OK) {
        mesh_fail(s.m, "the clone is never answered: %s", gw_err_name(err));
    }
    gw_id clone = agent_of(s.m, &v);
    gw_value_free(&v);
    mesh_expect(s.m, &clone);
    bool fired = s.fault.frame_fired || s.fault.commit_fired;
    mesh_heal(s.m);
    mesh_expect_whole(s.m);
    size_t all = agents_in_all(s.m, 3);
    if (all != 2) {
        mesh_fail(s.m, "%zu agents instead of the agent and one clone", all);
    }
    assert_int_equal(mesh_where(s.m, &clone, NULL), to);
    assert_int_equal(mesh_count(s.m, to, &clone), 3);
    scene_verify(&s);
    scene_close(&s);
    return fired;
}

static void test_clone_with_faults(void **state)
{
    (void)state;
    for (size_t to = 0; to < 2; to++) {
        for (size_t host = 0; host <= to; host++) {
            for (int after = 0; after < 2; after++) {
                struct fault f = NO_FAULT;
                f.commit_host = host;
                f.commit_fate = after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE;
                f.restart_ms = 300;
                for (f.commit_k = 0; clone_with_fault(&f, to); f.commit_k++) {
                }
            }
        }
    }
    static const mesh_fate fates[] = {FATE_CUT, FATE_LOSE, FATE_TWICE, FATE_LATE};
    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++) {
        struct fault f = NO_FAULT;
        f.frame_fate = fates[i];
        for (f.frame_k = 0; clone_with_fault(&f, 1); f.frame_k++) {
        }
    }
}

/* What an agent asked about itself is done once, although the host crashes before, during or after
 * it. */
static bool wish_with_fault(const struct fault *fault, const char *to)
{
    struct scene s;
    scene_open(&s, 17, 3);
    scene_arm(&s, fault);
    gw_err err = GW_OK;
    for (int i = 0; i < 20; i++) {
        err = mesh_op(s.m, 0, NULL, "send",
                      "{'agent': '%s', 'method': 'twin', 'args': {'to': '%s'}, 'key': 'twin-1'}",
                      s.id, to);
        if (err == GW_OK) {
            break;
        }
        mesh_run(s.m, 1000);
    }
    if (err != GW_OK) {
        mesh_fail(s.m, "the wish is never answered: %s", gw_err_name(err));
    }
    s.adds++;
    mesh_run(s.m, 5000);
    bool fired = s.fault.frame_fired || s.fault.commit_fired;
    mesh_heal(s.m);
    mesh_expect_whole(s.m);
    size_t all = agents_in_all(s.m, 3);
    /* a full disk, or a destination that is lost just then: an event tells, it is not tried for
     * ever */
    bool may_fail = to[0] != 0 || fault->commit_fate == COMMIT_FAIL;
    if (all > 2 || (all < 2 && !may_fail)) {
        mesh_fail(s.m, "%zu agents instead of the agent and its clone", all);
    }
    scene_verify(&s);
    scene_close(&s);
    return fired;
}

/* The wish to go somewhere outlives a crash of its host between the handler and the move. */
static void test_wish_to_go_outlives_a_crash(void **state)
{
    (void)state;
    for (size_t k = 1; k < 3; k++) {
        struct scene s;
        scene_open(&s, 18 + k, 3);
        struct fault f = NO_FAULT;
        f.commit_host = 0;
        f.commit_k = k;
        f.commit_fate = COMMIT_CRASH_BEFORE;
        f.restart_ms = 500;
        scene_arm(&s, &f);
        mesh_must(s.m, 0, NULL, "send",
                  "{'agent': '%s', 'method': 'go', 'args': {'to': 'h1'}, 'key': 'go'}", s.id);
        mesh_run(s.m, 20000);
        mesh_assert(s.m, s.fault.commit_fired || k > 1);
        mesh_assert(s.m, mesh_where(s.m, &s.agent, NULL) == 1);
        scene_verify(&s);
        scene_close(&s);
    }
}

static void test_wishes_with_faults(void **state)
{
    (void)state;
    for (size_t there = 0; there < 2; there++) {
        for (size_t host = 0; host <= there; host++) {
            for (int fate = COMMIT_CRASH_BEFORE; fate <= COMMIT_FAIL; fate++) {
                struct fault f = NO_FAULT;
                f.commit_host = host;
                f.commit_fate = (commit_fate)fate;
                f.restart_ms = 300;
                for (f.commit_k = 0; wish_with_fault(&f, there ? "h1" : ""); f.commit_k++) {
                }
            }
        }
    }
}

/* --- create under a key --- */
static bool create_with_fault(const struct fault *fault, const char *at)
{
    struct scene s;
    scene_open(&s, 12, 3);
    scene_arm(&s, fault);
    gw_err err = GW_OK;
    gw_value v = gw_nil();
    for (int i = 0; i < 20; i++) {
        err = mesh_op(s.m, 0, &v, "create", "{'type': 'tally', 'at': '%s', 'key': 'new-1'}", at);
        if (err == GW_OK) {
            break;
        }
        mesh_run(s.m, 1000);
    }
    if (err != GW_OK) {
        mesh_fail(s.m, "create is never answered: %s", gw_err_name(err));
    }
    gw_id made = agent_of(s.m, &v);
    gw_value_free(&v);
    mesh_must(s.m, 0, &v, "create", "{'type': 'tally', 'at': '%s', 'key': 'new-1'}", at);
    gw_id again = agent_of(s.m, &v);
    gw_value_free(&v);
    assert_true(gw_id_equal(&made, &again));
    mesh_expect(s.m, &made);
    bool fired = s.fault.frame_fired || s.fault.commit_fired;
    mesh_heal(s.m);
    mesh_expect_whole(s.m);
    size_t all = agents_in_all(s.m, 3);
    if (all != 2) {
        mesh_fail(s.m, "%zu agents instead of 2", all);
    }
    scene_close(&s);
    return fired;
}

static void test_create_with_faults(void **state)
{
    (void)state;
    for (size_t to = 0; to < 2; to++) {
        for (size_t host = 0; host <= to; host++) {
            for (int after = 0; after < 2; after++) {
                struct fault f = NO_FAULT;
                f.commit_host = host;
                f.commit_fate = after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE;
                f.restart_ms = 300;
                for (f.commit_k = 0; create_with_fault(&f, to ? "h1" : "h0"); f.commit_k++) {
                }
            }
        }
    }
}

static commit_fate slow_once(void *arg, size_t host)
{
    bool *done = arg;
    (void)host;
    if (*done) {
        return COMMIT_PASS;
    }
    *done = true;
    return COMMIT_SLOW;
}

/* A repeat that comes while the first is being written is not answered before that is on the disk.
 */
static void test_repeats_wait_for_the_disk(void **state)
{
    (void)state;
    for (int clone = 0; clone < 2; clone++) {
        struct scene s;
        bool slow = false;
        struct mesh_call *calls[2];
        scene_open(&s, 19, 3);
        mesh_on_commit(s.m, slow_once, &slow);
        for (size_t i = 0; i < 2; i++) {
            calls[i] = clone ? mesh_ask(s.m, 0, "clone", "{'agent': '%s', 'key': 'k'}", s.id)
                             : mesh_ask(s.m, 0, "create", "{'type': 'tally', 'key': 'k'}");
            mesh_run(s.m, 1000);
            mesh_assert(s.m, slow && !calls[i]->done);
        }
        gw_id ids[2];
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(mesh_wait(s.m, calls[i], 20000), GW_OK);
            ids[i] = agent_of(s.m, &calls[i]->value);
            mesh_call_free(calls[i]);
        }
        assert_true(gw_id_equal(&ids[0], &ids[1]));
        mesh_expect(s.m, &ids[0]);
        scene_verify(&s);
        assert_int_equal(agents_in_all(s.m, 3), 2);
        scene_close(&s);
    }
}

static void test_create_refusals(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 12, 3);
    assert_int_equal(mesh_op(s.m, 0, NULL, "create", "{'type': 'nix'}"), GW_ETYPE_NOT_FOUND);
    assert_int_equal(mesh_op(s.m, 0, NULL, "create", "{'type': 'tally', 'at': 'h9'}"),
                     GW_EHOST_NOT_FOUND);
    assert_int_equal(mesh_op(s.m, 0, NULL, "create", "{'type': 'tally', 'state': {'nix': 1}}"),
                     GW_EARG);
    mesh_must(s.m, 0, NULL, "create", "{'type': 'tally', 'alias': 'uno'}");
    assert_int_equal(mesh_op(s.m, 0, NULL, "create", "{'type': 'tally', 'alias': 'uno'}"),
                     GW_EEXISTS);
    assert_int_equal(agents_in_all(s.m, 3), 2);
    scene_verify(&s);
    scene_close(&s);
}

/* --- destinations that refuse --- */
static void test_hook_refuses(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 13, 3);
    gw_id a = mesh_create(s.m, 0, "homebody");
    assert_int_equal(mesh_add(s.m, 0, &a, "one"), GW_OK);
    assert_int_equal(mesh_move(s.m, 0, &a, 1), GW_EREFUSED);
    assert_int_equal(mesh_where(s.m, &a, NULL), 0);
    assert_int_equal(mesh_count(s.m, 1, &a), 1);
    gw_id g = mesh_create(s.m, 0, "grumpy"); /* failing on arrival is an event, it stays there */
    assert_int_equal(mesh_add(s.m, 0, &g, "one"), GW_OK);
    assert_int_equal(mesh_move(s.m, 0, &g, 1), GW_OK);
    mesh_run(s.m, 1000);
    assert_int_equal(mesh_where(s.m, &g, NULL), 1);
    assert_int_equal(mesh_count(s.m, 0, &g), 1);
    scene_verify(&s);
    scene_close(&s);
}

static void test_destination_lacks_or_cannot_decode(void **state)
{
    (void)state;
    static const struct gw_type *const lacking[] = {&homebody_type};
    static const struct gw_type *const number[] = {&tally_type, &morph_number_type};
    struct scene s = {.fault = NO_FAULT, .second = NO_FAULT};
    s.m = mesh_new(14, 3);
    mesh_set_types(s.m, 1, lacking, 1);
    mesh_set_types(s.m, 2, number, 2);
    mesh_start_all(s.m);
    gw_id a = mesh_create(s.m, 0, "tally");
    assert_int_equal(mesh_move(s.m, 0, &a, 1), GW_EREFUSED);
    assert_int_equal(mesh_where(s.m, &a, NULL), 0);
    assert_string_equal(scene_history(s.m, 0, &a), "create");
    gw_value v = gw_nil();
    mesh_must(s.m, 0, &v, "create", "{'type': 'morph', 'state': {'v': 'words'}}");
    gw_id morph = agent_of(s.m, &v);
    gw_value_free(&v);
    mesh_expect(s.m, &morph);
    gw_err err = mesh_move(s.m, 0, &morph, 2);
    if (err != GW_EDECODE && err != GW_EREFUSED) {
        mesh_fail(s.m, "a state that does not decode is answered by %s", gw_err_name(err));
    }
    mesh_run(s.m, 5000);
    uint64_t epoch = 0;
    assert_int_equal(mesh_where(s.m, &morph, &epoch), 0);
    assert_int_equal(epoch, 1);
    char id[GW_ID_TEXT];
    err = mesh_op(s.m, 0, NULL, "clone", "{'agent': '%s', 'to': 'h2'}", gw_id_text(&morph, id));
    assert_int_not_equal(err, GW_OK);
    mesh_heal(s.m);
    mesh_expect_whole(s.m);
    assert_int_equal(agents_in_all(s.m, 3), 2);
    mesh_free(s.m);
}

static void test_dispatch_refusals(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 15, 3);
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 9), GW_EHOST_NOT_FOUND);
    mesh_crash(s.m, 1);
    mesh_run(s.m, 10000);
    gw_err err = mesh_move(s.m, 0, &s.agent, 1);
    assert_true(err == GW_EUNREACHABLE || err == GW_ETIMEOUT);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 0);
    scene_verify(&s);
    scene_close(&s);
}

static void test_dispose(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 16, 3);
    gw_id a = mesh_create(s.m, 0, "tally");
    char id[GW_ID_TEXT];
    assert_int_equal(mesh_move(s.m, 0, &a, 1), GW_OK);
    mesh_expect_disposed(s.m, &a);
    mesh_must(s.m, 2, NULL, "dispose", "{'agent': '%s'}", gw_id_text(&a, id));
    mesh_run(s.m, 1000);
    assert_int_equal(mesh_copies(s.m, &a), 0);
    for (size_t via = 0; via < 3; via++) {
        gw_err err = mesh_op(s.m, via, NULL, "send", "{'agent': '%s', 'method': 'get'}", id);
        assert_true(err == GW_EDISPOSED || err == GW_EAGENT_NOT_FOUND);
    }
    for (size_t h = 0; h < 3; h++) {
        mesh_crash(s.m, h);
    }
    mesh_start_all(s.m);
    assert_int_equal(mesh_copies(s.m, &a), 0);
    scene_verify(&s);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clone_here_and_there),
        cmocka_unit_test(test_clone_with_faults),
        cmocka_unit_test(test_wish_to_go_outlives_a_crash),
        cmocka_unit_test(test_wishes_with_faults),
        cmocka_unit_test(test_create_with_faults),
        cmocka_unit_test(test_repeats_wait_for_the_disk),
        cmocka_unit_test(test_create_refusals),
        cmocka_unit_test(test_hook_refuses),
        cmocka_unit_test(test_destination_lacks_or_cannot_decode),
        cmocka_unit_test(test_dispatch_refusals),
        cmocka_unit_test(test_dispose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
