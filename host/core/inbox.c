/* Messages at their receiver: acceptance of tells, rows of the inbox, and what the store holds of
 * mail.
 *
 * The owner of an agent accepts number mark + 1 of a stream (tells.c says what a sender promises):
 * {inbox row, mark} is one transaction, and the answer goes out when it is durable (H6). A row
 * leaves the inbox with the transaction of the handler that it was for. */
#include "host/core/itinerary.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/broken.h"
#include "host/core/reach.h"

static void inbox_done(struct work *w, gw_err err, const struct run_result *r,
                       const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why; /* a failure is an event (commit.c) */
}

void inbox_put(struct agent *a, struct work *w, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES + 8];
    struct buf value = {0};
    w->inbox = agent_live(a)->inbox_next++;
    mp_array(&value, 6 + CARRY_FIELDS);
    mp_id(&value, &w->sender);
    mp_str(&value, w->method);
    mp_span(&value, buf_span(&w->args));
    mp_bin(&value, w->key, sizeof w->key);
    mp_uint(&value, w->flags);
    mp_uint(&value, w->hook);
    carry_put(w->node, &w->carry, &value);
    store_batch_put_take(batch, TABLE_INBOX, row_number_key(raw, &a->id, a->epoch, w->inbox),
                         &value);
    buf_free(&value);
}

void inbox_del(const struct agent *a, uint64_t number, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES + 8];
    store_batch_del(batch, TABLE_INBOX, row_number_key(raw, &a->id, a->epoch, number));
}

struct accepting {
    struct node *n;
    struct op_call *call;
    gw_id agent, sender;
    uint64_t epoch;
    uint64_t before, seq; /* the mark before and after */
    bool unwanted;  /* a publication, and the agent is not subscribed: only the mark goes on */
    struct work *w; /* NULL: of a message about a monitor nothing came */
};

static struct span args_of(const struct op_call *call)
{
    const gw_value *args = gw_map_get(&call->args, "args");
    return (struct span){(const uint8_t *)args->s.p, args->s.n};
}

static void answer_accepted(struct op_call *call, bool unwanted)
{
    gw_value result = gw_nil();
    if (gw_map_set(&result, "accepted", gw_bool(true)) != GW_OK ||
        (unwanted && gw_map_set(&result, "unsubscribed", gw_bool(true)) != GW_OK)) {
        gw_value_free(&result);
    }
    op_ok(call, &result);
}

static void accepted(void *arg, gw_err err)
{
    struct accepting *c = arg;
    struct gw_error why;
    struct agent *a = agent_find(c->n, &c->agent);
    if (a && a->epoch != c->epoch) {
        a = NULL;
    }
    if (a && a->live && a->live->arriving > 0) {
        a->live->arriving--;
    }
    struct stream_mark *s = a && a->live ? stream_find(a->live, &c->sender, false) : NULL;
    if (s && s->accepting) { /* else read anew meanwhile, as the store has it */
        s->accepting = false;
        s->mark = err == GW_OK ? c->seq : c->before;
    }
    struct node *n = c->n;
    struct op_call *call = c->call;
    gw_id agent = c->agent;
    bool unwanted = c->unwanted;
    const char *method = gw_map_str(&call->args, "method", "");
    if (watches_is_message(method)) {
        watches_accepted(c->n, &c->agent, c->epoch, &c->sender, method, args_of(call), c->w, err);
    } else if (a && err == GW_OK && !unwanted) {
        work_push(c->w, false);
    } else {
        work_free(c->w);
    }
    free(c);
    if (err != GW_OK) {
        REACH(ACCEPT_ROLLED_BACK);
        gw_fail(&why, err, "the message could not be written: %s", gw_err_text(err));
        if (err == GW_ECORRUPT) {
            crashes_damaged(n, &agent, "a message for it cannot be written");
        }
        op_fail(call, &why);
    } else {
        answer_accepted(call, unwanted);
    }
}

