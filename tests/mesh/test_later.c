/* Answers by another handler than the one that was asked: each caller has one answer, wherever the
 * agent goes meanwhile, and whatever crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include "protocol/limits.h"
#include "tests/mesh/actor.h"

/* ---- the type ---- */

struct debt {
    int64_t number;
    gw_id token;
};
static const struct gw_field debt_fields[] = {
    GW_FIELD(struct debt, number),
    GW_FIELD(struct debt, token),
};
struct clerk {
    int64_t asked;
    struct {
        struct debt *items;
        size_t len;
    } debts;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct clerk, asked),
    GW_LIST(struct clerk, debts, debt_fields),
};

static gw_err want(struct gw_call *call)
{
    struct clerk *c = gw_state(call);
    struct debt *items = realloc(c->debts.items, (c->debts.len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    c->debts.items = items;
    struct debt *d = &items[c->debts.len++];
    d->number = gw_arg_int(call, "number");
    GW_TRY(gw_add(&c->asked, 1));
    return gw_reply_later(call, &d->token);
}

static gw_err pay(struct gw_call *call, int64_t number, int64_t got, bool keep)
{
    struct clerk *c = gw_state(call);
    for (size_t i = 0; i < c->debts.len; i++) {
        gw_id token = c->debts.items[i].token;
        gw_value reply = gw_nil();
        if (c->debts.items[i].number != number) {
            continue;
        }
        if (!keep) {
            c->debts.items[i] = c->debts.items[--c->debts.len];
        }
        if (got < 0) {
            return gw_answer_fail(call, token, GW_EREFUSED, "no %lld today", (long long)number);
        }
        GW_TRY(gw_map_set(&reply, "got", gw_int(got)));
        return gw_answer(call, token, reply);
    }
    return gw_call_fail(call, GW_ENOT_FOUND, "nobody wants %lld", (long long)number);
}

static gw_err give(struct gw_call *call)
{
    return pay(call, gw_arg_int(call, "number"), gw_arg_int(call, "got"),
               gw_arg_bool(call, "keep"));
}

static gw_err give_twice(struct gw_call *call)
{
    GW_TRY(pay(call, gw_arg_int(call, "number"), 1, true));
    return pay(call, gw_arg_int(call, "number"), 2, false);
}

static gw_err guess(struct gw_call *call)
{
    return gw_answer(call, gw_arg_id(call, "token"), gw_nil());
}

static gw_err asked(struct gw_call *call)
{
    const struct clerk *c = gw_state(call);
    GW_TRY(gw_reply_int(call, "debts", (int64_t)c->debts.len));
    return gw_reply_int(call, "asked", c->asked);
}

static gw_err on_timer(struct gw_call *call)
{
    const gw_value *number = gw_arg_value(call, "number");
    return pay(call, number ? number->i : -1, 7, false);
}

static gw_err soon(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "number", gw_int(gw_arg_int(call, "number"))));
    GW_TRY(gw_timer(call, "soon", gw_arg_int(call, "after"), args));
    return want(call);
}

static const struct gw_method methods[] = {
    {"want(number: int) -> (got: int)", want},
    {"give(number: int, got: int, keep: bool = false)", give},
    {"give_twice(number: int)", give_twice},
    {"guess(token: agent)", guess},
    {"asked() -> (asked: int, debts: int)", asked, GW_READ},
    {"soon(number: int, after: duration) -> (got: int)", soon},
};
static const struct gw_type clerk_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "clerk",
    .version = 1,
    .state_size = sizeof(struct clerk),
    GW_FIELDS(fields),
    GW_METHODS(methods),
    .on_timer = on_timer,
};

/* ---- the stage ---- */

struct desk {
    struct mesh *m;
    gw_id agent;
    char id[GW_ID_TEXT];
};

static void desk_open(struct desk *d, uint64_t seed, size_t hosts)
{
    static const struct gw_type *const types[] = {&clerk_type};
    d->m = mesh_new(seed, hosts);
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_types(d->m, i, types, 1);
    }
    mesh_start_all(d->m);
    d->agent = mesh_create(d->m, 0, "clerk");
    gw_id_text(&d->agent, d->id);
}

