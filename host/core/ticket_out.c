/* Handoff at the source: a ticket with its agents, from the offer to COMMITTED.
 *
 *   OFFERING --accept--> FREEZING --all quiet, snapshots--> STAGING --receipt--> COMMITTING
 *      |  |                ^   |  |                           ^    |                  |      |
 * fsync |  +--> SENDING ----+   |  +-------> CHECKING ---------+    |                  |      | |
 * | files flow  |                | again           |                  |      |
 *      +---------+-- refuse ---+-- 5 s, hook ---+-- refuse, link -+                  |      v
 *      v                                                  certain roll-back --^          DEPARTED
 *   ABORTED: the agents go on here at once                                               |
 *                                                              DONE <---- COMMITTED -----+
 *
 * SENDING and CHECKING are of an agent with files, which is alone in its ticket: they flow while it
 * runs, and again what has changed when it is frozen (files_out.c). What moved with it is removed
 * here behind COMMITTED, before its rows are.
 *
 * An agent drops out of its ticket (busy for too long, its hook says no, refused by the
 * destination) without the others; the phase is that of all who are left. OFFERING is skipped when
 * the destination has announced these very type versions. The commit point is the transaction with
 * the departed rows (PROTOCOL.md 6.3): before it only we decide, after it the agents are the
 * destination's whatever happens, and COMMIT is repeated until answered. H3: while those rows are
 * with the storage thread nothing may abort. A clone runs the same way up to the receipt, which
 * ends it: the destination has made it in one transaction, under an id that makes repeats harmless.
 */
#include "host/core/files.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/broken.h"
#include "host/core/reach.h"

static const char *const phase_names[OUT_PHASES] = {
    [OUT_OFFERING] = "offering",     [OUT_FREEZING] = "freezing",   [OUT_STAGING] = "staging",
    [OUT_COMMITTING] = "committing", [OUT_DEPARTED] = "departed",   [OUT_DONE] = "done",
    [OUT_ABORTED] = "aborted",       [OUT_RESOLVING] = "resolving", [OUT_SENDING] = "sending",
    [OUT_CHECKING] = "checking",
};
const char *out_phase_name(out_phase phase)
{
    return phase_names[phase];
}

#define TO(p) (1u << OUT_##p)
static const unsigned legal[OUT_PHASES] = {
    [OUT_OFFERING] = TO(FREEZING) | TO(SENDING) | TO(ABORTED),
    [OUT_SENDING] = TO(FREEZING) | TO(ABORTED),
    [OUT_FREEZING] = TO(STAGING) | TO(CHECKING) | TO(ABORTED),
    [OUT_CHECKING] = TO(STAGING) | TO(ABORTED),
    [OUT_STAGING] = TO(COMMITTING) | TO(DONE) | TO(ABORTED), /* DONE: a clone */
    [OUT_COMMITTING] = TO(DEPARTED) | TO(ABORTED),           /* ABORTED: a certain roll-back only */
    [OUT_DEPARTED] = TO(DONE) | TO(RESOLVING),
    [OUT_RESOLVING] = TO(DEPARTED), /* rolled back, or of some only; else the ticket is gone */
};

void ticket_out_set_phase(struct ticket_out *t, out_phase phase)
{
    char id[GW_ID_TEXT];
    gw_assert(legal[t->phase] & 1u << phase);
    log_debug("move.out", "ticket=%s agents=%zu phase=%s", gw_id_text(&t->id, id), t->count,
              phase_names[phase]);
    t->phase = phase;
}

static struct store_batch *batch_or_die(void)
{
    struct store_batch *batch = store_batch_new();
    if (!batch) {
        log_die("memory", "out of memory for a transaction of a move");
    }
    return batch;
}

/* ---- life ---- */

static void timer_fired(void *arg);

static struct ticket_out *make(struct node *n, const gw_id *id, struct peer *to)
{
    struct ticket_out *t = xcalloc(1, sizeof *t);
    t->node = n;
    t->id = *id;
    t->to = to;
    t->since_ms = node_now_ms(n);
    t->begun_us = node_turn_us(n);
    TAILQ_INIT(&t->moves);
    t->timer = n->env->timer_new(n->env->ctx, timer_fired, t);
    HASH_ADD(hh, n->tickets_out, id, sizeof t->id, t);
    return t;
}

struct ticket_out *ticket_out_new(struct node *n, struct peer *to)
{
    gw_id id = node_new_id(n);
    struct ticket_out *t = make(n, &id, to);
    t->holds = 1; /* until ticket_out_go */
    return t;
}

