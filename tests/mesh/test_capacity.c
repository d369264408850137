/* How many agents a host takes: creates, clones, clones from elsewhere and moves meet the limit,
 * who is refused is told why and stays as it was, and the host goes on. Then what is long: chains
 * of hosts that an agent has left, queues that travel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include "tests/mesh/actor.h"
#include "tests/mesh/scene.h"

/* --- breeder: each one clones itself twice, and so do its clones --- */
struct breeder {
    int64_t count;
};
static const struct gw_field breeder_fields[] = {GW_FIELD(struct breeder, count)};
static gw_err breed(struct gw_call *call)
{
    GW_TRY(gw_clone(call, NULL));
    return gw_clone(call, NULL);
}
static gw_err get(struct gw_call *call)
{
    const struct breeder *b = gw_state(call);
    return gw_reply_int(call, "count", b->count);
}
static const struct gw_method breeder_methods[] = {
    {"breed()", breed, 0},
    {"get() -> (count: int)", get, GW_READ},
};
static const struct gw_type breeder_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "breeder",
    .version = 1,
    .state_size = sizeof(struct breeder),
    GW_FIELDS(breeder_fields),
    GW_METHODS(breeder_methods),
    .on_clone = breed,
};
static const struct gw_type *const types[] = {&breeder_type, &tally_type};

static struct mesh *full_mesh(uint64_t seed, size_t hosts, size_t full, size_t most)
{
    struct mesh *m = mesh_new(seed, hosts);
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_types(m, i, types, 2);
    }
    mesh_set_limits(m, full, (struct node_limits){.agents = most});
    mesh_start_all(m);
    return m;
}

static int64_t living(struct mesh *m, size_t host)
{
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "status", "{}");
    int64_t n = gw_map_int(gw_map_get(&v, "agents"), "active", -1);
    gw_value_free(&v);
    return n;
}

static void test_a_storm_of_clones_ends_at_the_limit(void **state)
{
    (void)state;
    struct mesh *m = full_mesh(1, 2, 0, 60);
    gw_id a = mesh_create(m, 0, "breeder");
    char id[GW_ID_TEXT];
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'breed'}", gw_id_text(&a, id));
    mesh_run(m, 20000);
    assert_int_equal(living(m, 0), 60);
    struct mesh_call *c = mesh_ask(m, 0, "events", "{'limit': 100000}");
    assert_int_equal(mesh_wait(m, c, 10000), GW_OK);
    size_t told = 0;
    for (size_t i = 0; i < c->items.list.n; i++) {
        told += strstr(gw_map_str(&c->items.list.items[i], "text", ""), "is full") != NULL;
    }
    mesh_call_free(c);
    assert_true(told > 0);
    gw_id other = mesh_create(m, 1, "tally");
    assert_int_equal(mesh_count(m, 0, &a), 0); /* it answers, and others are not hurt */
    assert_int_equal(mesh_add(m, 0, &other, "one"), GW_OK);
    mesh_free(m);
}

