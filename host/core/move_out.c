/* Handoff at the source.
 *
 *   OFFERING --accept--> FREEZING --quiet, snapshot--> STAGING --receipt--> COMMITTING --fsync-->
 * DEPARTED --+ |                    |                             |                     | |
 *      +----- refuse -------+------ 5 s, hook fails ------+-- refuse, link -----+-- certain
 * roll-back         | v                                                   v COMMITTED v ABORTED:
 * the agent goes on here at once  <-------------+                          DONE
 *
 * OFFERING is skipped when the destination has announced this very type version. The commit point
 * is the departed row (PROTOCOL.md 6.3): before it only we decide, after it the agent is the
 * destination's whatever happens, and COMMIT is repeated until answered. H3: while that row is with
 * the storage thread nothing may abort. A clone runs the same way up to the receipt, which ends it:
 * the destination has made it in one transaction, under an id that makes repeats harmless. */
#include "host/core/handoff.h"
#include "host/core/itinerary.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000

static const char *const phase_names[OUT_PHASES] = {
    [OUT_OFFERING] = "offering",     [OUT_FREEZING] = "freezing", [OUT_STAGING] = "staging",
    [OUT_COMMITTING] = "committing", [OUT_DEPARTED] = "departed", [OUT_DONE] = "done",
    [OUT_ABORTED] = "aborted",
};
const char *out_phase_name(out_phase phase)
{
    return phase_names[phase];
}

#define TO(p) (1u << OUT_##p)
static const unsigned legal[OUT_PHASES] = {
    [OUT_OFFERING] = TO(FREEZING) | TO(ABORTED),
    [OUT_FREEZING] = TO(STAGING) | TO(ABORTED),
    [OUT_STAGING] = TO(COMMITTING) | TO(DONE) | TO(ABORTED), /* DONE: a clone */
    [OUT_COMMITTING] = TO(DEPARTED) | TO(ABORTED),           /* ABORTED: a certain roll-back only */
    [OUT_DEPARTED] = TO(DONE),
};

static void set_phase(struct move_out *m, out_phase phase)
{
    char id[GW_ID_TEXT];
    gw_assert(legal[m->phase] & 1u << phase);
    log_debug("move.out", "ticket=%s phase=%s", gw_id_text(&m->ticket, id), phase_names[phase]);
    m->phase = phase;
}

static struct store_batch *batch_or_die(void)
{
    struct store_batch *batch = store_batch_new();
    if (!batch) {
        log_die("memory", "out of memory for a transaction of a move");
    }
    return batch;
}

static void move_free(struct move_out *m)
{
    struct work *w;
    HASH_DEL(m->node->moves_out, m);
    m->node->env->timer_free(m->node->env->ctx, m->timer);
    while ((w = TAILQ_FIRST(&m->parked))) {
        TAILQ_REMOVE(&m->parked, w, link);
        work_free(w);
    }
    buf_free(&m->parts);
    buf_free(&m->rows);
    buf_free(&m->body);
    buf_free(&m->payload);
    free(m);
}

void moves_out_free(struct node *n)
{
    struct move_out *m, *next;
    HASH_ITER (hh, n->moves_out, m, next) {
        if (!m->clone && m->agent && m->agent->move == m) {
            m->agent->move = NULL;
        }
        move_free(m);
    }
}

static void timer_fired(void *arg);

static struct move_out *move_new(struct node *n, const gw_id *ticket, const gw_id *agent,
                                 uint64_t epoch, struct peer *to)
{
    struct move_out *m = xcalloc(1, sizeof *m);
    m->node = n;
    m->ticket = *ticket;
    m->agent_id = *agent;
    m->epoch = epoch;
    m->to = to;
    m->since_ms = node_now_ms(n);
    m->trace = trace_child(n, &n->trace);
    m->begun_us = node_turn_us(n);
    TAILQ_INIT(&m->parked);
    m->timer = n->env->timer_new(n->env->ctx, timer_fired, m);
    HASH_ADD(hh, n->moves_out, ticket, sizeof m->ticket, m);
    return m;
}

