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

/* The test holds the outer ends: `app` is the application, `net` the far side. The inner ones are the relay's, and
 * are named here only to play the network to them. */
static struct loop *loop;
static struct linger_set *lingers;
static struct stream *app, *net, *client, *far;
static struct relay *relay;
static struct relay_end end;
static unsigned ends;

static void on_end(const struct relay_end *e, void *arg) {
    (void)arg;
    end = *e;
    ends++;
    relay = NULL;
}

static void pipes(size_t room) {
    assert_int_equal(pipe_pair(loop_defer(loop), room, &app, &client), 0);
    assert_int_equal(pipe_pair(loop_defer(loop), room, &net, &far), 0);
}

static void start(uint32_t idle_timeout) {
    struct relay_config c = {.loop = loop, .lingers = lingers, .client = client, .far = far,
                             .idle_timeout = idle_timeout, .done = on_end};
    ends = 0;
    relay = relay_start(&c);
    assert_non_null(relay);
}

static void drop(void) {
    relay_free(relay, NULL);
    relay = NULL;
    stream_free(app);
    stream_free(net);
    app = net = NULL;
}

static int begin(void **state) {
    (void)state;
    loop = loop_new();
    lingers = linger_set_new(loop);
    pipes(ROOM);
    start(60000);
    return 0;
}

static int finish(void **state) {
    (void)state;
    drop();
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
    assert_int_equal(end.by, RELAY_FAR);
    assert_false(end.up_eof);
    assert_true(end.down_eof);
    assert_false(pipe_peer_reset(app)); /* the close lingers: the client could read everything */
    sim_pass(loop, 3 * LOOP_S);
    assert_int_equal(linger_count(lingers), 0);
}

static void client_stops_reading(void **state) {
    (void)state;
    settle();
    pipe_stop(app, ERR_CLIENT_GONE);
    give(net, 0, 100);
    settle();
    assert_int_equal(ends, 0);
    uint64_t up = give(app, 0, 2000); /* the upload goes on */
    stream_finish(app);
    settle();
    assert_int_equal(take(net, 0), up);
    assert_int_equal(peeked(net), ERR_CANCELLED); /* what it sent was not taken: no clean end */
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_OK);
    assert_int_equal(end.by, RELAY_CLIENT);
    assert_true(end.up_eof);
    assert_false(end.down_eof);
}

static void both_stop_reading(void **state) {
    (void)state;
    settle();
    pipe_stop(net, ERR_UPSTREAM_STOPPED);
    pipe_stop(app, ERR_CLIENT_GONE);
    give(app, 0, 100);
    give(net, 0, 100);
    settle();
    assert_int_equal(ends, 1); /* nothing can move any more */
    assert_int_equal(end.err, ERR_OK);
    sim_pass(loop, 3 * LOOP_S);
    assert_int_equal(linger_count(lingers), 0);
}

/* What had arrived before the session was lost is delivered as far as the client takes it, and then it is told. */
static void lost_with_bytes_unread(void **state) {
    (void)state;
    settle();
    pipe_hold_writes(client, true);
    uint64_t down = give(net, 0, 3000);
    settle();
    pipe_lose(far, ERR_UPSTREAM_CLOSED);
    settle();
    assert_int_equal(ends, 0);
    pipe_hold_writes(client, false);
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_UPSTREAM_CLOSED);
    assert_int_equal(end.by, RELAY_FAR);
    assert_int_equal(end.down, down);
    assert_int_equal(take(app, 0), down);
    assert_true(peeked(app) < 0);
    assert_true(pipe_peer_reset(app));
}

static void client_dies_with_bytes_unread(void **state) {
    (void)state;
    settle();
    pipe_hold_writes(far, true);
    uint64_t up = give(app, 0, 3000);
    settle();
    pipe_lose(client, ERR_CLIENT_RESET);
    settle();
    assert_int_equal(ends, 0);
    pipe_hold_writes(far, false);
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_CLIENT_RESET);
    assert_int_equal(end.by, RELAY_CLIENT);
    assert_int_equal(end.up, up);
    assert_int_equal(take(net, 0), up);
    assert_true(pipe_peer_reset(net));
}

