/* Tickets and notes: round trip, every kind of damage refused, limits, golden vectors. */
#include "protocol/ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "protocol/base/mp.h"

#define CHUNK (64u * 1024)

static struct host_key source, destination, stranger;

static struct host_key key_of(uint8_t fill)
{
    struct host_key k;
    uint8_t seed[32];
    memset(seed, fill, sizeof seed);
    crypto_sign_seed_keypair(k.public_key, k.secret_key, seed);
    return k;
}

static int setup(void **state)
{
    (void)state;
    source = key_of(1);
    destination = key_of(2);
    stranger = key_of(3);
    return sodium_init() < 0;
}

static gw_id id_of(unsigned n)
{
    gw_id id = {{0x01, 0x93}};
    store_u32(id.b + 12, n);
    return id;
}

/* A sealed ticket with all its parts. */
struct made {
    struct ticket ticket;
    struct buf body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct buf payloads[LIMIT_TICKET_AGENTS];
};

static struct ticket new_ticket(size_t agents)
{
    struct ticket t = {.id = id_of(7777), .agent_count = agents};
    t.from = host_id_of_key(source.public_key);
    t.to = host_id_of_key(destination.public_key);
    t.agents = calloc(agents ? agents : 1, sizeof *t.agents);
    assert_non_null(t.agents);
    for (size_t i = 0; i < agents; i++) {
        t.agents[i].agent = id_of((unsigned)i + 1);
        t.agents[i].epoch = 2 + i;
        memcpy(t.agents[i].type, "counter", 8);
        t.agents[i].version = 3;
    }
    return t;
}

static void make(struct made *m, size_t agents, size_t plain_bytes)
{
    memset(m, 0, sizeof *m);
    m->ticket = new_ticket(agents);
    struct span *plain = calloc(agents, sizeof *plain);
    uint8_t *text = malloc(plain_bytes + 1);
    assert_true(plain && text);
    memset(text, 'x', plain_bytes);
    for (size_t i = 0; i < agents; i++) {
        plain[i] = (struct span){text, plain_bytes};
    }
    assert_int_equal(ticket_seal(&m->ticket, plain, &source, destination.public_key, &m->body,
                                 m->signature, m->payloads),
                     GW_OK);
    free(plain);
    free(text);
}

static void drop(struct made *m)
{
    for (size_t i = 0; i < m->ticket.agent_count; i++) {
        buf_free(&m->payloads[i]);
    }
    buf_free(&m->body);
    ticket_free(&m->ticket);
}

static gw_err read_span(const struct made *m, struct span body)
{
    struct ticket t = {0};
    gw_err err = ticket_read(body, m->signature, source.public_key, &t, NULL);
    assert_true(err == GW_OK || t.agents == NULL);
    ticket_free(&t);
    return err;
}

static void check_round_trip(size_t agents, size_t bytes)
{
    struct made m;
    make(&m, agents, bytes);
    struct ticket t;
    assert_int_equal(ticket_read(buf_span(&m.body), m.signature, source.public_key, &t, NULL),
                     GW_OK);
    assert_int_equal(t.agent_count, agents);
    assert_true(host_id_equal(&t.to, &m.ticket.to));
    if (agents > 1) { /* a batch opens its key once */
        assert_int_equal(ticket_unseal(&t, &destination, NULL), GW_OK);
    }
    for (size_t i = 0; i < agents; i++) {
        struct buf plain = {0};
        assert_true(gw_id_equal(&t.agents[i].agent, &m.ticket.agents[i].agent));
        assert_int_equal(t.agents[i].epoch, 2 + i);
        assert_string_equal(t.agents[i].type, "counter");
        assert_int_equal(t.agents[i].version, 3);
        assert_int_equal(ticket_open(&t, i, buf_span(&m.payloads[i]), &destination, &plain, NULL),
                         GW_OK);
        assert_int_equal(plain.len, bytes);
        for (size_t k = 0; k < bytes; k++) {
            if (plain.data[k] != 'x') {
                fail();
            }
        }
        buf_free(&plain);
    }
    ticket_free(&t);
    drop(&m);
}

