/* The runner as a host meets it; see child.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "tests/unit/agents/child.h"

/* --- tests --- */

static void hello_describes_the_types(void **state)
{
    (void)state;
    struct child c = load("worker");
    const gw_value *types = gw_map_get(&c.hello, "types");
    assert_int_equal(types->list.n, 2);
    for (size_t i = 0; i < 2; i++) { /* in any order */
        const gw_value *t = &types->list.items[i];
        bool idler = strcmp(gw_map_str(t, "name", ""), "idler") == 0;
        assert_string_equal(gw_map_str(t, "name", ""), idler ? "idler" : "worker");
        assert_int_equal(gw_map_int(t, "version", 0), idler ? 3 : 1);
        assert_string_equal(gw_map_str(t, "durability", ""), idler ? "volatile" : "every_message");
    }
    assert_int_equal(gw_map_int(&c.hello, "abi", 0), GW_ABI);
    assert_int_equal(gw_map_int(&c.hello, "pid", 0), c.pid);
    end_well(&c);
}

static void agents_keep_their_state(void **state)
{
    (void)state;
    struct child c = load("worker");
    for (uint8_t i = 1; i <= 3; i++) {
        quiet(&c, GW_OK, CREATE(i, "worker"));
    }
    for (int round = 1; round <= 100; round++) {
        for (uint8_t i = 1; i <= 3; i++) {
            struct rig_done d = call(&c, METHOD(i, "worker", "add"));
            assert_int_equal(gw_map_int(&d.reply, "count", 0), round);
            rig_done_free(&d);
        }
    }
    quiet(&c, GW_EUNKNOWN, METHOD(9, "worker", "add"));
    struct buf unload = {0};
    gw_id id = rig_id(2);
    size_t at = frame_begin(&unload, FRAME_UNLOAD, 0, 1);
    mp_id(&unload, &id);
    frame_end(&unload, at);
    write_buf(&c, &unload);
    quiet(&c, GW_EUNKNOWN, METHOD(2, "worker", "add"));
    end_well(&c);
}

static void agents_run_in_parallel(void **state)
{
    (void)state;
    struct child c = load("worker");
    for (uint8_t i = 1; i <= 9; i++) {
        quiet(&c, GW_OK, CREATE(i, "worker"));
    }
    int64_t begin = now_ms();
    for (uint8_t i = 1; i <= 8; i++) { /* more than there are processors: they sleep */
        send_run(&c, METHOD(i, "worker", "nap", .args = rig_map("ms", gw_int(400))));
    }
    send_run(&c, METHOD(9, "worker", "add"));
    struct rig_done d = done(&c);
    assert_int_equal(d.stream, c.streams); /* the quick one overtakes */
    rig_done_free(&d);
    for (int i = 0; i < 8; i++) {
        d = done(&c);
        assert_int_equal(d.code, GW_OK);
        rig_done_free(&d);
    }
    assert_true(now_ms() - begin < 2400); /* one after the other: 3200 */
    end_well(&c);
}

static void one_agent_is_serial(void **state)
{
    (void)state;
    enum { N = 200 };
    struct child c = load("worker");
    struct buf burst = {0};
    quiet(&c, GW_OK, CREATE(1, "worker"));
    uint64_t first = c.streams + 1;
    rig_pack(&burst, ++c.streams, METHOD(1, "worker", "nap", .args = rig_map("ms", gw_int(50))));
    for (int i = 0; i < N; i++) {
        rig_pack(&burst, ++c.streams,
                 METHOD(1, "worker", "note", .args = rig_map("text", gw_strf("%d", i))));
    }
    rig_pack(&burst, ++c.streams, METHOD(1, "worker", "notes"));
    write_buf(&c, &burst);
    for (int i = 0; i < N + 2; i++) {
        struct rig_done d = done(&c);
        assert_int_equal(d.stream, first + (uint64_t)i);
        assert_int_equal(d.code, GW_OK);
        if (i == N + 1) {
            const gw_value *notes = gw_map_get(&d.reply, "notes");
            assert_int_equal(notes->list.n, N);
            for (int k = 0; k < N; k++) {
                char want[12];
                snprintf(want, sizeof want, "%d", k);
                assert_string_equal(notes->list.items[k].s.p, want);
            }
        }
        rig_done_free(&d);
    }
    end_well(&c);
}

