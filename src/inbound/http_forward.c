/* Read from top to bottom: this is what happens to a request. */
#include "inbound/http_forward.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/wire.h"
#include "codec/http1_body.h"
#include "codec/http1_error.h"
#include "codec/http1_forward.h"
#include "inbound/http_in.h"

#define REPLY_BYTES 2048         /* first room for a response's head; it grows up to HTTP1_HEAD_MAX */
#define TURN_BYTES (256 * 1024) /* moved one way before other work gets its turn */
#define INTERIM_MAX 100         /* 1xx responses to one request */

enum forward_state {
    FORWARD_IDLE,      /* no exchange: the client's stream is the connection's */
    FORWARD_BEGUN,     /* in the next turn the upstream is asked */
    FORWARD_OPENING,   /* it was */
    FORWARD_REQUESTED, /* the request is on its way; no final response yet */
    FORWARD_ANSWERED,  /* the response's head was understood; its body follows */
    FORWARD_SWITCHING, /* 101: once it is written, the streams are a tunnel */
};

/* One direction: a head that adit wrote, then the body as it comes. */
struct way {
    uint8_t *head;
    size_t len, at; /* bytes of it in all, and written */
    struct http1_body body;
    size_t judged;  /* bytes of the body that were judged, and not yet passed on */
    bool plain;     /* only content is passed on, */
    bool drop;      /* and what was judged is none */
    uint64_t bytes; /* taken from the sender */
};

struct http_forward {
    struct conn *c;
    struct loop *loop;
    enum forward_state state;
    struct flow *flow;     /* of the exchange */
    struct stream *far;    /* to `dest`; between exchanges: kept */
    struct dest dest;
    enum transport transport;
    unsigned generation;   /* of the flows when it was opened */
    bool reused;           /* the stream has served another exchange */
    bool repeatable;       /* the request may be sent again */
    bool last;             /* after the exchange the client's connection ends */
    bool head, http10, upgrade; /* of the request: HEAD; HTTP/1.0; asks for another protocol */
    bool stopped;          /* the origin takes no more of the request */
    bool keep;             /* the response leaves the stream usable */
    struct way up, down;
    struct http1_scan scan; /* of the response's head */
    uint8_t *reply;
    size_t reply_len, reply_cap;
    unsigned interims;
    struct loop_timer again, idle;
    uint64_t active; /* when a byte moved last */
};

static const char *const state_words[] = {"idle", "begun", "opening", "requested", "answered", "switching"};

static void set_state(struct http_forward *fw, enum forward_state state) {
    log_trace("forward", "exchange from=%s to=%s", state_words[fw->state], state_words[state]);
    fw->state = state;
}

static void on_opened(struct stream *far, enum transport t, int err, const char *detail, void *arg);
static void on_quit(void *arg);
static void on_client(struct stream *s, unsigned events, void *arg);
static void on_far(struct stream *s, unsigned events, void *arg);
static void on_kept(struct stream *s, unsigned events, void *arg);
static void pump(struct http_forward *fw);

/* --- ends of an exchange; after each the forwarder may be gone --- */

static void way_clear(struct way *w) {
    if (w->head) secret_wipe(w->head, w->len); /* cookies and the like */
    free(w->head);
    *w = (struct way){0};
}

static void drop_far(struct http_forward *fw, enum err why) {
    if (!fw->far) return;
    stream_reset(fw->far, why);
    stream_free(fw->far);
    fw->far = NULL;
}

/* Writes the record. */
static void record(struct http_forward *fw, int err, const char *detail) {
    struct flow *f = fw->flow;
    fw->flow = NULL;
    loop_timer_stop(&fw->again);
    loop_timer_stop(&fw->idle);
    flow_end(f, err, detail, fw->up.bytes, fw->down.bytes);
}

/* The client has a part of a response, or none will be understood: a reset says so. */
static void abort_exchange(struct http_forward *fw, int err, const char *detail) {
    drop_far(fw, (enum err)err);
    record(fw, err, detail);
    conn_reset(fw->c, err);
}

