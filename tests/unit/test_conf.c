#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "app/conf.h"
#include "app/conf_impl.h"
#include "app/conf_table.h"

#define SECRET "swordfish-\xc3\xa4"
#define REST "addresses = [\"192.0.2.1:443\"]\nusername = \"u\"\npassword = \"" SECRET "\"\n"
#define ENDPOINT "hostname = \"vpn.example\"\n" REST

static struct conf_report rep;

static void print_report(void) { conf_report_print(&rep, stderr); }

static struct conf *load(const char *text) {
    struct conf *c;
    if (conf_load_text("test", text, strlen(text), &c, &rep)) {
        print_report();
        fail_msg("not loaded: %s", text);
    }
    assert_int_equal(rep.found[CONF_ERROR], 0);
    return c;
}

/* Loads the text and what a complete endpoint takes in front of it. */
static struct conf *load_with(const char *text) {
    char whole[4096];
    snprintf(whole, sizeof whole, "%s%s", ENDPOINT, text);
    return load(whole);
}

static const struct conf_message *find(enum conf_severity s, unsigned line, unsigned col, const char *part) {
    for (size_t i = 0; i < rep.n; i++) {
        const struct conf_message *m = &rep.messages[i];
        if (m->severity == s && m->line == line && m->col == col && strstr(m->text, part)) return m;
    }
    print_report();
    fail_msg("no %s at %u:%u with \"%s\"", conf_severity_word(s), line, col, part);
    return NULL;
}

static void refuse_bytes(const char *text, size_t n) {
    struct conf *c = (struct conf *)1;
    assert_int_equal(conf_load_text("test", text, n, &c, &rep), ERR_CONFIG);
    assert_null(c);
    assert_true(rep.found[CONF_ERROR] > 0);
    for (size_t i = 0; i < rep.n; i++) assert_null(strstr(rep.messages[i].text, "swordfish"));
}

/* The text must be refused with this one error. */
static void refuse(const char *text, unsigned line, unsigned col, const char *part) {
    refuse_bytes(text, strlen(text));
    find(CONF_ERROR, line, col, part);
    if (rep.found[CONF_ERROR] != 1) {
        print_report();
        fail_msg("%u errors", rep.found[CONF_ERROR]);
    }
}

/* The same for a text after a complete endpoint, whose lines are counted from 1. */
static void refuse_with(const char *text, unsigned line, unsigned col, const char *part) {
    char whole[8192];
    snprintf(whole, sizeof whole, "%s%s", ENDPOINT, text);
    refuse(whole, line + 4, col, part);
}

/* ---- the table ---- */

static void every_default_is_valid_and_within_bounds(void **state) {
    (void)state;
    const struct conf_option *o;
    size_t n = 0;
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        struct conf *conf = calloc(1, sizeof *conf);
        struct conf_loader l = {.conf = conf, .rep = &rep};
        union conf_value v;
        memset(&v, 0xee, sizeof v);
        union conf_value before = v;
        arena_init(&conf->arena, 65536);
        conf_report_init(&rep, "test");
        conf_value_default(&l, o, &v);
        if (rep.n) fail_msg("%s: %s", o->key, rep.messages[0].text);
        if (o->preset) {
            n++;
            assert_true(memcmp(&v, &before, sizeof v) != 0);
        }
        if (o->alias_of) assert_non_null(conf_option_find(o->scope, o->alias_of, strlen(o->alias_of)));
        if (o->flags & (CONF_SAY_SET | CONF_SAY_CHANGED)) assert_non_null(o->say);
        assert_non_null(o->doc);
        assert_true(o->reload != CONF_RELOAD_SAME || o->scope == CONF_SCOPE_USER);
        assert_ptr_equal(conf_option_find(o->scope, o->key, strlen(o->key)), o);
        arena_free(&conf->arena);
        free(conf);
    }
    assert_true(n >= 20);
}

