#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/h2_impl.h"

#define HEADER_TABLE 65536
#define HEADER_LIST 262144      /* what we say we would take; SESSION_HEAD_BYTES is the bound of one stream */
#define WINDOW_FIRST 65535      /* RFC 9113 section 6.9.2 */
#define CODE_AUTH 0x1f          /* what endpoints say about credentials, as specified */
#define CODE_AUTH_OTHER 0x64    /* and as the official client knows it */

/* ---- the way out ---- */

static int gather_flush(struct h2 *h) {
    int rv = 0;
    if (!h->gathered) return 0;
    if (h->tls)
        rv = tls_write(h->tls, h->gather, h->gathered);
    else if (!outq_add(&h->out, h->gather, h->gathered))
        rv = ERR_NO_MEMORY;
    h->gathered = 0;
    return rv;
}

int h2_put(struct h2 *h, const void *p, size_t n) {
    const uint8_t *at = p;
    while (n) {
        size_t part = sizeof h->gather - h->gathered;
        if (part > n) part = n;
        memcpy(h->gather + h->gathered, at, part);
        h->gathered += part;
        at += part;
        n -= part;
        if (h->gathered < sizeof h->gather) continue;
        int rv = gather_flush(h);
        if (rv < 0) return rv;
    }
    return 0;
}

/* Makes frames up to `bound` bytes for the socket. 0 or a negative err. */
static int make_frames(struct h2 *h, size_t bound, bool until_goaway) {
    while (h->out.len + h->gathered < bound && !(until_goaway && h->said_goaway)) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->ng, &p);
        if (n == NGHTTP2_ERR_CALLBACK_FAILURE) return h->doom ? (int)h->doom : ERR_INTERNAL;
        if (n < 0) return ERR_NO_MEMORY;
        if (!n) break;
        int rv = h2_put(h, p, (size_t)n);
        if (rv < 0) return rv;
    }
    return gather_flush(h);
}

/* ---- ends ---- */

/* The session is down: nothing of nghttp2 may be touched any more. */
static void over(struct h2 *h) {
    nghttp2_session_del(h->ng);
    h->ng = NULL;
    h2_streams_lost(h, h->s.err ? h->s.err : ERR_UPSTREAM_CLOSED);
    session_wake(&h->s);
}

__attribute__((format(printf, 3, 4))) static void fail(struct h2 *h, enum err err, const char *fmt, ...) {
    char text[256];
    va_list ap;
    if (!h->ng) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    session_fail(&h->s, h->now, err, "%s", text);
    over(h);
}

/* Says GOAWAY, ends our direction and is down. */
static void fail_politely(struct h2 *h, uint32_t code, enum err err, const char *text) {
    if (!h->ng) return;
    if (h->ready && nghttp2_session_terminate_session(h->ng, code) == 0) {
        h->said_goaway = false;
        h->ending = true;
        make_frames(h, H2_OUT_CONTROL, true);
        if (h->tls) tls_bye(h->tls);
    }
    fail(h, err, "%s", text);
}

static void fail_by_tls(struct h2 *h, int err) { fail(h, (enum err)err, "%s", tls_error_text(h->tls)); }

/* What nghttp2, or a callback, has found wrong meanwhile. */
static void check(struct h2 *h, int rv) {
    char word[32];
    if (!h->ng) return;
    if (h->doom) {
        fail_politely(h, h->doom_code, h->doom, *h->doom_text ? h->doom_text : err_text((int)h->doom));
    } else if (h->said_goaway) {
        if (h->tls) tls_bye(h->tls);
        fail(h, ERR_UPSTREAM_PROTOCOL, "%s: %s", h2_code_word(h->said_code, word, sizeof word),
             *h->complained ? h->complained : "the peer broke HTTP/2");
    } else if (rv == ERR_NO_MEMORY || rv == ERR_INTERNAL) {
        fail(h, (enum err)rv, "%s", err_text(rv));
    } else if (rv < 0) {
        fail(h, (enum err)rv, "%s", h->tls ? tls_error_text(h->tls) : "");
    }
}

