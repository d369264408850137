/* Files that travel with agents: the folders that they come into.
 *
 * A folder is open for its host from the offer until its ticket is staged, given up or adopted
 * (incoming_shut). What is known of its files is here, under one lock, and only here: a file counts
 * when it has come whole in this life of the host. The loop takes that lock, so nobody waits for a
 * disk under it: names are made and removed under the lock of their folder (io), which looks before
 * each whether the folder is open; none appears behind who has shut it and then held that lock.
 * What is still written to one that was begun before then counts for nothing: such a file is not
 * whole. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host/agent_files_inner.h"
#include "host/agent_tree.h"
#include "host/files/beneath.h"
#include "protocol/base/log.h"

#define ROOM_LEFT_BYTES (64ull * 1024 * 1024) /* of a disk that stays for the store */
#define WRITEBACK_BYTES (8u * 1024 * 1024)

struct coming { /* one file of a folder */
    struct incoming_meta meta;
    struct incoming_visit *writer; /* NULL: nobody writes to it now */
    uint64_t have;
    EVP_MD_CTX *ctx; /* of what is there; NULL once it is whole */
    bool whole;
    uint8_t hash[ENV_FILE_HASH_BYTES];
    struct stat st; /* as it was left */
};

struct folder {
    UT_hash_handle hh; /* by key */
    struct folder_key {
        gw_id ticket, agent;
    } key;
    struct host_id from;
    pthread_mutex_t io; /* of a visitor; taken before the other */
    int fd;             /* -1: it is made when the first one comes; under io */
    bool shut;
    unsigned visits;
    struct coming *files; /* added to under both locks */
    size_t count;
};

struct incoming {
    int fd; /* the folder of them all */
    char *path;
    uint64_t quota; /* bytes of one folder; 0 = none */
    pthread_mutex_t lock;
    struct folder *folders; /* under the lock, and all that is in them */
};

struct incoming_visit {
    struct incoming *in;
    struct folder *folder;
    size_t at; /* of the file that is being written; SIZE_MAX: none */
    int fd;
    EVP_MD_CTX *ctx;
    uint64_t have, flushed, size;
    bool again; /* the file is whole already: only its hash is compared */
};

/* ---- the table ---- */

