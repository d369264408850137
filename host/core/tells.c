/* One-way messages between agents: outbox, streams, inbox.
 *
 * A tell leaves with the transaction of the handler that sent it: {outbox row, stream number}. It
 * is offered to its target through the ordinary routing (operation `accept`), one at a time per
 * (sender, target), until the owner has it durably: {inbox row, stream mark}. The owner accepts
 * mark + 1; at or below the mark it answers accepted again; above it `gap`, unless the sender says
 * (`since`) that it has settled everything below: a message to an agent that nobody knows is given
 * up with an event, and those behind it go on. Rows of both ends are part of their agents and
 * travel with them; those of an agent that has ended stay until they are delivered. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_FIRST_MS 200
#define RETRY_MAX_MS   10000

/* One message that waits. */
struct tell {
    TAILQ_ENTRY(tell) link;  /* in its stream, by number */
    TAILQ_ENTRY(tell) fresh; /* of its outbox, until its transaction is durable */
    struct stream *stream;
    uint64_t number; /* of the outbox row */
    uint64_t seq;    /* of the stream */
    struct buf row;  /* [target, seq, method, args, key] */
    bool durable;    /* its transaction is on disk: may leave */
};
/* From one agent to one other; the first is on its way, or waits for the next try. */
struct stream {
    UT_hash_handle hh; /* in outbox->streams, by target */
    gw_id target;
    struct node *n;
    struct outbox *box; /* NULL: its agent has left; freed when the answer comes */
    TAILQ_HEAD(, tell) tells;
    bool on_way;
    unsigned tries;
    struct env_timer *timer;
    struct op_call call;
    struct gw_error answer;
    LIST_ENTRY(stream) orphan;
};
struct outbox {
    UT_hash_handle hh; /* in node->outboxes, by sender */
    gw_id sender;
    uint64_t epoch;
    struct stream *streams;
    TAILQ_HEAD(fresh_tells, tell) fresh; /* of the transaction under way */
    size_t count;
};

/* ---- marks ---- */

static int compare_mark(const struct stream_mark *s, const gw_id *other, bool out)
{
    int c = memcmp(&s->other, other, sizeof *other);
    return c ? c : (int)s->out - (int)out;
}

