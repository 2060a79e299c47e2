/* carrier.h - one session on one socket: moves bytes or datagrams between them and keeps the session's timer.
 *
 * The carrier owns its socket and its session. It reports the session's state from the deferred queue; the callback may
 * free the carrier. It decides nothing: whether the session is healthy or wanted is the link's business.
 */
#ifndef ADIT_UPSTREAM_CARRIER_H
#define ADIT_UPSTREAM_CARRIER_H

#include "base/addr.h"
#include "base/loop.h"
#include "base/stream.h"
#include "session/session.h"

/* Bytes taken from the socket before other work gets its turn. */
#define CARRIER_TURN (256 * 1024)

struct carrier;

struct carrier_cb {
    /* the session's state changed; SESSION_DOWN comes once and last */
    void (*state)(struct carrier *c, enum session_state state, void *arg);
    /* something was received and handled; NULL if not wanted */
    void (*progress)(struct carrier *c, void *arg);
    /* what the session had to say was put out: room for streams may have come without a received byte; NULL if not wanted */
    void (*pumped)(struct carrier *c, void *arg);
    void *arg;
};

/* HTTP/2 over a connected stream, which the carrier takes over in every case. cfg: everything but kind, queue, cb and
 * now is the caller's. NULL with *err. */
struct carrier *carrier_new_tcp(struct loop *l, struct stream *tcp, const struct session_config *cfg,
                                const struct carrier_cb *cb, int *err);
/* HTTP/3 to an address over a socket of its own. NULL with *err. */
struct carrier *carrier_new_udp(struct loop *l, const struct addr *to, const struct session_config *cfg,
                                const struct carrier_cb *cb, int *err);
/* What the session still has to say (CONNECTION_CLOSE, GOAWAY) is sent if the socket takes it at once. NULL allowed. */
void carrier_free(struct carrier *c);

struct session *carrier_session(const struct carrier *c);
/* QUIC: sends datagrams one by one from now on (udp_stop_gso). */
void carrier_stop_gso(struct carrier *c);
/* Why the socket failed, if that ended the session; ERR_OK otherwise. */
enum err carrier_error(const struct carrier *c);

#endif
