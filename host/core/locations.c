/* Where agents are, as far as this host knows, and what hosts tell each other about it.
 *
 * A location is a fence (highest epoch known, durable, never falling: I2), a forwarding pointer and
 * the home's directory in one; what others merely told us is kept as a hint in memory only. LOCATE
 * tells the home of an agent who has it. The word that an agent has ended is forgotten after
 * LIMIT_ENDED_MS, or hosts would remember each agent that ever was; docs/decisions.md says why that
 * is safe. (When it turns out that two hosts have one: copies.c.) */
#include "host/core/handoff.h"
#include "host/core/reach.h"
#include "host/core/sleepers.h"
#include "host/core/timers.h"

#include <stdlib.h>
#include <string.h>

#define LOCATE_TIMEOUT_MS 3000
#define ENDED_AT_ONCE     1000 /* each second */
#define WRITTEN_AT_ONCE   1000

/* ---- locations ---- */

struct location *location_find(struct node *n, const gw_id *id)
{
    struct location *l;
    HASH_FIND(hh, n->locations, id, sizeof *id, l);
    return l;
}

static void drop_location(struct node *n, struct location *l)
{
    HASH_DEL(n->locations, l);
    if (l->ended) {
        TAILQ_REMOVE(&n->endings, l, hint);
    }
    if (!l->durable) {
        TAILQ_REMOVE(&n->hints, l, hint);
        n->hint_count--;
    }
    free(l);
}

static struct location *location_make(struct node *n, const gw_id *id)
{
    struct location *l = location_find(n, id);
    if (l) {
        return l;
    }
    if (n->hint_count >= LIMIT_HINTS) {
        drop_location(n, TAILQ_FIRST(&n->hints)); /* the oldest */
    }
    l = xcalloc(1, sizeof *l);
    l->agent = *id;
    TAILQ_INSERT_TAIL(&n->hints, l, hint);
    n->hint_count++;
    HASH_ADD(hh, n->locations, agent, sizeof l->agent, l);
    return l;
}

static void ended(struct node *n, struct location *l, int64_t at_ms)
{
    l->ended = true;
    l->ended_ms = at_ms;
    TAILQ_INSERT_TAIL(&n->endings, l, hint);
}

void location_know(struct node *n, const gw_id *id, uint64_t epoch, struct peer *host,
                   bool disposed, bool durable)
{
    if (epoch > LIMIT_EPOCH) {
        return;
    }
    struct location *l = location_make(n, id);
    if (durable && !l->durable) {
        l->durable = true;
        TAILQ_REMOVE(&n->hints, l, hint);
        n->hint_count--;
    }
    if (durable && epoch > l->fence) {
        l->fence = epoch; /* what is merely heard raises none */
    }
    if (epoch < l->epoch || (l->durable && !durable && epoch == l->epoch && !l->doubted)) {
        return;
    }
    l->doubted = false;
    l->epoch = epoch;
    l->host = host;
    l->disposed = l->disposed || disposed;
    if (disposed && durable && !l->ended) {
        ended(n, l, node_now_ms(n));
    }
}

/* [epoch, host, disposed, since when (ms; 0 = not)] */
static void write_row(struct store_batch *batch, const gw_id *id, uint64_t epoch,
                      const struct peer *host, bool disposed, int64_t ended_ms)
{
    struct buf value = {0};
    mp_array(&value, 4);
    mp_uint(&value, epoch);
    mp_bin(&value, host->id.b, HOST_ID_BYTES);
    mp_bool(&value, disposed);
    mp_int(&value, ended_ms);
    store_batch_put_take(batch, TABLE_LOCATIONS, (struct span){id->b, GW_ID_BYTES}, &value);
    buf_free(&value);
}

void location_write(struct store_batch *batch, const gw_id *id, uint64_t epoch,
                    const struct peer *host)
{
    write_row(batch, id, epoch, host, false, 0);
}

void location_write_end(struct node *n, struct store_batch *batch, const gw_id *id, uint64_t epoch,
                        const struct peer *host)
{
    write_row(batch, id, epoch, host, true, node_now_ms(n));
}

bool location_has_other(struct node *n, const struct agent *a)
{
    const struct location *l = location_find(n, &a->id);
    return a->status == AGENT_QUARANTINED && !a->fault && l && l->epoch >= a->epoch &&
           !l->host->self;
}

