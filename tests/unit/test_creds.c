#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testca.h"
#include "lib/tls_pair.h"

#define HOST "proxy.example"

/* One attempt of a client that wants `host`, against a server with this chain. */
struct attempt {
    const char *host, *sni, *trust, *chain, *key;
    bool skip;
    const char *server_priority; /* NULL: its own */
    /* results */
    bool unverified;
    char why[CREDS_WHY_MAX];
    char sni_seen[256];
};

static struct creds *server_creds(const char *chain, const char *key) {
    struct creds_config c = {.server = true, .certificate_pem = chain, .key_pem = key};
    struct creds *creds;
    char why[CREDS_WHY_MAX];
    if (creds_new(&creds, &c, why, sizeof why) < 0) fail_msg("server creds: %s", why);
    return creds;
}

static int attempt(struct attempt *a) {
    struct creds_config c = {
        .hostname = a->host ? a->host : HOST, .sni = a->sni, .trust_pem = a->trust, .skip_verification = a->skip};
    struct creds *client, *server = server_creds(a->chain, a->key);
    char why[CREDS_WHY_MAX];
    if (creds_new(&client, &c, why, sizeof why) < 0) fail_msg("client creds: %s", why);
    struct tls_pair p;
    tls_pair_init(&p, client, server, false, false);
    if (a->server_priority)
        assert_int_equal(gnutls_priority_set_direct(tls_session(p.server), a->server_priority, NULL), 0);
    int rv = tls_pair_shake(&p);
    unsigned type;
    size_t n = sizeof a->sni_seen - 1;
    memset(a->sni_seen, 0, sizeof a->sni_seen);
    gnutls_server_name_get(tls_session(p.server), a->sni_seen, &n, &type, 0);
    a->unverified = tls_verdict(p.client)->unverified;
    snprintf(a->why, sizeof a->why, "%s", rv < 0 ? tls_error_text(p.client) : tls_verdict(p.client)->why);
    if (rv < 0) assert_true(p.server_rv < 0); /* an alert was sent, or an EOF would have to tell */
    tls_pair_free(&p);
    creds_unref(client);
    creds_unref(server);
    return rv;
}

static void accepted(struct attempt a) {
    int rv = attempt(&a);
    if (rv != TLS_DONE) fail_msg("refused: %d %s", rv, a.why);
    assert_false(a.unverified);
    assert_string_equal(a.why, "");
}

static void refused(struct attempt a, const char *part) {
    int rv = attempt(&a);
    if (rv != ERR_UPSTREAM_CERTIFICATE) fail_msg("result %d, not a refused certificate: %s", rv, a.why);
    if (!strstr(a.why, part)) fail_msg("\"%s\" does not say \"%s\"", a.why, part);
    assert_false(a.unverified);
}

/* ---- a world ---- */

struct world {
    struct testca *root, *sub, *other;
    char *root_pem, *sub_pem, *other_pem;
};

static int world_up(void **state) {
    static struct world w;
    struct testca_spec sub = {.cn = "Test Issuer"};
    w.root = testca_new("Test Root");
    w.sub = testca_new_under(w.root, &sub);
    w.other = testca_new("Other Root");
    w.root_pem = testca_pem(w.root);
    w.sub_pem = testca_pem(w.sub);
    w.other_pem = testca_pem(w.other);
    *state = &w;
    return 0;
}

static int world_down(void **state) {
    struct world *w = *state;
    testca_free(w->root);
    testca_free(w->sub);
    testca_free(w->other);
    free(w->root_pem);
    free(w->sub_pem);
    free(w->other_pem);
    return 0;
}

/* ---- names ---- */

