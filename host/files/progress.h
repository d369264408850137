/* What a transfer tells of itself while it runs: numbers that its thread writes and the loop reads,
 * and the flag that calls it off. */
#ifndef HOST_FILES_PROGRESS_H
#define HOST_FILES_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_PATH_BYTES 512 /* of a longer path the end */

/* All but `path` may be read from any thread at any time. Lives as long as the transfer. */
struct progress {
    atomic_uint_fast64_t files;       /* finished: sent, there already, or failed */
    atomic_uint_fast64_t files_total; /* as far as known; grows while the source is walked */
    atomic_uint_fast64_t bytes;       /* of content that is dealt with, sent or not */
    atomic_uint_fast64_t bytes_total;
    atomic_uint_fast64_t sent_bytes;  /* of content that crossed the wire, as it did (compressed) */
    atomic_uint_fast64_t saved_bytes; /* of content that did not have to */
    atomic_uint_fast64_t failed;      /* entries that could not be transferred */
    atomic_bool cancel;               /* set by anyone: the transfer ends with GW_ECANCELLED */
    pthread_mutex_t path_mutex;
    char path[PROGRESS_PATH_BYTES]; /* present file; under path_mutex */
};

void progress_init(struct progress *p);
void progress_deinit(struct progress *p);
/* Name the present file (the thread of the transfer). */
void progress_set_path(struct progress *p, const char *path);
/* Copy of its name (any thread). */
void progress_path(struct progress *p, char ret[PROGRESS_PATH_BYTES]);
static inline bool progress_cancelled(const struct progress *p)
{
    return atomic_load_explicit(&p->cancel, memory_order_relaxed);
}

#endif
