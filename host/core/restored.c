/* A host that was restored from an old copy, by the operator's word: what becomes of its agents.
 *
 *   start with --restored --ready--> each peer is asked where the agents are --all have answered,
 *   or WAIT_MS have passed--> the rows are written, some agents at a time --> the agents begin
 *
 * Somebody knows an agent at a higher epoch than our copy:
 *   - it lives, or has ended, elsewhere (or on a host that did not answer): ours is quarantined,
 *     at an equal epoch, too;
 *   - it was here, or on a host that does not have it any more: the newer state is lost, ours goes
 *     on above that epoch;
 *   - it was staged here, and its source had committed: ours becomes active.
 * Nobody does: ours goes on. Whoever goes on has an epoch above all that is known, and numbers its
 * messages above all that it can have given since. Until then the row "restoring" brings a start
 * back to here; what was written already is then written once more, with a higher epoch. Who
 * could not be asked is asked when it can: if it has an agent that ours does not exceed, ours gives
 * way, although it ran. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/core/handoff.h"
#include "host/core/sleepers.h"

#define WAIT_MS     10000 /* for peers that cannot be reached */
#define ANSWER_MS   3000
#define TRIES       3
#define RETRY_MS    1000 /* the store is full */
#define AT_ONCE     64   /* agents in one transaction */
#define UNASKED     "unasked:"
#define UNASKED_KEY (sizeof UNASKED - 1 + HOST_ID_BYTES)

struct one {
    gw_id id;
    uint64_t epoch; /* of our copy; of a staged one: before the move */
    uint64_t known; /* the highest that anybody has named; 0 = none */
    struct peer *host;
    bool there; /* that host itself says so */
    bool disposed, staged, poster;
};

struct restoring {
    struct node *n;
    struct env_timer *timer;
    struct one *ones; /* by id */
    size_t count, cap;
    size_t asking;     /* questions that are open */
    bool late;         /* who has not answered by now is not waited for */
    struct peer *only; /* the agents run, and this one could not be asked before */
    bool writing;
    size_t done, ready; /* of ones: written; written when the transaction is durable */
};

struct question {
    struct restoring *g;
    struct peer *p;
    size_t from, count; /* of ones */
    unsigned tries;
};

/* ---- who is here ---- */

static void add(struct restoring *g, const gw_id *id, uint64_t epoch, bool staged, bool poster)
{
    if (g->count == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 64;
        g->ones = realloc(g->ones, g->cap * sizeof *g->ones);
        if (!g->ones) {
            log_die("memory", "out of memory for the list of agents");
        }
    }
    g->ones[g->count++] =
        (struct one){.id = *id, .epoch = epoch, .staged = staged, .poster = poster};
}

static int by_id(const void *a, const void *b)
{
    const struct one *x = a, *y = b;
    return memcmp(&x->id, &y->id, sizeof x->id);
}

static void gather(struct restoring *g)
{
    struct node *n = g->n;
    for (const struct agent *a = n->agents; a; a = a->hh.next) {
        if (a->status != AGENT_QUARANTINED || a->fault) { /* else another copy is the living one */
            add(g, &a->id, a->epoch, false, false);
        }
    }
    for (const struct move_in *m = n->moves_in; m; m = m->hh.next) {
        add(g, &m->agent, m->epoch - 1, true, false);
    }
    add(g, &n->poster.id, n->poster.epoch, false, true);
    qsort(g->ones, g->count, sizeof *g->ones, by_id);
}

/* ---- asking ---- */

static void go_on(struct restoring *g);
static void ask(struct question *q);

static void learn(struct restoring *g, const struct peer *from, const gw_id *id, uint64_t epoch,
                  struct peer *host, bool disposed)
{
    struct one key = {.id = *id};
    struct one *o = bsearch(&key, g->ones, g->count, sizeof *g->ones, by_id);
    if (o && epoch < LIMIT_EPOCH && (epoch > o->known || (epoch == o->known && host == from))) {
        o->known = epoch;
        o->host = host;
        o->there = host == from;
        o->disposed = disposed;
    }
}

/* REPLY of `whereabouts`: {found: packed [[agent, epoch, host, disposed]...]}. */
static gw_err take_answer(struct question *q, const struct frame *f)
{
    struct mp m;
    struct whereabouts_entry e;
    size_t count;
    GW_AUTO(gw_value_free) gw_value about = gw_nil();
    GW_TRY(whereabouts_read(f, &about, &m, &count));
    for (size_t i = 0; i < count; i++) {
        GW_TRY(whereabouts_next(&m, &e));
        struct peer *host = peer_find(q->g->n, &e.host);
        learn(q->g, q->p, &e.agent, e.epoch, host ? host : q->p, e.disposed);
    }
    return GW_OK;
}

