/* An agent that sleeps as it likes, for tests of sleep: refuses while it is armed, lies down when
 * it is idle. */
#include <godwit/agent.h>

struct watch {
    bool armed;
    int64_t count, wakes;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct watch, armed),
    GW_FIELD(struct watch, count),
    GW_FIELD(struct watch, wakes),
};

static gw_err increment(struct gw_call *call)
{
    struct watch *w = gw_state(call);
    GW_TRY(gw_add(&w->count, 1));
    return gw_reply_int(call, "count", w->count);
}

static gw_err arm(struct gw_call *call)
{
    struct watch *w = gw_state(call);
    w->armed = gw_arg_bool(call, "on");
    return GW_OK;
}

static gw_err on_deactivate(struct gw_call *call)
{
    const struct watch *w = gw_state(call);
    return w->armed ? gw_call_fail(call, GW_EARG, "the watch is armed") : GW_OK;
}

static gw_err on_activate(struct gw_call *call)
{
    struct watch *w = gw_state(call);
    return gw_add(&w->wakes, 1);
}

static const struct gw_method methods[] = {
    {"increment() -> (count: int)", increment},
    {"arm(on: bool)", arm},
};

GW_AGENT(watch, struct watch, GW_FIELDS(fields), GW_METHODS(methods),
         .on_deactivate = on_deactivate, .on_activate = on_activate);
GW_AGENT(lazy, struct watch, GW_FIELDS(fields), GW_METHODS(methods), .on_activate = on_activate,
         .idle_timeout_ms = 500);
