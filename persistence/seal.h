/* Checksums of pages: a layer between SQLite and the file system.
 *
 * Each page of store.db ends in SEAL_BYTES: XXH3 of the page, seeded with its number, set when a
 * checkpoint writes it, looked at when it is read. A page that does not fit is SQLITE_CORRUPT for
 * whoever needs it and for nobody else. Where one bit is wrong it is put right, in memory and in
 * the file, and the log says so. (The pages in the write-ahead log have checksums of SQLite's own.)
 *
 * The layer also writes the mark of the log (wal.h): it sees which frames are flushed. */
#ifndef PERSISTENCE_SEAL_H
#define PERSISTENCE_SEAL_H

#include <stdbool.h>

#include <sqlite3.h>

#include <godwit/err.h>

#define SEAL_VFS     "godwit"
#define SEAL_BYTES   8 /* reserved at the end of each page */
#define SEAL_VERSION 4 /* schema step from which on all pages have one */

/* Make the layer known to SQLite, once. SQLite's result. */
int seal_register(void);
/* Look at the first page before anybody trusts it; put it right where one bit is wrong.
 * GW_ECORRUPT, GW_EIO. */
gw_err seal_check_head(const char *db_path, struct gw_error *why) GW_MUST_USE;
/* How many bytes the pages of an open database keep free at their end; -1: it cannot say. */
int seal_reserved(sqlite3 *handle);
/* Ask that new pages have room for a seal: of a database that is still empty, or by the next
 * VACUUM.
 */
void seal_reserve(sqlite3 *handle);
/* From now on every page has its seal: what is read from the file is checked, what is written gets
 * one. (A file whose first page says so on opening is sealed from the start.) */
void seal_begin(sqlite3 *handle);

#endif
