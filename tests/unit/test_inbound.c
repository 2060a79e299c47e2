/* test_inbound.c - listeners: their limits and deadlines, what becomes of connections whatever they speak, and of flows
 * until their end. The numbers are those of a list of attacks by local clients (A); what they say is in
 * test_inbound_socks.c and test_inbound_http.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/relay.h"
#include "lib/inbound_talk.h"
#include "lib/pipe.h"
#include "net/sock.h"

static const struct listen_user users[] = {{"alice", "secret"}, {"bob", "builder"}};

static void with_users(void) {
    talk_fresh(&(struct listen_config){.protocols = LISTEN_SOCKS5, .users = users, .n_users = 2});
}

static int begin(void **state) {
    (void)state;
    talk_fresh(&(struct listen_config){.protocols = LISTEN_SOCKS5});
    return 0;
}

/* A flow up to the upstream's answer. */
static struct pool_open *ask(struct talk *t) {
    *t = talk_open();
    SAY(t, GREETING CONNECT);
    HEARS(t, CHOSEN);
    return rig_opened(rig, rig->n_opens - 1);
}

/* And beyond. */
static struct talk served(struct talk *t) {
    struct pool_open *o = ask(t);
    rig_answer(o);
    HEARS(t, REP("\0"));
    return (struct talk){o->far};
}

/* --- time --- */

static void a01_a_client_that_says_nothing(void **state) {
    (void)state;
    struct talk t = talk_open();
    talk_pass_ms(9990);
    talk_is_open(&t);
    assert_int_equal(listener_connections(rig->listener), 1);
    talk_pass_ms(20);
    assert_int_equal(listener_connections(rig->listener), 0);
    HEARS_NOTHING(&t);
    talk_is_closed(&t);
    assert_int_equal(rig->records, 1);
    talk_recorded("listener=test protocol=- client=127.0.0.1:40000 dest=- by=client reason=client-timeout total_ms=10000");
}

static void a02_a_byte_every_nine_seconds(void **state) {
    static const char all[] = AUTH_GREETING "\1\5alice\6secret" CONNECT;
    (void)state;
    with_users();
    for (size_t begun = 0; begun < sizeof all - 1; begun++) { /* wherever it slows down */
        struct talk t = talk_open();
        if (begun) talk_say(&t, all, begun);
        uint8_t heard[8];
        size_t n = talk_take(&t, heard, sizeof heard);
        assert_int_equal(n, begun < 4 ? 0 : begun < 18 ? 2 : 4);
        talk_pass_ms(9000);
        talk_say(&t, all + begun, begun < 26 ? 1 : 0);
        talk_take(&t, heard, sizeof heard);
        talk_is_open(&t);
        talk_pass_ms(1000);
        talk_is_closed(&t);
        talk_recorded("reason=client-timeout");
    }
    assert_int_equal(rig->n_opens, 0);
}

static void the_deadline_ends_with_the_request(void **state) {
    struct talk t;
    (void)state;
    struct pool_open *o = ask(&t);
    talk_pass_ms(60000);
    talk_is_open(&t);
    rig_answer(o);
    HEARS(&t, REP("\0"));
    talk_pass_ms(60000);
    talk_is_open(&t);
    talk_close(&t, true);
}

/* --- the first byte --- */

static void a03_first_bytes(void **state) {
    static const struct scene others[] = {
        SCENE("\0", "", "protocol=- reason=client-protocol by=client"), SCENE("\1", "", "reason=client-protocol"),
        SCENE("\3", "", "reason=client-protocol"),                      SCENE("\6", "", "reason=client-protocol"),
        SCENE("\x16\3\1\0", "", "reason=client-protocol"),              SCENE("\377", "", "reason=client-protocol"),
        SCENE(" GET / HTTP/1.1\r\n", "", "reason=client-protocol"),
    };
    static const struct scene not_http[] = {
        SCENE("G", "", "protocol=- reason=client-protocol"),
        SCENE("POST / HTTP/1.1\r\n", "", "protocol=- reason=client-protocol"),
        SCENE("\r\n", "", "reason=client-protocol"),
    };
    static const struct scene not_socks[] = {
        SCENE(GREETING, "", "protocol=- reason=client-protocol"),
        SCENE("\4\1\1\273\300\0\2\1\0", "", "protocol=- reason=client-protocol"),
    };
    (void)state;
    SCENES(others);
    SCENES(not_http);
    talk_fresh(&(struct listen_config){.protocols = LISTEN_HTTP});
    SCENES(others);
    SCENES(not_socks);
    talk_fresh(&(struct listen_config){.protocols = LISTEN_ALL});
    SCENES(others);
    struct talk t = talk_open();
    SAY(&t, "G"); /* the beginning of HTTP */
    talk_is_open(&t);
    talk_close(&t, false);
    talk_recorded("reason=client-gone");
}

