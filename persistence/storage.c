/* The storage thread. Two lists under one lock: `todo` from the loop thread, `done` back to it.
 *
 * A group is everything that waits, up to a cap: its batches are applied and its reads answered in
 * the order of the queue, then one commit makes all durable, then all completions are announced at
 * once. A read may so have seen rows that are not durable yet, but nobody sees its answer before
 * they are; when the commit fails its reads are made again. Reads at the head of the queue wait for
 * no commit.
 *
 * Waking costs 25 us and a system call on each side, so it happens only when the other side sleeps:
 * `asleep` for this thread, `announced` for the loop. */
#include "persistence/storage.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "persistence/engine.h"
#include "persistence/failpoint.h"
#include "protocol/base/log.h"

#define STORAGE_GROUP   1024 /* batches of one group: bounds what one full disk undoes */
#define STORAGE_IDLE_MS 100  /* quiet for so long: time for a checkpoint */
#define STORAGE_LARGE_BYTES                                                                        \
    (1024u * 1024) /* file bytes that small batches before need not wait for */
#define CHUNK_BYTES (16u * 1024)

/* Rows of a read live in chunks, so that their spans stay valid while more are added. */
struct chunk {
    struct chunk *next;
    size_t used, cap;
    uint8_t bytes[];
};

struct read {
    storage_read_done done;
    struct store_range *ranges;
    size_t range_count;
    size_t bytes;     /* of its rows */
    struct buf spans; /* bytes of the ranges */
    struct storage_row *rows;
    size_t row_count, row_cap;
    struct chunk *chunks;
};

struct job {
    STAILQ_ENTRY(job) link;
    gw_err err;
    void *arg;
    storage_done done;         /* a batch, or */
    struct store_batch *batch; /* (NULL: the caller had no memory) */
    struct read *read;         /* a read */
};
STAILQ_HEAD(jobs, job);

struct storage {
    struct store *store;
    void (*wake)(void *arg);
    void *wake_arg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;     /* todo or stop */
    pthread_cond_t finished; /* for storage_stop */
    struct jobs todo, done;
    bool asleep, stop, announced, draining;
    atomic_uint_fast64_t commits, groups, waiting;
};

/* --- reads --- */
static void read_clear(struct read *r)
{
    while (r->chunks) {
        struct chunk *c = r->chunks;
        r->chunks = c->next;
        free(c);
    }
    r->row_count = 0;
    r->bytes = 0;
}

static void read_free(struct read *r)
{
    if (r) {
        read_clear(r);
        free(r->rows);
        free(r->ranges);
        buf_free(&r->spans);
        free(r);
    }
}

static uint8_t *keep(struct read *r, struct span bytes)
{
    struct chunk *c = r->chunks;
    if (!c || c->cap - c->used < bytes.n) {
        size_t cap = bytes.n > CHUNK_BYTES / 4 ? bytes.n : CHUNK_BYTES;
        struct chunk *fresh = malloc(sizeof *fresh + cap);
        if (!fresh) {
            return NULL;
        }
        *fresh = (struct chunk){.cap = cap};
        if (c && cap == bytes.n) {
            fresh->next = c->next; /* behind the open chunk, which has room left */
            c->next = fresh;
        } else {
            fresh->next = c;
            r->chunks = fresh;
        }
        c = fresh;
    }
    uint8_t *at = c->bytes + c->used;
    if (bytes.n > 0) {
        memcpy(at, bytes.p, bytes.n);
    }
    c->used += bytes.n;
    return at;
}

struct visiting {
    struct read *read;
    store_table table;
    size_t max_bytes; /* 0 = any */
    gw_err failed;
};

static bool visit(void *arg, struct span key, struct span value)
{
    struct visiting *v = arg;
    struct read *r = v->read;
    if (r->row_count == r->row_cap) {
        size_t cap = r->row_cap ? r->row_cap * 2 : 16;
        struct storage_row *rows = realloc(r->rows, cap * sizeof *rows);
        if (!rows) {
            v->failed = GW_ENOMEM;
            return false;
        }
        r->rows = rows;
        r->row_cap = cap;
    }
    uint8_t *k = keep(r, key), *val = k ? keep(r, value) : NULL;
    if (!val) {
        v->failed = GW_ENOMEM;
        return false;
    }
    r->rows[r->row_count++] = (struct storage_row){v->table, {k, key.n}, {val, value.n}};
    r->bytes += key.n + value.n;
    if (v->max_bytes > 0 && r->bytes > v->max_bytes) {
        v->failed = GW_ETOO_BIG;
        return false;
    }
    return true;
}

