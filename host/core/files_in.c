/* Files that come with agents.
 *
 *   OFFER --room--> expected --STAGE--> verified --COMMIT--> ours, {row: ticket} --> adopted
 *                     |  nothing comes,    |  others, none,      boot: adopted again
 *                     v  ABORT             v  ABORT, QUERY
 *                   dropped             dropped
 *
 * They flow into the folder of (ticket, agent). The receipt goes out when exactly what the payload
 * names lies there, whole and on the disk. The row that makes the agent ours has rows of its files
 * beside it which name the ticket: they say that the folder has to become the work folder, and the
 * agent does nothing before (a->loading). A start does it again. A folder of a ticket that nobody
 * knows any more goes at the start. */
#include "host/core/files.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

struct files_expected {
    UT_hash_handle hh; /* by key */
    struct {
        gw_id ticket, agent;
    } key;
    struct host_id from;
    int64_t seen_us; /* something came, or it was offered */
};

static struct files_expected *find(struct node *n, const gw_id *ticket, const gw_id *agent)
{
    struct files_expected probe, *e;
    memset(&probe.key, 0, sizeof probe.key);
    probe.key.ticket = *ticket;
    probe.key.agent = *agent;
    HASH_FIND(hh, n->files_expected, &probe.key, sizeof probe.key, e);
    return e;
}

static void forget(struct node *n, struct files_expected *e)
{
    HASH_DEL(n->files_expected, e);
    free(e);
}

size_t files_expected_of(const struct node *n, const struct peer *p)
{
    size_t count = 0;
    for (const struct files_expected *e = n->files_expected; e; e = e->hh.next) {
        count += host_id_equal(&e->from, &p->id);
    }
    return count;
}

gw_err files_expect(struct node *n, const struct host_id *from, const gw_id *ticket,
                    const gw_id *agent, uint64_t bytes, struct gw_error *why)
{
    struct files_expected *e = find(n, ticket, agent);
    if (e && !host_id_equal(&e->from, from)) {
        return gw_fail(why, GW_ECONFLICT, "another host has given a ticket of this name");
    }
    GW_TRY(n->env->files_expect(n->env->ctx, from, ticket, agent, bytes, why));
    if (!e) {
        e = xcalloc(1, sizeof *e);
        e->key.ticket = *ticket;
        e->key.agent = *agent;
        e->from = *from;
        HASH_ADD(hh, n->files_expected, key, sizeof e->key, e);
    }
    e->seen_us = n->env->mono_us(n->env->ctx);
    return GW_OK;
}

void files_unexpect(struct node *n, const gw_id *ticket, const gw_id *agent)
{
    struct files_expected *e = find(n, ticket, agent);
    if (e) {
        forget(n, e);
    }
}

void files_drop(struct node *n, const gw_id *ticket, const gw_id *agent)
{
    files_unexpect(n, ticket, agent);
    n->env->files_drop(n->env->ctx, ticket, agent);
}

void files_drop_offered(struct node *n, const struct host_id *from, const gw_id *ticket,
                        const gw_id *agent)
{
    const struct files_expected *e = find(n, ticket, agent);
    if (e && host_id_equal(&e->from, from)) {
        REACH(FILES_DROPPED);
        files_drop(n, ticket, agent);
    }
}

/* ---- verified ---- */

struct manifest {
    size_t count;
    struct env_staged files[LIMIT_CARRIED_PER_AGENT];
    char names[LIMIT_CARRIED_PER_AGENT][LIMIT_CARRIED_NAME_BYTES + 1];
    uint8_t hashes[LIMIT_CARRIED_PER_AGENT][ENV_FILE_HASH_BYTES];
};

static void take_staged(void *arg, const char *name, const struct file_row *row)
{
    struct manifest *m = arg;
    size_t i = m->count++;
    memcpy(m->names[i], name, strlen(name) + 1);
    memcpy(m->hashes[i], row->fact.hash, ENV_FILE_HASH_BYTES);
    m->files[i] = (struct env_staged){m->names[i], row->fact.size, m->hashes[i]};
}

