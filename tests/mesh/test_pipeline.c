/* Handlers of one agent pipeline: the next begins while the transactions of those before it are on
 * their way to the disk. Attacked here: outputs that leave too early (I5), crashes and roll-backs
 * in the middle, repeats of a request that is being written, what waits for the pipeline to be
 * empty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/internal.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/trap.h"

#define CALLS 12

/* ---- many calls at once, looked at after each event ---- */

struct crowd {
    struct mesh *m;
    gw_id agent;
    struct mesh_call *calls[CALLS];
    bool reads[CALLS], looked[CALLS];
    size_t deepest;
};

/* I5: no answer tells of a state that is not on the disk. */
static bool all_answered(void *arg)
{
    struct crowd *c = arg;
    size_t open = 0;
    if (mesh_alive(c->m, 0)) {
        const struct agent *a = agent_find(mesh_node(c->m, 0), &c->agent);
        if (a && a->live && a->live->committing_count > c->deepest) {
            c->deepest = a->live->committing_count;
        }
    }
    for (size_t i = 0; i < CALLS; i++) {
        if (!c->calls[i] || c->looked[i]) {
            continue;
        }
        if (!c->calls[i]->done) {
            open++;
            continue;
        }
        c->looked[i] = true;
        if (c->calls[i]->err == GW_OK) {
            int64_t told = gw_map_int(gw_map_get(&c->calls[i]->value, "reply"), "count", -1);
            int64_t stored = actor_stored_count(c->m, 0, &c->agent);
            if (told > stored) {
                mesh_fail(c->m, "I5: call %zu tells %lld, %lld is on the disk", i, (long long)told,
                          (long long)stored);
            }
        }
    }
    return open == 0;
}

/* Adds, each third a read, all at once; until every one is answered. */
static void crowd_run(struct crowd *c, bool with_reads)
{
    char id[GW_ID_TEXT];
    gw_id_text(&c->agent, id);
    for (size_t i = 0; i < CALLS; i++) {
        c->reads[i] = with_reads && i % 3 == 2;
        c->looked[i] = false;
        c->calls[i] = c->reads[i]
                          ? mesh_ask(c->m, 0, "send", "{'agent': '%s', 'method': 'get'}", id)
                          : mesh_ask(c->m, 0, "send",
                                     "{'agent': '%s', 'method': 'add', 'key': 'a%zu', "
                                     "'args': {'number': %zu}}",
                                     id, i, i);
    }
    mesh_assert(c->m, mesh_run_until(c->m, all_answered, c, 60000));
}

static void crowd_free(struct crowd *c)
{
    for (size_t i = 0; i < CALLS; i++) {
        mesh_call_free(c->calls[i]);
        c->calls[i] = NULL;
    }
}

/* Each add once, whatever its sender was told: those without an answer are sent again. */
static void expect_each_once(struct crowd *c)
{
    char id[GW_ID_TEXT], line[16];
    int64_t adds = 0;
    for (size_t i = 0; i < CALLS; i++) {
        if (c->reads[i]) {
            continue;
        }
        adds++;
        if (c->calls[i]->err != GW_OK) {
            mesh_must(c->m, 0, NULL, "send",
                      "{'agent': '%s', 'method': 'add', 'key': 'a%zu', 'args': {'number': %zu}}",
                      gw_id_text(&c->agent, id), i, i);
        }
        (void)snprintf(line, sizeof line, "#%zu", i);
        if (actor_lines(c->m, 0, &c->agent, line) != 1) {
            mesh_fail(c->m, "add %zu was not applied once: %s", i,
                      actor_history(c->m, 0, &c->agent));
        }
    }
    assert_int_equal(mesh_count(c->m, 0, &c->agent), adds);
}

static void test_outputs_wait_and_keep_their_order(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(501, 1);
    struct crowd c = {.m = m, .agent = mesh_create(m, 0, "actor")};
    crowd_run(&c, true);
    assert_true(c.deepest > 2);
    int64_t last = 0;
    for (size_t i = 0; i < CALLS; i++) { /* as if one by one: each sees all before it */
        int64_t told = gw_map_int(gw_map_get(&c.calls[i]->value, "reply"), "count", -1);
        assert_int_equal(c.calls[i]->err, GW_OK);
        assert_int_equal(told, last + !c.reads[i]);
        last = told;
    }
    expect_each_once(&c);
    crowd_free(&c);
    mesh_free(m);
}

