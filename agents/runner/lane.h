/* Lanes: one agent does one thing at a time. A lane exists per busy agent and holds the frames that
 * wait for it, in order; an agent that is not busy has none and costs nothing here. Under the lock
 * of the caller. */
#ifndef AGENTS_RUNNER_LANE_H
#define AGENTS_RUNNER_LANE_H

#include "agents/runner/wire.h"
#include "agents/sdk/engine.h"
#include "protocol/base/table.h"

struct lane {
    gw_id id;
    struct engine_agent *agent; /* held while the lane lives */
    STAILQ_HEAD(, packet) packets;
    STAILQ_ENTRY(lane) next; /* in `ready` */
    UT_hash_handle hh;
};

struct lanes {
    struct engine *engine;
    struct lane *busy;         /* by id */
    STAILQ_HEAD(, lane) ready; /* wait for a thread */
};

void lanes_init(struct lanes *l, struct engine *engine);
/* Put a frame RUN or UNLOAD (taken over) into the lane of its agent. *ret_lane is the lane if the
 * agent was not busy, and the caller sees to it that it runs; NULL if the frame waits its turn.
 * GW_EPROTO the frame names no agent, GW_ENOMEM; the packet is freed then. */
gw_err lanes_put(struct lanes *l, struct packet *packet, struct lane **ret_lane) GW_MUST_USE;
/* The next frame of a lane, which is then at work on it. */
struct packet *lane_take(struct lane *lane);
/* The lane's frame is done: to the end of `ready` if more wait, for fairness; else it ends. */
void lanes_done(struct lanes *l, struct lane *lane);
/* Let a lane wait for a thread; take the first that does, or NULL. */
void lanes_push(struct lanes *l, struct lane *lane);
struct lane *lanes_pop(struct lanes *l);

#endif
