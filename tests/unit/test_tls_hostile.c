/* Peers that are not who they must be, on both transports with the same words. The cases are numbered:
 *   F1 names, dates, issuers, algorithms, constraints   F2 pins   F3 another name in the clear   F4 no verification
 *   F5 old protocols (of TCP: test_creds; QUIC has TLS 1.3 only)   F6 session tickets (test_tickets)
 *   F7 no store of certificates   F8 a wrong clock   F9 client keys that do not fit */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/creds_attempt.h"
#include "lib/session_pair.h"
#include "lib/testca.h"

#define HOST "proxy.example"

static const enum session_kind kinds[] = {SESSION_H2, SESSION_H3};

/* ---- a world ---- */

static struct world {
    struct testca *root, *sub, *other;
    char *root_pem, *sub_pem, *other_pem;
} w;

static int world_up(void **state) {
    (void)state;
    w.root = testca_new("Test Root");
    w.sub = testca_new_under(w.root, &(struct testca_spec){.cn = "Test Issuer"});
    w.other = testca_new("Other Root");
    w.root_pem = testca_pem(w.root);
    w.sub_pem = testca_pem(w.sub);
    w.other_pem = testca_pem(w.other);
    return 0;
}

static int world_down(void **state) {
    (void)state;
    testca_free(w.root);
    testca_free(w.sub);
    testca_free(w.other);
    free(w.root_pem);
    free(w.sub_pem);
    free(w.other_pem);
    return 0;
}

/* What a server shows: a chain, the key of its first certificate, and what its issuer says about that. */
struct shown {
    char *chain, *key;
    unsigned char *staple;
    size_t staple_len;
};

static struct shown show(struct testca *issuer, const struct testca_spec *spec, const char *more) {
    struct shown s = {0};
    char *leaf;
    testca_issue(issuer, spec, &leaf, &s.key);
    s.chain = testca_join(leaf, more, NULL);
    free(leaf);
    return s;
}

static void shown_free(struct shown *s) {
    free(s->chain);
    free(s->key);
    free(s->staple);
}

static struct creds_attempt try(enum session_kind kind, const struct creds_config *client, const struct shown *s) {
    struct creds *c = creds_must(client);
    struct creds *server = creds_must(&(struct creds_config){.server = true,
                                                            .certificate_pem = s->chain,
                                                            .key_pem = s->key,
                                                            .staple = s->staple,
                                                            .staple_len = s->staple_len});
    struct creds_attempt a = creds_attempt(kind, c, server);
    creds_unref(c);
    creds_unref(server);
    return a;
}

static void accepted(const struct creds_config *client, const struct shown *s) {
    for (size_t i = 0; i < 2; i++) {
        struct creds_attempt a = try(kinds[i], client, s);
        if (a.err) fail_msg("%s: refused: %s", session_kind_word(kinds[i]), a.text);
        assert_false(a.unverified);
        assert_true(a.server_up);
    }
}

static void refused(const struct creds_config *client, const struct shown *s, const char *part) {
    char first[256] = "";
    for (size_t i = 0; i < 2; i++) {
        struct creds_attempt a = try(kinds[i], client, s);
        if (a.err != ERR_UPSTREAM_CERTIFICATE)
            fail_msg("%s: not refused for \"%s\": %s %s", session_kind_word(kinds[i]), part, err_word(a.err), a.text);
        if (!strstr(a.text, part)) fail_msg("%s: \"%s\" does not say \"%s\"", session_kind_word(kinds[i]), a.text, part);
        assert_false(a.server_up);
        if (i) assert_string_equal(a.text, first);
        strcpy(first, a.text);
    }
}

static void refused_once(const struct creds_config *client, struct testca *issuer, const struct testca_spec *spec,
                         const char *more, const char *part) {
    struct shown s = show(issuer, spec, more);
    refused(client, &s, part);
    shown_free(&s);
}

static struct creds_config client_of(const char *trust) {
    return (struct creds_config){.hostname = HOST, .trust_pem = trust};
}

/* ---- F1 ---- */

static void f1_names(void **state) {
    (void)state;
    struct creds_config c = client_of(w.root_pem);
    refused_once(&c, w.root, &(struct testca_spec){.names = {"else.example", "b.example"}}, "",
                 "name mismatch: certificate is for else.example, b.example, not for " HOST);
    refused_once(&c, w.root, &(struct testca_spec){.cn = HOST}, "",
                 "name mismatch: certificate carries no name (a common name does not count)");
    refused_once(&c, w.root, &(struct testca_spec){.cn = HOST, .ips = {"192.0.2.1"}}, "", "is for 192.0.2.1, not for");
    c.hostname = "a.b.wild.example";
    refused_once(&c, w.root, &(struct testca_spec){.names = {"*.wild.example"}}, "", "is for *.wild.example, not for");
    c.hostname = "127.0.0.1";
    refused_once(&c, w.root, &(struct testca_spec){.names = {"127.0.0.1"}}, "", "name mismatch");
}

