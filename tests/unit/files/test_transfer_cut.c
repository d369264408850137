/* File sessions that break, and sources that change: what is taken up again, what is sent twice. */
#include "tests/unit/files/transfer_rig.h"

#define MIB (1024u * 1024)

static struct world w;

static int set_up(void **state)
{
    (void)state;
    world_open(&w);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

/* What a cut may cost: the chunk that is not whole, and the record that was on its way. */
#define LOST_BYTES (CHUNK_MAX + MIB)

/* Send until it is done, cut at random. Returns content bytes of all tries. */
static uint64_t send_with_cuts(const char *dst, uint64_t *noise_state, unsigned cuts,
                               uint64_t apart, bool overwrite)
{
    uint64_t sent = 0;
    sink_placing placing = SINK_GUESS;
    const char *path = PATH(w.src, "f");
    for (unsigned i = 0;; i++) {
        struct session s;
        session_open(&s, &w, dst);
        s.o.placing = placing;
        s.o.overwrite = overwrite;
        if (i < cuts) {
            s.a.cut_at = 1 + noise(noise_state) % apart;
        }
        session_run(&s, &w, &path, 1);
        sent += s.result.sent_bytes;
        if (s.err == GW_OK) {
            assert_int_equal(s.b_err, GW_OK);
            assert_int_equal(s.failures, 0);
            return sent;
        }
        assert_true(i < cuts);
        assert_int_equal(s.err, GW_EUNREACHABLE);
        assert_int_equal(s.b_err, GW_EUNREACHABLE);
        assert_false(!overwrite && exists(dst)); /* nothing half visible */
        placing = s.result.placing;
    }
}

static void test_resume_at_random_bytes(void **state)
{
    (void)state;
    const uint64_t size = 20 * MIB;
    put_noise(PATH(w.src, "f"), 1, size);
    for (uint64_t seed = 1; seed <= 12; seed++) {
        uint64_t random = seed * 77777;
        unsigned cuts = 1 + (unsigned)(seed % 3);
        char dst[256];
        snprintf(dst, sizeof dst, "%s/f%u", w.dst, (unsigned)seed);
        uint64_t sent = send_with_cuts(dst, &random, cuts, size, false);
        same_thing(PATH(w.src, "f"), dst);
        assert_in_range(sent, size - 1, size + cuts * LOST_BYTES);
        assert_int_equal(count_names(w.work), 0);
        assert_int_equal(count_names(w.dst), 1); /* no part either */
        assert_int_equal(unlink(dst), 0);
    }
}

/* An older version is there as well, of which half is the same. */
static void test_resume_upon_an_older_version(void **state)
{
    (void)state;
    const uint64_t size = 24 * MIB;
    uint8_t *bytes = malloc(size);
    noise_fill(2, bytes, size);
    put_bytes(PATH(w.src, "f"), bytes, size);
    noise_fill(3, bytes, size / 2);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint64_t random = seed * 4242;
        put_bytes(PATH(w.dst, "f"), bytes, size);
        uint64_t sent = send_with_cuts(PATH(w.dst, "f"), &random, 2, size / 3, true);
        same_thing(PATH(w.src, "f"), PATH(w.dst, "f"));
        assert_in_range(sent, size / 2 - CHUNK_MAX, size / 2 + CHUNK_MAX + 2 * LOST_BYTES);
        assert_int_equal(count_names(w.dst), 1);
    }
    free(bytes);
}

/* A tree that breaks in the middle: what was placed is not sent again. */
static void test_resume_of_many_files(void **state)
{
    (void)state;
    char path[600];
    assert_int_equal(mkdir(PATH(w.src, "t"), 0700), 0);
    for (int i = 0; i < 1500; i++) {
        snprintf(path, sizeof path, "%s/t/%d", w.src, i);
        put_noise(path, (uint64_t)i, 1000);
    }
    struct session s;
    const char *src = PATH(w.src, "t");
    session_open(&s, &w, w.dst);
    s.a.cut_at = 1200 * 1000;
    session_run(&s, &w, &src, 1);
    assert_int_equal(s.err, GW_EUNREACHABLE);
    session_open(&s, &w, w.dst);
    session_good(&s, &w, src);
    assert_true(s.result.sent_bytes < 1500 * 1000);
    assert_true(s.result.saved_bytes >= 256 * 1000);
    assert_int_equal(same_tree(src, PATH(w.dst, "t")), 1500);
    assert_int_equal(count_names(w.dst), 1501);
}

