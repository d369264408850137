/* Itineraries: a list of stops that an agent works off by itself.
 *
 *   move to the host of the stop --> {message of its method, row} --> {result, row} --> next stop
 *     |   not reached: wait, try again, or skip it, as the stop says                 (commit.c)
 *     +-> no stop left: {message on_itinerary_done, row}, over
 *
 * The list with all results is part of the agent's row: it is durable, travels in the ticket's row,
 * and sleeps with the agent. Each step is one transaction with the row, so that a stop's method
 * runs once: its message enters the inbox with the row that names its number (`inbox`), and leaves
 * it with the row that holds the result. A number that the inbox does not have after loading was
 * rolled back, and the step is made again. `to` says which host this leg goes to: arriving there is
 * being at the stop; being sent elsewhere by somebody is not, and the journey goes on from there.
 * Going home is a last stop, at the host_id of home, that waits. */
#include "host/core/itinerary.h"
#include "host/core/handoff.h"
#include "host/core/reach.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_FIRST_US 1000000LL
#define RETRY_MAX_US   30000000LL
#define GRACE_US       30000000LL /* links are still coming up after a start */

/* ---- steps: what a transaction changes, and what becomes of it ---- */

/* As it was before w changes it, for a roll-back. */
static void remember(struct work *w)
{
    const struct itinerary *it = w->agent->itinerary;
    bool first = !w->steps;
    w->steps = true;
    if (it && first) {
        itinerary_pack(it, &w->itinerary);
    }
}

void itinerary_undo(struct work *w)
{
    struct agent *a = w->agent;
    struct itinerary *before = NULL;
    if (!w->steps) {
        return;
    }
    if (w->itinerary.len > 0) {
        gw_err err = itinerary_unpack(buf_span(&w->itinerary), &before);
        gw_assert(err == GW_OK);
    }
    itinerary_free(a->itinerary);
    a->itinerary = before;
    buf_free(&w->itinerary);
    w->steps = false;
    w->revokes = 0;
}

/* Another itinerary, or none, takes the place of the present one; a message of it that waits is
 * taken back. */
static void replace(struct work *w, struct store_batch *batch, struct itinerary *it)
{
    struct agent *a = w->agent;
    uint64_t inbox = a->itinerary ? a->itinerary->inbox : 0;
    remember(w);
    if (inbox && inbox != w->inbox) {
        w->revokes = inbox;
        inbox_del(a, inbox, batch);
    }
    itinerary_free(a->itinerary);
    a->itinerary = it;
}

/* Stop here: what is done stays to be seen. */
static struct itinerary *cancelled(const struct agent *a)
{
    struct buf packed = {0};
    struct itinerary *it = NULL;
    if (a->itinerary) {
        itinerary_pack(a->itinerary, &packed);
        gw_err err = itinerary_unpack(buf_span(&packed), &it);
        gw_assert(err == GW_OK);
        it->over = true;
        it->inbox = 0;
        it->bound = false;
    }
    buf_free(&packed);
    return it;
}

gw_err itinerary_check_action(const struct work *w, struct gw_error *why)
{
    struct mp m = mp_over(w->result.actions);
    size_t n = 0, fields;
    if (w->result.actions.n == 0 || mp_read_array(&m, &n) != GW_OK) {
        return GW_OK;
    }
    for (size_t i = 0; i < n; i++) {
        struct span raw, verb, packed;
        struct itinerary *it = NULL;
        gw_value args = gw_nil();
        GW_TRY(mp_skip(&m, &raw));
        struct mp one = mp_over(raw);
        GW_TRY(mp_read_array(&one, &fields));
        GW_TRY(mp_read_str(&one, &verb));
        if (!span_is(verb, "itinerary")) {
            continue;
        }
        GW_TRY(mp_skip(&one, &packed));
        gw_err err = value_unpack_span(packed, &args);
        if (err == GW_OK && !gw_map_bool(&args, "cancel", false)) {
            err = itinerary_of_args(w->agent, &args, &it, why);
        }
        itinerary_free(it);
        gw_value_free(&args);
        GW_TRY(err);
    }
    return GW_OK;
}

void itinerary_action(struct work *w, struct store_batch *batch, struct span packed)
{
    struct itinerary *it = NULL;
    struct gw_error why;
    gw_value args = gw_nil();
    if (value_unpack_span(packed, &args) == GW_OK) { /* itinerary_check_action has seen it before */
        if (gw_map_bool(&args, "cancel", false)) {
            replace(w, batch, cancelled(w->agent));
        } else if (itinerary_of_args(w->agent, &args, &it, &why) == GW_OK) {
            replace(w, batch, it);
        }
    }
    gw_value_free(&args);
}