static struct mesh_call *ask(struct desk *d, size_t via, int number, const char *key)
{
    if (!key) {
        return mesh_ask(d->m, via, "send",
                        "{'agent': '%s', 'method': 'want', 'args': {'number': %d}}", d->id, number);
    }
    return mesh_ask(d->m, via, "send",
                    "{'agent': '%s', 'method': 'want', 'args': {'number': %d}, 'key': '%s'}", d->id,
                    number, key);
}

static gw_err send(struct desk *d, size_t via, const char *method, const char *args)
{
    return mesh_op(d->m, via, NULL, "send", "{'agent': '%s', 'method': '%s', 'args': %s}", d->id,
                   method, args);
}

static void must(struct desk *d, size_t via, const char *method, const char *args)
{
    gw_err err = send(d, via, method, args);
    if (err != GW_OK) {
        mesh_fail(d->m, "%s %s: %s", method, args, gw_err_name(err));
    }
}

/* It has not been answered so far; and is now, with this. */
static void expect_open(struct desk *d, struct mesh_call *c)
{
    if (c->done) {
        mesh_fail(d->m, "answered before: %s %s", gw_err_name(c->err), c->why.text);
    }
}

static void expect_got(struct desk *d, struct mesh_call *c, int64_t got)
{
    gw_err err = mesh_wait(d->m, c, 60000);
    int64_t is = gw_map_int(gw_map_get(&c->value, "reply"), "got", -1);
    if (err != GW_OK || is != got) {
        mesh_fail(d->m, "not %lld but %lld, %s %s", (long long)got, (long long)is, gw_err_name(err),
                  c->why.text);
    }
    mesh_call_free(c);
}

static void expect_failed(struct desk *d, struct mesh_call *c, gw_err want_err)
{
    gw_err err = mesh_wait(d->m, c, 120000);
    if (err != want_err) {
        mesh_fail(d->m, "%s, not %s", gw_err_name(err), gw_err_name(want_err));
    }
    mesh_call_free(c);
}

static int64_t number_of(struct desk *d, const char *what)
{
    gw_value v = gw_nil();
    mesh_must(d->m, 0, &v, "send", "{'agent': '%s', 'method': 'asked'}", d->id);
    int64_t n = gw_map_int(gw_map_get(&v, "reply"), what, -1);
    gw_value_free(&v);
    return n;
}

/* Of `show`: how many are owed, and how many callers wait at the agent's host. */
static size_t owed(struct desk *d, int64_t *ret_callers)
{
    gw_value v = gw_nil();
    mesh_must(d->m, 0, &v, "show", "{'agent': '%s'}", d->id);
    const gw_value *list = gw_map_get(&v, "owed");
    size_t n = list->list.n;
    *ret_callers = 0;
    for (size_t i = 0; i < n; i++) {
        *ret_callers += gw_map_int(&list->list.items[i], "callers", 0);
    }
    gw_value_free(&v);
    return n;
}

/* ---- tests ---- */

