/* The joining side's connection: blocking TLS that trusts one pinned CA, and one HTTP/1.1 POST on
 * it with a bounded answer. Start-up only, before there is a loop; LIMIT_JOIN_MS for everything on
 * one connection (resolving the name aside). Not thread-safe. */
#ifndef HOST_TRUST_PINNED_H
#define HOST_TRUST_PINNED_H

#include <openssl/ssl.h>

#include "host/trust/certs.h"

struct pinned;

/* Connect and shake hands. The CA is taken from the server's chain by its fingerprint, then the
 * chain is verified to exactly this CA. Errors: GW_EUNREACHABLE, GW_ETIMEOUT, GW_EARG (URL),
 * GW_EDENIED (another CA, bad certificate); `why` does not repeat the URL. */
gw_err pinned_open(const char *url, const uint8_t pin[CERTS_FINGERPRINT_BYTES], struct pinned **ret,
                   struct gw_error *why) GW_MUST_USE;
void pinned_close(struct pinned **w); /* for GW_AUTO */
SSL *pinned_ssl(struct pinned *w);
X509 *pinned_ca(struct pinned *w); /* the pinned CA; borrowed */
/* POST a JSON body. GW_EUNREACHABLE (cut off), GW_ETIMEOUT, GW_EPROTO (not HTTP, or too large). */
gw_err pinned_post(struct pinned *w, const char *path, struct span body, int *ret_status,
                   struct buf *ret_body, struct gw_error *why) GW_MUST_USE;

#endif
