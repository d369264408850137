/* Operations on artifacts that concern other hosts: who has one, get one, repair chunks. Those of
 * agents alone are in agent_artifact_ops.c. */
#include "host/fetch_ops.h"

#include <stdlib.h>
#include <string.h>

#include "host/artifacts.h"
#include "host/core/op_handlers.h"
#include "protocol/value.h"

#define PROGRESS_MS 200

/* ---- what calls are answered with ---- */

bool fetch_ops_of_agent(const struct op_call *call)
{
    const gw_value *who = gw_map_get(&call->context, "agent");
    return who && who->kind == GW_ID && call->role != ROLE_PEER;
}

void fetch_ops_answer(struct op_call *call, gw_err err, gw_value *value, const struct gw_error *why)
{
    struct gw_error none;
    gw_value nothing = gw_nil();
    if (err == GW_ENOMEM && !why) {
        gw_fail(&none, err, "out of memory for an answer");
        why = &none;
    }
    if (err != GW_OK) {
        gw_value_free(value);
        op_fail(call, why);
    } else if (call->op->streams && !fetch_ops_of_agent(call)) {
        (void)call->item(call, value); /* the caller may be gone: then nobody is to be told */
        gw_value_free(value);
        op_ok(call, &nothing);
    } else {
        op_ok(call, value);
    }
}

gw_err fetch_ops_info(const struct artifact_info *info, gw_value *ret)
{
    char hash[CHUNK_HASH_TEXT];
    GW_TRY(gw_map_set(ret, "hash", gw_str(chunk_hash_text(&info->hash, hash))));
    GW_TRY(gw_map_set(ret, "size", gw_uint(info->size)));
    GW_TRY(gw_map_set(ret, "name", gw_str(info->name)));
    GW_TRY(gw_map_set(ret, "type", gw_str(info->type)));
    if (info->created_ms) {
        GW_TRY(gw_map_set(ret, "created", gw_time_value((gw_time){info->created_ms})));
    }
    if (info->expires_ms) {
        GW_TRY(gw_map_set(ret, "expires", gw_time_value((gw_time){info->expires_ms})));
    }
    return GW_OK;
}

static gw_err sources_value(const struct fetch_result *r, gw_value *ret)
{
    *ret = (gw_value){.kind = GW_LIST};
    for (size_t i = 0; i < r->source_count; i++) {
        char id[HOST_ID_TEXT];
        gw_value one = gw_nil();
        const struct fetch_from *from = &r->sources[i];
        GW_TRY(gw_map_set(&one, "host", gw_str(from->name)));
        GW_TRY(gw_map_set(&one, "host_id", gw_str(host_id_text(&from->host, id))));
        GW_TRY(gw_map_set(&one, "chunks", gw_uint(from->chunks)));
        GW_TRY(gw_map_set(&one, "bytes", gw_uint(from->bytes)));
        GW_TRY(gw_list_add(ret, one));
    }
    return GW_OK;
}

gw_err fetch_ops_result(struct host *h, const struct fetch_result *r, gw_value *ret)
{
    char id[GW_ID_TEXT];
    gw_value sources = gw_nil();
    GW_TRY(gw_map_set(ret, "artifact", gw_str(gw_id_text(&r->info.id, id))));
    GW_TRY(fetch_ops_info(&r->info, ret));
    GW_TRY(gw_map_set(ret, "host", gw_str(h->config->name)));
    GW_TRY(gw_map_set(ret, "fetched", gw_uint(r->bytes)));
    GW_TRY(sources_value(r, &sources));
    return gw_map_set(ret, "sources", sources);
}

/* ---- artifacts.have ---- */

struct have {
    struct op_call *call;
    struct chunk_store *store;
    struct fetch_name name;
    bool whole;
    struct artifact_info info;
    struct chunk_ref *refs; /* owned; of a sample */
    size_t count, here;
};

static gw_err have_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct have *x = arg;
    bool missing[LIMIT_FETCH_SAMPLE];
    (void)io;
    if (x->refs) {
        GW_TRY(chunk_store_missing(x->store, x->refs, x->count, missing, why));
        for (size_t i = 0; i < x->count; i++) {
            x->here += !missing[i];
        }
        return GW_OK;
    }
    gw_err err = x->name.by_hash ? artifact_find(x->store, &x->name.hash, &x->info, why)
                                 : artifact_info(x->store, &x->name.id, &x->info, why);
    x->whole = err == GW_OK && !x->info.upload;
    return err == GW_ENOT_FOUND ? GW_OK : err;
}

static gw_err have_value(const struct have *x, gw_value *ret)
{
    if (x->refs) {
        return gw_map_set(ret, "chunks", gw_uint(x->here));
    }
    GW_TRY(gw_map_set(ret, "whole", gw_bool(x->whole)));
    return x->whole ? fetch_ops_info(&x->info, ret) : GW_OK;
}

