/* Types that ask for less than a commit at each message: what of them is where, and what is left
 * after the end of a runner, of a host, a move, a sleep, a full disk. What they do to others is
 * done once all the same (I4). */
#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/actor.h"
#include "tests/mesh/trap.h"

static struct gw_type saver, vapor; /* tally, with transitions; volatile */
static const struct gw_type *const types[] = {&tally_type, &saver, &vapor};
static size_t commits;

static commit_fate count_commits(void *arg, size_t host)
{
    (void)arg;
    commits += host == 0;
    return COMMIT_PASS;
}

static struct mesh *mesh_of(uint64_t seed, size_t hosts)
{
    struct mesh *m = mesh_new(seed, hosts);
    saver = vapor = tally_type;
    saver.name = "saver";
    saver.durability = GW_TRANSITIONS;
    vapor.name = "vapor";
    vapor.durability = GW_VOLATILE;
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_types(m, i, types, 3);
    }
    mesh_start_all(m);
    return m;
}

static void crash(struct mesh *m, size_t host)
{
    mesh_crash(m, host);
    mesh_start_all(m);
}

static void add(struct mesh *m, size_t via, const gw_id *agent, int n)
{
    char key[16];
    for (int i = 0; i < n; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(mesh_add(m, via, agent, key), GW_OK);
    }
}

static int64_t shown(struct mesh *m, const gw_id *agent)
{
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "show", "{'agent': '%s'}", gw_id_text(agent, id));
    int64_t count = gw_map_int(gw_map_get(&v, "state"), "count", -1);
    gw_value_free(&v);
    return count;
}

static void op(struct mesh *m, const char *name, const gw_id *agent)
{
    char id[GW_ID_TEXT];
    mesh_must(m, 0, NULL, name, "{'agent': '%s'}", gw_id_text(agent, id));
}

/* No transaction; a repeat is not applied again; everything shows the state as it is. */
static void test_messages_without_a_commit(void **state)
{
    (void)state;
    static const char *const names[] = {"saver", "vapor"};
    for (size_t t = 0; t < 2; t++) {
        struct mesh *m = mesh_of(701, 1);
        gw_id agent = mesh_create(m, 0, names[t]);
        mesh_on_commit(m, count_commits, NULL);
        commits = 0;
        add(m, 0, &agent, 5);
        add(m, 0, &agent, 5); /* repeats */
        assert_int_equal(commits, 0);
        assert_int_equal(actor_stored_count(m, 0, &agent), 0);
        assert_int_equal(shown(m, &agent), 5);
        assert_int_equal(mesh_count(m, 0, &agent), 5);
        mesh_crash_runner(m, 0); /* the host has it */
        mesh_run(m, 1000);
        assert_int_equal(mesh_count(m, 0, &agent), 5);
        add(m, 0, &agent, 5);
        assert_int_equal(mesh_count(m, 0, &agent), 5);
        assert_int_equal(actor_send(m, 0, &agent, "spoil", "{}"), GW_EREFUSED);
        assert_int_equal(mesh_count(m, 0, &agent), 5); /* not 1005, and not the stored 0 */
        crash(m, 0);
        assert_int_equal(mesh_count(m, 0, &agent), 0);
        assert_string_equal(actor_history(m, 0, &agent), "create");
        add(m, 0, &agent, 5); /* what was lost with the state counts as never sent */
        assert_int_equal(mesh_count(m, 0, &agent), 5);
        mesh_free(m);
    }
}

static void test_answers_are_bounded(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(702, 1);
    gw_id agent = mesh_create(m, 0, "vapor");
    add(m, 0, &agent, LIMIT_UNSAVED_ANSWERS + 1);
    assert_int_equal(mesh_add(m, 0, &agent, "k1"), GW_OK); /* still known */
    assert_int_equal(mesh_count(m, 0, &agent), LIMIT_UNSAVED_ANSWERS + 1);
    assert_int_equal(mesh_add(m, 0, &agent, "k0"), GW_OK); /* the oldest had to go */
    assert_int_equal(mesh_count(m, 0, &agent), LIMIT_UNSAVED_ANSWERS + 2);
    mesh_free(m);
}

