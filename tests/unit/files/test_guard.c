/* The folder of Godwit itself, which no copy and no listing may reach. */
#include "host/files/guard.h"

#include "host/files/listing.h"

#include "tests/unit/files/tree.h"

#define WORK "home/hosts/a/work"

/* home/ is $GODWIT_HOME, its host is "a". */
static int make(void **state)
{
    static const char *const folders[] = {
        "home",
        "home/mesh",
        "home/hosts",
        "home/hosts/a",
        WORK,
        "home/hosts/b",
        "home/hosts/a/artifacts",
        WORK "/agents",
        WORK "/parts",
        "free",
        "free/sub",
    };
    static const char *const files[] = {
        "home/mesh/ca.key",
        "home/hosts/a/host.key",
        "home/hosts/b/host.key",
        WORK "/agents/note",
        WORK "/parts/1",
        "free/sub/file",
        "loose",
    };
    char path[PATH_MAX];
    assert_int_equal(tree_make(state), 0);
    struct tree *t = *state;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        tree_folder(t, folders[i]);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        tree_file(t, files[i], "text");
    }
    assert_int_equal(roots_protect(t->roots, tree_path(t, "home/hosts/a", path), NULL), GW_OK);
    return 0;
}

/* Places below the home, and ways into it. */
static const char *const denied[] = {
    "home",
    "home/",
    "home/mesh",
    "home/mesh/ca.key",
    "home/mesh/none",
    "home/none/none",
    "home/hosts",
    "home/hosts/a",
    "home/hosts/a/",
    "home/hosts/a/host.key",
    "home/hosts/b/host.key",
    "home/hosts/a/artifacts",
    WORK "/..",
    WORK "/../host.key",
    WORK "/parts",
    WORK "/parts/1",
    "free/../home/mesh/ca.key",
    "free/in/mesh/ca.key",
    "free/in/",
    "free/keys/ca.key",
    "free/far/ca.key",
    "home/*/ca.key/",
};

static void make_links(struct tree *t)
{
    tree_link(t, "../home", "free/in");
    tree_link(t, "../home/mesh", "free/keys");
    tree_link(t, "keys", "free/far");
    tree_link(t, "../home/mesh/ca.key", "free/key");
    tree_link(t, "../home/hosts/a/work", "free/desk");
}

static void nothing_of_it_is_read(void **state)
{
    struct tree *t = *state;
    make_links(t);
    for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++) {
        struct gw_error why = {0};
        struct source *s = NULL;
        struct source_options o = {.recursive = true};
        gw_err err = source_open(t->roots, &denied[i], 1, &o, &s, &why);
        bool pattern = strchr(denied[i], '*') != NULL;
        if ((err != GW_EDENIED && !(pattern && err == GW_ENOT_FOUND)) || !why.text[0]) {
            fail_msg("\"%s\" gives %s: %s", denied[i], gw_err_name(err), why.text);
        }
    }
    static const char *const patterns[] = {"home/*", "home/mesh/*", "home/**/ca.key", "*/mesh/*",
                                           "free/in/*/*"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct source *s = NULL;
        struct source_options o = {.recursive = true};
        gw_err err = source_open(t->roots, &patterns[i], 1, &o, &s, NULL);
        assert_true(err == GW_EDENIED || err == GW_ENOT_FOUND);
    }
}

static void nothing_of_it_is_listed(void **state)
{
    struct tree *t = *state;
    make_links(t);
    for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++) {
        struct gw_error why = {0};
        struct listing l;
        gw_err err = listing_read(t->roots, denied[i], NULL, 10, &l, &why);
        if (err != GW_EDENIED && !(strchr(denied[i], '*') && err == GW_ENOT_FOUND)) {
            fail_msg("\"%s\" gives %s", denied[i], gw_err_name(err));
        }
    }
    struct listing l;
    assert_int_equal(listing_read(t->roots, "home/*", NULL, 10, &l, NULL), GW_EDENIED);
    assert_int_equal(listing_read(t->roots, "free/key", NULL, 10, &l, NULL), GW_OK);
    assert_int_equal(l.items[0].type, LISTED_LINK); /* the link itself is not what it leads to */
    listing_clear(&l);
}

static void nothing_of_it_is_written(void **state)
{
    struct tree *t = *state;
    static const char *const targets[] = {
        "home",
        "home/",
        "home/new",
        "home/mesh/ca.key",
        "home/mesh/",
        "home/new/",
        "home/hosts/new",
        "home/hosts/a/new",
        "free/in/new",
        "free/keys/",
        "free/in/mesh/ca.key",
        WORK "/parts/new",
        WORK "/../new",
    };
    make_links(t);
    struct copy how = {.to = {.overwrite = true}};
    for (int dry = 0; dry < 2; dry++) {
        how.to.dry_run = dry;
        for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
            const char *from = "loose";
            struct copied c = tree_copy(t, &from, 1, targets[i], &how);
            if (c.open_err != GW_EDENIED) {
                fail_msg("to \"%s\" gives %s", targets[i], gw_err_name(c.open_err));
            }
        }
    }
    tree_assert_text(t, "home/mesh/ca.key", "text");
    assert_false(tree_has(t, "home/new"));
    assert_false(tree_has(t, "home/mesh/loose"));
}

