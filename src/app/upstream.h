/* upstream.h - what the configuration says of the endpoint, in the terms of session/ and upstream/.
 *
 * The gateway makes its pool of it, and probe its single sessions, so that both meet the endpoint alike.
 */
#ifndef ADIT_APP_UPSTREAM_H
#define ADIT_APP_UPSTREAM_H

#include <stddef.h>

#include "app/conf.h"
#include "session/creds.h"
#include "session/session.h"
#include "upstream/policy.h"

#define UPSTREAM_AGENT_MAX 64

/* The client's side of TLS. 0 and *out to be unreferenced; or ERR_CONFIG with file, line and column in why, or
 * ERR_NO_MEMORY. */
int upstream_creds(const struct conf *conf, struct creds **out, char *why, size_t cap);
/* Windows, budgets and timeouts; creds is referenced by it, not counted. */
void upstream_session(const struct conf_endpoint *e, struct creds *creds, struct session_config *c);
/* The user-agent to send; buf (UPSTREAM_AGENT_MAX bytes) is used for the built-in one. */
const char *upstream_agent(const struct conf_endpoint *e, char *buf);
enum transport_choice upstream_choice(const struct conf_endpoint *e);

#endif
