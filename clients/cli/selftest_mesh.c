/* Child processes with a pipe for their "ready" line; PR_SET_PDEATHSIG ends them with us. */
#include "clients/cli/selftest_mesh.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol/json.h"

#define READY_MS      20000
#define READY_BYTES   4096
#define CONNECT_MS    2000
#define HOST_ARGS_MAX 14

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The child, between fork and exec: async-signal-safe calls only. */
static void become_host(const struct selftest_mesh *mesh, const char *const *argv, int ready,
                        int log, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127); /* it ended before the signal was asked for */
    }
    setpgid(0, 0); /* Ctrl-C is for us */
    signal(SIGINT, SIG_DFL);
    if (dup2(ready, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0 || chdir(mesh->home) != 0) {
        _exit(127);
    }
    execv(mesh->program ? mesh->program : "/proc/self/exe", (char *const *)(uintptr_t)argv);
    _exit(127);
}

static gw_err spawn(struct selftest_mesh *mesh, struct mesh_host *h, const char *const *argv,
                    int *ret_ready, struct gw_error *why)
{
    char path[sizeof mesh->home + 16];
    int ends[2];
    pid_t parent = getpid();
    snprintf(path, sizeof path, "%s/%s.log", mesh->home, h->name);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0 || pipe2(ends, O_CLOEXEC) != 0) {
        gw_err err = gw_fail(why, GW_EIO, "%s: %s", path, strerror(errno));
        if (log >= 0) {
            close(log);
        }
        return err;
    }
    h->pid = fork();
    if (h->pid == 0) {
        become_host(mesh, argv, ends[1], log, parent);
    }
    close(log);
    close(ends[1]);
    if (h->pid < 0) {
        h->pid = 0;
        close(ends[0]);
        return gw_fail(why, GW_EIO, "no process for host \"%s\": %s", h->name, strerror(errno));
    }
    *ret_ready = ends[0];
    return GW_OK;
}

/* The line that a host prints when it serves. */
static gw_err read_ready(int fd, char *line, size_t cap, int64_t wait_ms)
{
    int64_t deadline = now_ms() + wait_ms;
    size_t len = 0;
    while (len + 1 < cap) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - now_ms();
        int n = poll(&wait, 1, left > 0 ? (int)left : 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n == 0 && len == 0) {
            return GW_ETIMEOUT; /* it is written in one piece */
        }
        ssize_t got = n > 0 ? read(fd, line + len, cap - 1 - len) : 0;
        if (got <= 0) {
            return GW_EUNREACHABLE;
        }
        len += (size_t)got;
        line[len] = '\0';
        if (strchr(line, '\n')) {
            return GW_OK;
        }
    }
    return GW_EUNREACHABLE;
}

/* {"name", "host_id", "url": "https://ADDRESS:PORT", "pid"} */
static bool take_address(struct mesh_host *h, const char *line)
{
    static const char scheme[] = "https://";
    GW_AUTO(gw_value_free) gw_value ready = gw_nil();
    if (json_parse(line, strcspn(line, "\n"), &ready, NULL) != GW_OK) {
        return false;
    }
    const char *url = gw_map_str(&ready, "url", "");
    if (strncmp(url, scheme, sizeof scheme - 1) != 0) {
        return false;
    }
    int n = snprintf(h->listen, sizeof h->listen, "%s", url + sizeof scheme - 1);
    return n > 0 && (size_t)n < sizeof h->listen;
}

gw_err mesh_begin(struct selftest_mesh *mesh, size_t host, struct gw_error *why)
{
    struct mesh_host *h = &mesh->hosts[host];
    const struct mesh_host *seed = &mesh->hosts[host == 0 ? 1 : 0];
    char peer[sizeof seed->listen + 8], listen[sizeof h->listen];
    const char *argv[HOST_ARGS_MAX] = {"godwit", "host",     "--json", "--name",
                                       h->name,  "--listen", listen};
    size_t argc = 7;
    snprintf(listen, sizeof listen, "%s", h->listen[0] ? h->listen : "127.0.0.1:0");
    if (seed->listen[0]) {
        snprintf(peer, sizeof peer, "https://%s", seed->listen);
        argv[argc++] = "--peer";
        argv[argc++] = peer;
    }
    if (h->plugin) {
        argv[argc++] = "--plugin";
        argv[argc++] = h->plugin;
    }
    if (h->fail ? setenv("GODWIT_FAIL", h->fail, 1) : unsetenv("GODWIT_FAIL")) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the environment");
    }
    return spawn(mesh, h, argv, &h->ready, why);
}

