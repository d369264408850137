/* Connections that leave the server: GET /v1/link makes one a link (PROTOCOL.md 1), others are
 * handed over with their request. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/net/http_private.h"

/* A link's place among the counted. */
struct seat {
    struct counts *counts;
    unsigned *count;
};

static void leave(void *arg)
{
    struct seat *seat = arg;
    (*seat->count)--;
    counts_drop(seat->counts);
    free(seat);
}

/* Who may have which link. */
static gw_err check_role(const struct conn *c, link_kind kind, struct gw_error *why)
{
    if (kind == LINK_PEER) {
        if (c->role == ROLE_NONE) {
            return gw_fail(why, GW_EUNAUTHENTICATED, "a peer link needs a host certificate");
        }
        if (c->role != ROLE_PEER) {
            return gw_fail(why, GW_EDENIED, "only a host of the mesh may have a peer link");
        }
        if (c->counts->peers >= LIMIT_LINKS) {
            return gw_fail(why, GW_EBUSY, "%u peer links are open already", LIMIT_LINKS);
        }
        return GW_OK;
    }
    if (c->role == ROLE_NONE) {
        gw_fail(why, GW_EUNAUTHENTICATED, "a client link needs an operator certificate");
        gw_hint(why, "on this machine use the unix socket of the host");
        return GW_EUNAUTHENTICATED;
    }
    if (c->role == ROLE_PEER) {
        return gw_fail(why, GW_EDENIED, "a host certificate opens peer links only");
    }
    return GW_OK;
}

static gw_err check_request(const struct conn *c, link_kind *ret_kind, int *ret_status,
                            struct gw_error *why)
{
    const struct http_head *h = &c->call->head;
    *ret_status = 0;
    if (strcmp(h->method, "GET") != 0) {
        return gw_fail(why, GW_EHTTP_METHOD, "\"/v1/link\" takes GET only");
    }
    if (!http_head_has_word(http_head_get(h, "connection"), "upgrade") ||
        !http_head_has_word(http_head_get(h, "upgrade"), "godwit/1")) {
        *ret_status = 426;
        gw_fail(why, GW_EARG, "\"/v1/link\" is for links");
        gw_hint(why, "send Connection: Upgrade and Upgrade: godwit/1");
        return GW_EARG;
    }
    const char *role = http_head_get(h, "godwit-role");
    if (role && strcmp(role, "peer") == 0) {
        *ret_kind = LINK_PEER;
    } else if (role && strcmp(role, "client") == 0) {
        *ret_kind = LINK_CLIENT;
    } else {
        return gw_fail(why, GW_EARG, "the header Godwit-Role is neither \"peer\" nor \"client\"");
    }
    if (h->body_bytes > 0) {
        return gw_fail(why, GW_EARG, "an upgrade has no body");
    }
    return check_role(c, *ret_kind, why);
}

bool upgrade_request(struct conn *c)
{
    if (strcmp(c->call->head.path, "/v1/link") != 0) {
        return false;
    }
    struct gw_error why = {0};
    int status;
    gw_err err = check_request(c, &c->upgrade_to, &status, &why);
    if (err != GW_OK) {
        if (status == 426) {
            http_set_header(c->call, "Upgrade", "godwit/1");
        } else if (err == GW_EHTTP_METHOD) {
            http_set_header(c->call, "Allow", "GET");
        }
        http_answer_status(c->call, status ? status : gw_err_http(err), &why);
        return true;
    }
    buf_addf(&c->out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                      "Upgrade: godwit/1\r\n\r\n");
    call_free(c->call);
    c->call = NULL;
    conn_upgrades(c);
    return true;
}

static struct seat *take_seat(struct conn *c, unsigned *count)
{
    struct seat *seat = xcalloc(1, sizeof *seat);
    seat->counts = counts_hold(c->counts);
    seat->count = count;
    (*seat->count)++;
    event_del(&c->ev_read);
    event_del(&c->ev_write);
    return seat;
}

bool upgrade_finish(struct conn *c)
{
    struct server *s = c->server;
    bool is_peer = c->upgrade_to == LINK_PEER;
    struct seat *seat = take_seat(c, is_peer ? &c->counts->peers : &c->counts->conns[c->local]);
    struct link *link =
        link_over_stream(s->base, &c->io, c->upgrade_to, &c->peer, buf_span(&c->in));
    link_set_release(link, leave, seat);
    conn_abandon(c);
    s->ops.on_link(s->arg, link, c->role);
    return false;
}

void upgrade_hand_over(struct conn *c)
{
    struct server *s = c->server;
    struct seat *seat = take_seat(c, &c->counts->conns[c->local]);
    struct handover *h = xcalloc(1, sizeof *h);
    *h = (struct handover){.io = stream_take(&c->io),
                           .text = c->call->text,
                           .head = xcalloc(1, sizeof *h->head),
                           .early = c->in,
                           .peer = c->peer,
                           .role = c->role,
                           .leave = leave,
                           .leave_arg = seat};
    *h->head = c->call->head;
    c->call->text = NULL;
    c->in = (struct buf){0};
    call_free(c->call);
    c->call = NULL;
    conn_abandon(c);
    s->ops.on_handover(s->arg, h);
}

void handover_free(struct handover *h)
{
    stream_close(&h->io);
    free(h->text);
    free(h->head);
    buf_free(&h->early);
    if (h->leave) {
        h->leave(h->leave_arg);
    }
    free(h);
}
