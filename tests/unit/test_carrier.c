/* test_carrier.c - one session on one socket: over TCP against a server session behind an in-memory pipe, over UDP
 * against the test endpoint; all under the virtual clock. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "endpoint/endpoint.h"
#include "lib/pipe.h"
#include "lib/session_pair.h"
#include "sim/sim.h"
#include "upstream/carrier.h"

#define MIB (1 << 20)
#define PORT 443

static struct loop *loop;
static struct sim_net *net;

/* ---- the carrier, and what it reports ---- */

static struct carrier *carrier;
static unsigned states[4], progress;
static enum session_state last_state;
static bool inside; /* carrier_new_*() has not returned */
static int free_at; /* the state in which it is freed; -1: never */

static void on_state(struct carrier *c, enum session_state state, void *arg) {
    assert_ptr_equal(arg, &states);
    assert_false(inside);
    assert_int_equal(states[SESSION_DOWN], 0); /* the last one */
    assert_true(state > last_state);
    assert_ptr_equal(c, carrier);
    states[state]++;
    last_state = state;
    if ((int)state != free_at) return;
    carrier_free(c);
    carrier = NULL;
}

static void on_progress(struct carrier *c, void *arg) {
    assert_ptr_equal(c, carrier);
    assert_ptr_equal(arg, &states);
    progress++;
}

static const struct carrier_cb callbacks = {.state = on_state, .progress = on_progress, .arg = &states};

static struct session_config config(void) {
    struct session_config c;
    session_config_init(&c);
    c.creds = session_pair_client_creds();
    return c;
}

static void over_tcp(struct stream *tcp, const struct session_config *c) {
    int err;
    inside = true;
    carrier = carrier_new_tcp(loop, tcp, c, &callbacks, &err);
    inside = false;
    assert_non_null(carrier);
    assert_int_equal(session_get_state(carrier_session(carrier)), SESSION_STARTING);
}

static void over_udp(const char *to, const struct session_config *c) {
    struct addr a;
    int err;
    assert_int_equal(addr_parse(&a, to), 0);
    inside = true;
    carrier = carrier_new_udp(loop, &a, c, &callbacks, &err);
    inside = false;
    assert_non_null(carrier);
}

static bool is_up(void *arg) {
    (void)arg;
    return states[SESSION_UP] > 0;
}

static bool is_down(void *arg) {
    (void)arg;
    return states[SESSION_DOWN] > 0;
}

static bool until(bool (*done)(void *arg), uint64_t limit) { return sim_until(loop, done, NULL, limit); }

static void assert_down(enum err err) {
    assert_int_equal(states[SESSION_DOWN], 1);
    assert_int_equal(session_get_state(carrier_session(carrier)), SESSION_DOWN);
    assert_int_equal(session_error(carrier_session(carrier)), err);
}

static struct stream *open_tunnel(void) {
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "10.0.0.5:7")};
    int err;
    struct stream *st = session_open(carrier_session(carrier), head, 2, false, loop_now(loop), &err);
    assert_non_null(st);
    return st;
}

static bool answered(void *arg) { return ((struct stream *)arg)->status != 0; }

static int begin(void **state) {
    (void)state;
    loop = loop_new();
    net = sim_net_init(loop, 1);
    memset(states, 0, sizeof states);
    progress = 0;
    last_state = SESSION_STARTING;
    free_at = -1;
    return 0;
}

static int finish(void **state) {
    (void)state;
    carrier_free(carrier);
    carrier = NULL;
    sim_pass(loop, LOOP_S);
    assert_true(sim_net_done());
    loop_free(loop);
    assert_int_equal(buf_chunks(), 0);
    return 0;
}

/* ---- TCP: the far end of the pipe ---- */

static struct peer {
    struct stream *tcp, *near; /* its end, and the carrier's */
    struct session *session;
    struct stream *tunnel;
    struct defer pump;
    bool down;
} peer;

static void peer_out(void *arg) {
    struct session_out o;
    (void)arg;
    while (session_out(peer.session, &o, loop_now(loop))) {
        long n = stream_write(peer.tcp, o.p, o.n);
        if (n < 0) n = (long)o.n;
        if (n) session_sent(peer.session, (size_t)n, loop_now(loop));
        if ((size_t)n < o.n) return;
    }
}

