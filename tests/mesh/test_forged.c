/* Bytes of a hostile member: old frames sent again, frames of others' moves, altered bytes, wrong
 * keys. None of it may double an agent, lose it, or end somebody else's move. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/mesh/scene.h"

#define TAPE_MOST 64

/* --- a tape of the frames that passed --- */
struct taped {
    size_t from, to;
    uint32_t kind;
    struct buf bytes; /* with its length */
};
struct tape {
    struct mesh *m;
    struct taped items[TAPE_MOST];
    size_t n;
    uint32_t lose; /* frames of this kind are lost (0 = none), after taping */
    size_t lost;
};

static void with_length(const struct frame *frame, struct buf *ret)
{
    buf_add_u32(ret, (uint32_t)frame->raw.n);
    buf_add(ret, frame->raw.p, frame->raw.n);
}

static mesh_fate on_tape(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct tape *t = arg;
    if (frame->kind < FRAME_OFFER || frame->kind > FRAME_LOCATE) {
        return FATE_PASS;
    }
    if (t->n < TAPE_MOST) {
        struct taped *x = &t->items[t->n++];
        *x = (struct taped){.from = from, .to = to, .kind = frame->kind};
        with_length(frame, &x->bytes);
    }
    if (frame->kind == t->lose) {
        t->lost++;
        return FATE_LOSE;
    }
    return FATE_PASS;
}

static void tape_free(struct tape *t)
{
    for (size_t i = 0; i < t->n; i++) {
        buf_free(&t->items[i].bytes);
    }
    t->n = 0;
}

static const struct taped *last_of(const struct tape *t, uint32_t kind)
{
    for (size_t i = t->n; i > 0; i--) {
        if (t->items[i - 1].kind == kind) {
            return &t->items[i - 1];
        }
    }
    mesh_fail(t->m, "no %s was sent", frame_kind_name(kind));
}

static void parse(const struct taped *x, struct frame *ret)
{
    struct span in = buf_span(&x->bytes);
    assert_int_equal(frame_take(&in, LIMIT_MESSAGE_BYTES, ret), GW_OK);
}

/* body, signature of a STAGE or COMMIT */
static void parse_signed(const struct taped *x, struct span *ret_body, uint8_t ret_signature[64])
{
    struct frame f;
    parse(x, &f);
    assert_int_equal(mp_read_bin(&f.rest, ret_body), GW_OK);
    assert_int_equal(mp_read_fixed(&f.rest, ret_signature, 64), GW_OK);
}

static void commit_frame(struct span body, const uint8_t signature[64], uint64_t stream,
                         struct buf *ret)
{
    size_t at = frame_begin(ret, FRAME_COMMIT, stream, 2);
    mp_span(ret, body);
    mp_bin(ret, signature, 64);
    frame_end(ret, at);
}

static void replay_all(struct scene *s, const struct tape *t, size_t instead_to)
{
    for (size_t i = 0; i < t->n; i++) {
        size_t to = instead_to == NOWHERE ? t->items[i].to : instead_to;
        if (t->items[i].from != to) {
            mesh_inject(s->m, t->items[i].from, to, &t->items[i].bytes);
            mesh_run(s->m, (int64_t)mesh_random(s->m, 50));
        }
    }
    mesh_run(s->m, 40000);
}

static void expect_still(struct scene *s, size_t host, uint64_t epoch)
{
    uint64_t e = 0;
    mesh_run(s->m, 40000);
    mesh_assert(s->m, mesh_where(s->m, &s->agent, &e) == host);
    mesh_assert(s->m, e == epoch);
    mesh_assert(s->m, mesh_copies(s->m, &s->agent) == 1);
    for (size_t i = 0; i < 3; i++) {
        mesh_assert(s->m, node_moves_count(mesh_node(s->m, i)) == 0);
    }
}

