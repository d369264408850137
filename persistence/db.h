/* SQLite as the store uses it: one connection, opened with checks, errors in two tones.
 *
 * While opening, an error is a result with a sentence for the operator (db_open_error). Later,
 * db_error sorts: a full disk, no memory and damage are results, everything else ends the process.
 */
#ifndef PERSISTENCE_DB_H
#define PERSISTENCE_DB_H

#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>

#include <godwit/err.h>

struct db {
    sqlite3 *handle;
    char *path;    /* owned */
    int log_pages; /* pages in the write-ahead log that a checkpoint has not yet moved */
};

/* Open or make the file (0600) for this process alone; it is not changed yet. GW_ECORRUPT,
 * GW_ELOCKED, GW_EIO, GW_EDISK_FULL, GW_ENOMEM. */
gw_err db_open(struct db *db, const char *path, struct gw_error *why) GW_MUST_USE;
/* Switch on the write-ahead log and the other settings that are kept or that need a sane file. */
gw_err db_tune(struct db *db, struct gw_error *why) GW_MUST_USE;
/* Let failpoints stand at the log: behind the first read or write, which opens it. Nothing unless
 * some are set. One store in a process that has them. */
void db_watch_log(struct db *db);
/* A file that was refused is left as it is: no checkpoint. NULL handle allowed. */
void db_close(struct db *db, bool untouched);

/* --- while opening --- */
gw_err db_run(struct db *db, const char *sql, struct gw_error *why) GW_MUST_USE;
/* First column of the first row. */
gw_err db_number(struct db *db, const char *sql, int64_t *ret, struct gw_error *why) GW_MUST_USE;
gw_err db_open_error(struct db *db, int rc, struct gw_error *why);
gw_err db_damaged(const struct db *db, const char *what, struct gw_error *why);

/* --- later --- */
/* Sort a result code that is neither OK, ROW nor DONE; `what` is the table or the step. Ends the
 * process unless it is GW_EDISK_FULL, GW_ENOMEM or GW_ECORRUPT (logged). */
gw_err db_error(struct db *db, int rc, const char *what);
/* Prepare for the life of the connection; ends the process when that fails for want of anything but
 * memory. */
gw_err db_prepare(struct db *db, const char *sql, sqlite3_stmt **ret) GW_MUST_USE;
/* Move the log into the file. A full disk leaves it for later. */
void db_checkpoint(struct db *db);

#endif
