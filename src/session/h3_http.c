#include <string.h>

#include "session/h3_impl.h"

/* The end of a stream in the client role: an empty DATA frame. Constant, as QUIC may send it again. */
static const uint8_t tail[2] = {0, 0};

/* Limits that our SETTINGS state. */
#define FIELD_SECTION 262144
#define QPACK_TABLE 65536
#define QPACK_BLOCKED 100

static int broken(struct h3 *h, int rv) {
    h->http_broken = true;
    return quic_stop(h->q, rv == NGHTTP3_ERR_NOMEM ? ERR_NO_MEMORY : ERR_UPSTREAM_PROTOCOL,
                     nghttp3_err_infer_quic_app_error_code(rv), "HTTP/3: %s", nghttp3_strerror(rv));
}

static void fail(struct h3 *h, int64_t id, enum err err, uint64_t code) {
    struct h3_stream *t = h3_stream_find(h, id);
    if (!t || t->fail) return;
    t->fail = code;
    t->fail_err = err;
    h->failed = true;
}

/* ---- from nghttp3: what was received ---- */

static int credit(struct h3 *h, int64_t id, size_t n) {
    quic_credit_stream(h->q, id, n);
    quic_credit(h->q, n);
    return 0;
}

static int recv_data(nghttp3_conn *conn, int64_t id, const uint8_t *p, size_t n, void *user, void *stream_user) {
    struct h3 *h = user;
    struct h3_stream *t = h3_stream_find(h, id);
    (void)conn;
    (void)stream_user;
    if (!t) return credit(h, id, n);
    h3_stream_received(t, p, n);
    return 0;
}

static int deferred_consume(nghttp3_conn *conn, int64_t id, size_t n, void *user, void *stream_user) {
    (void)conn;
    (void)stream_user;
    return credit(user, id, n);
}

static int begin_headers(nghttp3_conn *conn, int64_t id, void *user, void *stream_user) {
    struct h3_stream *t = h3_stream_find(user, id);
    (void)conn;
    (void)stream_user;
    /* An informational response before gives way. */
    if (t) head_store_clear(&t->ss.head);
    return 0;
}

static int recv_header(nghttp3_conn *conn, int64_t id, int32_t token, nghttp3_rcbuf *name, nghttp3_rcbuf *value,
                       uint8_t flags, void *user, void *stream_user) {
    struct h3 *h = user;
    struct h3_stream *t = h3_stream_find(h, id);
    nghttp3_vec n = nghttp3_rcbuf_get_buf(name), v = nghttp3_rcbuf_get_buf(value);
    (void)conn;
    (void)token;
    (void)flags;
    (void)stream_user;
    if (!t || t->fail) return 0;
    int rv = head_store_add(&t->ss.head, n.base, n.len, v.base, v.len);
    if (rv < 0) fail(h, id, rv == ERR_LIMIT ? ERR_UPSTREAM_PROTOCOL : ERR_NO_MEMORY, NGHTTP3_H3_EXCESSIVE_LOAD);
    return 0;
}

static void response(struct h3 *h, struct h3_stream *t) {
    int status = head_store_status(&t->ss.head);
    if (status < 0) {
        fail(h, t->id, ERR_UPSTREAM_PROTOCOL, NGHTTP3_H3_MESSAGE_ERROR);
        return;
    }
    if (status < 200) return;
    t->answered = true;
    t->ss.st.status = status;
    stream_notify(&t->ss.st, STREAM_OPEN);
    /* What a lingering stream was to deliver is not wanted there. */
    if (!h3_stream_owned(t) && status >= 300) fail(h, t->id, ERR_CANCELLED, NGHTTP3_H3_REQUEST_CANCELLED);
    if (t->tx == H3_TX_FINISHING) h3_stream_queue(t, H3_TURNS);
}

static int end_headers(nghttp3_conn *conn, int64_t id, int fin, void *user, void *stream_user) {
    struct h3 *h = user;
    struct h3_stream *t = h3_stream_find(h, id);
    (void)conn;
    (void)fin;
    (void)stream_user;
    if (!t || t->fail || t->answered) return 0;
    if (!h->s.cfg.server) {
        response(h, t);
        return 0;
    }
    if (!t->dead) session_stream_offer(&t->ss);
    return 0;
}

