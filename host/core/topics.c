/* Topics: who has subscribed to what, and publications.
 *
 * A subscription is a row of its agent and travels with it. Those with scope mesh are known to the
 * other hosts, too, by the agent's id, not by its place: TOPICS frames tell them when it is made or
 * ended, when a link comes up, and when its agent arrives; a host keeps what it has heard as rows.
 * So a publication is one tell per subscriber, from the publisher's outbox, written with the
 * transaction of its handler, and a move changes nothing: tells follow their agent. What a host has
 * heard may be old: the owner takes a publication only for an agent that is subscribed, settles it
 * otherwise, and answers so; then, and when the agent has ended, the sender's host forgets the
 * entry.
 *
 * Publications of people and tools leave the outbox of n->poster, which is no agent: its id begins
 * with 6 zero bytes, the time 1970, and goes on with the host_id. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#define ENTRIES_AT_ONCE 1000
#define POSTER_ZEROS    6

struct sub {
    UT_hash_handle hh; /* in topic->subs, by agent */
    gw_id agent;
    struct topic *topic;
    LIST_ENTRY(sub) of_agent;
    bool mesh;
    bool here;      /* its agent lives here */
    uint64_t heard; /* n->topics_clock when it was last told of */
};
struct topic {
    UT_hash_handle hh; /* in node->topics, by name */
    char name[LIMIT_NAME_BYTES + 1];
    struct sub *subs;
};
struct topic_agent {
    UT_hash_handle hh; /* in node->topic_agents, by id */
    gw_id id;
    LIST_HEAD(sub_list, sub) subs;
    size_t count;
};

/* ---- in memory ---- */

static struct topic_agent *agent_of(struct node *n, const gw_id *id)
{
    struct topic_agent *ta;
    HASH_FIND(hh, n->topic_agents, id, sizeof *id, ta);
    return ta;
}

static struct topic *topic_of(struct node *n, const char *name)
{
    struct topic *t;
    HASH_FIND_STR(n->topics, name, t);
    return t;
}

static struct sub *sub_find(struct node *n, const gw_id *agent, const char *topic)
{
    struct topic *t = topic_of(n, topic);
    struct sub *s = NULL;
    if (t) {
        HASH_FIND(hh, t->subs, agent, sizeof *agent, s);
    }
    return s;
}

static struct sub *sub_make(struct node *n, const gw_id *agent, const char *topic)
{
    struct topic *t = topic_of(n, topic);
    struct topic_agent *ta = agent_of(n, agent);
    struct sub *s = xcalloc(1, sizeof *s);
    if (!t) {
        t = xcalloc(1, sizeof *t);
        bool fits = span_text((struct span){(const uint8_t *)topic, strlen(topic)}, t->name,
                              sizeof t->name);
        gw_assert(fits);
        HASH_ADD_STR(n->topics, name, t);
    }
    if (!ta) {
        ta = xcalloc(1, sizeof *ta);
        ta->id = *agent;
        HASH_ADD(hh, n->topic_agents, id, sizeof ta->id, ta);
    }
    s->agent = *agent;
    s->topic = t;
    HASH_ADD(hh, t->subs, agent, sizeof s->agent, s);
    LIST_INSERT_HEAD(&ta->subs, s, of_agent);
    ta->count++;
    n->sub_count++;
    return s;
}

static void sub_free(struct node *n, struct sub *s)
{
    struct topic *t = s->topic;
    struct topic_agent *ta = agent_of(n, &s->agent);
    HASH_DEL(t->subs, s);
    LIST_REMOVE(s, of_agent);
    n->sub_count--;
    if (--ta->count == 0) {
        HASH_DEL(n->topic_agents, ta);
        free(ta);
    }
    if (!t->subs) {
        HASH_DEL(n->topics, t);
        free(t);
    }
    free(s);
}

/* ---- rows ---- */

