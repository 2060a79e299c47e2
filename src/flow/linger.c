#include "flow/linger.h"

#include <stdlib.h>

struct linger {
    struct linger_set *set;
    struct linger *next, *prev;
    struct stream *stream;
    struct loop_timer timer;
    size_t discarded;
};

struct linger_set {
    struct loop *loop;
    struct linger *head, *tail; /* newest first */
    unsigned count;
};

struct linger_set *linger_set_new(struct loop *l) {
    struct linger_set *set = calloc(1, sizeof *set);
    if (set) set->loop = l;
    return set;
}

static void linger_free(struct linger *g) {
    if (g->prev) g->prev->next = g->next;
    else g->set->head = g->next;
    if (g->next) g->next->prev = g->prev;
    else g->set->tail = g->prev;
    g->set->count--;
    loop_timer_stop(&g->timer);
    stream_free(g->stream);
    free(g);
}

void linger_set_free(struct linger_set *set) {
    if (!set) return;
    while (set->head) linger_free(set->head);
    free(set);
}

unsigned linger_count(const struct linger_set *set) { return set->count; }

static void on_timer(void *arg) { linger_free(arg); }

static void on_stream(struct stream *s, unsigned events, void *arg) {
    struct linger *g = arg;
    const uint8_t *p;
    size_t n;
    int r;
    while ((r = stream_peek(s, &p, &n)) == STREAM_BYTES && g->discarded < LINGER_BYTES) {
        stream_consume(s, n);
        g->discarded += n;
    }
    if (r == STREAM_EOF || r < 0 || g->discarded >= LINGER_BYTES || events & STREAM_DEAD) linger_free(g);
}

void linger_close(struct linger_set *set, struct stream *s, const void *reply, size_t n) {
    struct linger *g = calloc(1, sizeof *g);
    long wrote = n ? stream_write(s, reply, n) : 0;
    stream_finish(s);
    if (!g || wrote < 0) {
        free(g);
        stream_free(s);
        return;
    }
    if (set->count == LINGER_MAX) linger_free(set->tail);
    g->set = set;
    g->stream = s;
    g->next = set->head;
    if (set->head) set->head->prev = g;
    else set->tail = g;
    set->head = g;
    set->count++;
    loop_timer_init(&g->timer, set->loop, on_timer, g);
    loop_timer_set(&g->timer, loop_now(set->loop) + LINGER_TIME * LOOP_MS);
    stream_own(s, on_stream, g);
    on_stream(s, 0, g); /* what is there already */
}
