#include "clients/lib/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clients/lib/session.h"
#include "clients/lib/upgrade.h"
#include "protocol/json.h"
#include "protocol/limits.h"
#include "protocol/text.h"

#define READ_BYTES (256u * 1024)
#define BODY_BYTES (1024u * 1024) /* of an answer that is read whole */

struct exchange {
    struct session *session;
    struct conn conn;
    int64_t silence_ms;
    bool head_only, chunked; /* of the request */
    struct buf in;           /* what came, the head included until it is parsed */
    size_t in_at;
    char *head; /* of the answer, owned; NULL before */
    int status;
    bool told;   /* to go on */
    bool to_end; /* its body ends with the connection */
    uint64_t left;
};

/* ---- the answer's head ---- */

bool exchange_header(const struct exchange *x, const char *name, char *ret, size_t cap)
{
    size_t n = strlen(name);
    const char *line = x->head ? strstr(x->head, "\r\n") : NULL;
    for (; line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            line += n + 1;
            line += strspn(line, " \t");
            size_t len = strcspn(line, "\r");
            while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t')) {
                len--;
            }
            return span_text((struct span){(const uint8_t *)line, len}, ret, cap);
        }
    }
    return false;
}

/* HTTP/1.1 200 … */
static int status_of(const char *head)
{
    int status = 0;
    if (strncmp(head, "HTTP/1.", 7) != 0 || strlen(head) < 12) {
        return 0;
    }
    for (int i = 9; i < 12; i++) {
        if (head[i] < '0' || head[i] > '9') {
            return 0;
        }
        status = status * 10 + (head[i] - '0');
    }
    return status;
}

static gw_err read_framing(struct exchange *x, struct gw_error *why)
{
    char text[32];
    uint64_t n = 0;
    if (exchange_header(x, "transfer-encoding", text, sizeof text)) {
        return gw_fail(why, GW_EPROTO, "the host answered in chunks");
    }
    bool has_length = exchange_header(x, "content-length", text, sizeof text);
    if (has_length && text_uint(text, &n) != GW_OK) {
        return gw_fail(why, GW_EPROTO, "the host answered with a length that is none");
    }
    bool none = x->head_only || x->status == 204 || x->status == 304;
    x->left = none ? 0 : n;
    x->to_end = !none && !has_length;
    return GW_OK;
}

/* Parse the head when it is all there; answers of 1xx are passed over. */
static gw_err take_head(struct exchange *x, struct gw_error *why)
{
    while (!x->head) {
        size_t n = x->in.len - x->in_at;
        const char *begin = (const char *)x->in.data + x->in_at;
        const char *end = n > 0 ? memmem(begin, n, "\r\n\r\n", 4) : NULL;
        if (!end && n > LIMIT_HTTP_HEADER_BYTES) {
            return gw_fail(why, GW_EPROTO, "the host sent an HTTP head above %u bytes",
                           LIMIT_HTTP_HEADER_BYTES);
        }
        if (!end) {
            return GW_OK;
        }
        size_t length = (size_t)(end - begin) + 4;
        char *head = strndup(begin, length);
        if (!head) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
        x->in_at += length;
        x->status = status_of(head);
        if (x->status < 100) {
            free(head);
            return gw_fail(why, GW_EPROTO, "what answers there is no Godwit host");
        }
        if (x->status < 200) {
            free(head);
            x->told = true;
            continue;
        }
        x->head = head;
        return read_framing(x, why);
    }
    return GW_OK;
}

/* ---- bytes ---- */

/* What is there now: GW_EAGAIN nothing. */
static gw_err read_some(struct exchange *x, struct gw_error *why)
{
    if (x->in_at == x->in.len) {
        buf_reset(&x->in);
        x->in_at = 0;
    }
    GW_TRY(conn_read(&x->conn, &x->in, READ_BYTES, why));
    return x->head ? GW_OK : take_head(x, why);
}

static gw_err read_wait(struct exchange *x, struct gw_error *why)
{
    for (;;) {
        gw_err err = read_some(x, why);
        if (err != GW_EAGAIN) {
            return err;
        }
        GW_TRY(conn_wait(&x->conn, false, conn_deadline(x->silence_ms), why));
    }
}

/* The host has ended the connection while we wrote: it has perhaps said why. */
static gw_err last_words(struct exchange *x, struct gw_error *why)
{
    struct gw_error lost = why ? *why : (struct gw_error){0};
    while (!x->head && read_wait(x, NULL) == GW_OK) {
    }
    if (x->head) {
        return GW_OK;
    }
    if (why) {
        *why = lost;
    }
    return GW_EUNREACHABLE;
}

static gw_err push(struct exchange *x, struct span data, struct gw_error *why)
{
    while (data.n > 0 && !x->head) {
        size_t n = 0;
        gw_err err = atomic_load_explicit(&x->session->interrupted, memory_order_relaxed)
                         ? gw_fail(why, GW_ECANCELLED, "interrupted")
                         : conn_write(&x->conn, data, &n, why);
        if (err == GW_EAGAIN) {
            GW_TRY(conn_wait(&x->conn, true, conn_deadline(x->silence_ms), why));
            err = read_some(x, why);
            err = err == GW_EAGAIN ? GW_OK : err;
        }
        if (err == GW_EUNREACHABLE) {
            return last_words(x, why);
        }
        GW_TRY(err);
        data.p += n;
        data.n -= n;
    }
    return GW_OK;
}

