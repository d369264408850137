/* Files that travel with agents: the end that has them. All of it runs on threads of the data
 * plane. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/agent_files_inner.h"
#include "host/files/beneath.h"
#include "protocol/base/log.h"
#include "protocol/base/mp.h"

/* ---- records ---- */

gw_err carried_put(struct bulk_io *io, struct buf *record)
{
    uint8_t head[4] = {(uint8_t)(record->len >> 24), (uint8_t)(record->len >> 16),
                       (uint8_t)(record->len >> 8), (uint8_t)record->len};
    struct buf whole = {0};
    buf_add(&whole, head, sizeof head);
    buf_add(&whole, record->data, record->len);
    gw_err err = buf_ok(record) && buf_ok(&whole) ? GW_OK : GW_ENOMEM;
    buf_free(record);
    if (err == GW_OK) {
        err = bulk_write(io, whole.data, whole.len);
    }
    buf_free(&whole);
    return err;
}

/* GW_ENOT_FOUND: an orderly end, before the first byte; further on it is GW_EUNREACHABLE. */
gw_err carried_read(struct bulk_io *io, void *to, size_t n, bool begun)
{
    uint8_t *p = to;
    while (n > 0) {
        size_t got = 0;
        gw_err err = bulk_read(io, p, n, &got);
        if (err != GW_OK) {
            return err == GW_ENOT_FOUND && begun ? GW_EUNREACHABLE : err;
        }
        begun = true;
        p += got;
        n -= got;
    }
    return GW_OK;
}

gw_err carried_get(struct bulk_io *io, struct buf *ret)
{
    uint8_t head[4];
    GW_TRY(carried_read(io, head, sizeof head, false));
    size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (n == 0 || n > CARRIED_WIRE_BYTES) {
        return GW_EPROTO;
    }
    uint8_t raw[CARRIED_WIRE_BYTES];
    GW_TRY(carried_read(io, raw, n, true));
    buf_add(ret, raw, n);
    return buf_ok(ret) ? GW_OK : GW_ENOMEM;
}

gw_err carried_put_answer(struct bulk_io *io, gw_err code, const struct gw_error *why,
                          uint64_t number)
{
    struct buf b = {0};
    mp_array(&b, 3);
    mp_uint(&b, code);
    mp_str(&b, code == GW_OK ? NULL : why->text);
    mp_uint(&b, number);
    return carried_put(io, &b);
}

gw_err carried_get_answer(struct bulk_io *io, uint64_t *ret_number, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf b = {0};
    size_t fields;
    uint32_t code;
    char text[LIMIT_ERROR_TEXT_BYTES];
    uint64_t number;
    gw_err err = carried_get(io, &b);
    struct mp m = mp_over(buf_span(&b));
    if (err == GW_OK &&
        (mp_read_array(&m, &fields) != GW_OK || fields < 3 || mp_read_u32(&m, &code) != GW_OK ||
         mp_read_text_or_nil(&m, text, sizeof text) != GW_OK ||
         mp_read_uint(&m, &number) != GW_OK)) {
        err = GW_EPROTO;
    }
    if (err != GW_OK) {
        err = err == GW_ENOT_FOUND ? GW_EUNREACHABLE : err; /* an end in good order, too early */
        gw_fail(why, err, "the connection broke");
        io->describe(io->ctx, why);
        why->code = err;
        return err;
    }
    if (code != GW_OK) {
        gw_err told = gw_err_from_wire(code);
        return gw_fail(why, told == GW_EAGAIN ? GW_EFAIL : told, "%s", text);
    }
    *ret_number = number;
    return GW_OK;
}

gw_err carried_hash_end(EVP_MD_CTX *ctx, uint8_t ret[ENV_FILE_HASH_BYTES])
{
    unsigned n = 0;
    return EVP_DigestFinal_ex(ctx, ret, &n) == 1 && n == ENV_FILE_HASH_BYTES ? GW_OK : GW_ECRYPTO;
}

