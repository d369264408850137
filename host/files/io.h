/* A byte stream both ways, used by one thread. Non-blocking with a wait, so that a writer can take
 * in what comes meanwhile. */
#ifndef HOST_FILES_IO_H
#define HOST_FILES_IO_H

#include <stdbool.h>
#include <stddef.h>

#include <godwit/err.h>

struct bulk_io {
    void *ctx;
    /* GW_OK with 1..room bytes; GW_EAGAIN nothing now; GW_ENOT_FOUND orderly end; else broken. */
    gw_err (*read)(void *ctx, void *to, size_t room, size_t *ret_n);
    /* GW_OK: 1..n taken. After GW_EAGAIN call again with the same bytes. */
    gw_err (*write)(void *ctx, const void *from, size_t n, size_t *ret_n);
    /* Wait until one of what is asked may go on. GW_OK; GW_ETIMEOUT; GW_ECANCELLED. */
    gw_err (*wait)(void *ctx, bool to_read, bool to_write, int timeout_ms);
    void (*describe)(void *ctx, struct gw_error *why); /* text of the last failure */
};

#endif
