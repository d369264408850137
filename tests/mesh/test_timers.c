/* Timers of agents: each firing is handled once, whatever ends between its being set and its
 * handler's commit; they travel, wake, are taken back, keep their beat, and do not care what the
 * clock is set to. */
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

#include "host/core/handoff.h"
#include "tests/mesh/trap.h"
#include "tests/mesh/virtual.h"

#define YEARS_10_MS (10LL * 365 * 24 * 3600 * 1000)

/* --- ticker: sets timers as it is told, and logs each that fires --- */
struct ticker {
    int64_t fired, sum;
    gw_strs log;
    bool failing;
};
static const struct gw_field ticker_fields[] = {
    GW_FIELD(struct ticker, fired),
    GW_FIELD(struct ticker, sum),
    GW_FIELD(struct ticker, log),
    GW_FIELD(struct ticker, failing),
};

static gw_value by(struct gw_call *call)
{
    gw_value args = gw_nil();
    assert_int_equal(gw_map_set(&args, "by", gw_int(gw_arg_int(call, "by"))), GW_OK);
    return args;
}
static gw_err once(struct gw_call *call)
{
    return gw_timer(call, gw_arg_str(call, "name"), gw_arg_int(call, "ms"), by(call));
}
static gw_err every(struct gw_call *call)
{
    return gw_arg_bool(call, "each")
               ? gw_timer_each(call, gw_arg_str(call, "name"), gw_arg_int(call, "ms"), by(call))
               : gw_timer_every(call, gw_arg_str(call, "name"), gw_arg_int(call, "ms"), by(call));
}
static gw_err at_time(struct gw_call *call)
{
    return gw_timer_at(call, gw_arg_str(call, "name"),
                       (gw_time){gw_now(call).ms + gw_arg_int(call, "ms")}, gw_nil());
}
static gw_err cancel(struct gw_call *call)
{
    struct ticker *t = gw_state(call);
    GW_TRY(gw_strs_add(&t->log, "cancel"));
    return gw_timer_cancel(call, gw_arg_str(call, "name"));
}
static gw_err many(struct gw_call *call)
{
    struct ticker *t = gw_state(call);
    t->sum += 1000000; /* must leave no trace when it is too many */
    for (int64_t i = 0; i < gw_arg_int(call, "n"); i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "many-%lld", (long long)i);
        GW_TRY(gw_timer(call, name, 3600000, gw_nil()));
    }
    return GW_OK;
}
static gw_err set_failing(struct gw_call *call)
{
    struct ticker *t = gw_state(call);
    t->failing = gw_arg_bool(call, "on");
    return GW_OK;
}
static gw_err look(struct gw_call *call)
{
    const struct ticker *t = gw_state(call);
    GW_TRY(gw_reply_int(call, "fired", t->fired));
    GW_TRY(gw_reply_int(call, "sum", t->sum));
    return gw_reply_strs(call, "log", &t->log);
}
static gw_err on_timer(struct gw_call *call)
{
    struct ticker *t = gw_state(call);
    t->fired++;
    t->sum += gw_arg_int(call, "by");
    GW_TRY(gw_strs_add(&t->log, gw_timer_name(call)));
    return t->failing ? gw_call_fail(call, GW_EREFUSED, "failing on purpose") : GW_OK;
}

static const struct gw_method ticker_methods[] = {
    {"once(name: string, ms: int, by: int = 1)", once, 0},
    {"every(name: string, ms: int, each: bool = false, by: int = 1)", every, 0},
    {"at(name: string, ms: int)", at_time, 0},
    {"cancel(name: string)", cancel, 0},
    {"many(n: int)", many, 0},
    {"fail(on: bool)", set_failing, 0},
    {"look() -> (fired: int, sum: int, log: [string])", look, GW_READ},
};
static const struct gw_type ticker_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "ticker",
    .version = 1,
    .state_size = sizeof(struct ticker),
    GW_FIELDS(ticker_fields),
    GW_METHODS(ticker_methods),
    .on_timer = on_timer,
};
static const struct gw_type *const types[] = {&ticker_type};

