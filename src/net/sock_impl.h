/* sock_impl.h - what the files behind sock.h share: read buffers, and small socket calls.
 *
 * Private to src/net. Buffers of SOCK_READ_MAX bytes are handed out and taken back; up to SOCK_SPARE_MAX of them
 * are kept for reuse, so that a busy process does not go to the allocator for each read. Process-wide,
 * single-threaded.
 */
#ifndef ADIT_NET_SOCK_IMPL_H
#define ADIT_NET_SOCK_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "net/sock.h"

#define SOCK_SPARE_MAX 16

/* SOCK_READ_MAX bytes, contents undefined; NULL when out of memory. */
uint8_t *sock_buffer_get(void);
/* NULL allowed. */
void sock_buffer_put(uint8_t *b);

/* A non-blocking, close-on-exec socket of this family; -1 with errno. */
int sock_new(int family, int type);
/* setsockopt of an int; a refusal is only traced, because every option set this way merely improves something. */
void sock_option(int fd, int level, int name, int value);
/* getsockname or getpeername; no address (len 0) when the kernel has none. */
void sock_name(int fd, bool peer, struct addr *a);

/* The stream of a connected descriptor of this family that is non-blocking already. NULL when out of memory; fd is
 * closed then. */
struct stream *sock_stream_adopt(struct loop *l, int fd, int family, enum sock_side side);

#endif
