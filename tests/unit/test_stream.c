#include "lib/pipe.h"
#include "lib/stream_suite.h"

#define ROOM 50000

struct env {
    struct defer_queue queue;
};

static void *env_setup(void) {
    struct env *env = test_malloc(sizeof *env);
    defer_queue_init(&env->queue, NULL, NULL);
    return env;
}

static int env_pair(void *env, struct stream **a, struct stream **b) {
    return pipe_pair(&((struct env *)env)->queue, ROOM, a, b);
}

static bool env_io(void *env) {
    (void)env;
    return false;
}

static struct defer_queue *env_queue(void *env) {
    return &((struct env *)env)->queue;
}

static void env_teardown(void *env) {
    assert_null(env_queue(env)->head);
    test_free(env);
}

static const struct stream_factory factory = {
    .name = "pipe",
    .setup = env_setup,
    .pair = env_pair,
    .io = env_io,
    .queue = env_queue,
    .teardown = env_teardown,
    .bound = ROOM,
    .reset_err = ERR_CANCELLED,
};

/* --- the generic part: a stream whose transport only counts --- */

struct fake {
    struct stream s;
    unsigned resets, frees;
    unsigned notify_in_reset;
};

static int fake_peek(struct stream *s, const uint8_t **p, size_t *n) {
    (void)s;
    *p = NULL;
    *n = 0;
    return STREAM_NONE;
}

static void fake_consume(struct stream *s, size_t n) {
    (void)s;
    (void)n;
    fail_msg("nothing to consume");
}

static long fake_write(struct stream *s, const uint8_t *p, size_t n) {
    (void)s;
    (void)p;
    return (long)n;
}

static void fake_finish(struct stream *s) {
    (void)s;
}

static void fake_reset(struct stream *s, enum err why) {
    struct fake *f = (struct fake *)s;
    f->resets++;
    s->err = why;
    stream_notify(s, f->notify_in_reset);
}

static void fake_free(struct stream *s) {
    ((struct fake *)s)->frees++;
    stream_notify(s, STREAM_IN);
    stream_detach(s);
}

static const struct stream_ops fake_ops = {
    .name = "fake",
    .peek = fake_peek,
    .consume = fake_consume,
    .write = fake_write,
    .finish = fake_finish,
    .reset = fake_reset,
    .free = fake_free,
};

struct seen {
    unsigned calls, events;
};

static void on_event(struct stream *s, unsigned events, void *arg) {
    struct seen *seen = arg;
    assert_non_null(s);
    seen->calls++;
    seen->events |= events;
}

static void events_are_gathered(void **state) {
    (void)state;
    struct defer_queue q;
    struct fake f = {0};
    struct seen seen = {0};
    defer_queue_init(&q, NULL, NULL);
    stream_init(&f.s, &fake_ops, &q);
    stream_own(&f.s, on_event, &seen);
    stream_notify(&f.s, STREAM_OPEN);
    stream_notify(&f.s, STREAM_IN);
    stream_notify(&f.s, STREAM_IN | STREAM_OUT);
    assert_int_equal(seen.calls, 0);
    assert_true(defer_queue_run(&q, 0));
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.events, STREAM_OPEN | STREAM_IN | STREAM_OUT);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.calls, 1);
    stream_free(&f.s);
    assert_int_equal(f.frees, 1);
}

static void held_events_go_to_the_next_owner(void **state) {
    (void)state;
    struct defer_queue q;
    struct fake f = {0};
    struct seen first = {0}, second = {0};
    defer_queue_init(&q, NULL, NULL);
    stream_init(&f.s, &fake_ops, &q);
    /* Before the first owner, too. */
    stream_notify(&f.s, STREAM_OPEN);
    assert_null(q.head);
    stream_own(&f.s, on_event, &first);
    assert_non_null(q.head);
    stream_own(&f.s, NULL, NULL);
    assert_null(q.head);
    stream_notify(&f.s, STREAM_IN);
    assert_null(q.head);
    stream_own(&f.s, on_event, &second);
    defer_queue_run(&q, 0);
    assert_int_equal(first.calls, 0);
    assert_int_equal(second.calls, 1);
    assert_int_equal(second.events, STREAM_OPEN | STREAM_IN);
    stream_free(&f.s);
}

static void nothing_follows_detach_reset_and_free(void **state) {
    (void)state;
    struct defer_queue q;
    struct seen seen = {0};
    defer_queue_init(&q, NULL, NULL);
    for (int how = 0; how < 3; how++) {
        struct fake f = {.notify_in_reset = STREAM_DEAD};
        stream_init(&f.s, &fake_ops, &q);
        stream_own(&f.s, on_event, &seen);
        stream_notify(&f.s, STREAM_IN);
        if (how == 0) stream_detach(&f.s);
        if (how == 1) stream_reset(&f.s, ERR_CANCELLED);
        if (how == 2) stream_free(&f.s);
        assert_null(q.head);
        stream_notify(&f.s, STREAM_IN | STREAM_DEAD);
        stream_own(&f.s, on_event, &seen);
        assert_null(q.head);
        assert_true(defer_queue_run(&q, 0));
        assert_int_equal(f.resets, how == 1);
    }
    assert_int_equal(seen.calls, 0);
}

