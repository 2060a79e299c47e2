/* tls.h - TLS over a byte stream as a machine without I/O: bytes are handed in, records pile up in an output
 * queue.
 *
 * Private to src/session; h2.c is the owner. ALPN "h2" is offered and nothing else: deployed endpoints drop a TCP
 * connection that offers h3. EOF without close_notify is an EOF: deployed endpoints end that way, and HTTP/2
 * frames know their own ends. Sources: RFC 8446, RFC 7301, RFC 9113 section 9.2.
 */
#ifndef ADIT_SESSION_TLS_H
#define ADIT_SESSION_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/creds.h"

#define TLS_RECORD 16384 /* most plaintext of one record */

/* Bytes on their way to the socket, contiguous. The user of the queue bounds it: see outq_len. */
struct outq {
    uint8_t *p;
    size_t off, len, cap; /* p[off..off+len) is queued */
};
/* false when out of memory; nothing was added then. */
bool outq_add(struct outq *q, const void *p, size_t n);
void outq_take(struct outq *q, size_t n);
void outq_free(struct outq *q);

struct tls;

/* Neither the creds nor the queue are owned; both outlive the tls. allow_no_alpn: a client takes an absent ALPN
 * for h2, a server negotiates none. 0, ERR_NO_MEMORY or ERR_UPSTREAM_TLS. */
int tls_new(struct tls **out, struct creds *creds, bool server, bool allow_no_alpn, struct outq *q);
void tls_free(struct tls *t);

/* Bytes that arrived: call tls_handshake() until it is done and then tls_read() until TLS_WAIT before the memory
 * goes. n = 0: EOF. */
void tls_input(struct tls *t, const uint8_t *p, size_t n);

enum tls_result {
    TLS_WAIT = 0, /* everything was taken; more bytes are needed */
    TLS_DONE = 1, /* the handshake is over, the certificate verified, the ALPN right; or bytes were read */
    TLS_EOF = 2,  /* the peer ended its direction */
};
/* enum tls_result or a negative err: ERR_UPSTREAM_CERTIFICATE, ERR_UPSTREAM_ALPN, ERR_UPSTREAM_TLS (with the
 * alert), ERR_NO_MEMORY; tls_error_text() has the sentence, and the alert for the peer is in the queue. */
int tls_handshake(struct tls *t);
/* The next piece of plaintext: enum tls_result or a negative err. *p stays valid until the next call. */
int tls_read(struct tls *t, const uint8_t **p, size_t *n);
/* Turns the bytes into records, as few as possible. 0, ERR_UPSTREAM_TLS or ERR_NO_MEMORY. */
int tls_write(struct tls *t, const void *p, size_t n);
/* Queues close_notify. */
void tls_bye(struct tls *t);

const char *tls_error_text(const struct tls *t);
/* What the verify hook found. */
const struct creds_verdict *tls_verdict(const struct tls *t);
/* The negotiated ALPN, "" if none. */
const char *tls_alpn(const struct tls *t);
/* "TLS1.3 ECDHE-X25519 AES-128-GCM", of any GnuTLS session; "" before the handshake is over. */
void tls_describe(struct gnutls_session_int *session, char *text, size_t cap);
struct gnutls_session_int *tls_session(struct tls *t);

#endif
