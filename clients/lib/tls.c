#include "clients/lib/tls.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "clients/lib/file.h"
#include "protocol/base/id.h"

/* ---- a socket BIO that never raises SIGPIPE (the stock one writes with write(2)) ---- */

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static int bio_fd(BIO *b)
{
    return (int)(intptr_t)BIO_get_data(b);
}

static int bio_write(BIO *b, const char *data, int n)
{
    ssize_t done = send(bio_fd(b), data, (size_t)n, MSG_NOSIGNAL);
    BIO_clear_retry_flags(b);
    if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        BIO_set_retry_write(b);
    }
    return (int)done;
}

static int bio_read(BIO *b, char *data, int n)
{
    ssize_t done = recv(bio_fd(b), data, (size_t)n, 0);
    BIO_clear_retry_flags(b);
    if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        BIO_set_retry_read(b);
    }
    return (int)done;
}

static long bio_ctrl(BIO *b, int command, long number, void *pointer)
{
    (void)b;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static void bio_make(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "client socket");
    if (m) {
        BIO_meth_set_write(m, bio_write);
        BIO_meth_set_read(m, bio_read);
        BIO_meth_set_ctrl(m, bio_ctrl);
    }
    bio_method = m;
}

/* ---- files of the mesh ---- */

/* NULL when it cannot be read or is no certificate; *ret_missing tells a file that is not there. */
static X509 *read_certificate(const char *path, bool *ret_missing)
{
    FILE *f = fopen(path, "re");
    *ret_missing = !f && errno == ENOENT;
    X509 *cert = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    if (f) {
        fclose(f);
    }
    ERR_clear_error();
    return cert;
}

/* The one URI among the alternative names, without NUL inside; NULL, or for free(). */
static char *only_uri(X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    const ASN1_IA5STRING *found = NULL;
    int uris = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_URI) {
            found = name->d.uniformResourceIdentifier;
            uris++;
        }
    }
    char *uri = NULL;
    if (uris == 1) {
        const char *p = (const char *)ASN1_STRING_get0_data(found);
        size_t n = (size_t)ASN1_STRING_length(found);
        uri = memchr(p, 0, n) ? NULL : strndup(p, n);
    }
    GENERAL_NAMES_free(names);
    return uri;
}

/* The CA names its mesh in a URI of its own: spiffe://<mesh_id>. */
gw_err tls_mesh_id(const char *home, char ret[TLS_MESH_ID_TEXT], struct gw_error *why)
{
    static const char scheme[] = "spiffe://";
    char path[FILE_PATH_BYTES];
    bool missing;
    gw_id id;
    GW_TRY(file_join(path, why, home, "mesh/ca.crt"));
    X509 *cert = read_certificate(path, &missing);
    if (missing) {
        ret[0] = '\0';
        return GW_OK;
    }
    GW_AUTO(free_charp) char *uri = cert ? only_uri(cert) : NULL;
    X509_free(cert);
    if (!uri || strncmp(uri, scheme, sizeof scheme - 1) != 0 ||
        gw_id_parse(uri + sizeof scheme - 1, &id) != GW_OK) {
        return gw_fail(why, GW_ECORRUPT, "\"%s\" cannot be read as the certificate of a mesh",
                       path);
    }
    gw_id_text(&id, ret);
    return GW_OK;
}

gw_err tls_certificate_end(const char *path, gw_time *ret)
{
    bool missing;
    X509 *cert = read_certificate(path, &missing);
    struct tm tm;
    if (missing) {
        return GW_ENOT_FOUND;
    }
    bool ok = cert && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1;
    X509_free(cert);
    if (!ok) {
        return GW_ECORRUPT;
    }
    ret->ms = (int64_t)timegm(&tm) * 1000;
    return GW_OK;
}

/* Why a PEM file did not load, from the file system's view first. `own`: it is our credential. */
static gw_err load_failed(const char *path, bool own, struct gw_error *why)
{
    ERR_clear_error();
    if (access(path, R_OK) == 0) {
        return gw_fail(why, GW_ECORRUPT, "\"%s\" is damaged", path);
    }
    int code = errno;
    gw_err err = code != ENOENT ? GW_EDENIED : own ? GW_EUNAUTHENTICATED : GW_ENOT_FOUND;
    err = gw_fail(why, err, "cannot read \"%s\": %s", path, strerror(code));
    gw_hint(why, own ? "the machine that made the mesh has it; elsewhere use --token-file, or the "
                       "name of a host that runs here"
                     : "a URL needs the mesh certificate: set GODWIT_HOME to a home of that mesh");
    return err;
}

static gw_err load_files(SSL_CTX *ctx, const char *home, bool with_certificate,
                         struct gw_error *why)
{
    char ca[FILE_PATH_BYTES], crt[FILE_PATH_BYTES], key[FILE_PATH_BYTES];
    GW_TRY(file_join(ca, why, home, "mesh/ca.crt"));
    GW_TRY(file_join(crt, why, home, "mesh/operator.crt"));
    GW_TRY(file_join(key, why, home, "mesh/operator.key"));
    if (SSL_CTX_load_verify_file(ctx, ca) != 1) {
        return load_failed(ca, false, why);
    }
    if (!with_certificate) {
        return GW_OK;
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, crt) != 1) {
        return load_failed(crt, true, why);
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        return load_failed(key, true, why);
    }
    return GW_OK;
}