/* The client hears the reason, if it can still be said: nothing of a final response was. */
static void fail(struct http_forward *fw, int err, int status, const char *detail) {
    uint8_t page[FLOW_REPLY_MAX];
    struct flow_request rq = {.hint = status | (fw->head ? HTTP_IN_HEAD : 0)};
    if (fw->state >= FORWARD_ANSWERED || fw->down.at < fw->down.len) {
        abort_exchange(fw, err, detail);
        return;
    }
    size_t n = http_in_reply(&rq, err, detail, page, sizeof page);
    drop_far(fw, (enum err)err);
    record(fw, err, detail);
    conn_close(fw->c, page, n);
}

static bool request_sent(const struct http_forward *fw) {
    return !fw->stopped && fw->up.at == fw->up.len && fw->up.judged == 0 && http1_body_done(&fw->up.body);
}

/* A stream that has more to say than the response, or is over, serves nobody any more. */
static bool is_quiet(struct stream *s) {
    const uint8_t *p;
    size_t n;
    return !s->err && stream_peek(s, &p, &n) == STREAM_NONE;
}

/* Everything was said in order. */
static void finish(struct http_forward *fw) {
    struct conn *c = fw->c;
    bool sent = request_sent(fw);
    if (!sent) {
        drop_far(fw, ERR_CANCELLED); /* what it was still sent is of no interest to it */
    } else if (fw->keep && !fw->last && is_quiet(fw->far)) {
        stream_own(fw->far, on_kept, fw);
    } else {
        linger_close(flow_lingers(c->listener->cfg.flows), fw->far, NULL, 0);
        fw->far = NULL;
    }
    record(fw, 0, "");
    way_clear(&fw->up);
    way_clear(&fw->down);
    set_state(fw, FORWARD_IDLE);
    if (fw->last || !sent) conn_close(c, NULL, 0);
    else conn_next(c);
}

static void on_quit(void *arg) { abort_exchange(arg, ERR_SHUTDOWN, ""); }

static void on_idle(void *arg) {
    struct http_forward *fw = arg;
    uint64_t at = fw->active + fw->c->listener->cfg.idle_timeout * LOOP_MS;
    if (loop_now(fw->loop) < at) loop_timer_set(&fw->idle, at);
    else fail(fw, ERR_IDLE, 0, "");
}

/* --- 1. the request --- */

static void ask(struct http_forward *fw) {
    set_state(fw, FORWARD_OPENING);
    int err = flow_ask(fw->flow);
    if (err) fail(fw, err, 0, "");
}

static void on_again(void *arg) {
    struct http_forward *fw = arg;
    enum err err = fw->c->stream->err;
    if (err) abort_exchange(fw, err, ""); /* its DEAD event came with the last bytes of the request */
    else if (fw->state == FORWARD_BEGUN) ask(fw);
    else pump(fw);
}

static struct http_forward *forward_new(struct conn *c) {
    struct http_forward *fw = calloc(1, sizeof *fw);
    if (!fw) return NULL;
    fw->c = c;
    fw->loop = c->listener->cfg.loop;
    loop_timer_init(&fw->again, fw->loop, on_again, fw);
    loop_timer_init(&fw->idle, fw->loop, on_idle, fw);
    return fw;
}

static void refuse(struct conn *c, const struct http1_request *r, const struct dest *d, int err, int status,
                   const char *detail) {
    int hint = status | (http1_method_is(r, "HEAD") ? HTTP_IN_HEAD : 0);
    conn_refuse(c, http_in_reply, "http", d, err, hint, detail);
}

/* What of the request matters later. */
static void note_request(struct http_forward *fw, const struct http1_request *r) {
    fw->head = http1_method_is(r, "HEAD");
    fw->http10 = r->minor == 0;
    fw->upgrade = http1_wants_upgrade(r);
    fw->repeatable = http1_repeatable(r);
    fw->last = fw->last || fw->http10 || http1_connection_has(&r->fields, "close");
    fw->stopped = fw->keep = false;
    fw->scan = (struct http1_scan){.response = true};
    fw->reply_len = 0;
    fw->interims = 0;
}

