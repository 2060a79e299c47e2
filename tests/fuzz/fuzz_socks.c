/* Every SOCKS decoder over the same bytes. Beyond memory safety: what a decoder says of a prefix never contradicts
 * what it says of the whole, its bounds hold, its pointers stay inside the message, and headers survive a round
 * trip. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "codec/socks.h"

#define CHECK(cond) ((cond) ? (void)0 : abort())

union any {
    struct socks5_greeting greeting;
    struct socks5_auth auth;
    struct socks5_request request;
    struct socks4_request request4;
};

struct span {
    const uint8_t *p;
    size_t n;
};

static void check_inside(const uint8_t *data, int len, struct span s) {
    CHECK(s.p >= data && s.p + s.n <= data + len);
}

static int greeting(union any *out, const uint8_t *p, size_t n) {
    int len = socks5_greeting_decode(&out->greeting, p, n);
    if (len > 0) {
        struct socks5_greeting *g = &out->greeting;
        check_inside(p, len, (struct span){g->methods, g->method_count});
        for (unsigned i = 0; i < g->method_count; i++) CHECK(socks5_offers(g, g->methods[i]));
    }
    return len;
}

static int auth(union any *out, const uint8_t *p, size_t n) {
    int len = socks5_auth_decode(&out->auth, p, n);
    if (len > 0) {
        check_inside(p, len, (struct span){out->auth.user, out->auth.user_len});
        check_inside(p, len, (struct span){out->auth.password, out->auth.password_len});
    }
    return len;
}

static void check_dest(const struct dest *d, uint16_t port) {
    CHECK(d->port == port && port != 0);
    CHECK(strlen(d->host) <= DEST_NAME_MAX);
    for (const char *c = d->host; *c; c++) CHECK(*c > ' ' && *c < 0x7f && !strchr("/@%\\\"<>", *c));
}

static int request(union any *out, const uint8_t *p, size_t n) {
    int len = socks5_request_decode(&out->request, p, n);
    if (len > 0) {
        struct socks5_addr *a = &out->request.addr;
        struct dest d;
        check_inside(p, len, (struct span){a->host, a->host_len});
        CHECK(a->host_len > 0);
        if (socks5_dest(&d, DEST_TCP, a) == 0) check_dest(&d, a->port);
    }
    return len;
}

static int request4(union any *out, const uint8_t *p, size_t n) {
    int len = socks4_request_decode(&out->request4, p, n);
    if (len > 0) {
        struct socks4_request *r = &out->request4;
        struct dest d;
        check_inside(p, len, (struct span){r->user, r->user_len});
        CHECK(!memchr(r->user, 0, r->user_len) && r->user[r->user_len] == 0);
        if (r->name) {
            check_inside(p, len, (struct span){r->name, r->name_len});
            CHECK(r->name_len > 0 && !memchr(r->name, 0, r->name_len) && r->name[r->name_len] == 0);
        }
        if (socks4_dest(&d, r) == 0) check_dest(&d, r->port);
    }
    return len;
}

static void check_prefixes(int (*decode)(union any *, const uint8_t *, size_t), size_t max, const uint8_t *data,
                           size_t size) {
    union any out;
    int before = 0;

    if (size > max + 2) size = max + 2;
    for (size_t n = 0; n <= size; n++) {
        int got = decode(&out, data, n);
        CHECK(got <= (int)n && got <= (int)max);
        CHECK(n < max || got != 0);
        CHECK(before == 0 ? got <= 0 || got == (int)n : got == before);
        before = got;
    }
}

static void check_datagram(const uint8_t *data, size_t size) {
    uint8_t out[SOCKS5_UDP_HEADER_MAX];
    struct socks5_udp u, again;
    struct dest d;
    int len = socks5_udp_decode(&u, data, size);

    CHECK(len != 0);
    if (len < 0) {
        CHECK(len == ERR_CLIENT_PROTOCOL || len == ERR_CLIENT_ADDRESS);
        return;
    }
    CHECK(len <= SOCKS5_UDP_HEADER_MAX && u.payload == data + len && u.payload_len == size - (size_t)len);
    if (socks5_dest(&d, DEST_UDP, &u.addr) < 0) return;

    struct writer w = writer_of(out, sizeof out);
    socks5_put_udp_header_dest(&w, &d);
    CHECK(!w.bad);
    CHECK(socks5_udp_decode(&again, out, writer_len(&w)) == (int)writer_len(&w));
    struct dest d2;
    CHECK(socks5_dest(&d2, DEST_UDP, &again.addr) == 0 && dest_equal(&d, &d2));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_prefixes(greeting, SOCKS5_GREETING_MAX, data, size);
    check_prefixes(auth, SOCKS5_AUTH_MAX, data, size);
    check_prefixes(request, SOCKS5_REQUEST_MAX, data, size);
    check_prefixes(request4, SOCKS4_REQUEST_MAX, data, size);
    check_datagram(data, size);
    return 0;
}
