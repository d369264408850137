/* Lives of agents and of their runners: sleep, wake, end, what an agent asks about itself, creation
 * under a key, transactions that are rolled back (memory is what is on disk), crashes of runners,
 * messages that cause them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/base/log.h"
#include "tests/mesh/actor.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/trap.h"

static const char *id_text(const gw_id *id)
{
    static char text[4][GW_ID_TEXT];
    static int next;
    next = (next + 1) % 4;
    return gw_id_text(id, text[next]);
}

static void expect_status(struct mesh *m, size_t via, const gw_id *agent, const char *status)
{
    gw_value v = gw_nil();
    mesh_must(m, via, &v, "show", "{'agent': '%s'}", id_text(agent));
    if (strcmp(gw_map_str(&v, "status", ""), status) != 0) {
        mesh_fail(m, "the agent is %s, not %s", gw_map_str(&v, "status", ""), status);
    }
    gw_value_free(&v);
}

static int64_t queued(struct mesh *m, size_t via, const gw_id *agent)
{
    gw_value v = gw_nil();
    mesh_must(m, via, &v, "show", "{'agent': '%s'}", id_text(agent));
    int64_t n = gw_map_int(gw_map_get(&v, "mailbox"), "queued", -1);
    gw_value_free(&v);
    return n;
}

/* --- sleep and wake --- */
static void test_wake_on_message(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(101, 2);
    gw_id a = mesh_create(m, 0, "actor");
    mesh_must(m, 1, NULL, "deactivate", "{'agent': '%s'}", id_text(&a));
    mesh_must(m, 1, NULL, "deactivate", "{'agent': '%s'}", id_text(&a)); /* asleep already */
    expect_status(m, 0, &a, "inactive");
    mesh_crash(m, 0);
    mesh_start_all(m);
    expect_status(m, 0, &a, "inactive");
    assert_int_equal(mesh_op(m, 1, NULL, "send",
                             "{'agent': '%s', 'method': 'add', 'no_wake': true}", id_text(&a)),
                     GW_EINACTIVE);
    actor_must(m, 1, &a, "add", "{}");
    expect_status(m, 0, &a, "active");
    assert_string_equal(actor_history(m, 1, &a), "create sleep wake");
    mesh_must(m, 1, NULL, "deactivate", "{'agent': '%s'}", id_text(&a));
    mesh_must(m, 1, NULL, "activate", "{'agent': '%s'}", id_text(&a));
    mesh_must(m, 1, NULL, "activate", "{'agent': '%s'}", id_text(&a));
    assert_string_equal(actor_history(m, 1, &a), "create sleep wake sleep wake");
    assert_int_equal(mesh_count(m, 1, &a), 1);
    mesh_free(m);
}

static void test_no_wake(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(102, 2);
    gw_id a = mesh_create(m, 0, "actor"), b = mesh_create(m, 1, "actor");
    /* messages that wait when it falls asleep are told, one that was accepted stays */
    struct mesh_call *sleep =
        mesh_ask(m, 0, "deactivate", "{'agent': '%s', 'wake_on_message': false}", id_text(&a));
    struct mesh_call *behind[3];
    for (size_t i = 0; i < 3; i++) {
        behind[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", id_text(&a));
    }
    assert_int_equal(mesh_wait(m, sleep, 60000), GW_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mesh_wait(m, behind[i], 60000), GW_EINACTIVE);
        mesh_call_free(behind[i]);
    }
    mesh_call_free(sleep);
    assert_int_equal(actor_send(m, 1, &a, "add", "{}"), GW_EINACTIVE);
    assert_int_equal(actor_relay(m, 1, &b, &a, 7, "r7"), GW_OK);
    mesh_run(m, 5000);
    for (int round = 0; round < 2; round++) {
        expect_status(m, 1, &a, "inactive");
        assert_int_equal(queued(m, 1, &a), 1);
        mesh_crash(m, 0);
        mesh_start_all(m);
        mesh_run(m, 5000);
    }
    mesh_must(m, 1, NULL, "activate", "{'agent': '%s'}", id_text(&a));
    mesh_run(m, 1000);
    assert_string_equal(actor_history(m, 1, &a), "create sleep wake #7");
    mesh_free(m);
}

