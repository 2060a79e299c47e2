#include <stdlib.h>
#include <string.h>

#include "session/h2_impl.h"

#define CODE_AUTH 0x1f
#define CODE_AUTH_OTHER 0x64
#define INTERIM_MAX 16    /* 1xx responses of one request */
#define DATA_LEAST 2048   /* less room than this in a record does not begin a DATA frame */

static const char *const tx_words[] = {"open", "finishing", "finished", "stopped", "reset"};
static const char *const rx_words[] = {"open", "ended", "closed"};

static void set_tx(struct h2_stream *t, enum h2_tx tx) {
    if (tx == t->tx) return;
    log_trace("session", "h2 stream=%d tx from=%s to=%s", t->id, tx_words[t->tx], tx_words[tx]);
    t->tx = tx;
}

void h2_stream_set_rx(struct h2_stream *t, enum h2_rx rx) {
    if (rx == t->rx) return;
    log_trace("session", "h2 stream=%d rx from=%s to=%s", t->id, rx_words[t->rx], rx_words[rx]);
    t->rx = rx;
}

bool h2_stream_owned(const struct h2_stream *t) { return !t->orphan && (t->opened_here || t->ss.offered); }

static bool is_server(const struct h2_stream *t) { return t->h2->s.cfg.server; }

/* ---- life ---- */

static struct h2_stream *stream_new(struct h2 *h) {
    struct h2_stream *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    session_stream_init(&t->ss, &h->s, &h2_stream_ops);
    buf_init(&t->in, h->s.cfg.stream_window ? h->s.cfg.stream_window : 1);
    buf_init(&t->out, h->s.cfg.send_buffer ? h->s.cfg.send_buffer : 1);
    t->h2 = h;
    t->id = -1;
    t->due = H2_NEVER;
    t->next = h->streams;
    if (h->streams) h->streams->prev = t;
    h->streams = t;
    return t;
}

/* Received bytes that nobody will read. */
static void drop_unread(struct h2_stream *t) {
    if (t->h2 && t->in.len) h2_unread_less(t->h2, t->in.len);
    buf_clear(&t->in);
}

/* nghttp2 no longer knows the stream, or will not hear of it again from here. */
static void forget_id(struct h2_stream *t) {
    if (t->id < 0) return;
    if (t->h2->ng) nghttp2_session_set_stream_user_data(t->h2->ng, t->id, NULL);
    t->h2->live--;
    t->id = -1;
    t->due = H2_NEVER;
    t->cancelling = false;
    buf_clear(&t->out);
}

static void leave_session(struct h2_stream *t) {
    struct h2 *h = t->h2;
    if (!h) return;
    forget_id(t);
    if (t->prev)
        t->prev->next = t->next;
    else
        h->streams = t->next;
    if (t->next) t->next->prev = t->prev;
    t->next = t->prev = NULL;
    t->h2 = NULL;
    t->ss.session = NULL;
}

static void destroy(struct h2_stream *t) {
    drop_unread(t);
    leave_session(t);
    buf_clear(&t->out);
    session_stream_fini(&t->ss);
    free(t);
}

/* Tells the peer with RST_STREAM and has nothing more to do with nghttp2's stream. */
static void cut(struct h2_stream *t, uint32_t code) {
    if (t->id < 0) return;
    if (t->h2->ng) nghttp2_submit_rst_stream(t->h2->ng, NGHTTP2_FLAG_NONE, t->id, code);
    set_tx(t, H2_TX_RESET);
    if (t->rx == H2_RX_OPEN) h2_stream_set_rx(t, H2_RX_CLOSED);
    forget_id(t);
}

/* The stream has died: its owner is told; without one, it goes. */
static void dead(struct h2_stream *t, enum err err) {
    if (!h2_stream_owned(t)) {
        destroy(t);
        return;
    }
    if (t->dead) return;
    t->dead = true;
    t->ss.st.err = err;
    stream_notify(&t->ss.st, STREAM_DEAD);
}

void h2_stream_die(struct h2_stream *t, enum err err, uint32_t code) {
    cut(t, code);
    dead(t, err);
}

