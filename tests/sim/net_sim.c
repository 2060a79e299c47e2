/* net_sim.c - the second implementation of net/sock.h, net/resolve.h and net/monitor.h: a virtual network. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "net/monitor.h"
#include "net/resolve.h"
#include "net/sock.h"
#include "sim/sim.h"

#define NAMES 16
#define RESEND (200 * LOOP_MS)
#define QUEUE (200 * LOOP_MS) /* what a limited link holds for a UDP socket */

enum packet_kind { P_SYN, P_SYN_ACK, P_REFUSED, P_DATA, P_FIN, P_RST, P_DATAGRAM, P_UNREACHABLE };

struct packet {
    struct packet *next;
    uint64_t at, order;
    enum packet_kind kind;
    struct tcp *to;      /* TCP; NULL: gone */
    struct addr src, dst; /* of datagrams and SYNs */
    struct tcp *from;    /* P_SYN */
    uint8_t ecn;
    size_t n;
    uint8_t bytes[];
};

struct tcp {
    struct stream s;
    struct tcp *peer;
    struct buf in;
    size_t under_way; /* bytes sent to the peer, not yet arrived */
    uint64_t busy;    /* of the rate, and keeps the order */
    struct addr local, remote;
    uint16_t port;    /* of the listening side: picks the rule */
    enum sock_side side;
    uint64_t born;
    bool open, eof, finished, dead, short_write, lingering;
};

struct listener_sock {
    struct listener_sock *next;
    struct addr at;
    void (*accepted)(struct stream *s, const struct addr *remote, void *arg);
    void *arg;
};

struct udp {
    struct udp *next;
    struct addr local, to;
    struct udp_cb cb;
    uint64_t busy, born;
};

struct resolver {
    struct loop *loop;
};

struct resolve {
    struct defer node;
    char host[256];
    uint16_t port;
    resolve_cb *cb;
    void *arg;
};

static struct {
    struct loop *loop;
    struct sim_net net;
    struct packet *head; /* by arrival */
    struct loop_timer timer;
    uint64_t order;
    uint16_t next_port;
    struct listener_sock *listeners;
    struct udp *udps;
    struct {
        char name[256], ip[64];
    } names[NAMES];
    uint64_t births, cut; /* upstream sockets born before are cut off */
    struct addr source; /* that leads everywhere */
    struct monitor *monitor;
} w;

/* --- the wire --- */

static uint64_t random_below(uint64_t n) {
    w.net.random ^= w.net.random << 13;
    w.net.random ^= w.net.random >> 7;
    w.net.random ^= w.net.random << 17;
    return n ? w.net.random % n : 0;
}

static void arm(void) { loop_timer_set(&w.timer, w.head ? w.head->at : LOOP_NEVER); }

static void put(struct packet *p, uint64_t at) {
    struct packet **q = &w.head;
    p->at = at;
    p->order = w.order++;
    while (*q && ((*q)->at < at || ((*q)->at == at && (*q)->order < p->order))) q = &(*q)->next;
    p->next = *q;
    *q = p;
    arm();
}

static struct packet *packet_new(enum packet_kind kind, const void *bytes, size_t n) {
    struct packet *p = calloc(1, sizeof *p + n);
    if (!p) abort();
    p->kind = kind;
    p->n = n;
    if (n) memcpy(p->bytes, bytes, n);
    return p;
}

static enum sim_rule rule_of(uint16_t port, bool udp) {
    for (size_t i = 0; i < 8; i++)
        if (w.net.rules[i].port == port) return udp ? w.net.rules[i].udp : w.net.rules[i].tcp;
    return SIM_PASS;
}

static uint64_t after_rate(uint64_t *busy, size_t n) {
    uint64_t now = loop_now(w.loop);
    if (*busy < now) *busy = now;
    if (w.net.rate) *busy += n * LOOP_S / w.net.rate;
    return *busy;
}

/* --- TCP --- */

static enum err side_err(enum sock_side side, int errnum) {
    if (side == SOCK_CLIENT) return ERR_CLIENT_RESET;
    return err_from_errno(errnum, side == SOCK_TARGET);
}

static bool tcp_is_cut(const struct tcp *t) {
    const struct tcp *up = t->side == SOCK_UPSTREAM ? t : t->peer;
    return up && up->side == SOCK_UPSTREAM && up->born < w.cut;
}

