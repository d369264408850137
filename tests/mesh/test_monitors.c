/* Monitors: each fires once, whatever moves, sleeps, crashes or is lost between its being set and
 * its on_down; hosts that are lost, and come back. */
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

#include "protocol/limits.h"
#include "protocol/value.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/trap.h"

/* --- sentry: watches as it is told, and logs each down --- */
struct sentry {
    int64_t downs;
    gw_strs log;
    gw_id ref;
};
static const struct gw_field sentry_fields[] = {
    GW_FIELD(struct sentry, downs),
    GW_FIELD(struct sentry, log),
    GW_FIELD(struct sentry, ref),
};

static gw_err watch(struct gw_call *call)
{
    struct sentry *s = gw_state(call);
    return gw_monitor_with(call,
                           &(struct gw_monitor){.agent = gw_arg_id(call, "agent"),
                                                .host = gw_arg_str(call, "host"),
                                                .lost_ms = gw_arg_int(call, "lost")},
                           &s->ref);
}
static gw_err watch_many(struct gw_call *call)
{
    struct sentry *s = gw_state(call);
    for (int64_t i = 0; i < gw_arg_int(call, "n"); i++) {
        GW_TRY(gw_monitor(call, gw_arg_id(call, "agent"), &s->ref));
    }
    return GW_OK;
}
static gw_err unwatch(struct gw_call *call)
{
    struct sentry *s = gw_state(call);
    GW_TRY(gw_strs_add(&s->log, "unwatch"));
    return gw_demonitor(call, s->ref);
}
static gw_err look(struct gw_call *call)
{
    const struct sentry *s = gw_state(call);
    GW_TRY(gw_reply_int(call, "downs", s->downs));
    return gw_reply_strs(call, "log", &s->log);
}
static gw_err on_down(struct gw_call *call)
{
    struct sentry *s = gw_state(call);
    gw_id ref = gw_down_ref(call);
    s->downs++;
    if (gw_id_is_nil(&ref) || gw_down_reason(call) == GW_DOWN_NONE) {
        return gw_call_fail(call, GW_EFAIL, "a down without reference or reason");
    }
    return gw_strs_add(&s->log, gw_reason(call));
}
static const struct gw_method sentry_methods[] = {
    {"watch(agent: agent?, host: string = \"\", lost: int = 0)", watch, 0},
    {"watch_many(agent: agent, n: int)", watch_many, 0},
    {"unwatch()", unwatch, 0},
    {"look() -> (downs: int, log: [string])", look, GW_READ},
};
static const struct gw_type sentry_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "sentry",
    .version = 1,
    .state_size = sizeof(struct sentry),
    GW_FIELDS(sentry_fields),
    GW_METHODS(sentry_methods),
    .on_down = on_down,
};
static const struct gw_type *const types[] = {&sentry_type, &tally_type};

/* --- two of them: the watcher at h0, the watched at h1 --- */
struct stage {
    struct mesh *m;
    gw_id watcher, watched;
    char watcher_id[GW_ID_TEXT], watched_id[GW_ID_TEXT];
    unsigned keys;
};

static void stage_open(struct stage *s, uint64_t seed)
{
    *s = (struct stage){.m = mesh_new(seed, 3)};
    for (size_t i = 0; i < 3; i++) {
        mesh_set_types(s->m, i, types, 2);
    }
    mesh_start_all(s->m);
    s->watcher = mesh_create(s->m, 0, "sentry");
    s->watched = mesh_create(s->m, 1, "tally");
    mesh_expect_disposed(s->m, &s->watched);
    (void)gw_id_text(&s->watcher, s->watcher_id);
    (void)gw_id_text(&s->watched, s->watched_id);
}

/* An operation that is repeated until it is acknowledged; 'also' counts as that, too. */
static void surely(struct stage *s, const char *op, const char *args, gw_err also)
{
    gw_err err = GW_OK;
    for (size_t i = 0; i < 100; i++) {
        size_t via = i % 3;
        err = mesh_alive(s->m, via) ? mesh_op(s->m, via, NULL, op, "%s", args) : GW_EUNREACHABLE;
        if (err == GW_OK || err == also) {
            return;
        }
        mesh_run(s->m, 300);
    }
    mesh_fail(s->m, "%s is never acknowledged: %s", op, gw_err_name(err));
}

