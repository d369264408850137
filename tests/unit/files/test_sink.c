#include "host/files/sink.h"

#include <linux/capability.h>
#include <sys/syscall.h>

#include "tests/unit/files/tree.h"

static const struct copy plain;

static void assert_copy_fails(struct tree *t, const char *source, const char *dst,
                              const struct copy *how, gw_err err)
{
    struct copied c = tree_copy(t, &source, 1, dst, how);
    assert_int_equal(c.entry_err ? c.entry_err : c.open_err, err);
    assert_true(c.why.text[0] != '\0');
}

/* --- where it goes --- */
static void a_file_gets_a_new_name_or_goes_into_a_folder(void **state)
{
    struct tree *t = *state;
    tree_file(t, "a", "text");
    tree_mode(t, "a", 0640);
    tree_touch(t, "a", 1000000000, 123456789);
    tree_folder(t, "d");
    tree_copy_well(t, "a", "b", &plain);
    tree_copy_well(t, "a", "d", &plain);
    tree_copy_well(t, "a", "d/c", &plain);
    tree_copy_well(t, "a", "new/", &plain);
    const char *const made[] = {"b", "d/a", "d/c", "new/a"};
    for (int i = 0; i < 4; i++) {
        struct stat st;
        tree_assert_text(t, made[i], "text");
        assert_true(tree_stat(t, made[i], &st));
        assert_int_equal(st.st_mode & 07777, 0640);
        assert_int_equal(st.st_mtim.tv_sec, 1000000000);
        assert_int_equal(st.st_mtim.tv_nsec, 123456789);
    }
    assert_copy_fails(t, "a", "missing/b", &plain, GW_ENOT_FOUND);
    assert_copy_fails(t, "a", "missing/deeper/", &plain, GW_ENOT_FOUND);
    assert_copy_fails(t, "a", "/etc/b", &plain, GW_EDENIED);
    assert_copy_fails(t, "a", "../b", &plain, GW_EDENIED);
    assert_copy_fails(t, "a", "", &plain, GW_EARG);
    tree_assert_clean(t);
}

static void make_docs(struct tree *t)
{
    tree_folder(t, "docs");
    tree_folder(t, "docs/sub");
    tree_file(t, "docs/a", "one");
    tree_file(t, "docs/sub/b", "two");
    tree_file(t, "docs/empty", "");
    tree_large(t, "docs/large", 3000000, 1);
    tree_link(t, "a", "docs/link");
    tree_link(t, "/nowhere/at all", "docs/dangling");
    tree_touch(t, "docs/link", 1000, 7);
    tree_touch(t, "docs/dangling", -5, 0);
    tree_mode(t, "docs/sub/b", 0400);
    tree_mode(t, "docs/sub", 0555);
    tree_touch(t, "docs/sub", 2000, 1);
    tree_touch(t, "docs", 3000, 999999999);
}

static void a_folder_gets_a_new_name_goes_into_another_or_gives_its_content(void **state)
{
    struct tree *t = *state;
    make_docs(t);
    struct copied c = tree_copy_well(t, "docs", "copy", &TREE_R);
    assert_int_equal(c.placing, SINK_AS);
    assert_int_equal(c.entries, 8);
    assert_int_equal(c.placed, 4);
    tree_assert_same(t, "docs", "copy");
    tree_folder(t, "d");
    c = tree_copy_well(t, "docs", "d", &TREE_R);
    assert_int_equal(c.placing, SINK_INTO);
    tree_assert_same(t, "docs", "d/docs");
    c = tree_copy_well(t, "docs/", "content", &TREE_R);
    assert_int_equal(c.placing, SINK_INTO);
    tree_assert_same(t, "docs", "content");
    tree_copy_well(t, "docs/", "content/", &TREE_R);
    tree_assert_same(t, "docs", "content");
    tree_assert_clean(t);
}

/* A transfer that is taken up again says where the first try put things. */
static void what_a_try_found_holds_for_the_next(void **state)
{
    struct tree *t = *state;
    struct copy how = TREE_R;
    make_docs(t);
    tree_copy_well(t, "docs", "copy", &how);
    how.to.placing = SINK_AS;
    struct copied c = tree_copy_well(t, "docs", "copy", &how);
    assert_int_equal(c.same, 4);
    assert_int_equal(c.sent, 0);
    tree_assert_same(t, "docs", "copy");
    how.to.placing = SINK_INTO;
    tree_copy_well(t, "docs/", "fresh", &how);
    tree_assert_same(t, "docs", "fresh");
}

