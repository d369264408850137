/* File sessions: what arrives, what is sent for it, and what is said. */
#include "tests/unit/files/transfer_rig.h"

#include <openssl/evp.h>

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

static void check_hash(const struct session *s, const void *bytes, size_t n)
{
    uint8_t hash[DIGEST_BYTES];
    assert_int_equal(EVP_Digest(bytes, n, hash, NULL, EVP_sha256(), NULL), 1);
    assert_true(s->result.hashed);
    assert_memory_equal(s->result.hash, hash, sizeof hash);
}

static void check_no_parts(void)
{
    assert_int_equal(count_names(w.work), 0);
}

static void test_one_file_of_each_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 300 * 1024, MIB, MIB + 1, 3 * MIB, 9 * MIB + 77};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct session s;
        char dst[256];
        snprintf(dst, sizeof dst, "%s/new%zu", w.dst, i);
        put_noise(PATH(w.src, "one"), i + 1, sizes[i]);
        session_open(&s, &w, dst);
        session_good(&s, &w, PATH(w.src, "one"));
        same_thing(PATH(w.src, "one"), dst);
        assert_int_equal(s.result.files, 1);
        assert_int_equal(s.result.bytes, sizes[i]);
        assert_int_equal(s.result.sent_bytes, sizes[i]);
        assert_int_equal(s.result.saved_bytes, 0);
        assert_int_equal(s.result.placing, SINK_AS);
        assert_int_equal(atomic_load(&s.progress.files), 1);
        assert_int_equal(atomic_load(&s.progress.files_total), 1);
        assert_int_equal(atomic_load(&s.progress.bytes), sizes[i]);
        assert_int_equal(atomic_load(&s.progress.bytes_total), sizes[i]);
        assert_int_equal(atomic_load(&s.b_progress.bytes), sizes[i]);
        uint8_t *bytes = malloc(sizes[i] + 1);
        noise_fill(i + 1, bytes, sizes[i]);
        check_hash(&s, bytes, sizes[i]);
        free(bytes);
    }
    check_no_parts();
}

/* A tree with what trees have. Returns how many names are in it. */
static unsigned make_tree(void)
{
    char path[600];
    assert_int_equal(mkdir(PATH(w.src, "tree"), 0750), 0);
    assert_int_equal(mkdir(PATH(w.src, "tree/empty"), 0711), 0);
    assert_int_equal(mkdir(PATH(w.src, "tree/sub"), 0700), 0);
    put_noise(PATH(w.src, "tree/nothing"), 1, 0);
    put_noise(PATH(w.src, "tree/with space\nand newline \xc3\xa4\xff"), 2, 100);
    put_noise(PATH(w.src, "tree/sub/large"), 3, 3 * MIB + 5);
    assert_int_equal(chmod(PATH(w.src, "tree/sub/large"), 0400), 0);
    assert_int_equal(symlink("../../out of it", PATH(w.src, "tree/link")), 0);
    assert_int_equal(symlink("nowhere", PATH(w.src, "tree/sub/dangling")), 0);
    for (int i = 0; i < 60; i++) {
        snprintf(path, sizeof path, "%s/tree/sub/f%02d", w.src, i);
        put_noise(path, (uint64_t)i + 10, (size_t)i * 31);
    }
    struct timespec t[2] = {{1, 0}, {1234567890, 987654321}};
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.src, "tree/sub"), t, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.src, "tree/link"), t, AT_SYMLINK_NOFOLLOW), 0);
    return 7 + 60;
}

static void test_a_tree_arrives_and_is_the_same_afterwards(void **state)
{
    (void)state;
    unsigned names = make_tree();
    struct session s, t;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, PATH(w.src, "tree"));
    assert_int_equal(same_tree(PATH(w.src, "tree"), PATH(w.dst, "tree")), names);
    assert_int_equal(same_tree(PATH(w.dst, "tree"), PATH(w.src, "tree")), names);
    assert_int_equal(s.result.files, 63);
    assert_int_equal(s.result.sent_bytes, s.result.bytes);
    assert_true(s.result.hashed);
    /* Once more: nothing goes. */
    session_open(&t, &w, w.dst);
    session_good(&t, &w, PATH(w.src, "tree"));
    assert_int_equal(t.result.files, 63);
    assert_int_equal(t.result.sent_bytes, 0);
    assert_int_equal(t.result.saved_bytes, s.result.bytes);
    assert_true(t.a.written < 10000);
    assert_false(t.result.hashed); /* nobody read them */
    /* And with a look at their content, which gives the same hash. */
    session_open(&t, &w, w.dst);
    t.o.verify = true;
    session_good(&t, &w, PATH(w.src, "tree"));
    assert_int_equal(t.result.sent_bytes, 0);
    assert_int_equal(t.result.saved_bytes, s.result.bytes);
    assert_true(t.result.hashed);
    assert_memory_equal(t.result.hash, s.result.hash, sizeof s.result.hash);
    check_no_parts();
}

