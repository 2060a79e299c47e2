#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "lib/session_pair.h"
#include "lib/tls_pair.h"

static void pair_init(struct tls_pair *p) {
    tls_pair_init(p, session_pair_client_creds(), session_pair_server_creds(), false, false);
}

static void pair_up(struct tls_pair *p) {
    pair_init(p);
    if (tls_pair_shake(p) != TLS_DONE) fail_msg("%s", tls_error_text(p->client));
    assert_int_equal(p->server_rv, TLS_DONE);
}

static void input(struct tls *t, const void *p, size_t n) { tls_input(t, p, n); }

/* The client's result for these bytes instead of a server's. */
static int answer(struct tls_pair *p, const void *data, size_t n) {
    pair_init(p);
    assert_int_equal(tls_handshake(p->client), TLS_WAIT);
    input(p->client, data, n);
    return tls_handshake(p->client);
}

static void says(const struct tls *t, const char *part) {
    if (!strstr(tls_error_text(t), part)) fail_msg("\"%s\" does not say \"%s\"", tls_error_text(t), part);
}

/* ---- the handshake ---- */

static void handshake(void **state) {
    (void)state;
    struct tls_pair p;
    char text[64];
    pair_init(&p);
    tls_describe(tls_session(p.client), text, sizeof text);
    assert_string_equal(text, "");
    assert_string_equal(tls_alpn(p.client), "");
    assert_int_equal(tls_pair_shake(&p), TLS_DONE);
    assert_string_equal(tls_alpn(p.client), "h2");
    assert_string_equal(tls_alpn(p.server), "h2");
    tls_describe(tls_session(p.client), text, sizeof text);
    assert_string_equal(text, "TLS1.3 ECDHE-X25519 AES-128-GCM");
    assert_true(tls_verdict(p.client)->judged);
    assert_false(tls_verdict(p.server)->judged);
    tls_pair_free(&p);
}

static void handshake_in_single_bytes(void **state) {
    (void)state;
    struct tls_pair p;
    pair_init(&p);
    p.piece = 1;
    assert_int_equal(tls_pair_shake(&p), TLS_DONE);
    assert_int_equal(tls_write(p.client, "hello", 5), 0);
    assert_int_equal(tls_write(p.server, "there", 5), 0);
    tls_pair_pump(&p);
    assert_int_equal(p.heard.len, 5);
    assert_memory_equal(p.heard.p, "hello", 5);
    assert_memory_equal(p.read.p, "there", 5);
    tls_pair_free(&p);
}

/* Deployed endpoints drop a TCP connection that offers h3. */
static void only_h2_is_offered(void **state) {
    (void)state;
    static const uint8_t alpn[] = {0, 16, 0, 5, 0, 3, 2, 'h', '2'};
    struct tls_pair p;
    pair_up(&p);
    assert_non_null(memmem(p.hello, p.hello_len, alpn, sizeof alpn));
    assert_null(memmem(p.hello, p.hello_len, "h3", 2));
    tls_pair_free(&p);
}

static void another_alpn_is_refused(void **state) {
    (void)state;
    static unsigned char http1[] = "http/1.1";
    const gnutls_datum_t d = {http1, 8};
    struct tls_pair p;
    pair_init(&p);
    assert_int_equal(gnutls_alpn_set_protocols(tls_session(p.server), &d, 1, GNUTLS_ALPN_MANDATORY), 0);
    assert_int_equal(tls_pair_shake(&p), ERR_UPSTREAM_ALPN);
    says(p.client, "alert 120");
    assert_int_equal(p.server_rv, ERR_UPSTREAM_ALPN);
    tls_pair_free(&p);
}

