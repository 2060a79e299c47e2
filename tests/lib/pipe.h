/* pipe.h - an in-memory pair of connected streams, for tests of everything that owns streams.
 *
 * Two ends, each a `struct stream` that passes the stream suite; what one writes the other reads, through a
 * bounded buffer per direction. Nothing moves by itself: events lie in the deferred queue given to pipe_pair()
 * until the test runs it. Each end is freed with stream_free() by its owner; the memory goes with the second end.
 * The functions below play the network, the kernel or a session; they take either end, whoever owns it, as long as
 * it lives.
 */
#ifndef ADIT_TESTS_LIB_PIPE_H
#define ADIT_TESTS_LIB_PIPE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/stream.h"

/* room: most bytes in flight per direction. 0, or ERR_NO_MEMORY. */
int pipe_pair(struct defer_queue *queue, size_t room, struct stream **a, struct stream **b);

/* The far side of s answered: s gets STREAM_OPEN with this status. Streams of a pipe work without it, too. */
void pipe_open(struct stream *s, int status);

/* Writes to s are refused, as with a window of zero; releasing it makes room again. */
void pipe_hold_writes(struct stream *s, bool hold);
/* What was written to the other end stays on the way and is not seen at s until released. */
void pipe_hold_reads(struct stream *s, bool hold);

/* s no longer reads, nothing else changes: writes to the other end yield `why` from now on (STOP_SENDING). */
void pipe_stop(struct stream *s, enum err why);
/* s alone is lost (its session went down): it dies of `why`; the other end is not told. */
void pipe_lose(struct stream *s, enum err why);

/* Whether the owner of the other end has finished it, freed it, or reset it. */
bool pipe_peer_finished(const struct stream *s);
bool pipe_peer_freed(const struct stream *s);
bool pipe_peer_reset(const struct stream *s);
/* Bytes that wait to be read at s. */
size_t pipe_unread(const struct stream *s);

#endif
