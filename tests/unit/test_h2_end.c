/* How streams and sessions end, and how streams begin: a session in the clear against frames written here. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/h2_raw.h"

#define NO_ERROR 0
#define REFUSED 7
#define CANCEL 8
#define CONNECT_ERROR 10

struct seen {
    unsigned events, calls, deads;
};

static void on_event(struct stream *st, unsigned events, void *arg) {
    struct seen *seen = arg;
    (void)st;
    seen->events |= events;
    seen->calls++;
    seen->deads += !!(events & STREAM_DEAD);
}

static struct stream *open_seen(struct h2raw *r, struct seen *seen) {
    int err;
    struct stream *st = h2raw_open(r, &err);
    assert_non_null(st);
    *seen = (struct seen){0};
    stream_own(st, on_event, seen);
    h2raw_run(r);
    return st;
}

static int peek(struct stream *st) {
    const uint8_t *p;
    size_t n;
    return stream_peek(st, &p, &n);
}

static unsigned rsts(const struct h2raw *r, uint32_t code) {
    unsigned n = 0;
    for (unsigned i = 0; i < r->n_frames; i++)
        if (r->frames[i].type == H2RAW_RST && r->frames[i].word == code) n++;
    return n;
}

/* ---- the response ---- */

static void response_and_end_at_once(void **state) {
    (void)state;
    struct h2raw r;
    struct seen seen;
    h2raw_up(&r);
    struct stream *st = open_seen(&r, &seen);
    h2raw_status(&r, 1, 200, true);
    h2raw_run(&r);
    assert_int_equal(seen.events, STREAM_OPEN | STREAM_IN);
    assert_int_equal(st->status, 200);
    assert_int_equal(peek(st), STREAM_EOF);
    /* Our direction is open still. */
    assert_int_equal(stream_write(st, "abc", 3), 3);
    stream_finish(st);
    h2raw_run(&r);
    assert_int_equal(r.data, 3);
    assert_int_equal(h2raw_last(&r, H2RAW_DATA, 1)->flags, H2RAW_END_STREAM);
    stream_free(st);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_RST], 0);
    assert_int_equal(session_get_state(r.s), SESSION_UP);
    h2raw_fini(&r);
}

static void refusals_come_as_open(void **state) {
    (void)state;
    static const int codes[] = {204, 302, 400, 401, 403, 404, 407, 429, 500, 502, 503};
    const uint8_t *p;
    size_t n;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct h2raw r;
        struct seen seen;
        h2raw_up(&r);
        struct stream *st = open_seen(&r, &seen);
        h2raw_status(&r, 1, codes[i], codes[i] == 204);
        if (codes[i] != 204) {
            h2raw_frame(&r, H2RAW_DATA, H2RAW_END_STREAM, 1, "why", 3);
            h2raw_rst(&r, 1, NO_ERROR);
        }
        h2raw_run(&r);
        assert_int_equal(st->status, codes[i]);
        assert_int_equal(seen.deads, 0);
        if (codes[i] != 204) {
            assert_int_equal(stream_peek(st, &p, &n), STREAM_BYTES);
            assert_memory_equal(p, "why", 3);
            stream_consume(st, 3);
        }
        assert_int_equal(peek(st), STREAM_EOF);
        assert_int_equal(session_get_state(r.s), SESSION_UP);
        stream_free(st);
        h2raw_fini(&r);
    }
}

static void data_may_precede_the_response(void **state) {
    (void)state;
    struct h2raw r;
    struct seen seen;
    h2raw_up(&r);
    struct stream *st = open_seen(&r, &seen);
    assert_int_equal(stream_write(st, "early", 5), 5);
    h2raw_run(&r);
    assert_int_equal(r.data, 5);
    assert_int_equal(seen.events, 0);
    stream_free(st);
    h2raw_fini(&r);
}