static void absent_alpn(void **state) {
    (void)state;
    struct tls_pair p;
    tls_pair_init(&p, session_pair_client_creds(), session_pair_server_creds(), false, true);
    assert_int_equal(tls_pair_shake(&p), ERR_UPSTREAM_ALPN);
    says(p.client, "negotiated no application protocol");
    assert_true(p.server_rv < 0);
    tls_pair_free(&p);
    tls_pair_init(&p, session_pair_client_creds(), session_pair_server_creds(), true, true);
    assert_int_equal(tls_pair_shake(&p), TLS_DONE);
    assert_string_equal(tls_alpn(p.client), "");
    tls_pair_free(&p);
    /* Where it may be absent, h2 is still taken, and another one still refused. */
    tls_pair_init(&p, session_pair_client_creds(), session_pair_server_creds(), true, false);
    assert_int_equal(tls_pair_shake(&p), TLS_DONE);
    assert_string_equal(tls_alpn(p.client), "h2");
    tls_pair_free(&p);
    static unsigned char http1[] = "http/1.1";
    const gnutls_datum_t d = {http1, 8};
    tls_pair_init(&p, session_pair_client_creds(), session_pair_server_creds(), true, false);
    assert_int_equal(gnutls_alpn_set_protocols(tls_session(p.client), &d, 1, 0), 0);
    assert_int_equal(gnutls_alpn_set_protocols(tls_session(p.server), &d, 1, 0), 0);
    assert_int_equal(tls_pair_shake(&p), ERR_UPSTREAM_ALPN);
    says(p.client, "chose the protocol http/1.1");
    tls_pair_free(&p);
}

/* ---- peers that speak something else, or stop speaking ---- */

static void other_protocols(void **state) {
    (void)state;
    static const char *const words[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2p1\r\n",
        "\x00\x00\x12\x04\x00\x00\x00\x00\x00 and the rest of some frame",
    };
    const size_t lens[] = {28, 23, 40};
    for (size_t i = 0; i < 3; i++) {
        struct tls_pair p;
        assert_int_equal(answer(&p, words[i], lens[i]), ERR_UPSTREAM_TLS);
        says(p.client, "does not speak TLS");
        assert_int_equal(tls_handshake(p.client), ERR_UPSTREAM_TLS);
        tls_pair_free(&p);
    }
}

static void alerts(void **state) {
    (void)state;
    struct tls_pair p;
    assert_int_equal(answer(&p, "\x15\x03\x03\x00\x02\x02\x28", 7), ERR_UPSTREAM_TLS);
    says(p.client, "the TLS alert 40: Handshake failed");
    tls_pair_free(&p);
    assert_int_equal(answer(&p, "\x15\x03\x03\x00\x02\x02\x70", 7), ERR_UPSTREAM_TLS);
    says(p.client, "the TLS alert 112");
    tls_pair_free(&p);
    assert_int_equal(answer(&p, "\x15\x03\x03\x00\x02\x02\x78", 7), ERR_UPSTREAM_ALPN);
    tls_pair_free(&p);
    /* A warning is none, but not without end. */
    uint8_t warnings[7 * 64];
    for (int i = 0; i < 64; i++) memcpy(warnings + 7 * i, "\x15\x03\x03\x00\x02\x01\x70", 7);
    assert_int_equal(answer(&p, warnings, sizeof warnings), ERR_UPSTREAM_TLS);
    tls_pair_free(&p);
}

static void eof_in_the_handshake(void **state) {
    (void)state;
    struct tls_pair p;
    assert_int_equal(answer(&p, NULL, 0), ERR_UPSTREAM_TLS);
    says(p.client, "without a word");
    tls_pair_free(&p);
    /* Half of the server's flight. */
    pair_init(&p);
    assert_int_equal(tls_handshake(p.client), TLS_WAIT);
    tls_input(p.server, p.to_server.p, p.to_server.len);
    assert_int_equal(tls_handshake(p.server), TLS_WAIT);
    assert_true(p.to_client.len > 200);
    tls_input(p.client, p.to_client.p, 150);
    assert_int_equal(tls_handshake(p.client), TLS_WAIT);
    tls_input(p.client, NULL, 0);
    assert_int_equal(tls_handshake(p.client), ERR_UPSTREAM_TLS);
    says(p.client, "ended the connection during the TLS handshake");
    tls_pair_free(&p);
}

static void refused_certificate_is_told(void **state) {
    (void)state;
    struct creds_config c = {.hostname = "else.example"};
    struct creds *creds;
    char why[CREDS_WHY_MAX];
    struct tls_pair p;
    assert_int_equal(creds_new(&creds, &c, why, sizeof why), 0);
    tls_pair_init(&p, creds, session_pair_server_creds(), false, false);
    assert_int_equal(tls_pair_shake(&p), ERR_UPSTREAM_CERTIFICATE);
    says(p.client, "name mismatch: certificate is for test.example, 127.0.0.1, ::1, not for else.example");
    assert_int_equal(p.server_rv, ERR_UPSTREAM_TLS);
    says(p.server, "alert 42");
    tls_pair_free(&p);
    creds_unref(creds);
}

