/* A whole host in a child process, with built-in types of the test's own: handlers that are slow,
 * that log, and that keep each other busy for ever. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sodium.h>

#include <cmocka.h>

#include <godwit/client.h>

#include "agents/builtin/builtin.h"
#include "host/config.h"
#include "host/host.h"

/* ---- the types ---- */

struct player {
    int64_t heard; /* not tabled */
    gw_id other;
};

static gw_err echo(struct gw_call *call)
{
    return gw_reply_int(call, "n", 1);
}

/* Until the host stops. */
static gw_err play(struct gw_call *call)
{
    struct player *p = gw_state(call);
    p->other = gw_arg_id(call, "with");
    return gw_ask_then(call, p->other, "echo", gw_nil(), "next");
}

static gw_err next(struct gw_call *call)
{
    struct player *p = gw_state(call);
    p->heard += gw_has_arg(call, "reply");
    return gw_ask_then(call, p->other, "echo", gw_nil(), "next");
}

static gw_err heard(struct gw_call *call)
{
    const struct player *p = gw_state(call);
    return gw_reply_int(call, "n", p->heard);
}

static gw_err doze(struct gw_call *call)
{
    usleep(40000);
    gw_log(call, GW_LOG_INFO, "that took a while");
    return GW_OK;
}

static const struct gw_method methods[] = {
    {"echo() -> (n: int)", echo, GW_READ},
    {"play(with: agent)", play, GW_READ},
    {"next(reply: {any}?)", next, GW_READ},
    {"heard() -> (n: int)", heard, GW_READ},
    {"doze()", doze, GW_READ},
};
static const struct gw_type player = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "player",
    .version = 1,
    .state_size = sizeof(struct player),
    GW_METHODS(methods),
};

/* ---- the host ---- */

static char home[64], log_path[96];
static pid_t host_pid;
static struct gw_client *client;

static void run_child(void)
{
    static const struct host_builtin builtins[] = {{&player, {"player", NULL}}};
    char *argv[] = {(char *)"host",     (char *)"--name",      (char *)"solo",
                    (char *)"--listen", (char *)"127.0.0.1:0", NULL};
    struct host_config c = {0};
    struct detach d = {0};
    struct gw_error why;
    if (!freopen("/dev/null", "w", stdout) || !freopen(log_path, "w", stderr) ||
        config_load(5, argv, &c, &why) != GW_OK) {
        _exit(1);
    }
    int code = host_run(&c, home, &d, builtins, 1);
    host_config_free(&c);
    _exit(code);
}

static bool serves(void)
{
    struct gw_client_options o = {.host = "solo", .home = home};
    struct gw_error why;
    gw_value v = gw_nil();
    if (!client && gw_client_open(&o, &client, &why) != GW_OK) {
        return false;
    }
    bool ok = gw_client_call(client, "health", NULL, 20000, &v, &why) == GW_OK &&
              strcmp(gw_map_str(&v, "status", ""), "ok") == 0;
    gw_value_free(&v);
    return ok;
}

static int setup(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/gw-inline-XXXXXX");
    assert_non_null(mkdtemp(home));
    snprintf(log_path, sizeof log_path, "%s/log", home);
    fflush(stdout);
    host_pid = fork();
    if (host_pid == 0) {
        run_child();
    }
    for (int i = 0; i < 20000 && !serves(); i++) {
        assert_int_equal(waitpid(host_pid, NULL, WNOHANG), 0);
        usleep(1000);
    }
    return 0;
}

static int teardown(void **state)
{
    int status;
    char *argv[] = {(char *)"rm", (char *)"-rf", home, NULL};
    (void)state;
    gw_client_close(client);
    client = NULL;
    if (host_pid > 0) {
        kill(host_pid, SIGKILL);
        waitpid(host_pid, &status, 0);
    }
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    return 0;
}

static void make(char ret[GW_ID_TEXT])
{
    gw_value v = gw_nil();
    struct gw_error why;
    if (gw_client_create(client, "player", NULL, 20000, &v, &why) != GW_OK) {
        fail_msg("create: %s", why.text);
    }
    snprintf(ret, GW_ID_TEXT, "%s", gw_map_str(&v, "agent", ""));
    gw_value_free(&v);
}

static gw_value ask(const char *agent, const char *method, const char *with)
{
    gw_value args = gw_nil(), v = gw_nil();
    struct gw_error why;
    if (with) {
        assert_int_equal(gw_map_set(&args, "with", gw_str(with)), GW_OK);
    }
    struct gw_send_options o = {.args = &args};
    gw_err err = gw_client_send(client, agent, method, &o, 20000, &v, &why);
    gw_value_free(&args);
    if (err != GW_OK) {
        fail_msg("%s: %s", method, why.text);
    }
    return v;
}

static int64_t heard_by(const char *agent)
{
    gw_value v = ask(agent, "heard", NULL);
    int64_t n = gw_map_int(gw_map_get(&v, "reply"), "n", -1);
    gw_value_free(&v);
    return n;
}

static bool log_has(const char *what)
{
    static char text[65536];
    FILE *f = fopen(log_path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f) {
        fclose(f);
    }
    return strstr(text, what) != NULL;
}

/* ---- */

static void a_slow_handler_is_named_in_the_log(void **state)
{
    char a[GW_ID_TEXT];
    (void)state;
    make(a);
    gw_value v = ask(a, "echo", NULL);
    gw_value_free(&v);
    assert_false(log_has("builtin.slow"));
    v = ask(a, "doze", NULL);
    gw_value_free(&v);
    assert_true(log_has("builtin.slow"));
    assert_true(log_has("handler=doze"));
    assert_true(log_has("that took a while"));
}

/* They ask each other without end: the loop has time for everybody else, and the host stops. */
static void endless_asks_starve_nobody(void **state)
{
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    struct gw_error why;
    gw_value v;
    int status = -1;
    (void)state;
    make(a);
    make(b);
    v = ask(a, "play", b);
    gw_value_free(&v);
    v = ask(b, "play", a);
    gw_value_free(&v);
    int64_t before = heard_by(a);
    for (int i = 0; i < 200; i++) {
        assert_true(serves());
    }
    assert_true(heard_by(a) > before + 200);
    assert_true(heard_by(b) > 200);
    v = gw_nil();
    assert_int_equal(gw_client_call(client, "stop", NULL, 20000, &v, &why), GW_OK);
    gw_value_free(&v);
    assert_int_equal(waitpid(host_pid, &status, 0), host_pid);
    host_pid = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_slow_handler_is_named_in_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_asks_starve_nobody, setup, teardown),
    };
    if (sodium_init() < 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
