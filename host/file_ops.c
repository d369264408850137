#include "host/file_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/core/op.h"
#include "host/files/listing.h"
#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/text.h"
#include "protocol/value.h"

#define SWEEP_SECONDS 3600

/* ---- figures ---- */

void flow_begin(struct file_ops *f, struct flow *flow, bool received)
{
    progress_init(&flow->progress);
    flow->received = received;
    pthread_mutex_lock(&f->lock);
    LIST_INSERT_HEAD(&f->flows, flow, link);
    pthread_mutex_unlock(&f->lock);
}

/* What came is not counted on its way: what did not have to come is. */
static uint64_t wire_bytes(struct flow *flow)
{
    struct progress *p = &flow->progress;
    if (!flow->received) {
        return atomic_load(&p->sent_bytes);
    }
    uint64_t saved = atomic_load(&p->saved_bytes), bytes = atomic_load(&p->bytes);
    return bytes > saved ? bytes - saved : 0;
}

static void add_flow(struct flow *flow, struct flow_sums sums[2])
{
    struct flow_sums *s = &sums[flow->received];
    s->files += atomic_load(&flow->progress.files);
    s->bytes += wire_bytes(flow);
}

void flow_end(struct file_ops *f, struct flow *flow)
{
    pthread_mutex_lock(&f->lock);
    LIST_REMOVE(flow, link);
    add_flow(flow, f->sums);
    f->sums[flow->received].transfers++;
    pthread_mutex_unlock(&f->lock);
    progress_deinit(&flow->progress);
}

void file_ops_sample(struct host *h, struct node_sample *ret)
{
    struct file_ops *f = h->files;
    struct flow_sums sums[2];
    struct flow *flow;
    uint64_t open[2] = {0};
    if (!f) {
        return;
    }
    pthread_mutex_lock(&f->lock);
    memcpy(sums, f->sums, sizeof sums);
    LIST_FOREACH (flow, &f->flows, link) {
        add_flow(flow, sums);
        open[flow->received]++;
    }
    pthread_mutex_unlock(&f->lock);
    for (int i = 0; i < 2; i++) {
        ret->files[i] = sums[i].files;
        ret->file_bytes[i] = sums[i].bytes;
        ret->file_transfers[i] = sums[i].transfers;
        ret->file_transfers_open[i] = open[i];
    }
}

/* ---- files.ls ---- */

struct ls {
    struct file_ops *f;
    struct op_call *call;
    char *path, *after; /* NULL: the first page */
    size_t limit;
    struct listing listing;
};

static void ls_free(struct ls *l)
{
    listing_clear(&l->listing);
    free(l->path);
    free(l->after);
    free(l);
}

static gw_err read_folder(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct ls *l = arg;
    (void)io;
    return listing_read(l->f->roots, l->path, l->after, l->limit, &l->listing, why);
}

static gw_err add_base64(gw_value *map, const char *key, const char *bytes)
{
    GW_AUTO(buf_free) struct buf text = {0};
    text_add_base64(bytes, strlen(bytes), &text);
    buf_add(&text, "", 1);
    return buf_ok(&text) ? gw_map_set(map, key, gw_str((const char *)text.data)) : GW_ENOMEM;
}

/* Text of a name, which is any bytes: what is not UTF-8 shows as '?'. */
static gw_err add_name(gw_value *map, const char *key, const char *name)
{
    GW_AUTO(free_charp) char *text = strdup(name);
    if (!text) {
        return GW_ENOMEM;
    }
    if (!utf8_is_valid(text, strlen(text))) {
        text_clean(text);
    }
    return gw_map_set(map, key, gw_str(text));
}

static gw_err add_entry(gw_value *list, const struct listed *e)
{
    static const char *const types[] = {"other", "file", "folder", "link"};
    gw_value v = gw_nil();
    gw_err err = add_name(&v, "name", e->name);
    size_t type = e->type <= LISTED_LINK ? e->type : 0;
    err = err ? err : gw_map_set(&v, "type", gw_str(types[type]));
    err = err ? err : gw_map_set(&v, "size", gw_int((int64_t)e->size));
    err = err ? err : gw_map_set(&v, "mode", gw_int(e->mode));
    err = err ? err : gw_map_set(&v, "mtime", gw_time_value((gw_time){e->mtime_ns / 1000000}));
    if (err == GW_OK && e->target) {
        err = add_name(&v, "target", e->target);
    }
    if (err != GW_OK) {
        gw_value_free(&v);
        return err;
    }
    return gw_list_add(list, v);
}

static gw_err describe(const struct ls *l, gw_value *ret)
{
    const struct host *h = l->f->h;
    char id[HOST_ID_TEXT];
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < l->listing.count; i++) {
        err = add_entry(&list, &l->listing.items[i]);
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    GW_TRY(gw_map_set(ret, "entries", list));
    GW_TRY(gw_map_set(ret, "host", gw_str(h->config->name)));
    GW_TRY(gw_map_set(ret, "host_id", gw_str(host_id_text(&h->trust->id, id))));
    GW_TRY(gw_map_set(ret, "path", gw_str(l->path)));
    return l->listing.last ? add_base64(ret, "next", l->listing.last)
                           : gw_map_set(ret, "next", gw_nil());
}