/* ---- one file ---- */

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fill(struct env_fact *f, const struct stat *st)
{
    *f = (struct env_fact){.dev = st->st_dev,
                           .ino = st->st_ino,
                           .size = (uint64_t)st->st_size,
                           .mtime_ns = ns_of(st->st_mtim),
                           .ctime_ns = ns_of(st->st_ctim),
                           .perm = st->st_mode & 07777};
}

/* Its folder, and its name in there (borrowed from file->path). A path in the work folder is opened
 * without following any link, another one as far as its root reaches. */
static gw_err open_folder(const struct carried_job *job, const struct carried_file *file,
                          int *ret_fd, const char **ret_name)
{
    struct gw_error why;
    const char *slash = strrchr(file->path, '/');
    *ret_name = slash ? slash + 1 : file->path;
    if (file->path[0] != '/') {
        int base = open(job->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (base < 0) {
            return beneath_code(errno);
        }
        GW_AUTO(free_charp)
        char *folder = strndup(file->path, slash ? (size_t)(slash - file->path) : 0);
        int fd = folder ? beneath_folder(base, folder, O_PATH) : -1;
        int error = errno;
        close(base);
        if (fd < 0) {
            return beneath_code(error);
        }
        *ret_fd = fd;
        return GW_OK;
    }
    GW_AUTO(free_charp) char *rest = NULL;
    size_t root;
    GW_TRY(roots_find(job->roots, file->path, &root, &rest, NULL, &why));
    char *last = strrchr(rest, '/');
    if (rest[0] == '\0') {
        return GW_EREFUSED; /* a root itself */
    }
    if (last) {
        *last = '\0';
    } else {
        rest[0] = '\0';
    }
    return roots_open_at(job->roots, root, rest, O_PATH | O_DIRECTORY, ret_fd, &why);
}

/* A regular file, not through a link. */
static gw_err open_file(const struct carried_job *job, const struct carried_file *file, int *ret_fd,
                        struct stat *ret)
{
    const char *name;
    int folder;
    GW_TRY(open_folder(job, file, &folder, &name));
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int error = errno;
    close(folder);
    if (fd < 0) {
        return beneath_code(error);
    }
    if (fstat(fd, ret) != 0 || !S_ISREG(ret->st_mode)) {
        close(fd);
        return GW_EREFUSED;
    }
    *ret_fd = fd;
    return GW_OK;
}

gw_err carried_check(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct carried_job *job = arg;
    (void)io, (void)why;
    for (size_t i = 0; i < job->count; i++) {
        struct carried_file *file = &job->files[i];
        struct stat st;
        int fd = -1;
        gw_err err = open_file(job, file, &fd, &st);
        if (err == GW_OK) {
            fill(&file->fact, &st);
            close(fd);
        } else {
            file->fact = (struct env_fact){.err = err};
        }
    }
    return GW_OK;
}

static gw_err digest(const void *data, size_t n, uint8_t ret[ENV_FILE_HASH_BYTES])
{
    unsigned len = 0;
    return EVP_Digest(data, n, ret, &len, EVP_sha256(), NULL) == 1 ? GW_OK : GW_ECRYPTO;
}

/* What the next try must find unchanged to go on. */
static gw_err tag_of(const struct stat *st, uint8_t ret[CARRIED_TAG_BYTES])
{
    const int64_t facts[] = {(int64_t)st->st_dev, (int64_t)st->st_ino, st->st_size,
                             ns_of(st->st_mtim), ns_of(st->st_ctim)};
    uint8_t hash[ENV_FILE_HASH_BYTES];
    GW_TRY(digest(facts, sizeof facts, hash));
    memcpy(ret, hash, CARRIED_TAG_BYTES);
    return GW_OK;
}

/* Times of a file have the step of a clock tick: one that was changed in this very tick may be
 * changed again without a sign of it. So its content is read when that tick is over; one that goes
 * on changing shows it by its times then. */
#define TICK_NS    (20 * 1000000LL)
#define TICK_TRIES 5
static gw_err await_tick(int fd, struct stat *st)
{
    for (int i = 0; i < TICK_TRIES; i++) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t age = ns_of(now) - ns_of(st->st_ctim);
        if (age < 0 || age >= TICK_NS) {
            return GW_OK;
        }
        struct timespec rest = {.tv_nsec = (long)(TICK_NS - age)};
        (void)nanosleep(&rest, NULL);
        if (fstat(fd, st) != 0) {
            return GW_EIO;
        }
    }
    return GW_OK;
}

