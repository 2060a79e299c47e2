/* test_inbound_socks.c - what SOCKS clients say to a listener, well or badly. The numbers are those of a list of attacks by
 * local SOCKS clients (A). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "codec/socks.h"
#include "lib/inbound_talk.h"

#define REFUSED4 "\0\133\0\0\0\0\0\0"
#define GRANTED4 "\0\132\0\0\0\0\0\0"
#define WRONG_USER4 "\0\135\0\0\0\0\0\0"
#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16
#define X255 X64 X64 X64 X16 X16 X16 "xxxxxxxxxxxxxxx"

static const struct listen_user users[] = {{"alice", "secret"}, {"bob", "builder"}, {X255, X255}};

static void with_users(void) {
    talk_fresh(&(struct listen_config){.protocols = LISTEN_SOCKS5, .users = users, .n_users = 3});
}

static int begin(void **state) {
    (void)state;
    talk_fresh(&(struct listen_config){.protocols = LISTEN_SOCKS5});
    return 0;
}

/* What becomes of a CONNECT to this name. */
static void named(const char *name, size_t n, uint16_t port, struct talk *t) {
    uint8_t head[] = {5, 1, 0, 5, 1, 0, 3, (uint8_t)n}, tail[] = {(uint8_t)(port >> 8), (uint8_t)port};
    *t = talk_open();
    talk_say(t, head, sizeof head);
    talk_say(t, name, n);
    talk_say(t, tail, 2);
}

static void name_is_refused(const char *name, size_t n, uint16_t port, const char *reason) {
    unsigned records = rig->records, opens = rig->n_opens;
    struct talk t;
    named(name, n, port, &t);
    HEARS(&t, CHOSEN REP("\2"));
    talk_is_closed(&t);
    assert_int_equal(rig->records, records + 1);
    assert_int_equal(rig->n_opens, opens);
    talk_recorded(reason);
}

static void name_becomes(const char *name, size_t n, uint16_t port, const char *dest) {
    char text[DEST_TEXT_MAX];
    unsigned opens = rig->n_opens;
    struct talk t;
    named(name, n, port, &t);
    HEARS(&t, CHOSEN);
    assert_int_equal(rig->n_opens, opens + 1);
    assert_string_equal(dest_format(&rig_opened(rig, opens)->dest, text, sizeof text), dest);
    talk_close(&t, true);
}

/* --- greeting and authentication --- */

static void a04_no_methods(void **state) {
    static const struct scene none[] = {SCENE("\5\0", "\5\377", "protocol=socks5 reason=client-auth"),
                                        SCENE("\5\0" CONNECT, "\5\377", "reason=client-auth")};
    (void)state;
    SCENES(none);
    with_users();
    SCENES(none);
}

static void a05_the_wanted_method_last(void **state) {
    (void)state;
    static const struct served last = {"\5\377" X64 X64 X64 X16 X16 X16 "xxxxxxxxxxxxxx\0" CONNECT,
                                       257 + 10, 267, CHOSEN, 2, REP("\0"), 10, "192.0.2.1:443"};
    talk_served(&last);
}

static void a06_a_method_that_does_not_do(void **state) {
    static const struct scene open[] = {SCENE("\5\1\2", "\5\377", "protocol=socks5 reason=client-auth"),
                                        SCENE("\5\3\1\2\3", "\5\377", "reason=client-auth")};
    static const struct scene closed[] = {SCENE("\5\1\0", "\5\377", "protocol=socks5 reason=client-auth"),
                                          SCENE("\5\3\0\1\3" CONNECT, "\5\377", "reason=client-auth")};
    (void)state;
    SCENES(open);
    assert_non_null(strstr(rig->record, "insists on authentication"));
    with_users();
    SCENES(closed);
    assert_non_null(strstr(rig->record, "does not offer user name and password"));
}

