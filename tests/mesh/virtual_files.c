/* Files of the virtual hosts: names with a content of 64 bits, kept over crashes as they stand.
 *
 * "/data/x" is anybody's, "agents/ID/NAME" lies in a work folder, "incoming/TICKET/ID/NAME" has
 * come for a ticket. What the node asks is done in steps with delays, one question after the other,
 * but for what is sent; a crash ends it between two steps. What is sent is read while time goes by:
 * its facts are those of the begin, its content that of the end. */
#include "tests/mesh/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "protocol/base/log.h"

struct vfile {
    LIST_ENTRY(vfile) link;
    char path[256];
    uint64_t content, ino;
    int64_t mtime_us, ctime_us;
    bool whole; /* all of it has come */
};

/* Who may send into which folder: gone with the process. */
struct vexpected {
    LIST_ENTRY(vexpected) link;
    char folder[160];
    struct host_id from;
    int64_t seen_us;
};

/* ---- the disk ---- */

static struct vfile *find(const struct vhost *h, const char *path)
{
    struct vfile *f;
    LIST_FOREACH (f, &h->files, link) {
        if (strcmp(f->path, path) == 0) {
            break;
        }
    }
    return f;
}

static bool below(const struct vfile *f, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(f->path, folder, n) == 0 && f->path[n] == '/';
}

static struct vfile *any_below(const struct vhost *h, const char *folder)
{
    struct vfile *f;
    LIST_FOREACH (f, &h->files, link) {
        if (below(f, folder)) {
            break;
        }
    }
    return f;
}

static void drop_file(struct vfile *f)
{
    LIST_REMOVE(f, link);
    free(f);
}

static void drop_folder(struct vhost *h, const char *folder)
{
    struct vfile *f;
    while ((f = any_below(h, folder))) {
        drop_file(f);
    }
}

static struct vfile *put(struct vhost *h, const char *path, uint64_t content)
{
    struct vfile *f = find(h, path);
    if (!f) {
        f = xcalloc(1, sizeof *f);
        (void)snprintf(f->path, sizeof f->path, "%s", path);
        f->ino = ++h->last_ino;
        LIST_INSERT_HEAD(&h->files, f, link);
    }
    f->content = content;
    f->mtime_us = f->ctime_us = ++h->file_clock;
    f->whole = true;
    return f;
}

void mesh_file_put(struct mesh *m, size_t host, const char *path, uint64_t content)
{
    mesh_note(m, "%s: file %s is written: %llx", m->hosts[host].name, path,
              (unsigned long long)content);
    (void)put(&m->hosts[host], path, content);
}

bool mesh_file_get(struct mesh *m, size_t host, const char *path, uint64_t *ret_content)
{
    const struct vfile *f = find(&m->hosts[host], path);
    if (f && ret_content) {
        *ret_content = f->content;
    }
    return f && f->whole;
}

void mesh_file_remove(struct mesh *m, size_t host, const char *path)
{
    struct vfile *f = find(&m->hosts[host], path);
    if (f) {
        drop_file(f);
    }
}

void mesh_files_each(struct mesh *m, size_t host,
                     void (*see)(void *arg, const char *path, uint64_t content), void *arg)
{
    const struct vfile *f;
    LIST_FOREACH (f, &m->hosts[host].files, link) {
        see(arg, f->path, f->content);
    }
}

void mesh_on_file(struct mesh *m, mesh_file_hook hook, void *arg)
{
    m->on_file = hook;
    m->file_arg = arg;
}

void vfiles_free(struct vhost *h)
{
    struct vfile *f;
    while ((f = LIST_FIRST(&h->files))) {
        drop_file(f);
    }
}

/* Chance of their own: a test without files has the same course as if there were none. */
static int64_t chance(struct mesh *m, int64_t low, int64_t high)
{
    return low + (int64_t)(rng_next(m->file_rng) % (uint64_t)(high - low + 1));
}

/* ---- names and facts ---- */

static const char *work_folder(const gw_id *agent, char ret[160])
{
    char id[GW_ID_TEXT];
    (void)snprintf(ret, 160, "agents/%s", gw_id_text(agent, id));
    return ret;
}

static const char *incoming(const gw_id *ticket, const gw_id *agent, char ret[160])
{
    char a[GW_ID_TEXT], b[GW_ID_TEXT];
    (void)snprintf(ret, 160, "incoming/%s/%s", gw_id_text(ticket, a), gw_id_text(agent, b));
    return ret;
}

