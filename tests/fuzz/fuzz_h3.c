/* The HTTP/3 layer between an owner of streams and a QUIC connection that is made up here: the input decides what
 * the peer's streams carry, when they end, how much is taken of what is sent, what is acknowledged, and what the
 * owner does. What a real connection would never do is not done: bytes after an end, an acknowledgement of what
 * was not sent. Afterwards no byte may be held and no account be off.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/h3_impl.h"

#define STREAMS 48
#define CHECK(x)                                                 \
    do {                                                         \
        if (!(x)) {                                              \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                             \
        }                                                        \
    } while (0)

/* ---- a connection that is made up ---- */

struct fake_stream {
    int64_t id;
    bool rx_fin, rx_reset, rx_stopped;              /* the peer's direction is over; ours told it to stop */
    bool tx_fin, tx_reset, tx_stopped, tx_blocked;  /* ours */
    uint64_t sent, acked;
    bool closed;
    bool has_code;
    uint64_t code;
    bool announced; /* STOP_SENDING left */
    size_t credit, owed;
};

struct quic {
    struct session *s;
    const struct quic_ops *ops;
    void *arg;
    struct fake_stream streams[STREAMS];
    unsigned n;
    int64_t next[4]; /* by type of stream */
    bool stopped, in_op;
    enum err err;
    uint64_t credit, given; /* of the connection, and what was received */
};

static struct fake_stream *find(struct quic *q, int64_t id) {
    for (unsigned i = 0; i < q->n; i++)
        if (q->streams[i].id == id && !q->streams[i].closed) return &q->streams[i];
    return NULL;
}

static int64_t fake_open(struct quic *q, unsigned type) {
    if (q->n == STREAMS) return ERR_UPSTREAM_BUSY;
    struct fake_stream *f = &q->streams[q->n++];
    *f = (struct fake_stream){.id = q->next[type]};
    q->next[type] += 4;
    bool ours = (type & 1) == (q->s->cfg.server ? 1 : 0);
    if (type & 2) {
        f->rx_fin = ours;
        f->tx_fin = !ours;
    }
    return f->id;
}

int quic_new(struct quic **out, struct session *s, const struct quic_ops *ops, void *arg) {
    struct quic *q = calloc(1, sizeof *q);
    if (!q) return ERR_NO_MEMORY;
    q->s = s;
    q->ops = ops;
    q->arg = arg;
    for (int i = 0; i < 4; i++) q->next[i] = i;
    *out = q;
    return 0;
}

void quic_free(struct quic *q) { free(q); }

static void fake_end(struct quic *q, enum err err) {
    if (q->s->state == SESSION_DOWN) return;
    session_fail(q->s, 1, err, "ended");
    q->ops->down(q->arg);
}

/* After an op. */
static void settle(struct quic *q, int rv) {
    CHECK(rv == 0 || q->stopped);
    if (q->stopped) fake_end(q, q->err);
}

void quic_in(struct quic *q, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n, uint64_t now) {
    (void)q, (void)remote, (void)ecn, (void)p, (void)n, (void)now;
}

bool quic_out(struct quic *q, struct session_out *o, uint64_t now) {
    (void)q, (void)o, (void)now;
    return false;
}

void quic_sent(struct quic *q, size_t n) { (void)q, (void)n; }

uint64_t quic_deadline(const struct quic *q) {
    (void)q;
    return UINT64_MAX;
}

void quic_expire(struct quic *q, uint64_t now) { (void)q, (void)now; }

void quic_close(struct quic *q, enum err err, uint64_t code, const char *text, uint64_t now) {
    (void)code, (void)text, (void)now;
    CHECK(!q->in_op);
    fake_end(q, err);
}

int quic_stop(struct quic *q, enum err err, uint64_t code, const char *fmt, ...) {
    (void)fmt;
    CHECK(code > 0 && (int)err < 0);
    if (!q->stopped) q->err = err;
    q->stopped = true;
    return -1;
}

void quic_ping(struct quic *q) { (void)q; }

int64_t quic_open_bidi(struct quic *q) { return fake_open(q, q->s->cfg.server ? 1 : 0); }

