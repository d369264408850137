/* Listens to topics and publishes, for the tests of topics. */
#include <godwit/agent.h>

struct radio {
    gw_strs heard; /* "topic text" */
};
static const struct gw_field fields[] = {GW_FIELD(struct radio, heard)};

static gw_err listen(struct gw_call *call)
{
    return gw_subscribe(call, gw_arg_str(call, "topic"),
                        gw_arg_bool(call, "mesh") ? GW_SCOPE_MESH : GW_SCOPE_HOST);
}

static gw_err leave(struct gw_call *call)
{
    return gw_unsubscribe(call, gw_arg_str(call, "topic"));
}

static gw_err on_topic(struct gw_call *call)
{
    struct radio *r = gw_state(call);
    return gw_strs_addf(&r->heard, "%s %s", gw_topic(call), gw_arg_str(call, "text"));
}

static gw_err say(struct gw_call *call)
{
    gw_value args = gw_nil();
    GW_TRY(gw_map_set(&args, "text", gw_str(gw_arg_str(call, "text"))));
    return gw_publish(call, gw_arg_str(call, "topic"), NULL, args);
}

static gw_err heard(struct gw_call *call)
{
    const struct radio *r = gw_state(call);
    return gw_reply_strs(call, "heard", &r->heard);
}

static const struct gw_method methods[] = {
    {"listen(topic: string, mesh: bool = true)", listen},
    {"leave(topic: string)", leave},
    {"on_topic(text: string)", on_topic},
    {"say(topic: string, text: string)", say},
    {"heard() -> (heard: [string])", heard, GW_READ},
};
GW_AGENT(radio, struct radio, GW_FIELDS(fields), GW_METHODS(methods));
