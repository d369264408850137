/* Time, chance and life of the virtual mesh. */
#include "tests/mesh/internal.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>
#include <xxhash.h>

#include "host/core/op.h"
#include "protocol/base/log.h"

/* --- chance: xoshiro256**, filled by splitmix64 --- */
static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void rng_seed(uint64_t rng[4], uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        rng[i] = splitmix(&seed);
    }
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_next(uint64_t rng[4])
{
    uint64_t result = rotate(rng[1] * 5, 7) * 9;
    uint64_t t = rng[1] << 17;
    rng[2] ^= rng[0];
    rng[3] ^= rng[1];
    rng[1] ^= rng[2];
    rng[0] ^= rng[3];
    rng[2] ^= t;
    rng[3] = rotate(rng[3], 45);
    return result;
}

uint64_t mesh_random(struct mesh *m, uint64_t n)
{
    return rng_next(m->rng) % n;
}

int64_t mesh_between(struct mesh *m, int64_t low, int64_t high)
{
    return low + (int64_t)mesh_random(m, (uint64_t)(high - low) + 1);
}

/* libsodium draws its keys and nonces from here: a run under a seed repeats itself to the byte. */
static uint64_t sodium_rng[4];

static const char *seeded_name(void)
{
    return "seeded";
}
static uint32_t seeded_random(void)
{
    return (uint32_t)(rng_next(sodium_rng) >> 32);
}
static void seeded_buf(void *const buf, const size_t size)
{
    uint8_t *p = buf;
    for (size_t at = 0; at < size;) {
        uint64_t r = rng_next(sodium_rng);
        size_t n = size - at < sizeof r ? size - at : sizeof r;
        memcpy(p + at, &r, n);
        at += n;
    }
}
static struct randombytes_implementation seeded = {
    .implementation_name = seeded_name, .random = seeded_random, .buf = seeded_buf};

/* --- the queue: a binary heap by (time, number) --- */
#define IN_TIME (1ULL << 63) /* in the number of what was not put off */

