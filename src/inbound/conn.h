/* conn.h - one accepted connection until its request is complete. Private to src/inbound.
 *
 * Bytes are taken from the stream only as far as a message of the handshake goes, so what follows the request stays
 * unread in the stream and is relayed as it is. socks_in and http_in decode; listen.c owns.
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

/* A way to an origin server that can carry another request. */
struct conn_kept {
    struct stream *stream; /* NULL: none */
    struct dest dest;
    enum transport transport;
};

struct conn {
    struct listener *listener;
    struct conn *next, *prev;
    enum conn_state state;
    struct stream *stream;
    struct addr remote;
    uint64_t accepted;
    struct loop_timer timer;
    struct access_user *user;
    const char *over_limit; /* which limit, NULL: none */
    bool again;  /* an earlier request was served on it */
    bool timing; /* ... and the next one has begun */
    struct defer start;
    struct conn_kept kept;
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

/* Whether a flow to d may begin; else it is refused, and the connection is over. */
bool conn_admit(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d);
/* The client's stream, without an owner; the connection is over but still counts: its new owner calls
 * listener_connection_gone(), or conn_resume(). */
struct stream *conn_give(struct conn *c);
/* The kept way if it leads to d, without an owner; any other is closed. */
struct stream *conn_take_kept(struct conn *c, const struct dest *d);
/* The client's next HTTP request is awaited, for CONN_KEEP_ALIVE ms. Takes both streams; kept may hold none. */
void conn_resume(struct access_user *u, struct stream *client, const struct addr *remote, const struct conn_kept *kept);
#define CONN_KEEP_ALIVE 60000
/* One connection of the user less: the listener may go with it. */
void listener_connection_gone(struct access_user *u);

/* Both end the connection: the handler must return at once. */
void conn_refuse(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d, int err, int hint,
                 const char *detail);
void conn_flow(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d);

/* Whether these credentials are one of the listener's users'. Takes the same time whichever it is. */
bool conn_user_ok(const struct conn *c, const void *name, size_t name_len, const void *password, size_t password_len);

#endif
