/* File sessions with an other end that breaks the rules, byte by byte and record by record: a clear
 * error, nothing half visible, and the host lives. */
#include "tests/unit/files/transfer_rig.h"

#include <zstd.h>

#include "host/files/record.h"

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

/* --- a sender that is this test; the receiver is real --- */
struct liar {
    struct session s;
    struct record_io r;
    pthread_t thread;
    struct digest digest; /* of the present file, as an honest sender has it */
};

static void *receive(void *arg)
{
    return session_receive(&((struct liar *)arg)->s);
}

static void liar_start(struct liar *l)
{
    session_open(&l->s, &w, w.dst);
    assert_int_equal(record_init(&l->r, &l->s.a.io, false, NULL, NULL), GW_OK);
    assert_int_equal(digest_init(&l->digest), GW_OK);
    assert_int_equal(pthread_create(&l->thread, NULL, receive, l), 0);
}

/* The session is over: what the receiver made of it. */
static gw_err liar_end(struct liar *l)
{
    gw_err flushed = record_flush(&l->r);
    (void)flushed; /* the receiver may be gone */
    stream_close(&l->s.a);
    assert_int_equal(pthread_join(l->thread, NULL), 0);
    record_deinit(&l->r);
    digest_deinit(&l->digest);
    progress_deinit(&l->s.progress);
    progress_deinit(&l->s.b_progress);
    return l->s.b_err;
}

static void say_open(struct liar *l, unsigned version, unsigned flags)
{
    struct buf *b = record_begin(&l->r, RECORD_OPEN, 5);
    mp_uint(b, version);
    mp_uint(b, flags);
    mp_bin(b, w.dst, strlen(w.dst));
    mp_nil(b);
    mp_uint(b, 0);
    assert_int_equal(record_end(&l->r), GW_OK);
}

static void say_entry(struct liar *l, uint64_t index, const char *path, uint64_t size)
{
    char text[300];
    snprintf(text, sizeof text, "%s", path);
    struct file_entry e = {.path = text, .type = ENTRY_FILE, .mode = 0600, .size = size};
    struct buf *b = record_begin(&l->r, RECORD_ENTRY, 2);
    mp_uint(b, index);
    entry_pack(&e, b);
    assert_int_equal(record_end(&l->r), GW_OK);
}

static void say(struct liar *l, record_kind kind, size_t n, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t fields[] = {a, b, c};
    struct buf *buf = record_begin(&l->r, kind, n);
    for (size_t i = 0; i < n; i++) {
        mp_uint(buf, fields[i]);
    }
    assert_int_equal(record_end(&l->r), GW_OK);
}

static void say_data(struct liar *l, unsigned flags, const void *bytes, size_t n)
{
    uint8_t hash[DIGEST_BYTES];
    digest_add(&l->digest, bytes, n);
    assert_int_equal(digest_now(&l->digest, hash), GW_OK);
    assert_int_equal(record_data(&l->r, (uint8_t)flags, hash, bytes, n), GW_OK);
}

static record_kind hear(struct liar *l, struct record *rec)
{
    gw_err err = record_next(&l->r, rec);
    return err == GW_OK ? rec->kind : err == GW_EUNREACHABLE ? (record_kind)0 : RECORD_ERROR;
}

/* OPEN, one entry, its verdict. */
static void get_wanted(struct liar *l, unsigned flags, const char *path, uint64_t size)
{
    struct record rec;
    uint64_t index;
    uint32_t verdict;
    liar_start(l);
    say_open(l, RECORD_VERSION, flags);
    say_entry(l, 0, path, size);
    assert_int_equal(hear(l, &rec), RECORD_OPENED);
    assert_int_equal(hear(l, &rec), RECORD_VERDICT);
    assert_int_equal(mp_read_uint(&rec.fields, &index), GW_OK);
    assert_int_equal(mp_read_u32(&rec.fields, &verdict), GW_OK);
    assert_int_equal(index, 0);
    assert_true(verdict == VERDICT_WHOLE || verdict == VERDICT_BASIS);
}

static void start(struct liar *l)
{
    say(l, RECORD_START, 1, 0, 0, 0);
    digest_restart(&l->digest);
}

