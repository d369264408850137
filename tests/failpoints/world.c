#include "tests/failpoints/world.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "protocol/json.h"

#define ATTEMPT_MS   3000
#define SLICE_MS     5
#define NOTICE_MS    40
#define LOOK_MS      1000
#define EXIT_REFUSED 6 /* a port or a name that is in use */

int64_t world_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void world_fault(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (w->problem[0]) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(w->problem, sizeof w->problem, fmt, ap);
    va_end(ap);
}

bool world_is_fine(const struct world *w)
{
    return !w->problem[0];
}

static bool in_time(struct world *w, const char *what)
{
    if (world_is_fine(w) && world_now_ms() >= w->until_ms) {
        world_fault(w, "%s: not in time (%s)", what, w->last);
    }
    return world_is_fine(w);
}

static bool runs(const struct world *w, size_t host)
{
    return w->mesh.hosts[host].pid > 0 && w->mesh.hosts[host].ready < 0 &&
           w->hosts[host].stopped_ms == 0;
}

/* ---- looking after the hosts ---- */

static void look(struct world *w);

static void begin_host(struct world *w, size_t host)
{
    struct world_host *h = &w->hosts[host];
    struct gw_error why;
    snprintf(h->fail, sizeof h->fail, "%s%s%s", SPEED_TEXT, h->then ? "," : "",
             h->then ? h->then : "");
    h->items = h->then;
    h->then = NULL;
    h->lives++;
    w->mesh.hosts[host].fail = h->fail;
    if (mesh_begin(&w->mesh, host, &why) != GW_OK) {
        world_fault(w, "%s", why.text);
    }
}

/* Signals and ends that a failpoint or the story has brought about; anything else is a fault. */
static void ended(struct world *w, size_t host, int status)
{
    struct world_host *h = &w->hosts[host];
    const char *name = w->mesh.hosts[host].name;
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    bool full = strstr(h->fail, "enospc") && w->mesh.hosts[host].ready >= 0; /* it cannot start */
    bool gave_up =
        WIFEXITED(status) && WEXITSTATUS(status) == 1 && (full || strstr(h->fail, "eio"));
    bool orderly = WIFEXITED(status) && WEXITSTATUS(status) == 0 && h->sleeps;
    /* While it was down, its port went to a connection of some other process: it tries again. */
    bool waits =
        WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED && w->mesh.hosts[host].ready >= 0;
    if (waits) {
        h->then = h->items;
    } else if (!killed && !gave_up && !orderly) {
        world_fault(w, "host \"%s\" has ended, status 0x%x", name, (unsigned)status);
    }
    w->mesh.hosts[host].pid = 0;
    mesh_hang_up(&w->mesh, host);
    h->stopped_ms = 0;
    h->sleeps = false;
    h->deaths++;
}

/* Whether both others take it for lost. */
static bool is_noticed(struct world *w, size_t host)
{
    struct world_host *h = &w->hosts[host];
    if (world_now_ms() - h->asked_ms < NOTICE_MS) {
        return false;
    }
    h->asked_ms = world_now_ms();
    for (unsigned i = 0; i < MESH_HOSTS; i++) {
        gw_value hosts = gw_nil();
        bool lost = i == host || !runs(w, i);
        if (!lost && world_try(w, (enum role)i, &hosts, "hosts", "{}") == GW_OK) {
            const gw_value *list = gw_map_get(&hosts, "hosts");
            for (size_t k = 0; list && k < list->list.n; k++) {
                const gw_value *one = &list->list.items[k];
                lost |= strcmp(gw_map_str(one, "name", ""), w->mesh.hosts[host].name) == 0 &&
                        strcmp(gw_map_str(one, "state", ""), "alive") != 0;
            }
        }
        gw_value_free(&hosts);
        if (!lost) {
            return false;
        }
    }
    return true;
}

static void look_at(struct world *w, size_t host)
{
    struct world_host *h = &w->hosts[host];
    struct mesh_host *m = &w->mesh.hosts[host];
    int status;
    if (m->pid == 0) {
        if (!h->hold && h->lives > 0) {
            begin_host(w, host);
        }
        return;
    }
    if (waitpid(m->pid, &status, WNOHANG | WUNTRACED) == m->pid) {
        if (WIFSTOPPED(status)) {
            h->stopped_ms = world_now_ms();
        } else {
            ended(w, host, status);
            return;
        }
    }
    if (h->stopped_ms > 0 && is_noticed(w, host)) {
        mesh_pause(&w->mesh, host, false);
        h->stopped_ms = 0;
    }
    if (m->ready >= 0 && h->stopped_ms == 0) {
        (void)!mesh_is_ready(&w->mesh, host, 0); /* one that has ended is seen above */
    }
}

static void look(struct world *w)
{
    if (w->looking) {
        return;
    }
    w->looking = true;
    for (size_t i = 0; i < MESH_HOSTS && world_is_fine(w); i++) {
        look_at(w, i);
    }
    w->looking = false;
}

