/* An agent with an itinerary: it visits hosts, looks at their disks there, and carries its findings
 * home.
 *
 *     godwit create survey --alias tour
 *     godwit send tour start hosts:='["alpha", "beta", "gamma"]' path=/usr top=5
 *     godwit send tour report            (anywhere, at any time; `done` when it is back)
 *
 * Each hop is one on_arrive that ends in gw_dispatch: what was found and where to go next are
 * committed together, so that a crash on the way neither loses nor repeats a stop. A host that
 * cannot be reached is noted and skipped. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <godwit/agent.h>

#define MOUNTS_MAX   64     /* file systems of one host */
#define DEPTH_MAX    32     /* folders below each other: one open descriptor each */
#define REPORT_DEPTH 3      /* deeper folders count towards these only */
#define ENTRIES_MAX  200000 /* of one host: a few seconds at most */
#define TIME_MAX_MS  5000

struct survey_mount {
    char *mount, *device, *type;
    int64_t total, used, avail; /* bytes */
};
static const struct gw_field mount_fields[] = {
    GW_FIELD(struct survey_mount, mount), GW_FIELD(struct survey_mount, device),
    GW_FIELD(struct survey_mount, type),  GW_FIELD(struct survey_mount, total),
    GW_FIELD(struct survey_mount, used),  GW_FIELD(struct survey_mount, avail),
};

struct survey_dir {
    char *path;
    int64_t bytes; /* on disk, with all below it on the same file system */
};
static const struct gw_field dir_fields[] = {
    GW_FIELD(struct survey_dir, path),
    GW_FIELD(struct survey_dir, bytes),
};

struct survey_host {
    char *host;
    gw_time when;
    int64_t entries, unreadable; /* files and folders seen; folders that could not be opened */
    bool complete;               /* false: a limit of entries, time or depth was met */
    struct {
        struct survey_mount *items;
        size_t len;
    } filesystems;
    struct {
        struct survey_dir *items;
        size_t len;
    } directories; /* largest first */
};
static const struct gw_field host_fields[] = {
    GW_FIELD(struct survey_host, host),
    GW_FIELD(struct survey_host, when),
    GW_FIELD(struct survey_host, entries),
    GW_FIELD(struct survey_host, unreadable),
    GW_FIELD(struct survey_host, complete),
    GW_LIST(struct survey_host, filesystems, mount_fields),
    GW_LIST(struct survey_host, directories, dir_fields),
};

struct survey {
    gw_strs stops;
    int64_t next; /* index in stops of where it is heading; stops.len = home */
    char *path;
    int64_t top;
    char *home;
    bool travelling;
    bool done;
    struct {
        struct survey_host *items;
        size_t len;
    } hosts;
    gw_strs errors;
};
static const struct gw_field fields[] = {
    GW_FIELD(struct survey, stops),  GW_FIELD(struct survey, next),
    GW_FIELD(struct survey, path),   GW_FIELD(struct survey, top),
    GW_FIELD(struct survey, home),   GW_FIELD(struct survey, travelling),
    GW_FIELD(struct survey, done),   GW_LIST(struct survey, hosts, host_fields),
    GW_FIELD(struct survey, errors),
};

static gw_err set_text(char **at, const char *text)
{
    char *copy = strdup(text);
    if (!copy) {
        return GW_ENOMEM;
    }
    free(*at);
    *at = copy;
    return GW_OK;
}

/* --- mounted file systems --- */

/* A file system that keeps its data on a disk, here or on a server; the kernel marks all others in
 * /proc/filesystems as nodev, and some that are none as well. */
static bool is_real(const char *type)
{
    static const char *const served[] = {"nfs",  "nfs4", "cifs",    "smb3",  "9p",
                                         "ceph", "zfs",  "overlay", "btrfs", "virtiofs"};
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        if (strcmp(type, served[i]) == 0) {
            return true;
        }
    }
    if (strncmp(type, "fuse.", 5) == 0) {
        return true;
    }
    FILE *f = fopen("/proc/filesystems", "re");
    if (!f) {
        return true;
    }
    char line[128];
    bool real = false;
    while (!real && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        real = line[0] == '\t' && strcmp(line + 1, type) == 0;
    }
    fclose(f);
    return real;
}

