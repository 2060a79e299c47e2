/* pac.h - the proxy auto-configuration file of a listener. Private to src/inbound.
 *
 * Served for an origin-form "GET /proxy.pac" if the listener's `pac` is set and it has an IP address, to everyone who can
 * connect: it names the listener and what it serves, and holds no secret. It never says DIRECT: what adit cannot carry is to fail.
 */
#ifndef ADIT_INBOUND_PAC_H
#define ADIT_INBOUND_PAC_H

#include "inbound/conn.h"

/* Whether the request is one for the file, and the listener serves it. */
bool pac_is_asked(const struct listener *l, const struct http1_request *r);
/* A flow_reply: the file for the listener of the user rq->arg, at the address at which rq->client reached it. */
size_t pac_reply(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap);

#endif
