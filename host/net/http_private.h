/* Inside of the server: shared by server.c, http_conn.c and http.c only. */
#ifndef HOST_NET_HTTP_PRIVATE_H
#define HOST_NET_HTTP_PRIVATE_H

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "host/net/http_head.h"
#include "host/net/server.h"

/* How many there are, for the limits. Outlives the server: links that it made hold it. */
struct counts {
    unsigned refs;
    unsigned conns[2]; /* TCP, unix socket: HTTP connections and client links */
    unsigned peers;    /* peer links */
};
struct counts *counts_hold(struct counts *c);
void counts_drop(struct counts *c);

/*  HANDSHAKE -> HEAD -> BODY -> HANDLED -> HEAD ...        kept alive
 *                HEAD -> UPGRADE -> CLOSED                 the stream lives on as a link
 *                HEAD -> CLOSED                            it lives on in other hands (handover)
 *               HANDLED -> STREAM -> HEAD                  chunked answer
 *   any -> LINGER -> CLOSED                                last answer written, the client reads it
 *   any -> CLOSED                                          freed by the event callback that sees it
 */
typedef enum conn_state {
    CONN_HANDSHAKE, /* TLS */
    CONN_HEAD,      /* waits for, or reads, a request head */
    CONN_BODY,      /* reads a body */
    CONN_HANDLED,   /* the handler has the call */
    CONN_STREAM,    /* the handler writes a stream */
    CONN_UPGRADE,   /* 101 is being written */
    CONN_LINGER,    /* what comes is dropped until the client ends, 1 s at most */
    CONN_CLOSED
} conn_state;

struct http_call;
struct conn {
    TAILQ_ENTRY(conn) entry;
    struct server *server;
    struct counts *counts;
    bool local;   /* on the unix socket */
    bool surplus; /* over the limit: it is told so, and closed */
    int64_t since_ms;
    conn_state state;
    struct stream io;
    struct event ev_read, ev_write, ev_turn, ev_timer;
    bool turn_due;
    bool running;  /* inside its own step: no turn is needed */
    bool readable; /* the socket may have bytes */
    bool eof;      /* the client sends no more */
    bool last;     /* no further request after this answer */
    bool writing;  /* the timer is that of a slow reader */
    bool begun;    /* a request head has begun to arrive */
    struct buf in; /* bytes of the next request */
    size_t scanned;
    struct buf out;
    size_t out_at;
    struct http_call *call; /* being read, handled or streamed */
    struct trust_peer peer;
    api_role role;
    bool refused; /* the certificate is of no known form: each request gets `refusal` */
    struct gw_error refusal;
    link_kind upgrade_to;
};
TAILQ_HEAD(conn_list, conn);

struct http_call {
    struct conn *conn; /* NULL: the client is gone */
    struct http_head head;
    char *text; /* owned; the head points into it */
    struct buf body;
    struct buf extra; /* further header lines of the answer */
    bool handed;      /* the handler has it: it ends by an answer only */
    bool streaming;
    api_role role;
    bool chunked;
    bool is_head; /* HEAD: the answer has no body */
    void (*on_gone)(void *arg);
    void *gone_arg;
};

struct server_timing {
    int64_t header_ms, idle_ms, body_ms, write_ms, yield_ms;
};

struct server {
    struct event_base *base;
    struct trust *trust;
    struct server_ops ops;
    void *arg;
    struct server_timing timing;
    unsigned max_conns[2]; /* TCP, unix socket */
    struct counts *counts;
    struct conn_list conns;
    struct event *ev_accept[2]; /* TCP, unix socket */
    struct event *ev_resume;    /* accepts again after a lack of descriptors */
    int fd[2];
    char url[300];
    unsigned turned_away; /* connections over the limit */
    unsigned gave_way;    /* strangers that were closed to make room */
    int64_t told_ms;      /* when that was logged last, monotonic */
    int64_t lack_told_ms; /* the same of a lack of descriptors */
    char *socket_path;
    uint64_t socket_dev, socket_ino;
};

/* http_conn.c */
void conn_new(struct server *s, int fd, bool local, bool surplus);
/* Ends now, whatever goes on; the call of the handler stays valid. Not from inside a callback of
 * it. */
void conn_free(struct conn *c);
/* The handler has answered: go on with the next request, or end. */
void conn_answered(struct conn *c);
void conn_streams(struct conn *c);
void conn_upgrades(struct conn *c);
/* Give up: the connection is freed at the end of this turn; its call has no client any more. */
void conn_abandon(struct conn *c);
/* Output or state changed from outside: act on it at the end of this turn. */
void conn_turn(struct conn *c);

/* http_upgrade.c */
/* GET /v1/link: begin the upgrade, or answer why not. False when it is another request. */
bool upgrade_request(struct conn *c);
/* 101 is written: hand the connection over as a link. */
bool upgrade_finish(struct conn *c);
/* The head is read: hand the connection over as it is. */
void upgrade_hand_over(struct conn *c);

/* http.c */
/* As http_answer_error, with a status of its own. */
void http_answer_status(struct http_call *call, int status, const struct gw_error *why);
struct http_call *call_new(struct conn *c);
void call_free(struct http_call *call);
/* The client of this call is gone. Tells a stream. */
void call_gone(struct http_call *call);

#endif
