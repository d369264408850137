/* Built-in types: the resident agent of a host, and what is refused about it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/actor.h"

/* ---- a type whose handlers run in the host ---- */

struct keeper {
    int64_t count;
};
static const struct gw_field keeper_fields[] = {GW_FIELD(struct keeper, count)};

static gw_err keep(struct gw_call *call)
{
    struct keeper *k = gw_state(call);
    GW_TRY(gw_add(&k->count, 1));
    return gw_reply_int(call, "count", k->count);
}

static gw_err block(struct gw_call *call)
{
    gw_value v;
    gw_err err = gw_ask(call, gw_arg_id(call, "whom"), "get", gw_nil(), &v);
    return err == GW_OK ? GW_EFAIL : err;
}

static gw_err pass(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "number", gw_int(gw_arg_int(call, "number"))));
    return gw_tell(call, gw_arg_id(call, "to"), "add", args);
}

static gw_err leave(struct gw_call *call)
{
    return gw_dispatch(call, "h1");
}

static gw_err copy(struct gw_call *call)
{
    return gw_clone(call, NULL);
}

static gw_err end(struct gw_call *call)
{
    return gw_dispose(call);
}

static const struct gw_method keeper_methods[] = {
    {"keep() -> (count: int)", keep, 0},
    {"block(whom: agent)", block, 0},
    {"pass(to: agent, number: int)", pass, 0},
    {"leave()", leave, 0},
    {"copy()", copy, 0},
    {"end()", end, 0},
};
static const struct gw_type keeper_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "keeper",
    .version = 1,
    .state_size = sizeof(struct keeper),
    GW_FIELDS(keeper_fields),
    GW_METHODS(keeper_methods),
};
static const struct gw_type *const types[] = {&keeper_type};
static const struct node_builtin rows[] = {{"keeper", "the-keeper"}};
static const struct node_builtin free_rows[] = {{"keeper", NULL}};

static struct mesh *keeper_mesh(uint64_t seed, size_t hosts, const struct node_builtin *r)
{
    struct mesh *m = actor_mesh_new(seed, hosts);
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_builtins(m, i, r, types, 1);
    }
    return m;
}

static gw_id resident(struct mesh *m, size_t host)
{
    gw_value v = gw_nil();
    gw_id id = {{0}};
    mesh_must(m, host, &v, "agents", "{'type': 'keeper'}");
    const gw_value *list = gw_map_get(&v, "agents");
    if (!list || list->kind != GW_LIST || list->list.n != 1) {
        mesh_fail(m, "h%zu has not one agent of the built-in type", host);
    }
    const gw_value *one = &list->list.items[0];
    assert_string_equal(gw_map_str(one, "alias", ""), "the-keeper");
    assert_int_equal(gw_id_parse(gw_map_str(one, "agent", ""), &id), GW_OK);
    gw_value_free(&v);
    return id;
}

static int64_t kept(struct mesh *m, size_t host)
{
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "send", "{'agent': 'the-keeper', 'method': 'keep'}");
    int64_t n = gw_map_int(gw_map_get(&v, "reply"), "count", -1);
    gw_value_free(&v);
    return n;
}

/* ---- there is one, from the first start on, and it is the same after each ---- */

static void test_each_host_has_its_own(void **state)
{
    (void)state;
    struct mesh *m = keeper_mesh(701, 2, rows);
    mesh_start_all(m);
    gw_id a = resident(m, 0), b = resident(m, 1);
    assert_false(gw_id_equal(&a, &b));
    assert_int_equal(kept(m, 0), 1);
    assert_int_equal(kept(m, 0), 2);
    assert_int_equal(kept(m, 1), 1);
    mesh_stop(m, 0);
    mesh_start_all(m);
    gw_id again = resident(m, 0);
    assert_true(gw_id_equal(&a, &again));
    assert_int_equal(kept(m, 0), 3);
    mesh_crash(m, 0);
    mesh_start_all(m);
    assert_int_equal(kept(m, 0), 4); /* what was answered was on disk */
    mesh_free(m);
}

