/* Operations on artifacts for handlers of agents: put a file, get one as a file, let go of one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/agent_dirs.h"
#include "host/artifacts.h"
#include "host/core/op_handlers.h"
#include "host/fetch_file.h"
#include "host/fetch_ops.h"
#include "host/file_ops.h"
#include "protocol/value.h"

/* ---- artifacts.import ---- */

struct import {
    struct host *host;
    struct op_call *call;
    struct roots *roots; /* owned: folders of the agent, and those of the host */
    struct artifact_meta meta;
    char name[LIMIT_ARTIFACT_NAME_BYTES + 1];
    struct artifact_info info;
};

static gw_err import_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct import *x = arg;
    gw_err err = fetch_file_import(x->host->chunks, io, x->roots,
                                   gw_map_str(&x->call->args, "path", ""), &x->meta, &x->info, why);
    artifacts_changed(x->host);
    return err;
}

static void imported(void *arg, gw_err err, const struct gw_error *why)
{
    struct import *x = arg;
    gw_value value = gw_nil();
    if (err == GW_OK) {
        struct fetch_result r = {.info = x->info, .was_here = true};
        err = fetch_ops_result(x->host, &r, &value);
        why = NULL;
    }
    fetch_ops_answer(x->call, err, &value, why);
    roots_close(x->roots);
    free(x);
}

/* Where its files may be. Relative paths begin in the first, its work folder. */
static gw_err open_roots(struct import *x, const char *type, struct gw_error *why)
{
    const struct host *h = x->host;
    const struct roots *of_host = h->files->roots;
    char work[1200], storage[1200], id[GW_ID_TEXT];
    snprintf(work, sizeof work, "%s/%s/agents/%s", h->dir, "work", gw_id_text(&x->meta.owner, id));
    snprintf(storage, sizeof storage, "%s/storage/%s", h->dir, type);
    size_t n = roots_count(of_host);
    const char **paths = xcalloc(n + 2, sizeof *paths);
    paths[0] = work;
    paths[1] = storage;
    for (size_t i = 0; i < n; i++) {
        paths[i + 2] = roots_path(of_host, i);
    }
    gw_err err = roots_open(paths, n + 2, &x->roots, why);
    free(paths);
    return err;
}

/* The name that it gets: what is asked for, else the last part of its path. */
static gw_err name_it(struct import *x, struct gw_error *why)
{
    const char *path = gw_map_str(&x->call->args, "path", "");
    const char *name = gw_map_str(&x->call->args, "name", NULL);
    const char *slash = strrchr(path, '/');
    name = name ? name : slash ? slash + 1 : path;
    if (!span_text((struct span){(const uint8_t *)name, strlen(name)}, x->name, sizeof x->name)) {
        return gw_fail(why, GW_EARG, "the name of an artifact has at most %d bytes",
                       LIMIT_ARTIFACT_NAME_BYTES);
    }
    x->meta.name = x->name;
    x->meta.type = gw_map_str(&x->call->args, "type", NULL);
    x->meta.ttl_ms = gw_map_int(&x->call->args, "ttl", 0);
    return GW_OK;
}

void op_artifacts_import(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    struct gw_error why;
    if (artifacts_refuse(h, call)) {
        return;
    }
    struct import *x = xcalloc(1, sizeof *x);
    *x = (struct import){.host = h, .call = call};
    const char *type = agent_dir_ops_who(n, call, &x->meta.owner, &why);
    gw_err err = type ? name_it(x, &why) : why.code;
    err = err ? err : open_roots(x, type, &why);
    if (err != GW_OK) {
        free(x);
        op_fail(call, &why);
        return;
    }
    bulk_run(h->bulk, import_work, imported, x);
}

/* ---- artifacts.fetch ---- */

struct fetching {
    struct host *host;
    struct op_call *call;
    gw_id agent;
    bool path;      /* as a file */
    gw_value value; /* the answer so far */
    gw_id artifact;
    uint64_t size;
    char folder[1200];
    char *file; /* owned */
};

static void answer(struct fetching *x, gw_err err, const struct gw_error *why)
{
    if (err == GW_OK && x->file) {
        err = gw_map_set(&x->value, "path", gw_str(x->file));
        why = NULL;
    }
    fetch_ops_answer(x->call, err, &x->value, why);
    free(x->file);
    free(x);
}

static gw_err export_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct fetching *x = arg;
    return fetch_file_export(x->host->chunks, io, &x->artifact, x->folder, &x->file, why);
}

static void exported(void *arg, gw_err err, const struct gw_error *why)
{
    answer(arg, err, why);
}

static void have_folder(void *arg, gw_err err, const struct dirs_folder *folder,
                        const struct gw_error *why)
{
    struct fetching *x = arg;
    struct gw_error full;
    if (err == GW_OK && !x->host->bulk) {
        err = gw_fail(&full, GW_ESTOPPING, "the host is stopping");
        why = &full;
    }
    if (err == GW_OK && folder->quota > 0 && folder->bytes + x->size > folder->quota) {
        err = gw_fail(&full, GW_ETOO_BIG,
                      "a file of %llu bytes is above the quota of the work folder, %llu bytes",
                      (unsigned long long)x->size, (unsigned long long)folder->quota);
        why = &full;
    }
    if (err != GW_OK) {
        answer(x, err, why);
        return;
    }
    snprintf(x->folder, sizeof x->folder, "%s", folder->path);
    bulk_run(x->host->bulk, export_work, exported, x);
}