static void a07_authentication_skipped(void **state) {
    static const struct scene skipped[] = {
        SCENE(AUTH_GREETING CONNECT, AUTH_CHOSEN, "protocol=socks5 reason=client-protocol"),
        SCENE(AUTH_GREETING CONNECT "payload", AUTH_CHOSEN, "reason=client-protocol"),
        SCENE(AUTH_GREETING GREETING CONNECT, AUTH_CHOSEN, "reason=client-protocol"),
    };
    (void)state;
    with_users();
    SCENES(skipped);
    assert_non_null(strstr(rig->record, "skips authentication"));
}

static void a08_credentials(void **state) {
    static const struct scene wrong[] = {
        SCENE(AUTH_GREETING "\1\0\6secret", AUTH_CHOSEN "\1\1", "protocol=socks5 reason=client-auth by=client"),
        SCENE(AUTH_GREETING "\1\5alice\0", AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\0\0", AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\5alice\7secret\0" CONNECT, AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\6alice\0\6secret", AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\4alic\6secret", AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\5alice\5secre", AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\5Alice\6secret", AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\5alice\6Secret", AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\5alice\7builder" CONNECT, AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\1\377" X255 "\376" X64 X64 X64 X16 X16 X16 "xxxxxxxxxxxxxx" CONNECT,
              AUTH_CHOSEN "\1\1", "reason=client-auth"),
        SCENE(AUTH_GREETING "\0\5alice\6secret" CONNECT, AUTH_CHOSEN, "reason=client-protocol"),
        SCENE(AUTH_GREETING "\2\5alice\6secret" CONNECT, AUTH_CHOSEN, "reason=client-protocol"),
    };
    (void)state;
    with_users();
    SCENES(wrong);
}

static void a08_right_ones(void **state) {
#define RIGHT(text) {AUTH_GREETING "\1" text CONNECT, sizeof(AUTH_GREETING "\1" text CONNECT) - 1,             \
                     sizeof(AUTH_GREETING "\1" text CONNECT) - 1, AUTH_CHOSEN "\1\0", 4, REP("\0"), 10, "192.0.2.1:443"}
    static const struct served right[] = {RIGHT("\5alice\6secret"), RIGHT("\3bob\7builder"),
                                          RIGHT("\377" X255 "\377" X255)};
    (void)state;
    with_users();
    for (size_t i = 0; i < 3; i++) talk_served(&right[i]);
}

static void a09_everything_in_one_segment(void **state) {
#define ALL GREETING CONNECT
#define ALL_AUTH "\5\1\2" "\1\3bob\7builder" "\5\1\0\3\13Example.COM\0\120"
    static const struct served open = {ALL "the \0payload", sizeof ALL - 1 + 12, sizeof ALL - 1, CHOSEN, 2, REP("\0"), 10,
                                       "192.0.2.1:443"};
    static const struct served closed = {ALL_AUTH "\5\1\0", sizeof ALL_AUTH - 1 + 3, sizeof ALL_AUTH - 1,
                                         AUTH_CHOSEN "\1\0", 4, REP("\0"), 10, "example.com:80"};
    (void)state;
    talk_served(&open);
    with_users();
    talk_served(&closed);
}

/* --- the request --- */

static void a10_commands(void **state) {
    (void)state;
    for (unsigned cmd = 0; cmd < 256; cmd++) {
        uint8_t say[] = {5, 1, 0, 5, (uint8_t)cmd, 0, 1, 192, 0, 2, 1, 1, 187};
        if (cmd == 1 || cmd == SOCKS5_UDP_ASSOCIATE) continue;
        struct scene s = {(const char *)say, sizeof say, CHOSEN REP("\7"), 12, "protocol=socks5 reason=client-command"};
        talk_scene(&s);
    }
}

static void udp_associate_is_not_served(void **state) {
    static const struct scene udp[] = {
        SCENE(GREETING "\5\3\0\1\0\0\0\0\0\0", CHOSEN REP("\7"), "protocol=socks5 reason=client-command")};
    (void)state;
    SCENES(udp);
    assert_non_null(strstr(rig->record, "UDP ASSOCIATE is not served"));
}