static struct work *message_of(struct node *n, struct op_call *call, struct agent *a,
                               const gw_id *sender)
{
    struct work *w = work_new(n, a, HOOK_METHOD);
    struct span args = args_of(call);
    w->method = xstrdup(gw_map_str(&call->args, "method", ""));
    buf_add(&w->args, args.p, args.n);
    memcpy(w->key, gw_map_get(&call->args, "key")->s.p, sizeof w->key);
    w->sender = *sender;
    carry_of_call(n, call, &w->carry);
    w->flags = gw_map_bool(&call->args, "text", false) ? RUN_TEXT_ARGS : 0;
    w->done = inbox_done;
    return w;
}

/* Row and mark in one transaction; the answer goes out when it is durable. */
static void accept_one(struct node *n, struct op_call *call, struct agent *a, const gw_id *sender)
{
    struct stream_mark *s = stream_of(a->live, sender, false);
    const char *method = gw_map_str(&call->args, "method", "");
    struct accepting *c = xcalloc(1, sizeof *c);
    struct store_batch *batch = store_batch_new();
    *c = (struct accepting){
        .n = n, .call = call, .agent = a->id, .sender = *sender, .epoch = a->epoch};
    c->before = s->mark;
    c->seq = s->mark = (uint64_t)gw_map_int(&call->args, "seq", 0);
    s->accepting = true;
    stream_put(batch, a, s);
    if (watches_is_message(method)) {
        c->w = watches_accept(n, a, sender, method, args_of(call), batch);
    } else {
        c->w = message_of(n, call, a, sender);
        c->unwanted = c->w->carry.topic && !topics_has(n, &a->id, c->w->carry.topic);
        if (!c->unwanted) {
            inbox_put(a, c->w, batch);
        }
    }
    a->live->arriving++;
    node_commit(n, batch, POINT_TELL_ACCEPTED, accepted, c);
}

static bool is_full(const struct node *n, const struct agent *a, const struct stream_mark *s,
                    struct gw_error *why)
{
    const struct live *live = a->live;
    if (pressure_full(n, a)) {
        gw_fail(why, GW_EBUSY, "the mailbox of the agent is full (%zu messages wait)",
                live->queued);
        return true;
    }
    if (!s && live->stream_count >= LIMIT_STREAMS) {
        gw_fail(why, GW_EBUSY, "the agent has heard from, and told, %zu others",
                live->stream_count);
        return true;
    }
    return false;
}

static void accept_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    gw_id sender;
    int64_t seq = gw_map_int(&call->args, "seq", 0), since = gw_map_int(&call->args, "since", 0);
    const gw_value *args = gw_map_get(&call->args, "args");
    const gw_value *key = gw_map_get(&call->args, "key");
    const char *method = gw_map_str(&call->args, "method", "");
    if (gw_id_parse(gw_map_str(&call->args, "sender", ""), &sender) != GW_OK || seq < 1 || !args ||
        args->kind != GW_BYTES || args->s.n > LIMIT_ARGS_BYTES || !key || key->kind != GW_BYTES ||
        key->s.n != REQUEST_KEY_BYTES || (!name_is_valid(method) && !watches_is_message(method))) {
        gw_fail(&why, GW_EPROTO, "the one-way message is not well formed");
        op_fail(call, &why);
        return;
    }
    if (BROKEN(6) && a->move) {
        answer_accepted(call, false);
        return;
    }
    if (a->move || a->status == AGENT_QUARANTINED) {
        REACH(ACCEPT_FROZEN);
        gw_fail(&why, GW_EBUSY, "the agent does not accept messages now");
        if (watches_refuse_quarantined(a, method, args_of(call))) {
            (void)crashes_refuse(a, &why);
        }
        op_fail(call, &why);
        return;
    }
    struct live *live = agent_live(a);
    if (!live->known) {
        work_learn(n, a, call);
        return;
    }
    const struct stream_mark *s = stream_find(live, &sender, false);
    uint64_t mark = s ? s->mark : 0;
    bool loading = a->loading || n->loading; /* what it is subscribed to is not known yet */
    if ((s && s->accepting) || a->unborn || agent_is_ending(a) || loading) {
        REACH(ACCEPT_WAITS);
        call_again_later(n, call); /* H6: nothing is acknowledged that is not durable */
    } else if ((uint64_t)seq <= mark) {
        REACH(ACCEPTED_BEFORE);
        answer_accepted(call, false);
    } else if ((uint64_t)seq > mark + 1 && since < seq) {
        gw_fail(&why, GW_EGAP, "message %lld comes before message %llu", (long long)seq,
                (unsigned long long)mark + 1);
        op_fail(call, &why);
    } else if (is_full(n, a, s, &why) ||
               (watches_is_message(method) &&
                watches_admit(a, &sender, method, args_of(call), &why) != GW_OK)) {
        op_fail(call, &why);
    } else if (a->status == AGENT_INACTIVE && gw_map_bool(&call->args, "no_wake", false)) {
        gw_fail(&why, GW_EINACTIVE, "the agent is inactive and is not woken by this message");
        op_fail(call, &why);
    } else {
        accept_one(n, call, a, &sender);
    }
}