void location_boot_row(struct node *n, struct span key, struct span value)
{
    struct mp m = mp_over(value);
    size_t fields;
    uint64_t epoch;
    struct host_id host;
    bool disposed;
    int64_t ended_ms = 0;
    gw_id id;
    if (key.n != GW_ID_BYTES || mp_read_array(&m, &fields) != GW_OK || fields < 3 ||
        mp_read_uint(&m, &epoch) != GW_OK || mp_read_fixed(&m, host.b, HOST_ID_BYTES) != GW_OK ||
        mp_read_bool(&m, &disposed) != GW_OK ||
        (fields > 3 && mp_read_int(&m, &ended_ms) != GW_OK)) {
        log_error("store.row", "table=locations a row does not decode and was skipped");
        return;
    }
    memcpy(id.b, key.p, GW_ID_BYTES);
    location_know(n, &id, epoch, peer_intern(n, &host), disposed, true);
    struct location *l = disposed && ended_ms > 0 ? location_find(n, &id) : NULL;
    if (l && l->ended) {
        l->ended_ms = ended_ms;
    }
}

static bool is_moving(struct node *n, const gw_id *id)
{
    const struct ticket_out *t;
    const struct move_out *m;
    TICKET_OUT_EACH(n, t, m)
    {
        if (gw_id_equal(&m->agent_id, id)) {
            return true;
        }
    }
    return move_in_holds(n, id);
}

static void write_again(struct node *n);

void locations_housekeeping(struct node *n)
{
    if (n->locations_unwritten) {
        write_again(n);
    }
    struct location *l, *first_kept = NULL;
    struct store_batch *batch = NULL;
    int64_t oldest = node_now_ms(n) - LIMIT_ENDED_MS;
    if (!n->ready || timers_mono(n) - n->clock_set_us < LIMIT_ENDED_CALM_MS * 1000) {
        return;
    }
    for (int i = 0; i < ENDED_AT_ONCE && (l = TAILQ_FIRST(&n->endings)); i++) {
        if (l == first_kept) {
            break; /* once round */
        }
        if (l->ended_ms > oldest || is_moving(n, &l->agent)) {
            first_kept = first_kept ? first_kept : l;
            TAILQ_REMOVE(&n->endings, l, hint);
            TAILQ_INSERT_TAIL(&n->endings, l, hint);
            continue;
        }
        batch = batch ? batch : store_batch_new();
        store_batch_del(batch, TABLE_LOCATIONS, (struct span){l->agent.b, GW_ID_BYTES});
        drop_location(n, l);
    }
    if (batch) {
        node_commit(n, batch, POINT_LOCATION_FORGOTTEN, NULL, NULL);
    }
}

void locations_free(struct node *n)
{
    struct location *l, *next;
    HASH_ITER (hh, n->locations, l, next) {
        drop_location(n, l);
    }
}

void location_doubt(struct node *n, const gw_id *id)
{
    struct location *l = location_find(n, id);
    if (l && !l->durable) {
        drop_location(n, l);
    } else if (l) {
        l->doubted = true; /* its epoch stays a fence (I2) */
        l->epoch = l->fence;
    }
}

/* ---- LOCATE: telling homes ---- */

static void locate_entry(struct buf *frame, const gw_id *id, uint64_t epoch,
                         const struct host_id *host, bool disposed)
{
    mp_array(frame, 4);
    mp_id(frame, id);
    mp_uint(frame, epoch);
    mp_bin(frame, host->b, HOST_ID_BYTES);
    mp_bool(frame, disposed);
}

void location_tell_home(struct node *n, const gw_id *id, uint64_t epoch, const struct host_id *home,
                        bool disposed)
{
    struct peer *p = peer_find(n, home);
    if (!p || p->self || !p->up) {
        return; /* told when its link comes up */
    }
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_LOCATE, 0, 1);
    mp_array(&frame, 1);
    locate_entry(&frame, id, epoch, &n->self->id, disposed);
    frame_end(&frame, at);
    peer_send_frame(n, p, &frame);
}

static void send_entries(struct node *n, struct peer *p, struct buf *entries, size_t count)
{
    struct buf frame = {0};
    size_t at = frame_begin(&frame, FRAME_LOCATE, 0, 1);
    mp_array(&frame, count);
    buf_add(&frame, entries->data, entries->len);
    frame_end(&frame, at);
    peer_send_frame(n, p, &frame);
    buf_reset(entries);
}

