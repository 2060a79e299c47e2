#include "base/dest.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

#define LABEL_MAX 63
/* Most bytes of a name as it was asked for: UTF-8 takes at most four for a character, an A-label at least one. */
#define RAW_MAX (4 * DEST_NAME_MAX)

static const char *const pseudo_hosts[] = {"_udp2", "_icmp", "_check"};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

static bool is_name_byte(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || c == '-' || c == '_'; }

static void to_lower(char *s) {
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z') *s = (char)(*s - 'A' + 'a');
}

static bool is_ascii(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0x80) return false;
    return true;
}

static bool valid_label(const char *s, size_t n) {
    if (n == 0 || n > LABEL_MAX || s[0] == '-' || s[n - 1] == '-') return false;
    for (size_t i = 0; i < n; i++)
        if (!is_name_byte(s[i])) return false;
    return true;
}

static bool valid_labels(const char *name) {
    for (;;) {
        size_t n = strcspn(name, ".");
        if (!valid_label(name, n)) return false;
        if (!name[n]) return true;
        name += n + 1;
    }
}

/* Whether software might take the name for an IPv4 address: its last label is decimal, octal or "0x" and hex. */
static bool ends_in_number(const char *name) {
    const char *last = strrchr(name, '.');
    last = last ? last + 1 : name;
    bool (*is_part)(char) = is_digit;
    if (last[0] == '0' && last[1] == 'x') {
        last += 2;
        is_part = is_hex;
    }
    for (; *last; last++)
        if (!is_part(*last)) return false;
    return true;
}

/* U-labels to A-labels, in place; what characters map to is judged afterwards, with the rest of the name. */
static int idn_to_ascii(char *name, size_t cap) {
    char *out = NULL;
    /* Without the STD3 rules, which would refuse the underscore. */
    int r = idn2_to_ascii_8z(name, &out, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (r == IDN2_MALLOC) return ERR_NO_MEMORY;
    if (r != IDN2_OK) return ERR_CLIENT_DESTINATION;
    size_t n = strlen(out);
    if (n < cap) memcpy(name, out, n + 1);
    idn2_free(out);
    return n < cap ? 0 : ERR_CLIENT_DESTINATION;
}

static int set_ip(struct dest *d, const struct addr *ip) {
    d->ip = *ip;
    addr_unmap(&d->ip);
    d->kind = d->ip.u.sa.sa_family == AF_INET ? DEST_IPV4 : DEST_IPV6;
    addr_format_ip(&d->ip, d->host, sizeof d->host);
    return 0;
}

static int set_ipv6_text(struct dest *d, const char *s, size_t n) {
    char text[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    struct addr a;
    if (s[0] == '[') {
        if (n < 2 || s[n - 1] != ']') return ERR_CLIENT_DESTINATION;
        s++;
        n -= 2;
    }
    if (n >= sizeof text) return ERR_CLIENT_DESTINATION;
    memcpy(text, s, n);
    text[n] = 0;
    if (inet_pton(AF_INET6, text, ip) != 1) return ERR_CLIENT_DESTINATION;
    addr_from_bytes(&a, ip, sizeof ip, d->port);
    return set_ip(d, &a);
}

/* name: ASCII, without its trailing dot. */
static int set_ascii_name(struct dest *d, char *name) {
    to_lower(name);
    if (strlen(name) > DEST_NAME_MAX || !valid_labels(name)) return ERR_CLIENT_DESTINATION;
    if (ends_in_number(name)) {
        struct in_addr in;
        struct addr a;
        if (!inet_aton(name, &in)) return ERR_CLIENT_DESTINATION;
        addr_from_bytes(&a, (const uint8_t *)&in, sizeof in, d->port);
        return set_ip(d, &a);
    }
    for (size_t i = 0; i < sizeof pseudo_hosts / sizeof pseudo_hosts[0]; i++)
        if (strcmp(name, pseudo_hosts[i]) == 0) return ERR_CLIENT_DESTINATION;
    d->kind = DEST_NAME;
    memcpy(d->host, name, strlen(name) + 1);
    return 0;
}

static int set_text(struct dest *d, const char *host, size_t n) {
    char name[RAW_MAX + 2];
    if (n == 0 || n > RAW_MAX || memchr(host, 0, n)) return ERR_CLIENT_DESTINATION;
    if (host[0] == '[' || memchr(host, ':', n)) return set_ipv6_text(d, host, n);
    memcpy(name, host, n);
    name[n] = 0;
    if (!is_ascii(name, n)) {
        int r = idn_to_ascii(name, sizeof name);
        if (r < 0) return r;
        n = strlen(name);
    }
    if (n && name[n - 1] == '.') name[n - 1] = 0;
    return set_ascii_name(d, name);
}

/* Ready for a host, or all zero: a destination that failed to be set has no port. */
static void begin(struct dest *d, enum dest_network network, uint16_t port) {
    memset(d, 0, sizeof *d);
    d->network = network;
    d->port = port;
}

int dest_set_name(struct dest *d, enum dest_network network, const void *host, size_t n, uint16_t port) {
    begin(d, network, port);
    int r = port ? set_text(d, host, n) : ERR_CLIENT_DESTINATION;
    if (r < 0) begin(d, network, 0);
    return r;
}

int dest_set_ip(struct dest *d, enum dest_network network, const uint8_t *ip, size_t ip_len, uint16_t port) {
    struct addr a;
    begin(d, network, port);
    if (!port || (ip_len != 4 && ip_len != 16)) {
        begin(d, network, 0);
        return ERR_CLIENT_DESTINATION;
    }
    addr_from_bytes(&a, ip, ip_len, port);
    return set_ip(d, &a);
}

const char *dest_format(const struct dest *d, char *buf, size_t cap) {
    if (d->kind == DEST_IPV6)
        snprintf(buf, cap, "[%s]:%u", d->host, d->port);
    else
        snprintf(buf, cap, "%s:%u", d->host, d->port);
    return buf;
}

bool dest_equal(const struct dest *a, const struct dest *b) {
    return a->network == b->network && a->kind == b->kind && a->port == b->port && strcmp(a->host, b->host) == 0;
}

const char *dest_library_version(void) { return idn2_check_version(NULL); }
