/* The world of one virtual host: clock, chance, timers, store. */
#include "tests/mesh/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/base/log.h"

#define SLOW_US  5000000LL       /* COMMIT_SLOW */
#define EPOCH_MS 1760000000000LL /* the wall clock at virtual time 0 */

static int64_t wall_ms(void *ctx)
{
    const struct vhost *h = ctx;
    return EPOCH_MS + h->clock_skew_ms + h->mesh->now_us / 1000;
}

static int64_t mono_us(void *ctx)
{
    const struct vhost *h = ctx;
    return h->mesh->now_us + 1000000 - h->slept_us;
}

static void fill_random(void *ctx, void *ret, size_t n)
{
    struct vhost *h = ctx;
    uint8_t *p = ret;
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(rng_next(h->rng) >> 24);
    }
}

/* --- timers: the queue may hold several events of one timer, only the last start counts --- */
struct firing {
    struct env_timer *timer;
    uint64_t armed;
};

static void timer_settle(struct env_timer *t)
{
    if (t->freed && t->queued == 0) {
        free(t);
    }
}

static void firing_drop(void *arg)
{
    struct firing *f = arg;
    f->timer->queued--;
    timer_settle(f->timer);
    free(f);
}

static void firing_run(void *arg)
{
    struct firing *f = arg;
    struct env_timer *t = f->timer;
    bool counts = t->armed == f->armed && !t->freed;
    firing_drop(f);
    if (counts) {
        t->armed = 0;
        t->fire(t->arg);
    }
}

bool venv_is_timer(void (*run)(void *arg))
{
    return run == firing_run;
}

static struct env_timer *timer_new(void *ctx, void (*fire)(void *arg), void *arg)
{
    struct vhost *h = ctx;
    struct env_timer *t = xcalloc(1, sizeof *t);
    t->host = h;
    t->fire = fire;
    t->arg = arg;
    LIST_INSERT_HEAD(&h->timers, t, link);
    h->timer_count++;
    return t;
}

static void timer_start(void *ctx, struct env_timer *t, int64_t delay_ms)
{
    struct vhost *h = ctx;
    gw_assert(t && t->host == h && !t->freed && delay_ms >= 0);
    struct firing *f = xcalloc(1, sizeof *f);
    f->timer = t;
    f->armed = t->armed = ++h->mesh->next_number;
    t->queued++;
    mesh_push(h->mesh, h, h->mesh->now_us + delay_ms * 1000 + 1, firing_run, firing_drop, f);
}

static void timer_stop(void *ctx, struct env_timer *t)
{
    (void)ctx;
    gw_assert(t && !t->freed);
    t->armed = 0;
}

static void timer_free(void *ctx, struct env_timer *t)
{
    struct vhost *h = ctx;
    if (!t) {
        return;
    }
    gw_assert(t->host == h && !t->freed);
    LIST_REMOVE(t, link);
    h->timer_count--;
    t->freed = true;
    t->armed = 0;
    timer_settle(t);
}

/* After node_free: a timer that is left is one that the node has forgotten. */
void venv_free_timers(struct vhost *h)
{
    if (h->timer_count > 0) {
        mesh_fail(h->mesh, "node_free of %s left %zu timers", h->name, h->timer_count);
    }
}

struct deferred {
    void (*run)(void *arg);
    void *arg;
};

static void deferred_run(void *arg)
{
    struct deferred d = *(struct deferred *)arg;
    free(arg);
    d.run(d.arg);
}

static void deferred_drop(void *arg)
{
    struct deferred *d = arg;
    mesh_bury(d->arg);
    free(d);
}

static void defer(void *ctx, void (*run)(void *arg), void *arg)
{
    struct vhost *h = ctx;
    struct deferred *d = xcalloc(1, sizeof *d);
    *d = (struct deferred){run, arg};
    mesh_push(h->mesh, h, h->mesh->now_us + 1, deferred_run, deferred_drop, d);
}

/* --- the store: one request at a time, each a little later than the one before; told later still
 * --- */
struct row_copy {
    store_table table;
    struct buf key, value;
};
struct request {
    STAILQ_ENTRY(request) link; /* in host->storage */
    struct vhost *host;
    struct store_batch *batch; /* NULL: a read */
    storage_done done;
    storage_read_done read_done;
    void *arg;
    struct store_range *ranges;
    size_t bytes;     /* of the rows */
    struct buf spans; /* copies of prefix and from of each range */
    size_t range_count;
    gw_err err;
    bool delayed; /* its fate is known: COMMIT_SLOW */
    bool applied; /* or rolled back */
    struct row_copy *rows;
    size_t row_count, row_cap;
};

