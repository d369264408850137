/* Pattern: a master that gives jobs to workers and survives the loss of them (godwit/pattern.h).
 *
 * A job belongs to the master until its result is there; a worker only has a lease on it. What the
 * master says to a worker and hears from it are tells, each with the number of the lease, so that
 * the result of a worker that was given up is known as late. */
#include <stdlib.h>
#include <string.h>

#include "agents/sdk/pattern.h"
#include "protocol/base/id.h"
#include "protocol/value.h"

#define TIMER         "pool"
#define SIZE_MAX_POOL 256
#define LEASE_MS      30000
#define TRIES         3
#define MAKE_MS       2000 /* how long the master waits for new workers */
#define SHORT_MS      1000 /* until it tries again, when some could not be made */

/* ---- the lists ---- */

static void drop_job(struct gw_pool *p, size_t at)
{
    gw_value_free(&p->jobs.items[at].args);
    p->jobs.len--;
    memmove(p->jobs.items + at, p->jobs.items + at + 1, (p->jobs.len - at) * sizeof *p->jobs.items);
}

static void drop_worker(struct gw_pool *p, const gw_id *agent)
{
    for (size_t i = 0; i < p->workers.len; i++) {
        if (gw_id_equal(&p->workers.items[i].agent, agent)) {
            p->workers.items[i] = p->workers.items[--p->workers.len];
            return;
        }
    }
}

