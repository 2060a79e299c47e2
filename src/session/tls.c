#include "session/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define ALPN_MAX 16
#define WARNINGS_MAX 8 /* warning alerts of one connection */
#define FIRST_BYTES 24 /* of the peer, kept to tell what it speaks instead of TLS */

enum tls_state { TLS_HANDSHAKING, TLS_OPEN, TLS_ENDED, TLS_FAILED };

struct tls {
    gnutls_session_t session;
    struct outq *out;
    enum tls_state state;
    bool server, allow_no_alpn;
    const uint8_t *in; /* the caller's span */
    size_t in_len;
    bool in_eof;
    gnutls_packet_t packet; /* what the last tls_read() showed */
    unsigned warnings;
    uint8_t first[FIRST_BYTES];
    size_t first_len;
    char alpn[ALPN_MAX];
    struct creds_verdict verdict;
    int err;
    char text[CREDS_WHY_MAX];
};

/* ---- the output queue ---- */

bool outq_add(struct outq *q, const void *p, size_t n) {
    if (q->off + q->len + n > q->cap && q->off) {
        memmove(q->p, q->p + q->off, q->len);
        q->off = 0;
    }
    if (q->len + n > q->cap) {
        size_t cap = q->cap ? q->cap : 4096;
        while (cap < q->len + n) cap *= 2;
        uint8_t *fresh = realloc(q->p, cap);
        if (!fresh) return false;
        q->p = fresh;
        q->cap = cap;
    }
    if (n) memcpy(q->p + q->off + q->len, p, n);
    q->len += n;
    return true;
}

void outq_take(struct outq *q, size_t n) {
    q->off += n;
    q->len -= n;
    if (!q->len) q->off = 0;
}

void outq_free(struct outq *q) {
    free(q->p);
    *q = (struct outq){0};
}

/* ---- the transport of GnuTLS ---- */

static ssize_t pull(gnutls_transport_ptr_t ptr, void *to, size_t n) {
    struct tls *t = ptr;
    if (!t->in_len) {
        if (t->in_eof) return 0;
        gnutls_transport_set_errno(t->session, EAGAIN);
        return -1;
    }
    if (n > t->in_len) n = t->in_len;
    memcpy(to, t->in, n);
    t->in += n;
    t->in_len -= n;
    return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms) {
    struct tls *t = ptr;
    (void)ms; /* nothing comes while we are inside */
    return t->in_len || t->in_eof ? 1 : 0;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *iov, int count) {
    struct tls *t = ptr;
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        if (!outq_add(t->out, iov[i].iov_base, iov[i].iov_len)) {
            gnutls_transport_set_errno(t->session, ENOMEM);
            return n ? (ssize_t)n : -1;
        }
        n += iov[i].iov_len;
    }
    return (ssize_t)n;
}

/* ---- life ---- */

