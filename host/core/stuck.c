/* Handlers that do not end.
 *
 * A handler has no time limit: only its author knows how long its work takes. One that runs longer
 * than limits.stuck_ms is told of once (event handler.stuck, a line in the log, `running` in
 * `show`, `stuck` in `status`), and an operator may end it with `kill`. That ends the whole runner,
 * for nothing else takes a thread away from a plugin; what other agents were doing there is
 * begun again from their last commit, no attempt of theirs is counted, and their callers notice
 * only the time. The work that was killed is given up at once: its caller is told `crashed`, an
 * accepted message becomes a dead letter, a hook counts as run. */
#include "host/core/internal.h"

#include <stdio.h>
#include <string.h>

static const char *const hook_names[HOOK_COUNT] = {
    [HOOK_CREATE] = "on_create",
    [HOOK_DISPATCH] = "on_dispatch",
    [HOOK_ARRIVE] = "on_arrive",
    [HOOK_CLONE] = "on_clone",
    [HOOK_RETRACT] = "on_retract",
    [HOOK_DEACTIVATE] = "on_deactivate",
    [HOOK_ACTIVATE] = "on_activate",
    [HOOK_DISPOSE] = "on_dispose",
    [HOOK_TIMER] = "on_timer",
    [HOOK_RUN] = "run",
    [HOOK_NONE] = "load",
};

const char *stuck_name(const struct work *w)
{
    return w->hook == HOOK_METHOD && w->method ? w->method
           : hook_names[w->hook]               ? hook_names[w->hook]
                                               : "?";
}

static int64_t age_ms(const struct work *w)
{
    return (w->node->env->mono_us(w->node->env->ctx) - w->run_us) / 1000;
}

/* What of the agent is with its runner; NULL = nothing. */
static struct work *running(const struct agent *a)
{
    const struct runner *r = a->type->runner;
    for (struct work *w = r ? r->in_flight : NULL; w; w = w->hh.next) {
        if (w->agent == a && !w->probe) {
            return w;
        }
    }
    return NULL;
}

size_t stuck_count(const struct node *n)
{
    size_t count = 0;
    for (size_t i = 0; i < n->runner_count; i++) {
        for (const struct work *w = n->runners[i].in_flight; w; w = w->hh.next) {
            count += w->stuck;
        }
    }
    return count;
}

void stuck_describe(const struct agent *a, char *ret, size_t cap)
{
    const struct work *w = running(a);
    if (w) {
        snprintf(ret, cap, "%.*s runs since %lld ms", LIMIT_NAME_BYTES, stuck_name(w),
                 (long long)age_ms(w));
    } else {
        snprintf(ret, cap, "nothing of it runs");
    }
}

gw_err stuck_value(const struct agent *a, gw_value *ret)
{
    const struct work *w = running(a);
    gw_value v = gw_nil();
    if (!w) {
        *ret = v;
        return GW_OK;
    }
    gw_err err = gw_map_set(&v, "method", gw_str(stuck_name(w)));
    err = err ? err : gw_map_set(&v, "ms", gw_int(age_ms(w)));
    err = err ? err : gw_map_set(&v, "stuck", gw_bool(w->stuck));
    if (err != GW_OK) {
        gw_value_free(&v);
        return err;
    }
    *ret = v;
    return GW_OK;
}

static void tell(struct work *w)
{
    struct node *n = w->node;
    char id[GW_ID_TEXT], text[200];
    w->stuck = true;
    snprintf(text, sizeof text, "%.*s runs since %lld s; `godwit kill` ends it and its runner",
             LIMIT_NAME_BYTES, stuck_name(w), (long long)(age_ms(w) / 1000));
    log_warn("handler.stuck", "agent=%s type=%s %s", gw_id_text(&w->agent->id, id),
             w->agent->type->name, text);
    event_now(n, &(struct event){.kind = "handler.stuck",
                                 .agent = &w->agent->id,
                                 .type = w->agent->type->name,
                                 .text = text});
}

void stuck_housekeeping(struct node *n)
{
    for (size_t i = 0; i < n->runner_count; i++) {
        for (struct work *w = n->runners[i].in_flight; w; w = w->hh.next) {
            if (!w->stuck && !w->probe && age_ms(w) >= n->cfg.limits.stuck_ms) {
                tell(w);
            }
        }
    }
}

/* ---- kill ---- */

static void kill_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct work *w = running(a);
    char id[GW_ID_TEXT], text[200];
    struct gw_error why;
    gw_value result = gw_nil();
    if (!w || a->type->builtin) {
        gw_fail(&why, GW_EREFUSED, "no handler of the agent runs now");
        gw_hint(&why, "`godwit dispose` ends an agent, `godwit deactivate` puts it to sleep");
        op_fail(call, &why);
        return;
    }
    snprintf(text, sizeof text, "%.*s was killed after %lld ms", LIMIT_NAME_BYTES, stuck_name(w),
             (long long)age_ms(w));
    log_warn("handler.killed", "agent=%s type=%s %s; its runner is started again",
             gw_id_text(&a->id, id), a->type->name, text);
    event_now(n,
              &(struct event){
                  .kind = "handler.killed", .agent = &a->id, .type = a->type->name, .text = text});
    if (gw_map_set(&result, "agent", gw_str(id)) != GW_OK ||
        gw_map_set(&result, "host", gw_str(n->name)) != GW_OK ||
        gw_map_set(&result, "method", gw_str(stuck_name(w))) != GW_OK ||
        gw_map_set(&result, "ms", gw_int(age_ms(w))) != GW_OK) {
        gw_value_free(&result);
    }
    w->killed = true;
    a->type->runner->ending = true;
    n->env->runner_kill(n->env->ctx, a->type->runner->index);
    op_ok(call, &result);
}

void op_kill(struct node *n, struct op_call *call)
{
    route_call(n, call, kill_local);
}
