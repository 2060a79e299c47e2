#include "inbound/http_forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "codec/http1_body.h"
#include "codec/http1_error.h"
#include "codec/http1_response.h"
#include "flow/linger.h"
#include "flow/relay.h"
#include "inbound/http_in.h"

enum forward_state {
    FORWARD_OPENING, /* the way is being opened */
    FORWARD_HEAD,    /* the head of the answer is awaited */
    FORWARD_BODY,
    FORWARD_TUNNEL, /* 101 was passed on; relay */
};

/* Bytes that were made here and wait to be taken by a stream. */
struct pending {
    uint8_t *p;
    size_t n, sent;
};

struct forward {
    struct listener *listener;
    struct access_user *user; /* the connection counts as his */
    struct flow *flow;
    struct stream *client, *far; /* owned; far NULL while OPENING */
    struct relay *relay;
    enum forward_state state;
    struct addr remote;
    struct dest dest;
    uint64_t accepted, moved_at;
    struct loop_timer idle;
    struct defer more;

    bool is_head, upgrade, http10; /* of the request */
    bool keep;                     /* the client's connection may go on */
    bool may_repeat, reused;
    struct pending request;
    struct http1_body up;
    bool up_stopped; /* the server reads no more of it */

    struct http1_scan scan;
    uint8_t *head; /* of the answer, as it comes */
    size_t cap, have, taken;
    unsigned interims;
    struct pending reply;
    struct http1_body down;
    bool unchunk, answered; /* a byte of the answer went to the client */
    bool keep_far;
    uint64_t up_bytes, down_bytes;
};

static void on_client(struct stream *s, unsigned events, void *arg);
static void on_far(struct stream *s, unsigned events, void *arg);

static struct loop *loop_of(const struct forward *x) { return x->listener->cfg.loop; }

static void set_state(struct forward *x, enum forward_state state) {
    static const char *const words[] = {"opening", "head", "body", "tunnel"};
    log_trace("inbound", "exchange from=%s to=%s", words[x->state], words[state]);
    x->state = state;
}

/* --- the end --- */

static void forward_free(struct forward *x) {
    loop_timer_stop(&x->idle);
    defer_cancel(&x->more);
    stream_free(x->client);
    stream_free(x->far);
    if (x->request.p) secret_wipe(x->request.p, x->request.n); /* may hold credentials for the server */
    free(x->request.p);
    free(x->reply.p);
    free(x->head);
    free(x);
}

static void give_back(struct forward *x, int err, const char *by, const char *detail) {
    flow_return(x->flow, &(struct flow_end){err, by, detail, x->up_bytes, x->down_bytes});
    x->flow = NULL;
}

/* Nothing more can be said to the client. */
static void cut(struct forward *x, int err, const char *by, const char *detail) {
    struct access_user *user = x->user;
    if (x->client) stream_reset(x->client, err);
    if (x->far) stream_reset(x->far, err);
    give_back(x, err, by, detail);
    forward_free(x);
    listener_connection_gone(user);
}

/* It did not work; the client is told, if that is still possible. */
static void fail(struct forward *x, int err, const char *by, const char *detail) {
    uint8_t page[HTTP1_ERROR_MAX];
    struct writer w = writer_of(page, sizeof page);
    struct http1_error e = {.err = err, .detail = detail, .detail_len = strlen(detail), .head = x->is_head};
    struct listener *l = x->listener;
    struct access_user *user = x->user;
    if (x->answered) {
        cut(x, err, by, detail);
        return;
    }
    http1_put_error(&w, &e);
    linger_close(flow_lingers(l->cfg.flows), x->client, page, w.bad ? 0 : writer_len(&w));
    x->client = NULL;
    if (x->far) stream_reset(x->far, err);
    give_back(x, err, by, detail);
    forward_free(x);
    listener_connection_gone(user);
}

