/* SHA-256 of a stream that can be put aside and gone on with, also by another process: OpenSSL's
 * EVP has no way to take the state out, so this uses the calls behind it. Nothing here allocates or
 * fails. An object belongs to one thread. */
#ifndef PERSISTENCE_SHA_RUN_H
#define PERSISTENCE_SHA_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/sha.h>

#define SHA_RUN_HASH_BYTES 32
#define SHA_RUN_PACK_BYTES (32 + 8 + 64) /* packed state */

struct sha_run {
    SHA256_CTX ctx;
};

void sha_run_init(struct sha_run *r);
void sha_run_add(struct sha_run *r, const void *data, size_t n);
/* The hash of what was added so far; the run goes on as it was. */
void sha_run_hash(const struct sha_run *r, uint8_t ret[SHA_RUN_HASH_BYTES]);
/* The state: eight words, the number of bytes so far, those of the last unfinished block. */
void sha_run_pack(const struct sha_run *r, uint8_t ret[SHA_RUN_PACK_BYTES]);
/* False: not a packed state of n bytes. */
bool sha_run_unpack(struct sha_run *r, const uint8_t *p, size_t n);
/* All at once. */
void sha_run_of(const void *data, size_t n, uint8_t ret[SHA_RUN_HASH_BYTES]);

#endif
