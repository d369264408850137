/* Sleepers without a struct agent: the table against a plain list, and that nobody can tell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/sleepers.h"
#include "tests/mesh/actor.h"

/* --- the table --- */
#define ROWS 12000

static gw_id id_of(size_t i, uint64_t salt)
{
    gw_id id = {{0}};
    store_u64(id.b, i % 7 == 0 ? 5 : i); /* some differ in the other half only */
    store_u64(id.b + 8, (i + 1) * 0x9E3779B97F4A7C15ULL ^ salt);
    return id;
}

static void row_of(const struct node *n, size_t i, struct buf *out)
{
    struct agent_row row = {.status = AGENT_INACTIVE,
                            .home = n->self->id,
                            .created_ms = (int64_t)i,
                            .no_wake = i % 3 == 0};
    (void)snprintf(row.type, sizeof row.type, "type%zu", i % 5);
    if (i % 11 == 0) {
        row.of = id_of(i, 1);
    }
    buf_reset(out);
    agent_row_pack(&row, out);
}

static void check_raised(struct node *n, size_t i)
{
    gw_id id = id_of(i, 0);
    char type[32];
    struct agent *a = agent_find(n, &id);
    (void)snprintf(type, sizeof type, "type%zu", i % 5);
    assert_non_null(a);
    assert_string_equal(a->type->name, type);
    assert_int_equal(a->epoch, i + 1);
    assert_int_equal(a->created_ms, i);
    assert_int_equal(a->no_wake, i % 3 == 0);
    gw_id of = id_of(i, 1);
    assert_int_equal(gw_id_equal(&a->of, &of), i % 11 == 0);
    assert_ptr_equal(a->home, &n->self->id);
    agent_remove(n, a);
}

static void test_table(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(1, 1);
    mesh_start_all(m);
    struct node *n = mesh_node(m, 0);
    struct buf row = {0};
    bool *there = calloc(ROWS, sizeof *there);
    size_t count = 0;
    for (size_t step = 0; step < 4 * ROWS; step++) {
        size_t i = (size_t)mesh_random(m, ROWS);
        gw_id id = id_of(i, 0);
        assert_int_equal(sleepers_look(n, &id, NULL), there[i]);
        if (!there[i]) {
            row_of(n, i, &row);
            assert_true(sleepers_boot_row(n, &id, i + 1, buf_span(&row)));
            assert_false(sleepers_boot_row(n, &id, i + 2, buf_span(&row))); /* twice */
        } else if (step % 2) {
            check_raised(n, i);
        } else {
            continue;
        }
        there[i] = !there[i];
        count += there[i] ? 1 : (size_t)-1;
        assert_int_equal(sleepers_count(n), count);
        assert_int_equal(n->inactive_count, count);
    }
    assert_true(count > ROWS / 3);
    for (size_t k = 0; k < count; k++) { /* each is there once */
        struct sleeper_view v = sleepers_at(n, k), again;
        assert_true(there[v.epoch - 1]);
        assert_true(sleepers_look(n, v.id, &again));
        assert_ptr_equal(again.id, v.id);
    }
    for (size_t i = 0; i < ROWS; i++) {
        if (there[i]) {
            check_raised(n, i);
        }
    }
    assert_int_equal(sleepers_count(n), 0);
    free(there);
    buf_free(&row);
    mesh_free(m);
}

/* Rows that do not lie there: not asleep, with something to do, damaged. */
static void test_what_stays_out(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(2, 1);
    mesh_start_all(m);
    struct node *n = mesh_node(m, 0);
    struct buf row = {0};
    struct agent_row r = {.status = AGENT_INACTIVE, .home = n->self->id, .type = "actor"};
    gw_id id = id_of(1, 0);
    for (int i = 0; i < 5; i++) {
        struct agent_row one = r;
        one.status = i == 0 ? AGENT_ACTIVE : i == 1 ? AGENT_DEPARTED : AGENT_INACTIVE;
        one.pending = i == 2 ? 2 : 0;
        one.wake_at_start = i == 3;
        if (i == 4) {
            (void)snprintf(one.alias, sizeof one.alias, "name");
        }
        buf_reset(&row);
        agent_row_pack(&one, &row);
        assert_false(sleepers_boot_row(n, &id, 1, buf_span(&row)));
    }
    buf_reset(&row);
    agent_row_pack(&r, &row);
    for (size_t len = 0; len < row.len; len++) {
        if (sleepers_boot_row(n, &id, 1, (struct span){row.data, len})) {
            mesh_fail(m, "%zu of %zu bytes were taken for a row", len, row.len);
        }
    }
    assert_false(sleepers_boot_row(n, &id, LIMIT_EPOCH + 1, buf_span(&row)));
    assert_int_equal(sleepers_count(n), 0);
    buf_free(&row);
    mesh_free(m);
}