static void bursts_are_answered(void **state)
{
    (void)state;
    enum { AGENTS = 60, ROUNDS = 40 };
    struct child c = load("worker");
    for (uint8_t i = 1; i <= AGENTS; i++) {
        quiet(&c, GW_OK, CREATE(i, "worker"));
    }
    struct buf burst = {0};
    for (int r = 0; r < ROUNDS; r++) {
        for (uint8_t i = 1; i <= AGENTS; i++) {
            bool slow = (i + r) % 17 == 0;
            rig_pack(&burst, ++c.streams,
                     METHOD(i, "worker", slow ? "spin" : "add",
                            .args = slow ? rig_map("us", gw_int(300)) : gw_nil()));
        }
    }
    pid_t writer = fork(); /* so that both directions may fill up */
    if (writer == 0) {
        _exit(wire_write(&c.wire, &burst) == GW_OK ? 0 : 1);
    }
    buf_free(&burst);
    for (int i = 0; i < AGENTS * ROUNDS; i++) {
        struct rig_done d = done(&c);
        assert_int_equal(d.code, GW_OK);
        rig_done_free(&d);
    }
    int status;
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    end_well(&c);
}

static void asks_block_only_themselves(void **state)
{
    (void)state;
    struct child c = load("worker");
    gw_id whom = rig_id(50);
    for (uint8_t i = 1; i <= 3; i++) {
        quiet(&c, GW_OK, CREATE(i, "worker"));
    }
    uint64_t one =
        send_run(&c, METHOD(1, "worker", "ask", .args = rig_map("whom", gw_id_value(&whom))));
    struct packet *first = take(&c, FRAME_CALL);
    struct mp m = first->frame.rest;
    struct span op;
    gw_value args, context;
    assert_int_equal(mp_read_str(&m, &op), GW_OK);
    assert_true(span_is(op, "send"));
    assert_int_equal(value_unpack(&m, &args), GW_OK);
    assert_int_equal(value_unpack(&m, &context), GW_OK);
    assert_string_equal(gw_map_str(&args, "method", ""), "get");
    assert_int_equal(gw_map_get(&context, "agent")->id.b[15], 1);
    gw_value_free(&args);
    gw_value_free(&context);
    /* meanwhile others work, and the same agent does not */
    uint64_t later = send_run(&c, METHOD(1, "worker", "add"));
    quiet(&c, GW_OK, METHOD(2, "worker", "add"));
    uint64_t two =
        send_run(&c, METHOD(2, "worker", "ask", .args = rig_map("whom", gw_id_value(&whom))));
    struct packet *second = take(&c, FRAME_CALL);
    quiet(&c, GW_OK, METHOD(3, "worker", "add"));
    /* answers in the other order */
    reply(&c, second, GW_EUNREACHABLE, gw_nil());
    struct rig_done d = done(&c);
    assert_int_equal(d.stream, two);
    assert_int_equal(d.code, GW_EUNREACHABLE);
    assert_string_equal(d.text, "worker.ask: the host says no");
    rig_done_free(&d);
    reply(&c, first, GW_OK, rig_map("reply", gw_int(11)));
    d = done(&c);
    assert_int_equal(d.stream, one);
    assert_int_equal(gw_map_int(&d.reply, "got", 0), 11);
    rig_done_free(&d);
    d = done(&c);
    assert_int_equal(d.stream, later);
    assert_int_equal(gw_map_int(&d.reply, "count", 0), 2);
    rig_done_free(&d);
    end_well(&c);
}