struct ticket_out *ticket_out_find(struct node *n, const gw_id *id)
{
    struct ticket_out *t;
    HASH_FIND(hh, n->tickets_out, id, sizeof *id, t);
    return t;
}

static void out_free(struct ticket_out *t)
{
    HASH_DEL(t->node->tickets_out, t);
    t->node->env->timer_free(t->node->env->ctx, t->timer);
    buf_free(&t->body);
    free(t);
}

void ticket_out_hold(struct ticket_out *t)
{
    t->holds++;
}

void ticket_out_drop(struct ticket_out *t)
{
    gw_assert(t->holds > 0);
    if (--t->holds > 0) {
        return;
    }
    if (t->count == 0) {
        peer_forget_requests(t->node, t);
        out_free(t);
    } else {
        ticket_out_stage(t);
    }
}

void tickets_out_free(struct node *n)
{
    struct ticket_out *t, *next;
    HASH_ITER (hh, n->tickets_out, t, next) {
        t->holds++;
        while (!TAILQ_EMPTY(&t->moves)) {
            struct move_out *m = TAILQ_FIRST(&t->moves);
            if (!m->clone && m->agent && m->agent->move == m) {
                m->agent->move = NULL;
            } else if (!m->clone && m->agent && m->agent->sending == m) {
                m->agent->sending = NULL;
            }
            move_out_free(m);
        }
        out_free(t);
    }
}

/* ---- frames ---- */

/* The agents under the ticket as the destination knows them: [[agent, epoch]...] */
static void put_agents(struct buf *b, const struct ticket_out *t)
{
    const struct move_out *m;
    mp_array(b, t->count);
    TAILQ_FOREACH (m, &t->moves, link) {
        handoff_put_agent(b, m->clone ? &m->clone_id : &m->agent_id, m->clone ? 1 : m->epoch + 1);
    }
}

static void note_of(const struct ticket_out *t, struct ticket_note *ret)
{
    const struct move_out *m;
    ret->ticket = t->id;
    memcpy(ret->nonce, t->nonce, sizeof ret->nonce);
    ret->n = 0;
    TAILQ_FOREACH (m, &t->moves, link) {
        ret->agents[ret->n].agent = m->agent_id;
        ret->agents[ret->n++].epoch = m->epoch + 1;
    }
}

static struct move_out *find_move(struct ticket_out *t, const gw_id *agent)
{
    struct move_out *m;
    TAILQ_FOREACH (m, &t->moves, link) {
        if (gw_id_equal(m->clone ? &m->clone_id : &m->agent_id, agent)) {
            break;
        }
    }
    return m;
}

/* ---- abort ---- */

void ticket_out_abort(struct ticket_out *t, const struct gw_error *why)
{
    struct node *n = t->node;
    ticket_out_set_phase(t, OUT_ABORTED);
    n->env->timer_stop(n->env->ctx, t->timer);
    ticket_out_hold(t);
    if (t->staged_sent && t->count > 0) {
        REACH(ABORT_TOLD);
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_ABORT, 0, 2);
        mp_id(&frame, &t->id);
        put_agents(&frame, t);
        frame_end(&frame, at);
        peer_send_frame(n, t->to, &frame); /* lost: the destination's QUERY finds out (H7) */
    }
    moves_out_abort(t, why);
    ticket_out_drop(t);
}

/* The destination's own word. */
static gw_err refused(struct ticket_out *t, gw_err code, const char *reason, struct gw_error *why)
{
    if (code == GW_EBUSY) {
        t->full = true;
        peer_is_full(t->to, t->node->env->mono_us(t->node->env->ctx));
    }
    return gw_fail(why, code, "host \"%s\" refused: %.250s", peer_label(t->to), reason);
}

/* Those who are `out` of the ticket, with the reasons that the destination gave, if any. */
static void abort_refused(struct ticket_out *t, struct mp reasons)
{
    struct handoff_refusal r;
    struct move_out *m, *next;
    size_t n = 0;
    if (!mp_done(&reasons) && mp_read_array(&reasons, &n) != GW_OK) {
        n = 0;
    }
    for (size_t i = 0; i < n && handoff_read_refusal(&reasons, &r) == GW_OK; i++) {
        m = find_move(t, &r.agent);
        if (m && m->out) {
            struct gw_error why;
            REACH(AGENT_REFUSED);
            (void)refused(t, r.why.code, r.why.text, &why);
            move_out_abort(m, &why);
        }
    }
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        next = TAILQ_NEXT(m, link);
        if (m->out) {
            struct gw_error why;
            gw_fail(&why, GW_EREFUSED, "host \"%s\" did not take it", peer_label(t->to));
            move_out_abort(m, &why);
        }
    }
}

