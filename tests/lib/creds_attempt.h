/* creds_attempt.h - one session between two sets of credentials, over either transport: does it come up, and if not, why.
 */
#ifndef ADIT_TESTS_LIB_CREDS_ATTEMPT_H
#define ADIT_TESTS_LIB_CREDS_ATTEMPT_H

#include <stdbool.h>

#include "session/session.h"

struct creds_attempt {
    enum err err;   /* of the client; ERR_OK: it came up, and stayed so */
    char text[256]; /* its words */
    enum err server_err;
    char server_text[256];
    char sni[256]; /* that the server saw; "": none */
    bool server_up, unverified, resumed;
};

/* Waits for what the server sends after the handshake too: session tickets, and what it thinks of our certificate. The
 * credentials stay the caller's. */
struct creds_attempt creds_attempt(enum session_kind kind, struct creds *client, struct creds *server);

/* creds_new() that must succeed. */
struct creds *creds_must(const struct creds_config *c);

#endif
