/* linger.h - says a last word to a client and closes without cutting it off.
 *
 * Closing a TCP socket that has unread input sends an RST, which can destroy the reply on its way. So the reply is
 * written, the direction finished, and what the client still sends is discarded until it closes too, for at most
 * LINGER_TIME ms and LINGER_BYTES. Takes the stream over; nobody is told of the end.
 */
#ifndef ADIT_FLOW_LINGER_H
#define ADIT_FLOW_LINGER_H

#include <stddef.h>

#include "base/loop.h"
#include "base/stream.h"

#define LINGER_TIME 2000
#define LINGER_BYTES (256 * 1024)
/* Lingering streams of one set; for one more the oldest is cut off, so that a flood of refused clients cannot keep
 * the descriptors. */
#define LINGER_MAX 256

struct linger_set; /* the lingering streams of one process, so that they can be counted and ended */

/* NULL when out of memory. */
struct linger_set *linger_set_new(struct loop *l);
/* Resets those that linger. */
void linger_set_free(struct linger_set *set);
unsigned linger_count(const struct linger_set *set);

/* Owns s from now on. n may be 0: then only the close lingers. A reply that does not fit the socket at once is cut. */
void linger_close(struct linger_set *set, struct stream *s, const void *reply, size_t n);

#endif