static void f1_issuers(void **state) {
    (void)state;
    struct creds_config c = client_of(w.root_pem);
    struct testca_spec good = {.names = {HOST}};
    refused_once(&c, NULL, &good, "", "self-signed: the certificate of CN=leaf was issued by itself");
    refused_once(&c, w.other, &good, w.other_pem,
                 "unknown issuer: the chain of 2 certificates ends at CN=Other Root, which is not among the configured");
    refused_once(&c, w.sub, &good, "",
                 "chain incomplete: the endpoint sent 1 certificate, the issuer CN=Test Issuer is neither among them");
    struct creds_config stranger = client_of(w.other_pem);
    refused_once(&stranger, w.sub, &good, w.sub_pem, "chain incomplete: the endpoint sent 2 certificates, the issuer "
                                                     "CN=Test Root is neither");
    struct creds_config system = client_of(NULL);
    refused_once(&system, w.root, &good, w.root_pem, "is not among the system's trusted certificates");
    struct shown s = show(w.sub, &good, w.sub_pem);
    accepted(&c, &s);
    shown_free(&s);
}

static void f1_algorithms_and_constraints(void **state) {
    (void)state;
    struct creds_config c = client_of(w.root_pem);
    refused_once(&c, w.root, &(struct testca_spec){.names = {HOST}, .sha1 = true}, "", "weak algorithm in the chain");
    refused_once(&c, w.root, &(struct testca_spec){.names = {HOST}, .rsa_bits = 1024}, "", "a 1024-bit RSA key");
    refused_once(&c, w.root, &(struct testca_spec){.names = {HOST}, .for_clients = true}, "", "not meant for servers");
    struct testca *narrow = testca_new_under(w.root, &(struct testca_spec){.cn = "Narrow", .permit = "inside.example"});
    char *pem = testca_pem(narrow);
    refused_once(&c, narrow, &(struct testca_spec){.names = {HOST}}, pem, "constraints");
    free(pem);
    testca_free(narrow);
}

/* An issuer that has withdrawn the certificate says so in the handshake. */
static void f1_revoked(void **state) {
    (void)state;
    struct creds_config c = client_of(w.root_pem);
    struct shown s = show(w.root, &(struct testca_spec){.names = {HOST}}, "");
    s.staple = testca_ocsp(w.root, s.chain, false, &s.staple_len);
    accepted(&c, &s);
    free(s.staple);
    s.staple = testca_ocsp(w.root, s.chain, true, &s.staple_len);
    refused(&c, &s, "revoked: the issuer has withdrawn the certificate");
    shown_free(&s);
}

/* Another name and another issuer at once: what the page of a captive portal shows. */
static void f1_captive_portal(void **state) {
    (void)state;
    struct creds_config c = client_of(w.root_pem);
    refused_once(&c, w.other, &(struct testca_spec){.names = {"login.portal.example"}}, "",
                 "certificate mismatch: captive portal? name mismatch: certificate is for login.portal.example, not for "
                 HOST "; nor is its issuer CN=Other Root trusted");
    refused_once(&c, NULL, &(struct testca_spec){.ips = {"192.0.2.1"}, .cn = "Box"}, "",
                 "certificate mismatch: captive portal? name mismatch: certificate is for 192.0.2.1");
    /* With our trust it is a misconfiguration, and with our name another thing. */
    struct shown s = show(w.root, &(struct testca_spec){.names = {"else.example"}}, "");
    for (size_t i = 0; i < 2; i++) assert_null(strstr(try(kinds[i], &c, &s).text, "portal"));
    shown_free(&s);
}

/* ---- F2 ---- */

/* A certificate and its hashes, all made by other programs:
 *   openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256
 *   openssl x509 -fingerprint -sha256 -noout */
