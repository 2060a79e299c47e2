/* Values that stand in files beside the configuration, and in the service manager's credentials. */
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
#include "app/toml.h"

#define SECRET "swordfish-\xc3\xa4"
#define BARE "hostname = \"vpn.example\"\naddresses = [\"192.0.2.1:443\"]\nusername = \"u\"\n"
#define ENDPOINT BARE "password = \"p\"\n"
#define CERTIFICATE "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
#define KEY "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n"

static struct conf_report rep;
static char dir[64], conf_path[128];

static int up(void **state) {
    (void)state;
    strcpy(dir, "/tmp/adit-test-files-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(conf_path, sizeof conf_path, "%s/adit.toml", dir);
    unsetenv("CREDENTIALS_DIRECTORY");
    return 0;
}

static const char *const names[] = {"adit.toml", "secret", "trust", "key", "credentials/endpoint.password",
                                    "credentials/endpoint.client_key", "credentials/other", "credentials"};

static int down(void **state) {
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (unlink(path)) rmdir(path);
    }
    return rmdir(dir);
}

static void put_bytes(const char *name, const void *text, size_t n, mode_t mode) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void put(const char *name, const char *text, mode_t mode) { put_bytes(name, text, strlen(text), mode); }

static struct conf *load(const char *text) {
    struct conf *c;
    put("adit.toml", text, 0600);
    if (conf_load_file(conf_path, &c, &rep) == 0) return c;
    conf_report_print(&rep, stderr);
    fail_msg("not loaded: %s", text);
    return NULL;
}

static void said(enum conf_severity s, unsigned line, unsigned col, const char *part) {
    for (size_t i = 0; i < rep.n; i++) {
        const struct conf_message *m = &rep.messages[i];
        assert_null(strstr(m->text, "swordfish"));
        if (m->severity == s && m->line == line && m->col == col && strstr(m->text, part)) return;
    }
    conf_report_print(&rep, stderr);
    fail_msg("no %s at %u:%u with \"%s\"", conf_severity_word(s), line, col, part);
}

static void refuse(const char *text, unsigned line, unsigned col, const char *part) {
    struct conf *c;
    put("adit.toml", text, 0600);
    assert_int_equal(conf_load_file(conf_path, &c, &rep), ERR_CONFIG);
    assert_null(c);
    said(CONF_ERROR, line, col, part);
    if (rep.found[CONF_ERROR] != 1) conf_report_print(&rep, stderr);
    assert_int_equal(rep.found[CONF_ERROR], 1);
}

static void password_is(const char *text, const char *password) {
    struct conf *c = load(text);
    assert_string_equal(c->endpoint.password, password);
    assert_int_equal(rep.n, 0);
    conf_unref(c);
}

static void paths(void **state) {
    (void)state;
    char text[512], here[1024];
    const char *const endings[] = {"", "\n", "\r\n"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(text, sizeof text, SECRET "%s", endings[i]);
        put("secret", text, 0600);
        password_is(BARE "password_file = \"secret\"\n", SECRET);
    }
    /* Relative to the file, not to the working directory. */
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir("/"), 0);
    password_is(BARE "password_file = \"secret\"\n", SECRET);
    password_is(BARE "password_file = \"./secret\"\n", SECRET);
    assert_int_equal(chdir(dir), 0);
    struct conf *c;
    assert_int_equal(conf_load_file("adit.toml", &c, &rep), 0);
    assert_string_equal(c->endpoint.password, SECRET);
    conf_unref(c);
    assert_int_equal(chdir(here), 0);
    snprintf(text, sizeof text, BARE "password_file = \"%s/secret\"\n", dir);
    password_is(text, SECRET);
    /* In a table, too; an empty name is none. */
    password_is("[endpoint]\n" BARE "password_file = \"secret\"\n", SECRET);
    password_is(ENDPOINT "password_file = \"\"\n", "p");
    password_is(BARE "password = \"\"\npassword_file = \"secret\"\n", SECRET);
}

static void every_kind(void **state) {
    (void)state;
    unsigned line, col;
    put("secret", SECRET "\n", 0600);
    put("trust", CERTIFICATE, 0644);
    put("key", KEY, 0600);
    struct conf *c = load(BARE "password_file = \"secret\"\ncertificate_file = \"trust\"\n"
                               "client_certificate_file = \"trust\"\nclient_key_file = \"key\"\n"
                               "[listener.a]\nusername = \"x\"\npassword_file = \"secret\"\n"
                               "users = [{username = \"y\", password_file = \"secret\"}]\n");
    assert_int_equal(rep.n, 0);
    const struct conf_endpoint *e = &c->endpoint;
    assert_non_null(strstr(e->certificate, "AAAA\n-----END CERTIFICATE-----"));
    assert_string_equal(e->client_certificate, e->certificate);
    assert_non_null(strstr(e->client_key, "BBBB"));
    assert_int_equal(c->listeners[0].users.n, 2);
    assert_string_equal(c->listeners[0].users.v[0].password, SECRET);
    assert_string_equal(c->listeners[0].users.v[1].password, SECRET);
    /* The place of an option is that of the name of its file. */
    assert_true(conf_place(c, "endpoint.certificate", &line, &col));
    assert_int_equal(line, 5);
    assert_int_equal(col, 20);
    conf_unref(c);
}