static void on_peer(struct stream *st, unsigned events, void *arg) {
    const uint8_t *p;
    size_t n;
    int r;
    (void)events;
    while ((r = stream_peek(st, &p, &n)) == STREAM_BYTES) {
        session_in(peer.session, p, n, loop_now(loop));
        stream_consume(st, n);
    }
    if (r != STREAM_NONE) session_in(peer.session, NULL, 0, loop_now(loop));
    peer_out(arg);
}

static void peer_wake(void *arg) {
    (void)arg;
    defer_post(loop_defer(loop), &peer.pump);
}

static void peer_state(struct session *s, enum session_state state, void *arg) {
    (void)s;
    (void)arg;
    peer.down |= state == SESSION_DOWN;
}

static void peer_request(struct session *s, struct stream *st, void *arg) {
    const struct header ok = HEADER(":status", "200");
    (void)s;
    (void)arg;
    assert_null(peer.tunnel);
    peer.tunnel = st;
    assert_int_equal(session_respond(st, &ok, 1, false), 0);
}

static int begin_tcp(void **state) {
    struct session_config c;
    begin(state);
    memset(&peer, 0, sizeof peer);
    assert_int_equal(pipe_pair(loop_defer(loop), 4 * MIB, &peer.near, &peer.tcp), 0);
    session_config_init(&c);
    c.kind = SESSION_H2;
    c.server = true;
    c.creds = session_pair_server_creds();
    c.queue = loop_defer(loop);
    c.now = loop_now(loop);
    c.cb = (struct session_cb){.wake = peer_wake, .state = peer_state, .request = peer_request};
    defer_init(&peer.pump, peer_out, NULL);
    assert_int_equal(session_new(&peer.session, &c), 0);
    stream_own(peer.tcp, on_peer, NULL);
    return 0;
}

static int finish_tcp(void **state) {
    carrier_free(carrier);
    carrier = NULL;
    stream_free(peer.tunnel);
    session_free(peer.session);
    defer_cancel(&peer.pump);
    stream_free(peer.tcp);
    return finish(state);
}

static void tcp_goes_up_and_leaves_in_order(void **state) {
    struct session_config c = config();
    struct session_info i;
    (void)state;
    over_tcp(peer.near, &c);
    assert_int_equal(states[SESSION_UP], 0);
    assert_true(until(is_up, LOOP_S));
    session_get_info(carrier_session(carrier), &i);
    assert_int_equal(i.kind, SESSION_H2);
    assert_true(progress > 0);
    assert_int_equal(carrier_error(carrier), ERR_OK);
    sim_pass(loop, LOOP_S);
    uint64_t turns = sim_turns(loop);
    sim_pass(loop, 100 * LOOP_S);
    assert_true(sim_turns(loop) - turns < 10); /* at rest it does nothing */
    carrier_free(carrier);
    carrier = NULL;
    sim_pass(loop, LOOP_S);
    /* GOAWAY and TLS's goodbye came first: it was no reset. */
    assert_true(peer.down && pipe_peer_finished(peer.tcp) && !pipe_peer_reset(peer.tcp));
    assert_int_equal(session_error(peer.session), ERR_UPSTREAM_CLOSED);
    assert_int_equal(states[SESSION_DOWN], 0);
}

/* The socket takes little at a time; nothing is lost, and nothing spins. */
static void tcp_writes_in_parts(void **state) {
    struct session_config c = config();
    static uint8_t sent[300000];
    const uint8_t *p;
    size_t n, got = 0;
    (void)state;
    for (size_t i = 0; i < sizeof sent; i++) sent[i] = (uint8_t)(i * 2654435761u >> 13);
    stream_free(peer.tcp);
    stream_free(peer.near);
    assert_int_equal(pipe_pair(loop_defer(loop), 100, &peer.near, &peer.tcp), 0);
    stream_own(peer.tcp, on_peer, NULL);
    over_tcp(peer.near, &c);
    assert_true(until(is_up, LOOP_S));
    struct stream *st = open_tunnel();
    assert_true(sim_until(loop, answered, st, LOOP_S));
    for (size_t at = 0; at < sizeof sent || got < sizeof sent;) {
        if (at < sizeof sent) {
            long took = stream_write(st, sent + at, sizeof sent - at);
            assert_true(took >= 0);
            at += (size_t)took;
        }
        size_t before = got;
        sim_pass(loop, LOOP_MS);
        while (stream_peek(peer.tunnel, &p, &n) == STREAM_BYTES) {
            assert_memory_equal(p, sent + got, n);
            got += n;
            stream_consume(peer.tunnel, n);
        }
        assert_true(got > before);
    }
    stream_free(st);
}