static char golden_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBlDCCATqgAwIBAgIUER2ukxlrAQ52DCUFaStKG9GiUZkwCgYIKoZIzj0EAwIw\n"
    "ETEPMA0GA1UEAxMGZ29sZGVuMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAw\n"
    "MDAwWjARMQ8wDQYDVQQDEwZnb2xkZW4wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n"
    "AAQYAJ1hphyH0AGYfa/L+CAxCSRmh0lF6Bij3lL/pAGqWI0KQsq1gXZr7NB2FcIC\n"
    "f5aP+V/7tFBQ1yAkmWC2OUJ7o24wbDAMBgNVHRMBAf8EAjAAMBgGA1UdEQQRMA+C\n"
    "DXByb3h5LmV4YW1wbGUwEwYDVR0lBAwwCgYIKwYBBQUHAwEwDgYDVR0PAQH/BAQD\n"
    "AgeAMB0GA1UdDgQWBBQtD+7frBPc47wFifZsWgblbHlBcTAKBggqhkjOPQQDAgNI\n"
    "ADBFAiEAnOxXjTHlsuHAH7UEFM+Z2JTQ834HOHwmpRBgy6B5XPECIDKRiwm5noZn\n"
    "mVmUvVLpz/WApUu3qD+TV+3Ptn8Oz0/b\n"
    "-----END CERTIFICATE-----\n";
static char golden_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgkzGDKx+zQfVW/sJT\n"
    "4Pli/chAjuVk3k5QqjRnl2uKBAehRANCAAQYAJ1hphyH0AGYfa/L+CAxCSRmh0lF\n"
    "6Bij3lL/pAGqWI0KQsq1gXZr7NB2FcICf5aP+V/7tFBQ1yAkmWC2OUJ7\n"
    "-----END PRIVATE KEY-----\n";
static const struct creds_pin golden_spki = {
    false, {0xd8, 0x25, 0xab, 0xda, 0x0b, 0x61, 0x00, 0x4f, 0x99, 0x66, 0xdc, 0x8a, 0x83, 0x1e, 0x64, 0xa7,
            0xf5, 0x27, 0x60, 0xec, 0xf1, 0xfb, 0x96, 0xad, 0x9a, 0xce, 0xaa, 0xdd, 0x25, 0x57, 0x4c, 0x2d}};
#define GOLDEN_SPKI "sha256//2CWr2gthAE+ZZtyKgx5kp/UnYOzx+5atms6q3SVXTC0="
static const struct creds_pin golden_cert = {
    true, {0xc4, 0xcd, 0x72, 0x4a, 0x59, 0xa2, 0x73, 0x38, 0x0f, 0xbe, 0x08, 0xe9, 0x24, 0xfa, 0x3a, 0x3c,
           0x9b, 0xcf, 0x13, 0xa8, 0x62, 0x33, 0x17, 0xf8, 0x24, 0x29, 0x8c, 0x23, 0xe3, 0xc9, 0x71, 0xb6}};
static const struct creds_pin elsewhere = {false, {1, 2, 3}};

static void f2_pins(void **state) {
    (void)state;
    const struct shown s = {.chain = golden_pem, .key = golden_key};
    const struct creds_pin *const good[] = {&golden_spki, &golden_cert};
    struct creds_config c = client_of(golden_pem);
    for (size_t i = 0; i < 2; i++) {
        struct creds_pin pins[3] = {elsewhere, *good[i], elsewhere}, wrong = *good[i], other_kind = *good[i];
        c.pins = pins;
        c.n_pins = 3;
        accepted(&c, &s);
        c.n_pins = 1;
        refused(&c, &s, "pin mismatch: the certificate has the public key " GOLDEN_SPKI
                        ", which is not the one that is pinned");
        wrong.sha256[31] ^= 1;
        other_kind.certificate = !other_kind.certificate;
        pins[1] = wrong;
        pins[2] = other_kind;
        c.n_pins = 3;
        refused(&c, &s, GOLDEN_SPKI ", which is none of the 3 that are pinned");
    }
}

/* A pin restricts, it excuses nothing. */
static void f2_a_pin_does_not_replace_the_chain(void **state) {
    (void)state;
    const struct shown s = {.chain = golden_pem, .key = golden_key};
    struct creds_config c = client_of(w.root_pem);
    c.pins = &golden_spki;
    c.n_pins = 1;
    refused(&c, &s, "self-signed");
    c.trust_pem = golden_pem;
    c.hostname = "else.example";
    refused(&c, &s, "name mismatch");
}

/* Without verification the pins alone decide, and they do. */
static void f2_pins_alone(void **state) {
    (void)state;
    const struct shown s = {.chain = golden_pem, .key = golden_key};
    struct creds_config c = client_of(w.root_pem);
    c.skip_verification = true;
    c.hostname = "else.example";
    c.pins = &golden_spki;
    c.n_pins = 1;
    accepted(&c, &s);
    c.pins = &elsewhere;
    refused(&c, &s, "pin mismatch");
    /* A server may send any certificates after its own. */
    c.pins = &golden_spki;
    refused_once(&c, w.root, &(struct testca_spec){.names = {HOST}}, golden_pem, "pin mismatch");
    refused_once(&c, w.root, &(struct testca_spec){.names = {HOST}}, w.root_pem, "pin mismatch");
}