/* Deployed endpoints drop a stream that ends before its response. */
static void finish_waits_for_the_response(void **state) {
    (void)state;
    for (int with_bytes = 0; with_bytes < 2; with_bytes++) {
        struct h2raw r;
        struct seen seen;
        h2raw_up(&r);
        struct stream *st = open_seen(&r, &seen);
        if (with_bytes) assert_int_equal(stream_write(st, "abc", 3), 3);
        stream_finish(st);
        h2raw_run(&r);
        assert_int_equal(r.data, with_bytes ? 3 : 0);
        for (unsigned i = 0; i < r.n_frames; i++) assert_false(r.frames[i].flags & H2RAW_END_STREAM);
        h2raw_status(&r, 1, 100, false);
        h2raw_run(&r);
        for (unsigned i = 0; i < r.n_frames; i++) assert_false(r.frames[i].flags & H2RAW_END_STREAM);
        h2raw_status(&r, 1, with_bytes ? 200 : 407, false);
        h2raw_run(&r);
        assert_int_equal(h2raw_last(&r, H2RAW_DATA, 1)->flags, H2RAW_END_STREAM);
        assert_int_equal(r.data, with_bytes ? 3 : 0);
        stream_free(st);
        h2raw_fini(&r);
    }
}

static void fin_with_the_head(void **state) {
    (void)state;
    struct h2raw r;
    int err;
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "_check")};
    h2raw_up(&r);
    struct stream *st = session_open(r.s, head, 2, true, r.now, &err);
    h2raw_run(&r);
    assert_int_equal(h2raw_last(&r, H2RAW_HEADERS, 1)->flags, H2RAW_END_HEADERS | H2RAW_END_STREAM);
    assert_true(stream_write(st, "x", 1) < 0);
    stream_finish(st);
    h2raw_status(&r, 1, 200, true);
    h2raw_run(&r);
    assert_int_equal(peek(st), STREAM_EOF);
    stream_free(st);
    h2raw_fini(&r);
}

/* ---- resets ---- */

static void resets_and_what_they_mean(void **state) {
    (void)state;
    static const struct {
        uint32_t code;
        int status; /* 0: before the response */
        enum err err;
    } cases[] = {
        {REFUSED, 0, ERR_UPSTREAM_RETRY},
        {REFUSED, 200, ERR_UPSTREAM_RETRY},
        {CANCEL, 0, ERR_UPSTREAM_RESET},
        {CANCEL, 200, ERR_TARGET_RESET},
        {CANCEL, 502, ERR_UPSTREAM_RESET},
        {CONNECT_ERROR, 0, ERR_TARGET_RESET},
        {CONNECT_ERROR, 200, ERR_TARGET_RESET},
        {NO_ERROR, 0, ERR_UPSTREAM_RESET},
        {NO_ERROR, 200, ERR_TARGET_RESET},
        {1, 0, ERR_UPSTREAM_RESET},
        {2, 200, ERR_TARGET_RESET},
        {0x1f, 0, ERR_UPSTREAM_AUTH},
        {0x64, 0, ERR_UPSTREAM_AUTH},
        {0x1f, 200, ERR_UPSTREAM_AUTH},
        {0xdeadbeef, 200, ERR_TARGET_RESET},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct h2raw r;
        struct seen seen;
        h2raw_up(&r);
        struct stream *st = open_seen(&r, &seen);
        if (cases[i].status) {
            h2raw_status(&r, 1, cases[i].status, false);
            h2raw_frame(&r, H2RAW_DATA, 0, 1, "abc", 3);
        }
        h2raw_rst(&r, 1, cases[i].code);
        h2raw_run(&r);
        assert_int_equal(seen.deads, 1);
        assert_int_equal(st->err, cases[i].err);
        /* What had arrived is there first. */
        if (cases[i].status) {
            assert_int_equal(peek(st), STREAM_BYTES);
            stream_consume(st, 3);
        }
        assert_int_equal(peek(st), cases[i].err);
        assert_int_equal(stream_write(st, "x", 1), cases[i].err);
        stream_free(st);
        h2raw_run(&r);
        assert_int_equal(r.count[H2RAW_RST], 0);
        assert_int_equal(session_get_state(r.s), SESSION_UP);
        h2raw_fini(&r);
    }
}