/* on_activate fails, and a message that was accepted waits: tried now and then, nothing is lost,
 * nobody spins. */
static void test_wake_that_fails(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(103, 2);
    gw_id a = mesh_create(m, 0, "actor"), b = mesh_create(m, 1, "actor");
    actor_must(m, 0, &a, "mood", "{'moody': 'true'}");
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", id_text(&a));
    assert_int_equal(mesh_op(m, 1, NULL, "activate", "{'agent': '%s'}", id_text(&a)), GW_EREFUSED);
    assert_int_equal(actor_relay(m, 1, &b, &a, 7, "r7"), GW_OK);
    mesh_run(m, 2000);
    assert_int_equal(actor_send(m, 1, &a, "add", "{}"), GW_EREFUSED);
    uint64_t before = mesh_events(m);
    mesh_run(m, 20000);
    mesh_assert(m, mesh_events(m) - before < 20 * 200);
    expect_status(m, 1, &a, "inactive");
    assert_int_equal(queued(m, 1, &a), 1);
    mesh_free(m);
}

/* The runner is down for a while: who asks is told, what was accepted waits. Ten thousand may wait:
 * the host must not go deeper for each. */
static void test_wake_without_runner(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(104, 2);
    gw_id a = mesh_create(m, 0, "actor"), b = mesh_create(m, 1, "actor");
    mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", id_text(&a));
    for (int i = 0; i < 5; i++) {
        mesh_crash_runner(m, 0);
        mesh_run(m, 10);
    }
    assert_int_equal(actor_relay(m, 1, &b, &a, 7, "r7"), GW_OK); /* its runner is in back-off */
    mesh_run(m, 20000);
    assert_string_equal(actor_history(m, 1, &a), "create sleep wake #7");
    mesh_free(m);
}

static void test_many_wait_when_the_runner_goes(void **state)
{
    (void)state;
    enum { N = 9900 };
    static struct mesh_call *calls[N];
    struct mesh *m = actor_mesh(105, 1);
    gw_id a = mesh_create(m, 0, "actor");
    for (int i = 0; i < 3; i++) {
        mesh_crash_runner(m, 0);
        mesh_run(m, i < 2 ? 20 : 0);
    }
    size_t refused = 0, done = 0;
    for (size_t i = 0; i < N; i++) {
        calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add'}", id_text(&a));
    }
    for (size_t i = 0; i < N; i++) {
        gw_err err = mesh_wait(m, calls[i], 60000);
        assert_true(err == GW_OK || err == GW_ECRASHED);
        refused += err == GW_ECRASHED;
        done += err == GW_OK;
        mesh_call_free(calls[i]);
    }
    assert_true(refused > N / 2);
    mesh_run(m, 60000);
    assert_int_equal(mesh_count(m, 0, &a), done);
    mesh_free(m);
}

