/* socks_in.h - what SOCKS clients say to a listener, step by step (RFC 1928, RFC 1929). Private to src/inbound.
 *
 * Each handler belongs to one state of a connection; conn.h says what they return. CONNECT is served; BIND and UDP ASSOCIATE
 * get their refusals. SOCKS4 and 4a carry a user id that proves nothing: it is ignored, and where the listener has users
 * SOCKS4 is refused.
 */
#ifndef ADIT_INBOUND_SOCKS_IN_H
#define ADIT_INBOUND_SOCKS_IN_H

#include "inbound/conn.h"

bool socks_in_greeting(struct conn *c);
bool socks_in_auth(struct conn *c);
bool socks_in_request(struct conn *c);
bool socks_in_socks4(struct conn *c);

#endif
