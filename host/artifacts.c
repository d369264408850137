/* Life of the chunk store in the host: open, sweep, counts, events. See artifacts.h.
 *
 * The sweep is a local job of the data plane: it collects in small parts, with a pause behind each,
 * until nothing is left to do; the next one comes when the timer fires. */
#include "host/artifacts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "host/host.h"
#include "protocol/base/log.h"

#define SWEEP_SECONDS 120
#define PAUSE_MS      20 /* between parts of a sweep: others have the store meanwhile */

struct artifacts {
    gw_err err; /* why there is no store; constant after open */
    struct gw_error why;
    struct event *timer;
    struct bulk_job *sweep; /* that runs */
    pthread_mutex_t lock;   /* of stats */
    struct chunk_stats stats;
    atomic_ullong received, sent;
};

/* ---- the sweep ---- */

static gw_err sweep(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct host *h = arg;
    bool more = true;
    while (more) {
        GW_TRY(chunk_store_collect(h->chunks, &more, why));
        gw_err err = io->wait(io->ctx, false, false, more ? PAUSE_MS : 0);
        if (err != GW_ETIMEOUT) {
            return err;
        }
    }
    artifacts_changed(h);
    return GW_OK;
}

static void swept(void *arg, gw_err err, const struct gw_error *why)
{
    const struct host *h = arg;
    h->artifacts->sweep = NULL;
    if (err != GW_OK && err != GW_ECANCELLED && err != GW_ESTOPPING) {
        log_warn("artifacts.sweep", "code=%s error=\"%s\"", gw_err_name(err), why->text);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct host *h = arg;
    (void)fd, (void)what;
    if (!h->artifacts->sweep) {
        h->artifacts->sweep = bulk_run(h->bulk, sweep, swept, h);
    }
}

/* ---- life ---- */

/* What stands for a quota of 0: half of the file system, so that the host's own store has room. */
static uint64_t half_of_disk(const char *dir)
{
    struct statvfs fs;
    return statvfs(dir, &fs) == 0 ? (uint64_t)fs.f_blocks * fs.f_frsize / 2 : 0;
}

static void open_store(struct host *h, struct artifacts *a)
{
    char dir[sizeof h->dir + 16];
    uint64_t quota = h->config->artifact_quota;
    snprintf(dir, sizeof dir, "%s/artifacts", h->dir);
    struct chunk_options options = {.artifact_max = h->config->artifact_max,
                                    .quota = quota ? quota : half_of_disk(h->dir)};
    a->err = chunk_store_open(dir, &options, &h->chunks, &a->why);
    if (a->err != GW_OK) {
        log_error("artifacts.open",
                  "code=%s error=\"%s\" the host runs without artifacts; put the folder \"%s\" "
                  "right or away, and start it again",
                  gw_err_name(a->err), a->why.text, dir);
    }
}

gw_err artifacts_open(struct host *h, struct gw_error *why)
{
    struct artifacts *a = xcalloc(1, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    h->artifacts = a;
    open_store(h, a);
    if (a->err == GW_OK) {
        artifacts_changed(h);
        a->timer = event_new(h->base, -1, EV_PERSIST, on_timer, h);
        if (!a->timer) {
            return gw_fail(why, GW_ENOMEM, "out of memory for artifacts");
        }
    }
    return GW_OK;
}

void artifacts_start(struct host *h)
{
    struct timeval tv = {.tv_sec = SWEEP_SECONDS};
    if (h->artifacts->timer) {
        if (event_add(h->artifacts->timer, &tv) != 0) {
            log_warn("artifacts.sweep", "no timer: what has expired stays until the next start");
        }
        on_timer(-1, 0, h);
    }
}

void artifacts_close(struct host *h)
{
    struct artifacts *a = h->artifacts;
    if (!a) {
        return;
    }
    if (a->timer) {
        event_free(a->timer);
    }
    chunk_store_close(h->chunks);
    h->chunks = NULL;
    pthread_mutex_destroy(&a->lock);
    free(a);
    h->artifacts = NULL;
}

bool artifacts_refuse(const struct host *h, struct op_call *call)
{
    struct chunk_store *s;
    struct gw_error why;
    if (artifacts_store(h, &s, &why) == GW_OK) {
        return false;
    }
    op_fail(call, &why);
    return true;
}

/* ---- counts ---- */

void artifacts_changed(const struct host *h)
{
    struct artifacts *a = h->artifacts;
    struct chunk_stats stats;
    if (!a) {
        return; /* a store alone, without the host around it */
    }
    chunk_store_stats(h->chunks, &stats); /* waits while others write rows: not on the loop */
    pthread_mutex_lock(&a->lock);
    a->stats = stats;
    pthread_mutex_unlock(&a->lock);
}

void artifacts_moved(const struct host *h, uint64_t received, uint64_t sent)
{
    atomic_fetch_add(&h->artifacts->received, received);
    atomic_fetch_add(&h->artifacts->sent, sent);
}

void artifacts_sample(const struct host *h, struct node_artifacts *ret)
{
    struct artifacts *a = h->artifacts;
    pthread_mutex_lock(&a->lock);
    struct chunk_stats s = a->stats;
    pthread_mutex_unlock(&a->lock);
    *ret = (struct node_artifacts){.broken = a->err != GW_OK,
                                   .artifacts = s.artifacts,
                                   .uploads = s.uploads,
                                   .bytes = s.artifact_bytes,
                                   .chunks = s.chunks,
                                   .stored_bytes = s.used_bytes,
                                   .quota_bytes = s.quota_bytes,
                                   .received_bytes = atomic_load(&a->received),
                                   .sent_bytes = atomic_load(&a->sent)};
}

/* ---- any thread ---- */

gw_err artifacts_store(const struct host *h, struct chunk_store **ret, struct gw_error *why)
{
    const struct artifacts *a = h->artifacts;
    if (a->err != GW_OK) {
        gw_fail(why, a->err, "this host runs without artifacts: %s", a->why.text);
        gw_hint(why, "the log of the host says what to do");
        return a->err;
    }
    *ret = h->chunks;
    return GW_OK;
}

gw_err artifacts_find(struct chunk_store *s, const char *text, struct artifact_info *ret,
                      struct gw_error *why)
{
    struct chunk_hash hash;
    gw_id id;
    if (chunk_hash_parse(text, &hash) == GW_OK) {
        return artifact_find(s, &hash, ret, why);
    }
    if (gw_id_parse(text, &id) != GW_OK) {
        gw_fail(why, GW_EARG, "\"%.100s\" names no artifact", text);
        gw_hint(why, "an artifact is named by its id, 26 characters, or by its hash, 64 digits");
        return GW_EARG;
    }
    struct artifact_info info;
    GW_TRY(artifact_info(s, &id, &info, why));
    if (info.upload) {
        return gw_fail(why, GW_ENOT_FOUND, "artifact %s is not uploaded whole yet", text);
    }
    *ret = info;
    return GW_OK;
}

gw_err artifacts_value(const struct artifact_info *info, gw_value *ret)
{
    char id[GW_ID_TEXT], hash[CHUNK_HASH_TEXT];
    bool owned = !gw_id_is_nil(&info->owner);
    GW_TRY(gw_map_set(ret, "artifact", gw_str(gw_id_text(&info->id, id))));
    GW_TRY(gw_map_set(ret, "name", gw_str(info->name)));
    GW_TRY(gw_map_set(ret, "type", gw_str(info->type)));
    GW_TRY(gw_map_set(ret, "size", gw_uint(info->size)));
    GW_TRY(gw_map_set(ret, "hash", gw_str(chunk_hash_text(&info->hash, hash))));
    GW_TRY(gw_map_set(ret, "owner", owned ? gw_str(gw_id_text(&info->owner, id)) : gw_nil()));
    GW_TRY(gw_map_set(ret, "created", gw_time_value((gw_time){info->created_ms})));
    return gw_map_set(ret, "expires",
                      info->expires_ms ? gw_time_value((gw_time){info->expires_ms}) : gw_nil());
}

/* ---- events ---- */

struct news {
    struct host *host;
    node_artifact_news what;
    const gw_id *owner;
    const char *text;
};

static void tell(void *arg)
{
    const struct news *x = arg;
    node_tell_artifact(x->host->node, x->what, x->owner, x->text);
}

void artifacts_tell(struct host *h, node_artifact_news what, const struct artifact_info *info,
                    const char *text)
{
    char id[GW_ID_TEXT], all[LIMIT_ERROR_TEXT_BYTES + LIMIT_ARTIFACT_NAME_BYTES + 64];
    struct news x = {.host = h,
                     .what = what,
                     .owner = gw_id_is_nil(&info->owner) ? NULL : &info->owner,
                     .text = all};
    snprintf(all, sizeof all, "%s%s%s%s%s", gw_id_text(&info->id, id), info->name[0] ? " " : "",
             info->name, text ? ": " : "", text ? text : "");
    gw_err err = bulk_on_loop(h->bulk, tell, &x);
    (void)err; /* a host that stops writes no events any more */
}
