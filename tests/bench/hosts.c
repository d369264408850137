/* Starting, stopping and looking at real host processes. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"

extern char **environ;

static int run(char *const *argv)
{
    pid_t pid;
    int status = 0;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (posix_spawn(&pid, argv[0], &actions, NULL, argv, environ) != 0) {
        perror(argv[0]);
        exit(1);
    }
    posix_spawn_file_actions_destroy(&actions);
    waitpid(pid, &status, 0);
    return status;
}

/* ---- those that run ---- */

#define HOSTS_MAX 8

static struct {
    char name[32];
    int pid;
} running[HOSTS_MAX];

/* The bench has failed: nothing of it stays behind. */
static void end_all(void)
{
    for (int i = 0; i < HOSTS_MAX; i++) {
        if (running[i].pid > 0) {
            kill(running[i].pid, SIGKILL); /* its runners end with it */
        }
    }
}

void host_note(const char *name, int pid)
{
    static bool registered;
    if (!registered) {
        registered = atexit(end_all) == 0;
    }
    for (int i = 0; i < HOSTS_MAX; i++) {
        if (running[i].pid == 0) {
            snprintf(running[i].name, sizeof running[i].name, "%s", name);
            running[i].pid = pid;
            return;
        }
    }
}

static void forget(const char *name)
{
    for (int i = 0; i < HOSTS_MAX; i++) {
        if (strcmp(running[i].name, name) == 0) {
            running[i].pid = 0;
        }
    }
}

double host_start(struct bench *b, const char *name, const char *peer, int *ret_pid)
{
    char blob[300], asker[300];
    char *argv[16] = {(char *)b->program, (char *)"host",        (char *)"--name",  (char *)name,
                      (char *)"--listen", (char *)"127.0.0.1:0", (char *)"--detach"};
    int n = 7;
    snprintf(blob, sizeof blob, "%s/blob.so", b->plugins);
    snprintf(asker, sizeof asker, "%s/asker.so", b->plugins);
    if (peer) {
        argv[n++] = (char *)"--peer";
        argv[n++] = (char *)peer;
    }
    if (peer || strcmp(name, "alpha") == 0) {
        argv[n++] = (char *)"--plugin";
        argv[n++] = blob;
        argv[n++] = (char *)"--plugin";
        argv[n] = asker;
    }
    double began = now_us();
    if (run(argv) != 0) {
        fprintf(stderr, "bench: host %s does not start\n", name);
        exit(1);
    }
    double took = (now_us() - began) / 1e3;
    struct gw_client *c = host_client(b, name);
    gw_value status = gw_nil();
    struct gw_error why;
    must(gw_client_call(c, "status", NULL, 5000, &status, &why), &why, "status");
    *ret_pid = (int)gw_map_int(&status, "pid", 0);
    host_note(name, *ret_pid);
    gw_value_free(&status);
    gw_client_close(c);
    return took;
}

void host_stop(struct bench *b, const char *name)
{
    char *argv[] = {(char *)b->program, (char *)"stop", (char *)name, (char *)"-q", NULL};
    if (run(argv) != 0) {
        fprintf(stderr, "bench: host %s does not stop\n", name);
        exit(1);
    }
    forget(name);
}

struct gw_client *host_client(struct bench *b, const char *name)
{
    struct gw_client *c;
    struct gw_error why;
    struct gw_client_options o = {.host = name, .home = b->home};
    must(gw_client_open(&o, &c, &why), &why, name);
    return c;
}

void make_agent(struct gw_client *c, const char *type, char ret[GW_ID_TEXT])
{
    gw_value made = gw_nil();
    struct gw_error why;
    must(gw_client_create(c, type, NULL, 5000, &made, &why), &why, "create");
    snprintf(ret, GW_ID_TEXT, "%s", gw_map_str(&made, "agent", ""));
    gw_value_free(&made);
}

static double field_kb(const char *path, const char *field)
{
    char line[256];
    double kb = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, field, strlen(field)) == 0) {
            kb = strtod(line + strlen(field), NULL);
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return kb;
}

double rss_kb(int pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    return field_kb(path, "VmRSS:");
}

double family_pss_kb(int pid)
{
    char path[64], children[4096] = "";
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    double sum = field_kb(path, "Pss:");
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    FILE *f = fopen(path, "r");
    if (f && fgets(children, sizeof children, f)) {
        for (char *at = children; *at;) {
            long child = strtol(at, &at, 10);
            if (child <= 0) {
                break;
            }
            snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", child);
            sum += field_kb(path, "Pss:");
        }
    }
    if (f) {
        fclose(f);
    }
    return sum;
}