static void defaults(void **state) {
    (void)state;
    struct conf *c = load(ENDPOINT);
    assert_int_equal(rep.n, 0);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_int_equal(c->n_listeners, 1);
    const struct conf_listener *li = &c->listeners[0];
    char text[ADDR_TEXT_MAX];
    assert_string_equal(li->name, "mixed");
    assert_string_equal(addr_format(&li->address, text, sizeof text), "127.0.0.1:1080");
    assert_int_equal(li->protocols, CONF_SOCKS5 | CONF_HTTP);
    assert_int_equal(li->users.n, 0);
    assert_int_equal(li->handshake_timeout, 10000);
    assert_int_equal(li->idle_timeout, 7200000);
    assert_int_equal(li->max_connections, 4096);
    assert_false(li->allow_open);
    const struct conf_endpoint *e = &c->endpoint;
    assert_string_equal(e->hostname, "vpn.example");
    assert_string_equal(e->password, SECRET);
    assert_null(e->custom_sni);
    assert_null(e->certificate);
    assert_null(e->user_agent);
    assert_null(e->name);
    assert_true(e->has_ipv6);
    assert_false(e->skip_verification);
    assert_false(e->anti_dpi);
    assert_int_equal(e->transport, CONF_TRANSPORT_AUTO);
    assert_int_equal(e->client_random.len, 0);
    assert_int_equal(e->fallback_delay, 1000);
    assert_int_equal(e->health_timeout, 7000);
    assert_int_equal(e->recovery_wait, 10000);
    assert_int_equal(e->connect_timeout, 30000);
    assert_int_equal(e->handshake_timeout, 10000);
    assert_int_equal(e->stream_window, 6 << 20);
    assert_int_equal(e->session_window, 15 << 20);
    assert_int_equal(e->buffer_budget, 32 << 20);
    assert_int_equal(e->max_pending, 256);
    conf_unref(c);
}

/* ---- the two shapes of file ---- */

static const char *sample_path(const char *name, char *buf, size_t cap) {
    const char *top = getenv("top_srcdir");
    snprintf(buf, cap, "%s/%s", top ? top : ".", name);
    return buf;
}

static struct conf *load_sample(const char *name) {
    char path[1024];
    struct conf *c;
    if (conf_load_file(sample_path(name, path, sizeof path), &c, &rep)) {
        print_report();
        fail_msg("%s was not loaded", path);
    }
    assert_string_equal(c->name, path);
    return c;
}

static void an_endpoints_export(void **state) {
    (void)state;
    struct conf *c = load_sample("tests/samples/endpoint-flat.toml");
    const struct conf_endpoint *e = &c->endpoint;
    char text[DEST_TEXT_MAX];
    unsigned line, col;
    assert_string_equal(e->name, "A sample");
    assert_int_equal(e->addresses.n, 3);
    assert_string_equal(dest_format(&e->addresses.v[0], text, sizeof text), "192.0.2.7:443");
    assert_string_equal(dest_format(&e->addresses.v[1], text, sizeof text), "[2001:db8::7]:8443");
    assert_string_equal(dest_format(&e->addresses.v[2], text, sizeof text), "entry.sample.example:443");
    assert_null(e->custom_sni);
    assert_int_equal(e->client_random.len, 0);
    assert_false(e->has_ipv6);
    assert_int_equal(e->transport, CONF_TRANSPORT_HTTP3);
    assert_non_null(strstr(e->certificate, "-----END CERTIFICATE-----\n"));
    assert_true(conf_place(c, "endpoint.certificate", &line, &col));
    assert_int_equal(line, 14);
    assert_int_equal(col, 15);
    assert_true(conf_place(c, "endpoint.transport", &line, &col));
    assert_false(conf_place(c, "endpoint.custom_sni", &line, &col));
    assert_false(conf_place(c, "log_level", &line, &col));
    find(CONF_NOTE, 30, 1, "dns_upstreams");
    conf_unref(c);
}