static bool udp_is_cut(const struct udp *u) { return u && u->to.len && u->born < w.cut; }

void sim_cut(void) { w.cut = w.births; }

static void tcp_send(struct tcp *t, enum packet_kind kind, const void *bytes, size_t n) {
    if (!t->peer || tcp_is_cut(t)) return;
    struct packet *p = packet_new(kind, bytes, n);
    p->to = t->peer;
    put(p, after_rate(&t->busy, n) + w.net.delay);
}

static void tcp_die(struct tcp *t, int errnum) {
    if (t->dead) return;
    t->dead = true;
    t->s.err = side_err(t->side, errnum);
    stream_notify(&t->s, STREAM_DEAD);
}

static int tcp_peek(struct stream *s, const uint8_t **p, size_t *n) {
    struct tcp *t = (struct tcp *)s;
    *n = buf_peek(&t->in, p);
    if (*n) return STREAM_BYTES;
    if (t->dead) return t->s.err;
    return t->eof ? STREAM_EOF : STREAM_NONE;
}

static void tcp_consume(struct stream *s, size_t n) {
    struct tcp *t = (struct tcp *)s;
    buf_consume(&t->in, n);
    if (t->peer && t->peer->short_write) {
        t->peer->short_write = false;
        stream_notify(&t->peer->s, STREAM_OUT);
    }
}

static long tcp_write(struct stream *s, const uint8_t *p, size_t n) {
    struct tcp *t = (struct tcp *)s;
    if (t->dead) return t->s.err;
    if (!t->open) {
        t->short_write = true;
        return 0;
    }
    if (!t->peer) return side_err(t->side, EPIPE);
    size_t used = t->under_way + t->peer->in.len;
    size_t room = used < w.net.window ? w.net.window - used : 0, take = n < room ? n : room;
    for (size_t at = 0; at < take; at += 16384) {
        size_t part = take - at < 16384 ? take - at : 16384;
        tcp_send(t, P_DATA, p + at, part);
    }
    t->under_way += take;
    if (take < n) t->short_write = true;
    return (long)take;
}

static void tcp_finish(struct stream *s) {
    struct tcp *t = (struct tcp *)s;
    if (t->finished || t->dead) return;
    t->finished = true;
    tcp_send(t, P_FIN, NULL, 0);
}

static void tcp_reset(struct stream *s, enum err why) {
    struct tcp *t = (struct tcp *)s;
    (void)why;
    if (t->dead) return;
    t->dead = true;
    t->s.err = ERR_CANCELLED;
    tcp_send(t, P_RST, NULL, 0);
}

static void tcp_free(struct stream *s) {
    struct tcp *t = (struct tcp *)s;
    if (!t->dead && (!t->finished || t->in.len)) tcp_reset(s, ERR_CANCELLED);
    stream_detach(s);
    for (struct packet *p = w.head; p; p = p->next) {
        if (p->to == t) {
            /* bytes to a closed socket are answered by RST, as a kernel does */
            if (p->kind == P_DATA && t->peer) {
                p->kind = P_RST;
                p->to = t->peer;
                p->n = 0;
            } else {
                p->to = NULL;
            }
        }
        if (p->from == t) p->from = NULL;
    }
    if (t->peer) t->peer->peer = NULL;
    buf_clear(&t->in);
    w.net.sockets--;
    free(t);
}

static const struct stream_ops tcp_ops = {"tcp", tcp_peek, tcp_consume, tcp_write, tcp_finish, tcp_reset, tcp_free};

static struct tcp *tcp_new(enum sock_side side) {
    struct tcp *t = calloc(1, sizeof *t);
    if (!t) abort();
    stream_init(&t->s, &tcp_ops, loop_defer(w.loop));
    buf_init(&t->in, SIZE_MAX / 2);
    t->side = side;
    t->born = w.births++;
    w.net.sockets++;
    return t;
}

