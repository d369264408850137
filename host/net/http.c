/* One request as its handler sees it, and the writing of answers. */
#include <stdlib.h>
#include <string.h>

#include "host/net/http_private.h"
#include "protocol/base/log.h"
#include "protocol/json.h"

struct http_call *call_new(struct conn *c)
{
    struct http_call *call = xcalloc(1, sizeof *call);
    call->conn = c;
    call->role = c->role;
    call->head.method = call->head.path = call->head.query = "";
    return call;
}

void call_free(struct http_call *call)
{
    free(call->text);
    buf_free(&call->body);
    buf_free(&call->extra);
    free(call);
}

void call_gone(struct http_call *call)
{
    void (*on_gone)(void *) = call->on_gone;
    call->conn = NULL;
    call->on_gone = NULL;
    if (on_gone) {
        on_gone(call->gone_arg);
    }
}

const char *http_method(const struct http_call *c)
{
    return c->head.method;
}

const char *http_path(const struct http_call *c)
{
    return c->head.path;
}

const char *http_query(const struct http_call *c)
{
    return c->head.query;
}

const char *http_header(const struct http_call *c, const char *name)
{
    return http_head_get(&c->head, name);
}

const char *http_header_once(const struct http_call *c, const char *name)
{
    return http_head_get_once(&c->head, name);
}

struct span http_body(struct http_call *c)
{
    return buf_span(&c->body);
}

api_role http_role(const struct http_call *c)
{
    return c->role;
}

SSL *http_ssl(const struct http_call *c)
{
    return c->conn ? c->conn->io.ssl : NULL;
}

const char *http_status_text(int status)
{
    switch (status) {
    case 101: return "Switching Protocols";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    default: return "Unknown";
    }
}

void http_set_header(struct http_call *c, const char *name, const char *value)
{
    gw_assert(!strpbrk(name, "\r\n") && !strpbrk(value, "\r\n"));
    buf_addf(&c->extra, "%s: %s\r\n", name, value);
}

/* Whether the connection can take another request after this one. */
static bool stays(const struct http_call *c)
{
    return c->head.keep_alive && !c->conn->last;
}

static void write_head(struct http_call *c, int status, const char *content_type)
{
    struct buf *out = &c->conn->out;
    buf_addf(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", status, http_status_text(status),
             content_type);
    buf_add(out, c->extra.data, c->extra.len);
    if (!stays(c)) {
        c->conn->last = true;
        buf_addf(out, "Connection: close\r\n");
    } else if (c->head.http_1_0) {
        buf_addf(out, "Connection: keep-alive\r\n");
    }
}

/* The call is answered: its connection goes on. */
static void finish(struct http_call *call)
{
    struct conn *c = call->conn;
    if (!buf_ok(&c->out)) { /* out of memory: half an answer would be worse than none */
        buf_free(&c->out);
        c->out_at = 0;
        c->last = true;
    }
    c->call = NULL;
    conn_answered(c);
    call_free(call);
}

void http_answer(struct http_call *c, int status, const char *content_type, struct span body)
{
    gw_assert(!c->streaming);
    if (!c->conn) {
        call_free(c);
        return;
    }
    write_head(c, status, content_type);
    buf_addf(&c->conn->out, "Content-Length: %zu\r\n\r\n", body.n);
    if (!c->is_head) {
        buf_add(&c->conn->out, body.p, body.n);
    }
    finish(c);
}

void http_error_body(const struct gw_error *why, struct buf *out)
{
    gw_value doc = gw_nil(), error = gw_nil();
    gw_err err = gw_map_set(&error, "code", gw_str(gw_err_name(why->code)));
    if (err == GW_OK) {
        err = gw_map_set(&error, "message", gw_str(why->text));
    }
    if (err == GW_OK) {
        err = gw_map_set(&error, "hint", gw_str(why->hint));
    }
    if (err == GW_OK) {
        err = gw_map_set(&doc, "error", error);
        error = gw_nil();
    }
    if (err != GW_OK || json_write(&doc, 0, out) != GW_OK) {
        buf_reset(out);
    }
    buf_addf(out, "\n");
    gw_value_free(&error);
    gw_value_free(&doc);
}

void http_answer_status(struct http_call *c, int status, const struct gw_error *why)
{
    struct buf body = {0};
    http_error_body(why, &body);
    if (status == 401) {
        http_set_header(c, "WWW-Authenticate", "Bearer");
    }
    if (status == 429 || status == 503) {
        http_set_header(c, "Retry-After", "1");
    }
    http_answer(c, status, "application/json", buf_span(&body));
    buf_free(&body);
}

void http_answer_error(struct http_call *c, const struct gw_error *why)
{
    http_answer_status(c, gw_err_http(why->code), why);
}

void http_stream_begin(struct http_call *c, const char *content_type, void (*on_gone)(void *arg),
                       void *arg)
{
    gw_assert(!c->streaming);
    c->streaming = true;
    if (!c->conn) {
        return;
    }
    c->on_gone = on_gone;
    c->gone_arg = arg;
    c->chunked = !c->head.http_1_0;
    if (!c->chunked) {
        c->conn->last = true; /* its end is the end of the connection */
    }
    write_head(c, 200, content_type);
    buf_addf(&c->conn->out, "Cache-Control: no-store\r\n%s\r\n",
             c->chunked ? "Transfer-Encoding: chunked\r\n" : "");
    conn_streams(c->conn);
}

bool http_stream_write(struct http_call *c, struct span data)
{
    gw_assert(c->streaming);
    if (!c->conn) {
        return false;
    }
    if (c->is_head || data.n == 0) {
        return true;
    }
    struct buf *out = &c->conn->out;
    if (out->len - c->conn->out_at + data.n > LIMIT_HTTP_STREAM_BYTES) {
        buf_free(out);
        out->failed = true;
    }
    if (c->chunked) {
        buf_addf(out, "%zx\r\n", data.n);
    }
    buf_add(out, data.p, data.n);
    if (c->chunked) {
        buf_addf(out, "\r\n");
    }
    if (!buf_ok(out)) {
        conn_abandon(c->conn);
        return false;
    }
    conn_turn(c->conn);
    return true;
}

void http_stream_end(struct http_call *c)
{
    gw_assert(c->streaming);
    if (!c->conn) {
        call_free(c);
        return;
    }
    if (c->chunked && !c->is_head) {
        buf_addf(&c->conn->out, "0\r\n\r\n");
    }
    finish(c);
}
