#include "host/agent_dirs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/agent_tree.h"
#include "protocol/base/buf.h"
#include "protocol/base/id.h"
#include "protocol/base/log.h"
#include "protocol/base/table.h"

#define PATH_BYTES  1400 /* a host's folder has at most 1024 */
#define LIST_IDS    256  /* of one slice of a sweep: the loop looks each of them up */
#define REST_FACTOR 4    /* so many times as long as measuring took the thread does not measure */
#define REST_MS     10000
#define KINDS       2

typedef enum job_kind {
    JOB_WANT, /* and its answer */
    JOB_REMOVE,
    JOB_LIST, /* one slice of work/agents, for a sweep */
    JOB_OVER, /* only back to the loop */
} job_kind;

struct job {
    STAILQ_ENTRY(job) next;
    job_kind kind;
    dirs_kind of;
    char name[LIMIT_NAME_BYTES + 1];
    bool look;
    dirs_done done;
    bool (*holds)(void *arg, const gw_id *agent);
    void *arg; /* of done, of holds */
    /* outcome */
    gw_err err;
    struct gw_error why;
    uint64_t bytes;
    DIR *list; /* NULL: that was all */
    gw_id ids[LIST_IDS];
    size_t id_count;
};
STAILQ_HEAD(jobs, job);

struct folder { /* one that is in use, or over its quota */
    UT_hash_handle hh;
    char key[LIMIT_NAME_BYTES + 2]; /* one letter for the kind, then the name */
    dirs_kind of;
    const char *name; /* in key */
    uint64_t bytes;
    bool measured, over, too_deep;
    int64_t measured_ms, used_ms;
    struct jobs waiting; /* for the measuring that comes next */
    bool queued, urgent;
    TAILQ_ENTRY(folder) link; /* in `urgent` or `due` */
};
TAILQ_HEAD(folders, folder);

struct agent_dirs {
    struct dirs_config config;
    char base[KINDS][PATH_BYTES];
    int fd[KINDS], trash;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, settled;
    struct jobs todo, done; /* under the lock, with the next two */
    bool stop, busy;
    /* of the thread alone */
    struct folder *folders;
    struct folders urgent, due; /* somebody waits; in the order in which they were measured */
    struct folder *measuring;
    int64_t rest_until_ms;
    unsigned trash_number;
    bool trash_full; /* something may be in it */
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t quota_of(const struct agent_dirs *d, dirs_kind of)
{
    return of == DIRS_WORK ? d->config.work_quota : d->config.storage_quota;
}

static void path_of(const struct agent_dirs *d, dirs_kind of, const char *name,
                    char ret[PATH_BYTES])
{
    int n = snprintf(ret, PATH_BYTES, "%s/%s", d->base[of], name);
    gw_assert(n > 0 && n < PATH_BYTES);
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
                         (unsigned long long)quota_of(d, f->of));
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

static void folder_drop(struct agent_dirs *d, struct folder *f)
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
    uint64_t quota = quota_of(d, f->of);
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
        folder_drop(d, f);
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
        folder_drop(d, f);
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
    if (quota_of(d, j->of) == 0 && !j->look) {
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
        folder_drop(d, f);
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

static void list(struct agent_dirs *d, struct job *j)
{
    const struct dirent *e;
    if (!j->list) {
        j->list = opendir(d->base[DIRS_WORK]);
    }
    j->id_count = 0;
    while (j->list && j->id_count < LIST_IDS) {
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

static void *thread_main(void *arg)
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

/* ---- the loop ---- */

static void submit(struct agent_dirs *d, struct job *j)
{
    pthread_mutex_lock(&d->lock);
    STAILQ_INSERT_TAIL(&d->todo, j, next);
    d->busy = true;
    pthread_mutex_unlock(&d->lock);
    pthread_cond_signal(&d->work);
}

void agent_dirs_want(struct agent_dirs *d, dirs_kind kind, const char *name, bool look,
                     dirs_done done, void *arg)
{
    struct job *j = xcalloc(1, sizeof *j);
    gw_assert(strlen(name) <= LIMIT_NAME_BYTES && name_is_valid(name));
    *j = (struct job){.kind = JOB_WANT, .of = kind, .look = look, .done = done, .arg = arg};
    memcpy(j->name, name, strlen(name) + 1);
    submit(d, j);
}

void agent_dirs_remove(struct agent_dirs *d, const gw_id *agent)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->kind = JOB_REMOVE;
    j->of = DIRS_WORK;
    (void)gw_id_text(agent, j->name);
    submit(d, j);
}

void agent_dirs_sweep(struct agent_dirs *d, bool (*holds)(void *arg, const gw_id *agent), void *arg)
{
    struct job *j = xcalloc(1, sizeof *j);
    *j = (struct job){.kind = JOB_LIST, .of = DIRS_WORK, .holds = holds, .arg = arg};
    submit(d, j);
}

static void complete(struct agent_dirs *d, struct job *j)
{
    char path[PATH_BYTES];
    if (j->kind == JOB_WANT) {
        path_of(d, j->of, j->name, path);
        struct dirs_folder folder = {path, j->bytes, quota_of(d, j->of)};
        j->done(j->arg, j->err, j->err ? NULL : &folder, &j->why);
    } else if (j->kind == JOB_OVER) {
        d->config.on_over(d->config.arg, j->of, j->name, j->bytes, quota_of(d, j->of));
    } else {
        for (size_t i = 0; i < j->id_count; i++) {
            if (!j->holds(j->arg, &j->ids[i])) {
                agent_dirs_remove(d, &j->ids[i]);
            }
        }
        if (j->list) {
            submit(d, j);
            return;
        }
    }
    free(j);
}

void agent_dirs_complete(struct agent_dirs *d)
{
    struct jobs done = STAILQ_HEAD_INITIALIZER(done);
    pthread_mutex_lock(&d->lock);
    STAILQ_CONCAT(&done, &d->done);
    pthread_mutex_unlock(&d->lock);
    struct job *j;
    while ((j = STAILQ_FIRST(&done))) {
        STAILQ_REMOVE_HEAD(&done, next);
        complete(d, j);
    }
}

void agent_dirs_settle(struct agent_dirs *d)
{
    pthread_mutex_lock(&d->lock);
    while (d->busy) {
        pthread_cond_wait(&d->settled, &d->lock);
    }
    pthread_mutex_unlock(&d->lock);
}

/* ---- life ---- */

static gw_err make_folder(const char *path, int *ret_fd, struct gw_error *why)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return gw_fail(why, errno == ENOSPC || errno == EDQUOT ? GW_EDISK_FULL : GW_EIO,
                       "cannot make the folder \"%s\": %s", path, strerror(errno));
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return gw_fail(why, errno == EACCES ? GW_EDENIED : GW_EIO,
                       "cannot open the folder \"%s\": %s", path, strerror(errno));
    }
    *ret_fd = fd;
    return GW_OK;
}

static gw_err make_folders(struct agent_dirs *d, const char *host_dir, struct gw_error *why)
{
    char path[PATH_BYTES], trash[PATH_BYTES + 8];
    int fd = -1;
    if (strlen(host_dir) > PATH_BYTES - 2 * (size_t)LIMIT_NAME_BYTES) {
        return gw_fail(why, GW_EARG, "the path \"%.100s...\" is too long", host_dir);
    }
    snprintf(path, sizeof path, "%s/work", host_dir);
    GW_TRY(make_folder(path, &fd, why));
    close(fd);
    snprintf(d->base[DIRS_WORK], PATH_BYTES, "%.*s/agents", PATH_BYTES - 8, path);
    GW_TRY(make_folder(d->base[DIRS_WORK], &d->fd[DIRS_WORK], why));
    snprintf(trash, sizeof trash, "%s/trash", path);
    GW_TRY(make_folder(trash, &d->trash, why));
    snprintf(d->base[DIRS_STORAGE], PATH_BYTES, "%s/storage", host_dir);
    return make_folder(d->base[DIRS_STORAGE], &d->fd[DIRS_STORAGE], why);
}

static void destroy(struct agent_dirs *d)
{
    struct folder *f, *next;
    HASH_ITER (hh, d->folders, f, next) {
        folder_drop(d, f);
    }
    for (int i = 0; i < KINDS; i++) {
        if (d->fd[i] >= 0) {
            close(d->fd[i]);
        }
    }
    if (d->trash >= 0) {
        close(d->trash);
    }
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->settled);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static void init_locks(struct agent_dirs *d)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->work, &attr);
    pthread_cond_init(&d->settled, &attr);
    pthread_condattr_destroy(&attr);
}

