/* One fault at the k-th commit of a host, or at the k-th frame of some kind. A test repeats its
 * story with k = 0, 1, 2, … until the trap does not fire any more: every place has then been hit.
 */
#ifndef TESTS_MESH_TRAP_H
#define TESTS_MESH_TRAP_H

#include "tests/mesh/virtual.h"

struct trap {
    struct mesh *m;
    size_t k; /* counted from trap_arm on */
    /* at a commit of this host … */
    size_t host;
    commit_fate fate;
    /* … or, when this is set, at a frame for which it is true */
    bool (*frames)(const struct frame *frame);
    mesh_fate frame_fate;
    /* what happened */
    size_t seen;
    bool fired;
};

/* Set it and start to count; it must live as long as the mesh. A host that it crashes starts again
 * 0.3 s later. `m` may be another one than before. */
void trap_arm(struct trap *t, struct mesh *m);
/* For `frames`: what belongs to a move, OFFER to LOCATE. */
bool trap_is_handoff(const struct frame *frame);

#endif