/* ---- where its bytes go: over a connection, or into a folder of this host ---- */
struct outlet {
    struct bulk_io *io;
    struct incoming_visit *visit;
    gw_err (*write)(struct outlet *o, const void *data, size_t n, struct gw_error *why);
};

static gw_err to_wire(struct outlet *o, const void *data, size_t n, struct gw_error *why)
{
    gw_err err = bulk_write(o->io, data, n);
    if (err != GW_OK) {
        gw_fail(why, err, "the connection broke");
        o->io->describe(o->io->ctx, why);
        why->code = err;
    }
    return err;
}

static gw_err to_folder(struct outlet *o, const void *data, size_t n, struct gw_error *why)
{
    return incoming_write(o->visit, data, n, why);
}

/* Just as many bytes as were announced. Of a file that shrinks meanwhile the rest is zeros: it has
 * changed since it was looked at, so it is sent again. `have` of them are there already. */
static gw_err pour(int fd, uint64_t size, uint64_t have, struct outlet *o, EVP_MD_CTX *ctx,
                   struct gw_error *why)
{
    uint8_t *block = malloc(CARRIED_BLOCK);
    gw_err err = block ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
    for (uint64_t at = 0; err == GW_OK && at < size;) {
        size_t want = size - at < CARRIED_BLOCK ? (size_t)(size - at) : CARRIED_BLOCK;
        ssize_t n = pread(fd, block, want, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            err = gw_fail(why, beneath_code(errno), "cannot read it: %s", strerror(errno));
            break;
        }
        if (n == 0) {
            memset(block, 0, want);
            n = (ssize_t)want;
        }
        if (EVP_DigestUpdate(ctx, block, (size_t)n) != 1) {
            err = gw_fail(why, GW_ECRYPTO, "SHA-256 failed");
        }
        uint64_t end = at + (uint64_t)n;
        if (err == GW_OK && end > have) {
            size_t skip = at < have ? (size_t)(have - at) : 0;
            err = o->write(o, block + skip, (size_t)n - skip, why);
        }
        at = end;
    }
    free(block);
    return err;
}

static gw_err pour_hashed(int fd, const struct incoming_meta *meta, uint64_t have, struct outlet *o,
                          uint8_t ret_hash[ENV_FILE_HASH_BYTES], struct gw_error *why)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    gw_err err = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1
                     ? GW_OK
                     : gw_fail(why, GW_ENOMEM, "out of memory for a hash");
    if (err == GW_OK) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        err = pour(fd, meta->size, have, o, ctx, why);
    }
    if (err == GW_OK) {
        err = carried_hash_end(ctx, ret_hash);
    }
    EVP_MD_CTX_free(ctx);
    return err;
}

static gw_err announce(struct bulk_io *io, const struct incoming_meta *meta)
{
    struct buf b = {0};
    mp_array(&b, 5);
    mp_str(&b, meta->name);
    mp_uint(&b, meta->size);
    mp_int(&b, meta->mtime_ns);
    mp_uint(&b, meta->perm);
    mp_bin(&b, meta->tag, sizeof meta->tag);
    return carried_put(io, &b);
}

static gw_err begin_there(struct outlet *o, const struct incoming_meta *meta, uint64_t *ret_have,
                          struct gw_error *why)
{
    if (o->visit) {
        return incoming_begin(o->visit, meta, ret_have, why);
    }
    gw_err err = announce(o->io, meta);
    if (err != GW_OK) {
        return gw_fail(why, err, "the connection broke");
    }
    return carried_get_answer(o->io, ret_have, why);
}

static gw_err end_there(struct outlet *o, const uint8_t hash[ENV_FILE_HASH_BYTES],
                        struct gw_error *why)
{
    uint64_t unused;
    if (o->visit) {
        return incoming_end(o->visit, hash, why);
    }
    GW_TRY(to_wire(o, hash, ENV_FILE_HASH_BYTES, why));
    return carried_get_answer(o->io, &unused, why);
}