static bool earlier(const struct mesh_event *a, const struct mesh_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

static void swap(struct mesh_event *a, struct mesh_event *b)
{
    struct mesh_event t = *a;
    *a = *b;
    *b = t;
}

static void sift_up(struct mesh *m, size_t i)
{
    while (i > 0 && earlier(&m->heap[i], &m->heap[(i - 1) / 2])) {
        swap(&m->heap[i], &m->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

static void insert(struct mesh *m, struct mesh_event e)
{
    if (m->heap_count == m->heap_cap) {
        m->heap_cap = m->heap_cap ? m->heap_cap * 2 : 256;
        m->heap = realloc(m->heap, m->heap_cap * sizeof *m->heap);
        gw_assert(m->heap);
    }
    size_t i = m->heap_count++;
    m->heap[i] = e;
    sift_up(m, i);
}

void mesh_push(struct mesh *m, struct vhost *host, int64_t at_us, void (*run)(void *arg),
               void (*drop)(void *arg), void *arg)
{
    insert(m, (struct mesh_event){.at_us = at_us < m->now_us ? m->now_us : at_us,
                                  .number = IN_TIME + ++m->next_number,
                                  .host = host,
                                  .life = host ? host->life : 0,
                                  .run = run,
                                  .drop = drop,
                                  .arg = arg});
}

/* Until its host goes on: what waits keeps its order, and comes before all that is due only then.
 */
static void put_off(struct mesh *m, struct mesh_event e)
{
    e.at_us = e.host->stands_until_us;
    e.number = ++m->next_number;
    insert(m, e);
}

static struct mesh_event pop(struct mesh *m)
{
    struct mesh_event first = m->heap[0];
    m->heap[0] = m->heap[--m->heap_count];
    size_t i = 0;
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < m->heap_count; child++) {
            least = earlier(&m->heap[child], &m->heap[least]) ? child : least;
        }
        if (least == i) {
            return first;
        }
        swap(&m->heap[i], &m->heap[least]);
        i = least;
    }
}

static void **graves;
static size_t grave_count, grave_cap;

void mesh_bury(void *arg)
{
    if (grave_count == grave_cap) {
        grave_cap = grave_cap ? grave_cap * 2 : 64;
        graves = realloc(graves, grave_cap * sizeof *graves);
        gw_assert(graves);
    }
    graves[grave_count++] = arg;
}

/* --- figures --- */
static uint64_t figures[FIGURE_COUNT];

void mesh_figure_add(figure f)
{
    figures[f]++;
}

uint64_t mesh_figure(figure f)
{
    return figures[f];
}

const char *mesh_figure_name(figure f)
{
    static const char *const names[] = {
#define FIGURE_TEXT(id, text) text,
        FIGURES(FIGURE_TEXT)
#undef FIGURE_TEXT
    };
    return names[f];
}

void mesh_at(struct mesh *m, int64_t delay_us, void (*run)(void *arg), void (*drop)(void *arg),
             void *arg)
{
    mesh_push(m, NULL, m->now_us + delay_us, run, drop, arg);
}

bool mesh_step(struct mesh *m)
{
    if (m->heap_count == 0) {
        return false;
    }
    struct mesh_event e = pop(m);
    m->now_us = e.at_us;
    if (e.host && (e.life != e.host->life || e.host->dying)) {
        if (e.drop) {
            e.drop(e.arg);
        }
        return true;
    }
    if (e.host && mesh_stands(e.host)) {
        put_off(m, e);
        return true;
    }
    m->events++;
    figures[FIGURE_EVENTS]++;
    uint64_t mark[2] = {(uint64_t)e.at_us, e.host ? e.host->index : UINT64_MAX};
    m->digest = XXH64(mark, sizeof mark, m->digest);
    if (m->print) {
        log_name(e.host ? e.host->name : "mesh");
    }
    e.run(e.arg);
    if (e.host) {
        check_host(e.host);
    }
    return true;
}

bool mesh_run_until(struct mesh *m, bool (*want)(void *arg), void *arg, int64_t ms)
{
    int64_t end = m->now_us + ms * 1000;
    for (;;) {
        if (want && want(arg)) {
            return true;
        }
        if (m->heap_count == 0 || m->heap[0].at_us > end) {
            m->now_us = end;
            return false;
        }
        (void)mesh_step(m);
    }
}

void mesh_run(struct mesh *m, int64_t ms)
{
    (void)mesh_run_until(m, NULL, NULL, ms);
}

int64_t mesh_now_us(const struct mesh *m)
{
    return m->now_us;
}

/* --- the trace --- */
void mesh_note(struct mesh *m, const char *fmt, ...)
{
    char *line = m->trace[m->trace_count++ % TRACE_LINES];
    int at = snprintf(line, TRACE_LINE_BYTES, "%11.3f ms  ", (double)m->now_us / 1000);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line + at, TRACE_LINE_BYTES - (size_t)at, fmt, args);
    va_end(args);
    m->digest = XXH64(line, strlen(line), m->digest);
    if (m->print) {
        (void)fprintf(stderr, "%s\n", line);
    }
}

static void show(struct mesh *m)
{
    uint64_t first = m->trace_count > TRACE_LINES ? m->trace_count - TRACE_LINES : 0;
    for (uint64_t i = first; i < m->trace_count && !m->print; i++) {
        (void)fprintf(stderr, "%s\n", m->trace[i % TRACE_LINES]);
    }
    for (size_t i = 0; i < m->host_count; i++) {
        const struct vhost *h = &m->hosts[i];
        (void)fprintf(stderr, "%s: %s%s\n", h->name, h->node ? "up" : "down",
                      h->ready ? ", ready" : "");
        for (size_t v = 0; v < h->view_count; v++) {
            char id[GW_ID_TEXT];
            (void)fprintf(stderr, "    ..%s epoch %llu %s%s\n",
                          gw_id_text(&h->views[v].agent, id) + 20,
                          (unsigned long long)h->views[v].epoch, h->views[v].status,
                          h->views[v].runnable ? " (runnable)" : "");
        }
    }
}

/* The node ends by an assertion, or the sanitizer ends us: say under which seed. */
static struct mesh *in_use;
static struct sigaction before; /* us: a fuzzer keeps the input in its handler */

static void tell_abort(void)
{
    if (in_use) {
        show(in_use);
        (void)fprintf(stderr, "ABORTED under seed %llu at %.3f ms\n",
                      (unsigned long long)in_use->seed, (double)in_use->now_us / 1000);
    }
}

static void on_abort(int number, siginfo_t *info, void *context)
{
    tell_abort();
    (void)sigaction(number, &before, NULL);
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    }
}

