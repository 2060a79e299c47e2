/* http_forward.h - passes on the plain HTTP requests of one client's connection (RFC 9110 section 7.6, RFC 9112). Private to
 * src/inbound.
 *
 * A connection's requests are served one after another: each is an exchange, a flow with its own access record. While it runs
 * the client's next request stays unread in its socket. A head is read whole and written anew (codec/http1_forward.h); bodies
 * pass in their frames as they come (codec/http1_body.h), with back-pressure both ways and without being kept.
 *
 * Streams      The stream to an origin is kept for the client's next request to the same host and port if the response left
 *              it clean: whatever an origin says unasked ends it, and so does another upstream. An origin may close it at any
 *              time; a request without a body and with an idempotent method is sent once more, on a new stream, if not a byte
 *              came back. Nothing else is ever sent twice.
 * Interim      1xx go to HTTP/1.1 clients. After a 101 that was asked for, the two streams are a tunnel, the same flow.
 * Errors       Before the response's head: a page with the reason and its Proxy-Status, then the end. After it: a reset of the
 *              client, so that a part does not pass for the whole.
 * Limits       One head in each direction, HTTP1_HEAD_MAX; the listener's idle_timeout within an exchange,
 *              HTTP_KEEP_ALIVE between two.
 */
#ifndef ADIT_INBOUND_HTTP_FORWARD_H
#define ADIT_INBOUND_HTTP_FORWARD_H

#include "inbound/conn.h"

#define HTTP_KEEP_ALIVE 60000 /* ms that a connection may wait for its next request */

/* Starts the exchange for a request whose head has been taken, and puts the connection into CONN_FORWARDING: until it is
 * over, the client's stream is the forwarder's. The end is conn_next(), or the end of the connection. Nothing of r is used
 * after the call. Refuses the request if it cannot be passed on. */
void http_forward_start(struct conn *c, const struct http1_request *r, const struct dest *d);
/* The current exchange is the last. */
void http_forward_last(struct http_forward *fw);
/* Resets what is kept or under way; the record of an exchange must have been written. NULL is allowed. */
void http_forward_free(struct http_forward *fw);

#endif