static void answered(void *arg, gw_err err, const struct frame *f)
{
    struct question *q = arg;
    struct restoring *g = q->g;
    if (err == GW_ECANCELLED) {
        free(q); /* the node goes */
        return;
    }
    g->asking--;
    if (err != GW_OK || take_answer(q, f) != GW_OK) {
        bool again = q->p->hello && ++q->tries < TRIES;
        if (again) {
            ask(q);
            return;
        }
    } else if ((q->from += q->count) < g->count) {
        q->tries = 0;
        ask(q);
        return;
    } else {
        q->p->answered = true;
    }
    q->p->asked = false;
    free(q);
    go_on(g);
}

static void ask(struct question *q)
{
    struct restoring *g = q->g;
    size_t left = g->count - q->from;
    q->count = left < LIMIT_WHEREABOUTS ? left : LIMIT_WHEREABOUTS;
    struct buf frame = {0};
    uint64_t stream = peer_stream(g->n);
    whereabouts_ask(&frame, stream, &g->ones[q->from].id, sizeof g->ones[0], q->count);
    g->asking++;
    peer_request_linked(g->n, q->p, stream, &frame, ANSWER_MS, answered, q);
}

static void ask_peer(struct restoring *g, struct peer *p)
{
    struct question *q = xcalloc(1, sizeof *q);
    *q = (struct question){.g = g, .p = p};
    p->asked = true;
    ask(q);
}

void restored_hello(struct node *n, struct peer *p)
{
    struct restoring *g = n->restoring;
    if (g && !g->writing && !g->late && !n->standing.rising && !p->asked && !p->answered &&
        p->held != HELD_STALE) {
        ask_peer(g, p); /* one question at a time, however often it greets us */
    }
}

static bool all_answered(const struct node *n)
{
    for (const struct peer *p = n->peers; p; p = p->hh.next) {
        if (!p->self && p->url[0] && !p->answered) {
            return false;
        }
    }
    return true;
}

/* ---- writing ---- */

static void write_some(struct restoring *g);

/* At our epoch, too, when its host says so itself: ours got that in a restore which it did not hear
 * of. */
static bool goes_elsewhere(const struct one *o)
{
    if (o->known == o->epoch && o->there && !o->disposed) {
        return true;
    }
    return o->known > o->epoch &&
           (o->disposed || (!o->host->self && (o->there || !o->host->answered)));
}

static uint64_t epoch_above(const struct one *o)
{
    return (o->known > o->epoch ? o->known : o->epoch) + 1;
}

static void put_quarantined(struct node *n, const struct one *o, const struct agent *a,
                            struct store_batch *batch)
{
    char text[LIMIT_ERROR_TEXT_BYTES];
    snprintf(text, sizeof text,
             "the host was restored: the agent %s host \"%s\" at epoch %llu, this copy is of %llu",
             o->disposed ? "has ended on" : "is on", peer_label(o->host),
             (unsigned long long)o->known, (unsigned long long)a->epoch);
    agent_put_row(batch, a, AGENT_QUARANTINED, a->pending, NULL);
    if (o->disposed) {
        location_write_end(n, batch, &o->id, o->known, o->host);
    } else {
        location_write(batch, &o->id, o->known, o->host);
    }
    event_put(n, batch,
              &(struct event){.kind = "agent.quarantined",
                              .agent = &a->id,
                              .type = a->type->name,
                              .peer = o->host,
                              .text = text});
}

/* Its streams go on above `marks`, which are those of the copy: what it has told since is not
 * known. */
static void put_base(struct node *n, const gw_id *id, uint64_t epoch, uint64_t marks,
                     struct store_batch *batch)
{
    static const gw_id all = {{0}};
    struct agent owner = {.id = *id, .epoch = epoch};
    struct stream_mark base = {.other = all, .out = true, .mark = marks + (n->boot << 32)};
    stream_put(batch, &owner, &base);
}

static void put_restored(struct node *n, const struct one *o, const char *type,
                         struct store_batch *batch)
{
    char text[80];
    snprintf(text, sizeof text, "epoch %llu, after %llu", (unsigned long long)epoch_above(o),
             (unsigned long long)o->epoch);
    location_write(batch, &o->id, epoch_above(o), n->self);
    event_put(
        n, batch,
        &(struct event){.kind = "agent.restored", .agent = &o->id, .type = type, .text = text});
}

static void put_staged(struct node *n, struct one *o, struct move_in *m, uint64_t marks,
                       struct store_batch *batch)
{
    uint64_t above = epoch_above(o);
    if (o->known <= o->epoch) {
        return; /* not committed, as far as is known: QUERY goes on */
    }
    if (goes_elsewhere(o)) {
        move_in_put_dropped(m, NULL, batch);
        return;
    }
    agent_move_rows(batch, &m->agent, m->epoch, above);
    m->epoch = above;
    put_base(n, &o->id, above, marks, batch);
    move_in_put_arrived(m, batch);
}

