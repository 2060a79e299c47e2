#include "net/dial.h"

#include <stdlib.h>
#include <string.h>

struct attempt {
    struct dial *dial;
    struct stream *stream; /* NULL: not started, or failed */
};

struct dial {
    struct loop *loop;
    struct addr addrs[DIAL_MAX];
    struct attempt attempts[DIAL_MAX];
    size_t n, next;
    uint64_t stagger;
    enum sock_side side;
    enum err err; /* of the last attempt that failed */
    struct loop_timer step, limit;
    dial_cb *cb;
    void *arg;
};

static void try_next(struct dial *d);

void dial_interleave(struct addr *addrs, size_t n) {
    for (size_t i = 1; i < n; i++) {
        size_t k = i;
        while (k < n && addrs[k].u.sa.sa_family == addrs[i - 1].u.sa.sa_family) k++;
        if (k == n) return; /* only one family is left */
        struct addr moved = addrs[k];
        memmove(addrs + i + 1, addrs + i, (k - i) * sizeof *addrs);
        addrs[i] = moved;
    }
}

void dial_cancel(struct dial *d) {
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) stream_free(d->attempts[i].stream);
    loop_timer_stop(&d->step);
    loop_timer_stop(&d->limit);
    free(d);
}

/* The end: the callee gets the stream, everything else goes. */
static void finish(struct dial *d, struct stream *s, const struct addr *to, int err) {
    dial_cb *cb = d->cb;
    void *arg = d->arg;
    struct addr at = to ? *to : (struct addr){0};
    dial_cancel(d);
    cb(s, to ? &at : NULL, err, arg);
}

static void on_stream(struct stream *s, unsigned events, void *arg) {
    struct attempt *a = arg;
    struct dial *d = a->dial;
    if (events & STREAM_DEAD) {
        d->err = s->err;
        stream_free(s);
        a->stream = NULL;
        try_next(d);
    } else if (events & STREAM_OPEN) {
        a->stream = NULL;
        stream_own(s, NULL, NULL);
        finish(d, s, &d->addrs[a - d->attempts], ERR_OK);
    }
}

/* Starts the next address; when none is left and none is under way, the dial has failed. */
static void try_next(struct dial *d) {
    loop_timer_stop(&d->step);
    while (d->next < d->n) {
        struct attempt *a = &d->attempts[d->next];
        int err = ERR_OK;
        a->stream = sock_connect(d->loop, &d->addrs[d->next++], NULL, d->side, &err);
        if (!a->stream) {
            d->err = err;
            continue;
        }
        stream_own(a->stream, on_stream, a);
        if (d->next < d->n) loop_timer_set(&d->step, loop_now(d->loop) + d->stagger);
        return;
    }
    for (size_t i = 0; i < d->n; i++)
        if (d->attempts[i].stream) return;
    finish(d, NULL, NULL, d->err);
}

static void on_step(void *arg) { try_next(arg); }

static void on_limit(void *arg) { finish(arg, NULL, NULL, ERR_UPSTREAM_TIMEOUT); }

struct dial *dial_start(struct loop *l, const struct addr *addrs, size_t n, uint32_t stagger, uint32_t timeout,
                        enum sock_side side, dial_cb *cb, void *arg) {
    struct dial *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->loop = l;
    d->n = n < DIAL_MAX ? n : DIAL_MAX;
    memcpy(d->addrs, addrs, d->n * sizeof *addrs);
    dial_interleave(d->addrs, d->n);
    for (size_t i = 0; i < d->n; i++) d->attempts[i].dial = d;
    d->stagger = stagger * LOOP_MS;
    d->side = side;
    d->err = ERR_UPSTREAM_UNREACHABLE;
    d->cb = cb;
    d->arg = arg;
    loop_timer_init(&d->step, l, on_step, d);
    loop_timer_init(&d->limit, l, on_limit, d);
    loop_timer_set(&d->limit, loop_now(l) + timeout * LOOP_MS);
    loop_timer_set(&d->step, loop_now(l)); /* from the loop, so that a failure at once is an event as well */
    return d;
}
