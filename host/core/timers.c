/* Durable timers of agents.
 *
 *   handler's transaction   {rows of the timers that it set, or their deletion, ...}
 *   when one is due         {inbox row: a message for on_timer; timer row advanced, or deleted}
 *   on_timer's transaction  {inbox row deleted, state, ...}
 *
 * So each firing is handled once although the host ends between any two of them, and from the
 * second on it is a message like any other: it wakes the agent, travels in its inbox, keeps its
 * turn. A timer has at most one message that waits; what comes due meanwhile is a missed period.
 * Setting or cancelling takes such a message back, in the same transaction.
 *
 * In memory a timer is in the heap of the node, by the time when something is to be done about it,
 * or rests: while its agent is frozen by a move, its message waits, or a transaction about it is on
 * its way. Whatever ends that state calls timer_settle. One timer of the environment stands for the
 * top of the heap.
 *
 * Clocks. An elapsed timer counts monotonic time. Its row holds the time left and the wall time of
 * writing; when it is read again, what passed since is taken from the wall clock (a clock that went
 * back counts as nothing). A running host compares its two clocks each second and writes these rows
 * anew when the wall clock has jumped, until they are durable, so that only a jump while the host
 * is down can be taken for time that passed. A ticket holds the time left, to be counted from when
 * it is stored at the destination. A wall timer is compared with the wall clock of the host where
 * it is. */
#include "host/core/timers.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/handoff.h"
#include "host/core/reach.h"

#define RETRY_US     1000000LL
#define JUMP_MS      1000            /* clocks that differ less drift, they do not jump */
#define ARM_MAX_MS   (3600LL * 1000) /* looks again at the clock this often at least */
#define FIRE_AT_ONCE 1000            /* per turn of the loop */

int64_t timers_mono(const struct node *n)
{
    return n->env->mono_us(n->env->ctx);
}

/* ---- rows: [clock, when, base, period, each, args] ---- */

void timer_row_pack(const struct timer_row *r, struct buf *out)
{
    mp_array(out, 6);
    mp_uint(out, r->wall);
    mp_int(out, r->when_ms);
    mp_int(out, r->base_ms);
    mp_int(out, r->period_ms);
    mp_bool(out, r->each);
    mp_span(out, r->args);
}

gw_err timer_row_check(const struct timer_row *r)
{
    bool periodic = r->period_ms != 0;
    struct mp m = mp_over(r->args);
    if (r->wall ? r->when_ms < 0 || r->when_ms > LIMIT_TIMER_AT_MS || periodic
                : r->when_ms < -LIMIT_TIMER_MS || r->when_ms > LIMIT_TIMER_MS) {
        return GW_EPROTO;
    }
    if ((periodic && (r->period_ms < LIMIT_TIMER_PERIOD_MS || r->period_ms > LIMIT_TIMER_MS)) ||
        (r->each && !periodic) || r->args.n > LIMIT_TIMER_ARGS_BYTES) {
        return GW_EPROTO;
    }
    if (r->args.n > 0 && (mp_peek(&m) != MP_MAP || mp_skip(&m, NULL) != GW_OK || !mp_done(&m))) {
        return GW_EPROTO;
    }
    return GW_OK;
}

gw_err timer_row_read(struct span value, struct timer_row *ret)
{
    struct timer_row r = {0};
    struct mp m = mp_over(value);
    size_t n;
    uint64_t clock;
    GW_TRY(mp_read_array(&m, &n));
    if (n < 6) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_uint(&m, &clock));
    GW_TRY(mp_read_int(&m, &r.when_ms));
    GW_TRY(mp_read_int(&m, &r.base_ms));
    GW_TRY(mp_read_int(&m, &r.period_ms));
    GW_TRY(mp_read_bool(&m, &r.each));
    GW_TRY(mp_read_bin(&m, &r.args));
    GW_TRY(mp_skip_n(&m, n - 6));
    if (clock > 1 || !mp_done(&m)) {
        return GW_EPROTO;
    }
    r.wall = clock == 1;
    GW_TRY(timer_row_check(&r));
    *ret = r;
    return GW_OK;
}

struct span timer_key(uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES], const gw_id *id,
                      uint64_t epoch, const char *name)
{
    size_t n = 0;
    row_key(raw, id, epoch);
    for (; name[n] && n < LIMIT_NAME_BYTES; n++) { /* a key holds no NUL */
        raw[ROW_KEY_BYTES + n] = (uint8_t)name[n];
    }
    return (struct span){raw, ROW_KEY_BYTES + n};
}