static void several_sources_need_a_folder(void **state)
{
    struct tree *t = *state;
    tree_file(t, "a", "1");
    tree_file(t, "b", "2");
    const char *const both[] = {"a", "b"};
    struct copied c = tree_copy(t, both, 2, "d", &plain);
    assert_int_equal(c.open_err, GW_EREFUSED);
    assert_non_null(strstr(c.why.hint, "folder"));
    c = tree_copy(t, both, 2, "d/", &plain);
    assert_int_equal(c.placed, 2);
    tree_assert_text(t, "d/b", "2");
    c = tree_copy(t, both, 2, "a", &plain);
    assert_int_equal(c.open_err, GW_EREFUSED);
}

/* --- what is there already --- */
static void what_is_there_is_replaced_only_when_asked(void **state)
{
    struct tree *t = *state;
    struct copy over = {.to = {.overwrite = true}}, update = {.to = {.update = true}};
    tree_file(t, "a", "new");
    tree_file(t, "b", "old old");
    tree_touch(t, "a", 2000, 0);
    tree_touch(t, "b", 1000, 0);
    assert_copy_fails(t, "a", "b", &plain, GW_EEXISTS);
    tree_assert_text(t, "b", "old old");
    tree_copy_well(t, "a", "b", &update);
    tree_assert_text(t, "b", "new");
    tree_file(t, "b", "newer");
    assert_int_equal(tree_copy_well(t, "a", "b", &update).kept, 1);
    tree_assert_text(t, "b", "newer");
    tree_copy_well(t, "a", "b", &over);
    tree_assert_text(t, "b", "new");
    assert_int_equal(tree_copy_well(t, "a", "b", &plain).same, 1);
    tree_mode(t, "b", 0600);
    assert_int_equal(tree_copy_well(t, "a", "b", &over).same, 1);
    struct stat st;
    assert_true(tree_stat(t, "b", &st) && (st.st_mode & 07777) == 0644);
    tree_assert_clean(t);
}

static void verify_has_the_content_decide(void **state)
{
    struct tree *t = *state;
    struct copy verify = {.to = {.verify = true}},
                both = {.to = {.verify = true, .overwrite = true}};
    tree_file(t, "a", "good");
    tree_file(t, "b", "evil");
    tree_touch(t, "a", 1000, 0);
    tree_touch(t, "b", 1000, 0);
    assert_int_equal(tree_copy_well(t, "a", "b", &plain).same, 1);
    assert_copy_fails(t, "a", "b", &verify, GW_EEXISTS);
    tree_assert_text(t, "b", "evil");
    tree_copy_well(t, "a", "b", &both);
    tree_assert_text(t, "b", "good");
    tree_assert_clean(t);
}

/* The session finds that the old file holds what is sent: nothing is written. */
static void the_same_content_only_gets_mode_and_time(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {.overwrite = true};
    struct sink *s;
    tree_large(t, "b", 2000000, 3);
    struct stat before, after;
    assert_true(tree_stat(t, "b", &before));
    assert_int_equal(sink_open(t->roots, "b", true, &o, t->parts, &s, NULL), GW_OK);
    struct file_entry e = {.path = TEXT("x"), .type = ENTRY_FILE, .mode = 0600, .size = 2000000};
    e.mtime_ns = 5000000001;
    sink_verdict verdict;
    struct sink_file *f;
    assert_int_equal(sink_entry(s, &e, &verdict, &f, NULL), GW_OK);
    assert_int_equal(verdict, SINK_WANTED);
    assert_true(f->large && f->replace);
    assert_int_equal(f->old_size, 2000000);
    assert_int_equal(f->rest_size, 0);
    assert_true(sink_old(f) >= 0);
    assert_int_equal(sink_rest(f), -1);
    assert_int_equal(sink_same(f, NULL), GW_OK);
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    assert_true(tree_stat(t, "b", &after));
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mode & 07777, 0600);
    assert_int_equal(after.st_mtim.tv_sec, 5);
    assert_int_equal(after.st_mtim.tv_nsec, 1);
    tree_assert_clean(t);
}

