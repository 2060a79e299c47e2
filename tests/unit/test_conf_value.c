#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "app/conf.h"
#include "app/conf_impl.h"
#include "app/conf_table.h"
#include "lib/conf_text.h"

/* ---- what is refused ---- */

static void texts_that_are_no_configuration(void **state) {
    (void)state;
    must_refuse("", 1, 1, "no endpoint is configured");
    must_refuse("\xef\xbb\xbf\r\n", 1, 1, "no endpoint is configured");
    must_refuse_bytes("a\0b = 1", 7);
    must_say(CONF_ERROR, 1, 2, "\\u0000");
    must_refuse("name = \"\xff\"", 1, 8, "utf-8");
    must_refuse("x = 1\nx = 2", 2, 5, "redefine");
    must_refuse("max_pending = 9223372036854775808\n", 1, 34, "64 bits");
    must_refuse("a = [[[[[[[[[[[[[[[[[[[[[[[[1", 1, 21, "16 levels");
    must_refuse("= 1", 1, 1, "root table");

    size_t n = 10 << 20;
    char *large = malloc(n);
    assert_non_null(large);
    memset(large, '#', n);
    must_refuse_bytes(large, n);
    must_say(CONF_ERROR, 1, 1, "larger than 1 MiB");
    free(large);
}

static void byte_order_mark_and_carriage_returns(void **state) {
    (void)state;
    struct conf *c = must_load("\xef\xbb\xbfhostname = \"vpn.example\"\r\naddresses = [\r\n  \"192.0.2.1\",\r\n]\r\n"
                               "username = \"u\"\r\npassword = \"p\"");
    unsigned line, col;
    assert_true(conf_place(c, "endpoint.password", &line, &col));
    assert_int_equal(line, 6);
    conf_unref(c);
}

static void unknown_options(void **state) {
    (void)state;
    must_refuse_with("fallback_dely = 1", 1, 1, "unknown option 'fallback_dely'; did you mean 'fallback_delay'?");
    must_refuse_with("usre_agent = \"x\"", 1, 1, "did you mean 'user_agent'?");
    must_refuse_with("fluxcompensator = 1", 1, 1, "unknown option 'fluxcompensator'");
    assert_null(strstr(conf_said.messages[0].text, "mean"));
    must_refuse_with("\"a\\nb\" = 1", 1, 1, "unknown option \"a\\x0ab\"");
    must_refuse_with("[listener.x]\nadress = \"127.0.0.1:1\"", 2, 1, "did you mean 'address'?");
    must_refuse_with("[listener.x]\nlog_level = \"info\"", 2, 1, "it belongs at top level");
    must_refuse_with("[listener.x]\nhostname = \"a\"", 2, 1, "it belongs in [endpoint]");
    must_refuse_with("allow_open = true", 1, 1, "it belongs in a [listener.NAME] table");
    must_refuse("[endpoint]\nlog_level = \"info\"\n" CONF_TEXT_ENDPOINT, 2, 1, "it belongs at top level");
    must_refuse_with("[listener]\naddress = \"127.0.0.1:1\"", 2, 1, "[listener.NAME]");
    must_refuse_with("[[listener]]\naddress = \"127.0.0.1:1\"", 1, 1, "'listener' must be a table, not a list");
    must_refuse_with("[listener.x]\nusers = [{username = \"a\", password = \"b\", pasword = \"c\"}]", 2, 43,
                     "'password'?");
}

