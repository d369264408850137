#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/id.h"
#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/signature_type.h"
#include "protocol/text.h"
#include "protocol/value.h"

/* --- messages --- */

/* "points[3].x"; written only when a check has failed. */
static void write_path(const struct sig_path *path, struct buf *out)
{
    if (path->up) {
        write_path(path->up, out);
    }
    if (path->name) {
        buf_addf(out, path->up ? ".%s" : "%s", path->name);
    } else {
        buf_addf(out, "[%zu]", path->index);
    }
}

static const char *path_text(const struct sig_path *path, char *ret, size_t cap)
{
    struct buf out = {0};
    write_path(path, &out);
    snprintf(ret, cap, "%.*s", (int)out.len, out.data ? (char *)out.data : "");
    text_clean(ret);
    buf_free(&out);
    return ret;
}

static gw_err unwanted(const struct sig_type *type, const gw_value *v, const struct sig_path *path,
                       struct gw_error *why)
{
    char where[80], what[JSON_BRIEF_SIZE];
    if (!why) {
        return GW_EARG;
    }
    return gw_fail(why, GW_EARG, "\"%s\" wants %.100s, got %s",
                   path_text(path, where, sizeof where), type->text, json_brief(v, what));
}

/* --- text to value --- */

/* "a,b,c": the elements stay texts, for they are checked next, each as typed. */
static gw_err list_from_text(gw_value *v)
{
    gw_value list = {.kind = GW_LIST};
    const char *p = v->s.p;
    while (*p) {
        const char *end = strchr(p, ',');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        gw_value item = {0};
        gw_err err = gw_value_set_str(&item, p, n);
        err = err ? err : gw_list_add(&list, item);
        if (err) {
            gw_value_free(&list);
            return err;
        }
        p += n + (end != NULL);
    }
    gw_value_free(v);
    *v = list;
    return GW_OK;
}

static gw_err json_from_text(gw_value *v)
{
    gw_value parsed = {0};
    GW_TRY(json_parse(v->s.p, v->s.n, &parsed, NULL));
    gw_value_free(v);
    *v = parsed;
    return GW_OK;
}

static gw_err bytes_from_text(gw_value *v)
{
    gw_bytes bytes = {0};
    GW_TRY(text_base64(v->s.p, v->s.n, &bytes));
    gw_err err = gw_value_set_bytes(v, bytes.data, bytes.len);
    gw_bytes_clear(&bytes);
    return err;
}

/* Numbers may carry a unit of size: 64K. */
static gw_err number_from_text(sig_kind kind, const char *text, gw_value *ret)
{
    int64_t i;
    uint64_t u;
    if (kind == SIG_DURATION) {
        GW_TRY(text_duration(text, &i));
        *ret = gw_int(i);
    } else if (text_int(text, &i) == GW_OK) {
        *ret = gw_int(i);
    } else {
        GW_TRY(text_size(text, &u));
        *ret = gw_uint(u);
    }
    return GW_OK;
}

gw_err sig_from_text(const struct sig_type *type, gw_value *v)
{
    const char *text = v->s.p;
    gw_value out = {0};
    switch (type->kind) {
    case SIG_BOOL:
        out.kind = GW_BOOL;
        GW_TRY(text_bool(text, &out.b));
        break;
    case SIG_INT:
    case SIG_UINT:
    case SIG_DURATION: GW_TRY(number_from_text(type->kind, text, &out)); break;
    case SIG_FLOAT:
        out.kind = GW_FLOAT;
        GW_TRY(text_float(text, &out.f));
        break;
    case SIG_TIME:
        out.kind = GW_TIME;
        GW_TRY(text_time(text, &out.time));
        break;
    case SIG_AGENT:
        out.kind = GW_ID;
        GW_TRY(gw_id_parse(text, &out.id));
        break;
    case SIG_BYTES: return bytes_from_text(v);
    case SIG_MAP: return json_from_text(v);
    case SIG_LIST: return *text == '[' ? json_from_text(v) : list_from_text(v);
    case SIG_ANY:
        return json_from_text(v) == GW_ENOMEM ? GW_ENOMEM : GW_OK; /* else it stays a text */
    default: return GW_OK;
    }
    gw_value_free(v);
    *v = out;
    return GW_OK;
}

/* --- one value --- */

/* HASH or HASH@HOST. */
static bool is_artifact(const gw_value *v)
{
    static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (v->kind != GW_STR || strlen(v->s.p) != v->s.n) {
        return false;
    }
    size_t hash = strspn(v->s.p, plain);
    if (hash < 1 || hash > 128 || hash == v->s.n) {
        return hash >= 1 && hash <= 128;
    }
    const char *host = v->s.p + hash + 1;
    return v->s.p[hash] == '@' && strlen(host) <= LIMIT_NAME_BYTES && name_is_valid(host);
}

