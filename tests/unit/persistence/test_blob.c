#include "persistence/blob.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "protocol/limits.h"
#include "tests/unit/persistence/scratch.h"

/* --- a disk that fails to flush: the program's own fsync stands before the C library's --- */
static int flush_error; /* errno of each fsync; 0 = works */

__attribute__((visibility("default"))) int fsync(int fd)
{
    if (flush_error) {
        errno = flush_error;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

struct world {
    struct scratch dir;
    struct blob_dir blobs;
    char path[256];
};

static int make(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    scratch_make(&w->dir);
    scratch_path(&w->dir, "blobs", w->path);
    assert_int_equal(blob_dir_open(&w->blobs, w->path, NULL), GW_OK);
    *state = w;
    return 0;
}

static int drop(void **state)
{
    struct world *w = *state;
    flush_error = 0;
    blob_dir_close(&w->blobs);
    scratch_remove(&w->dir);
    free(w);
    return 0;
}

static uint8_t content[700000];

static void fill_content(void)
{
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = (uint8_t)(i * 31 + (i >> 9));
    }
}

static struct span bytes(size_t n)
{
    return (struct span){content, n};
}

static void assert_reads(struct world *w, const struct blob_ref *ref, size_t n)
{
    struct buf got = {0};
    assert_int_equal(blob_read(&w->blobs, ref, &got), GW_OK);
    assert_int_equal(got.len, n);
    if (n > 0) {
        assert_memory_equal(got.data, content, n);
    }
    buf_free(&got);
}

static void assert_unreadable(struct world *w, const struct blob_ref *ref)
{
    struct buf got = {0};
    assert_int_equal(blob_read(&w->blobs, ref, &got), GW_ECORRUPT);
    buf_free(&got);
}

static void file_path(struct world *w, const struct blob_ref *ref, char ret[512])
{
    snprintf(ret, 512, "%s/%s", w->path, ref->name);
}

/* --- tests --- */
static void writes_and_reads_back(void **state)
{
    struct world *w = *state;
    const size_t sizes[] = {0, 1, 4096, sizeof content};
    struct blob_ref refs[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(blob_write(&w->blobs, bytes(sizes[i]), &refs[i]), GW_OK);
        assert_int_equal(refs[i].size, sizes[i]);
        assert_true(blob_name_is_valid(refs[i].name, strlen(refs[i].name)));
    }
    assert_int_equal(blob_sync(&w->blobs), GW_OK);
    assert_int_equal(blob_sync(&w->blobs), GW_OK);
    for (int i = 0; i < 4; i++) {
        assert_reads(w, &refs[i], sizes[i]);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(refs[i].name, refs[j].name);
        }
    }
    assert_int_equal(scratch_count(&w->dir, "blobs"), 4); /* no .part left */
    blob_remove(&w->blobs, refs[0].name);
    blob_remove(&w->blobs, refs[0].name); /* gone already: nothing to say */
    assert_unreadable(w, &refs[0]);
    assert_int_equal(scratch_count(&w->dir, "blobs"), 3);
}

static void reading_replaces_the_buffer(void **state)
{
    struct world *w = *state;
    struct blob_ref ref;
    assert_int_equal(blob_write(&w->blobs, bytes(5000), &ref), GW_OK);
    struct buf got = {0};
    buf_add(&got, "before", 6);
    assert_int_equal(blob_read(&w->blobs, &ref, &got), GW_OK);
    assert_int_equal(got.len, 5000);
    assert_memory_equal(got.data, content, 5000);
    buf_free(&got);
}

static void a_link_outlives_its_source(void **state)
{
    struct world *w = *state;
    struct blob_ref first, second;
    assert_int_equal(blob_write(&w->blobs, bytes(9000), &first), GW_OK);
    assert_int_equal(blob_link(&w->blobs, &first, &second), GW_OK);
    assert_string_not_equal(first.name, second.name);
    char path[512];
    struct stat st;
    file_path(w, &second, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_nlink, 2);
    blob_remove(&w->blobs, first.name);
    assert_reads(w, &second, 9000);
    assert_int_equal(blob_link(&w->blobs, &first, &second), GW_ECORRUPT);
    assert_int_equal(scratch_count(&w->dir, "blobs"), 1);
}

static void damage_is_seen(void **state)
{
    struct world *w = *state;
    struct blob_ref ref;
    char path[512];
    assert_int_equal(blob_write(&w->blobs, bytes(9000), &ref), GW_OK);
    struct blob_ref other = ref;
    other.size++;
    assert_unreadable(w, &other);
    other = ref;
    other.size = UINT64_MAX; /* no memory is asked for what the file does not hold */
    assert_unreadable(w, &other);
    other = ref;
    other.hash++;
    assert_unreadable(w, &other);
    file_path(w, &ref, path);
    assert_int_equal(truncate(path, 8999), 0);
    assert_unreadable(w, &ref);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_unreadable(w, &ref);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_unreadable(w, &ref);
}

static void names_are_checked(void **state)
{
    struct world *w = *state;
    const char *const bad[] = {"",
                               "../store.db",
                               "0123456789abcdef0000000",
                               "/etc/passwd",
                               "0123456789ABCDEF00000000",
                               "0123456789abcdef0000000/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct blob_ref ref = {.size = 1};
        snprintf(ref.name, sizeof ref.name, "%s", bad[i]);
        assert_false(blob_name_is_valid(bad[i], strlen(bad[i])));
        assert_unreadable(w, &ref);
    }
    assert_true(blob_name_is_valid("0123456789abcdef00000000", 24));
    assert_false(blob_name_is_valid("0123456789abcdef000000000", 25));
}

