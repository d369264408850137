/* What agents ask about themselves while a handler runs: clone, dispatch, deactivate, dispose.
 *
 * a->intent is a packed list [[verb, args, id, number], ...], written with the transaction of the
 * handler that asked; nothing is begun before that is durable (I5). Clones stand before what makes
 * the agent leave. The id is that of the clone, so that one that is made again after a crash is the
 * same; the number names the wish while it is in memory and on disk. A wish that is done, or cannot
 * be done, is taken out by a transaction of its own, which also holds the message
 * on_dispatch_failed(to, code, text) for types that have such a method.
 *
 * For the first GRACE_US of a boot a host that cannot be reached yet is no failure: links are still
 * coming up. */
#include "host/core/handoff.h"
#include "host/core/itinerary.h"
#include "host/core/reach.h"

#include <stdlib.h>
#include <string.h>

#define GRACE_US 30000000LL
#define TRIES    20 /* a second or more apart */

/* ---- the list ---- */

struct wish {
    struct span raw, verb, args;
    gw_id id;
    uint64_t number;
};

static gw_err read_wish(struct mp *m, struct wish *ret)
{
    struct wish x;
    size_t fields;
    GW_TRY(mp_skip(m, &x.raw));
    struct mp one = mp_over(x.raw);
    GW_TRY(mp_read_array(&one, &fields));
    if (fields < 4) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_str(&one, &x.verb));
    GW_TRY(mp_skip(&one, &x.args));
    GW_TRY(mp_read_id(&one, &x.id));
    GW_TRY(mp_read_uint(&one, &x.number));
    *ret = x;
    return GW_OK;
}

static bool leaves(const struct wish *x)
{
    return !span_is(x->verb, "clone");
}

static size_t copy_wishes(struct buf *out, struct span list, bool leaving, uint64_t but_from,
                          uint64_t but_to)
{
    struct mp m = mp_over(list);
    struct wish x;
    size_t n, count = 0;
    if (list.n == 0 || mp_read_array(&m, &n) != GW_OK) {
        return 0;
    }
    for (size_t i = 0; i < n && read_wish(&m, &x) == GW_OK; i++) {
        if (leaves(&x) == leaving && !(x.number >= but_from && x.number < but_to)) {
            buf_add(out, x.raw.p, x.raw.n);
            count++;
        }
    }
    return count;
}

/* The list without the numbers [but_from, but_to), and with those of `more`. */
static void set_wishes(struct agent *a, struct span more, uint64_t but_from, uint64_t but_to)
{
    struct buf items = {0};
    struct span old = a->intent ? buf_span(a->intent) : (struct span){0};
    size_t count = 0;
    for (int leaving = 0; leaving < 2; leaving++) {
        count += copy_wishes(&items, old, leaving, but_from, but_to);
        count += copy_wishes(&items, more, leaving, 0, 0);
    }
    struct buf *list = NULL;
    if (count > 0) {
        list = xcalloc(1, sizeof *list);
        mp_array(list, count);
        buf_add(list, items.data, items.len);
        if (!buf_ok(list)) {
            log_die("memory", "out of memory for what an agent asked about itself");
        }
    }
    buf_free(&items);
    if (a->intent) {
        buf_free(a->intent);
        free(a->intent);
    }
    a->intent = list;
}

static bool first_wish(const struct agent *a, struct wish *ret)
{
    struct mp m = mp_over(buf_span(a->intent));
    size_t n;
    return mp_read_array(&m, &n) == GW_OK && n > 0 && read_wish(&m, ret) == GW_OK;
}

static bool find_wish(const struct agent *a, uint64_t number, struct wish *ret)
{
    struct mp m = mp_over(a->intent ? buf_span(a->intent) : (struct span){0});
    size_t n;
    if (!a->intent || mp_read_array(&m, &n) != GW_OK) {
        return false;
    }
    for (size_t i = 0; i < n && read_wish(&m, ret) == GW_OK; i++) {
        if (ret->number == number) {
            return true;
        }
    }
    return false;
}

/* ---- with the transaction of a handler ---- */

bool actions_next(struct mp *m, bool (*is)(struct span verb), struct span *ret_verb,
                  struct span *ret_args)
{
    struct span raw;
    size_t fields;
    while (!mp_done(m) && mp_skip(m, &raw) == GW_OK) {
        struct mp one = mp_over(raw);
        if (mp_read_array(&one, &fields) == GW_OK && fields >= 2 &&
            mp_read_str(&one, ret_verb) == GW_OK && mp_skip(&one, ret_args) == GW_OK &&
            is(*ret_verb)) {
            return true;
        }
    }
    return false;
}

