/* gw_save in the threads of a real runner: many handlers of `run` that wait for their saves while
 * messages of their agents run on top of them, ask, fail, and others go on beside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/agents/child.h"

#define MINERS 12
#define STEPS  15

/* What the host side knows of one agent. */
struct miner {
    uint8_t n;
    uint64_t run;     /* stream of its `run`; 0: ended */
    uint64_t between; /* stream of the message that came in between; 0: none */
    bool fails;       /* that message does */
    bool spoilt;      /* the runner's object is */
    int left;         /* messages that still come in before SAVED */
    int64_t count;    /* messages that it has handled */
    gw_value store;   /* its parts, as committed */
};

static void saved(struct child *c, uint64_t stream, gw_err code, const gw_value *store)
{
    static const uint8_t key[16] = {9};
    struct buf b = {0};
    size_t at = frame_begin(&b, FRAME_SAVED, stream, 5);
    mp_uint(&b, code);
    mp_str(&b, code == GW_OK ? NULL : "stop here");
    mp_nil(&b);
    if (store) {
        value_pack(store, &b);
    } else {
        mp_nil(&b);
    }
    mp_bin(&b, key, sizeof key);
    frame_end(&b, at);
    write_buf(c, &b);
}

/* Take the parts of a SAVE or DONE as a host does that commits them. */
static void keep(struct miner *m, struct span parts)
{
    struct rig_done d = {0};
    struct mp in = mp_over(parts);
    if (mp_peek(&in) != MP_NIL) {
        buf_add(&d.parts, parts.p, parts.n);
        rig_commit(&m->store, &d);
        buf_free(&d.parts);
    }
}

static void keep_done(struct miner *m, const struct rig_done *d)
{
    if (d->code == GW_OK && d->parts.len > 0) {
        keep(m, buf_span(&d->parts));
    }
}

static gw_value state_of(int64_t steps, uint8_t whom)
{
    gw_id id = rig_id(whom);
    gw_value state = rig_map("steps", gw_int(steps));
    if (whom) {
        assert_int_equal(gw_map_set(&state, "whom", gw_id_value(&id)), GW_OK);
    }
    return state;
}

static struct miner miner_new(struct child *c, uint8_t n, int64_t steps, uint8_t whom)
{
    struct miner m = {.n = n};
    struct rig_run create = CREATE(n, "miner");
    create.args = state_of(steps, whom);
    struct rig_done d = call(c, create);
    assert_int_equal(d.code, GW_OK);
    keep_done(&m, &d);
    rig_done_free(&d);
    return m;
}

static void begin(struct child *c, struct miner *m)
{
    m->run =
        send_run(c, (struct rig_run){.agent = rig_id(m->n), .type = "miner", .hook = HOOK_RUN});
}

static void check(struct child *c, struct miner *m, int64_t steps)
{
    struct buf parts = {0};
    value_pack(&m->store, &parts);
    struct rig_done d = call(c, METHOD(m->n, "miner", "look", .parts = &parts));
    assert_int_equal(d.code, GW_OK);
    assert_int_equal(gw_map_int(&d.reply, "step", 0), steps);
    assert_int_equal(gw_map_int(&d.reply, "logged", 0), steps);
    assert_int_equal(gw_map_int(&d.reply, "count", 0), m->count);
    rig_done_free(&d);
    buf_free(&parts);
    gw_value_free(&m->store);
}

/* ---- many at once ---- */

/* The next message that comes in between, or SAVED. */
static void go_on(struct child *c, struct miner *m, unsigned choice)
{
    if (m->left-- <= 0) {
        bool bring = m->spoilt || choice % 5 == 0;
        saved(c, m->run, GW_OK, bring ? &m->store : NULL);
        m->spoilt = false;
        return;
    }
    static const char *const names[] = {"add", "ask", "spoil", "add"};
    const char *method = names[choice % 4];
    gw_id whom = rig_id(200);
    struct buf parts = {0};
    struct rig_run r = METHOD(m->n, "miner", method);
    if (m->spoilt) {
        value_pack(&m->store, &parts);
        r.parts = &parts;
    }
    r.args = choice % 4 == 1 ? rig_map("whom", gw_id_value(&whom)) : gw_nil();
    m->fails = choice % 4 == 2;
    m->spoilt = m->fails;
    m->between = send_run(c, r);
    buf_free(&parts);
}

static struct miner *by_stream(struct miner *miners, uint64_t stream)
{
    for (size_t i = 0; i < MINERS; i++) {
        if (miners[i].run == stream || miners[i].between == stream) {
            return &miners[i];
        }
    }
    fail_msg("a frame on stream %llu, which nobody uses", (unsigned long long)stream);
    return NULL;
}

static void on_done(struct child *c, struct miner *m, const struct frame *f, unsigned choice)
{
    struct rig_done d;
    assert_int_equal(rig_parse(f, &d), GW_OK);
    bool between = f->stream == m->between;
    assert_int_equal(d.code, between && m->fails ? GW_EREFUSED : GW_OK);
    keep_done(m, &d);
    m->count += between && d.code == GW_OK;
    rig_done_free(&d);
    if (between) {
        m->between = 0;
        go_on(c, m, choice);
    } else {
        m->run = 0;
    }
}