static int64_t clamp(int64_t ms)
{
    return ms > LIMIT_TIMER_MS ? LIMIT_TIMER_MS : ms < -LIMIT_TIMER_MS ? -LIMIT_TIMER_MS : ms;
}

static int64_t apart(int64_t from_ms, int64_t to_ms)
{
    int64_t d;
    return __builtin_sub_overflow(to_ms, from_ms, &d)
               ? (to_ms > from_ms ? LIMIT_TIMER_MS : -LIMIT_TIMER_MS)
               : clamp(d);
}

static int64_t wall_due_us(const struct node *n, int64_t at_ms)
{
    return timers_mono(n) + apart(node_now_ms(n), at_ms) * 1000;
}

/* Time left of an elapsed timer; rounded up, so that no one fires early. */
int64_t timer_left_ms(const struct node *n, int64_t due_us)
{
    int64_t us = due_us - timers_mono(n);
    return clamp(us > 0 ? (us + 999) / 1000 : us / 1000);
}

static void put_row(struct node *n, struct store_batch *batch, const struct timer *t,
                    int64_t due_us)
{
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    struct buf value = {0};
    struct timer_row r = {.wall = t->wall,
                          .each = t->each,
                          .when_ms = t->wall ? t->at_ms : timer_left_ms(n, due_us),
                          .base_ms = t->wall ? 0 : node_now_ms(n),
                          .period_ms = t->period_ms,
                          .args = buf_span(&t->args)};
    timer_row_pack(&r, &value);
    store_batch_put_take(batch, TABLE_TIMERS,
                         timer_key(raw, &t->agent->id, t->agent->epoch, t->name), &value);
    buf_free(&value);
}

/* ---- the heap ---- */

static void place(struct node *n, size_t at, struct timer *t)
{
    n->timers[at] = t;
    t->place = at;
}

