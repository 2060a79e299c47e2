/* Session tickets from one run to the next: what is kept, and what is not believed. */
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

#include "app/ticket_file.h"
#include "base/log.h"
#include "lib/creds_attempt.h"
#include "lib/session_pair.h"
#include "lib/testca.h"

static char dir[64], path[128], last_line[LOG_LINE_MAX];
static unsigned lines;

static void sink(enum log_level level, const char *line, void *arg) {
    (void)arg;
    if (level > LOG_WARN || !strstr(line, " tickets: ")) return;
    lines++;
    snprintf(last_line, sizeof last_line, "%s", line);
}

static int up(void **state) {
    (void)state;
    strcpy(dir, "/tmp/adit-test-tickets-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/tickets", dir);
    lines = 0;
    log_set_sink(sink, NULL);
    return 0;
}

/* Nothing else may be left there, no temporary file above all. */
static int down(void **state) {
    (void)state;
    log_set_sink(NULL, NULL);
    if (unlink(path)) rmdir(path);
    return rmdir(dir);
}

static char trust[8192], *cert, *key;
static struct creds *server;

static struct creds *client(const char *hostname) {
    return creds_must(&(struct creds_config){.hostname = hostname, .trust_pem = trust});
}

static bool there(void) { return access(path, F_OK) == 0; }

static void said(const char *part) {
    if (lines != 1 || !strstr(last_line, part)) fail_msg("%u lines, the last \"%s\", not \"%s\"", lines, last_line, part);
    lines = 0;
}

/* One run: loads, has sessions, saves. */
static bool run(const char *hostname) {
    struct creds *c = client(hostname);
    ticket_file_load(path, c);
    assert_false(there());
    struct creds_attempt h2 = creds_attempt(SESSION_H2, c, server), h3 = creds_attempt(SESSION_H3, c, server);
    assert_int_equal(h2.err, ERR_OK);
    assert_int_equal(h3.err, ERR_OK);
    assert_int_equal(h2.resumed, h3.resumed);
    ticket_file_save(path, c);
    creds_unref(c);
    return h2.resumed;
}

static void from_run_to_run(void **state) {
    (void)state;
    struct stat st;
    mode_t before = umask(0);
    assert_false(run("test.example"));
    umask(before);
    assert_int_equal(lines, 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(run("test.example"));
    assert_true(run("test.example"));
    assert_int_equal(lines, 0);
    /* Those of another configuration are not used, and do not stay. */
    assert_false(run("127.0.0.1"));
    said("is not used: it is of another endpoint");
    assert_true(run("127.0.0.1"));
}

static void nothing_to_keep(void **state) {
    (void)state;
    struct creds *c = client("test.example");
    ticket_file_save(path, c);
    assert_false(there());
    ticket_file_load(path, c);
    assert_int_equal(lines, 0);
    creds_unref(c);
}

static void put(const void *p, size_t n, mode_t mode) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void ignored(const char *part) {
    struct creds *c = client("test.example");
    uint8_t *p;
    size_t n;
    ticket_file_load(path, c);
    said(part);
    assert_int_equal(creds_export_tickets(c, &p, &n), 0);
    assert_null(p);
    creds_unref(c);
}

static void garbage(void **state) {
    (void)state;
    put("", 0, 0600);
    ignored("it holds no tickets");
    put("not such a file at all, but a text that somebody has put there, longer than a head and a digest", 95, 0600);
    ignored("it holds no tickets");
    run("test.example");
    assert_int_equal(truncate(path, 200), 0);
    ignored("it is damaged");
    static char large[CREDS_TICKETS_BYTES_MAX + 1];
    put(large, sizeof large, 0600);
    ignored("it is too large");
    assert_true(there());
}

static void what_is_no_file_of_ours(void **state) {
    (void)state;
    char target[160];
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610};
    assert_false(run("test.example"));
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        chmod(path, modes[i]);
        ignored("others have access to it");
    }
    chmod(path, 0600);
    snprintf(target, sizeof target, "%s/else", dir);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink(target, path), 0);
    ignored("it is a symbolic link");
    /* Written over the link, not through it. */
    struct stat st;
    struct creds *c = client("test.example");
    assert_int_equal(creds_attempt(SESSION_H2, c, server).err, ERR_OK);
    ticket_file_save(path, c);
    creds_unref(c);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    unlink(path);
    unlink(target);
    assert_int_equal(mkfifo(path, 0600), 0);
    ignored("it is not a regular file");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    ignored("it is not a regular file");
}

static void cannot_be_written(void **state) {
    (void)state;
    struct creds *c = client("test.example");
    char nowhere[160], longest[5000];
    assert_int_equal(creds_attempt(SESSION_H2, c, server).err, ERR_OK);
    snprintf(nowhere, sizeof nowhere, "%s/no/tickets", dir);
    ticket_file_save(nowhere, c);
    said("cannot be written: No such file");
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    ticket_file_save(longest, c);
    said("cannot be written: File name too long");
    assert_int_equal(mkdir(path, 0700), 0);
    ticket_file_save(path, c);
    said("cannot be written: Is a directory");
    creds_unref(c);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(from_run_to_run, up, down),
        cmocka_unit_test_setup_teardown(nothing_to_keep, up, down),
        cmocka_unit_test_setup_teardown(garbage, up, down),
        cmocka_unit_test_setup_teardown(what_is_no_file_of_ours, up, down),
        cmocka_unit_test_setup_teardown(cannot_be_written, up, down),
    };
    struct testca *ca = testca_new("Root");
    char *root = testca_pem(ca);
    snprintf(trust, sizeof trust, "%s", root);
    testca_issue(ca, &(struct testca_spec){.names = {"test.example"}, .ips = {"127.0.0.1"}}, &cert, &key);
    server = creds_must(
        &(struct creds_config){.server = true, .certificate_pem = cert, .key_pem = key, .tickets = true});
    int r = cmocka_run_group_tests_name("ticket file", tests, NULL, NULL);
    creds_unref(server);
    testca_free(ca);
    free(root);
    free(cert);
    free(key);
    session_pair_cleanup();
    return r;
}
