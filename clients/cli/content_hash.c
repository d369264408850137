#include "clients/cli/content_hash.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "protocol/base/log.h"

#define BLOCK_BYTES (128u * 1024)

gw_err content_hash_init(struct content_hash *h, struct gw_error *why)
{
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx) {
        return gw_fail(why, GW_ENOMEM, "out of memory for a hash");
    }
    content_hash_reset(h);
    return GW_OK;
}

void content_hash_reset(struct content_hash *h)
{
    int ok = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL);
    gw_assert(ok == 1);
    h->at = 0;
}

void content_hash_add(struct content_hash *h, uint64_t at, const void *data, size_t n)
{
    gw_assert(at <= h->at);
    if (at + n > h->at) {
        size_t skip = (size_t)(h->at - at);
        int ok = EVP_DigestUpdate(h->ctx, (const uint8_t *)data + skip, n - skip);
        gw_assert(ok == 1);
        h->at = at + n;
    }
}

gw_err content_hash_file(struct content_hash *h, int fd, uint64_t end, struct gw_error *why)
{
    uint8_t block[BLOCK_BYTES];
    while (h->at < end) {
        uint64_t left = end - h->at;
        ssize_t n =
            pread(fd, block, left < sizeof block ? (size_t)left : sizeof block, (off_t)h->at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return gw_fail(why, GW_EIO, "cannot read the file: %s", strerror(errno));
        }
        if (n == 0) {
            return gw_fail(why, GW_EFAIL, "the file has become shorter");
        }
        content_hash_add(h, h->at, block, (size_t)n);
    }
    return GW_OK;
}

void content_hash_text(struct content_hash *h, char ret[CONTENT_HASH_TEXT])
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    int ok = EVP_DigestFinal_ex(h->ctx, raw, NULL);
    gw_assert(ok == 1);
    for (size_t i = 0; i < 32; i++) {
        snprintf(ret + 2 * i, 3, "%02x", raw[i]);
    }
}

void content_hash_free(struct content_hash *h)
{
    EVP_MD_CTX_free(h->ctx);
    h->ctx = NULL;
}
