/* How a run ended: the DONE frame of a runner, or the end of the runner itself.
 *
 * A runner that ends takes what it ran with it. Work that nobody would repeat (accepted messages,
 * hooks) is run again; three crashes end it, and count only when it ran alone: after the second one
 * the runner is given one thing at a time (suspects), so that what merely ran beside the culprit is
 * not taken for it. */
#include "host/core/internal.h"

#include <string.h>

#include "host/core/reach.h"

#define CRASH_ATTEMPTS 3 /* work that must be done is given up after so many crashes */

/* Nil, or a map of what changed: half of one must not be written. */
static gw_err check_parts(struct span parts)
{
    struct mp m = mp_over(parts);
    size_t pairs;
    if (mp_peek(&m) == MP_NIL) {
        return GW_OK;
    }
    GW_TRY(mp_read_map(&m, &pairs));
    for (size_t i = 0; i < pairs; i++) {
        struct span name, value;
        GW_TRY(mp_read_str(&m, &name));
        if (name.n > LIMIT_NAME_BYTES) {
            return GW_EPROTO;
        }
        if (mp_peek(&m) == MP_NIL) {
            GW_TRY(mp_read_nil(&m));
        } else {
            GW_TRY(mp_read_bin(&m, &value));
        }
    }
    return GW_OK;
}

/* [[verb, args], ...] */
static gw_err check_actions(struct span actions)
{
    struct mp m = mp_over(actions);
    size_t n, fields;
    GW_TRY(mp_read_array(&m, &n));
    for (size_t i = 0; i < n; i++) {
        struct span verb;
        GW_TRY(mp_read_array(&m, &fields));
        if (fields < 2) {
            return GW_EPROTO;
        }
        GW_TRY(mp_read_str(&m, &verb));
        GW_TRY(mp_skip_n(&m, fields - 1));
    }
    return GW_OK;
}

static gw_err read_done(const struct frame *f, struct run_result *ret)
{
    struct run_result r = {0};
    struct mp m = f->rest;
    uint32_t code;
    GW_TRY(mp_read_u32(&m, &code));
    r.err = gw_err_from_wire(code);
    r.why.code = r.err;
    GW_TRY(mp_read_text_or_nil(&m, r.why.text, sizeof r.why.text));
    GW_TRY(mp_read_text_or_nil(&m, r.why.hint, sizeof r.why.hint));
    GW_TRY(mp_read_bin(&m, &r.reply));
    GW_TRY(mp_skip(&m, &r.parts));
    GW_TRY(mp_skip(&m, &r.actions));
    GW_TRY(mp_read_u32(&m, &r.flags));
    GW_TRY(check_parts(r.parts));
    GW_TRY(check_actions(r.actions));
    *ret = r;
    return GW_OK;
}

gw_err outcome_read_save(const struct frame *f, struct run_result *ret)
{
    struct run_result r = {.err = GW_OK};
    struct mp m = f->rest;
    GW_TRY(mp_skip(&m, &r.parts));
    GW_TRY(mp_skip(&m, &r.actions));
    GW_TRY(check_parts(r.parts));
    GW_TRY(check_actions(r.actions));
    *ret = r;
    return GW_OK;
}