/* --- an older move, played again --- */
static void test_replays_after_it_came_back(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 31, 3);
    struct tape tape = {.m = s.m};
    mesh_on_frame(s.m, on_tape, &tape);
    assert_int_equal(mesh_move(s.m, 0, &s.agent, 1), GW_OK);
    mesh_run(s.m, 1000);
    mesh_on_frame(s.m, NULL, NULL);
    assert_true(tape.n >= 4);
    replay_all(&s, &tape, NOWHERE); /* while it is there */
    expect_still(&s, 1, 2);
    assert_int_equal(mesh_move(s.m, 1, &s.agent, 0), GW_OK);
    replay_all(&s, &tape, NOWHERE); /* back at the origin */
    expect_still(&s, 0, 3);
    mesh_crash(s.m, 1); /* with no memory but the store */
    mesh_start_all(s.m);
    replay_all(&s, &tape, NOWHERE);
    expect_still(&s, 0, 3);
    assert_int_equal(mesh_move(s.m, 1, &s.agent, 2), GW_OK);
    replay_all(&s, &tape, NOWHERE); /* at a third host */
    expect_still(&s, 2, 4);
    replay_all(&s, &tape, 2); /* sent to who is not meant */
    expect_still(&s, 2, 4);
    tape_free(&tape);
    scene_verify(&s);
    scene_close(&s);
}

/* The frames of an aborted attempt, after the next one has begun or ended. */
static void test_replays_of_an_aborted_move(void **state)
{
    (void)state;
    for (size_t k = 0; k < 6; k++) {
        struct scene s;
        scene_open(&s, 32 + k, 3);
        struct tape tape = {.m = s.m, .lose = k % 2 ? FRAME_RECEIPT : FRAME_STAGE};
        mesh_on_frame(s.m, on_tape, &tape);
        scene_dispatch(&s, 0, 1);
        (void)scene_wait(&s, 100000);
        mesh_on_frame(s.m, NULL, NULL);
        if (k >= 2) {
            (void)mesh_move(s.m, 0, &s.agent, k >= 4 ? 2 : 1);
        }
        replay_all(&s, &tape, NOWHERE);
        mesh_crash(s.m, k % 2);
        mesh_start_all(s.m);
        replay_all(&s, &tape, NOWHERE);
        tape_free(&tape);
        scene_verify(&s);
        scene_close(&s);
    }
}

/* Each frame of an aborted attempt, again at each frame of the next attempt (H1: the same agent and
 * epoch, another ticket). */
struct late {
    struct scene *s;
    const struct tape *old;
    size_t which, at, seen; /* old frame `which`, before frame `at` of the new move */
    bool done;
};
static mesh_fate old_among_new(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct late *l = arg;
    (void)from, (void)to;
    if (frame->kind < FRAME_OFFER || frame->kind > FRAME_LOCATE || l->done) {
        return FATE_PASS;
    }
    if (l->seen++ == l->at) {
        const struct taped *x = &l->old->items[l->which];
        l->done = true;
        mesh_inject(l->s->m, x->from, x->to, &x->bytes);
    }
    return FATE_PASS;
}

/* false: there is no old frame `which`. *ret_fired becomes true when the new move had a frame `at`.
 */
static bool old_frame_during_next(size_t which, size_t at, bool *ret_fired)
{
    struct scene s;
    scene_open(&s, 38, 3);
    struct tape tape = {.m = s.m, .lose = FRAME_RECEIPT};
    mesh_on_frame(s.m, on_tape, &tape);
    scene_dispatch(&s, 0, 1);
    (void)scene_wait(&s, 100000);
    mesh_run(s.m, 1000);
    (void)last_of(&tape, FRAME_ABORT); /* it has ended with one */
    struct late late = {.s = &s, .old = &tape, .which = which, .at = at};
    bool exists = which < tape.n;
    if (exists) {
        mesh_on_frame(s.m, old_among_new, &late);
        scene_dispatch(&s, 0, 1);
        (void)scene_wait(&s, 100000);
        mesh_run(s.m, 1000);
        mesh_on_frame(s.m, NULL, NULL);
    }
    *ret_fired |= late.done;
    tape_free(&tape);
    scene_verify(&s);
    scene_close(&s);
    return exists;
}

static void test_old_frames_during_the_next_move(void **state)
{
    (void)state;
    bool fired = true;
    size_t at = 0;
    for (; fired; at++) {
        size_t which = 0;
        fired = false;
        while (old_frame_during_next(which, at, &fired)) {
            which++;
        }
        assert_true(which >= 3); /* STAGE, repeats, RECEIPTs, ABORT */
    }
    assert_true(at > 4);
}

