/* Processes of runners: found, started with posix_spawn (a fork of a grown host is 40 times
 * slower), linked by a socket pair, reaped. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/host.h"
#include "protocol/base/log.h"

#define CHILD_FD      3
#define GRACE_TICKS   200
#define GRACE_TICK_US 10000

extern char **environ;

/* ---- which plugins ---- */

static int only_so(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 3 && strcmp(e->d_name + n - 3, ".so") == 0;
}

static gw_err add_plugin(struct host *h, const char *path)
{
    char *real = realpath(path, NULL);
    const char *add = real ? real : path;
    gw_err err = GW_OK;
    bool known = false;
    for (size_t i = 0; i < h->plugins.len; i++) {
        known |= strcmp(h->plugins.items[i], add) == 0;
    }
    if (!known) {
        err = gw_strs_add(&h->plugins, add);
    }
    free(real);
    return err;
}

static gw_err add_folder(struct host *h, const char *dir)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, only_so, alphasort);
    gw_err err = GW_OK;
    for (int i = 0; i < n; i++) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name) < (int)sizeof path &&
            !err) {
            err = add_plugin(h, path);
        }
        free(entries[i]);
    }
    if (n >= 0) {
        free(entries);
    }
    return err;
}

gw_err spawn_find_plugins(struct host *h, struct gw_error *why)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 8);
    for (size_t i = 0; i < h->config->plugins.len; i++) {
        const char *path = h->config->plugins.items[i];
        struct stat st;
        if (stat(path, &st) != 0) {
            gw_fail(why, GW_ENOT_FOUND, "plugin \"%s\": %s", path, strerror(errno));
            gw_hint(why, "name a .so or a folder of them");
            return GW_ENOT_FOUND;
        }
        if ((S_ISDIR(st.st_mode) ? add_folder(h, path) : add_plugin(h, path)) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "out of memory for the list of plugins");
        }
    }
    if (n > 0) {
        self[n] = '\0';
        char *slash = strrchr(self, '/');
        snprintf(slash, 8, "/agents");
        if (add_folder(h, self) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "out of memory for the list of plugins");
        }
    }
    h->runners = xcalloc(h->plugins.len + 1, sizeof *h->runners);
    for (size_t i = 0; i < h->plugins.len; i++) {
        h->runners[i].host = h;
        h->runners[i].index = i;
    }
    return GW_OK;
}

/* ---- frames ---- */

static void runner_frame(void *arg, struct link *link, const struct frame *f)
{
    struct runner_process *r = arg;
    (void)link;
    if (f->kind == FRAME_CALL || f->kind == FRAME_CANCEL) {
        api_link_frame(r->api, f);
    } else {
        node_runner_frame(r->host->node, r->index, f);
    }
}

static void describe_end(int status, char *ret, size_t cap)
{
    if (WIFSIGNALED(status)) {
        snprintf(ret, cap, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    } else {
        snprintf(ret, cap, "exited with code %d", WEXITSTATUS(status));
    }
}

static void runner_closed(void *arg, struct link *link, const char *reason)
{
    struct runner_process *r = arg;
    char text[160];
    int status = 0, pid = r->pid;
    (void)link, (void)reason;
    kill(pid, SIGKILL); /* it has closed its socket: on its way out already, or of no use */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    describe_end(status, text, sizeof text);
    r->link = NULL;
    r->pid = 0;
    api_link_free(r->api);
    r->api = NULL;
    node_runner_down(r->host->node, r->index, pid, text);
}

static const struct link_ops runner_ops = {runner_frame, runner_closed};

static void send_to_runner(void *arg, struct buf *frame)
{
    struct runner_process *r = arg;
    spawn_send(r->host, r->index, frame);
}

void spawn_send(void *host, size_t index, struct buf *frame)
{
    struct host *h = host;
    if (h->runners[index].link) {
        link_send(h->runners[index].link, frame);
    }
    buf_free(frame);
}

void spawn_kill(void *host, size_t index)
{
    struct host *h = host;
    if (h->runners[index].pid > 0) {
        kill(h->runners[index].pid, SIGKILL); /* its end closes the link */
    }
}

/* ---- start ---- */

static uint64_t runner_memory(const struct host *h)
{
    uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES), page = (uint64_t)sysconf(_SC_PAGESIZE);
    return h->config->runner_memory ? h->config->runner_memory : pages * page / 2;
}

static int spawn(const struct host *h, const char *plugin, int fd, int *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    char number[8], memory[24];
    snprintf(number, sizeof number, "%d", CHILD_FD);
    snprintf(memory, sizeof memory, "%llu", (unsigned long long)runner_memory(h));
    char *argv[] = {
        (char *)"godwit", (char *)"runner",   (char *)"--fd", number, (char *)"--plugin",
        (char *)plugin,   (char *)"--memory", memory,         NULL};
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_adddup2(&actions, fd, CHILD_FD);
    int err = posix_spawn(ret_pid, "/proc/self/exe", &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return err;
}

static void spawn_failed(evutil_socket_t fd, short what, void *arg)
{
    struct runner_process *r = arg;
    (void)fd, (void)what;
    event_free(r->failed);
    r->failed = NULL;
    node_runner_down(r->host->node, r->index, 0, "its process could not be started");
}

void spawn_start(void *host, size_t index)
{
    struct host *h = host;
    struct runner_process *r = &h->runners[index];
    int pair[2], pid = 0;
    int err = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 ? 0 : errno;
    if (err == 0) {
        /* dup2 of a descriptor onto itself would keep its close-on-exec flag */
        int child = pair[1] == CHILD_FD ? dup(pair[1]) : pair[1];
        err = child < 0 ? errno : spawn(h, h->plugins.items[index], child, &pid);
        if (child != pair[1] && child >= 0) {
            close(child);
        }
        close(pair[1]);
        if (err) {
            close(pair[0]);
        }
    }
    if (err) {
        struct timeval now = {0};
        log_error("runner.spawn", "plugin=%s cannot be started: %s", h->plugins.items[index],
                  strerror(err));
        r->failed = event_new(h->base, -1, 0, spawn_failed, r);
        gw_assert(r->failed);
        event_add(r->failed, &now);
        return;
    }
    r->pid = pid;
    r->link = link_over_socket(h->base, pair[0], LINK_RUNNER);
    r->api = api_link_new(h->node, LINK_RUNNER, ROLE_OPERATOR, send_to_runner, r);
    link_set_ops(r->link, &runner_ops, r);
}

/* What runners hold is on disk, so they are killed. Under the address sanitizer they have a moment
 * to end by themselves, which is when leaks are looked for. */
static void end_process(int pid)
{
#ifdef __SANITIZE_ADDRESS__
    for (int i = 0; i < GRACE_TICKS; i++) {
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            return;
        }
        usleep(GRACE_TICK_US);
    }
#endif
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

void spawn_close(struct host *h)
{
    size_t n = h->runners ? h->plugins.len : 0;
    for (size_t i = 0; i < n; i++) {
        h->runners[i].link = NULL; /* all have ended */
    }
    for (size_t i = 0; i < n; i++) {
        struct runner_process *r = &h->runners[i];
        if (r->pid > 0) {
            end_process(r->pid);
        }
        api_link_free(r->api);
        if (r->failed) {
            event_free(r->failed);
        }
    }
    free(h->runners);
    gw_strs_clear(&h->plugins);
}