static void put_one(struct node *n, struct one *o, uint64_t marks, struct store_batch *batch)
{
    if (o->poster) {
        put_base(n, &o->id, o->epoch, marks, batch);
        return;
    }
    struct move_in *m = o->staged ? move_in_find(n, &o->id) : NULL;
    struct agent *a = o->staged ? NULL : agent_find(n, &o->id);
    if (m) {
        put_staged(n, o, m, marks, batch);
    } else if (a && goes_elsewhere(o)) {
        put_quarantined(n, o, a, batch);
    } else if (a) {
        agent_move_rows(batch, &o->id, o->epoch, epoch_above(o));
        a->epoch = epoch_above(o);
        agent_put_row(batch, a, a->status, a->pending, a->intent);
        put_base(n, &o->id, a->epoch, marks, batch);
        put_restored(n, o, a->type->name, batch);
    }
}

/* It is durable; or it is not, and all is as before. */
static void settle_one(struct node *n, const struct one *o, bool durable)
{
    struct move_in *m = o->staged ? move_in_find(n, &o->id) : NULL;
    struct agent *a = o->staged || o->poster ? NULL : agent_find(n, &o->id);
    bool elsewhere = goes_elsewhere(o);
    if (m && !durable) {
        m->epoch = o->epoch + 1;
    } else if (m && o->known > o->epoch) {
        if (!elsewhere) {
            (void)move_in_arrive(m);
        }
        ticket_in_forget(m);
    } else if (a && !durable) {
        a->epoch = o->epoch;
    } else if (a && elsewhere) {
        location_know(n, &o->id, o->known, o->host, o->disposed, true);
        free(a->fault);
        a->fault = NULL;
        agent_set_status(n, a, AGENT_QUARANTINED);
    } else if (a) {
        location_know(n, &o->id, a->epoch, n->self, false, true);
    }
}

static void leave(struct restoring *g)
{
    struct node *n = g->n;
    size_t agents = g->count - 1;
    restored_free(n);
    n->held = HELD_NOT;
    log_info("host.restored", "agents=%zu they begin", agents);
    node_begin_agents(n);
    (void)builtins_boot(n);
    starts_go(n);
    peers_settle(n);
}

static void again(void *arg)
{
    write_some(arg);
}

static void written(void *arg, gw_err err)
{
    struct restoring *g = arg;
    struct node *n = g->n;
    if (n->ended) {
        return;
    }
    for (size_t i = g->done; i < g->ready; i++) {
        settle_one(n, &g->ones[i], err == GW_OK);
    }
    if (err != GW_OK) {
        log_error("host.restored", "error=%s the agents cannot be written; trying again",
                  gw_err_name(err));
        n->env->timer_free(n->env->ctx, g->timer);
        g->timer = n->env->timer_new(n->env->ctx, again, g);
        n->env->timer_start(n->env->ctx, g->timer, RETRY_MS);
        return;
    }
    g->done = g->ready;
    if (g->done < g->count) {
        write_some(g);
    } else {
        leave(g);
    }
}

/* The highest number that it has given to anybody, by the copy. */
static uint64_t marks_of(const struct one *o, const struct storage_row *rows, size_t count)
{
    uint64_t most = 0, mark;
    for (size_t i = 0; i < count; i++) {
        const struct storage_row *r = &rows[i];
        struct mp m = mp_over(r->value);
        if (r->key.n == ROW_KEY_BYTES + STREAM_KEY_BYTES && r->key.p[r->key.n - 1] == STREAM_OUT &&
            memcmp(r->key.p, o->id.b, GW_ID_BYTES) == 0 && mp_read_uint(&m, &mark) == GW_OK) {
            most = mark > most ? mark : most;
        }
    }
    return most;
}

/* Who could not be asked may have an agent at the epoch that ours got. */
static struct span unasked_key(const struct peer *p, uint8_t raw[UNASKED_KEY])
{
    memcpy(raw, UNASKED, sizeof UNASKED - 1);
    memcpy(raw + sizeof UNASKED - 1, p->id.b, HOST_ID_BYTES);
    return (struct span){raw, UNASKED_KEY};
}

static void put_unasked(struct node *n, struct store_batch *batch)
{
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        uint8_t raw[UNASKED_KEY];
        if (!p->self && p->url[0] && !p->answered) {
            p->unasked = true;
            store_batch_put(batch, TABLE_META, unasked_key(p, raw), (struct span){0});
        }
    }
}