static struct span own_key(uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES], const gw_id *agent,
                           uint64_t epoch, const char *topic)
{
    size_t n = strlen(topic);
    row_key(raw, agent, epoch);
    memcpy(raw + ROW_KEY_BYTES, topic, n);
    return (struct span){raw, ROW_KEY_BYTES + n};
}

/* nil | 0 | agent | topic */
static struct span heard_key(uint8_t raw[ROW_KEY_BYTES + GW_ID_BYTES + LIMIT_NAME_BYTES],
                             const gw_id *agent, const char *topic)
{
    size_t n = strlen(topic);
    row_key(raw, &(gw_id){{0}}, 0);
    memcpy(raw + ROW_KEY_BYTES, agent->b, GW_ID_BYTES);
    memcpy(raw + ROW_KEY_BYTES + GW_ID_BYTES, topic, n);
    return (struct span){raw, ROW_KEY_BYTES + GW_ID_BYTES + n};
}

static void put_own(struct store_batch *batch, const gw_id *agent, uint64_t epoch,
                    const char *topic, bool mesh)
{
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    struct buf value = {0};
    mp_bool(&value, mesh);
    store_batch_put_take(batch, TABLE_TOPICS, own_key(raw, agent, epoch, topic), &value);
    buf_free(&value);
}

static void put_heard(struct store_batch *batch, const gw_id *agent, const char *topic)
{
    uint8_t raw[ROW_KEY_BYTES + GW_ID_BYTES + LIMIT_NAME_BYTES];
    struct buf value = {0};
    mp_nil(&value);
    store_batch_put_take(batch, TABLE_TOPICS, heard_key(raw, agent, topic), &value);
    buf_free(&value);
}

static void del_heard(struct store_batch *batch, const gw_id *agent, const char *topic)
{
    uint8_t raw[ROW_KEY_BYTES + GW_ID_BYTES + LIMIT_NAME_BYTES];
    store_batch_del(batch, TABLE_TOPICS, heard_key(raw, agent, topic));
}

static bool topic_text(struct span raw, char ret[LIMIT_NAME_BYTES + 1])
{
    return span_text(raw, ret, LIMIT_NAME_BYTES + 1) && name_is_valid(ret);
}

/* ---- telling the other hosts ---- */

static void put_entry(struct buf *b, const struct agent *a, const gw_id *agent, const char *topic,
                      bool on)
{
    mp_array(b, 4);
    mp_id(b, agent);
    mp_uint(b, a ? a->epoch : 0);
    mp_str(b, topic);
    mp_bool(b, on);
}

/* One frame of `count` packed entries, to p or (NULL) to all that are linked. */
static void send_entries(struct node *n, struct peer *p, size_t count, const struct buf *entries)
{
    for (struct peer *to = p ? p : n->peers; to && count > 0; to = p ? NULL : to->hh.next) {
        if (to->self || !to->up) {
            continue;
        }
        struct buf frame = {0};
        size_t at = frame_begin(&frame, FRAME_TOPICS, 0, 1);
        mp_array(&frame, count);
        buf_add(&frame, entries->data, entries->len);
        frame_end(&frame, at);
        peer_send_frame(n, to, &frame);
    }
}

static void tell_one(struct node *n, const gw_id *agent, const char *topic, bool on)
{
    GW_AUTO(buf_free) struct buf entry = {0};
    put_entry(&entry, agent_find(n, agent), agent, topic, on);
    send_entries(n, NULL, 1, &entry);
}

void topics_link_up(struct node *n, struct peer *p)
{
    struct buf entries = {0};
    size_t count = 0;
    for (struct topic *t = n->topics; t; t = t->hh.next) {
        for (struct sub *s = t->subs; s; s = s->hh.next) {
            if (!s->here || !s->mesh) {
                continue;
            }
            put_entry(&entries, agent_find(n, &s->agent), &s->agent, t->name, true);
            if (++count == ENTRIES_AT_ONCE) {
                send_entries(n, p, count, &entries);
                buf_reset(&entries);
                count = 0;
            }
        }
    }
    send_entries(n, p, count, &entries);
    buf_free(&entries);
}