/* --- one of them in a mesh --- */
struct stage {
    struct mesh *m;
    gw_id agent;
    char id[GW_ID_TEXT];
    unsigned keys;
};

static void stage_open(struct stage *s, uint64_t seed)
{
    *s = (struct stage){.m = mesh_new(seed, 3)};
    for (size_t i = 0; i < 3; i++) {
        mesh_set_types(s->m, i, types, 1);
    }
    mesh_start_all(s->m);
    s->agent = mesh_create(s->m, 0, "ticker");
    (void)gw_id_text(&s->agent, s->id);
}

static void stage_close(struct stage *s)
{
    mesh_free(s->m);
}

/* A message that is acknowledged in the end, whatever fails meanwhile; applied once. */
static void tell(struct stage *s, const char *method, const char *args)
{
    gw_err err = GW_OK;
    unsigned key = s->keys++;
    for (size_t i = 0; i < 60; i++) {
        size_t via = i % 3;
        err = mesh_alive(s->m, via)
                  ? mesh_op(s->m, via, NULL, "send",
                            "{'agent': '%s', 'method': '%s', 'args': {%s}, 'key': 'k%u', "
                            "'timeout': 2000}",
                            s->id, method, args, key)
                  : GW_EUNREACHABLE;
        if (err == GW_OK) {
            return;
        }
        mesh_run(s->m, 200);
    }
    mesh_fail(s->m, "%s is never acknowledged: %s", method, gw_err_name(err));
}

static int64_t number(struct stage *s, const char *member)
{
    gw_value v = gw_nil();
    for (size_t i = 0; i < 60; i++) {
        if (mesh_op(s->m, i % 3, &v, "send", "{'agent': '%s', 'method': 'look'}", s->id) == GW_OK) {
            int64_t n = gw_map_int(gw_map_get(&v, "reply"), member, -1);
            gw_value_free(&v);
            return n;
        }
        mesh_run(s->m, 200);
    }
    mesh_fail(s->m, "look is never answered");
}

static int64_t fired(struct stage *s)
{
    return number(s, "fired");
}

static void expect_fired(struct stage *s, int64_t want)
{
    int64_t got = fired(s);
    if (got != want) {
        mesh_fail(s->m, "I4: %lld firings were handled instead of %lld", (long long)got,
                  (long long)want);
    }
}

/* Nothing was handled after the cancelling. */
static void expect_cancelled(struct stage *s)
{
    gw_value v = gw_nil();
    mesh_must(s->m, 0, &v, "send", "{'agent': '%s', 'method': 'look'}", s->id);
    const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
    if (strcmp(log->list.items[log->list.n - 1].s.p, "cancel") != 0) {
        mesh_fail(s->m, "on_timer ran after the timer was cancelled");
    }
    gw_value_free(&v);
}

/* From `show`: how many timers, and what is said of the first. */
static size_t shown(struct stage *s, int64_t *ret_due, int64_t *ret_period)
{
    gw_value v = gw_nil();
    mesh_must(s->m, 1, &v, "show", "{'agent': '%s'}", s->id);
    const gw_value *timers = gw_map_get(&v, "timers");
    size_t n = timers->list.n;
    if (n > 0 && ret_due) {
        *ret_due = gw_map_get(&timers->list.items[0], "due")->time.ms;
        *ret_period = gw_map_int(&timers->list.items[0], "period_ms", 0);
    }
    gw_value_free(&v);
    return n;
}

static bool is_inactive(struct stage *s)
{
    gw_value v = gw_nil();
    mesh_must(s->m, 1, &v, "show", "{'agent': '%s'}", s->id);
    bool yes = strcmp(gw_map_str(&v, "status", ""), "inactive") == 0;
    gw_value_free(&v);
    return yes;
}

