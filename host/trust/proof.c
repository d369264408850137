#include "host/trust/proof.h"

#include <string.h>

#include <openssl/err.h>
#include <sodium.h>

#include "protocol/base/log.h"

static const char exporter_label[] = "EXPORTER-godwit-join-1";
static const char signature_domain[] = "godwit-join-1";
static const char key_domain[] = "godwit-join-key-1";
static const char host_domain[] = "godwit-join-host-1";
static const char signer_domain[] = "godwit-join-signer-1";

void proof_key(const uint8_t secret[PROOF_BYTES], uint8_t ret[PROOF_BYTES])
{
    crypto_auth_hmacsha256(ret, (const uint8_t *)key_domain, sizeof key_domain - 1, secret);
}

gw_err proof_exporter(SSL *ssl, uint8_t ret[PROOF_BYTES])
{
    if (!SSL_is_init_finished(ssl) ||
        SSL_export_keying_material(ssl, ret, PROOF_BYTES, exporter_label, sizeof exporter_label - 1,
                                   NULL, 0, 0) != 1) {
        ERR_clear_error();
        return GW_EDENIED;
    }
    return GW_OK;
}

static bool signed_text(const uint8_t exporter[PROOF_BYTES], struct span csr, struct buf *ret)
{
    buf_add(ret, signature_domain, sizeof signature_domain);
    buf_add(ret, exporter, PROOF_BYTES);
    buf_add(ret, csr.p, csr.n);
    return buf_ok(ret);
}

gw_err proof_sign(const struct host_key *key, const uint8_t exporter[PROOF_BYTES], struct span csr,
                  uint8_t ret[TICKET_SIGNATURE_BYTES])
{
    GW_AUTO(buf_free) struct buf text = {0};
    if (!signed_text(exporter, csr, &text)) {
        return GW_ENOMEM;
    }
    crypto_sign_detached(ret, NULL, text.data, text.len, key->secret_key);
    return GW_OK;
}

gw_err proof_verify(const uint8_t public_key[32], const uint8_t exporter[PROOF_BYTES],
                    struct span csr, const uint8_t signature[TICKET_SIGNATURE_BYTES])
{
    GW_AUTO(buf_free) struct buf text = {0};
    if (!signed_text(exporter, csr, &text)) {
        return GW_ENOMEM;
    }
    return crypto_sign_verify_detached(signature, text.data, text.len, public_key) == 0
               ? GW_OK
               : GW_ECRYPTO;
}

static void begin(crypto_auth_hmacsha256_state *mac, const uint8_t key[PROOF_BYTES],
                  const char *domain, const uint8_t exporter[PROOF_BYTES], const struct host_id *id)
{
    crypto_auth_hmacsha256_init(mac, key, PROOF_BYTES);
    crypto_auth_hmacsha256_update(mac, (const uint8_t *)domain, strlen(domain) + 1);
    crypto_auth_hmacsha256_update(mac, exporter, PROOF_BYTES);
    crypto_auth_hmacsha256_update(mac, id->b, HOST_ID_BYTES);
}

static void add_hash(crypto_auth_hmacsha256_state *mac, struct span s)
{
    uint8_t hash[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(hash, s.p, s.n);
    crypto_auth_hmacsha256_update(mac, hash, sizeof hash);
}

void proof_of_host(const uint8_t key[PROOF_BYTES], const uint8_t exporter[PROOF_BYTES],
                   const struct host_id *id, struct span csr, const uint8_t token_hash[32],
                   uint8_t ret[PROOF_BYTES])
{
    crypto_auth_hmacsha256_state mac;
    begin(&mac, key, host_domain, exporter, id);
    add_hash(&mac, csr);
    crypto_auth_hmacsha256_update(&mac, token_hash, 32);
    crypto_auth_hmacsha256_final(&mac, ret);
    sodium_memzero(&mac, sizeof mac);
}

void proof_of_signer(const uint8_t key[PROOF_BYTES], const uint8_t exporter[PROOF_BYTES],
                     const struct host_id *id, struct span certificate, uint8_t ret[PROOF_BYTES])
{
    crypto_auth_hmacsha256_state mac;
    begin(&mac, key, signer_domain, exporter, id);
    add_hash(&mac, certificate);
    crypto_auth_hmacsha256_final(&mac, ret);
    sodium_memzero(&mac, sizeof mac);
}

char *proof_text(const uint8_t *p, size_t n, char ret[PROOF_TEXT_BYTES])
{
    gw_assert(n <= 64);
    return sodium_bin2base64(ret, PROOF_TEXT_BYTES, p, n, sodium_base64_VARIANT_ORIGINAL);
}

bool proof_parse(const char *text, uint8_t *ret, size_t n)
{
    uint8_t raw[64];
    size_t len = 0;
    gw_assert(n <= sizeof raw);
    if (sodium_base642bin(raw, n, text, strlen(text), NULL, &len, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        len != n) {
        return false;
    }
    memcpy(ret, raw, n);
    sodium_memzero(raw, sizeof raw);
    return true;
}
