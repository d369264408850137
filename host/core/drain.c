/* Drain: every agent of this host moves away, for example before the machine is taken down.
 *
 *   scan: who lives here and has not been looked at --> waiting --> in flight --> gone
 *                                                        |  ^           |
 *                        moves, wakes, sleeps by itself: v  | 100 ms    +--> again, elsewhere, or
 *                                                       later                          stayed
 *
 * Agents that are quiet go together, under one ticket for each host that takes some, a few tickets
 * at a time; one that is busy goes under a ticket of its own, so that nobody waits for its handler.
 * A crash, a lost link or a caller who goes away leaves nothing half done, and a drain that is
 * begun again takes who is still here. Scanned until nobody new is found: agents that are created
 * or arrive meanwhile go, too, but each is sent only a few times, for it may come back by itself.
 */
#include "host/core/handoff.h"
#include "host/core/reach.h"
#include "host/core/sleepers.h"

#include <stdlib.h>
#include <string.h>

#define TICKETS_MAX                                                                                \
    8 /* at a time, for each host: both sides write, seal and open while the others are on the way \
       */
#define BATCH_MAX 64  /* agents of one: as many as fill a group commit */
#define ALONE_MAX 64  /* tickets of one busy agent at a time */
#define TICK_MS   100 /* between two looks at those that were not free, and two progress reports */
#define TICK_US   (TICK_MS * 1000LL)
#define SETTLE_US 10000000LL /* an agent that is not free for so long stays */
#define TRIES_MAX 3          /* of one agent: other hosts, or it came back */

typedef enum leaving_state {
    LEAVING_WAITING,
    LEAVING_LATER,
    LEAVING_IN_FLIGHT,
    LEAVING_GONE,
    LEAVING_STAYED
} leaving_state;
struct leaving {
    UT_hash_handle hh;         /* by id */
    TAILQ_ENTRY(leaving) link; /* in waiting or later */
    struct drain *drain;
    gw_id id;
    leaving_state state;
    bool alone; /* it goes, or went, under a ticket of its own */
    unsigned tries;
    int64_t since_us; /* it is not free since then; 0 = it was */
    int64_t sent_us;
};
TAILQ_HEAD(leaving_queue, leaving);

struct drain {
    LIST_ENTRY(drain) link;
    struct node *n;
    struct op_call *call;
    char *to;
    struct env_timer *timer;
    struct leaving *all;
    struct leaving_queue waiting, later;
    struct drain_host {
        struct peer *peer;
        struct ticket_out *filling; /* of this turn; NULL = none */
    } * hosts;                      /* that may take them, up now; found at each turn */
    size_t host_count, next_host;
    size_t batch;                           /* agents of one ticket: fewer when they are large */
    size_t moved, stayed, in_flight, alone; /* alone: of those in flight */
    int64_t told_us, later_us;              /* when progress was told, when `later` was looked at */
    bool gone;                              /* nobody listens: nothing new is begun */
};

static void drain_free(struct drain *d)
{
    struct leaving *l, *next;
    HASH_ITER (hh, d->all, l, next) {
        HASH_DEL(d->all, l);
        free(l);
    }
    LIST_REMOVE(d, link);
    d->n->env->timer_free(d->n->env->ctx, d->timer);
    free(d->hosts);
    free(d->to);
    free(d);
}

void drains_free(struct node *n)
{
    while (!LIST_EMPTY(&n->drains)) {
        drain_free(LIST_FIRST(&n->drains)); /* their calls belong to their doors */
    }
}

/* ---- reports ---- */

static void give(struct drain *d, gw_value *item)
{
    d->gone = d->gone || !d->call->item(d->call, item);
    gw_value_free(item);
}

static void tell_progress(struct drain *d, bool done)
{
    gw_value item = gw_nil();
    d->told_us = d->n->env->mono_us(d->n->env->ctx);
    if (gw_map_set(&item, "total", gw_int((int64_t)HASH_COUNT(d->all))) == GW_OK &&
        gw_map_set(&item, "moved", gw_int((int64_t)d->moved)) == GW_OK &&
        gw_map_set(&item, "stayed", gw_int((int64_t)d->stayed)) == GW_OK &&
        gw_map_set(&item, "in_flight", gw_int((int64_t)d->in_flight)) == GW_OK &&
        gw_map_set(&item, "done", gw_bool(done)) == GW_OK) {
        give(d, &item);
    } else {
        gw_value_free(&item);
    }
}

