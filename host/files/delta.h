/* What two versions of a file have in common: the receiver names the chunks of what it has, the
 * sender looks up each chunk of what it sends.
 *
 * Chunks are cut by content (persistence/chunker.h). A chunk is known by the first 16 bytes of its
 * SHA-256 and its length; whoever finds two with the same name gains a file that does not verify,
 * and is sent again whole. One thread. */
#ifndef HOST_FILES_DELTA_H
#define HOST_FILES_DELTA_H

#include "host/files/digest.h"
#include "protocol/base/buf.h"

#define DELTA_CHUNK_BYTES 36 /* of a chunk on the wire: SHA-256 | u32 length, big-endian */
#define DELTA_NAME_BYTES  16

/* --- receiver: the chunks of what there is --- */
/* Read `size` bytes of fd from the start through `work` (`room` bytes) and tell each chunk.
 *   on_chunk  hash: DIGEST_BYTES; another result than GW_OK ends the scan with it
 *   on_pass   now and then, for a sign of life; the same
 * A file that has become shorter just ends. GW_EIO: it cannot be read; GW_ENOMEM. */
struct delta_scan {
    int fd;
    uint64_t size; /* bytes */
    uint8_t *work;
    size_t room;
    gw_err (*on_chunk)(void *arg, const uint8_t *hash, uint32_t len);
    gw_err (*on_pass)(void *arg);
    void *arg;
};
gw_err delta_scan(const struct delta_scan *scan, struct gw_error *why) GW_MUST_USE;

/* --- sender: where a chunk stands --- */
struct delta_place {
    uint64_t offset; /* bytes, in its basis */
    uint32_t len;
    uint8_t basis;
    uint8_t name[DELTA_NAME_BYTES];
};
/* All zero is an empty one. */
struct delta_index {
    struct delta_place *places; /* owned */
    uint32_t *table;            /* owned; place + 1 by name, 0 is free */
    size_t count, cap;
    size_t slots;   /* of the table; a power of two */
    size_t next;    /* place behind the one that was found last: where one looks first */
    uint64_t at[2]; /* bytes of each basis that were named */
};
void delta_index_free(struct delta_index *x);
/* Append chunks as they stand on the wire, in order. GW_EPROTO: no whole number of them, length 0
 * or above CHUNK_MAX, more than LIMIT_BASIS_CHUNKS in all; GW_ENOMEM. */
gw_err delta_index_add(struct delta_index *x, unsigned basis, struct span chunks) GW_MUST_USE;
/* The place of a chunk, or NULL. Of several the one behind that of the call before, because such
 * copies are one record; else one of the first. Borrowed until the next add. */
const struct delta_place *delta_index_find(struct delta_index *x, const uint8_t hash[DIGEST_BYTES],
                                           uint32_t len);

#endif
