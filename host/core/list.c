/* Operations that only look: health, status, hosts, types, agents, show, moves. */
#include "host/core/handoff.h"
#include "host/core/itinerary.h"
#include "host/core/sleepers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#ifndef GODWIT_VERSION
#define GODWIT_VERSION "0.1.0"
#endif

#define FAN_OUT_MS 5000
#define PART_MAX   (2 * LIMIT_STAGED_PER_PEER) /* entries that are taken of one host's answer */

/* One failed allocation makes the whole answer an error rather than a part. */
struct out {
    gw_value v;
    gw_err err;
};
static void put(struct out *o, const char *key, gw_value v)
{
    gw_err err = gw_map_set(&o->v, key, v);
    o->err = o->err == GW_OK ? err : o->err;
}
static void add(struct out *o, gw_value v)
{
    gw_err err = gw_list_add(&o->v, v);
    o->err = o->err == GW_OK ? err : o->err;
}
static void put_out(struct out *o, const char *key, struct out *inner)
{
    o->err = o->err == GW_OK ? inner->err : o->err;
    put(o, key, inner->v);
}
static void put_copy(struct out *o, const char *key, const gw_value *from)
{
    gw_value copy = gw_nil();
    gw_err err = from ? gw_value_copy(from, &copy) : GW_OK;
    o->err = o->err == GW_OK ? err : o->err;
    put(o, key, copy);
}
static void answer(struct op_call *call, struct out *o)
{
    if (o->err == GW_OK) {
        op_ok(call, &o->v);
        return;
    }
    struct gw_error why;
    gw_value_free(&o->v);
    gw_fail(&why, o->err, "the answer could not be put together: %s", gw_err_text(o->err));
    op_fail(call, &why);
}
static gw_value id_text_value(const gw_id *id)
{
    char text[GW_ID_TEXT];
    return gw_str(gw_id_text(id, text));
}
static gw_value strs_list(const gw_strs *list)
{
    struct out o = {.v = {.kind = GW_LIST}};
    for (size_t i = 0; i < list->len; i++) {
        add(&o, gw_str(list->items[i]));
    }
    return o.v;
}

/* ---- the host ---- */

void op_health(struct node *n, struct op_call *call)
{
    struct out o = {0};
    put(&o, "status", gw_str(n->stopping ? "stopping" : n->ready ? "ok" : "starting"));
    put(&o, "name", gw_str(n->name));
    put(&o, "version", gw_str(GODWIT_VERSION));
    answer(call, &o);
}

/* Of a store that is an old copy, and of one whose host still asks the mesh about it. */
static const char *const held_states[] = {
    [HELD_NOT] = "ok", [HELD_STALE] = "stale", [HELD_RESTORED] = "restored"};

void op_status(struct node *n, struct op_call *call)
{
    struct out o = {0}, agents = {0}, moves = {0};
    char id[HOST_ID_TEXT];
    size_t links = 0, types = 0;
    for (const struct peer *p = n->peers; p; p = p->hh.next) {
        links += p->up && !p->self;
    }
    for (const struct type *t = n->types; t; t = t->hh.next) {
        types += type_offered(t);
    }
    size_t moving = node_moves_count(n);
    put(&agents, "active", gw_int((int64_t)n->active_count));
    put(&agents, "inactive", gw_int((int64_t)n->inactive_count));
    put(&agents, "builtin", gw_int((int64_t)n->builtin_count));
    put(&agents, "moving", gw_int((int64_t)moving));
    put(&moves, "out", gw_int((int64_t)n->moves_out_count));
    put(&moves, "in", gw_int((int64_t)n->moves_in_count));
    put(&moves, "aborted", gw_int((int64_t)n->moves_aborted_count));
    put(&o, "name", gw_str(n->name));
    put(&o, "host_id", gw_str(host_id_text(&n->self->id, id)));
    put(&o, "url", gw_str(n->url));
    put(&o, "version", gw_str(GODWIT_VERSION));
    put(&o, "mesh_id", gw_str(n->mesh_id));
    put(&o, "pid", gw_int(getpid()));
    put(&o, "boot", gw_int((int64_t)n->boot));
    put(&o, "standing", gw_str(held_states[n->held]));
    put(&o, "uptime_ms", gw_int((n->env->mono_us(n->env->ctx) - n->started_us) / 1000));
    put_out(&o, "agents", &agents);
    put(&o, "links", gw_int((int64_t)links));
    put(&o, "types", gw_int((int64_t)types));
    put(&o, "messages", gw_int((int64_t)n->messages_count));
    put(&o, "stuck", gw_int((int64_t)stuck_count(n)));
    put_out(&o, "moves", &moves);
    if (n->cfg.add_status && o.err == GW_OK) {
        o.err = n->cfg.add_status(n->env->ctx, &o.v);
    }
    answer(call, &o);
}