static void test_answers(void **state)
{
    (void)state;
    struct desk d;
    int64_t callers;
    desk_open(&d, 1, 2);
    struct mesh_call *a = ask(&d, 0, 1, "one"), *b = ask(&d, 1, 2, NULL), *c = ask(&d, 0, 3, NULL);
    mesh_run(d.m, 1000);
    struct mesh_call *again = ask(&d, 1, 1, "one"); /* the same request waits with it */
    mesh_run(d.m, 1000);
    expect_open(&d, a);
    expect_open(&d, again);
    assert_int_equal(number_of(&d, "asked"), 3);
    assert_int_equal(owed(&d, &callers), 3);
    assert_int_equal(callers, 4);
    must(&d, 0, "give", "{'number': 1, 'got': 10}");
    expect_got(&d, a, 10);
    expect_got(&d, again, 10);
    expect_open(&d, b);
    must(&d, 1, "give", "{'number': 2, 'got': 20}");
    expect_got(&d, b, 20);
    must(&d, 1, "give", "{'number': 3, 'got': -1}");
    assert_int_equal(mesh_wait(d.m, c, 1000), GW_EREFUSED);
    assert_string_equal(c->why.text, "no 3 today");
    mesh_call_free(c);
    expect_got(&d, ask(&d, 1, 1, "one"), 10); /* recorded */
    assert_int_equal(owed(&d, &callers), 0);
    assert_int_equal(number_of(&d, "asked"), 3);
    struct mesh_call *timer =
        mesh_ask(d.m, 1, "send",
                 "{'agent': '%s', 'method': 'soon', 'args': {'number': 4, 'after': 5000}}", d.id);
    expect_got(&d, timer, 7); /* a hook may answer, too */
    mesh_free(d.m);
}

static void test_mistakes(void **state)
{
    (void)state;
    struct desk d;
    gw_value v = gw_nil();
    int64_t callers;
    desk_open(&d, 2, 1);
    struct mesh_call *a = ask(&d, 0, 1, "one");
    mesh_run(d.m, 100);
    assert_int_equal(send(&d, 0, "give_twice", "{'number': 1}"), GW_ECONFLICT);
    expect_open(&d, a); /* nothing of that handler has happened */
    assert_int_equal(number_of(&d, "debts"), 1);
    must(&d, 0, "give", "{'number': 1, 'got': 5, 'keep': true}");
    expect_got(&d, a, 5);
    assert_int_equal(send(&d, 0, "give", "{'number': 1, 'got': 6}"), GW_ECONFLICT);
    expect_got(&d, ask(&d, 0, 1, "one"), 5);
    mesh_must(d.m, 0, &v, "send", "{'agent': '%s', 'method': 'guess', 'args': {'token': '%s'}}",
              d.id, d.id);
    gw_value_free(&v);
    assert_int_equal(actor_events(d.m, 0, "answer.lost"), 1);
    /* told, not asked: nobody waits, and nothing is owed */
    mesh_must(d.m, 0, NULL, "send",
              "{'agent': '%s', 'method': 'want', 'args': {'number': 2}, 'tell': true}", d.id);
    mesh_run(d.m, 100);
    assert_int_equal(owed(&d, &callers), 0);
    must(&d, 0, "give", "{'number': 2, 'got': 1}");
    assert_int_equal(actor_events(d.m, 0, "answer.lost"), 1);
    mesh_free(d.m);
}

static void test_sleep(void **state)
{
    (void)state;
    struct desk d;
    int64_t callers;
    desk_open(&d, 3, 2);
    struct mesh_call *a = ask(&d, 0, 1, "one"), *b = ask(&d, 1, 2, NULL);
    mesh_run(d.m, 100);
    mesh_must(d.m, 0, NULL, "deactivate", "{'agent': '%s'}", d.id);
    mesh_run(d.m, 1000);
    assert_int_equal(owed(&d, &callers), 2); /* listed without waking it */
    assert_int_equal(callers, 2);
    expect_open(&d, a);
    struct mesh_call *again = ask(&d, 0, 1, "one");
    mesh_run(d.m, 1000);
    expect_open(&d, again);
    must(&d, 1, "give", "{'number': 1, 'got': 3}");
    mesh_must(d.m, 0, NULL, "deactivate", "{'agent': '%s'}", d.id);
    must(&d, 1, "give", "{'number': 2, 'got': 4}");
    expect_got(&d, a, 3);
    expect_got(&d, again, 3);
    expect_got(&d, b, 4);
    mesh_free(d.m);
}