static enum err goaway_err(const struct h2 *h) {
    bool auth = h->goaway_code == CODE_AUTH || h->goaway_code == CODE_AUTH_OTHER;
    return auth ? ERR_UPSTREAM_AUTH : ERR_UPSTREAM_CLOSED;
}

/* A draining session whose last stream has ended is over. */
static void settle(struct h2 *h) {
    char word[32];
    if (!h->ng || h->s.state != SESSION_DRAINING || h->live) return;
    if (!h->goaway || h->goaway_code == NGHTTP2_NO_ERROR) {
        fail_politely(h, NGHTTP2_NO_ERROR, ERR_OK, "");
        return;
    }
    char text[160];
    snprintf(text, sizeof text, "GOAWAY %s %s", h2_code_word(h->goaway_code, word, sizeof word), h->goaway_text);
    fail_politely(h, NGHTTP2_NO_ERROR, goaway_err(h), text);
}

static void peer_ended(struct h2 *h) {
    char word[32];
    if (!h->ng) return;
    if (h->tls) tls_bye(h->tls);
    if (h->goaway)
        fail(h, goaway_err(h), "the peer ended the connection after GOAWAY %s %s",
             h2_code_word(h->goaway_code, word, sizeof word), h->goaway_text);
    else if (!h->settings)
        fail(h, ERR_UPSTREAM_CLOSED, "the peer ended the connection before it sent its SETTINGS");
    else
        fail(h, ERR_UPSTREAM_CLOSED, "the peer ended the connection");
}

/* ---- the way in ---- */

static void feed(struct h2 *h, const uint8_t *p, size_t n) {
    if (!h->spoken && !h->s.cfg.server && n >= 7 && memcmp(p, "HTTP/1.", 7) == 0) {
        fail(h, ERR_UPSTREAM_PROTOCOL, "the peer answers in HTTP/1: %.*s", (int)(n < 80 ? n : 80),
             (const char *)p);
        return;
    }
    h->spoken = true;
    h->complaint = false;
    ssize_t rv = nghttp2_session_mem_recv(h->ng, p, n);
    if (h->doom) {
        check(h, 0);
    } else if (rv == NGHTTP2_ERR_FLOODED) {
        fail_politely(h, NGHTTP2_ENHANCE_YOUR_CALM, ERR_UPSTREAM_PROTOCOL,
                      "a flood of frames that want an answer");
    } else if (rv == NGHTTP2_ERR_NOMEM) {
        fail(h, ERR_NO_MEMORY, "out of memory");
    } else if (rv < 0) {
        fail_politely(h, NGHTTP2_PROTOCOL_ERROR, ERR_UPSTREAM_PROTOCOL, nghttp2_strerror((int)rv));
    } else if (h->complaint) {
        /* nghttp2 may have ended the session: only its GOAWAY tells. */
        check(h, make_frames(h, H2_OUT_CONTROL, true));
    } else if (nghttp2_session_get_outbound_queue_size(h->ng) > H2_QUEUE_MAX + h->live) {
        fail_politely(h, NGHTTP2_ENHANCE_YOUR_CALM, ERR_UPSTREAM_PROTOCOL,
                      "too many frames wait for a peer that does not read");
    }
    if (h->ng && h->settings && h->s.state == SESSION_STARTING) session_set_state(&h->s, SESSION_UP, h->now);
}

static void in_tls(struct h2 *h, const uint8_t *p, size_t n) {
    const uint8_t *plain;
    size_t plain_n;

    tls_input(h->tls, p, n);
    if (!h->ready) {
        int rv = tls_handshake(h->tls);
        if (rv < 0) fail_by_tls(h, rv);
        if (rv != TLS_DONE) return;
        h->ready = true;
        h->s.unverified = tls_verdict(h->tls)->unverified;
    }
    while (h->ng) {
        int rv = tls_read(h->tls, &plain, &plain_n);
        if (rv == TLS_WAIT) return;
        if (rv == TLS_DONE)
            feed(h, plain, plain_n);
        else if (rv == TLS_EOF)
            peer_ended(h);
        else
            fail_by_tls(h, rv);
    }
}