static void test_hash_of_a_tree_is_as_documented(void **state)
{
    (void)state;
    assert_int_equal(mkdir(PATH(w.src, "t"), 0700), 0);
    put_bytes(PATH(w.src, "t/b"), "abc", 3);
    assert_int_equal(symlink("abc", PATH(w.src, "t/a")), 0);
    struct session s;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, PATH(w.src, "t"));
    uint8_t all[256], *p = all, abc[32];
    assert_int_equal(EVP_Digest("abc", 3, abc, NULL, EVP_sha256(), NULL), 1);
    *p++ = 2;
    memcpy(p, "t\0", 2);
    p += 2;
    memset(p, 0, 32);
    p += 32;
    *p++ = 3;
    memcpy(p, "t/a\0", 4);
    memcpy(p + 4, abc, 32);
    p += 36;
    *p++ = 1;
    memcpy(p, "t/b\0", 4);
    memcpy(p + 4, abc, 32);
    p += 36;
    check_hash(&s, all, (size_t)(p - all));
}

static void test_content_decides_with_verify(void **state)
{
    (void)state;
    put_noise(PATH(w.src, "f"), 5, 5 * MIB);
    put_noise(PATH(w.dst, "f"), 5, 5 * MIB);
    int fd = open(PATH(w.dst, "f"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 4 * MIB), 1);
    close(fd);
    struct timespec t[2] = {{1, 0}, {1600000005, 123456789}};
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.dst, "f"), t, 0), 0);
    struct session s;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, PATH(w.src, "f")); /* size and time agree */
    assert_int_equal(s.result.sent_bytes, 0);
    const char *path = PATH(w.src, "f");
    session_open(&s, &w, w.dst);
    s.o.verify = true;
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.err, GW_OK);
    assert_int_equal(s.failures, 1);
    assert_int_equal(s.failure, GW_EEXISTS);
    assert_string_equal(s.failed, "f");
    assert_false(s.result.hashed);
    session_open(&s, &w, w.dst);
    s.o.verify = s.o.overwrite = true;
    session_good(&s, &w, path);
    assert_in_range(s.result.sent_bytes, 1, 2 * CHUNK_MAX);
    same_thing(path, PATH(w.dst, "f"));
    check_no_parts();
}

static void test_what_exists_is_kept_replaced_or_updated(void **state)
{
    (void)state;
    const char *path = PATH(w.src, "f");
    put_noise(path, 100, 2000);
    put_noise(PATH(w.dst, "f"), 200, 2000); /* newer */
    struct session s;
    session_open(&s, &w, w.dst);
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.failure, GW_EEXISTS);
    session_open(&s, &w, w.dst);
    s.o.update = true;
    session_good(&s, &w, path);
    assert_int_equal(s.result.files, 0);
    assert_int_equal(mtime_of(PATH(w.dst, "f")), 1600000200123456789LL);
    session_open(&s, &w, w.dst);
    s.o.overwrite = true;
    session_good(&s, &w, path);
    same_thing(path, PATH(w.dst, "f"));
    put_noise(path, 300, 2100);
    session_open(&s, &w, w.dst);
    s.o.update = true;
    session_good(&s, &w, path);
    same_thing(path, PATH(w.dst, "f"));
}

