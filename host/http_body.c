#include "host/http_body.h"

#include <string.h>

#define LINE_BYTES    1024 /* of a chunk's head, with extensions, and of a trailer */
#define TRAILER_LINES 32
#define SIZE_DIGITS   15 /* 2^60 bytes */

void http_body_init(struct http_body *b, const struct http_head *head, struct bulk_io *io)
{
    b->io = io;
    b->left = head->chunked ? 0 : head->body_bytes;
    b->chunked = head->chunked;
    b->begun = b->ended = false;
    b->expected = head->expect_continue && (head->chunked || head->body_bytes > 0);
    b->raw_at = b->raw_len = 0;
}

/* From the connection. */
static gw_err pull(struct http_body *b, void *to, size_t room, size_t *ret_n, struct gw_error *why)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    gw_err err = GW_OK;
    if (b->expected) {
        b->expected = false;
        err = bulk_write(b->io, go_on, sizeof go_on - 1);
    }
    err = err ? err : bulk_read(b->io, to, room, ret_n);
    if (err == GW_ENOT_FOUND) {
        return gw_fail(why, GW_EUNREACHABLE, "the connection ended before the body");
    }
    if (err != GW_OK) {
        b->io->describe(b->io->ctx, why);
    }
    return err;
}

/* --- chunks --- */

static gw_err next_byte(struct http_body *b, uint8_t *ret, struct gw_error *why)
{
    if (b->raw_at == b->raw_len) {
        size_t n = 0;
        GW_TRY(pull(b, b->raw, sizeof b->raw, &n, why));
        b->raw_at = 0;
        b->raw_len = n;
    }
    *ret = b->raw[b->raw_at++];
    return GW_OK;
}

/* One line without its end, NUL-terminated. */
static gw_err read_line(struct http_body *b, char ret[LINE_BYTES], struct gw_error *why)
{
    uint8_t c = 0;
    for (size_t n = 0; n < LINE_BYTES; n++) {
        GW_TRY(next_byte(b, &c, why));
        if (c == '\r') {
            GW_TRY(next_byte(b, &c, why));
            ret[n] = '\0';
            return c == '\n' ? GW_OK : gw_fail(why, GW_EPROTO, "a line of the body has a stray CR");
        }
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            return gw_fail(why, GW_EPROTO, "a line between chunks has control characters");
        }
        ret[n] = (char)c;
    }
    return gw_fail(why, GW_EPROTO, "a line between chunks is longer than %d bytes", LINE_BYTES);
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static gw_err parse_size(const char *line, uint64_t *ret, struct gw_error *why)
{
    uint64_t size = 0;
    size_t n = 0;
    while (n <= SIZE_DIGITS && digit(line[n]) >= 0) {
        size = size << 4 | (uint64_t)digit(line[n++]);
    }
    const char *rest = line + n + strspn(line + n, " \t");
    if (n == 0 || n > SIZE_DIGITS || (*rest && *rest != ';')) {
        return gw_fail(why, GW_EPROTO, "the length of a chunk is not valid");
    }
    *ret = size;
    return GW_OK;
}

static gw_err skip_trailers(struct http_body *b, struct gw_error *why)
{
    char line[LINE_BYTES];
    for (int i = 0; i < TRAILER_LINES; i++) {
        GW_TRY(read_line(b, line, why));
        if (!line[0]) {
            b->ended = true;
            return GW_OK;
        }
    }
    return gw_fail(why, GW_EPROTO, "more than %d trailers", TRAILER_LINES);
}

static gw_err next_chunk(struct http_body *b, struct gw_error *why)
{
    char line[LINE_BYTES];
    if (b->begun) {
        GW_TRY(read_line(b, line, why));
        if (line[0]) {
            return gw_fail(why, GW_EPROTO, "a chunk is longer than it says");
        }
    }
    b->begun = true;
    GW_TRY(read_line(b, line, why));
    GW_TRY(parse_size(line, &b->left, why));
    return b->left == 0 ? skip_trailers(b, why) : GW_OK;
}

gw_err http_body_read(struct http_body *b, void *to, size_t room, size_t *ret_n,
                      struct gw_error *why)
{
    if (b->left == 0 && b->chunked && !b->ended) {
        GW_TRY(next_chunk(b, why));
    }
    if (b->left == 0) {
        return GW_ENOT_FOUND;
    }
    size_t n = b->left < room ? (size_t)b->left : room;
    size_t ready = b->raw_len - b->raw_at;
    if (ready > 0) {
        n = n < ready ? n : ready;
        memcpy(to, b->raw + b->raw_at, n);
        b->raw_at += n;
    } else {
        GW_TRY(pull(b, to, n, &n, why));
    }
    b->left -= n;
    *ret_n = n;
    return GW_OK;
}
