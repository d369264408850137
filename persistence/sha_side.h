/* A run of SHA-256 that goes on beside its owner: one thread hashes what the other does something
 * else with meanwhile. Begin and wait belong to the owner's thread. */
#ifndef PERSISTENCE_SHA_SIDE_H
#define PERSISTENCE_SHA_SIDE_H

#include <godwit/err.h>

#include "persistence/sha_run.h"

struct sha_side; /* opaque */

/* GW_ENOMEM: no thread can be had. */
gw_err sha_side_open(struct sha_side **ret) GW_MUST_USE;
/* Add n bytes to `run`. Both belong to the side until sha_side_wait; what was begun before is
 * waited for. */
void sha_side_begin(struct sha_side *s, struct sha_run *run, const void *data, size_t n);
void sha_side_wait(struct sha_side *s);
void sha_side_close(struct sha_side *s); /* waits; NULL allowed */

#endif
