/* Tickets of many agents: mixed crowds (idle, busy, asleep, with mail and timers, with hooks, some
 * that will not go and some that are not taken) leave a host together, cut at every frame and
 * crashed at every commit. After each: never two runnable copies (virtual_check.c), everyone there
 * exactly once with the right state, and whoever can go has gone with the next drain. */
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
#include "host/core/handoff.h"
#include "tests/mesh/scene.h"

#define SEED 900

/* --- plain: no hook when it leaves, so the store alone knows its state --- */
struct plain {
    int64_t count, fired;
    gw_strs log;
    gw_value load;
};
static const struct gw_field plain_fields[] = {
    GW_FIELD(struct plain, count),
    GW_FIELD(struct plain, fired),
    GW_FIELD(struct plain, log),
    GW_FIELD(struct plain, load),
};
static gw_err add(struct gw_call *call)
{
    struct plain *p = gw_state(call);
    p->count += gw_arg_int(call, "by");
    if (gw_arg_int(call, "number") >= 0) {
        GW_TRY(gw_strs_addf(&p->log, "#%lld", (long long)gw_arg_int(call, "number")));
    }
    return gw_reply_int(call, "count", p->count);
}
static gw_err get(struct gw_call *call)
{
    const struct plain *p = gw_state(call);
    GW_TRY(gw_reply_int(call, "count", p->count));
    return gw_reply_int(call, "fired", p->fired);
}
static gw_err history(struct gw_call *call)
{
    const struct plain *p = gw_state(call);
    return gw_reply_strs(call, "log", &p->log);
}
static gw_err tell_many(struct gw_call *call)
{
    for (int64_t i = 0; i < gw_arg_int(call, "n"); i++) {
        gw_value args = gw_nil();
        GW_TRY(gw_map_set(&args, "number", gw_int(i)));
        GW_TRY(gw_tell(call, gw_arg_id(call, "to"), "add", args));
    }
    return GW_OK;
}
static gw_err tick(struct gw_call *call)
{
    return gw_timer(call, "once", gw_arg_int(call, "ms"), gw_nil());
}
static gw_err fill(struct gw_call *call)
{
    struct plain *p = gw_state(call);
    size_t n = (size_t)gw_arg_int(call, "bytes");
    uint8_t *bytes = calloc(1, n);
    gw_value_free(&p->load);
    gw_err err = bytes ? gw_value_set_bytes(&p->load, bytes, n) : GW_ENOMEM;
    free(bytes);
    return err;
}
static gw_err on_timer(struct gw_call *call)
{
    struct plain *p = gw_state(call);
    p->fired++;
    return GW_OK;
}
static gw_err plain_arrive(struct gw_call *call)
{
    struct plain *p = gw_state(call);
    return gw_strs_add(&p->log, "arrive");
}
static const struct gw_method plain_methods[] = {
    {"add(by: int = 1, number: int = -1) -> (count: int)", add, 0},
    {"get() -> (count: int, fired: int)", get, GW_READ},
    {"history() -> (log: [string])", history, GW_READ},
    {"tell_many(to: agent, n: int)", tell_many, 0},
    {"tick(ms: int)", tick, 0},
    {"fill(bytes: int)", fill, 0},
};
static const struct gw_type plain_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "plain",
    .version = 1,
    .state_size = sizeof(struct plain),
    GW_FIELDS(plain_fields),
    GW_METHODS(plain_methods),
    .on_arrive = plain_arrive,
    .on_timer = on_timer,
};
static const struct gw_type *const source_types[] = {&plain_type, &tally_type, &homebody_type,
                                                     &morph_text_type};
static const struct gw_type *const other_types[] = {&plain_type, &tally_type, &homebody_type,
                                                    &morph_number_type};