/* ---- COMMIT and its answer ---- */

static void send_commit(struct ticket_out *t);

/* Whether its work folder is nobody's any more: it may have come back meanwhile, and even be on its
 * way again (I3). */
static bool folder_is_over(struct node *n, const struct move_out *gone)
{
    const struct ticket_out *t;
    const struct move_out *m;
    if (agent_find(n, &gone->agent_id)) {
        return false;
    }
    if (agent_fence(n, &gone->agent_id) <= gone->epoch + 1) {
        return true;
    }
    TICKET_OUT_EACH(n, t, m)
    {
        if (m->epoch > gone->epoch && gw_id_equal(&m->agent_id, &gone->agent_id)) {
            return false;
        }
    }
    return true;
}

/* Those who are `over`: nothing of them is kept here. */
static void end_over(struct ticket_out *t)
{
    struct node *n = t->node;
    struct store_batch *batch = batch_or_die();
    struct leftovers *gone = leftovers_new(n);
    struct move_out *m, *next;
    size_t left = 0;
    TAILQ_FOREACH (m, &t->moves, link) {
        left += !m->over;
        if (!m->over) {
            continue;
        }
        leftovers_agent(gone, &m->agent_id, m->epoch, batch); /* I3: only (agent, e) */
        n->moves_out_count++;
        if (t->begun_us) {
            histogram_add(&n->metrics.move, node_turn_us(n) - t->begun_us);
        }
    }
    if (left == t->count) {
        store_batch_free(batch);
        free(gone);
        return;
    }
    leftovers_commit(gone, batch, POINT_MOVE_DELETED);
    if (left == 0) {
        ticket_out_set_phase(t, OUT_DONE);
    }
    ticket_out_hold(t);
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        next = TAILQ_NEXT(m, link);
        if (m->over) {
            if (n->env->agent_gone && folder_is_over(n, m)) {
                n->env->agent_gone(n->env->ctx, &m->agent_id);
            }
            move_out_end(m);
        }
    }
    ticket_out_drop(t);
}

/* Who is not `out` is active there. Its files go first: its rows say which they are. Nobody waits
 * for that. */
static void end_moves(struct ticket_out *t)
{
    struct move_out *m;
    ticket_out_hold(t);
    TAILQ_FOREACH (m, &t->moves, link) {
        if (!m->out && !m->cleaning) {
            m->cleaning = files_clean(m);
            m->over = !m->cleaning;
        }
    }
    end_over(t);
    TAILQ_FOREACH (m, &t->moves, link) {
        if (m->cleaning && m->done) {
            move_out_told(m);
            break; /* it is alone in its ticket */
        }
    }
    ticket_out_drop(t);
}

void ticket_out_cleaned(struct node *n, const gw_id *ticket, const gw_id *agent)
{
    struct ticket_out *t = ticket_out_find(n, ticket);
    struct move_out *m = t ? find_move(t, agent) : NULL;
    if (m && m->cleaning) {
        m->over = true;
        end_over(t);
    }
}

/* H5: what it never staged is kept here. The list may be absent: then that is all of them. */
static void mark_unknown(struct ticket_out *t, struct mp *r)
{
    struct move_out *m;
    gw_id agent;
    uint64_t epoch;
    size_t n = 0;
    bool first = true, listed = mp_read_array(r, &n) == GW_OK && n > 0;
    TAILQ_FOREACH (m, &t->moves, link) {
        m->out = !listed;
    }
    for (size_t i = 0; i < n && handoff_read_agent(r, &agent, &epoch) == GW_OK; i++) {
        m = find_move(t, &agent);
        if (m && epoch == m->epoch + 1) {
            m->out = true;
        }
    }
    TAILQ_FOREACH (m, &t->moves, link) {
        first &= !m->unknown;
        m->unknown |= m->out;
    }
    if (first) {
        log_error("move.in_doubt",
                  "host=%s says that it never staged what it gave a receipt for; the "
                  "state is kept here; see `godwit moves`",
                  peer_label(t->to));
    }
}

