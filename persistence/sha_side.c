#include "persistence/sha_side.h"

#include <pthread.h>
#include <stdlib.h>

#define STACK_BYTES (64u * 1024)

struct sha_side {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sha_run *run; /* NULL: nothing to do */
    const void *data;
    size_t n;
    bool ends;
};

static void *work(void *arg)
{
    struct sha_side *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->run && !s->ends) {
            pthread_cond_wait(&s->changed, &s->lock);
        }
        if (!s->run) {
            break;
        }
        pthread_mutex_unlock(&s->lock);
        sha_run_add(s->run, s->data, s->n);
        pthread_mutex_lock(&s->lock);
        s->run = NULL;
        pthread_cond_signal(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

gw_err sha_side_open(struct sha_side **ret)
{
    struct sha_side *s = calloc(1, sizeof *s);
    pthread_attr_t attr;
    if (!s || pthread_attr_init(&attr) != 0) {
        free(s);
        return GW_ENOMEM;
    }
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    int err = pthread_create(&s->thread, &attr, work, s);
    pthread_attr_destroy(&attr);
    if (err != 0) {
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return GW_ENOMEM;
    }
    *ret = s;
    return GW_OK;
}

void sha_side_wait(struct sha_side *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->run) {
        pthread_cond_wait(&s->changed, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

void sha_side_begin(struct sha_side *s, struct sha_run *run, const void *data, size_t n)
{
    sha_side_wait(s);
    pthread_mutex_lock(&s->lock);
    s->data = data;
    s->n = n;
    s->run = run;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void sha_side_close(struct sha_side *s)
{
    if (s) {
        pthread_mutex_lock(&s->lock);
        s->ends = true;
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}