static void watch_aborts(void)
{
    static bool watches;
    const struct sigaction ours = {.sa_sigaction = on_abort, .sa_flags = SA_SIGINFO};
    if (!watches) {
        (void)sigaction(SIGABRT, &ours, &before);
        watches = true;
    }
}

__attribute__((visibility("default"))) void __asan_on_error(void);
void __asan_on_error(void)
{
    tell_abort();
}

static bool has_failed;

void mesh_set_again(struct mesh *m, const char *command)
{
    (void)snprintf(m->again, sizeof m->again, "%s", command);
}

void mesh_fail(struct mesh *m, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    show(m);
    (void)fprintf(stderr, "FAILED under seed %llu at %.3f ms: %s\n", (unsigned long long)m->seed,
                  (double)m->now_us / 1000, text);
    if (m->again[0]) {
        (void)fprintf(stderr, "FAILED again by: %s\n", m->again);
    }
    has_failed = true;
    fail_msg("seed %llu: %s", (unsigned long long)m->seed, text);
    abort();
}

uint64_t mesh_digest(const struct mesh *m)
{
    return m->digest;
}

uint64_t mesh_events(const struct mesh *m)
{
    return m->events;
}

/* A test that has failed leaves its mesh behind: its leaks would only hide the failure. */

__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return has_failed || in_use != NULL;
}

/* --- life --- */
void mesh_set_clock(struct mesh *m, size_t host, int64_t by_ms)
{
    mesh_note(m, "%s: its clock is set by %lld s", m->hosts[host].name, (long long)by_ms / 1000);
    figures[FIGURE_CLOCK]++;
    m->hosts[host].clock_skew_ms += by_ms;
}

bool mesh_stands(const struct vhost *h)
{
    return h->stands_until_us > h->mesh->now_us;
}

void mesh_pause(struct mesh *m, size_t host, int64_t ms, bool asleep)
{
    struct vhost *h = &m->hosts[host];
    gw_assert(h->node);
    mesh_note(m, "%s stands still for %lld ms%s", h->name, (long long)ms,
              asleep ? ", its machine sleeps" : "");
    figures[FIGURE_PAUSED]++;
    int64_t from_us = mesh_stands(h) ? h->stands_until_us : m->now_us;
    h->stands_until_us = from_us + ms * 1000;
    if (asleep) {
        h->slept_us += ms * 1000;
        for (size_t i = 0; i < m->heap_count; i++) {
            struct mesh_event *e = &m->heap[i];
            e->at_us += e->host == h && venv_is_timer(e->run) ? ms * 1000 : 0;
            sift_up(m, i); /* those before it are in order */
        }
    }
    vlink_host_stands(h);
}

void mesh_fill_disk(struct mesh *m, size_t host, int64_t ms)
{
    mesh_note(m, "%s: its disk is full for %lld ms", m->hosts[host].name, (long long)ms);
    m->hosts[host].full_until_us = m->now_us + ms * 1000;
}

void mesh_let_linger(struct mesh *m)
{
    m->lingers = true;
}

