/* Copies of files from this host. A copy is a job of the data plane; the loop looks at its numbers
 * every 100 ms and tells the caller. Life:
 *
 *   read the arguments -> dial -> thread: walk and send -> told on the loop: last item, answer
 *
 * A caller that goes away calls it off; what is finished stays, and what has begun is kept for the
 * next try (parts.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/core/node.h"
#include "host/core/op.h"
#include "host/file_ops.h"
#include "host/files/record.h"
#include "host/files/send.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/text.h"
#include "protocol/value.h"

#define TICK_MS       100
#define NOTES_AT_ONCE 10000 /* between two looks of the loop */

struct copy {
    LIST_ENTRY(copy) link;
    struct file_ops *f;
    struct op_call *call;
    struct host_id to_id;
    char to[HOST_ID_TEXT + LIMIT_NAME_BYTES];
    gw_strs sources, excludes;
    char *dst;
    bool recursive;
    struct send_options options;
    char key[TRY_KEY_TEXT]; /* "": it needs none */
    struct flow flow;
    struct bulk_job *job;
    struct event *tick;
    int64_t begun_us;
    bool gone, stopping;
    /* of the thread, until it has ended */
    struct send_result result;
    uint64_t failed;    /* entries */
    struct bulk_io *io; /* of the job */
    /* under the lock: what is to be told of single files, {path, code, reason} or {path, would} */
    pthread_mutex_t lock;
    gw_value notes;
};

/* ---- the thread ---- */

/* What is told of single files is text; of names that are not UTF-8 what can be shown. */
static gw_err set_path(gw_value *map, const char *path)
{
    GW_AUTO(free_charp) char *text = strdup(path);
    if (!text) {
        return GW_ENOMEM;
    }
    if (!utf8_is_valid(text, strlen(text))) {
        text_clean(text);
    }
    return gw_map_set(map, "path", gw_str(text));
}

static gw_err describe_failure(const char *path, gw_err code, const struct gw_error *why,
                               gw_value *ret)
{
    GW_TRY(set_path(ret, path));
    GW_TRY(gw_map_set(ret, "code", gw_str(gw_err_name(code))));
    return gw_map_set(ret, "reason", gw_str(why ? why->text : gw_err_text(code)));
}

/* `v` is taken. The loop takes it from there. A loop that cannot keep up makes the thread wait: the
 * list stays short. */
static void note(struct copy *c, gw_err err, gw_value *v)
{
    struct bulk_io *io = c->io;
    pthread_mutex_lock(&c->lock);
    while (c->notes.list.n >= NOTES_AT_ONCE && err == GW_OK) {
        pthread_mutex_unlock(&c->lock);
        err = io->wait(io->ctx, false, false, TICK_MS / 4);
        err = err == GW_ETIMEOUT ? GW_OK : err;
        pthread_mutex_lock(&c->lock);
    }
    if (err == GW_OK) {
        err = gw_list_add(&c->notes, *v);
        *v = gw_nil();
    }
    pthread_mutex_unlock(&c->lock);
    gw_value_free(v);
    if (err != GW_OK && err != GW_ECANCELLED) {
        log_warn("files.copy", "a file is counted, but not named: %s", gw_err_text(err));
    }
}

static void on_failed(void *arg, const char *path, gw_err code, const struct gw_error *why)
{
    struct copy *c = arg;
    gw_value v = gw_nil();
    if (c->failed++ < LIMIT_FILES_FAILED_TOLD) {
        note(c, describe_failure(path, code, why, &v), &v);
    }
}

static gw_err describe_plan(const struct file_entry *e, uint64_t bytes, gw_value *ret)
{
    GW_TRY(set_path(ret, e->path));
    GW_TRY(gw_map_set(ret, "would", gw_str("send")));
    return gw_map_set(ret, "bytes", gw_int((int64_t)bytes));
}

static void on_planned(void *arg, const struct file_entry *e, uint64_t bytes)
{
    struct copy *c = arg;
    gw_value v = gw_nil();
    note(c, describe_plan(e, bytes, &v), &v);
}