static void consuming_nothing_does_nothing(void **state) {
    (void)state;
    struct defer_queue q;
    struct fake f = {0};
    defer_queue_init(&q, NULL, NULL);
    stream_init(&f.s, &fake_ops, &q);
    stream_consume(&f.s, 0); /* fake_consume would fail */
    assert_int_equal(stream_write(&f.s, "abc", 3), 3);
    stream_free(&f.s);
    stream_free(NULL);
    assert_int_equal(f.frees, 1);
}

/* --- the pipe's switches --- */

static void held_writes_are_refused(void **state) {
    (void)state;
    struct defer_queue q;
    struct stream *a, *b;
    struct seen seen = {0};
    defer_queue_init(&q, NULL, NULL);
    assert_int_equal(pipe_pair(&q, 10, &a, &b), 0);
    stream_own(a, on_event, &seen);
    pipe_hold_writes(a, true);
    assert_int_equal(stream_write(a, "abc", 3), 0);
    pipe_hold_writes(a, false);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.events, STREAM_OUT);
    assert_int_equal(stream_write(a, "abc", 3), 3);
    assert_int_equal(pipe_unread(b), 3);
    stream_free(a);
    stream_free(b);
}

static void held_reads_are_not_seen(void **state) {
    (void)state;
    struct defer_queue q;
    struct stream *a, *b;
    struct seen seen = {0};
    const uint8_t *p;
    size_t n;
    defer_queue_init(&q, NULL, NULL);
    assert_int_equal(pipe_pair(&q, 10, &a, &b), 0);
    stream_own(b, on_event, &seen);
    pipe_hold_reads(b, true);
    assert_int_equal(stream_write(a, "abc", 3), 3);
    stream_finish(a);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(stream_peek(b, &p, &n), STREAM_NONE);
    assert_true(pipe_peer_finished(b));
    pipe_hold_reads(b, false);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.events, STREAM_IN);
    assert_int_equal(stream_peek(b, &p, &n), STREAM_BYTES);
    assert_int_equal(n, 3);
    assert_memory_equal(p, "abc", 3);
    stream_consume(b, 3);
    assert_int_equal(stream_peek(b, &p, &n), STREAM_EOF);
    stream_free(a);
    assert_true(pipe_peer_freed(b));
    assert_false(pipe_peer_reset(b));
    stream_free(b);
}

static void far_side_can_be_played(void **state) {
    (void)state;
    struct defer_queue q;
    struct stream *a, *b;
    struct seen seen = {0}, far = {0};
    const uint8_t *p;
    size_t n;
    defer_queue_init(&q, NULL, NULL);
    assert_int_equal(pipe_pair(&q, 10, &a, &b), 0);
    stream_own(a, on_event, &seen);
    stream_own(b, on_event, &far);
    pipe_open(a, 200);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.events, STREAM_OPEN);
    assert_int_equal(a->status, 200);
    pipe_stop(b, ERR_UPSTREAM_STOPPED);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.events, STREAM_OPEN | STREAM_OUT);
    assert_int_equal(stream_write(a, "a", 1), ERR_UPSTREAM_STOPPED);
    assert_int_equal(stream_write(b, "b", 1), 1);
    pipe_lose(a, ERR_UPSTREAM_CLOSED);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.events, STREAM_OPEN | STREAM_OUT | STREAM_IN | STREAM_DEAD);
    assert_int_equal(stream_peek(a, &p, &n), STREAM_BYTES);
    stream_consume(a, 1);
    assert_int_equal(stream_peek(a, &p, &n), ERR_UPSTREAM_CLOSED);
    assert_int_equal(far.events, 0);
    stream_free(a);
    stream_free(b);
}

static void free_with_unread_resets_even_after_finish(void **state) {
    (void)state;
    struct defer_queue q;
    struct stream *a, *b;
    struct seen seen = {0};
    defer_queue_init(&q, NULL, NULL);
    assert_int_equal(pipe_pair(&q, 10, &a, &b), 0);
    stream_own(a, on_event, &seen);
    assert_int_equal(stream_write(a, "abc", 3), 3);
    stream_finish(b);
    stream_free(b);
    defer_queue_run(&q, 0);
    assert_int_equal(seen.events, STREAM_IN | STREAM_DEAD);
    assert_true(pipe_peer_reset(a));
    assert_int_equal(stream_write(a, "d", 1), ERR_CANCELLED);
    stream_free(a);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_gathered),
        cmocka_unit_test(held_events_go_to_the_next_owner),
        cmocka_unit_test(nothing_follows_detach_reset_and_free),
        cmocka_unit_test(consuming_nothing_does_nothing),
        cmocka_unit_test(held_writes_are_refused),
        cmocka_unit_test(held_reads_are_not_seen),
        cmocka_unit_test(far_side_can_be_played),
        cmocka_unit_test(free_with_unread_resets_even_after_finish),
    };
    return stream_suite_run(&factory, tests, sizeof tests / sizeof tests[0]);
}
