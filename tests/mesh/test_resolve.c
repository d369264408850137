/* Moves in doubt, and what an operator may do about them: `moves resolve` at either side, refused
 * when somebody reachable knows better; and two copies that meet afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/scene.h"

struct losing {
    uint32_t kind; /* frames of this kind are lost while `on` */
    bool on;
    size_t lost;
};
static mesh_fate lose(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct losing *l = arg;
    if (l->on && frame->kind == l->kind && from < 2 && to < 2) {
        l->lost++;
        return FATE_LOSE;
    }
    return FATE_PASS;
}

/* A move h0 to h1 of which no frame of `kind` arrives. */
static void doubt(struct scene *s, struct losing *l, uint64_t seed, uint32_t kind)
{
    scene_open(s, seed, 3);
    *l = (struct losing){.kind = kind, .on = true};
    mesh_on_frame(s->m, lose, l);
    scene_dispatch(s, 0, 1);
    mesh_run(s->m, 1000);
    mesh_assert(s->m, l->lost > 0);
}

/* The ticket of the only move at a host. */
static const char *ticket_at(struct mesh *m, size_t host)
{
    static char text[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "moves", "{}");
    const gw_value *moves = gw_map_get(&v, "moves");
    mesh_assert(m, moves && moves->kind == GW_LIST && moves->list.n == 1);
    (void)snprintf(text, sizeof text, "%s", gw_map_str(&moves->list.items[0], "ticket", ""));
    gw_value_free(&v);
    return text;
}

static bool in_doubt_at(struct mesh *m, size_t host)
{
    gw_value v = gw_nil();
    mesh_must(m, host, &v, "moves", "{}");
    const gw_value *moves = gw_map_get(&v, "moves");
    bool yes = moves && moves->kind == GW_LIST && moves->list.n == 1 &&
               gw_map_bool(&moves->list.items[0], "in_doubt", false);
    gw_value_free(&v);
    return yes;
}

static gw_err resolve(struct mesh *m, size_t host, const char *ticket, bool destroyed)
{
    return mesh_op(m, host, NULL, "resolve", "{'ticket': '%s', 'source_destroyed': %s}", ticket,
                   destroyed ? "true" : "false");
}

static void expect_at(struct scene *s, size_t host, uint64_t least_epoch)
{
    uint64_t epoch = 0;
    mesh_assert(s->m, mesh_where(s->m, &s->agent, &epoch) == host);
    mesh_assert(s->m, epoch >= least_epoch);
    mesh_assert(s->m, mesh_count(s->m, host, &s->agent) == s->adds);
}

static void finish(struct scene *s, size_t host)
{
    mesh_heal(s->m);
    mesh_expect_whole(s->m);
    mesh_assert(s->m, mesh_where(s->m, &s->agent, NULL) == host);
    mesh_assert(s->m, mesh_count(s->m, 2, &s->agent) == s->adds);
    assert_int_equal(mesh_move(s->m, 0, &s->agent, 2), GW_OK);
    scene_add(s);
    mesh_assert(s->m, mesh_count(s->m, 0, &s->agent) == s->adds);
    for (size_t i = 0; i < 3; i++) {
        mesh_crash(s->m, i);
    }
    mesh_heal(s->m);
    mesh_expect_whole(s->m);
    mesh_assert(s->m, mesh_where(s->m, &s->agent, NULL) == 2);
    scene_close(s);
}

