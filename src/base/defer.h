/* defer.h - the deferred queue: work that must not happen inside the operation that caused it.
 *
 * Stream events and every other callback to an owner are delivered from here, never from inside an operation, so
 * an owner may call anything, free anything and start anything from a callback. A queue belongs to a loop, or, in
 * tests of sans-IO code, to the test. Nodes are embedded in the objects they serve and own nothing.
 */
#ifndef ADIT_BASE_DEFER_H
#define ADIT_BASE_DEFER_H

#include <stdbool.h>

struct defer_queue;

struct defer {
    void (*run)(void *arg); /* called once per defer_post, from defer_queue_run */
    void *arg;
    struct defer_queue *queue; /* set while queued */
    struct defer *next, *prev;
};

struct defer_queue {
    struct defer *head, *tail;
    void (*wake)(void *arg); /* called when the queue becomes non-empty; may be NULL */
    void *wake_arg;
};

void defer_queue_init(struct defer_queue *q, void (*wake)(void *arg), void *arg);
/* Runs what is queued, in order, including what is posted meanwhile, but at most max nodes (0: 10,000) so that two
 * objects that wake one another cannot starve I/O. Returns true when the queue is empty. Not re-entrant. */
bool defer_queue_run(struct defer_queue *q, unsigned max);

void defer_init(struct defer *d, void (*run)(void *arg), void *arg);
/* Queues d at the end; nothing if it is queued already. */
void defer_post(struct defer_queue *q, struct defer *d);
/* Takes d out if it is queued. Must be called before the memory of d goes. */
void defer_cancel(struct defer *d);
bool defer_pending(const struct defer *d);

#endif