static void test_a_touched_file_costs_no_bytes(void **state)
{
    (void)state;
    put_noise(PATH(w.src, "f"), 5, 5 * MIB);
    put_noise(PATH(w.dst, "f"), 5, 5 * MIB);
    struct timespec t[2] = {{1, 0}, {1700000000, 1}};
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.src, "f"), t, 0), 0);
    struct stat before, after;
    assert_int_equal(stat(PATH(w.dst, "f"), &before), 0);
    struct session s;
    session_open(&s, &w, w.dst);
    s.o.overwrite = true;
    session_good(&s, &w, PATH(w.src, "f"));
    assert_int_equal(s.result.sent_bytes, 0);
    assert_int_equal(s.result.saved_bytes, 5 * MIB);
    same_thing(PATH(w.src, "f"), PATH(w.dst, "f"));
    assert_int_equal(stat(PATH(w.dst, "f"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* the file was not written again */
    check_no_parts();
}

static void test_delta_of_an_insertion(void **state)
{
    (void)state;
    const size_t size = 90 * MIB; /* its chunks are asked for: more than come unasked */
    uint8_t *bytes = malloc(size + 1);
    noise_fill(9, bytes, size);
    put_bytes(PATH(w.dst, "f"), bytes, size);
    memmove(bytes + size / 2 + 1, bytes + size / 2, size - size / 2);
    bytes[size / 2] = 'x';
    put_bytes(PATH(w.src, "f"), bytes, size + 1);
    struct session s;
    session_open(&s, &w, w.dst);
    s.o.overwrite = true;
    session_good(&s, &w, PATH(w.src, "f"));
    same_thing(PATH(w.src, "f"), PATH(w.dst, "f"));
    assert_in_range(s.result.sent_bytes, 1, 2 * CHUNK_MAX);
    assert_int_equal(s.result.sent_bytes + s.result.saved_bytes, size + 1);
    check_hash(&s, bytes, size + 1);
    free(bytes);
    check_no_parts();
}

static void test_holes_stay_holes(void **state)
{
    (void)state;
    const char *path = PATH(w.src, "f");
    uint8_t bytes[100000];
    noise_fill(3, bytes, sizeof bytes);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 200LL * MIB), 0);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 70LL * MIB), (ssize_t)sizeof bytes);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 150LL * MIB + 7), (ssize_t)sizeof bytes);
    close(fd);
    struct session s;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, path);
    same_thing(path, PATH(w.dst, "f"));
    struct stat st;
    assert_int_equal(stat(PATH(w.dst, "f"), &st), 0);
    assert_true(st.st_blocks * 512LL < 2LL * MIB);
    assert_true(s.result.sent_bytes < MIB);
    /* The same, found by content. */
    session_open(&s, &w, w.dst);
    s.o.verify = true;
    session_good(&s, &w, path);
    assert_int_equal(s.result.sent_bytes, 0);
}

static void test_five_thousand_small_files(void **state)
{
    (void)state;
    char path[600];
    assert_int_equal(mkdir(PATH(w.src, "t"), 0700), 0);
    for (int k = 0; k < 5; k++) {
        snprintf(path, sizeof path, "%s/t/%d", w.src, k);
        assert_int_equal(mkdir(path, 0700), 0);
        for (int i = 0; i < 1000; i++) {
            snprintf(path, sizeof path, "%s/t/%d/%d", w.src, k, i);
            put_bytes(path, &i, sizeof i);
        }
    }
    struct session s;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, PATH(w.src, "t"));
    assert_int_equal(s.result.files, 5000);
    assert_int_equal(same_tree(PATH(w.src, "t"), PATH(w.dst, "t")), 5005);
    assert_int_equal(count_names(PATH(w.dst, "t")), 5005);
    /* Some change; those alone go. */
    for (int i = 0; i < 50; i++) {
        snprintf(path, sizeof path, "%s/t/3/%d", w.src, i * 20);
        put_bytes(path, "changed", 7);
    }
    session_open(&s, &w, w.dst);
    s.o.overwrite = true;
    session_good(&s, &w, PATH(w.src, "t"));
    assert_int_equal(s.result.sent_bytes, 350);
    (void)same_tree(PATH(w.src, "t"), PATH(w.dst, "t"));
}

static void test_more_large_files_than_may_be_open(void **state)
{
    (void)state;
    char path[600];
    assert_int_equal(mkdir(PATH(w.src, "t"), 0700), 0);
    for (int i = 0; i < 3 * LIMIT_TRANSFER_OPEN; i++) {
        snprintf(path, sizeof path, "%s/t/%d", w.src, i);
        put_noise(path, (uint64_t)i, SINK_SMALL_BYTES + 1 + (size_t)(i % 2));
    }
    struct session s;
    session_open(&s, &w, w.dst);
    session_good(&s, &w, PATH(w.src, "t"));
    assert_int_equal(same_tree(PATH(w.src, "t"), PATH(w.dst, "t")), 3 * LIMIT_TRANSFER_OPEN);
    check_no_parts();
}

