/* creds_why.h - the sentences of a refused certificate.
 *
 * Private to src/session: creds.c decides, this says why. One line each, foreign text reduced to plain ASCII,
 * always terminated, cut to the room given.
 */
#ifndef ADIT_SESSION_CREDS_WHY_H
#define ADIT_SESSION_CREDS_WHY_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdbool.h>

/* What the peer sent, leaf first. Memory of the GnuTLS session; leaf is imported from der[0]. */
struct creds_chain {
    const gnutls_datum_t *der;
    unsigned count;
    gnutls_x509_crt_t leaf;
    bool custom; /* the trust came from the configuration, not from the system's store */
};

/* status: a non-empty set of gnutls_certificate_status_t; the most telling one makes the sentence. */
void creds_why_status(const struct creds_chain *chain, unsigned status, char *why, size_t cap);
/* The certificate is for other names than `wanted`. untrusted: and its chain does not lead to our trust either, which is
 * what the page of a captive portal looks like. */
void creds_why_name(const struct creds_chain *chain, const char *wanted, bool untrusted, char *why, size_t cap);
/* key: the SHA-256 of the public key that was seen. */
void creds_why_pin(const unsigned char *key, size_t n, size_t pins, char *why, size_t cap);

#endif
