/* gw_save in `run`: each step is there once after crashes of host and runner at each commit,
 * messages come in between, moves, sleep and stop get through, roll-backs put the struct back. */
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

#define STEPS 8

/* ---- a long worker ---- */

struct digger {
    int64_t step, count;
    gw_strs log;
    gw_id heir;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct digger, step),
    GW_FIELD(struct digger, count),
    GW_FIELD(struct digger, log),
    GW_FIELD(struct digger, heir),
};

static gw_err run(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    while (d->step < STEPS) {
        GW_TRY(gw_strs_addf(&d->log, "s%lld", (long long)d->step));
        if (!gw_id_is_nil(&d->heir)) {
            gw_value args = gw_nil();
            GW_TRY(gw_map_set(&args, "number", gw_int(d->step)));
            GW_TRY(gw_tell(call, d->heir, "add", args));
        }
        d->step++;
        GW_TRY(gw_save(call));
    }
    return gw_strs_add(&d->log, "end");
}

static gw_err add(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    GW_TRY(gw_add(&d->count, 1));
    return gw_reply_int(call, "count", d->count);
}

static gw_err get(struct gw_call *call)
{
    const struct digger *d = gw_state(call);
    return gw_reply_int(call, "count", d->count);
}

static gw_err history(struct gw_call *call)
{
    const struct digger *d = gw_state(call);
    return gw_reply_strs(call, "log", &d->log);
}

static gw_err spoil(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    d->count = d->step = 1000; /* must leave no trace, in the struct of `run` neither */
    return gw_call_fail(call, GW_EREFUSED, "spoilt on purpose");
}

static gw_err mark(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    GW_TRY(gw_add(&d->count, 1));
    return gw_save(call);
}

static const struct gw_method methods[] = {
    {"add(by: int = 1) -> (count: int)", add, 0},
    {"get() -> (count: int)", get, GW_READ},
    {"history() -> (log: [string])", history, GW_READ},
    {"spoil()", spoil, 0},
    {"mark()", mark, 0},
};
static const struct gw_type digger_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "digger",
    .version = 1,
    .state_size = sizeof(struct digger),
    GW_FIELDS(fields),
    GW_METHODS(methods),
    .run = run,
};
static struct gw_type saver_type, vapor_type; /* the same, with transitions; volatile */
static const struct gw_type *const types[] = {&digger_type, &tally_type, &saver_type, &vapor_type};

static struct mesh *mesh_of(uint64_t seed, size_t hosts)
{
    struct mesh *m = mesh_new(seed, hosts);
    saver_type = vapor_type = digger_type;
    saver_type.name = "saver";
    saver_type.durability = GW_TRANSITIONS;
    vapor_type.name = "vapor";
    vapor_type.durability = GW_VOLATILE;
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_types(m, i, types, 4);
    }
    mesh_start_all(m);
    return m;
}

static const char *whole(void)
{
    static char text[200];
    size_t at = 0;
    for (int i = 0; i < STEPS; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "s%d ", i);
    }
    (void)snprintf(text + at, sizeof text - at, "end");
    return text;
}

static gw_id dig(struct mesh *m, const char *type, const gw_id *heir)
{
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    if (heir) {
        mesh_must(m, 0, &v, "create", "{'type': '%s', 'state': {'heir': '%s'}, 'text': true}", type,
                  gw_id_text(heir, id));
    } else {
        mesh_must(m, 0, &v, "create", "{'type': '%s'}", type);
    }
    gw_id made = actor_id_of(m, &v);
    gw_value_free(&v);
    mesh_expect(m, &made);
    return made;
}

