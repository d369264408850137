/* The content of one file, as records: read, hashed, where it pays cut into chunks or compressed.
 * Private to send.c. */
#ifndef HOST_FILES_SEND_FILE_H
#define HOST_FILES_SEND_FILE_H

#include "host/files/delta.h"
#include "host/files/record.h"
#include "host/files/send.h"

/* What content of all files of a session goes through. */
struct content {
    struct record_io *records;
    struct progress *progress;
    send_compress compress;
    bool dry_run;           /* nothing is written; counted is what would be */
    uint8_t *work;          /* owned; made when it is first needed, larger for chunks */
    size_t room;            /* bytes of it */
    void *zstd;             /* owned; made when it is first needed */
    uint8_t *packed;        /* owned, the same; room for a compressed record */
    unsigned skip, backoff; /* records until compression is tried again */
    struct digest file;     /* of the present file */
    struct digest chunk;    /* of the present chunk */
    uint64_t sent, saved;   /* bytes of all files so far */
    /* Called between records; another result than GW_OK ends the file with it. */
    gw_err (*on_pass)(void *arg);
    void *arg;
};

gw_err content_init(struct content *c, struct gw_error *why) GW_MUST_USE;
void content_deinit(struct content *c);

/* How a file is to be sent. */
struct content_of {
    const struct file_entry *entry;
    int fd;
    struct delta_index *basis; /* chunks that the receiver has; NULL: none */
    /* Wait for more of them: a chunk was not found, and the list is not whole. NULL: it is. On
     * success the list has grown, or *ret_whole. */
    gw_err (*more)(void *arg, bool *ret_whole);
    void *arg;
    bool whole; /* the list is */
    bool bad;   /* out: it is the file that failed, not the session */
};

/* Write DATA, COPY and HOLE records for the whole file, the last of them with RECORD_LAST.
 *   ret_hash  of the content
 * With f->bad the file itself failed, and the last record was not written: GW_ECONFLICT, it changed
 * meanwhile; GW_EIO, it cannot be read. Otherwise errors of records, on_pass and more; GW_ENOMEM.
 */
gw_err content_send(struct content *c, struct content_of *f, uint8_t ret_hash[DIGEST_BYTES],
                    struct gw_error *why) GW_MUST_USE;

#endif
