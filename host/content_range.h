/* What a GET asks of content that never changes: a part of it, or nothing when it is known already
 * (RFC 9110 13 and 14). Pure. */
#ifndef HOST_CONTENT_RANGE_H
#define HOST_CONTENT_RANGE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum range_kind {
    RANGE_ALL,  /* no Range, several at once, or one that is not understood: the whole is right */
    RANGE_PART, /* 206 */
    RANGE_NONE, /* 416: nothing of it is there */
} range_kind;

/* The value of a header Range (NULL: there is none), of `size` bytes: those [*ret_from, *ret_to).
 */
range_kind content_range_parse(const char *value, uint64_t size, uint64_t *ret_from,
                               uint64_t *ret_to);
/* Whether one of the entity tags of If-None-Match (NULL: there is none) is `hash`. */
bool content_is_known(const char *value, const char *hash);

#endif
