/* What befalls the hosts and links of a random life. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"
#include "tests/mesh/internal.h"
#include "tests/mesh/world.h"

#define YEAR_MS       31536000000LL
#define RUNNER_DEATHS 2 /* of a host: a message that ends its runner three times is given up */

/* ---- a host comes back ---- */
struct back {
    struct world *w;
    size_t host;
};

static void host_back(void *arg)
{
    struct back b = *(struct back *)arg;
    free(arg);
    if (!mesh_alive(b.w->m, b.host)) {
        fences_look(b.w, b.host);
        mesh_start(b.w->m, b.host);
    }
}

static void back_later(struct world *w, size_t host)
{
    struct back *b = calloc(1, sizeof *b);
    gw_assert(b);
    *b = (struct back){w, host};
    int64_t ms = mesh_random(w->m, 4) ? 1 + (int64_t)mesh_random(w->m, 500)
                                      : (int64_t)mesh_random(w->m, 60000);
    mesh_at(w->m, ms * 1000, host_back, free, b);
}

static void host_dies(void *arg)
{
    struct back b = *(struct back *)arg;
    free(arg);
    if (mesh_alive(b.w->m, b.host)) {
        mesh_crash(b.w->m, b.host);
        back_later(b.w, b.host);
    }
}

static void runner_dies(void *arg)
{
    struct back b = *(struct back *)arg;
    free(arg);
    mesh_crash_runner(b.w->m, b.host);
}

/* ---- at frames and commits ---- */

struct touching {
    struct world *w;
    char path[256];
    uint64_t content;
};

/* Somebody else writes to a file of theirs. */
static void touch(void *arg, const char *path, uint64_t content)
{
    struct touching *t = arg;
    if (strncmp(path, "/data/", 6) == 0 && mesh_random(t->w->m, 3) == 0) {
        (void)snprintf(t->path, sizeof t->path, "%s", path);
        t->content = content + 1;
    }
}

static void touch_one(struct world *w, size_t host)
{
    struct touching t = {.w = w};
    mesh_files_each(w->m, host, touch, &t);
    if (t.path[0]) {
        mesh_file_put(w->m, host, t.path, t.content);
    }
}

static mesh_fate fate_of_frame(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct world *w = arg;
    bool repeats = frame->kind >= FRAME_OFFER && frame->kind <= FRAME_LOCATE;
    bool hard = repeats && world_has(w, TROUBLE_FRAMES);
    if (frame->kind == FRAME_COMMIT && mesh_random(w->m, 6) == 0) {
        touch_one(w, from);
    }
    if (mesh_random(w->m, 10000) >= w->often * (hard ? 3 : 1)) {
        return FATE_PASS;
    }
    /* A link is a stream: it loses, doubles, delays no frame by itself. The six requests of moves
     * are made for a harder life and get it. */
    if (hard && mesh_random(w->m, 4)) {
        static const mesh_fate fates[] = {FATE_LOSE, FATE_TWICE, FATE_LATE};
        return fates[mesh_random(w->m, 3)];
    }
    if (world_has(w, TROUBLE_CRASHES) && mesh_random(w->m, 3) == 0) {
        bool sender = mesh_random(w->m, 2);
        back_later(w, sender ? from : to);
        return sender                 ? FATE_CRASH_FROM
               : mesh_random(w->m, 2) ? FATE_CRASH_TO
                                      : FATE_CRASH_TO_AFTER;
    }
    if (world_has(w, TROUBLE_MUTES) && mesh_random(w->m, 4) == 0) {
        mesh_mute(w->m, from, to, mesh_between(w->m, 1, 60000));
        return FATE_PASS;
    }
    if (world_has(w, TROUBLE_CUTS)) {
        return mesh_random(w->m, 2) ? FATE_CUT : FATE_CUT_AFTER;
    }
    return FATE_PASS;
}

