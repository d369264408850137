/* Members of the mesh: HELLO, exchange of member lists, requests to peers and their answers.
 *
 * A link that comes up says HELLO: who we are, our public key (checked against the authenticated
 * host_id), tags, properties, types with versions, and all members that we know. Members are kept
 * on disk, so that a restarted host finds the mesh again without --peer. Failure detection is the
 * link itself. */
#include "host/core/handoff.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

/* ---- the table of members ---- */

struct peer *peer_find(struct node *n, const struct host_id *id)
{
    struct peer *p;
    HASH_FIND(hh, n->peers, id, sizeof *id, p);
    return p;
}

struct peer *peer_intern(struct node *n, const struct host_id *id)
{
    struct peer *p = peer_find(n, id);
    if (!p) {
        p = xcalloc(1, sizeof *p);
        p->id = *id;
        p->down_since_us = n->env->mono_us(n->env->ctx);
        HASH_ADD(hh, n->peers, id, sizeof p->id, p);
    }
    return p;
}

bool peer_has_room(const struct node *n, const struct host_id *id)
{
    struct peer *p;
    HASH_FIND(hh, n->peers, id, sizeof *id, p);
    return p || HASH_COUNT(n->peers) < n->members + n->cfg.limits.hosts_named;
}

struct peer *peer_by_name(struct node *n, const char *name)
{
    struct peer *found = NULL;
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (strcmp(p->name, name) == 0 && (!found || p->up)) {
            found = p; /* a dead one of the same name gives way to a living one */
        }
    }
    return found;
}

const char *peer_label(const struct peer *p)
{
    static char text[HOST_ID_TEXT];
    return p->name[0] ? p->name : host_id_text(&p->id, text);
}

static void peer_clear(struct peer *p)
{
    buf_free(&p->early);
    gw_strs_clear(&p->tags);
    gw_strs_clear(&p->properties);
    free(p->types);
    p->types = NULL;
    p->type_count = 0;
}

void peers_forget_requests(struct node *n)
{
    struct request *r;
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        p->up = p->linked = p->hello = false;
    }
    while ((r = n->requests)) { /* an answer may lead to a further request */
        HASH_DEL(n->requests, r);
        n->env->timer_free(n->env->ctx, r->timer);
        r->on_answer(r->arg, GW_ECANCELLED, NULL);
        free(r);
    }
}

void peer_forget_requests(struct node *n, const void *arg)
{
    struct request *r, *next;
    HASH_ITER (hh, n->requests, r, next) {
        if (r->arg == arg) {
            HASH_DEL(n->requests, r);
            n->env->timer_free(n->env->ctx, r->timer);
            free(r);
        }
    }
}

void peers_free(struct node *n)
{
    struct peer *p, *next;
    HASH_ITER (hh, n->peers, p, next) {
        HASH_DEL(n->peers, p);
        peer_clear(p);
        free(p);
    }
}

/* ---- what is said about a host: a map, in HELLO, MEMBERS and rows ---- */

static gw_err strs_value(const gw_strs *list, gw_value *ret)
{
    *ret = (gw_value){.kind = GW_LIST};
    for (size_t i = 0; i < list->len; i++) {
        GW_TRY(gw_list_add(ret, gw_str(list->items[i])));
    }
    return GW_OK;
}

static gw_err about_value(const struct peer *p, gw_value *ret)
{
    char id[HOST_ID_TEXT];
    gw_value key = gw_nil(), tags = gw_nil(), properties = gw_nil();
    GW_TRY(gw_map_set(ret, "host_id", gw_str(host_id_text(&p->id, id))));
    GW_TRY(gw_map_set(ret, "name", gw_str(p->name)));
    GW_TRY(gw_map_set(ret, "url", gw_str(p->url)));
    if (p->has_key) {
        GW_TRY(gw_value_set_bytes(&key, p->key, sizeof p->key));
        GW_TRY(gw_map_set(ret, "key", key));
    }
    GW_TRY(strs_value(&p->tags, &tags));
    GW_TRY(gw_map_set(ret, "tags", tags));
    GW_TRY(strs_value(&p->properties, &properties));
    return gw_map_set(ret, "properties", properties);
}

