#include "lib/stream_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define PUMPS_MAX 2000  /* rounds of a transfer before it counts as stuck */
#define QUIET_MAX 1000000 /* io() calls of one pump before it counts as spinning */
#define ALL_EVENTS (STREAM_OPEN | STREAM_IN | STREAM_OUT | STREAM_DEAD)

struct suite;

/* One end and what its owner, the suite, knows of it. */
struct side {
    struct suite *t;
    struct stream *s; /* NULL when freed */
    uint8_t key;      /* makes the bytes that this side writes its own */
    struct side *far;
    uint64_t to_write, written, read;
    bool finish;     /* after to_write bytes */
    bool reading;    /* reads at STREAM_IN */
    bool free_at_in; /* frees itself, and its peer with free_peer, at STREAM_IN */
    bool free_peer;
    bool eof, dead;
    bool may_die; /* else STREAM_DEAD fails the test */
    unsigned opens, ins, outs, deads, calls;
    unsigned step; /* picks the next size */
};

struct suite {
    const struct stream_factory *f;
    void *env;
    struct side side[4]; /* two pairs */
    struct side *a, *b;
    bool swapped;
    unsigned inside; /* > 0 while no event may be delivered */
    size_t chunks;   /* of all buffers before the case */
};

struct suite_case {
    const struct stream_factory *f;
    void (*run)(struct suite *t);
    bool swapped;
    char name[96];
};

/* --- operations, with a watch on events from inside them --- */

static int do_peek(struct side *e, const uint8_t **p, size_t *n) {
    e->t->inside++;
    int r = stream_peek(e->s, p, n);
    e->t->inside--;
    assert_true(r < 0 || r == STREAM_NONE || r == STREAM_BYTES || r == STREAM_EOF);
    if (r == STREAM_BYTES) assert_true(*n > 0);
    if (r < 0) assert_int_equal(r, e->s->err);
    return r;
}

static void do_consume(struct side *e, size_t n) {
    e->t->inside++;
    stream_consume(e->s, n);
    e->t->inside--;
}

static long do_write(struct side *e, const uint8_t *p, size_t n) {
    e->t->inside++;
    long r = stream_write(e->s, p, n);
    e->t->inside--;
    assert_true(r <= (long)n);
    return r;
}

static void do_finish(struct side *e) {
    e->t->inside++;
    stream_finish(e->s);
    e->t->inside--;
}

static void do_reset(struct side *e, enum err why) {
    e->t->inside++;
    stream_reset(e->s, why);
    e->t->inside--;
}

static void do_free(struct side *e) {
    struct stream *s = e->s;
    e->s = NULL; /* on_event fails from here on */
    e->t->inside++;
    stream_free(s);
    e->t->inside--;
}

/* --- bytes that know their place --- */

static uint8_t pattern(uint8_t key, uint64_t at) {
    return (uint8_t)(at * 167 + (at >> 8) * 13 + (at >> 16) * 101 + key);
}

static const size_t sizes[] = {1, 2, 3, 7, 64, 127, 1000, 1371, 4097, 16383, 16384, 16385, 40009};
#define SIZE_LARGEST 40009

static size_t next_size(struct side *e) {
    return sizes[e->step++ % (sizeof sizes / sizeof sizes[0])];
}

static void check_bytes(const struct side *e, const uint8_t *p, size_t n, uint64_t at) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != pattern(e->far->key, at + i)) fail_msg("byte %llu is wrong", (unsigned long long)(at + i));
}

/* Writes n bytes at the most, in one call; returns what stream_write did. */
static long write_some(struct side *e, size_t n) {
    static uint8_t bytes[SIZE_LARGEST];
    assert_true(n <= sizeof bytes);
    for (size_t i = 0; i < n; i++) bytes[i] = pattern(e->key, e->written + i);
    long r = do_write(e, bytes, n);
    if (r > 0) e->written += (uint64_t)r;
    /* What was taken was taken: the memory is the caller's again. */
    memset(bytes, 0xee, n);
    return r;
}

/* Writes until full or done. */
static void write_on(struct side *e) {
    while (e->written < e->to_write) {
        size_t n = next_size(e);
        if (n > e->to_write - e->written) n = (size_t)(e->to_write - e->written);
        long r = write_some(e, n);
        assert_true(r >= 0);
        if ((size_t)r < n) return;
    }
    if (e->finish) do_finish(e);
    e->finish = false;
}