/* --- altered bytes --- */
struct alter {
    struct mesh *m;
    uint32_t kind;
    size_t at; /* which byte, from the end of the frame */
    bool done;
};
static mesh_fate alter_once(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct alter *a = arg;
    if (frame->kind != a->kind || a->done) {
        return FATE_PASS;
    }
    a->done = true;
    struct buf b = {0};
    with_length(frame, &b);
    if (a->at < frame->raw.n) {
        b.data[b.len - 1 - a->at] ^= (uint8_t)(1u << (a->at % 8));
        mesh_inject(a->m, from, to, &b);
    }
    buf_free(&b);
    return FATE_LOSE;
}

static void test_altered_frames(void **state)
{
    (void)state;
    static const uint32_t kinds[] = {FRAME_STAGE, FRAME_RECEIPT, FRAME_COMMIT, FRAME_COMMITTED};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (size_t at = 0; at < 400; at += kinds[i] == FRAME_STAGE ? 17 : 11) {
            struct scene s;
            scene_open(&s, 40 + i, 3);
            struct alter alter = {.m = s.m, .kind = kinds[i], .at = at};
            mesh_on_frame(s.m, alter_once, &alter);
            scene_dispatch(&s, 0, 1);
            (void)scene_wait(&s, 60000);
            mesh_assert(s.m, alter.done);
            scene_verify(&s);
            scene_close(&s);
        }
    }
}

/* --- a COMMIT that is not the source's --- */
static void stage_without_commit(struct scene *s, struct tape *tape, uint64_t seed)
{
    scene_open(s, seed, 3);
    *tape = (struct tape){.m = s->m, .lose = FRAME_COMMIT};
    mesh_on_frame(s->m, on_tape, tape);
    scene_dispatch(s, 0, 1);
    mesh_run(s->m, 300);
    mesh_assert(s->m, tape->lost > 0);
}

static bool runs_somewhere(struct scene *s)
{
    struct mesh *m = s->m;
    bool found = false;
    for (size_t i = 0; i < 3; i++) {
        struct mesh_call *c = mesh_ask(m, i, "agents", "{}");
        (void)mesh_wait(m, c, 5000);
        const gw_value *list = gw_map_get(&c->value, "agents");
        for (size_t j = 0; list && list->kind == GW_LIST && j < list->list.n; j++) {
            found = found || strcmp(gw_map_str(&list->list.items[j], "status", ""), "active") == 0;
        }
        mesh_call_free(c);
    }
    return found;
}

static void test_forged_commits(void **state)
{
    (void)state;
    struct scene s;
    struct tape tape;
    stage_without_commit(&s, &tape, 51);
    struct span body;
    uint8_t signature[64], wrong[64];
    struct ticket_note note;
    parse_signed(last_of(&tape, FRAME_COMMIT), &body, signature);
    assert_int_equal(
        note_read(NOTE_COMMIT, body, signature, mesh_host_key(s.m, 0)->public_key, &note, NULL),
        GW_OK);
    for (size_t i = 0; i < 6; i++) {
        struct buf own = {0}, frame = {0};
        struct ticket_note forged = note;
        size_t signer = 2, from = i % 2 ? 2 : 0;
        memcpy(wrong, signature, sizeof wrong);
        switch (i / 2) {
        case 0: wrong[7] ^= 1; break;
        case 1:
            assert_int_equal(
                note_sign(NOTE_COMMIT, &forged, mesh_host_key(s.m, signer), &own, wrong), GW_OK);
            break;
        default: /* the source's own hand, but for another nonce: an older promise */
            forged.nonce[0] ^= 1;
            assert_int_equal(note_sign(NOTE_COMMIT, &forged, mesh_host_key(s.m, 0), &own, wrong),
                             GW_OK);
            break;
        }
        commit_frame(own.len > 0 ? buf_span(&own) : body, wrong, 9000 + i, &frame);
        mesh_inject(s.m, from, 1, &frame);
        buf_free(&own);
        buf_free(&frame);
        mesh_run(s.m, 100);
        mesh_assert(s.m, !runs_somewhere(&s));
    }
    /* a receipt is not a commit, though the same key could have signed it */
    struct buf own = {0}, frame = {0};
    assert_int_equal(note_sign(NOTE_RECEIPT, &note, mesh_host_key(s.m, 0), &own, wrong), GW_OK);
    commit_frame(buf_span(&own), wrong, 9100, &frame);
    mesh_inject(s.m, 0, 1, &frame);
    mesh_run(s.m, 100);
    mesh_assert(s.m, !runs_somewhere(&s));
    buf_free(&own);
    buf_free(&frame);
    tape_free(&tape);
    mesh_on_frame(s.m, NULL, NULL);
    mesh_run(s.m, 60000);
    expect_still(&s, 1, 2);
    scene_verify(&s);
    scene_close(&s);
}

