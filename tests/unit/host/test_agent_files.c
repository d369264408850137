/* Files that travel with agents: sessions over a stream that breaks, alters, or speaks nonsense. */
/* Its names are those of connections of the host, too. */
#define stream          pipe_end
#define stream_read     pipe_read
#define stream_write    pipe_write
#define stream_wait     pipe_wait
#define stream_describe pipe_describe
#define stream_over     pipe_over
#define stream_pair     pipe_pair
#define stream_close    pipe_close
#include "tests/unit/files/stream_rig.h"
#undef stream
#undef stream_read
#undef stream_write
#undef stream_wait
#undef stream_describe
#undef stream_over
#undef stream_pair
#undef stream_close

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "host/agent_files_inner.h"
#include "host/core/env.h"
#include "protocol/base/mp.h"

#define BIG (3 * 1024 * 1024 + 17)

struct rig {
    char dir[64], data[80], folder[96], in_dir[96];
    struct roots *roots;
    struct incoming *incoming;
    uint64_t quota;
    struct host_id from;
    gw_id ticket, agent;
    struct carried_job job;
    struct pipe_end a, b; /* the sender's end, the other */
    struct gw_error why;  /* of the other */
    gw_err taken;
};

static void put_file(const char *path, size_t n, uint64_t seed)
{
    uint8_t *bytes = malloc(n + 8);
    assert_non_null(bytes);
    noise_fill(seed, bytes, n + 8);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    free(bytes);
}

static void add(struct rig *r, const char *name, size_t n)
{
    struct carried_file *f = &r->job.files[r->job.count++];
    (void)snprintf(f->name, sizeof f->name, "%s", name);
    (void)snprintf(f->path, sizeof f->path, "%s/%s.src", r->data, name);
    put_file(f->path, n, n + 1);
}

static struct rig *rig_open(void)
{
    struct rig *r = calloc(1, sizeof *r);
    const char *root;
    assert_non_null(r);
    (void)snprintf(r->dir, sizeof r->dir, "/tmp/gw-files-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    (void)snprintf(r->data, sizeof r->data, "%s/data", r->dir);
    (void)snprintf(r->folder, sizeof r->folder, "%s/agent", r->dir);
    (void)snprintf(r->in_dir, sizeof r->in_dir, "%s/incoming", r->dir);
    assert_int_equal(mkdir(r->data, 0700) | mkdir(r->folder, 0700), 0);
    root = r->data;
    assert_int_equal(roots_open(&root, 1, &r->roots, NULL), GW_OK);
    assert_int_equal(incoming_open(r->in_dir, r->quota, &r->incoming, NULL), GW_OK);
    memset(&r->from, 7, sizeof r->from);
    memset(&r->ticket, 1, sizeof r->ticket);
    memset(&r->agent, 2, sizeof r->agent);
    r->job = (struct carried_job){.roots = r->roots,
                                  .incoming = r->incoming,
                                  .ticket = r->ticket,
                                  .agent = r->agent,
                                  .self = r->from};
    r->job.files = calloc(8, sizeof *r->job.files);
    assert_non_null(r->job.files);
    (void)snprintf(r->job.folder, sizeof r->job.folder, "%s", r->folder);
    assert_int_equal(incoming_expect(r->incoming, &r->from, &r->ticket, &r->agent, 0, NULL), GW_OK);
    return r;
}

static void rig_close(struct rig *r)
{
    char command[128];
    incoming_close(r->incoming);
    roots_close(r->roots);
    free(r->job.files);
    (void)snprintf(command, sizeof command, "%s", r->dir);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execlp("rm", "rm", "-rf", command, (char *)NULL);
        _exit(1);
    }
    assert_true(pid > 0);
    free(r);
}

static void *take(void *arg)
{
    struct rig *r = arg;
    struct bulk_request request = {.peer = r->from, .why = &r->why};
    r->taken = agent_files_take(r->incoming, &request, &r->b.io);
    pipe_close(&r->b);
    return NULL;
}

/* A length that was altered makes both ends wait: not for as long as in life. */
static gw_err wait_briefly(void *ctx, bool to_read, bool to_write, int timeout_ms)
{
    return pipe_wait(ctx, to_read, to_write, timeout_ms > 1000 ? 1000 : timeout_ms);
}

