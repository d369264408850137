/* A master and its workers, spread over the mesh: `godwit create primes`, then any number of
 * `godwit send … count from=0 to=100000` at once. A worker whose host is lost costs time, no job.
 */
#include <godwit/pattern.h>

/* ---- the worker: counts the primes of a range ---- */

struct prime_worker {
    int64_t jobs;
};
static const struct gw_field worker_fields[] = {GW_FIELD(struct prime_worker, jobs)};

static bool is_prime(int64_t n)
{
    for (int64_t d = 2; d * d <= n; d++) {
        if (n % d == 0) {
            return false;
        }
    }
    return n > 1;
}

static gw_err work(struct gw_call *call)
{
    struct prime_worker *w = gw_state(call);
    const gw_value *args = gw_arg_value(call, "args");
    int64_t from = gw_map_int(args, "from", 0), to = gw_map_int(args, "to", 0), count = 0;
    if (to < from) {
        return gw_pool_result(call, gw_nil(), "the range ends before it begins");
    }
    for (int64_t n = from; n < to; n++) {
        count += is_prime(n);
    }
    w->jobs++;
    return gw_pool_result(call, gw_int(count), NULL);
}

static const struct gw_method worker_methods[] = {
    {"work(job: int, lease: int, args: any)", work},
};
GW_AGENT(prime_worker, struct prime_worker, GW_FIELDS(worker_fields), GW_METHODS(worker_methods));

/* ---- the master ---- */

struct primes {
    struct gw_pool pool;
    int64_t workers; /* given at create */
    char *where;
    int64_t lease_ms;
};
static const struct gw_field fields[] = {
    GW_STRUCT(struct primes, pool, gw_pool_fields),
    GW_FIELD(struct primes, workers),
    GW_FIELD(struct primes, where),
    GW_FIELD(struct primes, lease_ms),
};

static gw_err on_create(struct gw_call *call)
{
    struct primes *p = gw_state(call);
    struct gw_pool_options options = {.type = "prime_worker",
                                      .size = p->workers > 0 ? p->workers : 2,
                                      .where = p->where && p->where[0] ? p->where : "any",
                                      .lease_ms = p->lease_ms > 0 ? p->lease_ms : 5000};
    return gw_pool_open(call, &p->pool, &options);
}

/* The answer comes from `done`; GW_EBUSY when too many jobs wait: back-pressure. */
static gw_err count(struct gw_call *call)
{
    struct primes *p = gw_state(call);
    gw_value range = gw_nil();
    GW_TRY(gw_map_set(&range, "from", gw_int(gw_arg_int(call, "from"))));
    GW_TRY(gw_map_set(&range, "to", gw_int(gw_arg_int(call, "to"))));
    gw_err err = gw_pool_submit(call, &p->pool, &range);
    gw_value_free(&range);
    return err;
}

static gw_err done(struct gw_call *call)
{
    struct primes *p = gw_state(call);
    return gw_pool_done(call, &p->pool);
}

static gw_err on_timer(struct gw_call *call)
{
    struct primes *p = gw_state(call);
    gw_err err = GW_OK;
    (void)gw_pool_timer(call, &p->pool, &err);
    return err;
}

static gw_err info(struct gw_call *call)
{
    const struct primes *p = gw_state(call);
    GW_TRY(gw_reply_int(call, "workers", (int64_t)p->pool.workers.len));
    GW_TRY(gw_reply_int(call, "jobs", (int64_t)p->pool.jobs.len));
    return gw_reply_int(call, "lost", p->pool.lost);
}

static gw_err on_dispose(struct gw_call *call)
{
    struct primes *p = gw_state(call);
    for (size_t i = 0; i < p->pool.workers.len; i++) { /* who cannot be reached stays */
        gw_err err = gw_dispose_other(call, p->pool.workers.items[i].agent);
        if (err != GW_OK) {
            gw_log(call, GW_LOG_WARN, "a worker stays: %s", gw_call_why(call)->text);
        }
    }
    return GW_OK;
}

static const struct gw_method methods[] = {
    {"count(from: int[0..], to: int[0..1000000000]) -> (result: any)", count},
    {"done(job: int, lease: int, result: any?, error: string?)", done},
    {"info() -> (workers: int, jobs: int, lost: int)", info, GW_READ},
};
GW_AGENT(primes, struct primes, GW_FIELDS(fields), GW_METHODS(methods), .on_create = on_create,
         .on_timer = on_timer, .on_dispose = on_dispose);