static void other_kinds_of_things_are_never_replaced(void **state)
{
    struct tree *t = *state;
    struct copy over = {.from = {.recursive = true}, .to = {.overwrite = true}};
    char path[PATH_MAX];
    tree_file(t, "file", "f");
    tree_folder(t, "folder");
    tree_folder(t, "d");
    tree_folder(t, "d/file");
    tree_file(t, "d/folder", "not a folder");
    assert_int_equal(mkfifo(tree_path(t, "fifo", path), 0600), 0);
    assert_copy_fails(t, "file", "d", &over, GW_EREFUSED);
    assert_copy_fails(t, "folder", "d", &over, GW_EREFUSED);
    assert_copy_fails(t, "file", "fifo", &over, GW_EREFUSED);
    tree_link(t, "file", "link");
    tree_folder(t, "d/link");
    assert_copy_fails(t, "link", "d", &over, GW_EREFUSED);
    assert_copy_fails(t, "link", "fifo", &over, GW_EREFUSED);
    tree_assert_text(t, "d/folder", "not a folder");
    /* a folder that appears between the look and the end */
    struct sink_options o = {.overwrite = true};
    struct sink *s;
    struct gw_error why = {0};
    assert_int_equal(sink_open(t->roots, "late", true, &o, t->parts, &s, NULL), GW_OK);
    struct file_entry e = {.path = TEXT("x"), .type = ENTRY_FILE, .mode = 0600, .size = 1};
    sink_verdict verdict;
    struct sink_file *f;
    assert_int_equal(sink_entry(s, &e, &verdict, &f, NULL), GW_OK);
    assert_int_equal(sink_write(f, 0, "x", 1, NULL), GW_OK);
    tree_folder(t, "late");
    assert_int_equal(sink_commit(f, 1, 0, NULL), GW_OK);
    assert_int_equal(sink_flush(s, &why), GW_EREFUSED);
    sink_close(s);
    tree_assert_clean(t);
}

static void links_are_replaced_in_one_step_and_never_written_through(void **state)
{
    struct tree *t = *state;
    struct copy over = {.from = {.recursive = true}, .to = {.overwrite = true}};
    tree_file(t, "target", "safe");
    tree_file(t, "a", "new");
    tree_link(t, "target", "b");
    assert_copy_fails(t, "a", "b", &plain, GW_EEXISTS);
    tree_copy_well(t, "a", "b", &over);
    tree_assert_text(t, "target", "safe");
    tree_assert_text(t, "b", "new");
    struct stat st;
    assert_true(tree_stat(t, "b", &st) && S_ISREG(st.st_mode));
    tree_link(t, "one", "l1");
    tree_link(t, "two", "l2");
    tree_touch(t, "l1", 100, 5);
    assert_copy_fails(t, "l1", "l2", &plain, GW_EEXISTS);
    tree_copy_well(t, "l1", "l2", &over);
    tree_copy_well(t, "l1", "l2", &over);
    assert_true(tree_stat(t, "l2", &st) && S_ISLNK(st.st_mode) && st.st_size == 3);
    assert_int_equal(st.st_mtim.tv_sec, 100);
    tree_copy_well(t, "l1", "a", &over);
    assert_true(tree_stat(t, "a", &st) && S_ISLNK(st.st_mode));
    tree_assert_clean(t);
}

/* Root reads and writes everything: not without these two. Returns what was effective. */
static uint32_t without_privilege(uint32_t effective)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    assert_int_equal(syscall(SYS_capget, &head, caps), 0);
    uint32_t before = caps[0].effective;
    caps[0].effective =
        effective ? effective : before & ~(1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH);
    assert_int_equal(syscall(SYS_capset, &head, caps), 0);
    return before;
}

static void a_read_only_folder_gets_its_files(void **state)
{
    struct tree *t = *state;
    make_docs(t);
    tree_folder(t, "copy");
    tree_folder(t, "copy/sub");
    tree_mode(t, "copy/sub", 0);
    uint32_t before = without_privilege(0);
    tree_copy_well(t, "docs/", "copy", &TREE_R);
    tree_assert_same(t, "docs", "copy");
    /* what may not be read is told of, the rest goes on */
    tree_mode(t, "docs/a", 0);
    tree_mode(t, "docs/sub", 0);
    const char *docs = "docs";
    struct copied c = tree_copy(t, &docs, 1, "third", &TREE_R);
    if (before) {
        (void)without_privilege(before);
    }
    assert_int_equal(c.failed, 2);
    assert_int_equal(c.source_err, GW_EDENIED);
    assert_int_equal(c.entry_err, GW_EDENIED);
    assert_int_equal(c.placed, 2);
    tree_mode(t, "docs/sub", 0700);
    tree_mode(t, "copy/sub", 0700);
}