static void next_stop(struct itinerary *it)
{
    it->at++;
    it->inbox = 0;
    it->tries = 0;
    it->bound = false;
    it->next_us = 0;
}

static void end_stop(struct node *n, struct agent *a, stop_state state, gw_err code,
                     const char *text)
{
    struct stop *s = &a->itinerary->stops[a->itinerary->at];
    s->state = state;
    s->code = code;
    s->at_ms = node_now_ms(n);
    free(s->text);
    s->text = itinerary_text((struct span){(const uint8_t *)text, strlen(text)});
    if (state != STOP_SKIPPED) {
        (void)span_text((struct span){(const uint8_t *)n->name, strlen(n->name)}, s->host,
                        sizeof s->host);
    }
    next_stop(a->itinerary);
}

bool itinerary_step(struct work *w)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct itinerary *it = a->itinerary;
    if (!it || !w->inbox || it->inbox != w->inbox) {
        return false;
    }
    remember(w);
    struct stop *s = &it->stops[it->at];
    struct span reply = w->result.reply;
    char text[80] = "";
    if (w->result.err != GW_OK) {
        end_stop(n, a, STOP_FAILED, w->result.err, w->result.why.text);
        return true;
    }
    if (reply.n <= LIMIT_STOP_BYTES) {
        buf_add(&s->reply, reply.p, reply.n);
    } else {
        (void)snprintf(text, sizeof text, "the reply of %zu bytes is not kept, the limit is %d",
                       reply.n, LIMIT_STOP_BYTES);
    }
    end_stop(n, a, STOP_DONE, GW_OK, text);
    return true;
}

void itinerary_committed(struct work *w)
{
    struct work *x;
    if (w->revokes && w->agent->live) {
        TAILQ_FOREACH (x, &w->agent->live->queue, link) {
            if (x->inbox == w->revokes) {
                work_withdraw(x);
                break;
            }
        }
    }
    w->revokes = 0;
}

void itinerary_loaded(struct agent *a)
{
    struct itinerary *it = a->itinerary;
    const struct work *w;
    if (!it || !it->inbox) {
        return;
    }
    if (a->live) {
        TAILQ_FOREACH (w, &a->live->queue, link) {
            if (w->inbox == it->inbox) {
                return;
            }
        }
    }
    it->inbox = 0; /* its transaction was rolled back behind that of another row */
}

/* ---- a step of its own: a piece of work past the runner ---- */

struct step {
    gw_err skip; /* the stop is skipped for this; GW_OK: it goes on */
    char text[LIMIT_ERROR_TEXT_BYTES];
    uint64_t inbox; /* number of the message that it sends; 0 = none */
    uint8_t key[REQUEST_KEY_BYTES];
};

static void message_done(struct work *w, gw_err err, const struct run_result *r,
                         const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why; /* what came of it stands in the row (commit.c) */
}

/* The method of the present stop, or what the agent hears when all are behind it; NULL: none. */
static struct work *step_message(struct node *n, struct agent *a, const struct step *step)
{
    const struct itinerary *it = a->itinerary;
    const struct stop *s = it->over ? NULL : &it->stops[it->at];
    const char *method = s ? s->method : "on_itinerary_done";
    gw_value args = {0}, stops = {0};
    if (s ? !method[0] : !intents_has_method(a->type, method)) {
        return NULL;
    }
    struct work *w = work_new(n, a, HOOK_METHOD);
    w->method = xstrdup(method);
    w->done = message_done;
    memcpy(w->key, step->key, sizeof w->key); /* of its asks */
    if (s) {
        w->flags = it->text ? RUN_TEXT_ARGS : 0;
        buf_add(&w->args, s->args.data, s->args.len);
    } else if (itinerary_describe_stops(it, &stops) == GW_OK &&
               gw_map_set(&args, "stops", stops) == GW_OK) {
        value_pack(&args, &w->args);
    }
    gw_value_free(&args);
    return w;
}

static void take_step(struct node *n, struct agent *a, struct step *step, struct store_batch *batch)
{
    struct itinerary *it = a->itinerary;
    struct event e = {.kind = "itinerary.skip", .agent = &a->id, .type = a->type->name};
    if (it->at == it->count) {
        it->over = true;
        e.kind = "itinerary.end";
        event_put(n, batch, &e);
    } else if (step->skip != GW_OK) {
        e.text = step->text;
        event_put(n, batch, &e);
        end_stop(n, a, STOP_SKIPPED, step->skip, step->text);
        return;
    }
    struct work *message = step_message(n, a, step);
    if (message) {
        inbox_put(a, message, batch);
        step->inbox = message->inbox;
        it->inbox = it->over ? 0 : message->inbox;
        work_free(message); /* made again when its row is durable */
    } else if (!it->over) {
        end_stop(n, a, STOP_DONE, GW_OK, "");
    }
}

