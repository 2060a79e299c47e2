/* Session tickets: used once, by whoever got them, and never in the place of a verification. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "lib/creds_attempt.h"
#include "lib/session_pair.h"
#include "lib/testca.h"
#include "lib/tls_pair.h"
#include "session/creds_tickets.h"

#define HOST "proxy.example"
#define NOW INT64_C(1800000000)
#define MAGIC 16

static const enum session_kind kinds[] = {SESSION_H2, SESSION_H3};
static const uint8_t identity[TICKETS_IDENTITY] = {1, 2, 3}, another[TICKETS_IDENTITY] = {1, 2, 4};

static struct world {
    struct testca *root, *other;
    char *root_pem, *other_pem, *cert, *key;
    struct creds *server;
} w;

static int world_up(void **state) {
    (void)state;
    w.root = testca_new("Test Root");
    w.other = testca_new("Other Root");
    w.root_pem = testca_pem(w.root);
    w.other_pem = testca_pem(w.other);
    testca_issue(w.root, &(struct testca_spec){.names = {HOST}}, &w.cert, &w.key);
    w.server = creds_must(
        &(struct creds_config){.server = true, .certificate_pem = w.cert, .key_pem = w.key, .tickets = true});
    return 0;
}

static int world_down(void **state) {
    (void)state;
    creds_unref(w.server);
    testca_free(w.root);
    testca_free(w.other);
    free(w.root_pem);
    free(w.other_pem);
    free(w.cert);
    free(w.key);
    return 0;
}

static struct creds_config config(void) { return (struct creds_config){.hostname = HOST, .trust_pem = w.root_pem}; }

static struct creds_attempt up(enum session_kind kind, struct creds *client, struct creds *server) {
    struct creds_attempt a = creds_attempt(kind, client, server);
    if (a.err) fail_msg("%s: %s", session_kind_word(kind), a.text);
    assert_true(a.server_up);
    return a;
}

static size_t exported(const struct creds *c, uint8_t **p) {
    size_t n;
    assert_int_equal(creds_export_tickets(c, p, &n), 0);
    return n;
}

static bool has_tickets(const struct creds *c) {
    uint8_t *p;
    size_t n = exported(c, &p);
    creds_ticket_free(p, n);
    return n > 0;
}

/* ---- the store ---- */

static void put(struct creds_tickets *t, bool quic, const char *text, int64_t life) {
    creds_tickets_put(t, quic, text, strlen(text), NOW + life, NOW);
}

static void taken(struct creds_tickets *t, bool quic, int64_t now, const char *text) {
    size_t n;
    uint8_t *p = creds_tickets_take(t, quic, now, &n);
    if (text) {
        assert_non_null(p);
        assert_int_equal(n, strlen(text));
        assert_memory_equal(p, text, n);
    } else {
        assert_null(p);
    }
    creds_ticket_free(p, n);
}

static void newest_first_and_once(void **state) {
    (void)state;
    struct creds_tickets *t = creds_tickets_new(identity);
    const char *const texts[] = {"a", "b", "c", "d", "e", "f"};
    taken(t, false, NOW, NULL);
    for (size_t i = 0; i < 6; i++) put(t, true, texts[i], 100);
    put(t, false, "tcp", 100);
    /* The oldest made room; each is given once; transports do not mix. */
    for (size_t i = 6; i-- > 2;) taken(t, true, NOW, texts[i]);
    taken(t, true, NOW, NULL);
    taken(t, false, NOW, "tcp");
    taken(t, false, NOW, NULL);
    put(t, true, "x", 100);
    put(t, false, "y", 100);
    creds_tickets_clear(t, true);
    taken(t, true, NOW, NULL);
    taken(t, false, NOW, "y");
    put(t, false, "left", 100);
    creds_tickets_free(t);
    creds_tickets_free(NULL);
}