static gw_err read_run(struct storage *s, struct read *r)
{
    read_clear(r);
    if (!buf_ok(&r->spans)) {
        return GW_ENOMEM;
    }
    for (size_t i = 0; i < r->range_count; i++) {
        struct visiting v = {
            .read = r, .table = r->ranges[i].table, .max_bytes = r->ranges[i].max_bytes};
        gw_err err = store_scan(s->store, &r->ranges[i], visit, &v);
        if (err || v.failed) {
            read_clear(r);
            return err ? err : v.failed;
        }
    }
    return GW_OK;
}

/* --- the thread --- */
/* Hand finished jobs to the loop; wake it unless it knows already. */
static void publish(struct storage *s, struct jobs *finished)
{
    if (STAILQ_EMPTY(finished)) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    STAILQ_CONCAT(&s->done, finished);
    bool wake = !s->announced;
    s->announced = true;
    if (s->draining) {
        pthread_cond_signal(&s->finished);
    }
    pthread_mutex_unlock(&s->lock);
    if (wake) {
        s->wake(s->wake_arg);
    }
}

/* Answer the reads at the head of the queue. */
static void run_reads(struct storage *s, struct jobs *todo, struct jobs *finished)
{
    struct job *job;
    while ((job = STAILQ_FIRST(todo)) && job->read) {
        STAILQ_REMOVE_HEAD(todo, link);
        job->err = read_run(s, job->read);
        STAILQ_INSERT_TAIL(finished, job, link);
    }
}

/* Move the jobs of the next group over; returns how many batches it has. A batch with large files
 * begins a group of its own, so that the small ones before it do not wait for its bytes. */
static size_t take_group(struct jobs *todo, struct jobs *group)
{
    size_t batches = 0;
    struct job *job;
    while ((job = STAILQ_FIRST(todo)) && batches < STORAGE_GROUP) {
        bool large = job->batch && job->batch->file_bytes >= STORAGE_LARGE_BYTES;
        if (large && batches > 0) {
            break;
        }
        STAILQ_REMOVE_HEAD(todo, link);
        STAILQ_INSERT_TAIL(group, job, link);
        batches += !job->read;
    }
    return batches;
}

/* What is on disk now, and nobody has been told. */
static void tell_after(const struct jobs *group)
{
    const struct job *job;
    STAILQ_FOREACH (job, group, link) {
        if (job->batch && job->err == GW_OK) {
            failpoint_after(job->batch->point);
        }
    }
}

static void run_group(struct storage *s, struct jobs *group, size_t batches)
{
    struct job *job;
    store_group_begin(s->store, batches);
    STAILQ_FOREACH (job, group, link) {
        job->err = job->read ? read_run(s, job->read) : store_group_apply(s->store, job->batch);
    }
    gw_err err = store_group_commit(s->store);
    if (err) {
        STAILQ_FOREACH (job, group, link) {
            if (job->read) {
                job->err = read_run(s, job->read);
            } else if (job->err == GW_OK) {
                job->err = err;
                store_batch_ended(job->batch, err);
            }
        }
    }
    if (failpoint_on) {
        tell_after(group);
    }
    atomic_fetch_add_explicit(&s->commits, batches, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->groups, 1, memory_order_relaxed);
}

/* Take what waits; sleeps while there is nothing. Returns false when it is time to end. */
static bool next_jobs(struct storage *s, struct jobs *todo, bool *idle_due)
{
    pthread_mutex_lock(&s->lock);
    while (STAILQ_EMPTY(&s->todo) && !s->stop) {
        s->asleep = true;
        if (!*idle_due) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += STORAGE_IDLE_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        int rc = pthread_cond_timedwait(&s->work, &s->lock, &until);
        if (rc != 0 && STAILQ_EMPTY(&s->todo)) {
            s->asleep = false;
            pthread_mutex_unlock(&s->lock);
            store_idle(s->store);
            *idle_due = false;
            pthread_mutex_lock(&s->lock);
        }
    }
    s->asleep = false;
    STAILQ_CONCAT(todo, &s->todo);
    pthread_mutex_unlock(&s->lock);
    return !STAILQ_EMPTY(todo);
}

static void *thread_main(void *arg)
{
    struct storage *s = arg;
    struct jobs todo = STAILQ_HEAD_INITIALIZER(todo);
    bool idle_due = false;
    while (next_jobs(s, &todo, &idle_due)) {
        while (!STAILQ_EMPTY(&todo)) {
            struct jobs group = STAILQ_HEAD_INITIALIZER(group);
            run_reads(s, &todo, &group);
            publish(s, &group);
            size_t batches = take_group(&todo, &group);
            if (batches == 0) {
                continue;
            }
            run_group(s, &group, batches);
            publish(s, &group);
            idle_due = true;
            if (store_wants_idle(s->store)) {
                store_idle(s->store);
            }
        }
    }
    return NULL;
}