static const char *host_state(const struct node *n, const struct peer *p)
{
    held_state h = p->self ? n->held : p->hello ? p->held : HELD_NOT;
    return h != HELD_NOT ? held_states[h] : p->up ? "alive" : "failed";
}

void op_hosts(struct node *n, struct op_call *call)
{
    struct out o = {0}, list = {.v = {.kind = GW_LIST}};
    char id[HOST_ID_TEXT];
    for (const struct peer *p = n->peers; p; p = p->hh.next) {
        struct out one = {0};
        if (!p->name[0]) {
            continue; /* heard of, never met */
        }
        put(&one, "name", gw_str(p->name));
        put(&one, "host_id", gw_str(host_id_text(&p->id, id)));
        put(&one, "url", gw_str(p->url));
        put(&one, "state", gw_str(host_state(n, p)));
        put(&one, "tags", strs_list(&p->tags));
        put(&one, "properties", strs_list(&p->properties));
        put(&one, "self", gw_bool(p->self));
        list.err = list.err == GW_OK ? one.err : list.err;
        add(&list, one.v);
    }
    put_out(&o, "hosts", &list);
    answer(call, &o);
}

static gw_value runner_value(const struct runner *r)
{
    struct out o = {0};
    put(&o, "state", gw_str(runner_state_name(r->state)));
    put(&o, "pid", gw_int(r->pid));
    put(&o, "restarts", gw_int(r->restarts));
    if (r->problem[0]) {
        put(&o, "problem", gw_str(r->problem));
    }
    return o.v;
}

void op_types(struct node *n, struct op_call *call)
{
    struct out o = {0}, list = {.v = {.kind = GW_LIST}}, broken = {.v = {.kind = GW_LIST}};
    struct gw_error why;
    const char *name = gw_map_str(&call->args, "name", NULL);
    for (const struct type *t = n->types; t; t = t->hh.next) {
        struct out one = {0};
        if (!t->runner || !t->about || (name && strcmp(name, t->name) != 0)) {
            continue;
        }
        put(&one, "name", gw_str(t->name));
        put(&one, "version", gw_int(t->version));
        put(&one, "plugin", gw_str(runner_label(t->runner)));
        put_copy(&one, "durability", gw_map_get(t->about, "durability"));
        put_copy(&one, "fields", gw_map_get(t->about, "fields"));
        put_copy(&one, "methods", gw_map_get(t->about, "methods"));
        put(&one, "runner", runner_value(t->runner));
        list.err = list.err == GW_OK ? one.err : list.err;
        add(&list, one.v);
    }
    if (name && list.v.list.n == 0) {
        gw_fail(&why, GW_ETYPE_NOT_FOUND, "host \"%s\" has no agent type \"%.64s\"", n->name, name);
        gw_hint(&why, "`godwit types` lists what it has");
        gw_value_free(&list.v);
        op_fail(call, &why);
        return;
    }
    for (size_t i = 0; i < n->runner_count; i++) {
        if (n->runners[i].state == RUNNER_BROKEN) {
            struct out one = {0};
            put(&one, "plugin", gw_str(runner_label(&n->runners[i])));
            put(&one, "problem", gw_str(n->runners[i].problem));
            put(&one, "hint", gw_str(n->runners[i].hint));
            add(&broken, one.v);
        }
    }
    put_out(&o, "types", &list);
    put_out(&o, "broken", &broken);
    answer(call, &o);
}

/* ---- agents ---- */

struct listing {
    struct node *n;
    struct op_call *call;
    struct out rows, errors;
    size_t asking;
    bool more; /* another host has more than it gave */
    void (*end)(struct listing *l);
};

static gw_value agent_entry(struct node *n, const gw_id *id, const char *type, const char *status,
                            uint64_t epoch, const char *alias)
{
    struct out one = {0};
    put(&one, "agent", id_text_value(id));
    put(&one, "type", gw_str(type));
    put(&one, "host", gw_str(n->name));
    put(&one, "status", gw_str(status));
    put(&one, "epoch", gw_int((int64_t)epoch));
    if (alias && alias[0]) {
        put(&one, "alias", gw_str(alias));
    }
    return one.v;
}

