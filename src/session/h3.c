#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "session/h3_impl.h"

static struct h3 *h3_of(struct session *s) { return (struct h3 *)s; }

/* ---- connection credit ---- */

static void log_congestion(struct h3 *h) {
    struct session_holders most = {0};
    unsigned suppressed;
    if (!log_limit_pass(&h->congestion, h->s.last_rx, &suppressed)) return;
    for (const struct h3_stream *t = h->streams; t; t = t->next) session_holders_add(&most, &t->ss, t->in.len);
    session_log_congestion(&h->s, &most, h->live, suppressed);
}

void h3_unread_more(struct h3 *h, size_t n) {
    bool before = h->owed > 0;
    h->s.unread += n;
    if (h->s.unread <= h->s.cfg.budget) {
        quic_credit(h->q, n);
        return;
    }
    h->owed += n;
    if (!before) log_congestion(h);
}

void h3_unread_less(struct h3 *h, size_t n) {
    h->s.unread -= n;
    if (!h->owed || h->s.unread > h->s.cfg.budget) return;
    quic_credit(h->q, h->owed);
    h->owed = 0;
}

/* ---- ops ---- */

/* Ends a session that was told to end and has nothing left to do. */
static void settle(struct h3 *h, uint64_t now) {
    if (h->s.state == SESSION_DRAINING && !h->live) quic_close(h->q, ERR_OK, NGHTTP3_H3_NO_ERROR, "", now);
}

static void h3_free(struct session *s) {
    struct h3 *h = h3_of(s);
    enum err err = s->err != ERR_OK ? s->err : ERR_UPSTREAM_CLOSED;
    while (h->streams) h3_stream_lost(h->streams, err);
    nghttp3_conn_del(h->http);
    quic_free(h->q);
    session_base_fini(s);
    free(h);
}

static void h3_in_datagram(struct session *s, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n,
                           uint64_t now) {
    struct h3 *h = h3_of(s);
    h->reoffer = true;
    quic_in(h->q, remote, ecn, p, n, now);
    settle(h, now);
}

/* A closed window hides that the peer wants nothing more: offering again is answered by "stopped". */
static void reoffer(struct h3 *h) {
    h->reoffer = false;
    if (!h->blocked || h->http_broken || h->s.state == SESSION_DOWN) return;
    for (struct h3_stream *t = h->streams; t; t = t->next)
        if (t->blocked) h3_stream_unblock(t);
}

static bool h3_out(struct session *s, struct session_out *o, uint64_t now) {
    struct h3 *h = h3_of(s);
    if (h->reoffer) reoffer(h);
    return quic_out(h->q, o, now);
}

static void h3_sent(struct session *s, size_t n, uint64_t now) {
    (void)now;
    quic_sent(h3_of(s)->q, n);
}

static uint64_t h3_deadline(const struct session *s) { return quic_deadline(((const struct h3 *)s)->q); }

static void h3_expire(struct session *s, uint64_t now) {
    struct h3 *h = h3_of(s);
    quic_expire(h->q, now);
    settle(h, now);
}

static bool is_connect(const struct header *head, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct header *f = &head[i];
        if (f->name_len == 7 && !memcmp(f->name, ":method", 7))
            return f->value_len == 7 && !memcmp(f->value, "CONNECT", 7);
    }
    return false;
}

static struct stream *h3_open(struct session *s, const struct header *head, size_t n, bool fin, uint64_t now,
                              int *err) {
    struct h3 *h = h3_of(s);
    (void)now;
    int64_t id = quic_open_bidi(h->q);
    if (id < 0) {
        *err = (int)id;
        return NULL;
    }
    struct h3_stream *t = h3_stream_new(h, id);
    if (!t) {
        quic_reset_stream(h->q, id, NGHTTP3_H3_REQUEST_CANCELLED);
        quic_stop_sending(h->q, id, NGHTTP3_H3_REQUEST_CANCELLED);
        *err = ERR_NO_MEMORY;
        return NULL;
    }
    t->owned = true;
    t->connect = is_connect(head, n);
    /* A tunnel that is finished from the start ends like one that is finished later. */
    t->lone_fin = fin && !t->connect;
    *err = h3_http_submit(t, head, n, t->lone_fin);
    if (*err < 0) {
        t->owned = false;
        t->orphan = true;
        h3_stream_cut(t, NGHTTP3_H3_REQUEST_CANCELLED);
        return NULL;
    }
    if (fin) h3_stream_set_tx(t, H3_TX_FINISHING);
    session_wake(s);
    return &t->ss.st;
}

static unsigned h3_capacity(const struct session *s) {
    uint64_t n = quic_bidi_left(((const struct h3 *)s)->q);
    return n < UINT_MAX ? (unsigned)n : UINT_MAX;
}

static int h3_respond(struct stream *st, const struct header *head, size_t n, bool fin) {
    struct h3_stream *t = h3_stream_of(st);
    if (t->dead) return (int)t->ss.st.err;
    if (t->id < 0 || t->answered || t->tx == H3_TX_STOPPED || t->tx == H3_TX_RESET) return ERR_UPSTREAM_STOPPED;
    t->lone_fin = true;
    int rv = h3_http_submit(t, head, n, fin);
    if (rv < 0) return rv;
    t->answered = true;
    if (fin) h3_stream_set_tx(t, H3_TX_FINISHING);
    session_wake(&t->h3->s);
    return 0;
}

static void h3_ping(struct session *s, uint64_t now) {
    (void)now;
    quic_ping(h3_of(s)->q);
}

static void h3_close(struct session *s, enum err err, uint64_t now) {
    quic_close(h3_of(s)->q, err, NGHTTP3_H3_NO_ERROR, "", now);
}

static void h3_retire(struct session *s, uint64_t now) {
    struct h3 *h = h3_of(s);
    if (s->state == SESSION_STARTING) {
        h3_close(s, ERR_OK, now);
        return;
    }
    session_set_state(s, SESSION_DRAINING, now);
    if (s->cfg.server && !h->retiring && !h->http_broken) h->retiring = nghttp3_conn_shutdown(h->http) == 0;
    session_wake(s);
    settle(h, now);
}

static void h3_load(const struct session *s, struct session_load *l) {
    const struct h3 *h = (const struct h3 *)s;
    l->streams = h->live;
    l->congested = h->owed > 0;
}

static void h3_info(const struct session *s, struct session_info *i) {
    const struct h3 *h = (const struct h3 *)s;
    quic_info(h->q, i);
    i->streams = h->live;
    i->congested = h->owed > 0;
    i->peer_max_streams = s->cfg.server ? 0 : h->live + h3_capacity(s);
}

static const struct session_ops ops = {
    .free = h3_free,
    .in_datagram = h3_in_datagram,
    .out = h3_out,
    .sent = h3_sent,
    .deadline = h3_deadline,
    .expire = h3_expire,
    .open = h3_open,
    .capacity = h3_capacity,
    .load = h3_load,
    .respond = h3_respond,
    .ping = h3_ping,
    .retire = h3_retire,
    .close = h3_close,
    .info = h3_info,
};

int h3_new(struct session **out, const struct session_config *c) {
    struct h3 *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h) return ERR_NO_MEMORY;
    session_base_init(&h->s, &ops, c);
    for (int i = 0; i < H3_QUEUES; i++) h->last[i] = &h->first[i];
    h->refused = -1;
    int rv = quic_new(&h->q, &h->s, &h3_quic_ops, h);
    h->s.cfg.accept = NULL;
    if (rv < 0) {
        session_base_fini(&h->s);
        free(h);
        return rv;
    }
    *out = &h->s;
    session_wake(&h->s);
    return 0;
}
