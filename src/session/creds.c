#include "session/creds.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "session/creds_tickets.h"
#include "session/creds_why.h"
#include "session/session.h"

/* Where the distribution keeps the store that GnuTLS loads. */
#define SYSTEM_STORE "/etc/ssl/certs/ca-certificates.crt"
#define TRUST_MAX 1024 /* certificates in one trust_pem: a whole system store is about 150 */
#define PEM_BEGIN "-----BEGIN "
#define PEM_END "-----END "

/* AEAD suites with ephemeral keys only: RFC 9113 section 9.2.2 forbids the rest. */
#define SUITES "-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:-MAC-ALL:+AEAD"
#define GROUPS "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"
/* Certificates: RSA from 2048 bits, no SHA-1. */
#define LEVEL "%PROFILE_MEDIUM"
#define PRIORITY_TCP "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-DHE-RSA:" SUITES ":" GROUPS ":" LEVEL
#define PRIORITY_QUIC "NORMAL:-VERS-ALL:+VERS-TLS1.3:" SUITES ":" GROUPS ":" LEVEL ":%DISABLE_TLS13_COMPAT_MODE"

struct creds {
    unsigned refs;
    bool server, skip_verification, has_certificate;
    char *hostname, *sni;
    struct addr ip; /* the hostname, when it is an IP */
    gnutls_certificate_credentials_t cred;
    gnutls_priority_t tcp, quic;
    gnutls_datum_t *trusted; /* DER of every certificate of trust_pem */
    unsigned n_trusted;
    uint8_t random_prefix[CREDS_RANDOM_MAX], random_mask[CREDS_RANDOM_MAX];
    size_t random_len;
    struct creds_pin pins[CREDS_PINS_MAX];
    size_t n_pins;
    struct creds_tickets *tickets; /* client */
    uint8_t *staple; /* server */
    size_t staple_len;
    gnutls_datum_t ticket_key;     /* server: what its tickets are sealed with; empty: it sends none */
};

__attribute__((format(printf, 3, 4))) static void say(char *why, size_t cap, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, cap, fmt, ap);
    va_end(ap);
}

/* ---- trust ---- */

/* A certificate of the trust PEM, as far as the first failure. */
static int trust_add(struct creds *c, const char *pem, size_t n, char *why, size_t cap) {
    gnutls_x509_crt_t crt;
    gnutls_datum_t text = {(unsigned char *)pem, (unsigned)n}, der;

    if (c->n_trusted >= TRUST_MAX) {
        say(why, cap, "the trusted certificates are more than %d", TRUST_MAX);
        return ERR_CONFIG;
    }
    if (gnutls_x509_crt_init(&crt) < 0) return ERR_NO_MEMORY;
    int rv = gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM);
    if (rv >= 0) rv = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der);
    if (rv < 0) {
        gnutls_x509_crt_deinit(crt);
        say(why, cap, "certificate %u of the trusted ones cannot be read: %s", c->n_trusted + 1,
            gnutls_strerror(rv));
        return rv == GNUTLS_E_MEMORY_ERROR ? ERR_NO_MEMORY : ERR_CONFIG;
    }
    gnutls_datum_t *more = realloc(c->trusted, (c->n_trusted + 1) * sizeof *more);
    if (!more) {
        gnutls_free(der.data);
        gnutls_x509_crt_deinit(crt);
        return ERR_NO_MEMORY;
    }
    c->trusted = more;
    c->trusted[c->n_trusted++] = der;
    /* Makes its own copy. */
    rv = gnutls_certificate_set_x509_trust(c->cred, &crt, 1);
    gnutls_x509_crt_deinit(crt);
    return rv < 0 ? ERR_NO_MEMORY : 0;
}

/* Text between two blocks is a comment; a block that is no certificate, a cut one, and anything but blanks after
 * the last one are errors: a damaged or wrong file must not pass as a smaller one. */
