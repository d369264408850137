/* The storage thread: batches and reads in, completions out, in the order of submission.
 *
 * One thread owns the store. Batches that wait are taken together as one group (one fsync).
 * Completions come back through `wake`: the owner's loop is woken once, calls storage_complete(),
 * which runs the callbacks on the loop thread. A read sees every batch that was submitted before
 * it. */
#ifndef PERSISTENCE_STORAGE_H
#define PERSISTENCE_STORAGE_H

#include "persistence/store.h"

struct storage;

typedef void (*storage_done)(void *arg, gw_err err);
/* Rows that a read found, in key order; owned by the storage until the callback returns. */
struct storage_row {
    store_table table;
    struct span key;
    struct span value;
};
typedef void (*storage_read_done)(void *arg, gw_err err, const struct storage_row *rows, size_t n);

/* Start the thread on an open store (which it owns until storage_stop gives it back).
 * wake(arg) is called from the storage thread when completions wait and none was announced since
 * the last storage_complete; must be async-safe (an eventfd write). */
gw_err storage_start(struct store *store, void (*wake)(void *arg), void *arg,
                     struct storage **ret) GW_MUST_USE;
/* Submit (loop thread). `batch` is taken; NULL (store_batch_new had no memory) ends in GW_ENOMEM.
 * `done` (NULL allowed) runs in storage_complete and may submit again. */
void storage_commit(struct storage *s, struct store_batch *batch, storage_done done, void *arg);
#define STORAGE_RANGES 2048 /* of one read: six for each agent of a ticket, and room */
/* Submit reads of 1 to STORAGE_RANGES ranges (spans are copied) answered together: rows of the
 * first range, then of the second... They are as of the place in the queue: later batches are not
 * seen. On an error there are no rows; GW_ETOO_BIG: they were more than max_bytes of a range, all
 * before it counted. */
void storage_read(struct storage *s, const struct store_range *ranges, size_t n,
                  storage_read_done done, void *arg);
/* Run the callbacks of everything that completed (loop thread). Returns how many. */
size_t storage_complete(struct storage *s);
/* Wait until everything submitted is done, run its callbacks, end the thread, return the store. */
struct store *storage_stop(struct storage *s);

struct storage_stats {
    uint64_t commits; /* batches */
    uint64_t groups;  /* fsyncs */
    uint64_t waiting; /* now */
};
struct storage_stats storage_stats(const struct storage *s);

#endif
