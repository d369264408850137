#include "host/fetch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/base/log.h"

#define BLOCK_BYTES (1024u * 1024)

static gw_err failed(struct gw_error *why, const char *what, const char *path)
{
    int e = errno;
    gw_err code = e == ENOENT || e == ENOTDIR                             ? GW_ENOT_FOUND
                  : e == EACCES || e == EPERM || e == EXDEV || e == ELOOP ? GW_EDENIED
                  : e == ENOSPC || e == EDQUOT                            ? GW_EDISK_FULL
                  : e == EMFILE || e == ENFILE                            ? GW_EBUSY
                                                                          : GW_EIO;
    return gw_fail(why, code, "cannot %s \"%s\": %s", what, path, strerror(e));
}

/* ---- import ---- */

static gw_err open_path(const struct roots *roots, const char *path, int *ret_fd,
                        struct gw_error *why)
{
    size_t root;
    char *rest = NULL;
    GW_TRY(roots_find(roots, path, &root, &rest, NULL, why));
    gw_err err = roots_open_at(roots, root, rest, O_RDONLY | O_NONBLOCK | O_NOCTTY, ret_fd, why);
    free(rest);
    return err;
}

static gw_err called_off(struct bulk_io *io, struct gw_error *why)
{
    gw_err err = io->wait(io->ctx, false, false, 0);
    return err == GW_OK || err == GW_ETIMEOUT ? GW_OK : gw_fail(why, err, "it was called off");
}

static gw_err add_all(struct artifact_writer *w, struct bulk_io *io, int fd, const char *path,
                      struct gw_error *why)
{
    uint8_t *block = malloc(BLOCK_BYTES);
    gw_err err = block ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
    while (err == GW_OK) {
        ssize_t n = read(fd, block, BLOCK_BYTES);
        if (n == 0) {
            break;
        }
        if (n < 0) {
            err = errno == EINTR ? GW_OK : failed(why, "read", path);
            continue;
        }
        err = artifact_writer_add(w, block, (size_t)n, why);
        err = err ? err : called_off(io, why);
    }
    free(block);
    return err;
}

static gw_err import_fd(struct chunk_store *s, struct bulk_io *io, int fd, const char *path,
                        const struct artifact_meta *meta, struct artifact_info *ret,
                        struct gw_error *why)
{
    struct artifact_writer *w = NULL;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return failed(why, "read", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return gw_fail(why, GW_EARG, "\"%s\" is no regular file", path);
    }
    GW_TRY(artifact_writer_new(s, meta, &w, why));
    gw_err err = add_all(w, io, fd, path, why);
    if (err == GW_OK) {
        err = artifact_writer_finish(w, NULL, ret, why);
    }
    artifact_writer_free(w);
    return err;
}

gw_err fetch_file_import(struct chunk_store *s, struct bulk_io *io, const struct roots *roots,
                         const char *path, const struct artifact_meta *meta,
                         struct artifact_info *ret, struct gw_error *why)
{
    int fd;
    GW_TRY(open_path(roots, path, &fd, why));
    gw_err err = import_fd(s, io, fd, path, meta, ret, why);
    close(fd);
    return err;
}

/* ---- export ---- */

static gw_err write_all(int fd, struct span bytes, const char *path, struct gw_error *why)
{
    while (bytes.n > 0) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno != EINTR) {
            return failed(why, "write", path);
        }
        bytes.p += n > 0 ? n : 0;
        bytes.n -= n > 0 ? (size_t)n : 0;
    }
    return GW_OK;
}

static gw_err copy_out(struct artifact_reader *r, struct bulk_io *io, int fd, const char *path,
                       struct gw_error *why)
{
    uint64_t at = 0, size = artifact_reader_info(r)->size;
    while (at < size) {
        struct span part;
        GW_TRY(artifact_reader_at(r, at, &part, why));
        GW_TRY(write_all(fd, part, path, why));
        at += part.n;
        GW_TRY(called_off(io, why));
    }
    return fdatasync(fd) == 0 ? GW_OK : failed(why, "write", path);
}

/* Under a name of its own first, so that nobody sees a part of it. */
static gw_err write_file(struct artifact_reader *r, struct bulk_io *io, int dir, const char *name,
                         struct gw_error *why)
{
    char part[CHUNK_HASH_TEXT + 32];
    snprintf(part, sizeof part, ".%s.%lx", name, (unsigned long)syscall(SYS_gettid));
    (void)unlinkat(dir, part, 0); /* of one that was killed */
    int fd = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return failed(why, "make", part);
    }
    gw_err err = copy_out(r, io, fd, part, why);
    if (err == GW_OK && (fchmod(fd, 0400) != 0 || renameat(dir, part, dir, name) != 0)) {
        err = failed(why, "name", name);
    }
    if (err != GW_OK) {
        (void)unlinkat(dir, part, 0);
    }
    close(fd);
    return err;
}

static gw_err open_folder(const char *folder, int *ret_dir, struct gw_error *why)
{
    int base = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (base < 0) {
        return failed(why, "open", folder);
    }
    int dir = -1;
    if (mkdirat(base, "artifacts", 0700) == 0 || errno == EEXIST) {
        dir = openat(base, "artifacts", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    }
    gw_err err = dir < 0 ? failed(why, "make the folder \"artifacts\" in", folder) : GW_OK;
    close(base);
    if (err == GW_OK) {
        *ret_dir = dir;
    }
    return err;
}

gw_err fetch_file_export(struct chunk_store *s, struct bulk_io *io, const gw_id *artifact,
                         const char *folder, char **ret_path, struct gw_error *why)
{
    struct artifact_reader *r = NULL;
    struct stat st;
    char name[CHUNK_HASH_TEXT], *path = NULL;
    int dir = -1;
    GW_TRY(artifact_reader_open(s, artifact, &r, why));
    const struct artifact_info *info = artifact_reader_info(r);
    chunk_hash_text(&info->hash, name);
    gw_err err = open_folder(folder, &dir, why);
    if (err == GW_OK) {
        bool there = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
                     (uint64_t)st.st_size == info->size;
        err = there ? GW_OK : write_file(r, io, dir, name, why);
        close(dir);
    }
    if (err == GW_OK && asprintf(&path, "%s/artifacts/%s", folder, name) < 0) {
        err = gw_fail(why, GW_ENOMEM, "out of memory for a path");
    }
    if (err == GW_OK) {
        *ret_path = path;
    }
    artifact_reader_free(r);
    return err;
}
