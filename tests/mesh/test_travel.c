/* Travel: retract, dry runs, required tags, drain; also with faults in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/scene.h"

/* ---- retract ---- */

static void test_retract_comes_to_who_asks(void **state)
{
    (void)state;
    struct scene s;
    gw_value v = gw_nil();
    scene_open(&s, 301, 3);
    mesh_must(s.m, 2, &v, "retract", "{'agent': '%s'}", s.id);
    assert_string_equal(gw_map_str(&v, "host", ""), "h2");
    assert_int_equal(gw_map_int(&v, "epoch", 0), 2);
    gw_value_free(&v);
    assert_string_equal(scene_history(s.m, 2, &s.agent), "create leave retract");
    mesh_must(s.m, 2, &v, "retract", "{'agent': '%s'}", s.id); /* it is there */
    assert_int_equal(gw_map_int(&v, "epoch", 0), 2);
    gw_value_free(&v);
    mesh_must(s.m, 2, NULL, "retract", "{'agent': '%s', 'to': 'h1'}", s.id);
    assert_string_equal(scene_history(s.m, 0, &s.agent), "create leave retract leave retract");
    mesh_must(s.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h0'}", s.id);
    assert_string_equal(scene_history(s.m, 0, &s.agent),
                        "create leave retract leave retract leave arrive");
    mesh_must(s.m, 1, NULL, "retract", "{'agent': '%s', 'inactive': true}", s.id);
    assert_string_equal(scene_history(s.m, 1, &s.agent),
                        "create leave retract leave retract leave arrive leave wake");
    assert_int_equal(mesh_count(s.m, 0, &s.agent), s.adds);
    scene_close(&s);
}

struct walk {
    gw_strs log;
};
static const struct gw_field walk_fields[] = {GW_FIELD(struct walk, log)};
static gw_err walk_arrive(struct gw_call *call)
{
    struct walk *w = gw_state(call);
    return gw_strs_addf(&w->log, "from %s", gw_from(call));
}
static gw_err walk_history(struct gw_call *call)
{
    const struct walk *w = gw_state(call);
    return gw_reply_strs(call, "log", &w->log);
}
static const struct gw_method walk_methods[] = {
    {"history() -> (log: [string])", walk_history, GW_READ},
};
static const struct gw_type walk_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "walk",
    .version = 1,
    .state_size = sizeof(struct walk),
    GW_FIELDS(walk_fields),
    GW_METHODS(walk_methods),
    .on_arrive = walk_arrive,
};

static void test_without_the_hook_it_arrives(void **state)
{
    (void)state;
    static const struct gw_type *const types[] = {&walk_type};
    struct mesh *m = mesh_new(302, 2);
    mesh_set_types(m, 0, types, 1);
    mesh_set_types(m, 1, types, 1);
    mesh_start_all(m);
    gw_id a = mesh_create(m, 0, "walk");
    char id[GW_ID_TEXT];
    mesh_must(m, 1, NULL, "retract", "{'agent': '%s'}", gw_id_text(&a, id));
    assert_string_equal(scene_history(m, 1, &a), "from h0");
    mesh_expect_whole(m);
    mesh_free(m);
}

static size_t count_of(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word)) {
        n++;
    }
    return n;
}

/* The destination crashes behind each of its commits: the hook's kind is in the staged row. */
static void test_the_hook_survives_a_crash(void **state)
{
    (void)state;
    bool fired = true;
    for (size_t k = 0; fired; k++) {
        struct scene s;
        scene_open(&s, 310 + k, 3);
        scene_arm(&s, &(struct fault){.frame_k = NOWHERE,
                                      .commit_k = k,
                                      .commit_host = 1,
                                      .commit_fate = COMMIT_CRASH_AFTER,
                                      .restart_ms = 300});
        s.call = mesh_ask(s.m, 0, "retract", "{'agent': '%s', 'to': 'h1'}", s.id);
        (void)scene_wait(&s, 60000);
        fired = s.fault.commit_fired;
        mesh_heal(s.m);
        mesh_expect_whole(s.m);
        size_t at = mesh_where(s.m, &s.agent, NULL);
        const char *history = scene_history(s.m, at, &s.agent);
        assert_int_equal(count_of(history, "retract"), at == 1);
        assert_int_equal(count_of(history, "arrive"), 0);
        assert_int_equal(mesh_count(s.m, 2, &s.agent), s.adds);
        scene_close(&s);
        assert_true(k < 100);
    }
}

/* ---- dry run ---- */

