/* Tickets and notes: encode, sign, seal and the way back. See the contract in the header.
 *
 * Body of a ticket (all lengths fixed but the list and the type names):
 *     [id, from bin20, to bin20, sealed_key bin80, [[agent, epoch, type, version, bytes, hash
 * bin32]...]] Body of a note: [ticket id, [[agent, epoch]...], nonce bin16] Signed text: domain |
 * 0x00 | body, where the domain names the kind and its version, so that a signature made for one
 * kind is worth nothing for another. Canonical form is checked by encoding again what was decoded
 * and comparing the bytes: there is then exactly one body per meaning, whatever freedom the
 * encoding leaves.
 *
 * Payload: header 24 | chunks of 64 KiB + 17, the last one (0 .. 64 KiB) + 17 with the final tag.
 */
#include "protocol/ticket.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <sodium.h>

#include "protocol/base/mp.h"

#define CHUNK_BYTES         (64u * 1024)
#define CHUNK_OVERHEAD      crypto_secretstream_xchacha20poly1305_ABYTES
#define SEALED_CHUNK_BYTES  (CHUNK_BYTES + CHUNK_OVERHEAD)
#define STREAM_HEADER_BYTES crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define PAYLOAD_MIN_BYTES   (STREAM_HEADER_BYTES + CHUNK_OVERHEAD)
#define BOUND_BYTES         (GW_ID_BYTES + 8) /* additional data: agent id and epoch */

_Static_assert(TICKET_SEALED_KEY_BYTES ==
                   crypto_secretstream_xchacha20poly1305_KEYBYTES + crypto_box_SEALBYTES,
               "sealed key size");
_Static_assert(TICKET_STREAM_KEY_BYTES == crypto_secretstream_xchacha20poly1305_KEYBYTES,
               "stream key size");
_Static_assert(TICKET_SIGNATURE_BYTES == crypto_sign_BYTES, "signature size");
_Static_assert(sizeof((struct host_key *)0)->secret_key == crypto_sign_SECRETKEYBYTES, "key size");

static const char ticket_domain[] = "godwit-ticket-1";

static const char *note_domain(ticket_note_kind kind)
{
    return kind == NOTE_RECEIPT ? "godwit-receipt-1" : "godwit-commit-1";
}

void ticket_free(struct ticket *t)
{
    if (!t) {
        return;
    }
    free(t->agents);
    sodium_memzero(t, sizeof *t);
}

/* --- signatures --- */

static bool signed_text(const char *domain, struct span body, struct buf *ret)
{
    buf_add(ret, domain, strlen(domain) + 1);
    buf_add(ret, body.p, body.n);
    return buf_ok(ret);
}

static gw_err sign(const char *domain, struct span body, const struct host_key *key,
                   uint8_t ret_signature[TICKET_SIGNATURE_BYTES])
{
    GW_AUTO(buf_free) struct buf text = {0};
    if (!signed_text(domain, body, &text)) {
        return GW_ENOMEM;
    }
    crypto_sign_detached(ret_signature, NULL, text.data, text.len, key->secret_key);
    return GW_OK;
}

