/* Making and ordering identities: agent ids (ULID layout) and host ids (hash of a public key). */
#ifndef PROTOCOL_BASE_ID_H
#define PROTOCOL_BASE_ID_H

#include <godwit/types.h>

#define HOST_ID_BYTES 20 /* BLAKE2b-160 of the Ed25519 public key */
#define HOST_ID_TEXT  33 /* 32 characters Crockford base32 and NUL */

/* All-zero = no host. */
struct host_id {
    uint8_t b[HOST_ID_BYTES];
};

/* An id from 48 bits of time and 10 random bytes of the caller. */
gw_id id_make(int64_t wall_ms, const uint8_t random[10]);

char *host_id_text(const struct host_id *id, char ret[HOST_ID_TEXT]);
/* Exactly 32 characters; GW_EARG otherwise. */
gw_err host_id_parse(const char *text, struct host_id *ret) GW_MUST_USE;
/* BLAKE2b-160 of a 32-byte Ed25519 public key. */
struct host_id host_id_of_key(const uint8_t public_key[32]);
bool host_id_is_nil(const struct host_id *id);
bool host_id_equal(const struct host_id *a, const struct host_id *b);
int host_id_compare(const struct host_id *a, const struct host_id *b);

/* Crockford base32 of any bytes, most significant bits first; `ret` holds base32_size(len) bytes.
 */
#define BASE32_SIZE(len) (((len)*8 + 4) / 5 + 1)
void base32_encode(const uint8_t *data, size_t len, char *ret);
/* Exactly `len` bytes from BASE32_SIZE(len)-1 characters; false when a character is not of the
 * alphabet, or the unused bits are not zero. */
bool base32_decode(const char *text, size_t text_len, uint8_t *ret, size_t len);

/* A name that may stand for a host, type, tag or alias: [A-Za-z0-9][A-Za-z0-9._-]*, at most
 * LIMIT_NAME_BYTES. */
bool name_is_valid(const char *text);

#endif
