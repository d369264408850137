/* Built-in agents of one host. The host is this program itself in a child process, put together as
 * host/main.c does it, with a built-in type of the bench's own. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sodium.h>

#include "agents/builtin/builtin.h"
#include "host/config.h"
#include "host/host.h"
#include "tests/bench/bench.h"

/* ---- the type: one asks the other again and again ---- */

struct pair {
    void *none;       /* no table: it has no state that counts */
    int64_t left, of; /* round trips */
    double begun_us, took_us;
    gw_id other;
};

static gw_err echo(struct gw_call *call)
{
    return gw_reply_int(call, "n", 1);
}

static gw_err go(struct gw_call *call)
{
    struct pair *p = gw_state(call);
    p->of = p->left = gw_arg_int(call, "n");
    p->other = gw_arg_id(call, "to");
    p->took_us = 0;
    p->begun_us = now_us();
    return gw_ask_then(call, p->other, "echo", gw_nil(), "next");
}

static gw_err next(struct gw_call *call)
{
    struct pair *p = gw_state(call);
    if (!gw_has_arg(call, "reply")) {
        return GW_EFAIL;
    }
    if (--p->left > 0) {
        return gw_ask_then(call, p->other, "echo", gw_nil(), "next");
    }
    p->took_us = now_us() - p->begun_us;
    return GW_OK;
}

static gw_err took(struct gw_call *call)
{
    const struct pair *p = gw_state(call);
    return gw_reply_float(call, "ns", p->took_us > 0 ? p->took_us * 1e3 / (double)p->of : 0);
}

static const struct gw_method methods[] = {
    {"echo() -> (n: int)", echo, GW_READ},
    {"go(to: agent, n: int)", go, GW_READ},
    {"next(reply: {any}?)", next, GW_READ},
    {"took() -> (ns: float)", took, GW_READ},
};
static const struct gw_type pair_type = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "pair",
    .version = 1,
    .state_size = sizeof(struct pair),
    GW_METHODS(methods),
};

/* ---- the host ---- */

static pid_t start_host(const struct bench *b)
{
    static const struct host_builtin builtins[] = {{&pair_type, {"pair", NULL}}};
    char *argv[] = {(char *)"host",     (char *)"--name",      (char *)"inline",
                    (char *)"--listen", (char *)"127.0.0.1:0", NULL};
    fflush(stdout);
    pid_t pid = fork();
    if (pid != 0) {
        host_note("inline", pid);
        return pid;
    }
    struct host_config c = {0};
    struct detach d = {0};
    struct gw_error why;
    if (sodium_init() < 0 || !freopen("/dev/null", "w", stdout) ||
        !freopen("/dev/null", "w", stderr) || config_load(5, argv, &c, &why) != GW_OK) {
        _exit(1);
    }
    _exit(host_run(&c, b->home, &d, builtins, 1));
}

/* A client of the host, when it serves. */
static struct gw_client *wait_for_host(const struct bench *b)
{
    struct gw_client_options o = {.host = "inline", .home = b->home};
    struct gw_client *c = NULL;
    struct gw_error why;
    gw_value v = gw_nil();
    for (int i = 0; i < 5000; i++) {
        if (c || gw_client_open(&o, &c, &why) == GW_OK) {
            must(gw_client_call(c, "health", NULL, 5000, &v, &why), &why, "health");
            bool serves = strcmp(gw_map_str(&v, "status", ""), "ok") == 0;
            gw_value_free(&v);
            if (serves) {
                return c;
            }
        }
        usleep(1000);
    }
    fprintf(stderr, "bench: the host with a type of the bench does not start: %s\n", why.text);
    exit(1);
}

/* One agent asks the other `n` times; nanoseconds for a round trip. */
static double round_trips(struct gw_client *c, const char *from, const char *to, int64_t n)
{
    struct gw_error why;
    gw_value args = gw_nil(), r = gw_nil();
    double ns = 0;
    must(gw_map_set(&args, "to", gw_str(to)), NULL, "args");
    must(gw_map_set(&args, "n", gw_int(n)), NULL, "args");
    struct gw_send_options o = {.args = &args};
    must(gw_client_send(c, from, "go", &o, 5000, &r, &why), &why, "go");
    while (ns <= 0) {
        usleep(1000);
        must(gw_client_send(c, from, "took", NULL, 5000, &r, &why), &why, "took");
        const gw_value *v = gw_map_get(gw_map_get(&r, "reply"), "ns");
        ns = v && v->kind == GW_FLOAT ? v->f : 0;
    }
    gw_value_free(&args);
    gw_value_free(&r);
    return ns;
}

void case_inline(struct bench *b)
{
    char a[GW_ID_TEXT], z[GW_ID_TEXT];
    struct samples s = {0};
    int status;
    pid_t pid = start_host(b);
    struct gw_client *c = wait_for_host(b);
    make_agent(c, "pair", a);
    make_agent(c, "pair", z);
    round_trips(c, a, z, 20000);
    for (int i = 0; i < 7; i++) {
        sample_add(&s, round_trips(c, a, z, 300000));
    }
    report("message_local_inline_ns", sample_at(&s, 0.5), "ns", -1, s.n, "erlang local",
           b->peer.local_ns);
    sample_free(&s);
    gw_client_close(c);
    host_stop(b, "inline");
    waitpid(pid, &status, 0);
}
