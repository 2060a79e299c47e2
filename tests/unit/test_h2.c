/* Two HTTP/2 sessions over TLS, in memory and virtual time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lib/session_pair.h"
#include "lib/testca.h"

#define MIB (1 << 20)

/* ---- an owner of streams ---- */

struct owner {
    struct stream *st;
    unsigned opens, outs, deads;
    uint64_t read, written, to_write;
    bool reading, eof, finish, broken;
    uint8_t key;
};

static uint8_t byte_at(uint64_t i, uint8_t key) { return (uint8_t)((i * 2654435761u >> 9) + key); }

static void read_on(struct owner *w) {
    const uint8_t *p;
    size_t n;
    int r;
    while ((r = stream_peek(w->st, &p, &n)) == STREAM_BYTES) {
        for (size_t i = 0; i < n; i++)
            if (p[i] != byte_at(w->read + i, w->key)) w->broken = true;
        w->read += n;
        stream_consume(w->st, n);
    }
    if (r == STREAM_EOF) w->eof = true;
}

static void write_on(struct owner *w) {
    uint8_t bytes[16384];
    while (w->written < w->to_write) {
        size_t n = w->to_write - w->written < sizeof bytes ? (size_t)(w->to_write - w->written) : sizeof bytes;
        for (size_t i = 0; i < n; i++) bytes[i] = byte_at(w->written + i, w->key);
        long r = stream_write(w->st, bytes, n);
        if (r < 0) return;
        w->written += (uint64_t)r;
        if ((size_t)r < n) return;
    }
    if (w->finish) stream_finish(w->st);
    w->finish = false;
}

static void on_event(struct stream *st, unsigned events, void *arg) {
    struct owner *w = arg;
    assert_ptr_equal(st, w->st);
    w->opens += !!(events & STREAM_OPEN);
    w->outs += !!(events & STREAM_OUT);
    w->deads += !!(events & STREAM_DEAD);
    if (w->reading) read_on(w);
    if (events & STREAM_OUT) write_on(w);
}

static void own(struct owner *w, struct stream *st, bool reading, uint8_t key) {
    *w = (struct owner){.st = st, .reading = reading, .key = key};
    stream_own(st, on_event, w);
    if (reading) read_on(w);
}

struct tunnel {
    struct owner c, s;
};

static void tunnel(struct session_pair *p, struct tunnel *t, bool client_reads, bool server_reads) {
    struct stream *c, *s;
    assert_true(session_pair_tunnel(p, 200, &c, &s));
    own(&t->c, c, client_reads, 7);
    own(&t->s, s, server_reads, 7);
}

static void send_all(struct owner *w, uint64_t n, bool finish) {
    w->to_write = n;
    w->finish = finish;
    write_on(w);
}

static void tunnel_free(struct tunnel *t) {
    stream_free(t->c.st);
    stream_free(t->s.st);
}

/* ---- pairs ---- */

static struct session *client(struct session_pair *p) { return p->side[PAIR_CLIENT].session; }

static struct session *server(struct session_pair *p) { return p->side[PAIR_SERVER].session; }

static struct session_pair *pair_up(const struct session_pair_config *config) {
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    struct session_pair *p = session_pair_new(config ? config : &c);
    assert_non_null(p);
    if (!session_pair_up(p)) fail_msg("%s", session_error_text(client(p)));
    return p;
}

static void settle(struct session_pair *p) { session_pair_settle(p, 100 * PAIR_MS); }

static void establish(void **state) {
    (void)state;
    struct session_info i;
    struct session_pair *p = pair_up(NULL);
    session_get_info(client(p), &i);
    assert_int_equal(i.kind, SESSION_H2);
    assert_int_equal(i.state, SESSION_UP);
    assert_string_equal(i.alpn, "h2");
    assert_string_equal(i.tls, "TLS1.3 ECDHE-X25519 AES-128-GCM");
    assert_false(i.unverified);
    assert_int_equal(i.peer_max_streams, 1000);
    assert_int_equal(session_capacity(client(p)), 1000);
    assert_int_equal(session_capacity(server(p)), 0);
    assert_int_equal(i.started, PAIR_S);
    /* 5 ms each way: hello, the server's flight with its SETTINGS after our Finished. */
    assert_true(i.up - i.started <= 20 * PAIR_MS);
    assert_true(i.bytes_in > 0 && i.bytes_out > 0);
    session_ping(client(p), p->now);
    settle(p);
    session_get_info(client(p), &i);
    assert_int_equal(i.rtt, 10 * PAIR_MS);
    /* An idle session asks for nothing. */
    uint64_t then = p->now;
    settle(p);
    assert_int_equal(p->now, then);
    assert_true(session_deadline(client(p)) == UINT64_MAX);
    session_pair_free(p);
}

