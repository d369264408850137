/* Verbs of a handler about monitors, and what on_down sees of one. */
#include <string.h>

#include <sodium.h>

#include "agents/sdk/call.h"
#include "protocol/base/id.h"

static gw_err not_leaving(struct gw_call *call)
{
    uint32_t hook = call->run->hook;
    if (hook == HOOK_DISPATCH || hook == HOOK_DISPOSE) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED,
                            "monitors cannot be set or ended in on_dispatch or on_dispose");
    }
    return GW_OK;
}

static gw_err check(struct gw_call *call, const struct gw_monitor *what)
{
    bool agent = !gw_id_is_nil(&what->agent), host = what->host && what->host[0];
    GW_TRY(not_leaving(call));
    if (!call->state->type->def->on_down) {
        return gw_call_fail(call, GW_EARG, "the type has no on_down, which a monitor calls");
    }
    if (agent == host) {
        return gw_call_fail(call, GW_EARG, "a monitor watches either an agent or a host");
    }
    if (host && strlen(what->host) > LIMIT_NAME_BYTES) {
        return gw_call_fail(call, GW_EARG, "\"%.80s\" is not a name of a host", what->host);
    }
    if (agent && gw_id_equal(&what->agent, &call->run->agent)) {
        return gw_call_fail(call, GW_EARG, "an agent cannot watch itself");
    }
    if (what->lost_ms < GW_NEVER || what->lost_ms > LIMIT_LOST_MS) {
        return gw_call_fail(call, GW_EARG, "a host cannot be lost after %lld ms",
                            (long long)what->lost_ms);
    }
    return GW_OK;
}

/* {ref, agent | host, lost?} */
static gw_err describe(const struct gw_monitor *what, const gw_id *ref, gw_value *ret)
{
    GW_TRY(gw_map_set(ret, "ref", gw_id_value(ref)));
    if (what->host && what->host[0]) {
        gw_value host = {0};
        GW_TRY(gw_value_set_str(&host, what->host, strlen(what->host)));
        GW_TRY(gw_map_set(ret, "host", host));
    } else {
        GW_TRY(gw_map_set(ret, "agent", gw_id_value(&what->agent)));
    }
    return what->lost_ms ? gw_map_set(ret, "lost", gw_int(what->lost_ms)) : GW_OK;
}

gw_err gw_monitor_with(struct gw_call *call, const struct gw_monitor *what, gw_id *ret_ref)
{
    gw_value args = {0};
    gw_id ref;
    GW_TRY(check(call, what));
    randombytes_buf(ref.b, sizeof ref.b);
    gw_err err = describe(what, &ref, &args);
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    GW_TRY(call_record(call, "monitor", args));
    if (ret_ref) {
        *ret_ref = ref;
    }
    return GW_OK;
}

gw_err gw_monitor(struct gw_call *call, gw_id agent, gw_id *ret_ref)
{
    return gw_monitor_with(call, &(struct gw_monitor){.agent = agent}, ret_ref);
}

gw_err gw_monitor_host(struct gw_call *call, const char *host, gw_id *ret_ref)
{
    return gw_monitor_with(call, &(struct gw_monitor){.host = host}, ret_ref);
}

gw_err gw_demonitor(struct gw_call *call, gw_id ref)
{
    gw_value args = {0};
    GW_TRY(not_leaving(call));
    GW_TRY(gw_map_set(&args, "ref", gw_id_value(&ref)));
    return call_record(call, "demonitor", args);
}

/* --- in on_down --- */

static const gw_value *told(struct gw_call *call, const char *key)
{
    return call->run->hook == HOOK_DOWN ? gw_map_get(&call->args, key) : NULL;
}

static gw_id told_id(struct gw_call *call, const char *key)
{
    const gw_value *v = told(call, key);
    return v && v->kind == GW_ID ? v->id : (gw_id){0};
}

gw_id gw_down_ref(struct gw_call *call)
{
    return told_id(call, "ref");
}

gw_id gw_down_agent(struct gw_call *call)
{
    return told_id(call, "agent");
}

const char *gw_down_host(struct gw_call *call)
{
    const gw_value *v = told(call, "host");
    return v && v->kind == GW_STR ? v->s.p : "";
}

gw_down gw_down_reason(struct gw_call *call)
{
    static const char *const words[] = {
        [GW_DOWN_DISPOSED] = "disposed",   [GW_DOWN_CRASHED] = "crashed",
        [GW_DOWN_HOST_LOST] = "host_lost", [GW_DOWN_NOT_FOUND] = "not_found",
        [GW_DOWN_REFUSED] = "refused",
    };
    const gw_value *v = told(call, "reason");
    for (size_t i = GW_DOWN_DISPOSED; v && v->kind == GW_STR && i <= GW_DOWN_REFUSED; i++) {
        if (strcmp(v->s.p, words[i]) == 0) {
            return (gw_down)i;
        }
    }
    return GW_DOWN_NONE;
}
