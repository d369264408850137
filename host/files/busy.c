#include "host/files/busy.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#define TICK_NS (100 * 1000000L)
#define S_NS    1000000000L

struct job {
    int (*work)(void *arg);
    void *arg;
    int result;
    pthread_mutex_t guard;
    pthread_cond_t ended;
    bool done; /* under the guard */
};

static void *run(void *arg)
{
    struct job *j = arg;
    j->result = j->work(j->arg);
    pthread_mutex_lock(&j->guard);
    j->done = true;
    pthread_cond_signal(&j->ended);
    pthread_mutex_unlock(&j->guard);
    return NULL;
}

/* Whether it ended before the next tick is due. */
static bool ended(struct job *j)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_NS;
    until.tv_sec += until.tv_nsec / S_NS;
    until.tv_nsec %= S_NS;
    int failed = 0;
    pthread_mutex_lock(&j->guard);
    while (!j->done && !failed) {
        failed = pthread_cond_timedwait(&j->ended, &j->guard, &until);
    }
    bool done = j->done;
    pthread_mutex_unlock(&j->guard);
    return done;
}

/* Signals go to the threads of others. */
static bool start(struct job *j, pthread_t *ret)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(ret, NULL, run, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error == 0;
}

int busy_run(const struct busy *b, int (*work)(void *arg), void *arg)
{
    struct job j = {.work = work, .arg = arg};
    pthread_condattr_t monotonic;
    pthread_t thread;
    if (!b->tick) {
        return work(arg);
    }
    pthread_mutex_init(&j.guard, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&j.ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (start(&j, &thread)) {
        while (!ended(&j)) {
            b->tick(b->arg);
        }
        pthread_join(thread, NULL);
    } else {
        j.result = work(arg);
    }
    pthread_cond_destroy(&j.ended);
    pthread_mutex_destroy(&j.guard);
    return j.result;
}

struct sync {
    int (*sync)(int fd);
    int fd;
};

static int sync_one(void *arg)
{
    const struct sync *s = arg;
    return s->sync(s->fd) == 0 ? 0 : errno;
}

int busy_sync(const struct busy *b, int (*sync)(int fd), int fd)
{
    struct sync s = {.sync = sync, .fd = fd};
    int error = busy_run(b, sync_one, &s);
    if (error) {
        errno = error;
    }
    return error ? -1 : 0;
}