static void have_done(void *arg, gw_err err, const struct gw_error *why)
{
    struct have *x = arg;
    gw_value value = gw_nil();
    if (err == GW_OK && (err = have_value(x, &value)) != GW_OK) {
        why = NULL;
    }
    fetch_ops_answer(x->call, err, &value, why);
    free(x->refs);
    free(x);
}

/* `refs` as on the wire: 36 bytes each. */
static gw_err read_sample(const gw_value *bytes, struct have *x, struct gw_error *why)
{
    struct buf packed = {0};
    x->refs = xcalloc(LIMIT_FETCH_SAMPLE, sizeof *x->refs);
    mp_bin(&packed, bytes->s.p, bytes->s.n);
    struct mp m = mp_over(buf_span(&packed));
    gw_err err = buf_ok(&packed) ? fetch_wire_read_refs(&m, x->refs, LIMIT_FETCH_SAMPLE, &x->count)
                                 : GW_ENOMEM;
    buf_free(&packed);
    return err == GW_OK ? GW_OK : gw_fail(why, err, "the chunks that are asked for are damaged");
}

void op_artifacts_have(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    const char *name = gw_map_str(&call->args, "artifact", NULL);
    const gw_value *chunks = gw_map_get(&call->args, "chunks");
    struct gw_error why;
    if (artifacts_refuse(h, call)) {
        return;
    }
    struct have *x = xcalloc(1, sizeof *x);
    x->call = call;
    x->store = h->chunks;
    gw_err err;
    if (chunks && chunks->kind == GW_BYTES) {
        err = read_sample(chunks, x, &why);
    } else {
        err = fetch_name_parse(name ? name : "", &x->name, &why);
    }
    if (err != GW_OK) {
        free(x->refs);
        free(x);
        op_fail(call, &why);
        return;
    }
    bulk_run(h->bulk, have_work, have_done, x);
}

/* ---- artifacts.fetch, artifacts.find ---- */

struct fetching {
    struct host *host;
    struct op_call *call;
    struct fetch *fetch;
    struct env_timer *timer; /* of progress; NULL: nobody is told */
};

static void fetched(void *arg, gw_err err, const struct fetch_result *r, const struct gw_error *why)
{
    struct fetching *x = arg;
    gw_value value = gw_nil();
    x->call->on_gone = NULL;
    if (err == GW_OK) {
        err = fetch_ops_result(x->host, r, &value);
        if (err == GW_OK && x->call->op->streams) {
            err = gw_map_set(&value, "done", gw_bool(true));
        }
        why = NULL;
    }
    if (x->timer) {
        x->host->env.timer_free(x->host, x->timer);
    }
    fetch_ops_answer(x->call, err, &value, why);
    free(x);
}

static void tell_progress(void *arg)
{
    struct fetching *x = arg;
    uint64_t bytes, of;
    gw_value item = gw_nil();
    fetch_progress(x->fetch, &bytes, &of);
    if (of > 0 && gw_map_set(&item, "bytes", gw_uint(bytes)) == GW_OK &&
        gw_map_set(&item, "bytes_total", gw_uint(of)) == GW_OK) {
        (void)x->call->item(x->call, &item); /* on_gone tells when nobody listens */
    }
    gw_value_free(&item);
    x->host->env.timer_start(x->host, x->timer, PROGRESS_MS);
}

static void caller_gone(void *arg)
{
    struct fetching *x = arg;
    fetch_cancel(x->fetch);
}

