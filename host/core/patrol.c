/* Hosts that are lost, as the host of a watcher decides it.
 *
 * A host is lost to a monitor when there has been no link to it for the monitor's time. A monitor
 * of that host then fires. For the monitor of an agent it is only a suspicion: the agent may have
 * moved since it was last heard of, away from that host or to it. So, while there is such a host,
 * those who can be reached are asked where the agents are (one question for many agents, each agent
 * at most once in its time), and the highest epoch counts. A monitor fires when that names a host
 * that is lost, or when nobody who can be reached knows the agent. */
#include "host/core/watches.h"

#include <stdlib.h>
#include <string.h>

#define ANSWER_MS     3000
#define QUESTIONS_MAX 16 /* open at a time: the next ones wait for the next second */

struct whereabouts { /* of one watched agent */
    gw_id watcher, ref, agent;
    uint64_t watcher_epoch;
    uint64_t epoch; /* the highest that anybody knows; 0 = none */
    struct peer *host;
    bool disposed;
};
struct question {
    struct node *n;
    size_t asking, count;
    bool silent; /* somebody who can be reached did not answer */
    struct whereabouts of[LIMIT_WHEREABOUTS];
};

static int64_t time_of(const struct node *n, const struct watch *w)
{
    return (w->row.lost_ms ? w->row.lost_ms : n->cfg.limits.lost_ms) * 1000;
}

static bool is_lost(const struct node *n, const struct watch *w, const struct peer *p, int64_t now)
{
    return !p->self && !p->up && now - p->down_since_us >= time_of(n, w);
}

/* ---- what the mesh has answered ---- */

static void learn_of(struct whereabouts *x, uint64_t epoch, struct peer *host, bool disposed)
{
    if (epoch > x->epoch || (epoch == x->epoch && disposed)) {
        x->epoch = epoch;
        x->host = host;
        x->disposed = disposed;
    }
}

static void judge(struct node *n, const struct question *q, const struct whereabouts *x)
{
    struct agent *a = agent_find(n, &x->watcher);
    struct watch *w =
        a && a->epoch == x->watcher_epoch ? watch_find(a, WATCH_OUT, &x->agent, &x->ref) : NULL;
    int64_t now = n->env->mono_us(n->env->ctx);
    if (!w || agent_find(n, &x->agent)) {
        return;
    }
    if (x->host && !x->host->self && !x->disposed) {
        location_know(n, &x->agent, x->epoch, x->host, false, false); /* a hint, for `show` */
    }
    if (x->disposed) {
        down_is_due(n, w, DOWN_DISPOSED, peer_label(x->host));
    } else if (x->host && (x->host->up || !is_lost(n, w, x->host, now))) {
        return;
    } else if (q->silent) {
        w->checked_us = 0; /* asked again soon */
    } else {
        down_is_due(n, w, DOWN_HOST_LOST, x->host ? peer_label(x->host) : "");
    }
}

static void question_end(struct question *q)
{
    struct node *n = q->n;
    n->asking_whereabouts--;
    for (size_t i = 0; i < q->count && !n->ended; i++) {
        judge(n, q, &q->of[i]);
    }
    free(q);
}

static struct whereabouts *find_agent(struct question *q, const gw_id *id, size_t from)
{
    for (size_t i = from; i < q->count; i++) {
        if (gw_id_equal(&q->of[i].agent, id)) {
            return &q->of[i];
        }
    }
    return NULL;
}

gw_err whereabouts_read(const struct frame *f, gw_value *ret_about, struct mp *ret, size_t *ret_n)
{
    struct mp m = f->rest;
    uint32_t code;
    GW_TRY(mp_read_u32(&m, &code));
    GW_TRY(code == GW_OK ? GW_OK : GW_EFAIL);
    GW_TRY(value_unpack(&m, ret_about));
    const gw_value *found = gw_map_get(ret_about, "found");
    if (!found || found->kind != GW_BYTES) {
        return GW_EPROTO;
    }
    *ret = mp_over((struct span){(const uint8_t *)found->s.p, found->s.n});
    return mp_read_array(ret, ret_n);
}

