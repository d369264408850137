/* Operations on the artifacts of this host. The store is asked on threads of the data plane, so
 * that no disk holds up the loop; answers are made on it. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/artifacts.h"
#include "host/core/internal.h"
#include "host/core/op_handlers.h"
#include "host/host.h"

#define PROGRESS_MS   100
#define DAMAGE_EVENTS 100 /* of one verification; all damage is told to who asked */

struct query {
    struct op_call *call;
    struct host *host;
    struct chunk_store *store;
    gw_value result;
};

static void answered(void *arg, gw_err err, const struct gw_error *why)
{
    struct query *q = arg;
    struct gw_error memory;
    if (err != GW_OK && why->code == GW_OK) {
        gw_fail(&memory, err, "the artifacts cannot be asked: %s", gw_err_text(err));
        why = &memory;
    }
    if (err == GW_OK) {
        op_ok(q->call, &q->result);
    } else {
        gw_value_free(&q->result);
        op_fail(q->call, why);
    }
    free(q);
}

/* Answer the call by what `work` makes of it on a thread. */
static void ask(struct node *n, struct op_call *call, bulk_work work)
{
    struct host *h = node_env(n)->ctx;
    if (artifacts_refuse(h, call)) {
        return;
    }
    struct query *q = xcalloc(1, sizeof *q);
    q->call = call;
    q->host = h;
    q->store = h->chunks;
    (void)bulk_run(h->bulk, work, answered, q); /* it ends by itself, soon */
}

/* ---- artifacts.list ---- */

static gw_err add_rows(const struct artifact_info *rows, size_t n, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < n; i++) {
        gw_value row = gw_nil();
        err = artifacts_value(&rows[i], &row);
        if (err == GW_OK) {
            err = gw_list_add(&list, row);
        } else {
            gw_value_free(&row);
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    return gw_map_set(ret, "artifacts", list);
}

static gw_err list_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct query *q = arg;
    const gw_value *args = &q->call->args, *owner = gw_map_get(args, "owner");
    const char *after = gw_map_str(args, "after", NULL);
    size_t room = (size_t)gw_map_int(args, "limit", 100), n = 0;
    char next[GW_ID_TEXT];
    gw_id from;
    (void)io;
    if (after && gw_id_parse(after, &from) != GW_OK) {
        return gw_fail(why, GW_EARG, "\"after\" is not the id of an artifact");
    }
    struct artifact_info *rows = calloc(room, sizeof *rows);
    gw_err err =
        rows ? artifact_list(q->store, after ? &from : NULL,
                             owner && owner->kind == GW_ID ? &owner->id : NULL, rows, room, &n, why)
             : GW_ENOMEM;
    err = err ? err : add_rows(rows, n, &q->result);
    err = err ? err
              : gw_map_set(&q->result, "next",
                           n == room ? gw_str(gw_id_text(&rows[n - 1].id, next)) : gw_nil());
    free(rows);
    return err;
}

void op_artifacts_list(struct node *n, struct op_call *call)
{
    ask(n, call, list_work);
}

/* ---- artifacts.info ---- */

static gw_err info_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct query *q = arg;
    struct artifact_info info;
    (void)io;
    GW_TRY(artifacts_find(q->store, gw_map_str(&q->call->args, "artifact", ""), &info, why));
    return artifacts_value(&info, &q->result);
}

void op_artifacts_info(struct node *n, struct op_call *call)
{
    ask(n, call, info_work);
}

/* ---- artifacts.rm ---- */

static gw_err rm_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct query *q = arg;
    struct artifact_info info;
    char id[GW_ID_TEXT];
    const char *text = gw_map_str(&q->call->args, "artifact", "");
    (void)io;
    GW_TRY(artifacts_find(q->store, text, &info, why));
    gw_id_text(&info.id, id);
    if (strlen(text) == CHUNK_HASH_TEXT - 1) { /* others may have the same content */
        gw_fail(why, GW_EARG, "what is to be removed is named by its id, not by its hash");
        gw_hint(why, "the newest with this content is %s", id);
        return GW_EARG;
    }
    GW_TRY(artifact_remove(q->store, &info.id, why));
    artifacts_changed(q->host);
    artifacts_tell(q->host, ARTIFACT_REMOVED, &info, NULL);
    GW_TRY(artifacts_value(&info, &q->result));
    return gw_map_set(&q->result, "removed", gw_bool(true));
}

void op_artifacts_rm(struct node *n, struct op_call *call)
{
    ask(n, call, rm_work);
}

/* ---- artifacts.stats ---- */

static gw_err stats_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct query *q = arg;
    struct chunk_stats s;
    (void)io, (void)why;
    chunk_store_stats(q->store, &s);
    GW_TRY(gw_map_set(&q->result, "artifacts", gw_uint(s.artifacts)));
    GW_TRY(gw_map_set(&q->result, "bytes", gw_uint(s.artifact_bytes)));
    GW_TRY(gw_map_set(&q->result, "uploads", gw_uint(s.uploads)));
    GW_TRY(gw_map_set(&q->result, "chunks", gw_uint(s.chunks)));
    GW_TRY(gw_map_set(&q->result, "stored_bytes", gw_uint(s.used_bytes)));
    GW_TRY(gw_map_set(&q->result, "quota", gw_uint(s.quota_bytes)));
    GW_TRY(gw_map_set(&q->result, "packs", gw_uint(s.packs)));
    return gw_map_set(&q->result, "pack_bytes", gw_uint(s.pack_bytes));
}

void op_artifacts_stats(struct node *n, struct op_call *call)
{
    ask(n, call, stats_work);
}

/* ---- artifacts.verify ---- */