static void wrong_types(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"log_level = 1", "'log_level' must be a string, not an integer"},
        {"fallback_delay = true", "'fallback_delay' must be a duration"},
        {"fallback_delay = 1.5", "not a number with a fraction"},
        {"stream_window = []", "'stream_window' must be a size"},
        {"max_pending = \"1\"", "'max_pending' must be an integer, not a string"},
        {"skip_verification = \"true\"", "'skip_verification' must be true or false, not a string"},
        {"has_ipv6 = 1979-05-27", "not a date or time"},
        {"certificate = {}", "'certificate' must be a string, not a table"},
        {"exclusions = \"x\"", "'exclusions' must be a list of strings, not a string"},
        {"listener = 1", "'listener' must be a table"},
        {"[listener]\nx = 1", "a table of its own"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char whole[1024];
        snprintf(whole, sizeof whole, "%s%s", CONF_TEXT_ENDPOINT, cases[i].text);
        must_refuse_bytes(whole, strlen(whole));
        assert_int_equal(conf_said.found[CONF_ERROR], 1);
        if (!strstr(conf_said.messages[0].text, cases[i].part))
            fail_msg("%s: %s", cases[i].text, conf_said.messages[0].text);
    }
    must_refuse("hostname = \"vpn.example\"\naddresses = \"192.0.2.1\"\nusername = \"u\"\npassword = \"p\"\n", 2, 13,
                "a list");
    must_refuse("hostname = \"vpn.example\"\naddresses = [\"192.0.2.1\"]\nusername = \"u\"\npassword = 12345\n", 4, 12,
                "a string");
    assert_null(strstr(conf_said.messages[0].text, "12345"));
}

