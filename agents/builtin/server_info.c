/* server-info: what the machine of this host is and does, for people and agents who choose hosts.
 *
 *     godwit -H beta send server-info summary
 *
 * It has no state. All numbers are read when they are asked for, from /proc and from file systems
 * that are on this machine: statvfs of one that is mounted over a network can hang, and the host
 * with it. */
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agents/builtin/builtin.h"

#define MOUNTS_MAX 64 /* file systems that are looked at */

/* ---- /proc ---- */

static gw_err cannot(struct gw_call *call, const char *what)
{
    return gw_call_fail(call, GW_EIO, "\"%s\" cannot be read: %s", what, strerror(errno));
}

/* A small file as text. */
static gw_err slurp(struct gw_call *call, const char *path, char *ret, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret, cap - 1);
    gw_err err = n < 0 ? cannot(call, path) : GW_OK;
    if (fd >= 0) {
        close(fd);
    }
    ret[n > 0 ? n : 0] = '\0';
    return err;
}

/* The number behind "Key:" in a table of such lines; 0 when it is not there. */
static int64_t number_of(const char *table, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = table; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0 && line[len] == ':') {
            return strtoll(line + len + 1, NULL, 10);
        }
    }
    return 0;
}

/* ---- methods ---- */

static gw_err reply_load(struct gw_call *call)
{
    double load[3] = {0};
    struct sysinfo info;
    if (getloadavg(load, 3) != 3 || sysinfo(&info) != 0) {
        return cannot(call, "/proc/loadavg");
    }
    GW_TRY(gw_reply_int(call, "cpus", sysconf(_SC_NPROCESSORS_ONLN)));
    GW_TRY(gw_reply_float(call, "load_1m", load[0]));
    GW_TRY(gw_reply_float(call, "load_5m", load[1]));
    GW_TRY(gw_reply_float(call, "load_15m", load[2]));
    return gw_reply_int(call, "processes", info.procs);
}

static gw_err load(struct gw_call *call)
{
    return reply_load(call);
}

static gw_err reply_memory(struct gw_call *call)
{
    char text[8192];
    GW_TRY(slurp(call, "/proc/meminfo", text, sizeof text));
    GW_TRY(gw_reply_int(call, "memory_bytes", number_of(text, "MemTotal") * 1024));
    GW_TRY(gw_reply_int(call, "memory_available_bytes", number_of(text, "MemAvailable") * 1024));
    GW_TRY(gw_reply_int(call, "swap_bytes", number_of(text, "SwapTotal") * 1024));
    return gw_reply_int(call, "swap_free_bytes", number_of(text, "SwapFree") * 1024);
}

static gw_err memory(struct gw_call *call)
{
    char text[8192];
    GW_TRY(reply_memory(call));
    GW_TRY(slurp(call, "/proc/self/status", text, sizeof text)); /* self: the host */
    return gw_reply_int(call, "host_bytes", number_of(text, "VmRSS") * 1024);
}

static bool is_local(const struct mntent *m)
{
    static const char *const types[] = {"ext2", "ext3",   "ext4",     "xfs",     "btrfs",
                                        "f2fs", "zfs",    "tmpfs",    "vfat",    "exfat",
                                        "jfs",  "nilfs2", "bcachefs", "iso9660", "overlay"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(m->mnt_type, types[i]) == 0) {
            return true;
        }
    }
    return false;
}

static gw_err disk_value(const struct mntent *m, const struct statvfs *fs, gw_value *ret)
{
    int64_t unit = (int64_t)fs->f_frsize;
    GW_TRY(gw_map_set(ret, "mount", gw_str(m->mnt_dir)));
    GW_TRY(gw_map_set(ret, "device", gw_str(m->mnt_fsname)));
    GW_TRY(gw_map_set(ret, "type", gw_str(m->mnt_type)));
    GW_TRY(gw_map_set(ret, "bytes", gw_int((int64_t)fs->f_blocks * unit)));
    GW_TRY(gw_map_set(ret, "used_bytes", gw_int((int64_t)(fs->f_blocks - fs->f_bfree) * unit)));
    return gw_map_set(ret, "available_bytes", gw_int((int64_t)fs->f_bavail * unit));
}

static gw_err add_disk(gw_value *list, const struct mntent *m)
{
    struct statvfs fs;
    gw_value one = gw_nil();
    if (!is_local(m) || statvfs(m->mnt_dir, &fs) != 0 || fs.f_blocks == 0) {
        return GW_OK;
    }
    gw_err err = disk_value(m, &fs, &one);
    if (err != GW_OK) {
        gw_value_free(&one);
        return err;
    }
    return gw_list_add(list, one);
}

static gw_err disks(struct gw_call *call)
{
    struct mntent m;
    char room[4096];
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    FILE *f = setmntent("/proc/self/mounts", "re");
    if (!f) {
        return cannot(call, "/proc/self/mounts");
    }
    while (err == GW_OK && list.list.n < MOUNTS_MAX && getmntent_r(f, &m, room, sizeof room)) {
        err = add_disk(&list, &m);
    }
    endmntent(f);
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    return gw_reply_value(call, "disks", list);
}

/* Seconds since this process began, by its start time in ticks after the boot of the machine. */
static gw_err host_seconds(struct gw_call *call, int64_t up_s, int64_t *ret)
{
    char text[1024];
    GW_TRY(slurp(call, "/proc/self/stat", text, sizeof text));
    char *at = strrchr(text, ')'); /* the name may hold anything */
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    *ret = at ? up_s - strtoll(at, NULL, 10) / sysconf(_SC_CLK_TCK) : 0;
    return GW_OK;
}

static gw_err summary(struct gw_call *call)
{
    struct utsname u;
    struct timespec up;
    int64_t host_s = 0;
    if (uname(&u) != 0 || clock_gettime(CLOCK_BOOTTIME, &up) != 0) {
        return cannot(call, "uname");
    }
    GW_TRY(host_seconds(call, up.tv_sec, &host_s));
    GW_TRY(gw_reply_str(call, "host", gw_host_name(call)));
    GW_TRY(gw_reply_str(call, "node", u.nodename));
    GW_TRY(gw_reply_str(call, "system", u.sysname));
    GW_TRY(gw_reply_str(call, "release", u.release));
    GW_TRY(gw_reply_str(call, "machine", u.machine));
    GW_TRY(gw_reply_int(call, "uptime_s", up.tv_sec));
    GW_TRY(gw_reply_int(call, "host_uptime_s", host_s > 0 ? host_s : 0));
    GW_TRY(reply_load(call));
    return reply_memory(call);
}

static const struct gw_method methods[] = {
    {"summary() -> (host: string, node: string, system: string, release: string, machine: string, "
     "uptime_s: int, host_uptime_s: int, cpus: int, load_1m: float, load_5m: float, "
     "load_15m: float, processes: int, memory_bytes: int, memory_available_bytes: int, "
     "swap_bytes: int, swap_free_bytes: int)",
     summary, GW_READ},
    {"load() -> (cpus: int, load_1m: float, load_5m: float, load_15m: float, processes: int)", load,
     GW_READ},
    {"memory() -> (memory_bytes: int, memory_available_bytes: int, swap_bytes: int, "
     "swap_free_bytes: int, host_bytes: int)",
     memory, GW_READ},
    {"disks() -> (disks: [{any}])", disks, GW_READ},
};

const struct gw_type builtin_server_info = {
    .abi = GW_ABI,
    .size = sizeof(struct gw_type),
    .name = "server-info",
    .version = 1,
    .state_size = 0,
    GW_METHODS(methods),
};
