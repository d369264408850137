/* Durable timers of agents.
 *
 *   handler's transaction: {row of each timer that it set, or its deletion, ...}
 *   due:                   {inbox row: a message for on_timer; row advanced, or deleted when it was
 * for once} on_timer's transaction: {inbox row deleted, state, ...}
 *
 * So each firing is handled once although the host ends between any two of them, and from the
 * second on it is a message like any other: it wakes the agent, travels in its inbox, keeps its
 * turn. A timer has at most one message that waits; what comes due meanwhile is a missed period.
 * Setting or cancelling takes such a message back, in the same transaction.
 *
 * In memory a timer is in the heap of the node, by the time when something is to be done about it,
 * or rests: while its agent is frozen by a move, its message waits, or a transaction about it is on
 * its way. Whatever ends that state calls `settle`. One timer of the environment stands for the top
 * of the heap.
 *
 * Clocks. An elapsed timer counts monotonic time. Its row holds the time left and the wall time of
 * writing; when it is read again, what passed since is taken from the wall clock (a clock that went
 * back counts as nothing). A running host compares its two clocks each second and writes these rows
 * anew when the wall clock has jumped, so that only a jump while the host is down can be taken for
 * time that passed. A ticket holds the time left, to be counted from when it is stored at the
 * destination. A wall timer is compared with the wall clock of the host where it is. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_US     1000000LL
#define JUMP_MS      1000            /* clocks that differ less drift, they do not jump */
#define ARM_MAX_MS   (3600LL * 1000) /* looks again at the clock this often at least */
#define FIRE_AT_ONCE 1000            /* per turn of the loop */
#define RESTS        SIZE_MAX        /* place of a timer that is not in the heap */
#define ACTIONS_MAX  (2 * LIMIT_TIMERS_PER_AGENT)

struct timer {
    struct timer *next; /* of the same agent */
    struct agent *agent;
    int64_t due_us;  /* monotonic; of a wall timer as the clocks stand now */
    int64_t wake_us; /* key in the heap: due_us, or later after a failure */
    int64_t at_ms;   /* of a wall timer */
    int64_t period_ms;
    size_t place;
    uint64_t firing;  /* inbox number of a firing whose transaction is on its way; 0 = none */
    uint64_t waiting; /* inbox number of its message; 0 = none */
    bool wall, each;
    bool held; /* a handler's transaction that sets or cancels it is on its way */
    struct buf args;
    char name[LIMIT_NAME_BYTES + 1];
};

struct agent_timers {
    struct timer *first;
    size_t count;
    bool learning; /* the numbers of its inbox are being read */
};

/* A row, or what a handler asked for. */
struct timer_row {
    bool wall, each;
    int64_t when_ms; /* wall: the time; elapsed: time left at base_ms, below 0 when overdue */
    int64_t base_ms;
    int64_t period_ms;
    struct span args;
};

static int64_t mono(const struct node *n)
{
    return n->env->mono_us(n->env->ctx);
}

/* ---- rows: [clock, when, base, period, each, args] ---- */

static void row_pack(const struct timer_row *r, struct buf *out)
{
    mp_array(out, 6);
    mp_uint(out, r->wall);
    mp_int(out, r->when_ms);
    mp_int(out, r->base_ms);
    mp_int(out, r->period_ms);
    mp_bool(out, r->each);
    mp_span(out, r->args);
}

static gw_err row_check(const struct timer_row *r)
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

static gw_err row_read(struct span value, struct timer_row *ret)
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
    GW_TRY(row_check(&r));
    *ret = r;
    return GW_OK;
}

static struct span row_name(uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES], const gw_id *id,
                            uint64_t epoch, const char *name)
{
    size_t n = strlen(name);
    row_key(raw, id, epoch);
    memcpy(raw + ROW_KEY_BYTES, name, n);
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
    return mono(n) + apart(node_now_ms(n), at_ms) * 1000;
}

/* Time left of an elapsed timer; rounded up, so that no one fires early. */
static int64_t left_ms(const struct node *n, int64_t due_us)
{
    int64_t us = due_us - mono(n);
    return clamp(us > 0 ? (us + 999) / 1000 : us / 1000);
}

