/* Inside of links: shared by link.c, link_in.c and link_out.c only. */
#ifndef HOST_NET_LINK_PRIVATE_H
#define HOST_NET_LINK_PRIVATE_H

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "host/net/link.h"
#include "host/net/reassembly.h"
#include "protocol/base/log.h"

typedef enum link_state { LINK_OPEN, LINK_DRAINING, LINK_CLOSED } link_state;

/* Bytes that wait to be written: frames of one class, or one large frame. */
struct out_chunk {
    TAILQ_ENTRY(out_chunk) next;
    struct buf data;
    size_t at;       /* bytes that are gone */
    uint64_t stream; /* bulk on peer links: number of the fragmented frame; 0 = not begun */
};
TAILQ_HEAD(out_queue, out_chunk);

struct link_out {
    struct out_queue control, messages;
    struct out_queue bulk;  /* not begun */
    struct out_queue begun; /* fragmented frames in turn */
    size_t begun_count;     /* at most LIMIT_LINK_FRAGMENTED */
    size_t begun_bytes;    /* at most LIMIT_LINK_REASSEMBLY_BYTES: the other side counts them too */
    struct out_chunk *cur; /* being written; never changed for another before it is done */
    uint64_t last_fragmented; /* stream number given last */
    size_t queued;            /* bytes not yet taken by the socket */
    bool waiting;             /* for the socket */
};

struct link {
    LIST_ENTRY(link) of_thread;
    struct event_base *base;
    struct stream io;
    link_kind kind;
    link_state state;
    struct trust_peer peer;
    const struct link_ops *ops;
    void *arg;
    void (*release)(void *arg);
    void *release_arg;
    char reason[160];
    struct event ev_read, ev_write;
    struct event ev_turn;  /* end of this loop turn: write, or tell that the link is closed */
    struct event ev_timer; /* silence of peers; end of draining */
    bool turn_due;
    bool read_again;           /* bytes wait in the TLS layer or in `in`: read in the next turn */
    bool paused;               /* nothing is read */
    bool fin_sent;             /* draining: everything is written, the other side may end now */
    int64_t ping_ms, close_ms; /* 0 = never */
    int64_t last_in_ms;        /* monotonic */
    int64_t pinged_ms;         /* of the last ping, monotonic */
    struct buf in;             /* the beginning of a frame that is not whole yet */
    size_t in_need;            /* its whole size with length; 0 = not known yet */
    struct reassembly fragments;
    struct link_out out;
};

size_t link_max_frame_bytes(link_kind kind);
/* Something is to be done at the end of this turn. */
void link_turn(struct link *link);
/* The link is over: on_close follows. Only the first reason counts. */
void link_lost(struct link *link, const char *reason);
void link_lostf(struct link *link, const char *fmt, ...) GW_PRINTF(2, 3);

/* link_in.c: read and deliver what is there, at most a bounded part in one turn. */
void link_in_read(struct link *link);
/* Deliver bytes that came before the link was made. */
void link_in_early(struct link *link, struct span early);
/* One whole frame; false when no more may be delivered. */
bool link_in_deliver(struct link *link, const struct frame *frame);

/* link_out.c */
void link_out_init(struct link_out *out);
void link_out_deinit(struct link_out *out);
void link_out_queue(struct link *link, struct buf *frame);
/* Write what the socket takes; starts and stops waiting for it. */
void link_out_flush(struct link *link);

#endif