/* Callers at the source, at the destination, and at a third host; awake and asleep. */
static void test_moves(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 16; seed++) {
        struct desk d;
        int64_t callers;
        desk_open(&d, seed, 3);
        struct mesh_call *calls[4];
        for (int i = 0; i < 4; i++) {
            calls[i] = ask(&d, (size_t)i % 3, i, i == 3 ? NULL : i == 0 ? "zero" : "other");
            mesh_run(d.m, 50);
        }
        if (seed % 2) {
            mesh_must(d.m, 0, NULL, "deactivate", "{'agent': '%s'}", d.id);
        }
        for (size_t to = 1; to < 4; to++) {
            assert_int_equal(mesh_move(d.m, 0, &d.agent, to % 3), GW_OK);
            mesh_run(d.m, mesh_random(d.m, 2) ? 500 : 0);
            assert_int_equal(owed(&d, &callers), 3); /* 1 and 2 have one key: one request */
        }
        mesh_run(d.m, 30000); /* longer than one answer between hosts is waited for */
        assert_int_equal(owed(&d, &callers), 3);
        assert_int_equal(callers, 4);
        assert_int_equal(mesh_move(d.m, 0, &d.agent, 1 + seed % 2), GW_OK);
        for (int i = 0; i < 4; i++) {
            expect_open(&d, calls[i]);
        }
        must(&d, 2, "give", "{'number': 0, 'got': 100}");
        must(&d, 2, "give", "{'number': 1, 'got': 101}");
        must(&d, 2, "give", "{'number': 3, 'got': 103}");
        expect_got(&d, calls[0], 100);
        expect_got(&d, calls[1], 101);
        expect_got(&d, calls[2], 101);
        expect_got(&d, calls[3], 103);
        assert_int_equal(number_of(&d, "asked"), 3);
        mesh_free(d.m);
    }
}

static void test_waits_and_limits_of_time(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, 20, 2);
    struct mesh_call *calls[2], *limited[2];
    for (size_t via = 0; via < 2; via++) {
        calls[via] = ask(&d, via, (int)via, NULL);
        limited[via] = mesh_ask(
            d.m, via, "send",
            "{'agent': '%s', 'method': 'want', 'args': {'number': 9}, 'timeout': 50000}", d.id);
    }
    mesh_run(d.m, 45000);
    for (size_t via = 0; via < 2; via++) {
        expect_open(&d, limited[via]);
    }
    mesh_run(d.m, 30000);
    for (size_t via = 0; via < 2; via++) {
        mesh_assert(d.m, limited[via]->done);
        expect_failed(&d, limited[via], GW_ETIMEOUT);
    }
    mesh_run(d.m, 600000); /* nobody has said for how long */
    for (size_t via = 0; via < 2; via++) {
        char args[64];
        expect_open(&d, calls[via]);
        (void)snprintf(args, sizeof args, "{'number': %zu, 'got': 1}", via);
        must(&d, 0, "give", args);
        expect_got(&d, calls[via], 1);
    }
    mesh_free(d.m);
}

/* A host that is lost while callers wait: of the agent, of a caller. */
static void test_lost_hosts(void **state)
{
    (void)state;
    for (int64_t waited_ms = 100; waited_ms < 100000; waited_ms *= 30) {
        struct desk d;
        desk_open(&d, 30, 3);
        struct mesh_call *here = ask(&d, 0, 0, "here"), *there = ask(&d, 1, 1, NULL);
        mesh_run(d.m, waited_ms);
        mesh_crash(d.m, 0);
        expect_failed(&d, here, GW_EUNREACHABLE); /* its connection */
        mesh_run(d.m, 1000);
        mesh_start(d.m, 0);
        mesh_run(d.m, 6000);
        here = ask(&d, 2, 0, "here");
        mesh_run(d.m, 500);
        expect_open(&d, there);
        expect_open(&d, here);
        mesh_crash(d.m, 1);
        expect_failed(&d, there, GW_EUNREACHABLE);
        must(&d, 0, "give", "{'number': 1, 'got': 1}"); /* nobody hears it, nobody minds */
        must(&d, 0, "give", "{'number': 0, 'got': 2}");
        expect_got(&d, here, 2);
        assert_int_equal(number_of(&d, "asked"), 2);
        mesh_free(d.m);
    }
}