static void hash_of(uint64_t content, uint8_t ret[ENV_FILE_HASH_BYTES])
{
    for (uint64_t i = 0; i < ENV_FILE_HASH_BYTES / 8; i++) {
        uint64_t part = XXH64(&content, sizeof content, i);
        memcpy(ret + 8 * i, &part, sizeof part);
    }
}

static struct env_fact fact_of(const struct vfile *f)
{
    struct env_fact fact = {.err = GW_ENOT_FOUND};
    if (f) {
        fact = (struct env_fact){.dev = 1,
                                 .ino = f->ino,
                                 .size = f->content % 1000,
                                 .mtime_ns = f->mtime_us * 1000,
                                 .ctime_ns = f->ctime_us * 1000,
                                 .perm = 0640};
        hash_of(f->content, fact.hash);
    }
    return fact;
}

static bool is_same(const struct env_fact *a, const struct env_fact *b)
{
    return a->ino == b->ino && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
           a->size == b->size;
}

/* ---- questions ---- */

struct vjob {
    STAILQ_ENTRY(vjob) link;
    struct vhost *host;
    bool (*step)(struct vjob *job); /* false: there are more */
    size_t at;
    char owner[160], from[160];
    struct { /* of each file */
        char name[256], path[256];
    } * files;
    struct env_fact *facts, *were;
    uint8_t (*hashes)[ENV_FILE_HASH_BYTES];
    size_t n;
    struct env_folder *folders;
    gw_err err;
    struct gw_error why;
    env_files_done done;
    env_folders_done folders_done;
    void *arg;
    /* of what is sent */
    gw_id ticket;
    struct vhost *to;
    uint64_t to_life;
    bool reading, cancelled;
    LIST_ENTRY(vjob) sends;
};

static void job_free(struct vjob *job)
{
    free(job->files);
    free(job->facts);
    free(job->were);
    free(job->hashes);
    free(job->folders);
    free(job);
}

static void job_drop(void *arg)
{
    job_free(arg);
}

static struct vjob *job_new(struct vhost *h, const gw_id *owner, const struct env_file *files,
                            size_t n, env_files_done done, void *arg)
{
    struct vjob *job = xcalloc(1, sizeof *job);
    job->host = h;
    job->done = done;
    job->arg = arg;
    job->n = n;
    job->files = xcalloc(n + 1, sizeof *job->files);
    job->facts = xcalloc(n + 1, sizeof *job->facts);
    job->were = xcalloc(n + 1, sizeof *job->were);
    job->hashes = xcalloc(n + 1, sizeof *job->hashes);
    if (owner) {
        (void)work_folder(owner, job->owner);
    }
    for (size_t i = 0; files && i < n; i++) {
        bool whole = files[i].path[0] == '/';
        (void)snprintf(job->files[i].name, sizeof job->files[i].name, "%s", files[i].name);
        (void)snprintf(job->files[i].path, sizeof job->files[i].path, "%s%s%s",
                       whole ? "" : job->owner, whole ? "" : "/", files[i].path);
    }
    return job;
}

static void job_tell(void *arg)
{
    struct vjob *job = arg;
    if (job->folders_done) {
        job->folders_done(job->arg, job->err, job->folders, job->n);
    } else if (job->done) {
        job->done(job->arg, job->err, job->err == GW_OK ? NULL : &job->why,
                  job->err == GW_OK ? job->facts : NULL, job->n);
    }
    job_free(job);
}

static void turn(void *arg)
{
    struct vhost *h = arg;
    struct mesh *m = h->mesh;
    struct vjob *job = STAILQ_FIRST(&h->file_jobs);
    if (job->step(job)) {
        STAILQ_REMOVE_HEAD(&h->file_jobs, link);
        mesh_push(m, h, m->now_us + chance(m, 5, 100), job_tell, job_drop, job);
    }
    if (!STAILQ_EMPTY(&h->file_jobs)) {
        mesh_push(m, h, m->now_us + chance(m, 10, 400), turn, NULL, h);
    }
}

static void submit(struct vjob *job, bool (*step)(struct vjob *job))
{
    struct vhost *h = job->host;
    job->step = step;
    if (h->dying) {
        job_free(job);
        return;
    }
    if (STAILQ_EMPTY(&h->file_jobs)) {
        mesh_push(h->mesh, h, h->mesh->now_us + chance(h->mesh, 10, 400), turn, NULL, h);
    }
    STAILQ_INSERT_TAIL(&h->file_jobs, job, link);
}

