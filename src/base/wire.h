/* wire.h - bounded reading and writing of network byte order, for every codec.
 *
 * A reader or writer that runs out of room turns `bad` and stays so: the caller does all its steps and looks
 * once at the end. Nothing is allocated or copied; the memory stays the caller's. Header only, no state.
 */
#ifndef ADIT_BASE_WIRE_H
#define ADIT_BASE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
    const uint8_t *p, *end;
    bool bad; /* something was missing; every later read yields zeros */
};

static inline struct reader reader_of(const void *p, size_t n) {
    return (struct reader){p, (const uint8_t *)p + n, false};
}

static inline size_t reader_left(const struct reader *r) { return r->bad ? 0 : (size_t)(r->end - r->p); }

/* The next n bytes, or NULL (and bad) when there are fewer. */
static inline const uint8_t *reader_bytes(struct reader *r, size_t n) {
    if (r->bad || (size_t)(r->end - r->p) < n) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *at = r->p;
    r->p += n;
    return at;
}

static inline uint8_t reader_u8(struct reader *r) {
    const uint8_t *b = reader_bytes(r, 1);
    return b ? b[0] : 0;
}

static inline uint16_t reader_u16(struct reader *r) {
    const uint8_t *b = reader_bytes(r, 2);
    return b ? (uint16_t)(b[0] << 8 | b[1]) : 0;
}

static inline uint32_t reader_u32(struct reader *r) {
    const uint8_t *b = reader_bytes(r, 4);
    return b ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3] : 0;
}

struct writer {
    uint8_t *p, *start, *end;
    bool bad; /* something did not fit; nothing after it was written */
};

static inline struct writer writer_of(void *p, size_t n) {
    return (struct writer){p, p, (uint8_t *)p + n, false};
}

static inline size_t writer_len(const struct writer *w) { return (size_t)(w->p - w->start); }

static inline void writer_bytes(struct writer *w, const void *src, size_t n) {
    if (w->bad || (size_t)(w->end - w->p) < n) {
        w->bad = true;
        return;
    }
    if (n) memcpy(w->p, src, n);
    w->p += n;
}

static inline void writer_u8(struct writer *w, uint8_t v) { writer_bytes(w, &v, 1); }

static inline void writer_u16(struct writer *w, uint16_t v) {
    uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};
    writer_bytes(w, b, sizeof b);
}

static inline void writer_u32(struct writer *w, uint32_t v) {
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    writer_bytes(w, b, sizeof b);
}

#endif
