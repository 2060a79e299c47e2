/* test_forward.c - scenarios: plain HTTP requests that are passed on, where time, memory and the end of things matter. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "net/sock.h"
#include "sim/world.h"

#define S LOOP_S
#define REQUEST "GET http://target.test/ HTTP/1.1\r\nHost: target.test\r\n\r\n"
#define POST "POST http://target.test/ HTTP/1.1\r\nHost: target.test\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define EACH_TRANSPORT(t) for (const char *t = "http2"; t; t = strcmp(t, "http2") == 0 ? "http3" : NULL)

/* --- an origin at 10.0.0.5:80 --- */

struct origin_conn {
    struct origin_conn *next;
    struct origin *origin;
    struct stream *stream;
    char head[1024];
    size_t head_len;
    uint64_t body, to_source;
    bool answered, eof, dead;
};

static struct origin {
    struct world *world;
    struct listener_sock *sock;
    struct origin_conn *conns; /* newest first */
    unsigned connections, requests;
    const char *reply; /* to each request's head; NULL: silence */
    uint64_t source;   /* bytes of the pattern after it */
    bool close;        /* and then the end */
    bool stuck;        /* reads nothing */
} origin;

static void origin_source(struct origin_conn *c) {
    uint8_t part[4096];
    while (c->to_source > 0) {
        uint64_t at = origin.source - c->to_source;
        size_t n = c->to_source < sizeof part ? (size_t)c->to_source : sizeof part;
        for (size_t i = 0; i < n; i++) part[i] = world_pattern(at + i);
        long took = stream_write(c->stream, part, n);
        if (took <= 0) return;
        c->to_source -= (uint64_t)took;
    }
    if (c->answered && origin.close) stream_finish(c->stream);
}

static void origin_answer(struct origin_conn *c) {
    origin.requests++;
    c->head_len = 0;
    if (!origin.reply) return;
    assert_int_equal(stream_write(c->stream, origin.reply, strlen(origin.reply)), strlen(origin.reply));
    c->answered = true;
    c->to_source = origin.source;
    origin_source(c);
}

static void on_origin(struct stream *s, unsigned events, void *arg) {
    struct origin_conn *c = arg;
    const uint8_t *p;
    size_t n;
    int r = STREAM_NONE;
    while (!origin.stuck && (r = stream_peek(s, &p, &n)) == STREAM_BYTES) {
        for (size_t i = 0; i < n; i++) {
            if (c->head_len == sizeof c->head) c->head_len--; /* a body */
            c->head[c->head_len++] = (char)p[i];
            c->body++;
            if (c->head_len >= 4 && memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4) == 0) origin_answer(c);
        }
        stream_consume(s, n);
    }
    if (r == STREAM_EOF && !c->eof) {
        c->eof = true;
        stream_finish(s); /* as origins do: nobody listens any more */
    }
    if (events & STREAM_DEAD) c->dead = true;
    else if (!c->eof) origin_source(c);
}

static void on_origin_accepted(struct stream *s, const struct addr *remote, void *arg) {
    struct origin_conn *c = calloc(1, sizeof *c);
    (void)remote, (void)arg;
    c->stream = s;
    c->next = origin.conns;
    origin.conns = c;
    origin.connections++;
    stream_own(s, on_origin, c);
    on_origin(s, 0, c);
}

static unsigned origin_open(void) {
    unsigned n = 0;
    for (struct origin_conn *c = origin.conns; c; c = c->next) n += !c->eof && !c->dead;
    return n;
}

static void origin_close_all(void) {
    while (origin.conns) {
        struct origin_conn *c = origin.conns;
        origin.conns = c->next;
        stream_free(c->stream);
        free(c);
    }
}

/* --- a client of raw HTTP --- */

struct http {
    struct stream *stream;
    bool connected, stuck, eof, dead;
    char text[2048]; /* the first of what came */
    size_t len;
    uint64_t received, body; /* body: what follows the first head */
    bool corrupt;
    size_t head;
    const char *unsent;
    size_t unsent_len;
};

static void http_write(struct http *h) {
    while (h->unsent_len > 0) {
        long took = stream_write(h->stream, h->unsent, h->unsent_len);
        if (took <= 0) return;
        h->unsent += took;
        h->unsent_len -= (size_t)took;
    }
}