static void no_error_after_the_end_stops_writing_only(void **state) {
    (void)state;
    struct h2raw r;
    struct seen seen;
    h2raw_up(&r);
    struct stream *st = open_seen(&r, &seen);
    h2raw_status(&r, 1, 200, false);
    h2raw_frame(&r, H2RAW_DATA, H2RAW_END_STREAM, 1, "bye", 3);
    h2raw_run(&r);
    seen = (struct seen){0};
    h2raw_rst(&r, 1, NO_ERROR);
    h2raw_run(&r);
    assert_int_equal(seen.events, STREAM_OUT);
    assert_int_equal(stream_write(st, "x", 1), ERR_UPSTREAM_STOPPED);
    assert_int_equal(peek(st), STREAM_BYTES);
    stream_consume(st, 3);
    assert_int_equal(peek(st), STREAM_EOF);
    stream_finish(st);
    h2raw_run(&r);
    assert_int_equal(seen.deads, 0);
    stream_free(st);
    /* After our finish, too, it is no event at all. */
    st = open_seen(&r, &seen);
    h2raw_status(&r, 3, 200, true);
    stream_finish(st);
    h2raw_run(&r);
    seen = (struct seen){0};
    h2raw_rst(&r, 3, NO_ERROR);
    h2raw_run(&r);
    assert_int_equal(seen.calls, 0);
    stream_free(st);
    h2raw_fini(&r);
}

static void our_resets(void **state) {
    (void)state;
    static const struct {
        enum err why;
        uint32_t code;
    } cases[] = {
        {ERR_CANCELLED, CANCEL},     {ERR_CLIENT_RESET, CANCEL},          {ERR_TARGET_RESET, CONNECT_ERROR},
        {ERR_NO_MEMORY, 2},          {ERR_UPSTREAM_RETRY, REFUSED},       {ERR_UPSTREAM_PROTOCOL, 1},
        {ERR_UPSTREAM_AUTH, 0x1f},   {ERR_TARGET_REFUSED, CONNECT_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct h2raw r;
        struct seen seen;
        h2raw_up(&r);
        struct stream *st = open_seen(&r, &seen);
        h2raw_status(&r, 1, 200, false);
        h2raw_frame(&r, H2RAW_DATA, 0, 1, "abc", 3);
        h2raw_run(&r);
        stream_reset(st, cases[i].why);
        h2raw_run(&r);
        assert_int_equal(h2raw_last(&r, H2RAW_RST, 1)->word, cases[i].code);
        assert_int_equal(peek(st), cases[i].why);
        struct session_info info;
        session_get_info(r.s, &info);
        assert_int_equal(info.unread, 0);
        assert_int_equal(info.streams, 0);
        /* What was under way is dropped, its credit given back. */
        h2raw_forget(&r);
        static const uint8_t bytes[16384];
        for (unsigned k = 0; k < 500; k++) h2raw_frame(&r, H2RAW_DATA, 0, 1, bytes, sizeof bytes);
        h2raw_run(&r);
        assert_int_equal(session_get_state(r.s), SESSION_UP);
        assert_non_null(h2raw_last(&r, H2RAW_WINDOW, 0));
        assert_int_equal(r.count[H2RAW_RST], 0);
        stream_free(st);
        h2raw_fini(&r);
    }
}

/* ---- cancelling ---- */

#define MANY 40

/* Endpoints count requests that are cancelled before they were taken up, and end the session of who does much of it. */
static void cancels_of_unanswered_requests_take_turns(void **state) {
    (void)state;
    struct h2raw r;
    struct stream *st[MANY];
    struct session_info info;
    h2raw_up(&r);
    for (unsigned i = 0; i < MANY; i++) st[i] = h2raw_open(&r, NULL);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_HEADERS], MANY);
    for (unsigned i = 0; i < MANY; i++) {
        if (i % 2) stream_reset(st[i], ERR_CANCELLED);
        stream_free(st[i]);
    }
    h2raw_run(&r);
    assert_int_equal(rsts(&r, CANCEL), 10);
    h2raw_pass(&r, 60 * H2RAW_MS);
    assert_int_equal(rsts(&r, CANCEL), 11);
    h2raw_pass(&r, 500 * H2RAW_MS);
    assert_in_range(rsts(&r, CANCEL), 20, 22);
    session_get_info(r.s, &info);
    assert_int_equal(info.streams, MANY - rsts(&r, CANCEL));
    /* Those that wait cost nothing else: what comes for them goes. */
    unsigned before = rsts(&r, CANCEL);
    uint32_t answered = 0, ended = 0;
    for (uint32_t id = 1; id < 2 * MANY && !ended; id += 2) {
        if (h2raw_last(&r, H2RAW_RST, id)) continue;
        if (!answered) {
            answered = id;
            h2raw_status(&r, id, 200, false); /* taken up: may be cancelled at once */
            h2raw_frame(&r, H2RAW_DATA, 0, id, "abc", 3);
        } else {
            ended = id;
            h2raw_rst(&r, id, REFUSED);
        }
    }
    h2raw_run(&r);
    assert_int_equal(rsts(&r, CANCEL), before + 1);
    assert_non_null(h2raw_last(&r, H2RAW_RST, answered));
    h2raw_pass(&r, 10000 * H2RAW_MS);
    assert_int_equal(rsts(&r, CANCEL), MANY - 1);
    assert_null(h2raw_last(&r, H2RAW_RST, ended));
    session_get_info(r.s, &info);
    assert_int_equal(info.streams, 0);
    assert_true(session_deadline(r.s) == UINT64_MAX);
    h2raw_fini(&r);
}

