#include "clients/lib/upgrade.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/text.h"

#define ERROR_BODY_BYTES 65536 /* an error answer is some hundred bytes */

static gw_err write_all(struct conn *c, struct span data, int64_t deadline_ms, struct gw_error *why)
{
    while (data.n > 0) {
        size_t n = 0;
        gw_err err = conn_write(c, data, &n, why);
        if (err == GW_EAGAIN) {
            GW_TRY(conn_wait(c, true, deadline_ms, why));
            continue;
        }
        GW_TRY(err);
        data.p += n;
        data.n -= n;
    }
    return GW_OK;
}

static gw_err read_more(struct conn *c, struct buf *in, int64_t deadline_ms, struct gw_error *why)
{
    for (;;) {
        gw_err err = conn_read(c, in, 4096, why);
        if (err != GW_EAGAIN) {
            return err;
        }
        GW_TRY(conn_wait(c, false, deadline_ms, why));
    }
}

/* Bytes of the head with its empty line; 0 = not all there. */
static size_t head_length(const struct buf *in)
{
    const uint8_t *end = in->len > 0 ? memmem(in->data, in->len, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - in->data) + 4 : 0;
}

/* "HTTP/1.1 401 …" -> 401; 0 when it is none. */
static int status_of(const struct buf *in)
{
    int status = 0;
    if (in->len < 12 || memcmp(in->data, "HTTP/1.", 7) != 0) {
        return 0;
    }
    for (int i = 9; i < 12; i++) {
        if (in->data[i] < '0' || in->data[i] > '9') {
            return 0;
        }
        status = status * 10 + (in->data[i] - '0');
    }
    return status;
}

/* Content-Length of a head; ERROR_BODY_BYTES (read until the end) when there is none. */
static size_t body_length(const struct buf *in, size_t head)
{
    static const char name[] = "\r\ncontent-length:";
    for (size_t i = 0; i + sizeof name - 1 < head; i++) {
        if (strncasecmp((const char *)in->data + i, name, sizeof name - 1) != 0) {
            continue;
        }
        size_t n = 0;
        i += sizeof name - 1;
        while (i < head && in->data[i] == ' ') {
            i++;
        }
        for (; i < head && in->data[i] >= '0' && in->data[i] <= '9' && n < ERROR_BODY_BYTES; i++) {
            n = n * 10 + (size_t)(in->data[i] - '0');
        }
        return n < ERROR_BODY_BYTES ? n : ERROR_BODY_BYTES;
    }
    return ERROR_BODY_BYTES;
}

static gw_err code_of_status(int status)
{
    switch (status) {
    case 401: return GW_EUNAUTHENTICATED;
    case 403: return GW_EDENIED;
    case 404: return GW_ENOT_FOUND;
    case 429: return GW_EBUSY;
    case 503: return GW_ESTOPPING;
    default: return GW_EPROTO;
    }
}

gw_err upgrade_refused(int status, struct span body, struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value answer = gw_nil();
    const gw_value *error = NULL;
    if (body.n > 0 && json_parse((const char *)body.p, body.n, &answer, NULL) == GW_OK) {
        error = gw_map_get(&answer, "error");
    }
    const char *message = gw_map_str(error, "message", "");
    if (!message[0]) {
        return gw_fail(why, code_of_status(status), "the host answered with HTTP status %d",
                       status);
    }
    char name[64];
    snprintf(name, sizeof name, "%s", gw_map_str(error, "code", ""));
    gw_err err = gw_err_from_name(name);
    err = gw_fail(why, err == GW_OK ? GW_EPROTO : err, "%s", message);
    const char *hint = gw_map_str(error, "hint", "");
    if (hint[0]) {
        gw_hint(why, "%s", hint);
    }
    return err;
}

static gw_err read_refusal(struct conn *c, struct buf *in, size_t head, int64_t deadline_ms,
                           struct gw_error *why)
{
    int status = status_of(in);
    size_t body = body_length(in, head);
    while (in->len - head < body) {
        gw_err err = read_more(c, in, deadline_ms, why);
        if (err == GW_EUNREACHABLE || err == GW_ETIMEOUT) {
            break; /* the end of the body, or all that there will be; the status says enough */
        }
        GW_TRY(err);
    }
    size_t n = in->len - head < body ? in->len - head : body;
    return upgrade_refused(status, (struct span){in->data + head, n}, why);
}

gw_err upgrade_client(struct conn *c, const char *authority, const char *token, struct buf *in,
                      int64_t deadline_ms, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf out = {0};
    buf_addf(&out,
             "GET /v1/link HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: godwit/1\r\n"
             "Godwit-Role: client\r\n",
             authority);
    if (token) {
        buf_addf(&out, "Authorization: Bearer %s\r\n", token);
    }
    buf_addf(&out, "\r\n");
    if (!buf_ok(&out)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_TRY(write_all(c, buf_span(&out), deadline_ms, why));
    size_t head;
    while ((head = head_length(in)) == 0) {
        if (in->len > LIMIT_HTTP_HEADER_BYTES) {
            return gw_fail(why, GW_EPROTO, "the host sent an HTTP head above %u bytes",
                           LIMIT_HTTP_HEADER_BYTES);
        }
        GW_TRY(read_more(c, in, deadline_ms, why));
    }
    int status = status_of(in);
    if (status == 0) {
        return gw_fail(why, GW_EPROTO, "what answers there is no Godwit host");
    }
    if (status != 101) {
        return read_refusal(c, in, head, deadline_ms, why);
    }
    buf_drop(in, head);
    return GW_OK;
}