int tls_new(struct tls **out, struct creds *creds, bool server, bool allow_no_alpn, struct outq *q) {
    static unsigned char h2[] = "h2";
    const gnutls_datum_t alpn = {h2, 2};

    *out = NULL;
    struct tls *t = calloc(1, sizeof *t);
    if (!t) return ERR_NO_MEMORY;
    t->out = q;
    t->server = server;
    t->allow_no_alpn = allow_no_alpn;
    unsigned flags = (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | creds_flags(creds, false);
    if (gnutls_init(&t->session, flags) < 0) {
        free(t);
        return ERR_NO_MEMORY;
    }
    int rv = creds_apply(creds, t->session, false, &t->verdict);
    if (rv == 0 && !(server && allow_no_alpn) &&
        gnutls_alpn_set_protocols(t->session, &alpn, 1, server ? GNUTLS_ALPN_MANDATORY : 0) < 0)
        rv = ERR_NO_MEMORY;
    if (rv < 0) {
        tls_free(t);
        return rv;
    }
    gnutls_transport_set_ptr(t->session, t);
    gnutls_transport_set_pull_function(t->session, pull);
    gnutls_transport_set_pull_timeout_function(t->session, pull_timeout);
    gnutls_transport_set_vec_push_function(t->session, push);
    /* The session above has the one deadline. */
    gnutls_handshake_set_timeout(t->session, 0);
    *out = t;
    return 0;
}

void tls_free(struct tls *t) {
    if (!t) return;
    if (t->packet) gnutls_packet_deinit(t->packet);
    creds_release(&t->verdict);
    gnutls_deinit(t->session);
    free(t);
}

void tls_input(struct tls *t, const uint8_t *p, size_t n) {
    t->in = p;
    t->in_len = n;
    if (!n) t->in_eof = true;
    size_t want = sizeof t->first - t->first_len;
    if (want > n) want = n;
    if (want) memcpy(t->first + t->first_len, p, want);
    t->first_len += want;
}

/* ---- failures ---- */

__attribute__((format(printf, 3, 4))) static int fail(struct tls *t, int err, const char *fmt, ...) {
    va_list ap;
    if (t->state == TLS_FAILED) return t->err;
    va_start(ap, fmt);
    vsnprintf(t->text, sizeof t->text, fmt, ap);
    va_end(ap);
    t->state = TLS_FAILED;
    t->err = err;
    return err;
}

static int fail_by_alert(struct tls *t) {
    gnutls_alert_description_t alert = gnutls_alert_get(t->session);
    const char *name = gnutls_alert_get_name(alert);
    int err = alert == GNUTLS_A_NO_APPLICATION_PROTOCOL ? ERR_UPSTREAM_ALPN : ERR_UPSTREAM_TLS;
    return fail(t, err, "the peer sent the TLS alert %u: %s", (unsigned)alert, name ? name : "unknown");
}

/* A first byte that no TLS record begins with. */
static bool speaks_something_else(const struct tls *t) {
    return t->first_len && (t->first[0] < 20 || t->first[0] > 24);
}

static int fail_by_code(struct tls *t, int code) {
    if (t->verdict.err) return fail(t, t->verdict.err, "%s", t->verdict.why);
    if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) return fail_by_alert(t);
    if (code == GNUTLS_E_MEMORY_ERROR || code == GNUTLS_E_PUSH_ERROR)
        return fail(t, ERR_NO_MEMORY, "out of memory");
    if (speaks_something_else(t))
        return fail(t, ERR_UPSTREAM_TLS, "the peer does not speak TLS: %.*s", (int)t->first_len,
                    (const char *)t->first);
    if (code == GNUTLS_E_NO_APPLICATION_PROTOCOL)
        return fail(t, ERR_UPSTREAM_ALPN, "the peer does not offer h2");
    if (code == GNUTLS_E_REHANDSHAKE) return fail(t, ERR_UPSTREAM_PROTOCOL, "the peer asked for a renegotiation");
    return fail(t, ERR_UPSTREAM_TLS, "%s", gnutls_strerror(code));
}

/* Tells the peer what it did wrong, where there is something to tell, and fails. */
static int fail_and_alert(struct tls *t, int code) {
    int level;
    int alert = gnutls_error_to_alert(code, &level);
    if (t->verdict.err == ERR_UPSTREAM_CERTIFICATE) alert = GNUTLS_A_BAD_CERTIFICATE;
    if (code != GNUTLS_E_FATAL_ALERT_RECEIVED && alert >= 0 && !speaks_something_else(t))
        gnutls_alert_send(t->session, GNUTLS_AL_FATAL, (gnutls_alert_description_t)alert);
    return fail_by_code(t, code);
}

/* EOF; in the middle of a record GnuTLS has various names for it. */
static bool is_end(const struct tls *t, ssize_t code) {
    return code == GNUTLS_E_PREMATURE_TERMINATION || (code < 0 && t->in_eof && !t->in_len);
}

/* ---- the handshake ---- */

static int check_alpn(struct tls *t) {
    gnutls_datum_t d;
    const char *side = t->server ? "client" : "upstream";
    if (gnutls_alpn_get_selected_protocol(t->session, &d) < 0) {
        if (t->allow_no_alpn) return TLS_DONE;
        gnutls_alert_send(t->session, GNUTLS_AL_FATAL, GNUTLS_A_NO_APPLICATION_PROTOCOL);
        return fail(t, ERR_UPSTREAM_ALPN, "the %s negotiated no application protocol, h2 was wanted", side);
    }
    if (d.size != 2 || memcmp(d.data, "h2", 2) != 0) {
        gnutls_alert_send(t->session, GNUTLS_AL_FATAL, GNUTLS_A_NO_APPLICATION_PROTOCOL);
        return fail(t, ERR_UPSTREAM_ALPN, "the %s chose the protocol %.*s, h2 was wanted", side, (int)d.size,
                    (const char *)d.data);
    }
    memcpy(t->alpn, "h2", 3);
    return TLS_DONE;
}