static void requests_that_did_not_go_out_are_withdrawn(void **state) {
    (void)state;
    struct h2raw r;
    struct stream *st[MANY];
    h2raw_up(&r);
    for (unsigned i = 0; i < MANY; i++) {
        st[i] = h2raw_open(&r, NULL);
        assert_int_equal(stream_write(st[i], "abc", 3), 3);
    }
    for (unsigned i = 0; i < MANY; i++) stream_free(st[i]);
    h2raw_run(&r);
    assert_int_equal(r.n_frames, 0);
    /* The numbers are used up, the session goes on. */
    st[0] = h2raw_open(&r, NULL);
    h2raw_run(&r);
    assert_int_equal(h2raw_last(&r, H2RAW_HEADERS, 0)->id, 2 * MANY + 1);
    stream_free(st[0]);
    h2raw_fini(&r);
}

static void session_ends_while_cancels_wait(void **state) {
    (void)state;
    struct h2raw r;
    struct stream *st[MANY];
    h2raw_up(&r);
    for (unsigned i = 0; i < MANY; i++) st[i] = h2raw_open(&r, NULL);
    h2raw_run(&r);
    for (unsigned i = 0; i < MANY; i++) stream_reset(st[i], ERR_CANCELLED);
    for (unsigned i = 0; i < MANY; i += 2) stream_free(st[i]);
    h2raw_run(&r);
    h2raw_bytes(&r, NULL, 0);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    for (unsigned i = 1; i < MANY; i += 2) {
        assert_int_equal(peek(st[i]), ERR_CANCELLED);
        stream_free(st[i]);
    }
    h2raw_fini(&r);
}

/* ---- lingering ---- */

