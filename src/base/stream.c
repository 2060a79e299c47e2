#include "base/stream.h"

/* Set in `pending` once no event may follow: after a reset, a free or a detach. Not an event. */
#define STREAM_SILENT 0x80000000u

static void deliver(void *arg) {
    struct stream *s = arg;
    unsigned events = s->pending;
    s->pending = 0;
    s->cb(s, events, s->arg);
}

void stream_init(struct stream *s, const struct stream_ops *ops, struct defer_queue *queue) {
    *s = (struct stream){.ops = ops, .queue = queue};
    defer_init(&s->node, deliver, s);
}

void stream_notify(struct stream *s, unsigned events) {
    if (s->pending & STREAM_SILENT) return;
    s->pending |= events;
    if (s->cb && s->pending) defer_post(s->queue, &s->node);
}

void stream_detach(struct stream *s) {
    defer_cancel(&s->node);
    s->pending = STREAM_SILENT;
    s->cb = NULL;
    s->arg = NULL;
}

void stream_own(struct stream *s, stream_cb *cb, void *arg) {
    s->cb = cb;
    s->arg = arg;
    if (!cb)
        defer_cancel(&s->node);
    else
        stream_notify(s, 0);
}

int stream_peek(struct stream *s, const uint8_t **p, size_t *n) { return s->ops->peek(s, p, n); }

void stream_consume(struct stream *s, size_t n) {
    if (n) s->ops->consume(s, n);
}

long stream_write(struct stream *s, const void *p, size_t n) { return s->ops->write(s, p, n); }

void stream_finish(struct stream *s) { s->ops->finish(s); }

void stream_reset(struct stream *s, enum err why) {
    /* Silent first, so that nothing the transport does on its way down reaches the owner. */
    stream_detach(s);
    s->ops->reset(s, why);
}

void stream_free(struct stream *s) {
    if (!s) return;
    stream_detach(s);
    s->ops->free(s);
}