/* Fewer than are flushed together, small and large: those that were whole have their names. */
static void test_a_cut_keeps_what_is_whole(void **state)
{
    (void)state;
    char path[600];
    assert_int_equal(mkdir(PATH(w.src, "t"), 0700), 0);
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "%s/t/%02d", w.src, i);
        put_noise(path, (uint64_t)i, i % 10 == 0 ? 300 * 1000 : 1000);
    }
    struct session s;
    const char *src = PATH(w.src, "t");
    session_open(&s, &w, w.dst);
    s.a.cut_at = 7 * 300 * 1000;
    session_run(&s, &w, &src, 1);
    assert_int_equal(s.err, GW_EUNREACHABLE);
    unsigned whole = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "%s/t/%02d", w.dst, i);
        whole += exists(path);
    }
    assert_in_range(whole, 50, 99);
    session_open(&s, &w, w.dst);
    session_good(&s, &w, src);
    assert_int_equal(same_tree(src, PATH(w.dst, "t")), 100);
    assert_int_equal(count_names(w.dst), 101);
}

/* The receiver's side breaks, with a record half written. */
static void test_a_receiver_that_goes_away(void **state)
{
    (void)state;
    put_noise(PATH(w.src, "f"), 1, 8 * MIB);
    const char *src = PATH(w.src, "f");
    for (uint64_t cut = 1; cut < 60; cut += 7) {
        struct session s;
        session_open(&s, &w, w.dst);
        s.b.cut_at = cut;
        session_run(&s, &w, &src, 1);
        if (s.err == GW_OK) {
            break; /* it did not say so much */
        }
        assert_int_equal(s.err, GW_EUNREACHABLE);
        assert_int_equal(s.b_err, GW_EUNREACHABLE);
    }
    struct session s;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, src);
    same_thing(src, PATH(w.dst, "f"));
}

/* --- a source that changes --- */
struct change {
    struct session *s;
    const char *path;
    unsigned times; /* to do it */
    unsigned done;
    void (*deed)(const char *path, unsigned n);
    uint64_t at; /* bytes written by the sender when it happens next */
};

static struct change change;

static gw_err changing_write(void *ctx, const void *from, size_t n, size_t *ret_n)
{
    struct stream *s = ctx;
    if (change.done < change.times && s->written > change.at) {
        change.deed(change.path, change.done++);
        change.at = s->written + 8 * MIB; /* as far into the next try */
    }
    return stream_write(ctx, from, n, ret_n);
}

static void grow(const char *path, unsigned n)
{
    (void)n;
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "more", 4), 4);
    close(fd);
}

static void shrink(const char *path, unsigned n)
{
    assert_int_equal(truncate(path, 5 * MIB - n), 0);
}

static void write_in_it(const char *path, unsigned n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "other", 5, n * 100), 5);
    close(fd);
}

static void replace(const char *path, unsigned n)
{
    char other[600];
    snprintf(other, sizeof other, "%s.new", path);
    put_noise(other, 50 + n, 4 * MIB);
    assert_int_equal(rename(other, path), 0);
}

static void rewrite(const char *path, unsigned n)
{
    put_noise(path, 60 + n, 8 * MIB);
}

static void drop(const char *path, unsigned n)
{
    (void)n;
    (void)unlink(path);
}

static void run_changing(struct session *s, void (*deed)(const char *path, unsigned n),
                         unsigned times)
{
    const char *src = PATH(w.src, "f");
    put_noise(src, 1, 8 * MIB);
    (void)unlink(PATH(w.dst, "f"));
    session_open(s, &w, w.dst);
    s->a.io.write = changing_write;
    change = (struct change){s, src, times, 0, deed, 3 * MIB};
    session_run(s, &w, &src, 1);
    assert_int_equal(s->err, GW_OK);
    assert_int_equal(s->b_err, GW_OK);
    assert_int_equal(change.done, times);
}

static void test_a_source_that_changes_is_sent_again(void **state)
{
    (void)state;
    static void (*const deeds[])(const char *path, unsigned n) = {grow, shrink, write_in_it,
                                                                  replace};
    for (size_t i = 0; i < sizeof deeds / sizeof deeds[0]; i++) {
        struct session s;
        run_changing(&s, deeds[i], 1);
        assert_int_equal(s.failures, 0);
        assert_int_equal(s.result.files, 1);
        same_thing(PATH(w.src, "f"), PATH(w.dst, "f"));
        assert_int_equal(atomic_load(&s.progress.bytes), s.result.bytes);
    }
    assert_int_equal(count_names(w.dst), 1);
}