gw_err incoming_open(const char *dir, uint64_t quota, struct incoming **ret, struct gw_error *why)
{
    struct incoming *in = xcalloc(1, sizeof *in);
    in->fd = -1;
    in->quota = quota;
    in->path = xstrdup(dir);
    pthread_mutex_init(&in->lock, NULL);
    if ((mkdir(dir, 0700) != 0 && errno != EEXIST) ||
        (in->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        gw_err err = gw_fail(why, beneath_code(errno), "cannot make the folder \"%s\": %s", dir,
                             strerror(errno));
        incoming_close(in);
        return err;
    }
    *ret = in;
    return GW_OK;
}

static void folder_free(struct incoming *in, struct folder *f)
{
    HASH_DEL(in->folders, f);
    for (size_t i = 0; i < f->count; i++) {
        EVP_MD_CTX_free(f->files[i].ctx);
    }
    free(f->files);
    if (f->fd >= 0) {
        close(f->fd);
    }
    pthread_mutex_destroy(&f->io);
    free(f);
}

void incoming_close(struct incoming *in)
{
    struct folder *f, *next;
    if (!in) {
        return;
    }
    HASH_ITER (hh, in->folders, f, next) {
        folder_free(in, f);
    }
    if (in->fd >= 0) {
        close(in->fd);
    }
    pthread_mutex_destroy(&in->lock);
    free(in->path);
    free(in);
}

static struct folder *find(struct incoming *in, const gw_id *ticket, const gw_id *agent)
{
    struct folder_key key;
    struct folder *f;
    memset(&key, 0, sizeof key);
    key.ticket = *ticket;
    key.agent = *agent;
    HASH_FIND(hh, in->folders, &key, sizeof key, f);
    return f;
}

/* Under the lock. One that is shut and that nobody is in any more is forgotten by who asked last.
 */
static void settle(struct incoming *in, struct folder *f, bool over)
{
    if (over && f->visits == 0) {
        folder_free(in, f);
    }
}

static gw_err make_folder(struct incoming *in, const gw_id *ticket, const gw_id *agent, int *ret_fd,
                          struct gw_error *why)
{
    char a[GW_ID_TEXT], b[GW_ID_TEXT], path[2 * GW_ID_TEXT];
    (void)gw_id_text(ticket, a);
    (void)snprintf(path, sizeof path, "%s/%s", a, gw_id_text(agent, b));
    int fd = -1;
    if ((mkdirat(in->fd, a, 0700) != 0 && errno != EEXIST) ||
        (mkdirat(in->fd, path, 0700) != 0 && errno != EEXIST) ||
        (fd = openat(in->fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) {
        return gw_fail(why, beneath_code(errno), "no folder for its files can be made: %s",
                       strerror(errno));
    }
    *ret_fd = fd;
    return GW_OK;
}

static gw_err check_room(const struct incoming *in, uint64_t bytes, struct gw_error *why)
{
    struct statvfs v;
    if (fstatvfs(in->fd, &v) != 0) {
        return gw_fail(why, GW_EIO, "the disk cannot be looked at: %s", strerror(errno));
    }
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (bytes > room || room - bytes < ROOM_LEFT_BYTES) {
        return gw_fail(why, GW_EDISK_FULL,
                       "there is no room for its files: %llu bytes, of which %llu stay free",
                       (unsigned long long)room, (unsigned long long)ROOM_LEFT_BYTES);
    }
    return GW_OK;
}

gw_err incoming_expect(struct incoming *in, const struct host_id *from, const gw_id *ticket,
                       const gw_id *agent, uint64_t bytes, struct gw_error *why)
{
    GW_TRY(check_room(in, bytes, why));
    pthread_mutex_lock(&in->lock);
    struct folder *f = find(in, ticket, agent);
    if (!f) {
        f = xcalloc(1, sizeof *f);
        f->key.ticket = *ticket;
        f->key.agent = *agent;
        f->fd = -1;
        pthread_mutex_init(&f->io, NULL);
        HASH_ADD(hh, in->folders, key, sizeof f->key, f);
    }
    f->from = *from;
    f->shut = false;
    pthread_mutex_unlock(&in->lock);
    return GW_OK;
}

bool incoming_comes(struct incoming *in, const gw_id *ticket, const gw_id *agent,
                    struct host_id *ret_from)
{
    pthread_mutex_lock(&in->lock);
    const struct folder *f = find(in, ticket, agent);
    bool comes = f && f->visits > 0;
    if (f) {
        *ret_from = f->from;
    }
    pthread_mutex_unlock(&in->lock);
    return comes;
}

void incoming_shut(struct incoming *in, const gw_id *ticket, const gw_id *agent, bool over)
{
    pthread_mutex_lock(&in->lock);
    struct folder *f = find(in, ticket, agent);
    if (f) {
        f->shut = true;
        settle(in, f, over);
    }
    pthread_mutex_unlock(&in->lock);
}

char *incoming_path(const struct incoming *in, const gw_id *ticket, const gw_id *agent)
{
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    struct buf path = {0};
    buf_addf(&path, "%s/%s/%s", in->path, gw_id_text(ticket, a), gw_id_text(agent, b));
    buf_add(&path, "", 1);
    gw_assert(buf_ok(&path));
    return (char *)path.data; /* whose bytes are of malloc */
}

/* ---- visits ---- */

static bool is_shut(const struct incoming_visit *v)
{
    pthread_mutex_lock(&v->in->lock);
    bool shut = v->folder->shut;
    pthread_mutex_unlock(&v->in->lock);
    return shut;
}

static gw_err fail_shut(struct gw_error *why)
{
    return gw_fail(why, GW_ECANCELLED, "the host does not wait for these files any more");
}

static gw_err open_folder(struct incoming_visit *v, struct gw_error *why)
{
    struct folder *f = v->folder;
    gw_err err = GW_OK;
    pthread_mutex_lock(&f->io);
    if (is_shut(v)) {
        err = fail_shut(why);
    } else if (f->fd < 0) {
        err = make_folder(v->in, &f->key.ticket, &f->key.agent, &f->fd, why);
    }
    pthread_mutex_unlock(&f->io);
    return err;
}

gw_err incoming_enter(struct incoming *in, const struct host_id *from, const gw_id *ticket,
                      const gw_id *agent, struct incoming_visit **ret, struct gw_error *why)
{
    struct incoming_visit *v = xcalloc(1, sizeof *v);
    v->in = in;
    v->at = SIZE_MAX;
    v->fd = -1;
    pthread_mutex_lock(&in->lock);
    struct folder *f = find(in, ticket, agent);
    bool may = f && !f->shut && host_id_equal(&f->from, from);
    if (may) {
        f->visits++;
        v->folder = f;
    }
    pthread_mutex_unlock(&in->lock);
    if (!may) {
        free(v);
        return gw_fail(why, GW_EREFUSED,
                       "the host does not wait for these files: it was started again, or has given "
                       "the move up");
    }
    gw_err err = open_folder(v, why);
    if (err != GW_OK) {
        incoming_leave(v);
        return err;
    }
    *ret = v;
    return GW_OK;
}

/* Under the lock: what came of it stays, for another try. */
static void let_go(struct incoming_visit *v)
{
    if (v->at != SIZE_MAX) {
        struct coming *c = &v->folder->files[v->at];
        c->writer = NULL;
        if (!v->again) {
            c->have = v->have;
            c->ctx = v->ctx;
        }
        v->ctx = NULL;
        v->at = SIZE_MAX;
    }
    if (v->fd >= 0) {
        close(v->fd);
        v->fd = -1;
    }
}

void incoming_leave(struct incoming_visit *v)
{
    struct incoming *in = v->in;
    pthread_mutex_lock(&in->lock);
    let_go(v);
    v->folder->visits--;
    settle(in, v->folder, v->folder->shut);
    pthread_mutex_unlock(&in->lock);
    free(v);
}

static struct coming *find_file(struct folder *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->files[i].meta.name, name) == 0) {
            return &f->files[i];
        }
    }
    return NULL;
}

