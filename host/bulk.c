/* Jobs of the data plane and their threads. See bulk.h.
 *
 *   DIALLING -> WAITING -> RUNNING -> ENDED -> freed, on the loop
 *   any before RUNNING -> ENDED when it is called off or fails */
#include "host/bulk.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/api_route.h"
#include "host/bulk_io.h"
#include "host/net/dial.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

#define DIAL_TIMEOUT_MS 10000
#define NICE            5
#define STACK_BYTES     (256u * 1024)
#define SERVICE_BYTES   33

typedef enum job_class { JOB_DIALLED, JOB_SERVED, JOB_LOCAL, JOB_CLASSES } job_class;
typedef enum job_state { JOB_DIALLING, JOB_WAITING, JOB_RUNNING, JOB_ENDED } job_state;

struct bulk_job {
    TAILQ_ENTRY(bulk_job) entry; /* in `all` */
    TAILQ_ENTRY(bulk_job) turn;  /* in `waiting` of its class, or in `ended` */
    struct bulk *bulk;
    job_class class;
    job_state state;
    bulk_work work;
    bulk_done done;
    void *arg;
    struct dial *dial;
    bool connected;
    struct bulk_conn conn;
    pthread_t thread;
    bool has_thread, cancelled;
    /* served */
    struct handover *taken;
    const struct bulk_route *route;
    gw_err err;
    struct gw_error why;
};
TAILQ_HEAD(job_list, bulk_job);

/* What a thread asks of the loop. */
struct question {
    STAILQ_ENTRY(question) next;
    void (*run)(void *arg);
    void *arg;
    bool answered, refused;
};

struct bulk {
    struct bulk_config config;
    struct job_list all, waiting[JOB_CLASSES];
    unsigned running[JOB_CLASSES], queued[JOB_CLASSES];
    struct bulk_job *served[LIMIT_BULK_RUNNING]; /* that run; the others NULL */
    struct event *wake;                          /* on wake_fd */
    int wake_fd;
    /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    struct job_list ended;
    STAILQ_HEAD(, question) questions;
    bool stopping;
};

static void wake_loop(struct bulk *b)
{
    uint64_t one = 1;
    ssize_t n = write(b->wake_fd, &one, sizeof one);
    (void)n; /* full means awake */
}

/* Of a served one: its host; nil: a client. */
static struct host_id origin_of(const struct bulk_job *job)
{
    return job->taken->peer.role == TRUST_HOST ? job->taken->peer.id : (struct host_id){{0}};
}

/* ---- the thread ---- */

static gw_err serve(struct bulk_job *job)
{
    struct handover *h = job->taken;
    struct bulk_request r = {.ctx = job->bulk->config.ctx,
                             .bulk = job->bulk,
                             .head = h->head,
                             .peer = origin_of(job),
                             .role = h->role,
                             .why = &job->why};
    gw_err err = route_params(job->route->path, h->head->path, &r.args, &job->why);
    if (err == GW_OK) {
        err = route_query(h->head->query, &r.args, &job->why);
    }
    if (err == GW_OK) {
        err = job->route->serve(&r, &job->conn.io);
    } else {
        err = bulk_refuse(&r, &job->conn.io);
    }
    gw_value_free(&r.args);
    bulk_conn_linger(&job->conn);
    return err;
}

static void *run(void *arg)
{
    struct bulk_job *job = arg;
    struct bulk *b = job->bulk;
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* of this thread, in Linux */
    if (job->taken) {
        job->err = serve(job);
    } else {
        job->err = job->work(&job->conn.io, job->arg, &job->why);
        bulk_conn_linger(&job->conn);
    }
    if (job->err != GW_OK &&
        job->why.code == GW_OK) { /* whoever is answered by it gets a failure */
        gw_fail(&job->why, job->err, "%s", gw_err_text(job->err));
    }
    pthread_mutex_lock(&b->lock);
    TAILQ_INSERT_TAIL(&b->ended, job, turn);
    pthread_mutex_unlock(&b->lock);
    wake_loop(b);
    return NULL;
}