static void http_take(struct http *h, uint8_t byte) {
    if (h->head && byte != world_pattern(h->body)) h->corrupt = true;
    if (h->head) h->body++;
    if (h->len < sizeof h->text - 1) h->text[h->len++] = (char)byte;
    h->received++;
    if (!h->head && h->len >= 4 && memcmp(h->text + h->len - 4, "\r\n\r\n", 4) == 0) h->head = h->len;
}

static void on_http(struct stream *s, unsigned events, void *arg) {
    struct http *h = arg;
    const uint8_t *p;
    size_t n;
    int r = STREAM_NONE;
    if (events & STREAM_OPEN) h->connected = true;
    if (events & STREAM_DEAD) h->dead = true;
    else http_write(h);
    while (!h->stuck && (r = stream_peek(s, &p, &n)) == STREAM_BYTES) {
        for (size_t i = 0; i < n; i++) http_take(h, p[i]);
        stream_consume(s, n);
    }
    if (r == STREAM_EOF) h->eof = true;
}

static void http_say(struct http *h, const char *text, size_t n) {
    h->unsent = text;
    h->unsent_len = n;
    http_write(h);
}

static void say(struct http *h, const char *text) { http_say(h, text, strlen(text)); }

static void http_open(struct http *h, struct world *w) {
    struct addr at;
    int err;
    *h = (struct http){0};
    addr_parse(&at, "127.0.0.1:1080");
    h->stream = sock_connect(w->loop, &at, NULL, SOCK_TARGET, &err);
    stream_own(h->stream, on_http, h);
    while (!h->connected) sim_pass(w->loop, LOOP_MS);
}

static void http_close(struct http *h, bool reset) {
    if (reset) stream_reset(h->stream, ERR_CANCELLED);
    else stream_finish(h->stream);
    stream_free(h->stream);
    h->stream = NULL;
}

static bool http_got(const struct http *h, const char *text) { return strstr(h->text, text) != NULL; }

static bool http_got_twice(const struct http *h, const char *text) {
    const char *at = strstr(h->text, text);
    return at && strstr(at + 1, text);
}

/* --- the stage --- */

static struct world *up(const struct world_config *c) {
    struct world *w = world_new(c);
    struct addr at;
    int errnum;
    origin = (struct origin){.world = w, .reply = OK};
    addr_parse(&at, "10.0.0.5:80");
    origin.sock = sock_listen(w->loop, &at, 16, on_origin_accepted, &origin, &errnum);
    assert_non_null(origin.sock);
    world_start(w);
    assert_true(world_until_up(w, 5 * S));
    return w;
}

static struct world *up_on(const char *transport) { return up(&(struct world_config){.transport = transport}); }

static void down(struct world *w) {
    sock_listen_free(origin.sock);
    origin_close_all();
    world_free(w); /* fails if a socket is left */
    buf_trim();
    assert_int_equal(buf_chunks(), 0);
}

static void a_request_byte_by_byte(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http h;
        http_open(&h, w);
        for (size_t i = 0; i < sizeof REQUEST - 1; i++) {
            http_say(&h, REQUEST + i, 1);
            sim_pass(w->loop, 5 * LOOP_MS);
        }
        sim_pass(w->loop, S);
        assert_string_equal(h.text, OK);
        assert_int_equal(origin.requests, 1);
        http_close(&h, false);
        sim_pass(w->loop, 5 * S);
        assert_int_equal(gateway_flows(w->gw), 0);
        assert_int_equal(origin_open(), 0);
        down(w);
    }
}

static void waiting_has_an_end(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http h;
        http_open(&h, w);
        for (int i = 0; i < 4; i++) { /* longer together than it may wait once */
            say(&h, REQUEST);
            sim_pass(w->loop, 40 * S);
            assert_false(h.eof || h.dead);
        }
        assert_int_equal(origin.requests, 4);
        assert_int_equal(origin.connections, 1);
        assert_int_equal(gateway_flows(w->gw), 0); /* waiting is no flow */
        sim_pass(w->loop, 25 * S);
        assert_true(h.eof);
        assert_false(h.dead);
        sim_pass(w->loop, 5 * S);
        assert_int_equal(origin_open(), 0);
        assert_int_equal(endpoint_counts(w->ep)->tunnels_open, 0);
        http_close(&h, false);
        down(w);
    }
}

