/* gw_ask_then: asks of built-in agents, straight to each other and by the way of all messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/actor.h"

/* ---- a built-in type that asks ---- */

struct asker {
    int64_t count;
    gw_strs log;
    int64_t heard, left; /* not tabled */
    gw_id other;
};
static const struct gw_field asker_fields[] = {
    GW_FIELD(struct asker, count),
    GW_FIELD(struct asker, log),
};

static gw_err echo(struct gw_call *call)
{
    return gw_reply_int(call, "n", gw_arg_int(call, "n"));
}

static gw_err bump(struct gw_call *call)
{
    struct asker *a = gw_state(call);
    GW_TRY(gw_add(&a->count, 1));
    return gw_reply_int(call, "count", a->count);
}

static gw_err refuse(struct gw_call *call)
{
    return gw_call_fail(call, GW_EDENIED, "not today");
}

static gw_err who(struct gw_call *call)
{
    gw_id sender = gw_sender(call);
    GW_TRY(gw_reply_id(call, "sender", sender));
    return gw_reply_str(call, "host", gw_host_name(call));
}

/* Changes the state, too: its asks wait for the commit. */
static gw_err ask(struct gw_call *call)
{
    struct asker *a = gw_state(call);
    GW_TRY(gw_strs_addf(&a->log, "ask"));
    for (int64_t i = 0; i < gw_arg_int(call, "times"); i++) {
        gw_value args = gw_nil();
        if (gw_has_arg(call, "n")) {
            GW_TRY(gw_map_set(&args, "n", gw_int(gw_arg_int(call, "n") + i)));
        }
        GW_TRY(gw_ask_then(call, gw_arg_id(call, "of"), gw_arg_str(call, "method"), args, "heard"));
    }
    return gw_arg_bool(call, "fail") ? GW_EFAIL : GW_OK;
}

static gw_err heard(struct gw_call *call)
{
    struct asker *a = gw_state(call);
    const gw_value *reply = gw_arg_value(call, "reply");
    a->heard++;
    if (!reply) {
        return gw_strs_addf(&a->log, "%s", gw_arg_str(call, "code"));
    }
    if (gw_map_get(reply, "n")) {
        return gw_strs_addf(&a->log, "n=%d", (int)gw_map_int(reply, "n", 0));
    }
    return gw_strs_addf(&a->log, "count=%d", (int)gw_map_int(reply, "count", -1));
}

/* Reads only, on both sides. */
static gw_err peek(struct gw_call *call)
{
    struct asker *a = gw_state(call);
    a->left = gw_arg_int(call, "times");
    a->other = gw_arg_id(call, "of");
    return gw_ask_then(call, a->other, "who", gw_nil(), "seen");
}

static gw_err seen(struct gw_call *call)
{
    struct asker *a = gw_state(call);
    const gw_value *reply = gw_arg_value(call, "reply");
    const gw_value *sender = gw_map_get(reply, "sender");
    gw_id self = gw_self(call), from = gw_sender(call);
    if (!sender || !gw_id_equal(&sender->id, &self) || !gw_id_equal(&from, &a->other) ||
        gw_map_str(reply, "host", "")[0] != 'h') {
        return GW_EFAIL;
    }
    a->heard++;
    return --a->left > 0 ? gw_ask_then(call, a->other, "who", gw_nil(), "seen") : GW_OK;
}

static gw_err heard_count(struct gw_call *call)
{
    const struct asker *a = gw_state(call);
    return gw_reply_int(call, "n", a->heard);
}

static gw_err wrong(struct gw_call *call)
{
    gw_err err = gw_ask_then(call, gw_self(call), "echo", gw_nil(), "nobody");
    gw_err deep = gw_ask_then(call, gw_self(call), "echo", gw_int(3), "heard");
    gw_err name = gw_ask_then(call, gw_self(call), "no name", gw_nil(), "heard");
    return err == GW_EARG && deep == GW_EARG && name == GW_EARG ? GW_OK : GW_EFAIL;
}

static gw_err narrow(struct gw_call *call)
{
    return gw_ask_then(call, gw_arg_id(call, "of"), "refuse", gw_nil(), "only_code");
}

static gw_err only_code(struct gw_call *call)
{
    struct asker *a = gw_state(call);
    return gw_strs_addf(&a->log, "only %s", gw_arg_str(call, "code"));
}

static gw_err bad_then(struct gw_call *call)
{
    return gw_ask_then(call, gw_arg_id(call, "of"), "echo", gw_nil(), "refuse");
}

