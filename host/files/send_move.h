/* What a move has brought to the other end, until it may be removed here: a spool without a name,
 * so that a million files take no memory. Private to send.c. */
#ifndef HOST_FILES_SEND_MOVE_H
#define HOST_FILES_SEND_MOVE_H

#include <stdio.h>

#include "host/files/source.h"

/* All zero is an empty one. */
struct moved {
    FILE *spool; /* owned */
    uint64_t count;
};

/* Remember an entry that has arrived. GW_EIO, GW_EDISK_FULL, GW_ENOMEM. */
gw_err moved_add(struct moved *m, const struct file_entry *e, struct gw_error *why) GW_MUST_USE;
/* Remove all of them at the source, then the folders that are empty by then.
 *   on_kept  one stays, and why: it changed, or may not be removed */
gw_err moved_remove(struct moved *m, struct source *s,
                    void (*on_kept)(void *arg, const char *path, gw_err code,
                                    const struct gw_error *why),
                    void *arg, uint64_t *ret_removed, struct gw_error *why) GW_MUST_USE;
void moved_free(struct moved *m);

#endif
