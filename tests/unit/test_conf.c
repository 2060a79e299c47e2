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
#include "lib/conf_text.h"

/* ---- the table ---- */

static void every_default_is_valid_and_within_bounds(void **state) {
    (void)state;
    const struct conf_option *o;
    size_t n = 0;
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        struct conf *conf = calloc(1, sizeof *conf);
        struct conf_loader l = {.conf = conf, .rep = &conf_said};
        union conf_value v;
        memset(&v, 0xee, sizeof v);
        union conf_value before = v;
        arena_init(&conf->arena, 65536);
        conf_report_init(&conf_said, "test");
        conf_value_default(&l, o, &v);
        if (conf_said.n) fail_msg("%s: %s", o->key, conf_said.messages[0].text);
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
    struct conf *c = must_load(CONF_TEXT_ENDPOINT);
    assert_int_equal(conf_said.n, 0);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_int_equal(c->n_listeners, 1);
    const struct conf_listener *li = &c->listeners[0];
    char text[CONF_ADDRESS_TEXT_MAX];
    assert_string_equal(li->name, "mixed");
    assert_string_equal(conf_address_format(&li->address, text, sizeof text), "127.0.0.1:1080");
    assert_int_equal(li->protocols, CONF_SOCKS5 | CONF_HTTP | CONF_SOCKS4);
    assert_int_equal(li->users.n, 0);
    assert_int_equal(li->handshake_timeout, 10000);
    assert_int_equal(li->idle_timeout, 7200000);
    assert_int_equal(li->max_connections, 4096);
    assert_int_equal(li->max_connections_per_uid, 0);
    assert_int_equal(li->mode, 0600);
    assert_int_equal(li->allow_uids.n + li->allow_gids.n, 0);
    assert_false(li->allow_open);
    assert_false(li->pac);
    const struct conf_endpoint *e = &c->endpoint;
    assert_string_equal(e->hostname, "vpn.example");
    assert_string_equal(e->password, CONF_TEXT_SECRET);
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
    if (conf_load_file(sample_path(name, path, sizeof path), &c, &conf_said)) {
        conf_text_print();
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
    must_say(CONF_NOTE, 30, 1, "dns_upstreams");
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
    must_say(CONF_NOTE, 6, 1, "post_quantum_group_enabled");
    must_say(CONF_WARNING, 7, 1, "everything goes through the tunnel");
    must_say(CONF_WARNING, 24, 11, "no TUN");
    conf_unref(c);
}

static void every_option_takes_a_value(void **state) {
    (void)state;
    struct conf *c = load_sample("tests/samples/every-option.toml");
    struct conf *d = must_load(CONF_TEXT_ENDPOINT);
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
    assert_int_equal(li->mode, 0660);
    assert_int_equal(li->allow_uids.n, 2);
    assert_int_equal(li->allow_uids.v[0], 0);
    assert_int_equal(li->allow_uids.v[1], 1000);
    assert_int_equal(li->allow_gids.v[1], 0);
    assert_true(conf_address_is_unix(&li->address));
    assert_int_equal(conf_listener_find(c, "second")->protocols, CONF_SOCKS5 | CONF_SOCKS4);
    assert_string_equal(conf_listener_find(c, "third")->address.activated, "sample.socket");
    conf_unref(c);
    conf_unref(d);
}

static void the_example_loads_without_a_remark(void **state) {
    (void)state;
    struct conf *c = load_sample("contrib/adit.example.toml");
    /* All but the modes of the file, which the example cannot help. */
    for (size_t i = 0; i < conf_said.n; i++) assert_int_equal(conf_said.messages[i].line, 0);
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
        bool text_follows = strstr(line, " = \"\"\"\n");
        if (shown && !text_follows) line[0] = ' ';
        assert_true(strlen(text) + strlen(line) < sizeof text);
        strcat(text, line);
    }
    fclose(f);
    struct conf *c = must_load(text);
    assert_int_equal(conf_said.n, 0);
    assert_int_equal(c->n_listeners, 5);
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
    must_refuse("hostname = \"a.example\"\nname = \"x\"\n[endpoint]\nhostname = \"vpn.example\"\n" CONF_TEXT_REST, 1, 1,
                "keep one form");
    must_refuse_bytes("[endpoint]\n", 11);
    assert_int_equal(conf_said.found[CONF_ERROR], 4);
    must_say(CONF_ERROR, 1, 2, "'hostname' is missing");
    must_say(CONF_ERROR, 1, 2, "'password' is missing");
}

