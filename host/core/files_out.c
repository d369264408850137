/* Files of an agent on their way to another folder, and what becomes of them here.
 *
 *   look --all there--> (offer) --> check --some not sent as they are--> send --+
 *                                    ^ |                                        |
 *                                    | +-- all as they were sent --> settled    |
 *                                    +------------------------------------------+
 *
 * The same for a move, a clone elsewhere and one that stays here: settled while the agent runs, and
 * again when it is frozen (or its copy was taken), so that only what changed at the last moment is
 * sent then. In FILES_ROUNDS a file has to hold still, or the move is called off.
 *
 * What was sent stands in the rows of the agent that has departed. Behind COMMITTED these say what
 * is to be removed (I6); the rows go when that is done, so a restart does it again. */
#include "host/core/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/core/reach.h"

struct item {
    char *name, *path, *origin;
    file_mode mode;
    bool sent;
    struct env_fact fact; /* as it was sent */
};

struct files_out {
    LIST_ENTRY(files_out) link; /* of the node */
    struct node *n;
    gw_id source, ticket, as; /* agent here, ticket, agent there */
    uint64_t epoch;           /* of the agent here */
    struct host_id to;
    struct item *items; /* as of the last check */
    size_t count;
    size_t *sending; /* of the items, those that are under way */
    size_t sending_count;
    uint64_t bytes; /* of all, when they were last looked at */
    unsigned rounds;
    bool only_look;
    bool owns_arg;
    struct buf kept;
    struct files_asked *asked;
    void (*done)(void *arg, gw_err err, const struct gw_error *why);
    void *arg;
};

/* ---- questions to the environment: known to the node, for they outlive what asked ---- */

struct files_asked *files_asked_new(struct node *n)
{
    struct files_asked *q = xcalloc(1, sizeof *q);
    q->n = n;
    LIST_INSERT_HEAD(&n->files_asked, q, link);
    return q;
}

static void forget_names(struct files_asked *q)
{
    for (size_t i = 0; i < q->name_count; i++) {
        free(q->names[i]);
    }
    free(q->names);
    q->names = NULL;
    q->name_count = 0;
}

void files_asked_free(struct files_asked *q)
{
    LIST_REMOVE(q, link);
    forget_names(q);
    free(q);
}

/* ---- the list ---- */

static void items_free(struct item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(items[i].name);
        free(items[i].path);
        free(items[i].origin);
    }
    free(items);
}

struct files_out *files_out_new(struct node *n, const struct agent *a, const struct host_id *to,
                                const gw_id *ticket, const gw_id *as)
{
    struct files_out *f = xcalloc(1, sizeof *f);
    *f = (struct files_out){
        .n = n, .source = a->id, .ticket = *ticket, .as = *as, .epoch = a->epoch, .to = *to};
    LIST_INSERT_HEAD(&n->files_outs, f, link);
    return f;
}

void files_out_free(struct files_out *f)
{
    if (!f) {
        return;
    }
    if (f->asked) {
        f->asked->out = NULL;
        f->n->env->files_cancel(f->n->env->ctx, &f->ticket);
    }
    LIST_REMOVE(f, link);
    items_free(f->items, f->count);
    buf_free(&f->kept);
    free(f->sending);
    free(f);
}

void files_out_own_arg(struct files_out *f)
{
    f->owns_arg = true;
}

struct buf *files_out_keep(struct files_out *f)
{
    return &f->kept;
}

void files_outs_free(struct node *n)
{
    struct files_out *f;
    while ((f = LIST_FIRST(&n->files_outs))) {
        if (f->asked && f->owns_arg) {
            free(f->arg);
        }
        f->asked = NULL;
        files_out_free(f);
    }
}

static const struct item *find_item(const struct item *items, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(items[i].name, name) == 0) {
            return &items[i];
        }
    }
    return NULL;
}

static const struct agent *source_of(const struct files_out *f)
{
    const struct agent *a = agent_find(f->n, &f->source);
    return a && a->epoch == f->epoch ? a : NULL;
}

/* What the agent has registered now, and what of it was sent. */
static void refresh(struct files_out *f, const struct agent *a)
{
    struct item *items = xcalloc(a->files ? a->files->count + 1 : 1, sizeof *items);
    size_t count = 0;
    for (const struct file *file = a->files ? a->files->first : NULL; file; file = file->next) {
        struct item *item = &items[count++];
        const struct item *old = find_item(f->items, f->count, file->name);
        item->name = xstrdup(file->name);
        item->path = xstrdup(file->path);
        item->origin = xstrdup(file->origin);
        item->mode = file->row.mode;
        if (old && old->sent && strcmp(old->path, file->path) == 0) {
            item->sent = true;
            item->fact = old->fact;
        }
    }
    items_free(f->items, f->count);
    f->items = items;
    f->count = count;
}

