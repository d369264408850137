/* SAVE frames of a runner that has gone mad: cut, flipped, out of place, with actions that are
 * none. The host ends the runner or takes what decodes; it lives, other agents are served, and an
 * agent whose save was refused goes on from what it has on disk. */
#ifndef GW_NO_PLUGIN_INFO
#define GW_NO_PLUGIN_INFO
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/core/internal.h"
#include "tests/mesh/actor.h"

#define STEPS 3

struct digger {
    int64_t step, count;
    gw_strs log;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct digger, step),
    GW_FIELD(struct digger, count),
    GW_FIELD(struct digger, log),
};

static gw_err run(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    while (d->step < STEPS) {
        GW_TRY(gw_strs_addf(&d->log, "s%lld", (long long)d->step));
        d->step++;
        GW_TRY(gw_save(call));
    }
    return gw_strs_add(&d->log, "end");
}

static gw_err add(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    GW_TRY(gw_add(&d->count, 1));
    return gw_reply_int(call, "count", d->count);
}

static gw_err history(struct gw_call *call)
{
    const struct digger *d = gw_state(call);
    return gw_reply_strs(call, "log", &d->log);
}

static const struct gw_method methods[] = {
    {"add() -> (count: int)", add, 0},
    {"history() -> (log: [string])", history, GW_READ},
};
static const struct gw_type digger_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "digger",
    .version = 1,
    .state_size = sizeof(struct digger),
    GW_FIELDS(fields),
    GW_METHODS(methods),
    .run = run,
};
static const struct gw_type *const types[] = {&digger_type, &tally_type};

/* ---- one host, an agent whose `run` is on its way to its first save, and a neighbour ---- */

struct play {
    struct mesh *m;
    gw_id agent, neighbour;
};

static struct work *at_work(void *arg)
{
    struct play *p = arg;
    struct agent *a = agent_find(mesh_node(p->m, 0), &p->agent);
    struct work *w = a && a->live ? a->live->current : NULL;
    return w && w->hook == HOOK_RUN && w->stream != 0 ? w : NULL;
}

static bool runs(void *arg)
{
    struct work *w = NULL, *mine = at_work(arg);
    struct play *p = arg;
    if (mine) {
        struct runner *r = &mesh_node(p->m, 0)->runners[0];
        HASH_FIND(hh, r->in_flight, &mine->stream, sizeof mine->stream, w);
    }
    return w;
}

static uint64_t open_play(struct play *p, uint64_t seed)
{
    p->m = mesh_new(seed, 1);
    mesh_set_types(p->m, 0, types, 2);
    mesh_start_all(p->m);
    p->neighbour = mesh_create(p->m, 0, "tally");
    p->agent = mesh_create(p->m, 0, "digger");
    mesh_assert(p->m, mesh_run_until(p->m, runs, p, 5000));
    return at_work(p)->stream;
}

/* A frame of the runner, as the link hands it over: what is no frame ends the link before. */
static bool inject(struct play *p, const uint8_t *raw, size_t n)
{
    struct frame f;
    struct buf own = {0}; /* of its size, so that a read behind it is seen */
    buf_add(&own, raw, n);
    bool whole = frame_parse((struct span){own.data, n}, &f) == GW_OK;
    if (whole) {
        node_runner_frame(mesh_node(p->m, 0), 0, &f);
    }
    buf_free(&own);
    return whole;
}

static const char *history_of(struct play *p)
{
    static char none[] = "not there";
    char id[GW_ID_TEXT];
    gw_value v = gw_nil();
    gw_err err = mesh_op(p->m, 0, &v, "send", "{'agent': '%s', 'method': 'history'}",
                         gw_id_text(&p->agent, id));
    gw_value_free(&v);
    return err == GW_OK ? actor_history(p->m, 0, &p->agent) : none;
}

