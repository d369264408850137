#include "clients/cli/local_path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/buf.h"
#include "protocol/base/log.h"

/* $PWD when it is where we are, else the kernel's name of it. */
static char *working_folder(void)
{
    struct stat a, b;
    const char *pwd = getenv("PWD");
    if (pwd && pwd[0] == '/' && stat(pwd, &a) == 0 && stat(".", &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino) {
        return strdup(pwd);
    }
    return getcwd(NULL, 0);
}

static bool is_part(const char *p, size_t n, const char *part)
{
    return n == strlen(part) && memcmp(p, part, n) == 0;
}

static bool climbs(const char *path)
{
    for (size_t n; *path; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        if (is_part(path, n, "..")) {
            return true;
        }
    }
    return false;
}

/* Append the parts of `path` to what is absolute already, "" for the root. */
static void add_parts(const char *path, struct buf *out)
{
    for (size_t n; *path; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        if (n > 0 && !is_part(path, n, ".")) {
            buf_add(out, "/", 1);
            buf_add(out, path, n);
        }
    }
}

/* With "..": what stands before the last part, or all of it when that is "..", as the kernel sees
 * it. */
static gw_err add_climbing(const char *typed, struct buf *out, struct gw_error *why)
{
    size_t end = strlen(typed);
    while (end > 1 && typed[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && typed[start - 1] != '/') {
        start--;
    }
    if (is_part(typed + start, end - start, "..") || is_part(typed + start, end - start, ".")) {
        start = end;
    }
    GW_AUTO(free_charp) char *folder = strndup(start > 0 ? typed : ".", start > 0 ? start : 1);
    GW_AUTO(free_charp) char *last = strndup(typed + start, end - start);
    if (!folder || !last) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_AUTO(free_charp) char *real = realpath(folder, NULL);
    if (!real) {
        return gw_fail(why, errno == ENOMEM ? GW_ENOMEM : GW_ENOT_FOUND, "\"%.200s\": %s", folder,
                       strerror(errno));
    }
    add_parts(real, out);
    add_parts(last, out);
    return GW_OK;
}

/* "docs/" and "docs/." mean the folder, or what is in it. */
static bool means_folder(const char *typed)
{
    size_t n = strlen(typed);
    return typed[n - 1] == '/' || strcmp(typed, ".") == 0 ||
           (n > 1 && strcmp(typed + n - 2, "/.") == 0);
}

static void add_literally(const char *path, struct buf *out)
{
    for (; *path; path++) {
        if (strchr("*?[\\", *path)) {
            buf_add(out, "\\", 1);
        }
        buf_add(out, path, 1);
    }
}

static gw_err make_absolute(const char *typed, struct buf *out, struct gw_error *why)
{
    if (climbs(typed)) {
        GW_TRY(add_climbing(typed, out, why));
    } else if (typed[0] == '/') {
        add_parts(typed, out);
    } else {
        GW_AUTO(free_charp) char *here = working_folder();
        if (!here) {
            return gw_fail(why, errno == ENOMEM ? GW_ENOMEM : GW_EIO,
                           "cannot find out the working folder: %s", strerror(errno));
        }
        add_parts(here, out);
        add_parts(typed, out);
    }
    if (out->len == 0 || means_folder(typed)) {
        buf_add(out, "/", 1);
    }
    buf_add(out, "", 1);
    return buf_ok(out) ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
}

gw_err local_path(const char *typed, bool is_source, char **ret, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf path = {0}, literal = {0};
    struct stat st;
    if (!typed[0]) {
        return gw_fail(why, GW_EARG, "a path is empty");
    }
    GW_TRY(make_absolute(typed, &path, why));
    bool special = strpbrk((const char *)path.data, "*?[\\") != NULL;
    if (is_source && special && lstat((const char *)path.data, &st) == 0) {
        add_literally((const char *)path.data, &literal);
        buf_add(&literal, "", 1);
        if (!buf_ok(&literal)) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
        *ret = (char *)buf_take(&literal).data;
        return GW_OK;
    }
    *ret = (char *)buf_take(&path).data;
    return GW_OK;
}
