/* Where bodies end, in whatever pieces they come, and what is no body (hostile input by RFC 9112 sections 6 and 7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "codec/http1_body.h"

#define BYTES(text) (text), sizeof(text) - 1

struct outcome {
    size_t span;             /* bytes of the body */
    char content[256];
    size_t content_len;      /* of it; not copied past the room */
    enum http1_fault fault;
    bool done;
};

/* In pieces of `step` bytes, each in an allocation of its own. */
static struct outcome feed(enum http1_framing framing, uint64_t length, const char *p, size_t n, size_t step) {
    struct outcome o = {0};
    struct http1_body b;
    http1_body_init(&b, framing, length);
    while (o.span < n) {
        size_t piece = n - o.span < step ? n - o.span : step;
        char *copy = malloc(piece);
        enum http1_run run;
        memcpy(copy, p + o.span, piece);
        size_t got = http1_body_run(&b, copy, piece, &run);
        assert_true(got <= piece);
        for (size_t i = 0; i < got && run == HTTP1_RUN_CONTENT; i++, o.content_len++)
            if (o.content_len < sizeof o.content) o.content[o.content_len] = copy[i];
        free(copy);
        o.span += got;
        if (got == 0) break;
        if (b.fault == HTTP1_FAULT_NONE && step == 1) assert_int_equal(got, 1);
    }
    o.fault = b.fault;
    o.done = http1_body_done(&b);
    return o;
}

static struct outcome check(enum http1_framing framing, uint64_t length, const char *p, size_t n) {
    struct outcome whole = feed(framing, length, p, n, n ? n : 1);
    struct http1_body b;
    for (size_t step = 1; step < 5; step++) {
        struct outcome bits = feed(framing, length, p, n, step);
        assert_int_equal(bits.span, whole.span);
        assert_int_equal(bits.fault, whole.fault);
        assert_int_equal(bits.done, whole.done);
        assert_int_equal(bits.content_len, whole.content_len);
        assert_memory_equal(bits.content, whole.content, sizeof whole.content);
    }
    http1_body_init(&b, framing, length);
    assert_int_equal(http1_body_span(&b, p, n), whole.span);
    assert_int_equal(b.fault, whole.fault);
    if (whole.done || whole.fault != HTTP1_FAULT_NONE) assert_int_equal(http1_body_span(&b, p, n), 0);
    return whole;
}

static void check_chunked(const char *p, size_t n, size_t span, const char *content) {
    struct outcome o = check(HTTP1_CHUNKED, 0, p, n);
    if (!o.done) fail_msg("%.60s: %s after %zu", p, http1_fault_text(o.fault), o.span);
    assert_int_equal(o.span, span);
    assert_int_equal(o.content_len, strlen(content));
    assert_memory_equal(o.content, content, o.content_len);
}

static void no_body_takes_nothing(void **state) {
    (void)state;
    struct outcome o = check(HTTP1_NO_BODY, 0, BYTES("GET / HTTP/1.1\r\n"));
    assert_true(o.done);
    assert_int_equal(o.span, 0);
    o = check(HTTP1_LENGTH, 0, BYTES("x"));
    assert_true(o.done);
    assert_int_equal(o.span, 0);
}

static void a_length_is_taken_exactly(void **state) {
    (void)state;
    struct outcome o = check(HTTP1_LENGTH, 5, BYTES("helloGET / HTTP/1.1\r\n"));
    assert_true(o.done);
    assert_int_equal(o.span, 5);
    assert_memory_equal(o.content, "hello", 5);
    struct http1_body b;
    http1_body_init(&b, HTTP1_LENGTH, 5);
    assert_int_equal(http1_body_span(&b, BYTES("hell")), 4);
    assert_false(http1_body_done(&b));
    assert_false(http1_body_eof(&b));
    assert_int_equal(b.fault, HTTP1_FAULT_INCOMPLETE);
    assert_int_equal(http1_body_span(&b, BYTES("o")), 0);
    http1_body_init(&b, HTTP1_LENGTH, INT64_MAX);
    for (int i = 0; i < 4; i++) assert_int_equal(http1_body_span(&b, "", 1), 1);
    assert_int_equal(b.left, INT64_MAX - 4);
}

