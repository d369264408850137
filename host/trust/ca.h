/* The CA of a mesh under $GODWIT_HOME/mesh: made once by the first host of a home, silently.
 *
 * Files: ca.key (signers only), ca.crt, mesh.json. They are written in this order, so ca.crt, whose
 * URI SAN holds the mesh id, is what makes a mesh exist: a start that was killed before it leaves
 * at most a key that nobody has seen, and the next start uses that one. mesh.json is for people and
 * for hints. */
#ifndef HOST_TRUST_CA_H
#define HOST_TRUST_CA_H

#include "host/trust/certs.h"

#define CA_LIFE_MS    (3652LL * 24 * 3600 * 1000) /* 10 years */
#define CERT_LIFE_MS  (90LL * 24 * 3600 * 1000)   /* hosts and operators */
#define CERT_RENEW_MS (30LL * 24 * 3600 * 1000)   /* left when it is renewed: from day 60 */
#define CA_URL_BYTES  256

struct ca {
    X509 *cert;
    EVP_PKEY *key; /* NULL when this home is not a signer */
    char mesh_id[MESH_ID_TEXT];
    bool fresh; /* made by this call */
};

/* Open the CA of the mesh, or make one when the directory holds no mesh. The caller holds the lock.
 * Errors: GW_ECORRUPT (a file is damaged or missing; nothing is overwritten), GW_EEXPIRED,
 * GW_EREFUSED (clock is obviously wrong, so a new CA would expire at once), GW_EDENIED, GW_EIO. */
gw_err ca_open(const char *mesh_dir, int64_t now_ms, struct ca **ret,
               struct gw_error *why) GW_MUST_USE;
void ca_close(struct ca *ca); /* NULL allowed */
/* Host certificate, 90 days from now. Signers only (ca->key). */
gw_err ca_issue_host(const struct ca *ca, const char *name, const struct host_id *id, EVP_PKEY *key,
                     int64_t now_ms, X509 **ret) GW_MUST_USE;
/* Make operator.key and operator.crt, or renew the certificate when it is due. Signers only. */
gw_err ca_ensure_operator(const struct ca *ca, const char *mesh_dir, int64_t now_ms,
                          struct gw_error *why) GW_MUST_USE;
/* Whether a certificate should be replaced now: less than CERT_RENEW_MS left, or begins in the
 * future. */
bool ca_is_due(int64_t from_ms, int64_t until_ms, int64_t now_ms);
/* The mesh id in a CA certificate; GW_ECORRUPT when it is none. */
gw_err ca_mesh_id(X509 *cert, char ret[MESH_ID_TEXT], struct gw_error *why) GW_MUST_USE;
/* Write mesh.json; signer_url NULL for signers themselves. */
gw_err ca_write_info(const char *mesh_dir, const char *mesh_id, const char *signer_url,
                     struct gw_error *why) GW_MUST_USE;
/* URL of a host that can sign, as far as this home knows; "" otherwise. */
void ca_signer_url(const char *mesh_dir, char ret[CA_URL_BYTES]);
int64_t ca_now_ms(void); /* wall clock */

#endif
