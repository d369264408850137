/* Writing a large file in order, around the page cache (O_DIRECT): what comes is gathered in a
 * window, whole windows go to the disk as they are. Copying into fresh pages of the cache costs
 * more than receiving and hashing the bytes does, it pushes out what others read, and the flush at
 * the end would have to write it all.
 *
 * A thread of its own writes one window while the next one fills. What is not in order, and the end
 * of a file, is written in the plain way; so is everything where the file system has no direct
 * writes. To its owner it is an object of one thread. */
#ifndef HOST_FILES_DIRECT_H
#define HOST_FILES_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct direct_writer; /* of direct.c */

struct direct {
    int plain;                    /* borrowed: the file, as it was opened */
    int fd;                       /* the same file, opened for direct writes; -1: none */
    uint8_t *buf;                 /* the window; owned */
    size_t len;                   /* bytes of it that wait */
    uint64_t at;                  /* where the first of them goes; a multiple of the block */
    struct direct_writer *writer; /* from the first full window on; NULL: it is done here */
    bool alone;                   /* no thread could be had */
};

/* False: the file system does not do it, or there is no memory. */
bool direct_open(struct direct *d, int plain);
/* 0, or an errno; bytes may wait until direct_flush. */
int direct_write(struct direct *d, uint64_t offset, const uint8_t *p, size_t n);
/* All that came is written when this returns. 0, or an errno: also of a window before. */
int direct_flush(struct direct *d);
void direct_close(struct direct *d); /* without writing what waits */

#endif