/* --- the end --- */
static void test_dispose(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(106, 3);
    struct wire w;
    gw_id a = mesh_create(m, 0, "actor");
    mesh_expect_disposed(m, &a);
    actor_must(m, 0, &a, "mood",
               "{'moody': 'true'}"); /* its on_dispose fails: it ends all the same */
    struct mesh_call *end = mesh_ask(m, 0, "dispose", "{'agent': '%s'}", id_text(&a));
    struct mesh_call *behind[3];
    for (size_t i = 0; i < 3; i++) {
        behind[i] = mesh_ask(m, i, "send", "{'agent': '%s', 'method': 'add'}", id_text(&a));
    }
    assert_int_equal(mesh_wait(m, end, 60000), GW_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mesh_wait(m, behind[i], 60000), GW_EDISPOSED);
        mesh_call_free(behind[i]);
    }
    mesh_call_free(end);
    for (int round = 0; round < 2; round++) {
        gw_value args = gw_nil(), context = gw_nil();
        for (size_t via = 0; via < 3; via++) {
            assert_int_equal(actor_send(m, via, &a, "add", "{}"), GW_EDISPOSED);
            assert_int_equal(mesh_op(m, via, NULL, "dispose", "{'agent': '%s'}", id_text(&a)),
                             GW_EDISPOSED);
        }
        wire_open(&w, m, 1, 0); /* its id stays used for ever */
        assert_int_equal(gw_map_set(&args, "type", gw_str("actor")), GW_OK);
        assert_int_equal(gw_map_set(&context, "hop", gw_bool(true)), GW_OK);
        assert_int_equal(gw_map_set(&context, "id", gw_str(id_text(&a))), GW_OK);
        assert_int_equal(wire_wait(&w, wire_call(&w, "create", args, context)), GW_EEXISTS);
        mesh_on_frame(m, NULL, NULL);
        mesh_crash(m, 0);
        mesh_start_all(m);
    }
    assert_int_equal(actor_rows(m, 0, TABLE_STATES), 0);
    assert_int_equal(actor_rows(m, 0, TABLE_AGENTS), 0);
    mesh_free(m);
}

/* --- creation under a key --- */
static void test_concurrent_creates_under_one_key(void **state)
{
    (void)state;
    for (size_t at = 0; at < 2; at++) {
        for (int bad = 0; bad < 2; bad++) {
            struct mesh *m = actor_mesh(107, 2);
            struct mesh_call *calls[4];
            gw_id made = {{0}};
            for (size_t i = 0; i < 4; i++) {
                calls[i] = mesh_ask(m, 0, "create",
                                    "{'type': 'actor', 'at': 'h%zu', 'key': 'k', 'state': {%s}}",
                                    at, bad ? "'nix': 1" : "");
            }
            for (size_t i = 0; i < 4; i++) {
                assert_int_equal(mesh_wait(m, calls[i], 60000), bad ? GW_EARG : GW_OK);
                if (!bad) {
                    gw_id id = actor_id_of(m, &calls[i]->value);
                    made = i == 0 ? id : made;
                    assert_true(gw_id_equal(&made, &id));
                }
                mesh_call_free(calls[i]);
            }
            mesh_must(m, 0, NULL, "create", "{'type': 'actor', 'at': 'h%zu', 'key': 'k'}", at);
            mesh_run(m, 1000);
            assert_int_equal(actor_rows(m, at, TABLE_AGENTS), 1);
            assert_int_equal(actor_rows(m, !at, TABLE_AGENTS), 0);
            mesh_free(m);
        }
    }
}

/* A create whose answer was lost, then a destination that is only starting and refuses: still the
 * same agent. */
static void test_a_refusal_does_not_make_an_unsure_create_sure(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct mesh *m = actor_mesh(1080 + seed, 2);
        struct trap t = {.host = 1, .k = 0, .fate = COMMIT_CRASH_AFTER};
        gw_err err = GW_OK;
        trap_arm(&t, m);
        for (int i = 0; i < 60; i++) {
            err = mesh_op(m, 0, NULL, "create", "{'type': 'actor', 'at': 'h1', 'key': 'k'}");
            if (err == GW_OK) {
                break;
            }
            mesh_run(m, 50);
        }
        assert_int_equal(err, GW_OK);
        mesh_heal(m);
        assert_int_equal(actor_rows(m, 1, TABLE_AGENTS), 1);
        mesh_free(m);
    }
}

