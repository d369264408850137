#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/agent_dirs_inner.h"
#include "host/agent_tree.h"
#include "protocol/base/buf.h"
#include "protocol/base/log.h"

#define REST_FACTOR 4 /* so many times as long as measuring took the thread does not measure */
#define REST_MS     10000

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the thread: answers ---- */

static void send_back(struct agent_dirs *d, struct job *j)
{
    pthread_mutex_lock(&d->lock);
    bool first = STAILQ_EMPTY(&d->done);
    STAILQ_INSERT_TAIL(&d->done, j, next);
    pthread_mutex_unlock(&d->lock);
    if (first) {
        d->config.wake(d->config.arg);
    }
}

static const char *subject(dirs_kind of)
{
    return of == DIRS_WORK ? "the work folder of the agent" : "the storage of the type";
}

static void fail_over(struct agent_dirs *d, const struct folder *f, struct job *j)
{
    if (f->too_deep) {
        j->err = gw_fail(&j->why, GW_ETOO_BIG, "%s has folders deeper than %d levels",
                         subject(f->of), AGENT_TREE_DEPTH);
    } else {
        j->err = gw_fail(&j->why, GW_ETOO_BIG, "%s has %llu bytes, its quota is %llu bytes",
                         subject(f->of), (unsigned long long)f->bytes,
                         (unsigned long long)dirs_quota(d, f->of));
    }
    gw_hint(&j->why,
            "gw_folder_look tells its path: remove some of it, or let the owner of the "
            "host raise %s",
            f->of == DIRS_WORK ? "work_quota" : "storage_quota");
}

static void answer(struct agent_dirs *d, const struct folder *f, struct job *j)
{
    j->bytes = f->bytes;
    if (f->over && !j->look) {
        fail_over(d, f, j);
    }
    send_back(d, j);
}

static void answer_failed(struct agent_dirs *d, struct folder *f, gw_err err)
{
    struct job *j;
    while ((j = STAILQ_FIRST(&f->waiting))) {
        STAILQ_REMOVE_HEAD(&f->waiting, next);
        j->err =
            gw_fail(&j->why, err, "%s cannot be measured: %s", subject(f->of), gw_err_text(err));
        send_back(d, j);
    }
}

/* ---- the thread: which folder is measured when ---- */

static void dequeue(struct agent_dirs *d, struct folder *f)
{
    if (f->queued) {
        TAILQ_REMOVE(f->urgent ? &d->urgent : &d->due, f, link);
        f->queued = false;
    }
}

static void enqueue(struct agent_dirs *d, struct folder *f, bool urgent)
{
    if (f->queued && (f->urgent || !urgent)) {
        return;
    }
    dequeue(d, f);
    f->queued = true;
    f->urgent = urgent;
    TAILQ_INSERT_TAIL(urgent ? &d->urgent : &d->due, f, link);
}

static struct folder *folder_get(struct agent_dirs *d, dirs_kind of, const char *name, bool make)
{
    char key[sizeof((struct folder *)0)->key];
    struct folder *f;
    snprintf(key, sizeof key, "%c%s", of == DIRS_WORK ? 'w' : 's', name);
    HASH_FIND_STR(d->folders, key, f);
    if (!f && make) {
        f = xcalloc(1, sizeof *f);
        memcpy(f->key, key, sizeof key);
        f->name = f->key + 1;
        f->of = of;
        STAILQ_INIT(&f->waiting);
        HASH_ADD_STR(d->folders, key, f);
    }
    return f;
}

void agent_dirs_forget(struct agent_dirs *d, struct folder *f)
{
    dequeue(d, f);
    if (d->measuring == f) {
        d->measuring = NULL;
    }
    HASH_DEL(d->folders, f);
    free(f);
}

static void tell_over(struct agent_dirs *d, const struct folder *f)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->kind = JOB_OVER;
    j->of = f->of;
    j->bytes = f->bytes;
    memcpy(j->name, f->name, strlen(f->name) + 1);
    send_back(d, j);
}