/* --- what is written --- */
static void setuid_and_setgid_stay_with_their_owner(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s;
    assert_int_equal(sink_open(t->roots, "d/", false, &o, t->parts, &s, NULL), GW_OK);
    struct file_entry mine = {.path = TEXT("mine"), .type = ENTRY_FILE, .mode = 07755};
    mine.uid = geteuid();
    mine.gid = getegid();
    struct file_entry other = {.path = TEXT("other"), .type = ENTRY_FILE, .mode = 07755};
    other.uid = geteuid() + 1;
    other.gid = getegid() + 1;
    sink_verdict verdict;
    struct sink_file *f;
    assert_int_equal(sink_entry(s, &mine, &verdict, &f, NULL), GW_OK);
    assert_int_equal(sink_commit(f, 0, 0, NULL), GW_OK);
    assert_int_equal(sink_entry(s, &other, &verdict, &f, NULL), GW_OK);
    assert_int_equal(sink_commit(f, 0, 0, NULL), GW_OK);
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    struct stat st;
    assert_true(tree_stat(t, "d/mine", &st) && (st.st_mode & 07777) == 07755);
    assert_true(tree_stat(t, "d/other", &st) && (st.st_mode & 07777) == 01755);
}

static void holes_stay_holes(void **state)
{
    struct tree *t = *state;
    char path[PATH_MAX];
    tree_file(t, "sparse", "");
    int fd = open(tree_path(t, "sparse", path), O_RDWR | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 6LL * 1024 * 1024 * 1024), 0);
    assert_int_equal(pwrite(fd, "begin", 5, 10), 5);
    assert_int_equal(pwrite(fd, "middle", 6, 40000000), 6);
    assert_int_equal(ftruncate(fd, 50000000), 0);
    close(fd);
    tree_copy_well(t, "sparse", "copy", &plain);
    struct stat st;
    assert_true(tree_stat(t, "copy", &st));
    assert_int_equal(st.st_size, 50000000);
    assert_true(st.st_blocks * 512 < 1000000);
    int a = open(tree_path(t, "sparse", path), O_RDONLY | O_CLOEXEC);
    int b = open(tree_path(t, "copy", path), O_RDONLY | O_CLOEXEC);
    tree_assert_same_bytes(a, b);
    close(a);
    close(b);
}

/* Written at its end alone: offsets of more than 32 bits. */
static void a_file_may_have_more_than_4_gib(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s;
    uint64_t size = 5ull << 30;
    assert_int_equal(sink_open(t->roots, "big", true, &o, t->parts, &s, NULL), GW_OK);
    struct file_entry e = {.path = TEXT("big"), .type = ENTRY_FILE, .mode = 0600, .size = size};
    e.sparse = true;
    sink_verdict verdict;
    struct sink_file *f;
    assert_int_equal(sink_entry(s, &e, &verdict, &f, NULL), GW_OK);
    assert_int_equal(sink_write(f, size - 3, "end", 3, NULL), GW_OK);
    struct gw_error why;
    assert_int_equal(sink_write(f, UINT64_MAX - 1, "end", 3, &why), GW_ETOO_BIG);
    assert_int_equal(sink_write(f, INT64_MAX, "end", 3, &why), GW_ETOO_BIG);
    assert_int_equal(sink_commit(f, size, 0, NULL), GW_OK);
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    struct stat st;
    assert_true(tree_stat(t, "big", &st) && (uint64_t)st.st_size == size);
    struct source *from;
    const struct file_entry *seen;
    const char *big = "big";
    assert_int_equal(source_open(t->roots, &big, 1, &plain.from, &from, NULL), GW_OK);
    assert_int_equal(source_next(from, &seen, NULL), GW_OK);
    assert_true(seen->size == size && seen->sparse);
    source_close(from);
}