static void test_once(void **state)
{
    (void)state;
    struct stage s;
    int64_t due = 0, period = -1;
    stage_open(&s, 1);
    tell(&s, "once", "'name': 'a', 'ms': 1000, 'by': 7");
    assert_int_equal(shown(&s, &due, &period), 1);
    assert_int_equal(period, 0);
    mesh_run(s.m, 900);
    expect_fired(&s, 0);
    mesh_run(s.m, 200);
    expect_fired(&s, 1);
    assert_int_equal(number(&s, "sum"), 7); /* what was set with it */
    assert_int_equal(shown(&s, NULL, NULL), 0);
    mesh_run(s.m, 10000);
    expect_fired(&s, 1);
    stage_close(&s);
}

static void test_periodic_keeps_its_beat(void **state)
{
    (void)state;
    struct stage s;
    int64_t due = 0, period = 0;
    stage_open(&s, 2);
    tell(&s, "every", "'name': 'beat', 'ms': 100");
    mesh_run(s.m, 100050);
    int64_t n = fired(&s);
    assert_in_range(n, 1000, 1001);
    assert_int_equal(shown(&s, &due, &period), 1);
    assert_int_equal(period, 100);
    tell(&s, "cancel", "'name': 'beat'");
    n = fired(&s);
    mesh_run(s.m, 5000);
    expect_fired(&s, n);
    assert_int_equal(shown(&s, NULL, NULL), 0);
    stage_close(&s);
}

/* Setting again takes the place of what was there. */
static void test_set_again(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 3);
    tell(&s, "every", "'name': 'a', 'ms': 100, 'by': 1000");
    tell(&s, "once", "'name': 'a', 'ms': 3000, 'by': 1");
    int64_t before = number(&s, "sum");
    assert_int_equal(shown(&s, NULL, NULL), 1);
    mesh_run(s.m, 10000);
    assert_int_equal(number(&s, "sum"), before + 1);
    stage_close(&s);
}

/* After cancel is acknowledged on_timer does not run, however close to the firing it came. */
static void test_cancel_takes_back(void **state)
{
    (void)state;
    for (int step = 0; step < 80; step++) {
        struct stage s;
        char set[64];
        stage_open(&s, 100 + (uint64_t)step);
        (void)snprintf(set, sizeof set, "'name': 'a', 'ms': %d", 10 + step / 20);
        tell(&s, step % 2 ? "every" : "once", set);
        mesh_run(s.m, 7 + step % 5);
        tell(&s, "cancel", "'name': 'a'");
        mesh_run(s.m, 2000);
        expect_cancelled(&s);
        mesh_crash(s.m, 0);
        mesh_start_all(s.m);
        mesh_run(s.m, 3000);
        expect_cancelled(&s);
        stage_close(&s);
    }
}

/* --- faults --- */
/* The same while the disk sleeps: the firing or the cancelling waits for it. */
static void test_cancel_on_a_slow_disk(void **state)
{
    (void)state;
    for (int offset = 190; offset < 206; offset += 5) {
        bool hit = true;
        for (size_t k = 0; hit && k < 32; k++) {
            struct stage s;
            stage_open(&s, 50 + k + 100 * (uint64_t)offset);
            tell(&s, k % 4 < 2 ? "every" : "once", "'name': 'a', 'ms': 200");
            struct trap t = {.host = 0, .k = k / 4, .fate = COMMIT_SLOW};
            trap_arm(&t, s.m);
            mesh_run(s.m, offset);
            tell(&s, "cancel", "'name': 'a'");
            hit = t.fired;
            mesh_run(s.m, 10000);
            expect_cancelled(&s);
            mesh_crash(s.m, 0);
            mesh_start_all(s.m);
            mesh_run(s.m, 3000);
            expect_cancelled(&s);
            stage_close(&s);
        }
    }
}

/* However long nobody handles them, one message of a timer waits. */
static void test_one_waits(void **state)
{
    (void)state;
    struct stage s;
    gw_value v = gw_nil();
    stage_open(&s, 16);
    tell(&s, "every", "'name': 'a', 'ms': 10, 'each': true");
    mesh_crash_runner(s.m, 0);
    mesh_run(s.m, 10);
    mesh_crash_runner(s.m, 0);
    mesh_run(s.m, 10);
    mesh_crash_runner(s.m, 0);
    mesh_run(s.m, 150); /* it starts again after 200 ms */
    mesh_must(s.m, 0, &v, "show", "{'agent': '%s'}", s.id);
    assert_int_equal(gw_map_int(gw_map_get(&v, "mailbox"), "queued", -1), 1);
    gw_value_free(&v);
    mesh_run(s.m, 1000);
    assert_in_range(fired(&s), 110, 130); /* it has caught up */
    stage_close(&s);
}

