/* Monitors: what agents watch, and who watches them.
 *
 *   watcher                                    watched
 *   handler: {row OUT, "$watch" in the outbox} --accept--> {row IN, mark}
 *   {row OUT deleted, message for on_down, mark} <--accept-- its end: {rows, "$down" in the outbox}
 *
 * Both rows are part of their agents and travel with them; the messages between them are one-way
 * messages of the agents (tells.c), so that they find the other end wherever it lives, arrive once
 * and in order. What makes a monitor fire only once is its row OUT: it goes in the transaction that
 * writes the message for on_down, whatever the reason, and a down without such a row is ignored.
 *
 * This file: rows and memory, what handlers ask for, the end of an agent, tickets, people. */
#include "host/core/watches.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

/* ---- rows: [kind, lost, host or empty, since] ---- */

static struct span key_of(uint8_t raw[ROW_KEY_BYTES + WATCH_KEY_BYTES], const gw_id *agent,
                          uint64_t epoch, const struct watch_row *row)
{
    uint8_t *p = raw + ROW_KEY_BYTES;
    row_key(raw, agent, epoch);
    p[0] = (uint8_t)row->end;
    memcpy(p + 1, row->other.b, GW_ID_BYTES);
    memcpy(p + 1 + GW_ID_BYTES, row->ref.b, GW_ID_BYTES);
    return (struct span){raw, ROW_KEY_BYTES + WATCH_KEY_BYTES};
}

static void row_pack(const struct watch_row *r, struct buf *out)
{
    mp_array(out, 4);
    mp_uint(out, r->kind);
    mp_int(out, r->lost_ms);
    mp_bin(out, r->host.b, r->has_host ? HOST_ID_BYTES : 0);
    mp_int(out, r->since_ms);
}

static gw_err row_read(struct span suffix, struct span value, struct watch_row *ret)
{
    struct watch_row r = {0};
    struct mp m = mp_over(value);
    size_t fields;
    uint64_t kind;
    struct span host;
    if (suffix.n != WATCH_KEY_BYTES || suffix.p[0] >= WATCH_ENDS) {
        return GW_EPROTO;
    }
    r.end = (watch_end)suffix.p[0];
    memcpy(r.other.b, suffix.p + 1, GW_ID_BYTES);
    memcpy(r.ref.b, suffix.p + 1 + GW_ID_BYTES, GW_ID_BYTES);
    GW_TRY(mp_read_array(&m, &fields));
    GW_TRY(fields < 4 ? GW_EPROTO : GW_OK);
    GW_TRY(mp_read_uint(&m, &kind));
    GW_TRY(mp_read_int(&m, &r.lost_ms));
    GW_TRY(mp_read_bin(&m, &host));
    GW_TRY(mp_read_int(&m, &r.since_ms));
    GW_TRY(mp_skip_n(&m, fields - 4));
    if (kind >= WATCH_KINDS || (host.n != 0 && host.n != HOST_ID_BYTES) || !mp_done(&m) ||
        r.lost_ms < -1 || r.lost_ms > LIMIT_LOST_MS) {
        return GW_EPROTO;
    }
    r.kind = (watch_kind)kind;
    r.has_host = host.n == HOST_ID_BYTES;
    if (r.has_host) {
        memcpy(r.host.b, host.p, HOST_ID_BYTES);
    }
    bool of_host = r.kind == WATCH_HOST;
    if (gw_id_is_nil(&r.ref) || gw_id_is_nil(&r.other) != of_host ||
        (r.end == WATCH_IN && r.kind != WATCH_AGENT && r.kind != WATCH_PARENT)) {
        return GW_EPROTO;
    }
    *ret = r;
    return GW_OK;
}

void watch_put(const struct watch *w, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES + WATCH_KEY_BYTES];
    struct buf value = {0};
    row_pack(&w->row, &value);
    store_batch_put_take(batch, TABLE_WATCHES, key_of(raw, &w->agent->id, w->agent->epoch, &w->row),
                         &value);
    buf_free(&value);
}

void watch_del(const struct agent *a, const struct watch_row *row, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES + WATCH_KEY_BYTES];
    store_batch_del(batch, TABLE_WATCHES, key_of(raw, &a->id, a->epoch, row));
}

