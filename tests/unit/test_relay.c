/* test_relay.c - the relay against in-memory pipes, by the rows of the closure table in doc/stream.md. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "flow/relay.h"
#include "lib/pipe.h"
#include "sim/sim.h"

#define ROOM 10000

/* The test holds the outer ends: `app` is the application, `net` the far side. */
static struct loop *loop;
static struct linger_set *lingers;
static struct stream *app, *net;
static struct relay *relay;
static struct relay_end end;
static unsigned ends;

static void on_end(const struct relay_end *e, void *arg) {
    (void)arg;
    end = *e;
    ends++;
    relay = NULL;
}

static int begin(void **state) {
    struct stream *client, *far;
    (void)state;
    loop = loop_new();
    lingers = linger_set_new(loop);
    assert_int_equal(pipe_pair(loop_defer(loop), ROOM, &app, &client), 0);
    assert_int_equal(pipe_pair(loop_defer(loop), ROOM, &net, &far), 0);
    ends = 0;
    struct relay_config c = {.loop = loop, .lingers = lingers, .client = client, .far = far, .idle_timeout = 60000,
                             .done = on_end};
    relay = relay_start(&c);
    assert_non_null(relay);
    return 0;
}

static int finish(void **state) {
    (void)state;
    relay_free(relay, NULL);
    relay = NULL;
    stream_free(app);
    stream_free(net);
    linger_set_free(lingers);
    loop_free(loop);
    return 0;
}

static void settle(void) { sim_pass(loop, LOOP_MS); }

static uint8_t pattern(uint64_t at) { return (uint8_t)(at * 31 + (at >> 8) * 17); }

/* Takes what is there and checks it; returns the new offset. */
static uint64_t take(struct stream *s, uint64_t at) {
    const uint8_t *p;
    size_t n;
    while (stream_peek(s, &p, &n) == STREAM_BYTES) {
        for (size_t i = 0; i < n; i++) assert_int_equal(p[i], pattern(at + i));
        stream_consume(s, n);
        at += n;
    }
    return at;
}

static uint64_t give(struct stream *s, uint64_t at, size_t n) {
    uint8_t part[3000];
    if (n > sizeof part) n = sizeof part;
    for (size_t i = 0; i < n; i++) part[i] = pattern(at + i);
    long took = stream_write(s, part, n);
    assert_true(took >= 0);
    return at + (uint64_t)took;
}

static int peeked(struct stream *s) {
    const uint8_t *p;
    size_t n;
    return stream_peek(s, &p, &n);
}

static void bytes_both_ways(void **state) {
    uint64_t up = 0, up_got = 0, down = 0, down_got = 0;
    (void)state;
    for (unsigned i = 0; up_got < 2000000 || down_got < 2000000; i++) {
        up = give(app, up, 1 + i * 7919 % 3000);
        down = give(net, down, 1 + i * 104729 % 3000);
        settle();
        up_got = take(net, up_got);
        down_got = take(app, down_got);
        settle();
    }
    assert_int_equal(ends, 0);
    stream_finish(app);
    stream_finish(net);
    settle();
    up_got = take(net, up_got);
    down_got = take(app, down_got);
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_OK);
    assert_int_equal(end.by, RELAY_CLIENT);
    assert_int_equal(end.up, up_got);
    assert_int_equal(end.down, down_got);
    assert_true(end.up_eof && end.down_eof);
}

static void a_full_side_stops_its_source(void **state) {
    uint64_t up = 0, last;
    (void)state;
    do {
        last = up;
        up = give(app, up, 3000);
        settle();
    } while (up > last);
    assert_in_range(up, ROOM, 2 * ROOM); /* one pipe full on either side of the relay, and no more */
    assert_int_equal(give(net, 0, 100), 100); /* the other way is free */
    settle();
    assert_int_equal(take(app, 0), 100);
    uint64_t got = 0;
    while (got < up) {
        got = take(net, got);
        settle();
    }
    assert_int_equal(got, up);
}