static bool kind_fits(const struct sig_type *type, const gw_value *v)
{
    bool whole = v->kind == GW_INT || v->kind == GW_UINT;
    switch (type->kind) {
    case SIG_BOOL: return v->kind == GW_BOOL;
    case SIG_INT: return v->kind == GW_INT;
    case SIG_UINT: return v->kind == GW_UINT || (v->kind == GW_INT && v->i >= 0);
    case SIG_DURATION: return v->kind == GW_INT && v->i >= 0;
    case SIG_FLOAT: return v->kind == GW_FLOAT || whole;
    case SIG_STRING: return v->kind == GW_STR;
    case SIG_BYTES: return v->kind == GW_BYTES;
    case SIG_TIME: return v->kind == GW_TIME;
    case SIG_AGENT: return v->kind == GW_ID;
    case SIG_ARTIFACT: return is_artifact(v);
    case SIG_LIST: return v->kind == GW_LIST;
    case SIG_MAP: return v->kind == GW_MAP;
    case SIG_ANY: return v->kind != GW_NIL;
    }
    return false;
}

static double as_float(const gw_value *v)
{
    return v->kind == GW_FLOAT ? v->f : v->kind == GW_UINT ? (double)v->u : (double)v->i;
}

static bool in_range(const struct sig_type *type, const gw_value *v)
{
    const struct sig_bound *lo = &type->lo, *hi = &type->hi;
    if (!lo->set && !hi->set) {
        return true;
    }
    if (type->kind == SIG_INT) {
        return !(lo->set && v->i < lo->i) && !(hi->set && v->i > hi->i);
    }
    if (type->kind == SIG_FLOAT) {
        double f = as_float(v);
        return f == f && !(lo->set && f < lo->f) && !(hi->set && f > hi->f); /* NaN is in none */
    }
    uint64_t u = type->kind == SIG_UINT ? v->u : v->s.n; /* uint, or a length */
    return !(lo->set && u < lo->u) && !(hi->set && u > hi->u);
}

static gw_err check_elements(const struct sig_type *type, gw_value *v, sig_mode mode,
                             const struct sig_path *path, struct gw_error *why)
{
    bool list = type->kind == SIG_LIST;
    size_t n = list ? v->list.n : v->map.n;
    for (size_t i = 0; i < n; i++) {
        struct sig_path at = {.up = path, .index = i};
        at.name = list ? NULL : v->map.items[i].key;
        gw_value *elem = list ? &v->list.items[i] : &v->map.items[i].value;
        GW_TRY(sig_check(type->elem, elem, mode, &at, why));
    }
    return GW_OK;
}

gw_err sig_check(const struct sig_type *type, gw_value *v, sig_mode mode,
                 const struct sig_path *path, struct gw_error *why)
{
    if (v->kind == GW_NIL && (type->optional || type->kind == SIG_ANY)) {
        return GW_OK;
    }
    bool json_text = type->kind == SIG_TIME || type->kind == SIG_AGENT;
    if (v->kind == GW_STR && (mode == SIG_TEXT || (mode == SIG_CONVERT && json_text))) {
        gw_err err = sig_from_text(type, v);
        if (err) {
            return err == GW_EARG ? unwanted(type, v, path, why) : err;
        }
        if (v->kind == GW_NIL && type->optional) { /* "null" typed for an optional any or list */
            return GW_OK;
        }
    }
    if (!kind_fits(type, v) || !in_range(type, v)) {
        return unwanted(type, v, path, why);
    }
    if (type->kind == SIG_FLOAT && mode != SIG_STRICT) {
        *v = gw_float(as_float(v));
    }
    return type->elem ? check_elements(type, v, mode, path, why) : GW_OK;
}

/* --- arguments and replies --- */

static const struct sig_param *find(const struct sig_params *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++) {
        if (text_same(list->items[i].name, name)) {
            return &list->items[i];
        }
    }
    return NULL;
}

/* Every member given has a parameter. */
static gw_err check_names(const struct signature *sig, const struct sig_params *list,
                          const gw_value *map, const char *what, struct gw_error *why)
{
    for (size_t i = 0; map->kind == GW_MAP && i < map->map.n; i++) {
        if (!find(list, map->map.items[i].key)) {
            char name[65];
            snprintf(name, sizeof name, "%s", map->map.items[i].key);
            text_clean(name);
            gw_fail(why, GW_EARG, "\"%s\" is not %s of \"%s\"", name, what, sig->name);
            gw_hint(why, "it is %.180s", sig->text);
            return GW_EARG;
        }
    }
    return GW_OK;
}

