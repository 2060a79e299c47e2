/* Request heads, destinations and credentials: what is taken, and what is refused and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "codec/http1.h"

#define BYTES(text) (text), sizeof(text) - 1
#define HEAD(rest) "GET / HTTP/1.1\r\nHost: h\r\n" rest "\r\n"

/* The first n bytes in an allocation of just that size, so that the sanitizer sees a read past them. */
static char *exact(const char *p, size_t n) {
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n) memcpy(copy, p, n);
    return copy;
}

/* --- finding the head --- */

/* The outcome is the same whether the bytes come at once or one by one, each time at another place. */
static int scan(const char *p, size_t n, enum http1_fault *fault) {
    struct http1_scan whole = {0}, bits = {0};
    int end = http1_head_end(&whole, p, n), got = 0;

    for (size_t i = 0; i <= n && got == 0; i++) {
        char *copy = exact(p, i);
        got = http1_head_end(&bits, copy, i);
        free(copy);
        if (got > 0) assert_int_equal(got, i);
    }
    assert_int_equal(got, end);
    assert_int_equal(bits.fault, whole.fault);
    assert_int_equal(http1_head_end(&whole, p, n), end); /* it stays */
    *fault = whole.fault;
    return end;
}

static void check_end(const char *p, size_t n, int expected) {
    enum http1_fault fault;
    int end = scan(p, n, &fault);
    if (end != expected) fail_msg("%.60s: %d, not %d (%s)", p, end, expected, http1_fault_text(fault));
}

static void check_scan_fault(const char *p, size_t n, enum http1_fault expected) {
    enum http1_fault fault;
    int end = scan(p, n, &fault);
    if (fault != expected) fail_msg("%.60s: \"%s\"", p, http1_fault_text(fault));
    assert_int_equal(end, http1_fault_err(expected));
}

static void head_ends_at_the_empty_line(void **state) {
    (void)state;
    check_end(BYTES("GET / HTTP/1.1\r\n\r\n"), 18);
    check_end(BYTES("CONNECT a:1 HTTP/1.0\r\nHost: a\r\n\r\n\x16\x03\0\n tunnel"), 33);
    check_end(BYTES("\r\nGET / HTTP/1.1\r\n\r\n"), 20);
    check_end(BYTES(""), 0);
    check_end(BYTES("\r\n"), 0);
    check_end(BYTES("GET / HTTP/1.1\r\n"), 0);
    check_end(BYTES("GET / HTTP/1.1\r\nHost: a\r\n\r"), 0);
}

