/* A walk over trees of files: one entry at a time, a folder before what is in it; or, `post`,
 * folders alone, after what is in them. Its stack is in memory, its descriptors are those of the
 * innermost WALK_OPEN folders; an outer one is opened again through ".." and has to be the same.
 * One thread. */
#ifndef HOST_FILES_WALK_H
#define HOST_FILES_WALK_H

#include "host/files/entry.h"
#include "host/files/tops.h"

#define WALK_OPEN 16

struct walk_level; /* walk.c */

struct walk {
    const struct tops *tops;
    const struct excludes *excludes;
    bool recursive, post;
    uint32_t next_top; /* to begin with */
    int base_fd;       /* of the top that is walked; -1 */
    struct walk_level *levels;
    size_t depth, room;
    bool descend;            /* into the folder of `entry`, at the next step */
    struct buf path;         /* of the entry looked at, with NUL */
    struct file_entry entry; /* its path is borrowed from `path` */
    struct buf target;
};

/* The tables are borrowed and outlive the walk. */
void walk_begin(struct walk *w, const struct tops *tops, const struct excludes *excludes,
                bool recursive, bool post);
/* As source_next. With `post` also the folder that the entry is in, for unlinkat: *ret_folder is a
 * descriptor, borrowed until the next call; NULL allowed otherwise. */
gw_err walk_next(struct walk *w, const struct file_entry **ret, int *ret_folder,
                 struct gw_error *why) GW_MUST_USE;
void walk_end(struct walk *w);

/* What stands under a name in a folder, without following a link: fills all of `ret` but its path.
 * `target` takes the target of a link, which ret borrows. Errors as source_next. */
gw_err walk_look(int folder, const char *name, const char *path, struct buf *target,
                 struct file_entry *ret, struct gw_error *why) GW_MUST_USE;

/* The names of the folder behind `fd` (read from its beginning; it stays open), with NUL after
 * each, and where each begins, in the order of their bytes. "." and ".." and parts (parts.h) are
 * left out. GW_EIO, GW_ENOMEM. */
struct walk_names {
    struct buf bytes;
    char **items; /* owned; into bytes */
    size_t count;
};
gw_err walk_read_names(int fd, struct walk_names *ret) GW_MUST_USE; /* errno tells of GW_EIO */
void walk_names_clear(struct walk_names *n);

#endif
