/* Two types for the tests of the runner's threads. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <godwit/agent.h>

struct worker {
    gw_strs notes;
    int64_t count;
};

static const struct gw_field fields[] = {
    GW_FIELD(struct worker, notes),
    GW_FIELD(struct worker, count),
};

static gw_err nap(struct gw_call *call)
{
    struct worker *w = gw_state(call);
    usleep((useconds_t)gw_arg_int(call, "ms") * 1000);
    w->count++;
    return GW_OK;
}

/* Computes instead of sleeping. */
static gw_err spin(struct gw_call *call)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t end = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 + gw_arg_int(call, "us");
    do {
        clock_gettime(CLOCK_MONOTONIC, &t);
    } while ((int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 < end);
    return GW_OK;
}

static gw_err note(struct gw_call *call)
{
    struct worker *w = gw_state(call);
    w->count++;
    return gw_strs_addf(&w->notes, "%s", gw_arg_str(call, "text"));
}

static gw_err add(struct gw_call *call)
{
    struct worker *w = gw_state(call);
    w->count++;
    return gw_reply_int(call, "count", w->count);
}

static gw_err notes(struct gw_call *call)
{
    struct worker *w = gw_state(call);
    return gw_reply_strs(call, "notes", &w->notes);
}

/* Two of them that swap with each other at the same moment wait for each other. */
static gw_err swap(struct gw_call *call)
{
    struct timespec t = {.tv_sec = gw_arg_int(call, "ms") / 1000,
                         .tv_nsec = gw_arg_int(call, "ms") % 1000 * 1000000};
    gw_value reply;
    nanosleep(&t, NULL);
    GW_TRY(gw_ask(call, gw_arg_id(call, "whom"), "add", gw_nil(), &reply));
    return gw_reply_value(call, "got", reply);
}

static gw_err ask(struct gw_call *call)
{
    struct worker *w = gw_state(call);
    gw_value reply;
    GW_TRY(gw_ask(call, gw_arg_id(call, "whom"), "get", gw_nil(), &reply));
    w->count++;
    return gw_reply_value(call, "got", reply);
}

/* Ask everyone at once; `order`: who answered, in the order of the answers. `wait` 0: for nobody.
 */
static gw_err fan(struct gw_call *call)
{
    const gw_value *whom = gw_arg_value(call, "whom");
    struct gw_future *futures[64];
    size_t n = whom->list.n < 64 ? whom->list.n : 64, index;
    gw_strs order = {0};
    int64_t sum = 0, wait_ms = gw_arg_int(call, "wait");
    for (size_t i = 0; i < n; i++) {
        GW_TRY(gw_ask_async(call, whom->list.items[i].id, "get", gw_nil(), &futures[i]));
    }
    gw_err err = wait_ms ? gw_wait_any(call, futures, n, wait_ms, &index) : GW_ENOT_FOUND;
    while (err == GW_OK) {
        gw_value reply = gw_nil();
        err = gw_wait(call, futures[index], 0, &reply);
        sum += err == GW_OK ? reply.i : 1000;
        gw_value_free(&reply);
        GW_TRY(gw_strs_addf(&order, "%zu", index));
        err = gw_wait_any(call, futures, n, wait_ms, &index);
    }
    err = gw_reply_strs(call, "order", &order);
    gw_strs_clear(&order);
    GW_TRY(err);
    return gw_reply_int(call, "sum", sum);
}

/* Ask everyone and wait for all; how many were answered in time. */
static gw_err all(struct gw_call *call)
{
    const gw_value *whom = gw_arg_value(call, "whom");
    struct gw_future *futures[64];
    size_t n = whom->list.n < 64 ? whom->list.n : 64;
    int64_t done = 0;
    for (size_t i = 0; i < n; i++) {
        GW_TRY(gw_ask_async(call, whom->list.items[i].id, gw_arg_str(call, "method"), gw_nil(),
                            &futures[i]));
    }
    gw_err err = gw_wait_all(call, futures, n, gw_arg_int(call, "wait"));
    for (size_t i = 0; i < n; i++) {
        done += gw_future_done(call, futures[i]);
    }
    GW_TRY(gw_reply_int(call, "done", done));
    return gw_reply_str(call, "code", gw_err_name(err));
}

static gw_err say(struct gw_call *call)
{
    gw_log(call, GW_LOG_INFO, "%s", gw_arg_str(call, "text"));
    return GW_OK;
}

static const struct gw_method methods[] = {
    {"nap(ms: int[0..60000])", nap},
    {"spin(us: int[0..60000000])", spin},
    {"note(text: string)", note},
    {"add() -> (count: int)", add},
    {"notes() -> (notes: [string])", notes, GW_READ},
    {"ask(whom: agent) -> (got: any)", ask},
    {"swap(whom: agent, ms: int[0..5000]) -> (got: any)", swap},
    {"fan(whom: [agent], wait: int) -> (order: [string], sum: int)", fan},
    {"all(whom: [agent], wait: int, method: string = \"get\") -> (done: int, code: string)", all},
    {"say(text: string)", say},
};

GW_AGENT(worker, struct worker, GW_FIELDS(fields), GW_METHODS(methods));
GW_AGENT(idler, struct worker, .version = 3, GW_FIELDS(fields), .durability = GW_VOLATILE);