static gw_err types_value(struct node *n, gw_value *ret)
{
    *ret = (gw_value){.kind = GW_LIST};
    for (struct type *t = n->types; t; t = t->hh.next) {
        if (!type_offered(t) || t->builtin) { /* no agent of these comes from elsewhere */
            continue;
        }
        gw_value one = gw_nil();
        GW_TRY(gw_list_add(&one, gw_str(t->name)));
        GW_TRY(gw_list_add(&one, gw_int(t->version)));
        GW_TRY(gw_list_add(ret, one));
    }
    return GW_OK;
}

static gw_err members_value(struct node *n, gw_value *ret)
{
    *ret = (gw_value){.kind = GW_LIST};
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        gw_value one = gw_nil();
        if (!p->url[0] || !p->has_key) {
            continue;
        }
        GW_TRY(about_value(p, &one));
        GW_TRY(gw_list_add(ret, one));
    }
    return GW_OK;
}

static bool is_plain(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

/* Bounded copies of what a peer says; false when it is not acceptable. */
static bool take_strs(const gw_value *list, size_t max, size_t max_bytes, gw_strs *ret)
{
    gw_strs_clear(ret);
    if (!list || list->kind != GW_LIST || list->list.n > max) {
        return list == NULL;
    }
    for (size_t i = 0; i < list->list.n; i++) {
        const gw_value *v = &list->list.items[i];
        if (v->kind != GW_STR || v->s.n > max_bytes || !is_plain(v->s.p) ||
            gw_strs_add(ret, v->s.p) != GW_OK) {
            return false;
        }
    }
    return true;
}

static bool take_about(struct peer *p, const gw_value *about)
{
    const char *name = gw_map_str(about, "name", "");
    const char *url = gw_map_str(about, "url", "");
    const gw_value *key = gw_map_get(about, "key");
    if (!name_is_valid(name) || strlen(url) >= sizeof p->url || strncmp(url, "https://", 8) != 0 ||
        !is_plain(url) || !key || key->kind != GW_BYTES || key->s.n != sizeof p->key) {
        return false;
    }
    struct host_id id = host_id_of_key((const uint8_t *)key->s.p);
    if (!host_id_equal(&id, &p->id)) {
        return false; /* a key that is not of this host_id */
    }
    memcpy(p->key, key->s.p, sizeof p->key);
    p->has_key = true;
    (void)span_text((struct span){(const uint8_t *)name, strlen(name)}, p->name, sizeof p->name);
    (void)span_text((struct span){(const uint8_t *)url, strlen(url)}, p->url, sizeof p->url);
    return take_strs(gw_map_get(about, "tags"), LIMIT_TAGS, LIMIT_NAME_BYTES, &p->tags) &&
           take_strs(gw_map_get(about, "properties"), LIMIT_PROPERTIES, LIMIT_PROPERTY_BYTES,
                     &p->properties);
}

static void take_types(struct peer *p, const gw_value *types)
{
    free(p->types);
    p->types = NULL;
    p->type_count = 0;
    if (!types || types->kind != GW_LIST || types->list.n > LIMIT_PAGE) {
        return;
    }
    p->types = xcalloc(types->list.n + 1, sizeof *p->types);
    for (size_t i = 0; i < types->list.n; i++) {
        const gw_value *one = &types->list.items[i];
        if (one->kind != GW_LIST || one->list.n < 2 || one->list.items[0].kind != GW_STR ||
            one->list.items[1].kind != GW_INT || !name_is_valid(one->list.items[0].s.p)) {
            continue;
        }
        struct peer_type *t = &p->types[p->type_count++];
        const gw_value *name = &one->list.items[0];
        (void)span_text((struct span){(const uint8_t *)name->s.p, name->s.n}, t->name,
                        sizeof t->name);
        t->version = (uint32_t)one->list.items[1].i;
    }
}

static void keep_member(struct node *n, struct peer *p)
{
    gw_value about = gw_nil();
    struct buf value = {0};
    struct store_batch *batch = store_batch_new();
    if (about_value(p, &about) == GW_OK) {
        value_pack(&about, &value);
        store_batch_put_take(batch, TABLE_MEMBERS, (struct span){p->id.b, HOST_ID_BYTES}, &value);
        if (!p->kept) {
            event_put(n, batch, &(struct event){.kind = "host.joined", .peer = p});
            p->kept = true;
            n->members++;
        }
        node_commit(n, batch, POINT_MEMBER, NULL, NULL);
    } else {
        store_batch_free(batch);
    }
    buf_free(&value);
    gw_value_free(&about);
}

void peers_boot_row(struct node *n, struct span key, struct span value)
{
    struct host_id id;
    gw_value about = gw_nil();
    if (key.n != HOST_ID_BYTES || value_unpack_span(value, &about) != GW_OK) {
        return;
    }
    memcpy(id.b, key.p, HOST_ID_BYTES);
    struct peer *p = peer_intern(n, &id);
    if (!p->self && take_about(p, &about)) {
        p->kept = true;
        n->members++;
        n->env->peer_want(n->env->ctx, &p->id, p->url);
    }
    gw_value_free(&about);
}

/* ---- frames out ---- */

uint64_t peer_stream(struct node *n)
{
    return n->next_stream++;
}

void peer_send_frame(struct node *n, struct peer *p, struct buf *frame)
{
    if (p->linked && buf_ok(frame)) {
        n->env->peer_send(n->env->ctx, &p->id, frame);
        standing_talk(n, p);
    }
    buf_free(frame);
}

static void send_hello(struct node *n, struct peer *p)
{
    if (!n->ready || n->standing.rising) {
        return; /* peers_ready; standing_rise */
    }
    gw_value about = gw_nil(), types = gw_nil(), members = gw_nil();
    struct buf frame = {0};
    if (about_value(n->self, &about) == GW_OK && types_value(n, &types) == GW_OK &&
        gw_map_set(&about, "types", types) == GW_OK && members_value(n, &members) == GW_OK &&
        gw_map_set(&about, "members", members) == GW_OK &&
        gw_map_set(&about, "mesh", gw_str(n->mesh_id)) == GW_OK &&
        standing_to_hello(n, &about) == GW_OK) {
        size_t at = frame_begin(&frame, FRAME_HELLO, 0, 3);
        mp_str(&frame, "host");
        mp_uint(&frame, PROTOCOL_VERSION);
        value_pack(&about, &frame);
        frame_end(&frame, at);
        p->told = n->standing.durable;
        peer_send_frame(n, p, &frame);
    }
    gw_value_free(&about);
}

void peers_types_changed(struct node *n)
{
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (p->linked) {
            send_hello(n, p);
        }
    }
}

