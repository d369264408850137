/* A scene of the handoff tests: some hosts, one tally at h0, one fault at a chosen place.
 *
 * Places are counted, not timed: the k-th handoff frame, the k-th commit of a host, from scene_arm
 * on. A test repeats its scene with k = 0, 1, 2, … until the fault no longer fires: every place has
 * then been hit. */
#ifndef TESTS_MESH_SCENE_H
#define TESTS_MESH_SCENE_H

#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

#define NOWHERE SIZE_MAX

struct fault {
    /* at the frame_k-th frame of the handoff (OFFER to LOCATE) between any two hosts */
    size_t frame_k; /* NOWHERE: none */
    mesh_fate frame_fate;
    int64_t part_ms; /* with FATE_CUT: the pair stays apart so long; < 0: until healing; 0: not at
                        all */
    /* at the commit_k-th commit of commit_host */
    size_t commit_k; /* NOWHERE: none */
    size_t commit_host;
    commit_fate commit_fate;
    int64_t restart_ms; /* a crashed host starts again after this; < 0: at healing */
    /* what happened */
    bool frame_fired, commit_fired;
};
#define NO_FAULT ((struct fault){.frame_k = NOWHERE, .commit_k = NOWHERE})

struct scene {
    struct mesh *m;
    gw_id agent;
    char id[GW_ID_TEXT];
    int64_t adds; /* distinct keys that were acknowledged */
    struct fault fault, second;
    size_t frames, commits[MESH_HOSTS_MAX]; /* since scene_arm */
    struct mesh_call *call;                 /* the move */
};

/* Hosts started and linked, a tally at h0 to which 3 was added. */
void scene_open(struct scene *s, uint64_t seed, size_t hosts);
void scene_arm(struct scene *s, const struct fault *fault);
/* A second fault whose counting starts when the first has fired. */
void scene_arm_second(struct scene *s, const struct fault *fault);
/* Ask for a move (s->call); the answer may never come. */
void scene_dispatch(struct scene *s, size_t via, size_t to);
gw_err scene_wait(struct scene *s, int64_t ms); /* for s->call */
/* add(1) under a fresh key, re-sent through changing hosts until acknowledged; the test fails when
 * it never is. */
void scene_add(struct scene *s);
/* After the faults: heal; exactly one copy; count is s->adds; one `leave` and one `arrive` in the
 * history for each epoch above 1; it takes an add, moves to another host and takes one more. */
void scene_verify(struct scene *s);
void scene_close(struct scene *s);
/* history() of an agent as one text: "create leave arrive". Static storage. */
const char *scene_history(struct mesh *m, size_t via, const gw_id *agent);

#endif