static void a_silent_origin_is_504(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(&(struct world_config){.transport = t, .listener = "idle_timeout = \"20s\""});
        struct http h, busy;
        origin.reply = NULL;
        http_open(&h, w);
        say(&h, REQUEST);
        sim_pass(w->loop, 15 * S);
        assert_int_equal(h.received, 0);
        sim_pass(w->loop, 10 * S);
        assert_true(http_got(&h, "HTTP/1.1 504 ") && http_got(&h, "connection_read_timeout") && h.eof);
        http_close(&h, false);
        origin.reply = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"; /* and never more */
        http_open(&busy, w);
        say(&busy, REQUEST);
        sim_pass(w->loop, 25 * S);
        assert_true(http_got(&busy, "200 OK") && busy.dead && !busy.eof); /* a part is no whole */
        http_close(&busy, true);
        sim_pass(w->loop, 5 * S);
        assert_int_equal(gateway_flows(w->gw), 0);
        down(w);
    }
}

static void large_bodies_are_bounded_and_intact(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(&(struct world_config){.transport = t, .endpoint = "stream_window = \"1MiB\""});
        struct http h;
        origin.source = 8 << 20;
        origin.reply = "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n";
        http_open(&h, w);
        h.stuck = true;
        say(&h, REQUEST);
        sim_pass(w->loop, 30 * S);
        assert_in_range(world_pool(w).session.unread, 1 << 16, (1 << 20) + 65536);
        uint64_t turns = sim_turns(w->loop);
        sim_pass(w->loop, 10 * S);
        assert_in_range(sim_turns(w->loop) - turns, 0, 200); /* nobody spins */
        h.stuck = false;
        on_http(h.stream, 0, &h);
        sim_pass(w->loop, 60 * S);
        assert_int_equal(h.body, origin.source);
        assert_false(h.corrupt || h.dead || h.eof);
        http_close(&h, false);
        down(w);
    }
}

static void an_upload_to_a_stuck_origin_is_bounded(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http h;
        static const char head[] = POST "Content-Length: 33554432\r\n\r\n";
        size_t n = sizeof head - 1 + (32 << 20);
        char *text = malloc(n);
        memset(text, 'x', n);
        memcpy(text, head, sizeof head - 1);
        origin.stuck = true;
        origin.reply = NULL;
        http_open(&h, w);
        http_say(&h, text, n);
        sim_pass(w->loop, 20 * S);
        assert_true(h.unsent_len > 8 << 20); /* what was taken is on its way, not kept */
        uint64_t turns = sim_turns(w->loop);
        sim_pass(w->loop, 10 * S);
        assert_in_range(sim_turns(w->loop) - turns, 0, 200);
        origin.stuck = false;
        on_origin(origin.conns->stream, 0, origin.conns);
        sim_pass(w->loop, 60 * S);
        assert_int_equal(h.unsent_len, 0);
        assert_true(origin.conns->body > 32 << 20);
        stream_write(origin.conns->stream, OK, sizeof OK - 1);
        sim_pass(w->loop, S);
        assert_string_equal(h.text, OK);
        http_close(&h, false);
        free(text);
        down(w);
    }
}

static void a_lost_session_is_never_a_clean_end(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http before, within, closing, chunked;
        origin.reply = NULL;
        http_open(&before, w);
        say(&before, REQUEST);
        sim_pass(w->loop, S);
        origin.reply = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
        http_open(&within, w);
        say(&within, REQUEST);
        sim_pass(w->loop, S);
        origin.reply = "HTTP/1.1 200 OK\r\n\r\nany"; /* up to the end of the connection */
        http_open(&closing, w);
        say(&closing, REQUEST);
        sim_pass(w->loop, S);
        origin.reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        http_open(&chunked, w);
        say(&chunked, REQUEST);
        sim_pass(w->loop, S);
        assert_true(http_got(&within, "half") && http_got(&closing, "any") && http_got(&chunked, "abc"));
        sim_cut();
        sim_pass(w->loop, 60 * S);
        assert_true(http_got(&before, "HTTP/1.1 502 ") || http_got(&before, "HTTP/1.1 504 "));
        assert_true(before.eof);
        assert_true(within.dead && !within.eof);
        assert_true(closing.dead && !closing.eof);
        assert_true(chunked.dead && !chunked.eof);
        http_close(&before, false);
        http_close(&within, true);
        http_close(&closing, true);
        http_close(&chunked, true);
        down(w);
    }
}