static int end_stream(nghttp3_conn *conn, int64_t id, void *user, void *stream_user) {
    struct h3_stream *t = h3_stream_find(user, id);
    (void)conn;
    (void)stream_user;
    if (!t || t->rx != H3_RX_OPEN || t->fail) return 0;
    h3_stream_set_rx(t, H3_RX_ENDED);
    stream_notify(&t->ss.st, STREAM_IN);
    return 0;
}

/* A malformed message, or (server) a request after our GOAWAY. */
static int stop_sending(nghttp3_conn *conn, int64_t id, uint64_t code, void *user, void *stream_user) {
    struct h3 *h = user;
    (void)conn;
    (void)stream_user;
    fail(h, id, ERR_UPSTREAM_PROTOCOL, code);
    quic_stop_sending(h->q, id, code);
    return 0;
}

static int reset_stream(nghttp3_conn *conn, int64_t id, uint64_t code, void *user, void *stream_user) {
    struct h3 *h = user;
    (void)conn;
    (void)stream_user;
    fail(h, id, ERR_UPSTREAM_PROTOCOL, code);
    quic_reset_stream(h->q, id, code);
    return 0;
}

static int going_away(nghttp3_conn *conn, int64_t id, void *user) {
    (void)conn;
    ((struct h3 *)user)->refused = id;
    return 0;
}

static int acked_data(nghttp3_conn *conn, int64_t id, uint64_t n, void *user, void *stream_user) {
    struct h3_stream *t = h3_stream_find(user, id);
    (void)conn;
    (void)stream_user;
    if (!t) return 0;
    buf_consume(&t->out, (size_t)n);
    t->handed -= (size_t)n;
    return 0;
}

static const nghttp3_callbacks callbacks = {
    .acked_stream_data = acked_data,
    .recv_data = recv_data,
    .deferred_consume = deferred_consume,
    .begin_headers = begin_headers,
    .recv_header = recv_header,
    .end_headers = end_headers,
    .stop_sending = stop_sending,
    .end_stream = end_stream,
    .reset_stream = reset_stream,
    .shutdown = going_away,
};

/* ---- to nghttp3: what is sent ---- */

/* A tunnel's end waits for the answer: some deployed endpoints drop the stream otherwise. */
static bool held(const struct h3_stream *t) {
    return !t->h3->s.cfg.server && t->connect && !t->answered && !t->aborting;
}

static nghttp3_ssize read_data(nghttp3_conn *conn, int64_t id, nghttp3_vec *vec, size_t max, uint32_t *flags,
                               void *user, void *stream_user) {
    struct h3_stream *t = h3_stream_find(user, id);
    (void)conn;
    (void)stream_user;
    if (!t) return NGHTTP3_ERR_WOULDBLOCK;
    if (!t->turn) return NGHTTP3_ERR_WOULDBLOCK;
    t->turn = false;
    if (h3_stream_unhanded(t)) {
        struct iovec iov[8];
        size_t total = 0;
        int n = buf_peek_iov(&t->out, t->handed, iov, max < 8 ? (int)max : 8), used = 0;
        for (; used < n && total < H3_HAND; used++) {
            size_t part = iov[used].iov_len;
            if (part > H3_HAND - total) part = H3_HAND - total;
            vec[used] = (nghttp3_vec){iov[used].iov_base, part};
            total += part;
        }
        t->handed += total;
        if (h3_stream_unhanded(t) || t->tx == H3_TX_FINISHING) h3_stream_queue(t, H3_TURNS);
        h3_stream_room(t);
        return used;
    }
    if (t->tx != H3_TX_FINISHING || held(t)) return NGHTTP3_ERR_WOULDBLOCK;
    *flags |= NGHTTP3_DATA_FLAG_EOF;
    return 0;
}

void h3_http_shut(struct h3_stream *t) {
    struct h3 *h = t->h3;
    if (h->http && !h->http_broken) nghttp3_conn_shutdown_stream_write(h->http, t->id);
}

