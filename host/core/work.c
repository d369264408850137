/* An agent does one thing at a time: its queue, and the way of one piece of work through the
 * runner.
 *
 *   push -> [queue] -> pump -> read what is missing (state, recorded requests) -> run -> DONE, next
 *        -> commit (commit.c) -> durable -> done() (pipeline.c)
 *
 * While an agent moves only its snapshot runs; messages stay parked in the queue, unacknowledged. A
 * request whose key has a recorded answer is answered from the record and not run again. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

/* Those of a window of messages: the blocks are larger than what malloc keeps at hand. Sanitizers
 * are to see every end of one. */
#ifdef __SANITIZE_ADDRESS__
#define SPARE_WORKS 0
#else
#define SPARE_WORKS 64
#endif

static struct work *take_block(struct node *n)
{
    struct work *w = n->spare_works;
    if (!w) {
        return xcalloc(1, sizeof *w);
    }
    n->spare_works = w->link.tqe_next;
    n->spare_works_count--;
    *w = (struct work){0};
    return w;
}

static void keep_block(struct node *n, struct work *w)
{
    if (n->spare_works_count + 1 > SPARE_WORKS) {
        free(w);
        return;
    }
    w->link.tqe_next = n->spare_works;
    n->spare_works = w;
    n->spare_works_count++;
}

void works_free(struct node *n)
{
    while (n->spare_works) {
        struct work *w = n->spare_works;
        n->spare_works = w->link.tqe_next;
        free(w);
    }
    n->spare_works_count = SPARE_WORKS; /* nothing is kept any more */
}

struct work *work_new(struct node *n, struct agent *a, frame_hook hook)
{
    struct work *w = take_block(n);
    w->node = n;
    w->agent = a;
    w->hook = hook;
    w->taken_us = node_turn_us(n);
    STAILQ_INIT(&w->calls);
    w->carry = (struct carry){.priority = PRIORITY_NORMAL};
    if (!trace_is_none(&n->trace)) { /* else its own begins when it runs */
        w->carry.trace = trace_child(n, &n->trace);
    }
    TAILQ_INIT(&w->thens);
    if (hook != HOOK_METHOD && hook != HOOK_NONE) {
        node_random(n, w->key,
                    sizeof w->key); /* of its asks: those of another hook are other requests */
    }
    return w;
}

void work_free(struct work *w)
{
    if (w->suspect_of) {
        w->suspect_of->suspects--; /* what was held back goes on: runners_resume */
    }
    pipeline_forget_calls(w);
    mailbox_undate(w);
    carry_clear(&w->carry);
    inline_asks_free(&w->thens);
    free(w->method);
    free(w->sleep);
    buf_free(&w->itinerary);
    buf_free(&w->args);
    buf_free(&w->chain);
    buf_free(&w->kept);
    keep_block(w->node, w);
}

static void enqueue(struct live *live, struct work *w, bool front)
{
    if (front) {
        mailbox_add_front(live, w, NULL);
    } else {
        mailbox_add(live, w);
    }
}

void work_enqueue(struct work *w)
{
    enqueue(agent_live(w->agent), w, false);
}

void work_requeue(struct work *w)
{
    if (w->agent->live->current == w) {
        w->agent->live->current = NULL;
    }
    buf_reset(&w->kept);
    w->result = (struct run_result){0};
    w->reloaded = w->written = w->closes = w->keeps = w->saves = false;
    enqueue(w->agent->live, w, true);
}

void work_push(struct work *w, bool front)
{
    enqueue(agent_live(w->agent), w, front);
    work_pump(w->node, w->agent);
}

/* A hook that the row says is still to run, and with which the agent's life here begins. */
static bool opens(const struct work *w)
{
    return !w->inbox && !w->lifecycle && w->agent->pending & 1u << w->hook &&
           (w->hook == HOOK_ARRIVE || w->hook == HOOK_RETRACT || w->hook == HOOK_CLONE ||
            w->hook == HOOK_ACTIVATE);
}