/* While the source is departed and the destination staged, a third host speaks for either. */
static void agents_frame(frame_kind kind, const struct ticket_note *note, uint64_t epoch_off,
                         uint64_t stream, struct buf *ret)
{
    size_t at = frame_begin(ret, kind, stream, 2);
    mp_id(ret, &note->ticket);
    mp_array(ret, 1);
    mp_array(ret, 2);
    mp_id(ret, &note->agents[0].agent);
    mp_uint(ret, note->agents[0].epoch - epoch_off);
    frame_end(ret, at);
}

static void test_third_host_cannot_end_a_move(void **state)
{
    (void)state;
    struct scene s;
    struct tape tape;
    stage_without_commit(&s, &tape, 52);
    struct span body;
    uint8_t signature[64];
    struct ticket_note note;
    parse_signed(last_of(&tape, FRAME_COMMIT), &body, signature);
    assert_int_equal(
        note_read(NOTE_COMMIT, body, signature, mesh_host_key(s.m, 0)->public_key, &note, NULL),
        GW_OK);
    for (uint64_t off = 0; off < 2; off++) {
        struct buf abort = {0}, query = {0};
        agents_frame(FRAME_ABORT, &note, off, 7000 + off, &abort);
        mesh_inject(s.m, 2, 1, &abort);
        agents_frame(FRAME_QUERY, &note, off, 7000 + off, &query);
        mesh_inject(s.m, 2, 0, &query);
        buf_free(&abort);
        buf_free(&query);
        mesh_run(s.m, 50);
    }
    /* guess the stream of the open COMMIT: the first boot's numbers */
    for (uint64_t stream = 1ull << 32; stream < (1ull << 32) + 200; stream++) {
        struct buf committed = {0};
        size_t at = frame_begin(&committed, FRAME_COMMITTED, stream, 3);
        mp_id(&committed, &note.ticket);
        mp_uint(&committed, GW_OK);
        mp_str(&committed, "");
        frame_end(&committed, at);
        mesh_inject(s.m, 2, 0, &committed);
        buf_free(&committed);
    }
    mesh_run(s.m, 1000);
    mesh_assert(s.m, node_moves_count(mesh_node(s.m, 0)) == 1);
    mesh_assert(s.m, node_moves_count(mesh_node(s.m, 1)) == 1);
    tape_free(&tape);
    mesh_crash(s.m, 0);
    mesh_crash(s.m, 1);
    scene_verify(&s);
    scene_close(&s);
}

/* --- a RECEIPT that the destination never gave --- */
struct forge {
    struct scene *s;
    size_t signer, sender;
    bool done;
};
static mesh_fate answer_stage(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct forge *f = arg;
    struct mesh *m = f->s->m;
    if (frame->kind != FRAME_STAGE) {
        return FATE_PASS;
    }
    f->done = true;
    struct mp rest = frame->rest;
    struct span body;
    uint8_t signature[64];
    struct ticket ticket;
    struct ticket_note note = {.n = 1};
    struct buf own = {0}, out = {0};
    assert_int_equal(mp_read_bin(&rest, &body), GW_OK);
    assert_int_equal(mp_read_fixed(&rest, signature, sizeof signature), GW_OK);
    assert_int_equal(
        ticket_read(body, signature, mesh_host_key(m, from)->public_key, &ticket, NULL), GW_OK);
    note.ticket = ticket.id;
    note.agents[0].agent = ticket.agents[0].agent;
    note.agents[0].epoch = ticket.agents[0].epoch;
    ticket_free(&ticket);
    assert_int_equal(note_sign(NOTE_RECEIPT, &note, mesh_host_key(m, f->signer), &own, signature),
                     GW_OK);
    size_t at = frame_begin(&out, FRAME_RECEIPT, frame->stream, 5);
    mp_id(&out, &note.ticket);
    mp_uint(&out, GW_OK);
    mp_str(&out, "");
    mp_span(&out, buf_span(&own));
    mp_bin(&out, signature, sizeof signature);
    frame_end(&out, at);
    mesh_inject(m, f->sender, from, &out);
    buf_free(&own);
    buf_free(&out);
    (void)to;
    return FATE_LOSE;
}

