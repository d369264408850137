/* Handoff at the destination: a ticket with its agents, from STAGE to COMMITTED.
 *
 *   STAGE --verify, open, decode--> STORING --fsync--> STAGED --COMMIT--> COMMITTING --fsync-->
 * ours |                       |                  | refused                 refused +-- ABORT,
 * QUERY answered "cancelled", not named in the COMMIT --> rows gone
 *
 * One transaction for what is staged, one for what becomes ours. A staged agent is not ours: it is
 * not in the registry, does not run, raises no fence (H2), and has no time-out; QUERY to the source
 * repeats until it knows (H7). Answers go out only from durable rows (H4). A COMMIT is bound to the
 * nonce that we gave, so a replay needs neither clock nor memory to be refused; it names all that
 * the source has given up under this ticket, so what it does not name is dropped. While the rows
 * are being written the runner decodes the states as probes, which also loads them. */
#include "host/core/handoff.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/broken.h"
#include "host/core/reach.h"

static const char *const phase_names[IN_PHASES] = {[IN_STORING] = "storing",
                                                   [IN_STAGED] = "staged",
                                                   [IN_COMMITTING] = "committing",
                                                   [IN_RESOLVING] = "resolving"};
const char *in_phase_name(in_phase phase)
{
    return phase_names[phase];
}

struct ticket_in *ticket_in_find(struct node *n, const gw_id *id)
{
    struct ticket_in *t;
    HASH_FIND(hh, n->tickets_in, id, sizeof *id, t);
    return t;
}

/* ---- life ---- */

static void send_query(void *arg);

static struct ticket_in *make(struct node *n, const gw_id *id, struct peer *from)
{
    struct ticket_in *t = xcalloc(1, sizeof *t);
    t->id = *id;
    t->node = n;
    t->from = from;
    t->since_ms = node_now_ms(n);
    TAILQ_INIT(&t->moves);
    t->timer = n->env->timer_new(n->env->ctx, send_query, t);
    HASH_ADD(hh, n->tickets_in, id, sizeof t->id, t);
    return t;
}

/* Free what has left the table, once nothing is on its way back to it. */
static void maybe_free(struct ticket_in *t)
{
    if (t->detached && !t->querying && t->probing == 0 && t->verifying == 0) {
        t->node->env->timer_free(t->node->env->ctx, t->timer);
        store_batch_free(t->batch);
        buf_free(&t->refused);
        buf_free(&t->unknown);
        free(t);
    }
}

static void leave(struct ticket_in *t)
{
    struct move_in *m, *next;
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        next = TAILQ_NEXT(m, link);
        move_in_free(m);
    }
    HASH_DEL(t->node->tickets_in, t);
    t->node->env->timer_stop(t->node->env->ctx, t->timer);
    t->detached = true;
    maybe_free(t);
}

void tickets_in_free(struct node *n)
{
    struct ticket_in *t, *next;
    HASH_ITER (hh, n->tickets_in, t, next) {
        t->verifying = 0; /* files_free */
        leave(t);         /* requests and probes have been cancelled before */
    }
}

/* ---- answers ---- */

static void send_refusal(struct node *n, struct peer *p, uint64_t stream, const gw_id *ticket,
                         const struct gw_error *why)
{
    static const uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_RECEIPT, stream, 5);
    mp_id(&frame, ticket);
    mp_uint(&frame, why->code);
    mp_str(&frame, why->text);
    mp_bin(&frame, NULL, 0);
    mp_bin(&frame, signature, sizeof signature);
    frame_end(&frame, at);
    peer_send_frame(n, p, &frame);
}