void op_accept(struct node *n, struct op_call *call)
{
    route_call(n, call, accept_local);
}

/* ---- from the store ---- */

static void load_inbox(struct node *n, struct agent *a, uint64_t number, struct span value)
{
    struct mp m = mp_over(value);
    size_t fields;
    struct span method, args;
    struct work *w = work_new(n, a, HOOK_METHOD);
    char name[LIMIT_NAME_BYTES + 1];
    uint32_t hook = HOOK_METHOD;
    if (mp_read_array(&m, &fields) == GW_OK && fields >= 5 && mp_read_id(&m, &w->sender) == GW_OK &&
        mp_read_str(&m, &method) == GW_OK && span_text(method, name, sizeof name) &&
        mp_read_bin(&m, &args) == GW_OK && mp_read_fixed(&m, w->key, sizeof w->key) == GW_OK &&
        mp_read_u32(&m, &w->flags) == GW_OK && (fields == 5 || mp_read_u32(&m, &hook) == GW_OK) &&
        (hook == HOOK_METHOD || hook == HOOK_TIMER || hook == HOOK_DOWN) &&
        (fields < 6 + CARRY_FIELDS || carry_read(n, &m, &w->carry) == GW_OK)) {
        w->method = xstrdup(name);
        w->flags &= RUN_TEXT_ARGS; /* the row may have come from another host */
        buf_add(&w->args, args.p, args.n);
        w->inbox = number;
        w->done = inbox_done;
        w->hook = (frame_hook)hook;
        if (hook == HOOK_TIMER) {
            w->done = timers_message_done;
            timers_load_message(n, w);
        }
        work_push(w, false);
    } else {
        char id[GW_ID_TEXT];
        log_error("store.row", "table=inbox agent=%s a message does not decode and was skipped",
                  gw_id_text(&a->id, id));
        work_free(w);
    }
}

/* Whether (agent, epoch) ended here: what it told others before is still delivered. */
static bool ended_here(struct node *n, const gw_id *id, uint64_t epoch)
{
    const struct location *l = location_find(n, id);
    return l && l->disposed && l->durable && l->host->self && l->fence == epoch;
}

void inbox_loaded_row(struct node *n, const struct storage_row *row)
{
    gw_id id;
    bool posted = poster_boot(n, row);
    if (posted && row->table != TABLE_OUTBOX) {
        return;
    }
    if (row->key.n > ROW_KEY_BYTES && row->table == TABLE_TOPICS) {
        topics_load_row(n, row->key, row->value);
        return;
    }
    bool mail = row->table == TABLE_INBOX || row->table == TABLE_OUTBOX;
    if (row->key.n <= ROW_KEY_BYTES || (mail && row->key.n != ROW_KEY_BYTES + 8)) {
        return;
    }
    memcpy(id.b, row->key.p, GW_ID_BYTES);
    uint64_t epoch = load_u64(row->key.p + GW_ID_BYTES);
    struct span rest = {row->key.p + ROW_KEY_BYTES, row->key.n - ROW_KEY_BYTES};
    struct agent *a = agent_find(n, &id);
    bool here = a && a->epoch == epoch; /* else of a staged, departed or ended one */
    if (here && row->table == TABLE_TIMERS) {
        timers_load_row(n, a, rest, row->value);
    } else if (here && row->table == TABLE_WATCHES) {
        watches_load_row(n, a, rest, row->value);
    } else if (here && row->table == TABLE_FILES) {
        files_load_row(a, rest, row->value);
    } else if (here && row->table == TABLE_INBOX) {
        load_inbox(n, a, load_u64(rest.p), row->value);
    } else if (row->table == TABLE_OUTBOX &&
               (here || posted || (!a && ended_here(n, &id, epoch)))) {
        tells_load_row(n, &id, epoch, load_u64(rest.p), row->value);
    }
}