/* Add one mount; file systems that are mounted twice count once. */
static gw_err add_mount(struct survey_host *h, const struct mntent *m, dev_t seen[MOUNTS_MAX])
{
    struct statvfs vfs;
    struct stat st;
    if (stat(m->mnt_dir, &st) != 0 || !S_ISDIR(st.st_mode) || statvfs(m->mnt_dir, &vfs) != 0 ||
        vfs.f_blocks == 0) {
        return GW_OK; /* not ours to see, or without space of its own */
    }
    for (size_t i = 0; i < h->filesystems.len; i++) {
        if (seen[i] == st.st_dev) {
            return GW_OK;
        }
    }
    struct survey_mount *fs = &h->filesystems.items[h->filesystems.len];
    seen[h->filesystems.len++] = st.st_dev;
    int64_t unit = (int64_t)vfs.f_frsize;
    fs->total = (int64_t)vfs.f_blocks * unit;
    fs->used = (int64_t)(vfs.f_blocks - vfs.f_bfree) * unit;
    fs->avail = (int64_t)vfs.f_bavail * unit;
    GW_TRY(set_text(&fs->mount, m->mnt_dir));
    GW_TRY(set_text(&fs->device, m->mnt_fsname));
    return set_text(&fs->type, m->mnt_type);
}

static gw_err read_mounts(struct survey_host *h)
{
    h->filesystems.items = calloc(MOUNTS_MAX, sizeof *h->filesystems.items);
    if (!h->filesystems.items) {
        return GW_ENOMEM;
    }
    FILE *f = setmntent("/proc/self/mounts", "re");
    if (!f) {
        return GW_EIO;
    }
    dev_t seen[MOUNTS_MAX] = {0};
    struct mntent m;
    char text[4096];
    gw_err err = GW_OK;
    while (err == GW_OK && h->filesystems.len < MOUNTS_MAX &&
           getmntent_r(f, &m, text, sizeof text)) {
        if (is_real(m.mnt_type)) {
            err = add_mount(h, &m, seen);
        }
    }
    endmntent(f);
    return err;
}

/* --- largest directories --- */

struct walk {
    struct survey_host *found;
    size_t top;
    dev_t device;
    int64_t end_ms;
    char path[4096]; /* of the folder at hand */
    bool over;       /* a limit of entries or time was met */
    gw_err err;
};

static int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Keep a folder if it is among the largest; the list stays sorted. */
static void offer(struct walk *w, int64_t bytes)
{
    struct survey_dir *items = w->found->directories.items;
    size_t n = w->found->directories.len, at = n;
    while (at > 0 && items[at - 1].bytes < bytes) {
        at--;
    }
    if (at == w->top) {
        return;
    }
    char *path = strdup(w->path);
    if (!path) {
        w->err = GW_ENOMEM;
        return;
    }
    if (n == w->top) {
        free(items[--n].path);
    }
    memmove(items + at + 1, items + at, (n - at) * sizeof *items);
    items[at] = (struct survey_dir){path, bytes};
    w->found->directories.len = n + 1;
}

/* Whether to go on; a limit that is met makes the record incomplete. */
static bool within_limits(struct walk *w)
{
    struct survey_host *h = w->found;
    if (h->entries == ENTRIES_MAX || (h->entries % 256 == 255 && clock_ms() > w->end_ms)) {
        w->over = true;
        h->complete = false;
    } else if (!w->over) {
        h->entries++;
    }
    return !w->over && w->err == GW_OK;
}

static int64_t walk_into(struct walk *w, int parent, const char *name, unsigned depth);

/* Bytes of one entry of a folder, with all below it. Links are not followed, other file systems not
 * entered. A file with several names counts with each. */
static int64_t weigh(struct walk *w, int dir, const char *name, unsigned depth)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_dev != w->device) {
        return 0;
    }
    int64_t bytes = (int64_t)st.st_blocks * 512;
    if (!S_ISDIR(st.st_mode)) {
        return bytes;
    }
    size_t before = strlen(w->path);
    int n = snprintf(w->path + before, sizeof w->path - before, "%s%s",
                     before > 0 && w->path[before - 1] == '/' ? "" : "/", name);
    if (n < 0 || (size_t)n >= sizeof w->path - before || depth >= DEPTH_MAX) {
        w->found->complete = w->found->complete && depth < DEPTH_MAX;
    } else {
        bytes += walk_into(w, dir, name, depth + 1);
        if (depth < REPORT_DEPTH) {
            offer(w, bytes);
        }
    }
    w->path[before] = '\0';
    return bytes;
}

static int64_t walk_into(struct walk *w, int parent, const char *name, unsigned depth)
{
    int links = depth > 0 ? O_NOFOLLOW : 0; /* the path that was asked for may be a link */
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | links);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0) {
            close(fd);
        }
        w->found->unreadable++;
        return 0;
    }
    int64_t sum = 0;
    struct dirent *e;
    while ((e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (!within_limits(w)) {
            break;
        }
        sum += weigh(w, fd, e->d_name, depth);
    }
    closedir(dir);
    return sum;
}