static void the_work_folder_is_free(void **state)
{
    struct tree *t = *state;
    struct listing l;
    make_links(t);
    tree_copy_well(t, WORK "/agents/note", "free/", &TREE_R);
    tree_copy_well(t, "loose", WORK "/agents/", &TREE_R);
    tree_copy_well(t, "loose", "free/desk/", &TREE_R);
    tree_assert_text(t, "free/note", "text");
    tree_assert_text(t, WORK "/agents/loose", "text");
    tree_assert_text(t, WORK "/loose", "text");
    assert_int_equal(listing_read(t->roots, "free/desk/agents", NULL, 10, &l, NULL), GW_OK);
    assert_int_equal(l.count, 2);
    listing_clear(&l);
}

/* From above: each guarded folder is refused by itself, and the rest goes. */
static void a_copy_from_above_leaves_it_out(void **state)
{
    struct tree *t = *state;
    const char *from = "./", *const out[] = {"home", "copy"};
    struct copy how = TREE_R;
    tree_folder(t, "copy");
    how.from.excludes = &out[1];
    how.from.exclude_count = 1;
    struct copied c = tree_copy(t, &from, 1, "copy", &how);
    assert_int_equal(c.open_err, GW_OK);
    assert_int_equal(c.failed, 1);
    assert_int_equal(c.source_err, GW_EDENIED);
    assert_non_null(strstr(c.why.text, "home"));
    assert_false(tree_has(t, "copy/home"));
    assert_true(tree_has(t, "copy/free/sub/file"));
    how.from.excludes = out;
    how.from.exclude_count = 2;
    how.to.overwrite = true;
    tree_copy_well(t, from, "copy", &how); /* who leaves it out is told of no failure */
    /* Nor by a pattern that looks into everything. */
    struct source *s;
    const char *any = "**/*.key";
    assert_int_equal(source_open(t->roots, &any, 1, &how.from, &s, NULL), GW_ENOT_FOUND);
}

