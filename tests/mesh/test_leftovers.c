/* Rows that nothing needs any more, when a full disk keeps them from being deleted: they go later,
 * and what is left becomes part of nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/mesh/actor.h"

static const store_table own_tables[] = {TABLE_AGENTS, TABLE_STATES,  TABLE_INBOX,
                                         TABLE_OUTBOX, TABLE_STREAMS, TABLE_REQUESTS};

static size_t rows_of_all(struct mesh *m, size_t host)
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof own_tables / sizeof own_tables[0]; i++) {
        n += actor_rows(m, host, own_tables[i]);
    }
    return n;
}

/* Each commit of one host in turn, and all that follow within a second, are rolled back. */
struct full {
    struct mesh *m;
    size_t host, at, seen;
};

static commit_fate fill(void *arg, size_t host)
{
    struct full *f = arg;
    if (host == f->host && f->seen++ == f->at) {
        mesh_fill_disk(f->m, host, 700);
        return COMMIT_FAIL;
    }
    return COMMIT_PASS;
}

/* A move there, also when it is refused: nothing of it stays behind at either host. */
static bool move_once(size_t host, size_t at)
{
    struct full f = {actor_mesh(100 + at, 2), host, at, 0};
    gw_id id = mesh_create(f.m, 0, "actor");
    actor_must(f.m, 0, &id, "add", "{'by': 2}");
    mesh_on_commit(f.m, fill, &f);
    (void)mesh_move(f.m, 0, &id, 1);
    mesh_run(f.m, 8000);
    bool fired = f.seen > at;
    mesh_on_commit(f.m, NULL, NULL);
    for (int i = 0; mesh_where(f.m, &id, NULL) != 1; i++) {
        assert_true(i < 20);
        (void)mesh_move(f.m, 0, &id, 1);
        mesh_run(f.m, 1000);
    }
    mesh_run(f.m, 3000);
    assert_int_equal(rows_of_all(f.m, 0), 0);
    assert_int_equal(actor_rows(f.m, 1, TABLE_AGENTS), 1);
    assert_int_equal(mesh_count(f.m, 0, &id), 2);
    mesh_heal(f.m);
    mesh_expect_whole(f.m);
    mesh_free(f.m);
    return fired;
}

static void test_moves(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        size_t at = 0;
        while (move_once(host, at)) {
            at++;
        }
        assert_true(at >= 2);
    }
}

/* A message that was delivered: its row leaves the outbox although the disk was full then. */
static void test_delivered(void **state)
{
    (void)state;
    struct full f = {actor_mesh(7, 2), 0, 1, 0};
    gw_id from = mesh_create(f.m, 0, "actor"), to = mesh_create(f.m, 1, "actor");
    mesh_on_commit(f.m, fill,
                   &f); /* the first is that of the handler, the second deletes the row */
    assert_int_equal(actor_relay(f.m, 0, &from, &to, 5, "k"), GW_OK);
    mesh_run(f.m, 500);
    assert_int_equal(actor_rows(f.m, 0, TABLE_OUTBOX), 1);
    mesh_run(f.m, 5000);
    assert_int_equal(actor_rows(f.m, 0, TABLE_OUTBOX), 0);
    assert_int_equal(actor_lines(f.m, 0, &to, "#5"), 1);
    mesh_heal(f.m);
    mesh_expect_whole(f.m);
    mesh_free(f.m);
}

/* What was staged stays when it is dropped, since the disk is full; what is staged next under the
 * same epoch has nothing of it, neither its messages nor its parts. */
static mesh_fate lose_receipts(void *arg, size_t from, size_t to, const struct frame *frame)
{
    (void)from, (void)to;
    return *(bool *)arg && frame->kind == FRAME_RECEIPT ? FATE_LOSE : FATE_PASS;
}

static void test_staged_again(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(9, 2);
    char text[GW_ID_TEXT];
    bool losing = true;
    gw_id id = mesh_create(m, 0, "tally"), from = mesh_create(m, 0, "tally");
    actor_must(m, 0, &id, "load", "{'bytes': 70000}");
    (void)gw_id_text(&id, text);
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}", text);
    assert_int_equal(actor_relay(m, 0, &from, &id, 1, "k"), GW_OK); /* waits in its inbox */
    mesh_run(m, 1000);
    mesh_on_frame(m, lose_receipts, &losing);
    struct mesh_call *move = mesh_ask(m, 1, "dispatch", "{'agent': '%s', 'to': 'h1'}", text);
    mesh_run(m, 3000);
    assert_int_equal(actor_rows(m, 1, TABLE_INBOX), 1);
    mesh_fill_disk(m, 1, 90000);
    for (int i = 0; i < 90 && !move->done; i++) {
        mesh_run(m, 1000);
    }
    assert_true(move->done && move->err != GW_OK);
    mesh_call_free(move);
    losing = false;
    mesh_must(m, 0, NULL, "activate", "{'agent': '%s'}", text);
    mesh_run(m, 1000);
    assert_int_equal(mesh_count(m, 0, &id), 1); /* has run here */
    mesh_fill_disk(m, 1, 0);
    gw_err err = GW_EFAIL;
    for (int i = 0; i < 1000 && err != GW_OK; i++) {
        err = mesh_move(m, 0, &id, 1);
        mesh_run(m, 10);
    }
    assert_int_equal(err, GW_OK);
    mesh_run(m, 5000);
    assert_int_equal(actor_rows(m, 1, TABLE_INBOX), 0);
    assert_int_equal(mesh_count(m, 0, &id), 1); /* once */
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_delivered),
        cmocka_unit_test(test_staged_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