/* The host stops while an agent is being made. */
static void test_stop_while_creating(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(109, 1);
    struct mesh_call *calls[5];
    mesh_crash_runner(m, 0); /* so that they wait */
    mesh_run(m, 1);
    for (size_t i = 0; i < 5; i++) {
        calls[i] = mesh_ask(m, 0, "create", "{'type': 'actor'}");
    }
    mesh_stop(m, 0);
    for (size_t i = 0; i < 5; i++) {
        assert_true(calls[i]->done && calls[i]->err != GW_OK);
        mesh_call_free(calls[i]);
    }
    mesh_start_all(m);
    assert_int_equal(actor_rows(m, 0, TABLE_AGENTS), 0);
    mesh_free(m);
}

/* --- what an agent asks about itself --- */
static gw_err tour(struct mesh *m, const gw_id *a, const char *stops)
{
    return mesh_op(m, 0, NULL, "send",
                   "{'agent': '%s', 'method': 'tour', 'key': 'tour', 'args': {'stops': [%s]}}",
                   id_text(a), stops);
}

static void tour_surely(struct mesh *m, const gw_id *a, const char *stops)
{
    gw_err err = GW_OK;
    for (int i = 0; i < 60; i++) {
        err = tour(m, a, stops);
        if (err == GW_OK) {
            return;
        }
        mesh_run(m, 500);
    }
    mesh_fail(m, "the tour is never begun: %s", gw_err_name(err));
}

/* A chain over three hosts by on_arrive; the host that it begins at crashes at each commit. */
static void test_tour_with_a_crash_at_each_commit(void **state)
{
    (void)state;
    for (int after = 0; after < 2; after++) {
        bool fired = true;
        for (struct trap t = {.host = 0, .fate = after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE};
             fired; t.k++) {
            struct mesh *m = actor_mesh(110 + t.k, 3);
            gw_id a = mesh_create(m, 0, "actor");
            trap_arm(&t, m);
            tour_surely(m, &a, "'h1', 'h2'");
            mesh_run(m, 60000);
            fired = t.fired;
            mesh_heal(m);
            mesh_run(m, 60000);
            mesh_expect_whole(m);
            assert_string_equal(actor_history(m, 1, &a), "create leave arrive leave arrive");
            assert_int_equal(mesh_where(m, &a, NULL), 2);
            mesh_free(m);
        }
    }
}

/* Any host crashes at any commit: it arrives, or is told that it stays; it is never lost or left
 * without either. */
static void test_tour_with_crashes_on_the_way(void **state)
{
    (void)state;
    for (size_t host = 1; host < 3; host++) {
        bool fired = true;
        for (struct trap t = {.host = host, .fate = COMMIT_CRASH_AFTER}; fired; t.k++) {
            struct mesh *m = actor_mesh(120 + t.k, 3);
            gw_id a = mesh_create(m, 0, "actor");
            trap_arm(&t, m);
            tour_surely(m, &a, "'h1', 'h2'");
            mesh_run(m, 60000);
            fired = t.fired;
            mesh_heal(m);
            mesh_run(m, 60000);
            mesh_expect_whole(m);
            const char *history = actor_history(m, 1, &a);
            bool there = mesh_where(m, &a, NULL) == 2;
            if (there == (strstr(history, "failed") != NULL)) {
                mesh_fail(m, "at h%zu with \"%s\"", mesh_where(m, &a, NULL), history);
            }
            mesh_free(m);
        }
    }
}

/* The destination is away; what tells the agent so survives a crash of its host at any commit. */
static void test_dispatch_that_fails(void **state)
{
    (void)state;
    bool fired = true;
    for (struct trap t = {.host = 0, .fate = COMMIT_CRASH_AFTER}; fired; t.k++) {
        struct mesh *m = actor_mesh(130, 3);
        gw_id a = mesh_create(m, 0, "actor");
        mesh_crash(m, 1);
        mesh_run(m, 40000);
        trap_arm(&t, m);
        tour_surely(m, &a, "'h1'");
        mesh_run(m, 90000);
        fired = t.fired;
        mesh_on_commit(m, NULL, NULL); /* h0 shall not crash when h1 comes back */
        assert_string_equal(actor_history(m, 2, &a), "create failed unreachable");
        assert_int_equal(mesh_where(m, &a, NULL), 0);
        mesh_start_all(m);
        assert_int_equal(mesh_move(m, 2, &a, 1), GW_OK); /* nothing hangs on */
        mesh_free(m);
    }
}

