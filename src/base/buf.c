#include "base/buf.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

struct buf_chunk {
    struct buf_chunk *next;
    size_t begin, end; /* the queued bytes of data */
    uint8_t data[BUF_CHUNK];
};

/* Chunks kept for reuse. Shared by all queues of the (single-threaded) process. */
static struct buf_chunk *spare;
static unsigned spare_count;
static size_t in_use;

static struct buf_chunk *chunk_new(void) {
    struct buf_chunk *c = spare;
    if (c) {
        spare = c->next;
        spare_count--;
    } else {
        c = malloc(sizeof *c);
        if (!c) return NULL;
    }
    c->next = NULL;
    c->begin = c->end = 0;
    in_use++;
    return c;
}

static void chunk_free(struct buf_chunk *c) {
    in_use--;
    if (spare_count >= BUF_SPARE_MAX) {
        free(c);
        return;
    }
    c->next = spare;
    spare = c;
    spare_count++;
}

void buf_init(struct buf *b, size_t max) {
    assert(max > 0);
    *b = (struct buf){.max = max};
}

void buf_clear(struct buf *b) {
    while (b->head) {
        struct buf_chunk *c = b->head;
        b->head = c->next;
        chunk_free(c);
    }
    b->tail = NULL;
    b->len = 0;
}

size_t buf_room(const struct buf *b) { return b->len < b->max ? b->max - b->len : 0; }

/* The tail if it has room, else a new one; only the tail may ever be without bytes. */
static struct buf_chunk *writable_tail(struct buf *b) {
    if (b->tail && b->tail->end < BUF_CHUNK) return b->tail;
    struct buf_chunk *c = chunk_new();
    if (!c) return NULL;
    if (b->tail)
        b->tail->next = c;
    else
        b->head = c;
    b->tail = c;
    return c;
}

long buf_append(struct buf *b, const void *p, size_t n) {
    const uint8_t *from = p;
    size_t room = buf_room(b);
    if (n > room) n = room;
    size_t taken = 0;
    while (taken < n) {
        struct buf_chunk *c = writable_tail(b);
        if (!c) return taken ? (long)taken : ERR_NO_MEMORY;
        size_t part = BUF_CHUNK - c->end;
        if (part > n - taken) part = n - taken;
        memcpy(c->data + c->end, from + taken, part);
        c->end += part;
        b->len += part;
        taken += part;
    }
    return (long)taken;
}

long buf_reserve(struct buf *b, uint8_t **p) {
    size_t room = buf_room(b);
    *p = NULL;
    if (!room) return 0;
    struct buf_chunk *c = writable_tail(b);
    if (!c) return ERR_NO_MEMORY;
    *p = c->data + c->end;
    size_t n = BUF_CHUNK - c->end;
    return (long)(n < room ? n : room);
}

/* Gives back a tail that was reserved and stayed without bytes, so that an idle queue holds no memory. */
static void drop_empty_tail(struct buf *b) {
    struct buf_chunk *c = b->tail;
    if (!c || c->begin != c->end) return;
    if (b->head == c) {
        b->head = b->tail = NULL;
    } else {
        struct buf_chunk *before = b->head;
        while (before->next != c) before = before->next;
        before->next = NULL;
        b->tail = before;
    }
    chunk_free(c);
}

void buf_commit(struct buf *b, size_t n) {
    if (!n) {
        drop_empty_tail(b);
        return;
    }
    assert(b->tail && n <= BUF_CHUNK - b->tail->end && n <= buf_room(b));
    b->tail->end += n;
    b->len += n;
}

size_t buf_peek(const struct buf *b, const uint8_t **p) {
    if (!b->len) {
        *p = NULL;
        return 0;
    }
    *p = b->head->data + b->head->begin;
    return b->head->end - b->head->begin;
}

int buf_peek_iov(const struct buf *b, size_t skip, struct iovec *iov, int max_iov) {
    int filled = 0;
    for (struct buf_chunk *c = b->head; c && filled < max_iov; c = c->next) {
        size_t have = c->end - c->begin;
        if (skip >= have) {
            skip -= have;
            continue;
        }
        iov[filled].iov_base = c->data + c->begin + skip;
        iov[filled].iov_len = have - skip;
        filled++;
        skip = 0;
    }
    return filled;
}

void buf_consume(struct buf *b, size_t n) {
    assert(n <= b->len);
    b->len -= n;
    while (n) {
        struct buf_chunk *c = b->head;
        size_t have = c->end - c->begin;
        if (n < have) {
            c->begin += n;
            return;
        }
        n -= have;
        b->head = c->next;
        if (!b->head) b->tail = NULL;
        chunk_free(c);
    }
    if (!b->len) buf_clear(b);
}

void buf_trim(void) {
    while (spare) {
        struct buf_chunk *c = spare;
        spare = c->next;
        free(c);
    }
    spare_count = 0;
}

size_t buf_chunks(void) { return in_use; }
