/* Itineraries of agents: what they are (itinerary.c), how they are worked off (journey.c). */
#ifndef HOST_CORE_ITINERARY_H
#define HOST_CORE_ITINERARY_H

#include "host/core/internal.h"

#define STOP_RETRIES 3 /* of a stop that does not say */

typedef enum stop_state {
    STOP_AHEAD,
    STOP_DONE,
    STOP_SKIPPED,
    STOP_FAILED,
    STOP_STATES
} stop_state;
typedef enum stop_policy { STOP_RETRY, STOP_SKIP, STOP_WAIT, STOP_POLICIES } stop_policy;

struct stop {
    char *to;
    char method[LIMIT_NAME_BYTES + 1]; /* "": none */
    struct buf args;                   /* packed map, or empty */
    stop_policy policy;
    uint32_t retries;
    stop_state state;
    char host[LIMIT_NAME_BYTES + 1]; /* where it was done */
    uint32_t code;                   /* skipped, failed */
    char *text;                      /* NULL: none */
    struct buf reply;                /* packed */
    int64_t at_ms;
};

struct itinerary {
    struct stop *stops;
    size_t count, at;
    bool home; /* the last stop is home */
    bool over;
    bool text;      /* arguments are as typed on a command line */
    uint64_t inbox; /* number of the message of the present stop; 0 = none */
    uint32_t tries; /* at the present stop */
    bool bound;     /* this leg goes to `to` */
    struct host_id to;
    /* not in the row */
    bool busy; /* a move or a step is under way */
    int64_t next_us;
};

char *itinerary_text(struct span s);       /* a copy with NUL; free */
void itinerary_free(struct itinerary *it); /* NULL allowed */
/* As it stands in a row. GW_EPROTO: not well formed, or above a limit. */
void itinerary_pack(const struct itinerary *it, struct buf *out);
gw_err itinerary_unpack(struct span packed, struct itinerary **ret) GW_MUST_USE;
/* From {stops: [SELECTOR | {to, method?, args?, policy?, retries?}], home?, text?}. */
gw_err itinerary_of_args(const struct agent *a, const gw_value *args, struct itinerary **ret,
                         struct gw_error *why) GW_MUST_USE;
/* List of the stops. */
gw_err itinerary_describe_stops(const struct itinerary *it, gw_value *ret) GW_MUST_USE;
/* nil, or {state, at, stops: [{to, method, policy, state, host, at, code, text, reply}]}. */
gw_err itinerary_describe(const struct agent *a, gw_value *ret) GW_MUST_USE;

/* Whether what a handler records about it can be; then into its transaction. */
gw_err itinerary_check_action(const struct work *w, struct gw_error *why) GW_MUST_USE;
void itinerary_action(struct work *w, struct store_batch *batch, struct span packed);
/* w ends; when it is the present stop's method its result is recorded: true, the row is to be
 * written. */
bool itinerary_step(struct work *w);
void itinerary_committed(struct work *w);
void itinerary_undo(struct work *w);    /* its transaction was rolled back */
void itinerary_loaded(struct agent *a); /* its inbox is in memory */

bool itinerary_goes_on(const struct agent *a); /* it has one that is not over */
/* The next thing, if nothing else goes on. Called by intent_run. */
void itinerary_go(struct node *n, struct agent *a);
void itineraries_retry(struct node *n); /* housekeeping */

#endif