static bool is_wish(struct mp *m, struct span *ret_verb, struct span *ret_args)
{
    size_t fields;
    struct span raw;
    if (mp_skip(m, &raw) != GW_OK) {
        return false;
    }
    struct mp one = mp_over(raw);
    return mp_read_array(&one, &fields) == GW_OK && fields >= 2 &&
           mp_read_str(&one, ret_verb) == GW_OK && mp_skip(&one, ret_args) == GW_OK &&
           !span_is(*ret_verb, "tell") && !span_is(*ret_verb, "ask") &&
           !span_is(*ret_verb, "itinerary") && !span_is(*ret_verb, "save") &&
           !timers_is_action(*ret_verb) && !topics_is_action(*ret_verb) &&
           !watches_is_action(*ret_verb) && !files_is_action(*ret_verb) &&
           !later_is_action(*ret_verb);
}

bool intents_fit(const struct work *w, struct gw_error *why)
{
    size_t have = w->agent->intent ? w->agent->intent->len : 0;
    if (have == 0 || have + w->result.actions.n <= LIMIT_ARGS_BYTES) {
        return true;
    }
    gw_fail(why, GW_EBUSY,
            "what the agent has asked about itself and is not done yet has %zu bytes", have);
    return false;
}

bool intents_add(struct work *w)
{
    struct node *n = w->node;
    struct mp m = mp_over(w->result.actions);
    struct buf items = {0}, list = {0};
    struct span verb, args;
    size_t actions = 0;
    uint64_t base = (n->boot << 32) + n->wishes;
    w->wish_from = w->wish_to = base;
    if (w->result.actions.n == 0 || mp_read_array(&m, &actions) != GW_OK) {
        return false;
    }
    for (size_t i = 0; i < actions; i++) {
        if (!is_wish(&m, &verb, &args)) {
            continue;
        }
        gw_id id = node_new_id(n);
        mp_array(&items, 4);
        mp_strn(&items, (const char *)verb.p, verb.n);
        buf_add(&items, args.p, args.n);
        mp_id(&items, &id);
        mp_uint(&items, w->wish_to++);
    }
    size_t count = (size_t)(w->wish_to - w->wish_from);
    n->wishes += (uint32_t)count;
    if (count > 0) {
        mp_array(&list, count);
        buf_add(&list, items.data, items.len);
        set_wishes(w->agent, buf_span(&list), 0, 0);
    }
    buf_free(&items);
    buf_free(&list);
    return count > 0;
}

void intents_undo(struct work *w)
{
    if (w->wish_to > w->wish_from) {
        set_wishes(w->agent, (struct span){0}, w->wish_from, w->wish_to);
        w->wish_to = w->wish_from;
    }
}

void intent_forget(struct agent *a)
{
    if (a->intent) {
        buf_free(a->intent);
        free(a->intent);
        a->intent = NULL;
    }
    a->intent_busy = false;
}

/* ---- the end of one ---- */

struct taking_out {
    struct node *n;
    gw_id agent;
    uint64_t epoch;
    struct buf list;   /* of the one that is taken out */
    struct work *tell; /* on_dispatch_failed, or NULL */
    uint32_t hooks;    /* bits of a->pending that it sets: they run when it is durable */
};

static void taken_out(void *arg, gw_err err)
{
    struct taking_out *t = arg;
    struct node *n = t->n;
    struct agent *a = agent_find(n, &t->agent);
    bool here = a && a->epoch == t->epoch && a->status != AGENT_DISPOSED;
    if (err != GW_OK && here && a->status != AGENT_INACTIVE) {
        REACH(WISH_ROLLED_BACK);
        set_wishes(a, buf_span(&t->list), 0, 0); /* it still stands on disk: tried again */
        a->pending &= ~t->hooks;
        work_hold_agent(n, a);
        pipeline_renew(a->live);
    }
    if (t->tell && err == GW_OK && here) {
        work_push(t->tell, true);
    } else if (t->tell) {
        work_free(t->tell);
    }
    if (t->hooks && err == GW_OK && here && a->status != AGENT_INACTIVE) {
        work_push_hooks(n, a, t->hooks, "");
    }
    buf_free(&t->list);
    free(t);
    if (here) {
        intent_run(n, a); /* the next one */
    }
}