static void lives_and_sizes(void **state) {
    (void)state;
    struct creds_tickets *t = creds_tickets_new(identity);
    put(t, false, "short", 10);
    taken(t, false, NOW + 10, NULL);
    put(t, false, "short", 10);
    taken(t, false, NOW + 9, "short");
    put(t, false, "long", 1000 * (int64_t)TICKET_LIFE);
    taken(t, false, NOW + TICKET_LIFE, NULL);
    creds_tickets_put(t, false, "max", 3, INT64_MAX, NOW);
    taken(t, false, NOW + TICKET_LIFE - 1, "max");
    put(t, false, "late", 0);
    put(t, false, "later", -5);
    taken(t, false, NOW, NULL);
    /* The clock went back. */
    put(t, false, "future", TICKET_LIFE);
    taken(t, false, NOW - 1, NULL);
    static uint8_t large[TICKET_BYTES_MAX + 1];
    creds_tickets_put(t, false, large, sizeof large, NOW + 10, NOW);
    creds_tickets_put(t, false, large, 0, NOW + 10, NOW);
    taken(t, false, NOW, NULL);
    creds_tickets_put(t, false, large, sizeof large - 1, NOW + 10, NOW);
    size_t n;
    uint8_t *p = creds_tickets_take(t, false, NOW, &n);
    assert_int_equal(n, TICKET_BYTES_MAX);
    creds_ticket_free(p, n);
    creds_tickets_free(t);
}

static void moves(void **state) {
    (void)state;
    struct creds_tickets *a = creds_tickets_new(identity), *b = creds_tickets_new(identity);
    struct creds_tickets *other = creds_tickets_new(another);
    put(a, false, "one", 100);
    put(a, true, "two", 100);
    creds_tickets_move(a, other);
    taken(other, false, NOW, NULL);
    taken(other, true, NOW, NULL);
    creds_tickets_move(a, b);
    taken(a, false, NOW, NULL);
    taken(a, true, NOW, NULL);
    put(a, false, "three", 100);
    creds_tickets_move(a, b);
    taken(b, false, NOW, "one");
    taken(b, false, NOW, NULL);
    taken(b, true, NOW, "two");
    taken(a, false, NOW, "three");
    creds_tickets_free(a);
    creds_tickets_free(b);
    creds_tickets_free(other);
}

/* ---- files ---- */

static uint8_t *some_bytes(size_t *n) {
    struct creds_tickets *t = creds_tickets_new(identity);
    uint8_t *p;
    put(t, false, "first", 100);
    put(t, false, "second", 50);
    put(t, true, "third", 100);
    assert_int_equal(creds_tickets_export(t, NOW, &p, n), 0);
    assert_non_null(p);
    creds_tickets_free(t);
    return p;
}

static int import_into(const uint8_t id[TICKETS_IDENTITY], const uint8_t *p, size_t n, int64_t now,
                       struct creds_tickets **out) {
    const char *why;
    *out = creds_tickets_new(id);
    int rv = creds_tickets_import(*out, p, n, now, &why);
    if (rv < 0) assert_non_null(why);
    return rv;
}

static void round_trip(void **state) {
    (void)state;
    size_t n;
    uint8_t *p = some_bytes(&n);
    struct creds_tickets *t;
    assert_int_equal(import_into(identity, p, n, NOW, &t), 0);
    taken(t, false, NOW, "second");
    taken(t, false, NOW, "first");
    taken(t, true, NOW, "third");
    taken(t, true, NOW, NULL);
    creds_tickets_free(t);
    /* Later, too late, and before they were made. */
    assert_int_equal(import_into(identity, p, n, NOW + 60, &t), 0);
    taken(t, false, NOW + 60, "first");
    taken(t, false, NOW + 60, NULL);
    creds_tickets_free(t);
    assert_int_equal(import_into(identity, p, n, NOW + 100, &t), 0);
    taken(t, false, NOW + 100, NULL);
    creds_tickets_free(t);
    assert_int_equal(import_into(identity, p, n, NOW - 2 * TICKET_LIFE, &t), 0);
    taken(t, false, NOW - 2 * TICKET_LIFE, NULL);
    creds_tickets_free(t);
    assert_int_equal(import_into(another, p, n, NOW, &t), ERR_CONFIG);
    taken(t, false, NOW, NULL);
    creds_tickets_free(t);
    creds_ticket_free(p, n);
    /* Nothing is worth no file. */
    t = creds_tickets_new(identity);
    assert_int_equal(creds_tickets_export(t, NOW, &p, &n), 0);
    assert_null(p);
    put(t, true, "old", 10);
    assert_int_equal(creds_tickets_export(t, NOW + 10, &p, &n), 0);
    assert_null(p);
    assert_int_equal(n, 0);
    creds_tickets_free(t);
}

