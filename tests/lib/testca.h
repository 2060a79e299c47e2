/* testca.h - throwaway certificate authorities and certificates, made in process by GnuTLS.
 *
 * Keys are ECDSA P-256 unless asked otherwise; nothing touches a file. All PEM texts are malloc'ed, NUL-terminated
 * and the caller's. A failure of GnuTLS aborts the program: there is no test without them.
 */
#ifndef ADIT_TESTS_LIB_TESTCA_H
#define ADIT_TESTS_LIB_TESTCA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct testca;

#define TESTCA_NAMES 16
#define TESTCA_DAY INT64_C(86400)

struct testca_spec {
    const char *names[TESTCA_NAMES]; /* DNS subject alternative names */
    const char *ips[TESTCA_NAMES];   /* IP subject alternative names */
    const char *cn;                  /* common name; NULL: "leaf" */
    int64_t from, until;             /* seconds from now; both 0: -1 day to +30 days */
    bool ca;                         /* basicConstraints CA:TRUE, may sign certificates */
    bool for_clients;                /* extended key usage client instead of server */
    bool sha1;                       /* signed with SHA-1 */
    unsigned rsa_bits;               /* an RSA key of this size instead of ECDSA */
    const char *permit;              /* name constraint of a CA: only below this DNS name */
};

/* A root, valid from a day ago for a year. */
struct testca *testca_new(const char *cn);
/* A CA issued by `parent` (NULL: by itself) with the dates, constraints and algorithms of `spec`. */
struct testca *testca_new_under(struct testca *parent, const struct testca_spec *spec);
/* Makes an issuer of any certificate and its key, even of one that may not issue. */
struct testca *testca_from_pem(const char *cert_pem, const char *key_pem);
void testca_free(struct testca *ca);
/* The CA's own certificate. */
char *testca_pem(const struct testca *ca);

/* A certificate and its key. ca NULL: self-signed. Only the leaf's PEM: append those of the CAs for a chain. */
void testca_issue(struct testca *ca, const struct testca_spec *spec, char **cert_pem, char **key_pem);

/* What the CA's OCSP responder says about a certificate that it issued: malloc'ed, the caller's. */
unsigned char *testca_ocsp(const struct testca *ca, const char *cert_pem, bool revoked, size_t *n);

/* The texts one after the other, up to a NULL; none of them is freed. */
char *testca_join(const char *first, ...) __attribute__((sentinel));

#endif
