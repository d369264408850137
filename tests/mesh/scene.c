#include "tests/mesh/scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"

/* --- faults --- */
struct comeback {
    struct mesh *m;
    size_t a, b; /* b = a: a host starts again; else a pair is joined */
};

static void come_back(void *arg)
{
    struct comeback c = *(struct comeback *)arg;
    free(arg);
    if (c.a != c.b) {
        mesh_part(c.m, c.a, c.b, false);
    } else if (!mesh_alive(c.m, c.a)) {
        mesh_start(c.m, c.a);
    }
}

static void later(struct mesh *m, int64_t ms, size_t a, size_t b)
{
    if (ms < 0) {
        return;
    }
    struct comeback *c = xcalloc(1, sizeof *c);
    *c = (struct comeback){m, a, b};
    mesh_at(m, ms * 1000 + 1, come_back, free, c);
}

static bool is_handoff(uint32_t kind)
{
    return kind >= FRAME_OFFER && kind <= FRAME_LOCATE;
}

/* The fault whose turn it is. */
static struct fault *current(struct scene *s)
{
    bool first_over = s->fault.frame_fired || s->fault.commit_fired;
    bool second = s->second.frame_k != NOWHERE || s->second.commit_k != NOWHERE;
    return first_over && second ? &s->second : &s->fault;
}

static void start_counting_anew(struct scene *s)
{
    s->frames = 0;
    memset(s->commits, 0, sizeof s->commits);
}

static mesh_fate on_frame(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct scene *s = arg;
    struct fault *f = current(s);
    if (!is_handoff(frame->kind) || s->frames++ != f->frame_k || f->frame_fired) {
        return FATE_PASS;
    }
    f->frame_fired = true;
    if (f->frame_fate == FATE_CUT && f->part_ms != 0) {
        mesh_part(s->m, from, to, true);
        later(s->m, f->part_ms, from, to);
    } else if (f->frame_fate == FATE_CRASH_FROM) {
        later(s->m, f->restart_ms, from, from);
    } else if (f->frame_fate == FATE_CRASH_TO || f->frame_fate == FATE_CRASH_TO_AFTER) {
        later(s->m, f->restart_ms, to, to);
    }
    mesh_fate fate = f->frame_fate;
    if (f == &s->fault) {
        start_counting_anew(s);
    }
    return fate;
}

static commit_fate on_commit(void *arg, size_t host)
{
    struct scene *s = arg;
    struct fault *f = current(s);
    size_t number = s->commits[host]++;
    if (host != f->commit_host || number != f->commit_k || f->commit_fired) {
        return COMMIT_PASS;
    }
    f->commit_fired = true;
    if (f->commit_fate == COMMIT_CRASH_BEFORE || f->commit_fate == COMMIT_CRASH_AFTER) {
        later(s->m, f->restart_ms, host, host);
    }
    commit_fate fate = f->commit_fate;
    if (f == &s->fault) {
        start_counting_anew(s);
    }
    return fate;
}

/* --- the scene --- */
void scene_open(struct scene *s, uint64_t seed, size_t hosts)
{
    *s = (struct scene){.fault = NO_FAULT, .second = NO_FAULT};
    s->m = mesh_new(seed, hosts);
    mesh_start_all(s->m);
    s->agent = mesh_create(s->m, 0, "tally");
    (void)gw_id_text(&s->agent, s->id);
    for (int i = 0; i < 3; i++) {
        scene_add(s);
    }
}

void scene_arm(struct scene *s, const struct fault *fault)
{
    s->fault = *fault;
    start_counting_anew(s);
    mesh_on_frame(s->m, on_frame, s);
    mesh_on_commit(s->m, on_commit, s);
}

void scene_arm_second(struct scene *s, const struct fault *fault)
{
    s->second = *fault;
}

void scene_dispatch(struct scene *s, size_t via, size_t to)
{
    mesh_call_free(s->call);
    s->call = mesh_ask(s->m, via, "dispatch", "{'agent': '%s', 'to': 'h%zu'}", s->id, to);
}

gw_err scene_wait(struct scene *s, int64_t ms)
{
    return mesh_wait(s->m, s->call, ms);
}

void scene_add(struct scene *s)
{
    char key[32];
    gw_err err = GW_OK;
    (void)snprintf(key, sizeof key, "add-%lld", (long long)s->adds);
    for (size_t i = 0; i < 20; i++) {
        err = mesh_add(s->m, i % 3, &s->agent, key);
        if (err == GW_OK) {
            s->adds++;
            return;
        }
        mesh_run(s->m, 500);
    }
    mesh_fail(s->m, "add was never acknowledged, last: %s", gw_err_name(err));
}

const char *scene_history(struct mesh *m, size_t via, const gw_id *agent)
{
    static char text[4096];
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    mesh_must(m, via, &v, "send", "{'agent': '%s', 'method': 'history'}", gw_id_text(agent, id));
    const gw_value *log = gw_map_get(gw_map_get(&v, "reply"), "log");
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; log && log->kind == GW_LIST && i < log->list.n && at < sizeof text; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i > 0 ? " " : "",
                               log->list.items[i].s.p);
    }
    gw_value_free(&v);
    return text;
}

static void expect_state(struct scene *s)
{
    uint64_t epoch = 0;
    size_t at = mesh_where(s->m, &s->agent, &epoch);
    int64_t count = mesh_count(s->m, at, &s->agent);
    if (count != s->adds) {
        mesh_fail(s->m, "I3: count is %lld instead of %lld", (long long)count, (long long)s->adds);
    }
    char want[4096] = "create";
    for (uint64_t e = 2; e <= epoch; e++) {
        strncat(want, " leave arrive", sizeof want - strlen(want) - 1);
    }
    const char *history = scene_history(s->m, at, &s->agent);
    if (strcmp(history, want) != 0) {
        mesh_fail(s->m, "I3: at epoch %llu the history is \"%s\"", (unsigned long long)epoch,
                  history);
    }
}

void scene_verify(struct scene *s)
{
    mesh_heal(s->m);
    mesh_expect_whole(s->m);
    expect_state(s);
    scene_add(s);
    size_t at = mesh_where(s->m, &s->agent, NULL), to = (at + 1) % 3;
    gw_err err = mesh_move(s->m, to, &s->agent, to);
    if (err != GW_OK) {
        mesh_fail(s->m, "the agent does not move any more: %s", gw_err_name(err));
    }
    mesh_assert(s->m, mesh_where(s->m, &s->agent, NULL) == to);
    scene_add(s);
    expect_state(s);
    mesh_expect_whole(s->m);
}

void scene_close(struct scene *s)
{
    mesh_call_free(s->call);
    mesh_free(s->m);
    *s = (struct scene){0};
}
