/* An operator kills what an agent does: it ends for good, what ran beside it in the same runner is
 * begun again and nobody of its callers is told, and each is applied once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

static struct mesh_call *add(struct mesh *m, const char *id, const char *key, bool tell)
{
    return mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add', 'key': '%s', 'tell': %s}", id,
                    key, tell ? "true" : "false");
}

/* Kill what it does as soon as it does something. */
static void kill_first(struct mesh *m, const char *id)
{
    for (int steps = 0; steps < 100000; steps++) {
        struct mesh_call *call = mesh_ask(m, 0, "kill", "{'agent': '%s'}", id);
        bool killed = call->done && call->err == GW_OK;
        assert_true(call->done);
        mesh_call_free(call);
        if (killed) {
            return;
        }
        assert_true(mesh_step(m));
    }
    mesh_fail(m, "it never does anything");
}

/* Kill in each microsecond of a run: before it, in it, behind it. */
static void test_kill_at_every_moment(void **state)
{
    (void)state;
    size_t killed = 0;
    for (int64_t us = 0; us < 600; us += 15) {
        struct mesh *m = mesh_new(7 + (uint64_t)us, 1);
        char a[GW_ID_TEXT], b[GW_ID_TEXT], c[GW_ID_TEXT];
        mesh_start_all(m);
        gw_id ids[3] = {mesh_create(m, 0, "tally"), mesh_create(m, 0, "tally"),
                        mesh_create(m, 0, "tally")};
        gw_id_text(&ids[0], a);
        gw_id_text(&ids[1], b);
        gw_id_text(&ids[2], c);
        struct mesh_call *guilty = add(m, a, "k", false), *beside = add(m, b, "k", false);
        struct mesh_call *told = add(m, c, "k", true);
        for (int64_t until = mesh_now_us(m) + us; mesh_now_us(m) < until && mesh_step(m);) {
        }
        gw_err err = mesh_op(m, 0, NULL, "kill", "{'agent': '%s'}", a);
        assert_true(err == GW_OK || err == GW_EREFUSED);
        killed += err == GW_OK;
        assert_int_equal(mesh_wait(m, guilty, 10000), err == GW_OK ? GW_ECRASHED : GW_OK);
        assert_int_equal(mesh_wait(m, beside, 10000), GW_OK);
        assert_int_equal(mesh_wait(m, told, 10000), GW_OK);
        mesh_run(m, 1000);
        assert_int_equal(mesh_count(m, 0, &ids[0]), err == GW_OK ? 0 : 1);
        assert_int_equal(mesh_count(m, 0, &ids[1]), 1);
        assert_int_equal(mesh_count(m, 0, &ids[2]), 1);
        mesh_call_free(guilty);
        mesh_call_free(beside);
        mesh_call_free(told);
        mesh_free(m);
    }
    assert_true(killed > 5);
}

/* A one-way message that is killed becomes a dead letter at once; the runner starts at once, again
 * and again, for it is not to blame. */
static void test_killed_tells(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(3, 1);
    char id[GW_ID_TEXT];
    mesh_start_all(m);
    gw_id agent = mesh_create(m, 0, "tally");
    gw_id_text(&agent, id);
    for (int i = 0; i < 6; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "t%d", i);
        mesh_call_free(add(m, id, key, true));
        kill_first(m, id);
        mesh_run(m, 50); /* it is back by then: no back-off */
        assert_int_equal(mesh_count(m, 0, &agent), 0);
    }
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "dead", "{}");
    assert_int_equal(gw_map_get(&v, "letters")->list.n, 6);
    gw_value_free(&v);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_at_every_moment),
        cmocka_unit_test(test_killed_tells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