static void names(void **state) {
    struct world *w = *state;
    char *cert, *key;
    struct testca_spec spec = {
        .names = {HOST, "*.wild.example"}, .ips = {"127.0.0.1", "2001:db8::1"}, .cn = "common.example"};
    testca_issue(w->root, &spec, &cert, &key);
    struct attempt a = {.trust = w->root_pem, .chain = cert, .key = key};
    const char *good[] = {HOST, "PROXY.Example", HOST ".", "one.wild.example", "127.0.0.1", "2001:db8::1",
                          "2001:DB8:0::1"};
    const char *bad[] = {"other.example", "sub." HOST, "wild.example", "a.b.wild.example", "127.0.0.2",
                         "2001:db8::2", "common.example", "proxy.example.evil.example", "proxyxexample"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        a.host = good[i];
        accepted(a);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        a.host = bad[i];
        refused(a, "name mismatch: certificate is for proxy.example, *.wild.example, 127.0.0.1, 2001:db8::1,");
        refused(a, bad[i]);
    }
    free(cert);
    free(key);
}

static void an_ip_in_a_dns_name_is_no_ip(void **state) {
    struct world *w = *state;
    char *cert, *key;
    struct testca_spec spec = {.names = {"127.0.0.1"}, .cn = "127.0.0.1"};
    testca_issue(w->root, &spec, &cert, &key);
    refused((struct attempt){.host = "127.0.0.1", .trust = w->root_pem, .chain = cert, .key = key},
            "name mismatch");
    free(cert);
    free(key);
}

static void a_common_name_does_not_count(void **state) {
    struct world *w = *state;
    char *cert, *key;
    struct testca_spec none = {.cn = HOST}, ip = {.cn = HOST, .ips = {"192.0.2.1"}};
    testca_issue(w->root, &none, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key}, "carries no name");
    free(cert);
    free(key);
    testca_issue(w->root, &ip, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key}, "is for 192.0.2.1, not for");
    free(cert);
    free(key);
}

static void foreign_text_is_plain(void **state) {
    (void)state;
    char *cert, *key;
    struct testca_spec spec = {.names = {HOST}, .cn = "Evil\r\nline=\"x\" \x1b[31m\xc3\xa9"};
    testca_issue(NULL, &spec, &cert, &key);
    struct attempt a = {.chain = cert, .key = key};
    assert_int_equal(attempt(&a), ERR_UPSTREAM_CERTIFICATE);
    assert_non_null(strstr(a.why, "CN=Evil"));
    for (const char *c = a.why; *c; c++) assert_true(*c >= ' ' && *c < 0x7f && *c != '"' && *c != '\\');
    free(cert);
    free(key);
}

static void listed_names_are_bounded(void **state) {
    struct world *w = *state;
    char *cert, *key, wide[200];
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    struct testca_spec spec = {
        .names = {wide, "b.example", "c.example", "d.example", "e.example", "f.example"}};
    testca_issue(w->root, &spec, &cert, &key);
    struct attempt a = {.trust = w->root_pem, .chain = cert, .key = key};
    assert_int_equal(attempt(&a), ERR_UPSTREAM_CERTIFICATE);
    const char *shown = "wwww..., b.example, c.example, d.example and 2 more, not for " HOST;
    if (!strstr(a.why, shown)) fail_msg("\"%s\" does not say \"%s\"", a.why, shown);
    free(cert);
    free(key);
}

/* ---- dates ---- */

static void dates(void **state) {
    struct world *w = *state;
    char *cert, *key, *chain, *pem;
    struct testca_spec expired = {.names = {HOST}, .from = -40 * TESTCA_DAY, .until = -10 * TESTCA_DAY};
    struct testca_spec early = {.names = {HOST}, .from = 300 * TESTCA_DAY, .until = 400 * TESTCA_DAY};
    testca_issue(w->root, &expired, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key}, "the certificate expired on 2");
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key},
            " UTC (is the clock right? It says 2");
    free(cert);
    free(key);
    testca_issue(w->root, &early, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key},
            "the certificate is not valid before 2");
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key}, "is the clock right?");
    free(cert);
    free(key);
    /* Of the issuer. */
    struct testca_spec old = {.cn = "Old Issuer", .from = -40 * TESTCA_DAY, .until = -TESTCA_DAY};
    struct testca_spec leaf = {.names = {HOST}};
    struct testca *sub = testca_new_under(w->root, &old);
    testca_issue(sub, &leaf, &cert, &key);
    pem = testca_pem(sub);
    chain = testca_join(cert, pem, NULL);
    refused((struct attempt){.trust = w->root_pem, .chain = chain, .key = key},
            "the issuer's certificate (CN=Old Issuer) expired on 2");
    testca_free(sub);
    free(cert);
    free(key);
    free(pem);
    free(chain);
}

