/* What a host and an engine in its own process hand each other: a message for an agent, and what
 * its handler left, as they are, without frames.
 *
 * For messages between built-in agents, which cost less than packing them would. Everything else
 * (creates, hooks, messages of clients and of other agents) goes to the same engine as RUN. */
#ifndef PROTOCOL_INLINE_H
#define PROTOCOL_INLINE_H

#include <sys/queue.h>

#include <godwit/types.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"
#include "protocol/trace.h"

/* One gw_ask_then: made by the engine, carried by the host, there and back. */
struct inline_ask {
    TAILQ_ENTRY(inline_ask) link;
    gw_id agent;        /* who is asked */
    gw_id from;         /* who asks; this and the trace are set by the host */
    struct trace trace; /* of the handler that asked */
    char method[LIMIT_NAME_BYTES + 1];
    char then[LIMIT_NAME_BYTES + 1]; /* method of the asking agent that gets the answer */
    gw_value args;                   /* on the way back the reply */
    bool answered;
    gw_err err; /* answered: how */
    char *text; /* owned; its sentence; NULL when it is well */
};
TAILQ_HEAD(inline_asks, inline_ask);
void inline_ask_free(struct inline_ask *ask); /* NULL allowed */
void inline_asks_free(struct inline_asks *asks);
/* The arguments of `then`: {reply} or {code, text}. Takes reply and text out of the ask. */
gw_err inline_ask_answer(struct inline_ask *ask, gw_value *ret) GW_MUST_USE;

/* A message for an agent whose state the engine has. */
struct inline_run {
    const gw_id *agent, *sender;
    uint64_t epoch;
    const char *type, *method;
    gw_value *args; /* taken, unless the answer is GW_EUNKNOWN */
    uint32_t flags; /* RUN_... */
    /* Appends the packed context of RUN; called when the handler asks for what stands there. */
    void (*context)(void *arg, struct buf *out);
    void *arg;
};

/* What the handler left, as in DONE. Only what inline_done_init names is set before the call. */
struct inline_done {
    gw_err err;              /* GW_EUNKNOWN: the state is not at hand, nothing has happened */
    struct gw_error *why;    /* of the caller; filled when err */
    gw_value reply;          /* map or nil */
    struct buf parts;        /* packed map, or empty: nothing changed */
    struct buf actions;      /* packed list, or empty: none */
    struct inline_asks asks; /* in their order */
};
void inline_done_init(struct inline_done *done, struct gw_error *why);
void inline_done_free(struct inline_done *done);

#endif