/* The receiver ends with a protocol error that holds `text`, says so, and nothing is there. */
static void expect_refused(struct liar *l, const char *text)
{
    struct record rec;
    record_kind kind;
    assert_int_equal(record_flush(&l->r), GW_OK);
    while ((kind = hear(l, &rec)) != RECORD_ERROR && kind != 0) {
    }
    assert_int_equal(kind, RECORD_ERROR);
    assert_int_equal(liar_end(l), GW_EPROTO);
    if (!strstr(l->s.b_why.text, text)) {
        fail_msg("wanted \"%s\", got \"%s\"", text, l->s.b_why.text);
    }
    assert_false(exists(PATH(w.dst, "f")));
}

static void test_records_out_of_order(void **state)
{
    (void)state;
    struct liar l;
    liar_start(&l);
    say_entry(&l, 0, "f", 1);
    expect_refused(&l, "ENTRY first");
    liar_start(&l);
    say_open(&l, RECORD_VERSION, 0);
    say_open(&l, RECORD_VERSION, 0);
    expect_refused(&l, "OPEN which");
    liar_start(&l);
    say_open(&l, RECORD_VERSION, 1u << 20);
    expect_refused(&l, "does not parse");
    static const struct {
        record_kind kind;
        const char *text;
    } cases[] = {
        {RECORD_LIST, "LIST of an entry"},  {RECORD_START, "START of an entry"},
        {RECORD_COPY, "without the start"}, {RECORD_HOLE, "without the start"},
        {RECORD_GIVE_UP, "GIVE_UP of an"},  {RECORD_OPENED, "OPENED which"},
        {RECORD_VERDICT, "VERDICT which"},  {RECORD_FINISHED, "FINISHED which"},
        {(record_kind)99, "? which"},       {RECORD_ENTRY, "does not parse"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        liar_start(&l);
        say_open(&l, RECORD_VERSION, 0);
        say(&l, cases[i].kind, 1, 7, 0, 0);
        expect_refused(&l, cases[i].text);
    }
    liar_start(&l);
    say_open(&l, RECORD_VERSION, 0);
    say_data(&l, RECORD_LAST, "x", 1);
    expect_refused(&l, "without the start");
}

static void test_a_session_of_another_version(void **state)
{
    (void)state;
    struct liar l;
    liar_start(&l);
    say_open(&l, RECORD_VERSION + 1, 0);
    assert_int_equal(record_flush(&l.r), GW_OK);
    struct record rec;
    assert_int_equal(record_next(&l.r, &rec), GW_ENOT_SUPPORTED);
    assert_int_equal(liar_end(&l), GW_ENOT_SUPPORTED);
}

static void test_content_that_breaks_the_rules(void **state)
{
    (void)state;
    struct liar l;
    uint8_t bytes[2000] = {1, 2, 3};
    get_wanted(&l, 0, "f", 1000);
    start(&l);
    say_data(&l, 0, bytes, 1001);
    expect_refused(&l, "more bytes");
    get_wanted(&l, 0, "f", 1000);
    start(&l);
    say_data(&l, RECORD_LAST, bytes, 999);
    expect_refused(&l, "fewer bytes");
    get_wanted(&l, 0, "f", 1000);
    start(&l);
    say(&l, RECORD_START, 1, 0, 0, 0);
    expect_refused(&l, "before the end of another");
    get_wanted(&l, 0, "f", 1000);
    start(&l);
    say(&l, RECORD_FINISH, 0, 0, 0, 0);
    expect_refused(&l, "before the end");
    get_wanted(&l, 0, "f", 1000);
    say(&l, RECORD_FINISH, 0, 0, 0, 0);
    expect_refused(&l, "while a file is wanted");
    get_wanted(&l, 0, "f", 1000);
    say_entry(&l, 0, "g", 5);
    expect_refused(&l, "as many entries");
    get_wanted(&l, OPEN_DRY_RUN, "f", 1000);
    start(&l);
    expect_refused(&l, "START of an entry");
    static const uint64_t holes[] = {0, 1001, LIMIT_COPY_BYTES + 1, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        get_wanted(&l, 0, "f", i == 2 ? UINT64_MAX >> 2 : 1000);
        start(&l);
        say(&l, RECORD_HOLE, 1, holes[i], 0, 0);
        expect_refused(&l, "a HOLE");
    }
    assert_int_equal(count_names(w.dst), 0); /* small files leave nothing */
}

static void test_copies_of_what_is_not_there(void **state)
{
    (void)state;
    struct liar l;
    put_noise(PATH(w.dst, "old"), 1, 5000);
    static const uint64_t copies[][3] = {{0, 0, 5001},       {0, 4999, 2}, {0, UINT64_MAX, 2},
                                         {0, 0, 0},          {1, 0, 1},    {2, 0, 1},
                                         {0, 0, UINT64_MAX}, {0, 5000, 1}};
    for (size_t i = 0; i < sizeof copies / sizeof copies[0]; i++) {
        get_wanted(&l, OPEN_OVERWRITE, "old", 9000);
        start(&l);
        say(&l, RECORD_COPY, 3, copies[i][0], copies[i][1], copies[i][2]);
        expect_refused(&l, "a COPY");
    }
    uint8_t was[5000], is[5000];
    noise_fill(1, was, sizeof was);
    FILE *f = fopen(PATH(w.dst, "old"), "rb");
    assert_int_equal(fread(is, 1, sizeof is, f), sizeof is);
    fclose(f);
    assert_memory_equal(was, is, sizeof is);
}

static void test_compressed_bombs(void **state)
{
    (void)state;
    size_t big = RECORD_DATA_BYTES + 1, room = ZSTD_compressBound(big);
    uint8_t *zeros = calloc(1, big), *packed = malloc(room);
    size_t n = ZSTD_compress(packed, room, zeros, big, 1);
    struct liar l;
    get_wanted(&l, 0, "f", 10 * MIB);
    start(&l);
    say_data(&l, RECORD_ZSTD, packed, n);
    expect_refused(&l, "does not decompress");
    get_wanted(&l, 0, "f", 10 * MIB);
    start(&l);
    say_data(&l, RECORD_ZSTD, "no zstd at all", 14);
    expect_refused(&l, "does not decompress");
    free(zeros);
    free(packed);
}

/* Content that does not verify costs that file; the next one goes on. */
static void test_wrong_digests_fail_the_file_alone(void **state)
{
    (void)state;
    struct liar l;
    struct record rec;
    uint8_t bytes[1000] = {7}, wrong[DIGEST_BYTES] = {1};
    for (int last = 0; last < 2; last++) {
        get_wanted(&l, 0, "f", 2000);
        start(&l);
        assert_int_equal(record_data(&l.r, 0, wrong, bytes, 1000), GW_OK);
        if (last) { /* the rest comes all the same */
            assert_int_equal(record_data(&l.r, RECORD_LAST, wrong, bytes, 1000), GW_OK);
        } else {
            say(&l, RECORD_HOLE, 1, 5, 0, 0);
            say(&l, RECORD_GIVE_UP, 1, 0, 0, 0);
        }
        say_entry(&l, 1, "g", 3);
        assert_int_equal(hear(&l, &rec), RECORD_FAILED);
        uint64_t index;
        uint32_t code;
        assert_int_equal(mp_read_uint(&rec.fields, &index), GW_OK);
        assert_int_equal(mp_read_u32(&rec.fields, &code), GW_OK);
        assert_int_equal(code, GW_ECORRUPT);
        assert_int_equal(hear(&l, &rec), RECORD_VERDICT);
        say(&l, RECORD_START, 1, 1, 0, 0);
        digest_restart(&l.digest);
        say_data(&l, RECORD_LAST, "abc", 3);
        say(&l, RECORD_FINISH, 0, 0, 0, 0);
        assert_int_equal(hear(&l, &rec), RECORD_VERDICT);
        assert_int_equal(hear(&l, &rec), RECORD_FINISHED);
        assert_int_equal(liar_end(&l), GW_OK);
        assert_false(exists(PATH(w.dst, "f")));
        assert_true(exists(PATH(w.dst, "g")));
        assert_int_equal(unlink(PATH(w.dst, "g")), 0);
        assert_int_equal(count_names(w.dst), 0);
    }
}

static void test_paths_that_lead_out_fail_alone(void **state)
{
    (void)state;
    static const char *const paths[] = {"../f", "/etc/f", "a/../../f", "", "a//b", ".."};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct liar l;
        struct record rec;
        liar_start(&l);
        say_open(&l, RECORD_VERSION, 0);
        say_entry(&l, 0, paths[i], 1);
        say(&l, RECORD_FINISH, 0, 0, 0, 0);
        assert_int_equal(hear(&l, &rec), RECORD_OPENED);
        record_kind kind = hear(&l, &rec);
        assert_int_equal(kind, RECORD_FAILED);
        assert_int_equal(hear(&l, &rec), RECORD_FINISHED);
        assert_int_equal(liar_end(&l), GW_OK);
        assert_int_equal(count_names(w.dst), 0);
    }
}

