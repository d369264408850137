/* Types that differ in when their state is written. */
#include <time.h>

#include <godwit/agent.h>

struct tally {
    int64_t count;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct tally, count),
};

static gw_err add(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    GW_TRY(gw_add(&t->count, gw_arg_int(call, "by")));
    return gw_reply_int(call, "count", t->count);
}

static gw_err get(struct gw_call *call)
{
    const struct tally *t = gw_state(call);
    return gw_reply_int(call, "count", t->count);
}

static gw_err mark(struct gw_call *call)
{
    struct tally *t = gw_state(call);
    GW_TRY(gw_add(&t->count, 1));
    return gw_save(call);
}

static const struct gw_method methods[] = {
    {"add(by: int = 1) -> (count: int)", add, 0},
    {"get() -> (count: int)", get, GW_READ},
    {"mark()", mark, 0},
};

/* A long worker: a step of 20 ms, then a save. */
struct digger {
    int64_t step, steps, count;
    gw_strs log;
};
static const struct gw_field digger_fields[] = {
    GW_FIELD(struct digger, step),
    GW_FIELD(struct digger, steps),
    GW_FIELD(struct digger, count),
    GW_FIELD(struct digger, log),
};

static gw_err dig(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    while (d->step < d->steps) {
        struct timespec t = {.tv_nsec = 20000000};
        nanosleep(&t, NULL);
        GW_TRY(gw_strs_addf(&d->log, "%lld", (long long)d->step++));
        GW_TRY(gw_save(call));
    }
    return GW_OK;
}

static gw_err digger_add(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    GW_TRY(gw_add(&d->count, 1));
    return gw_reply_int(call, "step", d->step);
}

static gw_err digger_fail(struct gw_call *call)
{
    struct digger *d = gw_state(call);
    d->step = 1000000;
    return GW_EREFUSED;
}

static const struct gw_method digger_methods[] = {
    {"add() -> (step: int)", digger_add, 0},
    {"fail()", digger_fail, 0},
};

GW_AGENT(digger, struct digger, .version = 1, GW_FIELDS(digger_fields), GW_METHODS(digger_methods),
         .run = dig);

GW_AGENT(saver, struct tally, .version = 1, GW_FIELDS(fields), GW_METHODS(methods),
         .durability = GW_TRANSITIONS);
GW_AGENT(vapor, struct tally, .version = 1, GW_FIELDS(fields), GW_METHODS(methods),
         .durability = GW_VOLATILE);