static void too_many_asks_are_busy(void **state)
{
    (void)state;
    enum { N = LIMIT_RUNNER_BLOCKED };
    struct child c = load("worker");
    struct packet *calls[N];
    gw_id whom = rig_id(250);
    for (uint8_t i = 1; i <= N + 2; i++) {
        quiet(&c, GW_OK, CREATE(i, "worker"));
    }
    for (uint8_t i = 1; i <= N; i++) {
        send_run(&c, METHOD(i, "worker", "ask", .args = rig_map("whom", gw_id_value(&whom))));
        calls[i - 1] = take(&c, FRAME_CALL);
    }
    quiet(&c, GW_EBUSY,
          METHOD(N + 1, "worker", "ask", .args = rig_map("whom", gw_id_value(&whom))));
    quiet(&c, GW_OK, METHOD(N + 2, "worker", "add"));
    for (size_t i = 0; i < N; i++) {
        reply(&c, calls[i], GW_OK, rig_map("reply", gw_int((int64_t)i)));
    }
    int64_t sum = 0;
    for (size_t i = 0; i < N; i++) {
        struct rig_done d = done(&c);
        assert_int_equal(d.code, GW_OK);
        sum += gw_map_int(&d.reply, "got", -1);
        rig_done_free(&d);
    }
    assert_int_equal(sum, N * (N - 1) / 2);
    quiet(&c, GW_OK, METHOD(1, "worker", "add"));
    end_well(&c);
}

/* {whom: [rig_id(100) ...], wait} */
static gw_value fan_of(size_t n, int64_t wait_ms)
{
    gw_value list = {.kind = GW_LIST};
    for (size_t i = 0; i < n; i++) {
        gw_id id = rig_id((uint8_t)(100 + i));
        assert_int_equal(gw_list_add(&list, gw_id_value(&id)), GW_OK);
    }
    gw_value args = rig_map("whom", list);
    assert_int_equal(gw_map_set(&args, "wait", gw_int(wait_ms)), GW_OK);
    return args;
}

static void many_asks_of_one_handler(void **state)
{
    (void)state;
    enum { N = 20 };
    struct child c = load("worker");
    struct packet *calls[N];
    for (uint8_t i = 1; i <= 2; i++) {
        quiet(&c, GW_OK, CREATE(i, "worker"));
    }
    uint64_t fan = send_run(&c, METHOD(1, "worker", "fan", .args = fan_of(N, GW_FOREVER)));
    for (size_t i = 0; i < N; i++) { /* all leave before the first is answered */
        calls[i] = take(&c, FRAME_CALL);
    }
    quiet(&c, GW_OK, METHOD(2, "worker", "add")); /* others work meanwhile */
    for (size_t i = N; i-- > 0;) {                /* the last one first, and one badly */
        reply(&c, calls[i], i == 3 ? GW_EUNREACHABLE : GW_OK, rig_map("reply", gw_int(2)));
        if (i > 0) {
            quiet(&c, GW_OK, METHOD(2, "worker", "add"));
        }
    }
    struct rig_done d = done(&c);
    assert_int_equal(d.stream, fan);
    assert_int_equal(gw_map_int(&d.reply, "sum", 0), 2 * (N - 1) + 1000);
    const gw_value *order = gw_map_get(&d.reply, "order");
    assert_int_equal(order->list.n, N);
    for (size_t i = 0; i < N; i++) { /* as they were answered, also those that came together */
        assert_int_equal(strtol(order->list.items[i].s.p, NULL, 10), N - 1 - i);
    }
    rig_done_free(&d);
    end_well(&c);
}

static void waits_have_a_limit(void **state)
{
    (void)state;
    struct child c = load("worker");
    quiet(&c, GW_OK, CREATE(1, "worker"));
    quiet(&c, GW_OK, CREATE(2, "worker"));
    int64_t begin = now_ms();
    send_run(&c, METHOD(1, "worker", "all", .args = fan_of(3, 300)));
    struct packet *calls[3];
    for (size_t i = 0; i < 3; i++) {
        calls[i] = take(&c, FRAME_CALL);
    }
    reply(&c, calls[1], GW_OK, rig_map("reply", gw_int(1)));
    quiet(&c, GW_OK, METHOD(2, "worker", "add")); /* who waits and reads takes no harm */
    struct rig_done d = done(&c);
    assert_true(now_ms() - begin >= 290);
    assert_int_equal(gw_map_int(&d.reply, "done", 0), 1);
    assert_string_equal(gw_map_str(&d.reply, "code", ""), "timeout");
    rig_done_free(&d);
    reply(&c, calls[0], GW_OK, rig_map("reply", gw_int(1))); /* late: nobody takes it */
    reply(&c, calls[2], GW_OK, rig_map("reply", gw_int(1)));
    /* only a look, and not even that: the asks went out all the same */
    send_run(&c, METHOD(1, "worker", "all", .args = fan_of(2, 0)));
    send_run(&c, METHOD(2, "worker", "fan", .args = fan_of(2, 0)));
    size_t asked = 0, ended = 0;
    while (asked < 4 || ended < 2) {
        struct packet *p;
        assert_int_equal(wire_read(&c.wire, &p), GW_OK);
        asked += p->frame.kind == FRAME_CALL;
        ended += p->frame.kind == FRAME_DONE;
        free(p);
    }
    quiet(&c, GW_OK, METHOD(1, "worker", "add"));
    end_well(&c);
}

