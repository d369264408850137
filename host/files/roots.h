/* Roots: the folders of a host below which clients and agents may name files.
 *
 * A path of a user is absolute, or relative to the first root; "~" and "~/x" are the first root and
 * what is in it. It is resolved by the kernel beneath its root (openat2, RESOLVE_BENEATH): links
 * are followed as long as they stay inside, one that leads out is GW_EDENIED, also when somebody
 * switches it while we look. A root itself may be a link: the operator named it. What is guarded
 * (guard.h) is GW_EDENIED, too, wherever it is.
 *
 * Immutable after roots_open, any thread. A root is opened when it is used: one that is missing
 * today may be mounted tomorrow. */
#ifndef HOST_FILES_ROOTS_H
#define HOST_FILES_ROOTS_H

#include <stdbool.h>
#include <stddef.h>

#include <godwit/err.h>

#include "host/files/guard.h"

struct roots;

/* `paths`: n absolute paths, n > 0. GW_EARG: one is not absolute; GW_ENOMEM. */
gw_err roots_open(const char *const *paths, size_t n, struct roots **ret,
                  struct gw_error *why) GW_MUST_USE;
/* Those of the setting; when it is empty the home folder of the user and `work`, the work directory
 * of the host. */
gw_err roots_open_setting(const char *const *paths, size_t n, const char *work, struct roots **ret,
                          struct gw_error *why) GW_MUST_USE;
/* From now on what is Godwit's own is out of reach: guard_open. Before any other use. */
gw_err roots_protect(struct roots *r, const char *host_dir, struct gw_error *why) GW_MUST_USE;
const struct guard *roots_guard(const struct roots *r); /* NULL: nothing is protected */
void roots_close(struct roots *r);
void roots_closep(struct roots **r);
size_t roots_count(const struct roots *r);
const char *roots_path(const struct roots *r, size_t i);

/* Which root a path is below. ret_rest: what follows the root, without '/' at either end, "" for
 * the root itself; ret_folder (NULL allowed): it ended in '/', so it means a folder. By its text
 * alone. ret_rest   owned by the caller GW_EDENIED: below none; names them, and says how to add
 * one. GW_EARG: empty, or too long. */
gw_err roots_find(const struct roots *r, const char *path, size_t *ret_root, char **ret_rest,
                  bool *ret_folder, struct gw_error *why) GW_MUST_USE;
/* Open `rest` beneath root i, "" the root itself, with the flags of open(2) (O_CLOEXEC is added).
 * GW_ENOT_FOUND, GW_EDENIED (leads out, is guarded, or no permission), GW_EIO, GW_EBUSY (no
 * descriptor left). What is no folder has to be named itself, not by a link, if there is a guard.
 */
gw_err roots_open_at(const struct roots *r, size_t i, const char *rest, int flags, int *ret_fd,
                     struct gw_error *why) GW_MUST_USE;

#endif
