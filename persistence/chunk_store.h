/* Chunks of content, named by their SHA-256, each stored once, and the artifacts that are made of
 * them (artifact.h).
 *
 * A folder holds pack files of about 64 MiB, chunk behind chunk, and `artifacts.db`, which says
 * where each chunk lies, how many places of artifacts need it, and what the artifacts are. Bytes
 * are flushed before the transaction that names them, so a crash leaves bytes that nobody names,
 * which go when the store is opened or collected, and never names without bytes.
 *
 *   reads     every chunk is hashed when it is read: a damaged one is an error that names it, and
 * is marked, so that it counts as missing from then on; whoever puts the right bytes again
 *             (chunk_store_put, any upload that has the chunk in it) repairs it
 *   quota     bytes of chunks, each counted once however many artifacts have it, and as 4 KiB at
 *             least; counted before they are written, those of all writers together
 *   collect   chunk_store_collect removes what nobody needs; nothing is removed that a writer or a
 *             reader of this process is about to use
 *   clock     what expires is not served once the wall clock says so, and is removed when that
 * clock has been calm for LIMIT_ENDED_CALM_MS: one that jumps must not end what comes back
 *
 * A full disk is a result (GW_EDISK_FULL, nothing half visible); a failed write or fsync of another
 * kind ends the process (log_die), as for the store of the host.
 *
 * Threads: all calls may be made by any thread at any time; writing, reading and hashing of bytes
 * and flushes of packs happen outside of the store's mutex. Handles (batches, writers, readers)
 * belong to one thread each, and are ended before the store is closed. */
#ifndef PERSISTENCE_CHUNK_STORE_H
#define PERSISTENCE_CHUNK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <godwit/types.h>

#include "persistence/chunker.h"
#include "protocol/base/buf.h"

#define CHUNK_HASH_BYTES 32
#define CHUNK_HASH_TEXT  65 /* 64 hex digits and NUL */

struct chunk_hash {
    uint8_t b[CHUNK_HASH_BYTES];
};

/* One chunk of something longer. */
struct chunk_ref {
    struct chunk_hash hash;
    uint32_t len; /* bytes [1..CHUNK_MAX] */
};

struct chunk_options {
    uint64_t artifact_max; /* bytes of one artifact; 0: no limit of its own */
    uint64_t quota;        /* bytes of all chunks; 0: none but the disk's */
    /* NULL: the clocks of the system. Milliseconds since 1970, and since any time. */
    int64_t (*wall_ms)(void);
    int64_t (*mono_ms)(void);
};

struct chunk_stats {
    uint64_t artifacts, uploads; /* whole ones, those under way */
    uint64_t artifact_bytes;     /* sizes of whole ones together */
    uint64_t chunks, used_bytes; /* stored, as the quota counts, those under way included */
    uint64_t quota_bytes;        /* 0: none */
    uint64_t packs, pack_bytes;  /* files, and their size with what waits to be collected */
};

struct chunk_store; /* opaque */

/* Open or make the folder. GW_ELOCKED: another process has it; GW_ECORRUPT, GW_ENEWER, GW_EIO,
 * GW_EDISK_FULL, GW_ENOMEM. */
gw_err chunk_store_open(const char *dir, const struct chunk_options *options,
                        struct chunk_store **ret, struct gw_error *why) GW_MUST_USE;
void chunk_store_close(struct chunk_store *s); /* NULL allowed */
void chunk_store_stats(struct chunk_store *s, struct chunk_stats *ret);

char *chunk_hash_text(const struct chunk_hash *h, char ret[CHUNK_HASH_TEXT]);
/* 64 hex digits of either case. GW_EARG. */
gw_err chunk_hash_parse(const char *text, struct chunk_hash *ret) GW_MUST_USE;
struct chunk_hash chunk_hash_of(const void *data, size_t n);

