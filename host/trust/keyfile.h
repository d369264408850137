/* Small durable files: keys, certificates, token records. Whole or not at all, also after a crash:
 * written beside their place, fsynced, renamed, and the folder fsynced. Secrets are 0600 and are
 * refused when others can read them. Blocking; any thread. */
#ifndef HOST_TRUST_KEYFILE_H
#define HOST_TRUST_KEYFILE_H

#include "protocol/base/buf.h"

#define KEYFILE_PATH_BYTES 1024

typedef enum keyfile_kind { KEYFILE_PUBLIC, KEYFILE_SECRET } keyfile_kind;

/* "dir/name" into a fixed array. GW_EARG when it does not fit. */
gw_err keyfile_path(char ret[KEYFILE_PATH_BYTES], const char *dir, const char *name,
                    struct gw_error *why) GW_MUST_USE;
/* Make a directory and its parents where they are missing, 0700; its name is durable. GW_EDENIED,
 * GW_EDISK_FULL, GW_EIO. */
gw_err keyfile_mkdir(const char *path, struct gw_error *why) GW_MUST_USE;
/* Flush the folder that a name stands in: after a power cut it is there. 0 or an errno. */
int keyfile_keep_name(const char *path);
/* The whole file. GW_ENOT_FOUND when there is none (why untouched), GW_EDENIED when it cannot be
 * read or a secret is open to others, GW_ECORRUPT above LIMIT_KEY_FILE_BYTES. Free with
 * keyfile_wipe. */
gw_err keyfile_read(const char *path, keyfile_kind kind, struct buf *ret,
                    struct gw_error *why) GW_MUST_USE;
/* Replace or make; durable when it returns. A secret is 0600, other files 0644. */
gw_err keyfile_write(const char *path, keyfile_kind kind, struct span content,
                     struct gw_error *why) GW_MUST_USE;
/* Remove durably. GW_ENOT_FOUND when there is none (why untouched). */
gw_err keyfile_remove(const char *path, struct gw_error *why) GW_MUST_USE;
bool keyfile_exists(const char *path);
/* Exclusive lock on a file (made when missing); waits. Closing the descriptor releases it. */
gw_err keyfile_lock(const char *path, int *ret_fd, struct gw_error *why) GW_MUST_USE;
void keyfile_unlock(int *fd); /* for GW_AUTO; -1 allowed */
/* Overwrite and free; for GW_AUTO. */
void keyfile_wipe(struct buf *b);

#endif
