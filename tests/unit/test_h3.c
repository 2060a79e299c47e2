#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/h3_pair.h"
#include "session/quic.h"
#include "session/session_impl.h"

#define MIB (1 << 20)
#define CANCELLED 0x10c

/* ---- an owner of streams ---- */

struct owner {
    struct stream *st;
    unsigned opens, ins, outs, deads;
    size_t read;
    bool eof, reading;
    uint32_t sum; /* of what was read */
    size_t to_write, written;
    bool finish;
};

static uint8_t byte_at(size_t i) { return (uint8_t)(i * 2654435761u >> 11); }

static uint32_t sum_more(uint32_t sum, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) sum = (sum ^ p[i]) * 16777619u;
    return sum;
}

static void read_on(struct owner *w) {
    const uint8_t *p;
    size_t n;
    int r;
    while ((r = stream_peek(w->st, &p, &n)) == STREAM_BYTES) {
        w->sum = sum_more(w->sum, p, n);
        w->read += n;
        stream_consume(w->st, n);
    }
    if (r == STREAM_EOF) w->eof = true;
}

static void write_on(struct owner *w) {
    uint8_t bytes[16384];
    while (w->written < w->to_write) {
        size_t n = w->to_write - w->written;
        if (n > sizeof bytes) n = sizeof bytes;
        for (size_t i = 0; i < n; i++) bytes[i] = byte_at(w->written + i);
        long r = stream_write(w->st, bytes, n);
        if (r < 0) return;
        w->written += (size_t)r;
        if ((size_t)r < n) return;
    }
    if (w->finish) stream_finish(w->st);
    w->finish = false;
}

static void on_event(struct stream *st, unsigned events, void *arg) {
    struct owner *w = arg;
    assert_ptr_equal(st, w->st);
    w->opens += !!(events & STREAM_OPEN);
    w->ins += !!(events & STREAM_IN);
    w->outs += !!(events & STREAM_OUT);
    w->deads += !!(events & STREAM_DEAD);
    if (w->reading) read_on(w);
    if (events & STREAM_OUT) write_on(w);
}

static void own(struct owner *w, struct stream *st, bool reading) {
    *w = (struct owner){.st = st, .reading = reading, .sum = 1};
    stream_own(st, on_event, w);
    if (reading) read_on(w);
}

/* ---- pairs ---- */

static struct session *client(struct session_pair *p) { return p->side[PAIR_CLIENT].session; }

static struct session *server(struct session_pair *p) { return p->side[PAIR_SERVER].session; }

static int make_raw_server(struct session **out, const struct session_config *c) {
    return c->server ? qraw_new(out, c) : session_new(out, c);
}

/* A client, and a server of which the test writes every byte. */
static struct session_pair_config raw_config(void) {
    struct session_pair_config c;
    h3_pair_config_init(&c, true);
    c.make = make_raw_server;
    return c;
}

/* The server's control stream with empty SETTINGS. */
static void raw_settings(struct session_pair *p) {
    qraw_write(server(p), qraw_open(server(p), false), "\0\4\0", 3, false);
}

static struct session_pair *raw_pair(const struct session_pair_config *c) {
    struct session_pair_config plain = raw_config();
    struct session_pair *p = h3_pair_new(c ? c : &plain);
    assert_non_null(p);
    raw_settings(p);
    session_pair_settle(p, 50 * PAIR_MS);
    return p;
}

static struct session_pair *pair_with(struct session_pair_config *c) {
    struct session_pair *p = session_pair_new(c);
    assert_non_null(p);
    if (!session_pair_up(p)) fail_msg("seed %u: %s", (unsigned)c->seed, session_error_text(p->side[0].session));
    return p;
}

static void settle(struct session_pair *p) { session_pair_settle(p, 100 * PAIR_MS); }

static const struct header connect_head[] = {HEADER(":method", "CONNECT"),
                                             HEADER(":authority", "example.test:443")};

static void open_stream(struct session_pair *p, struct owner *w, bool fin) {
    int err;
    struct stream *st = session_open(client(p), connect_head, 2, fin, p->now, &err);
    assert_non_null(st);
    own(w, st, true);
}

/* HEADERS with a status, as the QPACK static table has it, or spelt out. */
static void raw_answer(struct session_pair *p, int64_t id, int status) {
    uint8_t spelt[] = {1, 8, 0, 0, 0x5f, 0x09, 3, '0', '0', '0'};
    spelt[7] = (uint8_t)('0' + status / 100);
    spelt[8] = (uint8_t)('0' + status / 10 % 10);
    spelt[9] = (uint8_t)('0' + status % 10);
    if (status == 200)
        qraw_write(server(p), id, "\1\3\0\0\xd9", 5, false);
    else
        qraw_write(server(p), id, spelt, sizeof spelt, false);
}

/* One CONNECT, number n of the session, answered unless status is 0. */
static struct qraw_stream *raw_tunnel(struct session_pair *p, struct owner *w, unsigned n, int status) {
    open_stream(p, w, false);
    settle(p);
    struct qraw_stream *t = qraw_stream(server(p), 4 * (int64_t)n);
    assert_non_null(t);
    if (!status) return t;
    raw_answer(p, t->id, status);
    settle(p);
    assert_int_equal(w->opens, 1);
    assert_int_equal(w->st->status, status);
    return t;
}