static void f2_too_many_pins(void **state) {
    (void)state;
    struct creds_pin pins[CREDS_PINS_MAX + 1] = {{0}};
    struct creds_config c = client_of(w.root_pem);
    struct creds *creds;
    char why[CREDS_WHY_MAX];
    c.pins = pins;
    c.n_pins = CREDS_PINS_MAX + 1;
    assert_int_equal(creds_new(&creds, &c, why, sizeof why), ERR_CONFIG);
    assert_non_null(strstr(why, "more than 16 pins"));
}

/* ---- F3, F4 ---- */

static void f3_another_name_in_the_clear(void **state) {
    (void)state;
    struct shown s = show(w.root, &(struct testca_spec){.names = {HOST}}, "");
    struct creds_config c = client_of(w.root_pem);
    for (size_t i = 0; i < 2; i++) {
        c.sni = NULL;
        assert_string_equal(try(kinds[i], &c, &s).sni, HOST);
        c.sni = "front.example";
        struct creds_attempt a = try(kinds[i], &c, &s);
        assert_int_equal(a.err, ERR_OK);
        assert_string_equal(a.sni, "front.example");
    }
    shown_free(&s);
    refused_once(&c, w.root, &(struct testca_spec){.names = {"front.example"}}, "",
                 "name mismatch: certificate is for front.example, not for " HOST);
}

static void f4_without_verification(void **state) {
    (void)state;
    struct shown bad = show(NULL, &(struct testca_spec){.names = {"else.example"}}, "");
    struct shown good = show(w.root, &(struct testca_spec){.names = {HOST}}, "");
    struct creds_config c = client_of(w.root_pem);
    c.skip_verification = true;
    for (size_t i = 0; i < 2; i++) {
        struct creds_attempt a = try(kinds[i], &c, &bad);
        assert_int_equal(a.err, ERR_OK);
        assert_true(a.unverified);
    }
    accepted(&c, &good);
    shown_free(&bad);
    shown_free(&good);
}

/* ---- F7 ---- */

static bool no_store;

/* Stands before the library's own. */
int gnutls_certificate_set_x509_system_trust(gnutls_certificate_credentials_t cred) {
    int (*real)(gnutls_certificate_credentials_t);
    *(void **)&real = dlsym(RTLD_NEXT, "gnutls_certificate_set_x509_system_trust");
    if (!real) abort();
    return no_store ? 0 : real(cred);
}

static void f7_no_store(void **state) {
    (void)state;
    struct creds_config c = client_of(NULL);
    struct creds *creds;
    char why[CREDS_WHY_MAX];
    no_store = true;
    int rv = creds_new(&creds, &c, why, sizeof why);
    no_store = false;
    assert_int_equal(rv, ERR_CONFIG);
    assert_null(creds);
    assert_non_null(strstr(why, "certificate store /etc/ssl/certs/ca-certificates.crt is missing or empty"));
}

/* ---- F1, F8 ---- */

static void f8_dates_and_the_clock(void **state) {
    (void)state;
    struct creds_config c = client_of(w.root_pem);
    const int64_t years = 365 * TESTCA_DAY;
    static const int64_t ages[] = {1, 6};
    for (size_t i = 0; i < 2; i++) {
        struct testca_spec old = {.names = {HOST}, .from = -ages[i] * years - 30 * TESTCA_DAY, .until = -ages[i] * years};
        struct testca_spec early = {.names = {HOST}, .from = ages[i] * years, .until = ages[i] * years + TESTCA_DAY};
        refused_once(&c, w.root, &old, "", "the certificate expired on 2");
        refused_once(&c, w.root, &old, "", " UTC (is the clock right? It says 2");
        refused_once(&c, w.root, &early, "", "the certificate is not valid before 2");
        refused_once(&c, w.root, &early, "", " UTC (is the clock right? It says 2");
    }
    struct testca *stale =
        testca_new_under(w.root, &(struct testca_spec){.cn = "Old Issuer", .from = -2 * years, .until = -years});
    char *pem = testca_pem(stale);
    refused_once(&c, stale, &(struct testca_spec){.names = {HOST}}, pem,
                 "the issuer's certificate (CN=Old Issuer) expired on 2");
    free(pem);
    testca_free(stale);
}

/* ---- F9 ---- */