static gw_err history(struct gw_call *call)
{
    const struct asker *a = gw_state(call);
    return gw_reply_strs(call, "log", &a->log);
}

static const struct gw_method asker_methods[] = {
    {"echo(n: int = 0) -> (n: int)", echo, GW_READ},
    {"bump() -> (count: int)", bump, 0},
    {"get() -> (count: int)", bump, 0},
    {"refuse()", refuse, 0},
    {"who() -> (sender: agent, host: string)", who, GW_READ},
    {"ask(of: agent, method: string, n: int?, times: int = 1, fail: bool = false)", ask, 0},
    {"heard(reply: {any}?, code: string?, text: string?)", heard, 0},
    {"peek(of: agent, times: int = 1)", peek, GW_READ},
    {"seen(reply: {any}?)", seen, GW_READ},
    {"heard_count() -> (n: int)", heard_count, GW_READ},
    {"wrong()", wrong, 0},
    {"narrow(of: agent)", narrow, 0},
    {"only_code(code: string?)", only_code, 0},
    {"bad_then(of: agent)", bad_then, 0},
    {"history() -> (log: [string])", history, GW_READ},
};
static const struct gw_type asker_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "asker",
    .version = 1,
    .state_size = sizeof(struct asker),
    GW_FIELDS(asker_fields),
    GW_METHODS(asker_methods),
};
static const struct gw_type *const types[] = {&asker_type};
static const struct node_builtin rows[] = {{"asker", NULL}};

static struct mesh *asker_mesh(uint64_t seed, size_t hosts)
{
    struct mesh *m = actor_mesh_new(seed, hosts);
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_builtins(m, i, rows, types, 1);
    }
    mesh_start_all(m);
    return m;
}

static gw_err ask_for(struct mesh *m, const gw_id *from, const gw_id *of, const char *method,
                      const char *more)
{
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    return mesh_op(m, 0, NULL, "send",
                   "{'agent': '%s', 'method': 'ask', 'args': {'of': '%s', 'method': '%s'%s}, "
                   "'text': true}",
                   gw_id_text(from, a), gw_id_text(of, b), method, more);
}

static gw_err with_of(struct mesh *m, const gw_id *from, const char *method, const gw_id *of,
                      const char *more)
{
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    return mesh_op(m, 0, NULL, "send",
                   "{'agent': '%s', 'method': '%s', 'args': {'of': '%s'%s}, 'text': true}",
                   gw_id_text(from, a), method, gw_id_text(of, b), more);
}

static int64_t number(struct mesh *m, const gw_id *agent, const char *method, const char *key)
{
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "send", "{'agent': '%s', 'method': '%s'}", gw_id_text(agent, id), method);
    int64_t n = gw_map_int(gw_map_get(&v, "reply"), key, -1);
    gw_value_free(&v);
    return n;
}

static void expect_log(struct mesh *m, const gw_id *agent, const char *want)
{
    const char *is = "";
    for (int i = 0; i < 300; i++) {
        is = actor_history(m, 0, agent);
        if (strcmp(is, want) == 0) {
            return;
        }
        mesh_run(m, 50);
    }
    mesh_fail(m, "the log is \"%s\", not \"%s\"", is, want);
}

/* ---- straight to each other ---- */

static void test_reads_answer_each_other(void **state)
{
    (void)state;
    struct mesh *m = asker_mesh(801, 1);
    gw_id a = mesh_create(m, 0, "asker"), b = mesh_create(m, 0, "asker");
    assert_int_equal(with_of(m, &a, "peek", &b, ", 'times': 5000"), GW_OK);
    assert_int_equal(with_of(m, &b, "peek", &a, ", 'times': 100"), GW_OK); /* both ways at once */
    mesh_run(m, 1000);
    assert_int_equal(number(m, &a, "heard_count", "n"), 5000);
    assert_int_equal(number(m, &b, "heard_count", "n"), 100);
    assert_int_equal(with_of(m, &a, "peek", &a, ", 'times': 3"), GW_OK); /* and itself */
    mesh_run(m, 100);
    assert_int_equal(number(m, &a, "heard_count", "n"), 5003);
    mesh_free(m);
}

