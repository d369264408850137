/* Creating agents, here or on another host, and cloning them: one file of more than 700 lines, for
 * both go by the same records of keys.
 *
 * A create that carries a key is made once: the entry host writes {key, agent id, chosen host}
 * before it sends, the executing host writes the key with the agent; a repeat through the same
 * entry host finds the same id. */
#include "host/core/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/core/reach.h"

/* ---- remembered keys ---- */

#define CREATED_KEY_BYTES (GW_ID_BYTES + 8 + REQUEST_KEY_BYTES)

/* nil agent | time | key: rows of a time lie together, so that a burst of creates writes few pages.
 */
static struct span created_key(uint8_t raw[CREATED_KEY_BYTES], const struct created *c)
{
    memset(raw, 0, GW_ID_BYTES);
    store_u64(raw + GW_ID_BYTES, (uint64_t)c->at_ms);
    memcpy(raw + GW_ID_BYTES + 8, c->key, REQUEST_KEY_BYTES);
    return (struct span){raw, CREATED_KEY_BYTES};
}

static void created_put(struct store_batch *batch, const struct created *c, bool done)
{
    uint8_t raw[CREATED_KEY_BYTES];
    struct buf value = {0};
    mp_array(&value, 4);
    mp_id(&value, &c->agent);
    mp_bin(&value, c->host->id.b, HOST_ID_BYTES);
    mp_str(&value, c->type);
    mp_bool(&value, done);
    store_batch_put_take(batch, TABLE_REQUESTS, created_key(raw, c), &value);
    buf_free(&value);
}

static void created_drop(struct node *n, struct created *c)
{
    HASH_DEL(n->created, c);
    free(c->type);
    free(c);
}

void created_boot_row(struct node *n, struct span key, struct span value)
{
    struct mp m = mp_over(value);
    size_t fields;
    struct host_id host;
    char type[LIMIT_NAME_BYTES + 1];
    struct created *c = xcalloc(1, sizeof *c);
    if (key.n == CREATED_KEY_BYTES && mp_read_array(&m, &fields) == GW_OK && fields >= 4 &&
        mp_read_id(&m, &c->agent) == GW_OK && mp_read_fixed(&m, host.b, HOST_ID_BYTES) == GW_OK &&
        mp_read_text(&m, type, sizeof type) == GW_OK && mp_read_bool(&m, &c->done) == GW_OK) {
        struct created *old;
        c->at_ms = (int64_t)load_u64(key.p + GW_ID_BYTES);
        c->unsure = true;
        c->host = peer_intern(n, &host);
        c->type = xstrdup(type);
        memcpy(c->key, key.p + GW_ID_BYTES + 8, REQUEST_KEY_BYTES);
        HASH_FIND(hh, n->created, c->key, REQUEST_KEY_BYTES, old);
        if (old) { /* its deletion was rolled back; the newer one counts */
            created_drop(n, old);
        }
        HASH_ADD(hh, n->created, key, REQUEST_KEY_BYTES, c);
    } else {
        free(c);
    }
}

static void created_forget(struct node *n, struct created *c)
{
    uint8_t raw[CREATED_KEY_BYTES];
    struct store_batch *batch = store_batch_new();
    store_batch_del(batch, TABLE_REQUESTS, created_key(raw, c));
    node_commit(n, batch, POINT_KEY_FORGOTTEN, NULL, NULL);
    created_drop(n, c);
}

void created_free(struct node *n)
{
    struct created *c, *next;
    HASH_ITER (hh, n->created, c, next) {
        created_drop(n, c);
    }
}

void created_prune(struct node *n)
{
    int64_t oldest = node_now_ms(n) - LIMIT_REQUEST_AGE_MS;
    struct created *c, *next;
    struct store_batch *batch = NULL;
    HASH_ITER (hh, n->created, c, next) {
        size_t count = HASH_COUNT(n->created);
        if (count <= LIMIT_CREATED_KEPT || (c->at_ms >= oldest && count <= LIMIT_CREATED_KEYS)) {
            break;
        }
        if (c->in_flight) {
            continue; /* somebody holds it */
        }
        uint8_t raw[CREATED_KEY_BYTES];
        batch = batch ? batch : store_batch_new();
        store_batch_del(batch, TABLE_REQUESTS, created_key(raw, c));
        created_drop(n, c);
    }
    if (batch) {
        node_commit(n, batch, POINT_KEYS_PRUNED, NULL, NULL);
    }
}

