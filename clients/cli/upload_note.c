#include "clients/cli/upload_note.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <godwit/client.h>
#include <openssl/evp.h>

#define KEPT_SECONDS (24 * 3600)
#define NAME_BYTES   16 /* of the hash */

void upload_note_init(struct upload_note *n, const char *what)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    char home[3900], name[2 * NAME_BYTES + 1];
    *n = (struct upload_note){{0}, {0}};
    if (gw_home_path(NULL, home, sizeof home, NULL) != GW_OK ||
        EVP_Digest(what, strlen(what), hash, NULL, EVP_sha256(), NULL) != 1) {
        return;
    }
    for (size_t i = 0; i < NAME_BYTES; i++) {
        snprintf(name + 2 * i, 3, "%02x", hash[i]);
    }
    snprintf(n->dir, sizeof n->dir, "%s/uploads", home);
    snprintf(n->path, sizeof n->path, "%s/%s", n->dir, name);
}

bool upload_note_read(const struct upload_note *n, char ret_id[GW_ID_TEXT])
{
    gw_id id;
    int fd = n->path[0] ? open(n->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    ssize_t got = fd >= 0 ? read(fd, ret_id, GW_ID_TEXT - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (got != GW_ID_TEXT - 1) {
        return false;
    }
    ret_id[GW_ID_TEXT - 1] = '\0';
    return gw_id_parse(ret_id, &id) == GW_OK;
}

static void sweep(const struct upload_note *n)
{
    DIR *dir = opendir(n->dir);
    const struct dirent *e;
    struct stat st;
    time_t now = time(NULL);
    while (dir && (e = readdir(dir))) {
        if (strlen(e->d_name) == 2 * NAME_BYTES &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            now - st.st_mtime > KEPT_SECONDS) {
            (void)unlinkat(dirfd(dir), e->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

void upload_note_write(const struct upload_note *n, const char *id)
{
    char fresh[sizeof n->path + 8];
    if (!n->path[0] || (mkdir(n->dir, 0700) != 0 && access(n->dir, W_OK) != 0)) {
        return;
    }
    sweep(n);
    snprintf(fresh, sizeof fresh, "%s.new", n->path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write(fd, id, strlen(id)) == (ssize_t)strlen(id);
    if (fd >= 0) {
        close(fd);
    }
    if (!ok || rename(fresh, n->path) != 0) {
        (void)unlink(fresh);
    }
}

void upload_note_drop(const struct upload_note *n)
{
    if (n->path[0]) {
        (void)unlink(n->path);
    }
}
