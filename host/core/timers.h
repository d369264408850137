/* Timers of agents, shared by timers.c (waiting, firing, the store) and timer_actions.c (what
 * handlers ask for, tickets, what people see). */
#ifndef HOST_CORE_TIMERS_H
#define HOST_CORE_TIMERS_H

#include "host/core/internal.h"

#define TIMER_RESTS SIZE_MAX /* place of a timer that is not in the heap */
#define TIMER_WAKE  "~wake"  /* of a sleeping agent: no name that a handler can give */

struct timer {
    struct timer *next; /* of the same agent */
    struct agent *agent;
    int64_t due_us;  /* monotonic; of a wall timer as the clocks stand now */
    int64_t wake_us; /* key in the heap: due_us, or later after a failure */
    int64_t at_ms;   /* of a wall timer */
    int64_t period_ms;
    size_t place;
    uint64_t firing;  /* inbox number of a firing whose transaction is on its way; 0 = none */
    uint64_t waiting; /* inbox number of its message; 0 = none */
    bool wall, each;
    bool held; /* a handler's transaction that sets or cancels it is on its way */
    struct buf args;
    char name[LIMIT_NAME_BYTES + 1];
};

struct agent_timers {
    struct timer *first;
    size_t count;
    bool learning; /* the numbers of its inbox are being read */
};

/* A row, or what a handler asked for. */
struct timer_row {
    bool wall, each;
    int64_t when_ms; /* wall: the time; elapsed: time left at base_ms, below 0 when overdue */
    int64_t base_ms;
    int64_t period_ms;
    struct span args;
};

int64_t timers_mono(const struct node *n); /* us */
/* A row is [clock, when, base, period, each, args]. */
void timer_row_pack(const struct timer_row *r, struct buf *out);
/* GW_EPROTO: out of range, or arguments that are no map. */
gw_err timer_row_check(const struct timer_row *r) GW_MUST_USE;
gw_err timer_row_read(struct span value,
                      struct timer_row *ret) GW_MUST_USE; /* checked; args borrowed */
struct span timer_key(uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES], const gw_id *id,
                      uint64_t epoch, const char *name);
/* Time left of an elapsed timer; rounded up, so that no one fires early. */
int64_t timer_left_ms(const struct node *n, int64_t due_us);

bool timer_is_wake(const struct timer *t);
bool timer_name_is_valid(const char *name);                        /* of a row: TIMER_WAKE, too */
struct timer *timer_find(const struct agent *a, const char *name); /* NULL: none */
struct timer *timer_add(struct agent *a, const char *name);
void timer_drop(struct node *n, struct timer *t); /* may free a->timers with it */
/* What a row or a handler says, as of monotonic time `us`. */
void timer_set(struct timer *t, const struct timer_row *r, int64_t us);
/* Into the heap, or out of it, as things stand; then arm the alarm. */
void timer_settle(struct node *n, struct timer *t);
void timer_rest(struct node *n, struct timer *t); /* out of the heap */
void timers_arm(struct node *n);

#endif
