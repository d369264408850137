/* Links of this host: one lasting link to each member that is wanted, dialled again with jittered
 * back-off; and the links of clients.
 *
 * Two hosts may dial each other at once: of two links of opposite directions that come up within
 * TIE_US the one dialled by the lower host_id stays on both sides; otherwise the newer one is a
 * rival, and the node says which of them stays: after a restart of the other host the older one is
 * dead, and a host that was copied has two that live. */
#include <stdlib.h>
#include <string.h>

#include "host/host.h"
#include "persistence/failpoint.h"
#include "protocol/base/log.h"
#include "protocol/base/table.h"

#define DIAL_TIMEOUT_MS  5000
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   15000
#define REFUSED_MS       30000 /* a host that was refused is not dialled sooner */
#define TIE_US           2000000

struct remote {
    struct remote *next;
    struct host *h;
    struct host_id id; /* nil: a seed that has not answered yet */
    char url[257];
    struct link *link, *rival;
    struct event *promotion; /* the rival takes the place of the link */
    bool rival_dialled;
    struct api_link *api; /* calls that it makes */
    bool dialled;         /* by us */
    int64_t up_us;
    struct link_dial *dial;
    struct event *timer;
    int64_t backoff_ms;
};

static struct remote *remote_find(struct host *h, const struct host_id *id)
{
    for (struct remote *r = h->remotes; r; r = r->next) {
        if (!host_id_is_nil(&r->id) && host_id_equal(&r->id, id)) {
            return r;
        }
    }
    return NULL;
}

static void dial(struct remote *r);
static void promote(evutil_socket_t fd, short what, void *arg);

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    dial(arg);
}

static struct remote *remote_new(struct host *h, const struct host_id *id, const char *url)
{
    struct remote *r = xcalloc(1, sizeof *r);
    r->h = h;
    if (id) {
        r->id = *id;
    }
    (void)span_text((struct span){(const uint8_t *)url, strlen(url)}, r->url, sizeof r->url);
    r->backoff_ms = BACKOFF_FIRST_MS;
    r->timer = event_new(h->base, -1, 0, timer_fired, r);
    r->promotion = event_new(h->base, -1, 0, promote, r);
    gw_assert(r->timer && r->promotion);
    r->next = h->remotes;
    h->remotes = r;
    return r;
}

static void remote_free(struct remote *r)
{
    struct remote **at = &r->h->remotes;
    while (*at != r) {
        at = &(*at)->next;
    }
    *at = r->next;
    link_dial_cancel(r->dial);
    event_free(r->timer);
    event_free(r->promotion);
    api_link_free(r->api);
    free(r);
}

static void dial_later(struct remote *r)
{
    if (r->h->stopping || !r->url[0]) {
        return;
    }
    uint32_t jitter = (uint32_t)r->backoff_ms / 2 + 1;
    uint32_t random;
    r->h->env.random(r->h, &random, sizeof random);
    int64_t ms = r->backoff_ms / 2 + random % jitter;
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(r->timer, &tv);
    r->backoff_ms = r->backoff_ms * 2 < BACKOFF_MAX_MS ? r->backoff_ms * 2 : BACKOFF_MAX_MS;
}

/* ---- failpoints ---- */

/* A frame leaves, unless it is to be lost; twice, perhaps. Takes it. */
static void send_frame(struct link *link, struct buf *frame)
{
    struct span bytes = buf_span(frame);
    struct frame f;
    unsigned fails = failpoint_on && frame_take(&bytes, SIZE_MAX, &f) == GW_OK
                         ? failpoint_frame(f.kind, false)
                         : 0;
    if (fails == FAIL_LOST) {
        buf_free(frame);
        return;
    }
    if (fails == FAIL_TWICE) {
        struct buf again = {0};
        buf_add(&again, frame->data, frame->len);
        link_send(link, &again);
        buf_free(&again);
    }
    link_send(link, frame);
}

/* ---- a link to a host ---- */

static void peer_frame(void *arg, struct link *link, const struct frame *f)
{
    struct remote *r = arg;
    (void)link;
    (void)failpoint_frame(f->kind, true);
    if (f->kind == FRAME_CALL || f->kind == FRAME_CANCEL) {
        api_link_frame(r->api, f);
    } else {
        node_peer_frame(r->h->node, &r->id, f);
    }
}

static void peer_lost(struct remote *r)
{
    r->link = NULL;
    api_link_free(r->api);
    r->api = NULL;
    node_peer_down(r->h->node, &r->id);
}

static void peer_closed(void *arg, struct link *link, const char *reason)
{
    struct remote *r = arg;
    if (r->link != link) {
        return; /* it has been replaced */
    }
    log_info("link.closed", "url=%s reason=\"%s\"", r->url, reason);
    peer_lost(r);
    dial_later(r);
}

