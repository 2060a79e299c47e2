#include "codec/socks.h"

#include <string.h>

#include "base/err.h"

/* --- decoding --- */

int socks5_greeting_decode(struct socks5_greeting *g, const uint8_t *p, size_t n) {
    if (n >= 1 && p[0] != SOCKS5_VERSION) return ERR_CLIENT_PROTOCOL;
    if (n < 2 || n - 2 < p[1]) return 0;
    g->methods = p + 2;
    g->method_count = p[1];
    return 2 + p[1];
}

bool socks5_offers(const struct socks5_greeting *g, uint8_t method) {
    return g->method_count > 0 && memchr(g->methods, method, g->method_count) != NULL;
}

int socks5_auth_decode(struct socks5_auth *a, const uint8_t *p, size_t n) {
    if (n >= 1 && p[0] != 1) return ERR_CLIENT_PROTOCOL;
    if (n < 2) return 0;

    size_t user_end = 2 + (size_t)p[1];
    if (n <= user_end) return 0;

    size_t len = user_end + 1 + p[user_end];
    if (n < len) return 0;
    a->user = p + 2;
    a->user_len = p[1];
    a->password = p + user_end + 1;
    a->password_len = p[user_end];
    return (int)len;
}

/* ATYP, address, port: the part that requests and datagrams share. Returns as the decoders do. */
static int addr_decode(struct socks5_addr *a, const uint8_t *p, size_t n) {
    size_t at = 1; /* of the host */

    if (n < 1) return 0;
    switch (p[0]) {
    case SOCKS5_IPV4: a->host_len = 4; break;
    case SOCKS5_IPV6: a->host_len = 16; break;
    case SOCKS5_NAME:
        if (n < 2) return 0;
        if (p[1] == 0) return ERR_CLIENT_PROTOCOL;
        a->host_len = p[1];
        at = 2;
        break;
    default: return ERR_CLIENT_ADDRESS;
    }

    size_t len = at + a->host_len + 2;
    if (n < len) return 0;
    a->atyp = (enum socks5_atyp)p[0];
    a->host = p + at;
    a->port = (uint16_t)(p[len - 2] << 8 | p[len - 1]);
    return (int)len;
}

int socks5_request_decode(struct socks5_request *r, const uint8_t *p, size_t n) {
    if (n >= 1 && p[0] != SOCKS5_VERSION) return ERR_CLIENT_PROTOCOL;
    if (n < 4) return 0;
    r->cmd = p[1];
    int len = addr_decode(&r->addr, p + 3, n - 3);
    return len > 0 ? len + 3 : len;
}

int socks5_udp_decode(struct socks5_udp *u, const uint8_t *p, size_t n) {
    if (n < 4) return ERR_CLIENT_PROTOCOL;
    int len = addr_decode(&u->addr, p + 3, n - 3);
    if (len == 0) return ERR_CLIENT_PROTOCOL;
    if (len < 0) return len;
    len += 3;
    u->frag = p[2];
    u->payload = p + len;
    u->payload_len = n - (size_t)len;
    return len;
}

int socks5_dest(struct dest *d, enum dest_network network, const struct socks5_addr *a) {
    if (a->atyp == SOCKS5_NAME) return dest_set_name(d, network, a->host, a->host_len, a->port);
    return dest_set_ip(d, network, a->host, a->host_len, a->port);
}

/* A text of 1..256 bytes with its NUL at p. Returns its length with the NUL, or as the decoders do. */
static int text_decode(const uint8_t **text, uint8_t *text_len, const uint8_t *p, size_t n) {
    size_t seen = n < 256 ? n : 256;
    const uint8_t *nul = seen > 0 ? memchr(p, 0, seen) : NULL;

    if (!nul) return n < 256 ? 0 : ERR_CLIENT_TOO_LARGE;
    *text = p;
    *text_len = (uint8_t)(nul - p);
    return *text_len + 1;
}

int socks4_request_decode(struct socks4_request *r, const uint8_t *p, size_t n) {
    if (n >= 1 && p[0] != SOCKS4_VERSION) return ERR_CLIENT_PROTOCOL;
    if (n < 8) return 0;
    r->cmd = p[1];
    r->port = (uint16_t)(p[2] << 8 | p[3]);
    r->ip = p + 4;
    r->name = NULL;
    r->name_len = 0;

    int user = text_decode(&r->user, &r->user_len, p + 8, n - 8);
    if (user <= 0) return user;
    int len = 8 + user;
    if (r->ip[0] != 0 || r->ip[1] != 0 || r->ip[2] != 0 || r->ip[3] == 0) return len;

    int name = text_decode(&r->name, &r->name_len, p + len, n - (size_t)len);
    if (name <= 0) return name;
    return r->name_len > 0 ? len + name : ERR_CLIENT_PROTOCOL;
}

