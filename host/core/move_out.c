/* Handoff at the source: one agent under its ticket (ticket_out.c), from the check to what follows
 * it when it has left.
 *
 * Its snapshot is what the store holds, if nothing of it runs and no hook on_dispatch has a word
 * in it: an agent that sleeps is not woken, an idle one costs its runner nothing. Else it is taken
 * by a piece of work that waits its turn, and what on_dispatch did exists only in the ticket. */
#include "host/core/files.h"
#include "host/core/itinerary.h"
#include "host/core/reach.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of one read for several agents, above which they go under smaller tickets: as much as two
 * tickets. */
#define READ_BYTES (2 * LIMIT_TICKET_BYTES)

/* ---- life ---- */

struct move_out *move_out_shell(struct ticket_out *t, const gw_id *agent, uint64_t epoch)
{
    struct move_out *m = xcalloc(1, sizeof *m);
    m->t = t;
    m->agent_id = *agent;
    m->epoch = epoch;
    TAILQ_INIT(&m->parked);
    TAILQ_INSERT_TAIL(&t->moves, m, link);
    t->count++;
    return m;
}

struct move_out *move_out_join(struct ticket_out *t, struct agent *a, unsigned flags,
                               const gw_id *clone, move_done done, void *arg)
{
    gw_assert(t->phase == OUT_OFFERING && t->count < LIMIT_TICKET_AGENTS);
    struct move_out *m = move_out_shell(t, &a->id, a->epoch);
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
    m->trace = trace_child(t->node, &t->node->trace);
    if (clone) {
        m->clone_id = *clone;
    } else if (!a->files || a->files->count == 0) {
        a->move = m;
    } else {
        a->sending = m; /* it runs on while they flow (move_out_bind) */
    }
    if (a->files && a->files->count > 0) {
        m->files = files_out_new(t->node, a, &t->to->id, &t->id, clone ? clone : &a->id);
    }
    return m;
}

void move_out_free(struct move_out *m)
{
    struct ticket_out *t = m->t;
    struct work *w;
    while ((w = TAILQ_FIRST(&m->parked))) {
        TAILQ_REMOVE(&m->parked, w, link);
        work_drop(w);
    }
    files_out_free(m->files);
    buf_free(&m->parts);
    buf_free(&m->rows);
    buf_free(&m->payload);
    TAILQ_REMOVE(&t->moves, m, link);
    t->count--;
    free(m);
    ticket_out_hold(t);
    ticket_out_drop(t); /* the last one takes it along */
}

struct agent *move_out_source(const struct move_out *m)
{
    struct agent *a = m->clone ? agent_find(m->t->node, &m->agent_id) : m->agent;
    return a && a->epoch == m->epoch ? a : NULL;
}

/* ---- back to where it was ---- */

static void put_back(struct move_out *m)
{
    struct agent *a = m->agent;
    m->t->node->moves_aborted_count++;
    if (!m->clone && a && a->sending == m) {
        a->sending = NULL;
    } else if (!m->clone && a) {
        a->move = NULL;
        work_withdraw_snapshot(a); /* it would run under the next ticket */
        if (a->status == AGENT_MOVING) {
            agent_set_status(m->t->node, a, m->before);
        }
    }
}

static void put_event(struct move_out *m, const struct gw_error *why, struct store_batch *batch)
{
    event_put(m->t->node, batch,
              &(struct event){.kind = "transfer.failed",
                              .agent = &m->agent_id,
                              .type = m->type,
                              .ticket = &m->t->id,
                              .peer = m->t->to,
                              .trace = &m->trace,
                              .text = why->text});
}

/* It has been put back: whoever asked is told, and it goes on. */
static void go_on(struct move_out *m, const struct gw_error *why)
{
    struct node *n = m->t->node;
    gw_id id = m->agent_id;
    m->done(m->arg, why->code, m, why);
    move_out_free(m);
    struct agent *a = agent_find(n, &id);
    if (a) {
        intent_run(n, a);
        work_pump(n, a);
    }
}

void move_out_abort(struct move_out *m, const struct gw_error *why)
{
    struct store_batch *batch = store_batch_new();
    put_back(m);
    put_event(m, why, batch);
    node_commit(m->t->node, batch, POINT_MOVE_PUT_BACK, NULL, NULL);
    go_on(m, why);
}

void moves_out_abort(struct ticket_out *t, const struct gw_error *why)
{
    struct store_batch *batch = store_batch_new();
    struct move_out *m;
    ticket_out_hold(t);
    TAILQ_FOREACH (m, &t->moves, link) {
        put_back(m);
        put_event(m, why, batch);
    }
    if (t->count > 0) {
        node_commit(t->node, batch, POINT_TICKET_PUT_BACK, NULL, NULL);
    } else {
        store_batch_free(batch);
    }
    while ((m = TAILQ_FIRST(&t->moves))) {
        go_on(m, why);
    }
    ticket_out_drop(t);
}

