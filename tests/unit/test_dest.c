#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/dest.h"
#include "base/err.h"

#define L63 "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc"
#define N253 L63 "." L63 "." L63 ".abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghija"

/* --- what is accepted, and what becomes of it --- */

struct good {
    const char *text;
    enum dest_kind kind;
    const char *host;
};

static const struct good names[] = {
    {"example.com", DEST_NAME, "example.com"},
    {"EXAMPLE.Com", DEST_NAME, "example.com"},
    {"example.com.", DEST_NAME, "example.com"},
    {"localhost", DEST_NAME, "localhost"},
    {"localhost.", DEST_NAME, "localhost"},
    {"a", DEST_NAME, "a"},
    {"a-b.c--d.e", DEST_NAME, "a-b.c--d.e"},
    {"r3---sn-x.googlevideo.com", DEST_NAME, "r3---sn-x.googlevideo.com"},
    {"_dmarc.example.com", DEST_NAME, "_dmarc.example.com"},
    {"my_host", DEST_NAME, "my_host"},
    {"_udp2.example.com", DEST_NAME, "_udp2.example.com"},
    {"_udp", DEST_NAME, "_udp"},
    {"_check2", DEST_NAME, "_check2"},
    {"1.2.3.4.example", DEST_NAME, "1.2.3.4.example"},
    {"123abc", DEST_NAME, "123abc"},
    {"0xyz", DEST_NAME, "0xyz"},
    {"a.0xg", DEST_NAME, "a.0xg"},
    {"1e5", DEST_NAME, "1e5"},
    {"0x0x1", DEST_NAME, "0x0x1"},
    {L63 ".com", DEST_NAME, L63 ".com"},
    {N253, DEST_NAME, N253},
    {N253 ".", DEST_NAME, N253},
    {"xn--bcher-kva.de", DEST_NAME, "xn--bcher-kva.de"},
    {"XN--BCHER-KVA.DE", DEST_NAME, "xn--bcher-kva.de"},
};

static const struct good idns[] = {
    {"b\xc3\xbc"
     "cher.de",
     DEST_NAME, "xn--bcher-kva.de"},
    {"B\xc3\x9c"
     "CHER.DE.",
     DEST_NAME, "xn--bcher-kva.de"},
    {"bu\xcc\x88"
     "cher.de",
     DEST_NAME, "xn--bcher-kva.de"}, /* not composed */
    {"stra\xc3\x9f"
     "e.de",
     DEST_NAME, "xn--strae-oqa.de"}, /* not "strasse" */
    {"_dmarc.b\xc3\xbc"
     "cher.de",
     DEST_NAME, "_dmarc.xn--bcher-kva.de"},
    {"\xe4\xbe\x8b\xe3\x81\x88\xe3\x80\x82\xe3\x83\x86\xe3\x82\xb9\xe3\x83\x88", DEST_NAME,
     "xn--r8jz45g.xn--zckzah"}, /* an ideographic full stop */
    {"\xef\xbd\x85\xef\xbd\x98.com", DEST_NAME, "ex.com"},                   /* full-width "ex" */
    {"\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", DEST_IPV4, "127.0.0.1"}, /* full-width "127" */
    {"\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.\xe2\x93\xaa.0.1", DEST_IPV4, "127.0.0.1"}, /* circled digits */
    {"0\xef\xbd\x98"
     "7f000001",
     DEST_IPV4, "127.0.0.1"}, /* full-width "x" */
};