static void a_file_of_the_official_client(void **state) {
    (void)state;
    struct conf *c = load_sample("tests/samples/client-tables.toml");
    const struct conf_endpoint *e = &c->endpoint;
    assert_int_equal(c->log_level, LOG_DEBUG);
    assert_string_equal(e->custom_sni, "front.example");
    assert_null(e->certificate);
    assert_int_equal(e->client_random.len, 3);
    assert_memory_equal(e->client_random.prefix, "\xc0\xff\xee", 3);
    assert_memory_equal(e->client_random.mask, "\xf0\xff\xff", 3);
    assert_int_equal(c->n_listeners, 1);
    assert_string_equal(c->listeners[0].name, "socks");
    assert_ptr_equal(conf_listener_find(c, "socks"), c->listeners);
    assert_null(conf_listener_find(c, "tun"));
    assert_int_equal(c->listeners[0].users.n, 0);
    find(CONF_NOTE, 6, 1, "post_quantum_group_enabled");
    find(CONF_WARNING, 7, 1, "everything goes through the tunnel");
    find(CONF_WARNING, 24, 11, "no TUN");
    conf_unref(c);
}

static void every_option_takes_a_value(void **state) {
    (void)state;
    struct conf *c = load_sample("tests/samples/every-option.toml");
    struct conf *d = load(ENDPOINT);
    const struct conf_option *o;
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        char path[128];
        unsigned line, col;
        if (o->alias_of || o->offset == CONF_NOWHERE || o->scope == CONF_SCOPE_USER) continue;
        if (!conf_place(c, conf_option_path(o, "first", path, sizeof path), &line, &col))
            fail_msg("the sample does not set %s", path);
        const char *bases[CONF_SCOPES][2] = {
            [CONF_SCOPE_ROOT] = {(const char *)c, (const char *)d},
            [CONF_SCOPE_LISTENER] = {(const char *)c->listeners, (const char *)d->listeners},
            [CONF_SCOPE_ENDPOINT] = {(const char *)&c->endpoint, (const char *)&d->endpoint},
        };
        if (conf_value_equal(o, bases[o->scope][0] + o->offset, bases[o->scope][1] + o->offset))
            fail_msg("%s has its default", path);
    }
    const struct conf_endpoint *e = &c->endpoint;
    assert_string_equal(e->hostname, "sample.example");
    assert_int_equal(e->addresses.n, 4);
    assert_int_equal(e->recovery_wait, 90000);
    assert_int_equal(e->connect_timeout, 20000);
    assert_int_equal(e->session_window, 2 << 20);
    assert_int_equal(e->client_random.len, 3);
    assert_memory_equal(e->client_random.mask, "\xff\xff\xff\0", 4);
    const struct conf_listener *li = conf_listener_find(c, "first");
    assert_int_equal(li->protocols, CONF_HTTP);
    assert_int_equal(li->users.n, 3);
    assert_string_equal(li->users.v[0].username, "local");
    assert_string_equal(li->users.v[2].password, "throw-away 5");
    assert_int_equal(conf_listener_find(c, "second")->protocols, CONF_SOCKS5);
    conf_unref(c);
    conf_unref(d);
}

static void the_example_loads_without_a_remark(void **state) {
    (void)state;
    struct conf *c = load_sample("contrib/adit.example.toml");
    /* All but the modes of the file, which the example cannot help. */
    for (size_t i = 0; i < rep.n; i++) assert_int_equal(rep.messages[i].line, 0);
    conf_unref(c);
}

/* What it shows in comments is right too, and no option of adit's own is forgotten. */
static void the_example_is_right_in_its_comments(void **state) {
    (void)state;
    char path[1024], line[256], text[8192] = "";
    FILE *f = fopen(sample_path("contrib/adit.example.toml", path, sizeof path), "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        bool shown = line[0] == '#' && ((line[1] >= 'a' && line[1] <= 'z') || line[1] == '[');
        if (shown && strncmp(line, "#certificate", 12) != 0) line[0] = ' ';
        assert_true(strlen(text) + strlen(line) < sizeof text);
        strcat(text, line);
    }
    fclose(f);
    struct conf *c = load(text);
    assert_int_equal(rep.n, 0);
    assert_int_equal(c->n_listeners, 3);
    conf_unref(c);

    const struct conf_option *o;
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s = ", o->key);
        if (!o->alias_of && o->offset != CONF_NOWHERE && !(o->flags & CONF_SAY_CHANGED) && !strstr(text, key))
            fail_msg("the example does not show %s", o->key);
    }
}

