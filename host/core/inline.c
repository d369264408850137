/* Messages between agents of built-in types.
 *
 * Such an agent cannot wait for an answer, so it asks and names the method that gets it
 * (gw_ask_then). When the asked agent is a built-in one, too, and idle, and has its state at hand,
 * its handler is called straight away (gw_env.inline_run): no frame, no mailbox, no work. Whatever
 * is not that simple takes the way that all messages take: an agent elsewhere or of a plugin, one
 * that sleeps or is busy, a handler that leaves something to be written.
 *
 *   gw_ask_then -> its handler has returned, and what it saw is durable (inline_left)
 *     -> [queue] -> method of the asked agent -> [queue] -> `then` of the agent that asked
 *
 * The queue is worked off in turns of the loop, so that no handler runs inside another one, and two
 * agents that ask each other for ever leave the loop its time. Nothing of it is durable: what has
 * not been answered when the host ends never is. */
#include "host/core/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_MESSAGES 1024
#define TURN_US       1000
#define CLOCK_EVERY   16 /* messages between two looks at the clock */

/* An ask on the way that all messages take. */
struct inline_call {
    struct op_call call; /* first: the answer gives it back */
    LIST_ENTRY(inline_call) link;
    struct node *n;
    struct inline_ask *ask;
};

static void turn(void *arg);

/* By a timer, not by `defer`: between two turns the loop looks after everything else. */
static void arm(struct node *n)
{
    n->inline_armed = true;
    if (!n->inline_timer) {
        n->inline_timer = n->env->timer_new(n->env->ctx, turn, n);
    }
    n->env->timer_start(n->env->ctx, n->inline_timer, 0);
}

/* ---- asks: queued, away (with a work or a call), or ended ---- */

static void queue(struct node *n, struct inline_ask *ask)
{
    TAILQ_INSERT_TAIL(&n->inline_queue, ask, link);
    if (!n->inline_armed) {
        arm(n);
    }
}

static void send_away(struct node *n, struct inline_ask *ask)
{
    TAILQ_INSERT_TAIL(&n->inline_away, ask, link);
}

static void come_back(struct node *n, struct inline_ask *ask)
{
    TAILQ_REMOVE(&n->inline_away, ask, link);
}

static void end(struct node *n, struct inline_ask *ask)
{
    n->inline_count--;
    inline_ask_free(ask);
}

/* On its way to the agent that asked. `why` NULL: the reply stands in ask->args. */
static void answer(struct node *n, struct inline_ask *ask, const struct gw_error *why)
{
    ask->answered = true;
    if (why) {
        gw_value_free(&ask->args);
        ask->err = why->code;
        ask->text = xstrdup(why->text);
    }
    queue(n, ask);
}

static void send_all(struct node *n, const gw_id *from, const struct trace *trace,
                     struct inline_asks *asks)
{
    struct inline_ask *ask;
    struct gw_error why;
    while ((ask = TAILQ_FIRST(asks))) {
        TAILQ_REMOVE(asks, ask, link);
        ask->from = *from;
        ask->trace = *trace;
        if (++n->inline_count > LIMIT_INLINE_ASKS) {
            gw_fail(&why, GW_EBUSY, "%d asks of built-in agents wait for their answers",
                    LIMIT_INLINE_ASKS);
            answer(n, ask, &why);
        } else {
            queue(n, ask);
        }
    }
}

/* ---- straight away ---- */

/* Whether its handler may be called now, past mailbox and work. */
static bool is_ready(const struct node *n, const struct agent *a)
{
    const struct live *live = a->live;
    return live && a->type->builtin && a->status == AGENT_ACTIVE && live->known &&
           a->type->runner && live->incarnation == a->type->runner->incarnation && !live->current &&
           TAILQ_EMPTY(&live->queue) && !live->held && !pipeline_busy(live) && !a->move &&
           !a->intent && !a->pending && !a->waking && !a->unborn && !a->loading &&
           !a->start_waits && !a->starting && !n->loading;
}

/* A handler at work, and the work that its message would have been. */
struct running {
    struct node *n;
    struct agent *a;
    const struct trace *trace;
    struct inline_run in;
    struct inline_done done;
    struct gw_error why;
    int64_t begun_us;
};