static void heads(void **state) {
    (void)state;
    struct session_pair *p = pair_up(NULL);
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "[2001:db8::1]:443"),
                                  HEADER("user-agent", "Linux test"),
                                  {"proxy-authorization", "Basic Zm9vOmJhcg==", 19, 18, true}};
    const struct header answer[] = {HEADER(":status", "502"), HEADER("x-warning", "300 - refused"),
                                    HEADER("x-warning", "second")};
    int err;
    size_t n;
    struct stream *st = session_open(client(p), head, 4, false, p->now, &err);
    assert_non_null(st);
    settle(p);
    struct stream *rq = session_pair_request(p);
    assert_non_null(rq);
    assert_memory_equal(session_stream_header(rq, ":authority", &n), "[2001:db8::1]:443", 17);
    assert_int_equal(n, 17);
    assert_memory_equal(session_stream_header(rq, "proxy-authorization", &n), "Basic Zm9vOmJhcg==", 18);
    assert_null(session_stream_header(rq, ":path", &n));
    assert_int_equal(session_respond(rq, answer, 3, true), 0);
    assert_int_equal(session_respond(rq, answer, 3, true), ERR_INTERNAL);
    settle(p);
    assert_int_equal(st->status, 502);
    assert_memory_equal(session_stream_header(st, "x-warning", &n), "300 - refused", 13);
    assert_int_equal(n, 13);
    stream_finish(st);
    settle(p);
    stream_free(st);
    stream_free(rq);
    settle(p);
    session_pair_free(p);
}

static void refused_certificates(void **state) {
    (void)state;
    struct testca *ca = testca_new("Root");
    char *trust = testca_pem(ca);
    static const struct testca_spec specs[] = {
        {.names = {"else.example"}},
        {.names = {"test.example"}, .from = -9 * TESTCA_DAY, .until = -TESTCA_DAY},
        {.names = {"test.example"}, .cn = "Alone"},
    };
    static const char *const says[] = {"not for test.example", "expired on ", "self-signed"};
    for (size_t i = 0; i < 4; i++) {
        struct session_pair_config c;
        char *cert, *key, why[CREDS_WHY_MAX];
        testca_issue(i == 2 ? NULL : ca, &specs[i % 3], &cert, &key);
        struct creds_config cc = {.hostname = "test.example", .trust_pem = trust, .skip_verification = i == 3};
        struct creds_config sc = {.server = true, .certificate_pem = cert, .key_pem = key};
        session_pair_config_init(&c, SESSION_H2);
        assert_int_equal(creds_new(&c.client.creds, &cc, why, sizeof why), 0);
        assert_int_equal(creds_new(&c.server.creds, &sc, why, sizeof why), 0);
        struct session_pair *p = session_pair_new(&c);
        struct session_info info;
        assert_int_equal(session_pair_up(p), i == 3);
        session_get_info(client(p), &info);
        assert_int_equal(info.unverified, i == 3);
        if (i < 3) {
            assert_int_equal(session_error(client(p)), ERR_UPSTREAM_CERTIFICATE);
            if (!strstr(session_error_text(client(p)), says[i])) fail_msg("%s", session_error_text(client(p)));
            settle(p);
            assert_int_equal(session_get_state(server(p)), SESSION_DOWN);
            assert_non_null(strstr(session_error_text(server(p)), "the TLS alert 42"));
        }
        session_pair_free(p);
        creds_unref(c.client.creds);
        creds_unref(c.server.creds);
        free(cert);
        free(key);
    }
    free(trust);
    testca_free(ca);
}