static void both_shapes_at_once(void **state) {
    (void)state;
    refuse("hostname = \"a.example\"\nname = \"x\"\n[endpoint]\nhostname = \"vpn.example\"\n" REST, 1, 1,
           "keep one form");
    refuse_bytes("[endpoint]\n", 11);
    assert_int_equal(rep.found[CONF_ERROR], 4);
    find(CONF_ERROR, 1, 2, "'hostname' is missing");
    find(CONF_ERROR, 1, 2, "'password' is missing");
}

/* ---- what is refused ---- */

static void texts_that_are_no_configuration(void **state) {
    (void)state;
    refuse("", 1, 1, "no endpoint is configured");
    refuse("\xef\xbb\xbf\r\n", 1, 1, "no endpoint is configured");
    refuse_bytes("a\0b = 1", 7);
    find(CONF_ERROR, 1, 2, "\\u0000");
    refuse("name = \"\xff\"", 1, 8, "utf-8");
    refuse("x = 1\nx = 2", 2, 5, "redefine");
    refuse("max_pending = 9223372036854775808\n", 1, 34, "64 bits");
    refuse("a = [[[[[[[[[[[[[[[[[[[[[[[[1", 1, 21, "16 levels");
    refuse("= 1", 1, 1, "root table");

    size_t n = 10 << 20;
    char *large = malloc(n);
    assert_non_null(large);
    memset(large, '#', n);
    refuse_bytes(large, n);
    find(CONF_ERROR, 1, 1, "larger than 1 MiB");
    free(large);
}

static void byte_order_mark_and_carriage_returns(void **state) {
    (void)state;
    struct conf *c = load("\xef\xbb\xbfhostname = \"vpn.example\"\r\naddresses = [\r\n  \"192.0.2.1\",\r\n]\r\n"
                          "username = \"u\"\r\npassword = \"p\"");
    unsigned line, col;
    assert_true(conf_place(c, "endpoint.password", &line, &col));
    assert_int_equal(line, 6);
    conf_unref(c);
}

static void unknown_options(void **state) {
    (void)state;
    refuse_with("fallback_dely = 1", 1, 1, "unknown option 'fallback_dely'; did you mean 'fallback_delay'?");
    refuse_with("usre_agent = \"x\"", 1, 1, "did you mean 'user_agent'?");
    refuse_with("fluxcompensator = 1", 1, 1, "unknown option 'fluxcompensator'");
    assert_null(strstr(rep.messages[0].text, "mean"));
    refuse_with("\"a\\nb\" = 1", 1, 1, "unknown option \"a\\x0ab\"");
    refuse_with("[listener.x]\nadress = \"127.0.0.1:1\"", 2, 1, "did you mean 'address'?");
    refuse_with("[listener.x]\nlog_level = \"info\"", 2, 1, "it belongs at top level");
    refuse_with("[listener.x]\nhostname = \"a\"", 2, 1, "it belongs in [endpoint]");
    refuse_with("allow_open = true", 1, 1, "it belongs in a [listener.NAME] table");
    refuse("[endpoint]\nlog_level = \"info\"\n" ENDPOINT, 2, 1, "it belongs at top level");
    refuse_with("[listener]\naddress = \"127.0.0.1:1\"", 2, 1, "[listener.NAME]");
    refuse_with("[[listener]]\naddress = \"127.0.0.1:1\"", 1, 1, "'listener' must be a table, not a list");
    refuse_with("[listener.x]\nusers = [{username = \"a\", password = \"b\", pasword = \"c\"}]", 2, 43,
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
        snprintf(whole, sizeof whole, "%s%s", ENDPOINT, cases[i].text);
        refuse_bytes(whole, strlen(whole));
        assert_int_equal(rep.found[CONF_ERROR], 1);
        if (!strstr(rep.messages[0].text, cases[i].part)) fail_msg("%s: %s", cases[i].text, rep.messages[0].text);
    }
    refuse("hostname = \"vpn.example\"\naddresses = \"192.0.2.1\"\nusername = \"u\"\npassword = \"p\"\n", 2, 13,
           "a list");
    refuse("hostname = \"vpn.example\"\naddresses = [\"192.0.2.1\"]\nusername = \"u\"\npassword = 12345\n", 4, 12,
           "a string");
    assert_null(strstr(rep.messages[0].text, "12345"));
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
        {"[listener.x]\nprotocols = []", "must not be empty"},
        {"[listener.x]\nprotocols = [\"socks\"]", "one of socks5|http|socks4"},
        {"[listener.x]\nprotocols = [\"socks4\"]", "nothing is left"},
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
        snprintf(whole, sizeof whole, "%s%s", ENDPOINT, cases[i].text);
        refuse_bytes(whole, strlen(whole));
        if (rep.found[CONF_ERROR] != 1 || !strstr(rep.messages[0].text, cases[i].part)) {
            print_report();
            fail_msg("%s", cases[i].text);
        }
        assert_true(rep.messages[0].line >= 5);
    }
}