static void stays(struct drain *d, struct leaving *l, const struct gw_error *why)
{
    const struct agent *a = agent_find(d->n, &l->id);
    char id[GW_ID_TEXT];
    gw_value item = gw_nil();
    l->state = LEAVING_STAYED;
    d->stayed++;
    if (gw_map_set(&item, "agent", gw_str(gw_id_text(&l->id, id))) == GW_OK &&
        gw_map_set(&item, "type", a ? gw_str(a->type->name) : gw_nil()) == GW_OK &&
        gw_map_set(&item, "code", gw_str(gw_err_name(why->code))) == GW_OK &&
        gw_map_set(&item, "reason", gw_str(why->text)) == GW_OK) {
        give(d, &item);
    } else {
        gw_value_free(&item);
    }
}

/* ---- one agent ---- */

static void enqueue(struct drain *d, struct leaving *l, bool later)
{
    l->state = later ? LEAVING_LATER : LEAVING_WAITING;
    TAILQ_INSERT_TAIL(later ? &d->later : &d->waiting, l, link);
}

static bool may_go_elsewhere(gw_err err)
{
    return err == GW_EUNREACHABLE || err == GW_ETIMEOUT || err == GW_ESTOPPING || err == GW_EBUSY;
}

static void failed(struct drain *d, struct leaving *l, const struct gw_error *why)
{
    bool again = l->tries < TRIES_MAX && !d->gone;
    if (may_go_elsewhere(why->code) && again) {
        REACH(DRAIN_AGAIN);
        l->alone |=
            why->code == GW_EBUSY; /* its neighbours could not wait for it, or a host is full */
        enqueue(d, l, true);
    } else if (!l->alone && why->code == GW_ETOO_BIG && !d->gone) {
        l->tries--; /* nothing was sent: together they are too large */
        d->batch = d->batch > 1 ? d->batch / 2 : 1;
        enqueue(d, l, false);
    } else {
        stays(d, l, why);
    }
}

static void moved(void *arg, gw_err err, struct move_out *m, const struct gw_error *why)
{
    struct leaving *l = arg;
    struct drain *d = l->drain;
    (void)m;
    d->in_flight--;
    d->alone -= l->alone;
    if (err == GW_OK) {
        l->state = LEAVING_GONE;
        d->moved++;
    } else {
        failed(d, l, why);
    }
    d->n->env->timer_start(d->n->env->ctx, d->timer,
                           0); /* what comes next begins outside of this move */
}

/* The next host in turn that has the type. */
static gw_err choose(struct drain *d, const struct agent *a, struct drain_host **ret,
                     struct gw_error *why)
{
    for (size_t i = 0; i < d->host_count; i++) {
        struct drain_host *h = &d->hosts[d->next_host++ % d->host_count];
        if (move_out_takes_type(h->peer, a->type->name)) {
            *ret = h;
            return GW_OK;
        }
    }
    if (d->host_count == 0) {
        return gw_fail(why, GW_EUNREACHABLE, "no other host that matches \"%.100s\" is reachable",
                       d->to);
    }
    return gw_fail(why, GW_EREFUSED,
                   "no reachable host that matches \"%.100s\" has agent type \"%s\"", d->to,
                   a->type->name);
}

/* It moves, wakes or sleeps by itself: true when it shall be looked at again. */
static bool not_free(struct drain *d, struct leaving *l, const struct agent *a)
{
    int64_t now_us = d->n->env->mono_us(d->n->env->ctx);
    if (a->status == AGENT_QUARANTINED || !(move_out_of(a) || agent_is_changing(a) || a->intent ||
                                            a->unborn || files_are_coming(a))) {
        l->since_us = 0;
        return false;
    }
    l->since_us = l->since_us ? l->since_us : now_us;
    return now_us - l->since_us < SETTLE_US;
}

