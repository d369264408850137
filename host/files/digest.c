#include "host/files/digest.h"

#include <openssl/evp.h>

gw_err digest_init(struct digest *d)
{
    *d = (struct digest){.state = EVP_MD_CTX_new(), .copy = EVP_MD_CTX_new()};
    if (!d->state || !d->copy || EVP_DigestInit_ex(d->state, EVP_sha256(), NULL) != 1) {
        digest_deinit(d);
        return GW_ENOMEM;
    }
    return GW_OK;
}

void digest_deinit(struct digest *d)
{
    EVP_MD_CTX_free(d->state);
    EVP_MD_CTX_free(d->copy);
    *d = (struct digest){0};
}

void digest_restart(struct digest *d)
{
    /* Without a type: that of before, which is not looked up again. */
    d->failed = EVP_DigestInit_ex(d->state, NULL, NULL) != 1;
}

void digest_add(struct digest *d, const void *bytes, size_t n)
{
    d->failed |= EVP_DigestUpdate(d->state, bytes, n) != 1;
}

void digest_add_zeros(struct digest *d, uint64_t n)
{
    static const uint8_t zeros[64 * 1024];
    while (n > 0) {
        size_t part = n < sizeof zeros ? (size_t)n : sizeof zeros;
        digest_add(d, zeros, part);
        n -= part;
    }
}

gw_err digest_now(struct digest *d, uint8_t ret[DIGEST_BYTES])
{
    if (d->failed || EVP_MD_CTX_copy_ex(d->copy, d->state) != 1 ||
        EVP_DigestFinal_ex(d->copy, ret, NULL) != 1) {
        return GW_ENOMEM;
    }
    return GW_OK;
}

gw_err digest_end(struct digest *d, uint8_t ret[DIGEST_BYTES])
{
    bool good = !d->failed && EVP_DigestFinal_ex(d->state, ret, NULL) == 1;
    digest_restart(d);
    return good ? GW_OK : GW_ENOMEM;
}
