/* A chunk store in a scratch folder, and content to put into it. For test programs: everything is
 * static. */
#ifndef TESTS_UNIT_PERSISTENCE_CHUNKS_H
#define TESTS_UNIT_PERSISTENCE_CHUNKS_H

#include "persistence/artifact.h"
#include "tests/unit/persistence/scratch.h"

#define MIB (1024u * 1024)

static int64_t now_wall_ms = 1800000000000, now_mono_ms = 5000;

static inline int64_t test_wall_ms(void)
{
    return now_wall_ms;
}
static inline int64_t test_mono_ms(void)
{
    return now_mono_ms;
}
static inline void pass_ms(int64_t ms)
{
    now_wall_ms += ms;
    now_mono_ms += ms;
}

static inline struct chunk_store *open_chunks_with(const struct scratch *d, uint64_t most,
                                                   uint64_t quota)
{
    struct chunk_options o = {most, quota, test_wall_ms, test_mono_ms};
    struct chunk_store *s = NULL;
    struct gw_error why = {0};
    char path[256];
    if (chunk_store_open(scratch_path(d, "artifacts", path), &o, &s, &why)) {
        fail_msg("%s", why.text);
    }
    return s;
}

static inline struct chunk_store *open_chunks(const struct scratch *d)
{
    return open_chunks_with(d, 0, 0);
}

/* Bytes that are the same on every run and have no repetition: splitmix64. */
static inline void fill_content(uint8_t *p, size_t n, uint64_t seed)
{
    seed *= 0x5851f42d4c957f2d;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t z = seed += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        z ^= z >> 31;
        memcpy(p + i, &z, n - i < 8 ? n - i : 8);
    }
}

static inline uint8_t *new_content(size_t n, uint64_t seed)
{
    uint8_t *p = malloc(n + 1);
    assert_non_null(p);
    fill_content(p, n, seed);
    return p;
}

static inline void assert_ok(gw_err err, const struct gw_error *why)
{
    if (err) {
        fail_msg("%s: %s", gw_err_name(err), why->text);
    }
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct gw_error why = {0};                                                                 \
        assert_ok((call), &why);                                                                   \
    } while (0)

static inline gw_err put_meta(struct chunk_store *s, const struct artifact_meta *meta,
                              const uint8_t *p, size_t n, struct artifact_info *ret)
{
    struct artifact_writer *w = NULL;
    gw_err err = artifact_writer_new(s, meta, &w, NULL);
    for (size_t at = 0; at < n && !err; at += 100000) {
        err = artifact_writer_add(w, p + at, n - at < 100000 ? n - at : 100000, NULL);
    }
    err = err ? err : artifact_writer_finish(w, NULL, ret, NULL);
    artifact_writer_free(w);
    return err;
}

static inline struct artifact_info put_artifact(struct chunk_store *s, const char *name,
                                                const uint8_t *p, size_t n)
{
    struct artifact_meta meta = {.name = name};
    struct artifact_info info;
    assert_int_equal(put_meta(s, &meta, p, n, &info), GW_OK);
    assert_int_equal(info.size, n);
    struct chunk_hash hash = chunk_hash_of(p, n);
    assert_memory_equal(hash.b, info.hash.b, CHUNK_HASH_BYTES);
    return info;
}

static inline void assert_content(struct chunk_store *s, const gw_id *id, const uint8_t *p,
                                  size_t n)
{
    struct artifact_reader *r;
    OK(artifact_reader_open(s, id, &r, &why));
    assert_int_equal(artifact_reader_info(r)->size, n);
    size_t at = 0;
    for (;;) {
        struct span got;
        OK(artifact_reader_at(r, at, &got, &why));
        if (got.n == 0) {
            break;
        }
        assert_in_range(got.n, 1, n - at);
        assert_memory_equal(got.p, p + at, got.n);
        at += got.n;
    }
    assert_int_equal(at, n);
    artifact_reader_free(r);
}

/* Until nothing is left to do; at most `rounds`. */
static inline void collect_all(struct chunk_store *s)
{
    bool more = true;
    for (int i = 0; more; i++) {
        assert_in_range(i, 0, 1000);
        OK(chunk_store_collect(s, &more, &why));
    }
}

static inline struct chunk_stats stats_of(struct chunk_store *s)
{
    struct chunk_stats st;
    chunk_store_stats(s, &st);
    return st;
}

struct seen_damage {
    size_t count, artifacts;
    struct chunk_ref chunk; /* the last one */
    gw_id artifact;
};

static inline void see_damage(void *arg, const struct chunk_damage *d)
{
    struct seen_damage *seen = arg;
    seen->count++;
    seen->artifacts += d->artifact_count;
    seen->chunk = d->chunk;
    if (d->artifact_count > 0) {
        seen->artifact = d->artifacts[0];
    }
    assert_true(d->what[0] != '\0');
}

static inline struct chunk_verified verify_all(struct chunk_store *s, struct seen_damage *seen)
{
    struct chunk_verified sums;
    *seen = (struct seen_damage){0};
    struct chunk_verify v = {.on_damage = see_damage, .arg = seen};
    OK(chunk_store_verify(s, &v, &sums, &why));
    assert_int_equal(sums.damaged, seen->count);
    return sums;
}

/* Path of the only pack, or of the n-th by name. */
static inline char *pack_path(const struct scratch *d, unsigned id, char ret[256])
{
    char name[64];
    snprintf(name, sizeof name, "artifacts/packs/%08x.pack", id);
    return scratch_path(d, name, ret);
}

#endif