static bool crowd_with(struct trap *t, uint64_t seed)
{
    struct mesh *m = actor_mesh(seed, 1);
    struct crowd c = {.m = m, .agent = mesh_create(m, 0, "actor")};
    trap_arm(t, m);
    crowd_run(&c, true);
    bool fired = t->fired;
    for (size_t i = 0; i < CALLS; i++) {
        if (t->fate == COMMIT_FAIL) { /* reads are run again; adds fail from the fault on */
            gw_err err = c.calls[i]->err;
            mesh_assert(m, err == GW_OK || (err == GW_EDISK_FULL && !c.reads[i]));
        }
    }
    mesh_heal(m);
    expect_each_once(&c);
    mesh_expect_whole(m);
    crowd_free(&c);
    mesh_free(m);
    return fired;
}

static void test_crash_at_each_commit(void **state)
{
    (void)state;
    for (int after = 0; after < 2; after++) {
        struct trap t = {.fate = after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE};
        while (crowd_with(&t, 510 + t.k)) {
            t.k++;
        }
        assert_int_equal(t.k, CALLS - CALLS / 3);
    }
}

static void test_roll_back_of_each_commit(void **state)
{
    (void)state;
    struct trap t = {.fate = COMMIT_FAIL};
    while (crowd_with(&t, 530 + t.k)) {
        t.k++;
    }
    assert_true(t.k >= CALLS - CALLS / 3);
}

/* The runner ends while results of it are being written: these stand, what ran is told or run
 * again, and goes on from them. */
static void test_runner_ends_in_the_middle(void **state)
{
    (void)state;
    for (size_t delay_us = 100; delay_us < 3000; delay_us += 150) {
        struct mesh *m = actor_mesh(550 + delay_us, 1);
        struct crowd c = {.m = m, .agent = mesh_create(m, 0, "actor")};
        char id[GW_ID_TEXT];
        gw_id_text(&c.agent, id);
        for (size_t i = 0; i < CALLS; i++) {
            c.calls[i] =
                mesh_ask(m, 0, "send", "{'agent': '%s', 'method': '%s', 'key': 'a%zu', 'args': %s}",
                         id, i == 4 ? "crash" : "add", i, i == 4 ? "{}" : "{'by': 1}");
        }
        c.looked[4] = true;
        mesh_assert(m, mesh_run_until(m, all_answered, &c, 60000));
        int64_t answered = 0;
        for (size_t i = 0; i < CALLS; i++) {
            answered += c.calls[i]->err == GW_OK && i != 4;
            mesh_assert(m, c.calls[i]->err == GW_OK || c.calls[i]->err == GW_ECRASHED);
        }
        assert_int_equal(mesh_count(m, 0, &c.agent), answered);
        crowd_free(&c);
        mesh_free(m);
    }
}

/* ---- accepted messages ---- */

/* One-way messages have been answered, so nobody would repeat them: run again, in their order. */
static bool inbox_with(struct trap *t, uint64_t seed)
{
    struct mesh *m = actor_mesh(seed, 1);
    gw_id agent = mesh_create(m, 0, "actor");
    struct mesh_call *calls[CALLS];
    char id[GW_ID_TEXT], want[200] = "create";
    gw_id_text(&agent, id);
    for (size_t i = 0; i < CALLS; i++) {
        calls[i] = mesh_ask(m, 0, "send",
                            "{'agent': '%s', 'method': 'add', 'tell': true, 'key': 't%zu', "
                            "'args': {'number': %zu}}",
                            id, i, i);
        (void)snprintf(want + strlen(want), sizeof want - strlen(want), " #%zu", i);
    }
    trap_arm(t, m);
    mesh_run(m, 20000);
    bool fired = t->fired;
    mesh_heal(m);
    mesh_run(m, 3000);
    for (size_t i = 0; i < CALLS; i++) {
        mesh_assert(m, calls[i]->done);
        if (calls[i]->err != GW_OK) {
            mesh_must(m, 0, NULL, "send",
                      "{'agent': '%s', 'method': 'add', 'tell': true, 'key': 't%zu', "
                      "'args': {'number': %zu}}",
                      id, i, i);
        }
    }
    bool all = true;
    for (size_t i = 0; i < CALLS; i++) {
        all &= calls[i]->err == GW_OK;
        mesh_call_free(calls[i]);
    }
    mesh_run(m, 3000);
    if (all) {
        assert_string_equal(actor_history(m, 0, &agent), want);
    }
    assert_int_equal(mesh_count(m, 0, &agent), CALLS);
    mesh_free(m);
    return fired;
}

