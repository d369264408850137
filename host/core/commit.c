/* A handler's result as one transaction: changed parts of the state, the recorded answer of a request, the
 * messages it sent, the inbox row it consumed, the hook bit it cleared, what it asked about itself.
 *
 * Nothing of it leaves before the transaction is durable (I5): done() and the actions run from the
 * completion. A transaction that was certainly rolled back (disk full) fails the work; the runner's object is
 * then newer than the store, so it is loaded again. Read-only results skip the store. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

void commit_parts(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span parts)
{
    struct mp m = mp_over(parts);
    size_t pairs;
    if (parts.n == 0 || mp_read_map(&m, &pairs) != GW_OK) {
        return; /* nil: nothing changed */
    }
    for (size_t i = 0; i < pairs; i++) {
        struct span name, value;
        uint8_t raw[ROW_KEY_BYTES + LIMIT_NAME_BYTES];
        row_key(raw, agent, epoch);
        if (mp_read_str(&m, &name) != GW_OK || name.n > LIMIT_NAME_BYTES) {
            return;
        }
        memcpy(raw + ROW_KEY_BYTES, name.p, name.n);
        struct span key = {raw, ROW_KEY_BYTES + name.n};
        if (mp_peek(&m) == MP_NIL) {
            gw_err nil = mp_read_nil(&m);
            gw_assert(nil == GW_OK);
            store_batch_del(batch, TABLE_STATES, key);
        } else if (mp_read_bin(&m, &value) == GW_OK) {
            store_batch_put(batch, TABLE_STATES, key, value);
        } else {
            return;
        }
    }
}

/* ---- recorded answers ---- */

static struct span request_key(uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES], const struct agent *a,
                               const uint8_t key[REQUEST_KEY_BYTES])
{
    row_key(raw, &a->id, a->epoch);
    memcpy(raw + ROW_KEY_BYTES, key, REQUEST_KEY_BYTES);
    return (struct span){raw, ROW_KEY_BYTES + REQUEST_KEY_BYTES};
}

void request_record(struct work *w, struct store_batch *batch, int64_t now_ms)
{
    struct live *live = w->agent->live;
    uint8_t raw[ROW_KEY_BYTES + REQUEST_KEY_BYTES];
    struct buf value = {0};
    mp_array(&value, 2);
    mp_int(&value, now_ms);
    mp_span(&value, w->result.reply);
    store_batch_put_take(batch, TABLE_REQUESTS, request_key(raw, w->agent, w->key), &value);
    buf_free(&value);
    size_t drop = 0;
    while (drop < live->request_count &&
           (live->request_count - drop >= LIMIT_REQUESTS_PER_AGENT ||
            live->requests[drop].at_ms < now_ms - LIMIT_REQUEST_AGE_MS)) {
        store_batch_del(batch, TABLE_REQUESTS, request_key(raw, w->agent, live->requests[drop].key));
        drop++;
    }
    if (drop > 0) {
        memmove(live->requests, live->requests + drop,
                (live->request_count - drop) * sizeof *live->requests);
    }
    live->request_count -= drop;
}

void request_remember(struct work *w, int64_t now_ms)
{
    struct live *live = w->agent->live;
    if (live->request_count == live->request_cap) {
        live->request_cap = live->request_cap ? live->request_cap * 2 : 4;
        struct seen_request *grown =
            realloc(live->requests, live->request_cap * sizeof *live->requests);
        if (!grown) {
            log_die("memory", "out of memory for the recorded requests of an agent");
        }
        live->requests = grown;
    }
    struct seen_request *r = &live->requests[live->request_count++];
    memcpy(r->key, w->key, sizeof r->key);
    r->at_ms = now_ms;
}

struct seen_request *request_find(struct live *live, const uint8_t key[REQUEST_KEY_BYTES])
{
    for (size_t i = 0; i < live->request_count; i++) {
        if (memcmp(live->requests[i].key, key, REQUEST_KEY_BYTES) == 0) {
            return &live->requests[i];
        }
    }
    return NULL;
}

void request_forget(struct live *live, struct seen_request *r)
{
    size_t behind = (size_t)(live->requests + live->request_count - (r + 1));
    memmove(r, r + 1, behind * sizeof *r);
    live->request_count--;
}

/* ---- actions: [[verb, args], ...] ---- */

