/* Handoff at the destination.
 *
 *   STAGE --verify, open, decode--> STORING --fsync--> STAGED --COMMIT--> COMMITTING --fsync-->
 * ours |                  |
 *                                      +---- ABORT, QUERY answered "cancelled" ----> rows removed
 *
 * A staged agent is not ours: it is not in the registry, does not run, raises no fence (H2), and
 * has no time-out; QUERY to the source repeats until it knows (H7). Answers go out only from
 * durable rows (H4). A COMMIT is bound to the nonce that we gave, so a replay needs neither clock
 * nor memory to be refused. While the row is being written the runner decodes the state as a probe,
 * which also loads it. */
#include "host/core/handoff.h"

#include <stdlib.h>
#include <string.h>

static const char *const phase_names[IN_PHASES] = {
    [IN_STORING] = "storing", [IN_STAGED] = "staged", [IN_COMMITTING] = "committing"};
const char *in_phase_name(in_phase phase)
{
    return phase_names[phase];
}

static struct move_in *find(struct node *n, const gw_id *ticket)
{
    struct move_in *m;
    HASH_FIND(hh, n->moves_in, ticket, sizeof *ticket, m);
    return m;
}

static struct move_in *find_agent(struct node *n, const gw_id *agent)
{
    for (struct move_in *m = n->moves_in; m; m = m->hh.next) {
        if (gw_id_equal(&m->agent, agent)) {
            return m;
        }
    }
    return NULL;
}

bool move_in_holds(struct node *n, const gw_id *agent)
{
    return find_agent(n, agent) != NULL;
}

static void free_object(struct move_in *m)
{
    if (m->agent_object) {
        live_free(m->agent_object->live);
        free(m->agent_object);
        m->agent_object = NULL;
    }
}

/* Free what has left the table, once nothing is on its way back to it. */
static void maybe_free(struct move_in *m)
{
    if (m->detached && !m->querying && !m->probing) {
        m->node->env->timer_free(m->node->env->ctx, m->timer);
        free_object(m);
        store_batch_free(m->batch);
        agent_row_clear(&m->row);
        free(m);
    }
}

static void leave(struct move_in *m)
{
    HASH_DEL(m->node->moves_in, m);
    m->node->env->timer_stop(m->node->env->ctx, m->timer);
    m->detached = true;
    maybe_free(m);
}

void moves_in_free(struct node *n)
{
    struct move_in *m, *next;
    HASH_ITER (hh, n->moves_in, m, next) {
        leave(m); /* requests and probes have been cancelled before */
    }
}

/* ---- answers ---- */

static void send_receipt(struct node *n, struct peer *p, uint64_t stream, const gw_id *ticket,
                         const struct ticket_note *note, const struct gw_error *why)
{
    struct buf frame = {0}, body = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES] = {0};
    gw_err code = note ? note_sign(NOTE_RECEIPT, note, &n->cfg.key, &body, signature) : why->code;
    size_t at = frame_begin(&frame, FRAME_RECEIPT, stream, 5);
    mp_id(&frame, ticket);
    mp_uint(&frame, code);
    mp_str(&frame, note ? NULL : why->text);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    frame_end(&frame, at);
    buf_free(&body);
    peer_send_frame(n, p, &frame);
}

static void receipt(struct move_in *m)
{
    struct ticket_note note = handoff_note(&m->ticket, &m->agent, m->epoch, m->row.nonce);
    send_receipt(m->node, m->from, m->stage_stream, &m->ticket, &note, NULL);
}

static void send_committed(struct node *n, struct peer *p, uint64_t stream, const gw_id *ticket,
                           gw_err code)
{
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_COMMITTED, stream, 3);
    mp_id(&frame, ticket);
    mp_uint(&frame, code);
    mp_str(&frame, code == GW_OK ? NULL : gw_err_text(code));
    frame_end(&frame, at);
    peer_send_frame(n, p, &frame);
}

/* ---- dropping what will never be ours ---- */

static void drop(struct move_in *m)
{
    struct node *n = m->node;
    struct type *t = type_find(n, m->row.type);
    if (m->phase == IN_STORING) {
        m->dropping = true; /* its row is on its way to the disk: removed behind it */
        return;
    }
    struct store_batch *batch = store_batch_new();
    agent_delete_rows(batch, &m->agent, m->epoch);
    event_put(n, batch,
              &(struct event){.kind = "transfer.dropped",
                              .agent = &m->agent,
                              .type = m->row.type,
                              .ticket = &m->ticket,
                              .peer = m->from,
                              .trace = &m->row.trace});
    node_commit(n, batch, NULL, NULL);
    if (t && t->runner && m->incarnation == t->runner->incarnation) {
        runner_unload(t->runner, &m->agent);
    }
    leave(m);
}