/* Where it stands, or would stand. */
static size_t mark_place(const struct live *live, const gw_id *other, bool out)
{
    size_t low = 0, high = live->stream_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_mark(&live->streams[middle], other, out) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct stream_mark *stream_find(struct live *live, const gw_id *other, bool out)
{
    size_t at = mark_place(live, other, out);
    bool there = at < live->stream_count && compare_mark(&live->streams[at], other, out) == 0;
    return there ? &live->streams[at] : NULL;
}

struct stream_mark *stream_of(struct live *live, const gw_id *other, bool out)
{
    struct stream_mark *s = stream_find(live, other, out);
    if (s) {
        return s;
    }
    if (live->stream_count == live->stream_cap) {
        size_t cap = live->stream_cap ? live->stream_cap * 2 : 4;
        s = realloc(live->streams, cap * sizeof *s);
        if (!s) {
            log_die("memory", "out of memory for the streams of an agent");
        }
        live->streams = s;
        live->stream_cap = cap;
    }
    size_t at = mark_place(live, other, out);
    s = &live->streams[at];
    memmove(s + 1, s, (live->stream_count++ - at) * sizeof *s);
    *s = (struct stream_mark){.other = *other, .out = out};
    return s;
}

static void put_mark(struct store_batch *batch, const struct agent *a, const struct stream_mark *s)
{
    uint8_t raw[ROW_KEY_BYTES + STREAM_KEY_BYTES];
    struct buf value = {0};
    row_key(raw, &a->id, a->epoch);
    memcpy(raw + ROW_KEY_BYTES, s->other.b, GW_ID_BYTES);
    raw[ROW_KEY_BYTES + GW_ID_BYTES] = s->out ? STREAM_OUT : STREAM_IN;
    mp_uint(&value, s->mark);
    store_batch_put_take(batch, TABLE_STREAMS, (struct span){raw, sizeof raw}, &value);
    buf_free(&value);
}

static struct span number_key(uint8_t raw[ROW_KEY_BYTES + 8], const gw_id *id, uint64_t epoch,
                              uint64_t number)
{
    row_key(raw, id, epoch);
    store_u64(raw + ROW_KEY_BYTES, number);
    return (struct span){raw, ROW_KEY_BYTES + 8};
}

/* ---- outboxes in memory ---- */

static struct outbox *box_find(struct node *n, const gw_id *sender)
{
    struct outbox *box;
    HASH_FIND(hh, n->outboxes, sender, sizeof *sender, box);
    return box;
}

static struct outbox *box_of(struct node *n, const gw_id *sender, uint64_t epoch)
{
    struct outbox *box = box_find(n, sender);
    if (!box) {
        box = xcalloc(1, sizeof *box);
        box->sender = *sender;
        TAILQ_INIT(&box->fresh);
        HASH_ADD(hh, n->outboxes, sender, sizeof box->sender, box);
    }
    box->epoch = epoch;
    return box;
}

static void call_clear(struct stream *s)
{
    gw_value_free(&s->call.args);
    gw_value_free(&s->call.context);
}

static void stream_free(struct stream *s)
{
    s->n->env->timer_free(s->n->env->ctx, s->timer);
    call_clear(s);
    free(s);
}

static void tell_free(struct tell *t)
{
    struct stream *s = t->stream;
    TAILQ_REMOVE(&s->tells, t, link);
    s->box->count--;
    if (!t->durable) {
        TAILQ_REMOVE(&s->box->fresh, t, fresh);
    }
    buf_free(&t->row);
    free(t);
}

/* What is empty goes. */
static void settle(struct node *n, struct stream *s)
{
    struct outbox *box = s->box;
    if (TAILQ_EMPTY(&s->tells) && !s->on_way) {
        HASH_DEL(box->streams, s);
        stream_free(s);
    }
    if (!box->streams) {
        HASH_DEL(n->outboxes, box);
        free(box);
    }
}

static struct tell *tell_new(struct node *n, struct outbox *box, const gw_id *target,
                             uint64_t number, uint64_t seq)
{
    struct stream *s;
    struct tell *t = xcalloc(1, sizeof *t);
    HASH_FIND(hh, box->streams, target, sizeof *target, s);
    if (!s) {
        s = xcalloc(1, sizeof *s);
        s->n = n;
        s->box = box;
        s->target = *target;
        TAILQ_INIT(&s->tells);
        HASH_ADD(hh, box->streams, target, sizeof s->target, s);
    }
    t->stream = s;
    t->number = number;
    t->seq = seq;
    TAILQ_INSERT_TAIL(&s->tells, t, link);
    box->count++;
    return t;
}

/* ---- sending ---- */

static void stream_send(struct stream *s);

static void retry(void *arg)
{
    struct stream *s = arg;
    s->n->env->timer_free(s->n->env->ctx, s->timer);
    s->timer = NULL;
    stream_send(s);
}

/* Its row goes; what is behind it is sent. */
static void tell_ended(struct tell *t, const char *problem)
{
    struct stream *s = t->stream;
    struct node *n = s->n;
    uint8_t raw[ROW_KEY_BYTES + 8];
    struct store_batch *batch = store_batch_new();
    store_batch_del(batch, TABLE_OUTBOX,
                    number_key(raw, &s->box->sender, s->box->epoch, t->number));
    if (problem) {
        event_put(n, batch,
                  &(struct event){.kind = "message.failed", .agent = &s->target, .text = problem});
    }
    node_commit(n, batch, NULL, NULL);
    s->tries = 0;
    tell_free(t);
    stream_send(s);
}

static int64_t pause_ms(unsigned tries)
{
    int64_t ms = RETRY_FIRST_MS;
    for (unsigned i = 1; i < tries && ms < RETRY_MAX_MS; i++) {
        ms *= 2;
    }
    return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

/* Never inside the call that asked. */
static void answered(void *arg)
{
    struct stream *s = arg;
    struct node *n = s->n;
    gw_err err = s->answer.code;
    s->on_way = false;
    if (!s->box) {
        LIST_REMOVE(s, orphan);
        stream_free(s);
    } else if (err == GW_OK) {
        tell_ended(TAILQ_FIRST(&s->tells), NULL);
    } else if (err == GW_EDISPOSED || err == GW_EAGENT_NOT_FOUND) {
        tell_ended(TAILQ_FIRST(&s->tells), s->answer.text);
    } else {
        s->tries++;
        s->timer = n->env->timer_new(n->env->ctx, retry, s);
        n->env->timer_start(n->env->ctx, s->timer, pause_ms(s->tries));
    }
}

static void answer(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why)
{
    struct stream *s = call->door;
    if (result) {
        gw_value_free(result);
    }
    if (why) {
        s->answer = *why;
    } else {
        gw_fail(&s->answer, err, "%s", gw_err_text(err));
    }
    s->answer.code = err;
    s->n->env->defer(s->n->env->ctx, answered, s);
}

static gw_err tell_args(const struct tell *t, gw_value *ret)
{
    char text[GW_ID_TEXT];
    struct mp m = mp_over(buf_span(&t->row));
    size_t fields;
    gw_id target;
    uint64_t seq;
    struct span method, args, key;
    char name[LIMIT_NAME_BYTES + 1];
    gw_value packed = gw_nil(), raw_key = gw_nil();
    GW_TRY(mp_read_array(&m, &fields));
    GW_TRY(mp_read_id(&m, &target));
    GW_TRY(mp_read_uint(&m, &seq));
    GW_TRY(mp_read_str(&m, &method));
    GW_TRY(mp_read_bin(&m, &args));
    GW_TRY(mp_read_bin(&m, &key));
    if (!span_text(method, name, sizeof name)) {
        return GW_EPROTO;
    }
    GW_TRY(gw_map_set(ret, "agent", gw_str(gw_id_text(&target, text))));
    GW_TRY(gw_map_set(ret, "sender", gw_str(gw_id_text(&t->stream->box->sender, text))));
    GW_TRY(gw_map_set(ret, "seq", gw_int((int64_t)seq)));
    GW_TRY(
        gw_map_set(ret, "since", gw_int((int64_t)seq))); /* one at a time: all below is settled */
    GW_TRY(gw_map_set(ret, "method", gw_str(name)));
    GW_TRY(gw_value_set_bytes(&packed, args.p, args.n));
    GW_TRY(gw_map_set(ret, "args", packed));
    GW_TRY(gw_value_set_bytes(&raw_key, key.p, key.n));
    return gw_map_set(ret, "key", raw_key);
}

/* Send the first if it may go; a stream that is empty goes. */
static void stream_send(struct stream *s)
{
    struct tell *t = TAILQ_FIRST(&s->tells);
    if (!t) {
        settle(s->n, s);
        return;
    }
    if (!t->durable || s->on_way || s->timer) {
        return;
    }
    call_clear(s);
    s->call =
        (struct op_call){.op = op_find("accept"), .role = ROLE_ADMIN, .answer = answer, .door = s};
    if (tell_args(t, &s->call.args) != GW_OK) {
        tell_ended(t, "its outbox row does not decode");
        return;
    }
    s->on_way = true;
    node_call(s->n, &s->call);
}

/* ---- with the transaction of a handler ---- */

bool tells_fit(const struct work *w, struct gw_error *why)
{
    struct agent *a = w->agent;
    struct mp m = mp_over(w->result.actions);
    const struct outbox *box = box_find(w->node, &a->id);
    size_t actions = 0, waiting = box ? box->count : 0;
    if (w->result.actions.n == 0 || mp_read_array(&m, &actions) != GW_OK || actions == 0) {
        return true;
    }
    if (waiting + actions > LIMIT_OUTBOX_MESSAGES && waiting > 0) {
        gw_fail(why, GW_EBUSY, "%zu messages of the agent wait to be delivered", waiting);
        gw_hint(why, "those whom it tells cannot be reached, or do not keep up");
        return false;
    }
    if (a->live->stream_count + actions > LIMIT_STREAMS) {
        gw_fail(why, GW_EBUSY, "the agent has told, and heard from, %zu others",
                a->live->stream_count);
        return false;
    }
    return true;
}

void tells_action(struct work *w, struct store_batch *batch, struct span args)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    gw_value map = gw_nil();
    uint8_t raw[ROW_KEY_BYTES + 8], key[REQUEST_KEY_BYTES];
    if (value_unpack_span(args, &map) != GW_OK) {
        return;
    }
    const gw_value *to = gw_map_get(&map, "agent");
    const gw_value *inner = gw_map_get(&map, "args");
    const char *method = gw_map_str(&map, "method", "");
    if (to && to->kind == GW_ID && name_is_valid(method)) {
        struct outbox *box = box_of(n, &a->id, a->epoch);
        struct stream_mark *s = stream_of(a->live, &to->id, true);
        struct tell *t = tell_new(n, box, &to->id, a->live->outbox_next++, ++s->mark);
        struct buf packed = {0};
        TAILQ_INSERT_TAIL(&box->fresh, t, fresh);
        if (inner && inner->kind == GW_MAP) {
            value_pack(inner, &packed);
        }
        node_random(n, key, sizeof key);
        mp_array(&t->row, 5);
        mp_id(&t->row, &to->id);
        mp_uint(&t->row, t->seq);
        mp_str(&t->row, method);
        mp_span(&t->row, buf_span(&packed));
        mp_bin(&t->row, key, sizeof key);
        store_batch_put(batch, TABLE_OUTBOX, number_key(raw, &a->id, a->epoch, t->number),
                        buf_span(&t->row));
        put_mark(batch, a, s);
        buf_free(&packed);
    }
    gw_value_free(&map);
}

void tells_committed(struct node *n, struct agent *a)
{
    struct outbox *box;
    struct tell *t;
    while ((box = box_find(n, &a->id)) && (t = TAILQ_FIRST(&box->fresh))) {
        TAILQ_REMOVE(&box->fresh, t, fresh);
        t->durable = true;
        stream_send(t->stream);
    }
}

void tells_rolled_back(struct node *n, struct agent *a)
{
    struct outbox *box;
    struct tell *t;
    while ((box = box_find(n, &a->id)) && (t = TAILQ_LAST(&box->fresh, fresh_tells))) {
        struct stream *s = t->stream;
        stream_of(a->live, &s->target, true)->mark--;
        tell_free(t);
        settle(n, s);
    }
}

/* ---- life ---- */

/* All of it; answers that are still to come find nobody. */
static void box_drop(struct node *n, struct outbox *box)
{
    struct stream *s, *next;
    struct tell *t;
    HASH_ITER (hh, box->streams, s, next) {
        HASH_DEL(box->streams, s);
        while ((t = TAILQ_FIRST(&s->tells))) {
            tell_free(t);
        }
        s->box = NULL;
        if (s->on_way) {
            LIST_INSERT_HEAD(&n->orphans, s, orphan);
        } else {
            stream_free(s);
        }
    }
    HASH_DEL(n->outboxes, box);
    free(box);
}

void tells_forget(struct node *n, const gw_id *sender)
{
    struct outbox *box = box_find(n, sender);
    if (box) {
        box_drop(n, box); /* whoever sends it again will be told that it was accepted */
    }
}

void tells_link_up(struct node *n)
{
    for (struct outbox *box = n->outboxes; box; box = box->hh.next) {
        for (struct stream *s = box->streams; s; s = s->hh.next) {
            if (s->timer) {
                s->tries = 0;
                n->env->timer_start(n->env->ctx, s->timer, 0);
            }
        }
    }
}

void tells_free(struct node *n)
{
    struct outbox *box, *next;
    struct stream *s;
    HASH_ITER (hh, n->outboxes, box, next) {
        box_drop(n, box);
    }
    while ((s = LIST_FIRST(&n->orphans))) {
        LIST_REMOVE(s, orphan);
        stream_free(s);
    }
}

/* ---- the receiver's side ---- */

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
    mp_array(&value, 6);
    mp_id(&value, &w->sender);
    mp_str(&value, w->method);
    mp_span(&value, buf_span(&w->args));
    mp_bin(&value, w->key, sizeof w->key);
    mp_uint(&value, w->flags);
    mp_uint(&value, w->hook);
    store_batch_put_take(batch, TABLE_INBOX, number_key(raw, &a->id, a->epoch, w->inbox), &value);
    buf_free(&value);
}