static void verified(void *arg, gw_err err, const struct gw_error *why,
                     const struct env_fact *facts, size_t n)
{
    struct files_asked *q = arg;
    struct ticket_in *t = q->in;
    (void)facts, (void)n;
    struct move_in *m = move_in_find(q->n, &q->agent);
    if (m && m->t == t && m->epoch == q->epoch && err != GW_OK) {
        m->refused = err;
        m->why = *why;
    }
    files_asked_free(q);
    ticket_in_verified(t);
}

gw_err files_verify(struct move_in *m, struct span list, struct gw_error *why)
{
    struct ticket_in *t = m->t;
    struct node *n = t->node;
    struct manifest *all = xcalloc(1, sizeof *all);
    struct files_expected *e = find(n, &t->id, &m->agent);
    gw_err err = files_read_list(list, &t->id, take_staged, all);
    gw_assert(err == GW_OK); /* checked with the payload */
    if (!e || !host_id_equal(&e->from, &t->from->id)) {
        free(all);
        return gw_fail(why, GW_EREFUSED, "its files did not come to host \"%s\"", n->name);
    }
    forget(n, e); /* from here on the folder goes with the move */
    struct files_asked *q = files_asked_new(n);
    q->in = t;
    q->agent = m->agent;
    q->epoch = m->epoch;
    m->has_files = true;
    t->verifying++;
    n->env->files_staged(n->env->ctx, &t->id, &m->agent, all->files, all->count, verified, q);
    free(all);
    return GW_OK;
}

static void take_row(void *arg, const char *name, const struct file_row *row)
{
    struct files_store_into *to = arg;
    if (to->batch) {
        file_put(to->batch, to->agent, to->epoch, name, row);
    }
}

gw_err files_store(struct store_batch *batch, const gw_id *agent, uint64_t epoch, struct span list,
                   const gw_id *ticket)
{
    struct files_store_into to = {batch, agent, epoch};
    return files_read_list(list, ticket, take_row, &to);
}

/* ---- adopted ---- */

static const gw_id *ticket_of(const struct agent *a)
{
    for (const struct file *f = a->files ? a->files->first : NULL; f; f = f->next) {
        if (!gw_id_is_nil(&f->row.ticket)) {
            return &f->row.ticket;
        }
    }
    return NULL;
}

static void ask_adopt(struct files_asked *q);

/* Whose files it is about; NULL: it was removed meanwhile. The epoch may be another by now. */
static struct agent *adopter(struct files_asked *q)
{
    struct agent *a = agent_find(q->n, &q->agent);
    const gw_id *ticket = a ? ticket_of(a) : NULL;
    return ticket && a->files->adopting && gw_id_equal(ticket, &q->ticket) ? a : NULL;
}

/* The rows say so from now on; should that be rolled back, the next start finds it done. */
static void write_adopted(struct node *n, struct agent *a)
{
    struct store_batch *batch = store_batch_new();
    for (struct file *f = a->files->first; f; f = f->next) {
        if (!gw_id_is_nil(&f->row.ticket)) {
            f->row.ticket = (gw_id){{0}};
            file_put(batch, &a->id, a->epoch, f->name, &f->row);
        }
    }
    node_commit(n, batch, POINT_FILES_ADOPTED, NULL, NULL);
}

/* Nobody is there any more to whom they belong: what has become a work folder goes with that. */
static void give_up(struct files_asked *q, gw_err err)
{
    if (err != GW_OK) {
        q->n->env->files_drop(q->n->env->ctx, &q->ticket, &q->agent);
    }
    files_asked_free(q);
}

static void adopt_again(struct files_asked *q);