static void test_answers_come_in_order(void **state)
{
    (void)state;
    struct mesh *m = asker_mesh(802, 1);
    gw_id a = mesh_create(m, 0, "asker"), b = mesh_create(m, 0, "asker");
    assert_int_equal(ask_for(m, &a, &b, "echo", ", 'n': 7, 'times': 4"), GW_OK);
    expect_log(m, &a, "ask n=7 n=8 n=9 n=10");
    assert_int_equal(ask_for(m, &a, &b, "bump", ", 'times': 3"), GW_OK);
    expect_log(m, &a, "ask n=7 n=8 n=9 n=10 ask count=1 count=2 count=3");
    mesh_crash(m, 0); /* what was heard is on disk, and what it is about, too */
    mesh_start_all(m);
    expect_log(m, &a, "ask n=7 n=8 n=9 n=10 ask count=1 count=2 count=3");
    assert_int_equal(number(m, &b, "bump", "count"), 4);
    assert_int_equal(ask_for(m, &a, &b, "bump", ""), GW_OK); /* loaded from disk meanwhile */
    expect_log(m, &a, "ask n=7 n=8 n=9 n=10 ask count=1 count=2 count=3 ask count=5");
    mesh_free(m);
}

static void test_failures_come_back(void **state)
{
    (void)state;
    struct mesh *m = asker_mesh(803, 1);
    gw_id a = mesh_create(m, 0, "asker"), b = mesh_create(m, 0, "asker"), nobody = a;
    nobody.b[15] ^= 0x55;
    assert_int_equal(ask_for(m, &a, &b, "refuse", ""), GW_OK);
    expect_log(m, &a, "ask denied");
    assert_int_equal(ask_for(m, &a, &b, "none_such", ""), GW_OK);
    expect_log(m, &a, "ask denied ask method_not_found");
    assert_int_equal(ask_for(m, &a, &nobody, "echo", ""), GW_OK);
    expect_log(m, &a, "ask denied ask method_not_found ask agent_not_found");
    assert_int_equal(with_of(m, &b, "narrow", &a, ""), GW_OK); /* takes what it has names for */
    expect_log(m, &b, "only denied");
    assert_int_equal(number(m, &b, "bump", "count"), 1); /* after a failure: loaded anew */
    size_t before = actor_events(m, 0, "message.failed");
    assert_int_equal(with_of(m, &a, "bad_then", &b, ""),
                     GW_OK); /* nobody hears of that but the log */
    mesh_run(m, 500);
    assert_int_equal(actor_events(m, 0, "message.failed"), before + 1);
    mesh_free(m);
}

static void test_a_failed_handler_asks_nothing(void **state)
{
    (void)state;
    char id[GW_ID_TEXT];
    struct mesh *m = asker_mesh(804, 1);
    gw_id a = mesh_create(m, 0, "asker"), b = mesh_create(m, 0, "asker");
    assert_int_equal(ask_for(m, &a, &b, "bump", ", 'fail': true"), GW_EFAIL);
    assert_int_equal(ask_for(m, &a, &b, "bump", ", 'times': 257"), GW_EBUSY);
    mesh_run(m, 500);
    assert_int_equal(number(m, &b, "bump", "count"), 1);
    assert_string_equal(actor_history(m, 0, &a), "");
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'wrong'}", gw_id_text(&a, id));
    mesh_free(m);
}

/* ---- not that simple ---- */

static void test_agents_of_plugins_and_other_hosts(void **state)
{
    (void)state;
    struct mesh *m = asker_mesh(805, 2);
    gw_id a = mesh_create(m, 0, "asker"), there = mesh_create(m, 1, "asker");
    gw_id actor = mesh_create(m, 0, "actor"), far = mesh_create(m, 1, "actor");
    assert_int_equal(ask_for(m, &a, &actor, "add", ""), GW_OK);
    expect_log(m, &a, "ask count=1");
    assert_int_equal(ask_for(m, &a, &far, "add", ", 'times': 3"), GW_OK);
    mesh_run(m, 500);
    assert_int_equal(mesh_count(m, 0, &far), 3);
    assert_int_equal(ask_for(m, &a, &there, "bump", ""), GW_OK);
    mesh_run(m, 500);
    assert_int_equal(number(m, &there, "bump", "count"), 2);
    assert_int_equal(mesh_move(m, 0, &actor, 1), GW_OK); /* followed, as any message */
    assert_int_equal(ask_for(m, &a, &actor, "get", ""), GW_OK);
    mesh_run(m, 500);
    assert_int_equal(actor_lines(m, 0, &a, "count=1"), 4); /* three adds or bumps, and the get */
    mesh_part(m, 0, 1, true);
    assert_int_equal(ask_for(m, &a, &far, "get", ""), GW_OK);
    mesh_run(m, 60000);
    size_t told = actor_lines(m, 0, &a, "unreachable") + actor_lines(m, 0, &a, "timeout") +
                  actor_lines(m, 0, &a, "agent_not_found");
    assert_int_equal(told, 1);
    mesh_free(m);
}

