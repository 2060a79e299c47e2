#include "session/creds_why.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NAMES_SHOWN 4
#define NAME_SHOWN 40 /* bytes of one name */
#define DN_SHOWN 80

/* Appends; what does not fit is cut. */
__attribute__((format(printf, 3, 4))) static void add(char *to, size_t cap, const char *fmt, ...) {
    size_t at = strnlen(to, cap);
    if (at + 1 >= cap) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(to + at, cap - at, fmt, ap);
    va_end(ap);
}

/* Foreign text as printable ASCII without quotes; a name cut short ends in "...". */
static const char *plain(const void *text, size_t n, char *out, size_t cap) {
    const unsigned char *t = text;
    size_t at = 0;
    for (size_t i = 0; i < n && at + 4 < cap; i++)
        out[at++] = t[i] >= 0x20 && t[i] < 0x7f && t[i] != '"' && t[i] != '\\' ? (char)t[i] : '?';
    if (at < n) {
        memcpy(out + at, "...", 3);
        at += 3;
    }
    out[at] = 0;
    return out;
}

static const char *day(time_t t, char *out, size_t cap) {
    struct tm tm;
    if (t == (time_t)-1 || !gmtime_r(&t, &tm) || !strftime(out, cap, "%Y-%m-%d %H:%M UTC", &tm))
        snprintf(out, cap, "an unknown date");
    return out;
}

static const char *dn(gnutls_x509_crt_t crt, int (*get)(gnutls_x509_crt_t, gnutls_datum_t *, unsigned), char *out,
                      size_t cap) {
    gnutls_datum_t d;
    if (get(crt, &d, 0) < 0) {
        snprintf(out, cap, "an unnamed one");
        return out;
    }
    plain(d.data, d.size, out, cap);
    if (!d.size) snprintf(out, cap, "an unnamed one");
    gnutls_free(d.data);
    return out;
}

/* ---- dates ---- */

static bool out_of_date(gnutls_x509_crt_t crt, bool expired) {
    time_t now = time(NULL);
    if (expired) return gnutls_x509_crt_get_expiration_time(crt) < now;
    return gnutls_x509_crt_get_activation_time(crt) > now;
}

static void say_date(gnutls_x509_crt_t crt, const char *whose, bool expired, char *why, size_t cap) {
    char when[40], today[40];
    day(expired ? gnutls_x509_crt_get_expiration_time(crt) : gnutls_x509_crt_get_activation_time(crt), when,
        sizeof when);
    day(time(NULL), today, sizeof today);
    if (expired)
        add(why, cap, "%s expired on %s (is the clock right? It says %s)", whose, when, today);
    else
        add(why, cap, "%s is not valid before %s (is the clock right? It says %s)", whose, when, today);
}

static void why_dates(const struct creds_chain *chain, bool expired, char *why, size_t cap) {
    if (out_of_date(chain->leaf, expired)) {
        say_date(chain->leaf, "the certificate", expired, why, cap);
        return;
    }
    for (unsigned i = 1; i < chain->count; i++) {
        gnutls_x509_crt_t crt;
        if (gnutls_x509_crt_init(&crt) < 0) break;
        bool found = gnutls_x509_crt_import(crt, &chain->der[i], GNUTLS_X509_FMT_DER) >= 0;
        if (found) found = out_of_date(crt, expired);
        char name[DN_SHOWN], whose[DN_SHOWN + 32];
        if (found) {
            dn(crt, gnutls_x509_crt_get_dn3, name, sizeof name);
            snprintf(whose, sizeof whose, "the issuer's certificate (%s)", name);
            say_date(crt, whose, expired, why, cap);
        }
        gnutls_x509_crt_deinit(crt);
        if (found) return;
    }
    add(why, cap, "a trusted certificate of the chain %s (is the clock right?)",
        expired ? "has expired" : "is not valid yet");
}

/* ---- chains ---- */

static bool self_issued(gnutls_x509_crt_t crt) { return gnutls_x509_crt_check_issuer(crt, crt) != 0; }

static void why_unknown_issuer(const struct creds_chain *chain, char *why, size_t cap) {
    char name[DN_SHOWN];
    const char *trust = chain->custom ? "the configured certificates" : "the system's trusted certificates";
    if (self_issued(chain->leaf)) {
        add(why, cap, "self-signed: the certificate of %s was issued by itself and is not among %s",
            dn(chain->leaf, gnutls_x509_crt_get_dn3, name, sizeof name), trust);
        return;
    }
    gnutls_x509_crt_t last;
    if (gnutls_x509_crt_init(&last) < 0) return;
    if (gnutls_x509_crt_import(last, &chain->der[chain->count - 1], GNUTLS_X509_FMT_DER) < 0) {
        add(why, cap, "chain incomplete: the last of %u certificates cannot be read", chain->count);
    } else if (self_issued(last)) {
        add(why, cap, "unknown issuer: the chain of %u certificates ends at %s, which is not among %s",
            chain->count, dn(last, gnutls_x509_crt_get_dn3, name, sizeof name), trust);
    } else {
        dn(last, gnutls_x509_crt_get_issuer_dn3, name, sizeof name);
        add(why, cap, "chain incomplete: the endpoint sent %u certificate%s, the issuer %s is neither among them nor "
                      "among %s",
            chain->count, chain->count == 1 ? "" : "s", name, trust);
    }
    gnutls_x509_crt_deinit(last);
}