/* The answer is complete: what of both connections can go on does. */
static void done(struct forward *x) {
    struct listener *l = x->listener;
    struct access_user *user = x->user;
    bool complete = x->request.sent == x->request.n && http1_body_done(&x->up) && !x->up_stopped;
    struct conn_kept kept = {0};
    if (x->keep_far && complete) {
        kept = (struct conn_kept){.stream = x->far, .dest = x->dest, .transport = flow_transport(x->flow)};
        stream_own(x->far, NULL, NULL);
        x->far = NULL;
    } else {
        stream_finish(x->far);
    }
    give_back(x, 0, "target", "");
    struct stream *client = x->client;
    struct addr remote = x->remote;
    bool keep = x->keep && complete;
    x->client = NULL;
    forward_free(x);
    if (keep) {
        conn_resume(user, client, &remote, &kept);
        return;
    }
    stream_free(kept.stream);
    linger_close(flow_lingers(l->cfg.flows), client, NULL, 0);
    listener_connection_gone(user);
}

/* --- writing --- */

/* True when all of it was taken. Negative *err: the stream takes nothing any more. */
static bool flush(struct pending *q, struct stream *to, long *err) {
    *err = 0;
    while (q->sent < q->n) {
        long n = stream_write(to, q->p + q->sent, q->n - q->sent);
        if (n < 0) *err = n;
        if (n <= 0) return false;
        q->sent += (size_t)n;
    }
    return true;
}

/* Moves one piece of a body: looks at n bytes from p, writes what belongs to it, and returns how many were used up; 0: the
 * other side is full. payload_only: chunk framing stays behind. */
static long move(struct http1_body *b, const uint8_t *p, size_t n, struct stream *to, bool payload_only) {
    struct http1_body trial = *b;
    bool content = true;
    long took = payload_only ? http1_body_take(&trial, p, n, &content) : http1_body_take_all(&trial, p, n);
    if (took <= 0) return took;
    long wrote = content || !payload_only ? stream_write(to, p, (size_t)took) : took;
    if (wrote < 0) return wrote;
    if (wrote == took) *b = trial;
    else if (payload_only) http1_body_take(b, p, (size_t)wrote, &content);
    else http1_body_take_all(b, p, (size_t)wrote);
    return wrote;
}

/* --- the request --- */

/* False: x is gone. */
static bool pump_up(struct forward *x, size_t *budget) {
    const uint8_t *p;
    size_t n;
    long err;
    if (!x->far || x->up_stopped) return true;
    if (!flush(&x->request, x->far, &err)) {
        x->up_stopped = err < 0; /* its answer or its end tells */
        return true;
    }
    while (!http1_body_done(&x->up) && *budget) {
        int r = stream_peek(x->client, &p, &n);
        if (r == STREAM_NONE) return true;
        if (r != STREAM_BYTES) {
            cut(x, r < 0 ? r : ERR_CLIENT_GONE, "client", "in the middle of its request");
            return false;
        }
        if (n > *budget) n = *budget;
        long moved = move(&x->up, p, n, x->far, false);
        if (moved == 0) return true;
        if (moved == ERR_CLIENT_PROTOCOL) {
            fail(x, ERR_CLIENT_PROTOCOL, "client", "the chunks of the request are malformed");
            return false;
        }
        if (moved < 0) {
            x->up_stopped = true;
            return true;
        }
        stream_consume(x->client, (size_t)moved);
        x->up_bytes += (uint64_t)moved;
        *budget -= (size_t)moved;
    }
    return true;
}

/* --- the answer --- */

static void on_opened(struct flow *f, struct stream *far, int err, const char *detail, void *arg);