static gw_err verify(const char *domain, struct span body,
                     const uint8_t signature[TICKET_SIGNATURE_BYTES], const uint8_t key[32],
                     struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf text = {0};
    if (!signed_text(domain, body, &text)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    if (crypto_sign_verify_detached(signature, text.data, text.len, key) != 0) {
        return gw_fail(why, GW_ECRYPTO, "the signature of the %s does not verify",
                       domain == ticket_domain ? "ticket" : "receipt or commit");
    }
    return GW_OK;
}

static gw_err sha256(struct span s, uint8_t ret[TICKET_HASH_BYTES])
{
    unsigned n = 0;
    return EVP_Digest(s.p, s.n, ret, &n, EVP_sha256(), NULL) == 1 && n == TICKET_HASH_BYTES
               ? GW_OK
               : GW_ENOMEM;
}

/* --- the body of a ticket --- */

static void write_body(const struct ticket *t, struct buf *out)
{
    mp_array(out, 5);
    mp_id(out, &t->id);
    mp_bin(out, t->from.b, HOST_ID_BYTES);
    mp_bin(out, t->to.b, HOST_ID_BYTES);
    mp_bin(out, t->sealed_key, TICKET_SEALED_KEY_BYTES);
    mp_array(out, t->agent_count);
    for (size_t i = 0; i < t->agent_count; i++) {
        const struct ticket_agent *a = &t->agents[i];
        mp_array(out, 6);
        mp_id(out, &a->agent);
        mp_uint(out, a->epoch);
        mp_str(out, a->type);
        mp_uint(out, a->version);
        mp_uint(out, a->bytes);
        mp_bin(out, a->hash, TICKET_HASH_BYTES);
    }
}

static bool has_duplicate(const struct ticket *t)
{
    for (size_t i = 1; i < t->agent_count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (gw_id_equal(&t->agents[i].agent, &t->agents[k].agent)) {
                return true;
            }
        }
    }
    return false;
}

/* The rules that hold for a ticket whoever made it; the sealed parts (bytes, hash) aside. */
static const char *fault_of(const struct ticket *t)
{
    if (t->agent_count < 1 || t->agent_count > LIMIT_TICKET_AGENTS) {
        return "number of agents is not 1 to 256";
    }
    if (gw_id_is_nil(&t->id)) {
        return "the ticket has no id";
    }
    for (size_t i = 0; i < t->agent_count; i++) {
        const struct ticket_agent *a = &t->agents[i];
        if (gw_id_is_nil(&a->agent)) {
            return "an agent has no id";
        }
        if (a->epoch < 1 || a->epoch > LIMIT_EPOCH) {
            return "an epoch is out of range";
        }
        if (!name_is_valid(a->type)) {
            return "a type name is not valid";
        }
    }
    return has_duplicate(t) ? "an agent is named twice" : NULL;
}

static gw_err read_agent(struct mp *m, struct ticket_agent *ret)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    if (n != 6) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, &ret->agent));
    GW_TRY(mp_read_uint(m, &ret->epoch));
    GW_TRY(mp_read_text(m, ret->type, sizeof ret->type));
    GW_TRY(mp_read_u32(m, &ret->version));
    GW_TRY(mp_read_uint(m, &ret->bytes));
    GW_TRY(mp_read_fixed(m, ret->hash, TICKET_HASH_BYTES));
    return ret->bytes >= PAYLOAD_MIN_BYTES && ret->bytes <= LIMIT_MESSAGE_BYTES ? GW_OK : GW_EPROTO;
}

static gw_err read_body(struct mp *m, struct ticket *ret)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    if (n != 5) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, &ret->id));
    GW_TRY(mp_read_fixed(m, ret->from.b, HOST_ID_BYTES));
    GW_TRY(mp_read_fixed(m, ret->to.b, HOST_ID_BYTES));
    GW_TRY(mp_read_fixed(m, ret->sealed_key, TICKET_SEALED_KEY_BYTES));
    GW_TRY(mp_read_array(m, &n));
    if (n < 1 || n > LIMIT_TICKET_AGENTS) {
        return GW_EPROTO;
    }
    ret->agents = calloc(n, sizeof *ret->agents);
    if (!ret->agents) {
        return GW_ENOMEM;
    }
    ret->agent_count = n;
    for (size_t i = 0; i < n; i++) {
        GW_TRY(read_agent(m, &ret->agents[i]));
    }
    return mp_done(m) ? GW_OK : GW_EPROTO;
}