struct filter {
    const gw_id *after;
    const char *type, *status; /* NULL: any */
};

static bool passes(const struct filter *f, const gw_id *id, const char *type, const char *status)
{
    return memcmp(id, f->after, sizeof *id) > 0 && (!f->type || strcmp(f->type, type) == 0) &&
           (!f->status || strcmp(f->status, status) == 0);
}

static int by_agent(const void *a, const void *b)
{
    const gw_value *x = a, *y = b;
    return strcmp(gw_map_str(x, "agent", ""), gw_map_str(y, "agent", ""));
}

/* One that may be on the page; what is pointed at stays while the page is chosen. */
struct candidate {
    const gw_id *id;
    const char *type, *status, *alias;
    uint64_t epoch;
};
/* The `cap` smallest ids seen so far, as a heap with the largest on top: one pass over any number
 * of agents. */
struct page {
    struct candidate rows[LIMIT_PAGE + 1];
    size_t count, cap;
};

static bool above(const struct candidate *a, const struct candidate *b)
{
    return memcmp(a->id, b->id, sizeof *a->id) > 0;
}

static void sink(struct page *p, size_t i)
{
    for (;;) {
        size_t top = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < p->count; child++) {
            top = above(&p->rows[child], &p->rows[top]) ? child : top;
        }
        if (top == i) {
            return;
        }
        struct candidate t = p->rows[i];
        p->rows[i] = p->rows[top];
        p->rows[top] = t;
        i = top;
    }
}

static void offer(struct page *p, struct candidate c)
{
    if (p->count == p->cap) {
        if (above(&p->rows[0], &c)) {
            p->rows[0] = c;
            sink(p, 0);
        }
        return;
    }
    p->rows[p->count++] = c;
    for (size_t i = p->count == p->cap ? p->count / 2 : 0; i-- > 0;) {
        sink(p, i); /* full for the first time */
    }
}

static void offer_sleepers(struct node *n, struct page *p, const struct filter *f)
{
    const char *status = agent_status_names[AGENT_INACTIVE];
    const struct type *want = f->type ? type_find(n, f->type) : NULL;
    size_t count = sleepers_count(n);
    if ((f->type && !want) || (f->status && strcmp(f->status, status) != 0)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct sleeper_view s = sleepers_at(n, i);
        if ((!want || s.type == want) && memcmp(s.id, f->after, sizeof *s.id) > 0) {
            offer(p, (struct candidate){s.id, s.type->name, status, NULL, s.epoch});
        }
    }
}

static void local_agents(struct listing *l, const gw_id *after)
{
    struct node *n = l->n;
    const struct filter f = {after, gw_map_str(&l->call->args, "type", NULL),
                             gw_map_str(&l->call->args, "status", NULL)};
    struct page *p = xcalloc(1, sizeof *p);
    p->cap = (size_t)gw_map_int(&l->call->args, "limit", 100) +
             1; /* one more says that there is a next page */
    p->cap = p->cap < LIMIT_PAGE + 1 ? p->cap : LIMIT_PAGE + 1;
    bool residents =
        gw_map_bool(&l->call->args, "builtin", false) || gw_map_str(&l->call->args, "type", NULL);
    for (const struct agent *a = n->agents; a; a = a->hh.next) {
        const char *status = agent_status_names[a->status];
        if (!a->unborn && (residents || !builtin_is_resident(a->type)) &&
            passes(&f, &a->id, a->type->name, status)) {
            offer(p, (struct candidate){&a->id, a->type->name, status, a->alias, a->epoch});
        }
    }
    offer_sleepers(n, p, &f);
    for (const struct move_in *m = n->moves_in; m; m = m->hh.next) {
        if (passes(&f, &m->agent, m->row.type, "staged")) {
            offer(p, (struct candidate){&m->agent, m->row.type, "staged", m->row.alias, m->epoch});
        }
    }
    const struct ticket_out *t;
    const struct move_out *m;
    TICKET_OUT_EACH(n, t, m)
    {
        if (ticket_out_has_left(t) && passes(&f, &m->agent_id, m->type, "departed")) {
            offer(p, (struct candidate){&m->agent_id, m->type, "departed", NULL, m->epoch});
        }
    }
    for (size_t i = 0; i < p->count; i++) {
        const struct candidate *c = &p->rows[i];
        char alias[LIMIT_ALIAS_BYTES + 1];
        sleepers_alias(n, c->id, alias);
        add(&l->rows,
            agent_entry(n, c->id, c->type, c->status, c->epoch, alias[0] ? alias : c->alias));
    }
    free(p);
}

