#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/loop.h"

struct fixture {
    struct loop *l;
    int fd[2];
    char order[64]; /* what ran, in order */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (!f) return -1;
    f->l = loop_new();
    if (!f->l || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->fd) < 0) return -1;
    alarm(20); /* a loop that hangs fails */
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    alarm(0);
    assert_null(loop_defer(f->l)->head);
    loop_free(f->l);
    close(f->fd[0]);
    close(f->fd[1]);
    free(f);
    return 0;
}

static void note(struct fixture *f, char c) {
    size_t n = strlen(f->order);
    if (n + 1 < sizeof f->order) f->order[n] = c;
}

static uint64_t clock_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * LOOP_S + (uint64_t)ts.tv_nsec;
}

/* --- timers --- */

struct tick {
    struct loop_timer t;
    struct fixture *f;
    char name;
    unsigned fired;
    uint64_t wanted, at;
    struct tick *stop;  /* stopped by this one */
    uint64_t again;     /* armed again for this long after now, `repeat` times */
    unsigned repeat;
    bool stop_loop;
};

static void on_tick(void *arg) {
    struct tick *k = arg;
    note(k->f, k->name);
    k->fired++;
    k->at = loop_now(k->f->l);
    assert_true(k->at >= k->wanted);
    assert_true(k->t.at == LOOP_NEVER);
    if (k->stop) loop_timer_stop(&k->stop->t);
    if (k->repeat) {
        k->repeat--;
        k->wanted = k->at + k->again;
        loop_timer_set(&k->t, k->wanted);
    }
    if (k->stop_loop) loop_stop(k->f->l);
}

static void tick_init(struct tick *k, struct fixture *f, char name) {
    memset(k, 0, sizeof *k);
    k->f = f;
    k->name = name;
    loop_timer_init(&k->t, f->l, on_tick, k);
    assert_true(k->t.at == LOOP_NEVER);
}

static void tick_at(struct tick *k, uint64_t at) {
    k->wanted = at;
    loop_timer_set(&k->t, at);
    assert_true(k->t.at == at);
}

static void timers_fire_in_order_and_not_early(void **state) {
    struct fixture *f = *state;
    struct tick k[3];
    uint64_t start = loop_now(f->l);
    for (int i = 0; i < 3; i++) tick_init(&k[i], f, (char)('a' + i));
    tick_at(&k[0], start + 9 * LOOP_MS);
    tick_at(&k[1], start + 3 * LOOP_MS);
    tick_at(&k[2], start + 6 * LOOP_MS);
    loop_run(f->l); /* ends by itself: nothing is left to wait for */
    assert_string_equal(f->order, "bca");
    assert_true(clock_ns() - start >= 9 * LOOP_MS);
}

static void a_past_time_fires_at_once(void **state) {
    struct fixture *f = *state;
    struct tick a, b;
    tick_init(&a, f, 'a');
    tick_init(&b, f, 'b');
    loop_timer_set(&a.t, 0);
    tick_at(&b, loop_now(f->l));
    uint64_t start = clock_ns();
    loop_run(f->l);
    assert_int_equal(a.fired, 1);
    assert_int_equal(b.fired, 1);
    assert_true(clock_ns() - start < LOOP_S);
}

/* One that is armed for now in its own callback gets the next turn, so that descriptors get theirs. */
static void on_readable_stop(unsigned events, void *arg) {
    struct fixture *f = arg;
    assert_int_equal(events, LOOP_READ);
    note(f, 'r');
    loop_stop(f->l);
}

static void a_timer_cannot_starve_descriptors(void **state) {
    struct fixture *f = *state;
    struct tick k;
    struct loop_io io;
    tick_init(&k, f, 't');
    k.again = 0;
    k.repeat = UINT32_MAX;
    tick_at(&k, 0);
    loop_io_init(&io, f->l, on_readable_stop, f);
    loop_io_set(&io, f->fd[0], LOOP_READ);
    assert_int_equal(write(f->fd[1], "x", 1), 1);
    loop_run(f->l);
    assert_string_equal(f->order, "rt"); /* the turn is finished before the loop stops */
    loop_timer_stop(&k.t);
    loop_io_set(&io, f->fd[0], 0);
}