static void test_round_trip(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_round_trip(1, sizes[i]);
    }
    check_round_trip(2, 10);
    check_round_trip(LIMIT_TICKET_AGENTS, 10);
}

static void test_counts(void **state)
{
    (void)state;
    const size_t bad[] = {0, LIMIT_TICKET_AGENTS + 1};
    for (size_t i = 0; i < 2; i++) {
        struct ticket t = new_ticket(bad[i]);
        struct span *plain = calloc(bad[i] + 1, sizeof *plain);
        struct buf *payloads = calloc(bad[i] + 1, sizeof *payloads);
        struct buf body = {0};
        uint8_t signature[TICKET_SIGNATURE_BYTES];
        assert_int_equal(
            ticket_seal(&t, plain, &source, destination.public_key, &body, signature, payloads),
            GW_EARG);
        assert_null(body.data);
        free(plain);
        free(payloads);
        ticket_free(&t);
    }
}

static void expect_seal(struct ticket *t, gw_err expected)
{
    struct span plain[2] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}};
    struct buf body = {0}, payloads[2] = {{0}};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    assert_int_equal(
        ticket_seal(t, plain, &source, destination.public_key, &body, signature, payloads),
        expected);
    buf_free(&body);
    buf_free(&payloads[0]);
    buf_free(&payloads[1]);
}

static void test_seal_refuses_what_cannot_be_read(void **state)
{
    (void)state;
    struct ticket t = new_ticket(2);
    expect_seal(&t, GW_OK);
    t.agents[1].agent = t.agents[0].agent;
    expect_seal(&t, GW_EARG);
    t.agents[1].agent = id_of(2);
    t.agents[1].epoch = 0;
    expect_seal(&t, GW_EARG);
    t.agents[1].epoch = LIMIT_EPOCH + 1;
    expect_seal(&t, GW_EARG);
    t.agents[1].epoch = LIMIT_EPOCH;
    expect_seal(&t, GW_OK);
    memcpy(t.agents[1].type, "../x", 5);
    expect_seal(&t, GW_EARG);
    ticket_free(&t);
}

static void test_bad_destination_key(void **state)
{
    (void)state;
    struct ticket t = new_ticket(1);
    struct span plain = {(const uint8_t *)"a", 1};
    struct buf body = {0}, payload = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    uint8_t zero[32] = {0};
    assert_int_equal(ticket_seal(&t, &plain, &source, zero, &body, signature, &payload),
                     GW_ECRYPTO);
    assert_true(!body.data && !payload.data);
    ticket_free(&t);
}

static void test_every_flipped_byte_is_refused(void **state)
{
    (void)state;
    struct made m;
    make(&m, 2, 40);
    for (size_t i = 0; i < m.body.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            m.body.data[i] ^= (uint8_t)(1 << bit);
            assert_int_not_equal(read_span(&m, buf_span(&m.body)), GW_OK);
            m.body.data[i] ^= (uint8_t)(1 << bit);
        }
    }
    for (size_t i = 0; i < TICKET_SIGNATURE_BYTES; i++) {
        m.signature[i] ^= 0x10;
        assert_int_equal(read_span(&m, buf_span(&m.body)), GW_ECRYPTO);
        m.signature[i] ^= 0x10;
    }
    struct ticket t;
    assert_int_equal(ticket_read(buf_span(&m.body), m.signature, source.public_key, &t, NULL),
                     GW_OK);
    for (size_t i = 0; i < m.payloads[0].len; i++) {
        struct buf plain = {0};
        m.payloads[0].data[i] ^= 0x01;
        assert_int_equal(ticket_open(&t, 0, buf_span(&m.payloads[0]), &destination, &plain, NULL),
                         GW_ECRYPTO);
        assert_null(plain.data);
        m.payloads[0].data[i] ^= 0x01;
    }
    ticket_free(&t);
    drop(&m);
}