/* ---- frames in raw bytes ---- */

struct frames {
    size_t count, data; /* frames, and bytes in DATA */
    unsigned first_type, last_type;
    size_t last_len;
    uint32_t sum; /* of DATA */
    bool whole;
};

static uint64_t varint(const uint8_t **p, const uint8_t *end) {
    if (*p >= end) return UINT64_MAX;
    unsigned n = 1u << (**p >> 6);
    if ((size_t)(end - *p) < n) return UINT64_MAX;
    uint64_t v = **p & 0x3f;
    for (unsigned i = 1; i < n; i++) v = v << 8 | (*p)[i];
    *p += n;
    return v;
}

static struct frames parse(const struct qraw_stream *t) {
    struct frames f = {.sum = 1};
    const uint8_t *p = t->in, *end = t->in + t->in_len;
    while (p < end) {
        uint64_t type = varint(&p, end), len = varint(&p, end);
        if (len == UINT64_MAX || len > (size_t)(end - p)) return f;
        if (!f.count++) f.first_type = (unsigned)type;
        f.last_type = (unsigned)type;
        f.last_len = len;
        if (!type) {
            f.data += len;
            f.sum = sum_more(f.sum, p, len);
        }
        p += len;
    }
    f.whole = true;
    return f;
}

static uint32_t pattern_sum(size_t n) {
    uint32_t sum = 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t b = byte_at(i);
        sum = sum_more(sum, &b, 1);
    }
    return sum;
}

/* What deployed endpoints need: HEADERS, DATA, ..., and at the very end 00 00 with the FIN on it. */
static void assert_ends_with_empty_data(const struct qraw_stream *t, size_t payload) {
    struct frames f = parse(t);
    assert_true(f.whole);
    assert_int_equal(f.first_type, 1);
    assert_int_equal(f.last_type, 0);
    assert_int_equal(f.last_len, 0);
    assert_int_equal(f.data, payload);
    assert_int_equal(f.sum, pattern_sum(payload));
    assert_true(t->fin && t->last_fin && !t->reset);
    assert_int_equal(t->last_len, 2);
    assert_memory_equal(t->last, "\0\0", 2);
}

static void write_all(struct owner *w, size_t n, bool finish) {
    w->to_write += n;
    w->finish = finish;
    write_on(w);
}

/* ---- the end of a stream ---- */

static void test_finish_is_an_empty_data_frame(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    (void)state;
    const size_t sizes[] = {0, 1, 5, 63, 64, 1000, 16384, 65536, 300000};
    unsigned n = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        /* Finished together with the last bytes, and long after them. */
        for (int later = 0; later < 2; later++) {
            struct qraw_stream *t = raw_tunnel(p, &w, n++, 200);
            write_all(&w, sizes[i], !later);
            settle(p);
            if (later) {
                assert_false(t->fin);
                stream_finish(w.st);
                stream_finish(w.st);
                settle(p);
            }
            assert_ends_with_empty_data(t, sizes[i]);
            qraw_write(server(p), t->id, NULL, 0, true);
            settle(p);
            assert_true(w.eof);
            assert_int_equal(w.deads, 0);
            assert_true(t->closed);
            assert_int_equal(t->closed_code, 0);
            stream_free(w.st);
        }
    }
    session_pair_free(p);
}

static void test_finish_waits_for_the_answer(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w, v;
    (void)state;
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 0);
    write_all(&w, 1000, true);
    open_stream(p, &v, true);
    session_pair_pass(p, 5 * PAIR_S);
    struct qraw_stream *u = qraw_stream(server(p), 4);
    assert_int_equal(parse(t).data, 1000);
    assert_false(t->fin);
    assert_false(u->fin);
    /* Not the final answer. */
    raw_answer(p, 0, 103);
    settle(p);
    assert_false(t->fin);
    assert_int_equal(w.opens, 0);
    raw_answer(p, 0, 200);
    raw_answer(p, 4, 200);
    settle(p);
    assert_int_equal(w.opens, 1);
    assert_ends_with_empty_data(t, 1000);
    assert_ends_with_empty_data(u, 0);
    stream_free(w.st);
    stream_free(v.st);
    session_pair_free(p);
}

static void test_other_requests_end_at_once(void **state) {
    struct session_pair *p = raw_pair(NULL);
    const struct header get[] = {HEADER(":method", "GET"), HEADER(":scheme", "https"),
                                 HEADER(":authority", "a.test"), HEADER(":path", "/")};
    int err;
    struct owner w;
    (void)state;
    own(&w, session_open(client(p), get, 4, true, p->now, &err), true);
    settle(p);
    struct qraw_stream *t = qraw_stream(server(p), 0);
    assert_true(t->fin);
    assert_int_equal(parse(t).count, 1);
    raw_answer(p, 0, 200);
    qraw_write(server(p), 0, "\0\5hello", 7, true);
    settle(p);
    assert_int_equal(w.read, 5);
    assert_true(w.eof && t->closed);
    stream_free(w.st);
    session_pair_free(p);
}