static void lost_while_nobody_takes_its_bytes(void **state) {
    (void)state;
    settle();
    pipe_hold_writes(client, true);
    give(net, 0, 3000);
    settle();
    pipe_lose(far, ERR_UPSTREAM_CLOSED);
    give(app, 0, 100); /* refused by a dead stream; that changes nothing */
    sim_pass(loop, 59 * LOOP_S);
    assert_int_equal(ends, 0);
    uint64_t turns = sim_turns(loop);
    sim_pass(loop, 2 * LOOP_S); /* bounded by idleness */
    assert_in_range(sim_turns(loop) - turns, 1, 20);
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_IDLE);
}

/* Nobody holds a flow, and the place that it takes, by dying with bytes that the other side does not want. */
static void the_last_bytes_do_not_wait_for_ever(void **state) {
    (void)state;
    for (int partly = 0; partly < 2; partly++) {
        drop();
        pipes(3000);
        start(0); /* no idleness */
        give(app, 0, 3000);
        settle(); /* the far pipe is full */
        give(app, 3000, 3000);
        settle();
        sim_pass(loop, 3600 * LOOP_S);
        stream_reset(app, ERR_CLIENT_RESET);
        settle();
        if (partly) { /* a byte moves the limit, once more */
            sim_pass(loop, 30 * LOOP_S);
            const uint8_t *p;
            size_t n;
            assert_int_equal(stream_peek(net, &p, &n), STREAM_BYTES);
            stream_consume(net, 100);
        }
        sim_pass(loop, RELAY_LAST_BYTES * LOOP_MS - LOOP_S);
        assert_int_equal(ends, 0);
        sim_pass(loop, 2 * LOOP_S);
        assert_int_equal(ends, 1);
        assert_int_equal(end.err, ERR_IDLE);
        assert_int_equal(end.up, partly ? 3100 : 3000);
        assert_true(pipe_peer_reset(net));
    }
}

/* The target had ended its direction when the session was lost under the upload: no orderly end. */
static void lost_after_the_far_eof(void **state) {
    for (int writing = 0; writing < 2; writing++) {
        (void)state;
        drop();
        pipes(ROOM);
        start(0);
        stream_finish(net);
        settle();
        assert_int_equal(peeked(app), STREAM_EOF);
        pipe_lose(far, ERR_UPSTREAM_CLOSED);
        if (writing) give(app, 0, 100);
        settle();
        assert_int_equal(ends, 1);
        assert_int_equal(end.err, ERR_UPSTREAM_CLOSED);
        assert_int_equal(end.by, RELAY_FAR);
        assert_true(pipe_peer_reset(app));
        assert_int_equal(linger_count(lingers), 0);
    }
}

static void client_lost_after_its_eof(void **state) {
    for (int writing = 0; writing < 2; writing++) {
        (void)state;
        drop();
        pipes(ROOM);
        start(0);
        stream_finish(app);
        settle();
        assert_int_equal(peeked(net), STREAM_EOF);
        pipe_lose(client, ERR_CLIENT_RESET);
        if (writing) give(net, 0, 100);
        settle();
        assert_int_equal(ends, 1);
        assert_int_equal(end.err, ERR_CLIENT_RESET);
        assert_int_equal(end.by, RELAY_CLIENT);
        assert_true(pipe_peer_reset(net));
    }
}

static void hear_nothing(struct stream *s, unsigned events, void *arg) { (void)s, (void)events, (void)arg; }

