/* session.h - CONTRACT: one HTTP/2 or HTTP/3 connection as a machine without I/O.
 *
 * Bytes (H2) or datagrams (H3) go in, bytes or datagrams come out, `now` is a parameter, and streams of the connection
 * are `struct stream`s. The same code plays the client and, for tests, the server. Sources: RFC 9113, 9114, 9000, 9001,
 * 9002, 9204, 9110 section 9.3.6 (CONNECT).
 *
 * Ownership  The creator frees the session; creds are referenced. A stream belongs to whoever opened it (or, in the
 *            server role, to who got it from `request`) and outlives its session until freed: when the session goes
 *            down or is freed, its streams die with the session's error.
 * Pumping    After every operation that may produce output (in, expire, open, a stream's write/consume/finish/reset/
 *            free, ping, retire, close) the session asks for service by `wake`; the pump then calls session_out() until
 *            it yields nothing, and re-reads session_deadline(). wake only schedules; it must not call back into the
 *            session.
 * Callbacks  `state`, `request` and all stream events come from the deferred queue, never from inside an operation; they
 *            may call anything, session_free() included.
 * Flow control  Connection credit is returned on receipt, stream credit on consume. Unread bytes of all streams count
 *            against `budget`: past it connection credit waits until they are consumed. So a session holds at most
 *            budget + session_window of received bytes, and send_buffer bytes per stream to be sent.
 * CONNECT    DATA of a stream are the tunnel's bytes. A client's finish before the final response is held until the
 *            response is there (deployed endpoints drop the stream otherwise); on H3 a finish is an empty DATA frame that
 *            carries the FIN, and an abort is that and STOP_SENDING: deployed endpoints ignore a bare FIN.
 * Errors     A session that ends says why by session_error(): an err of class upstream, and the original text.
 *            Streams die with: ERR_UPSTREAM_RETRY (REFUSED_STREAM, H3_REQUEST_REJECTED, above GOAWAY's last id: safe to
 *            open elsewhere), ERR_TARGET_RESET (CANCEL / CONNECT_ERROR / any other reset after a 2xx), ERR_UPSTREAM_RESET
 *            (a reset or an end before the response; CONNECT_ERROR is ERR_TARGET_RESET there too), ERR_UPSTREAM_AUTH (code 0x1f or 0x64), or the session's error.
 *            RST_STREAM(NO_ERROR) / STOP_SENDING(H3_NO_ERROR) after the peer's end of stream is no death: the write side
 *            yields ERR_UPSTREAM_STOPPED.
 */
#ifndef ADIT_SESSION_SESSION_H
#define ADIT_SESSION_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/defer.h"
#include "base/err.h"
#include "base/stream.h"
#include "session/creds.h"

enum session_kind { SESSION_H2, SESSION_H3 };

enum session_state {
    SESSION_STARTING, /* handshake, peer's SETTINGS not yet seen */
    SESSION_UP,       /* streams may be opened */
    SESSION_DRAINING, /* GOAWAY seen or retired: running streams go on, none may be opened */
    SESSION_DOWN,     /* over; session_error() says why (ERR_OK after an orderly end) */
};
/* "starting", "up", "draining", "down" */
const char *session_state_word(enum session_state s);
/* "h2", "h3" */
const char *session_kind_word(enum session_kind k);

struct session;

struct session_cb {
    void (*wake)(void *arg);
    void (*state)(struct session *s, enum session_state state, void *arg);
    /* server role only: a request head arrived; the callee owns the stream */
    void (*request)(struct session *s, struct stream *st, void *arg);
    void *arg;
};

/* One field of a head. Names are lower case; pseudo-header fields (":method") come first. */
struct header {
    const char *name, *value; /* not terminated */
    size_t name_len, value_len;
    bool sensitive; /* never indexed by HPACK or QPACK: credentials */
};
#define HEADER(n, v) ((struct header){(n), (v), sizeof(n) - 1, sizeof(v) - 1, false})

/* Bounds on a received head: more fields or bytes than this reset the stream. */
#define SESSION_HEAD_FIELDS 100
#define SESSION_HEAD_BYTES 32768

struct session_config {
    enum session_kind kind;
    bool server;
    struct creds *creds;
    struct defer_queue *queue;
    struct session_cb cb;
    uint64_t now;                 /* ns, as everywhere */
    uint32_t handshake_timeout;   /* ms until UP, else ERR_UPSTREAM_TIMEOUT */
    uint32_t stream_window;       /* bytes a peer may send on one stream unconsumed */
    uint32_t session_window;      /* the same for the whole connection */
    size_t budget;                /* unread bytes past which connection credit waits */
    size_t send_buffer;           /* bytes per stream accepted but not yet sent */
    uint32_t max_streams;         /* server: concurrent streams allowed to the peer */
    bool allow_no_alpn;           /* H2 client: an absent ALPN counts as h2 (some deployed endpoints); another never */
    /* H3 only */
    struct addr local, remote;
    uint32_t idle_timeout;        /* ms, transport parameter max_idle_timeout */
    bool strict_reset;            /* client: a reset is always RESET_STREAM, which deployed endpoints ignore */
    const struct session_accept *accept; /* server role: from quic_accept(), see quic_accept.h */
};

