/* The state of one agent: an author's struct in memory, and the parts that it packs into
 * (engine.h).
 *
 * Of the last commit only a hash per part is remembered (XXH3, 128 bits): a part is sent again when
 * its bytes hash differently. Two different parts with equal hashes would lose an update; at 128
 * bits that is less likely than undetected memory errors, and nobody gains from forging one in his
 * own agent. */
#ifndef AGENTS_SDK_STATE_H
#define AGENTS_SDK_STATE_H

#ifndef XXH_STATIC_LINKING_ONLY
#define XXH_STATIC_LINKING_ONLY    /* the streaming state on the stack; headers and library are of \
                                      one build */
#endif
#include <xxhash.h>

#include "agents/sdk/type.h"

struct state_part {
    const char *name; /* of the type's table or "" (borrowed), or owned */
    XXH128_hash_t hash;
    bool owned;
    bool seen; /* while packing */
};

/* All-zero = nothing loaded. */
struct state {
    const struct type *type;
    void *obj;                /* owned; NULL = not loaded */
    struct state_part *parts; /* of the last commit */
    uint32_t part_count, part_cap;
    uint32_t version; /* highest that ever wrote it */
    bool pinned;      /* a handler that waits for its save points to obj: it is not dropped */
    uint32_t oldest;  /* version that can read it */
    bool stale;       /* content is not that of the last commit: load before use */
    struct unknown
        *unknown; /* owned; packed pairs of fields that the table does not have; NULL: none */
};

/* A zero object of a type; drops what was there. */
gw_err state_create(struct state *s, const struct type *type) GW_MUST_USE;
/* Load from parts: the raw msgpack map {name: bin}. An object of the same type keeps its untabled
 * members. On failure it is stale, or gone if it was not there. GW_EDECODE, GW_ENOMEM, and what
 * .upgrade fails with. */
gw_err state_load(struct state *s, const struct type *type, struct span parts,
                  struct gw_error *why) GW_MUST_USE;
/* Append a msgpack map with the parts that differ from the last commit (with `all` every part), nil
 * for parts that are gone, or nil when there is nothing to say; what was appended then counts as
 * committed. On failure the object is stale and `out` holds rubbish behind its old length.
 * GW_ETOO_BIG, GW_ENOMEM. */
gw_err state_pack(struct state *s, bool all, struct buf *out, size_t *ret_changed,
                  struct gw_error *why) GW_MUST_USE;
/* A hash over all parts as they are now: whether anything changed. */
gw_err state_hash(struct state *s, XXH128_hash_t *ret, struct gw_error *why) GW_MUST_USE;
/* on_unload, free. */
void state_drop(struct state *s);

/* The header of a msgpack bin whose length is not known yet; returns what bin_end needs. */
size_t bin_begin(struct buf *out);
void bin_end(struct buf *out, size_t at);
size_t bin_bytes(const struct buf *out, size_t at); /* content since bin_begin */

#endif