/* The destination is gone after the commit: the source shows it and takes the agent back. */
static void test_taken_back_at_the_source(void **state)
{
    (void)state;
    for (int returns = 0; returns < 2; returns++) {
        struct scene s;
        struct losing l;
        doubt(&s, &l, 81, FRAME_COMMIT);
        const char *ticket = ticket_at(s.m, 0);
        assert_int_equal(resolve(s.m, 0, ticket, false), GW_EREFUSED); /* it is reachable */
        assert_int_equal(resolve(s.m, 1, ticket, true), GW_EREFUSED);
        mesh_crash(s.m, 1);
        mesh_run(s.m, 30000);
        assert_true(in_doubt_at(s.m, 0));
        assert_int_equal(resolve(s.m, 0, "01JD8Z5MESHMESHMESHMESHMES", false), GW_ENOT_FOUND);
        assert_int_equal(resolve(s.m, 0, ticket, false), GW_OK);
        expect_at(&s, 0, 3);
        assert_int_equal(node_moves_count(mesh_node(s.m, 0)), 0);
        if (returns) { /* staged there still: its QUERY is told that the ticket is dead */
            mesh_start_all(s.m);
            mesh_run(s.m, 20000);
            mesh_assert(s.m, mesh_copies(s.m, &s.agent) == 1);
        }
        mesh_crash(s.m, 0); /* the word of the operator is durable */
        mesh_start(s.m, 0);
        mesh_run(s.m, 3000);
        expect_at(&s, 0, 3);
        finish(&s, 0);
    }
}

/* Who has asked for the move is told, and who has called the agent meanwhile is served. */
static void test_callers_of_one_that_is_taken_back(void **state)
{
    (void)state;
    struct scene s;
    struct losing l = {.kind = FRAME_COMMIT, .on = true};
    scene_open(&s, 87, 3);
    mesh_on_frame(s.m, lose, &l);
    scene_dispatch(&s, 0, 1);
    struct mesh_call *call = mesh_ask(
        s.m, 0, "send", "{'agent': '%s', 'method': 'add', 'args': {'by': 1}, 'key': 'x'}", s.id);
    mesh_run(s.m, 1000);
    mesh_assert(s.m, l.lost > 0 && !call->done && !s.call->done);
    const char *ticket = ticket_at(s.m, 0);
    mesh_crash(s.m, 1);
    mesh_run(s.m, 5000);
    assert_int_equal(resolve(s.m, 0, ticket, false), GW_OK);
    assert_int_equal(mesh_wait(s.m, call, 5000), GW_OK);
    s.adds++;
    assert_int_equal(mesh_wait(s.m, s.call, 5000), GW_ECONFLICT);
    mesh_call_free(call);
    expect_at(&s, 0, 3);
    finish(&s, 0);
}

static mesh_fate lose_any(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct losing *l = arg;
    (void)from, (void)to;
    l->lost += l->on && frame->kind == l->kind;
    return l->on && frame->kind == l->kind ? FATE_LOSE : FATE_PASS;
}

/* A third host, the home, has sent a message after the agent, and the source has told it where that
 * has gone: that is no word of anybody else. */
static void test_own_word_does_not_count(void **state)
{
    (void)state;
    struct scene s;
    struct losing l = {.kind = FRAME_COMMIT};
    scene_open(&s, 86, 3);
    mesh_on_frame(s.m, lose_any, &l);
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 1), GW_OK);
    l.on = true;
    scene_dispatch(&s, 1, 2);
    mesh_run(s.m, 1000);
    mesh_assert(s.m, l.lost > 0);
    const char *ticket = ticket_at(s.m, 1);
    mesh_crash(s.m, 2);
    mesh_crash(s.m, 1); /* who asks is not parked there any more */
    mesh_start(s.m, 1);
    mesh_run(s.m, 1000);
    (void)mesh_op(s.m, 0, NULL, "send", "{'agent': '%s', 'method': 'get', 'timeout': 2000}", s.id);
    mesh_run(s.m, 30000);
    assert_true(in_doubt_at(s.m, 1));
    assert_int_equal(resolve(s.m, 1, ticket, false), GW_OK);
    expect_at(&s, 1, 5);
    l.on = false;
    finish(&s, 1);
}

struct slow {
    size_t host;
    size_t left; /* commits that are slow */
};
static commit_fate slow_commit(void *arg, size_t host)
{
    struct slow *s = arg;
    return s->host == host && s->left > 0 && s->left-- ? COMMIT_SLOW : COMMIT_PASS;
}

