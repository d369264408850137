/* What hosts remember of agents that have ended: not for ever, and not a day less than is safe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "host/core/internal.h"
#include "tests/mesh/actor.h"

#define DAY_MS (24LL * 3600 * 1000)

static bool knows(struct mesh *m, size_t host, const gw_id *id)
{
    return location_find(mesh_node(m, host), id) != NULL;
}

/* Ended at h1, at home at h0: both know it for a month, across starts; then nobody, on disk
 * neither. */
static void test_forgotten_in_time(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(1, 2);
    char text[GW_ID_TEXT];
    gw_id id = mesh_create(m, 0, "actor"), other = mesh_create(m, 0, "actor");
    mesh_expect_disposed(m, &id);
    gw_id_text(&id, text);
    assert_int_equal(mesh_move(m, 0, &id, 1), GW_OK);
    assert_int_equal(mesh_move(m, 0, &other, 1), GW_OK);
    mesh_must(m, 1, NULL, "dispose", "{'agent': '%s'}", text);
    mesh_run(m, 5000);
    assert_int_equal(mesh_op(m, 0, NULL, "show", "{'agent': '%s'}", text), GW_EDISPOSED);
    for (size_t h = 0; h < 2; h++) {
        mesh_set_clock(m, h, 29 * DAY_MS);
    }
    mesh_run(m, 5000);
    for (size_t h = 0; h < 2; h++) {
        mesh_crash(m, h);
    }
    mesh_start_all(m);
    mesh_run(m, 5000);
    assert_true(knows(m, 0, &id) && knows(m, 1, &id));
    assert_int_equal(actor_rows(m, 0, TABLE_LOCATIONS), 2);
    for (size_t h = 0; h < 2; h++) {
        mesh_set_clock(m, h, 2 * DAY_MS);
    }
    mesh_run(m, LIMIT_ENDED_CALM_MS - 10000);
    assert_true(knows(m, 0, &id) && knows(m, 1, &id)); /* the clock may be wrong */
    mesh_run(m, 15000);
    assert_false(knows(m, 0, &id) || knows(m, 1, &id));
    assert_int_equal(actor_rows(m, 0, TABLE_LOCATIONS), 1); /* the living are not forgotten */
    assert_int_equal(actor_rows(m, 1, TABLE_LOCATIONS), 1);
    assert_int_equal(mesh_op(m, 0, NULL, "show", "{'agent': '%s'}", text), GW_EAGENT_NOT_FOUND);
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* A tell to one that is forgotten ends as one to an agent that nobody knows. */
static void test_told_late(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(2, 2);
    char text[GW_ID_TEXT];
    gw_id id = mesh_create(m, 1, "actor"), sender = mesh_create(m, 0, "actor");
    mesh_expect_disposed(m, &id);
    assert_int_equal(actor_relay(m, 0, &sender, &id, 1, "a"), GW_OK);
    mesh_run(m, 3000);
    mesh_must(m, 1, NULL, "dispose", "{'agent': '%s'}", gw_id_text(&id, text));
    mesh_run(m, 3000);
    mesh_set_clock(m, 1, 31 * DAY_MS);
    mesh_run(m, LIMIT_ENDED_CALM_MS + 5000);
    assert_false(knows(m, 1, &id));
    assert_int_equal(actor_relay(m, 0, &sender, &id, 2, "b"), GW_OK);
    mesh_run(m, 60000);
    assert_int_equal(actor_events(m, 0, "message.failed"), 1);
    assert_int_equal(actor_rows(m, 0, TABLE_OUTBOX), 0);
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* The source has not heard that its move has ended when the destination, where the agent has ended
 * meanwhile, gets another date: the move still ends. */
static void test_move_in_doubt(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(4, 2);
    char text[GW_ID_TEXT];
    gw_id id = mesh_create(m, 0, "actor");
    mesh_expect_disposed(m, &id);
    struct mesh_call *move =
        mesh_ask(m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", gw_id_text(&id, text));
    for (int i = 0; i < 1000 && mesh_copies(m, &id) < 2; i++) {
        mesh_run(m, 1);
    }
    mesh_run(m, 1);
    mesh_mute(m, 1, 0, 20000); /* COMMITTED is not heard */
    mesh_run(m, 100);
    mesh_must(m, 1, NULL, "dispose", "{'agent': '%s'}", text);
    mesh_set_clock(m, 1, 400 * DAY_MS);
    mesh_run(m, 60000);
    assert_int_equal(node_moves_count(mesh_node(m, 0)), 0);
    mesh_call_free(move);
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* Very many: the work of a second is bounded, those that are young wait their time. */
static void test_many(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(3, 1);
    struct node *n = mesh_node(m, 0);
    for (uint64_t i = 0; i < 5000; i++) {
        gw_id id = {{0}};
        store_u64(id.b, i + 1);
        if (i == 2500) {
            mesh_set_clock(m, 0, 20 * DAY_MS);
        }
        location_know(n, &id, 3, n->self, true, true);
    }
    mesh_set_clock(m, 0, 15 * DAY_MS);
    mesh_run(m, LIMIT_ENDED_CALM_MS + 8000);
    assert_int_equal(HASH_COUNT(n->locations), 2500);
    mesh_set_clock(m, 0, 15 * DAY_MS);
    mesh_run(m, LIMIT_ENDED_CALM_MS + 8000);
    assert_int_equal(HASH_COUNT(n->locations), 0);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgotten_in_time),
        cmocka_unit_test(test_told_late),
        cmocka_unit_test(test_move_in_doubt),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
