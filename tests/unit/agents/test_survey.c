/* The survey agent on its journey, with the engine as every host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/agents/rig.h"

#include "demos/survey.c"

#include "protocol/limits.h"

static char tree[200];

static void make(const char *path, size_t bytes)
{
    char full[400];
    snprintf(full, sizeof full, "%s/%s", tree, path);
    if (bytes == 0) {
        assert_int_equal(mkdir(full, 0700), 0);
        return;
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    for (size_t i = 0; i < bytes; i++) {
        fputc('x', f);
    }
    fclose(f);
}

static int setup(void **state)
{
    (void)state;
    snprintf(tree, sizeof tree, "/tmp/godwit-survey-XXXXXX");
    assert_non_null(mkdtemp(tree));
    make("small", 0);
    make("small/f", 100);
    make("large", 0);
    make("large/deep", 0);
    make("large/deep/er", 0);
    make("large/deep/er/still", 0);
    make("large/deep/er/still/f", 300000);
    char link[400];
    snprintf(link, sizeof link, "%s/small/loop", tree);
    assert_int_equal(symlink(tree, link), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const paths[] = {"large/deep/er/still/f",
                                        "large/deep/er/still",
                                        "large/deep/er",
                                        "large/deep",
                                        "large",
                                        "small/loop",
                                        "small/f",
                                        "small",
                                        ""};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char full[400];
        snprintf(full, sizeof full, "%s/%s", tree, paths[i]);
        assert_int_equal(remove(full), 0);
    }
    return 0;
}

static struct {
    struct engine *engine;
    gw_value store; /* the parts */
    char to[100];   /* of the dispatch that the last handler recorded, or "" */
} w;

static gw_value context_of(const char *host)
{
    gw_value context = rig_map("host", gw_str(host));
    assert_int_equal(gw_map_set(&context, "home", gw_str("alpha")), GW_OK);
    return context;
}

