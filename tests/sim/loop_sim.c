/* loop_sim.c - the second implementation of base/loop.h: a virtual clock. */
#include <stdlib.h>

#include "base/loop.h"
#include "sim/sim.h"

struct loop {
    uint64_t now, turns, order;
    struct defer_queue queue;
    struct loop_timer *head; /* armed timers, unordered, linked through impl */
    bool stop;
    void (*woken)(void *arg);
    void *woken_arg;
};

/* impl[0]: next, impl[1]: previous, impl[2]: order of arming */
#define NEXT(t) (*(struct loop_timer **)&(t)->impl[0])
#define PREV(t) (*(struct loop_timer **)&(t)->impl[1])
#define ORDER(t) (*(uint64_t *)&(t)->impl[2])

struct loop *loop_new(void) {
    struct loop *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->now = 1000 * LOOP_S;
    defer_queue_init(&l->queue, NULL, NULL);
    return l;
}

void loop_free(struct loop *l) { free(l); }
uint64_t loop_now(struct loop *l) { return l->now; }
struct defer_queue *loop_defer(struct loop *l) { return &l->queue; }
void loop_stop(struct loop *l) { l->stop = true; }

void loop_on_wake(struct loop *l, void (*cb)(void *arg), void *arg) {
    l->woken = cb;
    l->woken_arg = arg;
}

void sim_wake(struct loop *l) {
    if (l->woken) l->woken(l->woken_arg);
}

uint64_t sim_turns(const struct loop *l) { return l->turns; }

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*cb)(void *arg), void *arg) {
    *t = (struct loop_timer){.cb = cb, .arg = arg, .loop = l, .at = LOOP_NEVER};
}

void loop_timer_stop(struct loop_timer *t) {
    if (t->at == LOOP_NEVER) return;
    if (PREV(t)) NEXT(PREV(t)) = NEXT(t);
    else t->loop->head = NEXT(t);
    if (NEXT(t)) PREV(NEXT(t)) = PREV(t);
    t->at = LOOP_NEVER;
}

void loop_timer_set(struct loop_timer *t, uint64_t at) {
    loop_timer_stop(t);
    if (at == LOOP_NEVER) return;
    t->at = at;
    ORDER(t) = t->loop->order++;
    PREV(t) = NULL;
    NEXT(t) = t->loop->head;
    if (t->loop->head) PREV(t->loop->head) = t;
    t->loop->head = t;
}

static struct loop_timer *earliest(struct loop *l) {
    struct loop_timer *best = l->head;
    for (struct loop_timer *t = l->head; t; t = NEXT(t))
        if (t->at < best->at || (t->at == best->at && ORDER(t) < ORDER(best))) best = t;
    return best;
}

/* One turn, but not beyond `until`. False when nothing is left to do before it. */
static bool turn(struct loop *l, uint64_t until) {
    l->turns++;
    if (!defer_queue_run(&l->queue, 0)) return true;
    struct loop_timer *t = earliest(l);
    if (!t || t->at > until) return false;
    if (t->at > l->now) l->now = t->at;
    loop_timer_stop(t);
    t->cb(t->arg);
    defer_queue_run(&l->queue, 0);
    return true;
}

void loop_run(struct loop *l) {
    l->stop = false;
    while (!l->stop && turn(l, LOOP_NEVER - 1)) continue;
}

void sim_pass(struct loop *l, uint64_t ns) {
    uint64_t until = l->now + ns;
    while (turn(l, until)) continue;
    l->now = until;
}

bool sim_until(struct loop *l, bool (*done)(void *arg), void *arg, uint64_t limit) {
    uint64_t until = l->now + limit;
    while (!done(arg))
        if (!turn(l, until)) {
            l->now = until;
            return done(arg);
        }
    return true;
}

/* Nothing has a descriptor here. */
void loop_io_init(struct loop_io *io, struct loop *l, void (*cb)(unsigned events, void *arg), void *arg) {
    *io = (struct loop_io){.cb = cb, .arg = arg, .loop = l, .fd = -1};
}
void loop_io_set(struct loop_io *io, int fd, unsigned events) {
    (void)io, (void)fd;
    if (events) abort();
}
void loop_signal_init(struct loop_signal *s, struct loop *l, void (*cb)(int signum, void *arg), void *arg) {
    *s = (struct loop_signal){.cb = cb, .arg = arg, .loop = l};
}
void loop_signal_start(struct loop_signal *s, int signum) { (void)s, (void)signum; }
void loop_signal_stop(struct loop_signal *s) { (void)s; }

const char *loop_library_version(void) { return "virtual"; }