static pthread_t begin(struct rig *r)
{
    pthread_t thread;
    pipe_pair(&r->a, &r->b);
    r->a.io.wait = r->b.io.wait = wait_briefly;
    assert_int_equal(pthread_create(&thread, NULL, take, r), 0);
    return thread;
}

static gw_err session(struct rig *r, uint64_t cut_at, uint64_t alter_at)
{
    struct gw_error why = {0};
    pthread_t thread = begin(r);
    r->a.cut_at = cut_at;
    r->a.alter_at = alter_at;
    gw_err err = carried_send(&r->a.io, &r->job, &why);
    pipe_close(&r->a);
    pthread_join(thread, NULL);
    return err;
}

static gw_err verify(struct rig *r)
{
    struct wanted_file *want = calloc(r->job.count + 1, sizeof *want);
    struct gw_error why;
    assert_non_null(want);
    for (size_t i = 0; i < r->job.count; i++) {
        memcpy(want[i].name, r->job.files[i].name, sizeof want[i].name);
        want[i].size = r->job.files[i].fact.size;
        memcpy(want[i].hash, r->job.files[i].fact.hash, sizeof want[i].hash);
    }
    incoming_shut(r->incoming, &r->ticket, &r->agent, false);
    gw_err err = incoming_verify(r->incoming, &r->ticket, &r->agent, want, r->job.count, &why);
    free(want);
    return err;
}

static void path_in(const struct rig *r, const char *name, char ret[PATH_MAX])
{
    char *folder = incoming_path(r->incoming, &r->ticket, &r->agent);
    (void)snprintf(ret, PATH_MAX, "%s/%s", folder, name);
    free(folder);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    uint8_t *p = malloc(BIG), *q = malloc(BIG);
    int fa = open(a, O_RDONLY | O_CLOEXEC), fb = open(b, O_RDONLY | O_CLOEXEC);
    bool same = fa >= 0 && fb >= 0 && fstat(fa, &x) == 0 && fstat(fb, &y) == 0 &&
                x.st_size == y.st_size && x.st_mtim.tv_nsec == y.st_mtim.tv_nsec &&
                x.st_mtim.tv_sec == y.st_mtim.tv_sec && x.st_mode == y.st_mode &&
                read(fa, p, BIG) == x.st_size && read(fb, q, BIG) == x.st_size &&
                memcmp(p, q, (size_t)x.st_size) == 0;
    close(fa);
    close(fb);
    free(p);
    free(q);
    return same;
}

static void expect_whole(struct rig *r)
{
    char path[PATH_MAX];
    assert_int_equal(verify(r), GW_OK);
    for (size_t i = 0; i < r->job.count; i++) {
        path_in(r, r->job.files[i].name, path);
        assert_true(same_file(r->job.files[i].path, path));
    }
}

static void test_whole(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    add(r, "empty", 0);
    add(r, "a b\xc3\xa4", 100);
    add(r, "big", BIG);
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = -5, .tv_nsec = 12}};
    assert_int_equal(utimensat(AT_FDCWD, r->job.files[1].path, times, 0), 0);
    assert_int_equal(chmod(r->job.files[2].path, 0400), 0);
    r->a.most = 1000;
    assert_int_equal(session(r, 0, 0), GW_OK);
    assert_int_equal(session(r, 0, 0), GW_OK); /* again: what is whole is only compared */
    assert_true(r->a.written < 2000);
    put_file(r->job.files[1].path, 50, 9);
    assert_int_equal(session(r, 0, 0), GW_OK);
    expect_whole(r);
    rig_close(r);
}

static struct rig *asks_while_flushing;
static unsigned flushes;

/* In place of that of the C library: a disk may take long, and the loop asks meanwhile. */
int fsync(int fd)
{
    if (asks_while_flushing) {
        struct rig *r = asks_while_flushing;
        struct host_id from;
        flushes++;
        (void)incoming_comes(r->incoming, &r->ticket, &r->agent, &from);
    }
    return fdatasync(fd);
}

