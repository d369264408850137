/* The built-in type server-info, run by the engine as in a host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "agents/builtin/builtin.h"
#include "tests/unit/agents/rig.h"

static struct engine *engine;

static gw_value ask(frame_hook hook, const char *method)
{
    struct buf in = {0}, out = {0};
    struct frame f;
    struct rig_done d;
    rig_pack(&in, 7,
             (struct rig_run){.agent = rig_id(1),
                              .type = "server-info",
                              .hook = hook,
                              .method = method,
                              .context = rig_map("host", gw_str("alpha"))});
    struct span s = buf_span(&in);
    assert_int_equal(frame_take(&s, in.len, &f), GW_OK);
    engine_run(engine, &f, &out);
    s = buf_span(&out);
    assert_int_equal(frame_take(&s, out.len, &f), GW_OK);
    assert_int_equal(rig_parse(&f, &d), GW_OK);
    if (d.code != GW_OK) {
        fail_msg("%s: %s", method, d.text);
    }
    assert_int_equal(rig_parts(&d), hook == HOOK_CREATE ? 1 : 0);
    gw_value reply = d.reply;
    d.reply = gw_nil();
    rig_done_free(&d);
    buf_free(&in);
    buf_free(&out);
    return reply;
}

static int setup(void **state)
{
    static const struct engine_io io = {0};
    struct gw_error why;
    (void)state;
    engine = engine_new(&io, NULL);
    assert_int_equal(engine_add_type(engine, &builtin_server_info, &why), GW_OK);
    gw_value nothing = ask(HOOK_CREATE, NULL);
    gw_value_free(&nothing);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_free(engine);
    return 0;
}

static double number(const gw_value *map, const char *key)
{
    const gw_value *v = gw_map_get(map, key);
    assert_non_null(v);
    assert_true(v->kind == GW_INT || v->kind == GW_FLOAT);
    return v->kind == GW_INT ? (double)v->i : v->f;
}

static void summary_is_of_this_machine(void **state)
{
    (void)state;
    gw_value v = ask(HOOK_METHOD, "summary");
    assert_string_equal(gw_map_str(&v, "host", ""), "alpha");
    assert_string_equal(gw_map_str(&v, "system", ""), "Linux");
    assert_int_equal(number(&v, "cpus"), sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(number(&v, "uptime_s") > 0);
    assert_true(number(&v, "host_uptime_s") >= 0);
    assert_true(number(&v, "host_uptime_s") <= number(&v, "uptime_s"));
    assert_true(number(&v, "memory_bytes") >= number(&v, "memory_available_bytes"));
    assert_true(number(&v, "memory_available_bytes") > 0);
    gw_value_free(&v);
}

static void memory_counts_this_process(void **state)
{
    (void)state;
    gw_value v = ask(HOOK_METHOD, "memory");
    assert_true(number(&v, "host_bytes") > 100 * 1024);
    assert_true(number(&v, "host_bytes") < number(&v, "memory_bytes"));
    gw_value_free(&v);
}

static void disks_add_up(void **state)
{
    (void)state;
    gw_value v = ask(HOOK_METHOD, "disks");
    const gw_value *disks = gw_map_get(&v, "disks");
    assert_non_null(disks);
    assert_int_equal(disks->kind, GW_LIST);
    for (size_t i = 0; i < disks->list.n; i++) {
        const gw_value *one = &disks->list.items[i];
        assert_true(gw_map_str(one, "mount", "")[0] == '/');
        assert_true(number(one, "bytes") > 0);
        assert_true(number(one, "used_bytes") + number(one, "available_bytes") <=
                    number(one, "bytes"));
    }
    gw_value_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summary_is_of_this_machine),
        cmocka_unit_test(memory_counts_this_process),
        cmocka_unit_test(disks_add_up),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
