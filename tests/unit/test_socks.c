/* Messages are spelled out as bytes; their layouts are those of RFC 1928, RFC 1929 and the SOCKS4/4a notes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "base/err.h"
#include "codec/socks.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

/* The first n bytes in an allocation of just that size, so that the sanitizer sees a read past them. */
static uint8_t *exact(const uint8_t *p, size_t n) {
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n) memcpy(copy, p, n);
    return copy;
}

/* Any decoder behind one face. */
union any {
    struct socks5_greeting greeting;
    struct socks5_auth auth;
    struct socks5_request request;
    struct socks4_request request4;
};
enum message { GREETING, AUTH, REQUEST, REQUEST4 };

static int decode(enum message m, union any *out, const uint8_t *p, size_t n) {
    switch (m) {
    case GREETING: return socks5_greeting_decode(&out->greeting, p, n);
    case AUTH: return socks5_auth_decode(&out->auth, p, n);
    case REQUEST: return socks5_request_decode(&out->request, p, n);
    default: return socks4_request_decode(&out->request4, p, n);
    }
}

/* The message is taken whole, every prefix asks for more, and bytes after it change nothing. */
static void check_whole(enum message m, const uint8_t *p, size_t n) {
    union any out;
    uint8_t longer[1024];

    for (size_t i = 0; i <= n; i++) {
        uint8_t *copy = exact(p, i);
        assert_int_equal(decode(m, &out, copy, i), i == n ? (int)n : 0);
        free(copy);
    }
    assert_true(n + 64 <= sizeof longer);
    memcpy(longer, p, n);
    memset(longer + n, 0xee, 64);
    assert_int_equal(decode(m, &out, longer, n + 64), (int)n);
}

/* The error comes with byte number `at` (counted from 1), not before, and stays. */
static void check_error(enum message m, const uint8_t *p, size_t n, size_t at, int err) {
    union any out;

    for (size_t i = 0; i <= n; i++) {
        uint8_t *copy = exact(p, i);
        assert_int_equal(decode(m, &out, copy, i), i >= at ? err : 0);
        free(copy);
    }
}

/* --- SOCKS5 greeting --- */

static void greeting_lists_methods(void **state) {
    static const uint8_t curl[] = {5, 2, 0, 2};
    struct socks5_greeting g;
    (void)state;

    check_whole(GREETING, curl, sizeof curl);
    assert_int_equal(socks5_greeting_decode(&g, curl, sizeof curl), 4);
    assert_int_equal(g.method_count, 2);
    assert_true(socks5_offers(&g, SOCKS5_METHOD_NONE));
    assert_true(socks5_offers(&g, SOCKS5_METHOD_PASSWORD));
    assert_false(socks5_offers(&g, 1));
    assert_false(socks5_offers(&g, SOCKS5_METHOD_UNACCEPTABLE));
}

static void greeting_without_methods_offers_nothing(void **state) {
    static const uint8_t none[] = {5, 0};
    struct socks5_greeting g;
    (void)state;

    check_whole(GREETING, none, sizeof none);
    assert_int_equal(socks5_greeting_decode(&g, none, sizeof none), 2);
    for (int m = 0; m < 256; m++) assert_false(socks5_offers(&g, (uint8_t)m));
}

static void greeting_of_255_methods(void **state) {
    uint8_t p[SOCKS5_GREETING_MAX];
    struct socks5_greeting g;
    (void)state;

    memset(p, 0x80, sizeof p);
    p[0] = 5;
    p[1] = 255;
    p[sizeof p - 1] = SOCKS5_METHOD_PASSWORD;
    check_whole(GREETING, p, sizeof p);
    assert_int_equal(socks5_greeting_decode(&g, p, sizeof p), SOCKS5_GREETING_MAX);
    assert_true(socks5_offers(&g, SOCKS5_METHOD_PASSWORD));
    assert_false(socks5_offers(&g, SOCKS5_METHOD_NONE));
}

