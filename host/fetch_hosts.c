/* Which hosts have an artifact, or a part of it. */
#include <stdlib.h>
#include <string.h>

#include "host/fetch_inner.h"
#include "protocol/base/log.h"
#include "protocol/text.h"
#include "protocol/value.h"

#define HAVE_MS 2000 /* who does not answer by then is not a source */

/* ---- candidates ---- */

struct finding {
    struct fetch *fetch;
    struct host_id first; /* stands there already */
    bool has_first;
};

static void add(struct fetch *f, const struct node_host *host)
{
    struct candidate *c = &f->candidates[f->candidate_count++];
    *c = (struct candidate){.fetch = f, .id = host->id, .source = {.number = -1}};
    (void)span_text((struct span){(const uint8_t *)host->name, strlen(host->name)}, c->name,
                    sizeof c->name);
    (void)span_text((struct span){(const uint8_t *)host->url, strlen(host->url)}, c->url,
                    sizeof c->url);
}

static bool consider(void *arg, const struct node_host *host)
{
    const struct finding *x = arg;
    bool again = x->has_first && host_id_equal(&host->id, &x->first);
    if (host->up && !host->self && !again) {
        add(x->fetch, host);
    }
    return x->fetch->candidate_count < LIMIT_FETCH_ASKED;
}

gw_err fetch_hosts_find(struct fetch *f, const char *named, bool only, struct gw_error *why)
{
    struct node_host host;
    struct finding x = {.fetch = f};
    f->candidates = xcalloc(LIMIT_FETCH_ASKED, sizeof *f->candidates);
    if (named[0] && node_pick_host(f->host->node, named, &host, why) == GW_OK) {
        x.first = host.id;
        x.has_first = true;
        if (!host.self && host.up) {
            add(f, &host);
        } else if (only) {
            return gw_fail(why, GW_EARG, "host \"%s\" is this host", host.name);
        }
    } else if (named[0] && only) {
        return why->code;
    }
    if (!only) { /* a host that is named and gone is no reason not to ask the others */
        node_each_host(f->host->node, consider, &x);
    }
    return GW_OK;
}

struct candidate *fetch_hosts_spare(struct fetch *f)
{
    struct candidate *best = NULL;
    for (size_t i = 0; i < f->candidate_count; i++) {
        struct candidate *c = &f->candidates[i];
        if (c->job || c->spent || (!c->whole && c->part == 0)) {
            continue;
        }
        if (!best || (c->whole && !best->whole) ||
            (c->whole == best->whole && c->part > best->part)) {
            best = c;
        }
    }
    return best;
}

/* ---- asking ---- */

struct question {
    struct fetch *fetch;
    struct candidate *of;
    bool part;
};

static void copy_text(const gw_value *value, const char *key, char *ret, size_t cap)
{
    const char *text = gw_map_str(value, key, "");
    (void)span_text((struct span){(const uint8_t *)text, strlen(text)}, ret, cap);
    text_clean(ret);
}

static void take_info(struct fetch *f, const gw_value *value)
{
    const gw_value *created = gw_map_get(value, "created");
    const gw_value *expires = gw_map_get(value, "expires");
    f->info = (struct artifact_info){
        .hash = f->hash,
        .size = (uint64_t)gw_map_int(value, "size", 0),
        .created_ms = created && created->kind == GW_TIME ? created->time.ms : 0,
        .expires_ms = expires && expires->kind == GW_TIME ? expires->time.ms : 0};
    copy_text(value, "name", f->info.name, sizeof f->info.name);
    copy_text(value, "type", f->info.type, sizeof f->info.type);
}

static void take_answer(struct fetch *f, struct candidate *c, bool part, const gw_value *value)
{
    struct chunk_hash hash;
    if (part) {
        int64_t n = gw_map_int(value, "chunks", 0);
        c->part = n > 0 ? (unsigned)(n < LIMIT_FETCH_SAMPLE ? n : LIMIT_FETCH_SAMPLE) : 0;
        return;
    }
    if (!gw_map_bool(value, "whole", false) ||
        chunk_hash_parse(gw_map_str(value, "hash", ""), &hash) != GW_OK) {
        return;
    }
    if (!f->has_hash) { /* it was asked for by its id */
        f->hash = hash;
        f->has_hash = true;
    }
    c->whole = memcmp(&hash, &f->hash, sizeof hash) == 0;
    if (c->whole && f->want.find) {
        take_info(f, value);
    }
}