static void half_close(struct stream *first, struct stream *second, enum relay_side by) {
    uint64_t sent = give(first, 0, 3000), back = 0, got = 0;
    stream_finish(first);
    settle();
    assert_int_equal(take(second, 0), sent);
    assert_int_equal(peeked(second), STREAM_EOF);
    assert_int_equal(ends, 0);
    for (int i = 0; i < 50; i++) { /* the other direction goes on */
        back = give(second, back, 2000);
        settle();
        got = take(first, got);
        settle();
    }
    stream_finish(second);
    settle();
    assert_int_equal(take(first, got), back);
    assert_int_equal(peeked(first), STREAM_EOF);
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_OK);
    assert_int_equal(end.by, by);
}

static void client_half_closes(void **state) {
    (void)state;
    half_close(app, net, RELAY_CLIENT);
}

static void far_half_closes(void **state) {
    (void)state;
    half_close(net, app, RELAY_FAR);
}

static void client_resets(void **state) {
    (void)state;
    stream_reset(app, ERR_CANCELLED);
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.by, RELAY_CLIENT);
    assert_int_not_equal(end.err, ERR_OK);
    assert_true(pipe_peer_reset(net)); /* and the far side hears of it */
}

static void far_resets_after_bytes(void **state) {
    (void)state;
    give(net, 0, 500);
    stream_reset(net, ERR_CANCELLED);
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.by, RELAY_FAR);
    assert_true(pipe_peer_reset(app)); /* never a clean end */
}

static void the_session_is_lost(void **state) {
    (void)state;
    struct stream *client, *far;
    relay_free(relay, NULL); /* another one, whose inner ends the test can lose */
    stream_free(app);
    stream_free(net);
    assert_int_equal(pipe_pair(loop_defer(loop), ROOM, &app, &client), 0);
    assert_int_equal(pipe_pair(loop_defer(loop), ROOM, &net, &far), 0);
    struct relay_config c = {.loop = loop, .lingers = lingers, .client = client, .far = far, .done = on_end};
    relay = relay_start(&c);
    settle();
    pipe_lose(far, ERR_UPSTREAM_CLOSED);
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_UPSTREAM_CLOSED);
    assert_int_equal(end.by, RELAY_FAR);
    assert_true(pipe_peer_reset(app));
}

static void far_stops_reading(void **state) {
    (void)state;
    settle();
    pipe_stop(net, ERR_UPSTREAM_STOPPED);
    give(app, 0, 100);
    settle();
    assert_int_equal(ends, 0);
    uint64_t down = give(net, 0, 2000); /* its own direction goes on, to its end */
    stream_finish(net);
    settle();
    assert_int_equal(take(app, 0), down);
    assert_int_equal(peeked(app), STREAM_EOF);
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_OK);
    assert_false(pipe_peer_reset(app)); /* the close lingers: the client could read everything */
    sim_pass(loop, 3 * LOOP_S);
    assert_int_equal(linger_count(lingers), 0);
}

static void idleness_ends_it(void **state) {
    (void)state;
    sim_pass(loop, 50 * LOOP_S);
    give(app, 0, 1); /* a byte moves the limit */
    sim_pass(loop, 50 * LOOP_S);
    assert_int_equal(ends, 0);
    sim_pass(loop, 11 * LOOP_S);
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_IDLE);
    assert_int_equal(end.by, RELAY_SELF);
    assert_true(pipe_peer_reset(app) && pipe_peer_reset(net));
}

static void told_to_end(void **state) {
    (void)state;
    relay_abort(relay, ERR_SHUTDOWN);
    assert_int_equal(ends, 0); /* not from inside the call */
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_SHUTDOWN);
}

static void freed_while_it_runs(void **state) {
    struct relay_end moved;
    (void)state;
    give(app, 0, 100);
    settle();
    relay_free(relay, &moved);
    relay = NULL;
    settle();
    assert_int_equal(ends, 0);
    assert_int_equal(moved.up, 100);
    assert_int_equal(moved.err, ERR_SHUTDOWN);
    assert_true(pipe_peer_reset(app) && pipe_peer_reset(net));
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, finish)
    const struct CMUnitTest tests[] = {
        CASE(bytes_both_ways),    CASE(a_full_side_stops_its_source), CASE(client_half_closes),
        CASE(far_half_closes),    CASE(client_resets),                CASE(far_resets_after_bytes),
        CASE(the_session_is_lost), CASE(far_stops_reading),           CASE(idleness_ends_it),
        CASE(told_to_end),        CASE(freed_while_it_runs),
    };
    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
