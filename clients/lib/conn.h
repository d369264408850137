/* One byte connection to a host: a unix socket, or TCP with TLS. Non-blocking below; every wait has
 * a deadline and ends early when the wake descriptor becomes readable. One thread. Never raises
 * SIGPIPE. */
#ifndef CLIENTS_LIB_CONN_H
#define CLIENTS_LIB_CONN_H

#include "clients/lib/tls.h"
#include "protocol/base/buf.h"

/* Monotonic milliseconds; a deadline is such a time, CONN_NEVER = none. */
#define CONN_NEVER INT64_MAX
int64_t conn_now_ms(void);
int64_t conn_deadline(int64_t timeout_ms); /* < 0 = CONN_NEVER */

struct conn {
    int fd;      /* -1 = closed */
    int wake_fd; /* borrowed; -1 = none */
    SSL *ssl;    /* NULL on a unix socket */
    bool more; /* the last read stopped at the end of the buffer: decrypted bytes may wait in `ssl`
                */
    short read_needs, write_needs; /* poll events that the last GW_EAGAIN waits for */
};
#define CONN_CLOSED                                                                                \
    {                                                                                              \
        .fd = -1, .wake_fd = -1                                                                    \
    }

/* Connect to `dir`/api.sock, however long the path is. Does not block: a unix socket accepts or
 * refuses at once. GW_EUNREACHABLE nobody listens; GW_EDENIED by file permissions; GW_EBUSY its
 * queue is full. */
gw_err conn_open_unix(struct conn *c, const char *dir, struct gw_error *why) GW_MUST_USE;
/* Connect to "https://address:port" (port 7420 when absent) and shake hands; the other end is then
 * known to be a host of the mesh of `tls`.
 * Errors: GW_EARG not such a URL; GW_EUNREACHABLE; GW_ETIMEOUT; GW_ECANCELLED; GW_EIDENTITY and
 * GW_EEXPIRED its certificate. */
gw_err conn_open_tls(struct conn *c, const char *url, struct tls *tls, int64_t deadline_ms,
                     struct gw_error *why) GW_MUST_USE;
void conn_close(struct conn *c);
bool conn_is_open(const struct conn *c);

/* Append what is there, at most about `most` bytes. GW_OK one byte or more; GW_EAGAIN nothing now;
 * GW_EUNREACHABLE closed or broken; GW_EDENIED the other end refused our certificate; GW_ENOMEM. */
gw_err conn_read(struct conn *c, struct buf *in, size_t most, struct gw_error *why) GW_MUST_USE;
/* Write what goes without waiting; ret_written is set on GW_OK. GW_EAGAIN nothing went;
 * GW_EUNREACHABLE. */
gw_err conn_write(struct conn *c, struct span data, size_t *ret_written,
                  struct gw_error *why) GW_MUST_USE;
/* Wait until a read, or when `write` also a write, may go on. GW_ETIMEOUT; GW_ECANCELLED by the
 * wake descriptor (which stays readable). A deadline in the past only looks. */
gw_err conn_wait(struct conn *c, bool write, int64_t deadline_ms, struct gw_error *why) GW_MUST_USE;
/* Sleep until the deadline or the wake descriptor: GW_OK or GW_ECANCELLED. */
gw_err conn_sleep(const struct conn *c, int64_t deadline_ms, struct gw_error *why) GW_MUST_USE;

/* The parts of a URL: "https://127.0.0.1:7420", "https://[::1]:7420/", "https://lab". */
struct conn_url {
    char host[256];
    char port[6];
};
gw_err conn_parse_url(const char *url, struct conn_url *ret, struct gw_error *why) GW_MUST_USE;

#endif
