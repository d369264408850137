/* Answers that an agent owes: a handler ended with "later", another one of the same agent answers.
 *
 *     run -> "later" -> row {key: owed} in its transaction -> the call waits in memory (debtors)
 *     run -> "answer" -> row {key: answer} in its transaction -> durable -> calls that wait are
 * told
 *
 * What is durable is the row, which travels with the agent like every recorded answer; the call
 * itself is of this process. Whoever loses it sends the same request under the same key again, here
 * or where the agent is now, finds the row, and waits or has the answer. A call that came from
 * another host is told `pending` after POLL_MS, and its host asks again: so no time-out on the way
 * has to be as long as the wait. A call without a key is given one when it begins to wait. */
#include "host/core/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

#define POLL_MS 20000 /* well below the time-out of a call between hosts */

struct waiting {
    LIST_ENTRY(waiting) link;
    struct node *n;
    struct debtor *debtor; /* NULL: orphaned */
    struct op_call *call;
    uint8_t key[REQUEST_KEY_BYTES];
    struct env_timer *timer;
    gw_id asker; /* nil: not an agent */
    uint64_t ask;
};

struct debtor {
    UT_hash_handle hh; /* in node->debtors, by agent */
    gw_id agent;
    LIST_HEAD(, waiting) callers;
};

/* ---- the rows ---- */

enum { ANSWERED, OWED, FAILED }; /* third member of a row; absent: answered */

void request_pack(const struct work *w, int64_t now_ms, struct buf *out)
{
    mp_array(out, w->later ? 3 : 2);
    mp_int(out, now_ms);
    mp_span(out, w->result.reply);
    if (w->later) {
        mp_uint(out, OWED);
    }
}

gw_err request_unpack(struct span value, struct seen_request *ret, struct run_result *ret_answer)
{
    struct mp m = mp_over(value);
    struct seen_request seen = {.bytes = (uint32_t)value.n};
    struct run_result r = {.flags = DONE_READ};
    size_t fields;
    uint32_t state = ANSWERED, code = GW_OK;
    GW_TRY(mp_read_array(&m, &fields));
    if (fields < 2) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_int(&m, &seen.at_ms));
    GW_TRY(mp_read_bin(&m, &r.reply));
    if (fields > 2) {
        GW_TRY(mp_read_u32(&m, &state));
    }
    if (state == FAILED) {
        GW_TRY(mp_read_u32(&m, &code));
        GW_TRY(mp_read_text_or_nil(&m, r.why.text, sizeof r.why.text));
        r.err = r.why.code = code == GW_OK ? GW_EFAIL : gw_err_from_wire(code);
    }
    seen.owed = state == OWED;
    *ret = seen;
    *ret_answer = r;
    return GW_OK;
}

static void pack_answer(const gw_value *map, int64_t now_ms, struct buf *out)
{
    const gw_value *reply = gw_map_get(map, "reply");
    gw_err code = gw_err_from_wire((unsigned)gw_map_int(map, "code", 0));
    mp_array(out, code == GW_OK ? 2 : 5);
    mp_int(out, now_ms);
    struct buf packed = {0};
    if (reply && reply->kind == GW_MAP) {
        value_pack(reply, &packed);
    }
    mp_span(out, buf_span(&packed));
    buf_free(&packed);
    if (code != GW_OK) {
        mp_uint(out, FAILED);
        mp_uint(out, code);
        mp_str(out, gw_map_str(map, "text", ""));
    }
}

/* ---- actions: "later" {}, "answer" {token, reply} or {token, code, text} ---- */

bool later_is_action(struct span verb)
{
    return span_is(verb, "later") || span_is(verb, "answer");
}

/* The next action of that verb in a list; false: no more. */
static bool next_action(struct mp *m, size_t *left, const char *want, gw_value *ret)
{
    for (; *left > 0; --*left) {
        struct span raw, verb, args;
        size_t fields;
        if (mp_skip(m, &raw) != GW_OK) {
            break;
        }
        struct mp one = mp_over(raw);
        if (mp_read_array(&one, &fields) == GW_OK && mp_read_str(&one, &verb) == GW_OK &&
            span_is(verb, want) && mp_skip(&one, &args) == GW_OK &&
            value_unpack_span(args, ret) == GW_OK) {
            --*left;
            return true;
        }
    }
    *left = 0;
    return false;
}

