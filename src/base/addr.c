#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

#define UN_PATH_AT offsetof(struct sockaddr_un, sun_path)

static void set_in(struct addr *a, const void *ip, uint16_t port) {
    *a = (struct addr){.len = sizeof a->u.in};
    a->u.in.sin_family = AF_INET;
    a->u.in.sin_port = htons(port);
    memcpy(&a->u.in.sin_addr, ip, 4);
}

static void set_in6(struct addr *a, const void *ip, uint16_t port) {
    *a = (struct addr){.len = sizeof a->u.in6};
    a->u.in6.sin6_family = AF_INET6;
    a->u.in6.sin6_port = htons(port);
    memcpy(&a->u.in6.sin6_addr, ip, 16);
}

/* AF_UNSPEC for no address. */
static int family_of(const struct addr *a) { return a->len ? a->u.sa.sa_family : AF_UNSPEC; }

/* The bytes of an IP address, those of the IPv4 form for a v4-mapped one; 0 for anything else. */
static size_t ip_bytes(const struct addr *a, const uint8_t **ip) {
    switch (family_of(a)) {
    case AF_INET:
        *ip = (const uint8_t *)&a->u.in.sin_addr;
        return 4;
    case AF_INET6:
        *ip = a->u.in6.sin6_addr.s6_addr;
        if (!IN6_IS_ADDR_V4MAPPED(&a->u.in6.sin6_addr)) return 16;
        *ip += 12;
        return 4;
    default: *ip = NULL; return 0;
    }
}

/* Decimal without sign, spaces or needless zeros. */
static bool parse_port(const char *text, uint16_t *port) {
    unsigned v = 0;
    size_t n = strlen(text);
    if (n < 1 || n > 5 || (n > 1 && text[0] == '0')) return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        v = v * 10 + (unsigned)(text[i] - '0');
    }
    if (v > 65535) return false;
    *port = (uint16_t)v;
    return true;
}

int addr_parse(struct addr *a, const char *text) {
    char ip[INET6_ADDRSTRLEN];
    uint16_t port;
    *a = (struct addr){0};
    const char *colon = strrchr(text, ':');
    if (!colon || !parse_port(colon + 1, &port)) return ERR_CONFIG;
    size_t n = (size_t)(colon - text);
    bool bracketed = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    if (bracketed) {
        text++;
        n -= 2;
    }
    if (n >= sizeof ip) return ERR_CONFIG;
    memcpy(ip, text, n);
    ip[n] = 0;
    int r = addr_parse_ip(a, ip, port);
    /* Brackets go with IPv6 and only with it. */
    if (r == 0 && bracketed != (a->u.sa.sa_family == AF_INET6)) {
        *a = (struct addr){0};
        r = ERR_CONFIG;
    }
    return r;
}

int addr_parse_ip(struct addr *a, const char *text, uint16_t port) {
    uint8_t ip[16];
    *a = (struct addr){0};
    if (inet_pton(AF_INET, text, ip) == 1)
        set_in(a, ip, port);
    else if (inet_pton(AF_INET6, text, ip) == 1)
        set_in6(a, ip, port);
    else
        return ERR_CONFIG;
    return 0;
}

int addr_from_path(struct addr *a, const char *path) {
    size_t n = strlen(path);
    *a = (struct addr){0};
    if (n == 0 || n >= sizeof a->u.un.sun_path) return ERR_CONFIG;
    a->u.un.sun_family = AF_UNIX;
    memcpy(a->u.un.sun_path, path, n + 1);
    a->len = (socklen_t)(UN_PATH_AT + n + 1);
    return 0;
}

void addr_from_bytes(struct addr *a, const uint8_t *ip, size_t ip_len, uint16_t port) {
    if (ip_len == 4)
        set_in(a, ip, port);
    else if (ip_len == 16)
        set_in6(a, ip, port);
    else
        *a = (struct addr){0};
}

bool addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t len) {
    *a = (struct addr){0};
    if (len == 0) return true;
    if (len > sizeof a->u || len < sizeof sa->sa_family) return false;
    sa_family_t family;
    memcpy(&family, sa, sizeof family);
    if (family == AF_INET && len < sizeof a->u.in) return false;
    if (family == AF_INET6 && len < sizeof a->u.in6) return false;
    memcpy(&a->u, sa, len);
    a->len = len;
    return true;
}

