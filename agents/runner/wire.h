/* Frames over the socket between runner and host: blocking, one reader at a time, any writers.
 *
 * Reading: small frames come many at a time out of one buffer; of a large one the rest is read
 * straight into its own memory. Writing: whole frames under one mutex; small ones may be queued, so
 * that the answers to a burst leave with one system call. */
#ifndef AGENTS_RUNNER_WIRE_H
#define AGENTS_RUNNER_WIRE_H

#include <pthread.h>
#include <sys/queue.h>

#include "protocol/frame.h"

/* One frame read, with its bytes; free() ends it. */
struct packet {
    STAILQ_ENTRY(packet) next; /* for its owner */
    struct frame frame;        /* borrows from bytes */
    uint8_t bytes[];
};

struct wire {
    int fd;
    uint8_t *in;          /* WIRE_IN_BYTES */
    size_t in_at, in_end; /* unread bytes */
    pthread_mutex_t lock; /* of writing */
    struct buf out;       /* queued frames */
};

void wire_init(struct wire *w, int fd);
void wire_deinit(struct wire *w);
/* Wait for the next frame. GW_EIO: the other end is gone. GW_EPROTO: not a frame, or its length is
 * 0 or above LIMIT_MESSAGE_BYTES. GW_ENOMEM. One thread at a time. */
gw_err wire_read(struct wire *w, struct packet **ret) GW_MUST_USE;
/* Whether a whole frame is in the buffer already. By the one who may read. */
bool wire_ready(const struct wire *w);
/* Whether there is something to read from the socket (its end, too) within ms; perhaps false before
 * that. By the one who may read. */
bool wire_wait(const struct wire *w, int64_t ms);
/* Append whole frames to the queue; it goes out by itself when it grows. Any thread. */
gw_err wire_queue(struct wire *w, const struct buf *frames) GW_MUST_USE;
/* Write what is queued. Any thread. GW_EIO: the other end is gone. */
gw_err wire_flush(struct wire *w) GW_MUST_USE;
/* Queue and flush. */
gw_err wire_write(struct wire *w, const struct buf *frames) GW_MUST_USE;

#endif