/* What was dropped meanwhile goes, and nobody waits for the disk but who has asked. */
static void test_others_go(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    char path[PATH_MAX];
    add(r, "kept", 10);
    add(r, "gone", 20);
    assert_int_equal(session(r, 0, 0), GW_OK);
    path_in(r, "gone", path);
    assert_int_equal(access(path, F_OK), 0);
    r->job.count = 1;
    flushes = 0;
    asks_while_flushing = r;
    assert_int_equal(verify(r), GW_OK);
    asks_while_flushing = NULL;
    assert_int_equal(flushes, 3); /* its folder, that of the ticket, that of all */
    assert_int_equal(access(path, F_OK), -1);
    path_in(r, "kept", path);
    assert_int_equal(access(path, F_OK), 0);
    rig_close(r);
}

/* Broken anywhere: the next session goes on where it was. */
static void test_cut(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    add(r, "first", 300);
    add(r, "big", BIG);
    assert_int_equal(session(r, 20, 0), GW_EUNREACHABLE);
    for (uint64_t at = 40; at < 2000; at += 37) {
        assert_int_not_equal(session(r, at, 0), GW_OK);
        assert_int_not_equal(r->taken, GW_EPROTO);
    }
    assert_int_equal(session(r, BIG / 2, 0), GW_EUNREACHABLE);
    assert_int_equal(session(r, 0, 0), GW_OK);
    assert_true(r->a.written < BIG / 2 + 100000); /* some of the first half was on its way */
    expect_whole(r);
    rig_close(r);
}

/* A byte that is another when it arrives is noticed, wherever it is. */
static void test_altered(void **state)
{
    (void)state;
    for (uint64_t at = 1; at < 700; at += 9) {
        struct rig *r = rig_open();
        add(r, "one", 400);
        gw_err err = session(r, 0, at);
        if (err == GW_OK) { /* time and permissions: TLS looks after these */
            assert_true(at < 120 || at > r->a.written);
        } else {
            assert_int_not_equal(verify(r), GW_OK);
        }
        rig_close(r);
    }
}

static void test_others_are_refused(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    struct gw_error why;
    struct incoming_visit *v;
    struct host_id other = {{9}};
    gw_id unknown = {{3}};
    add(r, "one", 400);
    assert_int_equal(incoming_enter(r->incoming, &other, &r->ticket, &r->agent, &v, &why),
                     GW_EREFUSED);
    assert_int_equal(incoming_enter(r->incoming, &r->from, &unknown, &r->agent, &v, &why),
                     GW_EREFUSED);
    assert_int_equal(incoming_enter(r->incoming, &r->from, &r->ticket, &r->agent, &v, &why), GW_OK);
    incoming_shut(r->incoming, &r->ticket, &r->agent, false);
    struct incoming_meta meta = {.name = "late", .size = 1};
    uint64_t have;
    assert_int_equal(incoming_begin(v, &meta, &have, &why), GW_ECANCELLED);
    incoming_leave(v);
    assert_int_equal(session(r, 0, 0), GW_EREFUSED);
    assert_int_not_equal(verify(r), GW_OK);
    rig_close(r);
}

/* What was begun before the folder was shut goes no further than the next look. */
static void test_what_nobody_waits_for_fills_no_disk(void **state)
{
    (void)state;
    enum { BLOCK = 1024 * 1024, LIMIT = 9 };
    struct rig *r = rig_open();
    struct incoming_visit *v;
    struct incoming_meta meta = {.name = "late", .size = 1ull << 30};
    uint64_t have;
    struct gw_error why;
    uint8_t *block = calloc(1, BLOCK);
    assert_non_null(block);
    assert_int_equal(incoming_enter(r->incoming, &r->from, &r->ticket, &r->agent, &v, NULL), GW_OK);
    assert_int_equal(incoming_begin(v, &meta, &have, NULL), GW_OK);
    assert_int_equal(incoming_write(v, block, BLOCK, &why), GW_OK);
    incoming_shut(r->incoming, &r->ticket, &r->agent, false);
    gw_err err = GW_OK;
    for (int i = 0; i < LIMIT && err == GW_OK; i++) {
        err = incoming_write(v, block, BLOCK, &why);
    }
    assert_int_equal(err, GW_ECANCELLED);
    incoming_leave(v);
    free(block);
    rig_close(r);
}