static void freed_after_finish(void **state) {
    (void)state;
    struct h2raw r;
    struct seen seen;
    struct session_info info;
    static const uint8_t bytes[100000];
    h2raw_up(&r);
    struct stream *st = open_seen(&r, &seen);
    h2raw_status(&r, 1, 200, false);
    h2raw_run(&r);
    assert_int_equal(stream_write(st, bytes, sizeof bytes), sizeof bytes);
    stream_finish(st);
    stream_free(st);
    h2raw_run(&r);
    assert_int_equal(r.data, 65535);
    /* What the peer says meanwhile is dropped without harm to the connection. */
    h2raw_frame(&r, H2RAW_DATA, 0, 1, bytes, 10000);
    h2raw_window(&r, 0, 1 << 20);
    h2raw_window(&r, 1, 1 << 20);
    h2raw_run(&r);
    assert_int_equal(r.data, sizeof bytes);
    assert_int_equal(h2raw_last(&r, H2RAW_DATA, 1)->flags, H2RAW_END_STREAM);
    assert_int_equal(r.count[H2RAW_RST], 0);
    session_get_info(r.s, &info);
    assert_int_equal(info.unread, 0);
    assert_int_equal(info.streams, 1);
    /* It had its time. */
    h2raw_pass(&r, 9900 * H2RAW_MS);
    assert_int_equal(r.count[H2RAW_RST], 0);
    h2raw_pass(&r, 200 * H2RAW_MS);
    assert_int_equal(h2raw_last(&r, H2RAW_RST, 1)->word, CANCEL);
    session_get_info(r.s, &info);
    assert_int_equal(info.streams, 0);
    /* One that the peer ends needs no reset, one that does not move is given up. */
    struct stream *a = open_seen(&r, &seen), *b = open_seen(&r, &seen);
    h2raw_status(&r, 3, 200, false);
    h2raw_status(&r, 5, 200, false);
    h2raw_run(&r);
    h2raw_forget(&r);
    stream_finish(a);
    assert_int_equal(stream_write(b, bytes, sizeof bytes), sizeof bytes);
    stream_finish(b);
    stream_free(a);
    stream_free(b);
    h2raw_run(&r);
    h2raw_frame(&r, H2RAW_DATA, H2RAW_END_STREAM, 3, NULL, 0);
    h2raw_run(&r);
    session_get_info(r.s, &info);
    assert_int_equal(info.streams, 1);
    h2raw_pass(&r, 29000 * H2RAW_MS);
    assert_int_equal(r.count[H2RAW_RST], 0);
    h2raw_pass(&r, 2000 * H2RAW_MS);
    assert_null(h2raw_last(&r, H2RAW_RST, 3));
    assert_non_null(h2raw_last(&r, H2RAW_RST, 5));
    h2raw_fini(&r);
}

static void freed_after_finish_before_the_response(void **state) {
    (void)state;
    struct h2raw r;
    struct seen seen;
    h2raw_up(&r);
    struct stream *st = open_seen(&r, &seen);
    assert_int_equal(stream_write(st, "abc", 3), 3);
    stream_finish(st);
    stream_free(st);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_RST], 0);
    h2raw_status(&r, 1, 200, false);
    h2raw_run(&r);
    assert_int_equal(h2raw_last(&r, H2RAW_DATA, 1)->flags, H2RAW_END_STREAM);
    h2raw_frame(&r, H2RAW_DATA, H2RAW_END_STREAM, 1, NULL, 0);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_RST], 0);
    assert_int_equal(seen.calls, 0);
    h2raw_fini(&r);
}

/* ---- GOAWAY and other ends of the session ---- */

static void goaway(void **state) {
    (void)state;
    struct h2raw r;
    struct seen a, b, c;
    int err;
    h2raw_up(&r);
    struct stream *one = open_seen(&r, &a), *two = open_seen(&r, &b), *three = open_seen(&r, &c);
    h2raw_status(&r, 1, 200, false);
    h2raw_run(&r);
    h2raw_goaway(&r, 3, NO_ERROR, "");
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DRAINING);
    assert_int_equal(r.states[SESSION_DRAINING], 1);
    assert_int_equal(session_capacity(r.s), 0);
    assert_null(h2raw_open(&r, &err));
    assert_int_equal(err, ERR_UPSTREAM_CLOSED);
    assert_int_equal(three->err, ERR_UPSTREAM_RETRY);
    assert_int_equal(c.deads, 1);
    stream_free(three);
    /* Those below go on. */
    h2raw_status(&r, 3, 200, false);
    h2raw_frame(&r, H2RAW_DATA, H2RAW_END_STREAM, 1, "abc", 3);
    h2raw_run(&r);
    assert_int_equal(two->status, 200);
    stream_finish(one);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DRAINING);
    stream_reset(two, ERR_CANCELLED);
    stream_free(two);
    h2raw_run(&r);
    /* The last one has ended: an orderly end. */
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_OK);
    assert_string_equal(session_error_text(r.s), "");
    assert_int_equal(h2raw_last(&r, H2RAW_GOAWAY, 0)->code, NO_ERROR);
    assert_int_equal(a.deads, 0);
    assert_int_equal(peek(one), STREAM_BYTES);
    stream_consume(one, 3);
    assert_int_equal(peek(one), STREAM_EOF);
    stream_free(one);
    h2raw_fini(&r);
}

