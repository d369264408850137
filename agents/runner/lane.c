#include "agents/runner/lane.h"

#include <stdlib.h>

void lanes_init(struct lanes *l, struct engine *engine)
{
    *l = (struct lanes){.engine = engine};
    STAILQ_INIT(&l->ready);
}

/* A lane for an agent that is not busy; NULL: out of memory. */
static struct lane *add_lane(struct lanes *l, const gw_id *id)
{
    struct lane *lane = calloc(1, sizeof *lane);
    if (!lane) {
        return NULL;
    }
    lane->agent = engine_hold(l->engine, id);
    if (!lane->agent) {
        free(lane);
        return NULL;
    }
    lane->id = *id;
    STAILQ_INIT(&lane->packets);
    HASH_ADD(hh, l->busy, id, sizeof lane->id, lane);
    return lane;
}

gw_err lanes_put(struct lanes *l, struct packet *packet, struct lane **ret_lane)
{
    gw_id id;
    struct lane *lane = NULL;
    gw_err err = engine_target(&packet->frame, &id);
    if (err != GW_OK) {
        free(packet);
        return err;
    }
    HASH_FIND(hh, l->busy, &id, sizeof id, lane);
    bool busy = lane;
    if (!busy) {
        lane = add_lane(l, &id);
    }
    if (!lane) {
        free(packet);
        return GW_ENOMEM;
    }
    STAILQ_INSERT_TAIL(&lane->packets, packet, next);
    *ret_lane = busy ? NULL : lane;
    return GW_OK;
}

struct packet *lane_take(struct lane *lane)
{
    struct packet *packet = STAILQ_FIRST(&lane->packets);
    STAILQ_REMOVE_HEAD(&lane->packets, next);
    return packet;
}

void lanes_done(struct lanes *l, struct lane *lane)
{
    if (!STAILQ_EMPTY(&lane->packets)) {
        lanes_push(l, lane);
        return;
    }
    HASH_DEL(l->busy, lane);
    engine_release(l->engine, lane->agent);
    free(lane);
}

void lanes_push(struct lanes *l, struct lane *lane)
{
    STAILQ_INSERT_TAIL(&l->ready, lane, next);
}

struct lane *lanes_pop(struct lanes *l)
{
    struct lane *lane = STAILQ_FIRST(&l->ready);
    if (lane) {
        STAILQ_REMOVE_HEAD(&l->ready, next);
    }
    return lane;
}
