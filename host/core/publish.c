/* Publications of people and tools, and what is known of topics as an answer.
 *
 * They leave the outbox of n->poster, which is no agent: its id begins with 6 zero bytes, the time
 * 1970, and goes on with the host_id. Rows, marks and recorded requests of it stand where those of
 * agents do. */
#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

#include "host/core/topics.h"

#define POSTER_ZEROS 6

/* ---- the poster ---- */

void poster_init(struct node *n)
{
    struct live *live = xcalloc(1, sizeof *live);
    memcpy(n->poster.id.b + POSTER_ZEROS, n->self->id.b, GW_ID_BYTES - POSTER_ZEROS);
    n->poster.epoch = 1;
    n->poster.live = live;
    live->agent = &n->poster;
    TAILQ_INIT(&live->queue);
    TAILQ_INIT(&live->committing);
}

bool poster_is(const gw_id *id)
{
    static const uint8_t zeros[POSTER_ZEROS];
    return memcmp(id->b, zeros, sizeof zeros) == 0 && !gw_id_is_nil(id);
}

bool poster_boot(struct node *n, const struct storage_row *row)
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
        REACH(POST_ROLLED_BACK);
        tells_rolled_back_alone(w);
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
    p->subscribers =
        topics_fan_out(w, batch, topic,
                       &(struct tell_order){.method = method,
                                            .args = buf_span(&w->args),
                                            .flags = w->flags & RUN_TEXT_ARGS ? TELL_TEXT : 0,
                                            .carry = carry});
    if (w->has_key) {
        request_record(w, batch, node_now_ms(n));
        request_remember(w, -1);
    }
    if (store_batch_count(batch) > 0) {
        node_commit(n, batch, POINT_PUBLISH, published, w);
    } else {
        store_batch_free(batch);
        published(w, GW_OK);
    }
}

/* GW_OK, or why it cannot be published. */
static gw_err admit(struct node *n, struct work *w, const char *topic, const char *method,
                    struct gw_error *why)
{
    size_t count = topics_targets(n, topic), waiting = tells_waiting(n, &n->poster.id);
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
    if (n->poster_damaged) {
        gw_fail(&why, GW_ECORRUPT, "host \"%s\" cannot read what was published there before",
                n->name);
        gw_hint(&why, "its log says which file is damaged; publish on another host meanwhile");
        op_fail(call, &why);
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
    struct topic_agent *ta = topics_of_agent(n, &a->id);
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

void poster_free(struct node *n)
{
    struct live *live = n->poster.live;
    if (live) {
        free(live->requests);
        free(live->streams);
        free(live->asks);
        free(live);
    }
}