struct heard_entry {
    gw_id agent;
    uint64_t epoch;
    char topic[LIMIT_NAME_BYTES + 1];
    bool on;
};

static gw_err read_entry(struct mp *m, struct heard_entry *ret)
{
    size_t fields;
    struct span topic;
    GW_TRY(mp_read_array(m, &fields));
    if (fields < 4) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, &ret->agent));
    GW_TRY(mp_read_uint(m, &ret->epoch));
    GW_TRY(mp_read_str(m, &topic));
    GW_TRY(mp_read_bool(m, &ret->on));
    return topic_text(topic, ret->topic) ? mp_skip_n(m, fields - 4) : GW_EPROTO;
}

static void take_entry(struct node *n, struct peer *p, const struct heard_entry *e,
                       struct store_batch *batch)
{
    struct sub *s = sub_find(n, &e->agent, e->topic);
    const struct location *l = location_find(n, &e->agent);
    if ((s && s->here) || agent_find(n, &e->agent) || gw_id_is_nil(&e->agent) ||
        (l && (l->disposed || e->epoch < l->epoch))) {
        return; /* known better here */
    }
    if (e->epoch > 0 && e->epoch <= LIMIT_EPOCH) {
        location_know(n, &e->agent, e->epoch, p, false, false);
    }
    if (e->on && !s && n->sub_count < LIMIT_SUBSCRIPTIONS) {
        s = sub_make(n, &e->agent, e->topic);
        s->mesh = true;
        put_heard(batch, &e->agent, e->topic);
    } else if (!e->on && s) {
        del_heard(batch, &e->agent, e->topic);
        sub_free(n, s);
        s = NULL;
    }
    if (s) {
        s->heard = ++n->topics_clock;
    }
}

void topics_frame(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp m = f->rest;
    size_t count;
    struct heard_entry e;
    if (mp_read_array(&m, &count) != GW_OK || count > ENTRIES_AT_ONCE) {
        return;
    }
    struct store_batch *batch = store_batch_new();
    for (size_t i = 0; i < count && read_entry(&m, &e) == GW_OK; i++) {
        take_entry(n, p, &e, batch);
    }
    if (store_batch_count(batch) > 0) {
        node_commit(n, batch, NULL, NULL);
    } else {
        store_batch_free(batch);
    }
}

void topics_gone(struct node *n, const gw_id *agent, const char *topic, uint64_t before)
{
    struct topic_agent *ta = agent_of(n, agent);
    struct sub *s = ta ? LIST_FIRST(&ta->subs) : NULL, *next;
    struct store_batch *batch = store_batch_new();
    for (; s; s = next) {
        next = LIST_NEXT(s, of_agent);
        if (!s->here && s->heard <= before && (!topic || strcmp(s->topic->name, topic) == 0)) {
            del_heard(batch, agent, s->topic->name);
            sub_free(n, s); /* the last one frees ta: it is not looked at again */
        }
    }
    if (store_batch_count(batch) > 0) {
        node_commit(n, batch, NULL, NULL);
    } else {
        store_batch_free(batch);
    }
}

bool topics_has(struct node *n, const gw_id *agent, const char *topic)
{
    const struct sub *s = sub_find(n, agent, topic);
    return s && s->here;
}

/* ---- with the transaction of a handler ---- */

enum { SUBSCRIBE, UNSUBSCRIBE, PUBLISH, VERBS };
static const char *const verbs[VERBS] = {"subscribe", "unsubscribe", "publish"};

static int verb_of(struct span verb)
{
    for (int i = 0; i < VERBS; i++) {
        if (span_is(verb, verbs[i])) {
            return i;
        }
    }
    return VERBS;
}

bool topics_is_action(struct span verb)
{
    return verb_of(verb) < VERBS;
}