static void adopted(void *arg, gw_err err, const struct gw_error *why, const struct env_fact *facts,
                    size_t count)
{
    struct files_asked *q = arg;
    struct node *n = q->n;
    char id[GW_ID_TEXT];
    struct agent *a = adopter(q);
    (void)facts, (void)count;
    if (!a) {
        give_up(q, err);
        return;
    }
    if (err != GW_OK) {
        REACH(ADOPT_AGAIN);
        log_error("files.adopt", "agent=%s its files cannot be put in their place, it waits: %s",
                  gw_id_text(&q->agent, id), why->text);
        q->again = adopt_again;
        return;
    }
    a->files->adopting = false;
    write_adopted(n, a);
    gw_id agent = q->agent;
    files_asked_free(q);
    inbox_load_over(n, &agent);
}

static void adopt_again(struct files_asked *q)
{
    if (adopter(q)) {
        ask_adopt(q);
    } else {
        give_up(q, GW_EAGENT_NOT_FOUND);
    }
}

static void ask_adopt(struct files_asked *q)
{
    q->n->env->files_adopt(q->n->env->ctx, &q->ticket, &q->agent, adopted, q);
}

bool files_adopt(struct node *n, struct agent *a)
{
    const gw_id *ticket = ticket_of(a);
    if (!ticket || a->files->adopting) {
        return ticket != NULL;
    }
    struct files_asked *q = files_asked_new(n);
    q->ticket = *ticket;
    q->agent = a->id;
    q->epoch = a->epoch;
    a->files->adopting = a->loading = true;
    ask_adopt(q);
    return true;
}

bool files_are_coming(const struct agent *a)
{
    return a->files && a->files->adopting;
}

/* ---- what nobody needs any more ---- */

static bool is_needed(struct node *n, const struct env_folder *f)
{
    const struct agent *a = agent_find(n, &f->agent);
    const struct move_in *m = move_in_find(n, &f->agent);
    const gw_id *ticket = a ? ticket_of(a) : NULL;
    return find(n, &f->ticket, &f->agent) || (m && gw_id_equal(&m->t->id, &f->ticket)) ||
           (ticket && gw_id_equal(ticket, &f->ticket));
}

static void swept(void *arg, gw_err err, const struct env_folder *folders, size_t n)
{
    struct files_asked *q = arg;
    struct node *node = q->n;
    files_asked_free(q);
    if (err != GW_OK) {
        log_warn("files.sweep", "error=%s folders of agents cannot be listed: nothing is swept",
                 gw_err_name(err));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_needed(node, &folders[i])) {
            REACH(FILES_SWEPT);
            files_drop(node, &folders[i].ticket, &folders[i].agent);
        }
    }
}

void files_sweep(struct node *n)
{
    n->env->files_folders(n->env->ctx, swept, files_asked_new(n));
}

/* ---- life ---- */

void files_housekeeping(struct node *n)
{
    int64_t now = n->env->mono_us(n->env->ctx);
    struct files_expected *e, *next;
    struct files_asked *q, *after;
    HASH_ITER (hh, n->files_expected, e, next) {
        if (host_id_equal(&e->from, &n->self->id) || /* a clone, which sees to it (create.c) */
            n->env->files_come(n->env->ctx, &e->key.ticket, &e->key.agent)) {
            e->seen_us = now;
        } else if (now - e->seen_us > FILES_TTL_US) {
            REACH(FILES_IN_VAIN);
            gw_id ticket = e->key.ticket, agent = e->key.agent;
            files_drop(n, &ticket, &agent);
        }
    }
    for (q = LIST_FIRST(&n->files_asked); q; q = after) {
        void (*again)(struct files_asked *) = q->again;
        after = LIST_NEXT(q, link);
        if (again) {
            q->again = NULL;
            again(q); /* which may end it */
        }
    }
}

void files_free(struct node *n)
{
    struct files_expected *e, *next;
    struct files_asked *q;
    HASH_ITER (hh, n->files_expected, e, next) {
        forget(n, e);
    }
    files_outs_free(n);
    while ((q = LIST_FIRST(&n->files_asked))) {
        files_asked_free(q);
    }
}
