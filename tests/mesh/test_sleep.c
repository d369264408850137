/* Sleep: who decides how an agent sleeps, what wakes it, what waits meanwhile; idle agents; what
 * begins by itself at a start, and in which number. A wake-up happens once, across crash and move.
 */
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
#include <godwit/agent.h>

#include "host/core/internal.h"
#include "tests/mesh/trap.h"
#include "tests/mesh/virtual.h"

#define YEARS_10_MS (10LL * 365 * 24 * 3600 * 1000)

/* --- dormouse: sleeps as it is told --- */
struct dormouse {
    int64_t count, naps, wakes;
    bool stubborn;    /* on_deactivate refuses */
    int64_t hook_ms;  /* on_deactivate: wake after so long */
    int64_t hook_how; /* and these flags */
};
static const struct gw_field fields[] = {
    GW_FIELD(struct dormouse, count),   GW_FIELD(struct dormouse, naps),
    GW_FIELD(struct dormouse, wakes),   GW_FIELD(struct dormouse, stubborn),
    GW_FIELD(struct dormouse, hook_ms), GW_FIELD(struct dormouse, hook_how),
};

static gw_err add(struct gw_call *call)
{
    struct dormouse *d = gw_state(call);
    d->count++;
    return gw_reply_int(call, "count", d->count);
}
static gw_err look(struct gw_call *call)
{
    const struct dormouse *d = gw_state(call);
    GW_TRY(gw_reply_int(call, "count", d->count));
    GW_TRY(gw_reply_int(call, "naps", d->naps));
    return gw_reply_int(call, "wakes", d->wakes);
}
static gw_err be(struct gw_call *call)
{
    struct dormouse *d = gw_state(call);
    d->stubborn = gw_arg_bool(call, "stubborn");
    d->hook_ms = gw_arg_int(call, "ms");
    d->hook_how = gw_arg_int(call, "how");
    return GW_OK;
}
static gw_err nap(struct gw_call *call)
{
    struct gw_sleep sleep = {.wake_after_ms = gw_arg_int(call, "after"),
                             .flags = (uint32_t)gw_arg_int(call, "how")};
    if (gw_arg_int(call, "at") > 0) {
        sleep.wake_at.ms = gw_now(call).ms + gw_arg_int(call, "at");
    }
    return gw_deactivate_with(call, &sleep);
}
static gw_err prod(struct gw_call *call)
{
    return gw_tell(call, gw_arg_id(call, "agent"), "add", gw_nil());
}
static gw_err on_deactivate(struct gw_call *call)
{
    struct dormouse *d = gw_state(call);
    if (d->stubborn) {
        return gw_call_fail(call, GW_EARG, "not sleepy");
    }
    d->naps++;
    if (d->hook_ms == 0 && d->hook_how == 0) {
        return GW_OK;
    }
    struct gw_sleep sleep = {.wake_after_ms = d->hook_ms, .flags = (uint32_t)d->hook_how};
    return gw_deactivate_with(call, &sleep);
}
static gw_err on_activate(struct gw_call *call)
{
    struct dormouse *d = gw_state(call);
    d->wakes++;
    return GW_OK;
}

static const struct gw_method methods[] = {
    {"add() -> (count: int)", add, 0},
    {"look() -> (count: int, naps: int, wakes: int)", look, GW_READ},
    {"be(stubborn: bool = false, ms: int = 0, how: int = 0)", be, 0},
    {"nap(after: int = 0, at: int = 0, how: int = 0)", nap, 0},
    {"prod(agent: agent)", prod, 0},
};
#define DORMOUSE(type_name, ...)                                                                   \
    {                                                                                              \
        .abi = GW_ABI, .size = sizeof(struct gw_type), .name = (type_name), .version = 1,          \
        .state_size = sizeof(struct dormouse), GW_FIELDS(fields), GW_METHODS(methods),             \
        .on_deactivate = on_deactivate, .on_activate = on_activate, __VA_ARGS__                    \
    }
