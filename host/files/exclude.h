/* Patterns of entries that are left out of a copy: source.h says how they are written. */
#ifndef HOST_FILES_EXCLUDE_H
#define HOST_FILES_EXCLUDE_H

#include <stdbool.h>
#include <stddef.h>

#include <godwit/err.h>

struct excludes {
    struct exclude *items; /* owned */
    size_t count;
};

/* Patterns are copied. GW_EARG names the one that is wrong; GW_ETOO_BIG; GW_ENOMEM. */
gw_err excludes_set(struct excludes *x, const char *const *patterns, size_t n,
                    struct gw_error *why) GW_MUST_USE;
void excludes_clear(struct excludes *x);
/* Whether the entry at `path` is left out. */
bool excludes_fit(const struct excludes *x, const char *path, bool folder);

#endif
