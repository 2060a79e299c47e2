/* What peers send, honest and other: a session in the clear, every frame written here. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/h2_raw.h"

#define CALM 11
#define PROTOCOL 1
#define FLOW 3
#define SIZE 6
#define COMPRESSION 9

static const uint8_t zeros[70000];

/* Down by the peer's fault, and the peer was told with this code (0: any). */
static void check_down(struct h2raw *r, uint32_t code, const char *part) {
    h2raw_run(r);
    assert_int_equal(session_get_state(r->s), SESSION_DOWN);
    assert_int_equal(r->states[SESSION_DOWN], 1);
    assert_int_equal(session_error(r->s), ERR_UPSTREAM_PROTOCOL);
    if (!strstr(session_error_text(r->s), part))
        fail_msg("%s does not say \"%s\"", session_error_text(r->s), part);
    const struct h2raw_frame *f = h2raw_last(r, H2RAW_GOAWAY, 0);
    assert_non_null(f);
    assert_int_not_equal(f->code, 0);
    if (code) assert_int_equal(f->code, code);
    assert_true(session_deadline(r->s) == UINT64_MAX);
    /* What comes after is dropped. */
    unsigned frames = r->n_frames;
    h2raw_frame(r, H2RAW_PING, 0, 0, zeros, 8);
    h2raw_status(r, 1, 200, false);
    h2raw_bytes(r, zeros, sizeof zeros);
    h2raw_bytes(r, NULL, 0);
    h2raw_run(r);
    assert_int_equal(r->n_frames, frames);
}

static void check_up(struct h2raw *r) {
    h2raw_run(r);
    if (session_get_state(r->s) != SESSION_UP) fail_msg("%s", session_error_text(r->s));
    assert_int_equal(r->count[H2RAW_GOAWAY], 0);
}

/* ---- the beginning ---- */

static void preface(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_init(&r, false);
    h2raw_start(&r);
    assert_int_equal(session_get_state(r.s), SESSION_STARTING);
    assert_true(session_deadline(r.s) == r.now + 10000 * H2RAW_MS);
    static const uint8_t settings[] = {0, 0, 24, 4, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0,
                                       0, 4, 0, 0x60, 0, 0, 0, 6, 0, 4, 0, 0};
    static const uint8_t window[] = {0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0xef, 0, 1}; /* 15 MiB - 65535 */
    assert_int_equal(r.out_len, 24 + sizeof settings + sizeof window);
    assert_memory_equal(r.out + 24, settings, sizeof settings);
    assert_memory_equal(r.out + 24 + sizeof settings, window, sizeof window);
    assert_int_equal(session_capacity(r.s), 0);
    int err;
    assert_null(h2raw_open(&r, &err));
    assert_int_equal(err, ERR_UPSTREAM_CLOSED);
    h2raw_frame(&r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    h2raw_run(&r);
    assert_int_equal(r.states[SESSION_UP], 1);
    assert_int_equal(h2raw_last(&r, H2RAW_SETTINGS, 0)->flags, H2RAW_ACK);
    assert_int_equal(session_capacity(r.s), INT32_MAX);
    assert_true(session_deadline(r.s) == UINT64_MAX);
    h2raw_fini(&r);
}

static void settings_must_come_first(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_init(&r, false);
    h2raw_start(&r);
    h2raw_frame(&r, H2RAW_PING, 0, 0, zeros, 8);
    check_down(&r, PROTOCOL, "SETTINGS");
    h2raw_fini(&r);
}

static void settings_must_come_in_time(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_init(&r, false);
    h2raw_start(&r);
    h2raw_pass(&r, 9999 * H2RAW_MS);
    assert_int_equal(session_get_state(r.s), SESSION_STARTING);
    h2raw_pass(&r, 1 * H2RAW_MS);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_TIMEOUT);
    assert_string_equal(session_error_text(r.s), "no HTTP/2 SETTINGS in time");
    h2raw_fini(&r);
}

