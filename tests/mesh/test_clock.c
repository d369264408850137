/* The wall clock of a host is set by ten years, ahead and back, in the middle of everything: what
 * was applied stays applied once, agents move, sleep and wake. (Timers: test_timers.c.) And one
 * thing that has no end of its own either: hosts that name each other as the place of an agent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/internal.h"
#include "protocol/frame.h"
#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

#define DAYS_2_MS   (2LL * 24 * 3600 * 1000)
#define YEARS_10_MS (10LL * 365 * 24 * 3600 * 1000)

static int64_t add(struct mesh *m, size_t via, const gw_id *agent, const char *key)
{
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, via, &v, "send", "{'agent': '%s', 'method': 'add', 'key': '%s'}",
              gw_id_text(agent, id), key);
    int64_t count = gw_map_int(gw_map_get(&v, "reply"), "count", -1);
    gw_value_free(&v);
    return count;
}

static void create(struct mesh *m, size_t host, const char *key, char ret[GW_ID_TEXT])
{
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "create", "{'type': 'tally', 'key': '%s'}", key);
    (void)snprintf(ret, GW_ID_TEXT, "%s", gw_map_str(&v, "agent", ""));
    gw_value_free(&v);
}

static void lead_a_life(struct mesh *m, const gw_id *agent, int round)
{
    char key[32], id[GW_ID_TEXT];
    gw_id_text(agent, id);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(key, sizeof key, "life-%d-%d", round, i);
        (void)add(m, (size_t)i % 2, agent, key);
    }
    assert_int_equal(mesh_move(m, 0, agent, (size_t)(round + 1) % 2), GW_OK);
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", id);
    mesh_run(m, 3000);
    (void)snprintf(key, sizeof key, "life-%d-woken", round);
    (void)add(m, 0, agent, key);
}

static void test_repeats_are_known_after_a_jump(void **state)
{
    (void)state;
    static const int64_t jumps[] = {YEARS_10_MS, -YEARS_10_MS, -YEARS_10_MS, 2 * YEARS_10_MS};
    struct mesh *m = mesh_new(5, 2);
    char made[GW_ID_TEXT], again[GW_ID_TEXT];
    mesh_start_all(m);
    gw_id agent = mesh_create(m, 0, "tally");
    assert_int_equal(add(m, 0, &agent, "first"), 1);
    create(m, 1, "made", made);
    for (int i = 0; i < 4; i++) {
        mesh_set_clock(m, 0, jumps[i]);
        mesh_set_clock(m, 1, jumps[i]);
        mesh_run(m, 3000);
        lead_a_life(m, &agent, i);
        assert_int_equal(add(m, 0, &agent, "first"), 1); /* the answer of then */
        assert_int_equal(add(m, 1, &agent, "first"), 1);
        create(m, 1, "made", again);
        assert_string_equal(again, made);
        mesh_crash(m, (size_t)i % 2);
        mesh_start_all(m);
        assert_int_equal(add(m, 0, &agent, "first"), 1);
        create(m, 1, "made", again);
        assert_string_equal(again, made);
    }
    assert_int_equal(mesh_count(m, 0, &agent), 1 + 4 * 6);
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

/* --- hosts that send a call round and round --- */

static size_t calls;

static mesh_fate count_calls(void *arg, size_t from, size_t to, const struct frame *frame)
{
    (void)arg, (void)from, (void)to;
    calls += frame->kind == FRAME_CALL;
    return FATE_PASS;
}

/* `from` says that it holds the agent at this epoch. */
static void claim(struct mesh *m, size_t from, size_t to, const gw_id *agent, uint64_t epoch)
{
    struct buf frame = {0};
    struct host_id self = mesh_host_id(m, from);
    size_t at = frame_begin(&frame, FRAME_LOCATE, 0, 1);
    mp_array(&frame, 1);
    mp_array(&frame, 4);
    mp_id(&frame, agent);
    mp_uint(&frame, epoch);
    mp_bin(&frame, self.b, sizeof self.b);
    mp_bool(&frame, false);
    frame_end(&frame, at);
    mesh_inject(m, from, to, &frame);
    buf_free(&frame);
}

static void test_redirects_end(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(11, 4);
    char id[GW_ID_TEXT];
    mesh_start_all(m);
    gw_id agent = mesh_create(m, 3, "tally"); /* an id that none of the others holds */
    gw_id_text(&agent, id);
    mesh_must(m, 3, NULL, "dispose", "{'agent': '%s'}", id);
    mesh_expect_disposed(m, &agent);
    mesh_run(m, 1000);
    /* h1 believes h2, h2 believes h1, each a little more than what the other says. */
    for (uint64_t epoch = 100; epoch < 160; epoch += 2) {
        claim(m, 2, 1, &agent, epoch);
        claim(m, 1, 2, &agent, epoch + 1);
        claim(m, 1, 0, &agent, epoch);
        mesh_run(m, 20);
    }
    mesh_on_frame(m, count_calls, NULL);
    calls = 0;
    gw_err err =
        mesh_op(m, 0, NULL, "send", "{'agent': '%s', 'method': 'add', 'timeout': 20000}", id);
    assert_int_not_equal(err, GW_OK);
    assert_int_not_equal(err, GW_ETIMEOUT);
    print_message("%zu calls went round, then %s\n", calls, gw_err_name(err));
    assert_true(calls <= 40);
    mesh_free(m);
}

/* After a day the request keys of create are forgotten, on disk too, but for the newest ones. */
static void test_old_keys_are_forgotten(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(6, 1);
    char first[GW_ID_TEXT] = "", made[GW_ID_TEXT] = "", again[GW_ID_TEXT], key[32];
    mesh_start_all(m);
    for (int i = 0; i < LIMIT_CREATED_KEPT + 10; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        create(m, 0, key, i == 0 ? first : made);
        if (i < LIMIT_CREATED_KEPT) { /* the mesh looks at each that lives, all the time */
            gw_id id;
            assert_int_equal(gw_id_parse(i == 0 ? first : made, &id), GW_OK);
            mesh_expect_disposed(m, &id);
            mesh_must(m, 0, NULL, "dispose", "{'agent': '%s'}", i == 0 ? first : made);
        }
    }
    mesh_set_clock(m, 0, DAYS_2_MS);
    for (int life = 0; life < 2; life++) {
        mesh_run(m, 5000);
        assert_int_equal(HASH_COUNT(mesh_node(m, 0)->created), LIMIT_CREATED_KEPT);
        mesh_crash(m, 0);
        mesh_start_all(m);
    }
    create(m, 0, key, again);
    assert_string_equal(again, made);
    create(m, 0, "key-0", again);
    assert_string_not_equal(again, first);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repeats_are_known_after_a_jump),
        cmocka_unit_test(test_redirects_end),
        cmocka_unit_test(test_old_keys_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
