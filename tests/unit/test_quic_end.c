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

/* ---- ends ---- */

static void close_with(uint64_t code, enum err err, const char *part) {
    struct session_pair *p = quicraw_pair(true);
    session_pair_settle(p, 100 * PAIR_MS);
    qraw_close(server(p), code, p->now);
    assert_true(session_pair_until(p, quicraw_client_down, p, PAIR_S));
    quicraw_assert_down(p, err, part);
    session_pair_free(p);
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
    struct session_pair_config c = quicraw_config(true);
    refusal_code = code;
    refusal_reason = reason;
    c.accept = refuse;
    struct session_pair *p = session_pair_new(&c);
    assert_true(session_pair_until(p, quicraw_client_down, p, PAIR_S));
    quicraw_assert_down(p, err, part);
    session_pair_free(p);
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
    struct session_pair *p = quicraw_pair(true);
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
    session_pair_free(p);
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
    struct session_pair_config c = quicraw_config(true);
    (void)state;
    c.accept = answer_versions;
    struct session_pair *p = session_pair_new(&c);
    assert_true(session_pair_until(p, quicraw_client_down, p, PAIR_S));
    quicraw_assert_down(p, ERR_UPSTREAM_PROTOCOL, "6b3343cf ff00001d");
    session_pair_free(p);
    /* Later than as the first answer nobody believes it. */
    p = quicraw_pair(true);
    uint8_t late[] = {0x80, 0, 0, 0, 0, 0, 0, 0x6b, 0x33, 0x43, 0xcf};
    session_in_datagram(client(p), &p->addr[PAIR_SERVER], 0, late, sizeof late, p->now);
    quicraw_exchange(p, 1000, PAIR_S);
    session_pair_free(p);
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
    struct session_pair_config c = quicraw_config(true);
    (void)state;
    retries = 0;
    c.accept = too_many_retries;
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    assert_int_equal(retries, 2);
    quicraw_exchange(p, 1000, PAIR_S);
    session_pair_free(p);
}

static void test_stateless_reset(void **state) {
    struct session_pair *p = quicraw_pair(true);
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
    assert_true(session_pair_until(p, quicraw_client_down, p, 10 * PAIR_S));
    quicraw_assert_down(p, ERR_UPSTREAM_CLOSED, "stateless reset");
    session_pair_free(p);
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
        struct session_pair_config c = quicraw_config(true);
        spoil = bad[i];
        c.make = make_spoilt;
        struct session_pair *p = session_pair_new(&c);
        assert_true(session_pair_until(p, quicraw_client_down, p, 20 * PAIR_S));
        quicraw_assert_down(p, ERR_UPSTREAM_PROTOCOL, "");
        session_pair_free(p);
    }
    struct session_pair_config c = quicraw_config(true);
    spoil = no_streams;
    c.make = make_spoilt;
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    assert_int_equal(quic_bidi_left(qraw_quic(client(p))), 0);
    assert_int_equal(quic_open_bidi(qraw_quic(client(p))), ERR_UPSTREAM_BUSY);
    session_pair_free(p);
}

static bool to_server_only(struct session_pair *p, struct session_out *o) {
    return addr_equal(&o->remote, &p->addr[PAIR_SERVER]);
}

static void test_preferred_address_is_ignored(void **state) {
    struct session_pair_config c = quicraw_config(true);
    struct session_out o;
    uint8_t *bytes = quicraw_pattern(MIB, 6);
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
        cmocka_unit_test(test_closed_by_application),
        cmocka_unit_test(test_closed_by_transport),
        cmocka_unit_test(test_close_is_repeated_a_little),
        cmocka_unit_test(test_other_versions),
        cmocka_unit_test(test_bad_retries_are_ignored),
        cmocka_unit_test(test_stateless_reset),
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_preferred_address_is_ignored),
    };
    return cmocka_run_group_tests_name("quic end", tests, NULL, cleanup);
}