static void tell(struct stage *s, const char *method, const char *args)
{
    char text[400];
    (void)snprintf(text, sizeof text,
                   "{'agent': '%s', 'method': '%s', 'args': {%s}, 'key': 'k%u', 'timeout': 2000, "
                   "'text': true}",
                   s->watcher_id, method, args, s->keys++);
    surely(s, "send", text, GW_OK);
}

static void watch_agent(struct stage *s, const char *id)
{
    char args[80];
    (void)snprintf(args, sizeof args, "'agent': '%s'", id);
    tell(s, "watch", args);
}

static void dispose(struct stage *s, const char *id)
{
    char args[80];
    (void)snprintf(args, sizeof args, "{'agent': '%s'}", id);
    surely(s, "dispose", args, GW_EDISPOSED);
}

/* The log of the watcher as one text: "disposed host_lost". */
static const char *downs(struct stage *s, int64_t *ret_n)
{
    static char text[400];
    for (size_t i = 0; i < 100; i++) {
        gw_value v = gw_nil();
        size_t at = 0;
        if (mesh_op(s->m, i % 3, &v, "send", "{'agent': '%s', 'method': 'look'}", s->watcher_id) !=
            GW_OK) {
            mesh_run(s->m, 300);
            continue;
        }
        const gw_value *reply = gw_map_get(&v, "reply"), *log = gw_map_get(reply, "log");
        *ret_n = gw_map_int(reply, "downs", -1);
        text[0] = '\0';
        for (size_t k = 0; k < log->list.n && at < sizeof text; k++) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", k ? " " : "",
                                   log->list.items[k].s.p);
        }
        gw_value_free(&v);
        return text;
    }
    mesh_fail(s->m, "look is never answered");
}

static void expect_downs(struct stage *s, const char *want)
{
    int64_t n;
    const char *got = downs(s, &n);
    if (strcmp(got, want) != 0) {
        mesh_fail(s->m, "the monitors have fired \"%s\", not \"%s\"", got, want);
    }
}

static size_t shown(struct stage *s, const char *id, const char *list)
{
    gw_value v = gw_nil();
    mesh_must(s->m, 2, &v, "show", "{'agent': '%s'}", id);
    const gw_value *rows = gw_map_get(&v, list);
    size_t n = rows && rows->kind == GW_LIST ? rows->list.n : SIZE_MAX;
    gw_value_free(&v);
    return n;
}

static void test_disposed(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 1);
    watch_agent(&s, s.watched_id);
    mesh_run(s.m, 1000);
    assert_int_equal(shown(&s, s.watcher_id, "monitors"), 1);
    assert_int_equal(shown(&s, s.watched_id, "watchers"), 1);
    expect_downs(&s, "");
    dispose(&s, s.watched_id);
    mesh_run(s.m, 1000);
    expect_downs(&s, "disposed");
    assert_int_equal(shown(&s, s.watcher_id, "monitors"), 0);
    assert_int_equal(actor_rows(s.m, 0, TABLE_WATCHES) + actor_rows(s.m, 1, TABLE_WATCHES), 0);
    assert_int_equal(actor_rows(s.m, 0, TABLE_OUTBOX) + actor_rows(s.m, 1, TABLE_OUTBOX), 0);
    mesh_run(s.m, 120000);
    expect_downs(&s, "disposed");
    mesh_free(s.m);
}