static void goaway_lowers_its_id(void **state) {
    (void)state;
    struct h2raw r;
    struct seen a, b;
    h2raw_up(&r);
    struct stream *one = open_seen(&r, &a), *two = open_seen(&r, &b);
    h2raw_goaway(&r, 0x7fffffff, NO_ERROR, "");
    h2raw_run(&r);
    assert_int_equal(a.calls + b.calls, 0);
    h2raw_goaway(&r, 1, NO_ERROR, "");
    h2raw_run(&r);
    assert_int_equal(two->err, ERR_UPSTREAM_RETRY);
    assert_int_equal(a.calls, 0);
    /* Raised again: broken. */
    h2raw_goaway(&r, 3, NO_ERROR, "");
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_PROTOCOL);
    assert_int_equal(one->err, ERR_UPSTREAM_PROTOCOL);
    stream_free(one);
    stream_free(two);
    h2raw_fini(&r);
}

static void goaway_with_an_error(void **state) {
    (void)state;
    static const struct {
        uint32_t code;
        enum err err;
        const char *text;
    } cases[] = {
        {NO_ERROR, ERR_UPSTREAM_CLOSED, "after GOAWAY NO_ERROR too?many?"},
        {11, ERR_UPSTREAM_CLOSED, "after GOAWAY ENHANCE_YOUR_CALM too?many?"},
        {0x1f, ERR_UPSTREAM_AUTH, "after GOAWAY 0x1f too?many?"},
        {0x64, ERR_UPSTREAM_AUTH, "after GOAWAY 0x64 too?many?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct h2raw r;
        struct seen a;
        h2raw_up(&r);
        struct stream *one = open_seen(&r, &a);
        h2raw_goaway(&r, 1, cases[i].code, "too\nmany\x1b");
        h2raw_run(&r);
        assert_int_equal(session_get_state(r.s), SESSION_DRAINING);
        h2raw_bytes(&r, NULL, 0);
        h2raw_run(&r);
        assert_int_equal(session_error(r.s), cases[i].err);
        assert_non_null(strstr(session_error_text(r.s), cases[i].text));
        assert_int_equal(one->err, cases[i].err);
        stream_free(one);
        h2raw_fini(&r);
        /* Without streams it is over at once. */
        h2raw_up(&r);
        h2raw_goaway(&r, 0, cases[i].code, "");
        h2raw_run(&r);
        assert_int_equal(session_get_state(r.s), SESSION_DOWN);
        assert_int_equal(session_error(r.s), cases[i].code ? cases[i].err : ERR_OK);
        h2raw_fini(&r);
    }
}

/* Requests that wait for their turn when GOAWAY comes were never seen by the peer. */
static void goaway_and_requests_not_sent(void **state) {
    (void)state;
    struct h2raw r;
    int err;
    h2raw_up(&r);
    struct seen a;
    struct stream *one = open_seen(&r, &a);
    struct stream *late = h2raw_open(&r, &err);
    h2raw_goaway(&r, 1, NO_ERROR, "");
    h2raw_run(&r);
    assert_int_equal(late->err, ERR_UPSTREAM_RETRY);
    assert_int_equal(r.count[H2RAW_HEADERS], 1);
    stream_free(late);
    stream_free(one);
    h2raw_fini(&r);
}

static void eof(void **state) {
    (void)state;
    struct h2raw r;
    struct seen a, b;
    h2raw_init(&r, false);
    h2raw_start(&r);
    h2raw_bytes(&r, NULL, 0);
    h2raw_run(&r);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_CLOSED);
    assert_non_null(strstr(session_error_text(r.s), "before it sent its SETTINGS"));
    h2raw_fini(&r);

    h2raw_up(&r);
    struct stream *one = open_seen(&r, &a), *two = open_seen(&r, &b);
    h2raw_status(&r, 1, 200, false);
    h2raw_frame(&r, H2RAW_DATA, 0, 1, "abc", 3);
    h2raw_status(&r, 3, 200, false);
    h2raw_frame(&r, H2RAW_DATA, H2RAW_END_STREAM, 3, "abc", 3);
    h2raw_bytes(&r, NULL, 0);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_UPSTREAM_CLOSED);
    assert_string_equal(session_error_text(r.s), "the peer ended the connection");
    /* The streams outlive it, with what they had. */
    h2raw_fini(&r);
    assert_int_equal(a.deads, 1);
    assert_int_equal(one->err, ERR_UPSTREAM_CLOSED);
    assert_int_equal(peek(one), STREAM_BYTES);
    stream_consume(one, 3);
    assert_int_equal(peek(one), ERR_UPSTREAM_CLOSED);
    assert_int_equal(stream_write(one, "x", 1), ERR_UPSTREAM_CLOSED);
    stream_finish(one);
    stream_reset(one, ERR_CANCELLED);
    stream_free(one);
    stream_consume(two, 3);
    assert_int_equal(peek(two), STREAM_EOF);
    assert_int_equal(stream_write(two, "x", 1), ERR_UPSTREAM_CLOSED);
    stream_free(two);
}