/* `unhurt`: nothing of the frame may be there. */
static void close_play(struct play *p, bool unhurt)
{
    mesh_run(p->m, 20000);
    mesh_assert(p->m, mesh_alive(p->m, 0));
    assert_int_equal(mesh_add(p->m, 0, &p->neighbour, NULL), GW_OK);
    assert_int_equal(mesh_count(p->m, 0, &p->neighbour), 1);
    if (unhurt) {
        assert_string_equal(history_of(p), "s0 s1 s2 end");
        mesh_heal(p->m);
        mesh_expect_whole(p->m);
    } else {
        (void)history_of(p); /* whatever decodes; or the state is refused, or the agent is */
    }
    mesh_free(p->m);
}

/* ---- a save that is well formed, and what becomes of it ---- */

struct shape {
    const char *parts; /* packed; NULL: the right ones */
    size_t parts_n;
    const char *actions; /* packed; NULL: [] */
    size_t actions_n;
};

static void pack(struct buf *out, uint64_t stream, const struct shape *s)
{
    struct buf small = {0};
    size_t at = frame_begin(out, FRAME_SAVE, stream, 2);
    mp_map(&small, 4);
    mp_str(&small, "");
    mp_uint(&small, 1);
    mp_str(&small, "step");
    mp_int(&small, 2);
    mp_str(&small, "count");
    mp_int(&small, 5);
    mp_str(&small, "log");
    mp_array(&small, 1);
    mp_str(&small, "mad");
    if (s->parts) {
        buf_add(out, s->parts, s->parts_n);
    } else {
        mp_map(out, 1);
        mp_str(out, "");
        mp_bin(out, small.data, small.len);
    }
    if (s->actions) {
        buf_add(out, s->actions, s->actions_n);
    } else {
        mp_array(out, 0);
    }
    frame_end(out, at);
    assert_true(buf_ok(out));
    buf_free(&small);
}

static void test_a_whole_one_is_taken(void **state)
{
    (void)state;
    struct play p;
    struct buf b = {0};
    pack(&b, open_play(&p, 1100), &(struct shape){0});
    assert_true(inject(&p, b.data + 4, b.len - 4));
    struct agent *a = agent_find(mesh_node(p.m, 0), &p.agent);
    assert_non_null(a->live->suspended);
    buf_free(&b);
    close_play(&p, false); /* the runner's own save comes second, and ends it */
}

static void test_each_cut_is_refused(void **state)
{
    (void)state;
    size_t frames = 0;
    for (size_t cut = 1, n = SIZE_MAX; cut < n; cut++) {
        struct play p;
        struct buf b = {0};
        pack(&b, open_play(&p, 1200 + cut), &(struct shape){0});
        n = b.len - 4;
        frames += inject(&p, b.data + 4, cut);
        buf_free(&b);
        close_play(&p, true);
    }
    assert_true(frames > 20);
}

static void test_each_flipped_byte_is_survived(void **state)
{
    (void)state;
    static const uint8_t masks[] = {0x01, 0x10, 0x80, 0xff};
    for (size_t at = 0, n = SIZE_MAX; at < n; at++) {
        for (size_t k = 0; k < sizeof masks; k++) {
            struct play p;
            struct buf b = {0};
            pack(&b, open_play(&p, 1400 + at * 4 + k), &(struct shape){0});
            n = b.len - 4;
            b.data[4 + at] ^= masks[k];
            (void)inject(&p, b.data + 4, n);
            buf_free(&b);
            close_play(&p, false);
        }
    }
}

#define BYTES(s) (s), sizeof(s) - 1