/* To above: entries whose place is in it are refused, one by one. */
static void a_copy_to_above_leaves_it_alone(void **state)
{
    struct tree *t = *state;
    struct stat before, after;
    const char *from = "evil/";
    tree_folder(t, "evil");
    tree_folder(t, "evil/home");
    tree_folder(t, "evil/home/mesh");
    tree_file(t, "evil/home/mesh/ca.key", "mine");
    tree_file(t, "evil/home/new", "mine");
    tree_file(t, "evil/other", "mine");
    tree_mode(t, "evil/home", 0777);
    assert_true(tree_stat(t, "home", &before));
    struct copy how = TREE_R;
    how.to.overwrite = true;
    struct copied c = tree_copy(t, &from, 1, ".", &how);
    assert_int_equal(c.open_err, GW_OK);
    assert_int_equal(c.failed, 4);
    assert_int_equal(c.entry_err, GW_EDENIED);
    tree_assert_text(t, "home/mesh/ca.key", "text");
    tree_assert_text(t, "other", "mine");
    assert_false(tree_has(t, "home/new"));
    assert_true(tree_stat(t, "home", &after));
    assert_int_equal(before.st_mode, after.st_mode);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

/* A home that is a link keeps it. */
static void its_link_is_neither_replaced_nor_moved(void **state)
{
    struct tree *t = *state;
    struct copy how = {.to = {.overwrite = true}};
    const char *file = "loose", *link = "other";
    make_links(t);
    struct copied c = tree_copy(t, &file, 1, "free/in", &how); /* into it */
    assert_int_equal(c.open_err, GW_EDENIED);
    how.to.placing = SINK_AS;
    c = tree_copy(t, &file, 1, "free/in", &how);
    assert_int_equal(c.entry_err, GW_EDENIED);
    tree_link(t, "free", "other");
    c = tree_copy(t, &link, 1, "free/in", &how);
    assert_int_equal(c.entry_err, GW_EDENIED);
    struct source *s;
    const struct file_entry *e;
    const char *in = "free/in";
    assert_int_equal(source_open(t->roots, &in, 1, &TREE_R.from, &s, NULL), GW_OK);
    assert_int_equal(source_next(s, &e, NULL), GW_OK);
    assert_int_equal(e->type, ENTRY_LINK);
    assert_int_equal(source_remove(s, e, NULL), GW_EDENIED);
    source_close(s);
    tree_copy_well(t, "loose", "free/key", &how); /* a link to a file of it is only a name */
    tree_assert_text(t, "home/mesh/ca.key", "text");
}

static void it_may_be_a_root_or_hold_one(void **state)
{
    struct tree *t = *state;
    char home[PATH_MAX], mesh[PATH_MAX], work[PATH_MAX], host[PATH_MAX], path[PATH_MAX];
    struct roots *r;
    struct listing l;
    const char *const roots[] = {tree_path(t, "home", home), tree_path(t, "home/mesh", mesh),
                                 tree_path(t, WORK, work), "/"};
    assert_int_equal(roots_open(roots, 4, &r, NULL), GW_OK);
    assert_int_equal(roots_protect(r, tree_path(t, "home/hosts/a", host), NULL), GW_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(listing_read(r, roots[i], NULL, 10, &l, NULL), GW_EDENIED);
        snprintf(path, sizeof path, "%s/none", roots[i]);
        assert_int_equal(listing_read(r, path, NULL, 10, &l, NULL), GW_EDENIED);
    }
    assert_int_equal(listing_read(r, work, NULL, 10, &l, NULL), GW_OK);
    listing_clear(&l);
    assert_int_equal(listing_read(r, t->dir.path, NULL, 10, &l, NULL), GW_OK);
    listing_clear(&l);
    assert_int_equal(listing_read(r, "/", NULL, 10, &l, NULL), GW_OK);
    listing_clear(&l);
    roots_close(r);
}

/* What is guarded is the folders, not their names. */
static void renaming_changes_nothing(void **state)
{
    struct tree *t = *state;
    char a[PATH_MAX], b[PATH_MAX];
    struct listing l;
    tree_folder(t, "above");
    assert_int_equal(rename(tree_path(t, "home", a), tree_path(t, "above/home", b)), 0);
    assert_int_equal(listing_read(t->roots, "above/home", NULL, 10, &l, NULL), GW_EDENIED);
    assert_int_equal(listing_read(t->roots, "above/home/hosts/b", NULL, 10, &l, NULL), GW_EDENIED);
    assert_int_equal(rename(tree_path(t, "above", a), tree_path(t, "moved", b)), 0);
    assert_int_equal(listing_read(t->roots, "moved/home/mesh", NULL, 10, &l, NULL), GW_EDENIED);
    /* Taken out of the home it is what it was. */
    assert_int_equal(rename(tree_path(t, "moved/home/mesh", a), tree_path(t, "free/mesh", b)), 0);
    assert_int_equal(listing_read(t->roots, "free/mesh", NULL, 10, &l, NULL), GW_EDENIED);
    tree_folder(t, "home");
    assert_int_equal(listing_read(t->roots, "home", NULL, 10, &l, NULL), GW_OK);
    listing_clear(&l);
}

/* A walk that has begun does not go into what stands there by now. */
static void a_walk_looks_at_what_it_opens(void **state)
{
    struct tree *t = *state;
    char a[PATH_MAX], b[PATH_MAX];
    const char *from = "free";
    struct source *s;
    const struct file_entry *e;
    struct gw_error why = {0};
    assert_int_equal(source_open(t->roots, &from, 1, &TREE_R.from, &s, NULL), GW_OK);
    assert_int_equal(source_next(s, &e, NULL), GW_OK);
    assert_string_equal(e->path, "free");
    assert_int_equal(source_next(s, &e, NULL), GW_OK);
    assert_string_equal(e->path, "free/sub");
    assert_int_equal(rename(tree_path(t, "free/sub", a), tree_path(t, "gone", b)), 0);
    assert_int_equal(rename(tree_path(t, "home", b), a), 0);
    assert_int_equal(source_next(s, &e, &why), GW_EDENIED);
    assert_int_equal(source_next(s, &e, &why), GW_ENOT_FOUND);
    source_close(s);
}

static void a_home_that_is_none(void **state)
{
    struct tree *t = *state;
    struct guard *g;
    struct gw_error why = {0};
    char path[PATH_MAX];
    assert_int_equal(guard_open("/hosts", &g, &why), GW_EARG);
    assert_int_equal(guard_open(tree_path(t, "nowhere/hosts/a", path), &g, &why), GW_ENOT_FOUND);
    assert_true(why.text[0] != '\0');
    assert_false(guard_holds(NULL, 0, 0));
    assert_int_equal(guard_folder(NULL, -1, "x", NULL), GW_OK);
    assert_int_equal(guard_open(tree_path(t, "home/hosts/b", path), &g, &why), GW_OK);
    assert_true(tree_has(t, "home/hosts/b/work"));
    int fd = open(tree_path(t, "free", path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(guard_folder(g, fd, "free", &why), GW_OK);
    assert_int_equal(guard_folder(g, -1, "closed", &why), GW_EDENIED);
    close(fd);
    guard_close(g);
    guard_close(NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make, tree_drop)
    const struct CMUnitTest tests[] = {
        T(nothing_of_it_is_read),
        T(nothing_of_it_is_listed),
        T(nothing_of_it_is_written),
        T(the_work_folder_is_free),
        T(a_copy_from_above_leaves_it_out),
        T(a_copy_to_above_leaves_it_alone),
        T(its_link_is_neither_replaced_nor_moved),
        T(it_may_be_a_root_or_hold_one),
        T(renaming_changes_nothing),
        T(a_walk_looks_at_what_it_opens),
        T(a_home_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