static void a03_tls_gets_a_hint_once_a_second(void **state) {
    static const struct scene tls[] = {SCENE("\x16\3\1\2\0\1\0\1\374\3\3", "", "reason=client-protocol")};
    (void)state;
    for (int i = 0; i < 3; i++) {
        uint64_t until = loop_now(rig->loop) + 500 * LOOP_MS;
        while (loop_now(rig->loop) < until) SCENES(tls);
        assert_int_equal(rig->warnings, i + 1);
        assert_non_null(strstr(rig->warning, "speaks TLS"));
        assert_non_null(strstr(rig->warning, "listener=test"));
        talk_pass_ms(1000);
    }
    assert_true(rig->records > 100);
}

/* --- the upstream's answer --- */

static void reasons_reach_the_client(void **state) {
    static const struct {
        int err;
        const char *hear, *record;
    } all[] = {
        {ERR_TARGET_REFUSED, REP("\5"), "by=target reason=target-refused dest=192.0.2.1:443 upstream=fake transport=h2"},
        {ERR_TARGET_HOST_UNREACHABLE, REP("\4"), "by=target reason=target-host-unreachable"},
        {ERR_TARGET_NET_UNREACHABLE, REP("\3"), "by=target reason=target-net-unreachable"},
        {ERR_TARGET_TIMEOUT, REP("\6"), "by=target reason=target-timeout"},
        {ERR_TARGET_DNS, REP("\4"), "by=target reason=target-dns"},
        {ERR_TARGET_DENIED, REP("\2"), "by=target reason=target-denied"},
        {ERR_UPSTREAM_UNREACHABLE, REP("\3"), "by=upstream reason=upstream-unreachable"},
        {ERR_UPSTREAM_AUTH, REP("\1"), "by=upstream reason=upstream-auth"},
        {ERR_UPSTREAM_BUSY, REP("\1"), "by=upstream reason=upstream-busy"},
        {ERR_LIMIT, REP("\1"), "by=adit reason=limit"},
        {ERR_SHUTDOWN, REP("\1"), "by=adit reason=shutdown"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct talk t;
        struct pool_open *o = ask(&t);
        talk_is_open(&t); /* nothing is said before the answer */
        rig_refuse(o, all[i].err, "why\r\nx=y");
        talk_hears(&t, all[i].hear, 10);
        assert_int_equal(listener_connections(rig->listener), 0);
        talk_is_closed(&t);
        assert_int_equal(rig->records, i + 1);
        talk_recorded(all[i].record);
        assert_non_null(strstr(rig->record, "detail=\"why\\x0d\\x0ax=y\""));
    }
}

static void a_client_leaves_before_the_answer(void **state) {
    struct talk t;
    (void)state;
    struct pool_open *o = ask(&t);
    talk_close(&t, true);
    assert_int_equal(o->state, RIG_OPEN_CANCELLED);
    assert_int_equal(listener_connections(rig->listener), 0);
    talk_recorded("by=client reason=client-reset dest=192.0.2.1:443 upstream=-");
    o = ask(&t); /* or while the answer is on its way */
    rig_answer(o);
    talk_close(&t, true);
    assert_int_not_equal(o->state, RIG_OPEN_ASKED);
    rig_settle(rig);
    assert_int_equal(flow_count(rig->flows), 0);
    assert_int_equal(rig->records, 2);
}

/* Its death is told along with the bytes: of the greeting, or of the request alone. */
static void a_client_leaves_with_its_request(void **state) {
    (void)state;
    for (int greeted = 0; greeted < 2; greeted++) {
        struct talk t = talk_open();
        if (greeted) SAY(&t, GREETING);
        size_t skip = greeted ? sizeof GREETING - 1 : 0, n = sizeof(GREETING CONNECT) - 1 - skip;
        assert_int_equal(stream_write(t.stream, &GREETING CONNECT[skip], n), n);
        talk_close(&t, true);
        assert_int_equal(rig->n_opens, 0);
        assert_int_equal(rig->records, greeted + 1);
        assert_int_equal(listener_connections(rig->listener), 0);
        talk_recorded("protocol=socks5 by=client reason=client-reset");
    }
    talk_recorded("dest=192.0.2.1:443");
}

/* Wherever it happens. */
static void a_client_leaves_during_its_handshake(void **state) {
    static const char all[] = AUTH_GREETING "\1\5alice\6secret" CONNECT;
    (void)state;
    with_users();
    for (size_t n = 0; n < sizeof all - 1; n++) {
        struct talk t = talk_open();
        uint8_t heard[8];
        talk_say(&t, all, n);
        talk_take(&t, heard, sizeof heard);
        stream_finish(t.stream);
        talk_is_closed(&t);
        talk_recorded("by=client reason=client-gone");
        t = talk_open();
        talk_say(&t, all, n);
        talk_close(&t, true);
        talk_recorded("by=client reason=client-reset");
        assert_int_equal(rig->records, 2 * (n + 1));
        assert_int_equal(listener_connections(rig->listener), 0);
    }
    assert_int_equal(rig->n_opens, 0);
}

static void a_client_that_cannot_be_answered(void **state) {
    (void)state;
    rig->room = 1; /* not even two bytes fit */
    struct talk t = talk_open();
    SAY(&t, GREETING);
    assert_int_equal(rig->records, 1);
    talk_recorded("reason=client-gone");
    talk_close(&t, true);
    rig->room = 9; /* the handshake is through, but there is no room for the reply */
    t = talk_open();
    SAY(&t, GREETING CONNECT);
    assert_int_equal(rig->n_opens, 1);
    rig_answer(rig_opened(rig, 0));
    rig_settle(rig);
    assert_int_equal(rig->records, 2);
    talk_recorded("by=client reason=client-gone up=0 down=0");
    assert_true(pipe_peer_reset(rig_opened(rig, 0)->far));
    talk_close(&t, true);
}

/* --- half-closes and those who do not read --- */

static void move_megabytes(struct talk *from, struct talk *to) {
    static uint8_t part[10000], got[10001];
    for (int i = 0; i < 200; i++) {
        memset(part, i, sizeof part);
        assert_int_equal(talk_say(from, part, sizeof part), sizeof part);
        assert_int_equal(talk_take(to, got, sizeof got), sizeof part);
        assert_memory_equal(got, part, sizeof part);
    }
}

static void a22_the_client_half_closes(void **state) {
    struct talk t = talk_open();
    (void)state;
    SAY(&t, GREETING CONNECT "ask");
    stream_finish(t.stream); /* long before the answer */
    HEARS(&t, CHOSEN);
    rig_answer(rig_opened(rig, 0));
    HEARS(&t, REP("\0"));
    struct talk far = {rig_opened(rig, 0)->far};
    HEARS(&far, "ask");
    assert_true(pipe_peer_finished(far.stream));
    move_megabytes(&far, &t);
    stream_finish(far.stream);
    talk_is_closed(&t);
    talk_recorded("by=client reason=ok up=3 down=2000000");
}

static void a23_the_target_half_closes(void **state) {
    struct talk t, far = served(&t);
    (void)state;
    SAY(&far, "hello");
    stream_finish(far.stream);
    HEARS(&t, "hello");
    move_megabytes(&t, &far);
    talk_is_closed(&t);
    assert_true(pipe_peer_finished(far.stream));
    talk_recorded("by=target reason=ok up=2000000 down=5");
}

/* Fills one direction of one flow; the other direction, and another flow, go on. */
static void a24_a25_those_who_do_not_read(void **state) {
    static uint8_t part[10000];
    (void)state;
    for (int up = 0; up < 2; up++) {
        struct talk t, far = served(&t), other, other_far = served(&other);
        struct talk *writer = up ? &t : &far, *stuck = up ? &far : &t;
        size_t sent = 0;
        for (size_t n = 1; n;) sent += n = talk_say(writer, part, sizeof part);
        assert_in_range(sent, RIG_ROOM, 2 * RIG_ROOM);
        uint64_t turns = sim_turns(rig->loop);
        talk_pass_ms(60000);
        assert_in_range(sim_turns(rig->loop) - turns, 0, 20);
        SAY(stuck, "against the stream");
        HEARS(writer, "against the stream");
        move_megabytes(&other, &other_far);
        move_megabytes(&other_far, &other);
        talk_close(&t, true);
        talk_close(&other, true);
        talk_pass_ms(RELAY_LAST_BYTES + 1000); /* for the far side to take the rest */
        assert_true(pipe_peer_reset(far.stream));
        assert_int_equal(listener_connections(rig->listener), 0);
    }
}

/* --- limits --- */

static void a27_one_connection_too_many(void **state) {
    static const struct scene full[] = {
        SCENE(GREETING CONNECT, CHOSEN REP("\1"), "protocol=socks5 dest=192.0.2.1:443 by=adit reason=limit"),
        SCENE(GREETING "\5\1\0\1\177\0\0\1\4\70", CHOSEN REP("\2"), "reason=client-loop"), /* has its own reason */
        SCENE("\5\1\2", "\5\377", "reason=client-auth")};
    struct talk a, b;
    (void)state;
    talk_fresh(&(struct listen_config){.protocols = LISTEN_SOCKS5, .max_connections = 2});
    ask(&a);
    served(&b);
    for (size_t i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++) {
            struct talk t = talk_open();
            talk_say(&t, full[i].say, full[i].say_n);
            talk_hears(&t, full[i].hear, full[i].hear_n);
            talk_is_closed(&t);
            talk_recorded(full[i].record);
            assert_int_equal(listener_connections(rig->listener), 2);
        }
    }
    assert_int_equal(rig->n_opens, 2);
    talk_is_open(&a);
    talk_is_open(&b);
    talk_close(&b, true);
    served(&b); /* there is a place again */
    talk_close(&a, true);
    talk_close(&b, true);
    assert_int_equal(rig->warnings, 1); /* at most one a second */
}

