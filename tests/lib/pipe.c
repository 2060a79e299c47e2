#include "lib/pipe.h"

#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"

struct pipe;

struct end {
    struct stream s; /* first */
    struct pipe *pipe;
    struct end *peer;
    struct buf in;       /* what the peer wrote */
    bool finished;       /* the owner ended its direction */
    bool eof_seen;       /* peek has shown EOF */
    bool dead;           /* s.err says why; no event follows */
    bool was_reset;      /* by its owner */
    bool freed;
    bool hold_writes, hold_reads;
    bool want_out;       /* a write was short and STREAM_OUT is due */
    enum err stopped;    /* the peer stopped reading: what writes yield */
};

struct pipe {
    struct end end[2];
};

static struct end *end_of(struct stream *s) {
    return (struct end *)s;
}

static const struct end *end_of_const(const struct stream *s) {
    return (const struct end *)s;
}

static void notify(struct end *e, unsigned events) {
    if (e->freed || e->dead) return;
    stream_notify(&e->s, events);
}

/* The end dies of `why`; bytes that arrived stay readable, those held back are lost. One whose directions both
 * ended in order does not die. */
static void die(struct end *e, enum err why) {
    if (e->freed || e->dead || (e->finished && e->eof_seen)) return;
    if (e->hold_reads) buf_clear(&e->in);
    e->s.err = why;
    stream_notify(&e->s, STREAM_DEAD);
    e->dead = true;
}

/* Tells the writer of e->in about room, if it waits for it. */
static void offer_room(struct end *e) {
    struct end *writer = e->peer;
    if (!writer->want_out || writer->hold_writes || !buf_room(&e->in)) return;
    writer->want_out = false;
    notify(writer, STREAM_OUT);
}

static void stop_writes(struct end *writer, enum err why) {
    if (writer->stopped) return;
    writer->stopped = why;
    writer->want_out = false;
    if (!writer->finished) notify(writer, STREAM_OUT);
}

static int end_peek(struct stream *s, const uint8_t **p, size_t *n) {
    struct end *e = end_of(s);
    if (!e->hold_reads) {
        *n = buf_peek(&e->in, p);
        if (*n) return STREAM_BYTES;
    }
    if (e->dead) return e->s.err;
    if (e->hold_reads || !e->peer->finished) return STREAM_NONE;
    e->eof_seen = true;
    return STREAM_EOF;
}

static void end_consume(struct stream *s, size_t n) {
    struct end *e = end_of(s);
    assert(!e->hold_reads);
    buf_consume(&e->in, n);
    offer_room(e);
}

static long end_write(struct stream *s, const uint8_t *p, size_t n) {
    struct end *e = end_of(s);
    if (e->dead) return e->s.err;
    assert(!e->finished);
    if (e->stopped) return e->stopped;
    long taken = e->hold_writes ? 0 : buf_append(&e->peer->in, p, n);
    if (taken < 0) return taken;
    if ((size_t)taken < n) e->want_out = true;
    if (taken && !e->peer->hold_reads) notify(e->peer, STREAM_IN);
    return taken;
}

static void end_finish(struct stream *s) {
    struct end *e = end_of(s);
    if (e->dead || e->finished) return;
    e->finished = true;
    e->want_out = false;
    if (!e->peer->hold_reads) notify(e->peer, STREAM_IN);
}

static void end_reset(struct stream *s, enum err why) {
    struct end *e = end_of(s);
    if (e->dead) return;
    e->dead = e->was_reset = true;
    e->s.err = why;
    buf_clear(&e->in);
    die(e->peer, why);
}

static void end_free(struct stream *s) {
    struct end *e = end_of(s);
    if (!e->finished || e->in.len) end_reset(s, ERR_CANCELLED);
    stream_detach(s);
    e->freed = true;
    buf_clear(&e->in);
    if (!e->peer->freed) {
        stop_writes(e->peer, ERR_CLIENT_GONE);
        return;
    }
    free(e->pipe);
}

static const struct stream_ops ops = {
    .name = "pipe",
    .peek = end_peek,
    .consume = end_consume,
    .write = end_write,
    .finish = end_finish,
    .reset = end_reset,
    .free = end_free,
};

int pipe_pair(struct defer_queue *queue, size_t room, struct stream **a, struct stream **b) {
    struct pipe *p = calloc(1, sizeof *p);
    if (!p) return ERR_NO_MEMORY;
    for (int i = 0; i < 2; i++) {
        struct end *e = &p->end[i];
        stream_init(&e->s, &ops, queue);
        buf_init(&e->in, room);
        e->pipe = p;
        e->peer = &p->end[1 - i];
    }
    *a = &p->end[0].s;
    *b = &p->end[1].s;
    return 0;
}

void pipe_open(struct stream *s, int status) {
    s->status = status;
    notify(end_of(s), STREAM_OPEN);
}

void pipe_hold_writes(struct stream *s, bool hold) {
    struct end *e = end_of(s);
    e->hold_writes = hold;
    if (!hold) offer_room(e->peer);
}

void pipe_hold_reads(struct stream *s, bool hold) {
    struct end *e = end_of(s);
    bool released = e->hold_reads && !hold;
    e->hold_reads = hold;
    if (released && (e->in.len || e->peer->finished)) notify(e, STREAM_IN);
}

void pipe_stop(struct stream *s, enum err why) {
    stop_writes(end_of(s)->peer, why);
}

void pipe_lose(struct stream *s, enum err why) {
    die(end_of(s), why);
}

bool pipe_peer_finished(const struct stream *s) {
    return end_of_const(s)->peer->finished;
}

bool pipe_peer_freed(const struct stream *s) {
    return end_of_const(s)->peer->freed;
}

bool pipe_peer_reset(const struct stream *s) {
    return end_of_const(s)->peer->was_reset;
}

size_t pipe_unread(const struct stream *s) {
    return end_of_const(s)->in.len;
}