static void http1_is_named(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_init(&r, false);
    h2raw_start(&r);
    h2raw_bytes(&r, "HTTP/1.1 400 Bad Request\r\nX: y\r\n\r\n", 35);
    h2raw_run(&r);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_PROTOCOL);
    const char *said = "the peer answers in HTTP/1: HTTP/1.1 400 Bad Request??X: y??";
    assert_non_null(strstr(session_error_text(r.s), said));
    h2raw_fini(&r);
}

static void garbage(void **state) {
    (void)state;
    struct h2raw r;
    for (unsigned i = 0; i < 64; i++) {
        uint8_t bytes[600];
        for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (uint8_t)((k + 1) * (i * 2654435761u + 12345) >> 11);
        bytes[3] = (uint8_t)(5 + i); /* no SETTINGS */
        h2raw_init(&r, false);
        h2raw_start(&r);
        h2raw_bytes(&r, bytes, sizeof bytes);
        h2raw_run(&r);
        assert_int_equal(session_get_state(r.s), SESSION_DOWN);
        assert_int_equal(session_error(r.s), ERR_UPSTREAM_PROTOCOL);
        assert_string_not_equal(session_error_text(r.s), "");
        h2raw_fini(&r);
    }
}

static void frames_in_single_bytes(void **state) {
    (void)state;
    struct h2raw r;
    static const uint8_t bytes[] = {0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    h2raw_init(&r, false);
    h2raw_start(&r);
    for (size_t i = 0; i < sizeof bytes; i++) h2raw_bytes(&r, bytes + i, 1);
    check_up(&r);
    assert_int_equal(h2raw_last(&r, H2RAW_PING, 0)->flags, H2RAW_ACK);
    h2raw_fini(&r);
}

/* ---- frames that may not be ---- */

struct bad_frame {
    const char *name;
    unsigned type, flags;
    uint32_t id;
    const char *payload;
    size_t n;
    uint32_t code;
};

#define WITH(text) text, sizeof text - 1

static const struct bad_frame bad_frames[] = {
    {"MAX_FRAME_SIZE too small", H2RAW_SETTINGS, 0, 0, WITH("\0\5\0\0\x3f\xff"), PROTOCOL},
    {"MAX_FRAME_SIZE too large", H2RAW_SETTINGS, 0, 0, WITH("\0\5\1\0\0\0"), PROTOCOL},
    {"INITIAL_WINDOW_SIZE too large", H2RAW_SETTINGS, 0, 0, WITH("\0\4\x80\0\0\0"), FLOW},
    {"ENABLE_PUSH from a server", H2RAW_SETTINGS, 0, 0, WITH("\0\2\0\0\0\1"), PROTOCOL},
    {"SETTINGS of a wrong length", H2RAW_SETTINGS, 0, 0, WITH("\0\5\1\0\0"), SIZE},
    {"SETTINGS of a stream", H2RAW_SETTINGS, 0, 1, NULL, 0, PROTOCOL},
    {"SETTINGS ACK with a payload", H2RAW_SETTINGS, H2RAW_ACK, 0, WITH("\0\4\0\0\0\0"), SIZE},
    {"SETTINGS with 2400 entries", H2RAW_SETTINGS, 0, 0, (const char *)zeros, 14400, 0},
    {"WINDOW_UPDATE of 0", H2RAW_WINDOW, 0, 0, WITH("\0\0\0\0"), PROTOCOL},
    {"WINDOW_UPDATE overflow", H2RAW_WINDOW, 0, 0, WITH("\x7f\xff\xff\xff"), FLOW},
    {"WINDOW_UPDATE of a wrong length", H2RAW_WINDOW, 0, 0, WITH("\0\0\1"), SIZE},
    {"WINDOW_UPDATE of an idle stream", H2RAW_WINDOW, 0, 99, WITH("\0\0\0\1"), PROTOCOL},
    {"PING of a wrong length", H2RAW_PING, 0, 0, WITH("\0\0\0\0\0\0\0"), SIZE},
    {"PING of a stream", H2RAW_PING, 0, 1, WITH("\0\0\0\0\0\0\0\0"), PROTOCOL},
    {"PUSH_PROMISE", H2RAW_PUSH, H2RAW_END_HEADERS, 1, WITH("\0\0\0\2\x88"), PROTOCOL},
    {"HEADERS of an even stream", H2RAW_HEADERS, H2RAW_END_HEADERS, 2, WITH("\x88"), PROTOCOL},
    {"HEADERS of an idle stream", H2RAW_HEADERS, H2RAW_END_HEADERS, 99, WITH("\x88"), PROTOCOL},
    {"HEADERS of stream 0", H2RAW_HEADERS, H2RAW_END_HEADERS, 0, WITH("\x88"), PROTOCOL},
    {"HEADERS with a bad index", H2RAW_HEADERS, H2RAW_END_HEADERS, 1, WITH("\xff\x80\x80\x01"), COMPRESSION},
    {"HEADERS with a table beyond ours", H2RAW_HEADERS, H2RAW_END_HEADERS, 1, WITH("\x3f\xff\xff\x7f\x88"),
     COMPRESSION},
    {"HEADERS with too much padding", H2RAW_HEADERS, H2RAW_END_HEADERS | H2RAW_PADDED, 1, WITH("\x09\x88"),
     PROTOCOL},
    {"CONTINUATION of nothing", H2RAW_CONTINUATION, H2RAW_END_HEADERS, 1, WITH("\x88"), PROTOCOL},
    {"DATA of an idle stream", H2RAW_DATA, 0, 99, WITH("x"), PROTOCOL},
    {"DATA of stream 0", H2RAW_DATA, 0, 0, WITH("x"), PROTOCOL},
    {"DATA with too much padding", H2RAW_DATA, H2RAW_PADDED, 1, WITH("\x09x"), PROTOCOL},
    {"a frame beyond MAX_FRAME_SIZE", H2RAW_DATA, 0, 1, (const char *)zeros, 16385, SIZE},
    {"RST_STREAM of an idle stream", H2RAW_RST, 0, 99, WITH("\0\0\0\0"), PROTOCOL},
    {"RST_STREAM of a wrong length", H2RAW_RST, 0, 1, WITH("\0\0\0"), SIZE},
    {"RST_STREAM of stream 0", H2RAW_RST, 0, 0, WITH("\0\0\0\0"), PROTOCOL},
    {"PRIORITY of a wrong length", H2RAW_PRIORITY, 0, 1, WITH("\0\0\0\0"), SIZE},
    {"GOAWAY of a wrong length", H2RAW_GOAWAY, 0, 0, WITH("\0\0\0\0"), SIZE},
    {"GOAWAY of a stream", H2RAW_GOAWAY, 0, 1, WITH("\0\0\0\0\0\0\0\0"), PROTOCOL},
};

static void frames_that_may_not_be(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_frames / sizeof *bad_frames; i++) {
        const struct bad_frame *b = &bad_frames[i];
        struct h2raw r;
        h2raw_up(&r);
        struct stream *st = h2raw_open(&r, NULL);
        h2raw_run(&r);
        print_message("%s\n", b->name);
        h2raw_frame(&r, b->type, b->flags, b->id, b->payload, b->n);
        check_down(&r, b->code, "");
        assert_string_not_equal(session_error_text(r.s), "");
        assert_int_equal(st->err, ERR_UPSTREAM_PROTOCOL);
        stream_free(st);
        h2raw_fini(&r);
    }
}