static void a_kept_stream_of_a_lost_session_is_replaced(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http h;
        http_open(&h, w);
        say(&h, REQUEST);
        sim_pass(w->loop, S);
        sim_cut();
        say(&h, REQUEST); /* on a stream that nobody answers any more */
        sim_pass(w->loop, 60 * S);
        assert_true(http_got_twice(&h, OK));
        assert_false(h.eof || h.dead);
        assert_int_equal(origin.connections, 2);
        http_close(&h, false);
        down(w);
    }
}

static void a_new_configuration_drops_kept_streams(void **state) {
    (void)state;
    struct world *w = up_on("http3");
    struct http h;
    char why[GATEWAY_WHY_MAX];
    http_open(&h, w);
    say(&h, REQUEST);
    sim_pass(w->loop, S);
    struct conf *conf = world_conf(w, &(struct world_config){.transport = "http2"});
    assert_int_equal(gateway_reload(w->gw, conf, why, sizeof why), 0);
    conf_unref(conf);
    sim_pass(w->loop, 5 * S);
    say(&h, REQUEST);
    sim_pass(w->loop, 5 * S);
    assert_true(http_got_twice(&h, OK));
    assert_int_equal(origin.connections, 2);
    assert_int_equal(endpoint_counts(w->ep)->requests_h2, 1);
    sim_pass(w->loop, 30 * S);
    assert_int_equal(endpoint_counts(w->ep)->sessions, 1); /* the old session is not held */
    http_close(&h, false);
    down(w);
}

static void on_drained(void *arg) { *(bool *)arg = true; }

static void drain_waits_for_exchanges_alone(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http idle, busy;
        bool drained = false;
        http_open(&idle, w);
        say(&idle, REQUEST);
        sim_pass(w->loop, S);
        origin.reply = NULL;
        http_open(&busy, w);
        say(&busy, REQUEST REQUEST); /* the second one must not begin */
        sim_pass(w->loop, S);
        gateway_drain(w->gw, on_drained, &drained);
        sim_pass(w->loop, 5 * S);
        assert_true(idle.eof && !idle.dead);
        assert_false(drained || busy.eof || busy.dead);
        stream_write(origin.conns->stream, OK, sizeof OK - 1);
        sim_pass(w->loop, 5 * S);
        assert_true(http_got(&busy, "Connection: close") && http_got(&busy, "ok") && busy.eof);
        assert_true(drained);
        assert_int_equal(origin.requests, 2);
        http_close(&idle, false);
        http_close(&busy, false);
        down(w);
    }
}

static void everything_ends_at_once(void **state) {
    (void)state;
    EACH_TRANSPORT(t) { /* in each state of an exchange */
        struct world *w = up_on(t);
        struct http h[4];
        http_open(&h[0], w); /* waiting */
        say(&h[0], REQUEST);
        sim_pass(w->loop, S);
        origin.reply = NULL;
        http_open(&h[1], w); /* requested */
        say(&h[1], REQUEST);
        sim_pass(w->loop, S);
        origin.reply = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        http_open(&h[2], w); /* answered */
        say(&h[2], REQUEST);
        sim_pass(w->loop, S);
        endpoint_faults(w->ep)->slow_accept = 20000;
        http_open(&h[3], w); /* opening */
        say(&h[3], REQUEST);
        sim_pass(w->loop, S);
        assert_int_equal(gateway_flows(w->gw), 3);
        gateway_free(w->gw);
        w->gw = NULL;
        sim_pass(w->loop, S);
        for (int i = 0; i < 4; i++) http_close(&h[i], true);
        sim_pass(w->loop, 5 * S);
        down(w);
    }
}

