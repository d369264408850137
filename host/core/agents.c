/* The registry of agents that live here, their rows, and the one function that changes a status.
 *
 *                    create, clone, COMMIT of an arrival
 *                                  |
 *                                  v
 *      +------- deactivate ---- ACTIVE <------- abort -------+
 *      v                         ^  |                        |
 *   INACTIVE --- message, -------+  +---- dispatch ---> MOVING ---> (departed: out of the registry)
 *      |  ^      activate                                ^   |
 *      |  +------------------- abort --------------------|---+
 *      +--------------------- dispatch ------------------+
 *   any of them --- damage, two copies ---> QUARANTINED        ACTIVE, INACTIVE --- dispose --->
 * DISPOSED
 *
 * State is always on disk: a struct live is only a cache of what an agent needs while it does
 * something. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

const char *const agent_status_names[AGENT_STATUS_COUNT] = {
    [AGENT_ACTIVE] = "active",     [AGENT_INACTIVE] = "inactive",
    [AGENT_MOVING] = "moving",     [AGENT_STAGED] = "staged",
    [AGENT_DEPARTED] = "departed", [AGENT_QUARANTINED] = "quarantined",
    [AGENT_DISPOSED] = "disposed",
};

/* ---- rows ---- */

struct span row_key(uint8_t ret[ROW_KEY_BYTES], const gw_id *agent, uint64_t epoch)
{
    memcpy(ret, agent->b, GW_ID_BYTES);
    store_u64(ret + GW_ID_BYTES, epoch);
    return (struct span){ret, ROW_KEY_BYTES};
}

struct span row_number_key(uint8_t raw[ROW_KEY_BYTES + 8], const gw_id *id, uint64_t epoch,
                           uint64_t number)
{
    row_key(raw, id, epoch);
    store_u64(raw + ROW_KEY_BYTES, number);
    return (struct span){raw, ROW_KEY_BYTES + 8};
}

#define ROW_FIELDS 15
#define ROW_LEAST  13 /* rows of older builds have none of the last ones */

void agent_row_pack(const struct agent_row *row, struct buf *out)
{
    mp_array(out, ROW_FIELDS);
    mp_uint(out, row->status);
    mp_str(out, row->type);
    mp_bin(out, row->home.b, HOST_ID_BYTES);
    mp_str(out, row->alias[0] ? row->alias : NULL);
    mp_id(out, &row->of);
    mp_int(out, row->created_ms);
    mp_uint(out, row->pending);
    mp_bool(out, row->no_wake);
    mp_id(out, &row->ticket);
    mp_bin(out, row->peer.b, HOST_ID_BYTES);
    mp_bin(out, row->nonce, TICKET_NONCE_BYTES);
    mp_uint(out, row->then);
    mp_bin(out, row->intent.data, row->intent.len);
    mp_bool(out, row->wake_at_start);
    trace_pack(&row->trace, out);
}

void agent_row_clear(struct agent_row *row)
{
    buf_free(&row->intent);
    *row = (struct agent_row){0};
}

static gw_err read_status(struct mp *m, agent_status *ret)
{
    uint64_t v;
    GW_TRY(mp_read_uint(m, &v));
    if (v >= AGENT_STATUS_COUNT) {
        return GW_EPROTO;
    }
    *ret = (agent_status)v;
    return GW_OK;
}

