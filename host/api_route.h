/* From a request line to a row of the operation table and its text arguments. Pure. */
#ifndef HOST_API_ROUTE_H
#define HOST_API_ROUTE_H

#include "host/core/op.h"

#define ROUTE_ALLOW_BYTES 64

/* The row that serves `method` (HEAD counts as GET) at `path`; the decoded path parameters are put
 * into `args` as texts. Literal parts win over parameters. Errors: GW_ENOT_FOUND; GW_EHTTP_METHOD
 * (ret_allow names the methods of the path); GW_EARG a part that is not valid percent-encoded
 * UTF-8. */
gw_err route_find(const char *method, const char *path, const struct op **ret_op, gw_value *args,
                  char ret_allow[ROUTE_ALLOW_BYTES], struct gw_error *why) GW_MUST_USE;
/* Add the parameters of a raw query ("a=1&b=x%20y") to `args` as texts. A name that is there
 * already is GW_EARG; more than LIMIT_HTTP_PARAMS GW_ETOO_BIG. */
gw_err route_query(const char *query, gw_value *args, struct gw_error *why) GW_MUST_USE;
/* Method and path of a row's "GET /v1/x". The method into ret (8 bytes), the path borrowed. */
const char *route_of(const struct op *op, char ret_method[8]);
/* Compare a template with a path, part by part. The number of literal parts, or -1. */
int route_match(const char *template, const char *path);
/* The decoded parts of a path that matches into `args` as texts. GW_EARG. */
gw_err route_params(const char *template, const char *path, gw_value *args,
                    struct gw_error *why) GW_MUST_USE;
const char *role_name(api_role role);
/* Whether `role` may do what needs `least`; GW_EUNAUTHENTICATED or GW_EDENIED with why, which names
 * `what`. */
gw_err role_check(const char *what, api_role least, api_role role,
                  struct gw_error *why) GW_MUST_USE;

/* A page of another origin must not make a browser change something here: GW_EDENIED. `origin` and
 * `host` are the headers, NULL when absent. */
gw_err origin_check(const char *method, const char *origin, const char *host,
                    struct gw_error *why) GW_MUST_USE;

#endif