static void test_more_entries_than_may_wait(void **state)
{
    (void)state;
    struct liar l;
    liar_start(&l);
    say_open(&l, RECORD_VERSION, 0);
    char name[32];
    for (uint64_t i = 0; i <= LIMIT_TRANSFER_WINDOW; i++) {
        snprintf(name, sizeof name, "n%u", (unsigned)i);
        say_entry(&l, i, name, 5);
    }
    expect_refused(&l, "as many entries");
    /* The same of large files, of which most are not opened; and of long names. */
    liar_start(&l);
    say_open(&l, RECORD_VERSION, 0);
    for (uint64_t i = 0; i <= LIMIT_TRANSFER_WINDOW; i++) {
        snprintf(name, sizeof name, "n%u", (unsigned)i);
        say_entry(&l, i, name, 5 * MIB);
    }
    expect_refused(&l, "as many entries");
}

/* A good session, cut after each of its bytes. */
static void test_a_sender_that_ends_anywhere(void **state)
{
    (void)state;
    uint64_t whole = 0;
    put_noise(PATH(w.src, "f"), 1, 300);
    for (uint64_t cut = 0; cut == 0 || cut < whole; cut++) {
        struct session s;
        const char *path = PATH(w.src, "f");
        session_open(&s, &w, w.dst);
        s.a.cut_at = cut;
        session_run(&s, &w, &path, 1);
        if (cut == 0) {
            whole = s.a.written;
            assert_int_equal(s.err, GW_OK);
        } else {
            assert_int_equal(s.err, GW_EUNREACHABLE);
            assert_int_equal(s.b_err, GW_EUNREACHABLE);
        }
        if (exists(PATH(w.dst, "f"))) {
            same_thing(path, PATH(w.dst, "f"));
            assert_int_equal(unlink(PATH(w.dst, "f")), 0);
        }
        assert_int_equal(count_names(w.dst), 0);
    }
    assert_in_range(whole, 300, 600);
}