/* Reads, a part of what is shown at a time, until nothing is left. */
static void read_on(struct side *e) {
    const uint8_t *p;
    size_t n;
    int r;
    while ((r = do_peek(e, &p, &n)) == STREAM_BYTES) {
        assert_false(e->eof);
        check_bytes(e, p, n, e->read);
        size_t part = n > 2 ? n - n / 3 : n;
        do_consume(e, part);
        e->read += part;
    }
    if (r == STREAM_EOF) e->eof = true;
    if (r < 0) assert_true(e->may_die);
}

static void on_event(struct stream *s, unsigned events, void *arg) {
    struct side *e = arg;
    if (!e->s) fail_msg("an event after free");
    assert_ptr_equal(s, e->s);
    if (e->t->inside) fail_msg("an event from inside an operation");
    assert_int_not_equal(events, 0);
    assert_int_equal(events & ~(unsigned)ALL_EVENTS, 0);
    if (e->dead) fail_msg("an event after DEAD");
    if ((events & STREAM_OPEN) && (e->ins || e->opens)) fail_msg("OPEN after IN, or twice");
    e->calls++;
    if (events & STREAM_OPEN) e->opens++;
    if (events & STREAM_IN) e->ins++;
    if (events & STREAM_OUT) e->outs++;
    if (events & STREAM_DEAD) {
        e->deads++;
        e->dead = true;
        if (!e->may_die) fail_msg("died of %s", err_word((int)s->err));
        assert_true((int)s->err < 0);
    }
    if ((events & STREAM_IN) && e->free_at_in) {
        if (e->free_peer && e->far->s) do_free(e->far);
        do_free(e);
        return;
    }
    if ((events & STREAM_IN) && e->reading) read_on(e);
    if ((events & STREAM_OUT) && !e->dead) write_on(e);
}

/* --- the machinery --- */

static void pump(struct suite *t) {
    const struct stream_factory *f = t->f;
    if (f->pump) {
        f->pump(t->env);
        return;
    }
    struct defer_queue *q = f->queue(t->env);
    for (unsigned i = 0; i < QUIET_MAX; i++) {
        t->inside++;
        bool moved = f->io(t->env);
        t->inside--;
        if (!moved && !q->head) return;
        defer_queue_run(q, 0);
    }
    fail_msg("never quiet");
}

static void own(struct side *e) {
    e->t->inside++;
    stream_own(e->s, on_event, e);
    e->t->inside--;
}

static void make_pair(struct suite *t, struct side *a, struct side *b) {
    struct stream *x = NULL, *y = NULL;
    assert_int_equal(t->f->pair(t->env, &x, &y), 0);
    assert_non_null(x);
    assert_non_null(y);
    *a = (struct side){.t = t, .s = t->swapped ? y : x, .key = 11, .far = b, .reading = true};
    *b = (struct side){.t = t, .s = t->swapped ? x : y, .key = 23, .far = a, .reading = true};
}

/* Pumps until `done` or nothing has changed for a while. */
static void settle(struct suite *t) {
    uint64_t before = UINT64_MAX;
    unsigned same = 0;
    for (unsigned i = 0; i < PUMPS_MAX && same < 3; i++) {
        pump(t);
        uint64_t now = 0;
        for (int k = 0; k < 4; k++) now += t->side[k].read + t->side[k].written + t->side[k].calls;
        same = now == before ? same + 1 : 0;
        before = now;
    }
}

static void free_all(struct suite *t) {
    for (int k = 0; k < 4; k++)
        if (t->side[k].s) do_free(&t->side[k]);
    settle(t);
}

/* --- cases: a acts, b is acted upon --- */

static void both_ways(struct suite *t) {
    t->a->to_write = 300007;
    t->b->to_write = 200003;
    t->a->finish = t->b->finish = true;
    write_on(t->a);
    write_on(t->b);
    settle(t);
    assert_int_equal(t->b->read, 300007);
    assert_int_equal(t->a->read, 200003);
    assert_true(t->a->eof);
    assert_true(t->b->eof);
}

static void peek_is_stable(struct suite *t) {
    const uint8_t *p, *again;
    size_t n, m;
    t->b->reading = false;
    assert_int_equal(do_peek(t->b, &p, &n), STREAM_NONE);
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    assert_int_equal(do_peek(t->b, &p, &n), STREAM_BYTES);
    check_bytes(t->b, p, n, 0);
    /* More bytes arrive, but no operation is done on b. */
    assert_int_equal(write_some(t->a, 4097), 4097);
    settle(t);
    check_bytes(t->b, p, n, 0);
    assert_int_equal(do_peek(t->b, &again, &m), STREAM_BYTES);
    assert_true(m >= n);
    check_bytes(t->b, again, m, 0);
    /* Partly taken, the rest is shown. */
    do_consume(t->b, 1);
    t->b->read = 1;
    assert_int_equal(do_peek(t->b, &p, &n), STREAM_BYTES);
    check_bytes(t->b, p, n, 1);
    read_on(t->b);
    settle(t);
    read_on(t->b);
    assert_int_equal(t->b->read, 5097);
    assert_int_equal(do_peek(t->b, &p, &n), STREAM_NONE);
}

