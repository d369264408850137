/* Inside of signatures: the parsed form that signature_parse.c makes and signature_check.c walks.
 */
#ifndef PROTOCOL_SIGNATURE_TYPE_H
#define PROTOCOL_SIGNATURE_TYPE_H

#include "protocol/signature.h"

typedef enum sig_kind {
    SIG_BOOL,
    SIG_INT,
    SIG_UINT,
    SIG_FLOAT,
    SIG_STRING,
    SIG_BYTES,
    SIG_TIME,
    SIG_DURATION,
    SIG_ANY,
    SIG_AGENT,
    SIG_ARTIFACT,
    SIG_LIST, /* elem */
    SIG_MAP,  /* from string to elem */
} sig_kind;

/* A bound of a range, in the number of its type: int for SIG_INT, num for SIG_FLOAT, else count. */
struct sig_bound {
    bool set;
    int64_t i;
    uint64_t u;
    double f;
};

struct sig_type {
    sig_kind kind;
    bool optional;
    struct sig_bound lo, hi;
    struct sig_type *elem; /* owned; SIG_LIST, SIG_MAP */
    char *text;            /* owned, canonical: "int[1..10]?" */
};

struct sig_param {
    char *name;
    struct sig_type *type;
    bool has_default;
    gw_value fallback;   /* the default, of the right type */
    char *fallback_text; /* as written */
};

struct sig_params {
    struct sig_param *items;
    size_t n;
};

struct signature {
    char *name;
    char *text;
    struct sig_params args, reply;
    bool has_reply; /* "->" is there */
};

/* How much a check may change a value. */
typedef enum sig_mode {
    SIG_STRICT,  /* nothing */
    SIG_CONVERT, /* ints become floats; texts of ids and times become ids and times (their JSON
                    form) */
    SIG_TEXT,    /* as typed on a command line */
} sig_mode;

/* Where in the arguments a value stands, for messages; lives on the stack. */
struct sig_path {
    const struct sig_path *up; /* NULL at the parameter */
    const char *name;          /* parameter or key; NULL for an element of a list */
    size_t index;
};

/* Check (and convert) one value. GW_EARG, GW_ENOMEM. */
gw_err sig_check(const struct sig_type *type, gw_value *v, sig_mode mode,
                 const struct sig_path *path, struct gw_error *why) GW_MUST_USE;
/* Turn a text into what `type` wants, as typed. GW_EARG (v untouched), GW_ENOMEM. */
gw_err sig_from_text(const struct sig_type *type, gw_value *v) GW_MUST_USE;

#endif
