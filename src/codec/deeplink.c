#include "codec/deeplink.h"

#include <string.h>

#include "base/err.h"
#include "codec/base64.h"

enum tag {
    TAG_VERSION,
    TAG_HOSTNAME,
    TAG_ADDRESS,
    TAG_CUSTOM_SNI,
    TAG_HAS_IPV6,
    TAG_USERNAME,
    TAG_PASSWORD,
    TAG_SKIP_VERIFICATION,
    TAG_CERTIFICATES,
    TAG_PROTOCOL,
    TAG_ANTI_DPI,
    TAG_CLIENT_RANDOM,
    TAG_NAME,
    TAG_DNS,
    TAG_UPSTREAM,
};

static const char *const prefixes[] = {"tt://?", "tt://", "https://trusttunnel.org/qr.html#tt="};

/* --- variable-length integers --- */

/* False at the end of the bytes. */
static bool get_int(const uint8_t **p, const uint8_t *end, uint64_t *v) {
    if (*p == end) return false;
    size_t n = (size_t)1 << (**p >> 6);
    if ((size_t)(end - *p) < n) return false;
    *v = **p & 0x3f;
    for (size_t i = 1; i < n; i++) *v = *v << 8 | (*p)[i];
    *p += n;
    return true;
}

static void put_int(struct writer *w, uint64_t v) {
    if (v < 64) {
        writer_u8(w, (uint8_t)v);
    } else if (v < 16384) {
        writer_u16(w, (uint16_t)(v | 0x4000));
    } else {
        writer_u32(w, (uint32_t)v | UINT32_C(0x80000000));
    }
}

/* --- reading --- */

static size_t prefix_of(const char *text, size_t n) {
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t len = strlen(prefixes[i]);
        if (n >= len && memcmp(text, prefixes[i], len) == 0) return len;
    }
    return 0;
}

bool deeplink_is(const char *text, size_t n) {
    while (n && (*text == ' ' || *text == '\n' || *text == '\r' || *text == '\t')) text++, n--;
    return prefix_of(text, n) > 0;
}

/* Control characters would end up in a configuration file, and mean nothing in any field. */
static bool is_text(struct deeplink_span s) {
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f) return false;
    return true;
}

static const char *get_bool(struct deeplink_span s, bool *v) {
    if (s.n != 1 || (uint8_t)*s.p > 1) return "a yes-or-no field is neither 0 nor 1";
    *v = *s.p == 1;
    return NULL;
}

static const char *get_whole_int(struct deeplink_span s, uint64_t *v) {
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    return get_int(&p, end, v) && p == end ? NULL : "a number is malformed";
}

static const char *get_dns(struct deeplink *l, struct deeplink_span s) {
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    uint64_t n;
    l->n_dns = 0;
    while (p < end) {
        if (!get_int(&p, end, &n) || n > (uint64_t)(end - p)) return "the list of DNS servers is malformed";
        if (l->n_dns == DEEPLINK_DNS) return "there are too many DNS servers";
        struct deeplink_span one = {(const char *)p, (size_t)n};
        if (!is_text(one)) return "a field holds control characters";
        l->dns[l->n_dns++] = one;
        p += n;
    }
    return NULL;
}

static const char *get_protocol(struct deeplink *l, struct deeplink_span s) {
    uint64_t v;
    const char *why = get_whole_int(s, &v);
    if (why) return why;
    if (v != DEEPLINK_HTTP2 && v != DEEPLINK_HTTP3) return "the protocol is not known";
    l->protocol = v == DEEPLINK_HTTP2 ? DEEPLINK_HTTP2 : DEEPLINK_HTTP3;
    return NULL;
}

static const char *get_version(struct deeplink *l, struct deeplink_span s) {
    const char *why = get_whole_int(s, &l->version);
    if (why) return why;
    return l->version > DEEPLINK_VERSION_MAX ? "it is of a later version of links" : NULL;
}

static const char *get_text(struct deeplink_span *to, struct deeplink_span s) {
    if (!is_text(s)) return "a field holds control characters";
    *to = s;
    return NULL;
}

static const char *get_address(struct deeplink *l, struct deeplink_span s) {
    if (s.n == 0) return "an address is empty";
    if (l->n_addresses == DEEPLINK_ADDRESSES) return "there are too many addresses";
    return get_text(&l->addresses[l->n_addresses++], s);
}

