/* What an operator may do about a move in doubt: `moves resolve TICKET`, at either side.
 *
 * H8: refused for an agent of which this host has heard from elsewhere, or of which somebody who
 * can be reached knows more; the others under the ticket become ours at an epoch that no other copy
 * can have. */
#include "host/core/handoff.h"

#include <stdlib.h>
#include <string.h>

struct resolving {
    struct node *n;
    struct op_call *call;
    gw_id ticket;
    bool source;
    size_t asking;
    size_t count;
    struct one {
        gw_id agent;
        uint64_t from, to; /* epochs: the row's, the new one */
        struct agent_row row;
        uint64_t higher; /* an epoch that somebody reachable knows */
        bool taken;
    } ones[];
};

static void resolving_free(struct resolving *r)
{
    for (size_t i = 0; i < r->count; i++) {
        agent_row_clear(&r->ones[i].row);
    }
    free(r);
}

static void refuse(struct resolving *r, gw_err err, const char *text)
{
    struct gw_error why;
    gw_fail(&why, err, "%s", text);
    op_fail(r->call, &why);
    resolving_free(r);
}

/* ---- written ---- */

static struct move_out *find_out(const struct resolving *r, const gw_id *agent)
{
    struct ticket_out *t = ticket_out_find(r->n, &r->ticket);
    struct move_out *m = NULL;
    if (t) {
        TAILQ_FOREACH (m, &t->moves, link) {
            if (gw_id_equal(&m->agent_id, agent)) {
                break;
            }
        }
    }
    return m;
}

static struct move_in *find_in(const struct resolving *r, const gw_id *agent)
{
    struct move_in *m = move_in_find(r->n, agent);
    return m && gw_id_equal(&m->t->id, &r->ticket) ? m : NULL;
}

static void forget_move(struct resolving *r, const struct one *o)
{
    struct move_out *out = r->source ? find_out(r, &o->agent) : NULL;
    struct move_in *in = r->source ? NULL : find_in(r, &o->agent);
    if (out) {
        move_out_taken_back(out);
    } else if (in) {
        ticket_in_forget(in);
    }
}

/* The other side waits while it is written, and goes on with those that are left. */
static void hold_move(struct resolving *r, bool on)
{
    struct ticket_out *out = r->source ? ticket_out_find(r->n, &r->ticket) : NULL;
    struct ticket_in *in = r->source ? NULL : ticket_in_find(r->n, &r->ticket);
    if (out) {
        ticket_out_resolving(out, on);
    } else if (in) {
        ticket_in_resolving(in, on);
    }
}

/* What was so when the operator asked is still so when everybody has answered. */
static bool is_in_doubt(const struct resolving *r, const struct one *o)
{
    const struct move_out *out = r->source ? find_out(r, &o->agent) : NULL;
    const struct move_in *in = r->source ? NULL : find_in(r, &o->agent);
    return out ? out->epoch == o->from && out->t->phase == OUT_DEPARTED &&
                     (!out->t->to->up || out->unknown) && !out->seen_elsewhere && !out->cleaning
           : in ? in->epoch == o->from && in->t->phase == IN_STAGED && !in->t->from->up
                : false;
}

static gw_err describe(const struct resolving *r, gw_value *ret)
{
    char id[GW_ID_TEXT];
    gw_value list = {.kind = GW_LIST};
    const struct one *first = NULL;
    for (size_t i = 0; i < r->count; i++) {
        if (r->ones[i].taken) {
            first = first ? first : &r->ones[i];
            GW_TRY(gw_list_add(&list, gw_str(gw_id_text(&r->ones[i].agent, id))));
        }
    }
    GW_TRY(gw_map_set(ret, "agents", list));
    GW_TRY(gw_map_set(ret, "ticket", gw_str(gw_id_text(&r->ticket, id))));
    GW_TRY(gw_map_set(ret, "agent", gw_str(gw_id_text(&first->agent, id))));
    GW_TRY(gw_map_set(ret, "epoch", gw_int((int64_t)first->to)));
    return gw_map_set(ret, "status", gw_str(agent_status_names[first->row.status]));
}

