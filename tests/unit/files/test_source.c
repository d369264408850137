#include "host/files/source.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "protocol/limits.h"
#include "tests/unit/files/tree.h"

/* Every path that a source gives, one a line; of what cannot be sent "!code path". */
static char *walk(struct tree *t, const char *const *paths, size_t n,
                  const struct source_options *o)
{
    struct source *s;
    struct buf lines = {0};
    struct gw_error why = {0};
    gw_err err = source_open(t->roots, paths, n, o, &s, &why);
    if (err) {
        buf_addf(&lines, "%s", gw_err_name(err));
        buf_add(&lines, "", 1);
        return (char *)lines.data;
    }
    const struct file_entry *e;
    while ((err = source_next(s, &e, &why)) != GW_ENOT_FOUND) {
        if (err) {
            assert_true(why.text[0] != '\0');
            buf_addf(&lines, "!%s %s\n", gw_err_name(err), source_at(s));
        } else {
            assert_string_equal(e->path, source_at(s));
            buf_addf(&lines, "%s%s\n", e->path, e->type == ENTRY_FOLDER ? "/" : "");
        }
    }
    source_close(s);
    buf_add(&lines, "", 1);
    return (char *)lines.data;
}

#define R ((struct source_options){.recursive = true})

static void assert_walk(struct tree *t, const char *path, struct source_options o, const char *want)
{
    char *got = walk(t, &path, 1, &o);
    assert_string_equal(got, want);
    free(got);
}

static void make_tree(struct tree *t)
{
    static const char *const folders[] = {"s", "s/b", "s/b/deep", "s/empty", "s/.hidden"};
    static const char *const files[] = {"s/a.c",        "s/z.txt",       "s/b/a.c", "s/b/x.h",
                                        "s/b/deep/c.c", "s/.hidden/h.c", "s/.dot",  "s/[odd]"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        tree_folder(t, folders[i]);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        tree_file(t, files[i], files[i]);
    }
    tree_link(t, "a.c", "s/link");
    tree_link(t, "b", "s/linked");
}

static void the_order_of_a_walk(void **state)
{
    struct tree *t = *state;
    make_tree(t);
    assert_walk(t, "s", R,
                "s/\ns/.dot\ns/[odd]\ns/a.c\ns/link\ns/linked\ns/z.txt\ns/.hidden/\ns/.hidden/h.c\n"
                "s/b/\ns/b/a.c\ns/b/x.h\ns/b/deep/\ns/b/deep/c.c\ns/empty/\n");
    assert_walk(t, "s/b/", R, "./\na.c\nx.h\ndeep/\ndeep/c.c\n");
    assert_walk(t, "s/linked/", R, "./\na.c\nx.h\ndeep/\ndeep/c.c\n");
    assert_walk(t, "s/linked", R, "linked\n");
    assert_walk(t, "s/b/deep/..", R, "./\na.c\nx.h\ndeep/\ndeep/c.c\n");
    assert_walk(t, "~/s/b/deep", R, "deep/\ndeep/c.c\n");
    assert_walk(t, "s//./b/deep", R, "deep/\ndeep/c.c\n");
    assert_walk(t, "s", (struct source_options){0}, "!arg s\n");
    assert_walk(t, "s/a.c", (struct source_options){0}, "a.c\n");
    assert_walk(t, "s/a.c/", (struct source_options){0}, "not_found");
    assert_walk(t, "nothing", R, "not_found");
    assert_walk(t, "/etc/passwd", R, "denied");
    assert_walk(t, "..", R, "denied");
    assert_walk(t, "../../etc", R, "denied");
    assert_walk(t, "", R, "arg");
    char *got = walk(t, NULL, 0, &R);
    assert_string_equal(got, "arg");
    free(got);
}