void vfiles_host_down(struct vhost *h)
{
    struct vjob *job;
    struct vexpected *e;
    while ((job = STAILQ_FIRST(&h->file_jobs))) {
        STAILQ_REMOVE_HEAD(&h->file_jobs, link);
        job_free(job);
    }
    while ((e = LIST_FIRST(&h->expected))) {
        LIST_REMOVE(e, link);
        free(e);
    }
    LIST_INIT(&h->file_sends); /* their events drop them */
}

static gw_err files_may(void *ctx, const gw_id *owner, const char *path, struct gw_error *why)
{
    (void)ctx, (void)owner;
    if (strncmp(path, "/data/", 6) != 0) {
        return gw_fail(why, GW_EDENIED, "\"%s\" is outside of the roots of this host", path);
    }
    return GW_OK;
}

static bool check_step(struct vjob *job)
{
    for (size_t i = 0; i < job->n; i++) {
        job->facts[i] = fact_of(find(job->host, job->files[i].path));
    }
    return true;
}

static void files_check(void *ctx, const gw_id *owner, const struct env_file *files, size_t n,
                        env_files_done done, void *arg)
{
    submit(job_new(ctx, owner, files, n, done, arg), check_step);
}

/* ---- sending ---- */

static struct vexpected *expected(struct vhost *h, const char *folder)
{
    struct vexpected *e;
    LIST_FOREACH (e, &h->expected, link) {
        if (strcmp(e->folder, folder) == 0) {
            break;
        }
    }
    return e;
}

static bool fails(struct vjob *job, gw_err err, const char *text)
{
    job->err = gw_fail(&job->why, err, "%s", text);
    return true;
}

/* Whether a byte gets there now. */
static bool is_cut(const struct vjob *job)
{
    const struct vhost *h = job->host, *to = job->to;
    return to != h && (!to->node || to->dying || to->life != job->to_life ||
                       vlink_of(h->mesh, h->index, to->index)->apart || mesh_stands(to));
}

/* One file: first its facts, then its content. */
static bool send_step(struct vjob *job)
{
    struct mesh *m = job->host->mesh;
    struct vexpected *e = expected(job->to, job->from);
    if (job->cancelled) {
        return fails(job, GW_ECANCELLED, "the transfer was called off");
    }
    if (is_cut(job)) {
        return fails(job, GW_EUNREACHABLE, "the host cannot be reached");
    }
    if (!e || !host_id_equal(&e->from, &job->host->id)) {
        return fails(job, GW_EREFUSED, "the host does not expect these files");
    }
    e->seen_us = m->now_us;
    if (job->at == job->n) {
        return true;
    }
    struct vfile *f = find(job->host, job->files[job->at].path);
    if (!job->reading) {
        job->facts[job->at] = fact_of(f);
        job->reading = true;
        return false;
    }
    job->reading = false;
    char path[512];
    (void)snprintf(path, sizeof path, "%.150s/%.200s", job->from, job->files[job->at].name);
    file_fate fate = m->on_file ? m->on_file(m->file_arg, job->host->index, job->to->index,
                                             job->files[job->at].path)
                                : FILE_PASS;
    if (!f || job->facts[job->at].err != GW_OK) {
        job->facts[job->at].err = GW_ENOT_FOUND;
        job->at++;
        return false;
    }
    if (fate == FILE_FULL || job->to->full_until_us > m->now_us) {
        return fails(job, GW_EDISK_FULL, "the disk of the host is full");
    }
    struct vfile *there = put(job->to, path, f->content);
    if (fate == FILE_BREAK) {
        there->whole = false;
        return fails(job, GW_EUNREACHABLE, "the transfer broke");
    }
    if (fate == FILE_CHANGE) {
        (void)put(job->host, f->path, f->content + 1);
    }
    hash_of(there->content, job->facts[job->at].hash);
    job->facts[job->at].size = there->content % 1000;
    job->at++;
    return false;
}

static void send_drop(void *arg)
{
    job_free(arg);
}

static void send_turn(void *arg)
{
    struct vjob *job = arg;
    struct mesh *m = job->host->mesh;
    if (send_step(job)) {
        LIST_REMOVE(job, sends);
        job_tell(job);
        return;
    }
    int64_t us = chance(m, 0, 19) ? chance(m, 20, 3000) : chance(m, 1, 2000000);
    mesh_push(m, job->host, m->now_us + us, send_turn, send_drop, job);
}

static struct vhost *host_of(struct mesh *m, const struct host_id *id)
{
    for (size_t i = 0; i < m->host_count; i++) {
        if (host_id_equal(&m->hosts[i].id, id)) {
            return &m->hosts[i];
        }
    }
    return NULL;
}