struct stream *sock_connect(struct loop *l, const struct addr *to, const struct addr *source, enum sock_side side,
                            int *err) {
    (void)l, (void)source;
    struct tcp *t = tcp_new(side);
    *err = 0;
    addr_parse(&t->local, "10.9.9.9:1");
    if (addr_is_loopback(to)) addr_parse(&t->local, "127.0.0.1:1");
    addr_set_port(&t->local, w.next_port++);
    t->remote = *to;
    t->port = addr_port(to);
    struct packet *p = packet_new(P_SYN, NULL, 0);
    p->from = t;
    p->src = t->local;
    p->dst = *to;
    put(p, loop_now(w.loop) + w.net.delay);
    return &t->s;
}

struct stream *sock_stream(struct loop *l, int fd, enum sock_side side) {
    (void)l, (void)fd, (void)side;
    abort();
}

bool sock_stream_local(const struct stream *s, struct addr *a) {
    if (s->ops != &tcp_ops) return false;
    *a = ((const struct tcp *)s)->local;
    return true;
}

bool sock_stream_remote(const struct stream *s, struct addr *a) {
    if (s->ops != &tcp_ops) return false;
    *a = ((const struct tcp *)s)->remote;
    return true;
}

int sock_stream_fd(const struct stream *s) {
    (void)s;
    return -1;
}

struct listener_sock *sock_listen_fd(struct loop *l, int fd,
                                     void (*accepted)(struct stream *s, const struct addr *remote, void *arg), void *arg,
                                     int *errnum) {
    (void)l, (void)fd, (void)accepted, (void)arg, (void)errnum;
    abort();
}

struct listener_sock *sock_listen(struct loop *l, const struct addr *at, int backlog,
                                  void (*accepted)(struct stream *s, const struct addr *remote, void *arg), void *arg,
                                  int *errnum) {
    (void)l, (void)backlog;
    for (struct listener_sock *o = w.listeners; o; o = o->next) {
        if (!addr_equal(&o->at, at)) continue;
        *errnum = EADDRINUSE;
        return NULL;
    }
    struct listener_sock *ls = calloc(1, sizeof *ls);
    if (!ls) abort();
    *ls = (struct listener_sock){w.listeners, *at, accepted, arg};
    if (addr_port(at) == 0) addr_set_port(&ls->at, w.next_port++);
    w.listeners = ls;
    w.net.sockets++;
    return ls;
}

void sock_listen_addr(const struct listener_sock *ls, struct addr *a) { *a = ls->at; }

void sock_listen_free(struct listener_sock *ls) {
    if (!ls) return;
    struct listener_sock **q = &w.listeners;
    while (*q != ls) q = &(*q)->next;
    *q = ls->next;
    w.net.sockets--;
    free(ls);
}

static void on_syn(struct packet *p) {
    struct tcp *t = p->from;
    if (!t) return;
    struct listener_sock *ls = w.listeners;
    while (ls && !addr_equal(&ls->at, &p->dst)) ls = ls->next;
    if (!ls || rule_of(addr_port(&p->dst), false) == SIM_REFUSE) {
        struct packet *no = packet_new(P_REFUSED, NULL, 0);
        no->to = t;
        put(no, loop_now(w.loop) + w.net.delay);
        return;
    }
    struct tcp *u = tcp_new(SOCK_CLIENT);
    u->peer = t;
    t->peer = u;
    u->open = true;
    u->port = t->port;
    u->local = p->dst;
    u->remote = p->src;
    tcp_send(u, P_SYN_ACK, NULL, 0);
    ls->accepted(&u->s, &p->src, ls->arg);
}

static void on_segment(struct packet *p) {
    struct tcp *t = p->to;
    w.net.segments++;
    if (!t) return;
    switch (p->kind) {
    case P_SYN_ACK:
        t->open = true;
        stream_notify(&t->s, STREAM_OPEN | STREAM_OUT);
        break;
    case P_REFUSED: tcp_die(t, ECONNREFUSED); break;
    case P_DATA:
        if (t->peer) t->peer->under_way -= p->n;
        if (t->dead) break;
        buf_append(&t->in, p->bytes, p->n);
        stream_notify(&t->s, STREAM_IN);
        break;
    case P_FIN:
        t->eof = true;
        stream_notify(&t->s, STREAM_IN);
        break;
    default: tcp_die(t, ECONNRESET); break;
    }
}

/* --- UDP --- */

