/* Uploads: at once by POST, or in parts that can be resumed, as tus.io does it: POST makes an
 * upload, PATCH with Upload-Offset appends, HEAD tells how far it is. What came of a PATCH before
 * its connection broke stays. */
#include "host/artifact_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/artifacts.h"
#include "host/host.h"
#include "host/http_body.h"
#include "protocol/json.h"
#include "protocol/signature.h"
#include "protocol/text.h"

#define BLOCK_BYTES (256u * 1024) /* as much as a unix socket gives at once */
#define EXTRA_BYTES 256

/* ---- what requests have in common ---- */

/* The parameters by a signature: typed, none unknown, none missing. */
static gw_err check_args(struct bulk_request *r, const char *grammar)
{
    struct signature *sig;
    GW_TRY(signature_parse(grammar, &sig, r->why));
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && r->args.kind == GW_MAP && i < r->args.map.n; i++) {
        struct gw_member *m = &r->args.map.items[i];
        err = signature_text_arg(sig, m->key, &m->value, r->why);
    }
    err = err ? err : signature_check_args(sig, &r->args, false, r->why);
    signature_free(sig);
    return err;
}

static gw_err answer_value(struct bulk_request *r, struct bulk_io *io, int status,
                           const gw_value *v, const char *extra)
{
    GW_AUTO(buf_free) struct buf body = {0};
    if (json_write(v, 0, &body) != GW_OK) {
        return GW_ENOMEM;
    }
    buf_add(&body, "\n", 1);
    if (!buf_ok(&body)) {
        return GW_ENOMEM;
    }
    GW_TRY(bulk_answer_head(io, status, "application/json", body.len, extra));
    return strcmp(r->head->method, "HEAD") == 0 ? GW_OK : bulk_write(io, body.data, body.len);
}

/* {upload, offset, complete}, and the same as headers. */
static gw_err answer_upload(struct bulk_request *r, struct bulk_io *io, int status, const gw_id *id,
                            uint64_t offset, bool complete)
{
    GW_AUTO(gw_value_free) gw_value v = gw_nil();
    char text[GW_ID_TEXT], extra[EXTRA_BYTES];
    gw_id_text(id, text);
    GW_TRY(gw_map_set(&v, "upload", gw_str(text)));
    GW_TRY(gw_map_set(&v, "offset", gw_uint(offset)));
    GW_TRY(gw_map_set(&v, "complete", gw_bool(complete)));
    snprintf(extra, sizeof extra,
             "Location: /v1/artifacts/uploads/%s\r\nUpload-Offset: %llu\r\nUpload-Complete: ?%d\r\n"
             "Cache-Control: no-store\r\n",
             text, (unsigned long long)offset, complete);
    return answer_value(r, io, status, &v, extra);
}

static gw_err answer_artifact(struct bulk_request *r, struct bulk_io *io,
                              const struct artifact_info *info)
{
    GW_AUTO(gw_value_free) gw_value v = gw_nil();
    char id[GW_ID_TEXT], extra[EXTRA_BYTES];
    GW_TRY(artifacts_value(info, &v));
    snprintf(extra, sizeof extra,
             "Location: /v1/artifacts/%s/content\r\nUpload-Offset: %llu\r\nUpload-Complete: ?1\r\n",
             gw_id_text(&info->id, id), (unsigned long long)info->size);
    return answer_value(r, io, 201, &v, extra);
}

/* A form is what some clients say when nobody has told them what it is. */
static const char *media_type(const struct bulk_request *r)
{
    const char *given = gw_map_str(&r->args, "type", NULL);
    const char *header = http_head_get_once(r->head, "content-type");
    if (given || !header) {
        return given;
    }
    return strncasecmp(header, "application/x-www-form-urlencoded", 33) == 0 ? NULL : header;
}

static gw_err read_meta(struct bulk_request *r, bool resumable, struct artifact_meta *ret)
{
    const gw_value *owner = gw_map_get(&r->args, "owner");
    *ret = (struct artifact_meta){.name = gw_map_str(&r->args, "name", NULL),
                                  .type = media_type(r),
                                  .ttl_ms = gw_map_int(&r->args, "ttl", 0),
                                  .resumable = resumable};
    if (owner && owner->kind == GW_ID) {
        ret->owner = owner->id;
    }
    return GW_OK;
}

/* The hash that the content has to have; *ret_any: whatever it has. */
static gw_err read_hash(struct bulk_request *r, struct chunk_hash *ret, bool *ret_any)
{
    const char *text = gw_map_str(&r->args, "hash", NULL);
    *ret_any = !text;
    if (text && chunk_hash_parse(text, ret) != GW_OK) {
        return gw_fail(r->why, GW_EARG, "\"hash\" is not a SHA-256 of 64 hex digits");
    }
    return GW_OK;
}