/* --- nothing is half there --- */
static void nothing_is_seen_before_it_is_whole(void **state)
{
    struct tree *t = *state;
    struct copied c = {0};
    struct sink_options o = {.on_placed = tree_on_placed, .ctx = &c};
    struct sink *s;
    assert_int_equal(sink_open(t->roots, "d/", false, &o, t->parts, &s, NULL), GW_OK);
    static uint8_t bytes[2000000];
    struct file_entry e[2] = {
        {.path = TEXT("small"), .type = ENTRY_FILE, .mode = 0600, .size = 5},
        {.path = TEXT("large"), .type = ENTRY_FILE, .mode = 0600, .size = 2000000}};
    sink_verdict verdict;
    struct sink_file *f[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sink_entry(s, &e[i], &verdict, &f[i], NULL), GW_OK);
        assert_int_equal(sink_write(f[i], 0, bytes, e[i].size, NULL), GW_OK);
        assert_int_equal(sink_commit(f[i], e[i].size, 0, NULL), GW_OK);
    }
    assert_int_equal(scratch_count(&t->dir, "d"), 0);
    assert_int_equal(c.placed, 0);
    assert_int_equal(sink_flush(s, NULL), GW_OK);
    assert_int_equal(c.placed, 2);
    assert_int_equal(scratch_count(&t->dir, "d"), 2);
    sink_close(s);
    tree_assert_clean(t);
}

static void a_name_that_appears_meanwhile_stays(void **state)
{
    struct tree *t = *state;
    struct copied c = {0};
    struct sink_options o = {.on_placed = tree_on_placed, .ctx = &c};
    struct sink *s;
    static uint8_t bytes[2000000];
    assert_int_equal(sink_open(t->roots, "d/", false, &o, t->parts, &s, NULL), GW_OK);
    struct file_entry e[2] = {
        {.path = TEXT("small"), .type = ENTRY_FILE, .mode = 0600, .size = 5},
        {.path = TEXT("large"), .type = ENTRY_FILE, .mode = 0600, .size = 2000000}};
    sink_verdict verdict;
    struct sink_file *f;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sink_entry(s, &e[i], &verdict, &f, NULL), GW_OK);
        assert_int_equal(sink_write(f, 0, bytes, e[i].size, NULL), GW_OK);
        assert_int_equal(sink_commit(f, e[i].size, 0, NULL), GW_OK);
    }
    tree_file(t, "d/small", "mine");
    tree_file(t, "d/large", "mine");
    struct gw_error why = {0};
    assert_int_equal(sink_flush(s, &why), GW_EEXISTS);
    assert_int_equal(c.failed, 2);
    sink_close(s);
    tree_assert_text(t, "d/small", "mine");
    tree_assert_text(t, "d/large", "mine");
}

/* --- one writer, and the next try --- */
static struct file_entry large = {
    .path = TEXT("big"), .type = ENTRY_FILE, .mode = 0644, .size = 4000000, .mtime_ns = 77};

static struct sink_file *begin(struct sink *s)
{
    struct sink_file *f = NULL;
    sink_verdict verdict;
    assert_int_equal(sink_entry(s, &large, &verdict, &f, NULL), GW_OK);
    assert_int_equal(verdict, SINK_WANTED);
    return f;
}

static void two_transfers_to_one_destination(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s[3];
    struct parts *other; /* as another process: without a common registry the lock decides */
    char path[PATH_MAX];
    tree_folder(t, "d");
    assert_int_equal(parts_open(tree_path(t, "other", path), &other, NULL), GW_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sink_open(t->roots, "d", true, &o, i == 2 ? other : t->parts, &s[i], NULL),
                         GW_OK);
    }
    struct sink_file *f = begin(s[0]), *second;
    sink_verdict verdict;
    struct gw_error why = {0};
    assert_int_equal(sink_entry(s[1], &large, &verdict, &second, &why), GW_ECONFLICT);
    assert_non_null(strstr(why.text, "another transfer"));
    assert_int_equal(sink_entry(s[2], &large, &verdict, &second, &why), GW_ECONFLICT);
    assert_int_equal(sink_write(f, 0, "x", 1, NULL), GW_OK);
    assert_int_equal(sink_commit(f, 4000000, 0, NULL), GW_OK);
    assert_int_equal(sink_entry(s[1], &large, &verdict, &second, &why), GW_ECONFLICT);
    assert_int_equal(sink_flush(s[0], NULL), GW_OK);
    assert_int_equal(sink_entry(s[1], &large, &verdict, &second, &why), GW_OK);
    assert_int_equal(verdict, SINK_SAME);
    for (int i = 0; i < 3; i++) {
        sink_close(s[i]);
    }
    parts_close(other);
    tree_assert_clean(t);
}

