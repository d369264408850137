/* A type as the engine holds it: the author's tables, checked, with parsed signatures. */
#ifndef AGENTS_SDK_TYPE_H
#define AGENTS_SDK_TYPE_H

#include "agents/sdk/engine.h"
#include "protocol/field.h"
#include "protocol/signature.h"

struct type_method {
    struct signature *sig; /* owned */
    gw_value params;       /* names of the arguments: list of texts */
    const struct gw_method *def;
};

struct type {
    const struct gw_type *def;
    struct fields fields;
    uint32_t version;       /* at least 1 */
    uint32_t oldest_reader; /* [1 .. version] */
    struct type_method *methods;
    size_t method_count;
};

/* Check an author's type and parse its signatures. */
gw_err type_init(struct type *type, const struct gw_type *def, struct gw_error *why) GW_MUST_USE;
void type_deinit(struct type *type);
/* NULL when there is none. */
const struct type_method *type_method_find(const struct type *type, const char *name);
gw_handler type_hook(const struct gw_type *def, uint32_t hook); /* NULL: no handler */
gw_err type_describe(const struct type *type, gw_value *ret) GW_MUST_USE;

#endif