/* What a resumed session says nothing about is judged here. */
static int check_certificate(struct tls *t) {
    if (t->server || creds_conclude(&t->verdict, t->session) == 0) return 0;
    gnutls_alert_send(t->session, GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE);
    return fail(t, t->verdict.err, "%s", t->verdict.why);
}

int tls_handshake(struct tls *t) {
    if (t->state == TLS_FAILED) return t->err;
    if (t->state != TLS_HANDSHAKING) return TLS_DONE;
    for (;;) {
        int rv = gnutls_handshake(t->session);
        if (rv == GNUTLS_E_SUCCESS) {
            rv = check_certificate(t);
            if (rv == 0) rv = check_alpn(t);
            if (rv == TLS_DONE) t->state = TLS_OPEN;
            return rv;
        }
        if (is_end(t, rv))
            return fail(t, ERR_UPSTREAM_TLS, "the peer ended the connection during the TLS handshake%s",
                        t->first_len ? "" : " without a word: a wrong server name, or this client is not allowed");
        if (rv == GNUTLS_E_AGAIN && !t->in_len) return TLS_WAIT;
        if (rv == GNUTLS_E_WARNING_ALERT_RECEIVED && ++t->warnings > WARNINGS_MAX)
            return fail(t, ERR_UPSTREAM_TLS, "the peer sent too many TLS warnings");
        if (rv == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal(rv)) return fail_and_alert(t, rv);
    }
}

/* ---- records ---- */

int tls_read(struct tls *t, const uint8_t **p, size_t *n) {
    *p = NULL;
    *n = 0;
    if (t->packet) gnutls_packet_deinit(t->packet);
    t->packet = NULL;
    if (t->state == TLS_FAILED) return t->err;
    if (t->state == TLS_ENDED) return TLS_EOF;
    for (;;) {
        ssize_t rv = gnutls_record_recv_packet(t->session, &t->packet);
        if (rv > 0) {
            gnutls_datum_t d;
            gnutls_packet_get(t->packet, &d, NULL);
            *p = d.data;
            *n = d.size;
            return TLS_DONE;
        }
        if (t->packet) gnutls_packet_deinit(t->packet);
        t->packet = NULL;
        if (rv == 0 || is_end(t, rv)) {
            t->state = TLS_ENDED;
            return TLS_EOF;
        }
        if (rv == GNUTLS_E_AGAIN && !t->in_len) return TLS_WAIT;
        if (rv == GNUTLS_E_WARNING_ALERT_RECEIVED && ++t->warnings > WARNINGS_MAX)
            return fail(t, ERR_UPSTREAM_PROTOCOL, "the peer sent too many TLS warnings");
        if (rv == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal((int)rv)) return fail_and_alert(t, (int)rv);
    }
}

int tls_write(struct tls *t, const void *p, size_t n) {
    const uint8_t *at = p;
    if (t->state == TLS_FAILED) return t->err;
    while (n) {
        ssize_t rv = gnutls_record_send(t->session, at, n);
        if (rv == GNUTLS_E_AGAIN || rv == GNUTLS_E_INTERRUPTED) rv = GNUTLS_E_MEMORY_ERROR;
        if (rv < 0) return fail_by_code(t, (int)rv);
        at += rv;
        n -= (size_t)rv;
    }
    return 0;
}

void tls_bye(struct tls *t) {
    if (t->state == TLS_OPEN || t->state == TLS_ENDED) gnutls_bye(t->session, GNUTLS_SHUT_WR);
}

/* ---- what became of it ---- */

const char *tls_error_text(const struct tls *t) { return t->text; }

const struct creds_verdict *tls_verdict(const struct tls *t) { return &t->verdict; }

const char *tls_alpn(const struct tls *t) { return t->alpn; }

struct gnutls_session_int *tls_session(struct tls *t) { return t->session; }

void tls_describe(struct gnutls_session_int *session, char *text, size_t cap) {
    const char *version = gnutls_protocol_get_name(gnutls_protocol_get_version(session));
    const char *cipher = gnutls_cipher_get_name(gnutls_cipher_get(session));
    const char *group = gnutls_group_get_name(gnutls_group_get(session));
    if (cap) text[0] = 0;
    if (!version || !cipher || gnutls_cipher_get(session) == GNUTLS_CIPHER_NULL) return;
    if (group)
        snprintf(text, cap, "%s ECDHE-%s %s", version, group, cipher);
    else
        snprintf(text, cap, "%s %s", version, cipher);
}