gw_err mesh_is_ready(struct selftest_mesh *mesh, size_t host, int64_t wait_ms)
{
    struct mesh_host *h = &mesh->hosts[host];
    char line[READY_BYTES];
    GW_TRY(read_ready(h->ready, line, sizeof line, wait_ms));
    close(h->ready); /* it prints nothing more there */
    h->ready = -1;
    return take_address(h, line) ? GW_OK : GW_EUNREACHABLE;
}

gw_err mesh_start(struct selftest_mesh *mesh, size_t host, struct gw_error *why)
{
    const struct mesh_host *h = &mesh->hosts[host];
    GW_TRY(mesh_begin(mesh, host, why));
    if (mesh_is_ready(mesh, host, READY_MS) != GW_OK) {
        mesh_kill(mesh, host);
        gw_fail(why, GW_ETIMEOUT, "host \"%s\" does not start", h->name);
        gw_hint(why, "its log is %s/%s.log", mesh->home, h->name);
        return GW_ETIMEOUT;
    }
    return GW_OK;
}

static gw_err make_home(struct selftest_mesh *mesh, struct gw_error *why)
{
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(mesh->home, sizeof mesh->home, "%s/godwit-selftest-XXXXXX",
                     tmp && tmp[0] ? tmp : "/tmp");
    if (n < 0 || (size_t)n >= sizeof mesh->home || !mkdtemp(mesh->home)) {
        mesh->home[0] = '\0';
        return gw_fail(why, GW_EIO, "no temporary directory in %s: %s", tmp ? tmp : "/tmp",
                       strerror(errno));
    }
    return GW_OK;
}

gw_err mesh_open(struct selftest_mesh *mesh, struct gw_error *why)
{
    static const char *const names[MESH_HOSTS] = {"one", "two", "three"};
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        mesh->hosts[i].ready = -1;
    }
    GW_TRY(make_home(mesh, why));
    if (setenv("GODWIT_HOME", mesh->home, 1) != 0 || unsetenv("GODWIT_HOST") != 0) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the environment");
    }
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        snprintf(mesh->hosts[i].name, sizeof mesh->hosts[i].name, "%s", names[i]);
        GW_TRY(mesh_start(mesh, i, why));
    }
    return GW_OK;
}

void mesh_hang_up(struct selftest_mesh *mesh, size_t host)
{
    struct mesh_host *h = &mesh->hosts[host];
    gw_client_close(h->client);
    h->client = NULL;
    if (h->ready >= 0) {
        close(h->ready);
        h->ready = -1;
    }
}

void mesh_kill(struct selftest_mesh *mesh, size_t host)
{
    struct mesh_host *h = &mesh->hosts[host];
    mesh_hang_up(mesh, host);
    if (h->pid > 0) {
        kill(h->pid, SIGKILL);
        while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        h->pid = 0;
    }
}

void mesh_pause(struct selftest_mesh *mesh, size_t host, bool pause)
{
    if (mesh->hosts[host].pid > 0) {
        kill(mesh->hosts[host].pid, pause ? SIGSTOP : SIGCONT);
    }
}

gw_err mesh_client(struct selftest_mesh *mesh, size_t host, struct gw_client **ret,
                   struct gw_error *why)
{
    struct mesh_host *h = &mesh->hosts[host];
    if (!h->client) {
        struct gw_client_options o = {
            .host = h->name, .home = mesh->home, .connect_ms = CONNECT_MS, .retry_ms = -1};
        GW_TRY(gw_client_open(&o, &h->client, why));
    }
    *ret = h->client;
    return GW_OK;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

void mesh_close(struct selftest_mesh *mesh, bool keep)
{
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        mesh_kill(mesh, i);
    }
    if (mesh->home[0] && !keep) {
        (void)nftw(mesh->home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
}
