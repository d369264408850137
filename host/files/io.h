/* A stream of bytes both ways, as a worker thread uses it: the data plane under file sessions.
 *
 * Calls do not block; wait() does. So a writer that cannot go on drains what comes meanwhile, and
 * two ends that both write never wait for each other. One thread at a time. The host implements it
 * over TLS, tests over a socketpair. */
#ifndef HOST_FILES_IO_H
#define HOST_FILES_IO_H

#include <stdbool.h>
#include <stddef.h>

#include <godwit/err.h>

struct bulk_io {
    void *ctx;
    /* GW_OK with 1..room bytes; GW_EAGAIN nothing now; GW_ENOT_FOUND orderly end; else the stream
     * is broken (GW_EUNREACHABLE, GW_ECANCELLED). */
    gw_err (*read)(void *ctx, void *to, size_t room, size_t *ret_n);
    /* GW_OK: 1..n bytes taken. GW_EAGAIN: call again with the same bytes. Others as read. */
    gw_err (*write)(void *ctx, const void *from, size_t n, size_t *ret_n);
    /* Wait until one of what is asked may go on. GW_OK; GW_ETIMEOUT; GW_ECANCELLED: the transfer is
     * called off. timeout_ms < 0: as long as it takes. */
    gw_err (*wait)(void *ctx, bool to_read, bool to_write, int timeout_ms);
    /* Text of the last failure, for people. */
    void (*describe)(void *ctx, struct gw_error *why);
};

#endif