static void damage(void **state) {
    (void)state;
    size_t n;
    uint8_t *p = some_bytes(&n);
    struct creds_tickets *t;
    for (size_t i = 0; i < n; i++) {
        p[i] ^= 0x10;
        assert_int_equal(import_into(identity, p, n, NOW, &t), ERR_CONFIG);
        taken(t, false, NOW, NULL);
        creds_tickets_free(t);
        p[i] ^= 0x10;
        assert_int_equal(import_into(identity, p, i, NOW, &t), ERR_CONFIG);
        taken(t, false, NOW, NULL);
        creds_tickets_free(t);
    }
    creds_ticket_free(p, n);
}

static void seal(uint8_t *p, size_t n) { assert_true(gnutls_hash_fast(GNUTLS_DIG_SHA256, p, n - 32, p + n - 32) >= 0); }

/* Sealed well, and wrong inside: all or nothing. */
static void wrong_entries(void **state) {
    (void)state;
    const size_t first = MAGIC + TICKETS_IDENTITY;
    static const uint8_t wrongs[][13] = {
        {2, 0, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x64, 0, 0, 0, 5},          /* no such transport */
        {0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5},                    /* no such time */
        {0, 0, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x64, 0, 0, 0, 0},           /* empty */
        {0, 0, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x64, 0, 0, 0, 6},           /* over the next one's head */
        {0, 0, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x64, 0xff, 0xff, 0xff, 0xff},
    };
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        size_t n;
        uint8_t *p = some_bytes(&n);
        struct creds_tickets *t;
        memcpy(p + first, wrongs[i], sizeof wrongs[i]);
        seal(p, n);
        assert_int_equal(import_into(identity, p, n, NOW, &t), ERR_CONFIG);
        taken(t, false, NOW, NULL);
        taken(t, true, NOW, NULL);
        creds_tickets_free(t);
        creds_ticket_free(p, n);
    }
}

/* ---- sessions ---- */

static void the_second_session_is_resumed(void **state) {
    (void)state;
    struct creds_config c = config();
    for (size_t i = 0; i < 2; i++) {
        struct creds *client = creds_must(&c);
        assert_false(up(kinds[i], client, w.server).resumed);
        for (int k = 0; k < 3; k++) {
            struct creds_attempt a = up(kinds[i], client, w.server);
            assert_true(a.resumed);
            assert_false(a.unverified);
        }
        /* The other transport has its own. */
        assert_false(up(kinds[!i], client, w.server).resumed);
        assert_true(up(kinds[!i], client, w.server).resumed);
        creds_unref(client);
    }
}

static void without_tickets(void **state) {
    (void)state;
    struct creds_config c = config();
    struct creds *client = creds_must(&c);
    struct creds *server =
        creds_must(&(struct creds_config){.server = true, .certificate_pem = w.cert, .key_pem = w.key});
    for (size_t i = 0; i < 4; i++) assert_false(up(kinds[i % 2], client, server).resumed);
    assert_false(has_tickets(client));
    creds_unref(client);
    creds_unref(server);
}

