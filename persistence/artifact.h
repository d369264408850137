/* Artifacts: immutable contents with a name, an owner and an end, made of chunks (chunk_store.h has
 * the rules for threads, damage, quota and the clock).
 *
 * An artifact has an id, and the plain SHA-256 of its content as hash; several may have the same
 * hash. Until it is finished it is an upload: nobody sees it, and its durable part can be gone on
 * with, also after a crash:
 *
 *   new ── write… ──┬── finish ── whole ── rm, expiry ── removed, then collected
 *                   ├── pause ── (resume) ── write…
 *                   └── free ── removed        an upload that is not `resumable`
 */
#ifndef PERSISTENCE_ARTIFACT_H
#define PERSISTENCE_ARTIFACT_H

#include "persistence/chunk_store.h"
#include "protocol/limits.h"

struct artifact_meta {
    gw_id owner;      /* an agent; nil: none */
    const char *name; /* "" or NULL: none; at most LIMIT_ARTIFACT_NAME_BYTES, UTF-8, no controls */
    const char *type; /* media type; "" or NULL: application/octet-stream */
    int64_t ttl_ms;   /* from when it is finished; 0: for ever */
    bool resumable;   /* the upload outlives its writer */
};

struct artifact_info {
    gw_id id, owner;
    char name[LIMIT_ARTIFACT_NAME_BYTES + 1];
    char type[LIMIT_ARTIFACT_TYPE_BYTES + 1];
    uint64_t size;          /* of an upload: the durable bytes */
    struct chunk_hash hash; /* SHA-256 of the content; of an upload: zero */
    int64_t created_ms;     /* wall clock; of an upload: when it was begun */
    int64_t expires_ms;     /* 0: never */
    bool upload;
};

/* --- writing --- */
struct artifact_writer;
/* GW_EARG: the meta data; GW_EQUOTA: too many artifacts; GW_ENOMEM. A resumable one is durable at
 * return, so that its id can be given away. */
gw_err artifact_writer_new(struct chunk_store *s, const struct artifact_meta *meta,
                           struct artifact_writer **ret, struct gw_error *why) GW_MUST_USE;
/* Go on with an upload, from artifact_writer_size. GW_ENOT_FOUND; GW_ECONFLICT: somebody writes it;
 * GW_ENOMEM. */
gw_err artifact_writer_resume(struct chunk_store *s, const gw_id *id, struct artifact_writer **ret,
                              struct gw_error *why) GW_MUST_USE;
gw_id artifact_writer_id(const struct artifact_writer *w);
uint64_t artifact_writer_size(const struct artifact_writer *w);    /* bytes written */
uint64_t artifact_writer_durable(const struct artifact_writer *w); /* of them safe after a crash */
/* Some more bytes. GW_ETOO_BIG: above artifact_max; GW_EQUOTA, GW_EDISK_FULL, GW_ENOMEM: the bytes
 * of this call were not taken whole, and the writer takes no more; what was durable stays. */
gw_err artifact_writer_add(struct artifact_writer *w, const void *data, size_t n,
                           struct gw_error *why) GW_MUST_USE;
/* A chunk that is here already, as the next bytes: read and verified, not stored again. GW_EARG:
 * bytes before it do not end with a chunk; GW_ENOT_FOUND, GW_ECORRUPT: put it first (the writer can
 * still be used). */
gw_err artifact_writer_add_chunk(struct artifact_writer *w, const struct chunk_ref *chunk,
                                 struct gw_error *why) GW_MUST_USE;
/* All bytes so far are durable, and the upload can be resumed. */
gw_err artifact_writer_pause(struct artifact_writer *w, struct gw_error *why) GW_MUST_USE;
/* Whole, durable, visible. The writer can only be freed afterwards.
 *   want  hash that it has to have, NULL: any. GW_ECORRUPT: it has another; nothing is visible */
gw_err artifact_writer_finish(struct artifact_writer *w, const struct chunk_hash *want,
                              struct artifact_info *ret, struct gw_error *why) GW_MUST_USE;
/* What was not finished is removed, unless it is resumable. NULL allowed. */
void artifact_writer_free(struct artifact_writer *w);

/* All at once: an artifact from chunks that are here. GW_ENOT_FOUND: one is missing (named), get it
 * and try again; GW_ECORRUPT: one is damaged, or the whole has another hash than `want`. */
gw_err artifact_adopt(struct chunk_store *s, const struct artifact_meta *meta,
                      const struct chunk_ref *chunks, size_t n, const struct chunk_hash *want,
                      struct artifact_info *ret, struct gw_error *why) GW_MUST_USE;

/* --- reading --- */
struct artifact_reader;
/* GW_ENOT_FOUND, also when it has expired; GW_ENOMEM. What is removed while it is open can be read
 * to its end. */
gw_err artifact_reader_open(struct chunk_store *s, const gw_id *id, struct artifact_reader **ret,
                            struct gw_error *why) GW_MUST_USE;
const struct artifact_info *artifact_reader_info(const struct artifact_reader *r);
/* Bytes from `at` to the end of their chunk, at least one; borrowed until the next call on r. At
 * the end of the artifact: none. GW_EARG: at is behind the end; errors of chunk_store_get. */
gw_err artifact_reader_at(struct artifact_reader *r, uint64_t at, struct span *ret,
                          struct gw_error *why) GW_MUST_USE;
void artifact_reader_free(struct artifact_reader *r); /* NULL allowed */

/* The chunks of an artifact, in order, from offset `at` on (which begins a chunk): at most `room`.
 * None: that was all. GW_ENOT_FOUND, GW_ENOMEM, GW_ECORRUPT. */
gw_err artifact_recipe(struct chunk_store *s, const gw_id *id, uint64_t at, struct chunk_ref *ret,
                       size_t room, size_t *ret_count, struct gw_error *why) GW_MUST_USE;

/* --- rows --- */
/* GW_ENOT_FOUND: also when it has expired, and says so. Uploads are found. */
gw_err artifact_info(struct chunk_store *s, const gw_id *id, struct artifact_info *ret,
                     struct gw_error *why) GW_MUST_USE;
/* The newest with this content. GW_ENOT_FOUND. */
gw_err artifact_find(struct chunk_store *s, const struct chunk_hash *hash,
                     struct artifact_info *ret, struct gw_error *why) GW_MUST_USE;
/* At most `room` whole ones by id (that is by time), those after `after` (nil: from the first on).
 *   owner  only this agent's; nil: all */
gw_err artifact_list(struct chunk_store *s, const gw_id *after, const gw_id *owner,
                     struct artifact_info *ret, size_t room, size_t *ret_count,
                     struct gw_error *why) GW_MUST_USE;
/* Gone at once for everybody but open readers, durably; also an upload that nobody writes
 * (GW_ECONFLICT). GW_ENOT_FOUND. */
gw_err artifact_remove(struct chunk_store *s, const gw_id *id, struct gw_error *why) GW_MUST_USE;

#endif
