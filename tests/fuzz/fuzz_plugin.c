/* A plugin that lies. The runner of host 0 says whatever the input says: DONE, SAVE, LOG, HELLO,
 * calls of operations, for RUNs that it was given or never was. The host keeps its invariants, its
 * runner is ended where it answers nonsense, the other host is not concerned; and what was
 * committed for it does not keep the host from starting again.
 *
 * Verbs besides those of play.h:
 *   ["hold", n]                            the next n frames for the runner are the input's to
 * answer
 *   ["plugin", KIND, stream, [fields...]]  a frame; stream a number, or "r0": that of the RUN given
 *                                          last, "r1" of the one before */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/door.h"

#define HOSTS 2
#define HELD  32

struct lie {
    struct play p; /* first */
    struct door door;
    uint64_t streams[HELD]; /* of the frames that were held back, a ring */
    size_t stream_count;
    int64_t hold;
};

static bool is_held(const struct lie *l, uint64_t stream)
{
    for (size_t i = 0; i < l->stream_count && i < HELD; i++) {
        if (l->streams[i] == stream) {
            return true;
        }
    }
    return false;
}

static bool take(void *arg, size_t host, const struct frame *f)
{
    struct lie *l = arg;
    if (host != 0) {
        return false;
    }
    if (f->kind == FRAME_SAVED && is_held(l, f->stream)) {
        return true;
    }
    if (l->hold <= 0 || f->kind != FRAME_RUN) {
        return false;
    }
    l->hold--;
    l->streams[l->stream_count++ % HELD] = f->stream;
    return true;
}

/* What waits for an answer of the input gets one. */
static void close_door(struct lie *l)
{
    l->hold = 0;
    if (l->door.link) {
        mesh_crash_runner(l->p.m, 0);
    }
    door_close(&l->door, &l->p);
}

static void do_hold(struct play *p, const gw_value *step)
{
    ((struct lie *)p)->hold = cast_int(step, 1) & 15;
}

static uint64_t stream_at(const struct lie *l, const gw_value *step, size_t i)
{
    const char *name = cast_text(step, i);
    size_t back = name[0] == 'r' && name[1] ? (size_t)(name[1] - '0') : 0;
    if (name[0] == 'r' && back < l->stream_count && back < HELD) {
        return l->streams[(l->stream_count - 1 - back) % HELD];
    }
    return (uint64_t)cast_int(step, i);
}

static void do_plugin(struct play *p, const gw_value *step)
{
    struct lie *l = (struct lie *)p;
    struct buf bytes = {0};
    struct frame f;
    bool known =
        cast_frame(&p->cast, cast_item(step, 1), stream_at(l, step, 2), cast_item(step, 3), &bytes);
    struct span in = buf_span(&bytes);
    if (known && mesh_alive(p->m, 0) && frame_take(&in, LIMIT_MESSAGE_BYTES, &f) == GW_OK) {
        if (f.kind == FRAME_CALL || f.kind == FRAME_CANCEL) {
            door_frame(&l->door, p, 0, LINK_RUNNER, &f);
        } else {
            node_runner_frame(mesh_node(p->m, 0), 0, &f);
        }
    }
    buf_free(&bytes);
    mesh_run(p->m, 1);
}

static void do_runner(struct play *p, const gw_value *step)
{
    close_door((struct lie *)p);
    mesh_crash_runner(p->m, (uint64_t)cast_int(step, 1) % HOSTS);
}

static void do_crash(struct play *p, const gw_value *step)
{
    size_t host = cast_host(&p->cast, cast_item(step, 1));
    close_door((struct lie *)p);
    mesh_crash(p->m, host);
    mesh_start(p->m, host);
}

/* A crash would have to close the door first. */
static void do_commit(struct play *p, const gw_value *step)
{
    size_t host = cast_host(&p->cast, cast_item(step, 1));
    p->commits[host].after = cast_int(step, 2) & 63;
    p->commits[host].fate = cast_int(step, 3) & 1 ? COMMIT_FAIL : COMMIT_SLOW;
}

static void do_nothing(struct play *p, const gw_value *step)
{
    (void)p, (void)step;
}

static const struct play_verb verbs[] = {
    {"plugin", do_plugin}, {"hold", do_hold},     {"runner", do_runner}, {"crash", do_crash},
    {"stop", do_crash},    {"start", do_nothing}, {"commit", do_commit}, {"frame", do_nothing},
};

