/* A conversation with an agent that moves all the time: numbered messages of three agents that tell
 * it and two clients, while it moves 100 times between three hosts of which one is killed and
 * started again twice, and links are cut. Every acknowledged message is applied once, in the order
 * of its sender, by the log of the agent itself.
 *
 *   SEEDS=N   so many seeds (default 40)        SEED=n   this one alone
 *   FIRST=n   the first of them (default 1)     MESH_TRACE=1   all that happens
 * A failure prints the command that repeats it. `make sim SEEDS=1000` runs many, on all cores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/seeds.h"
#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

#define HOSTS    3
#define VICTIM   1 /* the host that is killed */
#define AGENTS   3 /* speakers that are agents and tell */
#define SPEAKERS 5 /* the others are clients: one asks, one tells */
#define SAID     30
#define MOVES    100
#define BASE     1000 /* speaker i says i * BASE + 0, 1, … */
#define LIMIT_MS (30 * 60000)

struct speaker {
    size_t index;
    char agent[GW_ID_TEXT]; /* the agent that is asked to tell; empty: a client */
    size_t said;            /* acknowledged */
    struct mesh_call *call;
    int64_t not_before_us;
};
struct world {
    struct mesh *m;
    gw_id target;
    char id[GW_ID_TEXT];
    struct speaker speakers[SPEAKERS];
    size_t moves, at, kills;
    struct mesh_call *move;
    unsigned trouble; /* of 10,000 frames, so many cut their link */
};

static mesh_fate fate_of_frame(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct world *w = arg;
    (void)from, (void)to, (void)frame;
    if (mesh_random(w->m, 10000) >= w->trouble) {
        return FATE_PASS;
    }
    return mesh_random(w->m, 2) ? FATE_CUT : FATE_CUT_AFTER;
}

static void come_back(void *arg)
{
    struct world *w = arg;
    if (!mesh_alive(w->m, VICTIM)) {
        mesh_start(w->m, VICTIM);
    }
}

static void be_killed(void *arg)
{
    struct world *w = arg;
    if (mesh_alive(w->m, VICTIM)) {
        mesh_note(w->m, "the victim is killed");
        mesh_crash(w->m, VICTIM);
        mesh_at(w->m, 1000 + (int64_t)mesh_random(w->m, 3000000), come_back, NULL, w);
    }
}

static void speak(struct world *w, struct speaker *s)
{
    size_t number = s->index * BASE + s->said, via = mesh_random(w->m, HOSTS);
    if (s->agent[0]) {
        s->call = mesh_ask(w->m, via, "send",
                           "{'agent': '%s', 'method': 'relay', 'args': {'to': '%s', 'number': "
                           "%zu}, 'text': true, 'key': 'k%zu'}",
                           s->agent, w->id, number, number);
    } else {
        s->call = mesh_ask(w->m, via, "send",
                           "{'agent': '%s', 'method': 'add', 'args': {'number': %zu}, 'key': "
                           "'k%zu', 'tell': %s}",
                           w->id, number, number, s->index % 2 ? "true" : "false");
    }
}

/* One message at a time: the next when the last is acknowledged, else the same again. */
static void go_on_speaking(struct world *w, struct speaker *s)
{
    if (s->call && s->call->done) {
        if (s->call->err == GW_OK) {
            s->said++;
        } else {
            s->not_before_us = mesh_now_us(w->m) + 20000;
        }
        mesh_call_free(s->call);
        s->call = NULL;
    }
    if (!s->call && s->said < SAID && mesh_now_us(w->m) >= s->not_before_us) {
        speak(w, s);
    }
}

static void go_on_moving(struct world *w)
{
    if (w->move && w->move->done) {
        w->moves += w->move->err == GW_OK;
        mesh_call_free(w->move);
        w->move = NULL;
        if (w->moves >= (w->kills + 1) * MOVES / 3 && w->kills < 2) {
            w->kills++;
            mesh_at(w->m, (int64_t)mesh_random(w->m, 20000), be_killed, NULL, w);
        }
    }
    if (!w->move && w->moves < MOVES) {
        w->at = (w->at + 1 + mesh_random(w->m, 2)) % HOSTS;
        w->move = mesh_ask(w->m, mesh_random(w->m, HOSTS), "dispatch",
                           "{'agent': '%s', 'to': 'h%zu'}", w->id, w->at);
    }
}

static bool is_over(struct world *w)
{
    bool over = w->moves >= MOVES && !w->move;
    for (size_t i = 0; i < SPEAKERS; i++) {
        over = over && w->speakers[i].said == SAID;
    }
    return over;
}

/* Numbers of each speaker: all, once, in order. */
static void expect_log(struct world *w)
{
    gw_value v = gw_nil();
    size_t next[SPEAKERS] = {0};
    mesh_must(w->m, 0, &v, "send", "{'agent': '%s', 'method': 'history'}", w->id);
    const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
    mesh_assert(w->m, log && log->kind == GW_LIST);
    for (size_t i = 0; i < log->list.n; i++) {
        const char *line = log->list.items[i].s.p;
        if (line[0] != '#') {
            continue;
        }
        size_t number = strtoull(line + 1, NULL, 10), who = number / BASE;
        mesh_assert(w->m, who < SPEAKERS);
        if (number % BASE != next[who]) {
            mesh_fail(w->m, "I4: speaker %zu is heard to say %zu instead of %zu", who,
                      number % BASE, next[who]);
        }
        next[who]++;
    }
    for (size_t i = 0; i < SPEAKERS; i++) {
        if (next[i] != SAID) {
            mesh_fail(w->m, "I4: of speaker %zu %zu of %d messages are there", i, next[i], SAID);
        }
    }
    gw_value_free(&v);
}

static bool all_heard(void *arg)
{
    struct world *w = arg;
    size_t at;
    for (at = 0; at < HOSTS && !mesh_ready(w->m, at); at++) {
    }
    return mesh_count(w->m, at, &w->target) >= SPEAKERS * SAID;
}

static void one_conversation(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->m = mesh_new(seed, HOSTS);
    seeds_tell_again(w->m, seed);
    mesh_start_all(w->m);
    w->target = mesh_create(w->m, 0, "tally");
    (void)gw_id_text(&w->target, w->id);
    for (size_t i = 0; i < SPEAKERS; i++) {
        w->speakers[i].index = i;
        if (i < AGENTS) {
            gw_id id = mesh_create(w->m, i, "tally");
            (void)gw_id_text(&id, w->speakers[i].agent);
        }
    }
    static const unsigned troubles[] = {0, 5, 30};
    w->trouble = troubles[seed % 3];
    mesh_on_frame(w->m, fate_of_frame, w);
    while (!is_over(w)) {
        for (size_t i = 0; i < SPEAKERS; i++) {
            go_on_speaking(w, &w->speakers[i]);
        }
        go_on_moving(w);
        mesh_run(w->m, 1);
        if (mesh_now_us(w->m) > LIMIT_MS * 1000LL) {
            mesh_fail(w->m, "after %zu moves it does not go on", w->moves);
        }
    }
    mesh_heal(w->m);
    for (int i = 0; i < 600 && !all_heard(w); i++) {
        mesh_run(w->m, 100);
    }
    expect_log(w);
    mesh_expect_whole(w->m);
    mesh_free(w->m);
    free(w);
}

static void test_conversations(void **state)
{
    (void)state;
    seeds_each(40, one_conversation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
