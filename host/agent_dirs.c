#include "host/agent_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/agent_dirs_inner.h"
#include "protocol/base/buf.h"

static void path_of(const struct agent_dirs *d, dirs_kind of, const char *name,
                    char ret[DIRS_PATH_BYTES])
{
    int n = snprintf(ret, DIRS_PATH_BYTES, "%s/%s", d->base[of], name);
    gw_assert(n > 0 && n < DIRS_PATH_BYTES);
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

/* Most agents never have a folder: their ends cost the thread nothing. */
static struct work_folder *find_folder(const struct agent_dirs *d, const gw_id *agent)
{
    struct work_folder *f;
    HASH_FIND(hh, d->has, agent, sizeof *agent, f);
    return f;
}

static void note_folder(struct agent_dirs *d, const gw_id *agent)
{
    if (!find_folder(d, agent)) {
        struct work_folder *f = xcalloc(1, sizeof *f);
        f->agent = *agent;
        HASH_ADD(hh, d->has, agent, sizeof f->agent, f);
    }
}

static void forget_folder(struct agent_dirs *d, struct work_folder *f)
{
    HASH_DEL(d->has, f);
    free(f);
}

void agent_dirs_want(struct agent_dirs *d, dirs_kind kind, const char *name, bool look,
                     dirs_done done, void *arg)
{
    struct job *j = xcalloc(1, sizeof *j);
    gw_assert(strlen(name) <= LIMIT_NAME_BYTES && name_is_valid(name));
    *j = (struct job){.kind = JOB_WANT, .of = kind, .look = look, .done = done, .arg = arg};
    memcpy(j->name, name, strlen(name) + 1);
    gw_id agent;
    if (kind == DIRS_WORK && gw_id_parse(name, &agent) == GW_OK) {
        note_folder(d, &agent);
    }
    submit(d, j);
}

void agent_dirs_adopt(struct agent_dirs *d, const gw_id *agent, const char *from, dirs_done done,
                      void *arg)
{
    struct job *j = xcalloc(1, sizeof *j);
    *j = (struct job){.kind = JOB_ADOPT, .of = DIRS_WORK, .done = done, .arg = arg};
    j->from = xstrdup(from);
    note_folder(d, agent);
    (void)gw_id_text(agent, j->name);
    submit(d, j);
}

void agent_dirs_remove(struct agent_dirs *d, const gw_id *agent)
{
    struct work_folder *f = find_folder(d, agent);
    if (!f && d->has_all) {
        return;
    }
    if (f) {
        forget_folder(d, f);
    }
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

static void job_free(struct job *j)
{
    if (j->list) {
        closedir(j->list);
    }
    free(j->from);
    free(j);
}

static void complete(struct agent_dirs *d, struct job *j)
{
    char path[DIRS_PATH_BYTES];
    if (j->kind == JOB_WANT || j->kind == JOB_ADOPT) {
        path_of(d, j->of, j->name, path);
        struct dirs_folder folder = {path, j->bytes, dirs_quota(d, j->of)};
        j->done(j->arg, j->err, j->err ? NULL : &folder, &j->why);
    } else if (j->kind == JOB_OVER) {
        d->config.on_over(d->config.arg, j->of, j->name, j->bytes, dirs_quota(d, j->of));
    } else {
        for (size_t i = 0; i < j->id_count; i++) {
            note_folder(d, &j->ids[i]);
            if (!j->holds(j->arg, &j->ids[i])) {
                agent_dirs_remove(d, &j->ids[i]);
            }
        }
        if (j->list) {
            submit(d, j);
            return;
        }
        d->has_all |= j->err == GW_OK;
    }
    job_free(j);
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
    char path[DIRS_PATH_BYTES], trash[DIRS_PATH_BYTES + 8];
    int fd = -1;
    if (strlen(host_dir) > DIRS_PATH_BYTES - 2 * (size_t)LIMIT_NAME_BYTES) {
        return gw_fail(why, GW_EARG, "the path \"%.100s...\" is too long", host_dir);
    }
    snprintf(path, sizeof path, "%s/work", host_dir);
    GW_TRY(make_folder(path, &fd, why));
    close(fd);
    snprintf(d->base[DIRS_WORK], DIRS_PATH_BYTES, "%.*s/agents", DIRS_PATH_BYTES - 8, path);
    GW_TRY(make_folder(d->base[DIRS_WORK], &d->fd[DIRS_WORK], why));
    snprintf(trash, sizeof trash, "%s/trash", path);
    GW_TRY(make_folder(trash, &d->trash, why));
    snprintf(d->base[DIRS_STORAGE], DIRS_PATH_BYTES, "%s/storage", host_dir);
    return make_folder(d->base[DIRS_STORAGE], &d->fd[DIRS_STORAGE], why);
}

static void destroy(struct agent_dirs *d)
{
    struct folder *f, *next;
    HASH_ITER (hh, d->folders, f, next) {
        agent_dirs_forget(d, f);
    }
    struct work_folder *w, *after;
    HASH_ITER (hh, d->has, w, after) {
        forget_folder(d, w);
    }
    for (int i = 0; i < DIRS_KINDS; i++) {
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
    int rc = pthread_create(&d->thread, NULL, agent_dirs_thread, d);
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
        if (j->done) {
            j->err = gw_fail(&j->why, GW_ESTOPPING, "the host is stopping");
            complete(d, j);
        } else {
            job_free(j);
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
        if (j->done) {
            complete(d, j);
        } else {
            job_free(j);
        }
    }
    destroy(d);
}
