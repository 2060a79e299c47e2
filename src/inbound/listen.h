/* listen.h - a listener: accepts applications and finds out what they speak and want.
 *
 * One port serves SOCKS and HTTP: the first byte of a connection picks (4: SOCKS4; 5: SOCKS5; a letter: HTTP).
 * The whole handshake, from accept to the complete request, has one deadline and bounded memory; then the connection
 * belongs to a flow. Who may connect at all is asked before a byte is read (access.h). Sources: RFC 1928, RFC 1929, RFC 9110 section 9.3.6, RFC 9112, RFC 7617.
 */
#ifndef ADIT_INBOUND_LISTEN_H
#define ADIT_INBOUND_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/dest.h"
#include "base/loop.h"
#include "flow/flow.h"
#include "net/peer.h"

enum listen_protocol { LISTEN_SOCKS5 = 1, LISTEN_HTTP = 2, LISTEN_SOCKS4 = 4, LISTEN_ALL = 7 };

/* Connections above max_connections or max_per_uid that are still accepted, to be told so; more are reset. */
#define LISTEN_OVERFLOW 64

struct listen_user {
    const char *name, *password;
};

struct listen_config {
    struct loop *loop;
    struct flow_set *flows;
    const char *name;
    struct addr address;               /* to bind: an IP address, or a path for a Unix socket */
    unsigned mode;                     /* of a Unix socket's file */
    const char *activated;             /* NULL: bind `address`; else the name of the socket `fd`, which listens already, and
                                          is taken over */
    int fd;
    unsigned protocols;                /* a set of enum listen_protocol */
    const struct listen_user *users;   /* none: everyone may connect */
    size_t n_users;
    uint32_t handshake_timeout;        /* ms, from accept to the complete request */
    uint32_t idle_timeout;             /* ms, of flows; 0: none */
    unsigned max_connections;
    bool pac;                          /* serve /proxy.pac */
    unsigned max_per_uid;              /* connections of one user of this machine; 0: no such limit */
    const uid_t *allow_uids;           /* users of this machine that may connect, by uid or by group; neither: everyone */
    size_t n_allow_uids;
    const gid_t *allow_gids;
    size_t n_allow_gids;
    struct peer_finder *peers;         /* tells whose TCP clients are; outlives the listener's flows. NULL: all are unknown */
    /* whether a destination is one of adit's own listeners */
    bool (*is_self)(const struct dest *d, void *arg);
    void *arg;
};

struct listener;

/* What happened since the listener was made. */
struct listen_counts {
    uint64_t accepted;
    uint64_t refused_user;  /* those who may not use it, closed at once */
    uint64_t refused_limit; /* too many; told so, or reset */
};

/* Binds and listens; everything is copied. 0, ERR_NO_MEMORY, or ERR_IO with *errnum (for a Unix socket in the sense of
 * unix_sock_text()). */
int listener_new(struct listener **out, const struct listen_config *c, int *errnum);
/* Everything but the address, `activated` and `fd` becomes as c says: for connections accepted from now on, and for
 * handshakes that have not got there yet. 0, or ERR_NO_MEMORY and nothing changed. */
int listener_update(struct listener *l, const struct listen_config *c);
/* The bound address, port 0 resolved. */
const struct addr *listener_addr(const struct listener *l);
const char *listener_name(const struct listener *l);
/* Connections of this listener: handshakes and flows. */
unsigned listener_connections(const struct listener *l);
const struct listen_counts *listener_counts(const struct listener *l);
/* Stops listening, removes a Unix socket's file and closes handshakes; flows live on, and the memory goes with the last. NULL is allowed. */
void listener_free(struct listener *l);

/* --- for tests and for other ways to get a connection --- */

/* A connection from elsewhere than the listening socket. */
void listener_accept(struct listener *l, struct stream *s, const struct addr *remote);

#endif
