/* Dead letters: a one-way message that ends its runner each time is given up once and kept, can be
 * sent again once, wherever its agent lives by then, and the table does not grow without end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/internal.h"
#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

static bool runs(void *arg)
{
    struct mesh *m = arg;
    return mesh_node(m, 0) && mesh_node(m, 0)->runner_count > 0 &&
           mesh_node(m, 0)->runners[0].in_flight;
}

static bool lost(void *arg)
{
    return !runs(arg);
}

static void crash_next_run(struct mesh *m)
{
    mesh_assert(m, mesh_run_until(m, runs, m, 60000));
    mesh_crash_runner(m, 0);
    mesh_assert(m, mesh_run_until(m, lost, m, 1000));
}

/* A tell to an agent at h0 whose every run ends the runner. */
static void kill_tell(struct mesh *m, const char *id, int by)
{
    mesh_must(m, 0, NULL, "send",
              "{'agent': '%s', 'method': 'add', 'args': {'by': %d}, 'tell': true}", id, by);
    for (int i = 0; i < 3; i++) {
        crash_next_run(m);
    }
    mesh_run(m, 40000); /* the back-off of a runner that crashed often */
}

static size_t letters(struct mesh *m, gw_value *ret)
{
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "dead", "{'limit': 1000}");
    const gw_value *list = gw_map_get(&v, "letters");
    size_t n = list->list.n;
    if (ret) {
        *ret = v;
    } else {
        gw_value_free(&v);
    }
    assert_int_equal(mesh_node(m, 0)->dead_count, n); /* the index is what is on disk */
    return n;
}

static size_t events_of(struct mesh *m, const char *kind)
{
    size_t n = 0;
    struct mesh_call *call = mesh_ask(m, 0, "events", "{'limit': 100000}");
    assert_int_equal(mesh_wait(m, call, 10000), GW_OK);
    for (size_t i = 0; i < call->items.list.n; i++) {
        n += strcmp(gw_map_str(&call->items.list.items[i], "kind", ""), kind) == 0;
    }
    mesh_call_free(call);
    return n;
}

static struct mesh *open_mesh(uint64_t seed, gw_id *ret_agent, char ret_id[GW_ID_TEXT])
{
    struct mesh *m = mesh_new(seed, 2);
    mesh_start_all(m);
    *ret_agent = mesh_create(m, 0, "tally");
    gw_id_text(ret_agent, ret_id);
    return m;
}

static void test_life(void **state)
{
    (void)state;
    gw_id agent;
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    struct mesh *m = open_mesh(1, &agent, id);
    assert_int_equal(letters(m, NULL), 0);
    kill_tell(m, id, 7);
    assert_int_equal(letters(m, &v), 1);
    const gw_value *one = &gw_map_get(&v, "letters")->list.items[0];
    assert_int_equal(gw_map_int(one, "letter", 0), 1);
    assert_string_equal(gw_map_str(one, "agent", ""), id);
    assert_string_equal(gw_map_str(one, "method", ""), "add");
    assert_null(gw_map_get(one, "args"));
    gw_value_free(&v);
    assert_int_equal(events_of(m, "message.dead"), 1);
    assert_int_equal(mesh_count(m, 0, &agent), 0);
    mesh_stop(m, 0);
    mesh_start_all(m); /* it is on disk, and so is the message no more */
    assert_int_equal(letters(m, NULL), 1);
    mesh_must(m, 0, &v, "dead", "{'letter': 1}");
    one = &gw_map_get(&v, "letters")->list.items[0];
    assert_int_equal(gw_map_int(gw_map_get(one, "args"), "by", 0), 7);
    gw_value_free(&v);
    assert_int_equal(mesh_move(m, 0, &agent, 1), GW_OK);
    mesh_must(m, 0, NULL, "dead.replay", "{'letter': 1}");
    mesh_run(m, 1000);
    assert_int_equal(mesh_count(m, 0, &agent), 7);
    assert_int_equal(letters(m, NULL), 0);
    assert_int_equal(mesh_op(m, 0, NULL, "dead.replay", "{'letter': 1}"), GW_ENOT_FOUND);
    assert_int_equal(mesh_op(m, 0, NULL, "dead.drop", "{'letter': 1}"), GW_ENOT_FOUND);
    assert_int_equal(mesh_op(m, 0, NULL, "dead", "{'letter': 1}"), GW_ENOT_FOUND);
    assert_int_equal(mesh_op(m, 0, NULL, "dead.drop", "{'letter': -1}"), GW_ENOT_FOUND);
    mesh_free(m);
}

/* The first run after a replay may end the runner again: a new letter, the old one gone. */
static void test_dies_again_and_is_dropped(void **state)
{
    (void)state;
    gw_id agent;
    char id[GW_ID_TEXT];
    struct mesh *m = open_mesh(2, &agent, id);
    kill_tell(m, id, 1);
    mesh_must(m, 0, NULL, "dead.replay", "{'letter': 1}");
    for (int i = 0; i < 3; i++) {
        crash_next_run(m);
    }
    mesh_run(m, 40000);
    assert_int_equal(letters(m, NULL), 1);
    mesh_must(m, 0, NULL, "dead.drop", "{'letter': 2}");
    assert_int_equal(letters(m, NULL), 0);
    assert_int_equal(mesh_count(m, 0, &agent), 0);
    assert_int_equal(events_of(m, "dead.dropped"), 1);
    /* An agent that is gone: the letter stays. */
    kill_tell(m, id, 1);
    mesh_must(m, 0, NULL, "dispose", "{'agent': '%s'}", id);
    mesh_expect_disposed(m, &agent);
    assert_int_not_equal(mesh_op(m, 0, NULL, "dead.replay", "{'letter': 3}"), GW_OK);
    assert_int_equal(letters(m, NULL), 1);
    mesh_free(m);
}