/* ---- chains ---- */

static void chains(void **state) {
    struct world *w = *state;
    char *cert, *key, *chain, *both;
    struct testca_spec leaf = {.names = {HOST}};
    testca_issue(w->sub, &leaf, &cert, &key);
    chain = testca_join(cert, w->sub_pem, NULL);
    accepted((struct attempt){.trust = w->root_pem, .chain = chain, .key = key});
    /* The issuer alone is trust enough. */
    accepted((struct attempt){.trust = w->sub_pem, .chain = cert, .key = key});
    both = testca_join("# a comment\n", w->other_pem, "another\n", w->root_pem, " \r\n\t", NULL);
    accepted((struct attempt){.trust = both, .chain = chain, .key = key});
    free(both);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key},
            "chain incomplete: the endpoint sent 1 certificate, the issuer CN=Test Issuer is neither among them nor "
            "among the configured certificates");
    refused((struct attempt){.trust = w->other_pem, .chain = chain, .key = key},
            "chain incomplete: the endpoint sent 2 certificates, the issuer CN=Test Root is neither");
    free(chain);
    chain = testca_join(cert, w->sub_pem, w->root_pem, NULL);
    accepted((struct attempt){.trust = w->root_pem, .chain = chain, .key = key});
    refused((struct attempt){.trust = w->other_pem, .chain = chain, .key = key},
            "unknown issuer: the chain of 3 certificates ends at CN=Test Root, which is not among the configured");
    /* Made up authorities are not in the system's store. */
    refused((struct attempt){.chain = chain, .key = key}, "is not among the system's trusted certificates");
    free(cert);
    free(key);
    free(chain);
}

static void self_signed(void **state) {
    struct world *w = *state;
    char *cert, *key, *chain;
    struct testca_spec spec = {.names = {HOST}, .cn = "Some Portal"};
    testca_issue(NULL, &spec, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key},
            "self-signed: the certificate of CN=Some Portal was issued by itself");
    refused((struct attempt){.chain = cert, .key = key}, "self-signed");
    /* The name comes first: that is what tells a portal. */
    refused((struct attempt){.host = "else.example", .trust = w->root_pem, .chain = cert, .key = key},
            "name mismatch");
    chain = testca_join(cert, w->root_pem, NULL);
    refused((struct attempt){.trust = w->root_pem, .chain = chain, .key = key}, "self-signed");
    free(cert);
    free(key);
    free(chain);
}

/* Endpoints export their own certificate, sometimes nothing else: it is then the trust. */
static void trusted_leaf(void **state) {
    struct world *w = *state;
    char *cert, *key, *cert2, *key2, *both;
    struct testca_spec spec = {.names = {HOST}};
    struct testca_spec old = {.names = {HOST}, .from = -9 * TESTCA_DAY, .until = -TESTCA_DAY};
    struct testca_spec early = {.names = {HOST}, .from = TESTCA_DAY, .until = 9 * TESTCA_DAY};
    /* Self-signed and no CA. */
    testca_issue(NULL, &spec, &cert, &key);
    accepted((struct attempt){.trust = cert, .chain = cert, .key = key});
    both = testca_join(w->root_pem, cert, NULL);
    accepted((struct attempt){.trust = both, .chain = cert, .key = key});
    refused((struct attempt){.host = "else.example", .trust = cert, .chain = cert, .key = key}, "name mismatch");
    free(both);
    /* Another one with the same name. */
    testca_issue(NULL, &spec, &cert2, &key2);
    refused((struct attempt){.trust = cert, .chain = cert2, .key = key2}, "self-signed");
    free(cert);
    free(key);
    free(cert2);
    free(key2);
    /* Issued by somebody unknown. */
    testca_issue(w->other, &spec, &cert, &key);
    accepted((struct attempt){.trust = cert, .chain = cert, .key = key});
    both = testca_join(cert, w->other_pem, NULL);
    accepted((struct attempt){.trust = both, .chain = both, .key = key});
    free(both);
    free(cert);
    free(key);
    testca_issue(NULL, &old, &cert, &key);
    refused((struct attempt){.trust = cert, .chain = cert, .key = key}, "expired");
    free(cert);
    free(key);
    testca_issue(w->root, &early, &cert, &key);
    refused((struct attempt){.trust = cert, .chain = cert, .key = key}, "is not valid before");
    free(cert);
    free(key);
}