static const struct link_ops peer_ops = {peer_frame, peer_closed};

static void ignore_frame(void *arg, struct link *link, const struct frame *f)
{
    (void)arg, (void)link, (void)f;
}
static void ignore_close(void *arg, struct link *link, const char *reason)
{
    (void)arg, (void)link, (void)reason;
}
static const struct link_ops ignore_ops = {ignore_frame, ignore_close};

static void send_to_peer(void *arg, struct buf *frame)
{
    struct remote *r = arg;
    if (r->link) {
        send_frame(r->link, frame);
    }
    buf_free(frame);
}

static bool newcomer_loses(const struct remote *r, bool dialled)
{
    struct host *h = r->h;
    if (!r->link || r->dialled == dialled || h->env.mono_us(h) - r->up_us > TIE_US) {
        return false;
    }
    bool ours_stays = host_id_compare(&h->trust->id, &r->id) < 0;
    return dialled != ours_stays;
}

static void refuse(struct link *link, const char *reason)
{
    link_set_ops(link, &ignore_ops, NULL);
    link_close(link, true, reason);
}

static void rival_frame(void *arg, struct link *link, const struct frame *f)
{
    struct remote *r = arg;
    (void)link;
    node_rival_frame(r->h->node, &r->id, f);
}

static void rival_closed(void *arg, struct link *link, const char *reason)
{
    struct remote *r = arg;
    (void)link, (void)reason;
    r->rival = NULL;
    node_rival_down(r->h->node, &r->id);
}

static const struct link_ops rival_ops = {rival_frame, rival_closed};

static void bring_up(struct remote *r, struct link *link, bool dialled)
{
    event_del(r->timer);
    link_dial_cancel(r->dial);
    r->dial = NULL;
    r->link = link;
    r->dialled = dialled;
    r->up_us = r->h->env.mono_us(r->h);
    r->backoff_ms = BACKOFF_FIRST_MS;
    r->api = api_link_new(r->h->node, LINK_PEER, ROLE_PEER, send_to_peer, r);
    api_link_set_peer(r->api, &r->id);
    link_set_ops(link, &peer_ops, r);
    int64_t silence_ms = (int64_t)r->h->config->link_silence * 1000 / failpoint_speed;
    link_set_silence(link, silence_ms / 2, silence_ms);
    node_peer_up(r->h->node, &r->id);
}

static void take_link(struct remote *r, struct link *link, bool dialled)
{
    if (newcomer_loses(r, dialled) || r->rival) {
        refuse(link, "another link to this host is up");
    } else if (r->link) {
        r->rival = link;
        r->rival_dialled = dialled;
        link_set_ops(link, &rival_ops, r);
        node_peer_rival(r->h->node, &r->id);
    } else {
        bring_up(r, link, dialled);
    }
}

static void promote(evutil_socket_t fd, short what, void *arg)
{
    struct remote *r = arg;
    struct link *link = r->rival, *old = r->link;
    (void)fd, (void)what;
    if (!link || r->h->stopping) {
        return;
    }
    r->rival = NULL;
    if (old) {
        link_set_ops(old, &ignore_ops, NULL);
        link_close(old, false, "replaced by a newer link");
        peer_lost(r);
    }
    bring_up(r, link, r->rival_dialled);
}

void links_rival(void *host, const struct host_id *id, bool take, struct buf *last_word,
                 const char *reason)
{
    struct remote *r = remote_find(host, id);
    struct link *link = r ? r->rival : NULL;
    if (link && take) {
        event_active(r->promotion, EV_TIMEOUT, 0);
    } else if (link) {
        r->rival = NULL;
        if (last_word) {
            link_send(link, last_word);
        }
        refuse(link, reason);
    }
}

/* ---- dialling ---- */

static void dialled_to(void *arg, struct link *link, const struct gw_error *why)
{
    struct remote *r = arg;
    struct host *h = r->h;
    r->dial = NULL;
    if (!link) {
        log_debug("link.dial", "url=%s %s", r->url, why->text);
        if (why->code == GW_EIDENTITY || why->code == GW_EDENIED) {
            log_warn("link.refused", "url=%s %s", r->url, why->text);
            r->backoff_ms = REFUSED_MS;
        }
        if (!r->link) {
            dial_later(r);
        }
        return;
    }
    const struct trust_peer *peer = link_peer(link);
    if (host_id_equal(&peer->id, &h->trust->id)) {
        refuse(link, "that is this host itself");
        remote_free(r);
        return;
    }
    struct remote *known = remote_find(h, &peer->id);
    if (!known) {
        r->id = peer->id;
        known = r;
    } else if (known != r) {
        remote_free(r); /* a seed: its host was met in another way */
    }
    take_link(known, link, true);
}

