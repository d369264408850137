/* Calls about agents that live elsewhere.
 *
 * Nobody forwards: a host without the agent answers MOVED{host, epoch} or UNKNOWN; the host through
 * which a client came re-sends, following LIMIT_REDIRECTS answers, then asks the whole mesh once
 * (home is one of those asked). */
#include "host/core/handoff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

#define AGAIN_MS        20
#define CALL_TIMEOUT_MS 30000
#define RESEND_US       5000000LL /* a keyed call is sent again for so long when its host is lost */

/* ---- calls ---- */

bool call_is_hop(const struct op_call *call)
{
    return call->role == ROLE_PEER && gw_map_bool(&call->context, "hop", false);
}

void answer_moved(struct op_call *call, const struct peer *host, uint64_t epoch)
{
    struct gw_error why;
    char id[HOST_ID_TEXT];
    gw_value about = gw_nil();
    gw_fail(&why, GW_EMOVED, "the agent lives on host \"%s\"", peer_label(host));
    if (gw_map_set(&about, "host_id", gw_str(host_id_text(&host->id, id))) != GW_OK ||
        gw_map_set(&about, "name", gw_str(host->name)) != GW_OK ||
        gw_map_set(&about, "url", gw_str(host->url)) != GW_OK ||
        gw_map_set(&about, "epoch", gw_int((int64_t)epoch)) != GW_OK) {
        gw_value_free(&about);
    }
    call->answer(call, GW_EMOVED, &about, &why);
}

struct again {
    LIST_ENTRY(again) link;
    struct node *n;
    struct op_call *call;
    struct env_timer *timer;
};

static void again(void *arg)
{
    struct again *g = arg;
    struct node *n = g->n;
    struct op_call *call = g->call;
    LIST_REMOVE(g, link);
    n->env->timer_free(n->env->ctx, g->timer);
    free(g);
    node_call(n, call);
}

void calls_again_free(struct node *n)
{
    struct again *g;
    while ((g = LIST_FIRST(&n->agains))) {
        LIST_REMOVE(g, link);
        n->env->timer_free(n->env->ctx, g->timer);
        free(g);
    }
}

void call_again_later(struct node *n, struct op_call *call)
{
    struct gw_error why;
    int64_t now_us = n->env->mono_us(n->env->ctx);
    call->waits_since_us = call->waits_since_us ? call->waits_since_us : now_us;
    bool late = call->deadline_us ? now_us >= call->deadline_us
                                  : now_us - call->waits_since_us > CALL_TIMEOUT_MS * 1000LL;
    if (late) {
        gw_fail(&why, GW_ETIMEOUT, "the agent did not become ready in time");
        op_fail(call, &why);
        return;
    }
    struct again *g = xcalloc(1, sizeof *g);
    *g = (struct again){.n = n, .call = call};
    LIST_INSERT_HEAD(&n->agains, g, link);
    g->timer = n->env->timer_new(n->env->ctx, again, g);
    n->env->timer_start(n->env->ctx, g->timer, AGAIN_MS);
}

/* One call on its way to the owner of an agent. */
struct route {
    struct node *n;
    struct op_call *call;
    void (*local)(struct node *n, struct op_call *call, struct agent *a);
    gw_id id;
    bool has_id;
    unsigned redirects;
    bool asked_mesh;
    struct peer *to;
    int64_t began_us;
    int64_t sent_us; /* to a host; 0 = not yet */
    /* asking the mesh */
    size_t asking;
    uint64_t best_epoch;
    bool by_text; /* an alias, or the end of an id: what is found must be one agent */
    bool ambiguous;
    bool silent; /* somebody did not answer */
};

static void route_step(struct route *r);

static void route_fail(struct route *r, const struct gw_error *why)
{
    struct op_call *call = r->call;
    free(r);
    op_fail(call, why);
}

