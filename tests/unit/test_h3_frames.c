#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/h3_raw.h"

/* ---- answers ---- */

static void test_answers(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    size_t n;
    (void)state;
    h3raw_tunnel(p, &w, 0, 0);
    h3raw_answer(p, 0, 100);
    h3raw_answer(p, 0, 103);
    settle(p);
    assert_int_equal(w.opens, 0);
    assert_null(session_stream_header(w.st, "x-warning", &n));
    /* x-warning: a literal name (0x27 0x02: length 7 + 2) and value. */
    static const char head[] = "\1\x18\0\0\x5f\x09\3" "407" "\x27\2x-warning\4" "abcd";
    qraw_write(server(p), 0, head, sizeof head - 1, false);
    qraw_write(server(p), 0, "\0\4text", 6, true);
    settle(p);
    assert_int_equal(w.opens, 1);
    assert_int_equal(w.st->status, 407);
    assert_memory_equal(session_stream_header(w.st, "x-warning", &n), "abcd", 4);
    assert_int_equal(n, 4);
    assert_memory_equal(session_stream_header(w.st, ":status", &n), "407", 3);
    assert_null(session_stream_header(w.st, "x-other", &n));
    assert_int_equal(w.read, 4);
    assert_true(w.eof);
    stream_free(w.st);
    session_pair_free(p);
}

/* HEADERS with :status 200 and `count` fields "a: <len bytes>". */
static void raw_big_answer(struct session_pair *p, int64_t id, unsigned count, size_t len) {
    size_t body = 3 + count * (6 + len);
    uint8_t *b = malloc(body + 8), *at = b;
    assert_non_null(b);
    assert_true(len >= 127 && len < 16384 && body < 1 << 30);
    *at++ = 1;
    *at++ = (uint8_t)(0x80 | body >> 24);
    *at++ = (uint8_t)(body >> 16);
    *at++ = (uint8_t)(body >> 8);
    *at++ = (uint8_t)body;
    memcpy(at, "\0\0\xd9", 3);
    at += 3;
    for (unsigned i = 0; i < count; i++) {
        *at++ = 0x21;
        *at++ = 'a';
        *at++ = 0x7f;
        *at++ = (uint8_t)(0x80 | ((len - 127) & 0x7f));
        *at++ = (uint8_t)(0x80 | ((len - 127) >> 7 & 0x7f));
        *at++ = (uint8_t)((len - 127) >> 14);
        memset(at, 'v', len);
        at += len;
    }
    assert_int_equal(at - b, body + 5);
    qraw_write(server(p), id, b, (size_t)(at - b), false);
    free(b);
}

static void test_head_is_bounded(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    (void)state;
    const struct {
        unsigned count;
        size_t len;
        bool fits;
    } cases[] = {{99, 200, true}, {100, 200, false}, {2, 16000, true}, {3, 16000, false}, {60, 16000, false}};
    for (unsigned i = 0; i < 5; i++) {
        struct qraw_stream *t = h3raw_tunnel(p, &w, i, 0);
        raw_big_answer(p, t->id, cases[i].count, cases[i].len);
        settle(p);
        assert_int_equal(w.opens, cases[i].fits);
        assert_int_equal(w.deads, !cases[i].fits);
        if (!cases[i].fits) {
            assert_int_equal(w.st->err, ERR_UPSTREAM_PROTOCOL);
            assert_int_equal(t->reset_code, 0x107);
        }
        stream_free(w.st);
        settle(p);
        assert_int_equal(session_get_state(client(p)), SESSION_UP);
    }
    session_pair_free(p);
}

static void test_malformed_answer_costs_the_stream(void **state) {
    /* An upper-case name; no status; a status that is none; connection-specific fields. */
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
#define BYTES(b) {b, sizeof b - 1}
        BYTES("\1\7\0\0\xd9\x21" "A" "\1v"),
        BYTES("\1\6\0\0\x21" "a" "\1v"),
        BYTES("\1\x08\0\0\x5f\x09\3" "abc"),
        BYTES("\1\x17\0\0\xd9\x27\x0atransfer-encoding\0"),
#undef BYTES
    };
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct qraw_stream *t = h3raw_tunnel(p, &w, i, 0);
        qraw_write(server(p), t->id, cases[i].bytes, cases[i].n, false);
        settle(p);
        assert_int_equal(w.opens, 0);
        assert_int_equal(w.deads, 1);
        assert_int_equal(w.st->err, ERR_UPSTREAM_PROTOCOL);
        assert_int_equal(t->reset_code, 0x10e);
        assert_int_equal(session_get_state(client(p)), SESSION_UP);
        stream_free(w.st);
    }
    session_pair_free(p);
}

