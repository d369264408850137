/* TLS 1.3 towards a host: the certificate must chain to the mesh CA and name a host of the mesh in
 * its one URI SAN, spiffe://<mesh_id>/host/<host_id>. The name in the URL is not compared: the
 * identity of a host is its key, and hosts move between addresses. One thread. */
#ifndef CLIENTS_LIB_TLS_H
#define CLIENTS_LIB_TLS_H

#include <openssl/ssl.h>

#include <godwit/types.h>

#include "protocol/base/buf.h"

#define TLS_MESH_ID_TEXT 27

struct tls {
    SSL_CTX *ctx;
    char mesh_id[TLS_MESH_ID_TEXT];
};

/* Read $home/mesh/ca.crt and, when `with_certificate`, operator.{crt,key}.
 * Errors: GW_ENOT_FOUND the home has no mesh; GW_EUNAUTHENTICATED it has no operator certificate;
 * GW_EDENIED a file may not be read; GW_ECORRUPT it does not parse. */
gw_err tls_open(const char *home, bool with_certificate, struct tls **ret,
                struct gw_error *why) GW_MUST_USE;
void tls_free(struct tls *t); /* NULL allowed */
/* The mesh id of a home, from the URI of its CA certificate; "" and GW_OK when it has no mesh. */
gw_err tls_mesh_id(const char *home, char ret[TLS_MESH_ID_TEXT], struct gw_error *why) GW_MUST_USE;
/* When the first certificate of a PEM file ends. GW_ENOT_FOUND, GW_ECORRUPT. */
gw_err tls_certificate_end(const char *path, gw_time *ret) GW_MUST_USE;

/* --- for conn.c: `needs` gets the poll events of a GW_EAGAIN --- */
gw_err tls_start(struct tls *t, int fd, SSL **ret, struct gw_error *why) GW_MUST_USE;
gw_err tls_handshake(struct tls *t, SSL *ssl, const char *url, short *needs,
                     struct gw_error *why) GW_MUST_USE;
gw_err tls_read(SSL *ssl, struct buf *in, short *needs, struct gw_error *why) GW_MUST_USE;
gw_err tls_write(SSL *ssl, struct span data, size_t *ret_written, short *needs,
                 struct gw_error *why) GW_MUST_USE;
void tls_end(SSL *ssl); /* says good-bye if that goes at once, and frees */
/* Whether a URI of n bytes is exactly spiffe://<mesh_id>/host/<host_id>. */
bool tls_names_host(const char *mesh_id, const char *uri, size_t n);

#endif