static void another_version_is_refused_at_once(void **state) {
    union any out;
    (void)state;

    for (int v = 0; v < 256; v++) {
        uint8_t byte = (uint8_t)v;
        assert_int_equal(decode(GREETING, &out, &byte, 1), v == 5 ? 0 : ERR_CLIENT_PROTOCOL);
        assert_int_equal(decode(REQUEST, &out, &byte, 1), v == 5 ? 0 : ERR_CLIENT_PROTOCOL);
        assert_int_equal(decode(AUTH, &out, &byte, 1), v == 1 ? 0 : ERR_CLIENT_PROTOCOL);
        assert_int_equal(decode(REQUEST4, &out, &byte, 1), v == 4 ? 0 : ERR_CLIENT_PROTOCOL);
    }
    for (int m = GREETING; m <= REQUEST4; m++) assert_int_equal(decode((enum message)m, &out, NULL, 0), 0);
}

/* --- RFC 1929 --- */

static void auth_holds_any_bytes(void **state) {
    static const uint8_t p[] = {1, 3, 'a', 0, '\n', 2, ':', 0xff};
    struct socks5_auth a;
    (void)state;

    check_whole(AUTH, p, sizeof p);
    assert_int_equal(socks5_auth_decode(&a, p, sizeof p), 8);
    assert_int_equal(a.user_len, 3);
    assert_memory_equal(a.user, "a\0\n", 3);
    assert_int_equal(a.password_len, 2);
    assert_memory_equal(a.password, ":\xff", 2);
}

static void auth_lengths_from_0_to_255(void **state) {
    static const uint8_t lengths[] = {0, 1, 254, 255};
    uint8_t p[SOCKS5_AUTH_MAX];
    struct socks5_auth a;
    (void)state;

    for (size_t i = 0; i < sizeof lengths; i++)
        for (size_t j = 0; j < sizeof lengths; j++) {
            uint8_t user = lengths[i], password = lengths[j];
            size_t n = 3 + (size_t)user + password;
            memset(p, 'u', sizeof p);
            p[0] = 1;
            p[1] = user;
            p[2 + user] = password;
            memset(p + 3 + user, 'p', password);
            check_whole(AUTH, p, n);
            assert_int_equal(socks5_auth_decode(&a, p, n), n);
            assert_int_equal(a.user_len, user);
            assert_int_equal(a.password_len, password);
            assert_ptr_equal(a.user, p + 2);
            assert_ptr_equal(a.password, p + 3 + user);
        }
    assert_int_equal(3 + 255 + 255, SOCKS5_AUTH_MAX);
}

static void request_instead_of_auth_is_refused(void **state) {
    (void)state;
    check_error(AUTH, BYTES("\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"), 1, ERR_CLIENT_PROTOCOL);
}

/* --- SOCKS5 request --- */

static void request_with_ipv4(void **state) {
    static const uint8_t p[] = {5, 1, 0, 1, 192, 0, 2, 1, 0x01, 0xbb};
    struct socks5_request r;
    struct dest d;
    (void)state;

    check_whole(REQUEST, p, sizeof p);
    assert_int_equal(socks5_request_decode(&r, p, sizeof p), 10);
    assert_int_equal(r.cmd, SOCKS_CONNECT);
    assert_int_equal(r.addr.atyp, SOCKS5_IPV4);
    assert_int_equal(r.addr.host_len, 4);
    assert_int_equal(r.addr.port, 443);
    assert_int_equal(socks5_dest(&d, DEST_TCP, &r.addr), 0);
    assert_int_equal(d.kind, DEST_IPV4);
    assert_int_equal(d.network, DEST_TCP);
    assert_int_equal(d.port, 443);
    assert_string_equal(d.host, "192.0.2.1");
}