static void send_members(struct node *n, const struct peer *except)
{
    gw_value members = gw_nil();
    if (members_value(n, &members) == GW_OK) {
        for (struct peer *p = n->peers; p; p = p->hh.next) {
            if (!p->up || p->self || p == except) {
                continue;
            }
            struct buf frame = {0};
            size_t at = frame_begin(&frame, FRAME_MEMBERS, 0, 1);
            value_pack(&members, &frame);
            frame_end(&frame, at);
            peer_send_frame(n, p, &frame);
        }
    }
    gw_value_free(&members);
}

/* ---- frames in ---- */

static void take_members(struct node *n, const gw_value *members)
{
    if (!members || members->kind != GW_LIST || members->list.n > LIMIT_MEMBERS) {
        return;
    }
    for (size_t i = 0; i < members->list.n; i++) {
        const gw_value *about = &members->list.items[i];
        struct host_id id;
        if (host_id_parse(gw_map_str(about, "host_id", ""), &id) != GW_OK ||
            n->members >= LIMIT_MEMBERS) {
            continue;
        }
        struct peer *p = peer_find(n, &id);
        if (p && (p->self || p->up || p->url[0])) {
            continue; /* its own word, or an older one of somebody else, is good enough */
        }
        bool fresh = p == NULL;
        p = peer_intern(n, &id);
        if (take_about(p, about)) {
            keep_member(n, p);
            n->env->peer_want(n->env->ctx, &p->id, p->url);
        } else if (fresh) {
            peer_clear(p);
            HASH_DEL(n->peers, p);
            free(p);
        }
    }
}

