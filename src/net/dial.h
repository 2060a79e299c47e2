/* dial.h - a TCP connection to the first of several addresses that answers: Happy Eyeballs (RFC 8305 section 5).
 *
 * Takes addresses that are resolved already, interleaves the families (the first one's family begins), starts one
 * attempt every `stagger` ms or as soon as the last one failed, and hands over the first stream that connects; the others
 * are closed. No names, no TLS.
 */
#ifndef ADIT_NET_DIAL_H
#define ADIT_NET_DIAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/loop.h"
#include "base/stream.h"
#include "net/sock.h"

#define DIAL_MAX 16       /* addresses considered; more are ignored */
#define DIAL_STAGGER 250  /* ms, RFC 8305 section 8 */

struct dial;

/* Called once, from the deferred queue or the loop; the dial is gone then. s: the connected stream, owned by the callee
 * from then on, with `to` its address; or NULL and the err of the last attempt (ERR_UPSTREAM_TIMEOUT when time was over;
 * ERR_TARGET_* for SOCK_TARGET) and an empty `to`. The stream's STREAM_OPEN is spent. */
typedef void dial_cb(struct stream *s, const struct addr *to, int err, void *arg);

/* timeout in ms for all attempts together; stagger 0: one each turn. n = 0 fails as unreachable. NULL when out of memory. */
struct dial *dial_start(struct loop *l, const struct addr *addrs, size_t n, uint32_t stagger, uint32_t timeout,
                        enum sock_side side, dial_cb *cb, void *arg);
/* No callback follows. NULL allowed. */
void dial_cancel(struct dial *d);
/* Orders addresses for dialling: families interleaved, the first one's family first. In place. */
void dial_interleave(struct addr *addrs, size_t n);

#endif
