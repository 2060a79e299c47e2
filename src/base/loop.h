/* loop.h - the event loop and the only clock.
 *
 * One loop runs the process: descriptors, timers, signals and the deferred queue. There are two implementations of
 * this header, chosen at link time: loop.c over libev, and tests/sim/loop_sim.c with a virtual clock. Watchers are
 * embedded by value in their owners and must be stopped before their memory goes. Single-threaded; callbacks may
 * start, stop and free anything. Times are nanoseconds of a monotonic clock (uint64_t; LOOP_NEVER for none).
 */
#ifndef ADIT_BASE_LOOP_H
#define ADIT_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/defer.h"

#define LOOP_NEVER UINT64_MAX
#define LOOP_MS UINT64_C(1000000)
#define LOOP_S UINT64_C(1000000000)

enum loop_io_event { LOOP_READ = 1, LOOP_WRITE = 2 };

struct loop;

struct loop_io {
    void (*cb)(unsigned events, void *arg); /* events: a set of enum loop_io_event */
    void *arg;
    struct loop *loop;
    int fd;
    unsigned events; /* what is watched now */
    void *impl[8];   /* the implementation's own */
};

struct loop_timer {
    void (*cb)(void *arg);
    void *arg;
    struct loop *loop;
    uint64_t at; /* LOOP_NEVER when not armed */
    void *impl[8];
};

struct loop_signal {
    void (*cb)(int signum, void *arg);
    void *arg;
    struct loop *loop;
    void *impl[8];
};

/* NULL when the system refuses. */
struct loop *loop_new(void);
/* All watchers must have been stopped. */
void loop_free(struct loop *l);
/* Runs until loop_stop(), or until nothing is watched. Order of one turn: I/O, timers, deferred queue. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* The time at which this turn began; it does not move inside a callback. */
uint64_t loop_now(struct loop *l);
/* cb is called when the process did not run for a while: the machine was suspended for more than a second, or a timer
 * fires LOOP_ASLEEP late (stopped, a paused virtual machine). It comes from the turn that notices, after the I/O of that
 * turn. NULL: nobody is told. A wake-up that fits no timer may go unnoticed where the kernel does not tell. */
void loop_on_wake(struct loop *l, void (*cb)(void *arg), void *arg);
#define LOOP_ASLEEP (3 * LOOP_S)

/* The deferred queue of this loop; run after I/O and timers of each turn. */
struct defer_queue *loop_defer(struct loop *l);

void loop_io_init(struct loop_io *io, struct loop *l, void (*cb)(unsigned events, void *arg), void *arg);
/* Watches fd for exactly `events`; 0 stops. Cheap when nothing changes. */
void loop_io_set(struct loop_io *io, int fd, unsigned events);

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*cb)(void *arg), void *arg);
/* Arms for the absolute time `at`, replacing an earlier one; LOOP_NEVER stops it. A time that has passed fires in the
 * next turn. One shot. */
void loop_timer_set(struct loop_timer *t, uint64_t at);
void loop_timer_stop(struct loop_timer *t);

void loop_signal_init(struct loop_signal *s, struct loop *l, void (*cb)(int signum, void *arg), void *arg);
void loop_signal_start(struct loop_signal *s, int signum);
void loop_signal_stop(struct loop_signal *s);

/* The version of the library below, as "4.33". Static storage. */
const char *loop_library_version(void);

#endif