static void tcp_waits_for_a_full_socket(void **state) {
    struct session_config c = config();
    (void)state;
    pipe_hold_writes(peer.near, true);
    over_tcp(peer.near, &c);
    sim_pass(loop, LOOP_S);
    uint64_t turns = sim_turns(loop);
    sim_pass(loop, 5 * LOOP_S);
    assert_true(sim_turns(loop) - turns < 10);
    assert_int_equal(pipe_unread(peer.tcp), 0);
    pipe_hold_writes(peer.near, false);
    assert_true(until(is_up, LOOP_S));
}

static void on_other_owner(struct stream *st, unsigned events, void *arg) {
    (void)st;
    (void)events;
    (void)arg;
}

/* What a peer said before the carrier had the socket: no event comes for it any more. */
static void tcp_reads_what_was_there(void **state) {
    struct session_config c = config();
    (void)state;
    assert_int_equal(stream_write(peer.tcp, "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 28);
    stream_own(peer.near, on_other_owner, NULL);
    stream_own(peer.tcp, NULL, NULL); /* it says no more */
    sim_pass(loop, LOOP_S);
    over_tcp(peer.near, &c);
    assert_true(until(is_down, LOOP_S));
    assert_down(ERR_UPSTREAM_TLS);
    assert_int_equal(carrier_error(carrier), ERR_OK);
}

static void tcp_ends_early(void **state) {
    struct session_config c = config();
    (void)state;
    over_tcp(peer.near, &c);
    stream_own(peer.tcp, NULL, NULL);
    stream_finish(peer.tcp);
    assert_true(until(is_down, LOOP_S));
    assert_int_equal(states[SESSION_UP], 0);
    assert_true((int)session_error(carrier_session(carrier)) < 0);
    assert_int_equal(carrier_error(carrier), ERR_OK);
}

/* A broken socket's own error is kept, and its death is no reason to write on. */
static void tcp_breaks(void **state) {
    struct session_config c = config();
    (void)state;
    over_tcp(peer.near, &c);
    assert_true(until(is_up, LOOP_S));
    struct stream *st = open_tunnel();
    assert_true(sim_until(loop, answered, st, LOOP_S));
    assert_true(stream_write(st, "x", 1) == 1);
    pipe_lose(peer.near, ERR_UPSTREAM_UNREACHABLE);
    assert_true(until(is_down, LOOP_S));
    assert_int_equal(carrier_error(carrier), ERR_UPSTREAM_UNREACHABLE);
    assert_down(ERR_UPSTREAM_CLOSED);
    assert_int_equal(st->err, ERR_UPSTREAM_CLOSED);
    stream_free(st);
    sim_pass(loop, 100 * LOOP_S);
    assert_int_equal(states[SESSION_DOWN], 1);
}

static void tcp_handshake_times_out(void **state) {
    struct session_config c = config();
    (void)state;
    c.handshake_timeout = 3000;
    stream_own(peer.tcp, NULL, NULL); /* nobody reads there */
    uint64_t start = loop_now(loop);
    over_tcp(peer.near, &c);
    assert_true(until(is_down, 60 * LOOP_S));
    assert_int_equal(loop_now(loop) - start, 3 * LOOP_S);
    assert_down(ERR_UPSTREAM_TIMEOUT);
    assert_int_equal(carrier_error(carrier), ERR_OK);
}

static uint64_t seen[64];
static unsigned n_seen;

static void look(void *arg) {
    struct session_info i;
    session_get_info(carrier_session(carrier), &i);
    assert_true(n_seen < 64);
    seen[n_seen++] = i.bytes_in;
    (void)arg;
}

/* However much is there, others get their turn after CARRIER_TURN bytes, and the rest follows by itself. */
static void tcp_reads_by_turns(void **state) {
    struct session_config c = config();
    static uint8_t bytes[3 * MIB];
    struct defer other;
    size_t at = 0, got = 0, n;
    const uint8_t *p;
    (void)state;
    over_tcp(peer.near, &c);
    assert_true(until(is_up, LOOP_S));
    struct stream *st = open_tunnel();
    assert_true(sim_until(loop, answered, st, LOOP_S));
    sim_pass(loop, LOOP_S);
    pipe_hold_reads(peer.near, true);
    while (at < sizeof bytes) {
        long took = stream_write(peer.tunnel, bytes + at, sizeof bytes - at);
        assert_true(took >= 0);
        at += (size_t)took;
        sim_pass(loop, LOOP_MS);
    }
    n_seen = 0;
    defer_init(&other, look, NULL);
    look(NULL);
    pipe_hold_reads(peer.near, false);
    for (unsigned i = 0; i < 60; i++) {
        defer_post(loop_defer(loop), &other);
        while (defer_pending(&other)) defer_queue_run(loop_defer(loop), 1);
    }
    for (unsigned i = 1; i < n_seen; i++) assert_true(seen[i] - seen[i - 1] <= CARRIER_TURN + BUF_CHUNK);
    assert_true(seen[n_seen - 1] - seen[0] > sizeof bytes);
    sim_pass(loop, LOOP_S);
    while (stream_peek(st, &p, &n) == STREAM_BYTES) {
        got += n;
        stream_consume(st, n);
    }
    assert_int_equal(got, sizeof bytes);
    stream_free(st);
}

static void freed_while_it_reports(void **state) {
    struct session_config c = config();
    (void)state;
    free_at = SESSION_UP;
    over_tcp(peer.near, &c);
    assert_true(until(is_up, LOOP_S));
    assert_null(carrier);
    sim_pass(loop, LOOP_S);
    assert_true(peer.down && pipe_peer_finished(peer.tcp) && !pipe_peer_reset(peer.tcp));
}

static void freed_while_it_reports_the_end(void **state) {
    struct session_config c = config();
    (void)state;
    free_at = SESSION_DOWN;
    over_tcp(peer.near, &c);
    assert_true(until(is_up, LOOP_S));
    pipe_lose(peer.near, ERR_UPSTREAM_RESET);
    assert_true(until(is_down, LOOP_S));
    assert_null(carrier);
}

static void freed_at_once(void **state) {
    struct session_config c = config();
    (void)state;
    over_tcp(peer.near, &c);
    carrier_free(carrier);
    carrier = NULL;
    sim_pass(loop, LOOP_S);
    assert_int_equal(states[SESSION_UP] + states[SESSION_DOWN] + progress, 0);
    assert_true(pipe_peer_freed(peer.tcp));
    carrier_free(NULL);
}

/* ---- UDP: the test endpoint ---- */

static struct endpoint *endpoint;

static int begin_udp(void **state) {
    struct addr at, bound;
    begin(state);
    struct endpoint_config c = {.loop = loop, .creds = session_pair_server_creds(), .user = "u", .password = "p",
                                .retry = true, .max_streams = 100};
    endpoint = endpoint_new(&c);
    assert_non_null(endpoint);
    assert_int_equal(addr_parse(&at, "10.0.0.1:443"), 0);
    assert_int_equal(endpoint_listen_udp(endpoint, &at, &bound), 0);
    return 0;
}

static int finish_udp(void **state) {
    carrier_free(carrier);
    carrier = NULL;
    sim_pass(loop, LOOP_S);
    endpoint_free(endpoint);
    return finish(state);
}

static void udp_goes_up_and_says_goodbye(void **state) {
    struct session_config c = config();
    struct session_info i;
    (void)state;
    over_udp("10.0.0.1:443", &c);
    assert_int_equal(states[SESSION_UP], 0);
    assert_true(until(is_up, LOOP_S));
    session_get_info(carrier_session(carrier), &i);
    assert_int_equal(i.kind, SESSION_H3);
    assert_true(progress > 0);
    assert_int_equal(endpoint_counts(endpoint)->sessions, 1);
    carrier_free(carrier);
    carrier = NULL;
    sim_pass(loop, LOOP_S);
    assert_int_equal(endpoint_counts(endpoint)->sessions, 0);
    assert_int_equal(states[SESSION_DOWN], 0);
}

/* What is lost is sent again when the session's deadline says so: the carrier's timer. */
static void udp_survives_loss(void **state) {
    struct session_config c = config();
    (void)state;
    net->loss = 300;
    c.handshake_timeout = 60000;
    over_udp("10.0.0.1:443", &c);
    assert_true(until(is_up, 60 * LOOP_S));
    assert_true(net->lost > 0);
}

static void udp_is_refused(void **state) {
    struct session_config c = config();
    (void)state;
    over_udp("10.0.0.1:444", &c);
    assert_true(until(is_down, LOOP_S));
    assert_down(ERR_UPSTREAM_REFUSED);
    assert_int_equal(carrier_error(carrier), ERR_UPSTREAM_REFUSED);
    assert_int_equal(states[SESSION_UP], 0);
}

/* ICMP can be forged: once the peer has spoken it ends nothing. */
static void udp_refusals_are_not_believed_later(void **state) {
    struct session_config c = config();
    (void)state;
    over_udp("10.0.0.1:443", &c);
    assert_true(until(is_up, LOOP_S));
    sim_rule(PORT, SIM_REFUSE, SIM_PASS);
    session_ping(carrier_session(carrier), loop_now(loop));
    uint64_t before = net->datagrams;
    sim_pass(loop, 5 * LOOP_S);
    assert_true(net->datagrams > before);
    assert_int_equal(states[SESSION_DOWN], 0);
    assert_int_equal(carrier_error(carrier), ERR_OK);
    sim_rule(PORT, SIM_PASS, SIM_PASS);
    sim_pass(loop, 10 * LOOP_S);
    assert_int_equal(session_get_state(carrier_session(carrier)), SESSION_UP);
}

/* After the Retry, too: a server was there. */
static void udp_refusals_are_not_believed_after_an_answer(void **state) {
    struct session_config c = config();
    (void)state;
    over_udp("10.0.0.1:443", &c);
    sim_pass(loop, 25 * LOOP_MS); /* the first flight and its answer, 10 ms each */
    assert_int_equal(session_get_state(carrier_session(carrier)), SESSION_STARTING);
    struct session_info i;
    session_get_info(carrier_session(carrier), &i);
    assert_true(i.last_rx > 0);
    sim_rule(PORT, SIM_REFUSE, SIM_PASS);
    sim_pass(loop, 2 * LOOP_S);
    assert_int_equal(states[SESSION_DOWN], 0);
    sim_rule(PORT, SIM_PASS, SIM_PASS);
    assert_true(until(is_up, 8 * LOOP_S));
}

static void udp_gets_no_answer(void **state) {
    struct session_config c = config();
    (void)state;
    sim_rule(PORT, SIM_DROP, SIM_PASS);
    uint64_t start = loop_now(loop);
    over_udp("10.0.0.1:443", &c);
    assert_true(until(is_down, 60 * LOOP_S));
    assert_int_equal(loop_now(loop) - start, 10 * LOOP_S);
    assert_down(ERR_UPSTREAM_TIMEOUT);
    assert_int_equal(carrier_error(carrier), ERR_OK);
}

static void udp_falls_silent(void **state) {
    struct session_config c = config();
    (void)state;
    over_udp("10.0.0.1:443", &c);
    assert_true(until(is_up, LOOP_S));
    sim_rule(PORT, SIM_DROP, SIM_PASS);
    assert_true(until(is_down, 100 * LOOP_S));
    assert_down(ERR_UPSTREAM_TIMEOUT);
}

static void udp_freed_while_it_reports(void **state) {
    struct session_config c = config();
    (void)state;
    free_at = SESSION_UP;
    over_udp("10.0.0.1:443", &c);
    assert_true(until(is_up, LOOP_S));
    assert_null(carrier);
    sim_pass(loop, LOOP_S);
    assert_int_equal(endpoint_counts(endpoint)->sessions, 0);
}

static int cleanup(void **state) {
    (void)state;
    session_pair_cleanup();
    buf_trim();
    return 0;
}

#define TCP(f) cmocka_unit_test_setup_teardown(f, begin_tcp, finish_tcp)
#define UDP(f) cmocka_unit_test_setup_teardown(f, begin_udp, finish_udp)

int main(void) {
    const struct CMUnitTest tests[] = {
        TCP(tcp_goes_up_and_leaves_in_order),
        TCP(tcp_writes_in_parts),
        TCP(tcp_waits_for_a_full_socket),
        TCP(tcp_reads_what_was_there),
        TCP(tcp_ends_early),
        TCP(tcp_breaks),
        TCP(tcp_handshake_times_out),
        TCP(tcp_reads_by_turns),
        TCP(freed_while_it_reports),
        TCP(freed_while_it_reports_the_end),
        TCP(freed_at_once),
        UDP(udp_goes_up_and_says_goodbye),
        UDP(udp_survives_loss),
        UDP(udp_is_refused),
        UDP(udp_refusals_are_not_believed_later),
        UDP(udp_refusals_are_not_believed_after_an_answer),
        UDP(udp_gets_no_answer),
        UDP(udp_falls_silent),
        UDP(udp_freed_while_it_reports),
    };
    return cmocka_run_group_tests_name("carrier", tests, NULL, cleanup);
}