/* More than the disk, or the quota of a folder, has room for: however little was offered. */
static void test_too_much_is_refused_at_its_begin(void **state)
{
    (void)state;
    struct incoming *in;
    struct rig *r = rig_open();
    struct incoming_visit *v;
    struct gw_error why;
    uint64_t have;
    struct incoming_meta meta = {.name = "huge", .size = INT64_MAX};
    assert_int_equal(incoming_enter(r->incoming, &r->from, &r->ticket, &r->agent, &v, NULL), GW_OK);
    assert_int_equal(incoming_begin(v, &meta, &have, &why), GW_EDISK_FULL);
    meta = (struct incoming_meta){.name = "small", .size = 10};
    assert_int_equal(incoming_begin(v, &meta, &have, &why), GW_OK);
    incoming_leave(v);
    assert_int_equal(incoming_open(r->in_dir, 100, &in, NULL), GW_OK);
    assert_int_equal(incoming_expect(in, &r->from, &r->ticket, &r->agent, 0, NULL), GW_OK);
    assert_int_equal(incoming_enter(in, &r->from, &r->ticket, &r->agent, &v, NULL), GW_OK);
    meta = (struct incoming_meta){.name = "a", .size = 101};
    assert_int_equal(incoming_begin(v, &meta, &have, &why), GW_EREFUSED);
    assert_non_null(strstr(why.text, "quota"));
    meta.size = 60;
    assert_int_equal(incoming_begin(v, &meta, &have, &why), GW_OK);
    incoming_leave(v);
    assert_int_equal(incoming_enter(in, &r->from, &r->ticket, &r->agent, &v, NULL), GW_OK);
    struct incoming_meta other = {.name = "b", .size = 41};
    assert_int_equal(incoming_begin(v, &other, &have, &why), GW_EREFUSED);
    meta.size = 100; /* in its own place */
    assert_int_equal(incoming_begin(v, &meta, &have, &why), GW_OK);
    incoming_leave(v);
    incoming_close(in);
    rig_close(r);
}

/* An offer alone leaves nothing on the disk, and is no work for the loop. */
static void test_an_offer_makes_no_folder(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    struct incoming_visit *v;
    char path[PATH_MAX];
    path_in(r, "", path);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(verify(r), GW_OK); /* of nothing */
    assert_int_equal(incoming_expect(r->incoming, &r->from, &r->ticket, &r->agent, 0, NULL), GW_OK);
    assert_int_equal(incoming_enter(r->incoming, &r->from, &r->ticket, &r->agent, &v, NULL), GW_OK);
    assert_int_equal(access(path, F_OK), 0);
    incoming_leave(v);
    assert_int_equal(incoming_drop(r->incoming, &r->ticket, &r->agent, NULL), GW_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    rig_close(r);
}

/* What was written in this very tick of the clock is read when that is over: a second change shows.
 */
static void test_what_is_hot_is_read_later(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    struct timespec now;
    add(r, "hot", 300);
    assert_int_equal(session(r, 0, 0), GW_OK);
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    assert_true(ms - r->job.files[0].fact.ctime_ns / 1000000 >= 19);
    rig_close(r);
}

/* ---- nonsense ---- */

static gw_err say(struct rig *r, const void *bytes, size_t n)
{
    pthread_t thread = begin(r);
    (void)!send(r->a.fd, bytes, n, MSG_NOSIGNAL);
    shutdown(r->a.fd, SHUT_WR);
    uint8_t sink[256];
    while (recv(r->a.fd, sink, sizeof sink, 0) > 0) {
    }
    pthread_join(thread, NULL);
    pipe_close(&r->a);
    return r->taken;
}

static void put_record(struct buf *out, struct buf *record)
{
    const uint8_t head[4] = {0, 0, (uint8_t)(record->len >> 8), (uint8_t)record->len};
    buf_add(out, head, sizeof head);
    buf_add(out, record->data, record->len);
    buf_free(record);
}

static void put_opening(const struct rig *r, struct buf *out)
{
    struct buf b = {0};
    mp_array(&b, 3);
    mp_uint(&b, 1);
    mp_id(&b, &r->ticket);
    mp_id(&b, &r->agent);
    put_record(out, &b);
}

static void test_nonsense(void **state)
{
    (void)state;
    static const char *const names[] = {"",    ".",    "..",       "a/b", "../x", "/etc/passwd",
                                        "a\n", "\xff", ".godwit-x"};
    struct rig *r = rig_open();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct buf out = {0}, b = {0};
        put_opening(r, &out);
        mp_array(&b, 5);
        mp_str(&b, names[i]);
        mp_uint(&b, 1);
        mp_int(&b, 0);
        mp_uint(&b, 0600);
        mp_bin(&b, "0123456789abcdef", 16);
        put_record(&out, &b);
        assert_int_equal(say(r, out.data, out.len), GW_EPROTO);
        size_t opening = 0;
        for (size_t cut = 0; cut < out.len; cut++) { /* only behind a whole record it may end */
            opening += say(r, out.data, cut) == GW_OK;
        }
        assert_int_equal(opening, 1);
        buf_free(&out);
    }
    uint64_t seed = 5;
    for (int i = 0; i < 300; i++) {
        uint8_t bytes[200];
        struct buf out = {0};
        noise_fill(noise(&seed), bytes, sizeof bytes);
        if (i % 2) {
            put_opening(r, &out);
        }
        if (i % 4 == 3) { /* a length that may be */
            bytes[0] = bytes[1] = bytes[2] = 0;
        }
        buf_add(&out, bytes, sizeof bytes);
        assert_int_not_equal(say(r, out.data, out.len), GW_OK);
        buf_free(&out);
    }
    struct env_folder *folders;
    size_t n;
    assert_int_equal(incoming_list(r->incoming, &folders, &n), GW_OK);
    assert_int_equal(n, 1);
    free(folders);
    assert_int_equal(incoming_drop(r->incoming, &r->ticket, &r->agent, NULL), GW_OK);
    assert_int_equal(incoming_list(r->incoming, &folders, &n), GW_OK);
    assert_int_equal(n, 0);
    rig_close(r);
}