static void test_truncated_and_lengthened(void **state)
{
    (void)state;
    struct made m;
    make(&m, 2, 40);
    for (size_t n = 0; n < m.body.len; n++) {
        assert_int_equal(read_span(&m, (struct span){m.body.data, n}), GW_EPROTO);
    }
    struct buf longer = {0};
    buf_add(&longer, m.body.data, m.body.len);
    buf_add(&longer, "\xc0", 1);
    assert_int_equal(read_span(&m, buf_span(&longer)), GW_EPROTO);
    buf_free(&longer);
    struct buf plain = {0};
    for (size_t n = 0; n < m.payloads[0].len; n++) {
        assert_int_equal(ticket_open(&m.ticket, 0, (struct span){m.payloads[0].data, n},
                                     &destination, &plain, NULL),
                         GW_ECRYPTO);
    }
    drop(&m);
}

/* What an insider with the source's key could sign: payloads under each other's name. */
static void test_swapped_payloads(void **state)
{
    (void)state;
    struct made m;
    make(&m, 2, 40);
    struct buf plain = {0};
    assert_int_equal(
        ticket_open(&m.ticket, 0, buf_span(&m.payloads[1]), &destination, &plain, NULL),
        GW_ECRYPTO);
    memcpy(m.ticket.agents[0].hash, m.ticket.agents[1].hash, TICKET_HASH_BYTES);
    assert_int_equal(
        ticket_open(&m.ticket, 0, buf_span(&m.payloads[1]), &destination, &plain, NULL),
        GW_ECRYPTO);
    /* Nor under another epoch of its own agent. */
    assert_int_equal(
        ticket_open(&m.ticket, 1, buf_span(&m.payloads[1]), &destination, &plain, NULL), GW_OK);
    buf_free(&plain);
    m.ticket.agents[1].epoch++;
    assert_int_equal(
        ticket_open(&m.ticket, 1, buf_span(&m.payloads[1]), &destination, &plain, NULL),
        GW_ECRYPTO);
    drop(&m);
}

static void test_other_keys(void **state)
{
    (void)state;
    struct made m;
    make(&m, 1, 40);
    struct ticket t;
    assert_int_equal(ticket_read(buf_span(&m.body), m.signature, stranger.public_key, &t, NULL),
                     GW_ECRYPTO);
    struct buf plain = {0};
    struct gw_error why = {0};
    assert_int_equal(ticket_open(&m.ticket, 0, buf_span(&m.payloads[0]), &stranger, &plain, &why),
                     GW_ECRYPTO);
    assert_non_null(strstr(why.text, "not sealed to this host"));
    assert_int_equal(ticket_unseal(&m.ticket, &stranger, NULL), GW_ECRYPTO);
    assert_false(m.ticket.unsealed);
    assert_int_equal(
        ticket_open(&m.ticket, 1, buf_span(&m.payloads[0]), &destination, &plain, NULL), GW_EARG);
    drop(&m);
}

/* A chunk boundary cut: whole chunks dropped from the end leave no final tag. */
static void test_cut_at_a_chunk(void **state)
{
    (void)state;
    struct made m;
    make(&m, 1, 3 * CHUNK);
    struct buf plain = {0};
    struct span cut = {m.payloads[0].data, 24 + 2 * (CHUNK + 17)};
    m.ticket.agents[0].bytes = cut.n;
    crypto_hash_sha256(m.ticket.agents[0].hash, cut.p, cut.n);
    assert_int_equal(ticket_open(&m.ticket, 0, cut, &destination, &plain, NULL), GW_ECRYPTO);
    assert_null(plain.data);
    drop(&m);
}

/* Signs any body as the source would. */
static gw_err read_signed(const struct buf *body)
{
    struct made m = {.ticket = {.agent_count = 0}};
    struct buf text = {0};
    buf_add(&text, "godwit-ticket-1", 16);
    buf_add(&text, body->data, body->len);
    crypto_sign_detached(m.signature, NULL, text.data, text.len, source.secret_key);
    buf_free(&text);
    return read_span(&m, buf_span(body));
}

/* Spellings of the same ticket: which element is written in a longer form. */
enum spelling {
    SHORTEST,
    LONG_EPOCH,
    LONG_TYPE,
    LONG_COUNT,
    LONG_BYTES,
    EXTRA_MEMBER,
    SIGNED_VERSION
};