static void test_a_source_that_never_rests_fails_alone(void **state)
{
    (void)state;
    struct session s;
    run_changing(&s, rewrite, LIMIT_TRANSFER_TRIES);
    assert_int_equal(s.failures, 1);
    assert_int_equal(s.failure, GW_ECONFLICT);
    assert_false(exists(PATH(w.dst, "f")));
    run_changing(&s, drop, 1); /* open already: it is as it was, but cannot be looked at again */
    assert_true(s.failures <= 1);
}

/* --- the destination --- */
static void test_two_transfers_to_one_destination(void **state)
{
    (void)state;
    put_noise(PATH(w.src, "f"), 1, 3 * MIB);
    const char *src = PATH(w.src, "f");
    struct sink *sink;
    struct sink_options o = {0};
    sink_verdict verdict;
    struct sink_file *f;
    char name[] = "f";
    struct file_entry e = {.path = name, .type = ENTRY_FILE, .mode = 0600, .size = 3 * MIB};
    assert_int_equal(sink_open(w.roots, w.dst, true, &o, w.parts, &sink, NULL), GW_OK);
    assert_int_equal(sink_entry(sink, &e, &verdict, &f, NULL), GW_OK);
    struct session s;
    session_open(&s, &w, w.dst);
    session_run(&s, &w, &src, 1);
    assert_int_equal(s.err, GW_OK);
    assert_int_equal(s.failure, GW_ECONFLICT);
    sink_abort(f, false);
    sink_close(sink);
    session_open(&s, &w, w.dst);
    session_good(&s, &w, src);
}

static void test_a_full_disk_ends_it_and_is_taken_up_again(void **state)
{
    (void)state;
    struct scratch small = {0};
    assert_true((size_t)snprintf(small.path, sizeof small.path, "%s", w.dst) < sizeof small.path);
    if (!scratch_mount(&small, "8m")) {
        skip();
    }
    put_noise(PATH(w.src, "f"), 1, 12 * MIB);
    const char *src = PATH(w.src, "f"), *dst = PATH(w.dst, "f");
    struct session s;
    session_open(&s, &w, dst);
    session_run(&s, &w, &src, 1);
    assert_int_equal(s.err, GW_EDISK_FULL);
    assert_int_equal(s.b_err, GW_EDISK_FULL);
    assert_string_equal(s.why.text, s.b_why.text);
    assert_false(exists(dst));
    assert_int_equal(mount(NULL, small.path, NULL, MS_REMOUNT, "size=40m"), 0);
    session_open(&s, &w, dst);
    session_good(&s, &w, src);
    same_thing(src, dst);
    assert_in_range(s.result.sent_bytes, 1, 12 * MIB - 8 * MIB + CHUNK_MAX);
    umount2(small.path, MNT_DETACH);
}

static struct session *cancelled;

static gw_err cancelling_write(void *ctx, const void *from, size_t n, size_t *ret_n)
{
    if (atomic_load(&cancelled->progress.bytes) >= 2 * MIB) {
        atomic_store(&cancelled->progress.cancel, true);
    }
    return stream_write(ctx, from, n, ret_n);
}

static void test_cancel_ends_both(void **state)
{
    (void)state;
    put_noise(PATH(w.src, "f"), 1, 30 * MIB);
    const char *src = PATH(w.src, "f");
    struct session s;
    session_open(&s, &w, w.dst);
    s.a.io.write = cancelling_write;
    cancelled = &s;
    session_run(&s, &w, &src, 1);
    assert_int_equal(s.err, GW_ECANCELLED);
    assert_true(s.b_err == GW_ECANCELLED || s.b_err == GW_EUNREACHABLE);
    assert_false(exists(PATH(w.dst, "f")));
    assert_int_equal(count_names(w.dst), 1); /* the part */
    uint64_t sent = s.result.sent_bytes;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, src);
    assert_in_range(sent + s.result.sent_bytes, 30 * MIB, 30 * MIB + LOST_BYTES);
    same_thing(src, PATH(w.dst, "f"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_resume_at_random_bytes),
        TEST(test_resume_upon_an_older_version),
        TEST(test_resume_of_many_files),
        TEST(test_a_cut_keeps_what_is_whole),
        TEST(test_a_receiver_that_goes_away),
        TEST(test_a_source_that_changes_is_sent_again),
        TEST(test_a_source_that_never_rests_fails_alone),
        TEST(test_two_transfers_to_one_destination),
        TEST(test_a_full_disk_ends_it_and_is_taken_up_again),
        TEST(test_cancel_ends_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