/* Each of the topic actions in the result of w: `what` gets its verb and decoded arguments. */
static void each_action(struct work *w,
                        void (*what)(struct work *w, int verb, const gw_value *args, void *arg),
                        void *arg)
{
    struct mp m = mp_over(w->result.actions);
    size_t n = 0, fields;
    if (w->result.actions.n == 0 || mp_read_array(&m, &n) != GW_OK) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct span raw, verb;
        gw_value args = gw_nil();
        if (mp_skip(&m, &raw) != GW_OK) {
            return;
        }
        struct mp one = mp_over(raw);
        if (mp_read_array(&one, &fields) == GW_OK && mp_read_str(&one, &verb) == GW_OK &&
            topics_is_action(verb) && value_unpack(&one, &args) == GW_OK) {
            what(w, verb_of(verb), &args, arg);
        }
        gw_value_free(&args);
    }
}

static bool is_target(const struct sub *s)
{
    return s->here || s->mesh;
}

static size_t targets(struct node *n, const char *topic)
{
    struct topic *t = topic_of(n, topic);
    size_t count = 0;
    for (struct sub *s = t ? t->subs : NULL; s; s = s->hh.next) {
        count += is_target(s);
    }
    return count;
}

struct checking {
    size_t subscribes, tells, bytes;
    gw_err err;
    struct gw_error *why;
};

static void check_one(struct work *w, int verb, const gw_value *args, void *arg)
{
    struct checking *c = arg;
    const char *topic = gw_map_str(args, "topic", "");
    if (!name_is_valid(topic)) {
        c->err = gw_fail(c->why, GW_EARG, "\"%.64s\" is not the name of a topic", topic);
    } else if (verb == SUBSCRIBE) {
        c->subscribes += !topics_has(w->node, &w->agent->id, topic);
    } else if (verb == PUBLISH) {
        GW_AUTO(buf_free) struct buf packed = {0};
        const gw_value *inner = gw_map_get(args, "args");
        size_t count = targets(w->node, topic);
        if (inner) {
            value_pack(inner, &packed);
        }
        c->tells += count;
        c->bytes += count * packed.len;
    }
}

gw_err topics_check(struct work *w, size_t *ret_tells, struct gw_error *why)
{
    struct checking c = {.why = why};
    const struct topic_agent *ta = agent_of(w->node, &w->agent->id);
    each_action(w, check_one, &c);
    GW_TRY(c.err);
    if (c.subscribes > 0 && (ta ? ta->count : 0) + c.subscribes > LIMIT_TOPICS_PER_AGENT) {
        return gw_fail(why, GW_EBUSY, "an agent subscribes to at most %d topics",
                       LIMIT_TOPICS_PER_AGENT);
    }
    if (c.subscribes > 0 && w->node->sub_count + c.subscribes > LIMIT_SUBSCRIPTIONS) {
        return gw_fail(why, GW_EBUSY, "host \"%s\" knows %zu subscriptions, the limit is %d",
                       w->node->name, w->node->sub_count, LIMIT_SUBSCRIPTIONS);
    }
    if (c.bytes > LIMIT_PUBLISH_BYTES) {
        return gw_fail(why, GW_ETOO_BIG,
                       "the publication would be %zu bytes for all its subscribers together, the "
                       "limit is %u",
                       c.bytes, LIMIT_PUBLISH_BYTES);
    }
    *ret_tells = c.tells;
    return GW_OK;
}

/* One tell for each. */
static size_t fan_out(struct work *w, struct store_batch *batch, const char *topic,
                      const struct tell_order *order)
{
    struct topic *t = topic_of(w->node, topic);
    size_t count = 0;
    for (struct sub *s = t ? t->subs : NULL; s; s = s->hh.next) {
        if (is_target(s)) {
            struct tell_order one = *order;
            one.to = &s->agent;
            tells_put(w, batch, &one);
            count++;
        }
    }
    return count;
}

