/* resolve.h - names of upstreams to addresses, without blocking (c-ares).
 *
 * Used for the endpoints' own names only: an application's destination is never resolved here. One resolver per loop;
 * requests are cancelled by freeing them, and none outlives its resolver. Answers are bounded (RESOLVE_MAX addresses),
 * IP literals answer at once (through the deferred queue), and the hosts file is honoured. The system's resolver
 * configuration is read again when it changed.
 */
#ifndef ADIT_NET_RESOLVE_H
#define ADIT_NET_RESOLVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/loop.h"

#define RESOLVE_MAX 16

struct resolver;
struct resolve;

/* NULL when out of memory. */
struct resolver *resolver_new(struct loop *l);
void resolver_free(struct resolver *r);

/* err: 0 with 1..RESOLVE_MAX addresses (all with `port`, in the order of RFC 6724 as the library sorts them), or
 * ERR_UPSTREAM_DNS with the library's words in why, ERR_UPSTREAM_TIMEOUT after timeout. Called once, from the loop or
 * the deferred queue; the request is gone then. */
typedef void resolve_cb(int err, const char *why, const struct addr *addrs, size_t n, void *arg);

/* host: a name or IP literal; timeout in ms for all tries together. NULL when out of memory. */
struct resolve *resolve_start(struct resolver *r, const char *host, uint16_t port, uint32_t timeout, resolve_cb *cb,
                              void *arg);
/* No callback follows. NULL allowed. */
void resolve_cancel(struct resolve *q);

#endif
