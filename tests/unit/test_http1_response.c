/* Response heads: what is taken, what body follows, and what is refused and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "codec/http1_response.h"

#define BYTES(text) (text), sizeof(text) - 1

static struct http1_response r;

static int parse(const char *p, size_t n, bool head) {
    struct http1_scan bits = {.response = true};
    char *copy = malloc(n ? n : 1);
    int got = 0;
    memcpy(copy, p, n);
    int err = http1_parse_response(&r, copy, n, head);
    for (size_t i = 0; i <= n && got == 0; i++) got = http1_head_end(&bits, p, i);
    if (err == 0) assert_int_equal(got, n);
    if (got < 0) assert_int_equal(bits.fault, r.fault);
    if (err) free(copy);
    else http1_parse_response(&r, p, n, head), free(copy); /* the spans stay valid */
    return err;
}

static void parse_ok(const char *text, bool head) {
    if (parse(text, strlen(text), head)) fail_msg("%.60s: %s", text, http1_fault_text(r.fault));
}

static void check_fault(const char *p, size_t n, enum http1_fault fault) {
    int err = parse(p, n, false);
    if (r.fault != fault) fail_msg("%.60s: \"%s\"", p, http1_fault_text(r.fault));
    assert_int_equal(err, http1_response_err(fault));
    assert_int_equal(err_class(err), ERR_CLASS_TARGET);
}