/* ---- gone ---- */

/* What waited for an agent that has left: calls start again and follow it, its inbox travelled with
 * it, a `run` that had not begun is void here. The agent itself is no more: done() sees a shell
 * with its name. why: an operator has taken it back instead; calls start again, and find it here.
 * over: nothing of the move is left. */
static void end(struct move_out *m, const struct gw_error *why, bool over)
{
    struct node *n = m->t->node;
    struct agent shell = {.id = m->agent_id, .epoch = m->epoch, .type = type_intern(n, m->type)};
    struct work_queue parked;
    struct work *w;
    if (m->done) {
        move_done done = m->done;
        m->done = NULL;
        done(m->arg, why ? why->code : GW_OK, m, why);
    }
    shell.home = &peer_intern(n, &m->home)->id;
    TAILQ_INIT(&parked);
    TAILQ_CONCAT(&parked, &m->parked, link);
    if (over) {
        move_out_free(m);
    }
    while ((w = TAILQ_FIRST(&parked))) {
        TAILQ_REMOVE(&parked, w, link);
        w->agent = &shell;
        if (w->call) {
            REACH(CALL_FOLLOWS);
            node_call(n, w->call);
        } else if (!w->inbox && w->hook != HOOK_RUN) {
            struct gw_error left;
            gw_fail(&left, GW_EMOVED, "the agent has left for another host");
            w->done(w, why ? why->code : GW_EMOVED, NULL, why ? why : &left);
        }
        work_free(w);
    }
}

void move_out_told(struct move_out *m)
{
    end(m, NULL, false);
}

void move_out_end(struct move_out *m)
{
    end(m, NULL, true);
}

void move_out_taken_back(struct move_out *m)
{
    struct gw_error why;
    gw_fail(&why, GW_ECONFLICT, "an operator has ended the move: the agent goes on here");
    end(m, &why, true);
}

/* ---- what goes into the ticket ---- */

void move_out_pack(const struct move_out *m, struct buf *out)
{
    const struct agent *a = move_out_source(m);
    struct agent_row row = {.home = m->clone ? m->t->to->id : *a->home,
                            .of = m->clone ? a->id : a->of,
                            .created_ms = m->clone ? node_now_ms(m->t->node) : a->created_ms,
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
    struct buf files = {0};
    if (m->files) {
        files_out_pack(m->files, m->t->node->name, &files);
    }
    buf_reserve(out, m->parts.len + m->rows.len + row.itinerary.len + files.len + 512);
    handoff_pack(out, m->clone ? HANDOFF_CLONE : HANDOFF_MOVE, &row, buf_span(&m->parts),
                 m->clone ? (struct span){0} : buf_span(&m->rows), buf_span(&files));
    buf_free(&files);
    buf_free(&row.itinerary);
}

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
    handoff_pack_rows(m->t->node, m->agent, all, count + 1, &m->rows);
    buf_free(&value);
    free(all);
}

static void take_rows(struct move_out *m, const struct storage_row *rows, size_t count, bool states)
{
    struct agent *a = move_out_source(m);
    struct storage_row *all = a ? unsaved_over(a, rows, count, &count) : NULL;
    const struct storage_row *whole = all ? all : rows;
    if (!m->have_rows && m->has_key) {
        pack_rows_and_answer(m, whole, count);
    } else if (!m->have_rows) {
        handoff_pack_rows(m->t->node, m->agent, whole, count, &m->rows);
    }
    m->have_rows = true;
    if (states) {
        parts_of_rows(whole, count, &m->parts);
        m->have_parts = true;
    }
    free(all);
}

/* ---- reading ---- */

struct reading { /* outlives what is aborted meanwhile */
    struct node *n;
    gw_id ticket;
    bool states;
    size_t count;
    gw_id agents[];
};

static struct move_out *next_move(struct ticket_out *t, const gw_id *agent)
{
    struct move_out *m;
    TAILQ_FOREACH (m, &t->moves, link) {
        if (m->reading && gw_id_equal(&m->agent_id, agent)) {
            break; /* those before it have been read: it is found at once */
        }
    }
    return m;
}

static void read_rows(struct ticket_out *t, struct move_out *one, size_t count, bool states);

/* The rows of several agents: one of them is damaged, it is not known which. */
static void read_each(struct ticket_out *t, const struct reading *g)
{
    for (size_t i = 0; i < g->count; i++) {
        struct move_out *m = next_move(t, &g->agents[i]);
        if (m) {
            read_rows(t, m, 1, g->states);
        }
    }
}