static gw_err add_file(struct folder *f, struct coming **ret, struct gw_error *why)
{
    if (f->count == 2 * (size_t)LIMIT_CARRIED_PER_AGENT) { /* dropped and registered meanwhile */
        return gw_fail(why, GW_EBUSY, "at most %d files travel with an agent",
                       LIMIT_CARRIED_PER_AGENT);
    }
    struct coming *files = realloc(f->files, (f->count + 1) * sizeof *files);
    if (!files) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    f->files = files;
    *ret = &files[f->count++];
    memset(*ret, 0, sizeof **ret);
    return GW_OK;
}

/* Under the lock: the file is this visit's. Without `same` it begins anew. */
static gw_err claim(struct incoming_visit *v, struct coming *c, const struct incoming_meta *meta,
                    bool same, struct gw_error *why)
{
    if (!same) {
        EVP_MD_CTX_free(c->ctx);
        c->ctx = EVP_MD_CTX_new();
        c->have = 0;
        if (!c->ctx || EVP_DigestInit_ex(c->ctx, EVP_sha256(), NULL) != 1) {
            return gw_fail(why, GW_ENOMEM, "out of memory for a hash");
        }
    }
    c->meta = *meta;
    c->whole = false;
    c->writer = v;
    v->ctx = c->ctx;
    c->ctx = NULL;
    v->at = (size_t)(c - v->folder->files);
    v->have = v->flushed = c->have;
    return GW_OK;
}

static gw_err check_quota(const struct incoming_visit *v, const struct incoming_meta *meta,
                          struct gw_error *why)
{
    const struct folder *f = v->folder;
    uint64_t quota = v->in->quota, bytes = meta->size;
    for (size_t i = 0; i < f->count && bytes <= quota; i++) {
        if (strcmp(f->files[i].meta.name, meta->name) != 0) {
            bytes += f->files[i].meta.size;
        }
    }
    return quota == 0 || bytes <= quota
               ? GW_OK
               : gw_fail(why, GW_EREFUSED,
                         "its files have more than %llu bytes, the quota of a work folder",
                         (unsigned long long)quota);
}

/* Under both locks. ret_open: it has to be opened; ret_anew: and made. */
static gw_err begin(struct incoming_visit *v, const struct incoming_meta *meta, bool *ret_open,
                    bool *ret_anew, struct gw_error *why)
{
    struct folder *f = v->folder;
    struct coming *c = find_file(f, meta->name);
    if (f->shut) {
        return fail_shut(why);
    }
    if (c && c->writer) {
        return gw_fail(why, GW_EBUSY, "the file is being written over another connection");
    }
    GW_TRY(check_quota(v, meta, why));
    if (!c) {
        GW_TRY(add_file(f, &c, why));
    }
    bool same = memcmp(&c->meta.tag, meta->tag, sizeof meta->tag) == 0 &&
                c->meta.size == meta->size && (c->ctx || c->whole);
    v->again = same && c->whole;
    v->size = meta->size;
    *ret_open = !v->again;
    *ret_anew = !same;
    if (v->again) {
        c->writer = v;
        v->at = (size_t)(c - f->files);
        v->have = v->size;
        return GW_OK;
    }
    return claim(v, c, meta, same, why);
}