/* A server that does not know the ticket any more makes a full handshake, which is judged like any other. */
static void a_ticket_that_is_declined(void **state) {
    (void)state;
    struct creds_config c = config(), s = {.server = true, .certificate_pem = w.cert, .key_pem = w.key, .tickets = true};
    char *cert, *key;
    for (size_t i = 0; i < 2; i++) {
        struct creds *client = creds_must(&c), *restarted = creds_must(&s);
        up(kinds[i], client, w.server);
        assert_false(up(kinds[i], client, restarted).resumed);
        assert_true(up(kinds[i], client, restarted).resumed);
        testca_issue(w.other, &(struct testca_spec){.names = {HOST}}, &cert, &key);
        struct creds *impostor = creds_must(
            &(struct creds_config){.server = true, .certificate_pem = cert, .key_pem = key, .tickets = true});
        assert_true(has_tickets(client));
        struct creds_attempt a = creds_attempt(kinds[i], client, impostor);
        assert_int_equal(a.err, ERR_UPSTREAM_CERTIFICATE);
        assert_non_null(strstr(a.text, "issuer"));
        /* It came to nothing: no other one is tried. */
        assert_false(has_tickets(client));
        creds_unref(client);
        creds_unref(restarted);
        creds_unref(impostor);
        free(cert);
        free(key);
    }
}

/* The verdict of a resumed session is not remembered, it is found again. */
static void unverified_stays_unverified(void **state) {
    (void)state;
    struct creds_config c = config();
    c.trust_pem = w.other_pem;
    c.skip_verification = true;
    for (size_t i = 0; i < 2; i++) {
        struct creds *client = creds_must(&c);
        assert_true(up(kinds[i], client, w.server).unverified);
        struct creds_attempt a = up(kinds[i], client, w.server);
        assert_true(a.resumed);
        assert_true(a.unverified);
        creds_unref(client);
    }
}

/* Even tickets that are forced upon other credentials do not spare their verification: `from` got them of w.server, `to`
 * is made to believe that they are its own. good: a server that `to` accepts. */
static struct creds_attempt forced(enum session_kind kind, const struct creds_config *from,
                                   const struct creds_config *to, struct creds *good) {
    struct creds *a = creds_must(from), *b = creds_must(to), *c = creds_must(to);
    uint8_t *theirs, *own;
    const char *why;
    up(kind, a, w.server);
    size_t n = exported(a, &theirs);
    assert_true(n > 0);
    assert_int_equal(creds_import_tickets(b, theirs, n, &why), ERR_CONFIG);
    assert_non_null(strstr(why, "of another endpoint, or its verification"));
    /* Its identity, from a file of its own. */
    up(kind, c, good);
    size_t own_n = exported(c, &own);
    assert_true(own_n > 0);
    memcpy(theirs + MAGIC, own + MAGIC, TICKETS_IDENTITY);
    seal(theirs, n);
    assert_int_equal(creds_import_tickets(b, theirs, n, &why), 0);
    creds_ticket_free(own, own_n);
    creds_ticket_free(theirs, n);
    struct creds_attempt result = creds_attempt(kind, b, w.server);
    if (result.err) assert_false(has_tickets(b));
    creds_unref(a);
    creds_unref(b);
    creds_unref(c);
    return result;
}

static void other_settings_do_not_share(void **state) {
    (void)state;
    static const struct creds_pin pin = {false, {1}};
    char *cert, *key;
    testca_issue(w.root, &(struct testca_spec){.cn = "client", .for_clients = true}, &cert, &key);
    char *both = testca_join(w.root_pem, w.other_pem, NULL);
    struct creds_config base = config(), others[7];
    for (size_t i = 0; i < 7; i++) others[i] = base;
    others[0].hostname = "127.0.0.1";
    others[1].sni = "front.example";
    others[2].trust_pem = both;
    others[3].skip_verification = true;
    others[4].pins = &pin;
    others[4].n_pins = 1;
    others[5].certificate_pem = cert;
    others[5].key_pem = key;
    others[6].trust_pem = NULL;
    struct creds *first = creds_must(&base), *same = creds_must(&base);
    up(SESSION_H2, first, w.server);
    up(SESSION_H3, first, w.server);
    uint8_t *p;
    size_t n = exported(first, &p);
    const char *why;
    for (size_t i = 0; i < 7; i++) {
        struct creds *c = creds_must(&others[i]);
        assert_int_equal(creds_import_tickets(c, p, n, &why), ERR_CONFIG);
        assert_false(has_tickets(c));
        creds_unref(c);
    }
    /* A later run with the same settings. */
    assert_int_equal(creds_import_tickets(same, p, n, &why), 0);
    for (size_t i = 0; i < 2; i++) assert_true(up(kinds[i], same, w.server).resumed);
    creds_ticket_free(p, n);
    creds_unref(first);
    creds_unref(same);
    free(cert);
    free(key);
    free(both);
}