/* Tells go into the batch, the rest is returned as a packed list (NULL = none). */
static struct buf *sort_actions(struct work *w, struct store_batch *batch)
{
    struct mp m = mp_over(w->result.actions);
    struct buf rest = {0};
    size_t n, kept = 0;
    if (w->result.actions.n == 0 || mp_read_array(&m, &n) != GW_OK) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        struct span raw, verb, args;
        size_t fields;
        if (mp_skip(&m, &raw) != GW_OK) {
            break;
        }
        struct mp one = mp_over(raw);
        if (mp_read_array(&one, &fields) != GW_OK || fields < 2 || mp_read_str(&one, &verb) != GW_OK ||
            mp_skip(&one, &args) != GW_OK) {
            break;
        }
        if (span_is(verb, "tell")) {
            tells_action(w, batch, args);
        } else {
            gw_id id = node_new_id(w->node); /* of a clone: the wish names it, so that it is made once */
            mp_array(&rest, 3);
            mp_strn(&rest, (const char *)verb.p, verb.n);
            buf_add(&rest, args.p, args.n);
            mp_id(&rest, &id);
            kept++;
        }
    }
    if (kept == 0) {
        buf_free(&rest);
        return NULL;
    }
    struct buf *out = xcalloc(1, sizeof *out);
    mp_array(out, kept);
    buf_add(out, rest.data, rest.len);
    buf_free(&rest);
    return out;
}

/* ---- the transaction ---- */

static void failed_once(struct work *w, struct store_batch *batch)
{
    event_put(w->node, batch,
              &(struct event){.kind = w->inbox ? "message.failed" : "hook.failed",
                              .agent = &w->agent->id,
                              .type = w->agent->type->name,
                              .text = w->result.why.text});
}

static void durable(void *arg, gw_err err)
{
    struct work *w = arg;
    struct node *n = w->node;
    struct agent *a = w->agent;
    if (err != GW_OK) {
        struct gw_error why;
        if (a->type->runner && a->live->incarnation) {
            runner_unload(a->type->runner, &a->id);
        }
        a->live->incarnation = 0;
        tells_rolled_back(n, a);
        a->pending |= w->cleared;
        if (w->set_intent) {
            intent_replace(a, w->intent_before);
            w->intent_before = NULL;
        }
        if (work_hold(w)) {
            log_warn("store.rolled_back", "agent type=%s error=%s its work is run again", a->type->name,
                     gw_err_name(err));
            return;
        }
        gw_fail(&why, err, "the result could not be written and was rolled back: %s", gw_err_text(err));
        gw_hint(&why, err == GW_EDISK_FULL ? "make room on the disk of host \"%s\" and send it again"
                                           : "host \"%s\" keeps the last committed state",
                n->name);
        work_fail(w, &why);
        return;
    }
    if (w->has_key && w->result.err == GW_OK) {
        request_remember(w, node_now_ms(n));
    }
    tells_committed(n, a);
    work_finish(w, w->result.err, w->result.err == GW_OK ? &w->result : NULL,
                w->result.err == GW_OK ? NULL : &w->result.why);
}

void commit_result(struct work *w)
{
    struct node *n = w->node;
    struct agent *a = w->agent;
    bool ok = w->result.err == GW_OK;
    uint32_t bit = a->pending & 1u << w->hook;
    struct store_batch *batch = store_batch_new();
    if (!batch) {
        durable(w, GW_ENOMEM);
        return;
    }
    bool discard = w->flags & RUN_DISCARD;
    if (ok && !discard) {
        commit_parts(batch, &a->id, a->epoch, w->result.parts);
    }
    struct buf *intent = ok && !discard ? sort_actions(w, batch) : NULL;
    if (intent) { /* the row below says so, too */
        w->intent_before = intent_append(a, intent);
    }
    a->pending &= ~bit;
    w->cleared = bit;
    w->set_intent = intent != NULL;
    if (w->prepare && ok) {
        w->prepare(w, &w->result, batch);
    } else if (bit || intent) {
        agent_put_row(batch, a, a->status == AGENT_MOVING ? AGENT_ACTIVE : a->status, a->pending,
                      a->intent);
    }
    if (w->inbox) {
        uint8_t raw[ROW_KEY_BYTES + 8];
        row_key(raw, &a->id, a->epoch);
        store_u64(raw + ROW_KEY_BYTES, w->inbox);
        store_batch_del(batch, TABLE_INBOX, (struct span){raw, sizeof raw});
    }
    if (!ok) {
        failed_once(w, batch);
    }
    if (store_batch_count(batch) == 0) { /* a read: nothing to keep, it is simply run again */
        store_batch_free(batch);
        w->has_key = false;
        durable(w, GW_OK);
        return;
    }
    if (w->has_key && ok) {
        request_record(w, batch, node_now_ms(n));
    }
    node_commit(n, batch, durable, w);
}