/* What is gone already is said at once. */
static void test_not_found(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 2);
    dispose(&s, s.watched_id);
    watch_agent(&s, s.watched_id);
    mesh_run(s.m, 1000);
    expect_downs(&s, "not_found");
    watch_agent(&s, "01JD8Z5MESHMESHMESHMESHMES");
    mesh_run(s.m, 1000);
    expect_downs(&s, "not_found not_found");
    tell(&s, "watch", "'host': 'nowhere'");
    mesh_run(s.m, 1000);
    expect_downs(&s, "not_found not_found not_found");
    mesh_run(s.m, 60000);
    assert_int_equal(shown(&s, s.watcher_id, "monitors"), 0);
    assert_int_equal(actor_rows(s.m, 0, TABLE_OUTBOX), 0); /* what was not heard is dropped */
    mesh_free(s.m);
}

static void test_demonitor(void **state)
{
    (void)state;
    for (int step = 0; step < 40; step++) {
        struct stage s;
        int64_t n;
        stage_open(&s, 100 + (uint64_t)step);
        watch_agent(&s, s.watched_id);
        mesh_run(s.m, step % 3 ? 500 : step % 7);
        if (step % 2) { /* the down and the demonitor meet */
            struct mesh_call *c = mesh_ask(s.m, 1, "dispose", "{'agent': '%s'}", s.watched_id);
            mesh_run(s.m, step % 5);
            tell(&s, "unwatch", "");
            mesh_call_free(c);
        } else {
            tell(&s, "unwatch", "");
            dispose(&s, s.watched_id);
        }
        mesh_run(s.m, 3000);
        const char *log = downs(&s, &n);
        size_t len = strlen(log);
        mesh_assert(s.m, n <= step % 2 && len >= 7 && strcmp(log + len - 7, "unwatch") == 0);
        mesh_crash(s.m, 0);
        mesh_start_all(s.m);
        mesh_run(s.m, 2000);
        log = downs(&s, &n);
        mesh_assert(s.m, strlen(log) == len);
        assert_int_equal(actor_rows(s.m, 0, TABLE_WATCHES), 0);
        mesh_free(s.m);
    }
}

static void test_its_own_end_leaves_no_rows(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 4);
    watch_agent(&s, s.watched_id);
    mesh_run(s.m, 1000);
    assert_int_equal(actor_rows(s.m, 1, TABLE_WATCHES), 1);
    mesh_expect_disposed(s.m, &s.watcher);
    dispose(&s, s.watcher_id);
    mesh_run(s.m, 2000);
    assert_int_equal(actor_rows(s.m, 1, TABLE_WATCHES), 0);
    dispose(&s, s.watched_id);
    mesh_free(s.m);
}

static void test_limits(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 5);
    int64_t n;
    gw_err err = mesh_op(s.m, 0, NULL, "send",
                         "{'agent': '%s', 'method': 'watch_many', 'args': {'agent': '%s', 'n': "
                         "%d}, 'text': true}",
                         s.watcher_id, s.watched_id, LIMIT_MONITORS_PER_AGENT + 1);
    assert_int_equal(err, GW_EBUSY);
    assert_int_equal(shown(&s, s.watcher_id, "monitors"), 0);
    mesh_must(s.m, 0, NULL, "send",
              "{'agent': '%s', 'method': 'watch_many', 'args': {'agent': '%s', 'n': %d}, 'text': "
              "true}",
              s.watcher_id, s.watched_id, LIMIT_MONITORS_PER_AGENT);
    mesh_run(s.m, 20000);
    dispose(&s, s.watched_id);
    mesh_run(s.m, 60000);
    (void)downs(&s, &n);
    assert_int_equal(n, LIMIT_MONITORS_PER_AGENT);
    mesh_free(s.m);
}

/* --- faults --- */
static void move(struct stage *s, const gw_id *agent, size_t to)
{
    char id[GW_ID_TEXT];
    struct mesh_call *call = mesh_ask(s->m, (to + 1) % 3, "dispatch",
                                      "{'agent': '%s', 'to': 'h%zu'}", gw_id_text(agent, id), to);
    (void)mesh_wait(s->m, call, 8000);
    mesh_call_free(call);
}