/* ---- abort ---- */

static void send_abort(struct move_out *m)
{
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_ABORT, 0, 2);
    mp_id(&frame, &m->ticket);
    handoff_put_agents(&frame, &m->agent_id, m->epoch + 1);
    frame_end(&frame, at);
    peer_send_frame(m->node, m->to, &frame); /* lost: the destination's QUERY finds out (H7) */
}

static void move_abort(struct move_out *m, const struct gw_error *why)
{
    struct node *n = m->node;
    struct agent *a = m->agent;
    bool was_staged = m->staged_sent;
    n->moves_aborted_count++;
    set_phase(m, OUT_ABORTED);
    if (was_staged) {
        send_abort(m);
    }
    if (!m->clone) {
        a->move = NULL;
        if (a->status == AGENT_MOVING) {
            agent_set_status(n, a, m->before);
        }
    }
    event_now(n, &(struct event){.kind = "transfer.failed",
                                 .agent = &m->agent_id,
                                 .type = m->type,
                                 .ticket = &m->ticket,
                                 .peer = m->to,
                                 .trace = &m->trace,
                                 .text = why->text});
    gw_id id = m->agent_id;
    m->done(m->arg, why->code, m, why);
    move_free(m);
    a = agent_find(n, &id);
    if (a) {
        intent_run(n, a);
        work_pump(n, a);
    }
}

/* ---- the end: COMMITTED, or the receipt of a clone ---- */

/* What waited for an agent that has left: calls start again and follow it, its inbox travelled with
 * it, a `run` that had not begun is void here. The agent itself is no more: done() sees a shell
 * with its name. */
static void follow_parked(struct node *n, struct move_out *m, struct work_queue *parked)
{
    struct agent shell = {.id = m->agent_id, .epoch = m->epoch, .type = type_intern(n, m->type)};
    struct work *w;
    shell.home = &peer_intern(n, &m->home)->id;
    move_free(m);
    while ((w = TAILQ_FIRST(parked))) {
        TAILQ_REMOVE(parked, w, link);
        w->agent = &shell;
        if (w->call) {
            node_call(n, w->call);
        } else if (!w->inbox && w->hook != HOOK_RUN) {
            struct gw_error why;
            gw_fail(&why, GW_EMOVED, "the agent has left for another host");
            w->done(w, GW_EMOVED, NULL, &why);
        }
        work_free(w);
    }
}

static void move_done(struct move_out *m)
{
    struct node *n = m->node;
    set_phase(m, OUT_DONE);
    if (!m->clone) {
        struct store_batch *batch = batch_or_die();
        agent_delete_rows(batch, &m->agent_id, m->epoch); /* I3: only (agent, e) */
        node_commit(n, batch, NULL, NULL);
        n->moves_out_count++;
        if (m->begun_us) {
            histogram_add(&n->metrics.move, node_turn_us(n) - m->begun_us);
        }
    }
    if (m->done) {
        m->done(m->arg, GW_OK, m, NULL);
    }
    struct work_queue parked;
    TAILQ_INIT(&parked);
    TAILQ_CONCAT(&parked, &m->parked, link);
    follow_parked(n, m, &parked);
}

/* ---- COMMIT ---- */

static void send_commit(struct move_out *m);

static void commit_answer(void *arg, gw_err err, const struct frame *f)
{
    struct move_out *m = arg;
    struct node *n = m->node;
    struct mp r = f ? f->rest : (struct mp){0};
    gw_id ticket;
    uint32_t code = GW_EFAIL;
    if (err == GW_ECANCELLED) {
        return;
    }
    if (err == GW_OK && (f->kind != FRAME_COMMITTED || mp_read_id(&r, &ticket) != GW_OK ||
                         mp_read_u32(&r, &code) != GW_OK || !gw_id_equal(&ticket, &m->ticket))) {
        code = GW_EPROTO;
    }
    if (err == GW_OK && code == GW_OK) {
        move_done(m);
        return;
    }
    if (err == GW_OK && code == GW_EUNKNOWN && !m->answered_unknown) {
        m->answered_unknown = true;
        log_error("move.in_doubt",
                  "host=%s says that it never staged what it gave a receipt for; the "
                  "state is kept here; see `godwit moves`",
                  peer_label(m->to));
    }
    n->env->timer_start(n->env->ctx, m->timer, RETRY_MS);
}