/* Dispatch and clone in one handler, and a crash at each commit: both, once. */
static void test_two_wishes(void **state)
{
    (void)state;
    for (int remote = 0; remote < 2; remote++) {
        for (int after = 0; after < 2; after++) {
            bool fired = true;
            for (struct trap t = {.host = 0,
                                 .fate = after ? COMMIT_CRASH_AFTER : COMMIT_CRASH_BEFORE};
                 fired; t.k++) {
                struct mesh *m = actor_mesh(140 + t.k, 3);
                gw_id a = mesh_create(m, 0, "actor");
                gw_err err = GW_OK;
                trap_arm(&t, m);
                for (int i = 0; i < 60; i++) {
                    err = mesh_op(
                        m, 0, NULL, "send",
                        "{'agent': '%s', 'method': 'both', 'key': 'both', 'args': {'to': 'h1', "
                        "'clone': 'h%d'}}",
                        id_text(&a), remote ? 2 : 0);
                    if (err == GW_OK) {
                        break;
                    }
                    mesh_run(m, 500);
                }
                assert_int_equal(err, GW_OK);
                mesh_run(m, 60000);
                fired = t.fired;
                mesh_heal(m);
                mesh_run(m, 60000);
                mesh_expect_whole(m);
                assert_int_equal(mesh_where(m, &a, NULL), 1);
                size_t clones = actor_rows(m, remote ? 2 : 0, TABLE_AGENTS);
                if (clones != 1 || actor_rows(m, 1, TABLE_AGENTS) != 1) {
                    mesh_fail(m, "%zu clones instead of one", clones);
                }
                mesh_free(m);
            }
        }
    }
}

/* Sleep and end of its own will, with a crash or a roll-back at each commit. */
static void test_own_sleep_and_end(void **state)
{
    (void)state;
    static const commit_fate fates[] = {COMMIT_CRASH_BEFORE, COMMIT_CRASH_AFTER, COMMIT_FAIL};
    for (size_t f = 0; f < 3; f++) {
        for (int end = 0; end < 2; end++) {
            bool fired = true;
            for (struct trap t = {.host = 0, .fate = fates[f]}; fired; t.k++) {
                struct mesh *m = actor_mesh(150 + t.k, 2);
                gw_id a = mesh_create(m, 0, "actor");
                if (end) {
                    mesh_expect_disposed(m, &a);
                }
                trap_arm(&t, m);
                gw_err err = GW_OK;
                for (int i = 0; i < 60; i++) {
                    err =
                        mesh_op(m, 1, NULL, "send", "{'agent': '%s', 'method': '%s', 'key': 'own'}",
                                id_text(&a), end ? "end" : "nap");
                    if (err == GW_OK || err == GW_EDISPOSED) {
                        break;
                    }
                    mesh_run(m, 500);
                }
                mesh_run(m, 30000);
                fired = t.fired;
                mesh_heal(m);
                if (end) {
                    assert_int_equal(mesh_copies(m, &a), 0);
                    assert_int_equal(actor_rows(m, 0, TABLE_AGENTS), 0);
                } else if (fates[f] != COMMIT_FAIL ||
                           !t.fired) { /* a message that is sent again wakes it */
                    assert_string_equal(actor_history(m, 1, &a), "create sleep wake");
                }
                mesh_free(m);
            }
        }
    }
}

/* --- roll-backs: who asked is told, memory is what is on disk, a repeat does it --- */
struct attempt {
    const char *op, *args;
};

