/* http_in.h - what HTTP clients ask of a listener (RFC 9110 section 9.3.6, RFC 9112, RFC 7617). Private to src/inbound.
 *
 * CONNECT opens a tunnel, absolute-form requests go to http_forward.h, and origin-form gets a 400: a Host field never names a
 * destination.
 */
#ifndef ADIT_INBOUND_HTTP_IN_H
#define ADIT_INBOUND_HTTP_IN_H

#include "inbound/conn.h"

/* Words an outcome; rq->hint is an HTTP status that the err alone does not tell, or 0. */
size_t http_in_reply(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap);
/* The handler of CONN_HTTP; see conn.h. */
bool http_in_request(struct conn *c);

#endif