/* Writes at a until nothing more is taken, though everything under way has moved. */
static void fill(struct suite *t) {
    for (;;) {
        uint64_t before = t->a->written;
        long r;
        do {
            r = write_some(t->a, next_size(t->a));
            assert_true(r >= 0);
            if (t->a->written > t->f->bound) fail_msg("more was taken than the bound");
        } while (r > 0);
        settle(t);
        if (t->a->written == before) return;
    }
}

static void stuck_reader_stops_writer(struct suite *t) {
    t->b->reading = false;
    fill(t);
    assert_true(t->a->written > 0);
    /* Edges, not levels: what waits is not told again, and room that is not there is not offered. */
    unsigned ins = t->b->ins, outs = t->a->outs;
    assert_true(ins > 0);
    settle(t);
    assert_int_equal(t->b->ins, ins);
    assert_int_equal(t->a->outs, outs);
    /* Everything taken arrives, and OUT comes once. */
    for (unsigned i = 0; i < PUMPS_MAX && t->b->read < t->a->written; i++) {
        read_on(t->b);
        pump(t);
    }
    settle(t);
    assert_int_equal(t->b->read, t->a->written);
    assert_int_equal(t->a->outs, outs + 1);
    /* And it goes on. */
    t->b->reading = true;
    t->a->to_write = t->a->written + 100003;
    t->a->finish = true;
    write_on(t->a);
    settle(t);
    assert_true(t->b->eof);
    assert_int_equal(t->b->read, t->a->to_write);
}

static void no_out_without_short_write(struct suite *t) {
    for (int i = 0; i < 20; i++) {
        assert_int_equal(write_some(t->a, 127), 127);
        settle(t);
    }
    assert_int_equal(t->b->read, 20 * 127);
    assert_int_equal(t->a->outs, 0);
    assert_int_equal(t->b->outs, 0);
}

static void stuck_stream_leaves_others_alone(struct suite *t) {
    struct side *c = &t->side[2], *d = &t->side[3];
    t->b->reading = false;
    fill(t);
    make_pair(t, c, d);
    own(c);
    own(d);
    c->to_write = 500009;
    d->to_write = 250007;
    c->finish = d->finish = true;
    write_on(c);
    write_on(d);
    settle(t);
    assert_int_equal(d->read, 500009);
    assert_int_equal(c->read, 250007);
    assert_true(c->eof && d->eof);
    t->a->may_die = t->b->may_die = true;
}

/* a ends first, b's direction goes on. */
static void half_close(struct suite *t, uint64_t before) {
    const uint8_t *p;
    size_t n;
    t->a->to_write = before;
    t->a->finish = true;
    write_on(t->a);
    settle(t);
    assert_true(t->b->eof);
    assert_int_equal(t->b->read, before);
    assert_int_equal(do_peek(t->b, &p, &n), STREAM_EOF);
    do_finish(t->a);
    t->b->to_write = 150001;
    write_on(t->b);
    settle(t);
    assert_int_equal(t->a->read, 150001);
    assert_false(t->a->eof);
    t->b->finish = true;
    write_on(t->b);
    settle(t);
    assert_true(t->a->eof);
    assert_int_equal(do_peek(t->a, &p, &n), STREAM_EOF);
    do_finish(t->b);
    settle(t);
    assert_int_equal(t->a->deads + t->b->deads, 0);
}

static void half_close_without_bytes(struct suite *t) {
    half_close(t, 0);
}

static void half_close_after_bytes(struct suite *t) {
    half_close(t, 77777);
}

static void eof_only_after_all_bytes(struct suite *t) {
    const uint8_t *p;
    size_t n;
    t->b->reading = false;
    fill(t);
    do_finish(t->a);
    settle(t);
    uint64_t got = 0;
    unsigned idle = 0;
    while (got < t->a->written && idle < 3) {
        int r = do_peek(t->b, &p, &n);
        if (r == STREAM_NONE) {
            settle(t);
            idle++;
            continue;
        }
        assert_int_equal(r, STREAM_BYTES);
        check_bytes(t->b, p, n, got);
        do_consume(t->b, n);
        got += n;
        idle = 0;
    }
    assert_int_equal(got, t->a->written);
    settle(t);
    assert_int_equal(do_peek(t->b, &p, &n), STREAM_EOF);
    assert_true(t->b->ins > 0);
}