/* --- the crowd --- */
enum { PLAIN = 6, ASLEEP = 2, TALLY = 2, CROWD = PLAIN + ASLEEP + TALLY };
struct crowd {
    struct scene s; /* .agent is not used */
    gw_id id[CROWD + 2];
    char text[CROWD + 2][GW_ID_TEXT];
    int64_t want[CROWD];
    struct mesh_call *late[CROWD]; /* adds that come while it leaves */
};
#define HOMEBODY CROWD
#define MORPH    (CROWD + 1)

static struct mesh *mesh_of(uint64_t seed)
{
    struct mesh *m = mesh_new(seed, 3);
    mesh_set_types(m, 0, source_types, 4);
    mesh_set_types(m, 1, other_types, 4);
    mesh_set_types(m, 2, other_types, 4);
    mesh_start_all(m);
    return m;
}

static void crowd_open(struct crowd *c, uint64_t seed)
{
    *c = (struct crowd){.s = {.fault = NO_FAULT, .second = NO_FAULT}};
    struct mesh *m = c->s.m = mesh_of(seed);
    for (size_t i = 0; i < CROWD + 2; i++) {
        const char *type = i < PLAIN + ASLEEP ? "plain"
                           : i < CROWD        ? "tally"
                           : i == HOMEBODY    ? "homebody"
                                              : "morph";
        gw_value v = gw_nil();
        mesh_must(m, 0, &v, "create", "{'type': '%s'%s}", type,
                  i == MORPH ? ", 'state': {'v': 'words'}" : "");
        assert_int_equal(gw_id_parse(gw_map_str(&v, "agent", ""), &c->id[i]), GW_OK);
        gw_value_free(&v);
        (void)gw_id_text(&c->id[i], c->text[i]);
        mesh_expect(m, &c->id[i]);
    }
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(mesh_add(m, 0, &c->id[i], "first"), GW_OK);
        c->want[i] = 1;
    }
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'tick', 'args': {'ms': 40}}",
              c->text[2]);
    mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': 'tick', 'args': {'ms': 3000}}",
              c->text[PLAIN]);
    for (size_t i = PLAIN; i < PLAIN + ASLEEP; i++) {
        mesh_must(m, 0, NULL, "deactivate", "{'agent': '%s'}", c->text[i]);
    }
}

/* 3 tells 4 while both leave; some are asked while they leave. */
static void make_busy(struct crowd *c)
{
    struct mesh *m = c->s.m;
    mesh_must(m, 0, NULL, "send",
              "{'agent': '%s', 'method': 'tell_many', 'args': {'to': '%s', 'n': 10}, 'text': true}",
              c->text[3], c->text[4]);
    c->want[4] += 10;
    for (size_t i = 0; i < CROWD; i += 3) {
        c->late[i] = mesh_ask(m, i % 2 ? 2 : 0, "send",
                              "{'agent': '%s', 'method': 'add', 'key': 'late'}", c->text[i]);
        c->want[i]++;
    }
}

static void crowd_close(struct crowd *c)
{
    mesh_free(c->s.m);
}

/* Whatever was not answered is asked again, under its key. */
static void ask_again(struct crowd *c)
{
    struct mesh *m = c->s.m;
    for (size_t i = 0; i < CROWD; i++) {
        if (!c->late[i]) {
            continue;
        }
        gw_err err = c->late[i]->done ? c->late[i]->err : GW_ETIMEOUT;
        for (size_t k = 0; err != GW_OK && k < 20; k++) {
            err = mesh_add(m, k % 3, &c->id[i], "late");
            mesh_run(m, err == GW_OK ? 0 : 500);
        }
        mesh_assert(m, err == GW_OK);
        mesh_call_free(c->late[i]);
        c->late[i] = NULL;
    }
}

static int64_t fired(struct crowd *c, size_t i)
{
    gw_value v = gw_nil();
    mesh_must(c->s.m, 2, &v, "send", "{'agent': '%s', 'method': 'get'}", c->text[i]);
    int64_t n = gw_map_int(gw_map_get(&v, "reply"), "fired", -1);
    gw_value_free(&v);
    return n;
}