static void long_texts_are_refused(void **state) {
    (void)state;
    char name[257] = {0}, text[1024];
    memset(name, 'x', 255);
    snprintf(text, sizeof text, "[listener.x]\nusername = \"%s\"\npassword = \"p\"", name);
    conf_unref(load_with(text));
    name[255] = 'x';
    snprintf(text, sizeof text, "[listener.x]\nusername = \"%s\"\npassword = \"p\"", name);
    refuse_with(text, 2, 12, "1 to 255 bytes, not 256");
}

static void a_missing_or_empty_option_that_is_needed(void **state) {
    (void)state;
    refuse("[endpoint]\n" REST, 1, 2, "'hostname' is missing");
    refuse("hostname = \"\"\n" REST, 1, 12, "'hostname' must not be empty");
    refuse("hostname = \"vpn.example\"\naddresses = []\nusername = \"u\"\npassword = \"swordfish\"", 2, 13,
           "not be empty");
    refuse("hostname = \"vpn.example\"\naddresses = [\"192.0.2.1\"]\npassword = \"swordfish\"", 1, 1,
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
            refuse(text, 4, 14, "'addresses' must have elements such as");
            continue;
        }
        struct conf *c = load(text);
        assert_int_equal(c->endpoint.addresses.n, 1);
        assert_string_equal(dest_format(&c->endpoint.addresses.v[0], got, sizeof got), cases[i].want);
        conf_unref(c);
    }
    char many[1024] = "hostname = \"h.example\"\nusername = \"u\"\npassword = \"p\"\naddresses = [";
    for (int i = 0; i < 17; i++) sprintf(many + strlen(many), "\"192.0.2.%d\",", i);
    strcat(many, "]");
    refuse(many, 4, 13, "at most 16");
}

static void a_repeated_address_counts_once(void **state) {
    (void)state;
    struct conf *c = load("hostname = \"h.example\"\nusername = \"u\"\npassword = \"p\"\n"
                          "addresses = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.1:443\"]\n");
    assert_int_equal(c->endpoint.addresses.n, 2);
    find(CONF_WARNING, 4, 40, "already");
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
        refuse_with(text, 2, 11, "listener 'x' would be open");
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"\nallow_open = true", open[i]);
        conf_unref(load_with(text));
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"\nusername = \"a\"\npassword = \"b\"", open[i]);
        conf_unref(load_with(text));
        snprintf(text, sizeof text, "[listener.x]\naddress = \"%s\"", closed[i]);
        conf_unref(load_with(text));
    }
    /* Half of the credentials: that is the error. */
    refuse_with("[listener.x]\naddress = \"0.0.0.0:1\"\nusername = \"a\"", 3, 1, "needs a 'password'");
}