/* Fills in adit's own values: 6 MiB stream window, 15 MiB session window, 32 MiB budget, 256 KiB send buffer, 10 s
 * handshake, 74 s idle, 1000 streams. The caller sets kind, creds, queue, cb, now and the addresses. */
void session_config_init(struct session_config *c);

/* 0, or ERR_NO_MEMORY / ERR_UPSTREAM_TLS. The config is copied. */
int session_new(struct session **out, const struct session_config *c);
/* Streams that live die with ERR_UPSTREAM_CLOSED (or the session's error). No callback follows. NULL is allowed. */
void session_free(struct session *s);

/* H2: bytes from the peer, all taken. n = 0: the peer ended the connection (EOF). */
void session_in(struct session *s, const uint8_t *p, size_t n, uint64_t now);
/* H3: one datagram. ecn: the two bits of the IP header. */
void session_in_datagram(struct session *s, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n,
                         uint64_t now);

struct session_out {
    const uint8_t *p; /* valid until the next call on the session */
    size_t n;
    size_t segment;   /* H3: datagram size; p holds n / segment (rounded up) datagrams. H2: 0 */
    uint8_t ecn;      /* H3 */
    struct addr remote;
};
/* The next bytes to send; false when there is nothing. They stay queued until session_sent(): a blocked socket calls it
 * with what was taken (H3: whole datagrams; a failed datagram counts as sent) and goes on later. */
bool session_out(struct session *s, struct session_out *o, uint64_t now);
void session_sent(struct session *s, size_t n, uint64_t now);

/* When session_expire() must be called next; UINT64_MAX: never. */
uint64_t session_deadline(const struct session *s);
void session_expire(struct session *s, uint64_t now);

/* Opens a stream with this request head. fin: no body follows. NULL with *err: ERR_UPSTREAM_BUSY (no room now),
 * ERR_UPSTREAM_CLOSED (not UP), ERR_NO_MEMORY. The stream's STREAM_OPEN carries the final status (1xx are skipped); an
 * answer that is not 2xx comes so too, with its body readable. */
struct stream *session_open(struct session *s, const struct header *head, size_t n, bool fin, uint64_t now, int *err);
/* How many more streams may be opened now. */
unsigned session_capacity(const struct session *s);
/* The cheap part of session_get_info(), fields as there. */
struct session_load {
    unsigned streams;
    bool congested;
    uint64_t last_rx, bytes_in, bytes_out;
};
void session_load(const struct session *s, struct session_load *l);
/* Server role: sends the response head. fin: no body. */
int session_respond(struct stream *st, const struct header *head, size_t n, bool fin);
/* A field of the received head (client: the final response, server: the request), NULL if absent; not terminated.
 * Valid while the stream lives. The first one if repeated. */
const char *session_stream_header(const struct stream *st, const char *name, size_t *len);

/* Asks the peer for a sign of life (H2 PING, QUIC PING); the answer shows as session_info.last_rx. */
void session_ping(struct session *s, uint64_t now);
/* No new streams; ends in order (GOAWAY in the server role) once the running ones have ended. */
void session_retire(struct session *s, uint64_t now);
/* Ends now: GOAWAY / CONNECTION_CLOSE is queued, streams die with err (ERR_SHUTDOWN, ...). DOWN follows. */
void session_close(struct session *s, enum err err, uint64_t now);

enum session_state session_get_state(const struct session *s);
/* Why it is DOWN, and the library's or peer's own words in printable ASCII; "" if none. */
enum err session_error(const struct session *s);
const char *session_error_text(const struct session *s);

struct session_info {
    enum session_kind kind;
    enum session_state state;
    char alpn[16];           /* "" when the peer negotiated none */
    char tls[64];            /* "TLS1.3 ECDHE-X25519 AES-128-GCM" */
    bool unverified;         /* the certificate was accepted only by skip_verification */
    bool resumed;            /* the handshake was a short one, by a ticket */
    unsigned streams;        /* open now */
    unsigned peer_max_streams;
    uint64_t started, up;    /* ns; up 0 while starting */
    uint64_t last_rx;        /* when the last valid packet or byte came; 0 never */
    uint64_t bytes_in, bytes_out; /* on the wire */
    uint64_t rtt;            /* ns; 0 unknown */
    size_t unread;           /* received and not yet consumed */
    bool congested;          /* connection credit is waiting for the budget */
};
void session_get_info(const struct session *s, struct session_info *i);

/* Versions of the libraries in use. Static storage. */
const char *session_h2_library_version(void);   /* nghttp2 */
const char *session_h3_library_version(void);   /* nghttp3 */
const char *session_quic_library_version(void); /* ngtcp2 */
const char *session_tls_library_version(void);  /* GnuTLS */

#endif