static int write_request(struct http_forward *fw, const struct http1_request *r, const struct dest *d) {
    size_t cap = r->head_len + HTTP1_FORWARD_MORE;
    unsigned flags = fw->upgrade ? HTTP1_FORWARD_UPGRADE : fw->last ? HTTP1_FORWARD_CLOSE : 0;
    uint8_t *head = malloc(cap);
    if (!head) return ERR_NO_MEMORY;
    struct writer w = writer_of(head, cap);
    http1_put_request(&w, r, d, flags);
    way_clear(&fw->up);
    way_clear(&fw->down);
    fw->up.head = head;
    fw->up.len = writer_len(&w);
    fw->up.bytes = r->head_len;
    http1_body_init(&fw->up.body, r->framing, r->content_length);
    return w.bad ? ERR_INTERNAL : 0;
}

/* Whether the kept stream will do; lets it go if not. */
static bool may_reuse(struct http_forward *fw, const struct dest *d) {
    if (!fw->far) return false;
    if (dest_equal(d, &fw->dest) && is_quiet(fw->far) && fw->generation == flow_generation(fw->c->listener->cfg.flows))
        return true;
    linger_close(flow_lingers(fw->c->listener->cfg.flows), fw->far, NULL, 0);
    fw->far = NULL;
    return false;
}

static int begin(struct http_forward *fw, const struct http1_request *r, const struct dest *d) {
    struct conn *c = fw->c;
    struct flow_request rq = {.dest = *d,
                              .listener = c->listener->cfg.name,
                              .protocol = "http",
                              .remote = c->remote,
                              .accepted = c->accepted,
                              .idle_timeout = c->listener->cfg.idle_timeout};
    struct flow_task task = {.opened = on_opened, .quit = on_quit, .arg = fw};
    note_request(fw, r);
    int err = write_request(fw, r, d);
    if (err) return err;
    fw->reused = may_reuse(fw, d);
    fw->dest = *d;
    err = flow_begin(&fw->flow, c->listener->cfg.flows, &rq, &task);
    if (err == 0 && fw->reused) flow_reuse(fw->flow, fw->transport);
    return err;
}

void http_forward_start(struct conn *c, const struct http1_request *r, const struct dest *d) {
    if (!conn_admit(c, http_in_reply, "http", d, http1_method_is(r, "HEAD") ? HTTP_IN_HEAD : 0)) return;
    enum http1_hops hops = http1_hops(r);
    if (hops == HTTP1_HOPS_BROKEN) {
        refuse(c, r, d, ERR_CLIENT_PROTOCOL, 0, "the Max-Forwards field is malformed");
        return;
    }
    if (hops == HTTP1_HOPS_END) {
        refuse(c, r, d, ERR_CLIENT_COMMAND, 0, "Max-Forwards is 0, and this proxy answers neither TRACE nor OPTIONS");
        return;
    }
    if (!c->forward) c->forward = forward_new(c);
    int err = c->forward ? begin(c->forward, r, d) : ERR_NO_MEMORY;
    if (err) {
        refuse(c, r, d, err, 0, "");
        return;
    }
    struct http_forward *fw = c->forward;
    loop_timer_stop(&c->timer);
    conn_set_state(c, CONN_FORWARDING);
    set_state(fw, fw->reused ? FORWARD_REQUESTED : FORWARD_BEGUN);
    stream_own(c->stream, on_client, fw);
    if (fw->reused) stream_own(fw->far, on_far, fw);
    fw->active = loop_now(fw->loop);
    if (c->listener->cfg.idle_timeout) loop_timer_set(&fw->idle, fw->active + c->listener->cfg.idle_timeout * LOOP_MS);
    loop_timer_set(&fw->again, fw->active); /* in the next turn: nothing ends inside this call */
}

/* --- 2. the way out --- */

