/* What the two sides of a join prove to each other. Everything is bound to the TLS connection by
 * its exporter, so nothing that is sent is worth anything on another connection. The secret of the
 * token itself is never sent, and the signer keeps only a key derived from it. Any thread. key =
 * HMAC-SHA256(secret, "godwit-join-key-1") signature  = Ed25519 by the joining host over
 * "godwit-join-1" | 0x00 | exporter | CSR (DER) host proof = HMAC-SHA256(key, "godwit-join-host-1"
 * | 0x00 | exporter | host_id | SHA-256(CSR) | token hash) signer's   = HMAC-SHA256(key,
 * "godwit-join-signer-1" | 0x00 | exporter | host_id | SHA-256(certificate)) exporter = TLS
 * exporter "EXPORTER-godwit-join-1", no context, 32 bytes. Source: PROTOCOL.md 7; RFC 8446 7.5. */
#ifndef HOST_TRUST_PROOF_H
#define HOST_TRUST_PROOF_H

#include <openssl/ssl.h>

#include "protocol/ticket.h"

#define PROOF_BYTES      32
#define PROOF_TEXT_BYTES 96 /* base64 of up to 64 bytes, with NUL */

void proof_key(const uint8_t secret[PROOF_BYTES], uint8_t ret[PROOF_BYTES]);
/* GW_EDENIED unless the handshake is finished. */
gw_err proof_exporter(SSL *ssl, uint8_t ret[PROOF_BYTES]) GW_MUST_USE;
gw_err proof_sign(const struct host_key *key, const uint8_t exporter[PROOF_BYTES], struct span csr,
                  uint8_t ret[TICKET_SIGNATURE_BYTES]) GW_MUST_USE;
/* GW_ECRYPTO when it does not verify. */
gw_err proof_verify(const uint8_t public_key[32], const uint8_t exporter[PROOF_BYTES],
                    struct span csr, const uint8_t signature[TICKET_SIGNATURE_BYTES]) GW_MUST_USE;
void proof_of_host(const uint8_t key[PROOF_BYTES], const uint8_t exporter[PROOF_BYTES],
                   const struct host_id *id, struct span csr, const uint8_t token_hash[32],
                   uint8_t ret[PROOF_BYTES]);
void proof_of_signer(const uint8_t key[PROOF_BYTES], const uint8_t exporter[PROOF_BYTES],
                     const struct host_id *id, struct span certificate, uint8_t ret[PROOF_BYTES]);
/* Base64 with padding; exactly n bytes (at most 64), no other spelling. */
char *proof_text(const uint8_t *p, size_t n, char ret[PROOF_TEXT_BYTES]);
bool proof_parse(const char *text, uint8_t *ret, size_t n);

#endif