/* Of each ten tells one line, in order. */
static void expect_order(struct crowd *c)
{
    const char *at = scene_history(c->s.m, 2, &c->id[4]);
    for (int i = 0; i < 10; i++) {
        char line[16];
        (void)snprintf(line, sizeof line, "#%d", i);
        at = strstr(at, line);
        if (!at) {
            mesh_fail(c->s.m, "I4: tell %d is missing or out of order", i);
        }
    }
}

static void expect_all(struct crowd *c)
{
    struct mesh *m = c->s.m;
    mesh_expect_whole(m);
    for (size_t i = 0; i < CROWD; i++) {
        int64_t count = mesh_count(m, 2, &c->id[i]);
        if (count != c->want[i]) {
            mesh_fail(m, "I3: the count of agent %zu is %lld instead of %lld", i, (long long)count,
                      (long long)c->want[i]);
        }
    }
    expect_order(c);
    mesh_assert(m, fired(c, 2) == 1);
    mesh_assert(m, fired(c, PLAIN) == 1);
    mesh_assert(m, mesh_where(m, &c->id[HOMEBODY], NULL) == 0);
    mesh_assert(m, mesh_where(m, &c->id[MORPH], NULL) == 0);
}

static void drain_must(struct mesh *m, size_t host, const char *to, int64_t stay)
{
    struct mesh_call *call = mesh_ask(m, host, "drain", "{'to': '%s'}", to);
    if (mesh_wait(m, call, 120000) != GW_OK) {
        mesh_fail(m, "drain: %s", call->why.text);
    }
    const gw_value *last = &call->items.list.items[call->items.list.n - 1];
    int64_t stayed = gw_map_int(last, "stayed", -1);
    if (stayed != stay) {
        mesh_fail(m, "drain: %lld stayed instead of %lld", (long long)stayed, (long long)stay);
    }
    mesh_call_free(call);
}

/* One drain h0 to h1 with a fault, healing, then what is left goes, and all come back. */
static bool run_fault(const struct fault *fault, uint64_t seed)
{
    struct crowd c;
    crowd_open(&c, seed);
    make_busy(&c);
    scene_arm(&c.s, fault);
    struct mesh_call *call = mesh_ask(c.s.m, 0, "drain", "{'to': 'h1'}");
    (void)mesh_wait(c.s.m, call, 30000);
    mesh_call_free(call);
    mesh_run(c.s.m, 3000);
    bool fired_now = c.s.fault.frame_fired || c.s.fault.commit_fired;
    mesh_heal(c.s.m);
    ask_again(&c);
    mesh_run(c.s.m, 3000);
    expect_all(&c);
    drain_must(c.s.m, 0, "h1", 2);
    for (size_t i = 0; i < CROWD; i++) {
        mesh_assert(c.s.m, mesh_where(c.s.m, &c.id[i], NULL) == 1);
    }
    drain_must(c.s.m, 1, "h0", 0);
    expect_all(&c);
    crowd_close(&c);
    return fired_now;
}

#define PLACES_MAX 24 /* then everybody has arrived, and runs on_arrive */
static void each_place(struct fault fault, size_t least, bool frames)
{
    size_t k = 0;
    for (; k < PLACES_MAX; k++) {
        *(frames ? &fault.frame_k : &fault.commit_k) = k;
        if (!run_fault(&fault, SEED + k)) {
            break;
        }
    }
    assert_true(k >= least);
}

static void at_each_frame(mesh_fate fate, int64_t part_ms, int64_t restart_ms)
{
    struct fault f = NO_FAULT;
    f.frame_fate = fate;
    f.part_ms = part_ms;
    f.restart_ms = restart_ms;
    each_place(f, 4, true);
}

static void at_each_commit(size_t host, commit_fate fate, int64_t restart_ms)
{
    struct fault f = NO_FAULT;
    f.commit_host = host;
    f.commit_fate = fate;
    f.restart_ms = restart_ms;
    each_place(f, 2, false);
}

