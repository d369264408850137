/* The engine called without frames, and gw_ask_then in both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/agents/rig.h"

struct thing {
    int64_t count;
};
static const struct gw_field fields[] = {GW_FIELD(struct thing, count)};

static gw_err get(struct gw_call *call)
{
    const struct thing *t = gw_state(call);
    return gw_reply_int(call, "count", t->count);
}

static gw_err bump(struct gw_call *call)
{
    struct thing *t = gw_state(call);
    GW_TRY(gw_add(&t->count, gw_arg_int(call, "by")));
    return gw_reply_int(call, "count", t->count);
}

static gw_err spoil(struct gw_call *call)
{
    struct thing *t = gw_state(call);
    t->count = 99;
    return gw_call_fail(call, GW_EDENIED, "no");
}

static gw_err where(struct gw_call *call)
{
    return gw_reply_str(call, "host", gw_host_name(call));
}

static gw_err ask(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "by", gw_int(2)));
    GW_TRY(gw_ask_then(call, rig_id(9), "bump", args, "take"));
    return gw_ask_then(call, rig_id(9), "get", gw_nil(), "take");
}

static gw_err take(struct gw_call *call)
{
    return gw_reply_bool(call, "well", !gw_has_arg(call, "code"));
}

static gw_err large(struct gw_call *call)
{
    gw_value v = gw_nil();
    char *bytes = calloc(1, LIMIT_ARGS_BYTES + 1);
    gw_err err = bytes ? gw_value_set_bytes(&v, bytes, LIMIT_ARGS_BYTES + 1) : GW_ENOMEM;
    free(bytes);
    GW_TRY(err);
    if (gw_arg_bool(call, "reply")) {
        return gw_reply_value(call, "data", v);
    }
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "data", v));
    return gw_ask_then(call, rig_id(9), "bump", args, "take");
}

static const struct gw_method methods[] = {
    {"get() -> (count: int)", get, GW_READ},
    {"bump(by: int = 1) -> (count: int)", bump, 0},
    {"spoil()", spoil, 0},
    {"where() -> (host: string)", where, GW_READ},
    {"ask()", ask, GW_READ},
    {"take(code: string?) -> (well: bool)", take, GW_READ},
    {"large(reply: bool) -> (data: bytes)", large, GW_READ},
};
static const struct gw_type type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "thing",
    .version = 1,
    .state_size = sizeof(struct thing),
    GW_FIELDS(fields),
    GW_METHODS(methods),
};

static struct engine *engine;

static void frame(frame_hook hook, const char *method, struct rig_done *ret)
{
    struct buf in = {0}, out = {0};
    struct frame f;
    rig_pack(&in, 3,
             (struct rig_run){.agent = rig_id(1), .type = "thing", .hook = hook, .method = method});
    struct span s = buf_span(&in);
    assert_int_equal(frame_take(&s, in.len, &f), GW_OK);
    engine_run(engine, &f, &out);
    s = buf_span(&out);
    assert_int_equal(frame_take(&s, out.len, &f), GW_OK);
    assert_int_equal(rig_parse(&f, ret), GW_OK);
    buf_free(&in);
    buf_free(&out);
}

static int setup(void **state)
{
    static const struct engine_io io = {0};
    struct gw_error why;
    struct rig_done d;
    (void)state;
    engine = engine_new(&io, NULL);
    assert_int_equal(engine_add_type(engine, &type, &why), GW_OK);
    frame(HOOK_CREATE, NULL, &d);
    assert_int_equal(d.code, GW_OK);
    rig_done_free(&d);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_free(engine);
    return 0;
}

static unsigned contexts; /* how often one was asked for */
static void context(void *arg, struct buf *out)
{
    (void)arg;
    contexts++;
    mp_map(out, 1);
    mp_str(out, "host");
    mp_str(out, "alpha");
}

static struct gw_error why;
static void call(uint8_t agent, const char *method, gw_value *args, uint32_t flags,
                 struct inline_done *done)
{
    static const gw_id sender = {{7}};
    gw_id id = rig_id(agent);
    struct inline_run in = {.agent = &id,
                            .sender = &sender,
                            .epoch = 1,
                            .type = "thing",
                            .method = method,
                            .args = args,
                            .flags = flags,
                            .context = context};
    inline_done_init(done, &why);
    engine_call(engine, &in, done);
}

/* ---- */

static void a_read_leaves_nothing_but_its_reply(void **state)
{
    struct inline_done d;
    gw_value none = gw_nil();
    (void)state;
    contexts = 0;
    call(1, "get", &none, 0, &d);
    assert_int_equal(d.err, GW_OK);
    assert_int_equal(gw_map_int(&d.reply, "count", -1), 0);
    assert_int_equal(d.parts.len + d.actions.len, 0);
    assert_true(TAILQ_EMPTY(&d.asks));
    assert_int_equal(contexts, 0);
    inline_done_free(&d);
    call(1, "where", &none, 0, &d);
    assert_string_equal(gw_map_str(&d.reply, "host", ""), "alpha");
    assert_int_equal(contexts, 1);
    inline_done_free(&d);
}

static void a_change_leaves_parts(void **state)
{
    struct inline_done d;
    gw_value args = rig_map("by", gw_int(5));
    (void)state;
    call(1, "bump", &args, 0, &d);
    assert_int_equal(d.err, GW_OK);
    assert_int_equal(args.kind, GW_NIL); /* taken */
    assert_int_equal(gw_map_int(&d.reply, "count", -1), 5);
    assert_true(d.parts.len > 0);
    inline_done_free(&d);
    args = rig_map("by", gw_int(0));
    call(1, "bump", &args, 0, &d); /* nothing differs */
    assert_int_equal(d.parts.len, 0);
    inline_done_free(&d);
}