static void addresses_of_listeners_must_differ(void **state) {
    (void)state;
    refuse_with("[listener.a]\n[listener.b]\n", 2, 11,
                "listener 'b' cannot listen at 127.0.0.1:1080: listener 'a' does");
    refuse_with("[listener.a]\naddress = \"127.0.0.1:1\"\n[listener.b]\naddress = \"127.0.0.1:1\"", 4, 11,
                "cannot listen");
    refuse_with("[listener.a]\naddress = \"127.0.0.1:1\"\n[listener.b]\naddress = \"0.0.0.0:1\"\n"
                "allow_open = true", 4, 11,
                "cannot listen");
    conf_unref(load_with("[listener.a]\naddress = \"127.0.0.1:1\"\n[listener.b]\naddress = \"[::1]:1\""));
    conf_unref(load_with("[listener.a]\naddress = \"127.0.0.1:0\"\n[listener.b]\naddress = \"127.0.0.1:0\""));
}

static void as_many_users_as_allowed(void **state) {
    (void)state;
    char *text = malloc(32768);
    assert_non_null(text);
    for (int more = 0; more < 3; more++) {
        char *at = stpcpy(text, ENDPOINT "[listener.x]\n");
        if (more == 1) at = stpcpy(at, "username = \"own\"\npassword = \"p\"\n");
        at = stpcpy(at, "users = [\n");
        for (int i = 0; i < CONF_USERS_MAX + (more == 2); i++)
            at += sprintf(at, "{username = \"u%d\", password = \"p%d\"},\n", i, i);
        strcpy(at, "]\n");
        if (more == 0) {
            struct conf *c = load(text);
            assert_int_equal(c->listeners[0].users.n, CONF_USERS_MAX);
            assert_string_equal(c->listeners[0].users.v[CONF_USERS_MAX - 1].password, "p255");
            conf_unref(c);
        } else {
            refuse(text, 6, more == 1 ? 12 : 9, "256");
        }
    }
    free(text);
}

static void socks4_is_left_out(void **state) {
    (void)state;
    struct conf *c = load_with("[listener.x]\nprotocols = [\"socks4\", \"http\"]");
    assert_int_equal(c->listeners[0].protocols, CONF_HTTP);
    find(CONF_WARNING, 6, 13, "socks4");
    conf_unref(c);
}

static void a_tun_listener_alone_leaves_the_default(void **state) {
    (void)state;
    struct conf *c = load_with("[listener.tun]\nwhatever = 1\n");
    assert_int_equal(c->n_listeners, 1);
    assert_string_equal(c->listeners[0].name, "mixed");
    find(CONF_WARNING, 5, 11, "no TUN");
    conf_unref(c);
}

static void as_many_listeners_as_allowed(void **state) {
    (void)state;
    char text[8192] = "";
    for (int i = 0; i < CONF_LISTENERS_MAX; i++)
        sprintf(text + strlen(text), "[listener.l%d]\naddress = \"127.0.0.1:%d\"\n", i, 1000 + i);
    struct conf *c = load_with(strcat(text, "[listener.tun]\n"));
    assert_int_equal(c->n_listeners, CONF_LISTENERS_MAX);
    assert_string_equal(c->listeners[CONF_LISTENERS_MAX - 1].name, "l63");
    conf_unref(c);
    strcat(text, "[listener.more]\naddress = \"127.0.0.1:1\"\n");
    refuse_with(text, 1, 2, "at most 64 listeners");
    strcat(text, "[listener.evenmore]\naddress = \"127.0.0.1:2\"\n");
    refuse_with(text, 1, 2, "at most 64 listeners");
}

/* ---- remarks ---- */

static void remarks(void **state) {
    (void)state;
    conf_unref(load_with("vpn_mode = \"selective\"\nkillswitch_enabled = false\nskip_verification = true\n"
               "anti_dpi = true\n"
                         "exclusions_preresolve_some = 1\nclient_random_auth_key = \"aa\"\n"
                             "ssl_session_cache_path = \"\"\n"));
    find(CONF_WARNING, 5, 1, "everything goes through the tunnel");
    find(CONF_NOTE, 6, 1, "always fails closed");
    find(CONF_WARNING, 7, 1, "any certificate is accepted");
    find(CONF_WARNING, 8, 1, "no effect");
    find(CONF_NOTE, 9, 1, "'exclusions_preresolve_some'");
    find(CONF_WARNING, 10, 1, "client_random_auth_key");
    assert_int_equal(rep.n, 6);
    conf_unref(load_with("vpn_mode = \"general\"\nkillswitch_enabled = true\nskip_verification = false\n"
               "exclusions = []\n"));
    assert_int_equal(rep.n, 0);
    conf_unref(load_with("session_window = \"64KiB\""));
    find(CONF_WARNING, 5, 18, "smaller than 'stream_window'");
}