static void request_with_ipv6(void **state) {
    static const char p[] = "\x05\x03\x5a\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xff\xfe"; /* RSV 0x5a */
    struct socks5_request r;
    struct dest d;
    (void)state;

    check_whole(REQUEST, BYTES(p));
    assert_int_equal(socks5_request_decode(&r, BYTES(p)), 22);
    assert_int_equal(r.cmd, SOCKS5_UDP_ASSOCIATE);
    assert_int_equal(r.addr.atyp, SOCKS5_IPV6);
    assert_int_equal(r.addr.host_len, 16);
    assert_int_equal(r.addr.port, 0xfffe);
    assert_int_equal(socks5_dest(&d, DEST_UDP, &r.addr), 0);
    assert_int_equal(d.kind, DEST_IPV6);
    assert_int_equal(d.network, DEST_UDP);
    assert_string_equal(d.host, "2001:db8::1");
}

static void request_with_name(void **state) {
    static const char p[] = "\x05\x01\x00\x03\x0b" "example.com" "\x00\x50";
    struct socks5_request r;
    struct dest d;
    (void)state;

    check_whole(REQUEST, BYTES(p));
    assert_int_equal(socks5_request_decode(&r, BYTES(p)), 18);
    assert_int_equal(r.addr.atyp, SOCKS5_NAME);
    assert_int_equal(r.addr.host_len, 11);
    assert_memory_equal(r.addr.host, "example.com", 11);
    assert_int_equal(socks5_dest(&d, DEST_TCP, &r.addr), 0);
    assert_int_equal(d.kind, DEST_NAME);
    assert_string_equal(d.host, "example.com");
    assert_int_equal(d.port, 80);
}

static void request_with_the_longest_name(void **state) {
    uint8_t p[SOCKS5_REQUEST_MAX];
    struct socks5_request r;
    struct dest d;
    (void)state;

    memset(p, 'a', sizeof p);
    memcpy(p, "\x05\x01\x00\x03\xff", 5);
    check_whole(REQUEST, p, sizeof p);
    assert_int_equal(socks5_request_decode(&r, p, sizeof p), SOCKS5_REQUEST_MAX);
    assert_int_equal(r.addr.host_len, 255); /* not cut */
    assert_int_equal(socks5_dest(&d, DEST_TCP, &r.addr), ERR_CLIENT_DESTINATION);
}

static void request_errors_come_early(void **state) {
    (void)state;
    check_error(REQUEST, BYTES("\x05\x01\x00\x03\x00\x00\x50"), 5, ERR_CLIENT_PROTOCOL); /* empty name */
    for (int atyp = 0; atyp < 256; atyp++) {
        uint8_t p[8] = {5, 1, 0, (uint8_t)atyp};
        if (atyp == SOCKS5_IPV4 || atyp == SOCKS5_NAME || atyp == SOCKS5_IPV6) continue;
        check_error(REQUEST, p, sizeof p, 4, ERR_CLIENT_ADDRESS);
    }
}

static void any_command_is_decoded_with_its_address(void **state) {
    (void)state;
    for (int cmd = 0; cmd < 256; cmd++) {
        uint8_t p[] = {5, (uint8_t)cmd, 0, 1, 10, 0, 0, 1, 0, 53};
        struct socks5_request r;
        assert_int_equal(socks5_request_decode(&r, p, sizeof p), 10);
        assert_int_equal(r.cmd, cmd);
        assert_int_equal(r.addr.port, 53);
        assert_memory_equal(r.addr.host, "\x0a\0\0\x01", 4);
    }
}

static void unusable_destinations_are_refused(void **state) {
    static const struct {
        const char *name;
        size_t n;
        uint16_t port;
    } bad[] = {
        {"example.com", 11, 0}, {"_udp2", 5, 443}, {"_icmp", 5, 1}, {"_check", 6, 443},   {"a\0b", 3, 80},
        {"a\r\nb", 4, 80},      {"a b", 3, 80},    {"a/b", 3, 80},  {"user@host", 9, 80}, {"[", 1, 80},
    };
    struct dest d;
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct socks5_addr a = {SOCKS5_NAME, (uint8_t)bad[i].n, (const uint8_t *)bad[i].name, bad[i].port};
        if (socks5_dest(&d, DEST_TCP, &a) != ERR_CLIENT_DESTINATION) fail_msg("accepted case %zu", i);
    }
    struct socks5_addr nowhere = {SOCKS5_IPV4, 4, (const uint8_t *)"\0\0\0\0", 0};
    assert_int_equal(socks5_dest(&d, DEST_UDP, &nowhere), ERR_CLIENT_DESTINATION);
}