static void many_save_while_messages_come(void **state)
{
    (void)state;
    struct child c = load("miner");
    struct miner miners[MINERS];
    size_t open = MINERS;
    unsigned choice = 1, saves = 0;
    for (uint8_t i = 0; i < MINERS; i++) {
        miners[i] = miner_new(&c, (uint8_t)(i + 1), STEPS, i % 3 ? 200 : 0);
    }
    for (size_t i = 0; i < MINERS; i++) {
        begin(&c, &miners[i]);
    }
    while (open > 0) {
        struct packet *p;
        assert_int_equal(wire_read(&c.wire, &p), GW_OK);
        choice = choice * 1103515245 + 12345;
        if (p->frame.kind == FRAME_CALL) {
            reply(&c, p, GW_OK, rig_map("reply", gw_int(1)));
            continue;
        }
        if (p->frame.kind == FRAME_SAVE) {
            struct miner *m = by_stream(miners, p->frame.stream);
            struct mp in = p->frame.rest;
            struct span parts;
            assert_int_equal(mp_skip(&in, &parts), GW_OK);
            keep(m, parts);
            saves++;
            m->left = (int)(choice >> 16) % 4;
            go_on(&c, m, choice >> 20);
        } else if (p->frame.kind == FRAME_DONE) {
            struct miner *m = by_stream(miners, p->frame.stream);
            on_done(&c, m, &p->frame, choice >> 20);
            open -= m->run == 0;
        } else {
            assert_int_equal(p->frame.kind, FRAME_LOG);
        }
        free(p);
    }
    assert_int_equal(saves, MINERS * STEPS);
    for (size_t i = 0; i < MINERS; i++) {
        check(&c, &miners[i], STEPS);
    }
    end_well(&c);
}

/* ---- one thing at a time ---- */

static void waiting_saves_have_a_limit(void **state)
{
    (void)state;
    enum { N = LIMIT_RUNNER_BLOCKED };
    struct child c = load("miner");
    struct miner miners[N + 1];
    for (uint8_t i = 0; i <= N; i++) {
        miners[i] = miner_new(&c, (uint8_t)(i + 1), 1, 0);
    }
    for (size_t i = 0; i < N; i++) {
        begin(&c, &miners[i]);
        struct packet *p = take(&c, FRAME_SAVE);
        assert_int_equal(p->frame.stream, miners[i].run);
        free(p);
    }
    begin(&c, &miners[N]);
    struct rig_done d = done(&c);
    assert_int_equal(d.code, GW_EBUSY);
    rig_done_free(&d);
    quiet(&c, GW_OK, METHOD(1, "miner", "add")); /* on top of one that waits */
    for (size_t i = 0; i < N; i++) {
        saved(&c, miners[i].run, GW_OK, NULL);
    }
    for (size_t i = 0; i < N; i++) {
        d = done(&c);
        assert_int_equal(d.code, GW_OK);
        rig_done_free(&d);
    }
    for (size_t i = 0; i <= N; i++) {
        gw_value_free(&miners[i].store);
    }
    end_well(&c);
}

static void a_save_can_be_told_to_stop(void **state)
{
    (void)state;
    struct child c = load("miner");
    struct miner m = miner_new(&c, 1, 5, 0);
    begin(&c, &m);
    free(take(&c, FRAME_SAVE));
    saved(&c, m.run, GW_ECANCELLED, NULL);
    struct rig_done d = done(&c);
    assert_int_equal(d.code, GW_ECANCELLED);
    rig_done_free(&d);
    gw_value_free(&m.store);
    end_well(&c);
}

/* For nobody, twice, or no SAVED at all: nobody is hurt but the handler whose answer it is. */
static void answers_out_of_place(void **state)
{
    (void)state;
    struct child c = load("miner");
    struct miner m = miner_new(&c, 1, 2, 0), other = miner_new(&c, 2, 2, 0);
    struct buf b = {0};
    saved(&c, 999, GW_OK, NULL);
    begin(&c, &m);
    free(take(&c, FRAME_SAVE));
    saved(&c, 999, GW_OK, NULL);
    saved(&c, m.run, GW_OK, NULL);
    free(take(&c, FRAME_SAVE));
    saved(&c, m.run, GW_OK, NULL);
    saved(&c, m.run, GW_OK, NULL); /* late */
    struct rig_done d = done(&c);
    assert_int_equal(d.code, GW_OK);
    rig_done_free(&d);
    begin(&c, &other);
    free(take(&c, FRAME_SAVE));
    size_t at = frame_begin(&b, FRAME_SAVED, other.run, 1);
    mp_str(&b, "rubbish");
    frame_end(&b, at);
    write_buf(&c, &b);
    d = done(&c);
    assert_int_equal(d.code, GW_EPROTO);
    rig_done_free(&d);
    quiet(&c, GW_OK, METHOD(1, "miner", "add"));
    gw_value_free(&m.store);
    gw_value_free(&other.store);
    end_well(&c);
}

/* The host ends while handlers wait for saves and answers, and others run. */
static void ends_with_its_host_in_the_middle(void **state)
{
    (void)state;
    struct child c = load("miner");
    struct miner miners[8];
    for (uint8_t i = 0; i < 8; i++) {
        miners[i] = miner_new(&c, (uint8_t)(i + 1), STEPS, i % 2 ? 200 : 0);
    }
    for (size_t i = 0; i < 8; i++) {
        begin(&c, &miners[i]);
    }
    for (int i = 0; i < 5; i++) {
        struct packet *p;
        assert_int_equal(wire_read(&c.wire, &p), GW_OK);
        free(p);
    }
    for (size_t i = 0; i < 8; i++) {
        gw_value_free(&miners[i].store);
    }
    end_well(&c);
}

int main(int argc, char **argv)
{
    child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_save_while_messages_come),
        cmocka_unit_test(waiting_saves_have_a_limit),
        cmocka_unit_test(a_save_can_be_told_to_stop),
        cmocka_unit_test(answers_out_of_place),
        cmocka_unit_test(ends_with_its_host_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