static const struct gw_type plain = DORMOUSE("dormouse", .run = NULL);
static const struct gw_type lazy = DORMOUSE("lazy", .idle_timeout_ms = 10000);
static const struct gw_type deaf = DORMOUSE("deaf", .sleep = GW_SLEEP_QUEUE | GW_SLEEP_AT_START);
static const struct gw_type *const types[] = {&plain, &lazy, &deaf};

/* --- one of them in a mesh --- */
struct stage {
    struct mesh *m;
    gw_id agent;
    char id[GW_ID_TEXT];
};

static void stage_open(struct stage *s, uint64_t seed, const char *type)
{
    *s = (struct stage){.m = mesh_new(seed, 2)};
    for (size_t i = 0; i < 2; i++) {
        mesh_set_types(s->m, i, types, 3);
    }
    mesh_start_all(s->m);
    s->agent = mesh_create(s->m, 0, type);
    (void)gw_id_text(&s->agent, s->id);
}

static void stage_close(struct stage *s)
{
    mesh_free(s->m);
}

static gw_err send(struct stage *s, const char *method, const char *args)
{
    return mesh_op(s->m, 0, NULL, "send", "{'agent': '%s', 'method': '%s', 'args': {%s}}", s->id,
                   method, args);
}

static void must(struct stage *s, const char *method, const char *args)
{
    mesh_must(s->m, 0, NULL, "send", "{'agent': '%s', 'method': '%s', 'args': {%s}}", s->id, method,
              args);
}

static int64_t number(struct stage *s, const char *member)
{
    gw_value v = gw_nil();
    mesh_must(s->m, 0, &v, "send", "{'agent': '%s', 'method': 'look'}", s->id);
    int64_t n = gw_map_int(gw_map_get(&v, "reply"), member, -1);
    gw_value_free(&v);
    return n;
}

/* From `show`: whether it sleeps, and how: "-" awake, else of m (message), s (start), t (time). */
static const char *how(struct stage *s, int64_t *ret_wake_ms)
{
    static char text[8];
    gw_value v = gw_nil();
    mesh_must(s->m, 1, &v, "show", "{'agent': '%s'}", s->id);
    const gw_value *sleep = gw_map_get(&v, "sleep"), *at = gw_map_get(sleep, "wake_at");
    bool wakes = at && at->kind == GW_TIME;
    if (strcmp(gw_map_str(&v, "status", ""), "inactive") != 0) {
        assert_true(!sleep || sleep->kind == GW_NIL);
        (void)snprintf(text, sizeof text, "-");
    } else {
        (void)snprintf(text, sizeof text, "%s%s%s",
                       gw_map_bool(sleep, "wake_on_message", false) ? "m" : "",
                       gw_map_bool(sleep, "at_start", false) ? "s" : "", wakes ? "t" : "");
    }
    if (ret_wake_ms) {
        *ret_wake_ms = wakes ? at->time.ms : 0;
    }
    gw_value_free(&v);
    return text;
}

static void deactivate(struct stage *s, const char *more)
{
    mesh_must(s->m, 0, NULL, "deactivate", "{'agent': '%s'%s}", s->id, more);
}

static bool sleeps(void *arg)
{
    struct stage *s = arg;
    const struct agent *a = agent_find(mesh_node(s->m, 0), &s->agent);
    return a && a->status == AGENT_INACTIVE;
}
static bool is_awake(void *arg)
{
    struct stage *s = arg;
    const struct agent *a = agent_find(mesh_node(s->m, 0), &s->agent);
    return a && a->status == AGENT_ACTIVE;
}

