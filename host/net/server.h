/* The listener: HTTPS on one TCP port and plain HTTP on a unix socket; hands upgraded connections
 * over as links and requests to one handler. Loop thread only.
 *
 * HTTP/1.1 is spoken by an own small server over the same streams as the links (http_head.c parses,
 * http_conn.c reads and writes, http.c answers): so the connection that is upgraded is simply
 * handed over, and every limit is ours. Limits: header LIMIT_HTTP_HEADER_BYTES, whole within
 * LIMIT_HTTP_HEADER_MS of the accept or of its first byte however it trickles; body
 * LIMIT_HTTP_BODY_BYTES within LIMIT_HTTP_BODY_MS; LIMIT_CLIENTS connections on each listener;
 * LIMIT_LINKS peer links; TLS 1.3 only. A connection without client certificate has ROLE_NONE. The
 * process must ignore SIGPIPE (server_open sets it).
 *
 * When all places are taken, the oldest connection that has shown no certificate and asks nothing
 * gives way to a new one, once it is LIMIT_HTTP_YIELD_MS old. Where there is none, a few more are
 * taken only to be answered "busy" (LIMIT_CLIENTS_SURPLUS), and the rest is closed at once. */
#ifndef HOST_NET_SERVER_H
#define HOST_NET_SERVER_H

#include <event2/event.h>

#include "host/core/op.h"
#include "host/net/http_head.h"
#include "host/net/link.h"

/* struct http_call (declared in host/core/op.h): one request in progress. */
struct server;

/* A connection that leaves the server with its request head read and nothing answered: whoever
 * takes it reads the body, writes the answer and closes, on any thread. Not kept alive. */
struct handover {
    struct stream io;       /* owned */
    char *text;             /* owned; the head points into it */
    struct http_head *head; /* owned */
    struct buf early;       /* owned: bytes behind the head that were read already */
    struct trust_peer peer;
    api_role role;
    void (*leave)(void *arg); /* on the loop: its place among the counted is free again */
    void *leave_arg;
};
/* Closes and frees what is left of it, its place too: loop thread. */
void handover_free(struct handover *h);

struct server_ops {
    /* A request with its body, to be answered once by http_answer, or http_stream_begin/…, now or
     * later. */
    void (*on_request)(void *arg, struct http_call *call);
    /* An upgraded link. Take it (link_set_ops) at once. role: ROLE_PEER for host certificates with
     * Godwit-Role: peer, ROLE_ADMIN for the unix socket and operator certificates. The link's kind
     * is LINK_PEER or LINK_CLIENT. */
    void (*on_link)(void *arg, struct link *link, api_role role);
    /* Whether the connection of this request is to be handed over, head and all, before its body is
     * read. GW_OK with *ret; another code: the request is answered with it. NULL: none is. */
    gw_err (*wants)(void *arg, const struct http_head *head, api_role role, bool *ret,
                    struct gw_error *why);
    void (*on_handover)(void *arg, struct handover *h); /* taken */
};
struct server_config {
    struct event_base *base;
    struct trust *trust;
    const char *listen; /* "127.0.0.1:7420"; port 0 = any; "host" alone = 7420 or the next free one
                           up to 7519 */
    const char *socket_path; /* api.sock, mode 0600; may be longer than 107 bytes (O_PATH trick) */
    const struct server_ops *ops;
    void *arg;
    /* 0 = the limit of protocol/limits.h */
    int64_t header_ms, idle_ms, body_ms, write_ms, yield_ms;
    unsigned max_connections; /* on each listener */
    unsigned descriptors;     /* that connections may take: at most 3/4 of them over TCP, 1/4 on the
                                 socket; 0 = as many as there are connections */
};
/* Errors: GW_EEXISTS port in use (names who to look for), GW_EDENIED, GW_EARG. A stale socket file
 * is replaced. */
gw_err server_open(const struct server_config *config, struct server **ret,
                   struct gw_error *why) GW_MUST_USE;
const char *server_url(const struct server *s); /* "https://127.0.0.1:7420" */
void server_close(
    struct server *s); /* stops accepting, closes open connections, removes the socket */

/* --- one request --- */
const char *http_method(const struct http_call *c); /* "GET" */
const char *http_path(const struct http_call *c);   /* decoded? no: raw path without query */
const char *http_query(const struct http_call *c);  /* raw, "" when none */
const char *http_header(const struct http_call *c, const char *name); /* NULL when absent */
/* The same, and NULL when it comes more than once. */
const char *http_header_once(const struct http_call *c, const char *name);
struct span http_body(struct http_call *c);
api_role http_role(const struct http_call *c);
SSL *http_ssl(const struct http_call *c); /* NULL on the unix socket */
/* A further header line of the answer (before it begins). */
void http_set_header(struct http_call *c, const char *name, const char *value);
/* Answers once; the call is gone afterwards. `body` is copied. */
void http_answer(struct http_call *c, int status, const char *content_type, struct span body);
/* Answer {"error": {"code", "message", "hint"}} as JSON with the status of the code. */
void http_answer_error(struct http_call *c, const struct gw_error *why);
/* For those who write answers themselves; any thread. Append {"error": …} as JSON; the text of a
 * status. */
void http_error_body(const struct gw_error *why, struct buf *out);
const char *http_status_text(int status);
/* Chunked answer (server-sent events). http_stream_write returns false when the client is gone, or
 * has left LIMIT_HTTP_STREAM_BYTES unread: then call http_stream_end once. on_gone (NULL allowed)
 * tells of it from the loop, at most once, and not after a write has returned false.
 * http_stream_end is due in every case. */
void http_stream_begin(struct http_call *c, const char *content_type, void (*on_gone)(void *arg),
                       void *arg);
bool http_stream_write(struct http_call *c, struct span data);
void http_stream_end(struct http_call *c);
/* The client went away before the answer: the call stays valid until answered; the answer is
 * dropped. */

#endif
