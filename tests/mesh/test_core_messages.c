/* Messages between agents and calls on their way: once and in order (I4), nothing acknowledged that
 * is not durable (I5, H6), streams that go on behind a message that was given up, circles of asks,
 * names that mean two agents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/base/log.h"
#include "protocol/value.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/trap.h"

#define TELLS 5

static bool is_tell(const struct frame *f)
{
    struct mp m = f->rest;
    char op[LIMIT_NAME_BYTES + 1];
    return f->kind == FRAME_REPLY ||
           (f->kind == FRAME_CALL && mp_read_text(&m, op, sizeof op) == GW_OK &&
            strcmp(op, "accept") == 0);
}

static void relay_surely(struct mesh *m, const gw_id *from, const gw_id *to, int number)
{
    char key[32];
    (void)snprintf(key, sizeof key, "relay-%d", number);
    for (size_t i = 0; i < 60; i++) {
        if (actor_relay(m, i % 2 ? 2 : 0, from, to, number, key) == GW_OK) {
            return;
        }
        mesh_run(m, 500);
    }
    mesh_fail(m, "relay %d is never acknowledged", number);
}

static void expect_in_order(struct mesh *m, const gw_id *to, int n)
{
    const char *at = actor_history(m, 2, to);
    for (int i = 0; i < n; i++) {
        char want[16];
        (void)snprintf(want, sizeof want, "#%d", i);
        const char *next = strchr(at, '#');
        if (!next || strncmp(next, want, strlen(want)) != 0) {
            mesh_fail(m, "I4: \"%s\" instead of %s", next ? next : "nothing", want);
        }
        at = next + strlen(want);
    }
    if (strchr(at, '#')) {
        mesh_fail(m, "I4: one too many: %s", at);
    }
}

/* Five tells from an agent of h0 to one of h1. */
static bool tell_with(struct trap *t, uint64_t seed)
{
    struct mesh *m = actor_mesh(seed, 3);
    gw_id from = mesh_create(m, 0, "actor"), to = mesh_create(m, 1, "actor");
    trap_arm(t, m);
    for (int i = 0; i < TELLS; i++) {
        relay_surely(m, &from, &to, i);
    }
    mesh_run(m, 60000);
    bool fired = t->fired;
    mesh_heal(m);
    mesh_run(m, 30000);
    expect_in_order(m, &to, TELLS);
    assert_int_equal(mesh_count(m, 0, &to), TELLS);
    mesh_expect_whole(m);
    mesh_free(m);
    return fired;
}

static void test_tells_with_a_crash_at_each_commit(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        for (int after = 0; after < 2; after++) {
            struct trap t = {.host = host,
                             .fate = after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE};
            while (tell_with(&t, 71 + t.k)) {
                t.k++;
            }
            assert_true(t.k >= 2 * TELLS);
        }
    }
}

static void test_tells_with_each_commit_rolled_back(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        struct trap t = {.host = host, .fate = COMMIT_FAIL};
        while (tell_with(&t, 72)) {
            t.k++;
        }
        assert_true(t.k >= 2 * TELLS);
    }
}

static void test_tells_with_each_frame_harmed(void **state)
{
    (void)state;
    static const mesh_fate fates[] = {FATE_LOSE, FATE_TWICE, FATE_LATE, FATE_CUT, FATE_CUT_AFTER};
    for (size_t i = 0; i < sizeof fates / sizeof fates[0]; i++) {
        struct trap t = {.frames = is_tell, .frame_fate = fates[i]};
        while (tell_with(&t, 73 + i)) {
            t.k++;
        }
        assert_true(t.k >= 2 * TELLS);
    }
}

/* --- acceptance --- */
static gw_id make_id(uint8_t n)
{
    gw_id id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, n}};
    return id;
}

static void test_numbers(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(74, 2);
    struct wire w;
    gw_id to = mesh_create(m, 0, "actor"), sender = make_id(1);
    wire_open(&w, m, 1, 0);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 2, 1, 2)), GW_EGAP);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 1, 1, 1)), GW_OK);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 3, 2, 3)), GW_EGAP);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 2, 2, 2)), GW_OK);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 1, 1, 1)),
                     GW_OK); /* again: not applied */
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 2, 2, 2)), GW_OK);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 7, 7, 7)),
                     GW_OK); /* 3 to 6 were given up */
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 5, 5, 5)),
                     GW_OK); /* too late: below the mark */
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 0, 0, 0)), GW_EPROTO);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, -1, 0, 0)), GW_EPROTO);
    mesh_crash(m, 0);
    mesh_start_all(m); /* the mark is on disk */
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 7, 7, 7)), GW_OK);
    assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 9, 8, 9)), GW_EGAP);
    assert_string_equal(actor_history(m, 1, &to), "create #1 #2 #7");
    mesh_free(m);
}

