/* Which chunk is asked of which host: the list of work that the sources of one fetch share.
 *
 *   OPEN ── take ──> ASKED ── came ──> HERE        asked of another one as well when it takes long
 *     ^                |
 *     └── lacks, drop ─┘
 *
 * No I/O, no clock, no lock of its own: whoever shares a plan between threads guards it. A source
 * that takes chunks in turn with others gets fewer at once as less is left, so that all end at
 * about the same time. Chunks that only some sources have are asked first of those that have them,
 * so that a source with a part of them is not left without work. */
#ifndef HOST_FETCH_PLAN_H
#define HOST_FETCH_PLAN_H

#include "persistence/chunk_store.h"

#define PLAN_SOURCES 32   /* that one plan may see, one after the other: bits of a mask */
#define PLAN_SLOW_MS 3000 /* a chunk that was asked so long ago is asked of somebody else, too */

struct fetch_plan;

/* The chunks to get: those of n with wanted[i] (NULL: all); a hash that stands there twice is got
 * once. GW_ENOMEM. */
gw_err fetch_plan_new(const struct chunk_ref *chunks, const bool *wanted, size_t n,
                      struct fetch_plan **ret) GW_MUST_USE;
void fetch_plan_free(struct fetch_plan *p); /* NULL allowed */

size_t fetch_plan_left(const struct fetch_plan *p); /* chunks that have not come; 0: done */
uint64_t fetch_plan_left_bytes(const struct fetch_plan *p);
/* Of the chunks that have not come and that this source is not known to lack, those from the
 * *at-th of the plan on: at most `room`; *at goes on. None: that was all. To ask it which of them
 * it has. */
size_t fetch_plan_list(const struct fetch_plan *p, unsigned source, size_t *at,
                       struct chunk_ref *ret, size_t room);

/* A further source: its number [0 .. PLAN_SOURCES), or -1: there were too many. */
int fetch_plan_join(struct fetch_plan *p);
/* It is asked nothing any more; what it was asked and has not sent is open again. */
void fetch_plan_drop(struct fetch_plan *p, unsigned source);

/* What to ask of it next, at most `room`. 0: see fetch_plan_for. */
size_t fetch_plan_take(struct fetch_plan *p, unsigned source, int64_t now_ms, size_t room,
                       struct chunk_ref *ret);
typedef enum plan_for {
    PLAN_ASK,     /* there is something to ask of it */
    PLAN_WAIT,    /* others are being asked for what is left: some of it may come back */
    PLAN_NOTHING, /* all that is left it does not have, or there is nothing left */
} plan_for;
plan_for fetch_plan_for(const struct fetch_plan *p, unsigned source);

typedef enum plan_came {
    CAME_NEW,     /* asked of it, and the first to come */
    CAME_AGAIN,   /* asked of it, and somebody else was faster */
    CAME_UNASKED, /* it was not asked for this */
} plan_came;
/* Whole, and it is what its hash says. */
plan_came fetch_plan_came(struct fetch_plan *p, unsigned source, const struct chunk_hash *hash);
/* It does not have this one: not asked for it again. `asked`: it says so to a question of
 * fetch_plan_take; then GW_EPROTO when it was not asked. */
gw_err fetch_plan_lacks(struct fetch_plan *p, unsigned source, const struct chunk_hash *hash,
                        bool asked) GW_MUST_USE;
/* One that has not come, and that no source which is not dropped has; false: there is none. */
bool fetch_plan_orphan(const struct fetch_plan *p, struct chunk_ref *ret);

#endif