static void close_delimited_ends_with_the_connection(void **state) {
    (void)state;
    struct http1_body b;
    struct outcome o = check(HTTP1_CLOSE, 0, BYTES("any\0thing\r\n\r\n"));
    assert_int_equal(o.span, 13);
    assert_false(o.done);
    http1_body_init(&b, HTTP1_CLOSE, 0);
    assert_true(http1_body_eof(&b));
    assert_true(http1_body_done(&b));
    assert_int_equal(http1_body_span(&b, BYTES("more")), 0);
}

static void chunks(void **state) {
    (void)state;
    check_chunked(BYTES("0\r\n\r\n"), 5, "");
    check_chunked(BYTES("0\r\n\r\nGET / HTTP/1.1"), 5, "");
    check_chunked(BYTES("5\r\nhello\r\n0\r\n\r\n"), 15, "hello");
    check_chunked(BYTES("a\r\n0123456789\r\nA\r\nabcdefghij\r\n000\r\n\r\nx"), 37, "0123456789abcdefghij");
    check_chunked(BYTES("0000000000000001\r\nx\r\n0\r\n\r\n"), 26, "x");
    check_chunked(BYTES("2\r\n\r\n\r\n0\r\n\r\n"), 12, "\r\n"); /* content may look like framing */
    check_chunked(BYTES("1;a=b;c=\"d \t;\xc3\xa9\" ; e\r\nx\r\n0;last\r\n\r\n"), 35, "x");
    check_chunked(BYTES("0\r\nA: b\r\nX-Sum:\r\nC:\xff \t\r\n\r\nrest"), 26, "");
}

static void bad_chunks(void **state) {
    static const struct {
        const char *p;
        size_t n, span;
        enum http1_fault fault;
    } bad[] = {
        {BYTES("\r\n"), 0, HTTP1_FAULT_CHUNK},
        {BYTES("g\r\n"), 0, HTTP1_FAULT_CHUNK},
        {BYTES("+5\r\nhello"), 0, HTTP1_FAULT_CHUNK},
        {BYTES("-1\r\n"), 0, HTTP1_FAULT_CHUNK},
        {BYTES("0x5\r\nhello"), 1, HTTP1_FAULT_CHUNK},
        {BYTES(" 5\r\nhello"), 0, HTTP1_FAULT_CHUNK},
        {BYTES("5 \r\nhello"), 1, HTTP1_FAULT_CHUNK},
        {BYTES("5\t;a\r\nhello"), 1, HTTP1_FAULT_CHUNK},
        {BYTES(";a\r\n"), 0, HTTP1_FAULT_CHUNK},
        {BYTES("5\nhello"), 1, HTTP1_FAULT_CHUNK},
        {BYTES("5\rhello"), 2, HTTP1_FAULT_LINE_END},
        {BYTES("5;a\nhello"), 3, HTTP1_FAULT_LINE_END},   /* another parser may see the line's end here */
        {BYTES("5;a\rb\r\nhello"), 4, HTTP1_FAULT_LINE_END},
        {BYTES("5;\0\r\nhello"), 2, HTTP1_FAULT_CHUNK},
        {BYTES("5\r\nhello0\r\n\r\n"), 8, HTTP1_FAULT_LINE_END},
        {BYTES("5\r\nhello\n0\r\n\r\n"), 8, HTTP1_FAULT_LINE_END},
        {BYTES("5\r\nhello\rX"), 9, HTTP1_FAULT_LINE_END},
        {BYTES("8000000000000000\r\n"), 15, HTTP1_FAULT_CHUNK},
        {BYTES("00000000000000001\r\n"), 16, HTTP1_FAULT_CHUNK},
        {BYTES("ffffffffffffffffff\r\n"), 15, HTTP1_FAULT_CHUNK},
        {BYTES("0\r\n\n"), 3, HTTP1_FAULT_TRAILER},
        {BYTES("0\r\n\rX"), 4, HTTP1_FAULT_LINE_END},
        {BYTES("0\r\nA\r\n\r\n"), 4, HTTP1_FAULT_TRAILER},
        {BYTES("0\r\n: b\r\n\r\n"), 3, HTTP1_FAULT_TRAILER},
        {BYTES("0\r\nA : b\r\n\r\n"), 4, HTTP1_FAULT_TRAILER},
        {BYTES("0\r\nA: b\r\n folded\r\n\r\n"), 9, HTTP1_FAULT_TRAILER},
        {BYTES("0\r\nA: b\nC: d\r\n\r\n"), 7, HTTP1_FAULT_LINE_END},
        {BYTES("0\r\nA: b\rC"), 8, HTTP1_FAULT_LINE_END},
        {BYTES("0\r\nA: \x01\r\n\r\n"), 6, HTTP1_FAULT_TRAILER},
        {BYTES("0\r\nGET / HTTP/1.1\r\n\r\n"), 6, HTTP1_FAULT_TRAILER},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct outcome o = check(HTTP1_CHUNKED, 0, bad[i].p, bad[i].n);
        if (o.fault != bad[i].fault || o.span != bad[i].span)
            fail_msg("%zu: %s after %zu", i, http1_fault_text(o.fault), o.span);
        assert_false(o.done);
    }
}

