/* creds_tickets.h - session tickets of TLS 1.3 that wait to be used (RFC 8446 section 4.6.1): each makes one later
 * handshake shorter.
 *
 * Private to src/session: creds.c owns one store for each set of credentials and lets nobody use a ticket but sessions
 * of the same credentials and the same transport. A ticket is an opaque byte string of GnuTLS that holds keys: a secret,
 * zeroed before its memory goes. It is used once (appendix C.4), the newest first, and not after a day, nor after the
 * certificates have expired that the session it is from was verified with. The store is bounded in number and size; a
 * new ticket takes the place of the oldest one. Nothing here reads a clock: `now` is the wall clock in seconds.
 */
#ifndef ADIT_SESSION_CREDS_TICKETS_H
#define ADIT_SESSION_CREDS_TICKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TICKETS_MAX 4          /* of one transport */
#define TICKET_BYTES_MAX 32768 /* the certificates are in it */
#define TICKET_LIFE 86400      /* s */
#define TICKETS_IDENTITY 32    /* SHA-256 */

struct creds_tickets;

/* identity: of everything that a verification depends on. NULL when out of memory. */
struct creds_tickets *creds_tickets_new(const uint8_t identity[TICKETS_IDENTITY]);
/* NULL is allowed. */
void creds_tickets_free(struct creds_tickets *t);

/* Copies; what is too large or too late, or finds no memory, is left out. */
void creds_tickets_put(struct creds_tickets *t, bool quic, const void *p, size_t n, int64_t until, int64_t now);
/* Takes the newest one that is good: *n bytes, to be given back to creds_ticket_free(). NULL if there is none. */
uint8_t *creds_tickets_take(struct creds_tickets *t, bool quic, int64_t now, size_t *n);
void creds_ticket_free(uint8_t *p, size_t n);
/* Forgets those of one transport. */
void creds_tickets_clear(struct creds_tickets *t, bool quic);

/* Moves them all into an empty store of the same identity; else nothing is done. */
void creds_tickets_move(struct creds_tickets *from, struct creds_tickets *to);

/* All good ones as bytes for a file, for creds_ticket_free(); *n is 0 and *p NULL when there are none. 0 or
 * ERR_NO_MEMORY. */
int creds_tickets_export(const struct creds_tickets *t, int64_t now, uint8_t **p, size_t *n);
/* Takes in what such bytes hold. 0; or ERR_CONFIG, with *why, and nothing is taken: they are no such file, damaged, or
 * of another identity. */
int creds_tickets_import(struct creds_tickets *t, const void *p, size_t n, int64_t now, const char **why);

#endif
