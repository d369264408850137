/* Bodies of tickets (first byte even) and notes (odd), signed as their source would: what is read
 * has all its limits, is canonical, and nothing else is read. */
#include "tests/fuzz/fuzz.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "protocol/ticket.h"

static struct host_key key;

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void sign(const char *domain, struct span body, uint8_t ret[TICKET_SIGNATURE_BYTES])
{
    struct buf text = {0};
    buf_add(&text, domain, strlen(domain) + 1);
    buf_add(&text, body.p, body.n);
    must(buf_ok(&text));
    crypto_sign_detached(ret, NULL, text.data, text.len, key.secret_key);
    buf_free(&text);
}

static void try_ticket(struct span body)
{
    uint8_t signature[TICKET_SIGNATURE_BYTES] = {0};
    struct ticket t = {0};
    gw_err err = ticket_read(body, signature, key.public_key, &t, NULL);
    must(err != GW_OK && !t.agents);
    sign("godwit-ticket-1", body, signature);
    bool formed = err == GW_ECRYPTO;
    err = ticket_read(body, signature, key.public_key, &t, NULL);
    must(err != GW_OK || formed);
    if (err) {
        return;
    }
    must(t.agent_count >= 1 && t.agent_count <= LIMIT_TICKET_AGENTS);
    for (size_t i = 0; i < t.agent_count; i++) {
        struct buf plain = {0};
        must(t.agents[i].epoch >= 1 && t.agents[i].epoch <= LIMIT_EPOCH);
        must(name_is_valid(t.agents[i].type) && t.agents[i].bytes <= LIMIT_MESSAGE_BYTES);
        must(ticket_open(&t, i, body, &key, &plain, NULL) != GW_OK);
    }
    ticket_free(&t);
}

static void try_note(ticket_note_kind kind, struct span body)
{
    uint8_t signature[TICKET_SIGNATURE_BYTES], again[TICKET_SIGNATURE_BYTES];
    struct ticket_note note;
    struct buf out = {0};
    sign(kind == NOTE_RECEIPT ? "godwit-receipt-1" : "godwit-commit-1", body, signature);
    if (note_read(kind, body, signature, key.public_key, &note, NULL)) {
        return;
    }
    must(note.n <= LIMIT_TICKET_AGENTS);
    must(note_sign(kind, &note, &key, &out, again) == GW_OK);
    must(out.len == body.n && memcmp(out.data, body.p, body.n) == 0);
    must(memcmp(signature, again, sizeof again) == 0);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    uint8_t seed[32];
    memset(seed, 1, sizeof seed);
    must(sodium_init() >= 0);
    crypto_sign_seed_keypair(key.public_key, key.secret_key, seed);
    struct span body = {data + 1, size - 1};
    if (data[0] % 2 == 0) {
        try_ticket(body);
    } else {
        try_note(data[0] % 4 == 1 ? NOTE_RECEIPT : NOTE_COMMIT, body);
    }
    return 0;
}
