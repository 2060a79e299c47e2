/* creds.h - who the peer must be, and who we are: the TLS credentials of sessions, and the one routine that verifies.
 *
 * A `struct creds` is made once per upstream (or per test endpoint), shared by TLS over TCP and by QUIC, immutable after
 * creation (but for the tickets) and counted by reference. Every handshake on either transport is judged by creds_verify();
 * there is no other place that accepts a certificate. Sources: RFC 5280, RFC 9525 (names; no common-name fallback), RFC
 * 8446.
 *
 * Tickets    Session tickets of TLS 1.3 belong to the credentials, so that none outlives a change of what is verified,
 *            and to one transport. A resumed handshake shows no certificate: the chain of the session that the ticket is
 *            from, which is kept with it, is judged anew by creds_verify(), against today's trust, pins and date. Each
 *            is used once. Early data (0-RTT) is never sent. creds_tickets.h has the bounds.
 */
#ifndef ADIT_SESSION_CREDS_H
#define ADIT_SESSION_CREDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct creds;
struct gnutls_session_int; /* GnuTLS's session; the handle type is a pointer to it */

#define CREDS_RANDOM_MAX 32
#define CREDS_PINS_MAX 16
#define CREDS_PIN_LEN 32 /* SHA-256 */
#define CREDS_WHY_MAX 256

/* What the peer's own certificate must match, whoever issued it: the hash of its SubjectPublicKeyInfo (RFC 7469 section
 * 2.4, as curl's "sha256//"), or that of the whole certificate in DER. */
struct creds_pin {
    bool certificate; /* else the public key */
    uint8_t sha256[CREDS_PIN_LEN];
};

/* What of a configuration cannot be used. */
enum creds_fault { CREDS_FAULT_OTHER, CREDS_FAULT_TRUST, CREDS_FAULT_CERTIFICATE };

struct creds_config {
    /* client */
    const char *hostname;      /* the name or IP that the certificate must carry as a SAN */
    const char *sni;           /* sent as SNI instead of hostname; NULL: hostname (nothing is sent for an IP) */
    const char *trust_pem;     /* PEM certificates that are then the only trust; NULL: the system's store. Server: clients
                                * must show a certificate that leads to these; NULL: none is asked for */
    bool skip_verification;    /* without pins: accept any certificate; the session reports `unverified` */
    const struct creds_pin *pins; /* any one that matches will do; at most CREDS_PINS_MAX, 0: none */
    size_t n_pins;
    uint8_t random_prefix[CREDS_RANDOM_MAX]; /* client_random: (random & mask) == (prefix & mask) */
    uint8_t random_mask[CREDS_RANDOM_MAX];
    size_t random_len;         /* 0: none */
    /* A chain, leaf first, and its key. Client: shown to whoever asks for one; NULL: none. */
    const char *certificate_pem;
    const char *key_pem;
    bool server; /* the test endpoint */
    bool tickets; /* server: sends session tickets */
    const void *staple; /* server: an OCSP response (DER, RFC 6960) to be sent with its certificate; NULL: none */
    size_t staple_len;
    enum creds_fault *fault; /* set when creds_new() returns ERR_CONFIG; NULL: not asked for */
};

/* Makes credentials; the strings are copied. On failure returns ERR_CONFIG (a PEM without a usable certificate, a key
 * that does not fit, no system store: the text names what and where) or ERR_NO_MEMORY and writes a sentence to why. */
int creds_new(struct creds **out, const struct creds_config *c, char *why, size_t why_cap);
struct creds *creds_ref(struct creds *c);
void creds_unref(struct creds *c);

/* Judges the peer's certificate of a finished (or just verifying) handshake: chain, dates, purpose, name, and then the
 * pins. With pins and skip_verification the pins alone decide: they say who the peer is, so that is no unverified
 * session. 0, or ERR_UPSTREAM_CERTIFICATE with a sentence in why that says exactly what was wrong ("expired on … (is the
 * clock right? …)", "name mismatch: certificate is for …, not for …", "unknown issuer …", "chain incomplete: the endpoint
 * sent …", "certificate mismatch: captive portal? …", "pin mismatch: …"). Foreign text in it is reduced to plain ASCII.
 * *unverified is set when skip_verification accepted what would have been refused. */
int creds_verify(struct creds *c, struct gnutls_session_int *tls, bool *unverified, char *why, size_t why_cap);

/* What the verify hook of one handshake found. Lives in the owner of the GnuTLS session, at least as long as that. */
struct creds_verdict {
    struct creds *creds; /* not referenced: the owner of the GnuTLS session holds them */
    enum err err;        /* ERR_UPSTREAM_CERTIFICATE once the certificate was refused */
    bool judged;         /* the hook was called */
    bool quic;           /* the transport */
    bool offered;        /* a ticket was */
    bool resumed;        /* and taken */
    bool concluded;      /* creds_conclude() was content */
    bool unverified;     /* see creds_verify */
    char why[CREDS_WHY_MAX];
};

/* Must be called when the handshake of a client is over, before anything is sent: judges what the hook was not asked about,
 * as in a resumed session. 0, or the error in v, and the session must end. */
int creds_conclude(struct creds_verdict *v, struct gnutls_session_int *tls);
/* Must be called before the session goes. When a handshake that offered a ticket came to nothing the other tickets of
 * that transport are forgotten: a peer that chokes on them shall not do so again and again. */
void creds_release(struct creds_verdict *v);
/* Server: after the handshake of a QUIC session a ticket is to be sent. */
bool creds_sends_tickets(const struct creds *c);

/* The tickets as bytes for a file of a later run, secret: wipe and free() them. *p is NULL and *n 0 when there are none. 0
 * or ERR_NO_MEMORY. */
int creds_export_tickets(const struct creds *c, uint8_t **p, size_t *n);
/* Takes in such bytes, whatever they may be. 0; or ERR_CONFIG with a reason in *why (static), and nothing was taken: not
 * for these credentials, damaged, or no such bytes. */
int creds_import_tickets(struct creds *c, const void *p, size_t n, const char **why);
/* After a reload: gives them over, unless what is verified has changed; then they are forgotten with `from`. */
void creds_move_tickets(struct creds *from, struct creds *to);
#define CREDS_TICKETS_BYTES_MAX (512 * 1024) /* no more are ever exported */

/* What gnutls_init() must be given for such a session, in addition to the role. */
unsigned creds_flags(const struct creds *c, bool quic);
/* Prepares a new GnuTLS session: credentials, SNI, priority (TLS 1.3 only for QUIC, 1.2 up for TCP; nothing weaker),
 * client_random, and the verify hook that calls creds_verify and writes its result to *v. It occupies the session's
 * "db" pointer (gnutls_db_set_ptr) and leaves gnutls_session_set_ptr and the transport pointer to others. ALPN is the
 * caller's. 0 or ERR_UPSTREAM_TLS / ERR_NO_MEMORY. */
int creds_apply(struct creds *c, struct gnutls_session_int *tls, bool quic, struct creds_verdict *v);

#endif