static void request_free(void *arg)
{
    struct request *r = arg;
    store_batch_free(r->batch);
    for (size_t i = 0; i < r->row_count; i++) {
        buf_free(&r->rows[i].key);
        buf_free(&r->rows[i].value);
    }
    free(r->rows);
    free(r->ranges);
    buf_free(&r->spans);
    free(r);
}

static void request_drop(void *arg)
{
    struct request *r = arg;
    if (r->batch && !r->applied && !r->host->mesh->ending) {
        mesh_figure_add(FIGURE_UNSYNCED);
    }
    mesh_bury(r->arg);
    request_free(r);
}

static void request_tell(void *arg)
{
    struct request *r = arg;
    if (r->read_done) {
        struct storage_row *rows = calloc(r->row_count + 1, sizeof *rows);
        gw_assert(rows);
        for (size_t i = 0; i < r->row_count; i++) {
            rows[i] = (struct storage_row){r->rows[i].table, buf_span(&r->rows[i].key),
                                           buf_span(&r->rows[i].value)};
        }
        r->read_done(r->arg, r->err, rows, r->row_count);
        free(rows);
    } else if (r->done) {
        r->done(r->arg, r->err);
    }
    request_free(r);
}

struct visit {
    struct request *request;
    store_table table;
    size_t max_bytes;
};

static bool keep_row(void *arg, struct span key, struct span value)
{
    struct visit *v = arg;
    struct request *r = v->request;
    if (r->row_count == r->row_cap) {
        r->row_cap = r->row_cap ? r->row_cap * 2 : 16;
        r->rows = realloc(r->rows, r->row_cap * sizeof *r->rows);
        gw_assert(r->rows);
    }
    struct row_copy *row = &r->rows[r->row_count++];
    *row = (struct row_copy){.table = v->table};
    buf_add(&row->key, key.p, key.n);
    buf_add(&row->value, value.p, value.n);
    r->bytes += key.n + value.n;
    r->err = v->max_bytes > 0 && r->bytes > v->max_bytes ? GW_ETOO_BIG : GW_OK;
    return r->err == GW_OK;
}

static void read_apply(struct request *r)
{
    for (size_t i = 0; i < r->range_count && r->err == GW_OK; i++) {
        struct visit v = {r, r->ranges[i].table, r->ranges[i].max_bytes};
        gw_err err = store_scan(r->host->store, &r->ranges[i], keep_row, &v);
        r->err = err == GW_OK ? r->err : err;
    }
    for (size_t i = 0; r->err != GW_OK && i < r->row_count; i++) {
        buf_free(&r->rows[i].key);
        buf_free(&r->rows[i].value);
    }
    r->row_count = r->err == GW_OK ? r->row_count : 0;
}

/* The oldest: an event each, but whatever delays some of them keeps the order. Here a crash
 * separates what is kept from what is lost. */
static void storage_turn(void *arg)
{
    struct vhost *h = arg;
    struct mesh *m = h->mesh;
    struct request *r = STAILQ_FIRST(&h->storage);
    if (m->now_us < h->storage_stall_us) {
        mesh_push(m, h, h->storage_stall_us, storage_turn, NULL, h);
        return;
    }
    if (!r->batch) {
        read_apply(r);
    } else {
        bool ask = m->on_commit && !r->delayed;
        commit_fate fate = m->now_us < h->full_until_us ? COMMIT_FAIL
                           : ask                        ? m->on_commit(m->commit_arg, h->index)
                                                        : COMMIT_PASS;
        h->start_spoilt = h->start_spoilt || (fate == COMMIT_FAIL && !h->ready);
        mesh_figure_add(FIGURE_COMMITS);
        if (fate == COMMIT_SLOW) {
            mesh_figure_add(FIGURE_SLOW);
            mesh_note(m, "%s: its disk sleeps", h->name);
            r->delayed = true;
            h->storage_stall_us = m->now_us + SLOW_US;
            mesh_push(m, h, h->storage_stall_us, storage_turn, NULL, h);
            return;
        }
        if (fate == COMMIT_IO_ERROR) {
            mesh_note(m, "%s: an I/O error", h->name);
            mesh_figure_add(FIGURE_IO_ERROR);
            fate = mesh_random(m, 2) ? COMMIT_CRASH_BEFORE : COMMIT_CRASH_AFTER;
        }
        if (fate == COMMIT_CRASH_BEFORE) {
            mesh_note(m, "%s: its commit is lost", h->name);
            mesh_crash(m, h->index);
            return;
        }
        r->applied = true;
        if (fate == COMMIT_FAIL) {
            mesh_figure_add(FIGURE_FULL);
            r->err = GW_EDISK_FULL;
            store_batch_ended(r->batch, r->err);
        } else {
            store_apply(h->store, &r->batch, 1, &r->err);
        }
        mesh_note(m, "%s commits %zu: %s", h->name, store_batch_count(r->batch),
                  gw_err_name(r->err));
        if (fate == COMMIT_CRASH_AFTER) {
            mesh_crash(m, h->index);
            return;
        }
    }
    STAILQ_REMOVE_HEAD(&h->storage, link);
    int64_t at = m->now_us + mesh_between(m, 5, 60);
    h->storage_told_us = at > h->storage_told_us ? at : h->storage_told_us + 1;
    mesh_push(m, h, h->storage_told_us, request_tell, request_drop, r);
}