struct udp *udp_open(struct loop *l, const struct addr *bind_to, const struct addr *to, const struct udp_cb *cb,
                     int *errnum) {
    (void)l, (void)errnum;
    struct udp *u = calloc(1, sizeof *u);
    if (!u) abort();
    if (bind_to) u->local = *bind_to;
    else addr_parse(&u->local, "10.9.9.9:1");
    if (!bind_to || addr_port(bind_to) == 0) addr_set_port(&u->local, w.next_port++);
    if (to) u->to = *to;
    u->cb = *cb;
    u->born = w.births++;
    u->next = w.udps;
    w.udps = u;
    w.net.sockets++;
    return u;
}

void udp_free(struct udp *u) {
    if (!u) return;
    struct udp **q = &w.udps;
    while (*q != u) q = &(*q)->next;
    *q = u->next;
    w.net.sockets--;
    free(u);
}

void udp_local(const struct udp *u, struct addr *a) { *a = u->local; }
void udp_stop_gso(struct udp *u) { (void)u; }

size_t udp_send(struct udp *u, const struct addr *to, uint8_t ecn, const uint8_t *p, size_t n, size_t segment) {
    if (!to) to = &u->to;
    if (segment == 0) segment = n;
    for (size_t at = 0; at < n; at += segment) {
        size_t part = n - at < segment ? n - at : segment;
        w.net.datagrams++;
        if (udp_is_cut(u)) continue;
        bool queue_full = u->busy > loop_now(w.loop) + QUEUE;
        if (queue_full || random_below(1000) < w.net.loss) {
            w.net.lost++;
            continue;
        }
        uint64_t when = after_rate(&u->busy, part) + w.net.delay + random_below(w.net.jitter + 1);
        struct packet *q = packet_new(P_DATAGRAM, p + at, part);
        q->src = u->local;
        q->dst = *to;
        q->ecn = ecn;
        put(q, when);
    }
    return n;
}

static struct udp *udp_find(const struct addr *local, const struct addr *from) {
    for (struct udp *u = w.udps; u; u = u->next)
        if (addr_equal(&u->local, local) && (u->to.len == 0 || addr_equal(&u->to, from))) return u;
    return NULL;
}

static void on_datagram(struct packet *p) {
    enum sim_rule rule = rule_of(addr_port(&p->dst), true), back = rule_of(addr_port(&p->src), true);
    struct udp *u = udp_find(&p->dst, &p->src);
    if (rule == SIM_DROP || back == SIM_DROP || udp_is_cut(u)) {
        w.net.lost++;
        return;
    }
    if (!u || rule == SIM_REFUSE) {
        struct packet *no = packet_new(P_UNREACHABLE, NULL, 0);
        no->dst = p->src;
        no->src = p->dst;
        put(no, loop_now(w.loop) + w.net.delay);
        return;
    }
    u->cb.datagram(u, &p->src, p->ecn, p->bytes, p->n, u->cb.arg);
    u = udp_find(&p->dst, &p->src); /* the callback may have freed it */
    if (u) u->cb.batch_end(u, u->cb.arg);
}

static void on_unreachable(struct packet *p) {
    struct udp *u = udp_find(&p->dst, &p->src);
    if (u && u->to.len) u->cb.error(u, ECONNREFUSED, u->cb.arg);
}

/* --- delivery --- */

static bool held(const struct packet *p) {
    if (p->kind == P_SYN) return p->from && rule_of(addr_port(&p->dst), false) == SIM_DROP;
    if (p->kind == P_DATAGRAM || p->kind == P_UNREACHABLE) return false;
    return p->to && rule_of(p->to->port, false) == SIM_DROP;
}

static void on_timer(void *arg) {
    (void)arg;
    struct packet *p = w.head;
    if (!p) return;
    w.head = p->next;
    if (held(p)) {
        uint64_t order = p->order;
        put(p, loop_now(w.loop) + RESEND - (loop_now(w.loop) % RESEND)); /* all resent together keep their order */
        p->order = order;
        return;
    }
    switch (p->kind) {
    case P_SYN: on_syn(p); break;
    case P_DATAGRAM: on_datagram(p); break;
    case P_UNREACHABLE: on_unreachable(p); break;
    default: on_segment(p); break;
    }
    free(p);
    arm();
}

/* --- names --- */

bool sock_source(const struct addr *to, struct addr *from) {
    (void)to;
    *from = w.source;
    return w.source.len > 0;
}