static void headers_interrupted(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_up(&r);
    struct stream *st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_frame(&r, H2RAW_HEADERS, 0, 1, "\x88", 1);
    h2raw_frame(&r, H2RAW_PING, 0, 0, zeros, 8);
    check_down(&r, PROTOCOL, "");
    stream_free(st);
    h2raw_fini(&r);
}

static void the_rest_of_a_piece_is_dropped(void **state) {
    (void)state;
    struct h2raw r;
    uint8_t bytes[9 + 4 + 100 * 17];
    h2raw_up(&r);
    /* A broken WINDOW_UPDATE and a hundred PINGs at once. */
    memset(bytes, 0, sizeof bytes);
    bytes[2] = 4;
    bytes[3] = H2RAW_WINDOW;
    for (unsigned i = 0; i < 100; i++) {
        bytes[13 + 17 * i + 2] = 8;
        bytes[13 + 17 * i + 3] = H2RAW_PING;
    }
    h2raw_bytes(&r, bytes, sizeof bytes);
    check_down(&r, PROTOCOL, "");
    assert_int_equal(r.count[H2RAW_PING], 0);
    h2raw_fini(&r);
}

/* ---- floods ---- */

struct flood {
    const char *name;
    unsigned fine, more; /* so many a second are no flood; so many more are */
    unsigned type, flags;
    uint32_t id;
    size_t n;
    uint8_t first; /* of the payload; the rest is 0 */
};