gw_err exchange_send(struct exchange *x, const void *data, size_t n, struct gw_error *why)
{
    char line[24];
    if (n == 0 || x->head) {
        return GW_OK;
    }
    if (x->chunked) {
        int len = snprintf(line, sizeof line, "%zx\r\n", n);
        GW_TRY(push(x, (struct span){(const uint8_t *)line, (size_t)len}, why));
    }
    GW_TRY(push(x, (struct span){data, n}, why));
    return x->chunked ? push(x, (struct span){(const uint8_t *)"\r\n", 2}, why) : GW_OK;
}

bool exchange_is_answered(const struct exchange *x)
{
    return x->head != NULL;
}

gw_err exchange_answer(struct exchange *x, struct gw_error *why)
{
    if (x->chunked) {
        GW_TRY(push(x, (struct span){(const uint8_t *)"0\r\n\r\n", 5}, why));
    }
    while (!x->head) {
        GW_TRY(read_wait(x, why));
    }
    if (x->status < 400) {
        return GW_OK;
    }
    GW_AUTO(buf_free) struct buf body = {0};
    struct span part;
    while (body.len < BODY_BYTES && exchange_read(x, &part, NULL) == GW_OK) {
        buf_add(&body, part.p, part.n);
    }
    return upgrade_refused(x->status, buf_ok(&body) ? buf_span(&body) : (struct span){0}, why);
}

gw_err exchange_read(struct exchange *x, struct span *ret, struct gw_error *why)
{
    if (x->left == 0 && !x->to_end) {
        return GW_ENOT_FOUND;
    }
    if (x->in_at == x->in.len) {
        gw_err err = read_wait(x, why);
        if (err == GW_EUNREACHABLE && x->to_end) {
            return GW_ENOT_FOUND;
        }
        GW_TRY(err);
    }
    size_t n = x->in.len - x->in_at;
    n = !x->to_end && x->left < n ? (size_t)x->left : n;
    *ret = (struct span){x->in.data + x->in_at, n};
    x->in_at += n;
    x->left -= x->to_end ? 0 : n;
    return GW_OK;
}

gw_err exchange_value(struct exchange *x, gw_value *ret, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf body = {0};
    struct span part;
    gw_err err;
    while ((err = exchange_read(x, &part, why)) == GW_OK) {
        buf_add(&body, part.p, part.n);
        if (body.len > BODY_BYTES) {
            return gw_fail(why, GW_EPROTO, "the answer is larger than %u bytes", BODY_BYTES);
        }
    }
    if (err != GW_ENOT_FOUND) {
        return err;
    }
    if (!buf_ok(&body)) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the answer of the host");
    }
    return json_parse((const char *)body.data, body.len, ret, why);
}

/* ---- life ---- */

static gw_err send_head(struct exchange *x, const struct exchange_request *q, struct gw_error *why)
{
    const struct session *s = x->session;
    GW_AUTO(buf_free) struct buf out = {0};
    struct conn_url url = {.host = "localhost"};
    if (!s->target.local) {
        GW_TRY(conn_parse_url(s->target.url, &url, why));
    }
    buf_addf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", q->method, q->path,
             url.host);
    if (s->token[0] && !s->target.local) {
        buf_addf(&out, "Authorization: Bearer %s\r\n", s->token);
    }
    if (x->chunked) {
        buf_addf(&out, "Transfer-Encoding: chunked\r\n");
    } else if (q->body_bytes > 0 || strcmp(q->method, "POST") == 0) {
        buf_addf(&out, "Content-Length: %llu\r\n", (unsigned long long)q->body_bytes);
    }
    bool expect = q->expect && q->body_bytes > 0;
    buf_addf(&out, "%s%s\r\n", expect ? "Expect: 100-continue\r\n" : "",
             q->headers ? q->headers : "");
    if (!buf_ok(&out)) {
        return gw_fail(why, GW_ENOMEM, "out of memory for a request");
    }
    GW_TRY(push(x, buf_span(&out), why));
    while (expect && !x->told && !x->head) {
        GW_TRY(read_wait(x, why));
    }
    return GW_OK;
}

gw_err exchange_open(struct gw_client *client, const struct exchange_request *request,
                     struct exchange **ret, struct gw_error *why)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x) {
        return gw_fail(why, GW_ENOMEM, "out of memory for a request");
    }
    x->session = client_session(client);
    x->conn = (struct conn)CONN_CLOSED;
    x->conn.wake_fd = x->session->wake_fd;
    x->silence_ms = request->silence_ms;
    x->head_only = strcmp(request->method, "HEAD") == 0;
    x->chunked = request->body_bytes == EXCHANGE_CHUNKED;
    gw_err err = session_connect(x->session, &x->conn, conn_deadline(x->session->connect_ms), why);
    err = err ? err : send_head(x, request, why);
    if (err != GW_OK) {
        exchange_close(x);
        return err;
    }
    *ret = x;
    return GW_OK;
}

void exchange_close(struct exchange *x)
{
    if (x) {
        conn_close(&x->conn);
        buf_free(&x->in);
        free(x->head);
        free(x);
    }
}

gw_err exchange_pause(struct gw_client *client, int64_t ms, struct gw_error *why)
{
    return conn_sleep(&client_session(client)->conn, conn_now_ms() + ms, why);
}

void exchange_add_encoded(const char *text, struct buf *out)
{
    for (const char *c = text; *c; c++) {
        bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
                     (*c >= 'A' && *c <= 'Z') || *c == '.' || *c == '-' || *c == '_';
        buf_addf(out, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
}
