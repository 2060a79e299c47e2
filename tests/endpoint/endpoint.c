#include "endpoint/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/wire.h"
#include "codec/base64.h"
#include "endpoint/endpoint_impl.h"

static uint64_t now_of(const struct endpoint *ep) { return loop_now(ep->cfg.loop); }

/* --- one session --- */

static void session_gone(struct ep_session *es) {
    struct endpoint *ep = es->ep;
    if (es->prev) es->prev->next = es->next;
    else ep->sessions = es->next;
    if (es->next) es->next->prev = es->prev;
    ep->counts.sessions--;
    loop_timer_stop(&es->timer);
    loop_timer_stop(&es->life);
    defer_cancel(&es->pump);
    session_free(es->session);
    if (es->tcp) {
        stream_finish(es->tcp);
        stream_free(es->tcp);
    }
    free(es);
}

static void pump_out(struct ep_session *es) {
    struct endpoint *ep = es->ep;
    struct session_out o;
    while (!es->blocked && !ep->faults.stall && session_out(es->session, &o, now_of(ep))) {
        size_t sent = o.n;
        if (es->tcp) {
            long n = stream_write(es->tcp, o.p, o.n);
            if (n >= 0) sent = (size_t)n;
        } else if (ep->udp) {
            sent = udp_send(ep->udp, &o.remote, o.ecn, o.p, o.n, o.segment);
        }
        es->blocked = sent < o.n;
        if (sent) session_sent(es->session, sent, now_of(ep));
    }
    loop_timer_set(&es->timer, session_deadline(es->session));
}

static void on_pump(void *arg) { pump_out(arg); }

static void on_wake(void *arg) {
    struct ep_session *es = arg;
    defer_post(loop_defer(es->ep->cfg.loop), &es->pump);
}

static void on_timer(void *arg) {
    struct ep_session *es = arg;
    session_expire(es->session, now_of(es->ep));
    pump_out(es);
}

static void on_life(void *arg) {
    struct ep_session *es = arg;
    const struct endpoint_faults *f = &es->ep->faults;
    uint64_t now = now_of(es->ep);
    if (f->dead_man && es->last_request + f->dead_man * LOOP_MS > now) {
        loop_timer_set(&es->life, es->last_request + f->dead_man * LOOP_MS);
        return;
    }
    session_gone(es);
}

static void on_state(struct session *s, enum session_state state, void *arg) {
    struct ep_session *es = arg;
    struct endpoint *ep = es->ep;
    if (state == SESSION_UP) {
        if (es->tcp) ep->counts.sessions_h2++;
        else ep->counts.sessions_h3++;
    } else if (state == SESSION_DOWN) {
        log_debug("endpoint", "session down reason=%s detail=\"%s\"", err_word(session_error(s)), session_error_text(s));
        pump_out(es);
        session_gone(es);
    }
}

static bool admit(struct ep_session *es) {
    unsigned others = 0, max = es->ep->faults.max_sessions;
    for (struct ep_session *o = es->ep->sessions; o; o = o->next) others += o != es && o->admitted;
    es->admitted = es->admitted || !max || others < max;
    return es->admitted;
}

static void on_request(struct session *s, struct stream *st, void *arg) {
    struct ep_session *es = arg;
    struct endpoint_faults *f = &es->ep->faults;
    es->requests++;
    es->last_request = now_of(es->ep);
    if (!admit(es)) {
        if (!es->tcp) {
            tunnel_refuse(es->ep, st, 407);
            pump_out(es);
            session_close(s, ERR_UPSTREAM_CLOSED, now_of(es->ep));
        } else {
            stream_free(st);
            session_gone(es);
        }
        return;
    }
    if (f->refuse_streams) {
        f->refuse_streams--;
        stream_reset(st, ERR_UPSTREAM_RETRY);
        stream_free(st);
        return;
    }
    if (f->goaway_after && es->requests == f->goaway_after) session_retire(s, now_of(es->ep));
    tunnel_request(es, st, es->tcp == NULL);
}

