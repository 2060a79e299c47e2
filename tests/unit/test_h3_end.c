#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/buf.h"
#include "lib/h3_raw.h"
#include "session/quic.h"
#include "session/session_impl.h"

#define MIB (1 << 20)
#define CANCELLED 0x10c

/* ---- the end of a stream ---- */

static void test_finish_is_an_empty_data_frame(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    (void)state;
    const size_t sizes[] = {0, 1, 5, 63, 64, 1000, 16384, 65536, 300000};
    unsigned n = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        /* Finished together with the last bytes, and long after them. */
        for (int later = 0; later < 2; later++) {
            struct qraw_stream *t = h3raw_tunnel(p, &w, n++, 200);
            owner_write(&w, sizes[i], !later);
            settle(p);
            if (later) {
                assert_false(t->fin);
                stream_finish(w.st);
                stream_finish(w.st);
                settle(p);
            }
            h3raw_assert_end(t, sizes[i]);
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
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w, v;
    (void)state;
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 0);
    owner_write(&w, 1000, true);
    h3raw_open(p, &v, true);
    session_pair_pass(p, 5 * PAIR_S);
    struct qraw_stream *u = qraw_stream(server(p), 4);
    assert_int_equal(h3raw_parse(t).data, 1000);
    assert_false(t->fin);
    assert_false(u->fin);
    /* Not the final answer. */
    h3raw_answer(p, 0, 103);
    settle(p);
    assert_false(t->fin);
    assert_int_equal(w.opens, 0);
    h3raw_answer(p, 0, 200);
    h3raw_answer(p, 4, 200);
    settle(p);
    assert_int_equal(w.opens, 1);
    h3raw_assert_end(t, 1000);
    h3raw_assert_end(u, 0);
    stream_free(w.st);
    stream_free(v.st);
    session_pair_free(p);
}

static void test_other_requests_end_at_once(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    const struct header get[] = {HEADER(":method", "GET"), HEADER(":scheme", "https"),
                                 HEADER(":authority", "a.test"), HEADER(":path", "/")};
    int err;
    struct owner w;
    (void)state;
    own(&w, session_open(client(p), get, 4, true, p->now, &err), true);
    settle(p);
    struct qraw_stream *t = qraw_stream(server(p), 0);
    assert_true(t->fin);
    assert_int_equal(h3raw_parse(t).count, 1);
    h3raw_answer(p, 0, 200);
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
        struct session_pair_config c = h3raw_config();
        struct owner w;
        c.seed = seed;
        struct session_pair *p = h3raw_up(&c);
        h3raw_settings(p);
        p->config.link[0].loss = p->config.link[1].loss = 300;
        p->config.link[0].jitter = 10 * PAIR_MS;
        h3raw_open(p, &w, false);
        session_pair_pass(p, 5 * PAIR_S);
        h3raw_answer(p, 0, 200);
        session_pair_pass(p, 5 * PAIR_S);
        assert_int_equal(w.opens, 1);
        owner_write(&w, 3000, false);
        session_pair_pass(p, PAIR_S);
        stream_finish(w.st);
        session_pair_pass(p, 30 * PAIR_S);
        struct h3raw_frames f = h3raw_parse(qraw_stream(server(p), 0));
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
        struct session_pair_config c = h3raw_config();
        struct owner w;
        c.server.stream_window = 4096;
        struct session_pair *p = h3raw_pair(&c);
        qraw_starve(server(p), true);
        struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 200);
        size_t payload = 4096 - t->in_len - 3 - left; /* one DATA frame with a length of two bytes */
        owner_write(&w, payload, false);
        settle(p);
        assert_int_equal(t->in_len, 4096 - left);
        stream_finish(w.st);
        settle(p);
        assert_false(t->fin);
        quic_credit_stream(qraw_quic(server(p)), 0, 4096);
        session_wake(server(p));
        settle(p);
        struct h3raw_frames f = h3raw_parse(t);
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
        struct session_pair *p = h3raw_up(&c);
        assert_true(h3_pair_tunnel(p, 200, &a, &b));
        own(&w, order ? b : a, true);
        own(&v, order ? a : b, true);
        owner_write(&w, 100000, true);
        settle(p);
        assert_true(v.eof && v.read == 100000 && v.sum == owner_pattern_sum(100000));
        owner_write(&v, 3000000, true);
        settle(p);
        assert_true(w.eof && w.read == 3000000 && w.sum == owner_pattern_sum(3000000));
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
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    (void)state;
    const size_t sizes[] = {0, 5, 100000};
    for (unsigned i = 0; i < 3; i++) {
        struct qraw_stream *t = h3raw_tunnel(p, &w, i, 200);
        owner_write(&w, sizes[i], false);
        settle(p);
        if (i == 1)
            stream_free(w.st);
        else
            stream_reset(w.st, ERR_CLIENT_RESET);
        settle(p);
        h3raw_assert_end(t, sizes[i]);
        assert_true(t->closed); /* STOP_SENDING ended our direction */
        assert_int_equal(t->closed_code, CANCELLED);
        if (i != 1) stream_free(w.st);
    }
    session_pair_free(p);
}