static void test_dry_run_counts_and_writes_nothing(void **state)
{
    (void)state;
    (void)make_tree();
    put_noise(PATH(w.src, "tree/old"), 900, 4 * MIB);
    assert_int_equal(mkdir(PATH(w.dst, "tree"), 0755), 0);
    put_noise(PATH(w.dst, "tree/old"), 900, 4 * MIB);
    struct timespec t[2] = {{1, 0}, {1, 1}};
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.dst, "tree/old"), t, 0), 0);
    int64_t before = mtime_of(PATH(w.dst, "tree"));
    struct session s, real;
    session_open(&s, &w, w.dst);
    s.o.dry_run = s.o.overwrite = true;
    session_good(&s, &w, PATH(w.src, "tree"));
    assert_int_equal(count_names(w.dst), 2);
    assert_int_equal(mtime_of(PATH(w.dst, "tree")), before);
    assert_int_equal(mtime_of(PATH(w.dst, "tree/old")), 1000000001LL);
    assert_false(s.result.hashed);
    check_no_parts();
    session_open(&real, &w, w.dst);
    real.o.overwrite = true;
    session_good(&real, &w, PATH(w.src, "tree"));
    assert_int_equal(s.result.files, real.result.files);
    assert_int_equal(s.result.bytes, real.result.bytes);
    assert_int_equal(s.result.sent_bytes, real.result.sent_bytes);
    assert_int_equal(s.result.saved_bytes, real.result.saved_bytes);
    assert_true(s.result.saved_bytes >= 4 * MIB);
    assert_true(s.a.written < 20000);
}

/* What a sender is told while it runs, in the order it is told. */
static struct {
    unsigned opened, planned, late; /* late: planned before it was opened */
    sink_placing placing;
    uint64_t bytes;
    char paths[256];
} told;

static void hear_opened(void *arg, sink_placing placing)
{
    struct session *s = arg;
    assert_ptr_equal(s->o.arg, s);
    told.opened++;
    told.placing = placing;
}

static void hear_planned(void *arg, const struct file_entry *e, uint64_t bytes)
{
    struct session *s = arg;
    assert_ptr_equal(s->o.arg, s);
    told.planned++;
    told.late += told.opened == 0;
    told.bytes += bytes;
    size_t n = strlen(told.paths);
    snprintf(told.paths + n, sizeof told.paths - n, "%s:%llu ", e->path, (unsigned long long)bytes);
}

static void open_hearing(struct session *s, const char *dst)
{
    memset(&told, 0, sizeof told);
    session_open(s, &w, dst);
    s->o.on_opened = hear_opened;
    s->o.on_planned = hear_planned;
}

static void test_a_sender_is_told_where_it_goes(void **state)
{
    (void)state;
    const char *path = PATH(w.src, "t"), *none = "/etc/none";
    struct session s;
    assert_int_equal(mkdir(path, 0755), 0);
    put_noise(PATH(w.src, "t/f"), 1, 1000);
    open_hearing(&s, PATH(w.dst, "new"));
    session_good(&s, &w, path);
    assert_int_equal(told.opened, 1);
    assert_int_equal(told.placing, SINK_AS);
    assert_int_equal(s.result.placing, SINK_AS);
    assert_int_equal(told.planned, 0); /* it was no dry run */
    open_hearing(&s, PATH(w.dst, "new"));
    session_good(&s, &w, path); /* now it is a folder */
    assert_int_equal(told.opened, 1);
    assert_int_equal(told.placing, SINK_INTO);
    open_hearing(&s, PATH(w.dst, "new"));
    s.o.placing = SINK_AS; /* as the first time */
    session_good(&s, &w, path);
    assert_int_equal(told.placing, SINK_AS);
    assert_int_equal(s.result.sent_bytes, 0);
    open_hearing(&s, none);
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.err, GW_EDENIED);
    assert_int_equal(told.opened, 0);
}