/* Messages in between, each once; each step once. */
static bool dig_with(struct trap *t, uint64_t seed)
{
    struct mesh *m = mesh_of(seed, 1);
    gw_id heir = mesh_create(m, 0, "tally"), agent = dig(m, "digger", &heir);
    struct mesh_call *calls[4];
    char id[GW_ID_TEXT], line[16];
    trap_arm(t, m);
    for (int i = 0; i < 4; i++) {
        calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add', 'key': 'a%d'}",
                            gw_id_text(&agent, id), i);
    }
    mesh_run(m, 20000);
    bool fired = t->fired;
    mesh_heal(m);
    for (int i = 0; i < 4; i++) {
        mesh_assert(m, calls[i]->done);
        if (calls[i]->err != GW_OK) {
            mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'add', 'key': 'a%d'}", id, i);
        }
        mesh_call_free(calls[i]);
    }
    mesh_run(m, 20000);
    assert_int_equal(mesh_count(m, 0, &agent), 4);
    if (t->fate != COMMIT_FAIL || !fired) {
        assert_string_equal(actor_history(m, 0, &agent), whole());
        for (int i = 0; i < STEPS; i++) {
            (void)snprintf(line, sizeof line, "#%d", i);
            assert_int_equal(actor_lines(m, 0, &heir, line), 1);
        }
    }
    mesh_expect_whole(m);
    mesh_free(m);
    return fired;
}

static void test_crash_at_each_save(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t f = 0; f < 3; f++) {
        struct trap t = {.fate = fates[f]};
        while (dig_with(&t, 800 + t.k)) {
            t.k++;
        }
        assert_true(t.k >= STEPS);
    }
}

/* A full disk: what is kept is a whole number of steps, in order, and the heir has heard no other.
 */
static void test_roll_back_of_a_save(void **state)
{
    (void)state;
    for (size_t k = 0; k < STEPS; k++) {
        struct mesh *m = mesh_of(830 + k, 1);
        struct trap t = {.fate = COMMIT_FAIL, .k = k};
        trap_arm(&t, m);
        gw_value v = gw_nil();
        if (mesh_op(m, 0, &v, "create", "{'type': 'digger'}") == GW_OK) {
            gw_id agent = actor_id_of(m, &v);
            mesh_run(m, 5000);
            const char *log = actor_history(m, 0, &agent);
            mesh_assert(m, strncmp(log, whole(), strlen(log)) == 0 || log[0] == '\0');
            assert_int_equal(mesh_count(m, 0, &agent), 0);
        }
        gw_value_free(&v);
        mesh_free(m);
    }
}

static void test_runner_ends_at_each_step(void **state)
{
    (void)state;
    for (int64_t ms = 0; ms < 8; ms++) {
        struct mesh *m = mesh_of(840 + (uint64_t)ms, 1);
        gw_id agent = dig(m, "digger", NULL);
        struct mesh_call *calls[3];
        char id[GW_ID_TEXT];
        for (int i = 0; i < 3; i++) {
            calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add', 'key': 'a%d'}",
                                gw_id_text(&agent, id), i);
        }
        mesh_run(m, ms);
        mesh_crash_runner(m, 0);
        mesh_run(m, 10000);
        int64_t done = 0;
        for (int i = 0; i < 3; i++) {
            mesh_assert(m, calls[i]->done);
            done += calls[i]->err == GW_OK;
            mesh_call_free(calls[i]);
        }
        assert_string_equal(actor_history(m, 0, &agent), whole());
        assert_int_equal(mesh_count(m, 0, &agent), done);
        mesh_free(m);
    }
}

/* A message that fails spoils the struct under the handler that is suspended: it is put back. */
static void test_failure_in_between(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(850, 1);
    gw_id agent = dig(m, "digger", NULL);
    struct mesh_call *calls[6];
    char id[GW_ID_TEXT];
    for (int i = 0; i < 6; i++) {
        calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': '%s'}", gw_id_text(&agent, id),
                            i % 2 ? "add" : "spoil");
    }
    mesh_run(m, 10000);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(calls[i]->err, i % 2 ? GW_OK : GW_EREFUSED);
        mesh_call_free(calls[i]);
    }
    assert_string_equal(actor_history(m, 0, &agent), whole());
    assert_int_equal(mesh_count(m, 0, &agent), 3);
    mesh_free(m);
}