/* Under io. */
static gw_err open_part(struct incoming_visit *v, const struct incoming_meta *meta, bool anew,
                        struct gw_error *why)
{
    if (anew) { /* what was there may be without permission to write */
        (void)unlinkat(v->folder->fd, meta->name, 0);
    }
    v->fd = openat(v->folder->fd, meta->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return v->fd >= 0 ? GW_OK
                      : gw_fail(why, beneath_code(errno), "cannot make \"%s\": %s", meta->name,
                                strerror(errno));
}

gw_err incoming_begin(struct incoming_visit *v, const struct incoming_meta *meta,
                      uint64_t *ret_have, struct gw_error *why)
{
    struct folder *f = v->folder;
    bool to_open = false, anew = false;
    pthread_mutex_lock(&f->io);
    pthread_mutex_lock(&v->in->lock);
    gw_err err = begin(v, meta, &to_open, &anew, why);
    pthread_mutex_unlock(&v->in->lock);
    if (err == GW_OK && to_open) {
        err = open_part(v, meta, anew, why);
    }
    pthread_mutex_unlock(&f->io);
    if (err == GW_OK && to_open) {
        err = check_room(v->in, v->size - v->have, why);
    }
    if (err == GW_OK) {
        *ret_have = v->have;
        return GW_OK;
    }
    pthread_mutex_lock(&v->in->lock);
    let_go(v);
    pthread_mutex_unlock(&v->in->lock);
    return err;
}

uint64_t incoming_left(const struct incoming_visit *v)
{
    return v->size - v->have;
}

gw_err incoming_write(struct incoming_visit *v, const void *data, size_t n, struct gw_error *why)
{
    const uint8_t *p = data;
    gw_assert(v->fd >= 0 && n <= v->size - v->have);
    while (n > 0) {
        ssize_t wrote = pwrite(v->fd, p, n, (off_t)v->have);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote < 0) {
            return gw_fail(why, beneath_code(errno), "cannot write: %s", strerror(errno));
        }
        if (EVP_DigestUpdate(v->ctx, p, (size_t)wrote) != 1) {
            return gw_fail(why, GW_ECRYPTO, "SHA-256 failed");
        }
        v->have += (uint64_t)wrote;
        p += wrote;
        n -= (size_t)wrote;
    }
    if (v->have - v->flushed >= WRITEBACK_BYTES) { /* so that the flush at its end is short */
        GW_TRY(is_shut(v) ? fail_shut(why) : check_room(v->in, 0, why));
        (void)sync_file_range(v->fd, (off_t)v->flushed, (off_t)(v->have - v->flushed),
                              SYNC_FILE_RANGE_WRITE);
        v->flushed = v->have;
    }
    return GW_OK;
}

static gw_err make_whole(struct incoming_visit *v, const struct incoming_meta *meta,
                         struct stat *ret, struct gw_error *why)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW},
                                {.tv_sec = (time_t)(meta->mtime_ns / 1000000000),
                                 .tv_nsec = (long)(meta->mtime_ns % 1000000000)}};
    if (times[1].tv_nsec < 0) {
        times[1].tv_nsec += 1000000000;
        times[1].tv_sec--;
    }
    /* Not setuid and setgid: it belongs to the user of this host. */
    if (fchmod(v->fd, meta->perm & 01777) != 0 || futimens(v->fd, times) != 0 ||
        fsync(v->fd) != 0 || fsync(v->folder->fd) != 0 || fstat(v->fd, ret) != 0) {
        return gw_fail(why, beneath_code(errno), "cannot finish \"%s\": %s", meta->name,
                       strerror(errno));
    }
    return GW_OK;
}

