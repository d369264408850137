/* How a monitor fires: messages between its two ends, and the one message for on_down.
 *
 * A down that comes from the watched agent, or that this host decides (its host is lost, there is
 * no such agent), is one transaction here: {row OUT deleted, inbox row for on_down, ...}. From then
 * on it is a message like any other. It cannot be written while the agent is moving, or its mailbox
 * is full: then the watched agent's message is answered `busy` and comes again, and what this host
 * has decided stays due. */
#include "host/core/watches.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

/* ---- the message for on_down ---- */

static void down_handled(struct work *w, gw_err err, const struct run_result *r,
                         const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why; /* a failure is an event (commit.c) */
}

static void down_event(struct node *n, struct store_batch *batch, const struct watch *w,
                       const char *reason)
{
    char id[GW_ID_TEXT], text[160];
    struct buf line = {0};
    if (w->row.kind == WATCH_AGENT) {
        buf_addf(&line, "agent %s: %s", gw_id_text(&w->row.other, id), reason);
    } else {
        buf_addf(&line, "host \"%s\": %s", w->host ? peer_label(w->host) : w->where, reason);
    }
    if (span_text(buf_span(&line), text, sizeof text)) {
        event_put(n, batch,
                  &(struct event){.kind = "monitor.down",
                                  .agent = &w->agent->id,
                                  .type = w->agent->type->name,
                                  .text = text});
    }
    buf_free(&line);
}

#define NO_MESSAGE UINT64_MAX /* as `firing` */

/* Row and message into the batch. NULL: of a child, whose parent has ended. */
static struct work *down_put(struct node *n, struct watch *watch, const char *reason,
                             const char *where, struct store_batch *batch)
{
    struct agent *a = watch->agent;
    if (watch_is_of_child(watch)) {
        lineage_put(n, watch, batch);
        watch->firing = NO_MESSAGE;
        return NULL;
    }
    struct work *w = work_new(n, a, HOOK_DOWN);
    w->method = xstrdup("");
    w->done = down_handled;
    memcpy(w->key, watch->row.ref.b, sizeof w->key); /* its asks are of this down alone */
    mp_map(&w->args, 4);
    mp_str(&w->args, "ref");
    mp_id(&w->args, &watch->row.ref);
    mp_str(&w->args, "agent");
    if (watch->row.kind == WATCH_AGENT) {
        mp_id(&w->args, &watch->row.other);
    } else {
        mp_nil(&w->args);
    }
    mp_str(&w->args, "host");
    mp_str(&w->args, where);
    mp_str(&w->args, "reason");
    mp_str(&w->args, reason);
    inbox_put(a, w, batch);
    watch_del(a, &watch->row, batch);
    down_event(n, batch, watch, reason);
    watch->firing = w->inbox;
    return w;
}

/* What became of that transaction; the agent may have left meanwhile, its inbox with it. */
static void down_written(struct node *n, const gw_id *agent, uint64_t epoch, struct work *w,
                         gw_err err)
{
    struct agent *a = agent_find(n, agent);
    gw_id ref;
    memcpy(ref.b, w->key, sizeof ref.b);
    a = a && a->epoch == epoch ? a : NULL;
    struct watch *watch = a ? watch_find(a, WATCH_OUT, NULL, &ref) : NULL;
    if (watch && watch->firing == w->inbox) {
        watch->firing = 0;
        REACH_IF(err != GW_OK, DOWN_ROLLED_BACK);
        if (err == GW_OK && !watch->gone) {
            watch_drop(n, watch);
        } /* gone: the handler that ends it drops it */
    }
    if (a && err == GW_OK) {
        work_push(w, false);
    } else {
        work_free(w);
    }
}

/* The same of a child. */
static void end_written(struct node *n, const gw_id *agent, uint64_t epoch, const gw_id *ref,
                        gw_err err)
{
    struct agent *a = agent_find(n, agent);
    struct watch *w = a && a->epoch == epoch ? watch_find(a, WATCH_OUT, NULL, ref) : NULL;
    if (w && w->firing == NO_MESSAGE) {
        w->firing = 0;
        if (err == GW_OK) {
            lineage_written(n, w);
        }
    }
}

/* ---- downs that this host has decided ---- */

struct firing {
    struct node *n;
    gw_id agent;
    uint64_t epoch;
    gw_id ref;
    struct work *w; /* NULL: of a child */
};

static void fired(void *arg, gw_err err)
{
    struct firing f = *(struct firing *)arg;
    free(arg);
    if (f.w) { /* rolled back: housekeeping tries again */
        down_written(f.n, &f.agent, f.epoch, f.w, err);
    } else {
        end_written(f.n, &f.agent, f.epoch, &f.ref, err);
    }
}

static void fire(struct node *n, struct watch *watch)
{
    struct agent *a = watch->agent;
    struct firing *f = xcalloc(1, sizeof *f);
    struct store_batch *batch = store_batch_new();
    *f = (struct firing){.n = n, .agent = a->id, .epoch = a->epoch, .ref = watch->row.ref};
    f->w = down_put(n, watch, watch->due, watch->where, batch);
    node_commit(n, batch, POINT_MONITOR_FIRED, fired, f);
}

