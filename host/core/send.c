/* Messages from clients: one request, one reply, applied once however often it is sent.
 *
 * A call with a key (the client library gives every one) is accepted, run and answered by one
 * transaction that also holds the recorded answer; a repeat, through whichever host, gets that
 * answer. `tell` answers when the message is durable in the inbox, before it runs. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

void send_answer(struct op_call *call, struct node *n, uint64_t epoch, struct span reply)
{
    gw_value result = gw_nil(), value = gw_nil();
    struct gw_error why;
    if (value_unpack_span(reply, &value) != GW_OK) {
        gw_fail(&why, GW_EPROTO, "the runner's reply does not decode");
        op_fail(call, &why);
        return;
    }
    if (gw_map_set(&result, "reply", value) != GW_OK ||
        gw_map_set(&result, "host", gw_str(n->name)) != GW_OK ||
        gw_map_set(&result, "epoch", gw_int((int64_t)epoch)) != GW_OK) {
        gw_value_free(&result);
    }
    op_ok(call, &result);
}

/* ---- who has asked whom ---- */

/* Until ask_ended, or the end of the handler. Returns its number. */
static uint64_t ask_began(struct node *n, struct live *asker, const gw_id *whom)
{
    if (asker->ask_count == asker->ask_cap) {
        uint32_t cap = asker->ask_cap ? asker->ask_cap * 2 : 2;
        struct asking *grown = realloc(asker->asks, cap * sizeof *grown);
        if (!grown) {
            log_die("memory", "out of memory for the asks of an agent");
        }
        asker->asks = grown;
        asker->ask_cap = cap;
    }
    asker->asks[asker->ask_count++] = (struct asking){.whom = *whom, .number = ++n->asks_count};
    return n->asks_count;
}

void ask_ended(struct node *n, const gw_id *asker, uint64_t number)
{
    struct agent *a = number ? agent_find(n, asker) : NULL;
    struct live *live = a ? a->live : NULL;
    for (uint32_t i = 0; live && i < live->ask_count; i++) {
        if (live->asks[i].number == number) {
            live->asks[i] = live->asks[--live->ask_count];
            return;
        }
    }
}

void asks_forget(struct live *live)
{
    live->ask_count = 0;
}

/* Whether `from` waits for `asker`, itself or through those that it has asked. More than
 * LIMIT_CHAIN that wait, one for the other, count as a circle. */
static bool waits_for(struct node *n, const struct agent *from, const struct agent *asker,
                      uint64_t walk, int depth)
{
    if (from == asker || depth > LIMIT_CHAIN) {
        return true;
    }
    if (!from->live || from->live->circle_seen == walk) {
        return false;
    }
    from->live->circle_seen = walk;
    for (uint32_t i = 0; i < from->live->ask_count; i++) {
        const struct agent *next = agent_find(n, &from->live->asks[i].whom);
        if (next && waits_for(n, next, asker, walk, depth + 1)) {
            return true;
        }
    }
    return false;
}

static void send_done(struct work *w, gw_err err, const struct run_result *r,
                      const struct gw_error *why)
{
    struct op_call *call = w->arg;
    if (err == GW_OK && w->later) {
        later_wait(w);
        return;
    }
    ask_ended(w->node, &w->sender, w->ask);
    if (err == GW_OK) {
        send_answer(call, w->node, w->agent->epoch, r->reply);
    } else {
        op_fail(call, why);
    }
}

/* ---- tell: the inbox row first, then the work ---- */

struct telling {
    struct node *n;
    struct op_call *call;
    gw_id agent;
    uint64_t epoch;
    struct work *w;
};

/* Its sender has been answered; a failure is an event (commit.c). */
static void tell_ran(struct work *w, gw_err err, const struct run_result *r,
                     const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why;
}