/* A trusted leaf is trusted for itself only. */
static void trusted_leaf_cannot_issue(void **state) {
    (void)state;
    char *cert, *key, *evil, *evil_key;
    struct testca_spec leaf = {.names = {HOST}, .cn = "Leaf"};
    struct testca_spec ca = {.names = {HOST}, .cn = "CA Leaf"};
    struct testca *mint = testca_new_under(NULL, &ca);
    char *trust = testca_pem(mint);
    /* With CA:TRUE it may. */
    testca_issue(mint, &leaf, &cert, &key);
    accepted((struct attempt){.trust = trust, .chain = cert, .key = key});
    /* What it issued is no CA and may not, even when trusted. */
    struct testca *fake = testca_from_pem(cert, key);
    testca_issue(fake, &(struct testca_spec){.names = {HOST}, .cn = "Evil"}, &evil, &evil_key);
    refused((struct attempt){.trust = cert, .chain = evil, .key = evil_key}, "certificate");
    char *chain = testca_join(evil, cert, NULL);
    refused((struct attempt){.trust = cert, .chain = chain, .key = evil_key}, "certificate");
    refused((struct attempt){.trust = trust, .chain = chain, .key = evil_key},
            "was issued by one that may not issue certificates");
    testca_free(fake);
    testca_free(mint);
    free(cert);
    free(key);
    free(evil);
    free(evil_key);
    free(chain);
    free(trust);
}

static void constraints(void **state) {
    struct world *w = *state;
    char *cert, *key, *pem, *chain;
    struct testca_spec narrow = {.cn = "Narrow Issuer", .permit = "inside.example"};
    struct testca *sub = testca_new_under(w->root, &narrow);
    testca_issue(sub, &(struct testca_spec){.names = {HOST}}, &cert, &key);
    pem = testca_pem(sub);
    chain = testca_join(cert, pem, NULL);
    refused((struct attempt){.trust = w->root_pem, .chain = chain, .key = key}, "constraints");
    free(cert);
    free(key);
    free(chain);
    testca_issue(sub, &(struct testca_spec){.names = {"a.inside.example"}}, &cert, &key);
    chain = testca_join(cert, pem, NULL);
    accepted((struct attempt){.host = "a.inside.example", .trust = w->root_pem, .chain = chain, .key = key});
    free(cert);
    free(key);
    free(chain);
    free(pem);
    testca_free(sub);
}

static void weak(void **state) {
    struct world *w = *state;
    char *cert, *key;
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}, .sha1 = true}, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key}, "weak algorithm in the chain");
    free(cert);
    free(key);
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}, .rsa_bits = 1024}, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key}, "a 1024-bit RSA key");
    free(cert);
    free(key);
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}, .rsa_bits = 2048}, &cert, &key);
    accepted((struct attempt){.trust = w->root_pem, .chain = cert, .key = key});
    free(cert);
    free(key);
}

static void purpose(void **state) {
    struct world *w = *state;
    char *cert, *key;
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}, .for_clients = true}, &cert, &key);
    refused((struct attempt){.trust = w->root_pem, .chain = cert, .key = key}, "not meant for servers");
    free(cert);
    free(key);
}

/* ---- what the configuration may ask for ---- */

static void skipped_verification_is_told(void **state) {
    struct world *w = *state;
    char *cert, *key;
    testca_issue(NULL, &(struct testca_spec){.names = {"else.example"}}, &cert, &key);
    struct attempt a = {.trust = w->root_pem, .chain = cert, .key = key, .skip = true};
    assert_int_equal(attempt(&a), TLS_DONE);
    assert_true(a.unverified);
    assert_non_null(strstr(a.why, "name mismatch"));
    free(cert);
    free(key);
    /* A good certificate is a good one still. */
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}}, &cert, &key);
    a = (struct attempt){.trust = w->root_pem, .chain = cert, .key = key, .skip = true};
    assert_int_equal(attempt(&a), TLS_DONE);
    assert_false(a.unverified);
    free(cert);
    free(key);
}

