#include <stdlib.h>

#include "session/h3_impl.h"

static const char *const tx_words[] = {"open", "finishing", "finished", "stopped", "reset"};
static const char *const rx_words[] = {"open", "ended", "closed"};

void h3_stream_set_tx(struct h3_stream *t, enum h3_tx tx) {
    if (tx == t->tx) return;
    log_trace("session", "h3 stream=%lld tx from=%s to=%s", (long long)t->id, tx_words[t->tx], tx_words[tx]);
    t->tx = tx;
}

void h3_stream_set_rx(struct h3_stream *t, enum h3_rx rx) {
    if (rx == t->rx) return;
    log_trace("session", "h3 stream=%lld rx from=%s to=%s", (long long)t->id, rx_words[t->rx], rx_words[rx]);
    t->rx = rx;
}

/* ---- the lists of a session ---- */

static struct h3_stream **bucket_of(struct h3 *h, int64_t id) {
    return &h->bucket[(uint64_t)id >> 2 & (H3_BUCKETS - 1)];
}

struct h3_stream *h3_stream_find(struct h3 *h, int64_t id) {
    struct h3_stream *t = *bucket_of(h, id);
    while (t && t->id != id) t = t->in_bucket;
    return t;
}

void h3_stream_queue(struct h3_stream *t, enum h3_queue which) {
    if (t->queued[which] || t->id < 0) return;
    t->queued[which] = true;
    t->behind[which] = NULL;
    *t->h3->last[which] = t;
    t->h3->last[which] = &t->behind[which];
}

void h3_stream_unqueue(struct h3_stream *t, enum h3_queue which) {
    if (!t->queued[which]) return;
    struct h3_stream **at = &t->h3->first[which];
    while (*at != t) at = &(*at)->behind[which];
    *at = t->behind[which];
    if (!*at) t->h3->last[which] = at;
    t->queued[which] = false;
}

/* Nothing more is sent. */
static void unqueue_all(struct h3_stream *t) {
    for (int i = 0; i < H3_QUEUES; i++) h3_stream_unqueue(t, (enum h3_queue)i);
}

/* QUIC no longer knows the stream. */
static void forget_id(struct h3_stream *t) {
    if (t->id < 0) return;
    struct h3_stream **at = bucket_of(t->h3, t->id);
    while (*at != t) at = &(*at)->in_bucket;
    *at = t->in_bucket;
    unqueue_all(t);
    if (t->blocked) t->h3->blocked--;
    t->blocked = false;
    t->h3->live--;
    t->id = -1;
    /* Nobody needs the sent bytes any more, and nobody will take the rest. */
    buf_clear(&t->out);
    t->handed = 0;
}

/* Received bytes that nobody will read. */
static void drop_unread(struct h3_stream *t) {
    if (t->h3 && t->in.len) h3_unread_less(t->h3, t->in.len);
    buf_clear(&t->in);
}

static void unlink_stream(struct h3_stream *t) {
    struct h3 *h = t->h3;
    forget_id(t);
    if (t->prev)
        t->prev->next = t->next;
    else
        h->streams = t->next;
    if (t->next) t->next->prev = t->prev;
    t->next = t->prev = NULL;
    t->h3 = NULL;
    t->ss.session = NULL;
}

static void destroy(struct h3_stream *t) {
    drop_unread(t);
    if (t->h3) unlink_stream(t);
    buf_clear(&t->out);
    session_stream_fini(&t->ss);
    free(t);
}

/* ---- what happens to a stream ---- */

void h3_stream_block(struct h3_stream *t) {
    if (t->aborting) {
        /* The end cannot be sent now, and nobody waits for it. */
        h3_stream_cut(t, t->aborting);
        return;
    }
    if (!t->blocked) t->h3->blocked++;
    t->blocked = true;
    if (t->tail_due)
        h3_stream_unqueue(t, H3_TAILS);
    else
        nghttp3_conn_block_stream(t->h3->http, t->id);
}

void h3_stream_unblock(struct h3_stream *t) {
    if (!t->blocked) return;
    t->blocked = false;
    t->h3->blocked--;
    if (t->tail_due)
        h3_stream_queue(t, H3_TAILS);
    else
        nghttp3_conn_unblock_stream(t->h3->http, t->id);
}