/* ---- the report ---- */

static void errors_are_all_collected_up_to_a_bound(void **state) {
    (void)state;
    char text[4096] = "log_level = \"loud\"\n";
    for (int i = 0; i < 30; i++) sprintf(text + strlen(text), "q%d = 1\n", i);
    for (int i = 0; i < 30; i++) sprintf(text + strlen(text), "exclusions_preresolve_%d = 1\n", i);
    must_refuse_bytes(text, strlen(text));
    assert_int_equal(conf_said.found[CONF_ERROR], 32);
    assert_int_equal(conf_said.found[CONF_NOTE], 30);
    assert_int_equal(conf_said.n, 2 * CONF_MESSAGES_MAX);
    for (size_t i = 1; i < conf_said.n; i++) assert_true(conf_said.messages[i - 1].line <= conf_said.messages[i].line);

    char *printed = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&printed, &n);
    assert_non_null(to);
    conf_report_print(&conf_said, to);
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

    write_file(path, CONF_TEXT_ENDPOINT, strlen(CONF_TEXT_ENDPOINT), 0600);
    assert_int_equal(conf_load_file(path, &c, &conf_said), 0);
    assert_int_equal(conf_said.n, 0);
    conf_unref(c);
    chmod(path, 0644);
    assert_int_equal(conf_load_file(path, &c, &conf_said), 0);
    must_say(CONF_WARNING, 0, 0, "others can read the secrets in it (mode 0644): chmod go-rwx");
    conf_unref(c);

    size_t n = 3 << 20;
    char *large = malloc(n);
    assert_non_null(large);
    memset(large, '\n', n);
    write_file(path, large, n, 0600);
    assert_int_equal(conf_load_file(path, &c, &conf_said), ERR_CONFIG);
    must_say(CONF_ERROR, 1, 1, "larger than 1 MiB");
    memcpy(large, CONF_TEXT_ENDPOINT, strlen(CONF_TEXT_ENDPOINT));
    write_file(path, large, TOML_TEXT_MAX, 0600);
    assert_int_equal(conf_load_file(path, &c, &conf_said), 0);
    conf_unref(c);
    free(large);

    unlink(path);
    assert_int_equal(conf_load_file(path, &c, &conf_said), ERR_IO);
    assert_null(c);
    must_say(CONF_ERROR, 0, 0, "No such file");
    assert_int_equal(conf_load_file("/", &c, &conf_said), ERR_IO);
    must_say(CONF_ERROR, 0, 0, "Is a directory");
}

/* ---- references and differences ---- */

static void references_are_counted(void **state) {
    (void)state;
    struct conf *c = must_load(CONF_TEXT_ENDPOINT);
    assert_ptr_equal(conf_ref(c), c);
    conf_unref(c);
    assert_string_equal(c->endpoint.username, "u");
    conf_unref(c);
    conf_unref(NULL);
}

static enum conf_reload endpoint_diff(const char *a, const char *b) {
    struct conf *x = must_load_with(a), *y = must_load_with(b);
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
    struct conf *x = must_load_with(x_text), *y = must_load_with(y_text);
    enum conf_reload r = conf_listener_diff(x->listeners, y->listeners);
    conf_unref(x);
    conf_unref(y);
    return r;
}

#define HASH "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define UPPER "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"