/* Greeting, credentials, request and payload in one segment. */
static void pipelined_messages_follow_one_another(void **state) {
    static const char p[] = "\x05\x01\x02" "\x01\x01u\x01p" "\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90" "GET";
    const uint8_t *at = (const uint8_t *)p;
    size_t left = sizeof p - 1;
    union any out;
    (void)state;

    for (int m = GREETING; m <= REQUEST; m++) {
        int took = decode((enum message)m, &out, at, left);
        assert_true(took > 0);
        at += took;
        left -= (size_t)took;
    }
    assert_int_equal(out.request.addr.port, 8080);
    assert_int_equal(left, 3);
    assert_memory_equal(at, "GET", 3);
}

/* --- SOCKS5 answers --- */

static void check_written(const struct writer *w, const char *bytes, size_t n) {
    assert_false(w->bad);
    assert_int_equal(writer_len(w), n);
    assert_memory_equal(w->start, bytes, n);
}

static struct addr ipv4(uint16_t port) {
    struct addr a = {.len = sizeof(struct sockaddr_in)};
    a.u.in.sin_family = AF_INET;
    a.u.in.sin_port = htons(port);
    memcpy(&a.u.in.sin_addr, "\x7f\0\0\x01", 4);
    return a;
}

static struct addr ipv6(uint16_t port) {
    struct addr a = {.len = sizeof(struct sockaddr_in6)};
    a.u.in6.sin6_family = AF_INET6;
    a.u.in6.sin6_port = htons(port);
    memcpy(&a.u.in6.sin6_addr, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09", 16);
    return a;
}

static void answers_are_as_specified(void **state) {
    uint8_t out[SOCKS5_REPLY_MAX];
    struct addr v4 = ipv4(0x1234), v6 = ipv6(0xabcd);
    struct addr none = {.len = 0}, path = {.len = sizeof(struct sockaddr_un)};
    struct writer w;
    (void)state;
    path.u.un.sun_family = AF_UNIX;

    w = writer_of(out, sizeof out);
    socks5_put_method(&w, SOCKS5_METHOD_UNACCEPTABLE);
    check_written(&w, "\x05\xff", 2);

    w = writer_of(out, sizeof out);
    socks5_put_auth_result(&w, true);
    socks5_put_auth_result(&w, false);
    check_written(&w, "\x01\x00\x01\x01", 4);

    w = writer_of(out, sizeof out);
    socks5_put_reply(&w, SOCKS5_SUCCEEDED, &v4);
    check_written(&w, "\x05\x00\x00\x01\x7f\0\0\x01\x12\x34", 10);

    w = writer_of(out, sizeof out);
    socks5_put_reply(&w, SOCKS5_SUCCEEDED, &v6);
    check_written(&w, "\x05\x00\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\xab\xcd", SOCKS5_REPLY_MAX);

    const struct addr *nowhere[] = {NULL, &none, &path};
    for (size_t i = 0; i < 3; i++) {
        w = writer_of(out, sizeof out);
        socks5_put_reply(&w, SOCKS5_TTL_EXPIRED, nowhere[i]);
        check_written(&w, "\x05\x06\x00\x01\0\0\0\0\0\0", 10);
    }

    w = writer_of(out, 9);
    socks5_put_reply(&w, SOCKS5_GENERAL_FAILURE, NULL);
    assert_true(w.bad);
}

static void every_error_has_its_rep(void **state) {
    static const struct {
        int err, rep;
    } known[] = {
        {0, 0},
        {ERR_TARGET_REFUSED, 5},
        {ERR_TARGET_HOST_UNREACHABLE, 4},
        {ERR_TARGET_DNS, 4},
        {ERR_TARGET_NET_UNREACHABLE, 3},
        {ERR_TARGET_TIMEOUT, 6},
        {ERR_TARGET_DENIED, 2},
        {ERR_CLIENT_LOOP, 2},
        {ERR_CLIENT_DESTINATION, 2},
        {ERR_CLIENT_COMMAND, 7},
        {ERR_CLIENT_ADDRESS, 8},
        {ERR_UPSTREAM_UNREACHABLE, 3},
        {ERR_UPSTREAM_REFUSED, 3},
        {ERR_UPSTREAM_DNS, 3},
        {ERR_UPSTREAM_TIMEOUT, 3},
    };
    static const int all[] = {
#define X(symbol, value, class_, word, text) symbol,
        ERR_TABLE(X)
#undef X
    };
    (void)state;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_int_equal(socks5_rep(known[i].err), known[i].rep);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && known[k].err != all[i]) k++;
        if (k == sizeof known / sizeof *known) assert_int_equal(socks5_rep(all[i]), SOCKS5_GENERAL_FAILURE);
        assert_int_equal(socks4_rep(all[i]), all[i] == ERR_CLIENT_AUTH ? 93 : 91);
    }
    assert_int_equal(socks5_rep(-9999), SOCKS5_GENERAL_FAILURE);
    assert_int_equal(socks4_rep(0), 90);
}