/* ---- a bad peer ---- */

static void hostile(const char *control, size_t control_len, bool control_fin, const char *request,
                    size_t request_len, const char *encoder, size_t encoder_len, uint64_t code) {
    struct session_pair_config c = h3raw_config();
    struct session_pair *p = h3raw_up(&c);
    struct owner w;
    char word[32];
    h3raw_open(p, &w, false);
    settle(p);
    if (control) qraw_write(server(p), qraw_open(server(p), false), control, control_len, control_fin);
    if (encoder) qraw_write(server(p), qraw_open(server(p), false), encoder, encoder_len, false);
    if (request) qraw_write(server(p), 0, request, request_len, false);
    settle(p);
    if (session_get_state(client(p)) != SESSION_DOWN)
        fail_msg("no error where 0x%llx was due", (unsigned long long)code);
    assert_int_equal(session_error(client(p)), ERR_UPSTREAM_PROTOCOL);
    assert_int_equal(w.deads, 1);
    assert_int_equal(w.st->err, ERR_UPSTREAM_PROTOCOL);
    snprintf(word, sizeof word, "application code 0x%llx", (unsigned long long)code);
    if (!strstr(session_error_text(server(p)), word))
        fail_msg("%s, wanted %s", session_error_text(server(p)), word);
    stream_free(w.st);
    session_pair_free(p);
}

#define CONTROL(bytes, code) hostile("" bytes, sizeof bytes - 1, false, NULL, 0, NULL, 0, code)
#define REQUEST(bytes, code) hostile("\0\4\0", 3, false, "" bytes, sizeof bytes - 1, NULL, 0, code)
#define ENCODER(bytes, code) hostile("\0\4\0", 3, false, NULL, 0, "" bytes, sizeof bytes - 1, code)

static void test_connection_errors(void **state) {
    (void)state;
    hostile("\0\4\0", 3, true, NULL, 0, NULL, 0, 0x104);             /* the control stream ends */
    CONTROL("\0\7\1\0", 0x10a);                                      /* no SETTINGS first */
    CONTROL("\0\4\2\2\1", 0x109);                                    /* a setting of HTTP/2 */
    CONTROL("\0\4\0\4\0", 0x105);                                    /* SETTINGS twice */
    CONTROL("\0\4\0\x0d\1\0", 0x105);                                /* MAX_PUSH_ID from a server */
    CONTROL("\0\4\0\0\1x", 0x105);                                   /* DATA on the control stream */
    CONTROL("\0\4\0\1\0", 0x105);                                    /* HEADERS, too */
    CONTROL("\0\4\0\7\1\4\7\1\x08", 0x108);                          /* GOAWAY that rises */
    hostile("\0\4\0", 3, false, NULL, 0, "\0\4\0", 3, 0x103);        /* two control streams */
    hostile("\0\4\0", 3, false, NULL, 0, "\1", 1, 0x103);            /* a push stream */
    REQUEST("\0\1x", 0x105);                                         /* DATA before HEADERS */
    REQUEST("\4\0", 0x105);                                          /* SETTINGS on a request */
    REQUEST("\1\3\0\0\xd9\1\3\0\0\xd9", 0x105);                      /* HEADERS after a tunnel's answer */
    REQUEST("\1\3\0\0\xff", 0x200);                                  /* QPACK: cut short */
    REQUEST("\1\4\0\0\xff\x7f", 0x200);                              /* no such static entry */
    REQUEST("\1\3\0\0\x80", 0x200);                                  /* no dynamic one, either */
    ENCODER("\2\0", 0x201);                                          /* duplicate of nothing */
    ENCODER("\2\x3f\xff\xff\xff\xff\x7f", 0x201);                    /* a larger table than allowed */
    ENCODER("\3\x3f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 0x202); /* a decoder stream of nonsense */
}

static void test_server_must_not_open_requests(void **state) {
    struct session_pair_config c = h3raw_config();
    struct session_pair *p = h3raw_pair(&c);
    (void)state;
    qraw_write(server(p), qraw_open(server(p), true), "\1\3\0\0\xd9", 5, false);
    settle(p);
    assert_int_equal(session_error(client(p)), ERR_UPSTREAM_PROTOCOL);
    assert_non_null(strstr(session_error_text(server(p)), "0x103"));
    session_pair_free(p);
}

/* Unknown frames and stream types are skipped, however large, and cost no memory. */
static void test_unknown_things_are_skipped(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    static uint8_t junk[500000];
    (void)state;
    size_t chunks = buf_chunks();
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 200);
    qraw_write(server(p), 0, "\x21\xc0\0\0\0\x40\0\0\0", 9, false); /* a reserved frame of 1 GiB */
    qraw_write(server(p), 0, junk, sizeof junk, false);
    qraw_write(server(p), 3, "\x21\x80\x07\xa1\x20", 5, false);
    qraw_write(server(p), 3, junk, sizeof junk, false);
    for (unsigned i = 0; i < 50; i++) {
        int64_t id = qraw_open(server(p), false);
        qraw_write(server(p), id, "\x40\x42junk", 6, i % 2);
        if (i % 3 == 0) qraw_reset(server(p), id, 0x10c);
    }
    session_pair_settle(p, 100 * PAIR_MS);
    assert_int_equal(w.read, 0);
    assert_int_equal(w.deads, 0);
    assert_int_equal(buf_chunks(), chunks);
    assert_int_equal(session_get_state(client(p)), SESSION_UP);
    /* The control stream goes on behind it. */
    qraw_write(server(p), 3, "\7\1\4", 3, false);
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    assert_false(t->reset);
    stream_free(w.st);
    session_pair_free(p);
}

