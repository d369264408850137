/* The operation table: each thing a client can ask of a host, once. The same row serves HTTP
 * (host/api.c) and CALL frames of links and runners. A new operation is a row in host/core/ops.c
 * and a handler. */
#ifndef HOST_CORE_OP_H
#define HOST_CORE_OP_H

#include "protocol/base/id.h"
#include "protocol/signature.h"
#include "protocol/trace.h"

struct node;
struct http_call;

typedef enum api_role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN, ROLE_PEER } api_role;

/* One call of an operation, from whichever door. Owned by the door; lives until answered. */
struct op_call {
    const struct op *op;
    gw_value args;    /* map, checked against the signature, defaults filled in; owned */
    gw_value context; /* PROTOCOL.md 3.1, CALL: who asks, in whose trace, how long; nil: nothing */
    api_role role;
    const struct host_id
        *peer; /* the host that calls (ROLE_PEER); else NULL. Valid during op->run. */
    bool http; /* JSON door: text arguments */
    struct http_call *http_call; /* join, events over HTTP; else NULL */
    /* Filled by the door. `result` is taken. item: streams only, false when the caller is gone. */
    void (*answer)(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why);
    bool (*item)(struct op_call *call, const gw_value *value);
    /* Set by a streaming handler: called when the caller goes away; the handler then answers. */
    void (*on_gone)(void *arg);
    void *gone_arg;
    void *door;               /* of the door */
    int64_t waits_since_us;   /* of route.c: since when it is tried again; 0 = never yet */
    int64_t pending_since_us; /* of route.c: the agent answers later; 0 = not that it is known */
    bool waits;               /* by the door: the caller can be kept waiting (a link) */
    bool in_turn;             /* of pressure.c: it has waited */
    size_t bytes;             /* by the door: of the frame that it came in */
    /* of carry.c, filled when it begins */
    bool begun;
    int64_t deadline_us; /* monotonic: nobody waits after it; 0 = none */
    struct trace trace;  /* of the caller, or a new one; none for what only looks */
};

struct op {
    const char *name;      /* "send" */
    const char *http;      /* "POST /v1/agents/{agent}/messages"; NULL = links only */
    api_role role;         /* the least that may call it */
    const char *signature; /* of the arguments; "..." grammar of protocol/signature.h */
    void (*run)(struct node *node, struct op_call *call);
    const char *help; /* one line */
    bool streams;     /* answers ITEMs (server-sent events over HTTP) until the caller goes away */
    const char
        *text; /* content type: over HTTP the result {text} goes as this text; NULL = as JSON */
};

extern const struct op ops_table[];
extern const size_t ops_count;

/* Parse all signatures (start-up; a bad one is our own bug). */
void ops_init(void);
const struct signature *op_signature(const struct op *op);
const struct op *op_find(const char *name); /* NULL when there is none */

static inline void op_ok(struct op_call *call, gw_value *result)
{
    call->answer(call, GW_OK, result, NULL);
}
static inline void op_fail(struct op_call *call, const struct gw_error *why)
{
    call->answer(call, why->code, NULL, why);
}

#endif
