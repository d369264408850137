/* One-way messages between agents, at their sender: outboxes. (At the receiver: inbox.c.)
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

#include "host/core/reach.h"

#define RETRY_FIRST_MS 200
#define RETRY_MAX_MS   10000
#define RETRY_BUSY_MS  1000 /* the longest pause before a full mailbox */
#define TELL_EXPIRED   "its deadline passed before it was accepted"

/* One message that waits. */
struct tell {
    TAILQ_ENTRY(tell) link;  /* in its stream, by number */
    TAILQ_ENTRY(tell) fresh; /* of its outbox, until its transaction is durable */
    struct stream *stream;
    uint64_t number; /* of the outbox row */
    uint64_t seq;    /* of the stream */
    struct buf row;  /* [target, seq, method, args, key, flags, what it carries (carry.c)] */
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
    bool unsubscribed;  /* it was no publication for this agent any more */
    uint64_t topics_at; /* topics_clock when it was sent */
    LIST_ENTRY(stream) orphan;
};
struct outbox {
    UT_hash_handle hh; /* in node->outboxes, by sender */
    gw_id sender;
    uint64_t epoch;
    struct stream *streams;
    TAILQ_HEAD(fresh_tells, tell) fresh; /* of the transactions under way, in their order */
    size_t count;
};

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
    struct store_batch *batch = store_batch_new();
    struct leftovers *gone = leftovers_new(n);
    leftovers_message(gone, &s->box->sender, s->box->epoch, t->number, batch);
    if (problem) {
        bool expired = strcmp(problem, TELL_EXPIRED) == 0;
        n->metrics.expired += expired;
        event_put(n, batch,
                  &(struct event){.kind = expired ? "message.expired" : "message.failed",
                                  .agent = &s->target,
                                  .trace = &s->call.trace,
                                  .text = problem});
    }
    leftovers_commit(gone, batch, POINT_TELL_ENDED);
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

/* busy: the other is there, and works. */
static void try_later(struct stream *s, bool busy)
{
    struct node *n = s->n;
    int64_t ms = pause_ms(++s->tries);
    REACH(TELL_AGAIN);
    s->timer = n->env->timer_new(n->env->ctx, retry, s);
    n->env->timer_start(n->env->ctx, s->timer, busy && ms > RETRY_BUSY_MS ? RETRY_BUSY_MS : ms);
}

static struct span args_of(const struct op_call *call)
{
    const gw_value *args = gw_map_get(&call->args, "args");
    return (struct span){(const uint8_t *)args->s.p, args->s.n};
}

/* Between the two ends of a monitor (downs.c): nobody is told by an event that it is not heard. */
static void watch_unheard(struct stream *s, const char *method, gw_err err)
{
    if (watches_undelivered(s->n, &s->box->sender, &s->target, method, args_of(&s->call), err)) {
        try_later(s, false);
    } else {
        tell_ended(TAILQ_FIRST(&s->tells), NULL);
    }
}

/* Never inside the call that asked. */
static void answered(void *arg)
{
    struct stream *s = arg;
    struct node *n = s->n;
    gw_err err = s->answer.code;
    const char *method = gw_map_str(&s->call.args, "method", "");
    s->on_way = false;
    if (!s->box) {
        REACH(TELL_ORPHANED);
        LIST_REMOVE(s, orphan);
        stream_free(s);
    } else if (err == GW_OK) {
        if (s->unsubscribed) {
            topics_gone(n, &s->target, gw_map_str(&s->call.args, "topic", NULL), s->topics_at);
        }
        tell_ended(TAILQ_FIRST(&s->tells), NULL);
    } else if (watches_is_message(method)) {
        watch_unheard(s, method, err);
    } else if (err == GW_EDISPOSED || err == GW_EAGENT_NOT_FOUND || err == GW_EINACTIVE) {
        bool publication = gw_map_get(&s->call.args, "topic") && err != GW_EINACTIVE;
        if (publication) { /* a subscription ends with its agent: nothing has failed */
            topics_gone(n, &s->target, NULL, s->topics_at);
        }
        tell_ended(TAILQ_FIRST(&s->tells), publication ? NULL : s->answer.text);
    } else {
        try_later(s, err == GW_EBUSY);
    }
}