void topics_action(struct work *w, struct store_batch *batch, struct span verb, struct span args)
{
    const struct agent *a = w->agent;
    uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
    gw_value map = gw_nil();
    if (value_unpack_span(args, &map) != GW_OK) {
        return;
    }
    const char *topic = gw_map_str(&map, "topic", "");
    const char *method = gw_map_str(&map, "method", "on_topic");
    const gw_value *inner = gw_map_get(&map, "args");
    GW_AUTO(buf_free) struct buf packed = {0};
    switch (verb_of(verb)) {
    case SUBSCRIBE:
        put_own(batch, &a->id, a->epoch, topic, gw_map_bool(&map, "mesh", false));
        w->closes = true; /* the next handler sees it */
        break;
    case UNSUBSCRIBE:
        store_batch_del(batch, TABLE_TOPICS, own_key(raw, &a->id, a->epoch, topic));
        del_heard(batch, &a->id, topic); /* of a time when it lived elsewhere */
        w->closes = true;
        break;
    default:
        if (inner && inner->kind == GW_MAP) {
            value_pack(inner, &packed);
        }
        if (name_is_valid(method)) {
            char copy[LIMIT_NAME_BYTES + 1];
            (void)span_text((struct span){(const uint8_t *)topic, strlen(topic)}, copy,
                            sizeof copy);
            fan_out(w, batch, topic,
                    &(struct tell_order){.method = method,
                                         .args = buf_span(&packed),
                                         .carry = {.priority = PRIORITY_NORMAL,
                                                   .trace = w->carry.trace,
                                                   .state = w->carry.state,
                                                   .topic = copy}});
        }
        break;
    }
    gw_value_free(&map);
}

static void commit_one(struct work *w, int verb, const gw_value *args, void *arg)
{
    struct node *n = w->node;
    const gw_id *id = &w->agent->id;
    const char *topic = gw_map_str(args, "topic", "");
    struct sub *s = sub_find(n, id, topic);
    (void)arg;
    if (verb == SUBSCRIBE) {
        bool mesh = gw_map_bool(args, "mesh", false), was = s && s->mesh;
        s = s ? s : sub_make(n, id, topic);
        s->here = true;
        s->mesh = mesh;
        if (mesh || was) {
            tell_one(n, id, topic, mesh);
        }
    } else if (verb == UNSUBSCRIBE && s) {
        bool mesh = s->mesh;
        sub_free(n, s);
        if (mesh) {
            tell_one(n, id, topic, false);
        }
    }
}

void topics_committed(struct work *w)
{
    if (w->result.err == GW_OK && w->result.actions.n > 1) { /* more than an empty list */
        each_action(w, commit_one, NULL);
    }
}

/* ---- moves, ends, boots ---- */

void topics_pack(struct node *n, const struct agent *a, struct buf *out)
{
    struct topic_agent *ta = agent_of(n, &a->id);
    struct sub *s;
    mp_array(out, ta ? ta->count : 0);
    if (!ta) {
        return;
    }
    LIST_FOREACH (s, &ta->subs, of_agent) {
        mp_array(out, 2);
        mp_str(out, s->topic->name);
        mp_bool(out, s->mesh);
    }
}

gw_err topics_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span list)
{
    struct mp m = mp_over(list);
    size_t count, two;
    GW_TRY(mp_read_array(&m, &count));
    if (count > LIMIT_TOPICS_PER_AGENT) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < count; i++) {
        struct span topic;
        char name[LIMIT_NAME_BYTES + 1];
        bool mesh;
        GW_TRY(mp_read_array(&m, &two));
        GW_TRY(two >= 2 ? GW_OK : GW_EPROTO);
        GW_TRY(mp_read_str(&m, &topic));
        GW_TRY(mp_read_bool(&m, &mesh));
        GW_TRY(topic_text(topic, name) ? mp_skip_n(&m, two - 2) : GW_EPROTO);
        put_own(batch, agent, epoch, name, mesh);
    }
    return GW_OK;
}

void topics_depart(struct node *n, const struct agent *a, struct store_batch *batch)
{
    struct topic_agent *ta = agent_of(n, &a->id);
    struct sub *s;
    if (ta) {
        LIST_FOREACH (s, &ta->subs, of_agent) {
            if (s->mesh) {
                put_heard(batch, &a->id, s->topic->name); /* publications from here follow it */
            }
        }
    }
}