/* "unix:" and the path; an abstract name gets '@' for its leading NUL. */
static void format_unix(const struct addr *a, char *buf, size_t cap) {
    size_t n = a->len > UN_PATH_AT ? a->len - UN_PATH_AT : 0;
    if (n > sizeof a->u.un.sun_path) n = sizeof a->u.un.sun_path;
    const char *path = a->u.un.sun_path;
    bool abstract = n && !path[0];
    if (abstract) {
        path++;
        n--;
    }
    snprintf(buf, cap, "unix:%s%.*s", abstract ? "@" : "", (int)n, path);
}

const char *addr_format_ip(const struct addr *a, char *buf, size_t cap) {
    char ip[INET6_ADDRSTRLEN];
    switch (family_of(a)) {
    case AF_INET: snprintf(buf, cap, "%s", inet_ntop(AF_INET, &a->u.in.sin_addr, ip, sizeof ip)); break;
    case AF_INET6:
        inet_ntop(AF_INET6, &a->u.in6.sin6_addr, ip, sizeof ip);
        if (a->u.in6.sin6_scope_id)
            snprintf(buf, cap, "%s%%%u", ip, (unsigned)a->u.in6.sin6_scope_id);
        else
            snprintf(buf, cap, "%s", ip);
        break;
    case AF_UNIX: format_unix(a, buf, cap); break;
    default: snprintf(buf, cap, "none"); break;
    }
    return buf;
}

const char *addr_format(const struct addr *a, char *buf, size_t cap) {
    char ip[ADDR_TEXT_MAX];
    addr_format_ip(a, ip, sizeof ip);
    switch (family_of(a)) {
    case AF_INET: snprintf(buf, cap, "%s:%u", ip, addr_port(a)); break;
    case AF_INET6: snprintf(buf, cap, "[%s]:%u", ip, addr_port(a)); break;
    default: snprintf(buf, cap, "%s", ip); break;
    }
    return buf;
}

uint16_t addr_port(const struct addr *a) {
    switch (family_of(a)) {
    case AF_INET: return ntohs(a->u.in.sin_port);
    case AF_INET6: return ntohs(a->u.in6.sin6_port);
    default: return 0;
    }
}

void addr_set_port(struct addr *a, uint16_t port) {
    switch (family_of(a)) {
    case AF_INET: a->u.in.sin_port = htons(port); break;
    case AF_INET6: a->u.in6.sin6_port = htons(port); break;
    default: break;
    }
}

bool addr_equal(const struct addr *a, const struct addr *b) {
    if (family_of(a) != family_of(b)) return false;
    switch (family_of(a)) {
    case AF_UNSPEC: return a->len == b->len;
    case AF_INET:
        return a->u.in.sin_addr.s_addr == b->u.in.sin_addr.s_addr && a->u.in.sin_port == b->u.in.sin_port;
    case AF_INET6:
        return IN6_ARE_ADDR_EQUAL(&a->u.in6.sin6_addr, &b->u.in6.sin6_addr) &&
               a->u.in6.sin6_port == b->u.in6.sin6_port && a->u.in6.sin6_scope_id == b->u.in6.sin6_scope_id;
    default: break;
    }
    /* Unix: the kernel may or may not count a path's NUL, so the texts decide. */
    char at[ADDR_TEXT_MAX], bt[ADDR_TEXT_MAX];
    return strcmp(addr_format_ip(a, at, sizeof at), addr_format_ip(b, bt, sizeof bt)) == 0;
}

bool addr_same_ip(const struct addr *a, const struct addr *b) {
    const uint8_t *x, *y;
    size_t n = ip_bytes(a, &x);
    if (!n || n != ip_bytes(b, &y) || memcmp(x, y, n) != 0) return false;
    if (n == 4) return true;
    /* A link-local address is another host in another scope; an unset scope matches any. */
    uint32_t s = a->u.in6.sin6_scope_id, t = b->u.in6.sin6_scope_id;
    return !s || !t || s == t;
}

bool addr_is_loopback(const struct addr *a) {
    const uint8_t *ip;
    switch (ip_bytes(a, &ip)) {
    case 4: return ip[0] == 127;
    case 16: return IN6_IS_ADDR_LOOPBACK(&a->u.in6.sin6_addr);
    default: return family_of(a) == AF_UNIX;
    }
}

bool addr_is_unspecified(const struct addr *a) {
    static const uint8_t zero[16];
    const uint8_t *ip;
    size_t n = ip_bytes(a, &ip);
    return n && memcmp(ip, zero, n) == 0;
}

void addr_unmap(struct addr *a) {
    if (family_of(a) != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->u.in6.sin6_addr)) return;
    uint8_t ip[4];
    memcpy(ip, a->u.in6.sin6_addr.s6_addr + 12, 4);
    set_in(a, ip, addr_port(a));
}
