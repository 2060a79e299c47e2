/* endpoint_impl.h - what endpoint.c (sessions) and tunnel.c (requests) share. */
#ifndef ADIT_TESTS_ENDPOINT_IMPL_H
#define ADIT_TESTS_ENDPOINT_IMPL_H

#include "base/stream.h"
#include "endpoint/endpoint.h"
#include "flow/linger.h"
#include "net/sock.h"
#include "session/quic_accept.h"
#include "session/session.h"

#define EP_CIDS 16

/* One session with a client. */
struct ep_session {
    struct endpoint *ep;
    struct ep_session *next, *prev;
    struct session *session;
    struct stream *tcp; /* H2 */
    struct quic_cid cids[EP_CIDS];
    bool reading_ended, blocked;
    bool admitted; /* counts towards max_sessions */
    unsigned requests;
    uint64_t last_request;
    struct defer pump;
    struct loop_timer timer, life;
};

struct tunnel;

struct endpoint {
    struct endpoint_config cfg;
    struct endpoint_faults faults;
    struct endpoint_counts counts;
    char *authorization; /* what a good client sends */
    struct listener_sock *listener;
    struct udp *udp;
    struct quic_acceptor acceptor;
    struct ep_session *sessions;
    struct tunnel *tunnels;
    struct linger_set *lingers;
};

/* Answers a request with this status. */
void tunnel_refuse(struct endpoint *ep, struct stream *st, int status);
/* Takes the stream of a request. */
void tunnel_request(struct ep_session *es, struct stream *st, bool h3);
void tunnels_free(struct endpoint *ep);

#endif