/* The agent is, or may be, on a host with an old copy of its store. */
static void stale_host(struct route *r, const struct peer *p)
{
    struct gw_error why;
    gw_fail(&why, GW_ESTORE_STALE,
            "no agent \"%s\" can be reached: the store of host \"%s\" is an older copy, its agents "
            "do not run",
            gw_map_str(&r->call->args, "agent", ""), peer_label(p));
    gw_hint(&why, "put the newer store back there, or start it with `godwit host --restored`");
    route_fail(r, &why);
}

static void lost_host(struct route *r, gw_err err)
{
    struct gw_error why;
    struct node *n = r->n;
    bool keyed = gw_map_str(&r->call->args, "key", NULL) != NULL;
    int64_t since_us = r->call->waits_since_us ? r->call->waits_since_us : r->began_us;
    if (err == GW_EUNREACHABLE && keyed && n->env->mono_us(n->env->ctx) - since_us < RESEND_US) {
        REACH(CALL_AGAIN);
        struct op_call *call = r->call; /* its key makes a second run harmless */
        free(r);
        call_again_later(n, call);
        return;
    }
    if (r->to->held == HELD_STALE) {
        stale_host(r, r->to);
        return;
    }
    REACH(CALL_LOST);
    gw_fail(&why, err, "host \"%s\" %s", peer_label(r->to),
            err == GW_ETIMEOUT ? "did not answer in time" : "cannot be reached");
    gw_hint(&why,
            "the call may have been carried out; send it again with the same --op-key to be sure");
    route_fail(r, &why);
}

static void not_found(struct route *r)
{
    struct gw_error why;
    struct location *l = r->has_id ? location_find(r->n, &r->id) : NULL;
    if (l && !l->disposed && !l->doubted && !l->host->self && !l->host->up) {
        r->to = l->host; /* there it was, and that host is not there now */
        lost_host(r, GW_EUNREACHABLE);
        return;
    }
    for (const struct peer *p = r->n->peers; p; p = p->hh.next) {
        if (p->hello && p->held == HELD_STALE) {
            stale_host(r, p);
            return;
        }
    }
    /* A one-way message that leaves its outbox for this would be lost: who is silent may have the
     * agent. */
    bool unsure = r->silent && strcmp(r->call->op->name, "accept") == 0;
    gw_fail(&why, unsure ? GW_EUNREACHABLE : GW_EAGENT_NOT_FOUND, "no agent \"%s\"",
            gw_map_str(&r->call->args, "agent", ""));
    if (r->silent) {
        gw_hint(&why, "not every host of the mesh answered; `godwit hosts` shows which");
    }
    route_fail(r, &why);
}

struct peer *peer_of_about(struct node *n, const gw_value *about)
{
    struct host_id id;
    if (host_id_parse(gw_map_str(about, "host_id", ""), &id) != GW_OK) {
        return NULL;
    }
    struct peer *p = peer_find(n, &id);
    const char *url = gw_map_str(about, "url", "");
    if (!p && HASH_COUNT(n->peers) < LIMIT_MEMBERS && strncmp(url, "https://", 8) == 0) {
        p = peer_intern(n, &id);
        n->env->peer_want(n->env->ctx, &p->id, url);
    }
    return p;
}

/* ---- asking the mesh ---- */