static void commit_answer(void *arg, gw_err err, const struct frame *f)
{
    struct ticket_out *t = arg;
    struct node *n = t->node;
    struct mp r = f ? f->rest : (struct mp){0};
    gw_id ticket;
    uint32_t code = GW_EFAIL;
    char reason[LIMIT_ERROR_TEXT_BYTES];
    struct move_out *m;
    if (err == GW_ECANCELLED || t->phase != OUT_DEPARTED) {
        return; /* resolving: asked for again if nothing comes of it */
    }
    if (err != GW_OK || f->kind != FRAME_COMMITTED || mp_read_id(&r, &ticket) != GW_OK ||
        mp_read_u32(&r, &code) != GW_OK || !gw_id_equal(&ticket, &t->id) ||
        mp_read_text_or_nil(&r, reason, sizeof reason) != GW_OK ||
        (code != GW_OK && code != GW_EUNKNOWN)) {
        REACH(COMMIT_UNANSWERED);
        n->env->timer_start(n->env->ctx, t->timer, HANDOFF_RETRY_MS);
        return;
    }
    if (code == GW_EUNKNOWN) {
        mark_unknown(t, &r);
        n->env->timer_start(n->env->ctx, t->timer, HANDOFF_RETRY_MS);
    } else {
        TAILQ_FOREACH (m, &t->moves, link) {
            m->out = false;
        }
    }
    end_moves(t);
}

static void send_commit(struct ticket_out *t)
{
    struct node *n = t->node;
    struct buf frame = {0}, body = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket_note note;
    uint64_t stream = peer_stream(n);
    note_of(t, &note);
    if (note_sign(NOTE_COMMIT, &note, &n->cfg.key, &body, signature) != GW_OK) {
        buf_free(&body);
        n->env->timer_start(n->env->ctx, t->timer, HANDOFF_RETRY_MS);
        return;
    }
    size_t at = frame_begin(&frame, FRAME_COMMIT, stream, 2);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    frame_end(&frame, at);
    buf_free(&body);
    n->env->timer_stop(n->env->ctx, t->timer);
    standing_tell(n, t->to);
    peer_request(n, t->to, stream, &frame, HANDOFF_COMMIT_MS, commit_answer, t);
}

/* ---- the commit point ---- */

static void departed(void *arg, gw_err err)
{
    struct ticket_out *t = arg;
    struct node *n = t->node;
    struct move_out *m;
    if (err != GW_OK) {
        struct gw_error why;
        REACH(DEPARTURE_ROLLED_BACK);
        gw_fail(&why, err, "the departure could not be written and was rolled back: %s",
                gw_err_text(err));
        ticket_out_abort(t, &why);
        return;
    }
    ticket_out_set_phase(t, OUT_DEPARTED);
    TAILQ_FOREACH (m, &t->moves, link) {
        struct agent *a = m->agent;
        location_know(n, &m->agent_id, m->epoch + 1, t->to, false, true);
        tells_forget(n, &m->agent_id);
        topics_departed(n, &m->agent_id);
        if (a->live) {
            TAILQ_CONCAT(&m->parked, &a->live->queue, link);
        }
        a->move = NULL;
        m->agent = NULL;
        agent_remove(n, a);
    }
    send_commit(t);
}

static void put_departed(struct ticket_out *t, struct move_out *m, struct store_batch *batch)
{
    struct node *n = t->node;
    struct agent *a = m->agent;
    struct agent_row row = {.status = AGENT_DEPARTED,
                            .home = *a->home,
                            .of = a->of,
                            .created_ms = a->created_ms,
                            .ticket = t->id,
                            .peer = t->to->id,
                            .trace = m->trace};
    uint8_t raw[ROW_KEY_BYTES];
    struct buf value = {0};
    memcpy(row.type, m->type, sizeof row.type);
    memcpy(row.nonce, t->nonce, sizeof row.nonce);
    agent_row_pack(&row, &value);
    store_batch_put_take(batch, TABLE_AGENTS, row_key(raw, &a->id, a->epoch), &value);
    buf_free(&value);
    location_write(batch, &a->id, a->epoch + 1, t->to);
    topics_depart(n, a, batch);
    if (m->files) {
        files_out_put_departed(m->files, a->epoch, batch);
    }
    unsaved_put(a, batch, (struct span){0}); /* should an operator take it back */
    event_put(n, batch,
              &(struct event){.kind = m->retract ? "agent.retract" : "agent.dispatch",
                              .agent = &a->id,
                              .type = m->type,
                              .ticket = &t->id,
                              .peer = t->to,
                              .trace = &m->trace});
}

static void depart(struct ticket_out *t)
{
    struct store_batch *batch = batch_or_die();
    struct move_out *m;
    TAILQ_FOREACH (m, &t->moves, link) {
        put_departed(t, m, batch);
    }
    ticket_out_set_phase(t, OUT_COMMITTING);
    t->node->env->timer_stop(t->node->env->ctx, t->timer);
    node_commit(t->node, batch, POINT_MOVE_DEPARTED, departed, t);
}

