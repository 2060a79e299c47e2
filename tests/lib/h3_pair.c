#include "lib/h3_pair.h"

#include <stdlib.h>
#include <string.h>

#include "session/quic.h"
#include "session/session_impl.h"

/* ---- the doorstep ---- */

struct h3_pair_door h3_pair_door;
static struct session_accept accepted;

static void on_cid(void *arg, const struct quic_cid *cid, bool added) {
    struct h3_pair_door *d = arg;
    for (unsigned i = 0; i < d->n_cids && !added; i++) {
        if (d->cids[i].len != cid->len || memcmp(d->cids[i].data, cid->data, cid->len) != 0) continue;
        d->cids[i] = d->cids[--d->n_cids];
        return;
    }
    if (added && d->n_cids < 64) d->cids[d->n_cids++] = *cid;
}

static void on_door(struct session_pair *p, const struct addr *from, const uint8_t *data, size_t n) {
    struct h3_pair_door *d = &h3_pair_door;
    uint8_t reply[QUIC_REPLY_MAX];
    size_t reply_len;
    switch (quic_accept(&d->acceptor, from, data, n, p->now, &accepted, reply, &reply_len)) {
    case QUIC_ACCEPT_NONE: d->dropped++; return;
    case QUIC_ACCEPT_REPLY:
        d->replies++;
        session_pair_answer(p, reply, reply_len);
        return;
    case QUIC_ACCEPT_NEW: break;
    }
    d->sessions++;
    accepted.cid = on_cid;
    accepted.cid_arg = d;
    p->config.server.accept = &accepted;
    if (p->config.make(&p->side[PAIR_SERVER].session, &p->config.server) == 0)
        session_in_datagram(p->side[PAIR_SERVER].session, from, 0, data, n, p->now);
}

void h3_pair_config_init(struct session_pair_config *c, bool retry) {
    session_pair_config_init(c, SESSION_H3);
    h3_pair_door = (struct h3_pair_door){0};
    if (quic_acceptor_init(&h3_pair_door.acceptor, retry) < 0) abort();
    c->accept = on_door;
}

struct session_pair *h3_pair_new(const struct session_pair_config *c) {
    struct session_pair *p = session_pair_new(c);
    if (p && session_pair_up(p)) return p;
    session_pair_free(p);
    return NULL;
}

static bool has_request(void *arg) { return ((struct session_pair *)arg)->n_requests > 0; }

static bool is_open(void *arg) { return ((struct stream *)arg)->status != 0; }

bool h3_pair_tunnel(struct session_pair *p, int status, struct stream **client, struct stream **server) {
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "example.test:443")};
    char word[4] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10), 0};
    struct header answer = HEADER(":status", word);
    int err;
    answer.value_len = 3;
    *client = session_open(p->side[PAIR_CLIENT].session, head, 2, false, p->now, &err);
    if (!*client || !session_pair_until(p, has_request, p, 60 * PAIR_S)) return false;
    *server = session_pair_request(p);
    if (session_respond(*server, &answer, 1, false) < 0) return false;
    return session_pair_until(p, is_open, *client, 60 * PAIR_S);
}

/* ---- a peer of bytes ---- */

struct qraw {
    struct session s;
    struct quic *q;
    struct qraw_stream streams[QRAW_STREAMS];
    unsigned n;
    bool starve;
};

struct qraw_stream *qraw_stream(struct session *s, int64_t id) {
    struct qraw *r = (struct qraw *)s;
    for (unsigned i = 0; i < r->n; i++)
        if (r->streams[i].id == id) return &r->streams[i];
    return NULL;
}

static struct qraw_stream *raw_make(struct qraw *r, int64_t id) {
    struct qraw_stream *t = qraw_stream(&r->s, id);
    if (t) return t;
    if (r->n == QRAW_STREAMS) abort();
    t = &r->streams[r->n++];
    t->id = id;
    return t;
}

/* Doubles, so that long transfers do not spend their time here. */
static uint8_t *grown(uint8_t *p, size_t len, const void *more, size_t n) {
    size_t cap = 1024, had = 1024;
    while (cap < len + n) cap *= 2;
    while (had < len) had *= 2;
    if (!p || cap != had) p = realloc(p, cap);
    if (!p) abort();
    if (n) memcpy(p + len, more, n);
    return p;
}

static int on_ready(void *arg) {
    struct qraw *r = arg;
    session_set_state(&r->s, SESSION_UP, r->s.last_rx);
    return 0;
}

static int on_opened(void *arg, int64_t id) {
    raw_make(arg, id);
    return 0;
}

static int on_data(void *arg, int64_t id, const uint8_t *p, size_t n, bool fin) {
    struct qraw *r = arg;
    struct qraw_stream *t = raw_make(r, id);
    t->in = grown(t->in, t->in_len, p, n);
    t->in_len += n;
    t->pieces++;
    t->last_len = n < sizeof t->last ? n : sizeof t->last;
    if (n) memcpy(t->last, p, t->last_len);
    t->fin |= fin;
    t->last_fin = fin;
    if (!r->starve) {
        quic_credit_stream(r->q, id, n);
        quic_credit(r->q, n);
    }
    return 0;
}

static int on_acked(void *arg, int64_t id, uint64_t upto) {
    (void)arg;
    (void)id;
    (void)upto;
    return 0;
}

static int on_reset(void *arg, int64_t id, uint64_t code) {
    struct qraw_stream *t = raw_make(arg, id);
    t->reset = true;
    t->reset_code = code;
    return 0;
}

static int on_stopping(void *arg, int64_t id) {
    (void)arg;
    (void)id;
    return 0;
}

