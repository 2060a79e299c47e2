#include "session/session_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define MS UINT64_C(1000000)

static const char *const state_words[] = {
    [SESSION_STARTING] = "starting",
    [SESSION_UP] = "up",
    [SESSION_DRAINING] = "draining",
    [SESSION_DOWN] = "down",
};

const char *session_state_word(enum session_state s) {
    return (unsigned)s < sizeof state_words / sizeof *state_words ? state_words[s] : "unknown";
}

const char *session_kind_word(enum session_kind k) { return k == SESSION_H3 ? "h3" : "h2"; }

/* ---- public functions: defaults and dispatch ---- */

void session_config_init(struct session_config *c) {
    *c = (struct session_config){
        .handshake_timeout = 10000,
        .stream_window = 6 << 20,
        .session_window = 15 << 20,
        .budget = 32 << 20,
        .send_buffer = 256 << 10,
        .max_streams = 1000,
        .idle_timeout = 74000,
    };
}

int session_new(struct session **out, const struct session_config *c) {
    *out = NULL;
    return c->kind == SESSION_H3 ? h3_new(out, c) : h2_new(out, c);
}

void session_free(struct session *s) {
    if (s) s->ops->free(s);
}

void session_in(struct session *s, const uint8_t *p, size_t n, uint64_t now) {
    if (s->ops->in) s->ops->in(s, p, n, now);
}

void session_in_datagram(struct session *s, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n,
                         uint64_t now) {
    if (s->ops->in_datagram) s->ops->in_datagram(s, remote, ecn, p, n, now);
}

bool session_out(struct session *s, struct session_out *o, uint64_t now) {
    *o = (struct session_out){0};
    return s->ops->out(s, o, now);
}

void session_sent(struct session *s, size_t n, uint64_t now) { s->ops->sent(s, n, now); }

uint64_t session_deadline(const struct session *s) { return s->ops->deadline(s); }

void session_expire(struct session *s, uint64_t now) { s->ops->expire(s, now); }

struct stream *session_open(struct session *s, const struct header *head, size_t n, bool fin, uint64_t now,
                            int *err) {
    *err = 0;
    if (s->state != SESSION_UP) {
        *err = ERR_UPSTREAM_CLOSED;
        return NULL;
    }
    struct stream *st = s->ops->open(s, head, n, fin, now, err);
    for (size_t i = 0; st && i < n; i++)
        if (head[i].name_len == 10 && memcmp(head[i].name, ":authority", 10) == 0)
            ((struct session_stream *)st)->authority = strndup(head[i].value, head[i].value_len);
    return st;
}

unsigned session_capacity(const struct session *s) { return s->state == SESSION_UP ? s->ops->capacity(s) : 0; }

void session_load(const struct session *s, struct session_load *l) {
    l->last_rx = s->last_rx;
    l->bytes_in = s->bytes_in;
    l->bytes_out = s->bytes_out;
    s->ops->load(s, l);
}

int session_respond(struct stream *st, const struct header *head, size_t n, bool fin) {
    struct session_stream *ss = (struct session_stream *)st;
    if (!ss->session || ss->session->state == SESSION_DOWN) return ERR_UPSTREAM_CLOSED;
    return ss->session->ops->respond(st, head, n, fin);
}

const char *session_stream_header(const struct stream *st, const char *name, size_t *len) {
    return head_store_get(&((const struct session_stream *)st)->head, name, len);
}

void session_ping(struct session *s, uint64_t now) {
    if (s->state != SESSION_DOWN) s->ops->ping(s, now);
}

void session_retire(struct session *s, uint64_t now) {
    if (s->state != SESSION_DOWN) s->ops->retire(s, now);
}

void session_close(struct session *s, enum err err, uint64_t now) {
    if (s->state != SESSION_DOWN) s->ops->close(s, err, now);
}

enum session_state session_get_state(const struct session *s) { return s->state; }

enum err session_error(const struct session *s) { return s->err; }

const char *session_error_text(const struct session *s) { return s->err_text; }

void session_get_info(const struct session *s, struct session_info *i) {
    *i = (struct session_info){
        .kind = s->cfg.kind,
        .state = s->state,
        .unverified = s->unverified,
        .started = s->started,
        .up = s->up,
        .last_rx = s->last_rx,
        .bytes_in = s->bytes_in,
        .bytes_out = s->bytes_out,
        .unread = s->unread,
    };
    s->ops->info(s, i);
}

/* ---- the common part of a session ---- */

/* Tells of one state, in the order in which they were entered; the callback may free the session. */
static void tell_state(void *arg) {
    struct session *s = arg;
    unsigned state = 0;
    while (!(s->untold >> state & 1)) state++;
    s->untold &= ~(1u << state);
    if (s->untold) defer_post(s->cfg.queue, &s->state_node);
    if (s->cfg.cb.state) s->cfg.cb.state(s, (enum session_state)state, s->cfg.cb.arg);
}

void session_base_init(struct session *s, const struct session_ops *ops, const struct session_config *c) {
    s->ops = ops;
    s->cfg = *c;
    s->cfg.creds = creds_ref(c->creds);
    s->state = SESSION_STARTING;
    s->started = c->now;
    s->handshake_deadline = c->now + c->handshake_timeout * MS;
    defer_init(&s->state_node, tell_state, s);
}

void session_base_fini(struct session *s) {
    defer_cancel(&s->state_node);
    creds_unref(s->cfg.creds);
    s->cfg.creds = NULL;
}