/* ---- at the source ---- */

static void test_check_and_remove(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    char link[128];
    add(r, "same", 10);
    add(r, "changed", 10);
    add(r, "gone", 10);
    add(r, "link", 10);
    struct carried_file *f = r->job.files;
    assert_int_equal(carried_check(NULL, &r->job, NULL), GW_OK);
    for (size_t i = 0; i < r->job.count; i++) {
        assert_int_equal(f[i].fact.err, GW_OK);
        f[i].was = f[i].fact;
    }
    put_file(f[1].path, 10, 77);
    assert_int_equal(unlink(f[2].path), 0);
    (void)snprintf(link, sizeof link, "%s/other", r->data);
    assert_int_equal(rename(f[3].path, link) | symlink("other", f[3].path), 0);
    assert_int_equal(carried_check(NULL, &r->job, NULL), GW_OK);
    assert_int_equal(f[2].fact.err, GW_ENOT_FOUND);
    assert_int_equal(f[3].fact.err, GW_EREFUSED);
    assert_int_equal(carried_remove(NULL, &r->job, NULL), GW_OK);
    assert_int_equal(f[0].fact.err, GW_OK);
    assert_int_equal(f[1].fact.err, GW_ECONFLICT);
    assert_int_equal(f[2].fact.err, GW_OK);
    assert_int_equal(f[3].fact.err, GW_ECONFLICT);
    assert_int_not_equal(access(f[0].path, F_OK), 0);
    assert_int_equal(access(f[1].path, F_OK) | access(link, F_OK), 0);
    (void)snprintf(f[0].path, sizeof f[0].path, "/etc/passwd");
    (void)snprintf(f[1].path, sizeof f[1].path, "nothing"); /* of the work folder */
    r->job.count = 2;
    assert_int_equal(carried_check(NULL, &r->job, NULL), GW_OK);
    assert_int_equal(f[0].fact.err, GW_EDENIED);
    assert_int_equal(f[1].fact.err, GW_ENOT_FOUND);
    rig_close(r);
}

static void test_copy_on_this_host(void **state)
{
    (void)state;
    struct rig *r = rig_open();
    struct gw_error why;
    add(r, "big", BIG);
    assert_int_equal(carried_copy(NULL, &r->job, &why), GW_OK);
    expect_whole(r);
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_others_go),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_altered),
        cmocka_unit_test(test_others_are_refused),
        cmocka_unit_test(test_what_nobody_waits_for_fills_no_disk),
        cmocka_unit_test(test_too_much_is_refused_at_its_begin),
        cmocka_unit_test(test_an_offer_makes_no_folder),
        cmocka_unit_test(test_what_is_hot_is_read_later),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_check_and_remove),
        cmocka_unit_test(test_copy_on_this_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
