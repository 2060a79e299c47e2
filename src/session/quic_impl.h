/* quic_impl.h - what the parts behind quic.h share: quic.c (life, the library's callbacks, streams), quic_io.c
 * (packets and time), quic_end.c (what ends a connection and what that means), quic_tls.c.
 */
#ifndef ADIT_SESSION_QUIC_IMPL_H
#define ADIT_SESSION_QUIC_IMPL_H

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include "session/quic.h"
#include "session/quic_accept.h"

/* Datagrams of one size, the last one maybe shorter, that go to one address with one mark. */
struct quic_batch {
    size_t at, len, segment; /* in quic.out */
    uint8_t ecn;
    struct addr remote;
};

struct quic {
    struct session *s;
    const struct quic_ops *ops;
    void *arg;
    ngtcp2_conn *conn;
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref;
    struct creds_verdict verdict;
    uint64_t now;       /* of the operation that runs */
    bool ready;         /* the handshake has completed and ops->ready was called */
    bool narrow;        /* the path seems to take small datagrams only */
    uint64_t waiting;   /* since when packets are under way and nothing came; 0: no */
    bool again;         /* a frame was queued while a packet was being written: too late for that one */
    unsigned ping;      /* times yet to try to send a PING */
    uint64_t ping_at;   /* when to try again */
    bool reset_by_peer; /* a stateless reset came */
    char versions[64];  /* what a Version Negotiation packet offered */

    /* What an op or a callback wants the connection to end with. */
    struct {
        bool set, app;
        enum err err;
        uint64_t code;
        char text[sizeof((struct session *)0)->err_text];
    } stop;

    /* server role */
    uint8_t reset_secret[QUIC_SECRET];
    void (*cid)(void *arg, const struct quic_cid *cid, bool added);
    void *cid_arg;

    /* Built and not yet taken. The second one is what did not go with the first: another size, address or mark. */
    struct quic_batch batch[2];
    unsigned batches;
    uint8_t close[NGTCP2_MAX_UDP_PAYLOAD_SIZE]; /* CONNECTION_CLOSE, kept to be repeated */
    size_t close_len;
    bool close_due;
    unsigned late; /* packets that came after the end */
    uint8_t out[QUIC_OUT_MAX];
};

/* Time never goes back for the library, which would abort. */
static inline void quic_set_now(struct quic *q, uint64_t now) {
    if (now > q->now) q->now = now;
}

/* ---- quic_tls.c ---- */

/* 0, or ERR_NO_MEMORY / ERR_UPSTREAM_TLS. */
int quic_tls_new(struct quic *q);
/* At the end of the handshake: is the peer who it must be, and does it speak h3? 0, or -1 after
 * quic_stop_transport(). */
int quic_tls_check(struct quic *q);
void quic_tls_info(const struct quic *q, struct session_info *i);

/* ---- quic_io.c ---- */

/* The library's view of our path to this peer; it points into *local and *remote. */
ngtcp2_path quic_path(struct addr *local, struct addr *remote);
/* Decrypts as the library's own callback does, and notes that the packet was genuine. */
int quic_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                 const uint8_t *from, size_t n, const uint8_t *nonce, size_t nonce_len, const uint8_t *aad,
                 size_t aad_len);

/* ---- quic_end.c ---- */

/* The library returned rv < 0: ends the session with what that means. */
void quic_judge(struct quic *q, int rv);
/* Like quic_stop(), with a transport error code. */
int quic_stop_transport(struct quic *q, enum err err, uint64_t code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Ends the session. cc: what the peer is told; NULL: nothing. */
void quic_end(struct quic *q, enum err err, const ngtcp2_ccerr *cc, const char *text);

#endif