static void digest_host(struct mesh *m, size_t host, struct buf *out)
{
    struct mesh_call *c = mesh_ask(m, host, "agents", "{'limit': 1000}");
    mesh_assert(m, mesh_wait(m, c, 60000) == GW_OK);
    const gw_value *list = gw_map_get(&c->value, "agents");
    for (size_t i = 0; list && i < list->list.n; i++) {
        gw_id id = actor_id_of(m, &list->list.items[i]);
        gw_value v = gw_nil();
        buf_addf(out, "%s %s", id_text(&id), gw_map_str(&list->list.items[i], "status", ""));
        mesh_must(m, host, &v, "show", "{'agent': '%s'}", id_text(&id));
        buf_addf(out, " queued %lld",
                 (long long)gw_map_int(gw_map_get(&v, "mailbox"), "queued", -1));
        gw_value_free(&v);
        if (strcmp(gw_map_str(&list->list.items[i], "status", ""), "active") == 0) {
            buf_addf(out, " %lld %s", (long long)mesh_count(m, host, &id),
                     actor_history(m, host, &id));
        }
        buf_addf(out, "\n");
    }
    mesh_call_free(c);
}

static void test_roll_backs(void **state)
{
    (void)state;
    static const struct attempt attempts[] = {
        {"send", "{'agent': '%s', 'method': 'add'}"},
        {"send", "{'agent': '%s', 'method': 'add', 'key': 'k'}"},
        {"send", "{'agent': '%s', 'method': 'add', 'tell': true}"},
        {"send", "{'agent': '%s', 'method': 'add', 'tell': true, 'key': 'k'}"},
        {"send", "{'agent': '%s', 'method': 'tour', 'args': {'stops': ['h0']}}"},
        {"create", "{'type': 'actor', 'alias': 'x', 'key': '%.4s'}"},
        {"clone", "{'agent': '%s', 'key': 'k'}"},
        {"deactivate", "{'agent': '%s'}"},
        {"dispatch", "{'agent': '%s', 'to': 'h1', 'key': 'k'}"},
        {"dispose", "{'agent': '%s'}"},
    };
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        const struct attempt *at = &attempts[i];
        struct mesh *m = actor_mesh(160 + i, 2);
        gw_id a = mesh_create(m, 0, "actor");
        char args[256];
        (void)snprintf(args, sizeof args, at->args,
                       id_text(&a)); /* NOLINT: the formats are above */
        struct trap t = {.host = 0, .fate = COMMIT_FAIL};
        struct buf before = {0}, after = {0}, restarted = {0};
        digest_host(m, 0, &before);
        trap_arm(&t, m);
        gw_err err = mesh_op(m, 0, NULL, at->op, "%s", args);
        assert_true(t.fired);
        if (err != GW_EDISK_FULL) {
            mesh_fail(m, "%s %s is answered by %s", at->op, args, gw_err_name(err));
        }
        mesh_run(m, 3000);
        digest_host(m, 0, &after);
        mesh_crash(m, 0);
        mesh_start_all(m);
        mesh_run(m, 3000);
        digest_host(m, 0, &restarted);
        buf_add(&before, "", 1);
        buf_add(&after, "", 1);
        buf_add(&restarted, "", 1);
        assert_string_equal((char *)before.data, (char *)after.data);
        assert_string_equal((char *)before.data, (char *)restarted.data);
        buf_free(&before);
        buf_free(&after);
        buf_free(&restarted);
        if (strcmp(at->op, "dispose") == 0) {
            mesh_expect_disposed(m, &a);
        }
        mesh_must(m, 0, NULL, at->op, "%s", args);
        mesh_run(m, 3000);
        mesh_expect_whole(m);
        mesh_free(m);
    }
}

/* --- runners --- */
static void test_runner_crash(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(180, 2);
    gw_id a = mesh_create(m, 0, "actor");
    actor_must(m, 0, &a, "add", "{}");
    for (int i = 0; i < 6; i++) { /* who asked is told; the state is that of the last commit */
        assert_int_equal(actor_send(m, 1, &a, "crash", "{}"), GW_ECRASHED);
        mesh_run(m, 40000); /* past any back-off */
        assert_int_equal(mesh_count(m, 1, &a), 1 + i);
        actor_must(m, 1, &a, "add", "{}");
    }
    mesh_free(m);
}