/* --- who decides --- */
static void test_caller_then_agent_then_type(void **state)
{
    (void)state;
    struct stage s;
    int64_t at;
    stage_open(&s, 1, "dormouse");
    deactivate(&s, "");
    assert_string_equal(how(&s, NULL), "m");                           /* nobody said anything */
    deactivate(&s, ", 'wake_after': 50000, 'wake_on_message': false"); /* of one that sleeps */
    assert_string_equal(how(&s, NULL), "t");
    deactivate(&s, ", 'at_start': true");
    assert_string_equal(how(&s, NULL), "ms");
    assert_int_equal(number(&s, "naps"), 1); /* it has slept through it, and was woken once */
    assert_int_equal(number(&s, "wakes"), 1);
    must(&s, "be", "'ms': 60000, 'how': 5"); /* QUEUE | AT_START */
    deactivate(&s, "");
    assert_string_equal(how(&s, NULL), "st");
    mesh_must(s.m, 0, NULL, "activate", "{'agent': '%s'}", s.id);
    deactivate(&s, ", 'wake_after': 1000000, 'wake_on_message': true");
    assert_string_equal(how(&s, &at), "mst"); /* start is left open by the caller */
    assert_true(at > mesh_now_us(s.m) / 1000 + 900000);
    must(&s, "nap", "'after': 90000"); /* the agent as its own caller */
    (void)mesh_run_until(s.m, sleeps, &s, 5000);
    assert_string_equal(how(&s, NULL), "st");
    stage_close(&s);
    stage_open(&s, 2, "deaf");
    deactivate(&s, "");
    assert_string_equal(how(&s, NULL), "s");
    mesh_must(s.m, 0, NULL, "activate", "{'agent': '%s'}", s.id);
    deactivate(&s, ", 'wake_on_message': true, 'at_start': false");
    assert_string_equal(how(&s, NULL), "m");
    must(&s, "nap", "'how': 2"); /* GW_SLEEP_WAKE */
    (void)mesh_run_until(s.m, sleeps, &s, 5000);
    assert_string_equal(how(&s, NULL), "ms");
    stage_close(&s);
}

static void test_refusal(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 4, "dormouse");
    must(&s, "be", "'stubborn': true");
    struct mesh_call *c =
        mesh_ask(s.m, 1, "deactivate", "{'agent': '%s', 'wake_after': 1000}", s.id);
    assert_int_equal(mesh_wait(s.m, c, 10000), GW_EREFUSED);
    assert_non_null(strstr(c->why.text, "not sleepy"));
    mesh_call_free(c);
    assert_string_equal(how(&s, NULL), "-");
    must(&s, "nap", "");
    mesh_run(s.m, 5000);
    assert_string_equal(how(&s, NULL), "-");
    assert_int_equal(number(&s, "naps"), 0);
    must(&s, "be", "");
    deactivate(&s, "");
    assert_string_equal(how(&s, NULL), "m");
    stage_close(&s);
}

static void test_nonsense(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 5, "dormouse");
    static const char *const wrong[] = {"'wake_after': -1", "'wake_after': 3153600000001"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mesh_op(s.m, 0, NULL, "deactivate", "{'agent': '%s', %s}", s.id, wrong[i]),
                         GW_EARG);
    }
    assert_int_equal(send(&s, "nap", "'after': 5, 'at': 5"), GW_EARG);
    assert_int_equal(send(&s, "nap", "'how': 3"), GW_EARG);
    assert_int_equal(send(&s, "nap", "'how': 8"), GW_EARG);
    assert_string_equal(how(&s, NULL), "-");
    stage_close(&s);
}

/* --- waking by time --- */
static void test_wakes_by_time(void **state)
{
    (void)state;
    static const char *const naps[] = {"'after': 20000", "'at': 20000"};
    for (size_t i = 0; i < 2; i++) {
        struct stage s;
        stage_open(&s, 10 + i, "dormouse");
        must(&s, "nap", naps[i]);
        mesh_run(s.m, 19000);
        assert_string_equal(how(&s, NULL), "mt");
        mesh_run(s.m, 2000);
        assert_string_equal(how(&s, NULL), "-");
        assert_int_equal(number(&s, "wakes"), 1);
        must(&s, "nap", naps[i]);
        mesh_run(s.m, 1000);
        must(&s, "add", ""); /* woken early: the time is void */
        mesh_run(s.m, 60000);
        assert_int_equal(number(&s, "wakes"), 2);
        must(&s, "nap", naps[i]);
        mesh_run(s.m, 1000);
        mesh_crash(s.m, 0);
        mesh_run(s.m, 60000);
        mesh_start_all(s.m); /* it was missed: due at the start */
        mesh_run(s.m, 2000);
        assert_string_equal(how(&s, NULL), "-");
        assert_int_equal(number(&s, "wakes"), 3);
        stage_close(&s);
    }
}

