#include "persistence/sha_run.h"
#include "persistence/sha_side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void known_hashes(void **state)
{
    (void)state;
    uint8_t got[SHA_RUN_HASH_BYTES];
    static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                  0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                  0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    sha_run_of("abc", 3, got);
    assert_memory_equal(got, abc, sizeof abc);
    sha_run_of("", 0, got);
    assert_int_equal(got[0], 0xe3);
    assert_int_equal(got[31], 0x55);
}

/* Put aside at every place, gone on with from the packed state: the hash of the whole. */
static void goes_on_from_its_packed_state(void **state)
{
    (void)state;
    uint8_t data[1000], want[SHA_RUN_HASH_BYTES], got[SHA_RUN_HASH_BYTES];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 4));
    }
    SHA256(data, sizeof data, want);
    for (size_t at = 0; at <= sizeof data; at++) {
        struct sha_run r, next;
        uint8_t packed[SHA_RUN_PACK_BYTES];
        sha_run_init(&r);
        sha_run_add(&r, data, at);
        sha_run_hash(&r, got); /* changes nothing */
        sha_run_pack(&r, packed);
        memset(&next, 0xaa, sizeof next);
        assert_true(sha_run_unpack(&next, packed, sizeof packed));
        sha_run_add(&next, data + at, sizeof data - at);
        sha_run_hash(&next, got);
        assert_memory_equal(got, want, sizeof want);
    }
}

/* Beyond 512 MiB the bits no longer fit one word of the state. */
static void counts_long_streams(void **state)
{
    (void)state;
    static uint8_t zeros[16u << 20];
    uint8_t packed[SHA_RUN_PACK_BYTES], one[SHA_RUN_HASH_BYTES], two[SHA_RUN_HASH_BYTES];
    struct sha_run a, b;
    sha_run_init(&a);
    sha_run_init(&b);
    for (int i = 0; i < 40; i++) {
        sha_run_add(&a, zeros, sizeof zeros);
        sha_run_add(&b, zeros, sizeof zeros);
        sha_run_pack(&b, packed);
        assert_true(sha_run_unpack(&b, packed, sizeof packed));
    }
    sha_run_hash(&a, one);
    sha_run_hash(&b, two);
    assert_memory_equal(one, two, sizeof one);
}

static void other_bytes_are_refused(void **state)
{
    (void)state;
    struct sha_run r;
    uint8_t packed[SHA_RUN_PACK_BYTES];
    sha_run_init(&r);
    sha_run_pack(&r, packed);
    assert_false(sha_run_unpack(&r, packed, 0));
    assert_false(sha_run_unpack(&r, packed, sizeof packed - 1));
    memset(packed, 0xff, sizeof packed);
    assert_false(sha_run_unpack(&r, packed, sizeof packed));
}

/* Hashed beside: the same, whoever waits for it. */
static void test_side(void **state)
{
    static uint8_t data[3][70000];
    uint8_t is[SHA_RUN_HASH_BYTES], wanted[SHA_RUN_HASH_BYTES];
    struct sha_run here, there;
    struct sha_side *side;
    (void)state;
    sha_run_init(&here);
    sha_run_init(&there);
    assert_int_equal(sha_side_open(&side), GW_OK);
    sha_side_wait(side); /* nothing was begun */
    for (size_t i = 0; i < 30; i++) {
        uint8_t *p = data[i % 3];
        size_t n = i * 2333;
        if (i % 5 == 0) {
            sha_side_wait(side);
        }
        for (size_t k = 0; i < 3 && k < sizeof data[0]; k++) {
            p[k] = (uint8_t)(k * 31 + i);
        }
        sha_run_add(&here, p, n);
        sha_side_begin(side, &there, p, n);
    }
    sha_side_wait(side);
    sha_run_hash(&here, wanted);
    sha_run_hash(&there, is);
    assert_memory_equal(is, wanted, sizeof is);
    sha_side_begin(side, &there, data[0], sizeof data[0]);
    sha_side_close(side); /* waits */
    sha_run_add(&here, data[0], sizeof data[0]);
    sha_run_hash(&here, wanted);
    sha_run_hash(&there, is);
    assert_memory_equal(is, wanted, sizeof is);
    sha_side_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_hashes),        cmocka_unit_test(goes_on_from_its_packed_state),
        cmocka_unit_test(counts_long_streams), cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(test_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
