/* artifacts put. A file goes as a resumable upload: when the connection is lost the command goes on
 * where the host is, and when it is interrupted itself, the same command does. Standard input goes
 * at once, for it cannot be read again. */
#include "clients/cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/cli/content_hash.h"
#include "clients/cli/copy_show.h"
#include "clients/cli/output.h"
#include "clients/cli/upload_note.h"
#include "clients/lib/exchange.h"
#include "protocol/base/utf8.h"
#include "protocol/text.h"

#define BLOCK_BYTES    (1024u * 1024)
#define PAUSE_FIRST_MS 20
#define PAUSE_MOST_MS  500

const struct cli_option artifacts_put_options[] = {
    {"name", 0, OPTION_TEXT, "NAME", "what it is called (else as the file)"},
    {"type", 0, OPTION_TEXT, "TYPE", "its media type (else application/octet-stream)"},
    {"ttl", 0, OPTION_DURATION, "DURATION", "it ends after this (else never)"},
    {"owner", 0, OPTION_TEXT, "AGENT", "the agent that it belongs to, by its id"},
    {0},
};

struct putting {
    struct cli *cli;
    struct gw_client *client;
    struct copy_show show;
    struct content_hash hash;
    const char *path;
    int fd;
    struct stat begun; /* of the file */
    char *name;        /* owned */
    char *query;       /* owned: "name=…&ttl=…" */
    struct upload_note note;
    char upload[GW_ID_TEXT]; /* "": none yet */
    bool known;              /* it is from a note, or was tried before: ask how far it is */
    uint64_t at, sent;
    uint8_t *block;   /* owned */
    gw_value result;  /* of the host */
    int64_t began_ms; /* monotonic */
};

/* ---- requests ---- */

static gw_err open_request(const struct putting *p, const char *method, const char *path,
                           const char *headers, uint64_t bytes, struct exchange **ret,
                           struct gw_error *why)
{
    struct exchange_request q = {.method = method,
                                 .path = path,
                                 .headers = headers,
                                 .body_bytes = bytes,
                                 .expect = bytes > 0,
                                 .silence_ms = p->cli->timeout_ms};
    return exchange_open(p->client, &q, ret, why);
}

