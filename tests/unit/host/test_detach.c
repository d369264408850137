#include "host/detach.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char log_path[256];

struct outcome {
    int code;
    char out[4096], err[4096];
};

static void drain(int fd, char *ret, size_t cap)
{
    size_t n = 0;
    ssize_t got;
    while (n < cap - 1 && (got = read(fd, ret + n, cap - 1 - n)) > 0) {
        n += (size_t)got;
    }
    ret[n] = '\0';
    close(fd);
}

/* Be a program whose host part is `host`; what its starter printed and how it ended. */
static struct outcome start(void (*host)(struct detach *d), int64_t timeout_ms)
{
    int out[2], err[2];
    struct outcome o;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct detach d;
        struct gw_error why;
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        if (detach_begin(&d, log_path, &why) != GW_OK) {
            fprintf(stderr, "%s\n", why.text);
            _exit(99);
        }
        if (d.on) {
            host(&d);
            fflush(NULL);
            _exit(0);
        }
        int code = detach_wait(&d, timeout_ms);
        fflush(NULL);
        _exit(code);
    }
    close(out[1]);
    close(err[1]);
    drain(out[0], o.out, sizeof o.out);
    drain(err[0], o.err, sizeof o.err);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    o.code = WEXITSTATUS(status);
    return o;
}

static void read_log(char *ret, size_t cap)
{
    int fd = open(log_path, O_RDONLY);
    assert_true(fd >= 0);
    drain(fd, ret, cap);
}

static void host_ready(struct detach *d)
{
    char where[64];
    printf("to the log, session %s, in %s\n", getsid(0) == getpid() ? "leader" : "member",
           read(STDIN_FILENO, where, 1) == 0 ? "no input" : "some input");
    detach_ready(d, "ready alpha https://127.0.0.1:7420");
    detach_ready(d, "ready twice");
}

static void a_ready_host_gives_its_line_and_zero(void **state)
{
    (void)state;
    struct outcome o = start(host_ready, 5000);
    assert_int_equal(o.code, 0);
    assert_string_equal(o.out, "ready alpha https://127.0.0.1:7420\n");
    assert_string_equal(o.err, "");
}

static void host_writes_and_waits(struct detach *d)
{
    printf("a line of the host\n");
    fflush(stdout);
    host_ready(d);
}

static void the_host_has_no_terminal_and_writes_to_its_log(void **state)
{
    (void)state;
    char log[4096];
    start(host_writes_and_waits, 5000);
    for (int i = 0; i < 100; i++) {
        read_log(log, sizeof log);
        if (strstr(log, "session member, in no input")) {
            break;
        }
        usleep(20000);
    }
    assert_non_null(strstr(log, "a line of the host\n"));
    assert_non_null(strstr(log, "session member, in no input"));
}

static void host_fails(struct detach *d)
{
    struct gw_error why = {.code = GW_ELOCKED,
                           .text = "state directory \"x\" is in use by process 1",
                           .hint = "stop that host first"};
    _exit(detach_failed(d, &why));
}

static void a_failed_host_gives_its_error_and_code(void **state)
{
    (void)state;
    struct outcome o = start(host_fails, 5000);
    assert_int_equal(o.code, gw_err_exit(GW_ELOCKED));
    assert_string_equal(o.out, "");
    assert_non_null(strstr(o.err, "is in use by process 1"));
    assert_non_null(strstr(o.err, "stop that host first"));
}

static void host_dies(struct detach *d)
{
    (void)d;
    printf("the last words\n");
    fflush(stdout);
    _exit(3);
}

static void a_host_that_dies_shows_the_end_of_its_log(void **state)
{
    (void)state;
    struct outcome o = start(host_dies, 5000);
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.err, "ended before it served"));
    assert_non_null(strstr(o.err, "the last words\n"));
    /* What earlier hosts logged is not shown. */
    assert_null(strstr(o.err, "a line of the host"));
}

static void host_hangs(struct detach *d)
{
    (void)d;
    sleep(2);
}

static void a_host_that_does_not_answer_is_a_timeout(void **state)
{
    (void)state;
    struct outcome o = start(host_hangs, 100);
    assert_int_equal(o.code, 124);
    assert_non_null(strstr(o.err, log_path));
}

static void host_outlives_its_starter(struct detach *d)
{
    usleep(300000); /* the starter gave up long ago */
    detach_ready(d, "ready");
    printf("still here\n");
}

static void a_host_does_not_die_with_its_starter(void **state)
{
    (void)state;
    char log[8192];
    assert_int_equal(start(host_outlives_its_starter, 10).code, 124);
    for (int i = 0; i < 200; i++) {
        read_log(log, sizeof log);
        if (strstr(log, "still here")) {
            return;
        }
        usleep(20000);
    }
    fail_msg("the host never came to its end");
}

static void a_log_that_cannot_be_opened_is_named(void **state)
{
    (void)state;
    struct gw_error why;
    struct detach d;
    char text[sizeof log_path + 32];
    snprintf(text, sizeof text, "%s/nonexistent/log", log_path);
    assert_int_equal(detach_begin(&d, text, &why), GW_EIO);
    assert_non_null(strstr(why.text, text));
}

int main(void)
{
    const char *dir = getenv("TMPDIR");
    snprintf(log_path, sizeof log_path, "%s/godwit-detach-XXXXXX", dir ? dir : "/tmp");
    int fd = mkstemp(log_path);
    if (fd < 0) {
        return 1;
    }
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ready_host_gives_its_line_and_zero),
        cmocka_unit_test(the_host_has_no_terminal_and_writes_to_its_log),
        cmocka_unit_test(a_failed_host_gives_its_error_and_code),
        cmocka_unit_test(a_host_that_dies_shows_the_end_of_its_log),
        cmocka_unit_test(a_host_that_does_not_answer_is_a_timeout),
        cmocka_unit_test(a_host_does_not_die_with_its_starter),
        cmocka_unit_test(a_log_that_cannot_be_opened_is_named),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(log_path);
    return failed;
}