void request_key_text(const uint8_t raw[REQUEST_KEY_BYTES], char ret[2 * REQUEST_KEY_BYTES + 1])
{
    for (size_t i = 0; i < REQUEST_KEY_BYTES; i++) {
        snprintf(ret + 2 * i, 3, "%02x", raw[i]);
    }
}

void request_key_of(const char *text, uint8_t ret[REQUEST_KEY_BYTES])
{
    crypto_generichash(ret, REQUEST_KEY_BYTES, (const uint8_t *)text, strlen(text), NULL, 0);
}

gw_err request_key_check(const char *key, struct gw_error *why)
{
    if (key && (key[0] == '\0' || strlen(key) > LIMIT_REQUEST_KEY_BYTES)) {
        return gw_fail(why, GW_EARG, "a request key has 1 to %d characters",
                       LIMIT_REQUEST_KEY_BYTES);
    }
    return GW_OK;
}

static struct created *created_find(struct node *n, const char *key)
{
    uint8_t raw[REQUEST_KEY_BYTES];
    struct created *c = NULL;
    if (key) {
        request_key_of(key, raw);
        HASH_FIND(hh, n->created, raw, REQUEST_KEY_BYTES, c);
    }
    return c;
}

static struct created *created_new(struct node *n, const char *key, const gw_id *agent,
                                   struct peer *host, const char *type)
{
    if (!key) {
        return NULL;
    }
    struct created *c = xcalloc(1, sizeof *c);
    request_key_of(key, c->key);
    c->at_ms = node_now_ms(n);
    c->agent = *agent;
    c->host = host;
    c->in_flight = true;
    c->type = xstrdup(strlen(type) <= LIMIT_NAME_BYTES ? type : "");
    HASH_ADD(hh, n->created, key, REQUEST_KEY_BYTES, c);
    return c;
}

/* ---- answers ---- */

static void answer_created(struct op_call *call, const gw_id *agent, const gw_id *of,
                           const char *type, const char *host)
{
    char id[GW_ID_TEXT];
    gw_value result = gw_nil();
    gw_err err = gw_map_set(&result, "agent", gw_str(gw_id_text(agent, id)));
    if (err == GW_OK && of) {
        err = gw_map_set(&result, "of", gw_str(gw_id_text(of, id)));
    }
    if (err != GW_OK || gw_map_set(&result, "type", gw_str(type)) != GW_OK ||
        gw_map_set(&result, "host", gw_str(host)) != GW_OK ||
        gw_map_set(&result, "epoch", gw_int(1)) != GW_OK) {
        gw_value_free(&result);
    }
    op_ok(call, &result);
}

/* ---- create here ---- */

struct creating {
    struct op_call *call;
    struct created *created; /* NULL without key */
    gw_id parent;            /* nil: none */
    bool loose;              /* it outlives its parent */
};

/* Hooks that the type has, out of those that begin a life here. */
uint32_t hooks_to_run(const struct type *t, uint32_t wanted)
{
    return t->hooks & (wanted | 1u << HOOK_RUN);
}

/* An attempt has ended. What may have been made elsewhere all the same keeps its record, so that a
 * repeat names the same agent; once unsure it stays so, for a later refusal says nothing of the
 * first attempt. */
static void created_end(struct node *n, struct created *c, gw_err err)
{
    c->in_flight = false;
    if (err == GW_OK) {
        struct store_batch *batch = store_batch_new();
        c->done = true;
        created_put(batch, c, true);
        node_commit(n, batch, POINT_CREATE_KEY_DONE, NULL,
                    NULL); /* lost: a repeat finds it out again */
        return;
    }
    c->unsure |= err == GW_EUNREACHABLE || err == GW_ETIMEOUT || err == GW_ECANCELLED ||
                 err == GW_EPROTO || err == GW_ECONFLICT;
    if (!c->unsure) {
        created_forget(n, c);
    }
}

