#include "clients/lib/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <godwit/client.h>

gw_err file_join(char *ret, struct gw_error *why, const char *dir, const char *name)
{
    int n = snprintf(ret, FILE_PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= FILE_PATH_BYTES) {
        return gw_fail(why, GW_EARG, "the path \"%.60s…/%s\" is longer than %d bytes", dir, name,
                       FILE_PATH_BYTES - 1);
    }
    return GW_OK;
}

gw_err file_read(const char *path, size_t max, struct buf *ret, struct gw_error *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return gw_fail(why, errno == ENOENT || errno == ENOTDIR ? GW_ENOT_FOUND : GW_EDENIED,
                       "cannot read \"%s\": %s", path, strerror(errno));
    }
    gw_err err = GW_OK;
    size_t before = ret->len;
    for (;;) {
        if (!buf_reserve(ret, 4096)) {
            err = gw_fail(why, GW_ENOMEM, "out of memory for \"%s\"", path);
            break;
        }
        ssize_t n = read(fd, ret->data + ret->len, ret->cap - ret->len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            err = gw_fail(why, GW_EIO, "cannot read \"%s\": %s", path, strerror(errno));
            break;
        }
        ret->len += (size_t)n;
        if (n == 0) {
            break;
        }
        if (ret->len - before > max) {
            err = gw_fail(why, GW_ETOO_BIG, "\"%s\" is larger than %zu bytes", path, max);
            break;
        }
    }
    close(fd);
    return err;
}

gw_err file_token(const char *path, char *ret, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf text = {0};
    GW_TRY(file_read(path, FILE_TOKEN_BYTES - 1, &text, why));
    size_t n = text.len;
    while (n > 0 && (text.data[n - 1] == '\n' || text.data[n - 1] == '\r')) {
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        if (text.data[i] <= 0x20 || text.data[i] > 0x7e) {
            n = 0; /* it goes into an HTTP header: nothing may break the line */
        }
    }
    if (n == 0) {
        return gw_fail(why, GW_EARG, "\"%s\" holds no token: one line of printable characters",
                       path);
    }
    memcpy(ret, text.data, n);
    ret[n] = '\0';
    return GW_OK;
}

gw_err gw_home_path(const char *home, char *ret, size_t cap, struct gw_error *why)
{
    const char *tail = "";
    if (!home || !home[0]) {
        home = getenv("GODWIT_HOME");
    }
    if (!home || !home[0]) {
        home = getenv("HOME");
        tail = "/.godwit";
    }
    if (!home || !home[0]) {
        const struct passwd *user = getpwuid(getuid());
        home = user ? user->pw_dir : NULL;
    }
    if (!home) {
        return gw_fail(why, GW_EARG, "neither GODWIT_HOME nor HOME is set");
    }
    int n = snprintf(ret, cap, "%s%s", home, tail);
    if (n < 0 || (size_t)n >= cap) {
        return gw_fail(why, GW_EARG, "the path of GODWIT_HOME is too long");
    }
    return GW_OK;
}
