#include "lib/owner.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static uint8_t byte_at(size_t i) { return (uint8_t)(i * 2654435761u >> 11); }

uint32_t owner_sum(uint32_t sum, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) sum = (sum ^ p[i]) * 16777619u;
    return sum;
}

void owner_read(struct owner *w) {
    const uint8_t *p;
    size_t n;
    int r;
    while ((r = stream_peek(w->st, &p, &n)) == STREAM_BYTES) {
        w->sum = owner_sum(w->sum, p, n);
        w->read += n;
        stream_consume(w->st, n);
    }
    if (r == STREAM_EOF) w->eof = true;
}

static void owner_write_on(struct owner *w) {
    uint8_t bytes[16384];
    while (w->written < w->to_write) {
        size_t n = w->to_write - w->written;
        if (n > sizeof bytes) n = sizeof bytes;
        for (size_t i = 0; i < n; i++) bytes[i] = byte_at(w->written + i);
        long r = stream_write(w->st, bytes, n);
        if (r < 0) return;
        w->written += (size_t)r;
        if ((size_t)r < n) return;
    }
    if (w->finish) stream_finish(w->st);
    w->finish = false;
}

static void on_event(struct stream *st, unsigned events, void *arg) {
    struct owner *w = arg;
    assert_ptr_equal(st, w->st);
    w->opens += !!(events & STREAM_OPEN);
    w->ins += !!(events & STREAM_IN);
    w->outs += !!(events & STREAM_OUT);
    w->deads += !!(events & STREAM_DEAD);
    if (w->reading) owner_read(w);
    if (events & STREAM_OUT) owner_write_on(w);
}

void own(struct owner *w, struct stream *st, bool reading) {
    *w = (struct owner){.st = st, .reading = reading, .sum = 1};
    stream_own(st, on_event, w);
    if (reading) owner_read(w);
}

uint32_t owner_pattern_sum(size_t n) {
    uint32_t sum = 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t b = byte_at(i);
        sum = owner_sum(sum, &b, 1);
    }
    return sum;
}

void owner_write(struct owner *w, size_t n, bool finish) {
    w->to_write += n;
    w->finish = finish;
    owner_write_on(w);
}
