/* The steps of a fetch. See fetch.h. */
#include "host/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/artifacts.h"
#include "host/fetch_inner.h"
#include "protocol/base/log.h"

#define ROUNDS 3 /* chunks are got again when some went away or were damaged before the end */

gw_err fetch_name_parse(const char *text, struct fetch_name *ret, struct gw_error *why)
{
    char what[CHUNK_HASH_TEXT];
    struct fetch_name out = {.by_hash = true};
    const char *at = strchr(text, '@');
    size_t n = at ? (size_t)(at - text) : strlen(text);
    bool good = span_text((struct span){(const uint8_t *)text, n}, what, sizeof what);
    if (good && n == CHUNK_HASH_TEXT - 1) {
        good = chunk_hash_parse(what, &out.hash) == GW_OK;
    } else {
        out.by_hash = false;
        good = good && gw_id_parse(what, &out.id) == GW_OK;
    }
    if (good && at) {
        good = at[1] && span_text((struct span){(const uint8_t *)at + 1, strlen(at + 1)}, out.host,
                                  sizeof out.host);
    }
    if (!good) {
        gw_fail(why, GW_EARG, "\"%.100s\" names no artifact", text);
        gw_hint(why, "give the SHA-256 of its content (64 hex digits) or its id, and perhaps "
                     "@HOST behind it");
        return GW_EARG;
    }
    *ret = out;
    return GW_OK;
}

/* ---- the end ---- */

static void drop(struct fetch *f)
{
    if (f->step != STEP_OVER || f->open > 0) {
        return;
    }
    LIST_REMOVE(f, link);
    f->host->fetch_count--;
    fetch_plan_free(f->work.plan);
    pthread_mutex_destroy(&f->work.lock);
    fetch_recipe_free(&f->recipe);
    free(f->candidates);
    free(f);
}

static void cancel_jobs(struct fetch *f)
{
    if (f->job) {
        bulk_cancel(f->job);
    }
    for (size_t i = 0; i < f->candidate_count; i++) {
        if (f->candidates[i].job) {
            bulk_cancel(f->candidates[i].job);
        }
    }
}

static void log_end(const struct fetch *f, gw_err err, const struct gw_error *why)
{
    char text[CHUNK_HASH_TEXT];
    uint64_t chunks = 0, bytes = 0;
    for (size_t i = 0; i < f->candidate_count; i++) {
        chunks += f->candidates[i].chunks;
        bytes += f->candidates[i].bytes;
    }
    if (chunks > 0 || err != GW_OK) {
        log_info("fetch.end", "hash=%s chunks=%llu bytes=%llu code=%s %s",
                 f->has_hash ? chunk_hash_text(&f->hash, text) : "-", (unsigned long long)chunks,
                 (unsigned long long)bytes, gw_err_name(err), err ? why->text : "");
    }
}

static void over(struct fetch *f, gw_err err, const struct gw_error *why)
{
    struct fetch_from *from = xcalloc(f->candidate_count + 1, sizeof *from);
    struct fetch_result r = {.info = f->info, .was_here = f->was_here, .sources = from};
    if (f->step == STEP_OVER) {
        free(from);
        return;
    }
    for (size_t i = 0; i < f->candidate_count; i++) {
        const struct candidate *c = &f->candidates[i];
        if (c->chunks > 0 || (f->want.find && c->whole)) {
            from[r.source_count++] = (struct fetch_from){c->id, c->name, c->chunks, c->bytes};
            r.chunks += c->chunks;
            r.bytes += c->bytes;
        }
    }
    if (f->only_chunks && f->work.plan && f->open == 0) {
        r.missing = fetch_plan_left(f->work.plan);
    }
    log_end(f, err, why);
    f->step = STEP_OVER;
    cancel_jobs(f);
    f->done(f->arg, err, err == GW_OK ? &r : NULL, err == GW_OK ? NULL : why);
    free(from);
}

