/* h3_impl.h - an HTTP/3 session: what its parts share. h3.c (the session), h3_http.c (nghttp3 and the
 * ops of quic.h between which it sits), h3_stream.c (struct stream).
 *
 * Sources: RFC 9114, 9204, 9000. Where deployed endpoints differ from them, this is what is done:
 *
 * Finish     nghttp3 ends a stream by a bare FIN, which a deployed endpoint ignores. So in the client role an end
 *            is always an empty DATA frame (the bytes 00 00) that carries the FIN, written past nghttp3, which
 *            never hears of those two bytes. A finish before the final response waits for it. The server role
 *            sends bare FINs.
 * Reset      (client) A deployed endpoint ignores RESET_STREAM and keeps the target's socket. So a stream whose
 *            accepted bytes were all handed on is ended like a finish, and STOP_SENDING (H3_REQUEST_CANCELLED)
 *            follows in a later packet: for a standard peer that is an abort, too (RFC 9114 section 4.4). If bytes
 *            are still waiting, or the stream's window is closed, or session_config.strict_reset is set, or the
 *            role is the server's, it is RESET_STREAM and STOP_SENDING.
 * STOPPED    STOP_SENDING stops our direction only: writes yield ERR_UPSTREAM_STOPPED. The library does not
 *            announce it; it is seen when bytes are offered (for streams whose window is closed they are offered
 *            again after each datagram that came), or when the stream is over.
 *
 * Memory     Per stream: received and unread bytes, at most stream_window; bytes to send, at most send_buffer plus
 *            one H3_HAND chunk, plus what was sent and is not acknowledged: that is bounded by the congestion
 *            window and the peer's windows, not by send_buffer, so that a long path can be filled. Per session:
 *            unread bytes at most budget + session_window, as connection credit is withheld past the budget;
 *            ngtcp2 keeps bytes that came out of order within the same windows.
 * Turns      nghttp3 would serve the oldest stream until it has nothing more, and let new requests wait behind it.
 *            So streams take turns here: nghttp3 is given H3_HAND bytes of one when it has nothing left to send.
 * Life       A stream object lives as long as it is owned or QUIC knows its stream. Freed by its owner after a
 *            finish it lingers until the peer has everything, dropping what still comes, and then says
 *            STOP_SENDING.
 */
#ifndef ADIT_SESSION_H3_IMPL_H
#define ADIT_SESSION_H3_IMPL_H

#include <nghttp3/nghttp3.h>

#include "base/buf.h"
#include "base/log.h"
#include "session/quic.h"
#include "session/session_impl.h"

#define H3_BUCKETS 256
#define H3_HAND 16384 /* bytes of a stream given to nghttp3 at once: one DATA frame, one turn */

/* Our direction of a stream. */
enum h3_tx {
    H3_TX_OPEN,
    H3_TX_FINISHING, /* finished by the owner, the end is not yet in a packet */
    H3_TX_FINISHED,  /* it is */
    H3_TX_STOPPED,   /* the peer does not want more */
    H3_TX_RESET,     /* given up */
};
/* The peer's direction. */
enum h3_rx {
    H3_RX_OPEN,
    H3_RX_ENDED,  /* its end came; bytes may be unread */
    H3_RX_CLOSED, /* reset, or unwanted: what comes is dropped */
};

struct h3;

/* First come, first served; a stream is in each at most once. */
enum h3_queue {
    H3_TURNS, /* bytes, or the end, wait to be given to nghttp3 */
    H3_TAILS, /* nghttp3's bytes are all in packets; 00 00 and the FIN can follow */
    H3_QUEUES,
};

struct h3_stream {
    struct session_stream ss;
    struct h3 *h3;                 /* NULL once the session is gone */
    int64_t id;                    /* -1 once QUIC has forgotten the stream */
    struct h3_stream *next, *prev; /* all of a session */
    struct h3_stream *in_bucket;   /* those that QUIC knows, by id */
    struct h3_stream *behind[H3_QUEUES];
    bool queued[H3_QUEUES];

    enum h3_tx tx;
    enum h3_rx rx;
    bool owned;        /* by the opener; in the server role ss.offered says so */
    bool orphan;       /* freed by its owner */
    bool dead;         /* st.err says why */
    bool answered;     /* the final response came (client) or was given to nghttp3 (server) */
    bool connect;      /* the request's method */
    bool lone_fin;     /* ends with a bare FIN, through nghttp3 */
    bool turn;         /* nghttp3 may take bytes */
    bool tail_due;     /* 00 00 and the FIN are to follow, window or not */
    bool want_out;     /* a write was short */
    bool blocked;      /* the peer's window is closed */
    uint64_t aborting; /* code of the STOP_SENDING that follows the end; 0: none */
    uint64_t fail;     /* code to abort with as soon as nghttp3 has returned; 0: none */
    enum err fail_err;