/* ---- records ---- */

static void bytes_both_ways(void **state) {
    (void)state;
    enum { N = 3 << 20 };
    uint8_t *bytes = malloc(N);
    struct tls_pair p;
    assert_non_null(bytes);
    for (size_t i = 0; i < N; i++) bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    pair_up(&p);
    p.piece = 7919;
    for (size_t at = 0, n = 1; at < N; at += n, n = n * 5 % 60013 + 1) {
        if (n > N - at) n = N - at;
        assert_int_equal(tls_write(p.client, bytes + at, n), 0);
        assert_int_equal(tls_write(p.server, bytes + at, n), 0);
        if (at % 3 == 0) tls_pair_pump(&p);
    }
    tls_pair_pump(&p);
    assert_int_equal(p.heard.len, N);
    assert_int_equal(p.read.len, N);
    assert_memory_equal(p.heard.p + p.heard.off, bytes, N);
    assert_memory_equal(p.read.p + p.read.off, bytes, N);
    tls_pair_free(&p);
    free(bytes);
}

static void one_record_for_16_kib(void **state) {
    (void)state;
    static uint8_t bytes[TLS_RECORD];
    struct tls_pair p;
    pair_up(&p);
    assert_int_equal(p.to_server.len, 0);
    assert_int_equal(tls_write(p.client, bytes, sizeof bytes), 0);
    const uint8_t *r = p.to_server.p + p.to_server.off;
    assert_int_equal(r[0], 23);
    assert_int_equal(p.to_server.len, 5 + (size_t)(r[3] << 8 | r[4]));
    assert_int_equal(tls_write(p.client, bytes, 0), 0);
    tls_pair_pump(&p);
    assert_int_equal(p.heard.len, sizeof bytes);
    tls_pair_free(&p);
}

static void key_update(void **state) {
    (void)state;
    struct tls_pair p;
    pair_up(&p);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(gnutls_session_key_update(tls_session(p.server), i % 2 ? GNUTLS_KU_PEER : 0), 0);
        assert_int_equal(tls_write(p.server, "down", 4), 0);
        assert_int_equal(tls_write(p.client, "up", 2), 0);
        tls_pair_pump(&p);
    }
    assert_int_equal(p.client_rv, TLS_DONE);
    assert_int_equal(p.server_rv, TLS_DONE);
    assert_int_equal(p.read.len, 24);
    assert_int_equal(p.heard.len, 12);
    tls_pair_free(&p);
}

static void key_update_flood(void **state) {
    (void)state;
    struct tls_pair p;
    pair_up(&p);
    for (int i = 0; i < 1000; i++) assert_int_equal(gnutls_session_key_update(tls_session(p.server), 0), 0);
    tls_pair_pump(&p);
    assert_int_equal(p.client_rv, ERR_UPSTREAM_TLS);
    tls_pair_free(&p);
}

static void renegotiation_is_refused(void **state) {
    (void)state;
    struct tls_pair p;
    pair_init(&p);
    assert_int_equal(
        gnutls_priority_set_direct(tls_session(p.server), "NORMAL:-VERS-ALL:+VERS-TLS1.2", NULL), 0);
    assert_int_equal(tls_pair_shake(&p), TLS_DONE);
    gnutls_rehandshake(tls_session(p.server));
    tls_pair_pump(&p);
    assert_int_equal(p.client_rv, ERR_UPSTREAM_PROTOCOL);
    says(p.client, "renegotiation");
    tls_pair_free(&p);
}

/* A server that wants a client certificate can only say so after the handshake. */
static void late_alert(void **state) {
    (void)state;
    struct tls_pair p;
    pair_up(&p);
    assert_int_equal(gnutls_alert_send(tls_session(p.server), GNUTLS_AL_FATAL, GNUTLS_A_CERTIFICATE_REQUIRED), 0);
    tls_pair_pump(&p);
    assert_int_equal(p.client_rv, ERR_UPSTREAM_TLS);
    says(p.client, "the TLS alert 116: Certificate is required");
    assert_int_equal(tls_write(p.client, "x", 1), ERR_UPSTREAM_TLS);
    tls_pair_free(&p);
}