static int trust_from_pem(struct creds *c, const char *pem, char *why, size_t cap) {
    const char *at = pem;
    for (;;) {
        const char *begin = strstr(at, PEM_BEGIN);
        if (!begin) break;
        const char *label = begin + sizeof PEM_BEGIN - 1;
        if (strncmp(label, "CERTIFICATE-----", 16) != 0 && strncmp(label, "X509 CERTIFICATE-----", 21) != 0) {
            say(why, cap, "the trusted certificates hold a block that is not a certificate (after %u of them)",
                c->n_trusted);
            return ERR_CONFIG;
        }
        const char *end = strstr(label, PEM_END), *next = strstr(label, PEM_BEGIN);
        if (!end || (next && next < end)) {
            say(why, cap, "certificate %u of the trusted ones is cut short", c->n_trusted + 1);
            return ERR_CONFIG;
        }
        end += strcspn(end, "\r\n");
        int rv = trust_add(c, begin, (size_t)(end - begin), why, cap);
        if (rv < 0) return rv;
        at = end;
    }
    if (!c->n_trusted) {
        say(why, cap, "the trusted certificates hold no certificate in PEM form");
        return ERR_CONFIG;
    }
    if (at[strspn(at, " \t\r\n")]) {
        say(why, cap, "there is something that is not a certificate after certificate %u of the trusted ones",
            c->n_trusted);
        return ERR_CONFIG;
    }
    return 0;
}

static int trust_load(struct creds *c, const struct creds_config *cfg, char *why, size_t cap) {
    if (cfg->trust_pem) return trust_from_pem(c, cfg->trust_pem, why, cap);
    int n = gnutls_certificate_set_x509_system_trust(c->cred);
    if (n > 0 || c->skip_verification) return 0;
    if (n == GNUTLS_E_MEMORY_ERROR) return ERR_NO_MEMORY;
    say(why, cap, "the system's certificate store %s is missing or empty (package ca-certificates)%s%s",
        SYSTEM_STORE, n < 0 ? ": " : "", n < 0 ? gnutls_strerror(n) : "");
    return ERR_CONFIG;
}

/* ---- what is configured ---- */

static int copy_names(struct creds *c, const struct creds_config *cfg, char *why, size_t cap) {
    if (!c->server && !cfg->skip_verification && (!cfg->hostname || !*cfg->hostname)) {
        say(why, cap, "without a host name the certificate cannot be verified");
        return ERR_CONFIG;
    }
    if (cfg->hostname && !(c->hostname = strdup(cfg->hostname))) return ERR_NO_MEMORY;
    if (cfg->sni && !(c->sni = strdup(cfg->sni))) return ERR_NO_MEMORY;
    size_t n = c->hostname ? strlen(c->hostname) : 0;
    if (n > 1 && c->hostname[n - 1] == '.') c->hostname[n - 1] = 0;
    if (c->hostname && addr_parse_ip(&c->ip, c->hostname, 0) < 0) c->ip.len = 0;
    if (cfg->random_len > CREDS_RANDOM_MAX) {
        say(why, cap, "client_random is longer than %d bytes", CREDS_RANDOM_MAX);
        return ERR_CONFIG;
    }
    c->random_len = cfg->random_len;
    memcpy(c->random_prefix, cfg->random_prefix, sizeof c->random_prefix);
    memcpy(c->random_mask, cfg->random_mask, sizeof c->random_mask);
    return 0;
}

static int copy_pins(struct creds *c, const struct creds_config *cfg, char *why, size_t cap) {
    if (cfg->n_pins > CREDS_PINS_MAX) {
        say(why, cap, "there are more than %d pins", CREDS_PINS_MAX);
        return ERR_CONFIG;
    }
    c->n_pins = cfg->n_pins;
    if (c->n_pins) memcpy(c->pins, cfg->pins, c->n_pins * sizeof *c->pins);
    return 0;
}

/* By a function, since the library itself would not send one that revokes. */
static int staple(gnutls_session_t tls, void *arg, gnutls_datum_t *out) {
    const struct creds *c = arg;
    (void)tls;
    out->data = gnutls_malloc(c->staple_len);
    if (!out->data) return GNUTLS_E_MEMORY_ERROR;
    memcpy(out->data, c->staple, c->staple_len);
    out->size = (unsigned)c->staple_len;
    return 0;
}