static void h2_in(struct session *s, const uint8_t *p, size_t n, uint64_t now) {
    struct h2 *h = h2_of(s);
    if (!h->ng) return;
    h->now = now;
    s->bytes_in += n;
    if (n) s->last_rx = now;
    if (h->tls)
        in_tls(h, p, n);
    else if (n)
        feed(h, p, n);
    else
        peer_ended(h);
    settle(h);
    session_wake(s);
}

static bool h2_out(struct session *s, struct session_out *o, uint64_t now) {
    struct h2 *h = h2_of(s);
    h->now = now;
    if (h->ng && h->ready) {
        if (h->next_due <= now) h2_streams_due(h);
        check(h, make_frames(h, H2_OUT_HIGH, false));
        settle(h);
    }
    if (!h->out.len) return false;
    o->p = h->out.p + h->out.off;
    o->n = h->out.len;
    return true;
}

static void h2_sent(struct session *s, size_t n, uint64_t now) {
    struct h2 *h = h2_of(s);
    h->now = now;
    if (n > h->out.len) n = h->out.len;
    s->bytes_out += n;
    outq_take(&h->out, n);
}

/* ---- flow control ---- */

static void log_congestion(struct h2 *h) {
    struct session_holders most = {0};
    unsigned suppressed;
    if (!log_limit_pass(&h->congestion, h->now, &suppressed)) return;
    for (const struct h2_stream *t = h->streams; t; t = t->next) session_holders_add(&most, &t->ss, t->in.len);
    session_log_congestion(&h->s, &most, h->live, suppressed);
}

/* Up to the budget credit goes back as bytes arrive, so that one stuck reader does not stop the others. Past it,
 * credit goes back as bytes are consumed, whoever consumes them. */
void h2_unread_more(struct h2 *h, size_t n) {
    h->s.unread += n;
    if (h->s.unread <= h->s.cfg.budget) {
        nghttp2_session_consume_connection(h->ng, n);
        return;
    }
    if (!h->withheld) log_congestion(h);
    h->withheld += n;
}

void h2_unread_less(struct h2 *h, size_t n) {
    h->s.unread -= n;
    size_t back = n < h->withheld ? n : h->withheld;
    if (!back || !h->ng) return;
    h->withheld -= back;
    nghttp2_session_consume_connection(h->ng, back);
}

/* ---- time ---- */

void h2_due(struct h2 *h, uint64_t at) {
    if (at < h->next_due) h->next_due = at;
}

static uint64_t h2_deadline(const struct session *s) {
    const struct h2 *h = (const struct h2 *)s;
    if (!h->ng) return H2_NEVER;
    if (s->state == SESSION_STARTING && s->handshake_deadline < h->next_due) return s->handshake_deadline;
    return h->next_due;
}

static void h2_expire(struct session *s, uint64_t now) {
    struct h2 *h = h2_of(s);
    if (!h->ng) return;
    h->now = now;
    if (s->state == SESSION_STARTING && s->handshake_deadline <= now) {
        fail_politely(h, NGHTTP2_SETTINGS_TIMEOUT, ERR_UPSTREAM_TIMEOUT,
                      h->ready ? "no HTTP/2 SETTINGS in time" : "the TLS handshake took too long");
        return;
    }
    if (h->next_due <= now) h2_streams_due(h);
    settle(h);
    session_wake(s);
}

/* ---- the other operations ---- */

static unsigned h2_capacity(const struct session *s) {
    const struct h2 *h = (const struct h2 *)s;
    if (s->cfg.server || !h->ng || !nghttp2_session_check_request_allowed(h->ng)) return 0;
    uint32_t max = nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (max > INT32_MAX) max = INT32_MAX;
    return max > h->live ? max - h->live : 0;
}

static void h2_ping(struct session *s, uint64_t now) {
    struct h2 *h = h2_of(s);
    uint8_t opaque[8] = {0};
    h->now = now;
    if (!h->ng || !h->ready || h->ping_at) return;
    h->ping_no++;
    memcpy(opaque, &h->ping_no, sizeof opaque);
    if (nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, opaque) < 0) return;
    h->ping_at = now;
    session_wake(s);
}