static void send_commit(struct move_out *m)
{
    struct node *n = m->node;
    struct buf frame = {0}, body = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket_note note = handoff_note(&m->ticket, &m->agent_id, m->epoch + 1, m->nonce);
    uint64_t stream = peer_stream(n);
    if (note_sign(NOTE_COMMIT, &note, &n->cfg.key, &body, signature) != GW_OK) {
        buf_free(&body);
        n->env->timer_start(n->env->ctx, m->timer, RETRY_MS);
        return;
    }
    size_t at = frame_begin(&frame, FRAME_COMMIT, stream, 2);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    frame_end(&frame, at);
    buf_free(&body);
    n->env->timer_stop(n->env->ctx, m->timer);
    peer_request(n, m->to, stream, &frame, HANDOFF_COMMIT_MS, commit_answer, m);
}

/* ---- the commit point ---- */

static void departed(void *arg, gw_err err)
{
    struct move_out *m = arg;
    struct node *n = m->node;
    struct agent *a = m->agent;
    if (err != GW_OK) {
        struct gw_error why;
        gw_fail(&why, err, "the departure could not be written and was rolled back: %s",
                gw_err_text(err));
        move_abort(m, &why);
        return;
    }
    set_phase(m, OUT_DEPARTED);
    location_know(n, &m->agent_id, m->epoch + 1, m->to, false, true);
    tells_forget(n, &m->agent_id);
    topics_departed(n, &m->agent_id);
    if (a->live) {
        TAILQ_CONCAT(&m->parked, &a->live->queue, link);
    }
    a->move = NULL;
    m->agent = NULL;
    agent_remove(n, a);
    send_commit(m);
}

static void depart(struct move_out *m)
{
    struct node *n = m->node;
    struct agent *a = m->agent;
    struct store_batch *batch = batch_or_die();
    struct agent_row row = {.status = AGENT_DEPARTED,
                            .home = *a->home,
                            .of = a->of,
                            .created_ms = a->created_ms,
                            .ticket = m->ticket,
                            .peer = m->to->id,
                            .trace = m->trace};
    uint8_t raw[ROW_KEY_BYTES];
    struct buf value = {0};
    memcpy(row.type, m->type, sizeof row.type);
    memcpy(row.nonce, m->nonce, sizeof row.nonce);
    agent_row_pack(&row, &value);
    store_batch_put_take(batch, TABLE_AGENTS, row_key(raw, &a->id, a->epoch), &value);
    buf_free(&value);
    location_write(batch, &a->id, a->epoch + 1, m->to);
    topics_depart(n, a, batch);
    unsaved_put(a, batch, (struct span){0}); /* should an operator take it back */
    event_put(n, batch,
              &(struct event){.kind = m->retract ? "agent.retract" : "agent.dispatch",
                              .agent = &a->id,
                              .type = m->type,
                              .ticket = &m->ticket,
                              .peer = m->to,
                              .trace = &m->trace});
    set_phase(m, OUT_COMMITTING);
    n->env->timer_stop(n->env->ctx, m->timer);
    node_commit(n, batch, departed, m);
}

/* ---- STAGE and its receipt ---- */

static void send_stage(struct move_out *m);

