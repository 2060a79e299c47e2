/* QUIC from outside. The first byte chooses: an even one feeds the input as datagrams to a client that has just
 * begun and to the server's doorstep; an odd one lets a real client and a real server talk over a way that the
 * input spoils (losses, repetition, flipped bits, foreign datagrams, a changed port), while the input also says
 * what is done with sessions and streams.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/h3_pair.h"

#define HELD 16
#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

struct input {
    const uint8_t *p, *end;
};

static uint8_t next(struct input *in) { return in->p < in->end ? *in->p++ : 0; }

/* The next n bytes, or what is left of them. */
static const uint8_t *take(struct input *in, size_t *n) {
    const uint8_t *p = in->p;
    if (*n > (size_t)(in->end - in->p)) *n = (size_t)(in->end - in->p);
    in->p += *n;
    return p;
}

/* ---- raw datagrams ---- */

static void at_the_door(const struct quic_acceptor *a, const struct addr *from, const uint8_t *p, size_t n) {
    struct session_accept out;
    struct quic_cid cid;
    uint8_t reply[QUIC_REPLY_MAX];
    size_t len;
    bool packet = quic_datagram_dcid(p, n, &cid);
    CHECK(!packet || cid.len <= QUIC_CID_MAX);
    switch (quic_accept(a, from, p, n, PAIR_S, &out, reply, &len)) {
    case QUIC_ACCEPT_NONE: CHECK(len == 0); break;
    case QUIC_ACCEPT_REPLY:
        CHECK(packet || n >= 1200);
        CHECK(len > 0 && len < n); /* nobody is made to flood somebody else */
        break;
    case QUIC_ACCEPT_NEW:
        CHECK(n >= 1200 && len == 0);
        CHECK(a->retry == out.retried);
        break;
    }
}

static void raw(struct input *in) {
    struct session_config c;
    struct quic_acceptor a = {.retry = next(in) & 1};
    struct defer_queue queue;
    struct session *s;
    struct session_out o;
    uint64_t now = PAIR_S;
    session_config_init(&c);
    defer_queue_init(&queue, NULL, NULL);
    c.kind = SESSION_H3;
    c.creds = session_pair_client_creds();
    c.queue = &queue;
    c.now = now;
    CHECK(addr_parse(&c.local, "192.0.2.1:40000") == 0 && addr_parse(&c.remote, "192.0.2.2:443") == 0);
    CHECK(session_new(&s, &c) == 0);
    while (session_out(s, &o, now)) session_sent(s, o.n, now);
    while (in->p < in->end) {
        size_t n = next(in) * 8u;
        const uint8_t *p = take(in, &n);
        uint8_t *copy = calloc(1, 1200 > n ? 1200 : n);
        CHECK(copy);
        if (n) memcpy(copy, p, n);
        now += PAIR_MS;
        session_in_datagram(s, &c.remote, 0, copy, n, now);
        at_the_door(&a, &c.local, copy, n);
        at_the_door(&a, &c.local, copy, 1200 > n ? 1200 : n); /* padded, as an Initial must be */
        free(copy);
        while (session_out(s, &o, now)) session_sent(s, o.n, now);
        if (session_deadline(s) <= now) session_expire(s, now);
        defer_queue_run(&queue, 0);
    }
    session_free(s);
    CHECK(!queue.head);
}

/* ---- a spoilt conversation ---- */

struct talk {
    struct session_pair *p;
    struct input *in;
    struct stream *held[HELD];
    unsigned n;
};

static void on_event(struct stream *st, unsigned events, void *arg) {
    (void)arg;
    CHECK(!(events & STREAM_DEAD) || (int)st->err < 0);
}

static void hold(struct talk *t, struct stream *st) {
    if (!st) return;
    if (t->n == HELD) {
        stream_free(st);
        return;
    }
    stream_own(st, on_event, NULL);
    t->held[t->n++] = st;
}

static void do_stream(struct talk *t, uint8_t op) {
    static const uint8_t bytes[60000];
    const uint8_t *p;
    size_t n;
    if (!t->n) return;
    unsigned i = next(t->in) % t->n;
    struct stream *st = t->held[i];
    switch (op % 5) {
    case 0: stream_write(st, bytes, next(t->in) * 230u); break;
    case 1: stream_finish(st); break;
    case 2: stream_reset(st, ERR_CLIENT_RESET); break;
    case 3:
        stream_free(st);
        t->held[i] = t->held[--t->n];
        break;
    case 4:
        while (stream_peek(st, &p, &n) == STREAM_BYTES) stream_consume(st, n);
        break;
    }
}

static void do_session(struct talk *t, uint8_t op) {
    static const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "a.test:1")};
    static const struct header ok = HEADER(":status", "200");
    struct session_pair *p = t->p;
    struct session *s = p->side[op & 1].session;
    struct stream *st;
    int err;
    if (!s) return;
    switch (op >> 1 & 7) {
    case 0:
    case 1:
        if (!(op & 1)) hold(t, session_open(s, head, 2, false, p->now, &err));
        break;
    case 2:
        st = session_pair_request(p);
        if (st) session_respond(st, &ok, 1, false);
        hold(t, st);
        break;
    case 3: session_ping(s, p->now); break;
    case 4:
        if (op & 0x40) session_retire(s, p->now);
        break;
    case 5:
        if (op & 0x40) session_close(s, ERR_SHUTDOWN, p->now);
        break;
    case 6:
        if (op & 1) addr_set_port(&p->addr[PAIR_CLIENT], (uint16_t)(40000 + next(t->in)));
        break;
    }
}

static void do_inject(struct talk *t, uint8_t op) {
    struct session *s = t->p->side[op & 1].session;
    size_t n = next(t->in);
    const uint8_t *p = take(t->in, &n);
    if (s) session_in_datagram(s, &t->p->addr[1 - (op & 1)], op >> 1 & 3, p, n, t->p->now);
}

static void do_link(struct talk *t, uint8_t op) {
    struct pair_link *l = &t->p->config.link[op & 1];
    l->loss = (op >> 1 & 3) * 100u;
    l->corrupt = (op >> 3 & 3) * 100u;
    l->duplicate = (op >> 5 & 1) * 200u;
    l->jitter = (op >> 6 & 1) * 20 * PAIR_MS;
    l->mtu = op >> 7 ? 1300 : 0;
}

static void talk(struct input *in) {
    struct session_pair_config c;
    struct talk t = {.in = in};
    h3_pair_config_init(&c, next(in) & 1);
    c.seed = next(in) + 1u;
    c.client.stream_window = c.server.stream_window = 100000;
    c.client.budget = 50000;
    t.p = session_pair_new(&c);
    CHECK(t.p);
    for (unsigned i = 0; i < 300 && in->p < in->end; i++) {
        uint8_t op = next(in);
        switch (op & 7) {
        case 0:
        case 1: session_pair_pass(t.p, (uint64_t)(op >> 3) * (op >> 3) * 10 * PAIR_MS); break;
        case 2: do_session(&t, next(in)); break;
        case 3: do_link(&t, next(in)); break;
        case 4: do_inject(&t, next(in)); break;
        default: do_stream(&t, op >> 3); break;
        }
        session_pair_pass(t.p, PAIR_MS);
    }
    while (t.n) stream_free(t.held[--t.n]);
    session_pair_pass(t.p, PAIR_S);
    session_pair_free(t.p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, data + size};
    size_t chunks = buf_chunks();
    if (next(&in) & 1)
        talk(&in);
    else
        raw(&in);
    CHECK(buf_chunks() == chunks);
    return 0;
}