/* ---- STAGE and its receipt ---- */

static void send_stage(struct ticket_out *t);

/* The subset that the receipt names; all others are `out`. */
static gw_err take_subset(struct ticket_out *t, const struct ticket_note *note,
                          struct gw_error *why)
{
    struct move_out *m;
    size_t i = 0;
    TAILQ_FOREACH (m, &t->moves, link) {
        const gw_id *id = m->clone ? &m->clone_id : &m->agent_id;
        uint64_t epoch = m->clone ? 1 : m->epoch + 1;
        m->out = i == note->n || !gw_id_equal(&note->agents[i].agent, id) ||
                 note->agents[i].epoch != epoch;
        i += !m->out;
    }
    if (i < note->n || !gw_id_equal(&note->ticket, &t->id)) {
        return gw_fail(why, GW_EPROTO, "host \"%s\" gave a receipt for something else",
                       peer_label(t->to));
    }
    return GW_OK;
}

/* ret_reasons: behind the signature. */
static gw_err read_receipt(struct ticket_out *t, const struct frame *f, struct mp *ret_reasons,
                           struct gw_error *why)
{
    struct mp r = f->rest;
    gw_id ticket;
    uint32_t code;
    char reason[LIMIT_ERROR_TEXT_BYTES];
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket_note note;
    gw_err bad = gw_fail(why, GW_EPROTO, "host \"%s\" answered nonsense", peer_label(t->to));
    if (f->kind != FRAME_RECEIPT || mp_read_id(&r, &ticket) != GW_OK ||
        mp_read_u32(&r, &code) != GW_OK ||
        mp_read_text_or_nil(&r, reason, sizeof reason) != GW_OK || !gw_id_equal(&ticket, &t->id)) {
        return bad;
    }
    if (code != GW_OK) {
        REACH(TICKET_REFUSED);
        return refused(t, gw_err_from_wire(code), reason, why);
    }
    if (mp_read_bin(&r, &body) != GW_OK ||
        mp_read_fixed(&r, signature, sizeof signature) != GW_OK) {
        return bad;
    }
    GW_TRY(note_read(NOTE_RECEIPT, body, signature, t->to->key, &note, why));
    GW_TRY(take_subset(t, &note, why));
    memcpy(t->nonce, note.nonce, sizeof t->nonce);
    *ret_reasons = r;
    return GW_OK;
}

static void stage_answer(void *arg, gw_err err, const struct frame *f)
{
    struct ticket_out *t = arg;
    struct gw_error why;
    struct mp reasons;
    if (err == GW_ECANCELLED) {
        return;
    }
    if (err == GW_ETIMEOUT && t->to->up && ++t->tries < HANDOFF_STAGE_TRIES) {
        REACH(STAGE_AGAIN);
        send_stage(t);
        return;
    }
    if (err == GW_OK) {
        err = read_receipt(t, f, &reasons, &why);
    } else {
        REACH(STAGE_LOST);
        gw_fail(&why, err, "host \"%s\" %s", peer_label(t->to),
                err == GW_ETIMEOUT ? "did not answer in time" : "was lost on the way");
        gw_hint(&why, "the agent goes on here; send it again when the host is back");
    }
    if (err != GW_OK) {
        ticket_out_abort(t, &why);
        return;
    }
    ticket_out_hold(t);
    abort_refused(t, reasons);
    struct move_out *first = TAILQ_FIRST(&t->moves);
    if (first && first->clone) {
        ticket_out_set_phase(t, OUT_DONE);
        move_out_end(first);
    } else if (first) {
        depart(t);
    }
    ticket_out_drop(t);
}

static void send_stage(struct ticket_out *t)
{
    struct node *n = t->node;
    struct buf frame = {0};
    struct move_out *m;
    uint64_t stream = peer_stream(n);
    size_t bytes = t->body.len + 256;
    TAILQ_FOREACH (m, &t->moves, link) {
        bytes += m->payload.len + 8;
    }
    buf_reserve(&frame, bytes); /* one copy of what may be large */
    size_t at = frame_begin(&frame, FRAME_STAGE, stream, 3);
    mp_span(&frame, buf_span(&t->body));
    mp_bin(&frame, t->signature, sizeof t->signature);
    mp_array(&frame, t->count);
    TAILQ_FOREACH (m, &t->moves, link) {
        mp_span(&frame, buf_span(&m->payload));
    }
    frame_end(&frame, at);
    t->staged_sent = true;
    standing_tell(n, t->to);
    peer_request(n, t->to, stream, &frame, HANDOFF_STAGE_MS, stage_answer, t);
}

