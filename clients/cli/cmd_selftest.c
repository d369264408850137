/* selftest: the proof on the user's own machine. Three real hosts in a temporary home, agents that
 * count; increments under request keys, moves, sleep, SIGKILL and SIGSTOP at random moments. In the
 * end each agent has to be there once, with exactly the increments that were acknowledged.
 *
 * The seed fixes the choices; when a signal hits what is the machine's own affair. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/commands.h"
#include "clients/cli/output.h"
#include "clients/cli/selftest_mesh.h"

#define AGENTS        12
#define CALL_MS       10000
#define SETTLE_MS     60000 /* after the last fault: links, queries, repeats */
#define RETRY_MS      50
#define KILL_ONE_IN   4
#define PAUSE_ONE_IN  16
#define SLEEP_ONE_IN  6
#define KILL_AFTER_MS 40 /* within a move */
#define PAUSE_MS      1500
#define FAULTS_MAX    20

const struct cli_option selftest_options[] = {
    {"minutes", 0, OPTION_INT, "N", "how long hosts are killed (1)"},
    {"steps", 0, OPTION_INT, "N", "end after so many moves that were tried"},
    {"seed", 0, OPTION_INT, "N", "repeat the choices of an earlier run"},
    {"keep", 0, OPTION_FLAG, NULL, "leave the temporary home for a look"},
    {0},
};

struct counted {
    char id[GW_ID_TEXT];
    int64_t wanted; /* increments that were acknowledged */
};

struct selftest {
    struct cli *cli;
    struct selftest_mesh mesh;
    uint64_t seed, state;
    int64_t begun_ms, until_ms;
    int64_t steps_wanted;
    struct counted agents[AGENTS];
    int64_t steps, moved, messages, kills, pauses, sleeps;
    gw_value faults; /* list of text */
    bool shown;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* splitmix64 (Steele, Lea, Flood 2014): choices, no secrets. */
static uint64_t next(struct selftest *t)
{
    uint64_t z = t->state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static size_t pick(struct selftest *t, size_t n)
{
    return (size_t)(next(t) % n);
}

static bool one_in(struct selftest *t, size_t n)
{
    return pick(t, n) == 0;
}

static gw_err add_fault(struct selftest *t, gw_value text)
{
    if (t->faults.kind == GW_LIST && t->faults.list.n >= FAULTS_MAX) {
        gw_value_free(&text);
        return GW_OK;
    }
    return gw_list_add(&t->faults, text);
}

static void show_progress(struct selftest *t, const char *what)
{
    if (t->cli->tty && !t->cli->quiet && !t->cli->json) {
        int64_t left = (t->until_ms - now_ms() + 999) / 1000;
        fprintf(stderr, "\r%s: %lld moves, %lld messages, %lld kills, %lld s left\x1b[K", what,
                (long long)t->moved, (long long)t->messages, (long long)t->kills,
                (long long)(left > 0 ? left : 0));
        t->shown = true;
    }
}

/* ---- one step ---- */

/* Until it is acknowledged, under one key, through whichever host. */
static gw_err increment(struct selftest *t, struct counted *a, const char *key)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    struct gw_send_options o = {.args = &args, .key = key};
    struct gw_error why = {0};
    int64_t deadline = now_ms() + SETTLE_MS;
    GW_TRY(gw_map_set(&args, "by", gw_int(1)));
    for (;;) {
        struct gw_client *client;
        gw_err err = mesh_client(&t->mesh, pick(t, MESH_HOSTS), &client, &why);
        err = err == GW_OK ? gw_client_send(client, a->id, "increment", &o, CALL_MS, NULL, &why)
                           : err;
        if (err == GW_OK) {
            a->wanted++;
            t->messages++;
            return GW_OK;
        }
        if (now_ms() >= deadline || cli_interrupted()) {
            return add_fault(
                t, gw_strf("a message to agent %s was never acknowledged: %s", a->id, why.text));
        }
        pause_ms(RETRY_MS);
    }
}

/* Begin a move through some host; its end is looked for after the faults. */
static gw_err begin_move(struct selftest *t, const struct counted *a, struct gw_client **ret,
                         gw_ticket *ret_ticket)
{
    char key[GW_KEY_TEXT];
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    GW_TRY(gw_client_make_key(key));
    GW_TRY(gw_map_set(&args, "agent", gw_str(a->id)));
    GW_TRY(gw_map_set(&args, "to", gw_str(t->mesh.hosts[pick(t, MESH_HOSTS)].name)));
    GW_TRY(gw_map_set(&args, "key", gw_str(key)));
    GW_TRY(mesh_client(&t->mesh, pick(t, MESH_HOSTS), ret, NULL));
    GW_TRY(gw_client_start(*ret, "dispatch", &args, ret_ticket, NULL));
    return gw_client_flush(*ret, CALL_MS, NULL);
}

/* What a bad day does to hosts. The client of a killed one is gone: *moving becomes NULL. */
static gw_err do_harm(struct selftest *t, struct gw_client **moving, struct gw_error *why)
{
    size_t victim = pick(t, MESH_HOSTS);
    if (one_in(t, KILL_ONE_IN)) {
        pause_ms((int64_t)pick(t, KILL_AFTER_MS));
        if (*moving == t->mesh.hosts[victim].client) {
            *moving = NULL;
        }
        mesh_kill(&t->mesh, victim);
        t->kills++;
        return mesh_start(&t->mesh, victim, why);
    }
    if (one_in(t, PAUSE_ONE_IN)) {
        mesh_pause(&t->mesh, victim, true);
        pause_ms(PAUSE_MS);
        mesh_pause(&t->mesh, victim, false);
        t->pauses++;
    }
    return GW_OK;
}

static gw_err step(struct selftest *t, struct gw_error *why)
{
    struct counted *a = &t->agents[pick(t, AGENTS)];
    struct gw_client *client = NULL;
    char key[GW_KEY_TEXT];
    gw_ticket ticket = 0;
    if (begin_move(t, a, &client, &ticket) != GW_OK) {
        client = NULL; /* the host is not there just now: no move this time */
    }
    GW_TRY(do_harm(t, &client, why));
    GW_TRY(gw_client_make_key(key));
    GW_TRY(increment(t, a, key));
    if (client && gw_client_wait(client, &ticket, CALL_MS, NULL, NULL) == GW_OK) {
        t->moved++;
    } else if (client && ticket) {
        gw_client_cancel(client, ticket);
    }
    if (one_in(t, SLEEP_ONE_IN) &&
        mesh_client(&t->mesh, pick(t, MESH_HOSTS), &client, NULL) == GW_OK &&
        gw_client_deactivate(client, a->id, NULL, CALL_MS, NULL, NULL) == GW_OK) {
        t->sleeps++;
    }
    t->steps++;
    return GW_OK;
}

/* ---- the begin ---- */

static gw_err make_agents(struct selftest *t, struct gw_error *why)
{
    for (size_t i = 0; i < AGENTS; i++) {
        struct gw_client *client;
        GW_AUTO(gw_value_free) gw_value made = gw_nil();
        GW_TRY(mesh_client(&t->mesh, i % MESH_HOSTS, &client, why));
        if (gw_client_create(client, "counter", NULL, CALL_MS, &made, why) != GW_OK) {
            gw_hint(why,
                    "the selftest needs the type \"counter\": build/agents beside the program");
            return why->code;
        }
        snprintf(t->agents[i].id, sizeof t->agents[i].id, "%s", gw_map_str(&made, "agent", ""));
    }
    return GW_OK;
}

/* ---- the end ---- */

static size_t list_length(struct selftest *t, size_t host, const char *op, const char *list,
                          const char *key, const char *wanted)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    size_t count = 0;
    if (mesh_client(&t->mesh, host, &client, NULL) != GW_OK ||
        (strcmp(op, "moves") == 0 && gw_map_set(&args, "all", gw_bool(true)) != GW_OK) ||
        gw_client_call(client, op, &args, CALL_MS, &result, NULL) != GW_OK) {
        return SIZE_MAX;
    }
    const gw_value *rows = gw_map_get(&result, list);
    for (size_t i = 0; rows && rows->kind == GW_LIST && i < rows->list.n; i++) {
        count += !key || strcmp(gw_map_str(&rows->list.items[i], key, ""), wanted) == 0;
    }
    return count;
}