static void sift(struct node *n, size_t at)
{
    struct timer *t = n->timers[at];
    while (at > 0 && n->timers[(at - 1) / 2]->wake_us > t->wake_us) {
        place(n, at, n->timers[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < n->timer_count &&
            n->timers[child + 1]->wake_us < n->timers[child]->wake_us) {
            child++;
        }
        if (child >= n->timer_count || n->timers[child]->wake_us >= t->wake_us) {
            break;
        }
        place(n, at, n->timers[child]);
        at = child;
    }
    place(n, at, t);
}

void timer_rest(struct node *n, struct timer *t)
{
    size_t at = t->place;
    if (at == TIMER_RESTS) {
        return;
    }
    struct timer *last = n->timers[--n->timer_count];
    t->place = TIMER_RESTS;
    if (last != t) {
        place(n, at, last);
        sift(n, at);
    }
}

static void heap_put(struct node *n, struct timer *t)
{
    if (t->place == TIMER_RESTS) {
        if (n->timer_count == n->timer_cap) {
            n->timer_cap = n->timer_cap ? n->timer_cap * 2 : 16;
            struct timer **grown = realloc(n->timers, n->timer_cap * sizeof(struct timer *));
            if (!grown) {
                log_die("memory", "out of memory for the timers of agents");
            }
            n->timers = grown;
        }
        place(n, n->timer_count++, t);
    }
    sift(n, t->place);
}

static void due(void *arg);

void timers_arm(struct node *n)
{
    if (n->timer_count == 0 || node_rests(n)) {
        return; /* a firing of the environment's timer for nothing does nothing */
    }
    if (!n->timers_alarm) {
        n->timers_alarm = n->env->timer_new(n->env->ctx, due, n);
    }
    int64_t ms = (n->timers[0]->wake_us - timers_mono(n) + 999) / 1000;
    n->env->timer_start(n->env->ctx, n->timers_alarm,
                        ms < 0            ? 0
                        : ms > ARM_MAX_MS ? ARM_MAX_MS
                                          : ms);
}

/* ---- timers of one agent ---- */

struct timer *timer_find(const struct agent *a, const char *name)
{
    struct timer *t = a->timers ? a->timers->first : NULL;
    while (t && strcmp(t->name, name) != 0) {
        t = t->next;
    }
    return t;
}

static bool rests(const struct timer *t)
{
    const struct agent *a = t->agent;
    return t->held || t->firing || t->waiting || a->timers->learning ||
           (a->status != AGENT_ACTIVE && a->status != AGENT_INACTIVE);
}

/* Into the heap, or out of it, as things stand. The caller arms the alarm. */
void timer_settle(struct node *n, struct timer *t)
{
    if (t->wall) {
        t->due_us = wall_due_us(n, t->at_ms);
    }
    if (rests(t)) {
        timer_rest(n, t);
        return;
    }
    if (t->wake_us < t->due_us || t->wake_us > timers_mono(n) + RETRY_US) {
        t->wake_us = t->due_us;
    }
    heap_put(n, t);
}

void timers_thaw(struct node *n, struct agent *a)
{
    for (struct timer *t = a->timers ? a->timers->first : NULL; t; t = t->next) {
        timer_settle(n, t);
    }
    timers_arm(n);
}

struct timer *timer_add(struct agent *a, const char *name)
{
    struct timer *t = xcalloc(1, sizeof *t);
    (void)span_text((struct span){(const uint8_t *)name, strlen(name)}, t->name, sizeof t->name);
    t->agent = a;
    t->place = TIMER_RESTS;
    if (!a->timers) {
        a->timers = xcalloc(1, sizeof *a->timers);
    }
    struct timer **end = &a->timers->first;
    while (*end) {
        end = &(*end)->next;
    }
    *end = t;
    a->timers->count++;
    return t;
}

void timer_drop(struct node *n, struct timer *t)
{
    struct agent_timers *all = t->agent->timers;
    struct timer **at = &all->first;
    while (*at != t) {
        at = &(*at)->next;
    }
    *at = t->next;
    all->count--;
    if (!all->first && !all->learning) {
        t->agent->timers = NULL;
        free(all);
    }
    timer_rest(n, t);
    buf_free(&t->args);
    free(t);
}

void timers_forget(struct node *n, struct agent *a)
{
    if (a->timers) {
        a->timers->learning = false;
    }
    while (a->timers) {
        timer_drop(n, a->timers->first);
    }
}

/* What a row or a handler says, as of monotonic time `us`. */
void timer_set(struct timer *t, const struct timer_row *r, int64_t us)
{
    t->wall = r->wall;
    t->each = r->each;
    t->period_ms = r->period_ms;
    t->at_ms = r->wall ? r->when_ms : 0;
    t->due_us = us + clamp(r->when_ms) * 1000; /* of a wall timer `settle` knows better */
    t->wake_us = 0;
    buf_reset(&t->args);
    buf_add(&t->args, r->args.p, r->args.n);
}

/* ---- firing ---- */

/* When a periodic timer is due after the firing at hand. */
static int64_t next_due(const struct node *n, const struct timer *t)
{
    int64_t now = timers_mono(n), period = t->period_ms * 1000, next = t->due_us + period;
    int64_t oldest = t->each ? now - (LIMIT_TIMER_MISSED - 1) * period : now;
    if (next <= oldest) {
        next += ((oldest - next) / period + 1) * period;
    }
    return next;
}

struct firing {
    struct node *n;
    gw_id agent;
    uint64_t epoch;
    struct work *w;
    int64_t next_us;
};

static struct agent *agent_of(struct node *n, const gw_id *id, uint64_t epoch)
{
    struct agent *a = agent_find(n, id);
    return a && a->epoch == epoch ? a : NULL;
}

static void fired(void *arg, gw_err err)
{
    struct firing *f = arg;
    struct node *n = f->n;
    struct agent *a = agent_of(n, &f->agent, f->epoch);
    struct timer *t = a ? timer_find(a, f->w->method) : NULL;
    if (t && t->firing == f->w->inbox) {
        t->firing = 0;
        if (err != GW_OK) {
            REACH(TIMER_ROLLED_BACK);
            t->wake_us = timers_mono(n) + RETRY_US; /* rolled back: as if it had not been due yet */
            timer_settle(n, t);
        } else if (t->period_ms == 0 && !t->held) {
            timer_drop(n, t);
        } else {
            t->waiting = f->w->inbox; /* held: what holds it sets it anew, or drops it */
            t->due_us = f->next_us;
            timer_settle(n, t);
        }
        timers_arm(n);
    }
    if (a && err == GW_OK) {
        work_push(f->w, false);
    } else {
        work_free(f->w);
    }
    free(f);
}

static void fire(struct node *n, struct timer *t)
{
    struct agent *a = t->agent;
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    struct firing *f = xcalloc(1, sizeof *f);
    struct store_batch *batch = store_batch_new();
    struct work *w = work_new(n, a, HOOK_TIMER);
    w->method = xstrdup(t->name);
    buf_add(&w->args, t->args.data, t->args.len);
    w->done = timers_message_done;
    inbox_put(a, w, batch);
    *f = (struct firing){n, a->id, a->epoch, w, 0};
    if (t->period_ms > 0) {
        f->next_us = next_due(n, t);
        put_row(n, batch, t, f->next_us);
    } else {
        store_batch_del(batch, TABLE_TIMERS, timer_key(raw, &a->id, a->epoch, t->name));
    }
    t->firing = w->inbox;
    node_commit(n, batch, POINT_TIMER_FIRED, fired, f);
}

/* The numbers of the inbox are known (or cannot be read): what is due may fire. */
static void learnt(struct work *w, gw_err err, const struct run_result *r,
                   const struct gw_error *why)
{
    struct node *n = w->node;
    struct agent *a = agent_of(n, &w->agent->id, w->agent->epoch);
    (void)r, (void)why;
    if (!a || !a->timers) {
        return;
    }
    a->timers->learning = false;
    if (!a->timers->first) { /* all were cancelled meanwhile */
        free(a->timers);
        a->timers = NULL;
        return;
    }
    for (struct timer *t = a->timers->first; err != GW_OK && t; t = t->next) {
        t->wake_us = timers_mono(n) + RETRY_US;
    }
    timers_thaw(n, a);
}

static void learn(struct node *n, struct agent *a)
{
    struct work *w = work_new(n, a, HOOK_NONE);
    w->lifecycle = true;
    w->only_known = true;
    w->done = learnt;
    a->timers->learning = true;
    work_push(w, true);
}

/* The agent has slept long enough: it is woken in its turn. Until then, and when it cannot be
 * woken, this comes again. */
static void wake_due(struct node *n, struct timer *t)
{
    struct agent *a = t->agent;
    t->wake_us = timers_mono(n) + RETRY_US;
    timer_settle(n, t);
    if (!a->waking && !a->start_waits && !a->starting) {
        starts_add(n, a, true);
        starts_go(n);
    }
}

static void come_due(struct node *n, struct timer *t)
{
    if (timer_is_wake(t)) {
        wake_due(n, t);
        return;
    }
    struct live *live = agent_live(t->agent);
    if (!live->known) {
        learn(n, t->agent);
    } else if (live->queued >= n->cfg.limits.mailbox ||
               live->queued_bytes >= n->cfg.limits.mailbox_bytes) {
        t->wake_us = timers_mono(n) + RETRY_US;
        timer_settle(n, t);
    } else {
        fire(n, t);
    }
}

static void due(void *arg)
{
    struct node *n = arg;
    int64_t now = timers_mono(n);
    for (int i = 0; i < FIRE_AT_ONCE && n->timer_count > 0 && n->timers[0]->wake_us <= now; i++) {
        struct timer *t = n->timers[0];
        timer_rest(n, t);
        if (node_rests(n)) {
            return;
        }
        if (t->wall) {
            t->due_us = wall_due_us(n, t->at_ms);
        }
        if (rests(t)) {
            continue;
        }
        if (t->due_us > now) {
            timer_settle(n, t); /* the clock was set back */
        } else {
            come_due(n, t);
        }
    }
    timers_arm(n);
}

/* Its message has been handled, or is not to be. */
void timers_message_done(struct work *w, gw_err err, const struct run_result *r,
                         const struct gw_error *why)
{
    struct agent *a = agent_of(w->node, &w->agent->id, w->agent->epoch);
    struct timer *t = a ? timer_find(a, w->method) : NULL;
    (void)err, (void)r, (void)why; /* a failure is an event (commit.c) */
    if (t && t->waiting == w->inbox) {
        t->waiting = 0;
        timer_settle(w->node, t);
        timers_arm(w->node);
    }
}

/* ---- from the store ---- */

/* Also while it moves on already. */
static bool is_asleep(const struct agent *a)
{
    return a->status == AGENT_INACTIVE ||
           (a->status == AGENT_MOVING && a->move && a->move->before == AGENT_INACTIVE);
}

void timers_load_row(struct node *n, struct agent *a, struct span name, struct span value)
{
    char text[LIMIT_NAME_BYTES + 1], id[GW_ID_TEXT];
    struct timer_row r;
    if (!span_text(name, text, sizeof text) || !timer_name_is_valid(text) ||
        timer_row_read(value, &r) != GW_OK || timer_find(a, text) ||
        (a->timers && a->timers->count > LIMIT_TIMERS_PER_AGENT)) {
        log_error("store.row", "table=timers agent=%s a row does not decode and was skipped",
                  gw_id_text(&a->id, id));
        return;
    }
    if (!is_asleep(a) && strcmp(text, TIMER_WAKE) == 0) {
        return;
    }
    if (!r.wall) {
        int64_t passed = apart(r.base_ms, node_now_ms(n));
        r.when_ms = clamp(r.when_ms - (passed > 0 ? passed : 0));
    }
    struct timer *t = timer_add(a, text);
    timer_set(t, &r, timers_mono(n));
    timer_settle(n, t);
    timers_arm(n);
}

void timers_load_message(struct node *n, struct work *w)
{
    struct timer *t = timer_find(w->agent, w->method);
    if (t) {
        t->waiting = w->inbox;
        timer_settle(n, t);
    }
}

/* ---- the wake-up of a sleeping agent ---- */

bool timer_is_wake(const struct timer *t)
{
    return strcmp(t->name, TIMER_WAKE) == 0;
}

bool timer_name_is_valid(const char *name)
{
    return name_is_valid(name) || strcmp(name, TIMER_WAKE) == 0;
}

static struct timer_row wake_row(const struct node *n, const struct sleep_wish *w)
{
    bool wall = w->when == WAKE_AT;
    return (struct timer_row){.wall = wall, .when_ms = w->ms, .base_ms = wall ? 0 : node_now_ms(n)};
}

void timers_wake_put(struct node *n, struct agent *a, struct store_batch *batch,
                     const struct sleep_wish *w)
{
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    struct timer *t = timer_find(a, TIMER_WAKE);
    struct span key = timer_key(raw, &a->id, a->epoch, TIMER_WAKE);
    if (t) {
        t->held = true;
        timer_rest(n, t);
    }
    if (w && w->when != WAKE_NEVER) {
        struct buf value = {0};
        struct timer_row row = wake_row(n, w);
        timer_row_pack(&row, &value);
        store_batch_put_take(batch, TABLE_TIMERS, key, &value);
        buf_free(&value);
    } else if (t) {
        store_batch_del(batch, TABLE_TIMERS, key);
    }
}

void timers_wake_settled(struct node *n, struct agent *a, const struct sleep_wish *w,
                         int64_t set_us, bool durable)
{
    struct timer *t = timer_find(a, TIMER_WAKE);
    if (durable && w && w->when != WAKE_NEVER) {
        struct timer_row row = wake_row(n, w);
        t = t ? t : timer_add(a, TIMER_WAKE);
        timer_set(t, &row, set_us);
    } else if (durable && t) {
        timer_drop(n, t);
        t = NULL;
    }
    if (t) {
        t->held = false;
        timer_settle(n, t);
        timers_arm(n);
    }
}

bool timers_wake_time(const struct node *n, const struct agent *a, int64_t *ret_ms)
{
    const struct timer *t = timer_find(a, TIMER_WAKE);
    if (!t) {
        return false;
    }
    *ret_ms = t->wall ? t->at_ms : node_now_ms(n) + timer_left_ms(n, t->due_us);
    return true;
}

/* ---- the two clocks ---- */

static int64_t offset_ms(const struct node *n)
{
    return node_now_ms(n) - timers_mono(n) / 1000;
}

static void jump_written(void *arg, gw_err err)
{
    struct node *n = arg;
    if (err != GW_OK) {
        REACH(CLOCK_JUMP_ROLLED_BACK);
        n->timers_unwritten = true;
    }
}

void timers_housekeeping(struct node *n)
{
    int64_t offset = offset_ms(n), jump = apart(n->clock_offset_ms, offset);
    bool set = jump <= -JUMP_MS || jump >= JUMP_MS;
    if (!set && !n->timers_unwritten) {
        return;
    }
    if (set) {
        REACH(CLOCK_JUMP);
        n->clock_offset_ms = offset;
        n->clock_set_us = timers_mono(n);
        log_info("timers.clock",
                 "jump_ms=%lld the wall clock was set; timers by elapsed time go on as they were",
                 (long long)jump);
    }
    n->timers_unwritten = false;
    struct store_batch *batch = store_batch_new();
    for (struct agent *a = n->agents; a; a = a->hh.next) {
        for (struct timer *t = a->timers ? a->timers->first : NULL; t; t = t->next) {
            if (t->held || t->firing || (a->move && a->move->t->phase >= OUT_COMMITTING)) {
                n->timers_unwritten = true; /* a transaction about it is on its way: in a second */
                continue;
            }
            if (t->wall) {
                timer_settle(n, t);
            } else {
                put_row(n, batch, t, t->due_us);
            }
        }
    }
    if (store_batch_count(batch) > 0) {
        node_commit(n, batch, POINT_TIMER_CLOCK, jump_written, n);
    } else {
        store_batch_free(batch);
    }
    timers_arm(n);
}

void timers_init(struct node *n)
{
    n->clock_offset_ms = offset_ms(n);
    n->clock_set_us = timers_mono(n);
}

void timers_free(struct node *n)
{
    n->env->timer_free(n->env->ctx, n->timers_alarm);
    n->timers_alarm = NULL;
    free(n->timers);
    n->timers = NULL;
}