/* And with each of its bytes altered on the way: whatever arrives is what was sent. */
static void test_a_connection_that_alters_bytes(void **state)
{
    (void)state;
    put_noise(PATH(w.src, "f"), 1, 300);
    struct session s;
    const char *path = PATH(w.src, "f");
    for (uint64_t at = 1; at < 520; at += 1) {
        session_open(&s, &w, w.dst);
        s.a.alter_at = at;
        s.a.impatient = s.b.impatient = true; /* one may wait for what a wrong length promised */
        session_run(&s, &w, &path, 1);
        char name[512];
        struct dirent *e;
        DIR *dir = opendir(w.dst);
        while ((e = readdir(dir))) {
            if (e->d_name[0] != '.') { /* its name may be another, or that of its folder's part */
                snprintf(name, sizeof name, "%s", e->d_name);
                struct stat st;
                assert_int_equal(lstat(PATH(w.dst, name), &st), 0);
                if (S_ISREG(st.st_mode)) {
                    same_file(path, PATH(w.dst, name));
                    assert_int_equal(unlink(PATH(w.dst, name)), 0);
                }
            }
        }
        closedir(dir);
    }
}

/* --- a receiver that is this test; the sender is real --- */
struct judge {
    struct session s;
    struct record_io r;
    pthread_t thread;
};

static void *send_it(void *arg)
{
    struct judge *j = arg;
    struct source *source;
    const char *path = PATH(w.src, "t");
    assert_int_equal(source_open(w.roots, &path, 1, &j->s.source, &source, NULL), GW_OK);
    j->s.err = send_files(&j->s.a.io, source, &j->s.o, &j->s.progress, &j->s.result, &j->s.why);
    stream_close(&j->s.a);
    source_close(source);
    return NULL;
}