static void dial(struct remote *r)
{
    if (!r->dial && !r->link && !r->h->stopping) {
        r->dial = link_dial(r->h->base, r->h->trust, r->url, host_id_is_nil(&r->id) ? NULL : &r->id,
                            DIAL_TIMEOUT_MS, dialled_to, r);
    }
}

void links_seed(struct host *h, const char *url)
{
    dial(remote_new(h, NULL, url));
}

void links_want(void *host, const struct host_id *id, const char *url)
{
    struct host *h = host;
    struct remote *r = remote_find(h, id);
    if (!r) {
        r = remote_new(h, id, url);
    } else if (strlen(url) < sizeof r->url) {
        memcpy(r->url, url, strlen(url) + 1);
    }
    if (!r->link && !r->dial && !event_pending(r->timer, EV_TIMEOUT, NULL)) {
        struct timeval now = {0};
        event_add(r->timer, &now); /* not inside the call that asks */
    }
}

void links_send(void *host, const struct host_id *to, struct buf *frame)
{
    struct remote *r = remote_find(host, to);
    if (r && r->link) {
        send_frame(r->link, frame);
    }
    buf_free(frame);
}

const char *links_url(struct host *h, const struct host_id *id)
{
    const struct remote *r = remote_find(h, id);
    return r && r->url[0] ? r->url : NULL;
}

void links_drop(void *host, const struct host_id *id, const char *reason)
{
    struct remote *r = remote_find(host, id);
    if (r && r->link) {
        log_warn("link.dropped", "url=%s %s", r->url, reason);
        r->backoff_ms = REFUSED_MS;
        link_close(r->link, true, reason);
    }
}

/* ---- clients ---- */

struct client_link {
    struct client_link *next, **prev;
    struct link *link;
    struct api_link *api;
};

static void client_has_room(void *arg)
{
    struct client_link *c = arg;
    link_resume(c->link);
}

/* A client that sends more than is done for it is slowed by its own socket. */
static void client_frame(void *arg, struct link *link, const struct frame *f)
{
    struct client_link *c = arg;
    (void)failpoint_frame(f->kind, true);
    api_link_frame(c->api, f);
    if (api_link_is_full(c->api, client_has_room)) {
        link_pause(link);
    }
}

static void client_forget(struct client_link *c)
{
    *c->prev = c->next;
    if (c->next) {
        c->next->prev = c->prev;
    }
    api_link_free(c->api);
    free(c);
}

static void client_closed(void *arg, struct link *link, const char *reason)
{
    (void)link, (void)reason;
    client_forget(arg);
}

static const struct link_ops client_ops = {client_frame, client_closed};

static void send_to_client(void *arg, struct buf *frame)
{
    struct client_link *c = arg;
    send_frame(c->link, frame);
}

void links_on_link(struct host *h, struct link *link, api_role role)
{
    if (h->stopping) {
        refuse(link, "the host is stopping");
        return;
    }
    if (link_get_kind(link) == LINK_PEER) {
        const struct trust_peer *peer = link_peer(link);
        if (host_id_equal(&peer->id, &h->trust->id)) {
            refuse(link, "that is this host itself");
            return;
        }
        struct remote *r = remote_find(h, &peer->id);
        take_link(r ? r : remote_new(h, &peer->id, ""), link, false);
        return;
    }
    struct client_link *c = xcalloc(1, sizeof *c);
    c->link = link;
    c->next = h->clients;
    c->prev = &h->clients;
    if (c->next) {
        c->next->prev = &c->next;
    }
    h->clients = c;
    c->api = api_link_new(h->node, LINK_CLIENT, role, send_to_client, c);
    link_set_ops(link, &client_ops, c);
}

size_t links_client_count(const struct host *h)
{
    size_t n = 0;
    for (const struct client_link *c = h->clients; c; c = c->next) {
        n++;
    }
    return n;
}

void links_close(struct host *h)
{
    while (h->remotes) {
        struct remote *r = h->remotes;
        if (r->link) {
            link_set_ops(r->link, &ignore_ops, NULL);
            link_close(r->link, true, "the host is stopping");
        }
        if (r->rival) {
            refuse(r->rival, "the host is stopping");
        }
        remote_free(r);
    }
    while (h->clients) {
        struct client_link *c = h->clients;
        link_set_ops(c->link, &ignore_ops, NULL);
        link_close(c->link, true, "the host is stopping");
        client_forget(c);
    }
}
