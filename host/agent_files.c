#include "host/agent_files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "host/agent_dirs.h"
#include "host/agent_files_inner.h"
#include "host/host.h"
#include "protocol/base/log.h"

#define RETRY_MS  1000 /* before a broken session goes on */
#define RETRY_FOR 45   /* times: as long as a host needs to notice that the other end is gone */

struct asked { /* one question of the node */
    LIST_ENTRY(asked) link;
    struct agent_files *f;
    struct carried_job job;
    struct host_id to; /* of what is sent */
    struct bulk_job *bulk;
    struct env_timer *retry;
    unsigned tries;
    bool cancelled, sends;
    struct wanted_file *wanted;
    size_t wanted_count;
    struct env_folder *folders;
    size_t folder_count;
    env_files_done done;
    env_folders_done folders_done;
    void *arg;
};

struct agent_files {
    struct host *h;
    struct roots *roots;
    struct incoming *incoming;
    char *agents; /* where the work folders are; absolute */
    LIST_HEAD(, asked) asked;
};

/* ---- questions ---- */

static struct asked *asked_new(struct agent_files *f, const gw_id *owner, size_t n)
{
    struct asked *q = xcalloc(1, sizeof *q);
    char id[GW_ID_TEXT];
    q->f = f;
    q->job.roots = f->roots;
    q->job.incoming = f->incoming;
    q->job.self = f->h->trust->id;
    q->job.files = xcalloc(n + 1, sizeof *q->job.files);
    q->job.count = n;
    if (owner) {
        (void)snprintf(q->job.folder, sizeof q->job.folder, "%s/%s", f->agents,
                       gw_id_text(owner, id));
    }
    LIST_INSERT_HEAD(&f->asked, q, link);
    return q;
}

static void asked_free(struct asked *q)
{
    LIST_REMOVE(q, link);
    q->f->h->env.timer_free(q->f->h->env.ctx, q->retry);
    free(q->job.files);
    free(q->wanted);
    free(q->folders);
    free(q);
}

static void take_files(struct asked *q, const struct env_file *files)
{
    for (size_t i = 0; i < q->job.count; i++) {
        struct carried_file *file = &q->job.files[i];
        (void)snprintf(file->name, sizeof file->name, "%s", files[i].name);
        (void)snprintf(file->path, sizeof file->path, "%s", files[i].path);
    }
}

static void answer(struct asked *q, gw_err err, const struct gw_error *why)
{
    if (q->folders_done) {
        q->folders_done(q->arg, err, q->folders, q->folder_count);
    } else if (q->done) {
        struct env_fact *facts = xcalloc(q->job.count + 1, sizeof *facts);
        for (size_t i = 0; i < q->job.count; i++) {
            facts[i] = q->job.files[i].fact;
        }
        q->done(q->arg, err, why, err == GW_OK ? facts : NULL, q->job.count);
        free(facts);
    }
    asked_free(q);
}

static void local_done(void *arg, gw_err err, const struct gw_error *why)
{
    struct asked *q = arg;
    q->bulk = NULL;
    answer(q, err, why);
}

/* A host that closes its threads answers no more: what is asked then goes with agent_files_close.
 */
static bool is_closing(const struct asked *q)
{
    return !q->f->h->bulk;
}

static void run(struct asked *q, bulk_work work, void *arg)
{
    if (is_closing(q)) {
        return;
    }
    q->bulk = bulk_run(q->f->h->bulk, work, local_done, arg);
}

static void ask(struct asked *q, bulk_work work, env_files_done done, void *arg)
{
    q->done = done;
    q->arg = arg;
    run(q, work, q);
}

/* The works that need nothing but the job; the argument of all is the question. */
static gw_err check_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct asked *q = arg;
    return carried_check(io, &q->job, why);
}
static gw_err send_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct asked *q = arg;
    return carried_send(io, &q->job, why);
}
static gw_err copy_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct asked *q = arg;
    return carried_copy(io, &q->job, why);
}
static gw_err remove_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct asked *q = arg;
    return carried_remove(io, &q->job, why);
}
static gw_err verify_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct asked *q = arg;
    (void)io;
    return incoming_verify(q->job.incoming, &q->job.ticket, &q->job.agent, q->wanted,
                           q->wanted_count, why);
}
static gw_err drop_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct asked *q = arg;
    (void)io;
    return incoming_drop(q->job.incoming, &q->job.ticket, &q->job.agent, why);
}
static gw_err list_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct asked *q = arg;
    (void)io;
    gw_err err = incoming_list(q->job.incoming, &q->folders, &q->folder_count);
    return err == GW_OK ? GW_OK : gw_fail(why, err, "folders cannot be listed");
}

/* ---- where a file may be ---- */

