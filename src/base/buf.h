/* buf.h - a bounded queue of bytes in chunks: what every direction of every stream is buffered in.
 *
 * Memory is taken in chunks of BUF_CHUNK bytes as bytes arrive and given back as they leave, so an idle queue
 * holds none. The owner embeds `struct buf` by value. Peeked memory stays valid until the next operation on the
 * same queue. Freed chunks are kept for reuse up to a small bound (buf_trim gives them back).
 */
#ifndef ADIT_BASE_BUF_H
#define ADIT_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define BUF_CHUNK 16384 /* payload bytes of one chunk: a TLS record's, an H2 frame's */

struct buf_chunk;

struct buf {
    struct buf_chunk *head, *tail;
    size_t len; /* bytes queued */
    size_t max; /* most bytes that may be queued */
};

/* max in bytes, > 0. */
void buf_init(struct buf *b, size_t max);
/* Drops everything; the queue may be used again. */
void buf_clear(struct buf *b);
/* Room left, in bytes. */
size_t buf_room(const struct buf *b);

/* Appends as much as fits below max: returns the number taken (0..n), or ERR_NO_MEMORY when nothing could be
 * taken for want of memory. */
long buf_append(struct buf *b, const void *p, size_t n);

/* Room to write into directly: sets *p, returns its size (at most one chunk and never past max; 0 when full,
 * ERR_NO_MEMORY). buf_commit(n) makes the first n bytes part of the queue; without it nothing happened. The room is
 * there until the next operation on the same queue; buf_commit(0) gives its memory back when nothing came. */
long buf_reserve(struct buf *b, uint8_t **p);
void buf_commit(struct buf *b, size_t n);

/* The first contiguous bytes: sets *p, returns their number (0 when empty). */
size_t buf_peek(const struct buf *b, const uint8_t **p);
/* Fills up to max_iov entries with the first bytes from `skip` on; returns how many were filled. Queued bytes never
 * move: what was shown stays where it is until it is consumed, whatever is appended meanwhile (QUIC relies on it). */
int buf_peek_iov(const struct buf *b, size_t skip, struct iovec *iov, int max_iov);
/* Removes n bytes from the front, n <= len. */
void buf_consume(struct buf *b, size_t n);

/* Gives the chunks kept for reuse back to the allocator. Chunks kept are at most BUF_SPARE_MAX. */
#define BUF_SPARE_MAX 64
void buf_trim(void);
/* Chunks now in use by all queues, for the memory gauge. */
size_t buf_chunks(void);

#endif