static gw_err read_row(struct mp *m, struct agent_row *row)
{
    size_t n;
    struct span intent;
    GW_TRY(mp_read_array(m, &n));
    if (n < ROW_LEAST) {
        return GW_EPROTO;
    }
    GW_TRY(read_status(m, &row->status));
    GW_TRY(mp_read_text(m, row->type, sizeof row->type));
    GW_TRY(mp_read_fixed(m, row->home.b, HOST_ID_BYTES));
    GW_TRY(mp_read_text_or_nil(m, row->alias, sizeof row->alias));
    GW_TRY(mp_read_id(m, &row->of));
    GW_TRY(mp_read_int(m, &row->created_ms));
    GW_TRY(mp_read_u32(m, &row->pending));
    GW_TRY(mp_read_bool(m, &row->no_wake));
    GW_TRY(mp_read_id(m, &row->ticket));
    GW_TRY(mp_read_fixed(m, row->peer.b, HOST_ID_BYTES));
    GW_TRY(mp_read_fixed(m, row->nonce, TICKET_NONCE_BYTES));
    GW_TRY(read_status(m, &row->then));
    GW_TRY(mp_read_bin(m, &intent));
    buf_add(&row->intent, intent.p, intent.n);
    GW_TRY(buf_ok(&row->intent) ? GW_OK : GW_ENOMEM);
    if (n > ROW_LEAST) {
        GW_TRY(mp_read_bool(m, &row->wake_at_start));
    }
    if (n > ROW_LEAST + 1) {
        GW_TRY(trace_unpack(m, &row->trace));
    }
    return mp_skip_n(m, n > ROW_FIELDS ? n - ROW_FIELDS : 0);
}

gw_err agent_row_unpack(struct span raw, struct agent_row *ret)
{
    struct agent_row row = {0};
    struct mp m = mp_over(raw);
    gw_err err = read_row(&m, &row);
    if (err == GW_OK && (!name_is_valid(row.type) || (row.alias[0] && !name_is_valid(row.alias)))) {
        err = GW_EPROTO;
    }
    if (err != GW_OK) {
        agent_row_clear(&row);
        return err;
    }
    *ret = row;
    return GW_OK;
}

static void row_of(const struct agent *a, struct agent_row *ret)
{
    *ret = (struct agent_row){
        .status = a->status,
        .home = *a->home,
        .of = a->of,
        .created_ms = a->created_ms,
        .pending = a->pending,
        .no_wake = a->no_wake,
        .wake_at_start = a->wake_at_start,
    };
    memcpy(ret->type, a->type->name, sizeof ret->type);
    if (a->alias) {
        (void)span_text((struct span){(const uint8_t *)a->alias, strlen(a->alias)}, ret->alias,
                        sizeof ret->alias);
    }
}

void agent_put_row(struct store_batch *batch, const struct agent *a, agent_status status,
                   uint32_t pending, const struct buf *intent)
{
    struct agent_row row;
    gw_assert(!a->move || a->move->phase < OUT_COMMITTING); /* it would undo the departed row */
    row_of(a, &row);
    row.status = status;
    row.pending = pending;
    if (intent) {
        row.intent = *intent; /* lent for the packing below */
    }
    struct buf value = {0};
    uint8_t key[ROW_KEY_BYTES];
    agent_row_pack(&row, &value);
    store_batch_put_take(batch, TABLE_AGENTS, row_key(key, &a->id, a->epoch), &value);
    buf_free(&value);
}

static void delete_rows(struct store_batch *batch, const gw_id *id, uint64_t epoch, bool but_outbox)
{
    static const store_table tables[] = {TABLE_AGENTS,  TABLE_STATES, TABLE_INBOX, TABLE_OUTBOX,
                                         TABLE_STREAMS, TABLE_TIMERS, TABLE_FILES, TABLE_REQUESTS,
                                         TABLE_TOPICS,  TABLE_WATCHES};
    uint8_t raw[ROW_KEY_BYTES];
    struct span key = row_key(raw, id, epoch);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (tables[i] != TABLE_OUTBOX || !but_outbox) {
            store_batch_del_prefix(batch, tables[i], key);
        }
    }
}

void agent_delete_rows(struct store_batch *batch, const gw_id *id, uint64_t epoch)
{
    delete_rows(batch, id, epoch, false);
}

void agent_end_rows(struct store_batch *batch, const gw_id *id, uint64_t epoch)
{
    delete_rows(batch, id, epoch, true);
}

/* ---- registry ---- */

struct agent *agent_find(struct node *n, const gw_id *id)
{
    struct agent *a;
    HASH_FIND(hh, n->agents, id, sizeof *id, a);
    return a;
}