/* The server insists on a certificate that w.root has issued. */
static struct creds_attempt try_as_client(enum session_kind kind, const struct shown *own) {
    struct shown s = show(w.root, &(struct testca_spec){.names = {HOST}}, "");
    struct creds_config c = client_of(w.root_pem);
    if (own) {
        c.certificate_pem = own->chain;
        c.key_pem = own->key;
    }
    struct creds *client = creds_must(&c);
    struct creds *server = creds_must(&(struct creds_config){
        .server = true, .certificate_pem = s.chain, .key_pem = s.key, .trust_pem = w.root_pem});
    struct creds_attempt a = creds_attempt(kind, client, server);
    creds_unref(client);
    creds_unref(server);
    shown_free(&s);
    return a;
}

static void f9_client_certificates(void **state) {
    (void)state;
    const struct testca_spec spec = {.cn = "a client", .for_clients = true};
    struct shown good = show(w.root, &spec, ""), chain = show(w.sub, &spec, w.sub_pem);
    struct shown foreign = show(w.other, &spec, ""), wrong_use = show(w.root, &(struct testca_spec){.cn = "x"}, "");
    for (size_t i = 0; i < 2; i++) {
        const struct shown *const taken[] = {&good, &chain}, *const not[] = {NULL, &foreign, &wrong_use};
        for (size_t k = 0; k < 2; k++) {
            struct creds_attempt a = try_as_client(kinds[i], taken[k]);
            if (a.err || !a.server_up) fail_msg("%zu %zu: %s / %s", i, k, a.text, a.server_text);
        }
        /* The client learns of it after its handshake: an alert says so. */
        for (size_t k = 0; k < 3; k++) {
            struct creds_attempt a = try_as_client(kinds[i], not[k]);
            if (a.err != ERR_UPSTREAM_TLS || a.server_up || !strstr(a.text, "alert"))
                fail_msg("%zu %zu: %s %s / %s", i, k, err_word(a.err), a.text, a.server_text);
            if (k == 0 && !strstr(a.text, "116")) fail_msg("%zu: %s", i, a.text);
        }
    }
    shown_free(&good);
    shown_free(&chain);
    shown_free(&foreign);
    shown_free(&wrong_use);
}

static void f9_keys_that_do_not_fit(void **state) {
    (void)state;
    struct shown one = show(w.root, &(struct testca_spec){.cn = "one", .for_clients = true}, "");
    struct shown two = show(w.root, &(struct testca_spec){.cn = "two", .for_clients = true}, "");
    const struct {
        const char *certificate, *key, *trust;
        enum creds_fault fault;
        const char *part;
    } cases[] = {
        {one.chain, two.key, w.root_pem, CREDS_FAULT_CERTIFICATE, "do not match"},
        {one.chain, NULL, w.root_pem, CREDS_FAULT_CERTIFICATE, "must be given together"},
        {NULL, one.key, w.root_pem, CREDS_FAULT_CERTIFICATE, "must be given together"},
        {one.chain, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", w.root_pem,
         CREDS_FAULT_CERTIFICATE, "is not usable"},
        {one.chain, one.key, "nothing", CREDS_FAULT_TRUST, "no certificate in PEM form"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum creds_fault fault = CREDS_FAULT_OTHER;
        struct creds_config c = client_of(cases[i].trust);
        struct creds *creds;
        char why[CREDS_WHY_MAX];
        c.certificate_pem = cases[i].certificate;
        c.key_pem = cases[i].key;
        c.fault = &fault;
        assert_int_equal(creds_new(&creds, &c, why, sizeof why), ERR_CONFIG);
        if (!strstr(why, cases[i].part)) fail_msg("%zu: %s", i, why);
        assert_int_equal(fault, cases[i].fault);
    }
    shown_free(&one);
    shown_free(&two);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(f1_names),
        cmocka_unit_test(f1_issuers),
        cmocka_unit_test(f1_algorithms_and_constraints),
        cmocka_unit_test(f1_revoked),
        cmocka_unit_test(f1_captive_portal),
        cmocka_unit_test(f2_pins),
        cmocka_unit_test(f2_a_pin_does_not_replace_the_chain),
        cmocka_unit_test(f2_pins_alone),
        cmocka_unit_test(f2_too_many_pins),
        cmocka_unit_test(f3_another_name_in_the_clear),
        cmocka_unit_test(f4_without_verification),
        cmocka_unit_test(f7_no_store),
        cmocka_unit_test(f8_dates_and_the_clock),
        cmocka_unit_test(f9_client_certificates),
        cmocka_unit_test(f9_keys_that_do_not_fit),
    };
    int r = cmocka_run_group_tests_name("tls hostile", tests, world_up, world_down);
    session_pair_cleanup();
    return r;
}