/* Where it goes is decided: a folder that has got its new name by this copy is there from now on,
 * and a next try must know that it was not. */
static void on_opened(void *arg, sink_placing placing)
{
    struct copy *c = arg;
    if (c->key[0]) {
        tries_keep(c->f->tries, c->key, placing);
    }
}

static gw_err send_source(struct copy *c, struct bulk_io *io, struct source *source,
                          struct gw_error *why)
{
    bool kept = c->recursive && !c->options.dry_run && source_count(source) == 1;
    if (kept) {
        tries_key(&c->to_id, &c->sources, c->dst, c->key);
        c->options.placing = tries_find(c->f->tries, c->key);
    }
    GW_TRY(send_files(io, source, &c->options, &c->flow.progress, &c->result, why));
    if (kept) {
        tries_forget(c->f->tries, c->key);
    }
    return GW_OK;
}

/* The receiver waits for the session while a large tree is held against a pattern. */
struct opening {
    struct bulk_io *io;
    int64_t told_ns;
    gw_err err;
    struct gw_error why;
};

static gw_err on_pass(void *arg)
{
    struct opening *x = arg;
    x->err = x->err == GW_OK ? record_alive_over(x->io, &x->told_ns, &x->why) : x->err;
    return x->err;
}

static gw_err send_all(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct copy *c = arg;
    struct opening x = {.io = io, .told_ns = rate_now_ns()};
    struct source_options o = {.recursive = c->recursive,
                               .excludes = (const char *const *)c->excludes.items,
                               .exclude_count = c->excludes.len,
                               .cancel = &c->flow.progress.cancel,
                               .on_pass = on_pass,
                               .arg = &x};
    c->io = io;
    GW_AUTO(source_closep) struct source *source = NULL;
    gw_err err = source_open(c->f->roots, (const char *const *)c->sources.items, c->sources.len, &o,
                             &source, why);
    if (x.err != GW_OK) {
        *why = x.why;
        return x.err;
    }
    GW_TRY(err);
    return send_source(c, io, source, why);
}

/* ---- what the caller is told ---- */

static gw_err add_count(gw_value *map, const char *key, atomic_uint_fast64_t *count)
{
    return gw_map_set(map, key, gw_int((int64_t)atomic_load(count)));
}

static gw_err describe_progress(struct copy *c, gw_value *ret)
{
    struct progress *p = &c->flow.progress;
    char path[PROGRESS_PATH_BYTES];
    progress_path(p, path);
    text_clean(path);
    GW_TRY(add_count(ret, "files", &p->files));
    GW_TRY(add_count(ret, "files_total", &p->files_total));
    GW_TRY(add_count(ret, "bytes", &p->bytes));
    GW_TRY(add_count(ret, "bytes_total", &p->bytes_total));
    GW_TRY(add_count(ret, "sent_bytes", &p->sent_bytes));
    GW_TRY(add_count(ret, "saved_bytes", &p->saved_bytes));
    return gw_map_set(ret, "path", gw_str(path));
}

static void call_off(struct copy *c)
{
    atomic_store(&c->flow.progress.cancel, true);
    bulk_cancel(c->job);
}

static void give(struct copy *c, const gw_value *item)
{
    if (!c->gone && !c->call->item(c->call, item)) {
        c->gone = true;
    }
}

static void tell_notes(struct copy *c)
{
    gw_value list;
    pthread_mutex_lock(&c->lock);
    list = c->notes;
    c->notes = (gw_value){.kind = GW_LIST};
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < list.list.n; i++) {
        give(c, &list.list.items[i]);
    }
    gw_value_free(&list);
}

static void ticked(evutil_socket_t fd, short what, void *arg)
{
    struct copy *c = arg;
    GW_AUTO(gw_value_free) gw_value item = gw_nil();
    (void)fd, (void)what;
    tell_notes(c);
    if (describe_progress(c, &item) == GW_OK) {
        give(c, &item);
    }
    if (c->gone) {
        call_off(c);
    }
}

static void hex_of(const uint8_t *p, size_t n, char *ret)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(ret + 2 * i, 3, "%02x", p[i]);
    }
}

