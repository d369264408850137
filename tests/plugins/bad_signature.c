/* A typo in a signature. */
#include <godwit/agent.h>

struct bad_signature {
    int64_t n;
};

static gw_err go(struct gw_call *call)
{
    (void)call;
    return GW_OK;
}

static const struct gw_method methods[] = {{"go(times: itn = 1)", go}};

GW_AGENT(bad_signature, struct bad_signature, GW_METHODS(methods));
