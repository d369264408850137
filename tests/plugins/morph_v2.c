/* The newer build of the types in morph_v1.c. */
#include <stdlib.h>
#include <string.h>

#include <godwit/agent.h>

struct morph {
    char *label; /* was `name` */
    int64_t count;
    gw_strs history; /* new */
};
static const struct gw_field morph_fields[] = {
    GW_FIELD_RENAMED(struct morph, label, "name"),
    GW_FIELD(struct morph, count),
    GW_FIELD_SINCE(struct morph, history, 2),
};

static gw_err set(struct gw_call *call)
{
    struct morph *m = gw_state(call);
    m->count++;
    GW_TRY(gw_strs_add(&m->history, gw_arg_str(call, "text")));
    free(m->label);
    m->label = strdup(gw_arg_str(call, "text"));
    return m->label ? GW_OK : GW_ENOMEM;
}

static const struct gw_method morph_methods[] = {
    {"set(text: string)", set},
};
GW_AGENT(morph, struct morph, .version = 2, GW_FIELDS(morph_fields), GW_METHODS(morph_methods));

struct meter {
    int64_t length; /* millimetres */
};
static const struct gw_field meter_fields[] = {
    GW_FIELD(struct meter, length),
};

static gw_err grow(struct gw_call *call)
{
    struct meter *m = gw_state(call);
    m->length += 10 * gw_arg_int(call, "cm");
    return GW_OK;
}

static gw_err upgrade(void *state, uint32_t from)
{
    struct meter *m = state;
    m->length *= from < 2 ? 10 : 1;
    return GW_OK;
}

static const struct gw_method meter_methods[] = {
    {"grow(cm: int)", grow},
};
GW_AGENT(meter, struct meter, .version = 2, GW_FIELDS(meter_fields), GW_METHODS(meter_methods),
         .upgrade = upgrade);