/* ---- memory ---- */

struct watch *watch_find(const struct agent *a, watch_end end, const gw_id *other, const gw_id *ref)
{
    struct watch *w = a->watches ? a->watches->first : NULL;
    while (w && (w->row.end != end || !gw_id_equal(&w->row.ref, ref) ||
                 (other && !gw_id_equal(&w->row.other, other)))) {
        w = w->next;
    }
    return w;
}

struct watch *watch_add(struct node *n, struct agent *a, const struct watch_row *row)
{
    struct watch *w = xcalloc(1, sizeof *w);
    struct agent_watches *all = a->watches;
    w->agent = a;
    w->row = *row;
    if (row->has_host && peer_has_room(n, &row->host)) { /* else it is named by the row alone */
        w->host = peer_intern(n, &row->host);
    }
    if (!all) {
        all = a->watches = xcalloc(1, sizeof *all);
        all->agent = a;
    }
    w->next = all->first;
    all->first = w;
    all->counts[row->end]++;
    if (row->end == WATCH_OUT && !all->listed) {
        all->listed = true;
        LIST_INSERT_HEAD(&n->watching, all, link);
    }
    return w;
}

static void all_settle(struct agent *a)
{
    struct agent_watches *all = a->watches;
    if (all->listed && all->counts[WATCH_OUT] == 0) {
        all->listed = false;
        LIST_REMOVE(all, link);
    }
    if (!all->first && !all->learning) {
        a->watches = NULL;
        free(all);
    }
}

void watch_drop(struct node *n, struct watch *w)
{
    struct agent *a = w->agent;
    struct watch **at = &a->watches->first;
    (void)n;
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
    a->watches->counts[w->row.end]--;
    free(w);
    all_settle(a);
}

void watches_forget(struct node *n, struct agent *a)
{
    if (a->watches) {
        a->watches->learning = false;
    }
    while (a->watches) {
        watch_drop(n, a->watches->first);
    }
}

void watches_load_row(struct node *n, struct agent *a, struct span suffix, struct span value)
{
    struct watch_row row;
    char id[GW_ID_TEXT];
    if (row_read(suffix, value, &row) != GW_OK) {
        log_error("store.row", "table=watches agent=%s a row does not decode and was skipped",
                  gw_id_text(&a->id, id));
    } else if (!watch_find(a, row.end, &row.other, &row.ref)) {
        struct watch *w = watch_add(n, a, &row);
        if (row.kind == WATCH_HOST && !row.has_host) {
            w->due = DOWN_NOT_FOUND; /* the next housekeeping writes it */
        }
    }
}

/* ---- actions of handlers ---- */

struct wish {
    bool end; /* demonitor */
    gw_id ref, agent;
    char host[LIMIT_NAME_BYTES + 1]; /* "": an agent */
    int64_t lost_ms;
};

bool watches_is_action(struct span verb)
{
    return span_is(verb, "monitor") || span_is(verb, "demonitor");
}

static gw_err wish_read(struct span verb, struct span packed, struct wish *ret)
{
    struct wish x = {.end = span_is(verb, "demonitor")};
    gw_value map = gw_nil();
    GW_TRY(value_unpack_span(packed, &map));
    const gw_value *ref = gw_map_get(&map, "ref"), *agent = gw_map_get(&map, "agent");
    const char *host = gw_map_str(&map, "host", "");
    x.lost_ms = gw_map_int(&map, "lost", 0);
    bool good =
        ref && ref->kind == GW_ID && !gw_id_is_nil(&ref->id) && x.lost_ms >= -1 &&
        x.lost_ms <= LIMIT_LOST_MS &&
        span_text((struct span){(const uint8_t *)host, strlen(host)}, x.host, sizeof x.host);
    if (good) {
        x.ref = ref->id;
    }
    if (good && agent && agent->kind == GW_ID) {
        x.agent = agent->id;
    }
    good = good && (x.end || gw_id_is_nil(&x.agent) == (x.host[0] != '\0'));
    gw_value_free(&map);
    if (!good) {
        return GW_EPROTO;
    }
    *ret = x;
    return GW_OK;
}