void h2_streams_lost(struct h2 *h, enum err err) {
    while (h->streams) {
        struct h2_stream *t = h->streams;
        bool alive = t->id >= 0;
        bool owned = h2_stream_owned(t);
        if (owned && alive && !t->dead) dead(t, err);
        if (!owned)
            destroy(t);
        else
            leave_session(t);
    }
    h->s.unread = h->withheld = 0;
}

/* ---- heads ---- */

static int fill_fields(nghttp2_nv *nv, const struct header *head, size_t n) {
    if (n > SESSION_HEAD_FIELDS) return ERR_LIMIT;
    for (size_t i = 0; i < n; i++) {
        nv[i] = (nghttp2_nv){
            .name = (uint8_t *)head[i].name,
            .value = (uint8_t *)head[i].value,
            .namelen = head[i].name_len,
            .valuelen = head[i].value_len,
            .flags = head[i].sensitive ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
        };
    }
    return 0;
}

struct stream *h2_stream_open(struct session *s, const struct header *head, size_t n, bool fin, uint64_t now,
                              int *err) {
    struct h2 *h = h2_of(s);
    nghttp2_nv nv[SESSION_HEAD_FIELDS];
    nghttp2_data_provider body = {.read_callback = h2_stream_read};

    h->now = now;
    *err = session_capacity(s) ? fill_fields(nv, head, n) : ERR_UPSTREAM_BUSY;
    if (*err < 0) return NULL;
    struct h2_stream *t = stream_new(h);
    if (!t) {
        *err = ERR_NO_MEMORY;
        return NULL;
    }
    int32_t id = nghttp2_submit_request(h->ng, NULL, nv, n, fin ? NULL : &body, t);
    if (id < 0) {
        *err = id == NGHTTP2_ERR_NOMEM ? ERR_NO_MEMORY : ERR_UPSTREAM_BUSY;
        /* The numbers are used up. */
        if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE) session_retire(s, now);
        destroy(t);
        return NULL;
    }
    t->id = id;
    t->opened_here = true;
    h->live++;
    if (fin) set_tx(t, H2_TX_FINISHING);
    session_wake(s);
    return &t->ss.st;
}

int h2_stream_respond(struct stream *st, const struct header *head, size_t n, bool fin) {
    struct h2_stream *t = h2_stream_of(st);
    nghttp2_nv nv[SESSION_HEAD_FIELDS];
    nghttp2_data_provider body = {.read_callback = h2_stream_read};

    int rv = fill_fields(nv, head, n);
    if (rv < 0) return rv;
    if (t->id < 0) return t->dead ? (int)t->ss.st.err : ERR_UPSTREAM_CLOSED;
    if (!is_server(t) || t->answered) return ERR_INTERNAL;
    bool interim = n && head[0].value_len == 3 && head[0].value[0] == '1';
    if (interim)
        rv = nghttp2_submit_headers(t->h2->ng, NGHTTP2_FLAG_NONE, t->id, NULL, nv, n, NULL);
    else
        rv = nghttp2_submit_response(t->h2->ng, t->id, nv, n, fin ? NULL : &body);
    if (rv < 0) return ERR_NO_MEMORY;
    if (!interim) {
        t->answered = true;
        if (fin && t->tx == H2_TX_OPEN) set_tx(t, H2_TX_FINISHING);
    }
    session_wake(&t->h2->s);
    return 0;
}

struct h2_stream *h2_stream_incoming(struct h2 *h, int32_t id) {
    struct h2_stream *t = stream_new(h);
    if (!t) return NULL;
    t->id = id;
    h->live++;
    return t;
}

/* There is something to send, or an end. */
static void resume(struct h2_stream *t) {
    if (t->id < 0 || !t->deferred) return;
    t->deferred = false;
    nghttp2_session_resume_data(t->h2->ng, t->id);
}

