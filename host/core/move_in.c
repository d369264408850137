/* Handoff at the destination: one agent under its ticket (ticket_in.c). */
#include "host/core/handoff.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/broken.h"
#include "host/core/reach.h"

struct probe { /* outlives a move that is dropped meanwhile */
    struct ticket_in *t;
    struct move_in *move; /* NULL: gone */
    struct agent agent;   /* not registered */
};

struct move_in *move_in_find(struct node *n, const gw_id *agent)
{
    struct move_in *m;
    HASH_FIND(hh, n->moves_in, agent, sizeof *agent, m);
    return m;
}

bool move_in_holds(struct node *n, const gw_id *agent)
{
    return move_in_find(n, agent) != NULL;
}

struct move_in *move_in_new(struct ticket_in *t, const gw_id *agent, uint64_t epoch)
{
    struct move_in *m = xcalloc(1, sizeof *m);
    m->t = t;
    m->agent = *agent;
    m->epoch = epoch;
    HASH_ADD(hh, t->node->moves_in, agent, sizeof m->agent, m);
    TAILQ_INSERT_TAIL(&t->moves, m, link);
    t->count++;
    return m;
}

void move_in_free(struct move_in *m)
{
    struct ticket_in *t = m->t;
    HASH_DEL(t->node->moves_in, m);
    TAILQ_REMOVE(&t->moves, m, link);
    t->count--;
    if (m->probe) {
        m->probe->move = NULL; /* which is freed when it ends */
    }
    agent_row_clear(&m->row);
    free(m);
}

/* ---- admission ---- */

gw_err move_in_admit(struct node *n, const struct ticket *t, size_t i, size_t staged, size_t coming,
                     struct gw_error *why)
{
    const struct ticket_agent *e = &t->agents[i];
    const struct type *type = type_find(n, e->type);
    if (!name_is_valid(e->type) || !type || !type_offered(type) || type->builtin) {
        return gw_fail(why, GW_EREFUSED, "host \"%s\" has no agent type \"%.64s\"", n->name,
                       e->type);
    }
    uint64_t fence = agent_fence(n, &e->agent);
    if (e->epoch > LIMIT_EPOCH || (e->epoch <= fence && !BROKEN(2))) {
        REACH(FENCE_REFUSED);
        return gw_fail(why, GW_EREFUSED, "the agent is known here at epoch %llu, not below %llu",
                       (unsigned long long)fence, (unsigned long long)e->epoch);
    }
    const struct agent *here = agent_find(n, &e->agent);
    if (here && !BROKEN(2)) { /* an older copy: the two have not met so far (H8) */
        struct peer *from = peer_find(n, &t->from);
        if (from && from->up) {
            copies_meet(n, from, &e->agent);
        }
        return gw_fail(why, GW_ECONFLICT, "host \"%s\" has a copy of the agent at epoch %llu",
                       n->name, (unsigned long long)here->epoch);
    }
    struct move_in *other = move_in_find(n, &e->agent);
    if (other) { /* H2: ask about the one that is held */
        if (other->t->phase == IN_STAGED) {
            n->env->timer_start(n->env->ctx, other->t->timer, 0);
        }
        REACH(HELD_BY_ANOTHER);
        return gw_fail(why, GW_ECONFLICT, "another ticket holds the agent here");
    }
    GW_TRY(agents_room(n, coming, why));
    if (staged + coming >= n->cfg.limits.staged) {
        return gw_fail(why, GW_EBUSY, "too many agents of yours are staged here");
    }
    return GW_OK;
}

/* The hooks with which a life begins here. A move says by a bit whether it was called back
 * (PROTOCOL.md 6.2). */
static uint32_t greeting(const struct type *t, const struct handoff_payload *pay)
{
    frame_hook hook = pay->mode == HANDOFF_CLONE ? HOOK_CLONE : HOOK_ARRIVE;
    if (pay->row.then == AGENT_INACTIVE) {
        return 0;
    }
    if (hook == HOOK_ARRIVE && pay->row.pending & 1u << HOOK_RETRACT &&
        t->hooks & 1u << HOOK_RETRACT) {
        hook = HOOK_RETRACT;
    }
    return hooks_to_run(t, 1u << hook);
}