static void pin_of(const char *pem, struct creds_pin *pin) {
    gnutls_datum_t text = {(unsigned char *)pem, (unsigned)strlen(pem)}, der;
    assert_true(gnutls_pem_base64_decode2("CERTIFICATE", &text, &der) >= 0);
    assert_true(gnutls_hash_fast(GNUTLS_DIG_SHA256, der.data, der.size, pin->sha256) >= 0);
    pin->certificate = true;
    gnutls_free(der.data);
}

static void a_forced_ticket_is_judged(void **state) {
    (void)state;
    struct creds_config from = config(), skip = config(), stranger = config(), pinned = config();
    struct creds_pin right;
    char *cert, *key;
    testca_issue(w.other, &(struct testca_spec){.names = {HOST}}, &cert, &key);
    struct creds *other = creds_must(
        &(struct creds_config){.server = true, .certificate_pem = cert, .key_pem = key, .tickets = true});
    pin_of(cert, &right);
    skip.skip_verification = true;
    stranger.trust_pem = skip.trust_pem = w.other_pem;
    pinned.skip_verification = true;
    pinned.pins = &right;
    pinned.n_pins = 1;
    for (size_t i = 0; i < 2; i++) {
        struct creds_attempt a = forced(kinds[i], &from, &skip, w.server);
        assert_int_equal(a.err, ERR_OK);
        assert_true(a.resumed);
        assert_true(a.unverified);
        a = forced(kinds[i], &from, &stranger, other);
        assert_int_equal(a.err, ERR_UPSTREAM_CERTIFICATE);
        assert_non_null(strstr(a.text, "issuer"));
        a = forced(kinds[i], &from, &pinned, other);
        assert_int_equal(a.err, ERR_UPSTREAM_CERTIFICATE);
        assert_non_null(strstr(a.text, "pin mismatch"));
    }
    creds_unref(other);
    free(cert);
    free(key);
}

static time_t later(time_t *t) {
    time_t now = time(NULL) + 90 * TESTCA_DAY;
    if (t) *t = now;
    return now;
}

static time_t today(time_t *t) { return time(t); }

/* The certificate expires before the ticket is used, as the library sees it. */
static void an_expired_certificate_is_not_resumed(void **state) {
    (void)state;
    struct creds_config c = config();
    for (size_t i = 0; i < 2; i++) {
        struct creds *client = creds_must(&c);
        up(kinds[i], client, w.server);
        gnutls_global_set_time_function(later);
        struct creds_attempt a = creds_attempt(kinds[i], client, w.server);
        gnutls_global_set_time_function(today);
        assert_int_equal(a.err, ERR_UPSTREAM_CERTIFICATE);
        assert_non_null(strstr(a.text, "expired"));
        creds_unref(client);
    }
}

/* Nor is a ticket kept longer than the certificates are good. */
static void a_ticket_ends_with_the_certificate(void **state) {
    (void)state;
    char *cert, *key;
    uint8_t *p;
    struct creds_config c = config();
    testca_issue(w.root, &(struct testca_spec){.names = {HOST}, .from = -100, .until = 3600}, &cert, &key);
    struct creds *client = creds_must(&c);
    struct creds *server = creds_must(
        &(struct creds_config){.server = true, .certificate_pem = cert, .key_pem = key, .tickets = true});
    up(SESSION_H2, client, server);
    size_t n = exported(client, &p);
    assert_true(n > MAGIC + TICKETS_IDENTITY + 9);
    uint64_t until = 0;
    for (size_t i = 0; i < 8; i++) until = until << 8 | p[MAGIC + TICKETS_IDENTITY + 1 + i];
    assert_in_range(until, (uint64_t)time(NULL) + 3000, (uint64_t)time(NULL) + 3601);
    creds_ticket_free(p, n);
    creds_unref(client);
    creds_unref(server);
    free(cert);
    free(key);
}