/* The last of them that waits; something may have been put before them. */
static struct work *last_opening(const struct live *live)
{
    struct work *last = NULL, *w;
    TAILQ_FOREACH (w, &live->queue, link) {
        if (!w->in_front) {
            break;
        }
        last = opens(w) ? w : last;
    }
    return last;
}

bool work_is_quiet(const struct node *n, const struct agent *a)
{
    const struct live *live = a->live;
    return !a->loading && !n->loading && !a->unborn &&
           !(live && (live->held || !pipeline_rests(live) || last_opening(live)));
}

void work_push_snapshot(struct work *w)
{
    struct live *live = agent_live(w->agent);
    mailbox_add_front(live, w, last_opening(live));
    work_pump(w->node, w->agent);
}

void work_withdraw(struct work *w)
{
    mailbox_remove(w->agent->live, w);
    work_drop(w);
}

static bool is_run(const struct work *w)
{
    return w->hook == HOOK_RUN;
}

static bool is_snapshot(const struct work *w)
{
    return w->handoff;
}

static void withdraw(struct agent *a, bool (*meant)(const struct work *w))
{
    struct work *w, *next;
    for (w = a->live ? TAILQ_FIRST(&a->live->queue) : NULL; w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (meant(w)) {
            work_withdraw(w);
        }
    }
}

void work_withdraw_run(struct agent *a)
{
    withdraw(a, is_run);
}

void work_withdraw_snapshot(struct agent *a)
{
    withdraw(a, is_snapshot);
}

void work_finish(struct work *w, gw_err err, const struct run_result *r, const struct gw_error *why)
{
    struct node *n = w->node;
    gw_id id = w->agent->id;
    struct runner *suspected = w->suspect_of;
    bool slept = w->hook == HOOK_DEACTIVATE || w->no_commit;
    gw_assert(w->agent->live->suspended != w);
    if (w->agent->live->current == w) {
        w->agent->live->current = NULL;
        asks_forget(w->agent->live);
    }
    if (w->hook == HOOK_METHOD) {
        metrics_message(&n->metrics, err, node_turn_us(n) - w->taken_us);
    }
    struct trace before = trace_enter(n, &w->carry.trace);
    w->done(w, err, r, why);
    work_free(w);
    struct agent *a = agent_find(n, &id); /* done() may have ended it */
    if (a) {
        intent_run(n, a);
    }
    (void)trace_enter(n, &before);
    a = agent_find(n, &id);
    if (a) {
        work_pump(n, a);
    }
    if ((a = agent_find(n, &id))) {
        idle_touch(n, a);
        if (a->starting && !(a->live && !pipeline_rests(a->live))) {
            starts_end(n, a);
        }
    }
    if (slept && a) {
        agent_rest(a);
    }
    if (suspected) {
        runner_resume(suspected);
    }
    node_check_stopped(n);
}

void work_fail(struct work *w, const struct gw_error *why)
{
    work_finish(w, why->code, NULL, why);
}

/* ---- what has to be read before work can run ---- */

struct seen_request *request_add(struct live *live, const uint8_t key[REQUEST_KEY_BYTES],
                                 int64_t at_ms, size_t bytes)
{
    if (live->request_count == live->request_cap) {
        size_t cap = live->request_cap ? live->request_cap * 2 : 8;
        struct seen_request *grown = realloc(live->requests, cap * sizeof *grown);
        if (!grown) {
            log_die("memory", "out of memory for the recorded requests of an agent");
        }
        live->requests = grown;
        live->request_cap = cap;
    }
    struct seen_request *r = &live->requests[live->request_count++];
    *r = (struct seen_request){.at_ms = at_ms, .bytes = (uint32_t)bytes};
    memcpy(r->key, key, sizeof r->key);
    return r;
}

static int by_age(const void *a, const void *b)
{
    const struct seen_request *x = a, *y = b;
    return (x->at_ms > y->at_ms) - (x->at_ms < y->at_ms);
}