/* The tree is t (0), t/f (1), t/g (2). */
static void judge_start(struct judge *j, bool opened)
{
    session_open(&j->s, &w, w.dst);
    assert_int_equal(record_init(&j->r, &j->s.b.io, true, NULL, NULL), GW_OK);
    assert_int_equal(pthread_create(&j->thread, NULL, send_it, j), 0);
    if (opened) {
        struct buf *b = record_begin(&j->r, RECORD_OPENED, 3);
        mp_uint(b, RECORD_VERSION);
        mp_uint(b, SINK_INTO);
        mp_bin(b, "/x", 2);
        assert_int_equal(record_end(&j->r), GW_OK);
    }
}

static void judge_end(struct judge *j)
{
    stream_close(&j->s.b);
    assert_int_equal(pthread_join(j->thread, NULL), 0);
    record_deinit(&j->r);
    progress_deinit(&j->s.progress);
    progress_deinit(&j->s.b_progress);
}

/* The sender says why it goes. */
static void expect_left(struct judge *j, const char *text)
{
    struct record rec;
    gw_err err = record_flush(&j->r);
    while (err == GW_OK) {
        err = record_next(&j->r, &rec);
    }
    assert_int_equal(err, GW_EPROTO);
    judge_end(j);
    assert_int_equal(j->s.err, GW_EPROTO);
    if (!strstr(j->s.why.text, text)) {
        fail_msg("wanted \"%s\", got \"%s\"", text, j->s.why.text);
    }
}

static void judge_say(struct judge *j, record_kind kind, size_t n, uint64_t a, uint64_t b)
{
    uint64_t fields[] = {a, b};
    struct buf *buf = record_begin(&j->r, kind, n);
    for (size_t i = 0; i < n; i++) {
        mp_uint(buf, fields[i]);
    }
    assert_int_equal(record_end(&j->r), GW_OK);
}

static void judge_fail(struct judge *j, uint64_t index, gw_err code, const char *text)
{
    struct buf *b = record_begin(&j->r, RECORD_FAILED, 4);
    mp_uint(b, index);
    mp_uint(b, code);
    mp_str(b, text);
    mp_str(b, "");
    assert_int_equal(record_end(&j->r), GW_OK);
}

static void judge_basis(struct judge *j, uint64_t index, unsigned basis, const void *p, size_t n,
                        bool more)
{
    struct buf *b = record_begin(&j->r, RECORD_BASIS, 4);
    mp_uint(b, index);
    mp_uint(b, basis);
    mp_bin(b, p, n);
    mp_bool(b, more);
    assert_int_equal(record_end(&j->r), GW_OK);
}

/* Wait until the sender has said `kind`, of which the first member is `index`. */
static void judge_until(struct judge *j, record_kind kind, uint64_t index)
{
    struct record rec;
    uint64_t n;
    do {
        assert_int_equal(record_next(&j->r, &rec), GW_OK);
    } while (rec.kind != kind || mp_read_uint(&rec.fields, &n) != GW_OK || n != index);
}

static void make_small_tree(void)
{
    assert_int_equal(mkdir(PATH(w.src, "t"), 0700), 0);
    put_noise(PATH(w.src, "t/f"), 1, 2 * MIB);
    put_noise(PATH(w.src, "t/g"), 2, 100);
}