void sim_source(const char *ip) {
    w.source = (struct addr){0};
    if (!ip || *ip) addr_parse_ip(&w.source, ip ? ip : "10.0.0.2", 0);
}

/* --- the monitor --- */

struct monitor {
    struct loop *loop;
    monitor_cb *cb;
    void *arg;
};

static void on_woken(void *arg) {
    struct monitor *m = arg;
    m->cb(MONITOR_WOKEN, m->arg);
}

struct monitor *monitor_new(struct loop *l, monitor_cb *cb, void *arg) {
    struct monitor *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    *m = (struct monitor){l, cb, arg};
    w.monitor = m;
    loop_on_wake(l, on_woken, m);
    return m;
}

void monitor_free(struct monitor *m) {
    if (!m) return;
    if (w.monitor == m) w.monitor = NULL;
    loop_on_wake(m->loop, NULL, NULL);
    free(m);
}

void sim_network_changed(void) {
    if (w.monitor) w.monitor->cb(MONITOR_NETWORK, w.monitor->arg);
}

/* --- names --- */

struct resolver *resolver_new(struct loop *l) {
    struct resolver *r = calloc(1, sizeof *r);
    if (r) r->loop = l;
    return r;
}

void resolver_free(struct resolver *r) { free(r); }

static void on_resolve(void *arg) {
    struct resolve *q = arg;
    struct addr a;
    const char *ip = q->host;
    for (size_t i = 0; i < NAMES; i++)
        if (*w.names[i].name && strcmp(w.names[i].name, q->host) == 0) ip = w.names[i].ip;
    int err = addr_parse_ip(&a, ip, q->port) ? ERR_UPSTREAM_DNS : 0;
    resolve_cb *cb = q->cb;
    void *cb_arg = q->arg;
    free(q);
    cb(err, err ? "no such name" : "", &a, err ? 0 : 1, cb_arg);
}

struct resolve *resolve_start(struct resolver *r, const char *host, uint16_t port, uint32_t timeout, resolve_cb *cb,
                              void *arg) {
    struct resolve *q = calloc(1, sizeof *q);
    (void)timeout;
    if (!q) return NULL;
    strncpy(q->host, host, sizeof q->host - 1);
    q->port = port;
    q->cb = cb;
    q->arg = arg;
    defer_init(&q->node, on_resolve, q);
    defer_post(loop_defer(r->loop), &q->node);
    return q;
}

void resolve_cancel(struct resolve *q) {
    if (!q) return;
    defer_cancel(&q->node);
    free(q);
}

/* --- the world --- */

struct sim_net *sim_net_init(struct loop *l, uint64_t seed) {
    memset(&w, 0, sizeof w);
    w.loop = l;
    w.net = (struct sim_net){.delay = 10 * LOOP_MS, .window = 256 * 1024, .random = seed * 2654435769u + 1};
    w.next_port = 20000;
    sim_source(NULL);
    loop_timer_init(&w.timer, l, on_timer, NULL);
    return &w.net;
}

bool sim_net_done(void) {
    loop_timer_stop(&w.timer);
    while (w.head) {
        struct packet *p = w.head;
        w.head = p->next;
        free(p);
    }
    return w.net.sockets == 0;
}

void sim_rule(uint16_t port, enum sim_rule udp, enum sim_rule tcp) {
    for (size_t i = 0; i < 8; i++) {
        if (w.net.rules[i].port && w.net.rules[i].port != port) continue;
        w.net.rules[i].port = port;
        w.net.rules[i].udp = udp;
        w.net.rules[i].tcp = tcp;
        return;
    }
    abort();
}

void sim_name(const char *name, const char *ip) {
    size_t at = NAMES;
    for (size_t i = NAMES; i-- > 0;)
        if (!*w.names[i].name || strcmp(w.names[i].name, name) == 0) at = i;
    for (size_t i = 0; i < NAMES; i++)
        if (strcmp(w.names[i].name, name) == 0) at = i;
    if (at == NAMES) abort();
    strncpy(w.names[at].name, ip ? name : "", sizeof w.names[at].name - 1);
    strncpy(w.names[at].ip, ip ? ip : "", sizeof w.names[at].ip - 1);
}

const char *resolve_library_version(void) { return "virtual"; }