/* Whichever comes first at a start: the runners, or what the store has of mail. */
static void test_whatever_is_slow_at_a_start(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct mesh *m = keeper_mesh(7000 + seed, 1, rows);
        mesh_slow_reads(m, 0, (int64_t)mesh_random(m, 6000));
        mesh_start_all(m);
        assert_int_equal(kept(m, 0), 1);
        mesh_free(m);
    }
}

static size_t crash_at;
static commit_fate crash_how;
static commit_fate on_commit(void *arg, size_t host)
{
    (void)arg, (void)host;
    return crash_at-- == 0 ? crash_how : COMMIT_PASS;
}

static void test_one_however_often_the_first_start_is_cut(void **state)
{
    (void)state;
    for (size_t k = 0; k < 8; k++) {
        struct mesh *m = keeper_mesh(710 + k, 1, rows);
        crash_at = k / 2;
        crash_how = k % 2 ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE;
        mesh_on_commit(m, on_commit, NULL);
        mesh_start(m, 0);
        mesh_run(m, 1000);
        mesh_on_commit(m, NULL, NULL);
        mesh_start_all(m);
        (void)resident(m, 0);
        assert_int_equal(kept(m, 0), 1);
        mesh_free(m);
    }
}

/* A full disk at the first start: the host serves, without it; the next start makes it. */
static void test_made_later_when_it_cannot_be_written(void **state)
{
    (void)state;
    struct mesh *m = keeper_mesh(720, 1, rows);
    crash_at = 1;
    crash_how = COMMIT_FAIL;
    mesh_on_commit(m, on_commit, NULL);
    mesh_start_all(m);
    mesh_on_commit(m, NULL, NULL);
    assert_int_equal(mesh_op(m, 0, NULL, "send", "{'agent': 'the-keeper', 'method': 'keep'}"),
                     GW_EAGENT_NOT_FOUND);
    mesh_stop(m, 0);
    mesh_start_all(m);
    (void)resident(m, 0);
    mesh_free(m);
}

/* ---- what it does not do ---- */

static void test_it_stays_single_and_here(void **state)
{
    (void)state;
    struct mesh *m = keeper_mesh(730, 2, rows);
    mesh_start_all(m);
    gw_id a = resident(m, 0);
    static const char *const refused[][2] = {
        {"dispatch", "{'agent': 'the-keeper', 'to': 'h1'}"},
        {"clone", "{'agent': 'the-keeper'}"},
        {"clone", "{'agent': 'the-keeper', 'to': 'h1'}"},
        {"dispose", "{'agent': 'the-keeper'}"},
        {"create", "{'type': 'keeper'}"},
        {"create", "{'type': 'keeper', 'at': 'h1'}"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        gw_err err = mesh_op(m, 0, NULL, refused[i][0], "%s", refused[i][1]);
        if (err != GW_EREFUSED) {
            mesh_fail(m, "%s %s: %s", refused[i][0], refused[i][1], gw_err_name(err));
        }
    }
    char id[GW_ID_TEXT];
    assert_int_equal(mesh_op(m, 1, NULL, "retract", "{'agent': '%s'}", gw_id_text(&a, id)),
                     GW_EREFUSED);
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "dispatch", "{'agent': 'the-keeper', 'to': 'h1', 'dry_run': true}");
    assert_false(gw_map_bool(&v, "possible", true));
    gw_value_free(&v);
    static const char *const wishes[] = {"leave", "copy", "end"};
    for (size_t i = 0; i < 3; i++) {
        mesh_must(m, 0, NULL, "send", "{'agent': 'the-keeper', 'method': '%s'}", wishes[i]);
    }
    mesh_run(m, 2000);
    gw_id still = resident(m, 0);
    assert_true(gw_id_equal(&a, &still));
    assert_int_equal(kept(m, 0), 1);
    mesh_free(m);
}