static gw_err missing(const struct signature *sig, const struct sig_param *param, const char *what,
                      struct gw_error *why)
{
    gw_fail(why, GW_EARG, "%s \"%s\" (%.100s) of \"%s\" is missing", what, param->name,
            param->type->text, sig->name);
    gw_hint(why, "it is %.180s", sig->text);
    return GW_EARG;
}

static gw_err fill_default(const struct sig_param *param, gw_value *args)
{
    gw_value copy = {0};
    GW_TRY(gw_value_copy(&param->fallback, &copy));
    return gw_map_set(args, param->name, copy);
}

gw_err signature_check_args(const struct signature *sig, gw_value *args, bool text,
                            struct gw_error *why)
{
    if (args->kind != GW_NIL && args->kind != GW_MAP) {
        return gw_fail(why, GW_EARG, "the arguments of \"%s\" are a map, got %s", sig->name,
                       value_kind_name(args->kind));
    }
    GW_TRY(check_names(sig, &sig->args, args, "an argument", why));
    for (size_t i = 0; i < sig->args.n; i++) {
        const struct sig_param *param = &sig->args.items[i];
        gw_value *v = (gw_value *)gw_map_get(args, param->name); /* args is ours to change */
        struct sig_path path = {.name = param->name};
        gw_err err = GW_OK;
        if (v) {
            err = sig_check(param->type, v, text ? SIG_TEXT : SIG_CONVERT, &path, why);
        } else if (param->has_default) {
            err = fill_default(param, args);
        } else if (!param->type->optional) {
            return missing(sig, param, "the argument", why);
        }
        if (err) {
            return err == GW_ENOMEM ? gw_fail(why, err, "out of memory") : err;
        }
    }
    return GW_OK;
}

gw_err signature_text_arg(const struct signature *sig, const char *name, gw_value *arg,
                          struct gw_error *why)
{
    const struct sig_param *param = find(&sig->args, name);
    struct sig_path path = {.name = name};
    gw_err err = param ? sig_check(param->type, arg, SIG_TEXT, &path, why) : GW_OK;
    return err == GW_ENOMEM ? gw_fail(why, err, "out of memory") : err;
}

gw_err signature_check_reply(const struct signature *sig, const gw_value *reply,
                             struct gw_error *why)
{
    if (!sig->has_reply) {
        return GW_OK;
    }
    if (reply->kind != GW_NIL && reply->kind != GW_MAP) {
        return gw_fail(why, GW_EARG, "the reply of \"%s\" is a map, got %s", sig->name,
                       value_kind_name(reply->kind));
    }
    GW_TRY(check_names(sig, &sig->reply, reply, "in the reply", why));
    for (size_t i = 0; i < sig->reply.n; i++) {
        const struct sig_param *param = &sig->reply.items[i];
        gw_value *v = (gw_value *)gw_map_get(reply, param->name); /* SIG_STRICT changes nothing */
        struct sig_path path = {.name = param->name};
        if (v) {
            GW_TRY(sig_check(param->type, v, SIG_STRICT, &path, why));
        } else if (!param->type->optional) {
            return missing(sig, param, "the reply value", why);
        }
    }
    return GW_OK;
}

/* --- description --- */

static gw_err describe_param(const struct sig_param *param, gw_value *ret)
{
    GW_TRY(gw_map_set(ret, "name", gw_str(param->name)));
    GW_TRY(gw_map_set(ret, "type", gw_str(param->type->text)));
    if (param->type->optional) {
        GW_TRY(gw_map_set(ret, "optional", gw_bool(true)));
    }
    if (param->has_default) {
        gw_value copy = {0};
        GW_TRY(gw_value_copy(&param->fallback, &copy));
        GW_TRY(gw_map_set(ret, "default", copy));
    }
    return GW_OK;
}

static gw_err describe_params(const struct sig_params *list, gw_value *map, const char *key)
{
    gw_value out = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; i < list->n && !err; i++) {
        gw_value row = {0};
        err = describe_param(&list->items[i], &row);
        if (err) {
            gw_value_free(&row);
        } else {
            err = gw_list_add(&out, row);
        }
    }
    if (err) {
        gw_value_free(&out);
        return err;
    }
    return gw_map_set(map, key, out);
}

static gw_err describe(const struct signature *sig, gw_value *map)
{
    GW_TRY(gw_map_set(map, "name", gw_str(sig->name)));
    GW_TRY(describe_params(&sig->args, map, "args"));
    if (sig->has_reply) {
        GW_TRY(describe_params(&sig->reply, map, "reply"));
    }
    return gw_map_set(map, "text", gw_str(sig->text));
}

gw_err signature_describe(const struct signature *sig, gw_value *ret)
{
    gw_value map = {0};
    gw_err err = describe(sig, &map);
    if (err) {
        gw_value_free(&map);
        return err;
    }
    *ret = map;
    return GW_OK;
}
