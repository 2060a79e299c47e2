#include "base/loop.h"

#include <ev.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Within one turn libev runs higher priorities first: the clock, then I/O, then timers. */
#define PRIO_CLOCK EV_MAXPRI
#define PRIO_IO (EV_MINPRI + 1)
#define PRIO_TIMER EV_MINPRI

struct loop {
    struct ev_loop *ev;
    ev_check clock; /* first callback of a turn: samples `now` */
    struct defer_queue queue;
    uint64_t now;
    bool stop;
    struct {
        void (*cb)(void *arg);
        void *arg;
        struct defer node;
        int fd;        /* a timer that the kernel cancels when the wall clock jumps, as it does at resume */
        ev_io ev;
        uint64_t slept; /* ns that the machine was suspended, in all */
    } wake;
};

struct io_impl {
    ev_io ev;
};

struct timer_impl {
    ev_timer ev;
    uint64_t armed; /* when ev fires; may be before the timer's `at`, and is then armed again */
};

struct signal_impl {
    ev_signal ev;
};

_Static_assert(sizeof(struct io_impl) <= sizeof(((struct loop_io *)0)->impl), "libev's watcher must fit");
_Static_assert(sizeof(struct timer_impl) <= sizeof(((struct loop_timer *)0)->impl), "libev's watcher must fit");
_Static_assert(sizeof(struct signal_impl) <= sizeof(((struct loop_signal *)0)->impl), "libev's watcher must fit");
_Static_assert(_Alignof(struct timer_impl) <= _Alignof(void *), "libev's watcher must be aligned");
_Static_assert(PRIO_CLOCK > PRIO_IO && PRIO_IO > PRIO_TIMER, "the order of a turn needs three priorities");

static struct io_impl *io_impl(struct loop_io *io) { return (struct io_impl *)(void *)io->impl; }

static struct timer_impl *timer_impl(struct loop_timer *t) { return (struct timer_impl *)(void *)t->impl; }

static struct signal_impl *signal_impl(struct loop_signal *s) { return (struct signal_impl *)(void *)s->impl; }

static uint64_t monotonic(void) {
    struct timespec ts = {0};
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * LOOP_S + (uint64_t)ts.tv_nsec;
}

static void on_turn(struct ev_loop *ev, ev_check *w, int revents) {
    (void)w, (void)revents;
    struct loop *l = ev_userdata(ev);
    l->now = monotonic();
}

/* --- sleep --- */

/* CLOCK_MONOTONIC stands still while the machine is suspended, CLOCK_BOOTTIME does not. */
static uint64_t slept(void) {
    struct timespec boot = {0}, mono = {0};
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    int64_t ns = (int64_t)(boot.tv_sec - mono.tv_sec) * (int64_t)LOOP_S + (boot.tv_nsec - mono.tv_nsec);
    return ns > 0 ? (uint64_t)ns : 0;
}

static void on_woken(void *arg) {
    struct loop *l = arg;
    if (l->wake.cb) l->wake.cb(l->wake.arg);
}