static void a11_reserved_byte_is_tolerated(void **state) {
    static const struct served any = {GREETING "\5\1\377\1\300\0\2\1\1\273", 13, 13, CHOSEN, 2, REP("\0"), 10,
                                      "192.0.2.1:443"};
    (void)state;
    talk_served(&any);
}

static void a12_address_types(void **state) {
    (void)state;
    for (unsigned atyp = 0; atyp < 256; atyp++) {
        uint8_t say[] = {5, 1, 0, 5, 1, 0, (uint8_t)atyp, 192, 0, 2, 1, 1, 187};
        if (atyp == SOCKS5_IPV4 || atyp == SOCKS5_NAME || atyp == SOCKS5_IPV6) continue;
        struct scene s = {(const char *)say, sizeof say, CHOSEN REP("\10"), 12, "protocol=socks5 reason=client-address"};
        talk_scene(&s);
    }
    static const struct served six = {
        GREETING "\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\7\1\273", 25, 25, CHOSEN, 2, REP("\0"), 10,
        "[2001:db8::7]:443"};
    talk_served(&six);
}

static void a13_an_empty_name(void **state) {
    static const struct scene empty[] = {
        SCENE(GREETING "\5\1\0\3\0\1\273", CHOSEN REP("\1"), "protocol=socks5 reason=client-protocol"),
        SCENE(GREETING "\4\1\0\1\300\0\2\1\1\273", CHOSEN REP("\1"), "reason=client-protocol"),
    };
    (void)state;
    SCENES(empty);
}

static void a14_long_names(void **state) {
    char name[256] = "", dest[DEST_TEXT_MAX];
    (void)state;
    for (size_t i = 0; i < 255; i++) name[i] = i % 60 == 59 ? '.' : 'a';
    name_is_refused(name, 255, 443, "reason=client-destination");
    name_is_refused(name, 254, 443, "reason=client-destination");
    snprintf(dest, sizeof dest, "%.253s:443", name);
    name_becomes(name, 253, 443, dest); /* whole */
    name[253] = '.';
    name_becomes(name, 254, 443, dest);
}

