/* quic_accept.h - the server's doorstep: judges the first datagram of an unknown peer, without state and without
 * I/O.
 *
 * For the test endpoint only. It owns the UDP socket and a table from connection ids to sessions. For each
 * datagram it calls quic_datagram_dcid() and looks the id up; a hit goes to session_in_datagram(), whatever
 * address it came from (so a session survives a change of the client's port), a miss goes to quic_accept().
 * Sources: RFC 8999, RFC 9000 sections 6 (version negotiation), 8.1.2 (Retry), 10.3 (stateless reset).
 */
#ifndef ADIT_SESSION_QUIC_ACCEPT_H
#define ADIT_SESSION_QUIC_ACCEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define QUIC_CID_MAX 20
#define QUIC_SERVER_CID 16      /* bytes of every connection id that a server session gives out */
#define QUIC_TOKEN_MAX 256
#define QUIC_REPLY_MAX 1200     /* room that quic_accept() needs for a reply */
#define QUIC_SECRET 32
#define QUIC_TOKEN_LIFE 30      /* seconds that a Retry token is good for */

/* The bytes past len are 0: ids can be compared and hashed whole. */
struct quic_cid {
    uint8_t len;
    uint8_t data[QUIC_CID_MAX];
};

/* One per endpoint. A plain value; its secrets make tokens and stateless resets, so it must live as long as the
 * endpoint wants to recognise them. */
struct quic_acceptor {
    bool retry; /* answer every first Initial with Retry, as deployed endpoints do */
    uint8_t token_secret[QUIC_SECRET];
    uint8_t reset_secret[QUIC_SECRET];
};
/* 0 or ERR_INTERNAL (no randomness). */
int quic_acceptor_init(struct quic_acceptor *a, bool retry);

/* What session_config.accept points to: how a server session begins. Filled in by quic_accept(); the caller then
 * sets the last two, if it wants. */
struct session_accept {
    struct quic_cid client;   /* the client's own id: where to send */
    struct quic_cid dcid;     /* the id that the client sent to */
    struct quic_cid original; /* the id that its very first Initial was sent to */
    bool retried;             /* it came with a good Retry token; dcid is the id that Retry gave out */
    uint8_t token[QUIC_TOKEN_MAX];
    size_t token_len;
    uint8_t reset_secret[QUIC_SECRET];
    /* Told of every id that leads to the session: from inside session_new() (the first two) and any later
     * operation. It must not call the session. When the session is freed the endpoint forgets its ids by
     * itself. May be NULL. */
    void (*cid)(void *arg, const struct quic_cid *cid, bool added);
    void *cid_arg;
};

enum quic_accept_result {
    QUIC_ACCEPT_NONE,  /* drop it */
    QUIC_ACCEPT_REPLY, /* send the reply, keep nothing */
    QUIC_ACCEPT_NEW,   /* make a session with *out and give it this same datagram */
};
/* reply: QUIC_REPLY_MAX bytes; *reply_len is set. A reply is never longer than three times the datagram, and a
 * stateless reset always shorter than it. now in ns. */
enum quic_accept_result quic_accept(const struct quic_acceptor *a, const struct addr *remote, const uint8_t *p,
                                    size_t n, uint64_t now, struct session_accept *out, uint8_t *reply,
                                    size_t *reply_len);

/* The connection id that the datagram is for. False: no QUIC packet. */
bool quic_datagram_dcid(const uint8_t *p, size_t n, struct quic_cid *cid);

#endif