/* The first acceptance is on its way to the disk when the repeat comes: who is answered is answered
 * truly. */
static void test_nothing_is_acknowledged_before_it_is_durable(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_FAIL};
    for (size_t i = 0; i < 2; i++) {
        struct mesh *m = actor_mesh(75 + i, 2);
        struct wire w;
        gw_id to = mesh_create(m, 0, "actor"), sender = make_id(2);
        gw_err code;
        wire_open(&w, m, 1, 0);
        assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 1, 1, 1)), GW_OK);
        struct trap t = {.host = 0, .fate = fates[i]};
        mesh_run(m, 1000);
        trap_arm(&t, m);
        uint64_t first = wire_accept(&w, &to, &sender, 2, 2, 2);
        uint64_t again = wire_accept(&w, &to, &sender, 2, 2, 2);
        mesh_run(m, 200);
        assert_true(t.fired);
        bool acknowledged = (wire_answered(&w, first, &code) && code == GW_OK) ||
                            (wire_answered(&w, again, &code) && code == GW_OK);
        mesh_crash(m, 0);
        mesh_start_all(m);
        size_t applied = actor_lines(m, 0, &to, "#2");
        if (applied > 1 || (acknowledged && applied == 0)) {
            mesh_fail(m, "H6: acknowledged %d, applied %zu times", acknowledged, applied);
        }
        assert_int_equal(wire_wait(&w, wire_accept(&w, &to, &sender, 2, 2, 2)), GW_OK);
        mesh_run(m, 1000);
        assert_int_equal(actor_lines(m, 0, &to, "#2"), 1);
        mesh_free(m);
    }
}

/* A message to nobody is given up with an event; one to the same id later arrives. */
static void test_a_stream_goes_on_behind_what_was_given_up(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(77, 2);
    struct wire w;
    gw_id from = mesh_create(m, 0, "actor"), to = make_id(3);
    char id[GW_ID_TEXT];
    gw_value args = gw_nil(), context = gw_nil();
    assert_int_equal(actor_relay(m, 0, &from, &to, 0, "r0"), GW_OK);
    assert_int_equal(actor_relay(m, 0, &from, &to, 1, "r1"), GW_OK);
    mesh_run(m, 10000);
    assert_int_equal(actor_events(m, 0, "message.failed"), 2);
    wire_open(&w, m, 1, 0);
    assert_int_equal(gw_map_set(&args, "type", gw_str("actor")), GW_OK);
    assert_int_equal(gw_map_set(&context, "hop", gw_bool(true)), GW_OK);
    assert_int_equal(gw_map_set(&context, "id", gw_str(gw_id_text(&to, id))), GW_OK);
    assert_int_equal(wire_wait(&w, wire_call(&w, "create", args, context)), GW_OK);
    assert_int_equal(actor_relay(m, 0, &from, &to, 2, "r2"), GW_OK);
    mesh_run(m, 10000);
    assert_string_equal(actor_history(m, 0, &to), "create #2");
    mesh_free(m);
}

/* What an agent told before it ended is delivered, also when both hosts go down first. */
static void test_last_will(void **state)
{
    (void)state;
    for (int down = 0; down < 2; down++) {
        struct mesh *m = actor_mesh(78, 2);
        gw_id heir = mesh_create(m, 1, "actor"), a = mesh_create(m, 0, "actor");
        char id[GW_ID_TEXT], args[64];
        (void)snprintf(args, sizeof args, "{'heir': '%s'}", gw_id_text(&heir, id));
        if (down) {
            mesh_crash(m, 1);
        }
        assert_int_equal(actor_relay(m, 0, &a, &heir, 1, "r1"), GW_OK);
        mesh_expect_disposed(m, &a);
        actor_must(m, 0, &a, "finish", args);
        mesh_run(m, 100);
        assert_int_equal(mesh_copies(m, &a), 0);
        if (down) {
            mesh_crash(m, 0);
        }
        mesh_start_all(m);
        mesh_run(m, 30000);
        assert_string_equal(actor_history(m, 0, &heir), "create #1 #99");
        mesh_crash(m, 0);
        mesh_crash(m, 1);
        mesh_start_all(m);
        mesh_run(m, 30000);
        assert_string_equal(actor_history(m, 0, &heir), "create #1 #99");
        mesh_free(m);
    }
}

