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
 *   any of them --- crashes, two copies ---> QUARANTINED        ACTIVE, INACTIVE --- dispose --->
 * DISPOSED
 *
 * State is always on disk: a struct live is only a cache of what an agent needs while it does
 * something. */
#include "host/core/handoff.h"
#include "host/core/itinerary.h"
#include "host/core/sleepers.h"

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

#define ROW_FIELDS 17

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
    mp_span(out, buf_span(&row->itinerary));
    mp_str(out, row->fault[0] ? row->fault : NULL);
}

void agent_row_clear(struct agent_row *row)
{
    buf_free(&row->intent);
    buf_free(&row->itinerary);
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

static gw_err read_itinerary(struct mp *m, struct buf *ret)
{
    struct span packed;
    struct itinerary *it = NULL;
    GW_TRY(mp_read_bin(m, &packed));
    if (packed.n > 0) {
        GW_TRY(itinerary_unpack(packed, &it)); /* the row may have come from another host */
        itinerary_free(it);
        buf_add(ret, packed.p, packed.n);
    }
    return buf_ok(ret) ? GW_OK : GW_ENOMEM;
}

static gw_err read_row(struct mp *m, struct agent_row *row)
{
    size_t n;
    struct span intent;
    GW_TRY(mp_read_array(m, &n));
    if (n < AGENT_ROW_FIELDS) {
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
    if (n > AGENT_ROW_FIELDS) {
        GW_TRY(mp_read_bool(m, &row->wake_at_start));
    }
    if (n > AGENT_ROW_FIELDS + 1) {
        GW_TRY(trace_unpack(m, &row->trace));
    }
    if (n > AGENT_ROW_FIELDS + 2) {
        GW_TRY(read_itinerary(m, &row->itinerary));
    }
    if (n > AGENT_ROW_FIELDS + 3) {
        GW_TRY(mp_read_text_or_nil(m, row->fault, sizeof row->fault));
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
    if (a->fault) {
        (void)span_text((struct span){(const uint8_t *)a->fault, strlen(a->fault)}, ret->fault,
                        sizeof ret->fault);
    }
    if (a->alias) {
        (void)span_text((struct span){(const uint8_t *)a->alias, strlen(a->alias)}, ret->alias,
                        sizeof ret->alias);
    }
    if (a->itinerary) {
        itinerary_pack(a->itinerary, &ret->itinerary); /* the caller's to free */
    }
}

void agent_put_row(struct store_batch *batch, const struct agent *a, agent_status status,
                   uint32_t pending, const struct buf *intent)
{
    struct agent_row row;
    gw_assert(!a->move || a->move->t->phase < OUT_COMMITTING); /* it would undo the departed row */
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
    buf_free(&row.itinerary);
}

void agent_pack(const struct agent *a, struct buf *out)
{
    struct agent_row row;
    row_of(a, &row);
    agent_row_pack(&row, out);
    buf_free(&row.itinerary);
}

static const store_table agent_tables[] = {TABLE_AGENTS,  TABLE_STATES, TABLE_INBOX, TABLE_OUTBOX,
                                           TABLE_STREAMS, TABLE_TIMERS, TABLE_FILES, TABLE_REQUESTS,
                                           TABLE_TOPICS,  TABLE_WATCHES};
#define AGENT_TABLES (sizeof agent_tables / sizeof agent_tables[0])

static void delete_rows(struct store_batch *batch, const gw_id *id, uint64_t epoch, bool but_outbox)
{
    uint8_t raw[ROW_KEY_BYTES];
    struct span key = row_key(raw, id, epoch);
    for (size_t i = 0; i < AGENT_TABLES; i++) {
        if (agent_tables[i] != TABLE_OUTBOX || !but_outbox) {
            store_batch_del_prefix(batch, agent_tables[i], key);
        }
    }
}

void agent_move_rows(struct store_batch *batch, const gw_id *id, uint64_t from, uint64_t to)
{
    uint8_t old_raw[ROW_KEY_BYTES], new_raw[ROW_KEY_BYTES];
    struct span old = row_key(old_raw, id, from), new = row_key(new_raw, id, to);
    for (size_t i = 0; i < AGENT_TABLES; i++) {
        if (agent_tables[i] != TABLE_AGENTS) {
            store_batch_copy_prefix(batch, agent_tables[i], old, new);
        }
    }
    agent_delete_rows(batch, id, from);
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

static struct agent *find_awake(struct node *n, const gw_id *id)
{
    struct agent *a;
    HASH_FIND(hh, n->agents, id, sizeof *id, a);
    return a;
}

struct agent *agent_find(struct node *n, const gw_id *id)
{
    struct agent *a = find_awake(n, id);
    return a ? a : sleepers_raise(n, id);
}

gw_err agents_room(struct node *n, size_t coming, struct gw_error *why)
{
    size_t here = n->active_count + n->inactive_count + n->cloning + HASH_COUNT(n->moves_in);
    if (here + coming < n->cfg.limits.agents) {
        return GW_OK;
    }
    gw_fail(why, GW_EBUSY, "host \"%s\" is full: it has %zu agents, its limit is %zu", n->name,
            here, n->cfg.limits.agents);
    gw_hint(why, "end some, move them elsewhere, or start it with a larger --max-agents");
    return GW_EBUSY;
}

void agent_count(struct node *n, struct type *t, agent_status status, bool in)
{
    size_t *sum = builtin_is_resident(t)     ? &n->builtin_count
                  : status == AGENT_INACTIVE ? &n->inactive_count
                                             : &n->active_count;
    size_t one = in ? 1 : (size_t)-1;
    *sum += one;
    t->counts[status] += one;
}

/* The list of its status. */
static void line_up(struct node *n, struct agent *a)
{
    if (a->status == AGENT_ACTIVE) {
        idle_add(n, a);
    } else if (a->status == AGENT_INACTIVE) {
        sleepers_await(n, a);
    }
}

static void step_out(struct node *n, struct agent *a)
{
    if (a->status == AGENT_ACTIVE) {
        idle_remove(a);
    } else if (a->status == AGENT_INACTIVE) {
        sleepers_awake(n, a);
    }
}

struct agent *agent_make(struct node *n, const gw_id *id, uint64_t epoch,
                         const struct agent_row *row)
{
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
    a->fault = row->fault[0] && row->status == AGENT_QUARANTINED ? xstrdup(row->fault) : NULL;
    if (row->intent.len > 0) {
        a->intent = xcalloc(1, sizeof *a->intent);
        buf_add(a->intent, row->intent.data, row->intent.len);
    }
    if (row->alias[0]) {
        a->alias = xstrdup(row->alias);
    }
    if (row->itinerary.len > 0 &&
        itinerary_unpack(buf_span(&row->itinerary), &a->itinerary) != GW_OK) {
        log_die("memory", "out of memory for an itinerary"); /* it was looked at before */
    }
    HASH_ADD(hh, n->agents, id, sizeof a->id, a);
    line_up(n, a);
    return a;
}

void agent_unmake(struct node *n, struct agent *a)
{
    step_out(n, a);
    HASH_DEL(n->agents, a);
    timers_forget(n, a);
    watches_forget(n, a);
    files_forget(a);
    if (a->sending) {
        a->sending->agent = NULL; /* which finds out when its files have flowed */
    }
    unsaved_forget(a);
    crashes_forget(n, a);
    live_free(a->live);
    itinerary_free(a->itinerary);
    if (a->intent) {
        buf_free(a->intent);
        free(a->intent);
    }
    free(a->alias);
    free(a->fault);
    free(a);
}

bool agent_is_bare(const struct agent *a)
{
    return a->status == AGENT_INACTIVE && !a->type->builtin && !a->live && !a->move && !a->intent &&
           !a->timers && !a->unsaved && !a->crashes && !a->watches && !a->files && !a->sending &&
           !a->pending && !a->start_waits && !a->wake_wanted && !a->starting && !a->waking &&
           !a->intent_busy && !a->unborn && !a->loading;
}

struct agent *agent_add(struct node *n, const gw_id *id, uint64_t epoch,
                        const struct agent_row *row)
{
    struct alias *alias = NULL;
    gw_assert(!find_awake(n, id) && !sleepers_look(n, id, NULL));
    struct agent *a = agent_make(n, id, epoch, row);
    agent_count(n, a->type, a->status, true);
    if (a->alias) {
        HASH_FIND_STR(n->aliases, a->alias, alias);
        if (!alias) { /* an arrival whose alias is taken here goes by its id */
            alias = xcalloc(1, sizeof *alias);
            memcpy(alias->text, row->alias, sizeof alias->text);
            alias->agent = *id;
            HASH_ADD_STR(n->aliases, text, alias);
        }
    }
    return a;
}

/* Whether its work folder goes with it: not when it departs, nor when this is but the lower one of
 * two copies (boot), or a newer one is about to arrive. */
static bool ends_here(const struct node *n, const struct agent *a)
{
    struct move_in *coming;
    HASH_FIND(hh, n->moves_in, &a->id, sizeof a->id, coming);
    return n->ready && !n->ended && a->status != AGENT_MOVING && !coming;
}

void agent_remove(struct node *n, struct agent *a)
{
    struct alias *alias = NULL;
    if (n->env->agent_gone && ends_here(n, a)) {
        n->env->agent_gone(n->env->ctx, &a->id);
    }
    later_gone(n, &a->id);
    if (a->alias) {
        HASH_FIND_STR(n->aliases, a->alias, alias);
        if (alias && gw_id_equal(&alias->agent, &a->id)) {
            HASH_DEL(n->aliases, alias);
            free(alias);
        }
    }
    if (a->type->runner && a->live && a->live->incarnation == a->type->runner->incarnation) {
        runner_unload(a->type->runner, &a->id);
    }
    if (a->starting) {
        starts_end(n, a);
    }
    agent_count(n, a->type, a->status, false);
    pressure_ease(n, &a->id); /* what waited for it goes where it is now */
    agent_unmake(n, a);
}

/* Row = from, bit = to. */
#define TO(status) (1u << AGENT_##status)
static const unsigned legal[AGENT_STATUS_COUNT] = {
    [AGENT_ACTIVE] = TO(INACTIVE) | TO(MOVING) | TO(QUARANTINED) | TO(DISPOSED),
    [AGENT_INACTIVE] = TO(ACTIVE) | TO(MOVING) | TO(QUARANTINED) | TO(DISPOSED),
    [AGENT_MOVING] = TO(ACTIVE) | TO(INACTIVE) | TO(DEPARTED) | TO(QUARANTINED),
    [AGENT_QUARANTINED] = TO(ACTIVE) | TO(DISPOSED), /* ACTIVE: released (crashes.c) */
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
    step_out(n, a);
    agent_count(n, a->type, a->status, false);
    a->status = status;
    agent_count(n, a->type, a->status, true);
    line_up(n, a);
    if (thaws && a->timers) {
        timers_thaw(n, a);
    }
}

uint64_t agent_fence(struct node *n, const gw_id *id)
{
    const struct agent *a = find_awake(n, id);
    const struct location *l = location_find(n, id);
    struct sleeper_view sleeper = {0};
    uint64_t here = a ? a->epoch : sleepers_look(n, id, &sleeper) ? sleeper.epoch : 0;
    uint64_t known = l ? l->fence : 0;
    return here > known ? here : known;
}

/* ---- look-up by what people type ---- */

/* The last characters of an id as bits: what they are, and which they are. */
struct ending {
    uint64_t high, low, high_mask, low_mask;
};

static bool ending_parse(const char *text, size_t len, struct ending *ret)
{
    char padded[GW_ID_TEXT], mask[GW_ID_TEXT];
    uint8_t value[GW_ID_BYTES], bits[GW_ID_BYTES];
    size_t before = GW_ID_TEXT - 1 - len;
    memset(padded, '0', before);
    memcpy(padded + before, text, len);
    memset(mask, '0', before);
    memset(mask + before, 'Z', len);
    if (!base32_decode(padded, GW_ID_TEXT - 1, value, sizeof value) ||
        !base32_decode(mask, GW_ID_TEXT - 1, bits, sizeof bits)) {
        return false;
    }
    *ret =
        (struct ending){load_u64(value), load_u64(value + 8), load_u64(bits), load_u64(bits + 8)};
    return true;
}

static bool ends_with(const gw_id *id, const struct ending *e)
{
    return (load_u64(id->b + 8) & e->low_mask) == e->low &&
           (load_u64(id->b) & e->high_mask) == e->high;
}

/* GW_EAMBIGUOUS, or the only one in ret_id; GW_EUNKNOWN: none. */
static gw_err by_ending(struct node *n, const struct ending *e, gw_id *ret_id)
{
    size_t found = 0, sleeping = sleepers_count(n);
    for (const struct agent *a = n->agents; a && found < 2; a = a->hh.next) {
        if (ends_with(&a->id, e)) {
            *ret_id = a->id;
            found++;
        }
    }
    for (size_t i = 0; i < sleeping && found < 2; i++) {
        const gw_id *id = sleepers_at(n, i).id;
        if (ends_with(id, e)) {
            *ret_id = *id;
            found++;
        }
    }
    return found == 0 ? GW_EUNKNOWN : found == 1 ? GW_OK : GW_EAMBIGUOUS;
}

gw_err agent_lookup(struct node *n, const char *text, struct agent **ret, struct gw_error *why)
{
    gw_id id;
    struct agent *found = NULL;
    struct alias *alias;
    struct ending ending;
    size_t len = strlen(text);
    HASH_FIND_STR(n->aliases, text, alias);
    if (alias) {
        found = agent_find(n, &alias->agent);
    } else if (gw_id_parse(text, &id) == GW_OK) {
        found = agent_find(n, &id);
    } else if (len >= 4 && len < GW_ID_TEXT - 1 && ending_parse(text, len, &ending)) {
        gw_err err = by_ending(n, &ending, &id);
        if (err == GW_EAMBIGUOUS) {
            return gw_fail(why, err, "more than one agent here ends with \"%s\"", text);
        }
        found = err == GW_OK ? agent_find(n, &id) : NULL;
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
    if (a->status == AGENT_INACTIVE && live && !live->pumping && !live->held &&
        live->arriving == 0 && pipeline_rests(live) && TAILQ_EMPTY(&live->queue)) {
        live_free(live);
        a->live = NULL;
    }
}

void live_free(struct live *live)
{
    if (live) {
        gw_assert(TAILQ_EMPTY(&live->queue) && !live->current && !live->suspended &&
                  TAILQ_EMPTY(&live->committing));
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