static void wrong_values(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"log_level = \"loud\"", "one of error|warn|info|debug|trace, not 'loud'"},
        {"transport = \"http1\"", "one of auto|http2|http3"},
        {"fallback_delay = -1", "from 0 to 1m"},
        {"fallback_delay = 60001", "from 0 to 1m"},
        {"fallback_delay = \"\"", "must be a duration"},
        {"fallback_delay = \"10\"", "must be a duration"},
        {"fallback_delay = \"1.5s\"", "must be a duration"},
        {"fallback_delay = \"1s1m\"", "must be a duration"},
        {"fallback_delay = \"1s1s\"", "must be a duration"},
        {"fallback_delay = \"s\"", "must be a duration"},
        {"fallback_delay = \" 1s\"", "must be a duration"},
        {"fallback_delay = \"99999999999999999999d\"", "must be a duration"},
        {"fallback_delay = \"999999999999999999d\"", "must be a duration"},
        {"fallback_delay = 9223372036854775807", "from 0 to 1m"},
        {"stream_window = 65535", "from 64KiB to 1GiB"},
        {"stream_window = \"64kb\"", "must be a size"},
        {"stream_window = \"2GiB\"", "from 64KiB to 1GiB"},
        {"max_pending = 0", "from 1 to 65536"},
        {"custom_sni = \"192.0.2.1\"", "must be a host name, not '192.0.2.1'"},
        {"custom_sni = \"a b\"", "must be a host name, not \"a b\""},
        {"client_random = \"abc\"", "hexadecimal"},
        {"client_random = \"/ff\"", "hexadecimal"},
        {"client_random = \"ff/\"", "hexadecimal"},
        {"client_random = \"fg\"", "hexadecimal"},
        {"client_random = \"ff/ff/ff\"", "hexadecimal"},
        {"client_random = \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20\"",
         "1 to 32 bytes"},
        {"certificate = \"certificate\"", "PEM"},
        {"name = \"a\\u0000b\"", "control characters"},
        {"name = \"a\\nb\"", "control characters"},
        {"user_agent = \"\xc3\xa4\"", "plain ASCII"},
        {"exclusions = [1]", "this element is an integer"},
        {"client_random = \"aa\"\nclient_random_prefix = \"bb\"", "the same option"},
        {"loglevel = \"info\"\nlog_level = \"warn\"", "the same option"},
        {"upstream_protocol = \"http2\"\ntransport = \"auto\"", "the same option"},
        {"[listener.\"a b\"]", "the name of a listener"},
        {"[listener.abcdefghijklmnopqrstuvwxyzabcdefg]", "the name of a listener"},
        {"[listener.x]\naddress = \"1080\"", "an IP address and a port"},
        {"[listener.x]\naddress = \"localhost:1080\"", "an IP address and a port"},
        {"[listener.x]\naddress = \"127.0.0.1:65536\"", "an IP address and a port"},
        {"[listener.x]\naddress = \"unix:socks\"", "an absolute path"},
        {"[listener.x]\naddress = \"unix:@socks\"", "an absolute path"},
        {"[listener.x]\naddress = \"unix:\"", "an absolute path"},
        {"[listener.x]\naddress = \"unix:/a\\u0000b\"", "control characters"},
        {"[listener.x]\naddress = \"systemd:\"", "FileDescriptorName"},
        {"[listener.x]\naddress = \"systemd:a:b\"", "FileDescriptorName"},
        {"[listener.x]\naddress = \"systemd:a b\"", "FileDescriptorName"},
        {"[listener.x]\nmode = \"0600\"", "'mode' goes with a Unix socket"},
        {"[listener.x]\naddress = \"systemd:a\"\nmode = \"0600\"", "'mode' goes with a Unix socket"},
        {"[listener.x]\naddress = \"unix:/a\"\nmode = \"0800\"", "in octal"},
        {"[listener.x]\naddress = \"unix:/a\"\nmode = \"\"", "in octal"},
        {"[listener.x]\naddress = \"unix:/a\"\nmode = \"u=rw\"", "in octal"},
        {"[listener.x]\naddress = \"unix:/a\"\nmode = \"1777\"", "in octal"},
        {"[listener.x]\naddress = \"unix:/a\"\nmode = \"777777777777777777777777\"", "in octal"},
        {"[listener.x]\naddress = \"unix:/a\"\nmode = 660", "in octal"},
        {"[listener.x]\naddress = \"unix:/a\"\nmode = -1", "in octal"},
        {"[listener.x]\nallow_uids = []", "must not be empty"},
        {"[listener.x]\nallow_gids = []", "must not be empty"},
        {"[listener.x]\nallow_uids = \"root\"", "must be a list of numbers and names of users, not a string"},
        {"[listener.x]\nallow_uids = [true]", "this element is a boolean"},
        {"[listener.x]\nallow_uids = [-1]", "this element is -1"},
        {"[listener.x]\nallow_uids = [4294967295]", "this element is 4294967295"},
        {"[listener.x]\nallow_gids = [4294967296]", "this element is 4294967296"},
        {"[listener.x]\nallow_uids = [\"\"]", "no user \"\""},
        {"[listener.x]\nallow_uids = [\"no-such-user\"]", "this machine has no user 'no-such-user'"},
        {"[listener.x]\nallow_gids = [\"no-such-group\"]", "this machine has no group 'no-such-group'"},
        {"[listener.x]\nallow_uids = [\"root\\u0000x\"]", "has no user \"root\\x00x\""},
        {"[listener.x]\nmax_connections_per_uid = -1", "from 0 to 1000000"},
        {"[listener.x]\nprotocols = []", "must not be empty"},
        {"[listener.x]\nprotocols = [\"socks\"]", "one of socks5|http|socks4"},
        {"[listener.x]\nmax_connections = 0", "from 1 to 1000000"},
        {"[listener.x]\nusername = \"a\"", "'username' needs a 'password'"},
        {"[listener.x]\npassword = \"swordfish\"", "'password' needs a 'username'"},
        {"[listener.x]\nusername = \"a:b\"\npassword = \"swordfish\"", "colon"},
        {"[listener.x]\nusers = [1]", "this element is an integer"},
        {"[listener.x]\nusers = [{username = \"a\"}]", "'password' is missing"},
        {"[listener.x]\nusers = [{username = \"a\", password = \"\"}]", "'password' must not be empty"},
        {"[listener.x]\nusers = [{username = \"a\", password = \"b\"}, {username = \"a\", password = \"c\"}]",
         "already"},
        {"[listener.x]\nusername = \"a\"\npassword = \"b\"\nusers = [{username = \"a\", password = \"b\"}]",
         "too"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char whole[1024];
        snprintf(whole, sizeof whole, "%s%s", CONF_TEXT_ENDPOINT, cases[i].text);
        must_refuse_bytes(whole, strlen(whole));
        if (conf_said.found[CONF_ERROR] != 1 || !strstr(conf_said.messages[0].text, cases[i].part)) {
            conf_text_print();
            fail_msg("%s", cases[i].text);
        }
        assert_true(conf_said.messages[0].line >= 5);
    }
}

static void long_texts_are_refused(void **state) {
    (void)state;
    char name[257] = {0}, text[1024];
    memset(name, 'x', 255);
    snprintf(text, sizeof text, "[listener.x]\nusername = \"%s\"\npassword = \"p\"", name);
    conf_unref(must_load_with(text));
    name[255] = 'x';
    snprintf(text, sizeof text, "[listener.x]\nusername = \"%s\"\npassword = \"p\"", name);
    must_refuse_with(text, 2, 12, "1 to 255 bytes, not 256");
}

