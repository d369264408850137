/* A keeper that has one worker at work on some other host, as docs/agents.md shows it. */
#include <string.h>

#include <godwit/agent.h>

struct worker {
    int64_t done;
};
static const struct gw_field worker_fields[] = {GW_FIELD(struct worker, done)};

static gw_err retire(struct gw_call *call)
{
    return gw_dispose(call);
}
static const struct gw_method worker_methods[] = {{"retire()", retire}};
GW_AGENT(hand, struct worker, GW_FIELDS(worker_fields), GW_METHODS(worker_methods));

struct keeper {
    gw_id worker, watch; /* whom it keeps, and the monitor of it */
    gw_strs diary;
};
static const struct gw_field keeper_fields[] = {
    GW_FIELD(struct keeper, worker),
    GW_FIELD(struct keeper, watch),
    GW_FIELD(struct keeper, diary),
};

static gw_err hire(struct gw_call *call)
{
    struct keeper *k = gw_state(call);
    if (gw_create(call, "hand", gw_nil(), "tag:work", &k->worker) != GW_OK) {
        return gw_timer(call, "hire", 1000, gw_nil());
    }
    struct gw_monitor what = {.agent = k->worker, .lost_ms = 2000};
    return gw_monitor_with(call, &what, &k->watch);
}

static gw_err on_down(struct gw_call *call)
{
    struct keeper *k = gw_state(call);
    gw_id ref = gw_down_ref(call), old = gw_down_agent(call);
    if (memcmp(&ref, &k->watch, sizeof ref) != 0) {
        return GW_OK;
    }
    GW_TRY(gw_strs_addf(&k->diary, "%s on %s", gw_reason(call), gw_down_host(call)));
    if (gw_down_reason(call) == GW_DOWN_HOST_LOST) {
        GW_TRY(gw_tell(call, old, "retire", gw_nil()));
    }
    return hire(call);
}

static const struct gw_method keeper_methods[] = {{"hire()", hire}};
GW_AGENT(keeper, struct keeper, GW_FIELDS(keeper_fields), GW_METHODS(keeper_methods),
         .on_timer = hire, .on_down = on_down);
