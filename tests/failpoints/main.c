/* The table of failpoints, tried on real hosts.
 *
 *   failpoints --godwit PROGRAM --plugin FILE --newer FILE [--lanes N] [--every K] [--only TEXT]
 *              [--list]
 *
 * A case is a row of table.def with one action of its place. Each lane is a process with hosts of
 * its own and takes every N-th case. --every K: a K-th of the cases, evenly spread; --only: those
 * whose name has TEXT in it. Output is TAP; the end is 0 when no case has failed, no place is
 * without a row, and no row without a place. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "persistence/failpoint.h"
#include "tests/failpoints/stories.h"

#define CASES_MAX 2048
#define CASE_MS   30000

struct row {
    const char *place, *story;
    enum role host;
    const char *also, *first;
    enum role other;
    const char *items;
    unsigned pass;
};
static const struct row rows[] = {
#define ROW(place, story, host, ...) {place, story, host, __VA_ARGS__},
#define ELSEWHERE(place, file)
#include "tests/failpoints/table.def"
};
static const struct {
    const char *place, *file;
} elsewhere[] = {
#define ROW(place, story, host, ...)
#define ELSEWHERE(place, file) {place, file},
#include "tests/failpoints/table.def"
};
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

struct one {
    const struct row *row;
    char place[48];
    const char *action;
    char name[160];
};
static struct one cases[CASES_MAX];
static size_t case_count;

static const char *const roles[] = {"source", "destination", "home"};
static const struct {
    const char *name;
    fail_action is;
} actions[] = {{"kill", FAIL_KILL},     {"stop", FAIL_STOP}, {"eio", FAIL_EIO},
               {"enospc", FAIL_ENOSPC}, {"lost", FAIL_LOST}, {"twice", FAIL_TWICE}};

struct options {
    const char *program, *plugin, *newer, *only;
    long lanes, every;
    bool list;
};

/* ---- cases ---- */

/* A row of a transaction is for both of its sides. */
static bool covers(const char *row, const char *place)
{
    size_t n = strlen(row);
    return strncmp(row, place, n) == 0 &&
           (!place[n] || strcmp(place + n, ".before") == 0 || strcmp(place + n, ".after") == 0);
}

static void add_case(const struct row *r, const char *place, const char *action)
{
    struct one *c = &cases[case_count++];
    if (case_count == CASES_MAX) {
        fprintf(stderr, "failpoints: more cases than there is room for\n");
        exit(2);
    }
    c->row = r;
    c->action = action;
    snprintf(c->place, sizeof c->place, "%s", place);
    snprintf(c->name, sizeof c->name, "%s %s at the %s, %s", place, action, roles[r->host],
             r->story);
}

/* How many rows there are for a place. */
static size_t add_cases(const char *place, unsigned may, bool used[COUNT(rows)])
{
    size_t found = 0;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (!covers(rows[i].place, place)) {
            continue;
        }
        used[i] = true;
        found++;
        for (size_t k = 0; k < COUNT(actions); k++) {
            if (may & actions[k].is) {
                add_case(&rows[i], place, actions[k].name);
            }
        }
    }
    for (size_t i = 0; i < COUNT(elsewhere); i++) {
        found += covers(elsewhere[i].place, place) && access(elsewhere[i].file, R_OK) == 0;
    }
    return found;
}

/* False: the table has a hole. */
static bool gather(void)
{
    bool used[COUNT(rows)] = {false}, whole = true;
    for (unsigned at = 0; at < FAIL_COUNT; at++) {
        char room[48];
        unsigned may;
        const char *place = failpoint_name(at, room, &may);
        if (place && add_cases(place, may, used) == 0) {
            printf("not ok - %s: no row in tests/failpoints/table.def\n", place);
            whole = false;
        }
    }
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (!used[i] || !story_find(rows[i].story)) {
            printf("not ok - %s, %s: a row without a place or story\n", rows[i].place,
                   rows[i].story);
            whole = false;
        }
    }
    return whole;
}

/* ---- one case ---- */

static void arm(struct world *w, const struct one *c)
{
    static char items[256], then[200]; /* borrowed by the world */
    const struct row *r = c->row;
    w->victim = r->host;
    snprintf(w->place, sizeof w->place, "failpoint name=%s ", c->place);
    snprintf(then, sizeof then, "%s:%u:%s", c->place, r->pass ? r->pass : 1, c->action);
    if (r->items) {
        world_arm(w, r->other, r->items);
    }
    if (r->first) {
        world_arm(w, r->host, r->first);
        w->hosts[r->host].then = then;
    } else {
        snprintf(items, sizeof items, "%s%s%s", r->also ? r->also : "", r->also ? "," : "", then);
        world_arm(w, r->host, items);
    }
}