static void patterns(void **state)
{
    struct tree *t = *state;
    make_tree(t);
    assert_walk(t, "s/*.c", R, "a.c\n");
    assert_walk(t, "s/*", R,
                "[odd]\na.c\nb/\nb/a.c\nb/x.h\nb/deep/\nb/deep/c.c\nempty/\nlink\nlinked\nz.txt\n");
    assert_walk(t, "s/.*", R, ".dot\n.hidden/\n.hidden/h.c\n");
    assert_walk(t, "s/?.c", R, "a.c\n");
    assert_walk(t, "s/[a-y].*", R, "a.c\n");
    assert_walk(t, "s/[!a-y].*", R, "z.txt\n");
    assert_walk(t, "s/*/*.c", R, "a.c\n!conflict a.c\n"); /* through the link, too, as a shell */
    assert_walk(t, "s/[odd]", R, "[odd]\n");              /* it is there: no pattern */
    assert_walk(t, "s/\\[odd\\]", R, "[odd]\n");
    assert_walk(t, "s/\\[*", R, "[odd]\n");
    assert_walk(t, "s/**/*.c", (struct source_options){0}, "a.c\nb/a.c\nb/deep/c.c\n");
    assert_walk(t, "**/deep", R, "s/b/deep/\ns/b/deep/c.c\n");
    assert_walk(t, "s/b/**", R, "a.c\nx.h\ndeep/\ndeep/c.c\n");
    assert_walk(t, "s/b*/", R, "./\na.c\nx.h\ndeep/\ndeep/c.c\n");
    assert_walk(t, "s/*.none", R, "not_found");
    assert_walk(t, "s/[a", R, "arg");
    assert_walk(t, "s/a\\*/b", R, "not_found");
    assert_walk(t, "/*", R, "denied");
    const char *const both[] = {"s/a.c", "s/b/a.c", "s/b/x.h"};
    char *got = walk(t, both, 3, &R);
    assert_string_equal(got, "a.c\n!conflict a.c\nx.h\n");
    free(got);
}

static void excludes(void **state)
{
    struct tree *t = *state;
    make_tree(t);
    struct source_options o = R;
    static const struct {
        const char *patterns[3];
        const char *want;
    } cases[] = {
        {{"*.c"},
         "s/\ns/.dot\ns/[odd]\ns/link\ns/linked\ns/z.txt\ns/.hidden/\ns/b/\ns/b/x.h\ns/b/deep/\n"
         "s/empty/\n"},
        {{"b", ".*", "[[]*"}, "s/\ns/a.c\ns/link\ns/linked\ns/z.txt\ns/empty/\n"},
        {{"link/", ".*", "b/"}, "s/\ns/[odd]\ns/a.c\ns/link\ns/linked\ns/z.txt\ns/empty/\n"},
        {{"!b/a.c", "*.?", ".*"},
         "s/\ns/[odd]\ns/link\ns/linked\ns/z.txt\ns/b/\ns/b/a.c\ns/b/deep/\ns/empty/\n"},
        {{"/s/b", "/b", ".*"}, "s/\ns/[odd]\ns/a.c\ns/link\ns/linked\ns/z.txt\ns/empty/\n"},
        {{"/s/**/c.c", "?*", "x"}, ""},
        {{"s/*"}, "s/\n"},
        {{"/s/**"}, ""}, /* ** stands for no part, too */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        o.excludes = cases[i].patterns;
        o.exclude_count = 0;
        while (o.exclude_count < 3 && cases[i].patterns[o.exclude_count]) {
            o.exclude_count++;
        }
        assert_walk(t, "s", o, cases[i].want);
    }
    const char *wrong = "a[";
    o.excludes = &wrong;
    o.exclude_count = 1;
    assert_walk(t, "s", o, "arg");
    wrong = "*";
    assert_walk(t, "s/b/", o, "./\n");
}