static void the_same_said_twice_is_fine(void **state) {
    (void)state;
    struct conf *c = load_with("upstream_protocol = \"http2\"\ntransport = \"http2\"\nclient_random = \"\"\n"
                               "client_random_prefix = \"aabb/ff\"\nlog_level = \"warn\"\nloglevel = \"\"\n");
    assert_int_equal(c->endpoint.transport, CONF_TRANSPORT_HTTP2);
    assert_int_equal(c->endpoint.client_random.len, 1);
    assert_int_equal(c->log_level, LOG_WARN);
    conf_unref(c);
}

/* ---- the report ---- */

static void errors_are_all_collected_up_to_a_bound(void **state) {
    (void)state;
    char text[4096] = "log_level = \"loud\"\n";
    for (int i = 0; i < 30; i++) sprintf(text + strlen(text), "q%d = 1\n", i);
    for (int i = 0; i < 30; i++) sprintf(text + strlen(text), "exclusions_preresolve_%d = 1\n", i);
    refuse_bytes(text, strlen(text));
    assert_int_equal(rep.found[CONF_ERROR], 32);
    assert_int_equal(rep.found[CONF_NOTE], 30);
    assert_int_equal(rep.n, 2 * CONF_MESSAGES_MAX);
    for (size_t i = 1; i < rep.n; i++) assert_true(rep.messages[i - 1].line <= rep.messages[i].line);

    char *printed = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&printed, &n);
    assert_non_null(to);
    conf_report_print(&rep, to);
    fclose(to);
    assert_non_null(strstr(printed, "test:1:13: 'log_level' must be one of"));
    assert_non_null(strstr(printed, "\ntest:32:1: note: 'exclusions_preresolve_0'"));
    assert_non_null(strstr(printed, "\ntest: 12 more of severity error\n"));
    assert_non_null(strstr(printed, "\ntest: 10 more of severity note\n"));
    free(printed);
}

/* ---- files ---- */

static void write_file(const char *path, const void *text, size_t n, mode_t mode) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void files(void **state) {
    (void)state;
    char path[] = "/tmp/adit-test-conf-XXXXXX";
    struct conf *c;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);

    write_file(path, ENDPOINT, strlen(ENDPOINT), 0600);
    assert_int_equal(conf_load_file(path, &c, &rep), 0);
    assert_int_equal(rep.n, 0);
    conf_unref(c);
    chmod(path, 0644);
    assert_int_equal(conf_load_file(path, &c, &rep), 0);
    find(CONF_WARNING, 0, 0, "everyone on this machine");
    conf_unref(c);

    size_t n = 3 << 20;
    char *large = malloc(n);
    assert_non_null(large);
    memset(large, '\n', n);
    write_file(path, large, n, 0600);
    assert_int_equal(conf_load_file(path, &c, &rep), ERR_CONFIG);
    find(CONF_ERROR, 1, 1, "larger than 1 MiB");
    memcpy(large, ENDPOINT, strlen(ENDPOINT));
    write_file(path, large, TOML_TEXT_MAX, 0600);
    assert_int_equal(conf_load_file(path, &c, &rep), 0);
    conf_unref(c);
    free(large);

    unlink(path);
    assert_int_equal(conf_load_file(path, &c, &rep), ERR_IO);
    assert_null(c);
    find(CONF_ERROR, 0, 0, "No such file");
    assert_int_equal(conf_load_file("/", &c, &rep), ERR_IO);
    find(CONF_ERROR, 0, 0, "Is a directory");
}

/* ---- references and differences ---- */

