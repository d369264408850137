/* Chunks of what there is, and finding them again. */
#include "tests/unit/files/stream_rig.h"

#include <sys/mman.h>

#include "host/files/delta.h"
#include "persistence/chunker.h"
#include "protocol/limits.h"

#define SIZE (24u * 1024 * 1024)

struct seen {
    struct buf chunks;
    uint64_t bytes;
    size_t most; /* chunks, then the scan is stopped; 0: all */
    unsigned passes;
};

static gw_err on_chunk(void *arg, const uint8_t *hash, uint32_t len)
{
    struct seen *s = arg;
    buf_add(&s->chunks, hash, DIGEST_BYTES);
    buf_add_u32(&s->chunks, len);
    s->bytes += len;
    return s->most && s->chunks.len / DELTA_CHUNK_BYTES >= s->most ? GW_ETOO_BIG : GW_OK;
}

static gw_err on_pass(void *arg)
{
    ((struct seen *)arg)->passes++;
    return GW_OK;
}

static int file_of(const void *bytes, size_t n)
{
    int fd = memfd_create("basis", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    return fd;
}

static gw_err scan(int fd, uint64_t size, size_t room, struct seen *s, struct gw_error *why)
{
    uint8_t *work = malloc(room);
    struct delta_scan d = {fd, size, work, room, on_chunk, on_pass, s};
    gw_err err = delta_scan(&d, why);
    free(work);
    return err;
}

static void test_chunks_do_not_depend_on_pieces(void **state)
{
    (void)state;
    uint8_t *bytes = malloc(SIZE);
    noise_fill(1, bytes, SIZE);
    int fd = file_of(bytes, SIZE);
    struct seen whole = {0}, pieces = {0}, some = {.most = 3};
    struct gw_error why = {0};
    assert_int_equal(scan(fd, SIZE, 1 << 20, &whole, &why), GW_OK);
    assert_int_equal(scan(fd, SIZE, 77777, &pieces, &why), GW_OK);
    assert_int_equal(whole.bytes, SIZE);
    assert_int_equal(whole.chunks.len, pieces.chunks.len);
    assert_memory_equal(whole.chunks.data, pieces.chunks.data, whole.chunks.len);
    assert_true(pieces.passes > whole.passes);
    assert_int_equal(scan(fd, SIZE, 1 << 20, &some, &why), GW_ETOO_BIG);
    assert_int_equal(some.chunks.len, 3 * DELTA_CHUNK_BYTES);
    /* A file that is shorter than it was ends there, an empty one has none. */
    struct seen shorter = {0}, none = {0};
    assert_int_equal(scan(fd, SIZE * 2ULL, 1 << 20, &shorter, &why), GW_OK);
    assert_int_equal(shorter.bytes, SIZE);
    assert_int_equal(scan(fd, 0, 1 << 20, &none, &why), GW_OK);
    assert_int_equal(none.bytes, 0);
    /* No file at all. */
    assert_int_equal(scan(-1, SIZE, 1 << 20, &none, &why), GW_EIO);
    assert_true(strstr(why.text, "cannot read") != NULL);
    buf_free(&whole.chunks);
    buf_free(&pieces.chunks);
    buf_free(&some.chunks);
    buf_free(&shorter.chunks);
    close(fd);
    free(bytes);
}

static void test_an_insertion_costs_the_chunks_around_it(void **state)
{
    (void)state;
    uint8_t *bytes = malloc(SIZE + 1);
    noise_fill(2, bytes, SIZE);
    int fd = file_of(bytes, SIZE);
    struct seen old = {0}, new = {0};
    assert_int_equal(scan(fd, SIZE, 1 << 20, &old, NULL), GW_OK);
    close(fd);
    memmove(bytes + SIZE / 2 + 1, bytes + SIZE / 2, SIZE / 2);
    bytes[SIZE / 2] ^= 0x5a;
    fd = file_of(bytes, SIZE + 1);
    assert_int_equal(scan(fd, SIZE + 1, 1 << 20, &new, NULL), GW_OK);
    close(fd);
    struct delta_index x = {0};
    assert_int_equal(delta_index_add(&x, 0, buf_span(&old.chunks)), GW_OK);
    uint64_t missing = 0, at = 0;
    for (size_t i = 0; i < new.chunks.len; i += DELTA_CHUNK_BYTES) {
        const uint8_t *p = new.chunks.data + i;
        uint32_t len = load_u32(p + DIGEST_BYTES);
        const struct delta_place *place = delta_index_find(&x, p, len);
        missing += place ? 0 : len;
        if (place) {
            assert_int_equal(place->offset, at > SIZE / 2 ? at - 1 : at);
        }
        at += len;
    }
    assert_in_range(missing, 1, 2 * CHUNK_MAX);
    delta_index_free(&x);
    buf_free(&old.chunks);
    buf_free(&new.chunks);
    free(bytes);
}

static struct span chunk_of(uint8_t p[DELTA_CHUNK_BYTES], uint64_t name, uint32_t len)
{
    memset(p, 0, DELTA_CHUNK_BYTES);
    store_u64(p, name);
    store_u32(p + DIGEST_BYTES, len);
    return (struct span){p, DELTA_CHUNK_BYTES};
}

static void test_what_a_peer_names_is_bounded(void **state)
{
    (void)state;
    struct delta_index x = {0};
    uint8_t p[DELTA_CHUNK_BYTES];
    assert_int_equal(delta_index_add(&x, 2, chunk_of(p, 1, 5)), GW_EPROTO);
    assert_int_equal(delta_index_add(&x, 0, chunk_of(p, 1, 0)), GW_EPROTO);
    assert_int_equal(delta_index_add(&x, 0, chunk_of(p, 1, CHUNK_MAX + 1)), GW_EPROTO);
    assert_int_equal(delta_index_add(&x, 0, (struct span){p, 35}), GW_EPROTO);
    assert_int_equal(delta_index_add(&x, 0, (struct span){NULL, 0}), GW_OK);
    assert_null(delta_index_find(&x, p, 5));
    for (uint64_t i = 0; i < LIMIT_BASIS_CHUNKS; i++) {
        assert_int_equal(delta_index_add(&x, 1, chunk_of(p, i << 40, CHUNK_MAX)), GW_OK);
    }
    assert_int_equal(delta_index_add(&x, 1, chunk_of(p, 1, 5)), GW_EPROTO);
    assert_int_equal(x.at[1], (uint64_t)LIMIT_BASIS_CHUNKS * CHUNK_MAX);
    delta_index_free(&x);
}

/* A file of zeros, or names made to collide: each is found in order, and it takes no time. */
static void test_equal_chunks_are_found_in_order(void **state)
{
    (void)state;
    struct delta_index x = {0};
    uint8_t p[DELTA_CHUNK_BYTES];
    for (unsigned i = 0; i < LIMIT_BASIS_CHUNKS; i++) {
        assert_int_equal(delta_index_add(&x, 0, chunk_of(p, 7, 1000)), GW_OK);
    }
    for (unsigned i = 0; i < LIMIT_BASIS_CHUNKS; i++) {
        const struct delta_place *place = delta_index_find(&x, p, 1000);
        assert_non_null(place);
        assert_int_equal(place->offset, i * 1000ULL);
    }
    assert_null(delta_index_find(&x, p, 999));
    chunk_of(p, 8, 1000);
    assert_null(delta_index_find(&x, p, 1000));
    delta_index_free(&x);
}

static void test_digest_on_the_way_and_at_the_end(void **state)
{
    (void)state;
    struct digest d;
    uint8_t now[DIGEST_BYTES], end[DIGEST_BYTES], zeros[100000] = {0};
    assert_int_equal(digest_init(&d), GW_OK);
    digest_add(&d, "abc", 3);
    assert_int_equal(digest_now(&d, now), GW_OK);
    assert_int_equal(now[0], 0xba); /* FIPS 180-2, B.1 */
    assert_int_equal(now[31], 0xad);
    digest_add(&d, zeros, sizeof zeros);
    assert_int_equal(digest_end(&d, end), GW_OK);
    assert_memory_not_equal(now, end, sizeof now);
    digest_add(&d, "abc", 3);
    digest_add_zeros(&d, sizeof zeros);
    assert_int_equal(digest_end(&d, now), GW_OK);
    assert_memory_equal(now, end, sizeof now);
    digest_deinit(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_do_not_depend_on_pieces),
        cmocka_unit_test(test_an_insertion_costs_the_chunks_around_it),
        cmocka_unit_test(test_what_a_peer_names_is_bounded),
        cmocka_unit_test(test_equal_chunks_are_found_in_order),
        cmocka_unit_test(test_digest_on_the_way_and_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
