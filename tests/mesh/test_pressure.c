/* Full mailboxes: callers wait in the order in which they came, also while the agent moves, falls
 * asleep or its host is killed; each is applied once; who waits too long, or goes away, leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"
#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

#define MAILBOX 8
#define MANY    300
#define SLOW    (LIMIT_COMMITS_PER_AGENT + 3 * MAILBOX) /* more than may be on their way to a disk */

static struct mesh *open_mesh(uint64_t seed, size_t hosts)
{
    struct mesh *m = mesh_new(seed, hosts);
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_limits(m, i, (struct node_limits){.mailbox = MAILBOX});
    }
    mesh_start_all(m);
    return m;
}

static struct mesh_call *add(struct mesh *m, size_t via, const char *id, int number, bool tell)
{
    return mesh_ask(m, via, "send",
                    "{'agent': '%s', 'method': 'add', 'args': {'number': %d}, 'key': 'k%d', "
                    "'tell': %s}",
                    id, number, number, tell ? "true" : "false");
}

static int64_t queued(struct mesh *m, const char *id)
{
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "show", "{'agent': '%s'}", id);
    int64_t n = gw_map_int(gw_map_get(&v, "mailbox"), "queued", 0);
    gw_value_free(&v);
    return n;
}

/* Numbers in the log: all, once; with `ordered` as they were sent. */
static void expect_all(struct mesh *m, const char *id, bool ordered)
{
    bool seen[MANY] = {0};
    gw_value v = gw_nil();
    size_t count = 0;
    mesh_must(m, 0, &v, "send", "{'agent': '%s', 'method': 'history'}", id);
    const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
    for (size_t i = 0; i < log->list.n; i++) {
        const char *line = log->list.items[i].s.p;
        if (line[0] == '#') {
            size_t number = strtoull(line + 1, NULL, 10);
            assert_true(number < MANY && !seen[number]);
            assert_true(!ordered || number == count);
            seen[number] = true;
            count++;
        }
    }
    assert_int_equal(count, MANY);
    gw_value_free(&v);
}

static void test_all_get_their_turn_in_order(void **state)
{
    (void)state;
    for (int tell = 0; tell < 2; tell++) {
        struct mesh *m = open_mesh(21, 1);
        struct mesh_call *open[MANY];
        char id[GW_ID_TEXT];
        int64_t most = 0;
        gw_id agent = mesh_create(m, 0, "tally");
        gw_id_text(&agent, id);
        for (int i = 0; i < MANY; i++) {
            open[i] = add(m, 0, id, i, tell);
        }
        for (int i = 0; i < 30; i++) {
            int64_t now = queued(m, id);
            most = now > most ? now : most;
        }
        assert_in_range(most, tell ? 0 : 1, MAILBOX);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(mesh_wait(m, open[i], 30000), GW_OK);
            mesh_call_free(open[i]);
        }
        mesh_run(m, 3000);
        expect_all(m, id, true);
        mesh_free(m);
    }
}

/* While it moves there and back, over two hosts; then with a host killed in between. */
static void test_across_moves(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct mesh *m = open_mesh(seed, 2);
        struct mesh_call *open[MANY];
        char id[GW_ID_TEXT];
        gw_id agent = mesh_create(m, 0, "tally");
        gw_id_text(&agent, id);
        for (int i = 0; i < MANY; i++) {
            open[i] = add(m, mesh_random(m, 2), id, i, i % 3 == 0);
        }
        for (size_t i = 0; i < 4; i++) {
            mesh_run(m, (int64_t)mesh_random(m, 8));
            (void)mesh_move(m, 0, &agent, (i + 1) % 2);
        }
        if (seed > 6) {
            mesh_crash(m, seed % 2);
            mesh_run(m, 500);
            mesh_start_all(m);
        }
        for (int i = 0; i < MANY; i++) {
            for (int tries = 0; mesh_wait(m, open[i], 60000) != GW_OK; tries++) {
                assert_true(seed > 6 && tries < 20); /* only a crash may have cost the answer */
                mesh_call_free(open[i]);
                open[i] = add(m, 0, id, i, i % 3 == 0);
            }
            mesh_call_free(open[i]);
        }
        mesh_heal(m);
        mesh_run(m, 5000);
        expect_all(m, id, false);
        mesh_expect_whole(m);
        mesh_free(m);
    }
}

static commit_fate slow(void *arg, size_t host)
{
    bool *on = arg;
    (void)host;
    return *on ? COMMIT_SLOW : COMMIT_PASS;
}

static void test_time_over(void **state)
{
    (void)state;
    struct mesh *m = open_mesh(4, 1);
    struct mesh_call *open[SLOW];
    char id[GW_ID_TEXT];
    bool on = false;
    size_t busy = 0;
    gw_id agent = mesh_create(m, 0, "tally");
    gw_id_text(&agent, id);
    mesh_on_commit(m, slow, &on);
    on = true; /* each commit takes 5 s */
    for (int i = 0; i < SLOW; i++) {
        open[i] = mesh_ask(m, 0, "send",
                           "{'agent': '%s', 'method': 'add', 'args': {'number': %d}, 'timeout': "
                           "1000}",
                           id, i);
    }
    mesh_run(m, 2000);
    for (int i = 0; i < SLOW; i++) {
        if (open[i]->done && open[i]->err == GW_EBUSY) {
            assert_non_null(strstr(open[i]->why.text, "stayed full"));
            busy++;
        }
    }
    on = false;
    assert_in_range(busy, 1, SLOW - 1);
    for (int i = 0; i < SLOW; i++) {
        (void)mesh_wait(m, open[i], 60000);
        mesh_call_free(open[i]);
    }
    mesh_heal(m);
    assert_true(mesh_count(m, 0, &agent) <= SLOW - (int64_t)busy);
    mesh_free(m);
}

/* A host that stops tells those who wait. */
static void test_stop(void **state)
{
    (void)state;
    struct mesh *m = open_mesh(9, 1);
    struct mesh_call *open[MANY];
    char id[GW_ID_TEXT];
    size_t refused = 0;
    gw_id agent = mesh_create(m, 0, "tally");
    gw_id_text(&agent, id);
    for (int i = 0; i < MANY; i++) {
        open[i] = add(m, 0, id, i, false);
    }
    mesh_stop(m, 0);
    for (int i = 0; i < MANY; i++) {
        assert_true(open[i]->done);
        refused += open[i]->err == GW_ESTOPPING;
        mesh_call_free(open[i]);
    }
    assert_true(refused > MANY / 2);
    mesh_start_all(m);
    assert_int_equal(mesh_count(m, 0, &agent), (int64_t)(MANY - refused));
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_get_their_turn_in_order),
        cmocka_unit_test(test_across_moves),
        cmocka_unit_test(test_time_over),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