static void over_now(struct fetch *f, gw_err err, const struct gw_error *why)
{
    over(f, err, why);
    drop(f);
}

/* Something has come back from a thread or a host: true when that is all that is left to do. */
static bool came_back(struct fetch *f)
{
    f->open--;
    if (f->step == STEP_OVER) {
        drop(f);
        return true;
    }
    if (!f->cancelled) {
        return false;
    }
    struct gw_error why;
    gw_fail(&why, f->host->stopping ? GW_ESTOPPING : GW_ECANCELLED, "the fetch was called off");
    over_now(f, why.code, &why);
    return true;
}

static void run(struct fetch *f, bulk_work work, bulk_done done)
{
    f->open++;
    f->job = bulk_run(f->host->bulk, work, done, f);
}

/* ---- adopt ---- */

static void step_recipe(struct fetch *f);
static void step_chunks(struct fetch *f);

/* What is missing here of the recipe, as a plan. On a thread, alone. */
static gw_err make_plan(struct fetch *f, const struct chunk_ref *chunks, size_t n,
                        struct gw_error *why)
{
    bool *missing = calloc(n + 1, sizeof *missing);
    struct fetch_plan *plan = NULL;
    if (!missing) {
        return gw_fail(why, GW_ENOMEM, "out of memory for a list of chunks");
    }
    gw_err err = chunk_store_missing(f->work.store, chunks, n, missing, why);
    if (err == GW_OK) {
        err = fetch_plan_new(chunks, missing, n, &plan);
        if (err != GW_OK) {
            gw_fail(why, err, "out of memory for a list of chunks");
        }
    }
    if (err == GW_OK) {
        fetch_plan_free(f->work.plan);
        f->work.plan = plan;
    }
    free(missing);
    return err;
}

static gw_err adopt_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct fetch *f = arg;
    (void)io;
    int64_t left_ms = 0;
    if (f->recipe.expires_ms > 0) {
        left_ms = f->recipe.expires_ms - f->host->env.wall_ms(f->host);
        if (left_ms <= 0) {
            return gw_fail(why, GW_ENOT_FOUND, "the artifact has expired");
        }
    }
    bool shorter = left_ms > 0 && left_ms < LIMIT_FETCH_COPY_MS;
    struct artifact_meta meta = {.owner = f->want.owner,
                                 .name = f->recipe.name,
                                 .type = f->recipe.type,
                                 .ttl_ms = shorter ? left_ms : LIMIT_FETCH_COPY_MS};
    gw_err err = artifact_adopt(f->work.store, &meta, f->recipe.chunks, f->recipe.count, &f->hash,
                                &f->info, why);
    artifacts_changed(f->host);
    if (err == GW_ENOT_FOUND || err == GW_ECORRUPT) { /* is it a chunk, or the whole? */
        struct gw_error first = *why;
        GW_TRY(make_plan(f, f->recipe.chunks, f->recipe.count, why));
        *why = first;
    }
    return err;
}

/* Sources may be asked once more, but for those that lied. */
static void unspend(struct fetch *f)
{
    for (size_t i = 0; i < f->candidate_count; i++) {
        f->candidates[i].spent = f->candidates[i].source.bad;
    }
}

static void adopted(void *arg, gw_err err, const struct gw_error *why)
{
    struct fetch *f = arg;
    bool again = (err == GW_ENOT_FOUND || err == GW_ECORRUPT) && ++f->rounds < ROUNDS;
    f->job = NULL;
    if (came_back(f)) {
        return;
    }
    if (!again) {
        over_now(f, err, why);
        return;
    }
    unspend(f);
    if (fetch_plan_left(f->work.plan) > 0) {
        step_chunks(f);
        return;
    }
    log_warn("fetch.recipe", "host=%s its list of chunks gives something else; asking another",
             f->recipe_of->name);
    f->recipe_of->no_recipe = true;
    f->recipe_of->whole = false;
    f->of_bytes = 0;
    f->why = *why;
    step_recipe(f);
}