static void listing_end(struct listing *l)
{
    struct out o = {0};
    size_t limit = (size_t)gw_map_int(&l->call->args, "limit", 100);
    gw_value *list = &l->rows.v;
    if (list->list.n > 1) {
        qsort(list->list.items, list->list.n, sizeof *list->list.items, by_agent);
    }
    bool more = list->list.n > limit || (l->more && list->list.n > 0);
    while (list->list.n > limit) {
        gw_value_free(&list->list.items[--list->list.n]);
    }
    const gw_value *last = more ? &list->list.items[list->list.n - 1] : NULL;
    gw_value next = more ? gw_str(gw_map_str(last, "agent", "")) : gw_nil();
    put_out(&o, "agents", &l->rows);
    put(&o, "next", next);
    if (l->errors.v.list.n > 0) {
        put_out(&o, "errors", &l->errors);
    } else {
        gw_value_free(&l->errors.v);
    }
    answer(l->call, &o);
    free(l);
}

struct part {
    struct listing *l;
    struct peer *from;
    const char *key; /* the list in the other host's answer */
};

static void have_part(void *arg, gw_err err, const struct frame *f)
{
    struct part *p = arg;
    struct listing *l = p->l;
    uint32_t code = GW_EFAIL;
    gw_value answered = gw_nil();
    struct mp m = f ? f->rest : (struct mp){0};
    if (err == GW_OK && mp_read_u32(&m, &code) == GW_OK && code == GW_OK &&
        value_unpack(&m, &answered) == GW_OK) {
        const gw_value *list = gw_map_get(&answered, p->key);
        l->more |= gw_map_str(&answered, "next", "")[0] != '\0';
        for (size_t i = 0; list && list->kind == GW_LIST && i < list->list.n && i < PART_MAX; i++) {
            gw_value copy = gw_nil();
            if (list->list.items[i].kind != GW_MAP) {
                continue;
            }
            if (gw_value_copy(&list->list.items[i], &copy) == GW_OK) {
                add(&l->rows, copy);
            }
        }
    } else if (err != GW_ECANCELLED) {
        struct out one = {0};
        put(&one, "host", gw_str(peer_label(p->from)));
        put(&one, "code", gw_str(gw_err_name(err != GW_OK ? err : gw_err_from_wire(code))));
        add(&l->errors, one.v);
    }
    gw_value_free(&answered);
    free(p);
    if (--l->asking == 0) {
        l->end(l);
    }
}

/* Ask every member the same, locally there; members that are down become entries of `errors`. */
static void ask_all(struct listing *l, const char *key)
{
    struct node *n = l->n;
    gw_value args = gw_nil();
    if (gw_value_copy(&l->call->args, &args) != GW_OK ||
        gw_map_set(&args, "all", gw_bool(false)) != GW_OK) {
        gw_value_free(&args);
        return;
    }
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (p->self || !p->name[0]) {
            continue;
        }
        struct part *part = xcalloc(1, sizeof *part);
        *part = (struct part){l, p, key};
        struct buf frame = {0};
        uint64_t stream = peer_stream(n);
        size_t at = frame_begin(&frame, FRAME_CALL, stream, 3);
        mp_str(&frame, l->call->op->name);
        value_pack(&args, &frame);
        mp_nil(&frame);
        frame_end(&frame, at);
        l->asking++;
        peer_request(n, p, stream, &frame, FAN_OUT_MS, have_part, part);
    }
    gw_value_free(&args);
}

static struct listing *listing_new(struct node *n, struct op_call *call)
{
    struct listing *l = xcalloc(1, sizeof *l);
    *l = (struct listing){.n = n, .call = call, .asking = 1};
    l->rows.v.kind = l->errors.v.kind = GW_LIST;
    return l;
}

void op_agents(struct node *n, struct op_call *call)
{
    struct gw_error why;
    gw_id after = {{0}};
    const char *cursor = gw_map_str(&call->args, "after", NULL);
    if (cursor && gw_id_parse(cursor, &after) != GW_OK) {
        gw_fail(&why, GW_EARG, "\"%.40s\" is not a cursor; give the `next` of the page before",
                cursor);
        op_fail(call, &why);
        return;
    }
    struct listing *l = listing_new(n, call);
    l->end = listing_end;
    local_agents(l, &after);
    if (gw_map_bool(&call->args, "all", false)) {
        ask_all(l, "agents");
    }
    if (--l->asking == 0) {
        l->end(l);
    }
}

/* ---- show ---- */