static void a_missing_or_empty_option_that_is_needed(void **state) {
    (void)state;
    must_refuse("[endpoint]\n" CONF_TEXT_REST, 1, 2, "'hostname' is missing");
    must_refuse("hostname = \"\"\n" CONF_TEXT_REST, 1, 12, "'hostname' must not be empty");
    must_refuse("hostname = \"vpn.example\"\naddresses = []\nusername = \"u\"\npassword = \"swordfish\"", 2, 13,
                "not be empty");
    must_refuse("hostname = \"vpn.example\"\naddresses = [\"192.0.2.1\"]\npassword = \"swordfish\"", 1, 1,
                "'username' is missing");
}

static void addresses(void **state) {
    (void)state;
    static const struct {
        const char *text, *want; /* NULL: refused */
    } cases[] = {
        {"192.0.2.1", "192.0.2.1:443"},
        {"192.0.2.1:8443", "192.0.2.1:8443"},
        {"2001:db8::1", "[2001:db8::1]:443"},
        {"[2001:db8::1]", "[2001:db8::1]:443"},
        {"[2001:db8::1]:8443", "[2001:db8::1]:8443"},
        {"VPN.example", "vpn.example:443"},
        {"vpn.example:65535", "vpn.example:65535"},
        {"", NULL},
        {":443", NULL},
        {"vpn.example:", NULL},
        {"vpn.example:0", NULL},
        {"vpn.example:65536", NULL},
        {"vpn.example:+1", NULL},
        {"[2001:db8::1", NULL},
        {"[2001:db8::1]x", NULL},
        {"[]:443", NULL},
        {"vpn example", NULL},
        {"2001:db8:::1", NULL},
        {"_check", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], got[DEST_TEXT_MAX];
        snprintf(text, sizeof text,
                 "hostname = \"h.example\"\nusername = \"u\"\npassword = \"p\"\naddresses = [\"%s\"]\n",
                     cases[i].text);
        if (!cases[i].want) {
            must_refuse(text, 4, 14, "'addresses' must have elements such as");
            continue;
        }
        struct conf *c = must_load(text);
        assert_int_equal(c->endpoint.addresses.n, 1);
        assert_string_equal(dest_format(&c->endpoint.addresses.v[0], got, sizeof got), cases[i].want);
        conf_unref(c);
    }
    char many[1024] = "hostname = \"h.example\"\nusername = \"u\"\npassword = \"p\"\naddresses = [";
    for (int i = 0; i < 17; i++) sprintf(many + strlen(many), "\"192.0.2.%d\",", i);
    strcat(many, "]");
    must_refuse(many, 4, 13, "at most 16");
}

static void a_repeated_address_counts_once(void **state) {
    (void)state;
    struct conf *c = must_load("hostname = \"h.example\"\nusername = \"u\"\npassword = \"p\"\n"
                               "addresses = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.1:443\"]\n");
    assert_int_equal(c->endpoint.addresses.n, 2);
    must_say(CONF_WARNING, 4, 40, "already");
    conf_unref(c);
}

/* ---- listeners ---- */

static void an_open_listener_is_refused(void **state) {
    (void)state;
    static const char *const open[] = {"0.0.0.0:1080", "[::]:1080", "192.0.2.1:1080", "[2001:db8::1]:1080"};
    static const char *const closed[] = {"127.0.0.1:1080", "127.9.9.9:1080", "[::1]:1080",
                                         "[::ffff:127.0.0.1]:1080"};
    char text[256];
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"\nusers = []", open[i]);
        must_refuse_with(text, 2, 11, "listener 'x' would be open");
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"\nallow_open = true", open[i]);
        conf_unref(must_load_with(text));
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"\nusername = \"a\"\npassword = \"b\"", open[i]);
        conf_unref(must_load_with(text));
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"", closed[i]);
        conf_unref(must_load_with(text));
    }
    /* Half of the credentials: that is the error. */
    must_refuse_with("[listener.x]\naddress = \"0.0.0.0:1\"\nusername = \"a\"", 3, 1, "needs a 'password'");
}

