/* pool_impl.h - what pool.c (sessions and policy) and pool_open.c (tunnels being opened) share. Private to upstream. */
#ifndef ADIT_UPSTREAM_POOL_IMPL_H
#define ADIT_UPSTREAM_POOL_IMPL_H

#include "upstream/link.h"
#include "upstream/pool.h"

enum open_state {
    OPEN_QUEUED,  /* waits for a session */
    OPEN_SENT,    /* the request is out */
    OPEN_SETTLED, /* the result waits in the deferred queue */
};

struct pool_open {
    struct pool *pool;
    struct pool_open *next, *prev; /* in pool->opens, oldest first */
    enum open_state state;
    struct dest dest;
    pool_open_cb *cb;
    void *arg;
    struct stream *stream;
    struct link *link; /* the one that carries `stream`; compared only, never followed */
    enum transport transport;
    struct loop_timer timer; /* recovery_wait or connect_timeout */
    struct defer node;       /* delivers the result */
    int err;
    char detail[POOL_DETAIL_MAX];
    unsigned tries;
};

struct pool {
    struct pool_config cfg;
    struct addr addrs[POOL_ADDRESSES]; /* the last good ones */
    size_t n_addrs;
    char *names[POOL_ADDRESSES];       /* copies of cfg.addresses */
    struct pool_name {
        struct pool *pool;
        struct resolve *q;
        struct addr found[RESOLVE_MAX];
        size_t n;
    } resolving[POOL_ADDRESSES];
    unsigned resolves;                 /* under way */
    uint64_t resolved_at;
    bool awaiting[TRANSPORT_COUNT];    /* attempts that wait for addresses */

    struct policy policy;
    struct loop_timer tick;
    struct link *way[TRANSPORT_COUNT]; /* attempt, probation or in use */
    bool way_up[TRANSPORT_COUNT];
    struct link *retired[POOL_LINKS];  /* oldest first */
    char reason[256];

    struct pool_open *opens, *opens_tail;
    unsigned queued, sent;
    struct defer serve;
    uint64_t last_open;
    unsigned opened, failed, retried;
};

/* Feeds one event to the policy and carries out what it says. */
void pool_policy(struct pool *p, enum policy_event_kind kind, enum transport t, enum err err, bool unused);
/* The link that takes new flows now, or NULL. */
struct link *pool_link(struct pool *p);

/* Opens what is queued as far as there is room. Deferred. */
void pool_serve(void *arg);
/* Fails everything that is queued. */
void pool_opens_fail(struct pool *p, enum err err, const char *detail);
/* Puts the unanswered opens of a silent or ended link back into the queue. */
void pool_opens_requeue(struct pool *p, const struct link *l);
/* Frees everything without callbacks. */
void pool_opens_free(struct pool *p);

#endif
