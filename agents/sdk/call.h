/* One handler at work: what struct gw_call (godwit/agent.h) holds. */
#ifndef AGENTS_SDK_CALL_H
#define AGENTS_SDK_CALL_H

#include "agents/sdk/state.h"
#include "protocol/limits.h"

/* A decoded RUN; spans are borrowed from the frame. */
struct run {
    gw_id agent;
    char type[LIMIT_NAME_BYTES + 1];
    uint64_t epoch;
    uint32_t hook; /* a frame_hook, < HOOK_COUNT */
    char method[LIMIT_NAME_BYTES + 1];
    struct span args; /* one packed value, or empty */
    uint32_t flags;   /* RUN_... */
    uint8_t key[16];
    bool has_parts;
    struct span parts;   /* raw map */
    struct span context; /* raw map, or empty */
};
gw_err run_parse(const struct frame *frame, struct run *ret, struct gw_error *why) GW_MUST_USE;

struct gw_call {
    const struct run *run;
    const struct engine_io *io;
    void *io_ctx;
    struct state *state;
    const struct type_method *method; /* NULL: a hook */
    gw_value args;                    /* checked, defaults filled in */
    gw_value reply;                   /* map, or nil */
    gw_value context;                 /* unpacked at first use */
    bool context_read;
    bool leaves;        /* dispatch, deactivate or dispose is recorded */
    struct buf actions; /* packed [verb, args] one after the other */
    size_t action_count;
    uint64_t asks;       /* blocking verbs so far: the n of their keys */
    struct gw_error why; /* of the handler, or of the last failing verb */
    struct gw_error bug; /* first misuse: fails the handler whatever it returns */
};
void call_deinit(struct gw_call *call);
/* Context of RUN, unpacked. */
const gw_value *call_context(struct gw_call *call);
bool call_reads(const struct gw_call *call); /* of a GW_READ method */

#endif
