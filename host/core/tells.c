/* One-way messages between agents: outbox, streams, inbox.
 *
 * A tell leaves with the transaction of the handler that sent it: {outbox row, stream number}. It is offered to
 * its target through the ordinary routing (operation `accept`), one at a time per (sender, target), until the
 * owner has it durably: {inbox row, stream mark}. The owner accepts only mark + 1; at or below the mark it
 * answers accepted again, above it `gap`. Rows of both ends are part of their agents and travel with them. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_MS 500

struct tell {
    TAILQ_ENTRY(tell) link;
    struct node *n;
    gw_id sender, target;
    uint64_t epoch;  /* of the sender */
    uint64_t number; /* of the outbox row */
    uint64_t seq;    /* of the stream */
    struct buf row;  /* [target, seq, method, args, key] */
    bool durable;    /* its transaction is on disk: may leave */
    bool on_way;
    bool gone; /* the sender left meanwhile: free it when the answer comes */
    struct op_call call;
    struct gw_error answer;
    struct env_timer *timer;
};

struct stream_mark *stream_of(struct live *live, const gw_id *other, bool out)
{
    for (size_t i = 0; i < live->stream_count; i++) {
        if (live->streams[i].out == out && gw_id_equal(&live->streams[i].other, other)) {
            return &live->streams[i];
        }
    }
    struct stream_mark *grown = realloc(live->streams, (live->stream_count + 1) * sizeof *grown);
    if (!grown) {
        log_die("memory", "out of memory for the streams of an agent");
    }
    live->streams = grown;
    grown[live->stream_count] = (struct stream_mark){.other = *other, .out = out};
    return &grown[live->stream_count++];
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

/* ---- the sender's side ---- */

static void tell_free(struct tell *t)
{
    struct node *n = t->n;
    TAILQ_REMOVE(&n->tells, t, link);
    n->env->timer_free(n->env->ctx, t->timer);
    gw_value_free(&t->call.args);
    gw_value_free(&t->call.context);
    buf_free(&t->row);
    free(t);
}

static struct tell *tell_new(struct node *n, const gw_id *sender, uint64_t epoch, uint64_t number,
                             const gw_id *target, uint64_t seq)
{
    struct tell *t = xcalloc(1, sizeof *t);
    t->n = n;
    t->sender = *sender;
    t->epoch = epoch;
    t->number = number;
    t->target = *target;
    t->seq = seq;
    TAILQ_INSERT_TAIL(&n->tells, t, link);
    return t;
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
        struct stream_mark *s = stream_of(a->live, &to->id, true);
        struct tell *t = tell_new(n, &a->id, a->epoch, a->live->outbox_next++, &to->id, ++s->mark);
        struct buf packed = {0};
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

static void tell_send(struct tell *t);

/* The first of each (sender, target) may be on its way. */
static bool is_first(const struct tell *t)
{
    const struct tell *o;
    TAILQ_FOREACH(o, &t->n->tells, link)
    {
        if (o == t) {
            return true;
        }
        if (!o->gone && gw_id_equal(&o->sender, &t->sender) && gw_id_equal(&o->target, &t->target)) {
            return false;
        }
    }
    return true;
}

static void send_ready(struct node *n)
{
    struct tell *t, *next;
    for (t = TAILQ_FIRST(&n->tells); t; t = next) {
        next = TAILQ_NEXT(t, link);
        if (t->durable && !t->on_way && !t->gone && !t->timer && is_first(t)) {
            tell_send(t);
        }
    }
}

static void retry(void *arg)
{
    struct tell *t = arg;
    t->n->env->timer_free(t->n->env->ctx, t->timer);
    t->timer = NULL;
    send_ready(t->n);
}

static void tell_ended(struct tell *t, const char *problem)
{
    struct node *n = t->n;
    uint8_t raw[ROW_KEY_BYTES + 8];
    struct store_batch *batch = store_batch_new();
    store_batch_del(batch, TABLE_OUTBOX, number_key(raw, &t->sender, t->epoch, t->number));
    if (problem) {
        event_put(n, batch,
                  &(struct event){.kind = "message.failed", .agent = &t->target, .text = problem});
    }
    node_commit(n, batch, NULL, NULL);
    tell_free(t);
    send_ready(n);
}

/* Never inside the call that asked: the answer may come while send_ready walks the list. */
static void tell_answered(void *arg)
{
    struct tell *t = arg;
    struct node *n = t->n;
    gw_err err = t->answer.code;
    t->on_way = false;
    if (t->gone) {
        tell_free(t);
    } else if (err == GW_OK) {
        tell_ended(t, NULL);
    } else if (err == GW_EDISPOSED || err == GW_EAGENT_NOT_FOUND) {
        tell_ended(t, t->answer.text);
    } else {
        t->timer = n->env->timer_new(n->env->ctx, retry, t);
        n->env->timer_start(n->env->ctx, t->timer, RETRY_MS);
    }
}

static void tell_answer(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why)
{
    struct tell *t = call->door;
    if (result) {
        gw_value_free(result);
    }
    if (why) {
        t->answer = *why;
    } else {
        gw_fail(&t->answer, err, "%s", gw_err_text(err));
    }
    t->answer.code = err;
    t->n->env->defer(t->n->env->ctx, tell_answered, t);
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
    GW_TRY(gw_map_set(ret, "sender", gw_str(gw_id_text(&t->sender, text))));
    GW_TRY(gw_map_set(ret, "seq", gw_int((int64_t)seq)));
    GW_TRY(gw_map_set(ret, "method", gw_str(name)));
    GW_TRY(gw_value_set_bytes(&packed, args.p, args.n));
    GW_TRY(gw_map_set(ret, "args", packed));
    GW_TRY(gw_value_set_bytes(&raw_key, key.p, key.n));
    return gw_map_set(ret, "key", raw_key);
}

static void tell_send(struct tell *t)
{
    gw_value_free(&t->call.args);
    gw_value_free(&t->call.context);
    t->call = (struct op_call){
        .op = op_find("accept"), .role = ROLE_ADMIN, .answer = tell_answer, .door = t};
    if (tell_args(t, &t->call.args) != GW_OK) {
        tell_ended(t, "its outbox row does not decode");
        return;
    }
    t->on_way = true;
    node_call(t->n, &t->call);
}

void tells_committed(struct node *n, struct agent *a)
{
    struct tell *t;
    if (TAILQ_EMPTY(&n->tells)) {
        return;
    }
    TAILQ_FOREACH(t, &n->tells, link)
    {
        if (gw_id_equal(&t->sender, &a->id)) {
            t->durable = true;
        }
    }
    send_ready(n);
}

void tells_rolled_back(struct node *n, struct agent *a)
{
    struct tell *t, *next;
    for (t = TAILQ_FIRST(&n->tells); t; t = next) {
        next = TAILQ_NEXT(t, link);
        if (!t->durable && gw_id_equal(&t->sender, &a->id)) {
            stream_of(a->live, &t->target, true)->mark--;
            tell_free(t);
        }
    }
}

void tells_forget(struct node *n, const gw_id *sender)
{
    struct tell *t, *next;
    for (t = TAILQ_FIRST(&n->tells); t; t = next) {
        next = TAILQ_NEXT(t, link);
        if (!gw_id_equal(&t->sender, sender)) {
            continue;
        }
        if (t->on_way) {
            t->gone = true; /* whoever sends it again will be told that it was accepted */
        } else {
            tell_free(t);
        }
    }
}

void tells_link_up(struct node *n)
{
    struct tell *t;
    TAILQ_FOREACH(t, &n->tells, link)
    {
        if (t->timer) {
            n->env->timer_start(n->env->ctx, t->timer, 0);
        }
    }
}

void tells_free(struct node *n)
{
    while (!TAILQ_EMPTY(&n->tells)) {
        tell_free(TAILQ_FIRST(&n->tells));
    }
}

/* ---- the receiver's side ---- */

static void inbox_done(struct work *w, gw_err err, const struct run_result *r, const struct gw_error *why)
{
    (void)w, (void)err, (void)r, (void)why; /* a failure is an event (commit.c) */
}

void inbox_put(struct agent *a, struct work *w, struct store_batch *batch)
{
    uint8_t raw[ROW_KEY_BYTES + 8];
    struct buf value = {0};
    w->inbox = agent_live(a)->inbox_next++;
    mp_array(&value, 5);
    mp_id(&value, &w->sender);
    mp_str(&value, w->method);
    mp_span(&value, buf_span(&w->args));
    mp_bin(&value, w->key, sizeof w->key);
    mp_uint(&value, w->flags);
    store_batch_put_take(batch, TABLE_INBOX, number_key(raw, &a->id, a->epoch, w->inbox), &value);
    buf_free(&value);
}

struct accepting {
    struct node *n;
    struct op_call *call;
    gw_id agent;
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
    if (a && a->live) {
        struct stream_mark *s = stream_of(a->live, &c->w->sender, false);
        s->in_flight = false;
        s->mark -= err != GW_OK;
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

static void accept_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    gw_id sender;
    int64_t seq = gw_map_int(&call->args, "seq", 0);
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
    struct stream_mark *s = stream_of(live, &sender, false);
    if (s->in_flight && (uint64_t)seq >= s->mark) {
        gw_fail(&why, GW_EBUSY, "the message before this one is being written");
        op_fail(call, &why);
    } else if ((uint64_t)seq <= s->mark) {
        answer_accepted(call);
    } else if ((uint64_t)seq > s->mark + 1) {
        gw_fail(&why, GW_EGAP, "message %lld comes before message %llu", (long long)seq,
                (unsigned long long)s->mark + 1);
        op_fail(call, &why);
    } else if (live->queued >= LIMIT_MAILBOX_MESSAGES) {
        gw_fail(&why, GW_EBUSY, "the mailbox of the agent is full");
        op_fail(call, &why);
    } else {
        struct accepting *c = xcalloc(1, sizeof *c);
        struct store_batch *batch = store_batch_new();
        struct work *w = work_new(n, a, HOOK_METHOD);
        w->method = xstrdup(method);
        buf_add(&w->args, args->s.p, args->s.n);
        memcpy(w->key, key->s.p, sizeof w->key);
        w->sender = sender;
        w->done = inbox_done;
        s->mark++;
        s->in_flight = true;
        inbox_put(a, w, batch);
        put_mark(batch, a, s);
        *c = (struct accepting){n, call, a->id, w};
        node_commit(n, batch, accepted, c);
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
    if (mp_read_array(&m, &fields) == GW_OK && fields >= 5 && mp_read_id(&m, &w->sender) == GW_OK &&
        mp_read_str(&m, &method) == GW_OK && mp_read_bin(&m, &args) == GW_OK &&
        mp_read_fixed(&m, w->key, sizeof w->key) == GW_OK && mp_read_u32(&m, &w->flags) == GW_OK) {
        w->method = strndup((const char *)method.p, method.n);
        buf_add(&w->args, args.p, args.n);
        w->inbox = number;
        w->done = inbox_done;
        work_push(w, false);
    } else {
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
        struct tell *t = tell_new(n, sender, epoch, number, &target, seq);
        buf_add(&t->row, value.p, value.n);
        t->durable = true;
    }
}

static void loaded(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct node *n = arg;
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        gw_id id;
        if (rows[i].key.n != ROW_KEY_BYTES + 8) {
            continue;
        }
        memcpy(id.b, rows[i].key.p, GW_ID_BYTES);
        uint64_t epoch = load_u64(rows[i].key.p + GW_ID_BYTES);
        uint64_t number = load_u64(rows[i].key.p + ROW_KEY_BYTES);
        struct agent *a = agent_find(n, &id);
        if (!a || a->epoch != epoch) {
            continue; /* of a staged or departed one */
        }
        if (rows[i].table == TABLE_INBOX) {
            load_inbox(n, a, number, rows[i].value);
        } else {
            load_outbox(n, &id, epoch, number, rows[i].value);
        }
    }
    send_ready(n);
}

void tells_load(struct node *n, const gw_id *id, uint64_t epoch)
{
    uint8_t raw[ROW_KEY_BYTES];
    struct span prefix = {0};
    if (id) {
        prefix = row_key(raw, id, epoch);
    }
    const struct store_range ranges[] = {{.table = TABLE_INBOX, .prefix = prefix},
                                         {.table = TABLE_OUTBOX, .prefix = prefix}};
    n->env->read(n->env->ctx, ranges, 2, loaded, n);
}