static void files_send(void *ctx, const struct host_id *to, const gw_id *ticket, const gw_id *agent,
                       const gw_id *owner, const struct env_file *files, size_t n,
                       env_files_done done, void *arg)
{
    struct vhost *h = ctx;
    struct mesh *m = h->mesh;
    struct vjob *job = job_new(h, owner, files, n, done, arg);
    if (h->dying) {
        job_free(job);
        return;
    }
    job->to = host_of(m, to);
    job->to_life = job->to->life;
    job->ticket = *ticket;
    (void)incoming(ticket, agent, job->from);
    LIST_INSERT_HEAD(&h->file_sends, job, sends);
    mesh_push(m, h, m->now_us + chance(m, 50, 1500), send_turn, send_drop, job);
}

static void files_cancel(void *ctx, const gw_id *ticket)
{
    struct vhost *h = ctx;
    struct vjob *job;
    LIST_FOREACH (job, &h->file_sends, sends) {
        job->cancelled |= gw_id_equal(&job->ticket, ticket);
    }
}

/* ---- what comes ---- */

static gw_err files_expect(void *ctx, const struct host_id *from, const gw_id *ticket,
                           const gw_id *agent, uint64_t bytes, struct gw_error *why)
{
    struct vhost *h = ctx;
    char folder[160];
    (void)bytes;
    if (h->full_until_us > h->mesh->now_us) {
        return gw_fail(why, GW_EDISK_FULL, "there is no room for its files");
    }
    struct vexpected *e = expected(h, incoming(ticket, agent, folder));
    if (!e) {
        e = xcalloc(1, sizeof *e);
        memcpy(e->folder, folder, sizeof folder);
        LIST_INSERT_HEAD(&h->expected, e, link);
    }
    e->from = *from;
    return GW_OK;
}

static bool files_come(void *ctx, const gw_id *ticket, const gw_id *agent)
{
    struct vhost *h = ctx;
    char folder[160];
    const struct vexpected *e = expected(h, incoming(ticket, agent, folder));
    return e && e->seen_us > h->mesh->now_us - 3000000;
}

static void close_folder(struct vhost *h, const char *folder)
{
    struct vexpected *e = expected(h, folder);
    if (e) {
        LIST_REMOVE(e, link);
        free(e);
    }
}

static bool staged_step(struct vjob *job)
{
    struct vhost *h = job->host;
    char path[512];
    struct vfile *f, *next;
    for (size_t i = 0; i < job->n; i++) {
        (void)snprintf(path, sizeof path, "%.150s/%.200s", job->from, job->files[i].name);
        f = find(h, path);
        struct env_fact fact = fact_of(f);
        if (!f || !f->whole || memcmp(fact.hash, job->hashes[i], sizeof fact.hash) != 0) {
            return fails(job, GW_EPROTO, "a file of it is not there");
        }
    }
    for (f = LIST_FIRST(&h->files); f; f = next) {
        next = LIST_NEXT(f, link);
        bool named = false;
        for (size_t i = 0; i < job->n; i++) {
            (void)snprintf(path, sizeof path, "%.150s/%.200s", job->from, job->files[i].name);
            named |= strcmp(path, f->path) == 0;
        }
        if (below(f, job->from) && !named) {
            drop_file(f);
        }
    }
    return true;
}

static void files_staged(void *ctx, const gw_id *ticket, const gw_id *agent,
                         const struct env_staged *files, size_t n, env_files_done done, void *arg)
{
    struct vjob *job = job_new(ctx, NULL, NULL, n, done, arg);
    (void)incoming(ticket, agent, job->from);
    close_folder(ctx, job->from);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(job->files[i].name, sizeof job->files[i].name, "%s", files[i].name);
        memcpy(job->hashes[i], files[i].hash, ENV_FILE_HASH_BYTES);
    }
    submit(job, staged_step);
}

/* First what was there goes, then it gets its place. */
static bool adopt_step(struct vjob *job)
{
    struct vhost *h = job->host;
    struct vfile *f, *next;
    char path[512];
    if (!any_below(h, job->from)) {
        return true;
    }
    if (job->at++ == 0) {
        drop_folder(h, job->owner);
        return false;
    }
    if (h->full_until_us > h->mesh->now_us ||
        (h->mesh->on_file &&
         h->mesh->on_file(h->mesh->file_arg, h->index, h->index, job->from) == FILE_FULL)) {
        return fails(job, GW_EDISK_FULL, "no room for a rename");
    }
    for (f = LIST_FIRST(&h->files); f; f = next) {
        next = LIST_NEXT(f, link);
        if (below(f, job->from)) {
            (void)snprintf(path, sizeof path, "%.150s%.200s", job->owner,
                           f->path + strlen(job->from));
            (void)snprintf(f->path, sizeof f->path, "%.255s", path);
        }
    }
    return true;
}