/* ---- what needs the agent quiet ---- */

static bool move_with(struct trap *t, uint64_t seed, const char *op, const char *args)
{
    struct mesh *m = mesh_of(seed, 2);
    gw_id agent = dig(m, "digger", NULL);
    char id[GW_ID_TEXT];
    mesh_run(m, 1);
    trap_arm(t, m);
    gw_err err = mesh_op(m, 0, NULL, op, "{'agent': '%s'%s}", gw_id_text(&agent, id), args);
    if (!t->fired) {
        assert_int_equal(err, GW_OK);
        if (strcmp(op, "dispatch") == 0) {
            assert_int_equal(mesh_where(m, &agent, NULL), 1);
        }
    }
    mesh_run(m, 20000);
    bool fired = t->fired;
    mesh_heal(m);
    mesh_must(m, 0, NULL, "activate", "{'agent': '%s'}", id);
    mesh_run(m, 20000);
    if (t->fate != COMMIT_FAIL || !fired) {
        assert_string_equal(actor_history(m, 0, &agent), whole());
    }
    mesh_expect_whole(m);
    mesh_free(m);
    return fired;
}

static void test_move_and_sleep_at_a_save(void **state)
{
    (void)state;
    static const char *const verbs[][2] = {
        {"dispatch", ", 'to': 'h1'"}, {"deactivate", ""}, {"clone", ""}};
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t v = 0; v < 3; v++) {
        for (size_t f = 0; f < 3; f++) {
            struct trap t = {.fate = fates[f]};
            while (move_with(&t, 860 + t.k, verbs[v][0], verbs[v][1])) {
                t.k++;
            }
            assert_true(t.k >= 1);
        }
    }
}

static void test_dispose_and_stop_at_a_save(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(890, 1);
    gw_id agent = dig(m, "digger", NULL), other = dig(m, "digger", NULL);
    char id[GW_ID_TEXT];
    mesh_expect_disposed(m, &agent);
    mesh_must(m, 0, NULL, "dispose", "{'agent': '%s'}", gw_id_text(&agent, id));
    int64_t before_us = mesh_now_us(m);
    mesh_stop(m, 0);
    assert_true(mesh_now_us(m) - before_us < 5000000); /* not by patience */
    mesh_start_all(m);
    mesh_run(m, 10000);
    assert_string_equal(actor_history(m, 0, &other), whole());
    mesh_free(m);
}

/* ---- types that ask for less ---- */

static void test_durability(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(895, 1);
    gw_id s = dig(m, "saver", NULL), v = dig(m, "vapor", NULL);
    mesh_run(m, 10000);
    assert_string_equal(actor_history(m, 0, &s), whole());
    assert_string_equal(actor_history(m, 0, &v), ""); /* refused; `run` has failed */
    assert_int_equal(mesh_add(m, 0, &s, "k0"), GW_OK);
    assert_int_equal(actor_stored_count(m, 0, &s), 0);
    assert_int_equal(actor_send(m, 0, &s, "mark", "{}"), GW_OK); /* in a short handler */
    assert_int_equal(actor_stored_count(m, 0, &s), 2);
    assert_int_equal(actor_send(m, 0, &v, "mark", "{}"), GW_EREFUSED);
    mesh_crash(m, 0);
    mesh_start_all(m);
    assert_int_equal(mesh_count(m, 0, &s), 2);
    assert_int_equal(mesh_add(m, 0, &s, "k0"), GW_OK); /* its answer went along */
    assert_int_equal(mesh_count(m, 0, &s), 2);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_at_each_save),
        cmocka_unit_test(test_roll_back_of_a_save),
        cmocka_unit_test(test_runner_ends_at_each_step),
        cmocka_unit_test(test_failure_in_between),
        cmocka_unit_test(test_move_and_sleep_at_a_save),
        cmocka_unit_test(test_dispose_and_stop_at_a_save),
        cmocka_unit_test(test_durability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
