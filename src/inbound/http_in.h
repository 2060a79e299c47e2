/* http_in.h - what HTTP clients ask of a listener (RFC 9110 section 9.3.6, RFC 9112, RFC 7617). Private to src/inbound.
 *
 * CONNECT is served, absolute-form requests are passed on (http_forward.h), and origin-form requests get a 400, /proxy.pac
 * excepted (pac.h): a Host field never names a destination.
 */
#ifndef ADIT_INBOUND_HTTP_IN_H
#define ADIT_INBOUND_HTTP_IN_H

#include "inbound/conn.h"

/* In flow_request.hint, beside the status: the request was a HEAD, whose answer has no body. */
#define HTTP_IN_HEAD 0x10000

/* Words an outcome; rq->hint is an HTTP status that the err alone does not tell, or 0, and perhaps HTTP_IN_HEAD. */
size_t http_in_reply(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap);
/* The handler of CONN_HTTP; see conn.h. */
bool http_in_request(struct conn *c);

#endif