static void wrong_messages_say_why(void **state)
{
    struct inline_done d;
    gw_value args = rig_map("by", gw_str("x"));
    (void)state;
    call(1, "bump", &args, 0, &d);
    assert_int_equal(d.err, GW_EARG);
    assert_non_null(strstr(why.text, "by"));
    inline_done_free(&d);
    args = gw_nil();
    call(1, "none", &args, 0, &d);
    assert_int_equal(d.err, GW_EMETHOD_NOT_FOUND);
    inline_done_free(&d);
    args = rig_map("reply", gw_bool(true));
    call(1, "large", &args, 0, &d);
    assert_int_equal(d.err, GW_ETOO_BIG);
    inline_done_free(&d);
    args = rig_map("reply", gw_bool(false));
    call(1, "large", &args, 0, &d);
    assert_int_equal(d.err, GW_ETOO_BIG);
    assert_true(TAILQ_EMPTY(&d.asks));
    inline_done_free(&d);
}

static void what_is_not_loaded_is_not_touched(void **state)
{
    struct inline_done d;
    gw_value args = rig_map("by", gw_int(3));
    (void)state;
    call(2, "bump", &args, 0, &d);
    assert_int_equal(d.err, GW_EUNKNOWN);
    assert_int_equal(gw_map_int(&args, "by", 0), 3);
    inline_done_free(&d);
    gw_value none = gw_nil();
    call(1, "spoil", &none, 0, &d);
    assert_int_equal(d.err, GW_EDENIED);
    inline_done_free(&d);
    call(1, "bump", &args, 0, &d); /* after the failure its state has to come anew */
    assert_int_equal(d.err, GW_EUNKNOWN);
    assert_int_equal(gw_map_int(&args, "by", 0), 3);
    inline_done_free(&d);
    gw_value_free(&args);
}

static void asks_are_handed_over_as_they_are(void **state)
{
    struct inline_done d;
    gw_value none = gw_nil();
    (void)state;
    call(1, "ask", &none, 0, &d);
    assert_int_equal(d.err, GW_OK);
    struct inline_ask *first = TAILQ_FIRST(&d.asks), *second = TAILQ_NEXT(first, link);
    gw_id nine = rig_id(9);
    assert_true(gw_id_equal(&first->agent, &nine));
    assert_string_equal(first->method, "bump");
    assert_string_equal(first->then, "take");
    assert_int_equal(gw_map_int(&first->args, "by", 0), 2);
    assert_string_equal(second->method, "get");
    assert_null(TAILQ_NEXT(second, link));
    inline_done_free(&d);
}

static void asks_by_frame_are_actions(void **state)
{
    struct rig_done d;
    (void)state;
    frame(HOOK_METHOD, "ask", &d);
    assert_int_equal(d.code, GW_OK);
    assert_int_equal(d.actions.list.n, 2);
    const gw_value *first = &d.actions.list.items[0];
    assert_string_equal(first->list.items[0].s.p, "ask");
    assert_string_equal(gw_map_str(&first->list.items[1], "method", ""), "bump");
    assert_string_equal(gw_map_str(&first->list.items[1], "then", ""), "take");
    rig_done_free(&d);
}

static void answers_bring_what_the_method_names(void **state)
{
    struct inline_done d;
    struct inline_ask a = {.err = GW_OK};
    gw_value args = gw_nil();
    (void)state;
    a.args = rig_map("count", gw_int(4));
    assert_int_equal(inline_ask_answer(&a, &args), GW_OK);
    call(1, "take", &args, RUN_ANSWER, &d); /* has no `reply` */
    assert_int_equal(d.err, GW_OK);
    assert_true(gw_map_bool(&d.reply, "well", false));
    inline_done_free(&d);
    a.err = GW_EDENIED;
    a.text = NULL;
    assert_int_equal(inline_ask_answer(&a, &args), GW_OK);
    call(1, "take", &args, RUN_ANSWER, &d);
    assert_false(gw_map_bool(&d.reply, "well", true));
    inline_done_free(&d);
    args = rig_map("reply", gw_int(1));
    call(1, "take", &args, 0, &d); /* anybody else has to be right */
    assert_int_equal(d.err, GW_EARG);
    inline_done_free(&d);
}

static gw_err no_start(void *ctx, const char *op, const gw_value *args, const gw_value *about,
                       bool waits, struct engine_ask **ret, struct gw_error *reason)
{
    (void)ctx, (void)op, (void)args, (void)about, (void)waits, (void)ret;
    return gw_fail(reason, GW_EFAIL, "not here");
}

static void plugins_wait_instead(void **state)
{
    static const struct engine_io io = {.start = no_start};
    struct engine *mine = engine, *other = engine_new(&io, NULL);
    struct rig_done d;
    (void)state;
    engine = other;
    assert_int_equal(engine_add_type(engine, &type, &why), GW_OK);
    frame(HOOK_CREATE, NULL, &d);
    rig_done_free(&d);
    frame(HOOK_METHOD, "ask", &d);
    assert_int_equal(d.code, GW_ENOT_SUPPORTED);
    rig_done_free(&d);
    engine_free(other);
    engine = mine;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_read_leaves_nothing_but_its_reply, setup, teardown),
        cmocka_unit_test_setup_teardown(a_change_leaves_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_messages_say_why, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_loaded_is_not_touched, setup, teardown),
        cmocka_unit_test_setup_teardown(asks_are_handed_over_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(asks_by_frame_are_actions, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_bring_what_the_method_names, setup, teardown),
        cmocka_unit_test_setup_teardown(plugins_wait_instead, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
