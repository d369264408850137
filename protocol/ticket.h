/* Tickets: the signed and sealed unit that crosses a link when agents move or are cloned.
 *
 * One ticket carries 1 to LIMIT_TICKET_AGENTS agents. Its body is canonical msgpack (arrays in
 * fixed order, shortest integers: two encoders give the same bytes, and a decoder refuses anything
 * else) and names source, destination, agents, epochs, types and the SHA-256 of each sealed
 * payload; one Ed25519 signature by the source covers it. One random key, sealed to the destination
 * (crypto_box_seal on the X25519 form of its Ed25519 key), opens the payloads
 * (crypto_secretstream_xchacha20poly1305 in chunks of 64 KiB with the final tag; the agent id and
 * epoch are additional data of the first chunk, so payloads cannot be swapped). A relay can neither
 * read nor alter it; a replay meets the fences of the destination. Receipts and commits are small
 * signed bodies of their own (domain-separated). Any thread; all functions are pure but for random
 * bytes. Source: PROTOCOL.md section 6; RFC 8032. */
#ifndef PROTOCOL_TICKET_H
#define PROTOCOL_TICKET_H

#include "protocol/base/buf.h"
#include "protocol/base/id.h"
#include "protocol/limits.h"

#define TICKET_SIGNATURE_BYTES  64
#define TICKET_HASH_BYTES       32
#define TICKET_NONCE_BYTES      16
#define TICKET_SEALED_KEY_BYTES 80
#define TICKET_STREAM_KEY_BYTES 32

/* Ed25519 key pair of a host (libsodium layout). */
struct host_key {
    uint8_t public_key[32];
    uint8_t secret_key[64];
};

struct ticket_agent {
    gw_id agent;
    uint64_t epoch; /* the new one, at the destination */
    char type[LIMIT_NAME_BYTES + 1];
    uint32_t version;                /* of the type at the source */
    uint64_t bytes;                  /* of the sealed payload */
    uint8_t hash[TICKET_HASH_BYTES]; /* SHA-256 of the sealed payload */
};

struct ticket {
    gw_id id;
    struct host_id from, to;
    uint8_t sealed_key[TICKET_SEALED_KEY_BYTES];
    struct ticket_agent *agents; /* owned */
    size_t agent_count;
    bool unsealed;                               /* by ticket_unseal: stream_key is known */
    uint8_t stream_key[TICKET_STREAM_KEY_BYTES]; /* secret; opens the payloads, never on the wire */
};
/* NULL allowed; leaves an empty ticket and wipes its key. */
void ticket_free(struct ticket *t);

/* Seal `plain[i]` for agents[i] and sign. Fills sealed_key, bytes and hash of `t` (id, from, to and
 * the rest of agents are the caller's). ret_body, ret_signature, ret_payloads[agent_count]   owned
 * by the caller Errors: GW_ENOMEM, GW_ECRYPTO (destination key is not a valid point), GW_EARG (no
 * agents or more than the limit, an agent twice, an epoch or type name that is not valid). */
gw_err ticket_seal(struct ticket *t, const struct span *plain, const struct host_key *source,
                   const uint8_t destination_key[32], struct buf *ret_body,
                   uint8_t ret_signature[TICKET_SIGNATURE_BYTES],
                   struct buf *ret_payloads) GW_MUST_USE;
/* Check form and signature of a body, and that `from` is the host of source_key. Errors: GW_EPROTO
 * form, GW_ECRYPTO signature; nothing to free on failure. The caller compares `to`, fences and link
 * identity. */
gw_err ticket_read(struct span body, const uint8_t signature[TICKET_SIGNATURE_BYTES],
                   const uint8_t source_key[32], struct ticket *ret,
                   struct gw_error *why) GW_MUST_USE;
/* Open the sealed key once for all payloads of a batch (X25519 costs more than a small payload);
 * optional: without it each ticket_open does so for itself. GW_ECRYPTO when it is not sealed to
 * `destination`. */
gw_err ticket_unseal(struct ticket *t, const struct host_key *destination,
                     struct gw_error *why) GW_MUST_USE;
/* Check hash and open payload `i`. GW_ECRYPTO when it does not verify. */
gw_err ticket_open(const struct ticket *t, size_t i, struct span payload,
                   const struct host_key *destination, struct buf *ret_plain,
                   struct gw_error *why) GW_MUST_USE;

/* --- receipts and commits: [ticket id, [[agent, epoch]...], nonce] --- */
typedef enum ticket_note_kind { NOTE_RECEIPT = 1, NOTE_COMMIT = 2 } ticket_note_kind;
struct ticket_note {
    gw_id ticket;
    uint8_t nonce[TICKET_NONCE_BYTES];
    size_t n;
    struct {
        gw_id agent;
        uint64_t epoch;
    } agents[LIMIT_TICKET_AGENTS];
};
gw_err note_sign(ticket_note_kind kind, const struct ticket_note *note, const struct host_key *key,
                 struct buf *ret_body, uint8_t ret_signature[TICKET_SIGNATURE_BYTES]) GW_MUST_USE;
gw_err note_read(ticket_note_kind kind, struct span body,
                 const uint8_t signature[TICKET_SIGNATURE_BYTES], const uint8_t key[32],
                 struct ticket_note *ret, struct gw_error *why) GW_MUST_USE;

#endif