static void the_next_try_finds_what_the_last_one_left(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s;
    static uint8_t bytes[4000000];
    char got[4];
    tree_folder(t, "d");
    memcpy(bytes, "abc", 3);
    for (size_t left = 3000000; left >= 1000000; left -= 1000000) {
        assert_int_equal(sink_open(t->roots, "d", true, &o, t->parts, &s, NULL), GW_OK);
        struct sink_file *f = begin(s);
        assert_int_equal(f->rest_size, left == 3000000 ? 0 : 3000000); /* the largest stays */
        assert_int_equal(sink_write(f, 0, bytes, left, NULL), GW_OK);
        sink_abort(f, true);
        sink_close(s);
        assert_int_equal(scratch_count(&t->dir, "parts"), 1);
        assert_false(tree_has(t, "d/big"));
    }
    assert_int_equal(sink_open(t->roots, "d", true, &o, t->parts, &s, NULL), GW_OK);
    struct sink_file *f = begin(s);
    assert_int_equal(f->rest_size, 3000000);
    assert_int_equal(pread(sink_rest(f), got, 3, 0), 3);
    assert_memory_equal(got, "abc", 3);
    assert_int_equal(sink_write(f, 0, bytes, 4000000, NULL), GW_OK);
    assert_int_equal(sink_commit(f, 4000000, 0, NULL), GW_OK);
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    assert_true(tree_has(t, "d/big"));
    tree_assert_clean(t);
}

/* Wrong bytes are no basis for anybody. */
static void what_is_given_up_leaves_nothing(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s;
    tree_folder(t, "d");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sink_open(t->roots, "d", true, &o, t->parts, &s, NULL), GW_OK);
        struct sink_file *f = begin(s);
        assert_int_equal(sink_write(f, 0, "abc", 3, NULL), GW_OK);
        sink_abort(f, i == 0);
        sink_close(s);
    }
    assert_int_equal(sink_open(t->roots, "d", true, &o, t->parts, &s, NULL), GW_OK);
    struct sink_file *f = begin(s);
    assert_int_equal(f->rest_size, 0);
    sink_abort(f, true);
    sink_close(s);
    tree_assert_clean(t);
}

/* Somebody else's file under the name of a part: a second name of a file that is not to be touched.
 */
static void a_trap_in_place_of_a_part(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s;
    char part[PARTS_NAME_BYTES], name[PATH_MAX], from[PATH_MAX], to[PATH_MAX];
    tree_folder(t, "d");
    tree_file(t, "precious", "keep");
    parts_name("big", part);
    snprintf(name, sizeof name, "d/%s", part);
    for (int i = 0; i < 3; i++) {
        if (i == 0) {
            assert_int_equal(link(tree_path(t, "precious", from), tree_path(t, name, to)), 0);
        } else if (i == 1) {
            tree_link(t, "../precious", name);
        } else {
            assert_int_equal(mkfifo(tree_path(t, name, to), 0600), 0);
        }
        assert_int_equal(sink_open(t->roots, "d", true, &o, t->parts, &s, NULL), GW_OK);
        struct sink_file *f = begin(s);
        assert_int_equal(f->rest_size, 0);
        assert_int_equal(sink_write(f, 0, "abc", 3, NULL), GW_OK);
        sink_abort(f, false);
        sink_close(s);
        tree_assert_text(t, "precious", "keep");
    }
    tree_assert_clean(t);
}