/* STOP_SENDING must not overtake the end. */
static void test_reset_stops_after_the_end(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct session_out o;
    struct owner w;
    (void)state;
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 200);
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
        struct session_pair_config c = h3raw_config();
        struct owner w;
        c.server.stream_window = 10000;
        c.client.strict_reset = strict;
        struct session_pair *p = h3raw_pair(&c);
        struct qraw_stream *t;
        unsigned n = 0;
        if (strict) { /* even when nothing waits */
            t = h3raw_tunnel(p, &w, n++, 200);
            stream_reset(w.st, ERR_CLIENT_RESET);
            settle(p);
            assert_true(t->reset && !t->fin);
            assert_int_equal(t->reset_code, CANCELLED);
            stream_free(w.st);
        }
        qraw_starve(server(p), true);
        /* More than the window; and exactly the window, so that only the end is left. */
        for (int exact = 0; exact < 2; exact++) {
            t = h3raw_tunnel(p, &w, n++, 200);
            owner_write(&w, exact ? 10000 - t->in_len - 3 : 300000, false);
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
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    (void)state;
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 0);
    stream_free(w.st);
    settle(p);
    h3raw_assert_end(t, 0);
    session_pair_free(p);
}

static void test_free_after_finish_lingers(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct session_info i;
    struct owner w;
    (void)state;
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 200);
    p->config.link[PAIR_SERVER].hold = true; /* no acknowledgement */
    owner_write(&w, 5000, true);
    stream_free(w.st);
    session_pair_pass(p, 500 * PAIR_MS);
    h3raw_assert_end(t, 5000);
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
    struct session_pair *p = h3raw_pair(NULL);
    struct session_info i;
    struct owner w;
    (void)state;
    /* Freed before the answer: a bad answer ends it, a good one lets it be delivered. */
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 0);
    owner_write(&w, 100, true);
    stream_free(w.st);
    struct qraw_stream *u = h3raw_tunnel(p, &w, 1, 0);
    owner_write(&w, 100, true);
    stream_free(w.st);
    settle(p);
    assert_false(t->fin || u->fin || t->reset || u->reset);
    h3raw_answer(p, 0, 502);
    h3raw_answer(p, 4, 200);
    settle(p);
    assert_true(t->reset);
    h3raw_assert_end(u, 100);
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
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct qraw_stream *t = h3raw_tunnel(p, &w, i, cases[i].status);
        w.reading = false;
        if (cases[i].status) qraw_write(server(p), t->id, "\0\5hello", 7, false);
        settle(p);
        qraw_reset(server(p), t->id, cases[i].code);
        settle(p);
        assert_int_equal(w.deads, 1);
        assert_int_equal(w.st->err, cases[i].err);
        assert_true(stream_write(w.st, "x", 1) == (long)cases[i].err);
        owner_read(&w);
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
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w;
    (void)state;
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 0);
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
        struct session_pair *p = h3raw_pair(NULL);
        struct owner w;
        struct qraw_stream *t = h3raw_tunnel(p, &w, 0, i ? 407 : 200);
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
    struct session_pair_config c = h3raw_config();
    struct owner w;
    (void)state;
    c.server.stream_window = 20000;
    struct session_pair *p = h3raw_pair(&c);
    /* An idle writer learns at its next write. */
    struct qraw_stream *t = h3raw_tunnel(p, &w, 0, 200);
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
    t = h3raw_tunnel(p, &w, 1, 200);
    owner_write(&w, MIB, false);
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
    };
    return cmocka_run_group_tests_name("h3 end", tests, NULL, cleanup);
}
