/* Operations on files: which hosts they are about, and what the event log says of them.
 *
 * Any host may be asked. A copy is the work of the host that has the sources: the call is relayed
 * there, and that host dials the destination; so no byte of a file passes the host that was asked.
 * What happens on the host itself is the environment's (gw_env.file_op). */
#include "host/core/internal.h"

#include <stdio.h>
#include <string.h>

/* The host that an argument names; this one when it is not given. */
static gw_err named_host(struct node *n, struct op_call *call, const char *key, bool not_self,
                         struct peer **ret, struct gw_error *why)
{
    const char *selector = gw_map_str(&call->args, key, NULL);
    if (!selector) {
        *ret = n->self;
        return GW_OK;
    }
    return peers_pick(n, selector, not_self, ret, why);
}

static gw_err set_host(struct op_call *call, const char *key, const struct peer *p,
                       struct gw_error *why)
{
    char id[HOST_ID_TEXT];
    gw_err err = gw_map_set(&call->args, key, gw_str(host_id_text(&p->id, id)));
    return err ? gw_fail(why, err, "out of memory") : GW_OK;
}

/* The host whose files are meant. A call that came from another host was meant for this one. */
static gw_err owner(struct node *n, struct op_call *call, const char *key, struct peer **ret,
                    struct gw_error *why)
{
    GW_TRY(named_host(n, call, key, false, ret, why));
    if (!(*ret)->self && call_is_hop(call)) {
        return gw_fail(why, GW_EHOST_NOT_FOUND, "host \"%s\" was asked for files of host \"%s\"",
                       n->name, peer_label(*ret));
    }
    if (!(*ret)->self) {
        GW_TRY(set_host(call, key, *ret, why)); /* there a selector could mean another one */
    }
    return GW_OK;
}

void op_files_copy(struct node *n, struct op_call *call)
{
    struct gw_error why;
    struct peer *from, *to = n->self;
    gw_err err = owner(n, call, "from", &from, &why);
    if (err == GW_OK && from->self) {
        err = named_host(n, call, "to", true, &to, &why);
    } else if (err == GW_OK && !gw_map_str(&call->args, "to", NULL)) {
        err = set_host(call, "to", n->self, &why);
    }
    if (err != GW_OK) {
        op_fail(call, &why);
    } else if (!from->self) {
        route_relay(n, call, from);
    } else {
        const struct env_host dst = {to->id, peer_label(to), to->url, to->self};
        n->env->file_op(n->env->ctx, call, &dst);
    }
}

void op_files_ls(struct node *n, struct op_call *call)
{
    struct gw_error why;
    struct peer *on;
    if (owner(n, call, "on", &on, &why) != GW_OK) {
        op_fail(call, &why);
    } else if (!on->self) {
        route_forward(n, call, on);
    } else {
        n->env->file_op(n->env->ctx, call, NULL);
    }
}

void node_transfer_ended(struct node *n, const struct node_transfer *t)
{
    char text[LIMIT_ERROR_TEXT_BYTES + 64];
    const struct peer *other = peer_find(n, t->other);
    if (n->stopped) {
        return; /* nothing is written any more */
    }
    snprintf(text, sizeof text, "%llu files, %llu bytes%s%s", (unsigned long long)t->files,
             (unsigned long long)t->bytes, t->err ? "; " : "", t->err ? t->reason : "");
    struct event e = {.kind = "files.sent", .peer = other, .text = text};
    if (t->err) {
        e.kind = "files.failed";
    } else if (t->received) {
        e.kind = "files.received";
    }
    event_now(n, &e);
}
