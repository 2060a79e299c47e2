/* h2_impl.h - an HTTP/2 session: what the parts behind it share. h2.c (the session and its way out), h2_frames.c
 * (the callbacks of nghttp2 and the budgets against floods), h2_stream.c (struct stream).
 *
 * Way in     bytes -> tls -> nghttp2_session_mem_recv(), whose callbacks fill stream buffers and mark events.
 * Way out    nghttp2_session_mem_send() -> `gather`, one TLS record's worth -> tls -> `out`. DATA goes from a
 *            stream's buffer straight into `gather`. While H2_OUT_HIGH bytes wait for the socket nothing more is
 *            asked for, so a peer that does not read costs that and each stream's send buffer.
 * Memory     Unread bytes are at most budget + session_window, and of one stream at most stream_window.
 * Failing    A callback that has seen enough notes a doom and returns; once nghttp2 has returned too, the GOAWAY
 *            goes out and the session is down. From then on there is no nghttp2 session, and what arrives is dropped.
 * Life       A stream object lives as long as it is owned or nghttp2 knows its stream. Freed by its owner after a
 *            finish it lingers until everything was sent; reset before the peer has answered, its RST_STREAM waits
 *            for its turn: deployed endpoints end a session that cancels many unanswered requests at once.
 *
 * Sources: RFC 9113, RFC 7541.
 */
#ifndef ADIT_SESSION_H2_IMPL_H
#define ADIT_SESSION_H2_IMPL_H

#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "base/log.h"
#include "session/session_impl.h"
#include "session/tls.h"

#define H2_NEVER UINT64_MAX
#define H2_MS UINT64_C(1000000)
#define H2_OUT_HIGH 65536                /* bytes for the socket above which no more frames are made */
#define H2_OUT_CONTROL (4 * H2_OUT_HIGH) /* the same when an answer to a broken frame must go out */
#define H2_QUEUE_MAX 8192                /* frames that wait in nghttp2, beside one for each stream */
#define H2_DATA_MAX (TLS_RECORD - 9)     /* a DATA frame fills one record */
#define H2_LINGER (30000 * H2_MS)        /* a freed stream may take this long without any progress */
#define H2_LINGER_END (10000 * H2_MS)    /* and its peer this long to end its own direction */
#define H2_CANCEL_BURST 10               /* unanswered requests that are cancelled at once; */
#define H2_CANCEL_EVERY (50 * H2_MS)     /* then one each */

/* Our direction of a stream. */
enum h2_tx {
    H2_TX_OPEN,
    H2_TX_FINISHING, /* finished by the owner, END_STREAM is not yet sent */
    H2_TX_FINISHED,  /* it is */
    H2_TX_STOPPED,   /* the peer does not want more */
    H2_TX_RESET,     /* given up */
};
/* The peer's direction. */
enum h2_rx {
    H2_RX_OPEN,
    H2_RX_ENDED,  /* its end came; bytes may be unread */
    H2_RX_CLOSED, /* reset, or unwanted: what comes is dropped */
};

struct h2;

struct h2_stream {
    struct session_stream ss;
    struct h2 *h2;                 /* NULL once the session is gone */
    int32_t id;                    /* -1 once nghttp2 has forgotten the stream */
    struct h2_stream *next, *prev; /* all of a session */

    enum h2_tx tx;
    enum h2_rx rx;
    bool opened_here; /* owned by the opener; in the server role ss.offered says so */
    bool orphan;      /* freed by its owner */
    bool dead;        /* st.err says why */
    bool head_sent;   /* client: the request's HEADERS are out */
    bool head_seen;   /* the head that counts came; what follows are trailers */
    bool answered;    /* the final response came (client) or was given to nghttp2 (server) */
    bool rst_seen;    /* the peer reset it */
    bool cancelling;  /* our reset waits for its turn */
    bool deferred;    /* nghttp2 waits for nghttp2_session_resume_data() */
    bool want_out;    /* a write was short */
    enum err fault;   /* what the peer did wrong on this stream, when it was seen here */
    unsigned interim; /* 1xx responses */
    uint64_t due;     /* when it will have lingered long enough */

    struct buf in;
    struct buf out;
};

/* What a peer can send for nothing, counted by the second. */
enum h2_cost {
    H2_COST_PING,
    H2_COST_SETTINGS,
    H2_COST_RST,
    H2_COST_PRIORITY,
    H2_COST_WINDOW,
    H2_COST_EMPTY,
    H2_COST_CONTINUATION,
    H2_COST_HEADERS,
    H2_COST_INVALID,
    H2_COST_OTHER,
    H2_COSTS
};