void world_pause(struct world *w, int64_t ms)
{
    int64_t until = world_now_ms() + ms;
    struct timespec slice = {.tv_nsec = SLICE_MS * 1000000};
    do {
        look(w);
        nanosleep(&slice, NULL);
    } while (world_is_fine(w) && world_now_ms() < until);
}

/* ---- asking ---- */

static gw_err read_args(gw_value *ret, const char *fmt, va_list ap)
{
    char text[1024];
    int n = vsnprintf(text, sizeof text, fmt, ap);
    if (n < 0 || (size_t)n >= sizeof text) {
        return GW_ETOO_BIG;
    }
    return json_parse(text, (size_t)n, ret, NULL);
}

/* The client is gone with its host. */
static bool is_same(const struct world *w, enum role via, unsigned lives)
{
    return w->hosts[via].lives == lives && runs(w, via);
}

static gw_err attempt(struct world *w, enum role via, const char *op, const gw_value *args,
                      gw_value *ret)
{
    struct gw_client *client;
    struct gw_error why = {0};
    gw_ticket ticket = 0;
    unsigned lives = w->hosts[via].lives;
    int64_t until = world_now_ms() + (w->looking ? LOOK_MS : ATTEMPT_MS);
    if (!runs(w, via)) {
        snprintf(w->last, sizeof w->last, "host \"%s\" is down", w->mesh.hosts[via].name);
        return GW_EUNREACHABLE;
    }
    gw_err err = mesh_client(&w->mesh, via, &client, &why);
    err = err ? err : gw_client_start(client, op, args, &ticket, &why);
    gw_ticket open = ticket;
    while (err == GW_OK) {
        ticket = open;
        err = gw_client_wait(client, &ticket, SLICE_MS, ret, &why);
        if (ticket != 0 || err != GW_ETIMEOUT) {
            break;
        }
        look(w);
        if (!is_same(w, via, lives) || !world_is_fine(w)) {
            return GW_EUNREACHABLE;
        }
        err = GW_OK;
        if (world_now_ms() > until) {
            gw_client_cancel(client, open);
            err = gw_fail(&why, GW_ETIMEOUT, "no answer in time");
        }
    }
    if (err == GW_EUNREACHABLE && ticket == 0) {
        mesh_hang_up(&w->mesh, via);
    }
    if (err != GW_OK) {
        snprintf(w->last, sizeof w->last, "%s: %s", gw_err_name(err), why.text);
    }
    return err;
}

static gw_err try_values(struct world *w, enum role via, gw_value *ret, const char *op,
                         const char *fmt, va_list ap)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    if (read_args(&args, fmt, ap) != GW_OK) {
        world_fault(w, "%s: \"%s\" is no JSON", op, fmt);
        return GW_EARG;
    }
    return attempt(w, via, op, &args, ret);
}

gw_err world_try(struct world *w, enum role via, gw_value *ret, const char *op, const char *fmt,
                 ...)
{
    va_list ap;
    va_start(ap, fmt);
    gw_err err = try_values(w, via, ret, op, fmt, ap);
    va_end(ap);
    return err;
}

void world_ask(struct world *w, enum role via, gw_err spare, gw_value *ret, const char *op,
               const char *fmt, ...)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    va_list ap;
    va_start(ap, fmt);
    if (read_args(&args, fmt, ap) != GW_OK) {
        world_fault(w, "%s: \"%s\" is no JSON", op, fmt);
    }
    va_end(ap);
    while (in_time(w, op)) {
        gw_err err = attempt(w, via, op, &args, ret);
        if (err == GW_OK || err == spare) {
            return;
        }
        world_pause(w, 4 * SLICE_MS);
    }
}

/* 0: it has not left. */
static gw_ticket begin(struct world *w, enum role via, const char *op, const char *fmt, va_list ap)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    struct gw_client *client;
    gw_ticket ticket = 0;
    if (read_args(&args, fmt, ap) != GW_OK) {
        world_fault(w, "%s: \"%s\" is no JSON", op, fmt);
    } else if (runs(w, via) && mesh_client(&w->mesh, via, &client, NULL) == GW_OK &&
               gw_client_start(client, op, &args, &ticket, NULL) == GW_OK &&
               gw_client_flush(client, LOOK_MS, NULL) != GW_OK) {
        ticket = 0;
    }
    return ticket;
}

void world_start(struct world *w, enum role via, const char *op, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)begin(w, via, op, fmt, ap);
    va_end(ap);
}

void world_cancel(struct world *w, enum role via, const char *op, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    gw_ticket ticket = begin(w, via, op, fmt, ap);
    va_end(ap);
    if (ticket) {
        gw_client_cancel(w->mesh.hosts[via].client, ticket);
        (void)!gw_client_flush(w->mesh.hosts[via].client, LOOK_MS, NULL);
    }
}

/* ---- what all hosts say ---- */