static gw_err read_receipt(struct move_out *m, const struct frame *f, struct gw_error *why)
{
    struct mp r = f->rest;
    gw_id ticket;
    uint32_t code;
    char reason[LIMIT_ERROR_TEXT_BYTES];
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket_note note;
    gw_err bad = gw_fail(why, GW_EPROTO, "host \"%s\" answered nonsense", peer_label(m->to));
    if (f->kind != FRAME_RECEIPT || mp_read_id(&r, &ticket) != GW_OK ||
        mp_read_u32(&r, &code) != GW_OK ||
        mp_read_text_or_nil(&r, reason, sizeof reason) != GW_OK ||
        !gw_id_equal(&ticket, &m->ticket)) {
        return bad;
    }
    if (code != GW_OK) {
        return gw_fail(why, gw_err_from_wire(code), "host \"%s\" refused: %.250s",
                       peer_label(m->to), reason);
    }
    if (mp_read_bin(&r, &body) != GW_OK ||
        mp_read_fixed(&r, signature, sizeof signature) != GW_OK) {
        return bad;
    }
    GW_TRY(note_read(NOTE_RECEIPT, body, signature, m->to->key, &note, why));
    const gw_id *id = m->clone ? &m->clone_id : &m->agent_id;
    if (!handoff_note_is(&note, &m->ticket, id, m->clone ? 1 : m->epoch + 1)) {
        return gw_fail(why, GW_EPROTO, "host \"%s\" gave a receipt for something else",
                       peer_label(m->to));
    }
    memcpy(m->nonce, note.nonce, sizeof m->nonce);
    return GW_OK;
}

static void stage_answer(void *arg, gw_err err, const struct frame *f)
{
    struct move_out *m = arg;
    struct gw_error why;
    if (err == GW_ECANCELLED) {
        return;
    }
    if (err == GW_ETIMEOUT && m->to->up && ++m->tries < HANDOFF_STAGE_TRIES) {
        send_stage(m);
        return;
    }
    if (err == GW_OK) {
        err = read_receipt(m, f, &why);
    } else {
        gw_fail(&why, err, "host \"%s\" %s", peer_label(m->to),
                err == GW_ETIMEOUT ? "did not answer in time" : "was lost on the way");
        gw_hint(&why, "the agent goes on here; send it again when the host is back");
    }
    if (err != GW_OK) {
        move_abort(m, &why);
    } else if (m->clone) {
        move_done(m);
    } else {
        depart(m);
    }
}

static void send_stage(struct move_out *m)
{
    struct node *n = m->node;
    struct buf frame = {0};
    uint64_t stream = peer_stream(n);
    buf_reserve(&frame, m->payload.len + m->body.len + 256); /* one copy of what may be large */
    size_t at = frame_begin(&frame, FRAME_STAGE, stream, 3);
    mp_span(&frame, buf_span(&m->body));
    mp_bin(&frame, m->signature, sizeof m->signature);
    mp_array(&frame, 1);
    mp_span(&frame, buf_span(&m->payload));
    frame_end(&frame, at);
    m->staged_sent = true;
    peer_request(n, m->to, stream, &frame, HANDOFF_STAGE_MS, stage_answer, m);
}

/* The agent that is moved or cloned; a clone's source may leave or end meanwhile: NULL. */
static struct agent *source_of(struct move_out *m)
{
    struct agent *a = m->clone ? agent_find(m->node, &m->agent_id) : m->agent;
    return a && a->epoch == m->epoch ? a : NULL;
}

