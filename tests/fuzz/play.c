#include "tests/fuzz/play.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "protocol/json.h"
#include "protocol/value.h"
#include "tests/fuzz/player.h"

#define SEED        7
#define EVENTS_MOST 6000   /* a run stays below a few hundredths of a second */
#define RUN_MOST_MS 100000 /* one step */

/* --- budget --- */
bool play_is_over(const struct play *p)
{
    return mesh_events(p->m) > EVENTS_MOST;
}

static bool is_over(void *arg)
{
    return play_is_over(arg);
}

static void pass_time(struct play *p, int64_t ms)
{
    ms = ms < 0 ? 0 : ms % (RUN_MOST_MS + 1);
    (void)mesh_run_until(p->m, is_over, p, ms);
}

/* --- operations --- */
bool play_serves(const char *op)
{
    static const char *const others[] = {"token", "tokens",  "revoke", "join",
                                         "renew", "resolve", "folder"};
    if (strncmp(op, "artifacts.", 10) == 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(op, others[i]) == 0) {
            return false;
        }
    }
    return true;
}

static void forget_done(struct play *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->call_count; i++) {
        if (p->calls[i]->done) {
            mesh_call_free(p->calls[i]);
        } else {
            p->calls[kept++] = p->calls[i];
        }
    }
    p->call_count = kept;
}

/* Takes args. */
static struct mesh_call *ask(struct play *p, size_t host, const char *op, gw_value args)
{
    if (p->call_count == PLAY_CALLS) {
        forget_done(p);
    }
    if (p->call_count == PLAY_CALLS) {
        gw_value_free(&args);
        return NULL;
    }
    struct mesh_call *c = mesh_ask_value(p->m, host, op, args);
    p->calls[p->call_count++] = c;
    return c;
}

static size_t host_at(const struct play *p, const gw_value *step, size_t i)
{
    return cast_host(&p->cast, cast_item(step, i));
}

static void do_op(struct play *p, const gw_value *step)
{
    const char *op = cast_text(step, 2);
    const gw_value *given = cast_item(step, 3);
    gw_value args = {.kind = GW_MAP};
    if (!play_serves(op) || (given && given->kind != GW_MAP) ||
        (given && gw_value_copy(given, &args) != GW_OK)) {
        return;
    }
    cast_name_texts(&p->cast, &args);
    p->ends |= strcmp(op, "dispose") == 0 || strcmp(op, "create") == 0 || strcmp(op, "kill") == 0 ||
               strcmp(op, "accept") == 0 || strcmp(op, "send") == 0;
    (void)ask(p, host_at(p, step, 1), op, args);
}

static void set(gw_value *map, const char *key, gw_value v)
{
    gw_assert(gw_map_set(map, key, v) == GW_OK);
}

static gw_value send_args(const gw_id *agent, const char *method, gw_value inner)
{
    char text[GW_ID_TEXT];
    gw_value args = gw_nil();
    set(&args, "agent", gw_str(gw_id_text(agent, text)));
    set(&args, "method", gw_str(method));
    set(&args, "args", inner);
    return args;
}

static void do_act(struct play *p, const gw_value *step)
{
    const gw_value *given = cast_item(step, 3);
    gw_value inner = {.kind = GW_MAP};
    if (given && (given->kind != GW_MAP || gw_value_copy(given, &inner) != GW_OK)) {
        return;
    }
    cast_name_texts(&p->cast, &inner);
    gw_id agent = cast_id(&p->cast, cast_text(step, 2));
    const char *verb = gw_map_str(&inner, "verb", "");
    p->ends |= strcmp(verb, "dispose") == 0 || strcmp(verb, "crash") == 0;
    gw_value args = send_args(&agent, "act", inner);
    set(&args, "text", gw_bool(true));
    (void)ask(p, host_at(p, step, 1), "send", args);
}

static struct sent *sent_find(struct play *p, size_t agent, size_t to, int64_t number)
{
    for (size_t i = 0; i < p->sent_count; i++) {
        struct sent *s = &p->sent[i];
        if (s->agent == agent && s->to == to && s->number == number) {
            return s;
        }
    }
    if (p->sent_count == PLAY_CALLS) {
        return NULL;
    }
    p->sent[p->sent_count] = (struct sent){.agent = agent, .to = to, .number = number};
    return &p->sent[p->sent_count++];
}