static void take_out(struct node *n, struct agent *a, uint64_t number, struct work *tell,
                     uint32_t hooks)
{
    struct wish x;
    if (a->move && a->move->t->phase >= OUT_COMMITTING) {
        a->intent_busy = false; /* it leaves: its row goes, and with it the list of wishes */
        if (tell) {
            work_free(tell);
        }
        return;
    }
    struct taking_out *t = xcalloc(1, sizeof *t);
    struct store_batch *batch = store_batch_new();
    *t = (struct taking_out){
        .n = n, .agent = a->id, .epoch = a->epoch, .tell = tell, .hooks = hooks & ~a->pending};
    a->pending |= hooks;
    a->intent_busy = false;
    a->wish_tries = 0;
    if (find_wish(a, number, &x)) {
        mp_array(&t->list, 1);
        buf_add(&t->list, x.raw.p, x.raw.n);
        set_wishes(a, (struct span){0}, number, number + 1);
    }
    agent_put_row(batch, a, a->status == AGENT_MOVING ? AGENT_ACTIVE : a->status, a->pending,
                  a->intent);
    if (tell) {
        inbox_put(a, tell, batch);
    }
    pipeline_chain(a,
                   batch); /* the row has what handlers wish whose transactions are on their way */
    node_commit(n, batch, POINT_WISH_DONE, taken_out, t);
}

void intent_pop(struct node *n, struct agent *a, uint64_t number)
{
    a->intent_busy = false;
    if (a->intent &&
        a->status != AGENT_DISPOSED) { /* else forgotten meanwhile: it sleeps, or is no more */
        take_out(n, a, number, NULL, 0);
    }
}

static void stays_done(struct work *w, gw_err err, const struct run_result *r,
                       const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why; /* a failure is an event (commit.c) */
}

bool intents_has_method(const struct type *t, const char *name)
{
    const gw_value *methods = t->about ? gw_map_get(t->about, "methods") : NULL;
    size_t len = strlen(name);
    for (size_t i = 0; methods && methods->kind == GW_LIST && i < methods->list.n; i++) {
        const char *signature = gw_map_str(&methods->list.items[i], "signature", "");
        if (strncmp(signature, name, len) == 0 && signature[len] == '(') {
            return true;
        }
    }
    return false;
}

static void failed_event(struct node *n, const struct agent *a, const char *kind,
                         const struct gw_error *why)
{
    event_now(n, &(struct event){
                     .kind = kind, .agent = &a->id, .type = a->type->name, .text = why->text});
}

/* It stays: an accepted message tells it so, if it can take it. */
static void stays(struct node *n, struct agent *a, uint64_t number, const char *to,
                  const struct gw_error *why)
{
    struct work *w = NULL;
    REACH(WISH_FAILED);
    if (a->live && a->live->known && intents_has_method(a->type, "on_dispatch_failed")) {
        w = work_new(n, a, HOOK_METHOD);
        w->method = xstrdup("on_dispatch_failed");
        node_random(n, w->key, sizeof w->key); /* of its asks */
        mp_map(&w->args, 3);
        mp_str(&w->args, "to");
        mp_str(&w->args, to);
        mp_str(&w->args, "code");
        mp_str(&w->args, gw_err_name(why->code));
        mp_str(&w->args, "text");
        mp_str(&w->args, why->text);
        w->done = stays_done;
    }
    take_out(n, a, number, w, 0);
}

void intent_failed(struct node *n, struct agent *a, uint64_t number, const struct gw_error *why)
{
    a->intent_busy = false;
    if (a->intent && a->status != AGENT_DISPOSED) {
        failed_event(n, a, "wish.failed", why);
        take_out(n, a, number, NULL, 0);
    }
}

/* ---- carrying one out ---- */

/* The other host is busy with an earlier attempt, or there is no link yet: it will pass. True:
 * tried again. */
static bool try_again(struct node *n, struct agent *a, gw_err err)
{
    bool passes = err == GW_ECONFLICT || err == GW_EARRIVING || err == GW_EPENDING;
    bool early = !n->ready || n->env->mono_us(n->env->ctx) - n->ready_us < GRACE_US;
    if (!(passes && a->wish_tries < TRIES) &&
        !(early && (err == GW_EUNREACHABLE || err == GW_EREFUSED))) {
        return false;
    }
    REACH(WISH_AGAIN);
    a->wish_tries += passes;
    a->intent_busy = false;
    n->wishes_wait = true; /* intents_retry */
    return true;
}

static void moved(void *arg, gw_err err, struct move_out *m, const struct gw_error *why)
{
    struct node *n = m->t->node;
    struct agent *a = agent_find(n, &m->agent_id); /* a clone's source may have ended */
    uint64_t number = (uint64_t)(uintptr_t)arg;
    if (!a || a->epoch != m->epoch) {
        return; /* it is gone from here: its wishes went with the row */
    }
    if (err != GW_OK && a->intent && try_again(n, a, err)) {
        return;
    }
    if (err != GW_OK && !m->clone && a->intent) {
        stays(n, a, number, peer_label(m->t->to), why);
    } else {
        intent_pop(n, a, number); /* of a failure the move has made an event */
    }
}