static void test_cut_and_lose_at_every_frame(void **state)
{
    (void)state;
    at_each_frame(FATE_CUT, 0, 0);
    at_each_frame(FATE_CUT, -1, 0);
    at_each_frame(FATE_CUT_AFTER, 0, 0);
    at_each_frame(FATE_LOSE, 0, 0);
}

static void test_double_every_frame(void **state)
{
    (void)state;
    at_each_frame(FATE_TWICE, 0, 0);
    at_each_frame(FATE_LATE, 0, 0);
}

static void test_crash_at_every_frame(void **state)
{
    (void)state;
    static const mesh_fate fates[] = {FATE_CRASH_FROM, FATE_CRASH_TO, FATE_CRASH_TO_AFTER};
    for (size_t i = 0; i < 3; i++) {
        at_each_frame(fates[i], 0, i == 0 ? 300 : -1);
    }
}

static void test_every_commit(void **state)
{
    (void)state;
    for (size_t host = 0; host < 2; host++) {
        at_each_commit(host, COMMIT_CRASH_BEFORE, 300);
        at_each_commit(host, COMMIT_CRASH_AFTER, -1);
        at_each_commit(host, COMMIT_FAIL, 0);
        at_each_commit(host, COMMIT_SLOW, 0);
    }
}

/* --- what is under a ticket --- */
struct tape {
    size_t stages, agents, most, bytes; /* of the STAGE frames from h0 */
    struct buf commit;                  /* body of the latest COMMIT */
    struct ticket_note note;
    bool lose_commit;
};

static mesh_fate on_tape(void *arg, size_t from, size_t to, const struct frame *f)
{
    struct tape *t = arg;
    struct mp m = f->rest;
    struct span body;
    uint8_t signature[64];
    size_t n = 0;
    (void)to;
    if (from != 0 || (f->kind != FRAME_STAGE && f->kind != FRAME_COMMIT)) {
        return FATE_PASS;
    }
    assert_int_equal(mp_read_bin(&m, &body), GW_OK);
    assert_int_equal(mp_read_fixed(&m, signature, sizeof signature), GW_OK);
    if (f->kind == FRAME_STAGE) {
        assert_int_equal(mp_read_array(&m, &n), GW_OK);
        t->stages++;
        t->agents += n;
        t->most = n > t->most ? n : t->most;
        t->bytes = f->raw.n > t->bytes ? f->raw.n : t->bytes;
        return FATE_PASS;
    }
    buf_reset(&t->commit);
    buf_add(&t->commit, body.p, body.n);
    return t->lose_commit ? FATE_LOSE : FATE_PASS;
}

static void test_many_go_under_one_ticket(void **state)
{
    (void)state;
    struct tape tape = {0};
    struct mesh *m = mesh_of(SEED);
    gw_id ids[100];
    for (size_t i = 0; i < 100; i++) {
        ids[i] = mesh_create(m, 0, "plain");
    }
    mesh_on_frame(m, on_tape, &tape);
    drain_must(m, 0, "h1", 0);
    assert_int_equal(tape.agents, 100);
    assert_true(tape.stages <= 4 && tape.most > 40);
    for (size_t i = 0; i < 100; i++) {
        uint64_t epoch = 0;
        assert_int_equal(mesh_where(m, &ids[i], &epoch), 1);
        assert_int_equal(epoch, 2);
    }
    assert_string_equal(scene_history(m, 2, &ids[7]), "arrive");
    buf_free(&tape.commit);
    mesh_free(m);
}