static const char *get_field(struct deeplink *l, uint64_t tag, struct deeplink_span s) {
    switch (tag) {
    case TAG_VERSION: return get_version(l, s);
    case TAG_HOSTNAME: return get_text(&l->hostname, s);
    case TAG_ADDRESS: return get_address(l, s);
    case TAG_CUSTOM_SNI: return get_text(&l->custom_sni, s);
    case TAG_HAS_IPV6: return get_bool(s, &l->has_ipv6);
    case TAG_USERNAME: return get_text(&l->username, s);
    case TAG_PASSWORD: return get_text(&l->password, s);
    case TAG_SKIP_VERIFICATION: return get_bool(s, &l->skip_verification);
    case TAG_CERTIFICATES: l->certificates = s; return NULL;
    case TAG_PROTOCOL: return get_protocol(l, s);
    case TAG_ANTI_DPI: return get_bool(s, &l->anti_dpi);
    case TAG_CLIENT_RANDOM: return get_text(&l->client_random, s);
    case TAG_NAME: return get_text(&l->name, s);
    case TAG_DNS: return get_dns(l, s);
    case TAG_UPSTREAM: l->has_upstream = true; return NULL;
    default: l->unknown++; return NULL;
    }
}

static const char *get_fields(struct deeplink *l, const uint8_t *p, const uint8_t *end) {
    uint64_t tag, n;
    while (p < end) {
        if (!get_int(&p, end, &tag) || !get_int(&p, end, &n)) return "it is cut off in the middle of a field";
        if (n > (uint64_t)(end - p)) return "it is cut off in the middle of a field";
        const char *why = get_field(l, tag, (struct deeplink_span){(const char *)p, (size_t)n});
        if (why) return why;
        p += n;
    }
    if (l->hostname.n == 0) return "it names no host";
    if (l->n_addresses == 0) return "it has no address";
    if (l->username.n == 0 || l->password.n == 0) return "it has no credentials";
    return NULL;
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

int deeplink_decode(struct deeplink *l, const char *text, size_t n, uint8_t *buf, size_t cap, const char **why) {
    size_t len;
    *l = (struct deeplink){.has_ipv6 = true};
    while (n && is_blank(*text)) text++, n--;
    while (n && is_blank(text[n - 1])) n--;
    size_t prefix = prefix_of(text, n);
    *why = NULL;
    if (!prefix) *why = "it does not begin with tt://";
    else if (n > DEEPLINK_TEXT_MAX) *why = "it is too long";
    else if (!base64_get(BASE64_URL, text + prefix, n - prefix, buf, cap, &len)) *why = "it is no base64url; was it cut off?";
    else *why = get_fields(l, buf, buf + len);
    return *why ? ERR_CONFIG : 0;
}

/* --- writing --- */

static void put_field(struct writer *w, enum tag tag, struct deeplink_span s) {
    put_int(w, tag);
    put_int(w, s.n);
    writer_bytes(w, s.p, s.n);
}

static void put_text(struct writer *w, enum tag tag, struct deeplink_span s) {
    if (s.n) put_field(w, tag, s);
}

static void put_byte(struct writer *w, enum tag tag, char v) { put_field(w, tag, (struct deeplink_span){&v, 1}); }

static void put_dns(struct writer *w, const struct deeplink *l) {
    size_t n = 0;
    if (!l->n_dns) return;
    for (size_t i = 0; i < l->n_dns; i++) n += l->dns[i].n + (l->dns[i].n < 64 ? 1 : l->dns[i].n < 16384 ? 2 : 4);
    put_int(w, TAG_DNS);
    put_int(w, n);
    for (size_t i = 0; i < l->n_dns; i++) {
        put_int(w, l->dns[i].n);
        writer_bytes(w, l->dns[i].p, l->dns[i].n);
    }
}

void deeplink_encode(struct writer *w, const struct deeplink *l, uint8_t *buf, size_t cap) {
    struct writer p = writer_of(buf, cap);
    put_byte(&p, TAG_VERSION, 1);
    put_field(&p, TAG_HOSTNAME, l->hostname);
    for (size_t i = 0; i < l->n_addresses; i++) put_field(&p, TAG_ADDRESS, l->addresses[i]);
    put_text(&p, TAG_CUSTOM_SNI, l->custom_sni);
    if (!l->has_ipv6) put_byte(&p, TAG_HAS_IPV6, 0);
    put_field(&p, TAG_USERNAME, l->username);
    put_field(&p, TAG_PASSWORD, l->password);
    if (l->skip_verification) put_byte(&p, TAG_SKIP_VERIFICATION, 1);
    put_text(&p, TAG_CERTIFICATES, l->certificates);
    if (l->protocol) put_byte(&p, TAG_PROTOCOL, (char)l->protocol);
    if (l->anti_dpi) put_byte(&p, TAG_ANTI_DPI, 1);
    put_text(&p, TAG_CLIENT_RANDOM, l->client_random);
    put_text(&p, TAG_NAME, l->name);
    put_dns(&p, l);
    writer_bytes(w, "tt://?", 6);
    base64_put(w, BASE64_URL, buf, writer_len(&p));
    w->bad |= p.bad;
}
