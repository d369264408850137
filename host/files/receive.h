/* The end of a file session that writes: it says for each entry what it has of it, takes the
 * content, verifies it and makes the file (sink.h). What the sender says is believed in nothing:
 * paths are checked, lengths bounded, content counts only when its SHA-256 fits.
 *
 * A file that cannot be made is said to the sender, and the session goes on. It ends early when the
 * connection breaks, the disk is full, or the sender says what makes no sense: then it is told why,
 * what was placed stays, and of unfinished files the parts, for a next try.
 *
 * One thread; holds at most 8 MiB and LIMIT_TRANSFER_OPEN large files. */
#ifndef HOST_FILES_RECEIVE_H
#define HOST_FILES_RECEIVE_H

#include <godwit/types.h>

#include "host/files/io.h"
#include "host/files/progress.h"
#include "host/files/sink.h"

struct receive_config {
    const struct roots *roots; /* NULL: no paths, staging folders only */
    struct parts *parts;
    uint64_t quota_bytes; /* of one session; 0: none */
    int silence_ms;       /* without a byte from the sender; 0: LIMIT_TRANSFER_SILENCE_MS */
    /* The staging folder of a ticket and agent, as a descriptor that is taken. An error refuses the
     * session. NULL: no staging folders. */
    gw_err (*stage)(void *arg, const gw_id *ticket, const gw_id *agent, int *ret_dirfd,
                    struct gw_error *why);
    void *arg;
};

/* Run the session until its end. GW_OK: the sender finished, everything is on the disk. Otherwise
 * why it ended early, as it was told to the sender where that was possible. progress (NULL
 * allowed): files, bytes, saved_bytes, failed and path are filled, cancel ends the session. */
gw_err receive_files(struct bulk_io *io, const struct receive_config *config,
                     struct progress *progress, struct gw_error *why) GW_MUST_USE;

#endif
