/* Callers wait at a gate until it opens: answers by another handler than the one that was asked. */
#include <stdlib.h>

#include <godwit/agent.h>

struct visitor {
    gw_id token;
};
static const struct gw_field visitor_fields[] = {GW_FIELD(struct visitor, token)};

struct gate {
    struct {
        struct visitor *items;
        size_t len;
    } visitors;
    int64_t came;
};
static const struct gw_field gate_fields[] = {
    GW_LIST(struct gate, visitors, visitor_fields),
    GW_FIELD(struct gate, came),
};

static gw_err enter(struct gw_call *call)
{
    struct gate *g = gw_state(call);
    struct visitor *items = realloc(g->visitors.items, (g->visitors.len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    g->visitors.items = items;
    g->came++;
    return gw_reply_later(call, &items[g->visitors.len++].token);
}

static gw_err open_gate(struct gw_call *call)
{
    struct gate *g = gw_state(call);
    for (size_t i = 0; i < g->visitors.len; i++) {
        gw_value reply = gw_nil();
        GW_TRY(gw_map_set(&reply, "number", gw_int((int64_t)i + 1)));
        GW_TRY(gw_answer(call, g->visitors.items[i].token, reply));
    }
    GW_TRY(gw_reply_int(call, "entered", (int64_t)g->visitors.len));
    g->visitors.len = 0;
    return GW_OK;
}

static gw_err close_gate(struct gw_call *call)
{
    struct gate *g = gw_state(call);
    while (g->visitors.len > 0) {
        GW_TRY(gw_answer_fail(call, g->visitors.items[--g->visitors.len].token, GW_EREFUSED,
                              "the gate is closed for today"));
    }
    return GW_OK;
}

/* From an agent: waits at another gate, as long as that takes. */
static gw_err visit(struct gw_call *call)
{
    gw_value reply;
    GW_TRY(gw_ask(call, gw_arg_id(call, "gate"), "enter", gw_nil(), &reply));
    int64_t number = gw_map_int(&reply, "number", 0);
    gw_value_free(&reply);
    return gw_reply_int(call, "number", number);
}

static gw_err came(struct gw_call *call)
{
    const struct gate *g = gw_state(call);
    return gw_reply_int(call, "came", g->came);
}

static const struct gw_method gate_methods[] = {
    {"enter() -> (number: int)", enter},
    {"open() -> (entered: int)", open_gate},
    {"close()", close_gate},
    {"visit(gate: agent) -> (number: int)", visit},
    {"came() -> (came: int)", came, GW_READ},
};
GW_AGENT(gate, struct gate, GW_FIELDS(gate_fields), GW_METHODS(gate_methods));