static void request_submit(struct request *r, int64_t low_us, int64_t high_us)
{
    struct vhost *h = r->host;
    struct mesh *m = h->mesh;
    if (h->dying) {
        request_drop(r);
        return;
    }
    if (h->storage_free_us < m->now_us) {
        h->storage_free_us = m->now_us;
    }
    h->storage_free_us += mesh_between(m, low_us, high_us);
    STAILQ_INSERT_TAIL(&h->storage, r, link);
    mesh_push(m, h, h->storage_free_us, storage_turn, NULL, h);
}

void venv_drop_storage(struct vhost *h)
{
    struct request *r;
    while ((r = STAILQ_FIRST(&h->storage))) {
        STAILQ_REMOVE_HEAD(&h->storage, link);
        request_drop(r);
    }
}

static void commit(void *ctx, struct store_batch *batch, storage_done done, void *arg)
{
    struct request *r = xcalloc(1, sizeof *r);
    r->host = ctx;
    r->batch = batch ? batch : store_batch_new();
    r->done = done;
    r->arg = arg;
    request_submit(r, 120, 400);
}

static void read_rows(void *ctx, const struct store_range *ranges, size_t n, storage_read_done done,
                      void *arg)
{
    gw_assert(n >= 1 && n <= STORAGE_RANGES && done);
    struct request *r = xcalloc(1, sizeof *r);
    r->ranges = xcalloc(n, sizeof *r->ranges);
    r->host = ctx;
    r->read_done = done;
    r->arg = arg;
    r->range_count = n;
    for (size_t i = 0; i < n; i++) {
        buf_add(&r->spans, ranges[i].prefix.p, ranges[i].prefix.n);
        buf_add(&r->spans, ranges[i].from.p, ranges[i].from.n);
    }
    buf_add(&r->spans, "", 1); /* there is one, also when all are empty */
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        r->ranges[i] = ranges[i];
        r->ranges[i].prefix.p = r->spans.data + at;
        at += ranges[i].prefix.n;
        r->ranges[i].from.p = r->spans.data + at;
        at += ranges[i].from.n;
    }
    request_submit(r, 10 + r->host->read_slow_us, 60 + r->host->read_slow_us);
}

/* --- the table --- */
static void peer_send(void *ctx, const struct host_id *to, struct buf *frame)
{
    vlink_send(ctx, to, frame);
}

static struct vlink *link_to(struct vhost *h, const struct host_id *id, const char *url)
{
    struct mesh *m = h->mesh;
    for (size_t i = 0; i < m->host_count; i++) {
        struct vhost *other = &m->hosts[i];
        bool named = id && !host_id_is_nil(id) ? host_id_equal(id, &other->id)
                                               : url && strcmp(url, other->url) == 0;
        if (named && other != h) {
            return vlink_of(m, h->index, i);
        }
    }
    return NULL;
}

static void peer_want(void *ctx, const struct host_id *id, const char *url)
{
    struct vlink *l = link_to(ctx, id, url);
    if (l) {
        vlink_want(l);
    }
}