void topics_departed(struct node *n, const gw_id *id)
{
    struct topic_agent *ta = agent_of(n, id);
    struct sub *s, *next;
    for (s = ta ? LIST_FIRST(&ta->subs) : NULL; s; s = next) {
        next = LIST_NEXT(s, of_agent);
        s->here = false;
        s->heard = ++n->topics_clock;
        if (!s->mesh) {
            sub_free(n, s);
        }
    }
}

void topics_ended(struct node *n, const gw_id *id)
{
    struct topic_agent *ta = agent_of(n, id);
    struct sub *s, *next;
    for (s = ta ? LIST_FIRST(&ta->subs) : NULL; s; s = next) {
        next = LIST_NEXT(s, of_agent);
        if (s->mesh) {
            tell_one(n, id, s->topic->name, false);
        }
        sub_free(n, s);
    }
}

static void load_heard(struct node *n, struct span rest)
{
    gw_id agent;
    char topic[LIMIT_NAME_BYTES + 1];
    if (rest.n <= GW_ID_BYTES ||
        !topic_text((struct span){rest.p + GW_ID_BYTES, rest.n - GW_ID_BYTES}, topic)) {
        return;
    }
    memcpy(agent.b, rest.p, GW_ID_BYTES);
    if (!sub_find(n, &agent, topic)) { /* else it lives here again */
        sub_make(n, &agent, topic)->mesh = true;
    }
}

void topics_load_row(struct node *n, struct span key, struct span value)
{
    gw_id id;
    bool mesh;
    char topic[LIMIT_NAME_BYTES + 1];
    memcpy(id.b, key.p, GW_ID_BYTES);
    struct span rest = {key.p + ROW_KEY_BYTES, key.n - ROW_KEY_BYTES};
    if (gw_id_is_nil(&id)) {
        load_heard(n, rest);
        return;
    }
    const struct agent *a = agent_find(n, &id);
    struct mp m = mp_over(value);
    if (a && a->epoch == load_u64(key.p + GW_ID_BYTES) && topic_text(rest, topic) &&
        mp_read_bool(&m, &mesh) == GW_OK) {
        struct sub *s = sub_find(n, &id, topic);
        s = s ? s : sub_make(n, &id, topic);
        s->here = true;
        s->mesh = mesh;
        if (mesh) {
            tell_one(n, &id, topic, true);
        }
    }
}

/* ---- publications of people and tools ---- */

void topics_init(struct node *n)
{
    struct live *live = xcalloc(1, sizeof *live);
    memcpy(n->poster.id.b + POSTER_ZEROS, n->self->id.b, GW_ID_BYTES - POSTER_ZEROS);
    n->poster.epoch = 1;
    n->poster.live = live;
    live->agent = &n->poster;
    TAILQ_INIT(&live->queue);
    TAILQ_INIT(&live->committing);
}

bool topics_is_poster(const gw_id *id)
{
    static const uint8_t zeros[POSTER_ZEROS];
    return memcmp(id->b, zeros, sizeof zeros) == 0 && !gw_id_is_nil(id);
}

bool topics_boot(struct node *n, const struct storage_row *row)
{
    if (row->key.n <= ROW_KEY_BYTES || memcmp(row->key.p, n->poster.id.b, GW_ID_BYTES) != 0) {
        return false;
    }
    live_know_row(n->poster.live, row);
    return true;
}

struct publishing {
    struct op_call *call;
    char topic[LIMIT_NAME_BYTES + 1];
    size_t subscribers;
};

static void answer_published(struct op_call *call, const char *topic, int64_t subscribers)
{
    gw_value result = gw_nil();
    if (gw_map_set(&result, "topic", gw_str(topic)) != GW_OK ||
        gw_map_set(&result, "subscribers", subscribers < 0 ? gw_nil() : gw_int(subscribers)) !=
            GW_OK) {
        gw_value_free(&result);
    }
    op_ok(call, &result);
}