static void test_back_off(void **state)
{
    (void)state;
    enum { AGENTS = 32 }; /* none crashes so often that it has to pause itself */
    struct mesh *m = actor_mesh(181, 1);
    gw_id agents[AGENTS];
    gw_err err = GW_OK;
    int64_t began = mesh_now_us(m);
    size_t crashes = 0, refused = 0;
    for (size_t i = 0; i < AGENTS; i++) {
        agents[i] = mesh_create(m, 0, "actor");
    }
    while (mesh_now_us(m) - began <
           20000000) { /* twenty seconds of somebody who does not give up */
        err = actor_send(m, 0, &agents[refused % AGENTS], "crash", "{}");
        assert_int_equal(err, GW_ECRASHED);
        gw_value v = gw_nil();
        mesh_must(m, 0, &v, "types", "{'name': 'actor'}");
        const gw_value *one = &gw_map_get(&v, "types")->list.items[0];
        crashes = (size_t)gw_map_int(gw_map_get(one, "runner"), "restarts", 0);
        gw_value_free(&v);
        refused++;
        mesh_run(m, 10);
    }
    mesh_assert(m, crashes >= 5 && crashes <= 14); /* 100 ms, doubling */
    mesh_assert(m, refused > 100);
    mesh_run(m, 60000);
    actor_must(m, 0, &agents[0], "add", "{}");
    mesh_free(m);
}

/* A message that ends its runner goes to the dead letters after three times. What ran beside it
 * each time does not. */
static void test_poison(void **state)
{
    (void)state;
    for (int restart = 0; restart < 2; restart++) {
        enum { OTHERS = 8 };
        struct mesh *m = actor_mesh(182, 1);
        gw_id a = mesh_create(m, 0, "actor"), others[OTHERS];
        for (size_t i = 0; i < OTHERS; i++) {
            others[i] = mesh_create(m, 0, "actor");
        }
        mesh_crash_runner(m, 0); /* so that all wait and begin together */
        mesh_run(m, 0);
        mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'crash', 'tell': true}",
                  id_text(&a));
        struct mesh_call *calls[OTHERS];
        for (size_t i = 0; i < OTHERS; i++) {
            calls[i] = mesh_ask(m, 0, "send", "{'agent': '%s', 'method': 'add', 'tell': true}",
                                id_text(&others[i]));
        }
        for (size_t i = 0; i < OTHERS; i++) {
            assert_int_equal(mesh_wait(m, calls[i], 1000), GW_OK);
            mesh_call_free(calls[i]);
        }
        if (restart) { /* from disk they all begin together, too */
            mesh_crash(m, 0);
            mesh_start_all(m);
        }
        mesh_run(m, 60000);
        assert_int_equal(actor_events(m, 0, "message.dead"), 1);
        assert_int_equal(actor_rows(m, 0, TABLE_DEAD), 1);
        assert_int_equal(actor_rows(m, 0, TABLE_INBOX), 0);
        for (size_t i = 0; i < OTHERS; i++) {
            assert_int_equal(mesh_count(m, 0, &others[i]), 1);
        }
        actor_must(m, 0, &a, "add", "{}");
        assert_int_equal(mesh_count(m, 0, &a), 1);
        mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'crash', 'tell': true}",
                  id_text(&a));
        mesh_run(m, 60000);
        mesh_crash(m, 0);
        mesh_start_all(m);
        assert_int_equal(actor_rows(m, 0, TABLE_DEAD), 2); /* numbers go on after a restart */
        mesh_free(m);
    }
}