static void alpn_may_be_absent_where_allowed(void **state) {
    (void)state;
    for (int allowed = 0; allowed < 2; allowed++) {
        struct session_pair_config c;
        struct session_info i;
        session_pair_config_init(&c, SESSION_H2);
        c.server.allow_no_alpn = true; /* negotiates none */
        c.client.allow_no_alpn = allowed;
        struct session_pair *p = session_pair_new(&c);
        assert_int_equal(session_pair_up(p), allowed);
        session_get_info(client(p), &i);
        assert_string_equal(i.alpn, "");
        if (!allowed) assert_int_equal(session_error(client(p)), ERR_UPSTREAM_ALPN);
        session_pair_free(p);
    }
}

static void silent_peers_time_out(void **state) {
    (void)state;
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    c.link[PAIR_SERVER].hold = true;
    c.client.handshake_timeout = 3000;
    struct session_pair *p = session_pair_new(&c);
    assert_false(session_pair_up(p));
    assert_int_equal(p->now, 4 * PAIR_S);
    assert_int_equal(session_error(client(p)), ERR_UPSTREAM_TIMEOUT);
    assert_string_equal(session_error_text(client(p)), "the TLS handshake took too long");
    session_pair_free(p);
}

static void eof_in_the_handshake(void **state) {
    (void)state;
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    struct session_pair *p = session_pair_new(&c);
    session_pair_cut(p, PAIR_SERVER);
    assert_false(session_pair_up(p));
    assert_int_equal(session_error(client(p)), ERR_UPSTREAM_TLS);
    assert_non_null(strstr(session_error_text(client(p)), "without a word"));
    session_pair_free(p);
}

/* ---- bytes ---- */

struct wait {
    struct owner *w;
    uint64_t read;
};

static bool has_read(void *arg) {
    struct wait *w = arg;
    return w->w->read >= w->read || w->w->deads;
}

static bool read_all(struct session_pair *p, struct owner *w, uint64_t n) {
    struct wait wait = {w, n};
    return session_pair_until(p, has_read, &wait, 600 * PAIR_S) && w->read == n && !w->broken;
}

static void both_ways_at_once(void **state) {
    (void)state;
    struct session_pair *p = pair_up(NULL);
    struct tunnel t[20];
    for (int i = 0; i < 20; i++) tunnel(p, &t[i], true, true);
    for (int i = 0; i < 20; i++) {
        send_all(&t[i].c, MIB + (uint64_t)i * 1001, true);
        send_all(&t[i].s, MIB + (uint64_t)i * 2003, true);
    }
    for (int i = 0; i < 20; i++) {
        assert_true(read_all(p, &t[i].s, MIB + (uint64_t)i * 1001));
        assert_true(read_all(p, &t[i].c, MIB + (uint64_t)i * 2003));
    }
    settle(p);
    for (int i = 0; i < 20; i++) {
        assert_true(t[i].c.eof && t[i].s.eof);
        assert_int_equal(t[i].c.deads + t[i].s.deads, 0);
        tunnel_free(&t[i]);
    }
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_UP);
    session_pair_free(p);
}

/* One stream whose reader does not read stops at its window and costs no more; 64 MiB beside it come through. */
static void stuck_reader_beside_a_healthy_stream(void **state) {
    (void)state;
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    c.client.stream_window = MIB;
    c.client.session_window = 2 * MIB;
    size_t chunks = buf_chunks();
    struct session_pair *p = pair_up(&c);
    struct tunnel stuck, healthy;
    struct session_info i;
    tunnel(p, &stuck, false, true);
    tunnel(p, &healthy, true, true);
    send_all(&stuck.s, 64 * MIB, true);
    send_all(&healthy.s, 64 * MIB, true);
    assert_true(read_all(p, &healthy.c, 64 * (uint64_t)MIB));
    settle(p);
    assert_true(healthy.c.eof);
    assert_true(stuck.s.written <= MIB + c.server.send_buffer);
    session_get_info(client(p), &i);
    assert_int_equal(i.unread, MIB);
    assert_false(i.congested);
    assert_true((buf_chunks() - chunks) * BUF_CHUNK <= 2 * MIB);
    /* And it goes on when its reader does. */
    stuck.c.reading = true;
    read_on(&stuck.c);
    assert_true(read_all(p, &stuck.c, 64 * (uint64_t)MIB));
    tunnel_free(&stuck);
    tunnel_free(&healthy);
    settle(p);
    assert_int_equal(buf_chunks(), chunks);
    session_pair_free(p);
}