static void why_weak(const struct creds_chain *chain, char *why, size_t cap) {
    unsigned bits = 0;
    int pk = gnutls_x509_crt_get_pk_algorithm(chain->leaf, &bits);
    const char *key = pk < 0 ? NULL : gnutls_pk_get_name((gnutls_pk_algorithm_t)pk);
    int sign = gnutls_x509_crt_get_signature_algorithm(chain->leaf);
    const char *signature = sign < 0 ? NULL : gnutls_sign_get_name((gnutls_sign_algorithm_t)sign);
    add(why, cap, "weak algorithm in the chain (the certificate has a %u-bit %s key and is signed with %s)", bits,
        key ? key : "unknown", signature ? signature : "an unknown algorithm");
}

void creds_why_status(const struct creds_chain *chain, unsigned status, char *why, size_t cap) {
    if (cap) why[0] = 0;
    if (status & GNUTLS_CERT_REVOKED)
        add(why, cap, "revoked: the issuer has withdrawn the certificate");
    else if (status & GNUTLS_CERT_EXPIRED)
        why_dates(chain, true, why, cap);
    else if (status & GNUTLS_CERT_NOT_ACTIVATED)
        why_dates(chain, false, why, cap);
    else if ((status & GNUTLS_CERT_SIGNER_NOT_FOUND) ||
             ((status & GNUTLS_CERT_SIGNER_NOT_CA) && self_issued(chain->leaf)))
        why_unknown_issuer(chain, why, cap);
    else if (status & GNUTLS_CERT_SIGNER_NOT_CA)
        add(why, cap, "the certificate was issued by one that may not issue certificates");
    else if (status & GNUTLS_CERT_INSECURE_ALGORITHM)
        why_weak(chain, why, cap);
    else if (status & GNUTLS_CERT_SIGNATURE_FAILURE)
        add(why, cap, "a signature in the chain is wrong");
    else if (status & GNUTLS_CERT_PURPOSE_MISMATCH)
        add(why, cap, "the certificate is not meant for servers");
    else if (status & GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE)
        add(why, cap, "the issuer's constraints do not allow this certificate");
    else if (status & (GNUTLS_CERT_MISSING_OCSP_STATUS | GNUTLS_CERT_INVALID_OCSP_STATUS))
        add(why, cap, "the certificate's revocation status (OCSP) is missing or invalid");
    if (cap && why[0]) return;
    gnutls_datum_t d;
    if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &d, 0) < 0) {
        add(why, cap, "the certificate is invalid (status 0x%x)", status);
        return;
    }
    char text[160];
    add(why, cap, "%s", plain(d.data, d.size, text, sizeof text));
    gnutls_free(d.data);
}

/* ---- names ---- */

/* The text of one subject alternative name that could have matched; NULL for other kinds. */
static const char *san_text(int type, const char *raw, size_t n, char *out, size_t cap) {
    char ip[INET6_ADDRSTRLEN];
    if (type == GNUTLS_SAN_DNSNAME) return plain(raw, n, out, cap);
    if (type != GNUTLS_SAN_IPADDRESS || (n != 4 && n != 16)) return NULL;
    if (!inet_ntop(n == 4 ? AF_INET : AF_INET6, raw, ip, sizeof ip)) return NULL;
    return plain(ip, strlen(ip), out, cap);
}

void creds_why_name(const struct creds_chain *chain, const char *wanted, bool untrusted, char *why, size_t cap) {
    char names[NAMES_SHOWN * (NAME_SHOWN + 2) + 32] = "", one[NAME_SHOWN];
    unsigned shown = 0, more = 0;
    for (unsigned i = 0; i < 10000; i++) {
        char raw[512];
        size_t n = sizeof raw;
        int type = gnutls_x509_crt_get_subject_alt_name(chain->leaf, i, raw, &n, NULL);
        if (type < 0 && type != GNUTLS_E_SHORT_MEMORY_BUFFER) break;
        const char *text = type < 0 ? NULL : san_text(type, raw, n, one, sizeof one);
        if (!text) continue;
        if (shown == NAMES_SHOWN) {
            more++;
            continue;
        }
        add(names, sizeof names, "%s%s", shown ? ", " : "", text);
        shown++;
    }
    if (more) add(names, sizeof names, " and %u more", more);
    char want[NAME_SHOWN * 2];
    plain(wanted, strlen(wanted), want, sizeof want);
    if (cap) why[0] = 0;
    if (untrusted) add(why, cap, "certificate mismatch: captive portal? ");
    if (shown)
        add(why, cap, "name mismatch: certificate is for %s, not for %s", names, want);
    else
        add(why, cap, "name mismatch: certificate carries no name (a common name does not count), not %s", want);
    if (untrusted) {
        char issuer[DN_SHOWN];
        add(why, cap, "; nor is its issuer %s trusted",
            dn(chain->leaf, gnutls_x509_crt_get_issuer_dn3, issuer, sizeof issuer));
    }
}

/* ---- pins ---- */

void creds_why_pin(const unsigned char *key, size_t n, size_t pins, char *why, size_t cap) {
    gnutls_datum_t in = {(unsigned char *)key, (unsigned)n}, text = {NULL, 0};
    if (gnutls_base64_encode2(&in, &text) < 0) text.size = 0;
    if (cap) why[0] = 0;
    add(why, cap, "pin mismatch: the certificate has the public key sha256//%.*s, which ", (int)text.size,
        text.size ? (char *)text.data : "");
    if (pins == 1)
        add(why, cap, "is not the one that is pinned");
    else
        add(why, cap, "is none of the %zu that are pinned", pins);
    gnutls_free(text.data);
}
