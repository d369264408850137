#include "host/net/http_head.h"

#include <string.h>
#include <strings.h>

#define METHOD_BYTES 16
#define TARGET_BYTES 8192

size_t http_head_length(const char *text, size_t n, size_t *scanned)
{
    size_t from = *scanned > 3 ? *scanned - 3 : 0;
    const char *end = n > from ? memmem(text + from, n - from, "\r\n\r\n", 4) : NULL;
    *scanned = n;
    return end ? (size_t)(end - text) + 4 : 0;
}

static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static gw_err fail(struct gw_error *why, int *ret_status, int status, gw_err code, const char *text)
{
    *ret_status = status;
    return gw_fail(why, code, "%s", text);
}

/* Cut the next line off: NUL in place of CR. NULL at the end, or for a stray CR or LF. */
static char *next_line(char **at, const char *end)
{
    char *line = *at;
    char *lf = memchr(line, '\n', (size_t)(end - line));
    if (!lf || lf == line || lf[-1] != '\r') {
        return NULL;
    }
    lf[-1] = '\0';
    *at = lf + 1;
    return strlen(line) == (size_t)(lf - 1 - line) && !strchr(line, '\r') ? line : NULL;
}

/* METHOD SP target SP HTTP/1.x */
static gw_err request_line(char *line, struct http_head *h, int *ret_status, struct gw_error *why)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || target == line || target - line > METHOD_BYTES) {
        return fail(why, ret_status, 400, GW_EPROTO, "the request line is not valid");
    }
    *target++ = '\0';
    *version++ = '\0';
    for (const char *c = line; *c; c++) {
        if (!(*c >= 'A' && *c <= 'Z')) {
            return fail(why, ret_status, 400, GW_EPROTO, "the request method is not valid");
        }
    }
    if (strlen(target) > TARGET_BYTES) {
        return fail(why, ret_status, 414, GW_ETOO_BIG, "the request target is too long");
    }
    for (const char *c = target; *c; c++) {
        if (*c <= ' ' || *c > '~' || *c == '#') {
            return fail(why, ret_status, 400, GW_EPROTO, "the request target is not valid");
        }
    }
    if (target[0] != '/') {
        return fail(why, ret_status, 400, GW_EPROTO, "the request target is not a path");
    }
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0) {
        bool http = strncmp(version, "HTTP/", 5) == 0;
        return fail(why, ret_status, http ? 505 : 400, http ? GW_ENOT_SUPPORTED : GW_EPROTO,
                    "only HTTP/1.1 is spoken here");
    }
    h->http_1_0 = version[7] == '0';
    h->method = line;
    h->path = target;
    char *query = strchr(target, '?');
    if (query) {
        *query++ = '\0';
    }
    h->query = query ? query : "";
    return GW_OK;
}

static gw_err header_line(char *line, struct http_head *h, int *ret_status, struct gw_error *why)
{
    if (h->header_count == LIMIT_HTTP_HEADERS) {
        return fail(why, ret_status, 431, GW_ETOO_BIG, "too many header lines");
    }
    char *colon = line;
    while (is_token(*colon)) {
        colon++;
    }
    if (colon == line || *colon != ':') {
        return fail(why, ret_status, 400, GW_EPROTO, "a header line is not valid");
    }
    *colon = '\0';
    char *value = colon + 1;
    while (*value == ' ' || *value == '\t') {
        value++;
    }
    char *end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        *--end = '\0';
    }
    for (const char *c = value; *c; c++) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f) {
            return fail(why, ret_status, 400, GW_EPROTO, "a header value has control characters");
        }
    }
    h->headers[h->header_count].name = line;
    h->headers[h->header_count].value = value;
    h->header_count++;
    return GW_OK;
}

static gw_err content_length(const char *value, struct http_head *h)
{
    uint64_t n = 0;
    if (!*value) {
        return GW_EPROTO;
    }
    for (const char *c = value; *c; c++) {
        if (*c < '0' || *c > '9' || n > (UINT64_MAX - 9) / 10) {
            return GW_EPROTO;
        }
        n = n * 10 + (uint64_t)(*c - '0');
    }
    h->body_bytes = n;
    return GW_OK;
}

/* What the headers say about the body and the connection. */
static gw_err framing(struct http_head *h, int *ret_status, struct gw_error *why)
{
    bool has_length = false;
    h->keep_alive = !h->http_1_0;
    for (size_t i = 0; i < h->header_count; i++) {
        const char *name = h->headers[i].name, *value = h->headers[i].value;
        if (strcasecmp(name, "content-length") == 0) {
            if (has_length || content_length(value, h) != GW_OK) {
                return fail(why, ret_status, 400, GW_EPROTO, "the Content-Length is not valid");
            }
            has_length = true;
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            if (h->chunked || h->http_1_0 || strcasecmp(value, "chunked") != 0) {
                return fail(why, ret_status, 501, GW_ENOT_SUPPORTED,
                            "no transfer coding but \"chunked\" is taken, and that one once");
            }
            h->chunked = true;
        } else if (strcasecmp(name, "connection") == 0) {
            if (http_head_has_word(value, "close")) {
                h->keep_alive = false;
            } else if (http_head_has_word(value, "keep-alive")) {
                h->keep_alive = true;
            }
        } else if (strcasecmp(name, "expect") == 0) {
            if (strcasecmp(value, "100-continue") != 0) {
                return fail(why, ret_status, 417, GW_ENOT_SUPPORTED,
                            "the expectation is not known");
            }
            h->expect_continue = !h->http_1_0;
        }
    }
    if (h->chunked && has_length) { /* the two do not agree: somebody smuggles */
        return fail(why, ret_status, 400, GW_EPROTO,
                    "a request has either a Content-Length or a transfer coding");
    }
    return GW_OK;
}

gw_err http_head_parse(char *text, size_t n, struct http_head *ret, int *ret_status,
                       struct gw_error *why)
{
    *ret = (struct http_head){.method = "", .path = "", .query = ""};
    char *at = text, *end = text + n;
    char *line = next_line(&at, end);
    if (!line) {
        return fail(why, ret_status, 400, GW_EPROTO, "the request line is not valid");
    }
    GW_TRY(request_line(line, ret, ret_status, why));
    while (at < end) {
        line = next_line(&at, end);
        if (!line) {
            return fail(why, ret_status, 400, GW_EPROTO, "a header line is not valid");
        }
        if (!*line) {
            break;
        }
        GW_TRY(header_line(line, ret, ret_status, why));
    }
    return framing(ret, ret_status, why);
}

const char *http_head_get(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->header_count; i++) {
        if (strcasecmp(h->headers[i].name, name) == 0) {
            return h->headers[i].value;
        }
    }
    return NULL;
}

const char *http_head_get_once(const struct http_head *h, const char *name)
{
    const char *found = NULL;
    for (size_t i = 0; i < h->header_count; i++) {
        if (strcasecmp(h->headers[i].name, name) == 0) {
            if (found) {
                return NULL;
            }
            found = h->headers[i].value;
        }
    }
    return found;
}

bool http_head_has_word(const char *value, const char *word)
{
    size_t n = strlen(word);
    while (value && *value) {
        value += strspn(value, " \t,");
        size_t len = strcspn(value, ",");
        size_t trimmed = len;
        while (trimmed > 0 && (value[trimmed - 1] == ' ' || value[trimmed - 1] == '\t')) {
            trimmed--;
        }
        if (trimmed == n && strncasecmp(value, word, n) == 0) {
            return true;
        }
        value += len;
    }
    return false;
}
