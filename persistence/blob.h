/* Large values as files of their own in one folder: written once under a new name, never changed.
 *
 * The name is "<16 hex of the run><8 hex number>"; while a file is being written it ends in
 * ".part". A file belongs to the store only once a committed row names it: whoever dies before that
 * leaves a file that the sweep at the next open removes. One thread at a time.
 *
 * A full disk is a result (GW_EDISK_FULL, nothing left of the file). A failed write or fsync of
 * another kind ends the process (log_die): the kernel may have dropped pages that looked written.
 */
#ifndef PERSISTENCE_BLOB_H
#define PERSISTENCE_BLOB_H

#include <stdbool.h>
#include <stdint.h>

#include <godwit/err.h>

#include "protocol/base/buf.h"

#define BLOB_NAME_BYTES 24

struct blob_dir {
    char *path; /* owned */
    int fd;
    uint64_t run;  /* random, new at each open */
    uint32_t next; /* number of the next file */
    bool unsynced; /* a name was added since the last blob_sync */
};

/* What a row says about its file. */
struct blob_ref {
    char name[BLOB_NAME_BYTES + 1];
    uint64_t size; /* bytes */
    uint64_t hash; /* XXH3 of the content: catches a damaged disk, not a forger */
};

/* Open or make the folder (0700). GW_EIO, GW_EDISK_FULL, GW_ENOMEM. */
gw_err blob_dir_open(struct blob_dir *d, const char *path, struct gw_error *why) GW_MUST_USE;
void blob_dir_close(struct blob_dir *d);
/* Whether the folder holds any finished blob file. */
gw_err blob_dir_used(const struct blob_dir *d, bool *ret, struct gw_error *why) GW_MUST_USE;

/* Write and fsync a new file. Its name is durable after blob_sync.
 * GW_EDISK_FULL; GW_EBUSY: no file descriptor left. */
gw_err blob_write(struct blob_dir *d, struct span value, struct blob_ref *ret) GW_MUST_USE;
/* A second file with the same content: a hard link, or a copy where the file system has none. */
gw_err blob_link(struct blob_dir *d, const struct blob_ref *from, struct blob_ref *ret) GW_MUST_USE;
/* Make the names of all files written so far durable (fsync of the folder, if there is need). */
gw_err blob_sync(struct blob_dir *d) GW_MUST_USE;
/* Replace the content of `ret` with the file's. GW_ECORRUPT: gone, other size or hash (logged);
 * GW_EIO, GW_EBUSY, GW_ENOMEM. */
gw_err blob_read(const struct blob_dir *d, const struct blob_ref *ref, struct buf *ret) GW_MUST_USE;
/* Best effort: what stays goes with the next sweep. */
void blob_remove(struct blob_dir *d, const char *name);
bool blob_name_is_valid(const char *name, size_t len);

/* Remove .part files and files that are not in `names`: `count` names of BLOB_NAME_BYTES each,
 * sorted, without NUL. Other files are not ours and stay.
 *   ret_missing  names without a file */
gw_err blob_sweep(struct blob_dir *d, const char *names, size_t count, size_t *ret_removed,
                  size_t *ret_missing, struct gw_error *why) GW_MUST_USE;

#endif