/* Large states are bounded by bytes, in one read and under one ticket. */
static void test_large_agents_go_in_smaller_tickets(void **state)
{
    (void)state;
    struct tape tape = {0};
    struct mesh *m = mesh_of(SEED + 1);
    gw_id ids[12];
    char id[GW_ID_TEXT];
    for (size_t i = 0; i < 12; i++) {
        ids[i] = mesh_create(m, 0, i < 10 ? "plain" : "tally");
        mesh_must(m, 0, NULL, "send", "{'agent': '%s', 'method': '%s', 'args': {'bytes': 1500000}}",
                  gw_id_text(&ids[i], id), i < 10 ? "fill" : "load");
    }
    mesh_on_frame(m, on_tape, &tape);
    drain_must(m, 0, "h1", 0);
    assert_true(tape.most > 1);
    assert_true(tape.bytes <= LIMIT_TICKET_BYTES + 100000);
    for (size_t i = 0; i < 12; i++) {
        assert_int_equal(mesh_where(m, &ids[i], NULL), 1);
    }
    mesh_on_frame(m, NULL, NULL);
    buf_free(&tape.commit);
    mesh_free(m);
}

/* Another version of the type there: it is asked first, and who is refused has not frozen. */
static void test_an_offer_is_taken_in_part(void **state)
{
    (void)state;
    struct gw_type newer = tally_type;
    newer.version = 2;
    const struct gw_type *const types[] = {&newer};
    struct tape tape = {0};
    struct mesh *m = mesh_new(SEED + 9, 2);
    mesh_set_types(m, 1, types, 1);
    mesh_set_limits(m, 1, (struct node_limits){.staged = 3});
    mesh_start_all(m);
    gw_id ids[5];
    for (size_t i = 0; i < 5; i++) {
        ids[i] = mesh_create(m, 0, "tally");
    }
    mesh_on_frame(m, on_tape, &tape);
    drain_must(m, 0, "h1", 0); /* those that it would not take at once go later */
    assert_true(tape.most <= 3 && tape.agents == 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(mesh_where(m, &ids[i], NULL), 1);
        assert_string_equal(scene_history(m, 0, &ids[i]), "create leave arrive");
    }
    buf_free(&tape.commit);
    mesh_free(m);
}

/* --- words about a part of a ticket --- */

/* Staged at h1, departed from h0, the COMMIT is kept back. */
static void doubt(struct mesh **m, struct tape *tape, gw_id *ids, size_t n, uint64_t seed)
{
    *m = mesh_of(seed);
    *tape = (struct tape){.lose_commit = true};
    for (size_t i = 0; i < n; i++) {
        ids[i] = mesh_create(*m, 0, "plain");
    }
    mesh_on_frame(*m, on_tape, tape);
    mesh_call_free(mesh_ask(*m, 0, "drain", "{'to': 'h1'}"));
    mesh_run(*m, 300);
    mesh_assert(*m, tape->commit.len > 0);
    struct mp r = mp_over(buf_span(&tape->commit));
    size_t count, pairs;
    assert_int_equal(mp_read_array(&r, &count), GW_OK);
    assert_int_equal(mp_read_id(&r, &tape->note.ticket), GW_OK);
    assert_int_equal(mp_read_array(&r, &pairs), GW_OK);
    mesh_assert(*m, pairs == n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(
            handoff_read_agent(&r, &tape->note.agents[i].agent, &tape->note.agents[i].epoch),
            GW_OK);
    }
    assert_int_equal(mp_read_fixed(&r, tape->note.nonce, sizeof tape->note.nonce), GW_OK);
    tape->note.n = n;
}

/* `note` as the COMMIT of h0. */
static void inject_commit(struct mesh *m, const struct ticket_note *note)
{
    struct buf body = {0}, frame = {0};
    uint8_t signature[64];
    assert_int_equal(note_sign(NOTE_COMMIT, note, mesh_host_key(m, 0), &body, signature), GW_OK);
    size_t at = frame_begin(&frame, FRAME_COMMIT, 77, 2);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    frame_end(&frame, at);
    mesh_inject(m, 0, 1, &frame);
    buf_free(&body);
    buf_free(&frame);
}

/* A COMMIT that names some of those staged: they become active, the others are dropped, and to a
 * COMMIT for all h1 says which it does not know: just those stay in doubt at h0 (H5). */