/* An operator who asks twice, and the other side that comes back, while the first word is being
 * written: it counts once, and nobody acts on the move meanwhile. */
static void test_asked_twice_while_it_is_written(void **state)
{
    (void)state;
    for (size_t at = 0; at < 2; at++) {
        struct scene s;
        struct losing l;
        doubt(&s, &l, 87 + at, FRAME_COMMIT);
        size_t other = 1 - at;
        const char *ticket = ticket_at(s.m, at), *destroyed = at ? "true" : "false";
        struct slow slow = {at, 1};
        if (at == 1) {
            mesh_excuse(s.m, &s.agent); /* the source is not destroyed */
        }
        mesh_crash(s.m, other);
        mesh_run(s.m, 30000);
        mesh_on_commit(s.m, slow_commit, &slow);
        struct mesh_call *calls[3];
        for (size_t i = 0; i < 3; i++) {
            calls[i] = mesh_ask(s.m, at, "resolve", "{'ticket': '%s', 'source_destroyed': %s}",
                                ticket, destroyed);
            if (i == 1) {
                mesh_run(s.m, 500);
                l.on = false;
                mesh_start(s.m, other);
                mesh_run(s.m, 3000);
            }
        }
        size_t done = 0;
        for (size_t i = 0; i < 3; i++) {
            gw_err err = mesh_wait(s.m, calls[i], 10000);
            mesh_assert(s.m, err == GW_OK || err == GW_ECONFLICT || err == GW_ENOT_FOUND);
            done += err == GW_OK;
            mesh_call_free(calls[i]);
        }
        assert_int_equal(done, 1);
        mesh_run(s.m, 20000);
        mesh_assert(s.m, mesh_copies(s.m, &s.agent) == 1);
        finish(&s, at);
    }
}

/* The destination has lost its disk between receipt and COMMIT: it must not say COMMITTED for what
 * it never staged (H5); the source keeps the state, shows the doubt, and takes the agent back at
 * the operator's word. */
static void test_destination_lost_its_disk(void **state)
{
    (void)state;
    struct scene s;
    struct losing l;
    doubt(&s, &l, 85, FRAME_COMMIT);
    const char *ticket = ticket_at(s.m, 0);
    mesh_crash(s.m, 1);
    mesh_wipe(s.m, 1);
    l.on = false;
    mesh_start_all(s.m);
    mesh_run(s.m, 30000);
    mesh_assert(s.m, node_moves_count(mesh_node(s.m, 0)) == 1);
    assert_true(in_doubt_at(s.m, 0));
    assert_int_equal(resolve(s.m, 0, ticket, false), GW_OK);
    expect_at(&s, 0, 3);
    finish(&s, 0);
}

/* The destination had activated it, and comes back: the lower epoch gives way. */
static void test_two_copies_meet(void **state)
{
    (void)state;
    struct scene s;
    struct losing l;
    doubt(&s, &l, 82, FRAME_COMMITTED);
    mesh_assert(s.m, mesh_where(s.m, &s.agent, NULL) == 1);
    mesh_crash(s.m, 1);
    mesh_crash(s.m, 0); /* it forgets what it has only heard */
    mesh_start(s.m, 0);
    mesh_run(s.m, 10000);
    mesh_excuse(s.m, &s.agent);
    gw_err err = resolve(s.m, 0, ticket_at(s.m, 0), false);
    if (err == GW_EREFUSED) { /* it knows better, which is as good */
        finish(&s, 1);
        return;
    }
    assert_int_equal(err, GW_OK);
    expect_at(&s, 0, 3);
    mesh_start_all(s.m);
    finish(&s, 0);
}

/* The host whose copy gives way has a full disk when the two meet: the copy stays quarantined over
 * a restart, although nobody is there then who could say so again. */