/* ---- QUERY ---- */

static void take_commit(struct node *n, struct peer *p, uint64_t stream, struct span body,
                        const uint8_t signature[TICKET_SIGNATURE_BYTES]);

static void query_answer(void *arg, gw_err err, const struct frame *f)
{
    struct move_in *m = arg;
    struct node *n = m->node;
    struct mp r = f ? f->rest : (struct mp){0};
    gw_id ticket;
    uint32_t code = GW_EPENDING;
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    m->querying = false;
    if (m->detached) {
        maybe_free(m);
        return;
    }
    if (err == GW_ECANCELLED || m->phase != IN_STAGED) {
        return;
    }
    m->silent = err != GW_OK;
    if (err == GW_OK && f->kind == FRAME_QUERY_ANSWER && mp_read_id(&r, &ticket) == GW_OK &&
        gw_id_equal(&ticket, &m->ticket) && mp_read_u32(&r, &code) == GW_OK) {
        if (code == GW_ECANCELLED) {
            drop(m);
            return;
        }
        if (code == GW_OK && mp_read_bin(&r, &body) == GW_OK &&
            mp_read_fixed(&r, signature, sizeof signature) == GW_OK) {
            take_commit(n, m->from, 0, body, signature);
            return;
        }
    }
    n->env->timer_start(n->env->ctx, m->timer, HANDOFF_QUERY_MS);
}

static void send_query(void *arg)
{
    struct move_in *m = arg;
    struct node *n = m->node;
    struct buf frame = {0};
    if (m->phase != IN_STAGED || m->querying) {
        return;
    }
    uint64_t stream = peer_stream(n);
    size_t at = frame_begin(&frame, FRAME_QUERY, stream, 2);
    mp_id(&frame, &m->ticket);
    handoff_put_agents(&frame, &m->agent, m->epoch);
    frame_end(&frame, at);
    m->querying = true;
    peer_request(n, m->from, stream, &frame, HANDOFF_QUERY_MS, query_answer, m);
}

void move_in_link(struct node *n, struct peer *p, bool up)
{
    for (struct move_in *m = n->moves_in; m; m = m->hh.next) {
        if (m->from == p && m->phase == IN_STAGED) {
            m->silent = !up;
            n->env->timer_start(n->env->ctx, m->timer, up ? 0 : HANDOFF_QUERY_MS);
        }
    }
}

/* ---- activation ---- */

static struct agent *arrive(struct move_in *m)
{
    struct node *n = m->node;
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

static void begin_here(struct node *n, struct agent *a, const char *from, bool mail)
{
    struct host_id home = *a->home;
    gw_id id = a->id;
    uint64_t epoch = a->epoch;
    if (mail) {
        inbox_load(n, &id, epoch); /* what begins below waits for it */
    }
    if (a->status == AGENT_ACTIVE && a->pending) {
        work_push_arrival(n, a, from);
    } else {
        intent_run(n, a); /* its itinerary */
    }
    location_tell_home(n, &id, epoch, &home, false);
}

static void put_arrived(struct move_in *m, struct store_batch *batch)
{
    struct node *n = m->node;
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
                              .ticket = &m->ticket,
                              .peer = m->from,
                              .trace = &m->row.trace});
}

static void activated(void *arg, gw_err err)
{
    struct move_in *m = arg;
    struct node *n = m->node;
    if (err != GW_OK) {
        m->phase =
            IN_STAGED; /* rolled back for certain (disk full): still staged, COMMIT comes again */
        n->env->timer_start(n->env->ctx, m->timer, HANDOFF_QUERY_MS);
        return;
    }
    struct agent *a = arrive(m);
    char from[LIMIT_NAME_BYTES + 1];
    bool mail = m->has_mail;
    memcpy(from, m->from->name, sizeof from);
    if (m->commit_stream) {
        send_committed(n, m->from, m->commit_stream, &m->ticket, GW_OK);
    }
    n->moves_in_count++;
    struct trace before = trace_enter(n, &m->row.trace); /* of the hooks that greet it */
    leave(m);
    begin_here(n, a, from, mail);
    (void)trace_enter(n, &before);
}

