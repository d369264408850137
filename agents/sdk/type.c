#include "agents/sdk/type.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/base/id.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"

gw_handler type_hook(const struct gw_type *def, uint32_t hook)
{
    switch (hook) {
    case HOOK_CREATE: return def->on_create;
    case HOOK_DISPATCH: return def->on_dispatch;
    case HOOK_ARRIVE: return def->on_arrive;
    case HOOK_CLONE: return def->on_clone;
    case HOOK_RETRACT: return def->on_retract;
    case HOOK_DEACTIVATE: return def->on_deactivate;
    case HOOK_ACTIVATE: return def->on_activate;
    case HOOK_DISPOSE: return def->on_dispose;
    case HOOK_TIMER: return def->on_timer;
    case HOOK_DOWN: return def->on_down;
    case HOOK_RUN: return def->run;
    default: return NULL;
    }
}

const struct type_method *type_method_find(const struct type *type, const char *name)
{
    for (size_t i = 0; i < type->method_count; i++) {
        if (strcmp(signature_name(type->methods[i].sig), name) == 0) {
            return &type->methods[i];
        }
    }
    return NULL;
}

/* Names of a signature's arguments, so that a handler that asks for another name is told so. */
static gw_err param_names(const struct signature *sig, gw_value *ret)
{
    gw_value about = {0}, names = {0};
    GW_TRY(signature_describe(sig, &about));
    const gw_value *args = gw_map_get(&about, "args");
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && args && args->kind == GW_LIST && i < args->list.n; i++) {
        err = gw_list_add(&names, gw_str(gw_map_str(&args->list.items[i], "name", "")));
    }
    gw_value_free(&about);
    if (err != GW_OK) {
        gw_value_free(&names);
        return err;
    }
    *ret = names;
    return GW_OK;
}

static gw_err add_method(struct type *type, const struct gw_method *def, struct gw_error *why)
{
    const char *name = type->def->name;
    if (!def->signature || !def->handler) {
        return gw_fail(why, GW_EPLUGIN, "type \"%s\": method %zu has no %s", name,
                       type->method_count + 1, def->signature ? "handler" : "signature");
    }
    if (def->flags & ~GW_READ) {
        return gw_fail(why, GW_EPLUGIN, "type \"%s\": method \"%.100s\" has unknown flags 0x%x",
                       name, def->signature, def->flags);
    }
    struct signature *sig;
    gw_err err = signature_parse(def->signature, &sig, why);
    if (err != GW_OK) {
        gw_prefix(why, "type \"%s\"", name);
        return err;
    }
    if (type_method_find(type, signature_name(sig))) {
        err = gw_fail(why, GW_EPLUGIN, "type \"%s\": two methods are called \"%s\"", name,
                      signature_name(sig));
        signature_free(sig);
        return err;
    }
    struct type_method *m =
        &type->methods[type->method_count++]; /* type_deinit frees it from here */
    m->sig = sig;
    m->def = def;
    return param_names(sig, &m->params);
}

static gw_err check_def(const struct gw_type *def, struct gw_error *why)
{
    if (!def) {
        return gw_fail(why, GW_EPLUGIN, "the plugin lists a type that is NULL");
    }
    if (def->abi != GW_ABI) {
        return gw_fail(why, GW_EABI, "the type was built for agent ABI %u, this Godwit has ABI %u",
                       def->abi, GW_ABI);
    }
    if (def->size != sizeof *def) {
        return gw_fail(why, GW_EABI, "struct gw_type has %u bytes in the plugin and %zu bytes here",
                       def->size, sizeof *def);
    }
    if (!def->name || !name_is_valid(def->name)) {
        return gw_fail(why, GW_EPLUGIN, "\"%.80s\" is not a valid name of a type",
                       def->name ? def->name : "");
    }
    if ((def->field_count && !def->fields) || (def->method_count && !def->methods)) {
        return gw_fail(why, GW_EPLUGIN, "type \"%s\" counts fields or methods but has no table",
                       def->name);
    }
    if (def->oldest_reader > (def->version ? def->version : 1)) {
        return gw_fail(why, GW_EPLUGIN,
                       "type \"%s\" says that its own version %u cannot read what it writes",
                       def->name, def->version);
    }
    if (def->idle_timeout_ms < 0 || def->idle_timeout_ms > LIMIT_TIMER_MS) {
        return gw_fail(why, GW_EPLUGIN, "type \"%s\" cannot be idle for %lld ms", def->name,
                       (long long)def->idle_timeout_ms);
    }
    if (def->sleep & ~(GW_SLEEP_QUEUE | GW_SLEEP_WAKE | GW_SLEEP_AT_START) ||
        (def->sleep & GW_SLEEP_QUEUE && def->sleep & GW_SLEEP_WAKE)) {
        return gw_fail(why, GW_EPLUGIN, "type \"%s\" sleeps with flags 0x%x, which cannot be",
                       def->name, def->sleep);
    }
    if ((def->quarantine_after > LIMIT_CRASHES && def->quarantine_after != GW_NO_QUARANTINE) ||
        def->quarantine_within_ms < 0 || def->quarantine_within_ms > LIMIT_TIMER_MS) {
        return gw_fail(why, GW_EPLUGIN,
                       "type \"%s\" cannot be quarantined after %u crashes in %lld ms", def->name,
                       def->quarantine_after, (long long)def->quarantine_within_ms);
    }
    if ((unsigned)def->durability > GW_VOLATILE) {
        return gw_fail(why, GW_EPLUGIN, "type \"%s\" has unknown durability %d", def->name,
                       (int)def->durability);
    }
    return GW_OK;
}