static void step_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct agent *a = w->agent;
    w->point = POINT_ITINERARY_STEP;
    (void)r;
    remember(w);
    if (itinerary_goes_on(a) && !a->itinerary->inbox) { /* else replaced meanwhile */
        take_step(w->node, a, w->arg, batch);
    }
    agent_put_row(batch, a, a->status == AGENT_MOVING ? AGENT_ACTIVE : a->status, a->pending,
                  a->intent);
}

static void step_done(struct work *w, gw_err err, const struct run_result *r,
                      const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct step *step = w->arg;
    struct itinerary *it = a->itinerary;
    (void)r, (void)why;
    if (it) {
        it->busy = false;
    }
    if (it && err == GW_OK && step->inbox) {
        struct work *message = step_message(n, a, step);
        gw_assert(message);
        message->inbox = step->inbox;
        work_push(message, false);
    } else if (it && err != GW_OK && !n->stopping) {
        REACH(STEP_ROLLED_BACK);
        it->next_us = n->env->mono_us(n->env->ctx) + RETRY_FIRST_US;
        n->itineraries_wait = true;
    }
    free(step);
}

static void make_step(struct node *n, struct agent *a, gw_err skip, const char *text)
{
    struct step *step = xcalloc(1, sizeof *step);
    struct work *w = work_new(n, a, HOOK_NONE);
    step->skip = skip;
    node_random(n, step->key, sizeof step->key);
    (void)span_text((struct span){(const uint8_t *)text, strnlen(text, sizeof step->text - 1)},
                    step->text, sizeof step->text);
    w->lifecycle = true;
    w->direct = true;
    w->closes = true;
    w->prepare = step_prepare;
    w->done = step_done;
    w->arg = step;
    w->arg_heap = true;
    a->itinerary->busy = true;
    work_push(w, false);
}

/* ---- going on ---- */

static int64_t pause_us(uint32_t tries)
{
    int64_t us = RETRY_FIRST_US;
    for (uint32_t i = 1; i < tries && us < RETRY_MAX_US; i++) {
        us *= 2;
    }
    return us < RETRY_MAX_US ? us : RETRY_MAX_US;
}

/* The stop was not reached. */
static void missed(struct node *n, struct agent *a, gw_err err, const struct gw_error *why)
{
    struct itinerary *it = a->itinerary;
    const struct stop *s = &it->stops[it->at];
    int64_t now = n->env->mono_us(n->env->ctx);
    bool passes = err == GW_ECONFLICT || err == GW_EARRIVING || err == GW_EPENDING;
    bool early = now - n->ready_us < GRACE_US && (err == GW_EUNREACHABLE || err == GW_EREFUSED);
    it->bound = false;
    REACH(STOP_MISSED);
    if (passes || early) {
        it->next_us = now + RETRY_FIRST_US;
    } else if (s->policy == STOP_WAIT || (s->policy == STOP_RETRY && it->tries < s->retries)) {
        it->tries += it->tries < UINT16_MAX;
        it->next_us = now + pause_us(it->tries);
    } else {
        make_step(n, a, err, why->text);
        return;
    }
    n->itineraries_wait = true;
}

static void moved(void *arg, gw_err err, struct move_out *m, const struct gw_error *why)
{
    struct node *n = m->t->node;
    struct agent *a = agent_find(n, &m->agent_id);
    (void)arg;
    if (!a || a->epoch != m->epoch || !a->itinerary) {
        return;
    }
    a->itinerary->busy = false;
    if (err != GW_OK && !a->itinerary->over && a->itinerary->bound) {
        missed(n, a, err, why);
    }
}

static void leave_for(struct node *n, struct agent *a)
{
    struct itinerary *it = a->itinerary;
    struct gw_error why;
    struct peer *to = NULL;
    gw_err err = peers_pick(n, it->stops[it->at].to, true, &to, &why);
    if (err == GW_OK && to->self) {
        make_step(n, a, GW_OK, ""); /* it is there */
        return;
    }
    if (err == GW_OK) {
        it->to = to->id;
        it->bound = it->busy = true;
        err = move_out_begin(n, a, to, 0, NULL, moved, NULL, &why);
    }
    if (err != GW_OK) {
        it->busy = false;
        missed(n, a, err, &why);
    }
}

