#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "session/quic_impl.h"

#define ALERT_NO_APPLICATION_PROTOCOL 120

/* ---- wishes from inside the library ---- */

static int stop(struct quic *q, enum err err, bool app, uint64_t code, const char *fmt, va_list ap) {
    if (q->stop.set) return -1;
    q->stop.set = true;
    q->stop.app = app;
    q->stop.err = err;
    q->stop.code = code;
    vsnprintf(q->stop.text, sizeof q->stop.text, fmt, ap);
    return -1;
}

int quic_stop(struct quic *q, enum err err, uint64_t code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int rv = stop(q, err, true, code, fmt, ap);
    va_end(ap);
    return rv;
}

int quic_stop_transport(struct quic *q, enum err err, uint64_t code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int rv = stop(q, err, false, code, fmt, ap);
    va_end(ap);
    return rv;
}

/* ---- the end ---- */

static void write_close(struct quic *q, const ngtcp2_ccerr *cc) {
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_ssize n =
        ngtcp2_conn_write_connection_close(q->conn, &ps.path, &pi, q->close, sizeof q->close, cc, q->now);
    if (n <= 0) return; /* there are no keys yet, or nothing may be sent */
    q->close_len = (size_t)n;
    q->close_due = true;
    q->batch[0].remote = q->s->cfg.remote;
    addr_from_sockaddr(&q->batch[0].remote, ps.path.remote.addr, ps.path.remote.addrlen);
}

void quic_end(struct quic *q, enum err err, const ngtcp2_ccerr *cc, const char *text) {
    if (q->s->state == SESSION_DOWN) return;
    /* What was built and not sent is lost, like on a wire. */
    q->batches = 0;
    if (cc) write_close(q, cc);
    session_fail(q->s, q->now, err, "%s", text);
    q->ops->down(q->arg);
    session_wake(q->s);
}

void quic_close(struct quic *q, enum err err, uint64_t code, const char *text, uint64_t now) {
    ngtcp2_ccerr cc;
    quic_set_now(q, now);
    ngtcp2_ccerr_default(&cc);
    ngtcp2_ccerr_set_application_error(&cc, code, NULL, 0);
    quic_end(q, err, &cc, text);
}

/* ---- meanings ---- */

static void end_wished(struct quic *q) {
    ngtcp2_ccerr cc;
    ngtcp2_ccerr_default(&cc);
    if (!q->stop.set)
        quic_stop_transport(q, ERR_INTERNAL, NGTCP2_INTERNAL_ERROR, "a callback failed without a reason");
    if (q->stop.app)
        ngtcp2_ccerr_set_application_error(&cc, q->stop.code, NULL, 0);
    else
        ngtcp2_ccerr_set_transport_error(&cc, q->stop.code, NULL, 0);
    quic_end(q, q->stop.err, &cc, q->stop.text);
}

static const char *alert_name(unsigned alert) {
    const char *name = gnutls_alert_get_name((gnutls_alert_description_t)alert);
    return name ? name : "unknown";
}

/* CONNECTION_CLOSE came. */
static void end_by_peer(struct quic *q) {
    const ngtcp2_ccerr *cc = ngtcp2_conn_get_ccerr(q->conn);
    bool app = cc->type == NGTCP2_CCERR_TYPE_APPLICATION;
    uint64_t code = cc->error_code;
    enum err err = ERR_UPSTREAM_CLOSED;
    char text[512], alert[64] = "";

    if (q->reset_by_peer) {
        quic_end(q, ERR_UPSTREAM_CLOSED, NULL, "stateless reset: the peer does not know the connection any more");
        return;
    }
    if (app && (code == 0x1f || code == 0x64)) {
        err = ERR_UPSTREAM_AUTH;
    } else if (!app && code == NGTCP2_CONNECTION_REFUSED) {
        err = ERR_UPSTREAM_REFUSED;
    } else if (!app && code >= NGTCP2_CRYPTO_ERROR && code <= (NGTCP2_CRYPTO_ERROR | 0xff)) {
        unsigned number = (unsigned)(code & 0xff);
        err = number == ALERT_NO_APPLICATION_PROTOCOL ? ERR_UPSTREAM_ALPN : ERR_UPSTREAM_TLS;
        snprintf(alert, sizeof alert, " (TLS alert %u, %s)", number, alert_name(number));
    }
    snprintf(text, sizeof text, "closed by the peer: %s code 0x%llx%s%s%.*s", app ? "application" : "transport",
             (unsigned long long)code, alert, cc->reasonlen ? ": " : "", (int)cc->reasonlen,
             cc->reason ? (const char *)cc->reason : "");
    quic_end(q, err, NULL, text);
}

/* Our own TLS refused to go on. */
static void end_by_tls(struct quic *q) {
    ngtcp2_ccerr cc;
    uint8_t alert = ngtcp2_conn_get_tls_alert(q->conn);
    char text[128];
    ngtcp2_ccerr_default(&cc);
    ngtcp2_ccerr_set_tls_alert(&cc, alert, NULL, 0);
    if (q->verdict.err != ERR_OK) {
        quic_end(q, q->verdict.err, &cc, q->verdict.why);
        return;
    }
    snprintf(text, sizeof text, "the handshake failed here: TLS alert %u, %s", alert, alert_name(alert));
    quic_end(q, alert == ALERT_NO_APPLICATION_PROTOCOL ? ERR_UPSTREAM_ALPN : ERR_UPSTREAM_TLS, &cc, text);
}

static void end_by_library(struct quic *q, int rv) {
    ngtcp2_ccerr cc;
    char text[128];
    ngtcp2_ccerr_default(&cc);
    ngtcp2_ccerr_set_liberr(&cc, rv, NULL, 0);
    snprintf(text, sizeof text, "QUIC: %s (transport code 0x%llx sent)", ngtcp2_strerror(rv),
             (unsigned long long)cc.error_code);
    quic_end(q, rv == NGTCP2_ERR_NOMEM ? ERR_NO_MEMORY : ERR_UPSTREAM_PROTOCOL, &cc, text);
}

void quic_judge(struct quic *q, int rv) {
    char text[128];
    switch (rv) {
    case 0:
    case NGTCP2_ERR_CLOSING: return;
    case NGTCP2_ERR_DRAINING: end_by_peer(q); return;
    case NGTCP2_ERR_CRYPTO: end_by_tls(q); return;
    case NGTCP2_ERR_CALLBACK_FAILURE: end_wished(q); return;
    case NGTCP2_ERR_IDLE_CLOSE:
        snprintf(text, sizeof text, "nothing came for %u s", q->s->cfg.idle_timeout / 1000);
        quic_end(q, ERR_UPSTREAM_TIMEOUT, NULL, text);
        return;
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
        snprintf(text, sizeof text, "the peer does not speak QUIC v1, but versions %s", q->versions);
        quic_end(q, ERR_UPSTREAM_PROTOCOL, NULL, text);
        return;
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_RETRY:
        quic_end(q, ERR_UPSTREAM_PROTOCOL, NULL, "the first packets are not acceptable");
        return;
    default: end_by_library(q, rv); return;
    }
}

const char *session_quic_library_version(void) { return ngtcp2_version(0)->version_str; }
