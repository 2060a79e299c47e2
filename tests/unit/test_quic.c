#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/h3_pair.h"
#include "base/buf.h"
#include "lib/testca.h"
#include "session/quic_impl.h"

#define MIB (1 << 20)

static struct session *client(struct session_pair *p) { return p->side[PAIR_CLIENT].session; }

static struct session *server(struct session_pair *p) { return p->side[PAIR_SERVER].session; }

/* A pair of peers without HTTP/3. */
static struct session_pair_config raw_config(bool retry) {
    struct session_pair_config c;
    h3_pair_config_init(&c, retry);
    c.make = qraw_new;
    return c;
}

static struct session_pair *raw_pair(bool retry) {
    struct session_pair_config c = raw_config(retry);
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    return p;
}

static bool client_down(void *arg) {
    return ((struct session_pair *)arg)->side[PAIR_CLIENT].states[SESSION_DOWN] > 0;
}

static void assert_client_down(struct session_pair *p, enum err err, const char *part) {
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    if (session_error(client(p)) != err) {
        fail_msg("error is %s (%s), not %s", err_word(session_error(client(p))), session_error_text(client(p)),
                 err_word(err));
    }
    if (!strstr(session_error_text(client(p)), part))
        fail_msg("text is %s, without %s", session_error_text(client(p)), part);
}

static void finish(struct session_pair *p) {
    session_pair_free(p);
}

/* ---- bytes ---- */

static uint8_t *pattern(size_t n, unsigned key) {
    uint8_t *p = malloc(n);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)((i * 2654435761u >> 7) + key);
    return p;
}

struct wait {
    struct session *s;
    int64_t id;
    size_t n;
};

static bool has_all(void *arg) {
    struct wait *w = arg;
    struct qraw_stream *t = qraw_stream(w->s, w->id);
    return t && t->in_len == w->n && t->fin;
}

/* n bytes each way on one stream; returns the virtual time that it took. */
static uint64_t exchange(struct session_pair *p, size_t n, uint64_t limit) {
    uint8_t *up = pattern(n, 1), *down = pattern(n, 2);
    uint64_t start = p->now;
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, up, n, true);
    struct wait at_server = {server(p), id, n}, at_client = {client(p), id, n};
    if (!session_pair_until(p, has_all, &at_server, limit)) fail_msg("not everything came up");
    qraw_write(server(p), id, down, n, true);
    if (!session_pair_until(p, has_all, &at_client, limit)) fail_msg("not everything came down");
    assert_memory_equal(qraw_stream(server(p), id)->in, up, n);
    assert_memory_equal(qraw_stream(client(p), id)->in, down, n);
    free(up);
    free(down);
    return p->now - start;
}

/* ---- the handshake ---- */

static void handshake(bool retry, uint64_t most) {
    struct session_info i;
    struct session_pair *p = raw_pair(retry);
    assert_int_equal(h3_pair_door.replies, retry ? 1 : 0);
    assert_int_equal(h3_pair_door.sessions, 1);
    assert_true(p->now - PAIR_S <= most);
    session_get_info(client(p), &i);
    assert_string_equal(i.alpn, "h3");
    assert_non_null(strstr(i.tls, "TLS1.3"));
    assert_false(i.unverified);
    assert_true(i.bytes_in >= 1200 && i.bytes_out >= 1200);
    assert_true(i.rtt >= 10 * PAIR_MS && i.rtt < 40 * PAIR_MS);
    assert_true(i.last_rx > i.started);
    assert_int_equal(i.up, i.last_rx);
    exchange(p, 10000, PAIR_S);
    finish(p);
}

static void test_handshake(void **state) {
    (void)state;
    handshake(false, 20 * PAIR_MS);
}

static void test_retry_costs_one_round_trip(void **state) {
    (void)state;
    handshake(true, 30 * PAIR_MS);
}

static void test_first_datagram(void **state) {
    struct session_pair_config c = raw_config(true);
    struct session_pair *p = session_pair_new(&c);
    struct session_out o;
    struct quic_cid dcid;
    (void)state;
    assert_true(session_out(client(p), &o, p->now));
    assert_true(o.n >= 1200 && o.segment == o.n);
    assert_true(addr_equal(&o.remote, &p->addr[PAIR_SERVER]));
    assert_true(quic_datagram_dcid(o.p, o.n, &dcid));
    assert_int_equal(dcid.len, 8);
    assert_int_equal(o.p[0] & 0xf0, 0xc0);
    assert_memory_equal(o.p + 1, "\0\0\0\1", 4);
    assert_int_equal(o.p[14], 0); /* the client has no connection id of its own */
    finish(p);
}

static void test_handshake_survives_loss(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 30; seed++) {
        struct session_pair_config c = raw_config(seed % 2);
        c.seed = seed;
        c.client.handshake_timeout = c.server.handshake_timeout = 60000;
        c.link[0].loss = c.link[1].loss = 100 + seed % 3 * 100;
        c.link[0].jitter = c.link[1].jitter = 8 * PAIR_MS;
        struct session_pair *p = h3_pair_new(&c);
        if (!p) fail_msg("seed %u: no handshake", seed);
        exchange(p, 20000, 60 * PAIR_S);
        finish(p);
    }
}

static void test_handshake_times_out(void **state) {
    struct session_pair_config c = raw_config(true);
    (void)state;
    c.link[0].hold = true;
    struct session_pair *p = session_pair_new(&c);
    assert_true(session_pair_until(p, client_down, p, 60 * PAIR_S));
    assert_int_equal(p->now, 11 * PAIR_S);
    assert_client_down(p, ERR_UPSTREAM_TIMEOUT, "no answer for 10000 ms");
    assert_true(p->side[PAIR_CLIENT].sent >= 4 && p->side[PAIR_CLIENT].sent <= 12);
    assert_int_equal(session_deadline(client(p)), UINT64_MAX);
    finish(p);
}