int socks4_dest(struct dest *d, const struct socks4_request *r) {
    if (r->name) return dest_set_name(d, DEST_TCP, r->name, r->name_len, r->port);
    return dest_set_ip(d, DEST_TCP, r->ip, 4, r->port);
}

/* --- encoding --- */

void socks5_put_method(struct writer *w, uint8_t method) {
    writer_u8(w, SOCKS5_VERSION);
    writer_u8(w, method);
}

void socks5_put_auth_result(struct writer *w, bool accepted) {
    writer_u8(w, 1);
    writer_u8(w, accepted ? 0 : 1);
}

static void put_addr(struct writer *w, const struct addr *a) {
    static const uint8_t nowhere[4 + 2];

    if (a && a->len > 0 && a->u.sa.sa_family == AF_INET) {
        writer_u8(w, SOCKS5_IPV4);
        writer_bytes(w, &a->u.in.sin_addr, 4);
        writer_bytes(w, &a->u.in.sin_port, 2);
    } else if (a && a->len > 0 && a->u.sa.sa_family == AF_INET6) {
        writer_u8(w, SOCKS5_IPV6);
        writer_bytes(w, &a->u.in6.sin6_addr, 16);
        writer_bytes(w, &a->u.in6.sin6_port, 2);
    } else {
        writer_u8(w, SOCKS5_IPV4);
        writer_bytes(w, nowhere, sizeof nowhere);
    }
}

void socks5_put_reply(struct writer *w, enum socks5_rep rep, const struct addr *bound) {
    writer_u8(w, SOCKS5_VERSION);
    writer_u8(w, (uint8_t)rep);
    writer_u8(w, 0); /* RSV */
    put_addr(w, bound);
}

void socks5_put_udp_header(struct writer *w, const struct addr *from) {
    writer_u16(w, 0); /* RSV */
    writer_u8(w, 0);  /* FRAG */
    put_addr(w, from);
}

void socks5_put_udp_header_dest(struct writer *w, const struct dest *from) {
    if (from->kind != DEST_NAME) {
        socks5_put_udp_header(w, &from->ip);
        return;
    }
    size_t n = strlen(from->host); /* at most DEST_NAME_MAX */
    writer_u16(w, 0);
    writer_u8(w, 0);
    writer_u8(w, SOCKS5_NAME);
    writer_u8(w, (uint8_t)n);
    writer_bytes(w, from->host, n);
    writer_u16(w, from->port);
}

void socks4_put_reply(struct writer *w, enum socks4_rep rep, const struct addr *bound) {
    static const uint8_t nowhere[2 + 4];

    writer_u8(w, 0); /* the version of replies */
    writer_u8(w, (uint8_t)rep);
    if (bound && bound->len > 0 && bound->u.sa.sa_family == AF_INET) {
        writer_bytes(w, &bound->u.in.sin_port, 2);
        writer_bytes(w, &bound->u.in.sin_addr, 4);
    } else {
        writer_bytes(w, nowhere, sizeof nowhere);
    }
}

/* --- errors --- */

enum socks5_rep socks5_rep(int err) {
    switch (err) {
    case ERR_OK: return SOCKS5_SUCCEEDED;
    case ERR_TARGET_REFUSED: return SOCKS5_CONNECTION_REFUSED;
    case ERR_TARGET_HOST_UNREACHABLE:
    case ERR_TARGET_DNS: return SOCKS5_HOST_UNREACHABLE;
    case ERR_TARGET_NET_UNREACHABLE:
    case ERR_UPSTREAM_UNREACHABLE:
    case ERR_UPSTREAM_REFUSED:
    case ERR_UPSTREAM_DNS:
    case ERR_UPSTREAM_TIMEOUT: return SOCKS5_NETWORK_UNREACHABLE;
    case ERR_TARGET_TIMEOUT: return SOCKS5_TTL_EXPIRED;
    case ERR_TARGET_DENIED:
    case ERR_CLIENT_LOOP:
    case ERR_CLIENT_DESTINATION: return SOCKS5_NOT_ALLOWED;
    case ERR_CLIENT_COMMAND: return SOCKS5_COMMAND_UNSUPPORTED;
    case ERR_CLIENT_ADDRESS: return SOCKS5_ADDRESS_UNSUPPORTED;
    default: return SOCKS5_GENERAL_FAILURE;
    }
}

enum socks4_rep socks4_rep(int err) {
    switch (err) {
    case ERR_OK: return SOCKS4_GRANTED;
    case ERR_CLIENT_AUTH: return SOCKS4_WRONG_USER;
    default: return SOCKS4_REJECTED;
    }
}
