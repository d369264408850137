#include "host/files/progress.h"

#include <stdio.h>
#include <string.h>

void progress_init(struct progress *p)
{
    memset(p, 0, sizeof *p);
    pthread_mutex_init(&p->path_mutex, NULL);
}

void progress_deinit(struct progress *p)
{
    pthread_mutex_destroy(&p->path_mutex);
}

void progress_set_path(struct progress *p, const char *path)
{
    size_t len = strlen(path);
    size_t skip = len >= sizeof p->path ? len - (sizeof p->path - 1) : 0;
    while (skip > 0 && ((unsigned char)path[skip] & 0xc0) == 0x80) {
        skip++; /* not in the middle of a character */
    }
    pthread_mutex_lock(&p->path_mutex);
    snprintf(p->path, sizeof p->path, "%s", path + skip);
    pthread_mutex_unlock(&p->path_mutex);
}

void progress_path(struct progress *p, char ret[PROGRESS_PATH_BYTES])
{
    pthread_mutex_lock(&p->path_mutex);
    memcpy(ret, p->path, sizeof p->path);
    pthread_mutex_unlock(&p->path_mutex);
}
