/* A handler's result as one transaction: changed parts of the state, the recorded answer of a
 * request, the messages it sent, timers, the inbox row it consumed, the hook bit it cleared, what
 * it asked about itself.
 *
 * Nothing of it leaves before the transaction is durable (I5): done() and the actions run from the
 * completion (pipeline.c). A transaction that was certainly rolled back (disk full) fails the work;
 * the runner's object is then newer than the store, so it is loaded again. Read-only results skip
 * the store. */
#include "host/core/itinerary.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

void commit_parts(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span parts)
{
    struct mp m = mp_over(parts);
    size_t pairs;
    if (parts.n == 0 || mp_read_map(&m, &pairs) != GW_OK) {
        return; /* nil: nothing changed */
    }
    for (size_t i = 0; i < pairs; i++) {
        struct span name, value;
        uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
        row_key(raw, agent, epoch);
        if (mp_read_str(&m, &name) != GW_OK || name.n > LIMIT_NAME_BYTES) {
            return;
        }
        memcpy(raw + ROW_KEY_BYTES, name.p, name.n);
        struct span key = {raw, ROW_KEY_BYTES + name.n};
        if (mp_peek(&m) == MP_NIL) {
            gw_err nil = mp_read_nil(&m);
            gw_assert(nil == GW_OK);
            store_batch_del(batch, TABLE_STATES, key);
        } else if (mp_read_bin(&m, &value) == GW_OK) {
            store_batch_put(batch, TABLE_STATES, key, value);
        } else {
            return;
        }
    }
}

/* ---- recorded answers ---- */

static struct span request_key(uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES],
                               const struct agent *a, const uint8_t key[REQUEST_KEY_BYTES])
{
    row_key(raw, &a->id, a->epoch);
    memcpy(raw + ROW_KEY_BYTES, key, REQUEST_KEY_BYTES);
    return (struct span){raw, ROW_KEY_BYTES + REQUEST_KEY_BYTES};
}

/* The oldest ones make room for `count` more with `bytes`; those that are owed only when it is
 * their time. When this is rolled back, they are forgotten all the same. */
void requests_make_room(struct agent *a, struct store_batch *batch, int64_t now_ms, size_t bytes,
                        size_t count)
{
    struct live *live = a->live;
    uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES];
    size_t kept = 0, i = 0;
    count += live->request_count;
    for (size_t k = 0; k < live->request_count; k++) {
        bytes += live->requests[k].bytes;
    }
    for (; i < live->request_count; i++) {
        struct seen_request *r = &live->requests[i];
        bool over = count > LIMIT_REQUESTS_PER_AGENT || bytes > LIMIT_REQUESTS_BYTES;
        bool old = r->at_ms >= 0 && r->at_ms < now_ms - LIMIT_REQUEST_AGE_MS;
        if (!over && !old) {
            break; /* those behind it are younger */
        }
        /* The newest stay whatever the clock says: it may have been set, or be another host's. */
        bool spared = (!over && count <= LIMIT_REQUESTS_KEPT) || (r->owed && !old);
        if (r->at_ms < 0 || r->answering || spared) {
            live->requests[kept++] = *r;
            continue;
        }
        count--;
        bytes -= r->bytes;
        store_batch_del(batch, TABLE_REQUESTS, request_key(raw, a, r->key));
        unsaved_drop_answer(a, r->key);
    }
    if (i > kept) {
        memmove(live->requests + kept, live->requests + i,
                (live->request_count - i) * sizeof *live->requests);
        live->request_count -= i - kept;
    }
}

void request_record(struct work *w, struct store_batch *batch, int64_t now_ms)
{
    uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES];
    struct buf value = {0};
    request_pack(w, now_ms, &value);
    store_batch_put_take(batch, TABLE_REQUESTS, request_key(raw, w->agent, w->key), &value);
    buf_free(&value);
    requests_make_room(w->agent, batch, now_ms, w->result.reply.n, 1);
}

void request_remember(struct work *w, int64_t now_ms)
{
    request_add(w->agent->live, w->key, now_ms, w->result.reply.n)->owed = w->later;
}

struct seen_request *request_find(struct live *live, const uint8_t key[REQUEST_KEY_BYTES])
{
    for (size_t i = 0; i < live->request_count; i++) {
        if (memcmp(live->requests[i].key, key, REQUEST_KEY_BYTES) == 0) {
            return &live->requests[i];
        }
    }
    return NULL;
}

void request_forget(struct live *live, struct seen_request *r)
{
    size_t behind = (size_t)(live->requests + live->request_count - (r + 1));
    memmove(r, r + 1, behind * sizeof *r);
    live->request_count--;
}

/* ---- actions: [[verb, args], ...] ---- */

/* Tells, timers and monitors go into the batch; true when there are wishes (then the agent's row
 * has to be written). */