/* Many stuck readers: memory ends at budget + session_window, and who reads still gets on. */
static void budget(void **state) {
    (void)state;
    enum { N = 12 };
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    c.client.stream_window = MIB;
    c.client.session_window = 3 * MIB;
    c.client.budget = 6 * MIB;
    struct session_pair *p = pair_up(&c);
    struct tunnel stuck[N], healthy;
    struct session_info i;
    for (int k = 0; k < 7; k++) tunnel(p, &stuck[k], false, true);
    tunnel(p, &healthy, true, true);
    for (int k = 0; k < 7; k++) send_all(&stuck[k].s, 4 * MIB, true);
    settle(p);
    session_get_info(client(p), &i);
    assert_int_equal(i.unread, 7 * MIB);
    assert_true(i.congested);
    send_all(&healthy.s, 16 * MIB, true);
    assert_true(read_all(p, &healthy.c, 16 * MIB));
    /* Everything is used up: nothing breaks, nothing grows. */
    for (int k = 7; k < N; k++) {
        tunnel(p, &stuck[k], false, true);
        send_all(&stuck[k].s, 4 * MIB, true);
    }
    settle(p);
    session_get_info(client(p), &i);
    assert_true(i.unread <= 9 * MIB);
    assert_int_equal(session_get_state(client(p)), SESSION_UP);
    /* A reader that gives up makes room for the others. */
    for (int k = 0; k < 6; k++) tunnel_free(&stuck[k]);
    settle(p);
    session_get_info(client(p), &i);
    assert_int_equal(i.unread, 6 * MIB);
    for (int k = 6; k < N; k++) {
        stuck[k].c.reading = true;
        read_on(&stuck[k].c);
    }
    for (int k = 6; k < N; k++) {
        assert_true(read_all(p, &stuck[k].c, 4 * MIB));
        tunnel_free(&stuck[k]);
    }
    settle(p);
    session_get_info(client(p), &i);
    assert_int_equal(i.unread, 0);
    assert_false(i.congested);
    tunnel_free(&healthy);
    session_pair_free(p);
}

/* A peer that does not read its socket: what we make for it ends at a bound. */
static void deaf_peer(void **state) {
    (void)state;
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    c.link[PAIR_CLIENT].queue = 100000;
    struct session_pair *p = pair_up(&c);
    struct tunnel t;
    struct session_out o;
    tunnel(p, &t, true, true);
    p->config.link[PAIR_CLIENT].hold = true;
    send_all(&t.c, 64 * MIB, true);
    settle(p);
    assert_true(t.c.written <= 100000 + 2 * 65536 + c.client.send_buffer);
    assert_true(session_out(client(p), &o, p->now));
    assert_true(o.n <= 2 * 65536);
    p->config.link[PAIR_CLIENT].hold = false;
    assert_true(read_all(p, &t.s, 64 * (uint64_t)MIB));
    tunnel_free(&t);
    session_pair_free(p);
}

static void slow_way(void **state) {
    (void)state;
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    c.link[0].rate = c.link[1].rate = 8000; /* 64 kbit/s */
    c.link[0].delay = c.link[1].delay = 100 * PAIR_MS;
    struct session_pair *p = pair_up(&c);
    struct tunnel t[10];
    for (int i = 0; i < 10; i++) tunnel(p, &t[i], true, true);
    for (int i = 0; i < 10; i++) send_all(&t[i].s, 200000, false);
    session_pair_pass(p, 60 * PAIR_S);
    for (int i = 0; i < 10; i++) {
        assert_true(t[i].c.read > 20000);
        tunnel_free(&t[i]);
    }
    session_pair_free(p);
}