static void told(void *arg, gw_err err)
{
    struct telling *t = arg;
    struct gw_error why;
    struct agent *a = agent_find(t->n, &t->agent);
    if (a && a->epoch == t->epoch && a->live && a->live->arriving > 0) {
        a->live->arriving--;
    }
    bool keyed = a && a->epoch == t->epoch && a->live &&
                 t->w->has_key; /* else read anew, as it is on disk */
    struct seen_request *seen = keyed ? request_find(a->live, t->w->key) : NULL;
    if (err != GW_OK) {
        gw_fail(&why, err, "the message could not be written: %s", gw_err_text(err));
        op_fail(t->call, &why);
        if (seen && seen->at_ms < 0) {
            request_forget(a->live, seen);
        }
        work_free(t->w);
    } else {
        if (seen) {
            seen->at_ms = node_now_ms(t->n);
        }
        t->w->has_key = false; /* it has been recorded with the acceptance, not with the run */
        send_answer(t->call, t->n, t->epoch, (struct span){0});
        if (a && a->epoch == t->epoch) {
            work_push(t->w, false);
        } else {
            work_free(t->w); /* its row went with the agent */
        }
    }
    free(t);
}

static void tell_local(struct node *n, struct op_call *call, struct agent *a, struct work *w)
{
    struct telling *t = xcalloc(1, sizeof *t);
    struct store_batch *batch = store_batch_new();
    *t = (struct telling){n, call, a->id, a->epoch, w};
    w->done = tell_ran;
    w->arg = w->call = NULL;
    inbox_put(a, w, batch);
    a->live->arriving++;
    if (w->has_key) { /* a repeat is answered, not accepted again */
        request_record(w, batch, node_now_ms(n));
        request_remember(w, -1);
    }
    node_commit(n, batch, POINT_TELL_TAKEN, told, t);
}

/* ---- the way in ---- */

static bool admit(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    if (a->status == AGENT_QUARANTINED) {
        (void)crashes_refuse(a, &why);
    } else if (a->status == AGENT_INACTIVE &&
               ((a->no_wake && !gw_map_bool(&call->args, "tell", false)) ||
                gw_map_bool(&call->args, "no_wake", false))) {
        gw_fail(&why, GW_EINACTIVE, "the agent is inactive and is not woken by this message");
        gw_hint(&why, "`godwit activate` wakes it");
    } else {
        return pressure_admits(n, call, a);
    }
    op_fail(call, &why);
    return false;
}

/* An ask whose chain of callers comes back to this agent would wait for itself. */
static bool comes_back(const struct op_call *call, const struct agent *a)
{
    const gw_value *chain = gw_map_get(&call->context, "chain");
    if (chain && chain->kind == GW_LIST && chain->list.n > LIMIT_CHAIN) {
        return true;
    }
    for (size_t i = 0; chain && chain->kind == GW_LIST && i < chain->list.n; i++) {
        const gw_value *id = &chain->list.items[i];
        if (id->kind == GW_ID && gw_id_equal(&id->id, &a->id)) {
            return true;
        }
    }
    return false;
}

/* What the call asks for, as work of the agent; nothing is checked or queued yet. */
static struct work *work_of_call(struct node *n, struct op_call *call, struct agent *a)
{
    const gw_value *args = gw_map_get(&call->args, "args");
    const char *key = gw_map_str(&call->args, "key", NULL);
    const gw_value *sender = gw_map_get(&call->context, "agent");
    const gw_value *chain = gw_map_get(&call->context, "chain");
    struct work *w = work_new(n, a, HOOK_METHOD);
    w->method = xstrdup(gw_map_str(&call->args, "method", ""));
    if (args && args->kind != GW_NIL) {
        value_pack(args, &w->args);
    }
    if (sender && sender->kind == GW_ID) {
        w->sender = sender->id;
    }
    if (chain && chain->kind == GW_LIST) {
        value_pack(chain, &w->chain);
    }
    w->flags = gw_map_bool(&call->args, "text", false) ? RUN_TEXT_ARGS : 0;
    carry_of_call(n, call, &w->carry);
    if (key) {
        request_key_of(key, w->key);
        w->has_key = true;
    } else {
        char made[2 * REQUEST_KEY_BYTES + 1];
        node_random(n, w->seed, sizeof w->seed);
        request_key_text(w->seed, made);
        request_key_of(made, w->key);
    }
    w->done = send_done;
    w->arg = call;
    w->call = call;
    return w;
}