static const struct flood floods[] = {
    {"PING", 90, 20, H2RAW_PING, 0, 0, 8, 0},
    {"PING", 90, 20, H2RAW_PING, H2RAW_ACK, 0, 8, 0},
    {"SETTINGS", 15, 10, H2RAW_SETTINGS, 0, 0, 0, 0},
    {"RST_STREAM", 19000, 2000, H2RAW_RST, 0, 3, 4, 0},
    {"PRIORITY", 190, 20, H2RAW_PRIORITY, 0, 1, 5, 0},
    {"WINDOW_UPDATE", 390000, 20000, H2RAW_WINDOW, 0, 1, 4, 1},
    {"empty DATA", 19900, 200, H2RAW_DATA, 0, 1, 0, 0},
    {"empty DATA", 19900, 200, H2RAW_DATA, H2RAW_PADDED, 1, 6, 5},
};

static void flood_some(struct h2raw *r, const struct flood *f, unsigned n) {
    uint8_t bytes[16 * 64] = {0};
    size_t len = 9 + f->n, many = sizeof bytes / len;
    for (size_t i = 0; i < many; i++) {
        uint8_t *at = bytes + i * len;
        at[2] = (uint8_t)f->n;
        at[3] = (uint8_t)f->type;
        at[4] = (uint8_t)f->flags;
        at[8] = (uint8_t)f->id;
        if (f->n) at[f->type == H2RAW_WINDOW ? 12 : 9] = f->first;
    }
    for (size_t part; n; n -= (unsigned)part) {
        part = many < n ? many : n;
        h2raw_bytes(r, bytes, part * len);
        h2raw_run(r); /* the answers are taken */
    }
}

static void floods_end_the_session(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof floods / sizeof *floods; i++) {
        const struct flood *f = &floods[i];
        struct h2raw r;
        int err;
        print_message("%s\n", f->name);
        h2raw_up(&r);
        h2raw_pass(&r, 1000 * H2RAW_MS);
        struct stream *one = h2raw_open(&r, &err), *two = h2raw_open(&r, &err);
        h2raw_run(&r);
        h2raw_status(&r, 1, 200, false);
        h2raw_rst(&r, 3, 8);
        h2raw_run(&r);
        for (unsigned second = 0; second < (f->fine < 1000 ? 3 : 1); second++) {
            h2raw_pass(&r, 1000 * H2RAW_MS);
            flood_some(&r, f, f->fine);
            check_up(&r);
        }
        flood_some(&r, f, f->more);
        check_down(&r, CALM, f->name);
        stream_free(one);
        stream_free(two);
        h2raw_fini(&r);
    }
}

/* They cost their bytes and no more. */
static void unknown_frames_are_skipped(void **state) {
    (void)state;
    struct h2raw r;
    static const struct flood unknown[] = {{"", 0, 0, 0x77, 0xff, 0, 30, 0}, {"", 0, 0, 0x0a, 0, 1, 20, 0}};
    h2raw_up(&r);
    for (size_t i = 0; i < 2; i++) flood_some(&r, &unknown[i], 20000);
    check_up(&r);
    assert_int_equal(r.n_frames, 0);
    struct stream *st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_status(&r, 1, 200, false);
    check_up(&r);
    assert_int_equal(st->status, 200);
    stream_free(st);
    h2raw_fini(&r);
}

