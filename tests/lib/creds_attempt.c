#include "lib/creds_attempt.h"

#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/h3_pair.h"
#include "session/h2_impl.h"
#include "session/h3_impl.h"
#include "session/quic_impl.h"

static bool over(void *arg) {
    struct session_pair *p = arg;
    return p->side[PAIR_CLIENT].states[SESSION_UP] || p->side[PAIR_CLIENT].states[SESSION_DOWN];
}

static gnutls_session_t tls_of(struct session *s) {
    if (s->cfg.kind == SESSION_H2) return tls_session(((struct h2 *)s)->tls);
    return ((struct h3 *)s)->q->tls;
}

struct creds_attempt creds_attempt(enum session_kind kind, struct creds *client, struct creds *server) {
    struct session_pair_config c;
    struct creds_attempt a = {.err = ERR_UPSTREAM_TIMEOUT};
    if (kind == SESSION_H3)
        h3_pair_config_init(&c, false);
    else
        session_pair_config_init(&c, kind);
    c.client.creds = client;
    c.server.creds = server;
    struct session_pair *p = session_pair_new(&c);
    if (!p) abort();
    struct pair_side *near = &p->side[PAIR_CLIENT], *far = &p->side[PAIR_SERVER];
    if (session_pair_until(p, over, p, 20 * PAIR_S)) {
        session_pair_settle(p, 100 * PAIR_MS);
        a.err = session_error(near->session);
    }
    snprintf(a.text, sizeof a.text, "%s", session_error_text(near->session));
    a.unverified = near->session->unverified;
    struct session_info info;
    session_get_info(near->session, &info);
    a.resumed = info.resumed;
    if (far->session) {
        a.server_err = session_error(far->session);
        snprintf(a.server_text, sizeof a.server_text, "%s", session_error_text(far->session));
        unsigned type;
        size_t n = sizeof a.sni - 1;
        if (gnutls_server_name_get(tls_of(far->session), a.sni, &n, &type, 0) < 0) a.sni[0] = 0;
    }
    a.server_up = far->states[SESSION_UP] > 0;
    session_pair_free(p);
    return a;
}

struct creds *creds_must(const struct creds_config *c) {
    struct creds *creds;
    char why[CREDS_WHY_MAX];
    if (creds_new(&creds, c, why, sizeof why) == 0) return creds;
    fprintf(stderr, "creds: %s\n", why);
    abort();
}
