/* http1_forward.h - heads of HTTP/1.x messages as a proxy passes them on (RFC 9110 section 7.6, RFC 9112 section 3.2).
 *
 * A head is written anew from its parts: in the origin form and with the Host field that the destination says, in
 * HTTP/1.1, without the fields that are for one hop alone, and with the one framing field that its reader understood. So
 * nothing that could be read in two ways gets through. Fields keep their order, and names and values their bytes.
 *
 * Left out     Connection and what it names, Keep-Alive, Proxy-Connection, TE, Upgrade, HTTP2-Settings, and all that is
 *              between a client and its proxy: Proxy-Authorization, Proxy-Authenticate, Proxy-Authentication-Info (an
 *              origin must not ask for the proxy's credentials).
 * Kept         Trailer, Expect, and Upgrade where the caller says so. Host and framing fields, whoever names them.
 * Not added    Via, on purpose: it would tell every origin of adit and what applications speak to it.
 */
#ifndef ADIT_CODEC_HTTP1_FORWARD_H
#define ADIT_CODEC_HTTP1_FORWARD_H

#include "base/dest.h"
#include "codec/http1.h"
#include "codec/http1_response.h"

/* A head grows by no more than this, the Host field included. */
#define HTTP1_FORWARD_MORE 512

enum http1_forward {
    HTTP1_FORWARD_CLOSE = 1,   /* with "Connection: close" */
    HTTP1_FORWARD_UPGRADE = 2, /* Upgrade is passed on; not together with CLOSE */
    HTTP1_FORWARD_PLAIN = 4,   /* the body goes out without its chunks, up to the end of the connection */
};

/* What is done with a request beside passing it on. */
enum http1_hops {
    HTTP1_HOPS_ON,
    HTTP1_HOPS_END,    /* Max-Forwards is 0 in a TRACE or OPTIONS: it must not be passed on */
    HTTP1_HOPS_BROKEN, /* Max-Forwards is there and no number */
};

/* Whether a TRACE or OPTIONS may go on (RFC 9110 section 7.6.2); others always do. */
enum http1_hops http1_hops(const struct http1_request *r);
/* Whether a request asks for another protocol, in a way that can be tunnelled: HTTP/1.1, without a body, and not for h2c,
 * which is this hop's alone. */
bool http1_wants_upgrade(const struct http1_request *r);
/* Whether the same request may be sent a second time though the first may have been acted on: an idempotent method (RFC
 * 9110 section 9.2.2) and no body. */
bool http1_repeatable(const struct http1_request *r);

/* Appends the head of a request to the origin server at d; flags: a set of enum http1_forward. */
void http1_put_request(struct writer *w, const struct http1_request *r, const struct dest *d, unsigned flags);
/* Appends the head of a response to the client. */
void http1_put_response(struct writer *w, const struct http1_response *r, unsigned flags);

#endif
