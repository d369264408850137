#include "host/files/parts.h"

#include <sys/file.h>

#include "tests/unit/files/tree.h"

static int open_folder(struct tree *t, const char *name)
{
    char path[PATH_MAX];
    int fd = open(tree_path(t, name, path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void make_part(struct tree *t, const char *folder, const char *name, bool rest)
{
    char part[PARTS_NAME_BYTES], path[PATH_MAX];
    (rest ? parts_rest_name : parts_name)(name, part);
    snprintf(path, sizeof path, "%s/%s", folder, part);
    tree_file(t, path, "half of it");
}

static void names_are_of_one_form(void **state)
{
    (void)state;
    char longest[300], other[300], part[PARTS_NAME_BYTES], rest[PARTS_NAME_BYTES];
    memset(longest, 'n', sizeof longest);
    longest[255] = '\0';
    memcpy(other, longest, sizeof other);
    other[254] = 'm';
    parts_name(longest, part);
    assert_int_equal(strlen(part), 255);
    assert_true(parts_is_part(part));
    parts_name(other, rest);
    assert_string_not_equal(part, rest);
    parts_name("a", part);
    parts_rest_name("a", rest);
    assert_true(strncmp(part, ".a.", 3) == 0 && parts_is_part(part) && parts_is_part(rest));
    assert_string_not_equal(part, rest);
    static const char *const no[] = {"",
                                     ".",
                                     "a.0123456789abcdef.godwit-part",
                                     ".godwit-part",
                                     ".a.0123456789abcdeg.godwit-part",
                                     ".a.0123456789abcdef.godwit-par",
                                     ".a-0123456789abcdef.godwit-part"};
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        assert_false(parts_is_part(no[i]));
    }
}

static void the_registry_knows_folders_that_may_hold_parts(void **state)
{
    struct tree *t = *state;
    tree_folder(t, "d");
    int fd = open_folder(t, "d"), again = open_folder(t, "d");
    assert_int_equal(parts_enter(t->parts, fd, NULL), GW_OK);
    assert_int_equal(parts_enter(t->parts, again, NULL), GW_OK);
    assert_int_equal(scratch_count(&t->dir, "parts"), 1);
    parts_leave(t->parts, fd);
    assert_int_equal(scratch_count(&t->dir, "parts"), 1);
    make_part(t, "d", "a", false);
    parts_leave(t->parts, again);
    assert_int_equal(scratch_count(&t->dir, "parts"), 1); /* a part is left */
    assert_int_equal(parts_enter(t->parts, fd, NULL), GW_OK);
    char name[PARTS_NAME_BYTES], path[PATH_MAX], whole[PATH_MAX];
    parts_name("a", name);
    snprintf(path, sizeof path, "d/%s", name);
    assert_int_equal(unlink(tree_path(t, path, whole)), 0);
    parts_leave(t->parts, fd);
    assert_int_equal(scratch_count(&t->dir, "parts"), 0);
    close(fd);
    close(again);
}

static void the_sweep_takes_what_is_old_and_not_in_use(void **state)
{
    struct tree *t = *state;
    struct parts_swept swept;
    tree_folder(t, "d");
    tree_folder(t, "e");
    int d = open_folder(t, "d"), e = open_folder(t, "e");
    assert_int_equal(parts_enter(t->parts, d, NULL), GW_OK);
    assert_int_equal(parts_enter(t->parts, e, NULL), GW_OK);
    make_part(t, "d", "a", false);
    make_part(t, "d", "a", true);
    make_part(t, "d", "used", false);
    tree_file(t, "d/.other.part", "not ours");
    make_part(t, "e", "b", false);
    parts_leave(t->parts, d);
    parts_leave(t->parts, e);
    close(e);
    /* after a crash: another process reads the registry */
    parts_close(t->parts);
    char path[PATH_MAX], name[PARTS_NAME_BYTES], used[PATH_MAX];
    assert_int_equal(parts_open(tree_path(t, "parts", path), &t->parts, NULL), GW_OK);
    assert_int_equal(scratch_count(&t->dir, "parts"), 2);
    parts_name("used", name);
    snprintf(used, sizeof used, "d/%s", name);
    int lock = open(tree_path(t, used, path), O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(parts_sweep(t->parts, 3600, &swept, NULL), GW_OK);
    assert_int_equal(swept.removed, 0);
    assert_int_equal(swept.kept, 4);
    assert_int_equal(parts_sweep(t->parts, 0, &swept, NULL), GW_OK);
    assert_int_equal(swept.removed, 3);
    assert_int_equal(swept.kept, 1);
    assert_true(swept.bytes > 0);
    assert_int_equal(scratch_count(&t->dir, "parts"), 1);
    assert_int_equal(scratch_count(&t->dir, "e"), 0);
    close(lock);
    assert_int_equal(parts_enter(t->parts, d, NULL), GW_OK); /* somebody has just come in */
    assert_int_equal(parts_sweep(t->parts, 0, &swept, NULL), GW_OK);
    assert_int_equal(swept.removed, 1);
    assert_int_equal(scratch_count(&t->dir, "parts"), 1);
    parts_leave(t->parts, d);
    close(d);
    assert_int_equal(scratch_count(&t->dir, "parts"), 0);
    tree_assert_text(t, "d/.other.part", "not ours");
}

/* A record whose folder has gone, or has become a way into another. */
static void the_sweep_follows_no_link(void **state)
{
    struct tree *t = *state;
    struct parts_swept swept;
    char a[PATH_MAX], b[PATH_MAX];
    tree_folder(t, "d");
    tree_folder(t, "victim");
    int fd = open_folder(t, "d");
    assert_int_equal(parts_enter(t->parts, fd, NULL), GW_OK);
    make_part(t, "d", "a", false);
    parts_leave(t->parts, fd);
    close(fd);
    assert_int_equal(rename(tree_path(t, "d", a), tree_path(t, "moved", b)), 0);
    tree_link(t, "victim", "d");
    make_part(t, "victim", "a", false);
    assert_int_equal(parts_sweep(t->parts, 3600, &swept, NULL), GW_OK);
    assert_int_equal(swept.unreachable, 1);
    assert_int_equal(parts_sweep(t->parts, 0, &swept, NULL), GW_OK);
    assert_int_equal(swept.removed, 0);
    char name[PARTS_NAME_BYTES], part[PATH_MAX];
    parts_name("a", name);
    snprintf(part, sizeof part, "victim/%s", name);
    assert_true(tree_has(t, part));
    assert_int_equal(scratch_count(&t->dir, "parts"), 0);
}

static void one_writer_per_destination(void **state)
{
    struct tree *t = *state;
    struct gw_error why = {0};
    assert_int_equal(parts_claim(t->parts, 1, 2, "a", NULL), GW_OK);
    assert_int_equal(parts_claim(t->parts, 1, 2, "a", &why), GW_ECONFLICT);
    assert_int_equal(parts_claim(t->parts, 1, 2, "ab", NULL), GW_OK);
    assert_int_equal(parts_claim(t->parts, 1, 3, "a", NULL), GW_OK);
    assert_int_equal(parts_claim(t->parts, 2, 2, "a", NULL), GW_OK);
    parts_release(t->parts, 1, 2, "a");
    parts_release(t->parts, 1, 2, "a");
    assert_int_equal(parts_claim(t->parts, 1, 2, "a", NULL), GW_OK);
}

static void a_registry_that_cannot_be_opened(void **state)
{
    struct tree *t = *state;
    struct parts *p;
    char path[PATH_MAX];
    struct gw_error why = {0};
    tree_file(t, "file", "");
    assert_int_equal(parts_open(tree_path(t, "file", path), &p, &why), GW_EREFUSED);
    assert_int_equal(parts_open(tree_path(t, "none/parts", path), &p, &why), GW_ENOT_FOUND);
    assert_true(why.text[0] != '\0');
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tree_make, tree_drop)
    const struct CMUnitTest tests[] = {
        T(names_are_of_one_form),
        T(the_registry_knows_folders_that_may_hold_parts),
        T(the_sweep_takes_what_is_old_and_not_in_use),
        T(the_sweep_follows_no_link),
        T(one_writer_per_destination),
        T(a_registry_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