static const struct good ips[] = {
    {"1.2.3.4", DEST_IPV4, "1.2.3.4"},
    {"1.2.3.4.", DEST_IPV4, "1.2.3.4"},
    {"0.0.0.0", DEST_IPV4, "0.0.0.0"},
    {"255.255.255.255", DEST_IPV4, "255.255.255.255"},
    {"127.1", DEST_IPV4, "127.0.0.1"},
    {"127.0.1", DEST_IPV4, "127.0.0.1"},
    {"127.65535", DEST_IPV4, "127.0.255.255"},
    {"0x7f000001", DEST_IPV4, "127.0.0.1"},
    {"0X7F.1", DEST_IPV4, "127.0.0.1"},
    {"0x7f.0x0.0x0.0x1", DEST_IPV4, "127.0.0.1"},
    {"2130706433", DEST_IPV4, "127.0.0.1"},
    {"4294967295", DEST_IPV4, "255.255.255.255"},
    {"017700000001", DEST_IPV4, "127.0.0.1"},
    {"0177.0.0.01", DEST_IPV4, "127.0.0.1"},
    {"010.8.8.8", DEST_IPV4, "8.8.8.8"},
    {"0", DEST_IPV4, "0.0.0.0"},
    {"::1", DEST_IPV6, "::1"},
    {"[::1]", DEST_IPV6, "::1"},
    {"::", DEST_IPV6, "::"},
    {"[2001:DB8:0:0:0:0:0:1]", DEST_IPV6, "2001:db8::1"},
    {"2001:db8:0:0:1:0:0:1", DEST_IPV6, "2001:db8::1:0:0:1"},
    {"1111:2222:3333:4444:5555:6666:7777:8888", DEST_IPV6, "1111:2222:3333:4444:5555:6666:7777:8888"},
    {"::1.2.3.4", DEST_IPV6, "::1.2.3.4"},
    {"64:ff9b::1.2.3.4", DEST_IPV6, "64:ff9b::102:304"},
    {"::ffff:127.0.0.1", DEST_IPV4, "127.0.0.1"},
    {"[::ffff:7f00:1]", DEST_IPV4, "127.0.0.1"},
    {"0:0:0:0:0:FFFF:7F00:1", DEST_IPV4, "127.0.0.1"},
};

static void check_good(const struct good *row) {
    struct dest d, again;
    char text[DEST_TEXT_MAX], expected[DEST_TEXT_MAX + 8];
    memset(&d, 0xff, sizeof d);
    if (dest_set_name(&d, DEST_UDP, row->text, strlen(row->text), 443) != 0) fail_msg("refused \"%s\"", row->text);
    assert_int_equal(d.kind, row->kind);
    assert_string_equal(d.host, row->host);
    assert_int_equal(d.network, DEST_UDP);
    assert_int_equal(d.port, 443);
    if (d.kind == DEST_NAME) {
        assert_int_equal(d.ip.len, 0);
    } else {
        char ip[ADDR_TEXT_MAX];
        assert_string_equal(addr_format_ip(&d.ip, ip, sizeof ip), row->host);
        assert_int_equal(addr_port(&d.ip), 443);
        assert_int_equal(d.ip.u.sa.sa_family, d.kind == DEST_IPV4 ? AF_INET : AF_INET6);
    }
    snprintf(expected, sizeof expected, d.kind == DEST_IPV6 ? "[%s]:443" : "%s:443", row->host);
    assert_string_equal(dest_format(&d, text, sizeof text), expected);
    /* The canonical form is its own canonical form. */
    assert_int_equal(dest_set_name(&again, DEST_UDP, d.host, strlen(d.host), 443), 0);
    assert_true(dest_equal(&d, &again));
}

static void accepts_names(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check_good(&names[i]);
}

static void accepts_international_names(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof idns / sizeof idns[0]; i++) check_good(&idns[i]);
}

static void accepts_addresses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof ips / sizeof ips[0]; i++) check_good(&ips[i]);
}

/* --- what is refused --- */

#define B(s) {s, sizeof(s) - 1}