static void test_accepted_messages_keep_their_order(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_FAIL, COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER};
    for (size_t f = 0; f < 3; f++) {
        struct trap t = {.fate = fates[f]};
        while (inbox_with(&t, 570 + t.k)) {
            t.k++;
        }
        assert_true(t.k >= 2 * CALLS);
    }
}

/* Tells of handlers that pipeline: each once, however their transactions end. */
static bool tells_with(struct trap *t, uint64_t seed)
{
    struct mesh *m = actor_mesh(seed, 1);
    gw_id from = mesh_create(m, 0, "actor"), to = mesh_create(m, 0, "actor");
    struct mesh_call *calls[6];
    char a[GW_ID_TEXT], b[GW_ID_TEXT], key[16], line[16];
    trap_arm(t, m);
    for (int i = 0; i < 6; i++) {
        calls[i] = mesh_ask(m, 0, "send",
                            "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s', 'number': %d},"
                            " 'text': true, 'key': 'r%d'}",
                            gw_id_text(&from, a), gw_id_text(&to, b), i, i);
    }
    mesh_run(m, 20000);
    bool fired = t->fired;
    mesh_heal(m);
    for (int i = 0; i < 6; i++) {
        (void)snprintf(key, sizeof key, "r%d", i);
        if (calls[i]->err != GW_OK) {
            assert_int_equal(actor_relay(m, 0, &from, &to, i, key), GW_OK);
        }
        mesh_call_free(calls[i]);
    }
    mesh_run(m, 20000);
    for (int i = 0; i < 6; i++) {
        (void)snprintf(line, sizeof line, "#%d", i);
        assert_int_equal(actor_lines(m, 0, &to, line), 1);
    }
    if (t->fate != COMMIT_FAIL) { /* else what was rolled back may be the deletion of a row */
        assert_int_equal(actor_rows(m, 0, TABLE_OUTBOX), 0);
    }
    mesh_free(m);
    return fired;
}

static void test_tells_of_a_pipeline(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_FAIL, COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER};
    for (size_t f = 0; f < 3; f++) {
        struct trap t = {.fate = fates[f]};
        while (tells_with(&t, 590 + t.k)) {
            t.k++;
        }
        assert_true(t.k >= 6);
    }
}

/* ---- a repeat while the first is being written ---- */

static commit_fate slow_or_fail(void *arg, size_t host)
{
    struct trap *t = arg;
    (void)host;
    if (t->fired) {
        return COMMIT_PASS;
    }
    t->fired = true;
    return t->fate;
}

static void test_a_repeat_waits_for_the_first(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_SLOW, COMMIT_FAIL};
    for (size_t f = 0; f < 2; f++) {
        struct mesh *m = actor_mesh(610 + f, 1);
        gw_id agent = mesh_create(m, 0, "actor");
        struct mesh_call *calls[3];
        char id[GW_ID_TEXT];
        struct trap t = {.fate = fates[f]};
        gw_id_text(&agent, id);
        mesh_on_commit(m, slow_or_fail, &t);
        for (size_t i = 0; i < 3; i++) {
            calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add', 'key': 'k'}", id);
        }
        if (fates[f] == COMMIT_SLOW) {
            mesh_run(m, 3000);
            assert_false(calls[0]->done || calls[1]->done || calls[2]->done);
        }
        for (size_t i = 0; i < 3; i++) {
            gw_err err = mesh_wait(m, calls[i], 60000);
            assert_int_equal(err, i == 0 && fates[f] == COMMIT_FAIL ? GW_EDISK_FULL : GW_OK);
            if (err == GW_OK) {
                const gw_value *reply = gw_map_get(&calls[i]->value, "reply");
                assert_int_equal(gw_map_int(reply, "count", -1), 1);
            }
            mesh_call_free(calls[i]);
        }
        assert_int_equal(mesh_count(m, 0, &agent), 1);
        mesh_free(m);
    }
}

/* ---- what needs the agent quiet ---- */

static bool is_there(void *arg)
{
    struct mesh_call *c = arg;
    return c->done;
}

/* Adds on both sides of a dispatch, a nap, a clone and a dispose; crashes and roll-backs at each
 * commit of the source. */
