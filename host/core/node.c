/* Life of a node: boot from the store, one turn of housekeeping, orderly stop.
 *
 * Boot reads the tables that it needs, the long ones page by page, then starts the runners; `ready`
 * when each runner has answered or failed and the agents that the host itself keeps are there. The
 * first transaction of a boot writes its number, so that a store that cannot be written is found
 * before anything is promised. Stop: new work is refused, what runs finishes and becomes durable,
 * then on_stopped. */
#include "host/core/handoff.h"
#include "host/core/itinerary.h"
#include "host/core/sleepers.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#define HOUSEKEEPING_MS  1000
#define STOP_PATIENCE_MS 10000

int64_t node_now_ms(const struct node *n)
{
    return n->env->wall_ms(n->env->ctx);
}

int64_t node_turn_us(const struct node *n)
{
    return n->env->turn_us(n->env->ctx);
}

void node_random(const struct node *n, void *ret, size_t len)
{
    n->env->random(n->env->ctx, ret, len);
}

gw_id node_new_id(const struct node *n)
{
    uint8_t random[10];
    node_random(n, random, sizeof random);
    return id_make(node_now_ms(n), random);
}

const struct gw_env *node_env(const struct node *node)
{
    return node->env;
}

/* ---- commits ---- */

struct pending_commit {
    struct node *n;
    storage_done done;
    void *arg;
    int64_t submitted_us;
    uint64_t number; /* 0: not counted */
};

static void committed(void *arg, gw_err err)
{
    struct pending_commit *p = arg;
    struct node *n = p->n;
    n->commits_in_flight--;
    n->metrics.rollbacks += err != GW_OK;
    if (err == GW_OK && p->number > 0) {
        standing_durable(n, p->number); /* before what `done` sends to others */
    } else if (err != GW_OK) {
        standing_undone(n);
    }
    histogram_add(&n->metrics.commit, node_turn_us(n) - p->submitted_us);
    if (p->done) {
        p->done(p->arg, err);
    } else if (err != GW_OK) {
        log_warn("store.rolled_back", "error=%s a record of lesser weight was not written",
                 gw_err_name(err));
    }
    free(p);
    node_check_stopped(n);
}

static void submit(struct node *n, struct store_batch *batch, commit_point point, bool counted,
                   storage_done done, void *arg)
{
    if (n->ended) {
        store_batch_free(batch); /* node_free: nobody would be told */
        return;
    }
    struct pending_commit *p = xcalloc(1, sizeof *p);
    *p = (struct pending_commit){n, done, arg, node_turn_us(n), 0};
    p->number = counted ? standing_number(n, batch) : 0;
    n->commits_in_flight++;
    store_batch_point(batch, point);
    n->env->commit(n->env->ctx, batch, committed, p);
}

void node_commit(struct node *n, struct store_batch *batch, commit_point point, storage_done done,
                 void *arg)
{
    submit(n, batch, point, true, done, arg);
}

void node_commit_uncounted(struct node *n, struct store_batch *batch, commit_point point)
{
    submit(n, batch, point, false, NULL, NULL);
}

/* ---- boot ---- */

/* These may be long: they are read page by page. Members first: agents and locations name them. */
static const store_table large_tables[] = {TABLE_AGENTS, TABLE_LOCATIONS};
#define BOOT_PAGE 8192 /* rows: some MB at a time */

static void boot_agent_row(struct node *n, struct span key, struct span value)
{
    struct agent_row row;
    gw_id id;
    char text[GW_ID_TEXT];
    if (key.n != ROW_KEY_BYTES) {
        log_error("store.row", "table=agents a key of %zu bytes was skipped", key.n);
        return;
    }
    memcpy(id.b, key.p, GW_ID_BYTES);
    uint64_t epoch = load_u64(key.p + GW_ID_BYTES);
    if (!n->cfg.restored && n->held != HELD_RESTORED && sleepers_boot_row(n, &id, epoch, value)) {
        return;
    }
    if (agent_row_unpack(value, &row) != GW_OK) {
        log_error("store.row",
                  "agent=%s its row does not decode; it stays on disk and is not served",
                  gw_id_text(&id, text));
        return;
    }
    if (row.status == AGENT_DEPARTED) {
        move_out_boot(n, &id, epoch, &row);
    } else if (row.status == AGENT_STAGED) {
        move_in_boot(n, &id, epoch, &row);
    } else {
        struct agent *lower = agent_find(n, &id); /* rows come by epoch */
        if (lower) {
            log_error(
                "agent.twice", "agent=%s epoch=%llu is served, the row of epoch=%llu stays on disk",
                gw_id_text(&id, text), (unsigned long long)epoch, (unsigned long long)lower->epoch);
            agent_remove(n, lower);
        }
        if (row.status == AGENT_MOVING) {
            row.status = AGENT_ACTIVE; /* moving is never written; an older build might have */
        }
        agent_add(n, &id, epoch, &row);
    }
    agent_row_clear(&row);
}

