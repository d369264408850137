/* Random life of a mesh: messages, moves, clones, sleep, crashes of hosts and runners, cut and
 * parted links, doubled and lost frames, at random moments; then healing, and everything must be
 * right.
 *
 *   SEEDS=N   so many seeds (default 200)        SEED=n   this one alone
 *   FIRST=n   the first of them (default 1)      MESH_TRACE=1   all that happens
 * A failure prints the command that repeats it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/scene.h"
#include "tests/mesh/seeds.h"

#define HOSTS_MOST  5
#define AGENTS_MOST 4
#define STEPS       70
#define SENT_MOST   128

struct sent { /* one request key */
    char key[24];
    size_t agent, to; /* `to`: a relay, the agent that is told; else SIZE_MAX */
    struct mesh_call *call;
    bool acked;
};
struct world {
    struct mesh *m;
    size_t hosts, agents;
    gw_id id[AGENTS_MOST];
    char text[AGENTS_MOST][GW_ID_TEXT];
    struct sent sent[SENT_MOST];
    size_t sent_count;
    unsigned trouble; /* of 1,000 frames, so many meet a fate */
    bool away[HOSTS_MOST];
    gw_id victim; /* that is disposed of on the way */
    struct mesh_call *dispose;
};

static size_t any_host(struct world *w)
{
    return mesh_random(w->m, w->hosts);
}

static mesh_fate fate_of_frame(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct world *w = arg;
    (void)from, (void)to, (void)frame;
    if (mesh_random(w->m, 1000) >= w->trouble) {
        return FATE_PASS;
    }
    static const mesh_fate fates[] = {FATE_LOSE, FATE_CUT, FATE_CUT_AFTER, FATE_TWICE, FATE_LATE};
    mesh_fate fate = fates[mesh_random(w->m, sizeof fates / sizeof fates[0])];
    /* A link neither doubles nor loses a frame by itself; only requests that are repeated on a
     * time-out, and are safe to repeat, are given that harder life. */
    bool repeats = frame->kind >= FRAME_OFFER && frame->kind <= FRAME_LOCATE;
    return fate != FATE_CUT && fate != FATE_CUT_AFTER && !repeats ? FATE_PASS : fate;
}

static void host_back(void *arg);
struct back {
    struct world *w;
    size_t host;
};
static void host_back(void *arg)
{
    struct back b = *(struct back *)arg;
    free(arg);
    if (!mesh_alive(b.w->m, b.host)) {
        mesh_start(b.w->m, b.host);
    }
}

static void back_later(struct world *w, size_t host)
{
    struct back *b = calloc(1, sizeof *b);
    assert_non_null(b);
    *b = (struct back){w, host};
    int64_t ms = mesh_random(w->m, 4) ? 1 + (int64_t)mesh_random(w->m, 500)
                                      : (int64_t)mesh_random(w->m, 30000);
    mesh_at(w->m, ms * 1000, host_back, free, b);
}

static commit_fate fate_of_commit(void *arg, size_t host)
{
    struct world *w = arg;
    if (mesh_random(w->m, 2000) >= w->trouble) {
        return COMMIT_PASS;
    }
    if (mesh_random(w->m, 3) == 0) {
        return !mesh_ready(w->m, host) ? COMMIT_PASS
               : mesh_random(w->m, 2)  ? COMMIT_FAIL
                                       : COMMIT_SLOW;
    }
    back_later(w, host);
    return mesh_random(w->m, 2) ? COMMIT_CRASH_BEFORE : COMMIT_CRASH_AFTER;
}

/* --- actions --- */
static void ask_sent(struct world *w, struct sent *s, size_t via)
{
    mesh_call_free(s->call);
    if (s->to == SIZE_MAX) {
        s->call = mesh_ask(w->m, via, "send",
                           "{'agent': '%s', 'method': 'add', 'args': {'number': %zu}, 'key': '%s'}",
                           w->text[s->agent], (size_t)(s - w->sent), s->key);
    } else {
        s->call =
            mesh_ask(w->m, via, "send",
                     "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s', 'number': %zu}, "
                     "'text': true, 'key': '%s'}",
                     w->text[s->agent], w->text[s->to], (size_t)(s - w->sent), s->key);
    }
}