/* Its death was told to the owner before. */
static void dead_from_the_beginning(void **state) {
    for (int i = 0; i < 4; i++) {
        bool far_dies = i & 1, after_eof = i & 2;
        (void)state;
        drop();
        pipes(ROOM);
        stream_own(client, hear_nothing, NULL);
        stream_own(far, hear_nothing, NULL);
        give(app, 0, 100);
        uint64_t down = give(net, 0, 200);
        if (after_eof) {
            stream_finish(app);
            stream_finish(net);
        }
        pipe_lose(far_dies ? far : client, ERR_UPSTREAM_RESET);
        settle();
        start(0);
        settle();
        assert_int_equal(ends, 1);
        assert_int_equal(end.err, ERR_UPSTREAM_RESET);
        assert_int_equal(end.by, far_dies ? RELAY_FAR : RELAY_CLIENT);
        if (far_dies) assert_int_equal(take(app, 0), down);
        assert_true(pipe_peer_reset(far_dies ? app : net));
    }
}

/* EOF is passed on behind the last byte, however long that waits. */
static void eof_behind_held_bytes(void **state) {
    (void)state;
    settle();
    pipe_hold_writes(far, true);
    uint64_t up = give(app, 0, 3000);
    stream_finish(app);
    sim_pass(loop, 30 * LOOP_S);
    assert_false(pipe_peer_finished(net));
    pipe_hold_writes(far, false);
    settle();
    assert_int_equal(take(net, 0), up);
    assert_int_equal(peeked(net), STREAM_EOF);
}

static void held_writes_both_ways(void **state) {
    (void)state;
    uint64_t up = 0, up_got = 0, down = 0, down_got = 0;
    settle();
    for (unsigned i = 0; i < 3000; i++) {
        pipe_hold_writes(far, i % 3 == 0);
        pipe_hold_writes(client, i % 5 < 2);
        pipe_hold_reads(client, i % 7 == 0);
        up = give(app, up, 1 + i * 7919 % 3000);
        down = give(net, down, 1 + i * 104729 % 3000);
        settle();
        up_got = take(net, up_got);
        down_got = take(app, down_got);
    }
    pipe_hold_writes(far, false);
    pipe_hold_writes(client, false);
    pipe_hold_reads(client, false);
    stream_finish(app);
    stream_finish(net);
    for (int i = 0; i < 10; i++) {
        settle();
        up_got = take(net, up_got);
        down_got = take(app, down_got);
    }
    assert_int_equal(up_got, up);
    assert_int_equal(down_got, down);
    assert_true(up > 1000000 && down > 1000000);
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_OK);
}

static void a_long_transfer(void **state) {
    static const uint64_t total = 64 << 20;
    (void)state;
    uint64_t sent = 0, got = 0;
    drop();
    pipes(700001);
    start(60000);
    for (unsigned i = 0; got < total; i++) {
        for (unsigned k = 0; k < 300 && sent < total; k++) {
            size_t n = 1 + (i * 300 + k) * 7919 % 3000;
            sent = give(net, sent, total - sent < n ? (size_t)(total - sent) : n);
        }
        settle();
        got = take(app, got);
    }
    stream_finish(net);
    stream_finish(app);
    settle();
    assert_int_equal(got, total);
    assert_int_equal(ends, 1);
    assert_int_equal(end.down, total);
    assert_int_equal(end.by, RELAY_CLIENT);
}

/* One turn of the loop moves no more than RELAY_TURN, and goes on by itself. */
static void others_get_their_turn(void **state) {
    (void)state;
    drop();
    pipes(8 * RELAY_TURN);
    start(0);
    settle();
    uint64_t sent = 0;
    while (sent < 4 * RELAY_TURN) sent = give(net, sent, 3000);
    while (!defer_queue_run(loop_defer(loop), 0)) continue; /* events, but no turn of the loop */
    assert_in_range(pipe_unread(app), RELAY_TURN, 2 * RELAY_TURN - 1);
    settle();
    assert_int_equal(pipe_unread(app), sent);
}

/* A stream whose writes fail although it lives. */
static int mute_peek(struct stream *s, const uint8_t **p, size_t *n) {
    (void)s, (void)p, (void)n;
    return STREAM_NONE;
}
static void mute_consume(struct stream *s, size_t n) { (void)s, (void)n; }
static long mute_write(struct stream *s, const uint8_t *p, size_t n) {
    (void)s, (void)p, (void)n;
    return ERR_NO_MEMORY;
}
static bool mute_was_reset;
static void mute_finish(struct stream *s) { (void)s; }
static void mute_reset(struct stream *s, enum err why) {
    (void)s, (void)why;
    mute_was_reset = true;
}
static void mute_free(struct stream *s) { (void)s; }

