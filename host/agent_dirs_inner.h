/* What the two halves of agent_dirs.h share: agent_dirs.c (the loop, life) and agent_dirs_thread.c
 * (what the thread does). */
#ifndef HOST_AGENT_DIRS_INNER_H
#define HOST_AGENT_DIRS_INNER_H

#include <dirent.h>
#include <pthread.h>
#include <sys/queue.h>

#include "host/agent_dirs.h"
#include "protocol/base/id.h"
#include "protocol/base/table.h"

#define DIRS_PATH_BYTES 1400 /* a host's folder has at most 1024 */
#define DIRS_LIST_IDS   256  /* of one slice of a sweep: the loop looks each of them up */
#define DIRS_KINDS      2

typedef enum job_kind {
    JOB_WANT, /* and its answer */
    JOB_ADOPT,
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
    char *from; /* JOB_ADOPT; owned */
    bool (*holds)(void *arg, const gw_id *agent);
    void *arg; /* of done, of holds */
    /* outcome */
    gw_err err;
    struct gw_error why;
    uint64_t bytes;
    DIR *list; /* NULL: that was all */
    gw_id ids[DIRS_LIST_IDS];
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

struct work_folder { /* that an agent has, or is about to have */
    UT_hash_handle hh;
    gw_id agent;
};

struct agent_dirs {
    struct dirs_config config;
    /* of the loop alone */
    struct work_folder *has;
    bool has_all; /* a sweep has seen all that were there: who is not in `has` has none */
    char base[DIRS_KINDS][DIRS_PATH_BYTES];
    int fd[DIRS_KINDS], trash;
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

static inline uint64_t dirs_quota(const struct agent_dirs *d, dirs_kind of)
{
    return of == DIRS_WORK ? d->config.work_quota : d->config.storage_quota;
}

/* Body of the thread; ends when d->stop is set. */
void *agent_dirs_thread(void *dirs);
/* Forget a folder that nobody waits for. After the thread has ended, of any thread. */
void agent_dirs_forget(struct agent_dirs *d, struct folder *f);

#endif
