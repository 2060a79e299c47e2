/* test_linger.c - last words to clients over in-memory pipes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "flow/linger.h"
#include "lib/pipe.h"
#include "sim/sim.h"

static struct loop *loop;
static struct linger_set *set;
static struct stream *app, *inner;

static void connect_client(size_t room) {
    assert_int_equal(pipe_pair(loop_defer(loop), room, &app, &inner), 0);
}

static int begin(void **state) {
    (void)state;
    loop = loop_new();
    set = linger_set_new(loop);
    connect_client(1000);
    return 0;
}

static int finish(void **state) {
    (void)state;
    assert_int_equal(linger_count(set), 0);
    stream_free(app);
    linger_set_free(set);
    loop_free(loop);
    return 0;
}

static void settle(void) { sim_pass(loop, LOOP_MS); }

static void hears(const char *text) {
    const uint8_t *p;
    size_t n;
    if (*text) {
        assert_int_equal(stream_peek(app, &p, &n), STREAM_BYTES);
        assert_int_equal(n, strlen(text));
        assert_memory_equal(p, text, n);
        stream_consume(app, n);
    }
    assert_int_equal(stream_peek(app, &p, &n), STREAM_EOF);
}

static void a_client_that_closes(void **state) {
    (void)state;
    linger_close(set, inner, "sorry", 5);
    settle();
    hears("sorry");
    assert_int_equal(linger_count(set), 1); /* it could still be sending */
    stream_finish(app);
    settle();
    assert_int_equal(linger_count(set), 0);
    assert_true(pipe_peer_freed(app));
    assert_false(pipe_peer_reset(app));
}

static void a_client_that_had_closed(void **state) {
    (void)state;
    stream_finish(app);
    settle();
    linger_close(set, inner, "sorry", 5); /* over before the call returns */
    assert_int_equal(linger_count(set), 0);
    settle();
    hears("sorry");
    assert_false(pipe_peer_reset(app));
}

static void a_client_that_goes_on(void **state) {
    (void)state;
    stream_write(app, "unread", 6);
    settle();
    linger_close(set, inner, "sorry", 5);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(stream_write(app, "and more", 8), 8);
        settle();
    }
    hears("sorry"); /* none of that was answered by a reset */
    stream_finish(app);
    settle();
    assert_int_equal(linger_count(set), 0);
    assert_false(pipe_peer_reset(app));
}

static void a_client_that_stays(void **state) {
    (void)state;
    linger_close(set, inner, NULL, 0);
    sim_pass(loop, (LINGER_TIME - 10) * LOOP_MS);
    hears("");
    assert_int_equal(linger_count(set), 1);
    stream_write(app, "x", 1); /* moves no limit */
    sim_pass(loop, 20 * LOOP_MS);
    assert_int_equal(linger_count(set), 0);
    assert_true(pipe_peer_freed(app));
}

static void a_client_that_floods(void **state) {
    static const uint8_t junk[900];
    (void)state;
    size_t sent = 0;
    linger_close(set, inner, "sorry", 5);
    settle();
    hears("sorry");
    while (linger_count(set) && sent < 2 * LINGER_BYTES) {
        long r = stream_write(app, junk, sizeof junk);
        assert_true(r >= 0);
        sent += (size_t)r;
        settle();
    }
    assert_in_range(sent, LINGER_BYTES, LINGER_BYTES + 2000);
    assert_int_equal(linger_count(set), 0);
    assert_true(stream_write(app, junk, 1) < 0);
}

/* What is there at once counts as well. */
static void a_flood_that_was_there(void **state) {
    static uint8_t junk[2 * LINGER_BYTES];
    (void)state;
    stream_free(app);
    stream_free(inner);
    connect_client(sizeof junk);
    assert_int_equal(stream_write(app, junk, sizeof junk), sizeof junk);
    settle();
    linger_close(set, inner, "sorry", 5);
    assert_int_equal(linger_count(set), 0);
    assert_true(pipe_peer_reset(app));
}

static void a_client_that_dies(void **state) {
    (void)state;
    linger_close(set, inner, "sorry", 5);
    settle();
    assert_int_equal(linger_count(set), 1);
    stream_reset(app, ERR_CLIENT_RESET);
    settle();
    assert_int_equal(linger_count(set), 0);
    assert_true(pipe_peer_freed(app));
}

static void a_client_that_was_dead(void **state) {
    for (int n = 0; n < 2; n++) {
        (void)state;
        pipe_lose(inner, ERR_CLIENT_RESET);
        linger_close(set, inner, n ? "sorry" : NULL, n ? 5 : 0);
        assert_int_equal(linger_count(set), 0);
        assert_true(pipe_peer_freed(app));
        stream_free(app);
        connect_client(1000);
    }
    stream_free(inner);
}

static void a_reply_that_does_not_fit(void **state) {
    char text[2000];
    (void)state;
    memset(text, 'a', sizeof text);
    linger_close(set, inner, text, sizeof text);
    settle();
    text[1000] = 0;
    hears(text); /* cut, and an end all the same */
    stream_finish(app);
    settle();
}

static void no_more_than_the_maximum(void **state) {
    enum { MORE = 20 };
    struct stream *apps[LINGER_MAX + MORE];
    (void)state;
    for (unsigned i = 0; i < LINGER_MAX + MORE; i++) {
        struct stream *s;
        assert_int_equal(pipe_pair(loop_defer(loop), 100, &apps[i], &s), 0);
        linger_close(set, s, "sorry", 5);
        assert_in_range(linger_count(set), 1, LINGER_MAX);
        if (i == 100) { /* one from the middle, and the oldest */
            stream_finish(apps[50]);
            stream_finish(apps[0]);
            settle();
            assert_int_equal(linger_count(set), 99);
        }
    }
    for (unsigned i = 0; i < LINGER_MAX + MORE; i++) /* the oldest had to go, in order */
        assert_int_equal(pipe_peer_freed(apps[i]), i < MORE - 1 || i == 50);
    sim_pass(loop, (LINGER_TIME + 1) * LOOP_MS);
    assert_int_equal(linger_count(set), 0);
    for (unsigned i = 0; i < LINGER_MAX + MORE; i++) stream_free(apps[i]);
    stream_free(inner);
}

static void the_set_is_freed(void **state) {
    (void)state;
    linger_close(set, inner, "sorry", 5);
    linger_set_free(set);
    set = linger_set_new(loop);
    assert_true(pipe_peer_freed(app));
    sim_pass(loop, 3 * LOOP_S);
    linger_set_free(NULL);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, finish)
    const struct CMUnitTest tests[] = {
        CASE(a_client_that_closes),      CASE(a_client_that_had_closed), CASE(a_client_that_goes_on),
        CASE(a_client_that_stays),       CASE(a_client_that_floods),     CASE(a_flood_that_was_there),
        CASE(a_client_that_dies),        CASE(a_client_that_was_dead),   CASE(a_reply_that_does_not_fit),
        CASE(no_more_than_the_maximum),  CASE(the_set_is_freed),
    };
    return cmocka_run_group_tests_name("linger", tests, NULL, NULL);
}
