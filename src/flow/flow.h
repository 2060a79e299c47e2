/* flow.h - THE STORY of one request: from a destination that a client asked for to its access record.
 *
 * An inbound that has understood its client calls flow_open() with the client's stream and the destination, and is done:
 * the flow opens the way out, lets the inbound's reply function word the outcome, relays, and writes one access record
 * saying who ended it and why. Flows of one process hang in a flow_set, which carries what they share.
 */
#ifndef ADIT_FLOW_FLOW_H
#define ADIT_FLOW_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/dest.h"
#include "base/loop.h"
#include "base/stream.h"
#include "flow/linger.h"
#include "upstream/pool.h"

/* Longest reply that an inbound words: an HTTP error with its page. */
#define FLOW_REPLY_MAX 4096

struct flow_set;
struct flow_request;

/* Words the outcome in the client's protocol into out; returns its length (0: say nothing). err 0: the way is open. */
typedef size_t flow_reply(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap);

struct flow_set_config {
    struct loop *loop;
    struct pool *pool;    /* where flows go; not owned, outlives the set */
    const char *upstream; /* its name, for the record; copied */
};

/* NULL when out of memory. */
struct flow_set *flow_set_new(const struct flow_set_config *c);
/* Flows go there from now on: flows whose way is being opened are opened anew, those that relay stay on the streams they
 * have. ERR_NO_MEMORY: nothing changed. */
int flow_set_use(struct flow_set *set, struct pool *pool, const char *upstream);
/* Ends all flows at once, each with its record (reason shutdown). NULL is allowed. */
void flow_set_free(struct flow_set *set);
unsigned flow_count(const struct flow_set *set);
/* New flows are refused with ERR_SHUTDOWN from now on; `drained` is called, once and from the deferred queue, when none
 * is left (replies that linger included). */
void flow_set_drain(struct flow_set *set, void (*drained)(void *arg), void *arg);
struct linger_set *flow_lingers(struct flow_set *set);

struct flow_request {
    struct stream *client;     /* taken over in every case */
    struct dest dest;
    flow_reply *reply;         /* NULL: nothing is said */
    int hint;                  /* for the reply function: what the inbound knows beside the err */
    const char *listener;      /* name; copied */
    const char *protocol;      /* "socks5", "http"; static */
    struct addr remote;        /* the client's address */
    uint64_t accepted;         /* when the connection was accepted, ns */
    uint32_t idle_timeout;     /* ms; 0: none */
    void (*ended)(void *arg);  /* called once when the flow is gone; the listener counts its connections by it */
    void *arg;
};

/* Always takes the request: a failure is worded to the client and recorded. */
void flow_open(struct flow_set *set, const struct flow_request *rq);
/* --- for an inbound that speaks for its client itself (HTTP requests) --- */

struct flow;
/* The way is open: far is the callee's (err 0), or why it is not. Also called, with ERR_SHUTDOWN, when the set ends while the
 * flow is lent: whenever err is not 0, flow_return() must follow at once, from inside the call. */
typedef void flow_lent_cb(struct flow *f, struct stream *far, int err, const char *detail, void *arg);
/* A flow whose client stays with the caller: rq->client, reply, idle_timeout and ended are not looked at. The way is
 * opened, and `lent` called from the deferred queue; opened: an earlier flow's way, which went over `transport`, goes on, and
 * nothing is opened. NULL when out of memory or the set drains (*err). */
struct flow *flow_lend(struct flow_set *set, const struct flow_request *rq, bool opened, enum transport transport,
                       flow_lent_cb *lent, void *arg, int *err);
enum transport flow_transport(const struct flow *f);
struct flow_end {
    int err;
    const char *by; /* "client", "target", "upstream", "adit"; NULL: by the class of err */
    const char *detail;
    uint64_t up, down;
};
/* Opens another way for it, as at first. 0, or ERR_NO_MEMORY and it is to be returned. */
int flow_reopen(struct flow *f);
/* Writes its record; it is gone then. An opening under way is cancelled. */
void flow_return(struct flow *f, const struct flow_end *end);

/* For an inbound that refuses by itself: words the failure, closes in order, and writes the record. dest may be NULL. */
void flow_refuse(struct flow_set *set, const struct flow_request *rq, const struct dest *dest, int err,
                 const char *detail);

#endif
