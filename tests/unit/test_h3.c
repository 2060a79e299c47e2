#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/buf.h"
#include "lib/h3_raw.h"

#define MIB (1 << 20)

/* ---- going away ---- */

static void test_goaway(void **state) {
    struct session_pair *p = h3raw_pair(NULL);
    struct owner w[3];
    int err;
    (void)state;
    for (unsigned i = 0; i < 3; i++) h3raw_tunnel(p, &w[i], i, i ? 0 : 200);
    qraw_write(server(p), 3, "\7\1\4", 3, false);
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    assert_int_equal(p->side[PAIR_CLIENT].states[SESSION_DRAINING], 1);
    assert_int_equal(session_capacity(client(p)), 0);
    assert_null(session_open(client(p), h3raw_connect, 2, false, p->now, &err));
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
    owner_write(&w[0], 50000, true);
    settle(p);
    h3raw_assert_end(qraw_stream(server(p), 0), 50000);
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
    struct session_pair *p = h3raw_up(&c);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    own(&w, a, true);
    own(&v, b, true);
    session_retire(server(p), p->now);
    /* On its way before the GOAWAY is seen: it may be tried elsewhere. */
    h3raw_open(p, &late, false);
    settle(p);
    assert_int_equal(late.deads, 1);
    assert_int_equal(late.st->err, ERR_UPSTREAM_RETRY);
    assert_int_equal(p->n_requests, 0);
    stream_free(late.st);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    assert_int_equal(session_get_state(server(p)), SESSION_DRAINING);
    owner_write(&w, 100000, true);
    owner_write(&v, 100000, true);
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
    struct session_pair *p = h3raw_up(&c);
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
    p = h3raw_up(&c);
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
        struct session_pair *p = h3raw_up(&c);
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
        owner_write(&w[2], MIB, false);
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
        assert_true(session_respond(b[2], h3raw_connect, 1, true) < 0);
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
    struct session_pair *p = h3raw_up(&c);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    assert_true(h3_pair_tunnel(p, 200, &d, &e));
    own(&stuck, a, false);
    own(&stuck_w, b, true);
    own(&good, d, true);
    own(&good_w, e, true);
    owner_write(&stuck_w, 64 * MIB, true);
    owner_write(&good_w, 24 * MIB, true);
    settle(p);
    assert_true(good.eof && good.read == 24 * MIB && good.sum == owner_pattern_sum(24 * MIB));
    session_get_info(client(p), &i);
    /* Its window, less what the heads of frames took. */
    assert_in_range(i.unread, 6 * MIB - 4000, 6 * MIB);
    assert_false(i.congested);
    /* It can go on. */
    stuck.reading = true;
    owner_read(&stuck);
    settle(p);
    assert_true(stuck.eof && stuck.read == 64 * MIB && stuck.sum == owner_pattern_sum(64 * MIB));
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
    struct session_pair *p = h3raw_up(&c);
    for (int k = 0; k < 8; k++) {
        assert_true(h3_pair_tunnel(p, 200, &a[k], &b[k]));
        own(&w[k], a[k], false);
        own(&v[k], b[k], true);
    }
    for (int k = 0; k < 8; k++) owner_write(&v[k], 3 * MIB, true);
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
        owner_read(&w[k]);
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
    struct session_pair *p = h3raw_up(&c);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    own(&w, a, true);
    own(&v, b, true);
    uint64_t start = p->now;
    owner_write(&w, 32 * MIB, true);
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
    struct session_pair *p = h3raw_up(&c);
    const struct header ok = HEADER(":status", "200");
    for (unsigned i = 0; i < N; i++) {
        h3raw_open(p, &w[i], false);
        owner_write(&w[i], SIZE, true);
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
            owner_write(&v[served++], SIZE, true);
        }
    }
    assert_int_equal(served, N);
    session_pair_pass(p, 60 * PAIR_S);
    uint32_t sum = owner_pattern_sum(SIZE);
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
        struct session_pair *p = h3raw_up(&c);
        for (int i = 0; i < 2; i++) {
            assert_true(h3_pair_tunnel(p, 200, &st[2 * i], &st[2 * i + 1]));
            own(&w[i], st[2 * i + (role ? 1 : 0)], true);
            own(&v[i], st[2 * i + (role ? 0 : 1)], true);
        }
        owner_write(&w[0], 40 * MIB, true);
        session_pair_pass(p, 2 * PAIR_S);
        assert_true(v[0].read > MIB && !v[0].eof);
        uint64_t start = p->now;
        h3raw_open(p, &w[2], false);
        assert_true(session_pair_until(p, asked, p, 10 * PAIR_S));
        assert_true(p->now - start < 200 * PAIR_MS);
        struct stream *third = session_pair_request(p);
        size_t before = v[0].read;
        owner_write(&w[1], 2 * MIB, true);
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
    struct session_pair *p = h3raw_up(&c);
    assert_int_equal(session_capacity(client(p)), 2);
    assert_true(h3_pair_tunnel(p, 200, &a, &b));
    assert_true(h3_pair_tunnel(p, 200, &d, &e));
    assert_int_equal(session_capacity(client(p)), 0);
    assert_null(session_open(client(p), h3raw_connect, 2, false, p->now, &err));
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

static int cleanup(void **state) {
    (void)state;
    session_pair_cleanup();
    assert_int_equal(buf_chunks(), 0);
    buf_trim();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("h3", tests, NULL, cleanup);
}