/* ---- sealing ---- */

/* What does not fit into one ticket goes under the next: its moves are whole. */
static struct ticket_out *split(struct ticket_out *t)
{
    struct ticket_out *rest = NULL;
    struct move_out *m, *next;
    size_t bytes = 0;
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        next = TAILQ_NEXT(m, link);
        bytes += m->parts.len + m->rows.len;
        if (!rest && (m == TAILQ_FIRST(&t->moves) || bytes <= LIMIT_TICKET_BYTES)) {
            continue;
        }
        if (!rest) {
            rest = ticket_out_new(t->node, t->to);
            rest->begun_us = t->begun_us;
            rest->phase = OUT_FREEZING;
        }
        TAILQ_REMOVE(&t->moves, m, link);
        t->count--;
        TAILQ_INSERT_TAIL(&rest->moves, m, link);
        rest->count++;
        m->t = rest;
    }
    return rest;
}

/* The ticket: everything that goes, sealed for the destination. */
static gw_err seal(struct ticket_out *t, struct gw_error *why)
{
    struct node *n = t->node;
    struct move_out *m;
    size_t i = 0;
    struct ticket_agent *entries = xcalloc(t->count, sizeof *entries);
    struct buf *plain = xcalloc(t->count, 2 * sizeof *plain), *sealed = plain + t->count;
    struct span *spans = xcalloc(t->count, sizeof *spans);
    gw_err err = GW_OK;
    TAILQ_FOREACH (m, &t->moves, link) {
        struct agent *a = move_out_source(m);
        err = err == GW_OK && !a ? GW_EAGENT_NOT_FOUND : err;
        if (a) {
            entries[i] = (struct ticket_agent){.agent = m->clone ? m->clone_id : a->id,
                                               .epoch = m->clone ? 1 : m->epoch + 1,
                                               .version = a->type->version};
            memcpy(entries[i].type, m->type, sizeof entries[i].type);
            move_out_pack(m, &plain[i]);
            err = err == GW_OK && !buf_ok(&plain[i]) ? GW_ENOMEM : err;
        }
        spans[i] = buf_span(&plain[i]);
        buf_free(&m->parts);
        buf_free(&m->rows);
        i++;
    }
    struct ticket ticket = {.id = t->id,
                            .from = n->self->id,
                            .to = t->to->id,
                            .agents = entries,
                            .agent_count = t->count};
    err = err == GW_OK
              ? ticket_seal(&ticket, spans, &n->cfg.key, t->to->key, &t->body, t->signature, sealed)
              : err;
    i = 0;
    TAILQ_FOREACH (m, &t->moves, link) {
        buf_free(&plain[i]);
        m->payload = sealed[i++];
    }
    free(spans);
    free(plain);
    free(entries);
    return err == GW_OK ? GW_OK
           : err == GW_EAGENT_NOT_FOUND
               ? gw_fail(why, err, "the agent has left meanwhile")
               : gw_fail(why, err, "the ticket could not be made: %s", gw_err_text(err));
}

void ticket_out_send(struct ticket_out *t)
{
    struct gw_error why;
    struct ticket_out *rest = split(t);
    if (seal(t, &why) != GW_OK) {
        ticket_out_abort(t, &why);
    } else {
        ticket_out_set_phase(t, OUT_STAGING);
        send_stage(t);
    }
    if (rest) {
        ticket_out_drop(rest); /* which stages it */
    }
}

void ticket_out_stage(struct ticket_out *t)
{
    struct move_out *m;
    if (t->phase != OUT_FREEZING || t->holds > 0) {
        return;
    }
    TAILQ_FOREACH (m, &t->moves, link) {
        if (!m->have_parts || !m->have_rows) {
            return;
        }
    }
    if (ticket_files_late(t)) {
        return;
    }
    t->node->env->timer_stop(t->node->env->ctx, t->timer);
    m = TAILQ_FIRST(&t->moves);
    if (m->files) { /* and alone */
        ticket_files_check(t);
    } else {
        ticket_out_send(t);
    }
}

/* ---- OFFER ---- */

void ticket_out_freeze(struct ticket_out *t)
{
    ticket_out_set_phase(t, OUT_FREEZING);
    t->node->env->timer_start(t->node->env->ctx, t->timer,
                              t->count > 1 ? HANDOFF_BATCH_MS : HANDOFF_FREEZE_MS);
    moves_out_freeze(t);
}