static gw_err create_upload(struct putting *p, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf path = {0};
    GW_AUTO(gw_value_free) gw_value answer = gw_nil();
    struct exchange *x;
    buf_addf(&path, "/v1/artifacts/uploads?%s", p->query);
    buf_add(&path, "", 1);
    if (!buf_ok(&path)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(open_request(p, "POST", (const char *)path.data, NULL, 0, &x, why));
    gw_err err = exchange_answer(x, why);
    err = err ? err : exchange_value(x, &answer, why);
    exchange_close(x);
    GW_TRY(err);
    snprintf(p->upload, sizeof p->upload, "%s", gw_map_str(&answer, "upload", ""));
    p->at = 0;
    upload_note_write(&p->note, p->upload);
    return GW_OK;
}

/* How far the host is. */
static gw_err ask_offset(struct putting *p, bool *ret_complete, struct gw_error *why)
{
    char path[64 + GW_ID_TEXT], offset[24], complete[8];
    struct exchange *x;
    snprintf(path, sizeof path, "/v1/artifacts/uploads/%s", p->upload);
    GW_TRY(open_request(p, "GET", path, NULL, 0, &x, why));
    gw_err err = exchange_answer(x, why);
    if (err == GW_OK && (!exchange_header(x, "upload-offset", offset, sizeof offset) ||
                         text_uint(offset, &p->at) != GW_OK)) {
        err = gw_fail(why, GW_EPROTO, "the host does not say how far the upload is");
    }
    *ret_complete = exchange_header(x, "upload-complete", complete, sizeof complete) &&
                    strcmp(complete, "?1") == 0;
    exchange_close(x);
    return err;
}

static gw_err read_block(struct putting *p, uint64_t at, size_t room, size_t *ret_n,
                         struct gw_error *why)
{
    ssize_t n;
    do {
        n = pread(p->fd, p->block, room, (off_t)at);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return gw_fail(why, GW_EIO, "cannot read \"%s\": %s", p->path, strerror(errno));
    }
    if (n == 0) {
        return gw_fail(why, GW_EFAIL, "\"%s\" has become shorter", p->path);
    }
    content_hash_add(&p->hash, at, p->block, (size_t)n);
    *ret_n = (size_t)n;
    return GW_OK;
}

static gw_err send_rest(struct putting *p, struct exchange *x, struct gw_error *why)
{
    uint64_t size = (uint64_t)p->begun.st_size;
    while (p->at < size && !exchange_is_answered(x)) {
        size_t room = size - p->at < BLOCK_BYTES ? (size_t)(size - p->at) : BLOCK_BYTES;
        size_t n = 0;
        GW_TRY(read_block(p, p->at, room, &n, why));
        GW_TRY(exchange_send(x, p->block, n, why));
        p->at += n;
        p->sent += n;
        copy_show_bytes(&p->show, p->cli, p->at, size, p->name);
    }
    return GW_OK;
}

static gw_err append(struct putting *p, struct gw_error *why)
{
    char path[64 + GW_ID_TEXT], headers[96];
    struct exchange *x;
    uint64_t size = (uint64_t)p->begun.st_size;
    if (p->at > size) {
        return gw_fail(why, GW_EFAIL, "the host has more of \"%s\" than there is", p->path);
    }
    GW_TRY(content_hash_file(&p->hash, p->fd, p->at, why));
    snprintf(path, sizeof path, "/v1/artifacts/uploads/%s", p->upload);
    snprintf(headers, sizeof headers, "Upload-Offset: %llu\r\nUpload-Complete: ?1\r\n",
             (unsigned long long)p->at);
    GW_TRY(open_request(p, "PATCH", path, headers, size - p->at, &x, why));
    gw_err err = send_rest(p, x, why);
    err = err ? err : exchange_answer(x, why);
    err = err ? err : exchange_value(x, &p->result, why);
    exchange_close(x);
    return err;
}

/* Another try of this command was answered without our noticing. */
static gw_err take_finished(struct putting *p, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    GW_TRY(content_hash_file(&p->hash, p->fd, (uint64_t)p->begun.st_size, why));
    GW_TRY(gw_map_set(&args, "artifact", gw_str(p->upload)));
    return gw_client_call(p->client, "artifacts.info", &args, p->cli->timeout_ms, &p->result, why);
}

static gw_err try_once(struct putting *p, struct gw_error *why)
{
    bool complete = false;
    if (p->upload[0] && p->known) {
        gw_err err = ask_offset(p, &complete, why);
        if (err == GW_ENOT_FOUND) { /* given up by the host: from the beginning */
            p->upload[0] = '\0';
        } else if (err != GW_OK) {
            return err;
        }
    }
    if (complete) {
        return take_finished(p, why);
    }
    if (!p->upload[0]) {
        GW_TRY(create_upload(p, why));
    }
    p->known = true;
    return append(p, why);
}

static bool is_passing(gw_err err)
{
    return err == GW_EUNREACHABLE || err == GW_ESTOPPING || err == GW_EBUSY || err == GW_ECONFLICT;
}

/* Until it is there, or nothing has gone on for the time-out. */
static gw_err put_file(struct putting *p, struct gw_error *why)
{
    int64_t until = copy_show_now_ms() + p->cli->timeout_ms, pause = PAUSE_FIRST_MS;
    uint64_t best = 0;
    for (;;) {
        gw_err err = try_once(p, why);
        if (!is_passing(err) || copy_show_now_ms() >= until) {
            return err;
        }
        if (p->sent > best) {
            best = p->sent;
            until = copy_show_now_ms() + p->cli->timeout_ms;
            pause = PAUSE_FIRST_MS;
        }
        GW_TRY(exchange_pause(p->client, pause, why));
        pause = pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
    }
}

/* ---- standard input ---- */

static gw_err send_stream(struct putting *p, struct exchange *x, struct gw_error *why)
{
    for (;;) {
        ssize_t n = read(p->fd, p->block, BLOCK_BYTES);
        if (n < 0 && errno == EINTR && !cli_interrupted()) {
            continue;
        }
        if (n < 0 && cli_interrupted()) {
            return gw_fail(why, GW_ECANCELLED, "interrupted");
        }
        if (n < 0) {
            return gw_fail(why, GW_EIO, "cannot read standard input: %s", strerror(errno));
        }
        if (n == 0 || exchange_is_answered(x)) {
            return GW_OK;
        }
        content_hash_add(&p->hash, p->at, p->block, (size_t)n);
        GW_TRY(exchange_send(x, p->block, (size_t)n, why));
        p->at += (uint64_t)n;
        p->sent = p->at;
        copy_show_bytes(&p->show, p->cli, p->at, p->at, p->name);
    }
}

static gw_err put_stream(struct putting *p, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf path = {0};
    struct exchange *x;
    buf_addf(&path, "/v1/artifacts?%s", p->query);
    buf_add(&path, "", 1);
    if (!buf_ok(&path)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(open_request(p, "POST", (const char *)path.data, NULL, EXCHANGE_CHUNKED, &x, why));
    gw_err err = send_stream(p, x, why);
    err = err ? err : exchange_answer(x, why);
    err = err ? err : exchange_value(x, &p->result, why);
    exchange_close(x);
    return err;
}

/* ---- the command ---- */

/* What the host has is what was read, and that is what is there. */
static gw_err check_result(struct putting *p, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value args = gw_nil();
    char hash[CONTENT_HASH_TEXT];
    struct stat now;
    const char *id = gw_map_str(&p->result, "artifact", "");
    bool is_file = S_ISREG(p->begun.st_mode);
    bool changed = is_file && (fstat(p->fd, &now) != 0 || now.st_size != p->begun.st_size ||
                               now.st_mtim.tv_sec != p->begun.st_mtim.tv_sec ||
                               now.st_mtim.tv_nsec != p->begun.st_mtim.tv_nsec);
    content_hash_text(&p->hash, hash);
    if (!changed && strcmp(hash, gw_map_str(&p->result, "hash", "")) == 0) {
        return GW_OK;
    }
    gw_err err = gw_map_set(&args, "artifact", gw_str(id));
    err = err ? err
              : gw_client_call(p->client, "artifacts.rm", &args, p->cli->timeout_ms, NULL, NULL);
    gw_fail(why, changed ? GW_EFAIL : GW_ECORRUPT,
            changed ? "\"%s\" has changed while it was read" : "the host has other bytes of \"%s\"",
            p->path);
    if (err != GW_OK) {
        gw_hint(why, "artifact %s is wrong and could not be removed", id);
    }
    return why ? why->code : GW_EFAIL;
}

static gw_err print_result(struct putting *p, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf text = {0};
    double seconds = (double)(copy_show_now_ms() - p->began_ms) / 1000;
    if (p->cli->json) {
        GW_TRY(gw_map_set(&p->result, "sent_bytes", gw_uint(p->sent)));
        GW_TRY(gw_map_set(&p->result, "seconds", gw_float(seconds)));
        return output_json(&p->result, why);
    }
    printf("%s\n", gw_map_str(&p->result, "artifact", ""));
    copy_line_content((uint64_t)gw_map_int(&p->result, "size", 0), p->sent, seconds, &text);
    buf_add(&text, "", 1);
    if (buf_ok(&text)) {
        output_note(p->cli, "%s", (const char *)text.data);
    }
    return GW_OK;
}

static gw_err open_source(struct putting *p, struct gw_error *why)
{
    p->path = p->cli->argv[0];
    if (strcmp(p->path, "-") == 0) {
        p->path = "standard input";
        p->fd = STDIN_FILENO;
        return GW_OK;
    }
    p->fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (p->fd < 0) {
        return gw_fail(why,
                       errno == ENOENT   ? GW_ENOT_FOUND
                       : errno == EACCES ? GW_EDENIED
                                         : GW_EIO,
                       "cannot open \"%s\": %s", p->path, strerror(errno));
    }
    if (fstat(p->fd, &p->begun) != 0 || !S_ISREG(p->begun.st_mode)) {
        gw_fail(why, GW_EARG, "\"%s\" is not a file", p->path);
        gw_hint(why, "a pipe is put by: godwit artifacts put - < %s", p->path);
        return GW_EARG;
    }
    return GW_OK;
}

static void add_param(struct buf *out, const char *name, const char *value)
{
    if (value && value[0]) {
        buf_addf(out, "%s%s=", out->len ? "&" : "", name);
        exchange_add_encoded(value, out);
    }
}

static gw_err make_query(struct putting *p, struct gw_error *why)
{
    struct buf out = {0};
    const struct options *o = &p->cli->options;
    const char *slash = strrchr(p->path, '/'), *name = option_text(o, "name");
    bool from_file = !name && p->fd != STDIN_FILENO;
    name = from_file ? (slash ? slash + 1 : p->path) : name ? name : "";
    if (!(p->name = strdup(name))) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    if (from_file) {
        text_clean(p->name); /* a name of a file may be any bytes */
    }
    add_param(&out, "name", p->name);
    add_param(&out, "type", option_text(o, "type"));
    add_param(&out, "owner", option_text(o, "owner"));
    if (option_given(o, "ttl")) {
        char ttl[32];
        snprintf(ttl, sizeof ttl, "%lldms", (long long)option_int(o, "ttl", 0));
        add_param(&out, "ttl", ttl);
    }
    buf_add(&out, "", 1);
    if (!buf_ok(&out)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    p->query = (char *)out.data;
    return GW_OK;
}

static void find_note(struct putting *p)
{
    char what[1024];
    const struct stat *s = &p->begun;
    snprintf(what, sizeof what, "%s\n%llu %llu %lld %lld.%09ld\n%s", gw_client_where(p->client),
             (unsigned long long)s->st_dev, (unsigned long long)s->st_ino, (long long)s->st_size,
             (long long)s->st_mtim.tv_sec, s->st_mtim.tv_nsec, p->query);
    upload_note_init(&p->note, what);
    p->known = upload_note_read(&p->note, p->upload);
    if (!p->known) {
        p->upload[0] = '\0';
    }
}

static gw_err put(struct putting *p, struct gw_error *why)
{
    GW_TRY(open_source(p, why));
    GW_TRY(make_query(p, why));
    GW_TRY(cli_client(p->cli, &p->client, why));
    GW_TRY(content_hash_init(&p->hash, why));
    if (!(p->block = malloc(BLOCK_BYTES))) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    p->began_ms = copy_show_now_ms();
    if (p->fd == STDIN_FILENO) {
        GW_TRY(put_stream(p, why));
    } else {
        find_note(p);
        gw_err err = put_file(p, why);
        if (err != GW_OK) {
            if (p->upload[0] && why && !why->hint[0]) {
                gw_hint(why, "the same command again goes on from there, for a day");
            }
            return err;
        }
        upload_note_drop(&p->note);
    }
    copy_show_wipe(&p->show);
    GW_TRY(check_result(p, why));
    return print_result(p, why);
}

gw_err artifacts_put_run(struct cli *cli, struct gw_error *why)
{
    struct putting p = {.cli = cli, .fd = -1};
    gw_err err = put(&p, why);
    copy_show_wipe(&p.show);
    if (p.fd > STDIN_FILENO) {
        close(p.fd);
    }
    content_hash_free(&p.hash);
    gw_value_free(&p.result);
    free(p.block);
    free(p.name);
    free(p.query);
    return err;
}
