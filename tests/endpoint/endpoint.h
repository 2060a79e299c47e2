/* endpoint.h - the test endpoint: a TrustTunnel endpoint in one object, for tests and the demonstration.
 *
 * Plays the server role of session/ on a TCP and a UDP address, asks for Basic credentials, opens CONNECT tunnels to
 * loopback destinations, answers `_check`, and misbehaves on demand (struct endpoint_faults). It knows nothing of adit's
 * dialect code. Everything runs on the given loop, which may be the virtual one.
 */
#ifndef ADIT_TESTS_ENDPOINT_H
#define ADIT_TESTS_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/dest.h"
#include "base/loop.h"
#include "session/creds.h"

#define ENDPOINT_HOSTS 16

/* All off at first; they may be changed while the endpoint runs, and hold for what happens from then on. */
struct endpoint_faults {
    bool udp_drop;           /* datagrams are not seen */
    bool stall;              /* nothing is read and nothing sent, on either transport */
    bool no_alpn;            /* TLS negotiates no protocol */
    bool instant_200;        /* 200 before the target is dialled */
    int status;              /* every CONNECT to a target is answered with this status; 0: off */
    int check_status;        /* the same for `_check` */
    int x_warning;           /* ... with this code in x-warning, and 502 unless `status` is set */
    unsigned goaway_after;   /* GOAWAY with this request of a session; 0: never */
    unsigned refuse_streams; /* so many next requests are refused unprocessed */
    unsigned slow_accept;    /* ms before a CONNECT is looked at */
    unsigned session_life;   /* ms after which a session is ended without a word; 0: never */
    unsigned max_sessions;   /* sessions of one user; over it the first request is answered by the end of the session, as
                              * deployed endpoints do: EOF (H2), 407 and CONNECTION_CLOSE (H3); 0: no limit */
    unsigned dead_man;       /* ms without a new stream after which a session is ended; 0: never */
};

/* What tests count. */
struct endpoint_counts {
    unsigned sessions_h2, sessions_h3; /* established so far */
    unsigned sessions;                 /* now */
    unsigned requests_h2, requests_h3; /* CONNECT to a target */
    unsigned checks, refused_auth, tunnels, tunnels_open;
};

struct endpoint_config {
    struct loop *loop;
    struct creds *creds; /* server credentials; referenced */
    const char *user, *password;
    bool retry;          /* QUIC: answer every first Initial with Retry, as deployed endpoints do */
    unsigned max_streams;
    uint32_t stream_window; /* 0: as session_config_init() */
    bool any_target;     /* also targets that are not on loopback (the virtual network) */
    struct { const char *name, *ip; } hosts[ENDPOINT_HOSTS]; /* names it knows beside localhost */
};

struct endpoint;

/* NULL when out of memory. */
struct endpoint *endpoint_new(const struct endpoint_config *c);
/* Each may be called once; the address with port 0 resolved goes to *bound. 0 or an errno. */
int endpoint_listen_tcp(struct endpoint *ep, const struct addr *at, struct addr *bound);
int endpoint_listen_udp(struct endpoint *ep, const struct addr *at, struct addr *bound);
/* Ends all sessions at once, without a word, and listens no more. */
void endpoint_close(struct endpoint *ep);
/* Also frees. NULL is allowed. */
void endpoint_free(struct endpoint *ep);

struct endpoint_faults *endpoint_faults(struct endpoint *ep);
const struct endpoint_counts *endpoint_counts(const struct endpoint *ep);
/* GOAWAY on all sessions. */
void endpoint_goaway(struct endpoint *ep);

#endif
