/* The status, the Proxy-Status and the page of every error; and that no text from outside breaks out of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "codec/http1.h"
#include "codec/http1_error.h"

#define BYTES(text) (text), sizeof(text) - 1

static const int all_errors[] = {
#define X(symbol, value, class_, word, text) symbol,
    ERR_TABLE(X)
#undef X
};
#define ERRORS (sizeof all_errors / sizeof *all_errors)

static void every_error_has_a_status(void **state) {
    static const struct {
        int err, status;
        const char *type;
    } wanted[] = {
        {ERR_CLIENT_PROTOCOL, 400, "http_request_error"},
        {ERR_CLIENT_AUTH, 407, "http_request_denied"},
        {ERR_CLIENT_TIMEOUT, 408, "http_request_error"},
        {ERR_CLIENT_TOO_LARGE, 431, "http_request_error"},
        {ERR_CLIENT_DESTINATION, 400, "http_request_error"},
        {ERR_CLIENT_LOOP, 403, "proxy_loop_detected"},
        {ERR_CLIENT_COMMAND, 501, "http_request_denied"},
        {ERR_TARGET_REFUSED, 502, "connection_refused"},
        {ERR_TARGET_HOST_UNREACHABLE, 502, "destination_ip_unroutable"},
        {ERR_TARGET_DNS, 502, "dns_error"},
        {ERR_TARGET_RESET, 502, "connection_terminated"},
        {ERR_TARGET_PROTOCOL, 502, "http_protocol_error"},
        {ERR_TARGET_CLOSED, 502, "http_response_incomplete"},
        {ERR_TARGET_TOO_LARGE, 502, "http_response_header_section_size"},
        {ERR_TARGET_TIMEOUT, 504, "connection_timeout"},
        {ERR_TARGET_DENIED, 403, "destination_ip_prohibited"},
        {ERR_UPSTREAM_AUTH, 502, "proxy_configuration_error"},
        {ERR_UPSTREAM_CERTIFICATE, 502, "tls_certificate_error"},
        {ERR_UPSTREAM_TLS, 502, "tls_protocol_error"},
        {ERR_UPSTREAM_PROTOCOL, 502, "http_protocol_error"},
        {ERR_UPSTREAM_TIMEOUT, 504, "connection_timeout"},
        {ERR_UPSTREAM_UNREACHABLE, 502, "destination_unavailable"},
        {ERR_UPSTREAM_BUSY, 503, "connection_limit_reached"},
        {ERR_LIMIT, 503, "connection_limit_reached"},
        {ERR_SHUTDOWN, 503, "proxy_internal_error"},
        {ERR_NO_MEMORY, 503, "proxy_internal_error"},
        {ERR_INTERNAL, 500, "proxy_internal_error"},
        {-9999, 500, "proxy_internal_error"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        assert_int_equal(http1_status(wanted[i].err), wanted[i].status);
        assert_string_equal(http1_proxy_error(wanted[i].err), wanted[i].type);
    }
    assert_int_equal(http1_status(0), 200);
    assert_null(http1_proxy_error(0));
    for (size_t i = 0; i < ERRORS; i++) {
        int status = http1_status(all_errors[i]);
        assert_true(status >= 400 && status <= 599);
        assert_true(http1_reason(status)[0] != 0);
        if (err_class(all_errors[i]) != ERR_CLASS_LOCAL) /* not left to the default */
            assert_string_not_equal(http1_proxy_error(all_errors[i]), "proxy_internal_error");
        if (err_class(all_errors[i]) == ERR_CLASS_UPSTREAM) assert_true(status >= 502 && status <= 504);
    }
}

static void every_fault_has_a_status(void **state) {
    static const enum http1_fault all[] = {
#define X(symbol, err, status, text) HTTP1_FAULT_##symbol,
        HTTP1_FAULT_TABLE(X)
#undef X
    };
    (void)state;
    for (size_t i = 1; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(err_class(http1_fault_err(all[i])), ERR_CLASS_CLIENT);
        assert_true(http1_reason(http1_fault_status(all[i]))[0] != 0);
        assert_true(http1_fault_text(all[i])[0] != 0);
    }
    assert_int_equal(http1_fault_err(HTTP1_FAULT_NONE), 0);
}

