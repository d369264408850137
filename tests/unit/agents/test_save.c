/* SAVED, the answer to gw_save, as hostile bytes: cut, flipped, with counts and lengths that lie. A
 * state that could not be loaded from it is never committed, whatever the handler says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "protocol/limits.h"
#include "tests/unit/agents/rig.h"

struct digger {
    int64_t step;
    gw_strs log;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct digger, step),
    GW_FIELD(struct digger, log),
};

/* What one run of the handler is to do, and what happened. */
static struct {
    struct buf answer;  /* SAVED, without its length */
    bool swallow;       /* whether the handler goes on when its save fails */
    size_t fill;        /* bytes that it adds to its state before it saves */
    gw_err said;        /* by gw_save */
    size_t saves;       /* frames that left */
    struct buf written; /* parts of the last one */
} play;

static gw_err run(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    if (play.fill > 0) {
        char *large = calloc(1, play.fill + 1);
        assert_non_null(large);
        memset(large, 'x', play.fill);
        gw_err err = gw_strs_add(&d->log, large);
        free(large);
        GW_TRY(err);
    }
    d->step++;
    play.said = gw_save(call);
    if (play.said != GW_OK && play.fill > 0) {
        gw_strs_clear(&d->log);
    }
    d->step++;
    return play.swallow ? GW_OK : play.said;
}

static gw_err get(struct gw_call *call)
{
    const struct digger *d = gw_state(call);
    return gw_reply_int(call, "step", d->step);
}

static const struct gw_method methods[] = {{"get() -> (step: int)", get, GW_READ}};
static const struct gw_type type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "digger",
    .version = 1,
    .state_size = sizeof(struct digger),
    GW_FIELDS(fields),
    GW_METHODS(methods),
    .run = run,
};