/* All hosts see each other, and no move is open. */
static bool is_settled(struct selftest *t)
{
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        if (list_length(t, i, "hosts", "hosts", "state", "alive") != MESH_HOSTS) {
            return false;
        }
    }
    return list_length(t, 0, "moves", "moves", NULL, NULL) == 0;
}

static gw_err settle(struct selftest *t)
{
    int64_t deadline = now_ms() + SETTLE_MS;
    while (!is_settled(t)) {
        if (now_ms() >= deadline) {
            return add_fault(
                t,
                gw_strf("the hosts were not linked, or moves still open, %d s after the last fault",
                        SETTLE_MS / 1000));
        }
        pause_ms(RETRY_MS);
    }
    return GW_OK;
}

static gw_err check_places(struct selftest *t, struct gw_error *why)
{
    struct gw_client *client;
    GW_AUTO(gw_value_free) gw_value args = gw_nil(), result = gw_nil();
    GW_TRY(gw_map_set(&args, "all", gw_bool(true)));
    GW_TRY(mesh_client(&t->mesh, 0, &client, why));
    GW_TRY(gw_client_call(client, "agents", &args, CALL_MS, &result, why));
    const gw_value *rows = gw_map_get(&result, "agents");
    for (size_t a = 0; a < AGENTS; a++) {
        int64_t copies = 0;
        for (size_t i = 0; rows && rows->kind == GW_LIST && i < rows->list.n; i++) {
            copies += strcmp(gw_map_str(&rows->list.items[i], "agent", ""), t->agents[a].id) == 0;
        }
        if (copies != 1) {
            GW_TRY(add_fault(
                t, gw_strf("agent %s is there %lld times", t->agents[a].id, (long long)copies)));
        }
    }
    return GW_OK;
}