static void published(void *arg, gw_err err)
{
    struct work *w = arg;
    struct publishing *p = w->arg;
    struct seen_request *seen = w->has_key ? request_find(w->agent->live, w->key) : NULL;
    struct gw_error why;
    if (err == GW_OK) {
        if (seen) {
            seen->at_ms = node_now_ms(w->node);
        }
        tells_committed(w);
        answer_published(p->call, p->topic, (int64_t)p->subscribers);
    } else {
        tells_rolled_back(w);
        if (seen) {
            request_forget(w->agent->live, seen);
        }
        gw_fail(&why, err, "the publication could not be written: %s", gw_err_text(err));
        op_fail(p->call, &why);
    }
    free(p);
    work_free(w);
}

static void publish(struct node *n, struct op_call *call, struct work *w, const char *topic,
                    const char *method)
{
    struct publishing *p = xcalloc(1, sizeof *p);
    struct store_batch *batch = store_batch_new();
    struct carry carry = w->carry;
    p->call = call;
    (void)span_text((struct span){(const uint8_t *)topic, strlen(topic)}, p->topic,
                    sizeof p->topic);
    w->arg = p;
    carry.topic = p->topic;
    p->subscribers = fan_out(w, batch, topic,
                             &(struct tell_order){.method = method,
                                                  .args = buf_span(&w->args),
                                                  .flags = w->flags & RUN_TEXT_ARGS ? TELL_TEXT : 0,
                                                  .carry = carry});
    if (w->has_key) {
        request_record(w, batch, node_now_ms(n));
        request_remember(w, -1);
    }
    if (store_batch_count(batch) > 0) {
        node_commit(n, batch, published, w);
    } else {
        store_batch_free(batch);
        published(w, GW_OK);
    }
}

/* GW_OK, or why it cannot be published. */
static gw_err admit(struct node *n, struct work *w, const char *topic, const char *method,
                    struct gw_error *why)
{
    size_t count = targets(n, topic), waiting = tells_waiting(n, &n->poster.id);
    if (!name_is_valid(topic) || !name_is_valid(method)) {
        return gw_fail(why, GW_EARG, "\"%.64s\" is not the name of a %s",
                       name_is_valid(topic) ? method : topic,
                       name_is_valid(topic) ? "method" : "topic");
    }
    if (!buf_ok(&w->args) || w->args.len > LIMIT_ARGS_BYTES ||
        w->args.len * count > LIMIT_PUBLISH_BYTES) {
        return gw_fail(why, GW_ETOO_BIG,
                       "%zu bytes for each of %zu subscribers; the limits are %u bytes each and %u "
                       "together",
                       w->args.len, count, LIMIT_ARGS_BYTES, LIMIT_PUBLISH_BYTES);
    }
    if (waiting > 0 && waiting + count > LIMIT_OUTBOX_MESSAGES) {
        return gw_fail(why, GW_EBUSY, "%zu publications wait to be delivered", waiting);
    }
    return GW_OK;
}

