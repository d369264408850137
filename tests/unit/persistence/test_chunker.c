#include "persistence/chunker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/sha.h>

#define CONTENT_BYTES (24u * 1024 * 1024)
#define CUTS_MAX      128

static const uint64_t gear[256] = {
/* clang-format off */
#include "persistence/gear.def"
    /* clang-format on */
};

struct cuts {
    size_t ends[CUTS_MAX]; /* offsets behind each chunk, the last one of the stream included */
    size_t count;
};

/* The same bytes on every machine: splitmix64. */
static void fill(uint8_t *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t z = seed += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        z ^= z >> 31;
        for (size_t k = 0; k < 8 && i + k < n; k++) {
            p[i + k] = (uint8_t)(z >> (8 * k));
        }
    }
}

/* `piece`: most bytes per call; 0 = all. */
static struct cuts cut(const uint8_t *p, size_t n, size_t piece)
{
    struct cuts r = {0};
    struct chunker c;
    chunker_init(&c);
    size_t at = 0;
    while (at < n) {
        size_t room = piece && piece < n - at ? piece : n - at;
        bool ended;
        size_t used = chunker_feed(&c, p + at, room, &ended);
        assert_in_range(used, 1, room);
        assert_true(ended || used == room);
        at += used;
        if (ended || at == n) {
            assert_in_range(r.count, 0, CUTS_MAX - 1);
            r.ends[r.count++] = at;
        }
    }
    return r;
}

static uint8_t *content(void)
{
    uint8_t *p = malloc(CONTENT_BYTES + 1);
    assert_non_null(p);
    fill(p, CONTENT_BYTES, 1);
    return p;
}

static void table_is_derived(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++) {
        char text[64];
        uint8_t digest[SHA256_DIGEST_LENGTH];
        int n = snprintf(text, sizeof text, "godwit chunker gear %d", i);
        SHA256((const uint8_t *)text, (size_t)n, digest);
        uint64_t want = 0;
        for (int k = 0; k < 8; k++) {
            want = want << 8 | digest[k];
        }
        assert_true(gear[i] == want);
    }
}

/* Other hosts cut so: a change here splits a mesh into halves that share nothing. */
static void cuts_are_known(void **state)
{
    (void)state;
    static const size_t want[] = {1111069,  2529578,  3751346,  4912645,  6097423,  7250526,
                                  8608646,  9091042,  10199305, 11463669, 13448097, 14766410,
                                  15823252, 17412842, 18049212, 18685018, 20102545, 20864998,
                                  21967806, 23329891, 24435258, 25165824};
    uint8_t *p = content();
    struct cuts got = cut(p, CONTENT_BYTES, 0);
    assert_int_equal(got.count, sizeof want / sizeof want[0]);
    assert_memory_equal(got.ends, want, sizeof want);
    free(p);
}

static void pieces_do_not_matter(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 7, 64, 4096, 65536, 262143, 262144, 1048577};
    uint8_t *p = content();
    struct cuts want = cut(p, CONTENT_BYTES, 0);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t n = pieces[i] < 64 ? CONTENT_BYTES / 4 : CONTENT_BYTES; /* byte by byte is slow */
        struct cuts got = cut(p, n, pieces[i]);
        assert_int_equal(got.ends[got.count - 1], n);
        assert_memory_equal(got.ends, want.ends, (got.count - 1) * sizeof got.ends[0]);
    }
    free(p);
}

static void sizes_are_within_bounds(void **state)
{
    (void)state;
    uint8_t *p = content();
    for (uint64_t seed = 1; seed <= 4; seed++) {
        fill(p, CONTENT_BYTES, seed * 77);
        struct cuts got = cut(p, CONTENT_BYTES, 0);
        size_t begin = 0;
        for (size_t i = 0; i + 1 < got.count; i++) {
            assert_in_range(got.ends[i] - begin, CHUNK_MIN, CHUNK_MAX);
            begin = got.ends[i];
        }
        assert_in_range(CONTENT_BYTES - begin, 1, CHUNK_MAX);
        assert_in_range(got.count, CONTENT_BYTES / (2 * CHUNK_NORMAL),
                        CONTENT_BYTES * 2 / CHUNK_NORMAL);
    }
    free(p);
}

/* Content without any place to cut. */
static void monotony_is_cut_at_the_maximum(void **state)
{
    (void)state;
    uint8_t *p = calloc(1, CONTENT_BYTES);
    assert_non_null(p);
    for (int byte = 0; byte < 256; byte += 51) {
        memset(p, byte, CONTENT_BYTES);
        struct cuts got = cut(p, CONTENT_BYTES, 100000);
        assert_int_equal(got.count, CONTENT_BYTES / CHUNK_MAX);
        for (size_t i = 0; i < got.count; i++) {
            assert_int_equal(got.ends[i], (i + 1) * CHUNK_MAX);
        }
    }
    free(p);
}

static void short_streams_are_one_chunk(void **state)
{
    (void)state;
    uint8_t *p = content();
    for (size_t n = 1; n < CHUNK_MIN; n += 9973) {
        struct cuts got = cut(p, n, 0);
        assert_int_equal(got.count, 1);
    }
    free(p);
}

/* How many chunks, by begin and length, of the new content the old one has not. */
static size_t count_new(const struct cuts *old, const struct cuts *new, size_t from, size_t shift)
{
    size_t fresh = 0;
    for (size_t i = 0; i < new->count; i++) {
        size_t begin = i > 0 ? new->ends[i - 1] : 0, end = new->ends[i];
        bool known = false;
        for (size_t k = 0; k < old->count && !known; k++) {
            size_t was = k > 0 ? old->ends[k - 1] : 0;
            known = (end <= from && was == begin && old->ends[k] == end) ||
                    (begin > from && was + shift == begin && old->ends[k] + shift == end);
        }
        fresh += !known;
    }
    return fresh;
}

static void insertion_moves_only_near_cuts(void **state)
{
    (void)state;
    uint8_t *p = content();
    struct cuts old = cut(p, CONTENT_BYTES, 0);
    for (size_t at = 0; at < CONTENT_BYTES; at += 1771561) {
        fill(p, CONTENT_BYTES, 1);
        memmove(p + at + 1, p + at, CONTENT_BYTES - at);
        p[at] = '!';
        struct cuts new = cut(p, CONTENT_BYTES + 1, 0);
        assert_in_range(count_new(&old, &new, at, 1), 1, 6);
    }
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_derived),
        cmocka_unit_test(cuts_are_known),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(sizes_are_within_bounds),
        cmocka_unit_test(monotony_is_cut_at_the_maximum),
        cmocka_unit_test(short_streams_are_one_chunk),
        cmocka_unit_test(insertion_moves_only_near_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