void files_out_total(const struct files_out *f, size_t *ret_count, uint64_t *ret_bytes)
{
    *ret_count = f->count;
    *ret_bytes = f->bytes;
}

/* ---- check, send, check ---- */

static void check(struct files_out *f);

static void end(struct files_out *f, gw_err err, const struct gw_error *why)
{
    void (*done)(void *arg, gw_err e, const struct gw_error *w) = f->done;
    f->done = NULL;
    done(f->arg, err, why); /* may free f */
}

static bool is_same(const struct env_fact *a, const struct env_fact *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns && a->perm == b->perm;
}

static gw_err fail_file(const struct item *item, gw_err err, struct gw_error *why)
{
    if (err == GW_ENOT_FOUND) {
        gw_fail(why, err, "the registered file \"%s\" is gone: %.400s", item->name, item->path);
        gw_hint(why, "put it back, or let the agent drop it");
        return err;
    }
    return gw_fail(why, err, "the registered file \"%s\" cannot be sent: %.400s: %s", item->name,
                   item->path, gw_err_text(err));
}

/* The question belongs to f, unless that has ended. */
static struct files_out *take_answer(struct files_asked *q)
{
    struct files_out *f = q->out;
    files_asked_free(q);
    if (f) {
        f->asked = NULL;
    }
    return f;
}

static struct files_asked *question(struct files_out *f)
{
    f->asked = files_asked_new(f->n);
    f->asked->out = f;
    return f->asked;
}

static void sent(void *arg, gw_err err, const struct gw_error *why, const struct env_fact *facts,
                 size_t n)
{
    struct files_out *f = take_answer(arg);
    struct gw_error bad;
    if (!f) {
        return;
    }
    if (err != GW_OK) {
        REACH(FILES_NOT_SENT);
        end(f, err, why);
        return;
    }
    gw_assert(n == f->sending_count);
    for (size_t i = 0; i < n; i++) {
        struct item *item = &f->items[f->sending[i]];
        if (facts[i].err != GW_OK) {
            end(f, fail_file(item, facts[i].err, &bad), &bad);
            return;
        }
        item->sent = true;
        item->fact = facts[i];
    }
    check(f);
}

static void send(struct files_out *f)
{
    struct env_file *files = xcalloc(f->sending_count, sizeof *files);
    for (size_t i = 0; i < f->sending_count; i++) {
        const struct item *item = &f->items[f->sending[i]];
        files[i] = (struct env_file){item->name, item->path};
    }
    f->n->env->files_send(f->n->env->ctx, &f->to, &f->ticket, &f->as, &f->source, files,
                          f->sending_count, sent, question(f));
    free(files);
}

/* Which have to be sent (again). */
static gw_err compare(struct files_out *f, const struct env_fact *facts, struct gw_error *why)
{
    const struct item *changed = NULL;
    f->bytes = 0;
    f->sending_count = 0;
    free(f->sending);
    f->sending = xcalloc(f->count + 1, sizeof *f->sending);
    for (size_t i = 0; i < f->count; i++) {
        struct item *item = &f->items[i];
        if (facts[i].err != GW_OK) {
            return fail_file(item, facts[i].err, why);
        }
        f->bytes += facts[i].size;
        if (!item->sent || !is_same(&facts[i], &item->fact)) {
            changed = item->sent ? item : changed;
            f->sending[f->sending_count++] = i;
        }
    }
    REACH_IF(changed && !f->only_look, FILES_AGAIN);
    if (f->sending_count > 0 && !f->only_look && f->rounds++ >= FILES_ROUNDS) {
        return gw_fail(why, GW_ECONFLICT,
                       "the registered file \"%s\" changes while it is sent: %.400s",
                       f->items[f->sending[0]].name, f->items[f->sending[0]].path);
    }
    return GW_OK;
}

static void checked(void *arg, gw_err err, const struct gw_error *why, const struct env_fact *facts,
                    size_t n)
{
    struct files_out *f = take_answer(arg);
    struct gw_error bad;
    if (!f) {
        return;
    }
    if (err != GW_OK) {
        end(f, err, why);
        return;
    }
    gw_assert(n == f->count);
    err = compare(f, facts, &bad);
    if (err != GW_OK || f->only_look || f->sending_count == 0) {
        end(f, err, err == GW_OK ? NULL : &bad);
    } else {
        send(f);
    }
}