/* Records of DATA are full ones. */
static void records_are_full(void **state) {
    (void)state;
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    c.client.stream_window = c.client.session_window = 16 * MIB;
    struct session_pair *p = pair_up(&c);
    struct tunnel t;
    struct session_info before, after;
    tunnel(p, &t, true, true);
    settle(p);
    session_get_info(client(p), &before);
    send_all(&t.s, 8 * MIB, false);
    assert_true(read_all(p, &t.c, 8 * MIB));
    session_get_info(client(p), &after);
    /* 9 bytes of frame and 22 of TLS for each 16375 bytes. */
    uint64_t wire = after.bytes_in - before.bytes_in;
    assert_true(wire < 8 * MIB + 8 * MIB / 16375 * 31 + 2000);
    tunnel_free(&t);
    session_pair_free(p);
}

/* ---- ends ---- */

static void session_loss(void **state) {
    (void)state;
    struct session_pair *p = pair_up(NULL);
    struct tunnel done, half, running, waiting;
    int err;
    tunnel(p, &done, true, true);
    tunnel(p, &half, false, true);
    tunnel(p, &running, false, true);
    send_all(&done.c, 1000, true);
    send_all(&done.s, 1000, true);
    send_all(&half.s, 1000, true);
    send_all(&running.s, 1000, false);
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "slow.example:1")};
    own(&waiting.c, session_open(client(p), head, 2, false, p->now, &err), true, 0);
    settle(p);
    session_pair_cut(p, PAIR_SERVER);
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    assert_int_equal(session_error(client(p)), ERR_UPSTREAM_CLOSED);
    assert_int_equal(p->side[PAIR_CLIENT].states[SESSION_DOWN], 1);
    assert_int_equal(done.c.deads, 0);
    assert_int_equal(half.c.deads, 1);
    assert_int_equal(running.c.deads, 1);
    assert_int_equal(waiting.c.deads, 1);
    assert_int_equal(waiting.c.st->err, ERR_UPSTREAM_CLOSED);
    /* The session goes, the streams stay. */
    session_free(client(p));
    p->side[PAIR_CLIENT].session = NULL;
    read_on(&half.c);
    assert_int_equal(half.c.read, 1000);
    assert_true(half.c.eof);
    read_on(&running.c);
    assert_int_equal(running.c.read, 1000);
    assert_false(running.c.eof);
    assert_int_equal(stream_write(running.c.st, "x", 1), ERR_UPSTREAM_CLOSED);
    size_t n;
    assert_memory_equal(session_stream_header(running.c.st, ":status", &n), "200", 3);
    stream_free(waiting.c.st);
    tunnel_free(&done);
    tunnel_free(&half);
    tunnel_free(&running);
    session_pair_free(p);
}

static void session_freed_under_its_streams(void **state) {
    (void)state;
    struct session_pair *p = pair_up(NULL);
    struct tunnel t;
    tunnel(p, &t, true, true);
    send_all(&t.s, 100000, false);
    settle(p);
    session_free(client(p));
    p->side[PAIR_CLIENT].session = NULL;
    assert_int_equal(t.c.deads, 0);
    settle(p);
    assert_int_equal(t.c.deads, 1);
    assert_int_equal(t.c.st->err, ERR_UPSTREAM_CLOSED);
    tunnel_free(&t);
    session_pair_free(p);
}

/* A request that nobody took yet goes with its session, or with its stream. */
static void requests_nobody_took(void **state) {
    (void)state;
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "slow.example:1")};
    for (int how = 0; how < 3; how++) {
        struct session_pair *p = pair_up(NULL);
        int err;
        struct stream *st = session_open(client(p), head, 2, false, p->now, &err);
        /* Up to the moment when the request is in the queue. */
        for (int i = 0; i < 1000 && !p->queue.head; i++) session_pair_io(p, PAIR_S);
        assert_non_null(p->queue.head);
        if (how == 0) {
            session_free(server(p));
            p->side[PAIR_SERVER].session = NULL;
        } else if (how == 1) {
            session_close(server(p), ERR_SHUTDOWN, p->now);
        } else {
            stream_reset(st, ERR_CANCELLED);
            for (int i = 0; i < 10; i++) session_pair_io(p, PAIR_S);
        }
        settle(p);
        assert_int_equal(p->n_requests, 0);
        stream_free(st);
        session_pair_free(p);
    }
}