static void test_sleep(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(703, 1);
    gw_id s = mesh_create(m, 0, "saver"), v = mesh_create(m, 0, "vapor");
    add(m, 0, &s, 3);
    add(m, 0, &v, 3);
    op(m, "deactivate", &s);
    op(m, "deactivate", &v);
    assert_int_equal(actor_stored_count(m, 0, &s), 3);
    assert_int_equal(actor_stored_count(m, 0, &v), 0);
    assert_int_equal(shown(m, &v), 3);
    add(m, 0, &s, 3); /* repeats wake both */
    add(m, 0, &v, 3);
    assert_int_equal(mesh_count(m, 0, &s), 3);
    assert_int_equal(mesh_count(m, 0, &v), 3);
    assert_string_equal(actor_history(m, 0, &v), "create sleep wake");
    crash(m, 0);
    assert_int_equal(mesh_count(m, 0, &s), 3);
    assert_int_equal(mesh_count(m, 0, &v), 0);
    add(m, 0, &s, 3); /* recorded with the sleep */
    assert_int_equal(mesh_count(m, 0, &s), 3);
    mesh_free(m);
}

/* A move takes the state as it is, and the answers; from there on it is on disk. */
static void test_move(void **state)
{
    (void)state;
    static const char *const names[] = {"saver", "vapor"};
    for (size_t i = 0; i < 4; i++) {
        struct mesh *m = mesh_of(704 + i, 2);
        gw_id agent = mesh_create(m, 0, names[i % 2]);
        char want[80];
        add(m, 0, &agent, 4);
        if (i >= 2) { /* asleep */
            op(m, "deactivate", &agent);
        }
        assert_int_equal(mesh_move(m, 0, &agent, 1), GW_OK);
        mesh_run(m, 2000);
        assert_int_equal(actor_stored_count(m, 1, &agent), 4);
        crash(m, 1);
        add(m, 0, &agent, 4);
        assert_int_equal(mesh_count(m, 0, &agent), 4);
        assert_int_equal(mesh_add(m, 0, &agent, "more"), GW_OK);
        assert_int_equal(mesh_count(m, 0, &agent), 5);
        crash(m, 1);
        assert_int_equal(mesh_count(m, 0, &agent), 4);
        (void)snprintf(want, sizeof want, "create %s", i < 2 ? "leave arrive" : "sleep");
        if (i < 2) {
            assert_string_equal(actor_history(m, 0, &agent), want);
        }
        mesh_heal(m);
        mesh_expect_whole(m);
        mesh_free(m);
    }
}

/* A move that comes to nothing loses nothing. */
static void test_aborted_move(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(710, 2);
    gw_id s = mesh_create(m, 0, "saver"), v = mesh_create(m, 0, "vapor");
    add(m, 0, &s, 4);
    add(m, 0, &v, 4);
    mesh_part(m, 0, 1, true);
    assert_int_not_equal(mesh_move(m, 0, &s, 1), GW_OK);
    assert_int_not_equal(mesh_move(m, 0, &v, 1), GW_OK);
    assert_int_equal(mesh_count(m, 0, &s), 4);
    assert_int_equal(mesh_count(m, 0, &v), 4);
    mesh_free(m);
}

static void test_clone(void **state)
{
    (void)state;
    static const char *const names[] = {"saver", "vapor"};
    for (size_t i = 0; i < 4; i++) {
        struct mesh *m = mesh_of(711 + i, 2);
        gw_id agent = mesh_create(m, 0, names[i % 2]);
        char id[GW_ID_TEXT];
        gw_value v = gw_nil();
        add(m, 0, &agent, 4);
        mesh_must(m, 0, &v, "clone", "{'agent': '%s', 'to': 'h%zu'}", gw_id_text(&agent, id),
                  i / 2);
        gw_id copy = actor_id_of(m, &v);
        gw_value_free(&v);
        mesh_run(m, 2000);
        assert_int_equal(mesh_count(m, 0, &copy), 4);
        crash(m, i / 2);
        assert_int_equal(mesh_count(m, 0, &copy), 4);
        mesh_free(m);
    }
}

/* ---- what others see of it ---- */