/* --- chunks --- */
/* Which of n chunks are not here, or damaged: ret_missing[i]. A chunk that is here and that no
 * artifact needs may be collected later; who builds on the answer asks again at the end
 * (artifact_adopt does). GW_ENOMEM, GW_ECORRUPT. */
gw_err chunk_store_missing(struct chunk_store *s, const struct chunk_ref *chunks, size_t n,
                           bool *ret_missing, struct gw_error *why) GW_MUST_USE;
/* Store one chunk, durable at return, or put a damaged one right. Kept for LIMIT_CHUNK_LOOSE_MS at
 * least while no artifact needs it.
 *   hash  what the bytes have to be, NULL: whatever they are
 * GW_EARG: 0 or more than CHUNK_MAX bytes; GW_ECORRUPT: they are something else; GW_EQUOTA,
 * GW_EDISK_FULL, GW_ENOMEM. */
gw_err chunk_store_put(struct chunk_store *s, struct span bytes, const struct chunk_hash *hash,
                       struct gw_error *why) GW_MUST_USE;
/* The bytes, verified; `ret` is replaced. GW_ENOT_FOUND; GW_ECORRUPT, GW_EIO: damaged, named in
 * `why`; GW_EBUSY: no file descriptor; GW_ENOMEM. */
gw_err chunk_store_get(struct chunk_store *s, const struct chunk_hash *hash, struct buf *ret,
                       struct gw_error *why) GW_MUST_USE;

/* Several chunks that become durable together: one flush for all of them. */
struct chunk_batch;
gw_err chunk_batch_new(struct chunk_store *s, struct chunk_batch **ret) GW_MUST_USE; /* GW_ENOMEM */
/* As chunk_store_put, but durable at the commit only. GW_EBUSY: the batch is full, commit first. */
gw_err chunk_batch_put(struct chunk_batch *b, struct span bytes, const struct chunk_hash *hash,
                       struct gw_error *why) GW_MUST_USE;
/* All or nothing; the batch is empty afterwards. GW_EDISK_FULL, GW_ENOMEM, GW_ECORRUPT. */
gw_err chunk_batch_commit(struct chunk_batch *b, struct gw_error *why) GW_MUST_USE;
void chunk_batch_free(struct chunk_batch *b); /* drops what was not committed; NULL allowed */

/* --- keeping order --- */
/* Do a part of what is to be collected, some 10 ms of the mutex: expired artifacts, uploads that
 * nobody goes on with, removed artifacts, chunks that nobody needs, packs that are half empty.
 *   ret_more  there is more to do at once
 * GW_EDISK_FULL (packs are not written anew then), GW_ENOMEM, GW_ECORRUPT. */
gw_err chunk_store_collect(struct chunk_store *s, bool *ret_more, struct gw_error *why) GW_MUST_USE;

struct chunk_damage {
    struct chunk_ref chunk;
    const char *what;       /* what is wrong with it, for people */
    const gw_id *artifacts; /* that need it: the first CHUNK_DAMAGE_ARTIFACTS */
    size_t artifact_count;
};
#define CHUNK_DAMAGE_ARTIFACTS 64

struct chunk_verify {
    gw_id artifact; /* nil: all chunks that are needed */
    /* A damaged chunk; valid during the call. */
    void (*on_damage)(void *arg, const struct chunk_damage *d);
    /* After each chunk: false ends it (GW_ECANCELLED). NULL allowed. */
    bool (*on_progress)(void *arg, uint64_t chunks, uint64_t bytes);
    void *arg;
};
struct chunk_verified {
    uint64_t chunks, bytes, damaged;
};
/* Read and hash everything. Damage is no error: it is told and marked, and a mark of what is whole
 * after all is taken back. GW_ENOT_FOUND: no such artifact; GW_ECANCELLED, GW_ENOMEM. */
gw_err chunk_store_verify(struct chunk_store *s, const struct chunk_verify *v,
                          struct chunk_verified *ret, struct gw_error *why) GW_MUST_USE;

#endif