static struct rig_done run(struct rig_run r, gw_err code)
{
    struct buf in = {0}, out = {0}, parts = {0};
    struct frame f;
    struct rig_done d;
    r.agent = rig_id(1);
    r.type = "survey";
    value_pack(&w.store, &parts);
    r.parts = r.hook == HOOK_CREATE ? NULL : &parts;
    rig_pack(&in, 1, r);
    struct span s = buf_span(&in);
    assert_int_equal(frame_take(&s, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    engine_run(w.engine, &f, &out);
    s = buf_span(&out);
    assert_int_equal(frame_take(&s, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    assert_int_equal(rig_parse(&f, &d), GW_OK);
    if (d.code != code) {
        fail_msg("%s: %s", gw_err_name(d.code), d.text);
    }
    rig_commit(&w.store, &d);
    w.to[0] = '\0';
    if (d.actions.list.n > 0) {
        const gw_value *a = &d.actions.list.items[0];
        assert_string_equal(a->list.items[0].s.p, "dispatch");
        snprintf(w.to, sizeof w.to, "%s", gw_map_str(&a->list.items[1], "to", ""));
    }
    buf_free(&in);
    buf_free(&out);
    buf_free(&parts);
    return d;
}

static void quiet(struct rig_run r, gw_err code)
{
    struct rig_done d = run(r, code);
    rig_done_free(&d);
}

static void arrive(const char *host)
{
    quiet((struct rig_run){.hook = HOOK_ARRIVE, .context = context_of(host)}, GW_OK);
}

static gw_value stops(const char *const *names, size_t n, const char *path)
{
    gw_value list = {.kind = GW_LIST}, args;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(gw_list_add(&list, gw_str(names[i])), GW_OK);
    }
    args = rig_map("hosts", list);
    assert_int_equal(gw_map_set(&args, "path", gw_str(path)), GW_OK);
    assert_int_equal(gw_map_set(&args, "top", gw_int(3)), GW_OK);
    return args;
}

static void begin(void)
{
    static const struct engine_io io;
    w.engine = engine_new(&io, NULL);
    assert_int_equal(engine_add_type(w.engine, &gw_agent_survey, NULL), GW_OK);
    quiet((struct rig_run){.hook = HOOK_CREATE, .context = context_of("alpha")}, GW_OK);
}

static void end(void)
{
    engine_free(w.engine);
    gw_value_free(&w.store);
}

static void the_journey_comes_home(void **state)
{
    (void)state;
    static const char *const names[] = {"alpha", "beta", "ghost", "gamma"};
    begin();
    struct rig_run go = {
        .method = "start", .args = stops(names, 4, tree), .context = context_of("alpha")};
    quiet(go, GW_OK);
    assert_string_equal(w.to, "beta"); /* alpha was seen to at once */
    quiet((struct rig_run){.method = "start",
                           .args = stops(names, 4, tree),
                           .context = context_of("alpha")},
          GW_ECONFLICT);
    arrive("beta");
    assert_string_equal(w.to, "ghost");
    gw_value args = rig_map("to", gw_str("ghost"));
    assert_int_equal(gw_map_set(&args, "code", gw_str("host_not_found")), GW_OK);
    assert_int_equal(gw_map_set(&args, "text", gw_str("no such host")), GW_OK);
    quiet((struct rig_run){.method = "on_dispatch_failed",
                           .args = args,
                           .context = context_of("beta")},
          GW_OK);
    assert_string_equal(w.to, "gamma");
    arrive("gamma");
    assert_string_equal(w.to, "alpha");
    arrive("alpha");
    assert_string_equal(w.to, "");

    struct rig_done d =
        run((struct rig_run){.method = "report", .context = context_of("alpha")}, GW_OK);
    assert_true(gw_map_bool(&d.reply, "done", false));
    const gw_value *hosts = gw_map_get(&d.reply, "hosts"), *errors = gw_map_get(&d.reply, "errors");
    assert_int_equal(hosts->list.n, 3);
    assert_string_equal(gw_map_str(&hosts->list.items[2], "host", ""), "gamma");
    assert_int_equal(errors->list.n, 1);
    assert_string_equal(errors->list.items[0].s.p,
                        "ghost: not reached (host_not_found): no such host");
    for (size_t i = 0; i < 3; i++) {
        const gw_value *h = &hosts->list.items[i], *dirs = gw_map_get(h, "directories");
        assert_true(gw_map_bool(h, "complete", false));
        assert_int_equal(gw_map_int(h, "entries", 0), 8); /* the loop was not followed */
        assert_int_equal(dirs->list.n, 3);
        char want[300];
        snprintf(want, sizeof want, "%s/large", tree);
        assert_string_equal(gw_map_str(&dirs->list.items[0], "path", ""), want);
        assert_true(gw_map_int(&dirs->list.items[0], "bytes", 0) >= 300000);
        assert_true(gw_map_int(&dirs->list.items[0], "bytes", 0) >=
                    gw_map_int(&dirs->list.items[1], "bytes", 0));
        const gw_value *fs = gw_map_get(h, "filesystems");
        for (size_t k = 0; k < fs->list.n; k++) {
            assert_true(gw_map_int(&fs->list.items[k], "total", 0) > 0);
            assert_string_not_equal(gw_map_str(&fs->list.items[k], "type", ""), "proc");
        }
    }
    rig_done_free(&d);
    /* a second journey starts from nothing */
    quiet((struct rig_run){.method = "start",
                           .args = stops(names, 1, "/does/not/exist"),
                           .context = context_of("alpha")},
          GW_OK);
    d = run((struct rig_run){.method = "report", .context = context_of("alpha")}, GW_OK);
    assert_int_equal(gw_map_get(&d.reply, "hosts")->list.n, 1);
    errors = gw_map_get(&d.reply, "errors");
    assert_int_equal(errors->list.n, 1);
    assert_non_null(strstr(errors->list.items[0].s.p, "not a directory"));
    rig_done_free(&d);
    end();
}

static void home_may_be_gone(void **state)
{
    (void)state;
    static const char *const names[] = {"beta"};
    begin();
    quiet((struct rig_run){.method = "start",
                           .args = stops(names, 1, tree),
                           .context = context_of("alpha")},
          GW_OK);
    arrive("beta");
    assert_string_equal(w.to, "alpha");
    gw_value args = rig_map("to", gw_str("alpha"));
    assert_int_equal(gw_map_set(&args, "code", gw_str("unreachable")), GW_OK);
    assert_int_equal(gw_map_set(&args, "text", gw_str("gone")), GW_OK);
    quiet((struct rig_run){.method = "on_dispatch_failed",
                           .args = args,
                           .context = context_of("beta")},
          GW_OK);
    assert_string_equal(w.to, "");
    struct rig_done d =
        run((struct rig_run){.method = "report", .context = context_of("beta")}, GW_OK);
    assert_true(gw_map_bool(&d.reply, "done", false));
    assert_int_equal(gw_map_get(&d.reply, "hosts")->list.n, 1);
    rig_done_free(&d);
    arrive("gamma"); /* moved by hand later: nothing happens */
    assert_string_equal(w.to, "");
    end();
}

static void arguments_are_checked(void **state)
{
    (void)state;
    static const char *const names[] = {"beta"};
    begin();
    quiet((struct rig_run){.method = "start",
                           .args = stops(names, 1, "relative"),
                           .context = context_of("alpha")},
          GW_EARG);
    quiet((struct rig_run){.method = "start", .context = context_of("alpha")}, GW_EARG);
    gw_value args = stops(names, 1, "/");
    assert_int_equal(gw_map_set(&args, "top", gw_int(101)), GW_OK);
    quiet((struct rig_run){.method = "start", .args = args, .context = context_of("alpha")},
          GW_EARG);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_journey_comes_home),
        cmocka_unit_test(home_may_be_gone),
        cmocka_unit_test(arguments_are_checked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