static void boot_row(struct node *n, const struct storage_row *row)
{
    switch (row->table) {
    case TABLE_AGENTS: boot_agent_row(n, row->key, row->value); break;
    case TABLE_LOCATIONS: location_boot_row(n, row->key, row->value); break;
    case TABLE_MEMBERS: peers_boot_row(n, row->key, row->value); break;
    case TABLE_REQUESTS: created_boot_row(n, row->key, row->value); break;
    case TABLE_EVENTS: events_boot_row(n, row->key); break;
    case TABLE_DEAD: dead_boot_row(n, row->key); break;
    case TABLE_META:
        if (span_is(row->key, "boot") && row->value.n == 8) {
            n->boot = load_u64(row->value.p);
        } else {
            standing_boot_row(n, row->key, row->value);
        }
        break;
    default: break;
    }
}

static void boot_failed(struct node *n, gw_err err, const char *what)
{
    struct gw_error why;
    gw_fail(&why, err, "%s: %s", what, gw_err_text(err));
    if (err == GW_ECORRUPT) {
        gw_hint(&why,
                "its log says which file is damaged, and where; restore the folder of this host "
                "from a backup");
    }
    n->cfg.on_ready(n->env->ctx, err, &why);
}

static void boot_written(void *arg, gw_err err)
{
    struct node *n = arg;
    if (err != GW_OK) {
        boot_failed(n, err, "cannot write to the store");
        return;
    }
    dead_load(n);
    runners_start(n);
    if (n->held == HELD_NOT) {
        node_begin_agents(n);
    }
    node_boot_step(n);
}

void node_begin_agents(struct node *n)
{
    inbox_load(n, NULL, 0);
    for (struct agent *a = n->agents; a; a = a->hh.next) {
        if (a->status == AGENT_ACTIVE && (a->pending || a->intent || itinerary_goes_on(a))) {
            starts_add(n, a, false);
            work_push_pending(n, a);
        } else if (a->status == AGENT_INACTIVE && a->wake_at_start) {
            starts_add(n, a, true);
        }
    }
}

static void boot_decoded(struct node *n)
{
    struct gw_error why;
    struct store_batch *batch = store_batch_new();
    if (standing_boot(n, batch, &why) != GW_OK) {
        store_batch_free(batch);
        n->cfg.on_ready(n->env->ctx, why.code, &why);
        return;
    }
    event_put(n, batch, &(struct event){.kind = "host.start"});
    node_commit(n, batch, POINT_BOOT, boot_written, n);
}

static void boot_page(void *arg, gw_err err, const struct storage_row *rows, size_t count);

/* The next rows of a large table; `after` NULL: from its beginning. */
static void boot_ask(struct node *n, const struct span *after)
{
    uint8_t from[LIMIT_STORE_KEY_BYTES + 1];
    struct store_range range = {.table = large_tables[n->boot_table], .limit = BOOT_PAGE};
    if (after) {
        memcpy(from, after->p, after->n);
        from[after->n] = 0; /* the first key behind it */
        range.from = (struct span){from, after->n + 1};
    }
    n->env->read(n->env->ctx, &range, 1, boot_page, n);
}