static void count(struct node *n, const struct agent *a, bool in)
{
    size_t *sum = builtin_is_resident(a->type)  ? &n->builtin_count
                  : a->status == AGENT_INACTIVE ? &n->inactive_count
                                                : &n->active_count;
    size_t one = in ? 1 : (size_t)-1;
    *sum += one;
    a->type->counts[a->status] += one;
}

struct agent *agent_add(struct node *n, const gw_id *id, uint64_t epoch,
                        const struct agent_row *row)
{
    gw_assert(agent_find(n, id) == NULL);
    struct agent *a = xcalloc(1, sizeof *a);
    a->id = *id;
    a->epoch = epoch;
    a->type = type_intern(n, row->type);
    a->home = &peer_intern(n, &row->home)->id;
    a->of = row->of;
    a->created_ms = row->created_ms;
    a->pending = row->pending;
    a->no_wake = row->no_wake;
    a->wake_at_start = row->wake_at_start;
    a->status = row->status;
    if (row->intent.len > 0) {
        a->intent = xcalloc(1, sizeof *a->intent);
        buf_add(a->intent, row->intent.data, row->intent.len);
    }
    HASH_ADD(hh, n->agents, id, sizeof a->id, a);
    count(n, a, true);
    if (a->status == AGENT_ACTIVE) {
        idle_add(n, a);
    }
    struct alias *alias = NULL;
    if (row->alias[0]) {
        a->alias = xstrdup(row->alias);
        HASH_FIND_STR(n->aliases, row->alias, alias);
        if (!alias) { /* an arrival whose alias is taken here goes by its id */
            alias = xcalloc(1, sizeof *alias);
            alias->text = a->alias;
            alias->agent = a;
            HASH_ADD_KEYPTR(hh, n->aliases, alias->text, strlen(alias->text), alias);
        }
    }
    return a;
}

void agent_remove(struct node *n, struct agent *a)
{
    struct alias *alias = NULL;
    if (a->alias) {
        HASH_FIND_STR(n->aliases, a->alias, alias);
        if (alias && alias->agent == a) {
            HASH_DEL(n->aliases, alias);
            free(alias);
        }
    }
    if (a->type->runner && a->live && a->live->incarnation == a->type->runner->incarnation) {
        runner_unload(a->type->runner, &a->id);
    }
    if (a->status == AGENT_ACTIVE) {
        idle_remove(a);
    }
    if (a->starting) {
        starts_end(n, a);
    }
    count(n, a, false);
    HASH_DEL(n->agents, a);
    timers_forget(n, a);
    watches_forget(n, a);
    live_free(a->live);
    if (a->intent) {
        buf_free(a->intent);
        free(a->intent);
    }
    free(a->alias);
    free(a);
}

/* Row = from, bit = to. */
#define TO(status) (1u << AGENT_##status)
static const unsigned legal[AGENT_STATUS_COUNT] = {
    [AGENT_ACTIVE] = TO(INACTIVE) | TO(MOVING) | TO(QUARANTINED) | TO(DISPOSED),
    [AGENT_INACTIVE] = TO(ACTIVE) | TO(MOVING) | TO(QUARANTINED) | TO(DISPOSED),
    [AGENT_MOVING] = TO(ACTIVE) | TO(INACTIVE) | TO(DEPARTED) | TO(QUARANTINED),
    [AGENT_QUARANTINED] = TO(DISPOSED),
};

void agent_set_status(struct node *n, struct agent *a, agent_status status)
{
    if (a->status == status) {
        return;
    }
    gw_assert(legal[a->status] & 1u << status);
    char id[GW_ID_TEXT];
    log_debug("agent.status", "agent=%s from=%s to=%s", gw_id_text(&a->id, id),
              agent_status_names[a->status], agent_status_names[status]);
    bool thaws = a->status == AGENT_MOVING && (status == AGENT_ACTIVE || status == AGENT_INACTIVE);
    if (a->status == AGENT_ACTIVE) {
        idle_remove(a);
    } else if (status == AGENT_ACTIVE) {
        idle_add(n, a);
    }
    count(n, a, false);
    a->status = status;
    count(n, a, true);
    if (thaws && a->timers) {
        timers_thaw(n, a);
    }
}