/* --- limits --- */
static void a_quota_holds(void **state)
{
    struct tree *t = *state;
    char path[PATH_MAX];
    struct sink_options o = {.quota_bytes = 10};
    struct sink *s;
    tree_folder(t, "d");
    int fd = open(tree_path(t, "d", path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(sink_open_dir(fd, &o, NULL, &s, NULL), GW_OK);
    struct file_entry e = {.path = TEXT("a"), .type = ENTRY_FILE, .mode = 0600, .size = 11};
    sink_verdict verdict;
    struct sink_file *f;
    struct gw_error why = {0};
    assert_int_equal(sink_entry(s, &e, &verdict, &f, &why), GW_ETOO_BIG);
    e.size = 6;
    assert_int_equal(sink_entry(s, &e, &verdict, &f, NULL), GW_OK);
    assert_int_equal(sink_write(f, 0, "12345678901", 11, &why), GW_ETOO_BIG);
    assert_int_equal(sink_write(f, 0, "1234567890", 10, NULL), GW_OK);
    assert_int_equal(sink_commit(f, 10, 0, NULL), GW_OK);
    e.path = TEXT("b");
    e.size = 1;
    assert_int_equal(sink_entry(s, &e, &verdict, &f, &why), GW_ETOO_BIG);
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    tree_assert_text(t, "d/a", "1234567890");
    tree_assert_clean(t);
}

static void wrong_paths_are_refused(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s;
    static char deep[70000], name[300];
    memset(name, 'n', 256);
    memset(deep, 'd', sizeof deep - 1);
    const char *const wrong[] = {"../a", "a/../../b", "/etc/passwd", "",   "a//b",
                                 "a/",   "./a",       "a/.",         name, deep};
    const gw_err codes[] = {GW_EDENIED, GW_EDENIED, GW_EDENIED, GW_EARG,     GW_EARG,
                            GW_EARG,    GW_EARG,    GW_EARG,    GW_ETOO_BIG, GW_ETOO_BIG};
    assert_int_equal(sink_open(t->roots, "d/", false, &o, t->parts, &s, NULL), GW_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (int type = ENTRY_FILE; type <= ENTRY_LINK; type++) {
            struct file_entry e = {.path = (char *)wrong[i], .type = (entry_type)type};
            struct gw_error why = {0};
            sink_verdict verdict;
            struct sink_file *f;
            e.target = type == ENTRY_LINK ? TEXT("x") : NULL;
            assert_int_equal(sink_entry(s, &e, &verdict, &f, &why), codes[i]);
            assert_true(why.text[0] != '\0');
        }
    }
    sink_close(s);
    assert_int_equal(scratch_count(&t->dir, "d"), 0);
}

/* A sender that makes a link and then writes "below" it. */
static void no_entry_goes_through_a_link(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {.overwrite = true};
    struct sink *s;
    char target[PATH_MAX];
    tree_folder(t, "outside");
    tree_folder(t, "d");
    assert_int_equal(sink_open(t->roots, "d", false, &o, t->parts, &s, NULL), GW_OK);
    const char *const targets[] = {tree_path(t, "outside", target), "../outside", "."};
    for (int i = 0; i < 3; i++) {
        struct file_entry link = {
            .path = TEXT("l"), .type = ENTRY_LINK, .target = (char *)targets[i]};
        link.mtime_ns = i;
        struct file_entry below = {.path = TEXT("l/file"), .type = ENTRY_FILE, .mode = 0600};
        sink_verdict verdict;
        struct sink_file *f;
        struct gw_error why = {0};
        assert_int_equal(sink_entry(s, &link, &verdict, &f, NULL), GW_OK);
        assert_int_equal(sink_entry(s, &below, &verdict, &f, &why), GW_EREFUSED);
        assert_non_null(strstr(why.text, "link"));
        below.type = ENTRY_FOLDER;
        assert_int_equal(sink_entry(s, &below, &verdict, &f, NULL), GW_EREFUSED);
        below.path = TEXT("l");
        assert_int_equal(sink_entry(s, &below, &verdict, &f, NULL), GW_EREFUSED);
    }
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    assert_int_equal(scratch_count(&t->dir, "outside"), 0);
}

static void links_of_the_destination_stay_inside_the_root(void **state)
{
    struct tree *t = *state;
    char path[PATH_MAX];
    tree_file(t, "a", "text");
    tree_folder(t, "real");
    tree_link(t, "real", "inside");
    tree_link(t, "/tmp", "outside");
    tree_link(t, tree_path(t, "real", path), "absolute");
    tree_copy_well(t, "a", "inside/b", &plain);
    tree_assert_text(t, "real/b", "text");
    tree_copy_well(t, "a", "inside", &plain);
    tree_assert_text(t, "real/a", "text");
    assert_copy_fails(t, "a", "outside/b", &plain, GW_EDENIED);
    assert_copy_fails(t, "a", "absolute/c", &plain, GW_EDENIED);
    struct copied c = tree_copy(t, (const char *const[]){"a"}, 1, "outside/", &plain);
    assert_int_equal(c.open_err, GW_EDENIED);
    assert_non_null(strstr(c.why.text, "out of"));
}

/* --- dry run --- */
static void a_dry_run_makes_nothing(void **state)
{
    struct tree *t = *state;
    struct copy dry = {.from = {.recursive = true}, .to = {.dry_run = true}};
    make_docs(t);
    struct copied c = tree_copy_well(t, "docs", "copy", &dry);
    assert_int_equal(c.sent, 4);
    assert_int_equal(c.placed, 0);
    assert_false(tree_has(t, "copy"));
    tree_copy_well(t, "docs", "into/", &dry);
    tree_copy_well(t, "docs/", "content", &dry);
    assert_false(tree_has(t, "into") || tree_has(t, "content"));
    tree_copy_well(t, "docs", "copy", &TREE_R);
    dry.to.placing = SINK_AS;
    c = tree_copy_well(t, "docs", "copy", &dry);
    assert_int_equal(c.same, 4);
    tree_file(t, "docs/a", "changed");
    const char *docs = "docs";
    c = tree_copy(t, &docs, 1, "copy", &dry);
    assert_int_equal(c.entry_err, GW_EEXISTS);
    dry.to.overwrite = true;
    c = tree_copy_well(t, "docs", "copy", &dry);
    assert_int_equal(c.sent, 1);
    tree_assert_text(t, "copy/a", "one");
    tree_assert_clean(t);
}

/* --- many --- */
static void many_files_and_folders_in_batches(void **state)
{
    struct tree *t = *state;
    char name[64], text[64];
    tree_folder(t, "many");
    for (int d = 0; d < 100; d++) {
        snprintf(name, sizeof name, "many/%d", d);
        tree_folder(t, name);
        for (int i = 0; i < 7; i++) {
            snprintf(name, sizeof name, "many/%d/%d", d, i);
            snprintf(text, sizeof text, "text %d of %d", i, d);
            tree_file(t, name, text);
        }
    }
    struct copied c = tree_copy_well(t, "many", "copy", &TREE_R);
    assert_int_equal(c.placed, 700);
    tree_assert_same(t, "many", "copy");
    c = tree_copy_well(t, "many/", "copy", &TREE_R);
    assert_int_equal(c.same, 700);
    struct copy over = {.from = {.recursive = true}, .to = {.overwrite = true}};
    for (int d = 0; d < 100; d++) {
        snprintf(name, sizeof name, "many/%d/3", d);
        tree_file(t, name, "another");
    }
    c = tree_copy_well(t, "many/", "copy", &over);
    assert_int_equal(c.placed, 100);
    assert_int_equal(c.same, 600);
    tree_assert_same(t, "many", "copy");
    tree_assert_clean(t);
}

static void a_parent_that_was_not_told_of_is_made(void **state)
{
    struct tree *t = *state;
    struct sink_options o = {0};
    struct sink *s;
    assert_int_equal(sink_open(t->roots, "d/", false, &o, t->parts, &s, NULL), GW_OK);
    struct file_entry e = {.path = TEXT("x/y/z/file"), .type = ENTRY_FILE, .mode = 0600};
    sink_verdict verdict;
    struct sink_file *f;
    assert_int_equal(sink_entry(s, &e, &verdict, &f, NULL), GW_OK);
    assert_int_equal(sink_commit(f, 0, 0, NULL), GW_OK);
    assert_int_equal(sink_finish(s, NULL), GW_OK);
    sink_close(s);
    assert_true(tree_has(t, "d/x/y/z/file"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_drop)
    const struct CMUnitTest tests[] = {
        T(a_file_gets_a_new_name_or_goes_into_a_folder),
        T(a_folder_gets_a_new_name_goes_into_another_or_gives_its_content),
        T(what_a_try_found_holds_for_the_next),
        T(several_sources_need_a_folder),
        T(what_is_there_is_replaced_only_when_asked),
        T(verify_has_the_content_decide),
        T(the_same_content_only_gets_mode_and_time),
        T(other_kinds_of_things_are_never_replaced),
        T(links_are_replaced_in_one_step_and_never_written_through),
        T(a_read_only_folder_gets_its_files),
        T(setuid_and_setgid_stay_with_their_owner),
        T(holes_stay_holes),
        T(a_file_may_have_more_than_4_gib),
        T(nothing_is_seen_before_it_is_whole),
        T(a_name_that_appears_meanwhile_stays),
        T(two_transfers_to_one_destination),
        T(the_next_try_finds_what_the_last_one_left),
        T(what_is_given_up_leaves_nothing),
        T(a_trap_in_place_of_a_part),
        T(a_quota_holds),
        T(wrong_paths_are_refused),
        T(no_entry_goes_through_a_link),
        T(links_of_the_destination_stay_inside_the_root),
        T(a_dry_run_makes_nothing),
        T(many_files_and_folders_in_batches),
        T(a_parent_that_was_not_told_of_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