/* While these are decoded the next ones are read. */
static void boot_page(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct node *n = arg;
    bool more = count == BOOT_PAGE;
    if (err != GW_OK) {
        boot_failed(n, err, "cannot read the store");
        return;
    }
    if (more) {
        boot_ask(n, &rows[count - 1].key);
    }
    for (size_t i = 0; i < count; i++) {
        boot_row(n, &rows[i]);
    }
    if (more) {
        return;
    }
    if (++n->boot_table < sizeof large_tables / sizeof large_tables[0]) {
        boot_ask(n, NULL);
    } else {
        boot_decoded(n);
    }
}

static void boot_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct node *n = arg;
    if (err != GW_OK) {
        boot_failed(n, err, "cannot read the store");
        return;
    }
    boot_ask(n, NULL);
    for (size_t i = 0; i < count; i++) {
        boot_row(n, &rows[i]);
    }
}

void node_boot_step(struct node *n)
{
    if (n->ready) {
        return;
    }
    for (size_t i = 0; i < n->runner_count; i++) {
        if (n->runners[i].state == RUNNER_STARTING) {
            return;
        }
    }
    if (n->held == HELD_NOT && (n->boot_waits > 0 || builtins_boot(n))) {
        return;
    }
    n->ready = true;
    n->ready_us = n->env->mono_us(n->env->ctx);
    n->cfg.on_ready(n->env->ctx, GW_OK, NULL);
    if (n->held == HELD_RESTORED) {
        restored_begin(n);
    }
    peers_ready(n);
    starts_go(n);
}

static void housekeeping(void *arg)
{
    struct node *n = arg;
    peers_housekeeping(n);
    standing_housekeeping(n);
    created_prune(n);
    work_release(n);
    runners_resume(n);
    intents_retry(n);
    itineraries_retry(n);
    timers_housekeeping(n);
    idle_housekeeping(n);
    starts_go(n);
    watches_housekeeping(n);
    sleepers_housekeeping(n);
    locations_housekeeping(n);
    leftovers_housekeeping(n);
    files_housekeeping(n);
    copies_housekeeping(n);
    stuck_housekeeping(n);
    n->env->timer_start(n->env->ctx, n->housekeeping, HOUSEKEEPING_MS);
}

void node_start(struct node *n)
{
    static const uint8_t nil_agent[GW_ID_BYTES];
    const struct store_range ranges[] = {
        {.table = TABLE_META},
        {.table = TABLE_MEMBERS},
        {.table = TABLE_REQUESTS, .prefix = {nil_agent, sizeof nil_agent}},
        {.table = TABLE_EVENTS, .backwards = true, .limit = 1},
        {.table = TABLE_DEAD, .backwards = true, .limit = 1},
    };
    n->env->read(n->env->ctx, ranges, sizeof ranges / sizeof ranges[0], boot_read, n);
    n->housekeeping = n->env->timer_new(n->env->ctx, housekeeping, n);
    n->env->timer_start(n->env->ctx, n->housekeeping, HOUSEKEEPING_MS);
}

/* ---- stop ---- */

static bool busy(const struct node *n)
{
    if (n->commits_in_flight > 0) {
        return true;
    }
    for (size_t i = 0; i < n->runner_count; i++) {
        if (n->runners[i].in_flight) {
            return true;
        }
    }
    return false;
}

static void tell_stopped(void *arg)
{
    struct node *n = arg;
    n->cfg.on_stopped(n->env->ctx);
}

void node_check_stopped(struct node *n)
{
    if (n->stopping && !n->stopped && !busy(n) && !n->saved) {
        n->saved = true;
        unsaved_save_all(n);
    }
    if (n->stopping && !n->stopped && !busy(n)) {
        n->stopped = true;
        n->env->defer(n->env->ctx, tell_stopped, n);
    }
}

static void stop_patience(void *arg)
{
    struct node *n = arg;
    if (!n->stopped) {
        log_warn("stop.late",
                 "handlers still run after %d ms; their messages are not answered, their "
                 "agents keep the state of their last commit",
                 STOP_PATIENCE_MS);
        for (size_t i = 0; i < n->runner_count; i++) {
            outcome_lost(&n->runners[i], "the host is stopping");
        }
        node_check_stopped(n);
    }
}