void agent_quarantine(struct node *n, struct agent *a, const struct peer *other, uint64_t epoch)
{
    char id[GW_ID_TEXT];
    struct gw_error why;
    if (a->status == AGENT_QUARANTINED || a->status == AGENT_DISPOSED || a->move) {
        return; /* a move ends first: the next meeting sees what came of it */
    }
    gw_fail(&why, GW_ECORRUPT,
            "host \"%s\" has this agent at epoch %llu, above the %llu here: this copy is "
            "quarantined",
            peer_label(other), (unsigned long long)epoch, (unsigned long long)a->epoch);
    log_error("agent.quarantined", "agent=%s %s", gw_id_text(&a->id, id), why.text);
    struct store_batch *batch = store_batch_new();
    agent_put_row(batch, a, AGENT_QUARANTINED, a->pending, NULL);
    event_put(n, batch,
              &(struct event){.kind = "agent.quarantined",
                              .agent = &a->id,
                              .type = a->type->name,
                              .peer = other,
                              .text = why.text});
    node_commit(n, batch, NULL, NULL);
    agent_set_status(n, a, AGENT_QUARANTINED);
    tells_forget(n, &a->id);
    work_refuse_queued(n, a, &why);
}

uint64_t agent_fence(struct node *n, const gw_id *id)
{
    const struct agent *a = agent_find(n, id);
    const struct location *l = location_find(n, id);
    uint64_t here = a ? a->epoch : 0;
    uint64_t known = l ? l->fence : 0;
    return here > known ? here : known;
}

/* ---- look-up by what people type ---- */

static bool ends_with(const gw_id *id, const char *ending, size_t len)
{
    char text[GW_ID_TEXT];
    gw_id_text(id, text);
    return strncasecmp(text + GW_ID_TEXT - 1 - len, ending, len) == 0;
}

gw_err agent_lookup(struct node *n, const char *text, struct agent **ret, struct gw_error *why)
{
    gw_id id;
    struct agent *found = NULL;
    struct alias *alias;
    size_t len = strlen(text);
    HASH_FIND_STR(n->aliases, text, alias);
    if (alias) {
        found = alias->agent;
    } else if (gw_id_parse(text, &id) == GW_OK) {
        found = agent_find(n, &id);
    } else if (len >= 4 && len < GW_ID_TEXT - 1) {
        for (struct agent *a = n->agents; a; a = a->hh.next) {
            if (!ends_with(&a->id, text, len)) {
                continue;
            }
            if (found) {
                return gw_fail(why, GW_EAMBIGUOUS, "more than one agent here ends with \"%s\"",
                               text);
            }
            found = a;
        }
    }
    if (!found) {
        return gw_fail(why, GW_EAGENT_NOT_FOUND, "no agent \"%s\" on this host", text);
    }
    *ret = found;
    return GW_OK;
}

/* ---- live ---- */

struct live *agent_live(struct agent *a)
{
    if (!a->live) {
        a->live = xcalloc(1, sizeof *a->live);
        a->live->agent = a;
        a->live->outbox_next = a->live->inbox_next = 1;
        TAILQ_INIT(&a->live->queue);
        TAILQ_INIT(&a->live->committing);
        LIST_INSERT_HEAD(&a->type->lives, a->live, of_type);
    }
    return a->live;
}

void agent_rest(struct agent *a)
{
    struct live *live = a->live;
    if (a->status == AGENT_INACTIVE && live && !live->current && !live->pumping && !live->held &&
        !pipeline_busy(live) && TAILQ_EMPTY(&live->queue)) {
        live_free(live);
        a->live = NULL;
    }
}

void live_free(struct live *live)
{
    if (live) {
        gw_assert(TAILQ_EMPTY(&live->queue) && !live->current && TAILQ_EMPTY(&live->committing));
        LIST_REMOVE(live, of_type);
        buf_free(&live->parts);
        store_chain_drop(live->chain);
        free(live->requests);
        free(live->streams);
        free(live->asks);
        free(live->order);
        free(live);
    }
}
