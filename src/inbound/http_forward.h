/* http_forward.h - one plain HTTP request and its answer, passed between a client and an origin server. Private to
 * src/inbound. Sources: RFC 9110 sections 7.6, 7.8 and 10.1.1, RFC 9112 sections 6, 7 and 9.
 *
 * http_in hands over a request in absolute-form. This opens the way, sends the request in origin-form, passes on interim
 * answers, the answer and both bodies as they come, with back-pressure, and then gives the client's connection back to
 * listen.c for its next request, together with the way if it can be used again. What the client sends meanwhile stays unread
 * in its socket, so that pipelined requests are served in order. 101 turns the connection into a tunnel.
 *
 * A failure before the answer has begun is worded as an error page and ends the connection; one in its middle resets the
 * client, for whom the answer would else look complete. A request goes out once. It goes out a second time, on a new way, only
 * if it may (idempotent, without a body) and the old way ended before the first byte of an answer.
 */
#ifndef ADIT_INBOUND_HTTP_FORWARD_H
#define ADIT_INBOUND_HTTP_FORWARD_H

#include "codec/http1.h"
#include "inbound/conn.h"

#define HTTP_FORWARD_INTERIMS 16 /* 1xx answers to one request; one more breaks the protocol */

/* Takes the connection's stream; c is CONN_DONE then. c->bytes holds the head of head_len bytes that r points into. */
void http_forward(struct conn *c, const struct http1_request *r, size_t head_len, const struct dest *d);

#endif
