/* One type in two builds (morph_v2.c): this is the older one. A second type, whose newer build
 * changes the meaning of a field. */
#include <stdlib.h>
#include <string.h>

#include <godwit/agent.h>

struct morph {
    char *name;
    int64_t count;
    gw_strs secret; /* the newer build has removed it */
};
static const struct gw_field morph_fields[] = {
    GW_FIELD(struct morph, name),
    GW_FIELD(struct morph, count),
    GW_FIELD(struct morph, secret),
};

static gw_err set(struct gw_call *call)
{
    struct morph *m = gw_state(call);
    m->count++;
    GW_TRY(gw_strs_add(&m->secret, gw_arg_str(call, "text")));
    free(m->name);
    m->name = strdup(gw_arg_str(call, "text"));
    return m->name ? GW_OK : GW_ENOMEM;
}

static const struct gw_method morph_methods[] = {
    {"set(text: string)", set},
};
GW_AGENT(morph, struct morph, .version = 1, GW_FIELDS(morph_fields), GW_METHODS(morph_methods));

struct meter {
    int64_t length; /* centimetres */
};
static const struct gw_field meter_fields[] = {
    GW_FIELD(struct meter, length),
};

static gw_err grow(struct gw_call *call)
{
    struct meter *m = gw_state(call);
    m->length += gw_arg_int(call, "cm");
    return GW_OK;
}

static const struct gw_method meter_methods[] = {
    {"grow(cm: int)", grow},
};
GW_AGENT(meter, struct meter, .version = 1, GW_FIELDS(meter_fields), GW_METHODS(meter_methods));
