#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "session/h2_impl.h"

#define ACKS_MAX 256           /* answers to PING and SETTINGS that wait for a peer that does not read */
#define SETTINGS_ENTRIES 32    /* of one frame */
#define BLOCK_MAX 262144       /* bytes of one header block as it is on the wire */
#define BLOCK_PARTS 64         /* and its frames */
#define DEBUG_SHOWN 80         /* bytes of a GOAWAY's debug data */
#define SECOND (1000 * H2_MS)

/* How many a second are still no flood. A peer that gives credit for each frame it reads sends many
 * WINDOW_UPDATEs, and some send empty DATA by the hundred whenever a stream's window is used up; the rest is rare
 * between honest peers. */
static const struct {
    const char *name;
    uint32_t max;
} costs[H2_COSTS] = {
    [H2_COST_PING] = {"PING", 100},
    [H2_COST_SETTINGS] = {"SETTINGS", 20},
    [H2_COST_RST] = {"RST_STREAM", 20000},
    [H2_COST_PRIORITY] = {"PRIORITY", 200},
    [H2_COST_WINDOW] = {"WINDOW_UPDATE", 400000},
    [H2_COST_EMPTY] = {"empty DATA", 20000},
    [H2_COST_CONTINUATION] = {"CONTINUATION", 200},
    [H2_COST_HEADERS] = {"HEADERS", 40000},
    [H2_COST_INVALID] = {"invalid", 200},
    [H2_COST_OTHER] = {"other", 200},
};

const char *h2_code_word(uint32_t code, char *text, size_t cap) {
    const char *word = nghttp2_http2_strerror(code);
    if (strcmp(word, "unknown") == 0)
        snprintf(text, cap, "0x%x", code);
    else
        snprintf(text, cap, "%s", word);
    return text;
}

/* The session ends as soon as nghttp2 has returned; the first reason counts. */
__attribute__((format(printf, 3, 4))) static int doom(struct h2 *h, uint32_t code, const char *fmt, ...) {
    if (!h->doom) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(h->doom_text, sizeof h->doom_text, fmt, ap);
        va_end(ap);
        h->doom = ERR_UPSTREAM_PROTOCOL;
        h->doom_code = code;
    }
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int charge(struct h2 *h, enum h2_cost what) {
    if (h->now - h->cost_since >= SECOND) {
        memset(h->cost, 0, sizeof h->cost);
        h->cost_since = h->now;
    }
    if (++h->cost[what] <= costs[what].max) return 0;
    return doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "a flood of %s frames", costs[what].name);
}

static struct h2_stream *find(struct h2 *h, int32_t id) { return nghttp2_session_get_stream_user_data(h->ng, id); }

/* ---- what arrives ---- */

static enum h2_cost cost_of(const nghttp2_frame_hd *hd) {
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        return H2_COST_HEADERS;
    case NGHTTP2_PRIORITY:
        return H2_COST_PRIORITY;
    case NGHTTP2_RST_STREAM:
        return H2_COST_RST;
    case NGHTTP2_SETTINGS:
        return H2_COST_SETTINGS;
    case NGHTTP2_PING:
        return H2_COST_PING;
    case NGHTTP2_WINDOW_UPDATE:
        return H2_COST_WINDOW;
    case NGHTTP2_CONTINUATION:
        return H2_COST_CONTINUATION;
    case NGHTTP2_DATA:
        return H2_COST_EMPTY;
    default:
        return H2_COST_OTHER;
    }
}

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *arg) {
    struct h2 *h = arg;
    (void)ng;
    if (hd->type == NGHTTP2_DATA && (hd->length || (hd->flags & NGHTTP2_FLAG_END_STREAM))) return 0;
    /* Nobody can have asked for one: our SETTINGS precede every request. */
    if (hd->type == NGHTTP2_PUSH_PROMISE) return doom(h, NGHTTP2_PROTOCOL_ERROR, "PUSH_PROMISE though push is off");
    if (hd->type == NGHTTP2_HEADERS) h->block = h->parts = 0;
    if (hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_CONTINUATION) {
        h->block += hd->length;
        if (h->block > BLOCK_MAX || ++h->parts > BLOCK_PARTS)
            return doom(h, NGHTTP2_ENHANCE_YOUR_CALM, "a header block of %zu bytes and more in %u frames",
                        h->block, h->parts);
    }
    return charge(h, cost_of(hd));
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *arg) {
    struct h2 *h = arg;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    struct h2_stream *t = h2_stream_incoming(h, frame->hd.stream_id);
    if (!t) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    nghttp2_session_set_stream_user_data(ng, frame->hd.stream_id, t);
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *arg) {
    struct h2_stream *t = find(arg, frame->hd.stream_id);
    (void)ng;
    (void)flags;
    /* Trailers: nobody asks for them. */
    if (!t || t->head_seen) return 0;
    int rv = head_store_add(&t->ss.head, name, name_len, value, value_len);
    if (!rv) return 0;
    t->fault = rv == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_UPSTREAM_PROTOCOL;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *arg) {
    struct h2_stream *t = find(arg, id);
    (void)flags;
    if (t)
        h2_stream_received(t, p, n);
    else
        nghttp2_session_consume_connection(ng, n);
    return 0;
}