static void send_receipt(struct node *n, struct peer *p, uint64_t stream,
                         const struct ticket_note *note, size_t refused_count,
                         const struct buf *refused)
{
    struct buf frame = {0}, body = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    if (note_sign(NOTE_RECEIPT, note, &n->cfg.key, &body, signature) != GW_OK) {
        log_die("memory", "out of memory for a receipt");
    }
    size_t at = frame_begin(&frame, FRAME_RECEIPT, stream, 6);
    mp_id(&frame, &note->ticket);
    mp_uint(&frame, GW_OK);
    mp_nil(&frame);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    mp_array(&frame, refused_count);
    if (refused_count > 0) {
        buf_add(&frame, refused->data, refused->len);
    }
    frame_end(&frame, at);
    buf_free(&body);
    standing_tell(n, p);
    peer_send_frame(n, p, &frame);
}

static void receipt(struct ticket_in *t)
{
    const struct move_in *m;
    struct ticket_note note = {.ticket = t->id};
    memcpy(note.nonce, t->nonce, sizeof note.nonce);
    TAILQ_FOREACH (m, &t->moves, link) {
        note.agents[note.n].agent = m->agent;
        note.agents[note.n++].epoch = m->epoch;
    }
    send_receipt(t->node, t->from, t->stage_stream, &note, t->refused_count, &t->refused);
}

static void refuse_one(struct ticket_in *t, const gw_id *agent, const struct gw_error *why)
{
    handoff_put_refusal(&t->refused, agent, why);
    t->refused_count++;
}

/* unknown: those of the COMMIT that were never staged here. */
static void send_committed(struct node *n, struct peer *p, uint64_t stream, const gw_id *ticket,
                           size_t unknown_count, const struct buf *unknown)
{
    struct buf frame = {0};
    gw_err code = unknown_count > 0 ? GW_EUNKNOWN : GW_OK;
    size_t at = frame_begin(&frame, FRAME_COMMITTED, stream, 4);
    mp_id(&frame, ticket);
    mp_uint(&frame, code);
    mp_str(&frame, code == GW_OK ? NULL : gw_err_text(code));
    mp_array(&frame, unknown_count);
    if (unknown_count > 0) {
        buf_add(&frame, unknown->data, unknown->len);
    }
    frame_end(&frame, at);
    standing_tell(n, p);
    peer_send_frame(n, p, &frame);
}

/* ---- dropping what will never be ours ---- */

/* Those that are marked; the ticket goes with the last one. While they are being stored the mark
 * waits for that. */
static void drop_marked(struct ticket_in *t)
{
    struct move_in *m, *next;
    if (t->phase == IN_STORING) {
        REACH(DROP_WAITS);
        return;
    }
    struct store_batch *batch = store_batch_new();
    struct leftovers *gone = leftovers_new(t->node);
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        next = TAILQ_NEXT(m, link);
        if (m->dropping) {
            move_in_put_dropped(m, gone, batch);
            move_in_free(m);
        }
    }
    leftovers_commit(gone, batch, POINT_MOVE_DROPPED);
    if (t->count == 0) {
        leave(t);
    }
}

static void drop_all(struct ticket_in *t)
{
    struct move_in *m;
    TAILQ_FOREACH (m, &t->moves, link) {
        m->dropping = true;
    }
    drop_marked(t);
}

/* ---- QUERY ---- */

static void take_commit(struct node *n, struct peer *p, uint64_t stream, struct span body,
                        const uint8_t signature[TICKET_SIGNATURE_BYTES]);

static void query_answer(void *arg, gw_err err, const struct frame *f)
{
    struct ticket_in *t = arg;
    struct node *n = t->node;
    struct mp r = f ? f->rest : (struct mp){0};
    gw_id ticket;
    uint32_t code = GW_EPENDING;
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    t->querying = false;
    if (t->detached) {
        maybe_free(t);
        return;
    }
    if (err == GW_ECANCELLED || t->phase != IN_STAGED) {
        return;
    }
    t->silent = err != GW_OK;
    REACH_IF(t->silent, QUERY_UNANSWERED);
    n->env->timer_start(n->env->ctx, t->timer, HANDOFF_QUERY_MS);
    if (err == GW_OK && f->kind == FRAME_QUERY_ANSWER && mp_read_id(&r, &ticket) == GW_OK &&
        gw_id_equal(&ticket, &t->id) && mp_read_u32(&r, &code) == GW_OK) {
        if (code == GW_ECANCELLED) {
            REACH(STAGED_IN_VAIN);
            drop_all(t);
        } else if (code == GW_OK && mp_read_bin(&r, &body) == GW_OK &&
                   mp_read_fixed(&r, signature, sizeof signature) == GW_OK) {
            REACH(COMMIT_ASKED_FOR);
            take_commit(n, t->from, 0, body, signature);
        }
    }
}