static void test_clock_is_set(void **state)
{
    (void)state;
    for (int forward = 0; forward < 2; forward++) {
        struct stage s;
        int64_t jump = forward ? YEARS_10_MS : -YEARS_10_MS;
        stage_open(&s, 20 + (uint64_t)forward, "dormouse");
        must(&s, "nap", "'after': 20000"); /* of time that passes */
        mesh_run(s.m, 1000);
        mesh_set_clock(s.m, 0, jump);
        mesh_run(s.m, 3000);
        assert_string_equal(how(&s, NULL), "mt");
        mesh_crash(s.m, 0); /* the row has been written anew */
        mesh_start_all(s.m);
        mesh_run(s.m, 1000);
        assert_string_equal(how(&s, NULL), "mt");
        mesh_run(s.m, 20000);
        assert_string_equal(how(&s, NULL), "-");
        mesh_set_clock(s.m, 0, -jump);
        mesh_run(s.m, 2000);
        must(&s, "nap", "'at': 20000"); /* of the clock */
        mesh_run(s.m, 1000);
        mesh_set_clock(s.m, 0, jump);
        mesh_run(s.m, 30000);
        assert_string_equal(how(&s, NULL), forward ? "-" : "mt");
        stage_close(&s);
    }
}

/* --- queue without waking --- */
static void test_queue(void **state)
{
    (void)state;
    struct stage s;
    char text[GW_ID_TEXT];
    stage_open(&s, 30, "dormouse");
    gw_id other = mesh_create(s.m, 1, "dormouse");
    deactivate(&s, ", 'wake_on_message': false");
    assert_int_equal(send(&s, "add", ""), GW_EINACTIVE);
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'add', 'tell': true}", s.id);
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'prod', 'args': {'agent': '%s'}}",
              gw_id_text(&other, text), s.id);
    mesh_run(s.m, 5000);
    assert_string_equal(how(&s, NULL), "");
    mesh_crash(s.m, 0);
    mesh_start_all(s.m);
    mesh_run(s.m, 5000);
    assert_string_equal(how(&s, NULL), "");
    assert_int_equal(mesh_op(s.m, 1, NULL, "send",
                             "{'agent': '%s', 'method': 'add', 'tell': true, 'no_wake': true}",
                             s.id),
                     GW_EINACTIVE);
    mesh_must(s.m, 1, NULL, "activate", "{'agent': '%s'}", s.id);
    mesh_run(s.m, 5000);
    assert_int_equal(number(&s, "count"), 2);
    assert_int_equal(number(&s, "wakes"), 1);
    stage_close(&s);
}

/* --- moving asleep --- */
static void test_policy_travels(void **state)
{
    (void)state;
    struct stage s;
    int64_t at = 0;
    stage_open(&s, 40, "dormouse");
    deactivate(&s, ", 'wake_on_message': false, 'at_start': true, 'wake_after': 30000");
    mesh_run(s.m, 10000);
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 1), GW_OK);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 1);
    assert_string_equal(how(&s, &at), "st");
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 0), GW_OK);
    assert_string_equal(how(&s, NULL), "st");
    mesh_run(s.m, 21000);
    assert_string_equal(how(&s, NULL), "-");
    assert_int_equal(number(&s, "wakes"), 1);
    mesh_must(s.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h1', 'inactive': true}", s.id);
    assert_string_equal(how(&s, NULL), "m"); /* nothing is left of an earlier sleep */
    stage_close(&s);
    stage_open(&s, 41, "deaf");
    mesh_must(s.m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'h1', 'inactive': true}", s.id);
    assert_string_equal(how(&s, NULL), "s"); /* as its type says */
    stage_close(&s);
}