/* b is dead: everything says so, and no event follows. */
static void check_dead(struct suite *t, struct side *e, bool by_reset) {
    const uint8_t *p;
    size_t n;
    assert_int_equal(e->deads, 1);
    assert_true((int)e->s->err < 0);
    if (by_reset && t->f->reset_err) assert_int_equal(e->s->err, t->f->reset_err);
    assert_int_equal(do_peek(e, &p, &n), e->s->err);
    assert_true(write_some(e, 100) < 0);
    do_finish(e);
    unsigned calls = e->calls;
    settle(t);
    assert_int_equal(e->calls, calls);
    assert_int_equal(do_peek(e, &p, &n), e->s->err);
    assert_true(write_some(e, 100) < 0);
}

static void reset_kills_peer_after_bytes(struct suite *t) {
    t->b->reading = false;
    t->b->may_die = true;
    assert_int_equal(write_some(t->a, 4097), 4097);
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    unsigned calls = t->a->calls;
    do_reset(t->a, ERR_CANCELLED);
    settle(t);
    assert_int_equal(t->a->calls, calls);
    assert_int_equal(t->b->deads, 1);
    read_on(t->b);
    assert_int_equal(t->b->read, 5097);
    assert_false(t->b->eof);
    check_dead(t, t->b, true);
}

static void reset_of_full_stream(struct suite *t) {
    const uint8_t *p;
    size_t n;
    t->b->reading = false;
    t->a->may_die = true;
    fill(t);
    unsigned outs = t->a->outs;
    do_reset(t->b, ERR_CANCELLED);
    assert_true(do_peek(t->b, &p, &n) < 0);
    assert_true(write_some(t->b, 1) < 0);
    do_finish(t->b);
    settle(t);
    assert_true(t->a->outs <= outs + 1);
    check_dead(t, t->a, true);
}

static void reset_drops_own_events(struct suite *t) {
    t->a->may_die = t->b->may_die = true;
    stream_own(t->b->s, NULL, NULL);
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    do_reset(t->b, ERR_CANCELLED);
    own(t->b);
    settle(t);
    assert_int_equal(t->b->calls, 0);
    assert_int_equal(t->a->deads, 1);
}

static void free_with_unread_is_reset(struct suite *t) {
    t->b->reading = false;
    t->a->may_die = true;
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    do_free(t->b);
    settle(t);
    assert_false(t->a->eof);
    check_dead(t, t->a, true);
}

/* The end of b's direction may arrive first; that nobody reads a's is then told by DEAD or at a write. */
static void free_with_unread_after_finish_is_told(struct suite *t) {
    t->b->reading = false;
    t->a->may_die = true;
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    do_finish(t->b);
    do_free(t->b);
    settle(t);
    long r = 0;
    for (int i = 0; i < 10 && r >= 0; i++) {
        r = write_some(t->a, 100);
        settle(t);
    }
    assert_true(r < 0);
}

static void free_without_finish_is_reset(struct suite *t) {
    t->a->may_die = true;
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    assert_int_equal(t->b->read, 1000);
    do_free(t->b);
    settle(t);
    assert_false(t->a->eof);
    check_dead(t, t->a, true);
}

static void free_after_finish_delivers(struct suite *t) {
    t->b->reading = false;
    fill(t);
    do_finish(t->a);
    do_free(t->a);
    settle(t);
    t->b->reading = true;
    /* Once b has seen the end, it may learn that nobody reads any more. */
    for (unsigned i = 0; i < PUMPS_MAX && !t->b->eof; i++) {
        read_on(t->b);
        pump(t);
    }
    assert_true(t->b->eof);
    assert_int_equal(t->b->read, t->a->written);
    t->b->may_die = true;
}

static void free_after_both_ended_is_silent(struct suite *t) {
    t->a->to_write = 5000;
    t->b->to_write = 6000;
    t->a->finish = t->b->finish = true;
    write_on(t->a);
    write_on(t->b);
    settle(t);
    assert_true(t->a->eof && t->b->eof);
    unsigned calls = t->b->calls;
    do_free(t->a);
    settle(t);
    assert_int_equal(t->b->calls, calls);
    assert_int_equal(t->b->deads, 0);
}

static void free_drops_pending_events(struct suite *t) {
    t->a->may_die = true;
    stream_own(t->b->s, NULL, NULL);
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    own(t->b);
    do_free(t->b);
    settle(t);
    assert_int_equal(t->b->calls, 0);
}