static void test_handshake_times_out_half_way(void **state) {
    struct session_pair_config c = raw_config(true);
    (void)state;
    struct session_pair *p = session_pair_new(&c);
    session_pair_pass(p, 12 * PAIR_MS); /* the second Initial is under way; the answer to it is lost */
    p->config.link[1].hold = true;
    assert_true(session_pair_until(p, client_down, p, 60 * PAIR_S));
    assert_int_equal(p->now, 11 * PAIR_S);
    assert_client_down(p, ERR_UPSTREAM_TIMEOUT, "the handshake did not finish in 10000 ms");
    assert_int_equal(p->side[PAIR_SERVER].states[SESSION_UP], 0);
    finish(p);
}

/* ---- the doorstep ---- */

static uint8_t first[1500];
static size_t first_len;

static void keep_first(struct session_pair *p, const struct addr *from, const uint8_t *data, size_t n) {
    (void)p;
    (void)from;
    assert_true(n <= sizeof first);
    memcpy(first, data, n);
    first_len = n;
}

/* The client's first datagram. */
static struct session_pair *with_first(struct session_pair_config *c) {
    c->accept = keep_first;
    struct session_pair *p = session_pair_new(c);
    assert_non_null(p);
    first_len = 0;
    while (!first_len) assert_true(session_pair_io(p, PAIR_S));
    return p;
}

