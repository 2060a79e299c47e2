/* Heads as they are passed on, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "codec/http1_forward.h"

static struct http1_request rq;
static struct http1_response rs;
static char out[HTTP1_HEAD_MAX + HTTP1_FORWARD_MORE + 1];

static const char *request(const char *text, unsigned flags) {
    struct dest d;
    struct writer w = writer_of(out, sizeof out - 1);
    if (http1_parse(&rq, text, strlen(text)) || http1_dest(&rq, &d)) fail_msg("%s: %s", text, http1_fault_text(rq.fault));
    http1_put_request(&w, &rq, &d, flags);
    assert_false(w.bad);
    *w.p = 0;
    return out;
}

static const char *response(const char *text, bool head, unsigned flags) {
    struct writer w = writer_of(out, sizeof out - 1);
    if (http1_parse_response(&rs, text, strlen(text), head)) fail_msg("%s: %s", text, http1_fault_text(rs.fault));
    http1_put_response(&w, &rs, flags);
    assert_false(w.bad);
    *w.p = 0;
    return out;
}

static void targets_become_origin_form(void **state) {
    (void)state;
    assert_string_equal(request("GET http://Example.COM/a?b HTTP/1.1\r\nHost: example.com\r\n\r\n", 0),
                        "GET /a?b HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert_string_equal(request("GET http://h:8080?b HTTP/1.0\r\n\r\n", 0), "GET /?b HTTP/1.1\r\nHost: h:8080\r\n\r\n");
    assert_string_equal(request("OPTIONS http://h HTTP/1.0\r\n\r\n", 0), "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_string_equal(request("GET http://[::1]/ HTTP/1.0\r\n\r\n", 0), "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n");
    assert_string_equal(request("GET http://[::1]:81/ HTTP/1.0\r\n\r\n", 0), "GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n");
}

static void the_target_names_the_host(void **state) {
    (void)state;
    assert_string_equal(request("GET http://a/ HTTP/1.1\r\nA: 1\r\nHost: b:81\r\nConnection: host\r\n\r\n", 0),
                        "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\n");
}

static void hop_by_hop_fields_are_left_out(void **state) {
    (void)state;
    assert_string_equal(request("GET http://h/ HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Basic YTpi\r\n"
                                "Proxy-Connection: keep-alive\r\nconnection: X-One, close\r\nConnection: x-two\r\n"
                                "Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: websocket\r\nHTTP2-Settings: AA\r\nX-One: 1\r\n"
                                "x-TWO: 2\r\nX-Three:3\r\nCookie:  a=b \r\nTrailer: X\r\nCookie: c\xff\r\n\r\n", 0),
                        "GET / HTTP/1.1\r\nHost: h\r\nX-Three: 3\r\nCookie: a=b\r\nTrailer: X\r\nCookie: c\xff\r\n\r\n");
}

static void framing_is_written_anew(void **state) {
    (void)state;
    assert_string_equal(request("POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 007\r\nContent-Length: 7\r\n"
                                "Connection: content-length, transfer-encoding\r\n\r\n", 0),
                        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n");
    assert_string_equal(request("POST http://h/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
                                HTTP1_FORWARD_CLOSE),
                        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    assert_string_equal(request("POST http://h/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 0),
                        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
}

static void expectations(void **state) {
    (void)state;
    assert_string_equal(request("PUT http://h/ HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", 0),
                        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    assert_string_equal(request("PUT http://h/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", 0),
                        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
}

static void upgrades(void **state) {
    static const char ws[] = "GET http://h/ HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    static const char *const refused[] = {
        "GET http://h/ HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n\r\n",
        "GET http://h/ HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket, H2C\r\n\r\n",
        "POST http://h/ HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\n",
        "POST http://h/ HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    (void)state;
    assert_string_equal(request(ws, HTTP1_FORWARD_UPGRADE),
                        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_true(http1_wants_upgrade(&rq));
    assert_string_equal(request(ws, 0), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        request(refused[i], 0);
        assert_false(http1_wants_upgrade(&rq));
    }
    assert_string_equal(response("HTTP/1.1 101 Switching\r\nUpgrade: a\r\nConnection: Upgrade\r\nX: y\r\n\r\n", false,
                                 HTTP1_FORWARD_UPGRADE),
                        "HTTP/1.1 101 Switching\r\nX: y\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n");
}

static void max_forwards(void **state) {
    static const struct {
        const char *method, *fields;
        enum http1_hops hops;
        const char *passed;
    } rows[] = {
        {"TRACE", "Max-Forwards: 3\r\n", HTTP1_HOPS_ON, "Max-Forwards: 2\r\n"},
        {"OPTIONS", "Max-Forwards: 1\r\n", HTTP1_HOPS_ON, "Max-Forwards: 0\r\n"},
        {"OPTIONS", "Max-Forwards: 0\r\n", HTTP1_HOPS_END, NULL},
        {"TRACE", "Max-Forwards: -1\r\n", HTTP1_HOPS_BROKEN, NULL},
        {"TRACE", "Max-Forwards: 1\r\nMax-Forwards: 1\r\n", HTTP1_HOPS_BROKEN, NULL},
        {"TRACE", "", HTTP1_HOPS_ON, ""},
        {"GET", "Max-Forwards: 0\r\n", HTTP1_HOPS_ON, "Max-Forwards: 0\r\n"},
        {"GET", "Max-Forwards: x\r\n", HTTP1_HOPS_ON, "Max-Forwards: x\r\n"},
    };
    char text[200], wanted[200];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "%s http://h/ HTTP/1.1\r\nHost: h\r\n%s\r\n", rows[i].method, rows[i].fields);
        const char *got = request(text, 0);
        assert_int_equal(http1_hops(&rq), rows[i].hops);
        if (!rows[i].passed) continue;
        snprintf(wanted, sizeof wanted, "%s / HTTP/1.1\r\nHost: h\r\n%s\r\n", rows[i].method, rows[i].passed);
        assert_string_equal(got, wanted);
    }
}

static void what_may_be_repeated(void **state) {
    static const struct {
        const char *method, *fields;
        bool repeatable;
    } rows[] = {
        {"GET", "", true},
        {"HEAD", "", true},
        {"OPTIONS", "", true},
        {"TRACE", "", true},
        {"DELETE", "", true},
        {"PUT", "Content-Length: 0\r\n", true},
        {"PUT", "Content-Length: 1\r\n", false},
        {"GET", "Transfer-Encoding: chunked\r\n", false},
        {"POST", "", false},
        {"PATCH", "", false},
        {"get", "", false},
        {"MKCOL", "", false},
    };
    char text[200];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "%s http://h/ HTTP/1.1\r\nHost: h\r\n%s\r\n", rows[i].method, rows[i].fields);
        request(text, 0);
        assert_int_equal(http1_repeatable(&rq), rows[i].repeatable);
    }
}

static void responses(void **state) {
    (void)state;
    assert_string_equal(response("HTTP/1.0 200 Fine\r\nServer: x\r\nContent-Length: 05\r\nKeep-Alive: 5\r\nConnection: x-hop\r\n"
                                 "X-Hop: 1\r\nProxy-Authenticate: Basic realm=\"trap\"\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
                                 "Proxy-Connection: x\r\nUpgrade: h2c\r\n\r\n", false, 0),
                        "HTTP/1.1 200 Fine\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\n");
    assert_string_equal(response("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n", false, 0),
                        "HTTP/1.1 200 \r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_string_equal(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false,
                                 HTTP1_FORWARD_PLAIN | HTTP1_FORWARD_CLOSE),
                        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    assert_string_equal(response("HTTP/1.1 200 OK\r\n\r\n", false, HTTP1_FORWARD_CLOSE),
                        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

static void absent_bodies(void **state) {
    static const struct {
        const char *status;
        bool head;
        const char *passed;
    } rows[] = {{"200", true, "Content-Length: 9\r\n"}, {"304", false, "Content-Length: 9\r\n"}, {"204", false, ""},
                {"103", false, ""}};
    char text[200], wanted[200];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "HTTP/1.1 %s x\r\nContent-Length: 9\r\n\r\n", rows[i].status);
        snprintf(wanted, sizeof wanted, "HTTP/1.1 %s x\r\n%s\r\n", rows[i].status, rows[i].passed);
        assert_string_equal(response(text, rows[i].head, 0), wanted);
    }
    assert_string_equal(response("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", false, 0), "HTTP/1.1 204 x\r\n\r\n");
}

static void heads_grow_within_the_bound(void **state) {
    static char text[HTTP1_HEAD_MAX + 1];
    struct dest d;
    (void)state;
    size_t n = (size_t)snprintf(text, sizeof text, "GET http://");
    for (int i = 0; i < DEST_NAME_MAX; i++) text[n++] = i % 50 == 49 ? '.' : 'a';
    n += (size_t)snprintf(text + n, sizeof text - n, ":65535 HTTP/1.0\r\n");
    for (int i = 1; i < HTTP1_FIELDS_MAX; i++) n += (size_t)snprintf(text + n, sizeof text - n, "A:b\r\n");
    n += (size_t)snprintf(text + n, sizeof text - n, "A:");
    while (n < HTTP1_HEAD_MAX - 4) text[n++] = 'x';
    memcpy(text + n, "\r\n\r\n", 4);
    n += 4;
    assert_int_equal(http1_parse(&rq, text, n), 0);
    assert_int_equal(http1_dest(&rq, &d), 0);
    struct writer w = writer_of(out, n + HTTP1_FORWARD_MORE);
    http1_put_request(&w, &rq, &d, HTTP1_FORWARD_CLOSE);
    assert_false(w.bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_become_origin_form),
        cmocka_unit_test(the_target_names_the_host),
        cmocka_unit_test(hop_by_hop_fields_are_left_out),
        cmocka_unit_test(framing_is_written_anew),
        cmocka_unit_test(expectations),
        cmocka_unit_test(upgrades),
        cmocka_unit_test(max_forwards),
        cmocka_unit_test(what_may_be_repeated),
        cmocka_unit_test(responses),
        cmocka_unit_test(absent_bodies),
        cmocka_unit_test(heads_grow_within_the_bound),
    };
    return cmocka_run_group_tests_name("http1_forward", tests, NULL, NULL);
}
