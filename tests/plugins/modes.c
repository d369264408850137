/* Types that differ in when their state is written. */
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

static const struct gw_method methods[] = {
    {"add(by: int = 1) -> (count: int)", add, 0},
    {"get() -> (count: int)", get, GW_READ},
};

GW_AGENT(saver, struct tally, .version = 1, GW_FIELDS(fields), GW_METHODS(methods),
         .durability = GW_TRANSITIONS);
GW_AGENT(vapor, struct tally, .version = 1, GW_FIELDS(fields), GW_METHODS(methods),
         .durability = GW_VOLATILE);