static const struct {
    const char *text;
    size_t n;
} bad[] = {
    B(""), B("."), B(".."), B(".a"), B("a.."), B("a..b"), B("..a"),
    /* bytes that would end, split or change something behind us */
    B("a\0b"), B("\0"), B("example.com\0"), B("a\r\nb"), B("a\n"), B("a b"), B(" a"), B("a "), B("a\tb"),
    B("a/b"), B("a\\b"), B("u@a"), B("a%62"), B("a%00"), B("a?b"), B("a#b"), B("a&b"), B("a*b"), B("*.a"),
    B("a,b"), B("a;b"), B("a\"b"), B("<a>"), B("a|b"), B("a+b"), B("a=b"), B("a!"), B("a~b"), B("a`b"),
    B("a{b}"), B("a(b)"), B("a\x7f"), B("a\x1b[0m"), B("$a"), B("a'b"), B("a^b"),
    /* labels */
    B("-a"), B("a-"), B("a.-b"), B("a.b-"), B("-"), B("a.-"), B(L63 "x.com"), B("a." L63 "x"), B(N253 "x"),
    B(N253 ".."), B("a" N253 "."),
    /* what looks like IPv4 and is none */
    B("1.2.3.4.5"), B("1.2.3.256"), B("256.1.1.1"), B("1.2.65536"), B("1.16777216"), B("4294967296"),
    B("99999999999999999999999"), B("08"), B("1.2.3.09"), B("0x"), B("1.0x"), B("0x1ffffffff"), B("a.1"),
    B("a.0x1"), B("example.123"), B("1.2.3.a.4"), B("1..2"), B("1.2.3.4.."), B("-1"), B("1.-2"),
    B("+1.2.3.4"),
    /* IPv6 that is none; zones; brackets around something else */
    B(":"), B(":::"), B("::1::"), B("1:2:3:4:5:6:7"), B("1:2:3:4:5:6:7:8:9"), B("12345::"), B("::g"),
    B("::1%lo"), B("[::1%lo]"), B("fe80::1%1"), B("[fe80::1%251]"), B("[::1"), B("::1]"), B("[]"), B("["),
    B("]"), B("[1.2.3.4]"), B("[example.com]"), B("[::1]."), B("::1."), B("[[::1]]"), B("[::1]x"),
    B("[ ::1]"), B("::1 "), B("::1\0"), B("::ffff:1.2.3"), B("::ffff:1.2.3.256"), B("a:80"), B("1.2.3.4:80"),
    B("[::1]:80"), B("[::1\0]"), B("[v1.x]"), B("0000:0000:0000:0000:0000:0000:0000:0000:0001"),
    /* the endpoint's pseudo-hosts */
    B("_udp2"), B("_icmp"), B("_check"), B("_UDP2"), B("_Icmp."), B("_CHECK."), B("_udp2:0"), B("_check:0"),
    B("\xef\xbc\xbfudp2"),    /* full-width underscore */
    B("_ud\xc2\xadp2"),       /* soft hyphen, mapped to nothing */
    B("_ic\xe2\x80\x8bmp"),   /* zero-width space, too */
    B("_check\xe3\x80\x82"),  /* ideographic full stop */
    B("_\xef\xbd\x83heck"),   /* full-width "c" */
    /* UTF-8 that is none, or maps to what is not allowed */
    B("\xff\xfe"), B("a\xc3"), B("\xc0\xafx"), B("\xed\xa0\x80"), B("\xf5\x80\x80\x80"), B("\x80"),
    B("x\xef\xbc\xa0y.com"),  /* full-width "@" */
    B("x\xef\xbc\x8fy.com"),  /* full-width "/" */
    B("x\xef\xbc\x9ay.com"),  /* full-width ":" */
    B("x\xef\xbc\x85y.com"),  /* full-width "%" */
    B("\xe2\x84\x80.com"),    /* "a/c" as one character */
    B("a\xe2\x80\xa6"
      "b"),                   /* an ellipsis: three dots */
    B("a\xe3\x80\x82\xe3\x80\x82"
      "b"),                   /* two ideographic full stops */
    B("\xe3\x80\x82"), B("\xc2\xad"), B("a\xc2\xa0"
                                        "b"), /* no-break space */
    B("a\xe2\x80\xa8"
      "b"),                   /* line separator */
    B("\xe2\x80\xae"
      "a"),                   /* right-to-left override */
    B("xn--zzzzzz.b\xc3\xbc"
      "cher.de"),
};

static void refuses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dest d;
        memset(&d, 0xff, sizeof d);
        if (dest_set_name(&d, DEST_TCP, bad[i].text, bad[i].n, 80) != ERR_CLIENT_DESTINATION)
            fail_msg("row %zu accepted \"%s\" as \"%s\"", i, bad[i].text, d.host);
        assert_int_equal(d.port, 0);
        assert_int_equal(d.host[0], 0);
    }
}

/* Every byte in the middle of a name: exactly letters, digits, '-', '.' and '_' pass. */
static void every_byte(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        char text[] = "a?b.example";
        struct dest d;
        text[1] = (char)c;
        int good_byte = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                        c == '.' || c == '_';
        int r = dest_set_name(&d, DEST_TCP, text, sizeof text - 1, 80);
        if (r != (good_byte ? 0 : ERR_CLIENT_DESTINATION)) fail_msg("byte %#x", (unsigned)c);
    }
}