/* The way ended, or what came over it was no answer. False: x is gone; else it opens another way. */
static bool no_answer(struct forward *x, int err, const char *detail) {
    bool nothing = x->have == 0 && x->interims == 0 && !x->answered;
    if (nothing && x->reused && x->may_repeat && err != ERR_TARGET_PROTOCOL) {
        log_debug("inbound", "the kept way had ended; asking again");
        stream_free(x->far);
        x->far = NULL;
        x->reused = false;
        x->up_stopped = false;
        x->request.sent = 0;
        set_state(x, FORWARD_OPENING);
        if (flow_reopen(x->flow) == 0) return true;
        err = ERR_NO_MEMORY;
    }
    fail(x, err, err_class(err) == ERR_CLASS_TARGET ? "target" : NULL, detail);
    return false;
}

static bool grow(struct forward *x, size_t want) {
    if (want <= x->cap) return true;
    size_t cap = x->cap ? x->cap : 2048;
    while (cap < want) cap *= 2;
    uint8_t *p = realloc(x->head, cap);
    if (!p) return false;
    x->head = p;
    x->cap = cap;
    return true;
}

static bool put_reply(struct forward *x, const struct http1_response *r, size_t head_len) {
    size_t left = x->reply.n - x->reply.sent, cap = left + head_len + HTTP1_HEAD_GROWTH;
    uint8_t *p = malloc(cap);
    if (!p) return false;
    if (left) memcpy(p, x->reply.p + x->reply.sent, left);
    struct writer w = writer_of(p + left, cap - left);
    http1_put_response(&w, r, x->keep, r->status == 101, x->unchunk);
    free(x->reply.p);
    x->reply = (struct pending){p, left + writer_len(&w), 0};
    return !w.bad;
}

/* A complete head of len bytes. False: x is gone. */
static bool take_head(struct forward *x, size_t len) {
    struct http1_response r;
    if (http1_response_parse(&r, x->head, len, x->is_head)) {
        no_answer(x, ERR_TARGET_PROTOCOL, http1_fault_text(r.fault));
        return false;
    }
    bool interim = r.status < 200 && r.status != 101;
    if ((interim && ++x->interims > HTTP_FORWARD_INTERIMS) || (r.status == 101 && !x->upgrade)) {
        no_answer(x, ERR_TARGET_PROTOCOL, interim ? "too many interim answers" : "101 without an Upgrade");
        return false;
    }
    if (!interim) {
        x->unchunk = x->http10 && r.end == HTTP1_END_CHUNKED;
        if (r.end == HTTP1_END_CLOSE || x->unchunk || !http1_body_done(&x->up)) x->keep = false;
        x->keep_far = r.keep;
        http1_body_init(&x->down, r.end, r.content_length);
        set_state(x, r.status == 101 ? FORWARD_TUNNEL : FORWARD_BODY);
    }
    if (!(interim && x->http10) && !put_reply(x, &r, len)) {
        cut(x, ERR_NO_MEMORY, NULL, "");
        return false;
    }
    x->have = x->taken = 0;
    x->scan = (struct http1_scan){.response = true};
    return true;
}

/* False: x is gone. */
static bool read_head(struct forward *x) {
    const uint8_t *p;
    size_t n;
    while (x->state == FORWARD_HEAD) {
        int r = stream_peek(x->far, &p, &n);
        if (r == STREAM_NONE) return true;
        if (r != STREAM_BYTES) {
            return no_answer(x, r < 0 ? r : ERR_TARGET_RESET, "the server ended the connection before its answer");
        }
        if (n > HTTP1_HEAD_MAX - x->have) n = HTTP1_HEAD_MAX - x->have;
        if (!grow(x, x->have + n)) {
            fail(x, ERR_NO_MEMORY, NULL, "");
            return false;
        }
        memcpy(x->head + x->have, p, n);
        x->have += n;
        int len = http1_head_end(&x->scan, x->head, x->have);
        if (len < 0) {
            no_answer(x, ERR_TARGET_PROTOCOL, http1_fault_text(x->scan.fault));
            return false;
        }
        stream_consume(x->far, len ? (size_t)len - x->taken : n);
        x->taken = x->have;
        if (len && !take_head(x, (size_t)len)) return false;
    }
    return true;
}