static gw_err check_canonical(struct span body, const struct buf *again, struct gw_error *why)
{
    if (!buf_ok(again)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    if (again->len != body.n || memcmp(again->data, body.p, body.n) != 0) {
        return gw_fail(why, GW_EPROTO, "the body is not in canonical form");
    }
    return GW_OK;
}

static gw_err read_checked(struct span body, const uint8_t source_key[32], struct ticket *ret,
                           struct gw_error *why)
{
    struct mp m = mp_over(body);
    gw_err err = read_body(&m, ret);
    if (err) {
        return gw_fail(why, err, "the body of the ticket is malformed");
    }
    const char *fault = fault_of(ret);
    if (fault) {
        return gw_fail(why, GW_EPROTO, "the ticket is malformed: %s", fault);
    }
    GW_AUTO(buf_free) struct buf again = {0};
    write_body(ret, &again);
    GW_TRY(check_canonical(body, &again, why));
    struct host_id signer = host_id_of_key(source_key);
    if (!host_id_equal(&signer, &ret->from)) {
        return gw_fail(why, GW_ECRYPTO,
                       "the ticket names another source than the host that signed it");
    }
    return GW_OK;
}

gw_err ticket_read(struct span body, const uint8_t signature[TICKET_SIGNATURE_BYTES],
                   const uint8_t source_key[32], struct ticket *ret, struct gw_error *why)
{
    /* Form first: it costs a hundredth of the signature and bounds what is hashed. */
    GW_AUTO(ticket_free) struct ticket t = {0};
    GW_TRY(read_checked(body, source_key, &t, why));
    GW_TRY(verify(ticket_domain, body, signature, source_key, why));
    *ret = t;
    t = (struct ticket){0};
    return GW_OK;
}

/* --- payloads --- */

static void bind_to(const struct ticket_agent *a, uint8_t ret[BOUND_BYTES])
{
    memcpy(ret, a->agent.b, GW_ID_BYTES);
    store_u64(ret + GW_ID_BYTES, a->epoch);
}

static gw_err seal_payload(const uint8_t *key, struct ticket_agent *a, struct span plain,
                           struct buf *ret)
{
    size_t chunks = plain.n / CHUNK_BYTES + (plain.n % CHUNK_BYTES || plain.n == 0);
    if (!buf_reserve(ret, STREAM_HEADER_BYTES + plain.n + chunks * CHUNK_OVERHEAD)) {
        return GW_ENOMEM;
    }
    uint8_t bound[BOUND_BYTES];
    bind_to(a, bound);
    crypto_secretstream_xchacha20poly1305_state stream;
    crypto_secretstream_xchacha20poly1305_init_push(&stream, ret->data, key);
    ret->len = STREAM_HEADER_BYTES;
    size_t at = 0;
    for (size_t i = 0; i < chunks; i++) {
        size_t n = plain.n - at < CHUNK_BYTES ? plain.n - at : CHUNK_BYTES;
        uint8_t tag = i + 1 == chunks ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0;
        crypto_secretstream_xchacha20poly1305_push(&stream, ret->data + ret->len, NULL,
                                                   plain.n ? plain.p + at : bound, n,
                                                   i ? NULL : bound, i ? 0 : BOUND_BYTES, tag);
        ret->len += n + CHUNK_OVERHEAD;
        at += n;
    }
    sodium_memzero(&stream, sizeof stream);
    a->bytes = ret->len;
    return sha256(buf_span(ret), a->hash);
}

static bool open_chunks(const uint8_t *key, const struct ticket_agent *a, struct span payload,
                        struct buf *out)
{
    uint8_t bound[BOUND_BYTES];
    bind_to(a, bound);
    crypto_secretstream_xchacha20poly1305_state stream;
    crypto_secretstream_xchacha20poly1305_init_pull(&stream, payload.p, key);
    size_t at = STREAM_HEADER_BYTES;
    bool good = true;
    bool first = true;
    while (good && at < payload.n) {
        size_t left = payload.n - at;
        size_t n = left < SEALED_CHUNK_BYTES ? left : SEALED_CHUNK_BYTES;
        uint8_t tag = 0;
        good = n >= CHUNK_OVERHEAD &&
               crypto_secretstream_xchacha20poly1305_pull(&stream, out->data + out->len, NULL, &tag,
                                                          payload.p + at, n, first ? bound : NULL,
                                                          first ? BOUND_BYTES : 0) == 0 &&
               tag == (n == left ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0);
        out->len += good ? n - CHUNK_OVERHEAD : 0;
        at += n;
        first = false;
    }
    sodium_memzero(&stream, sizeof stream);
    return good;
}

static gw_err unseal_key(const uint8_t sealed[TICKET_SEALED_KEY_BYTES],
                         const struct host_key *destination, uint8_t ret[TICKET_STREAM_KEY_BYTES],
                         struct gw_error *why)
{
    uint8_t public_x[crypto_box_PUBLICKEYBYTES];
    uint8_t secret_x[crypto_box_SECRETKEYBYTES];
    bool good = crypto_sign_ed25519_pk_to_curve25519(public_x, destination->public_key) == 0 &&
                crypto_sign_ed25519_sk_to_curve25519(secret_x, destination->secret_key) == 0 &&
                crypto_box_seal_open(ret, sealed, TICKET_SEALED_KEY_BYTES, public_x, secret_x) == 0;
    sodium_memzero(secret_x, sizeof secret_x);
    return good ? GW_OK
                : gw_fail(why, GW_ECRYPTO, "the key of the ticket is not sealed to this host");
}

gw_err ticket_unseal(struct ticket *t, const struct host_key *destination, struct gw_error *why)
{
    if (!t->unsealed) {
        GW_TRY(unseal_key(t->sealed_key, destination, t->stream_key, why));
        t->unsealed = true;
    }
    return GW_OK;
}

gw_err ticket_open(const struct ticket *t, size_t i, struct span payload,
                   const struct host_key *destination, struct buf *ret_plain, struct gw_error *why)
{
    if (i >= t->agent_count) {
        return gw_fail(why, GW_EARG, "the ticket has no agent number %zu", i);
    }
    const struct ticket_agent *a = &t->agents[i];
    uint8_t hash[TICKET_HASH_BYTES];
    if (payload.n != a->bytes || payload.n < PAYLOAD_MIN_BYTES) {
        return gw_fail(why, GW_ECRYPTO, "a payload has %zu bytes, the ticket says %llu", payload.n,
                       (unsigned long long)a->bytes);
    }
    GW_TRY(sha256(payload, hash));
    if (memcmp(hash, a->hash, sizeof hash) != 0) {
        return gw_fail(why, GW_ECRYPTO, "a payload does not have the hash that the ticket names");
    }
    uint8_t key[TICKET_STREAM_KEY_BYTES];
    memcpy(key, t->stream_key, sizeof key);
    if (!t->unsealed) {
        GW_TRY(unseal_key(t->sealed_key, destination, key, why));
    }
    struct buf plain = {0};
    bool room = buf_reserve(&plain, payload.n);
    bool good = room && open_chunks(key, a, payload, &plain);
    sodium_memzero(key, sizeof key);
    if (!good) {
        buf_free(&plain);
        return room ? gw_fail(why, GW_ECRYPTO, "a payload of the ticket does not open")
                    : gw_fail(why, GW_ENOMEM, "out of memory");
    }
    *ret_plain = plain;
    return GW_OK;
}

/* --- making a ticket --- */

static gw_err seal_all(struct ticket *t, const struct span *plain,
                       const uint8_t destination_key[32], struct buf *payloads)
{
    uint8_t public_x[crypto_box_PUBLICKEYBYTES];
    if (crypto_sign_ed25519_pk_to_curve25519(public_x, destination_key) != 0) {
        return GW_ECRYPTO;
    }
    uint8_t key[TICKET_STREAM_KEY_BYTES];
    crypto_secretstream_xchacha20poly1305_keygen(key);
    gw_err err =
        crypto_box_seal(t->sealed_key, key, sizeof key, public_x) == 0 ? GW_OK : GW_ECRYPTO;
    for (size_t i = 0; !err && i < t->agent_count; i++) {
        err = seal_payload(key, &t->agents[i], plain[i], &payloads[i]);
    }
    sodium_memzero(key, sizeof key);
    return err;
}

gw_err ticket_seal(struct ticket *t, const struct span *plain, const struct host_key *source,
                   const uint8_t destination_key[32], struct buf *ret_body,
                   uint8_t ret_signature[TICKET_SIGNATURE_BYTES], struct buf *ret_payloads)
{
    if (fault_of(t)) {
        return GW_EARG;
    }
    size_t n = t->agent_count;
    struct buf *payloads = calloc(n, sizeof *payloads);
    if (!payloads) {
        return GW_ENOMEM;
    }
    struct buf body = {0};
    gw_err err = seal_all(t, plain, destination_key, payloads);
    if (!err) {
        write_body(t, &body);
        err =
            buf_ok(&body) ? sign(ticket_domain, buf_span(&body), source, ret_signature) : GW_ENOMEM;
    }
    if (err) {
        for (size_t i = 0; i < n; i++) {
            buf_free(&payloads[i]);
        }
        buf_free(&body);
    } else {
        memcpy(ret_payloads, payloads, n * sizeof *payloads);
        *ret_body = body;
    }
    free(payloads);
    return err;
}

/* --- notes --- */

static void write_note(const struct ticket_note *note, struct buf *out)
{
    mp_array(out, 3);
    mp_id(out, &note->ticket);
    mp_array(out, note->n);
    for (size_t i = 0; i < note->n; i++) {
        mp_array(out, 2);
        mp_id(out, &note->agents[i].agent);
        mp_uint(out, note->agents[i].epoch);
    }
    mp_bin(out, note->nonce, TICKET_NONCE_BYTES);
}

static gw_err read_note(struct mp *m, struct ticket_note *ret)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    if (n != 3) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, &ret->ticket));
    GW_TRY(mp_read_array(m, &ret->n));
    if (ret->n > LIMIT_TICKET_AGENTS) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < ret->n; i++) {
        GW_TRY(mp_read_array(m, &n));
        if (n != 2) {
            return GW_EPROTO;
        }
        GW_TRY(mp_read_id(m, &ret->agents[i].agent));
        GW_TRY(mp_read_uint(m, &ret->agents[i].epoch));
        if (ret->agents[i].epoch < 1 || ret->agents[i].epoch > LIMIT_EPOCH) {
            return GW_EPROTO;
        }
    }
    GW_TRY(mp_read_fixed(m, ret->nonce, TICKET_NONCE_BYTES));
    return mp_done(m) ? GW_OK : GW_EPROTO;
}