/* What was in flight on a runner that ended. `alone`: nothing else was. */
static void lost_work(struct work *w, const char *reason, bool alone)
{
    struct gw_error why;
    if (w->probe) {
        gw_fail(&why, GW_ECRASHED, "the runner of type \"%s\" ended: %s", w->agent->type->name,
                reason);
        w->probe(w, GW_ECRASHED, &why);
        work_free(w);
        return;
    }
    struct live *live = w->agent->live;
    bool beside = live->suspended == w && live->current; /* by what came between, perhaps */
    if (live->suspended == w) {
        live->suspended = NULL;
        live->current = beside ? live->current : w;
    }
    w->cancelled = false;
    live->incarnation = 0;
    asks_forget(live);
    if (w->agent->type->runner->ending && !w->killed && !w->node->stopping) {
        w->stuck = false;
        work_requeue(w); /* it was merely there: nobody but the killed one is to notice */
        return;
    }
    bool again = work_waits(w) && !w->node->stopping;
    w->attempts += !beside && (w->attempts < CRASH_ATTEMPTS - 1 || alone);
    if (again && !w->killed && w->attempts < CRASH_ATTEMPTS) {
        REACH(RUNNER_LOST);
        if (w->attempts == CRASH_ATTEMPTS - 1 && !w->suspect_of) {
            w->suspect_of = w->agent->type->runner;
            w->suspect_of->suspects++;
        }
        work_requeue(w);
        return;
    }
    gw_fail(&why, GW_ECRASHED, "the runner of type \"%s\" ended while it ran %s%s: %s",
            w->agent->type->name,
            !w->method || !w->method[0] ? "a hook"
            : w->hook == HOOK_TIMER     ? "timer "
                                        : "method ",
            w->method ? w->method : "", w->killed ? "killed by an operator" : reason);
    gw_hint(&why, "the agent keeps the state of its last commit and is served again");
    if (again) {
        w->poison = true;
        w->result = (struct run_result){.err = GW_ECRASHED, .why = why};
        commit_result(w);
        return;
    }
    REACH(RUNNER_LOST_CALL);
    work_fail(w, &why);
}

static void lost_one(struct work *w, const char *reason, bool alone)
{
    struct node *n = w->node;
    gw_id id = w->agent->id;
    bool handler = !w->probe && w->hook != HOOK_NONE && !w->agent->type->runner->ending;
    lost_work(w, reason, alone);
    if (handler && !n->stopping) {
        crashes_lost(n, &id, alone, reason);
    }
}

void outcome_frame(struct runner *r, const struct frame *f)
{
    struct work *w = NULL;
    HASH_FIND(hh, r->in_flight, &f->stream, sizeof f->stream, w);
    if (!w) {
        log_warn("runner.frame", "runner=%zu an answer to nothing was ignored", r->index);
        return;
    }
    if (!w->probe && w->agent->live->suspended == w) {
        w->node->env->runner_kill(w->node->env->ctx, r->index); /* it waits for its save */
        return;
    }
    HASH_DEL(r->in_flight, w);
    if (r->suspects > 0) {
        runner_resume(r);
    }
    if (w->no_commit && read_done(f, &w->result) == GW_OK && w->result.err == GW_OK) {
        work_finish(w, GW_OK, &w->result, NULL); /* perhaps large: not copied */
        return;
    }
    buf_add(&w->kept, f->raw.p, f->raw.n);
    struct frame own;
    if (!buf_ok(&w->kept) || frame_parse(buf_span(&w->kept), &own) != GW_OK ||
        read_done(&own, &w->result) != GW_OK) {
        w->node->env->runner_kill(w->node->env->ctx, r->index);
        lost_one(w, "it answered nonsense", true);
        return;
    }
    if (w->probe) {
        w->probe(w, w->result.err, &w->result.why);
        work_free(w);
        return;
    }
    if (w->result.err == GW_EUNKNOWN && !w->reloaded) {
        w->reloaded = true; /* it failed or was dropped there: send the last committed state */
        w->agent->live->incarnation = 0;
        buf_free(&w->kept);
        work_go_on(w);
        return;
    }
    if (w->agent->live->suspended && w->result.err != GW_OK) {
        w->agent->live->incarnation = 0; /* spoilt, perhaps, under the handler that is suspended */
    }
    crashes_survived(w);
    if (w->hook != HOOK_NONE) {
        histogram_add(&w->node->metrics.handler, node_turn_us(w->node) - w->run_us);
    }
    if (w->result.err != GW_OK && !work_waits(w)) {
        commit_nothing(w);
        return;
    }
    commit_result(
        w); /* a failed hook or tell is committed as done, too: it is not tried for ever */
}
void outcome_lost(struct runner *r, const char *reason)
{
    struct work *w, *next;
    bool alone = runner_unchained(r) <= 1;
    HASH_ITER (hh, r->in_flight, w, next) {
        HASH_DEL(r->in_flight, w);
        lost_one(w, reason, alone);
    }
}