static void clients_that_leave_take_their_exchange_along(void **state) {
    (void)state;
    EACH_TRANSPORT(t)
        for (int how = 0; how < 8; how++) { /* opening, requested, answered, in a request; half-closed or reset */
            struct world *w = up_on(t);
            struct http h;
            bool reset = how & 1;
            origin.reply = how / 2 == 2 ? "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" : NULL;
            if (how / 2 == 0) endpoint_faults(w->ep)->slow_accept = 3000;
            http_open(&h, w);
            say(&h, how / 2 == 3 ? POST "Content-Length: 9\r\n\r\nhalf" : REQUEST);
            sim_pass(w->loop, S);
            assert_int_equal(gateway_flows(w->gw), 1);
            if (reset) {
                http_close(&h, true);
                sim_pass(w->loop, 5 * S);
                assert_int_equal(gateway_flows(w->gw), 0);
                assert_int_equal(origin_open(), 0);
            } else {
                stream_finish(h.stream); /* a whole request is answered nevertheless */
                sim_pass(w->loop, 5 * S);
                assert_int_equal(gateway_flows(w->gw), how / 2 == 3 ? 0 : 1);
                if (how / 2 == 3) assert_true(h.dead && origin_open() == 0);
                else stream_write(origin.conns->stream, how / 2 == 2 ? "-done" : OK, how / 2 == 2 ? 5 : sizeof OK - 1);
                sim_pass(w->loop, 5 * S);
                if (how / 2 != 3) assert_true((http_got(&h, "-done") || http_got(&h, "ok")) && h.eof && !h.dead);
                stream_free(h.stream);
            }
            sim_pass(w->loop, 5 * S);
            assert_int_equal(gateway_flows(w->gw), 0);
            assert_int_equal(endpoint_counts(w->ep)->tunnels_open, 0);
            down(w);
        }
}

static void an_early_answer_ends_the_upload(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http h;
        static char text[1 << 20];
        int n = snprintf(text, sizeof text, POST "Content-Length: 100000000\r\n\r\n");
        memset(text + n, 'x', sizeof text - (size_t)n);
        origin.reply = "HTTP/1.1 413 Too much\r\nContent-Length: 3\r\n\r\nbig";
        http_open(&h, w);
        http_say(&h, text, sizeof text);
        sim_pass(w->loop, 10 * S);
        assert_true(http_got(&h, "413 Too much") && http_got(&h, "Connection: close") && http_got(&h, "big"));
        assert_int_equal(gateway_flows(w->gw), 0);
        assert_int_equal(origin_open(), 0);
        http_close(&h, true);
        down(w);
    }
}

static void the_way_out_is_refused(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        struct http h;
        http_open(&h, w);
        say(&h, "GET http://nowhere.test/ HTTP/1.1\r\nHost: x\r\n\r\n" REQUEST);
        sim_pass(w->loop, 5 * S);
        assert_true(http_got(&h, "HTTP/1.1 502 ") && h.eof);
        assert_int_equal(origin.requests, 0); /* after an error nothing else is served */
        http_close(&h, false);
        endpoint_faults(w->ep)->x_warning = 310;
        http_open(&h, w);
        say(&h, REQUEST);
        sim_pass(w->loop, 5 * S);
        assert_true(http_got(&h, "HTTP/1.1 403 ") && h.eof);
        http_close(&h, false);
        down(w);
    }
}

static void a_hundred_connections(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up_on(t);
        static struct http h[100];
        for (int i = 0; i < 100; i++) http_open(&h[i], w);
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < 100; i++) say(&h[i], REQUEST);
            sim_pass(w->loop, 10 * S);
        }
        assert_int_equal(origin.requests, 300);
        assert_int_equal(origin.connections, 100);
        for (int i = 0; i < 100; i++) {
            assert_string_equal(h[i].text, OK OK OK);
            http_close(&h[i], i % 2);
        }
        sim_pass(w->loop, 10 * S);
        assert_int_equal(gateway_flows(w->gw), 0);
        assert_int_equal(endpoint_counts(w->ep)->tunnels_open, 0);
        down(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_byte_by_byte),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(a_silent_origin_is_504),
        cmocka_unit_test(large_bodies_are_bounded_and_intact),
        cmocka_unit_test(an_upload_to_a_stuck_origin_is_bounded),
        cmocka_unit_test(a_lost_session_is_never_a_clean_end),
        cmocka_unit_test(a_kept_stream_of_a_lost_session_is_replaced),
        cmocka_unit_test(a_new_configuration_drops_kept_streams),
        cmocka_unit_test(drain_waits_for_exchanges_alone),
        cmocka_unit_test(everything_ends_at_once),
        cmocka_unit_test(clients_that_leave_take_their_exchange_along),
        cmocka_unit_test(an_early_answer_ends_the_upload),
        cmocka_unit_test(the_way_out_is_refused),
        cmocka_unit_test(a_hundred_connections),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