static void test_end_survives_loss(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct session_pair_config c = raw_config();
        struct owner w;
        c.seed = seed;
        struct session_pair *p = pair_with(&c);
        raw_settings(p);
        p->config.link[0].loss = p->config.link[1].loss = 300;
        p->config.link[0].jitter = 10 * PAIR_MS;
        open_stream(p, &w, false);
        session_pair_pass(p, 5 * PAIR_S);
        raw_answer(p, 0, 200);
        session_pair_pass(p, 5 * PAIR_S);
        assert_int_equal(w.opens, 1);
        write_all(&w, 3000, false);
        session_pair_pass(p, PAIR_S);
        stream_finish(w.st);
        session_pair_pass(p, 30 * PAIR_S);
        struct frames f = parse(qraw_stream(server(p), 0));
        assert_true(f.whole && qraw_stream(server(p), 0)->fin);
        assert_int_equal(f.data, 3000);
        assert_int_equal(f.last_len, 0);
        stream_free(w.st);
        session_pair_free(p);
    }
}

/* The peer's window ends before the two bytes, and between them. */
static void test_end_waits_for_window(void **state) {
    (void)state;
    for (size_t left = 0; left < 2; left++) {
        struct session_pair_config c = raw_config();
        struct owner w;
        c.server.stream_window = 4096;
        struct session_pair *p = raw_pair(&c);
        qraw_starve(server(p), true);
        struct qraw_stream *t = raw_tunnel(p, &w, 0, 200);
        size_t payload = 4096 - t->in_len - 3 - left; /* one DATA frame with a length of two bytes */
        write_all(&w, payload, false);
        settle(p);
        assert_int_equal(t->in_len, 4096 - left);
        stream_finish(w.st);
        settle(p);
        assert_false(t->fin);
        quic_credit_stream(qraw_quic(server(p)), 0, 4096);
        session_wake(server(p));
        settle(p);
        struct frames f = parse(t);
        assert_true(f.whole && t->fin);
        assert_int_equal(f.data, payload);
        assert_int_equal(f.last_len, 0);
        assert_int_equal(f.last_type, 0);
        assert_int_equal(t->in_len, 4096 - left + 2);
        stream_free(w.st);
        session_pair_free(p);
    }
}

static void test_half_close_in_both_orders(void **state) {
    struct session_pair_config c;
    struct stream *a, *b;
    struct owner w, v;
    (void)state;
    h3_pair_config_init(&c, true);
    for (int order = 0; order < 2; order++) {
        struct session_pair *p = pair_with(&c);
        assert_true(h3_pair_tunnel(p, 200, &a, &b));
        own(&w, order ? b : a, true);
        own(&v, order ? a : b, true);
        write_all(&w, 100000, true);
        settle(p);
        assert_true(v.eof && v.read == 100000 && v.sum == pattern_sum(100000));
        write_all(&v, 3000000, true);
        settle(p);
        assert_true(w.eof && w.read == 3000000 && w.sum == pattern_sum(3000000));
        assert_int_equal(w.deads + v.deads, 0);
        stream_free(a);
        stream_free(b);
        settle(p);
        struct session_info i;
        session_get_info(client(p), &i);
        assert_int_equal(i.streams, 0);
        session_pair_free(p);
    }
}

/* ---- resets of ours ---- */

static void test_reset_ends_and_stops(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    (void)state;
    const size_t sizes[] = {0, 5, 100000};
    for (unsigned i = 0; i < 3; i++) {
        struct qraw_stream *t = raw_tunnel(p, &w, i, 200);
        write_all(&w, sizes[i], false);
        settle(p);
        if (i == 1)
            stream_free(w.st);
        else
            stream_reset(w.st, ERR_CLIENT_RESET);
        settle(p);
        assert_ends_with_empty_data(t, sizes[i]);
        assert_true(t->closed); /* STOP_SENDING ended our direction */
        assert_int_equal(t->closed_code, CANCELLED);
        if (i != 1) stream_free(w.st);
    }
    session_pair_free(p);
}

/* STOP_SENDING must not overtake the end. */
static void test_reset_stops_after_the_end(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct session_out o;
    struct owner w;
    (void)state;
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 200);
    p->now += PAIR_S;
    stream_reset(w.st, ERR_CLIENT_RESET);
    unsigned packets = 0;
    while (session_out(client(p), &o, p->now)) {
        for (size_t at = 0; at < o.n; at += o.segment) {
            size_t n = o.n - at < o.segment ? o.n - at : o.segment;
            session_in_datagram(server(p), &p->addr[PAIR_CLIENT], 0, o.p + at, n, p->now);
            qraw_write(server(p), 0, "x", 1, false);
            struct session_out back;
            while (session_out(server(p), &back, p->now)) session_sent(server(p), back.n, p->now);
            if (!packets++) {
                assert_true(t->fin && !t->stopped);
            }
        }
        session_sent(client(p), o.n, p->now);
    }
    assert_int_equal(packets, 2);
    assert_true(t->stopped);
    stream_free(w.st);
    session_pair_free(p);
}

