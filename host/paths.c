#include "host/paths.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/trust/keyfile.h"

/* Room for hosts/NAME/ and the longest file name below it. */
#define ROOM_BYTES 128

static gw_err fits(int n, struct gw_error *why)
{
    if (n < 0 || n >= PATHS_MAX - ROOM_BYTES) {
        return gw_fail(why, GW_EARG, "the path of the Godwit home is longer than %d bytes",
                       PATHS_MAX - ROOM_BYTES - 1);
    }
    return GW_OK;
}

static gw_err user_home(char ret[PATHS_MAX], struct gw_error *why)
{
    const char *home = getenv("HOME");
    if (!home || home[0] != '/') {
        const struct passwd *user = getpwuid(getuid());
        home = user ? user->pw_dir : NULL;
    }
    if (!home || home[0] != '/') {
        gw_fail(why, GW_EARG, "this user has no home folder");
        gw_hint(why, "set GODWIT_HOME to the folder that shall hold Godwit's files");
        return GW_EARG;
    }
    return fits(snprintf(ret, PATHS_MAX, "%s/.godwit", home), why);
}

gw_err paths_home(char ret[PATHS_MAX], struct gw_error *why)
{
    const char *set = getenv("GODWIT_HOME");
    char path[PATHS_MAX];
    if (!set) {
        GW_TRY(user_home(path, why));
    } else if (!*set) {
        return gw_fail(why, GW_EARG, "GODWIT_HOME is set, but empty");
    } else if (set[0] == '/') {
        GW_TRY(fits(snprintf(path, sizeof path, "%s", set), why));
    } else {
        char cwd[PATHS_MAX];
        if (!getcwd(cwd, sizeof cwd)) {
            return gw_fail(why, GW_EARG,
                           "GODWIT_HOME \"%s\" is relative, and the current folder is "
                           "not known: %s",
                           set, strerror(errno));
        }
        /* Formatted into a larger array: cwd and the text may both be near the limit. */
        char whole[2 * PATHS_MAX];
        GW_TRY(fits((int)strlen(set), why));
        GW_TRY(fits(snprintf(whole, sizeof whole, "%s/%s", cwd, set), why));
        snprintf(path, sizeof path, "%.*s", PATHS_MAX - 1, whole);
    }
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        path[--n] = '\0';
    }
    memcpy(ret, path, n + 1);
    return GW_OK;
}

static gw_err make(const char *path, struct gw_error *why)
{
    int e = mkdir(path, 0700) == 0 ? keyfile_keep_name(path) : errno;
    if (e == 0) {
        return GW_OK;
    }
    struct stat st;
    if (e == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return GW_OK;
    }
    gw_err err = e == EACCES || e == EPERM || e == EROFS ? GW_EDENIED
                 : e == ENOSPC || e == EDQUOT            ? GW_EDISK_FULL
                                                         : GW_EIO;
    gw_fail(why, err, "cannot make the folder \"%s\": %s", path,
            e == EEXIST ? "there is a file of that name" : strerror(e));
    gw_hint(why, "give a place that this user can write to in GODWIT_HOME");
    return err;
}

gw_err paths_host_dir(const char *home, const char *name, char ret[PATHS_MAX], struct gw_error *why)
{
    char path[PATHS_MAX];
    GW_TRY(fits(snprintf(path, sizeof path, "%s", home), why));
    /* Each folder on the way, from the top. */
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        struct stat st;
        if (stat(path, &st) != 0) {
            GW_TRY(make(path, why));
        }
        *slash = '/';
    }
    GW_TRY(make(path, why));
    size_t n = strlen(path);
    snprintf(path + n, sizeof path - n, "/hosts");
    GW_TRY(make(path, why));
    n = strlen(path);
    snprintf(path + n, sizeof path - n, "/%s", name);
    GW_TRY(make(path, why));
    if (access(path, R_OK | W_OK | X_OK) != 0) {
        return gw_fail(why, GW_EDENIED, "the folder \"%s\" is not writable: %s", path,
                       strerror(errno));
    }
    memcpy(ret, path, strlen(path) + 1);
    return GW_OK;
}