static void ask_check(struct files_out *f)
{
    struct env_file *files = xcalloc(f->count + 1, sizeof *files);
    for (size_t i = 0; i < f->count; i++) {
        files[i] = (struct env_file){f->items[i].name, f->items[i].path};
    }
    f->n->env->files_check(f->n->env->ctx, &f->source, files, f->count, checked, question(f));
    free(files);
}

static void check(struct files_out *f)
{
    const struct agent *a = source_of(f);
    struct gw_error why;
    if (!a) {
        gw_fail(&why, GW_EAGENT_NOT_FOUND, "the agent has left meanwhile");
        end(f, why.code, &why);
        return;
    }
    refresh(f, a);
    ask_check(f);
}

static void begin(struct files_out *f, bool only_look,
                  void (*done)(void *arg, gw_err err, const struct gw_error *why), void *arg)
{
    const struct agent *a = source_of(f);
    gw_assert(!f->done && !f->asked);
    f->only_look = only_look;
    f->rounds = 0;
    f->done = done;
    f->arg = arg;
    if (a) {
        refresh(f, a);
    }
    ask_check(f); /* of an agent that is gone: done() has to come in a later turn */
}

void files_out_look(struct files_out *f,
                    void (*done)(void *arg, gw_err err, const struct gw_error *why), void *arg)
{
    begin(f, true, done, arg);
}

void files_out_settle(struct files_out *f,
                      void (*done)(void *arg, gw_err err, const struct gw_error *why), void *arg)
{
    begin(f, false, done, arg);
}

/* ---- of a copy that stays on this host: what a destination does before its receipt ---- */

static void verified(void *arg, gw_err err, const struct gw_error *why,
                     const struct env_fact *facts, size_t n)
{
    struct files_out *f = take_answer(arg);
    (void)facts, (void)n;
    if (f) {
        end(f, err, why);
    }
}

void files_out_verify(struct files_out *f,
                      void (*done)(void *arg, gw_err err, const struct gw_error *why), void *arg)
{
    struct env_staged *list = xcalloc(f->count + 1, sizeof *list);
    gw_assert(!f->done && !f->asked);
    f->done = done;
    f->arg = arg;
    for (size_t i = 0; i < f->count; i++) {
        const struct item *item = &f->items[i];
        list[i] = (struct env_staged){item->name, item->fact.size, item->fact.hash};
    }
    f->n->env->files_staged(f->n->env->ctx, &f->ticket, &f->as, list, f->count, verified,
                            question(f));
    free(list);
}

/* ---- what is written of them ---- */

/* `text` is where the spans of the row point to; freed by the caller. */
static struct file_row row_there(const struct files_out *f, const struct item *item,
                                 const char *host, struct buf *text)
{
    if (item->origin[0]) {
        buf_addf(text, "%s", item->origin);
    } else {
        buf_addf(text, "%s:%s", host, item->path);
    }
    struct file_row row = {.mode = item->mode,
                           .path = {(const uint8_t *)item->name, strlen(item->name)},
                           .origin = buf_span(text),
                           .known = true,
                           .ticket = f->ticket};
    row.fact.size = item->fact.size;
    row.fact.mtime_ns = item->fact.mtime_ns;
    row.fact.perm = item->fact.perm;
    memcpy(row.fact.hash, item->fact.hash, sizeof row.fact.hash);
    return row;
}

void files_out_pack(const struct files_out *f, const char *host, struct buf *out)
{
    mp_array(out, f->count);
    for (size_t i = 0; i < f->count; i++) {
        struct buf text = {0}, value = {0};
        struct file_row row = row_there(f, &f->items[i], host, &text);
        file_row_pack(&row, &value);
        mp_array(out, 2);
        mp_bin(out, f->items[i].name, strlen(f->items[i].name));
        mp_span(out, buf_span(&value));
        buf_free(&value);
        buf_free(&text);
    }
}

void files_out_put_arrived(const struct files_out *f, const char *host, struct store_batch *batch)
{
    for (size_t i = 0; i < f->count; i++) {
        struct buf text = {0};
        struct file_row row = row_there(f, &f->items[i], host, &text);
        file_put(batch, &f->as, 1, f->items[i].name, &row);
        buf_free(&text);
    }
}

void files_out_put_departed(const struct files_out *f, uint64_t epoch, struct store_batch *batch)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct item *item = &f->items[i];
        const struct file_row row = {
            .mode = item->mode,
            .path = {(const uint8_t *)item->path, strlen(item->path)},
            .origin = {(const uint8_t *)item->origin, strlen(item->origin)},
            .known = true,
            .fact = item->fact,
        };
        file_put(batch, &f->source, epoch, item->name, &row);
    }
}

