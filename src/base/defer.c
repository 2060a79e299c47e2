#include "base/defer.h"

#include <stddef.h>

#define DEFER_RUN_MAX 10000

void defer_queue_init(struct defer_queue *q, void (*wake)(void *arg), void *arg) {
    *q = (struct defer_queue){.wake = wake, .wake_arg = arg};
}

bool defer_queue_run(struct defer_queue *q, unsigned max) {
    if (!max) max = DEFER_RUN_MAX;
    while (q->head && max) {
        struct defer *d = q->head;
        /* Out of the queue first: the callback may post it again or free its memory. */
        defer_cancel(d);
        d->run(d->arg);
        max--;
    }
    return !q->head;
}

void defer_init(struct defer *d, void (*run)(void *arg), void *arg) {
    *d = (struct defer){.run = run, .arg = arg};
}

void defer_post(struct defer_queue *q, struct defer *d) {
    if (d->queue) return;
    bool was_empty = !q->head;
    d->queue = q;
    d->next = NULL;
    d->prev = q->tail;
    if (q->tail)
        q->tail->next = d;
    else
        q->head = d;
    q->tail = d;
    if (was_empty && q->wake) q->wake(q->wake_arg);
}

void defer_cancel(struct defer *d) {
    struct defer_queue *q = d->queue;
    if (!q) return;
    if (d->prev)
        d->prev->next = d->next;
    else
        q->head = d->next;
    if (d->next)
        d->next->prev = d->prev;
    else
        q->tail = d->prev;
    d->queue = NULL;
    d->next = d->prev = NULL;
}

bool defer_pending(const struct defer *d) { return d->queue != NULL; }