static void send_query(void *arg)
{
    struct ticket_in *t = arg;
    struct node *n = t->node;
    struct buf frame = {0};
    const struct move_in *m;
    if (t->phase != IN_STAGED || t->querying) {
        return;
    }
    uint64_t stream = peer_stream(n);
    size_t at = frame_begin(&frame, FRAME_QUERY, stream, 2);
    mp_id(&frame, &t->id);
    mp_array(&frame, t->count);
    TAILQ_FOREACH (m, &t->moves, link) {
        handoff_put_agent(&frame, &m->agent, m->epoch);
    }
    frame_end(&frame, at);
    t->querying = true;
    peer_request(n, t->from, stream, &frame, HANDOFF_QUERY_MS, query_answer, t);
}

void ticket_in_link(struct node *n, struct peer *p, bool up)
{
    for (struct ticket_in *t = n->tickets_in; t; t = t->hh.next) {
        if (t->from == p && t->phase == IN_STAGED) {
            t->silent = !up;
            n->env->timer_start(n->env->ctx, t->timer, up ? 0 : HANDOFF_QUERY_MS);
        }
    }
}

/* ---- COMMIT ---- */

struct begun { /* what has become ours, while the ticket goes away */
    gw_id id;
    uint64_t epoch;
    bool mail;
    struct trace trace; /* of the hooks that greet it */
};

static void begin_here(struct node *n, const struct begun *b, size_t count, const char *from)
{
    for (size_t i = 0; i < count; i++) {
        struct agent *a = agent_find(n, &b[i].id);
        struct trace before = trace_enter(n, &b[i].trace);
        if (a && b[i].mail) {
            inbox_load(n, &b[i].id, b[i].epoch); /* what begins below waits for it */
        }
        if (a && a->status == AGENT_ACTIVE && a->pending) {
            work_push_hooks(n, a, a->pending, from);
        } else if (a) {
            intent_run(n, a); /* its itinerary */
        }
        (void)trace_enter(n, &before);
    }
    locations_tell_homes(n, &b[0].id, sizeof b[0], count);
}

/* All of the ticket is ours now. */
static void arrive_all(struct ticket_in *t)
{
    struct node *n = t->node;
    struct begun *begun = xcalloc(t->count, sizeof *begun);
    struct move_in *m;
    char from[LIMIT_NAME_BYTES + 1];
    size_t count = 0;
    TAILQ_FOREACH (m, &t->moves, link) {
        if (!m->has_files && !m->clone && n->env->agent_gone) {
            n->env->agent_gone(n->env->ctx, &m->agent); /* of an earlier stay, not over yet */
        }
        (void)move_in_arrive(m);
        begun[count++] = (struct begun){m->agent, m->epoch, m->has_mail, m->row.trace};
    }
    memcpy(from, t->from->name, sizeof from);
    leave(t);
    begin_here(n, begun, count, from);
    free(begun);
}

static void activated(void *arg, gw_err err)
{
    struct ticket_in *t = arg;
    struct node *n = t->node;
    if (err != GW_OK) {
        REACH(ARRIVAL_ROLLED_BACK);
        t->phase =
            IN_STAGED; /* rolled back for certain (disk full): still staged, COMMIT comes again */
        n->env->timer_start(n->env->ctx, t->timer, HANDOFF_QUERY_MS);
        return;
    }
    if (t->commit_stream) {
        send_committed(n, t->from, t->commit_stream, &t->id, t->unknown_count, &t->unknown);
    }
    n->moves_in_count += t->count;
    arrive_all(t);
}

