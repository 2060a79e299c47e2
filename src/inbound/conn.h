/* conn.h - one accepted connection until its request is complete, and between HTTP requests. Private to src/inbound.
 *
 * Bytes are taken from the stream only as far as a message of the handshake goes, so what follows the request stays
 * unread in the stream and is relayed as it is. socks_in and http_in decode; listen.c owns. While a plain HTTP request is
 * passed on (http_forward.h) the stream is in other hands, and then the connection waits for the next request.
 *
 * Handlers (socks_in.h, http_in.h) look at c->bytes[0..have). They return true when they took a message and the connection
 * goes on in another state, false when more bytes are needed or the connection is over (CONN_DONE).
 */
#ifndef ADIT_INBOUND_CONN_H
#define ADIT_INBOUND_CONN_H

#include "codec/http1.h"
#include "inbound/access.h"
#include "inbound/listen.h"
#include "net/unix_sock.h"

enum conn_state {
    CONN_FIRST,          /* nothing known yet */
    CONN_SOCKS_GREETING,
    CONN_SOCKS_AUTH,
    CONN_SOCKS_REQUEST,
    CONN_SOCKS4,
    CONN_HTTP,
    CONN_FORWARDING,     /* an exchange of http_forward.h is under way */
    CONN_DONE,           /* handed over; about to be freed */
};

struct listener {
    struct listen_config cfg; /* copies, owned */
    struct listener_sock *sock;
    struct addr address;
    struct unix_sock file; /* of a Unix socket that was made; no address: none */
    struct conn *head;
    unsigned connections;
    struct access access;
    struct listen_counts counts;
    bool closing;
    struct log_limit *limit;
};

struct http_forward;

struct conn {
    struct listener *listener;
    struct conn *next, *prev;
    enum conn_state state;
    struct stream *stream;
    struct addr remote;
    uint64_t accepted; /* when the connection was, or when the request began; ns */
    struct loop_timer timer;
    struct access_user *user;
    const char *over_limit; /* which limit, NULL: none */
    bool waiting; /* for the first byte of another request */
    struct http_forward *forward; /* NULL until there is a request to pass on */
    struct http1_scan scan;
    uint8_t *bytes; /* the message so far */
    size_t len;     /* bytes of it that were consumed from the stream */
    size_t have;    /* bytes of it in all: len and what the stream still holds */
    size_t cap;
};

void conn_set_state(struct conn *c, enum conn_state state);
/* The first `used` bytes are a complete message: takes them from the stream. They stay in c->bytes until the handler
 * returns. */
void conn_take(struct conn *c, size_t used);
/* Says this much to the client; false (and the connection is refused) if it does not fit. */
bool conn_say(struct conn *c, const void *p, size_t n);

/* Both end the connection: the handler must return at once. */
void conn_refuse(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d, int err, int hint,
                 const char *detail);
void conn_flow(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d);

/* Whether a flow to d may begin; else it is refused, and the connection is over. */
bool conn_admit(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d, int hint);

/* The ends of an exchange. After them the connection may be gone. */

/* The connection may bring another request. */
void conn_next(struct conn *c);
/* A last word (n may be 0) and the end in order, without a record. */
void conn_close(struct conn *c, const void *last, size_t n);
/* A reset, without a record. */
void conn_reset(struct conn *c, int err);
/* The stream and the connection's place in the listener go to a relay: flow_tunnel(). */
void conn_tunnel(struct conn *c, struct flow *f, struct stream *far, uint64_t up, uint64_t down);

/* Whether these credentials are one of the listener's users'. Takes the same time whichever it is. */
bool conn_user_ok(const struct conn *c, const void *name, size_t name_len, const void *password, size_t password_len);

#endif
