#include "agents/runner/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agents/runner/plugin.h"
#include "agents/runner/pool.h"
#include "protocol/base/log.h"
#include "protocol/text.h"
#include "protocol/value.h"

#define MEMORY_LEAST                                                                               \
    (64u * 1024 * 1024) /* below it a runner could not hold a few large messages                   \
                         */

struct options {
    int fd;
    const char *plugin;
    int64_t memory; /* bytes; 0 = no limit */
};

static int usage(const char *what)
{
    fprintf(stderr,
            "godwit runner: %s\nusage: godwit runner --fd N --plugin PATH [--memory BYTES]\n",
            what);
    return 2;
}

/* 0, or an exit code. */
static int parse_options(int argc, char **argv, struct options *ret)
{
    static const struct option longs[] = {{"fd", required_argument, NULL, 'f'},
                                          {"plugin", required_argument, NULL, 'p'},
                                          {"memory", required_argument, NULL, 'm'},
                                          {0}};
    struct options o = {.fd = -1};
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        int64_t n;
        if (c == 'f' && text_int(optarg, &n) == GW_OK && n >= 0 && n <= INT_MAX) {
            o.fd = (int)n;
        } else if (c == 'p') {
            o.plugin = optarg;
        } else if (c == 'm' && text_int(optarg, &n) == GW_OK && n >= 0) {
            o.memory = n;
        } else {
            return usage("unknown option or wrong value");
        }
    }
    int type;
    socklen_t len = sizeof type;
    if (o.fd < 0 || !o.plugin || optind != argc) {
        return usage("--fd and --plugin are needed");
    }
    if (getsockopt(o.fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM) {
        return usage("--fd is not a stream socket; runners are started by a host");
    }
    *ret = o;
    return 0;
}

/* The host decides when a runner ends: it closes the socket, or dies. */
static void tie_to_host(int fd)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fcntl(fd, F_SETFD, FD_CLOEXEC); /* not for children of agents */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

/* A plugin that allocates without end ends its own process, not the machine: above the limit malloc
 * gives NULL, and the runtime stops when it gets that. RLIMIT_DATA counts heap and private writable
 * mappings, so neither code nor address space that is only reserved; the shadow memory of
 * sanitizers would count, so there it is not set. */
static void limit_memory(int64_t bytes)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const rlim_t most = bytes < MEMORY_LEAST ? MEMORY_LEAST : (rlim_t)bytes;
    const struct rlimit limit = {most, most};
    if (bytes > 0 && setrlimit(RLIMIT_DATA, &limit) != 0) {
        log_warn("runner.memory", "the limit of %lld bytes cannot be set: %s", (long long)bytes,
                 strerror(errno));
    }
#else
    (void)bytes;
#endif
}

static gw_err describe_error(const struct gw_error *error, gw_value *about)
{
    gw_value v = {0};
    gw_err err = gw_map_set(&v, "code", gw_str(gw_err_name(error->code)));
    if (err == GW_OK) {
        err = gw_map_set(&v, "text", gw_str(error->text));
    }
    if (err == GW_OK && error->hint[0]) {
        err = gw_map_set(&v, "hint", gw_str(error->hint));
    }
    if (err != GW_OK) {
        gw_value_free(&v);
        return err;
    }
    return gw_map_set(about, "error", v);
}

static gw_err describe(const struct engine *engine, const char *plugin,
                       const struct gw_error *error, gw_value *about)
{
    gw_value types = {0};
    GW_TRY(gw_map_set(about, "plugin", gw_str(plugin)));
    GW_TRY(gw_map_set(about, "abi", gw_int(GW_ABI)));
    GW_TRY(gw_map_set(about, "pid", gw_int(getpid())));
    if (error->code != GW_OK) {
        types.kind = GW_LIST; /* half a plugin is none */
        GW_TRY(describe_error(error, about));
    } else {
        GW_TRY(engine_describe(engine, &types));
    }
    return gw_map_set(about, "types", types);
}

static gw_err say_hello(struct wire *wire, const struct engine *engine, const char *plugin,
                        const struct gw_error *error)
{
    gw_value about = {0};
    struct buf out = {0};
    gw_err err = describe(engine, plugin, error, &about);
    size_t at = frame_begin(&out, FRAME_HELLO, 0, 3);
    mp_str(&out, "runner");
    mp_uint(&out, PROTOCOL_VERSION);
    value_pack(&about, &out);
    frame_end(&out, at);
    if (err == GW_OK) {
        err = buf_ok(&out) ? wire_write(wire, &out) : GW_ENOMEM;
    }
    gw_value_free(&about);
    buf_free(&out);
    return err;
}

int runner_main(int argc, char **argv)
{
    struct options o;
    int code = parse_options(argc, argv, &o);
    if (code != 0) {
        return code;
    }
    tie_to_host(o.fd);
    mallopt(M_ARENA_MAX, 2); /* memory per thread matters more here than malloc's last speed */
    /* Fresh pages cost more than copying: large states keep their memory from one to the next. */
    mallopt(M_MMAP_THRESHOLD, 64 * 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 128 * 1024 * 1024);
    const char *base = strrchr(o.plugin, '/');
    char name[64];
    snprintf(name, sizeof name, "runner:%s", base ? base + 1 : o.plugin);
    log_name(name);
    limit_memory(o.memory);

    struct wire wire;
    wire_init(&wire, o.fd);
    struct pool *pool = pool_new(&wire);
    struct engine *engine = engine_new(&pool_io, pool);
    struct gw_error error = {0};
    error.code = plugin_load(o.plugin, engine, &error);
    gw_err err = say_hello(&wire, engine, o.plugin, &error);
    if (error.code != GW_OK || err != GW_OK) {
        engine_free(engine);
        pool_free(pool);
        wire_deinit(&wire);
        return 1;
    }
    pool_serve(pool, engine);
}