void op_publish(struct node *n, struct op_call *call)
{
    struct gw_error why;
    const char *topic = gw_map_str(&call->args, "topic", "");
    const char *method = gw_map_str(&call->args, "method", "on_topic");
    const char *key = gw_map_str(&call->args, "key", NULL);
    const gw_value *args = gw_map_get(&call->args, "args");
    if (request_key_check(key, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    if (n->loading) {
        call_again_later(n, call);
        return;
    }
    struct work *w = work_new(n, &n->poster, HOOK_NONE);
    if (args && args->kind != GW_NIL) {
        value_pack(args, &w->args);
    }
    w->flags = gw_map_bool(&call->args, "text", false) ? RUN_TEXT_ARGS : 0;
    carry_of_call(n, call, &w->carry);
    if (key) {
        request_key_of(key, w->key);
        w->has_key = true;
    }
    struct seen_request *seen = key ? request_find(n->poster.live, w->key) : NULL;
    if (seen) {
        work_free(w);
        if (seen->at_ms < 0) {
            call_again_later(n, call); /* it is on its way to the disk */
        } else {
            answer_published(call, topic, -1);
        }
    } else if (admit(n, w, topic, method, &why) != GW_OK) {
        work_free(w);
        op_fail(call, &why);
    } else {
        publish(n, call, w, topic, method);
    }
}

/* ---- list ---- */

gw_err topics_describe(struct node *n, const struct agent *a, gw_value *ret)
{
    struct topic_agent *ta = agent_of(n, &a->id);
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    struct sub *s = ta ? LIST_FIRST(&ta->subs) : NULL;
    for (; s && err == GW_OK; s = LIST_NEXT(s, of_agent)) {
        gw_value one = gw_nil();
        err = gw_map_set(&one, "topic", gw_str(s->topic->name));
        err = err ? err : gw_map_set(&one, "scope", gw_str(s->mesh ? "mesh" : "host"));
        if (err != GW_OK) {
            gw_value_free(&one);
            break;
        }
        err = gw_list_add(&list, one);
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

static gw_err add_agents(const struct topic *t, gw_value *row)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    size_t count = 0;
    for (struct sub *s = t->subs; s && err == GW_OK && count < LIMIT_PAGE; s = s->hh.next) {
        char id[GW_ID_TEXT];
        gw_value one = gw_nil();
        err = gw_map_set(&one, "agent", gw_str(gw_id_text(&s->agent, id)));
        err = err ? err : gw_map_set(&one, "scope", gw_str(s->mesh ? "mesh" : "host"));
        err = err ? err : gw_map_set(&one, "here", gw_bool(s->here));
        if (err != GW_OK) {
            gw_value_free(&one);
            break;
        }
        err = gw_list_add(&list, one);
        count++;
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    return gw_map_set(row, "agents", list);
}

static gw_err add_topic(const struct topic *t, bool agents, gw_value *list)
{
    gw_value row = gw_nil();
    int64_t here = 0;
    for (struct sub *s = t->subs; s; s = s->hh.next) {
        here += s->here;
    }
    gw_err err = gw_map_set(&row, "topic", gw_str(t->name));
    err = err ? err : gw_map_set(&row, "subscribers", gw_int((int64_t)HASH_COUNT(t->subs)));
    err = err ? err : gw_map_set(&row, "here", gw_int(here));
    err = err || !agents ? err : add_agents(t, &row);
    if (err != GW_OK) {
        gw_value_free(&row);
        return err;
    }
    return gw_list_add(list, row);
}

void op_topics(struct node *n, struct op_call *call)
{
    const char *only = gw_map_str(&call->args, "topic", NULL);
    gw_value list = {.kind = GW_LIST}, result = gw_nil();
    gw_err err = GW_OK;
    size_t count = 0;
    for (struct topic *t = n->topics; t && err == GW_OK && count < LIMIT_PAGE; t = t->hh.next) {
        if (!only || strcmp(only, t->name) == 0) {
            err = add_topic(t, only != NULL, &list);
            count++;
        }
    }
    if (err == GW_OK) {
        err = gw_map_set(&result, "topics", list);
    } else {
        gw_value_free(&list);
    }
    if (err != GW_OK) {
        struct gw_error why;
        gw_fail(&why, err, "out of memory");
        op_fail(call, &why);
        return;
    }
    op_ok(call, &result);
}

void topics_free(struct node *n)
{
    struct topic *t, *next;
    struct sub *s, *after;
    HASH_ITER (hh, n->topics, t, next) {
        HASH_ITER (hh, t->subs, s, after) {
            bool last = HASH_COUNT(t->subs) == 1;
            sub_free(n, s);
            if (last) {
                break; /* the topic went with it */
            }
        }
    }
    struct live *live = n->poster.live;
    if (live) {
        free(live->requests);
        free(live->streams);
        free(live->asks);
        free(live);
    }
}
