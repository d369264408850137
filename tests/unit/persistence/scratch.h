/* A folder of a test's own, with helpers to look at it and to fill up its disk. For test programs:
 * everything is static. */
#ifndef TESTS_UNIT_PERSISTENCE_SCRATCH_H
#define TESTS_UNIT_PERSISTENCE_SCRATCH_H

#include <dirent.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct scratch {
    char path[128];
    bool mounted;
};

static inline void scratch_make(struct scratch *d)
{
    const char *tmp = getenv("TMPDIR");
    *d = (struct scratch){0};
    snprintf(d->path, sizeof d->path, "%s/godwit-test-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(d->path));
}

/* A file system of `size` ("1m") in the folder; false where this user may not mount. The mount is
 * seen by this process alone and goes with it. */
static inline bool scratch_mount(struct scratch *d, const char *size)
{
    char options[64];
    snprintf(options, sizeof options, "size=%s,mode=0700", size);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return false;
    }
    d->mounted = mount("godwit-test", d->path, "tmpfs", 0, options) == 0;
    return d->mounted;
}

static inline int scratch_unlink(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void scratch_remove(struct scratch *d)
{
    if (d->mounted) {
        umount2(d->path, MNT_DETACH);
    }
    nftw(d->path, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* Path of a file in the folder; `ret` holds 256 bytes. Returns ret. */
static inline char *scratch_path(const struct scratch *d, const char *name, char ret[256])
{
    assert_true(strlen(d->path) < 128 && strlen(name) < 128);
    snprintf(ret, 256, "%.127s/%.127s", d->path, name);
    return ret;
}

/* Number of entries of a folder below it. */
static inline size_t scratch_count(const struct scratch *d, const char *name)
{
    char path[256];
    DIR *dir = opendir(scratch_path(d, name, path));
    assert_non_null(dir);
    size_t n = 0;
    const struct dirent *e;
    while ((e = readdir(dir))) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static inline void scratch_write(const struct scratch *d, const char *name, const void *data,
                                 size_t len)
{
    char path[256];
    FILE *f = fopen(scratch_path(d, name, path), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Setup and teardown of a test whose state is a struct scratch of its own. */
static inline int scratch_setup(void **state)
{
    struct scratch *d = calloc(1, sizeof *d);
    assert_non_null(d);
    scratch_make(d);
    *state = d;
    return 0;
}

static inline int scratch_teardown(void **state)
{
    scratch_remove(*state);
    free(*state);
    return 0;
}

#endif
