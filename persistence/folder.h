/* Folders, and what errno says of a disk. Any thread. */
#ifndef PERSISTENCE_FOLDER_H
#define PERSISTENCE_FOLDER_H

#include <limits.h>
#include <stdbool.h>

#include <godwit/err.h>

/* dir/name. GW_EARG: too long. */
gw_err folder_join(char ret[PATH_MAX], const char *dir, const char *name,
                   struct gw_error *why) GW_MUST_USE;
/* What was made in the folder is there after a power cut. GW_EIO. */
gw_err folder_sync(const char *dir, struct gw_error *why) GW_MUST_USE;

/* No room: a certain result, nothing was written that counts. */
bool errno_is_full(int error);
/* Out of descriptors or memory: certain, too, and over as soon as somebody closes something. */
bool errno_is_scarce(int error);

#endif