static void located(void *arg, gw_err err, const struct frame *f)
{
    struct route *r = arg;
    struct node *n = r->n;
    uint32_t code;
    gw_value about = gw_nil();
    gw_id id;
    struct mp m = f ? f->rest : (struct mp){0};
    bool said = err == GW_OK && mp_read_u32(&m, &code) == GW_OK;
    /* A host that is starting or stopping answers neither yes nor no. */
    r->silent |= !said || (code != GW_OK && code != GW_EUNKNOWN && code != GW_EAMBIGUOUS);
    r->ambiguous |= said && r->by_text && code == GW_EAMBIGUOUS;
    bool found = said && code == GW_OK && value_unpack(&m, &about) == GW_OK &&
                 gw_id_parse(gw_map_str(&about, "agent", ""), &id) == GW_OK;
    if (found && r->has_id && !gw_id_equal(&id, &r->id)) {
        r->ambiguous |= r->by_text;
        found = false;
    }
    if (found) {
        uint64_t epoch = (uint64_t)gw_map_int(&about, "epoch", 0);
        struct peer *host = peer_of_about(n, &about);
        if (host && epoch > r->best_epoch) {
            r->best_epoch = epoch;
            r->id = id;
            r->has_id = true;
            if (!host->self) {
                location_know(n, &id, epoch, host, gw_map_bool(&about, "disposed", false), false);
                move_out_seen(n, &id, epoch);
            }
        }
    }
    gw_value_free(&about);
    if (--r->asking > 0) {
        return;
    }
    if (r->ambiguous) {
        struct gw_error why;
        gw_fail(&why, GW_EAMBIGUOUS, "more than one agent of the mesh is meant by \"%s\"",
                gw_map_str(&r->call->args, "agent", ""));
        gw_hint(&why, "`godwit agents --all` lists them; give the whole id");
        route_fail(r, &why);
    } else if (r->best_epoch == 0 ||
               err == GW_ECANCELLED) { /* cancelled: the node is being freed */
        not_found(r);
    } else {
        route_step(r);
    }
}

static void ask_mesh(struct route *r)
{
    struct node *n = r->n;
    r->asked_mesh = true;
    r->by_text = !r->has_id;
    r->asking = 1;
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (p->self || !p->up) {
            r->silent |= !p->self && p->url[0];
            continue;
        }
        r->asking++;
        location_ask(n, p, gw_map_str(&r->call->args, "agent", ""), located, r);
    }
    if (--r->asking == 0) {
        not_found(r);
    }
}

/* ---- sending the call to another host; relay.c does so, too ---- */

void route_call_frame(struct node *n, struct op_call *call, uint64_t stream, struct buf *frame)
{
    size_t at = frame_begin(frame, FRAME_CALL, stream, 3);
    mp_str(frame, call->op->name);
    value_pack(&call->args, frame);
    const gw_value *id = gw_map_get(&call->context, "id");
    const gw_value *chain = gw_map_get(&call->context, "chain");
    const gw_value *agent = gw_map_get(&call->context, "agent");
    mp_map(frame, 1 + (id != NULL) + (chain != NULL) + (agent != NULL) + call_members(call));
    mp_str(frame, "hop");
    mp_bool(frame, true);
    call_pack_members(n, call, frame);
    const struct {
        const char *key;
        const gw_value *v;
    } more[] = {{"id", id}, {"chain", chain}, {"agent", agent}};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        if (more[i].v) {
            mp_str(frame, more[i].key);
            value_pack(more[i].v, frame);
        }
    }
    frame_end(frame, at);
}

/* Decode a REPLY. GW_EPROTO when it is none. */
gw_err route_read_reply(const struct frame *f, gw_value *value, struct gw_error *why)
{
    struct mp m = f->rest;
    uint32_t code;
    if (f->kind != FRAME_REPLY || mp_read_u32(&m, &code) != GW_OK ||
        value_unpack(&m, value) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "the other host answered nonsense");
    }
    gw_err err = gw_err_from_wire(code);
    why->code = err;
    if (mp_read_text_or_nil(&m, why->text, sizeof why->text) != GW_OK ||
        mp_read_text_or_nil(&m, why->hint, sizeof why->hint) != GW_OK) {
        gw_fail(why, err, "%s", gw_err_text(err));
    }
    return err;
}

/* The agent answers later (later.c), or its host is starting: ask again, for as long as the caller
 * waits. */
static void ask_again(struct route *r)
{
    struct node *n = r->n;
    struct op_call *call = r->call;
    struct gw_error why;
    int64_t now_us = n->env->mono_us(n->env->ctx);
    call->pending_since_us = call->pending_since_us ? call->pending_since_us : r->sent_us;
    call->waits_since_us = 0;
    if ((call->deadline_us && now_us >= call->deadline_us) ||
        now_us - call->pending_since_us >= LIMIT_REQUEST_AGE_MS * 1000) {
        gw_fail(&why, GW_ETIMEOUT, "the agent did not answer in time");
        gw_hint(&why, "it may do so yet: the same request under the same key gets the answer");
        route_fail(r, &why);
        return;
    }
    free(r);
    call_again_later(n, call);
}