static void header_block_without_end(void **state) {
    (void)state;
    struct h2raw r;
    /* Small parts. */
    h2raw_up(&r);
    struct stream *st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_frame(&r, H2RAW_HEADERS, 0, 1, "\x88", 1);
    for (unsigned i = 0; i < 100; i++) h2raw_frame(&r, H2RAW_CONTINUATION, 0, 1, NULL, 0);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_PROTOCOL);
    stream_free(st);
    h2raw_fini(&r);
    /* Large ones: a field that is never indexed, 16 KiB each. */
    static uint8_t block[16384];
    memset(block, 'v', sizeof block);
    memcpy(block, "\x10\x01x\x7f\xf5\x7e", 6); /* value of 0x7f + 0x75 + 0x7e * 128 = 16372 bytes */
    h2raw_up(&r);
    st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_frame(&r, H2RAW_HEADERS, 0, 1, "\x88", 1);
    for (unsigned i = 0; i < 100 && session_get_state(r.s) == SESSION_UP; i++)
        h2raw_frame(&r, H2RAW_CONTINUATION, 0, 1, block, 16378);
    check_down(&r, 0, "");
    stream_free(st);
    h2raw_fini(&r);
}

/* Every answer needs a place: a peer that asks and does not read is cut off. */
static void answers_for_a_deaf_peer_are_bounded(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_up(&r);
    for (unsigned i = 0; i < 100000 && session_get_state(r.s) == SESSION_UP; i++) {
        r.now += 20 * H2RAW_MS;
        h2raw_frame(&r, H2RAW_PING, 0, 0, zeros, 8);
    }
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_PROTOCOL);
    h2raw_run(&r);
    assert_true(r.out_len < 1 << 20);
    h2raw_fini(&r);
}

/* ---- heads ---- */

static struct stream *opened(struct h2raw *r) {
    struct stream *st;
    h2raw_up(r);
    st = h2raw_open(r, NULL);
    assert_non_null(st);
    h2raw_run(r);
    return st;
}

static void head_of_too_many_fields(void **state) {
    (void)state;
    struct h2raw r;
    struct stream *st = opened(&r);
    uint8_t block[1 + 101 * 5];
    block[0] = 0x88;
    for (unsigned i = 0; i < 101; i++) memcpy(block + 1 + 5 * i, "\x10\x01x\x01y", 5);
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 1, block, sizeof block);
    check_up(&r);
    assert_int_equal(st->err, ERR_UPSTREAM_PROTOCOL);
    assert_non_null(h2raw_last(&r, H2RAW_RST, 1));
    stream_free(st);
    /* One less is fine. */
    st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 3, block, 1 + 99 * 5);
    check_up(&r);
    assert_int_equal(st->status, 200);
    size_t n;
    const char *v = session_stream_header(st, "x", &n);
    assert_int_equal(n, 1);
    assert_int_equal(*v, 'y');
    assert_null(session_stream_header(st, "z", &n));
    stream_free(st);
    h2raw_fini(&r);
}

/* A few bytes that unpack to very many: a long field put into the table once and named again and again. */
static void head_that_unpacks_to_much(void **state) {
    (void)state;
    struct h2raw r;
    struct stream *st = opened(&r);
    static uint8_t block[4096 + 256];
    memset(block, 'v', sizeof block);
    memcpy(block, "\x88\x40\x01x\x7f\x81\x1e", 7); /* 0x7f + 1 + 0x1e * 128 = 3968 bytes */
    size_t n = 7 + 3968;
    memset(block + n, 0xbe, 90);
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 1, block, n + 90);
    check_up(&r);
    assert_int_equal(st->err, ERR_UPSTREAM_PROTOCOL);
    stream_free(st);
    h2raw_fini(&r);
}