struct showing {
    struct node *n;
    struct op_call *call;
    gw_id id;
};

/* A renamed field is stored under its first name; people know it by the present one. */
static const char *present_name(const struct type *t, const char *stored)
{
    const gw_value *fields = t->about ? gw_map_get(t->about, "fields") : NULL;
    for (size_t i = 0; fields && fields->kind == GW_LIST && i < fields->list.n; i++) {
        const gw_value *f = &fields->list.items[i];
        if (strcmp(gw_map_str(f, "alias", ""), stored) == 0) {
            return gw_map_str(f, "name", stored);
        }
    }
    return stored;
}

/* The state as JSON wants it: the map of the small fields, and each large field by its name. */
static gw_value state_value(const struct type *t, const struct storage_row *rows, size_t n,
                            struct out *o)
{
    struct out state = {.v = {.kind = GW_MAP}};
    for (size_t i = 0; i < n; i++) {
        gw_value part = gw_nil();
        char name[LIMIT_NAME_BYTES + 1];
        struct span key = {rows[i].key.p + ROW_KEY_BYTES, rows[i].key.n - ROW_KEY_BYTES};
        if (rows[i].table != TABLE_STATES || !span_text(key, name, sizeof name)) {
            continue;
        }
        if (key.n > 0 && rows[i].value.n > LIMIT_STORE_INLINE_BYTES) {
            put(&state, present_name(t, name), gw_strf("(%zu bytes)", rows[i].value.n));
            continue;
        }
        if (value_unpack_span(rows[i].value, &part) != GW_OK) {
            put(&state, key.n ? present_name(t, name) : "?", gw_str("(does not decode)"));
        } else if (key.n > 0) {
            put(&state, present_name(t, name), part);
        } else {
            for (size_t k = 0; part.kind == GW_MAP && k < part.map.n; k++) {
                const char *stored = part.map.items[k].key;
                if (stored[0] && stored[0] != '~') { /* else of the runtime: versions */
                    put_copy(&state, present_name(t, stored), &part.map.items[k].value);
                }
            }
            gw_value_free(&part);
        }
    }
    o->err = o->err == GW_OK ? state.err : o->err;
    return state.v;
}

/* A quarantined agent is shown without what cannot be read; another one is quarantined for it. */
static gw_err see_damage(struct node *n, const struct agent *a, gw_err err, size_t *count)
{
    if (err == GW_ECORRUPT && a && a->status == AGENT_QUARANTINED) {
        *count = 0;
        return GW_OK;
    }
    if (err == GW_ECORRUPT && a) {
        crashes_damaged(n, &a->id, "it cannot be read");
    }
    return err;
}

static void have_state(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct showing *s = arg;
    struct node *n = s->n;
    struct op_call *call = s->call;
    struct agent *a = agent_find(n, &s->id);
    struct out o = {0}, mailbox = {0};
    char id[HOST_ID_TEXT];
    free(s);
    err = see_damage(n, a, err, &count);
    if (err != GW_OK || !a) {
        struct gw_error why;
        gw_fail(&why, err == GW_OK ? GW_EAGENT_NOT_FOUND : err, "the agent cannot be read: %s",
                err == GW_OK ? "it has just left" : gw_err_text(err));
        op_fail(call, &why);
        return;
    }
    put(&mailbox, "queued", gw_int(a->live ? (int64_t)a->live->queued : 0));
    put(&o, "agent", id_text_value(&a->id));
    put(&o, "type", gw_str(a->type->name));
    put(&o, "version", gw_int(a->type->version));
    put(&o, "host", gw_str(n->name));
    put(&o, "host_id", gw_str(host_id_text(&n->self->id, id)));
    put(&o, "home", gw_str(peer_label(peer_intern(n, a->home))));
    put(&o, "epoch", gw_int((int64_t)a->epoch));
    put(&o, "status", gw_str(agent_status_names[a->status]));
    if (a->fault) {
        put(&o, "fault", gw_str(a->fault));
    }
    put(&o, "alias", a->alias ? gw_str(a->alias) : gw_nil());
    put(&o, "of", gw_id_is_nil(&a->of) ? gw_nil() : id_text_value(&a->of));
    put(&o, "created", gw_time_value((gw_time){a->created_ms}));
    const struct move_out *move = move_out_of(a);
    if (move) {
        put(&o, "ticket", id_text_value(&move->t->id));
        put(&o, "to", gw_str(peer_label(move->t->to)));
    }
    size_t shown;
    struct storage_row *all = unsaved_over(a, rows, count, &shown);
    put(&o, "state", state_value(a->type, all, shown, &o));
    free(all);
    put_out(&o, "mailbox", &mailbox);
    gw_value files = gw_nil();
    o.err = o.err == GW_OK ? files_describe(n, a, &files) : o.err;
    put(&o, "files", files);
    gw_value timers = gw_nil(), running = gw_nil();
    o.err = o.err == GW_OK ? stuck_value(a, &running) : o.err;
    put(&o, "running", running);
    o.err = o.err == GW_OK ? timers_describe(n, a, &timers) : o.err;
    put(&o, "timers", timers);
    gw_value topics = gw_nil();
    o.err = o.err == GW_OK ? topics_describe(n, a, &topics) : o.err;
    put(&o, "topics", topics);
    gw_value owed = gw_nil();
    o.err = o.err == GW_OK ? later_describe(n, a, rows, count, &owed) : o.err;
    put(&o, "owed", owed);
    gw_value sleep = gw_nil();
    o.err = o.err == GW_OK ? sleep_describe(n, a, &sleep) : o.err;
    put(&o, "sleep", sleep);
    o.err = o.err == GW_OK ? watches_describe(n, a, &o.v) : o.err;
    gw_value itinerary = gw_nil();
    o.err = o.err == GW_OK ? itinerary_describe(a, &itinerary) : o.err;
    put(&o, "itinerary", itinerary);
    answer(call, &o);
}

