#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/err.h"

static const char *text_of(const struct addr *a) {
    static char buf[ADDR_TEXT_MAX];
    return addr_format(a, buf, sizeof buf);
}

static struct addr parsed(const char *text) {
    struct addr a;
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

static struct addr unix_addr(const char *path, size_t n) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct addr a;
    memcpy(un.sun_path, path, n);
    n += offsetof(struct sockaddr_un, sun_path);
    assert_true(addr_from_sockaddr(&a, (struct sockaddr *)&un, (socklen_t)n));
    return a;
}

static void parse_accepts(void **state) {
    (void)state;
    static const struct {
        const char *text, *canonical;
        int family;
        unsigned port;
    } rows[] = {
        {"1.2.3.4:80", "1.2.3.4:80", AF_INET, 80},
        {"0.0.0.0:0", "0.0.0.0:0", AF_INET, 0},
        {"255.255.255.255:65535", "255.255.255.255:65535", AF_INET, 65535},
        {"[::1]:80", "[::1]:80", AF_INET6, 80},
        {"[::]:1", "[::]:1", AF_INET6, 1},
        {"[2001:DB8:0:0:0:0:0:1]:443", "[2001:db8::1]:443", AF_INET6, 443},
        {"[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.4]:5", AF_INET6, 5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct addr a = parsed(rows[i].text), again;
        assert_int_equal(a.u.sa.sa_family, rows[i].family);
        assert_int_equal(addr_port(&a), rows[i].port);
        assert_string_equal(text_of(&a), rows[i].canonical);
        assert_int_equal(addr_parse(&again, rows[i].canonical), 0);
        assert_true(addr_equal(&a, &again));
    }
}

static void parse_refuses(void **state) {
    (void)state;
    static const char *const rows[] = {
        "", ":", ":80", "1.2.3.4", "1.2.3.4:", "1.2.3.4:+1", "1.2.3.4: 1", "1.2.3.4:1 ", "1.2.3.4:65536",
        "1.2.3.4:100000", "1.2.3.4:080", "1.2.3.4:00", "1.2.3.4:0x50", "1.2.3.4:80a", "1.2.3:80", "01.2.3.4:80",
        "1.2.3.4.5:80", "256.2.3.4:80", "0x7f.0.0.1:80", " 1.2.3.4:80", "localhost:80", "[1.2.3.4]:80", "::1:80",
        "[::1:80", "::1]:80", "[]:80", "[::1]", "[::1]80", "[[::1]]:80", "[::1%lo]:80", "[fe80::1%1]:80",
        "[1:2:3:4:5:6:7:8:9]:80", "[::1 ]:80", "1.2.3.4:80:80", "unix:/x:1",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:80",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct addr a;
        memset(&a, 0xff, sizeof a);
        if (addr_parse(&a, rows[i]) != ERR_CONFIG) fail_msg("accepted %s", rows[i]);
        assert_int_equal(a.len, 0);
    }
}

static void parse_ip(void **state) {
    (void)state;
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, "10.0.0.1", 53), 0);
    assert_string_equal(text_of(&a), "10.0.0.1:53");
    assert_int_equal(addr_parse_ip(&a, "fe80::1", 53), 0);
    assert_string_equal(text_of(&a), "[fe80::1]:53");
    static const char *const bad[] = {"", "[::1]", "10.0.0.1:53", "10.1", "fe80::1%1", "name"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(addr_parse_ip(&a, bad[i], 53), ERR_CONFIG);
        assert_int_equal(a.len, 0);
    }
}

static void from_bytes_and_sockaddr(void **state) {
    (void)state;
    static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 7};
    struct addr a, b;
    addr_from_bytes(&a, v6, 4, 80);
    assert_string_equal(text_of(&a), "32.1.13.184:80");
    addr_from_bytes(&a, v6, 16, 80);
    assert_string_equal(text_of(&a), "[2001:db8::7]:80");
    assert_true(addr_from_sockaddr(&b, &a.u.sa, a.len));
    assert_true(addr_equal(&a, &b));
    assert_int_equal(b.len, sizeof(struct sockaddr_in6));
    addr_from_bytes(&a, v6, 15, 80);
    assert_int_equal(a.len, 0);
    /* Too long for the type, or too short for its family. */
    struct {
        struct addr a;
        char more[256];
    } big = {.a = b};
    assert_false(addr_from_sockaddr(&a, &big.a.u.sa, sizeof big.a.u + 1));
    assert_int_equal(a.len, 0);
    assert_false(addr_from_sockaddr(&a, &b.u.sa, b.len - 1));
    assert_false(addr_from_sockaddr(&a, &b.u.sa, 1));
    /* A kernel's "no address". */
    assert_true(addr_from_sockaddr(&a, &b.u.sa, 0));
    assert_int_equal(a.len, 0);
    assert_string_equal(text_of(&a), "none");
}

