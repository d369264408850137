/* The smallest useful agent: it counts, and notes where it has been.
 *
 *     godwit create counter count=5
 *     godwit send AGENT increment by=2
 *     godwit dispatch AGENT beta          the count and the notes travel, `cache` does not */
#include <godwit/agent.h>

struct counter {
    int64_t count;  /* sum of all increments */
    gw_strs events; /* one line per arrival, oldest first */
    void *cache;    /* not in the table: stays behind, zero on every host */
};

/* What travels and what is written to disk. Names, kinds and sizes come from the members. */
static const struct gw_field fields[] = {
    GW_FIELD(struct counter, count),
    GW_FIELD(struct counter, events),
};

/* A handler is a transaction: when it returns an error (here: the sum does not fit), nothing of it
 * has happened. */
static gw_err increment(struct gw_call *call)
{
    struct counter *c = gw_state(call);
    GW_TRY(gw_add(&c->count, gw_arg_int(call, "by")));
    return gw_reply_int(call, "count", c->count);
}

/* Changes nothing (GW_READ below), so it is answered without a write to disk. */
static gw_err get(struct gw_call *call)
{
    struct counter *c = gw_state(call);
    GW_TRY(gw_reply_int(call, "count", c->count));
    return gw_reply_strs(call, "events", &c->events);
}

static gw_err on_arrive(struct gw_call *call)
{
    struct counter *c = gw_state(call);
    return gw_strs_addf(&c->events, "arrived at %s", gw_host_name(call));
}

/* The signature is the contract: it checks and fills in the arguments, checks the reply, types
 * key=value on the command line and is the help of the method. */
static const struct gw_method methods[] = {
    {"increment(by: int = 1) -> (count: int)", increment},
    {"get() -> (count: int, events: [string])", get, GW_READ},
};

GW_AGENT(counter, struct counter, .version = 1, GW_FIELDS(fields), GW_METHODS(methods),
         .on_arrive = on_arrive);