static void on_opened(struct stream *far, enum transport t, int err, const char *detail, void *arg) {
    struct http_forward *fw = arg;
    if (err) {
        fail(fw, err, 0, detail);
        return;
    }
    fw->far = far;
    fw->transport = t;
    fw->generation = flow_generation(fw->c->listener->cfg.flows);
    fw->active = loop_now(fw->loop);
    set_state(fw, FORWARD_REQUESTED);
    stream_own(far, on_far, fw);
    pump(fw);
}

/* The kept stream was closed before a byte came back: the same request goes out on a new one, once. */
static void ask_again(struct http_forward *fw) {
    drop_far(fw, ERR_CANCELLED);
    fw->reused = false;
    fw->stopped = false;
    fw->up.at = 0;
    ask(fw);
}

/* --- 3. bytes --- */

enum moved {
    MOVED_ALL,
    MOVED_SOME,    /* what is missing is told by an event, or has its turn later */
    MOVED_FAULT,   /* the sender's message is broken or ends too early: body.fault */
    MOVED_LOST,    /* the sender died: *err */
    MOVED_REFUSED, /* the receiver takes no more: *err */
};

/* How many of the n bytes shown can be passed on, or dropped, at once. */
static void judge(struct way *w, const uint8_t *p, size_t n) {
    enum http1_run run;
    if (w->plain) {
        w->judged = http1_body_run(&w->body, p, n, &run);
        w->drop = run == HTTP1_RUN_FRAMING;
    } else {
        w->judged = http1_body_span(&w->body, p, n);
    }
}

static enum moved move_head(struct way *w, struct stream *to, int *err) {
    if (w->at == w->len) return MOVED_ALL;
    long took = stream_write(to, w->head + w->at, w->len - w->at);
    if (took < 0) {
        *err = (int)took;
        return MOVED_REFUSED;
    }
    w->at += (size_t)took;
    return w->at == w->len ? MOVED_ALL : MOVED_SOME;
}

static enum moved move_body(struct http_forward *fw, struct way *w, struct stream *from, struct stream *to, int *err) {
    size_t turn = 0;
    while (w->judged > 0 || !http1_body_done(&w->body)) {
        const uint8_t *p;
        size_t n;
        int got = stream_peek(from, &p, &n);
        if (got == STREAM_NONE) return MOVED_SOME;
        if (got < 0) {
            *err = got;
            return MOVED_LOST;
        }
        if (got == STREAM_EOF) return http1_body_eof(&w->body) ? MOVED_ALL : MOVED_FAULT;
        if (turn >= TURN_BYTES) {
            loop_timer_set(&fw->again, loop_now(fw->loop));
            return MOVED_SOME;
        }
        if (w->judged == 0) judge(w, p, n);
        if (w->judged == 0) return MOVED_FAULT;
        size_t part = w->judged < n ? w->judged : n;
        long took = w->drop ? (long)part : stream_write(to, p, part);
        if (took < 0) {
            *err = (int)took;
            return MOVED_REFUSED;
        }
        stream_consume(from, (size_t)took);
        w->judged -= (size_t)took;
        w->bytes += (uint64_t)took;
        turn += (size_t)took;
        if (took > 0) fw->active = loop_now(fw->loop);
        if ((size_t)took < part) return MOVED_SOME;
    }
    return MOVED_ALL;
}

/* The request. An origin that takes no more of it may have answered already. False when the exchange is over. */
static bool pump_up(struct http_forward *fw) {
    struct way *w = &fw->up;
    int err = 0;
    if (fw->stopped) return true;
    enum moved moved = move_head(w, fw->far, &err);
    if (moved == MOVED_ALL) moved = move_body(fw, w, fw->c->stream, fw->far, &err);
    switch (moved) {
    case MOVED_ALL:
    case MOVED_SOME: break;
    case MOVED_REFUSED: fw->stopped = true; break;
    case MOVED_LOST: abort_exchange(fw, err, ""); return false;
    case MOVED_FAULT:
        if (w->body.fault == HTTP1_FAULT_INCOMPLETE) abort_exchange(fw, ERR_CLIENT_GONE, "before its request was complete");
        else fail(fw, http1_fault_err(w->body.fault), http1_fault_status(w->body.fault), http1_fault_text(w->body.fault));
        return false;
    }
    return true;
}