static void test_across_crashes(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL,
                                        COMMIT_SLOW};
    for (size_t f = 0; f < 4; f++) {
        bool hit = true;
        for (size_t k = 0; hit; k++) {
            struct stage s;
            stage_open(&s, k);
            struct trap t = {.host = 0, .k = k, .fate = fates[f]};
            trap_arm(&t, s.m);
            tell(&s, "once", "'name': 'a', 'ms': 400");
            tell(&s, "once", "'name': 'b', 'ms': 700");
            mesh_run(s.m, 8000);
            hit = t.fired;
            mesh_heal(s.m);
            expect_fired(&s, 2);
            assert_int_equal(shown(&s, NULL, NULL), 0);
            mesh_crash(s.m, 0);
            mesh_heal(s.m);
            expect_fired(&s, 2);
            stage_close(&s);
        }
    }
}

static void test_missed_while_down(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 6);
    tell(&s, "once", "'name': 'a', 'ms': 500");
    tell(&s, "every", "'name': 'b', 'ms': 1000, 'by': 100");
    tell(&s, "every", "'name': 'c', 'ms': 1000, 'each': true, 'by': 10000");
    int64_t began = mesh_now_us(s.m);
    mesh_crash(s.m, 0);
    mesh_run(s.m, 20500);
    mesh_start_all(s.m);
    mesh_run(s.m, 200);
    int64_t passed = (mesh_now_us(s.m) - began) / 1000000, sum = number(&s, "sum");
    assert_int_equal(sum % 100, 1);
    assert_int_equal(sum / 100 % 100, 1); /* twenty missed ones are one */
    assert_in_range(sum / 10000, passed - 1, passed);
    mesh_run(s.m, 1000);
    assert_int_equal(number(&s, "sum") / 100 % 100, 2); /* and the beat goes on */
    stage_close(&s);
}

/* At most so many are made up for. */
static void test_made_up_is_bounded(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 7);
    tell(&s, "every", "'name': 'c', 'ms': 1000, 'each': true");
    mesh_crash(s.m, 0);
    mesh_run(s.m, 3600 * 1000);
    mesh_start_all(s.m);
    mesh_run(s.m, 5000);
    assert_in_range(fired(&s), LIMIT_TIMER_MISSED, LIMIT_TIMER_MISSED + 8);
    stage_close(&s);
}

static void move(struct stage *s, size_t to)
{
    struct mesh_call *call =
        mesh_ask(s->m, (to + 1) % 3, "dispatch", "{'agent': '%s', 'to': 'h%zu'}", s->id, to);
    (void)mesh_wait(s->m, call, 8000);
    mesh_call_free(call);
}

static void move_with(struct trap *t, uint64_t seed)
{
    struct stage s;
    stage_open(&s, seed);
    tell(&s, "once", "'name': 'soon', 'ms': 20, 'by': 1");
    tell(&s, "once", "'name': 'later', 'ms': 30000, 'by': 100");
    tell(&s, "at", "'name': 'wall', 'ms': 30000");
    trap_arm(t, s.m);
    mesh_run(s.m, (int64_t)mesh_random(s.m, 25));
    move(&s, 1);
    move(&s, 0);
    mesh_heal(s.m);
    mesh_run(s.m, 2000);
    expect_fired(&s, 1);
    mesh_run(s.m, 60000);
    expect_fired(&s, 3);
    assert_int_equal(number(&s, "sum"), 101);
    assert_int_equal(shown(&s, NULL, NULL), 0);
    mesh_expect_whole(s.m);
    stage_close(&s);
}