static void put_unknown(struct buf *unknown, size_t *count, const gw_id *agent, uint64_t epoch)
{
    handoff_put_agent(unknown, agent, epoch);
    ++*count;
}

/* Nothing is staged here under that ticket: active here, or moved on, if it was committed; below
 * that it was never staged here (H5). */
static void answer_late(struct node *n, struct peer *p, uint64_t stream,
                        const struct ticket_note *note)
{
    struct buf unknown = {0};
    size_t count = 0;
    REACH(COMMIT_LATE);
    for (size_t i = 0; i < note->n; i++) {
        if (agent_fence(n, &note->agents[i].agent) < note->agents[i].epoch) {
            put_unknown(&unknown, &count, &note->agents[i].agent, note->agents[i].epoch);
        }
    }
    send_committed(n, p, stream, &note->ticket, count, &unknown);
    buf_free(&unknown);
}

/* Which of the staged ones it names. H1: ticket, agent and epoch must be those. One that an
 * operator has brought back here meanwhile stays as it is: the other is its source's to keep. */
static void match(struct ticket_in *t, const struct ticket_note *note)
{
    struct move_in *m;
    TAILQ_FOREACH (m, &t->moves, link) {
        m->dropping = true;
    }
    buf_reset(&t->unknown);
    t->unknown_count = 0;
    for (size_t i = 0; i < note->n; i++) {
        m = move_in_find(t->node, &note->agents[i].agent);
        bool staged = m && m->t == t && m->epoch == note->agents[i].epoch;
        if (staged && (BROKEN(2) || !agent_find(t->node, &m->agent))) {
            m->dropping = false;
        } else if (agent_fence(t->node, &note->agents[i].agent) < note->agents[i].epoch) {
            put_unknown(&t->unknown, &t->unknown_count, &note->agents[i].agent,
                        note->agents[i].epoch);
        }
    }
}

static void activate(struct ticket_in *t)
{
    struct node *n = t->node;
    struct store_batch *batch = store_batch_new();
    struct move_in *m;
    TAILQ_FOREACH (m, &t->moves, link) {
        move_in_put_arrived(m, batch);
    }
    t->phase = IN_COMMITTING;
    n->env->timer_stop(n->env->ctx, t->timer);
    node_commit(n, batch, POINT_MOVE_ACTIVATED, activated, t);
}

static void take_commit(struct node *n, struct peer *p, uint64_t stream, struct span body,
                        const uint8_t signature[TICKET_SIGNATURE_BYTES])
{
    struct ticket_note note;
    struct gw_error why;
    if (!p->has_key || note_read(NOTE_COMMIT, body, signature, p->key, &note, &why) != GW_OK ||
        note.n == 0) {
        log_warn("move.commit", "host=%s sent a COMMIT that does not verify", peer_label(p));
        return;
    }
    struct ticket_in *t = ticket_in_find(n, &note.ticket);
    if (!t) {
        answer_late(n, p, stream, &note);
        return;
    }
    if (t->from != p || memcmp(note.nonce, t->nonce, sizeof note.nonce) != 0) {
        log_warn("move.commit", "host=%s sent a COMMIT that is not for what is staged here",
                 peer_label(p));
        return;
    }
    if (stream) {
        t->commit_stream = stream;
    }
    if (t->phase != IN_STAGED) {
        REACH(COMMIT_TWICE);
        return; /* storing: cannot be; committing: answered when durable (H4); resolving: it comes
                   again */
    }
    match(t, &note);
    struct move_in *m;
    bool any = false;
    TAILQ_FOREACH (m, &t->moves, link) {
        any |= !m->dropping;
    }
    if (!any) {
        log_warn("move.commit", "host=%s sent a COMMIT that names nothing of what is staged here",
                 peer_label(p));
        TAILQ_FOREACH (m, &t->moves, link) {
            m->dropping = false;
        }
        return;
    }
    drop_marked(t);
    activate(t);
}

/* ---- STAGE ---- */

