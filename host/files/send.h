/* The end of a file session that sends: entries of a source, one after the other, to a receiver
 * that says for each what it has of it (receive.h, record.h).
 *
 * Many entries are told ahead, so that small files need no round trip each; content follows in the
 * order of the verdicts. A file of which the receiver has something (an older version, the part of
 * an interrupted try) goes as chunks: those that the receiver has are named, the others sent. Every
 * file is verified by SHA-256 at the other end, on the way and at its end, before it is made.
 *
 * A file that cannot be sent, or not be made, is told by on_failed, and the session goes on. It
 * ends early when the connection breaks, the transfer is cancelled, the receiver says so (its disk
 * is full), or says what makes no sense. What is finished by then stays; of the file that is on its
 * way the receiver keeps what it has, so that the next try goes on there.
 *
 * One thread; holds at most 8 MiB and one file open. */
#ifndef HOST_FILES_SEND_H
#define HOST_FILES_SEND_H

#include <godwit/types.h>

#include "host/files/digest.h"
#include "host/files/io.h"
#include "host/files/progress.h"
#include "host/files/sink.h"
#include "host/files/source.h"

/* zstd at level 1. AUTO: where a sample says that it pays, and the connection is slow. */
typedef enum send_compress { COMPRESS_AUTO, COMPRESS_ALWAYS, COMPRESS_NEVER } send_compress;

struct send_options {
    const char *dst;     /* a path below the roots of the receiver; or NULL and */
    const gw_id *ticket; /* a staging folder of it: registered files of this ticket */
    const gw_id *agent;  /* and agent */
    sink_placing
        placing; /* what an earlier try of the same transfer had; SINK_GUESS the first time */
    bool overwrite, update, dry_run;
    bool verify;            /* compare content also where size and mtime agree */
    bool move;              /* remove the sources that are at the other end; implies verify */
    send_compress compress; /* DATA records */
    uint64_t limit;         /* bytes a second; 0: none */
    int silence_ms;         /* without a byte from the receiver; 0: LIMIT_TRANSFER_SILENCE_MS */
    /* The receiver has opened the destination and said whether entries go into it. NULL allowed, as
     * of those below; all are called on the thread of the transfer. */
    void (*on_opened)(void *arg, sink_placing placing);
    /* dry_run: this file would be sent; of its bytes so many. */
    void (*on_planned)(void *arg, const struct file_entry *e, uint64_t bytes);
    /* An entry was not transferred. Path as at the source (names_show makes it fit for a screen).
     * On the thread of the transfer; NULL allowed. */
    void (*on_failed)(void *arg, const char *path, gw_err code, const struct gw_error *why);
    void *arg;
};

struct send_result {
    uint64_t files;       /* that are at the other end now, those that were there included */
    uint64_t bytes;       /* of them together */
    uint64_t sent_bytes;  /* of content on the wire, as it went (compressed). With dry_run: that
                             would  go, before compression */
    uint64_t saved_bytes; /* of content that did not have to be sent */
    uint64_t failed;      /* entries, told by on_failed */
    uint64_t removed;     /* with move: files and links removed at the source */
    sink_placing placing; /* for a next try */
    /* One file: SHA-256 of its content. Else SHA-256 over the entries in walk order (source.h),
     * each as u8 type (1 file, 2 folder, 3 link) | path | NUL | SHA-256 of the content (folder:
     * zeros; link: of its target). Not known when something failed, was a dry run, or a file was
     * taken to be the same without a look at its content. */
    bool hashed;
    uint8_t hash[DIGEST_BYTES];
};

/* Run the session. *ret is filled in any case, as far as it came. GW_OK although entries failed:
 * see ret->failed. GW_ECANCELLED (progress->cancel, or the stream), GW_EUNREACHABLE, GW_ETIMEOUT:
 * the connection, try again; GW_EPROTO; what the receiver says: GW_EDENIED, GW_ENOT_FOUND,
 * GW_EREFUSED, GW_EDISK_FULL, GW_ECONFLICT, …; GW_ENOMEM. */
gw_err send_files(struct bulk_io *io, struct source *source, const struct send_options *o,
                  struct progress *progress, struct send_result *ret,
                  struct gw_error *why) GW_MUST_USE;

#endif