static bool put_actions(struct work *w, struct store_batch *batch)
{
    struct mp m = mp_over(w->result.actions);
    size_t n = 0, fields;
    if (w->result.actions.n == 0 || mp_read_array(&m, &n) != GW_OK) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct span raw, verb, args;
        if (mp_skip(&m, &raw) != GW_OK) {
            break;
        }
        struct mp one = mp_over(raw);
        if (mp_read_array(&one, &fields) != GW_OK || mp_read_str(&one, &verb) != GW_OK ||
            mp_skip(&one, &args) != GW_OK) {
            break;
        }
        if (span_is(verb, "tell")) {
            tells_action(w, batch, args);
            w->point = POINT_MESSAGE_TELLS;
        } else if (span_is(verb, "save")) {
            w->asks_save = true;
        } else if (timers_is_action(verb)) {
            timers_action(w, batch, verb, args);
            w->point = POINT_MESSAGE_TIMERS;
            w->closes = true;
        } else if (topics_is_action(verb)) {
            topics_action(w, batch, verb, args);
            w->point = POINT_MESSAGE_TOPICS;
        } else if (watches_is_action(verb)) {
            watches_action(w, batch, verb, args);
            w->point = POINT_MESSAGE_MONITORS;
            w->closes = true;
        } else if (files_is_action(verb)) {
            files_action(w, batch, verb, args);
            w->point = POINT_MESSAGE_FILES;
            w->closes = true;
        } else if (span_is(verb, "itinerary")) {
            itinerary_action(w, batch, args);
        } else if (later_is_action(verb)) {
            later_action(w, batch, verb, args);
            w->point = POINT_MESSAGE_LATER;
            w->closes = true;
        }
    }
    if (!intents_add(w)) {
        return false;
    }
    w->point = POINT_MESSAGE_WISHES;
    return true;
}

/* ---- the transaction ---- */

static void failed_once(struct work *w, struct store_batch *batch)
{
    bool message = w->inbox && w->hook == HOOK_METHOD; /* a timer's is a hook */
    bool dead = message && w->poison;
    if (!message) {
        crashes_hook_failed(w);
    }
    if (dead) {
        dead_put(w, batch);
    }
    event_put(w->node, batch,
              &(struct event){.kind = w->expired ? "message.expired"
                                      : dead     ? "message.dead"
                                      : message  ? "message.failed"
                                                 : "hook.failed",
                              .agent = &w->agent->id,
                              .type = w->agent->type->name,
                              .text = w->result.why.text});
}

void commit_unload(struct agent *a)
{
    struct live *live = a->live;
    if (a->type->runner && live->incarnation &&
        !live->suspended) { /* else a handler points to it */
        runner_unload(a->type->runner, &a->id);
    }
    live->incarnation = 0;
    live->have_parts = false;
}

void commit_finish(struct work *w)
{
    struct seen_request *seen =
        w->written && w->has_key ? request_find(w->agent->live, w->key) : NULL;
    if (seen) {
        seen->at_ms = node_now_ms(w->node);
    }
    if (w->saves) {
        unsaved_forget(w->agent);
    }
    if (w->keeps) {
        unsaved_keep(w, !w->written);
    }
    if (w->written) {
        tells_committed(w);
        timers_committed(w);
        topics_committed(w);
        watches_committed(w);
        files_committed(w);
        itinerary_committed(w);
        later_committed(w);
    }
    inline_left(w);
    work_finish(w, w->result.err, w->result.err == GW_OK ? &w->result : NULL,
                w->result.err == GW_OK ? NULL : &w->result.why);
}

void commit_undo(struct work *w)
{
    struct seen_request *seen =
        w->written && w->has_key ? request_find(w->agent->live, w->key) : NULL;
    if (!w->written) {
        return;
    }
    if (seen) {
        request_forget(w->agent->live, seen);
    }
    tells_rolled_back(w);
    if (w->dead) {
        w->dead = false;
        dead_load(w->node);
    }
    intents_undo(w);
    timers_rolled_back(w);
    watches_rolled_back(w);
    itinerary_undo(w);
    later_rolled_back(w);
    w->agent->pending |= w->cleared;
    w->rolled_back = true;
}

void commit_fail(struct work *w, gw_err err)
{
    struct gw_error why;
    REACH(RESULT_FAILED);
    gw_fail(&why, err, "the result could not be written and was rolled back: %s", gw_err_text(err));
    gw_hint(&why,
            err == GW_EDISK_FULL ? "make room on the disk of host \"%s\" and send it again"
                                 : "host \"%s\" keeps the last committed state",
            w->node->name);
    work_fail(w, &why);
}