static void forms_of_addresses(void **state) {
    (void)state;
    char path[140] = "unix:/", text[300], got[CONF_ADDRESS_TEXT_MAX];
    static const char *const good[] = {"unix:/run/adit.socks", "systemd:adit.socket", "systemd:x", "[::1]:1080"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"", good[i]);
        struct conf *c = must_load_with(text);
        assert_string_equal(conf_address_format(&c->listeners[0].address, got, sizeof got), good[i]);
        assert_int_equal(conf_address_is_unix(&c->listeners[0].address), i == 0);
        conf_unref(c);
    }
    memset(path + 6, 'p', 106);
    snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"\nmode = 0o660", path);
    struct conf *c = must_load_with(text);
    assert_int_equal(c->listeners[0].mode, 0660);
    conf_unref(c);
    path[112] = 'p';
    snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"", path);
    must_refuse_with(text, 2, 11, "at most 107 bytes");
}

static void many_ids(void **state) {
    (void)state;
    for (int n = CONF_IDS_MAX; n <= CONF_IDS_MAX + 1; n++) {
        char text[1024] = "[listener.x]\nallow_gids = [4294967294";
        for (int i = 1; i < n; i++) sprintf(text + strlen(text), ", %d", i);
        strcat(text, "]");
        if (n > CONF_IDS_MAX) {
            must_refuse_with(text, 2, 14, "too many elements");
            continue;
        }
        struct conf *c = must_load_with(text);
        assert_int_equal(c->listeners[0].allow_gids.n, CONF_IDS_MAX);
        assert_int_equal(c->listeners[0].allow_gids.v[0], 4294967294u);
        assert_int_equal(c->listeners[0].allow_uids.n, 0);
        conf_unref(c);
    }
}

static void addresses_of_listeners_must_differ(void **state) {
    (void)state;
    must_refuse_with("[listener.a]\naddress = \"unix:/s\"\n[listener.b]\naddress = \"unix:/s\"", 4, 11,
                     "listener 'b' cannot listen at unix:/s: listener 'a' does");
    must_refuse_with("[listener.a]\naddress = \"systemd:s\"\n[listener.b]\naddress = \"systemd:s\"", 4, 11,
                     "listener 'b' cannot listen at systemd:s: listener 'a' does");
    conf_unref(must_load_with("[listener.a]\naddress = \"unix:/s\"\n[listener.b]\naddress = \"unix:/t\"\n"
                              "[listener.c]\naddress = \"systemd:s\"\n[listener.d]\naddress = \"systemd:t\""));
    must_refuse_with("[listener.a]\n[listener.b]\n", 2, 11,
                     "listener 'b' cannot listen at 127.0.0.1:1080: listener 'a' does");
    must_refuse_with("[listener.a]\naddress = \"127.0.0.1:1\"\n[listener.b]\naddress = \"127.0.0.1:1\"", 4, 11,
                     "cannot listen");
    must_refuse_with("[listener.a]\naddress = \"127.0.0.1:1\"\n[listener.b]\naddress = \"0.0.0.0:1\"\n"
                     "allow_open = true", 4, 11,
                     "cannot listen");
    conf_unref(must_load_with("[listener.a]\naddress = \"127.0.0.1:1\"\n[listener.b]\naddress = \"[::1]:1\""));
    conf_unref(must_load_with("[listener.a]\naddress = \"127.0.0.1:0\"\n[listener.b]\naddress = \"127.0.0.1:0\""));
}

static void as_many_users_as_allowed(void **state) {
    (void)state;
    char *text = malloc(32768);
    assert_non_null(text);
    for (int more = 0; more < 3; more++) {
        char *at = stpcpy(text, CONF_TEXT_ENDPOINT "[listener.x]\n");
        if (more == 1) at = stpcpy(at, "username = \"own\"\npassword = \"p\"\n");
        at = stpcpy(at, "users = [\n");
        for (int i = 0; i < CONF_USERS_MAX + (more == 2); i++)
            at += sprintf(at, "{username = \"u%d\", password = \"p%d\"},\n", i, i);
        strcpy(at, "]\n");
        if (more == 0) {
            struct conf *c = must_load(text);
            assert_int_equal(c->listeners[0].users.n, CONF_USERS_MAX);
            assert_string_equal(c->listeners[0].users.v[CONF_USERS_MAX - 1].password, "p255");
            conf_unref(c);
        } else {
            must_refuse(text, 6, more == 1 ? 12 : 9, "256");
        }
    }
    free(text);
}

