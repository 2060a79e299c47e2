/* gateway.h - the running program made from one configuration snapshot: listeners, flows, the pool.
 *
 * gateway_new() builds and binds everything or nothing; gateway_start() connects. Listening does not depend on the
 * endpoint: adit starts, and says what is wrong, while the endpoint is down. All of it runs on the given loop.
 */
#ifndef ADIT_APP_GATEWAY_H
#define ADIT_APP_GATEWAY_H

#include <stddef.h>

#include "app/conf.h"
#include "base/loop.h"
#include "upstream/pool.h"

#define GATEWAY_WHY_MAX 512

struct gateway;
struct listener;

/* 0; or ERR_CONFIG (the credentials cannot be made, or a socket that was passed does not fit: why names file, line and
 * column), ERR_IO (a listener cannot be bound)
 * or ERR_NO_MEMORY. Keeps a reference to the snapshot. */
int gateway_new(struct gateway **out, struct loop *l, struct conf *conf, char *why, size_t cap);
/* Connects to the endpoint and says where it listens. */
void gateway_start(struct gateway *g);
/* Goes on by another snapshot, or does not change at all. Listeners at an address that stays are kept, others are bound
 * before the old ones are closed; handshakes on a closed one end, flows live on. When something of the endpoint changed,
 * new sessions are made by the new snapshot: flows that relay stay on the old ones, which end with them, and requests that
 * have no answer yet are sent anew. Errors as gateway_new(). */
int gateway_reload(struct gateway *g, struct conf *conf, char *why, size_t cap);
/* Takes no new connections and lets the flows end; then `drained` is called, once. */
void gateway_drain(struct gateway *g, void (*drained)(void *arg), void *arg);
/* Ends everything at once. NULL is allowed. */
void gateway_free(struct gateway *g);

/* The same checks as gateway_new() without binding or connecting: what `adit check` does. */
int gateway_check(struct conf *conf, char *why, size_t cap);

/* Called when the upstream's state changed; must only look at the gateway. NULL: nobody is told. */
void gateway_on_change(struct gateway *g, void (*changed)(void *arg), void *arg);

unsigned gateway_flows(const struct gateway *g);
const struct pool *gateway_pool(const struct gateway *g);
/* The endpoint's hostname. */
const char *gateway_upstream(const struct gateway *g);
/* The n-th listener; NULL past the last. */
const struct listener *gateway_listener_at(const struct gateway *g, size_t n);
/* Address of the n-th listener; NULL past the last. */
const struct addr *gateway_listener(const struct gateway *g, size_t n);

#endif
