/* The HTTP upgrade that turns a connection into a link (PROTOCOL.md section 1). */
#ifndef CLIENTS_LIB_UPGRADE_H
#define CLIENTS_LIB_UPGRADE_H

#include "clients/lib/conn.h"

/* Ask for GET /v1/link as a client and wait for 101.
 *   authority  for the Host header;  token  bearer token or NULL
 *   in         gets the bytes that came after the head of the answer: the first frames
 * Errors: the host's own (its JSON error body is read); GW_EPROTO no HTTP answer, or a head above
 * LIMIT_HTTP_HEADER_BYTES; those of conn_read and conn_wait. */
gw_err upgrade_client(struct conn *c, const char *authority, const char *token, struct buf *in,
                      int64_t deadline_ms, struct gw_error *why) GW_MUST_USE;
/* What a host means by an answer other than 101 with this body. Always an error. */
gw_err upgrade_refused(int status, struct span body, struct gw_error *why) GW_MUST_USE;

#endif
