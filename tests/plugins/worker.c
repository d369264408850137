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
    struct timespec t = {.tv_nsec = gw_arg_int(call, "ms") * 1000000};
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
    {"swap(whom: agent, ms: int[0..900]) -> (got: any)", swap},
    {"say(text: string)", say},
};

GW_AGENT(worker, struct worker, GW_FIELDS(fields), GW_METHODS(methods));
GW_AGENT(idler, struct worker, .version = 3, GW_FIELDS(fields), .durability = GW_VOLATILE);