/* There and back, with a fault at each frame and each commit. */
static void test_across_moves(void **state)
{
    (void)state;
    static const mesh_fate fates[] = {FATE_LOSE,     FATE_CUT,        FATE_TWICE,         FATE_LATE,
                                      FATE_CRASH_TO, FATE_CRASH_FROM, FATE_CRASH_TO_AFTER};
    static const commit_fate cfates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL,
                                         COMMIT_SLOW};
    for (size_t f = 0; f < sizeof fates / sizeof fates[0]; f++) {
        bool hit = true;
        for (size_t k = 0; hit; k++) {
            struct trap t = {.frames = trap_is_handoff, .k = k, .frame_fate = fates[f]};
            move_with(&t, k);
            hit = t.fired;
        }
    }
    for (size_t f = 0; f < 8; f++) {
        bool hit = true;
        for (size_t k = 0; hit; k++) {
            struct trap t = {.host = f / 4, .k = k, .fate = cfates[f % 4]};
            move_with(&t, k);
            hit = t.fired;
        }
    }
}

/* An agent that is frozen does not fire: what comes due then fires where it goes on. */
static void test_frozen(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct stage s;
        stage_open(&s, seed);
        tell(&s, "once", "'name': 'a', 'ms': 10");
        mesh_run(s.m, 8 + (int64_t)(seed % 3));
        mesh_set_delay(s.m, 0, 1, 400 + 100 * (int64_t)seed);
        move(&s, 1);
        mesh_run(s.m, 100);
        assert_int_equal(mesh_where(s.m, &s.agent, NULL), 1);
        expect_fired(&s, 1);
        stage_close(&s);
    }
}

/* A refused move leaves them running. */
static void test_abort_keeps_them(void **state)
{
    (void)state;
    struct stage s;
    struct trap t = {.frames = trap_is_handoff, .k = 0, .frame_fate = FATE_LOSE};
    stage_open(&s, 9);
    tell(&s, "once", "'name': 'a', 'ms': 500");
    trap_arm(&t, s.m);
    struct mesh_call *call = mesh_ask(s.m, 0, "dispatch", "{'agent': '%s', 'to': 'h1'}", s.id);
    mesh_run(s.m, 1000);
    mesh_part(s.m, 0, 1, true); /* the repeat of STAGE does not come through either */
    (void)mesh_wait(s.m, call, 60000);
    assert_int_not_equal(call->err, GW_OK);
    mesh_call_free(call);
    mesh_run(s.m, 500);
    mesh_assert(s.m, t.fired);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 0);
    expect_fired(&s, 1);
    stage_close(&s);
}

static void test_sleep_and_wake(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        struct stage s;
        stage_open(&s, 10);
        tell(&s, "once", "'name': 'a', 'ms': 5000");
        mesh_must(s.m, 0, NULL, "deactivate", "{'agent': '%s', 'wake_on_message': false}", s.id);
        if (crash) {
            mesh_crash(s.m, 0);
            mesh_start_all(s.m);
        }
        mesh_run(s.m, 500);
        assert_true(is_inactive(&s));
        assert_int_equal(shown(&s, NULL, NULL), 1);
        mesh_run(s.m, 6000);
        assert_false(is_inactive(&s)); /* it has woken up by itself */
        expect_fired(&s, 1);
        stage_close(&s);
    }
}

/* One that sleeps moves without waking, its timers with it. */
static void test_move_asleep(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 11);
    tell(&s, "once", "'name': 'a', 'ms': 5000");
    mesh_must(s.m, 0, NULL, "deactivate", "{'agent': '%s'}", s.id);
    move(&s, 2);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 2);
    assert_true(is_inactive(&s));
    mesh_run(s.m, 6000);
    assert_false(is_inactive(&s));
    expect_fired(&s, 1);
    stage_close(&s);
}

static size_t failures(struct stage *s)
{
    gw_value v = gw_nil();
    size_t n = 0;
    struct mesh_call *call = mesh_ask(s->m, 0, "events", "{'agent': '%s'}", s->id);
    (void)mesh_wait(s->m, call, 10000);
    for (size_t i = 0; i < call->items.list.n; i++) {
        n += strcmp(gw_map_str(&call->items.list.items[i], "kind", ""), "hook.failed") == 0;
    }
    mesh_call_free(call);
    gw_value_free(&v);
    return n;
}

