/* The patterns through the engine, with a host that is a script: what they ask, record and answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/agents/rig.h"
#include <godwit/pattern.h>

/* ---- the host ---- */

static struct {
    int64_t now_ms;
    uint8_t made; /* agents, rig_id(100 + n) */
    bool none_can_be_made;
    uint8_t silent;     /* asks of this agent are never answered */
    char disposed[200]; /* last bytes of ids */
} host;

struct engine_ask {
    gw_err err;
    gw_value value;
    bool answered;
};

static uint8_t last_byte(const gw_value *args)
{
    gw_id id;
    assert_int_equal(gw_id_parse(gw_map_str(args, "agent", ""), &id), GW_OK);
    return id.b[15];
}

static void script(const char *op, const gw_value *args, struct engine_ask *ask)
{
    if (strcmp(op, "create") == 0 && !host.none_can_be_made) {
        char text[GW_ID_TEXT];
        gw_id id = rig_id((uint8_t)(100 + host.made++));
        ask->value = rig_map("agent", gw_str(gw_id_text(&id, text)));
    } else if (strcmp(op, "create") == 0) {
        ask->err = GW_EUNREACHABLE;
    } else if (strcmp(op, "hosts") == 0) {
        static const char *const states[] = {"alive", "failed", "alive"};
        gw_value list = {.kind = GW_LIST};
        for (int i = 0; i < 3; i++) {
            gw_value one = rig_map("name", gw_strf("h%d", i)), tags = {.kind = GW_LIST};
            assert_int_equal(gw_list_add(&tags, gw_str(i == 2 ? "lab" : "desk")), GW_OK);
            assert_int_equal(gw_map_set(&one, "state", gw_str(states[i])), GW_OK);
            assert_int_equal(gw_map_set(&one, "tags", tags), GW_OK);
            assert_int_equal(gw_list_add(&list, one), GW_OK);
        }
        ask->value = rig_map("hosts", list);
    } else if (strcmp(op, "dispose") == 0) {
        size_t n = strlen(host.disposed);
        snprintf(host.disposed + n, sizeof host.disposed - n, "%d ", last_byte(args));
    } else {
        ask->answered = last_byte(args) != host.silent;
        ask->value = rig_map("reply", rig_map("n", gw_int(last_byte(args))));
    }
}

static gw_err start(void *ctx, const char *op, const gw_value *args, const gw_value *context,
                    bool waits, struct engine_ask **ret, struct gw_error *why)
{
    (void)ctx, (void)context, (void)waits, (void)why;
    struct engine_ask *ask = calloc(1, sizeof *ask);
    ask->answered = true;
    script(op, args, ask);
    *ret = ask;
    return GW_OK;
}

static gw_err wait_for(void *ctx, struct engine_ask *const *asks, size_t n, bool all,
                       int64_t timeout_ms, struct gw_error *why)
{
    (void)ctx, (void)timeout_ms, (void)why;
    size_t answered = 0;
    for (size_t i = 0; i < n; i++) {
        answered += asks[i]->answered;
    }
    return answered >= (all ? n : 1) ? GW_OK : GW_ETIMEOUT;
}

static uint64_t answered(void *ctx, const struct engine_ask *ask)
{
    (void)ctx;
    return ask->answered;
}

static gw_err take(void *ctx, struct engine_ask *ask, gw_value *ret, struct gw_error *why)
{
    (void)ctx;
    if (ask->err != GW_OK) {
        return gw_fail(why, ask->err, "the script says no");
    }
    *ret = ask->value;
    ask->value = gw_nil();
    return GW_OK;
}

static void drop(void *ctx, struct engine_ask *ask)
{
    (void)ctx;
    gw_value_free(&ask->value);
    free(ask);
}

static int64_t now(void *ctx)
{
    (void)ctx;
    return host.now_ms;
}

/* ---- the type ---- */

struct both {
    struct gw_task task;
    struct gw_pool pool;
};
static const struct gw_field fields[] = {
    GW_STRUCT(struct both, task, gw_task_fields),
    GW_STRUCT(struct both, pool, gw_pool_fields),
};