static void only_who_waits_is_blocked(void **state)
{
    (void)state;
    enum { N = LIMIT_RUNNER_BLOCKED };
    struct child c = load("worker");
    struct packet *calls[2 * N];
    for (uint8_t i = 1; i <= N + 2; i++) {
        quiet(&c, GW_OK, CREATE(i, "worker"));
    }
    for (uint8_t i = 1; i <= N; i++) { /* each waits for two: one place each */
        send_run(&c, METHOD(i, "worker", "all", .args = fan_of(2, GW_FOREVER)));
        calls[2 * i - 2] = take(&c, FRAME_CALL);
        calls[2 * i - 1] = take(&c, FRAME_CALL);
    }
    uint64_t last = send_run(&c, METHOD(N + 1, "worker", "all", .args = fan_of(1, GW_FOREVER)));
    struct packet *p = take(&c, FRAME_CALL); /* asking is no waiting */
    struct rig_done d = done(&c);            /* whoever of them was the last to wait */
    assert_string_equal(gw_map_str(&d.reply, "code", ""), "busy");
    rig_done_free(&d);
    quiet(&c, GW_OK, METHOD(N + 2, "worker", "add"));
    reply(&c, p, GW_OK, gw_nil());
    for (size_t i = 0; i < 2 * N; i++) {
        reply(&c, calls[i], GW_OK, gw_nil());
    }
    for (size_t i = 0; i < N; i++) {
        d = done(&c);
        assert_int_equal(gw_map_int(&d.reply, "done", 0), d.stream == last ? 1 : 2);
        assert_string_equal(gw_map_str(&d.reply, "code", ""), "ok");
        rig_done_free(&d);
    }
    end_well(&c);
}

static void log_lines_come_before_the_answer(void **state)
{
    (void)state;
    struct child c = load("worker");
    quiet(&c, GW_OK, CREATE(1, "worker"));
    send_run(&c, METHOD(1, "worker", "say", .args = rig_map("text", gw_str("hello"))));
    struct packet *p = take(&c, FRAME_LOG);
    struct mp m = p->frame.rest;
    gw_id id;
    uint32_t level;
    struct span text;
    assert_int_equal(mp_read_id(&m, &id), GW_OK);
    assert_int_equal(mp_read_u32(&m, &level), GW_OK);
    assert_int_equal(mp_read_str(&m, &text), GW_OK);
    assert_int_equal(level, GW_LOG_INFO);
    assert_true(span_is(text, "hello"));
    free(p);
    struct rig_done d = done(&c);
    rig_done_free(&d);
    end_well(&c);
}

static void large_frames_pass(void **state)
{
    (void)state;
    struct child c = load("blob");
    quiet(&c, GW_OK, CREATE(1, "blob"));
    struct rig_done d =
        call(&c, METHOD(1, "blob", "fill", .args = rig_map("bytes", gw_int(16 << 20))));
    assert_int_equal(d.code, GW_OK);
    assert_true(d.parts.len > 16 << 20);
    rig_done_free(&d);
    d = call(&c, METHOD(1, "blob", "touch"));
    assert_true(d.parts.len < 100); /* the weight is not sent again */
    rig_done_free(&d);
    d = call(&c, (struct rig_run){.agent = rig_id(1),
                                  .type = "blob",
                                  .hook = HOOK_NONE,
                                  .flags = RUN_SNAPSHOT | RUN_DISCARD});
    assert_int_equal(rig_parts(&d), 2);
    struct rig_done e = call(&c, METHOD(2, "blob", "verify", .parts = &d.parts));
    assert_true(gw_map_bool(&e.reply, "whole", false));
    rig_done_free(&e);
    rig_done_free(&d);
    quiet(&c, GW_EUNKNOWN, METHOD(1, "blob", "size"));
    quiet(&c, GW_ETOO_BIG, METHOD(2, "blob", "fill", .args = rig_map("bytes", gw_int(65 << 20))));
    end_well(&c);
}