static commit_fate fate_of_commit(void *arg, size_t host)
{
    struct world *w = arg;
    if (w->asleep[host]) {
        w->asleep[host] = false;
        return COMMIT_SLOW;
    }
    if (mesh_random(w->m, 10000) < w->full) { /* this one alone: there is room again at once */
        if (!mesh_ready(w->m, host)) {
            back_later(w, host);
        }
        return COMMIT_FAIL;
    }
    if (mesh_random(w->m, 10000) >= w->often) {
        return COMMIT_PASS;
    }
    if (world_has(w, TROUBLE_DISKS) && mesh_random(w->m, 2)) {
        static const commit_fate fates[] = {COMMIT_FAIL, COMMIT_SLOW, COMMIT_IO_ERROR};
        commit_fate fate = fates[mesh_random(w->m, 3)];
        if (fate != COMMIT_SLOW) {
            back_later(w, host); /* one that only starts may end by a failure, too */
        }
        return fate;
    }
    if (world_has(w, TROUBLE_CRASHES)) {
        back_later(w, host);
        return mesh_random(w->m, 2) ? COMMIT_CRASH_BEFORE : COMMIT_CRASH_AFTER;
    }
    return COMMIT_PASS;
}

/* A runner dies of what it was given to run, perhaps after many seconds. */
static bool fate_of_run(void *arg, size_t host, const struct frame *frame)
{
    struct world *w = arg;
    if (frame->kind != FRAME_RUN || !world_has(w, TROUBLE_RUNNERS) ||
        w->runner_deaths[host] >= RUNNER_DEATHS || mesh_random(w->m, 100)) {
        return false;
    }
    struct back *b = calloc(1, sizeof *b);
    gw_assert(b);
    *b = (struct back){w, host};
    w->runner_deaths[host]++;
    mesh_at(w->m, mesh_between(w->m, 1, mesh_random(w->m, 3) ? 300 : 9000000), runner_dies, free,
            b);
    return true;
}

/* Links of files break as others do, disks are full, and somebody writes behind the reader's back.
 */
static file_fate fate_of_file(void *arg, size_t from, size_t to, const char *path)
{
    struct world *w = arg;
    (void)path;
    if (mesh_random(w->m, 1000) >= 4 * (uint64_t)w->often) {
        return FILE_PASS;
    }
    if (world_has(w, TROUBLE_CRASHES) && mesh_random(w->m, 2)) {
        struct back *b = calloc(1, sizeof *b);
        gw_assert(b);
        *b = (struct back){w, mesh_random(w->m, 2) ? from : to};
        mesh_at(w->m, mesh_between(w->m, 0, 3000), host_dies, free, b);
        return FILE_PASS;
    }
    return world_has(w, TROUBLE_DISKS) && mesh_random(w->m, 2)  ? FILE_FULL
           : world_has(w, TROUBLE_CUTS) && mesh_random(w->m, 2) ? FILE_BREAK
                                                                : FILE_CHANGE;
}

void faults_begin(struct world *w)
{
    static const unsigned often[] = {0, 10, 40, 150}, full[] = {0, 100, 400, 1500};
    w->often = often[mesh_random(w->m, 4)];
    w->full = world_has(w, TROUBLE_DISKS) ? full[mesh_random(w->m, 4)] : 0;
    mesh_on_frame(w->m, fate_of_frame, w);
    mesh_on_commit(w->m, fate_of_commit, w);
    mesh_on_runner(w->m, fate_of_run, w);
    mesh_on_file(w->m, fate_of_file, w);
    for (size_t i = 0; i < w->hosts; i++) {
        fences_look(w, i);
    }
}

/* ---- at any moment ---- */

static void crash(struct world *w, size_t host)
{
    if (mesh_alive(w->m, host)) {
        mesh_crash(w->m, host);
        back_later(w, host);
    }
}

static void stop(struct world *w, size_t host)
{
    const struct vhost *h = &w->m->hosts[host];
    if (mesh_alive(w->m, host) && mesh_ready(w->m, host) && !mesh_stands(h) &&
        h->full_until_us <= mesh_now_us(w->m)) {
        if (mesh_random(w->m, 2)) { /* it takes its time, while agents are on their way to it */
            w->asleep[host] = true;
            deeds_rush(w, host);
            mesh_run(w->m, (int64_t)mesh_random(w->m, 4));
        }
        mesh_stop(w->m, host);
        back_later(w, host);
    }
}

