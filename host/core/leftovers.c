/* Rows that nothing needs any more: of a departed agent when its destination has it, of a staged
 * one that is dropped, of a message that was delivered.
 *
 * Their deletion decides nothing, so nobody waits for it; but it has to come. A full disk rolls it
 * back like any other transaction: then it is tried again each second. Until it is durable the rows
 * of an agent are known here by (agent, epoch), and what is staged under the same two takes their
 * deletion into its own transaction: nothing that was left may become part of it. */
#include "host/core/internal.h"

#include <stdlib.h>

#include "host/core/handoff.h"
#include "host/core/reach.h"

#define SWEPT_AT_ONCE 1000

struct leftover {
    UT_hash_handle hh; /* in node->leftovers, by key; not of messages */
    struct leftover_key {
        gw_id agent;
        uint64_t epoch;
    } key;
    bool message; /* only the row of its outbox with this number */
    uint64_t number;
    struct leftovers *group;
    TAILQ_ENTRY(leftover) link;
};
struct leftovers { /* of one transaction; node->left: of none, to be tried again */
    struct node *n;
    TAILQ_HEAD(, leftover) items;
};

struct leftovers *leftovers_new(struct node *n)
{
    struct leftovers *g = xcalloc(1, sizeof *g);
    g->n = n;
    TAILQ_INIT(&g->items);
    return g;
}

static struct leftover *find(struct node *n, const gw_id *id, uint64_t epoch)
{
    const struct leftover_key key = {*id, epoch};
    struct leftover *l;
    HASH_FIND(hh, n->leftovers, &key, sizeof key, l);
    return l;
}

static void forget(struct leftover *l)
{
    TAILQ_REMOVE(&l->group->items, l, link);
    if (!l->message) {
        HASH_DEL(l->group->n->leftovers, l);
    }
    free(l);
}

static void join(struct leftover *l, struct leftovers *g)
{
    if (l->group) {
        TAILQ_REMOVE(&l->group->items, l, link);
    }
    l->group = g;
    TAILQ_INSERT_TAIL(&g->items, l, link);
}

static void put(const struct leftover *l, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES + 8];
    const gw_id *id = &l->key.agent;
    if (l->message) {
        store_batch_del(batch, TABLE_OUTBOX, row_number_key(raw, id, l->key.epoch, l->number));
    } else {
        agent_delete_rows(batch, id, l->key.epoch);
    }
}

void leftovers_agent(struct leftovers *g, const gw_id *id, uint64_t epoch,
                     struct store_batch *batch)
{
    struct leftover *l = find(g->n, id, epoch);
    if (!l) {
        l = xcalloc(1, sizeof *l);
        l->key = (struct leftover_key){*id, epoch};
        HASH_ADD(hh, g->n->leftovers, key, sizeof l->key, l);
    }
    join(l, g); /* the later transaction counts */
    put(l, batch);
}

void leftovers_message(struct leftovers *g, const gw_id *id, uint64_t epoch, uint64_t number,
                       struct store_batch *batch)
{
    struct leftover *l = xcalloc(1, sizeof *l);
    l->key = (struct leftover_key){*id, epoch};
    l->message = true;
    l->number = number;
    join(l, g);
    put(l, batch);
}

static void swept(void *arg, gw_err err)
{
    struct leftovers *g = arg;
    struct leftover *l;
    while ((l = TAILQ_FIRST(&g->items))) {
        if (err == GW_OK) {
            forget(l);
        } else {
            REACH(LEFTOVER_ROLLED_BACK);
            join(l, g->n->left);
        }
    }
    free(g);
}

void leftovers_commit(struct leftovers *g, struct store_batch *batch, commit_point point)
{
    if (g->n->ended || (batch && store_batch_count(batch) == 0)) {
        store_batch_free(batch);
        swept(g, GW_OK);
        return;
    }
    node_commit(g->n, batch, point, swept, g);
}

/* ---- staging ---- */

void leftovers_clear(struct node *n, const gw_id *id, uint64_t epoch, struct store_batch *batch)
{
    if (n->leftovers && find(n, id, epoch)) {
        REACH(LEFTOVER_CLEARED);
        agent_delete_rows(batch, id, epoch);
    }
}

void leftovers_cleared(struct node *n, const gw_id *id, uint64_t epoch)
{
    struct leftover *l = n->leftovers ? find(n, id, epoch) : NULL;
    if (l) {
        forget(l);
    }
}

/* ---- life ---- */

/* What is being staged waits: its own transaction says. */
void leftovers_housekeeping(struct node *n)
{
    struct leftover *l, *next;
    struct leftovers *g = NULL;
    struct store_batch *batch = NULL;
    size_t count = 0;
    for (l = TAILQ_FIRST(&n->left->items); l && count < SWEPT_AT_ONCE; l = next) {
        next = TAILQ_NEXT(l, link);
        if (!l->message && move_in_holds(n, &l->key.agent)) {
            continue;
        }
        REACH(LEFTOVER_SWEPT);
        g = g ? g : leftovers_new(n);
        batch = batch ? batch : store_batch_new();
        join(l, g);
        put(l, batch);
        count++;
    }
    if (g) {
        leftovers_commit(g, batch, POINT_LEFTOVERS);
    }
}

/* Those on their way go with their transactions. */
void leftovers_free(struct node *n)
{
    struct leftover *l;
    while (n->left && (l = TAILQ_FIRST(&n->left->items))) {
        forget(l);
    }
    HASH_CLEAR(hh, n->leftovers);
    free(n->left);
}