/* Under the open ticket for this host, or one of its own. */
static void send(struct drain *d, struct leaving *l, struct agent *a, struct drain_host *h)
{
    struct ticket_out *alone = NULL;
    l->alone |= a->files || (a->status == AGENT_ACTIVE && !work_is_quiet(d->n, a));
    l->tries++;
    l->state = LEAVING_IN_FLIGHT;
    l->sent_us = d->n->env->mono_us(d->n->env->ctx);
    d->in_flight++;
    d->alone += l->alone;
    if (l->alone) {
        alone = ticket_out_new(d->n, h->peer);
    } else if (!h->filling) {
        h->filling = ticket_out_new(d->n, h->peer);
    }
    (void)move_out_join(alone ? alone : h->filling, a, 0, NULL, moved, l);
    if (alone) {
        ticket_out_go(alone);
    } else if (h->filling->count >= d->batch) {
        ticket_out_go(h->filling);
        h->filling = NULL;
    }
}

static void launch(struct drain *d, struct leaving *l)
{
    struct node *n = d->n;
    struct agent *a = agent_find(n, &l->id);
    struct gw_error why;
    struct drain_host *to = NULL;
    if (!a) { /* it left or ended by itself */
        HASH_DEL(d->all, l);
        free(l);
    } else if (not_free(d, l, a)) {
        enqueue(d, l, true);
    } else if (agent_check_free(n, a, &why) != GW_OK || choose(d, a, &to, &why) != GW_OK) {
        stays(d, l, &why);
    } else if (a->intent) {
        gw_fail(&why, GW_EBUSY, "what the agent asked about itself is not done yet");
        stays(d, l, &why);
    } else if (move_out_check(n, a, to->peer, false, &why) != GW_OK) {
        l->tries++;
        failed(d, l, &why);
    } else {
        send(d, l, a, to);
    }
}

/* As many as may be in flight; then what was not filled goes, too. */
static void launch_all(struct drain *d)
{
    struct leaving *l;
    while (d->in_flight - d->alone < TICKETS_MAX * d->batch * (d->host_count ? d->host_count : 1) &&
           d->alone < ALONE_MAX && !d->gone && (l = TAILQ_FIRST(&d->waiting))) {
        TAILQ_REMOVE(&d->waiting, l, link);
        launch(d, l);
    }
    for (size_t i = 0; i < d->host_count; i++) {
        if (d->hosts[i].filling) {
            ticket_out_go(d->hosts[i].filling);
            d->hosts[i].filling = NULL;
        }
    }
}

/* ---- all of them ---- */

static void find_hosts(struct drain *d)
{
    struct node *n = d->n;
    struct gw_error why;
    size_t cap = HASH_COUNT(n->peers), up = 0;
    struct peer **all = xcalloc(cap, sizeof(struct peer *));
    size_t count = peers_select(n, d->to, all, cap, &why);
    free(d->hosts);
    d->hosts = xcalloc(cap, sizeof *d->hosts);
    for (size_t i = 0; i < count; i++) {
        if (all[i]->up && !all[i]->self) {
            d->hosts[up++].peer = all[i];
        }
    }
    free(all);
    d->host_count = up;
}

static void look_at(struct drain *d, const gw_id *id)
{
    struct gw_error why;
    struct leaving *l;
    HASH_FIND(hh, d->all, id, sizeof *id, l);
    if (!l) {
        l = xcalloc(1, sizeof *l);
        l->drain = d;
        l->id = *id;
        HASH_ADD(hh, d->all, id, sizeof l->id, l);
        enqueue(d, l, false);
    } else if (l->state == LEAVING_GONE) {
        d->moved--;
        if (l->tries < TRIES_MAX) {
            enqueue(d, l, false);
        } else {
            gw_fail(&why, GW_ECONFLICT, "it went away %u times and came back each time", l->tries);
            stays(d, l, &why);
        }
    }
}

/* Whoever is here and has not been looked at yet, or has come back. */
static void scan(struct drain *d)
{
    for (const struct agent *a = d->n->agents; a; a = a->hh.next) {
        if (!a->type->builtin) { /* else it belongs to the host */
            look_at(d, &a->id);
        }
    }
    for (size_t i = 0; i < sleepers_count(d->n); i++) {
        look_at(d, sleepers_at(d->n, i).id);
    }
}