/* False: x is gone. */
static bool read_body(struct forward *x, size_t *budget) {
    const uint8_t *p;
    size_t n;
    while (!http1_body_done(&x->down) && *budget) {
        int r = stream_peek(x->far, &p, &n);
        if (r == STREAM_NONE) return true;
        if (r == STREAM_EOF && http1_body_eof(&x->down)) break;
        if (r != STREAM_BYTES) {
            cut(x, r < 0 ? r : ERR_TARGET_RESET, "target", "in the middle of its answer");
            return false;
        }
        if (n > *budget) n = *budget;
        long moved = move(&x->down, p, n, x->client, x->unchunk);
        if (moved == 0) return true;
        if (moved < 0) {
            bool bad = moved == ERR_CLIENT_PROTOCOL;
            cut(x, bad ? ERR_TARGET_PROTOCOL : (int)moved, bad ? "target" : "client",
                bad ? "the chunks of the answer are malformed" : "");
            return false;
        }
        stream_consume(x->far, (size_t)moved);
        x->down_bytes += (uint64_t)moved;
        *budget -= (size_t)moved;
    }
    if (*budget == 0) return true;
    done(x);
    return false;
}

static void on_tunnel_ended(const struct relay_end *end, void *arg) {
    struct forward *x = arg;
    struct access_user *user = x->user;
    x->relay = NULL;
    x->up_bytes += end->up;
    x->down_bytes += end->down;
    give_back(x, end->err, end->by == RELAY_CLIENT ? "client" : end->by == RELAY_SELF ? "adit" : "target", "");
    forward_free(x);
    listener_connection_gone(user);
}

static void start_tunnel(struct forward *x) {
    struct relay_config c = {.loop = loop_of(x),
                             .lingers = flow_lingers(x->listener->cfg.flows),
                             .client = x->client,
                             .far = x->far,
                             .idle_timeout = x->listener->cfg.idle_timeout,
                             .done = on_tunnel_ended,
                             .arg = x};
    x->client = x->far = NULL;
    loop_timer_stop(&x->idle);
    x->relay = relay_start(&c);
    if (!x->relay) cut(x, ERR_NO_MEMORY, NULL, "");
}

/* False: x is gone, or belongs to its relay. */
static bool pump_down(struct forward *x, size_t *budget) {
    long err;
    if (!x->far) return true;
    if (x->state == FORWARD_HEAD && !read_head(x)) return false;
    if (x->state == FORWARD_OPENING) return true;
    if (x->reply.n) {
        bool flushed = flush(&x->reply, x->client, &err);
        x->answered |= x->reply.sent > 0;
        if (err < 0) {
            cut(x, (int)err, "client", "");
            return false;
        }
        if (!flushed) return true;
    }
    if (x->state == FORWARD_TUNNEL) {
        start_tunnel(x);
        return false;
    }
    return x->state != FORWARD_BODY || read_body(x, budget);
}

/* Moves what can be moved; what is left when the turn is over goes on in the next one. */
static void pump(struct forward *x) {
    size_t up = RELAY_TURN, down = RELAY_TURN;
    x->moved_at = loop_now(loop_of(x));
    if (!pump_up(x, &up) || !pump_down(x, &down)) return;
    if (up == 0 || down == 0) defer_post(loop_defer(loop_of(x)), &x->more);
}

static void on_more(void *arg) { pump(arg); }

static void on_client(struct stream *s, unsigned events, void *arg) {
    if (events & STREAM_DEAD) cut(arg, s->err, "client", "");
    else pump(arg);
}

static void on_far(struct stream *s, unsigned events, void *arg) {
    (void)s, (void)events;
    pump(arg);
}

static void on_idle(void *arg) {
    struct forward *x = arg;
    uint64_t due = x->moved_at + x->listener->cfg.idle_timeout * LOOP_MS;
    if (due > loop_now(loop_of(x))) loop_timer_set(&x->idle, due);
    else fail(x, ERR_IDLE, "adit", "");
}

