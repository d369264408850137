/* Sleeping agents with which nothing goes on, without a struct agent (sleepers.c). Whoever walks
 * n->agents sees only the others; who means all of them walks these, too. */
#ifndef HOST_CORE_SLEEPERS_H
#define HOST_CORE_SLEEPERS_H

#include "host/core/internal.h"

/* Borrowed, until an agent comes or goes. */
struct sleeper_view {
    const gw_id *id;
    uint64_t epoch;
    struct type *type;
    const struct host_id *home;
};

void sleepers_init(struct node *n);
void sleepers_free(struct node *n);
/* A row of TABLE_AGENTS at boot. False: not of one that can lie here (nothing was done). */
bool sleepers_boot_row(struct node *n, const gw_id *id, uint64_t epoch, struct span row);
/* Make an agent of an entry; NULL when there is none. agent_find does it. */
struct agent *sleepers_raise(struct node *n, const gw_id *id);
/* An agent has become AGENT_INACTIVE, or ceases to be. */
void sleepers_await(struct node *n, struct agent *a);
void sleepers_awake(struct node *n, struct agent *a);
void sleepers_housekeeping(struct node *n); /* lay down who has slept for a moment */

size_t sleepers_count(const struct node *n);
struct sleeper_view sleepers_at(const struct node *n, size_t i); /* [0 .. count) in no order */
/* Whether it lies here; `ret` may be NULL. */
bool sleepers_look(const struct node *n, const gw_id *id, struct sleeper_view *ret);
void sleepers_alias(const struct node *n, const gw_id *id,
                    char ret[LIMIT_ALIAS_BYTES + 1]); /* "" = none */

#endif