static void test_counts_and_verbs_that_lie(void **state)
{
    (void)state;
    static const struct shape refused[] = {
        {BYTES("\xdf\xff\xff\xff\xff"), NULL, 0},
        {BYTES("\x81\xa0\xc6\xff\xff\xff\xff"), NULL, 0},
        {BYTES("\x81\xdb\xff\xff\xff\xff"), NULL, 0},
        {BYTES("\x81\xa0\xa1x"), NULL, 0}, /* text where bytes belong */
        {BYTES("\x91\xc0"), NULL, 0},
        {NULL, 0, BYTES("\xdd\xff\xff\xff\xff")},
        {NULL, 0, BYTES("\x91\x91\xa4tell")}, /* a verb alone */
        {NULL, 0, BYTES("\x91\x92\xc0\x80")}, /* no verb */
        {NULL, 0, BYTES("\x80")},
        {NULL, 0, BYTES("\xc0")},
    };
    static const struct shape odd[] = {
        {NULL, 0, BYTES("\x91\x92\xa8no_verb!\x80")},
        {NULL, 0, BYTES("\x91\x92\xa4tell\xc0")},
        {NULL, 0, BYTES("\x91\x92\xa4tell\x80")},
        {NULL, 0, BYTES("\x91\x92\xa5timer\x07")},
        {NULL, 0,
         BYTES("\x91\x92\xa8"
               "dispatch\x80")},
        {NULL, 0, BYTES("\x91\x92\xa7publish\x90")},
        {NULL, 0, BYTES("\x91\x92\xa7monitor\x80")},
        {NULL, 0, BYTES("\x91\x92\xa9itinerary\x80")},
        {NULL, 0,
         BYTES("\x91\x92\xa6"
               "answer\x80")},
        {BYTES("\x81\xa0\xc0"), NULL, 0}, /* the state goes */
        {BYTES("\x81\xa5other\xc4\x01\xc1"), NULL, 0},
        {BYTES("\x80"), NULL, 0},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct play p;
        struct buf b = {0};
        pack(&b, open_play(&p, 2000 + i), &refused[i]);
        assert_true(inject(&p, b.data + 4, b.len - 4));
        buf_free(&b);
        close_play(&p, true);
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct play p;
        struct buf b = {0};
        pack(&b, open_play(&p, 2100 + i), &odd[i]);
        assert_true(inject(&p, b.data + 4, b.len - 4));
        buf_free(&b);
        close_play(&p, false);
    }
}

/* ---- out of place ---- */

static void inject_save(struct play *p, uint64_t stream)
{
    struct buf b = {0};
    pack(&b, stream, &(struct shape){0});
    assert_true(inject(p, b.data + 4, b.len - 4));
    buf_free(&b);
}

static void test_for_nobody_and_twice(void **state)
{
    (void)state;
    struct play p;
    uint64_t stream = open_play(&p, 2200);
    inject_save(&p, stream + 1000);
    close_play(&p, true);
    stream = open_play(&p, 2201);
    inject_save(&p, 0);
    close_play(&p, true);
    stream = open_play(&p, 2202);
    inject_save(&p, stream);
    inject_save(&p, stream); /* before it was answered */
    close_play(&p, false);
}

static bool adds(void *arg)
{
    struct play *p = arg;
    struct agent *a = agent_find(mesh_node(p->m, 0), &p->neighbour);
    struct work *w = a && a->live ? a->live->current : NULL;
    return w && w->hook == HOOK_METHOD && w->stream != 0;
}

static void test_for_a_method(void **state)
{
    (void)state;
    struct play p;
    char id[GW_ID_TEXT];
    (void)open_play(&p, 2300);
    struct mesh_call *call = mesh_ask(p.m, 0, "send", "{'agent': '%s', 'method': 'history'}",
                                      gw_id_text(&p.neighbour, id));
    assert_true(mesh_run_until(p.m, adds, &p, 5000));
    inject_save(&p, agent_find(mesh_node(p.m, 0), &p.neighbour)->live->current->stream);
    (void)mesh_wait(p.m, call, 30000);
    mesh_call_free(call);
    close_play(&p, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_one_is_taken),
        cmocka_unit_test(test_each_cut_is_refused),
        cmocka_unit_test(test_each_flipped_byte_is_survived),
        cmocka_unit_test(test_counts_and_verbs_that_lie),
        cmocka_unit_test(test_for_nobody_and_twice),
        cmocka_unit_test(test_for_a_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