static void join_all(void *arg)
{
    struct world *w = arg;
    for (size_t i = 0; i < w->hosts; i++) {
        for (size_t j = i + 1; j < w->hosts; j++) {
            mesh_part(w->m, i, j, false);
        }
    }
}

/* A pair, or all from one group of hosts to the others. */
static void part(struct world *w)
{
    size_t a = world_host(w), b = world_host(w);
    uint64_t group = mesh_random(w->m, 3) == 0 ? mesh_random(w->m, 1u << w->hosts) : 0;
    for (size_t i = 0; i < w->hosts; i++) {
        for (size_t j = i + 1; j < w->hosts; j++) {
            bool split = (group >> i & 1) != (group >> j & 1);
            if (split || (!group && ((i == a && j == b) || (i == b && j == a)))) {
                mesh_part(w->m, i, j, true);
            }
        }
    }
    mesh_at(w->m, mesh_between(w->m, 1, 60000000), join_all, NULL, w);
}

/* One direction, or all that one host sends or hears. */
static void mute(struct world *w)
{
    size_t a = world_host(w), b = world_host(w);
    int64_t ms = mesh_random(w->m, 2) ? mesh_between(w->m, 1, 3000) : mesh_between(w->m, 1, 60000);
    uint64_t form = mesh_random(w->m, 4);
    for (size_t i = 0; i < w->hosts; i++) {
        if (i == a || (form >= 2 && i != b)) {
            continue;
        }
        if (form % 2) {
            mesh_mute(w->m, a, i, ms);
        } else {
            mesh_mute(w->m, i, a, ms);
        }
    }
}

static void pause_host(struct world *w, size_t host)
{
    if (mesh_alive(w->m, host)) {
        int64_t ms = mesh_random(w->m, 2) ? 60000 : mesh_between(w->m, 1, 20000);
        if (mesh_random(w->m, 4) == 0) { /* moves to it are given up before it hears of them */
            deeds_rush(w, host);
            ms = mesh_between(w->m, 31000, 44000);
        }
        mesh_pause(w->m, host, ms, mesh_random(w->m, 3) == 0);
    }
}

static void trouble_disk(struct world *w, size_t host)
{
    w->asleep[host] = mesh_random(w->m, 4) == 0;
    mesh_fill_disk(w->m, host,
                   mesh_random(w->m, 3) ? mesh_between(w->m, 1, 2000)
                                        : mesh_between(w->m, 1, 30000));
    if (!mesh_ready(w->m, host)) {
        back_later(w, host);
    }
}

static void kill_runner(struct world *w, size_t host)
{
    if (w->runner_deaths[host] < RUNNER_DEATHS) {
        w->runner_deaths[host]++;
        mesh_crash_runner(w->m, host);
    }
}

/* Of those that this life has. */
void fault_any(struct world *w)
{
    size_t host = world_host(w);
    unsigned sort = 1u << mesh_random(w->m, TROUBLE_SORTS);
    fences_look(w, host);
    if (!world_has(w, sort)) {
        return;
    }
    switch (sort) {
    case TROUBLE_CUTS:
        if (host > 0) {
            mesh_cut(w->m, host, mesh_random(w->m, host));
        }
        break;
    case TROUBLE_PARTS: part(w); break;
    case TROUBLE_MUTES: mute(w); break;
    case TROUBLE_PAUSES: pause_host(w, host); break;
    case TROUBLE_CLOCKS:
        mesh_set_clock(w->m, host, mesh_between(w->m, -10 * YEAR_MS, 10 * YEAR_MS));
        if (world_has(w, TROUBLE_DISKS) && mesh_random(w->m, 2)) {
            trouble_disk(w, host);
        }
        break;
    case TROUBLE_CRASHES: crash(w, host); break;
    case TROUBLE_DISKS: trouble_disk(w, host); break;
    case TROUBLE_RUNNERS: kill_runner(w, host); break;
    case TROUBLE_STOPS: stop(w, host); break;
    default: break;
    }
}