static gw_err task_start(struct gw_call *call)
{
    struct both *b = gw_state(call);
    return gw_task_start(call, &b->task);
}
static gw_err task_status(struct gw_call *call)
{
    const struct both *b = gw_state(call);
    return gw_task_status(call, &b->task);
}
static gw_err task_wait(struct gw_call *call)
{
    struct both *b = gw_state(call);
    return gw_task_wait(call, &b->task);
}
static gw_err task_cancel(struct gw_call *call)
{
    struct both *b = gw_state(call);
    return gw_task_cancel(call, &b->task);
}
static gw_err pool_open(struct gw_call *call)
{
    struct both *b = gw_state(call);
    struct gw_pool_options o = {.type = "worker",
                                .size = gw_arg_int(call, "size"),
                                .most_waiting = 1,
                                .lease_ms = 1000,
                                .most_tries = 2};
    return gw_pool_open(call, &b->pool, &o);
}
static gw_err pool_submit(struct gw_call *call)
{
    struct both *b = gw_state(call);
    return gw_pool_submit(call, &b->pool, gw_arg_value(call, "args"));
}
static gw_err pool_done(struct gw_call *call)
{
    struct both *b = gw_state(call);
    return gw_pool_done(call, &b->pool);
}
static gw_err pool_close(struct gw_call *call)
{
    struct both *b = gw_state(call);
    return gw_pool_close(call, &b->pool);
}
static gw_err many(struct gw_call *call)
{
    gw_id agents[] = {rig_id(5), rig_id(6), rig_id(1)}; /* the last one is itself */
    gw_value results;
    GW_TRY(gw_ask_many(call, agents, 3, "get", gw_nil(), 20, &results));
    return gw_reply_value(call, "results", results);
}
static gw_err hosts(struct gw_call *call)
{
    gw_value results;
    const char *tag = gw_has_arg(call, "tag") ? gw_arg_str(call, "tag") : NULL;
    GW_TRY(gw_ask_hosts(call, tag, "probe", "get", gw_nil(), 20, &results));
    return gw_reply_value(call, "results", results);
}
static gw_err on_timer(struct gw_call *call)
{
    struct both *b = gw_state(call);
    gw_err err;
    if (gw_pool_timer(call, &b->pool, &err)) {
        return err;
    }
    if (!gw_task_due(call, &b->task)) {
        return GW_OK;
    }
    if (b->task.steps == 2) {
        return gw_task_end(call, &b->task, gw_int(42));
    }
    GW_TRY(gw_task_progress(&b->task, 7, "step %d", (int)b->task.steps));
    return gw_task_go_on(call, &b->task, 10);
}

static const struct gw_method methods[] = {
    {"start()", task_start},
    {"status() -> " GW_TASK_REPLY, task_status, GW_READ},
    {"wait() -> " GW_TASK_REPLY, task_wait},
    {"cancel()", task_cancel},
    {"open(size: int)", pool_open},
    {"submit(args: any) -> (result: any)", pool_submit},
    {"done(job: int, lease: int, result: any?, error: string?)", pool_done},
    {"close()", pool_close},
    {"many() -> (results: [any])", many},
    {"hosts(tag: string?) -> (results: [any])", hosts},
};
GW_AGENT(both, struct both, GW_FIELDS(fields), GW_METHODS(methods), .on_timer = on_timer);

/* ---- running ---- */

static struct engine *engine;
static uint8_t keys;

static struct rig_done go(gw_err want, struct rig_run r)
{
    struct buf in = {0}, out = {0};
    struct frame f;
    struct rig_done d;
    uint8_t key[16] = {0xee, ++keys};
    r.agent = rig_id(1);
    r.type = "both";
    r.key = key;
    rig_pack(&in, 1, r);
    struct span s = buf_span(&in);
    assert_int_equal(frame_take(&s, 1 << 24, &f), GW_OK);
    engine_run(engine, &f, &out);
    s = buf_span(&out);
    assert_int_equal(frame_take(&s, 1 << 24, &f), GW_OK);
    assert_int_equal(rig_parse(&f, &d), GW_OK);
    if (d.code != want) {
        fail_msg("%s (%s), not %s", gw_err_name(d.code), d.text, gw_err_name(want));
    }
    buf_free(&in);
    buf_free(&out);
    return d;
}

#define METHOD(name, ...) ((struct rig_run){.method = name, __VA_ARGS__})
#define TIMER(name)       ((struct rig_run){.hook = HOOK_TIMER, .method = name})

static void quiet(gw_err want, struct rig_run r)
{
    struct rig_done d = go(want, r);
    rig_done_free(&d);
}

/* The args of its n-th action of that verb; NULL: there is none. */
static const gw_value *action(const struct rig_done *d, const char *verb, size_t n)
{
    for (size_t i = 0; i < d->actions.list.n; i++) {
        const gw_value *one = &d->actions.list.items[i];
        if (strcmp(one->list.items[0].s.p, verb) == 0 && n-- == 0) {
            return &one->list.items[1];
        }
    }
    return NULL;
}

