#include "host/files/listing.h"

#include "protocol/limits.h"
#include "tests/unit/files/tree.h"

static void assert_names(struct tree *t, const char *path, const char *after, size_t limit,
                         const char *want, bool more)
{
    struct listing l;
    struct gw_error why = {0};
    struct buf names = {0};
    if (listing_read(t->roots, path, after, limit, &l, &why)) {
        fail_msg("\"%s\": %s", path, why.text);
    }
    for (size_t i = 0; i < l.count; i++) {
        buf_addf(&names, "%s ", l.items[i].name);
    }
    buf_add(&names, "", 1);
    assert_string_equal((char *)names.data, want);
    assert_int_equal(l.last != NULL, more);
    listing_clear(&l);
    buf_free(&names);
}

static void a_folder_in_pages(void **state)
{
    struct tree *t = *state;
    static const char *const names[] = {"b", "a", "d", "c", "B", ".x", "e.txt"};
    char name[64], part[PARTS_NAME_BYTES];
    tree_folder(t, "f");
    assert_names(t, "f", NULL, 3, "", false);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(name, sizeof name, "f/%s", names[i]);
        tree_file(t, name, "");
    }
    parts_name("q", part);
    snprintf(name, sizeof name, "f/%.60s", part);
    tree_file(t, name, "");
    assert_names(t, "f", NULL, 1000, ".x B a b c d e.txt ", false);
    assert_names(t, "f/", NULL, 3, ".x B a ", true);
    assert_names(t, "f", "a", 3, "b c d ", true);
    assert_names(t, "f", "d", 3, "e.txt ", false);
    assert_names(t, "f", "c", 2, "d e.txt ", false);
    assert_names(t, "f", "aa", 1, "b ", true); /* a name that has gone meanwhile */
    assert_names(t, "f/*", NULL, 3, "B a b ", true);
    assert_names(t, "f/?", "a", 9, "b c d ", false);
    assert_names(t, "f/*.none", NULL, 9, "", false);
    assert_names(t, "f/a", NULL, 9, "a ", false);
}

static void items_say_what_they_are(void **state)
{
    struct tree *t = *state;
    char path[PATH_MAX];
    struct listing l;
    tree_folder(t, "f");
    tree_file(t, "f/a", "12345");
    tree_mode(t, "f/a", 04640);
    tree_touch(t, "f/a", 77, 5);
    tree_folder(t, "f/b");
    tree_link(t, "some where", "f/c");
    assert_int_equal(mkfifo(tree_path(t, "f/d", path), 0600), 0);
    assert_int_equal(listing_read(t->roots, "f", NULL, 10, &l, NULL), GW_OK);
    assert_int_equal(l.count, 4);
    assert_false(l.one_file);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(l.items[i].type, LISTED_FILE + i);
    }
    assert_int_equal(l.items[0].size, 5);
    assert_int_equal(l.items[0].mode, 04640);
    assert_int_equal(l.items[0].mtime_ns, 77000000005);
    assert_int_equal(l.items[1].size, 0);
    assert_string_equal(l.items[2].target, "some where");
    assert_null(l.items[0].target);
    listing_clear(&l);
    assert_int_equal(listing_read(t->roots, "f/c", NULL, 10, &l, NULL), GW_OK);
    assert_true(l.one_file && l.count == 1 && l.items[0].type == LISTED_LINK);
    listing_clear(&l);
}

static void what_cannot_be_listed(void **state)
{
    struct tree *t = *state;
    struct listing l;
    tree_file(t, "a", "");
    static const struct {
        const char *path;
        gw_err err;
    } cases[] = {{"none", GW_ENOT_FOUND}, {"none/x", GW_ENOT_FOUND},
                 {"a/", GW_ENOT_FOUND},   {"/etc", GW_EDENIED},
                 {"..", GW_EDENIED},      {"", GW_EARG},
                 {"a/x", GW_ENOT_FOUND},  {"[a", GW_EARG}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gw_error why = {0};
        assert_int_equal(listing_read(t->roots, cases[i].path, NULL, 10, &l, &why), cases[i].err);
        assert_true(why.text[0] != '\0');
    }
    assert_int_equal(listing_read(t->roots, "a", NULL, 0, &l, NULL), GW_EARG);
    assert_int_equal(listing_read(t->roots, "a", NULL, LIMIT_PAGE + 1, &l, NULL), GW_EARG);
}

static void many_names_page_by_page(void **state)
{
    struct tree *t = *state;
    char name[64], after[64] = "";
    tree_folder(t, "f");
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "f/%d", i * 7919 % 1000);
        tree_file(t, name, "");
    }
    struct listing l;
    size_t count = 0, pages = 0;
    do {
        assert_int_equal(listing_read(t->roots, "f", pages ? after : NULL, 64, &l, NULL), GW_OK);
        for (size_t i = 0; i < l.count; i++) {
            assert_true(strcmp(l.items[i].name, after) > 0);
            snprintf(after, sizeof after, "%s", l.items[i].name);
        }
        count += l.count;
        pages++;
        listing_clear(&l);
    } while (count < 1000 && pages < 20);
    assert_int_equal(count, 1000);
    assert_int_equal(pages, 16);
}

/* The folder of the descriptors of this process holds one that the listing has closed again. */
static void a_page_whose_names_have_vanished(void **state)
{
    struct tree *t = *state;
    struct roots *r;
    struct listing l;
    char after[64] = "";
    size_t empty = 0, items = 0;
    int fd = open("/", O_PATH | O_CLOEXEC), far = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    assert_true(fd >= 0 && far >= 900);
    assert_int_equal(roots_open((const char *const[]){"/"}, 1, &r, NULL), GW_OK);
    for (bool more = true; more;) {
        assert_int_equal(listing_read(r, "/proc/self/fd", after, 1, &l, NULL), GW_OK);
        items += l.count;
        empty += l.count == 0;
        more = l.last != NULL;
        if (more) {
            assert_true(strcmp(l.last, after) > 0);
            snprintf(after, sizeof after, "%s", l.last);
        }
        listing_clear(&l);
    }
    assert_true(empty > 0);
    assert_true(items >= 3);
    close(far);
    close(fd);
    roots_close(r);
    (void)t;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_drop)
    const struct CMUnitTest tests[] = {
        T(a_folder_in_pages),       T(items_say_what_they_are),          T(what_cannot_be_listed),
        T(many_names_page_by_page), T(a_page_whose_names_have_vanished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