/* A handler that leaves more than there is room for has failed. False: it has been told. */
static bool fits(struct work *w)
{
    struct gw_error why;
    if (w->result.err != GW_OK || w->flags & RUN_DISCARD ||
        (tells_fit(w, &why) && intents_fit(w, &why) && timers_check(w, &why) == GW_OK &&
         watches_check(w, &why) == GW_OK && files_check(w, &why) == GW_OK &&
         itinerary_check_action(w, &why) == GW_OK &&
         later_check(w, &why) == GW_OK)) { /* last: it marks what is answered */
        return true;
    }
    commit_unload(w->agent);
    w->result = (struct run_result){.err = why.code, .why = why};
    if (work_waits(w)) {
        return true; /* committed as failed */
    }
    commit_nothing(w);
    return false;
}

/* A volatile agent: what is written of its state is how its life here began. */
static bool begins_life(const struct work *w)
{
    return w->hook == HOOK_CREATE || w->hook == HOOK_ARRIVE || w->hook == HOOK_RETRACT ||
           w->hook == HOOK_CLONE;
}

/* The state that it leaves: into the transaction, or to be kept in memory. Behind everything else,
 * for with transitions it goes along with whatever else is written. */
static void put_state(struct work *w, struct store_batch *batch)
{
    struct agent *a = w->agent;
    bool ok = w->result.err == GW_OK && !(w->flags & RUN_DISCARD);
    bool any = store_batch_count(batch) > 0 || w->later || w->asks_save;
    struct span parts = ok ? w->result.parts : (struct span){0};
    w->keeps =
        ok && (a->type->durability == DURABLE_VOLATILE ? !begins_life(w) : unsaved_is(a) && !any);
    if (!w->keeps) {
        commit_parts(batch, &a->id, a->epoch, parts);
    }
    any = store_batch_count(batch) > 0 || w->later;
    w->saves = any && a->unsaved && a->type->durability != DURABLE_VOLATILE;
    if (w->saves) {
        unsaved_put(a, batch, parts);
    }
    w->closes |= any && (unsaved_is(a) || w->saves);
}

static void put_result(struct work *w, struct store_batch *batch)
{
    struct agent *a = w->agent;
    bool ok = w->result.err == GW_OK, discard = w->flags & RUN_DISCARD, wishes = false;
    uint32_t bit = w->cancelled ? 0 : a->pending & 1u << w->hook;
    w->wish_from = w->wish_to = 0;
    w->point = POINT_NONE;
    if (ok && !discard) {
        wishes = put_actions(w, batch);
        w->closes |= wishes;
    }
    bool stepped = !discard && itinerary_step(w);
    w->closes |= w->steps;
    a->pending &= ~bit;
    w->cleared = bit;
    if (w->prepare && ok) {
        w->prepare(w, &w->result, batch);
    } else if (bit || wishes || stepped || w->steps) {
        agent_put_row(batch, a, a->status == AGENT_MOVING ? AGENT_ACTIVE : a->status, a->pending,
                      a->intent);
    }
    if (w->inbox) {
        inbox_del(a, w->inbox, batch);
    }
    if (!ok && !(w->cancelled && w->result.err == GW_ECANCELLED)) {
        failed_once(w, batch);
    }
    put_state(w, batch);
}

static commit_point result_point(const struct work *w)
{
    if (w->point != POINT_NONE) {
        return w->point;
    }
    switch (w->hook) {
    case HOOK_METHOD: return POINT_MESSAGE;
    case HOOK_TIMER: return POINT_TIMER;
    case HOOK_DOWN: return POINT_DOWN;
    case HOOK_RUN: return POINT_RUN;
    case HOOK_NONE: return POINT_SAVE;
    default: return POINT_ARRIVE;
    }
}

void commit_nothing(struct work *w)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    if (!pipeline_busy(a->live)) {
        commit_finish(w);
        return;
    }
    pipeline_add(w, false);
    work_pump(n, a);
}

void commit_result(struct work *w)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    if (a->live->broken != GW_OK) {
        commit_nothing(w); /* what it has seen is void */
        return;
    }
    if (!fits(w)) {
        return;
    }
    struct store_batch *batch = store_batch_new();
    if (!batch) {
        log_die("memory", "out of memory for a transaction");
    }
    struct trace before = trace_enter(n, &w->carry.trace); /* of its events, and what it asks for */
    put_result(w, batch);
    (void)trace_enter(n, &before);
    if (store_batch_count(batch) == 0 &&
        !w->later) { /* a read: nothing to keep, it is simply run again */
        store_batch_free(batch);
        commit_nothing(w);
        return;
    }
    if (w->has_key && w->result.err == GW_OK) {
        request_record(w, batch, node_now_ms(n));
        request_remember(w, -1);
    }
    pipeline_chain(a, batch);
    pipeline_add(w, true);
    node_commit(n, batch, result_point(w), pipeline_durable, w);
    work_pump(n, a);
}