void inbox_del(const struct agent *a, uint64_t number, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES + 8];
    store_batch_del(batch, TABLE_INBOX, number_key(raw, &a->id, a->epoch, number));
}

struct accepting {
    struct node *n;
    struct op_call *call;
    gw_id agent;
    uint64_t epoch;
    uint64_t before, seq; /* the mark before and after */
    struct work *w;
};

static void answer_accepted(struct op_call *call)
{
    gw_value result = gw_nil();
    if (gw_map_set(&result, "accepted", gw_bool(true)) != GW_OK) {
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
    struct stream_mark *s = a && a->live ? stream_find(a->live, &c->w->sender, false) : NULL;
    if (s && s->accepting) { /* else read anew meanwhile, as the store has it */
        s->accepting = false;
        s->mark = err == GW_OK ? c->seq : c->before;
    }
    if (err != GW_OK) {
        work_free(c->w);
        gw_fail(&why, err, "the message could not be written: %s", gw_err_text(err));
        op_fail(c->call, &why);
    } else {
        answer_accepted(c->call);
        if (a) {
            work_push(c->w, false);
        } else {
            work_free(c->w);
        }
    }
    free(c);
}

/* Row and mark in one transaction; the answer goes out when it is durable. */
static void accept_one(struct node *n, struct op_call *call, struct agent *a, const gw_id *sender)
{
    struct stream_mark *s = stream_of(a->live, sender, false);
    const gw_value *args = gw_map_get(&call->args, "args");
    struct accepting *c = xcalloc(1, sizeof *c);
    struct store_batch *batch = store_batch_new();
    struct work *w = work_new(n, a, HOOK_METHOD);
    w->method = xstrdup(gw_map_str(&call->args, "method", ""));
    buf_add(&w->args, args->s.p, args->s.n);
    memcpy(w->key, gw_map_get(&call->args, "key")->s.p, sizeof w->key);
    w->sender = *sender;
    w->done = inbox_done;
    *c = (struct accepting){.n = n, .call = call, .agent = a->id, .epoch = a->epoch, .w = w};
    c->before = s->mark;
    c->seq = s->mark = (uint64_t)gw_map_int(&call->args, "seq", 0);
    s->accepting = true;
    put_mark(batch, a, s);
    inbox_put(a, w, batch);
    node_commit(n, batch, accepted, c);
}

static bool is_full(const struct node *n, const struct live *live, const struct stream_mark *s,
                    struct gw_error *why)
{
    if (live->queued >= n->cfg.limits.mailbox ||
        live->queued_bytes >= n->cfg.limits.mailbox_bytes) {
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
        key->s.n != REQUEST_KEY_BYTES || !name_is_valid(method)) {
        gw_fail(&why, GW_EPROTO, "the one-way message is not well formed");
        op_fail(call, &why);
        return;
    }
    if (a->move || a->status == AGENT_QUARANTINED) {
        gw_fail(&why, GW_EBUSY, "the agent does not accept messages now");
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
    if ((s && s->accepting) || a->unborn) {
        call_again_later(n, call); /* H6: nothing is acknowledged that is not durable */
    } else if ((uint64_t)seq <= mark) {
        answer_accepted(call);
    } else if ((uint64_t)seq > mark + 1 && since < seq) {
        gw_fail(&why, GW_EGAP, "message %lld comes before message %llu", (long long)seq,
                (unsigned long long)mark + 1);
        op_fail(call, &why);
    } else if (is_full(n, live, s, &why)) {
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
        (hook == HOOK_METHOD || hook == HOOK_TIMER)) {
        w->method = xstrdup(name);
        w->flags &= RUN_TEXT_ARGS; /* the row may have come from another host */
        buf_add(&w->args, args.p, args.n);
        w->inbox = number;
        w->done = inbox_done;
        if (hook == HOOK_TIMER) {
            w->hook = HOOK_TIMER;
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

static void load_outbox(struct node *n, const gw_id *sender, uint64_t epoch, uint64_t number,
                        struct span value)
{
    struct mp m = mp_over(value);
    size_t fields;
    gw_id target;
    uint64_t seq;
    if (mp_read_array(&m, &fields) == GW_OK && fields >= 5 && mp_read_id(&m, &target) == GW_OK &&
        mp_read_uint(&m, &seq) == GW_OK) {
        struct tell *t = tell_new(n, box_of(n, sender, epoch), &target, number, seq);
        buf_add(&t->row, value.p, value.n);
        t->durable = true;
        stream_send(t->stream);
    }
}

/* Whether (agent, epoch) ended here: what it told others before is still delivered. */
static bool ended_here(struct node *n, const gw_id *id, uint64_t epoch)
{
    const struct location *l = location_find(n, id);
    return l && l->disposed && l->durable && l->host->self && l->fence == epoch;
}

static void load_row(struct node *n, const struct storage_row *row)
{
    gw_id id;
    if (row->key.n <= ROW_KEY_BYTES ||
        (row->table != TABLE_TIMERS && row->key.n != ROW_KEY_BYTES + 8)) {
        return;
    }
    memcpy(id.b, row->key.p, GW_ID_BYTES);
    uint64_t epoch = load_u64(row->key.p + GW_ID_BYTES);
    struct span rest = {row->key.p + ROW_KEY_BYTES, row->key.n - ROW_KEY_BYTES};
    struct agent *a = agent_find(n, &id);
    bool here = a && a->epoch == epoch; /* else of a staged, departed or ended one */
    if (here && row->table == TABLE_TIMERS) {
        timers_load_row(n, a, rest, row->value);
    } else if (here && row->table == TABLE_INBOX) {
        load_inbox(n, a, load_u64(rest.p), row->value);
    } else if (row->table == TABLE_OUTBOX && (here || (!a && ended_here(n, &id, epoch)))) {
        load_outbox(n, &id, epoch, load_u64(rest.p), row->value);
    }
}

struct loading {
    struct node *n;
    bool all;
    gw_id id; /* not all */
};

static void loaded(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct loading g = *(struct loading *)arg;
    struct node *n = g.n;
    struct agent *a, *next;
    free(arg);
    if (err != GW_OK) {
        log_error("store.read", "error=%s timers and mail of %s wait for the next start",
                  gw_err_name(err), g.all ? "all agents" : "an agent");
    }
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        load_row(n, &rows[i]);
    }
    if (g.all) {
        n->loading = false;
        HASH_ITER (hh, n->agents, a, next) {
            work_pump(n, a);
        }
    } else if ((a = agent_find(n, &g.id))) {
        a->loading = false;
        work_pump(n, a);
    }
}

void tells_load(struct node *n, const gw_id *id, uint64_t epoch)
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
        {.table = TABLE_INBOX, .prefix = prefix},
        {.table = TABLE_OUTBOX, .prefix = prefix}};
    n->env->read(n->env->ctx, ranges, 3, loaded, g);
}