struct mesh *mesh_new(uint64_t seed, size_t hosts)
{
    gw_assert(hosts >= 1 && hosts <= MESH_HOSTS_MAX);
    (void)randombytes_set_implementation(&seeded);
    gw_assert(sodium_init() >= 0);
    rng_seed(sodium_rng, seed ^ 0x5eedull);
    ops_init();
    struct mesh *m = xcalloc(1, sizeof *m);
    has_failed = has_failed || in_use;
    in_use = m;
    watch_aborts();
    m->seed = seed;
    m->print = getenv("MESH_TRACE") != NULL;
    log_setup(m->print ? LOG_DEBUG : LOG_ERROR, false);
    rng_seed(m->rng, seed);
    rng_seed(m->file_rng, seed ^ 0xf11e5ull);
    m->host_count = hosts;
    for (size_t i = 0; i < hosts; i++) {
        struct vhost *h = &m->hosts[i];
        h->mesh = m;
        h->index = i;
        (void)snprintf(h->name, sizeof h->name, "h%zu", i);
        (void)snprintf(h->url, sizeof h->url, "https://h%zu.test:7420", i);
        uint8_t key_seed[crypto_sign_SEEDBYTES];
        seeded_buf(key_seed, sizeof key_seed);
        (void)crypto_sign_seed_keypair(h->key.public_key, h->key.secret_key, key_seed);
        h->id = host_id_of_key(h->key.public_key);
        h->types = tally_types;
        h->type_count = tally_type_count;
        h->clock_skew_ms = mesh_between(m, -2000, 2000);
        gw_assert(store_open_memory(&h->store) == GW_OK);
        venv_init(h);
    }
    vlink_init(m);
    return m;
}

void mesh_free(struct mesh *m)
{
    if (!m) {
        return;
    }
    m->ending = true;
    for (size_t i = 0; i < m->host_count; i++) {
        mesh_crash(m, i);
        store_close(m->hosts[i].store);
        buf_free(&m->hosts[i].rival_word);
        vfiles_free(&m->hosts[i]);
    }
    while (m->heap_count > 0) {
        struct mesh_event e = pop(m);
        if (e.drop) {
            e.drop(e.arg);
        }
    }
    in_use = NULL;
    free(m->heap);
    free(m->known);
    free(m);
}

void mesh_set_types(struct mesh *m, size_t host, const struct gw_type *const *types, size_t n)
{
    m->hosts[host].types = types;
    m->hosts[host].type_count = n;
}

void mesh_set_builtins(struct mesh *m, size_t host, const struct node_builtin *rows,
                       const struct gw_type *const *types, size_t n)
{
    m->hosts[host].builtins = rows;
    m->hosts[host].builtin_types = types;
    m->hosts[host].builtin_count = n;
}

void mesh_slow_reads(struct mesh *m, size_t host, int64_t us)
{
    m->hosts[host].read_slow_us = us;
}

void mesh_set_limits(struct mesh *m, size_t host, struct node_limits limits)
{
    m->hosts[host].limits = limits;
}

static void end_by_itself(void *arg)
{
    struct vhost *h = arg;
    if (h->node && !h->ready && h->start_spoilt) {
        mesh_crash(h->mesh, h->index);
    }
}

static void on_ready(void *ctx, gw_err err, const struct gw_error *why)
{
    struct vhost *h = ctx;
    if (err != GW_OK && h->start_spoilt) { /* as the program does */
        mesh_note(h->mesh, "%s cannot start", h->name);
        figures[FIGURE_NOT_STARTED]++;
        mesh_push(h->mesh, NULL, h->mesh->now_us, end_by_itself, NULL, h);
        return;
    }
    if (err != GW_OK) {
        mesh_fail(h->mesh, "%s did not start: %s", h->name, why ? why->text : gw_err_text(err));
    }
    mesh_note(h->mesh, "%s is ready", h->name);
    h->ready = true;
    vfiles_sweep(h);
}