static void create_prepare(struct work *w, const struct run_result *r, struct store_batch *batch)
{
    struct creating *c = w->arg;
    struct agent *a = w->agent;
    w->point = POINT_CREATE;
    (void)r;
    a->pending = hooks_to_run(a->type, 0);
    agent_put_row(batch, a, AGENT_ACTIVE, a->pending, a->intent);
    if (c->created) {
        created_put(batch, c->created, true);
    }
    if (!gw_id_is_nil(&c->parent)) {
        watches_begin_child(w, batch, &c->parent, c->loose);
    }
    event_put(w->node, batch,
              &(struct event){.kind = "agent.create", .agent = &a->id, .type = a->type->name});
}

static void create_done(struct work *w, gw_err err, const struct run_result *r,
                        const struct gw_error *why)
{
    struct creating *c = w->arg;
    struct node *n = w->node;
    struct agent *a = w->agent;
    struct op_call *call = c->call;
    (void)r;
    if (err == GW_OK) {
        if (c->created) {
            c->created->done = true;
            c->created->in_flight = false;
        }
        a->unborn = false;
        answer_created(call, &a->id, NULL, a->type->name, n->name);
        if (a->pending) {
            work_push_pending(n, a);
        }
    } else {
        if (c->created) {
            created_drop(n, c->created);
        }
        agent_discard(n, a, why);
        op_fail(call, why);
    }
    free(c);
}

/* An agent that ends before its queue does: what waits is told, then it leaves the registry. */
void agent_discard(struct node *n, struct agent *a, const struct gw_error *why)
{
    struct live *live = a->live;
    struct gw_error gone;
    size_t lost = 0;
    gw_fail(&gone, why->code == GW_EDISPOSED ? GW_EDISPOSED : GW_EAGENT_NOT_FOUND,
            "the agent ended before this message: %.200s", why->text);
    while (live && !TAILQ_EMPTY(&live->queue)) {
        struct work *w = TAILQ_FIRST(&live->queue);
        mailbox_remove(live, w);
        lost += w->inbox > 0;
        w->done(w, gone.code, NULL, &gone);
        work_free(w);
    }
    if (lost > 0) {
        char text[80];
        snprintf(text, sizeof text, "%zu accepted messages ended with the agent", lost);
        event_now(
            n, &(struct event){
                   .kind = "message.failed", .agent = &a->id, .type = a->type->name, .text = text});
    }
    agent_remove(n, a);
}

static gw_err check_create(struct node *n, const struct op_call *call, struct type **ret,
                           struct gw_error *why)
{
    const char *name = gw_map_str(&call->args, "type", "");
    const char *alias = gw_map_str(&call->args, "alias", NULL);
    struct type *t = type_find(n, name);
    struct alias *taken = NULL;
    gw_id as_id;
    if (!t || !type_offered(t)) {
        gw_fail(why, GW_ETYPE_NOT_FOUND, "host \"%s\" has no agent type \"%.64s\"", n->name, name);
        gw_hint(why, "`godwit types` lists what it has; --plugin loads more");
        return why->code;
    }
    if (builtin_is_resident(t) && n->residents_made) {
        return gw_fail(why, GW_EREFUSED,
                       "the agent of built-in type \"%s\" is made by host \"%s\" itself: \"%s\"",
                       t->name, n->name, t->builtin->alias);
    }
    GW_TRY(builtin_is_resident(t) ? GW_OK : agents_room(n, 0, why));
    if (alias && (!name_is_valid(alias) || gw_id_parse(alias, &as_id) == GW_OK)) {
        return gw_fail(why, GW_EARG,
                       "\"%.64s\" cannot be an alias: letters, digits, . _ - and no id", alias);
    }
    if (alias) {
        HASH_FIND_STR(n->aliases, alias, taken);
    }
    if (taken) {
        return gw_fail(why, GW_EEXISTS, "alias \"%s\" belongs to another agent on host \"%s\"",
                       alias, n->name);
    }
    *ret = t;
    return GW_OK;
}