static void the_largest_chunk(void **state) {
    (void)state;
    struct http1_body b;
    http1_body_init(&b, HTTP1_CHUNKED, 0);
    assert_int_equal(http1_body_span(&b, BYTES("7fffffffffffffff\r\nabc")), 21);
    assert_int_equal(b.fault, HTTP1_FAULT_NONE);
    assert_int_equal(b.left, INT64_MAX - 3);
    assert_false(http1_body_eof(&b));
}

static void framing_is_bounded(void **state) {
    (void)state;
    static char text[3 * HTTP1_TRAILER_MAX];
    struct http1_body b;

    memset(text, 'x', sizeof text);
    text[0] = '1';
    text[1] = ';';
    http1_body_init(&b, HTTP1_CHUNKED, 0);
    assert_int_equal(http1_body_span(&b, text, sizeof text), HTTP1_CHUNK_LINE_MAX);
    assert_int_equal(b.fault, HTTP1_FAULT_CHUNK);
    memcpy(text + HTTP1_CHUNK_LINE_MAX, "\r\n", 2); /* just short enough */
    http1_body_init(&b, HTTP1_CHUNKED, 0);
    assert_int_equal(http1_body_span(&b, text, HTTP1_CHUNK_LINE_MAX + 3), HTTP1_CHUNK_LINE_MAX + 3);
    assert_int_equal(b.fault, HTTP1_FAULT_NONE);

    memset(text, 'x', sizeof text);
    memcpy(text, "0\r\nA:", 5);
    http1_body_init(&b, HTTP1_CHUNKED, 0);
    assert_int_equal(http1_body_span(&b, text, sizeof text), 3 + HTTP1_TRAILER_MAX);
    assert_int_equal(b.fault, HTTP1_FAULT_TRAILER_LENGTH);
    memcpy(text + 3 + HTTP1_TRAILER_MAX - 4, "\r\n\r\n", 4);
    http1_body_init(&b, HTTP1_CHUNKED, 0);
    assert_int_equal(http1_body_span(&b, text, sizeof text), 3 + HTTP1_TRAILER_MAX);
    assert_true(http1_body_done(&b));

    size_t n = 3;
    for (int i = 0; i < HTTP1_FIELDS_MAX + 1; i++, n += 6) memcpy(text + n, "A: b\r\n", 6);
    memcpy(text + n, "\r\n", 2);
    http1_body_init(&b, HTTP1_CHUNKED, 0);
    assert_int_equal(http1_body_span(&b, text, n + 2), 3 + 6 * HTTP1_FIELDS_MAX);
    assert_int_equal(b.fault, HTTP1_FAULT_TRAILER_LENGTH);
}

static void an_end_inside_chunks_is_incomplete(void **state) {
    static const char text[] = "5;x\r\nhello\r\n0\r\nA: b\r\n\r\n";
    (void)state;
    for (size_t n = 0; n < sizeof text; n++) {
        struct http1_body b;
        http1_body_init(&b, HTTP1_CHUNKED, 0);
        assert_int_equal(http1_body_span(&b, text, n), n);
        assert_int_equal(http1_body_eof(&b), n == sizeof text - 1);
        assert_int_equal(b.fault, n == sizeof text - 1 ? HTTP1_FAULT_NONE : HTTP1_FAULT_INCOMPLETE);
        if (n == sizeof text - 1) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_body_takes_nothing),
        cmocka_unit_test(a_length_is_taken_exactly),
        cmocka_unit_test(close_delimited_ends_with_the_connection),
        cmocka_unit_test(chunks),
        cmocka_unit_test(bad_chunks),
        cmocka_unit_test(the_largest_chunk),
        cmocka_unit_test(framing_is_bounded),
        cmocka_unit_test(an_end_inside_chunks_is_incomplete),
    };
    return cmocka_run_group_tests_name("http1_body", tests, NULL, NULL);
}