static void test_answers_that_make_no_sense(void **state)
{
    (void)state;
    make_small_tree();
    struct judge j;
    judge_start(&j, false);
    judge_say(&j, RECORD_VERDICT, 2, 0, VERDICT_DONE);
    expect_left(&j, "nobody told");
    judge_start(&j, true);
    judge_say(&j, RECORD_OPENED, 2, 1, 1);
    expect_left(&j, "OPENED");
    judge_start(&j, true);
    judge_say(&j, RECORD_FINISHED, 2, 0, 0);
    expect_left(&j, "before it was asked");
    judge_start(&j, true);
    judge_say(&j, RECORD_DATA + 1, 2, 0, 0);
    expect_left(&j, "which a receiver does not say");
    static const uint64_t verdicts[][2] = {{0, VERDICT_WHOLE},
                                           {0, VERDICT_SAME},
                                           {0, VERDICT_PLACED},
                                           {0, 0},
                                           {0, 99},
                                           {1, VERDICT_DONE},
                                           {1, VERDICT_PLACED},
                                           {3, VERDICT_SAME},
                                           {1ULL << 60, VERDICT_SAME}};
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++) {
        judge_start(&j, true);
        assert_int_equal(record_flush(&j.r), GW_OK);
        judge_until(&j, RECORD_ENTRY, 2);
        judge_say(&j, RECORD_VERDICT, 2, verdicts[i][0], verdicts[i][1]);
        expect_left(&j, "VERDICT that does not");
    }
    judge_start(&j, true);
    assert_int_equal(record_flush(&j.r), GW_OK);
    judge_until(&j, RECORD_ENTRY, 2);
    judge_say(&j, RECORD_VERDICT, 2, 1, VERDICT_WHOLE);
    judge_say(&j, RECORD_VERDICT, 2, 1, VERDICT_WHOLE);
    expect_left(&j, "VERDICT that does not");
}

static void test_chunks_that_cannot_be(void **state)
{
    (void)state;
    make_small_tree();
    struct judge j;
    uint8_t chunk[36] = {0};
    for (int i = 0; i < 3; i++) {
        judge_start(&j, true);
        assert_int_equal(record_flush(&j.r), GW_OK);
        judge_until(&j, RECORD_ENTRY, 2);
        judge_say(&j, RECORD_VERDICT, 2, 1, VERDICT_BASIS);
        assert_int_equal(record_flush(&j.r), GW_OK);
        judge_until(&j, RECORD_LIST, 1);
        chunk[35] = i == 0 ? 0 : 1;
        judge_basis(&j, 1, i == 1 ? 2 : 0, chunk, i == 2 ? 35 : 36, true);
        expect_left(&j, "chunks that cannot be");
    }
}

/* Refusals, again and again: each file is tried so many times, then it has failed. */
static void test_a_receiver_that_is_never_content(void **state)
{
    (void)state;
    make_small_tree();
    struct judge j;
    judge_start(&j, true);
    assert_int_equal(record_flush(&j.r), GW_OK);
    judge_until(&j, RECORD_ENTRY, 2);
    judge_say(&j, RECORD_VERDICT, 2, 0, VERDICT_DONE);
    judge_fail(&j, 2, GW_EDENIED, "not here\x1b[2J");
    unsigned starts = 0;
    for (int i = 0; i < LIMIT_TRANSFER_TRIES; i++) {
        judge_say(&j, RECORD_VERDICT, 2, 1, VERDICT_WHOLE);
        assert_int_equal(record_flush(&j.r), GW_OK);
        judge_until(&j, RECORD_START, 1);
        starts++;
        judge_fail(&j, 1, GW_ECORRUPT, "it does not verify");
        assert_int_equal(record_flush(&j.r), GW_OK);
        if (i + 1 < LIMIT_TRANSFER_TRIES) {
            judge_until(&j, RECORD_ENTRY, 1);
        }
    }
    struct record rec;
    do {
        assert_int_equal(record_next(&j.r, &rec), GW_OK);
    } while (rec.kind != RECORD_FINISH);
    judge_say(&j, RECORD_FINISHED, 2, 0, 0);
    assert_int_equal(record_flush(&j.r), GW_OK);
    while (record_next(&j.r, &rec) == GW_OK) {
    }
    judge_end(&j);
    assert_int_equal(starts, LIMIT_TRANSFER_TRIES);
    assert_int_equal(j.s.failures, 2);
    assert_null(strchr(j.s.failed_why, '\x1b'));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_records_out_of_order),
        TEST(test_a_session_of_another_version),
        TEST(test_content_that_breaks_the_rules),
        TEST(test_copies_of_what_is_not_there),
        TEST(test_compressed_bombs),
        TEST(test_wrong_digests_fail_the_file_alone),
        TEST(test_paths_that_lead_out_fail_alone),
        TEST(test_more_entries_than_may_wait),
        TEST(test_a_sender_that_ends_anywhere),
        TEST(test_a_connection_that_alters_bytes),
        TEST(test_answers_that_make_no_sense),
        TEST(test_chunks_that_cannot_be),
        TEST(test_a_receiver_that_is_never_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
