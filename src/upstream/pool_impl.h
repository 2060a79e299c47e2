/* pool_impl.h - what pool.c (sessions and policy), pool_more.c (sessions beside the one in use) and pool_open.c (tunnels
 * being opened) share. Private to upstream. */
#ifndef ADIT_UPSTREAM_POOL_IMPL_H
#define ADIT_UPSTREAM_POOL_IMPL_H

#include "upstream/link.h"
#include "upstream/pool.h"

enum open_state {
    OPEN_QUEUED,  /* waits for a session */
    OPEN_SENT,    /* the request is out */
    OPEN_PAUSED,  /* its stream ended without an answer; asked again after a pause */
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
    unsigned tries, pauses;
};

#define POOL_MORE (POOL_SESSIONS_MAX - 1)

/* A session beside the one in use, of the same transport. */
struct pool_more {
    struct link *link; /* NULL: the place is free */
    bool ready;        /* takes flows; else it is still being tried */
    uint64_t quiet_since; /* it has no streams since; 0: it has, or nobody looked */
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
    uint64_t verified_at;              /* when a change of the network last had the sessions verified */
    uint32_t path;                     /* sum of the local addresses that lead to `addrs` */
    bool awaiting[TRANSPORT_COUNT];    /* attempts that wait for addresses */

    struct policy policy;
    struct loop_timer tick;
    struct link *way[TRANSPORT_COUNT]; /* attempt, probation or in use */
    bool way_up[TRANSPORT_COUNT];
    struct link *retired[POOL_LINKS];  /* oldest first */
    struct pool_more more[POOL_MORE];
    struct loop_timer look;            /* after their idleness, and after lifetimes */
    uint64_t more_hold;                /* no further session is tried before */
    uint32_t more_wait;                /* ms of the next hold */
    char reason[256];

    struct pool_open *opens, *opens_tail;
    unsigned queued, sent;
    struct defer serve;
    struct defer gone_node;
    void (*gone)(struct pool *p, void *arg); /* dismissed */
    void *gone_arg;
    uint64_t last_open;
    unsigned opened, failed, retried;
};

/* Feeds one event to the policy and carries out what it says. */
void pool_policy(struct pool *p, enum policy_event_kind kind, enum transport t, enum err err, bool unused);
/* The link in use, or NULL while none is up. */
struct link *pool_link(struct pool *p);
/* A link of this transport to the addresses that are known; NULL when out of memory. */
struct link *pool_make_link(struct pool *p, enum transport t);
/* No new streams on it; it is freed when its last one has ended. */
void pool_retire_link(struct pool *p, struct link *l);

/* --- pool_more.c --- */

void pool_more_init(struct pool *p);
void pool_more_free(struct pool *p);
unsigned pool_more_count(const struct pool *p);
/* The link with the least to do, or the one in use if none has room; NULL while none is up. */
struct link *pool_choose(struct pool *p);
void pool_want_room(struct pool *p);
/* Starts another session if those that are up have enough to do. */
void pool_more_consider(struct pool *p);
/* An event of a link: false if it is not one of these sessions. */
bool pool_more_event(struct pool *p, struct link *l, enum link_event ev);
/* The link in use of transport t is gone or going: puts another in its place. False if there is none. */
bool pool_more_replace(struct pool *p, enum transport t);
/* The policy changed its mind: ends those that are not of the transport in use. */
void pool_more_prune(struct pool *p);
/* link_verify() for each of them. */
void pool_more_verify(struct pool *p);
void pool_more_arm(struct pool *p);
void pool_more_look(void *arg);

/* --- pool_open.c --- */

/* Opens what is queued as far as there is room. Deferred. */
void pool_serve(void *arg);
/* Fails everything that is queued. */
void pool_opens_fail(struct pool *p, enum err err, const char *detail);
/* Puts the unanswered opens of a silent or ended link back into the queue. */
void pool_opens_requeue(struct pool *p, const struct link *l);
/* Frees everything without callbacks. */
void pool_opens_free(struct pool *p);

#endif
