#include "host/agent_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "host/agent_tree.h"
#include "protocol/base/buf.h"
#include "protocol/base/id.h"
#include "tests/unit/persistence/scratch.h"

#define PATIENCE_MS 20000

struct rig {
    struct scratch dir;
    struct agent_dirs *dirs;
    int fd;
    unsigned overs;
    dirs_kind over_kind;
    char over_name[80];
    unsigned asked, held; /* by a sweep */
    gw_id keep;
};

struct answer {
    unsigned times;
    gw_err err;
    char path[1500];
    uint64_t bytes, quota;
    struct gw_error why;
};

static void wake(void *arg)
{
    const struct rig *r = arg;
    uint64_t one = 1;
    assert_int_equal(write(r->fd, &one, sizeof one), sizeof one);
}

static void on_over(void *arg, dirs_kind kind, const char *name, uint64_t bytes, uint64_t quota)
{
    struct rig *r = arg;
    assert_true(bytes > quota && quota > 0);
    r->overs++;
    r->over_kind = kind;
    snprintf(r->over_name, sizeof r->over_name, "%s", name);
}

static void open_dirs(struct rig *r, uint64_t work, uint64_t storage)
{
    struct gw_error why;
    struct dirs_config c = {.host_dir = r->dir.path,
                            .work_quota = work,
                            .storage_quota = storage,
                            .wake = wake,
                            .on_over = on_over,
                            .arg = r};
    assert_int_equal(agent_dirs_open(&c, &r->dirs, &why), GW_OK);
}

static void begin(struct rig *r, uint64_t work, uint64_t storage)
{
    *r = (struct rig){.fd = eventfd(0, EFD_CLOEXEC)};
    assert_true(r->fd >= 0);
    scratch_make(&r->dir);
    open_dirs(r, work, storage);
}

static void end(struct rig *r)
{
    agent_dirs_close(r->dirs);
    scratch_remove(&r->dir);
    close(r->fd);
}

/* What the loop does when it is woken. */
static void turn(struct rig *r)
{
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    uint64_t count;
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(read(r->fd, &count, sizeof count), sizeof count);
    agent_dirs_complete(r->dirs);
}

static void on_answer(void *arg, gw_err err, const struct dirs_folder *folder,
                      const struct gw_error *why)
{
    struct answer *a = arg;
    a->times++;
    a->err = err;
    if (err == GW_OK) {
        snprintf(a->path, sizeof a->path, "%s", folder->path);
        a->bytes = folder->bytes;
        a->quota = folder->quota;
    } else {
        assert_null(folder);
        a->why = *why;
    }
}

static struct answer want(struct rig *r, dirs_kind kind, const char *name, bool look)
{
    struct answer a = {0};
    agent_dirs_want(r->dirs, kind, name, look, on_answer, &a);
    while (a.times == 0) {
        turn(r);
    }
    assert_int_equal(a.times, 1);
    return a;
}

static gw_id some_id(uint8_t number, char text[GW_ID_TEXT])
{
    gw_id id = {{0}};
    id.b[0] = 1;
    id.b[15] = number;
    (void)gw_id_text(&id, text);
    return id;
}