/* --- a one-way message of a client under a key --- */
static void test_keyed_tell_is_applied_once(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(79, 2);
    gw_id a = mesh_create(m, 1, "actor");
    char id[GW_ID_TEXT];
    gw_id_text(&a, id);
    for (int round = 0; round < 3; round++) {
        struct mesh_call *calls[3];
        for (size_t i = 0; i < 3; i++) {
            calls[i] =
                mesh_ask(m, i % 2, "send",
                         "{'agent': '%s', 'method': 'add', 'args': {'number': 5}, 'tell': true, "
                         "'key': 'once'}",
                         id);
        }
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(mesh_wait(m, calls[i], 60000), GW_OK);
            mesh_call_free(calls[i]);
        }
        if (round == 1) {
            mesh_crash(m, 1);
            mesh_start_all(m);
        }
        mesh_run(m, 1000);
        assert_string_equal(actor_history(m, 0, &a), "create #5");
    }
    mesh_free(m);
}

/* --- asks that wait for each other --- */
static gw_value chain_of(const gw_id *last, size_t n)
{
    gw_value chain = {.kind = GW_LIST}, context = gw_nil();
    for (size_t i = 0; i + 1 < n; i++) {
        gw_id id = make_id((uint8_t)i);
        assert_int_equal(gw_list_add(&chain, (gw_value){.kind = GW_ID, .id = id}), GW_OK);
    }
    assert_int_equal(gw_list_add(&chain, (gw_value){.kind = GW_ID, .id = *last}), GW_OK);
    assert_int_equal(gw_map_set(&context, "hop", gw_bool(true)), GW_OK);
    assert_int_equal(gw_map_set(&context, "chain", chain), GW_OK);
    return context;
}

static gw_err ask_with_chain(struct wire *w, const gw_id *agent, gw_value context, bool tell)
{
    char id[GW_ID_TEXT];
    gw_value args = gw_nil();
    assert_int_equal(gw_map_set(&args, "agent", gw_str(gw_id_text(agent, id))), GW_OK);
    assert_int_equal(gw_map_set(&args, "method", gw_str("add")), GW_OK);
    assert_int_equal(gw_map_set(&args, "tell", gw_bool(tell)), GW_OK);
    return wire_wait(w, wire_call(w, "send", args, context));
}

static void test_chain(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(80, 2);
    struct wire w;
    gw_id a = mesh_create(m, 0, "actor"), other = make_id(200);
    wire_open(&w, m, 1, 0);
    assert_int_equal(ask_with_chain(&w, &a, chain_of(&a, 1), false), GW_EDEADLOCK);
    assert_int_equal(ask_with_chain(&w, &a, chain_of(&a, 3), false), GW_EDEADLOCK);
    assert_int_equal(ask_with_chain(&w, &a, chain_of(&a, 3), true),
                     GW_OK); /* nobody waits for a tell */
    assert_int_equal(ask_with_chain(&w, &a, chain_of(&other, 3), false), GW_OK);
    assert_int_equal(ask_with_chain(&w, &a, chain_of(&other, LIMIT_CHAIN), false), GW_OK);
    assert_int_equal(ask_with_chain(&w, &a, chain_of(&other, LIMIT_CHAIN + 1), false),
                     GW_EDEADLOCK);
    mesh_run(m, 1000);
    assert_int_equal(mesh_count(m, 0, &a), 3);
    mesh_free(m);
}

/* One agent asks another, as their runner would have it. */
static uint64_t ask_of(struct wire *w, const gw_id *asker, const gw_id *agent)
{
    char id[GW_ID_TEXT];
    gw_value args = gw_nil(), context = chain_of(asker, 1);
    assert_int_equal(gw_map_set(&args, "agent", gw_str(gw_id_text(agent, id))), GW_OK);
    assert_int_equal(gw_map_set(&args, "method", gw_str("add")), GW_OK);
    assert_int_equal(gw_map_set(&context, "agent", gw_id_value(asker)), GW_OK);
    return wire_call(w, "send", args, context);
}