/* Signals are for the loop. */
static gw_err start_thread(struct agent_dirs *d)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&d->thread, NULL, thread_main, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        return GW_ENOMEM;
    }
    pthread_setname_np(d->thread, "godwit-folders");
    return GW_OK;
}

gw_err agent_dirs_open(const struct dirs_config *config, struct agent_dirs **ret,
                       struct gw_error *why)
{
    struct agent_dirs *d = calloc(1, sizeof *d);
    if (!d) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the folders of agents");
    }
    d->config = *config;
    d->config.host_dir = NULL;
    d->fd[DIRS_WORK] = d->fd[DIRS_STORAGE] = d->trash = -1;
    d->busy = d->trash_full = true; /* of an earlier start */
    STAILQ_INIT(&d->todo);
    STAILQ_INIT(&d->done);
    TAILQ_INIT(&d->urgent);
    TAILQ_INIT(&d->due);
    init_locks(d);
    gw_err err = make_folders(d, config->host_dir, why);
    if (err == GW_OK && start_thread(d) != GW_OK) {
        err = gw_fail(why, GW_ENOMEM, "cannot start the thread for the folders of agents");
    }
    if (err != GW_OK) {
        destroy(d);
        return err;
    }
    *ret = d;
    return GW_OK;
}

/* What nobody did is answered so. */
static void refuse(struct agent_dirs *d, struct jobs *jobs)
{
    struct job *j;
    while ((j = STAILQ_FIRST(jobs))) {
        STAILQ_REMOVE_HEAD(jobs, next);
        if (j->list) {
            closedir(j->list);
            j->list = NULL;
        }
        if (j->kind == JOB_WANT) {
            j->err = gw_fail(&j->why, GW_ESTOPPING, "the host is stopping");
            complete(d, j);
        } else {
            free(j);
        }
    }
}

void agent_dirs_close(struct agent_dirs *d)
{
    struct folder *f, *next;
    if (!d) {
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_mutex_unlock(&d->lock);
    pthread_cond_signal(&d->work);
    pthread_join(d->thread, NULL);
    HASH_ITER (hh, d->folders, f, next) {
        refuse(d, &f->waiting);
    }
    refuse(d, &d->todo);
    struct job *j;
    while ((j = STAILQ_FIRST(&d->done))) { /* those were done; a sweep goes no further */
        STAILQ_REMOVE_HEAD(&d->done, next);
        struct jobs one = STAILQ_HEAD_INITIALIZER(one);
        if (j->kind == JOB_WANT) {
            complete(d, j);
        } else {
            STAILQ_INSERT_TAIL(&one, j, next);
            refuse(d, &one);
        }
    }
    destroy(d);
}