static void put(const char *folder, const char *name, size_t bytes)
{
    char path[1700];
    static const char data[4096] = {1};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    for (size_t done = 0; done < bytes; done += sizeof data) {
        assert_int_equal(write(fd, data, sizeof data), sizeof data);
    }
    assert_int_equal(fsync(fd), 0); /* blocks may be given late */
    close(fd);
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* --- the tests --- */

static void folders_are_made_on_first_use(void **state)
{
    struct rig r;
    char id[GW_ID_TEXT], path[256];
    struct stat st;
    (void)state;
    begin(&r, 0, 0);
    (void)some_id(1, id);
    scratch_path(&r.dir, "work/agents", path);
    assert_int_equal(scratch_count(&r.dir, "work/agents"), 0);
    struct answer a = want(&r, DIRS_WORK, id, false);
    assert_int_equal(a.err, GW_OK);
    assert_int_equal(a.quota, 0);
    assert_memory_equal(a.path, path, strlen(path));
    assert_int_equal(stat(a.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    put(a.path, "kept", 1);
    struct answer again = want(&r, DIRS_WORK, id, false);
    assert_string_equal(a.path, again.path);
    struct answer s = want(&r, DIRS_STORAGE, "counter", false);
    assert_int_equal(s.err, GW_OK);
    assert_non_null(strstr(s.path, "/storage/counter"));
    /* of an earlier start */
    agent_dirs_close(r.dirs);
    open_dirs(&r, 0, 0);
    again = want(&r, DIRS_WORK, id, false);
    snprintf(path, sizeof path, "%.200s/kept", again.path);
    assert_true(exists(path));
    end(&r);
}

static void a_removed_folder_begins_anew(void **state)
{
    struct rig r;
    char id[GW_ID_TEXT], path[1700];
    (void)state;
    begin(&r, 0, 0);
    gw_id agent = some_id(2, id);
    struct answer a = want(&r, DIRS_WORK, id, false);
    put(a.path, "old", 1);
    struct answer second = {0};
    agent_dirs_remove(r.dirs, &agent); /* both before the thread has had its turn, perhaps */
    agent_dirs_want(r.dirs, DIRS_WORK, id, false, on_answer, &second);
    while (second.times == 0) {
        turn(&r);
    }
    assert_int_equal(second.err, GW_OK);
    snprintf(path, sizeof path, "%s/old", second.path);
    assert_false(exists(path));
    assert_true(exists(second.path));
    agent_dirs_remove(r.dirs, &agent);
    agent_dirs_remove(r.dirs, &agent); /* one that is not there */
    agent_dirs_settle(r.dirs);
    assert_false(exists(second.path));
    assert_int_equal(scratch_count(&r.dir, "work/trash"), 0);
    end(&r);
}

static void a_folder_that_came_takes_the_place(void **state)
{
    struct rig r;
    struct answer got = {0}, again = {0};
    char id[GW_ID_TEXT], from[256], path[1700];
    (void)state;
    begin(&r, 1 << 20, 0);
    gw_id agent = some_id(5, id);
    struct answer old = want(&r, DIRS_WORK, id, false);
    put(old.path, "old", 1);
    assert_int_equal(mkdir(scratch_path(&r.dir, "come", from), 0700), 0);
    put(from, "new", 1);
    agent_dirs_adopt(r.dirs, &agent, from, on_answer, &got);
    agent_dirs_adopt(r.dirs, &agent, from, on_answer, &again);
    while (again.times == 0) {
        turn(&r);
    }
    assert_int_equal(got.err, GW_OK);
    assert_string_equal(got.path, old.path);
    assert_int_equal(again.err, GW_ENOT_FOUND);
    snprintf(path, sizeof path, "%s/old", old.path);
    assert_false(exists(path));
    snprintf(path, sizeof path, "%s/new", old.path);
    assert_true(exists(path));
    end(&r);
}

static void trees_of_any_form_go(void **state)
{
    struct rig r;
    char id[GW_ID_TEXT], name[64], path[256];
    (void)state;
    begin(&r, 0, 0);
    gw_id agent = some_id(3, id);
    struct answer a = want(&r, DIRS_WORK, id, false);
    scratch_write(&r.dir, "outside", "x", 1);
    scratch_path(&r.dir, "outside", path);
    int at = open(a.path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(symlinkat(r.dir.path, at, "to-a-folder"), 0);
    assert_int_equal(symlinkat(path, at, "to-a-file"), 0);
    assert_int_equal(mkfifoat(at, "fifo", 0600), 0);
    assert_int_equal(mkdirat(at, "closed", 0700), 0);
    put(a.path, "closed/in", 1);
    assert_int_equal(fchmodat(at, "closed", 0, 0), 0);
    for (int i = 0; i < 4 * AGENT_TREE_DEPTH; i++) { /* deeper than a walk goes */
        snprintf(name, sizeof name, "level-%d", i);
        assert_int_equal(mkdirat(at, name, 0700), 0);
        int next = openat(at, name, O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    close(at);
    agent_dirs_remove(r.dirs, &agent);
    agent_dirs_settle(r.dirs);
    assert_false(exists(a.path));
    assert_int_equal(scratch_count(&r.dir, "work/trash"), 0);
    assert_true(exists(path)); /* no link was followed */
    end(&r);
}

static void what_is_over_its_quota_is_refused(void **state)
{
    struct rig r;
    char id[GW_ID_TEXT], path[1700];
    (void)state;
    begin(&r, 256 * 1024, 0);
    (void)some_id(4, id);
    struct answer a = want(&r, DIRS_WORK, id, false);
    assert_int_equal(a.err, GW_OK);
    assert_int_equal(a.quota, 256 * 1024);
    put(a.path, "much", 512 * 1024);
    struct answer look = want(&r, DIRS_WORK, id, true);
    assert_int_equal(look.err, GW_OK);
    assert_true(look.bytes >= 512 * 1024);
    assert_int_equal(r.overs, 1);
    assert_string_equal(r.over_name, id);
    struct answer refused = want(&r, DIRS_WORK, id, false);
    assert_int_equal(refused.err, GW_ETOO_BIG);
    assert_non_null(strstr(refused.why.text, "its quota is 262144 bytes"));
    assert_non_null(strstr(refused.why.hint, "work_quota"));
    assert_int_equal(r.overs, 1); /* told once */
    snprintf(path, sizeof path, "%s/much", a.path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(want(&r, DIRS_WORK, id, false).err, GW_OK);
    put(a.path, "much", 512 * 1024);
    assert_int_equal(want(&r, DIRS_STORAGE, "x", false).err, GW_OK); /* of the other kind: none */
    while (r.overs < 2) { /* nobody asks: it is looked at while in use */
        turn(&r);
    }
    assert_int_equal(want(&r, DIRS_WORK, id, false).err, GW_ETOO_BIG);
    end(&r);
}

static void deep_folders_count_as_too_large(void **state)
{
    struct rig r;
    (void)state;
    begin(&r, 0, 1024 * 1024 * 1024);
    struct answer a = want(&r, DIRS_STORAGE, "deep", false);
    int at = open(a.path, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i <= AGENT_TREE_DEPTH; i++) {
        assert_int_equal(mkdirat(at, "d", 0700), 0);
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    close(at);
    agent_dirs_close(r.dirs); /* what was measured is forgotten */
    open_dirs(&r, 0, 1024 * 1024 * 1024);
    struct answer refused = {0};
    agent_dirs_want(r.dirs, DIRS_STORAGE, "deep", false, on_answer, &refused);
    agent_dirs_settle(r.dirs);
    agent_dirs_close(r.dirs); /* on_over is not called any more, the answer is given */
    assert_int_equal(refused.err, GW_ETOO_BIG);
    assert_non_null(strstr(refused.why.text, "deeper than"));
    open_dirs(&r, 0, 0);
    end(&r);
}

static bool keeps(void *arg, const gw_id *agent)
{
    struct rig *r = arg;
    r->asked++;
    bool held = gw_id_equal(agent, &r->keep);
    r->held += held;
    return held;
}

static void a_sweep_removes_orphans(void **state)
{
    enum { N = 600 }; /* some slices */
    struct rig r;
    char id[GW_ID_TEXT], path[256];
    (void)state;
    begin(&r, 0, 0);
    int at = open(scratch_path(&r.dir, "work/agents", path), O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < N; i++) {
        gw_id each = {{0}};
        each.b[0] = 2;
        each.b[14] = (uint8_t)(i >> 8);
        each.b[15] = (uint8_t)i;
        assert_int_equal(mkdirat(at, gw_id_text(&each, id), 0700), 0);
        r.keep = i == 333 ? each : r.keep;
    }
    assert_int_equal(mkdirat(at, "of-somebody-else", 0700), 0);
    close(at);
    agent_dirs_sweep(r.dirs, keeps, &r);
    while (r.asked < N || scratch_count(&r.dir, "work/agents") > 2) {
        agent_dirs_settle(r.dirs);
        agent_dirs_complete(r.dirs);
    }
    agent_dirs_settle(r.dirs);
    assert_int_equal(r.asked, N);
    assert_int_equal(r.held, 1);
    assert_int_equal(scratch_count(&r.dir, "work/agents"), 2);
    assert_int_equal(scratch_count(&r.dir, "work/trash"), 0);
    end(&r);
}

static bool keeps_all(void *arg, const gw_id *agent)
{
    (void)arg, (void)agent;
    return true;
}

static const char *folder_path(const struct rig *r, const char *name, char ret[256])
{
    char below[64];
    snprintf(below, sizeof below, "work/agents/%s", name);
    return scratch_path(&r->dir, below, ret);
}

static bool has_folder(const struct rig *r, const char *name)
{
    char path[256];
    return access(folder_path(r, name, path), F_OK) == 0;
}

/* Whoever had one at the start, or asked for one since, has one; the others cost no job. One that
 * is made behind the back of the host shows that there was none. */
static void who_has_no_folder_costs_nothing(void **state)
{
    (void)state;
    struct rig r;
    char old_name[GW_ID_TEXT], new_name[GW_ID_TEXT], other_name[GW_ID_TEXT], path[256];
    gw_id old_id = some_id(1, old_name), new_id = some_id(2, new_name),
          other = some_id(3, other_name);
    begin(&r, 0, 0);
    (void)want(&r, DIRS_WORK, old_name, false);
    agent_dirs_close(r.dirs);
    open_dirs(&r, 0, 0);
    agent_dirs_remove(r.dirs, &other); /* not known yet: asked for */
    agent_dirs_sweep(r.dirs, keeps_all, NULL);
    (void)want(&r, DIRS_STORAGE, "type", false);
    agent_dirs_settle(r.dirs);
    agent_dirs_complete(r.dirs);
    (void)want(&r, DIRS_WORK, new_name, false);
    assert_int_equal(mkdir(folder_path(&r, other_name, path), 0700), 0);
    agent_dirs_remove(r.dirs, &other);
    agent_dirs_remove(r.dirs, &old_id);
    agent_dirs_remove(r.dirs, &new_id);
    agent_dirs_settle(r.dirs);
    assert_true(has_folder(&r, other_name));
    assert_false(has_folder(&r, old_name));
    assert_false(has_folder(&r, new_name));
    end(&r);
}

static void the_end_answers_everyone(void **state)
{
    struct rig r;
    char id[GW_ID_TEXT];
    struct answer answers[50] = {{0}};
    (void)state;
    begin(&r, 1, 1);
    for (uint8_t i = 0; i < 50; i++) {
        (void)some_id(i, id);
        agent_dirs_want(r.dirs, DIRS_WORK, id, i % 2, on_answer, &answers[i]);
    }
    end(&r);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(answers[i].times, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_made_on_first_use),
        cmocka_unit_test(a_removed_folder_begins_anew),
        cmocka_unit_test(a_folder_that_came_takes_the_place),
        cmocka_unit_test(trees_of_any_form_go),
        cmocka_unit_test(what_is_over_its_quota_is_refused),
        cmocka_unit_test(deep_folders_count_as_too_large),
        cmocka_unit_test(a_sweep_removes_orphans),
        cmocka_unit_test(who_has_no_folder_costs_nothing),
        cmocka_unit_test(the_end_answers_everyone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