/* Not one more than LISTEN_OVERFLOW is held to be told so, and the log does not flood. */
static void a26_a_crowd(void **state) {
    struct talk in[2 + LISTEN_OVERFLOW];
    enum { IN = 2 + LISTEN_OVERFLOW };
    (void)state;
    talk_fresh(&(struct listen_config){.protocols = LISTEN_SOCKS5, .max_connections = 2});
    struct talk far = served(&in[0]);
    for (int i = 1; i < IN; i++) in[i] = talk_open();
    assert_int_equal(listener_connections(rig->listener), IN);
    for (int i = 0; i < 1000; i++) {
        struct stream *s = rig_connect(rig);
        assert_true(pipe_peer_reset(s) && pipe_peer_freed(s));
        stream_free(s);
    }
    assert_int_equal(rig->warnings, 1);
    assert_int_equal(listener_connections(rig->listener), IN);
    SAY(&in[0], "still here");
    HEARS(&far, "still here");
    talk_pass_ms(1000);
    struct talk t = talk_open();
    talk_is_reset(&t);
    assert_int_equal(rig->warnings, 2);
    assert_non_null(strstr(rig->warning, "too many connections on this listener listener=test "));
    talk_pass_ms(10000); /* those who say nothing go */
    assert_int_equal(listener_connections(rig->listener), 1);
    for (int i = 1; i < IN; i++) talk_is_closed(&in[i]);
    ask(&t);
    talk_close(&t, true);
    talk_close(&in[0], true);
}