static void assert_written(const struct writer *w, const char *text) {
    assert_false(w->bad);
    assert_int_equal(writer_len(w), strlen(text));
    assert_memory_equal(w->start, text, strlen(text));
}

static void proxy_status_is_quoted(void **state) {
    uint8_t out[1024];
    struct writer w = writer_of(out, sizeof out);
    (void)state;

    http1_put_proxy_status(&w, ERR_TARGET_REFUSED, NULL, 0);
    assert_written(&w, "adit; error=connection_refused; details=\"the destination refused the connection\"");
    w = writer_of(out, sizeof out);
    http1_put_proxy_status(&w, ERR_TARGET_DNS, BYTES("a\"b\\c\r\nX: y\0\xe9~"));
    assert_written(&w, "adit; error=dns_error; details=\"the destination's name could not be resolved: "
                       "a\\\"b\\\\c??X: y??~\"");
    w = writer_of(out, sizeof out);
    http1_put_proxy_status(&w, 0, BYTES("x"));
    assert_int_equal(writer_len(&w), 0);
}

/* The response to e as a string; its head and body are taken apart. */
static char response[HTTP1_ERROR_MAX + 1];

static const char *respond(const struct http1_error *e) {
    struct writer w = writer_of(response, HTTP1_ERROR_MAX);
    http1_put_error(&w, e);
    assert_false(w.bad);
    response[writer_len(&w)] = 0;
    assert_int_equal(strlen(response), writer_len(&w)); /* no NUL inside */
    char *body = strstr(response, "\r\n\r\n");
    assert_non_null(body);
    return body + 4;
}

static void refusal_is_complete(void **state) {
    struct http1_error e = {.err = ERR_TARGET_REFUSED, .detail = "example.com:443", .detail_len = 15};
    const char *body = respond(&e);
    (void)state;

    assert_string_equal(response,
                        "HTTP/1.1 502 Bad Gateway\r\n"
                        "Proxy-Status: adit; error=connection_refused; "
                        "details=\"the destination refused the connection: example.com:443\"\r\n"
                        "Content-Type: text/html; charset=utf-8\r\n"
                        "Content-Security-Policy: default-src 'none'\r\n"
                        "X-Content-Type-Options: nosniff\r\n"
                        "Cache-Control: no-store\r\n"
                        "Connection: close\r\n"
                        "Content-Length: 220\r\n"
                        "\r\n"
                        "<!DOCTYPE html>\n"
                        "<html lang=\"en\"><head><meta charset=\"utf-8\"><title>502 Bad Gateway</title></head>\n"
                        "<body><h1>502 Bad Gateway</h1>\n"
                        "<p>adit: the destination refused the connection.</p>\n"
                        "<p>example.com:443</p>\n"
                        "</body></html>\n");
    assert_int_equal(strlen(body), 220);

    e.head = true;
    assert_string_equal(respond(&e), "");
    assert_non_null(strstr(response, "\r\nContent-Length: 220\r\n"));
}

static void refusal_of_a_fault_has_its_status(void **state) {
    struct http1_error e = {.err = ERR_CLIENT_PROTOCOL, .status = http1_fault_status(HTTP1_FAULT_VERSION)};
    (void)state;
    e.detail = http1_fault_text(HTTP1_FAULT_VERSION);
    e.detail_len = strlen(e.detail);
    respond(&e);
    assert_ptr_equal(strstr(response, "HTTP/1.1 505 HTTP Version Not Supported\r\n"), response);
    assert_non_null(strstr(response, "\r\nProxy-Status: adit; error=http_request_error; "));
}

static void answer_without_error_has_no_proxy_status(void **state) {
    struct http1_error e = {.status = 404};
    const char *body = respond(&e);
    (void)state;
    assert_ptr_equal(strstr(response, "HTTP/1.1 404 Not Found\r\n"), response);
    assert_null(strstr(response, "Proxy-Status"));
    assert_null(strstr(body, "<p>"));
}