static void differences(void **state) {
    (void)state;
    assert_int_equal(endpoint_diff("", ""), CONF_RELOAD_SAME);
    assert_int_equal(endpoint_diff("", "fallback_delay = \"1s\"\nvpn_mode = \"selective\""), CONF_RELOAD_SAME);
    assert_int_equal(endpoint_diff("", "name = \"x\""), CONF_RELOAD_NONE);
    assert_int_equal(endpoint_diff("", "pins = [\"sha256//" HASH "\"]"), CONF_RELOAD_UPSTREAM);
    assert_int_equal(endpoint_diff("pins = [\"cert-sha256:" HEX "\"]", "pins = [\"sha256//" HASH "\"]"),
                     CONF_RELOAD_UPSTREAM);
    assert_int_equal(endpoint_diff("pins = [\"cert-sha256:" HEX "\"]", "pins = [\"cert-sha256:" UPPER "\"]"),
                     CONF_RELOAD_SAME);
    assert_int_equal(endpoint_diff("", "fallback_delay = \"2s\"\nname = \"x\""), CONF_RELOAD_UPSTREAM);
    assert_int_equal(endpoint_diff("client_random = \"aa\"", "client_random = \"aa/fe\""), CONF_RELOAD_UPSTREAM);
    assert_int_equal(endpoint_diff("client_random = \"aa/ff\"", "client_random_prefix = \"AA\""),
                     CONF_RELOAD_SAME);

    struct conf *x = must_load(CONF_TEXT_ENDPOINT);
    struct conf *y = must_load("hostname = \"vpn.example\"\naddresses = [\"192.0.2.1:443\"]\n"
                               "username = \"u\"\npassword = \"other\"\n");
    assert_int_equal(conf_endpoint_diff(&x->endpoint, &y->endpoint), CONF_RELOAD_UPSTREAM);
    conf_unref(x);
    conf_unref(y);

    assert_int_equal(listener_diff("", ""), CONF_RELOAD_SAME);
    assert_int_equal(listener_diff("", "username = \"a\"\npassword = \"b\""), CONF_RELOAD_NONE);
    assert_int_equal(listener_diff("users = [{username = \"a\", password = \"b\"}]",
                                   "users = [{username = \"a\", password = \"c\"}]"), CONF_RELOAD_NONE);
    assert_int_equal(listener_diff("allow_uids = [1]", "allow_uids = [1]"), CONF_RELOAD_SAME);
    assert_int_equal(listener_diff("allow_uids = [1]", "allow_uids = [2]"), CONF_RELOAD_NONE);
    assert_int_equal(listener_diff("allow_uids = [1]", "allow_gids = [1]"), CONF_RELOAD_NONE);
    assert_int_equal(listener_diff("address = \"unix:/s\"", "address = \"unix:/s\"\nmode = \"0600\""), CONF_RELOAD_SAME);
    assert_int_equal(listener_diff("address = \"unix:/s\"", "address = \"unix:/s\"\nmode = \"0666\""), CONF_RELOAD_NONE);
    assert_int_equal(listener_diff("address = \"unix:/s\"", "address = \"unix:/t\""), CONF_RELOAD_LISTENER);
    assert_int_equal(listener_diff("address = \"systemd:s\"", "address = \"systemd:t\""), CONF_RELOAD_LISTENER);
    assert_int_equal(listener_diff("address = \"systemd:s\"", "address = \"systemd:s\""), CONF_RELOAD_SAME);
    assert_int_equal(listener_diff("address = \"systemd:s\"", ""), CONF_RELOAD_LISTENER);
    assert_int_equal(listener_diff("idle_timeout = 0", "address = \"127.0.0.1:1081\""), CONF_RELOAD_LISTENER);
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
        cmocka_unit_test(errors_are_all_collected_up_to_a_bound),
        cmocka_unit_test(files),
        cmocka_unit_test(references_are_counted),
        cmocka_unit_test(differences),
    };
    return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