/* The ticket: everything that goes, sealed for the destination. */
static gw_err seal(struct move_out *m, struct gw_error *why)
{
    struct node *n = m->node;
    struct agent *a = source_of(m);
    if (!a) {
        return gw_fail(why, GW_EAGENT_NOT_FOUND, "the agent has left meanwhile");
    }
    struct agent_row row = {.home = m->clone ? m->to->id : *a->home,
                            .of = m->clone ? a->id : a->of,
                            .created_ms = m->clone ? node_now_ms(n) : a->created_ms,
                            .pending = m->retract ? 1u << HOOK_RETRACT : 0,
                            .trace = m->trace,
                            .then = m->inactive ? AGENT_INACTIVE : AGENT_ACTIVE};
    if (m->inactive) {
        sleep_travels(a, !m->clone && m->before == AGENT_INACTIVE, &row);
    }
    memcpy(row.type, m->type, sizeof row.type);
    if (!m->clone && a->alias) {
        (void)span_text((struct span){(const uint8_t *)a->alias, strlen(a->alias)}, row.alias,
                        sizeof row.alias);
    }
    if (!m->clone && a->itinerary) {
        itinerary_pack(a->itinerary, &row.itinerary);
    }
    GW_AUTO(buf_free) struct buf plain = {0};
    buf_reserve(&plain, m->parts.len + m->rows.len + row.itinerary.len + 1024);
    handoff_pack(&plain, m->clone ? HANDOFF_CLONE : HANDOFF_MOVE, &row, buf_span(&m->parts),
                 m->clone ? (struct span){0} : buf_span(&m->rows));
    buf_free(&row.itinerary);
    struct ticket_agent entry = {.agent = m->clone ? m->clone_id : a->id,
                                 .epoch = m->clone ? 1 : m->epoch + 1,
                                 .version = a->type->version};
    memcpy(entry.type, m->type, sizeof entry.type);
    struct ticket t = {
        .id = m->ticket, .from = n->self->id, .to = m->to->id, .agents = &entry, .agent_count = 1};
    struct span span = buf_span(&plain);
    buf_free(&m->parts);
    buf_free(&m->rows);
    gw_err err = buf_ok(&plain) ? ticket_seal(&t, &span, &n->cfg.key, m->to->key, &m->body,
                                              m->signature, &m->payload)
                                : GW_ENOMEM;
    if (err != GW_OK) {
        return gw_fail(why, err, "the ticket could not be made: %s", gw_err_text(err));
    }
    return GW_OK;
}

static void stage_when_whole(struct move_out *m)
{
    struct gw_error why;
    if (m->phase != OUT_FREEZING || !m->have_parts || !m->have_rows) {
        return;
    }
    m->node->env->timer_stop(m->node->env->ctx, m->timer);
    if (seal(m, &why) != GW_OK) {
        move_abort(m, &why);
        return;
    }
    set_phase(m, OUT_STAGING);
    send_stage(m);
}

/* ---- freeze: snapshot and rows ---- */

static struct move_out *move_by_ticket(struct node *n, const gw_id *ticket)
{
    struct move_out *m;
    HASH_FIND(hh, n->moves_out, ticket, sizeof *ticket, m);
    return m;
}

struct reading { /* outlives an aborted move */
    struct node *n;
    gw_id ticket;
    bool states;
};

/* The answer of this very dispatch goes along: a repeat under its key finds it where the agent is.
 */
static void pack_rows_and_answer(struct move_out *m, const struct storage_row *rows, size_t count)
{
    uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES];
    struct buf value = {0};
    struct storage_row *all = xcalloc(count + 1, sizeof *all);
    row_key(raw, &m->agent_id, m->epoch);
    memcpy(raw + ROW_KEY_BYTES, m->key, sizeof m->key);
    dispatch_answer_pack(m, &value);
    if (count > 0) {
        memcpy(all, rows, count * sizeof *all);
    }
    all[count] = (struct storage_row){TABLE_REQUESTS, {raw, sizeof raw}, buf_span(&value)};
    handoff_pack_rows(all, count + 1, node_now_ms(m->node), &m->rows);
    buf_free(&value);
    free(all);
}

