/* Links: framed connections of the host, over TLS (peers, remote clients), unix sockets (local
 * clients) and socket pairs (runners). Same frames everywhere (protocol/frame.h). Loop thread only.
 *
 * Three classes go out: control before messages before bulk. On peer links a frame above
 * LIMIT_FRAGMENT_BYTES is fragmented and travels as bulk, whatever its kind; fragments are fed only
 * while less than 64 KiB wait in the socket, so that a message never waits behind a whole bulk
 * frame (TCP_NOTSENT_LOWAT 64 KiB, TCP_NODELAY). Sends never block: they queue; above
 * LIMIT_LINK_OUT_BYTES the link closes with reason "slow". Frames that are sent in one loop turn
 * leave in one write. Nothing is freed inside its own callback.
 *
 * Handled here and never shown to on_frame: FRAGMENT, PING, PONG, and kinds that this build does
 * not know (PROTOCOL.md 2.3).
 *
 * States:  OPEN -> DRAINING (link_close with flush: what is queued leaves, what comes is dropped)
 *          OPEN, DRAINING -> CLOSED (on_close follows from the loop, then the link is freed)
 * Files: stream.c (bytes over a socket, TLS or not), link.c (life), link_in.c (reading),
 * reassembly.c (fragments), link_out.c (queues and writing), link_dial.c (outgoing). The process
 * must ignore SIGPIPE. */
#ifndef HOST_NET_LINK_H
#define HOST_NET_LINK_H

#include <event2/event.h>

#include "host/net/stream.h"
#include "host/trust/trust.h"
#include "protocol/frame.h"

typedef enum link_kind { LINK_PEER, LINK_CLIENT, LINK_RUNNER } link_kind;

struct link;
struct link_ops {
    /* A whole frame; borrowed for the call. */
    void (*on_frame)(void *arg, struct link *link, const struct frame *frame);
    /* The link is gone (by the other side, an error, or link_close); called once, from the loop,
     * never from inside another call of this file. The link is freed after it returns. `reason` is
     * a short text for logs: "closed by the other side", "slow", "silent", "protocol error: ...",
     * or that of link_close. */
    void (*on_close)(void *arg, struct link *link, const char *reason);
};

/* Take over a connection (an upgraded HTTP connection or an own handshake): `io` is taken and left
 * empty; `early` are bytes that were received already. `peer` NULL = nobody known. */
struct link *link_over_stream(struct event_base *base, struct stream *io, link_kind kind,
                              const struct trust_peer *peer, struct span early);
/* Take over a connected socket (any stream socket; made non-blocking). */
struct link *link_over_socket(struct event_base *base, evutil_socket_t fd, link_kind kind);
/* Must be set in the same loop turn in which the link was made. */
void link_set_ops(struct link *link, const struct link_ops *ops, void *arg);
/* Called once, after on_close, when the link is freed. */
void link_set_release(struct link *link, void (*release)(void *arg), void *arg);
void *link_arg(const struct link *link);
link_kind link_get_kind(const struct link *link);
const struct trust_peer *link_peer(const struct link *link);
/* Queue one whole frame (with its u32 length, as frame_begin/frame_end build it); the buffer is
 * taken and left empty. The class comes from the frame's kind (frame_kind_class); frames of one
 * class keep their order. On a link that is closing the frame is dropped. */
void link_send(struct link *link, struct buf *frame);
/* Read nothing more until link_resume: what the other side sends then waits in its own socket.
 * Frames that were read already are still delivered. Nothing is noticed of its end meanwhile. */
void link_pause(struct link *link);
void link_resume(struct link *link);
size_t link_queued_bytes(const struct link *link);
/* Close after what is queued has been written (flush = true, at most 1 s) or at once. on_close
 * follows. A second call can only make it sooner; the first reason stays. */
void link_close(struct link *link, bool flush, const char *reason);
/* Free the links of `base` that still live, without on_close: its loop has ended. */
void link_end_all(const struct event_base *base);
/* Peer links: ping after `ping_ms` of silence, close after `close_ms` (defaults 15 s and 30 s;
 * other kinds: none). For tests and settings. */
void link_set_silence(struct link *link, int64_t ping_ms, int64_t close_ms);
/* Milliseconds of the monotonic clock, coarse (some ms). */
int64_t link_now_ms(void);

/* Dial a peer: "https://host:port", TLS, host_id check, upgrade. `expect` nil or NULL = any host of
 * the mesh. on_done runs once from the loop: link (take it: set ops at once) or NULL with why:
 * GW_EARG (url), GW_EUNREACHABLE, GW_ETIMEOUT, GW_EDENIED (certificates), GW_EIDENTITY (another
 * host_id), GW_EPROTO (not a godwit host), or what the other host answered. The dial is gone when
 * on_done returns. Names are looked up in /etc/hosts and DNS. Never NULL. */
struct link_dial;
struct link_dial *
link_dial(struct event_base *base, struct trust *trust, const char *url,
          const struct host_id *expect, int64_t timeout_ms,
          void (*on_done)(void *arg, struct link *link, const struct gw_error *why), void *arg);
void link_dial_cancel(struct link_dial *dial); /* no callback afterwards; NULL allowed */

#endif