static void on_stopped(void *ctx)
{
    struct vhost *h = ctx;
    mesh_note(h->mesh, "%s has stopped", h->name);
    h->stopped = true;
}

/* A test that wants the host to stop says so itself. */
static void on_stop_asked(void *ctx)
{
    const struct vhost *h = ctx;
    mesh_note(h->mesh, "%s is asked to stop", h->name);
}

static void on_fatal(void *ctx, const struct gw_error *why)
{
    struct vhost *h = ctx;
    mesh_note(h->mesh, "%s has to end: %s", h->name, why->text);
    h->fatal = why->code;
}

void mesh_start(struct mesh *m, size_t host)
{
    static const char *const plugins[] = {"/virtual/tally.so"};
    struct vhost *h = &m->hosts[host];
    gw_assert(!h->node);
    h->life++;
    STAILQ_INIT(&h->storage);
    h->ready = h->stopped = h->dying = h->start_spoilt = false;
    h->storage_free_us = h->storage_told_us = h->storage_stall_us = m->now_us;
    rng_seed(h->rng, m->seed ^ (host << 32) ^ (h->life << 40) ^ 0x4057ull);
    static const gw_strs none;
    gw_strs tags = {0};
    gw_assert(gw_strs_addf(&tags, "t%zu", host % 2) == GW_OK);
    const struct node_config config = {
        .name = h->name,
        .key = h->key,
        .mesh_id = "01JD8Z5MESHMESHMESHMESHMES",
        .url = h->url,
        .tags = &tags,
        .properties = &none,
        .plugins = plugins,
        .plugin_count = 1,
        .agents_dir = "/host/agents",
        .builtins = h->builtins,
        .builtin_count = h->builtin_count,
        .limits = h->limits,
        .restored = h->restored,
        .on_ready = on_ready,
        .on_stopped = on_stopped,
        .on_stop_asked = on_stop_asked,
        .on_fatal = on_fatal,
    };
    mesh_note(m, "%s starts%s", h->name, h->restored ? ", restored" : "");
    h->restored = false;
    if (node_new(&config, &h->env, &h->node) != GW_OK) {
        mesh_fail(m, "node_new of %s failed", h->name);
    }
    node_start(h->node);
    vlink_host_up(h);
    gw_strs_clear(&tags);
    check_host(h);
}

static bool all_linked(void *arg)
{
    struct mesh *m = arg;
    for (size_t i = 0; i < m->host_count; i++) {
        if (!m->hosts[i].ready) {
            return false;
        }
        for (size_t j = i + 1; j < m->host_count; j++) {
            if (!m->links[i][j].apart && !mesh_linked(m, i, j)) {
                return false;
            }
        }
    }
    return true;
}

void mesh_start_all(struct mesh *m)
{
    for (size_t i = 0; i < m->host_count; i++) {
        if (!m->hosts[i].node) {
            mesh_start(m, i);
        }
    }
    if (!mesh_run_until(m, all_linked, m, 120000)) {
        mesh_fail(m, "not all hosts are ready and linked after two minutes");
    }
    mesh_run(m, 50);
}

/* What a process takes with it. The node goes while its world still stands, for it frees its
 * timers. */
static void end_host(struct vhost *h)
{
    h->dying = true;
    vlink_host_down(h);
    node_free(h->node);
    h->node = NULL;
    vcall_host_down(h);
    vrunner_reset(h);
    venv_free_timers(h);
    venv_drop_storage(h);
    vfiles_host_down(h);
    h->life++;
    h->ready = h->dying = false;
    h->stands_until_us = 0;
    check_host_down(h);
}

void mesh_crash(struct mesh *m, size_t host)
{
    struct vhost *h = &m->hosts[host];
    if (h->node) {
        mesh_note(m, "%s crashes", h->name);
        figures[FIGURE_CRASHED] += !m->ending;
        end_host(h);
    }
}

static bool has_stopped(void *arg)
{
    const struct vhost *h = arg;
    return h->stopped || !h->node;
}