static bool has_parked(const struct work_queue *queue)
{
    const struct work *w;
    TAILQ_FOREACH (w, queue, link) {
        if (w->parked) {
            return true;
        }
    }
    return false;
}

/* While an agent moves, no one-way message is accepted: it waits like an ask, and its key is
 * recorded when it has run. Until the last of them has, others wait behind it in the same way, or a
 * repeat would be accepted beside the one that waits. */
static bool parks(struct agent *a)
{
    struct live *live = a->live;
    if (live && live->parks) {
        live->parks = (live->current && live->current->parked) ||
                      (live->suspended && live->suspended->parked) ||
                      has_parked(&live->committing) || has_parked(&live->queue);
    }
    return a->move || (live && live->parks);
}

/* A one-way message that has been accepted already, or is being: it is answered. */
static bool is_repeat(struct node *n, struct op_call *call, struct agent *a, const struct work *w)
{
    const struct seen_request *seen = w->has_key ? request_find(a->live, w->key) : NULL;
    if (seen && seen->at_ms < 0) {
        call_again_later(n, call); /* its acceptance is on the way to the disk */
    } else if (seen) {
        send_answer(call, n, a->epoch, (struct span){0});
    }
    return seen != NULL;
}

static void send_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    const gw_value *sender = gw_map_get(&call->context, "agent");
    bool tell = gw_map_bool(&call->args, "tell", false);
    if (!admit(n, call, a)) {
        return;
    }
    if (!tell && comes_back(call, a)) {
        gw_fail(&why, GW_EDEADLOCK,
                "the call comes back to an agent that waits for it, or is one of more than %d that "
                "wait for "
                "each other",
                LIMIT_CHAIN);
        op_fail(call, &why);
        return;
    }
    bool waits = sender && sender->kind == GW_ID && !gw_map_bool(&call->context, "free", false);
    struct agent *asker = waits ? agent_find(n, &sender->id) : NULL;
    /* Handlers that ask each other's agents at the same moment have separate chains. */
    if (!tell && asker && waits_for(n, a, asker, ++n->asks_count, 0)) {
        gw_fail(&why, GW_EDEADLOCK,
                "the agent asks, itself or through others, the one that asks it");
        op_fail(call, &why);
        return;
    }
    if (tell && (a->unborn || agent_is_ending(a))) {
        call_again_later(n, call); /* no row may stand before that of the agent */
        return;
    }
    bool parked = tell && parks(a);
    if (tell && !parked && !agent_live(a)->known) {
        work_learn(n, a, call);
        return;
    }
    struct work *w = work_of_call(n, call, a);
    if (!buf_ok(&w->args) || !buf_ok(&w->chain) || w->args.len > LIMIT_ARGS_BYTES) {
        gw_fail(&why, GW_ETOO_BIG, "the arguments have %zu bytes, the limit is %u", w->args.len,
                LIMIT_ARGS_BYTES);
        work_free(w);
        op_fail(call, &why);
        return;
    }
    if (asker && asker->live && !tell) {
        w->ask = ask_began(n, asker->live, &a->id); /* until send_done */
    }
    if (tell && !parked && is_repeat(n, call, a, w)) {
        work_free(w);
        return;
    }
    n->messages_count++;
    if (tell && !parked) {
        tell_local(n, call, a, w);
    } else {
        w->parked = parked;
        agent_live(a)->parks |= parked;
        mailbox_date(w);
        work_push(w, false);
    }
}

void op_send(struct node *n, struct op_call *call)
{
    struct gw_error why;
    const char *method = gw_map_str(&call->args, "method", "");
    if (!name_is_valid(method)) {
        gw_fail(&why, GW_EARG, "\"%.64s\" is not a method name", method);
        op_fail(call, &why);
    } else if (request_key_check(gw_map_str(&call->args, "key", NULL), &why) != GW_OK) {
        op_fail(call, &why);
    } else {
        route_call(n, call, send_local);
    }
}