static void fetched(void *arg, gw_err err, const struct fetch_result *r, const struct gw_error *why)
{
    struct fetching *x = arg;
    char id[GW_ID_TEXT];
    if (err == GW_OK) {
        err = fetch_ops_result(x->host, r, &x->value);
        why = NULL;
    }
    if (err != GW_OK || !x->path) {
        answer(x, err, why);
        return;
    }
    x->artifact = r->info.id;
    x->size = r->info.size;
    agent_dirs_want(x->host->dirs, DIRS_WORK, gw_id_text(&x->agent, id), false, have_folder, x);
}

void agent_artifact_fetch(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    struct fetch_want want = {.find = false};
    struct gw_error why;
    const char *text = gw_map_str(&call->args, "artifact", "");
    if (!agent_dir_ops_who(n, call, &want.owner, &why) ||
        fetch_name_parse(text, &want.name, &why) != GW_OK) {
        op_fail(call, &why);
        return;
    }
    struct fetching *x = xcalloc(1, sizeof *x);
    *x = (struct fetching){.host = h,
                           .call = call,
                           .agent = want.owner,
                           .path = gw_map_bool(&call->args, "path", false)};
    fetch_start(h, &want, fetched, x);
}

/* ---- artifacts.release ---- */

struct release {
    struct host *host;
    struct op_call *call;
    gw_id owner;
    struct fetch_name name;
    uint64_t removed;
};

#define PAGE 64

/* All of the owner's with this content: a handler that ran again may have put it twice. */
static gw_err release_work(struct bulk_io *io, void *arg, struct gw_error *why)
{
    struct release *x = arg;
    struct artifact_info *page = calloc(PAGE, sizeof *page);
    gw_id after = {{0}};
    size_t n = PAGE;
    (void)io;
    if (!page) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    gw_err err = GW_OK;
    while (err == GW_OK && n == PAGE) {
        err = artifact_list(x->host->chunks, &after, &x->owner, page, PAGE, &n, why);
        for (size_t i = 0; i < n && err == GW_OK; i++) {
            bool same = x->name.by_hash
                            ? memcmp(&page[i].hash, &x->name.hash, sizeof page[i].hash) == 0
                            : gw_id_equal(&page[i].id, &x->name.id);
            after = page[i].id;
            if (same) {
                err = artifact_remove(x->host->chunks, &page[i].id, why);
                x->removed += err == GW_OK;
                err = err == GW_ENOT_FOUND ? GW_OK : err;
            }
        }
    }
    free(page);
    artifacts_changed(x->host);
    return err;
}

static void released(void *arg, gw_err err, const struct gw_error *why)
{
    struct release *x = arg;
    gw_value value = gw_nil();
    if (err == GW_OK) {
        err = gw_map_set(&value, "removed", gw_uint(x->removed));
        why = NULL;
    }
    fetch_ops_answer(x->call, err, &value, why);
    free(x);
}

static void released_there(void *arg, gw_err err, gw_value *value, const struct gw_error *why)
{
    struct release *x = arg;
    gw_value taken = *value;
    *value = gw_nil();
    fetch_ops_answer(x->call, err, &taken, why);
    free(x);
}

#define THERE_MS 30000

/* A host that is named, and is another one, is asked; it believes its peer who the owner is. */
static bool ask_there(struct node *n, struct release *x, const char *text)
{
    struct node_host host;
    struct gw_error why;
    gw_value args = gw_nil();
    if (!x->name.host[0] || x->call->role == ROLE_PEER) {
        return false;
    }
    gw_err err = node_pick_host(n, x->name.host, &host, &why);
    if (err == GW_OK && host.self) {
        return false;
    }
    if (err == GW_OK) {
        err = gw_map_set(&args, "artifact", gw_str(text));
        err = err ? err : gw_map_set(&args, "owner", gw_id_value(&x->owner));
    }
    if (err != GW_OK) {
        gw_value_free(&args);
        fetch_ops_answer(x->call, err, &args, err == GW_ENOMEM ? NULL : &why);
        free(x);
    } else {
        node_ask(n, &host.id, "artifacts.release", args, THERE_MS, released_there, x);
    }
    return true;
}

void op_artifacts_release(struct node *n, struct op_call *call)
{
    struct host *h = node_env(n)->ctx;
    struct gw_error why;
    const char *text = gw_map_str(&call->args, "artifact", "");
    const gw_value *owner = gw_map_get(&call->args, "owner");
    if (artifacts_refuse(h, call)) {
        return;
    }
    struct release *x = xcalloc(1, sizeof *x);
    *x = (struct release){.host = h, .call = call};
    gw_err err = fetch_name_parse(text, &x->name, &why);
    if (err == GW_OK && call->role == ROLE_PEER && owner && owner->kind == GW_ID) {
        x->owner = owner->id;
    } else if (err == GW_OK && !agent_dir_ops_who(n, call, &x->owner, &why)) {
        err = why.code;
    }
    if (err != GW_OK) {
        free(x);
        op_fail(call, &why);
    } else if (!ask_there(n, x, text)) {
        bulk_run(h->bulk, release_work, released, x);
    }
}