static void test_reset_with_bytes_waiting(void **state) {
    (void)state;
    for (int strict = 0; strict < 2; strict++) {
        struct session_pair_config c = raw_config();
        struct owner w;
        c.server.stream_window = 10000;
        c.client.strict_reset = strict;
        struct session_pair *p = raw_pair(&c);
        struct qraw_stream *t;
        unsigned n = 0;
        if (strict) { /* even when nothing waits */
            t = raw_tunnel(p, &w, n++, 200);
            stream_reset(w.st, ERR_CLIENT_RESET);
            settle(p);
            assert_true(t->reset && !t->fin);
            assert_int_equal(t->reset_code, CANCELLED);
            stream_free(w.st);
        }
        qraw_starve(server(p), true);
        /* More than the window; and exactly the window, so that only the end is left. */
        for (int exact = 0; exact < 2; exact++) {
            t = raw_tunnel(p, &w, n++, 200);
            write_all(&w, exact ? 10000 - t->in_len - 3 : 300000, false);
            settle(p);
            assert_int_equal(t->in_len, 10000);
            stream_reset(w.st, ERR_CLIENT_RESET);
            settle(p);
            assert_true(t->reset && !t->fin);
            assert_int_equal(t->reset_code, CANCELLED);
            assert_true(t->closed);
            stream_free(w.st);
        }
        session_pair_free(p);
    }
}

static void test_reset_before_the_answer(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    (void)state;
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 0);
    stream_free(w.st);
    settle(p);
    assert_ends_with_empty_data(t, 0);
    session_pair_free(p);
}

static void test_free_after_finish_lingers(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct session_info i;
    struct owner w;
    (void)state;
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 200);
    p->config.link[PAIR_SERVER].hold = true; /* no acknowledgement */
    write_all(&w, 5000, true);
    stream_free(w.st);
    session_pair_pass(p, 500 * PAIR_MS);
    assert_ends_with_empty_data(t, 5000);
    qraw_write(server(p), 0, "\0\5hello", 7, false);
    session_pair_pass(p, 100 * PAIR_MS);
    assert_false(t->stopped || t->closed);
    p->config.link[PAIR_SERVER].hold = false;
    session_pair_pass(p, 5 * PAIR_S);
    /* Delivered: now nobody wants more. */
    assert_true(t->closed);
    assert_int_equal(t->closed_code, CANCELLED);
    session_get_info(client(p), &i);
    assert_int_equal(i.streams, 0);
    assert_int_equal(i.unread, 0);
    session_pair_free(p);
}

static void test_lingering_tunnel_is_not_wanted(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct session_info i;
    struct owner w;
    (void)state;
    /* Freed before the answer: a bad answer ends it, a good one lets it be delivered. */
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 0);
    write_all(&w, 100, true);
    stream_free(w.st);
    struct qraw_stream *u = raw_tunnel(p, &w, 1, 0);
    write_all(&w, 100, true);
    stream_free(w.st);
    settle(p);
    assert_false(t->fin || u->fin || t->reset || u->reset);
    raw_answer(p, 0, 502);
    raw_answer(p, 4, 200);
    settle(p);
    assert_true(t->reset);
    assert_ends_with_empty_data(u, 100);
    qraw_write(server(p), 0, NULL, 0, true);
    qraw_write(server(p), 4, NULL, 0, true);
    settle(p);
    session_get_info(client(p), &i);
    assert_int_equal(i.streams, 0);
    session_pair_free(p);
}

/* ---- ends of the peer's ---- */

static void test_reset_codes(void **state) {
    static const struct {
        int status;
        uint64_t code;
        enum err err;
    } cases[] = {
        {0, 0x10b, ERR_UPSTREAM_RETRY},   {200, 0x10b, ERR_UPSTREAM_RETRY}, {0, 0x10c, ERR_UPSTREAM_RESET},
        {0, 0x100, ERR_UPSTREAM_RESET},   {200, 0x10c, ERR_TARGET_RESET},   {200, 0x10f, ERR_TARGET_RESET},
        {200, 0x100, ERR_TARGET_RESET},   {200, 0, ERR_TARGET_RESET},       {502, 0x10f, ERR_UPSTREAM_RESET},
        {407, 0x102, ERR_UPSTREAM_RESET}, {0, 0x1f, ERR_UPSTREAM_AUTH},     {200, 0x1f, ERR_UPSTREAM_AUTH},
        {200, 0x64, ERR_UPSTREAM_AUTH},
    };
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct qraw_stream *t = raw_tunnel(p, &w, i, cases[i].status);
        w.reading = false;
        if (cases[i].status) qraw_write(server(p), t->id, "\0\5hello", 7, false);
        settle(p);
        qraw_reset(server(p), t->id, cases[i].code);
        settle(p);
        assert_int_equal(w.deads, 1);
        assert_int_equal(w.st->err, cases[i].err);
        assert_true(stream_write(w.st, "x", 1) == (long)cases[i].err);
        read_on(&w);
        assert_int_equal(w.read, cases[i].status ? 5 : 0);
        assert_false(w.eof);
        stream_free(w.st);
        settle(p);
        assert_true(t->closed);
    }
    assert_int_equal(session_get_state(client(p)), SESSION_UP);
    session_pair_free(p);
}

static void test_end_without_answer(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    (void)state;
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 0);
    qraw_write(server(p), 0, NULL, 0, true);
    settle(p);
    assert_int_equal(w.deads, 1);
    assert_int_equal(w.st->err, ERR_UPSTREAM_RESET);
    assert_true(t->reset);
    assert_int_equal(session_get_state(client(p)), SESSION_UP);
    stream_free(w.st);
    session_pair_free(p);
}

