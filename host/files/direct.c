#include "host/files/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_BYTES (2u * 1024 * 1024) /* from here on larger ones are hardly faster */
#define BLOCK_BYTES  4096u              /* of memory, file and length: what any disk takes */
#define STACK_BYTES  (64u * 1024)

/* The thread and what it shares with the owner. */
struct direct_writer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool busy, stop; /* busy: `buf` is the thread's */
    int plain, fd;
    uint8_t *buf; /* the other window; owned */
    uint64_t at;
    int error; /* of the last window */
};

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

/* A whole window. EINVAL: the file took the flag, but not the bytes. */
static int write_window(int fd, int plain, const uint8_t *p, uint64_t at)
{
    int error = write_all(fd, p, WINDOW_BYTES, at);
    return error == EINVAL ? write_all(plain, p, WINDOW_BYTES, at) : error;
}

/* --- the thread --- */
static void *writer_run(void *arg)
{
    struct direct_writer *w = arg;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->busy && !w->stop) {
            pthread_cond_wait(&w->changed, &w->lock);
        }
        if (!w->busy) {
            break;
        }
        pthread_mutex_unlock(&w->lock);
        int error = write_window(w->fd, w->plain, w->buf, w->at);
        pthread_mutex_lock(&w->lock);
        w->error = error;
        w->busy = false;
        pthread_cond_signal(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Signals go to the threads of others. */
static bool writer_start(struct direct_writer *w)
{
    pthread_attr_t attr;
    sigset_t all, old;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&w->thread, &attr, writer_run, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return error == 0;
}

static void writer_free(struct direct_writer *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->buf);
    free(w);
}

static struct direct_writer *writer_new(const struct direct *d)
{
    struct direct_writer *w = calloc(1, sizeof *w);
    if (!w) {
        return NULL;
    }
    w->plain = d->plain;
    w->fd = d->fd;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->buf = aligned_alloc(BLOCK_BYTES, WINDOW_BYTES);
    if (!w->buf || !writer_start(w)) {
        writer_free(w);
        return NULL;
    }
    return w;
}

/* Until it has written what it has. Its error, once. */
static int writer_wait(struct direct_writer *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->busy) {
        pthread_cond_wait(&w->changed, &w->lock);
    }
    int error = w->error;
    w->error = 0;
    pthread_mutex_unlock(&w->lock);
    return error;
}

/* --- the owner --- */
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

/* The window is full: the thread writes it, and its own one, which is written, is filled next. */
static int hand_over(struct direct *d)
{
    if (!d->writer && !d->alone) {
        d->writer = writer_new(d);
        d->alone = !d->writer;
    }
    uint64_t at = d->at;
    struct direct_writer *w = d->writer;
    d->at += WINDOW_BYTES;
    d->len = 0;
    if (!w) {
        return write_window(d->fd, d->plain, d->buf, at);
    }
    int error = writer_wait(w);
    if (error) {
        return error;
    }
    pthread_mutex_lock(&w->lock);
    uint8_t *full = d->buf;
    d->buf = w->buf;
    w->buf = full;
    w->at = at;
    w->busy = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int direct_flush(struct direct *d)
{
    int before = d->writer ? writer_wait(d->writer) : 0;
    int error = write_all(d->plain, d->buf, d->len, d->at);
    d->at += d->len;
    d->len = 0;
    return before ? before : error;
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
            int error = hand_over(d);
            if (error) {
                return error;
            }
        }
    }
    return 0;
}

void direct_close(struct direct *d)
{
    struct direct_writer *w = d->writer;
    if (w) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_signal(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
        writer_free(w);
    }
    if (d->fd >= 0) {
        close(d->fd);
    }
    free(d->buf);
    *d = (struct direct){.plain = -1, .fd = -1};
}