static void response_head(struct h2_stream *t) {
    int status = head_store_status(&t->ss.head);
    if (status >= 100 && status < 200 && ++t->interim <= INTERIM_MAX) {
        head_store_clear(&t->ss.head);
        return;
    }
    if (status < 200) {
        h2_stream_die(t, ERR_UPSTREAM_PROTOCOL, NGHTTP2_PROTOCOL_ERROR);
        return;
    }
    t->answered = t->head_seen = true;
    t->ss.st.status = status;
    stream_notify(&t->ss.st, STREAM_OPEN);
    /* A finish has waited for this. */
    if (t->tx == H2_TX_FINISHING) resume(t);
    /* The peer has taken the request up: it may be cancelled freely. */
    if (t->cancelling) {
        cut(t, NGHTTP2_CANCEL);
        if (t->orphan) destroy(t);
    }
}

void h2_stream_head(struct h2_stream *t) {
    if (!is_server(t)) {
        if (!t->answered) response_head(t);
        return;
    }
    if (t->head_seen) return;
    t->head_seen = true;
    session_stream_offer(&t->ss);
}

/* ---- what arrives ---- */

void h2_stream_received(struct h2_stream *t, const uint8_t *p, size_t n) {
    struct h2 *h = t->h2;
    bool wanted = t->rx == H2_RX_OPEN && !t->orphan && !t->dead;
    if (!wanted) {
        /* The peer may fill the window of this stream, but not hold up the others. */
        nghttp2_session_consume_connection(h->ng, n);
        return;
    }
    long took = buf_append(&t->in, p, n);
    size_t kept = took > 0 ? (size_t)took : 0;
    if (kept < n) nghttp2_session_consume_connection(h->ng, n - kept);
    if (kept) {
        h2_unread_more(h, kept);
        stream_notify(&t->ss.st, STREAM_IN);
    }
    if (kept == n) return;
    /* nghttp2 shows bytes beyond the window, too. */
    if (buf_room(&t->in))
        h2_stream_die(t, ERR_NO_MEMORY, NGHTTP2_INTERNAL_ERROR);
    else
        h2_stream_die(t, ERR_UPSTREAM_PROTOCOL, NGHTTP2_FLOW_CONTROL_ERROR);
}

void h2_stream_ended(struct h2_stream *t) {
    if (t->rx != H2_RX_OPEN) return;
    h2_stream_set_rx(t, H2_RX_ENDED);
    stream_notify(&t->ss.st, STREAM_IN);
}

static enum err err_of_code(const struct h2_stream *t, uint32_t code) {
    if (t->fault) return t->fault;
    if (code == NGHTTP2_REFUSED_STREAM || (!is_server(t) && !t->head_sent)) return ERR_UPSTREAM_RETRY;
    if (!t->rst_seen) return ERR_UPSTREAM_PROTOCOL;
    if (code == CODE_AUTH || code == CODE_AUTH_OTHER) return ERR_UPSTREAM_AUTH;
    bool tunnel = is_server(t) ? t->answered : t->ss.st.status >= 200 && t->ss.st.status < 300;
    if (!is_server(t) && !t->ss.st.status && code == NGHTTP2_CONNECT_ERROR) return ERR_TARGET_RESET;
    return tunnel ? ERR_TARGET_RESET : ERR_UPSTREAM_RESET;
}

void h2_stream_closed(struct h2_stream *t, uint32_t code) {
    enum err err = err_of_code(t, code);
    bool told = t->tx == H2_TX_OPEN;
    forget_id(t);
    if (t->orphan || !h2_stream_owned(t)) {
        destroy(t);
        return;
    }
    if (t->dead) return;
    if (code != NGHTTP2_NO_ERROR || t->rx != H2_RX_ENDED) {
        if (t->rx == H2_RX_OPEN) h2_stream_set_rx(t, H2_RX_CLOSED);
        set_tx(t, H2_TX_RESET);
        dead(t, err);
        return;
    }
    /* In order; or the peer has said all and does not want the rest. */
    if (t->tx == H2_TX_FINISHED) return;
    set_tx(t, H2_TX_STOPPED);
    t->want_out = false;
    if (told) stream_notify(&t->ss.st, STREAM_OUT);
}