/* An agent that has asked several is in the circle by each of them, until that one has answered. */
static void test_circles(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(81, 2);
    struct wire w;
    gw_id a = mesh_create(m, 0, "actor"), b = mesh_create(m, 0, "actor"),
          c = mesh_create(m, 0, "actor"), d = mesh_create(m, 0, "actor");
    wire_open(&w, m, 1, 0);
    for (int round = 0; round < 2; round++) {
        uint64_t ab = ask_of(&w, &a, &b), ac = ask_of(&w, &a, &c), cd = ask_of(&w, &c, &d);
        uint64_t da = ask_of(&w, &d, &a), ba = ask_of(&w, &b, &a), db = ask_of(&w, &d, &b);
        assert_int_equal(wire_wait(&w, da), GW_EDEADLOCK); /* a waits for c, c for d */
        assert_int_equal(wire_wait(&w, ba), GW_EDEADLOCK);
        assert_int_equal(wire_wait(&w, db), GW_OK); /* no circle: b waits for nobody */
        assert_int_equal(wire_wait(&w, ab), GW_OK);
        assert_int_equal(wire_wait(&w, ac), GW_OK);
        assert_int_equal(wire_wait(&w, cd), GW_OK);
        assert_int_equal(wire_wait(&w, ask_of(&w, &d, &a)), GW_OK); /* nobody waits any more */
    }
    mesh_free(m);
}

/* --- names --- */
static void test_alias(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(81, 3);
    gw_value v = gw_nil();
    char id[GW_ID_TEXT];
    mesh_must(m, 0, &v, "create", "{'type': 'actor', 'alias': 'bob'}");
    gw_id bob = actor_id_of(m, &v);
    gw_value_free(&v);
    assert_int_equal(mesh_op(m, 0, NULL, "create", "{'type': 'actor', 'alias': 'bob'}"),
                     GW_EEXISTS);
    assert_int_equal(
        mesh_op(m, 0, NULL, "create", "{'type': 'actor', 'alias': '%s'}", gw_id_text(&bob, id)),
        GW_EARG);
    assert_int_equal(mesh_op(m, 0, NULL, "create", "{'type': 'actor', 'alias': 'no way'}"),
                     GW_EARG);
    assert_int_equal(mesh_op(m, 0, NULL, "create", "{'type': 'actor', 'alias': ''}"), GW_EARG);
    mesh_must(m, 2, NULL, "send", "{'agent': 'bob', 'method': 'add'}"); /* found over the mesh */
    assert_int_equal(mesh_count(m, 0, &bob), 1);
    mesh_must(m, 1, &v, "create", "{'type': 'actor', 'alias': 'bob'}"); /* another host's own */
    gw_id other = actor_id_of(m, &v);
    gw_value_free(&v);
    mesh_must(m, 1, NULL, "send", "{'agent': 'bob', 'method': 'add'}"); /* its own comes first */
    assert_int_equal(mesh_count(m, 0, &other), 1);
    assert_int_equal(mesh_op(m, 2, NULL, "send", "{'agent': 'bob', 'method': 'add'}"),
                     GW_EAMBIGUOUS);
    /* where the name is taken, who comes goes by its id; what was asked for by the name does not
     * reach another */
    assert_int_equal(mesh_move(m, 0, &bob, 1), GW_OK);
    mesh_must(m, 1, NULL, "send", "{'agent': 'bob', 'method': 'add'}");
    assert_int_equal(mesh_count(m, 0, &other), 2);
    assert_int_equal(mesh_count(m, 0, &bob), 1);
    mesh_must(m, 0, NULL, "dispose", "{'agent': '%s'}", gw_id_text(&other, id));
    mesh_must(m, 1, NULL, "create", "{'type': 'actor', 'alias': 'bob'}"); /* free again */
    mesh_free(m);
}

static void test_endings(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(82, 3);
    gw_id a = mesh_create(m, 0, "actor"), b = mesh_create(m, 1, "actor");
    char id[GW_ID_TEXT];
    gw_id_text(&a, id);
    mesh_must(m, 2, NULL, "send", "{'agent': '%s', 'method': 'add'}", id + 20);
    assert_int_equal(mesh_count(m, 2, &a), 1);
    assert_int_equal(mesh_count(m, 2, &b), 0);
    assert_int_equal(mesh_op(m, 2, NULL, "send", "{'agent': '%s', 'method': 'add'}", id + 23),
                     GW_EAGENT_NOT_FOUND);
    assert_int_equal(mesh_op(m, 2, NULL, "send", "{'agent': '', 'method': 'add'}"),
                     GW_EAGENT_NOT_FOUND);
    mesh_free(m);
}