/* ---- what is sent ---- */

static void test_too_many_fields_to_send(void **state) {
    struct session_pair_config c;
    struct header head[SESSION_HEAD_FIELDS + 1];
    struct session_info i;
    int err;
    (void)state;
    h3_pair_config_init(&c, true);
    struct session_pair *p = h3raw_up(&c);
    head[0] = h3raw_connect[0];
    head[1] = h3raw_connect[1];
    for (unsigned k = 2; k <= SESSION_HEAD_FIELDS; k++) head[k] = HEADER("a", "b");
    assert_null(session_open(client(p), head, SESSION_HEAD_FIELDS + 1, false, p->now, &err));
    assert_int_equal(err, ERR_LIMIT);
    settle(p);
    session_get_info(client(p), &i);
    assert_int_equal(i.streams, 0);
    assert_int_equal(i.state, SESSION_UP);
    session_pair_free(p);
}

/* Secrets go as never-indexed literals. */
static void test_sensitive_fields(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct header head[] = {h3raw_connect[0], h3raw_connect[1], HEADER("proxy-authorization", "Basic eDp5"),
                            HEADER("user-agent", "adit")};
    int err;
    (void)state;
    head[2].sensitive = true;
    struct stream *st = session_open(client(p), head, 4, false, p->now, &err);
    assert_non_null(st);
    settle(p);
    struct qraw_stream *t = qraw_stream(server(p), 0);
    bool found = false;
    /* A literal name with the N bit: 001N HLLL. */
    for (size_t i = 2; i + 20 < t->in_len; i++) found |= (t->in[i] & 0xf0) == 0x30;
    assert_true(found);
    assert_int_equal(h3raw_parse(t).count, 1);
    stream_free(st);
    session_pair_free(p);
}

static int cleanup(void **state) {
    (void)state;
    session_pair_cleanup();
    assert_int_equal(buf_chunks(), 0);
    buf_trim();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_head_is_bounded),
        cmocka_unit_test(test_malformed_answer_costs_the_stream),
        cmocka_unit_test(test_connection_errors),
        cmocka_unit_test(test_server_must_not_open_requests),
        cmocka_unit_test(test_unknown_things_are_skipped),
        cmocka_unit_test(test_too_many_fields_to_send),
        cmocka_unit_test(test_sensitive_fields),
    };
    return cmocka_run_group_tests_name("h3 frames", tests, NULL, cleanup);
}