void live_know_row(struct live *live, const struct storage_row *row)
{
    struct mp m = mp_over(row->value);
    if (row->table == TABLE_REQUESTS && row->key.n == ROW_KEY_BYTES + REQUEST_KEY_BYTES) {
        struct seen_request seen;
        struct run_result r;
        if (request_unpack(row->value, &seen, &r) == GW_OK) {
            request_add(live, row->key.p + ROW_KEY_BYTES, seen.at_ms, seen.bytes)->owed = seen.owed;
        }
    } else if (row->table == TABLE_STREAMS && row->key.n == ROW_KEY_BYTES + STREAM_KEY_BYTES) {
        uint64_t mark;
        if (mp_read_uint(&m, &mark) == GW_OK) {
            gw_id other;
            memcpy(other.b, row->key.p + ROW_KEY_BYTES, GW_ID_BYTES);
            stream_of(live, &other, row->key.p[ROW_KEY_BYTES + GW_ID_BYTES] == STREAM_OUT)->mark =
                mark;
        }
    } else if (row->key.n == ROW_KEY_BYTES + 8) {
        uint64_t next = load_u64(row->key.p + ROW_KEY_BYTES) + 1;
        if (row->table == TABLE_OUTBOX && next > live->outbox_next) {
            live->outbox_next = next;
        } else if (row->table == TABLE_INBOX && next > live->inbox_next) {
            live->inbox_next = next;
        }
    }
}

void live_know_done(struct live *live)
{
    if (live->request_count > 1) {
        qsort(live->requests, live->request_count, sizeof *live->requests, by_age);
    }
    live->known = true;
}

/* The current work cannot have what it needs. What was accepted stays. */
static void unreadable(struct work *w, const struct gw_error *why)
{
    struct node *n = w->node;
    gw_id id = w->agent->id;
    if (why->code != GW_ECORRUPT || !work_waits(w)) {
        work_fail(w, why);
    } else {
        work_requeue(w);
    }
    if (why->code == GW_ECORRUPT) {
        crashes_damaged(n, &id, "it cannot be read");
    }
}

static void have_read(void *arg, gw_err err, const struct storage_row *rows, size_t n)
{
    struct work *w = arg;
    struct live *live = w->agent->live;
    struct gw_error why;
    if (err != GW_OK) {
        gw_fail(&why, err, "the state of the agent cannot be read: %s", gw_err_text(err));
        unreadable(w, &why);
        return;
    }
    struct storage_row *all = unsaved_over(w->agent, rows, n, &n);
    if (!live->known) {
        for (size_t i = 0; i < n; i++) {
            live_know_row(live, &all[i]);
        }
        live_know_done(live);
    }
    if (w->reads_state) {
        buf_reset(&live->parts);
        parts_of_rows(all, n, &live->parts);
        live->have_parts = buf_ok(&live->parts);
    }
    free(all);
    work_go_on(w);
}

static bool object_loaded(const struct work *w)
{
    const struct runner *r = w->agent->type->runner;
    return w->hook == HOOK_CREATE || (r && w->agent->live->incarnation == r->incarnation);
}

static void read_agent(struct work *w)
{
    struct agent *a = w->agent;
    struct node *n = w->node;
    uint8_t raw[ROW_KEY_BYTES];
    struct span key = row_key(raw, &a->id, a->epoch);
    struct store_range ranges[5];
    size_t count = 0;
    w->reads_state = !w->only_known && !w->direct && !object_loaded(w);
    if (w->reads_state) {
        ranges[count++] = (struct store_range){.table = TABLE_STATES, .prefix = key};
    }
    if (!a->live->known) {
        ranges[count++] = (struct store_range){.table = TABLE_REQUESTS, .prefix = key};
        ranges[count++] = (struct store_range){.table = TABLE_STREAMS, .prefix = key};
        ranges[count++] = (struct store_range){
            .table = TABLE_OUTBOX, .prefix = key, .backwards = true, .limit = 1};
        ranges[count++] = (struct store_range){
            .table = TABLE_INBOX, .prefix = key, .backwards = true, .limit = 1};
    }
    n->env->read(n->env->ctx, ranges, count, have_read, w);
}