void node_stop(struct node *n)
{
    if (n->stopping) {
        return;
    }
    n->stopping = true;
    n->env->timer_free(n->env->ctx, n->housekeeping);
    n->housekeeping = n->env->timer_new(n->env->ctx, stop_patience, n);
    n->env->timer_start(n->env->ctx, n->housekeeping, STOP_PATIENCE_MS);
    struct gw_error why;
    gw_fail(&why, GW_ESTOPPING, "host \"%s\" is stopping", n->name);
    pressure_refuse_all(n, &why);
    struct agent *a, *next;
    HASH_ITER (hh, n->agents, a, next) { /* one that is being created ends with its create */
        work_refuse_queued(n, a, &why);
    }
    later_stop(n, &why);
    node_check_stopped(n);
}

/* ---- calls ---- */

void node_call(struct node *n, struct op_call *call)
{
    struct gw_error why;
    if (n->stopping && call->op->role != ROLE_NONE && call->op->run != op_status) {
        gw_fail(&why, GW_ESTOPPING, "host \"%s\" is stopping", n->name);
        op_fail(call, &why);
        return;
    }
    if (!n->ready && call->op->role != ROLE_NONE) {
        /* A host that asks for somebody under a key asks again. */
        bool again = call_is_hop(call) && gw_map_str(&call->args, "key", NULL);
        gw_fail(&why, again ? GW_EPENDING : GW_EBUSY, "host \"%s\" is starting", n->name);
        op_fail(call, &why);
        return;
    }
    struct peer *from = call->peer ? peer_find(n, call->peer) : NULL;
    if (held_refuse(n, call->op, from, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    if (call_begin(n, call, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    if (from) {
        standing_talk(n, from); /* the answer says what this store holds */
    }
    if (!pipeline_holds(n, call)) {
        struct trace before = trace_enter(n, &call->trace);
        call->op->run(n, call); /* may have ended it */
        (void)trace_enter(n, &before);
    }
}

void op_stop(struct node *n, struct op_call *call)
{
    gw_value result = gw_nil();
    if (gw_map_set(&result, "stopping", gw_bool(true)) != GW_OK) {
        gw_value_free(&result);
    }
    op_ok(call, &result);
    n->cfg.on_stop_asked(n->env->ctx);
}

/* ---- life ---- */

static void copy_text(char *ret, size_t cap, const char *text)
{
    bool fits = span_text((struct span){(const uint8_t *)text, strlen(text)}, ret, cap);
    gw_assert(fits);
}

static gw_err copy_strs(const gw_strs *from, gw_strs *to)
{
    for (size_t i = 0; from && i < from->len; i++) {
        GW_TRY(gw_strs_add(to, from->items[i]));
    }
    return GW_OK;
}

gw_err node_new(const struct node_config *config, const struct gw_env *env, struct node **ret)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n) {
        return GW_ENOMEM;
    }
    n->env = env;
    n->cfg = *config;
    copy_text(n->name, sizeof n->name, config->name);
    copy_text(n->url, sizeof n->url, config->url);
    copy_text(n->mesh_id, sizeof n->mesh_id, config->mesh_id);
    n->started_us = env->mono_us(env->ctx);
    n->next_stream = 1;
    TAILQ_INIT(&n->hints);
    TAILQ_INIT(&n->endings);
    LIST_INIT(&n->orphaned);
    LIST_INIT(&n->files_asked);
    LIST_INIT(&n->files_outs);
    n->left = leftovers_new(n);
    struct node_limits *max = &n->cfg.limits;
    max->mailbox = max->mailbox ? max->mailbox : LIMIT_MAILBOX_MESSAGES;
    max->mailbox_bytes = max->mailbox_bytes ? max->mailbox_bytes : LIMIT_MAILBOX_BYTES;
    max->agents = max->agents ? max->agents : LIMIT_AGENTS;
    max->stuck_ms = max->stuck_ms ? max->stuck_ms : LIMIT_HANDLER_MS;
    max->staged = max->staged ? max->staged : LIMIT_STAGED_PER_PEER;
    max->hosts_named = max->hosts_named ? max->hosts_named : LIMIT_HOSTS_NAMED;
    max->events = max->events ? max->events : LIMIT_EVENTS_KEPT;
    max->lost_ms = max->lost_ms ? max->lost_ms : NODE_LOST_MS;
    timers_init(n);
    sleepers_init(n);
    inline_init(n);
    standing_init(n);
    if (config->machine) {
        memcpy(n->standing.here, config->machine, sizeof n->standing.here);
        n->cfg.machine = n->standing.here;
    }
    struct host_id id = host_id_of_key(config->key.public_key);
    n->self = peer_intern(n, &id);
    n->self->self = n->self->up = true;
    poster_init(n);
    memcpy(n->self->key, config->key.public_key, sizeof n->self->key);
    n->self->has_key = true;
    copy_text(n->self->name, sizeof n->self->name, n->name);
    copy_text(n->self->url, sizeof n->self->url, n->url);
    n->runner_count = config->plugin_count + (config->builtin_count > 0);
    n->runners = xcalloc(n->runner_count + 1, sizeof *n->runners);
    for (size_t i = 0; i < n->runner_count; i++) {
        n->runners[i].node = n;
        n->runners[i].index = i;
        n->runners[i].builtin = i == config->plugin_count;
    }
    if (copy_strs(config->tags, &n->self->tags) != GW_OK ||
        copy_strs(config->properties, &n->self->properties) != GW_OK) {
        node_free(n);
        return GW_ENOMEM;
    }
    *ret = n;
    return GW_OK;
}

void node_free(struct node *n)
{
    if (!n) {
        return;
    }
    struct agent *a, *next;
    n->stopping = n->ended = true;
    n->env->timer_free(n->env->ctx, n->housekeeping);
    peers_forget_requests(n);
    restored_free(n);
    rivals_free(n);
    calls_again_free(n);
    later_free(n);
    pressure_free(n);
    tells_free(n);
    runners_free(n);
    tickets_out_free(n);
    tickets_in_free(n);
    drains_free(n);
    builtins_free(n);
    inline_free(n);
    HASH_ITER (hh, n->agents, a, next) {
        if (a->live) {
            work_drop_all(a);
            a->live->incarnation = 0;
        }
        agent_remove(n, a);
    }
    topics_free(n);
    struct alias *alias, *next_alias;
    HASH_ITER (hh, n->aliases, alias, next_alias) { /* of sleepers */
        HASH_DEL(n->aliases, alias);
        free(alias);
    }
    sleepers_free(n);
    timers_free(n);
    starts_free(n);
    mailbox_free(n);
    created_free(n);
    events_free(n);
    dead_free(n);
    leftovers_free(n);
    files_free(n);
    copies_free(n);
    locations_free(n);
    types_free(n);
    peers_free(n);
    works_free(n);
    free(n->runners);
    sodium_memzero(&n->cfg.key, sizeof n->cfg.key);
    free(n);
}

void node_each_agent(struct node *n, bool (*visit)(void *arg, const struct node_agent_view *view),
                     void *arg)
{
    for (struct agent *a = n->agents; a; a = a->hh.next) {
        bool runnable =
            n->held == HELD_NOT &&
            (a->status == AGENT_ACTIVE || a->status == AGENT_INACTIVE || a->status == AGENT_MOVING);
        struct node_agent_view view = {a->id, a->epoch, agent_status_names[a->status], runnable};
        if (!visit(arg, &view)) {
            return;
        }
    }
    for (size_t i = 0; i < sleepers_count(n); i++) {
        struct sleeper_view s = sleepers_at(n, i);
        struct node_agent_view view = {*s.id, s.epoch, agent_status_names[AGENT_INACTIVE],
                                       n->held == HELD_NOT};
        if (!visit(arg, &view)) {
            return;
        }
    }
    for (struct move_in *m = n->moves_in; m; m = m->hh.next) {
        struct node_agent_view view = {m->agent, m->epoch, "staged", false};
        if (!visit(arg, &view)) {
            return;
        }
    }
    const struct ticket_out *t;
    const struct move_out *m;
    TICKET_OUT_EACH(n, t, m)
    {
        struct node_agent_view view = {m->agent_id, m->epoch, "departed", false};
        if (ticket_out_has_left(t) && !visit(arg, &view)) {
            return;
        }
    }
}

size_t node_moves_count(const struct node *n)
{
    size_t count = HASH_COUNT(n->moves_in);
    for (const struct ticket_out *t = n->tickets_out; t; t = t->hh.next) {
        count += t->count;
    }
    return count;
}