static void ask_sent(struct play *p, struct sent *s, size_t via)
{
    char key[64], text[GW_ID_TEXT];
    gw_value inner = gw_nil();
    bool relays = s->number >= PLAY_NUMBERS;
    s->acked |= s->call && s->call->done && s->call->err == GW_OK;
    mesh_call_free(s->call);
    snprintf(key, sizeof key, "k-%zu-%zu-%lld", s->agent, s->to, (long long)s->number);
    set(&inner, "number", gw_int(s->number));
    if (relays) {
        set(&inner, "to", gw_str(gw_id_text(&p->cast.agents[s->to], text)));
    }
    gw_value args = send_args(&p->cast.agents[s->agent], relays ? "relay" : "add", inner);
    set(&args, "key", gw_str(key));
    set(&args, "text", gw_bool(true));
    s->call = mesh_ask_value(p->m, via, "send", args);
}

static bool agent_at(const struct play *p, const gw_value *step, size_t i, size_t *ret)
{
    gw_id id = cast_id(&p->cast, cast_text(step, i));
    for (*ret = 0; *ret < p->cast.agent_count; ++*ret) {
        if (gw_id_equal(&p->cast.agents[*ret], &id)) {
            return true;
        }
    }
    return false;
}

static void do_add(struct play *p, const gw_value *step)
{
    size_t agent;
    struct sent *s = NULL;
    if (agent_at(p, step, 2, &agent)) {
        s = sent_find(p, agent, agent, (int64_t)((uint64_t)cast_int(step, 3) % PLAY_NUMBERS));
    }
    if (s) {
        ask_sent(p, s, host_at(p, step, 1));
    }
}

/* The number says who told it: it stands in the log of `to` beside those of others. */
static void do_relay(struct play *p, const gw_value *step)
{
    size_t agent, to;
    struct sent *s = NULL;
    if (agent_at(p, step, 2, &agent) && agent_at(p, step, 3, &to) && agent != to) {
        uint64_t n = (uint64_t)cast_int(step, 4) % PLAY_NUMBERS;
        s = sent_find(p, agent, to, (int64_t)((agent + 1) * 1000 + n));
    }
    if (s) {
        ask_sent(p, s, host_at(p, step, 1));
    }
}

/* --- time and faults --- */
static void do_run(struct play *p, const gw_value *step)
{
    pass_time(p, cast_int(step, 1));
}

static bool pair_at(const struct play *p, const gw_value *step, size_t *a, size_t *b)
{
    *a = host_at(p, step, 1);
    *b = host_at(p, step, 2);
    return *a != *b;
}

static void do_cut(struct play *p, const gw_value *step)
{
    size_t a, b;
    if (pair_at(p, step, &a, &b)) {
        mesh_cut(p->m, a, b);
    }
}

static void do_part(struct play *p, const gw_value *step)
{
    size_t a, b;
    if (pair_at(p, step, &a, &b)) {
        mesh_part(p->m, a, b, strcmp(cast_text(step, 0), "part") == 0);
    }
}

static void do_crash(struct play *p, const gw_value *step)
{
    mesh_crash(p->m, host_at(p, step, 1));
}

static void do_stop(struct play *p, const gw_value *step)
{
    size_t host = host_at(p, step, 1);
    if (mesh_alive(p->m, host) && mesh_ready(p->m, host)) {
        mesh_stop(p->m, host);
    }
}

static void do_start(struct play *p, const gw_value *step)
{
    size_t host = host_at(p, step, 1);
    if (!mesh_alive(p->m, host)) {
        mesh_start(p->m, host);
    }
}

static void do_runner(struct play *p, const gw_value *step)
{
    mesh_crash_runner(p->m, host_at(p, step, 1));
}

static void do_clock(struct play *p, const gw_value *step)
{
    mesh_set_clock(p->m, host_at(p, step, 1), cast_int(step, 2) % 400000000000LL);
}

static int fate_at(const gw_value *step, size_t i, int most)
{
    return 1 + (int)((uint64_t)cast_int(step, i) % (uint64_t)most);
}

static void do_commit(struct play *p, const gw_value *step)
{
    size_t host = host_at(p, step, 1);
    p->commits[host].after = cast_int(step, 2) & 63;
    p->commits[host].fate = fate_at(step, 3, COMMIT_SLOW);
}