static gw_err files_may(void *ctx, const gw_id *owner, const char *path, struct gw_error *why)
{
    const struct host *h = ctx;
    const struct agent_files *f = h->agent_files;
    char id[GW_ID_TEXT], folder[PATH_MAX];
    int n = snprintf(folder, sizeof folder, "%s/%s/", f->agents, gw_id_text(owner, id));
    if (path[0] != '/' || (n > 0 && strncmp(path, folder, (size_t)n) == 0)) {
        return GW_OK;
    }
    GW_AUTO(free_charp) char *rest = NULL;
    size_t root;
    return roots_find(f->roots, path, &root, &rest, NULL, why);
}

static void files_check(void *ctx, const gw_id *owner, const struct env_file *files, size_t n,
                        env_files_done done, void *arg)
{
    struct host *h = ctx;
    struct asked *q = asked_new(h->agent_files, owner, n);
    take_files(q, files);
    ask(q, check_work, done, arg);
}

/* ---- sending ---- */

static void dial(struct asked *q);

static void dial_again(void *arg)
{
    dial(arg);
}

static bool may_go_on(const struct asked *q, gw_err err)
{
    return (err == GW_EUNREACHABLE || err == GW_ETIMEOUT || err == GW_EBUSY) && !q->cancelled &&
           !q->f->h->stopping && q->tries < RETRY_FOR;
}

static void sent(void *arg, gw_err err, const struct gw_error *why)
{
    struct asked *q = arg;
    struct host *h = q->f->h;
    q->bulk = NULL;
    if (may_go_on(q, err)) {
        log_debug("files.send", "host=%s again: %s",
                  links_url(h, &q->to) ? links_url(h, &q->to) : "-", why->text);
        q->tries++;
        if (!q->retry) {
            q->retry = h->env.timer_new(h->env.ctx, dial_again, q);
        }
        h->env.timer_start(h->env.ctx, q->retry, RETRY_MS);
        return;
    }
    if (err != GW_OK && q->cancelled) {
        struct gw_error off;
        gw_fail(&off, GW_ECANCELLED, "the transfer of its files was called off");
        answer(q, GW_ECANCELLED, &off);
        return;
    }
    answer(q, err, why);
}

static void dial(struct asked *q)
{
    struct host *h = q->f->h;
    const char *url = links_url(h, &q->to);
    q->bulk = bulk_call(h->bulk, &q->to, url ? url : "", CARRIED_SERVICE, send_work, sent, q);
}

static void files_send(void *ctx, const struct host_id *to, const gw_id *ticket, const gw_id *agent,
                       const gw_id *owner, const struct env_file *files, size_t n,
                       env_files_done done, void *arg)
{
    struct host *h = ctx;
    struct asked *q = asked_new(h->agent_files, owner, n);
    take_files(q, files);
    q->job.ticket = *ticket;
    q->job.agent = *agent;
    q->to = *to;
    q->sends = true;
    q->done = done;
    q->arg = arg;
    if (is_closing(q)) {
        return;
    }
    if (host_id_equal(to, &q->job.self)) {
        q->bulk = bulk_run(h->bulk, copy_work, sent, q);
    } else {
        dial(q);
    }
}

static void files_cancel(void *ctx, const gw_id *ticket)
{
    const struct host *h = ctx;
    struct asked *q;
    LIST_FOREACH (q, &h->agent_files->asked, link) {
        if (!q->sends || !gw_id_equal(&q->job.ticket, ticket)) {
            continue;
        }
        q->cancelled = true;
        if (q->bulk) {
            bulk_cancel(q->bulk);
        } else if (q->retry) {
            h->env.timer_start(h->env.ctx, q->retry, 0); /* fails at once, and is told */
        }
    }
}

/* ---- what comes ---- */

static gw_err files_expect(void *ctx, const struct host_id *from, const gw_id *ticket,
                           const gw_id *agent, uint64_t bytes, struct gw_error *why)
{
    const struct host *h = ctx;
    uint64_t quota = h->config->work_quota;
    if (quota > 0 && bytes > quota) {
        return gw_fail(why, GW_EREFUSED,
                       "its files have %llu bytes, the quota of a work folder is %llu bytes",
                       (unsigned long long)bytes, (unsigned long long)quota);
    }
    return incoming_expect(h->agent_files->incoming, from, ticket, agent, bytes, why);
}

static bool files_come(void *ctx, const gw_id *ticket, const gw_id *agent)
{
    const struct host *h = ctx;
    struct host_id from = {{0}};
    return incoming_comes(h->agent_files->incoming, ticket, agent, &from) ||
           (!host_id_is_nil(&from) && bulk_host_waits(h->bulk, &from));
}

static void files_staged(void *ctx, const gw_id *ticket, const gw_id *agent,
                         const struct env_staged *files, size_t n, env_files_done done, void *arg)
{
    struct host *h = ctx;
    struct asked *q = asked_new(h->agent_files, NULL, 0);
    q->wanted = xcalloc(n + 1, sizeof *q->wanted);
    q->wanted_count = n;
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(q->wanted[i].name, sizeof q->wanted[i].name, "%s", files[i].name);
        q->wanted[i].size = files[i].size;
        memcpy(q->wanted[i].hash, files[i].hash, sizeof q->wanted[i].hash);
    }
    q->job.ticket = *ticket;
    q->job.agent = *agent;
    incoming_shut(q->job.incoming, ticket, agent, false);
    ask(q, verify_work, done, arg);
}

