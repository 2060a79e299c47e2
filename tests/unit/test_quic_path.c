#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/quic_raw.h"
#include "session/quic_impl.h"

#define MIB (1 << 20)

/* ---- a bad way ---- */

static void test_transfer_survives_loss(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct session_pair_config c = quicraw_config(true);
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
        quicraw_exchange(p, MIB, 600 * PAIR_S);
        session_pair_free(p);
    }
}

static void test_small_path(void **state) {
    struct session_pair_config c = quicraw_config(true);
    (void)state;
    c.link[0].mtu = c.link[1].mtu = 1232; /* IPv6's least, without the headers */
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    quicraw_exchange(p, MIB, 60 * PAIR_S);
    session_pair_free(p);
}

static void test_path_mtu_is_found(void **state) {
    struct session_pair *p = quicraw_pair(true);
    struct session_out o;
    uint8_t *bytes = quicraw_pattern(MIB, 3);
    (void)state;
    quicraw_exchange(p, MIB, 60 * PAIR_S);
    /* A slow transfer, a long rest, or one lost flight are no reason to forget it. */
    p->config.link[0].rate = 1000000;
    quicraw_exchange(p, 3 * MIB, 60 * PAIR_S);
    p->config.link[0].rate = 0;
    session_pair_pass(p, 30 * PAIR_S);
    p->config.link[0].hold = true;
    session_ping(client(p), p->now);
    session_pair_pass(p, 500 * PAIR_MS);
    p->config.link[0].hold = false;
    session_pair_pass(p, PAIR_S);
    quicraw_exchange(p, 100000, 60 * PAIR_S);
    session_pair_pass(p, PAIR_S);
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, bytes, MIB, true);
    assert_true(session_out(client(p), &o, p->now));
    assert_in_range(o.segment, 1400, 1452);
    assert_true(o.n > o.segment && o.n <= QUIC_OUT_MAX && o.n <= QUIC_BATCH * o.segment);
    /* The window is not limited by anything but congestion: a long path can be filled. */
    session_sent(client(p), o.n, p->now);
    free(bytes);
    session_pair_free(p);
}

/* A probe that is too large for the path must not take others with it. */
static void test_probe_goes_alone(void **state) {
    struct session_pair_config c = quicraw_config(false);
    struct session_out o;
    uint8_t *bytes = quicraw_pattern(MIB, 7);
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
    session_pair_free(p);
}

/* The way becomes narrower without saying so. */
static void test_path_gets_narrower(void **state) {
    struct session_pair *p = quicraw_pair(true);
    (void)state;
    quicraw_exchange(p, MIB, 60 * PAIR_S);
    p->config.link[0].mtu = p->config.link[1].mtu = 1232;
    uint64_t took = quicraw_exchange(p, 200000, 60 * PAIR_S);
    if (took > 20 * PAIR_S) fail_msg("took %llu ms", (unsigned long long)(took / PAIR_MS));
    session_pair_free(p);
}

/* A socket takes a part of a batch. */
static void test_sent_in_parts(void **state) {
    struct session_pair *p = quicraw_pair(true);
    struct session_out o, again;
    uint8_t *bytes = quicraw_pattern(50000, 4);
    (void)state;
    quicraw_exchange(p, MIB, 60 * PAIR_S);
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
    struct quicraw_wait all = {server(p), id, 50000};
    assert_true(session_pair_until(p, quicraw_has_all, &all, 60 * PAIR_S));
    assert_memory_equal(qraw_stream(server(p), id)->in, bytes, 50000);
    free(bytes);
    session_pair_free(p);
}

static void test_client_port_changes(void **state) {
    struct session_pair *p = quicraw_pair(true);
    (void)state;
    quicraw_exchange(p, 100000, 60 * PAIR_S);
    assert_int_equal(addr_parse(&p->addr[PAIR_CLIENT], "192.0.2.1:50000"), 0);
    quicraw_exchange(p, 100000, 60 * PAIR_S);
    struct session_out o;
    session_ping(server(p), p->now);
    assert_true(session_out(server(p), &o, p->now));
    assert_int_equal(addr_port(&o.remote), 50000);
    session_pair_free(p);
}

/* ---- silence and life ---- */

static void test_silence_ends_in_time(void **state) {
    struct session_pair *p = quicraw_pair(true);
    uint64_t last;
    (void)state;
    session_pair_settle(p, 100 * PAIR_MS);
    last = client(p)->last_rx;
    p->config.link[0].hold = p->config.link[1].hold = true;
    assert_true(session_pair_until(p, quicraw_client_down, p, 200 * PAIR_S));
    quicraw_assert_down(p, ERR_UPSTREAM_TIMEOUT, "nothing came for 74 s");
    assert_true(p->now - last >= 73 * PAIR_S && p->now - last <= 76 * PAIR_S);
    session_pair_free(p);
}

static void test_black_hole_under_load(void **state) {
    struct session_pair *p = quicraw_pair(true);
    uint8_t *bytes = quicraw_pattern(MIB, 5);
    (void)state;
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, bytes, MIB, true);
    session_pair_pass(p, 15 * PAIR_MS);
    p->config.link[0].hold = p->config.link[1].hold = true;
    uint64_t sent = p->side[PAIR_CLIENT].sent, start = p->now;
    assert_true(session_pair_until(p, quicraw_client_down, p, 600 * PAIR_S));
    quicraw_assert_down(p, ERR_UPSTREAM_TIMEOUT, "nothing came");
    assert_true(p->now - start < 100 * PAIR_S);
    /* Probes are few. */
    assert_true(p->side[PAIR_CLIENT].sent - sent < 60);
    free(bytes);
    session_pair_free(p);
}

static void test_ping(void **state) {
    struct session_pair *p = quicraw_pair(true);
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
    session_pair_free(p);
}

/* What is not a genuine packet is no sign of life, and does no harm. */
static void test_garbage_is_ignored(void **state) {
    struct session_pair *p = quicraw_pair(true);
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
    quicraw_exchange(p, 10000, PAIR_S);
    session_pair_free(p);
}

static int cleanup(void **state) {
    (void)state;
    session_pair_cleanup();
    buf_trim();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("quic path", tests, NULL, cleanup);
}