/* It is there already: it arrives at once. */
static void arrive_here(struct node *n, struct agent *a, uint64_t number)
{
    a->intent_busy = false;
    if (a->intent && a->status != AGENT_DISPOSED) {
        take_out(n, a, number, NULL, hooks_to_run(a->type, 1u << HOOK_ARRIVE));
    }
}

static void travel(struct node *n, struct agent *a, const struct wish *x, const gw_value *args)
{
    struct gw_error why;
    struct peer *to = n->self;
    bool clone = !leaves(x);
    uint64_t number = x->number;
    gw_id id = x->id;
    const char *where = gw_map_str(args, "to", NULL);
    gw_err err = where ? peers_pick(n, where, !clone, &to, &why) : GW_OK;
    if (err == GW_OK && clone) {
        err = builtin_check_single(n, a, &why);
    }
    if (err == GW_OK && to->self && !clone) {
        arrive_here(n, a, number);
        return;
    }
    if (err == GW_OK && to->self && (agent_find(n, &id) || location_find(n, &id))) {
        intent_pop(n, a, number); /* made before a crash, which forgot that it was */
        return;
    }
    if (err == GW_OK && to->self) {
        clone_here(n, a, NULL, &id, number);
        return;
    }
    if (err == GW_OK) {
        err =
            move_out_begin(n, a, to, 0, clone ? &id : NULL, moved, (void *)(uintptr_t)number, &why);
    }
    if (err == GW_OK || try_again(n, a, err)) {
        return;
    }
    failed_event(n, a, "transfer.failed", &why);
    if (clone) {
        intent_pop(n, a, number);
    } else {
        stays(n, a, number, where ? where : "", &why);
    }
}

static void known_now(struct work *w, gw_err err, const struct run_result *r,
                      const struct gw_error *why)
{
    (void)r, (void)why;
    if (err != GW_OK) {
        work_hold_agent(w->node, w->agent);
    } /* else work_finish goes on with intent_run */
}

void intents_make_known(struct node *n, struct agent *a)
{
    struct work *w = work_new(n, a, HOOK_NONE);
    w->lifecycle = true;
    w->only_known = true;
    w->done = known_now;
    work_push(w, true);
}

static void sleep_as_wished(struct node *n, struct agent *a, const gw_value *args, uint64_t number)
{
    struct sleep_wish asked;
    struct gw_error why;
    if (sleep_wish_read(args, &asked, &why) != GW_OK) {
        intent_failed(n, a, number, &why);
    } else {
        deactivate_here(n, a, NULL, &asked, number);
    }
}

void intent_run(struct node *n, struct agent *a)
{
    struct wish x;
    struct gw_error why;
    gw_value args = gw_nil();
    if (!a->intent) {
        itinerary_go(n, a);
        return;
    }
    if (a->intent_busy || a->status != AGENT_ACTIVE || move_out_of(a) || node_rests(n) ||
        a->start_waits || !a->type->runner || !runner_usable(a->type->runner) ||
        (a->live && (a->live->held || !pipeline_rests(a->live)))) {
        return;
    }
    if (!agent_live(a)->known) {
        intents_make_known(n, a);
        return;
    }
    a->intent_busy = true;
    if (!first_wish(a, &x) || value_unpack_span(x.args, &args) != GW_OK) {
        log_warn("agent.wish", "type=%s a wish that does not decode was dropped", a->type->name);
        intent_forget(a);
    } else if (span_is(x.verb, "dispatch") || span_is(x.verb, "clone")) {
        travel(n, a, &x, &args);
    } else if (span_is(x.verb, "deactivate")) {
        sleep_as_wished(n, a, &args, x.number);
    } else if (span_is(x.verb, "dispose") && builtin_check_single(n, a, &why) != GW_OK) {
        intent_failed(n, a, x.number, &why);
    } else if (span_is(x.verb, "dispose")) {
        dispose_here(n, a, NULL, x.number);
    } else {
        log_warn("agent.wish", "type=%s asked for something that this host does not know",
                 a->type->name);
        intent_pop(n, a, x.number);
    }
    gw_value_free(&args);
}

void intents_retry(struct node *n)
{
    struct agent *a, *next;
    if (!n->wishes_wait) {
        return;
    }
    n->wishes_wait = false;
    HASH_ITER (hh, n->agents, a, next) {
        if (a->intent) {
            intent_run(n, a);
        }
    }
}