static bool verb_with(struct trap *t, uint64_t seed, const char *op, const char *args)
{
    struct mesh *m = actor_mesh(seed, 2);
    struct crowd c = {.m = m, .agent = mesh_create(m, 0, "actor")};
    char id[GW_ID_TEXT];
    gw_id_text(&c.agent, id);
    trap_arm(t, m);
    struct mesh_call *verb = NULL;
    for (size_t i = 0; i < CALLS; i++) {
        if (i == CALLS / 2) {
            mesh_run(m, 1); /* some are durable, some on their way, some wait */
            verb = mesh_ask(m, 0, op, "{'agent': '%s'%s}", id, args);
        }
        c.calls[i] = mesh_ask(
            m, 0, "send",
            "{'agent': '%s', 'method': 'add', 'key': 'a%zu', 'args': {'number': %zu}}", id, i, i);
    }
    mesh_assert(m, mesh_run_until(m, is_there, verb, 60000));
    mesh_run(m, 20000);
    bool fired = t->fired;
    mesh_heal(m);
    expect_each_once(&c);
    mesh_expect_whole(m);
    mesh_call_free(verb);
    crowd_free(&c);
    mesh_free(m);
    return fired;
}

static void test_verbs_in_the_middle(void **state)
{
    (void)state;
    static const struct {
        const char *op, *args;
    } verbs[] = {{"dispatch", ", 'to': 'h1'"}, {"deactivate", ""}, {"clone", ""}};
    static const commit_fate fates[] = {COMMIT_FAIL, COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER};
    for (size_t v = 0; v < 3; v++) {
        for (size_t f = 0; f < 3; f++) {
            struct trap t = {.fate = fates[f]};
            while (verb_with(&t, 630 + t.k, verbs[v].op, verbs[v].args)) {
                t.k++;
            }
            assert_true(t.k >= 4); /* some are applied at the destination */
        }
    }
}

/* What a handler wishes is done before the next message, also when messages come without end. */
static void test_a_wish_in_the_middle(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_PASS, COMMIT_FAIL, COMMIT_CRASH_AFTER};
    for (size_t f = 0; f < 3; f++) {
        for (size_t k = 0; k < 8; k++) {
            struct mesh *m = actor_mesh(660 + k, 2);
            gw_id agent = mesh_create(m, 0, "actor");
            struct mesh_call *calls[CALLS];
            char id[GW_ID_TEXT];
            struct trap t = {.fate = fates[f], .k = k};
            gw_id_text(&agent, id);
            trap_arm(&t, m);
            for (size_t i = 0; i < CALLS; i++) {
                calls[i] =
                    i == 4 ? mesh_ask(m, 0, "send",
                                      "{'agent': '%s', 'method': 'tour', 'key': 'tour', 'args': "
                                      "{'stops': ['h1']}}",
                                      id)
                           : mesh_ask(m, 0, "send",
                                      "{'agent': '%s', 'method': 'add', 'key': 'a%zu', 'args': "
                                      "{'number': %zu}}",
                                      id, i, i);
            }
            mesh_run(m, 30000);
            mesh_heal(m);
            if (f == 0) {
                assert_string_equal(actor_history(m, 0, &agent),
                                    "create #0 #1 #2 #3 leave arrive #5 #6 #7 #8 #9 #10 #11");
            }
            bool toured = calls[4]->err == GW_OK;
            for (size_t i = 0; i < CALLS; i++) {
                mesh_call_free(calls[i]);
            }
            if (toured && fates[f] != COMMIT_FAIL) { /* a departure that is rolled back fails */
                assert_int_equal(mesh_where(m, &agent, NULL), 1);
            }
            mesh_expect_whole(m);
            mesh_free(m);
        }
    }
}

struct asked {
    struct op_call call;
    bool answered;
    gw_err err;
};

static void on_answer(struct op_call *call, gw_err err, gw_value *result,
                      const struct gw_error *why)
{
    struct asked *a = call->door;
    (void)why;
    a->answered = true;
    a->err = err;
    if (result) {
        gw_value_free(result);
    }
}

/* What a handler asks others while it runs has seen the transactions before it: it waits for them,
 * and is refused when they are rolled back. */