static void formats(void **state) {
    (void)state;
    char buf[ADDR_TEXT_MAX];
    struct addr a = parsed("[fe80::1]:80");
    assert_string_equal(addr_format_ip(&a, buf, sizeof buf), "fe80::1");
    a.u.in6.sin6_scope_id = 3;
    assert_string_equal(addr_format(&a, buf, sizeof buf), "[fe80::1%3]:80");
    a = parsed("1.2.3.4:80");
    assert_string_equal(addr_format_ip(&a, buf, sizeof buf), "1.2.3.4");
    /* The longest ones fit, and a small buffer is terminated. */
    a = parsed("[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
    a.u.in6.sin6_scope_id = UINT32_MAX;
    assert_string_equal(text_of(&a), "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535");
    memset(buf, 'x', sizeof buf);
    assert_string_equal(addr_format(&a, buf, 5), "[111");
    char path[sizeof a.u.un.sun_path + 1];
    memset(path, 'p', sizeof path);
    a = unix_addr(path, sizeof a.u.un.sun_path);
    path[sizeof path - 1] = 0;
    assert_string_equal(text_of(&a) + 5, path);
    a = unix_addr("/run/x", 7);
    assert_string_equal(text_of(&a), "unix:/run/x");
    a = unix_addr("\0name", 5);
    assert_string_equal(text_of(&a), "unix:@name");
    a = unix_addr("", 0);
    assert_string_equal(text_of(&a), "unix:");
}

static void ports(void **state) {
    (void)state;
    struct addr a = parsed("1.2.3.4:80"), b = parsed("[::1]:80"), u = unix_addr("/x", 3), none = {0};
    addr_set_port(&a, 65535);
    addr_set_port(&b, 1);
    addr_set_port(&u, 5);
    addr_set_port(&none, 5);
    assert_string_equal(text_of(&a), "1.2.3.4:65535");
    assert_string_equal(text_of(&b), "[::1]:1");
    assert_int_equal(addr_port(&u), 0);
    assert_int_equal(addr_port(&none), 0);
    assert_string_equal(text_of(&u), "unix:/x");
}

static void equality(void **state) {
    (void)state;
    struct addr a = parsed("1.2.3.4:80"), p = parsed("1.2.3.4:81"), o = parsed("1.2.3.5:80");
    struct addr m = parsed("[::ffff:1.2.3.4]:80"), s = parsed("[fe80::1]:80"), t = s, none = {0};
    struct addr u = unix_addr("/x", 2), v = unix_addr("/x", 3), w = unix_addr("/y", 3);
    assert_true(addr_equal(&a, &a));
    assert_false(addr_equal(&a, &p));
    assert_false(addr_equal(&a, &o));
    assert_false(addr_equal(&a, &m));
    assert_true(addr_equal(&u, &v)); /* with and without the NUL */
    assert_false(addr_equal(&u, &w));
    assert_false(addr_equal(&u, &a));
    assert_false(addr_equal(&a, &none));
    assert_true(addr_equal(&none, &none));

    assert_true(addr_same_ip(&a, &p));
    assert_false(addr_same_ip(&a, &o));
    assert_true(addr_same_ip(&a, &m));
    assert_true(addr_same_ip(&m, &a));
    assert_false(addr_same_ip(&a, &s));
    assert_false(addr_same_ip(&u, &u));
    assert_false(addr_same_ip(&none, &none));
    t.u.in6.sin6_scope_id = 2;
    assert_false(addr_equal(&s, &t));
    assert_true(addr_same_ip(&s, &t));
    s.u.in6.sin6_scope_id = 3;
    assert_false(addr_same_ip(&s, &t));
}

static void kinds(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int loopback, unspecified;
        const char *unmapped;
    } rows[] = {
        {"127.0.0.1:1", 1, 0, "127.0.0.1:1"},
        {"127.255.255.254:1", 1, 0, "127.255.255.254:1"},
        {"128.0.0.1:1", 0, 0, "128.0.0.1:1"},
        {"126.255.255.255:1", 0, 0, "126.255.255.255:1"},
        {"0.0.0.0:1", 0, 1, "0.0.0.0:1"},
        {"0.0.0.1:1", 0, 0, "0.0.0.1:1"},
        {"[::1]:1", 1, 0, "[::1]:1"},
        {"[::]:1", 0, 1, "[::]:1"},
        {"[::2]:1", 0, 0, "[::2]:1"},
        {"[::ffff:127.0.0.1]:1", 1, 0, "127.0.0.1:1"},
        {"[::ffff:0.0.0.0]:1", 0, 1, "0.0.0.0:1"},
        {"[::ffff:8.8.8.8]:1", 0, 0, "8.8.8.8:1"},
        {"[64:ff9b::7f00:1]:1", 0, 0, "[64:ff9b::7f00:1]:1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct addr a = parsed(rows[i].text);
        assert_int_equal(addr_is_loopback(&a), rows[i].loopback);
        assert_int_equal(addr_is_unspecified(&a), rows[i].unspecified);
        addr_unmap(&a);
        assert_string_equal(text_of(&a), rows[i].unmapped);
    }
    struct addr u = unix_addr("/x", 3), none = {0};
    assert_true(addr_is_loopback(&u));
    assert_false(addr_is_unspecified(&u));
    assert_false(addr_is_loopback(&none));
    assert_false(addr_is_unspecified(&none));
    addr_unmap(&none);
    assert_int_equal(none.len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_accepts), cmocka_unit_test(parse_refuses),
        cmocka_unit_test(parse_ip),      cmocka_unit_test(from_bytes_and_sockaddr),
        cmocka_unit_test(formats),       cmocka_unit_test(ports),
        cmocka_unit_test(equality),      cmocka_unit_test(kinds),
    };
    return cmocka_run_group_tests_name("addr", tests, NULL, NULL);
}