static void status_lines(void **state) {
    static const struct {
        const char *text;
        int status;
        unsigned minor;
        const char *reason;
    } good[] = {
        {"HTTP/1.1 200 OK\r\n\r\n", 200, 1, "OK"},
        {"HTTP/1.0 404 Not  Found \r\n\r\n", 404, 0, "Not  Found "},
        {"HTTP/1.1 500 \r\n\r\n", 500, 1, ""},
        {"HTTP/1.1 500\r\n\r\n", 500, 1, ""},
        {"HTTP/1.1 100 \xc3\xa9\t\r\n\r\n", 100, 1, "\xc3\xa9\t"},
        {"HTTP/1.1 599 x\r\n\r\n", 599, 1, "x"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        parse_ok(good[i].text, false);
        assert_int_equal(r.status, good[i].status);
        assert_int_equal(r.minor, good[i].minor);
        assert_int_equal(r.reason.n, strlen(good[i].reason));
        assert_memory_equal(r.reason.p, good[i].reason, r.reason.n);
    }
}

static void broken_heads(void **state) {
    static const struct {
        const char *p;
        size_t n;
        enum http1_fault fault;
    } bad[] = {
        {BYTES("\r\nHTTP/1.1 200 OK\r\n\r\n"), HTTP1_FAULT_EMPTY_LINE},
        {BYTES("HTTP/1.1 200 OK\n\n"), HTTP1_FAULT_LINE_END},
        {BYTES("HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n"), HTTP1_FAULT_LINE_END},
        {BYTES("HTTP/1.1 200 O\0K\r\n\r\n"), HTTP1_FAULT_CONTROL},
        {BYTES("HTTP/1.1 200 OK\r\nA: \x7f\r\n\r\n"), HTTP1_FAULT_CONTROL},
        {BYTES("HTTP/1.1  200 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("HTTP/1.1 20 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("HTTP/1.1 2000 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("HTTP/1.1 +20 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("HTTP/1.1 099 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("HTTP/1.1 600 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("HTTP/1.1\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("http/1.1 200 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("ICY 200 OK\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("<html>hello</html>\r\n\r\n"), HTTP1_FAULT_STATUS_LINE},
        {BYTES("HTTP/2.0 200 OK\r\n\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("HTTP/1.2 200 OK\r\n\r\n"), HTTP1_FAULT_VERSION},
        {BYTES("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), HTTP1_FAULT_FIELD_NAME},
        {BYTES("HTTP/1.1 200 OK\r\nA\r\n\r\n"), HTTP1_FAULT_FIELD_NAME},
        {BYTES("HTTP/1.1 200 OK\r\n: b\r\n\r\n"), HTTP1_FAULT_FIELD_NAME},
        {BYTES("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), HTTP1_FAULT_FOLD},
        {BYTES("HTTP/1.1 200 OK\r\n A: b\r\n\r\n"), HTTP1_FAULT_FOLD},
        {BYTES("HTTP/1.1 200 OK\r\n\r\nbody"), HTTP1_FAULT_STATUS_LINE}, /* not exactly a head */
        {BYTES("HTTP/1.1 200 OK\r\n"), HTTP1_FAULT_STATUS_LINE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) check_fault(bad[i].p, bad[i].n, bad[i].fault);
}

static void contradicting_framing(void **state) {
    static const struct {
        const char *fields;
        enum http1_fault fault;
    } bad[] = {
        {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", HTTP1_FAULT_FRAMING},
        {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", HTTP1_FAULT_FRAMING},
        {"Content-Length: 5\r\nContent-Length: 6\r\n", HTTP1_FAULT_LENGTH},
        {"Content-Length: 5, 5\r\n", HTTP1_FAULT_LENGTH},
        {"Content-Length: +5\r\n", HTTP1_FAULT_LENGTH},
        {"Content-Length: 0x5\r\n", HTTP1_FAULT_LENGTH},
        {"Content-Length:\r\n", HTTP1_FAULT_LENGTH},
        {"Content-Length: 9223372036854775808\r\n", HTTP1_FAULT_LENGTH},
        {"Transfer-Encoding: identity\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: xchunked\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: chunked, identity\r\n", HTTP1_FAULT_CODING},
        {"Transfer-Encoding: gzip, chunked\r\n", HTTP1_FAULT_CODING_UNKNOWN},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HTTP1_FAULT_CODING_UNKNOWN},
        {"Transfer-Encoding:\r\n", HTTP1_FAULT_CODING},
    };
    static const char *const statuses[] = {"200", "204", "304", "100"}; /* also where no body would follow */
    char text[256];
    (void)state;
    for (size_t k = 0; k < sizeof statuses / sizeof *statuses; k++)
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            int n = snprintf(text, sizeof text, "HTTP/1.1 %s x\r\n%s\r\n", statuses[k], bad[i].fields);
            check_fault(text, (size_t)n, bad[i].fault);
        }
    check_fault(BYTES("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP1_FAULT_FRAMING);
}

static void bodies(void **state) {
    static const struct {
        const char *text;
        bool head;
        enum http1_framing framing;
        bool persistent;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, HTTP1_LENGTH, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", false, HTTP1_LENGTH, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, HTTP1_NO_BODY, true},
        {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, HTTP1_LENGTH, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, HTTP1_CHUNKED, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, HTTP1_NO_BODY, true},
        {"HTTP/1.1 200 OK\r\n\r\n", false, HTTP1_CLOSE, false},
        {"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", false, HTTP1_CLOSE, false},
        {"HTTP/1.1 200 OK\r\n\r\n", true, HTTP1_NO_BODY, true},
        {"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", false, HTTP1_NO_BODY, true},
        {"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", false, HTTP1_NO_BODY, true},
        {"HTTP/1.1 304 x\r\n\r\n", false, HTTP1_NO_BODY, true},
        {"HTTP/1.1 100 Continue\r\n\r\n", false, HTTP1_NO_BODY, true},
        {"HTTP/1.1 101 x\r\nContent-Length: 5\r\n\r\n", false, HTTP1_NO_BODY, true},
        {"HTTP/1.1 199 x\r\n\r\n", false, HTTP1_NO_BODY, true},
        {"HTTP/1.1 205 x\r\n\r\n", false, HTTP1_CLOSE, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: a, Close\r\n\r\n", false, HTTP1_LENGTH, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, HTTP1_LENGTH, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n", false, HTTP1_LENGTH, true},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false, HTTP1_CLOSE, false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, close\r\n\r\n", false, HTTP1_LENGTH, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parse_ok(rows[i].text, rows[i].head);
        if (r.framing != rows[i].framing || r.persistent != rows[i].persistent)
            fail_msg("%s: framing %d persistent %d", rows[i].text, r.framing, r.persistent);
    }
}

static void heads_are_bounded(void **state) {
    static char text[2 * HTTP1_HEAD_MAX];
    struct http1_scan s = {.response = true};
    (void)state;
    size_t n = (size_t)snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nA: ");
    memset(text + n, 'x', sizeof text - n);
    assert_int_equal(http1_head_end(&s, text, sizeof text), ERR_CLIENT_TOO_LARGE);
    assert_int_equal(http1_response_err(s.fault), ERR_TARGET_TOO_LARGE);
    memset(text + 15, 'x', sizeof text - 15);
    s = (struct http1_scan){.response = true};
    http1_head_end(&s, text, sizeof text);
    assert_int_equal(s.fault, HTTP1_FAULT_LINE_LENGTH);
    n = 17;
    memcpy(text, "HTTP/1.1 200 OK\r\n", n);
    for (int i = 0; i <= HTTP1_FIELDS_MAX; i++, n += 6) memcpy(text + n, "A: b\r\n", 6);
    s = (struct http1_scan){.response = true};
    http1_head_end(&s, text, n);
    assert_int_equal(s.fault, HTTP1_FAULT_FIELD_COUNT);
}

static void errors_are_the_targets(void **state) {
    (void)state;
    assert_int_equal(http1_response_err(HTTP1_FAULT_NONE), 0);
    assert_int_equal(http1_response_err(HTTP1_FAULT_CHUNK), ERR_TARGET_PROTOCOL);
    assert_int_equal(http1_response_err(HTTP1_FAULT_TRAILER_LENGTH), ERR_TARGET_TOO_LARGE);
    assert_int_equal(http1_response_err(HTTP1_FAULT_INCOMPLETE), ERR_TARGET_CLOSED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_lines),          cmocka_unit_test(broken_heads),
        cmocka_unit_test(contradicting_framing), cmocka_unit_test(bodies),
        cmocka_unit_test(heads_are_bounded),     cmocka_unit_test(errors_are_the_targets),
    };
    return cmocka_run_group_tests_name("http1_response", tests, NULL, NULL);
}
