#include "net/dial.h"

#include <stdlib.h>

#include "base/log.h"

struct attempt {
    struct dial *d;
    struct stream *s; /* NULL: over */
    struct addr to;
};

struct dial {
    struct loop *loop;
    struct loop_timer stagger, timeout;
    struct defer first; /* the first attempt, so that no callback comes from inside dial_start */
    dial_cb *cb;
    void *arg;
    enum sock_side side;
    uint32_t stagger_ms;
    int err;        /* of the last attempt that failed */
    size_t n, next; /* attempts there are, and the one to start next */
    size_t running;
    struct attempt at[DIAL_MAX];
};

/* --- the order --- */

void dial_interleave(struct addr *addrs, size_t n) {
    for (size_t i = 1; i < n; i++) {
        sa_family_t before = addrs[i - 1].u.sa.sa_family;
        size_t k = i;
        while (k < n && addrs[k].u.sa.sa_family == before) k++;
        if (k == n) return; /* one family is left */
        struct addr moved = addrs[k];
        for (; k > i; k--) addrs[k] = addrs[k - 1];
        addrs[i] = moved;
    }
}

/* --- the end --- */

static void destroy(struct dial *d) {
    for (size_t i = 0; i < d->n; i++) stream_free(d->at[i].s);
    loop_timer_stop(&d->stagger);
    loop_timer_stop(&d->timeout);
    defer_cancel(&d->first);
    free(d);
}

/* won: the attempt that connected, or NULL and the err. */
static void end(struct dial *d, struct attempt *won, int err) {
    dial_cb *cb = d->cb;
    void *arg = d->arg;
    struct stream *s = NULL;
    struct addr to = {0};
    if (won) {
        s = won->s;
        to = won->to;
        won->s = NULL;
        stream_own(s, NULL, NULL);
    }
    destroy(d);
    cb(s, &to, err, arg);
}

/* --- attempts --- */

static void start_next(struct dial *d);

static void on_event(struct stream *s, unsigned events, void *arg) {
    struct attempt *a = arg;
    struct dial *d = a->d;
    char text[ADDR_TEXT_MAX];
    if (events & STREAM_DEAD) {
        d->err = s->err;
        log_debug("dial", "to=%s failed=%s", addr_format(&a->to, text, sizeof text), err_word(d->err));
        stream_free(s);
        a->s = NULL;
        d->running--;
        start_next(d);
    } else if (events & STREAM_OPEN) {
        end(d, a, 0);
    }
}

/* Starts one more attempt, or ends the dial when there is neither one to start nor one that runs. */
static void start_next(struct dial *d) {
    while (d->next < d->n) {
        struct attempt *a = &d->at[d->next++];
        char text[ADDR_TEXT_MAX];
        a->s = sock_connect(d->loop, &a->to, NULL, d->side, &d->err);
        if (!a->s) {
            log_debug("dial", "to=%s failed=%s", addr_format(&a->to, text, sizeof text), err_word(d->err));
            continue;
        }
        stream_own(a->s, on_event, a);
        d->running++;
        if (d->next < d->n)
            loop_timer_set(&d->stagger, loop_now(d->loop) + d->stagger_ms * LOOP_MS);
        else
            loop_timer_stop(&d->stagger);
        return;
    }
    loop_timer_stop(&d->stagger);
    if (!d->running) end(d, NULL, d->err);
}

static void on_stagger(void *arg) { start_next(arg); }

static void on_timeout(void *arg) {
    struct dial *d = arg;
    end(d, NULL, d->side == SOCK_TARGET ? ERR_TARGET_TIMEOUT : ERR_UPSTREAM_TIMEOUT);
}

/* --- the interface --- */

struct dial *dial_start(struct loop *l, const struct addr *addrs, size_t n, uint32_t stagger, uint32_t timeout,
                        enum sock_side side, dial_cb *cb, void *arg) {
    struct dial *d = calloc(1, sizeof *d);
    struct addr order[DIAL_MAX];
    if (!d) return NULL;
    if (n > DIAL_MAX) n = DIAL_MAX;
    for (size_t i = 0; i < n; i++) order[i] = addrs[i];
    dial_interleave(order, n);
    *d = (struct dial){.loop = l, .cb = cb, .arg = arg, .side = side, .stagger_ms = stagger, .n = n};
    for (size_t i = 0; i < n; i++) d->at[i] = (struct attempt){.d = d, .to = order[i]};
    /* What remains when there is no address at all. */
    d->err = side == SOCK_TARGET ? ERR_TARGET_HOST_UNREACHABLE : ERR_UPSTREAM_UNREACHABLE;
    loop_timer_init(&d->stagger, l, on_stagger, d);
    loop_timer_init(&d->timeout, l, on_timeout, d);
    loop_timer_set(&d->timeout, loop_now(l) + timeout * LOOP_MS);
    defer_init(&d->first, on_stagger, d);
    defer_post(loop_defer(l), &d->first);
    return d;
}

void dial_cancel(struct dial *d) {
    if (d) destroy(d);
}
