/* Values as JSON (RFC 8259) and back. The only file that sees jansson.
 * id -> its 26 characters; time -> RFC 3339 UTC with milliseconds; bytes -> {"base64": "..."}; a
 * float that JSON cannot hold (NaN, inf) -> null. */
#ifndef PROTOCOL_JSON_H
#define PROTOCOL_JSON_H

#include <godwit/types.h>

#include "protocol/base/buf.h"

/* Append; `indent` 0 = one line. Keys in map order. */
gw_err json_write(const gw_value *v, unsigned indent, struct buf *out) GW_MUST_USE;
/* Parse exactly one JSON text of n bytes. Depth at most LIMIT_DEPTH, duplicate keys refused.
 * Integers beyond int64 become GW_UINT when they fit, GW_EARG otherwise. {"base64": "..."} alone
 * becomes bytes. `why` names line and column. */
gw_err json_parse(const char *text, size_t n, gw_value *ret, struct gw_error *why) GW_MUST_USE;

/* What a value is, for an error message: its kind, and short scalars themselves ('string "x"'). */
#define JSON_BRIEF_SIZE 80
char *json_brief(const gw_value *v, char ret[JSON_BRIEF_SIZE]);

#endif
