#include "tests/mesh/trap.h"

#include <stdlib.h>

#include "protocol/base/log.h"

struct comeback {
    struct mesh *m;
    size_t host;
};

static void come_back(void *arg)
{
    struct comeback c = *(struct comeback *)arg;
    free(arg);
    if (!mesh_alive(c.m, c.host)) {
        mesh_start(c.m, c.host);
    }
}

static void come_back_later(struct mesh *m, size_t host)
{
    struct comeback *c = xcalloc(1, sizeof *c);
    *c = (struct comeback){m, host};
    mesh_at(m, 300001, come_back, free, c);
}

static commit_fate on_commit(void *arg, size_t host)
{
    struct trap *t = arg;
    if (t->fired || host != t->host || t->seen++ != t->k) {
        return COMMIT_PASS;
    }
    t->fired = true;
    if (t->fate == COMMIT_CRASH_BEFORE || t->fate == COMMIT_CRASH_AFTER) {
        come_back_later(t->m, host);
    }
    return t->fate;
}

static mesh_fate on_frame(void *arg, size_t from, size_t to, const struct frame *frame)
{
    struct trap *t = arg;
    if (t->fired || !t->frames(frame) || t->seen++ != t->k) {
        return FATE_PASS;
    }
    t->fired = true;
    if (t->frame_fate == FATE_CRASH_FROM) {
        come_back_later(t->m, from);
    } else if (t->frame_fate == FATE_CRASH_TO || t->frame_fate == FATE_CRASH_TO_AFTER) {
        come_back_later(t->m, to);
    }
    return t->frame_fate;
}

void trap_arm(struct trap *t, struct mesh *m)
{
    t->m = m;
    t->seen = 0;
    t->fired = false;
    if (t->frames) {
        mesh_on_frame(m, on_frame, t);
    } else {
        mesh_on_commit(m, on_commit, t);
    }
}

bool trap_is_handoff(const struct frame *frame)
{
    return frame->kind >= FRAME_OFFER && frame->kind <= FRAME_LOCATE;
}