    struct buf in;
    struct buf out;    /* from the first byte on that is not acknowledged */
    size_t handed;     /* bytes of `out` that nghttp3 has */
    uint64_t framed;   /* nghttp3's bytes that are in packets; the tail comes after them */
    unsigned tail;     /* bytes of the tail that are */
    uint64_t acked;    /* stream offset */
    uint64_t told;     /* of `framed`, what nghttp3 knows to be acknowledged */
    uint64_t received; /* raw bytes that came */
};

struct h3 {
    struct session s;
    struct quic *q;
    nghttp3_conn *http; /* NULL until the handshake is over */
    bool http_broken;   /* it returned an error: only deletion is allowed */
    struct h3_stream *streams;
    struct h3_stream *bucket[H3_BUCKETS];
    struct h3_stream *first[H3_QUEUES], **last[H3_QUEUES];
    unsigned live;    /* streams that QUIC knows */
    unsigned blocked; /* of them */
    bool reoffer;     /* a datagram came: blocked streams may have been stopped */
    bool failed;      /* some stream has `fail` set */
    bool retiring;    /* our GOAWAY was queued */
    int64_t refused;  /* the peer's GOAWAY: ids from here on; -1: none, or seen to */
    size_t owed;      /* connection credit withheld */
    size_t chunk;     /* bytes of the chunk that quic.c was given */
    bool chunk_ends;  /* nghttp3 has nothing after it */
    struct log_limit congestion;
};

static inline struct h3_stream *h3_stream_of(struct stream *st) { return (struct h3_stream *)st; }

/* ---- h3_http.c ---- */

extern const struct quic_ops h3_quic_ops;
/* After the handshake. 0 or -1 after quic_stop(). */
int h3_http_start(struct h3 *h);
/* Queues the request or response head. 0, ERR_NO_MEMORY, ERR_LIMIT or ERR_UPSTREAM_CLOSED. */
int h3_http_submit(struct h3_stream *t, const struct header *head, size_t n, bool fin);
/* Nothing more may be written. */
void h3_http_shut(struct h3_stream *t);

/* ---- h3_stream.c ---- */

/* A stream that QUIC knows. NULL: out of memory. */
struct h3_stream *h3_stream_new(struct h3 *h, int64_t id);
/* NULL: none of ours, or of those that are gone. */
struct h3_stream *h3_stream_find(struct h3 *h, int64_t id);
void h3_stream_set_tx(struct h3_stream *t, enum h3_tx tx);
void h3_stream_set_rx(struct h3_stream *t, enum h3_rx rx);
/* DATA came. What cannot be kept makes the stream fail. */
void h3_stream_received(struct h3_stream *t, const uint8_t *p, size_t n);
/* Ends both directions and tells the peer; no event. */
void h3_stream_abort(struct h3_stream *t, uint64_t code);
/* The same by RESET_STREAM and STOP_SENDING at once. */
void h3_stream_cut(struct h3_stream *t, uint64_t code);
/* Drops what comes from now on. */
void h3_stream_stop_reading(struct h3_stream *t, uint64_t code);
/* The stream is lost: cut, and its owner is told. */
void h3_stream_die(struct h3_stream *t, enum err err, uint64_t code);
/* The peer stopped reading. */
void h3_stream_stopped(struct h3_stream *t);
/* t->acked moved. */
void h3_stream_delivered(struct h3_stream *t);
/* QUIC has forgotten the stream. May free t. */
void h3_stream_forgotten(struct h3_stream *t);
/* The session is over; err: of streams that were not. May free t. */
void h3_stream_lost(struct h3_stream *t, enum err err);
/* Bytes that nghttp3 does not have yet. */
static inline size_t h3_stream_unhanded(const struct h3_stream *t) { return t->out.len - t->handed; }
/* t->handed moved. */
void h3_stream_room(struct h3_stream *t);
static inline bool h3_stream_owned(const struct h3_stream *t) { return t->owned || t->ss.offered; }
/* At the end; nothing if it is there already, or gone from QUIC. */
void h3_stream_queue(struct h3_stream *t, enum h3_queue which);
void h3_stream_unqueue(struct h3_stream *t, enum h3_queue which);
/* The peer's window. */
void h3_stream_block(struct h3_stream *t);
void h3_stream_unblock(struct h3_stream *t);

/* ---- h3.c ---- */

/* Received bytes were consumed or dropped: connection credit that was withheld may go back. */
void h3_unread_less(struct h3 *h, size_t n);
/* n more bytes are unread: returns their connection credit, or withholds it. */
void h3_unread_more(struct h3 *h, size_t n);

#endif