static void test_calls_of_handlers_wait(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_SLOW, COMMIT_FAIL};
    for (size_t f = 0; f < 2; f++) {
        struct mesh *m = actor_mesh(680 + f, 1);
        gw_id asker = mesh_create(m, 0, "actor");
        struct trap t = {.fate = fates[f]};
        struct asked asked = {.call = {.op = op_find("agents"), .answer = on_answer}};
        char id[GW_ID_TEXT];
        gw_id_text(&asker, id);
        asked.call.door = &asked;
        mesh_on_commit(m, slow_or_fail, &t);
        struct mesh_call *add = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", id);
        const struct agent *a = agent_find(mesh_node(m, 0), &asker);
        while (!a->live || a->live->committing_count == 0) {
            mesh_assert(m, mesh_step(m));
        }
        assert_int_equal(gw_map_set(&asked.call.context, "agent", gw_id_value(&asker)), GW_OK);
        node_call(mesh_node(m, 0), &asked.call);
        mesh_run(m, 3000);
        assert_int_equal(asked.answered, fates[f] == COMMIT_FAIL);
        mesh_run(m, 5000);
        assert_true(asked.answered && add->done);
        assert_int_equal(asked.err, fates[f] == COMMIT_FAIL ? GW_EDISK_FULL : GW_OK);
        gw_value_free(&asked.call.context);
        mesh_call_free(add);
        mesh_free(m);
    }
}

/* ---- bounds ---- */

static void test_depth_is_bounded(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(690, 1);
    struct crowd c = {.m = m, .agent = mesh_create(m, 0, "actor")};
    struct trap t = {.fate = COMMIT_SLOW};
    char id[GW_ID_TEXT];
    enum { MANY = LIMIT_COMMITS_PER_AGENT + 50 };
    struct mesh_call **calls = calloc(MANY, sizeof(struct mesh_call *));
    assert_non_null(calls);
    gw_id_text(&c.agent, id);
    mesh_on_commit(m, slow_or_fail, &t);
    for (size_t i = 0; i < MANY; i++) {
        calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", id);
    }
    mesh_run(m, 4000);
    const struct agent *a = agent_find(mesh_node(m, 0), &c.agent);
    assert_int_equal(a->live->committing_count, LIMIT_COMMITS_PER_AGENT);
    assert_int_equal(a->live->queued, MANY - LIMIT_COMMITS_PER_AGENT);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(mesh_wait(m, calls[i], 60000), GW_OK);
        mesh_call_free(calls[i]);
    }
    free(calls);
    /* By bytes: replies of 1 MiB. */
    t.fired = false;
    struct mesh_call *big[12];
    for (size_t i = 0; i < 12; i++) {
        big[i] = mesh_ask(m, 0, "send",
                          "{'agent': '%s', 'method': 'big', 'args': {'bytes': 1048576}}", id);
    }
    mesh_run(m, 4000);
    assert_int_equal(a->live->committing_count, LIMIT_COMMITS_BYTES / 1048576);
    for (size_t i = 0; i < 12; i++) {
        assert_int_equal(mesh_wait(m, big[i], 60000), GW_OK);
        mesh_call_free(big[i]);
    }
    mesh_stop(m, 0);
    mesh_free(m);
}

/* An orderly stop waits for what is being written, and answers it. */
static void test_stop_with_a_full_pipeline(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(695, 1);
    struct crowd c = {.m = m, .agent = mesh_create(m, 0, "actor")};
    char id[GW_ID_TEXT];
    gw_id_text(&c.agent, id);
    for (size_t i = 0; i < CALLS; i++) {
        c.calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", id);
    }
    mesh_run(m, 1);
    mesh_stop(m, 0);
    int64_t done = 0;
    for (size_t i = 0; i < CALLS; i++) {
        mesh_assert(m, c.calls[i]->done);
        done += c.calls[i]->err == GW_OK;
    }
    mesh_start_all(m);
    assert_int_equal(mesh_count(m, 0, &c.agent), done);
    crowd_free(&c);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_wait_and_keep_their_order),
        cmocka_unit_test(test_crash_at_each_commit),
        cmocka_unit_test(test_roll_back_of_each_commit),
        cmocka_unit_test(test_runner_ends_in_the_middle),
        cmocka_unit_test(test_accepted_messages_keep_their_order),
        cmocka_unit_test(test_tells_of_a_pipeline),
        cmocka_unit_test(test_a_repeat_waits_for_the_first),
        cmocka_unit_test(test_verbs_in_the_middle),
        cmocka_unit_test(test_a_wish_in_the_middle),
        cmocka_unit_test(test_calls_of_handlers_wait),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_stop_with_a_full_pipeline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
