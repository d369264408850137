/* The calls that OpenSSL 3 would rather have replaced by EVP: they alone show their state. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "persistence/sha_run.h"

#include <string.h>

#include "protocol/base/buf.h"
#include "protocol/base/log.h"

#define WORDS 8

void sha_run_init(struct sha_run *r)
{
    int ok = SHA256_Init(&r->ctx);
    gw_assert(ok == 1);
}

void sha_run_add(struct sha_run *r, const void *data, size_t n)
{
    int ok = SHA256_Update(&r->ctx, data, n);
    gw_assert(ok == 1);
}

void sha_run_hash(const struct sha_run *r, uint8_t ret[SHA_RUN_HASH_BYTES])
{
    SHA256_CTX copy = r->ctx;
    int ok = SHA256_Final(ret, &copy);
    gw_assert(ok == 1);
}

void sha_run_of(const void *data, size_t n, uint8_t ret[SHA_RUN_HASH_BYTES])
{
    struct sha_run r;
    sha_run_init(&r);
    sha_run_add(&r, data, n);
    sha_run_hash(&r, ret);
}

void sha_run_pack(const struct sha_run *r, uint8_t ret[SHA_RUN_PACK_BYTES])
{
    uint64_t bits = (uint64_t)r->ctx.Nh << 32 | r->ctx.Nl;
    memset(ret, 0, SHA_RUN_PACK_BYTES);
    for (int i = 0; i < WORDS; i++) {
        store_u32(ret + 4 * i, r->ctx.h[i]);
    }
    store_u64(ret + 32, bits / 8);
    memcpy(ret + 40, r->ctx.data, r->ctx.num);
}

bool sha_run_unpack(struct sha_run *r, const uint8_t *p, size_t n)
{
    uint64_t bytes = n == SHA_RUN_PACK_BYTES ? load_u64(p + 32) : UINT64_MAX;
    if (bytes >= UINT64_MAX / 8) {
        return false;
    }
    sha_run_init(r);
    for (int i = 0; i < WORDS; i++) {
        r->ctx.h[i] = load_u32(p + 4 * i);
    }
    r->ctx.Nh = (unsigned)(bytes * 8 >> 32);
    r->ctx.Nl = (unsigned)(bytes * 8);
    r->ctx.num = (unsigned)(bytes % 64);
    memcpy(r->ctx.data, p + 40, r->ctx.num);
    return true;
}