/* --- datagrams --- */

static void datagram_header_and_payload(void **state) {
    static const char v4[] = "\0\0\0\x01\x01\x02\x03\x04\x00\x35" "query";
    static const char name[] = "\x12\x34\x07\x03\x04" "host" "\x00\x35";
    struct socks5_udp u;
    (void)state;

    assert_int_equal(socks5_udp_decode(&u, BYTES(v4)), 10);
    assert_int_equal(u.frag, 0);
    assert_int_equal(u.addr.port, 53);
    assert_memory_equal(u.addr.host, "\x01\x02\x03\x04", 4);
    assert_int_equal(u.payload_len, 5);
    assert_memory_equal(u.payload, "query", 5);

    assert_int_equal(socks5_udp_decode(&u, BYTES(name)), 11); /* RSV is not looked at */
    assert_int_equal(u.frag, 7);
    assert_int_equal(u.addr.host_len, 4);
    assert_int_equal(u.payload_len, 0);
}

static void truncated_datagrams_are_refused(void **state) {
    static const char *const whole[] = {
        "\0\0\0\x01\x01\x02\x03\x04\x00\x35",
        "\0\0\0\x04\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x00\x35",
        "\0\0\0\x03\x04host\x00\x35",
    };
    static const size_t length[] = {10, 22, 11};
    struct socks5_udp u;
    (void)state;

    for (size_t i = 0; i < 3; i++)
        for (size_t n = 0; n <= length[i]; n++) {
            uint8_t *copy = exact((const uint8_t *)whole[i], n);
            int got = socks5_udp_decode(&u, copy, n);
            assert_int_equal(got, n == length[i] ? (int)n : ERR_CLIENT_PROTOCOL);
            free(copy);
        }
    assert_int_equal(socks5_udp_decode(&u, BYTES("\0\0\0\x03\xff" "short")), ERR_CLIENT_PROTOCOL);
    assert_int_equal(socks5_udp_decode(&u, BYTES("\0\0\0\x03\x00\x00\x35")), ERR_CLIENT_PROTOCOL);
    assert_int_equal(socks5_udp_decode(&u, BYTES("\0\0\0\x02\x01\x02\x03\x04\x00\x35")), ERR_CLIENT_ADDRESS);
    assert_int_equal(socks5_udp_decode(&u, NULL, 0), ERR_CLIENT_PROTOCOL);
}

