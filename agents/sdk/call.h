/* One handler at work: what struct gw_call (godwit/agent.h) holds. */
#ifndef AGENTS_SDK_CALL_H
#define AGENTS_SDK_CALL_H

#include <sys/queue.h>

#include "agents/sdk/state.h"
#include "protocol/inline.h"
#include "protocol/limits.h"
#include "protocol/trace.h"

/* A decoded RUN; spans are borrowed from the frame. Not to be copied: names point into it. */
struct run {
    gw_id agent;
    const char *type, *method;
    uint64_t epoch;
    uint32_t hook;                  /* a frame_hook, < HOOK_COUNT */
    const struct inline_run *given; /* without a frame: arguments and context stand there */
    struct span args;               /* one packed value, or empty */
    uint32_t flags;                 /* RUN_... */
    uint8_t key[16];
    bool has_parts;
    struct span parts;   /* raw map */
    struct span context; /* raw map, or empty */
    char type_room[LIMIT_NAME_BYTES + 1], method_room[LIMIT_NAME_BYTES + 1];
};
/* On failure `ret` holds rubbish. */
gw_err run_parse(const struct frame *frame, struct run *ret, struct gw_error *why) GW_MUST_USE;

struct gw_call {
    const struct run *run;
    uint64_t stream; /* of RUN */
    uint8_t key[16]; /* of RUN; a new one with each save */
    const struct engine_io *io;
    void *io_ctx;
    struct state *state;
    const struct type_method *method; /* NULL: a hook */
    bool any;                         /* on_message: neither arguments nor reply are checked */
    gw_value args;                    /* checked, defaults filled in */
    gw_value reply;                   /* map, or nil */
    gw_value context;                 /* unpacked at first use */
    bool context_read;
    gw_value files; /* list of {name, path, mode}, with what this handler has recorded */
    bool files_read;
    char trace[TRACE_TEXT]; /* gw_trace, once it was asked for */
    int64_t begun_ms;       /* by engine_now_ms, when the handler began */
    bool leaves;            /* dispatch, deactivate or dispose is recorded */
    bool later;             /* the caller is answered by another handler */
    struct buf actions;     /* packed [verb, args] one after the other */
    size_t action_count;
    struct inline_asks thens; /* asks whose answer is a message, in their order */
    size_t then_count;
    uint64_t asks;                    /* blocking verbs and asks so far: the n of their keys */
    STAILQ_HEAD(, gw_future) futures; /* future.c */
    size_t futures_open;              /* of them, those whose outcome was not taken */
    gw_strs texts;                    /* that verbs gave to the handler */
    struct gw_error why;              /* of the handler, or of the last failing verb */
    /* First misuse, or no memory for what the handler asked: fails it whatever it returns. */
    struct gw_error bug;
};
void call_deinit(struct gw_call *call);
/* Context of RUN, unpacked. */
const gw_value *call_context(struct gw_call *call);
bool call_reads(const struct gw_call *call); /* of a GW_READ method */
/* A clock that is not set meanwhile, in milliseconds. */
int64_t call_clock_ms(const struct engine_io *io, void *io_ctx);
/* Record the action [verb, args]; takes ownership of args. GW_EREFUSED, GW_ETOO_BIG. */
gw_err call_record(struct gw_call *call, const char *verb, gw_value args) GW_MUST_USE;

bool call_is_param(const struct gw_call *call, const char *name); /* of its method */

/* ---- then.c ---- */
gw_err call_pack_thens(struct gw_call *call) GW_MUST_USE; /* as actions */

/* ---- future.c ---- */
void futures_init(struct gw_call *call);
void futures_deinit(struct gw_call *call); /* what was not waited for goes on without us */

/* Begin any operation of a host; takes ownership of args. gw_wait gives its answer, or the member
 * `reply` of it. */
gw_err future_begin(struct gw_call *call, const char *op, const gw_id *target, int64_t deadline_ms,
                    gw_value args, struct gw_future **ret_future) GW_MUST_USE;

/* ---- verbs.c ---- */
/* The arguments of `create`; takes ownership of state. */
gw_err verbs_creation(struct gw_call *call, const char *type, gw_value state, const char *where,
                      gw_value *ret) GW_MUST_USE;
/* {agent, method, args}: the address of a message; takes ownership of agent and args. */
gw_err verbs_message(struct gw_call *call, gw_value agent, const char *method, gw_value args,
                     gw_value *ret) GW_MUST_USE;
/* The operations of a host name agents by text, as people and tools do. */
gw_value verbs_agent_text(const gw_id *id);
/* Its members priority and no_wake (NULL: none). GW_EARG. */
gw_err verbs_add_options(struct gw_call *call, const struct gw_message_options *o,
                         gw_value *map) GW_MUST_USE;
/* What goes with a CALL: its key into args; chain, caller, trace and the time that is left into the
 * context. `target`: the agent that will be at work meanwhile, or NULL. limit_ms: 0 = as long as
 * the caller of this handler has. GW_EINLINE, GW_EDEADLOCK, GW_ETIMEOUT. */
gw_err verbs_prepare(struct gw_call *call, const char *op, const gw_id *target, bool keyed,
                     int64_t limit_ms, gw_value *args, gw_value *ret_context) GW_MUST_USE;
/* Call an operation of the host and wait for its answer; takes ownership of args. */
gw_err verbs_blocking(struct gw_call *call, const char *op, const gw_id *target, bool keyed,
                      gw_value args, gw_value *ret) GW_MUST_USE;
/* A sentence in call->why for every failure; returns err. */
gw_err verbs_outcome(struct gw_call *call, const char *op, gw_err err);
/* Move one member out of a map that is then freed; `whole` when it is not a map with that member.
 */
gw_value verbs_take_member(gw_value whole, const char *key);

#endif