struct loading {
    struct node *n;
    bool all;
    gw_id id; /* not all */
};

void inbox_loaded(struct node *n)
{
    struct agent *a, *next;
    live_know_done(n->poster.live);
    n->loading = false;
    HASH_ITER (hh, n->agents, a, next) {
        itinerary_loaded(a);
        if (files_adopt(n, a)) {
            continue;
        }
        if (a->live && !TAILQ_EMPTY(&a->live->queue)) {
            if (!a->unborn) { /* a resident that is being made: the host waits for it */
                starts_add(n, a, false);
            }
            work_pump(n, a);
        }
    }
    starts_go(n);
}

void inbox_load_over(struct node *n, const gw_id *id)
{
    struct agent *a = agent_find(n, id);
    a->loading = false;
    itinerary_loaded(a);
    work_pump(n, a);
    if ((a = agent_find(n, id))) {
        intent_run(n, a);
    }
}

static void loaded(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct loading g = *(struct loading *)arg;
    struct node *n = g.n;
    struct agent *a;
    free(arg);
    if (err == GW_ECORRUPT && g.all) {
        salvage_begin(n);
        return;
    }
    if (err != GW_OK) {
        log_error("store.read", "error=%s timers and mail of %s wait for the next start",
                  gw_err_name(err), g.all ? "all agents" : "an agent");
    }
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        inbox_loaded_row(n, &rows[i]);
    }
    if (g.all) {
        inbox_loaded(n);
        if (err == GW_OK) {
            files_sweep(n); /* else it is not known who needs them */
        }
    } else if ((a = agent_find(n, &g.id))) {
        if (err == GW_ECORRUPT) {
            a->loading = false;
            crashes_damaged(n, &g.id, "its timers and mail cannot be read");
        } else if (!files_adopt(n, a)) {
            inbox_load_over(n, &g.id);
        }
    }
}

void inbox_load(struct node *n, const gw_id *id, uint64_t epoch)
{
    uint8_t raw[ROW_KEY_BYTES];
    struct span prefix = {0};
    struct agent *a = id ? agent_find(n, id) : NULL;
    struct loading *g = xcalloc(1, sizeof *g);
    *g = (struct loading){.n = n, .all = !id};
    if (id) {
        g->id = *id;
        prefix = row_key(raw, id, epoch);
    } else {
        n->loading = true;
    }
    if (a) {
        a->loading = true;
    }
    const struct store_range ranges[] = {
        {.table = TABLE_TIMERS, .prefix = prefix}, /* first: messages name them */
        {.table = TABLE_TOPICS, .prefix = prefix},
        {.table = TABLE_WATCHES, .prefix = prefix},
        {.table = TABLE_FILES, .prefix = prefix},
        {.table = TABLE_INBOX, .prefix = prefix},
        {.table = TABLE_OUTBOX, .prefix = prefix},
        /* at boot only */
        {.table = TABLE_STREAMS, .prefix = {n->poster.id.b, GW_ID_BYTES}},
        {.table = TABLE_REQUESTS, .prefix = {n->poster.id.b, GW_ID_BYTES}}};
    n->env->read(n->env->ctx, ranges, id ? 6 : 8, loaded, g);
}