static void act_send(struct world *w)
{
    if (w->sent_count == SENT_MOST) {
        return;
    }
    struct sent *s = &w->sent[w->sent_count];
    (void)snprintf(s->key, sizeof s->key, "k%zu", w->sent_count++);
    s->agent = mesh_random(w->m, w->agents);
    s->to = mesh_random(w->m, 3) ? SIZE_MAX : mesh_random(w->m, w->agents);
    ask_sent(w, s, any_host(w));
}

static void act_again(struct world *w)
{
    if (w->sent_count > 0) {
        struct sent *s = &w->sent[mesh_random(w->m, w->sent_count)];
        s->acked = s->acked || (s->call && s->call->done && s->call->err == GW_OK);
        ask_sent(w, s, any_host(w));
    }
}

static void forget(struct mesh_call *call)
{
    mesh_call_free(call); /* it goes on unheard */
}

static void act_move(struct world *w)
{
    forget(mesh_ask(w->m, any_host(w), "dispatch", "{'agent': '%s', 'to': 'h%zu'}",
                    w->text[mesh_random(w->m, w->agents)], any_host(w)));
}

/* All of a host at once, mostly under one ticket. */
static void act_drain(struct world *w)
{
    forget(mesh_ask(w->m, any_host(w), "drain", "{'to': 'any'}"));
}

static void act_sleep(struct world *w)
{
    static const char *const verbs[] = {"deactivate", "activate"};
    forget(mesh_ask(w->m, any_host(w), verbs[mesh_random(w->m, 2)], "{'agent': '%s'}",
                    w->text[mesh_random(w->m, w->agents)]));
}

static void act_clone(struct world *w)
{
    forget(mesh_ask(w->m, any_host(w), "clone", "{'agent': '%s', 'to': 'h%zu'}",
                    w->text[mesh_random(w->m, w->agents)], any_host(w)));
}

/* What it asks about itself with a durable handler. */
static void act_wish(struct world *w)
{
    const char *agent = w->text[mesh_random(w->m, w->agents)];
    if (mesh_random(w->m, 3)) {
        forget(mesh_ask(w->m, any_host(w), "send",
                        "{'agent': '%s', 'method': 'go', 'args': {'to': 'h%zu'}}", agent,
                        any_host(w)));
    } else {
        forget(mesh_ask(w->m, any_host(w), "send", "{'agent': '%s', 'method': 'doze'}", agent));
    }
}

static void act_stop(struct world *w)
{
    size_t host = any_host(w);
    if (mesh_alive(w->m, host) && mesh_ready(w->m, host)) {
        mesh_stop(w->m, host);
        back_later(w, host);
    }
}

static void act_crash(struct world *w)
{
    size_t host = any_host(w);
    if (mesh_alive(w->m, host)) {
        mesh_crash(w->m, host);
        back_later(w, host);
    }
}

static void join_all(void *arg)
{
    struct world *w = arg;
    for (size_t i = 0; i < w->hosts; i++) {
        for (size_t j = i + 1; j < w->hosts; j++) {
            mesh_part(w->m, i, j, false);
        }
    }
}

static void act_link(struct world *w)
{
    size_t a = any_host(w), b = any_host(w);
    if (a == b) {
        return;
    }
    if (mesh_random(w->m, 2)) {
        mesh_cut(w->m, a, b);
    } else {
        mesh_part(w->m, a, b, true);
        mesh_at(w->m, (int64_t)mesh_random(w->m, 20000000), join_all, NULL, w);
    }
}

static void act_dispose(struct world *w)
{
    char id[GW_ID_TEXT];
    if (!w->dispose) {
        w->dispose =
            mesh_ask(w->m, any_host(w), "dispose", "{'agent': '%s'}", gw_id_text(&w->victim, id));
    }
}

static void act(struct world *w)
{
    uint64_t dice = mesh_random(w->m, 100);
    if (dice < 35) {
        act_send(w);
    } else if (dice < 45) {
        act_again(w);
    } else if (dice < 66) {
        act_move(w);
    } else if (dice < 70) {
        act_drain(w);
    } else if (dice < 74) {
        act_wish(w);
    } else if (dice < 75) {
        act_stop(w);
    } else if (dice < 80) {
        act_sleep(w);
    } else if (dice < 82) {
        act_clone(w);
    } else if (dice < 90) {
        act_link(w);
    } else if (dice < 96) {
        act_crash(w);
    } else if (dice < 98) {
        mesh_crash_runner(w->m, any_host(w));
    } else {
        act_dispose(w);
    }
}

