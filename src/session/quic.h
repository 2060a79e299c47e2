/* quic.h - one QUIC v1 connection without I/O and without an application protocol: packets, TLS 1.3, streams of
 * bytes.
 *
 * Private to src/session: h3.c is its user, and tests that play a peer with bytes of their own. The only code that
 * knows ngtcp2 is behind it. Sources: RFC 9000, 9001, 9002.
 *
 * Ownership  quic_new() is given the session that it is part of, which must outlive it: its config is read, its
 *            traffic counters, `last_rx` and `unverified` are kept, and it is brought down with session_fail()
 *            when the connection ends for any reason. ops->down follows at once.
 * Callbacks  All ops are called from inside quic_in(), quic_out(), quic_expire() and quic_close() and may call
 *            anything here but those four and quic_free(). An op that cannot go on calls quic_stop() and returns
 *            -1.
 * Packets    quic_out() builds up to one batch of datagrams of one size (at most QUIC_BATCH, 64 KiB), paced; they
 *            stay queued until quic_sent(). CUBIC; path MTU discovery up to 1452 bytes of payload. A session that
 *            went down has at most one datagram left, its CONNECTION_CLOSE, which is repeated for packets that
 *            still come (the 1st, 2nd, 4th, 8th, ... of them).
 * Addresses  The client never migrates and takes no preferred address. The server role follows the client's
 *            address once it has validated it (RFC 9000 section 9).
 * 0-RTT      neither sent nor accepted.
 */
#ifndef ADIT_SESSION_QUIC_H
#define ADIT_SESSION_QUIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "session/session_impl.h"

#define QUIC_BATCH 44       /* most datagrams of one batch */
#define QUIC_OUT_MAX 65507  /* bytes of one batch: what one UDP send with segmentation can take */
#define QUIC_CHUNK_IOV 16

struct quic;

/* Stream bytes to be sent. Their memory must stay as it is until ops->acked or ops->closed tells of them. */
struct quic_chunk {
    int64_t id; /* -1: none */
    struct iovec iov[QUIC_CHUNK_IOV];
    int iovs;
    bool fin; /* the stream ends after them */
};

struct quic_ops {
    /* The handshake has completed; a client has verified its peer. The state is not UP yet: that is up to the
     * callee. */
    int (*ready)(void *arg);
    /* The peer opened a stream. */
    int (*opened)(void *arg, int64_t id);
    /* Bytes in order, each once. They count against both windows until given back by quic_credit*(). */
    int (*data)(void *arg, int64_t id, const uint8_t *p, size_t n, bool fin);
    /* The peer has everything before `upto` (a stream offset). Called in order; for a lone FIN, too. */
    int (*acked)(void *arg, int64_t id, uint64_t upto);
    /* RESET_STREAM came. */
    int (*reset)(void *arg, int64_t id, uint64_t code);
    /* The STOP_SENDING of quic_stop_sending() leaves now. */
    int (*stopping)(void *arg, int64_t id);
    /* Both directions are over and the library forgets the stream. code: the first error code of either end, if
     * any. */
    int (*closed)(void *arg, int64_t id, bool has_code, uint64_t code);
    /* MAX_STREAM_DATA came. */
    int (*unblocked)(void *arg, int64_t id);
    /* How many request streams the peer may have opened in all. */
    void (*limit)(void *arg, uint64_t streams);

    /* The next bytes to send; c is empty (id -1) when called. 0 also when there are none. */
    int (*pull)(void *arg, struct quic_chunk *c);
    /* Of the chunk just pulled the first n bytes were put into a packet; with all of them, its FIN. */
    int (*taken)(void *arg, const struct quic_chunk *c, size_t n);
    /* Of the chunk just pulled nothing was taken: the stream's window is closed. */
    void (*blocked)(void *arg, const struct quic_chunk *c);
    /* Nothing will ever be taken: the peer sent STOP_SENDING (the library answers with RESET_STREAM), or the
     * stream is gone. Known only when a chunk is offered; ops->closed tells in the end. */
    void (*stopped)(void *arg, const struct quic_chunk *c);

    /* The session is down, session->err says why. The streams are gone; no other op follows. */
    void (*down)(void *arg);
};

/* Uses s->cfg (all of it but cb, queue, send_buffer). 0, or ERR_NO_MEMORY / ERR_UPSTREAM_TLS. */
int quic_new(struct quic **out, struct session *s, const struct quic_ops *ops, void *arg);
/* No packet is sent, no op is called. NULL is allowed. */
void quic_free(struct quic *q);

void quic_in(struct quic *q, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n, uint64_t now);
bool quic_out(struct quic *q, struct session_out *o, uint64_t now);
void quic_sent(struct quic *q, size_t n);
uint64_t quic_deadline(const struct quic *q);
void quic_expire(struct quic *q, uint64_t now);

/* Ends now with an application CONNECTION_CLOSE. The text is ours, for session_error_text(). */
void quic_close(struct quic *q, enum err err, uint64_t code, const char *text, uint64_t now);
/* From inside an op: the connection ends with this error and application code as soon as the library returns. The
 * first call wins. Always returns -1. */
int quic_stop(struct quic *q, enum err err, uint64_t code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A PING leaves with the next quic_out(), unless something else does that must be acknowledged. */
void quic_ping(struct quic *q);

/* The new stream's id, or ERR_UPSTREAM_BUSY (the peer allows no more now) or ERR_NO_MEMORY. */
int64_t quic_open_bidi(struct quic *q);
int64_t quic_open_uni(struct quic *q);
/* How many more bidirectional streams the peer allows now. */
uint64_t quic_bidi_left(const struct quic *q);
/* RESET_STREAM: what the peer has not acknowledged is given up. STOP_SENDING: what arrives is dropped from now
 * on. */
void quic_reset_stream(struct quic *q, int64_t id, uint64_t code);
void quic_stop_sending(struct quic *q, int64_t id, uint64_t code);

/* Window back: of one stream, of the connection, and for one more stream of the peer's. */
void quic_credit_stream(struct quic *q, int64_t id, size_t n);
void quic_credit(struct quic *q, size_t n);
void quic_credit_stream_count(struct quic *q, bool bidi);

/* Fills in alpn, tls, rtt. */
void quic_info(const struct quic *q, struct session_info *i);

#endif