static void rows_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct reading *g = arg;
    struct ticket_out *t = ticket_out_find(g->n, &g->ticket);
    if (!t || t->phase != OUT_FREEZING) {
        free(g);
        return;
    }
    if (err == GW_ECORRUPT && g->count > 1) {
        read_each(t, g);
        free(g);
        return;
    }
    ticket_out_hold(t);
    for (size_t i = 0, at = 0; i < g->count; i++) {
        size_t end = at;
        while (end < count && memcmp(rows[end].key.p, g->agents[i].b, GW_ID_BYTES) == 0) {
            end++;
        }
        struct move_out *m = next_move(t, &g->agents[i]);
        if (m && err == GW_OK) {
            m->reading = false;
            take_rows(m, rows + at, end - at, g->states);
        } else if (m) {
            struct gw_error why;
            m->reading = false;
            gw_fail(&why, err, "the agent cannot be read from the store: %s", gw_err_text(err));
            move_out_abort(m, &why);
            if (err == GW_ECORRUPT) {
                crashes_damaged(g->n, &g->agents[i], "it cannot be read");
            }
        }
        at = end;
    }
    free(g);
    ticket_out_drop(t);
}

/* The ranges of one agent: of a clone's source its state alone. */
static size_t put_ranges(const struct move_out *m, struct span key, bool states,
                         struct store_range *ret)
{
    size_t n = 0;
    for (size_t i = 0; !m->have_rows && i < HANDOFF_LISTS; i++) {
        if (!handoff_lists[i].pack) {
            ret[n++] = (struct store_range){.table = handoff_lists[i].table, .prefix = key};
        }
    }
    if (states) {
        ret[n++] = (struct store_range){.table = TABLE_STATES, .prefix = key};
    }
    return n;
}

/* Of the `count` moves that are `stored`, or of one alone. */
static void read_rows(struct ticket_out *t, struct move_out *one, size_t count, bool states)
{
    struct node *n = t->node;
    struct reading *g = xcalloc(1, sizeof *g + count * sizeof g->agents[0]);
    struct store_range *ranges = xcalloc(count, (HANDOFF_LISTS + 1) * sizeof *ranges);
    uint8_t(*raw)[ROW_KEY_BYTES] = xcalloc(count, sizeof *raw);
    size_t filled = 0;
    struct move_out *m;
    *g = (struct reading){.n = n, .ticket = t->id, .states = states};
    TAILQ_FOREACH (m, &t->moves, link) {
        if (one ? m != one : !m->stored) {
            continue;
        }
        m->reading = true;
        g->agents[g->count] = m->agent_id;
        struct span key = row_key(raw[g->count++], &m->agent_id, m->epoch);
        filled += put_ranges(m, key, states, ranges + filled);
    }
    for (size_t i = 0; count > 1 && i < filled; i++) {
        ranges[i].max_bytes = READ_BYTES;
    }
    n->env->read(n->env->ctx, ranges, filled, rows_read, g);
    free(raw);
    free(ranges);
}

/* ---- files ---- */

gw_err move_out_bind(struct move_out *m, struct gw_error *why)
{
    struct node *n = m->t->node;
    struct agent *a = m->agent;
    if (m->clone || (a && a->move == m)) {
        return GW_OK;
    }
    if (!a) {
        return gw_fail(why, GW_EAGENT_NOT_FOUND, "the agent has left meanwhile");
    }
    a->sending = NULL; /* else it is in the way of itself */
    gw_err err = move_out_check(n, a, m->t->to, false, why);
    if (err == GW_OK) {
        a->move = m;
        m->before = a->status;
    } else {
        a->sending = m;
    }
    return err;
}

/* ---- freeze ---- */

struct snapshot_of {
    gw_id ticket, agent;
};

static void snapshot(struct work *w, gw_err err, const struct run_result *r,
                     const struct gw_error *why)
{
    struct snapshot_of s = *(struct snapshot_of *)w->arg;
    struct ticket_out *t = ticket_out_find(w->node, &s.ticket);
    struct move_out *m = NULL;
    free(w->arg);
    if (t && t->phase == OUT_FREEZING) {
        TAILQ_FOREACH (m, &t->moves, link) {
            if (gw_id_equal(&m->agent_id, &s.agent)) {
                break;
            }
        }
    }
    if (!m) {
        REACH(SNAPSHOT_LATE);
        return; /* aborted while the hook ran */
    }
    if (err != GW_OK) {
        REACH(SNAPSHOT_FAILED);
        move_out_abort(m, why);
        return;
    }
    buf_add(&m->parts, r->parts.p, r->parts.n);
    m->have_parts = true;
    if (!m->have_rows && !m->reading) {
        read_rows(t, m, 1, false); /* after the last transaction of the agent, in the store's
                                      order */
    }
    ticket_out_stage(t);
}

