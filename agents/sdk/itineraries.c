/* Verbs about itineraries: checked, and recorded. */
#include "agents/sdk/call.h"

#include <string.h>

#include "protocol/base/id.h"
#include "protocol/value.h"

static gw_err itinerary_here(struct gw_call *call)
{
    uint32_t hook = call->run->hook;
    return hook == HOOK_DISPATCH || hook == HOOK_DISPOSE
               ? gw_call_fail(call, GW_ENOT_SUPPORTED,
                              "an itinerary cannot be set in on_dispatch or on_dispose")
               : GW_OK;
}

static gw_err stop_check(struct gw_call *call, const struct gw_stop *s)
{
    if (!s->to || !s->to[0] || strlen(s->to) > LIMIT_STOP_TO_BYTES) {
        return gw_call_fail(call, GW_EARG, "a stop names no host");
    }
    if (s->method && !name_is_valid(s->method)) {
        return gw_call_fail(call, GW_EARG, "\"%.80s\" is not a method name", s->method);
    }
    if ((unsigned)s->policy > GW_STOP_WAIT || s->retries > UINT16_MAX ||
        (s->args.kind != GW_NIL && s->args.kind != GW_MAP)) {
        return gw_call_fail(call, GW_EARG, "the stop at \"%.100s\" is not well formed", s->to);
    }
    return GW_OK;
}

/* {to, method?, args?, policy, retries?}; takes the arguments of the stop. */
static gw_err stop_value(struct gw_stop *s, gw_value *ret)
{
    static const char *const policies[] = {"retry", "skip", "wait"};
    GW_TRY(gw_map_set(ret, "to", gw_str(s->to)));
    GW_TRY(gw_map_set(ret, "policy", gw_str(policies[s->policy])));
    GW_TRY(s->method ? gw_map_set(ret, "method", gw_str(s->method)) : GW_OK);
    GW_TRY(s->retries > 0 ? gw_map_set(ret, "retries", gw_int(s->retries)) : GW_OK);
    gw_value args = s->args;
    s->args = gw_nil();
    return args.kind == GW_MAP ? gw_map_set(ret, "args", args) : GW_OK;
}

static gw_err stops_value(struct gw_call *call, const struct gw_stop *stops, size_t count,
                          size_t *ret_taken, gw_value *ret)
{
    gw_err err = itinerary_here(call);
    if (err == GW_OK && (count < 1 || count > LIMIT_STOPS)) {
        err = gw_call_fail(call, GW_EARG, "an itinerary has 1 to %d stops", LIMIT_STOPS);
    }
    ret->kind = GW_LIST;
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        struct gw_stop s = stops[i];
        gw_value one = {0};
        err = stop_check(call, &s);
        if (err == GW_OK) {
            *ret_taken = i + 1;
            err = stop_value(&s, &one);
        }
        if (err == GW_OK) {
            err = gw_list_add(ret, one);
        } else {
            gw_value_free(&one);
            if (*ret_taken == i + 1) {
                gw_value_free(&s.args);
            }
        }
    }
    return err;
}

gw_err gw_itinerary(struct gw_call *call, const struct gw_stop *stops, size_t count, uint32_t flags)
{
    gw_value args = {0}, list = {0};
    size_t taken = 0;
    gw_err err = flags & ~GW_STAY ? gw_call_fail(call, GW_EARG, "unknown flags 0x%x", flags)
                                  : stops_value(call, stops, count, &taken, &list);
    for (size_t i = taken; i < count; i++) {
        gw_value rest = stops[i].args;
        gw_value_free(&rest);
    }
    if (err == GW_OK) {
        err = gw_map_set(&args, "stops", list);
    } else {
        gw_value_free(&list);
    }
    if (err == GW_OK) {
        err = gw_map_set(&args, "home", gw_bool(!(flags & GW_STAY)));
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        return err;
    }
    return call_record(call, "itinerary", args);
}

gw_err gw_itinerary_cancel(struct gw_call *call)
{
    gw_value args = {0};
    GW_TRY(itinerary_here(call));
    GW_TRY(gw_map_set(&args, "cancel", gw_bool(true)));
    return call_record(call, "itinerary", args);
}