static void a_timer_moves(void **state) {
    struct fixture *f = *state;
    struct tick later, sooner, both;
    uint64_t start = loop_now(f->l);
    tick_init(&later, f, 'l');
    tick_init(&sooner, f, 's');
    tick_init(&both, f, 'b');
    tick_at(&later, start + 2 * LOOP_MS);
    tick_at(&later, start + 12 * LOOP_MS);
    tick_at(&sooner, start + 10 * LOOP_S);
    tick_at(&sooner, start + 4 * LOOP_MS);
    tick_at(&both, start + 2 * LOOP_MS);
    tick_at(&both, start + 10 * LOOP_S);
    tick_at(&both, start + 8 * LOOP_MS);
    loop_run(f->l);
    assert_string_equal(f->order, "sbl");
    assert_int_equal(later.fired + sooner.fired + both.fired, 3);
    assert_true(clock_ns() - start < 5 * LOOP_S);
}

static void a_timer_stops(void **state) {
    struct fixture *f = *state;
    struct tick a, b, c;
    tick_init(&a, f, 'a');
    tick_init(&b, f, 'b');
    tick_init(&c, f, 'c');
    loop_timer_stop(&a.t); /* not armed */
    tick_at(&a, loop_now(f->l) + 2 * LOOP_MS);
    tick_at(&b, loop_now(f->l) + 2 * LOOP_MS);
    tick_at(&c, loop_now(f->l) + 4 * LOOP_MS);
    loop_timer_stop(&a.t);
    loop_timer_set(&b.t, LOOP_NEVER);
    assert_true(a.t.at == LOOP_NEVER);
    assert_true(b.t.at == LOOP_NEVER);
    loop_run(f->l);
    assert_string_equal(f->order, "c");
}

/* Both are due in the same turn; whichever comes first stops the other. */
static void one_due_timer_stops_another(void **state) {
    struct fixture *f = *state;
    struct tick a, b;
    tick_init(&a, f, 'a');
    tick_init(&b, f, 'b');
    a.stop = &b;
    b.stop = &a;
    tick_at(&a, loop_now(f->l));
    tick_at(&b, loop_now(f->l));
    loop_run(f->l);
    assert_int_equal(a.fired + b.fired, 1);
}

static void a_timer_repeats(void **state) {
    struct fixture *f = *state;
    struct tick k;
    tick_init(&k, f, 'k');
    k.again = 1500000;
    k.repeat = 4;
    uint64_t start = loop_now(f->l);
    tick_at(&k, start + LOOP_MS);
    loop_run(f->l);
    assert_int_equal(k.fired, 5);
    assert_true(k.at - start >= 7 * LOOP_MS);
}

/* What idle timers do: pushed back all the time, fired once at last. */
struct push {
    struct loop_timer every;
    struct tick idle[200];
    struct fixture *f;
    unsigned rounds;
};

static void on_push(void *arg) {
    struct push *p = arg;
    uint64_t now = loop_now(p->f->l);
    for (int i = 0; i < 200; i++) tick_at(&p->idle[i], now + 4 * LOOP_MS + (uint64_t)i);
    if (++p->rounds < 10) loop_timer_set(&p->every, now + LOOP_MS);
}

static void idle_timers_are_pushed_back(void **state) {
    struct fixture *f = *state;
    struct push *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->f = f;
    for (int i = 0; i < 200; i++) tick_init(&p->idle[i], f, 'i');
    loop_timer_init(&p->every, f->l, on_push, p);
    loop_timer_set(&p->every, 0);
    uint64_t start = clock_ns();
    loop_run(f->l);
    assert_true(clock_ns() - start >= 13 * LOOP_MS);
    for (int i = 0; i < 200; i++) assert_int_equal(p->idle[i].fired, 1);
    assert_int_equal(p->rounds, 10);
    free(p);
}

static void on_busy(void *arg) {
    struct fixture *f = arg;
    uint64_t now = loop_now(f->l), real;
    assert_true(now <= clock_ns());
    do real = clock_ns();
    while (real < now + 2 * LOOP_MS);
    assert_true(loop_now(f->l) == now);
    note(f, 'x');
}

