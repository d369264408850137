/* Dialling a peer for a link. */
#include <stdlib.h>

#include "host/net/dial.h"
#include "host/net/link.h"
#include "protocol/base/log.h"

struct link_dial {
    struct event_base *base;
    struct dial *dial;
    void (*on_done)(void *arg, struct link *link, const struct gw_error *why);
    void *arg;
};

static void dialled(void *arg, struct stream *io, const struct trust_peer *peer, struct span early,
                    const struct gw_error *why)
{
    struct link_dial *d = arg;
    struct link *link = io ? link_over_stream(d->base, io, LINK_PEER, peer, early) : NULL;
    d->on_done(d->arg, link, why);
    free(d);
}

struct link_dial *
link_dial(struct event_base *base, struct trust *trust, const char *url,
          const struct host_id *expect, int64_t timeout_ms,
          void (*on_done)(void *arg, struct link *link, const struct gw_error *why), void *arg)
{
    struct link_dial *d = xcalloc(1, sizeof *d);
    *d = (struct link_dial){.base = base, .on_done = on_done, .arg = arg};
    struct dial_to to = {.url = url,
                         .expect = expect,
                         .path = "/v1/link",
                         .upgrade = "Upgrade: godwit/1\r\nGodwit-Role: peer\r\n",
                         .timeout_ms = timeout_ms};
    d->dial = dial_start(base, trust, &to, dialled, d);
    return d;
}

void link_dial_cancel(struct link_dial *d)
{
    if (d) {
        dial_cancel(d->dial);
        free(d);
    }
}