static void wait_fired(struct world *w)
{
    while (world_is_fine(w) && !world_fired(w)) {
        if (world_now_ms() > w->until_ms) {
            world_fault(w, "it has never fired");
        }
        world_pause(w, 10);
    }
}

static void run_case(struct world *w, const struct one *c)
{
    struct tale t = {.topics = -1, .ticks = -1, .downs = -1};
    const struct story *s = story_find(c->row->story);
    world_begin(w, CASE_MS);
    if (s->before) {
        s->before(w, &t);
    }
    arm(w, c);
    s->act(w, &t);
    wait_fired(w);
    world_heal(w);
    story_check(w, &t);
}

/* Every lane-th of the chosen cases. The number of those that failed. */
static int run_lane(const struct options *o, const struct one *const *chosen, size_t n, long lane)
{
    static struct world w;
    bool open = false;
    int failed = 0;
    for (size_t i = (size_t)lane; i < n; i += (size_t)o->lanes) {
        int64_t begun = world_now_ms();
        if (!open) {
            open = true;
            (void)world_open(&w, o->program, o->plugin, o->newer);
        }
        if (world_is_fine(&w)) {
            run_case(&w, chosen[i]);
        }
        bool ok = world_is_fine(&w);
        printf("%s %zu - %s (%lld ms)\n", ok ? "ok" : "not ok", i + 1, chosen[i]->name,
               (long long)(world_now_ms() - begun));
        if (!ok) {
            failed++;
            printf("# %s\n", w.problem);
            world_show_logs(&w);
            world_close(&w);
            open = false;
        }
        fflush(stdout);
    }
    if (open) {
        world_close(&w);
    }
    return failed;
}

/* ---- all of them ---- */

static int run_lanes(const struct options *o, const struct one *const *chosen, size_t n)
{
    int failed = 0;
    pid_t parent = getpid();
    fflush(stdout);
    for (long lane = 0; lane < o->lanes; lane++) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(getppid() == parent && run_lane(o, chosen, n, lane) == 0 ? 0 : 1);
        }
        failed += pid < 0;
    }
    int status;
    while (wait(&status) > 0) {
        failed += status != 0;
    }
    return failed;
}

static long number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || n < 1 || n > 1000) {
        fprintf(stderr, "failpoints: \"%s\" is no number from 1 to 1000\n", text);
        exit(2);
    }
    return n;
}

static struct options read_options(char **argv)
{
    struct options o = {.lanes = 1, .every = 1, .only = ""};
    for (size_t i = 1; argv[i]; i++) {
        const char *value = argv[i + 1] ? argv[i + 1] : "";
        const char **text = strcmp(argv[i], "--godwit") == 0   ? &o.program
                            : strcmp(argv[i], "--plugin") == 0 ? &o.plugin
                            : strcmp(argv[i], "--newer") == 0  ? &o.newer
                            : strcmp(argv[i], "--only") == 0   ? &o.only
                                                               : NULL;
        long *n = strcmp(argv[i], "--lanes") == 0   ? &o.lanes
                  : strcmp(argv[i], "--every") == 0 ? &o.every
                                                    : NULL;
        o.list |= strcmp(argv[i], "--list") == 0;
        if (text) {
            *text = value;
        } else if (n) {
            *n = number(value);
        }
        i += (text || n) && argv[i + 1];
    }
    if (!o.list && (!o.program || !o.plugin || !o.newer)) {
        fprintf(stderr, "failpoints: --godwit, --plugin and --newer say what to run\n");
        exit(2);
    }
    return o;
}

int main(int argc, char **argv)
{
    static const struct one *chosen[CASES_MAX];
    size_t n = 0, matched = 0;
    (void)argc;
    struct options o = read_options(argv);
    bool whole = gather();
    for (size_t i = 0; i < case_count; i++) {
        if (strstr(cases[i].name, o.only) && matched++ % (size_t)o.every == 0) {
            chosen[n++] = &cases[i];
        }
    }
    if (o.list) {
        for (size_t i = 0; i < n; i++) {
            printf("%s\n", chosen[i]->name);
        }
        return whole ? 0 : 1;
    }
    printf("1..%zu\n", n);
    return run_lanes(&o, chosen, n) == 0 && whole && n > 0 ? 0 : 1;
}