static void malformed_heads_kill_their_stream_only(void **state) {
    (void)state;
    static const struct {
        const char *name, *block;
        size_t n;
    } cases[] = {
        {"upper case", WITH("\x88\x10\x01X\x01y")},
        {"transfer-encoding", WITH("\x88\x10\x11transfer-encoding\x07" "chunked")},
        {"connection", WITH("\x88\x10\x0a" "connection\x05" "close")},
        {"no status", WITH("\x10\x01x\x01y")},
        {"two statuses", WITH("\x88\x88")},
        {"status after a field", WITH("\x10\x01x\x01y\x88")},
        {"unknown pseudo-header", WITH("\x88\x10\x02:x\x01y")},
        {"NUL in a value", WITH("\x88\x10\x01x\x03" "a\0b")},
        {"CR LF in a value", WITH("\x88\x10\x01x\x04" "a\r\nb")},
        {"status of two digits", WITH("\x08\x02" "20")},
        {"status 099", WITH("\x08\x03" "099")},
        {"status 999", WITH("\x08\x03" "999")},
        {"status 101", WITH("\x08\x03" "101")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct h2raw r;
        print_message("%s\n", cases[i].name);
        struct stream *st = opened(&r), *other = h2raw_open(&r, NULL);
        h2raw_run(&r);
        h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 1, cases[i].block, cases[i].n);
        check_up(&r);
        assert_int_equal(st->err, ERR_UPSTREAM_PROTOCOL);
        assert_non_null(h2raw_last(&r, H2RAW_RST, 1));
        h2raw_status(&r, 3, 200, false);
        check_up(&r);
        assert_int_equal(other->status, 200);
        stream_free(st);
        stream_free(other);
        h2raw_fini(&r);
    }
}

/* RFC 9110 section 9.3.6: a client ignores the content-length of a 2xx to CONNECT. */
static void content_length_of_a_tunnel_is_ignored(void **state) {
    (void)state;
    struct h2raw r;
    const uint8_t *p;
    size_t n;
    struct stream *st = opened(&r);
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 1, WITH("\x88\x0f\x0d\x01" "5"));
    h2raw_frame(&r, H2RAW_DATA, 0, 1, "0123456789", 10);
    h2raw_frame(&r, H2RAW_DATA, H2RAW_END_STREAM, 1, "abc", 3);
    check_up(&r);
    assert_int_equal(st->status, 200);
    assert_int_equal(stream_peek(st, &p, &n), STREAM_BYTES);
    assert_int_equal(n, 13);
    stream_consume(st, n);
    assert_int_equal(stream_peek(st, &p, &n), STREAM_EOF);
    stream_free(st);
    h2raw_fini(&r);
}

static void interim_responses_are_skipped(void **state) {
    (void)state;
    struct h2raw r;
    struct stream *st = opened(&r);
    h2raw_status(&r, 1, 100, false);
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 1, WITH("\x08\x03" "103\x10\x01x\x05" "early"));
    h2raw_run(&r);
    assert_int_equal(st->status, 0);
    h2raw_status(&r, 1, 200, false);
    check_up(&r);
    assert_int_equal(st->status, 200);
    assert_null(session_stream_header(st, "x", NULL));
    /* Trailers change nothing. */
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS | H2RAW_END_STREAM, 1, WITH("\x10\x01x\x04" "late"));
    check_up(&r);
    assert_null(session_stream_header(st, "x", NULL));
    const uint8_t *p;
    size_t n;
    assert_int_equal(stream_peek(st, &p, &n), STREAM_EOF);
    stream_free(st);
    h2raw_fini(&r);
    /* Not without end. */
    st = opened(&r);
    for (unsigned i = 0; i < 20; i++) h2raw_status(&r, 1, 103, false);
    check_up(&r);
    assert_int_equal(st->err, ERR_UPSTREAM_PROTOCOL);
    stream_free(st);
    h2raw_fini(&r);
}

static void secrets_are_never_indexed(void **state) {
    (void)state;
    struct h2raw r;
    int err;
    h2raw_up(&r);
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "test.example:443"),
                                  {"proxy-authorization", "Basic Zm9vOmJhcg==", 19, 18, true}};
    size_t before = r.out_len;
    struct stream *st = session_open(r.s, head, 3, false, r.now, &err);
    assert_non_null(st);
    h2raw_run(&r);
    /* Literal, never indexed, with the static name 49: 0x1f 0x22. */
    assert_non_null(memmem(r.out + before, r.out_len - before, "\x1f\x22", 2));
    stream_free(st);
    h2raw_fini(&r);
}