static void broken_record(void **state) {
    (void)state;
    struct tls_pair p;
    pair_up(&p);
    assert_int_equal(tls_write(p.server, "some bytes", 10), 0);
    p.to_client.p[p.to_client.off + 9] ^= 1;
    tls_pair_pump(&p);
    assert_int_equal(p.client_rv, ERR_UPSTREAM_TLS);
    assert_int_equal(p.read.len, 0);
    assert_true(p.server_rv < 0); /* it was told */
    tls_pair_free(&p);
}

static void over_long_record(void **state) {
    (void)state;
    struct tls_pair p;
    static uint8_t record[5 + 65535] = {23, 3, 3, 0xff, 0xff};
    pair_up(&p);
    assert_true(outq_add(&p.to_client, record, sizeof record));
    tls_pair_pump(&p);
    assert_int_equal(p.client_rv, ERR_UPSTREAM_TLS);
    tls_pair_free(&p);
}

/* ---- ends ---- */

static void eof(void **state) {
    (void)state;
    const uint8_t *data;
    size_t n;
    struct tls_pair p;
    /* With close_notify, the bytes before it first. */
    pair_up(&p);
    assert_int_equal(tls_write(p.server, "last", 4), 0);
    tls_bye(p.server);
    tls_pair_pump(&p);
    assert_int_equal(p.client_rv, TLS_EOF);
    assert_int_equal(p.read.len, 4);
    assert_int_equal(tls_read(p.client, &data, &n), TLS_EOF);
    /* Our direction goes on. */
    assert_int_equal(tls_write(p.client, "more", 4), 0);
    tls_pair_pump(&p);
    assert_int_equal(p.heard.len, 4);
    tls_bye(p.client);
    tls_pair_pump(&p);
    assert_int_equal(p.server_rv, TLS_EOF);
    tls_pair_free(&p);
    /* Without. */
    pair_up(&p);
    tls_input(p.client, NULL, 0);
    assert_int_equal(tls_read(p.client, &data, &n), TLS_EOF);
    tls_pair_free(&p);
    /* In the middle of a record. */
    pair_up(&p);
    assert_int_equal(tls_write(p.server, "some bytes", 10), 0);
    tls_input(p.client, p.to_client.p + p.to_client.off, 12);
    assert_int_equal(tls_read(p.client, &data, &n), TLS_WAIT);
    tls_input(p.client, NULL, 0);
    assert_int_equal(tls_read(p.client, &data, &n), TLS_EOF);
    tls_pair_free(&p);
}

static void outq(void **state) {
    (void)state;
    struct outq q = {0};
    uint8_t in[5000], next = 0, expect = 0;
    for (unsigned i = 0; i < 2000; i++) {
        size_t n = i * 37 % sizeof in;
        for (size_t k = 0; k < n; k++) in[k] = next++;
        if (q.len < 50000) {
            assert_true(outq_add(&q, in, n));
        } else {
            next = (uint8_t)(next - n);
        }
        size_t take = i * 53 % 4000;
        if (take > q.len) take = q.len;
        for (size_t k = 0; k < take; k++) assert_int_equal(q.p[q.off + k], expect++);
        outq_take(&q, take);
    }
    assert_true(q.cap <= 131072);
    outq_take(&q, q.len);
    assert_int_equal(q.off, 0);
    outq_free(&q);
    assert_null(q.p);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake),
        cmocka_unit_test(handshake_in_single_bytes),
        cmocka_unit_test(only_h2_is_offered),
        cmocka_unit_test(another_alpn_is_refused),
        cmocka_unit_test(absent_alpn),
        cmocka_unit_test(other_protocols),
        cmocka_unit_test(alerts),
        cmocka_unit_test(eof_in_the_handshake),
        cmocka_unit_test(refused_certificate_is_told),
        cmocka_unit_test(bytes_both_ways),
        cmocka_unit_test(one_record_for_16_kib),
        cmocka_unit_test(key_update),
        cmocka_unit_test(key_update_flood),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(late_alert),
        cmocka_unit_test(broken_record),
        cmocka_unit_test(over_long_record),
        cmocka_unit_test(eof),
        cmocka_unit_test(outq),
    };
    int r = cmocka_run_group_tests_name("tls", tests, NULL, NULL);
    session_pair_cleanup();
    return r;
}