static bool actions_of(const struct work *w, struct mp *ret, size_t *ret_n)
{
    *ret = mp_over(w->result.actions);
    return w->result.actions.n > 0 && mp_read_array(ret, ret_n) == GW_OK;
}

static struct seen_request *seen_of(const struct work *w, const gw_value *answer)
{
    const gw_value *token = gw_map_get(answer, "token");
    _Static_assert(sizeof token->id.b == REQUEST_KEY_BYTES, "a token is a key");
    return token && token->kind == GW_ID ? request_find(w->agent->live, token->id.b) : NULL;
}

/* Take back what later_check marked, in the first `count` answers. */
static void unmark(const struct work *w, size_t count)
{
    struct mp m;
    size_t n;
    gw_value one;
    for (bool any = actions_of(w, &m, &n); any && count > 0 && next_action(&m, &n, "answer", &one);
         count--) {
        struct seen_request *seen = seen_of(w, &one);
        if (seen) {
            seen->answering = false;
        }
        gw_value_free(&one);
    }
}

static gw_err check_owed(const struct work *w, struct gw_error *why)
{
    const struct live *live = w->agent->live;
    struct mp m;
    size_t n, owed = 0;
    gw_value one;
    if (!w->call || !actions_of(w, &m, &n) || !next_action(&m, &n, "later", &one)) {
        return GW_OK;
    }
    gw_value_free(&one);
    for (size_t i = 0; i < live->request_count; i++) {
        owed += live->requests[i].owed;
    }
    return owed < LIMIT_OWED_PER_AGENT
               ? GW_OK
               : gw_fail(why, GW_EBUSY, "the agent has yet to answer %zu callers", owed);
}

gw_err later_check(const struct work *w, struct gw_error *why)
{
    struct mp m;
    size_t n, count = 0;
    gw_value one;
    GW_TRY(check_owed(w, why));
    for (bool any = actions_of(w, &m, &n); any && next_action(&m, &n, "answer", &one); count++) {
        struct seen_request *seen = seen_of(w, &one);
        bool twice = seen && (!seen->owed || seen->answering);
        gw_value_free(&one);
        if (twice) {
            unmark(w, count);
            return gw_fail(why, GW_ECONFLICT, "a caller would be answered twice");
        }
        if (seen) {
            seen->answering = true;
        }
    }
    return GW_OK;
}

static void answer_action(struct work *w, struct store_batch *batch, const gw_value *map)
{
    struct agent *a = w->agent;
    const gw_value *token = gw_map_get(map, "token");
    uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES];
    if (!seen_of(w, map)) {
        char text[80], id[GW_ID_TEXT] = "?";
        if (token && token->kind == GW_ID) {
            gw_id_text(&token->id, id);
        }
        snprintf(text, sizeof text, "nobody waits for answer %s", id);
        event_put(w->node, batch,
                  &(struct event){
                      .kind = "answer.lost", .agent = &a->id, .type = a->type->name, .text = text});
        return;
    }
    struct buf value = {0};
    int64_t now_ms = node_now_ms(w->node);
    pack_answer(map, now_ms, &value);
    size_t bytes = value.len;
    row_key(raw, &a->id, a->epoch);
    memcpy(raw + ROW_KEY_BYTES, token->id.b, REQUEST_KEY_BYTES);
    store_batch_put_take(batch, TABLE_REQUESTS, (struct span){raw, sizeof raw}, &value);
    buf_free(&value);
    requests_make_room(a, batch, now_ms, bytes, 0);
}

void later_action(struct work *w, struct store_batch *batch, struct span verb, struct span args)
{
    gw_value map = gw_nil();
    if (span_is(verb, "later")) {
        w->later = w->call != NULL; /* else nobody waits */
        w->has_key = w->has_key || w->later;
    } else if (value_unpack_span(args, &map) == GW_OK) {
        answer_action(w, batch, &map);
    }
    gw_value_free(&map);
}

/* ---- those who wait ---- */

static struct debtor *debtor_find(struct node *n, const gw_id *agent)
{
    struct debtor *d;
    HASH_FIND(hh, n->debtors, agent, sizeof *agent, d);
    return d;
}