static gw_err answer_save(void *ctx, const gw_id *agent, uint64_t stream, const struct buf *frame,
                          struct buf *ret_answer, struct gw_error *why)
{
    struct span in = buf_span(frame), parts;
    struct frame f;
    (void)ctx, (void)agent;
    assert_int_equal(frame_take(&in, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    assert_int_equal(f.kind, FRAME_SAVE);
    assert_int_equal(f.stream, stream);
    assert_int_equal(mp_skip(&f.rest, &parts), GW_OK);
    buf_reset(&play.written);
    buf_add(&play.written, parts.p, parts.n);
    play.saves++;
    buf_add(ret_answer, play.answer.data, play.answer.len);
    return buf_ok(ret_answer) && buf_ok(&play.written) ? GW_OK : gw_fail(why, GW_ENOMEM, "memory");
}

static struct engine *engine_open(void)
{
    static const struct engine_io io = {.save = answer_save};
    struct engine *e = engine_new(&io, NULL);
    struct gw_error why = {0};
    assert_int_equal(engine_add_type(e, &type, &why), GW_OK);
    return e;
}

static struct rig_done go(struct engine *e, struct rig_run r)
{
    static uint64_t stream;
    struct buf in = {0}, out = {0};
    struct frame f;
    struct rig_done d;
    r.agent = rig_id(1);
    r.type = "digger";
    rig_pack(&in, ++stream, r);
    struct span s = buf_span(&in);
    assert_int_equal(frame_take(&s, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    engine_run(e, &f, &out);
    s = buf_span(&out);
    assert_int_equal(frame_take(&s, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    assert_int_equal(rig_parse(&f, &d), GW_OK);
    buf_free(&in);
    buf_free(&out);
    return d;
}

static gw_err code_of(struct engine *e, struct rig_run r)
{
    struct rig_done d = go(e, r);
    gw_err code = d.code;
    rig_done_free(&d);
    return code;
}

/* {"": {step: `step`, log: []}} */
static void parts_of(struct buf *out, int64_t step)
{
    struct buf small = {0};
    mp_map(&small, 3);
    mp_str(&small, "");
    mp_uint(&small, 1);
    mp_str(&small, "step");
    mp_int(&small, step);
    mp_str(&small, "log");
    mp_array(&small, 0);
    mp_map(out, 1);
    mp_str(out, "");
    mp_bin(out, small.data, small.len);
    assert_true(buf_ok(out) && buf_ok(&small));
    buf_free(&small);
}

/* The answer, with these bytes for parts (NULL: nil). */
static void script(gw_err code, const struct buf *parts)
{
    static const uint8_t key[16] = {7};
    struct buf b = {0};
    size_t at = frame_begin(&b, FRAME_SAVED, 1, 5);
    mp_uint(&b, code);
    mp_str(&b, code == GW_OK ? NULL : "not now");
    mp_nil(&b);
    if (parts) {
        buf_add(&b, parts->data, parts->len);
    } else {
        mp_nil(&b);
    }
    mp_bin(&b, key, sizeof key);
    frame_end(&b, at);
    assert_true(buf_ok(&b));
    buf_reset(&play.answer);
    buf_add(&play.answer, b.data + 4, b.len - 4);
    buf_free(&b);
}

/* An agent that exists, and one run of it: whatever the answer holds, it is either taken whole, or
 * the handler fails and the engine asks for the state before it does anything else. */
static gw_err run_once(bool swallow)
{
    struct engine *e = engine_open();
    play.swallow = swallow;
    play.said = GW_OK;
    assert_int_equal(code_of(e, (struct rig_run){.hook = HOOK_CREATE}), GW_OK);
    struct rig_done d = go(e, (struct rig_run){.hook = HOOK_RUN});
    gw_err after = code_of(e, (struct rig_run){.method = "get"});
    assert_int_equal(after, d.code == GW_OK ? GW_OK : GW_EUNKNOWN);
    if (!swallow) {
        assert_int_equal(d.code == GW_OK, play.said == GW_OK);
    }
    gw_err code = d.code;
    rig_done_free(&d);
    engine_free(e);
    return code;
}

static void the_answer_is_taken(void **state)
{
    (void)state;
    struct buf parts = {0};
    script(GW_OK, NULL);
    assert_int_equal(run_once(false), GW_OK);
    script(GW_ECANCELLED, NULL);
    assert_int_equal(run_once(false), GW_ECANCELLED);
    assert_int_equal(run_once(true), GW_OK); /* its own affair */
    parts_of(&parts, 40);
    script(GW_OK, &parts);
    struct engine *e = engine_open();
    play.swallow = false;
    assert_int_equal(code_of(e, (struct rig_run){.hook = HOOK_CREATE}), GW_OK);
    assert_int_equal(code_of(e, (struct rig_run){.hook = HOOK_RUN}), GW_OK);
    struct rig_done d = go(e, (struct rig_run){.method = "get"});
    assert_int_equal(gw_map_int(&d.reply, "step", 0), 41);
    rig_done_free(&d);
    engine_free(e);
    buf_free(&parts);
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    struct buf parts = {0};
    parts_of(&parts, 40);
    for (int with_parts = 0; with_parts < 2; with_parts++) {
        script(GW_OK, with_parts ? &parts : NULL);
        size_t whole = play.answer.len;
        for (size_t cut = 0; cut < whole; cut++) {
            script(GW_OK, with_parts ? &parts : NULL);
            play.answer.len = cut;
            assert_int_not_equal(run_once(false), GW_OK);
            assert_int_equal(play.said, GW_EPROTO);
        }
    }
    buf_free(&parts);
}

/* Cut inside of the state, and with every length around it right. */
static void half_a_state_is_never_committed(void **state)
{
    (void)state;
    struct buf whole = {0};
    parts_of(&whole, 40);
    const size_t head = 4; /* map, name, bin and its length: less than 256 bytes */
    for (size_t n = 0; n < whole.len - head; n++) {
        struct buf parts = {0};
        mp_map(&parts, 1);
        mp_str(&parts, "");
        mp_bin(&parts, whole.data + head, n);
        script(GW_OK, &parts);
        for (int swallow = 0; swallow < 2; swallow++) {
            assert_int_not_equal(run_once(swallow), GW_OK);
            assert_int_equal(play.said, GW_EDECODE);
        }
        buf_free(&parts);
    }
    buf_free(&whole);
}

static void every_flipped_bit_is_survived(void **state)
{
    (void)state;
    struct buf parts = {0};
    parts_of(&parts, 40);
    script(GW_OK, &parts);
    size_t bits = play.answer.len * 8;
    for (size_t bit = 0; bit < bits; bit++) {
        script(GW_OK, &parts);
        play.answer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)run_once(bit % 2);
    }
    buf_free(&parts);
}

static void counts_that_lie_cost_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {"\xdf\xff\xff\xff\xff", 5},                 /* 4 billion parts */
        {"\x81\xa0\xc6\xff\xff\xff\xff", 7},         /* a part of 4 GiB */
        {"\x81\xdb\xff\xff\xff\xff", 6},             /* a name of 4 GiB */
        {"\x81\xa0\xc4\x05\xdf\xff\xff\xff\xff", 9}, /* 4 billion fields */
        {"\x81\xa0\xc4\x0a\x81\xa3log\xdd\xff\xff\xff\xff", 14},
        {"\x82\xa0\xc4\x01\x80\xa0\xc4\x01\x80", 9}, /* the same part twice */
        {"\x91\xc0", 2},                             /* a list */
        {"\xc1", 1},                                 /* no msgpack */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf parts = {0};
        buf_add(&parts, rows[i].bytes, rows[i].n);
        script(GW_OK, &parts);
        for (int swallow = 0; swallow < 2; swallow++) {
            gw_err code = run_once(swallow);
            assert_int_not_equal(play.said, GW_OK);
            assert_true(code != GW_OK || swallow);
        }
        buf_free(&parts);
    }
}

/* What did not fit into SAVE was not saved: the handler may not go on as if, with what it has left
 * of its state. */
static void a_save_that_fails_fails_its_handler(void **state)
{
    (void)state;
    script(GW_OK, NULL);
    play.fill = LIMIT_STATE_BYTES + 1;
    play.saves = 0;
    assert_int_equal(run_once(true), GW_EFAIL);
    assert_int_equal(play.said, GW_ETOO_BIG);
    assert_int_equal(play.saves, 0);
    play.fill = 0;
}

static int clean(void **state)
{
    (void)state;
    buf_free(&play.answer);
    buf_free(&play.written);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_taken),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(half_a_state_is_never_committed),
        cmocka_unit_test(every_flipped_bit_is_survived),
        cmocka_unit_test(counts_that_lie_cost_nothing),
        cmocka_unit_test(a_save_that_fails_fails_its_handler),
    };
    return cmocka_run_group_tests(tests, NULL, clean);
}