static void answer(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why)
{
    struct stream *s = call->door;
    s->unsubscribed = result && gw_map_bool(result, "unsubscribed", false);
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

struct tell_row { /* spans of the row */
    gw_id target;
    uint64_t seq;
    char method[LIMIT_NAME_BYTES + 1];
    struct span args, key;
    uint32_t flags;
    struct carry carry; /* carry_clear */
};

static gw_err row_read(struct node *n, struct span row, struct tell_row *ret)
{
    struct mp m = mp_over(row);
    size_t fields;
    GW_TRY(mp_read_array(&m, &fields));
    GW_TRY(mp_read_id(&m, &ret->target));
    GW_TRY(mp_read_uint(&m, &ret->seq));
    GW_TRY(mp_read_text(&m, ret->method, sizeof ret->method));
    GW_TRY(mp_read_bin(&m, &ret->args));
    GW_TRY(mp_read_bin(&m, &ret->key));
    ret->carry.priority = PRIORITY_NORMAL;
    if (fields < 6 + CARRY_FIELDS) {
        return GW_OK; /* of an older host */
    }
    GW_TRY(mp_read_u32(&m, &ret->flags));
    return carry_read(n, &m, &ret->carry);
}

static gw_err tell_args(const struct tell *t, const struct tell_row *row, gw_value *ret)
{
    char text[GW_ID_TEXT];
    gw_value packed = gw_nil(), raw_key = gw_nil();
    GW_TRY(gw_map_set(ret, "agent", gw_str(gw_id_text(&row->target, text))));
    GW_TRY(gw_map_set(ret, "sender", gw_str(gw_id_text(&t->stream->box->sender, text))));
    GW_TRY(gw_map_set(ret, "seq", gw_int((int64_t)row->seq)));
    GW_TRY(gw_map_set(ret, "since",
                      gw_int((int64_t)row->seq))); /* one at a time: all below is settled */
    GW_TRY(gw_map_set(ret, "method", gw_str(row->method)));
    GW_TRY(gw_map_set(ret, "priority", gw_int(row->carry.priority)));
    GW_TRY(gw_map_set(ret, "no_wake", gw_bool(row->flags & TELL_NO_WAKE)));
    GW_TRY(gw_map_set(ret, "text", gw_bool(row->flags & TELL_TEXT)));
    if (row->carry.topic) {
        GW_TRY(gw_map_set(ret, "topic", gw_str(row->carry.topic)));
    }
    GW_TRY(gw_value_set_bytes(&packed, row->args.p, row->args.n));
    GW_TRY(gw_map_set(ret, "args", packed));
    GW_TRY(gw_value_set_bytes(&raw_key, row->key.p, row->key.n));
    return gw_map_set(ret, "key", raw_key);
}

/* Why it cannot go, or NULL: then the call is made. */
static const char *tell_call(struct tell *t)
{
    struct stream *s = t->stream;
    struct tell_row row = {0};
    const char *problem = NULL;
    call_clear(s);
    s->call =
        (struct op_call){.op = op_find("accept"), .role = ROLE_ADMIN, .answer = answer, .door = s};
    if (row_read(s->n, buf_span(&t->row), &row) != GW_OK ||
        tell_args(t, &row, &s->call.args) != GW_OK ||
        carry_to_context(s->n, &row.carry, &s->call.context) != GW_OK) {
        problem = "its outbox row does not decode";
    } else if (carry_is_late(s->n, &row.carry)) {
        problem = TELL_EXPIRED;
    }
    s->call.trace = row.carry.trace;
    carry_clear(&row.carry);
    return problem;
}

/* Send the first if it may go; a stream that is empty goes. */
static void stream_send(struct stream *s)
{
    struct tell *t = TAILQ_FIRST(&s->tells);
    if (!t) {
        settle(s->n, s);
        return;
    }
    if (!t->durable || s->on_way || s->timer || s->n->held != HELD_NOT) {
        return;
    }
    const char *problem = tell_call(t);
    if (problem) {
        tell_ended(t, problem);
        return;
    }
    if (!watches_want(s->n, &s->box->sender, &s->target, gw_map_str(&s->call.args, "method", ""),
                      args_of(&s->call))) {
        tell_ended(t, NULL);
        return;
    }
    s->on_way = true;
    s->topics_at = s->n->topics_clock;
    node_call(s->n, &s->call);
}

/* ---- with the transaction of a handler ---- */

bool tells_fit(struct work *w, struct gw_error *why)
{
    struct agent *a = w->agent;
    struct mp m = mp_over(w->result.actions);
    const struct outbox *box = box_find(w->node, &a->id);
    size_t actions = 0, waiting = box ? box->count : 0, published = 0;
    if (w->result.actions.n == 0 || mp_read_array(&m, &actions) != GW_OK || actions == 0) {
        return true;
    }
    if (topics_check(w, &published, why) != GW_OK) {
        return false;
    }
    actions += published;
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

void tells_put(struct work *w, struct store_batch *batch, const struct tell_order *o)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    uint8_t raw[ROW_KEY_BYTES + 8], key[REQUEST_KEY_BYTES];
    struct outbox *box = box_of(n, &a->id, a->epoch);
    struct stream_mark *s = stream_next(a->live, o->to);
    struct tell *t = tell_new(n, box, o->to, a->live->outbox_next++, s->mark);
    TAILQ_INSERT_TAIL(&box->fresh, t, fresh);
    w->tells++;
    node_random(n, key, sizeof key);
    mp_array(&t->row, 6 + CARRY_FIELDS);
    mp_id(&t->row, o->to);
    mp_uint(&t->row, t->seq);
    mp_str(&t->row, o->method);
    mp_span(&t->row, o->args);
    mp_bin(&t->row, key, sizeof key);
    mp_uint(&t->row, o->flags);
    carry_put(n, &o->carry, &t->row);
    store_batch_put(batch, TABLE_OUTBOX, row_number_key(raw, &a->id, a->epoch, t->number),
                    buf_span(&t->row));
    stream_put(batch, a, s);
}

void tells_action(struct work *w, struct store_batch *batch, struct span args)
{
    gw_value map = gw_nil();
    if (value_unpack_span(args, &map) != GW_OK) {
        return;
    }
    const gw_value *to = gw_map_get(&map, "agent");
    const gw_value *inner = gw_map_get(&map, "args");
    const char *method = gw_map_str(&map, "method", "");
    int64_t priority = gw_map_int(&map, "priority", PRIORITY_NORMAL);
    if (to && to->kind == GW_ID && name_is_valid(method)) {
        struct buf packed = {0};
        if (inner && inner->kind == GW_MAP) {
            value_pack(inner, &packed);
        }
        struct tell_order order = {
            .to = &to->id,
            .method = method,
            .args = buf_span(&packed),
            .carry = {.priority = PRIORITY_NORMAL,
                      .trace = w->carry.trace, /* the receiver's is under it */
                      .state = w->carry.state}};
        if (priority >= 0 && priority <= PRIORITY_MOST) {
            order.carry.priority = (uint8_t)priority;
        }
        order.flags = gw_map_bool(&map, "no_wake", false) ? TELL_NO_WAKE : 0;
        carry_set_left(w->node, &order.carry, gw_map_int(&map, "left", 0));
        tells_put(w, batch, &order);
        buf_free(&packed);
    }
    gw_value_free(&map);
}

size_t tells_waiting(struct node *n, const gw_id *sender)
{
    const struct outbox *box = box_find(n, sender);
    return box ? box->count : 0;
}

void tells_committed(struct work *w)
{
    struct node *n = w->node;
    struct outbox *box;
    struct tell *t;
    for (; w->tells > 0 && (box = box_find(n, &w->agent->id)) && (t = TAILQ_FIRST(&box->fresh));
         w->tells--) {
        TAILQ_REMOVE(&box->fresh, t, fresh);
        t->durable = true;
        stream_send(t->stream);
    }
}

void tells_rolled_back(struct work *w)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct outbox *box;
    struct tell *t;
    for (;
         w->tells > 0 && (box = box_find(n, &a->id)) && (t = TAILQ_LAST(&box->fresh, fresh_tells));
         w->tells--) {
        struct stream *s = t->stream;
        REACH(TELL_ROLLED_BACK);
        stream_of(a->live, &s->target, true)->mark--;
        tell_free(t);
        settle(n, s);
    }
}

void tells_rolled_back_alone(struct work *w)
{
    struct node *n = w->node;
    struct outbox *box;
    struct tell *t;
    for (; w->tells > 0 && (box = box_find(n, &w->agent->id)) && (t = TAILQ_FIRST(&box->fresh));
         w->tells--) {
        struct stream *s = t->stream;
        REACH(TELL_ROLLED_BACK);
        tell_free(t);
        stream_send(s); /* those behind it are of others */
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
                REACH(TELL_LINK_UP);
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

void tells_load_row(struct node *n, const gw_id *sender, uint64_t epoch, uint64_t number,
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
