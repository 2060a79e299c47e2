/* flow.h - THE STORY of one request: from a destination that a client asked for to its access record.
 *
 * An inbound that has understood its client calls flow_open() with the client's stream and the destination, and is done:
 * the flow opens the way out, lets the inbound's reply function word the outcome, relays, and writes one access record
 * saying who ended it and why. Flows of one process hang in a flow_set, which carries what they share.
 */
#ifndef ADIT_FLOW_FLOW_H
#define ADIT_FLOW_FLOW_H

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
/* For an inbound that refuses by itself: words the failure, closes in order, and writes the record. dest may be NULL. */
void flow_refuse(struct flow_set *set, const struct flow_request *rq, const struct dest *dest, int err,
                 const char *detail);

/* --- flows whose bytes the inbound moves by itself ---
 *
 * A task is a flow that is opened, counted, drained and recorded like the others, but whose streams belong to its owner:
 * an exchange of HTTP requests that are passed on (inbound/http_forward.h). The owner ends it, or hands it to a relay. */

struct flow;

struct flow_task {
    /* The way is open, far is the owner's; or err says why it is not (far NULL), and the owner ends the task. From the
     * deferred queue, or from flow_set_use(). */
    void (*opened)(struct stream *far, enum transport t, int err, const char *detail, void *arg);
    /* Everything ends now (flow_set_free): the owner must end the task before it returns. */
    void (*quit)(void *arg);
    void *arg;
};

/* rq: client, reply and ended are not looked at. 0; or ERR_SHUTDOWN while the set drains, or ERR_NO_MEMORY. */
int flow_begin(struct flow **out, struct flow_set *set, const struct flow_request *rq, const struct flow_task *task);
/* Opens the way out; `opened` follows unless it fails with ERR_NO_MEMORY. May be asked again once it has. */
int flow_ask(struct flow *f);
/* The owner has a stream to that destination already. */
void flow_reuse(struct flow *f, enum transport t);
/* Writes the record and frees f. up, down: bytes from and to the client. */
void flow_end(struct flow *f, int err, const char *detail, uint64_t up, uint64_t down);
/* From here on f is a flow like any other: it relays between the two streams and calls `ended` when it is gone. What the
 * task has moved before counts into its record. */
void flow_tunnel(struct flow *f, struct stream *client, struct stream *far, void (*ended)(void *arg), void *arg,
                 uint64_t up, uint64_t down);
/* Changes whenever flows go another way (flow_set_use): streams kept from before should not be used again. */
unsigned flow_generation(const struct flow_set *set);

#endif
