/* The body of a request whose connection was handed over (bulk.h), of any length: by Content-Length
 * or in chunks (RFC 9112 7.1), without its framing. Extensions of chunks and trailers are read
 * over. Belongs to the thread that serves the request. */
#ifndef HOST_HTTP_BODY_H
#define HOST_HTTP_BODY_H

#include "host/bulk.h"

#define HTTP_BODY_RAW_BYTES (16u * 1024)

struct http_body {
    struct bulk_io *io;
    uint64_t left;          /* of the body, or of the present chunk */
    bool chunked;           /* the length is not known before the end */
    bool begun, ended;      /* a first chunk has come; the last one has */
    bool expected;          /* the client waits for "100 Continue" */
    size_t raw_at, raw_len; /* chunked: bytes that were read and not used */
    uint8_t raw[HTTP_BODY_RAW_BYTES];
};

void http_body_init(struct http_body *b, const struct http_head *head, struct bulk_io *io);
/* 1..room bytes of the body; a client that waits to be told is told to go on. GW_ENOT_FOUND: that
 * was all; GW_EPROTO: the framing is not valid (`why`); GW_EUNREACHABLE: the connection ended
 * before the body; GW_ETIMEOUT, GW_ECANCELLED. */
gw_err http_body_read(struct http_body *b, void *to, size_t room, size_t *ret_n,
                      struct gw_error *why) GW_MUST_USE;

#endif