void op_artifacts_fetch(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    struct fetch_want want = {.owner = {{0}}};
    struct gw_error why;
    if (artifacts_refuse(h, call)) {
        return;
    }
    if (fetch_ops_of_agent(call)) {
        agent_artifact_fetch(n, call);
        return;
    }
    if (fetch_name_parse(gw_map_str(&call->args, "artifact", ""), &want.name, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    struct fetching *x = xcalloc(1, sizeof *x);
    *x = (struct fetching){.host = h, .call = call};
    x->timer = h->env.timer_new(h, tell_progress, x);
    h->env.timer_start(h, x->timer, PROGRESS_MS);
    call->on_gone = caller_gone;
    call->gone_arg = x;
    x->fetch = fetch_start(h, &want, fetched, x);
}

static void found(void *arg, gw_err err, const struct fetch_result *r, const struct gw_error *why)
{
    struct fetching *x = arg;
    gw_value value = gw_nil(), hosts = {.kind = GW_LIST};
    if (err == GW_OK) {
        why = NULL;
        err = fetch_ops_info(&r->info, &value);
        if (r->was_here) {
            err = err ? err : gw_list_add(&hosts, gw_str(x->host->config->name));
        }
        for (size_t i = 0; i < r->source_count && err == GW_OK; i++) {
            err = gw_list_add(&hosts, gw_str(r->sources[i].name));
        }
        err = err ? err : gw_map_set(&value, "hosts", hosts);
    }
    fetch_ops_answer(x->call, err, &value, why);
    free(x);
}

void op_artifacts_find(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    struct fetch_want want = {.find = true};
    struct gw_error why;
    if (artifacts_refuse(h, call)) {
        return;
    }
    if (fetch_name_parse(gw_map_str(&call->args, "artifact", ""), &want.name, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    struct fetching *x = xcalloc(1, sizeof *x);
    *x = (struct fetching){.host = h, .call = call};
    x->fetch = fetch_start(h, &want, found, x);
}

/* ---- artifacts.repair ---- */

struct repair {
    struct host *host;
    struct op_call *call;
    gw_id artifact; /* nil: all */
    char from[LIMIT_NAME_BYTES + 1];
    struct chunk_ref *damaged; /* owned */
    size_t count, cap;
    bool full; /* no memory for more */
    struct chunk_verified verified;
    struct bulk_io *io;
    struct bulk_job *job;
    struct fetch *fetch;
    bool gone;
};

static void on_damage(void *arg, const struct chunk_damage *d)
{
    struct repair *x = arg;
    if (x->count == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 64;
        struct chunk_ref *more = realloc(x->damaged, cap * sizeof *more);
        if (!more) {
            x->full = true;
            return;
        }
        x->damaged = more;
        x->cap = cap;
    }
    x->damaged[x->count++] = d->chunk;
}

static bool on_verified(void *arg, uint64_t chunks, uint64_t bytes)
{
    const struct repair *x = arg;
    (void)chunks, (void)bytes;
    gw_err err = x->io->wait(x->io->ctx, false, false, 0);
    return !x->full && (err == GW_OK || err == GW_ETIMEOUT);
}

static gw_err verify_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct repair *x = arg;
    struct chunk_verify v = {
        .artifact = x->artifact, .on_damage = on_damage, .on_progress = on_verified, .arg = x};
    x->io = io;
    gw_err err = chunk_store_verify(x->host->chunks, &v, &x->verified, why);
    return x->full ? gw_fail(why, GW_ENOMEM, "out of memory for a list of chunks") : err;
}

static void repair_over(struct repair *x, gw_err err, const struct fetch_result *r,
                        const struct gw_error *why)
{
    gw_value value = gw_nil(), sources = gw_nil();
    struct fetch_result none = {.missing = 0};
    r = r ? r : &none;
    if (err == GW_OK) {
        why = NULL;
        err = gw_map_set(&value, "chunks", gw_uint(x->verified.chunks));
        err = err ? err : gw_map_set(&value, "bytes", gw_uint(x->verified.bytes));
        err = err ? err : gw_map_set(&value, "damaged", gw_uint(x->count));
        err = err ? err : gw_map_set(&value, "repaired", gw_uint(x->count - r->missing));
        err = err ? err : sources_value(r, &sources);
        err = err ? err : gw_map_set(&value, "sources", sources);
        err = err ? err : gw_map_set(&value, "done", gw_bool(true));
    }
    x->call->on_gone = NULL;
    fetch_ops_answer(x->call, err, &value, why);
    free(x->damaged);
    free(x);
}

static void repaired(void *arg, gw_err err, const struct fetch_result *r,
                     const struct gw_error *why)
{
    repair_over(arg, err, r, why);
}

static void verified(void *arg, gw_err err, const struct gw_error *why)
{
    struct repair *x = arg;
    x->job = NULL;
    if (err != GW_OK || x->count == 0 || x->gone) {
        repair_over(x, err, NULL, why);
    } else {
        x->fetch = fetch_chunks(x->host, x->damaged, x->count, x->from, repaired, x);
    }
}

static void repair_gone(void *arg)
{
    struct repair *x = arg;
    x->gone = true;
    if (x->fetch) {
        fetch_cancel(x->fetch);
    } else {
        bulk_cancel(x->job);
    }
}

void op_artifacts_repair(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    struct fetch_name name = {.by_hash = false};
    struct gw_error why;
    const char *what = gw_map_str(&call->args, "artifact", NULL);
    const char *from = gw_map_str(&call->args, "from", "");
    if (artifacts_refuse(h, call)) {
        return;
    }
    gw_err err = what ? fetch_name_parse(what, &name, &why) : GW_OK;
    if (err == GW_OK && name.by_hash) {
        err = gw_fail(&why, GW_EARG, "give the id of an artifact of this host, not a hash");
    }
    struct repair *x = xcalloc(1, sizeof *x);
    *x = (struct repair){.host = h, .call = call, .artifact = name.id};
    if (err == GW_OK &&
        !span_text((struct span){(const uint8_t *)from, strlen(from)}, x->from, sizeof x->from)) {
        err = gw_fail(&why, GW_EARG, "\"%.64s\" is too long for a host", from);
    }
    if (err != GW_OK) {
        free(x);
        op_fail(call, &why);
        return;
    }
    call->on_gone = repair_gone;
    call->gone_arg = x;
    x->job = bulk_run(h->bulk, verify_work, verified, x);
}