/* --- the listener's own life --- */

static void through_the_socket(void **state) {
    int err;
    (void)state;
    assert_int_equal(addr_port(listener_addr(rig->listener)), 1080);
    assert_string_equal(listener_name(rig->listener), "test");
    struct stream *s = sock_connect(rig->loop, listener_addr(rig->listener), NULL, SOCK_TARGET, &err);
    talk_pass_ms(100);
    struct talk t = {s};
    assert_int_equal(listener_connections(rig->listener), 1);
    assert_int_equal(stream_write(s, GREETING CONNECT, 13), 13);
    talk_pass_ms(100);
    HEARS(&t, CHOSEN);
    rig_answer(rig_opened(rig, 0));
    talk_pass_ms(100);
    HEARS(&t, REP("\0"));
    talk_close(&t, false);
    talk_pass_ms(100);
    talk_close(&(struct talk){rig_opened(rig, 0)->far}, false);
    rig_opened(rig, 0)->far = NULL;
    assert_int_equal(listener_connections(rig->listener), 0);
    talk_recorded("listener=test protocol=socks5 reason=ok");
}

static void hear_nothing(struct stream *s, unsigned events, void *arg) { (void)s, (void)events, (void)arg; }

/* Their events are over; they are looked for all the same, and may end the connection at once. */
static void bytes_that_came_before(void **state) {
    static const char *const said[] = {GREETING, "\6"};
    struct addr remote;
    (void)state;
    addr_parse(&remote, "[::1]:40000");
    for (int i = 0; i < 2; i++) {
        struct talk t;
        struct stream *inner;
        assert_int_equal(pipe_pair(loop_defer(rig->loop), RIG_ROOM, &t.stream, &inner), 0);
        stream_own(inner, hear_nothing, NULL);
        talk_say(&t, said[i], i ? 1 : 3);
        listener_accept(rig->listener, inner, &remote);
        talk_hears(&t, CHOSEN, i ? 0 : 2);
        if (i == 0) talk_close(&t, true);
        else talk_is_closed(&t);
        talk_recorded(i ? "client=[::1]:40000 reason=client-protocol" : "protocol=socks5 reason=client-reset");
    }
}

