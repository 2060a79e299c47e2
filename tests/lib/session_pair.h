/* session_pair.h - a client and a server session that talk to one another in memory, under a virtual clock.
 *
 * H2 sessions are joined by two byte pipes, H3 sessions by two lossy, delaying, reordering datagram links with a
 * seed: the same seed gives the same run. Nothing moves by itself. A session is only pumped when it asked by
 * `wake`, and its deadline is only obeyed by the virtual clock, so a session that forgets to ask hangs here.
 * Fields are for tests to read, and to set where it says so.
 */
#ifndef ADIT_TESTS_LIB_SESSION_PAIR_H
#define ADIT_TESTS_LIB_SESSION_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/defer.h"
#include "session/session.h"

#define PAIR_MS UINT64_C(1000000)
#define PAIR_S UINT64_C(1000000000)
#define PAIR_CLIENT 0
#define PAIR_SERVER 1

/* One direction of the way; may be changed at any time. */
struct pair_link {
    uint64_t delay;      /* ns one way */
    uint64_t jitter;     /* ns, 0..jitter added at random: datagrams overtake one another, bytes do not */
    uint64_t rate;       /* bytes per second; 0: no limit */
    size_t queue;        /* H2: bytes that the way takes before it blocks; H3: datagrams beyond this many are lost */
    unsigned loss;       /* datagrams lost, of 1000 */
    unsigned duplicate;  /* datagrams sent twice, of 1000 */
    unsigned corrupt;    /* datagrams with one bit flipped, of 1000 */
    bool hold;           /* H2: nothing arrives (the peer does not read). H3: everything is lost */
    size_t mtu;          /* H3: larger datagrams are lost; 0: no limit */
};

struct session_pair;

struct session_pair_config {
    struct session_config client, server; /* creds, limits; the pair sets queue, cb, now, kind, server, addresses */
    struct pair_link link[2];             /* by sender: PAIR_CLIENT: to the server */
    uint64_t seed;
    /* H3: a datagram for a server that does not exist yet. May make p->server from p->config.server (its cb and queue
     * are set) and feed it, or answer with session_pair_answer(). NULL for H2, where both exist from the start. */
    void (*accept)(struct session_pair *p, const struct addr *from, const uint8_t *data, size_t n);
    /* Makes a session; NULL: session_new. */
    int (*make)(struct session **out, const struct session_config *c);
};

struct pair_packet;

struct pair_side {
    struct session_pair *pair;
    struct session *session;   /* NULL: not there (yet, or freed by the test, who then sets it to NULL) */
    bool woken, blocked;
    unsigned states[4];        /* times each state was reported */
    enum session_state last_state;
    struct pair_packet *head, *tail; /* under way from this side, by time of arrival */
    size_t under_way;          /* bytes (H2) or datagrams (H3) of it */
    uint64_t busy_until;       /* of the rate */
    uint64_t sent, lost;       /* bytes (H2) or datagrams (H3) */
    bool ended;                /* this side's bytes are over: the other gets EOF (set by session_pair_cut) */
};

#define PAIR_REQUESTS 4096

struct session_pair {
    struct session_pair_config config;
    struct defer_queue queue;
    uint64_t now;              /* starts at 1 s */
    struct pair_side side[2];
    struct addr addr[2];       /* made up; the client's may be changed by the test: NAT rebinding */
    struct stream *requests[PAIR_REQUESTS]; /* at the server, not yet taken by session_pair_request() */
    unsigned n_requests;
    uint64_t random;
};

/* Names "test.example" and 127.0.0.1; trust and certificate fit. Made once for the process; do not unref. */
struct creds *session_pair_client_creds(void);
struct creds *session_pair_server_creds(void);
/* Frees those; at the end of main. */
void session_pair_cleanup(void);

/* Defaults: those creds, session_config_init(), 5 ms one way, no loss, 1 MiB (H2) or 1000 datagrams (H3) of queue.
 * */
void session_pair_config_init(struct session_pair_config *c, enum session_kind kind);
/* NULL when a session cannot be made. */
struct session_pair *session_pair_new(const struct session_pair_config *c);
/* Frees the sessions that are left, requests that nobody took, and the pair. */
void session_pair_free(struct session_pair *p);

/* Pumps what asked for it, delivers what is due, and when nothing is due lets time pass up to the next arrival or
 * deadline, if that is at most `patience` ns away. Runs no deferred work. False when nothing was done. */
bool session_pair_io(struct session_pair *p, uint64_t patience);
/* io() and the deferred queue, until neither has anything to do within `patience`. */
void session_pair_settle(struct session_pair *p, uint64_t patience);
/* The same until done(arg), at most for `limit` ns of virtual time; returns the last done(). */
bool session_pair_until(struct session_pair *p, bool (*done)(void *arg), void *arg, uint64_t limit);
/* Lets exactly this much time pass, with everything that happens meanwhile. */
void session_pair_pass(struct session_pair *p, uint64_t ns);
/* Runs until both sessions are UP; false if one fails first, or after 60 s. */
bool session_pair_up(struct session_pair *p);

/* The next request at the server, now the caller's; NULL if none. */
struct stream *session_pair_request(struct session_pair *p);
/* A CONNECT to test.example:443, answered with `status` at the server; both ends, unowned. False if it does not come
 * through. */
bool session_pair_tunnel(struct session_pair *p, int status, struct stream **client, struct stream **server);
/* H3, from accept(): a datagram from the server's address to the client. */
void session_pair_answer(struct session_pair *p, const uint8_t *data, size_t n);
/* H2: ends the bytes from `side` (EOF at the other end, after what is under way). */
void session_pair_cut(struct session_pair *p, int side);
/* H2: puts bytes on the way as if `side` had sent them. */
void session_pair_inject(struct session_pair *p, int side, const void *data, size_t n);

#endif