static struct buf spell(enum spelling how, unsigned agents)
{
    struct host_id from = host_id_of_key(source.public_key);
    uint8_t zeros[TICKET_SEALED_KEY_BYTES] = {0};
    gw_id id = id_of(9);
    struct buf b = {0};
    mp_array(&b, 5);
    mp_id(&b, &id);
    mp_bin(&b, from.b, HOST_ID_BYTES);
    mp_bin(&b, from.b, HOST_ID_BYTES);
    mp_bin(&b, zeros, TICKET_SEALED_KEY_BYTES);
    if (how == LONG_COUNT) {
        buf_add(&b, "\xdd\0\0\0", 4);
        buf_add(&b, &(uint8_t){(uint8_t)agents}, 1);
    } else {
        mp_array(&b, agents);
    }
    for (unsigned i = 0; i < agents; i++) {
        id = id_of(i + 1);
        mp_array(&b, how == EXTRA_MEMBER ? 7 : 6);
        mp_id(&b, &id);
        how == LONG_EPOCH ? buf_add(&b, "\xcd\0\x02", 3) : mp_uint(&b, 2);
        how == LONG_TYPE ? buf_add(&b, "\xd9\x01t", 3) : mp_str(&b, "t");
        how == SIGNED_VERSION ? buf_add(&b, "\xd0\x01", 2) : mp_uint(&b, 1);
        mp_uint(&b, 100);
        how == LONG_BYTES ? buf_add(&b, "\xc5\0\x20", 3) : buf_add(&b, "\xc4\x20", 2);
        buf_add(&b, zeros, 32);
        if (how == EXTRA_MEMBER) {
            mp_nil(&b);
        }
    }
    assert_true(buf_ok(&b));
    return b;
}

static void test_one_form_only(void **state)
{
    (void)state;
    for (enum spelling how = SHORTEST; how <= SIGNED_VERSION; how++) {
        struct buf b = spell(how, 1);
        assert_int_equal(read_signed(&b), how == SHORTEST ? GW_OK : GW_EPROTO);
        buf_free(&b);
    }
    const unsigned counts[] = {0, LIMIT_TICKET_AGENTS, LIMIT_TICKET_AGENTS + 1};
    for (size_t i = 0; i < 3; i++) {
        struct buf b = spell(SHORTEST, counts[i]);
        assert_int_equal(read_signed(&b), i == 1 ? GW_OK : GW_EPROTO);
        buf_free(&b);
    }
    struct buf bomb = {0};
    buf_add(&bomb, "\x95\xdd\xff\xff\xff\xff", 6);
    assert_int_equal(read_signed(&bomb), GW_EPROTO);
    buf_free(&bomb);
}

/* --- notes --- */

static struct ticket_note note_of(size_t n)
{
    struct ticket_note note = {.ticket = id_of(7777), .n = n};
    memset(note.nonce, 0x5a, sizeof note.nonce);
    for (size_t i = 0; i < n && i < LIMIT_TICKET_AGENTS; i++) {
        note.agents[i].agent = id_of((unsigned)i + 1);
        note.agents[i].epoch = i + 2;
    }
    return note;
}

static void test_notes(void **state)
{
    (void)state;
    const size_t counts[] = {0, 1, LIMIT_TICKET_AGENTS};
    for (size_t c = 0; c < 3; c++) {
        struct ticket_note note = note_of(counts[c]), got;
        struct buf body = {0};
        uint8_t sig[TICKET_SIGNATURE_BYTES];
        assert_int_equal(note_sign(NOTE_RECEIPT, &note, &source, &body, sig), GW_OK);
        struct span s = buf_span(&body);
        assert_int_equal(note_read(NOTE_RECEIPT, s, sig, source.public_key, &got, NULL), GW_OK);
        assert_memory_equal(&got, &note, sizeof note);
        /* A receipt is no commit, and a stranger's signature is none. */
        assert_int_equal(note_read(NOTE_COMMIT, s, sig, source.public_key, &got, NULL), GW_ECRYPTO);
        assert_int_equal(note_read(NOTE_RECEIPT, s, sig, stranger.public_key, &got, NULL),
                         GW_ECRYPTO);
        for (size_t i = 0; i < body.len && counts[c] < 2; i++) {
            body.data[i] ^= 0x04;
            assert_int_not_equal(note_read(NOTE_RECEIPT, s, sig, source.public_key, &got, NULL),
                                 GW_OK);
            body.data[i] ^= 0x04;
        }
        for (size_t n = 0; n < body.len; n++) {
            assert_int_equal(note_read(NOTE_RECEIPT, (struct span){body.data, n}, sig,
                                       source.public_key, &got, NULL),
                             GW_EPROTO);
        }
        buf_free(&body);
    }
    struct ticket_note note = note_of(LIMIT_TICKET_AGENTS + 1);
    struct buf body = {0};
    uint8_t sig[TICKET_SIGNATURE_BYTES];
    assert_int_equal(note_sign(NOTE_COMMIT, &note, &source, &body, sig), GW_EARG);
}

