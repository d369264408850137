/* Patterns that agents are often made of: a long task in steps, a question to many, a pool of
 * workers. Each is a struct that lies in the state of an agent, with a table of its fields, and
 * functions that handlers call; nothing else has to be durable. docs/agents.md shows each of them,
 * demos/ has whole agents.
 *
 * Rules as in <godwit/agent.h>: what a function records takes effect with the handler that called
 * it; values given are taken over whatever happens; `ret_x` is written only on success. */
#ifndef GODWIT_PATTERN_H
#define GODWIT_PATTERN_H

#include <godwit/agent.h>

/* --- a task: long work in short steps, with progress, callers that wait, and cancel ---
 *
 *     struct sum { struct gw_task task; int64_t n, at, total; };
 *     GW_STRUCT(struct sum, task, gw_task_fields)
 *
 *     start():    gw_task_start(call, &s->task)
 *     on_timer:   if (gw_task_due(call, &s->task)) one step, then gw_task_go_on or gw_task_end
 *     status():   gw_task_status    wait(): gw_task_wait    cancel(): gw_task_cancel
 *
 * Each step is a transaction: after a crash the task goes on with the step that was not committed,
 * and it travels and sleeps between two steps. */
struct gw_task_waiter {
    gw_id token;
};
struct gw_task {
    char *state;     /* "" (never started), "running", "done", "failed", "cancelled" */
    double progress; /* [0 .. 1] */
    char *note;      /* of the last progress; why it failed */
    gw_value result; /* of a task that is done */
    int64_t steps;   /* begun so far */
    struct {
        struct gw_task_waiter *items;
        size_t len;
    } waiters;
};
static const struct gw_field gw_task_waiter_fields[] __attribute__((unused)) = {
    GW_FIELD(struct gw_task_waiter, token),
};
static const struct gw_field gw_task_fields[] __attribute__((unused)) = {
    GW_FIELD(struct gw_task, state), GW_FIELD(struct gw_task, progress),
    GW_FIELD(struct gw_task, note),  GW_FIELD(struct gw_task, result),
    GW_FIELD(struct gw_task, steps), GW_LIST(struct gw_task, waiters, gw_task_waiter_fields),
};
/* The signature of methods that end with gw_task_status or gw_task_wait. */
#define GW_TASK_REPLY "(state: string, progress: float, note: string, result: any?)"

/* Begin: the first step is due at once. GW_ECONFLICT while it runs. Forgets an earlier run. */
GW_API gw_err gw_task_start(struct gw_call *call, struct gw_task *task) GW_MUST_USE;
/* In on_timer: whether this is the time for a step (the timer is called "task"). */
GW_API bool gw_task_due(struct gw_call *call, struct gw_task *task);
/* Say how far it is: [0 .. 1], and a sentence. */
GW_API gw_err gw_task_progress(struct gw_task *task, double progress, const char *fmt, ...)
    GW_PRINTF(3, 4) GW_MUST_USE;
/* The next step, so many milliseconds from now; messages come in between. */
GW_API gw_err gw_task_go_on(struct gw_call *call, struct gw_task *task,
                            int64_t delay_ms) GW_MUST_USE;
/* The end, well (with a result, or nil) or not (with a sentence): who waits is answered. */
GW_API gw_err gw_task_end(struct gw_call *call, struct gw_task *task, gw_value result) GW_MUST_USE;
GW_API gw_err gw_task_fail(struct gw_call *call, struct gw_task *task, const char *fmt, ...)
    GW_PRINTF(3, 4) GW_MUST_USE;
/* No further step; GW_OK also when none is due. */
GW_API gw_err gw_task_cancel(struct gw_call *call, struct gw_task *task) GW_MUST_USE;
/* The reply of a method "... -> " GW_TASK_REPLY: as it is now, or (later) as it has ended. A task
 * that was never started is answered at once. */
GW_API gw_err gw_task_status(struct gw_call *call, const struct gw_task *task) GW_MUST_USE;
GW_API gw_err gw_task_wait(struct gw_call *call, struct gw_task *task) GW_MUST_USE;

/* --- a question to many: partial results, one time-out for all; the handler waits --- */
/* Ask each of `n` agents `method` with a copy of `args`. *ret_results: a list in their order of
 * maps {agent, reply} or {agent, error, text}; error "timeout" for who was silent for timeout_ms.
 * What they do goes on. At most 256. */
GW_API gw_err gw_ask_many(struct gw_call *call, const gw_id *agents, size_t n, const char *method,
                          gw_value args, int64_t timeout_ms, gw_value *ret_results) GW_MUST_USE;
/* The same on hosts: on every host of the mesh that is alive and carries `tag` (NULL: on all) an
 * agent of `type` is made, asked, and disposed of. *ret_results: maps {host, reply} or {host,
 * error, text}. An agent whose making took longer than timeout_ms is disposed of by nobody: let
 * such a type dispose of itself, or sleep. */