/* What a deployed endpoint says when the target reset, and after every answer that is no tunnel. */
static void test_end_and_stop_is_benign(void **state) {
    const uint64_t codes[] = {0, 0x100};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct session_pair *p = raw_pair(NULL);
        struct owner w;
        struct qraw_stream *t = raw_tunnel(p, &w, 0, i ? 407 : 200);
        qraw_write(server(p), 0, "\0\5hello", 7, true);
        qraw_stop(server(p), 0, codes[i]);
        settle(p);
        assert_true(w.eof);
        assert_int_equal(w.read, 5);
        assert_int_equal(w.deads, 0);
        assert_true(w.outs >= 1);
        assert_int_equal(stream_write(w.st, "x", 1), ERR_UPSTREAM_STOPPED);
        stream_finish(w.st);
        settle(p);
        assert_int_equal(w.deads, 0);
        assert_true(t->closed);
        stream_free(w.st);
        session_pair_free(p);
    }
}

static void test_stop_alone(void **state) {
    struct session_pair_config c = raw_config();
    struct owner w;
    (void)state;
    c.server.stream_window = 20000;
    struct session_pair *p = raw_pair(&c);
    /* An idle writer learns at its next write. */
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 200);
    qraw_stop(server(p), 0, 0x10c);
    settle(p);
    assert_int_equal(w.outs, 0);
    assert_int_equal(stream_write(w.st, "x", 1), 1);
    settle(p);
    assert_int_equal(w.outs, 1);
    assert_int_equal(stream_write(w.st, "x", 1), ERR_UPSTREAM_STOPPED);
    qraw_write(server(p), 0, "\0\5hello", 7, true);
    settle(p);
    assert_true(w.eof && w.read == 5);
    assert_int_equal(w.deads, 0);
    assert_true(t->reset && t->closed);
    stream_free(w.st);
    /* One that waits for window is told. */
    qraw_starve(server(p), true);
    t = raw_tunnel(p, &w, 1, 200);
    write_all(&w, MIB, false);
    settle(p);
    assert_true(w.written < MIB);
    assert_int_equal(w.outs, 0);
    qraw_stop(server(p), 4, 0x10c);
    settle(p);
    assert_int_equal(w.outs, 1);
    assert_int_equal(stream_write(w.st, "x", 1), ERR_UPSTREAM_STOPPED);
    assert_int_equal(w.deads, 0);
    stream_free(w.st);
    settle(p);
    assert_true(t->stopped || t->reset);
    session_pair_free(p);
}

/* ---- answers ---- */

