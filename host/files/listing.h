/* What is in a folder below the roots: for `files.ls`. One page at a time, in the order of the
 * bytes of the names, which does not change while the folder does. Any thread. */
#ifndef HOST_FILES_LISTING_H
#define HOST_FILES_LISTING_H

#include "host/files/roots.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum listed_type { LISTED_FILE = 1, LISTED_FOLDER, LISTED_LINK, LISTED_OTHER } listed_type;

struct listed {
    char *name; /* any bytes but NUL and '/'; owned */
    listed_type type;
    uint32_t mode;    /* permission bits */
    uint64_t size;    /* bytes; of a link the length of its target */
    int64_t mtime_ns; /* since 1970 */
    char *target;     /* of a link; owned; else NULL */
    uint64_t dev, ino;
};

struct listing {
    struct listed *items; /* owned */
    size_t count;
    char *last;    /* name to go on after, if there are more; owned; else NULL */
    bool one_file; /* the path is no folder: the one item is what it names */
};

/* `path` as in roots.h; its last part may be a pattern (names.h). `after`: `last` of the page
 * before, NULL for the first. At most `limit` items [1..LIMIT_PAGE]. The memory is that of a page,
 * however large the folder. What vanishes meanwhile is left out. GW_ENOT_FOUND, GW_EDENIED,
 * GW_EARG, GW_EIO, GW_EBUSY, GW_ENOMEM. */
gw_err listing_read(const struct roots *roots, const char *path, const char *after, size_t limit,
                    struct listing *ret, struct gw_error *why) GW_MUST_USE;
void listing_clear(struct listing *l);

#endif
