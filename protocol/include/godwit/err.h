/* Errors: one enum, filled from protocol/base/err.def, plus a context that grows on the way up.
 *
 * Every call that can fail returns gw_err (0 = GW_OK) and its result must be used. A call may take
 * a last parameter `struct gw_error *why` (NULL allowed): on failure it holds a sentence for
 * people. */
#ifndef GODWIT_ERR_H
#define GODWIT_ERR_H

#include <stddef.h>

#define GW_API               __attribute__((visibility("default")))
#define GW_MUST_USE          __attribute__((warn_unused_result))
#define GW_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

typedef enum gw_err {
    GW_OK = 0,
#define GW_ERR(name, wire, http, exit_code, text) GW_E##name = wire,
#include "godwit/err.def"
#undef GW_ERR
} gw_err;

/* What went wrong, for a person: `text` is one sentence without a final dot, lower case, subject in
 * quotes; `hint` says what to do next, or is empty. Fixed size, owned by the caller. */
struct gw_error {
    gw_err code;
    char text[320];
    char hint[200];
};

/* Lower-case name as on the wire and in JSON ("agent_not_found"); "ok" for GW_OK, "fail" for codes
 * that this build does not know. Static storage. Any thread. */
GW_API const char *gw_err_name(gw_err err);
/* The general text of a code. Static storage. Any thread. */
GW_API const char *gw_err_text(gw_err err);
/* HTTP status [200..599] and CLI exit code [0..255] of a code. */
GW_API int gw_err_http(gw_err err);
GW_API int gw_err_exit(gw_err err);
/* Code for a wire number; GW_EFAIL when unknown. */
GW_API gw_err gw_err_from_wire(unsigned wire);
/* Code for a name; GW_EFAIL when unknown. */
GW_API gw_err gw_err_from_name(const char *name);

/* Fill `why` (NULL allowed) and return `code`, so that one line reports and returns:
 *     return gw_fail(why, GW_EARG, "the size of \"%s\" is not a number", name); */
GW_API gw_err gw_fail(struct gw_error *why, gw_err code, const char *fmt, ...) GW_PRINTF(3, 4);
/* Set the hint of `why` (NULL allowed). */
GW_API void gw_hint(struct gw_error *why, const char *fmt, ...) GW_PRINTF(2, 3);
/* Put "prefix: " before the text that is there. NULL allowed. */
GW_API void gw_prefix(struct gw_error *why, const char *fmt, ...) GW_PRINTF(2, 3);

/* The only macro that returns. */
#define GW_TRY(expr)                                                                               \
    do {                                                                                           \
        gw_err gw_try_err_ = (expr);                                                               \
        if (gw_try_err_ != GW_OK) {                                                                \
            return gw_try_err_;                                                                    \
        }                                                                                          \
    } while (0)

#endif