static void test_a_full_host_refuses(void **state)
{
    (void)state;
    struct mesh *m = full_mesh(2, 3, 1, 3);
    gw_id there[3], here = mesh_create(m, 0, "tally");
    char id[GW_ID_TEXT];
    for (size_t i = 0; i < 3; i++) {
        there[i] = mesh_create(m, 1, "tally");
    }
    gw_id_text(&here, id);
    assert_int_equal(mesh_op(m, 0, NULL, "create", "{'type': 'tally', 'at': 'h1'}"), GW_EBUSY);
    assert_int_equal(mesh_op(m, 1, NULL, "create", "{'type': 'tally'}"), GW_EBUSY);
    assert_int_equal(mesh_op(m, 0, NULL, "clone", "{'agent': '%s', 'to': 'h1'}", id), GW_EBUSY);
    char full[GW_ID_TEXT];
    gw_id_text(&there[0], full);
    assert_int_equal(mesh_op(m, 1, NULL, "clone", "{'agent': '%s', 'to': 'h1'}", full), GW_EBUSY);
    struct mesh_call *c = mesh_ask(m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", id);
    assert_int_equal(mesh_wait(m, c, 10000), GW_EBUSY);
    assert_non_null(strstr(c->why.text, "its limit is 3"));
    mesh_call_free(c);
    assert_int_equal(mesh_where(m, &here, NULL), 0);
    assert_int_equal(mesh_add(m, 2, &here, "one"), GW_OK);
    mesh_must(m, 1, NULL, "deactivate", "{'agent': '%s'}", full); /* asleep it counts, too */
    assert_int_equal(mesh_move(m, 0, &here, 1), GW_EBUSY);
    mesh_expect_disposed(m, &there[1]);
    mesh_must(m, 1, NULL, "dispose", "{'agent': '%s'}", gw_id_text(&there[1], full));
    assert_int_equal(mesh_move(m, 0, &here, 1), GW_OK);
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* With a choice a full host is passed by, by name another one is told of; nobody has room: busy. */
static void test_a_full_host_names_better_ones(void **state)
{
    (void)state;
    struct mesh *m = full_mesh(5, 3, 1, 1);
    char id[GW_ID_TEXT];
    (void)mesh_create(m, 1, "tally");
    for (size_t i = 0; i < 12;
         i++) { /* by chance the full one would be chosen first in half of them */
        gw_id a = mesh_create(m, 0, "tally");
        mesh_must(m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'any', 'key': 'k%zu'}",
                  gw_id_text(&a, id), i);
        assert_int_equal(mesh_where(m, &a, NULL), 2);
        mesh_run(m, 6000); /* until it would be asked again */
    }
    gw_id a = mesh_create(m, 0, "tally");
    struct mesh_call *c =
        mesh_ask(m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", gw_id_text(&a, id));
    assert_int_equal(mesh_wait(m, c, 10000), GW_EBUSY);
    assert_non_null(strstr(c->why.hint, "h2"));
    mesh_call_free(c);
    mesh_stop(m, 2);
    mesh_run(m, 1000);
    c = mesh_ask(m, 0, "dispatch", "{'agent': '%s', 'to': 'any'}", id);
    assert_int_equal(mesh_wait(m, c, 10000), GW_EBUSY);
    assert_non_null(strstr(c->why.text, "every host that fits is full"));
    mesh_call_free(c);
    assert_int_equal(mesh_add(m, 0, &a, "one"), GW_OK);
    mesh_free(m);
}

/* What does not fit into one host goes to the other. */
static void test_a_drain_fills_what_there_is(void **state)
{
    (void)state;
    struct mesh *m = full_mesh(3, 3, 1, 4);
    gw_id ids[20];
    for (size_t i = 0; i < 20; i++) {
        ids[i] = mesh_create(m, 0, "tally");
    }
    struct mesh_call *c = mesh_ask(m, 0, "drain", "{}");
    assert_int_equal(mesh_wait(m, c, 60000), GW_OK);
    mesh_call_free(c);
    size_t on[3] = {0};
    for (size_t i = 0; i < 20; i++) {
        on[mesh_where(m, &ids[i], NULL)]++;
    }
    assert_int_equal(on[1], 4);
    assert_true(on[2] >= 12);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* --- what is long --- */

struct counting {
    size_t moved; /* answers `moved` to the asking host */
    size_t asker;
};
static mesh_fate count_moved(void *arg, size_t from, size_t to, const struct frame *f)
{
    struct counting *c = arg;
    struct mp m = f->rest;
    uint32_t code;
    (void)from;
    if (f->kind == FRAME_REPLY && to == c->asker && mp_read_u32(&m, &code) == GW_OK) {
        c->moved += code == GW_EMOVED;
    }
    return FATE_PASS;
}

/* A host that has only an old word follows LIMIT_REDIRECTS answers, then asks the mesh. The first
 * home is gone for ever. */
static void test_more_redirects_than_are_followed(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(4, 12);
    mesh_start_all(m);
    struct counting count = {.asker = 11};
    gw_id a = mesh_create(m, 0, "tally");
    assert_int_equal(mesh_move(m, 0, &a, 1), GW_OK);
    assert_int_equal(mesh_count(m, 11, &a), 0); /* h11 has heard of h1 */
    mesh_crash(m, 0);
    for (size_t h = 1; h < 10; h++) {
        assert_int_equal(mesh_move(m, h, &a, h + 1), GW_OK);
    }
    mesh_run(m, 1000);
    mesh_on_frame(m, count_moved, &count);
    assert_int_equal(mesh_add(m, 11, &a, "far"), GW_OK);
    assert_true(count.moved >= LIMIT_REDIRECTS && count.moved <= LIMIT_REDIRECTS + 1);
    count.moved = 0;
    assert_int_equal(mesh_count(m, 11, &a), 1); /* the way is short now */
    assert_int_equal(count.moved, 0);
    mesh_on_frame(m, NULL, NULL);
    assert_int_equal(mesh_move(m, 3, &a, 2), GW_OK); /* it goes on without its home */
    assert_int_equal(mesh_add(m, 5, &a, "more"), GW_OK);
    assert_int_equal(mesh_count(m, 11, &a), 2);
    mesh_wipe(m, 0);
    mesh_free(m);
}

/* 100 messages wait while it moves there and back. */
static void test_a_long_queue_keeps_its_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct mesh *m = actor_mesh(seed, 3);
        gw_id from = mesh_create(m, 2, "actor"), to = mesh_create(m, 0, "actor");
        for (int i = 0; i < 100; i++) {
            char key[16];
            (void)snprintf(key, sizeof key, "k%d", i);
            if (i == 50) {
                mesh_crash_runner(m, 0); /* so that they wait */
            }
            assert_int_equal(actor_relay(m, 2, &from, &to, i, key), GW_OK);
            if (i == 60 || i == 90) {
                char id[GW_ID_TEXT];
                mesh_call_free(mesh_ask(m, 2, "dispatch", "{'agent': '%s', 'to': '%s'}",
                                        gw_id_text(&to, id), i == 60 ? "h1" : "h0"));
            }
        }
        mesh_heal(m);
        mesh_run(m, 30000);
        assert_int_equal(mesh_count(m, 1, &to), 100);
        char line[16], all[8192];
        (void)snprintf(all, sizeof all, "%s", actor_history(m, 1, &to));
        const char *at = all;
        for (int i = 0; i < 100; i++) {
            (void)snprintf(line, sizeof line, "#%d", i % 1000);
            at = strstr(at, line);
            if (!at) {
                mesh_fail(m, "I4: message %d is missing or out of order", i);
            }
        }
        mesh_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_storm_of_clones_ends_at_the_limit),
        cmocka_unit_test(test_a_full_host_refuses),
        cmocka_unit_test(test_a_full_host_names_better_ones),
        cmocka_unit_test(test_a_drain_fills_what_there_is),
        cmocka_unit_test(test_more_redirects_than_are_followed),
        cmocka_unit_test(test_a_long_queue_keeps_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