static void closing(void **state) {
    (void)state;
    struct h2raw r;
    struct seen a;
    h2raw_up(&r);
    struct stream *one = open_seen(&r, &a);
    assert_int_equal(stream_write(one, "abc", 3), 3);
    session_close(r.s, ERR_SHUTDOWN, r.now);
    assert_int_equal(a.calls, 0); /* not from inside */
    h2raw_run(&r);
    assert_int_equal(r.states[SESSION_DOWN], 1);
    assert_int_equal(session_error(r.s), ERR_SHUTDOWN);
    assert_int_equal(one->err, ERR_SHUTDOWN);
    assert_int_equal(a.deads, 1);
    assert_int_equal(h2raw_last(&r, H2RAW_GOAWAY, 0)->code, NO_ERROR);
    session_close(r.s, ERR_INTERNAL, r.now);
    session_retire(r.s, r.now);
    session_ping(r.s, r.now);
    assert_int_equal(session_error(r.s), ERR_SHUTDOWN);
    stream_free(one);
    h2raw_fini(&r);
}

static void retiring(void **state) {
    (void)state;
    struct h2raw r;
    struct seen a;
    h2raw_up(&r);
    struct stream *one = open_seen(&r, &a);
    session_retire(r.s, r.now);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DRAINING);
    h2raw_status(&r, 1, 200, true);
    h2raw_run(&r);
    assert_int_equal(one->status, 200);
    stream_finish(one);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_OK);
    assert_int_equal(a.deads, 0);
    stream_free(one);
    h2raw_fini(&r);
    /* Idle: at once. */
    h2raw_up(&r);
    session_retire(r.s, r.now);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    assert_int_equal(session_error(r.s), ERR_OK);
    h2raw_fini(&r);
    /* A server tells. */
    h2raw_init(&r, true);
    h2raw_start(&r);
    h2raw_bytes(&r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    h2raw_frame(&r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    h2raw_frame(&r, H2RAW_HEADERS, H2RAW_END_HEADERS, 1, "\x02\x07" "CONNECT\x01\x06" "test:1", 17);
    h2raw_run(&r);
    session_retire(r.s, r.now);
    h2raw_run(&r);
    assert_int_equal(h2raw_last(&r, H2RAW_GOAWAY, 0)->word, 1);
    assert_int_equal(session_get_state(r.s), SESSION_DRAINING);
    stream_free(r.request);
    h2raw_run(&r);
    assert_int_equal(session_get_state(r.s), SESSION_DOWN);
    h2raw_fini(&r);
}

/* ---- limits on opening ---- */

static void max_concurrent_streams(void **state) {
    (void)state;
    struct h2raw r;
    struct stream *st[3];
    int err;
    h2raw_up(&r);
    h2raw_setting(&r, 3, 2);
    assert_int_equal(session_capacity(r.s), 2);
    st[0] = h2raw_open(&r, &err);
    st[1] = h2raw_open(&r, &err);
    assert_int_equal(session_capacity(r.s), 0);
    assert_null(h2raw_open(&r, &err));
    assert_int_equal(err, ERR_UPSTREAM_BUSY);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_HEADERS], 2);
    /* Lowered below what runs. */
    h2raw_setting(&r, 3, 0);
    assert_int_equal(session_capacity(r.s), 0);
    h2raw_rst(&r, 1, CANCEL);
    h2raw_run(&r);
    assert_int_equal(session_capacity(r.s), 0);
    h2raw_setting(&r, 3, 2);
    assert_int_equal(session_capacity(r.s), 1);
    st[2] = h2raw_open(&r, &err);
    assert_non_null(st[2]);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_HEADERS], 3);
    for (int i = 0; i < 3; i++) stream_free(st[i]);
    h2raw_fini(&r);
}