static void addresses(void **state) {
    struct listen_config c = rig->cfg;
    struct listener *l;
    int errnum;
    (void)state;
    assert_int_equal(listener_new(&l, &c, &errnum), ERR_IO);
    assert_int_equal(errnum, EADDRINUSE);
    assert_null(l);
    addr_set_port(&c.address, 0);
    assert_int_equal(listener_new(&l, &c, &errnum), 0);
    assert_int_not_equal(addr_port(listener_addr(l)), 0);
    listener_free(l);
    listener_free(NULL);
}

/* Whatever the configuration was made of may go. */
static void everything_is_copied(void **state) {
    char name[] = "Name", user[] = "carol", password[] = "changeme";
    struct listen_user own = {user, password};
    (void)state;
    rig->cfg.name = name;
    rig->cfg.users = &own;
    rig->cfg.n_users = 1;
    assert_int_equal(listener_update(rig->listener, &rig->cfg), 0);
    memset(name, 'x', 4);
    memset(user, 'x', 5);
    memset(password, 'x', 8);
    own = (struct listen_user){NULL, NULL};
    assert_string_equal(listener_name(rig->listener), "Name");
    static const struct served right = {"\5\1\2" "\1\5carol\10changeme" CONNECT, 3 + 16 + 10, 29, AUTH_CHOSEN "\1\0", 4,
                                        REP("\0"), 10, "192.0.2.1:443"};
    talk_served(&right);
    talk_recorded("listener=Name");
}

static void an_update_during_handshakes(void **state) {
    struct talk before, during, flow;
    (void)state;
    with_users();
    rig->cfg.n_users = 1;
    before = talk_open();
    during = talk_open();
    SAY(&during, "\5\1\2");
    HEARS(&during, AUTH_CHOSEN);
    flow = talk_open();
    SAY(&flow, "\5\1\2" "\1\3bob\7builder" CONNECT);
    HEARS(&flow, AUTH_CHOSEN "\1\0");
    assert_int_equal(listener_update(rig->listener, &rig->cfg), 0); /* without bob */
    SAY(&during, "\1\3bob\7builder" CONNECT);
    HEARS(&during, "\1\1");
    talk_is_closed(&during);
    rig->cfg.users = NULL;
    rig->cfg.n_users = 0;
    rig->cfg.handshake_timeout = 1000;
    assert_int_equal(listener_update(rig->listener, &rig->cfg), 0);
    SAY(&before, GREETING CONNECT);
    HEARS(&before, CHOSEN);
    struct talk after = talk_open();
    talk_pass_ms(1000);
    talk_is_closed(&after);
    talk_is_open(&flow); /* goes on as it began */
    talk_close(&flow, true);
    talk_close(&before, true);
}

