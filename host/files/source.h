/* What is sent: files, folders with all that is in them, links, below the roots of a host.
 *
 * A source is a path, or a pattern: `*` and `?` within a part, `[a-z]`, `[!a]`, `\x` for x itself,
 * and
 * `**` for any parts, none included; a name that begins with '.' is matched by a pattern that does.
 * Entries are named from the last part of their source on, as `cp` does:
 *
 *   source      entries                     "/home/u/docs"   docs, docs/a, docs/sub, docs/sub/b
 *   docs        docs, docs/a, …
 *   docs/       . (the folder itself), a, … its content without its name, as rsync does
 *   *.txt       one source for each match, in the order of their bytes
 *   src/ **     (without the blank) what follows the folder before the ** keeps its path: a/x.c,
 * b/x.c
 *
 * Links are sent as links and never followed on the way down. Fifos, sockets and devices are
 * refused one by one, as is what cannot be read; everything else goes on.
 *
 * One thread. It holds few descriptors however deep a tree is, and of one folder at a time the
 * names: first its files, then one folder after the other. */
#ifndef HOST_FILES_SOURCE_H
#define HOST_FILES_SOURCE_H

#include <stdatomic.h>

#include "host/files/entry.h"
#include "host/files/roots.h"

struct source;

/* Excludes, in the manner of rsync, with the patterns above (here `*` fits a '.' too): `*.o` fits
 * the last part of a path at any depth, `sub/x` its last two parts, `/docs/x` the whole path of an
 * entry, `build/` only a folder. What is below an excluded folder is not looked at. The first that
 * fits decides; `!pattern` keeps what later ones would exclude. */
struct source_options {
    bool recursive; /* else a folder is refused */
    const char *const *excludes;
    size_t exclude_count;
    /* Set by another thread: what walks trees ends with GW_ECANCELLED. NULL allowed; borrowed. */
    const atomic_bool *cancel;
    /* Called every so often while a pattern or a tree is walked, however little of it fits; a
     * failure calls the walk off. NULL allowed. */
    gw_err (*on_pass)(void *arg);
    void *arg;
};

/* `paths` and the options are copied. GW_ENOT_FOUND: a source is not there, or its pattern fits
 * nothing; GW_EDENIED: outside of the roots; GW_EARG: a pattern that is none, no source at all;
 * GW_ETOO_BIG: more than LIMIT_FILE_SOURCES sources or matches. */
gw_err source_open(const struct roots *roots, const char *const *paths, size_t n,
                   const struct source_options *o, struct source **ret,
                   struct gw_error *why) GW_MUST_USE;
void source_close(struct source *s); /* NULL allowed */
void source_closep(struct source **s);
/* From now on this one is called instead. */
void source_set_pass(struct source *s, gw_err (*on_pass)(void *arg), void *arg);

/* How many sources there are after patterns: with 1 the destination may be a new name (sink.h). */
size_t source_count(const struct source *s);

/* Next entry in walk order, a folder before what is in it. *ret is borrowed until the next call.
 * GW_ENOT_FOUND: that was all. Any other: this entry cannot be sent (source_at has its path), call
 * again for the next: GW_EDENIED no permission, GW_EREFUSED neither file, folder nor link,
 * GW_EARG a folder without `recursive`, GW_ECONFLICT it vanished, or another source has its name,
 * GW_ETOO_BIG its path, GW_EIO. GW_ENOMEM and GW_ECANCELLED come back at each call: stop then. */
gw_err source_next(struct source *s, const struct file_entry **ret,
                   struct gw_error *why) GW_MUST_USE;
/* Path of the entry that source_next looked at last; "" before the first. Borrowed until the next.
 */
const char *source_at(const struct source *s);

/* Open the file of an entry for reading, now or later: `e` may be a copy of one that was given long
 * before. GW_ECONFLICT: it has gone, or is not the same any more (inode, size, mtime, ctime: a
 * sender may take the entry again by source_look); GW_EDENIED, GW_EBUSY, GW_EIO. */
gw_err source_file(struct source *s, const struct file_entry *e, int *ret_fd,
                   struct gw_error *why) GW_MUST_USE;
/* Whether the file that was read through `fd` is still what `e` says: size, mtime and ctime. To be
 * asked after the last byte. GW_ECONFLICT: it shrank, grew or was changed meanwhile, and which. */
gw_err source_unchanged(const struct file_entry *e, int fd, struct gw_error *why) GW_MUST_USE;
/* The entry as it is now: for another try at a file that changed. Errors of source_next. */
gw_err source_look(struct source *s, const struct file_entry *e, struct file_entry *ret,
                   struct gw_error *why) GW_MUST_USE;

/* Count ahead, for progress: look at most at `steps` further entries with a walk of its own.
 * ret_done: counted all. May be called between source_next. What cannot be read is not counted. */
struct source_totals {
    uint64_t files, folders, links, bytes;
};
gw_err source_totals(struct source *s, unsigned steps, struct source_totals *ret, bool *ret_done,
                     struct gw_error *why) GW_MUST_USE;

/* Remove a file or link that has arrived, if it is unchanged: GW_ECONFLICT otherwise (it is kept).
 * A folder: only when it is empty; GW_EREFUSED otherwise. (Somebody who puts another file under the
 * name in the microseconds between look and removal loses it: Linux has no call for both.) */
gw_err source_remove(struct source *s, const struct file_entry *e,
                     struct gw_error *why) GW_MUST_USE;
/* Remove the folders of all sources that are empty by now, innermost first. ret_left: those that
 * are not. To be called at the end of a move, after source_remove of what they held. */
gw_err source_prune(struct source *s, size_t *ret_left, struct gw_error *why) GW_MUST_USE;

#endif