static void h2_retire(struct session *s, uint64_t now) {
    struct h2 *h = h2_of(s);
    h->now = now;
    if (s->state == SESSION_DRAINING || !h->ng) return;
    session_set_state(s, SESSION_DRAINING, now);
    if (s->cfg.server && h->ready)
        nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->ng),
                              NGHTTP2_NO_ERROR, NULL, 0);
    settle(h);
    session_wake(s);
}

static void h2_close(struct session *s, enum err err, uint64_t now) {
    struct h2 *h = h2_of(s);
    h->now = now;
    fail_politely(h, NGHTTP2_NO_ERROR, err, "");
}

static void h2_load(const struct session *s, struct session_load *l) {
    const struct h2 *h = (const struct h2 *)s;
    l->streams = h->live;
    l->congested = h->withheld > 0;
}

static void h2_info(const struct session *s, struct session_info *i) {
    const struct h2 *h = (const struct h2 *)s;
    i->streams = h->live;
    i->congested = h->withheld > 0;
    if (h->ng && h->settings) {
        uint32_t max = nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
        i->peer_max_streams = max;
    }
    if (h->tls && h->ready) {
        snprintf(i->alpn, sizeof i->alpn, "%s", tls_alpn(h->tls));
        tls_describe(tls_session(h->tls), i->tls, sizeof i->tls);
        i->resumed = tls_verdict(h->tls)->resumed;
    }
    i->rtt = h->rtt;
}

/* ---- life ---- */

static void h2_free(struct session *s) {
    struct h2 *h = h2_of(s);
    if (h->ng) nghttp2_session_del(h->ng);
    h->ng = NULL;
    h2_streams_lost(h, s->err ? s->err : ERR_UPSTREAM_CLOSED);
    tls_free(h->tls);
    outq_free(&h->out);
    session_base_fini(s);
    free(h);
}

static const struct session_ops ops = {
    .free = h2_free,
    .in = h2_in,
    .out = h2_out,
    .sent = h2_sent,
    .deadline = h2_deadline,
    .expire = h2_expire,
    .open = h2_stream_open,
    .capacity = h2_capacity,
    .load = h2_load,
    .respond = h2_stream_respond,
    .ping = h2_ping,
    .retire = h2_retire,
    .close = h2_close,
    .info = h2_info,
};

static int submit_settings(struct h2 *h) {
    const struct session_config *c = &h->s.cfg;
    nghttp2_settings_entry client[] = {
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, HEADER_TABLE},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST},
    };
    nghttp2_settings_entry server[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->max_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, SESSION_HEAD_BYTES},
    };
    const nghttp2_settings_entry *entries = c->server ? server : client;
    size_t n = c->server ? sizeof server / sizeof *server : sizeof client / sizeof *client;
    int32_t window = c->session_window > INT32_MAX ? INT32_MAX : (int32_t)c->session_window;

    if (window < WINDOW_FIRST) window = WINDOW_FIRST;
    if (nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, entries, n) < 0) return ERR_NO_MEMORY;
    if (nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, window) < 0) return ERR_NO_MEMORY;
    return 0;
}

static int make(struct session **out, const struct session_config *c, bool clear) {
    struct h2 *h = calloc(1, sizeof *h);
    if (!h) return ERR_NO_MEMORY;
    session_base_init(&h->s, &ops, c);
    if (h->s.cfg.stream_window > INT32_MAX) h->s.cfg.stream_window = INT32_MAX;
    h->now = c->now;
    h->next_due = H2_NEVER;
    h->cost_since = c->now;
    h->ng = h2_frames_new(h);
    int rv = h->ng ? submit_settings(h) : ERR_NO_MEMORY;
    if (rv == 0 && clear) h->ready = true;
    if (rv == 0 && !clear) rv = tls_new(&h->tls, c->creds, c->server, c->allow_no_alpn, &h->out);
    /* A client's hello goes into the queue now. */
    if (rv == 0 && !clear && !c->server) {
        rv = tls_handshake(h->tls);
        if (rv > 0) rv = 0;
    }
    if (rv < 0) {
        h2_free(&h->s);
        return rv == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_UPSTREAM_TLS;
    }
    *out = &h->s;
    return 0;
}

int h2_new(struct session **out, const struct session_config *c) { return make(out, c, false); }

int h2_new_clear(struct session **out, const struct session_config *c) { return make(out, c, true); }