/* Both move, the watcher sleeps, the watched ends; one fault on the way. */
static bool life_with(struct trap *t, uint64_t seed)
{
    struct stage s;
    stage_open(&s, seed);
    trap_arm(t, s.m);
    watch_agent(&s, s.watched_id);
    if (seed % 2) {
        mesh_run(s.m, 100);
    }
    move(&s, &s.watched, 2);
    move(&s, &s.watcher, 1);
    (void)mesh_op(s.m, mesh_alive(s.m, 0) ? 0 : 1, NULL, "deactivate", "{'agent': '%s'}",
                  s.watcher_id);
    dispose(&s, s.watched_id);
    mesh_run(s.m, 3000);
    mesh_heal(s.m);
    mesh_run(s.m, 12000);
    expect_downs(&s, "disposed");
    for (size_t i = 0; i < 3; i++) {
        mesh_crash(s.m, i);
    }
    mesh_heal(s.m);
    expect_downs(&s, "disposed");
    for (size_t i = 0; i < 3; i++) {
        if (actor_rows(s.m, i, TABLE_WATCHES) != 0) {
            mesh_fail(s.m, "fault at commit %zu of h%zu leaves rows on h%zu", t->k, t->host, i);
        }
    }
    mesh_free(s.m);
    return t->fired;
}

static void test_across_crashes(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL,
                                        COMMIT_SLOW};
    for (size_t f = 0; f < 4; f++) {
        for (size_t host = 0; host < 3; host++) {
            bool hit = true;
            for (size_t k = 0; hit; k++) {
                struct trap t = {.host = host, .k = k, .fate = fates[f]};
                hit = life_with(&t, k);
            }
        }
    }
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1000; seed < 1060; seed++) {
        struct stage s;
        stage_open(&s, seed);
        watch_agent(&s, s.watched_id);
        for (int i = 0; i < 6; i++) {
            switch (mesh_random(s.m, 5)) {
            case 0: move(&s, &s.watched, mesh_random(s.m, 3)); break;
            case 1: move(&s, &s.watcher, mesh_random(s.m, 3)); break;
            case 2:
                mesh_crash(s.m, mesh_random(s.m, 3));
                mesh_run(s.m, (int64_t)mesh_random(s.m, 500));
                mesh_start_all(s.m);
                break;
            case 3: mesh_cut(s.m, 0, 1 + mesh_random(s.m, 2)); break;
            default:
                (void)mesh_op(s.m, mesh_random(s.m, 3), NULL, "deactivate", "{'agent': '%s'}",
                              mesh_random(s.m, 2) ? s.watched_id : s.watcher_id);
                break;
            }
        }
        mesh_heal(s.m);
        dispose(&s, s.watched_id);
        mesh_crash(s.m, mesh_random(s.m, 3));
        mesh_heal(s.m);
        mesh_run(s.m, 12000);
        expect_downs(&s, "disposed");
        mesh_free(s.m);
    }
}

/* --- hosts that are lost --- */

static void test_host_lost_then_back(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 7);
    watch_agent(&s, s.watched_id);
    mesh_run(s.m, 1000);
    mesh_crash(s.m, 1);
    mesh_run(s.m, 28000);
    expect_downs(&s, "");
    mesh_run(s.m, 8000);
    expect_downs(&s, "host_lost");
    mesh_start(s.m, 1);
    mesh_run(s.m, 5000);
    dispose(&s, s.watched_id); /* its late end is no second one */
    mesh_run(s.m, 20000);
    expect_downs(&s, "host_lost");
    mesh_free(s.m);
}

/* A host that is back in time was not lost. */
static void test_short_loss(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 8);
    watch_agent(&s, s.watched_id);
    mesh_run(s.m, 1000);
    for (int i = 0; i < 4; i++) {
        mesh_crash(s.m, 1);
        mesh_run(s.m, 25000);
        mesh_start(s.m, 1);
        mesh_run(s.m, 3000);
    }
    expect_downs(&s, "");
    dispose(&s, s.watched_id);
    mesh_run(s.m, 3000);
    expect_downs(&s, "disposed");
    mesh_free(s.m);
}

