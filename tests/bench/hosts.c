/* Starting, stopping and looking at real host processes. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/process.h"

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
    const char *options[8];
    int n = 0;
    snprintf(blob, sizeof blob, "%s/blob.so", b->plugins);
    snprintf(asker, sizeof asker, "%s/asker.so", b->plugins);
    if (peer) {
        options[n++] = "--peer";
        options[n++] = peer;
    }
    if (peer || strcmp(name, "alpha") == 0) {
        options[n++] = "--plugin";
        options[n++] = blob;
        options[n++] = "--plugin";
        options[n++] = asker;
    }
    options[n] = NULL;
    return host_start_with(b, name, options, ret_pid);
}

double host_start_with(struct bench *b, const char *name, const char *const *options, int *ret_pid)
{
    char *argv[24] = {(char *)b->program, (char *)"host", (char *)"--name", (char *)name,
                      (char *)"--detach"};
    int n = 5;
    bool listens = false;
    for (int i = 0; options[i] && n < 21; i++) {
        listens |= strcmp(options[i], "--listen") == 0;
        argv[n++] = (char *)options[i];
    }
    if (!listens) {
        argv[n++] = (char *)"--listen";
        argv[n] = (char *)"127.0.0.1:0";
    }
    double took = process_must(argv, NULL) * 1e3;
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
    process_must(argv, NULL);
    forget(name);
}

void host_kill(const char *name)
{
    for (int i = 0; i < HOSTS_MAX; i++) {
        if (strcmp(running[i].name, name) == 0 && running[i].pid > 0) {
            char exe[64], to[8];
            kill(running[i].pid, SIGKILL);
            snprintf(exe, sizeof exe, "/proc/%d/exe", running[i].pid);
            while (readlink(exe, to, sizeof to) > 0) { /* one that is not reaped has none */
                usleep(1000);
            }
            running[i].pid = 0;
        }
    }
}

struct gw_client *host_client(struct bench *b, const char *name)
{
    struct gw_client *c;
    struct gw_error why;
    struct gw_client_options o = {.host = name, .home = b->home};
    must(gw_client_open(&o, &c, &why), &why, name);
    return c;
}

void host_url(struct bench *b, const char *name, char *ret, size_t room)
{
    struct gw_error why;
    gw_value status = gw_nil();
    struct gw_client *c = host_client(b, name);
    must(gw_client_call(c, "status", NULL, 5000, &status, &why), &why, "status");
    snprintf(ret, room, "%s", gw_map_str(&status, "url", ""));
    gw_value_free(&status);
    gw_client_close(c);
}

void host_wait_linked(struct bench *b, const char *name)
{
    struct gw_error why;
    gw_value status = gw_nil();
    struct gw_client *c = host_client(b, name);
    for (int i = 0; i < 20000 && gw_map_int(&status, "links", 0) == 0; i++) {
        usleep(i > 0 ? 1000 : 0);
        must(gw_client_call(c, "status", NULL, 5000, &status, &why), &why, "status");
    }
    gw_value_free(&status);
    gw_client_close(c);
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

double rss_peak_kb(int pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    return field_kb(path, "VmHWM:");
}

void rss_peak_reset(int pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/clear_refs", pid);
    FILE *f = fopen(path, "w");
    if (f) {
        fputs("5", f);
        fclose(f);
    }
}

double written_bytes(int pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/io", pid);
    return field_kb(path, "wchar:");
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