/* Those that the destination would not take stay, and never froze. */
static void offer_accepted(struct ticket_out *t, struct mp *r)
{
    struct handoff_refusal one;
    struct move_out *m;
    size_t n = 0;
    struct mp reasons = {0};
    if (mp_skip_n(r, 1) == GW_OK) { /* the nonce */
        reasons = *r;
    }
    struct mp list = reasons;
    if (mp_done(&list) || mp_read_array(&list, &n) != GW_OK) {
        n = 0;
    }
    for (size_t i = 0; i < n && handoff_read_refusal(&list, &one) == GW_OK; i++) {
        m = find_move(t, &one.agent);
        if (m) {
            m->out = true;
        }
    }
    ticket_out_hold(t);
    abort_refused(t, reasons);
    if (t->count > 0 && TAILQ_FIRST(&t->moves)->files) {
        ticket_files_flow(t);
    } else if (t->count > 0) {
        ticket_out_freeze(t);
    }
    ticket_out_drop(t);
}

static void offer_answer(void *arg, gw_err err, const struct frame *f)
{
    struct ticket_out *t = arg;
    struct gw_error why;
    struct mp r = f ? f->rest : (struct mp){0};
    gw_id ticket;
    uint32_t code = GW_EPROTO;
    char reason[LIMIT_ERROR_TEXT_BYTES] = "it answered nonsense";
    if (err == GW_ECANCELLED) {
        return;
    }
    if (err == GW_OK && f->kind == FRAME_OFFER_ANSWER && mp_read_id(&r, &ticket) == GW_OK &&
        gw_id_equal(&ticket, &t->id) && mp_read_u32(&r, &code) == GW_OK &&
        mp_read_text_or_nil(&r, reason, sizeof reason) == GW_OK && code == GW_OK) {
        offer_accepted(t, &r);
        return;
    }
    if (err == GW_OK) {
        REACH(OFFER_REFUSED);
        (void)refused(t, gw_err_from_wire(code), reason, &why);
    } else {
        REACH(OFFER_LOST);
        gw_fail(&why, err, "host \"%s\" does not answer the offer", peer_label(t->to));
    }
    ticket_out_abort(t, &why);
}

void ticket_out_offer(struct ticket_out *t)
{
    struct node *n = t->node;
    struct buf frame = {0};
    struct move_out *m;
    uint64_t stream = peer_stream(n);
    size_t at = frame_begin(&frame, FRAME_OFFER, stream, 2);
    mp_id(&frame, &t->id);
    mp_array(&frame, t->count);
    TAILQ_FOREACH (m, &t->moves, link) {
        size_t count = 0;
        uint64_t bytes = 0;
        if (m->files) {
            files_out_total(m->files, &count, &bytes);
        }
        mp_array(&frame, 7);
        mp_id(&frame, m->clone ? &m->clone_id : &m->agent_id);
        mp_uint(&frame, m->clone ? 1 : m->epoch + 1);
        mp_str(&frame, m->type);
        mp_uint(&frame, type_intern(n, m->type)->version);
        mp_uint(&frame, 0);
        mp_uint(&frame, count);
        mp_uint(&frame, bytes);
    }
    frame_end(&frame, at);
    peer_request(n, t->to, stream, &frame, HANDOFF_STAGE_MS, offer_answer, t);
}

void ticket_out_go(struct ticket_out *t)
{
    bool offer = false;
    struct move_out *m, *first = TAILQ_FIRST(&t->moves);
    TAILQ_FOREACH (m, &t->moves, link) {
        offer |= !move_out_takes_version(t->to, m->agent->type);
        gw_assert(!m->files || t->count == 1);
    }
    if (first && first->files) {
        ticket_files_look(t);
    } else if (t->count > 0 && offer) {
        ticket_out_offer(t);
    } else if (t->count > 0) {
        ticket_out_freeze(t);
    }
    ticket_out_drop(t);
}

/* ---- timers, links, questions, boot ---- */

static void not_quiet(struct ticket_out *t, struct move_out *m)
{
    struct gw_error why;
    char text[160] = "it has left";
    const struct agent *a = move_out_source(m);
    REACH(NOT_QUIET);
    if (a) {
        stuck_describe(a, text, sizeof text);
    }
    gw_fail(&why, GW_EBUSY, "the agent did not become quiet within %d ms: %s",
            t->count > 1 ? HANDOFF_BATCH_MS : HANDOFF_FREEZE_MS, text);
    gw_hint(&why, "it goes on here; try again when that is done, or `godwit kill` it");
    move_out_abort(m, &why);
}