/* --- the loop's side --- */
static gw_err start_thread(struct storage *s)
{
    sigset_t all, before; /* signals are the loop thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&s->thread, NULL, thread_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        return GW_ENOMEM;
    }
    pthread_setname_np(s->thread, "godwit-storage");
    return GW_OK;
}

static void destroy(struct storage *s)
{
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->finished);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

gw_err storage_start(struct store *store, void (*wake)(void *arg), void *arg, struct storage **ret)
{
    struct storage *s = calloc(1, sizeof *s);
    if (!s) {
        return GW_ENOMEM;
    }
    s->store = store;
    s->wake = wake;
    s->wake_arg = arg;
    STAILQ_INIT(&s->todo);
    STAILQ_INIT(&s->done);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_cond_init(&s->finished, &attr);
    pthread_condattr_destroy(&attr);
    gw_err err = start_thread(s);
    if (err) {
        destroy(s);
        return err;
    }
    *ret = s;
    return GW_OK;
}

static void submit(struct storage *s, struct job *job)
{
    atomic_fetch_add_explicit(&s->waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&s->lock);
    STAILQ_INSERT_TAIL(&s->todo, job, link);
    bool wake = s->asleep;
    s->asleep = false; /* one signal is enough for all that follow */
    pthread_mutex_unlock(&s->lock);
    if (wake) {
        pthread_cond_signal(&s->work);
    }
}

void storage_commit(struct storage *s, struct store_batch *batch, storage_done done, void *arg)
{
    struct job *job = xcalloc(1, sizeof *job);
    job->batch = batch;
    job->done = done;
    job->arg = arg;
    submit(s, job);
}

/* The copy of a span lies at `at` in the buffer, which has its full size already. */
static struct span copied(struct buf *b, struct span from)
{
    size_t at = b->len;
    buf_add(b, from.p, from.n);
    return buf_ok(b) && from.n > 0 ? (struct span){b->data + at, from.n} : (struct span){0};
}

void storage_read(struct storage *s, const struct store_range *ranges, size_t n,
                  storage_read_done done, void *arg)
{
    gw_assert(n <= STORAGE_RANGES);
    struct job *job = xcalloc(1, sizeof *job);
    struct read *r = xcalloc(1, sizeof *r);
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        total += ranges[i].prefix.n + ranges[i].from.n;
    }
    r->ranges = xcalloc(n, sizeof *r->ranges);
    (void)buf_reserve(&r->spans, total); /* a failure sticks, and read_run says so */
    for (size_t i = 0; i < n; i++) {
        r->ranges[i] = ranges[i];
        r->ranges[i].prefix = copied(&r->spans, ranges[i].prefix);
        r->ranges[i].from = copied(&r->spans, ranges[i].from);
    }
    r->range_count = n;
    r->done = done;
    job->read = r;
    job->arg = arg;
    submit(s, job);
}

static void finish(struct job *job)
{
    struct read *r = job->read;
    if (r) {
        r->done(job->arg, job->err, r->rows, r->row_count);
    } else if (job->done) {
        job->done(job->arg, job->err);
    }
    read_free(r);
    store_batch_free(job->batch); /* on the thread that allocated it */
    free(job);
}

size_t storage_complete(struct storage *s)
{
    struct jobs done = STAILQ_HEAD_INITIALIZER(done);
    pthread_mutex_lock(&s->lock);
    STAILQ_CONCAT(&done, &s->done);
    s->announced = false;
    pthread_mutex_unlock(&s->lock);
    size_t n = 0;
    struct job *job;
    while ((job = STAILQ_FIRST(&done))) {
        STAILQ_REMOVE_HEAD(&done, link);
        atomic_fetch_sub_explicit(&s->waiting, 1, memory_order_relaxed);
        finish(job);
        n++;
    }
    return n;
}

struct store *storage_stop(struct storage *s)
{
    /* Callbacks may submit again: until nothing is left on either side. */
    while (atomic_load_explicit(&s->waiting, memory_order_relaxed) > 0) {
        pthread_mutex_lock(&s->lock);
        s->draining = true;
        while (STAILQ_EMPTY(&s->done)) {
            pthread_cond_wait(&s->finished, &s->lock);
        }
        pthread_mutex_unlock(&s->lock);
        storage_complete(s);
    }
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_mutex_unlock(&s->lock);
    pthread_cond_signal(&s->work);
    pthread_join(s->thread, NULL);
    struct store *store = s->store;
    destroy(s);
    return store;
}

struct storage_stats storage_stats(const struct storage *s)
{
    return (struct storage_stats){
        .commits = atomic_load_explicit(&s->commits, memory_order_relaxed),
        .groups = atomic_load_explicit(&s->groups, memory_order_relaxed),
        .waiting = atomic_load_explicit(&s->waiting, memory_order_relaxed),
    };
}