static void ports_and_lengths(void **state) {
    (void)state;
    static char huge[70000];
    struct dest d;
    assert_int_equal(dest_set_name(&d, DEST_TCP, "a", 1, 0), ERR_CLIENT_DESTINATION);
    assert_int_equal(dest_set_name(&d, DEST_TCP, "::1", 3, 0), ERR_CLIENT_DESTINATION);
    assert_int_equal(dest_set_name(&d, DEST_TCP, "a", 1, 65535), 0);
    assert_int_equal(d.port, 65535);
    assert_int_equal(dest_set_name(&d, DEST_TCP, NULL, 0, 80), ERR_CLIENT_DESTINATION);
    memset(huge, 'a', sizeof huge);
    for (size_t n = 254; n < sizeof huge; n = n * 2 - 1) {
        assert_int_equal(dest_set_name(&d, DEST_TCP, huge, n, 80), ERR_CLIENT_DESTINATION);
        huge[n / 2] = '.';
        huge[n / 3] = (char)0xc3;
        huge[n / 3 + 1] = (char)0xbc;
        assert_int_equal(dest_set_name(&d, DEST_TCP, huge, n, 80), ERR_CLIENT_DESTINATION);
    }
    /* The text need not be terminated: only n bytes count. */
    assert_int_equal(dest_set_name(&d, DEST_TCP, "example.com/path", 11, 80), 0);
    assert_string_equal(d.host, "example.com");
    assert_int_equal(d.network, DEST_TCP);
}

static void addresses_as_bytes(void **state) {
    (void)state;
    static const uint8_t v4[4] = {10, 0, 0, 1};
    static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
    static const uint8_t mapped[16] = {[10] = 0xff, 0xff, 127, 0, 0, 1};
    struct dest d, e;
    char text[DEST_TEXT_MAX];
    assert_int_equal(dest_set_ip(&d, DEST_TCP, v4, 4, 22), 0);
    assert_string_equal(dest_format(&d, text, sizeof text), "10.0.0.1:22");
    assert_int_equal(dest_set_name(&e, DEST_TCP, "0xa000001", 9, 22), 0);
    assert_true(dest_equal(&d, &e));
    assert_true(addr_equal(&d.ip, &e.ip));
    assert_int_equal(dest_set_ip(&d, DEST_UDP, v6, 16, 22), 0);
    assert_string_equal(dest_format(&d, text, sizeof text), "[2001:db8::1]:22");
    assert_int_equal(d.network, DEST_UDP);
    assert_int_equal(dest_set_ip(&d, DEST_TCP, mapped, 16, 22), 0);
    assert_int_equal(d.kind, DEST_IPV4);
    assert_string_equal(dest_format(&d, text, sizeof text), "127.0.0.1:22");
    assert_int_equal(dest_set_ip(&d, DEST_TCP, v4, 4, 0), ERR_CLIENT_DESTINATION);
    assert_int_equal(dest_set_ip(&d, DEST_TCP, v6, 5, 22), ERR_CLIENT_DESTINATION);
    assert_int_equal(d.port, 0);
    assert_int_equal(dest_set_ip(&d, DEST_TCP, v6, 0, 22), ERR_CLIENT_DESTINATION);
}

static void equality(void **state) {
    (void)state;
    struct dest a, b;
    assert_int_equal(dest_set_name(&a, DEST_TCP, "Example.com.", 12, 80), 0);
    assert_int_equal(dest_set_name(&b, DEST_TCP, "example.COM", 11, 80), 0);
    assert_true(dest_equal(&a, &b));
    b.network = DEST_UDP;
    assert_false(dest_equal(&a, &b));
    b = a;
    b.port = 81;
    assert_false(dest_equal(&a, &b));
    assert_int_equal(dest_set_name(&b, DEST_TCP, "example.org", 11, 80), 0);
    assert_false(dest_equal(&a, &b));
}

static void longest_text_fits(void **state) {
    (void)state;
    struct dest d;
    char text[DEST_TEXT_MAX];
    assert_int_equal(dest_set_name(&d, DEST_TCP, N253, strlen(N253), 65535), 0);
    assert_string_equal(dest_format(&d, text, sizeof text), N253 ":65535");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_names),     cmocka_unit_test(accepts_international_names),
        cmocka_unit_test(accepts_addresses), cmocka_unit_test(refuses),
        cmocka_unit_test(every_byte),        cmocka_unit_test(ports_and_lengths),
        cmocka_unit_test(addresses_as_bytes), cmocka_unit_test(equality),
        cmocka_unit_test(longest_text_fits),
    };
    return cmocka_run_group_tests_name("dest", tests, NULL, NULL);
}