/* Whether the store holds all that a snapshot would. */
static bool is_stored(const struct move_out *m, const struct agent *a)
{
    const struct type *t = a->type;
    if (m->before == AGENT_INACTIVE) { /* timers and monitors are packed from memory */
        return !(a->live && !pipeline_rests(a->live)) && !a->loading && !m->t->node->loading;
    }
    bool hook = !m->clone && t->hooks & 1u << HOOK_DISPATCH;
    return !hook && t->runner && runner_usable(t->runner) && type_keeps_state(t) &&
           work_is_quiet(m->t->node, a);
}

/* By a piece of work that waits its turn. */
static void take_snapshot(struct move_out *m, struct agent *a)
{
    struct ticket_out *t = m->t;
    struct snapshot_of s = {t->id, m->agent_id};
    bool clone = m->clone, asleep = m->before == AGENT_INACTIVE;
    bool hook = !clone && !asleep && a->type->hooks & 1u << HOOK_DISPATCH;
    struct work *w = work_new(t->node, a, hook ? HOOK_DISPATCH : HOOK_NONE);
    w->flags = RUN_SNAPSHOT | (clone ? 0 : RUN_DISCARD);
    w->lifecycle = true;
    w->handoff = !clone;
    w->no_commit = true; /* what on_dispatch did exists only in the ticket */
    w->done = snapshot;
    w->arg = xcalloc(1, sizeof s);
    w->arg_heap = true;
    memcpy(w->arg, &s, sizeof s);
    work_push_snapshot(w);
    struct move_out *still;
    TAILQ_FOREACH (still, &t->moves, link) { /* it may have failed at once */
        if (still == m && !clone && a->live->current == w) {
            read_rows(t, m, 1, false); /* quiet already: its last transaction is before this read
                                          in the store's order */
            break;
        }
    }
}

void moves_out_freeze(struct ticket_out *t)
{
    struct move_out *m, *next;
    size_t stored = 0;
    ticket_out_hold(t);
    for (m = TAILQ_FIRST(&t->moves); m; m = next) {
        next = TAILQ_NEXT(m, link);
        struct agent *a = move_out_source(m);
        if (!a) {
            struct gw_error why;
            gw_fail(&why, GW_EAGENT_NOT_FOUND, "the agent has left meanwhile");
            move_out_abort(m, &why);
            continue;
        }
        m->before = a->status;
        m->have_rows = m->clone;
        m->inactive |= m->before == AGENT_INACTIVE; /* it moves without waking */
        m->stored = is_stored(m, a);
        stored += m->stored;
        if (!m->clone) {
            agent_set_status(t->node, a, AGENT_MOVING);
        }
        if (!m->stored) {
            take_snapshot(m, a);
        }
    }
    if (stored > 0) {
        read_rows(t, NULL, stored, true);
    }
    ticket_out_drop(t);
}

/* ---- what may go, and where ---- */

static const struct peer_type *announced(const struct peer *p, const char *name)
{
    for (size_t i = 0; i < p->type_count; i++) {
        if (strcmp(p->types[i].name, name) == 0) {
            return &p->types[i];
        }
    }
    return NULL;
}

bool move_out_takes_type(const struct peer *to, const char *type)
{
    return announced(to, type) != NULL;
}

bool move_out_takes_version(const struct peer *to, const struct type *type)
{
    const struct peer_type *t = announced(to, type->name);
    return t && t->version == type->version;
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
    uint32_t there = announced(to, a->type->name)->version;
    if (there < a->type->oldest_reader) {
        gw_fail(why, GW_EREFUSED,
                "host \"%s\" has version %u of type \"%s\"; a state of version %u is understood "
                "from version %u on",
                peer_label(to), there, a->type->name, a->type->version, a->type->oldest_reader);
        gw_hint(why, "give that host the newer plugin");
        return GW_EREFUSED;
    }
    if (a->epoch + 1 > LIMIT_EPOCH) {
        return gw_fail(why, GW_EREFUSED, "the agent has moved too often");
    }
    return GW_OK;
}

gw_err move_out_begin(struct node *n, struct agent *a, struct peer *to, unsigned flags,
                      const gw_id *clone, move_done done, void *arg, struct gw_error *why)
{
    GW_TRY(move_out_check(n, a, to, clone != NULL, why));
    struct ticket_out *t = ticket_out_new(n, to);
    move_out_join(t, a, flags, clone, done, arg);
    ticket_out_go(t);
    return GW_OK;
}

void move_out_seen(struct node *n, const gw_id *agent, uint64_t epoch)
{
    struct ticket_out *t;
    struct move_out *m;
    TICKET_OUT_EACH(n, t, m)
    {
        if (gw_id_equal(&m->agent_id, agent) && epoch > m->epoch) {
            m->seen_elsewhere = true;
        }
    }
}
