/* stream.h - CONTRACT: one bidirectional byte channel, whatever carries it.
 *
 * A TCP socket, a stream of an HTTP/2 or HTTP/3 session, and the test pipe all are a `struct stream` and pass the
 * same suite (tests/lib/stream_suite.h). A stream has one owner at a time, who holds the only pointer, receives its
 * events and ends it with stream_free(). doc/stream.md has the closure table.
 *
 * Reading    stream_peek() shows the first contiguous bytes, stream_consume() takes them. Bytes shown stay valid until
 *            the next operation on the same stream. Credit goes back to the sender on consume, not before: an owner
 *            that does not consume stops the far end at its window.
 * Writing    stream_write() takes what fits and says how much; 0 means full, and STREAM_OUT follows when there is room.
 *            stream_finish() ends the direction after everything accepted so far.
 * Events     Delivered only from the deferred queue, never from inside an operation; several may come in one call.
 *            They are edges: STREAM_IN comes after new bytes or EOF arrived, not again because old ones are still
 *            there; STREAM_OUT comes once after a short write became possible again, or the peer stopped reading.
 *            Order: OPEN, then bytes, then EOF, then DEAD. After stream_free() there are none.
 * Death      STREAM_DEAD says the stream was aborted or lost: `err` holds why. Bytes that had arrived before can still
 *            be peeked and consumed; then peek yields the error. A stream whose both directions ended in order
 *            (EOF seen and finished) does not die.
 * Threads    none. Re-entrancy: every operation may be called from an event callback, stream_free() included.
 */
#ifndef ADIT_BASE_STREAM_H
#define ADIT_BASE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/defer.h"
#include "base/err.h"

enum stream_event {
    STREAM_OPEN = 1, /* the far side answered; `status` is set (session streams: the HTTP status; TCP: 0) */
    STREAM_IN = 2,   /* bytes or EOF can be peeked */
    STREAM_OUT = 4,  /* room again after a short write, or the write side was stopped */
    STREAM_DEAD = 8, /* aborted or lost, see `err` */
};

/* What stream_peek returns beside a negative err. */
enum stream_peek {
    STREAM_NONE = 0, /* nothing now; STREAM_IN will tell */
    STREAM_BYTES = 1,
    STREAM_EOF = 2, /* every byte was consumed and the far end finished */
};

struct stream;
/* events: a set of enum stream_event. The callback may free the stream. */
typedef void stream_cb(struct stream *s, unsigned events, void *arg);

struct stream_ops {
    const char *name; /* "tcp", "h2", "h3", "pipe" */
    int (*peek)(struct stream *s, const uint8_t **p, size_t *n);
    void (*consume)(struct stream *s, size_t n);
    long (*write)(struct stream *s, const uint8_t *p, size_t n);
    void (*finish)(struct stream *s);
    void (*reset)(struct stream *s, enum err why);
    void (*free)(struct stream *s);
};

/* Embedded first in every implementation. The fields are for implementations; owners use the functions below. */
struct stream {
    const struct stream_ops *ops;
    stream_cb *cb;
    void *arg;
    struct defer_queue *queue;
    struct defer node;
    unsigned pending; /* events not yet delivered */
    int status;       /* valid from STREAM_OPEN on */
    enum err err;     /* valid from STREAM_DEAD on */
};

/* --- for owners --- */

/* Makes cb/arg the owner. Events not yet delivered go to the new owner; cb may be NULL to hold them back. A new
 * owner must peek and write once by itself: edges delivered to the old owner do not come again. */
void stream_own(struct stream *s, stream_cb *cb, void *arg);

/* enum stream_peek; sets *p and *n (> 0) for STREAM_BYTES. Negative err: aborted, and nothing is left to read. */
int stream_peek(struct stream *s, const uint8_t **p, size_t *n);
/* n at most what the last peek showed. */
void stream_consume(struct stream *s, size_t n);
/* Number taken, 0..n; 0 for n > 0: full. Negative err: nothing can be written any more (aborted, or
 * ERR_UPSTREAM_STOPPED / ERR_CLIENT_GONE when only this direction was ended by the peer). Not after finish. */
long stream_write(struct stream *s, const void *p, size_t n);
/* Ends the write direction after what was accepted. Idempotent; nothing on a dead stream. */
void stream_finish(struct stream *s);
/* Aborts both directions and tells the peer as the transport can (doc/stream.md). No event follows. */
void stream_reset(struct stream *s, enum err why);
/* Gives the stream up. Bytes accepted before a finish are still delivered; without a finish, or with bytes unread,
 * it is a reset(ERR_CANCELLED). NULL is allowed. */
void stream_free(struct stream *s);

/* --- for implementations --- */

/* Owner none, nothing pending. */
void stream_init(struct stream *s, const struct stream_ops *ops, struct defer_queue *queue);
/* Marks events for delivery. With DEAD, s->err must be set before. */
void stream_notify(struct stream *s, unsigned events);
/* Must be called by ops->free before the memory goes, or when the owner gives up a stream that lingers. */
void stream_detach(struct stream *s);

#endif