/* --- nobody can tell --- */
#define AGENTS 41

static size_t listed(struct mesh *m, const char *more, size_t *ret_aliases)
{
    size_t count = 0;
    char after[GW_ID_TEXT + 20] = "", last[GW_ID_TEXT] = "";
    *ret_aliases = 0;
    for (bool next = true; next;) {
        gw_value v = gw_nil();
        mesh_must(m, 0, &v, "agents", "{'limit': 7%s%s}", after, more);
        const gw_value *list = gw_map_get(&v, "agents");
        for (size_t i = 0; i < list->list.n; i++) {
            const char *id = gw_map_str(&list->list.items[i], "agent", "");
            assert_true(strcmp(id, last) > 0); /* in order, each once */
            (void)snprintf(last, sizeof last, "%s", id);
            *ret_aliases += gw_map_get(&list->list.items[i], "alias") != NULL;
            count++;
        }
        next = gw_map_str(&v, "next", NULL) != NULL;
        (void)snprintf(after, sizeof after, ", 'after': '%s'", gw_map_str(&v, "next", ""));
        gw_value_free(&v);
    }
    return count;
}

static void expect_all(struct mesh *m)
{
    size_t aliases;
    assert_int_equal(listed(m, "", &aliases), AGENTS);
    assert_int_equal(aliases, 3);
    assert_int_equal(listed(m, ", 'status': 'active'", &aliases), 0);
    assert_int_equal(listed(m, ", 'status': 'inactive', 'type': 'actor'", &aliases), AGENTS);
    assert_int_equal(listed(m, ", 'type': 'tally'", &aliases), 0);
    assert_int_equal(listed(m, ", 'type': 'none'", &aliases), 0);
    assert_int_equal(sleepers_count(mesh_node(m, 0)), AGENTS);
    assert_null(mesh_node(m, 0)->agents);
}

/* Forty that sleep: some with an alias, some clones. */
static void put_to_sleep(struct mesh *m, char ids[AGENTS][GW_ID_TEXT])
{
    for (size_t i = 0; i < AGENTS; i++) {
        gw_value v = gw_nil();
        if (i % 4 == 3) {
            mesh_must(m, 0, &v, "clone", "{'agent': '%s'}", ids[i - 1]);
        } else if (i % 20 == 0) {
            mesh_must(m, 0, &v, "create", "{'type': 'actor', 'alias': 'name%zu'}", i);
        } else {
            mesh_must(m, 0, &v, "create", "{'type': 'actor'}");
        }
        (void)snprintf(ids[i], GW_ID_TEXT, "%s", gw_map_str(&v, "agent", ""));
        gw_value_free(&v);
    }
    for (size_t i = 0; i < AGENTS; i++) {
        mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", ids[i]);
    }
    mesh_run(m, 5000); /* they lie down */
}

static void expect_of(struct mesh *m, const char *id, const char *of)
{
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "show", "{'agent': '%s'}", id);
    assert_string_equal(gw_map_str(&v, "of", ""), of);
    assert_string_equal(gw_map_str(&v, "status", ""), "inactive");
    gw_value_free(&v);
}