static gw_err end_new(struct incoming_visit *v, const struct incoming_meta *meta,
                      const uint8_t hash[ENV_FILE_HASH_BYTES], struct stat *ret,
                      struct gw_error *why)
{
    uint8_t have[ENV_FILE_HASH_BYTES];
    gw_err err = v->have == v->size
                     ? carried_hash_end(v->ctx, have)
                     : gw_fail(why, GW_EPROTO, "bytes of \"%s\" are missing", meta->name);
    EVP_MD_CTX_free(v->ctx);
    v->ctx = NULL; /* it is whole, or begins anew */
    GW_TRY(err);
    if (memcmp(have, hash, sizeof have) != 0) {
        return gw_fail(why, GW_EPROTO, "\"%s\" was altered on its way: its hash is another",
                       meta->name);
    }
    return make_whole(v, meta, ret, why);
}

gw_err incoming_end(struct incoming_visit *v, const uint8_t hash[ENV_FILE_HASH_BYTES],
                    struct gw_error *why)
{
    struct stat st = {0};
    gw_err err = GW_OK;
    pthread_mutex_lock(&v->in->lock);
    struct incoming_meta meta = v->folder->files[v->at].meta;
    pthread_mutex_unlock(&v->in->lock);
    if (!v->again) {
        err = end_new(v, &meta, hash, &st, why);
    }
    pthread_mutex_lock(&v->in->lock);
    struct coming *c = &v->folder->files[v->at];
    if (v->again && memcmp(c->hash, hash, sizeof c->hash) != 0) {
        err = gw_fail(why, GW_EPROTO, "\"%s\" has come with another hash before", meta.name);
        c->whole = false;
    } else if (!v->again) {
        c->whole = err == GW_OK;
        memcpy(c->hash, hash, sizeof c->hash);
        c->st = st;
    }
    let_go(v);
    pthread_mutex_unlock(&v->in->lock);
    return err;
}

/* ---- staged ---- */

static gw_err fail_missing(const struct wanted_file *want, struct gw_error *why)
{
    return gw_fail(why, GW_EPROTO, "its file \"%s\" has not come whole", want->name);
}

/* Under both locks: what is known of it. */
static gw_err check_known(struct folder *f, const struct wanted_file *want, struct gw_error *why)
{
    const struct coming *c = find_file(f, want->name);
    bool there = c && c->whole && !c->writer && c->meta.size == want->size &&
                 memcmp(c->hash, want->hash, sizeof c->hash) == 0;
    return there ? GW_OK : fail_missing(want, why);
}