static gw_err describe_result(struct copy *c, gw_value *ret)
{
    const struct send_result *r = &c->result;
    const struct host *h = c->f->h;
    char hash[2 * DIGEST_BYTES + 1];
    double seconds = (double)(h->env.mono_us(c->f->h) - c->begun_us) / 1e6;
    hex_of(r->hash, DIGEST_BYTES, hash);
    GW_TRY(gw_map_set(ret, "done", gw_bool(true)));
    GW_TRY(gw_map_set(ret, "files", gw_int((int64_t)r->files)));
    GW_TRY(gw_map_set(ret, "bytes", gw_int((int64_t)r->bytes)));
    GW_TRY(gw_map_set(ret, "sent_bytes", gw_int((int64_t)r->sent_bytes)));
    GW_TRY(gw_map_set(ret, "saved_bytes", gw_int((int64_t)r->saved_bytes)));
    GW_TRY(gw_map_set(ret, "seconds", gw_float(seconds)));
    GW_TRY(gw_map_set(ret, "hash", r->hashed ? gw_str(hash) : gw_nil()));
    GW_TRY(gw_map_set(ret, "failed", gw_int((int64_t)r->failed)));
    if (c->options.move) {
        GW_TRY(gw_map_set(ret, "removed", gw_int((int64_t)r->removed)));
    }
    if (c->options.dry_run) {
        GW_TRY(gw_map_set(ret, "dry_run", gw_bool(true)));
    }
    GW_TRY(gw_map_set(ret, "from", gw_str(h->config->name)));
    return gw_map_set(ret, "to", gw_str(c->to));
}

/* ---- life ---- */

