/* The tops of a copy: what its sources are once patterns are expanded. Each is a path of an entry
 * below a base, a folder below a root. Bases are shared and opened when they are used. One thread.
 */
#ifndef HOST_FILES_TOPS_H
#define HOST_FILES_TOPS_H

#include <stdatomic.h>
#include <stdint.h>

#include "host/files/exclude.h"
#include "host/files/roots.h"

struct base {
    size_t root;
    char *rest; /* owned */
};

struct top {
    uint32_t base;
    bool twice; /* an earlier top has its path */
    char *path; /* of its first entry, below the base; "." the base itself; owned */
};

struct tops {
    const struct roots *roots;
    const atomic_bool *cancel;    /* NULL: nobody calls off */
    gw_err (*on_pass)(void *arg); /* NULL: nobody is to know that it goes on */
    void *arg;
    struct base *bases;
    size_t base_count, base_room;
    struct top *items;
    size_t count, room;
};

/* Add what one path or pattern names. `recursive`: a folder that fits a pattern with "**" stands
 * for what is in it. Errors as source_open. */
gw_err tops_add(struct tops *t, const char *path, bool recursive, struct gw_error *why) GW_MUST_USE;
/* Mark the doubled paths. GW_ENOMEM. */
gw_err tops_seal(struct tops *t, struct gw_error *why) GW_MUST_USE;
/* Between two steps of what may take long: GW_ECANCELLED when it was called off or on_pass fails.
 */
gw_err tops_pass(const struct tops *t, struct gw_error *why) GW_MUST_USE;
void tops_clear(struct tops *t);
/* Open the base of a top (O_PATH). Errors as roots_open_at. */
gw_err tops_open_base(const struct tops *t, uint32_t top, int *ret_fd,
                      struct gw_error *why) GW_MUST_USE;

#endif
