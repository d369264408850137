/* What no copy and no listing may touch, whatever the roots are: the folder of Godwit itself
 * ($GODWIT_HOME: keys, stores, sockets, artifacts), but for the work folder of this host; and of
 * that folder what the host keeps there for itself.
 *
 * It is decided on folders that are open, by device and inode, upwards until one is known: so it
 * does not matter by which link, mount or name one came there, nor what is renamed meanwhile. The
 * folders themselves are held open, so that nothing else can get their inode. Whoever goes down
 * from a folder that was found to be free one name at a time needs only guard_holds.
 *
 * Not seen: a hard link to one of its files, and a mount of a folder deeper down in it (below the
 * folders of a host, or in those of another one). Both take the rights of the host's user, or more.
 *
 * Immutable after guard_open, any thread. */
#ifndef HOST_FILES_GUARD_H
#define HOST_FILES_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

#include <godwit/err.h>

struct guard;

/* `host_dir`: HOME/hosts/NAME, absolute, without '/' at its end. Its folder "work" is made if it is
 * not there. GW_EARG, GW_ENOT_FOUND, GW_EDENIED, GW_EIO, GW_EBUSY, GW_ENOMEM. */
gw_err guard_open(const char *host_dir, struct guard **ret, struct gw_error *why) GW_MUST_USE;
void guard_close(struct guard *g); /* NULL allowed */

/* Whether the folder behind `fd` (O_PATH will do) is free. GW_EDENIED: it is guarded, or it cannot
 * be told where it is. `name`: for the text. g NULL: everything is free. */
gw_err guard_folder(const struct guard *g, int fd, const char *name,
                    struct gw_error *why) GW_MUST_USE;
/* Whether just this folder, in one that is free, is guarded. */
bool guard_holds(const struct guard *g, dev_t dev, ino_t ino);
/* Whether a name in a folder that is free is a link to a guarded folder: replacing or removing it
 * would take that folder away from the host. */
bool guard_holds_link(const struct guard *g, int folder, const char *name);
/* GW_EDENIED and why, for who asked the two above. */
gw_err guard_deny(struct gw_error *why, const char *name);

#endif