static void have_streams(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct restoring *g = arg;
    struct node *n = g->n;
    if (n->ended) {
        return;
    }
    if (err != GW_OK) {
        written(g, err);
        return;
    }
    struct store_batch *batch = store_batch_new();
    for (size_t i = g->done; i < g->ready; i++) {
        put_one(n, &g->ones[i], marks_of(&g->ones[i], rows, count), batch);
    }
    if (g->ready == g->count) {
        store_batch_del(batch, TABLE_META, (struct span){(const uint8_t *)"restoring", 9});
        put_unasked(n, batch);
    }
    node_commit(n, batch, POINT_RESTORED, written, g);
}

static void write_some(struct restoring *g)
{
    uint8_t raw[AT_ONCE][ROW_KEY_BYTES];
    struct store_range ranges[AT_ONCE];
    size_t count = 0;
    g->ready = g->done;
    while (g->ready < g->count && count < AT_ONCE) {
        const struct one *o = &g->ones[g->ready++];
        uint64_t epoch = o->staged ? o->epoch + 1 : o->epoch;
        ranges[count] = (struct store_range){.table = TABLE_STREAMS,
                                             .prefix = row_key(raw[count], &o->id, epoch)};
        count++;
    }
    g->n->env->read(g->n->env->ctx, ranges, count, have_streams, g);
}

/* ---- life ---- */

static void late_answer(struct restoring *g)
{
    struct node *n = g->n;
    struct peer *p = g->only;
    bool all = p->answered;
    for (size_t i = 0; i < g->count && all; i++) {
        const struct one *o = &g->ones[i];
        struct agent *a = o->there && !o->disposed ? agent_find(n, &o->id) : NULL;
        if (!a || o->known < a->epoch || a->epoch != o->epoch) {
            continue;
        }
        if (a->move) {
            all = false; /* it is asked again */
        } else {
            copies_yield(n, a, o->host, o->known); /* of two at one epoch ours */
        }
    }
    restored_free(n);
    if (all) {
        uint8_t raw[UNASKED_KEY];
        struct store_batch *batch = store_batch_new();
        store_batch_del(batch, TABLE_META, unasked_key(p, raw));
        p->unasked = false;
        node_commit(n, batch, POINT_RESTORED_LATE, NULL, NULL);
    }
    p->answered = false;
}

static void ask_late(struct node *n, struct peer *p)
{
    struct restoring *g = xcalloc(1, sizeof *g);
    g->n = n;
    g->only = p;
    n->restoring = g;
    gather(g);
    for (size_t i = 0; i < sleepers_count(n); i++) {
        struct sleeper_view s = sleepers_at(n, i);
        add(g, s.id, s.epoch, false, false);
    }
    qsort(g->ones, g->count, sizeof *g->ones, by_id);
    p->answered = false;
    ask_peer(g, p);
}

void restored_housekeeping(struct node *n)
{
    for (struct peer *p = n->peers; p && !n->restoring; p = p->hh.next) {
        if (p->unasked && p->up) {
            ask_late(n, p);
        }
    }
}

void restored_row(struct node *n, struct span key)
{
    struct host_id id;
    if (key.n == UNASKED_KEY && memcmp(key.p, UNASKED, sizeof UNASKED - 1) == 0) {
        memcpy(id.b, key.p + key.n - HOST_ID_BYTES, HOST_ID_BYTES);
        peer_intern(n, &id)->unasked = true;
    }
}

static void go_on(struct restoring *g)
{
    if (g->only && g->asking == 0) {
        late_answer(g);
    } else if (g->asking == 0 && !g->writing && !g->n->standing.rising &&
               (g->late || all_answered(g->n))) {
        g->writing = true; /* numbers of messages are above that of the start */
        write_some(g);
    }
}

void restored_risen(struct node *n)
{
    struct restoring *g = n->restoring;
    if (!g || g->only) {
        return;
    }
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (p->hello) {
            restored_hello(n, p); /* it has been greeted only now */
        }
    }
    go_on(g);
}

static void is_late(void *arg)
{
    struct restoring *g = arg;
    g->late = true;
    go_on(g);
}

void restored_begin(struct node *n)
{
    struct restoring *g = xcalloc(1, sizeof *g);
    g->n = n;
    n->restoring = g;
    gather(g);
    g->timer = n->env->timer_new(n->env->ctx, is_late, g);
    n->env->timer_start(n->env->ctx, g->timer, all_answered(n) ? 0 : WAIT_MS);
}

void restored_free(struct node *n)
{
    struct restoring *g = n->restoring;
    if (g) {
        n->env->timer_free(n->env->ctx, g->timer);
        free(g->ones);
        free(g);
        n->restoring = NULL;
    }
}