static void test_nobody_can_tell(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(3, 2);
    static char ids[AGENTS][GW_ID_TEXT];
    gw_value v = gw_nil();
    put_to_sleep(m, ids);
    expect_all(m);
    for (int round = 0; round < 2; round++) {
        expect_of(m, ids[2] + 18, ""); /* by the end of the id */
        expect_of(m, "name20", "");
        expect_of(m, ids[3], ids[2]);
        mesh_run(m, 3000);
        expect_all(m);
        mesh_crash(m, 0);
        mesh_start_all(m);
        mesh_run(m, 3000);
        expect_all(m);
    }
    assert_int_equal(mesh_op(m, 0, NULL, "create", "{'type': 'actor', 'alias': 'name40'}"),
                     GW_EEXISTS);
    mesh_must(m, 1, NULL, "send", "{'agent': '%s', 'method': 'add'}", ids[5]); /* wakes it */
    mesh_must(m, 0, &v, "status", "{}");
    assert_int_equal(gw_map_int(gw_map_get(&v, "agents"), "active", 0), 1);
    assert_int_equal(gw_map_int(gw_map_get(&v, "agents"), "inactive", 0), AGENTS - 1);
    gw_value_free(&v);
    mesh_must(m, 0, NULL, "dispose", "{'agent': 'name0'}");
    mesh_must(m, 0, NULL, "create", "{'type': 'actor', 'alias': 'name0'}");
    mesh_must(m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h1'}", ids[3]);
    mesh_must(m, 1, NULL, "clone", "{'agent': '%s', 'to': 'h0', 'inactive': true}", ids[3]);
    mesh_run(m, 3000);
    mesh_must(m, 0, &v, "show", "{'agent': '%s'}", ids[3]); /* it travelled as it was */
    assert_string_equal(gw_map_str(&v, "host", ""), "h1");
    assert_string_equal(gw_map_str(&v, "of", ""), ids[2]);
    assert_string_equal(gw_map_str(&v, "home", ""), "h0");
    gw_value_free(&v);
    mesh_heal(m);
    mesh_free(m);
}

/* The home learns by its link where its agents are, also of those that sleep there. */
static void test_home_is_told(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(4, 3);
    gw_id id = mesh_create(m, 0, "actor");
    char text[GW_ID_TEXT];
    gw_id_text(&id, text);
    assert_int_equal(mesh_move(m, 0, &id, 1), GW_OK);
    mesh_part(m, 0, 1, true);
    mesh_part(m, 0, 2, true);
    assert_int_equal(mesh_move(m, 1, &id, 2), GW_OK);
    mesh_must(m, 2, NULL, "deactivate", "{'agent': '%s'}", text);
    mesh_run(m, 5000);
    assert_int_equal(sleepers_count(mesh_node(m, 2)), 1);
    mesh_part(m, 0, 2, false);
    mesh_run(m, 5000);
    assert_int_equal(sleepers_count(mesh_node(m, 2)), 1);
    const struct location *l = location_find(mesh_node(m, 0), &id);
    assert_int_equal(l->epoch, 3);
    assert_string_equal(l->host->name, "h2");
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* It is told something while the disk sleeps, for longer than sleepers stay in memory. */
static commit_fate sleep_once(void *arg, size_t host)
{
    bool *on = arg;
    (void)host;
    commit_fate fate = *on ? COMMIT_SLOW : COMMIT_PASS;
    *on = false;
    return fate;
}

static void test_told_on_a_slow_disk(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(5, 1);
    char text[GW_ID_TEXT];
    bool slow = false;
    mesh_on_commit(m, sleep_once, &slow);
    gw_id id = mesh_create(m, 0, "actor");
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", gw_id_text(&id, text));
    mesh_run(m, 5000);
    assert_int_equal(sleepers_count(mesh_node(m, 0)), 1);
    slow = true;
    struct mesh_call *call =
        mesh_ask(m, 0, "send",
                 "{'agent': '%s', 'method': 'add', 'args': {'number': 7}, 'tell': true}", text);
    mesh_run(m, 4500);
    assert_false(call->done);
    mesh_run(m, 3000);
    assert_true(call->done && call->err == GW_OK);
    assert_int_equal(actor_lines(m, 0, &id, "#7"), 1);
    mesh_call_free(call);
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_what_stays_out),
        cmocka_unit_test(test_nobody_can_tell),
        cmocka_unit_test(test_home_is_told),
        cmocka_unit_test(test_told_on_a_slow_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