int64_t quic_open_uni(struct quic *q) { return fake_open(q, q->s->cfg.server ? 3 : 2); }

uint64_t quic_bidi_left(const struct quic *q) { return STREAMS - q->n; }

static void set_code(struct fake_stream *f, uint64_t code) {
    if (f->has_code) return;
    f->has_code = true;
    f->code = code;
}

void quic_reset_stream(struct quic *q, int64_t id, uint64_t code) {
    struct fake_stream *f = find(q, id);
    if (!f) return;
    set_code(f, code);
    f->tx_reset = true;
}

void quic_stop_sending(struct quic *q, int64_t id, uint64_t code) {
    struct fake_stream *f = find(q, id);
    if (!f) return;
    set_code(f, code);
    if (!f->rx_fin && !f->rx_reset) f->rx_stopped = true;
}

void quic_credit_stream(struct quic *q, int64_t id, size_t n) {
    struct fake_stream *f = find(q, id);
    if (!f) return;
    f->credit += n;
    CHECK(f->credit <= f->owed);
}

void quic_credit(struct quic *q, size_t n) {
    q->credit += n;
    CHECK(q->credit <= q->given);
}

void quic_credit_stream_count(struct quic *q, bool bidi) { (void)q, (void)bidi; }

void quic_info(const struct quic *q, struct session_info *i) { (void)q, (void)i; }

/* Both directions over, and the peer knows: the library forgets the stream. */
static void maybe_close(struct quic *q, struct fake_stream *f) {
    bool rx = f->rx_fin || f->rx_reset;
    bool tx = f->tx_reset || (f->tx_fin && f->acked == f->sent);
    if (!rx || !tx || f->closed || q->s->state == SESSION_DOWN) return;
    f->closed = true;
    settle(q, q->ops->closed(q->arg, f->id, f->has_code, f->code));
}

/* ---- the owner ---- */

struct world {
    struct session *s;
    struct quic *q;
    struct defer_queue queue;
    struct stream *held[STREAMS];
    bool dead[STREAMS];
    unsigned n;
    const uint8_t *p, *end;
};

static uint8_t next(struct world *w) { return w->p < w->end ? *w->p++ : 0; }

static void on_event(struct stream *st, unsigned events, void *arg) {
    struct world *w = arg;
    for (unsigned i = 0; i < w->n; i++) {
        if (w->held[i] != st) continue;
        CHECK(!w->dead[i]);
        w->dead[i] = events & STREAM_DEAD;
        CHECK(!w->dead[i] || (int)st->err < 0);
        CHECK(!(events & STREAM_OPEN) || (st->status >= 200 && st->status <= 599));
        return;
    }
    CHECK(!"an event of a stream that nobody holds");
}

static void hold(struct world *w, struct stream *st) {
    if (w->n == STREAMS) {
        stream_free(st);
        return;
    }
    w->dead[w->n] = false;
    w->held[w->n++] = st;
    stream_own(st, on_event, w);
}

static void on_request(struct session *s, struct stream *st, void *arg) {
    (void)s;
    size_t n;
    CHECK(session_stream_header(st, ":method", &n));
    hold(arg, st);
}

static void drop(struct world *w, unsigned i) {
    struct stream *st = w->held[i];
    w->held[i] = w->held[--w->n];
    w->dead[i] = w->dead[w->n];
    stream_free(st);
}

static void do_open(struct world *w, uint8_t how) {
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "a.test:1")};
    const struct header get[] = {HEADER(":method", "GET"), HEADER(":scheme", "https"), HEADER(":path", "/"),
                                 HEADER(":authority", "a.test")};
    const struct header answers[] = {HEADER(":status", "200"), HEADER(":status", "407")};
    int err;
    if (!w->s->cfg.server) {
        bool tunnel = how & 2;
        struct stream *st = session_open(w->s, tunnel ? head : get, tunnel ? 2 : 4, how & 1, 1, &err);
        CHECK(st || err < 0);
        if (st) hold(w, st);
    } else if (w->n) {
        session_respond(w->held[how % w->n], &answers[how >> 6 & 1], 1, how & 1);
    }
}

