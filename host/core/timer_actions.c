/* Timers as handlers set and cancel them, as tickets carry them, as people see them.
 *
 * An action becomes rows in the handler's transaction (timers_action); in memory it takes effect
 * when that is durable (timers_committed). In between the timer is held: it does not fire, or its
 * row would come back behind a deletion. Messages of a timer that is set anew or cancelled are
 * taken back: their rows in the transaction, they themselves when it is durable; nothing runs in
 * between, for the agent is at this handler. */
#include "host/core/timers.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

#define ACTIONS_MAX (2 * LIMIT_TIMERS_PER_AGENT)

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
        err = early || !buf_ok(&w.args) ? GW_EPROTO : timer_row_check(&w.row);
    }
    gw_value_free(&map);
    if (err != GW_OK) {
        buf_free(&w.args);
        return err;
    }
    *ret = w;
    return GW_OK;
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
        if (!timer_is_wake(t)) {
            memcpy(names[count++], t->name, sizeof t->name);
        }
    }
    while (actions_next(&m, timers_is_action, &verb, &args)) {
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
    const struct timer *t = timer_find(a, name);
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
    struct timer *t = timer_find(a, wish.name);
    w->timers_us = timers_mono(n);
    take_back_rows(a, batch, wish.name);
    if (t) {
        t->held = true;
        timer_rest(n, t);
    }
    struct span key = timer_key(raw, &a->id, a->epoch, wish.name);
    if (wish.cancel) {
        store_batch_del(batch, TABLE_TIMERS, key);
    } else {
        wish.row.base_ms = wish.row.wall ? 0 : node_now_ms(n);
        timer_row_pack(&wish.row, &value);
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
    while (actions_next(&m, timers_is_action, &verb, &args)) {
        if (wish_read(verb, args, &wish) != GW_OK) {
            continue;
        }
        struct timer *t = timer_find(a, wish.name);
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
        REACH(TIMER_ACTION_ROLLED_BACK);
        t->held = false;
        if (t->waiting && t->period_ms == 0) {
            timer_drop(w->node, t); /* fired meanwhile, for once */
        } else {
            timer_settle(w->node, t);
        }
    }
    timers_arm(w->node);
}

/* ---- tickets, people ---- */

void timers_pack(struct node *n, const struct agent *a, struct buf *out)
{
    mp_array(out, a->timers ? a->timers->count : 0);
    for (const struct timer *t = a->timers ? a->timers->first : NULL; t; t = t->next) {
        struct timer_row r = {.wall = t->wall,
                              .each = t->each,
                              .when_ms = t->wall ? t->at_ms : timer_left_ms(n, t->due_us),
                              .period_ms = t->period_ms,
                              .args = buf_span(&t->args)};
        struct buf value = {0};
        timer_row_pack(&r, &value);
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
    size_t n, two, given = 0;
    GW_TRY(mp_read_array(&m, &n));
    if (n > LIMIT_TIMERS_PER_AGENT + 1) { /* and the wake-up */
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
        if (two != 2 || !span_text(name, text, sizeof text) || !timer_name_is_valid(text)) {
            return GW_EPROTO;
        }
        given += strcmp(text, TIMER_WAKE) != 0;
        if (given > LIMIT_TIMERS_PER_AGENT) {
            return GW_EPROTO;
        }
        GW_TRY(timer_row_read(value, &r));
        r.base_ms = r.wall ? 0 : now_ms; /* the time left counts from here */
        struct buf row = {0};
        timer_row_pack(&r, &row);
        store_batch_put_take(batch, TABLE_TIMERS, timer_key(raw, agent, epoch, text), &row);
        buf_free(&row);
    }
    return GW_OK;
}

static gw_err describe(struct node *n, const struct timer *t, gw_value *ret)
{
    int64_t at = t->wall ? t->at_ms : node_now_ms(n) + timer_left_ms(n, t->due_us);
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
        if (timer_is_wake(t)) {
            continue; /* sleep_describe */
        }
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