static void test_full_disk_where_they_meet(void **state)
{
    (void)state;
    struct scene s;
    struct losing l;
    gw_value v = gw_nil();
    doubt(&s, &l, 86, FRAME_COMMITTED);
    mesh_assert(s.m, mesh_where(s.m, &s.agent, NULL) == 1);
    mesh_crash(s.m, 1);
    mesh_crash(s.m, 0);
    mesh_start(s.m, 0);
    mesh_run(s.m, 10000);
    mesh_excuse(s.m, &s.agent);
    assert_int_equal(resolve(s.m, 0, ticket_at(s.m, 0), false), GW_OK);
    mesh_part(s.m, 0, 1, true);
    mesh_part(s.m, 1, 2, true);
    mesh_start(s.m, 1);
    mesh_run(s.m, 5000);
    mesh_fill_disk(s.m, 1, 60000);
    mesh_part(s.m, 0, 1, false);
    mesh_run(s.m, 70000);
    mesh_part(s.m, 0, 1, true);
    mesh_crash(s.m, 1);
    mesh_start(s.m, 1);
    mesh_run(s.m, 5000);
    mesh_must(s.m, 1, &v, "show", "{'agent': '%s'}", s.id);
    assert_string_equal(gw_map_str(&v, "status", ""), "quarantined");
    gw_value_free(&v);
    mesh_on_frame(s.m, NULL, NULL);
    finish(&s, 0);
}

/* Refused when a third host has seen it beyond this move. */
static void test_refused_when_somebody_knows(void **state)
{
    (void)state;
    struct scene s;
    struct losing l;
    doubt(&s, &l, 83, FRAME_COMMITTED);
    assert_int_equal(mesh_move(s.m, 1, &s.agent, 2), GW_OK); /* it moved on */
    mesh_crash(s.m, 1);
    mesh_run(s.m, 20000);
    assert_int_equal(resolve(s.m, 0, ticket_at(s.m, 0), false), GW_EREFUSED);
    mesh_crash(s.m, 0);
    mesh_start(s.m, 0);
    mesh_run(s.m, 10000);
    assert_int_equal(resolve(s.m, 0, ticket_at(s.m, 0), false), GW_EREFUSED);
    mesh_on_frame(s.m, NULL, NULL);
    mesh_heal(s.m);
    mesh_expect_whole(s.m);
    mesh_assert(s.m, mesh_where(s.m, &s.agent, NULL) == 2);
    scene_verify(&s);
    scene_close(&s);
}

/* The source is gone for ever, the agent staged: activated at an epoch that the source never gives.
 */
static void test_activated_at_the_destination(void **state)
{
    (void)state;
    for (int committed = 0; committed < 2; committed++) {
        for (int returns = 0; returns < 2; returns++) {
            struct scene s;
            struct losing l;
            doubt(&s, &l, 84, committed ? FRAME_COMMIT : FRAME_RECEIPT);
            const char *ticket = ticket_at(s.m, 1);
            mesh_crash(s.m, 0);
            mesh_run(s.m, 30000);
            assert_true(in_doubt_at(s.m, 1));
            assert_int_equal(resolve(s.m, 1, ticket, false), GW_EREFUSED);
            mesh_excuse(s.m, &s.agent);
            assert_int_equal(resolve(s.m, 1, ticket, true), GW_OK);
            expect_at(&s, 1, 3);
            mesh_on_frame(s.m, NULL, NULL);
            if (returns) { /* departed: it hears COMMITTED; still the owner: the lower epoch gives
                              way */
                mesh_start_all(s.m);
                mesh_run(s.m, 20000);
            }
            finish(&s, 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_back_at_the_source),
        cmocka_unit_test(test_callers_of_one_that_is_taken_back),
        cmocka_unit_test(test_own_word_does_not_count),
        cmocka_unit_test(test_asked_twice_while_it_is_written),
        cmocka_unit_test(test_destination_lost_its_disk),
        cmocka_unit_test(test_refused_when_somebody_knows),
        cmocka_unit_test(test_activated_at_the_destination),
        cmocka_unit_test(test_two_copies_meet),
        cmocka_unit_test(test_full_disk_where_they_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
