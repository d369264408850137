#include "tests/bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/json.h"
#include "tests/bench/bench.h"

#define RUNNING_MAX    32
#define LINE_MAX_BYTES 65536

extern char **environ;

static int running[RUNNING_MAX];

static void end_all(void)
{
    for (int i = 0; i < RUNNING_MAX; i++) {
        if (running[i] > 0) {
            kill(running[i], SIGKILL);
        }
    }
}

static void note(int was, int is)
{
    static bool registered;
    if (!registered) {
        registered = atexit(end_all) == 0;
    }
    for (int i = 0; i < RUNNING_MAX; i++) {
        if (running[i] == was) {
            running[i] = is;
            return;
        }
    }
}

void process_start(struct process *p, char *const *argv, const char *out)
{
    posix_spawn_file_actions_t actions;
    snprintf(p->out, sizeof p->out, "%s", out ? out : "/dev/null");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, p->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    p->began_us = now_us();
    int err = posix_spawnp(&p->pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (err != 0) {
        fprintf(stderr, "bench: %s: %s\n", argv[0], strerror(err));
        exit(1);
    }
    note(0, p->pid);
}

bool process_runs(struct process *p)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

void process_signal(struct process *p, int sig)
{
    kill(p->pid, sig);
}

int process_end(struct process *p, double *ret_s)
{
    int status = 0;
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (ret_s) {
        *ret_s = (now_us() - p->began_us) / 1e6;
    }
    note(p->pid, 0);
    p->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

double process_must(char *const *argv, const char *out)
{
    struct process p;
    double took;
    process_start(&p, argv, out);
    int code = process_end(&p, &took);
    if (code != 0) {
        fputs("bench: this failed:", stderr);
        for (int i = 0; argv[i]; i++) {
            fprintf(stderr, " %s", argv[i]);
        }
        fprintf(stderr, " (%d)\n", code);
        exit(1);
    }
    return took;
}

bool process_exists(const char *name)
{
    char path[300], *dirs = strdup(getenv("PATH") ? getenv("PATH") : "/usr/bin"), *rest = dirs;
    bool found = false;
    for (char *dir; !found && dirs && (dir = strsep(&rest, ":"));) {
        snprintf(path, sizeof path, "%s/%s", dir, name);
        found = access(path, X_OK) == 0;
    }
    free(dirs);
    return found;
}

gw_value last_line(const char *path)
{
    static char line[LINE_MAX_BYTES], next[LINE_MAX_BYTES];
    gw_value v = gw_nil();
    FILE *f = fopen(path, "r");
    line[0] = '\0';
    while (f && fgets(next, sizeof next, f)) {
        memcpy(line, next, strlen(next) + 1);
    }
    if (f) {
        fclose(f);
    }
    if (json_parse(line, strlen(line), &v, NULL) != GW_OK) {
        return gw_nil();
    }
    return v;
}