static void resolved(void *arg, gw_err err)
{
    struct resolving *r = arg;
    struct node *n = r->n;
    gw_value result = gw_nil();
    hold_move(r, false);
    if (err != GW_OK) {
        refuse(r, err, "the resolution could not be written");
        return;
    }
    for (size_t i = 0; i < r->count; i++) {
        const struct one *o = &r->ones[i];
        if (o->taken) {
            location_know(n, &o->agent, o->to, n->self, false, true);
            agent_add(n, &o->agent, o->to, &o->row);
            inbox_load(n, &o->agent, o->to);
            forget_move(r, o);
            location_tell_home(n, &o->agent, o->to, &o->row.home, false);
        }
    }
    if (describe(r, &result) != GW_OK) {
        gw_value_free(&result);
    }
    op_ok(r->call, &result);
    resolving_free(r);
}

/* The rows of (agent, from) become those of (agent, to). */
static void put_one(struct resolving *r, struct one *o, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES];
    struct buf value = {0};
    agent_move_rows(batch, &o->agent, o->from, o->to);
    agent_row_pack(&o->row, &value);
    store_batch_put_take(batch, TABLE_AGENTS, row_key(raw, &o->agent, o->to), &value);
    buf_free(&value);
    location_write(batch, &o->agent, o->to, r->n->self);
    event_put(r->n, batch,
              &(struct event){.kind = "moves.resolved",
                              .agent = &o->agent,
                              .type = o->row.type,
                              .ticket = &r->ticket,
                              .text = r->source ? "taken back at the source"
                                                : "activated: the source is destroyed"});
}

static void write_all(struct resolving *r)
{
    struct store_batch *batch = store_batch_new();
    size_t taken = 0, doubted = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct one *o = &r->ones[i];
        bool doubt = is_in_doubt(r, o);
        doubted += doubt;
        o->taken = doubt && o->higher <= o->from && !agent_find(r->n, &o->agent);
        if (o->taken) {
            put_one(r, o, batch);
            taken++;
        }
    }
    if (taken == 0) {
        store_batch_free(batch);
        refuse(r, doubted ? GW_EREFUSED : GW_ECONFLICT,
               doubted ? "the agent is known elsewhere at a higher epoch: it is not lost"
                       : "the move has gone on meanwhile, or is being resolved");
        return;
    }
    hold_move(r, true);
    node_commit(r->n, batch, POINT_MOVE_RESOLVED, resolved, r);
}

/* ---- asking ---- */

struct question {
    struct resolving *r;
    size_t i;
};

static void heard(void *arg, gw_err err, const struct frame *f)
{
    struct question q = *(struct question *)arg;
    struct resolving *r = q.r;
    uint32_t code;
    gw_value about = gw_nil();
    struct mp m = f ? f->rest : (struct mp){0};
    free(arg);
    if (err == GW_OK && mp_read_u32(&m, &code) == GW_OK && code == GW_OK &&
        value_unpack(&m, &about) == GW_OK) {
        /* What it has merely heard may be our own word about this move. */
        uint64_t epoch = (uint64_t)gw_map_int(&about, "fence", gw_map_int(&about, "epoch", 0));
        struct one *o = &r->ones[q.i];
        o->higher = epoch > o->higher ? epoch : o->higher;
    }
    gw_value_free(&about);
    if (--r->asking == 0) {
        if (err == GW_ECANCELLED) {
            resolving_free(r);
        } else {
            write_all(r);
        }
    }
}

/* H8: whoever can be reached is asked whether it knows the agents beyond this move. */
static void ask(struct resolving *r)
{
    struct node *n = r->n;
    char id[GW_ID_TEXT];
    r->asking = 1;
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        for (size_t i = 0; !p->self && p->up && i < r->count; i++) {
            struct question *q = xcalloc(1, sizeof *q);
            *q = (struct question){r, i};
            r->asking++;
            location_ask(n, p, gw_id_text(&r->ones[i].agent, id), heard, q);
        }
    }
    if (--r->asking == 0) {
        write_all(r);
    }
}

/* ---- the operation ---- */

static struct resolving *resolving_new(struct node *n, struct op_call *call, const gw_id *ticket,
                                       size_t most)
{
    struct resolving *r = xcalloc(1, sizeof *r + most * sizeof r->ones[0]);
    r->n = n;
    r->call = call;
    r->ticket = *ticket;
    return r;
}