gw_err note_sign(ticket_note_kind kind, const struct ticket_note *note, const struct host_key *key,
                 struct buf *ret_body, uint8_t ret_signature[TICKET_SIGNATURE_BYTES])
{
    if (note->n > LIMIT_TICKET_AGENTS) {
        return GW_EARG;
    }
    struct buf body = {0};
    write_note(note, &body);
    gw_err err =
        buf_ok(&body) ? sign(note_domain(kind), buf_span(&body), key, ret_signature) : GW_ENOMEM;
    if (err) {
        buf_free(&body);
        return err;
    }
    *ret_body = body;
    return GW_OK;
}

gw_err note_read(ticket_note_kind kind, struct span body,
                 const uint8_t signature[TICKET_SIGNATURE_BYTES], const uint8_t key[32],
                 struct ticket_note *ret, struct gw_error *why)
{
    struct ticket_note note = {0};
    struct mp m = mp_over(body);
    if (read_note(&m, &note) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "the body of the %s is malformed",
                       kind == NOTE_RECEIPT ? "receipt" : "commit");
    }
    GW_AUTO(buf_free) struct buf again = {0};
    write_note(&note, &again);
    GW_TRY(check_canonical(body, &again, why));
    GW_TRY(verify(note_domain(kind), body, signature, key, why));
    *ret = note;
    return GW_OK;
}