static void what_cannot_be_used(void **state) {
    (void)state;
    refuse(BARE "password_file = \"nowhere\"\n", 4, 17, "/nowhere' cannot be read: No such file");
    refuse(BARE "password_file = \"/\"\n", 4, 17, "'password': '/' cannot be read: Is a directory");
    refuse(BARE "password_file = 1\n", 4, 17, "'password_file' must be a string");
    put("secret", "", 0600);
    refuse(BARE "password_file = \"secret\"\n", 4, 17, "/secret' is empty");
    put("secret", "\n", 0600);
    refuse(BARE "password_file = \"secret\"\n", 4, 17, "/secret' is empty");
    put("secret", "two\nlines\n", 0600);
    refuse(BARE "password_file = \"secret\"\n", 4, 17, "'password' must not hold control characters");
    put_bytes("secret", "swordfish\0more", 14, 0600);
    refuse(BARE "password_file = \"secret\"\n", 4, 17, "'password' must not hold control characters");
    put("secret", SECRET, 0600);
    refuse(BARE "password_file = \"secret\"\npassword = \"p\"\n", 5, 1, "'password' and 'password_file' (line 4)");
    refuse(ENDPOINT "password_file = \"secret\"\n", 5, 1, "'password_file' and 'password' (line 4) are both set");
    refuse(ENDPOINT "certificate_file = \"secret\"\n", 5, 20, "must be certificates in PEM format");
    put("trust", CERTIFICATE, 0600);
    refuse(ENDPOINT "client_certificate_file = \"trust\"\n", 5, 27, "'client_certificate' needs a 'client_key'");
    refuse(ENDPOINT "client_certificate_file = \"trust\"\nclient_key_file = \"trust\"\n", 6, 19,
           "'client_key' must be a private key in PEM format");
    put("key", KEY, 0600);
    refuse(ENDPOINT "client_key_file = \"key\"\n", 5, 19, "'client_key' needs a 'client_certificate'");
    refuse(ENDPOINT "[listener.a]\npassword_file = \"secret\"\n", 6, 1, "'password' needs a 'username'");

    size_t n = TOML_TEXT_MAX + 1;
    char *large = malloc(n);
    assert_non_null(large);
    memset(large, 'x', n);
    put_bytes("secret", large, n, 0600);
    free(large);
    refuse(BARE "password_file = \"secret\"\n", 4, 17, "is larger than 1 MiB");
}

/* A text that is no file has no place, and reads none. */
static void only_from_a_file(void **state) {
    (void)state;
    struct conf *c;
    const char *text = BARE "password_file = \"/etc/hostname\"\n";
    assert_int_equal(conf_load_text("text", text, strlen(text), &c, &rep), ERR_CONFIG);
    said(CONF_ERROR, 4, 17, "which only a configuration that is a file itself may do");
}