/* The same name under another host_id: the one that is up stays, the newcomer is refused. */
static bool name_taken(struct node *n, const struct peer *p)
{
    for (const struct peer *o = n->peers; o; o = o->hh.next) {
        if (o != p && o->up && strcmp(o->name, p->name) == 0) {
            char here[HOST_ID_TEXT], there[HOST_ID_TEXT];
            log_warn("peer.name", "name=%s host_id=%s refused: the name belongs to host_id=%s here",
                     p->name, host_id_text(&p->id, there), host_id_text(&o->id, here));
            return true;
        }
    }
    return false;
}

static void came_up(struct node *n, struct peer *p)
{
    p->up = true;
    log_info("peer.up", "host=%s url=%s", p->name, p->url);
    event_now(n, &(struct event){.kind = "host.up", .peer = p});
    keep_member(n, p);
    send_members(n, p);
    locations_link_up(n, p);
    ticket_out_link(n, p, true);
    ticket_in_link(n, p, true);
    topics_link_up(n, p);
    tells_link_up(n);
    intents_retry(n);
}

/* Nothing comes from it any more. */
static void went_down(struct node *n, struct peer *p, const char *why)
{
    struct request *r, *next;
    bool was_up = p->up;
    p->up = false;
    if (was_up) {
        p->down_since_us = n->env->mono_us(n->env->ctx);
    }
    HASH_ITER (hh, n->requests, r, next) {
        if (r->peer == p) {
            REACH(REQUEST_LOST);
            HASH_DEL(n->requests, r);
            n->env->timer_free(n->env->ctx, r->timer);
            r->on_answer(r->arg, GW_EUNREACHABLE, NULL);
            free(r);
        }
    }
    if (was_up && !n->stopping) {
        log_warn("peer.down", "host=%s %s", peer_label(p), why);
        event_now(n, &(struct event){.kind = "host.down", .peer = p});
        ticket_out_link(n, p, false);
        ticket_in_link(n, p, false);
    }
}

static void settle(struct node *n, struct peer *p)
{
    bool up = n->ready && p->linked && p->hello && p->held == HELD_NOT && n->held == HELD_NOT;
    if (up && !p->up) {
        came_up(n, p);
    } else if (!up && p->up) {
        went_down(n, p, "an old copy of a store is in the way; see `godwit hosts`");
    }
}

void peers_settle(struct node *n)
{
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (!p->self) {
            settle(n, p);
        }
    }
    peers_types_changed(n);
}

static void hello(struct node *n, struct peer *p, const struct frame *f)
{
    struct mp m = f->rest;
    struct span role;
    uint32_t version;
    gw_value about = gw_nil();
    if (mp_read_str(&m, &role) != GW_OK || !span_is(role, "host") ||
        mp_read_u32(&m, &version) != GW_OK || value_unpack(&m, &about) != GW_OK ||
        !take_about(p, &about)) {
        n->env->peer_drop(n->env->ctx, &p->id, "its HELLO does not hold what it must");
        gw_value_free(&about);
        return;
    }
    if (name_taken(n, p)) {
        n->env->peer_drop(n->env->ctx, &p->id, "its name belongs to another host");
        gw_value_free(&about);
        return;
    }
    p->hello = true;
    n->env->peer_want(n->env->ctx, &p->id, p->url); /* dialled from here, too, when it is gone */
    take_types(p, gw_map_get(&about, "types"));
    take_members(n, gw_map_get(&about, "members"));
    standing_hello(n, p, &about);
    gw_value_free(&about);
    settle(n, p);
    if (n->held == HELD_RESTORED) {
        restored_hello(n, p);
    }
}