static void test_failing_handler(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 12);
    tell(&s, "every", "'name': 'a', 'ms': 1000");
    tell(&s, "fail", "'on': true");
    mesh_run(s.m, 3500);
    assert_int_equal(failures(&s), 3);
    expect_fired(&s, 0); /* they left nothing */
    tell(&s, "fail", "'on': false");
    mesh_run(s.m, 3000);
    expect_fired(&s, 3);
    stage_close(&s);
}

static void test_runner_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct stage s;
        stage_open(&s, seed);
        tell(&s, "once", "'name': 'a', 'ms': 10");
        for (int i = 0; i < 3; i++) {
            mesh_run(s.m, 3 + (int64_t)mesh_random(s.m, 4));
            mesh_crash_runner(s.m, 0);
        }
        mesh_run(s.m, 5000);
        expect_fired(&s, 1);
        stage_close(&s);
    }
}

/* Elapsed time does not hear of a clock that is set; wall timers do. */
static void test_clock_is_set(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        for (int back = 0; back < 2; back++) {
            struct stage s;
            stage_open(&s, 13);
            tell(&s, "once", "'name': 'elapsed', 'ms': 20000, 'by': 1");
            tell(&s, "at", "'name': 'wall', 'ms': 10000");
            mesh_set_clock(s.m, 0, back ? -YEARS_10_MS : YEARS_10_MS);
            mesh_run(s.m, 3000);
            expect_fired(&s, back ? 0 : 1);
            if (crash) {
                mesh_crash(s.m, 0);
                mesh_start_all(s.m);
            }
            mesh_run(s.m, 12000);
            expect_fired(&s, back ? 0 : 1);
            mesh_run(s.m, 8000);
            expect_fired(&s, back ? 1 : 2);
            assert_int_equal(number(&s, "sum"), 1);
            mesh_set_clock(s.m, 0, back ? YEARS_10_MS : -YEARS_10_MS);
            mesh_run(s.m, 2000);
            expect_fired(&s, 2);
            stage_close(&s);
        }
    }
}

/* The disk is full when the clock is set: the rows learn of it all the same, before a crash takes
 * the jump for time that passed. */
static void test_clock_is_set_and_the_disk_full(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 14);
    tell(&s, "once", "'name': 'elapsed', 'ms': 20000, 'by': 1");
    mesh_fill_disk(s.m, 0, 2500);
    mesh_set_clock(s.m, 0, YEARS_10_MS);
    mesh_run(s.m, 5000);
    mesh_crash(s.m, 0);
    mesh_start_all(s.m);
    mesh_run(s.m, 10000);
    expect_fired(&s, 0);
    mesh_run(s.m, 8000);
    expect_fired(&s, 1);
    stage_close(&s);
}

static void test_limit(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 14);
    assert_int_equal(mesh_op(s.m, 1, NULL, "send",
                             "{'agent': '%s', 'method': 'many', 'args': {'n': %d}}", s.id,
                             LIMIT_TIMERS_PER_AGENT + 1),
                     GW_EBUSY);
    assert_int_equal(shown(&s, NULL, NULL), 0);
    assert_int_equal(number(&s, "sum"), 0);
    mesh_must(s.m, 1, NULL, "send", "{'agent': '%s', 'method': 'many', 'args': {'n': %d}}", s.id,
              LIMIT_TIMERS_PER_AGENT);
    assert_int_equal(shown(&s, NULL, NULL), LIMIT_TIMERS_PER_AGENT);
    assert_int_equal(mesh_op(s.m, 1, NULL, "send",
                             "{'agent': '%s', 'method': 'once', 'args': {'name': 'one', 'ms': 10}}",
                             s.id),
                     GW_EBUSY);
    tell(&s, "once", "'name': 'many-0', 'ms': 10"); /* in place of one */
    mesh_run(s.m, 100);
    expect_fired(&s, 1);
    move(&s, 1);
    assert_int_equal(mesh_where(s.m, &s.agent, NULL), 1);
    assert_int_equal(shown(&s, NULL, NULL), LIMIT_TIMERS_PER_AGENT - 1);
    stage_close(&s);
}