static void what_is_no_file_is_refused_one_by_one(void **state)
{
    struct tree *t = *state;
    char path[PATH_MAX];
    tree_folder(t, "s");
    tree_file(t, "s/a", "1");
    assert_int_equal(mkfifo(tree_path(t, "s/fifo", path), 0600), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%.90s/s/sock", t->dir.path);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_walk(t, "s", R, "s/\ns/a\n!refused s/fifo\n!refused s/sock\n");
    assert_walk(t, "s/fifo", R, "!refused fifo\n");
    close(fd);
}

static void names_are_any_bytes(void **state)
{
    struct tree *t = *state;
    static const char *const names[] = {"line\nbreak", "t\tab", "\x1b[31mred", "gr\xc3\xbc\xc3\x9f",
                                        "\xff\xfe",    " ",     "-rf",         "*"};
    char name[600], longest[256];
    tree_folder(t, "s");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(name, sizeof name, "s/%s", names[i]);
        tree_file(t, name, names[i]);
    }
    memset(longest, 'n', 255);
    longest[255] = '\0';
    snprintf(name, sizeof name, "s/%s", longest);
    tree_large(t, name, 2000000, 1);
    struct copied c = tree_copy_well(t, "s", "copy", &TREE_R);
    assert_int_equal(c.placed, 9);
    tree_assert_same(t, "s", "copy");
    tree_assert_clean(t);
}

#define LONG_NAME "a folder with a name of some forty bytes"