static void begin(void)
{
    static const struct engine_io io = {.start = start,
                                        .wait = wait_for,
                                        .answered = answered,
                                        .take = take,
                                        .drop = drop,
                                        .now_ms = now};
    memset(&host, 0, sizeof host);
    host.now_ms = 1000000;
    engine = engine_new(&io, NULL);
    assert_int_equal(engine_add_type(engine, &gw_agent_both, NULL), GW_OK);
    quiet(GW_OK, (struct rig_run){.hook = HOOK_CREATE});
}

/* ---- tests ---- */

static void tasks(void **state)
{
    (void)state;
    begin();
    struct rig_done d = go(GW_OK, METHOD("wait")); /* never started: at once */
    assert_string_equal(gw_map_str(&d.reply, "state", "?"), "");
    assert_null(action(&d, "later", 0));
    rig_done_free(&d);
    quiet(GW_OK, METHOD("cancel"));
    d = go(GW_OK, METHOD("start"));
    assert_int_equal(gw_map_int(action(&d, "timer", 0), "when", -1), 0);
    rig_done_free(&d);
    quiet(GW_OK, TIMER("other"));
    d = go(GW_OK, METHOD("wait"));
    assert_non_null(action(&d, "later", 0));
    rig_done_free(&d);
    d = go(GW_OK, METHOD("wait", .flags = RUN_TOLD));
    assert_null(action(&d, "later", 0));
    rig_done_free(&d);
    quiet(GW_OK, TIMER("task"));
    d = go(GW_OK, METHOD("status"));
    assert_string_equal(gw_map_str(&d.reply, "note", ""), "step 1");
    assert_true(gw_map_get(&d.reply, "progress")->f == 1.0); /* not 7 */
    rig_done_free(&d);
    d = go(GW_OK, TIMER("task"));
    const gw_value *answer = action(&d, "answer", 0);
    assert_int_equal(gw_map_int(gw_map_get(answer, "reply"), "result", 0), 42);
    assert_null(action(&d, "answer", 1));
    assert_null(action(&d, "timer", 0));
    rig_done_free(&d);
    quiet(GW_OK, TIMER("task"));   /* a late one */
    quiet(GW_OK, METHOD("start")); /* again, and ended early */
    quiet(GW_OK, METHOD("wait"));
    d = go(GW_OK, METHOD("cancel"));
    assert_string_equal(gw_map_str(gw_map_get(action(&d, "answer", 0), "reply"), "state", ""),
                        "cancelled");
    assert_non_null(action(&d, "timer_cancel", 0));
    rig_done_free(&d);
    quiet(GW_OK, METHOD("start"));
    quiet(GW_ECONFLICT, METHOD("start"));
    engine_free(engine);
}

static void questions(void **state)
{
    (void)state;
    begin();
    host.silent = 6;
    struct rig_done d = go(GW_OK, METHOD("many"));
    const gw_value *r = gw_map_get(&d.reply, "results")->list.items;
    assert_int_equal(gw_map_int(gw_map_get(&r[0], "reply"), "n", 0), 5);
    assert_string_equal(gw_map_str(&r[1], "error", ""), "timeout");
    assert_string_equal(gw_map_str(&r[2], "error", ""), "deadlock");
    rig_done_free(&d);
    host.silent = 101;
    d = go(GW_OK, METHOD("hosts"));
    const gw_value *list = gw_map_get(&d.reply, "results");
    assert_int_equal(list->list.n, 2); /* those that are alive */
    assert_string_equal(gw_map_str(&list->list.items[0], "host", ""), "h0");
    assert_int_equal(gw_map_int(gw_map_get(&list->list.items[0], "reply"), "n", 0), 100);
    assert_string_equal(gw_map_str(&list->list.items[1], "error", ""), "timeout");
    assert_string_equal(host.disposed, "100 101 ");
    rig_done_free(&d);
    d = go(GW_OK, METHOD("hosts", .args = rig_map("tag", gw_str("lab"))));
    list = gw_map_get(&d.reply, "results");
    assert_int_equal(list->list.n, 1);
    assert_string_equal(gw_map_str(&list->list.items[0], "host", ""), "h2");
    rig_done_free(&d);
    host.none_can_be_made = true;
    d = go(GW_OK, METHOD("hosts"));
    r = gw_map_get(&d.reply, "results")->list.items;
    assert_string_equal(gw_map_str(&r[1], "error", ""), "unreachable");
    assert_string_equal(gw_map_str(&r[1], "text", ""), "the script says no");
    rig_done_free(&d);
    engine_free(engine);
}

