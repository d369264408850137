#include "host/api_route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "protocol/base/buf.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/value.h"

/* --- texts of a URL --- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decode n characters of percent-encoded UTF-8; in a query '+' is a space. Owned text or NULL. */
static char *decode(const char *p, size_t n, bool query)
{
    char *out = malloc(n + 1);
    size_t len = 0;
    for (size_t i = 0; out && i < n; i++) {
        char c = p[i];
        if (c == '%') {
            int hi = n - i > 2 ? hex(p[i + 1]) : -1, lo = n - i > 2 ? hex(p[i + 2]) : -1;
            if (hi < 0 || lo < 0) {
                free(out);
                return NULL;
            }
            c = (char)(hi * 16 + lo);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        out[len++] = c;
    }
    if (!out || !utf8_is_valid(out, len)) {
        free(out);
        return NULL;
    }
    out[len] = '\0';
    return out;
}

static gw_err add_text(gw_value *args, const char *name, const char *text, struct gw_error *why)
{
    gw_value v = gw_nil();
    if (gw_map_get(args, name)) {
        return gw_fail(why, GW_EARG, "\"%.64s\" is given twice", name);
    }
    if (gw_value_set_str(&v, text, strlen(text)) != GW_OK || gw_map_set(args, name, v) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return GW_OK;
}

static gw_err add_param(const char *p, size_t n, gw_value *args, struct gw_error *why)
{
    const char *eq = memchr(p, '=', n);
    size_t name_len = eq ? (size_t)(eq - p) : n;
    GW_AUTO(free_charp) char *name = decode(p, name_len, true);
    GW_AUTO(free_charp) char *text = eq ? decode(eq + 1, n - name_len - 1, true) : strdup("true");
    if (!name || !text) {
        return gw_fail(why, GW_EARG, "the query is not percent-encoded UTF-8");
    }
    return add_text(args, name, text, why);
}

gw_err route_query(const char *query, gw_value *args, struct gw_error *why)
{
    size_t count = 0;
    while (*query) {
        size_t n = strcspn(query, "&");
        if (n > 0) {
            if (++count > LIMIT_HTTP_PARAMS) {
                return gw_fail(why, GW_ETOO_BIG, "more than %d parameters", LIMIT_HTTP_PARAMS);
            }
            GW_TRY(add_param(query, n, args, why));
        }
        query += n + (query[n] == '&');
    }
    return GW_OK;
}

/* --- rows --- */

const char *route_of(const struct op *op, char ret_method[8])
{
    size_t n = strcspn(op->http, " ");
    gw_assert(n < 8 && op->http[n] == ' ');
    memcpy(ret_method, op->http, n);
    ret_method[n] = '\0';
    return op->http + n + 1;
}

int route_match(const char *template, const char *path)
{
    int literal = 0;
    while (*template == '/' && *path == '/') {
        size_t t = strcspn(++template, "/"), p = strcspn(++path, "/");
        if (template[0] == '{') {
            if (p == 0) {
                return -1;
            }
        } else if (t != p || memcmp(template, path, t) != 0) {
            return -1;
        } else {
            literal++;
        }
        template += t;
        path += p;
    }
    return *template || *path ? -1 : literal;
}

gw_err route_params(const char *template, const char *path, gw_value *args, struct gw_error *why)
{
    while (*template == '/') {
        size_t t = strcspn(++template, "/"), p = strcspn(++path, "/");
        if (template[0] == '{') {
            char name[LIMIT_NAME_BYTES + 1];
            bool fits =
                span_text((struct span){(const uint8_t *)template + 1, t - 2}, name, sizeof name);
            gw_assert(fits);
            GW_AUTO(free_charp) char *text = decode(path, p, false);
            if (!text) {
                return gw_fail(why, GW_EARG, "\"%s\" in the path is not percent-encoded UTF-8",
                               name);
            }
            GW_TRY(add_text(args, name, text, why));
        }
        template += t;
        path += p;
    }
    return GW_OK;
}

static void allow(char ret_allow[ROUTE_ALLOW_BYTES], const char *method)
{
    if (!strstr(ret_allow, method)) {
        size_t n = strlen(ret_allow);
        snprintf(ret_allow + n, ROUTE_ALLOW_BYTES - n, "%s%s%s", n ? ", " : "", method,
                 strcmp(method, "GET") == 0 ? ", HEAD" : "");
    }
}

gw_err route_find(const char *method, const char *path, const struct op **ret_op, gw_value *args,
                  char ret_allow[ROUTE_ALLOW_BYTES], struct gw_error *why)
{
    const struct op *best = NULL;
    int best_literal = -1;
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    ret_allow[0] = '\0';
    for (size_t i = 0; i < ops_count; i++) {
        char row_method[8];
        if (!ops_table[i].http) {
            continue;
        }
        int literal = route_match(route_of(&ops_table[i], row_method), path);
        if (literal < 0) {
            continue;
        }
        if (strcmp(row_method, wanted) != 0) {
            allow(ret_allow, row_method);
        } else if (literal > best_literal) {
            best = &ops_table[i];
            best_literal = literal;
        }
    }
    if (best) {
        char row_method[8];
        *ret_op = best;
        return route_params(route_of(best, row_method), path, args, why);
    }
    gw_err err = ret_allow[0] ? GW_EHTTP_METHOD : GW_ENOT_FOUND;
    if (err == GW_EHTTP_METHOD) {
        gw_fail(why, err, "\"%.100s\" does not take %s", path, method);
        gw_hint(why, "it takes %s", ret_allow);
    } else {
        gw_fail(why, err, "there is no \"%.100s\" here", path);
        gw_hint(why, "GET /v1 lists the operations");
    }
    return err;
}

/* --- roles --- */

const char *role_name(api_role role)
{
    static const char *const names[] = {"none", "viewer", "operator", "admin", "peer"};
    return names[role];
}

gw_err role_check(const char *what, api_role least, api_role role, struct gw_error *why)
{
    if (role >= least) {
        return GW_OK;
    }
    if (role == ROLE_NONE) {
        gw_fail(why, GW_EUNAUTHENTICATED, "\"%s\" needs credentials", what);
        gw_hint(why,
                "show an operator certificate of the mesh, or use the unix socket of the host");
        return GW_EUNAUTHENTICATED;
    }
    return gw_fail(why, GW_EDENIED, "\"%s\" needs role %s, you have %s", what, role_name(least),
                   role_name(role));
}

gw_err origin_check(const char *method, const char *origin, const char *host, struct gw_error *why)
{
    if (!origin || strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        return GW_OK;
    }
    const char *name = strstr(origin, "://");
    if (host && name && strcasecmp(name + 3, host) == 0) {
        return GW_OK;
    }
    return gw_fail(why, GW_EDENIED, "requests from pages of \"%.100s\" are not taken", origin);
}