/* --- 4. the response --- */

static int reply_room(struct http_forward *fw, size_t want) {
    size_t cap = fw->reply_cap ? fw->reply_cap : REPLY_BYTES;
    while (cap < want) cap *= 2;
    if (cap > HTTP1_HEAD_MAX) cap = HTTP1_HEAD_MAX;
    if (cap <= fw->reply_cap) return 0;
    uint8_t *grown = realloc(fw->reply, cap);
    if (!grown) return ERR_NO_MEMORY;
    fw->reply = grown;
    fw->reply_cap = cap;
    return 0;
}

/* Takes what the stream shows of the head. Its length, 0 for more, or an err. */
static int take_reply(struct http_forward *fw, const uint8_t *p, size_t n) {
    size_t before = fw->reply_len;
    if (n > HTTP1_HEAD_MAX - before) n = HTTP1_HEAD_MAX - before;
    int err = reply_room(fw, before + n);
    if (err) return err;
    memcpy(fw->reply + before, p, n);
    int end = http1_head_end(&fw->scan, fw->reply, before + n);
    if (end < 0) return http1_response_err(fw->scan.fault);
    fw->reply_len = end > 0 ? (size_t)end : before + n;
    stream_consume(fw->far, fw->reply_len - before);
    fw->down.bytes += fw->reply_len - before;
    fw->active = loop_now(fw->loop);
    return end;
}

/* The head as the client gets it takes its place in front of the body. */
static int write_response(struct http_forward *fw, const struct http1_response *r, unsigned flags) {
    size_t cap = fw->reply_len + HTTP1_FORWARD_MORE;
    uint8_t *head = malloc(cap);
    if (!head) return ERR_NO_MEMORY;
    struct writer w = writer_of(head, cap);
    http1_put_response(&w, r, flags);
    free(fw->down.head);
    fw->down.head = head;
    fw->down.len = writer_len(&w);
    fw->down.at = 0;
    return w.bad ? ERR_INTERNAL : 0;
}

/* 1xx: the final response follows. HTTP/1.0 knows none. */
static int interim(struct http_forward *fw, const struct http1_response *r) {
    if (++fw->interims > INTERIM_MAX) return ERR_TARGET_PROTOCOL;
    fw->scan = (struct http1_scan){.response = true};
    int err = fw->http10 ? 0 : write_response(fw, r, 0);
    fw->reply_len = 0;
    return err;
}

static int switching(struct http_forward *fw, const struct http1_response *r) {
    if (!fw->upgrade) return ERR_TARGET_PROTOCOL;
    int err = write_response(fw, r, HTTP1_FORWARD_UPGRADE);
    if (err == 0) set_state(fw, FORWARD_SWITCHING);
    return err;
}

static int final(struct http_forward *fw, const struct http1_response *r) {
    struct way *w = &fw->down;
    fw->keep = r->persistent;
    w->plain = fw->http10 && r->framing == HTTP1_CHUNKED;
    http1_body_init(&w->body, r->framing, r->content_length);
    /* an answer to half a request: what follows of it could not be told from the next one */
    if (r->framing == HTTP1_CLOSE || !request_sent(fw)) fw->last = true;
    int err = write_response(fw, r, (fw->last ? HTTP1_FORWARD_CLOSE : 0) | (w->plain ? HTTP1_FORWARD_PLAIN : 0));
    if (err == 0) set_state(fw, FORWARD_ANSWERED);
    return err;
}

