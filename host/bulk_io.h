/* struct bulk_io over a stream: non-blocking with poll, for one thread, called off by an eventfd.
 */
#ifndef HOST_BULK_IO_H
#define HOST_BULK_IO_H

#include "host/files/io.h"
#include "host/net/stream.h"

struct bulk_conn {
    struct bulk_io io; /* of which this is the ctx */
    struct stream stream;
    struct buf early; /* read before, and not yet taken */
    size_t early_at;
    int cancel_fd;                  /* readable once it is called off; owned */
    int64_t slow_ms, slow_since_ms; /* LIMIT_BULK_SLOW_MS; 0: from the first wait on */
    uint64_t moved;                 /* bytes both ways since then */
    struct gw_error why;
};

/* `stream` may be empty (fd -1): then only wait works. GW_EBUSY: no descriptor for the eventfd;
 * GW_ENOMEM. */
gw_err bulk_conn_open(struct bulk_conn *c, struct stream *stream /* taken */,
                      struct buf *early /* taken */) GW_MUST_USE;
void bulk_conn_cancel(struct bulk_conn *c); /* any thread */
/* End sending and read what still comes, 1 s and 16 MiB at most: closing over unread bytes would
 * reset the connection and could destroy the last ones that were sent. */
void bulk_conn_linger(struct bulk_conn *c);
void bulk_conn_close(struct bulk_conn *c);

#endif
