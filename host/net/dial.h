/* Dialling another host: look up, connect (each address in turn), TLS, host_id check, upgrade. One
 * timer bounds it all; the result is always told from the loop. Loop thread only. */
#ifndef HOST_NET_DIAL_H
#define HOST_NET_DIAL_H

#include <event2/event.h>

#include "host/net/stream.h"
#include "host/trust/trust.h"

struct dial_to {
    const char *url;              /* "https://host:port" */
    const struct host_id *expect; /* nil or NULL = any host of the mesh */
    const char *path;             /* of the upgrade, "/v1/link"; static */
    const char *upgrade; /* its header lines, "Upgrade: godwit/1\r\n"; copied, below 128 bytes */
    int64_t timeout_ms;  /* for all of it */
    int64_t answer_ms;   /* 0; else the answer may come so long after the request was written: it
                            waits   its turn there */
};

/* Runs once. `io` is to be taken (stream_take; what stays is closed); `early` are bytes that came
 * behind the answer, valid for the call. io NULL: failed, with why: GW_EARG (url), GW_EUNREACHABLE,
 * GW_ETIMEOUT, GW_EDENIED (certificates), GW_EIDENTITY (another host_id), GW_EPROTO (not a godwit
 * host), or what the other host answered. */
typedef void (*dial_done)(void *arg, struct stream *io, const struct trust_peer *peer,
                          struct span early, const struct gw_error *why);

struct dial;
/* The dial is gone when on_done returns. Names are looked up in /etc/hosts and DNS. Never NULL. */
struct dial *dial_start(struct event_base *base, struct trust *trust, const struct dial_to *to,
                        dial_done on_done, void *arg);
void dial_cancel(struct dial *d); /* no callback afterwards; NULL allowed */

#endif