/* The next action about monitors; false at the end. */
static bool next_wish(struct mp *m, struct wish *ret, gw_err *ret_err)
{
    struct span verb, args;
    if (!actions_next(m, watches_is_action, &verb, &args)) {
        return false;
    }
    *ret_err = wish_read(verb, args, ret);
    return true;
}

/* Handlers name monitors only. */
static struct watch *monitor_of(const struct agent *a, const gw_id *ref)
{
    struct watch *w = watch_find(a, WATCH_OUT, NULL, ref);
    return w && !watch_is_of_child(w) ? w : NULL;
}

static bool actions_of(const struct work *w, struct mp *ret)
{
    size_t n;
    *ret = mp_over(w->result.actions);
    return w->result.err == GW_OK && w->result.actions.n > 0 && mp_read_array(ret, &n) == GW_OK &&
           n > 0;
}

gw_err watches_check(const struct work *w, struct gw_error *why)
{
    const struct agent *a = w->agent;
    size_t count = a->watches ? a->watches->counts[WATCH_OUT] : 0;
    struct mp m;
    struct wish x;
    gw_err err;
    if (!actions_of(w, &m)) {
        return GW_OK;
    }
    while (next_wish(&m, &x, &err)) {
        if (err != GW_OK || gw_id_equal(&x.agent, &a->id)) {
            return gw_fail(why, GW_EARG, "the handler recorded a monitor that cannot be");
        }
        if (x.end) {
            count -= monitor_of(a, &x.ref) != NULL && count > 0;
        } else if (++count > LIMIT_MONITORS_PER_AGENT) {
            return gw_fail(why, GW_EBUSY, "an agent has at most %d monitors",
                           LIMIT_MONITORS_PER_AGENT);
        }
    }
    return GW_OK;
}

/* Takes args. */
static void say(struct work *w, struct store_batch *batch, const gw_id *to, const char *method,
                struct buf *args)
{
    struct tell_order order = {.to = to, .method = method, .args = buf_span(args)};
    order.carry.priority = PRIORITY_NORMAL;
    tells_put(w, batch, &order);
    buf_free(args);
}

static void send_ref(struct work *w, struct store_batch *batch, const struct watch *watch,
                     const char *method)
{
    struct buf args = {0};
    mp_map(&args, watch_is_of_child(watch) ? 2 : 1);
    mp_str(&args, "ref");
    mp_id(&args, &watch->row.ref);
    if (watch_is_of_child(watch)) {
        mp_str(&args, "child");
        mp_bool(&args, true);
    }
    say(w, batch, &watch->row.other, method, &args);
}

static struct peer *host_named(struct node *n, const char *text)
{
    struct host_id id;
    struct peer *p = peer_by_name(n, text);
    return p ? p : host_id_parse(text, &id) == GW_OK ? peer_find(n, &id) : NULL;
}

static void begin(struct work *w, struct store_batch *batch, const struct wish *x)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct peer *host = x->host[0] ? host_named(n, x->host) : NULL;
    struct watch_row row = {.end = WATCH_OUT,
                            .kind = x->host[0] ? WATCH_HOST : WATCH_AGENT,
                            .other = x->agent,
                            .ref = x->ref,
                            .has_host = host != NULL,
                            .lost_ms = x->lost_ms,
                            .since_ms = node_now_ms(n)};
    if (monitor_of(a, &x->ref)) {
        return; /* a reference is used once */
    }
    if (host) {
        row.host = host->id;
    }
    struct watch *watch = watch_add(n, a, &row);
    watch->fresh = true;
    watch_put(watch, batch);
    if (row.kind == WATCH_AGENT) {
        send_ref(w, batch, watch, WATCH_BEGIN);
    } else if (!host) {
        memcpy(watch->where, x->host, sizeof watch->where);
        watch->due = DOWN_NOT_FOUND;
    }
}

static void end(struct work *w, struct store_batch *batch, const struct wish *x)
{
    struct agent *a = w->agent;
    struct watch *watch = monitor_of(a, &x->ref);
    downs_take_back_rows(a, watch, &x->ref, batch);
    if (watch && !watch->gone) {
        watch->gone = true;
        watch_del(a, &watch->row, batch);
        if (watch->row.kind == WATCH_AGENT) {
            send_ref(w, batch, watch, WATCH_STOP);
        }
    }
}