static void test_a_part_is_committed(void **state)
{
    (void)state;
    struct mesh *m;
    struct tape tape;
    gw_id ids[6];
    char id[GW_ID_TEXT];
    doubt(&m, &tape, ids, 6, SEED + 2);
    struct ticket_note part = tape.note, wrong = tape.note;
    for (size_t i = 0; i < wrong.n; i++) {
        wrong.agents[i].epoch++; /* H1: another epoch is another agent */
    }
    inject_commit(m, &wrong);
    mesh_run(m, 100);
    mesh_assert(m, mesh_copies(m, &ids[0]) == 2); /* departed, staged */
    part.n = 4;
    inject_commit(m, &part);
    mesh_run(m, 500);
    for (size_t i = 0; i < 6; i++) {
        mesh_assert(m, mesh_copies(m, &ids[i]) == (i < 4 ? 2u : 1u));
    }
    tape.lose_commit = false;
    mesh_run(m, 10000);
    mesh_assert(m, node_moves_count(mesh_node(m, 0)) == 2);
    mesh_assert(m, node_moves_count(mesh_node(m, 1)) == 0);
    for (size_t i = 0; i < 4; i++) {
        mesh_assert(m, mesh_where(m, &ids[i], NULL) == 1);
    }
    gw_value v = gw_nil();
    mesh_must(m, 0, &v, "resolve", "{'ticket': '%s'}", gw_id_text(&tape.note.ticket, id));
    assert_int_equal(gw_map_get(&v, "agents")->list.n, 2);
    gw_value_free(&v);
    for (size_t i = 4; i < 6; i++) {
        mesh_assert(m, mesh_where(m, &ids[i], NULL) == 0);
        assert_int_equal(mesh_count(m, 2, &ids[i]), 0);
    }
    mesh_on_frame(m, NULL, NULL);
    mesh_heal(m);
    mesh_expect_whole(m);
    buf_free(&tape.commit);
    mesh_free(m);
}

/* The operator's word covers all of a ticket, at either side. */
static void test_resolve_a_batch(void **state)
{
    (void)state;
    for (size_t lost = 0; lost < 2; lost++) {
        struct mesh *m;
        struct tape tape;
        gw_id ids[5];
        char id[GW_ID_TEXT];
        doubt(&m, &tape, ids, 5, SEED + 3 + lost);
        size_t left = 1 - lost;
        for (size_t i = 0; i < 5; i++) {
            mesh_excuse(m, &ids[i]);
        }
        mesh_crash(m, lost);
        mesh_run(m, 30000);
        gw_value v = gw_nil();
        mesh_must(m, left, &v, "resolve", "{'ticket': '%s', 'source_destroyed': %s}",
                  gw_id_text(&tape.note.ticket, id), lost == 0 ? "true" : "false");
        assert_int_equal(gw_map_get(&v, "agents")->list.n, 5);
        gw_value_free(&v);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(mesh_count(m, 2, &ids[i]), 0);
            assert_int_equal(mesh_where(m, &ids[i], NULL), left);
        }
        assert_int_equal(node_moves_count(mesh_node(m, left)), 0);
        mesh_crash(m, left); /* the word is durable */
        mesh_start(m, left);
        mesh_run(m, 3000);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(mesh_where(m, &ids[i], NULL), left);
        }
        mesh_on_frame(m, NULL, NULL);
        buf_free(&tape.commit);
        mesh_free(m);
    }
}

/* --- hostile tickets --- */