/* --- golden vectors: a change here is a change of the wire --- */

static void golden_bytes(const char *name, struct buf *ret)
{
    FILE *f = fopen("tests/golden/ticket_1.txt", "r");
    assert_non_null(f);
    static char line[8192];
    size_t n = strlen(name);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, name, n) == 0 && line[n] == ' ') {
            size_t len = 0;
            const char *end;
            assert_true(buf_reserve(ret, sizeof line / 2));
            assert_int_equal(sodium_hex2bin(ret->data, ret->cap, line + n + 1,
                                            strcspn(line + n + 1, "\n"), NULL, &len, &end),
                             0);
            ret->len = len;
            break;
        }
    }
    fclose(f);
    assert_true(ret->len > 0);
}

static void print_hex(const char *name, const void *p, size_t n)
{
    char *hex = malloc(2 * n + 1);
    assert_non_null(hex);
    printf("%s %s\n", name, sodium_bin2hex(hex, 2 * n + 1, p, n));
    free(hex);
}

static void test_golden(void **state)
{
    (void)state;
    if (getenv("GOLDEN_WRITE")) {
        struct made m;
        make(&m, 2, 10);
        print_hex("body", m.body.data, m.body.len);
        print_hex("signature", m.signature, sizeof m.signature);
        print_hex("payload", m.payloads[1].data, m.payloads[1].len);
        drop(&m);
    }
    struct ticket_note note = note_of(2);
    struct buf body = {0}, expect = {0};
    uint8_t sig[TICKET_SIGNATURE_BYTES];
    assert_int_equal(note_sign(NOTE_COMMIT, &note, &source, &body, sig), GW_OK);
    if (getenv("GOLDEN_WRITE")) {
        print_hex("commit", body.data, body.len);
        print_hex("commit_signature", sig, sizeof sig);
    }
    golden_bytes("commit", &expect);
    assert_int_equal(body.len, expect.len);
    assert_memory_equal(body.data, expect.data, body.len);
    buf_free(&expect);
    golden_bytes("commit_signature", &expect);
    assert_memory_equal(sig, expect.data, sizeof sig);
    buf_free(&expect);
    buf_free(&body);

    struct buf signature = {0}, payload = {0}, plain = {0};
    golden_bytes("body", &body);
    golden_bytes("signature", &signature);
    golden_bytes("payload", &payload);
    struct ticket t;
    assert_int_equal(ticket_read(buf_span(&body), signature.data, source.public_key, &t, NULL),
                     GW_OK);
    assert_int_equal(t.agent_count, 2);
    assert_int_equal(ticket_open(&t, 1, buf_span(&payload), &destination, &plain, NULL), GW_OK);
    assert_int_equal(plain.len, 10);
    assert_memory_equal(plain.data, "xxxxxxxxxx", 10);
    ticket_free(&t);
    buf_free(&plain);
    buf_free(&payload);
    buf_free(&signature);
    buf_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_seal_refuses_what_cannot_be_read),
        cmocka_unit_test(test_bad_destination_key),
        cmocka_unit_test(test_every_flipped_byte_is_refused),
        cmocka_unit_test(test_truncated_and_lengthened),
        cmocka_unit_test(test_swapped_payloads),
        cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_cut_at_a_chunk),
        cmocka_unit_test(test_one_form_only),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
