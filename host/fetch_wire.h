/* The service "chunks" of the data plane: a host asks another one for the recipe of an artifact,
 * for which chunks it has, and for chunks. Records as of file sessions (host/files/record.h), with
 * kinds of their own; PROTOCOL.md 10 has what they hold.
 *
 *   asker     RECIPE*  HAVE*  WANT*  FINISH         answers come in the order of the questions
 *   answerer  PART*    HAS*   DATA* or LACK         or ERROR, and the session is over
 *
 * Both ends run on threads of the data plane. What they hold: one chunk and the room of records. */
#ifndef HOST_FETCH_WIRE_H
#define HOST_FETCH_WIRE_H

#include "host/fetch_plan.h"
#include "host/files/record.h"
#include "persistence/artifact.h"

/* Never reused. Members in brackets; `refs` is a bin of n * 36 bytes: SHA-256, length (u32, big
 * endian). */
#define CHUNKS_RECIPE ((record_kind)32) /* [hash (bin), offset in the content] */
#define CHUNKS_PART   ((record_kind)33) /* [size, name, type, refs, more (bool), expires ms] */
#define CHUNKS_HAVE   ((record_kind)34) /* [refs] */
#define CHUNKS_HAS    ((record_kind)35) /* [bin: a byte for each, 1 = here and whole] */
#define CHUNKS_WANT   ((record_kind)36) /* [refs], at most LIMIT_FETCH_WANT */
#define CHUNKS_LACK   ((record_kind)37) /* [hash (bin)] not here, or damaged */

#define WIRE_REF_BYTES (CHUNK_HASH_BYTES + 4)
#define WIRE_REFS      1024 /* of one record */

void fetch_wire_refs(struct buf *out, const struct chunk_ref *refs, size_t n);
/* At most `room`. GW_EPROTO: too many, none, not whole, a length that no chunk has. */
gw_err fetch_wire_read_refs(struct mp *m, struct chunk_ref *ret, size_t room,
                            size_t *ret_n) GW_MUST_USE;
gw_err fetch_wire_read_hash(struct mp *m, struct chunk_hash *ret) GW_MUST_USE;

/* --- the answering end --- */
/* Until the asker has finished, or closes. */
gw_err fetch_serve(struct chunk_store *s, struct bulk_io *io, struct gw_error *why) GW_MUST_USE;

/* --- the asking end --- */
struct fetch_recipe {
    char name[LIMIT_ARTIFACT_NAME_BYTES + 1];
    char type[LIMIT_ARTIFACT_TYPE_BYTES + 1];
    uint64_t size;
    int64_t expires_ms;       /* 0: never */
    struct chunk_ref *chunks; /* owned */
    size_t count;
};
void fetch_recipe_free(struct fetch_recipe *r); /* what it holds */
/* Ask for it. GW_ENOT_FOUND; GW_EPROTO: it cannot be the recipe of anything; GW_ETOO_BIG. */
gw_err fetch_ask_recipe(struct bulk_io *io, const struct chunk_hash *hash, uint64_t size_max,
                        struct fetch_recipe *ret, struct gw_error *why) GW_MUST_USE;

/* What the threads that ask share. */
struct fetch_work {
    struct chunk_store *store;
    pthread_mutex_t lock; /* of the plan and of the numbers of sources */
    struct fetch_plan *plan;
    gw_err err; /* this host cannot store chunks: all end */
    struct gw_error why;
};
struct fetch_source {
    struct fetch_work *work;
    int number;             /* in the plan; -1: not joined yet */
    bool partial;           /* ask first what it has */
    uint64_t chunks, bytes; /* that came from it, and were right; under the lock */
    bool bad;               /* it sent what is not what was asked */
};
/* Ask a source for chunks until there is nothing to ask of it. What came is durable at return,
 * whatever is returned. GW_OK: there is nothing left for it, or the work has failed; GW_EPROTO,
 * GW_ECORRUPT: it sends what it should not; GW_EUNREACHABLE, GW_ETIMEOUT, GW_ECANCELLED. */
gw_err fetch_ask_chunks(struct bulk_io *io, struct fetch_source *source,
                        struct gw_error *why) GW_MUST_USE;

#endif