/* Stored and probed: the receipt goes out, with what is wrong with some of them. */
static void staged_when_whole(struct ticket_in *t)
{
    struct node *n = t->node;
    struct move_in *m;
    if (t->phase != IN_STORING || !t->stored || t->probing > 0 || t->verifying > 0) {
        return;
    }
    t->phase = IN_STAGED;
    bool clone = false, aborted = false;
    TAILQ_FOREACH (m, &t->moves, link) {
        clone |= m->clone;
        aborted |= m->dropping;
        if (t->store_err == GW_OK) {
            leftovers_cleared(n, &m->agent, m->epoch);
        }
        if (m->refused == GW_OK && t->store_err != GW_OK) {
            m->refused = gw_fail(&m->why, t->store_err, "it could not be stored: %s",
                                 gw_err_text(t->store_err));
        }
        if (m->refused != GW_OK) {
            refuse_one(t, &m->agent, &m->why);
            m->dropping = true;
        }
    }
    if (clone && t->refused_count == 0) {
        receipt(t);
        arrive_all(t);
        return;
    }
    /* the agents that are refused are not in the receipt */
    struct move_in *next;
    struct store_batch *batch = store_batch_new();
    struct leftovers *gone = leftovers_new(n);
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        next = TAILQ_NEXT(m, link);
        if (m->dropping) {
            if (!clone) {
                move_in_put_dropped(m, gone, batch);
            } else if (m->has_files) {
                files_drop(n, &t->id, &m->agent);
            }
            move_in_free(m);
        }
    }
    leftovers_commit(gone, batch, POINT_MOVE_REFUSED);
    if (t->count > 0 || !aborted) {
        receipt(t);
    }
    if (t->count == 0) {
        leave(t);
    } else {
        n->env->timer_start(n->env->ctx, t->timer, HANDOFF_QUERY_MS);
    }
}

static void stored(void *arg, gw_err err)
{
    struct ticket_in *t = arg;
    t->store_err = err;
    t->stored = true;
    REACH_IF(err != GW_OK, STAGING_ROLLED_BACK);
    staged_when_whole(t);
}

static void put_staged(struct ticket_in *t, struct store_batch *batch)
{
    node_commit(t->node, batch, POINT_MOVE_STAGED, stored, t);
}

/* A clone is written once its state has decoded, files once they are known to be there: after a
 * crash nobody could say so of what is staged. */
static void write_held(struct ticket_in *t)
{
    struct move_in *m = TAILQ_FIRST(&t->moves);
    struct store_batch *batch = t->batch;
    if (t->verifying > 0 || (m->clone && t->probing > 0)) {
        return;
    }
    t->batch = NULL;
    if (!m->clone) {
        put_staged(t, batch);
    } else if (m->refused == GW_OK) {  /* the only one */
        move_in_put_arrived(m, batch); /* now, for an event is written in the turn that numbers it
                                        */
        node_commit(t->node, batch, POINT_CLONE_ARRIVED, stored, t);
    } else { /* it was never written */
        store_batch_free(batch);
        t->stored = true;
        staged_when_whole(t);
    }
}

void ticket_in_probed(struct ticket_in *t)
{
    if (t->detached) {
        maybe_free(t);
    } else if (t->batch) {
        write_held(t);
    } else {
        staged_when_whole(t);
    }
}

void ticket_in_verified(struct ticket_in *t)
{
    t->verifying--;
    ticket_in_probed(t);
}

static size_t staged_of(struct node *n, const struct peer *p)
{
    size_t count = 0;
    for (const struct ticket_in *t = n->tickets_in; t; t = t->hh.next) {
        count += t->from == p ? t->count : 0;
    }
    return count + files_expected_of(n, p);
}

/* Take each agent that this host admits, tell of the others. Parts to probe go to ret_parts, which
 * borrow from plain. */