static void sni(void **state) {
    struct world *w = *state;
    char *cert, *key;
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}, .ips = {"127.0.0.1", "::1"}}, &cert, &key);
    const struct {
        const char *host, *sni, *seen;
    } cases[] = {
        {HOST, NULL, HOST},
        {HOST ".", NULL, HOST},
        {HOST, "front.example", "front.example"},
        {"127.0.0.1", NULL, ""},
        {"::1", NULL, ""},
        {"127.0.0.1", "front.example", "front.example"},
        {HOST, "192.0.2.1", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attempt a = {
            .host = cases[i].host, .sni = cases[i].sni, .trust = w->root_pem, .chain = cert, .key = key};
        assert_int_equal(attempt(&a), TLS_DONE);
        assert_string_equal(a.sni_seen, cases[i].seen);
    }
    /* Verified is the host name, not what was sent. */
    refused((struct attempt){.host = "else.example", .sni = HOST, .trust = w->root_pem, .chain = cert, .key = key},
            "not for else.example");
    free(cert);
    free(key);
}

static void old_and_weak_servers(void **state) {
    struct world *w = *state;
    char *cert, *key;
    struct testca_spec rsa = {.names = {HOST}, .rsa_bits = 2048};
    testca_issue(w->root, &rsa, &cert, &key);
    const char *bad[] = {
        "NORMAL:-VERS-ALL:+VERS-TLS1.0",
        "NORMAL:-VERS-ALL:+VERS-TLS1.1",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ANON-ECDH",
    };
    const char *good[] = {"NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3",
                          "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP384R1"};
    struct attempt a = {.trust = w->root_pem, .chain = cert, .key = key};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        a.server_priority = bad[i];
        assert_int_equal(attempt(&a), ERR_UPSTREAM_TLS);
        assert_non_null(strstr(a.why, "alert"));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        a.server_priority = good[i];
        accepted(a);
    }
    free(cert);
    free(key);
}

/* The 32 random bytes of a ClientHello: after record header, message header and version. */
static void hello_random(struct creds *client, struct creds *server, uint8_t *random) {
    struct tls_pair p;
    tls_pair_init(&p, client, server, false, false);
    assert_int_equal(tls_pair_shake(&p), TLS_DONE);
    assert_true(p.hello_len > 43);
    memcpy(random, p.hello + 11, 32);
    tls_pair_free(&p);
}

static void client_random(void **state) {
    struct world *w = *state;
    char *cert, *key, why[CREDS_WHY_MAX];
    uint8_t one[32], two[32];
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}}, &cert, &key);
    struct creds_config c = {.hostname = HOST, .trust_pem = w->root_pem, .random_len = 4,
                             .random_prefix = {0xde, 0xad, 0xbe, 0xef}, .random_mask = {0xff, 0xff, 0xf0, 0x0f}};
    struct creds *client, *server = server_creds(cert, key);
    assert_int_equal(creds_new(&client, &c, why, sizeof why), 0);
    hello_random(client, server, one);
    hello_random(client, server, two);
    const uint8_t *both[] = {one, two};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(both[i][0], 0xde);
        assert_int_equal(both[i][1], 0xad);
        assert_int_equal(both[i][2] & 0xf0, 0xb0);
        assert_int_equal(both[i][3] & 0x0f, 0x0f);
    }
    /* The rest is random, each time anew. */
    assert_memory_not_equal(one + 4, two + 4, 28);
    creds_unref(client);
    creds_unref(server);
    free(cert);
    free(key);
}

/* ---- what cannot be used ---- */

static void unusable(const struct creds_config *c, const char *part) {
    struct creds *creds;
    char why[CREDS_WHY_MAX];
    int rv = creds_new(&creds, c, why, sizeof why);
    assert_null(creds);
    if (rv != ERR_CONFIG) fail_msg("result %d for: %s", rv, part);
    if (!strstr(why, part)) fail_msg("\"%s\" does not say \"%s\"", why, part);
}

