/* SHA-256 of bytes in order, which can be asked on the way. One thread. Failures stick and show at
 * the next digest_now: there is no memory. */
#ifndef HOST_FILES_DIGEST_H
#define HOST_FILES_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <godwit/err.h>

#define DIGEST_BYTES 32

struct digest {
    void *state; /* owned; EVP_MD_CTX */
    void *copy;  /* owned */
    bool failed;
};

/* GW_ENOMEM. */
gw_err digest_init(struct digest *d) GW_MUST_USE;
void digest_deinit(struct digest *d); /* all-zero allowed */
void digest_restart(struct digest *d);
void digest_add(struct digest *d, const void *bytes, size_t n);
void digest_add_zeros(struct digest *d, uint64_t n);
/* Of what was added so far; more may follow. GW_ENOMEM. */
gw_err digest_now(struct digest *d, uint8_t ret[DIGEST_BYTES]) GW_MUST_USE;
/* The same, and restart: cheaper. */
gw_err digest_end(struct digest *d, uint8_t ret[DIGEST_BYTES]) GW_MUST_USE;

#endif