static gw_err check_payload(const struct node *n, const struct ticket *ticket,
                            const struct ticket_agent *e, const struct handoff_payload *pay,
                            struct gw_error *why)
{
    if (strcmp(pay->row.type, e->type) != 0 ||
        (pay->row.then != AGENT_ACTIVE && pay->row.then != AGENT_INACTIVE)) {
        return gw_fail(why, GW_EDECODE, "the payload is not an agent");
    }
    if (pay->mode == HANDOFF_CLONE && ticket->agent_count > 1) {
        return gw_fail(why, GW_ENOT_SUPPORTED, "a clone comes under a ticket of its own");
    }
    if (pay->mode == HANDOFF_CLONE && e->epoch != 1) {
        return gw_fail(why, GW_EDECODE, "a clone begins at epoch 1");
    }
    if (handoff_store(NULL, pay, &e->agent, e->epoch, 0) != GW_OK ||
        files_store(NULL, &e->agent, e->epoch, pay->files, &ticket->id) != GW_OK) {
        return gw_fail(why, GW_EDECODE, "the payload holds rows that are none");
    }
    if (!peer_has_room(n, &pay->row.home)) {
        return gw_fail(why, GW_EBUSY, "host \"%s\" cannot remember one more home of agents",
                       n->name);
    }
    return GW_OK;
}

gw_err move_in_take(struct ticket_in *t, const struct ticket *ticket, size_t i, struct span sealed,
                    struct store_batch *batch, struct buf *ret_plain, struct span *ret_parts,
                    struct gw_error *why)
{
    struct node *n = t->node;
    const struct ticket_agent *e = &ticket->agents[i];
    GW_AUTO(buf_free) struct buf plain = {0};
    struct handoff_payload pay;
    GW_TRY(ticket_open(ticket, i, sealed, &n->cfg.key, &plain, why));
    if (handoff_unpack(buf_span(&plain), &pay) != GW_OK) {
        return gw_fail(why, GW_EDECODE, "the payload is not an agent");
    }
    if (check_payload(n, ticket, e, &pay, why) != GW_OK) {
        agent_row_clear(&pay.row);
        return why->code;
    }
    leftovers_clear(n, &e->agent, e->epoch, batch);
    (void)peer_intern(n, &pay.row.home); /* now: the next payload may name another one */
    gw_err err = handoff_store(batch, &pay, &e->agent, e->epoch, node_now_ms(n));
    gw_assert(err == GW_OK); /* checked */
    err = files_store(batch, &e->agent, e->epoch, pay.files, &t->id);
    gw_assert(err == GW_OK);
    struct move_in *m = move_in_new(t, &e->agent, e->epoch);
    m->clone = pay.mode == HANDOFF_CLONE;
    m->has_mail = handoff_has_mail(&pay);
    m->row = pay.row;
    m->row.status = AGENT_STAGED;
    m->row.ticket = t->id;
    m->row.peer = t->from->id;
    m->row.pending = greeting(type_find(n, e->type), &pay);
    memcpy(m->row.nonce, t->nonce, sizeof m->row.nonce);
    if (!m->clone) { /* a clone has no source that could lose it: one transaction */
        struct buf value = {0};
        uint8_t raw[ROW_KEY_BYTES];
        agent_row_pack(&m->row, &value);
        store_batch_put_take(batch, TABLE_AGENTS, row_key(raw, &m->agent, m->epoch), &value);
        buf_free(&value);
    }
    if (handoff_has_files(&pay) && files_verify(m, pay.files, &m->why) != GW_OK) {
        m->refused = m->why.code;
    }
    if (!handoff_has_files(&pay)) {
        files_drop_offered(n, &t->from->id, &t->id, &e->agent); /* it has let go of them */
    }
    *ret_parts = pay.parts;
    *ret_plain = buf_take(&plain);
    return GW_OK;
}

/* ---- the probe ---- */