static void broken_heads_are_refused_on_sight(void **state) {
    static const struct {
        const char *text;
        size_t n;
        enum http1_fault fault;
    } bad[] = {
        {BYTES("GET / HTTP/1.1\n"), HTTP1_FAULT_LINE_END},
        {BYTES("\n"), HTTP1_FAULT_LINE_END},
        {BYTES("GET / HTTP/1.1\r\nA: b\n"), HTTP1_FAULT_LINE_END},
        {BYTES("GET / HTTP/1.1\r\nA: b\r\n\n"), HTTP1_FAULT_LINE_END},
        {BYTES("GET / HTTP/1.1\r\nA: b\rC"), HTTP1_FAULT_LINE_END},
        {BYTES("GET / HTTP/1.1\r\r"), HTTP1_FAULT_LINE_END},
        {BYTES("\rG"), HTTP1_FAULT_LINE_END},
        {BYTES("\r\n\r\n"), HTTP1_FAULT_EMPTY_LINE},
        {BYTES("GET / HTTP/1.1\r\nA: b\0"), HTTP1_FAULT_CONTROL},
        {BYTES("GET / HTTP/1.1\r\nA: \x1b"), HTTP1_FAULT_CONTROL},
        {BYTES("GET / HTTP/1.1\r\nA: \x7f"), HTTP1_FAULT_CONTROL},
        {BYTES("\x05\x01"), HTTP1_FAULT_CONTROL},
        {BYTES("\x16\x03\x01"), HTTP1_FAULT_CONTROL},
        {BYTES("GET / HTTP/1.1\r\nA: b\r\n c\r\n"), HTTP1_FAULT_FOLD},
        {BYTES("GET / HTTP/1.1\r\n\tA: b\r\n"), HTTP1_FAULT_FOLD},
        {BYTES("GET\t/ HTTP/1.1\r\n"), HTTP1_FAULT_METHOD},
        {BYTES(" GET / HTTP/1.1\r\n"), HTTP1_FAULT_METHOD},
        {BYTES("G(T / HTTP/1.1\r\n"), HTTP1_FAULT_METHOD},
        {BYTES("G\xc3\x84T / HTTP/1.1\r\n"), HTTP1_FAULT_METHOD},
        {BYTES("GET\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET  / HTTP/1.1\r\n"), HTTP1_FAULT_TARGET},
        {BYTES("GET /\x80 HTTP/1.1\r\n"), HTTP1_FAULT_TARGET},
        {BYTES("GET /a\tb HTTP/1.1\r\n"), HTTP1_FAULT_TARGET},
        {BYTES("GET /a#b HTTP/1.1\r\n"), HTTP1_FAULT_TARGET},
        {BYTES("GET / \r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET /  HTTP/1.1\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET / HTTP/1.1 \r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET / HTTP/1.1 x\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET /a b HTTP/1.1\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET / http/1.1\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET / HTTP/\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET / HTTP/1.1x\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET / ICY/1.1\r\n"), HTTP1_FAULT_REQUEST_LINE},
        {BYTES("GET /\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("GET / HTTP/0.9\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("GET / HTTP/1.2\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("GET / HTTP/1.10\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("GET / HTTP/01.1\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("GET / HTTP/2\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HTTP1_FAULT_VERSION},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) check_scan_fault(bad[i].text, bad[i].n, bad[i].fault);
    assert_int_equal(http1_fault_status(HTTP1_FAULT_VERSION), 505);
    assert_int_equal(http1_fault_status(HTTP1_FAULT_LINE_END), 400);
}

/* "GET /aaa... HTTP/1.1" CR LF of n bytes with its line end. */
static void put_request_line(char *p, size_t n) {
    memset(p, 'a', n);
    memcpy(p, "GET /", 5);
    memcpy(p + n - 11, " HTTP/1.1\r\n", 11);
}

static void request_line_has_a_limit(void **state) {
    char *p = malloc(2 * HTTP1_LINE_MAX);
    struct http1_scan s = {0};
    (void)state;
    assert_non_null(p);

    put_request_line(p, HTTP1_LINE_MAX);
    memcpy(p + HTTP1_LINE_MAX, "\r\n", 2);
    assert_int_equal(http1_head_end(&s, p, HTTP1_LINE_MAX + 2), HTTP1_LINE_MAX + 2);

    put_request_line(p, HTTP1_LINE_MAX + 1);
    s = (struct http1_scan){0};
    assert_int_equal(http1_head_end(&s, p, HTTP1_LINE_MAX - 1), 0);
    assert_int_equal(http1_head_end(&s, p, HTTP1_LINE_MAX), ERR_CLIENT_TOO_LARGE);
    assert_int_equal(s.fault, HTTP1_FAULT_LINE_LENGTH);
    assert_int_equal(http1_fault_status(s.fault), 414);
    s = (struct http1_scan){0};
    assert_int_equal(http1_head_end(&s, p, HTTP1_LINE_MAX + 1), ERR_CLIENT_TOO_LARGE);

    memcpy(p, "\r\n", 2); /* the empty line before is not counted */
    put_request_line(p + 2, HTTP1_LINE_MAX);
    memcpy(p + 2 + HTTP1_LINE_MAX, "\r\n", 2);
    s = (struct http1_scan){0};
    assert_int_equal(http1_head_end(&s, p, HTTP1_LINE_MAX + 4), HTTP1_LINE_MAX + 4);
    free(p);
}

static void head_has_a_limit(void **state) {
    static const char begin[] = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
    char *p = malloc(HTTP1_HEAD_MAX + 1);
    struct http1_request *r = malloc(sizeof *r);
    struct http1_scan s = {0};
    (void)state;
    assert_non_null(p);
    assert_non_null(r);

    memset(p, 'a', HTTP1_HEAD_MAX + 1);
    memcpy(p, begin, sizeof begin - 1);
    memcpy(p + HTTP1_HEAD_MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(http1_head_end(&s, p, HTTP1_HEAD_MAX - 1), 0);
    assert_int_equal(http1_head_end(&s, p, HTTP1_HEAD_MAX), HTTP1_HEAD_MAX);
    assert_int_equal(http1_parse(r, p, HTTP1_HEAD_MAX), 0);
    assert_int_equal(r->fields.v[1].value.n, HTTP1_HEAD_MAX - 4 - (sizeof begin - 1));

    memcpy(p + HTTP1_HEAD_MAX - 4, "a\r\n\r\n", 5); /* one byte more */
    s = (struct http1_scan){0};
    assert_int_equal(http1_head_end(&s, p, HTTP1_HEAD_MAX - 1), 0);
    assert_int_equal(http1_head_end(&s, p, HTTP1_HEAD_MAX), ERR_CLIENT_TOO_LARGE);
    assert_int_equal(s.fault, HTTP1_FAULT_HEAD_LENGTH);
    assert_int_equal(http1_fault_status(s.fault), 431);
    assert_int_equal(http1_parse(r, p, HTTP1_HEAD_MAX + 1), ERR_CLIENT_TOO_LARGE);
    free(p);
    free(r);
}

static void fields_have_a_limit(void **state) {
    static char p[2048];
    struct http1_request r;
    struct http1_scan s = {0};
    size_t n;
    (void)state;

    n = (size_t)sprintf(p, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (unsigned i = 1; i < HTTP1_FIELDS_MAX; i++) n += (size_t)sprintf(p + n, "F%u: %u\r\n", i, i);
    memcpy(p + n, "\r\n", 2);
    assert_int_equal(http1_parse(&r, p, n + 2), 0);
    assert_int_equal(r.fields.count, HTTP1_FIELDS_MAX);
    assert_true(http1_span_is(r.fields.v[HTTP1_FIELDS_MAX - 1].value, "99"));

    memcpy(p + n, "Z: \r\n\r\n", 7);
    assert_int_equal(http1_head_end(&s, p, n + 4), 0);
    assert_int_equal(http1_head_end(&s, p, n + 5), ERR_CLIENT_TOO_LARGE);
    assert_int_equal(s.fault, HTTP1_FAULT_FIELD_COUNT);
    assert_int_equal(http1_parse(&r, p, n + 7), ERR_CLIENT_TOO_LARGE);
    assert_int_equal(r.fault, HTTP1_FAULT_FIELD_COUNT);
}

static void first_byte_tells_http_from_others(void **state) {
    (void)state;
    for (const char *c = "GPCHODTLg\r"; *c; c++) assert_true(http1_may_begin((uint8_t)*c));
    for (const char *c = "\x04\x05\x16\x80\n ("; *c; c++) assert_false(http1_may_begin((uint8_t)*c));
    assert_false(http1_may_begin(0));
}

/* --- taking it apart --- */

static struct http1_request parsed;

static struct http1_request *parse(const char *p, size_t n) {
    memset(&parsed, 0xa5, sizeof parsed);
    char *copy = exact(p, n);
    http1_parse(&parsed, copy, n); /* for the sanitizer; the spans below are of the caller's bytes */
    free(copy);
    http1_parse(&parsed, p, n);
    return &parsed;
}

static struct http1_request *parse_ok(const char *p, size_t n) {
    struct http1_request *r = parse(p, n);
    if (r->fault != HTTP1_FAULT_NONE) fail_msg("%s: %s", p, http1_fault_text(r->fault));
    return r;
}

static void check_fault(const char *p, size_t n, enum http1_fault fault) {
    struct http1_request *r = parse(p, n);
    if (r->fault != fault)
        fail_msg("%s: \"%s\", not \"%s\"", p, http1_fault_text(r->fault), http1_fault_text(fault));
    assert_int_equal(http1_parse(r, p, n), http1_fault_err(fault));
}

static void assert_span(struct http1_span s, const char *text) {
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

static void parts_of_a_request(void **state) {
    struct http1_request *r = parse_ok(BYTES("\r\nPOST /a?b=c HTTP/1.1\r\n"
                                             "Host:h:81\r\n"
                                             "Empty:\r\n"
                                             "Blank: \t \r\n"
                                             "X-Token!#$%&'*+-.^_`|~09:  \ta \t b\xff\t \r\n"
                                             "Content-Length: 0012\r\n\r\n"));
    (void)state;

    assert_span(r->method, "POST");
    assert_true(http1_method_is(r, "POST"));
    assert_false(http1_method_is(r, "post"));
    assert_false(http1_method_is(r, "POS"));
    assert_span(r->target, "/a?b=c");
    assert_int_equal(r->minor, 1);
    assert_int_equal(r->form, HTTP1_ORIGIN);
    assert_span(r->path, "/a?b=c");
    assert_span(r->authority, "");
    assert_int_equal(r->fields.count, 5);
    assert_span(r->fields.v[0].name, "Host");
    assert_span(r->host->value, "h:81");
    assert_span(r->fields.v[1].value, "");
    assert_span(r->fields.v[2].value, "");
    assert_span(r->fields.v[3].name, "X-Token!#$%&'*+-.^_`|~09");
    assert_span(r->fields.v[3].value, "a \t b\xff");
    assert_int_equal(r->framing, HTTP1_LENGTH);
    assert_int_equal(r->content_length, 12);
}

static void only_exactly_one_head_is_parsed(void **state) {
    (void)state;
    check_fault(BYTES(""), HTTP1_FAULT_REQUEST_LINE);
    check_fault(NULL, 0, HTTP1_FAULT_REQUEST_LINE);
    check_fault(BYTES("\r\n"), HTTP1_FAULT_REQUEST_LINE);
    check_fault(BYTES("GET / HTTP/1.0\r\n"), HTTP1_FAULT_REQUEST_LINE);
    check_fault(BYTES("GET / HTTP/1.0\r\n\r"), HTTP1_FAULT_REQUEST_LINE);
    check_fault(BYTES("GET / HTTP/1.0\r\n\r\nx"), HTTP1_FAULT_REQUEST_LINE);
    check_fault(BYTES("GET / HTTP/1.0\r\nA: b\n\r\n"), HTTP1_FAULT_LINE_END);
    check_fault(BYTES("GET / HTTP/3.0\r\n\r\n"), HTTP1_FAULT_VERSION);
    parse_ok(BYTES("GET / HTTP/1.0\r\n\r\n"));
}

static void field_names_are_tokens(void **state) {
    (void)state;
    check_fault(BYTES(HEAD("Name : v\r\n")), HTTP1_FAULT_FIELD_NAME);
    check_fault(BYTES(HEAD("Name\t: v\r\n")), HTTP1_FAULT_FIELD_NAME);
    check_fault(BYTES(HEAD(": v\r\n")), HTTP1_FAULT_FIELD_NAME);
    check_fault(BYTES(HEAD("Name\r\n")), HTTP1_FAULT_FIELD_NAME);
    check_fault(BYTES(HEAD("N[]: v\r\n")), HTTP1_FAULT_FIELD_NAME);
    check_fault(BYTES(HEAD("N\xe9: v\r\n")), HTTP1_FAULT_FIELD_NAME);
    check_fault(BYTES(HEAD("N(c): v\r\n")), HTTP1_FAULT_FIELD_NAME);
}

static void every_byte_of_a_value_is_judged(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        char text[] = HEAD("A: x?y\r\n");
        char *at = strchr(text, '?');
        *at = (char)c;
        struct http1_request *r = parse(text, sizeof text - 1);
        if (c == '\r' || c == '\n') {
            assert_int_equal(r->fault, HTTP1_FAULT_LINE_END);
        } else if ((c < ' ' && c != '\t') || c == 0x7f) {
            assert_int_equal(r->fault, HTTP1_FAULT_CONTROL);
        } else {
            assert_int_equal(r->fault, HTTP1_FAULT_NONE);
            assert_int_equal(r->fields.v[1].value.n, 3);
        }
    }
}

static void forms_of_the_target(void **state) {
    static const struct {
        const char *line, *authority, *path, *origin;
        enum http1_form form;
    } good[] = {
        {"GET / HTTP/1.0\r\n\r\n", "", "/", "/", HTTP1_ORIGIN},
        {"GET //x/ HTTP/1.0\r\n\r\n", "", "//x/", "//x/", HTTP1_ORIGIN},
        {"GET /http://x/ HTTP/1.0\r\n\r\n", "", "/http://x/", "/http://x/", HTTP1_ORIGIN},
        {"OPTIONS * HTTP/1.0\r\n\r\n", "", "", "*", HTTP1_ASTERISK},
        {"CONNECT h:1 HTTP/1.0\r\n\r\n", "h:1", "", "h:1", HTTP1_AUTHORITY},
        {"CONNECT http://h/ HTTP/1.0\r\n\r\n", "http://h/", "", "http://h/", HTTP1_AUTHORITY},
        {"CONNECT * HTTP/1.0\r\n\r\n", "*", "", "*", HTTP1_AUTHORITY},
        {"GET http://h HTTP/1.0\r\n\r\n", "h", "", "/", HTTP1_ABSOLUTE},
        {"GET HTTP://h:8/a/b?c HTTP/1.0\r\n\r\n", "h:8", "/a/b?c", "/a/b?c", HTTP1_ABSOLUTE},
        {"GET http://h?q=/@ HTTP/1.0\r\n\r\n", "h", "?q=/@", "/?q=/@", HTTP1_ABSOLUTE},
        {"OPTIONS http://h:8 HTTP/1.0\r\n\r\n", "h:8", "", "*", HTTP1_ABSOLUTE},
        {"OPTIONS http://h:8?x HTTP/1.0\r\n\r\n", "h:8", "?x", "/?x", HTTP1_ABSOLUTE},
        {"connect http://h/ HTTP/1.0\r\n\r\n", "h", "/", "/", HTTP1_ABSOLUTE},
    };
    static const struct {
        const char *line;
        enum http1_fault fault;
    } bad[] = {
        {"GET * HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET ** HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET host HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET :// HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET 1http://h HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET http:h HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET http:/h HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET http: HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET ?q HTTP/1.0\r\n\r\n", HTTP1_FAULT_TARGET},
        {"GET h:80 HTTP/1.0\r\n\r\n", HTTP1_FAULT_SCHEME},
        {"GET https://h/ HTTP/1.0\r\n\r\n", HTTP1_FAULT_SCHEME},
        {"GET ftp://h/ HTTP/1.0\r\n\r\n", HTTP1_FAULT_SCHEME},
    };
    (void)state;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct http1_request *r = parse_ok(good[i].line, strlen(good[i].line));
        uint8_t out[64];
        struct writer w = writer_of(out, sizeof out);
        assert_int_equal(r->form, good[i].form);
        assert_span(r->authority, good[i].authority);
        assert_span(r->path, good[i].path);
        http1_put_origin_target(&w, r);
        assert_span((struct http1_span){(char *)out, writer_len(&w)}, good[i].origin);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_fault(bad[i].line, strlen(bad[i].line), bad[i].fault);
}

static void host_field_is_needed_once(void **state) {
    (void)state;
    check_fault(BYTES("GET / HTTP/1.1\r\n\r\n"), HTTP1_FAULT_HOST);
    check_fault(BYTES("GET http://h/ HTTP/1.1\r\n\r\n"), HTTP1_FAULT_HOST);
    check_fault(BYTES("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), HTTP1_FAULT_HOST);
    check_fault(BYTES("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nHOST: b\r\n\r\n"), HTTP1_FAULT_HOST);
    check_fault(BYTES("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), HTTP1_FAULT_HOST);
    check_fault(BYTES("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), HTTP1_FAULT_HOST);
    check_fault(BYTES("GET / HTTP/1.1\r\nHost: h/p\r\n\r\n"), HTTP1_FAULT_HOST);
    check_fault(BYTES("GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"), HTTP1_FAULT_HOST);
    assert_null(parse_ok(BYTES("GET / HTTP/1.0\r\n\r\n"))->host);
    assert_null(parse_ok(BYTES("CONNECT a:1 HTTP/1.1\r\n\r\n"))->host);
    assert_span(parse_ok(BYTES("GET / HTTP/1.1\r\nhOST: [::1]:8\r\n\r\n"))->host->value, "[::1]:8");
    assert_span(parse_ok(BYTES("GET / HTTP/1.1\r\nHost:\r\n\r\n"))->host->value, "");
}

static void lengths_are_plain_numbers(void **state) {
    static const char *const bad[] = {
        "",     "+5",  "-5",  "5,5", "5, 5",    "0x10",  "5 5", "5;",
        "five", "5.0", "5\t5", "\"5\"", "9223372036854775808", "18446744073709551617", "99999999999999999999999",
    };
    uint64_t v = 77;
    char head[256];
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int n = snprintf(head, sizeof head, HEAD("Content-Length: %s\r\n"), bad[i]);
        check_fault(head, (size_t)n, HTTP1_FAULT_LENGTH);
        assert_false(http1_length((struct http1_span){bad[i], strlen(bad[i])}, &v));
    }
    assert_int_equal(v, 77);
    assert_true(http1_length((struct http1_span){BYTES("9223372036854775807")}, &v));
    assert_int_equal(v, INT64_MAX);
    assert_true(http1_length((struct http1_span){BYTES("0")}, &v));
    assert_int_equal(v, 0);

    check_fault(BYTES(HEAD("Content-Length: 5\r\nContent-Length: 6\r\n")), HTTP1_FAULT_LENGTH);
    check_fault(BYTES(HEAD("Content-Length: 5\r\ncontent-length: \r\n")), HTTP1_FAULT_LENGTH);
    parse_ok(BYTES(HEAD("Content-Length: 5\r\nA: b\r\ncONTENT-lENGTH: 5\r\n")));
    assert_int_equal(parsed.framing, HTTP1_LENGTH);
    assert_int_equal(parsed.content_length, 5);
    assert_int_equal(parse_ok(BYTES(HEAD("Content-Length: 0\r\n")))->framing, HTTP1_LENGTH);
    assert_int_equal(parse_ok(BYTES(HEAD("Content-Lengths: x\r\n")))->framing, HTTP1_NO_BODY);
}

static void only_chunked_is_known(void **state) {
    static const struct {
        const char *fields;
        enum http1_fault fault;
    } bad[] = {
        {"Transfer-Encoding: \r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: identity\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: gzip\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: xchunked\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: chunked;q=1\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: \"chunked\"\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: chunked,\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: chunked , \r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: chunked, gzip\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: \r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: gzip, chunked\r\n", HTTP1_FAULT_CODING_UNKNOWN},
        {"Transfer-Encoding: ,chunked\r\n", HTTP1_FAULT_CODING_UNKNOWN},
        {"Transfer-Encoding: chunked, chunked\r\n", HTTP1_FAULT_CODING_UNKNOWN},
        {"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", HTTP1_FAULT_CODING_UNKNOWN},
        {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", HTTP1_FAULT_FRAMING},
        {"Content-Length: 0\r\ntransfer-encoding: chunked\r\n", HTTP1_FAULT_FRAMING},
        {"Content-Length: 5\r\nTransfer-Encoding: x\r\n", HTTP1_FAULT_FRAMING},
    };
    char head[256];
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int n = snprintf(head, sizeof head, HEAD("%s"), bad[i].fields);
        check_fault(head, (size_t)n, bad[i].fault);
    }
    check_fault(BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP1_FAULT_FRAMING);
    assert_int_equal(http1_fault_status(HTTP1_FAULT_CODING_UNKNOWN), 501);
    assert_int_equal(parse_ok(BYTES(HEAD("Transfer-Encoding:\tChunKED \r\n")))->framing, HTTP1_CHUNKED);
}

static void fields_are_found_in_any_case(void **state) {
    struct http1_request *r = parse_ok(BYTES(HEAD("a: 1\r\nB: 2\r\nA: 3\r\n")));
    const struct http1_field *f = http1_field(&r->fields, "A", NULL);
    (void)state;

    assert_non_null(f);
    assert_span(f->value, "1");
    f = http1_field(&r->fields, "a", f);
    assert_non_null(f);
    assert_span(f->value, "3");
    assert_null(http1_field(&r->fields, "a", f));
    assert_null(http1_field(&r->fields, "", NULL));
    assert_null(http1_field(&r->fields, "aa", NULL));
}

static void connection_options_are_found(void **state) {
    struct http1_request *r = parse_ok(BYTES(HEAD("Connection: keep-alive ,\tX-Hop,, \r\nCONNECTION: Close\r\n")));
    (void)state;

    assert_true(http1_connection_has(&r->fields, "close"));
    assert_true(http1_connection_has(&r->fields, "x-hop"));
    assert_true(http1_connection_has(&r->fields, "Keep-Alive"));
    assert_false(http1_connection_has(&r->fields, "keep"));
    assert_false(http1_connection_has(&r->fields, "te"));
    assert_false(http1_connection_has(&parse_ok(BYTES(HEAD("Connection:\r\nA: close\r\n")))->fields, "close"));
    assert_true(http1_list_has((struct http1_span){BYTES("a,b")}, "B"));
    assert_false(http1_list_has((struct http1_span){BYTES("a b")}, "a"));
    assert_false(http1_list_has((struct http1_span){NULL, 0}, "a"));
}

/* --- destinations --- */

static enum http1_fault connect_to(struct dest *d, const char *authority) {
    static char head[1024];
    int n = snprintf(head, sizeof head, "CONNECT %s HTTP/1.1\r\nHost: other.test:1\r\n\r\n", authority);

    int r = http1_dest(parse_ok(head, (size_t)n), d);
    assert_int_equal(r, http1_fault_err(parsed.fault));
    return parsed.fault;
}

static void connect_names_its_destination(void **state) {
    static const struct {
        const char *authority, *host;
        enum dest_kind kind;
        uint16_t port;
    } good[] = {
        {"example.com:443", "example.com", DEST_NAME, 443},
        {"EXAMPLE.com.:1", "example.com", DEST_NAME, 1},
        {"192.0.2.1:65535", "192.0.2.1", DEST_IPV4, 65535},
        {"[2001:DB8::1]:00080", "2001:db8::1", DEST_IPV6, 80},
        {"[::ffff:192.0.2.1]:80", "192.0.2.1", DEST_IPV4, 80},
        {"127.1:80", "127.0.0.1", DEST_IPV4, 80},
    };
    static const struct {
        const char *authority;
        enum http1_fault fault;
    } bad[] = {
        {"host", HTTP1_FAULT_PORT},
        {"host:", HTTP1_FAULT_PORT},
        {"host:0", HTTP1_FAULT_PORT},
        {"host:00000", HTTP1_FAULT_PORT},
        {"host:65536", HTTP1_FAULT_PORT},
        {"host:99999", HTTP1_FAULT_PORT},
        {"host:000443", HTTP1_FAULT_PORT},
        {"host:443x", HTTP1_FAULT_PORT},
        {"host:+443", HTTP1_FAULT_PORT},
        {"host:-1", HTTP1_FAULT_PORT},
        {"host:http", HTTP1_FAULT_PORT},
        {"host:443:443", HTTP1_FAULT_PORT},
        {"host:443/", HTTP1_FAULT_PORT},
        {"host:443?q", HTTP1_FAULT_PORT},
        {"host:443,b:443", HTTP1_FAULT_PORT},
        {"[::1]", HTTP1_FAULT_PORT},
        {"[::1]:", HTTP1_FAULT_PORT},
        {"2001:db8::1:443", HTTP1_FAULT_PORT},
        {"http://host/", HTTP1_FAULT_PORT},
        {"::1:443", HTTP1_FAULT_NAME},
        {":443", HTTP1_FAULT_NAME},
        {":", HTTP1_FAULT_NAME},
        {"/", HTTP1_FAULT_PORT},
        {"host/:443", HTTP1_FAULT_NAME},
        {"ho%73t:443", HTTP1_FAULT_NAME},
        {"[::1:443", HTTP1_FAULT_NAME},
        {"::1]:443", HTTP1_FAULT_NAME},
        {"a]:443", HTTP1_FAULT_NAME},
        {"a[::1]:443", HTTP1_FAULT_NAME},
        {"[::1]a:443", HTTP1_FAULT_NAME},
        {"[::1]443", HTTP1_FAULT_NAME},
        {"[]:443", HTTP1_FAULT_NAME},
        {"[[::1]]:443", HTTP1_FAULT_NAME},
        {"[192.0.2.1]:443", HTTP1_FAULT_NAME},
        {"[host]:443", HTTP1_FAULT_NAME},
        {"[fe80::1%25eth0]:443", HTTP1_FAULT_NAME},
        {"[v1.a:b]:443", HTTP1_FAULT_NAME},
        {"_udp2:443", HTTP1_FAULT_NAME},
        {"_Check.:443", HTTP1_FAULT_NAME},
        {"user@host:443", HTTP1_FAULT_USERINFO},
        {"user:secret@host:443", HTTP1_FAULT_USERINFO},
        {"@host:443", HTTP1_FAULT_USERINFO},
    };
    struct dest d;
    (void)state;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (connect_to(&d, good[i].authority) != HTTP1_FAULT_NONE) fail_msg("%s refused", good[i].authority);
        assert_string_equal(d.host, good[i].host);
        assert_int_equal(d.kind, good[i].kind);
        assert_int_equal(d.port, good[i].port);
        assert_int_equal(d.network, DEST_TCP);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        enum http1_fault fault = connect_to(&d, bad[i].authority);
        if (fault != bad[i].fault) fail_msg("%s: \"%s\"", bad[i].authority, http1_fault_text(fault));
    }
}

static enum http1_fault get(struct dest *d, const char *target) {
    static char head[1024];
    int n = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: other.test:1\r\n\r\n", target);

    http1_dest(parse_ok(head, (size_t)n), d);
    return parsed.fault;
}

static void absolute_target_names_its_destination(void **state) {
    struct dest d;
    (void)state;

    assert_int_equal(get(&d, "http://Example.com/p"), HTTP1_FAULT_NONE);
    assert_string_equal(d.host, "example.com");
    assert_int_equal(d.port, 80);
    assert_int_equal(get(&d, "http://[::1]:8080?q"), HTTP1_FAULT_NONE);
    assert_int_equal(d.kind, DEST_IPV6);
    assert_int_equal(d.port, 8080);
    assert_int_equal(get(&d, "http://[::1]"), HTTP1_FAULT_NONE);

    assert_int_equal(get(&d, "http://"), HTTP1_FAULT_NAME);
    assert_int_equal(get(&d, "http:///p"), HTTP1_FAULT_NAME);
    assert_int_equal(get(&d, "http://:80/"), HTTP1_FAULT_NAME);
    assert_int_equal(get(&d, "http://a\\b/"), HTTP1_FAULT_NAME);
    assert_int_equal(get(&d, "http://host:/"), HTTP1_FAULT_PORT);
    assert_int_equal(get(&d, "http://host:0/"), HTTP1_FAULT_PORT);
    assert_int_equal(get(&d, "http://a@b:c/"), HTTP1_FAULT_USERINFO);
    assert_int_equal(get(&d, "http://u:p@b/"), HTTP1_FAULT_USERINFO);
    assert_int_equal(get(&d, "http://good\\@evil/"), HTTP1_FAULT_USERINFO);
    assert_int_equal(get(&d, "http://a/u@b"), HTTP1_FAULT_NONE); /* in a path it is but a character */
}

/* A page that reaches the port by a name of its own must not be routed by that name. */
static void host_field_is_no_destination(void **state) {
    struct dest d;
    (void)state;
    assert_int_equal(get(&d, "/"), HTTP1_FAULT_NO_DESTINATION);
    parse_ok(BYTES("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_int_equal(http1_dest(&parsed, &d), ERR_CLIENT_DESTINATION);
}

static void authority_with_a_default_port(void **state) {
    struct dest d;
    (void)state;
    assert_int_equal(http1_authority(&d, BYTES("h"), 443), 0);
    assert_int_equal(d.port, 443);
    assert_int_equal(http1_authority(&d, BYTES("h:8"), 443), 0);
    assert_int_equal(d.port, 8);
    assert_int_equal(http1_authority(&d, BYTES("[::1]"), 443), 0);
    assert_int_equal(http1_authority(&d, BYTES("h:"), 443), ERR_CLIENT_DESTINATION);
    assert_int_equal(http1_authority(&d, BYTES("::1"), 443), ERR_CLIENT_DESTINATION);
    assert_int_equal(http1_authority(&d, BYTES("h\0x:1"), 443), ERR_CLIENT_DESTINATION);
    assert_int_equal(http1_authority(&d, "", 0, 443), ERR_CLIENT_DESTINATION);
    assert_int_equal(http1_authority(&d, BYTES("h"), 0), ERR_CLIENT_DESTINATION);
}

/* --- credentials --- */

static int basic(const char *fields, uint8_t *buf, size_t cap, struct http1_basic *c) {
    static char head[12000];
    int n = snprintf(head, sizeof head, HEAD("%s"), fields);
    assert_true(n > 0 && (size_t)n < sizeof head);
    return http1_basic(parse_ok(head, (size_t)n), buf, cap, c);
}

static void check_basic(const char *field, const char *user, const char *password) {
    uint8_t buf[64];
    struct http1_basic c;
    assert_int_equal(basic(field, buf, sizeof buf, &c), 1);
    assert_span((struct http1_span){(const char *)c.user, c.user_len}, user);
    assert_span((struct http1_span){(const char *)c.password, c.password_len}, password);
}

static void credentials_are_decoded(void **state) {
    (void)state;
    check_basic("Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n", "Aladdin", "open sesame");
    check_basic("PROXY-AUTHORIZATION: bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n", "Aladdin", "open sesame");
    check_basic("Proxy-Authorization: Basic dTphOmI=\r\n", "u", "a:b"); /* the first colon parts them */
    check_basic("Proxy-Authorization: Basic Og==\r\n", "", "");
    check_basic("Proxy-Authorization: Basic dGVzdDoxMjPCow==\r\n", "test", "123\xc2\xa3");
}

static void bad_credentials_are_refused(void **state) {
    static const char *const bad[] = {
        "",
        "Basic",
        "Basic ",
        "Basic Zm9v", /* no colon */
        "Basic OTo", /* no padding */
        "Basic Og=", /* half of it */
        "Basic Og==Og==", /* two */
        "Basic Oh==", /* stray bits */
        "Basic O g==", /* white space */
        "Basic Og== x", /* more */
        "Basic\tOg==", /* a tab */
        "Basic,Og==", /* no space */
        "BasicOg==", /* none at all */
        "Basic realm=\"x\"", /* a challenge */
        "Bearer Og==", /* another scheme */
        "Negotiate, Basic Og==", /* a list */
    };
    uint8_t buf[64], zeros[64] = {0};
    struct http1_basic c;
    char field[128];
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(buf, 0, sizeof buf);
        snprintf(field, sizeof field, "Proxy-Authorization: %s\r\n", bad[i]);
        int r = basic(field, buf, sizeof buf, &c);
        if (r != ERR_CLIENT_AUTH) fail_msg("%s: %d", bad[i], r);
        assert_memory_equal(buf, zeros, sizeof buf); /* nothing is left behind */
    }
    assert_int_equal(basic("Authorization: Basic Og==\r\n", buf, sizeof buf, &c), 0);
    static const char twice[] = "Proxy-Authorization: Basic Og==\r\nProxy-authorization: Basic Og==\r\n";
    assert_int_equal(basic(twice, buf, sizeof buf, &c), ERR_CLIENT_PROTOCOL);
}

static void credentials_fit_or_are_refused(void **state) {
    static char field[9000];
    uint8_t buf[HTTP1_BASIC_MAX];
    struct http1_basic c;
    size_t n;
    (void)state;

    n = (size_t)sprintf(field, "Proxy-Authorization: Basic ");
    memset(field + n, 'O', 8192); /* 6,144 bytes of 8 KiB */
    memcpy(field + n + 8192, "\r\n", 3);
    assert_int_equal(basic(field, buf, sizeof buf, &c), ERR_CLIENT_AUTH);

    static const char five[] = "Proxy-Authorization: Basic YWI6Y2Q=\r\n"; /* "ab:cd" */
    memset(buf, 0x55, sizeof buf);
    assert_int_equal(basic(five, buf, 5, &c), 1);
    assert_int_equal(buf[5], 0x55);
    assert_int_equal(basic(five, buf, 4, &c), ERR_CLIENT_AUTH);
    assert_int_equal(buf[0], 0);
    assert_int_equal(basic(five, buf, 0, &c), ERR_CLIENT_AUTH);
}

/* --- answers --- */

static void connect_is_answered(void **state) {
    uint8_t out[64];
    struct writer w = writer_of(out, sizeof out);
    (void)state;
    http1_put_connect_ok(&w);
    assert_span((struct http1_span){(char *)out, writer_len(&w)}, "HTTP/1.1 200 Connection established\r\n\r\n");
    assert_int_equal(writer_len(&w), 39);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_ends_at_the_empty_line),
        cmocka_unit_test(broken_heads_are_refused_on_sight),
        cmocka_unit_test(request_line_has_a_limit),
        cmocka_unit_test(head_has_a_limit),
        cmocka_unit_test(fields_have_a_limit),
        cmocka_unit_test(first_byte_tells_http_from_others),
        cmocka_unit_test(parts_of_a_request),
        cmocka_unit_test(only_exactly_one_head_is_parsed),
        cmocka_unit_test(field_names_are_tokens),
        cmocka_unit_test(every_byte_of_a_value_is_judged),
        cmocka_unit_test(forms_of_the_target),
        cmocka_unit_test(host_field_is_needed_once),
        cmocka_unit_test(lengths_are_plain_numbers),
        cmocka_unit_test(only_chunked_is_known),
        cmocka_unit_test(fields_are_found_in_any_case),
        cmocka_unit_test(connection_options_are_found),
        cmocka_unit_test(connect_names_its_destination),
        cmocka_unit_test(absolute_target_names_its_destination),
        cmocka_unit_test(host_field_is_no_destination),
        cmocka_unit_test(authority_with_a_default_port),
        cmocka_unit_test(credentials_are_decoded),
        cmocka_unit_test(bad_credentials_are_refused),
        cmocka_unit_test(credentials_fit_or_are_refused),
        cmocka_unit_test(connect_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