static void take_commit(struct node *n, struct peer *p, uint64_t stream, struct span body,
                        const uint8_t signature[TICKET_SIGNATURE_BYTES])
{
    struct ticket_note note;
    struct gw_error why;
    if (!p->has_key || note_read(NOTE_COMMIT, body, signature, p->key, &note, &why) != GW_OK ||
        note.n != 1) {
        log_warn("move.commit", "host=%s sent a COMMIT that does not verify", peer_label(p));
        return;
    }
    struct move_in *m = find(n, &note.ticket);
    const gw_id *agent = &note.agents[0].agent;
    uint64_t epoch = note.agents[0].epoch;
    if (!m) {
        /* Active here, or moved on: it was committed. Below that it was never staged here (H5). */
        bool known = agent_fence(n, agent) >= epoch;
        send_committed(n, p, stream, &note.ticket, known ? GW_OK : GW_EUNKNOWN);
        return;
    }
    if (m->from != p || !handoff_note_is(&note, &m->ticket, &m->agent, m->epoch) ||
        memcmp(note.nonce, m->row.nonce, sizeof note.nonce) != 0) {
        log_warn("move.commit", "host=%s sent a COMMIT that is not for what is staged here",
                 peer_label(p));
        return;
    }
    if (stream) {
        m->commit_stream = stream;
    }
    if (m->phase != IN_STAGED) {
        return; /* storing: cannot be; committing: answered when durable (H4) */
    }
    struct store_batch *batch = store_batch_new();
    put_arrived(m, batch);
    m->phase = IN_COMMITTING;
    n->env->timer_stop(n->env->ctx, m->timer);
    node_commit(n, batch, activated, m);
}

/* ---- STAGE ---- */

static void refuse_stage(struct move_in *m)
{
    send_receipt(m->node, m->from, m->stage_stream, &m->ticket, NULL, &m->why);
    m->phase = IN_STAGED;
    if (m->clone) {
        leave(m);
    } else {
        drop(m);
    }
}

/* Stored and probed: the receipt goes out, or what is wrong. */
static void staged_when_whole(struct move_in *m)
{
    struct node *n = m->node;
    if (m->phase != IN_STORING || !m->stored || m->probing) {
        return;
    }
    if (m->dropping) {
        m->phase = IN_STAGED;
        m->dropping = false;
        drop(m);
        return;
    }
    if (m->refused != GW_OK) {
        refuse_stage(m);
        return;
    }
    if (m->clone) {
        struct agent *a = arrive(m);
        char from[LIMIT_NAME_BYTES + 1];
        memcpy(from, m->from->name, sizeof from);
        receipt(m);
        leave(m);
        begin_here(n, a, from, false);
        return;
    }
    m->phase = IN_STAGED;
    receipt(m);
    n->env->timer_start(n->env->ctx, m->timer, HANDOFF_QUERY_MS);
}

static void stored(void *arg, gw_err err)
{
    struct move_in *m = arg;
    if (err != GW_OK && m->refused == GW_OK) {
        m->refused = gw_fail(&m->why, err, "it could not be stored: %s", gw_err_text(err));
    }
    m->stored = true;
    staged_when_whole(m);
}

static void probed(struct work *w, gw_err err, const struct gw_error *why)
{
    struct move_in *m = w->arg;
    m->agent_object->live->current = NULL;
    m->probing = false;
    if (m->detached || err == GW_ECANCELLED) {
        maybe_free(m);
        return;
    }
    if (err == GW_OK) {
        m->incarnation = m->agent_object->type->runner->incarnation;
    } else if (err != GW_ECRASHED || m->clone) {
        m->refused = err == GW_ECRASHED ? err : GW_EDECODE;
        m->why = *why;
        m->why.code = m->refused;
        gw_prefix(&m->why, "its state does not decode there");
    }
    free_object(m);
    if (m->batch && m->refused == GW_OK) {
        struct store_batch *batch = m->batch;
        m->batch = NULL;
        put_arrived(m, batch); /* now, for an event is written in the turn that numbers it */
        node_commit(m->node, batch, stored, m);
    } else {
        m->stored |= m->batch != NULL; /* a clone that is refused was never written */
        staged_when_whole(m);
    }
}

/* Let the runner decode the state, on the other core, while the disk writes. */
static void probe(struct move_in *m, struct span parts)
{
    struct node *n = m->node;
    struct type *t = type_find(n, m->row.type);
    if (m->row.then == AGENT_INACTIVE || t->runner->state != RUNNER_UP) {
        return; /* an inactive arrival stays asleep; a runner that is coming back loads it later */
    }
    struct agent *a = xcalloc(1, sizeof *a);
    a->id = m->agent;
    a->epoch = m->epoch;
    a->type = t;
    a->home = &peer_intern(n, &m->row.home)->id;
    m->agent_object = a;
    struct work *w = work_new(n, a, HOOK_NONE);
    agent_live(a)->current = w;
    w->probe = probed;
    w->arg = m;
    m->probing = true;
    runner_run(t->runner, w, parts);
}