static void ls_done(void *arg, gw_err err, const struct gw_error *why)
{
    struct ls *l = arg;
    struct op_call *call = l->call;
    struct gw_error none;
    gw_value result = gw_nil();
    if (err == GW_OK && (err = describe(l, &result)) != GW_OK) {
        gw_fail(&none, err, "out of memory for the listing");
        why = &none;
    }
    ls_free(l);
    if (err == GW_OK) {
        op_ok(call, &result);
    } else {
        gw_value_free(&result);
        op_fail(call, why);
    }
}

/* The name that `next` of the page before stood for. */
static gw_err take_after(const gw_value *args, char **ret, struct gw_error *why)
{
    const char *text = gw_map_str(args, "after", NULL);
    gw_bytes name = {0};
    if (!text) {
        return GW_OK;
    }
    gw_err err = text_base64(text, strlen(text), &name);
    if (err == GW_OK && (name.len == 0 || memchr(name.data, 0, name.len))) {
        err = GW_EARG;
    }
    if (err == GW_OK && !(*ret = strndup((const char *)name.data, name.len))) {
        err = GW_ENOMEM;
    }
    gw_bytes_clear(&name);
    return err ? gw_fail(why, err, "\"after\" is not what a page gave as \"next\"") : GW_OK;
}

/* "" is the first root, as "~" is. */
static const char *path_or_root(const char *path)
{
    return path[0] ? path : "~";
}

static void ls_run(struct file_ops *f, struct op_call *call)
{
    struct gw_error why;
    struct ls *l = xcalloc(1, sizeof *l);
    l->f = f;
    l->call = call;
    l->path = xstrdup(path_or_root(gw_map_str(&call->args, "path", "")));
    l->limit = (size_t)gw_map_int(&call->args, "limit", LIMIT_PAGE);
    if (take_after(&call->args, &l->after, &why) != GW_OK) {
        ls_free(l);
        op_fail(call, &why);
        return;
    }
    bulk_run(f->h->bulk, read_folder, ls_done, l);
}

void file_ops_run(void *host, struct op_call *call, const struct env_host *to)
{
    struct host *h = host;
    if (to) {
        file_copy_run(h->files, call, to);
    } else {
        ls_run(h->files, call);
    }
}

/* ---- parts of copies that nobody takes up ---- */

static void sweep_later(struct file_ops *f)
{
    struct timeval tv = {.tv_sec = SWEEP_SECONDS};
    event_add(f->sweep_timer, &tv);
}

static gw_err sweep(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct file_ops *f = arg;
    struct parts_swept swept = {0};
    (void)io;
    tries_sweep(f->tries, f->h->config->parts_kept);
    GW_TRY(parts_sweep(f->parts, f->h->config->parts_kept, &swept, why));
    if (swept.removed > 0) {
        log_info("files.swept", "removed=%llu bytes=%llu kept=%llu",
                 (unsigned long long)swept.removed, (unsigned long long)swept.bytes,
                 (unsigned long long)swept.kept);
    }
    return GW_OK;
}

static void swept(void *arg, gw_err err, const struct gw_error *why)
{
    struct file_ops *f = arg;
    f->sweep = NULL;
    if (err != GW_OK && err != GW_ECANCELLED && err != GW_ESTOPPING) {
        log_warn("files.sweep", "%s", why->text);
    }
    if (!f->h->stopping) {
        sweep_later(f);
    }
}

static void sweep_due(evutil_socket_t fd, short what, void *arg)
{
    struct file_ops *f = arg;
    (void)fd, (void)what;
    f->sweep = bulk_run(f->h->bulk, sweep, swept, f);
}

/* ---- life ---- */

gw_err file_ops_open(struct host *h, struct gw_error *why)
{
    struct file_ops *f = xcalloc(1, sizeof *f);
    const gw_strs *roots = &h->config->roots;
    char work[1040], dir[1100];
    f->h = h;
    h->files = f;
    LIST_INIT(&f->copies);
    LIST_INIT(&f->flows);
    pthread_mutex_init(&f->lock, NULL);
    snprintf(work, sizeof work, "%s/work", h->dir);
    GW_TRY(roots_open_setting((const char *const *)roots->items, roots->len, work, &f->roots, why));
    GW_TRY(roots_protect(f->roots, h->dir, why));
    snprintf(dir, sizeof dir, "%s/parts", work);
    GW_TRY(parts_open(dir, &f->parts, why));
    snprintf(dir, sizeof dir, "%s/copies", work);
    f->tries = tries_open(dir);
    f->sweep_timer = event_new(h->base, -1, 0, sweep_due, f);
    struct timeval now = {0};
    if (!f->sweep_timer || event_add(f->sweep_timer, &now) != 0) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the files of the host");
    }
    return GW_OK;
}

void file_ops_stop(struct host *h)
{
    if (h->files) {
        file_copy_cancel_all(h->files);
    }
}

void file_ops_close(struct host *h)
{
    struct file_ops *f = h->files;
    h->files = NULL;
    if (!f) {
        return;
    }
    if (f->sweep_timer) {
        event_free(f->sweep_timer);
    }
    tries_close(f->tries);
    parts_close(f->parts);
    roots_close(f->roots);
    pthread_mutex_destroy(&f->lock);
    free(f);
}