static void expect_unharmed(struct lie *l)
{
    struct play *p = &l->p;
    memset(p->commits, 0, sizeof p->commits);
    close_door(l);
    play_wait_ready(p, 0);
    mesh_must(p->m, 0, NULL, "status", "{}");
    play_expect_serves(p, 1);
    mesh_crash(p->m, 0); /* the right plugin comes with the next start */
    mesh_start(p->m, 0);
    mesh_heal(p->m);
    play_expect_serves(p, 0);
    for (size_t i = 0; i < p->cast.agent_count; i++) {
        mesh_expect_disposed(p->m, &p->cast.agents[i]); /* by its own wish, perhaps */
    }
    mesh_expect_whole(p->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lie l = {0};
    play_open(&l.p, HOSTS);
    mesh_on_runner(l.p.m, take, &l);
    play_run(&l.p, data, size, verbs, sizeof verbs / sizeof verbs[0]);
    expect_unharmed(&l);
    play_close(&l.p);
    return 0;
}

#define DONE(actions)                                                                              \
    "[\"plugin\", \"DONE\", \"r0\", [0, null, null, {\"$pack\": {\"count\": 1}}, {\"\": "          \
    "{\"$pack\": "                                                                                 \
    "{\"\": 1, \"count\": 2}}}, [" actions "], 0]]"

static const char *const pieces[] = {
    "[\"run\", 1]",
    "[\"run\", 100]",
    "[\"run\", 3000]",
    "[\"hold\", 1]",
    "[\"hold\", 4]",
    "[\"runner\", 0]",
    "[\"crash\", 0]",
    "[\"commit\", 0, 1, 1]",
    "[\"add\", 0, \"@0\", 1]",
    "[\"add\", 1, \"@0\", 2]",
    "[\"relay\", 0, \"@1\", \"@0\", 1]",
    "[\"do\", 0, \"dispatch\", {\"agent\": \"@0\", \"to\": \"h1\"}]",
    "[\"do\", 0, \"dispatch\", {\"agent\": \"@1\", \"to\": \"h0\"}]",
    "[\"do\", 0, \"clone\", {\"agent\": \"@0\", \"to\": \"h1\"}]",
    "[\"do\", 0, \"deactivate\", {\"agent\": \"@0\"}]",
    "[\"do\", 0, \"activate\", {\"agent\": \"@0\"}]",
    "[\"do\", 0, \"dispose\", {\"agent\": \"@0\"}]",
    "[\"do\", 0, \"show\", {\"agent\": \"@0\"}]",
    "[\"do\", 0, \"create\", {\"type\": \"digger\"}]",
    "[\"do\", 0, \"send\", {\"agent\": \"@0\", \"method\": \"want\", \"timeout\": 3000}]",
    "[\"act\", 0, \"@0\", {\"verb\": \"timer\", \"text\": \"t\", \"n\": 50}]",
    "[\"act\", 0, \"@0\", {\"verb\": \"itinerary\", \"text\": \"h1\", \"n\": 2}]",
    "[\"plugin\", \"DONE\", \"r0\", [22, \"no\", \"because\", {\"base64\": \"\"}, null, [], 0]]",
    "[\"plugin\", \"DONE\", \"r0\", [0, null, null, {\"base64\": \"\"}, null, [], 1]]",
    "[\"plugin\", \"DONE\", \"r0\", [0, null, null, {\"base64\": \"\"}, {\"x\": null}, [], 0]]",
    DONE(""),
    DONE("[\"tell\", {\"agent\": \"@1\", \"method\": \"add\", \"args\": {}, \"priority\": 7, "
         "\"left\": 90}]"),
    DONE("[\"timer\", {\"name\": \"t\", \"when\": 100, \"period\": 50, \"args\": {}}]"),
    DONE("[\"dispatch\", {\"to\": \"h1\"}]"),
    DONE("[\"clone\", {\"to\": \"h1\", \"key\": \"k\"}], [\"deactivate\", {\"wake_after\": 50}]"),
    DONE("[\"dispose\", {}]"),
    DONE("[\"save\", {}]"),
    DONE("[\"monitor\", {\"ref\": \"@x3\", \"agent\": \"@1\", \"lost\": 1000}]"),
    DONE("[\"subscribe\", {\"topic\": \"news\", \"mesh\": true}], [\"publish\", {\"topic\": "
         "\"news\", "
         "\"method\": \"on_topic\", \"args\": null}]"),
    DONE("[\"itinerary\", {\"stops\": [{\"to\": \"h1\", \"method\": \"add\"}], \"home\": true}]"),
    DONE("[\"timer_cancel\", {\"name\": \"t\"}]"),
    DONE("[\"later\", {\"token\": \"@x4\"}], [\"answer\", {\"token\": \"@x4\", \"code\": 0, "
         "\"reply\": "
         "null}]"),
    "[\"plugin\", \"SAVE\", \"r0\", [{\"\": {\"$pack\": {\"\": 1, \"count\": 3}}}, [[\"tell\", "
    "{\"agent\": \"@1\", \"method\": \"add\"}]]]]",
    "[\"plugin\", \"LOG\", 0, [\"@0\", 2, \"hello\", null]]",
    "[\"plugin\", \"HELLO\", 0, [\"runner\", 1, {\"pid\": 7, \"types\": [{\"name\": \"player\", "
    "\"version\": 2, \"hooks\": 4095, \"methods\": [], \"fields\": []}]}]]",
    "[\"plugin\", \"HELLO\", 0, [\"runner\", 1, {\"error\": {\"text\": \"broken\", \"hint\": "
    "\"so\"}}]]",
    "[\"plugin\", \"CALL\", 51, [\"send\", {\"agent\": {\"$id\": \"@1\"}, \"method\": \"add\", "
    "\"key\": "
    "\"k\"}, {\"agent\": \"@0\", \"chain\": [\"@0\"]}]]",
    "[\"plugin\", \"CALL\", 52, [\"create\", {\"type\": \"player\"}, {\"agent\": \"@0\"}]]",
    "[\"plugin\", \"CANCEL\", 51, []]",
    NULL};

const struct fuzz_grammar fuzz_grammar = {play_words, pieces};
