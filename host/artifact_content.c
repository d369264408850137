/* Downloads: GET and HEAD of the content of an artifact, whole or a range. Every chunk is hashed
 * before its bytes leave. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/artifact_http.h"
#include "host/artifacts.h"
#include "host/content_range.h"
#include "host/host.h"

struct content {
    struct artifact_reader *reader;
    const struct artifact_info *info;
    char hash[CHUNK_HASH_TEXT];
    int status;
    uint64_t from, to; /* what is sent */
};

/* ---- the head ---- */

static bool is_plain(const char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

/* The name as RFC 6266 has it: plain for old clients, and as it is. */
static void add_disposition(const char *name, struct buf *out)
{
    if (!name[0]) {
        buf_addf(out, "Content-Disposition: attachment\r\n");
        return;
    }
    buf_addf(out, "Content-Disposition: attachment; filename=\"");
    for (const char *c = name; *c; c++) {
        bool plain = *c >= ' ' && *c <= '~' && *c != '"' && *c != '\\' && *c != '/' && *c != '%';
        buf_addf(out, "%c", plain ? *c : '_');
    }
    buf_addf(out, "\"; filename*=UTF-8''");
    for (const char *c = name; *c; c++) {
        bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
                     (*c >= 'A' && *c <= 'Z') || *c == '.' || *c == '-' || *c == '_';
        buf_addf(out, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
    buf_addf(out, "\r\n");
}

/* What somebody has put here is never run as a page of this host. */
static gw_err send_head(const struct content *c, struct bulk_io *io)
{
    GW_AUTO(buf_free) struct buf extra = {0};
    buf_addf(&extra,
             "ETag: \"%s\"\r\nAccept-Ranges: bytes\r\nCache-Control: private, no-cache\r\n"
             "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n",
             c->hash);
    if (c->status == 206) {
        buf_addf(&extra, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)c->from,
                 (unsigned long long)c->to - 1, (unsigned long long)c->info->size);
    }
    add_disposition(c->info->name, &extra);
    buf_add(&extra, "", 1);
    const char *type = is_plain(c->info->type) ? c->info->type : "application/octet-stream";
    return buf_ok(&extra)
               ? bulk_answer_head(io, c->status, type, c->to - c->from, (const char *)extra.data)
               : GW_ENOMEM;
}

static gw_err refuse_range(const struct content *c, struct bulk_request *r, struct bulk_io *io)
{
    GW_AUTO(buf_free) struct buf body = {0};
    char extra[64];
    gw_fail(r->why, GW_EARG, "the artifact has %llu bytes: there is nothing in that range",
            (unsigned long long)c->info->size);
    http_error_body(r->why, &body);
    snprintf(extra, sizeof extra, "Content-Range: bytes */%llu\r\n",
             (unsigned long long)c->info->size);
    GW_TRY(bulk_answer_head(io, 416, "application/json", body.len, extra));
    return bulk_write(io, body.data, body.len);
}

/* ---- the request ---- */

static gw_err open_content(struct bulk_request *r, struct content *c)
{
    struct chunk_store *s;
    struct artifact_info info;
    if (r->head->query[0]) {
        return gw_fail(r->why, GW_EARG, "the content of an artifact takes no parameters");
    }
    GW_TRY(artifacts_store(r->ctx, &s, r->why));
    GW_TRY(artifacts_find(s, gw_map_str(&r->args, "artifact", ""), &info, r->why));
    GW_TRY(artifact_reader_open(s, &info.id, &c->reader, r->why));
    c->info = artifact_reader_info(c->reader);
    chunk_hash_text(&c->info->hash, c->hash);
    return GW_OK;
}

static void read_conditions(const struct bulk_request *r, struct content *c)
{
    const struct http_head *h = r->head;
    const char *only_if = http_head_get(h, "if-range"), *range = http_head_get_once(h, "range");
    bool is_get = strcmp(h->method, "GET") == 0;
    c->status = 200;
    c->from = 0;
    c->to = c->info->size;
    if (content_is_known(http_head_get(h, "if-none-match"), c->hash)) {
        c->status = 304;
        return;
    }
    if (!is_get || (only_if && (only_if[0] != '"' || !content_is_known(only_if, c->hash)))) {
        return; /* of another content a part would be no part of what the client has */
    }
    switch (content_range_parse(range, c->info->size, &c->from, &c->to)) {
    case RANGE_ALL: break;
    case RANGE_PART: c->status = 206; break;
    case RANGE_NONE: c->status = 416; break;
    }
}

/* The head goes when the first bytes have been read: while nothing is sent, damage is an answer. */
static gw_err send_all(struct content *c, struct bulk_request *r, struct bulk_io *io,
                       bool *ret_begun)
{
    struct span bytes = {0};
    uint64_t at = c->from;
    *ret_begun = false;
    do {
        if (at < c->to) {
            GW_TRY(artifact_reader_at(c->reader, at, &bytes, r->why));
        }
        if (!*ret_begun) {
            *ret_begun = true;
            GW_TRY(send_head(c, io));
        }
        uint64_t n = bytes.n < c->to - at ? bytes.n : c->to - at;
        GW_TRY(bulk_write(io, bytes.p, (size_t)n));
        artifacts_moved(r->ctx, 0, n);
        at += n;
    } while (at < c->to);
    return GW_OK;
}

static gw_err serve_content(struct bulk_request *r, struct bulk_io *io, struct content *c)
{
    bool begun = false;
    read_conditions(r, c);
    if (c->status == 416) {
        return refuse_range(c, r, io);
    }
    if (c->status == 304 || strcmp(r->head->method, "HEAD") == 0) {
        return send_head(c, io);
    }
    gw_err err = send_all(c, r, io, &begun);
    if (err == GW_ECORRUPT || err == GW_EIO) {
        artifacts_tell(r->ctx, ARTIFACT_DAMAGED, c->info, r->why->text);
        gw_hint(r->why, "the same content put again, or \"godwit artifacts verify\" with "
                        "--repair-from, mends it");
    }
    /* Behind the head an error can only cut the answer short, which its length tells. */
    return err == GW_OK || begun ? err : bulk_refuse(r, io);
}

gw_err artifact_http_content(struct bulk_request *r, struct bulk_io *io)
{
    struct content c = {0};
    gw_err err = open_content(r, &c);
    err = err == GW_OK ? serve_content(r, io, &c) : bulk_refuse(r, io);
    artifact_reader_free(c.reader);
    return err;
}