static void rows_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct reading *g = arg;
    struct move_out *m = move_by_ticket(g->n, &g->ticket);
    bool states = g->states;
    free(g);
    if (!m || m->phase != OUT_FREEZING) {
        return;
    }
    if (err != GW_OK) {
        struct gw_error why;
        gw_fail(&why, err, "the agent cannot be read from the store: %s", gw_err_text(err));
        move_abort(m, &why);
        return;
    }
    struct storage_row *all = unsaved_over(m->agent, rows, count, &count);
    if (m->has_key) {
        pack_rows_and_answer(m, all, count);
    } else {
        handoff_pack_rows(all, count, node_now_ms(m->node), &m->rows);
    }
    timers_pack(m->node, m->agent,
                &m->rows); /* from memory: frozen, they are what their rows say */
    topics_pack(m->node, m->agent, &m->rows);
    watches_pack(m->agent, &m->rows);
    m->have_rows = true;
    if (states) {
        parts_of_rows(all, count, &m->parts);
        m->have_parts = true;
    }
    free(all);
    stage_when_whole(m);
}

static void read_rows(struct move_out *m, bool states)
{
    struct node *n = m->node;
    uint8_t raw[ROW_KEY_BYTES];
    struct span key = row_key(raw, &m->agent_id, m->epoch);
    struct reading *g = xcalloc(1, sizeof *g);
    *g = (struct reading){n, m->ticket, states};
    m->reading = true;
    const struct store_range ranges[] = {
        {.table = TABLE_REQUESTS, .prefix = key}, {.table = TABLE_STREAMS, .prefix = key},
        {.table = TABLE_OUTBOX, .prefix = key},   {.table = TABLE_INBOX, .prefix = key},
        {.table = TABLE_STATES, .prefix = key},
    };
    n->env->read(n->env->ctx, ranges, states ? 5 : 4, rows_read, g);
}

static void snapshot(struct work *w, gw_err err, const struct run_result *r,
                     const struct gw_error *why)
{
    struct move_out *m = move_by_ticket(w->node, w->arg);
    free(w->arg);
    if (!m || m->phase != OUT_FREEZING) {
        return; /* aborted while the hook ran */
    }
    if (err != GW_OK) {
        move_abort(m, why);
        return;
    }
    buf_add(&m->parts, r->parts.p, r->parts.n);
    m->have_parts = true;
    if (!m->clone && !m->have_rows && !m->reading) {
        read_rows(m, false); /* after the last transaction of the agent, in the store's order */
    }
    stage_when_whole(m);
}

static void freeze(struct move_out *m)
{
    struct node *n = m->node;
    struct agent *a = source_of(m);
    if (m->phase == OUT_OFFERING) {
        set_phase(m, OUT_FREEZING);
    }
    if (!a) {
        struct gw_error why;
        gw_fail(&why, GW_EAGENT_NOT_FOUND, "the agent has left meanwhile");
        move_abort(m, &why);
        return;
    }
    m->before = a->status;
    if (!m->clone) {
        agent_set_status(n, a, AGENT_MOVING);
    }
    m->have_rows = m->clone;
    n->env->timer_start(n->env->ctx, m->timer, HANDOFF_FREEZE_MS);
    if (m->before == AGENT_INACTIVE && !(a->live && !pipeline_rests(a->live))) {
        m->inactive = true; /* it moves without waking */
        read_rows(m, true);
        return;
    }
    bool clone = m->clone;
    bool hook = !clone && a->type->hooks & 1u << HOOK_DISPATCH;
    struct work *w = work_new(n, a, hook ? HOOK_DISPATCH : HOOK_NONE);
    w->flags = RUN_SNAPSHOT | (clone ? 0 : RUN_DISCARD);
    w->lifecycle = true;
    w->handoff = !clone;
    w->no_commit = true; /* what on_dispatch did exists only in the ticket */
    w->done = snapshot;
    w->arg = xcalloc(1, sizeof(gw_id));
    w->arg_heap = true;
    memcpy(w->arg, &m->ticket, sizeof m->ticket);
    work_push_snapshot(w);
    if (!clone && a->live->current == w) { /* still there, so the move is, too */
        read_rows(m, false); /* quiet already: its last transaction is before this read in the
                                store's order */
    }
}

/* ---- OFFER ---- */