static void take_agents(struct ticket_in *t, struct ticket *ticket, const struct span *sealed,
                        struct store_batch *batch, struct buf *plain, struct span *ret_parts)
{
    struct node *n = t->node;
    size_t staged = staged_of(n, t->from);
    for (size_t i = 0; i < ticket->agent_count; i++) {
        struct gw_error why;
        struct span parts;
        if (move_in_admit(n, ticket, i, staged, 0, &why) == GW_OK &&
            move_in_take(t, ticket, i, sealed[i], batch, &plain[t->count], &parts, &why) == GW_OK) {
            ret_parts[t->count - 1] = parts;
            staged++;
        } else {
            refuse_one(t, &ticket->agents[i].agent, &why);
            files_drop_offered(n, &t->from->id, &t->id, &ticket->agents[i].agent);
        }
    }
}

static void probe_all(struct ticket_in *t, const struct span *parts)
{
    struct move_in *m;
    size_t i = 0;
    TAILQ_FOREACH (m, &t->moves, link) {
        move_in_probe(m, parts[i++]);
    }
}

static gw_err check_ticket(struct node *n, struct peer *p, const struct ticket *t,
                           struct gw_error *why)
{
    if (!host_id_equal(&t->from, &p->id) || !host_id_equal(&t->to, &n->self->id)) {
        return gw_fail(why, GW_EDENIED, "the ticket is not from you to this host");
    }
    if (n->stopping) {
        return gw_fail(why, GW_ESTOPPING, "host \"%s\" is stopping", n->name);
    }
    return GW_OK;
}

/* A ticket that is new here. */
static void take_new(struct node *n, struct peer *p, struct ticket *ticket,
                     const struct span *sealed, uint64_t stream)
{
    struct gw_error why;
    struct ticket_in *t;
    if (check_ticket(n, p, ticket, &why) != GW_OK ||
        ticket_unseal(ticket, &n->cfg.key, &why) != GW_OK) {
        send_refusal(n, p, stream, &ticket->id, &why);
        return;
    }
    struct buf *plain = xcalloc(ticket->agent_count, sizeof *plain);
    struct span *parts = xcalloc(ticket->agent_count, sizeof *parts);
    struct store_batch *batch = store_batch_new();
    t = make(n, &ticket->id, p);
    t->stage_stream = stream;
    node_random(n, t->nonce, sizeof t->nonce);
    take_agents(t, ticket, sealed, batch, plain, parts);
    struct move_in *first = TAILQ_FIRST(&t->moves);
    if (!first) {
        store_batch_free(batch);
        receipt(t);
        leave(t);
    } else if (first->clone || t->verifying > 0) {
        t->batch = batch; /* of a clone: there is no later word that could drop it */
        probe_all(t, parts);
        if (t->probing == 0 && t->verifying == 0) {
            ticket_in_probed(t);
        }
    } else {
        put_staged(t, batch);
        probe_all(t, parts);
    }
    for (size_t i = 0; i < ticket->agent_count; i++) {
        buf_free(&plain[i]);
    }
    free(plain);
    free(parts);
}

/* A clone that stands here already, or has moved on. */
static bool is_made(struct node *n, const struct ticket *t)
{
    const struct ticket_agent *e = &t->agents[0];
    const struct agent *a = agent_find(n, &e->agent);
    return t->agent_count == 1 && e->epoch == 1 && agent_fence(n, &e->agent) >= 1 &&
           (!a || host_id_equal(a->home, &n->self->id));
}

static void take_ticket(struct node *n, struct peer *p, struct ticket *ticket,
                        const struct span *sealed, uint64_t stream)
{
    struct ticket_in *t = ticket_in_find(n, &ticket->id);
    struct gw_error why;
    if (t && t->from == p) { /* a repeat: the receipt was lost */
        t->stage_stream = stream;
        REACH(STAGE_TWICE);
        if (t->phase == IN_STAGED) {
            receipt(t);
        }
    } else if (t) {
        gw_fail(&why, GW_ECONFLICT, "another host has given a ticket of this name");
        send_refusal(n, p, stream, &ticket->id, &why);
    } else if (is_made(n, ticket)) {
        REACH(CLONE_TWICE);
        struct ticket_note note = {.ticket = ticket->id, .n = 1};
        note.agents[0].agent = ticket->agents[0].agent;
        note.agents[0].epoch = 1;
        send_receipt(n, p, stream, &note, 0, NULL);
    } else {
        take_new(n, p, ticket, sealed, stream);
    }
}