static void time_stands_still_in_a_callback(void **state) {
    struct fixture *f = *state;
    struct loop_timer t;
    assert_true(loop_now(f->l) <= clock_ns());
    assert_true(clock_ns() - loop_now(f->l) < 10 * LOOP_S);
    loop_timer_init(&t, f->l, on_busy, f);
    loop_timer_set(&t, 0);
    loop_run(f->l);
    loop_timer_set(&t, 0);
    loop_run(f->l);
    assert_string_equal(f->order, "xx");
}

/* --- the order of a turn --- */

struct turn {
    struct fixture *f;
    struct loop_io io;
    struct loop_timer t;
    struct defer d;
};

static void turn_io(unsigned events, void *arg) {
    struct turn *u = arg;
    (void)events;
    note(u->f, 'i');
    defer_post(loop_defer(u->f->l), &u->d);
    loop_io_set(&u->io, u->f->fd[0], 0);
}

static void turn_timer(void *arg) {
    struct turn *u = arg;
    note(u->f, 't');
    defer_post(loop_defer(u->f->l), &u->d);
}

static void turn_defer(void *arg) {
    struct turn *u = arg;
    note(u->f, 'd');
}

static void io_then_timers_then_deferred(void **state) {
    struct fixture *f = *state;
    struct turn u = {.f = f};
    loop_io_init(&u.io, f->l, turn_io, &u);
    loop_timer_init(&u.t, f->l, turn_timer, &u);
    defer_init(&u.d, turn_defer, &u);
    assert_int_equal(write(f->fd[1], "x", 1), 1);
    loop_timer_set(&u.t, 0);
    loop_io_set(&u.io, f->fd[0], LOOP_READ);
    loop_run(f->l);
    assert_string_equal(f->order, "itd");
}

static void deferred_work_alone_runs(void **state) {
    struct fixture *f = *state;
    struct turn u = {.f = f};
    defer_init(&u.d, turn_defer, &u);
    loop_run(f->l); /* nothing at all: ends */
    defer_post(loop_defer(f->l), &u.d);
    loop_run(f->l);
    assert_string_equal(f->order, "d");
}

/* Deferred work that never ends is cut off at a bound, and neither blocks the loop nor starves it. */
struct spin {
    struct fixture *f;
    struct defer d;
    unsigned runs;
};

static void on_spin(void *arg) {
    struct spin *s = arg;
    s->runs++;
    if (s->runs < 200000) defer_post(loop_defer(s->f->l), &s->d);
}

static void endless_deferred_work_starves_nobody(void **state) {
    struct fixture *f = *state;
    struct spin s = {.f = f};
    struct loop_io io;
    defer_init(&s.d, on_spin, &s);
    loop_io_init(&io, f->l, on_readable_stop, f);
    loop_io_set(&io, f->fd[0], LOOP_READ);
    defer_post(loop_defer(f->l), &s.d);
    assert_int_equal(write(f->fd[1], "x", 1), 1);
    loop_run(f->l);
    assert_string_equal(f->order, "r");
    assert_true(s.runs < 200000);
    /* With a silent descriptor the rest runs through without waiting for it, and then the loop waits. */
    char c;
    assert_int_equal(read(f->fd[0], &c, 1), 1);
    struct tick k;
    tick_init(&k, f, 'k');
    k.stop_loop = true;
    tick_at(&k, clock_ns() + 500 * LOOP_MS);
    loop_run(f->l);
    assert_int_equal(s.runs, 200000);
    assert_string_equal(f->order, "rk");
    loop_io_set(&io, -1, 0);
}

/* --- stopping --- */

static void on_stop(void *arg) {
    struct fixture *f = arg;
    note(f, 's');
    loop_stop(f->l);
}

static void stop_ends_the_run(void **state) {
    struct fixture *f = *state;
    struct tick k;
    struct defer d;
    tick_init(&k, f, 'k');
    tick_at(&k, loop_now(f->l) + 3600 * LOOP_S);
    defer_init(&d, on_stop, f);
    defer_post(loop_defer(f->l), &d);
    loop_run(f->l);
    assert_string_equal(f->order, "s");
    /* It can run again, and the timer is still armed. */
    tick_at(&k, loop_now(f->l) + LOOP_MS);
    loop_run(f->l);
    assert_string_equal(f->order, "sk");
}

/* --- descriptors --- */

struct watch {
    struct loop_io io;
    struct fixture *f;
    unsigned calls, seen;
    unsigned next; /* watched from the first event on */
};