/* True: it was one, and w has ended. */
static bool answer_from(struct work *w, struct span row)
{
    struct seen_request seen;
    struct run_result r;
    if (request_unpack(row, &seen, &r) != GW_OK) {
        return false;
    }
    work_finish(w, r.err, r.err == GW_OK ? &r : NULL, r.err == GW_OK ? NULL : &r.why);
    return true;
}

static void recorded_read(void *arg, gw_err err, const struct storage_row *rows, size_t n)
{
    struct work *w = arg;
    struct gw_error why;
    if (w->agent->live->broken != GW_OK) {
        REACH(REQUEST_VOID);
        work_requeue(w);
        work_pump(w->node, w->agent);
        return;
    }
    if (err == GW_OK && n == 1) {
        if (answer_from(w, rows[0].value)) {
            return;
        }
        err = GW_ECORRUPT;
    }
    if (err == GW_OK && n == 0 && !request_find(w->agent->live, w->key)) {
        work_requeue(w); /* the first one was rolled back meanwhile */
        work_pump(w->node, w->agent);
        return;
    }
    gw_fail(&why, err == GW_OK ? GW_ECORRUPT : err,
            "the recorded answer of this request cannot be read");
    unreadable(w, &why);
}

static void answer_recorded(struct work *w)
{
    uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES];
    struct span row;
    if (unsaved_answer(w->agent, w->key, &row) && answer_from(w, row)) {
        return;
    }
    row_key(raw, &w->agent->id, w->agent->epoch);
    memcpy(raw + ROW_KEY_BYTES, w->key, REQUEST_KEY_BYTES);
    const struct store_range range = {.table = TABLE_REQUESTS, .prefix = {raw, sizeof raw}};
    w->node->env->read(w->node->env->ctx, &range, 1, recorded_read, w);
}

/* The current work has what it needs, or asks for it; then it goes to the runner. */
void work_go_on(struct work *w)
{
    struct agent *a = w->agent;
    struct live *live = a->live;
    struct runner *r = a->type->runner;
    bool gone = !w->direct && !w->only_known && (!r || !runner_usable(r));
    if (gone || live->broken != GW_OK) {
        work_requeue(w); /* the runner went while something was read, or what it builds on did */
        work_pump(w->node, a);
        return;
    }
    if (w->direct &&
        (live->known || !a->watches || w->blind)) { /* who watches it is told under a number */
        w->result = (struct run_result){.err = GW_OK};
        commit_result(w);
        return;
    }
    bool loaded = w->direct || object_loaded(w);
    if (!live->known || (!loaded && !live->have_parts && !w->only_known)) {
        read_agent(w);
        return;
    }
    if (w->only_known) {
        work_finish(w, GW_OK, NULL, NULL);
        return;
    }
    const struct seen_request *seen = w->has_key ? request_find(live, w->key) : NULL;
    if (seen && seen->owed && w->call) {
        REACH(REQUEST_OWED);
        w->later = true; /* its caller waits with the others */
        work_finish(w, GW_OK, &w->result, NULL);
        return;
    }
    if (seen) {
        REACH(REQUEST_ANSWERED);
        answer_recorded(w);
        return;
    }
    crashes_suspect(w);
    if (runner_holds_back(r, w)) {
        work_requeue(w); /* runner_resume */
        return;
    }
    struct buf parts = buf_take(&live->parts);
    bool send = live->have_parts && !loaded;
    live->have_parts = false;
    live->incarnation = w->flags & RUN_DISCARD ? 0 : r->incarnation;
    runner_run(r, w, send ? buf_span(&parts) : (struct span){0});
    buf_free(&parts);
}