int h3_http_submit(struct h3_stream *t, const struct header *head, size_t n, bool fin) {
    static const nghttp3_data_reader reader = {read_data};
    struct h3 *h = t->h3;
    nghttp3_nv nv[SESSION_HEAD_FIELDS];
    if (n > SESSION_HEAD_FIELDS) return ERR_LIMIT;
    if (!h->http || h->http_broken) return ERR_UPSTREAM_CLOSED;
    for (size_t i = 0; i < n; i++) {
        const struct header *f = &head[i];
        nv[i] = (nghttp3_nv){(uint8_t *)f->name, (uint8_t *)f->value, f->name_len, f->value_len,
                             f->sensitive ? NGHTTP3_NV_FLAG_NEVER_INDEX : NGHTTP3_NV_FLAG_NONE};
    }
    int rv = h->s.cfg.server ? nghttp3_conn_submit_response(h->http, t->id, nv, n, fin ? NULL : &reader)
                             : nghttp3_conn_submit_request(h->http, t->id, nv, n, fin ? NULL : &reader, NULL);
    return rv == 0 ? 0 : rv == NGHTTP3_ERR_NOMEM ? ERR_NO_MEMORY : ERR_UPSTREAM_CLOSED;
}

/* ---- life ---- */

static int make(struct h3 *h) {
    nghttp3_settings settings;
    nghttp3_settings_default(&settings);
    settings.max_field_section_size = FIELD_SECTION;
    settings.qpack_max_dtable_capacity = QPACK_TABLE;
    settings.qpack_blocked_streams = QPACK_BLOCKED;
    /* Requests are few and alike; a table of ours would make each depend on the one before. */
    settings.qpack_encoder_max_dtable_capacity = 0;
    if (!h->s.cfg.server) return nghttp3_conn_client_new(&h->http, &callbacks, &settings, NULL, h);
    int rv = nghttp3_conn_server_new(&h->http, &callbacks, &settings, NULL, h);
    if (rv == 0) nghttp3_conn_set_max_client_streams_bidi(h->http, h->s.cfg.max_streams);
    return rv;
}

int h3_http_start(struct h3 *h) {
    int rv = make(h);
    if (rv) return broken(h, rv);
    int64_t control = quic_open_uni(h->q), decoder = quic_open_uni(h->q), encoder = quic_open_uni(h->q);
    if (control < 0 || decoder < 0 || encoder < 0) {
        return quic_stop(h->q, ERR_UPSTREAM_PROTOCOL, NGHTTP3_H3_GENERAL_PROTOCOL_ERROR,
                         "the peer allows fewer than three streams for HTTP/3 itself");
    }
    rv = nghttp3_conn_bind_control_stream(h->http, control);
    if (rv == 0) rv = nghttp3_conn_bind_qpack_streams(h->http, encoder, decoder);
    return rv ? broken(h, rv) : 0;
}

/* ---- from QUIC ---- */

static int on_ready(void *arg) {
    struct h3 *h = arg;
    if (h3_http_start(h) < 0) return -1;
    /* The peer's SETTINGS are not waited for: nothing that is sent here depends on them. */
    session_set_state(&h->s, SESSION_UP, h->s.last_rx);
    return 0;
}

static int on_opened(void *arg, int64_t id) {
    struct h3 *h = arg;
    if (!h->s.cfg.server || (id & 3) != 0 || h3_stream_new(h, id)) return 0;
    quic_reset_stream(h->q, id, NGHTTP3_H3_REQUEST_REJECTED);
    quic_stop_sending(h->q, id, NGHTTP3_H3_REQUEST_REJECTED);
    return 0;
}

/* Deals with what nghttp3's callbacks left to be done after it returned. */
static void after_http(struct h3 *h) {
    if (h->refused >= 0) {
        int64_t from = h->refused;
        h->refused = -1;
        session_set_state(&h->s, SESSION_DRAINING, h->s.last_rx);
        for (struct h3_stream *t = h->streams; t && !h->s.cfg.server; t = t->next)
            if (t->id >= from) h3_stream_die(t, ERR_UPSTREAM_RETRY, NGHTTP3_H3_REQUEST_CANCELLED);
    }
    if (!h->failed) return;
    h->failed = false;
    for (struct h3_stream *t = h->streams; t; t = t->next) {
        uint64_t code = t->fail;
        if (!code) continue;
        t->fail = 0;
        h3_stream_cut(t, code);
        h3_stream_die(t, t->fail_err, code);
    }
}