static void do_frame(struct play *p, const gw_value *step)
{
    p->frames.after = cast_int(step, 1) & 63;
    p->frames.fate = fate_at(step, 2, FATE_CRASH_TO_AFTER);
}

static commit_fate on_commit(void *arg, size_t host)
{
    struct play *p = arg;
    if (p->commits[host].fate == COMMIT_PASS || p->commits[host].after-- > 0) {
        return COMMIT_PASS;
    }
    commit_fate fate = (commit_fate)p->commits[host].fate;
    p->commits[host].fate = COMMIT_PASS;
    return fate == COMMIT_FAIL && !mesh_ready(p->m, host) ? COMMIT_PASS : fate;
}

mesh_fate play_on_frame(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct play *p = arg;
    (void)from, (void)to;
    if (p->frames.fate == FATE_PASS || frame->kind < FRAME_OFFER || frame->kind > FRAME_LOCATE ||
        p->frames.after-- > 0) {
        return FATE_PASS;
    }
    mesh_fate fate = (mesh_fate)p->frames.fate;
    p->frames.fate = FATE_PASS;
    return fate;
}

/* --- a program --- */
static const struct play_verb honest[] = {
    {"do", do_op},       {"add", do_add},       {"relay", do_relay}, {"act", do_act},
    {"run", do_run},     {"cut", do_cut},       {"part", do_part},   {"join", do_part},
    {"crash", do_crash}, {"stop", do_stop},     {"start", do_start}, {"runner", do_runner},
    {"clock", do_clock}, {"commit", do_commit}, {"frame", do_frame},
};