static void resolve_out(struct node *n, struct ticket_out *t, struct op_call *call)
{
    struct gw_error why = {0};
    const struct move_out *m;
    if (t->phase != OUT_DEPARTED) {
        gw_fail(&why, GW_ECONFLICT, "the move is under way (%s), not in doubt",
                out_phase_name(t->phase));
        op_fail(call, &why);
        return;
    }
    struct resolving *r = resolving_new(n, call, &t->id, t->count);
    r->source = true;
    TAILQ_FOREACH (m, &t->moves, link) {
        if (m->cleaning) {
            gw_fail(&why, GW_ECONFLICT, "the agent is active on host \"%s\": the move is over",
                    peer_label(t->to));
        } else if (t->to->up && !m->unknown) {
            gw_fail(&why, GW_EREFUSED, "host \"%s\" is reachable: the move ends by itself",
                    peer_label(t->to));
        } else if (m->seen_elsewhere) {
            gw_fail(&why, GW_EREFUSED,
                    "the agent has been seen on another host at epoch %llu or above",
                    (unsigned long long)m->epoch + 1);
        } else {
            struct one *o = &r->ones[r->count++];
            o->agent = m->agent_id;
            o->from = m->epoch;
            o->to = m->epoch + 3;
            o->row.status = AGENT_ACTIVE;
            o->row.home = m->home;
            o->row.of = m->of;
            o->row.created_ms = m->created_ms;
            memcpy(o->row.type, m->type, sizeof o->row.type);
        }
    }
    if (r->count == 0) {
        op_fail(call, &why);
        resolving_free(r);
        return;
    }
    ask(r);
}

static void resolve_in(struct node *n, struct ticket_in *t, struct op_call *call)
{
    struct gw_error why;
    const struct move_in *m;
    if (!gw_map_bool(&call->args, "source_destroyed", false)) {
        gw_fail(&why, GW_EREFUSED, "only the source can say that the agent has left it");
        gw_hint(&why, "when host \"%s\" is gone for ever: --source-destroyed", peer_label(t->from));
        op_fail(call, &why);
        return;
    }
    if (t->phase != IN_STAGED) {
        gw_fail(&why, GW_ECONFLICT, "the move is under way (%s), not in doubt",
                in_phase_name(t->phase));
        op_fail(call, &why);
        return;
    }
    if (t->from->up) {
        gw_fail(&why, GW_EREFUSED, "host \"%s\" is reachable: the move ends by itself",
                peer_label(t->from));
        op_fail(call, &why);
        return;
    }
    struct resolving *r = resolving_new(n, call, &t->id, t->count);
    TAILQ_FOREACH (m, &t->moves, link) {
        struct one *o = &r->ones[r->count++];
        o->agent = m->agent;
        o->from = m->epoch;
        o->to = m->epoch + 1;
        o->row.home = m->row.home;
        o->row.of = m->row.of;
        o->row.created_ms = m->row.created_ms;
        o->row.pending = m->row.pending;
        o->row.no_wake = m->row.no_wake;
        o->row.wake_at_start = m->row.wake_at_start;
        buf_add(&o->row.itinerary, m->row.itinerary.data, m->row.itinerary.len);
        o->row.status = m->row.then;
        memcpy(o->row.type, m->row.type, sizeof o->row.type);
        memcpy(o->row.alias, m->row.alias, sizeof o->row.alias);
    }
    ask(r);
}

void op_resolve(struct node *n, struct op_call *call)
{
    struct gw_error why;
    gw_id ticket;
    struct ticket_out *out = NULL;
    struct ticket_in *in = NULL;
    const char *text = gw_map_str(&call->args, "ticket", "");
    if (gw_id_parse(text, &ticket) == GW_OK) {
        out = ticket_out_find(n, &ticket);
        in = ticket_in_find(n, &ticket);
    }
    if (out) {
        resolve_out(n, out, call);
    } else if (in) {
        resolve_in(n, in, call);
    } else {
        gw_fail(&why, GW_ENOT_FOUND, "no move with ticket \"%.40s\" here", text);
        gw_hint(&why, "`godwit moves` lists them");
        op_fail(call, &why);
    }
}