static void learnt(struct work *w, gw_err err, const struct run_result *r,
                   const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = agent_find(n, &w->agent->id);
    (void)r, (void)why;
    if (a && a->watches) {
        a->watches->learning = false;
        if (err == GW_OK) {
            downs_pump(n, a);
        }
    }
}

static void learn(struct node *n, struct agent *a)
{
    struct work *w = work_new(n, a, HOOK_NONE);
    w->lifecycle = true;
    w->only_known = true;
    w->done = learnt;
    a->watches->learning = true;
    work_push(w, true);
}

static bool can_take(const struct node *n, const struct agent *a)
{
    const struct live *live = a->live;
    return !a->move && !n->stopping && !a->loading && !n->loading &&
           (a->status == AGENT_ACTIVE || a->status == AGENT_INACTIVE) &&
           (!live || (live->queued < n->cfg.limits.mailbox &&
                      live->queued_bytes < n->cfg.limits.mailbox_bytes));
}

void downs_pump(struct node *n, struct agent *a)
{
    struct watch *w, *next;
    for (w = a->watches ? a->watches->first : NULL; w; w = next) {
        next = w->next;
        if (!w->due || w->firing || w->fresh || w->gone) {
            continue;
        }
        if (!can_take(n, a) || a->watches->learning) {
            return;
        }
        if (!agent_live(a)->known) {
            learn(n, a);
            return;
        }
        fire(n, w);
    }
    lineage_pump(n, a);
}

void down_is_due(struct node *n, struct watch *w, const char *reason, const char *where)
{
    if (!w->due) {
        w->due = reason;
        (void)span_text((struct span){(const uint8_t *)where, strnlen(where, LIMIT_NAME_BYTES)},
                        w->where, sizeof w->where);
    }
    downs_pump(n, w->agent);
}

/* ---- taken back by the handler that ends the monitor ---- */

static bool is_down_of(const struct work *w, const gw_id *ref)
{
    return w->hook == HOOK_DOWN && w->inbox && memcmp(w->key, ref->b, sizeof w->key) == 0;
}

void downs_take_back_rows(struct agent *a, const struct watch *w, const gw_id *ref,
                          struct store_batch *batch)
{
    const struct work *o;
    if (w && w->firing) {
        inbox_del(a, w->firing, batch);
    }
    TAILQ_FOREACH (o, &a->live->queue, link) {
        if (is_down_of(o, ref)) {
            inbox_del(a, o->inbox, batch);
        }
    }
}

void downs_take_back(struct agent *a, const gw_id *ref)
{
    struct work *w, *next;
    for (w = TAILQ_FIRST(&a->live->queue); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (is_down_of(w, ref)) {
            work_withdraw(w);
        }
    }
}

/* ---- messages between both ends: at the receiver ---- */

/* A quarantined agent answers to one who begins to watch it; what else it is told waits. */
static bool asks_quarantined(const struct agent *a, const char *method, bool child)
{
    return a->status == AGENT_QUARANTINED && a->fault && strcmp(method, WATCH_BEGIN) == 0 && !child;
}

bool watches_is_message(const char *method)
{
    return strcmp(method, WATCH_BEGIN) == 0 || strcmp(method, WATCH_STOP) == 0 ||
           strcmp(method, WATCH_DOWN) == 0;
}

struct note {
    gw_id ref;
    bool child;
    const char *reason; /* one of ours */
    char where[LIMIT_NAME_BYTES + 1];
};

static gw_err note_read_args(struct span args, struct note *ret)
{
    static const char *const reasons[] = {DOWN_DISPOSED, DOWN_CRASHED};
    gw_value map = gw_nil();
    GW_TRY(value_unpack_span(args, &map));
    const gw_value *ref = gw_map_get(&map, "ref");
    const char *reason = gw_map_str(&map, "reason", ""), *where = gw_map_str(&map, "host", "");
    *ret = (struct note){0};
    bool good = ref && ref->kind == GW_ID && !gw_id_is_nil(&ref->id) &&
                span_text((struct span){(const uint8_t *)where, strlen(where)}, ret->where,
                          sizeof ret->where);
    if (good) {
        ret->ref = ref->id;
        ret->child = gw_map_bool(&map, "child", false);
    }
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (strcmp(reason, reasons[i]) == 0) {
            ret->reason = reasons[i];
        }
    }
    gw_value_free(&map);
    return good ? GW_OK : GW_EPROTO;
}

bool watches_refuse_quarantined(const struct agent *a, const char *method, struct span args)
{
    struct note note;
    return strcmp(method, WATCH_BEGIN) == 0 && note_read_args(args, &note) == GW_OK &&
           asks_quarantined(a, method, note.child);
}