static void test_forged_receipts(void **state)
{
    (void)state;
    static const size_t who[][2] = {{2, 1}, {2, 2}, {1, 2}, {0, 1}}; /* signer, sender */
    for (size_t i = 0; i < sizeof who / sizeof who[0]; i++) {
        struct scene s;
        scene_open(&s, 60 + i, 3);
        struct forge forge = {.s = &s, .signer = who[i][0], .sender = who[i][1]};
        mesh_on_frame(s.m, answer_stage, &forge);
        scene_dispatch(&s, 0, 1);
        (void)scene_wait(&s, 120000);
        mesh_assert(s.m, forge.done);
        mesh_assert(s.m, mesh_where(s.m, &s.agent, NULL) == 0); /* it has not left on such a word */
        mesh_assert(s.m, s.call->done && s.call->err != GW_OK);
        scene_verify(&s);
        scene_close(&s);
    }
}

/* A ticket in the name of h0 that h2 has signed, for an agent that lives at h0. */
static void test_forged_ticket(void **state)
{
    (void)state;
    for (size_t from = 0; from <= 2; from += 2) {
        struct scene s;
        scene_open(&s, 70, 3);
        struct ticket_agent agent = {.agent = s.agent, .epoch = 2, .type = "tally", .version = 1};
        struct ticket ticket = {.from = mesh_host_id(s.m, 0),
                                .to = mesh_host_id(s.m, 1),
                                .agents = &agent,
                                .agent_count = 1};
        ticket.id.b[15] = 9;
        struct buf body = {0}, payload = {0}, frame = {0};
        uint8_t signature[64];
        struct span plain = {(const uint8_t *)"\x80", 1};
        assert_int_equal(ticket_seal(&ticket, &plain, mesh_host_key(s.m, 2),
                                     mesh_host_key(s.m, 1)->public_key, &body, signature, &payload),
                         GW_OK);
        size_t at = frame_begin(&frame, FRAME_STAGE, 8000, 3);
        mp_span(&frame, buf_span(&body));
        mp_bin(&frame, signature, sizeof signature);
        mp_array(&frame, 1);
        mp_span(&frame, buf_span(&payload));
        frame_end(&frame, at);
        mesh_inject(s.m, from, 1, &frame);
        buf_free(&body);
        buf_free(&payload);
        buf_free(&frame);
        expect_still(&s, 0, 1);
        scene_verify(&s);
        scene_close(&s);
    }
}

/* A LOCATE of a stranger must not lead messages astray for good. */
static void test_forged_locate(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, 71, 3);
    struct host_id two = mesh_host_id(s.m, 2);
    for (size_t to = 0; to < 2; to++) {
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_LOCATE, 0, 1);
        mp_array(&frame, 1);
        mp_array(&frame, 4);
        mp_id(&frame, &s.agent);
        mp_uint(&frame, 1);
        mp_bin(&frame, two.b, sizeof two.b);
        mp_bool(&frame, false);
        frame_end(&frame, at);
        mesh_inject(s.m, 2, to, &frame);
        buf_free(&frame);
    }
    mesh_run(s.m, 1000);
    expect_still(&s, 0, 1);
    scene_verify(&s);
    scene_close(&s);
}

/* --- what a member signs for --- */
static void payload_of(const struct host_id *home, bool clone, struct buf *ret)
{
    static const uint8_t zeros[20];
    struct buf row = {0};
    mp_array(&row, 13);
    mp_uint(&row, 0);
    mp_str(&row, "tally");
    mp_bin(&row, home->b, sizeof home->b);
    mp_nil(&row);
    mp_id(&row, &(gw_id){{0}});
    mp_int(&row, 1760000000000);
    mp_uint(&row, 0);
    mp_bool(&row, false);
    mp_id(&row, &(gw_id){{0}});
    mp_bin(&row, zeros, 20);
    mp_bin(&row, zeros, 16);
    mp_uint(&row, 0);
    mp_bin(&row, NULL, 0);
    mp_array(ret, 3);
    mp_uint(ret, clone);
    mp_span(ret, buf_span(&row));
    mp_map(ret, 0);
    buf_free(&row);
}