static int on_data(void *arg, int64_t id, const uint8_t *p, size_t n, bool fin) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, id);
    if (t && fin && !n && !t->received && !h->s.cfg.server) {
        /* An end without any answer costs the stream; nghttp3 would end the connection. */
        h3_stream_die(t, ERR_UPSTREAM_RESET, NGHTTP3_H3_MESSAGE_ERROR);
        return 0;
    }
    if (t) t->received += n;
    nghttp3_ssize took = nghttp3_conn_read_stream(h->http, id, p, n, fin);
    if (took < 0) return broken(h, (int)took);
    credit(h, id, (size_t)took);
    after_http(h);
    return 0;
}

static int on_acked(void *arg, int64_t id, uint64_t upto) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, id);
    int rv;
    if (!t) {
        rv = nghttp3_conn_update_ack_offset(h->http, id, upto);
        return rv ? broken(h, rv) : 0;
    }
    uint64_t framed = upto < t->framed ? upto : t->framed;
    t->acked = upto;
    rv = nghttp3_conn_add_ack_offset(h->http, id, framed - t->told);
    t->told = framed;
    if (rv) return broken(h, rv);
    h3_stream_delivered(t);
    return 0;
}

static int stop_http_reading(struct h3 *h, int64_t id) {
    int rv = nghttp3_conn_shutdown_stream_read(h->http, id);
    return rv ? broken(h, rv) : 0;
}

static enum err reset_err(const struct h3 *h, const struct h3_stream *t, uint64_t code) {
    if (h->s.cfg.server) return ERR_CLIENT_RESET;
    if (code == NGHTTP3_H3_REQUEST_REJECTED) return ERR_UPSTREAM_RETRY;
    if (code == 0x1f || code == 0x64) return ERR_UPSTREAM_AUTH;
    return t->ss.st.status / 100 == 2 || (!t->ss.st.status && code == NGHTTP3_H3_CONNECT_ERROR) ? ERR_TARGET_RESET : ERR_UPSTREAM_RESET;
}

static int on_reset(void *arg, int64_t id, uint64_t code) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, id);
    if (stop_http_reading(h, id) < 0) return -1;
    if (t && t->rx == H3_RX_OPEN) h3_stream_die(t, reset_err(h, t, code), NGHTTP3_H3_REQUEST_CANCELLED);
    return 0;
}

static int on_stopping(void *arg, int64_t id) { return stop_http_reading(arg, id); }

static int on_closed(void *arg, int64_t id, bool has_code, uint64_t code) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, id);
    bool ours = (id & 1) == (h->s.cfg.server ? 1 : 0), bidi = !(id & 2);
    int rv = nghttp3_conn_close_stream(h->http, id, has_code ? code : NGHTTP3_H3_NO_ERROR);
    if (rv && rv != NGHTTP3_ERR_STREAM_NOT_FOUND) return broken(h, rv);
    if (!ours) quic_credit_stream_count(h->q, bidi);
    if (t) h3_stream_forgotten(t);
    return 0;
}

static int on_unblocked(void *arg, int64_t id) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, id);
    if (t)
        h3_stream_unblock(t);
    else
        nghttp3_conn_unblock_stream(h->http, id);
    return 0;
}

static void on_limit(void *arg, uint64_t streams) {
    struct h3 *h = arg;
    if (h->http && h->s.cfg.server) nghttp3_conn_set_max_client_streams_bidi(h->http, streams);
}

/* ---- to QUIC ---- */

/* All that nghttp3 has for t is in packets now. */
static void tail_is_due(struct h3_stream *t) {
    t->tail_due = true;
    h3_stream_queue(t, H3_TAILS);
}