static void test_a_sleeper_is_woken(void **state)
{
    (void)state;
    char id[GW_ID_TEXT];
    struct mesh *m = asker_mesh(806, 1);
    gw_id a = mesh_create(m, 0, "asker"), b = mesh_create(m, 0, "asker");
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", gw_id_text(&b, id));
    assert_int_equal(ask_for(m, &a, &b, "echo", ", 'n': 1, 'times': 2"), GW_OK);
    expect_log(m, &a, "ask n=1 n=2");
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}", id);
    assert_int_equal(ask_for(m, &a, &b, "echo", ""), GW_OK);
    expect_log(m, &a, "ask n=1 n=2 ask inactive");
    mesh_free(m);
}

static void test_who_asked_ends_first(void **state)
{
    (void)state;
    char id[GW_ID_TEXT];
    struct mesh *m = asker_mesh(807, 2);
    gw_id a = mesh_create(m, 0, "asker"), far = mesh_create(m, 1, "actor");
    mesh_part(m, 0, 1, true);
    assert_int_equal(ask_for(m, &a, &far, "get", ", 'times': 10"), GW_OK);
    mesh_must(m, 0, NULL, "dispose", "{'agent': '%s'}", gw_id_text(&a, id));
    mesh_part(m, 0, 1, false);
    mesh_run(m, 60000);
    gw_id b = mesh_create(m, 0, "asker");
    assert_int_equal(ask_for(m, &b, &far, "get", ", 'times': 10"), GW_OK);
    mesh_crash(m, 0); /* with answers on their way: nothing is left behind */
    mesh_start_all(m);
    assert_int_equal(number(m, &b, "bump", "count"), 1);
    mesh_free(m);
}

/* ---- commits ---- */

static size_t fault_at;
static commit_fate fault;
static commit_fate on_commit(void *arg, size_t host)
{
    (void)arg, (void)host;
    return fault_at-- == 0 ? fault : COMMIT_PASS;
}

/* Whatever happens at whichever commit: what was heard of a change is on disk, and a change is not
 * made twice. */
static void test_faults_at_each_commit(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t k = 0; k < 36; k++) {
        struct mesh *m = asker_mesh(820 + k, 1);
        gw_id a = mesh_create(m, 0, "asker"), b = mesh_create(m, 0, "asker");
        fault_at = k / 3;
        fault = fates[k % 3];
        mesh_on_commit(m, on_commit, NULL);
        for (int i = 0; i < 4; i++) {
            gw_err err = ask_for(m, &a, &b, "bump", "");
            if (err != GW_OK && err != GW_EUNREACHABLE && err != GW_EDISK_FULL) {
                mesh_fail(m, "ask: %s", gw_err_name(err));
            }
            if (!mesh_alive(m, 0)) {
                mesh_start_all(m);
            }
        }
        mesh_run(m, 3000);
        mesh_on_commit(m, NULL, NULL);
        mesh_start_all(m);
        int64_t made = number(m, &b, "bump", "count") - 1;
        int64_t told = 0;
        for (int64_t i = 1; i <= 5; i++) {
            char line[40];
            snprintf(line, sizeof line, "count=%lld", (long long)i);
            size_t times = actor_lines(m, 0, &a, line);
            mesh_assert(m, times <= 1);
            mesh_assert(m, times == 0 || i <= made);
            told += (int64_t)times;
        }
        int64_t asked = (int64_t)actor_lines(m, 0, &a, "ask");
        mesh_assert(m, made <= asked && told <= made);
        mesh_assert(m, made + 2 >= asked); /* only the fault can have taken one, with its answer */
        mesh_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_answer_each_other),
        cmocka_unit_test(test_answers_come_in_order),
        cmocka_unit_test(test_failures_come_back),
        cmocka_unit_test(test_a_failed_handler_asks_nothing),
        cmocka_unit_test(test_agents_of_plugins_and_other_hosts),
        cmocka_unit_test(test_a_sleeper_is_woken),
        cmocka_unit_test(test_who_asked_ends_first),
        cmocka_unit_test(test_faults_at_each_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