static void free_from_callback(struct suite *t) {
    t->b->free_at_in = true;
    t->a->may_die = true;
    assert_int_equal(write_some(t->a, 16384), 16384);
    settle(t);
    assert_null(t->b->s);
    assert_int_equal(t->a->deads, 1);
}

static void free_both_from_callback(struct suite *t) {
    t->b->free_at_in = t->b->free_peer = true;
    assert_int_equal(write_some(t->a, 1000), 1000);
    assert_int_equal(write_some(t->b, 1000), 1000);
    t->a->free_at_in = t->a->free_peer = true;
    settle(t);
    assert_null(t->a->s);
    assert_null(t->b->s);
}

static void free_at_once(struct suite *t) {
    t->b->may_die = true;
    do_free(t->a);
    settle(t);
    assert_int_equal(t->b->deads, 1);
    stream_free(NULL);
}

static void another_owner_takes_over(struct suite *t) {
    struct side other = *t->b;
    stream_own(t->b->s, NULL, NULL);
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    assert_int_equal(t->b->calls, 0);
    own(&other);
    assert_int_equal(other.calls, 0);
    settle(t);
    assert_int_equal(other.ins, 1);
    assert_int_equal(other.read, 1000);
    assert_int_equal(t->b->calls, 0);
    /* And back, with nothing pending: nothing comes, but what arrives later does. */
    *t->b = other;
    unsigned calls = other.calls;
    own(t->b);
    settle(t);
    assert_int_equal(t->b->calls, calls);
    assert_int_equal(write_some(t->a, 1000), 1000);
    settle(t);
    assert_int_equal(t->b->read, 2000);
    assert_int_equal(other.calls, calls);
}

/* --- running --- */

#define CASES(X)                                                                                             \
    X(both_ways) X(peek_is_stable) X(stuck_reader_stops_writer) X(no_out_without_short_write)                \
    X(stuck_stream_leaves_others_alone) X(half_close_without_bytes) X(half_close_after_bytes)                \
    X(eof_only_after_all_bytes) X(reset_kills_peer_after_bytes) X(reset_of_full_stream)                      \
    X(reset_drops_own_events) X(free_with_unread_is_reset) X(free_with_unread_after_finish_is_told)          \
    X(free_without_finish_is_reset) X(free_after_finish_delivers) X(free_after_both_ended_is_silent)         \
    X(free_drops_pending_events) X(free_from_callback) X(free_both_from_callback) X(free_at_once)            \
    X(another_owner_takes_over)

static const struct {
    const char *name;
    void (*run)(struct suite *t);
} cases[] = {
#define X(name) {#name, name},
    CASES(X)
#undef X
};

#define CASE_COUNT (sizeof cases / sizeof cases[0])

static void run_case(void **state) {
    const struct suite_case *c = *state;
    struct suite *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->f = c->f;
    t->swapped = c->swapped;
    t->a = &t->side[0];
    t->b = &t->side[1];
    t->chunks = buf_chunks();
    t->env = c->f->setup();
    assert_non_null(t->env);
    make_pair(t, t->a, t->b);
    own(t->a);
    own(t->b);
    c->run(t);
    for (int k = 0; k < 4; k++) t->side[k].may_die = true;
    free_all(t);
    c->f->teardown(t->env);
    assert_int_equal(buf_chunks(), t->chunks);
    free(t);
}

int stream_suite_run(const struct stream_factory *f, const struct CMUnitTest *own_tests, size_t own_count) {
    size_t count = 2 * CASE_COUNT + own_count;
    struct suite_case *args = calloc(2 * CASE_COUNT, sizeof *args);
    struct CMUnitTest *tests = calloc(count, sizeof *tests);
    if (!args || !tests) abort();
    for (size_t i = 0; i < 2 * CASE_COUNT; i++) {
        args[i] = (struct suite_case){.f = f, .run = cases[i / 2].run, .swapped = i % 2};
        snprintf(args[i].name, sizeof args[i].name, "%s_%s_%s", f->name, cases[i / 2].name, i % 2 ? "ba" : "ab");
        tests[i] = (struct CMUnitTest){args[i].name, run_case, NULL, NULL, &args[i]};
    }
    for (size_t i = 0; i < own_count; i++) tests[2 * CASE_COUNT + i] = own_tests[i];
    int r = _cmocka_run_group_tests(f->name, tests, count, NULL, NULL);
    free(tests);
    free(args);
    buf_trim();
    return r;
}