static bool refuse_without_runner(struct work *w)
{
    struct agent *a = w->agent;
    struct runner *r = a->type->runner;
    struct gw_error why;
    if (r && r->state != RUNNER_BACKOFF && r->state != RUNNER_BROKEN) {
        return false;
    }
    if (!r) {
        gw_fail(&why, GW_ETYPE_NOT_FOUND, "no plugin of this host offers type \"%s\"",
                a->type->name);
        gw_hint(&why, "start the host with --plugin for it");
    } else {
        gw_fail(&why, GW_ECRASHED, "the runner of type \"%s\" is down: %s", a->type->name,
                r->problem);
        gw_hint(&why,
                "the agent keeps its last committed state; `godwit types %s` shows the runner",
                a->type->name);
    }
    mailbox_remove(a->live, w);
    work_fail(w, &why);
    return true;
}

bool work_waits(const struct work *w)
{
    return w->inbox > 0 || (w->agent->pending & 1u << w->hook);
}

void work_hold_agent(struct node *n, struct agent *a)
{
    agent_live(a)->held = n->any_held = true;
}

void work_release(struct node *n)
{
    struct agent *a, *next;
    if (!n->any_held) {
        return;
    }
    n->any_held = false;
    HASH_ITER (hh, n->agents, a, next) {
        gw_id id = a->id;
        if (a->live && a->live->held) {
            a->live->held = false;
            intent_run(n, a);
            a = agent_find(n, &id);
            if (a) {
                work_pump(n, a);
            }
        }
    }
}

/* What may begin now. While the agent moves: the hooks that begin its life here, and the snapshot.
 */
static struct work *next_of(const struct agent *a)
{
    struct work *w = TAILQ_FIRST(&a->live->queue);
    while (w && a->status == AGENT_MOVING && !w->handoff && !opens(w)) {
        w = TAILQ_NEXT(w, link);
    }
    return w;
}

void work_refuse_callers(struct agent *a, const struct gw_error *why)
{
    struct live *live = a->live;
    struct work *w, *next;
    for (w = TAILQ_FIRST(&live->queue); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (!w->inbox && !w->lifecycle) {
            mailbox_remove(live, w);
            w->done(w, why->code, NULL, why);
            work_free(w);
        }
    }
}

/* The head waits for an agent that sleeps. */
static void wake_for(struct node *n, struct agent *a, const struct work *w)
{
    const struct runner *r = a->type->runner;
    if (a->no_wake && !a->waking &&
        !timers_wake(a)) { /* what was accepted stays until it is woken */
        struct gw_error why;
        gw_fail(&why, GW_EINACTIVE, "the agent fell asleep before this message");
        gw_hint(&why, "`godwit activate` wakes it");
        work_refuse_callers(a, &why);
    } else if (!work_waits(w) || (r && runner_usable(r))) {
        agent_wake(n, a); /* it comes before w now, and has pumped */
    }                     /* else: when the runner is up */
}

/* Begin, or end, the work whose turn it is. */
static void pump_one(struct node *n, struct agent *a)
{
    struct live *live = a->live;
    if (live->current) {
        return;
    }
    if (live->broken != GW_OK) {
        pipeline_settle(n, a); /* pumps again */
        return;
    }
    if ((live->held || n->stopping || a->loading || n->loading) && !live->suspended) {
        return;
    }
    struct work *w = next_of(a);
    if (live->suspended && !(w = save_next(n, a, w))) {
        return;
    }
    if (!w || a->status == AGENT_DISPOSED || (a->status == AGENT_QUARANTINED && !w->lifecycle) ||
        !pipeline_takes(a, w) || !starts_may(n, a) || crashes_pause(n, a, w)) {
        return;
    }
    if (carry_is_late(n, &w->carry)) {
        mailbox_remove(live, w);
        live->current = w;
        mailbox_expire(w);
        return;
    }
    if (a->status == AGENT_INACTIVE && !w->lifecycle) {
        wake_for(n, a, w);
        return;
    }
    struct runner *r = a->type->runner;
    if (!w->direct && !w->only_known) {
        if (r && r->state == RUNNER_STARTING) {
            return; /* pumped again when it is up */
        }
        if ((!r || !runner_usable(r)) && work_waits(w)) {
            return;
        }
        if (refuse_without_runner(w)) {
            return; /* work_finish pumps again */
        }
    }
    mailbox_remove(live, w);
    live->current = w;
    work_go_on(w);
}