static void test_a_dry_run_names_each_file_that_would_go(void **state)
{
    (void)state;
    const char *path = PATH(w.src, "t");
    struct session s;
    assert_int_equal(mkdir(path, 0755), 0);
    put_noise(PATH(w.src, "t/a"), 1, 1000);
    put_noise(PATH(w.src, "t/b"), 2, 5 * MIB);
    put_noise(PATH(w.src, "t/c"), 3, 0);
    open_hearing(&s, PATH(w.dst, "t"));
    session_good(&s, &w, PATH(w.src, "t"));
    put_noise(PATH(w.src, "t/a"), 4, 2000); /* another */
    put_noise(PATH(w.src, "t/b"), 2, 5 * MIB);
    put_noise(PATH(w.src, "t/new"), 5, 300); /* one more */
    open_hearing(&s, PATH(w.dst, "t"));
    s.o.dry_run = s.o.overwrite = true;
    s.o.placing = SINK_AS;
    session_good(&s, &w, path);
    assert_int_equal(told.opened, 1);
    assert_int_equal(told.late, 0);
    assert_string_equal(told.paths, "t/a:2000 t/new:300 ");
    assert_int_equal(told.bytes, s.result.sent_bytes);
    assert_int_equal(s.failures, 0);
    assert_false(exists(PATH(w.dst, "t/new")));
    /* What may not be replaced is told as failed, and not as planned. */
    open_hearing(&s, PATH(w.dst, "t"));
    s.o.dry_run = true;
    s.o.placing = SINK_AS;
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.err, GW_OK);
    assert_string_equal(told.paths, "t/new:300 ");
    assert_int_equal(s.failures, 1);
    assert_int_equal(s.failure, GW_EEXISTS);
}

static void test_compression_where_it_pays(void **state)
{
    (void)state;
    const size_t size = 6 * MIB;
    char *text = malloc(size);
    for (size_t i = 0; i < size; i++) {
        text[i] = "the quick brown fox "[i % 20 ^ (i >> 12 & 3)];
    }
    put_bytes(PATH(w.src, "text"), text, size);
    put_noise(PATH(w.src, "noise"), 4, size);
    struct session s;
    session_open(&s, &w, PATH(w.dst, "a"));
    s.o.compress = COMPRESS_ALWAYS;
    session_good(&s, &w, PATH(w.src, "text"));
    same_thing(PATH(w.src, "text"), PATH(w.dst, "a"));
    assert_true(s.result.sent_bytes < size / 4);
    assert_int_equal(s.result.sent_bytes + s.result.saved_bytes, size);
    check_hash(&s, text, size);
    session_open(&s, &w, PATH(w.dst, "b"));
    s.o.compress = COMPRESS_ALWAYS;
    session_good(&s, &w, PATH(w.src, "noise"));
    same_thing(PATH(w.src, "noise"), PATH(w.dst, "b"));
    assert_int_equal(s.result.sent_bytes, size);
    session_open(&s, &w, PATH(w.dst, "c"));
    s.o.compress = COMPRESS_NEVER;
    session_good(&s, &w, PATH(w.src, "text"));
    assert_int_equal(s.result.sent_bytes, size);
    session_open(&s, &w, PATH(w.dst, "d")); /* a limit makes the connection slow */
    s.o.limit = 50 * MIB;
    session_good(&s, &w, PATH(w.src, "text"));
    assert_true(s.result.sent_bytes < size / 4);
    /* Compressed bytes upon an older version. */
    memset(text + 5 * MIB, 'z', 2000);
    put_bytes(PATH(w.src, "text"), text, size);
    session_open(&s, &w, PATH(w.dst, "a"));
    s.o.compress = COMPRESS_ALWAYS;
    s.o.overwrite = true;
    session_good(&s, &w, PATH(w.src, "text"));
    same_thing(PATH(w.src, "text"), PATH(w.dst, "a"));
    free(text);
}

