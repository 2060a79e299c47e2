/* deeplink.h - TrustTunnel's deep links: the configuration of an endpoint in one line of text.
 *
 * Three forms of text are read (tt://?PAYLOAD, the old tt://PAYLOAD, and https://trusttunnel.org/qr.html#tt=PAYLOAD), the
 * first is written. The payload is base64url without padding of tag-length-value fields whose tags and lengths are QUIC
 * variable-length integers (RFC 9000 section 16): in any order, unknown ones ignored, the last of several counts, except of
 * addresses. Strict and bounded. Pure functions: no I/O, no allocation. Source: protocol.md section 10.
 *
 * A link holds a password: the caller wipes the text and the bytes.
 */
#ifndef ADIT_CODEC_DEEPLINK_H
#define ADIT_CODEC_DEEPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wire.h"

#define DEEPLINK_TEXT_MAX 65536 /* bytes of a link */
#define DEEPLINK_ADDRESSES 16
#define DEEPLINK_DNS 16
#define DEEPLINK_VERSION_MAX 2

struct deeplink_span {
    const char *p; /* not terminated; NULL with n 0: not there */
    size_t n;
};

enum deeplink_protocol { DEEPLINK_AUTO, DEEPLINK_HTTP2, DEEPLINK_HTTP3 };

struct deeplink {
    uint64_t version;
    struct deeplink_span hostname, username, password;       /* always there */
    struct deeplink_span addresses[DEEPLINK_ADDRESSES];      /* at least one */
    size_t n_addresses;
    struct deeplink_span custom_sni, client_random, name;
    struct deeplink_span certificates; /* DER, one after another */
    struct deeplink_span dns[DEEPLINK_DNS];
    size_t n_dns;
    bool has_ipv6, skip_verification, anti_dpi;
    enum deeplink_protocol protocol;
    bool has_upstream;  /* a field 0E was there, whose meaning differs between versions: ignored */
    unsigned unknown;   /* fields that were ignored */
};

/* Whether the text begins like a link, whatever follows. */
bool deeplink_is(const char *text, size_t n);
/* Reads a link; white space at its ends does not count. The payload goes to buf (cap bytes, n are enough), into which the spans
 * of *l point. 0, or ERR_CONFIG with a short sentence part in *why (static, nothing of the link in it). */
int deeplink_decode(struct deeplink *l, const char *text, size_t n, uint8_t *buf, size_t cap, const char **why);
/* Appends the link: fields at their defaults are left out. buf (cap bytes) is used for the payload. w turns bad when either
 * is too small. */
void deeplink_encode(struct writer *w, const struct deeplink *l, uint8_t *buf, size_t cap);

#endif
