#include "lib/testca_impl.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(int rv, const char *what) {
    if (rv >= 0) return;
    fprintf(stderr, "testca: %s: %s\n", what, gnutls_strerror(rv));
    abort();
}

static gnutls_x509_privkey_t make_key(const struct testca_spec *spec) {
    gnutls_x509_privkey_t key;
    must(gnutls_x509_privkey_init(&key), "key");
    if (spec->rsa_bits)
        must(gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, spec->rsa_bits, 0), "RSA key");
    else
        must(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
             "ECDSA key");
    return key;
}

static void add_names(gnutls_x509_crt_t crt, const struct testca_spec *spec) {
    for (int i = 0; i < TESTCA_NAMES && spec->names[i]; i++)
        must(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, spec->names[i],
                                                  (unsigned)strlen(spec->names[i]), GNUTLS_FSAN_APPEND),
             "name");
    for (int i = 0; i < TESTCA_NAMES && spec->ips[i]; i++) {
        unsigned char ip[16];
        unsigned n = inet_pton(AF_INET, spec->ips[i], ip) == 1 ? 4 : 16;
        must(n == 4 || inet_pton(AF_INET6, spec->ips[i], ip) == 1 ? 0 : GNUTLS_E_INVALID_REQUEST, "IP");
        must(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, ip, n, GNUTLS_FSAN_APPEND), "IP");
    }
}

static void constrain(gnutls_x509_crt_t crt, const char *permit) {
    gnutls_x509_name_constraints_t nc;
    gnutls_datum_t name = {(unsigned char *)permit, (unsigned)strlen(permit)};
    must(gnutls_x509_name_constraints_init(&nc), "constraint");
    must(gnutls_x509_name_constraints_add_permitted(nc, GNUTLS_SAN_DNSNAME, &name), "constraint");
    must(gnutls_x509_crt_set_name_constraints(crt, nc, 1), "constraint");
    gnutls_x509_name_constraints_deinit(nc);
}

/* issuer NULL: by itself. */
static gnutls_x509_crt_t make_cert(const struct testca *issuer, gnutls_x509_privkey_t key,
                                   const struct testca_spec *spec) {
    gnutls_x509_crt_t crt;
    unsigned char serial[12], id[20];
    const char *cn = spec->cn ? spec->cn : "leaf";
    size_t id_len = sizeof id;
    time_t now = time(NULL);
    bool plain = !spec->from && !spec->until;

    must(gnutls_x509_crt_init(&crt), "certificate");
    must(gnutls_x509_crt_set_version(crt, 3), "version");
    must(gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial), "serial");
    serial[0] &= 0x7f;
    must(gnutls_x509_crt_set_serial(crt, serial, sizeof serial), "serial");
    must(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn, (unsigned)strlen(cn)), "subject");
    must(gnutls_x509_crt_set_activation_time(crt, now + (plain ? -TESTCA_DAY : spec->from)), "from");
    must(gnutls_x509_crt_set_expiration_time(crt, now + (plain ? 30 * TESTCA_DAY : spec->until)), "until");
    must(gnutls_x509_crt_set_key(crt, key), "key");
    must(gnutls_x509_crt_get_key_id(crt, 0, id, &id_len), "key id");
    must(gnutls_x509_crt_set_subject_key_id(crt, id, id_len), "key id");
    must(gnutls_x509_crt_set_basic_constraints(crt, spec->ca, -1), "constraints");
    if (spec->ca) {
        must(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN), "usage");
    } else {
        const char *use = spec->for_clients ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
        must(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE), "usage");
        must(gnutls_x509_crt_set_key_purpose_oid(crt, use, 0), "purpose");
    }
    add_names(crt, spec);
    if (spec->permit) constrain(crt, spec->permit);
    must(gnutls_x509_crt_sign2(crt, issuer ? issuer->crt : crt, issuer ? issuer->key : key,
                               spec->sha1 ? GNUTLS_DIG_SHA1 : GNUTLS_DIG_SHA256, 0),
         "signature");
    return crt;
}

static char *export_cert(gnutls_x509_crt_t crt) {
    gnutls_datum_t d;
    must(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &d), "export");
    char *text = strndup((char *)d.data, d.size);
    gnutls_free(d.data);
    if (!text) abort();
    return text;
}

struct testca *testca_new_under(struct testca *parent, const struct testca_spec *spec) {
    struct testca *ca = calloc(1, sizeof *ca);
    struct testca_spec s = *spec;
    if (!ca) abort();
    s.ca = true;
    ca->key = make_key(&s);
    ca->crt = make_cert(parent, ca->key, &s);
    return ca;
}

struct testca *testca_new(const char *cn) {
    struct testca_spec spec = {.cn = cn, .from = -TESTCA_DAY, .until = 365 * TESTCA_DAY};
    return testca_new_under(NULL, &spec);
}

struct testca *testca_from_pem(const char *cert_pem, const char *key_pem) {
    struct testca *ca = calloc(1, sizeof *ca);
    gnutls_datum_t cert = {(unsigned char *)cert_pem, (unsigned)strlen(cert_pem)};
    gnutls_datum_t key = {(unsigned char *)key_pem, (unsigned)strlen(key_pem)};
    if (!ca) abort();
    must(gnutls_x509_crt_init(&ca->crt), "certificate");
    must(gnutls_x509_privkey_init(&ca->key), "key");
    must(gnutls_x509_crt_import(ca->crt, &cert, GNUTLS_X509_FMT_PEM), "certificate");
    must(gnutls_x509_privkey_import(ca->key, &key, GNUTLS_X509_FMT_PEM), "key");
    return ca;
}

void testca_free(struct testca *ca) {
    if (!ca) return;
    gnutls_x509_crt_deinit(ca->crt);
    gnutls_x509_privkey_deinit(ca->key);
    free(ca);
}

char *testca_pem(const struct testca *ca) { return export_cert(ca->crt); }

void testca_issue(struct testca *ca, const struct testca_spec *spec, char **cert_pem, char **key_pem) {
    gnutls_x509_privkey_t key = make_key(spec);
    gnutls_x509_crt_t crt = make_cert(ca, key, spec);
    gnutls_datum_t d;
    *cert_pem = export_cert(crt);
    must(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &d), "export");
    *key_pem = strndup((char *)d.data, d.size);
    if (!*key_pem) abort();
    gnutls_free(d.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

char *testca_join(const char *first, ...) {
    va_list ap;
    size_t n = 0;
    va_start(ap, first);
    for (const char *t = first; t; t = va_arg(ap, const char *)) n += strlen(t);
    va_end(ap);
    char *all = malloc(n + 1), *at = all;
    if (!all) abort();
    va_start(ap, first);
    for (const char *t = first; t; t = va_arg(ap, const char *)) at = stpcpy(at, t);
    va_end(ap);
    *at = 0;
    return all;
}
