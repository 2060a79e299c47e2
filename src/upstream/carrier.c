#include "upstream/carrier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/sock.h"

struct carrier {
    struct loop *loop;
    struct session *session;
    struct stream *tcp; /* one of tcp and udp */
    struct udp *udp;
    struct carrier_cb cb;
    struct defer pump;
    struct loop_timer timer;
    enum err io_err;
    bool read_ended;  /* the session was told of EOF */
    bool blocked;     /* the socket is full; its event goes on */
    bool reported;    /* DOWN was delivered */
    bool readable;    /* a turn ended before the socket was empty */
};

static void pump_out(struct carrier *c) {
    struct session_out o;
    while (!c->blocked && session_out(c->session, &o, loop_now(c->loop))) {
        size_t sent = 0;
        if (c->udp) {
            sent = udp_send(c->udp, NULL, o.ecn, o.p, o.n, o.segment);
        } else {
            long n = c->tcp ? stream_write(c->tcp, o.p, o.n) : ERR_IO;
            /* a broken socket swallows the rest; its DEAD event ends the session */
            sent = n < 0 ? o.n : (size_t)n;
        }
        c->blocked = sent < o.n;
        if (sent) session_sent(c->session, sent, loop_now(c->loop));
    }
    loop_timer_set(&c->timer, session_deadline(c->session));
}

static void pump_in(struct carrier *c) {
    size_t taken = 0;
    c->readable = false;
    while (c->tcp && !c->read_ended) {
        const uint8_t *p;
        size_t n;
        int r = stream_peek(c->tcp, &p, &n);
        if (r == STREAM_NONE) break;
        if (r == STREAM_BYTES) {
            session_in(c->session, p, n, loop_now(c->loop));
            stream_consume(c->tcp, n);
            taken += n;
            if (taken < CARRIER_TURN) continue;
            c->readable = true;
            defer_post(loop_defer(c->loop), &c->pump);
            break;
        }
        if (r < 0) c->io_err = r;
        c->read_ended = true;
        session_in(c->session, NULL, 0, loop_now(c->loop));
    }
}

static void on_pump(void *arg) {
    struct carrier *c = arg;
    if (c->readable) pump_in(c);
    pump_out(c);
    if (c->cb.pumped) c->cb.pumped(c, c->cb.arg); /* last: it may free the carrier */
}

static void on_tcp(struct stream *s, unsigned events, void *arg) {
    struct carrier *c = arg;
    (void)s;
    if (events & (STREAM_OUT | STREAM_DEAD)) c->blocked = false;
    if (events & (STREAM_IN | STREAM_DEAD)) pump_in(c);
    pump_out(c);
    if (events & STREAM_IN && c->cb.progress) c->cb.progress(c, c->cb.arg);
}

static void on_datagram(struct udp *u, const struct addr *from, uint8_t ecn, const uint8_t *p, size_t n, void *arg) {
    struct carrier *c = arg;
    (void)u;
    session_in_datagram(c->session, from, ecn, p, n, loop_now(c->loop));
}

static void on_batch_end(struct udp *u, void *arg) {
    struct carrier *c = arg;
    (void)u;
    pump_out(c);
    if (c->cb.progress) c->cb.progress(c, c->cb.arg);
}

static void on_writable(struct udp *u, void *arg) {
    struct carrier *c = arg;
    (void)u;
    c->blocked = false;
    pump_out(c);
}

/* ICMP can be forged, so it only ends a handshake that has not heard from the peer yet. */
static void on_udp_error(struct udp *u, int errnum, void *arg) {
    struct carrier *c = arg;
    struct session_info i;
    (void)u;
    session_get_info(c->session, &i);
    log_debug("carrier", "socket error errno=%d state=%s", errnum, session_state_word(i.state));
    if (i.state != SESSION_STARTING || i.last_rx) return;
    c->io_err = err_from_errno(errnum, 0);
    session_close(c->session, c->io_err, loop_now(c->loop));
}

static void on_timer(void *arg) {
    struct carrier *c = arg;
    session_expire(c->session, loop_now(c->loop));
    pump_out(c);
}

static void on_wake(void *arg) {
    struct carrier *c = arg;
    defer_post(loop_defer(c->loop), &c->pump);
}

static void on_state(struct session *s, enum session_state state, void *arg) {
    struct carrier *c = arg;
    (void)s;
    if (c->reported) return;
    if (state == SESSION_DOWN) {
        c->reported = true;
        pump_out(c); /* the farewell */
    }
    c->cb.state(c, state, c->cb.arg);
}

static struct carrier *carrier_alloc(struct loop *l, const struct carrier_cb *cb) {
    struct carrier *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->loop = l;
    c->cb = *cb;
    defer_init(&c->pump, on_pump, c);
    loop_timer_init(&c->timer, l, on_timer, c);
    return c;
}

static int start_session(struct carrier *c, enum session_kind kind, const struct session_config *cfg) {
    struct session_config sc = *cfg;
    sc.kind = kind;
    sc.queue = loop_defer(c->loop);
    sc.now = loop_now(c->loop);
    sc.cb = (struct session_cb){.wake = on_wake, .state = on_state, .arg = c};
    int r = session_new(&c->session, &sc);
    if (r == 0) defer_post(loop_defer(c->loop), &c->pump);
    return r;
}

struct carrier *carrier_new_tcp(struct loop *l, struct stream *tcp, const struct session_config *cfg,
                                const struct carrier_cb *cb, int *err) {
    struct carrier *c = carrier_alloc(l, cb);
    *err = ERR_NO_MEMORY;
    if (!c) {
        stream_free(tcp);
        return NULL;
    }
    c->tcp = tcp;
    *err = start_session(c, SESSION_H2, cfg);
    if (*err) {
        carrier_free(c);
        return NULL;
    }
    c->readable = true;
    stream_own(tcp, on_tcp, c);
    return c;
}

struct carrier *carrier_new_udp(struct loop *l, const struct addr *to, const struct session_config *cfg,
                                const struct carrier_cb *cb, int *err) {
    struct udp_cb ucb = {on_datagram, on_batch_end, on_writable, on_udp_error, NULL};
    struct carrier *c = carrier_alloc(l, cb);
    int errnum = 0;
    *err = ERR_NO_MEMORY;
    if (!c) return NULL;
    ucb.arg = c;
    c->udp = udp_open(l, NULL, to, &ucb, &errnum);
    if (!c->udp) {
        *err = err_from_errno(errnum, 0);
        carrier_free(c);
        return NULL;
    }
    struct session_config sc = *cfg;
    udp_local(c->udp, &sc.local);
    sc.remote = *to;
    *err = start_session(c, SESSION_H3, &sc);
    if (*err) {
        carrier_free(c);
        return NULL;
    }
    return c;
}

void carrier_free(struct carrier *c) {
    if (!c) return;
    if (c->session) {
        if (!c->reported) {
            session_close(c->session, ERR_CANCELLED, loop_now(c->loop));
            pump_out(c);
        }
        session_free(c->session);
    }
    if (c->tcp) {
        stream_finish(c->tcp);
        stream_free(c->tcp);
    }
    if (c->udp) udp_free(c->udp);
    defer_cancel(&c->pump);
    loop_timer_stop(&c->timer);
    free(c);
}

struct session *carrier_session(const struct carrier *c) { return c->session; }

void carrier_stop_gso(struct carrier *c) {
    if (c->udp) udp_stop_gso(c->udp);
}

enum err carrier_error(const struct carrier *c) { return c->io_err; }