static void do_owner(struct world *w, uint8_t op) {
    static const uint8_t bytes[70000];
    if (!w->n) return;
    unsigned i = next(w) % w->n;
    struct stream *st = w->held[i];
    const uint8_t *p;
    size_t n;
    uint8_t x;
    switch (op % 6) {
    case 0:
        x = next(w);
        stream_write(st, bytes, x < 200 ? x : (size_t)x * 270);
        break;
    case 1: stream_finish(st); break;
    case 2: stream_reset(st, next(w) & 1 ? ERR_CLIENT_RESET : ERR_TARGET_REFUSED); break;
    case 3: drop(w, i); break;
    default:
        if (stream_peek(st, &p, &n) == STREAM_BYTES) {
            x = next(w);
            stream_consume(st, x < n ? n - x : n);
        }
        break;
    }
}

/* ---- the peer ---- */

static struct fake_stream *pick(struct world *w) {
    struct fake_stream *f = &w->q->streams[next(w) % (w->q->n ? w->q->n : 1)];
    return w->q->n && !f->closed ? f : NULL;
}

static void do_data(struct world *w, uint8_t op) {
    struct fake_stream *f = pick(w);
    size_t n = next(w) % 64;
    if (n > (size_t)(w->end - w->p)) n = (size_t)(w->end - w->p);
    const uint8_t *p = w->p;
    w->p += n;
    if (!f || f->rx_fin || f->rx_reset) return;
    bool fin = op & 0x80;
    if (!n && !fin) return;
    w->q->given += n;
    f->owed += n;
    f->rx_fin = fin;
    if (f->rx_stopped) {
        w->q->credit += n;
    } else {
        uint8_t *copy = malloc(n ? n : 1);
        CHECK(copy);
        memcpy(copy, p, n);
        w->q->in_op = true;
        int rv = w->q->ops->data(w->q->arg, f->id, copy, n, fin);
        w->q->in_op = false;
        settle(w->q, rv);
        free(copy);
    }
    maybe_close(w->q, f);
}

static void do_peer_open(struct world *w, uint8_t op) {
    struct quic *q = w->q;
    bool server = q->s->cfg.server;
    /* A server's peer opens requests; nobody's server does. */
    unsigned type = op & 0x80 ? (server ? 0 : 1) : (server ? 2 : 3);
    int64_t id = fake_open(q, type);
    if (id >= 0) settle(q, q->ops->opened(q->arg, id));
}

static void do_reset(struct world *w) {
    static const uint64_t codes[] = {0x100, 0x10b, 0x10c, 0x1f, 0};
    struct fake_stream *f = pick(w);
    uint64_t code = codes[next(w) % 5];
    if (!f || f->rx_fin || f->rx_reset) return;
    f->rx_reset = true;
    set_code(f, code);
    settle(w->q, w->q->ops->reset(w->q->arg, f->id, code));
    maybe_close(w->q, f);
}

static void do_stop(struct world *w) {
    struct fake_stream *f = pick(w);
    if (!f || f->tx_reset || (f->id & 3) == (w->q->s->cfg.server ? 2 : 3)) return;
    set_code(f, next(w));
    f->tx_stopped = true;
    if (!(f->tx_fin && f->acked == f->sent)) f->tx_reset = true;
    maybe_close(w->q, f);
}

static void do_ack(struct world *w) {
    struct fake_stream *f = pick(w);
    uint64_t n = next(w);
    if (!f || f->tx_reset || f->acked == f->sent) return;
    f->acked = n > 200 || f->acked + n * 64 > f->sent ? f->sent : f->acked + n * 64;
    settle(w->q, w->q->ops->acked(w->q->arg, f->id, f->acked));
    if (!f->closed) maybe_close(w->q, f);
}