static void authentication_is_asked_for(void **state) {
    struct http1_error e = {.err = ERR_CLIENT_AUTH};
    (void)state;
    respond(&e);
    assert_ptr_equal(strstr(response, "HTTP/1.1 407 Proxy Authentication Required\r\n"), response);
    assert_non_null(strstr(response, "\r\nProxy-Authenticate: Basic realm=\"adit\", charset=\"UTF-8\"\r\n"));
}

static unsigned count(const char *in, const char *what) {
    unsigned n = 0;
    for (const char *at = in; (at = strstr(at, what)); at++) n++;
    return n;
}

static void foreign_text_cannot_escape(void **state) {
    static const char nasty[] = "x\r\nSet-Cookie: a=b\r\n\r\n<script>alert('1')</script>&\"\\\0\x80\xff\x7f";
    struct http1_error plain = {.err = ERR_TARGET_DNS, .detail = "x", .detail_len = 1};
    struct http1_error e = {.err = ERR_TARGET_DNS, .detail = nasty, .detail_len = sizeof nasty - 1};
    const char *body = respond(&plain);
    (void)state;

    unsigned tags = count(body, "<"), lines = count(response, "\r\n");
    body = respond(&e);
    assert_int_equal(count(body, "<"), tags);
    assert_int_equal(count(response, "\r\n"), lines);
    assert_null(strstr(response, "\r\nSet-Cookie"));
    assert_non_null(strstr(body, "x??Set-Cookie: a=b????&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"
                                 "&amp;&quot;\\????" "</p>"));
    for (const char *c = response; *c; c++) assert_true(*c == '\r' || *c == '\n' || (*c >= ' ' && *c < 0x7f));
}

static void long_foreign_text_is_cut(void **state) {
    static char text[100000], name[] = "Retry-After", value[HTTP1_FIELD_MAX + 1];
    static const char worst[] = {'"', '\'', '<', '\\', '&', 'a'};
    struct http1_error e = {.detail = text, .detail_len = sizeof text, .field_name = name, .field_value = value};
    (void)state;

    memset(value, '9', HTTP1_FIELD_MAX - strlen(name));
    for (size_t i = 0; i < ERRORS; i++)
        for (size_t c = 0; c < sizeof worst; c++) {
            memset(text, worst[c], sizeof text);
            e.err = all_errors[i];
            const char *body = respond(&e); /* fits HTTP1_ERROR_MAX */
            assert_non_null(strstr(response, "...\"\r\n"));
            assert_non_null(strstr(body, "...</p>"));
            assert_non_null(strstr(body, "</html>\n"));
        }
    memset(text, 'a', sizeof text);
    respond(&e);
    assert_int_equal(count(response, "aaaaaaaa"), 2 * (HTTP1_DETAIL_MAX - 7));
}

static void added_field_stays_one_line(void **state) {
    struct http1_error e = {.err = ERR_LIMIT, .field_name = "Retry-After", .field_value = "5\r\nEvil: 1"};
    struct writer w;
    char value[HTTP1_FIELD_MAX + 2] = {0};
    (void)state;

    respond(&e);
    assert_non_null(strstr(response, "\r\nRetry-After: 5??Evil: 1\r\n"));

    static const char *const bad[] = {"", "A B", "A\r\nB", "A:", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e.field_name = bad[i];
        w = writer_of(response, HTTP1_ERROR_MAX);
        http1_put_error(&w, &e);
        assert_true(w.bad);
    }
    memset(value, 'v', HTTP1_FIELD_MAX);
    e.field_name = "N";
    e.field_value = value;
    w = writer_of(response, HTTP1_ERROR_MAX);
    http1_put_error(&w, &e);
    assert_true(w.bad);
    e.field_value = "v";
    w = writer_of(response, 100);
    http1_put_error(&w, &e);
    assert_true(w.bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_a_status),
        cmocka_unit_test(every_fault_has_a_status),
        cmocka_unit_test(proxy_status_is_quoted),
        cmocka_unit_test(refusal_is_complete),
        cmocka_unit_test(refusal_of_a_fault_has_its_status),
        cmocka_unit_test(answer_without_error_has_no_proxy_status),
        cmocka_unit_test(authentication_is_asked_for),
        cmocka_unit_test(foreign_text_cannot_escape),
        cmocka_unit_test(long_foreign_text_is_cut),
        cmocka_unit_test(added_field_stays_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