static void answered(void *arg, gw_err err, gw_value *value, const struct gw_error *why)
{
    struct question *q = arg;
    struct fetch *f = q->fetch;
    if (err == GW_OK) {
        take_answer(f, q->of, q->part, value);
    } else {
        q->of->silent = true;
        log_debug("fetch.ask", "host=%s code=%s %s", q->of->name, gw_err_name(err), why->text);
    }
    free(q);
    fetch_answered(f);
}

static gw_err sample_value(struct fetch *f, gw_value *ret)
{
    struct chunk_ref *refs = xcalloc(LIMIT_FETCH_SAMPLE, sizeof *refs);
    struct buf out = {0};
    size_t at = 0;
    /* The first that are missing: of what is cut off or damaged in the middle as good as any. */
    size_t n = fetch_plan_list(f->work.plan, PLAN_SOURCES - 1, &at, refs, LIMIT_FETCH_SAMPLE);
    for (size_t i = 0; i < n; i++) {
        buf_add(&out, refs[i].hash.b, CHUNK_HASH_BYTES);
        buf_add_u32(&out, refs[i].len);
    }
    gw_err err = buf_ok(&out) ? gw_value_set_bytes(ret, out.data, out.len) : GW_ENOMEM;
    buf_free(&out);
    free(refs);
    return err;
}

static gw_err args_of(struct fetch *f, bool part, gw_value *ret)
{
    char hash[CHUNK_HASH_TEXT], id[GW_ID_TEXT];
    if (part) {
        gw_value sample = gw_nil();
        GW_TRY(sample_value(f, &sample));
        return gw_map_set(ret, "chunks", sample);
    }
    bool by_id = !f->want.name.by_hash;
    return gw_map_set(
        ret, "artifact",
        gw_str(by_id ? gw_id_text(&f->want.name.id, id) : chunk_hash_text(&f->hash, hash)));
}

static void ask(struct fetch *f, struct candidate *c, bool part)
{
    struct question *q = xcalloc(1, sizeof *q);
    gw_value args = gw_nil();
    *q = (struct question){f, c, part};
    if (args_of(f, part, &args) != GW_OK) {
        gw_value_free(&args);
        free(q);
        log_warn("memory", "host \"%s\" is not asked for chunks", c->name);
        return;
    }
    f->open++;
    node_ask(f->host->node, &c->id, "artifacts.have", args, HAVE_MS, answered, q);
}

bool fetch_hosts_ask(struct fetch *f, bool part)
{
    for (size_t i = 0; i < f->candidate_count; i++) {
        struct candidate *c = &f->candidates[i];
        if (part ? !c->whole && !c->spent && !c->silent : !c->asked) {
            c->asked = true;
            ask(f, c, part);
        }
    }
    return f->open > 0;
}

/* ---- counters of the host, for metrics ---- */

void fetch_hosts_count(struct fetch *f, const struct candidate *c, uint64_t chunks, uint64_t bytes)
{
    struct host *h = f->host;
    struct node_fetched *row = NULL;
    if (chunks == 0) {
        return;
    }
    for (size_t i = 0; i < h->fetched_count && !row; i++) {
        if (text_same(h->fetched[i].host, c->name)) {
            row = &h->fetched[i];
        }
    }
    if (!row && h->fetched_count < LIMIT_MEMBERS) {
        struct node_fetched *more = realloc(h->fetched, (h->fetched_count + 1) * sizeof *more);
        if (!more) {
            return; /* a count is missing in the metrics, no more */
        }
        h->fetched = more;
        row = &more[h->fetched_count++];
        *row = (struct node_fetched){.chunks = 0};
        memcpy(row->host, c->name, sizeof row->host);
    }
    if (row) {
        row->chunks += chunks;
        row->bytes += bytes;
    }
}