static gw_err check_counts(struct selftest *t)
{
    for (size_t a = 0; a < AGENTS; a++) {
        struct gw_client *client;
        struct gw_error why = {0};
        GW_AUTO(gw_value_free) gw_value result = gw_nil();
        gw_err err = mesh_client(&t->mesh, a % MESH_HOSTS, &client, &why);
        err = err == GW_OK
                  ? gw_client_send(client, t->agents[a].id, "get", NULL, CALL_MS, &result, &why)
                  : err;
        int64_t count = gw_map_int(gw_map_get(&result, "reply"), "count", -1);
        if (err != GW_OK) {
            GW_TRY(
                add_fault(t, gw_strf("agent %s does not answer: %s", t->agents[a].id, why.text)));
        } else if (count != t->agents[a].wanted) {
            GW_TRY(add_fault(t, gw_strf("agent %s has counted %lld, %lld were acknowledged",
                                        t->agents[a].id, (long long)count,
                                        (long long)t->agents[a].wanted)));
        }
    }
    return GW_OK;
}

/* ---- the verdict ---- */

static bool is_passed(const struct selftest *t)
{
    return t->faults.kind != GW_LIST || t->faults.list.n == 0;
}

static gw_err print_json(struct selftest *t, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value v = gw_nil();
    GW_TRY(gw_map_set(&v, "passed", gw_bool(is_passed(t))));
    GW_TRY(gw_map_set(&v, "seed", gw_int((int64_t)t->seed)));
    GW_TRY(gw_map_set(&v, "seconds", gw_int((now_ms() - t->begun_ms) / 1000)));
    GW_TRY(gw_map_set(&v, "agents", gw_int(AGENTS)));
    GW_TRY(gw_map_set(&v, "moves", gw_int(t->moved)));
    GW_TRY(gw_map_set(&v, "messages", gw_int(t->messages)));
    GW_TRY(gw_map_set(&v, "kills", gw_int(t->kills)));
    GW_TRY(gw_map_set(&v, "pauses", gw_int(t->pauses)));
    GW_TRY(gw_map_set(&v, "sleeps", gw_int(t->sleeps)));
    gw_value faults = t->faults;
    t->faults = gw_nil();
    faults.kind = GW_LIST; /* nil is an empty one */
    GW_TRY(gw_map_set(&v, "faults", faults));
    return output_json(&v, why);
}

static gw_err print_verdict(struct selftest *t, struct gw_error *why)
{
    bool passed = is_passed(t);
    t->cli->exit_code = passed ? 0 : 1;
    if (t->shown) {
        fprintf(stderr, "\r\x1b[K");
    }
    if (t->cli->json) {
        return print_json(t, why);
    }
    for (size_t i = 0; !passed && i < t->faults.list.n; i++) {
        GW_AUTO(free_charp) char *text = output_text(&t->faults.list.items[i]);
        printf("FAULT: %s\n", text);
    }
    printf("%s: seed %llu, %lld s, %d agents, %lld moves, %lld messages, %lld kills, %lld pauses, "
           "%lld sleeps\n",
           passed ? "passed" : "FAILED", (unsigned long long)t->seed,
           (long long)(now_ms() - t->begun_ms) / 1000, AGENTS, (long long)t->moved,
           (long long)t->messages, (long long)t->kills, (long long)t->pauses, (long long)t->sleeps);
    if (passed) {
        printf("each agent is there once, and has counted exactly what was acknowledged\n");
    }
    return GW_OK;
}

static gw_err run(struct selftest *t, struct gw_error *why)
{
    GW_TRY(mesh_open(&t->mesh, why));
    GW_TRY(settle(t));
    GW_TRY(make_agents(t, why));
    while (now_ms() < t->until_ms && t->steps < t->steps_wanted && !cli_interrupted() &&
           is_passed(t)) {
        show_progress(t, "selftest");
        GW_TRY(step(t, why));
    }
    show_progress(t, "checking");
    GW_TRY(settle(t));
    GW_TRY(check_places(t, why));
    GW_TRY(check_counts(t));
    return print_verdict(t, why);
}

gw_err selftest_run(struct cli *cli, struct gw_error *why)
{
    struct selftest t = {.cli = cli, .begun_ms = now_ms(), .faults = gw_nil()};
    int64_t minutes = option_int(&cli->options, "minutes", 1);
    if (minutes < 1 || minutes > 7 * 24 * 60) {
        return gw_fail(why, GW_EARG, "--minutes is 1 to 10080, not %lld", (long long)minutes);
    }
    t.until_ms = t.begun_ms + minutes * 60000;
    t.seed = option_given(&cli->options, "seed") ? (uint64_t)option_int(&cli->options, "seed", 0)
                                                 : (uint64_t)time(NULL);
    t.state = t.seed;
    t.steps_wanted = option_int(&cli->options, "steps", INT64_MAX);
    cli_catch_interrupt(NULL);
    gw_err err = run(&t, why);
    bool keep = option_given(&cli->options, "keep") || err != GW_OK || cli->exit_code != 0;
    if (keep) {
        output_note(cli, "the files and logs of the hosts are kept in %s", t.mesh.home);
    }
    mesh_close(&t.mesh, keep);
    gw_value_free(&t.faults);
    return err;
}