static void credentials(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/credentials", dir);
    refuse(BARE "password_file = \"credential:other\"\n", 4, 17, "there is no $CREDENTIALS_DIRECTORY");
    assert_int_equal(mkdir(path, 0700), 0);
    setenv("CREDENTIALS_DIRECTORY", path, 1);
    refuse(BARE "password_file = \"credential:other\"\n", 4, 17, "/credentials/other' cannot be read: No such file");
    const char *const bad[] = {"", ".", "..", "../secret", "a/b", ".hidden"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        snprintf(text, sizeof text, BARE "password_file = \"credential:%s\"\n", bad[i]);
        refuse(text, 4, 17, "names no credential");
    }
    put("credentials/other", "of another", 0400);
    password_is(BARE "password_file = \"credential:other\"\n", "of another");
    /* By its own name when nothing else is said, and only then. */
    refuse(BARE, 1, 1, "'password' is missing");
    put("credentials/endpoint.password", "by name\n", 0440);
    password_is(BARE, "by name");
    password_is("[endpoint]\n" BARE, "by name");
    password_is(BARE "password = \"\"\n", "by name");
    password_is(ENDPOINT, "p");
    password_is(BARE "password_file = \"credential:other\"\n", "of another");
    refuse(BARE "password_file = \"nowhere\"\n", 4, 17, "No such file");
    put("credentials/endpoint.client_key", KEY, 0400);
    refuse(ENDPOINT, 0, 0, "'client_key' needs a 'client_certificate'");
    put("credentials/endpoint.password", "by name\n", 0444);
    put("trust", CERTIFICATE, 0644);
    conf_unref(load(BARE "client_certificate_file = \"trust\"\n"));
    said(CONF_WARNING, 0, 0, "credentials/endpoint.password' (mode 0444): chmod go-rwx");
    assert_int_equal(rep.n, 1);
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void modes(void **state) {
    (void)state;
    static const mode_t open_modes[] = {0604, 0640, 0644, 0444}, tight_modes[] = {0600, 0400, 0620, 0711};
    struct conf *c;
    char words[64];
    for (size_t i = 0; i < 4; i++) {
        put("secret", SECRET, open_modes[i]);
        conf_unref(load(BARE "password_file = \"secret\"\n"));
        snprintf(words, sizeof words, "/secret' (mode %04o): chmod go-rwx", (unsigned)open_modes[i]);
        said(CONF_WARNING, 4, 17, words);
        assert_int_equal(rep.n, 1);
        put("secret", SECRET, tight_modes[i]);
        password_is(BARE "password_file = \"secret\"\n", SECRET);

        /* The configuration itself, and only when it holds a secret. */
        put("adit.toml", ENDPOINT, open_modes[i]);
        assert_int_equal(conf_load_file(conf_path, &c, &rep), 0);
        conf_unref(c);
        said(CONF_WARNING, 0, 0, "others can read the secrets in it");
        assert_int_equal(rep.n, 1);
        put("adit.toml", BARE "password_file = \"secret\"\n", open_modes[i]);
        assert_int_equal(conf_load_file(conf_path, &c, &rep), 0);
        conf_unref(c);
        assert_int_equal(rep.n, 0);
        put("adit.toml", BARE "password_file = \"secret\"\n[listener.a]\nusers = [{username = \"x\", password = \"y\"}]\n",
            open_modes[i]);
        assert_int_equal(conf_load_file(conf_path, &c, &rep), 0);
        conf_unref(c);
        assert_int_equal(rep.n, 1);
    }
    /* Certificates are no secret. */
    put("trust", CERTIFICATE, 0644);
    put("key", KEY, 0644);
    conf_unref(load(ENDPOINT "client_certificate_file = \"trust\"\nclient_key_file = \"key\"\n"));
    said(CONF_WARNING, 6, 19, "'client_key': others can read the secret in");
    assert_int_equal(rep.n, 1);
}

/* A path that is kept, not read. */
static void a_path(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/tickets", dir);
    struct conf *c = load(ENDPOINT "ticket_file = \"tickets\"\n");
    assert_string_equal(c->endpoint.ticket_file, path);
    conf_unref(c);
    c = load(ENDPOINT "ticket_file = \"/var/lib/adit/tickets\"\n");
    assert_string_equal(c->endpoint.ticket_file, "/var/lib/adit/tickets");
    conf_unref(c);
    refuse(ENDPOINT "ticket_file = \"credential:tickets\"\n", 5, 15, "'ticket_file'");
    char text[5000] = ENDPOINT "ticket_file = \"/";
    memset(text + strlen(text), 'x', 4200);
    strcat(text, "\"\n");
    refuse(text, 5, 15, "'ticket_file' is too long");
}

/* What a reload must do when a file has another content. */
static void differences(void **state) {
    (void)state;
    const char *text = BARE "password_file = \"secret\"\n[listener.a]\nusername = \"x\"\npassword_file = \"secret\"\n";
    put("secret", "one", 0600);
    struct conf *a = load(text), *same = load(text);
    put("secret", "two", 0600);
    struct conf *b = load(text);
    assert_int_equal(conf_endpoint_diff(&a->endpoint, &same->endpoint), CONF_RELOAD_SAME);
    assert_int_equal(conf_endpoint_diff(&a->endpoint, &b->endpoint), CONF_RELOAD_UPSTREAM);
    assert_int_equal(conf_listener_diff(a->listeners, b->listeners), CONF_RELOAD_NONE);
    conf_unref(a);
    conf_unref(same);
    conf_unref(b);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(paths, up, down),
        cmocka_unit_test_setup_teardown(every_kind, up, down),
        cmocka_unit_test_setup_teardown(what_cannot_be_used, up, down),
        cmocka_unit_test_setup_teardown(only_from_a_file, up, down),
        cmocka_unit_test_setup_teardown(credentials, up, down),
        cmocka_unit_test_setup_teardown(modes, up, down),
        cmocka_unit_test_setup_teardown(a_path, up, down),
        cmocka_unit_test_setup_teardown(differences, up, down),
    };
    return cmocka_run_group_tests_name("conf files", tests, NULL, NULL);
}