void watches_action(struct work *w, struct store_batch *batch, struct span verb, struct span args)
{
    struct wish x;
    if (wish_read(verb, args, &x) != GW_OK) {
        return; /* watches_check has seen it before */
    }
    if (x.end) {
        end(w, batch, &x);
    } else {
        begin(w, batch, &x);
    }
}

void watches_committed(struct work *w)
{
    struct agent *a = w->agent;
    struct mp m;
    struct wish x;
    gw_err err;
    bool any = false;
    if (!actions_of(w, &m)) {
        return;
    }
    while (next_wish(&m, &x, &err)) {
        struct watch *watch = err == GW_OK ? monitor_of(a, &x.ref) : NULL;
        any = true;
        if (x.end) {
            downs_take_back(a, &x.ref);
        }
        if (watch && x.end) {
            watch_drop(w->node, watch);
        } else if (watch) {
            watch->fresh = false;
        }
    }
    if (any) {
        downs_pump(w->node, a);
    }
}

void watches_rolled_back(struct work *w)
{
    struct mp m;
    struct wish x;
    gw_err err;
    if (!actions_of(w, &m)) {
        return;
    }
    while (next_wish(&m, &x, &err)) {
        struct watch *watch = err == GW_OK ? monitor_of(w->agent, &x.ref) : NULL;
        if (watch && watch->fresh) {
            REACH(WATCH_ROLLED_BACK);
            watch_drop(w->node, watch);
        } else if (watch) {
            watch->gone = false;
        }
    }
}

void watches_begin_child(struct work *w, struct store_batch *batch, const gw_id *parent, bool loose)
{
    struct watch_row row = {.end = WATCH_OUT,
                            .kind = loose ? WATCH_LOOSE : WATCH_PARENT,
                            .other = *parent,
                            .lost_ms = -1, /* a parent that cannot be reached has not ended */
                            .since_ms = node_now_ms(w->node)};
    node_random(w->node, row.ref.b, sizeof row.ref.b);
    struct watch *watch = watch_add(w->node, w->agent, &row);
    watch_put(watch, batch);
    send_ref(w, batch, watch, WATCH_BEGIN);
}

/* ---- the end of an agent ---- */

static void tell_down(struct work *w, struct store_batch *batch, const struct watch *watch,
                      const char *reason)
{
    struct buf args = {0};
    mp_map(&args, 3);
    mp_str(&args, "ref");
    mp_id(&args, &watch->row.ref);
    mp_str(&args, "reason");
    mp_str(&args, reason);
    mp_str(&args, "host");
    mp_str(&args, w->node->name);
    say(w, batch, &watch->row.other, WATCH_DOWN, &args);
}

void watches_end(struct work *w, struct store_batch *batch)
{
    const struct agent *a = w->agent;
    for (const struct watch *o = a->watches ? a->watches->first : NULL; o; o = o->next) {
        if (o->row.end == WATCH_IN) {
            tell_down(w, batch, o, DOWN_DISPOSED);
        } else if (o->row.kind != WATCH_HOST && o->row.kind != WATCH_ENDING && !o->gone) {
            send_ref(w, batch, o, WATCH_STOP);
        }
    }
}

void watches_crashed(struct work *w, struct store_batch *batch)
{
    struct agent *a = w->agent;
    for (struct watch *o = a->watches ? a->watches->first : NULL; o; o = o->next) {
        if (o->row.end == WATCH_IN && o->row.kind == WATCH_AGENT) { /* for children: not its end */
            tell_down(w, batch, o, DOWN_CRASHED);
            watch_del(a, &o->row, batch);
            o->gone = true;
        }
    }
}

void watches_crashed_undo(struct agent *a)
{
    for (struct watch *w = a->watches ? a->watches->first : NULL; w; w = w->next) {
        w->gone &= w->row.end != WATCH_IN;
    }
}

void watches_crashed_done(struct node *n, struct agent *a)
{
    struct watch *w, *next;
    for (w = a->watches ? a->watches->first : NULL; w; w = next) {
        next = w->next;
        if (w->row.end == WATCH_IN && w->gone) {
            watch_drop(n, w);
        }
    }
}