static gw_err wanted_id(struct node *n, const struct op_call *call, gw_id *ret,
                        struct gw_error *why)
{
    const char *text = call_is_hop(call) ? gw_map_str(&call->context, "id", NULL) : NULL;
    if (!text) {
        *ret = node_new_id(n);
        return GW_OK;
    }
    if (gw_id_parse(text, ret) != GW_OK) {
        return gw_fail(why, GW_EARG, "\"%.40s\" is not an agent id", text);
    }
    if (agent_find(n, ret) || location_find(n, ret) || move_in_holds(n, ret)) {
        return gw_fail(why, GW_EEXISTS, "agent \"%s\" exists already", text);
    }
    return GW_OK;
}

void create_here(struct node *n, struct op_call *call)
{
    struct gw_error why;
    struct type *t = NULL;
    gw_id id;
    const char *key = gw_map_str(&call->args, "key", NULL);
    const gw_value *parent = gw_map_get(&call->args, "parent");
    if (check_create(n, call, &t, &why) != GW_OK || wanted_id(n, call, &id, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    struct agent_row row = {
        .status = AGENT_ACTIVE, .home = n->self->id, .created_ms = node_now_ms(n)};
    (void)span_text((struct span){(const uint8_t *)t->name, strlen(t->name)}, row.type,
                    sizeof row.type);
    const char *alias = gw_map_str(&call->args, "alias", "");
    (void)span_text((struct span){(const uint8_t *)alias, strlen(alias)}, row.alias,
                    sizeof row.alias);
    struct agent *a = agent_add(n, &id, 1, &row);
    a->unborn = true;
    agent_live(a)->known = true;
    struct creating *c = xcalloc(1, sizeof *c);
    c->call = call;
    c->created = created_new(n, key, &id, n->self, t->name);
    if (parent && parent->kind == GW_ID) {
        c->parent = parent->id;
        c->loose = gw_map_bool(&call->args, "outlive", false);
    }
    struct work *w = work_new(n, a, HOOK_CREATE);
    const gw_value *state = gw_map_get(&call->args, "state");
    if (state && state->kind == GW_MAP) {
        value_pack(state, &w->args);
    }
    w->flags = gw_map_bool(&call->args, "text", false) ? RUN_TEXT_ARGS : 0;
    w->prepare = create_prepare;
    w->done = create_done;
    w->arg = c;
    w->arg_heap = true;
    work_push(w, false);
}

/* ---- create elsewhere ---- */

struct sending {
    struct node *n;
    struct op_call *call;
    struct peer *to;
    struct created *created;
    void (*answer)(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why);
    void *door;
};

/* The answer on its way back: the key is remembered as done, or forgotten when it was surely not
 * made. */
static void sent_answer(struct op_call *call, gw_err err, gw_value *result,
                        const struct gw_error *why)
{
    struct sending *s = call->door;
    call->answer = s->answer;
    call->door = s->door;
    created_end(s->n, s->created, err);
    free(s);
    call->answer(call, err, result, why);
}

static void forward_created(void *arg, gw_err err)
{
    struct sending *s = arg;
    struct gw_error why;
    char id[GW_ID_TEXT];
    if (err == GW_OK) {
        err = gw_map_set(&s->call->context, "id", gw_str(gw_id_text(&s->created->agent, id)));
    }
    if (err != GW_OK) {
        struct op_call *call = s->call;
        REACH(CREATE_ROLLED_BACK);
        created_drop(s->n, s->created);
        free(s);
        gw_fail(&why, err, "the request could not be written: %s", gw_err_text(err));
        op_fail(call, &why);
        return;
    }
    s->answer = s->call->answer;
    s->door = s->call->door;
    s->call->answer = sent_answer;
    s->call->door = s;
    route_forward(s->n, s->call, s->to);
}

static void create_there(struct node *n, struct op_call *call, struct peer *to,
                         struct created *again)
{
    const char *key = gw_map_str(&call->args, "key", NULL);
    if (!key) {
        route_forward(n, call, to);
        return;
    }
    gw_id id = node_new_id(n);
    struct sending *s = xcalloc(1, sizeof *s);
    *s = (struct sending){.n = n, .call = call, .to = to, .created = again};
    if (again) { /* written by an earlier try: the same id to the same host */
        REACH(CREATE_AGAIN);
        again->in_flight = true;
        forward_created(s, GW_OK);
        return;
    }
    s->created = created_new(n, key, &id, to, gw_map_str(&call->args, "type", ""));
    struct store_batch *batch = store_batch_new();
    created_put(batch, s->created, false);
    node_commit(n, batch, POINT_CREATE_KEY, forward_created, s);
}

void op_create(struct node *n, struct op_call *call)
{
    struct gw_error why;
    struct peer *to = n->self;
    const char *at = gw_map_str(&call->args, "at", NULL);
    const char *key = gw_map_str(&call->args, "key", NULL);
    if (request_key_check(key, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    const gw_value *parent = gw_map_get(&call->args, "parent");
    if (parent && parent->kind == GW_ID && watches_check_parent(n, &parent->id, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    struct created *c = created_find(n, key);
    if (c && c->done) {
        REACH(CREATE_TWICE);
        answer_created(call, &c->agent, NULL, c->type, peer_label(c->host));
        return;
    }
    if (c && c->in_flight) {
        call_again_later(n, call); /* being made right now */
        return;
    }
    if (c) {
        create_there(n, call, c->host, c);
        return;
    }
    if (at && !call_is_hop(call) && peers_pick(n, at, false, &to, &why) != GW_OK) {
        op_fail(call, &why);
    } else if (to->self) {
        create_here(n, call);
    } else {
        create_there(n, call, to, NULL);
    }
}

/* ---- clone ---- */

struct cloning {
    struct node *n;
    struct op_call *call; /* NULL: an agent asked for it */
    gw_id id, of;
    struct agent_row row;
    struct created *created;
    uint64_t wish;
    struct files_out *files; /* copies of its files, under a ticket with its id; NULL = none */
};

static void clone_answer(struct cloning *c, gw_err err, const struct gw_error *why)
{
    if (err != GW_OK && c->created) {
        created_drop(c->n, c->created);
    } else if (c->created) {
        c->created->done = true;
        c->created->in_flight = false;
    }
    size_t count = 0;
    uint64_t bytes;
    if (c->files) {
        files_out_total(c->files, &count, &bytes);
    }
    if (count > 0 && err == GW_OK) {
        files_unexpect(c->n, &c->id, &c->id);
    } else if (c->files) {
        files_drop(c->n, &c->id, &c->id);
    }
    files_out_free(c->files);
    struct agent *source = agent_find(c->n, &c->of);
    if (!c->call) {
        if (source && err == GW_OK) {
            intent_pop(c->n, source, c->wish);
        } else if (source) {
            event_now(c->n, &(struct event){.kind = "transfer.failed",
                                            .agent = &c->of,
                                            .type = c->row.type,
                                            .text = why->text});
            intent_pop(c->n, source, c->wish);
        }
    } else if (err == GW_OK) {
        answer_created(c->call, &c->id, &c->of, c->row.type, c->n->name);
    } else {
        op_fail(c->call, why);
    }
    free(c);
}

static void clone_durable(void *arg, gw_err err)
{
    struct cloning *c = arg;
    struct gw_error why;
    c->n->cloning--;
    if (err == GW_OK) {
        struct agent *a = agent_add(c->n, &c->id, 1, &c->row);
        if (c->files) {
            inbox_load(c->n, &c->id, 1); /* what begins below waits for them */
        }
        if (a->pending) {
            work_push_pending(c->n, a);
        }
    } else {
        gw_fail(&why, err, "the clone could not be written: %s", gw_err_text(err));
    }
    clone_answer(c, err, &why);
}

static void clone_write(struct cloning *c, struct span parts)
{
    struct node *n = c->n;
    struct store_batch *batch = store_batch_new();
    struct buf value = {0};
    uint8_t raw[ROW_KEY_BYTES];
    commit_parts(batch, &c->id, 1, parts);
    agent_row_pack(&c->row, &value);
    store_batch_put_take(batch, TABLE_AGENTS, row_key(raw, &c->id, 1), &value);
    buf_free(&value);
    if (c->files) {
        files_out_put_arrived(c->files, n->name, batch);
    }
    if (c->created) {
        created_put(batch, c->created, true);
    }
    event_put(n, batch,
              &(struct event){.kind = "agent.clone", .agent = &c->id, .type = c->row.type});
    n->cloning++;
    node_commit(n, batch, POINT_CLONE, clone_durable, c);
}

static void clone_verified(void *arg, gw_err err, const struct gw_error *why)
{
    struct cloning *c = arg;
    if (err == GW_OK) {
        clone_write(c, buf_span(files_out_keep(c->files)));
    } else {
        clone_answer(c, err, why);
    }
}

/* They have not changed since the snapshot. */
static void clone_settled(void *arg, gw_err err, const struct gw_error *why)
{
    struct cloning *c = arg;
    if (err == GW_OK) {
        files_out_verify(c->files, clone_verified, c);
    } else {
        clone_answer(c, err, why);
    }
}

static void clone_snapshot(struct work *w, gw_err err, const struct run_result *r,
                           const struct gw_error *why)
{
    struct cloning *c = w->arg;
    struct gw_error full;
    if (err == GW_OK && agents_room(c->n, 0, &full) != GW_OK) {
        clone_answer(c, full.code, &full);
    } else if (err == GW_OK && c->files) {
        buf_add(files_out_keep(c->files), r->parts.p, r->parts.n);
        files_out_settle(c->files, clone_settled, c);
    } else if (err == GW_OK) {
        clone_write(c, r->parts);
    } else {
        clone_answer(c, err, why);
    }
}

static void clone_take(struct cloning *c, struct agent *a)
{
    struct work *w = work_new(c->n, a, HOOK_NONE);
    w->flags = RUN_SNAPSHOT | (a->status == AGENT_INACTIVE ? RUN_DISCARD : 0);
    w->lifecycle = true;
    w->no_commit = true; /* a snapshot is no change of the source */
    w->done = clone_snapshot;
    w->arg = c;
    w->arg_heap = true;
    work_push(w, false);
}

/* Its files have been copied while it ran. */
static void clone_flowed(void *arg, gw_err err, const struct gw_error *why)
{
    struct cloning *c = arg;
    struct agent *a = agent_find(c->n, &c->of);
    struct gw_error left;
    if (err == GW_OK && !a) {
        err = gw_fail(&left, GW_EAGENT_NOT_FOUND, "the agent has left");
        why = &left;
    }
    if (err == GW_OK) {
        clone_take(c, a);
    } else {
        clone_answer(c, err, why);
    }
}

void clone_here(struct node *n, struct agent *a, struct op_call *call, const gw_id *id,
                uint64_t wish)
{
    struct cloning *c = xcalloc(1, sizeof *c);
    const char *key = call ? gw_map_str(&call->args, "key", NULL) : NULL;
    bool inactive = call && gw_map_bool(&call->args, "inactive", false);
    *c = (struct cloning){
        .n = n, .call = call, .id = id ? *id : node_new_id(n), .of = a->id, .wish = wish};
    c->row = (struct agent_row){.status = inactive ? AGENT_INACTIVE : AGENT_ACTIVE,
                                .home = n->self->id,
                                .of = a->id,
                                .created_ms = node_now_ms(n),
                                .pending = inactive ? 0 : hooks_to_run(a->type, 1u << HOOK_CLONE)};
    memcpy(c->row.type, a->type->name, sizeof c->row.type);
    c->created = created_new(n, key, &c->id, n->self, a->type->name);
    if (a->files && a->files->count > 0) {
        struct gw_error why;
        c->files = files_out_new(n, a, &n->self->id, &c->id, &c->id);
        files_out_own_arg(c->files);
        if (files_expect(n, &n->self->id, &c->id, &c->id, 0, &why) != GW_OK) {
            clone_answer(c, why.code, &why);
            return;
        }
        files_out_settle(c->files, clone_flowed, c);
    } else {
        clone_take(c, a);
    }
}

/* ---- clone elsewhere: {key, clone's id, host} is written before anything is sent, so that a
 * repeat after a crash or a lost receipt makes the same clone again, which the destination
 * recognises ---- */

struct cloning_away {
    struct node *n;
    struct op_call *call;
    gw_id of;
};

static void clone_sent(void *arg, gw_err err, struct move_out *m, const struct gw_error *why)
{
    struct op_call *call = arg;
    struct node *n = m->t->node;
    struct created *c = created_find(n, gw_map_str(&call->args, "key", NULL));
    if (c) {
        created_end(n, c, err);
    }
    if (err != GW_OK) {
        op_fail(call, why);
        return;
    }
    answer_created(call, &m->clone_id, &m->agent_id, m->type, peer_label(m->t->to));
}

static void clone_send(struct node *n, struct op_call *call, struct agent *a, struct peer *to,
                       const gw_id *id)
{
    struct gw_error why;
    struct created *c = created_find(n, gw_map_str(&call->args, "key", NULL));
    unsigned flags = gw_map_bool(&call->args, "inactive", false) ? MOVE_INACTIVE : 0;
    if (move_out_begin(n, a, to, flags, id, clone_sent, call, &why) == GW_OK) {
        return;
    }
    if (c) {
        created_end(n, c,
                    why.code == GW_EUNREACHABLE ? GW_EREFUSED : why.code); /* nothing was sent */
    }
    op_fail(call, &why);
}

static void clone_key_written(void *arg, gw_err err)
{
    struct cloning_away away = *(struct cloning_away *)arg;
    struct gw_error why;
    free(arg);
    struct created *c = created_find(away.n, gw_map_str(&away.call->args, "key", NULL));
    struct agent *a = agent_find(away.n, &away.of);
    if (err != GW_OK || !c || !a) {
        if (c && err == GW_OK) {
            created_forget(away.n, c);
        } else if (c) {
            created_drop(away.n, c);
        }
        gw_fail(&why, err != GW_OK ? err : GW_EAGENT_NOT_FOUND, "the clone could not be begun: %s",
                err != GW_OK ? gw_err_text(err) : "the agent has left");
        op_fail(away.call, &why);
        return;
    }
    clone_send(away.n, away.call, a, c->host, &c->agent);
}

/* `c`: an earlier try under the same key, or NULL. */
static void clone_there(struct node *n, struct op_call *call, struct agent *a, struct peer *to,
                        struct created *c)
{
    const char *key = gw_map_str(&call->args, "key", NULL);
    gw_id id = c ? c->agent : node_new_id(n);
    if (!key || c) {
        if (c) {
            c->in_flight = true;
        }
        clone_send(n, call, a, to, &id);
        return;
    }
    struct cloning_away *away = xcalloc(1, sizeof *away);
    struct store_batch *batch = store_batch_new();
    *away = (struct cloning_away){n, call, a->id};
    c = created_new(n, key, &id, to, a->type->name);
    created_put(batch, c, false);
    node_commit(n, batch, POINT_CLONE_KEY, clone_key_written, away);
}

static void clone_local(struct node *n, struct op_call *call, struct agent *a)
{
    struct gw_error why;
    struct peer *to = n->self;
    const char *key = gw_map_str(&call->args, "key", NULL);
    struct created *c = created_find(n, key);
    if (gw_map_bool(&call->args, "dry_run", false)) {
        travel_foresee(n, call, a, true);
    } else if (c && c->done) {
        answer_created(call, &c->agent, &a->id, c->type, peer_label(c->host));
    } else if (files_are_coming(a) || (c && c->in_flight)) {
        call_again_later(n, call); /* being made right now; or they are not there to be copied */
    } else if (request_key_check(key, &why) != GW_OK || agent_check_free(n, a, &why) != GW_OK ||
               builtin_check_single(n, a, &why) != GW_OK ||
               (!c && travel_pick(n, call, true, &to, &why) != GW_OK)) {
        op_fail(call, &why);
    } else if (c) {
        clone_there(n, call, a, c->host, c);
    } else if (to->self) {
        clone_here(n, a, call, NULL, 0);
    } else {
        clone_there(n, call, a, to, NULL);
    }
}

void op_clone(struct node *n, struct op_call *call)
{
    route_call(n, call, clone_local);
}