static struct work *as_work(const struct running *r)
{
    struct work *w = work_new(r->n, r->a, HOOK_METHOD);
    w->method = xstrdup(r->in.method);
    w->sender = *r->in.sender;
    w->carry.trace = trace_child(r->n, r->trace);
    return w;
}

/* Few handlers look at their context. */
static void pack_context(void *arg, struct buf *out)
{
    struct work *w = as_work(arg);
    runner_context(w, out);
    work_free(w);
}

/* False: the engine does not have the state; nothing has happened, and `args` are there again. */
static bool run(struct running *r, const char *method, gw_value *args, const gw_id *sender,
                uint32_t flags)
{
    struct node *n = r->n;
    struct agent *a = r->a;
    r->begun_us = node_turn_us(n);
    r->in = (struct inline_run){.agent = &a->id,
                                .epoch = a->epoch,
                                .type = a->type->name,
                                .method = method,
                                .sender = sender,
                                .flags = flags,
                                .args = args,
                                .context = pack_context,
                                .arg = r};
    inline_done_init(&r->done, &r->why);
    n->env->inline_run(n->env->ctx, &r->in, &r->done);
    if (r->done.err == GW_EUNKNOWN) {
        a->live->incarnation = 0;
        return false;
    }
    int64_t took_us = node_turn_us(n) - r->begun_us;
    histogram_add(&n->metrics.handler, took_us);
    n->messages_count++;
    if (a->type->idle_ms > 0) {
        idle_touch(n, a);
    }
    return true;
}

/* Whether it leaves something to be written. */
static bool leaves(const struct running *r)
{
    return r->done.parts.len > 0 || r->done.actions.len > 0;
}

/* The rest of the way is that of any work; done() comes when what it leaves is durable. */
static void commit(struct running *r,
                   void (*done)(struct work *w, gw_err err, const struct run_result *result,
                                const struct gw_error *why),
                   void *arg)
{
    struct work *w = as_work(r);
    struct buf *kept = &w->kept;
    buf_add(kept, r->done.parts.data, r->done.parts.len);
    buf_add(kept, r->done.actions.data, r->done.actions.len);
    if (!buf_ok(kept)) {
        log_die("memory", "out of memory for what a handler has left");
    }
    w->result = (struct run_result){
        .parts = {kept->data, r->done.parts.len},
        .actions = {kept->data + r->done.parts.len, r->done.actions.len},
    };
    w->done = done;
    w->arg = arg;
    TAILQ_CONCAT(&w->thens, &r->done.asks, link);
    r->a->live->current = w;
    commit_result(w);
}

/* ---- to the agent that is asked ---- */

static void ask_written(struct work *w, gw_err err, const struct run_result *result,
                        const struct gw_error *why)
{
    struct inline_ask *ask = w->arg;
    (void)result;
    come_back(w->node, ask);
    answer(w->node, ask, err == GW_OK ? NULL : why);
}

static bool ask_at_once(struct node *n, struct agent *a, struct inline_ask *ask)
{
    struct running r = {.n = n, .a = a, .trace = &ask->trace};
    if (!run(&r, ask->method, &ask->args, &ask->from, 0)) {
        return false;
    }
    gw_value_free(&ask->args);
    ask->args = r.done.reply;
    r.done.reply = gw_nil();
    if (r.done.err == GW_OK && leaves(&r)) {
        send_away(n, ask);
        commit(&r, ask_written, ask);
    } else {
        metrics_message(&n->metrics, r.done.err, node_turn_us(n) - r.begun_us);
        if (r.done.err == GW_OK) {
            send_all(n, &a->id, &ask->trace, &r.done.asks);
        }
        answer(n, ask, r.done.err == GW_OK ? NULL : &r.why);
    }
    inline_done_free(&r.done);
    return true;
}

static void call_free(struct inline_call *c)
{
    LIST_REMOVE(c, link);
    gw_value_free(&c->call.args);
    gw_value_free(&c->call.context);
    free(c);
}