static void forwarded(void *arg, gw_err err, const struct frame *f)
{
    struct route *r = arg;
    struct node *n = r->n;
    struct gw_error why = {0};
    gw_value value = gw_nil();
    int64_t now_us = node_turn_us(n);
    if (now_us - r->sent_us > RESEND_US) {
        r->began_us = now_us; /* it was held there: what comes now is new */
        r->call->waits_since_us = 0;
    }
    if (err != GW_OK) {
        lost_host(r, err);
        return;
    }
    err = route_read_reply(f, &value, &why);
    if (err == GW_EMOVED && r->redirects < LIMIT_REDIRECTS) {
        struct peer *host = peer_of_about(n, &value);
        uint64_t epoch = (uint64_t)gw_map_int(&value, "epoch", 0);
        gw_value_free(&value);
        REACH(CALL_MOVED);
        r->redirects++;
        if (host && !host->self) {
            location_know(n, &r->id, epoch, host, false, false);
        }
        route_step(r);
        return;
    }
    if (err == GW_EPENDING && gw_map_str(&r->call->args, "key", NULL)) {
        REACH(CALL_PENDING);
        gw_value_free(&value);
        ask_again(r);
        return;
    }
    if (err == GW_ESTOPPING && gw_map_str(&r->call->args, "key", NULL)) {
        REACH(CALL_STOPPING);
        gw_value_free(&value);
        lost_host(r, GW_EUNREACHABLE); /* in a moment; perhaps it comes back */
        return;
    }
    if (err == GW_EARRIVING) {
        struct op_call *call = r->call;
        gw_value_free(&value);
        free(r);
        call_again_later(n, call);
        return;
    }
    if ((err == GW_EUNKNOWN || err == GW_EMOVED) && !r->asked_mesh) {
        gw_value_free(&value);
        location_doubt(n, &r->id);
        ask_mesh(r);
        return;
    }
    if (err == GW_EUNKNOWN) { /* it was there a moment ago */
        gw_value_free(&value);
        r->silent = true;
        not_found(r);
        return;
    }
    struct op_call *call = r->call;
    free(r);
    call->answer(call, err, &value, err == GW_OK ? NULL : &why);
}

static void route_send(struct route *r, struct peer *to)
{
    struct node *n = r->n;
    struct buf frame = {0};
    uint64_t stream = peer_stream(n);
    char key[2 * REQUEST_KEY_BYTES + 1];
    uint8_t raw[REQUEST_KEY_BYTES];
    if (strcmp(r->call->op->name, "send") == 0 && !gw_map_str(&r->call->args, "key", NULL)) {
        node_random(n, raw, sizeof raw); /* so that it can be sent again */
        request_key_text(raw, key);
        if (gw_map_set(&r->call->args, "key", gw_str(key)) != GW_OK) {
            log_warn("memory", "a call goes out without a request key");
        }
    }
    char id[GW_ID_TEXT];
    if (gw_map_set(&r->call->args, "agent", gw_str(gw_id_text(&r->id, id))) != GW_OK) {
        log_warn("memory", "a call goes out with the name that was typed");
    } /* there an alias may mean another agent */
    r->to = to;
    r->sent_us = node_turn_us(n);
    route_call_frame(n, r->call, stream, &frame);
    peer_request(n, to, stream, &frame, call_left_ms(n, r->call, CALL_TIMEOUT_MS), forwarded, r);
}

static void plain_answer(void *arg, gw_err err, const struct frame *f)
{
    struct route *r = arg;
    struct op_call *call = r->call;
    struct gw_error why = {0};
    gw_value value = gw_nil();
    if (err != GW_OK) {
        gw_fail(&why, err, "host \"%s\" %s", peer_label(r->to),
                err == GW_ETIMEOUT ? "did not answer in time" : "cannot be reached");
    } else {
        err = route_read_reply(f, &value, &why);
    }
    free(r);
    call->answer(call, err, &value, err == GW_OK ? NULL : &why);
}