static void take_stage(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp s = f->rest;
    struct span body, sealed[LIMIT_TICKET_AGENTS];
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket t = {0};
    struct gw_error why;
    size_t payloads = 0;
    gw_err err = mp_read_bin(&s, &body);
    if (err == GW_OK) {
        err = mp_read_fixed(&s, signature, sizeof signature);
    }
    if (err == GW_OK) {
        err = mp_read_array(&s, &payloads);
    }
    for (size_t i = 0; err == GW_OK && i < payloads; i++) {
        err = i < LIMIT_TICKET_AGENTS ? mp_read_bin(&s, &sealed[i]) : GW_EPROTO;
    }
    if (err != GW_OK || ticket_read(body, signature, p->key, &t, &why) != GW_OK) {
        log_warn("move.stage", "host=%s sent a ticket that does not verify", peer_label(p));
        return;
    }
    if (t.agent_count == payloads) {
        take_ticket(n, p, &t, sealed, f->stream);
    } else {
        log_warn("move.stage", "host=%s sent a ticket with %zu payloads for %zu agents",
                 peer_label(p), payloads, t.agent_count);
    }
    ticket_free(&t);
}

/* ---- OFFER, ABORT ---- */

struct offered_files { /* of one agent */
    uint64_t count, bytes;
};

static gw_err read_offer(struct mp *s, struct ticket *ret, struct ticket_agent *agents,
                         struct offered_files *ret_files)
{
    size_t fields;
    GW_TRY(mp_read_id(s, &ret->id));
    GW_TRY(mp_read_array(s, &ret->agent_count));
    if (ret->agent_count < 1 || ret->agent_count > LIMIT_TICKET_AGENTS) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < ret->agent_count; i++) {
        struct ticket_agent *e = &agents[i];
        GW_TRY(mp_read_array(s, &fields));
        if (fields < 3) {
            return GW_EPROTO;
        }
        GW_TRY(mp_read_id(s, &e->agent));
        GW_TRY(mp_read_uint(s, &e->epoch));
        GW_TRY(mp_read_text(s, e->type, sizeof e->type));
        if (fields >= 7) {
            GW_TRY(mp_skip_n(s, 2));
            GW_TRY(mp_read_uint(s, &ret_files[i].count));
            GW_TRY(mp_read_uint(s, &ret_files[i].bytes));
        }
        GW_TRY(mp_skip_n(s, fields >= 7 ? fields - 7 : fields - 3));
    }
    ret->agents = agents;
    return GW_OK;
}

static gw_err admit_files(struct node *n, const struct ticket *t, size_t i,
                          const struct offered_files *f, struct gw_error *why)
{
    if (f->count == 0) {
        return GW_OK;
    }
    if (f->count > LIMIT_CARRIED_PER_AGENT || f->bytes > INT64_MAX) {
        return gw_fail(why, GW_EREFUSED, "at most %d files travel with an agent",
                       LIMIT_CARRIED_PER_AGENT);
    }
    return files_expect(n, &t->from, &t->id, &t->agents[i].agent, f->bytes, why);
}