void mesh_stop(struct mesh *m, size_t host)
{
    struct vhost *h = &m->hosts[host];
    if (!h->node) {
        return;
    }
    mesh_note(m, "%s is told to stop", h->name);
    uint64_t life = h->life;
    node_stop(h->node);
    if (!mesh_run_until(m, has_stopped, h, 60000) && h->life == life) {
        mesh_fail(m, "%s did not stop within a minute", h->name);
    }
    if (h->life == life) { /* else a crash came first */
        end_host(h);
    }
}

void mesh_wipe(struct mesh *m, size_t host)
{
    struct vhost *h = &m->hosts[host];
    gw_assert(!h->node);
    mesh_note(m, "%s loses its disk", h->name);
    store_close(h->store);
    gw_assert(store_open_memory(&h->store) == GW_OK);
    h->restored = true; /* nothing is an old copy, too, and the operator knows */
}

size_t mesh_rivals_taken(const struct mesh *m, size_t host)
{
    return m->hosts[host].rivals_taken;
}
size_t mesh_rivals_ended(const struct mesh *m, size_t host)
{
    return m->hosts[host].rivals_ended;
}
const struct buf *mesh_rival_word(const struct mesh *m, size_t host)
{
    return &m->hosts[host].rival_word;
}
gw_err mesh_fatal(const struct mesh *m, size_t host)
{
    return m->hosts[host].fatal;
}

/* --- old copies --- */
struct copying {
    struct store_batch *batch;
    store_table table;
};

static bool copy_row(void *arg, struct span key, struct span value)
{
    struct copying *c = arg;
    store_batch_put(c->batch, c->table, key, value);
    return true;
}

static struct store *copy_of(struct store *store)
{
    struct copying c = {.batch = store_batch_new()};
    struct store *copy;
    gw_err err;
    gw_assert(store_open_memory(&copy) == GW_OK);
    for (c.table = 0; c.table < TABLE_COUNT; c.table++) {
        gw_assert(store_scan(store, &(struct store_range){.table = c.table}, copy_row, &c) ==
                  GW_OK);
    }
    store_apply(copy, &c.batch, 1, &err);
    gw_assert(err == GW_OK);
    store_batch_free(c.batch);
    return copy;
}

struct store *mesh_backup(struct mesh *m, size_t host)
{
    mesh_note(m, "%s is copied", m->hosts[host].name);
    return copy_of(m->hosts[host].store);
}

void mesh_put_back(struct mesh *m, size_t host, struct store *backup, bool restored)
{
    struct vhost *h = &m->hosts[host];
    gw_assert(!h->node);
    mesh_note(m, "%s is given an old copy", h->name);
    store_close(h->store);
    h->store = copy_of(backup);
    h->restored = restored;
}

bool mesh_alive(const struct mesh *m, size_t host)
{
    return m->hosts[host].node != NULL;
}
bool mesh_ready(const struct mesh *m, size_t host)
{
    return m->hosts[host].ready;
}
struct node *mesh_node(struct mesh *m, size_t host)
{
    return m->hosts[host].node;
}
struct host_id mesh_host_id(const struct mesh *m, size_t host)
{
    return m->hosts[host].id;
}
const struct host_key *mesh_host_key(const struct mesh *m, size_t host)
{
    return &m->hosts[host].key;
}
const char *mesh_host_name(const struct mesh *m, size_t host)
{
    return m->hosts[host].name;
}

void mesh_on_frame(struct mesh *m, mesh_frame_hook hook, void *arg)
{
    m->on_frame = hook;
    m->frame_arg = arg;
}

void mesh_on_commit(struct mesh *m, mesh_commit_hook hook, void *arg)
{
    m->on_commit = hook;
    m->commit_arg = arg;
}

void mesh_on_runner(struct mesh *m, mesh_runner_hook take, void *arg)
{
    m->on_runner = take;
    m->runner_arg = arg;
}
