/* Failpoints: named places at which a host can be made to fail in a named way, for tests.
 *
 * Nothing of it happens unless $GODWIT_FAIL is set when the host starts; then each place costs one
 * branch that is predicted. The places are every transaction (persistence/points.def), before it is
 * applied and after it is on disk; every frame between hosts and clients (protocol/kinds.def), when
 * it is sent and when it has come; and the steps of writing large values and of a flush.
 *
 *   GODWIT_FAIL = ITEM[,ITEM]...
 *   ITEM        = NAME[:PASS]:ACTION    PASS: 1, 2, ... (1), or * for each
 *               | speed=N               time-outs of this host run N times as fast (1 to 1000)
 *
 * docs/failpoints.md has the names and the actions. Set up by one thread before there are others;
 * places are passed by any thread. */
#ifndef PERSISTENCE_FAILPOINT_H
#define PERSISTENCE_FAILPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <godwit/err.h>

#include "persistence/points.h"
#include "protocol/frame.h"

/* Actions, as a set. */
typedef enum fail_action {
    FAIL_KILL = 1,   /* SIGKILL to itself */
    FAIL_STOP = 2,   /* SIGSTOP to itself: it goes on at SIGCONT */
    FAIL_EIO = 4,    /* the write fails so */
    FAIL_ENOSPC = 8, /* and so */
    FAIL_LOST = 16,  /* the frame is not sent */
    FAIL_TWICE = 32, /* the frame is sent twice */
    FAIL_ACTIONS = 63,
    FAIL_CAN_EIO = FAIL_EIO,
    FAIL_CAN_ERR = FAIL_EIO | FAIL_ENOSPC,
} fail_action;

typedef enum fail_place {
#define FAIL_PLACE(name, text, actions, what) PLACE_##name,
#include "persistence/points.def"
    PLACE_COUNT
} fail_place;

/* Numbers of all places: of a transaction before and after it, of a frame sent and received. */
#define FAIL_FRAMES   64 /* above every number of a kind */
#define FAIL_AT_POINT 0
#define FAIL_AT_PLACE (FAIL_AT_POINT + 2 * POINT_COUNT)
#define FAIL_AT_FRAME (FAIL_AT_PLACE + PLACE_COUNT)
#define FAIL_COUNT    (FAIL_AT_FRAME + 2 * FAIL_FRAMES)

extern bool failpoint_on;        /* any is set, or a speed */
extern unsigned failpoint_speed; /* 1 = as ever */

/* Read the text of $GODWIT_FAIL; NULL or "" sets nothing. GW_EARG with a sentence: an unknown name
 * (failpoint_list tells them all), an action that the place does not have, a number out of range.
 */
gw_err failpoint_open(const char *text, struct gw_error *why) GW_MUST_USE;
/* Forget everything that is set: for tests. */
void failpoint_reset(void);
/* A line for each place: name, its actions, what it is. */
void failpoint_list(FILE *out);
/* The name of a place, or NULL where the number has none. ret_actions: set of fail_action. */
const char *failpoint_name(unsigned at, char room[48], unsigned *ret_actions);

/* The place is passed. 0: nothing happens, or it went on after a stop. Otherwise FAIL_EIO,
 * FAIL_ENOSPC (errno is set to it), FAIL_LOST, FAIL_TWICE: the caller does it. */
unsigned failpoint_pass(unsigned at);

static inline unsigned failpoint(unsigned at)
{
    return __builtin_expect(failpoint_on, 0) ? failpoint_pass(at) : 0;
}
static inline unsigned failpoint_place(fail_place place)
{
    return failpoint((unsigned)(FAIL_AT_PLACE + (int)place));
}
static inline unsigned failpoint_frame(uint32_t kind, bool received)
{
    return kind < FAIL_FRAMES ? failpoint(FAIL_AT_FRAME + 2 * kind + received) : 0;
}

/* Transactions. Before: FAIL_EIO and FAIL_ENOSPC make the next write of the log fail with that
 * errno, the way the system would. */
void failpoint_fail_log(commit_point point);
static inline void failpoint_before(commit_point point)
{
    if (__builtin_expect(failpoint_on, 0)) {
        failpoint_fail_log(point);
    }
}
static inline void failpoint_after(commit_point point)
{
    (void)failpoint(FAIL_AT_POINT + 2 * (unsigned)point + 1);
}
/* The errno with which the next write of the log fails, once; 0 = none. Storage thread only. */
int failpoint_write_errno(void);

#endif