/* Work may end inside: then this goes round again instead of deeper, for ten thousand may wait. */
void work_pump(struct node *n, struct agent *a)
{
    gw_id id = a->id;
    if (n->held != HELD_NOT) {
        return;
    }
    if (!a->live || a->live->pumping) {
        if (a->live) {
            a->live->pump_again = true;
        }
        return;
    }
    do {
        a->live->pumping = true;
        a->live->pump_again = false;
        pump_one(n, a);
        a = agent_find(n, &id);
        if (!a || !a->live) {
            return;
        }
        a->live->pumping = false;
    } while (a->live->pump_again);
}

void work_refuse_queued(struct node *n, struct agent *a, const struct gw_error *why)
{
    gw_id id = a->id;
    while (a && a->live && !TAILQ_EMPTY(&a->live->queue)) {
        struct work *w = TAILQ_FIRST(&a->live->queue);
        mailbox_remove(a->live, w);
        work_fail(w, why);
        a = agent_find(n, &id);
    }
}

void work_drop(struct work *w)
{
    if (w->arg_heap) {
        free(w->arg);
    }
    work_free(w);
}

void work_drop_all(struct agent *a)
{
    struct live *live = a->live;
    struct work *w, *next;
    for (w = TAILQ_FIRST(&live->queue); w; w = next) {
        next = TAILQ_NEXT(w, link);
        mailbox_remove(live, w);
        work_drop(w);
    }
    while ((w = TAILQ_FIRST(&live->committing))) {
        TAILQ_REMOVE(&live->committing, w, link);
        work_drop(w);
    }
    if (live->suspended) {
        work_drop(live->suspended);
        live->suspended = NULL;
    }
    if (live->current) {
        work_drop(live->current);
        live->current = NULL;
    }
}

/* ---- making requests and streams known ---- */

static void learnt(struct work *w, gw_err err, const struct run_result *r,
                   const struct gw_error *why)
{
    (void)r;
    if (err != GW_OK) {
        op_fail(w->arg, why);
    } else {
        node_call(w->node, w->arg);
    }
}

void work_learn(struct node *n, struct agent *a, struct op_call *call)
{
    struct work *w = work_new(n, a, HOOK_NONE);
    w->lifecycle = true;
    w->only_known = true;
    w->done = learnt;
    w->arg = w->call = call;
    work_push(w, true);
}

/* ---- hooks that a row says are still to run ---- */

static void hook_done(struct work *w, gw_err err, const struct run_result *r,
                      const struct gw_error *why)
{
    (void)r;
    save_again(w);
    if (err != GW_OK && !w->cancelled) {
        char id[GW_ID_TEXT];
        log_warn("agent.hook", "agent=%s hook=%d error=%s %s", gw_id_text(&w->agent->id, id),
                 w->hook, gw_err_name(err), why ? why->text : "");
    }
}

void work_push_pending(struct node *n, struct agent *a)
{
    work_push_hooks(n, a, a->pending, "");
}

void work_push_hooks(struct node *n, struct agent *a, uint32_t hooks, const char *from)
{
    static const frame_hook order[] = {HOOK_ARRIVE, HOOK_RETRACT, HOOK_CLONE, HOOK_ACTIVATE,
                                       HOOK_RUN};
    struct work *after = NULL;
    struct live *live = agent_live(a);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (!(hooks & 1u << order[i])) {
            continue;
        }
        struct work *w = work_new(n, a, order[i]);
        w->done = hook_done;
        (void)span_text((struct span){(const uint8_t *)from, strlen(from)}, w->from,
                        sizeof w->from);
        mailbox_add_front(live, w, after);
        after = w;
    }
    gw_id id = a->id;
    work_pump(n, a);
    if (agent_find(n, &id) == a) {
        intent_run(n, a);
    }
}