gw_err type_init(struct type *type, const struct gw_type *def, struct gw_error *why)
{
    GW_TRY(check_def(def, why));
    struct type t = {.def = def, .fields = {def->fields, def->field_count}};
    t.version = def->version ? def->version : 1;
    t.oldest_reader = def->oldest_reader ? def->oldest_reader : def->upgrade ? t.version : 1;
    gw_err err = fields_check(t.fields, def->state_size, why);
    if (err != GW_OK) {
        gw_prefix(why, "type \"%s\"", def->name);
        return err;
    }
    t.methods = calloc(def->method_count + 1, sizeof *t.methods);
    if (!t.methods) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; err == GW_OK && i < def->method_count; i++) {
        err = add_method(&t, &def->methods[i], why);
    }
    if (err != GW_OK) {
        type_deinit(&t);
        return err;
    }
    *type = t;
    return GW_OK;
}

void type_deinit(struct type *type)
{
    for (size_t i = 0; i < type->method_count; i++) {
        signature_free(type->methods[i].sig);
        gw_value_free(&type->methods[i].params);
    }
    free(type->methods);
    *type = (struct type){0};
}

static gw_err describe_methods(const struct type *type, gw_value *ret)
{
    if (type->method_count == 0) { /* an empty list, not nil */
        ret->kind = GW_LIST;
    }
    for (size_t i = 0; i < type->method_count; i++) {
        gw_value m = {0};
        gw_err err = gw_map_set(&m, "signature", gw_str(signature_text(type->methods[i].sig)));
        if (err == GW_OK) {
            err = gw_map_set(&m, "read", gw_bool(type->methods[i].def->flags & GW_READ));
        }
        if (err != GW_OK) {
            gw_value_free(&m);
            return err;
        }
        GW_TRY(gw_list_add(ret, m));
    }
    return GW_OK;
}

/* {wake_on_message?, at_start?}: as the arguments of a deactivate. */
static gw_err describe_sleep(const struct gw_type *def, gw_value *ret)
{
    gw_value sleep = {.kind = GW_MAP};
    gw_err err = GW_OK;
    if (def->sleep & (GW_SLEEP_QUEUE | GW_SLEEP_WAKE)) {
        err = gw_map_set(&sleep, "wake_on_message", gw_bool(def->sleep & GW_SLEEP_WAKE));
    }
    if (err == GW_OK && def->sleep & GW_SLEEP_AT_START) {
        err = gw_map_set(&sleep, "at_start", gw_bool(true));
    }
    if (err != GW_OK) {
        gw_value_free(&sleep);
        return err;
    }
    GW_TRY(gw_map_set(ret, "sleep", sleep));
    return gw_map_set(ret, "idle_timeout_ms", gw_int(def->idle_timeout_ms));
}

static gw_err describe_into(const struct type *type, gw_value *ret)
{
    static const char *const durability[] = {"every_message", "transitions", "volatile"};
    int64_t hooks = 0;
    for (uint32_t h = HOOK_CREATE; h < HOOK_NONE; h++) {
        hooks |= type_hook(type->def, h) ? (int64_t)1 << h : 0;
    }
    gw_value fields = {0}, methods = {0};
    GW_TRY(gw_map_set(ret, "name", gw_str(type->def->name)));
    GW_TRY(gw_map_set(ret, "version", gw_int(type->version)));
    if (type->oldest_reader > 1) {
        GW_TRY(gw_map_set(ret, "oldest_reader", gw_int(type->oldest_reader)));
    }
    GW_TRY(fields_describe(type->fields, &fields));
    GW_TRY(gw_map_set(ret, "fields", fields));
    gw_err err = describe_methods(type, &methods);
    if (err != GW_OK) {
        gw_value_free(&methods);
        return err;
    }
    GW_TRY(gw_map_set(ret, "methods", methods));
    GW_TRY(gw_map_set(ret, "hooks", gw_int(hooks)));
    GW_TRY(describe_sleep(type->def, ret));
    GW_TRY(gw_map_set(ret, "quarantine_after", gw_int(type->def->quarantine_after)));
    GW_TRY(gw_map_set(ret, "quarantine_within_ms", gw_int(type->def->quarantine_within_ms)));
    return gw_map_set(ret, "durability", gw_str(durability[type->def->durability]));
}

gw_err type_describe(const struct type *type, gw_value *ret)
{
    gw_value v = {0};
    gw_err err = describe_into(type, &v);
    if (err != GW_OK) {
        gw_value_free(&v);
        return err;
    }
    *ret = v;
    return GW_OK;
}