static gw_err read_directories(struct survey *s, struct survey_host *h)
{
    struct stat st;
    struct walk *w = calloc(1, sizeof *w); /* too large for the stack of a handler */
    h->directories.items = calloc((size_t)s->top + 1, sizeof *h->directories.items);
    h->complete = true;
    gw_err err = w && h->directories.items ? GW_OK : GW_ENOMEM;
    if (err == GW_OK && (stat(s->path, &st) != 0 || !S_ISDIR(st.st_mode))) {
        err = gw_strs_addf(&s->errors, "%s: \"%s\" is not a directory there", h->host, s->path);
    } else if (err == GW_OK) {
        w->found = h;
        w->top = (size_t)s->top;
        w->device = st.st_dev;
        w->end_ms = clock_ms() + TIME_MAX_MS;
        snprintf(w->path, sizeof w->path, "%s", s->path);
        (void)walk_into(w, AT_FDCWD, s->path, 0);
        err = w->err;
    }
    free(w);
    return err;
}

/* Append the record of this host. */
static gw_err look_around(struct gw_call *call, struct survey *s)
{
    struct survey_host *items = realloc(s->hosts.items, (s->hosts.len + 1) * sizeof *items);
    if (!items) {
        return GW_ENOMEM;
    }
    s->hosts.items = items;
    struct survey_host *h = &items[s->hosts.len++];
    *h = (struct survey_host){.when = gw_now(call)};
    GW_TRY(set_text(&h->host, gw_host_name(call)));
    gw_err err = read_mounts(h);
    if (err == GW_EIO) {
        err = gw_strs_addf(&s->errors, "%s: cannot read /proc/self/mounts", h->host);
    }
    GW_TRY(err);
    GW_TRY(read_directories(s, h));
    gw_log(call, GW_LOG_INFO, "surveyed %s: %zu file systems, %lld entries below %s", h->host,
           h->filesystems.len, (long long)h->entries, s->path);
    return GW_OK;
}

/* --- the journey --- */

static bool is_here(struct gw_call *call, const char *host)
{
    return strcmp(host, gw_host_name(call)) == 0 || strcmp(host, gw_host_id(call)) == 0;
}

/* Leave for the next stop, or home; stops that are this very host are seen to without a journey. */
static gw_err go_on(struct gw_call *call, struct survey *s)
{
    for (; s->next < (int64_t)s->stops.len; s->next++) {
        const char *stop = s->stops.items[s->next];
        if (!is_here(call, stop)) {
            return gw_dispatch(call, stop);
        }
        GW_TRY(look_around(call, s));
    }
    if (!is_here(call, s->home)) {
        return gw_dispatch(call, s->home);
    }
    s->travelling = false;
    s->done = true;
    return GW_OK;
}

/* What the last journey found. */
static void forget(struct survey *s)
{
    for (size_t i = 0; i < s->hosts.len; i++) {
        struct survey_host *h = &s->hosts.items[i];
        for (size_t k = 0; k < h->filesystems.len; k++) {
            free(h->filesystems.items[k].mount);
            free(h->filesystems.items[k].device);
            free(h->filesystems.items[k].type);
        }
        for (size_t k = 0; k < h->directories.len; k++) {
            free(h->directories.items[k].path);
        }
        free(h->filesystems.items);
        free(h->directories.items);
        free(h->host);
    }
    s->hosts.len = 0;
    gw_strs_clear(&s->errors);
    gw_strs_clear(&s->stops);
}

static gw_err start(struct gw_call *call)
{
    struct survey *s = gw_state(call);
    if (s->travelling) {
        return gw_call_fail(call, GW_ECONFLICT, "the journey to %zu hosts is not over yet",
                            s->stops.len);
    }
    if (gw_arg_str(call, "path")[0] != '/') {
        return gw_call_fail(call, GW_EARG, "the path \"%s\" does not begin with /",
                            gw_arg_str(call, "path"));
    }
    const gw_value *hosts = gw_arg_value(call, "hosts");
    forget(s);
    for (size_t i = 0; i < hosts->list.n; i++) {
        GW_TRY(gw_strs_add(&s->stops, hosts->list.items[i].s.p));
    }
    GW_TRY(set_text(&s->path, gw_arg_str(call, "path")));
    const char *home = gw_home(call)[0] ? gw_home(call) : gw_host_name(call);
    GW_TRY(set_text(&s->home, home));
    s->top = gw_arg_int(call, "top");
    s->next = 0;
    s->travelling = true;
    s->done = false;
    return go_on(call, s);
}