static void server_retires(void **state) {
    (void)state;
    struct session_pair *p = pair_up(NULL);
    struct tunnel t;
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "late.example:1")};
    int err;
    tunnel(p, &t, true, true);
    session_retire(server(p), p->now);
    /* On its way when GOAWAY comes. */
    struct owner late;
    own(&late, session_open(client(p), head, 2, false, p->now, &err), true, 0);
    settle(p);
    assert_int_equal(late.deads, 1);
    assert_int_equal(late.st->err, ERR_UPSTREAM_RETRY);
    stream_free(late.st);
    assert_int_equal(session_get_state(client(p)), SESSION_DRAINING);
    send_all(&t.s, 3 * MIB, true);
    send_all(&t.c, 3 * MIB, true);
    assert_true(read_all(p, &t.c, 3 * MIB));
    assert_true(read_all(p, &t.s, 3 * MIB));
    settle(p);
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    assert_int_equal(session_error(client(p)), ERR_OK);
    assert_int_equal(session_get_state(server(p)), SESSION_DOWN);
    assert_int_equal(session_error(server(p)), ERR_OK);
    assert_int_equal(t.c.deads + t.s.deads, 0);
    tunnel_free(&t);
    session_pair_free(p);
}

static void close_reaches_the_peer(void **state) {
    (void)state;
    struct session_pair *p = pair_up(NULL);
    struct tunnel t;
    tunnel(p, &t, true, true);
    session_close(client(p), ERR_SHUTDOWN, p->now);
    settle(p);
    assert_int_equal(session_error(client(p)), ERR_SHUTDOWN);
    assert_int_equal(session_get_state(server(p)), SESSION_DOWN);
    assert_int_equal(session_error(server(p)), ERR_UPSTREAM_CLOSED);
    assert_int_equal(t.s.deads, 1);
    tunnel_free(&t);
    session_pair_free(p);
}

static void churn(void **state) {
    (void)state;
    size_t chunks = buf_chunks();
    struct session_pair *p = pair_up(NULL);
    struct tunnel t;
    struct session_info i;
    for (unsigned k = 0; k < 1500; k++) {
        tunnel(p, &t, k % 5, k % 7);
        send_all(&t.c, k % 1000 * 7, k % 2);
        send_all(&t.s, k % 777 * 11, k % 3);
        if (k % 4) session_pair_pass(p, 7 * PAIR_MS);
        if (k % 11 == 0) stream_reset(t.c.st, ERR_CANCELLED);
        if (k % 13 == 0) stream_reset(t.s.st, ERR_TARGET_RESET);
        tunnel_free(&t);
    }
    session_pair_pass(p, 60 * PAIR_S);
    for (int k = 0; k < 2; k++) {
        session_get_info(p->side[k].session, &i);
        assert_int_equal(i.state, SESSION_UP);
        assert_int_equal(i.streams, 0);
        assert_int_equal(i.unread, 0);
    }
    assert_int_equal(buf_chunks(), chunks);
    session_pair_free(p);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(establish),
        cmocka_unit_test(heads),
        cmocka_unit_test(refused_certificates),
        cmocka_unit_test(alpn_may_be_absent_where_allowed),
        cmocka_unit_test(silent_peers_time_out),
        cmocka_unit_test(eof_in_the_handshake),
        cmocka_unit_test(both_ways_at_once),
        cmocka_unit_test(stuck_reader_beside_a_healthy_stream),
        cmocka_unit_test(budget),
        cmocka_unit_test(deaf_peer),
        cmocka_unit_test(slow_way),
        cmocka_unit_test(records_are_full),
        cmocka_unit_test(session_loss),
        cmocka_unit_test(session_freed_under_its_streams),
        cmocka_unit_test(requests_nobody_took),
        cmocka_unit_test(server_retires),
        cmocka_unit_test(close_reaches_the_peer),
        cmocka_unit_test(churn),
    };
    int r = cmocka_run_group_tests_name("h2", tests, NULL, NULL);
    session_pair_cleanup();
    buf_trim();
    return r;
}
