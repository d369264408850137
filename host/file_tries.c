#include "host/file_tries.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "protocol/base/log.h"
#include "protocol/limits.h"

struct tries {
    atomic_uint count; /* about so many are kept */
    char dir[1200];
};

struct tries *tries_open(const char *dir)
{
    struct tries *t = xcalloc(1, sizeof *t);
    snprintf(t->dir, sizeof t->dir, "%s", dir);
    return t;
}

void tries_close(struct tries *t)
{
    free(t);
}

/* Texts with their NUL, so that none runs into the next. */
void tries_key(const struct host_id *to, const gw_strs *sources, const char *dst,
               char ret[TRY_KEY_TEXT])
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, to->b, HOST_ID_BYTES) == 1 &&
              EVP_DigestUpdate(md, dst, strlen(dst) + 1) == 1;
    for (size_t i = 0; i < sources->len; i++) {
        ok = ok && EVP_DigestUpdate(md, sources->items[i], strlen(sources->items[i]) + 1) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(md, hash, NULL) == 1;
    EVP_MD_CTX_free(md);
    for (size_t i = 0; i < 32; i++) {
        snprintf(ret + 2 * i, 3, "%02x", ok ? hash[i] : 0);
    }
}

static void path_of(const struct tries *t, const char *key, char ret[1300])
{
    snprintf(ret, 1300, "%s/%s", t->dir, key);
}

sink_placing tries_find(const struct tries *t, const char *key)
{
    char path[1300], word = 0;
    path_of(t, key, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return SINK_GUESS;
    }
    ssize_t n = read(fd, &word, 1);
    close(fd);
    return n != 1 ? SINK_GUESS : word == 'a' ? SINK_AS : word == 'i' ? SINK_INTO : SINK_GUESS;
}

/* A file of another content never becomes visible: it is one byte. */
void tries_keep(struct tries *t, const char *key, sink_placing placing)
{
    char path[1300];
    path_of(t, key, path);
    if (atomic_load(&t->count) >= LIMIT_FILE_TRIES ||
        (mkdir(t->dir, 0700) != 0 && errno != EEXIST)) {
        log_warn("files.try",
                 "dir=%s is full or cannot be made: a copy that is taken up again "
                 "goes by what it finds",
                 t->dir);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return; /* one from before stays: it was right then */
    }
    atomic_fetch_add(&t->count, 1);
    if (write(fd, placing == SINK_AS ? "a" : "i", 1) != 1) {
        log_warn("files.try", "path=%s cannot be written: %s", path, strerror(errno));
    }
    close(fd);
}

void tries_forget(struct tries *t, const char *key)
{
    char path[1300];
    path_of(t, key, path);
    if (unlink(path) == 0) {
        atomic_fetch_sub(&t->count, 1);
    }
}

void tries_sweep(struct tries *t, int64_t kept_s)
{
    DIR *dir = opendir(t->dir);
    struct dirent *e;
    unsigned count = 0;
    if (!dir) {
        return; /* none was ever kept */
    }
    while ((e = readdir(dir))) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        if (time(NULL) - st.st_mtime < kept_s || unlinkat(dirfd(dir), e->d_name, 0) != 0) {
            count++;
        }
    }
    closedir(dir);
    atomic_store(&t->count, count);
}