gw_err tls_open(const char *home, bool with_certificate, struct tls **ret, struct gw_error *why)
{
    struct tls *t = calloc(1, sizeof *t);
    SSL_CTX *ctx = t ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (!ctx) {
        free(t);
        return gw_fail(why, GW_ENOMEM, "out of memory for TLS");
    }
    t->ctx = ctx;
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_read_ahead(ctx, 1); /* header and body of a record in one recv */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    gw_err err = load_files(ctx, home, with_certificate, why);
    if (err == GW_OK) {
        err = tls_mesh_id(home, t->mesh_id, why);
    }
    if (err != GW_OK) {
        tls_free(t);
        return err;
    }
    *ret = t;
    return GW_OK;
}

void tls_free(struct tls *t)
{
    if (t) {
        SSL_CTX_free(t->ctx);
        free(t);
    }
}

/* ---- identity ---- */

bool tls_names_host(const char *mesh_id, const char *uri, size_t n)
{
    char prefix[64], id[HOST_ID_TEXT];
    int len = snprintf(prefix, sizeof prefix, "spiffe://%s/host/", mesh_id);
    struct host_id host;
    if (len < 0 || (size_t)len >= sizeof prefix || n != (size_t)len + HOST_ID_TEXT - 1 ||
        memcmp(uri, prefix, (size_t)len) != 0 || memchr(uri, 0, n)) {
        return false;
    }
    memcpy(id, uri + len, HOST_ID_TEXT - 1);
    id[HOST_ID_TEXT - 1] = '\0';
    return host_id_parse(id, &host) == GW_OK;
}

static bool certificate_names_host(const struct tls *t, X509 *cert)
{
    GW_AUTO(free_charp) char *uri = only_uri(cert);
    return uri && tls_names_host(t->mesh_id, uri, strlen(uri));
}

static gw_err check_peer(const struct tls *t, SSL *ssl, const char *url, struct gw_error *why)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    if (!cert || SSL_get_verify_result(ssl) != X509_V_OK || !certificate_names_host(t, cert)) {
        return gw_fail(why, GW_EIDENTITY, "\"%s\" is not a host of this mesh (%s)", url,
                       t->mesh_id);
    }
    return GW_OK;
}

/* ---- one connection ---- */

gw_err tls_start(struct tls *t, int fd, SSL **ret, struct gw_error *why)
{
    pthread_once(&bio_once, bio_make);
    SSL *ssl = bio_method ? SSL_new(t->ctx) : NULL;
    BIO *bio = ssl ? BIO_new(bio_method) : NULL;
    if (!bio) {
        SSL_free(ssl);
        ERR_clear_error();
        return gw_fail(why, GW_ENOMEM, "out of memory for TLS");
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_connect_state(ssl);
    *ret = ssl;
    return GW_OK;
}

/* What went wrong, from the verification and the error queue; the queue is empty afterwards. */
static gw_err ssl_failed(SSL *ssl, const char *url, struct gw_error *why)
{
    long verify = SSL_get_verify_result(ssl);
    unsigned long code = ERR_peek_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    if (verify != X509_V_OK) {
        return gw_fail(why, verify == X509_V_ERR_CERT_HAS_EXPIRED ? GW_EEXPIRED : GW_EIDENTITY,
                       "the certificate of \"%s\" is not valid in this mesh: %s", url,
                       X509_verify_cert_error_string(verify));
    }
    /* Reasons from 1000 are alerts of the other end; these are about certificates. */
    switch (ERR_GET_REASON(code)) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
        return gw_fail(why, GW_EDENIED, "\"%s\" refused our certificate: %s", url,
                       text ? text : "no reason");
    default:
        return gw_fail(why, GW_EUNREACHABLE, "the connection to \"%s\" was lost: %s", url,
                       text ? text : "closed by the host");
    }
}

/* GW_EAGAIN with *needs set, or the failure. */
static gw_err outcome(SSL *ssl, int result, const char *url, short *needs, struct gw_error *why)
{
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ: *needs = POLLIN; return GW_EAGAIN;
    case SSL_ERROR_WANT_WRITE: *needs = POLLOUT; return GW_EAGAIN;
    default: return ssl_failed(ssl, url, why);
    }
}

gw_err tls_handshake(struct tls *t, SSL *ssl, const char *url, short *needs, struct gw_error *why)
{
    ERR_clear_error();
    int result = SSL_do_handshake(ssl);
    if (result != 1) {
        return outcome(ssl, result, url, needs, why);
    }
    return check_peer(t, ssl, url, why);
}

gw_err tls_read(SSL *ssl, struct buf *in, short *needs, struct gw_error *why)
{
    bool some = false;
    /* Records hold at most 16 KiB: take all that are there, so that one wake-up serves them. */
    while (in->len < in->cap) {
        size_t n = 0;
        ERR_clear_error();
        int result = SSL_read_ex(ssl, in->data + in->len, in->cap - in->len, &n);
        if (result != 1) {
            return some ? GW_OK : outcome(ssl, result, "host", needs, why);
        }
        in->len += n;
        some = true;
    }
    return GW_OK;
}

gw_err tls_write(SSL *ssl, struct span data, size_t *ret_written, short *needs,
                 struct gw_error *why)
{
    ERR_clear_error();
    int result = SSL_write_ex(ssl, data.p, data.n, ret_written);
    return result == 1 ? GW_OK : outcome(ssl, result, "host", needs, why);
}

void tls_end(SSL *ssl)
{
    if (SSL_is_init_finished(ssl)) {
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    ERR_clear_error();
}
