/* Needs a function that no Godwit has. */
#include <godwit/agent.h>

extern gw_err gw_not_in_any_version(struct gw_call *call);

struct undefined {
    int64_t n;
};

static gw_err go(struct gw_call *call)
{
    return gw_not_in_any_version(call);
}

static const struct gw_method methods[] = {{"go()", go}};

GW_AGENT(undefined, struct undefined, GW_METHODS(methods));
