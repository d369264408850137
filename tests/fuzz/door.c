#include "tests/fuzz/door.h"

#include <stdlib.h>

#define ANSWER_MS 120000 /* beyond every time-out that ends a call by itself */

static void on_send(void *arg, struct buf *bytes)
{
    struct door *d = arg;
    struct span in = buf_span(bytes);
    struct frame f;
    if (frame_take(&in, LIMIT_MESSAGE_BYTES, &f) != GW_OK || in.n > 0 || f.stream == 0) {
        abort();
    }
    d->answered += f.kind == FRAME_REPLY;
    if (d->forward) {
        d->forward(d->arg, bytes);
    }
    buf_free(bytes);
}

static bool is_served(const struct frame *f)
{
    struct mp m = f->rest;
    char op[LIMIT_NAME_BYTES + 1];
    return f->kind != FRAME_CALL || mp_read_text(&m, op, sizeof op) != GW_OK || play_serves(op);
}

void door_frame(struct door *d, struct play *p, size_t host, link_kind kind, const struct frame *f)
{
    static const api_role roles[] = {
        [LINK_PEER] = ROLE_PEER, [LINK_CLIENT] = ROLE_ADMIN, [LINK_RUNNER] = ROLE_OPERATOR};
    if (!is_served(f) || f->stream == 0 || d->asked == DOOR_CALLS) {
        return;
    }
    if (!d->link) {
        d->link = api_link_new(mesh_node(p->m, host), kind, roles[kind], on_send, d);
        if (kind == LINK_PEER) {
            d->peer = mesh_host_id(p->m, p->hosts - 1);
            api_link_set_peer(d->link, &d->peer);
        }
    }
    if (f->kind == FRAME_CALL) {
        d->streams[d->asked++] = f->stream;
    }
    api_link_frame(d->link, f);
}

static bool is_answered(void *arg)
{
    const struct door *d = arg;
    return d->answered >= d->asked;
}

void door_close(struct door *d, struct play *p)
{
    for (size_t i = 0; i < d->asked && !is_answered(d); i++) {
        const struct frame cancel = {.kind = FRAME_CANCEL, .stream = d->streams[i]};
        api_link_frame(d->link, &cancel);
    }
    if (!is_answered(d) && !mesh_run_until(p->m, is_answered, d, ANSWER_MS)) {
        mesh_fail(p->m, "%llu calls of a link, %llu answers", (unsigned long long)d->asked,
                  (unsigned long long)d->answered);
    }
    mesh_assert(p->m, d->answered == d->asked);
    api_link_free(d->link);
    *d = (struct door){0};
}
