#include "host/files/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_BYTES (2u * 1024 * 1024) /* from here on larger ones are hardly faster */
#define BLOCK_BYTES  4096u              /* of memory, file and length: what any disk takes */

static int write_all(int fd, const uint8_t *p, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t done = pwrite(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return done < 0 ? errno : EIO;
        }
        p += done;
        n -= (size_t)done;
        at += (uint64_t)done;
    }
    return 0;
}

bool direct_open(struct direct *d, int plain)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", plain);
    *d = (struct direct){.plain = plain, .fd = open(name, O_WRONLY | O_DIRECT | O_CLOEXEC)};
    d->buf = d->fd >= 0 ? aligned_alloc(BLOCK_BYTES, WINDOW_BYTES) : NULL;
    if (!d->buf) {
        direct_close(d);
    }
    return d->buf != NULL;
}

int direct_flush(struct direct *d)
{
    size_t n = d->len;
    uint64_t at = d->at;
    d->len = 0;
    d->at += n;
    if (n == WINDOW_BYTES && d->fd >= 0) {
        int error = write_all(d->fd, d->buf, n, at);
        if (error != EINVAL) {
            return error;
        }
        close(d->fd); /* it took the flag, but not the bytes */
        d->fd = -1;
    }
    return write_all(d->plain, d->buf, n, at);
}

/* A window begins at a block. What is before it, where bytes do not go on, goes the plain way. */
static int begin(struct direct *d, uint64_t offset, const uint8_t *p, size_t n, size_t *ret_done)
{
    size_t before = (size_t)(-offset % BLOCK_BYTES);
    before = before < n ? before : n;
    d->at = offset + before;
    *ret_done = before;
    return write_all(d->plain, p, before, offset);
}

int direct_write(struct direct *d, uint64_t offset, const uint8_t *p, size_t n)
{
    if (offset != d->at + d->len || (d->len == 0 && offset % BLOCK_BYTES != 0)) {
        int error = direct_flush(d);
        size_t done = 0;
        error = error ? error : begin(d, offset, p, n, &done);
        if (error) {
            return error;
        }
        p += done;
        n -= done;
    }
    while (n > 0) {
        size_t room = WINDOW_BYTES - d->len, part = n < room ? n : room;
        memcpy(d->buf + d->len, p, part);
        d->len += part;
        p += part;
        n -= part;
        if (d->len == WINDOW_BYTES) {
            int error = direct_flush(d);
            if (error) {
                return error;
            }
        }
    }
    return 0;
}

void direct_close(struct direct *d)
{
    if (d->fd >= 0) {
        close(d->fd);
    }
    free(d->buf);
    *d = (struct direct){.plain = -1, .fd = -1};
}