static void offer_answer(void *arg, gw_err err, const struct frame *f)
{
    struct move_out *m = arg;
    struct gw_error why;
    struct mp r = f ? f->rest : (struct mp){0};
    gw_id ticket;
    uint32_t code = GW_EPROTO;
    char reason[LIMIT_ERROR_TEXT_BYTES] = "it answered nonsense";
    if (err == GW_ECANCELLED) {
        return;
    }
    if (err == GW_OK && f->kind == FRAME_OFFER_ANSWER && mp_read_id(&r, &ticket) == GW_OK &&
        gw_id_equal(&ticket, &m->ticket) && mp_read_u32(&r, &code) == GW_OK &&
        mp_read_text_or_nil(&r, reason, sizeof reason) == GW_OK && code == GW_OK) {
        freeze(m);
        return;
    }
    if (err == GW_OK) {
        gw_fail(&why, gw_err_from_wire(code), "host \"%s\" refused: %.250s", peer_label(m->to),
                reason);
    } else {
        gw_fail(&why, err, "host \"%s\" does not answer the offer", peer_label(m->to));
    }
    move_abort(m, &why);
}

static void send_offer(struct move_out *m)
{
    struct node *n = m->node;
    struct buf frame = {0};
    uint64_t stream = peer_stream(n);
    size_t at = frame_begin(&frame, FRAME_OFFER, stream, 2);
    mp_id(&frame, &m->ticket);
    mp_array(&frame, 1);
    mp_array(&frame, 5);
    mp_id(&frame, &m->agent_id);
    mp_uint(&frame, m->epoch + 1);
    mp_str(&frame, m->type);
    mp_uint(&frame, m->agent->type->version);
    mp_uint(&frame, 0);
    frame_end(&frame, at);
    peer_request(n, m->to, stream, &frame, HANDOFF_STAGE_MS, offer_answer, m);
}

static const struct peer_type *announced(const struct peer *p, const char *name)
{
    for (size_t i = 0; i < p->type_count; i++) {
        if (strcmp(p->types[i].name, name) == 0) {
            return &p->types[i];
        }
    }
    return NULL;
}

gw_err move_out_check(struct node *n, const struct agent *a, const struct peer *to, bool clone,
                      struct gw_error *why)
{
    GW_TRY(agent_check_free(n, a, why));
    GW_TRY(builtin_check_travel(n, a, why));
    if (!clone && agent_is_changing(a)) {
        return gw_fail(why, GW_ECONFLICT, "the agent is being activated, deactivated or disposed");
    }
    if (!to->up) {
        return gw_fail(why, GW_EUNREACHABLE, "host \"%s\" is not reachable", peer_label(to));
    }
    if (!announced(to, a->type->name)) {
        gw_fail(why, GW_EREFUSED, "host \"%s\" has no agent type \"%s\"", peer_label(to),
                a->type->name);
        gw_hint(why, "start it with --plugin for that type");
        return GW_EREFUSED;
    }
    if (a->epoch + 1 > LIMIT_EPOCH) {
        return gw_fail(why, GW_EREFUSED, "the agent has moved too often");
    }
    return GW_OK;
}

bool move_out_takes_type(const struct peer *to, const char *type)
{
    return announced(to, type) != NULL;
}

gw_err
move_out_begin(struct node *n, struct agent *a, struct peer *to, unsigned flags, const gw_id *clone,
               void (*done)(void *arg, gw_err err, struct move_out *m, const struct gw_error *why),
               void *arg, struct gw_error *why)
{
    GW_TRY(move_out_check(n, a, to, clone != NULL, why));
    gw_id ticket = node_new_id(n);
    struct move_out *m = move_new(n, &ticket, &a->id, a->epoch, to);
    m->agent = a;
    m->clone = clone != NULL;
    m->inactive = flags & MOVE_INACTIVE;
    m->retract = flags & MOVE_RETRACT;
    m->done = done;
    m->arg = arg;
    m->before = a->status;
    memcpy(m->type, a->type->name, sizeof m->type);
    m->home = *a->home;
    m->of = a->of;
    m->created_ms = a->created_ms;
    if (clone) {
        m->clone_id = *clone;
    } else {
        a->move = m;
    }
    if (announced(to, a->type->name)->version == a->type->version) {
        freeze(m);
    } else {
        send_offer(m);
    }
    return GW_OK;
}