static void call_answered(struct op_call *call, gw_err err, gw_value *result,
                          const struct gw_error *why)
{
    struct inline_call *c = (struct inline_call *)call;
    struct node *n = c->n;
    struct inline_ask *ask = c->ask;
    struct gw_error general;
    for (size_t i = 0; result && result->kind == GW_MAP && i < result->map.n; i++) {
        if (strcmp(result->map.items[i].key, "reply") == 0) {
            ask->args = result->map.items[i].value;
            result->map.items[i].value = gw_nil();
        }
    }
    if (result) {
        gw_value_free(result);
    }
    if (err != GW_OK && !why) {
        gw_fail(&general, err, "%s", gw_err_text(err));
        why = &general;
    }
    come_back(n, ask);
    call_free(c);
    answer(n, ask, err == GW_OK ? NULL : why);
}

/* As any agent would. `free`: it does not wait, so that being asked back is no deadlock. */
static gw_err call_args(struct inline_ask *ask, struct op_call *call)
{
    char text[GW_ID_TEXT], trace[TRACE_TEXT];
    gw_value args = ask->args;
    ask->args = gw_nil();
    GW_TRY(gw_map_set(&call->args, "args", args));
    GW_TRY(gw_map_set(&call->args, "agent", gw_str(gw_id_text(&ask->agent, text))));
    GW_TRY(gw_map_set(&call->args, "method", gw_str(ask->method)));
    GW_TRY(gw_map_set(&call->context, "agent", gw_id_value(&ask->from)));
    GW_TRY(gw_map_set(&call->context, "traceparent", gw_str(trace_text(&ask->trace, trace))));
    return gw_map_set(&call->context, "free", gw_bool(true));
}

static void ask_by_call(struct node *n, struct inline_ask *ask)
{
    struct inline_call *c = xcalloc(1, sizeof *c);
    c->n = n;
    c->ask = ask;
    c->call =
        (struct op_call){.op = op_find("send"), .role = ROLE_OPERATOR, .answer = call_answered};
    if (call_args(ask, &c->call) != GW_OK) {
        log_die("memory", "out of memory for a message of a built-in agent");
    }
    LIST_INSERT_HEAD(&n->inline_calls, c, link);
    send_away(n, ask);
    node_call(n, &c->call);
}

/* ---- back to the agent that asked ---- */

static void then_failed(struct node *n, const struct agent *a, const struct trace *trace,
                        const struct gw_error *why)
{
    event_now(n, &(struct event){.kind = "message.failed",
                                 .agent = &a->id,
                                 .type = a->type->name,
                                 .trace = trace,
                                 .text = why->text});
}

static void then_ended(struct work *w, gw_err err, const struct run_result *result,
                       const struct gw_error *why)
{
    (void)result;
    if (err != GW_OK && !w->node->stopping) {
        then_failed(w->node, w->agent, &w->carry.trace, why);
    }
}

static bool then_at_once(struct node *n, struct agent *a, const struct inline_ask *ask,
                         gw_value *args)
{
    struct running r = {.n = n, .a = a, .trace = &ask->trace};
    if (!run(&r, ask->then, args, &ask->agent, RUN_ANSWER)) {
        return false;
    }
    if (r.done.err == GW_OK && leaves(&r)) {
        commit(&r, then_ended, NULL);
    } else {
        metrics_message(&n->metrics, r.done.err, node_turn_us(n) - r.begun_us);
        if (r.done.err == GW_OK) {
            send_all(n, &a->id, &ask->trace, &r.done.asks);
        } else {
            then_failed(n, a, &ask->trace, &r.why);
        }
    }
    inline_done_free(&r.done);
    return true;
}

static void then_by_work(struct node *n, struct agent *a, const struct inline_ask *ask,
                         const gw_value *args)
{
    struct work *w = work_new(n, a, HOOK_METHOD);
    w->method = xstrdup(ask->then);
    w->sender = ask->agent;
    w->carry.trace = trace_child(n, &ask->trace);
    w->flags = RUN_ANSWER;
    w->done = then_ended;
    value_pack(args, &w->args);
    if (!buf_ok(&w->args)) {
        log_die("memory", "out of memory for an answer to a built-in agent");
    }
    work_push(w, false);
}

