/* What the patterns share. */
#ifndef AGENTS_SDK_PATTERN_H
#define AGENTS_SDK_PATTERN_H

#include "agents/sdk/call.h"
#include <godwit/pattern.h>

/* Replace an owned text. */
gw_err pattern_set_text(char **text, const char *value) GW_MUST_USE;
gw_err pattern_put_text(gw_value *map, const char *key, const char *text) GW_MUST_USE;
/* {error: name, text} of a failure. */
gw_err pattern_put_error(gw_value *map, gw_err code, const char *text) GW_MUST_USE;
/* Dispose of an agent without waiting. */
void pattern_dispose(struct gw_call *call, const gw_id *agent);
/* The id in the answer of a creation; takes ownership. */
gw_err pattern_made(gw_value answer, gw_id *ret) GW_MUST_USE;

#endif
