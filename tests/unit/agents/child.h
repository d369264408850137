/* A runner as a host meets it: a child process behind a socket pair. The test program starts itself
 * again as `runner` (child_main first in main); plugins come from tests/plugins. */
#ifndef TESTS_UNIT_AGENTS_CHILD_H
#define TESTS_UNIT_AGENTS_CHILD_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agents/runner/runner.h"
#include "agents/runner/wire.h"
#include "protocol/limits.h"
#include "tests/unit/agents/rig.h"

#define CHILD_UNUSED __attribute__((unused))

struct child {
    pid_t pid;
    struct wire wire;
    gw_value hello; /* its map, nil when it did not say it */
    uint64_t streams;
};

static char plugin_dir[1000];

static CHILD_UNUSED const char *plugin(const char *name)
{
    static char path[1100];
    snprintf(path, sizeof path, "%s/%s.so", plugin_dir, name);
    return path;
}

static CHILD_UNUSED int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static CHILD_UNUSED pid_t start(const char *path, int *ret_fd)
{
    int fds[2];
    char number[12];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    snprintf(number, sizeof number, "%d", fds[1]);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "test", "runner", "--fd", number, "--plugin", path, (char *)NULL);
        _exit(99);
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}

static CHILD_UNUSED struct child load_path(const char *path)
{
    struct child c = {0};
    int fd;
    c.pid = start(path, &fd);
    wire_init(&c.wire, fd);
    struct packet *p;
    if (wire_read(&c.wire, &p) == GW_OK) {
        struct mp m = p->frame.rest;
        struct span role;
        uint32_t version;
        assert_int_equal(p->frame.kind, FRAME_HELLO);
        assert_int_equal(mp_read_str(&m, &role), GW_OK);
        assert_true(span_is(role, "runner"));
        assert_int_equal(mp_read_u32(&m, &version), GW_OK);
        assert_int_equal(version, PROTOCOL_VERSION);
        assert_int_equal(value_unpack(&m, &c.hello), GW_OK);
        free(p);
    }
    return c;
}

static CHILD_UNUSED struct child load(const char *name)
{
    struct child c = load_path(plugin(name));
    const gw_value *error = gw_map_get(&c.hello, "error");
    if (c.hello.kind != GW_MAP || error) {
        fail_msg("no hello from %s: %s", name, gw_map_str(error, "text", "it ended"));
    }
    return c;
}

/* Close our end; the exit status as of waitpid. */
static CHILD_UNUSED int end(struct child *c)
{
    int status = -1;
    close(c->wire.fd);
    wire_deinit(&c->wire);
    gw_value_free(&c->hello);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    return status;
}

static CHILD_UNUSED void end_well(struct child *c)
{
    int status = end(c);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static CHILD_UNUSED void write_buf(struct child *c, struct buf *b)
{
    assert_int_equal(wire_write(&c->wire, b), GW_OK);
    buf_free(b);
}

static CHILD_UNUSED uint64_t send_run(struct child *c, struct rig_run r)
{
    struct buf b = {0};
    rig_pack(&b, ++c->streams, r);
    write_buf(c, &b);
    return c->streams;
}

static CHILD_UNUSED struct packet *take(struct child *c, frame_kind kind)
{
    struct packet *p;
    assert_int_equal(wire_read(&c->wire, &p), GW_OK);
    if (p->frame.kind != (uint32_t)kind) {
        fail_msg("frame %s, not %s", frame_kind_name(p->frame.kind), frame_kind_name(kind));
    }
    return p;
}

static CHILD_UNUSED struct rig_done done(struct child *c)
{
    struct packet *p = take(c, FRAME_DONE);
    struct rig_done d;
    assert_int_equal(rig_parse(&p->frame, &d), GW_OK);
    free(p);
    return d;
}

static CHILD_UNUSED struct rig_done call(struct child *c, struct rig_run r)
{
    uint64_t stream = send_run(c, r);
    struct rig_done d = done(c);
    assert_int_equal(d.stream, stream);
    return d;
}

static CHILD_UNUSED void quiet(struct child *c, gw_err code, struct rig_run r)
{
    struct rig_done d = call(c, r);
    if (d.code != code) {
        fail_msg("%s (%s), not %s", gw_err_name(d.code), d.text, gw_err_name(code));
    }
    rig_done_free(&d);
}

/* Answer the CALL in `p` with code and value. */
static CHILD_UNUSED void reply(struct child *c, struct packet *p, gw_err code, gw_value v)
{
    struct buf value = {0}, b = {0};
    struct gw_error why = {0};
    gw_fail(&why, code, "the host says no");
    value_pack(&v, &value);
    frame_reply(&b, p->frame.stream, code, buf_span(&value), &why);
    write_buf(c, &b);
    buf_free(&value);
    gw_value_free(&v);
    free(p);
}

#define CREATE(n, t) ((struct rig_run){.agent = rig_id(n), .type = t, .hook = HOOK_CREATE})
#define METHOD(n, t, m, ...)                                                                       \
    ((struct rig_run){.agent = rig_id(n), .type = t, .method = m, __VA_ARGS__})

/* First in main: as the runner it does not return. Then finds the plugins. */
static CHILD_UNUSED void child_main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "runner") == 0) {
        exit(runner_main(argc - 1, argv + 1));
    }
    alarm(120);
    char exe[900];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    for (int up = 0; up < 3 && strrchr(exe, '/'); up++) { /* .../tests/unit/agents/test_... */
        *strrchr(exe, '/') = '\0';
    }
    snprintf(plugin_dir, sizeof plugin_dir, "%s/plugins", exe);
}

#endif