/* ---- chunks ---- */

static gw_err source_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct candidate *c = arg;
    return fetch_ask_chunks(io, &c->source, why);
}

static bool work_failed(struct fetch *f)
{
    pthread_mutex_lock(&f->work.lock);
    bool failed = f->work.err != GW_OK;
    pthread_mutex_unlock(&f->work.lock);
    return failed;
}

static size_t left(struct fetch *f)
{
    pthread_mutex_lock(&f->work.lock);
    size_t n = f->work.plan ? fetch_plan_left(f->work.plan) : 0;
    pthread_mutex_unlock(&f->work.lock);
    return n;
}

static void not_all(struct fetch *f)
{
    struct chunk_ref chunk;
    char text[CHUNK_HASH_TEXT];
    struct gw_error why = f->why;
    if (f->only_chunks) {
        over_now(f, GW_OK, NULL); /* tells how many are missing */
        return;
    }
    if (why.code == GW_OK && fetch_plan_orphan(f->work.plan, &chunk)) {
        gw_fail(&why, GW_EUNREACHABLE, "no host that can be reached has chunk %s",
                chunk_hash_text(&chunk.hash, text));
    } else {
        gw_prefix(&why, "the last of its sources failed");
    }
    gw_hint(&why, "what came is kept: asked again, only the rest is fetched");
    over_now(f, why.code, &why);
}

static void source_done(void *arg, gw_err err, const struct gw_error *why);

/* Sources until enough of them run. */
static unsigned launch(struct fetch *f)
{
    unsigned running = 0;
    struct candidate *c;
    for (size_t i = 0; i < f->candidate_count; i++) {
        running += f->candidates[i].job != NULL;
    }
    while (running < LIMIT_FETCH_SOURCES && (c = fetch_hosts_spare(f))) {
        c->spent = true;
        c->source = (struct fetch_source){.work = &f->work, .number = -1, .partial = !c->whole};
        f->open++;
        running++;
        c->job = bulk_call(f->host->bulk, &c->id, c->url, "chunks", source_work, source_done, c);
    }
    return running;
}

static void source_ended(struct fetch *f, struct candidate *c, gw_err err,
                         const struct gw_error *why)
{
    c->job = NULL;
    c->chunks += c->source.chunks;
    c->bytes += c->source.bytes;
    fetch_hosts_count(f, c, c->source.chunks, c->source.bytes);
    if (err == GW_OK || f->cancelled || f->step == STEP_OVER || left(f) == 0) {
        return;
    }
    log_warn("fetch.source", "host=%s code=%s %s; its chunks are asked of others", c->name,
             gw_err_name(err), why->text);
    f->why = *why;
    gw_prefix(&f->why, "host \"%s\"", c->name);
    bool lost = err == GW_EUNREACHABLE || err == GW_ETIMEOUT;
    c->spent = !(lost && c->source.chunks > 0); /* it may be back */
}

static void source_done(void *arg, gw_err err, const struct gw_error *why)
{
    struct candidate *c = arg;
    struct fetch *f = c->fetch;
    source_ended(f, c, err, why);
    if (came_back(f)) {
        return;
    }
    if (work_failed(f)) {
        struct gw_error ours = f->work.why;
        over_now(f, ours.code, &ours);
    } else if (left(f) == 0) {
        cancel_jobs(f);
        if (f->open == 0 && f->only_chunks) {
            over_now(f, GW_OK, NULL);
        } else if (f->open == 0) {
            f->step = STEP_ADOPT;
            run(f, adopt_work, adopted);
        }
    } else if (launch(f) == 0) {
        not_all(f);
    }
}

static void step_chunks(struct fetch *f)
{
    f->step = STEP_CHUNKS;
    if (f->of_bytes == 0) {
        f->of_bytes = fetch_plan_left_bytes(f->work.plan);
    }
    f->why = (struct gw_error){0};
    if (launch(f) == 0) {
        not_all(f);
    }
}