static void socks4_alone(void **state) {
    (void)state;
    struct conf *c = must_load_with("[listener.x]\nprotocols = [\"socks4\"]");
    assert_int_equal(c->listeners[0].protocols, CONF_SOCKS4);
    conf_unref(c);
}

static void a_tun_listener_alone_leaves_the_default(void **state) {
    (void)state;
    struct conf *c = must_load_with("[listener.tun]\nwhatever = 1\n");
    assert_int_equal(c->n_listeners, 1);
    assert_string_equal(c->listeners[0].name, "mixed");
    must_say(CONF_WARNING, 5, 11, "no TUN");
    conf_unref(c);
}

static void as_many_listeners_as_allowed(void **state) {
    (void)state;
    char text[8192] = "";
    for (int i = 0; i < CONF_LISTENERS_MAX; i++)
        sprintf(text + strlen(text), "[listener.l%d]\naddress = \"127.0.0.1:%d\"\n", i, 1000 + i);
    struct conf *c = must_load_with(strcat(text, "[listener.tun]\n"));
    assert_int_equal(c->n_listeners, CONF_LISTENERS_MAX);
    assert_string_equal(c->listeners[CONF_LISTENERS_MAX - 1].name, "l63");
    conf_unref(c);
    strcat(text, "[listener.more]\naddress = \"127.0.0.1:1\"\n");
    must_refuse_with(text, 1, 2, "at most 64 listeners");
    strcat(text, "[listener.evenmore]\naddress = \"127.0.0.1:2\"\n");
    must_refuse_with(text, 1, 2, "at most 64 listeners");
}

/* ---- pins ---- */

#define HASH "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define COLONS "E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55"

static void pins(void **state) {
    (void)state;
    struct conf *c =
        must_load_with("pins = [\"sha256//" HASH "\", \"cert-sha256:" HEX "\", \"cert-sha256:" COLONS "\"]\n");
    const struct conf_pins *p = &c->endpoint.pins;
    assert_int_equal(p->n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(p->v[i].certificate, i > 0);
        assert_memory_equal(p->v[i].sha256, "\xe3\xb0\xc4\x42", 4);
        assert_int_equal(p->v[i].sha256[31], 0x55);
    }
    conf_unref(c);
    static const char *const bad[] = {
        "", "sha256//", HASH, "sha256/" HASH, "sha1//" HASH, "SHA256//" HASH, "sha256//" HASH "=", "sha256//" HASH " ",
        "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==", "sha256//" HEX, "cert-sha256:" HASH, "cert-sha256:",
        "cert-sha256:" HEX "0", "cert-sha256:0" HEX, "cert-sha256:" COLONS ":", "cert-sha256:" HEX "\\u0000",
        "cert-sha256:E3:B0-C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55",
    };
    char text[512] = "";
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "pins = [\"%s\"]\n", bad[i]);
        must_refuse_with(text, 1, 9, "'pins' must have elements such as sha256//");
    }
    must_refuse_with("pins = \"sha256//" HASH "\"", 1, 8, "must be a list of strings such as \"sha256//BASE64\"");
    must_refuse_with("pins = [1]", 1, 9, "this element is an integer");
    char many[2048] = "pins = [";
    for (int i = 0; i < CONF_PINS_MAX + 1; i++) strcat(many, "\"sha256//" HASH "\",");
    must_refuse_with(strcat(many, "]"), 1, 8, "at most 16 elements, not 17");
}

/* ---- remarks ---- */