/* The watch follows: what is lost is the host where the agent is, not the one where it was. */
static void test_follows_moves(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 9);
    watch_agent(&s, s.watched_id);
    mesh_run(s.m, 1000);
    assert_int_equal(mesh_move(s.m, 1, &s.watched, 2), GW_OK);
    mesh_crash(s.m, 1); /* h0 has last heard of it there */
    mesh_run(s.m, 100000);
    expect_downs(&s, "");
    mesh_start(s.m, 1);
    mesh_run(s.m, 3000);
    mesh_crash(s.m, 2);
    mesh_run(s.m, 40000);
    expect_downs(&s, "host_lost");
    mesh_free(s.m);
}

/* Nobody who could be asked knows where it went. */
static void test_all_others_lost(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 10);
    watch_agent(&s, s.watched_id);
    mesh_run(s.m, 1000);
    assert_int_equal(mesh_move(s.m, 1, &s.watched, 2), GW_OK);
    mesh_crash(s.m, 1);
    mesh_crash(s.m, 2);
    mesh_run(s.m, 40000);
    expect_downs(&s, "host_lost");
    mesh_free(s.m);
}

static void test_patience_of_one_monitor(void **state)
{
    (void)state;
    struct stage s;
    char args[120];
    stage_open(&s, 11);
    (void)snprintf(args, sizeof args, "'agent': '%s', 'lost': 3000", s.watched_id);
    tell(&s, "watch", args);
    (void)snprintf(args, sizeof args, "'agent': '%s', 'lost': -1", s.watched_id);
    tell(&s, "watch", args);
    mesh_run(s.m, 1000);
    mesh_crash(s.m, 1);
    mesh_run(s.m, 6000);
    expect_downs(&s, "host_lost");
    mesh_run(s.m, 100000);
    expect_downs(&s, "host_lost");
    mesh_start(s.m, 1);
    mesh_run(s.m, 3000);
    dispose(&s, s.watched_id);
    mesh_run(s.m, 12000);
    expect_downs(&s, "host_lost disposed");
    mesh_free(s.m);
}

static void test_host_monitor(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s, 12);
    tell(&s, "watch", "'host': 'h1'");
    tell(&s, "watch", "'host': 'h0'"); /* its own: never lost to itself */
    mesh_crash(s.m, 1);
    mesh_run(s.m, 20000);
    mesh_start(s.m, 1);
    mesh_run(s.m, 20000);
    expect_downs(&s, "");
    mesh_crash(s.m, 1);
    mesh_run(s.m, 40000);
    expect_downs(&s, "host_lost");
    mesh_start(s.m, 1);
    mesh_run(s.m, 3000);
    mesh_crash(s.m, 1);
    mesh_run(s.m, 60000);
    expect_downs(&s, "host_lost");
    tell(&s, "watch", "'host': 'h1'"); /* gone already */
    mesh_run(s.m, 3000);
    expect_downs(&s, "host_lost host_lost");
    mesh_free(s.m);
}

/* The host of the watcher fails at each of its commits while another one is lost. */
static void test_lost_across_crashes(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t f = 0; f < 3; f++) {
        bool hit = true;
        for (size_t k = 0; hit; k++) {
            struct stage s;
            struct trap t = {.k = k, .fate = fates[f]};
            stage_open(&s, k);
            watch_agent(&s, s.watched_id);
            mesh_run(s.m, 1000);
            mesh_crash(s.m, 1);
            trap_arm(&t, s.m);
            mesh_run(s.m, 33000);
            mesh_on_commit(s.m, NULL, NULL);
            mesh_run(s.m, 1000);
            mesh_start_all(s.m);
            mesh_crash(s.m, 1);
            mesh_run(s.m, 40000);
            expect_downs(&s, "host_lost");
            mesh_start_all(s.m);
            dispose(&s, s.watched_id);
            mesh_run(s.m, 12000);
            expect_downs(&s, "host_lost");
            hit = t.fired;
            mesh_free(s.m);
        }
    }
}

/* --- what a peer might send --- */