static void foresees(struct mesh *m, size_t via, const char *op, const char *args, const char *code,
                     const char *text)
{
    gw_value v = gw_nil();
    mesh_must(m, via, &v, op, "%s", args);
    const char *got = gw_map_str(&v, "code", "");
    mesh_assert(m, gw_map_bool(&v, "dry_run", false));
    if (strcmp(got, code) != 0 || gw_map_bool(&v, "possible", true) != (code[0] == 0) ||
        !strstr(gw_map_str(&v, "reason", ""), text)) {
        mesh_fail(m, "%s %s: wanted %s with \"%s\", got %s: %s", op, args, code, text, got,
                  gw_map_str(&v, "reason", ""));
    }
    gw_value_free(&v);
}

#define FORESEES(via, op, more, code, text)                                                        \
    do {                                                                                           \
        char args_[256];                                                                           \
        (void)snprintf(args_, sizeof args_, "{'agent': '%s', 'dry_run': true%s}", s.id, more);     \
        foresees(s.m, via, op, args_, code, text);                                                 \
    } while (0)

static void test_a_dry_run_says_why_not(void **state)
{
    (void)state;
    static const struct gw_type *const lacking[] = {&homebody_type};
    struct scene s = {.fault = NO_FAULT, .second = NO_FAULT};
    s.m = mesh_new(320, 4);
    mesh_set_types(s.m, 2, lacking, 1);
    mesh_start_all(s.m);
    s.agent = mesh_create(s.m, 0, "tally");
    (void)gw_id_text(&s.agent, s.id);
    mesh_crash(s.m, 3);
    mesh_run(s.m, 2000);
    for (size_t via = 0; via < 2; via++) {
        FORESEES(via, "dispatch", ", 'to': 'h1'", "", "");
        FORESEES(via, "dispatch", ", 'to': 'h0'", "exists", "already");
        FORESEES(via, "dispatch", ", 'to': 'h2'", "refused", "no agent type \"tally\"");
        FORESEES(via, "dispatch", ", 'to': 'h3'", "unreachable", "h3");
        FORESEES(via, "dispatch", ", 'to': 'h9'", "host_not_found", "h9");
        FORESEES(via, "dispatch", ", 'to': 'h1', 'require': ['gpu']", "refused", "\"gpu\"");
        FORESEES(via, "clone", "", "", "");
        FORESEES(via, "clone", ", 'to': 'h0', 'key': 'k'", "", "");
        FORESEES(via, "clone", ", 'to': 'h2'", "refused", "no agent type \"tally\"");
    }
    FORESEES(0, "retract", "", "exists", "already");
    FORESEES(1, "retract", "", "", "");
    FORESEES(2, "retract", "", "refused", "no agent type");
    assert_int_equal(
        mesh_op(s.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'tag:', 'dry_run': true}", s.id),
        GW_EARG);
    assert_string_equal(scene_history(s.m, 0, &s.agent), "create");
    uint64_t epoch = 0;
    assert_int_equal(mesh_where(s.m, &s.agent, &epoch), 0);
    assert_int_equal(epoch, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(node_moves_count(mesh_node(s.m, i)), 0);
    }
    mesh_set_delay(s.m, 0, 1, 400000); /* a move that takes its time */
    struct mesh_call *call = mesh_ask(s.m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", s.id);
    mesh_run(s.m, 100);
    FORESEES(0, "dispatch", ", 'to': 'h1'", "conflict", "moving");
    assert_int_equal(mesh_wait(s.m, call, 60000), GW_OK);
    mesh_call_free(call);
    scene_close(&s);
}

static void test_a_missing_tag_is_named(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 321, 3);
    const char *ops[] = {"dispatch", "clone", "retract"};
    for (size_t i = 0; i < 3; i++) {
        struct mesh_call *call = mesh_ask(
            s.m, 0, ops[i], "{'agent': '%s', 'to': 'h1', 'require': ['gpu', 'ssd']}", s.id);
        assert_int_equal(mesh_wait(s.m, call, 10000), GW_EREFUSED);
        assert_non_null(strstr(call->why.text, "\"gpu\""));
        assert_non_null(strstr(call->why.text, "h1"));
        mesh_call_free(call);
    }
    assert_int_equal(
        mesh_op(s.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'any', 'require': ['gpu']}", s.id),
        GW_EREFUSED);
    mesh_must(s.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h1', 'require': []}", s.id);
    scene_verify(&s);
    scene_close(&s);
}

/* ---- drain ---- */

struct report {
    int64_t total, moved, stayed, named;
    bool done;
    char reasons[1024];
};

static struct report read_report(const struct mesh_call *call)
{
    struct report r = {0};
    for (size_t i = 0; call->items.kind == GW_LIST && i < call->items.list.n; i++) {
        const gw_value *item = &call->items.list.items[i];
        if (gw_map_get(item, "agent")) {
            size_t at = strlen(r.reasons);
            (void)snprintf(r.reasons + at, sizeof r.reasons - at, "%s|",
                           gw_map_str(item, "reason", ""));
            r.named++;
        } else {
            r.total = gw_map_int(item, "total", 0);
            r.moved = gw_map_int(item, "moved", 0);
            r.stayed = gw_map_int(item, "stayed", 0);
            r.done = gw_map_bool(item, "done", false);
        }
    }
    return r;
}

static struct report drain(struct mesh *m, size_t host, const char *to)
{
    struct mesh_call *call = mesh_ask(m, host, "drain", "{'to': '%s'}", to);
    gw_err err = mesh_wait(m, call, 120000);
    if (err != GW_OK) {
        mesh_fail(m, "drain: %s", call->why.text);
    }
    struct report r = read_report(call);
    mesh_call_free(call);
    mesh_assert(m, r.done && r.stayed == r.named);
    return r;
}

struct counted {
    const struct host_id *id;
    size_t n;
};
static bool count_one(void *arg, const struct node_agent_view *view)
{
    ((struct counted *)arg)->n += view->runnable;
    return true;
}
static size_t agents_on(struct mesh *m, size_t host)
{
    struct counted c = {0};
    node_each_agent(mesh_node(m, host), count_one, &c);
    return c.n;
}

#define MANY 150 /* more than are in flight at a time */

static void test_drain_moves_all_that_can_go(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(330, 3);
    mesh_start_all(m);
    gw_id ids[MANY];
    char id[GW_ID_TEXT];
    for (size_t i = 0; i < MANY; i++) {
        ids[i] = mesh_create(m, 0, "tally");
        if (i % 10 == 0) {
            mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", gw_id_text(&ids[i], id));
        }
    }
    gw_id home = mesh_create(m, 0, "homebody");
    struct report r = drain(m, 0, "any");
    assert_int_equal(r.total, MANY + 1);
    assert_int_equal(r.moved, MANY);
    assert_int_equal(r.stayed, 1);
    assert_non_null(strstr(r.reasons, "I stay here"));
    assert_int_equal(agents_on(m, 0), 1);
    assert_true(agents_on(m, 1) > 0 && agents_on(m, 2) > 0); /* in turn */
    assert_int_equal(mesh_where(m, &home, NULL), 0);
    assert_string_equal(scene_history(m, 0, &ids[1]), "create leave arrive");
    assert_string_equal(scene_history(m, 0, &ids[0]), "create sleep wake");
    r = drain(m, 0, "any"); /* again: only who stayed */
    assert_int_equal(r.total, 1);
    assert_int_equal(r.stayed, 1);
    r = drain(m, 1, "h2");
    assert_int_equal(r.stayed, 0);
    assert_int_equal(agents_on(m, 2), MANY);
    mesh_expect_whole(m);
    mesh_free(m);
}

static void test_drain_refuses_what_makes_no_sense(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(331, 2);
    static const struct gw_type *const lacking[] = {&homebody_type};
    mesh_set_types(m, 1, lacking, 1);
    mesh_start_all(m);
    mesh_create(m, 0, "tally");
    assert_int_equal(mesh_op(m, 0, NULL, "drain", "{'to': 'h0'}"), GW_EREFUSED);
    assert_int_equal(mesh_op(m, 0, NULL, "drain", "{'to': 'h9'}"), GW_EHOST_NOT_FOUND);
    assert_int_equal(mesh_op(m, 0, NULL, "drain", "{'to': 'all'}"), GW_EARG);
    struct report r = drain(m, 0, "any");
    assert_int_equal(r.stayed, 1);
    assert_non_null(strstr(r.reasons, "has agent type \"tally\""));
    r = drain(m, 1, "h0"); /* nobody is there */
    assert_int_equal(r.total, 0);
    struct mesh_call *first = mesh_ask(m, 0, "drain", "{}");
    assert_int_equal(mesh_op(m, 0, NULL, "drain", "{}"), GW_ECONFLICT);
    assert_int_equal(mesh_wait(m, first, 10000), GW_OK);
    mesh_call_free(first);
    mesh_crash(m, 1);
    mesh_run(m, 2000);
    assert_int_equal(mesh_op(m, 0, NULL, "drain", "{}"), GW_EUNREACHABLE);
    mesh_free(m);
}

/* Calls that come while their agents leave are answered, each once. */
static void test_no_call_fails_while_agents_leave(void **state)
{
    (void)state;
    enum { AGENTS = 40, CALLS = 400 };
    struct mesh *m = mesh_new(332, 3);
    mesh_start_all(m);
    gw_id ids[AGENTS];
    struct mesh_call *calls[CALLS];
    int64_t want[AGENTS] = {0};
    char id[GW_ID_TEXT];
    for (size_t i = 0; i < AGENTS; i++) {
        ids[i] = mesh_create(m, 0, "tally");
    }
    struct mesh_call *leaving = mesh_ask(m, 0, "drain", "{}");
    for (size_t i = 0; i < CALLS; i++) {
        size_t a = mesh_random(m, AGENTS);
        calls[i] =
            mesh_ask(m, mesh_random(m, 3), "send",
                     "{'agent': '%s', 'method': 'add', 'key': 'k%zu'}", gw_id_text(&ids[a], id), i);
        want[a]++;
        if (i % 8 == 0) {
            mesh_run(m, 1);
        }
    }
    for (size_t i = 0; i < CALLS; i++) {
        if (mesh_wait(m, calls[i], 60000) != GW_OK) {
            mesh_fail(m, "call %zu: %s", i, calls[i]->why.text);
        }
        mesh_call_free(calls[i]);
    }
    assert_int_equal(mesh_wait(m, leaving, 60000), GW_OK);
    struct report r = read_report(leaving);
    assert_int_equal(r.moved, AGENTS);
    assert_int_equal(r.stayed, 0);
    mesh_call_free(leaving);
    assert_int_equal(agents_on(m, 0), 0);
    for (size_t i = 0; i < AGENTS; i++) {
        assert_int_equal(mesh_count(m, 1, &ids[i]), want[i]);
    }
    mesh_expect_whole(m);
    mesh_free(m);
}

/* The host, or the one that takes the agents, crashes in the middle: a second drain does the rest.
 */
static void test_drain_goes_on_after_a_crash(void **state)
{
    (void)state;
    for (size_t k = 0; k < 12; k++) {
        size_t victim = k % 3 == 0 ? 0 : 1; /* h2 stays */
        struct mesh *m = mesh_new(340 + k, 3);
        mesh_start_all(m);
        gw_id ids[MANY];
        for (size_t i = 0; i < MANY; i++) {
            ids[i] = mesh_create(m, 0, "tally");
        }
        struct mesh_call *call = mesh_ask(m, 0, "drain", "{'to': '%s'}", k % 2 ? "any" : "h1");
        mesh_run(m, 1 + (int64_t)k);
        mesh_crash(m, victim);
        gw_err err = mesh_wait(m, call, 120000);
        assert_int_equal(err, victim == 0 ? GW_EUNREACHABLE : GW_OK);
        mesh_call_free(call);
        mesh_heal(m);
        mesh_expect_whole(m);
        struct report r = drain(m, 0, "any");
        assert_int_equal(r.stayed, 0);
        assert_int_equal(agents_on(m, 0), 0);
        for (size_t i = 0; i < MANY; i += 37) {
            assert_int_equal(mesh_count(m, 2, &ids[i]), 0);
        }
        mesh_expect_whole(m);
        mesh_free(m);
    }
}

/* Who asked is gone, or the host stops, while agents leave. */
static void test_drain_ends_with_its_caller_and_its_host(void **state)
{
    (void)state;
    struct mesh *m = mesh_new(360, 2);
    mesh_start_all(m);
    for (size_t i = 0; i < MANY; i++) {
        mesh_create(m, 0, "tally");
    }
    mesh_call_free(mesh_ask(m, 0, "drain", "{}")); /* its first report meets nobody */
    for (size_t i = 0; i < 5; i++) {
        mesh_create(m, 0, "tally"); /* while the others leave */
    }
    mesh_run(m, 20000);
    assert_int_equal(agents_on(m, 0), 5);
    struct mesh_call *call = mesh_ask(m, 0, "drain", "{}");
    mesh_run(m, 1);
    mesh_stop(m, 0);
    assert_true(call->done);
    mesh_call_free(call);
    mesh_heal(m);
    mesh_expect_whole(m);
    assert_int_equal(drain(m, 0, "h1").stayed, 0);
    assert_int_equal(agents_on(m, 1), MANY + 5);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retract_comes_to_who_asks),
        cmocka_unit_test(test_without_the_hook_it_arrives),
        cmocka_unit_test(test_the_hook_survives_a_crash),
        cmocka_unit_test(test_a_dry_run_says_why_not),
        cmocka_unit_test(test_a_missing_tag_is_named),
        cmocka_unit_test(test_drain_moves_all_that_can_go),
        cmocka_unit_test(test_drain_refuses_what_makes_no_sense),
        cmocka_unit_test(test_no_call_fails_while_agents_leave),
        cmocka_unit_test(test_drain_goes_on_after_a_crash),
        cmocka_unit_test(test_drain_ends_with_its_caller_and_its_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
