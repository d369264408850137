/* One process per store: a lock on the file DIR/store.lock. */
#ifndef PERSISTENCE_LOCK_H
#define PERSISTENCE_LOCK_H

#include <godwit/err.h>

/* Take the lock without waiting. `path` is made when it is not there, and stays.
 *   ret_fd  holds the lock until lock_release; the kernel drops it when the process ends
 * Errors:  GW_ELOCKED names the process that has it; GW_EIO, GW_EDISK_FULL. Any thread. */
gw_err lock_take(const char *path, int *ret_fd, struct gw_error *why) GW_MUST_USE;
void lock_release(int fd); /* -1 allowed */

#endif