gw_err whereabouts_next(struct mp *m, struct whereabouts_entry *ret)
{
    size_t fields;
    GW_TRY(mp_read_array(m, &fields));
    GW_TRY(fields < 4 ? GW_EPROTO : GW_OK);
    GW_TRY(mp_read_id(m, &ret->agent));
    GW_TRY(mp_read_uint(m, &ret->epoch));
    GW_TRY(mp_read_fixed(m, ret->host.b, HOST_ID_BYTES));
    GW_TRY(mp_read_bool(m, &ret->disposed));
    return mp_skip_n(m, fields - 4);
}

static gw_err take_answer(struct question *q, const struct frame *f)
{
    struct mp m;
    size_t count;
    GW_AUTO(gw_value_free) gw_value about = gw_nil();
    GW_TRY(whereabouts_read(f, &about, &m, &count));
    for (size_t i = 0; i < count; i++) {
        struct whereabouts_entry e;
        GW_TRY(whereabouts_next(&m, &e));
        struct peer *p = peer_find(q->n, &e.host);
        struct whereabouts *x = find_agent(q, &e.agent, 0);
        while (x && p && e.epoch <= LIMIT_EPOCH) {
            learn_of(x, e.epoch, p, e.disposed);
            x = find_agent(q, &e.agent, (size_t)(x - q->of) + 1);
        }
    }
    return GW_OK;
}

static void answered(void *arg, gw_err err, const struct frame *f)
{
    struct question *q = arg;
    q->silent |= err != GW_OK || take_answer(q, f) != GW_OK;
    if (--q->asking == 0) {
        question_end(q);
    }
}

/* ---- asking ---- */

void whereabouts_ask(struct buf *frame, uint64_t stream, const gw_id *first, size_t stride,
                     size_t count)
{
    size_t at = frame_begin(frame, FRAME_CALL, stream, 3);
    mp_str(frame, "whereabouts");
    mp_map(frame, 1);
    mp_str(frame, "agents");
    mp_array(frame, count);
    for (size_t i = 0; i < count; i++) {
        mp_id(frame, (const gw_id *)(const void *)((const uint8_t *)first + i * stride));
    }
    mp_nil(frame);
    frame_end(frame, at);
}

static void send_question(struct question *q, struct peer *p)
{
    struct node *n = q->n;
    struct buf frame = {0};
    uint64_t stream = peer_stream(n);
    whereabouts_ask(&frame, stream, &q->of[0].agent, sizeof q->of[0], q->count);
    q->asking++;
    peer_request(n, p, stream, &frame, ANSWER_MS, answered, q);
}

static void ask(struct question *q)
{
    struct node *n = q->n;
    n->asking_whereabouts++;
    for (size_t i = 0; i < q->count; i++) {
        const struct location *l = location_find(n, &q->of[i].agent);
        if (l && l->epoch > 0) {
            learn_of(&q->of[i], l->epoch, l->host, l->disposed);
        }
    }
    q->asking = 1;
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (!p->self && p->up) {
            send_question(q, p);
        }
    }
    if (--q->asking == 0) {
        question_end(q);
    }
}

/* Whether some host is lost to this monitor since the mesh was asked last, or for long. */
static bool suspects(struct node *n, struct watch *w, struct peer *const *down, size_t count,
                     int64_t now)
{
    int64_t wait = time_of(n, w);
    bool again = now - w->checked_us >= (wait > 1000000 ? wait : 1000000);
    for (size_t i = 0; wait > 0 && i < count; i++) {
        if (is_lost(n, w, down[i], now) &&
            (again || w->checked_us < down[i]->down_since_us + wait)) {
            return true;
        }
    }
    return false;
}