void locations_tell_homes(struct node *n, const gw_id *first, size_t stride, size_t count)
{
    struct buf entries = {0};
    struct peer *to = NULL;
    size_t waiting = 0;
    for (size_t i = 0; i < count; i++) {
        gw_id id;
        memcpy(&id, (const uint8_t *)first + i * stride, sizeof id);
        const struct agent *a = agent_find(n, &id);
        struct peer *home = a ? peer_find(n, a->home) : NULL;
        if (!home || home->self || !home->up) {
            continue; /* told when its link comes up */
        }
        if (waiting > 0 && (home != to || waiting == LIMIT_PAGE)) {
            send_entries(n, to, &entries, waiting);
            waiting = 0;
        }
        to = home;
        waiting++;
        locate_entry(&entries, &id, a->epoch, &n->self->id, false);
    }
    if (waiting > 0) {
        send_entries(n, to, &entries, waiting);
    }
    buf_free(&entries);
}

struct telling {
    struct node *n;
    struct peer *p;
    struct buf entries;
    size_t count;
};

static void tell_one(struct telling *t, const gw_id *id, uint64_t epoch)
{
    locate_entry(&t->entries, id, epoch, &t->n->self->id, false);
    if (++t->count == LIMIT_PAGE) {
        send_entries(t->n, t->p, &t->entries, t->count);
        t->count = 0;
    }
}

void locations_link_up(struct node *n, struct peer *p)
{
    struct telling t = {.n = n, .p = p};
    for (const struct agent *a = n->agents; a; a = a->hh.next) {
        if (a->home == &p->id) {
            tell_one(&t, &a->id, a->epoch);
        }
    }
    for (size_t i = 0; i < sleepers_count(n); i++) {
        struct sleeper_view s = sleepers_at(n, i);
        if (s.home == &p->id) {
            tell_one(&t, s.id, s.epoch);
        }
    }
    if (t.count > 0) {
        send_entries(n, p, &t.entries, t.count);
    }
    buf_free(&t.entries);
}

/* ---- what others say ---- */

void location_ask(struct node *n, struct peer *p, const char *agent,
                  void (*on_answer)(void *arg, gw_err err, const struct frame *f), void *arg)
{
    struct buf frame = {0};
    uint64_t stream = peer_stream(n);
    size_t at = frame_begin(&frame, FRAME_CALL, stream, 3);
    mp_str(&frame, "locate");
    mp_map(&frame, 1);
    mp_str(&frame, "agent");
    mp_str(&frame, agent);
    mp_nil(&frame);
    frame_end(&frame, at);
    peer_request(n, p, stream, &frame, LOCATE_TIMEOUT_MS, on_answer, arg);
}

/* `p` has an older copy than is known here, or its word was overtaken: tell it who has the newer
 * one. */
static void correct(struct node *n, struct peer *p, const gw_id *id, uint64_t fence)
{
    struct location *l = location_find(n, id);
    struct peer *host = agent_find(n, id) ? n->self : l ? l->host : NULL;
    if (host && host != p && !(l && l->disposed)) {
        REACH(LOCATION_CORRECTED);
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_LOCATE, 0, 1);
        mp_array(&frame, 1);
        locate_entry(&frame, id, fence, &host->id, false);
        frame_end(&frame, at);
        peer_send_frame(n, p, &frame);
    }
}

struct entry {
    gw_id id;
    uint64_t epoch;
    struct host_id host;
    bool disposed;
};

static gw_err read_entry(struct mp *m, struct entry *e)
{
    size_t fields;
    GW_TRY(mp_read_array(m, &fields));
    if (fields < 4) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, &e->id));
    GW_TRY(mp_read_uint(m, &e->epoch));
    GW_TRY(mp_read_fixed(m, e->host.b, HOST_ID_BYTES));
    GW_TRY(mp_read_bool(m, &e->disposed));
    GW_TRY(mp_skip_n(m, fields - 4));
    return e->epoch <= LIMIT_EPOCH ? GW_OK : GW_EPROTO;
}

/* Rows on their way to the disk. In memory they count at once: if that is rolled back they are
 * written again, as they then are (I2). */
struct rows {
    struct node *n;
    size_t count;
    gw_id ids[];
};

static void written(void *arg, gw_err err)
{
    struct rows *rows = arg;
    for (size_t i = 0; err != GW_OK && i < rows->count; i++) {
        struct location *l = location_find(rows->n, &rows->ids[i]);
        if (l && l->durable) {
            REACH(FENCE_ROLLED_BACK);
            l->unwritten = rows->n->locations_unwritten = true;
        }
    }
    free(rows);
}

static struct rows *rows_new(struct node *n, size_t most)
{
    struct rows *rows = xcalloc(1, sizeof *rows + most * sizeof rows->ids[0]);
    rows->n = n;
    return rows;
}