/* --- the end --- */
static void acknowledge_all(struct world *w)
{
    for (size_t i = 0; i < w->sent_count; i++) {
        struct sent *s = &w->sent[i];
        gw_err err = s->call->done ? s->call->err : GW_ETIMEOUT;
        for (size_t round = 0; err != GW_OK && !s->acked; round++) {
            if (round == 30) {
                mesh_fail(w->m, "%s is never acknowledged: %s", s->key, gw_err_name(err));
            }
            ask_sent(w, s, (i + round) % w->hosts);
            err = mesh_wait(w->m, s->call, 60000);
            if (err != GW_OK) {
                mesh_run(w->m, 1000);
            }
        }
        mesh_call_free(s->call);
        s->call = NULL;
    }
}

/* Into the trace: which keys the history of the agent lacks. */
static void tell_missing(struct world *w, size_t agent)
{
    const char *history = scene_history(w->m, 0, &w->id[agent]);
    for (size_t i = 0; i < w->sent_count; i++) {
        const struct sent *s = &w->sent[i];
        char mark[24];
        (void)snprintf(mark, sizeof mark, "#%zu ", i);
        size_t n = strlen(mark);
        bool ends = strlen(history) >= n - 1 &&
                    strncmp(history + strlen(history) - (n - 1), mark, n - 1) == 0;
        if ((s->to == SIZE_MAX ? s->agent : s->to) == agent && !strstr(history, mark) && !ends) {
            mesh_note(w->m, "%s is missing: %s from %s", s->key,
                      s->to == SIZE_MAX ? "add" : "relay", w->text[s->agent]);
        }
    }
}

static void expect_counts(struct world *w)
{
    for (size_t a = 0; a < w->agents; a++) {
        int64_t want = 0, count = mesh_count(w->m, any_host(w), &w->id[a]);
        for (size_t i = 0; i < w->sent_count; i++) {
            want += (w->sent[i].to == SIZE_MAX ? w->sent[i].agent : w->sent[i].to) == a;
        }
        if (count != want) {
            tell_missing(w, a);
            mesh_fail(w->m, "I3: the count of agent %zu (%s) is %lld instead of %lld", a,
                      w->text[a], (long long)count, (long long)want);
        }
    }
}

static void expect_victim(struct world *w)
{
    if (!w->dispose || !w->dispose->done || w->dispose->err != GW_OK) {
        mesh_expect_disposed(w->m, &w->victim);
    } else if (mesh_copies(w->m, &w->victim) > 0) {
        mesh_fail(w->m, "a disposed agent is back");
    }
    mesh_call_free(w->dispose);
}

static void one_life(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    size_t hosts = 2 + seed % (HOSTS_MOST - 1);
    w->m = mesh_new(seed, hosts);
    seeds_tell_again(w->m, seed);
    w->hosts = hosts;
    w->agents = 1 + mesh_random(w->m, AGENTS_MOST);
    mesh_start_all(w->m);
    for (size_t i = 0; i < w->agents; i++) {
        w->id[i] = mesh_create(w->m, any_host(w), "tally");
        (void)gw_id_text(&w->id[i], w->text[i]);
    }
    w->victim = mesh_create(w->m, any_host(w), "tally");
    mesh_expect_disposed(w->m, &w->victim);
    static const unsigned troubles[] = {0, 3, 10, 40};
    w->trouble = troubles[mesh_random(w->m, 4)];
    mesh_on_frame(w->m, fate_of_frame, w);
    mesh_on_commit(w->m, fate_of_commit, w);
    static const int64_t pauses[] = {0, 1, 3, 10, 100, 1000};
    for (size_t step = 0; step < STEPS; step++) {
        act(w);
        mesh_run(w->m, (int64_t)mesh_random(w->m, 1 + (uint64_t)pauses[mesh_random(w->m, 6)]));
    }
    mesh_heal(w->m);
    acknowledge_all(w);
    mesh_run(w->m, 60000);
    mesh_heal(w->m);
    mesh_expect_whole(w->m);
    expect_counts(w);
    expect_victim(w);
    mesh_free(w->m);
    free(w);
}

static void test_random_lives(void **state)
{
    (void)state;
    seeds_each(200, one_life);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