/* --- the beginning --- */

static void begin(struct forward *x, struct stream *far) {
    x->far = far;
    set_state(x, FORWARD_HEAD);
    stream_own(far, on_far, x);
    pump(x);
}

static void on_opened(struct flow *f, struct stream *far, int err, const char *detail, void *arg) {
    struct forward *x = arg;
    (void)f;
    if (!err) {
        begin(x, far);
    } else if (x->relay) { /* the set ends */
        struct relay_end end = {0};
        relay_free(x->relay, &end);
        x->relay = NULL;
        x->up_bytes += end.up;
        x->down_bytes += end.down;
        cut(x, err, "adit", "");
    } else if (err == ERR_SHUTDOWN) {
        cut(x, err, "adit", "");
    } else {
        fail(x, err, NULL, detail);
    }
}

static struct forward *forward_new(struct conn *c, const struct http1_request *r, size_t head_len, const struct dest *d) {
    struct forward *x = calloc(1, sizeof *x);
    size_t cap = head_len + r->authority.n + HTTP1_HEAD_GROWTH;
    if (!x) return NULL;
    x->request.p = malloc(cap);
    if (!x->request.p) {
        free(x);
        return NULL;
    }
    struct writer w = writer_of(x->request.p, cap);
    http1_put_request(&w, r);
    x->request.n = w.bad ? 0 : writer_len(&w);
    x->listener = c->listener;
    x->user = c->user;
    x->remote = c->remote;
    x->accepted = c->accepted;
    x->dest = *d;
    x->is_head = http1_method_is(r, "HEAD");
    x->upgrade = http1_wants_upgrade(r);
    x->http10 = r->minor == 0;
    x->keep = http1_wants_keep(r);
    x->may_repeat = http1_idempotent(r) && r->framing == HTTP1_NO_BODY;
    http1_body_init(&x->up, r->framing == HTTP1_CHUNKED ? HTTP1_END_CHUNKED
                            : r->framing == HTTP1_LENGTH ? HTTP1_END_LENGTH
                                                         : HTTP1_END_NONE,
                    r->content_length);
    x->scan.response = true;
    loop_timer_init(&x->idle, loop_of(x), on_idle, x);
    defer_init(&x->more, on_more, x);
    return x;
}

void http_forward(struct conn *c, const struct http1_request *r, size_t head_len, const struct dest *d) {
    struct listener *l = c->listener;
    int err = ERR_NO_MEMORY;
    struct forward *x = forward_new(c, r, head_len, d);
    struct stream *kept = conn_take_kept(c, d);
    struct flow_request rq = {.dest = *d,
                              .listener = l->cfg.name,
                              .protocol = "http",
                              .remote = c->remote,
                              .accepted = c->accepted};
    if (x && x->request.n == 0) { /* cannot be: a head grows by less */
        forward_free(x);
        x = NULL;
        err = ERR_INTERNAL;
    }
    if (x) x->flow = flow_lend(l->cfg.flows, &rq, kept != NULL, c->kept.transport, on_opened, x, &err);
    if (!x || !x->flow) {
        if (x) forward_free(x);
        stream_free(kept);
        conn_refuse(c, http_in_reply, "http", d, err, 0, "");
        return;
    }
    x->client = conn_give(c);
    stream_own(x->client, on_client, x);
    if (x->client->err) { /* its DEAD event came with the last bytes of the request */
        stream_free(kept);
        cut(x, x->client->err, "client", "");
        return;
    }
    x->moved_at = loop_now(loop_of(x));
    if (l->cfg.idle_timeout) loop_timer_set(&x->idle, x->moved_at + l->cfg.idle_timeout * LOOP_MS);
    if (!kept) return;
    x->reused = true;
    begin(x, kept);
}
