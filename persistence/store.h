/* The store: ordered tables of (key, value) records, written in atomic batches.
 *
 * There is no SQL above this interface, so that a journal can lie under it later. Two engines stand
 * behind it: SQLite (store_open_sqlite) and memory (store_open_memory, for tests and the virtual
 * mesh); the same tests run on both. A store is used by one thread at a time: in the host only the
 * storage thread (storage.h) touches it.
 *
 * Values larger than LIMIT_STORE_INLINE_BYTES are files of their own below DIR/blobs, written and
 * fsynced before the batch that names them commits, and removed after the batch that drops them; a
 * batch that does not touch the key never rewrites them. */
#ifndef PERSISTENCE_STORE_H
#define PERSISTENCE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include <godwit/err.h>

#include "persistence/points.h"
#include "protocol/base/buf.h"

/* Table names and key layouts; ids are 16 bytes, epochs and numbers 8 bytes big-endian, so that
 * byte order is numeric order. A new table needs a schema step (persistence/schema.c). */
typedef enum store_table {
    TABLE_META,      /* name text */
    TABLE_AGENTS,    /* agent | epoch */
    TABLE_STATES,    /* agent | epoch | part name text ("" = the small fields together) */
    TABLE_INBOX,     /* agent | epoch | acceptance number */
    TABLE_OUTBOX,    /* agent | epoch | number */
    TABLE_STREAMS,   /* agent | epoch | sender agent */
    TABLE_TIMERS,    /* agent | epoch | name text */
    TABLE_FILES,     /* agent | epoch | name text */
    TABLE_LOCATIONS, /* agent */
    TABLE_REQUESTS,  /* agent | epoch | key hash (16 bytes); agent nil: keys of create and clone */
    TABLE_EVENTS,    /* sequence number */
    TABLE_MEMBERS,   /* host_id (20 bytes) */
    TABLE_DEAD,      /* dead letters: number */
    TABLE_TOPICS,    /* agent | epoch | topic text; agent nil, epoch 0: agent elsewhere | topic */
    TABLE_WATCHES,   /* agent | epoch | direction (1 byte) | other agent | reference (16 bytes) */
    TABLE_COUNT
} store_table;

struct store;
struct store_batch;

/* --- batches: built by any thread, owned by one at a time --- */
/* NULL when out of memory. */
struct store_batch *store_batch_new(void);
void store_batch_free(struct store_batch *batch); /* NULL allowed */
/* Append one operation; bytes are copied (store_batch_put_take takes the buffer instead, leaving it
 * empty). Operations apply in order. A key is 1 to LIMIT_STORE_KEY_BYTES bytes. Failures stick:
 * store_apply then applies nothing of the batch and answers GW_ENOMEM (out of memory; also when
 * `batch` is NULL, which every call takes) or GW_EARG (size of a key). */
void store_batch_put(struct store_batch *batch, store_table table, struct span key,
                     struct span value);
void store_batch_put_take(struct store_batch *batch, store_table table, struct span key,
                          struct buf *value);
void store_batch_del(struct store_batch *batch, store_table table, struct span key);
/* Delete every key that begins with `prefix` (empty: all). */
void store_batch_del_prefix(struct store_batch *batch, store_table table, struct span prefix);
/* Delete every key below `bound` (events, oldest first). */
void store_batch_del_below(struct store_batch *batch, store_table table, struct span bound);
/* Copy all records with key prefix `from` to the same keys with `from` replaced by `to`, which has
 * the same length (an agent's rows from epoch e to e+1). A record that is there is replaced. Files
 * are linked, not copied. */
void store_batch_copy_prefix(struct store_batch *batch, store_table table, struct span from,
                             struct span to);
size_t store_batch_count(const struct store_batch *batch); /* operations */
/* Which transaction of the host this is (points.def): where a failpoint may stand. NULL allowed. */
void store_batch_point(struct store_batch *batch, commit_point point);
commit_point store_batch_get_point(const struct store_batch *batch);

/* Batches that build on one another: once one of a chain has been rolled back, those behind it are
 * not applied either, and end with the same error. Counted; a batch holds its chain. The error is
 * read and written by who applies batches alone. */
struct store_chain;
struct store_chain *store_chain_new(void);        /* held once; NULL: out of memory */
void store_chain_drop(struct store_chain *chain); /* NULL allowed */
void store_batch_chain(struct store_batch *batch, struct store_chain *chain); /* NULL: of none */
/* How the batch has ended: an error breaks its chain. (store_apply and the storage thread do so by
 * themselves.) */
void store_batch_ended(const struct store_batch *batch, gw_err err);

/* --- engines --- */
/* Open or make DIR/store.db and DIR/blobs (DIR exists). Runs schema steps. Takes a lock: GW_ELOCKED
 * when another process has it. GW_ECORRUPT: not a store of ours, or damaged. GW_ENEWER: written by
 * a later schema. GW_EIO, GW_EDISK_FULL. Errors name the file; the hint says what to do next.
 * Unreferenced blob files are removed. */
gw_err store_open_sqlite(const char *dir, struct store **ret, struct gw_error *why) GW_MUST_USE;
gw_err store_open_memory(struct store **ret) GW_MUST_USE;
void store_close(struct store *store); /* NULL allowed */

/* Apply `count` batches as one durable group: each batch is atomic by itself (a savepoint), one
 * fsync for all. ret_errors[i] says how batch i ended; a batch that failed left nothing, its
 * neighbours stand. When the group's commit itself fails with a certain roll-back (disk full),
 * every ret_errors[i] says so. An I/O or fsync error of unknown outcome ends the process (log_die):
 * going on in doubt is worse. When this returns, everything that ended GW_OK is on disk
 * (synchronous=FULL). */
void store_apply(struct store *store, struct store_batch *const *batches, size_t count,
                 gw_err *ret_errors);

/* Read one record; GW_ENOT_FOUND when there is none. The content of `ret` is replaced. */
gw_err store_get(struct store *store, store_table table, struct span key,
                 struct buf *ret) GW_MUST_USE;

/* Visit records with key >= `from` that begin with `prefix` (either may be empty), in key order;
 * when `backwards`, from the largest down (`from` is then the upper bound, exclusive; empty = no
 * bound). At most `limit` records (0 = all). The callback returns false to stop; spans are borrowed
 * for the call. The callback does not touch the store. GW_ECORRUPT names the table in the log. */
typedef bool (*store_visit)(void *arg, struct span key, struct span value);
struct store_range {
    store_table table;
    struct span prefix;
    struct span from;
    bool backwards;
    size_t limit;
    size_t max_bytes; /* storage.h; 0 = any */
};
gw_err store_scan(struct store *store, const struct store_range *range, store_visit visit,
                  void *arg) GW_MUST_USE;

/* Idle work: checkpoint the log unless it is short. Called by the storage thread when its queue has
 * been empty for a moment, and between two groups when store_wants_idle says that the log is long.
 */
void store_idle(struct store *store);
bool store_wants_idle(const struct store *store);

#endif