/* ---- the agent is active elsewhere: what moved goes here ---- */

static void tell_kept(struct node *n, const struct files_asked *q, const char *name, gw_err err)
{
    char text[LIMIT_ERROR_TEXT_BYTES], id[GW_ID_TEXT];
    (void)snprintf(text, sizeof text, "\"%s\" stays here, too: %s", name,
                   err == GW_ECONFLICT ? "it was changed after it was sent" : gw_err_text(err));
    log_warn("file.kept", "agent=%s %s", gw_id_text(&q->agent, id), text);
    event_now(n, &(struct event){.kind = "file.kept", .agent = &q->agent, .text = text});
}

static void ask_clean(struct files_asked *q);

/* Nothing of it was done: the rows stay, which say what is to go. So does a start. */
static void clean_later(struct files_asked *q, const char *why)
{
    char id[GW_ID_TEXT];
    REACH(REMOVE_AGAIN);
    log_warn("files.remove", "agent=%s what it left here is not removed yet: %s",
             gw_id_text(&q->agent, id), why);
    q->again = ask_clean;
}

static void removed(void *arg, gw_err err, const struct gw_error *why, const struct env_fact *facts,
                    size_t n)
{
    struct files_asked *q = arg;
    struct node *node = q->n;
    if (err != GW_OK) {
        clean_later(q, why->text);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (facts[i].err != GW_OK && facts[i].err != GW_ENOT_FOUND) {
            REACH(FILE_KEPT);
            tell_kept(node, q, q->names[i], facts[i].err);
        }
    }
    gw_id ticket = q->ticket, agent = q->agent;
    files_asked_free(q);
    ticket_out_cleaned(node, &ticket, &agent);
}

/* Of a row of what has departed: whether it is to be removed by itself. What lies in the work
 * folder goes with that. */
static bool is_to_go(const struct storage_row *raw, struct file_row *ret)
{
    return file_row_read(raw->value, ret) == GW_OK && ret->known && ret->mode == FILE_MOVE &&
           ret->path.p[0] == '/';
}

static char *text_of(struct span s)
{
    char *text = xcalloc(s.n + 1, 1);
    memcpy(text, s.p, s.n);
    return text;
}

static void rows_read(void *arg, gw_err err, const struct storage_row *rows, size_t count)
{
    struct files_asked *q = arg;
    struct node *n = q->n;
    if (err != GW_OK && err != GW_ECORRUPT) {
        clean_later(q, gw_err_text(err));
        return;
    }
    struct env_file *files = xcalloc(count + 1, sizeof *files);
    struct env_fact *were = xcalloc(count + 1, sizeof *were);
    char **paths = xcalloc(count + 1, sizeof *paths);
    q->names = xcalloc(count + 1, sizeof *q->names);
    if (err != GW_OK) {
        log_error("files.remove", "error=%s rows of files that have left cannot be read: they stay",
                  gw_err_name(err));
    }
    for (size_t i = 0; err == GW_OK && i < count; i++) {
        struct file_row row;
        size_t at = q->name_count;
        if (is_to_go(&rows[i], &row)) {
            q->names[at] = text_of(
                (struct span){rows[i].key.p + ROW_KEY_BYTES, rows[i].key.n - ROW_KEY_BYTES});
            paths[at] = text_of(row.path);
            files[at] = (struct env_file){q->names[at], paths[at]};
            were[at] = row.fact;
            q->name_count++;
        }
    }
    size_t found = q->name_count;
    if (found > 0) {
        n->env->files_remove(n->env->ctx, &q->agent, files, were, found, removed, q);
    }
    for (size_t i = 0; i < found; i++) {
        free(paths[i]);
    }
    free(paths);
    free(files);
    free(were);
    if (found == 0) {
        removed(q, GW_OK, NULL, NULL, 0);
    }
}

static void ask_clean(struct files_asked *q)
{
    uint8_t raw[ROW_KEY_BYTES];
    const struct store_range range = {.table = TABLE_FILES,
                                      .prefix = row_key(raw, &q->agent, q->epoch)};
    forget_names(q);
    q->n->env->read(q->n->env->ctx, &range, 1, rows_read, q);
}

bool files_clean(struct move_out *m)
{
    struct node *n = m->t->node;
    if (!m->files && !m->at_boot) {
        return false;
    }
    struct files_asked *q = files_asked_new(n);
    q->ticket = m->t->id;
    q->agent = m->agent_id;
    q->epoch = m->epoch;
    ask_clean(q);
    return true;
}
