/* Packing free values (gw_value, godwit/types.h) as msgpack and back. Any thread.
 *
 * What packs decodes again: text that is not UTF-8 (a file name, say) goes out with '?' for each
 * bad byte, for a committed state that no host can read would be lost. */
#ifndef PROTOCOL_VALUE_H
#define PROTOCOL_VALUE_H

#include <godwit/types.h>

#include "protocol/base/mp.h"
#include "protocol/base/utf8.h"

/* Append `v` as msgpack. Failure (no memory, deeper than LIMIT_DEPTH) sticks in the buffer. */
void value_pack(const gw_value *v, struct buf *out);
/* Append n bytes of text as a msgpack string that decodes (see above). */
void value_pack_text(const char *p, size_t n, struct buf *out);
/* Read one element into a tree (nil keys, non-string keys and duplicate keys are GW_EPROTO; depth
 * at most LIMIT_DEPTH; strings must be UTF-8 without NUL; unknown ext types are GW_EPROTO). On
 * failure ret and the cursor are untouched. Memory grows only with bytes that are there. */
gw_err value_unpack(struct mp *m, gw_value *ret) GW_MUST_USE;
/* The whole span must be one element. An empty span gives nil. */
gw_err value_unpack_span(struct span s, gw_value *ret) GW_MUST_USE;
/* The same inside `depth` arrays and maps, which count towards LIMIT_DEPTH. */
void value_pack_at(const gw_value *v, unsigned depth, struct buf *out);
gw_err value_unpack_at(struct mp *m, unsigned depth, gw_value *ret) GW_MUST_USE;

/* Whether the value takes at most `max` bytes, counting about as packing would, and is not nested
 * deeper than LIMIT_DEPTH; *bytes grows by what was counted. Stops early. */
bool value_within(const gw_value *v, size_t max, size_t *bytes);

/* "nil" "bool" "int" "float" "string" "bytes" "id" "time" "list" "map", for messages. Static. */
const char *value_kind_name(gw_kind kind);

/* --- for decoders: maps built without a search per key --- */
/* Append a member; takes key (malloc'ed; NULL = GW_ENOMEM) and item whatever happens. The caller
 * answers for unique keys, with value_map_check_unique at the end. */
gw_err value_map_append(gw_value *map, char *key, gw_value item) GW_MUST_USE;
/* GW_EPROTO when a key stands twice; GW_ENOMEM. */
gw_err value_map_check_unique(const gw_value *map) GW_MUST_USE;
/* The members by key order, for free(); NULL when out of memory. */
const struct gw_member **value_map_sorted(const gw_value *map);

#endif