struct h2 {
    struct session s;
    nghttp2_session *ng; /* NULL when down */
    struct tls *tls;     /* NULL: bytes in the clear, for tests */
    struct outq out;
    uint8_t gather[TLS_RECORD];
    size_t gathered;
    bool ready;      /* the handshake is over */
    bool spoken;     /* the peer's first bytes were looked at */
    bool settings;   /* the peer's SETTINGS came */
    uint64_t now;    /* of the last operation that had one */

    struct h2_stream *streams;
    unsigned live;     /* streams that nghttp2 knows */
    size_t withheld;   /* connection credit that waits for the budget */
    uint64_t next_due; /* no stream is due before this */
    uint64_t last_cancel; /* the turn of the last request cancelled before its answer */

    uint32_t cost[H2_COSTS];
    uint64_t cost_since;
    size_t block;    /* bytes of the header block that is arriving */
    unsigned parts;  /* and its frames */

    bool complaint;      /* nghttp2 did not like what came */
    char complained[96]; /* in its words */
    enum err doom;       /* a callback gave up */
    uint32_t doom_code;
    char doom_text[96];
    bool ending;         /* the next GOAWAY is the last frame */
    bool said_goaway;    /* a GOAWAY that ends the session went out */
    uint32_t said_code;
    bool goaway;         /* the peer's GOAWAY came */
    uint32_t goaway_code;
    char goaway_text[96];

    uint64_t ping_at; /* when the PING that is out was sent; 0: none */
    uint64_t ping_no;
    uint64_t rtt;
    struct log_limit congestion;
};

static inline struct h2 *h2_of(struct session *s) { return (struct h2 *)s; }
static inline struct h2_stream *h2_stream_of(struct stream *st) { return (struct h2_stream *)st; }

/* ---- h2.c ---- */

/* The same session without TLS, for tests. */
int h2_new_clear(struct session **out, const struct session_config *c);
/* Appends frame bytes for the socket. 0 or a negative err. */
int h2_put(struct h2 *h, const void *p, size_t n);
/* Received bytes that wait for an owner: connection credit is given for them now or later. */
void h2_unread_more(struct h2 *h, size_t n);
/* They were consumed or dropped. */
void h2_unread_less(struct h2 *h, size_t n);
/* Something may be due at this time. */
void h2_due(struct h2 *h, uint64_t at);

/* ---- h2_frames.c ---- */

/* NULL when out of memory. */
nghttp2_session *h2_frames_new(struct h2 *h);
/* "CANCEL" or the number. */
const char *h2_code_word(uint32_t code, char *text, size_t cap);

/* ---- h2_stream.c ---- */

extern const struct stream_ops h2_stream_ops;

struct stream *h2_stream_open(struct session *s, const struct header *head, size_t n, bool fin, uint64_t now,
                              int *err);
int h2_stream_respond(struct stream *st, const struct header *head, size_t n, bool fin);
/* Server role: a stream for a request that begins; NULL when out of memory. */
struct h2_stream *h2_stream_incoming(struct h2 *h, int32_t id);
bool h2_stream_owned(const struct h2_stream *t);
void h2_stream_set_rx(struct h2_stream *t, enum h2_rx rx);
/* A head is complete: the response (OPEN), an interim one, trailers, or a request. */
void h2_stream_head(struct h2_stream *t);
void h2_stream_received(struct h2_stream *t, const uint8_t *p, size_t n);
/* END_STREAM came, went out. */
void h2_stream_ended(struct h2_stream *t);
void h2_stream_end_sent(struct h2_stream *t);
/* The library's data provider, and where its bytes go. */
ssize_t h2_stream_read(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t n, uint32_t *flags,
                       nghttp2_data_source *source, void *arg);
int h2_stream_send(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
                   nghttp2_data_source *source, void *arg);
/* nghttp2 has closed the stream; it may be gone afterwards. */
void h2_stream_closed(struct h2_stream *t, uint32_t code);
/* Resets it and lets it die of err; it may be gone afterwards. */
void h2_stream_die(struct h2_stream *t, enum err err, uint32_t code);
/* What is due of lingering and cancelled streams; computes next_due anew. */
void h2_streams_due(struct h2 *h);
/* The session is over: all streams die of err, or go if nobody has them. */
void h2_streams_lost(struct h2 *h, enum err err);

#endif