/* Out of the list, and no more; its call is the caller's now. */
static struct op_call *release(struct waiting *t)
{
    struct node *n = t->n;
    struct op_call *call = t->call;
    struct debtor *d = t->debtor;
    LIST_REMOVE(t, link);
    if (d && LIST_EMPTY(&d->callers)) {
        HASH_DEL(n->debtors, d);
        free(d);
    }
    n->env->timer_free(n->env->ctx, t->timer);
    call->on_gone = NULL;
    ask_ended(n, &t->asker, t->ask);
    free(t);
    return call;
}

static void caller_gone(void *arg)
{
    struct gw_error why;
    gw_fail(&why, GW_ECANCELLED, "the caller does not wait any longer");
    op_fail(release(arg), &why);
}

/* Long enough: the host that asked asks again, anybody else has said for how long. */
static void waited(void *arg)
{
    struct waiting *t = arg;
    struct gw_error why;
    if (call_is_hop(t->call)) {
        REACH(ANSWER_PENDING);
        gw_fail(&why, GW_EPENDING, "the agent answers later");
    } else {
        gw_fail(&why, GW_ETIMEOUT, "the agent did not answer in time");
        gw_hint(&why, "it may do so yet: the same request under the same key gets the answer");
    }
    op_fail(release(t), &why);
}

static bool give_key(struct work *w)
{
    char text[2 * REQUEST_KEY_BYTES + 1];
    if (gw_map_str(&w->call->args, "key", NULL)) {
        return true;
    }
    request_key_text(w->seed, text);
    return gw_map_set(&w->call->args, "key", gw_str(text)) == GW_OK;
}

void later_wait(struct work *w)
{
    struct node *n = w->node;
    struct op_call *call = w->call;
    struct gw_error why;
    if (!give_key(w)) {
        gw_fail(&why, GW_ENOMEM, "out of memory for a call that waits");
        ask_ended(n, &w->sender, w->ask);
        op_fail(call, &why);
        return;
    }
    struct debtor *d = debtor_find(n, &w->agent->id);
    if (!d) {
        d = xcalloc(1, sizeof *d);
        d->agent = w->agent->id;
        HASH_ADD(hh, n->debtors, agent, sizeof d->agent, d);
    }
    struct waiting *t = xcalloc(1, sizeof *t);
    *t = (struct waiting){.n = n, .debtor = d, .call = call, .asker = w->sender, .ask = w->ask};
    memcpy(t->key, w->key, sizeof t->key);
    LIST_INSERT_HEAD(&d->callers, t, link);
    call->waits_since_us = 0;
    call->on_gone = caller_gone;
    call->gone_arg = t;
    int64_t most_ms = call_is_hop(call) ? POLL_MS : LIMIT_REQUEST_AGE_MS;
    int64_t ms = call_left_ms(n, call, most_ms);
    t->timer = n->env->timer_new(n->env->ctx, waited, t);
    n->env->timer_start(n->env->ctx, t->timer, ms < most_ms ? ms : most_ms);
}

static struct waiting *caller_of(struct node *n, const gw_id *agent,
                                 const uint8_t key[REQUEST_KEY_BYTES])
{
    struct debtor *d = debtor_find(n, agent);
    struct waiting *t = NULL;
    if (d) {
        LIST_FOREACH (t, &d->callers, link) {
            if (memcmp(t->key, key, sizeof t->key) == 0) {
                break;
            }
        }
    }
    return t;
}

/* ---- the transaction is durable, or not ---- */

static void answer_callers(struct work *w, const gw_id *token, const gw_value *map)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct waiting *t;
    struct buf packed = {0};
    const gw_value *reply = gw_map_get(map, "reply");
    gw_err code = gw_err_from_wire((unsigned)gw_map_int(map, "code", 0));
    struct gw_error why;
    gw_fail(&why, code, "%s", gw_map_str(map, "text", ""));
    if (reply && reply->kind == GW_MAP) {
        value_pack(reply, &packed);
    }
    while ((t = caller_of(n, &a->id, token->b))) {
        struct op_call *call = release(t);
        if (code == GW_OK) {
            send_answer(call, n, a->epoch, buf_span(&packed));
        } else {
            op_fail(call, &why);
        }
    }
    buf_free(&packed);
}

