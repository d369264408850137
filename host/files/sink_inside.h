/* What the files of the sink share: sink.c (opening, entries), sink_folder.c (folders), sink_file.c
 * (parts and bytes), sink_flush.c (batches). */
#ifndef HOST_FILES_SINK_INSIDE_H
#define HOST_FILES_SINK_INSIDE_H

#include <sys/queue.h>
#include <sys/stat.h>

#include "host/files/sink.h"

/* Each has a descriptor until it gets its name: where there are few, a sixteenth of them. */
#define SINK_BATCH_FILES 256
#define SINK_BATCH_BYTES (64u * 1024 * 1024)
#define SINK_ALONE_BYTES (8u * 1024 * 1024) /* a file from this size on is flushed by itself */
#define SINK_FOLDERS     64                 /* open at one time, besides those in use */

/* A folder of the destination. Nobody but the sink's own list holds it when users is 0. */
struct sink_folder {
    TAILQ_ENTRY(sink_folder) link; /* the one used last comes first */
    char *path;                    /* below the base, "" the base itself; owned */
    int fd;                        /* -1: not there (dry run) */
    uint64_t dev, ino;
    unsigned users;
    bool entered; /* parts_enter */
    bool dirty;   /* names in it are not flushed */
};

struct sink_files {
    struct sink_file *first, **end;
    size_t count;
};

struct sink {
    struct sink_options o;
    struct parts *parts;
    const struct guard *guard; /* of the roots; NULL: none */
    int base_fd;               /* -1: dry run, and the destination is not there */
    char *path;                /* of the destination, absolute; owned */
    char *as;                  /* SINK_AS: name of the one source in the base; owned; else NULL */
    char *top;                 /* SINK_AS: first part of the entries' paths; owned */
    bool keep_base;            /* the base is a root itself: it keeps its mode and time */
    TAILQ_HEAD(sink_folders, sink_folder) folders;
    size_t folder_count;
    struct sink_files waiting; /* committed, to be flushed and named */
    struct sink_files placed;  /* named; their folders are not flushed */
    size_t batch;              /* files at most in `waiting` */
    uint64_t waiting_bytes;
    bool waiting_unsynced; /* one of them at least needs syncfs */
    bool dropped_dirty;    /* a folder that is no longer in the list is to be flushed */
    bool no_tmpfile;       /* this file system has no O_TMPFILE */
    bool broken;           /* the disk failed */
    uint64_t quota;        /* bytes accounted so far */
    struct buf later;      /* folders that get mode and time at the end: struct later, path, NUL */
    size_t open_files;     /* neither committed nor given up */
};

/* --- sink_folder.c --- */
/* The folder with the first n bytes of `path`, made if need be; counted as one more user.
 * GW_EREFUSED: a part of it is no folder; GW_EDENIED: it is guarded. */
gw_err sink_folder_get(struct sink *s, const char *path, size_t n, struct sink_folder **ret,
                       struct gw_error *why) GW_MUST_USE;
void sink_folder_put(struct sink *s, struct sink_folder *f);
/* Flush the names in all folders. */
gw_err sink_folder_sync(struct sink *s, struct gw_error *why) GW_MUST_USE;
void sink_folder_close(struct sink *s);
/* The folder may hold temporary names from now on: noted, and (enter) flushed. */
gw_err sink_folder_note(struct sink *s, struct sink_folder *f, struct gw_error *why) GW_MUST_USE;
gw_err sink_folder_enter(struct sink *s, struct sink_folder *f, struct gw_error *why) GW_MUST_USE;
/* Flush what was noted of folders. */
gw_err sink_folder_flush_parts(struct sink *s, struct gw_error *why) GW_MUST_USE;
/* A folder entry, at the mapped path; modes and times of all such. */
gw_err sink_folder_entry(struct sink *s, const struct file_entry *e, const char *path,
                         struct gw_error *why) GW_MUST_USE;
gw_err sink_folder_modes(struct sink *s, struct gw_error *why) GW_MUST_USE;
/* What an entry's mode becomes for one that belongs to uid and gid here. */
mode_t sink_mode(const struct file_entry *e, const struct stat *here);

/* --- sink_file.c --- */
gw_err sink_file_entry(struct sink *s, const struct file_entry *e, struct sink_folder *folder,
                       const char *name, sink_verdict *ret, struct sink_file **ret_file,
                       struct gw_error *why) GW_MUST_USE;
/* Close its descriptors, give back its claim; the struct is freed. Files on the disk stay. */
void sink_file_free(struct sink_file *f);
void sink_file_close(struct sink_file *f); /* descriptors, claim and folder alone */

/* --- sink_flush.c --- */
/* It has all its bytes; taken. */
gw_err sink_flush_add(struct sink *s, struct sink_file *f, struct gw_error *why) GW_MUST_USE;
/* Give what waits its names, and so back its descriptors. False: nothing waits. */
bool sink_flush_some(struct sink *s) GW_MUST_USE;
/* A link, at once. */
gw_err sink_flush_link(struct sink *s, const struct file_entry *e, struct sink_folder *folder,
                       const char *name, struct gw_error *why) GW_MUST_USE;
/* Make the temporary name `part` free in a folder. GW_ECONFLICT: somebody writes to it. */
gw_err sink_flush_clear(const struct sink_folder *folder, const char *part, const char *name,
                        struct gw_error *why) GW_MUST_USE;
/* As beneath_fail, in the words of a destination. */
gw_err sink_fail(struct gw_error *why, int error, const char *verb, const char *name);

#endif