static void datagram_headers_are_written(void **state) {
    uint8_t out[SOCKS5_UDP_HEADER_MAX];
    struct addr v4 = ipv4(53), v6 = ipv6(53);
    struct dest d;
    struct socks5_udp u;
    struct writer w = writer_of(out, sizeof out);
    (void)state;

    socks5_put_udp_header(&w, &v4);
    check_written(&w, "\0\0\0\x01\x7f\0\0\x01\x00\x35", 10);

    w = writer_of(out, sizeof out);
    socks5_put_udp_header(&w, &v6);
    assert_int_equal(writer_len(&w), 22);
    assert_int_equal(socks5_udp_decode(&u, out, writer_len(&w)), 22);
    assert_int_equal(u.addr.atyp, SOCKS5_IPV6);
    assert_memory_equal(u.addr.host, &v6.u.in6.sin6_addr, 16);

    memset(&d, 0, sizeof d);
    d.kind = DEST_NAME;
    d.port = 0x0102;
    memset(d.host, 'n', DEST_NAME_MAX);
    w = writer_of(out, sizeof out);
    socks5_put_udp_header_dest(&w, &d);
    assert_false(w.bad);
    assert_int_equal(socks5_udp_decode(&u, out, writer_len(&w)), 4 + 1 + DEST_NAME_MAX + 2);
    assert_int_equal(u.addr.host_len, DEST_NAME_MAX);
    assert_memory_equal(u.addr.host, d.host, DEST_NAME_MAX);
    assert_int_equal(u.addr.port, 0x0102);

    d.kind = DEST_IPV4;
    d.ip = v4;
    w = writer_of(out, sizeof out);
    socks5_put_udp_header_dest(&w, &d);
    check_written(&w, "\0\0\0\x01\x7f\0\0\x01\x00\x35", 10);
}

/* --- SOCKS4 --- */

static void socks4_with_ip(void **state) {
    static const char p[] = "\x04\x01\x00\x50\xc0\x00\x02\x01" "fred\0";
    struct socks4_request r;
    struct dest d;
    (void)state;

    check_whole(REQUEST4, BYTES(p));
    assert_int_equal(socks4_request_decode(&r, BYTES(p)), 13);
    assert_int_equal(r.cmd, SOCKS_CONNECT);
    assert_int_equal(r.port, 80);
    assert_int_equal(r.user_len, 4);
    assert_memory_equal(r.user, "fred", 4);
    assert_null(r.name);
    assert_int_equal(socks4_dest(&d, &r), 0);
    assert_string_equal(d.host, "192.0.2.1");
    assert_int_equal(d.port, 80);
}

static void socks4a_with_name(void **state) {
    static const char p[] = "\x04\x02\x01\xbb\x00\x00\x00\x01\0" "example.org\0";
    struct socks4_request r;
    struct dest d;
    (void)state;

    check_whole(REQUEST4, BYTES(p));
    assert_int_equal(socks4_request_decode(&r, BYTES(p)), 21);
    assert_int_equal(r.cmd, SOCKS_BIND);
    assert_int_equal(r.user_len, 0);
    assert_int_equal(r.name_len, 11);
    assert_int_equal(socks4_dest(&d, &r), 0);
    assert_int_equal(d.kind, DEST_NAME);
    assert_string_equal(d.host, "example.org");
    assert_int_equal(d.port, 443);
}

static void socks4_zero_address_is_not_4a(void **state) {
    struct socks4_request r;
    (void)state;
    assert_int_equal(socks4_request_decode(&r, BYTES("\x04\x01\x00\x50\0\0\0\0\0rest\0")), 9);
    assert_null(r.name);
    assert_int_equal(socks4_request_decode(&r, BYTES("\x04\x01\x00\x50\0\0\x01\x01\0rest\0")), 9);
    assert_null(r.name);
}