struct at_commit {
    size_t k;
    commit_fate fate;
    bool armed;
};

static commit_fate hit(void *arg, size_t host)
{
    struct at_commit *c = arg;
    if (host != 0 || !c->armed || c->k-- > 0) {
        return COMMIT_PASS;
    }
    c->armed = false;
    return c->fate;
}

/* The host crashes at each commit of a replay, which is then asked again: applied once. */
static void test_replay_is_applied_once(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t f = 0; f < sizeof fates / sizeof fates[0]; f++) {
        for (size_t k = 0; k < 3; k++) {
            gw_id agent;
            char id[GW_ID_TEXT];
            struct at_commit c = {.k = k, .fate = fates[f], .armed = true};
            struct mesh *m = open_mesh(k + 1, &agent, id);
            kill_tell(m, id, 1);
            mesh_on_commit(m, hit, &c);
            struct mesh_call *call = mesh_ask(m, 0, "dead.replay", "{'letter': 1}");
            (void)mesh_wait(m, call, 5000);
            mesh_call_free(call);
            mesh_run(m, 100); /* the run of the message, too */
            mesh_heal(m);
            mesh_run(m, 5000);
            (void)mesh_op(m, 0, NULL, "dead.replay", "{'letter': 1}");
            mesh_run(m, 5000);
            mesh_assert(m, !c.armed);
            assert_int_equal(mesh_count(m, 0, &agent), 1);
            assert_int_equal(letters(m, NULL), 0);
            mesh_free(m);
        }
    }
}

/* Giving up is rolled back: the message is run again, and the index forgets the letter. */
static void test_letter_is_rolled_back(void **state)
{
    (void)state;
    gw_id agent;
    char id[GW_ID_TEXT];
    struct at_commit c = {
        .k = 1, .fate = COMMIT_FAIL, .armed = true}; /* 0: the event about the runner */
    struct mesh *m = open_mesh(4, &agent, id);
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'add', 'tell': true}", id);
    crash_next_run(m);
    crash_next_run(m);
    mesh_assert(m, mesh_run_until(m, runs, m, 60000));
    mesh_on_commit(m, hit, &c);
    mesh_crash_runner(m, 0);
    mesh_run(m, 40000);
    mesh_assert(m, !c.armed);
    assert_int_equal(letters(m, NULL), 0);
    assert_int_equal(mesh_count(m, 0, &agent), 1);
    mesh_free(m);
}

static void test_oldest_gives_way(void **state)
{
    (void)state;
    gw_id agent;
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    struct mesh *m = open_mesh(5, &agent, id);
    const struct gw_env *env = node_env(mesh_node(m, 0));
    struct store_batch *batch = store_batch_new();
    for (uint64_t i = 1; i <= LIMIT_DEAD_KEPT; i++) {
        uint8_t raw[8];
        store_u64(raw, i);
        store_batch_put(batch, TABLE_DEAD, (struct span){raw, 8},
                        (struct span){raw, 8}); /* damaged, too */
    }
    env->commit(env->ctx, batch, NULL, NULL);
    mesh_run(m, 1000);
    mesh_stop(m, 0);
    mesh_start_all(m);
    mesh_run(m, 1000);
    assert_int_equal(letters(m, NULL), LIMIT_DEAD_KEPT);
    assert_int_equal(events_of(m, "dead.dropped"), 0);
    kill_tell(m, id, 1);
    assert_int_equal(letters(m, &v), LIMIT_DEAD_KEPT);
    const gw_value *list = gw_map_get(&v, "letters");
    assert_int_equal(gw_map_int(&list->list.items[0], "letter", 0), 2);
    assert_int_equal(gw_map_int(&list->list.items[LIMIT_DEAD_KEPT - 1], "letter", 0),
                     LIMIT_DEAD_KEPT + 1);
    gw_value_free(&v);
    assert_int_equal(events_of(m, "dead.dropped"), 1);
    /* Pages, and a letter that does not decode: it can be dropped, not replayed. */
    mesh_must(m, 0, &v, "dead", "{'limit': 10, 'after': 5}");
    assert_int_equal(gw_map_get(&v, "letters")->list.n, 10);
    assert_int_equal(gw_map_int(&v, "next", 0), 15);
    gw_value_free(&v);
    mesh_must(m, 0, &v, "dead", "{'limit': 1, 'after': %d}", LIMIT_DEAD_KEPT);
    assert_int_equal(gw_map_get(&v, "next")->kind, GW_NIL);
    gw_value_free(&v);
    assert_int_equal(mesh_op(m, 0, NULL, "dead.replay", "{'letter': 2}"), GW_EPROTO);
    mesh_must(m, 0, NULL, "dead.drop", "{'letter': 2}");
    assert_int_equal(letters(m, NULL), LIMIT_DEAD_KEPT - 1);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_dies_again_and_is_dropped),
        cmocka_unit_test(test_replay_is_applied_once),
        cmocka_unit_test(test_letter_is_rolled_back),
        cmocka_unit_test(test_oldest_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