static void put_row(struct node *n, struct store_batch *batch, const struct timer *t,
                    int64_t due_us)
{
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    struct buf value = {0};
    struct timer_row r = {.wall = t->wall,
                          .each = t->each,
                          .when_ms = t->wall ? t->at_ms : left_ms(n, due_us),
                          .base_ms = t->wall ? 0 : node_now_ms(n),
                          .period_ms = t->period_ms,
                          .args = buf_span(&t->args)};
    row_pack(&r, &value);
    store_batch_put_take(batch, TABLE_TIMERS,
                         row_name(raw, &t->agent->id, t->agent->epoch, t->name), &value);
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

static void heap_remove(struct node *n, struct timer *t)
{
    size_t at = t->place;
    if (at == RESTS) {
        return;
    }
    struct timer *last = n->timers[--n->timer_count];
    t->place = RESTS;
    if (last != t) {
        place(n, at, last);
        sift(n, at);
    }
}

static void heap_put(struct node *n, struct timer *t)
{
    if (t->place == RESTS) {
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

static void arm(struct node *n)
{
    if (n->timer_count == 0 || n->stopping) {
        return; /* a firing of the environment's timer for nothing does nothing */
    }
    if (!n->timers_alarm) {
        n->timers_alarm = n->env->timer_new(n->env->ctx, due, n);
    }
    int64_t ms = (n->timers[0]->wake_us - mono(n) + 999) / 1000;
    n->env->timer_start(n->env->ctx, n->timers_alarm,
                        ms < 0            ? 0
                        : ms > ARM_MAX_MS ? ARM_MAX_MS
                                          : ms);
}

/* ---- timers of one agent ---- */

static struct timer *find(const struct agent *a, const char *name)
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
static void settle(struct node *n, struct timer *t)
{
    if (t->wall) {
        t->due_us = wall_due_us(n, t->at_ms);
    }
    if (rests(t)) {
        heap_remove(n, t);
        return;
    }
    if (t->wake_us < t->due_us || t->wake_us > mono(n) + RETRY_US) {
        t->wake_us = t->due_us;
    }
    heap_put(n, t);
}

void timers_thaw(struct node *n, struct agent *a)
{
    for (struct timer *t = a->timers ? a->timers->first : NULL; t; t = t->next) {
        settle(n, t);
    }
    arm(n);
}

static struct timer *timer_add(struct agent *a, const char *name)
{
    struct timer *t = xcalloc(1, sizeof *t);
    (void)span_text((struct span){(const uint8_t *)name, strlen(name)}, t->name, sizeof t->name);
    t->agent = a;
    t->place = RESTS;
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

static void timer_drop(struct node *n, struct timer *t)
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
    heap_remove(n, t);
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
static void timer_set(struct timer *t, const struct timer_row *r, int64_t us)
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
    int64_t now = mono(n), period = t->period_ms * 1000, next = t->due_us + period;
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
    struct timer *t = a ? find(a, f->w->method) : NULL;
    if (t && t->firing == f->w->inbox) {
        t->firing = 0;
        if (err != GW_OK) {
            t->wake_us = mono(n) + RETRY_US; /* rolled back: as if it had not been due yet */
            settle(n, t);
        } else if (t->period_ms == 0 && !t->held) {
            timer_drop(n, t);
        } else {
            t->waiting = f->w->inbox; /* held: what holds it sets it anew, or drops it */
            t->due_us = f->next_us;
            settle(n, t);
        }
        arm(n);
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
        store_batch_del(batch, TABLE_TIMERS, row_name(raw, &a->id, a->epoch, t->name));
    }
    t->firing = w->inbox;
    node_commit(n, batch, fired, f);
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
        t->wake_us = mono(n) + RETRY_US;
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

static void come_due(struct node *n, struct timer *t)
{
    struct live *live = agent_live(t->agent);
    if (!live->known) {
        learn(n, t->agent);
    } else if (live->queued >= n->cfg.limits.mailbox ||
               live->queued_bytes >= n->cfg.limits.mailbox_bytes) {
        t->wake_us = mono(n) + RETRY_US;
        settle(n, t);
    } else {
        fire(n, t);
    }
}

static void due(void *arg)
{
    struct node *n = arg;
    int64_t now = mono(n);
    for (int i = 0; i < FIRE_AT_ONCE && n->timer_count > 0 && n->timers[0]->wake_us <= now; i++) {
        struct timer *t = n->timers[0];
        heap_remove(n, t);
        if (n->stopping) {
            return;
        }
        if (t->wall) {
            t->due_us = wall_due_us(n, t->at_ms);
        }
        if (rests(t)) {
            continue;
        }
        if (t->due_us > now) {
            settle(n, t); /* the clock was set back */
        } else {
            come_due(n, t);
        }
    }
    arm(n);
}

/* Its message has been handled, or is not to be. */
void timers_message_done(struct work *w, gw_err err, const struct run_result *r,
                         const struct gw_error *why)
{
    struct agent *a = agent_of(w->node, &w->agent->id, w->agent->epoch);
    struct timer *t = a ? find(a, w->method) : NULL;
    (void)err, (void)r, (void)why; /* a failure is an event (commit.c) */
    if (t && t->waiting == w->inbox) {
        t->waiting = 0;
        settle(w->node, t);
        arm(w->node);
    }
}

/* ---- actions of handlers ---- */

struct wish {
    bool cancel;
    char name[LIMIT_NAME_BYTES + 1];
    struct timer_row row;
    struct buf args; /* row.args is in it; owned */
};

bool timers_is_action(struct span verb)
{
    return span_is(verb, "timer") || span_is(verb, "timer_cancel");
}

static gw_err wish_read(struct span verb, struct span packed, struct wish *ret)
{
    struct wish w = {.cancel = span_is(verb, "timer_cancel")};
    gw_value map = gw_nil();
    GW_TRY(value_unpack_span(packed, &map));
    const char *name = gw_map_str(&map, "name", "");
    const gw_value *when = gw_map_get(&map, "when");
    const gw_value *args = gw_map_get(&map, "args");
    gw_err err = name_is_valid(name) ? GW_OK : GW_EPROTO;
    (void)span_text((struct span){(const uint8_t *)name, strlen(name)}, w.name, sizeof w.name);
    if (err == GW_OK && !w.cancel) {
        w.row.wall = when && when->kind == GW_TIME;
        w.row.when_ms = w.row.wall ? when->time.ms : when && when->kind == GW_INT ? when->i : -1;
        w.row.period_ms = gw_map_int(&map, "period", 0);
        w.row.each = gw_map_bool(&map, "each", false);
        if (args) {
            value_pack(args, &w.args);
        }
        w.row.args = buf_span(&w.args);
        bool early = !w.row.wall && w.row.when_ms < 0;
        err = early || !buf_ok(&w.args) ? GW_EPROTO : row_check(&w.row);
    }
    gw_value_free(&map);
    if (err != GW_OK) {
        buf_free(&w.args);
        return err;
    }
    *ret = w;
    return GW_OK;
}

/* The next action about timers; false at the end. */
static bool next_action(struct mp *m, struct span *ret_verb, struct span *ret_args)
{
    struct span raw;
    size_t fields;
    while (!mp_done(m) && mp_skip(m, &raw) == GW_OK) {
        struct mp one = mp_over(raw);
        if (mp_read_array(&one, &fields) == GW_OK && fields >= 2 &&
            mp_read_str(&one, ret_verb) == GW_OK && mp_skip(&one, ret_args) == GW_OK &&
            timers_is_action(*ret_verb)) {
            return true;
        }
    }
    return false;
}

static bool actions_of(const struct work *w, struct mp *ret)
{
    size_t n;
    *ret = mp_over(w->result.actions);
    return w->result.err == GW_OK && w->result.actions.n > 0 && mp_read_array(ret, &n) == GW_OK &&
           n > 0;
}

gw_err timers_check(const struct work *w, struct gw_error *why)
{
    struct mp m;
    struct span verb, args;
    struct wish wish;
    char names[LIMIT_TIMERS_PER_AGENT + 1][LIMIT_NAME_BYTES + 1];
    size_t count = 0, seen = 0, i;
    if (!actions_of(w, &m)) {
        return GW_OK;
    }
    for (const struct timer *t = w->agent->timers ? w->agent->timers->first : NULL; t;
         t = t->next) {
        memcpy(names[count++], t->name, sizeof t->name);
    }
    while (next_action(&m, &verb, &args)) {
        if (++seen > ACTIONS_MAX) {
            return gw_fail(why, GW_EBUSY, "one handler sets or cancels at most %d timers",
                           ACTIONS_MAX);
        }
        if (wish_read(verb, args, &wish) != GW_OK) {
            return gw_fail(why, GW_EARG, "the handler recorded a timer that cannot be");
        }
        buf_free(&wish.args);
        for (i = 0; i < count && strcmp(names[i], wish.name) != 0; i++) {
        }
        if (wish.cancel && i < count) {
            memmove(names[i], names[--count], sizeof names[i]);
        } else if (!wish.cancel && i == count) {
            memcpy(names[count++], wish.name, sizeof wish.name);
        }
        if (count > LIMIT_TIMERS_PER_AGENT) {
            return gw_fail(why, GW_EBUSY, "an agent has at most %d timers", LIMIT_TIMERS_PER_AGENT);
        }
    }
    return GW_OK;
}

static bool is_message(const struct work *w, const char *name)
{
    return w->inbox && w->hook == HOOK_TIMER && strcmp(w->method, name) == 0;
}

/* Messages of this name that nobody has begun to handle. */
static void take_back_rows(struct agent *a, struct store_batch *batch, const char *name)
{
    const struct timer *t = find(a, name);
    const struct work *w;
    if (t && t->firing) {
        inbox_del(a, t->firing, batch);
    }
    TAILQ_FOREACH (w, &a->live->queue, link) {
        if (is_message(w, name)) {
            inbox_del(a, w->inbox, batch);
        }
    }
}

bool timers_wake(const struct agent *a)
{
    const struct work *w;
    TAILQ_FOREACH (w, &a->live->queue, link) {
        if (w->inbox && w->hook == HOOK_TIMER) {
            return true;
        }
    }
    return false;
}

static void take_back(struct agent *a, const char *name)
{
    struct work *w, *next;
    for (w = TAILQ_FIRST(&a->live->queue); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (is_message(w, name)) {
            work_withdraw(w);
        }
    }
}

void timers_action(struct work *w, struct store_batch *batch, struct span verb, struct span args)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    struct wish wish;
    struct buf value = {0};
    if (wish_read(verb, args, &wish) != GW_OK) {
        return; /* timers_check has seen it before */
    }
    struct timer *t = find(a, wish.name);
    w->timers_us = mono(n);
    take_back_rows(a, batch, wish.name);
    if (t) {
        t->held = true;
        heap_remove(n, t);
    }
    struct span key = row_name(raw, &a->id, a->epoch, wish.name);
    if (wish.cancel) {
        store_batch_del(batch, TABLE_TIMERS, key);
    } else {
        wish.row.base_ms = wish.row.wall ? 0 : node_now_ms(n);
        row_pack(&wish.row, &value);
        store_batch_put_take(batch, TABLE_TIMERS, key, &value);
        buf_free(&value);
    }
    buf_free(&wish.args);
}

void timers_committed(struct work *w)
{
    struct agent *a = w->agent;
    struct mp m;
    struct span verb, args;
    struct wish wish;
    bool any = false;
    if (!actions_of(w, &m)) {
        return;
    }
    while (next_action(&m, &verb, &args)) {
        if (wish_read(verb, args, &wish) != GW_OK) {
            continue;
        }
        struct timer *t = find(a, wish.name);
        any = true;
        take_back(a, wish.name);
        if (wish.cancel && t) {
            timer_drop(w->node, t);
        } else if (!wish.cancel) {
            t = t ? t : timer_add(a, wish.name);
            timer_set(t, &wish.row, w->timers_us);
            t->waiting = 0;
            t->held = false;
        }
        buf_free(&wish.args);
    }
    if (any) {
        timers_thaw(w->node, a);
    }
}

void timers_rolled_back(struct work *w)
{
    struct agent *a = w->agent;
    struct mp m;
    if (!actions_of(w, &m) || !a->timers) {
        return;
    }
    struct timer *t, *next;
    for (t = a->timers->first; t; t = next) {
        next = t->next;
        if (!t->held) {
            continue;
        }
        t->held = false;
        if (t->waiting && t->period_ms == 0) {
            timer_drop(w->node, t); /* fired meanwhile, for once */
        } else {
            settle(w->node, t);
        }
    }
    arm(w->node);
}

/* ---- from the store, from and to tickets, for people ---- */

void timers_load_row(struct node *n, struct agent *a, struct span name, struct span value)
{
    char text[LIMIT_NAME_BYTES + 1], id[GW_ID_TEXT];
    struct timer_row r;
    if (!span_text(name, text, sizeof text) || !name_is_valid(text) ||
        row_read(value, &r) != GW_OK || find(a, text) ||
        (a->timers && a->timers->count >= LIMIT_TIMERS_PER_AGENT)) {
        log_error("store.row", "table=timers agent=%s a row does not decode and was skipped",
                  gw_id_text(&a->id, id));
        return;
    }
    if (!r.wall) {
        int64_t passed = apart(r.base_ms, node_now_ms(n));
        r.when_ms = clamp(r.when_ms - (passed > 0 ? passed : 0));
    }
    struct timer *t = timer_add(a, text);
    timer_set(t, &r, mono(n));
    settle(n, t);
    arm(n);
}

void timers_load_message(struct node *n, struct work *w)
{
    struct timer *t = find(w->agent, w->method);
    if (t) {
        t->waiting = w->inbox;
        settle(n, t);
    }
}

void timers_pack(struct node *n, const struct agent *a, struct buf *out)
{
    mp_array(out, a->timers ? a->timers->count : 0);
    for (const struct timer *t = a->timers ? a->timers->first : NULL; t; t = t->next) {
        struct timer_row r = {.wall = t->wall,
                              .each = t->each,
                              .when_ms = t->wall ? t->at_ms : left_ms(n, t->due_us),
                              .period_ms = t->period_ms,
                              .args = buf_span(&t->args)};
        struct buf value = {0};
        row_pack(&r, &value);
        mp_array(out, 2);
        mp_bin(out, t->name, strlen(t->name));
        mp_span(out, buf_span(&value));
        buf_free(&value);
    }
}

gw_err timers_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span list,
                    int64_t now_ms)
{
    struct mp m = mp_over(list);
    size_t n, two;
    GW_TRY(mp_read_array(&m, &n));
    if (n > LIMIT_TIMERS_PER_AGENT) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < n; i++) {
        struct span name, value;
        char text[LIMIT_NAME_BYTES + 1];
        struct timer_row r;
        uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
        GW_TRY(mp_read_array(&m, &two));
        GW_TRY(mp_read_bin(&m, &name));
        GW_TRY(mp_read_bin(&m, &value));
        if (two != 2 || !span_text(name, text, sizeof text) || !name_is_valid(text)) {
            return GW_EPROTO;
        }
        GW_TRY(row_read(value, &r));
        r.base_ms = r.wall ? 0 : now_ms; /* the time left counts from here */
        struct buf row = {0};
        row_pack(&r, &row);
        store_batch_put_take(batch, TABLE_TIMERS, row_name(raw, agent, epoch, text), &row);
        buf_free(&row);
    }
    return GW_OK;
}

static gw_err describe(struct node *n, const struct timer *t, gw_value *ret)
{
    int64_t at = t->wall ? t->at_ms : node_now_ms(n) + left_ms(n, t->due_us);
    GW_TRY(gw_map_set(ret, "name", gw_str(t->name)));
    GW_TRY(gw_map_set(ret, "due", gw_time_value((gw_time){at})));
    GW_TRY(gw_map_set(ret, "period_ms", t->period_ms ? gw_int(t->period_ms) : gw_nil()));
    return gw_map_set(ret, "clock", gw_str(t->wall ? "wall" : "elapsed"));
}

gw_err timers_describe(struct node *n, const struct agent *a, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (const struct timer *t = a->timers ? a->timers->first : NULL; err == GW_OK && t;
         t = t->next) {
        gw_value one = {0};
        err = describe(n, t, &one);
        if (err == GW_OK) {
            err = gw_list_add(&list, one);
        } else {
            gw_value_free(&one);
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

/* ---- the two clocks ---- */

static int64_t offset_ms(const struct node *n)
{
    return node_now_ms(n) - mono(n) / 1000;
}

void timers_housekeeping(struct node *n)
{
    int64_t offset = offset_ms(n), jump = apart(n->clock_offset_ms, offset);
    bool left_out = false;
    if (jump > -JUMP_MS && jump < JUMP_MS) {
        return;
    }
    struct store_batch *batch = store_batch_new();
    for (struct agent *a = n->agents; a; a = a->hh.next) {
        for (struct timer *t = a->timers ? a->timers->first : NULL; t; t = t->next) {
            if (t->held || t->firing || (a->move && a->move->phase >= OUT_COMMITTING)) {
                left_out = true; /* a transaction about it is on its way: in a second */
                continue;
            }
            if (t->wall) {
                settle(n, t);
            } else {
                put_row(n, batch, t, t->due_us);
            }
        }
    }
    if (!left_out) {
        n->clock_offset_ms = offset;
    }
    if (store_batch_count(batch) > 0) {
        log_info("timers.clock",
                 "jump_ms=%lld the wall clock was set; timers by elapsed time go on as they were",
                 (long long)jump);
        node_commit(n, batch, NULL, NULL);
    } else {
        store_batch_free(batch);
    }
    arm(n);
}

void timers_init(struct node *n)
{
    n->clock_offset_ms = offset_ms(n);
}

void timers_free(struct node *n)
{
    n->env->timer_free(n->env->ctx, n->timers_alarm);
    n->timers_alarm = NULL;
    free(n->timers);
    n->timers = NULL;
}