static void socks4_longest_texts(void **state) {
    uint8_t p[SOCKS4_REQUEST_MAX + 8];
    struct socks4_request r;
    (void)state;

    memset(p, 'x', sizeof p);
    memcpy(p, "\x04\x01\x00\x50\x00\x00\x00\x63", 8);
    p[8 + 255] = 0;
    p[SOCKS4_REQUEST_MAX - 1] = 0;
    check_whole(REQUEST4, p, SOCKS4_REQUEST_MAX);
    assert_int_equal(socks4_request_decode(&r, p, SOCKS4_REQUEST_MAX), SOCKS4_REQUEST_MAX);
    assert_int_equal(r.user_len, 255);
    assert_int_equal(r.name_len, 255);

    p[SOCKS4_REQUEST_MAX - 1] = 'x'; /* the name goes on */
    check_error(REQUEST4, p, sizeof p, SOCKS4_REQUEST_MAX, ERR_CLIENT_TOO_LARGE);
    p[8 + 255] = 'x'; /* and so does the user id */
    check_error(REQUEST4, p, sizeof p, 8 + 256, ERR_CLIENT_TOO_LARGE);
}

static void socks4a_without_name_is_refused(void **state) {
    (void)state;
    check_error(REQUEST4, BYTES("\x04\x01\x00\x50\0\0\0\x05user\0\0"), 14, ERR_CLIENT_PROTOCOL);
}

static void socks4_name_is_judged_as_any_other(void **state) {
    struct socks4_request r;
    struct dest d;
    (void)state;
    assert_true(socks4_request_decode(&r, BYTES("\x04\x01\x00\x50\0\0\0\x05\0a\r\nb\0")) > 0);
    assert_int_equal(socks4_dest(&d, &r), ERR_CLIENT_DESTINATION);
    assert_true(socks4_request_decode(&r, BYTES("\x04\x01\x00\x00\x7f\0\0\x01\0")) > 0);
    assert_int_equal(socks4_dest(&d, &r), ERR_CLIENT_DESTINATION); /* port 0 */
}

static void socks4_answers(void **state) {
    uint8_t out[SOCKS4_REPLY_LEN];
    struct addr v4 = ipv4(0x1f90), v6 = ipv6(1);
    struct writer w = writer_of(out, sizeof out);
    (void)state;

    socks4_put_reply(&w, SOCKS4_REJECTED, NULL);
    check_written(&w, "\0\x5b\0\0\0\0\0\0", 8);
    w = writer_of(out, sizeof out);
    socks4_put_reply(&w, SOCKS4_GRANTED, &v4);
    check_written(&w, "\0\x5a\x1f\x90\x7f\0\0\x01", 8);
    w = writer_of(out, sizeof out);
    socks4_put_reply(&w, SOCKS4_GRANTED, &v6);
    check_written(&w, "\0\x5a\0\0\0\0\0\0", 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greeting_lists_methods),
        cmocka_unit_test(greeting_without_methods_offers_nothing),
        cmocka_unit_test(greeting_of_255_methods),
        cmocka_unit_test(another_version_is_refused_at_once),
        cmocka_unit_test(auth_holds_any_bytes),
        cmocka_unit_test(auth_lengths_from_0_to_255),
        cmocka_unit_test(request_instead_of_auth_is_refused),
        cmocka_unit_test(request_with_ipv4),
        cmocka_unit_test(request_with_ipv6),
        cmocka_unit_test(request_with_name),
        cmocka_unit_test(request_with_the_longest_name),
        cmocka_unit_test(request_errors_come_early),
        cmocka_unit_test(any_command_is_decoded_with_its_address),
        cmocka_unit_test(unusable_destinations_are_refused),
        cmocka_unit_test(pipelined_messages_follow_one_another),
        cmocka_unit_test(answers_are_as_specified),
        cmocka_unit_test(every_error_has_its_rep),
        cmocka_unit_test(datagram_header_and_payload),
        cmocka_unit_test(truncated_datagrams_are_refused),
        cmocka_unit_test(datagram_headers_are_written),
        cmocka_unit_test(socks4_with_ip),
        cmocka_unit_test(socks4a_with_name),
        cmocka_unit_test(socks4_zero_address_is_not_4a),
        cmocka_unit_test(socks4_longest_texts),
        cmocka_unit_test(socks4a_without_name_is_refused),
        cmocka_unit_test(socks4_name_is_judged_as_any_other),
        cmocka_unit_test(socks4_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