static bool is_linked(struct world *w, size_t host)
{
    gw_value hosts = gw_nil();
    int alive = 0;
    if (world_try(w, (enum role)host, &hosts, "hosts", "{}") == GW_OK) {
        const gw_value *list = gw_map_get(&hosts, "hosts");
        for (size_t i = 0; list && i < list->list.n; i++) {
            alive += strcmp(gw_map_str(&list->list.items[i], "state", ""), "alive") == 0;
        }
        snprintf(w->last, sizeof w->last, "%d alive", alive);
    }
    gw_value_free(&hosts);
    return alive == MESH_HOSTS;
}

static bool is_still(struct world *w, size_t host)
{
    gw_value moves = gw_nil();
    bool none = false;
    if (world_try(w, (enum role)host, &moves, "moves", "{}") == GW_OK) {
        const gw_value *list = gw_map_get(&moves, "moves");
        none = list && list->kind == GW_LIST && list->list.n == 0;
        if (!none) {
            snprintf(w->last, sizeof w->last, "a move is open at \"%s\"", w->mesh.hosts[host].name);
        }
    }
    gw_value_free(&moves);
    return none;
}

static void wait_for(struct world *w, const char *what, bool (*is)(struct world *w, size_t host))
{
    for (size_t host = 0; host < MESH_HOSTS; host++) {
        while (in_time(w, what) && !is(w, host)) {
            world_pause(w, 2 * SLICE_MS);
        }
    }
}

int world_count(struct world *w, const char *agent)
{
    int count = 0;
    for (size_t host = 0; host < MESH_HOSTS; host++) {
        GW_AUTO(gw_value_free) gw_value agents = gw_nil();
        world_ask(w, (enum role)host, GW_OK, &agents, "agents", "{\"limit\":1000}");
        const gw_value *list = gw_map_get(&agents, "agents");
        for (size_t i = 0; list && i < list->list.n; i++) {
            count += strcmp(gw_map_str(&list->list.items[i], "agent", ""), agent) == 0;
        }
    }
    return count;
}

/* ---- a case ---- */

static void log_path(const struct world *w, size_t host, char ret[300])
{
    snprintf(ret, 300, "%s/%s.log", w->mesh.home, w->mesh.hosts[host].name);
}

void world_begin(struct world *w, int64_t ms)
{
    w->until_ms = world_now_ms() + ms;
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        char path[300];
        log_path(w, i, path);
        FILE *f = fopen(path, "r");
        w->hosts[i].log_at = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : 0;
        if (f) {
            fclose(f);
        }
        w->hosts[i].deaths = 0;
    }
    wait_for(w, "links before it begins", is_linked);
}

void world_kill(struct world *w, enum role host)
{
    mesh_kill(&w->mesh, host);
    w->hosts[host].stopped_ms = 0;
}

void world_arm(struct world *w, enum role host, const char *items)
{
    world_kill(w, host);
    w->hosts[host].then = items;
    look(w);
    wait_for(w, "links of the host that is to fail", is_linked);
}

void world_restart(struct world *w, enum role host)
{
    unsigned lives = w->hosts[host].lives;
    w->hosts[host].sleeps = true;
    if (w->mesh.hosts[host].pid > 0) {
        kill(w->mesh.hosts[host].pid, SIGTERM);
    }
    while (in_time(w, "an orderly stop") && !(w->hosts[host].lives > lives && runs(w, host))) {
        world_pause(w, SLICE_MS);
    }
}

void world_heal(struct world *w)
{
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        w->hosts[i].hold = false;
        w->hosts[i].then = NULL;
        if (strchr(w->hosts[i].fail, '*')) {
            world_kill(w, (enum role)i);
        }
    }
    wait_for(w, "links in the end", is_linked);
    wait_for(w, "the end of moves", is_still);
}

bool world_fired(struct world *w)
{
    char path[300], line[1024];
    bool found = false;
    log_path(w, w->victim, path);
    FILE *f = fopen(path, "r");
    if (f && fseek(f, w->hosts[w->victim].log_at, SEEK_SET) == 0) {
        while (!found && fgets(line, sizeof line, f)) {
            found = strstr(line, w->place) != NULL;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

void world_show_logs(struct world *w)
{
    char path[300], line[1024];
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        log_path(w, i, path);
        FILE *f = fopen(path, "r");
        if (f && fseek(f, w->hosts[i].log_at, SEEK_SET) == 0) {
            while (fgets(line, sizeof line, f)) {
                printf("#   %s", line);
            }
        }
        if (f) {
            fclose(f);
        }
    }
}

bool world_open(struct world *w, const char *program, const char *plugin, const char *newer)
{
    struct gw_error why;
    memset(w, 0, sizeof *w);
    w->mesh.program = program;
    for (size_t i = 0; i < MESH_HOSTS; i++) {
        w->mesh.hosts[i].plugin = i == DEST ? newer : plugin;
        w->mesh.hosts[i].fail = SPEED_TEXT;
        w->hosts[i].lives = 1;
    }
    if (mesh_open(&w->mesh, &why) != GW_OK) {
        world_fault(w, "%s", why.text);
    }
    return world_is_fine(w);
}

void world_close(struct world *w)
{
    mesh_close(&w->mesh, false);
}
