#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/quic_raw.h"
#include "lib/testca.h"
#include "session/quic_impl.h"

/* ---- the handshake ---- */

static void handshake(bool retry, uint64_t most) {
    struct session_info i;
    struct session_pair *p = quicraw_pair(retry);
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
    quicraw_exchange(p, 10000, PAIR_S);
    session_pair_free(p);
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
    struct session_pair_config c = quicraw_config(true);
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
    session_pair_free(p);
}

static void test_handshake_survives_loss(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 30; seed++) {
        struct session_pair_config c = quicraw_config(seed % 2);
        c.seed = seed;
        c.client.handshake_timeout = c.server.handshake_timeout = 60000;
        c.link[0].loss = c.link[1].loss = 100 + seed % 3 * 100;
        c.link[0].jitter = c.link[1].jitter = 8 * PAIR_MS;
        struct session_pair *p = h3_pair_new(&c);
        if (!p) fail_msg("seed %u: no handshake", seed);
        quicraw_exchange(p, 20000, 60 * PAIR_S);
        session_pair_free(p);
    }
}

static void test_handshake_times_out(void **state) {
    struct session_pair_config c = quicraw_config(true);
    (void)state;
    c.link[0].hold = true;
    struct session_pair *p = session_pair_new(&c);
    assert_true(session_pair_until(p, quicraw_client_down, p, 60 * PAIR_S));
    assert_int_equal(p->now, 11 * PAIR_S);
    quicraw_assert_down(p, ERR_UPSTREAM_TIMEOUT, "no answer for 10000 ms");
    assert_true(p->side[PAIR_CLIENT].sent >= 4 && p->side[PAIR_CLIENT].sent <= 12);
    assert_int_equal(session_deadline(client(p)), UINT64_MAX);
    session_pair_free(p);
}

static void test_handshake_times_out_half_way(void **state) {
    struct session_pair_config c = quicraw_config(true);
    (void)state;
    struct session_pair *p = session_pair_new(&c);
    session_pair_pass(p, 12 * PAIR_MS); /* the second Initial is under way; the answer to it is lost */
    p->config.link[1].hold = true;
    assert_true(session_pair_until(p, quicraw_client_down, p, 60 * PAIR_S));
    assert_int_equal(p->now, 11 * PAIR_S);
    quicraw_assert_down(p, ERR_UPSTREAM_TIMEOUT, "the handshake did not finish in 10000 ms");
    assert_int_equal(p->side[PAIR_SERVER].states[SESSION_UP], 0);
    session_pair_free(p);
}

static void test_key_update(void **state) {
    struct session_pair *p = quicraw_pair(true);
    (void)state;
    quicraw_exchange(p, 10000, 10 * PAIR_S);
    session_pair_pass(p, PAIR_S);
    assert_int_equal(ngtcp2_conn_initiate_key_update(qraw_quic(server(p))->conn, p->now), 0);
    quicraw_exchange(p, 100000, 10 * PAIR_S);
    session_pair_pass(p, PAIR_S);
    assert_int_equal(ngtcp2_conn_initiate_key_update(qraw_quic(client(p))->conn, p->now), 0);
    quicraw_exchange(p, 100000, 10 * PAIR_S);
    session_pair_free(p);
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
    struct session_pair_config c = quicraw_config(true);
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
    session_pair_free(p);
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
    struct session_pair *p = quicraw_pair(true);
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
    session_pair_free(p);
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
    struct session_pair_config c = quicraw_config(true);
    char why[CREDS_WHY_MAX];
    struct testca *ca = testca_new("Root");
    struct identity id = identity_new(ca, &(struct testca_spec){.names = {"test.example"}});
    (void)state;
    cc.trust_pem = id.trust;
    assert_int_equal(creds_new(&c.client.creds, &cc, why, sizeof why), 0);
    struct session_pair *p = session_pair_new(&c);
    gnutls_session_set_verify_function(qraw_quic(client(p))->tls, NULL);
    assert_true(session_pair_until(p, over, p, 20 * PAIR_S));
    quicraw_assert_down(p, ERR_UPSTREAM_CERTIFICATE, "");
    assert_int_equal(p->side[PAIR_CLIENT].states[SESSION_UP], 0);
    session_pair_free(p);
    creds_unref(c.client.creds);
    identity_free(&id);
    testca_free(ca);
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
        cmocka_unit_test(test_key_update),
        cmocka_unit_test(test_doorstep),
        cmocka_unit_test(test_doorstep_stateless_reset),
        cmocka_unit_test(test_datagram_dcid),
        cmocka_unit_test(test_ids_lead_to_the_session),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_verified_without_the_hook),
    };
    return cmocka_run_group_tests_name("quic", tests, NULL, cleanup);
}
