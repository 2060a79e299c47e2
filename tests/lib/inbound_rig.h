/* inbound_rig.h - a listener and its flows without a network: clients come by pipes, and the test is the upstream.
 *
 * The listener and the flow_set are the real ones, on the virtual clock. In the place of upstream/pool.c stands the
 * opening half of pool.h: each tunnel that a flow asks for lies in rig.opens, in the order of asking, until the test
 * answers it. A program that uses this links tests/lib/libinbound_rig.a before the libraries of src/.
 *
 * One rig at a time: it takes the log. Nothing here knows cmocka, so that fuzz targets can use it; what must not
 * happen whatever a test does (an open that ends twice, or never) aborts.
 */
#ifndef ADIT_TESTS_LIB_INBOUND_RIG_H
#define ADIT_TESTS_LIB_INBOUND_RIG_H

#include "base/log.h"
#include "inbound/listen.h"
#include "sim/sim.h"

/* The port of destinations that are the listener itself, whatever their host. */
#define RIG_SELF_PORT 1080
#define RIG_ROOM (256 * 1024) /* of each direction of a pipe, bytes */

enum rig_open_state {
    RIG_OPEN_ASKED,
    RIG_OPEN_ANSWERED,  /* by the test; on its way through the deferred queue */
    RIG_OPEN_TOLD,      /* the flow has heard */
    RIG_OPEN_CANCELLED, /* by the flow; no answer reaches it */
};

struct pool_open {
    struct rig *rig;
    struct pool_open *next;
    enum rig_open_state state;
    struct dest dest;
    struct stream *far;   /* the target's end once there is a tunnel; freed with the rig unless taken (set to NULL) */
    struct stream *inner; /* the flow's end, until it is told */
    int err;
    const char *detail;
    pool_open_cb *cb;
    void *arg;
    struct defer node;
};

struct rig {
    struct loop *loop;
    struct flow_set *flows;
    struct listener *listener;
    struct listen_config cfg; /* what the listener was made of; change it and call listener_update() */
    size_t room;              /* of the pipes of further clients; RIG_ROOM at first */
    struct pool_open *opens;
    unsigned n_opens;
    unsigned records, warnings;
    char record[LOG_LINE_MAX], warning[LOG_LINE_MAX]; /* the last of each */
};

/* c: what differs from the defaults (all protocols, no users, 10 s, no idle_timeout, 100 connections); the loop, the
 * flows, the name "test", the address and is_self are the rig's. */
struct rig *rig_new(const struct listen_config *c);
/* Ends everything; false when anything was left once all clients of the test were gone: a connection that the listener
 * counts, a flow, a socket. The listener may be gone already (set to NULL). */
bool rig_free(struct rig *r);

/* Gives the loop what can be done now, and a millisecond. */
void rig_settle(struct rig *r);
/* A connection to the listener; the client's end of it. */
struct stream *rig_connect(struct rig *r);

/* The i-th open; NULL if there were fewer. */
struct pool_open *rig_opened(const struct rig *r, unsigned i);
/* Answers 200: o->far is the target's end from now on. */
void rig_answer(struct pool_open *o);
/* Answers with an error; detail: static. */
void rig_refuse(struct pool_open *o, int err, const char *detail);

#endif