static void test_answers(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    size_t n;
    (void)state;
    raw_tunnel(p, &w, 0, 0);
    raw_answer(p, 0, 100);
    raw_answer(p, 0, 103);
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
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    (void)state;
    const struct {
        unsigned count;
        size_t len;
        bool fits;
    } cases[] = {{99, 200, true}, {100, 200, false}, {2, 16000, true}, {3, 16000, false}, {60, 16000, false}};
    for (unsigned i = 0; i < 5; i++) {
        struct qraw_stream *t = raw_tunnel(p, &w, i, 0);
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
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct qraw_stream *t = raw_tunnel(p, &w, i, 0);
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
    struct session_pair_config c = raw_config();
    struct session_pair *p = pair_with(&c);
    struct owner w;
    char word[32];
    open_stream(p, &w, false);
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
    struct session_pair_config c = raw_config();
    struct session_pair *p = raw_pair(&c);
    (void)state;
    qraw_write(server(p), qraw_open(server(p), true), "\1\3\0\0\xd9", 5, false);
    settle(p);
    assert_int_equal(session_error(client(p)), ERR_UPSTREAM_PROTOCOL);
    assert_non_null(strstr(session_error_text(server(p)), "0x103"));
    session_pair_free(p);
}

/* Unknown frames and stream types are skipped, however large, and cost no memory. */
static void test_unknown_things_are_skipped(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w;
    static uint8_t junk[500000];
    (void)state;
    size_t chunks = buf_chunks();
    struct qraw_stream *t = raw_tunnel(p, &w, 0, 200);
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

/* ---- going away ---- */

static void test_goaway(void **state) {
    struct session_pair *p = raw_pair(NULL);
    struct owner w[3];
    int err;
    (void)state;
    for (unsigned i = 0; i < 3; i++) raw_tunnel(p, &w[i], i, i ? 0 : 200);
    qraw_write(server(p), 3, "\7\1\4", 3, false);
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    assert_int_equal(p->side[PAIR_CLIENT].states[SESSION_DRAINING], 1);
    assert_int_equal(session_capacity(client(p)), 0);
    assert_null(session_open(client(p), connect_head, 2, false, p->now, &err));
    assert_int_equal(err, ERR_UPSTREAM_CLOSED);
    assert_int_equal(w[0].deads, 0);
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(w[i].deads, 1);
        assert_int_equal(w[i].st->err, ERR_UPSTREAM_RETRY);
        assert_true(qraw_stream(server(p), 4 * (int64_t)i)->reset);
        qraw_write(server(p), 4 * (int64_t)i, NULL, 0, true);
        stream_free(w[i].st);
    }
    /* The one below goes on, and with it the session ends. */
    write_all(&w[0], 50000, true);
    settle(p);
    assert_ends_with_empty_data(qraw_stream(server(p), 0), 50000);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    qraw_write(server(p), 0, "\0\5hello", 7, true);
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    assert_int_equal(session_error(client(p)), ERR_OK);
    assert_non_null(strstr(session_error_text(server(p)), "application code 0x100"));
    /* It had ended in order: no death, and its bytes are there. */
    assert_int_equal(w[0].deads, 0);
    assert_int_equal(w[0].read, 5);
    assert_true(w[0].eof);
    stream_free(w[0].st);
    session_pair_free(p);
}

static void test_server_retires(void **state) {
    struct session_pair_config c;
    struct stream *a, *b;
    struct owner w, v, late;
    (void)state;
    h3_pair_config_init(&c, true);
    struct session_pair *p = pair_with(&c);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    own(&w, a, true);
    own(&v, b, true);
    session_retire(server(p), p->now);
    /* On its way before the GOAWAY is seen: it may be tried elsewhere. */
    open_stream(p, &late, false);
    settle(p);
    assert_int_equal(late.deads, 1);
    assert_int_equal(late.st->err, ERR_UPSTREAM_RETRY);
    assert_int_equal(p->n_requests, 0);
    stream_free(late.st);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    assert_int_equal(session_get_state(server(p)), SESSION_DRAINING);
    write_all(&w, 100000, true);
    write_all(&v, 100000, true);
    settle(p);
    assert_true(w.eof && v.eof && w.read == 100000 && v.read == 100000);
    assert_int_equal(w.deads + v.deads, 0);
    for (int i = 0; i < 2; i++) assert_int_equal(session_get_state(p->side[i].session), SESSION_DOWN);
    stream_free(a);
    stream_free(b);
    session_pair_free(p);
}

static void test_client_retires(void **state) {
    struct session_pair_config c;
    struct stream *a, *b;
    (void)state;
    h3_pair_config_init(&c, true);
    struct session_pair *p = pair_with(&c);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    session_retire(client(p), p->now);
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    stream_free(a);
    stream_free(b);
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    assert_int_equal(session_error(client(p)), ERR_OK);
    session_pair_free(p);
    /* Without streams at once; while starting, too. */
    p = pair_with(&c);
    session_retire(client(p), p->now);
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    session_pair_free(p);
    p = session_pair_new(&c);
    session_retire(client(p), p->now);
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    assert_int_equal(session_error(client(p)), ERR_OK);
    session_pair_free(p);
}

static void test_session_ends_under_streams(void **state) {
    struct session_pair_config c;
    struct stream *a[3], *b[3];
    struct owner w[3];
    const uint8_t *bytes;
    size_t n;
    (void)state;
    h3_pair_config_init(&c, true);
    for (int how = 0; how < 3; how++) {
        struct session_pair *p = pair_with(&c);
        for (int i = 0; i < 3; i++) {
            assert_true(h3_pair_tunnel(p, 200, &a[i], &b[i]));
            own(&w[i], a[i], false);
        }
        /* One with unread bytes, one that ended in order both ways, one with unsent bytes. */
        assert_int_equal(stream_write(b[0], "hello", 5), 5);
        stream_finish(a[1]);
        stream_finish(b[1]);
        settle(p);
        p->config.link[0].hold = p->config.link[1].hold = true;
        write_all(&w[2], MIB, false);
        enum err err = ERR_UPSTREAM_CLOSED;
        if (how == 0) {
            session_free(client(p));
            p->side[PAIR_CLIENT].session = NULL;
        } else if (how == 1) {
            err = ERR_SHUTDOWN;
            session_close(client(p), err, p->now);
        } else {
            err = ERR_UPSTREAM_TIMEOUT;
            session_pair_pass(p, 200 * PAIR_S);
        }
        settle(p);
        assert_int_equal(w[0].deads, 1);
        assert_int_equal(w[1].deads, 0);
        assert_int_equal(w[2].deads, 1);
        assert_int_equal(w[0].st->err, err);
        assert_int_equal(w[2].st->err, err);
        assert_int_equal(stream_peek(a[0], &bytes, &n), STREAM_BYTES);
        assert_memory_equal(bytes, "hello", 5);
        stream_consume(a[0], 5);
        assert_int_equal(stream_peek(a[0], &bytes, &n), err);
        assert_int_equal(stream_peek(a[1], &bytes, &n), STREAM_EOF);
        assert_int_equal(stream_write(a[2], "x", 1), err);
        assert_true(session_respond(b[2], connect_head, 1, true) < 0);
        size_t len;
        assert_memory_equal(session_stream_header(a[0], ":status", &len), "200", 3);
        for (int i = 0; i < 3; i++) {
            stream_finish(a[i]);
            stream_reset(a[i], ERR_CANCELLED);
            stream_free(a[i]);
            stream_free(b[i]);
        }
        session_pair_free(p);
    }
}

/* ---- windows ---- */

static void test_stuck_reader_harms_nobody(void **state) {
    struct session_pair_config c;
    struct stream *a, *b, *d, *e;
    struct owner stuck, stuck_w, good, good_w;
    struct session_info i;
    (void)state;
    h3_pair_config_init(&c, true);
    struct session_pair *p = pair_with(&c);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    assert_true(h3_pair_tunnel(p, 200, &d, &e));
    own(&stuck, a, false);
    own(&stuck_w, b, true);
    own(&good, d, true);
    own(&good_w, e, true);
    write_all(&stuck_w, 64 * MIB, true);
    write_all(&good_w, 24 * MIB, true);
    settle(p);
    assert_true(good.eof && good.read == 24 * MIB && good.sum == pattern_sum(24 * MIB));
    session_get_info(client(p), &i);
    /* Its window, less what the heads of frames took. */
    assert_in_range(i.unread, 6 * MIB - 4000, 6 * MIB);
    assert_false(i.congested);
    /* It can go on. */
    stuck.reading = true;
    read_on(&stuck);
    settle(p);
    assert_true(stuck.eof && stuck.read == 64 * MIB && stuck.sum == pattern_sum(64 * MIB));
    session_get_info(client(p), &i);
    assert_int_equal(i.unread, 0);
    for (int k = 0; k < 4; k++) stream_free((struct stream *[]){a, b, d, e}[k]);
    session_pair_free(p);
}

static void test_budget_bounds_memory(void **state) {
    struct session_pair_config c;
    struct stream *a[8], *b[8];
    struct owner w[8], v[8];
    struct session_info i;
    (void)state;
    h3_pair_config_init(&c, true);
    c.client.budget = MIB;
    c.client.session_window = 2 * MIB;
    c.client.stream_window = MIB;
    struct session_pair *p = pair_with(&c);
    for (int k = 0; k < 8; k++) {
        assert_true(h3_pair_tunnel(p, 200, &a[k], &b[k]));
        own(&w[k], a[k], false);
        own(&v[k], b[k], true);
    }
    for (int k = 0; k < 8; k++) write_all(&v[k], 3 * MIB, true);
    settle(p);
    session_get_info(client(p), &i);
    assert_true(i.congested);
    assert_in_range(i.unread, MIB, 3 * MIB);
    /* One that frees its stream without reading gives its share back. */
    size_t before = i.unread;
    stream_free(a[0]);
    session_get_info(client(p), &i);
    assert_true(i.unread < before);
    for (int k = 1; k < 8; k++) {
        w[k].reading = true;
        read_on(&w[k]);
    }
    settle(p);
    for (int k = 1; k < 8; k++) {
        assert_true(w[k].eof && w[k].read == 3 * MIB);
        stream_free(a[k]);
    }
    session_get_info(client(p), &i);
    assert_int_equal(i.unread, 0);
    assert_false(i.congested);
    for (int k = 0; k < 8; k++) stream_free(b[k]);
    session_pair_free(p);
}

/* A long fat way is filled although the send buffer is a fraction of what is under way. */
static void test_send_buffer_does_not_limit_speed(void **state) {
    struct session_pair_config c;
    struct stream *a, *b;
    struct owner w, v;
    (void)state;
    h3_pair_config_init(&c, true);
    for (int i = 0; i < 2; i++) {
        c.link[i].delay = 75 * PAIR_MS;
        c.link[i].rate = 12500000; /* 100 Mbit/s, 1.9 MB under way */
        c.link[i].queue = 4000;
    }
    c.client.send_buffer = 64 << 10;
    struct session_pair *p = pair_with(&c);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    own(&w, a, true);
    own(&v, b, true);
    uint64_t start = p->now;
    write_all(&w, 32 * MIB, true);
    session_pair_settle(p, 400 * PAIR_MS);
    assert_true(v.eof && v.read == 32 * MIB);
    uint64_t took = p->now - start;
    /* 2.7 s on the wire, and slow start. */
    if (took > 5 * PAIR_S) fail_msg("took %llu ms", (unsigned long long)(took / PAIR_MS));
    stream_free(a);
    stream_free(b);
    session_pair_free(p);
}

/* ---- many ---- */

static void test_a_hundred_at_once(void **state) {
    enum { N = 100, SIZE = 40000 };
    static struct owner w[N], v[N];
    struct session_pair_config c;
    unsigned served = 0;
    (void)state;
    h3_pair_config_init(&c, true);
    c.seed = 7;
    c.link[0].loss = c.link[1].loss = 20;
    c.link[0].jitter = c.link[1].jitter = 5 * PAIR_MS;
    struct session_pair *p = pair_with(&c);
    const struct header ok = HEADER(":status", "200");
    for (unsigned i = 0; i < N; i++) {
        open_stream(p, &w[i], false);
        write_all(&w[i], SIZE, true);
    }
    struct session_info info;
    session_get_info(client(p), &info);
    assert_int_equal(info.streams, N);
    for (int round = 0; round < 400 && served < N; round++) {
        session_pair_pass(p, 50 * PAIR_MS);
        struct stream *st;
        while ((st = session_pair_request(p))) {
            own(&v[served], st, true);
            assert_int_equal(session_respond(st, &ok, 1, false), 0);
            write_all(&v[served++], SIZE, true);
        }
    }
    assert_int_equal(served, N);
    session_pair_pass(p, 60 * PAIR_S);
    uint32_t sum = pattern_sum(SIZE);
    for (unsigned i = 0; i < N; i++) {
        assert_true(w[i].eof && w[i].read == SIZE && w[i].sum == sum && !w[i].deads);
        assert_true(v[i].eof && v[i].read == SIZE && v[i].sum == sum && !v[i].deads);
        stream_free(w[i].st);
        stream_free(v[i].st);
    }
    session_get_info(client(p), &info);
    assert_int_equal(info.streams, 0);
    session_pair_free(p);
}

static bool all_came(void *arg) { return ((struct owner *)arg)->eof; }

static bool asked(void *arg) { return ((struct session_pair *)arg)->n_requests > 0; }

/* A bulk transfer keeps neither new requests nor other transfers waiting. */
static void test_streams_take_turns(void **state) {
    (void)state;
    for (int role = 0; role < 2; role++) {
        struct session_pair_config c;
        struct stream *st[6];
        struct owner w[3], v[3];
        h3_pair_config_init(&c, true);
        for (int i = 0; i < 2; i++) {
            c.link[i].rate = 2000000;
            c.link[i].queue = 60;
        }
        struct session_pair *p = pair_with(&c);
        for (int i = 0; i < 2; i++) {
            assert_true(h3_pair_tunnel(p, 200, &st[2 * i], &st[2 * i + 1]));
            own(&w[i], st[2 * i + (role ? 1 : 0)], true);
            own(&v[i], st[2 * i + (role ? 0 : 1)], true);
        }
        write_all(&w[0], 40 * MIB, true);
        session_pair_pass(p, 2 * PAIR_S);
        assert_true(v[0].read > MIB && !v[0].eof);
        uint64_t start = p->now;
        open_stream(p, &w[2], false);
        assert_true(session_pair_until(p, asked, p, 10 * PAIR_S));
        assert_true(p->now - start < 200 * PAIR_MS);
        struct stream *third = session_pair_request(p);
        size_t before = v[0].read;
        write_all(&w[1], 2 * MIB, true);
        assert_true(session_pair_until(p, all_came, &v[1], 60 * PAIR_S));
        size_t meanwhile = v[0].read - before;
        assert_in_range(meanwhile, MIB, 4 * MIB);
        stream_free(third);
        stream_free(w[2].st);
        for (int i = 0; i < 4; i++) stream_free(st[i]);
        session_pair_free(p);
    }
}

static void test_capacity(void **state) {
    struct session_pair_config c;
    struct stream *a, *b, *d, *e;
    int err;
    (void)state;
    h3_pair_config_init(&c, true);
    c.server.max_streams = 2;
    struct session_pair *p = pair_with(&c);
    assert_int_equal(session_capacity(client(p)), 2);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    assert_true(h3_pair_tunnel(p, 200, &d, &e));
    assert_int_equal(session_capacity(client(p)), 0);
    assert_null(session_open(client(p), connect_head, 2, false, p->now, &err));
    assert_int_equal(err, ERR_UPSTREAM_BUSY);
    stream_free(a);
    stream_free(b);
    settle(p);
    assert_int_equal(session_capacity(client(p)), 1);
    stream_free(d);
    stream_free(e);
    settle(p);
    assert_int_equal(session_capacity(client(p)), 2);
    session_pair_free(p);
}

static void test_too_many_fields_to_send(void **state) {
    struct session_pair_config c;
    struct header head[SESSION_HEAD_FIELDS + 1];
    struct session_info i;
    int err;
    (void)state;
    h3_pair_config_init(&c, true);
    struct session_pair *p = pair_with(&c);
    head[0] = connect_head[0];
    head[1] = connect_head[1];
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
    struct session_pair *p = raw_pair(NULL);
    struct header head[] = {connect_head[0], connect_head[1], HEADER("proxy-authorization", "Basic eDp5"),
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
    assert_int_equal(parse(t).count, 1);
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
        cmocka_unit_test(test_finish_is_an_empty_data_frame),
        cmocka_unit_test(test_finish_waits_for_the_answer),
        cmocka_unit_test(test_other_requests_end_at_once),
        cmocka_unit_test(test_end_survives_loss),
        cmocka_unit_test(test_end_waits_for_window),
        cmocka_unit_test(test_half_close_in_both_orders),
        cmocka_unit_test(test_reset_ends_and_stops),
        cmocka_unit_test(test_reset_stops_after_the_end),
        cmocka_unit_test(test_reset_with_bytes_waiting),
        cmocka_unit_test(test_reset_before_the_answer),
        cmocka_unit_test(test_free_after_finish_lingers),
        cmocka_unit_test(test_lingering_tunnel_is_not_wanted),
        cmocka_unit_test(test_reset_codes),
        cmocka_unit_test(test_end_without_answer),
        cmocka_unit_test(test_end_and_stop_is_benign),
        cmocka_unit_test(test_stop_alone),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_head_is_bounded),
        cmocka_unit_test(test_malformed_answer_costs_the_stream),
        cmocka_unit_test(test_connection_errors),
        cmocka_unit_test(test_server_must_not_open_requests),
        cmocka_unit_test(test_unknown_things_are_skipped),
        cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_server_retires),
        cmocka_unit_test(test_client_retires),
        cmocka_unit_test(test_session_ends_under_streams),
        cmocka_unit_test(test_stuck_reader_harms_nobody),
        cmocka_unit_test(test_budget_bounds_memory),
        cmocka_unit_test(test_send_buffer_does_not_limit_speed),
        cmocka_unit_test(test_a_hundred_at_once),
        cmocka_unit_test(test_streams_take_turns),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_too_many_fields_to_send),
        cmocka_unit_test(test_sensitive_fields),
    };
    return cmocka_run_group_tests_name("h3", tests, NULL, cleanup);
}
