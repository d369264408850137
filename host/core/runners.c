/* Runners as the node sees them: which types they offer, whether they live, and the RUN frames to
 * them.
 *
 *   STARTING --HELLO--> UP --end--> BACKOFF --timer--> STARTING
 *      |                                                  |
 *      +---- HELLO with an error, or never one HELLO -----+--> BROKEN (after 3 starts without a
 * HELLO)
 *
 * A runner that ends loses nothing: its agents are loaded again from their last committed state.
 * Crash loops back off from 100 ms, doubling, to 30 s; a runner that lived 60 s starts afresh. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   30000
#define STABLE_US        60000000LL
#define START_ATTEMPTS   3
#define CRASHES_QUIET    2 /* so many crashes in a row are answered by a start at once */

static const char *const state_names[] = {"starting", "up", "backoff", "broken"};

const char *runner_state_name(runner_state s)
{
    return state_names[s];
}

const char *runner_label(const struct runner *r)
{
    return r->builtin ? "built-in" : r->node->cfg.plugins[r->index];
}

/* ---- types ---- */

struct type *type_find(struct node *n, const char *name)
{
    struct type *t;
    HASH_FIND_STR(n->types, name, t);
    return t;
}

struct type *type_intern(struct node *n, const char *name)
{
    struct type *t = type_find(n, name);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        bool fits =
            span_text((struct span){(const uint8_t *)name, strlen(name)}, t->name, sizeof t->name);
        gw_assert(fits);
        TAILQ_INIT(&t->idle);
        t->builtin = builtin_find(n, name);
        HASH_ADD_STR(n->types, name, t);
    }
    return t;
}

void types_free(struct node *n)
{
    struct type *t, *next;
    HASH_ITER (hh, n->types, t, next) {
        HASH_DEL(n->types, t);
        free(t);
    }
}

static void add_type(struct runner *r, const gw_value *about)
{
    struct node *n = r->node;
    const char *name = gw_map_str(about, "name", "");
    int64_t version = gw_map_int(about, "version", 0);
    if (!name_is_valid(name) || version < 1 || version > UINT32_MAX) {
        log_warn("type.invalid", "plugin=%s a type without a valid name and version was skipped",
                 runner_label(r));
        return;
    }
    struct type *t = type_intern(n, name);
    if (t->builtin && !r->builtin) {
        log_warn("type.twice", "type=%s plugin=%s is a built-in type, which serves", name,
                 runner_label(r));
        return;
    }
    if (t->runner && t->runner != r) {
        log_warn("type.twice", "type=%s plugin=%s is offered by %s already; the first one serves",
                 name, runner_label(r), runner_label(t->runner));
        return;
    }
    t->runner = r;
    t->about = about;
    t->version = (uint32_t)version;
    int64_t oldest = gw_map_int(about, "oldest_reader", 1);
    t->oldest_reader = oldest >= 1 && oldest <= version ? (uint32_t)oldest : 1;
    t->hooks = (uint32_t)gw_map_int(about, "hooks", 0);
    const char *kept = gw_map_str(about, "durability", "");
    t->durability = strcmp(kept, "transitions") == 0 ? DURABLE_TRANSITIONS
                    : strcmp(kept, "volatile") == 0  ? DURABLE_VOLATILE
                                                     : DURABLE_EVERY_MESSAGE;
    t->quarantine_after = (uint32_t)gw_map_int(about, "quarantine_after", 0);
    t->quarantine_ms = gw_map_int(about, "quarantine_within_ms", 0);
    t->idle_ms = gw_map_int(about, "idle_timeout_ms", 0);
    const gw_value *sleep = gw_map_get(about, "sleep");
    t->sleep = (struct sleep_wish){0};
    if (t->idle_ms < 0 || t->idle_ms > LIMIT_TIMER_MS ||
        (sleep && sleep_wish_read(sleep, &t->sleep, NULL) != GW_OK)) {
        t->idle_ms = 0;
        log_warn("type.sleep", "type=%s what it says about sleep cannot be, and is ignored", name);
    }
}

/* ---- life ---- */

bool runner_usable(const struct runner *r)
{
    return r->state == RUNNER_UP;
}

static void start(struct runner *r)
{
    r->state = RUNNER_STARTING;
    r->node->env->runner_start(r->node->env->ctx, r->index);
}

static void backoff_over(void *arg)
{
    struct runner *r = arg;
    if (!r->node->stopping) {
        start(r);
    }
}

void runners_start(struct node *n)
{
    for (size_t i = 0; i < n->runner_count; i++) {
        n->runners[i].timer = n->env->timer_new(n->env->ctx, backoff_over, &n->runners[i]);
        start(&n->runners[i]);
    }
}

void runners_free(struct node *n)
{
    for (size_t i = 0; i < n->runner_count; i++) {
        struct runner *r = &n->runners[i];
        struct work *w, *next;
        HASH_ITER (hh, r->in_flight, w, next) {
            HASH_DEL(r->in_flight, w); /* works belong to their agents, probes to nobody */
            if (w->probe) {
                w->probe(w, GW_ECANCELLED, NULL);
                work_free(w);
            }
        }
        n->env->timer_free(n->env->ctx, r->timer);
        gw_value_free(&r->about);
    }
}