static void files_adopt(void *ctx, const gw_id *ticket, const gw_id *agent, env_files_done done,
                        void *arg)
{
    struct vjob *job = job_new(ctx, agent, NULL, 0, done, arg);
    (void)incoming(ticket, agent, job->from);
    close_folder(ctx, job->from);
    submit(job, adopt_step);
}

static bool drop_step(struct vjob *job)
{
    drop_folder(job->host, job->from);
    return true;
}

static void files_drop(void *ctx, const gw_id *ticket, const gw_id *agent)
{
    struct vjob *job = job_new(ctx, NULL, NULL, 0, NULL, NULL);
    (void)incoming(ticket, agent, job->from);
    close_folder(ctx, job->from);
    submit(job, drop_step);
}

/* ---- what goes ---- */

static bool remove_step(struct vjob *job)
{
    struct mesh *m = job->host->mesh;
    if (job->at == job->n) {
        return true;
    }
    if (job->at == 0 && m->on_file &&
        m->on_file(m->file_arg, job->host->index, job->host->index, job->files[0].path) ==
            FILE_FULL) {
        return fails(job, GW_EBUSY, "too much is asked at once");
    }
    size_t i = job->at++;
    struct vfile *f = find(job->host, job->files[i].path);
    struct env_fact fact = fact_of(f);
    if (f && is_same(&fact, &job->were[i])) {
        drop_file(f);
    } else if (f) {
        job->facts[i].err = GW_ECONFLICT;
    }
    return false;
}

static void files_remove(void *ctx, const gw_id *owner, const struct env_file *files,
                         const struct env_fact *were, size_t n, env_files_done done, void *arg)
{
    struct vjob *job = job_new(ctx, owner, files, n, done, arg);
    if (n > 0) {
        memcpy(job->were, were, n * sizeof *were);
    }
    submit(job, remove_step);
}

static void agent_gone(void *ctx, const gw_id *agent)
{
    struct vjob *job = job_new(ctx, NULL, NULL, 0, NULL, NULL);
    (void)work_folder(agent, job->from);
    submit(job, drop_step);
}

/* What the program does when it is ready: folders of agents that are not there go. */
void vfiles_sweep(struct vhost *h)
{
    const struct vfile *f;
    LIST_FOREACH (f, &h->files, link) {
        char text[GW_ID_TEXT] = "";
        gw_id id;
        if (strncmp(f->path, "agents/", 7) == 0) {
            memcpy(text, f->path + 7, GW_ID_TEXT - 1);
            gw_assert(gw_id_parse(text, &id) == GW_OK);
            if (!node_holds_agent(h->node, &id)) {
                agent_gone(h, &id);
            }
        }
    }
}

static bool folders_step(struct vjob *job)
{
    const struct vfile *f;
    size_t cap = 0;
    LIST_FOREACH (f, &job->host->files, link) {
        struct env_folder one = {0};
        const char *p = f->path;
        char id[GW_ID_TEXT] = "";
        if (strncmp(p, "incoming/", 9) != 0) {
            continue;
        }
        p += 9;
        memcpy(id, p, GW_ID_TEXT - 1);
        gw_assert(gw_id_parse(id, &one.ticket) == GW_OK);
        memcpy(id, p + GW_ID_TEXT, GW_ID_TEXT - 1);
        gw_assert(gw_id_parse(id, &one.agent) == GW_OK);
        if (job->n == cap) {
            cap = cap ? 2 * cap : 16;
            job->folders = realloc(job->folders, cap * sizeof *job->folders);
            gw_assert(job->folders);
        }
        job->folders[job->n++] = one; /* perhaps more than once */
    }
    return true;
}

static void files_folders(void *ctx, env_folders_done done, void *arg)
{
    struct vjob *job = job_new(ctx, NULL, NULL, 0, NULL, arg);
    job->folders_done = done;
    submit(job, folders_step);
}

void vfiles_init(struct vhost *h)
{
    LIST_INIT(&h->files);
    LIST_INIT(&h->expected);
    LIST_INIT(&h->file_sends);
    STAILQ_INIT(&h->file_jobs);
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
    h->env.agent_gone = agent_gone;
    h->env.files_folders = files_folders;
}