static void unusable_trust(void **state) {
    struct world *w = *state;
    char *cert, *key, *text;
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}}, &cert, &key);
    struct creds_config c = {.hostname = HOST};
    c.trust_pem = "";
    unusable(&c, "no certificate in PEM form");
    c.trust_pem = "some text\n";
    unusable(&c, "no certificate in PEM form");
    c.trust_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    unusable(&c, "certificate 1 of the trusted ones cannot be read");
    const char *broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    c.trust_pem = text = testca_join(w->root_pem, broken, NULL);
    unusable(&c, "certificate 2 of the trusted ones cannot be read");
    free(text);
    c.trust_pem = text = testca_join(w->root_pem, "rest", NULL);
    unusable(&c, "something that is not a certificate after certificate 1");
    free(text);
    c.trust_pem = text = testca_join(cert, key, NULL);
    unusable(&c, "a block that is not a certificate (after 1 of them)");
    free(text);
    c.trust_pem = text = testca_join(w->root_pem, cert, NULL);
    text[strlen(text) - 60] = 0;
    unusable(&c, "certificate 2 of the trusted ones is cut short");
    free(text);
    text = testca_join(w->root_pem, cert, NULL);
    strstr(text, "-----END")[0] = 'x'; /* two beginnings, one end */
    c.trust_pem = text;
    unusable(&c, "certificate 1 of the trusted ones is cut short");
    free(text);
    free(cert);
    free(key);
}

static void unusable_others(void **state) {
    struct world *w = *state;
    char *cert, *key, *cert2, *key2;
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}}, &cert, &key);
    testca_issue(w->root, &(struct testca_spec){.names = {HOST}}, &cert2, &key2);
    unusable(&(struct creds_config){.trust_pem = w->root_pem}, "without a host name");
    unusable(&(struct creds_config){.hostname = "", .trust_pem = w->root_pem}, "without a host name");
    unusable(&(struct creds_config){.hostname = HOST, .trust_pem = w->root_pem, .random_len = 33},
             "client_random");
    unusable(&(struct creds_config){.server = true}, "needs a certificate");
    unusable(&(struct creds_config){.server = true, .certificate_pem = cert}, "must be given together");
    unusable(&(struct creds_config){.server = true, .certificate_pem = cert, .key_pem = key2}, "not usable");
    unusable(&(struct creds_config){.server = true, .certificate_pem = cert, .key_pem = "x"}, "not usable");
    free(cert);
    free(key);
    free(cert2);
    free(key2);
}

static void references(void **state) {
    struct world *w = *state;
    struct creds *c;
    char why[CREDS_WHY_MAX];
    struct creds_config config = {.hostname = HOST, .trust_pem = w->root_pem};
    assert_int_equal(creds_new(&c, &config, why, sizeof why), 0);
    assert_ptr_equal(creds_ref(c), c);
    creds_unref(c);
    creds_unref(c);
    creds_unref(NULL);
    assert_null(creds_ref(NULL));
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(an_ip_in_a_dns_name_is_no_ip),
        cmocka_unit_test(a_common_name_does_not_count),
        cmocka_unit_test(listed_names_are_bounded),
        cmocka_unit_test(foreign_text_is_plain),
        cmocka_unit_test(dates),
        cmocka_unit_test(chains),
        cmocka_unit_test(self_signed),
        cmocka_unit_test(trusted_leaf),
        cmocka_unit_test(trusted_leaf_cannot_issue),
        cmocka_unit_test(constraints),
        cmocka_unit_test(weak),
        cmocka_unit_test(purpose),
        cmocka_unit_test(skipped_verification_is_told),
        cmocka_unit_test(sni),
        cmocka_unit_test(old_and_weak_servers),
        cmocka_unit_test(client_random),
        cmocka_unit_test(unusable_trust),
        cmocka_unit_test(unusable_others),
        cmocka_unit_test(references),
    };
    return cmocka_run_group_tests_name("creds", tests, world_up, world_down);
}