static gw_err check_length(struct bulk_request *r, uint64_t before)
{
    const struct host *h = r->ctx;
    uint64_t most = h->config->artifact_max;
    if (before > most || r->head->body_bytes > most - before) {
        gw_fail(r->why, GW_ETOO_BIG, "an artifact has at most %llu bytes on this host",
                (unsigned long long)most);
        gw_hint(r->why, "raise the setting artifact_max, or send it as a file");
        return GW_ETOO_BIG;
    }
    return GW_OK;
}

/* The whole body behind what the writer has. GW_EUNREACHABLE and the like: it ended before. */
static gw_err take_body(struct bulk_request *r, struct bulk_io *io, struct artifact_writer *w)
{
    struct http_body *body = malloc(sizeof *body);
    uint8_t *block = malloc(BLOCK_BYTES);
    gw_err err = body && block ? GW_OK : gw_fail(r->why, GW_ENOMEM, "out of memory");
    if (err == GW_OK) {
        http_body_init(body, r->head, io);
    }
    while (err == GW_OK) {
        size_t n = 0;
        err = http_body_read(body, block, BLOCK_BYTES, &n, r->why);
        if (err == GW_OK) {
            artifacts_moved(r->ctx, n, 0);
            err = artifact_writer_add(w, block, n, r->why);
        }
    }
    free(body);
    free(block);
    return err == GW_ENOT_FOUND ? GW_OK : err;
}

/* ---- at once ---- */

static gw_err put(struct bulk_request *r, struct bulk_io *io, struct artifact_info *ret)
{
    struct chunk_store *s;
    struct artifact_meta meta;
    struct artifact_writer *w;
    struct chunk_hash want;
    bool any;
    GW_TRY(artifacts_store(r->ctx, &s, r->why));
    GW_TRY(check_args(r, "put(name: string?, type: string?, ttl: duration?, owner: agent?, "
                         "hash: string?)"));
    GW_TRY(read_meta(r, false, &meta));
    GW_TRY(read_hash(r, &want, &any));
    GW_TRY(check_length(r, 0));
    GW_TRY(artifact_writer_new(s, &meta, &w, r->why));
    gw_err err = take_body(r, io, w);
    err = err ? err : artifact_writer_finish(w, any ? NULL : &want, ret, r->why);
    artifact_writer_free(w);
    artifacts_changed(r->ctx);
    return err;
}

gw_err artifact_http_put(struct bulk_request *r, struct bulk_io *io)
{
    struct artifact_info info;
    if (put(r, io, &info) != GW_OK) {
        return bulk_refuse(r, io);
    }
    artifacts_tell(r->ctx, ARTIFACT_PUT, &info, NULL);
    return answer_artifact(r, io, &info);
}

/* ---- in parts ---- */

gw_err artifact_http_upload(struct bulk_request *r, struct bulk_io *io)
{
    struct chunk_store *s = NULL;
    struct artifact_meta meta;
    struct artifact_writer *w;
    gw_err err = artifacts_store(r->ctx, &s, r->why);
    err = err ? err
              : check_args(r, "uploads(name: string?, type: string?, ttl: duration?, "
                              "owner: agent?)");
    if (err == GW_OK && (r->head->body_bytes > 0 || r->head->chunked)) {
        err = gw_fail(r->why, GW_EARG, "an upload begins without a body; PATCH brings the bytes");
    }
    err = err ? err : read_meta(r, true, &meta);
    err = err ? err : artifact_writer_new(s, &meta, &w, r->why);
    if (err != GW_OK) {
        return bulk_refuse(r, io);
    }
    gw_id id = artifact_writer_id(w);
    artifact_writer_free(w);
    artifacts_changed(r->ctx);
    return answer_upload(r, io, 201, &id, 0, false);
}

static gw_err upload_id(struct bulk_request *r, gw_id *ret)
{
    const char *text = gw_map_str(&r->args, "upload", "");
    return gw_id_parse(text, ret) == GW_OK
               ? GW_OK
               : gw_fail(r->why, GW_EARG, "\"%.100s\" is not the id of an upload", text);
}

struct append {
    struct artifact_writer *w;
    gw_id id;
    uint64_t at;      /* how far it is */
    bool wrong_place; /* the client thinks that it is elsewhere */
    bool complete;
    struct chunk_hash want;
    bool any;
};

static gw_err read_append(struct bulk_request *r, struct append *a, uint64_t *ret_offset)
{
    const char *offset = http_head_get_once(r->head, "upload-offset");
    const char *complete = http_head_get_once(r->head, "upload-complete");
    GW_TRY(check_args(r, "append(upload: string, hash: string?)"));
    GW_TRY(upload_id(r, &a->id));
    GW_TRY(read_hash(r, &a->want, &a->any));
    if (!offset || text_uint(offset, ret_offset) != GW_OK) {
        gw_fail(r->why, GW_EARG, "the header Upload-Offset is missing, or not a number");
        gw_hint(r->why, "HEAD of the same path tells how far the upload is");
        return GW_EARG;
    }
    if (complete && strcmp(complete, "?0") != 0 && strcmp(complete, "?1") != 0) {
        return gw_fail(r->why, GW_EARG, "the header Upload-Complete is neither ?0 nor ?1");
    }
    a->complete = complete && complete[1] == '1';
    return GW_OK;
}

