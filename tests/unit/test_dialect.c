/* test_dialect.c - what TrustTunnel's heads are made of, and what every answer to them means. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/secret.h"
#include "lib/h2_raw.h"
#include "upstream/dialect.h"

#define TT dialect_trusttunnel
#define BASIC "Basic dTpw"

static const struct dialect_context with_all = {.authorization = (char *)BASIC, .user_agent = (char *)"Linux adit"};

static struct dest dest_of(const char *host, uint16_t port) {
    struct dest d;
    assert_int_equal(dest_set_name(&d, DEST_TCP, host, strlen(host), port), 0);
    return d;
}

/* ---- heads ---- */

static void assert_field(const struct dialect_head *h, size_t i, const char *name, const char *value, bool sensitive) {
    assert_true(i < h->n);
    assert_int_equal(h->fields[i].name_len, strlen(name));
    assert_int_equal(h->fields[i].value_len, strlen(value));
    assert_memory_equal(h->fields[i].name, name, strlen(name));
    assert_memory_equal(h->fields[i].value, value, strlen(value));
    assert_int_equal(h->fields[i].sensitive, sensitive);
}

/* A whole head: endpoints answer some other fields without a tunnel, or close the session for them. */
static void assert_head(const struct dialect_head *h, const char *authority) {
    assert_int_equal(h->n, 4);
    assert_field(h, 0, ":method", "CONNECT", false);
    assert_field(h, 1, ":authority", authority, false);
    assert_field(h, 2, "user-agent", "Linux adit", false);
    assert_field(h, 3, "proxy-authorization", BASIC, true);
}