static void dropped(void *arg, gw_err err, const struct gw_error *why, const struct env_fact *facts,
                    size_t n)
{
    (void)arg, (void)facts, (void)n;
    if (err != GW_OK && err != GW_ESTOPPING && err != GW_ECANCELLED) {
        log_warn("files.drop", "files that came for nothing stay until the next start: %s",
                 why->text);
    }
}

static void files_drop(void *ctx, const gw_id *ticket, const gw_id *agent)
{
    struct host *h = ctx;
    struct asked *q = asked_new(h->agent_files, NULL, 0);
    q->job.ticket = *ticket;
    q->job.agent = *agent;
    incoming_shut(q->job.incoming, ticket, agent, false);
    ask(q, drop_work, dropped, NULL);
}

/* GW_ENOT_FOUND: it was done before. */
static void adopted(void *arg, gw_err err, const struct dirs_folder *folder,
                    const struct gw_error *why)
{
    struct asked *q = arg;
    (void)folder;
    if (is_closing(q)) { /* the next start does it again */
        asked_free(q);
        return;
    }
    if (err == GW_OK) { /* what is left is the empty folder of the ticket */
        files_drop(q->f->h, &q->job.ticket, &q->job.agent);
    }
    answer(q, err == GW_ENOT_FOUND ? GW_OK : err, why);
}

static void files_adopt(void *ctx, const gw_id *ticket, const gw_id *agent, env_files_done done,
                        void *arg)
{
    struct host *h = ctx;
    struct asked *q = asked_new(h->agent_files, agent, 0);
    q->job.ticket = *ticket;
    q->job.agent = *agent;
    GW_AUTO(free_charp) char *from = incoming_path(q->job.incoming, ticket, agent);
    q->done = done;
    q->arg = arg;
    incoming_shut(q->job.incoming, ticket, agent, true);
    agent_dirs_adopt(h->dirs, agent, from, adopted, q);
}

static void files_remove(void *ctx, const gw_id *owner, const struct env_file *files,
                         const struct env_fact *were, size_t n, env_files_done done, void *arg)
{
    struct host *h = ctx;
    struct asked *q = asked_new(h->agent_files, owner, n);
    take_files(q, files);
    for (size_t i = 0; i < n; i++) {
        q->job.files[i].was = were[i];
    }
    ask(q, remove_work, done, arg);
}

static void files_folders(void *ctx, env_folders_done done, void *arg)
{
    struct host *h = ctx;
    struct asked *q = asked_new(h->agent_files, NULL, 0);
    q->folders_done = done;
    q->arg = arg;
    run(q, list_work, q);
}

/* ---- life ---- */

static gw_err open_parts(struct agent_files *f, struct gw_error *why)
{
    struct host *h = f->h;
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/work", h->dir);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return gw_fail(why, GW_EIO, "cannot make the folder \"%s\": %s", path, strerror(errno));
    }
    GW_TRY(roots_open_setting((const char *const *)h->config->roots.items, h->config->roots.len,
                              path, &f->roots, why));
    GW_TRY(roots_protect(f->roots, h->dir, why)); /* a move removes what it has taken along */
    (void)snprintf(path, sizeof path, "%s/%s/agents", h->dir, "work");
    f->agents = xstrdup(path);
    (void)snprintf(path, sizeof path, "%s/%s/incoming", h->dir, "work");
    return incoming_open(path, h->config->work_quota, &f->incoming, why);
}

gw_err agent_files_open(struct host *h, struct gw_error *why)
{
    struct agent_files *f = xcalloc(1, sizeof *f);
    f->h = h;
    LIST_INIT(&f->asked);
    h->agent_files = f;
    GW_TRY(open_parts(f, why));
    h->env.files_may = files_may;
    h->env.files_check = files_check;
    h->env.files_send = files_send;
    h->env.files_cancel = files_cancel;
    h->env.files_expect = files_expect;
    h->env.files_come = files_come;
    h->env.files_staged = files_staged;
    h->env.files_adopt = files_adopt;
    h->env.files_drop = files_drop;
    h->env.files_remove = files_remove;
    h->env.files_folders = files_folders;
    return GW_OK;
}

const char *agent_files_folder(const struct host *h)
{
    return h->agent_files->agents;
}

void agent_files_close(struct host *h)
{
    struct agent_files *f = h->agent_files;
    struct asked *q;
    if (!f) {
        return;
    }
    while ((q = LIST_FIRST(&f->asked))) {
        asked_free(q);
    }
    incoming_close(f->incoming);
    roots_close(f->roots);
    free(f->agents);
    free(f);
    h->agent_files = NULL;
}

gw_err agent_files_serve(struct bulk_request *request, struct bulk_io *io)
{
    const struct host *h = request->ctx;
    return agent_files_take(h->agent_files->incoming, request, io);
}