static void finish(struct drain *d)
{
    struct node *n = d->n;
    struct op_call *call = d->call;
    struct gw_error why;
    bool all = TAILQ_EMPTY(&d->waiting) && TAILQ_EMPTY(&d->later);
    tell_progress(d, all);
    drain_free(d);
    if (all) {
        gw_value nothing = gw_nil();
        op_ok(call, &nothing);
    } else {
        gw_fail(&why, n->stopping ? GW_ESTOPPING : GW_ECANCELLED,
                "the drain ended before all agents had gone");
        op_fail(call, &why);
    }
}

/* Moves that cannot fail any more, but whose destination does not confirm: it may be down for long.
 */
static void give_up_departed(struct drain *d, int64_t now_us)
{
    struct gw_error why;
    struct ticket_out *t;
    struct move_out *m;
    TICKET_OUT_EACH(d->n, t, m)
    {
        struct leaving *l = m->arg;
        if (m->done == moved && l->drain == d && t->phase == OUT_DEPARTED &&
            now_us - l->sent_us >= SETTLE_US) {
            REACH(DRAIN_UNCONFIRMED);
            m->done = NULL;
            m->arg = NULL;
            d->in_flight--;
            d->alone -= l->alone;
            gw_fail(&why, GW_EUNREACHABLE,
                    "it has left for host \"%s\", which does not confirm; see `godwit moves`",
                    peer_label(t->to));
            stays(d, l, &why);
        }
    }
}

static void turn(void *arg)
{
    struct drain *d = arg;
    struct node *n = d->n;
    int64_t now_us = n->env->mono_us(n->env->ctx);
    find_hosts(d);
    give_up_departed(d, now_us);
    if (now_us - d->later_us >= TICK_US) {
        d->later_us = now_us;
        TAILQ_CONCAT(&d->waiting, &d->later, link);
    }
    while (!d->gone && !n->stopping) {
        launch_all(d);
        if (d->in_flight > 0 || !TAILQ_EMPTY(&d->waiting) || !TAILQ_EMPTY(&d->later)) {
            break;
        }
        scan(d);
        if (TAILQ_EMPTY(&d->waiting)) {
            break;
        }
    }
    bool idle = TAILQ_EMPTY(&d->waiting) && TAILQ_EMPTY(&d->later);
    if (d->in_flight == 0 && (idle || d->gone || n->stopping)) {
        finish(d);
        return;
    }
    if (now_us - d->told_us >= TICK_US) {
        tell_progress(d, false);
    }
    n->env->timer_start(n->env->ctx, d->timer, TICK_MS);
}

static void caller_gone(void *arg)
{
    struct drain *d = arg;
    d->gone = true;
    d->n->env->timer_start(d->n->env->ctx, d->timer, 0);
}

void op_drain(struct node *n, struct op_call *call)
{
    struct gw_error why;
    struct peer *to;
    const char *selector = gw_map_str(&call->args, "to", "any");
    struct drain *other = LIST_FIRST(&n->drains);
    if (other && !other->gone) {
        gw_fail(&why, GW_ECONFLICT, "host \"%s\" is being drained already", n->name);
        op_fail(call, &why);
        return;
    }
    gw_err err = peers_pick(n, selector, true, &to, &why);
    if (err == GW_OK && to->self) {
        err = gw_fail(&why, GW_EREFUSED, "the agents are on host \"%s\" already", n->name);
    }
    if (err != GW_OK) {
        op_fail(call, &why);
        return;
    }
    struct drain *d = xcalloc(1, sizeof *d);
    d->n = n;
    d->call = call;
    d->to = xstrdup(selector);
    d->batch = BATCH_MAX;
    d->timer = n->env->timer_new(n->env->ctx, turn, d);
    TAILQ_INIT(&d->waiting);
    TAILQ_INIT(&d->later);
    LIST_INSERT_HEAD(&n->drains, d, link);
    call->on_gone = caller_gone;
    call->gone_arg = d;
    n->env->timer_start(n->env->ctx, d->timer, 0);
}