static void pump_types(struct runner *r)
{
    struct agent *a, *next;
    HASH_ITER (hh, r->node->agents, a, next) {
        gw_id id = a->id;
        if (a->type->runner == r && (a->live || a->intent)) {
            work_pump(r->node, a);
            a = agent_find(r->node, &id); /* what is refused may have been its creation */
            if (a) {
                intent_run(r->node, a); /* what it wished before a restart */
            }
        }
    }
}

size_t runner_unchained(const struct runner *r)
{
    size_t n = 0;
    for (const struct work *w = r->in_flight; w; w = w->hh.next) {
        n += w->chain.len == 0;
    }
    return n;
}

bool runner_holds_back(struct runner *r, const struct work *w)
{
    if (r->suspects == 0 || w->chain.len > 0 || runner_unchained(r) == 0) {
        return false;
    }
    r->holds = true;
    return true;
}

void runner_resume(struct runner *r)
{
    struct agent *a, *next;
    if (!r->holds || r->resuming || !runner_usable(r) ||
        (r->suspects > 0 && runner_unchained(r) > 0)) {
        return;
    }
    r->resuming = true;
    r->holds = false;
    HASH_ITER (hh, r->node->agents, a,
               next) { /* suspects first: while there are any, all others wait */
        const struct work *w = r->suspects > 0 && a->live ? TAILQ_FIRST(&a->live->queue) : NULL;
        if (w && w->suspect_of == r) {
            work_pump(r->node, a);
        }
    }
    pump_types(r);
    r->resuming = false;
}

void runners_resume(struct node *n)
{
    for (size_t i = 0; i < n->runner_count; i++) {
        runner_resume(&n->runners[i]);
    }
}

/* Its types are no longer offered; agents of them stay, and say what is wrong. */
static void broken(struct runner *r, const char *text)
{
    r->state = RUNNER_BROKEN;
    (void)span_text((struct span){(const uint8_t *)text, strnlen(text, sizeof r->problem - 1)},
                    r->problem, sizeof r->problem);
    log_error("runner.broken", "plugin=%s %s; its types are not offered", runner_label(r),
              r->problem);
    event_now(r->node, &(struct event){.kind = "runner.broken", .text = r->problem});
    peers_types_changed(r->node);
    node_boot_step(r->node);
    pump_types(r);
}

bool type_offered(const struct type *t)
{
    return t->runner && t->runner->state != RUNNER_BROKEN;
}

bool type_keeps_state(const struct type *t)
{
    return t->about && strcmp(gw_map_str(t->about, "durability", ""), "every_message") == 0;
}

static void hello(struct runner *r, const struct frame *f)
{
    struct node *n = r->node;
    struct mp m = f->rest;
    struct span role;
    uint32_t version;
    gw_value about = {0};
    if (r->state != RUNNER_STARTING || mp_read_str(&m, &role) != GW_OK ||
        mp_read_u32(&m, &version) != GW_OK || value_unpack(&m, &about) != GW_OK) {
        log_warn("runner.hello", "plugin=%s a HELLO out of place was ignored", runner_label(r));
        return;
    }
    const gw_value *error = gw_map_get(&about, "error");
    if (error) {
        const char *hint = gw_map_str(error, "hint", "");
        (void)span_text((struct span){(const uint8_t *)hint, strnlen(hint, sizeof r->hint - 1)},
                        r->hint, sizeof r->hint);
        broken(r, gw_map_str(error, "text", "the plugin cannot be loaded"));
        gw_value_free(&about);
        return;
    }
    for (struct type *t = n->types; t; t = t->hh.next) {
        if (t->runner == r) { /* it may offer fewer now; what `about` points into goes away */
            t->runner = NULL;
            t->about = NULL;
        }
    }
    gw_value_free(&r->about);
    r->about = about;
    r->pid = (int)gw_map_int(&r->about, "pid", 0);
    r->state = RUNNER_UP;
    r->incarnation++;
    r->bad_starts = 0;
    r->problem[0] = '\0';
    r->up_since_us = n->env->mono_us(n->env->ctx);
    const gw_value *types = gw_map_get(&r->about, "types");
    for (size_t i = 0; types && types->kind == GW_LIST && i < types->list.n; i++) {
        add_type(r, &types->list.items[i]);
    }
    peers_types_changed(n);
    node_boot_step(n);
    pump_types(r);
}

void node_runner_frame(struct node *n, size_t index, const struct frame *f)
{
    struct runner *r = &n->runners[index];
    switch (f->kind) {
    case FRAME_HELLO: hello(r, f); break;
    case FRAME_DONE: outcome_frame(r, f); break;
    case FRAME_SAVE: (void)save_frame(r, f); break;
    case FRAME_LOG: log_frame(n, f); break;
    default: log_warn("runner.frame", "runner=%zu kind=%u was ignored", index, f->kind); break;
    }
}