static void on_watch(unsigned events, void *arg) {
    struct watch *w = arg;
    w->calls++;
    w->seen |= events;
    assert_int_equal(events & ~w->io.events, 0);
    loop_io_set(&w->io, w->io.fd, w->next);
}

static void watch_init(struct watch *w, struct fixture *f) {
    *w = (struct watch){.f = f};
    loop_io_init(&w->io, f->l, on_watch, w);
}

static void watches_exactly_what_is_asked(void **state) {
    struct fixture *f = *state;
    struct watch w;
    watch_init(&w, f);
    assert_int_equal(write(f->fd[1], "x", 1), 1);
    loop_io_set(&w.io, f->fd[0], LOOP_WRITE); /* readable, too */
    loop_run(f->l);
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.seen, LOOP_WRITE);
    w.seen = 0;
    loop_io_set(&w.io, f->fd[0], LOOP_READ | LOOP_WRITE);
    loop_run(f->l);
    assert_int_equal(w.seen, LOOP_READ | LOOP_WRITE);
    assert_int_equal(w.calls, 2);
    /* From one to the other. */
    w.seen = 0;
    w.next = 0;
    loop_io_set(&w.io, f->fd[0], LOOP_WRITE);
    loop_io_set(&w.io, f->fd[0], LOOP_WRITE);
    loop_io_set(&w.io, f->fd[0], LOOP_READ);
    loop_run(f->l);
    assert_int_equal(w.seen, LOOP_READ);
    assert_int_equal(w.calls, 3);
    /* Stopped before anything came: nothing to wait for. */
    loop_io_set(&w.io, f->fd[0], LOOP_READ);
    loop_io_set(&w.io, f->fd[0], 0);
    loop_io_set(&w.io, f->fd[0], 0);
    loop_run(f->l);
    assert_int_equal(w.calls, 3);
}

static void a_level_is_told_again(void **state) {
    struct fixture *f = *state;
    struct watch w;
    struct tick k;
    watch_init(&w, f);
    tick_init(&k, f, 'k');
    k.stop_loop = true;
    w.next = LOOP_READ;
    assert_int_equal(write(f->fd[1], "x", 1), 1);
    loop_io_set(&w.io, f->fd[0], LOOP_READ);
    tick_at(&k, loop_now(f->l) + 2 * LOOP_MS);
    loop_run(f->l);
    assert_true(w.calls > 1);
    loop_io_set(&w.io, -1, 0);
}

static void end_of_file_is_readable(void **state) {
    struct fixture *f = *state;
    struct watch w;
    watch_init(&w, f);
    assert_int_equal(shutdown(f->fd[1], SHUT_WR), 0);
    loop_io_set(&w.io, f->fd[0], LOOP_READ);
    loop_run(f->l);
    assert_int_equal(w.seen, LOOP_READ);
}