/* STOP_SENDING frames leave with the packets. */
static void announce(struct world *w) {
    struct quic *q = w->q;
    for (unsigned i = 0; i < q->n; i++) {
        struct fake_stream *f = &q->streams[i];
        if (f->closed || !f->rx_stopped || f->announced || f->rx_fin || f->rx_reset) continue;
        f->announced = true;
        settle(q, q->ops->stopping(q->arg, f->id));
        if (q->s->state == SESSION_DOWN) return;
    }
}

static void do_send(struct world *w) {
    struct quic *q = w->q;
    struct session_out o;
    uint8_t limit = next(w);
    session_out(w->s, &o, 1);
    for (unsigned i = 0; i < 64 && q->s->state != SESSION_DOWN; i++) {
        struct quic_chunk c = {.id = -1};
        size_t n = 0;
        q->in_op = true;
        int rv = q->ops->pull(q->arg, &c);
        q->in_op = false;
        settle(q, rv);
        if (rv < 0 || c.id < 0) break;
        for (int k = 0; k < c.iovs; k++) n += c.iov[k].iov_len;
        CHECK(n > 0 || c.fin || c.iovs == 0);
        struct fake_stream *f = find(q, c.id);
        if (!f || f->tx_reset || f->tx_stopped) {
            q->ops->stopped(q->arg, &c);
            continue;
        }
        CHECK(!f->tx_fin);
        size_t most = limit < 100 ? limit : 100000;
        if (f->tx_blocked || (n && !most)) {
            f->tx_blocked = true;
            q->ops->blocked(q->arg, &c);
            continue;
        }
        if (n > most) n = most;
        else f->tx_fin = c.fin;
        f->sent += n;
        settle(q, q->ops->taken(q->arg, &c, n));
    }
    announce(w);
}

static void do_unblock(struct world *w) {
    struct fake_stream *f = pick(w);
    if (!f || !f->tx_blocked) return;
    f->tx_blocked = false;
    settle(w->q, w->q->ops->unblocked(w->q->arg, f->id));
}

static void step(struct world *w) {
    uint8_t op = next(w);
    switch (op & 0x0f) {
    case 0: do_open(w, next(w)); break;
    case 1:
    case 2:
    case 3: do_owner(w, op >> 4); break;
    case 4: do_peer_open(w, op); break;
    case 5: do_reset(w); break;
    case 6: do_stop(w); break;
    case 7:
    case 8: do_ack(w); break;
    case 9:
    case 10: do_send(w); break;
    case 11: do_unblock(w); break;
    case 12:
        if ((op >> 4) == 9) session_retire(w->s, 1);
        if ((op >> 4) == 10) session_close(w->s, ERR_SHUTDOWN, 1);
        break;
    default: do_data(w, op); break;
    }
    defer_queue_run(&w->queue, 0);
}

static void check_account(struct world *w) {
    size_t unread = 0;
    for (struct h3_stream *t = ((struct h3 *)w->s)->streams; t; t = t->next) unread += t->in.len;
    CHECK(unread == w->s->unread);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world w = {.p = data, .end = data + size};
    struct session_config c;
    size_t chunks = buf_chunks();
    defer_queue_init(&w.queue, NULL, NULL);
    session_config_init(&c);
    c.kind = SESSION_H3;
    c.server = next(&w) & 1;
    c.strict_reset = next(&w) & 1;
    c.queue = &w.queue;
    c.cb = (struct session_cb){.request = on_request, .arg = &w};
    c.budget = 300;
    c.send_buffer = 5000;
    CHECK(session_new(&w.s, &c) == 0);
    w.q = ((struct h3 *)w.s)->q;
    settle(w.q, w.q->ops->ready(w.q->arg));
    for (unsigned i = 0; i < 2000 && w.p < w.end && w.s->state != SESSION_DOWN; i++) {
        step(&w);
        check_account(&w);
    }
    if (size & 1) {
        session_free(w.s);
        defer_queue_run(&w.queue, 0);
        while (w.n) drop(&w, w.n - 1);
    } else {
        while (w.n) drop(&w, w.n - 1);
        defer_queue_run(&w.queue, 0);
        session_free(w.s);
    }
    CHECK(!w.queue.head);
    CHECK(buf_chunks() == chunks);
    return 0;
}