static void too_long_a_head(void **state) {
    (void)state;
    struct h2raw r;
    struct header head[SESSION_HEAD_FIELDS + 1];
    int err;
    h2raw_up(&r);
    for (unsigned i = 0; i < SESSION_HEAD_FIELDS + 1; i++) head[i] = HEADER("x", "y");
    assert_null(session_open(r.s, head, SESSION_HEAD_FIELDS + 1, false, r.now, &err));
    assert_int_equal(err, ERR_LIMIT);
    h2raw_fini(&r);
}

static void ping(void **state) {
    (void)state;
    struct h2raw r;
    struct session_info info;
    h2raw_up(&r);
    session_ping(r.s, r.now);
    session_ping(r.s, r.now);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_PING], 1);
    const uint8_t *opaque = r.out + r.out_len - 8;
    uint8_t copy[8], other[8] = {9};
    memcpy(copy, opaque, 8);
    r.now += 3 * H2RAW_MS;
    h2raw_frame(&r, H2RAW_PING, H2RAW_ACK, 0, other, 8); /* not ours */
    session_get_info(r.s, &info);
    assert_int_equal(info.rtt, 0);
    r.now += 4 * H2RAW_MS;
    h2raw_frame(&r, H2RAW_PING, H2RAW_ACK, 0, copy, 8);
    session_get_info(r.s, &info);
    assert_int_equal(info.rtt, 7 * H2RAW_MS);
    assert_int_equal(info.last_rx, r.now);
    session_ping(r.s, r.now);
    h2raw_run(&r);
    assert_int_equal(r.count[H2RAW_PING], 2);
    h2raw_fini(&r);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(response_and_end_at_once),
        cmocka_unit_test(refusals_come_as_open),
        cmocka_unit_test(data_may_precede_the_response),
        cmocka_unit_test(finish_waits_for_the_response),
        cmocka_unit_test(fin_with_the_head),
        cmocka_unit_test(resets_and_what_they_mean),
        cmocka_unit_test(no_error_after_the_end_stops_writing_only),
        cmocka_unit_test(our_resets),
        cmocka_unit_test(cancels_of_unanswered_requests_take_turns),
        cmocka_unit_test(requests_that_did_not_go_out_are_withdrawn),
        cmocka_unit_test(session_ends_while_cancels_wait),
        cmocka_unit_test(freed_after_finish),
        cmocka_unit_test(freed_after_finish_before_the_response),
        cmocka_unit_test(goaway),
        cmocka_unit_test(goaway_lowers_its_id),
        cmocka_unit_test(goaway_with_an_error),
        cmocka_unit_test(goaway_and_requests_not_sent),
        cmocka_unit_test(eof),
        cmocka_unit_test(closing),
        cmocka_unit_test(retiring),
        cmocka_unit_test(max_concurrent_streams),
        cmocka_unit_test(too_long_a_head),
        cmocka_unit_test(ping),
    };
    int r = cmocka_run_group_tests_name("h2 ends", tests, NULL, NULL);
    buf_trim();
    return r;
}