/* What a measuring has shown. */
static void measured(struct agent_dirs *d, struct folder *f, gw_err err, uint64_t bytes)
{
    uint64_t quota = dirs_quota(d, f->of);
    bool before = f->over;
    struct job *j;
    f->measured = true;
    f->measured_ms = now_ms();
    f->too_deep = err == GW_ETOO_BIG;
    f->bytes = err == GW_OK ? bytes : f->too_deep ? f->bytes : 0;
    f->over = quota > 0 && (f->too_deep || f->bytes > quota);
    if (f->over && !before) {
        tell_over(d, f);
    }
    while ((j = STAILQ_FIRST(&f->waiting))) {
        STAILQ_REMOVE_HEAD(&f->waiting, next);
        answer(d, f, j);
    }
    if (quota > 0 && f->measured_ms - f->used_ms < DIRS_USED_MS) {
        enqueue(d, f, false);
    } else if (!f->over) {
        agent_dirs_forget(d, f);
    }
}

static void serve(struct agent_dirs *d);

/* Walks give way to whoever waits, and to the end. */
static bool go_on(void *arg)
{
    struct agent_dirs *d = arg;
    serve(d);
    pthread_mutex_lock(&d->lock);
    bool stop = d->stop;
    pthread_mutex_unlock(&d->lock);
    return !stop;
}

static void measure(struct agent_dirs *d, struct folder *f)
{
    uint64_t bytes = 0;
    int64_t begun_ms = now_ms();
    dequeue(d, f);
    d->measuring = f;
    gw_err err = agent_tree_measure(d->fd[f->of], f->name, go_on, d, &bytes);
    int64_t rest_ms = (now_ms() - begun_ms) * REST_FACTOR;
    d->rest_until_ms = now_ms() + (rest_ms < REST_MS ? rest_ms : REST_MS);
    if (d->measuring != f) {
        return; /* removed meanwhile */
    }
    d->measuring = NULL;
    if (err == GW_EIO || err == GW_ENOMEM) {
        log_warn("agent.folder", "%s %s cannot be measured: %s", subject(f->of), f->name,
                 gw_err_text(err));
        answer_failed(d, f, err);
        agent_dirs_forget(d, f);
    } else if (err != GW_ECANCELLED) {
        measured(d, f, err, bytes);
    }
}

/* Milliseconds until a folder is to be measured again, -1: none is. */
static int64_t due_in(const struct agent_dirs *d)
{
    const struct folder *f = TAILQ_FIRST(&d->due);
    if (!f) {
        return -1;
    }
    int64_t at = f->measured_ms + DIRS_PERIOD_MS;
    at = at > d->rest_until_ms ? at : d->rest_until_ms;
    return at > now_ms() ? at - now_ms() : 0;
}

/* ---- the thread: what is asked ---- */

static void want(struct agent_dirs *d, struct job *j)
{
    if (mkdirat(d->fd[j->of], j->name, 0700) != 0 && errno != EEXIST) {
        j->err = gw_fail(&j->why, errno == ENOSPC || errno == EDQUOT ? GW_EDISK_FULL : GW_EIO,
                         "%s cannot be made: %s", subject(j->of), strerror(errno));
        send_back(d, j);
        return;
    }
    if (dirs_quota(d, j->of) == 0 && !j->look) {
        send_back(d, j);
        return;
    }
    struct folder *f = folder_get(d, j->of, j->name, true);
    f->used_ms = now_ms();
    if (!f->measured || f->over || j->look) {
        STAILQ_INSERT_TAIL(&f->waiting, j, next);
        enqueue(d, f, true);
    } else {
        answer(d, f, j);
        enqueue(d, f, false);
    }
}

static void discard(struct agent_dirs *d, struct job *j)
{
    struct folder *f = folder_get(d, j->of, j->name, false);
    if (f) {
        answer_failed(d, f, GW_EDISPOSED);
        agent_dirs_forget(d, f);
    }
    for (;;) {
        char name[32];
        snprintf(name, sizeof name, "%u", d->trash_number++);
        if (renameat(d->fd[j->of], j->name, d->trash, name) == 0) {
            d->trash_full = true;
            return;
        }
        if (errno != EEXIST && errno != ENOTEMPTY) {
            if (errno != ENOENT) {
                log_error("agent.folder", "%s %s cannot be removed: %s", subject(j->of), j->name,
                          strerror(errno));
            }
            return;
        }
    }
}