static void out_of_memory_fails_the_flow(void **state) {
    static const struct stream_ops ops = {"mute",      mute_peek,  mute_consume, mute_write,
                                          mute_finish, mute_reset, mute_free};
    static struct stream mute;
    (void)state;
    drop();
    pipes(ROOM);
    stream_free(far);
    stream_init(&mute, &ops, loop_defer(loop));
    far = &mute;
    mute_was_reset = false;
    start(60000);
    give(app, 0, 100);
    settle();
    assert_int_equal(ends, 1); /* never a silent gap in the upload */
    assert_int_equal(end.err, ERR_NO_MEMORY);
    assert_int_equal(end.by, RELAY_SELF);
    assert_true(mute_was_reset && pipe_peer_reset(app));
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

static void either_way_counts_against_idleness(void **state) {
    (void)state;
    uint64_t down = 0, got = 0;
    stream_finish(app);
    for (int i = 0; i < 10; i++) { /* half-closed, with a trickle */
        sim_pass(loop, 55 * LOOP_S);
        down = give(net, down, 1);
        settle();
        got = take(app, got);
    }
    assert_int_equal(ends, 0);
    assert_int_equal(got, 10);
    sim_pass(loop, 61 * LOOP_S);
    assert_int_equal(end.err, ERR_IDLE);
    assert_true(end.up_eof);

    drop();
    pipes(ROOM);
    start(0);
    sim_pass(loop, 864000 * LOOP_S);
    assert_int_equal(ends, 0);
}

static void told_to_end_when_it_was_over(void **state) {
    (void)state;
    struct relay_end moved;
    settle();
    pipe_lose(far, ERR_UPSTREAM_CLOSED);
    defer_queue_run(loop_defer(loop), 1); /* it knows, and has not yet said so */
    assert_int_equal(ends, 0);
    relay_abort(relay, ERR_SHUTDOWN);
    relay_abort(relay, ERR_SHUTDOWN);
    relay_free(relay, &moved);
    relay = NULL;
    settle();
    assert_int_equal(ends, 0);
    assert_int_equal(moved.err, ERR_UPSTREAM_CLOSED);
    assert_int_equal(moved.by, RELAY_FAR);
    relay_free(NULL, NULL);
}

static void told_to_end(void **state) {
    (void)state;
    relay_abort(relay, ERR_SHUTDOWN);
    assert_int_equal(ends, 0); /* not from inside the call */
    settle();
    assert_int_equal(ends, 1);
    assert_int_equal(end.err, ERR_SHUTDOWN);
    assert_int_equal(end.by, RELAY_SELF);
    assert_true(pipe_peer_reset(app) && pipe_peer_reset(net));
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
        CASE(bytes_both_ways),
        CASE(a_full_side_stops_its_source),
        CASE(held_writes_both_ways),
        CASE(a_long_transfer),
        CASE(others_get_their_turn),
        CASE(client_half_closes),
        CASE(far_half_closes),
        CASE(eof_behind_held_bytes),
        CASE(client_resets),
        CASE(far_resets_after_bytes),
        CASE(the_session_is_lost),
        CASE(lost_with_bytes_unread),
        CASE(client_dies_with_bytes_unread),
        CASE(lost_while_nobody_takes_its_bytes),
        CASE(the_last_bytes_do_not_wait_for_ever),
        CASE(lost_after_the_far_eof),
        CASE(client_lost_after_its_eof),
        CASE(dead_from_the_beginning),
        CASE(far_stops_reading),
        CASE(client_stops_reading),
        CASE(both_stop_reading),
        CASE(out_of_memory_fails_the_flow),
        CASE(idleness_ends_it),
        CASE(either_way_counts_against_idleness),
        CASE(told_to_end),
        CASE(told_to_end_when_it_was_over),
        CASE(freed_while_it_runs),
    };
    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