/* The oldest monitor that this agent holds on a; perhaps left behind by a host that was lost. */
static struct watch *oldest_of(const struct agent *a, const gw_id *watcher)
{
    struct watch *oldest = NULL;
    for (struct watch *w = a->watches ? a->watches->first : NULL; w; w = w->next) {
        if (w->row.end == WATCH_IN && w->row.kind == WATCH_AGENT &&
            gw_id_equal(&w->row.other, watcher) &&
            (!oldest || w->row.since_ms < oldest->row.since_ms)) {
            oldest = w;
        }
    }
    return oldest;
}

static bool is_full(const struct agent *a)
{
    return a->watches && a->watches->counts[WATCH_IN] >= LIMIT_WATCHERS_PER_AGENT;
}

gw_err watches_admit(struct agent *a, const gw_id *sender, const char *method, struct span args,
                     struct gw_error *why)
{
    struct note note;
    bool down = strcmp(method, WATCH_DOWN) == 0;
    if (note_read_args(args, &note) != GW_OK || (down && !note.reason)) {
        return gw_fail(why, GW_EPROTO, "a message about a monitor is not well formed");
    }
    if (strcmp(method, WATCH_BEGIN) == 0 && is_full(a) &&
        !watch_find(a, WATCH_IN, sender, &note.ref) && !oldest_of(a, sender)) {
        return gw_fail(why, GW_EREFUSED, "the agent is watched by %d others already",
                       LIMIT_WATCHERS_PER_AGENT);
    }
    const struct watch *w = down ? watch_find(a, WATCH_OUT, sender, &note.ref) : NULL;
    if (w && (w->firing || w->gone)) {
        return gw_fail(why, GW_EBUSY, "the monitor is just ending");
    }
    return GW_OK;
}

struct work *watches_accept(struct node *n, struct agent *a, const gw_id *sender,
                            const char *method, struct span args, struct store_batch *batch)
{
    struct note note;
    struct watch *w;
    if (note_read_args(args, &note) != GW_OK) {
        return NULL;
    }
    if (strcmp(method, WATCH_DOWN) == 0) {
        w = watch_find(a, WATCH_OUT, sender, &note.ref);
        return w && w->row.kind != WATCH_ENDING ? down_put(n, w, note.reason, note.where, batch)
                                                : NULL;
    }
    w = watch_find(a, WATCH_IN, sender, &note.ref);
    if (strcmp(method, WATCH_STOP) == 0) {
        if (w) {
            watch_del(a, &w->row, batch);
        }
        return NULL;
    }
    if (!w && is_full(a)) {
        struct watch *old = oldest_of(a, sender);
        watch_del(a, &old->row, batch);
        watch_drop(n, old);
    }
    struct watch_row row = {.end = WATCH_IN,
                            .kind = note.child ? WATCH_PARENT : WATCH_AGENT,
                            .other = *sender,
                            .ref = note.ref,
                            .since_ms = node_now_ms(n)};
    watch_put(w ? w : watch_add(n, a, &row), batch); /* rolled back: it is sent again */
    return NULL;
}

void watches_accepted(struct node *n, const gw_id *agent, uint64_t epoch, const gw_id *sender,
                      const char *method, struct span args, struct work *down, gw_err err)
{
    struct note note;
    struct agent *a = agent_find(n, agent);
    if (down) {
        down_written(n, agent, epoch, down, err);
    } else if (strcmp(method, WATCH_DOWN) == 0 && note_read_args(args, &note) == GW_OK) {
        end_written(n, agent, epoch, &note.ref, err);
    } else if (a && a->epoch == epoch && err == GW_OK && strcmp(method, WATCH_STOP) == 0 &&
               note_read_args(args, &note) == GW_OK) {
        struct watch *w = watch_find(a, WATCH_IN, sender, &note.ref);
        if (w) {
            watch_drop(n, w);
        }
    }
}

/* ---- at their sender ---- */

static struct watch *watch_of(struct node *n, const gw_id *sender, const gw_id *target,
                              struct span args)
{
    struct note note;
    struct agent *a = agent_find(n, sender);
    return a && note_read_args(args, &note) == GW_OK ? watch_find(a, WATCH_OUT, target, &note.ref)
                                                     : NULL;
}

bool watches_want(struct node *n, const gw_id *sender, const gw_id *target, const char *method,
                  struct span args)
{
    const struct watch *w =
        strcmp(method, WATCH_BEGIN) == 0 ? watch_of(n, sender, target, args) : NULL;
    return strcmp(method, WATCH_BEGIN) != 0 || (w && w->row.kind != WATCH_ENDING);
}

bool watches_undelivered(struct node *n, const gw_id *sender, const gw_id *target,
                         const char *method, struct span args, gw_err err)
{
    const char *reason = err == GW_EQUARANTINED                              ? DOWN_CRASHED
                         : err == GW_EDISPOSED || err == GW_EAGENT_NOT_FOUND ? DOWN_NOT_FOUND
                         : err == GW_EREFUSED                                ? DOWN_REFUSED
                                                                             : NULL;
    struct watch *w = strcmp(method, WATCH_BEGIN) == 0 ? watch_of(n, sender, target, args) : NULL;
    if (reason && w) {
        down_is_due(n, w, reason, ""); /* the message stays until that is durable */
    }
    return !reason || w;
}