static void test_doorstep(void **state) {
    struct session_pair_config c = raw_config(true);
    struct quic_acceptor a, other;
    struct session_accept out;
    uint8_t reply[QUIC_REPLY_MAX], datagram[1500];
    size_t n;
    (void)state;
    struct session_pair *p = with_first(&c);
    struct addr from = p->addr[PAIR_CLIENT];
    assert_int_equal(quic_acceptor_init(&a, false), 0);
    assert_int_equal(quic_acceptor_init(&other, true), 0);
    assert_memory_not_equal(a.token_secret, other.token_secret, QUIC_SECRET);

    assert_int_equal(quic_accept(&a, &from, first, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_NEW);
    assert_int_equal(out.client.len, 0);
    assert_int_equal(out.dcid.len, 8);
    assert_memory_equal(out.dcid.data, first + 6, 8);
    assert_memory_equal(&out.original, &out.dcid, sizeof out.dcid);
    assert_false(out.retried);
    assert_int_equal(n, 0);

    /* Too small to be answered at all, cut, or no Initial. */
    assert_int_equal(quic_accept(&a, &from, first, 1199, p->now, &out, reply, &n), QUIC_ACCEPT_NONE);
    for (size_t i = 0; i < 30; i++)
        assert_int_equal(quic_accept(&a, &from, first, i, p->now, &out, reply, &n), QUIC_ACCEPT_NONE);
    memcpy(datagram, first, first_len);
    datagram[0] = 0xe0; /* Handshake */
    assert_int_equal(quic_accept(&a, &from, datagram, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_NONE);
    datagram[0] = 0xf0; /* Retry */
    assert_int_equal(quic_accept(&a, &from, datagram, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_NONE);
    memset(datagram + 1, 0, 4); /* Version Negotiation is never answered */
    assert_int_equal(quic_accept(&a, &from, datagram, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_NONE);

    /* Another version: ours is named, ids are swapped. */
    memcpy(datagram, first, first_len);
    memcpy(datagram + 1, "\x6b\x33\x43\xcf", 4);
    assert_int_equal(quic_accept(&a, &from, datagram, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_REPLY);
    assert_true(n < first_len && (reply[0] & 0x80));
    assert_memory_equal(reply + 1, "\0\0\0\0\0\x08", 6);
    assert_memory_equal(reply + 7, first + 6, 8);
    assert_memory_equal(reply + 15, "\0\0\0\1", 4);
    assert_int_equal(quic_accept(&a, &from, datagram, 1199, p->now, &out, reply, &n), QUIC_ACCEPT_NONE);

    /* Retry, and what comes of its token. */
    assert_int_equal(quic_accept(&other, &from, first, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_REPLY);
    assert_int_equal(reply[0] & 0xf0, 0xf0);
    assert_true(n < first_len);
    session_in_datagram(client(p), &p->addr[PAIR_SERVER], 0, reply, n, p->now);
    uint8_t id[8];
    memcpy(id, first + 6, 8);
    first_len = 0;
    while (!first_len) assert_true(session_pair_io(p, PAIR_S));
    assert_int_equal(quic_accept(&other, &from, first, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_NEW);
    assert_true(out.retried && out.token_len > 0);
    assert_int_equal(out.dcid.len, QUIC_SERVER_CID);
    assert_int_equal(out.original.len, 8);
    assert_memory_equal(out.original.data, id, 8);
    /* From somewhere else, or too late: refused. To somebody else: no token at all. */
    struct addr elsewhere;
    assert_int_equal(addr_parse(&elsewhere, "192.0.2.9:40000"), 0);
    assert_int_equal(quic_accept(&other, &elsewhere, first, first_len, p->now, &out, reply, &n),
                     QUIC_ACCEPT_REPLY);
    assert_int_equal(reply[0] & 0xf0, 0xc0);
    uint64_t late = p->now + (QUIC_TOKEN_LIFE + 1) * PAIR_S;
    assert_int_equal(quic_accept(&other, &from, first, first_len, late, &out, reply, &n), QUIC_ACCEPT_REPLY);
    assert_int_equal(reply[0] & 0xf0, 0xc0);
    a.retry = true;
    assert_int_equal(quic_accept(&a, &from, first, first_len, p->now, &out, reply, &n), QUIC_ACCEPT_REPLY);
    assert_int_equal(reply[0] & 0xf0, 0xf0);
    finish(p);
}

static void test_doorstep_stateless_reset(void **state) {
    struct quic_acceptor a;
    struct session_accept out;
    struct addr from;
    uint8_t reply[QUIC_REPLY_MAX], datagram[100];
    size_t n;
    (void)state;
    assert_int_equal(addr_parse(&from, "192.0.2.1:40000"), 0);
    assert_int_equal(quic_acceptor_init(&a, true), 0);
    memset(datagram, 0x42, sizeof datagram);
    for (size_t i = 1; i < sizeof datagram; i++) {
        enum quic_accept_result r = quic_accept(&a, &from, datagram, i, 0, &out, reply, &n);
        assert_int_equal(r, i > 21 ? QUIC_ACCEPT_REPLY : QUIC_ACCEPT_NONE);
        if (r == QUIC_ACCEPT_NONE) continue;
        assert_true(n < i && n >= 21); /* always shorter: two of these cannot talk for ever */
        assert_int_equal(reply[0] & 0xc0, 0x40);
    }
}

static void test_datagram_dcid(void **state) {
    struct quic_cid cid;
    uint8_t p[40];
    (void)state;
    for (size_t i = 0; i < sizeof p; i++) p[i] = (uint8_t)(i & 0x3f);
    p[0] = 0x40;
    assert_true(quic_datagram_dcid(p, sizeof p, &cid));
    assert_int_equal(cid.len, QUIC_SERVER_CID);
    assert_memory_equal(cid.data, p + 1, QUIC_SERVER_CID);
    assert_false(quic_datagram_dcid(p, QUIC_SERVER_CID, &cid));
    assert_false(quic_datagram_dcid(p, 0, &cid));
    memcpy(p, "\xc0\0\0\0\1\x15", 6); /* an id of 21 bytes */
    assert_false(quic_datagram_dcid(p, sizeof p, &cid));
}

/* Every id under which the client may send leads to its session. */
static void test_ids_lead_to_the_session(void **state) {
    struct session_pair *p = raw_pair(true);
    struct session_out o;
    struct quic_cid cid;
    bool found = false;
    (void)state;
    session_pair_settle(p, 100 * PAIR_MS);
    assert_true(h3_pair_door.n_cids >= 2);
    session_ping(client(p), p->now);
    assert_true(session_out(client(p), &o, p->now));
    assert_true(quic_datagram_dcid(o.p, o.n, &cid));
    for (unsigned i = 0; i < h3_pair_door.n_cids; i++)
        found |= !memcmp(&h3_pair_door.cids[i], &cid, sizeof cid);
    assert_true(found);
    finish(p);
}

/* ---- a bad way ---- */

static void test_transfer_survives_loss(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct session_pair_config c = raw_config(true);
        c.seed = seed;
        c.client.handshake_timeout = c.server.handshake_timeout = 60000;
        for (int i = 0; i < 2; i++) {
            c.link[i].loss = 100 + seed % 3 * 100; /* 10, 20, 30 % */
            c.link[i].jitter = 15 * PAIR_MS;
            c.link[i].duplicate = 20;
            c.link[i].corrupt = 20;
        }
        struct session_pair *p = h3_pair_new(&c);
        if (!p) fail_msg("seed %u: no handshake", seed);
        exchange(p, MIB, 600 * PAIR_S);
        finish(p);
    }
}

static void test_small_path(void **state) {
    struct session_pair_config c = raw_config(true);
    (void)state;
    c.link[0].mtu = c.link[1].mtu = 1232; /* IPv6's least, without the headers */
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    exchange(p, MIB, 60 * PAIR_S);
    finish(p);
}

static void test_path_mtu_is_found(void **state) {
    struct session_pair *p = raw_pair(true);
    struct session_out o;
    uint8_t *bytes = pattern(MIB, 3);
    (void)state;
    exchange(p, MIB, 60 * PAIR_S);
    /* A slow transfer, a long rest, or one lost flight are no reason to forget it. */
    p->config.link[0].rate = 1000000;
    exchange(p, 3 * MIB, 60 * PAIR_S);
    p->config.link[0].rate = 0;
    session_pair_pass(p, 30 * PAIR_S);
    p->config.link[0].hold = true;
    session_ping(client(p), p->now);
    session_pair_pass(p, 500 * PAIR_MS);
    p->config.link[0].hold = false;
    session_pair_pass(p, PAIR_S);
    exchange(p, 100000, 60 * PAIR_S);
    session_pair_pass(p, PAIR_S);
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, bytes, MIB, true);
    assert_true(session_out(client(p), &o, p->now));
    assert_in_range(o.segment, 1400, 1452);
    assert_true(o.n > o.segment && o.n <= QUIC_OUT_MAX && o.n <= QUIC_BATCH * o.segment);
    /* The window is not limited by anything but congestion: a long path can be filled. */
    session_sent(client(p), o.n, p->now);
    free(bytes);
    finish(p);
}

/* A probe that is too large for the path must not take others with it. */
static void test_probe_goes_alone(void **state) {
    struct session_pair_config c = raw_config(false);
    struct session_out o;
    uint8_t *bytes = pattern(MIB, 7);
    unsigned probes = 0, batches = 0;
    (void)state;
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, bytes, MIB, true);
    for (int i = 0; i < 200; i++) {
        while (session_out(client(p), &o, p->now)) {
            size_t path_max = ngtcp2_conn_get_path_max_tx_udp_payload_size(qraw_quic(client(p))->conn);
            batches += o.n > o.segment;
            for (size_t at = 0; at < o.n; at += o.segment) {
                size_t n = o.n - at < o.segment ? o.n - at : o.segment;
                session_in_datagram(server(p), &p->addr[PAIR_CLIENT], o.ecn, o.p + at, n, p->now);
            }
            if (o.segment > path_max) {
                assert_int_equal(o.n, o.segment);
                probes++;
            }
            session_sent(client(p), o.n, p->now);
        }
        p->now += 5 * PAIR_MS;
        while (session_out(server(p), &o, p->now)) {
            session_in_datagram(client(p), &p->addr[PAIR_SERVER], o.ecn, o.p, o.n, p->now);
            session_sent(server(p), o.n, p->now);
        }
        for (int k = 0; k < 2; k++)
            if (session_deadline(p->side[k].session) <= p->now) session_expire(p->side[k].session, p->now);
    }
    assert_true(probes > 0 && batches > 0);
    assert_int_equal(qraw_stream(server(p), id)->in_len, MIB);
    free(bytes);
    finish(p);
}

/* The way becomes narrower without saying so. */
static void test_path_gets_narrower(void **state) {
    struct session_pair *p = raw_pair(true);
    (void)state;
    exchange(p, MIB, 60 * PAIR_S);
    p->config.link[0].mtu = p->config.link[1].mtu = 1232;
    uint64_t took = exchange(p, 200000, 60 * PAIR_S);
    if (took > 20 * PAIR_S) fail_msg("took %llu ms", (unsigned long long)(took / PAIR_MS));
    finish(p);
}

/* A socket takes a part of a batch. */
static void test_sent_in_parts(void **state) {
    struct session_pair *p = raw_pair(true);
    struct session_out o, again;
    uint8_t *bytes = pattern(50000, 4);
    (void)state;
    exchange(p, MIB, 60 * PAIR_S);
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, bytes, 50000, true);
    assert_true(session_out(client(p), &o, p->now));
    assert_true(o.n > 3 * o.segment);
    uint64_t before = client(p)->bytes_out;
    /* Nothing was taken: the same again. */
    assert_true(session_out(client(p), &again, p->now));
    assert_memory_equal(&o, &again, sizeof o);
    session_sent(client(p), 2 * o.segment, p->now);
    assert_true(session_out(client(p), &again, p->now));
    assert_ptr_equal(again.p, o.p + 2 * o.segment);
    assert_int_equal(again.n, o.n - 2 * o.segment);
    assert_int_equal(again.segment, o.segment);
    assert_int_equal(client(p)->bytes_out, before + 2 * o.segment);
    /* It goes on from there; the two datagrams were lost, and are repeated. */
    struct wait all = {server(p), id, 50000};
    assert_true(session_pair_until(p, has_all, &all, 60 * PAIR_S));
    assert_memory_equal(qraw_stream(server(p), id)->in, bytes, 50000);
    free(bytes);
    finish(p);
}

static void test_client_port_changes(void **state) {
    struct session_pair *p = raw_pair(true);
    (void)state;
    exchange(p, 100000, 60 * PAIR_S);
    assert_int_equal(addr_parse(&p->addr[PAIR_CLIENT], "192.0.2.1:50000"), 0);
    exchange(p, 100000, 60 * PAIR_S);
    struct session_out o;
    session_ping(server(p), p->now);
    assert_true(session_out(server(p), &o, p->now));
    assert_int_equal(addr_port(&o.remote), 50000);
    finish(p);
}

/* ---- silence and life ---- */

static void test_silence_ends_in_time(void **state) {
    struct session_pair *p = raw_pair(true);
    uint64_t last;
    (void)state;
    session_pair_settle(p, 100 * PAIR_MS);
    last = client(p)->last_rx;
    p->config.link[0].hold = p->config.link[1].hold = true;
    assert_true(session_pair_until(p, client_down, p, 200 * PAIR_S));
    assert_client_down(p, ERR_UPSTREAM_TIMEOUT, "nothing came for 74 s");
    assert_true(p->now - last >= 73 * PAIR_S && p->now - last <= 76 * PAIR_S);
    finish(p);
}

static void test_black_hole_under_load(void **state) {
    struct session_pair *p = raw_pair(true);
    uint8_t *bytes = pattern(MIB, 5);
    (void)state;
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, bytes, MIB, true);
    session_pair_pass(p, 15 * PAIR_MS);
    p->config.link[0].hold = p->config.link[1].hold = true;
    uint64_t sent = p->side[PAIR_CLIENT].sent, start = p->now;
    assert_true(session_pair_until(p, client_down, p, 600 * PAIR_S));
    assert_client_down(p, ERR_UPSTREAM_TIMEOUT, "nothing came");
    assert_true(p->now - start < 100 * PAIR_S);
    /* Probes are few. */
    assert_true(p->side[PAIR_CLIENT].sent - sent < 60);
    free(bytes);
    finish(p);
}

static void test_ping(void **state) {
    struct session_pair *p = raw_pair(true);
    (void)state;
    session_pair_pass(p, 20 * PAIR_S);
    uint64_t sent = p->side[PAIR_CLIENT].sent, before = client(p)->last_rx;
    session_ping(client(p), p->now);
    uint64_t asked = p->now;
    session_pair_pass(p, 5 * PAIR_S);
    assert_true(client(p)->last_rx > before);
    assert_true(client(p)->last_rx >= asked + 10 * PAIR_MS && client(p)->last_rx < asked + 100 * PAIR_MS);
    /* One PING, not a habit. */
    assert_int_equal(p->side[PAIR_CLIENT].sent, sent + 1);
    /* At the very moment at which something else left: a little later, then. */
    struct session_out o;
    session_ping(client(p), p->now);
    while (session_out(client(p), &o, p->now)) session_sent(client(p), o.n, p->now);
    session_ping(client(p), p->now);
    assert_false(session_out(client(p), &o, p->now));
    assert_true(session_deadline(client(p)) <= p->now + PAIR_MS);
    p->now += PAIR_MS;
    assert_true(session_out(client(p), &o, p->now));
    session_sent(client(p), o.n, p->now);
    /* A clock that goes back is no reason to die. */
    assert_false(session_out(client(p), &o, p->now - PAIR_S));
    session_expire(client(p), p->now - PAIR_S);
    session_pair_pass(p, PAIR_S);
    /* Pinged every 30 s, it lives on past the idle timeout. */
    for (int i = 0; i < 10; i++) {
        session_ping(client(p), p->now);
        session_pair_pass(p, 30 * PAIR_S);
    }
    assert_int_equal(session_get_state(client(p)), SESSION_UP);
    finish(p);
}

/* What is not a genuine packet is no sign of life, and does no harm. */
static void test_garbage_is_ignored(void **state) {
    struct session_pair *p = raw_pair(true);
    uint8_t junk[1400];
    uint64_t random = 1;
    (void)state;
    session_pair_settle(p, 100 * PAIR_MS);
    uint64_t last = client(p)->last_rx;
    p->now += PAIR_S;
    for (unsigned i = 0; i < 2000; i++) {
        for (size_t k = 0; k < sizeof junk; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            junk[k] = (uint8_t)(random >> 33);
        }
        if (i % 4 == 1) memcpy(junk, "\xc0\0\0\0\1\0", 6);
        if (i % 4 == 2) memcpy(junk, "\xc0\0\0\0\0\0", 6);
        session_in_datagram(client(p), &p->addr[PAIR_SERVER], 0, junk, i % sizeof junk, p->now);
        session_in_datagram(server(p), &p->addr[PAIR_CLIENT], 0, junk, i % sizeof junk, p->now);
    }
    assert_int_equal(client(p)->last_rx, last);
    /* Genuine, but from somewhere else: a client takes nothing from there. */
    struct addr elsewhere;
    struct session_out o;
    assert_int_equal(addr_parse(&elsewhere, "192.0.2.9:443"), 0);
    session_ping(server(p), p->now);
    assert_true(session_out(server(p), &o, p->now));
    session_in_datagram(client(p), &elsewhere, 0, o.p, o.n, p->now);
    assert_int_equal(client(p)->last_rx, last);
    session_in_datagram(client(p), &p->addr[PAIR_SERVER], 0, o.p, o.n, p->now);
    assert_int_equal(client(p)->last_rx, p->now);
    exchange(p, 10000, PAIR_S);
    finish(p);
}

/* ---- ends ---- */

static void close_with(uint64_t code, enum err err, const char *part) {
    struct session_pair *p = raw_pair(true);
    session_pair_settle(p, 100 * PAIR_MS);
    qraw_close(server(p), code, p->now);
    assert_true(session_pair_until(p, client_down, p, PAIR_S));
    assert_client_down(p, err, part);
    finish(p);
}

static void test_closed_by_application(void **state) {
    (void)state;
    close_with(0x42, ERR_UPSTREAM_CLOSED, "application code 0x42");
    close_with(0x100, ERR_UPSTREAM_CLOSED, "application code 0x100");
    close_with(0x1f, ERR_UPSTREAM_AUTH, "application code 0x1f");
    close_with(0x64, ERR_UPSTREAM_AUTH, "application code 0x64");
}

static uint64_t refusal_code;
static const char *refusal_reason;

/* Refuses as a server does that has not even begun. */
static void refuse(struct session_pair *p, const struct addr *from, const uint8_t *data, size_t n) {
    ngtcp2_pkt_hd hd;
    uint8_t reply[1200];
    (void)from;
    assert_int_equal(ngtcp2_accept(&hd, data, n), 0);
    ngtcp2_ssize len = ngtcp2_crypto_write_connection_close(reply, sizeof reply, hd.version, &hd.scid, &hd.dcid,
                                                            refusal_code, (const uint8_t *)refusal_reason,
                                                            strlen(refusal_reason));
    assert_true(len > 0);
    session_pair_answer(p, reply, (size_t)len);
}

static void refuse_with(uint64_t code, const char *reason, enum err err, const char *part) {
    struct session_pair_config c = raw_config(true);
    refusal_code = code;
    refusal_reason = reason;
    c.accept = refuse;
    struct session_pair *p = session_pair_new(&c);
    assert_true(session_pair_until(p, client_down, p, PAIR_S));
    assert_client_down(p, err, part);
    finish(p);
}

static void test_closed_by_transport(void **state) {
    (void)state;
    refuse_with(0x42, "", ERR_UPSTREAM_CLOSED, "transport code 0x42");
    refuse_with(NGTCP2_CONNECTION_REFUSED, "go away", ERR_UPSTREAM_REFUSED, "transport code 0x2: go away");
    refuse_with(NGTCP2_CRYPTO_ERROR | 40, "", ERR_UPSTREAM_TLS, "TLS alert 40, Handshake failed");
    refuse_with(NGTCP2_CRYPTO_ERROR | 255, "", ERR_UPSTREAM_TLS, "TLS alert 255, unknown");
    refuse_with(NGTCP2_CRYPTO_ERROR | 120, "", ERR_UPSTREAM_ALPN, "TLS alert 120");
    refuse_with(NGTCP2_INVALID_TOKEN, "", ERR_UPSTREAM_CLOSED, "transport code 0xb");
    /* Foreign words cannot forge a line of the log. */
    refuse_with(0x0a, "bad\n2026 info", ERR_UPSTREAM_CLOSED, "bad?2026 info");
}

static void test_close_is_repeated_a_little(void **state) {
    struct session_pair *p = raw_pair(true);
    struct session_out o;
    unsigned closes = 0;
    uint8_t packet[1500];
    (void)state;
    session_pair_settle(p, 100 * PAIR_MS);
    p->now += PAIR_MS;
    session_ping(server(p), p->now);
    assert_true(session_out(server(p), &o, p->now));
    size_t n = o.n;
    memcpy(packet, o.p, n);
    session_close(client(p), ERR_SHUTDOWN, p->now);
    assert_int_equal(session_error(client(p)), ERR_SHUTDOWN);
    assert_true(session_out(client(p), &o, p->now));
    session_sent(client(p), o.n, p->now);
    assert_false(session_out(client(p), &o, p->now));
    for (unsigned i = 0; i < 100; i++) {
        session_in_datagram(client(p), &p->addr[PAIR_SERVER], 0, packet, n, p->now);
        while (session_out(client(p), &o, p->now)) {
            assert_int_equal(o.segment, o.n);
            session_sent(client(p), o.n, p->now);
            closes++;
        }
    }
    assert_int_equal(closes, 7); /* for 1, 2, 4, ... 64 packets */
    finish(p);
}

static void answer_versions(struct session_pair *p, const struct addr *from, const uint8_t *data, size_t n) {
    uint8_t reply[64] = {0x80, 0, 0, 0, 0, 0};
    (void)from;
    (void)n;
    reply[5] = 0; /* the client's id is empty; ours is the one it chose */
    reply[6] = data[5];
    memcpy(reply + 7, data + 6, data[5]);
    memcpy(reply + 7 + data[5], "\x6b\x33\x43\xcf\xff\x00\x00\x1d", 8);
    session_pair_answer(p, reply, 7 + (size_t)data[5] + 8);
}

static void test_other_versions(void **state) {
    struct session_pair_config c = raw_config(true);
    (void)state;
    c.accept = answer_versions;
    struct session_pair *p = session_pair_new(&c);
    assert_true(session_pair_until(p, client_down, p, PAIR_S));
    assert_client_down(p, ERR_UPSTREAM_PROTOCOL, "6b3343cf ff00001d");
    finish(p);
    /* Later than as the first answer nobody believes it. */
    p = raw_pair(true);
    uint8_t late[] = {0x80, 0, 0, 0, 0, 0, 0, 0x6b, 0x33, 0x43, 0xcf};
    session_in_datagram(client(p), &p->addr[PAIR_SERVER], 0, late, sizeof late, p->now);
    exchange(p, 1000, PAIR_S);
    finish(p);
}

static unsigned retries;

/* Every Initial gets a Retry; the first one is broken, and one more follows each good one. */
static void too_many_retries(struct session_pair *p, const struct addr *from, const uint8_t *data, size_t n) {
    static struct quic_acceptor another;
    struct session_accept out;
    uint8_t reply[QUIC_REPLY_MAX];
    size_t len;
    if (!retries) assert_int_equal(quic_acceptor_init(&another, true), 0);
    if (quic_accept(&another, from, data, n, p->now, &out, reply, &len) == QUIC_ACCEPT_REPLY) {
        if (!retries++) {
            reply[len - 1] ^= 1;
            session_pair_answer(p, reply, len);
            return;
        }
        session_pair_answer(p, reply, len);
        assert_int_equal(quic_accept(&another, from, data, n, p->now, &out, reply, &len), QUIC_ACCEPT_REPLY);
        session_pair_answer(p, reply, len);
        return;
    }
    p->config.server.accept = &out;
    assert_int_equal(p->config.make(&p->side[PAIR_SERVER].session, &p->config.server), 0);
    session_in_datagram(server(p), from, 0, data, n, p->now);
}

static void test_bad_retries_are_ignored(void **state) {
    struct session_pair_config c = raw_config(true);
    (void)state;
    retries = 0;
    c.accept = too_many_retries;
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    assert_int_equal(retries, 2);
    exchange(p, 1000, PAIR_S);
    finish(p);
}

static void test_stateless_reset(void **state) {
    struct session_pair *p = raw_pair(true);
    (void)state;
    session_pair_settle(p, 100 * PAIR_MS);
    /* The server has lost the session. A stranger's reset says nothing. */
    session_free(server(p));
    p->side[PAIR_SERVER].session = NULL;
    struct quic_acceptor right = h3_pair_door.acceptor;
    assert_int_equal(quic_acceptor_init(&h3_pair_door.acceptor, true), 0);
    uint64_t last = client(p)->last_rx;
    session_ping(client(p), p->now);
    session_pair_pass(p, PAIR_S);
    assert_true(h3_pair_door.replies > 1);
    assert_int_equal(session_get_state(client(p)), SESSION_UP);
    assert_int_equal(client(p)->last_rx, last);
    h3_pair_door.acceptor = right;
    session_ping(client(p), p->now);
    assert_true(session_pair_until(p, client_down, p, 10 * PAIR_S));
    assert_client_down(p, ERR_UPSTREAM_CLOSED, "stateless reset");
    finish(p);
}

/* ---- certificates ---- */

struct identity {
    struct testca *ca;
    char *cert, *key, *trust;
};

static struct identity identity_new(struct testca *ca, const struct testca_spec *spec) {
    struct identity i = {.ca = ca, .trust = testca_pem(ca)};
    testca_issue(ca, spec, &i.cert, &i.key);
    return i;
}

static void identity_free(struct identity *i) {
    free(i->cert);
    free(i->key);
    free(i->trust);
}

struct attempt {
    enum err err;
    char text[256];
    bool unverified, server_up;
};

static bool over(void *arg) {
    struct session_pair *p = arg;
    return p->side[PAIR_CLIENT].states[SESSION_UP] || p->side[PAIR_CLIENT].states[SESSION_DOWN];
}

static struct attempt attempt(enum session_kind kind, const struct creds_config *client_creds,
                              const struct identity *server_identity) {
    struct session_pair_config c;
    struct attempt a = {0};
    struct creds *cc, *sc;
    char why[CREDS_WHY_MAX];
    struct creds_config server_creds = {
        .server = true, .certificate_pem = server_identity->cert, .key_pem = server_identity->key};
    if (kind == SESSION_H3)
        h3_pair_config_init(&c, true);
    else
        session_pair_config_init(&c, kind);
    assert_int_equal(creds_new(&cc, client_creds, why, sizeof why), 0);
    assert_int_equal(creds_new(&sc, &server_creds, why, sizeof why), 0);
    c.client.creds = cc;
    c.server.creds = sc;
    struct session_pair *p = session_pair_new(&c);
    assert_non_null(p);
    assert_true(session_pair_until(p, over, p, 20 * PAIR_S));
    session_pair_settle(p, 100 * PAIR_MS);
    a.err = session_error(client(p));
    snprintf(a.text, sizeof a.text, "%s", session_error_text(client(p)));
    a.unverified = client(p)->unverified;
    a.server_up = p->side[PAIR_SERVER].states[SESSION_UP] > 0;
    session_pair_free(p);
    creds_unref(cc);
    creds_unref(sc);
    return a;
}

/* Refused on both transports with the same words; taken with a warning when told to. */
static void refused(struct creds_config cc, const struct identity *id, const char *part) {
    struct attempt h3 = attempt(SESSION_H3, &cc, id), h2 = attempt(SESSION_H2, &cc, id);
    assert_int_equal(h3.err, ERR_UPSTREAM_CERTIFICATE);
    assert_false(h3.server_up);
    if (!strstr(h3.text, part)) fail_msg("%s does not say %s", h3.text, part);
    assert_int_equal(h2.err, h3.err);
    assert_string_equal(h2.text, h3.text);
    cc.skip_verification = true;
    h3 = attempt(SESSION_H3, &cc, id);
    assert_int_equal(h3.err, ERR_OK);
    assert_true(h3.unverified && h3.server_up);
}

static void test_certificates(void **state) {
    struct testca *ca = testca_new("Root"), *other = testca_new("Other Root");
    char *other_pem = testca_pem(other);
    (void)state;
    struct testca_spec good = {.names = {"test.example"}}, none = {.cn = "test.example"};
    struct testca_spec old = good, early = good, wrong = good;
    old.from = -30 * TESTCA_DAY;
    old.until = -2 * TESTCA_DAY;
    early.from = 2 * TESTCA_DAY;
    early.until = 30 * TESTCA_DAY;
    wrong.names[0] = "other.example";
    struct identity id = identity_new(ca, &good);
    struct creds_config cc = {.hostname = "test.example", .trust_pem = id.trust};
    struct attempt ok = attempt(SESSION_H3, &cc, &id);
    assert_int_equal(ok.err, ERR_OK);
    assert_false(ok.unverified);

    struct creds_config stranger = cc;
    stranger.trust_pem = other_pem;
    refused(stranger, &id, "issuer");
    identity_free(&id);

    const struct {
        const struct testca_spec *spec;
        const char *part;
    } cases[] = {{&old, "expired"}, {&early, "clock"}, {&wrong, "other.example"}, {&none, "test.example"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        id = identity_new(ca, cases[i].spec);
        cc.trust_pem = id.trust;
        refused(cc, &id, cases[i].part);
        identity_free(&id);
    }
    /* Self-signed. */
    id = (struct identity){.trust = testca_pem(ca)};
    testca_issue(NULL, &good, &id.cert, &id.key);
    cc.trust_pem = id.trust;
    refused(cc, &id, "");
    identity_free(&id);
    free(other_pem);
    testca_free(ca);
    testca_free(other);
}

/* Should the library ever complete a handshake without asking the hook, the certificate is judged all the same. */
static void test_verified_without_the_hook(void **state) {
    struct creds_config cc = {.hostname = "other.example"};
    struct session_pair_config c = raw_config(true);
    char why[CREDS_WHY_MAX];
    struct testca *ca = testca_new("Root");
    struct identity id = identity_new(ca, &(struct testca_spec){.names = {"test.example"}});
    (void)state;
    cc.trust_pem = id.trust;
    assert_int_equal(creds_new(&c.client.creds, &cc, why, sizeof why), 0);
    struct session_pair *p = session_pair_new(&c);
    gnutls_session_set_verify_function(qraw_quic(client(p))->tls, NULL);
    assert_true(session_pair_until(p, over, p, 20 * PAIR_S));
    assert_client_down(p, ERR_UPSTREAM_CERTIFICATE, "");
    assert_int_equal(p->side[PAIR_CLIENT].states[SESSION_UP], 0);
    finish(p);
    creds_unref(c.client.creds);
    identity_free(&id);
    testca_free(ca);
}

/* ---- a bad peer ---- */

static void (*spoil)(ngtcp2_transport_params *params);

static int make_spoilt(struct session **out, const struct session_config *c) {
    int rv = qraw_new(out, c);
    if (rv < 0 || !c->server) return rv;
    spoil((ngtcp2_transport_params *)ngtcp2_conn_get_local_transport_params(qraw_quic(*out)->conn));
    return 0;
}

static void tiny_payload(ngtcp2_transport_params *params) { params->max_udp_payload_size = 1199; }

static void wrong_original(ngtcp2_transport_params *params) { params->original_dcid.data[0] ^= 1; }

static void no_retry_id(ngtcp2_transport_params *params) { params->retry_scid_present = 0; }

static void no_streams(ngtcp2_transport_params *params) { params->initial_max_streams_bidi = 0; }

static void moved(ngtcp2_transport_params *params) {
    struct addr a;
    addr_parse(&a, "198.51.100.7:4433");
    params->preferred_addr_present = 1;
    params->preferred_addr.cid.datalen = 16;
    memset(params->preferred_addr.cid.data, 7, 16);
    params->preferred_addr.ipv4 = a.u.in;
    params->preferred_addr.ipv4_present = 1;
}

static void test_bad_parameters(void **state) {
    void (*const bad[])(ngtcp2_transport_params *) = {tiny_payload, wrong_original, no_retry_id};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct session_pair_config c = raw_config(true);
        spoil = bad[i];
        c.make = make_spoilt;
        struct session_pair *p = session_pair_new(&c);
        assert_true(session_pair_until(p, client_down, p, 20 * PAIR_S));
        assert_client_down(p, ERR_UPSTREAM_PROTOCOL, "");
        finish(p);
    }
    struct session_pair_config c = raw_config(true);
    spoil = no_streams;
    c.make = make_spoilt;
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    assert_int_equal(quic_bidi_left(qraw_quic(client(p))), 0);
    assert_int_equal(quic_open_bidi(qraw_quic(client(p))), ERR_UPSTREAM_BUSY);
    finish(p);
}

static bool to_server_only(struct session_pair *p, struct session_out *o) {
    return addr_equal(&o->remote, &p->addr[PAIR_SERVER]);
}

static void test_preferred_address_is_ignored(void **state) {
    struct session_pair_config c = raw_config(true);
    struct session_out o;
    uint8_t *bytes = pattern(MIB, 6);
    (void)state;
    spoil = moved;
    c.make = make_spoilt;
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    session_pair_settle(p, PAIR_S);
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, bytes, MIB, true);
    unsigned batches = 0;
    for (int i = 0; i < 50; i++) {
        while (session_out(client(p), &o, p->now)) {
            assert_true(to_server_only(p, &o));
            session_sent(client(p), o.n, p->now);
            batches++;
        }
        p->now += 100 * PAIR_MS;
        session_expire(client(p), p->now);
    }
    assert_true(batches > 3);
    free(bytes);
    finish(p);
}

static void test_key_update(void **state) {
    struct session_pair *p = raw_pair(true);
    (void)state;
    exchange(p, 10000, 10 * PAIR_S);
    session_pair_pass(p, PAIR_S);
    assert_int_equal(ngtcp2_conn_initiate_key_update(qraw_quic(server(p))->conn, p->now), 0);
    exchange(p, 100000, 10 * PAIR_S);
    session_pair_pass(p, PAIR_S);
    assert_int_equal(ngtcp2_conn_initiate_key_update(qraw_quic(client(p))->conn, p->now), 0);
    exchange(p, 100000, 10 * PAIR_S);
    finish(p);
}

static int cleanup(void **state) {
    (void)state;
    session_pair_cleanup();
    buf_trim();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake),
        cmocka_unit_test(test_retry_costs_one_round_trip),
        cmocka_unit_test(test_first_datagram),
        cmocka_unit_test(test_handshake_survives_loss),
        cmocka_unit_test(test_handshake_times_out),
        cmocka_unit_test(test_handshake_times_out_half_way),
        cmocka_unit_test(test_doorstep),
        cmocka_unit_test(test_doorstep_stateless_reset),
        cmocka_unit_test(test_datagram_dcid),
        cmocka_unit_test(test_ids_lead_to_the_session),
        cmocka_unit_test(test_transfer_survives_loss),
        cmocka_unit_test(test_small_path),
        cmocka_unit_test(test_path_mtu_is_found),
        cmocka_unit_test(test_probe_goes_alone),
        cmocka_unit_test(test_path_gets_narrower),
        cmocka_unit_test(test_sent_in_parts),
        cmocka_unit_test(test_client_port_changes),
        cmocka_unit_test(test_silence_ends_in_time),
        cmocka_unit_test(test_black_hole_under_load),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_garbage_is_ignored),
        cmocka_unit_test(test_closed_by_application),
        cmocka_unit_test(test_closed_by_transport),
        cmocka_unit_test(test_close_is_repeated_a_little),
        cmocka_unit_test(test_other_versions),
        cmocka_unit_test(test_bad_retries_are_ignored),
        cmocka_unit_test(test_stateless_reset),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_verified_without_the_hook),
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_preferred_address_is_ignored),
        cmocka_unit_test(test_key_update),
    };
    return cmocka_run_group_tests_name("quic", tests, NULL, cleanup);
}