static void on_ping_ack(struct h2 *h, const uint8_t *opaque) {
    if (!h->ping_at || memcmp(opaque, &h->ping_no, sizeof h->ping_no) != 0) return;
    h->rtt = h->now > h->ping_at ? h->now - h->ping_at : 1;
    h->ping_at = 0;
}

static void on_goaway(struct h2 *h, const nghttp2_goaway *g) {
    size_t n = g->opaque_data_len < DEBUG_SHOWN ? g->opaque_data_len : DEBUG_SHOWN;
    h->goaway = true;
    h->goaway_code = g->error_code;
    if (n) memcpy(h->goaway_text, g->opaque_data, n);
    h->goaway_text[n] = 0;
    session_set_state(&h->s, SESSION_DRAINING, h->now);
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *arg) {
    struct h2 *h = arg;
    struct h2_stream *t = frame->hd.stream_id ? find(h, frame->hd.stream_id) : NULL;
    (void)ng;
    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) h->settings = true;
        return 0;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) on_ping_ack(h, frame->ping.opaque_data);
        return 0;
    case NGHTTP2_GOAWAY:
        on_goaway(h, &frame->goaway);
        return 0;
    case NGHTTP2_RST_STREAM:
        if (t) t->rst_seen = true;
        return 0;
    case NGHTTP2_HEADERS:
        if (t) h2_stream_head(t);
        break;
    case NGHTTP2_DATA:
        /* Padding alone: costs nothing but its frame. */
        if (frame->hd.length && frame->hd.length == frame->data.padlen && charge(h, H2_COST_EMPTY) < 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        break;
    default:
        return 0;
    }
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
    t = find(h, frame->hd.stream_id); /* a bad head may have ended it */
    if (t) h2_stream_ended(t);
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg) {
    struct h2_stream *t = nghttp2_session_get_stream_user_data(ng, id);
    (void)arg;
    if (t) h2_stream_closed(t, code);
    return 0;
}

/* ---- what is wrong ---- */

static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int code, void *arg) {
    struct h2 *h = arg;
    (void)ng;
    (void)frame;
    h->complaint = true;
    if (!*h->complained) snprintf(h->complained, sizeof h->complained, "%s", nghttp2_strerror(code));
    return charge(h, H2_COST_INVALID);
}

static int on_error(nghttp2_session *ng, int code, const char *text, size_t n, void *arg) {
    struct h2 *h = arg;
    (void)ng;
    (void)code;
    h->complaint = true;
    snprintf(h->complained, sizeof h->complained, "%.*s", (int)n, text);
    return 0;
}

/* ---- what leaves ---- */

static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *arg) {
    struct h2 *h = arg;
    (void)ng;
    if (frame->hd.type == NGHTTP2_GOAWAY && (h->ending || frame->goaway.error_code != NGHTTP2_NO_ERROR)) {
        h->said_goaway = true;
        h->said_code = frame->goaway.error_code;
        return 0;
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    struct h2_stream *t = find(h, frame->hd.stream_id);
    if (!t) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && !h->s.cfg.server) t->head_sent = true;
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) h2_stream_end_sent(t);
    return 0;
}

/* ---- setting up ---- */

static nghttp2_session_callbacks *make_callbacks(void) {
    nghttp2_session_callbacks *cb;
    if (nghttp2_session_callbacks_new(&cb) < 0) return NULL;
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_error_callback2(cb, on_error);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_send_data_callback(cb, h2_stream_send);
    return cb;
}

nghttp2_session *h2_frames_new(struct h2 *h) {
    nghttp2_session *ng = NULL;
    nghttp2_option *option;
    nghttp2_session_callbacks *cb = make_callbacks();
    if (!cb) return NULL;
    if (nghttp2_option_new(&option) == 0) {
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_peer_max_concurrent_streams(option, 100);
        nghttp2_option_set_max_outbound_ack(option, ACKS_MAX);
        nghttp2_option_set_max_settings(option, SETTINGS_ENTRIES);
        int rv = h->s.cfg.server ? nghttp2_session_server_new2(&ng, cb, h, option)
                                 : nghttp2_session_client_new2(&ng, cb, h, option);
        if (rv < 0) ng = NULL;
        nghttp2_option_del(option);
    }
    nghttp2_session_callbacks_del(cb);
    return ng;
}

const char *session_h2_library_version(void) { return nghttp2_version(0)->version_str; }