/* ---- flow control ---- */

static void data_beyond_the_window(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_init(&r, false);
    r.config.stream_window = 40000;
    h2raw_start(&r);
    h2raw_frame(&r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    h2raw_frame(&r, H2RAW_SETTINGS, H2RAW_ACK, 0, NULL, 0);
    struct stream *st = h2raw_open(&r, NULL), *other = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_status(&r, 1, 200, false);
    h2raw_frame(&r, H2RAW_DATA, 0, 1, zeros, 16384);
    h2raw_frame(&r, H2RAW_DATA, 0, 1, zeros, 16384);
    check_up(&r);
    /* Beyond the stream's: its end alone. */
    h2raw_frame(&r, H2RAW_DATA, 0, 1, zeros, 40000 - 32768 + 1);
    check_up(&r);
    assert_int_equal(st->err, ERR_UPSTREAM_PROTOCOL);
    assert_int_equal(h2raw_last(&r, H2RAW_RST, 1)->word, FLOW);
    h2raw_status(&r, 3, 200, false);
    check_up(&r);
    assert_int_equal(other->status, 200);
    stream_free(st);
    stream_free(other);
    h2raw_fini(&r);
    /* Beyond the connection's: of everything. */
    h2raw_init(&r, false);
    r.config.session_window = 65535;
    r.config.budget = 0;
    h2raw_start(&r);
    h2raw_frame(&r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    h2raw_frame(&r, H2RAW_SETTINGS, H2RAW_ACK, 0, NULL, 0);
    st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_status(&r, 1, 200, false);
    for (unsigned i = 0; i < 13; i++) h2raw_frame(&r, H2RAW_DATA, 0, 1, zeros, 5000);
    check_up(&r);
    h2raw_frame(&r, H2RAW_DATA, 0, 1, zeros, 5000);
    check_down(&r, FLOW, "");
    stream_free(st);
    h2raw_fini(&r);
}

static void our_data_keeps_to_the_window(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_up(&r);
    h2raw_setting(&r, 4, 100);
    struct stream *st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    assert_int_equal(stream_write(st, zeros, 70000), 70000);
    h2raw_run(&r);
    assert_int_equal(r.data, 100);
    h2raw_window(&r, 1, 1);
    h2raw_run(&r);
    assert_int_equal(r.data, 101);
    h2raw_setting(&r, 4, 50); /* negative now */
    h2raw_window(&r, 1, 50);
    h2raw_run(&r);
    assert_int_equal(r.data, 101);
    h2raw_window(&r, 1, 1 << 20);
    h2raw_run(&r);
    assert_int_equal(r.data, 65535); /* the connection's */
    h2raw_window(&r, 0, 1 << 20);
    h2raw_run(&r);
    assert_int_equal(r.data, 70000);
    /* Each frame fits one TLS record with its head. */
    for (unsigned i = 0; i < r.n_frames; i++) assert_true(r.frames[i].len <= 16375);
    stream_free(st);
    h2raw_fini(&r);
}

/* Credit of the connection comes on receipt, of the stream on consume; past the budget the former waits, too. */
static void credit(void **state) {
    (void)state;
    struct h2raw r;
    struct session_info info;
    h2raw_init(&r, false);
    r.config.stream_window = 200000;
    r.config.session_window = 100000;
    r.config.budget = 120000;
    h2raw_start(&r);
    h2raw_frame(&r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    h2raw_frame(&r, H2RAW_SETTINGS, H2RAW_ACK, 0, NULL, 0);
    struct stream *st = h2raw_open(&r, NULL);
    h2raw_run(&r);
    h2raw_status(&r, 1, 200, false);
    h2raw_forget(&r);
    for (unsigned i = 0; i < 12; i++) h2raw_frame(&r, H2RAW_DATA, 0, 1, zeros, 10000);
    h2raw_run(&r);
    assert_non_null(h2raw_last(&r, H2RAW_WINDOW, 0));
    assert_null(h2raw_last(&r, H2RAW_WINDOW, 1));
    uint32_t given = 0;
    for (unsigned i = 0; i < r.n_frames; i++) given += r.frames[i].word;
    assert_true(given >= 100000 && given <= 120000);
    session_get_info(r.s, &info);
    assert_int_equal(info.unread, 120000);
    assert_false(info.congested);
    /* The budget is used up: what the connection's window still allows, and no more. */
    h2raw_forget(&r);
    for (unsigned i = 0; i < 8; i++) h2raw_frame(&r, H2RAW_DATA, 0, 1, zeros, 10000);
    check_up(&r);
    assert_null(h2raw_last(&r, H2RAW_WINDOW, 0));
    session_get_info(r.s, &info);
    assert_int_equal(info.unread, 200000);
    assert_true(info.congested);
    /* Consumed, all of it comes. */
    const uint8_t *p;
    size_t n;
    while (stream_peek(st, &p, &n) == STREAM_BYTES) stream_consume(st, n);
    h2raw_run(&r);
    given = 0;
    for (unsigned i = 0; i < r.n_frames; i++)
        if (r.frames[i].type == H2RAW_WINDOW && !r.frames[i].id) given += r.frames[i].word;
    assert_true(given >= 50000);
    assert_int_equal(h2raw_last(&r, H2RAW_WINDOW, 1)->word >= 100000, true);
    session_get_info(r.s, &info);
    assert_int_equal(info.unread, 0);
    assert_false(info.congested);
    stream_free(st);
    h2raw_fini(&r);
}

/* ---- a server ---- */

static void client_magic(void **state) {
    (void)state;
    struct h2raw r;
    h2raw_init(&r, true);
    h2raw_start(&r);
    h2raw_bytes(&r, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_PROTOCOL);
    h2raw_fini(&r);
    h2raw_init(&r, true);
    h2raw_start(&r);
    h2raw_bytes(&r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    h2raw_frame(&r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    /* CONNECT test:1 */
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 1, WITH("\x02\x07" "CONNECT\x01\x06" "test:1"));
    check_up(&r);
    assert_int_equal(r.requests, 1);
    size_t n;
    assert_memory_equal(session_stream_header(r.request, ":authority", &n), "test:1", 6);
    assert_int_equal(n, 6);
    /* A malformed one is not shown. */
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 3, WITH("\x02\x07" "CONNECT\x01\x06" "te t:1\x84"));
    check_up(&r);
    assert_int_equal(r.requests, 1);
    assert_non_null(h2raw_last(&r, H2RAW_RST, 3));
    stream_free(r.request);
    h2raw_fini(&r);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(preface),
        cmocka_unit_test(settings_must_come_first),
        cmocka_unit_test(settings_must_come_in_time),
        cmocka_unit_test(http1_is_named),
        cmocka_unit_test(garbage),
        cmocka_unit_test(frames_in_single_bytes),
        cmocka_unit_test(frames_that_may_not_be),
        cmocka_unit_test(headers_interrupted),
        cmocka_unit_test(the_rest_of_a_piece_is_dropped),
        cmocka_unit_test(floods_end_the_session),
        cmocka_unit_test(unknown_frames_are_skipped),
        cmocka_unit_test(header_block_without_end),
        cmocka_unit_test(answers_for_a_deaf_peer_are_bounded),
        cmocka_unit_test(head_of_too_many_fields),
        cmocka_unit_test(head_that_unpacks_to_much),
        cmocka_unit_test(malformed_heads_kill_their_stream_only),
        cmocka_unit_test(content_length_of_a_tunnel_is_ignored),
        cmocka_unit_test(interim_responses_are_skipped),
        cmocka_unit_test(secrets_are_never_indexed),
        cmocka_unit_test(data_beyond_the_window),
        cmocka_unit_test(our_data_keeps_to_the_window),
        cmocka_unit_test(credit),
        cmocka_unit_test(client_magic),
    };
    int r = cmocka_run_group_tests_name("h2 frames", tests, NULL, NULL);
    buf_trim();
    return r;
}
