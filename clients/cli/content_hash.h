/* SHA-256 of a content whose bytes come in order, perhaps some of them again. One thread. */
#ifndef CLIENTS_CLI_CONTENT_HASH_H
#define CLIENTS_CLI_CONTENT_HASH_H

#include <godwit/err.h>

#include <stddef.h>
#include <stdint.h>

#define CONTENT_HASH_TEXT 65

struct content_hash {
    void *ctx; /* of OpenSSL */
    uint64_t at;
};

gw_err content_hash_init(struct content_hash *h, struct gw_error *why) GW_MUST_USE;
/* n bytes at offset `at` <= h->at: what is new of them is hashed. */
void content_hash_add(struct content_hash *h, uint64_t at, const void *data, size_t n);
/* The bytes of a file from h->at up to `end`. GW_EIO; GW_EFAIL: it has become shorter. */
gw_err content_hash_file(struct content_hash *h, int fd, uint64_t end,
                         struct gw_error *why) GW_MUST_USE;
/* In hex; nothing can be added afterwards. */
void content_hash_text(struct content_hash *h, char ret[CONTENT_HASH_TEXT]);
/* From the beginning. */
void content_hash_reset(struct content_hash *h);
void content_hash_free(struct content_hash *h);

#endif