static gw_err note(struct wire *w, struct stage *s, const char *method, gw_value inner)
{
    gw_value args = gw_nil(), context = gw_nil(), packed = gw_nil(), key = gw_nil();
    struct buf bytes = {0};
    uint8_t raw[16] = {9};
    gw_id sender = {{7}};
    char text[GW_ID_TEXT];
    value_pack(&inner, &bytes);
    gw_err err = gw_value_set_bytes(&packed, bytes.data, bytes.len);
    err |= gw_value_set_bytes(&key, raw, sizeof raw);
    err |= gw_map_set(&args, "agent", gw_str(s->watched_id));
    err |= gw_map_set(&args, "sender", gw_str(gw_id_text(&sender, text)));
    err |= gw_map_set(&args, "seq", gw_int(1));
    err |= gw_map_set(&args, "since", gw_int(1));
    err |= gw_map_set(&args, "method", gw_str(method));
    err |= gw_map_set(&args, "args", packed);
    err |= gw_map_set(&args, "key", key);
    err |= gw_map_set(&context, "hop", gw_bool(true));
    assert_int_equal(err, GW_OK);
    buf_free(&bytes);
    gw_value_free(&inner);
    return wire_wait(w, wire_call(w, "accept", args, context));
}

static void test_hostile_notes(void **state)
{
    (void)state;
    struct stage s;
    struct wire w;
    gw_value v = gw_nil(), list = gw_nil();
    gw_id nil = {{0}}, ref = {{1}};
    stage_open(&s, 13);
    wire_open(&w, s.m, 0, 1);
    assert_int_equal(note(&w, &s, "$watch", gw_int(7)), GW_EPROTO);
    assert_int_equal(note(&w, &s, "$nonsense", gw_nil()), GW_EPROTO);
    assert_int_equal(gw_map_set(&v, "ref", gw_id_value(&nil)), GW_OK);
    assert_int_equal(note(&w, &s, "$watch", v), GW_EPROTO);
    v = gw_nil();
    assert_int_equal(gw_map_set(&v, "ref", gw_id_value(&ref)), GW_OK);
    assert_int_equal(gw_map_set(&v, "reason", gw_str("because")), GW_OK);
    assert_int_equal(note(&w, &s, "$down", v), GW_EPROTO);
    v = gw_nil();
    assert_int_equal(gw_map_set(&v, "ref", gw_id_value(&ref)), GW_OK);
    assert_int_equal(gw_map_set(&v, "reason", gw_str("disposed")), GW_OK);
    assert_int_equal(note(&w, &s, "$down", v), GW_OK); /* of no monitor: nothing comes of it */
    assert_int_equal(actor_rows(s.m, 1, TABLE_INBOX), 0);
    for (int i = 0; i <= LIMIT_WHEREABOUTS; i++) {
        ref.b[1] = (uint8_t)i, ref.b[2] = (uint8_t)(i >> 8);
        assert_int_equal(gw_list_add(&list, gw_id_value(&ref)), GW_OK);
    }
    v = gw_nil();
    assert_int_equal(gw_map_set(&v, "agents", list), GW_OK);
    assert_int_equal(wire_wait(&w, wire_call(&w, "whereabouts", v, gw_nil())), GW_ETOO_BIG);
    mesh_on_frame(s.m, NULL, NULL);
    mesh_free(s.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disposed),        cmocka_unit_test(test_not_found),
        cmocka_unit_test(test_demonitor),       cmocka_unit_test(test_its_own_end_leaves_no_rows),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_across_crashes),
        cmocka_unit_test(test_random),          cmocka_unit_test(test_host_lost_then_back),
        cmocka_unit_test(test_short_loss),      cmocka_unit_test(test_follows_moves),
        cmocka_unit_test(test_all_others_lost), cmocka_unit_test(test_patience_of_one_monitor),
        cmocka_unit_test(test_host_monitor),    cmocka_unit_test(test_lost_across_crashes),
        cmocka_unit_test(test_hostile_notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