static void probed(struct work *w, gw_err err, const struct gw_error *why)
{
    struct probe *p = w->arg;
    struct ticket_in *t = p->t;
    struct move_in *m = p->move;
    if (m) {
        m->probe = NULL;
    }
    REACH_IF(err == GW_ECRASHED, PROBE_LOST);
    if (m && err == GW_OK) {
        m->incarnation = p->agent.type->runner->incarnation;
    } else if (m && err != GW_ECANCELLED && (err != GW_ECRASHED || m->clone)) {
        m->refused = err == GW_ECRASHED ? err : GW_EDECODE;
        m->why = *why;
        m->why.code = m->refused;
        gw_prefix(&m->why, "its state does not decode there");
    }
    p->agent.live->current = NULL;
    live_free(p->agent.live);
    free(p);
    t->probing--;
    if (err != GW_ECANCELLED || t->detached) {
        ticket_in_probed(t);
    }
}

void move_in_probe(struct move_in *m, struct span parts)
{
    struct node *n = m->t->node;
    struct type *t = type_find(n, m->row.type);
    if (m->row.then == AGENT_INACTIVE || t->runner->state != RUNNER_UP) {
        return; /* an inactive arrival stays asleep; a runner that is coming back loads it later */
    }
    struct probe *p = xcalloc(1, sizeof *p);
    p->t = m->t;
    p->move = m;
    p->agent.id = m->agent;
    p->agent.epoch = m->epoch;
    p->agent.type = t;
    p->agent.home = &peer_intern(n, &m->row.home)->id;
    m->probe = p;
    struct work *w = work_new(n, &p->agent, HOOK_NONE);
    agent_live(&p->agent)->current = w;
    w->probe = probed;
    w->arg = p;
    m->t->probing++;
    runner_run(t->runner, w, parts);
}

/* ---- ours, or not ---- */

void move_in_put_arrived(struct move_in *m, struct store_batch *batch)
{
    struct node *n = m->t->node;
    struct agent_row row = m->row;
    struct buf value = {0};
    uint8_t raw[ROW_KEY_BYTES];
    row.status = row.then;
    row.ticket = (gw_id){{0}};
    row.intent = (struct buf){0};
    row.trace = (struct trace){0};
    agent_row_pack(&row, &value);
    store_batch_put_take(batch, TABLE_AGENTS, row_key(raw, &m->agent, m->epoch), &value);
    buf_free(&value);
    location_write(batch, &m->agent, m->epoch, n->self);
    event_put(n, batch,
              &(struct event){.kind = m->clone ? "agent.clone" : "agent.arrive",
                              .agent = &m->agent,
                              .type = m->row.type,
                              .ticket = &m->t->id,
                              .peer = m->t->from,
                              .trace = &m->row.trace});
}

void move_in_put_dropped(struct move_in *m, struct leftovers *gone, struct store_batch *batch)
{
    struct node *n = m->t->node;
    struct type *t = type_find(n, m->row.type);
    if (m->has_files) {
        files_drop(n, &m->t->id, &m->agent);
    }
    if (gone) {
        leftovers_agent(gone, &m->agent, m->epoch, batch);
    } else {
        agent_delete_rows(batch, &m->agent, m->epoch);
    }
    event_put(n, batch,
              &(struct event){.kind = "transfer.dropped",
                              .agent = &m->agent,
                              .type = m->row.type,
                              .ticket = &m->t->id,
                              .peer = m->t->from,
                              .trace = &m->row.trace});
    if (t && t->runner && m->incarnation == t->runner->incarnation) {
        runner_unload(t->runner, &m->agent);
    }
}

struct agent *move_in_arrive(struct move_in *m)
{
    struct node *n = m->t->node;
    struct agent_row row = m->row;
    struct type *t = type_find(n, row.type);
    row.status = row.then;
    location_know(n, &m->agent, m->epoch, n->self, false, true);
    struct agent *a = agent_add(n, &m->agent, m->epoch, &row);
    if (m->incarnation && t && t->runner && t->runner->incarnation == m->incarnation) {
        agent_live(a)->incarnation = m->incarnation; /* the probe has loaded it */
    }
    return a;
}