static gw_value result_of(int64_t job, int64_t lease, const char *error)
{
    gw_value args = rig_map("job", gw_int(job));
    assert_int_equal(gw_map_set(&args, "lease", gw_int(lease)), GW_OK);
    assert_int_equal(gw_map_set(&args, "result", gw_int(job * 10)), GW_OK);
    if (error) {
        assert_int_equal(gw_map_set(&args, "error", gw_str(error)), GW_OK);
    }
    return args;
}

static void pools(void **state)
{
    (void)state;
    begin();
    gw_value job = gw_int(7);
    quiet(GW_EREFUSED, METHOD("submit", .args = rig_map("args", job)));
    quiet(GW_OK, (struct rig_run){.hook = HOOK_CREATE}); /* what has failed has to be loaded */
    quiet(GW_EARG, METHOD("open", .args = rig_map("size", gw_int(300))));
    quiet(GW_OK, (struct rig_run){.hook = HOOK_CREATE});
    quiet(GW_OK, METHOD("open", .args = rig_map("size", gw_int(2))));
    host.none_can_be_made = true;
    struct rig_done d = go(GW_OK, TIMER("pool"));
    assert_int_equal(gw_map_int(action(&d, "timer", 0), "when", -1), 1000); /* tries again */
    rig_done_free(&d);
    host.none_can_be_made = false;
    quiet(GW_OK, TIMER("pool"));
    assert_int_equal(host.made, 2);
    d = go(GW_OK, METHOD("submit", .args = rig_map("args", job)));
    const gw_value *told = gw_map_get(action(&d, "tell", 0), "args");
    int64_t one = gw_map_int(told, "job", 0), lease = gw_map_int(told, "lease", 0);
    assert_int_equal(gw_map_int(told, "args", 0), 7);
    assert_non_null(action(&d, "later", 0));
    rig_done_free(&d);
    quiet(GW_OK, METHOD("submit", .args = rig_map("args", job)));
    d = go(GW_OK, METHOD("submit", .args = rig_map("args", job)));
    assert_null(action(&d, "tell", 0)); /* it waits */
    rig_done_free(&d);
    d = go(GW_OK, METHOD("done", .args = result_of(one, lease + 5, NULL))); /* not this lease */
    assert_null(action(&d, "answer", 0));
    rig_done_free(&d);
    d = go(GW_OK, METHOD("done", .args = result_of(one, lease, NULL)));
    assert_int_equal(gw_map_int(gw_map_get(action(&d, "answer", 0), "reply"), "result", 0),
                     one * 10);
    told = gw_map_get(action(&d, "tell", 0), "args"); /* who waited has its turn */
    int64_t third = gw_map_int(told, "job", 0);
    rig_done_free(&d);
    quiet(GW_OK, METHOD("done", .args = result_of(one, lease, NULL))); /* once only */
    host.now_ms += 1500; /* both leases are over: new workers, the same jobs */
    d = go(GW_OK, TIMER("pool"));
    assert_int_equal(host.made, 4);
    assert_int_equal(strlen(host.disposed), 8);
    assert_non_null(action(&d, "tell", 1));
    told = gw_map_get(action(&d, "tell", 0), "args");
    int64_t second = gw_map_int(told, "job", 0);
    lease = gw_map_int(told, "lease", 0);
    assert_true(second != third);
    rig_done_free(&d);
    d = go(GW_OK, METHOD("done", .args = result_of(second, lease, "broken")));
    assert_string_equal(gw_map_str(action(&d, "answer", 0), "text", ""), "broken");
    rig_done_free(&d);
    host.now_ms += 1500; /* the second loss of the third job is its last */
    d = go(GW_OK, TIMER("pool"));
    assert_int_equal(gw_map_int(action(&d, "answer", 0), "code", 0), GW_ETIMEOUT);
    rig_done_free(&d);
    quiet(GW_OK, METHOD("submit", .args = rig_map("args", job)));
    d = go(GW_OK, METHOD("close"));
    assert_int_equal(gw_map_int(action(&d, "answer", 0), "code", 0), GW_ECANCELLED);
    rig_done_free(&d);
    quiet(GW_EREFUSED, METHOD("submit", .args = rig_map("args", job)));
    engine_free(engine);
}

static void full_queues(void **state)
{
    (void)state;
    begin();
    quiet(GW_OK, METHOD("open", .args = rig_map("size", gw_int(1))));
    quiet(GW_OK, METHOD("submit", .args = rig_map("args", gw_int(1)))); /* no worker yet */
    quiet(GW_EBUSY, METHOD("submit", .args = rig_map("args", gw_int(2))));
    engine_free(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks),
        cmocka_unit_test(questions),
        cmocka_unit_test(pools),
        cmocka_unit_test(full_queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