static void remarks(void **state) {
    (void)state;
    conf_unref(must_load_with("vpn_mode = \"selective\"\nkillswitch_enabled = false\nskip_verification = true\n"
               "anti_dpi = true\n"
                         "exclusions_preresolve_some = 1\nclient_random_auth_key = \"aa\"\n"
                             "ssl_session_cache_path = \"\"\n"));
    must_say(CONF_WARNING, 5, 1, "everything goes through the tunnel");
    must_say(CONF_NOTE, 6, 1, "always fails closed");
    must_say(CONF_WARNING, 7, 1, "any certificate is accepted");
    must_say(CONF_WARNING, 8, 1, "no effect");
    must_say(CONF_NOTE, 9, 1, "'exclusions_preresolve_some'");
    must_say(CONF_WARNING, 10, 1, "client_random_auth_key");
    assert_int_equal(conf_said.n, 6);
    /* Pins say who the endpoint is, wherever they stand. */
    conf_unref(must_load_with("skip_verification = true\npins = [\"sha256//" HASH "\"]\n"));
    assert_int_equal(conf_said.n, 0);
    conf_unref(must_load_with("skip_verification = true\npins = []\n"));
    must_say(CONF_WARNING, 5, 1, "any certificate is accepted");
    conf_unref(must_load_with("vpn_mode = \"general\"\nkillswitch_enabled = true\nskip_verification = false\n"
               "exclusions = []\n"));
    assert_int_equal(conf_said.n, 0);
    conf_unref(must_load_with("session_window = \"64KiB\""));
    must_say(CONF_WARNING, 5, 18, "smaller than 'stream_window'");
}

static void the_same_said_twice_is_fine(void **state) {
    (void)state;
    struct conf *c = must_load_with("upstream_protocol = \"http2\"\ntransport = \"http2\"\nclient_random = \"\"\n"
                                    "client_random_prefix = \"aabb/ff\"\nlog_level = \"warn\"\nloglevel = \"\"\n");
    assert_int_equal(c->endpoint.transport, CONF_TRANSPORT_HTTP2);
    assert_int_equal(c->endpoint.client_random.len, 1);
    assert_int_equal(c->log_level, LOG_WARN);
    conf_unref(c);
}

/* ---- numbers ---- */

static void numbers_and_their_texts(void **state) {
    (void)state;
    static const struct {
        enum conf_type type;
        uint64_t v;
        const char *text;
    } cases[] = {
        {CONF_DURATION, 250, "250ms"},       {CONF_DURATION, 10000, "10s"},
        {CONF_DURATION, 90000, "1m30s"},     {CONF_DURATION, 7200000, "2h"},
        {CONF_DURATION, 90061001, "1d1h1m1s1ms"}, {CONF_SIZE, 65536, "64KiB"},
        {CONF_SIZE, 65537, "65537B"},        {CONF_SIZE, 6 << 20, "6MiB"},
        {CONF_SIZE, 1536 << 10, "1536KiB"},  {CONF_INTEGER, 4096, "4096"},
        {CONF_SIZE, UINT64_C(16) << 30, "16GiB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[CONF_VALUE_TEXT];
        uint64_t v = 1;
        assert_string_equal(conf_format_number(cases[i].type, cases[i].v, text, sizeof text), cases[i].text);
        assert_true(conf_parse_number(cases[i].type, text, strlen(text), &v));
        assert_true(v == cases[i].v);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_are_no_configuration),
        cmocka_unit_test(byte_order_mark_and_carriage_returns),
        cmocka_unit_test(unknown_options),
        cmocka_unit_test(wrong_types),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(long_texts_are_refused),
        cmocka_unit_test(a_missing_or_empty_option_that_is_needed),
        cmocka_unit_test(addresses),
        cmocka_unit_test(a_repeated_address_counts_once),
        cmocka_unit_test(an_open_listener_is_refused),
        cmocka_unit_test(forms_of_addresses),
        cmocka_unit_test(many_ids),
        cmocka_unit_test(addresses_of_listeners_must_differ),
        cmocka_unit_test(as_many_users_as_allowed),
        cmocka_unit_test(socks4_alone),
        cmocka_unit_test(a_tun_listener_alone_leaves_the_default),
        cmocka_unit_test(as_many_listeners_as_allowed),
        cmocka_unit_test(pins),
        cmocka_unit_test(remarks),
        cmocka_unit_test(the_same_said_twice_is_fine),
        cmocka_unit_test(numbers_and_their_texts),
    };
    return cmocka_run_group_tests_name("conf values", tests, NULL, NULL);
}
