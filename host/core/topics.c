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
 */
#include "host/core/topics.h"

#include <stdlib.h>
#include <string.h>

#define ENTRIES_AT_ONCE 1000

/* ---- in memory ---- */

struct topic_agent *topics_of_agent(struct node *n, const gw_id *id)
{
    struct topic_agent *ta;
    HASH_FIND(hh, n->topic_agents, id, sizeof *id, ta);
    return ta;
}

struct topic *topic_of(struct node *n, const char *name)
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
    struct topic_agent *ta = topics_of_agent(n, agent);
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
    struct topic_agent *ta = topics_of_agent(n, &s->agent);
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
    size_t n = strnlen(topic, LIMIT_NAME_BYTES);
    row_key(raw, agent, epoch);
    memcpy(raw + ROW_KEY_BYTES, topic, n);
    return (struct span){raw, ROW_KEY_BYTES + n};
}

/* nil | 0 | agent | topic */
static struct span heard_key(uint8_t raw[ROW_KEY_BYTES + GW_ID_BYTES + LIMIT_NAME_BYTES],
                             const gw_id *agent, const char *topic)
{
    size_t n = strnlen(topic, LIMIT_NAME_BYTES);
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
        node_commit(n, batch, POINT_TOPIC_HEARD, NULL, NULL);
    } else {
        store_batch_free(batch);
    }
}

void topics_gone(struct node *n, const gw_id *agent, const char *topic, uint64_t before)
{
    struct topic_agent *ta = topics_of_agent(n, agent);
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
        node_commit(n, batch, POINT_TOPIC_GONE, NULL, NULL);
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

size_t topics_targets(struct node *n, const char *topic)
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
        size_t count = topics_targets(w->node, topic);
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
    const struct topic_agent *ta = topics_of_agent(w->node, &w->agent->id);
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
size_t topics_fan_out(struct work *w, struct store_batch *batch, const char *topic,
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
            topics_fan_out(w, batch, topic,
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
    struct topic_agent *ta = topics_of_agent(n, &a->id);
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
    struct topic_agent *ta = topics_of_agent(n, &a->id);
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
    struct topic_agent *ta = topics_of_agent(n, id);
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
    struct topic_agent *ta = topics_of_agent(n, id);
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
    poster_free(n);
}
