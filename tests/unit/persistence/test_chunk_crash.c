/* A process that works with artifacts and ends in mid-write: by kill -9 at each place that the code
 * names, at random moments, or because the disk does not flush. After reopening, what was reported
 * is there and right, what was not is whole or absent, nothing is damaged, and nothing is left
 * over. The child reports on a pipe before and after each change. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "persistence/failpoint.h"
#include "tests/unit/persistence/chunks.h"

#define KINDS    4
#define MOST     4096 /* artifacts of one scratch folder */
#define CONTENT  (3 * MIB + 500)
#define DONE_ALL 53

static uint8_t *content; /* of the upload */
static uint8_t *one;     /* of the artifact that is looked at */

/* --- a disk whose n-th flush fails --- */
static int flushes_left; /* 0 = all work */

static int flush(int fd, long call)
{
    struct stat st;
    bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    if (flushes_left > 0 && !folder && --flushes_left == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return flush(fd, SYS_fsync);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return flush(fd, SYS_fdatasync);
}

/* --- what the child does --- */
/* The content of artifact number i, into `one`: some are large, many are the same. Its length. */
static size_t make_one(uint32_t i)
{
    static const size_t sizes[KINDS] = {3000, MIB + 5, 40000, 3 * MIB + 99};
    fill_content(one, sizes[i % KINDS], i % 11 + 100);
    return sizes[i % KINDS];
}

typedef enum event { PUT, REMOVING, REMOVED, PAUSED } event;

struct report {
    event what;
    uint32_t number; /* of an artifact; PAUSED: MiB of the upload */
    gw_id id;
};

static void say(int fd, event what, uint32_t number, gw_id id)
{
    struct report r;
    memset(&r, 0, sizeof r);
    r.what = what;
    r.number = number;
    r.id = id;
    if (write(fd, &r, sizeof r) != sizeof r) {
        _exit(60);
    }
}

static void must(gw_err err, int code)
{
    if (err) {
        _exit(code);
    }
}

static gw_id do_put(struct chunk_store *s, uint32_t i, int report)
{
    struct artifact_info info;
    struct artifact_meta meta = {.name = "part"};
    size_t n = make_one(i);
    must(put_meta(s, &meta, one, n, &info), 51);
    say(report, PUT, i, info.id);
    return info.id;
}

static void do_remove(struct chunk_store *s, gw_id id, uint32_t i, int report)
{
    say(report, REMOVING, i, id);
    must(artifact_remove(s, &id, NULL), 52);
    say(report, REMOVED, i, id);
}

/* The upload `id`, or a new one, gets a MiB more. */
static gw_id do_upload(struct chunk_store *s, gw_id id, bool is_new, int report)
{
    struct artifact_writer *w;
    struct artifact_meta meta = {.resumable = true};
    must(is_new ? artifact_writer_new(s, &meta, &w, NULL)
                : artifact_writer_resume(s, &id, &w, NULL),
         54);
    size_t at = (size_t)artifact_writer_size(w);
    if (at < CONTENT) {
        size_t n = CONTENT - at < MIB ? CONTENT - at : MIB;
        must(artifact_writer_add(w, content + at, n, NULL), 55);
        must(artifact_writer_pause(w, NULL), 56);
        say(report, PAUSED, (uint32_t)(artifact_writer_size(w) / MIB), artifact_writer_id(w));
    }
    id = artifact_writer_id(w);
    artifact_writer_free(w);
    return id;
}

/* Go on from number `i`, for `rounds`, or until something ends this process. */
static __attribute__((noreturn)) void child_main(const struct scratch *d, uint32_t i, int report,
                                                 const char *fail, int fail_flush, uint32_t rounds)
{
    struct chunk_options o = {0, 0, NULL, NULL};
    struct chunk_store *s;
    char path[256];
    gw_id mine[8] = {{{0}}}, upload = {{0}};
    bool more;
    must(chunk_store_open(scratch_path(d, "artifacts", path), &o, &s, NULL), 50);
    must(failpoint_open(fail, NULL), 49);
    flushes_left = fail_flush;
    for (uint32_t round = 0; round < rounds; round++, i++) {
        if (round >= 8 && (i - 8) % 4 != 0) {
            do_remove(s, mine[i % 8], i - 8, report);
        } /* else it stays for ever */
        mine[i % 8] = do_put(s, i, report);
        if (i % 2 == 0) {
            upload = do_upload(s, upload, round < 2, report);
        }
        for (more = i % 5 == 0; more;) {
            must(chunk_store_collect(s, &more, NULL), 57);
        }
    }
    _exit(DONE_ALL);
}

/* --- what the parent knows --- */
struct known {
    gw_id id;
    uint32_t number;
    event what;
};

struct world {
    struct scratch d;
    struct known *known;
    size_t count;
    gw_id upload;
    uint32_t upload_mib;
    bool has_upload;
};

static void learn(struct world *w, const struct report *r)
{
    if (r->what == PAUSED) {
        w->upload = r->id;
        w->upload_mib = r->number;
        w->has_upload = true;
        return;
    }
    if (r->what == PUT) {
        assert_true(w->count < MOST);
        w->known[w->count++] = (struct known){r->id, r->number, PUT};
        return;
    }
    for (size_t i = 0; i < w->count; i++) {
        if (memcmp(w->known[i].id.b, r->id.b, GW_ID_BYTES) == 0) {
            w->known[i].what = r->what;
        }
    }
}

/* Run a child; returns its status. `kill_after_us`: 0 = until it ends. */
static int run_child(struct world *w, const char *fail, int fail_flush, unsigned kill_after_us,
                     uint32_t rounds)
{
    int pipes[2], status;
    struct report r;
    assert_int_equal(pipe(pipes), 0);
    w->has_upload = false;
    pid_t child = fork();
    if (child == 0) {
        close(pipes[0]);
        child_main(&w->d, (uint32_t)w->count, pipes[1], fail, fail_flush, rounds);
    }
    close(pipes[1]);
    if (kill_after_us) {
        if (read(pipes[0], &r, sizeof r) == sizeof r) {
            learn(w, &r);
        }
        struct timespec pause = {0, (long)kill_after_us * 1000};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
    }
    while (read(pipes[0], &r, sizeof r) == sizeof r) {
        learn(w, &r);
    }
    close(pipes[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void check_upload(struct chunk_store *s, const struct world *w)
{
    struct artifact_writer *u;
    struct artifact_info info;
    OK(artifact_writer_resume(s, &w->upload, &u, &why));
    size_t at = (size_t)artifact_writer_size(u);
    assert_true(at >= (size_t)w->upload_mib * MIB);
    OK(artifact_writer_add(u, content + at, CONTENT - at, &why));
    OK(artifact_writer_finish(u, NULL, &info, &why));
    artifact_writer_free(u);
    struct chunk_hash want = chunk_hash_of(content, CONTENT);
    assert_memory_equal(info.hash.b, want.b, CHUNK_HASH_BYTES);
    assert_content(s, &info.id, content, CONTENT);
    OK(artifact_remove(s, &info.id, &why));
}

/* Those that nobody has reported are whole: the child ended between their commit and its report. */
static void check_unknown(struct chunk_store *s, const struct world *w,
                          const struct artifact_info *i)
{
    struct chunk_verified sums;
    struct seen_damage seen = {0};
    struct chunk_verify v = {.artifact = i->id, .on_damage = see_damage, .arg = &seen};
    for (size_t k = 0; k < w->count; k++) {
        if (memcmp(w->known[k].id.b, i->id.b, GW_ID_BYTES) == 0) {
            return;
        }
    }
    OK(chunk_store_verify(s, &v, &sums, &why));
    assert_int_equal(seen.count, 0);
    OK(artifact_remove(s, &i->id, &why));
}

static void check(struct world *w)
{
    struct chunk_store *s = open_chunks(&w->d);
    struct artifact_info info, *all = calloc(MOST, sizeof *all);
    struct seen_damage seen;
    size_t n;
    verify_all(s, &seen);
    assert_int_equal(seen.count, 0);
    for (size_t i = 0; i < w->count; i++) {
        const struct known *k = &w->known[i];
        gw_err err = artifact_info(s, &k->id, &info, NULL);
        if (k->what != REMOVING) {
            assert_int_equal(err, k->what == PUT ? GW_OK : GW_ENOT_FOUND);
        }
        if (!err) {
            size_t size = make_one(k->number);
            assert_content(s, &k->id, one, size);
            OK(artifact_remove(s, &k->id, &why));
        }
    }
    if (w->has_upload) {
        check_upload(s, w);
    }
    OK(artifact_list(s, NULL, NULL, all, MOST, &n, &why));
    for (size_t i = 0; i < n; i++) {
        check_unknown(s, w, &all[i]);
    }
    w->count = 0; /* all of them are removed now */
    collect_all(s);
    struct chunk_stats st = stats_of(s);
    assert_int_equal(st.artifacts, 0);
    if (st.uploads == 0) { /* one whose first report was lost may be left: it ends after a day */
        assert_int_equal(st.used_bytes, 0);
        assert_int_equal(scratch_count(&w->d, "artifacts/packs"), 0);
    }
    chunk_store_close(s);
    free(all);
}

static int make(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->known = calloc(MOST, sizeof *w->known);
    assert_non_null(w->known);
    scratch_make(&w->d);
    *state = w;
    return 0;
}

static int drop(void **state)
{
    struct world *w = *state;
    scratch_remove(&w->d);
    free(w->known);
    free(w);
    return 0;
}

static void killed_at_each_place(void **state)
{
    static const char *const places[] = {"pack.make", "pack.write", "pack.flush", "pack.folder",
                                         "pack.rows", "pack.named", "pack.remove"};
    struct world *w = *state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        unsigned killed = 0;
        for (unsigned pass = 1; pass < 12; pass += 1 + pass / 2) {
            char fail[64];
            snprintf(fail, sizeof fail, "%s:%u:kill", places[i], pass);
            int status = run_child(w, fail, 0, 0, 24);
            killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
            assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == DONE_ALL);
            check(w);
        }
        assert_true(killed > 0);
    }
}

static void killed_at_any_moment(void **state)
{
    struct world *w = *state;
    srandom(20265);
    for (int round = 0; round < 12; round++) {
        unsigned us = 1 + (unsigned)(random() % 60000);
        int status = run_child(w, NULL, 0, us, 4000);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        if (round % 3 == 2) { /* sometimes several deaths before anybody looks */
            check(w);
        }
    }
}

static void failed_flush_ends_the_process(void **state)
{
    struct world *w = *state;
    for (int n = 1; n <= 14; n++) {
        int status = run_child(w, NULL, n, 0, 24);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1); /* log_die, not a result */
        check(w);
    }
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, make, drop)

int main(void)
{
    content = new_content(CONTENT, 21);
    one = new_content(4 * MIB, 22);
    const struct CMUnitTest tests[] = {
        ON_DISK(killed_at_each_place),
        ON_DISK(killed_at_any_moment),
        ON_DISK(failed_flush_ends_the_process),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(content);
    free(one);
    return failed;
}