/* Under io, which keeps what is known from being changed: what lies there. */
static gw_err check_there(struct folder *f, const struct wanted_file *want, struct gw_error *why)
{
    const struct coming *c = find_file(f, want->name);
    struct stat st;
    bool there = fstatat(f->fd, want->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                 st.st_ino == c->st.st_ino && st.st_size == c->st.st_size &&
                 st.st_mtim.tv_sec == c->st.st_mtim.tv_sec &&
                 st.st_mtim.tv_nsec == c->st.st_mtim.tv_nsec;
    return there ? GW_OK : fail_missing(want, why);
}

static bool is_wanted(const struct wanted_file *files, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(files[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* What was registered and dropped again while they flowed. */
static gw_err remove_others(const struct folder *f, const struct wanted_file *files, size_t n,
                            struct gw_error *why)
{
    bool any = false;
    for (size_t i = 0; i < f->count; i++) {
        const char *name = f->files[i].meta.name;
        if (!is_wanted(files, n, name)) {
            any = true;
            if (unlinkat(f->fd, name, 0) != 0 && errno != ENOENT) {
                return gw_fail(why, GW_EIO, "cannot remove \"%s\": %s", name, strerror(errno));
            }
        }
    }
    if (any && fsync(f->fd) != 0) {
        return gw_fail(why, GW_EIO, "cannot flush a folder: %s", strerror(errno));
    }
    return GW_OK;
}

/* The folder itself, and that of its ticket, have to be there after a crash. */
static gw_err flush_names(struct incoming *in, const gw_id *ticket, struct gw_error *why)
{
    char id[GW_ID_TEXT];
    int fd = openat(in->fd, gw_id_text(ticket, id), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0 && fsync(in->fd) == 0;
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    return good ? GW_OK
                : gw_fail(why, beneath_code(error), "cannot flush a folder: %s", strerror(error));
}

/* A visit of the host itself. NULL: there is no such folder. */
static struct folder *hold(struct incoming *in, const gw_id *ticket, const gw_id *agent)
{
    pthread_mutex_lock(&in->lock);
    struct folder *f = find(in, ticket, agent);
    if (f) {
        f->visits++;
    }
    pthread_mutex_unlock(&in->lock);
    if (f) {
        pthread_mutex_lock(&f->io);
    }
    return f;
}

static void drop(struct incoming *in, struct folder *f)
{
    pthread_mutex_unlock(&f->io);
    pthread_mutex_lock(&in->lock);
    f->visits--;
    settle(in, f, true);
    pthread_mutex_unlock(&in->lock);
}

gw_err incoming_verify(struct incoming *in, const gw_id *ticket, const gw_id *agent,
                       const struct wanted_file *files, size_t n, struct gw_error *why)
{
    struct folder *f = hold(in, ticket, agent);
    gw_err err = GW_OK;
    if (!f) {
        return gw_fail(why, GW_EPROTO, "its files are not here");
    }
    pthread_mutex_lock(&in->lock);
    for (size_t i = 0; err == GW_OK && i < n; i++) {
        err = check_known(f, &files[i], why);
    }
    pthread_mutex_unlock(&in->lock);
    for (size_t i = 0; err == GW_OK && i < n; i++) {
        err = check_there(f, &files[i], why);
    }
    if (err == GW_OK) {
        err = remove_others(f, files, n, why);
    }
    if (err == GW_OK && f->fd >= 0) {
        err = flush_names(in, ticket, why);
    }
    drop(in, f);
    return err;
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

static gw_err remove_folder(struct incoming *in, const gw_id *ticket, const gw_id *agent,
                            struct gw_error *why)
{
    char id[GW_ID_TEXT], name[GW_ID_TEXT];
    int fd = openat(in->fd, gw_id_text(ticket, id), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT
                   ? GW_OK
                   : gw_fail(why, beneath_code(errno), "cannot open it: %s", strerror(errno));
    }
    bool more = true;
    gw_err err = GW_OK;
    while (err == GW_OK && more) {
        more = false;
        err = agent_tree_remove(fd, gw_id_text(agent, name), always, NULL, &more);
    }
    close(fd);
    if (unlinkat(in->fd, id, AT_REMOVEDIR) != 0 && errno != ENOTEMPTY && errno != ENOENT) {
        err = GW_EIO;
    }
    return err == GW_OK ? GW_OK : gw_fail(why, err, "it cannot be removed");
}

gw_err incoming_drop(struct incoming *in, const gw_id *ticket, const gw_id *agent,
                     struct gw_error *why)
{
    struct folder *f = hold(in, ticket, agent);
    gw_err err = remove_folder(in, ticket, agent, why);
    if (f) {
        drop(in, f);
    }
    return err;
}

/* ---- what lies there at a start ---- */

struct listing {
    struct env_folder *items;
    size_t count, room;
};

static gw_err list_ticket(struct incoming *in, const gw_id *ticket, const char *name,
                          struct listing *l)
{
    int fd = openat(in->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    size_t before = l->count;
    if (!dir) {
        return beneath_code(errno);
    }
    while ((e = readdir(dir))) {
        gw_id agent;
        if (gw_id_parse(e->d_name, &agent) != GW_OK) {
            continue;
        }
        if (l->count == l->room) {
            l->room = l->room ? 2 * l->room : 64;
            l->items = realloc(l->items, l->room * sizeof *l->items);
            gw_assert(l->items);
        }
        l->items[l->count++] = (struct env_folder){*ticket, agent};
    }
    closedir(dir);
    if (l->count == before) { /* its agents have been adopted, or dropped */
        (void)unlinkat(in->fd, name, AT_REMOVEDIR);
    }
    return GW_OK;
}

gw_err incoming_list(struct incoming *in, struct env_folder **ret, size_t *ret_n)
{
    struct listing l = {0};
    int fd = openat(in->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    gw_err err = dir ? GW_OK : beneath_code(errno);
    while (dir && err == GW_OK && (e = readdir(dir))) {
        gw_id ticket;
        if (gw_id_parse(e->d_name, &ticket) == GW_OK) {
            err = list_ticket(in, &ticket, e->d_name, &l);
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (err != GW_OK) {
        free(l.items);
        return err;
    }
    *ret = l.items;
    *ret_n = l.count;
    return GW_OK;
}