/* Deeper than any path that one call takes, with few descriptors. */
static void a_very_deep_tree(void **state)
{
    struct tree *t = *state;
    enum { DEPTH = 200 };
    char path[PATH_MAX];
    tree_folder(t, "deep");
    int at = open(tree_path(t, "deep", path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(mkdirat(at, LONG_NAME, 0755), 0);
        if (i % 50 == 0) {
            int fd = openat(at, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            assert_int_equal(write(fd, "x", 1), 1);
            close(fd);
        }
        int next = openat(at, LONG_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
        assert_true(at >= 0);
    }
    int fd = openat(at, "bottom", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    uint8_t *bytes = calloc(1, 1500000);
    assert_int_equal(write(fd, bytes, 1500000), 1500000); /* too large to do without a part */
    free(bytes);
    close(fd);
    close(at);
    struct rlimit limit, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = 150;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    struct copied c = tree_copy_well(t, "deep", "copy", &TREE_R);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(c.entries, DEPTH + 1 + DEPTH / 50 + 1);
    assert_int_equal(c.placed, DEPTH / 50 + 1);
    struct source *s;
    struct source_totals totals;
    bool done;
    size_t left;
    const char *copy = "copy";
    const struct file_entry *e;
    assert_int_equal(source_open(t->roots, &copy, 1, &R, &s, NULL), GW_OK);
    assert_int_equal(source_totals(s, 100, &totals, &done, NULL), GW_OK);
    assert_false(done);
    assert_int_equal(source_totals(s, 100000, &totals, &done, NULL), GW_OK);
    assert_true(done);
    assert_int_equal(totals.folders, DEPTH + 1);
    assert_int_equal(totals.files, DEPTH / 50 + 1);
    assert_int_equal(totals.bytes, DEPTH / 50 + 1500000);
    while (source_next(s, &e, NULL) == GW_OK) {
        if (e->type == ENTRY_FILE) {
            assert_int_equal(source_remove(s, e, NULL), GW_OK);
        }
    }
    assert_int_equal(source_prune(s, &left, NULL), GW_OK);
    assert_int_equal(left, 0);
    source_close(s);
    assert_false(tree_has(t, "copy"));
    copy = "deep";
    assert_int_equal(source_open(t->roots, &copy, 1, &R, &s, NULL), GW_OK);
    while (source_next(s, &e, NULL) == GW_OK) {
        if (e->type == ENTRY_FILE) {
            assert_int_equal(source_remove(s, e, NULL), GW_OK);
        }
    }
    assert_int_equal(source_prune(s, &left, NULL), GW_OK);
    source_close(s);
    assert_int_equal(left, 0);
}

/* The first entry of a file `name`, opened. */
static struct source *begin(struct tree *t, const char *name, struct file_entry *ret)
{
    struct source *s;
    const struct file_entry *e;
    assert_int_equal(source_open(t->roots, &name, 1, &R, &s, NULL), GW_OK);
    do {
        assert_int_equal(source_next(s, &e, NULL), GW_OK);
    } while (e->type == ENTRY_FOLDER);
    assert_int_equal(entry_copy(e, ret), GW_OK);
    return s;
}

static void a_file_that_changes_is_noticed(void **state)
{
    struct tree *t = *state;
    struct file_entry e, now;
    struct gw_error why = {0};
    int fd;
    char a[PATH_MAX], b[PATH_MAX];
    tree_folder(t, "s");
    tree_file(t, "s/a", "12345");
    struct source *s = begin(t, "s", &e);
    assert_int_equal(source_file(s, &e, &fd, NULL), GW_OK);
    assert_int_equal(source_unchanged(&e, fd, NULL), GW_OK);
    tree_file(t, "s/a", "1234");
    assert_int_equal(source_unchanged(&e, fd, &why), GW_ECONFLICT);
    assert_non_null(strstr(why.text, "shrank"));
    tree_file(t, "s/a", "123456");
    assert_int_equal(source_unchanged(&e, fd, &why), GW_ECONFLICT);
    assert_non_null(strstr(why.text, "grew"));
    close(fd);
    assert_int_equal(source_file(s, &e, &fd, &why), GW_ECONFLICT);
    assert_int_equal(source_remove(s, &e, &why), GW_ECONFLICT);
    assert_non_null(strstr(why.text, "kept"));
    assert_int_equal(source_look(s, &e, &now, NULL), GW_OK);
    assert_int_equal(now.size, 6);
    assert_int_equal(source_file(s, &now, &fd, NULL), GW_OK);
    close(fd);
    /* the same bytes in another file, of the same time */
    tree_file(t, "other", "123456");
    tree_touch(t, "other", now.mtime_ns / 1000000000, (long)(now.mtime_ns % 1000000000));
    assert_int_equal(rename(tree_path(t, "other", a), tree_path(t, "s/a", b)), 0);
    assert_int_equal(source_file(s, &now, &fd, &why), GW_ECONFLICT);
    assert_int_equal(source_remove(s, &now, &why), GW_ECONFLICT);
    /* a link, a fifo, nothing */
    unlink(b);
    tree_link(t, "../other", "s/a");
    assert_int_equal(source_file(s, &now, &fd, &why), GW_ECONFLICT);
    unlink(b);
    assert_int_equal(mkfifo(b, 0600), 0);
    assert_int_equal(source_file(s, &now, &fd, &why), GW_ECONFLICT);
    unlink(b);
    assert_int_equal(source_file(s, &now, &fd, &why), GW_ECONFLICT);
    assert_int_equal(source_remove(s, &now, &why), GW_ECONFLICT);
    struct file_entry gone;
    assert_int_equal(source_look(s, &now, &gone, &why), GW_ECONFLICT);
    entry_clear(&e);
    entry_clear(&now);
    source_close(s);
}

/* Its folder has become a link that leads to a file of the same name elsewhere. */
static void a_folder_that_becomes_a_link_is_not_followed(void **state)
{
    struct tree *t = *state;
    struct file_entry e;
    char a[PATH_MAX], b[PATH_MAX];
    int fd;
    tree_folder(t, "s");
    tree_folder(t, "s/d");
    tree_file(t, "s/d/a", "12345");
    struct source *s = begin(t, "s", &e);
    assert_string_equal(e.path, "s/d/a");
    assert_int_equal(rename(tree_path(t, "s/d", a), tree_path(t, "moved", b)), 0);
    tree_link(t, "../moved", "s/d");
    struct gw_error why = {0};
    assert_int_equal(source_file(s, &e, &fd, &why), GW_ECONFLICT);
    assert_int_equal(source_remove(s, &e, &why), GW_ECONFLICT);
    assert_true(tree_has(t, "moved/a"));
    entry_clear(&e);
    source_close(s);
}

static void what_vanishes_during_a_walk_is_told(void **state)
{
    struct tree *t = *state;
    char path[PATH_MAX], other[PATH_MAX];
    make_tree(t);
    struct source *s;
    const struct file_entry *e;
    const char *name = "s";
    assert_int_equal(source_open(t->roots, &name, 1, &R, &s, NULL), GW_OK);
    assert_int_equal(source_next(s, &e, NULL), GW_OK);
    assert_int_equal(source_next(s, &e, NULL), GW_OK);
    assert_string_equal(e->path, "s/.dot");
    assert_int_equal(unlink(tree_path(t, "s/a.c", path)), 0);
    assert_int_equal(source_next(s, &e, NULL), GW_OK);
    struct gw_error why = {0};
    assert_int_equal(source_next(s, &e, &why), GW_ECONFLICT);
    assert_string_equal(source_at(s), "s/a.c");
    /* a folder that is a link when it comes to it, and one that is a file */
    assert_int_equal(rename(tree_path(t, "s/b", path), tree_path(t, "gone", other)), 0);
    unsigned conflicts = 0;
    gw_err err;
    bool replaced = false;
    while ((err = source_next(s, &e, &why)) != GW_ENOT_FOUND) {
        conflicts += err == GW_ECONFLICT;
        if (!err && !replaced && strcmp(e->path, "s/.hidden") == 0) {
            replaced = true;
            tree_link(t, "../gone", "s/b");
            assert_int_equal(rmdir(tree_path(t, "s/empty", path)), 0);
            tree_file(t, "s/empty", "");
        }
        assert_null(strstr(source_at(s), "x.h"));
    }
    assert_int_equal(conflicts, 2);
    source_close(s);
}

static void a_move_removes_what_has_arrived(void **state)
{
    struct tree *t = *state;
    make_tree(t);
    struct source *s;
    const struct file_entry *e;
    const char *name = "s";
    size_t left;
    struct file_entry folder = {0};
    assert_int_equal(source_open(t->roots, &name, 1, &R, &s, NULL), GW_OK);
    while (source_next(s, &e, NULL) == GW_OK) {
        if (e->type == ENTRY_FOLDER) {
            entry_clear(&folder);
            assert_int_equal(entry_copy(e, &folder), GW_OK);
        } else if (strcmp(e->path, "s/b/x.h") != 0) {
            assert_int_equal(source_remove(s, e, NULL), GW_OK);
        }
    }
    assert_string_equal(folder.path, "s/empty");
    assert_int_equal(source_remove(s, &folder, NULL), GW_OK);
    assert_int_equal(source_prune(s, &left, NULL), GW_OK);
    assert_int_equal(left, 2);
    source_close(s);
    entry_clear(&folder);
    assert_true(tree_has(t, "s/b/x.h"));
    assert_false(tree_has(t, "s/b/deep") || tree_has(t, "s/.hidden"));
    s = begin(t, "s", &folder);
    free(folder.path);
    folder.path = strdup("s/b");
    folder.type = ENTRY_FOLDER;
    struct stat st;
    assert_true(tree_stat(t, "s/b", &st));
    folder.dev = st.st_dev;
    folder.ino = st.st_ino;
    struct gw_error why = {0};
    assert_int_equal(source_remove(s, &folder, &why), GW_EREFUSED);
    source_close(s);
    entry_clear(&folder);
}

static void parts_of_other_transfers_are_left_out(void **state)
{
    struct tree *t = *state;
    char part[PARTS_NAME_BYTES], name[PATH_MAX];
    tree_folder(t, "s");
    parts_name("x", part);
    snprintf(name, sizeof name, "s/%s", part);
    tree_file(t, name, "half");
    assert_walk(t, "s", R, "s/\n");
    assert_walk(t, "s/.*", R, "not_found");
}

static void called_off_from_elsewhere(void **state)
{
    struct tree *t = *state;
    static const char *const patterns[] = {"**/none", "*/none", "s/*/*"};
    atomic_bool cancel = true;
    struct source_options o = {.recursive = true, .cancel = &cancel};
    struct source *s;
    const struct file_entry *e;
    struct source_totals totals;
    struct gw_error why = {0};
    bool done;
    size_t left;
    tree_folder(t, "s");
    tree_file(t, "s/f", "");
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        assert_int_equal(source_open(t->roots, &patterns[i], 1, &o, &s, &why), GW_ECANCELLED);
        assert_true(why.text[0] != '\0');
    }
    const char *path = "s";
    assert_int_equal(source_open(t->roots, &path, 1, &o, &s, NULL), GW_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(source_next(s, &e, &why), GW_ECANCELLED);
        assert_int_equal(source_totals(s, 10, &totals, &done, &why), GW_ECANCELLED);
        assert_int_equal(source_prune(s, &left, &why), GW_ECANCELLED);
    }
    cancel = false;
    assert_int_equal(source_next(s, &e, NULL), GW_OK);
    source_close(s);
}

struct passes {
    unsigned count, stop_at; /* 0: never */
};

static gw_err on_pass(void *arg)
{
    struct passes *p = arg;
    return ++p->count == p->stop_at ? GW_EUNREACHABLE : GW_OK;
}

/* Whoever waits for entries is told that the walk goes on, also while nothing fits. */
static void steps_are_told(void **state)
{
    struct tree *t = *state;
    static const char *const exclude = "f*";
    struct passes p = {0};
    struct source_options o = {
        .recursive = true, .excludes = &exclude, .exclude_count = 1, .on_pass = on_pass, .arg = &p};
    struct source *s;
    const struct file_entry *e;
    struct gw_error why = {0};
    const char *path = "s", *pattern = "s/**/none";
    char name[32];
    tree_folder(t, "s");
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "s/f%d", i);
        tree_file(t, name, "");
    }
    assert_int_equal(source_open(t->roots, &pattern, 1, &o, &s, NULL), GW_ENOT_FOUND);
    assert_true(p.count > 20);
    p = (struct passes){.stop_at = 10};
    assert_int_equal(source_open(t->roots, &pattern, 1, &o, &s, &why), GW_ECANCELLED);

    p = (struct passes){0};
    assert_int_equal(source_open(t->roots, &path, 1, &o, &s, NULL), GW_OK);
    assert_int_equal(source_next(s, &e, NULL), GW_OK); /* the folder */
    p = (struct passes){.stop_at = 10};
    assert_int_equal(source_next(s, &e, &why), GW_ECANCELLED);
    source_set_pass(s, NULL, NULL);
    assert_int_equal(source_next(s, &e, &why), GW_ENOT_FOUND);
    assert_int_equal(p.count, 10);
    source_close(s);
}

/* However deep a tree and a pattern: it is looked at with the small stack of a thread. */
static void *look_deep(void *arg)
{
    struct tree *t = arg;
    char pattern[2 * LIMIT_FILE_PATTERN_PARTS + 8] = "";
    struct source *s;
    for (size_t i = 0; i < LIMIT_FILE_PATTERN_PARTS; i++) {
        memcpy(pattern + (i ? 2 * i - 1 : 0), i ? "/*" : "*", i ? 3 : 2);
    }
    const char *path = pattern;
    assert_int_equal(source_open(t->roots, &path, 1, &R, &s, NULL), GW_OK);
    assert_int_equal(source_count(s), 1);
    source_close(s);
    memcpy(pattern + strlen(pattern), "/*", 3);
    assert_int_equal(source_open(t->roots, &path, 1, &R, &s, NULL), GW_EARG);
    return NULL;
}

static void a_pattern_of_many_parts(void **state)
{
    struct tree *t = *state;
    char name[2 * LIMIT_FILE_PATTERN_PARTS + 8] = "";
    pthread_t thread;
    pthread_attr_t attr;
    for (int i = 0; i < LIMIT_FILE_PATTERN_PARTS; i++) {
        snprintf(name + strlen(name), 4, "%s", i ? "/d" : "d");
        tree_folder(t, name);
    }
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, 256 * 1024), 0);
    assert_int_equal(pthread_create(&thread, &attr, look_deep, t), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attr);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_drop)
    const struct CMUnitTest tests[] = {
        T(the_order_of_a_walk),
        T(patterns),
        T(excludes),
        T(what_is_no_file_is_refused_one_by_one),
        T(names_are_any_bytes),
        T(a_very_deep_tree),
        T(a_file_that_changes_is_noticed),
        T(a_folder_that_becomes_a_link_is_not_followed),
        T(what_vanishes_during_a_walk_is_told),
        T(a_move_removes_what_has_arrived),
        T(parts_of_other_transfers_are_left_out),
        T(called_off_from_elsewhere),
        T(steps_are_told),
        T(a_pattern_of_many_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