struct answers { /* RECEIPTs of a host for h2 */
    size_t at, staged, refused;
};
static mesh_fate count_answers(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct answers *a = arg;
    struct mp m = frame->rest;
    struct span body;
    uint8_t signature[64];
    size_t refused = 0;
    if (frame->kind == FRAME_RECEIPT && from == a->at && to == 2 && mp_skip_n(&m, 3) == GW_OK &&
        mp_read_bin(&m, &body) == GW_OK &&
        mp_read_fixed(&m, signature, sizeof signature) == GW_OK &&
        mp_read_array(&m, &refused) == GW_OK) {
        a->refused += refused;
        a->staged += refused == 0;
    }
    return FATE_PASS;
}

/* A ticket of h2: one agent, one payload. */
static void stage_as_h2(struct mesh *m, size_t to, const gw_id *id, const gw_id *agent,
                        uint64_t epoch, const struct host_id *home, bool clone)
{
    struct ticket_agent one = {.agent = *agent, .epoch = epoch, .type = "tally", .version = 1};
    struct ticket ticket = {.id = *id,
                            .from = mesh_host_id(m, 2),
                            .to = mesh_host_id(m, to),
                            .agents = &one,
                            .agent_count = 1};
    struct buf plain = {0}, body = {0}, sealed = {0}, frame = {0};
    uint8_t signature[64];
    payload_of(home, clone, &plain);
    struct span span = buf_span(&plain);
    assert_int_equal(ticket_seal(&ticket, &span, mesh_host_key(m, 2),
                                 mesh_host_key(m, to)->public_key, &body, signature, &sealed),
                     GW_OK);
    size_t at = frame_begin(&frame, FRAME_STAGE, 8000 + id->b[15], 3);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    mp_array(&frame, 1);
    mp_span(&frame, buf_span(&sealed));
    frame_end(&frame, at);
    mesh_inject(m, 2, to, &frame);
    buf_free(&plain);
    buf_free(&body);
    buf_free(&sealed);
    buf_free(&frame);
    mesh_run(m, 20);
}

/* Signed by h2 as its own, for an agent that lives at the very host that it is sent to. */
static void test_ticket_for_an_agent_that_is_there(void **state)
{
    (void)state;
    for (int clone = 0; clone < 2; clone++) {
        for (uint64_t epoch = 1; epoch < 4; epoch++) {
            struct scene s;
            scene_open(&s, 73, 3);
            struct answers answers = {.at = 0};
            struct host_id home = mesh_host_id(s.m, 2);
            gw_id ticket = {{9}};
            mesh_on_frame(s.m, count_answers, &answers);
            stage_as_h2(s.m, 0, &ticket, &s.agent, epoch, &home, clone);
            mesh_assert(s.m, answers.staged == 0 || epoch == 1); /* a clone that it has made */
            mesh_on_frame(s.m, NULL, NULL);
            expect_still(&s, 0, 1);
            scene_verify(&s);
            scene_close(&s);
        }
    }
}

/* A host remembers the homes of agents for good: as many as it has room for, whoever names them,
 * and goes on to take agents whose homes it knows. */
static void test_homes_that_are_nowhere(void **state)
{
    (void)state;
    struct answers answers = {.at = 1};
    struct mesh *m = mesh_new(72, 3);
    mesh_set_limits(m, 1, (struct node_limits){.hosts_named = 5});
    mesh_start_all(m);
    mesh_on_frame(m, count_answers, &answers);
    for (uint8_t i = 0; i < 12; i++) {
        struct host_id home = {{i, 1, 2, 3}};
        gw_id id = {{0x7f}};
        id.b[15] = i;
        stage_as_h2(m, 1, &id, &id, 2, &home, false);
    }
    mesh_on_frame(m, NULL, NULL);
    mesh_assert(m, answers.staged >= 3 && answers.staged <= 5);
    mesh_assert(m, answers.refused == 12 - answers.staged);
    gw_id agent = mesh_create(m, 0, "tally");
    mesh_assert(m, mesh_move(m, 0, &agent, 1) == GW_OK);
    mesh_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replays_after_it_came_back),
        cmocka_unit_test(test_replays_of_an_aborted_move),
        cmocka_unit_test(test_old_frames_during_the_next_move),
        cmocka_unit_test(test_altered_frames),
        cmocka_unit_test(test_forged_commits),
        cmocka_unit_test(test_third_host_cannot_end_a_move),
        cmocka_unit_test(test_forged_receipts),
        cmocka_unit_test(test_forged_ticket),
        cmocka_unit_test(test_forged_locate),
        cmocka_unit_test(test_ticket_for_an_agent_that_is_there),
        cmocka_unit_test(test_homes_that_are_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
