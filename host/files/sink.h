/* Where files go: below a root of a host, or in a folder of the host's own.
 *
 * Rules of the destination, as `cp`: when it ends in '/', or is a folder, sources go into it under
 * their own names (the folder is made if need be, one level); otherwise it is the new name of the
 * one source. The source "." (source.h: "docs/") is the destination itself.
 *
 * What is written is never half visible: a file is written under a temporary name (parts.h) or none
 * (O_TMPFILE), flushed, and then gets its name in one step. Whoever looks sees the old file or the
 * new one. Links are replaced in one step, too; a folder gets its mode and time at the end, so that
 * a read-only one still gets its files. Below the destination no link is followed, whoever made it
 * and whenever: every folder is opened from the one above it (openat2, RESOLVE_NO_SYMLINKS).
 *
 * What is there already:
 *   a file of the same size and mtime    SINK_SAME; with `verify` its content decides
 *   another file, or a link              GW_EEXISTS; `overwrite` replaces it; `update` only if it
 * is older than the source, else SINK_KEPT a folder where a file or link goes, or the other way
 * round, or a device     GW_EREFUSED
 *
 * Modes and times are those of the source; setuid and setgid only when the file has the same owner
 * (group) there as here. Owners are those of the host's user. Small files (SINK_SMALL_BYTES) are
 * flushed in batches, hundreds with one syncfs; large ones are written back as they come and
 * flushed one by one.
 *
 * One thread, except that `parts` is shared. A sink that is closed before sink_finish leaves what
 * sink_flush has placed, and the parts of the unfinished. */
#ifndef HOST_FILES_SINK_H
#define HOST_FILES_SINK_H

#include "host/files/entry.h"
#include "host/files/busy.h"
#include "host/files/parts.h"
#include "host/files/roots.h"

#define SINK_SMALL_BYTES (1024u * 1024)

struct sink;

/* Whether entries go into the destination or one source gets its name. A transfer that is taken up
 * again passes on what the first try found (sink_place): by then the folder exists. */
typedef enum sink_placing { SINK_GUESS, SINK_INTO, SINK_AS } sink_placing;

struct sink_options {
    bool overwrite, update, verify;
    bool dry_run;         /* nothing is made or written; verdicts are as they would be */
    sink_placing placing; /* SINK_GUESS: by the rules above */
    uint64_t quota_bytes; /* of all files together, those that are there already not; 0 = none */
    /* A file that was committed is now visible and durable (GW_OK), or is not, and why. Called from
     * within sink_commit, sink_flush and sink_finish, on the thread of the sink, which it must not
     * call. NULL allowed. */
    void (*on_placed)(void *ctx, uint64_t tag, gw_err err, const struct gw_error *why);
    void *ctx;
    struct busy busy; /* while the disk flushes, and between the files that get their names */
};

/* one_source: what is sent has one top (source_count). `parts` is borrowed.
 * GW_EDENIED: outside of the roots, led out by a link, no permission; GW_ENOT_FOUND: the folder
 * above the destination; GW_EREFUSED: several sources, or one "into", and it is a file. */
gw_err sink_open(const struct roots *roots, const char *dst, bool one_source,
                 const struct sink_options *o, struct parts *parts, struct sink **ret,
                 struct gw_error *why) GW_MUST_USE;
/* Into a folder of the host's own, by its descriptor (taken, also on failure). `parts` may be NULL:
 * what an interrupted try leaves is then the caller's to remove with the folder. */
gw_err sink_open_dir(int dirfd, const struct sink_options *o, struct parts *parts,
                     struct sink **ret, struct gw_error *why) GW_MUST_USE;
void sink_close(struct sink *s); /* after sink_abort or sink_commit of every file; NULL allowed */
void sink_closep(struct sink **s);
sink_placing sink_place(const struct sink *s); /* SINK_INTO or SINK_AS */
/* The destination as an absolute path, for people. Borrowed. */
const char *sink_path(const struct sink *s);

typedef enum sink_verdict {
    SINK_SAME,   /* a file: there already, nothing to do */
    SINK_KEPT,   /* `update`: what is there is newer, and stays */
    SINK_DONE,   /* a folder or link: made, or there already; durable after the next flush */
    SINK_WANTED, /* a file: send its bytes */
} sink_verdict;

/* A file that is wanted. */
struct sink_file {
    uint64_t old_size;  /* of the file that is there and may be a basis; 0 = none */
    uint64_t rest_size; /* of what an interrupted try left; 0 = none */
    bool replace;       /* false: the one there may not be replaced, only found equal (`verify`) */
    bool large;         /* it has a part, locked; its descriptors are open from now on */
    /* private to the sink */
    struct sink *sink;
    struct sink_folder *folder;
    struct file_entry entry;
    const char *name; /* in its folder */
    int fd, old_fd, rest_fd;
    struct direct *direct; /* a large file that is being written; owned; else NULL */
    bool part;             /* fd has the name of a part, and its lock; else none */
    bool claimed;          /* parts_claim */
    bool over;             /* there is one already */
    bool unsynced;
    uint64_t written_to, written_back, quota, tag;
    struct sink_file *next;
};

/* The next entry. A parent folder that was not announced is made, with the mode of mkdir. *ret_file
 * only with SINK_WANTED; end it by sink_commit, sink_same or sink_abort. A small one costs no
 * descriptor until it is written; a large one up to three.
 * Errors are of this entry, the sink goes on: GW_EEXISTS, GW_EREFUSED, GW_EDENIED, GW_ECONFLICT
 * (another transfer writes to this destination), GW_ETOO_BIG (quota), GW_EDISK_FULL, GW_EIO. */
gw_err sink_entry(struct sink *s, const struct file_entry *e, sink_verdict *ret,
                  struct sink_file **ret_file, struct gw_error *why) GW_MUST_USE;

/* Bytes that are there already, to build upon: read by pread. -1 when there are none. Borrowed
 * until the file ends. */
int sink_old(struct sink_file *f);
int sink_rest(struct sink_file *f);

/* Write at an offset; in a sparse file runs of zeros stay holes. GW_EDISK_FULL (keep the part:
 * sink_abort), GW_ETOO_BIG (quota), GW_EIO. */
gw_err sink_write(struct sink_file *f, uint64_t offset, const void *data, size_t n,
                  struct gw_error *why) GW_MUST_USE;
/* The file has all its bytes: `size` (the source may have grown since it was announced), mode and
 * time of `entry`. It becomes visible and durable with the next flush, which comes by itself when
 * enough is waiting; on_placed tells. Frees f, also on failure: then the part is kept for a next
 * try. GW_EEXISTS: `replace` is false. Others as sink_write. */
gw_err sink_commit(struct sink_file *f, uint64_t size, uint64_t tag,
                   struct gw_error *why) GW_MUST_USE;
/* The old file has been found to hold just these bytes: it stays, takes mode and time if it may be
 * replaced, and a part goes. Frees f. */
gw_err sink_same(struct sink_file *f, struct gw_error *why) GW_MUST_USE;
/* Give it up. keep_part: what is written stays for a next try (small files leave nothing). Frees f.
 */
void sink_abort(struct sink_file *f, bool keep_part);

/* Make all that was committed durable and visible. An error is that of the first file that failed;
 * on_placed told of each. GW_EIO from the disk itself: nothing after it can be trusted; close. */
gw_err sink_flush(struct sink *s, struct gw_error *why) GW_MUST_USE;
/* Flush; then modes and times of the folders. No entry after it. */
gw_err sink_finish(struct sink *s, struct gw_error *why) GW_MUST_USE;

#endif