void later_committed(struct work *w)
{
    struct live *live = w->agent->live;
    struct mp m;
    size_t n;
    gw_value one;
    for (bool any = actions_of(w, &m, &n); any && next_action(&m, &n, "answer", &one);) {
        struct seen_request *seen = seen_of(w, &one);
        if (seen) {
            struct buf value = {0};
            gw_id token = gw_map_get(&one, "token")->id;
            int64_t now_ms = node_now_ms(w->node);
            pack_answer(&one, now_ms, &value);
            request_forget(live, seen);
            request_add(live, token.b, now_ms, value.len); /* the youngest is the last */
            buf_free(&value);
            answer_callers(w, &token, &one);
        }
        gw_value_free(&one);
    }
}

void later_rolled_back(struct work *w)
{
    w->later = false;
    unmark(w, SIZE_MAX);
}

/* ---- the agent goes ---- */

static void orphans_go(void *arg)
{
    struct node *n = arg;
    struct waiting *t;
    n->orphans_go = false;
    while ((t = LIST_FIRST(&n->orphaned))) {
        node_call(n, release(t));
    }
}

void later_gone(struct node *n, const gw_id *agent)
{
    struct debtor *d = debtor_find(n, agent);
    struct waiting *t;
    if (!d || n->ended) {
        return;
    }
    while ((t = LIST_FIRST(&d->callers))) {
        LIST_REMOVE(t, link);
        REACH(CALLER_FOLLOWS);
        t->debtor = NULL;
        LIST_INSERT_HEAD(&n->orphaned, t, link);
    }
    HASH_DEL(n->debtors, d);
    free(d);
    if (!n->orphans_go) {
        n->orphans_go = true;
        n->env->defer(n->env->ctx, orphans_go, n);
    }
}

void later_stop(struct node *n, const struct gw_error *why)
{
    struct waiting *t;
    while (n->debtors) {
        op_fail(release(LIST_FIRST(&n->debtors->callers)), why);
    }
    while ((t = LIST_FIRST(&n->orphaned))) {
        op_fail(release(t), why);
    }
}

void later_free(struct node *n)
{
    struct waiting *t;
    while (n->debtors) {
        (void)release(LIST_FIRST(&n->debtors->callers)); /* calls are of their doors */
    }
    while ((t = LIST_FIRST(&n->orphaned))) {
        (void)release(t);
    }
}

/* ---- show ---- */

static gw_err describe_one(struct node *n, const gw_id *agent, const uint8_t *key, int64_t at_ms,
                           gw_value *list)
{
    gw_value one = gw_nil();
    gw_id token;
    char text[GW_ID_TEXT];
    int64_t callers = 0;
    struct waiting *t;
    struct debtor *d = debtor_find(n, agent);
    memcpy(token.b, key, sizeof token.b);
    if (d) {
        LIST_FOREACH (t, &d->callers, link) {
            callers += memcmp(t->key, key, sizeof t->key) == 0;
        }
    }
    gw_err err = gw_map_set(&one, "token", gw_str(gw_id_text(&token, text)));
    if (err == GW_OK) {
        err = gw_map_set(&one, "since", gw_time_value((gw_time){at_ms}));
    }
    if (err == GW_OK) {
        err = gw_map_set(&one, "callers", gw_int(callers));
    }
    if (err != GW_OK) {
        gw_value_free(&one);
        return err;
    }
    return gw_list_add(list, one);
}

gw_err later_describe(struct node *n, const struct agent *a, const struct storage_row *rows,
                      size_t count, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    const struct live *live = a->live && a->live->known ? a->live : NULL;
    for (size_t i = 0; err == GW_OK && live && i < live->request_count; i++) {
        const struct seen_request *seen = &live->requests[i];
        if (seen->owed) {
            err = describe_one(n, &a->id, seen->key, seen->at_ms, &list);
        }
    }
    for (size_t i = 0; err == GW_OK && !live && i < count; i++) {
        struct seen_request seen;
        struct run_result r;
        if (rows[i].table == TABLE_REQUESTS && rows[i].key.n == ROW_KEY_BYTES + REQUEST_KEY_BYTES &&
            request_unpack(rows[i].value, &seen, &r) == GW_OK && seen.owed) {
            err = describe_one(n, &a->id, rows[i].key.p + ROW_KEY_BYTES, seen.at_ms, &list);
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}