static void connect_names_the_destination(void **state) {
    static const struct {
        const char *host;
        uint16_t port;
        const char *authority;
    } cases[] = {
        {"example.test", 443, "example.test:443"},
        {"EXAMPLE.Test.", 80, "example.test:80"},
        {"b\xc3\xbc" "cher.test", 65535, "xn--bcher-kva.test:65535"},
        {"192.0.2.1", 1, "192.0.2.1:1"},
        {"0xc0000201", 80, "192.0.2.1:80"},
        {"2001:DB8:0:0::1", 8443, "[2001:db8::1]:8443"},
        {"[2001:db8::1]", 443, "[2001:db8::1]:443"},
        {"::ffff:192.0.2.1", 443, "192.0.2.1:443"},
        {"_dmarc.example.test", 53, "_dmarc.example.test:53"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dest d = dest_of(cases[i].host, cases[i].port);
        struct dialect_head h;
        memset(&h, 0xee, sizeof h);
        assert_int_equal(TT.connect_head(&with_all, &d, &h), 0);
        assert_head(&h, cases[i].authority);
    }
}

static void connect_takes_the_longest_name(void **state) {
    char name[DEST_NAME_MAX + 1], authority[DEST_TEXT_MAX];
    struct dialect_head h;
    (void)state;
    memset(name, 'a', sizeof name);
    name[63] = name[127] = name[191] = '.';
    name[DEST_NAME_MAX] = 0;
    struct dest d = dest_of(name, 65535);
    assert_int_equal(TT.connect_head(&with_all, &d, &h), 0);
    snprintf(authority, sizeof authority, "%s:65535", name);
    assert_head(&h, authority);
}

/* What the endpoint would take for a pseudo-host is no destination, so no application can ask for one. */
static void no_destination_is_a_pseudo_host(void **state) {
    static const char *const hosts[] = {"_check", "_udp2", "_icmp", "_CHECK", "_check.", "_Udp2."};
    struct dest d;
    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        assert_int_equal(dest_set_name(&d, DEST_TCP, hosts[i], strlen(hosts[i]), 1), ERR_CLIENT_DESTINATION);
}

static void connect_without_ipv6(void **state) {
    struct dialect_context c = with_all;
    struct dialect_head h;
    struct dest six = dest_of("2001:db8::1", 443), four = dest_of("192.0.2.1", 443), name = dest_of("a.test", 443);
    (void)state;
    c.no_ipv6 = true;
    assert_int_equal(TT.connect_head(&c, &six, &h), ERR_TARGET_NET_UNREACHABLE);
    assert_int_equal(TT.connect_head(&c, &four, &h), 0);
    assert_head(&h, "192.0.2.1:443");
    assert_int_equal(TT.connect_head(&c, &name, &h), 0);
    assert_head(&h, "a.test:443");
    assert_int_equal(TT.check_head(&c, &h), 0);
}

static void connect_is_for_tcp(void **state) {
    struct dialect_head h;
    struct dest d = dest_of("a.test", 443);
    (void)state;
    d.network = DEST_UDP;
    assert_int_equal(TT.connect_head(&with_all, &d, &h), ERR_INTERNAL);
}

/* Bare: with a port the endpoint would look it up as a name. */
static void check_names_the_pseudo_host(void **state) {
    struct dialect_head h;
    (void)state;
    memset(&h, 0xee, sizeof h);
    assert_int_equal(TT.check_head(&with_all, &h), 0);
    assert_head(&h, "_check");
}

static void what_is_not_set_is_not_sent(void **state) {
    struct dialect_context c = {0};
    struct dialect_head h;
    struct dest d = dest_of("a.test", 443);
    (void)state;
    assert_int_equal(TT.connect_head(&c, &d, &h), 0);
    assert_int_equal(h.n, 2);
    assert_field(&h, 1, ":authority", "a.test:443", false);
    c.authorization = (char *)BASIC;
    assert_int_equal(TT.connect_head(&c, &d, &h), 0);
    assert_int_equal(h.n, 3);
    assert_field(&h, 2, "proxy-authorization", BASIC, true);
    c.authorization = NULL;
    c.user_agent = (char *)"x";
    assert_int_equal(TT.check_head(&c, &h), 0);
    assert_int_equal(h.n, 3);
    assert_field(&h, 2, "user-agent", "x", false);
}

static void basic_credentials(void **state) {
    static const struct {
        const char *user, *password, *text;
    } cases[] = {
        {"Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, /* RFC 7617 section 2 */
        {"test", "123\xc2\xa3", "Basic dGVzdDoxMjPCow=="},                /* section 2.1 */
        {"u", "p", BASIC},
        {"u", "pa", "Basic dTpwYQ=="},
        {"u", "pas", "Basic dTpwYXM="},
        {"u", "a:b", "Basic dTphOmI="},
        {"u", "", "Basic dTo="},
        {"", "", "Basic Og=="},
        {"u", "\xff\xfe\xfb?>", "Basic dTr//vs/Pg=="}, /* the standard alphabet */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = dialect_basic(cases[i].user, cases[i].password);
        assert_non_null(text);
        assert_string_equal(text, cases[i].text);
        secret_free(text);
    }
    char user[256] = {0}, password[4097] = {0};
    memset(user, 'u', sizeof user - 1);
    memset(password, 'p', sizeof password - 1);
    char *text = dialect_basic(user, password);
    assert_int_equal(strlen(text), 6 + (255 + 1 + 4096 + 2) / 3 * 4);
    secret_free(text);
}

/* ---- answers ---- */

/* A literal that is never indexed; returns where it ends. */
static uint8_t *put_field(uint8_t *at, const char *name, const char *value, size_t n) {
    *at++ = 0x10;
    *at++ = (uint8_t)strlen(name);
    at = (uint8_t *)stpcpy((char *)at, name);
    if (n < 127) {
        *at++ = (uint8_t)n;
    } else {
        *at++ = 127;
        *at++ = (uint8_t)(0x80 | ((n - 127) & 0x7f));
        *at++ = (uint8_t)((n - 127) >> 7);
    }
    memcpy(at, value, n);
    return at + n;
}

struct answer {
    int status;
    const char *name, *value; /* a field; NULL: none */
    size_t len;               /* of value; 0: as a string */
};

/* A request of the dialect on a session of its own, answered. */
static struct stream *answered(struct h2raw *r, const struct dialect_head *h, const struct answer *a) {
    uint8_t block[16384], *at = block;
    char digits[12];
    int err;
    h2raw_up(r);
    struct stream *st = session_open(r->s, h->fields, h->n, false, r->now, &err);
    assert_non_null(st);
    h2raw_run(r);
    snprintf(digits, sizeof digits, "%d", a->status);
    at = put_field(at, ":status", digits, 3);
    if (a->name) at = put_field(at, a->name, a->value, a->len ? a->len : strlen(a->value));
    h2raw_frame(r, H2RAW_HEADERS, H2RAW_END_HEADERS | H2RAW_END_STREAM, 1, block, (size_t)(at - block));
    h2raw_run(r);
    assert_int_equal(st->status, a->status);
    return st;
}

/* Judged as wanted, with this detail; one of printable ASCII, however little room there is. */
static void judged(bool check, const struct answer *a, enum err want, const char *detail) {
    struct dialect_head h;
    struct h2raw r;
    char text[DIALECT_DETAIL_MAX], little[8];
    struct dest d = dest_of("a.test", 443);
    assert_int_equal(check ? TT.check_head(&with_all, &h) : TT.connect_head(&with_all, &d, &h), 0);
    struct stream *st = answered(&r, &h, a);
    memset(text, 0, sizeof text);
    memset(little, 'x', sizeof little);
    enum err got = (check ? TT.judge_check : TT.judge)(st, text, sizeof text);
    if (got != want) fail_msg("%d %s: %s", a->status, a->value ? a->value : "", err_word(got));
    if (strcmp(text, detail) != 0) fail_msg("%d: the detail is %s", a->status, text);
    for (const char *c = text; *c; c++) assert_in_range(*c, ' ', '~');
    assert_int_equal((check ? TT.judge_check : TT.judge)(st, little, 4), want);
    if (want) assert_int_equal(strlen(little), 3);
    assert_int_equal(little[4], 'x');
    stream_free(st);
    h2raw_fini(&r);
}

#define WARNING(text) "x-warning", text, 0

static void an_open_tunnel(void **state) {
    static const struct answer answers[] = {{200, NULL, NULL, 0}, {204, NULL, NULL, 0}, {299, NULL, NULL, 0},
                                            {200, WARNING("300 - none of the kind")}};
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) judged(false, &answers[i], ERR_OK, "");
}

/* Each code and word of an endpoint's X-Warning, whatever the status says. */
static void warnings(void **state) {
    static const struct {
        struct answer answer;
        enum err err;
        const char *detail;
    } cases[] = {
        {{502, WARNING("300 - Connection refused")}, ERR_TARGET_REFUSED,
         "status 502, warning \"300 - Connection refused\""},
        {{502, WARNING("300 - failed to resolve a.test")}, ERR_TARGET_DNS,
         "status 502, warning \"300 - failed to resolve a.test\""},
        {{502, WARNING("300 - DNS failure")}, ERR_TARGET_DNS, "status 502, warning \"300 - DNS failure\""},
        {{502, WARNING("300 - dns error")}, ERR_TARGET_DNS, "status 502, warning \"300 - dns error\""},
        {{502, WARNING("301 - no route")}, ERR_TARGET_HOST_UNREACHABLE, "status 502, warning \"301 - no route\""},
        {{502, WARNING("302 - timed out")}, ERR_TARGET_TIMEOUT, "status 502, warning \"302 - timed out\""},
        {{502, WARNING("310 - private")}, ERR_TARGET_DENIED, "status 502, warning \"310 - private\""},
        {{502, WARNING("311 - loopback")}, ERR_TARGET_DENIED, "status 502, warning \"311 - loopback\""},
        {{503, WARNING("302")}, ERR_TARGET_TIMEOUT, "status 503, warning 302"},
        {{504, WARNING("301-x")}, ERR_TARGET_HOST_UNREACHABLE, "status 504, warning 301-x"},
        {{404, WARNING("310")}, ERR_TARGET_DENIED, "status 404, warning 310"},
        {{502, WARNING("0")}, ERR_UPSTREAM_FAILED, "status 502, warning 0"},
        {{502, WARNING("303 - new")}, ERR_UPSTREAM_FAILED, "status 502, warning \"303 - new\""},
        {{502, WARNING("3000")}, ERR_UPSTREAM_FAILED, "status 502, warning 3000"},
        {{502, WARNING("99999999999999999999")}, ERR_UPSTREAM_FAILED, "status 502, warning 99999999999999999999"},
        {{500, WARNING("399 - new")}, ERR_UPSTREAM_FAILED, "status 500, warning \"399 - new\""},
        /* Without a number the status decides. */
        {{502, WARNING("refused")}, ERR_UPSTREAM_FAILED, "status 502, warning refused"},
        {{504, WARNING("-300")}, ERR_TARGET_TIMEOUT, "status 504, warning -300"},
        {{502, WARNING("")}, ERR_UPSTREAM_FAILED, "status 502, warning \"\""},
        {{500, WARNING("x300")}, ERR_UPSTREAM_STATUS, "status 500, warning x300"},
        /* Not this field. */
        {{502, "warning", "301 - x", 0}, ERR_UPSTREAM_FAILED, "status 502"},
        {{502, "x-adguard-vpn-error", "a.test:443", 0}, ERR_UPSTREAM_FAILED, "status 502"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        judged(false, &cases[i].answer, cases[i].err, cases[i].detail);
}

static void refused_credentials(void **state) {
    static const struct answer challenge = {407, "proxy-authenticate", "Basic realm=\"x\"", 0};
    (void)state;
    judged(false, &(struct answer){407, NULL, NULL, 0}, ERR_UPSTREAM_AUTH, "status 407");
    judged(false, &challenge, ERR_UPSTREAM_AUTH, "status 407");
    judged(false, &(struct answer){401, NULL, NULL, 0}, ERR_UPSTREAM_AUTH, "status 401");
    /* A warning changes nothing: it must not let the credentials be tried for ever. */
    judged(false, &(struct answer){407, WARNING("300 - refused")}, ERR_UPSTREAM_AUTH,
           "status 407, warning \"300 - refused\"");
}

static void other_answers(void **state) {
    static const struct {
        int status;
        enum err err;
    } cases[] = {
        {429, ERR_UPSTREAM_BUSY},   {502, ERR_UPSTREAM_FAILED}, {503, ERR_UPSTREAM_FAILED}, {504, ERR_TARGET_TIMEOUT},
        {301, ERR_UPSTREAM_STATUS}, {400, ERR_UPSTREAM_STATUS}, {403, ERR_UPSTREAM_STATUS}, {404, ERR_UPSTREAM_STATUS},
        {405, ERR_UPSTREAM_STATUS}, {408, ERR_UPSTREAM_STATUS}, {500, ERR_UPSTREAM_STATUS}, {501, ERR_UPSTREAM_STATUS},
        {599, ERR_UPSTREAM_STATUS},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char detail[16];
        snprintf(detail, sizeof detail, "status %d", cases[i].status);
        judged(false, &(struct answer){cases[i].status, NULL, NULL, 0}, cases[i].err, detail);
    }
}

/* Only what concerns the credentials condemns them: 403, 404 and 405 may come from a server without health checks. */
static void answers_to_the_check(void **state) {
    static const struct {
        struct answer answer;
        enum err err;
    } cases[] = {
        {{200, NULL, NULL, 0}, ERR_OK},
        {{204, NULL, NULL, 0}, ERR_OK},
        {{407, NULL, NULL, 0}, ERR_UPSTREAM_AUTH},
        {{407, "proxy-authenticate", "Basic realm=\"x\"", 0}, ERR_UPSTREAM_AUTH},
        {{401, NULL, NULL, 0}, ERR_UPSTREAM_AUTH},
        {{403, NULL, NULL, 0}, ERR_UPSTREAM_STATUS},
        {{404, NULL, NULL, 0}, ERR_UPSTREAM_STATUS},
        {{405, NULL, NULL, 0}, ERR_UPSTREAM_STATUS},
        {{429, NULL, NULL, 0}, ERR_UPSTREAM_STATUS},
        {{500, NULL, NULL, 0}, ERR_UPSTREAM_STATUS},
        {{502, WARNING("300 - failed to resolve _check")}, ERR_UPSTREAM_STATUS},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char detail[64] = "";
        if (cases[i].err) snprintf(detail, sizeof detail, "status %d to the health check", cases[i].answer.status);
        judged(true, &cases[i].answer, cases[i].err, detail);
    }
}

/* Foreign words are quoted, and cut. */
static void foreign_words(void **state) {
    static char words[8000];
    (void)state;
    judged(false, &(struct answer){502, WARNING("302 \xff\xc3\xa4 \"x\"")}, ERR_TARGET_TIMEOUT,
           "status 502, warning \"302 \\xff\\xc3\\xa4 \\\"x\\\"\"");
    memset(words, 'w', sizeof words);
    memcpy(words, "301", 3);
    struct dialect_head h;
    struct h2raw r;
    char detail[DIALECT_DETAIL_MAX];
    assert_int_equal(TT.check_head(&with_all, &h), 0);
    struct stream *st = answered(&r, &h, &(struct answer){502, "x-warning", words, sizeof words});
    assert_int_equal(TT.judge(st, detail, sizeof detail), ERR_TARGET_HOST_UNREACHABLE);
    assert_true(strlen(detail) < DIALECT_DETAIL_MAX);
    assert_memory_equal(detail, "status 502, warning 301www", 26);
    /* What tells a failed look-up may come late. */
    stream_free(st);
    h2raw_fini(&r);
    memcpy(words, "300", 3);
    memcpy(words + sizeof words - 3, "dns", 3);
    st = answered(&r, &h, &(struct answer){502, "x-warning", words, sizeof words});
    assert_int_equal(TT.judge(st, detail, sizeof detail), ERR_TARGET_DNS);
    stream_free(st);
    h2raw_fini(&r);
}

static int cleanup(void **state) {
    (void)state;
    assert_int_equal(buf_chunks(), 0);
    buf_trim();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_names_the_destination),
        cmocka_unit_test(connect_takes_the_longest_name),
        cmocka_unit_test(no_destination_is_a_pseudo_host),
        cmocka_unit_test(connect_without_ipv6),
        cmocka_unit_test(connect_is_for_tcp),
        cmocka_unit_test(check_names_the_pseudo_host),
        cmocka_unit_test(what_is_not_set_is_not_sent),
        cmocka_unit_test(basic_credentials),
        cmocka_unit_test(an_open_tunnel),
        cmocka_unit_test(warnings),
        cmocka_unit_test(refused_credentials),
        cmocka_unit_test(other_answers),
        cmocka_unit_test(answers_to_the_check),
        cmocka_unit_test(foreign_words),
    };
    return cmocka_run_group_tests_name("dialect", tests, NULL, cleanup);
}