static gw_err admit(struct node *n, struct peer *p, const struct ticket *t, struct gw_error *why)
{
    const struct ticket_agent *e = &t->agents[0];
    size_t staged = 0;
    if (t->agent_count != 1) {
        return gw_fail(why, GW_ENOT_SUPPORTED, "tickets for one agent only are taken here");
    }
    if (!host_id_equal(&t->from, &p->id) || !host_id_equal(&t->to, &n->self->id)) {
        return gw_fail(why, GW_EDENIED, "the ticket is not from you to this host");
    }
    if (n->stopping) {
        return gw_fail(why, GW_ESTOPPING, "host \"%s\" is stopping", n->name);
    }
    const struct type *type = type_find(n, e->type);
    if (!name_is_valid(e->type) || !type || !type_offered(type) || type->builtin) {
        return gw_fail(why, GW_EREFUSED, "host \"%s\" has no agent type \"%.64s\"", n->name,
                       e->type);
    }
    if (e->epoch > LIMIT_EPOCH || e->epoch <= agent_fence(n, &e->agent)) {
        return gw_fail(why, GW_EREFUSED, "the agent is known here at epoch %llu, not below %llu",
                       (unsigned long long)agent_fence(n, &e->agent), (unsigned long long)e->epoch);
    }
    struct move_in *other = find_agent(n, &e->agent);
    if (other) {
        n->env->timer_start(n->env->ctx, other->timer, 0); /* H2: ask about the one that is held */
        return gw_fail(why, GW_ECONFLICT, "another ticket holds the agent here");
    }
    for (struct move_in *m = n->moves_in; m; m = m->hh.next) {
        staged += m->from == p;
    }
    if (staged >= n->cfg.limits.staged) {
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

static gw_err take_payload(struct node *n, struct peer *p, const struct ticket *t,
                           struct span sealed, uint64_t stream, struct gw_error *why)
{
    const struct ticket_agent *e = &t->agents[0];
    GW_AUTO(buf_free) struct buf plain = {0};
    struct handoff_payload pay;
    GW_TRY(ticket_open(t, 0, sealed, &n->cfg.key, &plain, why));
    if (handoff_unpack(buf_span(&plain), &pay) != GW_OK || strcmp(pay.row.type, e->type) != 0 ||
        (pay.row.then != AGENT_ACTIVE && pay.row.then != AGENT_INACTIVE)) {
        return gw_fail(why, GW_EDECODE, "the payload is not an agent");
    }
    struct store_batch *batch = store_batch_new();
    if (handoff_store(batch, &pay, &e->agent, e->epoch, node_now_ms(n)) != GW_OK) {
        store_batch_free(batch);
        agent_row_clear(&pay.row);
        return gw_fail(why, GW_EDECODE, "the payload holds rows that are none");
    }
    struct move_in *m = xcalloc(1, sizeof *m);
    *m = (struct move_in){.ticket = t->id,
                          .node = n,
                          .from = p,
                          .agent = e->agent,
                          .epoch = e->epoch,
                          .phase = IN_STORING,
                          .row = pay.row,
                          .since_ms = node_now_ms(n),
                          .stage_stream = stream,
                          .clone = pay.mode == HANDOFF_CLONE};
    m->has_mail = handoff_has_mail(&pay);
    m->row.status = AGENT_STAGED;
    m->row.ticket = t->id;
    m->row.peer = p->id;
    m->row.pending = greeting(type_find(n, e->type), &pay);
    node_random(n, m->row.nonce, sizeof m->row.nonce);
    m->timer = n->env->timer_new(n->env->ctx, send_query, m);
    HASH_ADD(hh, n->moves_in, ticket, sizeof m->ticket, m);
    if (!m->clone) { /* a clone has no source that could lose it: one transaction, put_arrived */
        struct buf value = {0};
        uint8_t raw[ROW_KEY_BYTES];
        agent_row_pack(&m->row, &value);
        store_batch_put_take(batch, TABLE_AGENTS, row_key(raw, &m->agent, m->epoch), &value);
        buf_free(&value);
    }
    if (m->clone) {
        m->batch = batch; /* written once the state has decoded: there is no later word that could
                             drop it */
        probe(m, pay.parts);
        if (!m->probing) {
            m->batch = NULL;
            put_arrived(m, batch);
            node_commit(n, batch, stored, m);
        }
        return GW_OK;
    }
    node_commit(n, batch, stored, m);
    probe(m, pay.parts);
    return GW_OK;
}

static void take_stage(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp s = f->rest;
    struct span body, sealed;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket t = {0};
    struct gw_error why;
    size_t payloads;
    if (mp_read_bin(&s, &body) != GW_OK ||
        mp_read_fixed(&s, signature, sizeof signature) != GW_OK ||
        mp_read_array(&s, &payloads) != GW_OK || payloads < 1 ||
        mp_read_bin(&s, &sealed) != GW_OK ||
        ticket_read(body, signature, p->key, &t, &why) != GW_OK) {
        log_warn("move.stage", "host=%s sent a ticket that does not verify", peer_label(p));
        return;
    }
    struct move_in *m = find(n, &t.id);
    struct agent *a = agent_find(n, &t.agents[0].agent);
    if (m && m->from == p) { /* a repeat: the receipt was lost */
        m->stage_stream = f->stream;
        if (m->phase == IN_STAGED && !m->dropping) {
            receipt(m);
        }
    } else if (t.agents[0].epoch == 1 && agent_fence(n, &t.agents[0].agent) >= 1 &&
               (!a || host_id_equal(a->home, &n->self->id))) {
        static const uint8_t
            none[TICKET_NONCE_BYTES]; /* a clone that stands already, or has moved on */
        struct ticket_note note = handoff_note(&t.id, &t.agents[0].agent, 1, none);
        send_receipt(n, p, f->stream, &t.id, &note, NULL);
    } else if (admit(n, p, &t, &why) != GW_OK ||
               take_payload(n, p, &t, sealed, f->stream, &why) != GW_OK) {
        send_receipt(n, p, f->stream, &t.id, NULL, &why);
    }
    ticket_free(&t);
}

/* ---- OFFER, ABORT ---- */

static void take_offer(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp s = f->rest;
    gw_id ticket, agent;
    uint64_t epoch;
    size_t count, fields;
    char type[LIMIT_NAME_BYTES + 1];
    struct gw_error why = {0};
    if (mp_read_id(&s, &ticket) != GW_OK || mp_read_array(&s, &count) != GW_OK || count != 1 ||
        mp_read_array(&s, &fields) != GW_OK || fields < 3 || mp_read_id(&s, &agent) != GW_OK ||
        mp_read_uint(&s, &epoch) != GW_OK || mp_read_text(&s, type, sizeof type) != GW_OK) {
        return;
    }
    struct ticket_agent entry = {.agent = agent, .epoch = epoch};
    memcpy(entry.type, type, sizeof entry.type);
    struct ticket t = {
        .id = ticket, .from = p->id, .to = n->self->id, .agents = &entry, .agent_count = 1};
    gw_err err = admit(n, p, &t, &why);
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_OFFER_ANSWER, f->stream, 4);
    mp_id(&frame, &ticket);
    mp_uint(&frame, err);
    mp_str(&frame, err == GW_OK ? NULL : why.text);
    mp_nil(&frame);
    frame_end(&frame, at);
    peer_send_frame(n, p, &frame);
}

static void take_abort(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp s = f->rest;
    gw_id ticket, agent;
    uint64_t epoch;
    if (mp_read_id(&s, &ticket) != GW_OK || handoff_read_agents(&s, &agent, &epoch) != GW_OK) {
        return;
    }
    struct move_in *m = find(n, &ticket);
    if (m && m->from == p && gw_id_equal(&m->agent, &agent) && m->epoch == epoch && !m->clone &&
        m->phase != IN_COMMITTING) {
        drop(m);
    }
}

void move_in_frame(struct node *n, struct peer *p, const struct frame *f)
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
    struct move_in *m = xcalloc(1, sizeof *m);
    *m = (struct move_in){.ticket = row->ticket,
                          .node = n,
                          .from = peer_intern(n, &row->peer),
                          .agent = *agent,
                          .epoch = epoch,
                          .phase = IN_STAGED,
                          .row = *row,
                          .stored = true,
                          .has_mail = true,
                          .since_ms = node_now_ms(n)};
    m->row.intent = m->row.itinerary = (struct buf){0};
    buf_add(&m->row.itinerary, row->itinerary.data, row->itinerary.len);
    if (!buf_ok(&m->row.itinerary)) {
        log_die("memory", "out of memory for an agent that arrives");
    }
    m->timer = n->env->timer_new(n->env->ctx, send_query, m);
    HASH_ADD(hh, n->moves_in, ticket, sizeof m->ticket, m);
    n->env->timer_start(n->env->ctx, m->timer, HANDOFF_QUERY_MS);
}

void move_in_forget(struct node *n, const gw_id *ticket)
{
    struct move_in *m = find(n, ticket);
    if (m) {
        leave(m);
    }
}