static void sweep_keeps_what_is_named(void **state)
{
    struct world *w = *state;
    struct blob_ref refs[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(blob_write(&w->blobs, bytes(10), &refs[i]), GW_OK);
    }
    scratch_write(&w->dir, "blobs/0123456789abcdef00000000.part", "x", 1);
    scratch_write(&w->dir, "blobs/notes.txt", "x", 1);
    /* The middle one is not named; one name has no file. Names count up, so they are sorted. */
    char names[3 * BLOB_NAME_BYTES];
    memcpy(names, refs[0].name, BLOB_NAME_BYTES);
    memcpy(names + BLOB_NAME_BYTES, refs[2].name, BLOB_NAME_BYTES);
    memset(names + BLOB_NAME_BYTES * 2, 'f', BLOB_NAME_BYTES);
    size_t removed, missing;
    assert_int_equal(blob_sweep(&w->blobs, names, 3, &removed, &missing, NULL), GW_OK);
    assert_int_equal(removed, 2);
    assert_int_equal(missing, 1);
    assert_reads(w, &refs[0], 10);
    assert_unreadable(w, &refs[1]);
    assert_reads(w, &refs[2], 10);
    bool used = false;
    assert_int_equal(blob_dir_used(&w->blobs, &used, NULL), GW_OK);
    assert_true(used);
    assert_int_equal(blob_sweep(&w->blobs, NULL, 0, &removed, &missing, NULL), GW_OK);
    assert_int_equal(removed, 2);
    assert_int_equal(missing, 0);
    assert_int_equal(blob_dir_used(&w->blobs, &used, NULL), GW_OK);
    assert_false(used);
    assert_int_equal(scratch_count(&w->dir, "blobs"), 1); /* notes.txt */
}

static void opening_errors_name_the_folder(void **state)
{
    struct world *w = *state;
    struct blob_dir d = {.fd = -1};
    struct gw_error why = {0};
    char path[256];
    assert_int_equal(blob_dir_open(&d, scratch_path(&w->dir, "no/such", path), &why), GW_EIO);
    assert_non_null(strstr(why.text, path));
    scratch_write(&w->dir, "file", "x", 1);
    assert_int_equal(blob_dir_open(&d, scratch_path(&w->dir, "file", path), &why), GW_EIO);
    assert_non_null(strstr(why.text, path));
    assert_null(d.path);
    blob_dir_close(&d);
}

static void no_descriptor_left_is_busy(void **state)
{
    struct world *w = *state;
    struct blob_ref ref, other;
    struct buf got = {0};
    assert_int_equal(blob_write(&w->blobs, bytes(10), &ref), GW_OK);
    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    gw_err write_err = blob_write(&w->blobs, bytes(10), &other);
    gw_err read_err = blob_read(&w->blobs, &ref, &got);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(write_err, GW_EBUSY);
    assert_int_equal(read_err, GW_EBUSY);
    assert_reads(w, &ref, 10);
    buf_free(&got);
}

static void full_disk_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct blob_ref ref;
    flush_error = ENOSPC; /* some file systems say it as late as this */
    assert_int_equal(blob_write(&w->blobs, bytes(10), &ref), GW_EDISK_FULL);
    flush_error = 0;
    assert_int_equal(scratch_count(&w->dir, "blobs"), 0);
    blob_dir_close(&w->blobs);
    if (!scratch_mount(&w->dir, "256k")) {
        skip();
    }
    assert_int_equal(blob_dir_open(&w->blobs, w->path, NULL), GW_OK);
    assert_int_equal(blob_write(&w->blobs, bytes(sizeof content), &ref), GW_EDISK_FULL);
    assert_int_equal(scratch_count(&w->dir, "blobs"), 0);
    assert_int_equal(blob_write(&w->blobs, bytes(100000), &ref), GW_OK);
    assert_reads(w, &ref, 100000);
}

static void failed_flush_ends_the_process(void **state)
{
    struct world *w = *state;
    for (int folder = 0; folder < 2; folder++) {
        int out[2];
        assert_int_equal(pipe(out), 0);
        pid_t child = fork();
        if (child == 0) {
            dup2(out[1], STDERR_FILENO);
            struct blob_ref ref;
            flush_error = folder ? 0 : EIO;
            gw_err err = blob_write(&w->blobs, bytes(10), &ref);
            flush_error = EIO;
            _exit(err || blob_sync(&w->blobs) ? 100 : 101);
        }
        close(out[1]);
        char text[2000] = "";
        size_t len = 0;
        ssize_t n;
        while ((n = read(out[0], text + len, sizeof text - 1 - len)) > 0) {
            len += (size_t)n;
        }
        close(out[0]);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 1);
        assert_non_null(strstr(text, "store.failed"));
        assert_non_null(strstr(text, w->path));
        if (!strstr(text, "cannot fsync")) {
            fail_msg("%s", text);
        }
        w->blobs.next += 10; /* past what the child left */
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, drop)

int main(void)
{
    fill_content();
    const struct CMUnitTest tests[] = {
        IN_FOLDER(writes_and_reads_back),
        IN_FOLDER(reading_replaces_the_buffer),
        IN_FOLDER(a_link_outlives_its_source),
        IN_FOLDER(damage_is_seen),
        IN_FOLDER(names_are_checked),
        IN_FOLDER(sweep_keeps_what_is_named),
        IN_FOLDER(opening_errors_name_the_folder),
        IN_FOLDER(no_descriptor_left_is_busy),
        IN_FOLDER(full_disk_leaves_nothing),
        IN_FOLDER(failed_flush_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