static void test_ends(void **state)
{
    (void)state;
    struct desk d;
    desk_open(&d, 40, 2);
    struct mesh_call *a = ask(&d, 0, 0, NULL), *b = ask(&d, 1, 1, NULL);
    mesh_run(d.m, 1000);
    mesh_expect_disposed(d.m, &d.agent);
    mesh_must(d.m, 1, NULL, "dispose", "{'agent': '%s'}", d.id);
    expect_failed(&d, a, GW_EDISPOSED);
    expect_failed(&d, b, GW_EDISPOSED);
    d.agent = mesh_create(d.m, 0, "clerk");
    gw_id_text(&d.agent, d.id);
    a = ask(&d, 0, 0, NULL);
    b = ask(&d, 0, 1, "gone");
    mesh_run(d.m, 100);
    mesh_call_free(b); /* its caller goes away */
    mesh_run(d.m, 100);
    struct mesh_call *far = ask(&d, 1, 2, NULL);
    mesh_run(d.m, 100);
    mesh_stop(d.m, 0);
    expect_failed(&d, a, GW_ESTOPPING);
    mesh_start(d.m, 0);
    mesh_run(d.m, 3000);
    b = ask(&d, 1, 1, "gone");
    mesh_run(d.m, 1000);
    must(&d, 1, "give", "{'number': 1, 'got': 8}");
    expect_got(&d, b, 8);
    expect_open(&d, far); /* its host has asked again when the other one was back */
    must(&d, 1, "give", "{'number': 2, 'got': 9}");
    expect_got(&d, far, 9);
    mesh_free(d.m);
}

static void test_limits(void **state)
{
    (void)state;
    struct desk d;
    int64_t callers;
    struct mesh_call *calls[LIMIT_OWED_PER_AGENT];
    desk_open(&d, 50, 1);
    for (int i = 0; i < LIMIT_OWED_PER_AGENT; i++) {
        calls[i] = ask(&d, 0, i, NULL);
    }
    mesh_run(d.m, 1000);
    expect_failed(&d, ask(&d, 0, 9999, "one more"), GW_EBUSY);
    for (int i = 0; i < LIMIT_REQUESTS_PER_AGENT + 10;
         i++) { /* they do not make room for answers */
        char key[20];
        (void)snprintf(key, sizeof key, "n%d", i);
        assert_int_equal(mesh_op(d.m, 0, NULL, "send",
                                 "{'agent': '%s', 'method': 'asked', 'key': '%s'}", d.id, key),
                         GW_OK);
    }
    must(&d, 0, "give", "{'number': 0, 'got': 1}");
    expect_got(&d, calls[0], 1);
    assert_int_equal(owed(&d, &callers), LIMIT_OWED_PER_AGENT - 1);
    mesh_set_clock(d.m, 0, LIMIT_REQUEST_AGE_MS + 1000); /* a day later */
    mesh_run(d.m, 2000);
    calls[0] = ask(&d, 0, 5000, "fresh");
    mesh_run(d.m, 1000);
    /* the newest records stay whatever the clock says, one of them the answer of before */
    assert_int_equal(owed(&d, &callers), LIMIT_REQUESTS_KEPT - 1);
    must(&d, 0, "give", "{'number': 7, 'got': 1}");
    assert_int_equal(actor_events(d.m, 0, "answer.lost"), 1);
    must(&d, 0, "give", "{'number': 5000, 'got': 2}");
    expect_got(&d, calls[0], 2);
    for (int i = 1; i < LIMIT_OWED_PER_AGENT; i++) {
        mesh_call_free(calls[i]);
    }
    mesh_free(d.m);
}

/* The clock of the host that it moves to is years ahead: who is owed an answer stays so, and a
 * repeat of his request is no second one. */
