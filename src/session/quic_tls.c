#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdio.h>
#include <string.h>

#include "session/quic_impl.h"
#include "session/tls.h"

#define ALERT_BAD_CERTIFICATE 42
#define ALERT_NO_APPLICATION_PROTOCOL 120

static ngtcp2_conn *conn_of(ngtcp2_crypto_conn_ref *ref) { return ((struct quic *)ref->user_data)->conn; }

int quic_tls_new(struct quic *q) {
    bool server = q->s->cfg.server;
    unsigned flags = (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | creds_flags(q->s->cfg.creds, true);
    if (gnutls_init(&q->tls, flags | GNUTLS_NO_SIGNAL) < 0) {
        q->tls = NULL;
        return ERR_NO_MEMORY;
    }
    int rv = creds_apply(q->s->cfg.creds, q->tls, true, &q->verdict);
    if (rv < 0) return rv;
    q->ref = (ngtcp2_crypto_conn_ref){conn_of, q};
    gnutls_session_set_ptr(q->tls, &q->ref);
    static unsigned char h3[] = "h3";
    gnutls_datum_t alpn = {h3, 2};
    if (gnutls_alpn_set_protocols(q->tls, &alpn, 1, GNUTLS_ALPN_MANDATORY) < 0) return ERR_UPSTREAM_TLS;
    rv = server ? ngtcp2_crypto_gnutls_configure_server_session(q->tls)
                : ngtcp2_crypto_gnutls_configure_client_session(q->tls);
    return rv ? ERR_UPSTREAM_TLS : 0;
}

static int check_certificate(struct quic *q) {
    struct creds_verdict *v = &q->verdict;
    /* The hook has judged already, and a refusal ended the handshake. A resumed session does not ask it; and should a
     * library ever complete another one without asking, it shall not pass. */
    int rv = creds_conclude(v, q->tls);
    q->s->unverified = v->unverified;
    if (rv == 0) return 0;
    return quic_stop_transport(q, v->err, NGTCP2_CRYPTO_ERROR | ALERT_BAD_CERTIFICATE, "%s", v->why);
}

int quic_tls_check(struct quic *q) {
    gnutls_datum_t alpn = {NULL, 0};
    if (!q->s->cfg.server && check_certificate(q) < 0) return -1;
    if (gnutls_alpn_get_selected_protocol(q->tls, &alpn) < 0) alpn.size = 0;
    if (alpn.size == 2 && memcmp(alpn.data, "h3", 2) == 0) {
        /* A client without tickets is well off, too. */
        if (q->s->cfg.server && creds_sends_tickets(q->s->cfg.creds)) gnutls_session_ticket_send(q->tls, 1, 0);
        return 0;
    }
    return quic_stop_transport(q, ERR_UPSTREAM_ALPN, NGTCP2_CRYPTO_ERROR | ALERT_NO_APPLICATION_PROTOCOL,
                               alpn.size ? "negotiated \"%.*s\", not h3" : "negotiated no protocol%.*s, wanted h3",
                               (int)alpn.size, alpn.size ? (char *)alpn.data : "");
}

void quic_tls_info(const struct quic *q, struct session_info *i) {
    if (!q->ready) return;
    gnutls_datum_t alpn;
    if (gnutls_alpn_get_selected_protocol(q->tls, &alpn) == 0)
        snprintf(i->alpn, sizeof i->alpn, "%.*s", (int)alpn.size, alpn.data);
    tls_describe(q->tls, i->tls, sizeof i->tls);
    i->resumed = q->verdict.resumed;
}