static void look_at(struct node *n, struct watch *w, struct peer *const *down, size_t count,
                    struct question **q)
{
    int64_t now = n->env->mono_us(n->env->ctx);
    if (w->row.kind == WATCH_HOST) {
        if (w->host && time_of(n, w) > 0 && is_lost(n, w, w->host, now)) {
            w->due = DOWN_HOST_LOST;
            (void)span_text(
                (struct span){(const uint8_t *)peer_label(w->host), strlen(peer_label(w->host))},
                w->where, sizeof w->where);
        }
        return;
    }
    if (w->row.kind != WATCH_AGENT || !suspects(n, w, down, count, now) ||
        agent_find(n, &w->row.other) || n->asking_whereabouts >= QUESTIONS_MAX) {
        return;
    }
    if (!*q) {
        *q = xcalloc(1, sizeof **q);
        (*q)->n = n;
    }
    w->checked_us = now;
    (*q)->of[(*q)->count++] = (struct whereabouts){.watcher = w->agent->id,
                                                   .watcher_epoch = w->agent->epoch,
                                                   .ref = w->row.ref,
                                                   .agent = w->row.other};
    if ((*q)->count == LIMIT_WHEREABOUTS) {
        struct question *full = *q;
        *q = NULL;
        ask(full); /* may fire at once, but drops none here: that takes a transaction */
    }
}

static size_t hosts_down(struct node *n, struct peer **ret)
{
    size_t count = 0;
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (!p->self && !p->up && p->url[0]) {
            ret[count++] = p;
        }
    }
    return count;
}

void watches_housekeeping(struct node *n)
{
    struct agent_watches *all, *next;
    struct question *q = NULL;
    struct peer **down;
    if (LIST_EMPTY(&n->watching) || node_rests(n) || n->loading) {
        return;
    }
    down = xcalloc(HASH_COUNT(n->peers), sizeof(struct peer *));
    size_t count = hosts_down(n, down);
    for (all = LIST_FIRST(&n->watching); all; all = next) {
        next = LIST_NEXT(all, link);
        for (struct watch *w = count > 0 ? all->first : NULL; w; w = w->next) {
            if (w->row.end == WATCH_OUT && !w->due && !w->gone && !w->fresh) {
                look_at(n, w, down, count, &q);
            }
        }
        downs_pump(n, all->agent);
    }
    free(down);
    if (q) {
        ask(q);
    }
}

/* ---- the operation ---- */

void op_whereabouts(struct node *n, struct op_call *call)
{
    const gw_value *agents = gw_map_get(&call->args, "agents");
    struct gw_error why;
    struct buf entries = {0}, packed = {0};
    size_t count = 0;
    gw_value found = gw_nil(), result = gw_nil();
    if (agents->list.n > LIMIT_WHEREABOUTS) {
        gw_fail(&why, GW_ETOO_BIG, "one question names at most %d agents", LIMIT_WHEREABOUTS);
        op_fail(call, &why);
        return;
    }
    for (size_t i = 0; i < agents->list.n; i++) {
        const gw_id *id = &agents->list.items[i].id;
        const struct agent *a = agent_find(n, id);
        const struct location *l = location_find(n, id);
        if (a && (a->unborn || location_has_other(n, a))) {
            a = NULL; /* not yet; or a mere copy, and it is known who has the other */
        }
        if (!a && (!l || !l->durable)) {
            continue;
        }
        count++;
        mp_array(&entries, 4);
        mp_id(&entries, id);
        mp_uint(&entries, a ? a->epoch : l->epoch);
        mp_bin(&entries, a ? n->self->id.b : l->host->id.b, HOST_ID_BYTES);
        mp_bool(&entries, !a && l->disposed);
    }
    mp_array(&packed, count);
    buf_add(&packed, entries.data, entries.len);
    if (!buf_ok(&packed) || gw_value_set_bytes(&found, packed.data, packed.len) != GW_OK ||
        gw_map_set(&result, "found", found) != GW_OK) {
        gw_value_free(&result);
    }
    buf_free(&entries);
    buf_free(&packed);
    op_ok(call, &result);
}