static void with_client_certificates(void **state) {
    (void)state;
    char *cert, *key;
    testca_issue(w.root, &(struct testca_spec){.cn = "client", .for_clients = true}, &cert, &key);
    struct creds_config c = config();
    c.certificate_pem = cert;
    c.key_pem = key;
    struct creds *server = creds_must(&(struct creds_config){
        .server = true, .certificate_pem = w.cert, .key_pem = w.key, .trust_pem = w.root_pem, .tickets = true});
    for (size_t i = 0; i < 2; i++) {
        struct creds *client = creds_must(&c);
        assert_false(up(kinds[i], client, server).resumed);
        assert_true(up(kinds[i], client, server).resumed);
        creds_unref(client);
    }
    creds_unref(server);
    free(cert);
    free(key);
}

/* ---- what is sent ---- */

/* Is there an extension of that type in the ClientHello? */
static bool hello_has(const uint8_t *p, size_t n, unsigned type) {
    size_t at = 5 + 4 + 2 + 32;
    assert_true(at < n);
    at += 1 + (size_t)p[at];                      /* session id */
    at += 2 + (size_t)(p[at] << 8 | p[at + 1]);   /* cipher suites */
    at += 1 + (size_t)p[at];                      /* compression */
    size_t end = at + 2 + (size_t)(p[at] << 8 | p[at + 1]);
    assert_true(end <= n);
    for (at += 2; at + 4 <= end; at += 4 + (size_t)(p[at + 2] << 8 | p[at + 3]))
        if ((unsigned)(p[at] << 8 | p[at + 1]) == type) return true;
    return false;
}

#define PRE_SHARED_KEY 41
#define EARLY_DATA 42

static void no_early_data(void **state) {
    (void)state;
    struct creds_config c = config();
    struct creds *client = creds_must(&c);
    for (int i = 0; i < 3; i++) {
        struct tls_pair p;
        tls_pair_init(&p, client, w.server, false, false);
        assert_int_equal(tls_pair_shake(&p), TLS_DONE);
        assert_int_equal(tls_verdict(p.client)->resumed, i > 0);
        assert_int_equal(hello_has(p.hello, p.hello_len, PRE_SHARED_KEY), i > 0);
        assert_false(hello_has(p.hello, p.hello_len, EARLY_DATA));
        tls_pair_free(&p);
    }
    creds_unref(client);
}

/* Those of TLS 1.2 are not kept. */
static void only_of_tls_1_3(void **state) {
    (void)state;
    struct creds_config c = config();
    struct creds *client = creds_must(&c);
    for (int i = 0; i < 2; i++) {
        struct tls_pair p;
        tls_pair_init(&p, client, w.server, false, false);
        assert_int_equal(
            gnutls_priority_set_direct(tls_session(p.server), "NORMAL:-VERS-ALL:+VERS-TLS1.2", NULL), 0);
        assert_int_equal(tls_pair_shake(&p), TLS_DONE);
        assert_false(tls_verdict(p.client)->resumed);
        assert_false(has_tickets(client));
        tls_pair_free(&p);
    }
    creds_unref(client);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(newest_first_and_once),
        cmocka_unit_test(lives_and_sizes),
        cmocka_unit_test(moves),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(damage),
        cmocka_unit_test(wrong_entries),
        cmocka_unit_test(the_second_session_is_resumed),
        cmocka_unit_test(without_tickets),
        cmocka_unit_test(a_ticket_that_is_declined),
        cmocka_unit_test(unverified_stays_unverified),
        cmocka_unit_test(other_settings_do_not_share),
        cmocka_unit_test(a_forced_ticket_is_judged),
        cmocka_unit_test(an_expired_certificate_is_not_resumed),
        cmocka_unit_test(a_ticket_ends_with_the_certificate),
        cmocka_unit_test(with_client_certificates),
        cmocka_unit_test(no_early_data),
        cmocka_unit_test(only_of_tls_1_3),
    };
    int r = cmocka_run_group_tests_name("tickets", tests, world_up, world_down);
    session_pair_cleanup();
    return r;
}