static void peer_drop(void *ctx, const struct host_id *id, const char *reason)
{
    struct vhost *h = ctx;
    struct vlink *l = link_to(h, id, NULL);
    mesh_note(h->mesh, "%s drops a peer: %s", h->name, reason);
    if (l && !h->dying) {
        l->hold_until_us = h->mesh->now_us + 60 * 1000000LL;
        vlink_cut(l);
    }
}

/* There is one link a pair here: rivals are what tests make of it. */
static void peer_rival(void *ctx, const struct host_id *id, bool take, struct buf *last_word,
                       const char *reason)
{
    struct vhost *h = ctx;
    (void)id;
    mesh_note(h->mesh, "%s %s a second link: %s", h->name, take ? "takes" : "ends", reason);
    h->rivals_taken += take;
    h->rivals_ended += !take;
    if (last_word) {
        buf_reset(&h->rival_word);
        buf_add(&h->rival_word, last_word->data, last_word->len);
    }
}

/* --- files: there are none; a copy takes a while and tells how far it is --- */
#define COPY_STEPS   20
#define COPY_STEP_US 100000

struct vcopy {
    struct vhost *host;
    struct op_call *call;
    char to[16];
    int step;
    bool gone;
};

static void copy_drop(void *arg)
{
    free(arg); /* its call is freed with the calls of the host */
}

static void copy_step(void *arg)
{
    struct vcopy *c = arg;
    struct vhost *h = c->host;
    GW_AUTO(gw_value_free) gw_value item = gw_nil();
    struct gw_error why;
    bool last = ++c->step == COPY_STEPS;
    if (c->gone) {
        gw_fail(&why, GW_ECANCELLED, "called off at step %d", c->step);
        h->copies_ended++;
        op_fail(c->call, &why);
        free(c);
        return;
    }
    if (gw_map_set(&item, "bytes", gw_int(c->step)) != GW_OK ||
        (last && gw_map_set(&item, "done", gw_bool(true)) != GW_OK) ||
        gw_map_set(&item, "from", gw_str(h->name)) != GW_OK ||
        gw_map_set(&item, "to", gw_str(c->to)) != GW_OK) {
        mesh_fail(h->mesh, "out of memory");
    }
    c->gone |= !c->call->item(c->call, &item);
    if (last) {
        gw_value nothing = gw_nil();
        h->copies_ended++;
        op_ok(c->call, &nothing);
        free(c);
        return;
    }
    mesh_push(h->mesh, h, h->mesh->now_us + COPY_STEP_US, copy_step, copy_drop, c);
}

static void copy_gone(void *arg)
{
    struct vcopy *c = arg;
    c->gone = true;
}

static void file_op(void *ctx, struct op_call *call, const struct env_host *to)
{
    struct vhost *h = ctx;
    if (!to) {
        gw_value result = gw_nil();
        if (gw_map_set(&result, "host", gw_str(h->name)) != GW_OK) {
            mesh_fail(h->mesh, "out of memory");
        }
        op_ok(call, &result);
        return;
    }
    struct vcopy *c = xcalloc(1, sizeof *c);
    c->host = h;
    c->call = call;
    snprintf(c->to, sizeof c->to, "%s", to->name);
    call->on_gone = copy_gone;
    call->gone_arg = c;
    h->copies++;
    mesh_push(h->mesh, h, h->mesh->now_us + COPY_STEP_US, copy_step, copy_drop, c);
}

size_t mesh_file_copies(const struct mesh *m, size_t host, size_t *ret_ended)
{
    *ret_ended = m->hosts[host].copies_ended;
    return m->hosts[host].copies;
}

void venv_init(struct vhost *h)
{
    LIST_INIT(&h->timers);
    LIST_INIT(&h->calls);
    h->env = (struct gw_env){
        .ctx = h,
        .wall_ms = wall_ms,
        .mono_us = mono_us,
        .turn_us = mono_us,
        .random = fill_random,
        .timer_new = timer_new,
        .timer_start = timer_start,
        .timer_stop = timer_stop,
        .timer_free = timer_free,
        .defer = defer,
        .commit = commit,
        .read = read_rows,
        .peer_send = peer_send,
        .peer_want = peer_want,
        .peer_drop = peer_drop,
        .peer_rival = peer_rival,
        .runner_start = vrunner_start,
        .runner_send = vrunner_send,
        .runner_kill = vrunner_kill,
        .inline_run = vrunner_inline,
        .file_op = file_op,
    };
    vfiles_init(h);
}