void h3_stream_received(struct h3_stream *t, const uint8_t *p, size_t n) {
    struct h3 *h = t->h3;
    bool wanted = t->rx == H3_RX_OPEN && !t->orphan && !t->fail;
    long took = wanted ? buf_append(&t->in, p, n) : 0;
    if (took < 0) took = 0;
    if ((size_t)took < n) {
        quic_credit_stream(h->q, t->id, n - (size_t)took);
        quic_credit(h->q, n - (size_t)took);
        if (wanted) {
            t->fail = NGHTTP3_H3_INTERNAL_ERROR;
            t->fail_err = ERR_NO_MEMORY;
            h->failed = true;
        }
    }
    if (!took) return;
    h3_unread_more(h, (size_t)took);
    stream_notify(&t->ss.st, STREAM_IN);
}

void h3_stream_room(struct h3_stream *t) {
    if (!t->want_out || h3_stream_unhanded(t) > t->h3->s.cfg.send_buffer / 2) return;
    t->want_out = false;
    stream_notify(&t->ss.st, STREAM_OUT);
}

void h3_stream_stop_reading(struct h3_stream *t, uint64_t code) {
    if (t->rx == H3_RX_OPEN) h3_stream_set_rx(t, H3_RX_CLOSED);
    quic_stop_sending(t->h3->q, t->id, code);
}

void h3_stream_cut(struct h3_stream *t, uint64_t code) {
    if (t->id < 0) return;
    t->aborting = 0;
    if (t->tx == H3_TX_OPEN || t->tx == H3_TX_FINISHING) {
        unqueue_all(t);
        h3_http_shut(t);
        quic_reset_stream(t->h3->q, t->id, code);
        h3_stream_set_tx(t, H3_TX_RESET);
    }
    h3_stream_stop_reading(t, code);
}

void h3_stream_abort(struct h3_stream *t, uint64_t code) {
    const struct session_config *c = &t->h3->s.cfg;
    if (t->id < 0) return;
    drop_unread(t);
    bool unsent = t->tx == H3_TX_OPEN || t->tx == H3_TX_FINISHING;
    if (c->server || c->strict_reset || !unsent || t->blocked || h3_stream_unhanded(t)) {
        h3_stream_cut(t, code);
        return;
    }
    t->aborting = code;
    if (t->rx == H3_RX_OPEN) h3_stream_set_rx(t, H3_RX_CLOSED);
    h3_stream_set_tx(t, H3_TX_FINISHING);
    h3_stream_queue(t, H3_TURNS);
}

void h3_stream_die(struct h3_stream *t, enum err err, uint64_t code) {
    if (t->dead) return;
    t->dead = true;
    t->ss.st.err = err;
    h3_stream_cut(t, code);
    if (h3_stream_owned(t)) {
        stream_notify(&t->ss.st, STREAM_DEAD);
        return;
    }
    /* Nobody has it, or will get it: it goes when QUIC has forgotten it. */
    defer_cancel(&t->ss.request_node);
    drop_unread(t);
}

void h3_stream_stopped(struct h3_stream *t) {
    unqueue_all(t);
    if (t->tx == H3_TX_OPEN && !t->dead) {
        t->want_out = false;
        stream_notify(&t->ss.st, STREAM_OUT);
    }
    if (t->tx == H3_TX_OPEN || t->tx == H3_TX_FINISHING) h3_stream_set_tx(t, H3_TX_STOPPED);
    if (t->aborting) h3_stream_cut(t, t->aborting);
}

static bool all_acked(const struct h3_stream *t) {
    return t->tx == H3_TX_FINISHED && t->acked == t->framed + t->tail;
}

void h3_stream_delivered(struct h3_stream *t) {
    if (h3_stream_owned(t) || t->rx != H3_RX_OPEN || !all_acked(t)) return;
    h3_stream_stop_reading(t, t->h3->s.cfg.server ? NGHTTP3_H3_NO_ERROR : NGHTTP3_H3_REQUEST_CANCELLED);
}

void h3_stream_forgotten(struct h3_stream *t) {
    if (!h3_stream_owned(t)) {
        destroy(t);
        return;
    }
    t->aborting = 0;
    h3_stream_stopped(t);
    forget_id(t);
}

void h3_stream_lost(struct h3_stream *t, enum err err) {
    bool ended = t->dead || t->id < 0 || (t->rx == H3_RX_ENDED && all_acked(t));
    /* The session is over: its account of unread bytes means nothing more. */
    t->h3->s.unread -= t->in.len;
    unlink_stream(t);
    if (!h3_stream_owned(t)) {
        destroy(t);
        return;
    }
    if (ended) return;
    t->dead = true;
    t->ss.st.err = err;
    stream_notify(&t->ss.st, STREAM_DEAD);
}

/* ---- struct stream ---- */