struct verify {
    struct op_call *call;
    struct host *host;
    struct chunk_store *store;
    struct bulk_job *job;
    gw_id artifact; /* nil: all */
    struct chunk_verified sum;
    /* of the thread */
    struct bulk_io *io;
    uint64_t chunks, bytes; /* so far */
    int64_t told_ms;
    unsigned events;
    const struct chunk_damage *damage; /* that is told now */
};

static gw_err damage_value(const struct chunk_damage *d, gw_value *ret)
{
    char hash[CHUNK_HASH_TEXT], id[GW_ID_TEXT];
    gw_value list = {.kind = GW_LIST};
    for (size_t i = 0; i < d->artifact_count; i++) {
        GW_TRY(gw_list_add(&list, gw_str(gw_id_text(&d->artifacts[i], id))));
    }
    GW_TRY(gw_map_set(ret, "artifacts", list));
    GW_TRY(gw_map_set(ret, "chunk", gw_str(chunk_hash_text(&d->chunk.hash, hash))));
    GW_TRY(gw_map_set(ret, "bytes", gw_uint(d->chunk.len)));
    return gw_map_set(ret, "what", gw_str(d->what));
}

/* On the loop, while the thread waits. */
static void tell_damage(void *arg)
{
    struct verify *v = arg;
    GW_AUTO(gw_value_free) gw_value item = gw_nil();
    GW_AUTO(buf_free) struct buf text = {0};
    char hash[CHUNK_HASH_TEXT], id[GW_ID_TEXT];
    if (damage_value(v->damage, &item) == GW_OK) {
        (void)v->call->item(v->call, &item); /* a caller that is gone calls the job off */
    }
    for (size_t i = 0; i < v->damage->artifact_count && i < 3; i++) {
        buf_addf(&text, "%s%s", i ? ", " : "", gw_id_text(&v->damage->artifacts[i], id));
    }
    buf_addf(&text, ": chunk %s: %s", chunk_hash_text(&v->damage->chunk.hash, hash),
             v->damage->what);
    buf_add(&text, "", 1);
    if (buf_ok(&text) && v->events < DAMAGE_EVENTS) {
        v->events++;
        node_tell_artifact(v->host->node, ARTIFACT_DAMAGED, NULL, (const char *)text.data);
    }
}

static void tell_progress(void *arg)
{
    struct verify *v = arg;
    struct node_artifacts all;
    GW_AUTO(gw_value_free) gw_value item = gw_nil();
    artifacts_sample(v->host, &all);
    if (gw_map_set(&item, "chunks", gw_uint(v->chunks)) == GW_OK &&
        gw_map_set(&item, "bytes", gw_uint(v->bytes)) == GW_OK &&
        (!gw_id_is_nil(&v->artifact) ||
         gw_map_set(&item, "bytes_total", gw_uint(all.stored_bytes)) == GW_OK)) {
        (void)v->call->item(v->call, &item);
    }
}

static void on_damage(void *arg, const struct chunk_damage *d)
{
    struct verify *v = arg;
    v->damage = d;
    gw_err err = bulk_on_loop(v->host->bulk, tell_damage, v);
    (void)err; /* a host that stops has called the job off */
}

static bool on_progress(void *arg, uint64_t chunks, uint64_t bytes)
{
    struct verify *v = arg;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    v->chunks = chunks;
    v->bytes = bytes;
    if (now_ms - v->told_ms >= PROGRESS_MS) {
        v->told_ms = now_ms;
        gw_err err = bulk_on_loop(v->host->bulk, tell_progress, v);
        (void)err;
    }
    return v->io->wait(v->io->ctx, false, false, 0) == GW_ETIMEOUT;
}

static gw_err verify_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct verify *v = arg;
    struct artifact_info info;
    const char *text = gw_map_str(&v->call->args, "artifact", NULL);
    v->io = io;
    if (text) {
        GW_TRY(artifacts_find(v->store, text, &info, why));
        v->artifact = info.id;
    }
    struct chunk_verify what = {
        .artifact = v->artifact, .on_damage = on_damage, .on_progress = on_progress, .arg = v};
    return chunk_store_verify(v->store, &what, &v->sum, why);
}

static gw_err verified_value(const struct verify *v, gw_value *ret)
{
    GW_TRY(gw_map_set(ret, "done", gw_bool(true)));
    GW_TRY(gw_map_set(ret, "chunks", gw_uint(v->sum.chunks)));
    GW_TRY(gw_map_set(ret, "bytes", gw_uint(v->sum.bytes)));
    return gw_map_set(ret, "damaged", gw_uint(v->sum.damaged));
}

static void verified(void *arg, gw_err err, const struct gw_error *why)
{
    struct verify *v = arg;
    struct gw_error memory;
    GW_AUTO(gw_value_free) gw_value item = gw_nil();
    gw_value nothing = gw_nil();
    if (err == GW_OK && (err = verified_value(v, &item)) != GW_OK) {
        gw_fail(&memory, err, "out of memory for an answer");
        why = &memory;
    }
    v->call->on_gone = NULL;
    if (err == GW_OK) {
        (void)v->call->item(v->call, &item);
        op_ok(v->call, &nothing);
    } else {
        op_fail(v->call, why);
    }
    free(v);
}

static void verify_gone(void *arg)
{
    const struct verify *v = arg;
    bulk_cancel(v->job);
}

void op_artifacts_verify(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    if (artifacts_refuse(h, call)) {
        return;
    }
    struct verify *v = xcalloc(1, sizeof *v);
    v->call = call;
    v->host = h;
    v->store = h->chunks;
    call->on_gone = verify_gone;
    call->gone_arg = v;
    v->job = bulk_run(h->bulk, verify_work, verified, v);
}