static void adopt(struct agent_dirs *d, struct job *j)
{
    int from = open(j->from, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int e = from >= 0 ? 0 : errno;
    if (from >= 0) {
        close(from);
        discard(d, j);
        /* On the disk before anybody is told: nothing else has these files any more. */
        e = renameat(AT_FDCWD, j->from, d->fd[DIRS_WORK], j->name) == 0 &&
                    fsync(d->fd[DIRS_WORK]) == 0
                ? 0
                : errno;
    }
    if (e != 0) {
        j->err = gw_fail(&j->why, e == ENOENT ? GW_ENOT_FOUND : GW_EIO,
                         "\"%.200s\" cannot become the work folder of the agent: %s", j->from,
                         strerror(e));
    }
    send_back(d, j);
}

static void list(struct agent_dirs *d, struct job *j)
{
    const struct dirent *e;
    if (!j->list) {
        j->list = opendir(d->base[DIRS_WORK]);
        j->err = j->list ? GW_OK : GW_EIO;
    }
    j->id_count = 0;
    while (j->list && j->id_count < DIRS_LIST_IDS) {
        e = readdir(j->list);
        if (!e) {
            closedir(j->list);
            j->list = NULL;
        } else if (gw_id_parse(e->d_name, &j->ids[j->id_count]) == GW_OK) {
            j->id_count++;
        }
    }
    send_back(d, j);
}

/* Everything that was asked. */
static void serve(struct agent_dirs *d)
{
    for (;;) {
        pthread_mutex_lock(&d->lock);
        struct job *j = d->stop ? NULL : STAILQ_FIRST(&d->todo);
        if (j) {
            STAILQ_REMOVE_HEAD(&d->todo, next);
        }
        pthread_mutex_unlock(&d->lock);
        if (!j) {
            return;
        }
        if (j->kind == JOB_WANT) {
            want(d, j);
        } else if (j->kind == JOB_ADOPT) {
            adopt(d, j);
        } else if (j->kind == JOB_LIST) {
            list(d, j);
        } else {
            discard(d, j);
            free(j);
        }
    }
}

/* Take apart what was removed. What cannot be removed stays, and is tried again at the next start.
 */
static void empty_trash(struct agent_dirs *d)
{
    bool more;
    d->trash_full = false;
    do {
        more = false;
        int copy = openat(d->trash, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *names = copy >= 0 ? fdopendir(copy) : NULL;
        const struct dirent *e;
        while (names && (e = readdir(names))) {
            bool deeper = false;
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
                continue;
            }
            gw_err err = agent_tree_remove(d->trash, e->d_name, go_on, d, &deeper);
            if (err == GW_ECANCELLED) {
                more = false;
                break;
            }
            if (err != GW_OK) {
                log_warn("agent.folder", "\"%s\" in the trash of work folders cannot be removed",
                         e->d_name);
            }
            more = more || deeper;
        }
        if (names) {
            closedir(names);
        } else if (copy >= 0) {
            close(copy);
        }
    } while (more);
}

/* Until there is something to do; false: the end. */
static bool await(struct agent_dirs *d)
{
    bool idle = TAILQ_EMPTY(&d->urgent) && !d->trash_full;
    int64_t left_ms = idle ? due_in(d) : 0;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += left_ms / 1000;
    until.tv_nsec += left_ms % 1000 * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&d->lock);
    if (!d->stop && STAILQ_EMPTY(&d->todo) && left_ms != 0) {
        d->busy = false;
        pthread_cond_broadcast(&d->settled);
        if (left_ms < 0) {
            pthread_cond_wait(&d->work, &d->lock);
        } else {
            (void)pthread_cond_timedwait(&d->work, &d->lock, &until);
        }
        d->busy = true;
    }
    bool stop = d->stop;
    pthread_mutex_unlock(&d->lock);
    return !stop;
}

void *agent_dirs_thread(void *arg)
{
    struct agent_dirs *d = arg;
    while (await(d)) {
        serve(d);
        if (!TAILQ_EMPTY(&d->urgent)) {
            measure(d, TAILQ_FIRST(&d->urgent));
        } else if (d->trash_full) {
            empty_trash(d);
        } else if (due_in(d) == 0) {
            measure(d, TAILQ_FIRST(&d->due));
        }
    }
    return NULL;
}