static int on_closed(void *arg, int64_t id, bool has_code, uint64_t code) {
    struct qraw_stream *t = raw_make(arg, id);
    t->closed = true;
    t->closed_code = has_code ? code : 0;
    return 0;
}

static int on_unblocked(void *arg, int64_t id) {
    raw_make(arg, id)->blocked = false;
    return 0;
}

static void on_limit(void *arg, uint64_t streams) {
    (void)arg;
    (void)streams;
}

static int on_pull(void *arg, struct quic_chunk *c) {
    struct qraw *r = arg;
    for (unsigned i = 0; i < r->n; i++) {
        struct qraw_stream *t = &r->streams[i];
        if (t->blocked || t->stopped || t->closed) continue;
        if (t->out_at == t->out_len && (!t->out_fin || t->out_fin_sent)) continue;
        c->id = t->id;
        c->iov[0] = (struct iovec){t->out + t->out_at, t->out_len - t->out_at};
        c->iovs = 1;
        c->fin = t->out_fin;
        return 0;
    }
    return 0;
}

static int on_taken(void *arg, const struct quic_chunk *c, size_t n) {
    struct qraw_stream *t = raw_make(arg, c->id);
    t->out_at += n;
    if (c->fin && t->out_at == t->out_len) t->out_fin_sent = true;
    return 0;
}

static void on_blocked(void *arg, const struct quic_chunk *c) { raw_make(arg, c->id)->blocked = true; }

static void on_stopped(void *arg, const struct quic_chunk *c) { raw_make(arg, c->id)->stopped = true; }

static void on_down(void *arg) { (void)arg; }

static const struct quic_ops raw_quic_ops = {
    .ready = on_ready,
    .opened = on_opened,
    .data = on_data,
    .acked = on_acked,
    .reset = on_reset,
    .stopping = on_stopping,
    .closed = on_closed,
    .unblocked = on_unblocked,
    .limit = on_limit,
    .pull = on_pull,
    .taken = on_taken,
    .blocked = on_blocked,
    .stopped = on_stopped,
    .down = on_down,
};

static void op_free(struct session *s) {
    struct qraw *r = (struct qraw *)s;
    quic_free(r->q);
    for (unsigned i = 0; i < r->n; i++) {
        free(r->streams[i].in);
        free(r->streams[i].out);
    }
    session_base_fini(s);
    free(r);
}

static void op_in(struct session *s, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n,
                  uint64_t now) {
    quic_in(((struct qraw *)s)->q, remote, ecn, p, n, now);
}

static bool op_out(struct session *s, struct session_out *o, uint64_t now) {
    return quic_out(((struct qraw *)s)->q, o, now);
}

static void op_sent(struct session *s, size_t n, uint64_t now) {
    (void)now;
    quic_sent(((struct qraw *)s)->q, n);
}

static uint64_t op_deadline(const struct session *s) { return quic_deadline(((const struct qraw *)s)->q); }

static void op_expire(struct session *s, uint64_t now) { quic_expire(((struct qraw *)s)->q, now); }

static void op_ping(struct session *s, uint64_t now) {
    (void)now;
    quic_ping(((struct qraw *)s)->q);
}

static void op_info(const struct session *s, struct session_info *i) { quic_info(((const struct qraw *)s)->q, i); }

static void op_close(struct session *s, enum err err, uint64_t now) {
    quic_close(((struct qraw *)s)->q, err, 0x100, "", now);
}

static const struct session_ops raw_session_ops = {
    .free = op_free,
    .in_datagram = op_in,
    .out = op_out,
    .sent = op_sent,
    .deadline = op_deadline,
    .expire = op_expire,
    .ping = op_ping,
    .close = op_close,
    .info = op_info,
};

int qraw_new(struct session **out, const struct session_config *c) {
    struct qraw *r = calloc(1, sizeof *r);
    if (!r) return ERR_NO_MEMORY;
    session_base_init(&r->s, &raw_session_ops, c);
    int rv = quic_new(&r->q, &r->s, &raw_quic_ops, r);
    if (rv < 0) {
        session_base_fini(&r->s);
        free(r);
        return rv;
    }
    *out = &r->s;
    return 0;
}

int64_t qraw_open(struct session *s, bool bidi) {
    struct qraw *r = (struct qraw *)s;
    int64_t id = bidi ? quic_open_bidi(r->q) : quic_open_uni(r->q);
    if (id < 0) abort();
    raw_make(r, id);
    return id;
}

void qraw_write(struct session *s, int64_t id, const void *p, size_t n, bool fin) {
    struct qraw_stream *t = raw_make((struct qraw *)s, id);
    /* QUIC may still need the bytes that it took: they stay where they are. */
    if (t->out && t->out_len + n > QRAW_OUT) abort();
    if (!t->out && !(t->out = malloc(QRAW_OUT))) abort();
    if (n) memcpy(t->out + t->out_len, p, n);
    t->out_len += n;
    t->out_fin |= fin;
    session_wake(s);
}

void qraw_reset(struct session *s, int64_t id, uint64_t code) {
    quic_reset_stream(((struct qraw *)s)->q, id, code);
    session_wake(s);
}

void qraw_stop(struct session *s, int64_t id, uint64_t code) {
    quic_stop_sending(((struct qraw *)s)->q, id, code);
    session_wake(s);
}

void qraw_close(struct session *s, uint64_t code, uint64_t now) {
    quic_close(((struct qraw *)s)->q, ERR_OK, code, "", now);
}

struct quic *qraw_quic(struct session *s) { return ((struct qraw *)s)->q; }

void qraw_starve(struct session *s, bool starve) { ((struct qraw *)s)->starve = starve; }
