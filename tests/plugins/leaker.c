/* Loses memory: as a plugin in its method, as a library that is preloaded at its begin. */
#include <stdlib.h>
#include <string.h>

#include <godwit/agent.h>

struct leaker {
    int64_t lost;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct leaker, lost),
};

static void *volatile held;

static void lose(void)
{
    held = malloc(77);
    if (held) {
        memset(held, 1, 77);
    }
    held = NULL;
}

static gw_err leak(struct gw_call *call)
{
    struct leaker *l = gw_state(call);
    lose();
    return gw_add(&l->lost, 77);
}

static const struct gw_method methods[] = {{"leak()", leak}};

GW_AGENT(leaker, struct leaker, GW_FIELDS(fields), GW_METHODS(methods));

static __attribute__((constructor)) void begin(void)
{
    if (getenv("LEAK_AT_START")) {
        lose();
    }
}