static gw_err begin_append(struct bulk_request *r, struct append *a)
{
    struct chunk_store *s;
    uint64_t offset = 0;
    GW_TRY(artifacts_store(r->ctx, &s, r->why));
    GW_TRY(read_append(r, a, &offset));
    GW_TRY(artifact_writer_resume(s, &a->id, &a->w, r->why));
    a->at = artifact_writer_size(a->w);
    if (offset != a->at) {
        a->wrong_place = true;
        return gw_fail(r->why, GW_ECONFLICT, "the upload is at byte %llu, not at %llu",
                       (unsigned long long)a->at, (unsigned long long)offset);
    }
    return check_length(r, a->at);
}

/* What has come is made durable, also when the rest has not. */
static gw_err run_append(struct bulk_request *r, struct bulk_io *io, struct append *a,
                         struct artifact_info *ret)
{
    gw_err err = take_body(r, io, a->w);
    if (err == GW_OK && a->complete) {
        err = artifact_writer_finish(a->w, a->any ? NULL : &a->want, ret, r->why);
    } else if (err == GW_OK || err == GW_EUNREACHABLE || err == GW_ETIMEOUT || err == GW_EPROTO ||
               err == GW_ECANCELLED) {
        gw_err paused = artifact_writer_pause(a->w, err ? NULL : r->why);
        err = err ? err : paused;
    }
    a->at = artifact_writer_durable(a->w);
    return err;
}

static gw_err refuse_append(struct bulk_request *r, struct bulk_io *io, const struct append *a)
{
    GW_AUTO(buf_free) struct buf body = {0};
    char extra[EXTRA_BYTES];
    if (!a->wrong_place) {
        return bulk_refuse(r, io);
    }
    http_error_body(r->why, &body);
    snprintf(extra, sizeof extra, "Upload-Offset: %llu\r\n", (unsigned long long)a->at);
    GW_TRY(bulk_answer_head(io, gw_err_http(r->why->code), "application/json", body.len, extra));
    GW_TRY(bulk_write(io, body.data, body.len));
    return r->why->code;
}

gw_err artifact_http_append(struct bulk_request *r, struct bulk_io *io)
{
    struct append a = {0};
    struct artifact_info info;
    gw_err err = begin_append(r, &a);
    err = err ? err : run_append(r, io, &a, &info);
    artifact_writer_free(a.w);
    if (err != GW_OK) {
        return refuse_append(r, io, &a);
    }
    artifacts_changed(r->ctx);
    if (!a.complete) {
        return answer_upload(r, io, 200, &a.id, a.at, false);
    }
    artifacts_tell(r->ctx, ARTIFACT_PUT, &info, NULL);
    return answer_artifact(r, io, &info);
}

/* The upload, or the artifact that it has become. */
static gw_err find_upload(struct bulk_request *r, struct chunk_store **ret_store,
                          struct artifact_info *ret)
{
    gw_id id;
    GW_TRY(artifacts_store(r->ctx, ret_store, r->why));
    GW_TRY(check_args(r, "upload(upload: string)"));
    GW_TRY(upload_id(r, &id));
    return artifact_info(*ret_store, &id, ret, r->why);
}

gw_err artifact_http_offset(struct bulk_request *r, struct bulk_io *io)
{
    struct chunk_store *s;
    struct artifact_info info;
    if (find_upload(r, &s, &info) != GW_OK) {
        return bulk_refuse(r, io);
    }
    return answer_upload(r, io, 200, &info.id, info.size, !info.upload);
}

gw_err artifact_http_drop(struct bulk_request *r, struct bulk_io *io)
{
    GW_AUTO(gw_value_free) gw_value v = gw_nil();
    struct chunk_store *s;
    struct artifact_info info;
    char text[GW_ID_TEXT];
    gw_err err = find_upload(r, &s, &info);
    if (err == GW_OK && !info.upload) {
        err = gw_fail(r->why, GW_ENOT_FOUND, "there is no such upload: it is whole by now");
    }
    err = err ? err : artifact_remove(s, &info.id, r->why);
    if (err != GW_OK) {
        return bulk_refuse(r, io);
    }
    artifacts_changed(r->ctx);
    GW_TRY(gw_map_set(&v, "upload", gw_str(gw_id_text(&info.id, text))));
    GW_TRY(gw_map_set(&v, "removed", gw_bool(true)));
    return answer_value(r, io, 200, &v, "");
}