static bool tell_with(struct trap *t, uint64_t seed, const char *type)
{
    struct mesh *m = mesh_of(seed, 1);
    gw_id from = mesh_create(m, 0, type), to = mesh_create(m, 0, "tally");
    char a[GW_ID_TEXT], b[GW_ID_TEXT], line[16];
    trap_arm(t, m);
    for (int i = 0; i < 4; i++) {
        gw_err err = GW_EFAIL;
        for (int tries = 0; err != GW_OK && tries < 30; tries++) {
            err = mesh_op(m, 0, NULL, "send",
                          "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s', 'number': %d}, "
                          "'key': 'r%d', 'text': true}",
                          gw_id_text(&from, a), gw_id_text(&to, b), i, i);
            mesh_run(m, 300);
        }
        assert_int_equal(err, GW_OK);
    }
    mesh_run(m, 20000);
    bool fired = t->fired;
    mesh_heal(m);
    for (int i = 0; i < 4; i++) {
        (void)snprintf(line, sizeof line, "#%d", i);
        assert_int_equal(actor_lines(m, 0, &to, line), 1);
    }
    mesh_free(m);
    return fired;
}

static void test_tells_are_once(void **state)
{
    (void)state;
    static const char *const names[] = {"saver", "vapor"};
    static const commit_fate fates[] = {COMMIT_FAIL, COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER};
    for (size_t i = 0; i < 6; i++) {
        struct trap t = {.fate = fates[i % 3]};
        while (tell_with(&t, 720 + t.k, names[i / 3])) {
            t.k++;
        }
        assert_true(t.k >= 8);
    }
}

/* With transitions, whatever is written takes the state along; volatile: never. An accepted message
 * is consumed once in both. */
static void test_what_takes_the_state_along(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(730, 1);
    gw_id s = mesh_create(m, 0, "saver"), v = mesh_create(m, 0, "vapor");
    char id[GW_ID_TEXT];
    add(m, 0, &s, 3);
    add(m, 0, &v, 3);
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'add', 'tell': true}",
              gw_id_text(&s, id));
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'add', 'tell': true}",
              gw_id_text(&v, id));
    mesh_run(m, 1000);
    assert_int_equal(actor_stored_count(m, 0, &s), 4);
    assert_int_equal(actor_stored_count(m, 0, &v), 0);
    assert_int_equal(mesh_count(m, 0, &v), 4);
    assert_int_equal(actor_rows(m, 0, TABLE_INBOX), 0);
    crash(m, 0);
    assert_int_equal(mesh_count(m, 0, &s), 4);
    assert_int_equal(mesh_count(m, 0, &v), 0);
    add(m, 0, &s, 3); /* the answers went along */
    assert_int_equal(mesh_count(m, 0, &s), 4);
    mesh_free(m);
}

static void test_roll_back_keeps_what_is_in_memory(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(731, 1);
    gw_id s = mesh_create(m, 0, "saver"), to = mesh_create(m, 0, "tally");
    struct trap t = {.fate = COMMIT_FAIL};
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    add(m, 0, &s, 3);
    trap_arm(&t, m);
    assert_int_equal(mesh_op(m, 0, NULL, "send",
                             "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s'}, 'text': "
                             "true}",
                             gw_id_text(&s, a), gw_id_text(&to, b)),
                     GW_EDISK_FULL);
    assert_true(t.fired);
    assert_int_equal(mesh_count(m, 0, &s), 3);
    add(m, 0, &s, 3);
    assert_int_equal(mesh_count(m, 0, &s), 3);
    op(m, "deactivate", &s);
    assert_int_equal(actor_stored_count(m, 0, &s), 3);
    mesh_free(m);
}

static void test_orderly_stop(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(732, 1);
    gw_id s = mesh_create(m, 0, "saver"), v = mesh_create(m, 0, "vapor");
    add(m, 0, &s, 3);
    add(m, 0, &v, 3);
    mesh_stop(m, 0);
    mesh_start_all(m);
    assert_int_equal(mesh_count(m, 0, &s), 3);
    assert_int_equal(mesh_count(m, 0, &v), 0);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_without_a_commit),
        cmocka_unit_test(test_answers_are_bounded),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_aborted_move),
        cmocka_unit_test(test_clone),
        cmocka_unit_test(test_tells_are_once),
        cmocka_unit_test(test_what_takes_the_state_along),
        cmocka_unit_test(test_roll_back_keeps_what_is_in_memory),
        cmocka_unit_test(test_orderly_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
