/* The write-ahead log of SQLite, looked at before SQLite does, and the mark beside it.
 *
 * SQLite takes the log up to the first frame whose checksum is wrong, and says nothing: after a
 * flush that was cut off that is right, after damage it loses what was acknowledged. To tell one
 * from the other, each flush of the log is followed by a mark in "store.db-mark": so many frames of
 * the log with these salts are on the disk. The mark itself is not flushed: it may be old after a
 * power cut, but it never says too much.
 *
 *   frames in the mark, all whole          go on; what follows is the rest of a commit that was cut
 *                                          off, and is cut off the file
 *   else                                   GW_ECORRUPT
 *
 * Without a fitting mark the log alone tells: one commit is on its way at a time, so a broken frame
 * with two whole commits behind it is damage. */
#ifndef PERSISTENCE_WAL_H
#define PERSISTENCE_WAL_H

#include <stdint.h>

#include <godwit/err.h>

#define WAL_PAGE_BYTES         4096
#define WAL_HEADER_BYTES       32
#define WAL_FRAME_HEADER_BYTES 24
#define WAL_FRAME_BYTES        (WAL_FRAME_HEADER_BYTES + WAL_PAGE_BYTES)

struct wal_mark {
    int fd; /* -1: none */
    uint64_t number;
    uint8_t salts[8];
    uint32_t frames;
};

/* See that the log of the database `db_path` has all that was flushed into it, before it is opened.
 * GW_ECORRUPT; GW_EIO, GW_ENOMEM. */
gw_err wal_check(const char *db_path, struct gw_error *why) GW_MUST_USE;

/* Open or make the mark; fd < 0 with errno: it cannot be had. One that is not written only makes
 * the watch weaker. */
void wal_mark_open(struct wal_mark *m, const char *db_path);
void wal_mark_close(struct wal_mark *m);
/* `frames` of the log with these salts are on the disk. */
void wal_mark_set(struct wal_mark *m, const uint8_t salts[8], uint32_t frames);
/* The log is about to go, all of it being in the database: say so durably. 0, or -1 with errno. */
int wal_mark_clear(struct wal_mark *m);

#endif
