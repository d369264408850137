/* Verbs of a handler about topics: recorded ones. */
#include "agents/sdk/call.h"

#include "protocol/base/id.h"
#include "protocol/value.h"

/* {topic} when it may be used here. */
static gw_err topic_map(struct gw_call *call, const char *verb, const char *topic, gw_value *ret)
{
    if (call->run->hook == HOOK_DISPATCH || call->run->hook == HOOK_DISPOSE) {
        return gw_call_fail(call, GW_ENOT_SUPPORTED,
                            "gw_%s cannot be used in on_dispatch or on_dispose", verb);
    }
    if (!topic || !name_is_valid(topic)) {
        return gw_call_fail(call, GW_EARG, "\"%.64s\" is not the name of a topic",
                            topic ? topic : "");
    }
    gw_value map = {0};
    GW_TRY(gw_map_set(&map, "topic", gw_str(topic)));
    *ret = map;
    return GW_OK;
}

gw_err gw_subscribe(struct gw_call *call, const char *topic, gw_scope scope)
{
    gw_value map;
    GW_TRY(topic_map(call, "subscribe", topic, &map));
    gw_err err = gw_map_set(&map, "mesh", gw_bool(scope == GW_SCOPE_MESH));
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    return call_record(call, "subscribe", map);
}

gw_err gw_unsubscribe(struct gw_call *call, const char *topic)
{
    gw_value map;
    GW_TRY(topic_map(call, "unsubscribe", topic, &map));
    return call_record(call, "unsubscribe", map);
}

gw_err gw_publish(struct gw_call *call, const char *topic, const char *method, gw_value args)
{
    gw_value map = {0};
    gw_err err = topic_map(call, "publish", topic, &map);
    method = method ? method : "on_topic";
    if (err == GW_OK && !name_is_valid(method)) {
        err = gw_call_fail(call, GW_EARG, "\"%.64s\" is not the name of a method", method);
    }
    if (err == GW_OK && args.kind != GW_NIL && args.kind != GW_MAP) {
        err = gw_call_fail(call, GW_EARG, "the arguments for \"%s\" are not a map", method);
    }
    if (err == GW_OK) {
        err = gw_map_set(&map, "method", gw_str(method));
    }
    if (err != GW_OK) {
        gw_value_free(&args);
    } else {
        err = gw_map_set(&map, "args", args);
    }
    if (err != GW_OK) {
        gw_value_free(&map);
        return err;
    }
    return call_record(call, "publish", map);
}