static struct ep_session *session_begin(struct endpoint *ep, struct stream *tcp, const struct addr *remote,
                                        struct session_accept *accept) {
    struct ep_session *es = calloc(1, sizeof *es);
    struct session_config sc;
    if (!es) return NULL;
    es->ep = ep;
    session_config_init(&sc);
    sc.kind = tcp ? SESSION_H2 : SESSION_H3;
    sc.server = true;
    sc.creds = ep->cfg.creds;
    sc.queue = loop_defer(ep->cfg.loop);
    sc.cb = (struct session_cb){on_wake, on_state, on_request, es};
    sc.now = now_of(ep);
    sc.allow_no_alpn = ep->faults.no_alpn;
    if (ep->cfg.max_streams) sc.max_streams = ep->cfg.max_streams;
    if (ep->cfg.stream_window) sc.stream_window = ep->cfg.stream_window;
    if (!tcp) {
        udp_local(ep->udp, &sc.local);
        sc.remote = *remote;
        sc.accept = accept;
        accept->cid_arg = es;
    }
    defer_init(&es->pump, on_pump, es);
    loop_timer_init(&es->timer, ep->cfg.loop, on_timer, es);
    loop_timer_init(&es->life, ep->cfg.loop, on_life, es);
    if (session_new(&es->session, &sc)) {
        free(es);
        return NULL;
    }
    es->tcp = tcp;
    es->last_request = sc.now;
    es->next = ep->sessions;
    if (ep->sessions) ep->sessions->prev = es;
    ep->sessions = es;
    ep->counts.sessions++;
    unsigned life = ep->faults.session_life ? ep->faults.session_life : ep->faults.dead_man;
    if (life) loop_timer_set(&es->life, sc.now + life * LOOP_MS);
    return es;
}

/* --- TCP --- */

static void on_tcp(struct stream *s, unsigned events, void *arg) {
    struct ep_session *es = arg;
    if (events & (STREAM_OUT | STREAM_DEAD)) es->blocked = false;
    while (!es->reading_ended && !es->ep->faults.stall) {
        const uint8_t *p;
        size_t n;
        int r = stream_peek(s, &p, &n);
        if (r == STREAM_NONE) break;
        if (r == STREAM_BYTES) {
            session_in(es->session, p, n, now_of(es->ep));
            stream_consume(s, n);
        } else {
            es->reading_ended = true;
            session_in(es->session, NULL, 0, now_of(es->ep));
        }
    }
    pump_out(es);
}

static void on_accepted(struct stream *s, const struct addr *remote, void *arg) {
    struct endpoint *ep = arg;
    struct ep_session *es = session_begin(ep, s, remote, NULL);
    if (!es) {
        stream_free(s);
        return;
    }
    stream_own(s, on_tcp, es);
    on_tcp(s, 0, es);
}

int endpoint_listen_tcp(struct endpoint *ep, const struct addr *at, struct addr *bound) {
    int errnum = 0;
    ep->listener = sock_listen(ep->cfg.loop, at, 512, on_accepted, ep, &errnum);
    if (!ep->listener) return errnum ? errnum : EIO;
    sock_listen_addr(ep->listener, bound);
    return 0;
}

/* --- UDP --- */

static void on_cid(void *arg, const struct quic_cid *cid, bool added) {
    struct ep_session *es = arg;
    for (size_t i = 0; i < EP_CIDS; i++) {
        struct quic_cid *at = &es->cids[i];
        if (added ? at->len == 0 : at->len == cid->len && memcmp(at->data, cid->data, cid->len) == 0) {
            if (added) *at = *cid;
            else at->len = 0;
            return;
        }
    }
}

static struct ep_session *find_cid(struct endpoint *ep, const struct quic_cid *cid) {
    for (struct ep_session *es = ep->sessions; es; es = es->next)
        for (size_t i = 0; i < EP_CIDS; i++)
            if (es->cids[i].len && es->cids[i].len == cid->len && memcmp(es->cids[i].data, cid->data, cid->len) == 0)
                return es;
    return NULL;
}