static gw_err give(struct outlet *o, struct carried_file *file, int fd, const struct stat *st,
                   struct gw_error *why)
{
    struct incoming_meta meta = {
        .size = (uint64_t)st->st_size, .mtime_ns = ns_of(st->st_mtim), .perm = st->st_mode & 07777};
    uint64_t have = 0;
    memcpy(meta.name, file->name, sizeof meta.name);
    GW_TRY(tag_of(st, meta.tag));
    GW_TRY(begin_there(o, &meta, &have, why));
    if (have > meta.size) {
        return gw_fail(why, GW_EPROTO, "the host says that it has more than there is");
    }
    uint8_t hash[ENV_FILE_HASH_BYTES];
    GW_TRY(pour_hashed(fd, &meta, have, o, hash, why));
    GW_TRY(end_there(o, hash, why));
    fill(&file->fact, st);
    memcpy(file->fact.hash, hash, sizeof hash);
    return GW_OK;
}

/* One after the other; one that is not there is told of and ends it: nothing travels without it. */
static gw_err give_all(struct carried_job *job, struct outlet *o, struct gw_error *why)
{
    for (size_t i = 0; i < job->count; i++) {
        struct carried_file *file = &job->files[i];
        struct stat st;
        int fd = -1;
        gw_err err = open_file(job, file, &fd, &st);
        if (err != GW_OK) {
            file->fact = (struct env_fact){.err = err};
            continue;
        }
        err = await_tick(fd, &st);
        err = err == GW_OK ? give(o, file, fd, &st, why)
                           : gw_fail(why, err, "\"%s\" cannot be looked at", file->name);
        close(fd);
        GW_TRY(err);
    }
    return GW_OK;
}

gw_err carried_send(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct carried_job *job = arg;
    struct outlet o = {.io = io, .write = to_wire};
    struct buf b = {0};
    uint64_t unused;
    mp_array(&b, 3);
    mp_uint(&b, 1); /* version of the form */
    mp_id(&b, &job->ticket);
    mp_id(&b, &job->agent);
    gw_err err = carried_put(io, &b);
    if (err != GW_OK) {
        return gw_fail(why, err, "the connection broke");
    }
    GW_TRY(carried_get_answer(io, &unused, why));
    return give_all(job, &o, why);
}

gw_err carried_copy(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct carried_job *job = arg;
    struct outlet o = {.io = io, .write = to_folder};
    GW_TRY(incoming_enter(job->incoming, &job->self, &job->ticket, &job->agent, &o.visit, why));
    gw_err err = give_all(job, &o, why);
    incoming_leave(o.visit);
    return err;
}

/* ---- what moved goes ---- */

static gw_err remove_one(const struct carried_job *job, const struct carried_file *file)
{
    const char *name;
    int folder;
    struct stat st;
    struct env_fact now;
    gw_err err = open_folder(job, file, &folder, &name);
    if (err != GW_OK) {
        return err == GW_ENOT_FOUND ? GW_OK : err;
    }
    const struct env_fact *was = &file->was;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        err = errno == ENOENT ? GW_OK : beneath_code(errno);
    } else {
        fill(&now, &st);
        bool same = S_ISREG(st.st_mode) && now.dev == was->dev && now.ino == was->ino &&
                    now.size == was->size && now.mtime_ns == was->mtime_ns &&
                    now.ctime_ns == was->ctime_ns;
        err = !same                                               ? GW_ECONFLICT
              : unlinkat(folder, name, 0) == 0 || errno == ENOENT ? GW_OK
                                                                  : beneath_code(errno);
    }
    close(folder);
    return err;
}

gw_err carried_remove(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct carried_job *job = arg;
    (void)io, (void)why;
    for (size_t i = 0; i < job->count; i++) {
        job->files[i].fact = (struct env_fact){.err = remove_one(job, &job->files[i])};
    }
    return GW_OK;
}
