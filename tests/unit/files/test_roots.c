#include "host/files/roots.h"

#include "tests/unit/files/tree.h"

static void assert_found(const struct roots *r, const char *path, size_t root, const char *rest,
                         bool folder)
{
    size_t got;
    char *below = NULL;
    bool is_folder;
    assert_int_equal(roots_find(r, path, &got, &below, &is_folder, NULL), GW_OK);
    assert_int_equal(got, root);
    assert_string_equal(below, rest);
    assert_int_equal(is_folder, folder);
    free(below);
}

static void paths_are_found_below_their_roots(void **state)
{
    struct tree *t = *state;
    struct roots *r;
    char real[PATH_MAX], by_link[PATH_MAX], path[PATH_MAX + 10];
    tree_folder(t, "real");
    tree_link(t, "real", "link");
    const char *const paths[] = {"/srv/data/", "/srv/data/inner", tree_path(t, "link", by_link)};
    assert_int_equal(roots_open(paths, 3, &r, NULL), GW_OK);
    assert_int_equal(roots_count(r), 3);
    assert_string_equal(roots_path(r, 0), "/srv/data");
    assert_found(r, "a/b", 0, "a/b", false);
    assert_found(r, "./a//b/.", 0, "a/b", true);
    assert_found(r, "~", 0, "", true);
    assert_found(r, "~/a", 0, "a", false);
    assert_found(r, "~a", 0, "~a", false);
    assert_found(r, "/srv/data", 0, "", true);
    assert_found(r, "/srv/data//x/", 0, "x", true);
    assert_found(r, "/srv/data/inner/x", 1, "x", false);
    assert_found(r, "/srv/data/innerx", 0, "innerx", false);
    assert_found(r, "a/..", 0, "a/..", true);
    snprintf(path, sizeof path, "%s/x", by_link);
    assert_found(r, path, 2, "x", false);
    snprintf(path, sizeof path, "%s/x", tree_path(t, "real", real));
    assert_found(r, path, 2, "x", false);
    struct gw_error why = {0};
    size_t root;
    char *rest;
    assert_int_equal(roots_find(r, "/srv/databases", &root, &rest, NULL, &why), GW_EDENIED);
    assert_non_null(strstr(why.text, "/srv/data/inner"));
    assert_non_null(strstr(why.hint, "--root"));
    assert_int_equal(roots_find(r, "/", &root, &rest, NULL, &why), GW_EDENIED);
    assert_int_equal(roots_find(r, "/srv/data/\x1b[31m\n", &root, &rest, NULL, &why), GW_OK);
    free(rest);
    assert_int_equal(roots_find(r, "/x\x1b[31m\n", &root, &rest, NULL, &why), GW_EDENIED);
    assert_null(strpbrk(why.text, "\x1b\n"));
    static char longest[PATH_MAX + 1];
    memset(longest, 'a', PATH_MAX);
    assert_int_equal(roots_find(r, longest, &root, &rest, NULL, &why), GW_EARG);
    assert_int_equal(roots_find(r, "", &root, &rest, NULL, &why), GW_EARG);
    roots_close(r);
}

static void the_root_of_all(void **state)
{
    (void)state;
    struct roots *r;
    const char *const all[] = {"/"};
    assert_int_equal(roots_open(all, 1, &r, NULL), GW_OK);
    assert_string_equal(roots_path(r, 0), "/");
    assert_found(r, "/etc/passwd", 0, "etc/passwd", false);
    assert_found(r, "/", 0, "", true);
    int fd;
    assert_int_equal(roots_open_at(r, 0, "etc", O_RDONLY | O_DIRECTORY, &fd, NULL), GW_OK);
    close(fd);
    roots_close(r);
}

static void wrong_roots(void **state)
{
    (void)state;
    struct roots *r;
    struct gw_error why = {0};
    const char *const relative[] = {"/ok", "here"};
    assert_int_equal(roots_open(relative, 2, &r, &why), GW_EARG);
    assert_int_equal(roots_open(NULL, 0, &r, &why), GW_EARG);
}

static void the_default_is_home_and_work(void **state)
{
    struct tree *t = *state;
    struct roots *r;
    const char *const given[] = {"/srv"};
    char old[PATH_MAX] = "";
    if (getenv("HOME")) {
        snprintf(old, sizeof old, "%s", getenv("HOME"));
    }
    setenv("HOME", t->dir.path, 1);
    assert_int_equal(roots_open_setting(NULL, 0, "/host/work", &r, NULL), GW_OK);
    assert_int_equal(roots_count(r), 2);
    assert_string_equal(roots_path(r, 0), t->dir.path);
    assert_string_equal(roots_path(r, 1), "/host/work");
    roots_close(r);
    unsetenv("HOME");
    assert_int_equal(roots_open_setting(NULL, 0, "/host/work", &r, NULL), GW_OK);
    assert_int_equal(roots_path(r, 0)[0], '/'); /* of the table of users */
    roots_close(r);
    assert_int_equal(roots_open_setting(given, 1, "/host/work", &r, NULL), GW_OK);
    assert_int_equal(roots_count(r), 1);
    roots_close(r);
    if (old[0]) {
        setenv("HOME", old, 1);
    }
}

static void nothing_leads_out(void **state)
{
    struct tree *t = *state;
    struct roots *r;
    char inner[PATH_MAX], path[PATH_MAX];
    tree_folder(t, "root");
    tree_folder(t, "root/d");
    tree_file(t, "root/d/file", "in");
    tree_file(t, "secret", "out");
    tree_link(t, "d", "root/in");
    tree_link(t, "../..", "root/d/out");
    tree_link(t, "/", "root/top");
    tree_link(t, "/proc/self/root", "root/magic");
    tree_link(t, "loop", "root/loop");
    assert_int_equal(roots_open((const char *const[]){tree_path(t, "root", inner)}, 1, &r, NULL),
                     GW_OK);
    static const struct {
        const char *rest;
        gw_err err;
    } cases[] = {
        {"d/file", GW_OK},
        {"in/file", GW_OK},
        {"", GW_OK},
        {"d/../d/file", GW_OK},
        {"..", GW_EDENIED},
        {"d/../../secret", GW_EDENIED},
        {"d/out/secret", GW_EDENIED},
        {"top/etc/passwd", GW_EDENIED},
        {"magic/etc", GW_EDENIED},
        {"loop", GW_EREFUSED},
        {"none", GW_ENOT_FOUND},
        {"d/file/x", GW_ENOT_FOUND},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = -1;
        struct gw_error why = {0};
        assert_int_equal(roots_open_at(r, 0, cases[i].rest, O_RDONLY, &fd, &why), cases[i].err);
        if (cases[i].err) {
            assert_true(why.text[0] != '\0');
        } else {
            close(fd);
        }
    }
    int fd;
    struct gw_error why = {0};
    assert_int_equal(rename(inner, tree_path(t, "elsewhere", path)), 0);
    assert_int_equal(roots_open_at(r, 0, "d", O_RDONLY, &fd, &why), GW_ENOT_FOUND);
    assert_non_null(strstr(why.text, "root"));
    roots_close(r);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_drop)
    const struct CMUnitTest tests[] = {
        T(paths_are_found_below_their_roots), T(the_root_of_all),   T(wrong_roots),
        T(the_default_is_home_and_work),      T(nothing_leads_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