gw_err bulk_on_loop(struct bulk *b, void (*ask)(void *arg), void *arg)
{
    struct question q = {.run = ask, .arg = arg};
    pthread_mutex_lock(&b->lock);
    if (b->stopping) {
        q.answered = q.refused = true;
    } else {
        STAILQ_INSERT_TAIL(&b->questions, &q, next);
        wake_loop(b);
    }
    while (!q.answered) {
        pthread_cond_wait(&b->answered, &b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return q.refused ? GW_ESTOPPING : GW_OK;
}

/* ---- the loop: life of a job ---- */

static struct bulk_job *job_new(struct bulk *b, job_class class, bulk_work work, bulk_done done,
                                void *arg)
{
    struct bulk_job *job = xcalloc(1, sizeof *job);
    job->bulk = b;
    job->class = class;
    job->work = work;
    job->done = done;
    job->arg = arg;
    job->conn.stream.fd = -1;
    job->conn.cancel_fd = -1;
    TAILQ_INSERT_TAIL(&b->all, job, entry);
    return job;
}

/* Over without a thread: told in a later turn. `job->why` is filled. */
static void end(struct bulk_job *job, gw_err err)
{
    struct bulk *b = job->bulk;
    if (job->state == JOB_WAITING) {
        TAILQ_REMOVE(&b->waiting[job->class], job, turn);
        b->queued[job->class]--;
    }
    job->state = JOB_ENDED;
    job->err = err;
    pthread_mutex_lock(&b->lock);
    TAILQ_INSERT_TAIL(&b->ended, job, turn);
    pthread_mutex_unlock(&b->lock);
    wake_loop(b);
}

/* All signals go to the loop's thread. */
static gw_err start_thread(struct bulk_job *job)
{
    pthread_attr_t attr;
    sigset_t all, old;
    if (pthread_attr_init(&attr) != 0) {
        return GW_ENOMEM;
    }
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(&job->thread, &attr, run, job);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return err == 0 ? GW_OK : GW_ENOMEM;
}

/* Clients are all one origin. */
static bool has_place(const struct bulk *b, const struct bulk_job *job)
{
    struct host_id origin = origin_of(job), other;
    unsigned most = host_id_is_nil(&origin) ? LIMIT_BULK_CLIENTS : LIMIT_BULK_ORIGIN, n = 0;
    for (size_t i = 0; i < LIMIT_BULK_RUNNING; i++) {
        other = b->served[i] ? origin_of(b->served[i]) : origin;
        n += b->served[i] && host_id_equal(&other, &origin);
    }
    return n < most;
}

static struct bulk_job *next_of(const struct bulk *b, job_class class)
{
    struct bulk_job *job;
    if (b->running[class] >= LIMIT_BULK_RUNNING) {
        return NULL;
    }
    TAILQ_FOREACH (job, &b->waiting[class], turn) {
        if (class != JOB_SERVED || has_place(b, job)) {
            return job;
        }
    }
    return NULL;
}

/* `job` begins to run, or has ended to. */
static void count_running(struct bulk_job *job, bool begins)
{
    struct bulk *b = job->bulk;
    const struct bulk_job *at = begins ? NULL : job;
    b->running[job->class] += begins ? 1 : -1u;
    for (size_t i = 0; i < LIMIT_BULK_RUNNING && job->class == JOB_SERVED; i++) {
        if (b->served[i] == at) {
            b->served[i] = begins ? job : NULL;
            return;
        }
    }
}

static void start_next(struct bulk *b, job_class class)
{
    struct bulk_job *job;
    while ((job = next_of(b, class))) {
        TAILQ_REMOVE(&b->waiting[class], job, turn); /* from here on it is the thread's */
        b->queued[class]--;
        count_running(job, true);
        job->state = JOB_RUNNING;
        job->has_thread = start_thread(job) == GW_OK;
        if (!job->has_thread) {
            count_running(job, false);
            end(job, gw_fail(&job->why, GW_ENOMEM, "a thread cannot be started"));
        }
    }
}

/* The job has its connection, or needs none: run it when there is room. `io` and `early` are
 * taken. */
static void ready(struct bulk_job *job, struct stream *io, struct buf *early)
{
    struct bulk *b = job->bulk;
    gw_err err = bulk_conn_open(&job->conn, io, early);
    if (err != GW_OK) {
        end(job,
            gw_fail(&job->why, err, "a connection cannot be handed over: %s", gw_err_text(err)));
        return;
    }
    if (b->queued[job->class] >= LIMIT_BULK_WAITING) {
        end(job, gw_fail(&job->why, GW_EBUSY, "%u transfers wait already", LIMIT_BULK_WAITING));
        return;
    }
    job->state = JOB_WAITING;
    b->queued[job->class]++;
    TAILQ_INSERT_TAIL(&b->waiting[job->class], job, turn);
    start_next(b, job->class);
}

static void dialled(void *arg, struct stream *io, const struct trust_peer *peer, struct span early,
                    const struct gw_error *why)
{
    struct bulk_job *job = arg;
    struct buf rest = {0};
    (void)peer; /* it is the one that was asked for, or io is NULL */
    job->dial = NULL;
    if (!io) {
        job->why = *why;
        end(job, why->code);
        return;
    }
    buf_add(&rest, early.p, early.n);
    if (!buf_ok(&rest)) {
        buf_free(&rest);
        end(job, gw_fail(&job->why, GW_ENOMEM, "out of memory for a connection"));
        return;
    }
    ready(job, io, &rest);
}

struct bulk_job *bulk_call(struct bulk *b, const struct host_id *to, const char *url,
                           const char *service, bulk_work work, bulk_done done, void *arg)
{
    struct bulk_job *job = job_new(b, JOB_DIALLED, work, done, arg);
    char upgrade[128];
    snprintf(upgrade, sizeof upgrade, "Upgrade: godwit-bulk/1\r\nGodwit-Bulk: %.*s\r\n",
             SERVICE_BYTES, service);
    struct dial_to where = {.url = url,
                            .expect = to,
                            .path = "/v1/bulk",
                            .upgrade = upgrade,
                            .timeout_ms = DIAL_TIMEOUT_MS,
                            .answer_ms = LIMIT_BULK_TURN_MS};
    if (b->stopping) {
        end(job, gw_fail(&job->why, GW_ESTOPPING, "the host is stopping"));
        return job;
    }
    job->dial = dial_start(b->config.base, b->config.trust, &where, dialled, job);
    return job;
}

struct bulk_job *bulk_run(struct bulk *b, bulk_work work, bulk_done done, void *arg)
{
    struct bulk_job *job = job_new(b, JOB_LOCAL, work, done, arg);
    struct stream none = {.fd = -1};
    struct buf nothing = {0};
    if (b->stopping) {
        end(job, gw_fail(&job->why, GW_ESTOPPING, "the host is stopping"));
        return job;
    }
    ready(job, &none, &nothing);
    return job;
}

void bulk_cancel(struct bulk_job *job)
{
    if (job->state == JOB_ENDED || job->cancelled) {
        return;
    }
    job->cancelled = true;
    if (job->state == JOB_RUNNING) {
        bulk_conn_cancel(&job->conn);
        return;
    }
    dial_cancel(job->dial);
    job->dial = NULL;
    end(job, gw_fail(&job->why, GW_ECANCELLED, "the transfer was called off"));
}

static void job_free(struct bulk_job *job)
{
    struct bulk *b = job->bulk;
    if (job->has_thread) {
        pthread_join(job->thread, NULL);
        count_running(job, false);
    }
    dial_cancel(job->dial);
    bulk_conn_close(&job->conn);
    if (job->taken) {
        if (job->err != GW_OK && job->err != GW_ENOT_FOUND) {
            log_info("bulk.served", "path=%s code=%s error=\"%s\"", job->taken->head->path,
                     gw_err_name(job->err), job->why.text);
        }
        handover_free(job->taken);
    }
    TAILQ_REMOVE(&b->all, job, entry);
    if (job->done) {
        job->done(job->arg, job->err, &job->why);
    }
    job_class class = job->class;
    free(job);
    start_next(b, class);
}

static void answer_questions(struct bulk *b)
{
    struct question *q;
    pthread_mutex_lock(&b->lock);
    while ((q = STAILQ_FIRST(&b->questions))) {
        STAILQ_REMOVE_HEAD(&b->questions, next);
        pthread_mutex_unlock(&b->lock);
        if (!b->stopping) {
            q->run(q->arg);
        }
        pthread_mutex_lock(&b->lock);
        q->refused = b->stopping;
        q->answered = true; /* q is gone once the lock is free */
        pthread_cond_broadcast(&b->answered);
    }
    pthread_mutex_unlock(&b->lock);
}

static void free_ended(struct bulk *b)
{
    struct bulk_job *job;
    for (;;) {
        pthread_mutex_lock(&b->lock);
        job = TAILQ_FIRST(&b->ended);
        if (job) {
            TAILQ_REMOVE(&b->ended, job, turn);
        }
        pthread_mutex_unlock(&b->lock);
        if (!job) {
            return;
        }
        job->state = JOB_ENDED;
        job_free(job);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n, (void)what;
    answer_questions(arg);
    free_ended(arg);
}

/* ---- served ---- */

static const struct bulk_service *service_find(const struct bulk *b, const char *name)
{
    const struct bulk_service *s = b->config.services;
    while (s && s->name && strcmp(s->name, name) != 0) {
        s++;
    }
    return s && s->name ? s : NULL;
}

/* GET /v1/bulk. */
static gw_err serve_upgrade(struct bulk_request *r, struct bulk_io *io)
{
    static const char accepted[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                   "Upgrade: godwit-bulk/1\r\n\r\n";
    const char *name = http_head_get_once(r->head, "godwit-bulk");
    const struct bulk_service *s = name ? service_find(r->bulk, name) : NULL;
    if (!http_head_has_word(http_head_get(r->head, "connection"), "upgrade") ||
        !http_head_has_word(http_head_get(r->head, "upgrade"), "godwit-bulk/1")) {
        gw_fail(r->why, GW_EARG, "\"/v1/bulk\" is for transfers between hosts");
        gw_hint(r->why, "send Connection: Upgrade and Upgrade: godwit-bulk/1");
        return bulk_answer_error(io, r->why);
    }
    if (!s) {
        gw_fail(r->why, GW_ENOT_SUPPORTED, "the header Godwit-Bulk names no service of this host");
        return bulk_answer_error(io, r->why);
    }
    GW_TRY(bulk_write(io, accepted, sizeof accepted - 1));
    return s->serve(r, io);
}

static const struct bulk_route upgrade_route = {"GET", "/v1/bulk", ROLE_PEER, serve_upgrade};

static const struct bulk_route *route_of_head(const struct bulk *b, const struct http_head *head)
{
    if (strcmp(head->path, upgrade_route.path) == 0 && strcmp(head->method, "GET") == 0) {
        return &upgrade_route;
    }
    const struct bulk_route *r = b->config.routes;
    while (r && r->method &&
           (strcmp(r->method, head->method) != 0 || route_match(r->path, head->path) < 0)) {
        r++;
    }
    return r && r->method ? r : NULL;
}

gw_err bulk_wants(struct bulk *b, const struct http_head *head, api_role role, bool *ret,
                  struct gw_error *why)
{
    const struct bulk_route *route = route_of_head(b, head);
    if (route) {
        GW_TRY(role_check(head->path, route->role, role, why));
        GW_TRY(origin_check(head->method, http_head_get(head, "origin"),
                            http_head_get(head, "host"), why));
        if (b->stopping) {
            return gw_fail(why, GW_ESTOPPING, "the host is stopping");
        }
        if (b->queued[JOB_SERVED] >= LIMIT_BULK_WAITING) {
            return gw_fail(why, GW_EBUSY, "%u transfers wait already", LIMIT_BULK_WAITING);
        }
    }
    *ret = route != NULL;
    return GW_OK;
}

void bulk_take(struct bulk *b, struct handover *h)
{
    struct bulk_job *job = job_new(b, JOB_SERVED, NULL, NULL, NULL);
    job->taken = h;
    job->route = route_of_head(b, h->head);
    gw_assert(job->route);
    ready(job, &h->io, &h->early);
}

/* ---- life ---- */

gw_err bulk_open(const struct bulk_config *config, struct bulk **ret, struct gw_error *why)
{
    struct bulk *b = xcalloc(1, sizeof *b);
    b->config = *config;
    TAILQ_INIT(&b->all);
    TAILQ_INIT(&b->ended);
    STAILQ_INIT(&b->questions);
    for (int i = 0; i < JOB_CLASSES; i++) {
        TAILQ_INIT(&b->waiting[i]);
    }
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->answered, NULL);
    b->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (b->wake_fd >= 0) {
        b->wake = event_new(config->base, b->wake_fd, EV_READ | EV_PERSIST, on_wake, b);
    }
    if (!b->wake || event_add(b->wake, NULL) != 0) {
        bulk_close(b);
        return gw_fail(why, GW_ENOMEM, "the threads of transfers cannot be set up");
    }
    *ret = b;
    return GW_OK;
}

void bulk_close(struct bulk *b)
{
    struct bulk_job *job;
    if (!b) {
        return;
    }
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    pthread_mutex_unlock(&b->lock);
    answer_questions(b);
    TAILQ_FOREACH (job, &b->all, entry) {
        bulk_cancel(job);
    }
    while ((job = TAILQ_FIRST(&b->all))) {
        if (job->has_thread) {
            pthread_join(job->thread, NULL);
            job->has_thread = false;
            count_running(job, false);
        }
        pthread_mutex_lock(&b->lock);
        TAILQ_REMOVE(&b->ended, job, turn);
        pthread_mutex_unlock(&b->lock);
        job->state = JOB_ENDED;
        job_free(job);
    }
    if (b->wake) {
        event_free(b->wake);
    }
    if (b->wake_fd >= 0) {
        close(b->wake_fd);
    }
    pthread_cond_destroy(&b->answered);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

struct bulk_stats bulk_stats(const struct bulk *b)
{
    struct bulk_stats s;
    memcpy(s.running, b->running, sizeof s.running);
    memcpy(s.waiting, b->queued, sizeof s.waiting);
    return s;
}

bool bulk_host_waits(const struct bulk *b, const struct host_id *host)
{
    const struct bulk_job *job;
    TAILQ_FOREACH (job, &b->waiting[JOB_SERVED], turn) {
        struct host_id origin = origin_of(job);
        if (host_id_equal(&origin, host)) {
            return true;
        }
    }
    return false;
}