/* ---- the recipe ---- */

static gw_err recipe_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct fetch *f = arg;
    struct chunk_stats stats;
    chunk_store_stats(f->work.store, &stats);
    fetch_recipe_free(&f->recipe);
    GW_TRY(fetch_ask_recipe(io, &f->hash, stats.quota_bytes ? stats.quota_bytes : UINT64_MAX,
                            &f->recipe, why));
    return make_plan(f, f->recipe.chunks, f->recipe.count, why);
}

static bool wants_parts(const struct fetch *f)
{
    unsigned wholes = 0;
    for (size_t i = 0; i < f->candidate_count; i++) {
        wholes += f->candidates[i].whole;
    }
    return wholes < LIMIT_FETCH_SOURCES && fetch_plan_left(f->work.plan) > 1;
}

static void recipe_done(void *arg, gw_err err, const struct gw_error *why)
{
    struct fetch *f = arg;
    f->job = NULL;
    if (came_back(f)) {
        return;
    }
    if (err == GW_EQUOTA || err == GW_EDISK_FULL || err == GW_ENOMEM) {
        over_now(f, err, why);
    } else if (err != GW_OK) {
        log_warn("fetch.recipe", "host=%s code=%s %s; asking another", f->recipe_of->name,
                 gw_err_name(err), why->text);
        f->recipe_of->no_recipe = true;
        f->why = *why;
        gw_prefix(&f->why, "host \"%s\"", f->recipe_of->name);
        step_recipe(f);
    } else if (fetch_plan_left(f->work.plan) == 0) {
        f->step = STEP_ADOPT;
        run(f, adopt_work, adopted);
    } else {
        f->step = STEP_SAMPLE;
        if (!wants_parts(f) || !fetch_hosts_ask(f, true)) {
            step_chunks(f);
        }
    }
}

static void step_recipe(struct fetch *f)
{
    f->step = STEP_RECIPE;
    f->recipe_of = NULL;
    for (size_t i = 0; i < f->candidate_count && !f->recipe_of; i++) {
        if (f->candidates[i].whole && !f->candidates[i].no_recipe) {
            f->recipe_of = &f->candidates[i];
        }
    }
    if (f->recipe_of) {
        f->open++;
        f->job = bulk_call(f->host->bulk, &f->recipe_of->id, f->recipe_of->url, "chunks",
                           recipe_work, recipe_done, f);
        return;
    }
    struct gw_error why = f->why;
    if (why.code == GW_OK) {
        gw_fail(&why, GW_ENOT_FOUND, "no host that can be reached has this artifact");
        gw_hint(&why, "%zu hosts were asked; `godwit hosts` shows which can be reached",
                f->candidate_count);
    }
    over_now(f, why.code, &why);
}

static bool somebody_has(const struct fetch *f)
{
    for (size_t i = 0; i < f->candidate_count; i++) {
        if (f->candidates[i].whole) {
            return true;
        }
    }
    return false;
}

void fetch_answered(struct fetch *f)
{
    if (came_back(f) || f->open > 0) {
        return;
    }
    if (f->step == STEP_ASK && f->want.find && somebody_has(f)) {
        over_now(f, GW_OK, NULL);
    } else if (f->step == STEP_ASK) {
        step_recipe(f);
    } else {
        step_chunks(f);
    }
}

/* ---- the begin ---- */

static gw_err look_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct fetch *f = arg;
    (void)io;
    if (f->only_chunks) {
        return make_plan(f, f->recipe.chunks, f->recipe.count, why);
    }
    if (f->want.name.by_hash) {
        return artifact_find(f->work.store, &f->hash, &f->info, why);
    }
    gw_err err = artifact_info(f->work.store, &f->want.name.id, &f->info, why);
    return err == GW_OK && f->info.upload ? GW_ENOT_FOUND : err;
}