static int pull_http(struct h3 *h, struct quic_chunk *c) {
    int fin;
    nghttp3_vec vec[QUIC_CHUNK_IOV];
    nghttp3_ssize n = nghttp3_conn_writev_stream(h->http, &c->id, &fin, vec, QUIC_CHUNK_IOV);
    if (n < 0) return broken(h, (int)n);
    h->chunk = 0;
    c->iovs = (int)n;
    for (int i = 0; i < c->iovs; i++) {
        c->iov[i] = (struct iovec){vec[i].base, vec[i].len};
        h->chunk += vec[i].len;
    }
    h->chunk_ends = fin;
    return 0;
}

/* nghttp3 has nothing left: 1 if it was given something, 0 if there is nothing, -1 after quic_stop(). */
static int next_turn(struct h3 *h) {
    struct h3_stream *t = h->first[H3_TURNS];
    if (!t) return 0;
    h3_stream_unqueue(t, H3_TURNS);
    t->turn = true;
    int rv = nghttp3_conn_resume_stream(h->http, t->id);
    return rv ? broken(h, rv) : 1;
}

static int on_pull(void *arg, struct quic_chunk *c) {
    struct h3 *h = arg;
    for (;;) {
        struct h3_stream *t = h->first[H3_TAILS];
        if (t) {
            c->id = t->id;
            c->iov[0] = (struct iovec){(void *)(tail + t->tail), sizeof tail - t->tail};
            c->iovs = 1;
            c->fin = true;
            return 0;
        }
        if (h->http_broken) return 0;
        if (pull_http(h, c) < 0) return -1;
        if (c->id < 0) {
            int more = next_turn(h);
            if (more <= 0) return more;
            continue;
        }
        if (!h->chunk_ends) return 0;
        t = h3_stream_find(h, c->id);
        c->fin = !t || t->lone_fin;
        if (c->fin || h->chunk) return 0;
        /* Only the end is left, and that is our business. */
        int rv = nghttp3_conn_add_write_offset(h->http, c->id, 0);
        if (rv) return broken(h, rv);
        tail_is_due(t);
        *c = (struct quic_chunk){.id = -1};
    }
}

static void end_taken(struct h3_stream *t) {
    h3_stream_set_tx(t, H3_TX_FINISHED);
    if (t->aborting) h3_stream_stop_reading(t, t->aborting);
}

static void tail_taken(struct h3_stream *t, size_t n) {
    t->tail += (unsigned)n;
    if (t->tail < sizeof tail) return;
    h3_stream_unqueue(t, H3_TAILS);
    t->tail_due = false;
    end_taken(t);
}

static int on_taken(void *arg, const struct quic_chunk *c, size_t n) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, c->id);
    if (t && t->tail_due) {
        tail_taken(t, n);
        return 0;
    }
    int rv = nghttp3_conn_add_write_offset(h->http, c->id, n);
    if (rv) return broken(h, rv);
    if (!t) return 0;
    t->framed += n;
    if (n < h->chunk || !h->chunk_ends) return 0;
    if (c->fin)
        end_taken(t);
    else
        tail_is_due(t);
    return 0;
}

static void on_blocked(void *arg, const struct quic_chunk *c) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, c->id);
    if (t)
        h3_stream_block(t);
    else
        nghttp3_conn_block_stream(h->http, c->id);
}

static void on_stopped(void *arg, const struct quic_chunk *c) {
    struct h3 *h = arg;
    struct h3_stream *t = h3_stream_find(h, c->id);
    nghttp3_conn_shutdown_stream_write(h->http, c->id);
    if (t) h3_stream_stopped(t);
}

static void on_down(void *arg) {
    struct h3 *h = arg;
    enum err err = h->s.err != ERR_OK ? h->s.err : ERR_UPSTREAM_CLOSED;
    h->http_broken = true;
    while (h->streams) h3_stream_lost(h->streams, err);
}

const struct quic_ops h3_quic_ops = {
    .ready = on_ready,
    .opened = on_opened,
    .data = on_data,
    .acked = on_acked,
    .reset = on_reset,
    .stopping = on_stopping,
    .closed = on_closed,
    .unblocked = on_unblocked,
    .limit = on_limit,
    .pull = on_pull,
    .taken = on_taken,
    .blocked = on_blocked,
    .stopped = on_stopped,
    .down = on_down,
};

const char *session_h3_library_version(void) { return nghttp3_version(0)->version_str; }