GW_API gw_err gw_ask_hosts(struct gw_call *call, const char *tag, const char *type,
                           const char *method, gw_value args, int64_t timeout_ms,
                           gw_value *ret_results) GW_MUST_USE;

/* --- a pool: a master, workers on this and other hosts, a bounded queue ---
 * The master keeps the jobs; a worker has one at a time, and a lease on it. A job whose worker does
 * not come back in time (its host is lost, its runner crashed) is given to another one, and a new
 * worker is made. So a job is done at least once, and its caller answered exactly once; a late
 * result of a worker that was given up is dropped. A job that has cost `tries` leases fails.
 *
 *     master:  submit(job: any) -> (result: any)    gw_pool_submit     busy when the queue is full
 *              done(job: int, lease: int, result: any?, error: string?)    gw_pool_done
 *              on_timer                             gw_pool_timer
 *     worker:  work(job: int, lease: int, args: any)   ... then gw_pool_result */
struct gw_pool_job {
    int64_t number;
    gw_id token; /* who waits; nil: nobody */
    gw_value args;
    gw_id worker;  /* nil: it waits */
    int64_t lease; /* number of the present one; 0 = none yet */
    gw_time until; /* of the lease */
    int64_t tries; /* leases so far */
};
struct gw_pool_worker {
    gw_id agent;
    int64_t job; /* its number; 0 = idle */
};
struct gw_pool {
    char *type;   /* of the workers */
    char *where;  /* selector of their hosts */
    int64_t size; /* how many there shall be */
    int64_t most_waiting;
    int64_t lease_ms, most_tries;
    int64_t numbers; /* given so far: jobs and leases */
    int64_t lost;    /* workers given up */
    struct {
        struct gw_pool_job *items;
        size_t len;
    } jobs; /* oldest first */
    struct {
        struct gw_pool_worker *items;
        size_t len;
    } workers;
};
static const struct gw_field gw_pool_job_fields[] __attribute__((unused)) = {
    GW_FIELD(struct gw_pool_job, number), GW_FIELD(struct gw_pool_job, token),
    GW_FIELD(struct gw_pool_job, args),   GW_FIELD(struct gw_pool_job, worker),
    GW_FIELD(struct gw_pool_job, lease),  GW_FIELD(struct gw_pool_job, until),
    GW_FIELD(struct gw_pool_job, tries),
};
static const struct gw_field gw_pool_worker_fields[] __attribute__((unused)) = {
    GW_FIELD(struct gw_pool_worker, agent),
    GW_FIELD(struct gw_pool_worker, job),
};
static const struct gw_field gw_pool_fields[] __attribute__((unused)) = {
    GW_FIELD(struct gw_pool, type),
    GW_FIELD(struct gw_pool, where),
    GW_FIELD(struct gw_pool, size),
    GW_FIELD(struct gw_pool, most_waiting),
    GW_FIELD(struct gw_pool, lease_ms),
    GW_FIELD(struct gw_pool, most_tries),
    GW_FIELD(struct gw_pool, numbers),
    GW_FIELD(struct gw_pool, lost),
    GW_LIST(struct gw_pool, jobs, gw_pool_job_fields),
    GW_LIST(struct gw_pool, workers, gw_pool_worker_fields),
};

struct gw_pool_options {
    const char *type;     /* of the workers */
    const char *where;    /* selector: each is made on a host that it names; NULL: this host */
    int64_t size;         /* workers [1 .. 256] */
    int64_t most_waiting; /* jobs that wait for a worker; 0: as many as workers */
    int64_t lease_ms;     /* for one job; 0: 30 s */
    int64_t most_tries;   /* leases for one job; 0: 3 */
};
/* Once, in on_create or a method: the workers are made by the timer that follows at once. */
GW_API gw_err gw_pool_open(struct gw_call *call, struct gw_pool *pool,
                           const struct gw_pool_options *options) GW_MUST_USE;
/* Take a job; the caller is answered {result} later, or with the error of the worker. GW_EBUSY: the
 * queue is full; try again later. */
GW_API gw_err gw_pool_submit(struct gw_call *call, struct gw_pool *pool,
                             const gw_value *args) GW_MUST_USE;
/* The method `done` of the master. */
GW_API gw_err gw_pool_done(struct gw_call *call, struct gw_pool *pool) GW_MUST_USE;
/* In on_timer: true when the timer was the pool's ("pool"); *ret_err is then what to return. */
GW_API bool gw_pool_timer(struct gw_call *call, struct gw_pool *pool, gw_err *ret_err);
/* End the workers (those that can be reached) and fail the jobs. */
GW_API gw_err gw_pool_close(struct gw_call *call, struct gw_pool *pool) GW_MUST_USE;
/* In a worker, at the end of its method `work`: tell the master. `error` NULL: it is done. */
GW_API gw_err gw_pool_result(struct gw_call *call, gw_value result, const char *error) GW_MUST_USE;

#endif