/* ---- timers, links, questions, boot ---- */

static void timer_fired(void *arg)
{
    struct move_out *m = arg;
    struct gw_error why;
    if (m->phase == OUT_DEPARTED) {
        if (m->to->up) {
            send_commit(m);
        } else {
            m->node->env->timer_start(m->node->env->ctx, m->timer, RETRY_MS);
        }
    } else if (m->phase == OUT_FREEZING) {
        gw_fail(&why, GW_EBUSY, "the agent did not become quiet within %d ms", HANDOFF_FREEZE_MS);
        gw_hint(&why, "its handler runs long; try again when it is done");
        move_abort(m, &why);
    }
}

void move_out_link(struct node *n, struct peer *p, bool up)
{
    struct move_out *m, *next;
    HASH_ITER (hh, n->moves_out, m, next) {
        if (m->to == p && up && m->phase == OUT_DEPARTED) {
            n->env->timer_start(n->env->ctx, m->timer, 0);
        }
    }
    /* Down: requests that were open have been told already (node_peer_down). */
}

void move_out_seen(struct node *n, const gw_id *agent, uint64_t epoch)
{
    for (struct move_out *m = n->moves_out; m; m = m->hh.next) {
        if (gw_id_equal(&m->agent_id, agent) && epoch > m->epoch) {
            m->seen_elsewhere = true;
        }
    }
}

void move_out_boot(struct node *n, const gw_id *agent, uint64_t epoch, const struct agent_row *row)
{
    struct move_out *m = move_new(n, &row->ticket, agent, epoch, peer_intern(n, &row->peer));
    m->phase = OUT_DEPARTED;
    m->begun_us = 0;
    m->staged_sent = true;
    memcpy(m->nonce, row->nonce, sizeof m->nonce);
    memcpy(m->type, row->type, sizeof m->type);
    m->home = row->home;
    m->of = row->of;
    m->created_ms = row->created_ms;
    m->trace = row->trace;
    n->env->timer_start(n->env->ctx, m->timer, RETRY_MS);
}

/* QUERY: from memory first. H1: the ticket, the agent and the epoch must all be those. */
void move_out_query(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp q = f->rest;
    gw_id ticket, agent;
    uint64_t epoch;
    struct buf frame = {0}, body = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    gw_err code = GW_ECANCELLED; /* not known here: that ticket is dead for ever */
    if (mp_read_id(&q, &ticket) != GW_OK || handoff_read_agents(&q, &agent, &epoch) != GW_OK) {
        return;
    }
    struct move_out *m = move_by_ticket(n, &ticket);
    if (m && m->to == p && gw_id_equal(&agent, &m->agent_id) && epoch == m->epoch + 1) {
        code = GW_EPENDING;
        struct ticket_note note = handoff_note(&ticket, &agent, epoch, m->nonce);
        if (m->phase == OUT_DEPARTED &&
            note_sign(NOTE_COMMIT, &note, &n->cfg.key, &body, signature) == GW_OK) {
            code = GW_OK;
        }
    }
    size_t at = frame_begin(&frame, FRAME_QUERY_ANSWER, f->stream, 4);
    mp_id(&frame, &ticket);
    mp_uint(&frame, code);
    mp_span(&frame, buf_span(&body));
    if (code == GW_OK) {
        mp_bin(&frame, signature, sizeof signature);
    } else {
        mp_nil(&frame);
    }
    frame_end(&frame, at);
    buf_free(&body);
    peer_send_frame(n, p, &frame);
}

void move_out_forget(struct node *n, const gw_id *ticket)
{
    struct move_out *m = move_by_ticket(n, ticket);
    if (m) {
        peer_forget_requests(n, m);
        move_free(m);
    }
}
