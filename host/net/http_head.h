/* The head of an HTTP/1.x request: a strict parser without I/O (RFC 9112; no folded lines, no bare
 * LF, no transfer coding but chunked, and that one only where the connection is handed over). */
#ifndef HOST_NET_HTTP_HEAD_H
#define HOST_NET_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <godwit/err.h>

#include "protocol/limits.h"

struct http_head {
    const char *method; /* all borrowed from the text, NUL-terminated */
    const char *path;   /* begins with '/' */
    const char *query;  /* behind '?', "" when none */
    struct {
        const char *name, *value;
    } headers[LIMIT_HTTP_HEADERS];
    size_t header_count;
    uint64_t body_bytes;  /* Content-Length, 0 when none */
    bool chunked;         /* the body comes in chunks instead (http_body.h) */
    bool keep_alive;      /* the client wants the connection afterwards */
    bool http_1_0;        /* takes no chunked answers */
    bool expect_continue; /* waits for "100 Continue" before it sends the body */
};

/* Length of the whole head at the start of `text`, blank line included; 0 when it is not whole yet.
 * `*scanned` (begin with 0) remembers how far was looked. */
size_t http_head_length(const char *text, size_t n, size_t *scanned);
/* Parse one whole head of n bytes in place (separators become NUL). On failure ret_status is the
 * HTTP status to answer: 400, 411, 414, 417, 431, 501, 505. */
gw_err http_head_parse(char *text, size_t n, struct http_head *ret, int *ret_status,
                       struct gw_error *why) GW_MUST_USE;
/* Value of the first header of that name (any case), or NULL. */
const char *http_head_get(const struct http_head *h, const char *name);
const char *http_head_get_once(const struct http_head *h, const char *name); /* NULL: twice, too */
/* Whether a comma-separated header value has this word (any case). */
bool http_head_has_word(const char *value, const char *word);

#endif