/* One who was asked for credentials before they were no longer wanted may not do without. */
static void an_update_lets_nobody_skip(void **state) {
    (void)state;
    with_users();
    struct talk t = talk_open();
    SAY(&t, AUTH_GREETING);
    HEARS(&t, AUTH_CHOSEN);
    rig->cfg.n_users = 0;
    assert_int_equal(listener_update(rig->listener, &rig->cfg), 0);
    SAY(&t, CONNECT);
    HEARS_NOTHING(&t);
    talk_is_closed(&t);
    assert_int_equal(rig->n_opens, 0);
}

static void the_listener_goes(void **state) {
    struct talk flow, opening, silent, half;
    (void)state;
    struct talk far = served(&flow);
    struct pool_open *o = ask(&opening);
    silent = talk_open();
    half = talk_open();
    SAY(&half, GREETING "\5\1\0\3");
    HEARS(&half, CHOSEN);
    listener_free(rig->listener);
    rig->listener = NULL;
    talk_is_reset(&silent);
    talk_is_reset(&half);
    assert_int_equal(rig->records, 2);
    talk_recorded("listener=test by=adit reason=shutdown");
    rig_answer(o);
    HEARS(&opening, REP("\0"));
    SAY(&flow, "flows live on");
    HEARS(&far, "flows live on");
    talk_close(&flow, true);
    talk_recorded("listener=test");
    talk_close(&opening, true);
    int err;
    struct addr at;
    addr_parse(&at, "127.0.0.1:1080");
    struct stream *s = sock_connect(rig->loop, &at, NULL, SOCK_TARGET, &err);
    talk_pass_ms(100);
    assert_int_equal(s->err, ERR_TARGET_REFUSED); /* nobody listens */
    stream_free(s);
}

static void no_flows_while_draining(void **state) {
    static const struct scene any[] = {SCENE(GREETING CONNECT, CHOSEN REP("\1"), "by=adit reason=shutdown")};
    (void)state;
    flow_set_drain(rig->flows, NULL, NULL);
    SCENES(any);
}

static void idle_flows_end(void **state) {
    struct talk t;
    (void)state;
    talk_fresh(&(struct listen_config){.protocols = LISTEN_SOCKS5, .idle_timeout = 60000});
    struct talk far = served(&t);
    talk_pass_ms(50000);
    SAY(&far, "x");
    HEARS(&t, "x");
    talk_pass_ms(59000);
    talk_is_open(&t);
    talk_pass_ms(1100);
    talk_is_reset(&t);
    talk_recorded("by=adit reason=idle");
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, talk_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a01_a_client_that_says_nothing),
        CASE(a02_a_byte_every_nine_seconds),
        CASE(the_deadline_ends_with_the_request),
        CASE(a03_first_bytes),
        CASE(a03_tls_gets_a_hint_once_a_second),
        CASE(reasons_reach_the_client),
        CASE(a_client_leaves_before_the_answer),
        CASE(a_client_leaves_with_its_request),
        CASE(a_client_leaves_during_its_handshake),
        CASE(a_client_that_cannot_be_answered),
        CASE(a22_the_client_half_closes),
        CASE(a23_the_target_half_closes),
        CASE(a24_a25_those_who_do_not_read),
        CASE(a27_one_connection_too_many),
        CASE(a26_a_crowd),
        CASE(through_the_socket),
        CASE(bytes_that_came_before),
        CASE(addresses),
        CASE(everything_is_copied),
        CASE(an_update_during_handshakes),
        CASE(an_update_lets_nobody_skip),
        CASE(the_listener_goes),
        CASE(no_flows_while_draining),
        CASE(idle_flows_end),
    };
    return cmocka_run_group_tests_name("inbound", tests, NULL, NULL);
}