static void copy_free(struct copy *c)
{
    if (c->tick) {
        event_free(c->tick);
    }
    gw_strs_clear(&c->sources);
    gw_strs_clear(&c->excludes);
    free(c->dst);
    gw_value_free(&c->notes);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Files are at their place, or some of their bytes: more than a session that was refused. */
static void tell_ended(struct copy *c, gw_err err, const struct gw_error *why)
{
    struct node_transfer t = {.other = &c->to_id,
                              .files = c->result.files,
                              .bytes = c->result.bytes,
                              .err = err,
                              .reason = err ? why->text : NULL};
    bool begun = err == GW_OK || t.files > 0 || atomic_load(&c->flow.progress.sent_bytes) > 0;
    if (begun && !c->options.dry_run) {
        node_transfer_ended(c->f->h->node, &t);
    }
}

static gw_err explain(const struct copy *c, gw_err err, const struct gw_error *why,
                      struct gw_error *ret)
{
    *ret = *why;
    ret->code = err;
    if (c->stopping) {
        return gw_fail(ret, GW_ESTOPPING, "host \"%s\" is stopping", c->f->h->config->name);
    }
    if (c->gone || err == GW_ECANCELLED) {
        return gw_fail(ret, GW_ECANCELLED, "the copy was called off");
    }
    if (err == GW_EUNREACHABLE || err == GW_ETIMEOUT || err == GW_EIDENTITY) {
        gw_prefix(ret, "host \"%s\"", c->to);
    }
    return err;
}

static void ended(void *arg, gw_err err, const struct gw_error *why)
{
    struct copy *c = arg;
    struct op_call *call = c->call;
    struct gw_error reason;
    GW_AUTO(gw_value_free) gw_value last = gw_nil();
    call->on_gone = NULL;
    LIST_REMOVE(c, link);
    if (err != GW_OK) {
        err = explain(c, err, why, &reason);
    }
    tell_notes(c);
    tell_ended(c, err, &reason);
    flow_end(c->f, &c->flow);
    if (err == GW_OK && (err = describe_result(c, &last)) != GW_OK) {
        gw_fail(&reason, err, "out of memory for the report of the copy");
    }
    if (err == GW_OK) {
        gw_value nothing = gw_nil();
        give(c, &last);
        copy_free(c);
        op_ok(call, &nothing);
    } else {
        copy_free(c);
        op_fail(call, &reason);
    }
}

static void caller_gone(void *arg)
{
    struct copy *c = arg;
    c->gone = true;
    call_off(c);
}

void file_copy_cancel_all(struct file_ops *f)
{
    struct copy *c;
    LIST_FOREACH (c, &f->copies, link) {
        c->stopping = true;
        call_off(c);
    }
}

/* ---- arguments ---- */

static gw_err take_strs(const gw_value *list, gw_strs *ret, struct gw_error *why)
{
    for (size_t i = 0; list && list->kind == GW_LIST && i < list->list.n; i++) {
        const gw_value *s = &list->list.items[i];
        if (gw_strs_add(ret, s->s.p && s->s.n ? s->s.p : "~") != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
    }
    return GW_OK;
}

static gw_err take_compress(const char *when, send_compress *ret, struct gw_error *why)
{
    static const struct {
        const char *name;
        send_compress is;
    } words[] = {{"auto", COMPRESS_AUTO}, {"always", COMPRESS_ALWAYS}, {"never", COMPRESS_NEVER}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(when, words[i].name) == 0) {
            *ret = words[i].is;
            return GW_OK;
        }
    }
    return gw_fail(why, GW_EARG, "\"compress\" is auto, always or never, not \"%.40s\"", when);
}

static gw_err take_args(struct copy *c, const gw_value *args, struct gw_error *why)
{
    const char *dst = gw_map_str(args, "dst", "");
    c->dst = xstrdup(dst[0] ? dst : "~");
    c->recursive = gw_map_bool(args, "recursive", false);
    c->options = (struct send_options){
        .dst = c->dst,
        .overwrite = gw_map_bool(args, "overwrite", false),
        .update = gw_map_bool(args, "update", false),
        .verify = gw_map_bool(args, "verify", false),
        .dry_run = gw_map_bool(args, "dry_run", false),
        .move = gw_map_bool(args, "move", false),
        .limit = (uint64_t)gw_map_int(args, "limit", 0),
        .on_opened = on_opened,
        .on_failed = on_failed,
        .on_planned = on_planned,
        .arg = c,
    };
    if (gw_map_int(args, "limit", 0) < 0) {
        return gw_fail(why, GW_EARG, "\"limit\" is in bytes a second, 0 for none");
    }
    GW_TRY(take_compress(gw_map_str(args, "compress", "auto"), &c->options.compress, why));
    GW_TRY(take_strs(gw_map_get(args, "exclude"), &c->excludes, why));
    GW_TRY(take_strs(gw_map_get(args, "sources"), &c->sources, why));
    return c->sources.len > 0 ? GW_OK : gw_fail(why, GW_EARG, "there is no source");
}

/* Where the data plane of a host is dialled; this host's own is as good as another's. */
static const char *url_of(struct host *h, const struct env_host *to)
{
    const char *url = to->self ? server_url(h->server) : links_url(h, &to->id);
    return url ? url : to->url;
}

void file_copy_run(struct file_ops *f, struct op_call *call, const struct env_host *to)
{
    struct gw_error why;
    struct host *h = f->h;
    struct copy *c = xcalloc(1, sizeof *c);
    struct timeval tv = {.tv_usec = TICK_MS * 1000};
    c->f = f;
    c->call = call;
    c->to_id = to->id;
    c->begun_us = h->env.mono_us(h);
    c->notes.kind = GW_LIST;
    snprintf(c->to, sizeof c->to, "%s", to->name);
    pthread_mutex_init(&c->lock, NULL);
    c->tick = event_new(h->base, -1, EV_PERSIST, ticked, c);
    gw_err err = take_args(c, &call->args, &why);
    if (err == GW_OK && (!c->tick || event_add(c->tick, &tv) != 0)) {
        err = gw_fail(&why, GW_ENOMEM, "out of memory for a copy");
    }
    if (err != GW_OK) {
        copy_free(c);
        op_fail(call, &why);
        return;
    }
    LIST_INSERT_HEAD(&f->copies, c, link);
    flow_begin(f, &c->flow, false);
    call->on_gone = caller_gone;
    call->gone_arg = c;
    c->job = bulk_call(h->bulk, &to->id, url_of(h, to), "files", send_all, ended, c);
}