/* ---- turns ---- */

static void deliver(struct node *n, struct inline_ask *ask)
{
    struct agent *a = agent_find(n, ask->answered ? &ask->from : &ask->agent);
    gw_value args = gw_nil();
    if (!ask->answered) {
        if (!a || !is_ready(n, a) || !ask_at_once(n, a, ask)) {
            ask_by_call(n, ask);
        }
        return;
    }
    if (a && inline_ask_answer(ask, &args) != GW_OK) {
        log_die("memory", "out of memory for an answer to a built-in agent");
    }
    if (a && (!is_ready(n, a) || !then_at_once(n, a, ask, &args))) {
        then_by_work(n, a, ask, &args);
    } /* without it: it has ended */
    gw_value_free(&args);
    end(n, ask);
}

static void turn(void *arg)
{
    struct node *n = arg;
    struct inline_ask *ask;
    int64_t until_us = n->env->mono_us(n->env->ctx) + TURN_US;
    n->inline_armed = true; /* until the end of this turn */
    for (int i = 1; i <= TURN_MESSAGES && (ask = TAILQ_FIRST(&n->inline_queue)); i++) {
        TAILQ_REMOVE(&n->inline_queue, ask, link);
        if (n->stopping) {
            end(n, ask);
        } else {
            deliver(n, ask);
        }
        if (i % CLOCK_EVERY == 0 && n->env->mono_us(n->env->ctx) >= until_us) {
            break;
        }
    }
    n->inline_armed = false;
    if (!TAILQ_EMPTY(&n->inline_queue)) {
        arm(n);
    }
}

/* ---- what came by frame ---- */

static gw_err take_ask(struct span args, struct inline_asks *ret)
{
    gw_value map = gw_nil();
    GW_TRY(value_unpack_span(args, &map));
    const gw_value *to = gw_map_get(&map, "agent"), *inner = gw_map_get(&map, "args");
    const char *method = gw_map_str(&map, "method", ""), *then = gw_map_str(&map, "then", "");
    struct inline_ask *ask = xcalloc(1, sizeof *ask);
    gw_err err =
        to && to->kind == GW_ID && name_is_valid(method) && name_is_valid(then) ? GW_OK : GW_EPROTO;
    if (err == GW_OK) {
        ask->agent = to->id;
        (void)snprintf(ask->method, sizeof ask->method, "%s", method);
        (void)snprintf(ask->then, sizeof ask->then, "%s", then);
        err = inner ? gw_value_copy(inner, &ask->args) : GW_OK;
    }
    gw_value_free(&map);
    if (err != GW_OK) {
        inline_ask_free(ask);
        return err;
    }
    TAILQ_INSERT_TAIL(ret, ask, link);
    return GW_OK;
}

void inline_left(struct work *w)
{
    struct mp m = mp_over(w->result.actions);
    size_t n = 0, fields;
    struct span verb, args;
    if (!w->agent->type->builtin || w->result.err != GW_OK) {
        return;
    }
    if (w->result.actions.n > 0 && mp_read_array(&m, &n) != GW_OK) {
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (mp_read_array(&m, &fields) != GW_OK || mp_read_str(&m, &verb) != GW_OK ||
            mp_skip(&m, &args) != GW_OK || mp_skip_n(&m, fields - 2) != GW_OK) {
            break;
        }
        if (span_is(verb, "ask") && take_ask(args, &w->thens) != GW_OK) {
            log_warn("agent.ask", "type=%s an ask that does not decode was dropped",
                     w->agent->type->name);
        }
    }
    send_all(w->node, &w->agent->id, &w->carry.trace, &w->thens);
}

void inline_init(struct node *n)
{
    TAILQ_INIT(&n->inline_queue);
    TAILQ_INIT(&n->inline_away);
}

void inline_free(struct node *n)
{
    n->env->timer_free(n->env->ctx, n->inline_timer);
    while (!LIST_EMPTY(&n->inline_calls)) {
        call_free(LIST_FIRST(&n->inline_calls));
    }
    inline_asks_free(&n->inline_queue);
    inline_asks_free(&n->inline_away);
}