static void show_local(struct node *n, struct op_call *call, struct agent *a)
{
    uint8_t raw[ROW_KEY_BYTES];
    struct showing *s = xcalloc(1, sizeof *s);
    *s = (struct showing){n, call, a->id};
    struct span key = row_key(raw, &a->id, a->epoch);
    const struct store_range ranges[] = {{.table = TABLE_STATES, .prefix = key},
                                         {.table = TABLE_REQUESTS, .prefix = key}};
    n->env->read(n->env->ctx, ranges, a->live && a->live->known ? 1 : 2, have_state, s);
}

void op_show(struct node *n, struct op_call *call)
{
    route_call(n, call, show_local);
}

/* ---- moves ---- */

static void move_row(struct listing *l, const gw_id *ticket, const gw_id *agent, uint64_t epoch,
                     const char *from, const char *to, const char *phase, bool in_doubt,
                     int64_t since_ms)
{
    struct out one = {0};
    put(&one, "ticket", id_text_value(ticket));
    put(&one, "agent", id_text_value(agent));
    put(&one, "epoch", gw_int((int64_t)epoch));
    put(&one, "from", gw_str(from));
    put(&one, "to", gw_str(to));
    put(&one, "host", gw_str(l->n->name));
    put(&one, "phase", gw_str(phase));
    put(&one, "in_doubt", gw_bool(in_doubt));
    put(&one, "since", gw_time_value((gw_time){since_ms}));
    l->rows.err = l->rows.err == GW_OK ? one.err : l->rows.err;
    add(&l->rows, one.v);
}

static void moves_end(struct listing *l)
{
    struct out o = {0};
    put_out(&o, "moves", &l->rows);
    if (l->errors.v.list.n > 0) {
        put_out(&o, "errors", &l->errors);
    } else {
        gw_value_free(&l->errors.v);
    }
    answer(l->call, &o);
    free(l);
}

void op_moves(struct node *n, struct op_call *call)
{
    struct listing *l = listing_new(n, call);
    l->end = moves_end;
    const struct ticket_out *t;
    const struct move_out *out;
    TICKET_OUT_EACH(n, t, out)
    {
        bool doubt = t->phase == OUT_DEPARTED && (!t->to->up || out->unknown);
        move_row(l, &t->id, &out->agent_id, out->epoch, n->name, peer_label(t->to),
                 out_phase_name(t->phase), doubt, t->since_ms);
    }
    for (const struct move_in *m = n->moves_in; m; m = m->hh.next) {
        char from[LIMIT_NAME_BYTES + 1];
        (void)span_text(
            (struct span){(const uint8_t *)peer_label(m->t->from), strlen(peer_label(m->t->from))},
            from, sizeof from);
        move_row(l, &m->t->id, &m->agent, m->epoch, from, n->name, in_phase_name(m->t->phase),
                 m->t->phase == IN_STAGED && m->t->silent, m->t->since_ms);
    }
    if (gw_map_bool(&call->args, "all", false)) {
        ask_all(l, "moves");
    }
    if (--l->asking == 0) {
        l->end(l);
    }
}