/* A STAGE that h0 signs itself: what it says, and whether h1 lives on with nothing staged. */
static void forge_stage(struct mesh *m, struct ticket_agent *agents, size_t n, size_t payloads,
                        struct span plain)
{
    struct ticket t = {
        .from = mesh_host_id(m, 0), .to = mesh_host_id(m, 1), .agents = agents, .agent_count = n};
    struct buf body = {0}, frame = {0};
    struct buf *sealed = calloc(n, sizeof *sealed);
    struct span *spans = calloc(n, sizeof *spans);
    uint8_t signature[64];
    assert_non_null(sealed);
    assert_non_null(spans);
    t.id.b[15] = 9;
    for (size_t i = 0; i < n; i++) {
        spans[i] = plain;
    }
    assert_int_equal(ticket_seal(&t, spans, mesh_host_key(m, 0), mesh_host_key(m, 1)->public_key,
                                 &body, signature, sealed),
                     GW_OK);
    size_t at = frame_begin(&frame, FRAME_STAGE, 8000, 3);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    mp_array(&frame, payloads);
    for (size_t i = 0; i < payloads; i++) {
        mp_span(&frame, buf_span(&sealed[i % n]));
    }
    frame_end(&frame, at);
    mesh_inject(m, 0, 1, &frame);
    mesh_run(m, 1000);
    for (size_t i = 0; i < n; i++) {
        buf_free(&sealed[i]);
    }
    free(sealed);
    free(spans);
    buf_free(&body);
    buf_free(&frame);
}

static void test_hostile_tickets(void **state)
{
    (void)state;
    struct mesh *m = mesh_of(SEED + 8);
    struct ticket_agent agents[LIMIT_TICKET_AGENTS] = {0};
    struct agent_row row = {.type = "plain", .then = AGENT_ACTIVE};
    struct buf good = {0}, clone = {0}, parts = {0};
    static const size_t payloads[] = {0, 1, LIMIT_TICKET_AGENTS - 1, LIMIT_TICKET_AGENTS + 1, 5000};
    for (size_t i = 0; i < LIMIT_TICKET_AGENTS; i++) {
        agents[i] = (struct ticket_agent){.epoch = 1, .type = "plain", .version = 1};
        agents[i].agent.b[0] = 1;
        agents[i].agent.b[15] = (uint8_t)i;
    }
    mp_map(&parts, 0);
    handoff_pack(&good, HANDOFF_MOVE, &row, buf_span(&parts), (struct span){0}, (struct span){0});
    handoff_pack(&clone, HANDOFF_CLONE, &row, buf_span(&parts), (struct span){0}, (struct span){0});
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        forge_stage(m, agents, LIMIT_TICKET_AGENTS, payloads[i], buf_span(&good));
        assert_int_equal(node_moves_count(mesh_node(m, 1)), 0);
    }
    forge_stage(m, agents, 2, 2, buf_span(&clone)); /* clones come alone */
    assert_int_equal(node_moves_count(mesh_node(m, 1)), 0);
    for (size_t cut = 0; cut < good.len; cut++) { /* payloads cut short */
        forge_stage(m, agents, 2, 2, (struct span){good.data, cut});
        assert_int_equal(node_moves_count(mesh_node(m, 1)), 0);
    }
    /* as many as there may be: staged, asked about, and gone when h0 does not know of them */
    forge_stage(m, agents, LIMIT_TICKET_AGENTS, LIMIT_TICKET_AGENTS, buf_span(&good));
    mesh_run(m, 10000);
    assert_int_equal(node_moves_count(mesh_node(m, 1)), 0);
    buf_free(&good);
    buf_free(&clone);
    buf_free(&parts);
    mesh_heal(m);
    mesh_expect_whole(m);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_go_under_one_ticket),
        cmocka_unit_test(test_large_agents_go_in_smaller_tickets),
        cmocka_unit_test(test_an_offer_is_taken_in_part),
        cmocka_unit_test(test_a_part_is_committed),
        cmocka_unit_test(test_resolve_a_batch),
        cmocka_unit_test(test_hostile_tickets),
        cmocka_unit_test(test_cut_and_lose_at_every_frame),
        cmocka_unit_test(test_double_every_frame),
        cmocka_unit_test(test_crash_at_every_frame),
        cmocka_unit_test(test_every_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