bool itinerary_goes_on(const struct agent *a)
{
    return a->itinerary && !a->itinerary->over;
}

void itinerary_go(struct node *n, struct agent *a)
{
    struct itinerary *it = a->itinerary;
    if (!it || it->over || it->busy || it->inbox || a->status != AGENT_ACTIVE || move_out_of(a) ||
        node_rests(n) || !n->ready || a->start_waits || a->loading || n->loading || a->unborn ||
        a->pending || !a->type->runner || !runner_usable(a->type->runner) ||
        (a->live && (a->live->held || !pipeline_rests(a->live)))) {
        return;
    }
    if (n->env->mono_us(n->env->ctx) < it->next_us) {
        n->itineraries_wait = true;
    } else if (!agent_live(a)->known) {
        intents_make_known(n, a);
    } else if (it->at == it->count || (it->bound && host_id_equal(&it->to, &n->self->id))) {
        make_step(n, a, GW_OK, "");
    } else {
        leave_for(n, a);
    }
}

void itineraries_retry(struct node *n)
{
    struct agent *a, *next;
    if (!n->itineraries_wait) {
        return;
    }
    n->itineraries_wait = false;
    HASH_ITER (hh, n->agents, a, next) {
        if (itinerary_goes_on(a)) {
            intent_run(n, a); /* wishes come first */
        }
    }
}

/* ---- the operation ---- */

static void answer(struct node *n, struct op_call *call, const struct agent *a)
{
    char id[GW_ID_TEXT];
    gw_value result = gw_nil(), about = gw_nil();
    struct gw_error why;
    if (itinerary_describe(a, &about) != GW_OK ||
        gw_map_set(&result, "itinerary", about) != GW_OK ||
        gw_map_set(&result, "agent", gw_str(gw_id_text(&a->id, id))) != GW_OK ||
        gw_map_set(&result, "host", gw_str(n->name)) != GW_OK ||
        gw_map_set(&result, "epoch", gw_int((int64_t)a->epoch)) != GW_OK) {
        gw_value_free(&result);
        gw_fail(&why, GW_ENOMEM, "out of memory");
        op_fail(call, &why);
        return;
    }
    op_ok(call, &result);
}

/* w->args: the new one, packed; empty: cancel. */
static void set_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct agent *a = w->agent;
    struct itinerary *it = NULL;
    w->point = POINT_ITINERARY_SET;
    (void)r;
    if (w->args.len > 0) {
        gw_err err = itinerary_unpack(buf_span(&w->args), &it);
        gw_assert(err == GW_OK);
    } else {
        it = cancelled(a);
    }
    replace(w, batch, it);
    agent_put_row(batch, a, a->status == AGENT_MOVING ? AGENT_ACTIVE : a->status, a->pending,
                  a->intent);
}

static void set_done(struct work *w, gw_err err, const struct run_result *r,
                     const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    (void)r;
    if (err != GW_OK) {
        op_fail(w->arg, why);
        return;
    }
    answer(n, w->arg, a);
    if (a->status == AGENT_INACTIVE && itinerary_goes_on(a)) {
        agent_wake(n, a);
    }
}

static void set_here(struct node *n, struct op_call *call, struct agent *a,
                     const struct itinerary *it)
{
    struct work *w = work_new(n, a, HOOK_NONE);
    if (it) {
        itinerary_pack(it, &w->args);
    }
    w->lifecycle = w->direct = w->closes = true;
    w->prepare = set_prepare;
    w->done = set_done;
    w->arg = w->call = call;
    work_push(w, false);
}

static void itinerary_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    struct itinerary *it = NULL;
    bool cancel = gw_map_bool(&call->args, "cancel", false);
    const gw_value *stops = gw_map_get(&call->args, "stops");
    bool set = stops && stops->kind == GW_LIST;
    if (!set && (!cancel || !itinerary_goes_on(a))) {
        answer(n, call, a);
    } else if (agent_check_free(n, a, &why) != GW_OK ||
               (set && (builtin_check_travel(n, a, &why) != GW_OK ||
                        itinerary_of_args(a, &call->args, &it, &why) != GW_OK))) {
        op_fail(call, &why);
    } else if (agent_is_changing(a) || a->unborn) {
        call_again_later(n, call);
    } else {
        set_here(n, call, a, it);
    }
    itinerary_free(it);
}

void op_itinerary(struct node *n, struct op_call *call)
{
    route_call(n, call, itinerary_local);
}