/* ---- tickets, people ---- */

void watches_pack(const struct agent *a, struct buf *out)
{
    size_t n = a->watches ? a->watches->counts[WATCH_OUT] + a->watches->counts[WATCH_IN] : 0;
    uint8_t raw[ROW_KEY_BYTES + WATCH_KEY_BYTES];
    mp_array(out, n);
    for (const struct watch *w = a->watches ? a->watches->first : NULL; w; w = w->next) {
        struct buf value = {0};
        (void)key_of(raw, &a->id, a->epoch, &w->row);
        row_pack(&w->row, &value);
        mp_array(out, 2);
        mp_bin(out, raw + ROW_KEY_BYTES, WATCH_KEY_BYTES);
        mp_span(out, buf_span(&value));
        buf_free(&value);
    }
}

gw_err watches_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch,
                     struct span list)
{
    static const size_t most[WATCH_ENDS] = {LIMIT_MONITORS_PER_AGENT, LIMIT_WATCHERS_PER_AGENT};
    struct mp m = mp_over(list);
    size_t n, two, counts[WATCH_ENDS] = {0};
    GW_TRY(mp_read_array(&m, &n));
    for (size_t i = 0; i < n; i++) {
        struct span suffix, value;
        struct watch_row row;
        uint8_t raw[ROW_KEY_BYTES + WATCH_KEY_BYTES];
        GW_TRY(mp_read_array(&m, &two));
        GW_TRY(mp_read_bin(&m, &suffix));
        GW_TRY(mp_read_bin(&m, &value));
        if (two != 2) {
            return GW_EPROTO;
        }
        GW_TRY(row_read(suffix, value, &row));
        if (++counts[row.end] > most[row.end]) {
            return GW_EPROTO;
        }
        store_batch_put(batch, TABLE_WATCHES, key_of(raw, agent, epoch, &row), value);
    }
    return GW_OK;
}

static gw_err describe(struct node *n, const struct watch *w, gw_value *ret)
{
    const struct location *l = w->row.kind == WATCH_AGENT ? location_find(n, &w->row.other) : NULL;
    const struct peer *host = w->row.kind == WATCH_HOST           ? w->host
                              : agent_find(n, &w->row.other)      ? n->self
                              : l && !l->disposed && l->epoch > 0 ? l->host
                                                                  : NULL;
    gw_id nil = {{0}};
    const gw_id *other = w->row.kind == WATCH_HOST ? &nil : &w->row.other;
    char id[GW_ID_TEXT];
    GW_TRY(gw_map_set(ret, "ref", gw_str(gw_id_text(&w->row.ref, id))));
    GW_TRY(
        gw_map_set(ret, "agent", gw_id_is_nil(other) ? gw_nil() : gw_str(gw_id_text(other, id))));
    GW_TRY(gw_map_set(ret, "host", host ? gw_str(peer_label(host)) : gw_nil()));
    return gw_map_set(ret, "since", gw_time_value((gw_time){w->row.since_ms}));
}

static gw_err describe_end(struct node *n, const struct agent *a, watch_end end, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (const struct watch *w = a->watches ? a->watches->first : NULL; err == GW_OK && w;
         w = w->next) {
        gw_value one = {0};
        if (w->row.end != end || w->row.kind > WATCH_HOST || list.list.n >= LIMIT_PAGE) {
            continue;
        }
        err = describe(n, w, &one);
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

gw_err watches_describe(struct node *n, const struct agent *a, gw_value *ret)
{
    gw_value monitors, watchers, parent, children;
    GW_TRY(describe_end(n, a, WATCH_OUT, &monitors));
    GW_TRY(gw_map_set(ret, "monitors", monitors));
    GW_TRY(describe_end(n, a, WATCH_IN, &watchers));
    GW_TRY(gw_map_set(ret, "watchers", watchers));
    GW_TRY(lineage_describe(a, &parent, &children));
    gw_err err = gw_map_set(ret, "parent", parent);
    if (err != GW_OK) {
        gw_value_free(&children);
        return err;
    }
    return gw_map_set(ret, "children", children);
}