void session_set_state(struct session *s, enum session_state state, uint64_t now) {
    if (state <= s->state) return;
    log_debug("session", "state kind=%s from=%s to=%s err=%s%s%s", session_kind_word(s->cfg.kind),
              session_state_word(s->state), session_state_word(state), err_word(s->err),
              *s->err_text ? " text=" : "", s->err_text);
    s->state = state;
    if (state == SESSION_UP) s->up = now;
    s->untold |= 1u << state;
    defer_post(s->cfg.queue, &s->state_node);
}

void session_fail(struct session *s, uint64_t now, enum err err, const char *fmt, ...) {
    if (s->state == SESSION_DOWN) return;
    char text[sizeof s->err_text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->err = err;
    /* Printable here; whoever shows it quotes it in his own way. */
    for (char *c = text; *c; c++)
        if (*c < 0x20 || *c > 0x7e) *c = '?';
    memcpy(s->err_text, text, sizeof text);
    session_set_state(s, SESSION_DOWN, now);
}

void session_wake(struct session *s) {
    if (s->cfg.cb.wake) s->cfg.cb.wake(s->cfg.cb.arg);
}

/* ---- received heads ---- */

static bool grow(void **p, size_t unit, size_t need, size_t *cap, size_t first) {
    if (need <= *cap) return true;
    size_t more = *cap ? *cap : first;
    while (more < need) more *= 2;
    void *fresh = realloc(*p, more * unit);
    if (!fresh) return false;
    *p = fresh;
    *cap = more;
    return true;
}

int head_store_add(struct head_store *h, const void *name, size_t name_len, const void *value, size_t value_len) {
    if (h->count >= SESSION_HEAD_FIELDS || name_len > SESSION_HEAD_BYTES || value_len > SESSION_HEAD_BYTES ||
        h->used + name_len + value_len > SESSION_HEAD_BYTES)
        return ERR_LIMIT;
    void *block = h->block, *fields = h->fields;
    size_t fields_cap = h->fields_cap;
    bool ok = grow(&block, 1, h->used + name_len + value_len + 1, &h->cap, 512) &&
              grow(&fields, sizeof *h->fields, h->count + 1, &fields_cap, 8);
    h->block = block;
    h->fields = fields;
    h->fields_cap = (unsigned)fields_cap;
    if (!ok) return ERR_NO_MEMORY;
    h->fields[h->count].name = (uint32_t)h->used;
    h->fields[h->count].name_len = (uint32_t)name_len;
    h->fields[h->count].value = (uint32_t)(h->used + name_len);
    h->fields[h->count].value_len = (uint32_t)value_len;
    if (name_len) memcpy(h->block + h->used, name, name_len);
    if (value_len) memcpy(h->block + h->used + name_len, value, value_len);
    h->used += name_len + value_len;
    h->count++;
    return 0;
}

const char *head_store_get(const struct head_store *h, const char *name, size_t *len) {
    size_t n = strlen(name);
    for (unsigned i = 0; i < h->count; i++) {
        if (h->fields[i].name_len != n || memcmp(h->block + h->fields[i].name, name, n) != 0) continue;
        if (len) *len = h->fields[i].value_len;
        return h->block + h->fields[i].value;
    }
    if (len) *len = 0;
    return NULL;
}

void head_store_clear(struct head_store *h) {
    free(h->block);
    free(h->fields);
    *h = (struct head_store){0};
}

int head_store_status(const struct head_store *h) {
    size_t n;
    const char *v = head_store_get(h, ":status", &n);
    if (!v || n != 3) return -1;
    int status = 0;
    for (size_t i = 0; i < 3; i++) {
        if (v[i] < '0' || v[i] > '9') return -1;
        status = status * 10 + (v[i] - '0');
    }
    return status >= 100 && status <= 599 ? status : -1;
}

/* ---- the common part of a stream ---- */

static void tell_request(void *arg) {
    struct session_stream *ss = arg;
    struct session *s = ss->session;
    ss->offered = true;
    s->cfg.cb.request(s, &ss->st, s->cfg.cb.arg);
}

void session_stream_init(struct session_stream *ss, struct session *s, const struct stream_ops *ops) {
    *ss = (struct session_stream){.session = s};
    stream_init(&ss->st, ops, s->cfg.queue);
    defer_init(&ss->request_node, tell_request, ss);
}

void session_stream_fini(struct session_stream *ss) {
    defer_cancel(&ss->request_node);
    stream_detach(&ss->st);
    head_store_clear(&ss->head);
    free(ss->authority);
}

void session_stream_offer(struct session_stream *ss) { defer_post(ss->session->cfg.queue, &ss->request_node); }

/* ---- who uses up the budget ---- */

void session_holders_add(struct session_holders *h, const struct session_stream *ss, size_t bytes) {
    size_t at = SESSION_HOLDERS;
    while (at > 0 && bytes > h->bytes[at - 1]) at--;
    if (at == SESSION_HOLDERS) return;
    for (size_t i = SESSION_HOLDERS - 1; i > at; i--) {
        h->stream[i] = h->stream[i - 1];
        h->bytes[i] = h->bytes[i - 1];
    }
    h->stream[at] = ss;
    h->bytes[at] = bytes;
}

void session_log_congestion(const struct session *s, const struct session_holders *h, unsigned streams,
                            unsigned suppressed) {
    char names[1000], quoted[1200];
    size_t used = 0;
    names[0] = 0;
    for (size_t i = 0; i < SESSION_HOLDERS && h->bytes[i] && used < sizeof names; i++) {
        const char *name = h->stream[i]->authority;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s %zu", i ? ", " : "", name ? name : "?",
                                 h->bytes[i]);
    }
    log_warn("session", "the buffer budget is used up kind=%s unread=%zu budget=%zu streams=%u held_by=%s suppressed=%u",
             session_kind_word(s->cfg.kind), s->unread, s->cfg.budget, streams,
             log_quote_str(names, quoted, sizeof quoted), suppressed);
}
