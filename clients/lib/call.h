/* The open calls of one client: found by stream number in one step, kept in the order in which they
 * began or ended. Records are used again, so that a steady load does not allocate. One thread. */
#ifndef CLIENTS_LIB_CALL_H
#define CLIENTS_LIB_CALL_H

#include <sys/queue.h>

#include <godwit/client.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"

struct call {
    TAILQ_ENTRY(call) link;
    uint64_t stream; /* = the ticket; never 0 */
    bool done;
    bool repeatable; /* the host applies it once, however often it comes */
    bool repeated;   /* sent again after a loss: the next loss ends it */
    bool stopped;    /* on_item wants no more */
    char op[32];
    char key[LIMIT_REQUEST_KEY_BYTES + 1]; /* request key, or "" */
    struct buf frame;                      /* as sent, for sending again */
    gw_item_fn *on_item;                   /* streams; else NULL */
    void *arg;
    gw_err code;         /* done: the outcome */
    gw_value value;      /* done: owned */
    struct gw_error why; /* done and code != GW_OK */
};
TAILQ_HEAD(call_list, call);

struct calls {
    struct call **slots; /* stream % size */
    size_t size;         /* power of two, 0 before the first call */
    size_t count;        /* open and done */
    uint64_t last;       /* the highest number given */
    struct call_list open, done, spare;
};
void calls_init(struct calls *t);
void calls_free(struct calls *t);
/* A fresh record on the open list. GW_EBUSY LIMIT_LINK_CALLS are there; GW_ENOMEM. */
gw_err calls_add(struct calls *t, struct call **ret) GW_MUST_USE;
struct call *calls_find(const struct calls *t, uint64_t stream); /* NULL when there is none */
/* Open -> done. A failure takes `why` (NULL allowed); the value is moved in. */
void calls_finish(struct calls *t, struct call *call, gw_err code, gw_value *value,
                  const struct gw_error *why);
void calls_remove(struct calls *t, struct call *call);

#endif
