/* Where things stand below $GODWIT_HOME (docs/store.md draws the tree). */
#ifndef HOST_PATHS_H
#define HOST_PATHS_H

#include <godwit/err.h>

#define PATHS_MAX 1024 /* bytes of a path with NUL; longer homes are refused */

/* The absolute path of $GODWIT_HOME, or ~/.godwit when it is not set (the home folder of the user
 * table when $HOME is not set). A relative $GODWIT_HOME counts from the current folder. Nothing is
 * made. Errors: GW_EARG empty, too long, or no home folder known. */
gw_err paths_home(char ret[PATHS_MAX], struct gw_error *why) GW_MUST_USE;

/* HOME/hosts/NAME; makes it and what is above it (0700) when it is not there. `name` is valid.
 * Errors: GW_EDENIED, GW_EDISK_FULL, GW_EIO, each with the path; GW_EARG too long. */
gw_err paths_host_dir(const char *home, const char *name, char ret[PATHS_MAX],
                      struct gw_error *why) GW_MUST_USE;

#endif