/* A number that was closed and is another file now is watched as that file. */
static void a_descriptor_number_comes_again(void **state) {
    struct fixture *f = *state;
    struct watch w;
    watch_init(&w, f);
    for (int i = 0; i < 3; i++) {
        int fd[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
        w.seen = 0;
        loop_io_set(&w.io, fd[0], LOOP_READ);
        assert_int_equal(write(fd[1], "x", 1), 1);
        loop_run(f->l);
        assert_int_equal(w.seen, LOOP_READ);
        loop_io_set(&w.io, fd[0], LOOP_READ);
        loop_io_set(&w.io, fd[0], 0);
        close(fd[0]);
        close(fd[1]);
    }
    assert_int_equal(w.calls, 3);
}

/* Two readable descriptors whose owners free each other: exactly one callback. */
struct rival {
    struct loop_io io;
    struct rival *other;
    unsigned *calls;
};

static void on_rival(unsigned events, void *arg) {
    struct rival *r = arg;
    (void)events;
    ++*r->calls;
    loop_io_set(&r->io, -1, 0);
    loop_io_set(&r->other->io, -1, 0);
    free(r->other);
    free(r);
}

static void a_callback_frees_other_watchers(void **state) {
    struct fixture *f = *state;
    struct rival *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    unsigned calls = 0;
    assert_true(a && b);
    *a = (struct rival){.other = b, .calls = &calls};
    *b = (struct rival){.other = a, .calls = &calls};
    loop_io_init(&a->io, f->l, on_rival, a);
    loop_io_init(&b->io, f->l, on_rival, b);
    assert_int_equal(write(f->fd[0], "x", 1), 1);
    assert_int_equal(write(f->fd[1], "x", 1), 1);
    loop_io_set(&a->io, f->fd[0], LOOP_READ);
    loop_io_set(&b->io, f->fd[1], LOOP_READ);
    loop_run(f->l);
    assert_int_equal(calls, 1);
}

/* --- signals --- */

static void on_signal(int signum, void *arg) {
    struct fixture *f = arg;
    assert_int_equal(signum, SIGUSR1);
    note(f, 'u');
    loop_stop(f->l);
}

static void signals_arrive_in_the_loop(void **state) {
    struct fixture *f = *state;
    struct loop_signal s;
    loop_signal_init(&s, f->l, on_signal, f);
    loop_signal_start(&s, SIGUSR1);
    raise(SIGUSR1);
    assert_string_equal(f->order, ""); /* not from the handler */
    loop_run(f->l);
    assert_string_equal(f->order, "u");
    loop_signal_stop(&s);
    loop_run(f->l); /* nothing watched any more */
    loop_signal_start(&s, SIGUSR1);
    raise(SIGUSR1);
    loop_run(f->l);
    assert_string_equal(f->order, "uu");
    loop_signal_stop(&s);
    loop_signal_stop(&s);
}

static void on_wake(void *arg) { note(arg, 'w'); }

static void doze(void *arg) {
    struct fixture *f = arg;
    struct timespec ts = {.tv_sec = LOOP_ASLEEP / LOOP_S, .tv_nsec = 100000000};
    note(f, 's');
    nanosleep(&ts, NULL);
}

/* A process that did not run hears of it once: the first timer that is much too late tells. */
static void a_late_timer_tells_of_a_sleep(void **state) {
    struct fixture *f = *state;
    struct tick a, b;
    struct defer sleep;
    loop_on_wake(f->l, on_wake, f);
    defer_init(&sleep, doze, f);
    tick_init(&a, f, 'a');
    tick_init(&b, f, 'b');
    tick_at(&a, loop_now(f->l) + 10 * LOOP_MS);
    tick_at(&b, loop_now(f->l) + 20 * LOOP_MS);
    defer_post(loop_defer(f->l), &sleep);
    loop_run(f->l); /* the wake-up watch alone does not keep it running */
    assert_string_equal(f->order, "sabw");
    memset(f->order, 0, sizeof f->order);
    tick_at(&a, loop_now(f->l) + 50 * LOOP_MS); /* nothing unusual */
    loop_run(f->l);
    assert_string_equal(f->order, "a");
    loop_on_wake(f->l, NULL, NULL);
}

static void two_loops_do_not_mix(void **state) {
    struct fixture *f = *state;
    struct fixture g = {.l = loop_new()};
    struct tick a, b;
    assert_non_null(g.l);
    tick_init(&a, f, 'a');
    tick_init(&b, &g, 'b');
    tick_at(&a, 0);
    tick_at(&b, 0);
    loop_run(g.l);
    assert_string_equal(f->order, "");
    assert_string_equal(g.order, "b");
    loop_run(f->l);
    assert_string_equal(f->order, "a");
    loop_free(g.l);
    loop_free(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(timers_fire_in_order_and_not_early),
        TEST(a_past_time_fires_at_once),
        TEST(a_timer_cannot_starve_descriptors),
        TEST(a_timer_moves),
        TEST(a_timer_stops),
        TEST(one_due_timer_stops_another),
        TEST(a_timer_repeats),
        TEST(idle_timers_are_pushed_back),
        TEST(time_stands_still_in_a_callback),
        TEST(io_then_timers_then_deferred),
        TEST(deferred_work_alone_runs),
        TEST(endless_deferred_work_starves_nobody),
        TEST(stop_ends_the_run),
        TEST(watches_exactly_what_is_asked),
        TEST(a_level_is_told_again),
        TEST(end_of_file_is_readable),
        TEST(a_descriptor_number_comes_again),
        TEST(a_callback_frees_other_watchers),
        TEST(signals_arrive_in_the_loop),
        TEST(a_late_timer_tells_of_a_sleep),
        TEST(two_loops_do_not_mix),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