/* --- dispatch under a key --- */
static void test_dispatch_repeated(void **state)
{
    (void)state;
    for (int crash = 0; crash < 3; crash++) {
        struct mesh *m = actor_mesh(190, 5);
        gw_value first = gw_nil(), again = gw_nil();
        gw_id a = mesh_create(m, 0, "actor");
        mesh_must(m, 0, &first, "dispatch", "{'agent': '%s', 'to': 'any', 'key': 'go'}",
                  id_text(&a));
        for (size_t i = 0; i < 5; i++) {
            mesh_must(m, i, &again, "dispatch", "{'agent': '%s', 'to': 'any', 'key': 'go'}",
                      id_text(&a));
            assert_string_equal(gw_map_str(&first, "host", ""), gw_map_str(&again, "host", "?"));
            assert_string_equal(gw_map_str(&first, "ticket", ""),
                                gw_map_str(&again, "ticket", "?"));
            assert_int_equal(gw_map_int(&again, "epoch", 0), 2);
            gw_value_free(&again);
            if (crash && i == 1) {
                mesh_crash(m, crash == 1 ? 0 : mesh_where(m, &a, NULL));
                mesh_start_all(m);
            }
        }
        uint64_t epoch = 0;
        (void)mesh_where(m, &a, &epoch);
        assert_int_equal(epoch, 2);
        mesh_must(m, 0, NULL, "dispatch", "{'agent': '%s', 'to': 'any', 'key': 'on'}", id_text(&a));
        mesh_must(m, 1, &again, "dispatch", "{'agent': '%s', 'to': 'any', 'key': 'go'}",
                  id_text(&a)); /* still known */
        assert_int_equal(gw_map_int(&again, "epoch", 0), 2);
        gw_value_free(&again);
        gw_value_free(&first);
        mesh_free(m);
    }
}

/* --- boot --- */
static void test_two_rows_of_one_agent(void **state)
{
    (void)state;
    struct mesh *m = actor_mesh(191, 1);
    gw_id a = mesh_create(m, 0, "actor");
    actor_must(m, 0, &a, "add", "{}");
    mesh_crash(m, 0);
    uint8_t from[24], to[24];
    memcpy(from, a.b, 16);
    memcpy(to, a.b, 16);
    store_u64(from + 16, 1);
    store_u64(to + 16, 3);
    struct store_batch *batch = store_batch_new();
    gw_err err;
    store_batch_copy_prefix(batch, TABLE_AGENTS, (struct span){from, 24}, (struct span){to, 24});
    store_batch_copy_prefix(batch, TABLE_STATES, (struct span){from, 24}, (struct span){to, 24});
    store_apply(m->hosts[0].store, &batch, 1, &err);
    store_batch_free(batch);
    assert_int_equal(err, GW_OK);
    mesh_start_all(m);
    uint64_t epoch = 0;
    (void)mesh_where(m, &a, &epoch);
    assert_int_equal(epoch, 3);
    actor_must(m, 0, &a, "add", "{}");
    assert_int_equal(mesh_count(m, 0, &a), 2);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wake_on_message),
        cmocka_unit_test(test_no_wake),
        cmocka_unit_test(test_wake_that_fails),
        cmocka_unit_test(test_wake_without_runner),
        cmocka_unit_test(test_many_wait_when_the_runner_goes),
        cmocka_unit_test(test_dispose),
        cmocka_unit_test(test_concurrent_creates_under_one_key),
        cmocka_unit_test(test_a_refusal_does_not_make_an_unsure_create_sure),
        cmocka_unit_test(test_stop_while_creating),
        cmocka_unit_test(test_tour_with_a_crash_at_each_commit),
        cmocka_unit_test(test_tour_with_crashes_on_the_way),
        cmocka_unit_test(test_dispatch_that_fails),
        cmocka_unit_test(test_two_wishes),
        cmocka_unit_test(test_own_sleep_and_end),
        cmocka_unit_test(test_roll_backs),
        cmocka_unit_test(test_runner_crash),
        cmocka_unit_test(test_back_off),
        cmocka_unit_test(test_poison),
        cmocka_unit_test(test_dispatch_repeated),
        cmocka_unit_test(test_two_rows_of_one_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