static void wake_arm(struct loop *l) {
    struct itimerspec never = {.it_value = {.tv_sec = (time_t)1 << 32}}; /* some day in 2106 */
    timerfd_settime(l->wake.fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

/* The wall clock jumped. Somebody set it, or the machine slept. */
static void on_clock_jump(struct ev_loop *ev, ev_io *w, int revents) {
    (void)w, (void)revents;
    struct loop *l = ev_userdata(ev);
    uint64_t expirations, before = l->wake.slept;
    if (read(l->wake.fd, &expirations, sizeof expirations) >= 0) { /* not cancelled: 2106 has come */
        ev_ref(ev);
        ev_io_stop(ev, &l->wake.ev);
        close(l->wake.fd);
        l->wake.fd = -1;
        return;
    }
    wake_arm(l);
    l->wake.slept = slept();
    if (l->wake.slept > before + LOOP_S) defer_post(&l->queue, &l->wake.node);
}

void loop_on_wake(struct loop *l, void (*cb)(void *arg), void *arg) {
    l->wake.cb = cb;
    l->wake.arg = arg;
    if (l->wake.fd >= 0 || !cb) return;
    l->wake.fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (l->wake.fd < 0) return;
    l->wake.slept = slept();
    wake_arm(l);
    ev_io_init(&l->wake.ev, on_clock_jump, l->wake.fd, EV_READ);
    ev_set_priority(&l->wake.ev, PRIO_IO);
    ev_io_start(l->ev, &l->wake.ev);
    ev_unref(l->ev); /* it alone does not keep the loop running */
}

/* --- the loop --- */

struct loop *loop_new(void) {
    struct loop *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    /* NOENV: the environment does not choose the backend. */
    l->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    if (!l->ev) {
        free(l);
        return NULL;
    }
    ev_set_userdata(l->ev, l);
    defer_queue_init(&l->queue, NULL, NULL);
    defer_init(&l->wake.node, on_woken, l);
    l->wake.fd = -1;
    ev_check_init(&l->clock, on_turn);
    ev_set_priority(&l->clock, PRIO_CLOCK);
    ev_check_start(l->ev, &l->clock);
    ev_unref(l->ev); /* it alone does not keep the loop running */
    l->now = monotonic();
    return l;
}

void loop_free(struct loop *l) {
    if (!l) return;
    defer_cancel(&l->wake.node);
    if (l->wake.fd >= 0) {
        ev_ref(l->ev);
        ev_io_stop(l->ev, &l->wake.ev);
        close(l->wake.fd);
    }
    ev_ref(l->ev);
    ev_check_stop(l->ev, &l->clock);
    ev_loop_destroy(l->ev);
    free(l);
}

void loop_run(struct loop *l) {
    while (!l->stop) {
        /* Neither call blocks when nothing is watched. */
        int watched = ev_run(l->ev, l->queue.head ? EVRUN_NOWAIT : EVRUN_ONCE);
        if (!watched && !l->queue.head) break;
        defer_queue_run(&l->queue, 0);
    }
    l->stop = false;
}

void loop_stop(struct loop *l) { l->stop = true; }

uint64_t loop_now(struct loop *l) { return l->now; }

struct defer_queue *loop_defer(struct loop *l) { return &l->queue; }

/* --- descriptors --- */

static void on_io(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev;
    struct loop_io *io = w->data;
    unsigned events = 0;
    if (revents & EV_READ) events |= LOOP_READ;
    if (revents & EV_WRITE) events |= LOOP_WRITE;
    events &= io->events;
    /* libev stops a watcher whose descriptor the kernel refuses; its owner learns why by reading or writing. */
    if (revents & EV_ERROR) io->events = 0;
    if (events) io->cb(events, io->arg);
}

void loop_io_init(struct loop_io *io, struct loop *l, void (*cb)(unsigned events, void *arg), void *arg) {
    memset(io, 0, sizeof *io);
    io->cb = cb;
    io->arg = arg;
    io->loop = l;
    io->fd = -1;
    ev_io *w = &io_impl(io)->ev;
    ev_init(w, on_io);
    ev_set_priority(w, PRIO_IO);
    w->data = io;
}

void loop_io_set(struct loop_io *io, int fd, unsigned events) {
    if (events == io->events && (fd == io->fd || !events)) return;
    ev_io *w = &io_impl(io)->ev;
    ev_io_stop(io->loop->ev, w);
    io->fd = fd;
    io->events = events;
    if (!events) return;
    int wanted = 0;
    if (events & LOOP_READ) wanted |= EV_READ;
    if (events & LOOP_WRITE) wanted |= EV_WRITE;
    ev_io_set(w, fd, wanted);
    ev_io_start(io->loop->ev, w);
}

/* --- timers --- */

static void arm(struct loop_timer *t) {
    struct timer_impl *i = timer_impl(t);
    struct loop *l = t->loop;
    uint64_t after = t->at > l->now ? t->at - l->now : 0;
    ev_timer_stop(l->ev, &i->ev);
    ev_timer_set(&i->ev, (double)after / (double)LOOP_S, 0.);
    ev_timer_start(l->ev, &i->ev);
    i->armed = t->at;
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents) {
    (void)ev, (void)revents;
    struct loop_timer *t = w->data;
    if (t->at > t->loop->now) { /* it was moved since, or libev's clock is a little ahead of ours */
        arm(t);
        return;
    }
    if (t->loop->now - t->at >= LOOP_ASLEEP) defer_post(&t->loop->queue, &t->loop->wake.node);
    t->at = LOOP_NEVER;
    t->cb(t->arg);
}

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*cb)(void *arg), void *arg) {
    memset(t, 0, sizeof *t);
    t->cb = cb;
    t->arg = arg;
    t->loop = l;
    t->at = LOOP_NEVER;
    ev_timer *w = &timer_impl(t)->ev;
    ev_init(w, on_timer);
    ev_set_priority(w, PRIO_TIMER);
    w->data = t;
}

void loop_timer_set(struct loop_timer *t, uint64_t at) {
    if (at == LOOP_NEVER) {
        loop_timer_stop(t);
        return;
    }
    struct timer_impl *i = timer_impl(t);
    t->at = at;
    /* Deadlines mostly move away from now: libev's timer stays where it is and is armed again when it fires. */
    if (ev_is_active(&i->ev) && i->armed <= at) return;
    arm(t);
}

void loop_timer_stop(struct loop_timer *t) {
    ev_timer_stop(t->loop->ev, &timer_impl(t)->ev);
    t->at = LOOP_NEVER;
}

/* --- signals --- */

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents) {
    (void)ev, (void)revents;
    struct loop_signal *s = w->data;
    s->cb(w->signum, s->arg);
}

void loop_signal_init(struct loop_signal *s, struct loop *l, void (*cb)(int signum, void *arg), void *arg) {
    memset(s, 0, sizeof *s);
    s->cb = cb;
    s->arg = arg;
    s->loop = l;
    ev_signal *w = &signal_impl(s)->ev;
    ev_init(w, on_signal);
    w->data = s;
}

void loop_signal_start(struct loop_signal *s, int signum) {
    ev_signal *w = &signal_impl(s)->ev;
    ev_signal_stop(s->loop->ev, w);
    ev_signal_set(w, signum);
    ev_signal_start(s->loop->ev, w);
}

void loop_signal_stop(struct loop_signal *s) { ev_signal_stop(s->loop->ev, &signal_impl(s)->ev); }

const char *loop_library_version(void) {
    static char text[24];
    snprintf(text, sizeof text, "%d.%d", ev_version_major(), ev_version_minor());
    return text;
}