static void test_end_and_clone(void **state)
{
    (void)state;
    struct stage s;
    gw_value v = gw_nil();
    stage_open(&s, 15);
    tell(&s, "every", "'name': 'a', 'ms': 1000");
    mesh_must(s.m, 0, &v, "clone", "{'agent': '%s', 'to': 'h1'}", s.id);
    struct stage twin = s;
    assert_int_equal(gw_id_parse(gw_map_str(&v, "agent", ""), &twin.agent), GW_OK);
    (void)gw_id_text(&twin.agent, twin.id);
    gw_value_free(&v);
    assert_int_equal(shown(&twin, NULL, NULL), 0);
    int64_t before = fired(&twin);
    mesh_run(s.m, 3000);
    expect_fired(&twin, before);
    mesh_expect_disposed(s.m, &s.agent);
    mesh_must(s.m, 0, NULL, "dispose", "{'agent': '%s'}", s.id);
    mesh_run(s.m, 3000);
    mesh_crash(s.m, 0);
    mesh_heal(s.m);
    mesh_run(s.m, 3000);
    mesh_expect_whole(s.m);
    stage_close(&s);
}

/* The right number of firings across moves, sleep, crashes of hosts and of runners. */
static void test_count_over_all(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct stage s;
        stage_open(&s, seed);
        tell(&s, "every", "'name': 'a', 'ms': 500, 'each': true");
        int64_t began = mesh_now_us(s.m);
        for (int i = 0; i < 30; i++) {
            size_t at = mesh_where(s.m, &s.agent, NULL);
            mesh_run(s.m, (int64_t)mesh_random(s.m, 700));
            switch (mesh_random(s.m, 4)) {
            case 0: move(&s, (at + 1) % 3); break;
            case 1: (void)mesh_op(s.m, at, NULL, "deactivate", "{'agent': '%s'}", s.id); break;
            case 2:
                mesh_crash(s.m, at);
                mesh_run(s.m, (int64_t)mesh_random(s.m, 3000));
                mesh_start_all(s.m);
                break;
            default: mesh_crash_runner(s.m, at); break;
            }
        }
        mesh_heal(s.m);
        mesh_run(s.m, 4000);
        int64_t n = fired(&s), want = (mesh_now_us(s.m) - began) / 500000;
        if (n > want + 1 || n < want - 2) {
            mesh_fail(s.m, "%lld firings in %lld periods", (long long)n, (long long)want);
        }
        stage_close(&s);
    }
}

/* --- lists of a hostile ticket --- */
struct entry {
    const char *name;
    int64_t clock, when, period;
    bool each;
    const char *args;
    size_t args_n;
};

static gw_err store(const struct entry *e, size_t n, size_t cut)
{
    struct buf list = {0};
    struct store_batch *batch = store_batch_new();
    gw_id id = {{1}};
    mp_array(&list, n);
    for (size_t i = 0; i < n; i++) {
        struct buf row = {0};
        char name[80];
        (void)snprintf(name, sizeof name, "%s%zu", e->name, i);
        mp_array(&row, 6);
        mp_int(&row, e->clock);
        mp_int(&row, e->when);
        mp_int(&row, 0);
        mp_int(&row, e->period);
        mp_bool(&row, e->each);
        mp_bin(&row, e->args, e->args_n);
        mp_array(&list, 2);
        mp_bin(&list, name, strlen(name));
        mp_span(&list, buf_span(&row));
        buf_free(&row);
    }
    gw_err err = timers_store(batch, &id, 1, (struct span){list.data, list.len - cut}, 0);
    assert_int_equal(store_batch_count(batch), err == GW_OK ? n : store_batch_count(batch));
    buf_free(&list);
    store_batch_free(batch);
    return err;
}