static void take_offer(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp s = f->rest;
    struct ticket t = {.from = p->id, .to = n->self->id};
    struct ticket_agent agents[LIMIT_TICKET_AGENTS] = {0};
    struct offered_files files[LIMIT_TICKET_AGENTS] = {0};
    struct gw_error why;
    struct buf frame = {0}, refused = {0};
    size_t refused_count = 0;
    if (read_offer(&s, &t, agents, files) != GW_OK) {
        return;
    }
    gw_err err = check_ticket(n, p, &t, &why);
    size_t staged = staged_of(n, p), coming = 0;
    for (size_t i = 0; err == GW_OK && i < t.agent_count; i++) {
        struct gw_error one;
        if (move_in_admit(n, &t, i, staged, coming, &one) == GW_OK &&
            admit_files(n, &t, i, &files[i], &one) == GW_OK) {
            coming++;
        } else {
            handoff_put_refusal(&refused, &t.agents[i].agent, &one);
            refused_count++;
        }
    }
    size_t at = frame_begin(&frame, FRAME_OFFER_ANSWER, f->stream, 5);
    mp_id(&frame, &t.id);
    mp_uint(&frame, err);
    mp_str(&frame, err == GW_OK ? NULL : why.text);
    mp_nil(&frame);
    mp_array(&frame, refused_count);
    buf_add(&frame, refused.data, refused.len);
    frame_end(&frame, at);
    buf_free(&refused);
    peer_send_frame(n, p, &frame);
}

static bool may_abort(const struct ticket_in *t, const struct peer *p)
{
    return t->from == p && t->phase < IN_COMMITTING;
}

static void take_abort(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp s = f->rest;
    gw_id ticket, agent;
    uint64_t epoch;
    size_t count;
    if (mp_read_id(&s, &ticket) != GW_OK || mp_read_array(&s, &count) != GW_OK ||
        count > LIMIT_TICKET_AGENTS) {
        return;
    }
    struct ticket_in *t = ticket_in_find(n, &ticket);
    for (size_t i = 0; i < count && handoff_read_agent(&s, &agent, &epoch) == GW_OK; i++) {
        struct move_in *m = move_in_find(n, &agent);
        files_drop_offered(n, &p->id, &ticket, &agent);
        if (BROKEN(1) && m) {
            t = m->t;
            epoch = m->epoch;
        }
        if (m && m->t == t && m->epoch == epoch && !m->clone && may_abort(t, p)) {
            m->dropping = true;
        }
    }
    if (t && may_abort(t, p)) {
        REACH(ABORTED);
        drop_marked(t);
    }
}

void ticket_in_frame(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp s = f->rest;
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    switch (f->kind) {
    case FRAME_OFFER: take_offer(n, p, f); break;
    case FRAME_STAGE: take_stage(n, p, f); break;
    case FRAME_ABORT: take_abort(n, p, f); break;
    case FRAME_COMMIT:
        if (mp_read_bin(&s, &body) == GW_OK &&
            mp_read_fixed(&s, signature, sizeof signature) == GW_OK) {
            take_commit(n, p, f->stream, body, signature);
        }
        break;
    default: break;
    }
}

/* ---- boot ---- */

void move_in_boot(struct node *n, const gw_id *agent, uint64_t epoch, const struct agent_row *row)
{
    struct ticket_in *t = ticket_in_find(n, &row->ticket);
    if (!t) {
        REACH(STAGED_AT_START);
        t = make(n, &row->ticket, peer_intern(n, &row->peer));
        t->phase = IN_STAGED;
        t->stored = true;
        memcpy(t->nonce, row->nonce, sizeof t->nonce);
        n->env->timer_start(n->env->ctx, t->timer, HANDOFF_QUERY_MS);
    }
    struct move_in *m = move_in_new(t, agent, epoch);
    m->has_mail = m->has_files = true;
    m->row = *row;
    m->row.intent = m->row.itinerary = (struct buf){0};
    buf_add(&m->row.itinerary, row->itinerary.data, row->itinerary.len);
    if (!buf_ok(&m->row.itinerary)) {
        log_die("memory", "out of memory for an agent that arrives");
    }
}

void ticket_in_resolving(struct ticket_in *t, bool on)
{
    t->phase = on ? IN_RESOLVING : IN_STAGED;
    if (on) {
        t->node->env->timer_stop(t->node->env->ctx, t->timer);
    } else {
        t->node->env->timer_start(t->node->env->ctx, t->timer, HANDOFF_QUERY_MS);
    }
}

void ticket_in_forget(struct move_in *m)
{
    struct ticket_in *t = m->t;
    move_in_free(m);
    if (t->count == 0) {
        leave(t);
    }
}