static void references_are_counted(void **state) {
    (void)state;
    struct conf *c = load(ENDPOINT);
    assert_ptr_equal(conf_ref(c), c);
    conf_unref(c);
    assert_string_equal(c->endpoint.username, "u");
    conf_unref(c);
    conf_unref(NULL);
}

static enum conf_reload endpoint_diff(const char *a, const char *b) {
    struct conf *x = load_with(a), *y = load_with(b);
    enum conf_reload r = conf_endpoint_diff(&x->endpoint, &y->endpoint);
    assert_int_equal(conf_endpoint_diff(&y->endpoint, &x->endpoint), r);
    conf_unref(x);
    conf_unref(y);
    return r;
}

static enum conf_reload listener_diff(const char *a, const char *b) {
    char x_text[256], y_text[256];
    snprintf(x_text, sizeof x_text, "[listener.x]\n%s", a);
    snprintf(y_text, sizeof y_text, "[listener.y]\n%s", b);
    struct conf *x = load_with(x_text), *y = load_with(y_text);
    enum conf_reload r = conf_listener_diff(x->listeners, y->listeners);
    conf_unref(x);
    conf_unref(y);
    return r;
}

static void differences(void **state) {
    (void)state;
    assert_int_equal(endpoint_diff("", ""), CONF_RELOAD_SAME);
    assert_int_equal(endpoint_diff("", "fallback_delay = \"1s\"\nvpn_mode = \"selective\""), CONF_RELOAD_SAME);
    assert_int_equal(endpoint_diff("", "name = \"x\""), CONF_RELOAD_NONE);
    assert_int_equal(endpoint_diff("", "fallback_delay = \"2s\"\nname = \"x\""), CONF_RELOAD_UPSTREAM);
    assert_int_equal(endpoint_diff("client_random = \"aa\"", "client_random = \"aa/fe\""), CONF_RELOAD_UPSTREAM);
    assert_int_equal(endpoint_diff("client_random = \"aa/ff\"", "client_random_prefix = \"AA\""),
                     CONF_RELOAD_SAME);

    struct conf *x = load(ENDPOINT), *y = load("hostname = \"vpn.example\"\naddresses = [\"192.0.2.1:443\"]\n"
                                               "username = \"u\"\npassword = \"other\"\n");
    assert_int_equal(conf_endpoint_diff(&x->endpoint, &y->endpoint), CONF_RELOAD_UPSTREAM);
    conf_unref(x);
    conf_unref(y);

    assert_int_equal(listener_diff("", ""), CONF_RELOAD_SAME);
    assert_int_equal(listener_diff("", "username = \"a\"\npassword = \"b\""), CONF_RELOAD_NONE);
    assert_int_equal(listener_diff("users = [{username = \"a\", password = \"b\"}]",
                                   "users = [{username = \"a\", password = \"c\"}]"), CONF_RELOAD_NONE);
    assert_int_equal(listener_diff("idle_timeout = 0", "address = \"127.0.0.1:1081\""), CONF_RELOAD_LISTENER);
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
        cmocka_unit_test(every_default_is_valid_and_within_bounds),
        cmocka_unit_test(defaults),
        cmocka_unit_test(an_endpoints_export),
        cmocka_unit_test(a_file_of_the_official_client),
        cmocka_unit_test(every_option_takes_a_value),
        cmocka_unit_test(the_example_loads_without_a_remark),
        cmocka_unit_test(the_example_is_right_in_its_comments),
        cmocka_unit_test(both_shapes_at_once),
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
        cmocka_unit_test(addresses_of_listeners_must_differ),
        cmocka_unit_test(as_many_users_as_allowed),
        cmocka_unit_test(socks4_is_left_out),
        cmocka_unit_test(a_tun_listener_alone_leaves_the_default),
        cmocka_unit_test(as_many_listeners_as_allowed),
        cmocka_unit_test(remarks),
        cmocka_unit_test(the_same_said_twice_is_fine),
        cmocka_unit_test(errors_are_all_collected_up_to_a_bound),
        cmocka_unit_test(files),
        cmocka_unit_test(references_are_counted),
        cmocka_unit_test(differences),
        cmocka_unit_test(numbers_and_their_texts),
    };
    return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