static int copy_staple(struct creds *c, const struct creds_config *cfg) {
    if (!cfg->staple) return 0;
    c->staple = malloc(cfg->staple_len);
    if (!c->staple) return ERR_NO_MEMORY;
    memcpy(c->staple, cfg->staple, cfg->staple_len);
    c->staple_len = cfg->staple_len;
    gnutls_certificate_set_ocsp_status_request_function(c->cred, staple, c);
    return 0;
}

static int own_certificate(struct creds *c, const struct creds_config *cfg, char *why, size_t cap) {
    if (!cfg->certificate_pem && !cfg->key_pem) {
        if (!c->server) return 0;
        say(why, cap, "a server needs a certificate and its key");
        return ERR_CONFIG;
    }
    if (!cfg->certificate_pem || !cfg->key_pem) {
        say(why, cap, "a certificate and its key must be given together");
        return ERR_CONFIG;
    }
    gnutls_datum_t cert = {(unsigned char *)cfg->certificate_pem, (unsigned)strlen(cfg->certificate_pem)};
    gnutls_datum_t key = {(unsigned char *)cfg->key_pem, (unsigned)strlen(cfg->key_pem)};
    int rv = gnutls_certificate_set_x509_key_mem2(c->cred, &cert, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
    c->has_certificate = rv >= 0;
    if (rv >= 0) return copy_staple(c, cfg);
    if (rv == GNUTLS_E_MEMORY_ERROR) return ERR_NO_MEMORY;
    say(why, cap, "the own certificate or its key is not usable: %s", gnutls_strerror(rv));
    return ERR_CONFIG;
}

/* ---- tickets ---- */

static int hash_field(gnutls_hash_hd_t h, const void *p, size_t n) {
    uint8_t head[9] = {p != NULL};
    for (int i = 0; i < 8; i++) head[1 + i] = (uint8_t)((uint64_t)n >> (8 * i));
    int rv = gnutls_hash(h, head, sizeof head);
    return rv >= 0 && n ? gnutls_hash(h, p, n) : rv;
}

static int hash_text(gnutls_hash_hd_t h, const char *s) { return hash_field(h, s, s ? strlen(s) : 0); }

/* Of all that the judgement of a certificate depends on, and of who we are: a ticket must not be used where any of it
 * is different. The version counts because the bytes of a ticket are GnuTLS's own. */
static int make_identity(const struct creds *c, const struct creds_config *cfg, uint8_t out[TICKETS_IDENTITY]) {
    gnutls_hash_hd_t h;
    const uint8_t flags[] = {c->skip_verification};
    if (gnutls_hash_init(&h, GNUTLS_DIG_SHA256) < 0) return ERR_NO_MEMORY;
    int rv = hash_text(h, gnutls_check_version(NULL));
    if (rv >= 0) rv = hash_text(h, c->hostname);
    if (rv >= 0) rv = hash_text(h, c->sni);
    if (rv >= 0) rv = hash_text(h, cfg->trust_pem);
    if (rv >= 0) rv = hash_text(h, cfg->certificate_pem);
    if (rv >= 0) rv = hash_text(h, cfg->key_pem);
    if (rv >= 0) rv = hash_field(h, flags, sizeof flags);
    for (size_t i = 0; rv >= 0 && i < c->n_pins; i++) {
        const uint8_t kind = c->pins[i].certificate;
        rv = hash_field(h, &kind, 1);
        if (rv >= 0) rv = hash_field(h, c->pins[i].sha256, CREDS_PIN_LEN);
    }
    gnutls_hash_deinit(h, out);
    return rv < 0 ? ERR_NO_MEMORY : 0;
}

static int make_tickets(struct creds *c, const struct creds_config *cfg) {
    uint8_t identity[TICKETS_IDENTITY];
    if (c->server) {
        if (!cfg->tickets || gnutls_session_ticket_key_generate(&c->ticket_key) >= 0) return 0;
        c->ticket_key = (gnutls_datum_t){NULL, 0};
        return ERR_NO_MEMORY;
    }
    if (make_identity(c, cfg, identity) < 0) return ERR_NO_MEMORY;
    c->tickets = creds_tickets_new(identity);
    return c->tickets ? 0 : ERR_NO_MEMORY;
}

int creds_export_tickets(const struct creds *c, uint8_t **p, size_t *n) {
    return creds_tickets_export(c->tickets, time(NULL), p, n);
}

int creds_import_tickets(struct creds *c, const void *p, size_t n, const char **why) {
    return creds_tickets_import(c->tickets, p, n, time(NULL), why);
}

void creds_move_tickets(struct creds *from, struct creds *to) { creds_tickets_move(from->tickets, to->tickets); }

bool creds_sends_tickets(const struct creds *c) { return c->ticket_key.data != NULL; }

/* ---- life ---- */

static void blame(const struct creds_config *cfg, enum creds_fault fault) {
    if (cfg->fault) *cfg->fault = fault;
}

static int fill(struct creds *c, const struct creds_config *cfg, char *why, size_t cap) {
    blame(cfg, CREDS_FAULT_OTHER);
    int rv = copy_names(c, cfg, why, cap);
    if (rv >= 0) rv = copy_pins(c, cfg, why, cap);
    if (rv < 0) return rv;
    if (gnutls_certificate_allocate_credentials(&c->cred) < 0) {
        c->cred = NULL;
        return ERR_NO_MEMORY;
    }
    blame(cfg, CREDS_FAULT_CERTIFICATE);
    rv = own_certificate(c, cfg, why, cap);
    if (rv < 0) return rv;
    blame(cfg, CREDS_FAULT_TRUST);
    if (!c->server || cfg->trust_pem) rv = trust_load(c, cfg, why, cap);
    if (rv < 0) return rv;
    blame(cfg, CREDS_FAULT_OTHER);
    rv = make_tickets(c, cfg);
    if (rv < 0) return rv;
    /* A chain that needs more than this many certificates is not one of ours. */
    gnutls_certificate_set_verify_limits(c->cred, 16384, 10);
    if (gnutls_priority_init(&c->tcp, PRIORITY_TCP, NULL) < 0) {
        c->tcp = NULL;
        say(why, cap, "this GnuTLS does not offer TLS 1.2 and 1.3 with the needed ciphers");
        return ERR_CONFIG;
    }
    if (gnutls_priority_init(&c->quic, PRIORITY_QUIC, NULL) < 0) {
        c->quic = NULL;
        say(why, cap, "this GnuTLS does not offer TLS 1.3 with the needed ciphers");
        return ERR_CONFIG;
    }
    return 0;
}

int creds_new(struct creds **out, const struct creds_config *cfg, char *why, size_t cap) {
    *out = NULL;
    if (cap) why[0] = 0;
    struct creds *c = calloc(1, sizeof *c);
    if (!c) {
        say(why, cap, "out of memory");
        return ERR_NO_MEMORY;
    }
    c->refs = 1;
    c->server = cfg->server;
    c->skip_verification = cfg->skip_verification;
    int rv = fill(c, cfg, why, cap);
    if (rv < 0) {
        if (rv == ERR_NO_MEMORY) say(why, cap, "out of memory");
        creds_unref(c);
        return rv;
    }
    *out = c;
    return 0;
}

struct creds *creds_ref(struct creds *c) {
    if (c) c->refs++;
    return c;
}

void creds_unref(struct creds *c) {
    if (!c || --c->refs) return;
    if (c->tcp) gnutls_priority_deinit(c->tcp);
    if (c->quic) gnutls_priority_deinit(c->quic);
    if (c->cred) gnutls_certificate_free_credentials(c->cred);
    for (unsigned i = 0; i < c->n_trusted; i++) gnutls_free(c->trusted[i].data);
    free(c->trusted);
    creds_tickets_free(c->tickets);
    free(c->staple);
    if (c->ticket_key.data) gnutls_memset(c->ticket_key.data, 0, c->ticket_key.size);
    gnutls_free(c->ticket_key.data);
    free(c->hostname);
    free(c->sni);
    free(c);
}

/* ---- verification ---- */

static bool is_trusted_leaf(const struct creds *c, const gnutls_datum_t *leaf) {
    for (unsigned i = 0; i < c->n_trusted; i++) {
        const gnutls_datum_t *t = &c->trusted[i];
        if (t->size == leaf->size && memcmp(t->data, leaf->data, leaf->size) == 0) return true;
    }
    return false;
}

/* RFC 9525: only subject alternative names count, and an IP only matches an IP. GnuTLS falls back to the common
 * name for a certificate without DNS names, so those are refused here first. */
static bool name_fits(const struct creds *c, gnutls_x509_crt_t leaf) {
    if (c->ip.len) {
        if (c->ip.u.sa.sa_family == AF_INET)
            return gnutls_x509_crt_check_ip(leaf, (const unsigned char *)&c->ip.u.in.sin_addr, 4, 0);
        return gnutls_x509_crt_check_ip(leaf, (const unsigned char *)&c->ip.u.in6.sin6_addr, 16, 0);
    }
    for (unsigned i = 0;; i++) {
        char name[512];
        size_t n = sizeof name;
        int rv = gnutls_x509_crt_get_subject_alt_name(leaf, i, name, &n, NULL);
        if (rv == GNUTLS_SAN_DNSNAME) break;
        if (rv < 0 && rv != GNUTLS_E_SHORT_MEMORY_BUFFER) return false;
    }
    return gnutls_x509_crt_check_hostname2(leaf, c->hostname, 0) != 0;
}

/* The dates of a certificate that is itself trusted; its signature means nothing then. */
static unsigned dates_status(gnutls_x509_crt_t crt) {
    time_t now = time(NULL);
    if (gnutls_x509_crt_get_expiration_time(crt) < now) return GNUTLS_CERT_INVALID | GNUTLS_CERT_EXPIRED;
    if (gnutls_x509_crt_get_activation_time(crt) > now) return GNUTLS_CERT_INVALID | GNUTLS_CERT_NOT_ACTIVATED;
    return 0;
}

static int judge(struct creds *c, gnutls_session_t tls, struct creds_chain *chain, char *why, size_t cap) {
    unsigned status = 0;
    if (is_trusted_leaf(c, &chain->der[0])) {
        status = dates_status(chain->leaf);
    } else {
        gnutls_typed_vdata_st purpose = {GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_SERVER, 0};
        int rv = gnutls_certificate_verify_peers(tls, &purpose, 1, &status);
        if (rv < 0) {
            say(why, cap, "the certificate could not be verified: %s", gnutls_strerror(rv));
            return ERR_UPSTREAM_CERTIFICATE;
        }
    }
    const unsigned dates = GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED | GNUTLS_CERT_REVOKED;
    if (status & dates) {
        creds_why_status(chain, status & dates, why, cap);
    } else if (!c->hostname || !name_fits(c, chain->leaf)) {
        creds_why_name(chain, c->hostname ? c->hostname : "", status != 0, why, cap);
    } else if (status) {
        creds_why_status(chain, status, why, cap);
    } else {
        return 0;
    }
    return ERR_UPSTREAM_CERTIFICATE;
}

/* Only the peer's own certificate counts: whatever else it sends it may have from anywhere. */
static int check_pins(const struct creds *c, const struct creds_chain *chain, char *why, size_t cap) {
    uint8_t key[CREDS_PIN_LEN], whole[CREDS_PIN_LEN];
    size_t n = sizeof key;
    if (!c->n_pins) return 0;
    if (gnutls_x509_crt_get_key_id(chain->leaf, GNUTLS_KEYID_USE_SHA256, key, &n) < 0 || n != sizeof key ||
        gnutls_hash_fast(GNUTLS_DIG_SHA256, chain->der[0].data, chain->der[0].size, whole) < 0) {
        say(why, cap, "pin mismatch: the public key of the certificate cannot be read");
        return ERR_UPSTREAM_CERTIFICATE;
    }
    for (size_t i = 0; i < c->n_pins; i++)
        if (memcmp(c->pins[i].sha256, c->pins[i].certificate ? whole : key, CREDS_PIN_LEN) == 0) return 0;
    creds_why_pin(key, sizeof key, c->n_pins, why, cap);
    return ERR_UPSTREAM_CERTIFICATE;
}

int creds_verify(struct creds *c, struct gnutls_session_int *tls, bool *unverified, char *why, size_t cap) {
    struct creds_chain chain = {.custom = c->n_trusted > 0};
    *unverified = false;
    if (cap) why[0] = 0;
    chain.der = gnutls_certificate_get_peers(tls, &chain.count);
    if (!chain.der || !chain.count) {
        say(why, cap, "the upstream sent no certificate");
        return ERR_UPSTREAM_CERTIFICATE;
    }
    int rv;
    if (gnutls_x509_crt_init(&chain.leaf) < 0) return ERR_NO_MEMORY;
    if (gnutls_x509_crt_import(chain.leaf, &chain.der[0], GNUTLS_X509_FMT_DER) < 0) {
        say(why, cap, "the upstream's certificate cannot be read");
        rv = ERR_UPSTREAM_CERTIFICATE;
    } else {
        rv = c->skip_verification && c->n_pins ? 0 : judge(c, tls, &chain, why, cap);
        if (rv == 0) rv = check_pins(c, &chain, why, cap);
    }
    gnutls_x509_crt_deinit(chain.leaf);
    if (rv == ERR_UPSTREAM_CERTIFICATE && c->skip_verification && !c->n_pins) {
        *unverified = true;
        rv = 0;
    }
    return rv;
}

static int verify_hook(gnutls_session_t tls) {
    struct creds_verdict *v = gnutls_db_get_ptr(tls);
    v->judged = true;
    v->err = (enum err)creds_verify(v->creds, tls, &v->unverified, v->why, sizeof v->why);
    if (v->err == ERR_OK) return 0;
    return v->err == ERR_NO_MEMORY ? GNUTLS_E_MEMORY_ERROR : GNUTLS_E_CERTIFICATE_ERROR;
}

/* ---- handshakes ---- */

static int apply_random(const struct creds *c, gnutls_session_t tls) {
    uint8_t random[32];
    if (!c->random_len) return 0;
    if (gnutls_rnd(GNUTLS_RND_NONCE, random, sizeof random) < 0) return ERR_UPSTREAM_TLS;
    for (size_t i = 0; i < c->random_len; i++) {
        uint8_t mask = c->random_mask[i];
        random[i] = (uint8_t)((random[i] & ~mask) | (c->random_prefix[i] & mask));
    }
    gnutls_datum_t d = {random, sizeof random};
    return gnutls_handshake_set_random(tls, &d) < 0 ? ERR_UPSTREAM_TLS : 0;
}

static int apply_client(struct creds *c, gnutls_session_t tls) {
    const char *sni = c->sni ? c->sni : c->hostname;
    struct addr literal;
    if (sni && *sni && addr_parse_ip(&literal, sni, 0) < 0) {
        int rv = gnutls_server_name_set(tls, GNUTLS_NAME_DNS, sni, strlen(sni));
        if (rv < 0) return rv == GNUTLS_E_MEMORY_ERROR ? ERR_NO_MEMORY : ERR_UPSTREAM_TLS;
    }
    gnutls_session_set_verify_function(tls, verify_hook);
    return apply_random(c, tls);
}

/* The first of the chain's certificates to expire; the ticket is worth nothing after that. */
static int64_t chain_until(gnutls_session_t tls) {
    unsigned n = 0;
    const gnutls_datum_t *der = gnutls_certificate_get_peers(tls, &n);
    int64_t until = INT64_MAX;
    for (unsigned i = 0; der && i < n; i++) {
        gnutls_x509_crt_t crt;
        if (gnutls_x509_crt_init(&crt) < 0) return 0;
        int64_t end = gnutls_x509_crt_import(crt, &der[i], GNUTLS_X509_FMT_DER) < 0
                          ? 0 : (int64_t)gnutls_x509_crt_get_expiration_time(crt);
        gnutls_x509_crt_deinit(crt);
        if (end < until) until = end;
    }
    return der && n ? until : 0;
}

/* A NewSessionTicket came. Not being able to keep it is no error. */
static int ticket_hook(gnutls_session_t tls, unsigned type, unsigned when, unsigned incoming,
                       const gnutls_datum_t *message) {
    struct creds_verdict *v = gnutls_db_get_ptr(tls);
    gnutls_datum_t d;
    (void)type;
    (void)when;
    (void)message;
    if (!incoming || !v->concluded || gnutls_protocol_get_version(tls) != GNUTLS_TLS1_3) return 0;
    if (gnutls_session_get_data2(tls, &d) < 0) return 0;
    creds_tickets_put(v->creds->tickets, v->quic, d.data, d.size, chain_until(tls), time(NULL));
    gnutls_memset(d.data, 0, d.size);
    gnutls_free(d.data);
    return 0;
}

static void offer_ticket(struct creds *c, gnutls_session_t tls, struct creds_verdict *v) {
    size_t n;
    uint8_t *p = creds_tickets_take(c->tickets, v->quic, time(NULL), &n);
    gnutls_handshake_set_hook_function(tls, GNUTLS_HANDSHAKE_NEW_SESSION_TICKET, GNUTLS_HOOK_POST, ticket_hook);
    if (!p) return;
    v->offered = gnutls_session_set_data(tls, p, n) >= 0;
    creds_ticket_free(p, n);
}

int creds_conclude(struct creds_verdict *v, struct gnutls_session_int *tls) {
    v->resumed = gnutls_session_is_resumed(tls) != 0;
    if (!v->judged) verify_hook(tls);
    v->concluded = v->err == ERR_OK;
    return (int)v->err;
}

void creds_release(struct creds_verdict *v) {
    if (v->offered && !v->concluded) creds_tickets_clear(v->creds->tickets, v->quic);
    v->offered = false;
}

/* Clients with a certificate only. */
static int verify_client(gnutls_session_t tls) {
    gnutls_typed_vdata_st purpose = {GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT, 0};
    unsigned status = 0;
    int rv = gnutls_certificate_verify_peers(tls, &purpose, 1, &status);
    return rv < 0 || status ? GNUTLS_E_CERTIFICATE_ERROR : 0;
}

static int apply_server(struct creds *c, gnutls_session_t tls) {
    if (c->ticket_key.data && gnutls_session_ticket_enable_server(tls, &c->ticket_key) < 0) return ERR_UPSTREAM_TLS;
    if (!c->n_trusted) return 0;
    gnutls_certificate_server_set_request(tls, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_function(tls, verify_client);
    return 0;
}

/* A certificate that is configured is shown whatever issuers the peer names: it says better what is wrong with it. */
unsigned creds_flags(const struct creds *c, bool quic) {
    if (!c->server) return c->has_certificate ? GNUTLS_FORCE_CLIENT_CERT : 0;
    if (!quic) return 0;
    return GNUTLS_NO_AUTO_SEND_TICKET | (c->ticket_key.data ? 0 : GNUTLS_NO_TICKETS);
}

int creds_apply(struct creds *c, struct gnutls_session_int *tls, bool quic, struct creds_verdict *v) {
    *v = (struct creds_verdict){.creds = c, .quic = quic};
    gnutls_db_set_ptr(tls, v);
    if (gnutls_priority_set(tls, quic ? c->quic : c->tcp) < 0) return ERR_UPSTREAM_TLS;
    if (gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, c->cred) < 0) return ERR_NO_MEMORY;
    int rv = c->server ? apply_server(c, tls) : apply_client(c, tls);
    if (rv == 0 && !c->server) offer_ticket(c, tls, v);
    return rv;
}

const char *session_tls_library_version(void) { return gnutls_check_version(NULL); }