static void on_datagram(struct udp *u, const struct addr *from, uint8_t ecn, const uint8_t *p, size_t n, void *arg) {
    struct endpoint *ep = arg;
    struct quic_cid cid;
    uint8_t reply[QUIC_REPLY_MAX];
    size_t reply_len = 0;
    if (ep->faults.udp_drop || ep->faults.stall || !quic_datagram_dcid(p, n, &cid)) return;
    struct ep_session *es = find_cid(ep, &cid);
    if (!es) {
        struct session_accept accept = {.cid = on_cid};
        switch (quic_accept(&ep->acceptor, from, p, n, now_of(ep), &accept, reply, &reply_len)) {
        case QUIC_ACCEPT_NONE: return;
        case QUIC_ACCEPT_REPLY: udp_send(u, from, 0, reply, reply_len, 0); return;
        case QUIC_ACCEPT_NEW: break;
        }
        accept.cid = on_cid;
        es = session_begin(ep, NULL, from, &accept);
        if (!es) return;
    }
    session_in_datagram(es->session, from, ecn, p, n, now_of(ep));
    defer_post(loop_defer(ep->cfg.loop), &es->pump);
}

static void on_batch_end(struct udp *u, void *arg) { (void)u, (void)arg; }

static void on_writable(struct udp *u, void *arg) {
    struct endpoint *ep = arg;
    (void)u;
    for (struct ep_session *es = ep->sessions; es; es = es->next) {
        if (es->tcp) continue;
        es->blocked = false;
        defer_post(loop_defer(ep->cfg.loop), &es->pump);
    }
}

static void on_udp_error(struct udp *u, int errnum, void *arg) { (void)u, (void)errnum, (void)arg; }

int endpoint_listen_udp(struct endpoint *ep, const struct addr *at, struct addr *bound) {
    struct udp_cb cb = {on_datagram, on_batch_end, on_writable, on_udp_error, ep};
    int errnum = 0;
    if (quic_acceptor_init(&ep->acceptor, ep->cfg.retry)) return EIO;
    ep->udp = udp_open(ep->cfg.loop, at, NULL, &cb, &errnum);
    if (!ep->udp) return errnum ? errnum : EIO;
    udp_local(ep->udp, bound);
    return 0;
}

/* --- life --- */

static char *make_authorization(const char *user, const char *password) {
    char plain[600], *text = calloc(1, 900);
    int n = snprintf(plain, sizeof plain, "%s:%s", user, password);
    if (!text || n < 0 || (size_t)n >= sizeof plain) {
        free(text);
        return NULL;
    }
    struct writer w = writer_of(text, 899);
    writer_bytes(&w, "Basic ", 6);
    base64_put(&w, BASE64_STANDARD, plain, (size_t)n);
    return text;
}

struct endpoint *endpoint_new(const struct endpoint_config *c) {
    struct endpoint *ep = calloc(1, sizeof *ep);
    if (!ep) return NULL;
    ep->cfg = *c;
    ep->cfg.creds = creds_ref(c->creds);
    ep->authorization = make_authorization(c->user, c->password);
    ep->lingers = linger_set_new(c->loop);
    if (!ep->authorization || !ep->lingers) {
        endpoint_free(ep);
        return NULL;
    }
    return ep;
}

void endpoint_close(struct endpoint *ep) {
    sock_listen_free(ep->listener);
    ep->listener = NULL;
    while (ep->sessions) session_gone(ep->sessions);
    if (ep->udp) udp_free(ep->udp);
    ep->udp = NULL;
}

void endpoint_free(struct endpoint *ep) {
    if (!ep) return;
    endpoint_close(ep);
    tunnels_free(ep);
    linger_set_free(ep->lingers);
    creds_unref(ep->cfg.creds);
    free(ep->authorization);
    free(ep);
}

struct endpoint_faults *endpoint_faults(struct endpoint *ep) { return &ep->faults; }
const struct endpoint_counts *endpoint_counts(const struct endpoint *ep) { return &ep->counts; }

void endpoint_goaway(struct endpoint *ep) {
    for (struct ep_session *es = ep->sessions; es; es = es->next) session_retire(es->session, now_of(ep));
}