static int64_t backoff_ms(unsigned crashes)
{
    int64_t ms = BACKOFF_FIRST_MS;
    for (unsigned i = CRASHES_QUIET; i < crashes && ms < BACKOFF_MAX_MS; i++) {
        ms *= 2;
    }
    return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

void node_runner_down(struct node *n, size_t index, int pid, const char *reason)
{
    struct runner *r = &n->runners[index];
    bool was_up = r->state == RUNNER_UP;
    if (n->stopping || r->state == RUNNER_BROKEN) {
        outcome_lost(r, reason);
        return;
    }
    if (was_up && n->env->mono_us(n->env->ctx) - r->up_since_us > STABLE_US) {
        r->crashes = 0;
    }
    bool asked = r->ending; /* not its fault */
    r->crashes += !asked;
    r->restarts++;
    r->pid = 0;
    (void)span_text((struct span){(const uint8_t *)reason, strnlen(reason, sizeof r->problem - 1)},
                    r->problem, sizeof r->problem);
    if (!was_up && ++r->bad_starts >= START_ATTEMPTS) {
        broken(r, reason);
        return;
    }
    log_warn("runner.down", "plugin=%s pid=%d %s; its agents go on from their last committed state",
             runner_label(r), pid, reason);
    if (!asked) {
        event_now(n, &(struct event){.kind = "runner.crashed", .text = r->problem});
    }
    r->state = asked || r->crashes <= CRASHES_QUIET ? RUNNER_STARTING : RUNNER_BACKOFF;
    outcome_lost(r, reason);
    r->ending = false;
    if (r->state == RUNNER_STARTING) {
        start(r);
    } else {
        n->env->timer_start(n->env->ctx, r->timer, backoff_ms(r->crashes));
        pump_types(r); /* what waits is told, not kept waiting */
        node_boot_step(n);
    }
}

/* ---- RUN ---- */

void runner_context(const struct work *w, struct buf *out)
{
    struct node *n = w->node;
    char text[HOST_ID_TEXT];
    bool sender = !gw_id_is_nil(&w->sender) && !poster_is(&w->sender);
    mp_map(out, 3 + (sender ? 1 : 0) + (w->from[0] ? 1 : 0) + (w->chain.len ? 1 : 0) +
                    carry_members(&w->carry) + files_members(w->agent));
    carry_pack_members(n, &w->carry, out);
    mp_str(out, "host");
    mp_str(out, n->name);
    mp_str(out, "host_id");
    mp_str(out, host_id_text(&n->self->id, text));
    mp_str(out, "home");
    mp_str(out, peer_label(peer_intern(n, w->agent->home)));
    if (sender) {
        mp_str(out, "sender");
        mp_id(out, &w->sender);
    }
    if (w->from[0]) {
        mp_str(out, "from");
        mp_str(out, w->from);
    }
    files_pack_members(n, w->agent, out);
    if (w->chain.len) {
        mp_str(out, "chain");
        buf_add(out, w->chain.data, w->chain.len);
    }
}

void runner_run(struct runner *r, struct work *w, struct span parts)
{
    struct node *n = w->node;
    struct buf frame = {0};
    if (trace_is_none(&w->carry.trace)) {
        w->carry.trace = trace_new(n);
    }
    w->stream = peer_stream(n);
    w->run_us = node_turn_us(n);
    size_t at = frame_begin(&frame, FRAME_RUN, w->stream, 10);
    mp_id(&frame, &w->agent->id);
    mp_str(&frame, w->agent->type->name);
    mp_uint(&frame, w->agent->epoch);
    mp_uint(&frame, w->hook);
    mp_str(&frame, w->method ? w->method : "");
    mp_span(&frame, buf_span(&w->args));
    mp_uint(&frame, w->flags | (w->hook == HOOK_METHOD && !w->call ? RUN_TOLD : 0));
    mp_bin(&frame, w->key, REQUEST_KEY_BYTES);
    if (parts.n > 0) {
        buf_add(&frame, parts.p, parts.n);
    } else {
        mp_nil(&frame);
    }
    runner_context(w, &frame);
    frame_end(&frame, at);
    if (!buf_ok(&frame)) {
        log_die("memory", "out of memory for a message of %zu bytes to agent type \"%s\"",
                w->args.len + parts.n, w->agent->type->name);
    }
    HASH_ADD(hh, r->in_flight, stream, sizeof w->stream, w);
    n->env->runner_send(n->env->ctx, r->index, &frame);
}

void runner_unload(struct runner *r, const gw_id *agent)
{
    struct node *n = r->node;
    if (r->state != RUNNER_UP || n->stopping) {
        return;
    }
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_UNLOAD, 0, 1);
    mp_id(&frame, agent);
    frame_end(&frame, at);
    n->env->runner_send(n->env->ctx, r->index, &frame);
}