static void test_other_clock(void **state)
{
    (void)state;
    struct desk d;
    int64_t callers;
    desk_open(&d, 60, 2);
    mesh_set_clock(d.m, 1, 3000LL * 24 * 3600 * 1000);
    struct mesh_call *first = ask(&d, 0, 1, "k");
    mesh_run(d.m, 1000);
    assert_int_equal(mesh_move(d.m, 0, &d.agent, 1), GW_OK);
    struct mesh_call *second = ask(&d, 0, 2, "l");
    mesh_run(d.m, 1000);
    assert_int_equal(owed(&d, &callers), 2);
    mesh_call_free(first);
    first = ask(&d, 1, 1, "k");
    mesh_run(d.m, 1000);
    must(&d, 0, "give", "{'number': 1, 'got': 4}");
    must(&d, 0, "give", "{'number': 2, 'got': 5}");
    expect_got(&d, first, 4);
    expect_got(&d, second, 5);
    assert_int_equal(number_of(&d, "asked"), 2);
    mesh_free(d.m);
}

/* ---- crashes at each commit ---- */

struct crash {
    size_t host, at, seen;
    commit_fate fate;
    bool armed;
};

static commit_fate on_commit(void *arg, size_t host)
{
    struct crash *c = arg;
    return c->armed && host == c->host && c->seen++ == c->at ? c->fate : COMMIT_PASS;
}

static void start_the_dead(struct desk *d)
{
    for (size_t i = 0; i < 3; i++) {
        if (!mesh_alive(d->m, i)) {
            mesh_start(d->m, i);
            mesh_run(d->m, 2000);
        }
    }
}

/* Both sides as clients that keep their keys, until the answer is there. */
static int64_t persist(struct desk *d)
{
    for (size_t round = 0; round < 40; round++) {
        gw_value v = gw_nil();
        start_the_dead(d);
        (void)mesh_op(d->m, 1 + round % 2, NULL, "send",
                      "{'agent': '%s', 'method': 'give', 'args': {'number': 1, 'got': 77}, "
                      "'key': 'giving', 'timeout': 4000}",
                      d->id);
        start_the_dead(d);
        gw_err err = mesh_op(d->m, 1 + round % 2, &v, "send",
                             "{'agent': '%s', 'method': 'want', 'args': {'number': 1}, "
                             "'key': 'the one', 'timeout': 1000}",
                             d->id);
        int64_t got = gw_map_int(gw_map_get(&v, "reply"), "got", -1);
        gw_value_free(&v);
        if (err == GW_OK) {
            return got;
        }
    }
    mesh_fail(d->m, "it is never answered");
}

static void one_story(size_t host, size_t at, commit_fate fate, bool *ret_fired)
{
    struct desk d;
    struct crash c = {.host = host, .at = at, .fate = fate};
    desk_open(&d, 60 + at, 3);
    mesh_on_commit(d.m, on_commit, &c);
    c.armed = true;
    struct mesh_call *call = ask(&d, 2, 1, "the one");
    mesh_run(d.m, 100);
    struct mesh_call *move = mesh_ask(d.m, 2, "dispatch", "{'agent': '%s', 'to': 'h1'}", d.id);
    mesh_run(d.m, 400);
    assert_int_equal(persist(&d), 77);
    mesh_heal(d.m);
    assert_int_equal(persist(&d), 77);
    assert_int_equal(number_of(&d, "asked"), 1);
    assert_int_equal(number_of(&d, "debts"), 0);
    if (call->done && call->err == GW_OK) {
        assert_int_equal(gw_map_int(gw_map_get(&call->value, "reply"), "got", -1), 77);
    }
    mesh_call_free(call);
    mesh_call_free(move);
    *ret_fired = c.seen > at;
    mesh_free(d.m);
}

static void test_crashes(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t f = 0; f < sizeof fates / sizeof fates[0]; f++) {
        for (size_t host = 0; host < 2; host++) {
            bool fired = true;
            for (size_t at = 0; fired && at < 30; at++) {
                one_story(host, at, fates[f], &fired);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_waits_and_limits_of_time),
        cmocka_unit_test(test_lost_hosts),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_other_clock),
        cmocka_unit_test(test_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