/* ---- what leaves ---- */

/* A finish before the response must wait: deployed endpoints drop the stream otherwise. */
static bool may_end(const struct h2_stream *t) {
    return t->tx == H2_TX_FINISHING && (t->answered || is_server(t));
}

ssize_t h2_stream_read(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t n, uint32_t *flags,
                       nghttp2_data_source *source, void *arg) {
    struct h2 *h = arg;
    struct h2_stream *t = nghttp2_session_get_stream_user_data(ng, id);
    (void)buf;
    (void)source;
    if (!t) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!t->out.len) {
        if (!may_end(t)) {
            t->deferred = true;
            return NGHTTP2_ERR_DEFERRED;
        }
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        return 0;
    }
    /* A frame that ends with its record. */
    size_t room = sizeof h->gather - h->gathered;
    size_t most = room < 9 + DATA_LEAST ? H2_DATA_MAX : room - 9;
    if (n > most) n = most;
    if (n >= t->out.len) {
        n = t->out.len;
        if (may_end(t)) *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return (ssize_t)n;
}

int h2_stream_send(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t n,
                   nghttp2_data_source *source, void *arg) {
    struct h2 *h = arg;
    struct h2_stream *t = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    (void)source;
    if (!t || t->out.len < n) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    int rv = h2_put(h, head, 9);
    while (rv == 0 && n) {
        const uint8_t *p;
        size_t part = buf_peek(&t->out, &p);
        if (part > n) part = n;
        rv = h2_put(h, p, part);
        buf_consume(&t->out, part);
        n -= part;
    }
    if (rv < 0) {
        h->doom = (enum err)rv;
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (t->due != H2_NEVER && !t->cancelling) t->due = h->now + H2_LINGER;
    if (t->want_out && t->out.len <= t->out.max / 2) {
        t->want_out = false;
        stream_notify(&t->ss.st, STREAM_OUT);
    }
    return h->out.len >= H2_OUT_HIGH ? NGHTTP2_ERR_PAUSE : 0;
}

/* ---- giving up ---- */

/* Freed by its owner and everything is out: what the peer still has to say is not wanted. A client waits a while,
 * since a reset could overtake what the peer has not passed on; a server says that it is done (RFC 9113 section
 * 8.1). */
static void linger_end(struct h2_stream *t) {
    if (is_server(t)) {
        cut(t, NGHTTP2_NO_ERROR);
        destroy(t);
        return;
    }
    t->due = t->h2->now + H2_LINGER_END;
    h2_due(t->h2, t->due);
}

void h2_stream_end_sent(struct h2_stream *t) {
    if (t->tx == H2_TX_FINISHING) set_tx(t, H2_TX_FINISHED);
    /* With both ends there nghttp2 closes the stream right after this. */
    if (t->orphan && t->rx == H2_RX_OPEN) linger_end(t);
}

static uint32_t code_of_err(enum err why) {
    switch (why) {
    case ERR_OK:
        return NGHTTP2_NO_ERROR;
    case ERR_UPSTREAM_RETRY:
        return NGHTTP2_REFUSED_STREAM;
    case ERR_UPSTREAM_AUTH:
        return CODE_AUTH;
    case ERR_UPSTREAM_PROTOCOL:
        return NGHTTP2_PROTOCOL_ERROR;
    case ERR_NO_MEMORY:
    case ERR_INTERNAL:
        return NGHTTP2_INTERNAL_ERROR;
    default:
        return err_class(why) == ERR_CLASS_TARGET ? NGHTTP2_CONNECT_ERROR : NGHTTP2_CANCEL;
    }
}

/* Resets now, or as soon as cancelling is allowed again. */
static void give_up(struct h2_stream *t, uint32_t code) {
    drop_unread(t);
    if (t->id < 0) return;
    struct h2 *h = t->h2;
    if (is_server(t) || t->answered || !t->head_sent) {
        cut(t, code);
    } else if (!t->cancelling) {
        t->cancelling = true;
        buf_clear(&t->out);
        h2_stream_set_rx(t, H2_RX_CLOSED);
        set_tx(t, H2_TX_RESET);
        t->due = 0;
        h2_due(h, 0);
    }
    session_wake(&h->s);
}

void h2_streams_due(struct h2 *h) {
    uint64_t burst = H2_CANCEL_BURST * H2_CANCEL_EVERY;
    struct h2_stream *next;
    if (h->last_cancel + burst < h->now) h->last_cancel = h->now - burst;
    h->next_due = H2_NEVER;
    for (struct h2_stream *t = h->streams; t; t = next) {
        next = t->next;
        if (t->due == H2_NEVER) continue;
        if (t->cancelling) t->due = h->last_cancel + H2_CANCEL_EVERY;
        if (t->due > h->now) {
            h2_due(h, t->due);
            continue;
        }
        if (t->cancelling) h->last_cancel += H2_CANCEL_EVERY;
        cut(t, NGHTTP2_CANCEL);
        if (t->orphan) destroy(t);
    }
}

/* ---- operations of the owner ---- */

static int op_peek(struct stream *st, const uint8_t **p, size_t *n) {
    struct h2_stream *t = h2_stream_of(st);
    *n = buf_peek(&t->in, p);
    if (*n) return STREAM_BYTES;
    if (t->rx == H2_RX_ENDED) return STREAM_EOF;
    return t->dead ? (int)st->err : STREAM_NONE;
}

static void op_consume(struct stream *st, size_t n) {
    struct h2_stream *t = h2_stream_of(st);
    buf_consume(&t->in, n);
    if (!t->h2) return;
    h2_unread_less(t->h2, n);
    if (t->id >= 0 && t->rx == H2_RX_OPEN) nghttp2_session_consume_stream(t->h2->ng, t->id, n);
    session_wake(&t->h2->s);
}

static long op_write(struct stream *st, const uint8_t *p, size_t n) {
    struct h2_stream *t = h2_stream_of(st);
    if (t->dead) return st->err;
    if (t->tx != H2_TX_OPEN) return ERR_UPSTREAM_STOPPED;
    long took = buf_append(&t->out, p, n);
    if (took < 0) return took;
    if ((size_t)took < n) t->want_out = true;
    if (took) {
        resume(t);
        session_wake(&t->h2->s);
    }
    return took;
}

static void op_finish(struct stream *st) {
    struct h2_stream *t = h2_stream_of(st);
    if (t->dead || t->tx != H2_TX_OPEN) return;
    set_tx(t, H2_TX_FINISHING);
    t->want_out = false;
    resume(t);
    session_wake(&t->h2->s);
}

static void op_reset(struct stream *st, enum err why) {
    struct h2_stream *t = h2_stream_of(st);
    if (t->dead) {
        drop_unread(t);
        return;
    }
    give_up(t, code_of_err(why));
    t->dead = true;
    st->err = why ? why : ERR_CANCELLED;
    if (t->rx == H2_RX_ENDED) h2_stream_set_rx(t, H2_RX_CLOSED);
}

/* What was accepted still goes out. */
static void linger(struct h2_stream *t) {
    struct h2 *h = t->h2;
    if (t->tx == H2_TX_FINISHED) {
        linger_end(t);
    } else {
        t->due = h->now + H2_LINGER;
        h2_due(h, t->due);
    }
    session_wake(&h->s);
}

static void op_free(struct stream *st) {
    struct h2_stream *t = h2_stream_of(st);
    bool finished = t->tx == H2_TX_FINISHING || t->tx == H2_TX_FINISHED;
    stream_detach(st);
    t->orphan = true;
    if (t->id >= 0 && !t->cancelling) {
        if (!finished || t->in.len || t->dead) {
            give_up(t, NGHTTP2_CANCEL);
        } else {
            linger(t);
            return;
        }
    }
    if (t->id < 0) destroy(t);
}

const struct stream_ops h2_stream_ops = {
    .name = "h2",
    .peek = op_peek,
    .consume = op_consume,
    .write = op_write,
    .finish = op_finish,
    .reset = op_reset,
    .free = op_free,
};