static int understand(struct http_forward *fw, const char **why) {
    struct http1_response *r = malloc(sizeof *r);
    if (!r) return ERR_NO_MEMORY;
    int err = http1_parse_response(r, fw->reply, fw->reply_len, fw->head);
    *why = http1_fault_text(r->fault);
    if (err == 0) {
        *why = r->status == 101 ? "a change of protocols that nobody asked for" : "too many interim responses";
        err = r->status == 101 ? switching(fw, r) : r->status < 200 ? interim(fw, r) : final(fw, r);
    }
    free(r);
    if (fw->state == FORWARD_REQUESTED) return err;
    free(fw->reply);
    fw->reply = NULL;
    fw->reply_cap = fw->reply_len = 0;
    return err;
}

/* Reads one head. False when there is none yet, or the exchange is over. */
static bool pump_reply(struct http_forward *fw) {
    const uint8_t *p;
    size_t n;
    const char *why = "";
    int got = stream_peek(fw->far, &p, &n);
    if (got == STREAM_NONE) return false;
    if (got != STREAM_BYTES) {
        if (fw->reused && fw->repeatable && fw->down.bytes == 0) ask_again(fw);
        else fail(fw, got == STREAM_EOF ? ERR_TARGET_CLOSED : got, 0, "");
        return false;
    }
    int end = take_reply(fw, p, n);
    if (end == 0) return true;
    if (end < 0 && fw->scan.fault != HTTP1_FAULT_NONE) why = http1_fault_text(fw->scan.fault);
    int err = end < 0 ? end : understand(fw, &why);
    if (err) fail(fw, err, 0, why);
    return err == 0;
}

static void tunnel(struct http_forward *fw) {
    struct flow *f = fw->flow;
    struct stream *far = fw->far;
    fw->flow = NULL;
    fw->far = NULL;
    conn_tunnel(fw->c, f, far, fw->up.bytes, fw->down.bytes);
}

/* The body; false when the exchange is over. */
static bool pump_content(struct http_forward *fw) {
    struct way *w = &fw->down;
    int err = 0;
    switch (move_body(fw, w, fw->far, fw->c->stream, &err)) {
    case MOVED_SOME: return true;
    case MOVED_ALL: finish(fw); break;
    case MOVED_FAULT: abort_exchange(fw, http1_response_err(w->body.fault), http1_fault_text(w->body.fault)); break;
    case MOVED_REFUSED:
    case MOVED_LOST: abort_exchange(fw, err, ""); break;
    }
    return false;
}

static void pump_down(struct http_forward *fw) {
    int err = 0;
    for (;;) {
        enum moved moved = move_head(&fw->down, fw->c->stream, &err);
        if (moved == MOVED_REFUSED) abort_exchange(fw, err, "");
        if (moved != MOVED_ALL) return;
        if (fw->state == FORWARD_SWITCHING) {
            tunnel(fw);
            return;
        }
        if (fw->state == FORWARD_ANSWERED) {
            pump_content(fw);
            return;
        }
        if (!pump_reply(fw)) return;
    }
}

static void pump(struct http_forward *fw) {
    if (fw->state < FORWARD_REQUESTED) return;
    if (pump_up(fw)) pump_down(fw);
}

static void on_client(struct stream *s, unsigned events, void *arg) {
    if (events & STREAM_DEAD) abort_exchange(arg, s->err, "");
    else pump(arg);
}

static void on_far(struct stream *s, unsigned events, void *arg) {
    (void)s, (void)events;
    pump(arg);
}

/* Between exchanges an origin has nothing to say. */
static void on_kept(struct stream *s, unsigned events, void *arg) {
    struct http_forward *fw = arg;
    (void)events;
    if (is_quiet(s)) return;
    linger_close(flow_lingers(fw->c->listener->cfg.flows), s, NULL, 0);
    fw->far = NULL;
}

void http_forward_last(struct http_forward *fw) { fw->last = true; }

void http_forward_free(struct http_forward *fw) {
    if (!fw) return;
    loop_timer_stop(&fw->again);
    loop_timer_stop(&fw->idle);
    drop_far(fw, ERR_CANCELLED);
    way_clear(&fw->up);
    way_clear(&fw->down);
    free(fw->reply);
    free(fw);
}