static void a15_names_that_are_none(void **state) {
    static const struct {
        const char *name;
        size_t n;
    } bad[] = {
#define NAME(s) {s, sizeof(s) - 1}
        NAME("a\0b"), NAME("a.test\0"), NAME("\0"), NAME("a\r\nb"), NAME("a\n"), NAME("a b"), NAME(" a.test"),
        NAME("a/b"), NAME("user@a.test"), NAME("[a.test]"), NAME("a]"), NAME("\377\376"), NAME("a\200.test"),
        NAME(".."), NAME("."), NAME("a..b"), NAME(".a.test"), NAME("a.test.."), NAME(X64 ".test"), NAME("-a.test"),
        NAME("a%00.test"), NAME("a:80"), NAME("http://a"), NAME("a\tb"), NAME("a\177b"), NAME("*"), NAME("1.2.3.4.5"),
        NAME("256.1.1.1"), NAME("fe80::1%eth0"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        name_is_refused(bad[i].name, bad[i].n, 443, "protocol=socks5 dest=- reason=client-destination by=client");
}

static void a16_names_of_control_streams(void **state) {
    static const char *const names[] = {"_udp2", "_icmp", "_check", "_UDP2", "_Check.", "_udp2:0", "_udp2:443"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        name_is_refused(names[i], strlen(names[i]), 443, "reason=client-destination");
}

static void a17_names_in_canonical_form(void **state) {
    static const char *const forms[][2] = {
        {"127.0.0.1", "127.0.0.1:443"},       {"127.1", "127.0.0.1:443"},
        {"0x7f000001", "127.0.0.1:443"},      {"2130706433", "127.0.0.1:443"},
        {"0177.0.0.1", "127.0.0.1:443"},      {"::ffff:127.0.0.1", "127.0.0.1:443"},
        {"localhost.", "localhost:443"},      {"LocalHost", "localhost:443"},
        {"b\303\274cher.test", "xn--bcher-kva.test:443"}, {"XN--BCHER-KVA.test", "xn--bcher-kva.test:443"},
        {"[2001:DB8::1]", "[2001:db8::1]:443"}, {"a_b.test", "a_b.test:443"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        name_becomes(forms[i][0], strlen(forms[i][0]), 443, forms[i][1]);
}

static void a17_mapped_addresses_are_unmapped(void **state) {
    static const struct served mapped = {
        GREETING "\5\1\0\4\0\0\0\0\0\0\0\0\0\0\377\377\300\0\2\1\1\273", 25, 25, CHOSEN, 2, REP("\0"), 10, "192.0.2.1:443"};
    (void)state;
    talk_served(&mapped);
}

static void a18_port_zero(void **state) {
    static const struct scene zero[] = {
        SCENE(GREETING "\5\1\0\1\300\0\2\1\0\0", CHOSEN REP("\2"), "dest=- reason=client-destination")};
    (void)state;
    SCENES(zero);
    name_is_refused("a.test", 6, 0, "dest=- reason=client-destination");
}

static void a19_the_listener_itself(void **state) {
    static const struct scene self[] = {
        SCENE(GREETING "\5\1\0\1\177\0\0\1\4\70", CHOSEN REP("\2"), "dest=127.0.0.1:1080 reason=client-loop by=client")};
    (void)state;
    SCENES(self);
    name_is_refused("localhost", 9, RIG_SELF_PORT, "dest=localhost:1080 reason=client-loop");
}

/* --- SOCKS4 --- */

static void with_socks4(const struct listen_user *u) {
    talk_fresh(&(struct listen_config){.protocols = LISTEN_ALL, .users = u, .n_users = u ? 1 : 0});
}

static void a20_socks4_malformed(void **state) {
    static const struct scene bad[] = {
        SCENE("\4\1\1\273\300\0\2\1" X255 "x", REFUSED4, "protocol=socks4 reason=client-too-large"),
        SCENE("\4\1\1\273\0\0\0\1\0" X255 "x", REFUSED4, "protocol=socks4 reason=client-too-large"),
        SCENE("\4\1\1\273\0\0\0\1user\0\0", REFUSED4, "protocol=socks4 reason=client-protocol"),
        SCENE("\4\2\1\273\300\0\2\1user\0", REFUSED4, "protocol=socks4 reason=client-command"),
        SCENE("\4\3\1\273\300\0\2\1\0", REFUSED4, "protocol=socks4 reason=client-command"),
        SCENE("\4\0\1\273\0\0\0\1\0a.test\0", REFUSED4, "protocol=socks4 reason=client-command"),
    };
    (void)state;
    SCENES(bad);
    with_socks4(NULL);
    SCENES(bad);
}

static void a20_socks4_destinations(void **state) {
    static const struct scene bad[] = {
        SCENE("\4\1\0\0\300\0\2\1\0", REFUSED4, "protocol=socks4 dest=- reason=client-destination"),
        SCENE("\4\1\1\273\0\0\0\1\0_udp2\0", REFUSED4, "protocol=socks4 dest=- reason=client-destination"),
        SCENE("\4\1\1\273\0\0\0\1\0a\r\nb\0", REFUSED4, "protocol=socks4 dest=- reason=client-destination"),
        SCENE("\4\1\1\273\0\0\0\1\0" X64 ".test\0", REFUSED4, "protocol=socks4 dest=- reason=client-destination"),
        SCENE("\4\1\4\70\177\0\0\1\0", REFUSED4, "protocol=socks4 dest=127.0.0.1:1080 reason=client-loop"),
        SCENE("\4\1\4\70\0\0\0\1\0" "127.1\0", REFUSED4, "protocol=socks4 dest=127.0.0.1:1080 reason=client-loop"),
    };
    (void)state;
    with_socks4(NULL);
    SCENES(bad);
}

static void socks4_is_served(void **state) {
#define SERVED4(request, payload, dest) \
    {request payload, sizeof(request payload) - 1, sizeof(request) - 1, "", 0, GRANTED4, 8, dest}
    static const struct served all[] = {
        SERVED4("\4\1\1\273\300\0\2\1\0", "", "192.0.2.1:443"),
        SERVED4("\4\1\1\273\300\0\2\1a user\r\n\0", "pay\0load", "192.0.2.1:443"), /* who he says he is does not matter */
        SERVED4("\4\1\0\120\0\0\0\377\0A.Test.\0", "\4\1\1\273", "a.test:80"),
        SERVED4("\4\1\0\120\0\0\0\0\0", "a.test\0", "0.0.0.0:80"), /* that is SOCKS4 without a name */
    };
    (void)state;
    with_socks4(NULL);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) talk_served(&all[i]);
    talk_recorded("protocol=socks4 by=target");
}

static void socks4_hears_of_failures(void **state) {
    (void)state;
    with_socks4(NULL);
    struct talk t = talk_open();
    SAY(&t, "\4\1\1\273\300\0\2\1\0");
    talk_is_open(&t); /* nothing is said before the answer */
    rig_refuse(rig_opened(rig, 0), ERR_TARGET_REFUSED, "");
    HEARS(&t, REFUSED4);
    talk_is_closed(&t);
    talk_recorded("protocol=socks4 by=target reason=target-refused dest=192.0.2.1:443");
}

static void socks4_where_it_is_not_served(void **state) {
    static const struct scene any[] = {
        SCENE("\4\1\1\273\300\0\2\1\0", REFUSED4, "protocol=socks4 reason=client-command"),
        SCENE("\4\1\1\273\300\0\2\1user\0payload", REFUSED4, "protocol=socks4 reason=client-command"),
        SCENE("\4\1\1\273\0\0\0\1user\0a.test\0", REFUSED4, "protocol=socks4 reason=client-command"),
    };
    (void)state;
    SCENES(any);
}

/* With a user id in the place of a password nobody is served, not even by the right name. */
static void a21_socks4_cannot_authenticate(void **state) {
    static const struct scene any[] = {
        SCENE("\4\1\1\273\300\0\2\1alice\0", WRONG_USER4, "protocol=socks4 reason=client-auth dest=-"),
        SCENE("\4\1\1\273\300\0\2\1alice:secret\0", WRONG_USER4, "protocol=socks4 reason=client-auth"),
        SCENE("\4\1\4\70\0\0\0\1alice\0localhost\0", WRONG_USER4, "protocol=socks4 reason=client-auth dest=-"),
        SCENE("\4\2\1\273\300\0\2\1alice\0", WRONG_USER4, "protocol=socks4 reason=client-auth"),
    };
    (void)state;
    with_socks4(users);
    SCENES(any);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, talk_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a04_no_methods),
        CASE(a05_the_wanted_method_last),
        CASE(a06_a_method_that_does_not_do),
        CASE(a07_authentication_skipped),
        CASE(a08_credentials),
        CASE(a08_right_ones),
        CASE(a09_everything_in_one_segment),
        CASE(a10_commands),
        CASE(udp_associate_is_not_served),
        CASE(a11_reserved_byte_is_tolerated),
        CASE(a12_address_types),
        CASE(a13_an_empty_name),
        CASE(a14_long_names),
        CASE(a15_names_that_are_none),
        CASE(a16_names_of_control_streams),
        CASE(a17_names_in_canonical_form),
        CASE(a17_mapped_addresses_are_unmapped),
        CASE(a18_port_zero),
        CASE(a19_the_listener_itself),
        CASE(a20_socks4_malformed),
        CASE(a20_socks4_destinations),
        CASE(socks4_is_served),
        CASE(socks4_hears_of_failures),
        CASE(socks4_where_it_is_not_served),
        CASE(a21_socks4_cannot_authenticate),
    };
    return cmocka_run_group_tests_name("inbound_socks", tests, NULL, NULL);
}
