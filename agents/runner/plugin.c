#include "agents/runner/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/base/buf.h"

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

/* Out of the hands of close_fd. */
static int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

static gw_err copy_all(int from, int to, off_t size)
{
    for (off_t at = 0; at < size;) {
        ssize_t n = sendfile(to, from, &at, (size_t)(size - at));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return GW_EIO; /* 0: the file shrank meanwhile */
        }
    }
    return GW_OK;
}

/* The file's bytes in memory that belongs to this process alone. */
static gw_err private_copy(const char *path, int *ret_fd, struct gw_error *why)
{
    GW_AUTO(close_fd) int in = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (in < 0 || fstat(in, &st) != 0) {
        return gw_fail(why, GW_EPLUGIN, "cannot open plugin \"%s\": %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return gw_fail(why, GW_EPLUGIN, "plugin \"%s\" is not a regular file", path);
    }
    GW_AUTO(close_fd) int copy = memfd_create("godwit-plugin", MFD_CLOEXEC);
    if (copy < 0) {
        return gw_fail(why, GW_EPLUGIN, "cannot copy plugin \"%s\": %s", path, strerror(errno));
    }
    if (copy_all(in, copy, st.st_size) != GW_OK) {
        return gw_fail(why, GW_EPLUGIN, "cannot read plugin \"%s\": %s", path,
                       errno ? strerror(errno) : "it changed meanwhile");
    }
    *ret_fd = take_fd(&copy);
    return GW_OK;
}

/* dlerror names the copy; put the real name in its place. */
static void link_error(const char *path, const char *copy, struct gw_error *why)
{
    const char *text = dlerror();
    text = text ? text : "unknown error";
    if (strncmp(text, copy, strlen(copy)) == 0 && strncmp(text + strlen(copy), ": ", 2) == 0) {
        text += strlen(copy) + 2;
    }
    gw_fail(why, GW_EPLUGIN, "cannot link plugin \"%s\": %s", path, text);
}

gw_err plugin_load(const char *path, struct engine *engine, struct gw_error *why)
{
    int fd = -1;
    errno = 0;
    GW_TRY(private_copy(path, &fd, why));
    char copy[64];
    snprintf(copy, sizeof copy, "/proc/self/fd/%d", fd);
    void *handle = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        link_error(path, copy, why);
        close(fd);
        return GW_EPLUGIN;
    }
    close(fd); /* the mapping stays */
    const struct gw_plugin *(*info)(void);
    *(void **)&info = dlsym(handle, "gw_plugin_info");
    if (!info) {
        gw_err err =
            gw_fail(why, GW_EPLUGIN,
                    "\"%s\" is not a Godwit plugin: it has no symbol \"gw_plugin_info\"", path);
        gw_hint(why, "include <godwit/agent.h> and define a type with GW_AGENT");
        return err;
    }
    const struct gw_plugin *plugin = info();
    gw_err err = plugin ? engine_add_plugin(engine, plugin, why)
                        : gw_fail(why, GW_EPLUGIN, "gw_plugin_info answers NULL");
    if (err != GW_OK) {
        gw_prefix(why, "plugin \"%s\"", path);
    }
    return err;
}