static void answered(struct node *n, struct peer *p, const struct frame *f)
{
    struct request *r = NULL;
    HASH_FIND(hh, n->requests, &f->stream, sizeof f->stream, r);
    if (!r || r->peer != p) {
        REACH(ANSWER_LATE);
        return; /* late: its request has ended by time-out */
    }
    HASH_DEL(n->requests, r);
    n->env->timer_free(n->env->ctx, r->timer);
    r->on_answer(r->arg, GW_OK, f);
    free(r);
}

static void item(struct node *n, const struct peer *p, const struct frame *f)
{
    struct request *r = NULL;
    HASH_FIND(hh, n->requests, &f->stream, sizeof f->stream, r);
    if (r && r->peer == p && r->on_item) {
        r->on_item(r->arg, f);
    }
}

/* Nothing of who has not greeted us, little of who has an old copy of its store. */
static bool is_taken(const struct peer *p, uint32_t kind)
{
    switch (kind) {
    case FRAME_HELLO:
    case FRAME_VERDICT:
    case FRAME_PROBE: return true;
    case FRAME_REPLY:
    case FRAME_STANDING:
    case FRAME_ALIVE: return p->hello;
    default: return p->up;
    }
}

static void keep_early(struct peer *p, const struct frame *f)
{
    if (f->kind == FRAME_HELLO) {
        buf_reset(&p->early);
        buf_add(&p->early, f->rest.p, (size_t)(f->rest.end - f->rest.p));
        if (!buf_ok(&p->early)) {
            log_die("memory", "out of memory for a HELLO");
        }
    }
}

void node_peer_frame(struct node *n, const struct host_id *id, const struct frame *f)
{
    struct peer *p = peer_find(n, id);
    if (!p || !p->linked || !is_taken(p, f->kind)) {
        return;
    }
    if (!n->ready) {
        keep_early(p, f);
        return;
    }
    struct mp m = f->rest;
    gw_value members = gw_nil();
    switch (f->kind) {
    case FRAME_HELLO: hello(n, p, f); break;
    case FRAME_MEMBERS:
        if (value_unpack(&m, &members) == GW_OK) {
            take_members(n, &members);
            gw_value_free(&members);
        }
        break;
    case FRAME_REPLY:
    case FRAME_OFFER_ANSWER:
    case FRAME_RECEIPT:
    case FRAME_COMMITTED:
    case FRAME_QUERY_ANSWER:
    case FRAME_ABORTED: answered(n, p, f); break;
    case FRAME_ITEM: item(n, p, f); break;
    case FRAME_OFFER:
    case FRAME_STAGE:
    case FRAME_COMMIT:
    case FRAME_ABORT: ticket_in_frame(n, p, f); break;
    case FRAME_QUERY: ticket_out_query(n, p, f); break;
    case FRAME_LOCATE: location_frame(n, p, f); break;
    case FRAME_TOPICS: topics_frame(n, p, f); break;
    case FRAME_STANDING:
    case FRAME_VERDICT: standing_frame(n, p, f); break;
    case FRAME_PROBE:
    case FRAME_ALIVE: rivals_frame(n, p, f); break;
    default: break; /* PROTOCOL 2.3: unknown kinds are ignored */
    }
}

/* A host that has not read its store knows neither tickets nor fences: it would answer for what it
 * does not know. What a peer says before is kept, and nobody is greeted. */
void peers_ready(struct node *n)
{
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        struct buf early = buf_take(&p->early);
        struct frame f = {.kind = FRAME_HELLO, .rest = mp_over(buf_span(&early))};
        if (p->linked) {
            send_hello(n, p);
        }
        if (p->linked && early.len > 0) {
            hello(n, p, &f);
        }
        buf_free(&early);
    }
}

