/* pool.h - one upstream: keeps a session up as its policy says, and opens tunnels through it.
 *
 * The pool resolves the endpoint's name, owns the links (the one in use, attempts, and retired ones that still carry
 * flows), feeds the policy and carries out its actions. pool_open() yields a stream on which the upstream has answered
 * 200, or the reason why not. Nothing ever leaves by another way: while there is no session, opens wait (at most
 * recovery_wait, at most max_pending of them) and then fail.
 *
 * Sessions: flows go to the session with the fewest streams. When each of them is full, over its buffer budget, or has
 * session_streams, another one of the same transport is started, up to max_sessions; an endpoint that refuses it (bare EOF
 * or 407 at its first request) is left alone for a growing time and used with what there is. Such a session ends when it
 * was without streams for 45 s. After session_lifetime a session is renewed: a new one takes its place, it drains.
 *
 * Retries: an open that the peer refused unprocessed, or whose session fell silent or died before the answer, is tried
 * again on the next session, at most twice; the client has sent nothing through it yet. One whose stream ended without an
 * answer is tried again after 50, 100, ... 800 ms: some endpoints drop requests so while a session is busy.
 */
#ifndef ADIT_UPSTREAM_POOL_H
#define ADIT_UPSTREAM_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dest.h"
#include "base/loop.h"
#include "base/stream.h"
#include "net/monitor.h"
#include "net/resolve.h"
#include "session/session.h"
#include "upstream/dialect.h"
#include "upstream/policy.h"

#define POOL_ADDRESSES 16
#define POOL_LINKS 16 /* retired links that may linger; the oldest is closed when there are more */
#define POOL_SESSIONS_MAX 8
#define POOL_DETAIL_MAX 320

struct pool_config {
    const char *name;                   /* in logs */
    struct loop *loop;
    struct resolver *resolver;
    const char *const *addresses;       /* "IP:port", "[v6]:port", "name:port" */
    size_t n_addresses;                 /* 1..POOL_ADDRESSES */
    struct session_config session;      /* creds (referenced), windows, budgets, timeouts */
    const struct dialect *dialect;
    struct dialect_context context;     /* strings copied */
    struct policy_config policy;
    uint32_t health_timeout, connect_timeout, recovery_wait; /* ms */
    unsigned max_pending;
    unsigned max_sessions;     /* 1..POOL_SESSIONS_MAX */
    unsigned session_streams;  /* streams on a session past which another is started */
    uint64_t session_lifetime; /* ms after which a session is renewed; 0: never */
    /* the state or the transport in use changed; must not call back into the pool but pool_get_info(). May be NULL */
    void (*changed)(void *arg);
    void *arg;
};

struct pool;
struct pool_open;

/* 0, ERR_NO_MEMORY, or ERR_CONFIG (an address that cannot be read). Everything is copied. */
int pool_new(struct pool **out, const struct pool_config *c);
/* Connects now, so that the first flow does not wait. */
void pool_start(struct pool *p);
/* Sessions are verified, and replaced if they do not answer within LINK_VERIFY; back-off and hold-down are forgotten and
 * attempts under way begin anew, unless the news are of the network and change nothing on the way to the endpoint. */
void pool_tell(struct pool *p, enum monitor_news news);
/* Fails what waits with ERR_SHUTDOWN and retires the sessions; running flows go on. */
void pool_stop(struct pool *p);
/* pool_stop(), and `gone` is called, once and from the deferred queue, when its last session has ended: free it then. */
void pool_dismiss(struct pool *p, void (*gone)(struct pool *p, void *arg), void *arg);
/* Closes everything at once. NULL is allowed. Opens under way are gone without a callback. */
void pool_free(struct pool *p);

/* Called once, from the deferred queue; the open is gone then. err 0: `s` is the tunnel, owned by the callee (which must
 * stream_own() it); transport tells what carries it. Else s is NULL and detail says more ("" if there is nothing). */
typedef void pool_open_cb(struct stream *s, enum transport transport, int err, const char *detail, void *arg);

/* NULL when out of memory. */
struct pool_open *pool_open(struct pool *p, const struct dest *d, pool_open_cb *cb, void *arg);
/* No callback follows. NULL is allowed. */
void pool_open_cancel(struct pool_open *o);

struct pool_info {
    enum policy_state state;
    int use; /* enum transport or -1 */
    enum err reason;
    unsigned pending, opening, links;
    unsigned sessions; /* that take flows or are being tried beside the one in use; 0 while none is up */
    unsigned opened, failed, retried; /* since start */
    struct session_info session;      /* of the link in use; zero if none */
};
void pool_get_info(const struct pool *p, struct pool_info *i);
/* The last reason in words ("" if none): what the upstream or a library said. */
const char *pool_reason_text(const struct pool *p);

#endif