static void test_move_removes_what_arrived(void **state)
{
    (void)state;
    (void)make_tree();
    struct session s;
    /* One that is refused stays. */
    assert_int_equal(mkdir(PATH(w.dst, "tree"), 0700), 0);
    assert_int_equal(mkdir(PATH(w.dst, "tree/nothing"), 0700), 0);
    session_open(&s, &w, w.dst);
    s.o.move = true;
    const char *path = PATH(w.src, "tree");
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.err, GW_OK);
    assert_int_equal(s.failures, 1);
    assert_string_equal(s.failed, "tree/nothing");
    assert_int_equal(s.result.removed, 64);
    assert_int_equal(count_names(w.src), 2);
    assert_true(exists(PATH(w.src, "tree/nothing")));
    assert_int_equal(rmdir(PATH(w.dst, "tree/nothing")), 0);
    session_open(&s, &w, w.dst);
    s.o.move = true;
    session_good(&s, &w, path);
    assert_int_equal(count_names(w.src), 0);
    /* What is there already by size and time, but not by content, is not removed. */
    put_bytes(PATH(w.src, "f"), "abc", 3);
    put_bytes(PATH(w.dst, "f"), "abd", 3);
    struct timespec t[2] = {{1, 0}, {1, 1}};
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.src, "f"), t, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.dst, "f"), t, 0), 0);
    path = PATH(w.src, "f");
    session_open(&s, &w, w.dst);
    s.o.move = true;
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.failure, GW_EEXISTS);
    assert_true(exists(path));
    put_bytes(PATH(w.dst, "f"), "abc", 3);
    assert_int_equal(utimensat(AT_FDCWD, PATH(w.dst, "f"), t, 0), 0);
    session_open(&s, &w, w.dst);
    s.o.move = true;
    session_good(&s, &w, path);
    assert_false(exists(path));
}

static gw_err stage(void *arg, const gw_id *ticket, const gw_id *agent, int *ret_dirfd,
                    struct gw_error *why)
{
    const struct world *world = arg;
    if (ticket->b[0] != 1 || agent->b[0] != 2) {
        return gw_fail(why, GW_EREFUSED, "nobody expects them");
    }
    *ret_dirfd = open(world->dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return GW_OK;
}

static void test_registered_files_go_to_their_folder(void **state)
{
    (void)state;
    gw_id ticket = {{1}}, agent = {{2}}, other = {{3}};
    const char *path = PATH(w.src, "f");
    put_noise(path, 1, 2 * MIB);
    struct session s;
    session_open(&s, &w, NULL);
    s.o.ticket = &ticket;
    s.o.agent = &agent;
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.err, GW_EDENIED); /* a host without */
    session_open(&s, &w, NULL);
    s.o.ticket = &ticket;
    s.o.agent = &other;
    s.config.stage = stage;
    s.config.arg = &w;
    session_run(&s, &w, &path, 1);
    assert_int_equal(s.err, GW_EREFUSED);
    assert_string_equal(s.why.text, "nobody expects them");
    session_open(&s, &w, NULL);
    s.o.ticket = &ticket;
    s.o.agent = &agent;
    s.config.stage = stage;
    s.config.arg = &w;
    s.config.roots = NULL;
    session_good(&s, &w, path);
    same_thing(path, PATH(w.dst, "f"));
}

static void test_a_destination_may_be_refused(void **state)
{
    (void)state;
    const char *path = PATH(w.src, "f");
    put_noise(path, 1, 10);
    static const struct {
        const char *dst;
        gw_err err;
    } cases[] = {{"/etc/passwd", GW_EDENIED}, {"", GW_EARG}, {"no/such/folder/x", GW_ENOT_FOUND}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct session s;
        session_open(&s, &w, cases[i].dst);
        session_run(&s, &w, &path, 1);
        assert_int_equal(s.err, cases[i].err);
        assert_int_equal(s.b_err, cases[i].err);
        assert_string_equal(s.why.text, s.b_why.text);
        assert_true(s.why.text[0] != '\0');
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_file_of_each_size),
        TEST(test_a_tree_arrives_and_is_the_same_afterwards),
        TEST(test_hash_of_a_tree_is_as_documented),
        TEST(test_content_decides_with_verify),
        TEST(test_what_exists_is_kept_replaced_or_updated),
        TEST(test_a_touched_file_costs_no_bytes),
        TEST(test_delta_of_an_insertion),
        TEST(test_holes_stay_holes),
        TEST(test_five_thousand_small_files),
        TEST(test_more_large_files_than_may_be_open),
        TEST(test_dry_run_counts_and_writes_nothing),
        TEST(test_a_sender_is_told_where_it_goes),
        TEST(test_a_dry_run_names_each_file_that_would_go),
        TEST(test_compression_where_it_pays),
        TEST(test_move_removes_what_arrived),
        TEST(test_registered_files_go_to_their_folder),
        TEST(test_a_destination_may_be_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
