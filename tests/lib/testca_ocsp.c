#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/testca_impl.h"

/* DER, written from the back: what is inside is there when its head is written. */
struct der {
    unsigned char p[4096], *at;
};

static void must(int rv) {
    if (rv >= 0) return;
    fprintf(stderr, "testca: OCSP: %s\n", gnutls_strerror(rv));
    abort();
}

static void put(struct der *d, const void *p, size_t n) {
    if ((size_t)(d->at - d->p) < n) abort();
    d->at -= n;
    memcpy(d->at, p, n);
}

/* The head of everything that was written since `end`. */
static void head(struct der *d, unsigned char tag, const unsigned char *end) {
    size_t n = (size_t)(end - d->at);
    unsigned char bytes[4] = {tag, 0x82, (unsigned char)(n >> 8), (unsigned char)n};
    if (n < 128) {
        bytes[1] = (unsigned char)n;
        put(d, bytes, 2);
    } else if (n < 256) {
        bytes[1] = 0x81;
        bytes[2] = (unsigned char)n;
        put(d, bytes, 3);
    } else {
        put(d, bytes, 4);
    }
}

static void put_as(struct der *d, unsigned char tag, const void *p, size_t n) {
    const unsigned char *end = d->at;
    put(d, p, n);
    head(d, tag, end);
}

static void put_time(struct der *d, time_t t) {
    char text[32];
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y%m%d%H%M%SZ", &tm);
    put_as(d, 0x18, text, strlen(text));
}

/* SHA-1 of the bits of the public key. */
static void key_hash(gnutls_x509_crt_t crt, unsigned char out[20]) {
    gnutls_pubkey_t key;
    gnutls_datum_t x, y;
    unsigned char point[65] = {4};
    must(gnutls_pubkey_init(&key));
    must(gnutls_pubkey_import_x509(key, crt, 0));
    must(gnutls_pubkey_export_ecc_raw2(key, NULL, &x, &y, GNUTLS_EXPORT_FLAG_NO_LZ));
    if (x.size > 32 || y.size > 32) abort();
    memcpy(point + 1 + 32 - x.size, x.data, x.size);
    memcpy(point + 33 + 32 - y.size, y.data, y.size);
    must(gnutls_hash_fast(GNUTLS_DIG_SHA1, point, sizeof point, out));
    gnutls_free(x.data);
    gnutls_free(y.data);
    gnutls_pubkey_deinit(key);
}

/* CertID (RFC 6960 section 4.1.1). */
static void put_cert_id(struct der *d, gnutls_x509_crt_t issuer, gnutls_x509_crt_t crt) {
    static const unsigned char sha1[] = {0x30, 9, 6, 5, 0x2b, 14, 3, 2, 26, 5, 0};
    unsigned char hash[20], serial[64];
    size_t n = sizeof serial;
    gnutls_datum_t name;
    const unsigned char *end = d->at;
    must(gnutls_x509_crt_get_serial(crt, serial, &n));
    put_as(d, 2, serial, n);
    key_hash(issuer, hash);
    put_as(d, 4, hash, sizeof hash);
    must(gnutls_x509_crt_get_raw_issuer_dn(crt, &name));
    must(gnutls_hash_fast(GNUTLS_DIG_SHA1, name.data, name.size, hash));
    gnutls_free(name.data);
    put_as(d, 4, hash, sizeof hash);
    put(d, sha1, sizeof sha1);
    head(d, 0x30, end);
}

/* ResponseData with one SingleResponse. */
static void put_data(struct der *d, gnutls_x509_crt_t issuer, gnutls_x509_crt_t crt, bool revoked) {
    time_t now = time(NULL);
    gnutls_datum_t name;
    const unsigned char *end = d->at, *at = d->at;
    put_time(d, now + TESTCA_DAY);
    head(d, 0xa0, at); /* nextUpdate */
    put_time(d, now - 3600);
    at = d->at;
    if (revoked) put_time(d, now - TESTCA_DAY);
    head(d, revoked ? 0xa1 : 0x80, at); /* certStatus */
    put_cert_id(d, issuer, crt);
    head(d, 0x30, end);
    head(d, 0x30, end);
    put_time(d, now - 3600); /* producedAt */
    at = d->at;
    must(gnutls_x509_crt_get_raw_dn(issuer, &name));
    put(d, name.data, name.size);
    gnutls_free(name.data);
    head(d, 0xa1, at); /* responderID */
    head(d, 0x30, end);
}

static size_t sign(const unsigned char *p, size_t n, gnutls_x509_privkey_t key, unsigned char *out, size_t cap) {
    gnutls_privkey_t k;
    gnutls_datum_t data = {(unsigned char *)p, (unsigned)n}, signature;
    must(gnutls_privkey_init(&k));
    must(gnutls_privkey_import_x509(k, key, 0));
    must(gnutls_privkey_sign_data(k, GNUTLS_DIG_SHA256, 0, &data, &signature));
    if (signature.size + 1 > cap) abort();
    out[0] = 0; /* no unused bits */
    memcpy(out + 1, signature.data, signature.size);
    size_t len = signature.size + 1;
    gnutls_free(signature.data);
    gnutls_privkey_deinit(k);
    return len;
}

unsigned char *testca_ocsp(const struct testca *ca, const char *cert_pem, bool revoked, size_t *n) {
    static const unsigned char ecdsa_sha256[] = {0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2};
    static const unsigned char basic[] = {6, 9, 0x2b, 6, 1, 5, 5, 7, 48, 1, 1}, successful[] = {10, 1, 0};
    struct der data, d;
    unsigned char signature[256];
    gnutls_x509_crt_t crt;
    gnutls_datum_t text = {(unsigned char *)cert_pem, (unsigned)strlen(cert_pem)};
    const unsigned char *data_end = data.at = data.p + sizeof data.p, *end = d.at = d.p + sizeof d.p;

    must(gnutls_x509_crt_init(&crt));
    must(gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM));
    put_data(&data, ca->crt, crt, revoked);
    gnutls_x509_crt_deinit(crt);
    size_t data_n = (size_t)(data_end - data.at);
    put_as(&d, 3, signature, sign(data.at, data_n, ca->key, signature, sizeof signature));
    put(&d, ecdsa_sha256, sizeof ecdsa_sha256);
    put(&d, data.at, data_n);
    head(&d, 0x30, end); /* BasicOCSPResponse */
    head(&d, 4, end);
    put(&d, basic, sizeof basic);
    head(&d, 0x30, end);
    head(&d, 0xa0, end);
    put(&d, successful, sizeof successful);
    head(&d, 0x30, end);
    *n = (size_t)(end - d.at);
    unsigned char *out = malloc(*n);
    if (!out) abort();
    memcpy(out, d.at, *n);
    return out;
}