static void crashes_end_only_the_runner(void **state)
{
    (void)state;
    struct child c = load("crasher");
    quiet(&c, GW_OK, CREATE(1, "crasher"));
    quiet(&c, GW_EREFUSED, METHOD(1, "crasher", "fail"));
    quiet(&c, GW_EUNKNOWN, METHOD(1, "crasher", "get"));
    quiet(&c, GW_OK, CREATE(1, "crasher"));
    send_run(&c, METHOD(1, "crasher", "crash"));
    struct packet *p = take(&c, FRAME_LOG); /* what it said before */
    free(p);
    assert_int_equal(wire_read(&c.wire, &p), GW_EIO);
    int status = end(&c);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

static void check_load_error(const char *name, gw_err code, const char *part, const char *hint)
{
    struct child c = load_path(plugin(name));
    const gw_value *error = gw_map_get(&c.hello, "error");
    assert_non_null(error);
    assert_string_equal(gw_map_str(error, "code", ""), gw_err_name(code));
    if (!strstr(gw_map_str(error, "text", ""), part) ||
        !strstr(gw_map_str(error, "hint", ""), hint)) {
        fail_msg("\"%s\" / \"%s\" without \"%s\" / \"%s\"", gw_map_str(error, "text", ""),
                 gw_map_str(error, "hint", ""), part, hint);
    }
    assert_int_equal(gw_map_get(&c.hello, "types")->list.n, 0);
    int status = end(&c);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void wrong_plugins_are_named(void **state)
{
    (void)state;
    char numbers[80];
    snprintf(numbers, sizeof numbers, "ABI %d, this Godwit has ABI %d", GW_ABI + 41, GW_ABI);
    check_load_error("wrong_abi", GW_EABI, numbers, "");
    snprintf(numbers, sizeof numbers, "12345 bytes in the plugin and %zu", sizeof(struct gw_type));
    check_load_error("wrong_size", GW_EABI, numbers, "");
    check_load_error("no_symbol", GW_EPLUGIN, "no_symbol.so\" is not a Godwit plugin", "GW_AGENT");
    check_load_error("no_agent", GW_EPLUGIN, "defines no agent type", "");
    check_load_error("undefined", GW_EPLUGIN, "gw_not_in_any_version", "");
    check_load_error("bad_signature", GW_ESIGNATURE, "bad_signature.so", "^");
    check_load_error("missing", GW_EPLUGIN, "No such file", "");
    char text[1100];
    snprintf(text, sizeof text, "%s/text.so", plugin_dir);
    int fd = open(text, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, "not ELF", 7) == 7);
    close(fd);
    check_load_error("text", GW_EPLUGIN, "cannot link", "");
    unlink(text);
    mkdir(text, 0700);
    check_load_error("text", GW_EPLUGIN, "not a regular file", "");
    rmdir(text);
}

static void crash_in_load_is_no_hello(void **state)
{
    (void)state;
    struct child c = load_path(plugin("crash_load"));
    assert_int_equal(c.hello.kind, GW_NIL);
    int status = end(&c);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

static void rebuilding_in_place_hurts_nobody(void **state)
{
    (void)state;
    char copy[1100];
    snprintf(copy, sizeof copy, "%s/copy-%d.so", plugin_dir, (int)getpid());
    int in = open(plugin("worker"), O_RDONLY), out = open(copy, O_RDWR | O_CREAT | O_TRUNC, 0700);
    char bytes[65536];
    ssize_t n;
    while ((n = read(in, bytes, sizeof bytes)) > 0) {
        assert_int_equal(write(out, bytes, (size_t)n), n);
    }
    close(in);
    struct child c = load_path(copy);
    quiet(&c, GW_OK, CREATE(1, "worker"));
    assert_int_equal(ftruncate(out, 0), 0); /* what a linker does first */
    close(out);
    for (int i = 0; i < 10; i++) {
        quiet(&c, GW_OK, METHOD(1, "worker", "add"));
    }
    unlink(copy);
    end_well(&c);
}

static void other_frames_and_rubbish(void **state)
{
    (void)state;
    struct child c = load("worker");
    struct buf b = {0};
    frame_end(&b, frame_begin(&b, FRAME_PING, 7, 0));
    write_buf(&c, &b);
    struct packet *p = take(&c, FRAME_PONG);
    assert_int_equal(p->frame.stream, 7);
    free(p);
    frame_end(&b, frame_begin(&b, (frame_kind)99, 8, 0));  /* unknown, wants an answer */
    frame_end(&b, frame_begin(&b, (frame_kind)99, 0, 0));  /* unknown, ignored */
    frame_reply(&b, 12345, GW_OK, (struct span){0}, NULL); /* answer to nothing */
    write_buf(&c, &b);
    p = take(&c, FRAME_REPLY);
    assert_int_equal(p->frame.stream, 8);
    free(p);
    quiet(&c, GW_OK, CREATE(1, "worker"));
    buf_add_u32(&b, LIMIT_MESSAGE_BYTES + 1);
    write_buf(&c, &b);
    assert_int_equal(wire_read(&c.wire, &p), GW_EIO);
    int status = end(&c);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    c = load("worker"); /* a length of 0 */
    buf_add_u32(&b, 0);
    write_buf(&c, &b);
    assert_int_equal(wire_read(&c.wire, &p), GW_EIO);
    status = end(&c);
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void ends_with_its_host(void **state)
{
    (void)state;
    struct child c = load("crasher");
    quiet(&c, GW_OK, CREATE(1, "crasher"));
    send_run(&c, METHOD(1, "crasher", "hang")); /* an hour */
    usleep(20000);
    kill(c.pid, SIGTERM); /* not for a runner to decide */
    quiet(&c, GW_OK, CREATE(2, "crasher"));
    int64_t begin = now_ms();
    end_well(&c);
    assert_true(now_ms() - begin < 2000);
}

static void usage_is_checked(void **state)
{
    (void)state;
    char name[] = "runner", fd[] = "--fd", value[] = "x1", plug[] = "--plugin", none[] = "0";
    assert_int_equal(runner_main(1, (char *[]){name, NULL}), 2);
    assert_int_equal(runner_main(3, (char *[]){name, fd, value, NULL}), 2);
    int null = open("/dev/null", O_RDWR);
    snprintf(none, sizeof none, "%d", null);
    assert_int_equal(runner_main(5, (char *[]){name, fd, none, plug, value, NULL}), 2);
    close(null);
}

int main(int argc, char **argv)
{
    child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_describes_the_types),
        cmocka_unit_test(agents_keep_their_state),
        cmocka_unit_test(agents_run_in_parallel),
        cmocka_unit_test(one_agent_is_serial),
        cmocka_unit_test(bursts_are_answered),
        cmocka_unit_test(asks_block_only_themselves),
        cmocka_unit_test(too_many_asks_are_busy),
        cmocka_unit_test(many_asks_of_one_handler),
        cmocka_unit_test(waits_have_a_limit),
        cmocka_unit_test(only_who_waits_is_blocked),
        cmocka_unit_test(log_lines_come_before_the_answer),
        cmocka_unit_test(large_frames_pass),
        cmocka_unit_test(crashes_end_only_the_runner),
        cmocka_unit_test(wrong_plugins_are_named),
        cmocka_unit_test(crash_in_load_is_no_hello),
        cmocka_unit_test(rebuilding_in_place_hurts_nobody),
        cmocka_unit_test(other_frames_and_rubbish),
        cmocka_unit_test(ends_with_its_host),
        cmocka_unit_test(usage_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