/* --- idle agents --- */
static void test_idle(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 50, "lazy");
    for (int i = 0; i < 5; i++) {
        mesh_run(s.m, 8000);
        must(&s, "add", "");
    }
    assert_true(is_awake(&s));
    mesh_run(s.m, 9000);
    assert_true(is_awake(&s));
    mesh_run(s.m, 2100);
    assert_string_equal(how(&s, NULL), "m");
    must(&s, "be", "'stubborn': true"); /* wakes it */
    mesh_run(s.m, 60000);
    assert_true(is_awake(&s));
    must(&s, "be", "'ms': 5000");
    mesh_run(s.m, 12000);
    assert_string_equal(how(&s, NULL), "mt");
    mesh_run(s.m, 5000);
    assert_string_equal(how(&s, NULL), "-");
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 1), GW_OK);
    mesh_crash(s.m, 1);
    mesh_start_all(s.m);
    mesh_run(s.m, 12000); /* also one that was never used since the start */
    assert_string_equal(how(&s, NULL), "mt");
    stage_close(&s);
}

/* --- starts --- */
#define MANY 180
static size_t working(const struct node *n)
{
    size_t count = 0;
    for (const struct agent *a = n->agents; a; a = a->hh.next) {
        count += a->live && a->live->current;
    }
    return count;
}

static void test_starts_are_bounded(void **state)
{
    (void)state;
    struct stage s;
    size_t most = 0, awake = 0;
    char text[GW_ID_TEXT];
    stage_open(&s, 60, "deaf");
    for (int i = 0; i < MANY; i++) {
        gw_id id = mesh_create(s.m, 0, i % 3 == 0 ? "dormouse" : "deaf");
        mesh_must(s.m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': %s}",
                  gw_id_text(&id, text), i % 3 == 0 ? "true" : "false");
        if (i % 3 == 1) { /* mail waits, too */
            mesh_must(s.m, 0, NULL, "send", "{'agent': '%s', 'method': 'add', 'tell': true}", text);
        }
    }
    mesh_crash(s.m, 0);
    mesh_start(s.m, 0);
    for (int64_t end = mesh_now_us(s.m) + 20000000; mesh_now_us(s.m) < end && mesh_step(s.m);) {
        size_t now = working(mesh_node(s.m, 0));
        most = now > most ? now : most;
    }
    assert_in_range(most, 32, 64);
    struct node *n = mesh_node(s.m, 0);
    for (const struct agent *a = n->agents; a; a = a->hh.next) {
        awake += a->status == AGENT_ACTIVE;
    }
    assert_int_equal(awake, MANY / 3 * 2 + 1); /* those that want to be woken at a start */
    assert_int_equal(n->starting, 0);
    assert_int_equal(n->start_count, 0);
    stage_close(&s);
}

/* --- crashes --- */
/* Sleep with a time to wake, crashed at each commit: whoever was told that it sleeps finds it awake
 * later, woken once for each time that it fell asleep. */
static void test_across_crashes(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t f = 0; f < 3; f++) {
        bool fired = true;
        for (size_t at = 0; fired; at++) {
            struct stage s;
            stage_open(&s, 70 + at, "dormouse");
            struct trap t = {.k = at, .fate = fates[f]};
            trap_arm(&t, s.m);
            gw_err err =
                mesh_op(s.m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_after': 10000}", s.id);
            mesh_run(s.m, 30000);
            fired = t.fired;
            mesh_on_commit(s.m, NULL, NULL);
            mesh_heal(s.m);
            mesh_expect_whole(s.m);
            assert_string_equal(how(&s, NULL), "-");
            int64_t naps = number(&s, "naps"), wakes = number(&s, "wakes");
            if (naps != wakes || (err == GW_OK && naps != 1)) {
                mesh_fail(s.m, "fell asleep %lld times, was woken %lld times", (long long)naps,
                          (long long)wakes);
            }
            stage_close(&s);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caller_then_agent_then_type),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_wakes_by_time),
        cmocka_unit_test(test_clock_is_set),
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_policy_travels),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_starts_are_bounded),
        cmocka_unit_test(test_across_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