static int op_peek(struct stream *st, const uint8_t **p, size_t *n) {
    struct h3_stream *t = h3_stream_of(st);
    if ((*n = buf_peek(&t->in, p)) > 0) return STREAM_BYTES;
    if (t->rx == H3_RX_ENDED) return STREAM_EOF;
    return t->dead ? (int)st->err : STREAM_NONE;
}

static void op_consume(struct stream *st, size_t n) {
    struct h3_stream *t = h3_stream_of(st);
    buf_consume(&t->in, n);
    if (!t->h3) return;
    h3_unread_less(t->h3, n);
    if (t->rx == H3_RX_OPEN) quic_credit_stream(t->h3->q, t->id, n);
    session_wake(&t->h3->s);
}

static long op_write(struct stream *st, const uint8_t *p, size_t n) {
    struct h3_stream *t = h3_stream_of(st);
    if (t->dead) return (long)st->err;
    if (t->tx != H3_TX_OPEN || !t->h3) return t->tx == H3_TX_STOPPED ? ERR_UPSTREAM_STOPPED : ERR_INTERNAL;
    size_t unhanded = h3_stream_unhanded(t), max = t->h3->s.cfg.send_buffer;
    size_t room = unhanded < max ? max - unhanded : 0;
    long took = room && n ? buf_append(&t->out, p, n < room ? n : room) : 0;
    if (took < 0) return took;
    if ((size_t)took < n) t->want_out = true;
    if (took) {
        h3_stream_queue(t, H3_TURNS);
        session_wake(&t->h3->s);
    }
    return took;
}

static void op_finish(struct stream *st) {
    struct h3_stream *t = h3_stream_of(st);
    if (t->dead || !t->h3 || t->tx != H3_TX_OPEN) return;
    h3_stream_set_tx(t, H3_TX_FINISHING);
    h3_stream_queue(t, H3_TURNS);
    session_wake(&t->h3->s);
}

static uint64_t code_of(const struct h3 *h, enum err why) {
    if (!h->s.cfg.server) return NGHTTP3_H3_REQUEST_CANCELLED;
    switch (why) {
    case ERR_UPSTREAM_RETRY: return NGHTTP3_H3_REQUEST_REJECTED;
    case ERR_UPSTREAM_AUTH: return 0x1f;
    case ERR_CANCELLED: return NGHTTP3_H3_REQUEST_CANCELLED;
    default: return err_class(why) == ERR_CLASS_TARGET ? NGHTTP3_H3_CONNECT_ERROR : NGHTTP3_H3_INTERNAL_ERROR;
    }
}

static void op_reset(struct stream *st, enum err why) {
    struct h3_stream *t = h3_stream_of(st);
    bool dead = t->dead;
    drop_unread(t);
    if (t->rx == H3_RX_ENDED) h3_stream_set_rx(t, H3_RX_CLOSED);
    if (dead) return;
    t->dead = true;
    st->err = why;
    if (!t->h3) return;
    h3_stream_abort(t, code_of(t->h3, why));
    session_wake(&t->h3->s);
}

static void op_free(struct stream *st) {
    struct h3_stream *t = h3_stream_of(st);
    t->owned = t->ss.offered = false;
    t->orphan = true;
    if (!t->h3 || t->id < 0) {
        destroy(t);
        return;
    }
    bool finished = t->tx == H3_TX_FINISHING || t->tx == H3_TX_FINISHED;
    if (!t->dead && (!finished || t->in.len)) h3_stream_abort(t, code_of(t->h3, ERR_CANCELLED));
    drop_unread(t);
    h3_stream_delivered(t);
    session_wake(&t->h3->s);
}

static const struct stream_ops ops = {
    .name = "h3",
    .peek = op_peek,
    .consume = op_consume,
    .write = op_write,
    .finish = op_finish,
    .reset = op_reset,
    .free = op_free,
};

struct h3_stream *h3_stream_new(struct h3 *h, int64_t id) {
    struct h3_stream *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    session_stream_init(&t->ss, &h->s, &ops);
    t->h3 = h;
    t->id = id;
    buf_init(&t->in, h->s.cfg.stream_window);
    /* Bounded by op_write() as far as the bytes are unsent, and by QUIC's windows after that. */
    buf_init(&t->out, SIZE_MAX);
    struct h3_stream **at = bucket_of(h, id);
    t->in_bucket = *at;
    *at = t;
    t->next = h->streams;
    if (h->streams) h->streams->prev = t;
    h->streams = t;
    h->live++;
    return t;
}
