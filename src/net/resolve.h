/* resolve.h - names of upstreams to addresses, without blocking (c-ares).
 *
 * Used for the endpoints' own names only: an application's destination is never resolved here. One resolver per loop;
 * requests are cancelled by freeing them, and none outlives its resolver. Answers are bounded (RESOLVE_MAX addresses),
 * IP literals and localhost (RFC 6761) answer at once (through the deferred queue), and the hosts file is honoured.
 * Names are taken as they are: no search domains, no HOSTALIASES. The system's resolver configuration is read again
 * when it changed; what is on its way then is asked anew.
 */
#ifndef ADIT_NET_RESOLVE_H
#define ADIT_NET_RESOLVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/loop.h"

#define RESOLVE_MAX 16
/* Requests at one time, those included that were cancelled and that the library still works on. */
#define RESOLVE_REQUESTS 256

struct resolver;
struct resolve;

/* NULL when out of memory. */
struct resolver *resolver_new(struct loop *l);
/* Requests that still run end without a callback. NULL allowed. */
void resolver_free(struct resolver *r);
/* Asks these instead of the system's name servers: "127.0.0.1:5353,[::1]:53". NULL: the system's again. ERR_CONFIG when
 * it cannot be read, and then nothing changed. */
int resolver_set_servers(struct resolver *r, const char *servers);
/* Reads this file instead of /etc/resolv.conf (NULL: that one again), and asks at this port (0: 53). For tests. */
int resolver_set_conf(struct resolver *r, const char *path, uint16_t port);

/* err: 0 with 1..RESOLVE_MAX addresses (all with `port`, in the order of RFC 6724 as the library sorts them; none is
 * unspecified or there twice), or ERR_UPSTREAM_DNS with the library's words in why, ERR_UPSTREAM_TIMEOUT after timeout,
 * ERR_NO_MEMORY. why is never NULL and has no foreign text. Called once, from the loop or the deferred queue; the
 * request is gone then. */
typedef void resolve_cb(int err, const char *why, const struct addr *addrs, size_t n, void *arg);

/* host: a name or IP literal; timeout in ms for all tries together. NULL when out of memory, or when there are
 * RESOLVE_REQUESTS already. */
struct resolve *resolve_start(struct resolver *r, const char *host, uint16_t port, uint32_t timeout, resolve_cb *cb,
                              void *arg);
/* No callback follows. NULL allowed. */
void resolve_cancel(struct resolve *q);

/* The version of c-ares in use. Static storage. */
const char *resolve_library_version(void);

#endif