/* A MOVED that names nonsense, and epochs out of range, are not believed. */
static mesh_fate lie(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct wire *w = arg;
    struct buf out = {0}, packed = {0};
    gw_value about = gw_nil();
    char id[HOST_ID_TEXT];
    if (frame->kind != FRAME_REPLY || from != 1 || to != 0) {
        return FATE_PASS;
    }
    struct host_id host = mesh_host_id(w->m, 1);
    gw_assert(gw_map_set(&about, "host_id", gw_str(host_id_text(&host, id))) == GW_OK);
    gw_assert(gw_map_set(&about, "name", gw_str("h1")) == GW_OK);
    gw_assert(gw_map_set(&about, "epoch", gw_int(w->next == 1 ? -5 : INT64_MAX)) == GW_OK);
    value_pack(&about, &packed);
    struct gw_error why;
    gw_fail(&why, GW_EMOVED, "moved");
    frame_reply(&out, frame->stream, GW_EMOVED, buf_span(&packed), &why);
    mesh_on_frame(w->m, NULL, NULL);
    mesh_inject(w->m, 1, 0, &out);
    buf_free(&out);
    buf_free(&packed);
    gw_value_free(&about);
    return FATE_LOSE;
}

static void test_lies_about_places(void **state)
{
    (void)state;
    for (uint64_t kind = 1; kind <= 2; kind++) {
        struct mesh *m = actor_mesh(83, 3);
        struct wire w = {.m = m, .next = kind};
        gw_id a = mesh_create(m, 1, "actor"), nobody = make_id(9);
        char id[GW_ID_TEXT];
        assert_int_equal(actor_send(m, 0, &a, "add", "{}"), GW_OK); /* h0 has heard where it is */
        mesh_on_frame(m, lie, &w);
        assert_int_equal(actor_send(m, 0, &a, "add", "{}"), GW_OK);
        assert_int_equal(mesh_op(m, 0, NULL, "send", "{'agent': '%s', 'method': 'get'}",
                                 gw_id_text(&nobody, id)),
                         GW_EAGENT_NOT_FOUND);
        assert_int_equal(mesh_move(m, 1, &a, 2),
                         GW_OK); /* what was heard does not outweigh what is so */
        assert_int_equal(actor_send(m, 0, &a, "add", "{}"), GW_OK);
        assert_int_equal(mesh_move(m, 0, &a, 0), GW_OK); /* no fence was raised */
        mesh_free(m);
    }
}

/* LOCATE about agents that were never here: heard, not kept. */
static void test_strangers_leave_no_rows(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(84, 2);
    struct host_id host = mesh_host_id(m, 1);
    for (int round = 0; round < 3; round++) {
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_LOCATE, 0, 1);
        mp_array(&frame, 200);
        for (int i = 0; i < 200; i++) {
            gw_id id = make_id((uint8_t)i);
            id.b[15] = (uint8_t)round;
            mp_array(&frame, 4);
            mp_id(&frame, &id);
            mp_uint(&frame, 5);
            mp_bin(&frame, host.b, HOST_ID_BYTES);
            mp_bool(&frame, false);
        }
        frame_end(&frame, at);
        mesh_inject(m, 1, 0, &frame);
        buf_free(&frame);
        mesh_run(m, 100);
    }
    assert_int_equal(actor_rows(m, 0, TABLE_LOCATIONS), 0);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells_with_a_crash_at_each_commit),
        cmocka_unit_test(test_tells_with_each_commit_rolled_back),
        cmocka_unit_test(test_tells_with_each_frame_harmed),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_nothing_is_acknowledged_before_it_is_durable),
        cmocka_unit_test(test_a_stream_goes_on_behind_what_was_given_up),
        cmocka_unit_test(test_last_will),
        cmocka_unit_test(test_keyed_tell_is_applied_once),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_circles),
        cmocka_unit_test(test_alias),
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_lies_about_places),
        cmocka_unit_test(test_strangers_leave_no_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