void route_forward(struct node *n, struct op_call *call, struct peer *to)
{
    struct route *r = xcalloc(1, sizeof *r);
    *r = (struct route){.n = n, .call = call, .to = to};
    struct buf frame = {0};
    uint64_t stream = peer_stream(n);
    route_call_frame(n, call, stream, &frame);
    peer_request(n, to, stream, &frame, call_left_ms(n, call, CALL_TIMEOUT_MS), plain_answer, r);
}

static void route_elsewhere(struct route *r)
{
    struct node *n = r->n;
    struct gw_error why;
    struct location *l = r->has_id ? location_find(n, &r->id) : NULL;
    bool hop = call_is_hop(r->call);
    if (l && l->disposed) {
        gw_fail(&why, GW_EDISPOSED, "agent \"%s\" was disposed",
                gw_map_str(&r->call->args, "agent", ""));
        route_fail(r, &why);
    } else if (hop && l && !l->host->self) {
        struct op_call *call = r->call;
        free(r);
        answer_moved(call, l->host, l->epoch);
    } else if (hop) {
        gw_fail(&why, GW_EUNKNOWN, "the agent is not known on host \"%s\"", n->name);
        route_fail(r, &why);
    } else if (l && !l->host->self && l->host->up) {
        route_send(r, l->host);
    } else if (!r->asked_mesh) {
        ask_mesh(r);
    } else if (l && !l->host->self) {
        r->to = l->host;
        lost_host(r, GW_EUNREACHABLE);
    } else {
        not_found(r);
    }
}

/* A quarantined copy is looked at and disposed of where it lies; everything else is for the living
 * one. */
static bool lives_elsewhere(const struct route *r, const struct agent *a)
{
    const char *op = r->call->op->name;
    return location_has_other(r->n, a) && strcmp(op, "show") != 0 && strcmp(op, "dispose") != 0;
}

static void route_step(struct route *r)
{
    struct node *n = r->n;
    struct gw_error why;
    struct agent *a = NULL;
    const char *text = gw_map_str(&r->call->args, "agent", "");
    gw_err err = r->has_id ? ((a = agent_find(n, &r->id)) ? GW_OK : GW_EAGENT_NOT_FOUND)
                           : agent_lookup(n, text, &a, NULL);
    if (err == GW_EAMBIGUOUS) {
        err = agent_lookup(n, text, &a, &why); /* for the words, which nobody else wants */
        route_fail(r, &why);
        return;
    }
    if (a && lives_elsewhere(r, a)) {
        r->id = a->id;
        r->has_id = true;
        route_elsewhere(r);
        return;
    }
    if (a && held_refuse(n, r->call->op, NULL, &why) != GW_OK) {
        route_fail(r, &why); /* held since it came */
        return;
    }
    if (a) {
        struct op_call *call = r->call;
        void (*local)(struct node *, struct op_call *, struct agent *) = r->local;
        free(r);
        local(n, call, a);
        return;
    }
    if (!r->has_id && gw_id_parse(text, &r->id) == GW_OK) {
        r->has_id = true;
    }
    if (r->has_id && move_in_holds(n, &r->id)) {
        REACH(CALL_ARRIVING);
        struct op_call *call = r->call;
        bool hop = call_is_hop(call);
        free(r);
        if (hop) {
            gw_fail(&why, GW_EARRIVING, "the agent is arriving on host \"%s\"", n->name);
            op_fail(call, &why);
        } else {
            call_again_later(n, call);
        }
        return;
    }
    route_elsewhere(r);
}

void route_call(struct node *n, struct op_call *call,
                void (*local)(struct node *n, struct op_call *call, struct agent *a))
{
    struct route *r = xcalloc(1, sizeof *r);
    *r = (struct route){.n = n, .call = call, .local = local, .began_us = node_turn_us(n)};
    route_step(r);
}