/* It is no agent of those who use the host: not counted, not listed unless asked for, not drained.
 */
static void test_left_out_of_counts_and_drains(void **state)
{
    (void)state;
    struct mesh *m = keeper_mesh(740, 2, rows);
    mesh_start_all(m);
    gw_id a = mesh_create(m, 0, "actor");
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "status", "{}");
    assert_int_equal(gw_map_int(gw_map_get(&v, "agents"), "active", -1), 1);
    assert_int_equal(gw_map_int(gw_map_get(&v, "agents"), "builtin", -1), 1);
    gw_value_free(&v);
    mesh_must(m, 0, &v, "agents", "{}");
    assert_int_equal(gw_map_get(&v, "agents")->list.n, 1);
    gw_value_free(&v);
    mesh_must(m, 0, &v, "agents", "{'builtin': true, 'all': true}");
    assert_int_equal(gw_map_get(&v, "agents")->list.n, 3);
    gw_value_free(&v);
    struct mesh_call *c = mesh_ask(m, 0, "drain", "{'to': 'h1'}");
    assert_int_equal(mesh_wait(m, c, 60000), GW_OK);
    const gw_value *last = &c->items.list.items[c->items.list.n - 1];
    assert_int_equal(gw_map_int(last, "moved", -1), 1);
    assert_int_equal(gw_map_int(last, "stayed", -1), 0);
    mesh_call_free(c);
    assert_int_equal(mesh_where(m, &a, NULL), 1);
    (void)resident(m, 0);
    mesh_free(m);
}

/* ---- its handlers ---- */

static void test_it_cannot_block_and_can_tell(void **state)
{
    (void)state;
    char id[GW_ID_TEXT];
    struct mesh *m = keeper_mesh(750, 2, rows);
    mesh_start_all(m);
    gw_id a = mesh_create(m, 1, "actor");
    assert_int_equal(mesh_op(m, 0, NULL, "send",
                             "{'agent': 'the-keeper', 'method': 'block', 'args': {'whom': '%s'}}",
                             gw_id_text(&a, id)),
                     GW_EINLINE);
    for (int i = 1; i <= 3; i++) {
        mesh_must(m, 0, NULL, "send",
                  "{'agent': 'the-keeper', 'method': 'pass', 'args': {'to': '%s', 'number': %d}}",
                  gw_id_text(&a, id), i);
    }
    mesh_run(m, 3000);
    assert_string_equal(actor_history(m, 1, &a), "create #1 #2 #3");
    mesh_free(m);
}

/* Without an alias people make agents of it; these do not travel, but can be copied and disposed.
 */
static void test_a_type_without_resident(void **state)
{
    (void)state;
    struct mesh *m = keeper_mesh(760, 2, free_rows);
    mesh_start_all(m);
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "create", "{'type': 'keeper', 'alias': 'mine'}");
    gw_value_free(&v);
    mesh_must(m, 0, &v, "agents", "{}");
    assert_int_equal(gw_map_get(&v, "agents")->list.n, 1);
    gw_value_free(&v);
    assert_int_equal(mesh_op(m, 0, NULL, "dispatch", "{'agent': 'mine', 'to': 'h1'}"), GW_EREFUSED);
    mesh_must(m, 0, NULL, "clone", "{'agent': 'mine'}");
    mesh_must(m, 0, NULL, "dispose", "{'agent': 'mine'}");
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_host_has_its_own),
        cmocka_unit_test(test_whatever_is_slow_at_a_start),
        cmocka_unit_test(test_one_however_often_the_first_start_is_cut),
        cmocka_unit_test(test_made_later_when_it_cannot_be_written),
        cmocka_unit_test(test_it_stays_single_and_here),
        cmocka_unit_test(test_left_out_of_counts_and_drains),
        cmocka_unit_test(test_it_cannot_block_and_can_tell),
        cmocka_unit_test(test_a_type_without_resident),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