void node_peer_up(struct node *n, const struct host_id *id)
{
    struct peer *p = peer_intern(n, id);
    struct buf early;
    rivals_link_up(n, p, &early);
    p->linked = true;
    p->linked_us = n->env->mono_us(n->env->ctx);
    p->hello = false;
    buf_reset(&p->early);
    send_hello(n, p);
    if (early.len > 0) {
        const struct frame f = {.kind = FRAME_HELLO, .rest = mp_over(buf_span(&early))};
        node_peer_frame(n, id, &f);
    }
    buf_free(&early);
}

/* A link over which nobody has greeted us serves nothing; dialled again, it may. */
void peers_housekeeping(struct node *n)
{
    int64_t latest_us = n->env->mono_us(n->env->ctx) - LIMIT_HELLO_MS * 1000LL;
    for (struct peer *p = n->peers; p && n->ready; p = p->hh.next) {
        if (p->linked && !p->hello && p->linked_us < latest_us) {
            n->env->peer_drop(n->env->ctx, &p->id, "it has not said HELLO");
        }
    }
}

void node_peer_down(struct node *n, const struct host_id *id)
{
    struct peer *p = peer_find(n, id);
    if (p && p->linked) {
        p->linked = p->hello = false;
        went_down(n, p, "the link is gone; dialling it again");
        rivals_link_down(n, p);
    }
}

/* ---- requests ---- */

static void request_late(void *arg)
{
    struct request *r = arg;
    struct node *n = r->node;
    REACH_IF(!r->unsent, REQUEST_LATE);
    HASH_DEL(n->requests, r);
    n->env->timer_free(n->env->ctx, r->timer);
    r->on_answer(r->arg, r->unsent ? GW_EUNREACHABLE : GW_ETIMEOUT, NULL);
    free(r);
}

/* Takes `frame`; timeout_ms < 0: none. */
static void request(struct request seed, bool can, struct buf *frame, int64_t timeout_ms)
{
    struct request *r = xcalloc(1, sizeof *r);
    struct node *n = seed.node;
    *r = seed;
    r->unsent = !can || !buf_ok(frame);
    r->timer = n->env->timer_new(n->env->ctx, request_late, r);
    if (r->unsent || timeout_ms >= 0) {
        n->env->timer_start(n->env->ctx, r->timer, r->unsent ? 0 : timeout_ms);
    }
    HASH_ADD(hh, n->requests, stream, sizeof r->stream, r);
    if (!r->unsent) {
        n->env->peer_send(n->env->ctx, &r->peer->id, frame);
        standing_talk(n, r->peer);
    } else {
        REACH(REQUEST_UNSENT);
    }
    buf_free(frame);
}

void peer_request(struct node *n, struct peer *p, uint64_t stream, struct buf *frame,
                  int64_t timeout_ms,
                  void (*on_answer)(void *arg, gw_err err, const struct frame *f), void *arg)
{
    const struct request seed = {
        .stream = stream, .node = n, .peer = p, .on_answer = on_answer, .arg = arg};
    request(seed, p->up, frame, timeout_ms);
}

void peer_request_linked(struct node *n, struct peer *p, uint64_t stream, struct buf *frame,
                         int64_t timeout_ms,
                         void (*on_answer)(void *arg, gw_err err, const struct frame *f), void *arg)
{
    const struct request seed = {
        .stream = stream, .node = n, .peer = p, .on_answer = on_answer, .arg = arg};
    request(seed, p->linked, frame, timeout_ms);
}

void peer_request_stream(struct node *n, struct peer *p, uint64_t stream, struct buf *frame,
                         void (*on_item)(void *arg, const struct frame *f),
                         void (*on_answer)(void *arg, gw_err err, const struct frame *f), void *arg)
{
    const struct request seed = {.stream = stream,
                                 .node = n,
                                 .peer = p,
                                 .on_item = on_item,
                                 .on_answer = on_answer,
                                 .arg = arg};
    request(seed, p->up, frame, -1);
}

void peer_cancel(struct node *n, struct peer *p, uint64_t stream)
{
    struct buf frame = {0};
    frame_end(&frame, frame_begin(&frame, FRAME_CANCEL, stream, 0));
    peer_send_frame(n, p, &frame);
}