static void test_hostile_list(void **state)
{
    (void)state;
    static char large[LIMIT_TIMER_ARGS_BYTES + 1];
    /* {"x": bytes}: one of exactly the limit, one of a byte more */
    memcpy(large, "\x81\xa1x\xc5", 4);
    const struct entry good = {"t", 0, 1000, 0, false, "\x80", 1};
    struct entry e = good;
    assert_int_equal(store(&e, 1, 0), GW_OK);
    assert_int_equal(store(&e, 1, 1), GW_EPROTO);
    assert_int_equal(store(&e, LIMIT_TIMERS_PER_AGENT, 0), GW_OK);
    assert_int_equal(store(&e, LIMIT_TIMERS_PER_AGENT + 1, 0), GW_EPROTO);
    for (size_t over = 0; over < 2; over++) {
        size_t n = LIMIT_TIMER_ARGS_BYTES + over - 6;
        large[4] = (char)(n >> 8);
        large[5] = (char)n;
        e.args = large;
        e.args_n = LIMIT_TIMER_ARGS_BYTES + over;
        assert_int_equal(store(&e, 1, 0), over ? GW_EPROTO : GW_OK);
    }
    static const struct {
        struct entry e;
        gw_err want;
    } rows[] = {
        {{"t", 0, LIMIT_TIMER_MS, 0, false, "", 0}, GW_OK},
        {{"t", 0, LIMIT_TIMER_MS + 1, 0, false, "", 0}, GW_EPROTO},
        {{"t", 0, -LIMIT_TIMER_MS, 0, false, "", 0}, GW_OK},
        {{"t", 0, -LIMIT_TIMER_MS - 1, 0, false, "", 0}, GW_EPROTO},
        {{"t", 0, 5, LIMIT_TIMER_PERIOD_MS, true, "", 0}, GW_OK},
        {{"t", 0, 5, LIMIT_TIMER_PERIOD_MS - 1, true, "", 0}, GW_EPROTO},
        {{"t", 0, 5, -5, false, "", 0}, GW_EPROTO},
        {{"t", 0, 5, LIMIT_TIMER_MS + 1, false, "", 0}, GW_EPROTO},
        {{"t", 0, 5, 0, true, "", 0}, GW_EPROTO},
        {{"t", 1, LIMIT_TIMER_AT_MS, 0, false, "", 0}, GW_OK},
        {{"t", 1, LIMIT_TIMER_AT_MS + 1, 0, false, "", 0}, GW_EPROTO},
        {{"t", 1, -1, 0, false, "", 0}, GW_EPROTO},
        {{"t", 1, 5, 1000, false, "", 0}, GW_EPROTO},
        {{"t", 2, 5, 0, false, "", 0}, GW_EPROTO},
        {{"../t", 0, 5, 0, false, "", 0}, GW_EPROTO},
        {{"t", 0, 5, 0, false, "\x01", 1}, GW_EPROTO},
        {{"t", 0, 5, 0, false, "\x80\x80", 2}, GW_EPROTO},
        {{"t", 0, 5, 0, false, "\x81", 1}, GW_EPROTO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(store(&rows[i].e, 1, 0), rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_periodic_keeps_its_beat),
        cmocka_unit_test(test_set_again),
        cmocka_unit_test(test_cancel_takes_back),
        cmocka_unit_test(test_cancel_on_a_slow_disk),
        cmocka_unit_test(test_one_waits),
        cmocka_unit_test(test_across_crashes),
        cmocka_unit_test(test_missed_while_down),
        cmocka_unit_test(test_made_up_is_bounded),
        cmocka_unit_test(test_across_moves),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_abort_keeps_them),
        cmocka_unit_test(test_sleep_and_wake),
        cmocka_unit_test(test_move_asleep),
        cmocka_unit_test(test_failing_handler),
        cmocka_unit_test(test_runner_crashes),
        cmocka_unit_test(test_clock_is_set),
        cmocka_unit_test(test_clock_is_set_and_the_disk_full),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_end_and_clone),
        cmocka_unit_test(test_count_over_all),
        cmocka_unit_test(test_hostile_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