static void looked(void *arg, gw_err err, const struct gw_error *why)
{
    struct fetch *f = arg;
    f->job = NULL;
    if (came_back(f)) {
        return;
    }
    if (f->only_chunks && err == GW_OK) {
        step_chunks(f);
    } else if (err != GW_ENOT_FOUND || f->only_chunks) {
        f->was_here = err == GW_OK;
        over_now(f, err, why);
    } else {
        struct gw_error none;
        gw_err found = fetch_hosts_find(f, f->want.name.host, false, &none);
        f->step = STEP_ASK;
        if (found != GW_OK || !fetch_hosts_ask(f, false)) {
            step_recipe(f);
        }
    }
}

static gw_err busy_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    (void)io, (void)arg;
    return gw_fail(why, GW_EBUSY, "%d artifacts are being fetched already", LIMIT_FETCH_RUNNING);
}

static struct fetch *begin(struct host *h, fetch_done done, void *arg)
{
    struct fetch *f = xcalloc(1, sizeof *f);
    f->host = h;
    f->done = done;
    f->arg = arg;
    f->work.store = h->chunks;
    pthread_mutex_init(&f->work.lock, NULL);
    LIST_INSERT_HEAD(&h->fetches, f, link);
    h->fetch_count++;
    return f;
}

struct fetch *fetch_start(struct host *h, const struct fetch_want *want, fetch_done done, void *arg)
{
    struct fetch *f = begin(h, done, arg);
    f->want = *want;
    f->hash = want->name.hash;
    f->has_hash = want->name.by_hash;
    run(f, h->fetch_count > LIMIT_FETCH_RUNNING ? busy_work : look_work, looked);
    return f;
}

static gw_err failed_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    const struct fetch *f = arg;
    (void)io;
    *why = f->why;
    return why->code;
}

struct fetch *fetch_chunks(struct host *h, const struct chunk_ref *chunks, size_t n,
                           const char *from, fetch_done done, void *arg)
{
    struct fetch *f = begin(h, done, arg);
    f->only_chunks = true;
    f->recipe.chunks = xcalloc(n + 1, sizeof *chunks);
    f->recipe.count = n;
    memcpy(f->recipe.chunks, chunks, n * sizeof *chunks);
    gw_err err = fetch_hosts_find(f, from, true, &f->why);
    if (f->candidate_count > 0) {
        f->candidates[0].part = 1;
    } else if (err == GW_OK) {
        err = gw_fail(&f->why, GW_EUNREACHABLE, "host \"%s\" cannot be reached", from);
    }
    run(f,
        err != GW_OK                           ? failed_work
        : h->fetch_count > LIMIT_FETCH_RUNNING ? busy_work
                                               : look_work,
        looked);
    return f;
}

void fetch_cancel(struct fetch *f)
{
    f->cancelled = true;
    cancel_jobs(f); /* an answer of a host that is awaited comes soon anyway */
}

void fetch_progress(struct fetch *f, uint64_t *ret_bytes, uint64_t *ret_of)
{
    uint64_t rest = 0;
    if (f->step == STEP_CHUNKS) {
        pthread_mutex_lock(&f->work.lock);
        rest = fetch_plan_left_bytes(f->work.plan);
        pthread_mutex_unlock(&f->work.lock);
    }
    *ret_of = f->of_bytes;
    *ret_bytes = f->of_bytes > rest ? f->of_bytes - rest : 0;
}

void fetch_stop(struct host *h)
{
    struct fetch *f, *next;
    for (f = LIST_FIRST(&h->fetches); f; f = next) {
        next = LIST_NEXT(f, link);
        fetch_cancel(f);
    }
}

void fetch_close(struct host *h)
{
    gw_assert(LIST_EMPTY(&h->fetches)); /* threads and hosts that they waited for have ended */
    free(h->fetched);
}
