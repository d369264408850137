/* Monitors, shared by watches.c (memory, rows, handlers, tickets, people), downs.c (the messages
 * between both ends, firing), lineage.c (parents and children) and patrol.c (hosts that are lost).
 */
#ifndef HOST_CORE_WATCHES_H
#define HOST_CORE_WATCHES_H

#include "host/core/internal.h"

#define WATCH_KEY_BYTES (1 + 2 * GW_ID_BYTES) /* behind agent and epoch: end, other, reference */

/* Names of the messages between the two ends. */
#define WATCH_BEGIN "$watch"   /* {ref}: to the one that is watched */
#define WATCH_STOP  "$unwatch" /* {ref} */
#define WATCH_DOWN  "$down"    /* {ref, reason, host}: to the watcher */

/* Why a monitor fires. */
#define DOWN_DISPOSED  "disposed"
#define DOWN_CRASHED   "crashed"
#define DOWN_HOST_LOST "host_lost"
#define DOWN_NOT_FOUND "not_found"
#define DOWN_REFUSED   "refused"

typedef enum watch_end { WATCH_OUT, WATCH_IN, WATCH_ENDS } watch_end; /* it watches, is watched */
typedef enum watch_kind {
    WATCH_AGENT,
    WATCH_HOST,   /* OUT only */
    WATCH_PARENT, /* OUT: of a child that ends with its parent; IN: a child */
    WATCH_LOOSE,  /* OUT: of a child that outlives its parent */
    WATCH_ENDING, /* OUT: the parent has ended, so the child has to (lineage.c) */
    WATCH_KINDS
} watch_kind;

struct watch_row {
    watch_end end;
    watch_kind kind;
    gw_id other; /* OUT: who is watched (nil: a host); IN: the watcher */
    gw_id ref;
    bool has_host;
    struct host_id host; /* WATCH_HOST; none: there was no such host */
    int64_t lost_ms;     /* 0: by the setting; below 0: never */
    int64_t since_ms;
};

struct watch {
    struct watch *next; /* of the same agent */
    struct agent *agent;
    struct watch_row row;
    struct peer *host;
    int64_t checked_us; /* when the mesh was last asked for it (patrol.c) */
    const char *due;    /* OUT: it has fired for this reason, which is not written yet */
    char where[LIMIT_NAME_BYTES + 1]; /* with due: the host that is lost */
    uint64_t firing; /* inbox number of its down, whose transaction is on the way; 0 = none */
    bool fresh;      /* the transaction that sets it is on its way */
    bool gone;       /* the one that ends it is on its way */
};

struct agent_watches {
    struct agent *agent;
    struct watch *first;
    size_t counts[WATCH_ENDS];
    bool listed; /* in node->watching: has some of WATCH_OUT */
    bool learning;
    LIST_ENTRY(agent_watches) link;
};

/* ---- watches.c ---- */
struct watch *watch_find(const struct agent *a, watch_end end, const gw_id *other,
                         const gw_id *ref); /* other NULL: any; NULL: none */
struct watch *watch_add(struct node *n, struct agent *a, const struct watch_row *row);
void watch_drop(struct node *n, struct watch *w); /* may free a->watches with it */
void watch_put(const struct watch *w, struct store_batch *batch);
void watch_del(const struct agent *a, const struct watch_row *row, struct store_batch *batch);

/* ---- downs.c ---- */
/* Write what is due, as far as it can be. */
void downs_pump(struct node *n, struct agent *a);
void down_is_due(struct node *n, struct watch *w, const char *reason, const char *where);
/* Downs of this monitor that wait to be handled: their rows, they themselves. */
void downs_take_back_rows(struct agent *a, const struct watch *w, const gw_id *ref,
                          struct store_batch *batch);
void downs_take_back(struct agent *a, const gw_id *ref);

/* ---- lineage.c ---- */
static inline bool watch_is_of_child(const struct watch *w)
{
    return w->row.end == WATCH_OUT && w->row.kind >= WATCH_PARENT;
}
/* Its parent has ended: what the child's row becomes, in a transaction; then what is to be done. */
void lineage_put(struct node *n, struct watch *w, struct store_batch *batch);
void lineage_written(struct node *n, struct watch *w);
/* End it, when its parent has. */
void lineage_pump(struct node *n, struct agent *a);
gw_err lineage_describe(const struct agent *a, gw_value *ret_parent,
                        gw_value *ret_children) GW_MUST_USE;

#endif