static void write_again(struct node *n)
{
    struct store_batch *batch = store_batch_new();
    struct rows *rows = rows_new(n, WRITTEN_AT_ONCE);
    struct location *l;
    for (l = n->locations; l && rows->count < WRITTEN_AT_ONCE; l = l->hh.next) {
        if (l->unwritten) {
            write_row(batch, &l->agent, l->fence, l->host, l->disposed, l->ended_ms);
            REACH(FENCE_WRITTEN_AGAIN);
            l->unwritten = false;
            rows->ids[rows->count++] = l->agent;
        }
    }
    n->locations_unwritten = l != NULL;
    node_commit(n, batch, POINT_LOCATION_AGAIN, written, rows);
}

/* A host speaks for itself only, and only of epochs above what we know; of others it can only hint.
 */
static void take_entry(struct node *n, struct peer *p, const struct entry *e,
                       struct store_batch *batch, struct rows *rows)
{
    struct agent *a = agent_find(n, &e->id);
    uint64_t fence = agent_fence(n, &e->id);
    struct peer *host = peer_find(n, &e->host);
    if (a && e->epoch > a->epoch && !e->disposed) {
        if (host && host->up && !host->self) {
            copies_meet(n, host, &e->id); /* two copies (H8) */
        }
    } else if (a || host != p) {
        if (a && host == p && e->epoch < a->epoch) {
            correct(n, p, &e->id, a->epoch);
        }
    } else if (fence ==
               0) { /* whose home this is is known here from its birth; of others: a hint */
        location_know(n, &e->id, e->epoch, p, e->disposed, false);
    } else if (fence < e->epoch) {
        if (e->disposed) {
            location_write_end(n, batch, &e->id, e->epoch, p);
        } else {
            location_write(batch, &e->id, e->epoch, p);
        }
        rows->ids[rows->count++] = e->id;
        location_know(n, &e->id, e->epoch, p, e->disposed, true);
        move_out_seen(n, &e->id, e->epoch);
    } else if (e->disposed && fence == e->epoch) {
        location_write_end(n, batch, &e->id, e->epoch, p);
        rows->ids[rows->count++] = e->id;
        location_know(n, &e->id, e->epoch, p, true, true);
    } else if (fence > e->epoch && !e->disposed) {
        correct(n, p, &e->id, fence);
    }
}

void location_frame(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp m = f->rest;
    struct entry e;
    size_t count;
    if (mp_read_array(&m, &count) != GW_OK || count > LIMIT_PAGE) {
        return;
    }
    struct store_batch *batch = store_batch_new();
    struct rows *rows = rows_new(n, count);
    for (size_t i = 0; i < count && read_entry(&m, &e) == GW_OK; i++) {
        take_entry(n, p, &e, batch, rows);
    }
    if (rows->count > 0) {
        node_commit(n, batch, POINT_LOCATION_HEARD, written, rows);
    } else {
        store_batch_free(batch);
        free(rows);
    }
}

/* ---- the operation ---- */

void op_locate(struct node *n, struct op_call *call)
{
    struct gw_error why;
    const char *text = gw_map_str(&call->args, "agent", "");
    struct agent *a = NULL;
    struct peer *host = n->self;
    struct location *l = NULL;
    gw_id id;
    char id_text[HOST_ID_TEXT], agent_text[GW_ID_TEXT];
    gw_value result = gw_nil();
    gw_err err = agent_lookup(n, text, &a, &why);
    if (err == GW_EAMBIGUOUS) {
        op_fail(call, &why);
        return;
    }
    if (err == GW_OK && a->unborn) {
        a = NULL;
        err = GW_EUNKNOWN;
    }
    if (err != GW_OK) {
        l = gw_id_parse(text, &id) == GW_OK ? location_find(n, &id) : NULL;
        if (!l || !l->durable) {
            gw_fail(&why, GW_EUNKNOWN, "agent \"%s\" is not known here", text);
            op_fail(call, &why);
            return;
        }
        host = l->host;
    }
    const gw_id *agent = a ? &a->id : &l->agent;
    if (gw_map_set(&result, "agent", gw_str(gw_id_text(agent, agent_text))) != GW_OK ||
        gw_map_set(&result, "epoch", gw_int((int64_t)(a ? a->epoch : l->epoch))) != GW_OK ||
        gw_map_set(&result, "fence", gw_int((int64_t)agent_fence(n, agent))) != GW_OK ||
        gw_map_set(&result, "host_id", gw_str(host_id_text(&host->id, id_text))) != GW_OK ||
        gw_map_set(&result, "name", gw_str(host->name)) != GW_OK ||
        gw_map_set(&result, "url", gw_str(host->url)) != GW_OK ||
        gw_map_set(&result, "disposed", gw_bool(l && l->disposed)) != GW_OK) {
        gw_value_free(&result);
    }
    op_ok(call, &result);
}