static gw_err add_worker(struct gw_pool *p, const gw_id *agent)
{
    struct gw_pool_worker *items = realloc(p->workers.items, (p->workers.len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    p->workers.items = items;
    items[p->workers.len++] = (struct gw_pool_worker){.agent = *agent};
    return GW_OK;
}

static struct gw_pool_worker *idle_worker(struct gw_pool *p)
{
    for (size_t i = 0; i < p->workers.len; i++) {
        if (p->workers.items[i].job == 0) {
            return &p->workers.items[i];
        }
    }
    return NULL;
}

static bool waits(const struct gw_pool_job *job)
{
    return gw_id_is_nil(&job->worker);
}

/* ---- giving out ---- */

static gw_err give(struct gw_call *call, struct gw_pool *p, struct gw_pool_job *job,
                   struct gw_pool_worker *w)
{
    gw_value map = gw_nil(), args = gw_nil();
    job->worker = w->agent;
    job->lease = ++p->numbers;
    job->until = (gw_time){gw_now(call).ms + p->lease_ms};
    job->tries++;
    w->job = job->number;
    GW_TRY(gw_value_copy(&job->args, &args));
    gw_err err = gw_map_set(&map, "args", args);
    if (err == GW_OK) {
        err = gw_map_set(&map, "job", gw_int(job->number));
    }
    if (err == GW_OK) {
        err = gw_map_set(&map, "lease", gw_int(job->lease));
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    return gw_tell(call, w->agent, "work", map);
}

/* Jobs to those who are idle, the oldest first; then the time of the next look. */
static gw_err give_out(struct gw_call *call, struct gw_pool *p)
{
    int64_t now_ms = gw_now(call).ms, next_ms = INT64_MAX;
    struct gw_pool_worker *w = idle_worker(p);
    for (size_t i = 0; i < p->jobs.len; i++) {
        struct gw_pool_job *job = &p->jobs.items[i];
        if (waits(job) && w) {
            GW_TRY(give(call, p, job, w));
            w = idle_worker(p);
        }
        if (!waits(job) && job->until.ms - now_ms < next_ms) {
            next_ms = job->until.ms - now_ms;
        }
    }
    if ((int64_t)p->workers.len < p->size && next_ms > SHORT_MS) {
        next_ms = SHORT_MS;
    }
    return next_ms == INT64_MAX ? gw_timer_cancel(call, TIMER)
                                : gw_timer(call, TIMER, next_ms > 0 ? next_ms : 0, gw_nil());
}

/* ---- the master ---- */

gw_err gw_pool_open(struct gw_call *call, struct gw_pool *p, const struct gw_pool_options *o)
{
    if (!o->type || o->size < 1 || o->size > SIZE_MAX_POOL || o->most_waiting < 0 ||
        o->lease_ms < 0 || o->most_tries < 0) {
        return gw_call_fail(call, GW_EARG, "a pool has a type and 1 to %d workers", SIZE_MAX_POOL);
    }
    if (p->size > 0) {
        return gw_call_fail(call, GW_ECONFLICT, "the pool is open already");
    }
    GW_TRY(pattern_set_text(&p->type, o->type));
    GW_TRY(pattern_set_text(&p->where, o->where ? o->where : ""));
    p->size = o->size;
    p->most_waiting = o->most_waiting ? o->most_waiting : o->size;
    p->lease_ms = o->lease_ms ? o->lease_ms : LEASE_MS;
    p->most_tries = o->most_tries ? o->most_tries : TRIES;
    return gw_timer(call, TIMER, 0, gw_nil());
}

gw_err gw_pool_submit(struct gw_call *call, struct gw_pool *p, const gw_value *args)
{
    int64_t waiting = 0;
    struct gw_pool_job job = {.number = ++p->numbers};
    for (size_t i = 0; i < p->jobs.len; i++) {
        waiting += waits(&p->jobs.items[i]);
    }
    if (p->size == 0) {
        return gw_call_fail(call, GW_EREFUSED, "the pool is not open");
    }
    if (waiting >= p->most_waiting && !idle_worker(p)) {
        return gw_call_fail(call, GW_EBUSY, "%lld jobs wait for a worker", (long long)waiting);
    }
    struct gw_pool_job *items = realloc(p->jobs.items, (p->jobs.len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    p->jobs.items = items;
    GW_TRY(gw_reply_later(call, &job.token));
    GW_TRY(args ? gw_value_copy(args, &job.args) : GW_OK);
    items[p->jobs.len++] = job;
    return give_out(call, p);
}

/* Answer the caller of a job that has ended; takes ownership of result. */
static gw_err answer(struct gw_call *call, const struct gw_pool_job *job, const char *error,
                     gw_value result)
{
    gw_value map = gw_nil();
    if (error) {
        gw_value_free(&result);
        return gw_answer_fail(call, job->token, GW_EFAIL, "%s", error);
    }
    GW_TRY(gw_map_set(&map, "result", result));
    return gw_answer(call, job->token, map);
}

gw_err gw_pool_done(struct gw_call *call, struct gw_pool *p)
{
    int64_t number = gw_arg_int(call, "job"), lease = gw_arg_int(call, "lease");
    const char *error = gw_has_arg(call, "error") ? gw_arg_str(call, "error") : NULL;
    const gw_value *given = gw_arg_value(call, "result");
    size_t at = 0;
    while (at < p->jobs.len &&
           (p->jobs.items[at].number != number || p->jobs.items[at].lease != lease)) {
        at++;
    }
    if (at == p->jobs.len) {
        return GW_OK; /* of a worker that was given up */
    }
    gw_value result = gw_nil();
    GW_TRY(given ? gw_value_copy(given, &result) : GW_OK);
    GW_TRY(answer(call, &p->jobs.items[at], error, result));
    for (size_t i = 0; i < p->workers.len; i++) {
        p->workers.items[i].job = p->workers.items[i].job == number ? 0 : p->workers.items[i].job;
    }
    drop_job(p, at);
    return give_out(call, p);
}

/* Leases that are over: their workers are given up, their jobs wait again or have failed. */
static gw_err end_leases(struct gw_call *call, struct gw_pool *p)
{
    int64_t now_ms = gw_now(call).ms;
    for (size_t i = 0; i < p->jobs.len;) {
        struct gw_pool_job *job = &p->jobs.items[i];
        if (waits(job) || job->until.ms > now_ms) {
            i++;
            continue;
        }
        gw_id lost = job->worker;
        p->lost++;
        drop_worker(p, &lost);
        pattern_dispose(call, &lost);
        job->worker = (gw_id){{0}};
        job->lease = 0;
        if (job->tries < p->most_tries) {
            i++;
            continue;
        }
        GW_TRY(gw_answer_fail(call, job->token, GW_ETIMEOUT, "%lld workers did not come back",
                              (long long)job->tries));
        drop_job(p, i);
    }
    return GW_OK;
}

/* As many workers as there shall be, as far as they can be made now. */
static gw_err hire(struct gw_call *call, struct gw_pool *p)
{
    struct gw_future *made[SIZE_MAX_POOL] = {0};
    size_t n = 0;
    const char *where = p->where && p->where[0] ? p->where : NULL;
    while ((int64_t)(p->workers.len + n) < p->size &&
           gw_create_async(call, p->type, gw_nil(), where, &made[n]) == GW_OK) {
        n++;
    }
    gw_err waited = gw_wait_all(call, made, n, MAKE_MS);
    for (size_t i = 0; i < n; i++) {
        gw_value about = gw_nil();
        gw_id agent;
        bool there = waited == GW_OK || gw_future_done(call, made[i]);
        gw_err err = there ? gw_wait(call, made[i], 0, &about) : GW_ETIMEOUT;
        err = err == GW_OK ? pattern_made(about, &agent) : err;
        if (err == GW_OK) {
            GW_TRY(add_worker(p, &agent));
        } else {
            gw_log(call, GW_LOG_WARN, "a worker of type \"%s\" cannot be made: %s", p->type,
                   there ? gw_call_why(call)->text : gw_err_text(err));
        }
    }
    return GW_OK;
}

static gw_err look(struct gw_call *call, struct gw_pool *p)
{
    GW_TRY(end_leases(call, p));
    if ((int64_t)p->workers.len < p->size) {
        GW_TRY(hire(call, p));
    }
    return give_out(call, p);
}

bool gw_pool_timer(struct gw_call *call, struct gw_pool *p, gw_err *ret_err)
{
    if (strcmp(gw_timer_name(call), TIMER) != 0) {
        return false;
    }
    *ret_err = p->size > 0 ? look(call, p) : GW_OK;
    return true;
}

gw_err gw_pool_close(struct gw_call *call, struct gw_pool *p)
{
    for (size_t i = 0; i < p->workers.len; i++) {
        pattern_dispose(call, &p->workers.items[i].agent);
    }
    p->workers.len = 0;
    while (p->jobs.len > 0) {
        GW_TRY(gw_answer_fail(call, p->jobs.items[0].token, GW_ECANCELLED, "the pool is closed"));
        drop_job(p, 0);
    }
    p->size = 0;
    return gw_timer_cancel(call, TIMER);
}

/* ---- the worker ---- */

gw_err gw_pool_result(struct gw_call *call, gw_value result, const char *error)
{
    gw_value map = gw_nil();
    gw_err err = gw_map_set(&map, "result", result);
    if (err == GW_OK) {
        err = gw_map_set(&map, "job", gw_int(gw_arg_int(call, "job")));
    }
    if (err == GW_OK) {
        err = gw_map_set(&map, "lease", gw_int(gw_arg_int(call, "lease")));
    }
    if (err == GW_OK && error) {
        err = pattern_put_text(&map, "error", error);
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    return gw_tell(call, gw_sender(call), "done", map);
}