static gw_err on_arrive(struct gw_call *call)
{
    struct survey *s = gw_state(call);
    if (!s->travelling) {
        return GW_OK; /* someone else sent it here */
    }
    if (s->next < (int64_t)s->stops.len) {
        GW_TRY(look_around(call, s));
        s->next++;
    }
    return go_on(call, s);
}

/* Called by the host when the journey to `to` could not be made. */
static gw_err on_dispatch_failed(struct gw_call *call)
{
    struct survey *s = gw_state(call);
    if (!s->travelling) {
        return GW_OK;
    }
    GW_TRY(gw_strs_addf(&s->errors, "%s: not reached (%s): %s", gw_arg_str(call, "to"),
                        gw_arg_str(call, "code"), gw_arg_str(call, "text")));
    if (s->next < (int64_t)s->stops.len) {
        s->next++;
        return go_on(call, s);
    }
    s->travelling = false; /* home is gone: the report can be had where it is */
    s->done = true;
    return GW_OK;
}

static gw_err on_create(struct gw_call *call)
{
    struct survey *s = gw_state(call);
    s->top = s->top > 0 && s->top <= 100 ? s->top : 10;
    return s->path ? GW_OK : set_text(&s->path, "/");
}

/* --- the report --- */

/* Set a key of a map unless something failed before. */
static void put(gw_value *map, const char *key, gw_value v, gw_err *err)
{
    if (*err == GW_OK) {
        *err = gw_map_set(map, key, v);
    } else {
        gw_value_free(&v);
    }
}

static void add(gw_value *list, gw_value v, gw_err *err)
{
    if (*err == GW_OK) {
        *err = gw_list_add(list, v);
    } else {
        gw_value_free(&v);
    }
}

static gw_value mounts_value(const struct survey_host *h, gw_err *err)
{
    gw_value list = {.kind = GW_LIST};
    for (size_t i = 0; i < h->filesystems.len; i++) {
        const struct survey_mount *fs = &h->filesystems.items[i];
        gw_value m = {0};
        put(&m, "mount", gw_str(fs->mount ? fs->mount : ""), err);
        put(&m, "device", gw_str(fs->device ? fs->device : ""), err);
        put(&m, "type", gw_str(fs->type ? fs->type : ""), err);
        put(&m, "total", gw_int(fs->total), err);
        put(&m, "used", gw_int(fs->used), err);
        put(&m, "avail", gw_int(fs->avail), err);
        add(&list, m, err);
    }
    return list;
}

static gw_value directories_value(const struct survey_host *h, gw_err *err)
{
    gw_value list = {.kind = GW_LIST};
    for (size_t i = 0; i < h->directories.len; i++) {
        const struct survey_dir *d = &h->directories.items[i];
        gw_value m = {0};
        put(&m, "path", gw_str(d->path ? d->path : ""), err);
        put(&m, "bytes", gw_int(d->bytes), err);
        add(&list, m, err);
    }
    return list;
}

static gw_value host_value(const struct survey_host *h, gw_err *err)
{
    gw_value m = {0};
    put(&m, "host", gw_str(h->host ? h->host : ""), err);
    put(&m, "when", gw_time_value(h->when), err);
    put(&m, "complete", gw_bool(h->complete), err);
    put(&m, "entries", gw_int(h->entries), err);
    put(&m, "unreadable", gw_int(h->unreadable), err);
    put(&m, "filesystems", mounts_value(h, err), err);
    put(&m, "directories", directories_value(h, err), err);
    return m;
}

static gw_err report(struct gw_call *call)
{
    struct survey *s = gw_state(call);
    gw_value hosts = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; i < s->hosts.len; i++) {
        add(&hosts, host_value(&s->hosts.items[i], &err), &err);
    }
    if (err != GW_OK) {
        gw_value_free(&hosts);
        return err;
    }
    GW_TRY(gw_reply_value(call, "hosts", hosts));
    GW_TRY(gw_reply_bool(call, "done", s->done));
    return gw_reply_strs(call, "errors", &s->errors);
}

static const struct gw_method methods[] = {
    {"start(hosts: [string], path: string = \"/\", top: int[1..100] = 10)", start},
    {"report() -> (done: bool, hosts: [any], errors: [string])", report, GW_READ},
    {"on_dispatch_failed(to: string, code: string, text: string)", on_dispatch_failed},
};

GW_AGENT(survey, struct survey, .version = 1, GW_FIELDS(fields), GW_METHODS(methods),
         .on_create = on_create, .on_arrive = on_arrive);