static const struct play_verb *find(const struct play_verb *verbs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

void play_run(struct play *p, const uint8_t *data, size_t size, const struct play_verb *verbs,
              size_t count)
{
    gw_value program = gw_nil();
    if (json_parse((const char *)data, size, &program, NULL) != GW_OK) {
        return;
    }
    for (size_t i = 0; cast_item(&program, i) && i < PLAY_STEPS && !play_is_over(p); i++) {
        const gw_value *step = cast_item(&program, i);
        const struct play_verb *verb = find(verbs, count, cast_text(step, 0));
        verb = verb ? verb : find(honest, sizeof honest / sizeof honest[0], cast_text(step, 0));
        if (verb) {
            verb->run(p, step);
        }
    }
    gw_value_free(&program);
}

static struct mesh *playing; /* one mesh at a time */

static void end_runner(void *arg)
{
    mesh_crash_runner(playing, (size_t)(uintptr_t)arg);
}

/* The answer of the handler never arrives: its runner ends before. */
static void crash(size_t host)
{
    mesh_at(playing, 1, end_runner, NULL, (void *)(uintptr_t)host);
}

/* Each host has a built-in agent, "desk"; h1 has little room and little patience. */
static void set_up(struct mesh *m, size_t hosts)
{
    static const struct node_builtin rows[] = {{"desk", "desk"}};
    static const struct gw_type *const types[] = {&desk_type};
    playing = m;
    player_crash = crash;
    for (size_t i = 0; i < hosts; i++) {
        mesh_set_types(m, i, player_types, player_type_count);
        mesh_set_builtins(m, i, rows, types, 1);
    }
    if (hosts > 1) {
        mesh_set_limits(m, 1,
                        (struct node_limits){.mailbox = 6,
                                             .mailbox_bytes = 30000,
                                             .staged = 4,
                                             .events = 300,
                                             .lost_ms = 4000,
                                             .stuck_ms = 2000});
    }
}

void play_open(struct play *p, size_t hosts)
{
    *p = (struct play){.hosts = hosts, .m = mesh_new(SEED, hosts)};
    p->cast.m = p->m;
    p->cast.hosts = hosts;
    (void)setenv("CMOCKA_TEST_ABORT", "1", 0); /* a check that fails ends the process as a crash */
    set_up(p->m, hosts);
    mesh_start_all(p->m);
    for (size_t i = 0; i < hosts; i++) {
        gw_id id = mesh_create(p->m, i, "player");
        cast_add_agent(&p->cast, &id);
    }
    mesh_on_frame(p->m, play_on_frame, p);
    mesh_on_commit(p->m, on_commit, p);
}

void play_close(struct play *p)
{
    for (size_t i = 0; i < p->call_count; i++) {
        mesh_call_free(p->calls[i]);
    }
    for (size_t i = 0; i < p->sent_count; i++) {
        mesh_call_free(p->sent[i].call);
    }
    mesh_free(p->m);
}

/* --- the end --- */
/* Whatever it was told before may put it to sleep once more. */
static void read_history(struct play *p, const gw_id *agent, gw_value *ret)
{
    char id[GW_ID_TEXT];
    gw_err err = GW_EINACTIVE;
    (void)gw_id_text(agent, id);
    for (size_t i = 0; i < 30; i++) {
        err = mesh_op(p->m, 0, ret, "send", "{'agent': '%s', 'method': 'history'}", id);
        if (err == GW_OK) {
            return;
        }
        (void)mesh_op(p->m, 0, NULL, "activate", "{'agent': '%s'}", id);
        mesh_run(p->m, 500);
    }
    mesh_fail(p->m, "agent %s does not tell its history: %s", id, gw_err_name(err));
}

static size_t count_lines(struct play *p, const struct sent *s)
{
    char mark[32];
    gw_value v = gw_nil();
    size_t n = 0;
    snprintf(mark, sizeof mark, "#%lld", (long long)s->number);
    read_history(p, &p->cast.agents[s->to], &v);
    const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
    for (size_t i = 0; cast_item(log, i); i++) {
        n += strcmp(cast_text(log, i), mark) == 0;
    }
    gw_value_free(&v);
    return n;
}

static void expect_once(struct play *p, const struct sent *s)
{
    size_t n = count_lines(p, s);
    bool acked = s->acked || (s->call && s->call->done && s->call->err == GW_OK);
    if (n > 1 || (acked && n == 0)) {
        mesh_fail(p->m, "I4: number %lld of agent %zu stands %zu times in the log of agent %zu",
                  (long long)s->number, s->agent, n, s->to);
    }
}

static bool here(struct play *p, size_t agent)
{
    return mesh_copies(p->m, &p->cast.agents[agent]) == 1;
}

void play_expect_whole(struct play *p)
{
    char id[GW_ID_TEXT];
    for (size_t i = 0; i < p->cast.agent_count && p->ends; i++) {
        mesh_expect_disposed(p->m, &p->cast.agents[i]);
    }
    mesh_heal(p->m);
    mesh_run(p->m, 35000); /* tells that wait are tried again */
    mesh_heal(p->m);
    mesh_expect_whole(p->m);
    for (size_t i = 0; i < p->cast.agent_count; i++) {
        if (here(p, i)) {
            (void)mesh_op(p->m, i % p->hosts, NULL, "activate", "{'agent': '%s'}",
                          gw_id_text(&p->cast.agents[i], id));
        }
    }
    mesh_run(p->m, 2000);
    for (size_t i = 0; i < p->sent_count; i++) {
        if (here(p, p->sent[i].to) && here(p, p->sent[i].agent)) {
            expect_once(p, &p->sent[i]);
        }
    }
}

struct waiting {
    const struct mesh *m;
    size_t host;
};

static bool is_ready(void *arg)
{
    const struct waiting *w = arg;
    return mesh_ready(w->m, w->host);
}

void play_wait_ready(struct play *p, size_t host)
{
    struct waiting w = {p->m, host};
    if (!mesh_alive(p->m, host)) {
        mesh_start(p->m, host);
    }
    if (!mesh_run_until(p->m, is_ready, &w, 120000)) {
        mesh_fail(p->m, "h%zu is never ready", host);
    }
}

void play_expect_serves(struct play *p, size_t host)
{
    gw_value v = gw_nil();
    gw_id id;
    gw_err err = GW_EBUSY;
    play_wait_ready(p, host);
    for (size_t i = 0; i < 60 && err != GW_OK; i++) { /* its runner may just be starting again */
        err = mesh_op(p->m, host, &v, "create", "{'type': 'player'}");
        if (err != GW_OK) {
            mesh_run(p->m, 1000);
        }
    }
    mesh_assert(p->m, err == GW_OK && gw_id_parse(gw_map_str(&v, "agent", ""), &id) == GW_OK);
    gw_value_free(&v);
    mesh_expect(p->m, &id);
    mesh_assert(p->m, mesh_add(p->m, host, &id, "one") == GW_OK);
    mesh_assert(p->m, mesh_add(p->m, host, &id, "one") == GW_OK);
    mesh_assert(p->m, mesh_add(p->m, host, &id, "two") == GW_OK);
    mesh_assert(p->m, mesh_count(p->m, host, &id) == 2);
}
