/* Opening files beneath a folder, whatever links others put in the way (openat2(2)), and what errno
 * means in our words. Any thread. */
#ifndef HOST_FILES_BENEATH_H
#define HOST_FILES_BENEATH_H

#include <stdbool.h>

#include <godwit/err.h>

/* Open `path` beneath the folder `dirfd` with the flags of open(2); O_CLOEXEC and O_NOCTTY are
 * added. A link is followed with `links`, as long as it stays beneath; without, a link anywhere in
 * the path is ELOOP. -1 and errno; EXDEV: it leads out. `path` is shorter than PATH_MAX. */
int beneath_open(int dirfd, const char *path, int flags, bool links);
/* The folder `path` ("" and ".": dirfd itself), of any length, without following links. */
int beneath_folder(int dirfd, const char *path, int flags);
/* The same for what is no folder: its last part is opened by openat(2) with O_NOFOLLOW. */
int beneath_file(int dirfd, const char *path, int flags);

/* Code for errno: GW_ENOT_FOUND, GW_EDENIED, GW_EREFUSED (ELOOP, ENOTDIR, EISDIR), GW_EDISK_FULL,
 * GW_EBUSY (descriptors), GW_ENOMEM, GW_ETOO_BIG, GW_EEXISTS; GW_EIO for the rest. */
gw_err beneath_code(int error);
/* "cannot VERB "NAME": strerror", with the code; NAME is cleaned for a screen. */
gw_err beneath_fail(struct gw_error *why, int error, const char *verb, const char *name);

#endif