static void timer_fired(void *arg)
{
    struct ticket_out *t = arg;
    struct move_out *m, *next;
    if (t->phase == OUT_DEPARTED) {
        if (t->to->up) {
            send_commit(t);
        } else {
            REACH(COMMIT_WAITS);
            t->node->env->timer_start(t->node->env->ctx, t->timer, HANDOFF_RETRY_MS);
        }
    } else if (t->phase == OUT_SENDING) {
        ticket_files_bind(t);
    } else if (t->phase == OUT_FREEZING) {
        ticket_out_hold(t);
        for (m = TAILQ_FIRST(&t->moves); m; m = next) {
            next = TAILQ_NEXT(m, link);
            if (!m->have_parts || !m->have_rows) {
                not_quiet(t, m);
            }
        }
        ticket_out_drop(t); /* the others go */
    }
}

void ticket_out_resolving(struct ticket_out *t, bool on)
{
    ticket_out_set_phase(t, on ? OUT_RESOLVING : OUT_DEPARTED);
    if (on) {
        t->node->env->timer_stop(t->node->env->ctx, t->timer);
    } else {
        t->node->env->timer_start(t->node->env->ctx, t->timer, HANDOFF_RETRY_MS);
    }
}

void ticket_out_link(struct node *n, struct peer *p, bool up)
{
    struct ticket_out *t, *next;
    HASH_ITER (hh, n->tickets_out, t, next) {
        if (t->to == p && up && t->phase == OUT_DEPARTED) {
            REACH(COMMIT_LINK_UP);
            n->env->timer_start(n->env->ctx, t->timer, 0);
        }
    }
    /* Down: requests that were open have been told already (node_peer_down). */
}

void move_out_boot(struct node *n, const gw_id *agent, uint64_t epoch, const struct agent_row *row)
{
    struct ticket_out *t = ticket_out_find(n, &row->ticket);
    if (!t) {
        REACH(DEPARTED_AT_START);
        t = make(n, &row->ticket, peer_intern(n, &row->peer));
        t->phase = OUT_DEPARTED;
        t->begun_us = 0;
        t->staged_sent = true;
        memcpy(t->nonce, row->nonce, sizeof t->nonce);
        n->env->timer_start(n->env->ctx, t->timer, HANDOFF_RETRY_MS);
    }
    struct move_out *m = move_out_shell(t, agent, epoch);
    m->at_boot = true;
    memcpy(m->type, row->type, sizeof m->type);
    m->home = row->home;
    m->of = row->of;
    m->created_ms = row->created_ms;
    m->trace = row->trace;
}

/* H1: the ticket, an agent and its epoch must be those. */
static bool asks_for(struct ticket_out *t, struct mp *q)
{
    gw_id agent;
    uint64_t epoch;
    size_t n;
    if (mp_read_array(q, &n) != GW_OK || n > LIMIT_TICKET_AGENTS) {
        return false;
    }
    for (size_t i = 0; i < n && handoff_read_agent(q, &agent, &epoch) == GW_OK; i++) {
        const struct move_out *m = find_move(t, &agent);
        if (m && !m->clone && epoch == m->epoch + 1) {
            return true;
        }
    }
    return false;
}

/* QUERY: from memory first. The COMMIT names all that have departed: what it does not name is not
 * the destination's. */
void ticket_out_query(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp q = f->rest;
    gw_id id;
    struct buf frame = {0}, body = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    gw_err code = GW_ECANCELLED; /* not known here: that ticket is dead for ever */
    if (mp_read_id(&q, &id) != GW_OK || mp_peek(&q) != MP_ARRAY) {
        return;
    }
    struct ticket_out *t = ticket_out_find(n, &id);
    REACH_IF(!t, QUERY_DEAD);
    if (t && t->to == p && asks_for(t, &q)) {
        struct ticket_note note;
        code = BROKEN(3) && t->phase == OUT_COMMITTING ? GW_ECANCELLED : GW_EPENDING;
        note_of(t, &note);
        if (t->phase == OUT_DEPARTED &&
            note_sign(NOTE_COMMIT, &note, &n->cfg.key, &body, signature) == GW_OK) {
            REACH(QUERY_DEPARTED);
            code = GW_OK;
        } else {
            REACH(QUERY_PENDING);
        }
    }
    size_t at = frame_begin(&frame, FRAME_QUERY_ANSWER, f->stream, 4);
    mp_id(&frame, &id);
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
