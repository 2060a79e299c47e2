/* fuzz_inbound.c - clients of a listener, the targets behind it, and what adit's owner does meanwhile.
 *
 * The first byte is the configuration, then each byte is an act (the low half) of or towards one of four connections, with
 * operands behind it. What clients say is decoded once more here, in one piece and without the listener, and tells what
 * must follow: nothing is said before the upstream has answered but the steps of SOCKS, each byte behind the request
 * comes out of the tunnel once, each byte from the tunnel reaches the client once, an end in order is never told of
 * a broken one, and afterwards nothing is left, with one record for each connection.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/http1.h"
#include "codec/http1_error.h"
#include "codec/socks.h"
#include "flow/relay.h"
#include "lib/inbound_rig.h"
#include "lib/pipe.h"

#define CONNS 4
#define SAID_MAX 100000 /* by one client; more is not tried */
#define STEPS_MAX 3000
#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

enum conn_state {
    C_NONE, /* the place is free */
    C_FIRST,
    C_GREETING,
    C_AUTH,
    C_REQUEST,
    C_SOCKS4,
    C_HTTP,
    C_ASKED,   /* the upstream was asked */
    C_REFUSED, /* behind the steps come at most words_max bytes that begin with `words` */
    C_ENDED,   /* by the listener, without a word */
    C_OTHER,   /* HTTP requests, which may be several: no expectations but that all of it ends */
};

struct conn {
    enum conn_state state;
    struct stream *s; /* the client's end; NULL: it has reset it */
    uint64_t deadline;
    bool over_limit, finished, eof;
    uint8_t *said;
    size_t said_n, at; /* at: the message that comes next, in `said` */
    bool http, four; /* HTTP, SOCKS4 */
    uint8_t steps[4]; /* what SOCKS must have said on the way */
    size_t steps_n;
    const char *words;
    size_t words_n, words_max;
    struct http1_scan scan;
    struct dest dest;
    struct pool_open *o;
    struct stream *far;
    size_t heard;              /* bytes, of everything */
    size_t far_said, far_heard; /* bytes of the tunnel */
    bool far_finished, far_reset;
};

struct world {
    struct rig *rig;
    struct listen_config cfg;
    const uint8_t *p, *end;
    struct conn conns[CONNS];
    struct conn *last; /* who did something that nobody has looked at yet */
    unsigned opens, accepted;
    bool others; /* there was one that is C_OTHER */
};

static const struct listen_user alice = {"alice", "secret"};

static uint8_t next(struct world *w) { return w->p < w->end ? *w->p++ : 0; }

static uint8_t pattern(size_t at) { return (uint8_t)(at * 31 + (at >> 8) * 17 + 5); }

/* --- what must follow from what a client has said --- */

static void step(struct conn *c, uint8_t a, uint8_t b) {
    CHECK(c->steps_n + 2 <= sizeof c->steps);
    c->steps[c->steps_n++] = a;
    c->steps[c->steps_n++] = b;
}

static void refused(struct conn *c, const char *words, size_t n, size_t max) {
    c->state = C_REFUSED;
    c->words = words;
    c->words_n = n;
    c->words_max = max;
}

#define REFUSED(c, words, max) refused(c, words, sizeof(words) - 1, max)
#define HTTP_REFUSED(c, words) REFUSED(c, "HTTP/1.1 " words, HTTP1_ERROR_MAX)
#define REP_N 10

static void asked(struct conn *c, int err, const struct dest *d) {
    bool self = err == 0 && d->port == RIG_SELF_PORT;
    if (err == 0 && !self && !c->over_limit) {
        c->state = C_ASKED;
        c->dest = *d;
    } else if (c->http) {
        if (err) HTTP_REFUSED(c, "400 Bad Request\r\n");
        else if (self) HTTP_REFUSED(c, "403 Forbidden\r\n");
        else HTTP_REFUSED(c, "503 Service Unavailable\r\n");
    } else if (c->four) {
        REFUSED(c, "\0\133\0\0\0\0\0\0", SOCKS4_REPLY_LEN);
    } else if (err || self) {
        REFUSED(c, "\5\2\0", REP_N);
    } else {
        REFUSED(c, "\5\1\0", REP_N);
    }
}

static bool is_alice(const uint8_t *user, size_t n, const uint8_t *password, size_t m) {
    return n == 5 && m == 6 && memcmp(user, "alice", 5) == 0 && memcmp(password, "secret", 6) == 0;
}

static void first(const struct world *w, struct conn *c, uint8_t b) {
    if (b == 5 && w->cfg.protocols & LISTEN_SOCKS5) c->state = C_GREETING;
    else if (b == 4 && w->cfg.protocols & (LISTEN_SOCKS4 | LISTEN_SOCKS5)) c->state = C_SOCKS4;
    else if (w->cfg.protocols & LISTEN_HTTP && http1_may_begin(b)) c->state = C_HTTP;
    else c->state = C_ENDED;
}

static int greeting(const struct world *w, struct conn *c, const uint8_t *p, size_t n) {
    struct socks5_greeting g;
    int used = socks5_greeting_decode(&g, p, n);
    if (used <= 0) return used;
    uint8_t method = w->cfg.n_users ? 2 : 0;
    if (!socks5_offers(&g, method)) {
        REFUSED(c, "\5\377", 2);
        return used;
    }
    step(c, 5, method);
    c->state = method ? C_AUTH : C_REQUEST;
    return used;
}

static int auth(const struct world *w, struct conn *c, const uint8_t *p, size_t n) {
    struct socks5_auth a;
    int used = socks5_auth_decode(&a, p, n);
    if (used < 0) c->state = C_ENDED;
    if (used <= 0) return used;
    if (!w->cfg.n_users || !is_alice(a.user, a.user_len, a.password, a.password_len)) {
        REFUSED(c, "\1\1", 2);
        return used;
    }
    step(c, 1, 0);
    c->state = C_REQUEST;
    return used;
}

static int request(struct conn *c, const uint8_t *p, size_t n) {
    struct socks5_request r;
    struct dest d;
    int used = socks5_request_decode(&r, p, n);
    if (used == ERR_CLIENT_ADDRESS) REFUSED(c, "\5\10\0", REP_N);
    else if (used < 0) REFUSED(c, "\5\1\0", REP_N);
    else if (used > 0 && r.cmd != SOCKS_CONNECT) REFUSED(c, "\5\7\0", REP_N);
    else if (used > 0) {
        int err = socks5_dest(&d, DEST_TCP, &r.addr);
        asked(c, err, &d);
    }
    return used;
}

static int socks4(const struct world *w, struct conn *c, const uint8_t *p, size_t n) {
    struct socks4_request r;
    struct dest d;
    int used = socks4_request_decode(&r, p, n);
    bool served = w->cfg.protocols & LISTEN_SOCKS4;
    c->four = true;
    if (used == 0) return 0;
    if (used > 0 && served && w->cfg.n_users) {
        REFUSED(c, "\0\135\0\0\0\0\0\0", SOCKS4_REPLY_LEN);
    } else if (used < 0 || !served || r.cmd != SOCKS_CONNECT) {
        REFUSED(c, "\0\133\0\0\0\0\0\0", SOCKS4_REPLY_LEN);
    } else {
        int err = socks4_dest(&d, &r);
        asked(c, err, &d);
    }
    return used;
}

static bool http_authorized(const struct world *w, const struct http1_request *r) {
    struct http1_basic b;
    uint8_t room[HTTP1_BASIC_MAX];
    if (!w->cfg.n_users) return true;
    return http1_basic(r, room, sizeof room, &b) == 1 && is_alice(b.user, b.user_len, b.password, b.password_len);
}

static int http(const struct world *w, struct conn *c, const uint8_t *p, size_t n) {
    struct http1_request r;
    struct dest d;
    int used = http1_head_end(&c->scan, p, n);
    c->http = true;
    if (used == 0) return 0;
    if (used < 0) HTTP_REFUSED(c, "");
    else if (http1_parse(&r, p, (size_t)used)) HTTP_REFUSED(c, "");
    else if (!http_authorized(w, &r)) HTTP_REFUSED(c, "407 ");
    else {
        int err = http1_dest(&r, &d);
        asked(c, err, &d);
        if (c->state == C_ASKED && r.form == HTTP1_ABSOLUTE) c->state = C_OTHER;
    }
    return used;
}

/* One message of it. Returns false when there is no more to be told. */
static bool advance(const struct world *w, struct conn *c) {
    const uint8_t *p = c->said + c->at;
    size_t n = c->said_n - c->at;
    int used = 0;
    if (n == 0) return false;
    switch (c->state) {
    case C_FIRST: first(w, c, p[0]); return true;
    case C_GREETING: used = greeting(w, c, p, n); break;
    case C_AUTH: used = auth(w, c, p, n); break;
    case C_REQUEST: used = request(c, p, n); break;
    case C_SOCKS4: used = socks4(w, c, p, n); break;
    case C_HTTP: used = http(w, c, p, n); break;
    default: return false;
    }
    if (used > 0) c->at += (size_t)used;
    return used > 0;
}

/* --- what is heard --- */

/* How the client is told that its way is open. */
static const char *success(const struct conn *c, size_t *n) {
    static const char ok4[] = {0, 90, 0, 0, 0, 0, 0, 0}, ok5[] = {5, 0, 0, 1, 0, 0, 0, 0, 0, 0},
                      ok200[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    *n = c->http ? sizeof ok200 - 1 : c->four ? sizeof ok4 : sizeof ok5;
    return c->http ? ok200 : c->four ? ok4 : ok5;
}

static void hear_byte(struct conn *c, uint8_t b) {
    size_t at = c->heard++, ok_n;
    const char *ok = success(c, &ok_n);
    if (c->state == C_OTHER) return;
    if (at < c->steps_n) {
        CHECK(b == c->steps[at]);
        return;
    }
    at -= c->steps_n;
    if (c->state == C_REFUSED) {
        CHECK(at < c->words_max && (at >= c->words_n || b == (uint8_t)c->words[at]));
        return;
    }
    CHECK(c->state == C_ASKED && c->o && c->o->state == RIG_OPEN_TOLD); /* not a byte before that */
    if (c->o->err) {
        CHECK(at || b == (uint8_t)ok[0]);
        CHECK(c->http || at != 1 || b == (c->four ? (int)socks4_rep(c->o->err) : (int)socks5_rep(c->o->err)));
        CHECK(!c->http || at != 9 || b >= '4'); /* the status */
        CHECK(at < (c->http ? HTTP1_ERROR_MAX : ok_n));
    } else if (at < ok_n) {
        CHECK(b == (uint8_t)ok[at]);
    } else {
        CHECK(at - ok_n < c->far_said && b == pattern(at - ok_n));
    }
}

static void client_reads(struct conn *c) {
    const uint8_t *p;
    size_t n;
    int r;
    if (!c->s) return;
    while ((r = stream_peek(c->s, &p, &n)) == STREAM_BYTES) {
        for (size_t i = 0; i < n; i++) hear_byte(c, p[i]);
        stream_consume(c->s, n);
    }
    if (c->state == C_ASKED && c->o && c->o->state == RIG_OPEN_TOLD) { /* the answer was told at once */
        size_t ok_n;
        success(c, &ok_n);
        CHECK(c->heard >= c->steps_n + ok_n);
        if (r == STREAM_EOF && !c->eof && !c->o->err) {
            CHECK(c->far_finished); /* in order only if it was, and whole */
            CHECK(c->heard == c->steps_n + ok_n + c->far_said);
        }
    }
    if (c->state == C_REFUSED) CHECK(c->heard > c->steps_n);
    c->eof |= r == STREAM_EOF;
}

static void far_reads(struct conn *c) {
    const uint8_t *p;
    size_t n;
    int r;
    if (!c->far || c->far_reset) return;
    while ((r = stream_peek(c->far, &p, &n)) == STREAM_BYTES) {
        for (size_t i = 0; i < n; i++, c->far_heard++) {
            if (c->state == C_OTHER) continue;
            CHECK(c->at + c->far_heard < c->said_n && p[i] == c->said[c->at + c->far_heard]);
        }
        stream_consume(c->far, n);
    }
    if (r == STREAM_EOF && c->state != C_OTHER) CHECK(c->finished && c->at + c->far_heard == c->said_n);
}

static bool in_handshake(const struct conn *c) { return c->state >= C_FIRST && c->state <= C_HTTP; }

/* Whatever is not asked ends with its client, or with its deadline. */
static void expire(struct world *w) {
    for (int i = 0; i < CONNS; i++) {
        struct conn *c = &w->conns[i];
        bool late = loop_now(w->rig->loop) >= c->deadline;
        if (!in_handshake(c) || !(late || c->finished || !c->s)) continue;
        if (c->s) CHECK(pipe_peer_finished(c->s) || pipe_peer_reset(c->s));
        if (c->state == C_HTTP && !c->finished) HTTP_REFUSED(c, "408 ");
        else c->state = C_ENDED;
    }
}

/* Whose open this is. */
static struct conn *asker(struct world *w, const struct conn *last, const struct pool_open *o) {
    for (int i = 0; i < CONNS; i++) {
        struct conn *c = &w->conns[i];
        if (c == last && c->state == C_ASKED && !c->o && dest_equal(&c->dest, &o->dest)) return c;
    }
    for (int i = 0; i < CONNS; i++)
        if (w->conns[i].state == C_OTHER) return &w->conns[i];
    CHECK(!"an open that nobody asked for");
    return NULL;
}

/* Everything that can happen now does; then it is looked at. */
static void settle(struct world *w) {
    struct conn *last = w->last;
    w->last = NULL;
    rig_settle(w->rig);
    if (last && in_handshake(last))
        while (advance(w, last)) continue;
    expire(w);
    for (; w->opens < w->rig->n_opens; w->opens++) {
        struct pool_open *o = rig_opened(w->rig, w->opens);
        struct conn *c = asker(w, last, o);
        stream_free(c->far);
        c->far = NULL;
        c->o = o;
    }
    CHECK(!last || last->state != C_ASKED || last->o || !last->s);
    w->others |= last && last->state == C_OTHER;
}

/* --- acts --- */

static void say(struct world *w, struct conn *c, const void *p, size_t n) {
    if (!c->s || c->finished || c->said_n + n > SAID_MAX) return;
    long took = stream_write(c->s, p, n);
    if (took <= 0) return;
    memcpy(c->said + c->said_n, p, (size_t)took);
    c->said_n += (size_t)took;
    w->last = c;
}

static void say_given(struct world *w, struct conn *c) {
    size_t n = next(w);
    if (n > (size_t)(w->end - w->p)) n = (size_t)(w->end - w->p);
    const uint8_t *p = w->p;
    w->p += n;
    say(w, c, p, n);
}

static void say_known(struct world *w, struct conn *c) {
#define TEXT(s) {s, sizeof(s) - 1}
    static const struct {
        const char *p;
        size_t n;
    } texts[] = {
        TEXT("\5\1\0"), TEXT("\5\2\0\2"), TEXT("\1\5alice\6secret"), TEXT("\5\1\0\1\300\0\2\1\1\273"),
        TEXT("\5\1\0\3\6a.test\0\120"), TEXT("\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\1\273"),
        TEXT("\5\3\0\1\0\0\0\0\0\0"),
        TEXT("\4\1\1\273\300\0\2\1me\0"), TEXT("CONNECT a.test:443 HTTP/1.1\r\n"), TEXT("Host: a.test:443\r\n"),
        TEXT("Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"), TEXT("\r\n"), TEXT("GET http://a.test/ HTTP/1.1\r\n"),
        TEXT("GET / HTTP/1.1\r\n"), TEXT("Content-Length: 5\r\n"), TEXT("Transfer-Encoding: chunked\r\n"),
        TEXT("\5\1\0\3\5_udp2\1\273"), TEXT("\5\1\0\1\177\0\0\1\4\70"), TEXT("CONNECT 127.0.0.1:1080 HTTP/1.0\r\n\r\n"),
        TEXT("Connection: close\r\n"), TEXT("Upgrade: x\r\nConnection: upgrade\r\n"), TEXT("hello"),
        TEXT("5\r\nhello\r\n0\r\n\r\n"), TEXT("Host: a.test\r\n\r\n"), TEXT("POST http://a.test/ HTTP/1.1\r\n"),
        TEXT("\4\1\1\273\0\0\0\1me\0a.test\0"),
        TEXT("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    };
    uint8_t which = next(w) % (sizeof texts / sizeof *texts);
    say(w, c, texts[which].p, texts[which].n);
}

static void say_much(struct world *w, struct conn *c) {
    static char much[9000];
    memset(much, 'a', sizeof much);
    say(w, c, much, sizeof much);
}

static void connect_client(struct world *w, struct conn *c) {
    if (c->state != C_NONE || !w->rig->listener) return;
    c->said = malloc(SAID_MAX);
    CHECK(c->said);
    c->over_limit = listener_connections(w->rig->listener) >= w->cfg.max_connections;
    c->deadline = loop_now(w->rig->loop) + w->cfg.handshake_timeout * LOOP_MS;
    c->state = C_FIRST;
    c->s = rig_connect(w->rig);
    w->accepted++;
    w->last = c;
}

static void client_ends(struct world *w, struct conn *c, bool reset) {
    if (!c->s) return;
    if (reset) {
        client_reads(c);
        stream_reset(c->s, ERR_CLIENT_RESET);
        stream_free(c->s);
        c->s = NULL;
    } else {
        stream_finish(c->s);
        c->finished = true;
    }
    w->last = c;
}

/* The place of a client that is gone is free again. */
static void forget(struct world *w, struct conn *c) {
    settle(w);
    if (c->state == C_NONE || c->s) return;
    CHECK(!c->o || c->o->state == RIG_OPEN_TOLD || c->o->state == RIG_OPEN_CANCELLED);
    stream_free(c->far);
    free(c->said);
    memset(c, 0, sizeof *c);
}

static void answer(struct conn *c, uint8_t how) {
    static const int errs[] = {
#define X(symbol, value, class_, word, text) symbol,
        ERR_TABLE(X)
#undef X
    };
    if (!c->o || c->o->state != RIG_OPEN_ASKED) return;
    if (how & 0x80) {
        rig_refuse(c->o, errs[how % (sizeof errs / sizeof *errs)], how & 0x40 ? "<b>\"why\r\n" : "");
    } else {
        rig_answer(c->o);
        c->far = c->o->far;
        c->o->far = NULL;
        c->far_said = c->far_heard = 0;
        c->far_finished = c->far_reset = false;
    }
}

static void answer_http(struct conn *c, uint8_t how) {
    static const char *const texts[] = {
        "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "\r\n", "hello", "5\r\nhello\r\n",
        "0\r\n\r\n", "Connection: close\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.0 404 No\r\n",
        "HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "HTTP/1.1 204 None\r\n",
    };
    const char *text = texts[how % (sizeof texts / sizeof *texts)];
    stream_write(c->far, text, strlen(text));
}

static void far_acts(struct conn *c, unsigned act, uint8_t how) {
    uint8_t part[4096];
    size_t n = how == 255 ? sizeof part : how;
    if (!c->far || c->far_reset) return;
    if (act == 1) {
        stream_finish(c->far);
        c->far_finished = true;
    } else if (act == 2) {
        c->far_reset = !pipe_peer_freed(c->far); /* else all was over */
        stream_reset(c->far, ERR_TARGET_RESET);
    } else if (c->state == C_OTHER && !c->far_finished && how < 240) {
        answer_http(c, how);
    } else if (!c->far_finished && n) {
        for (size_t i = 0; i < n; i++) part[i] = pattern(c->far_said + i);
        long took = stream_write(c->far, part, n);
        if (took > 0) c->far_said += (size_t)took;
    }
}

static void pass(struct world *w, uint64_t ms) {
    settle(w);
    sim_pass(w->rig->loop, ms * LOOP_MS);
    expire(w);
}

static void update(struct world *w) {
    if (!w->rig->listener) return;
    w->cfg.n_users = !w->cfg.n_users;
    w->cfg.users = &alice;
    w->rig->cfg.n_users = w->cfg.n_users;
    w->rig->cfg.users = &alice;
    CHECK(listener_update(w->rig->listener, &w->rig->cfg) == 0);
}

static void end_listener(struct world *w) {
    listener_free(w->rig->listener);
    w->rig->listener = NULL;
    for (int i = 0; i < CONNS; i++)
        if (in_handshake(&w->conns[i])) w->conns[i].state = C_ENDED;
}

static void act(struct world *w) {
    uint8_t op = next(w);
    struct conn *c = &w->conns[op >> 4 & 3];
    if (w->last && w->last != c) settle(w);
    switch (op & 15) {
    case 0: connect_client(w, c); break;
    case 1: say_given(w, c); break;
    case 2: say_known(w, c); break;
    case 3: say_much(w, c); break;
    case 4: settle(w); break;
    case 5: client_reads(c); break;
    case 6: client_ends(w, c, false); break;
    case 7: client_ends(w, c, true); break;
    case 8:
        settle(w);
        answer(c, next(w));
        break;
    case 9: far_acts(c, 0, next(w)); break;
    case 10:
        settle(w);
        far_acts(c, op >> 6 & 1 ? 2 : 1, 0);
        break;
    case 11: far_reads(c); break;
    case 12: pass(w, next(w) * UINT64_C(100)); break;
    case 13:
        settle(w);
        update(w);
        break;
    case 14:
        settle(w);
        if (op == 0xfe) end_listener(w);
        break;
    default: forget(w, c); break;
    }
}

static void configure(struct world *w, uint8_t how) {
    w->cfg = (struct listen_config){.protocols = how & 3 ? how & 3 : LISTEN_ALL,
                                    .users = &alice,
                                    .n_users = how >> 2 & 1,
                                    .max_connections = how & 8 ? 1 : 100,
                                    .handshake_timeout = how & 0x20 ? 500 : 10000,
                                    .idle_timeout = how & 0x40 ? 5000 : 0};
    w->rig = rig_new(&w->cfg);
    if (how & 0x10) w->rig->room = 64; /* fits the steps and what follows success, and little more */
}

static void finish(struct world *w) {
    settle(w);
    for (int i = 0; i < CONNS; i++) {
        struct conn *c = &w->conns[i];
        client_reads(c);
        far_reads(c);
        if (c->s) client_ends(w, c, !(i & 1));
        settle(w);
        stream_free(c->s);
        stream_free(c->far);
        c->s = c->far = NULL;
    }
    pass(w, RELAY_LAST_BYTES + 1000);
    for (int i = 0; i < CONNS; i++) {
        struct pool_open *o = w->conns[i].o;
        if (o && o->state == RIG_OPEN_ASKED) rig_refuse(o, ERR_SHUTDOWN, ""); /* a half-close waits for the answer */
        free(w->conns[i].said);
    }
    rig_settle(w->rig);
    CHECK(w->others ? w->rig->records >= w->accepted : w->rig->records == w->accepted);
    CHECK(rig_free(w->rig));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world w = {.p = data, .end = data + size};
    configure(&w, next(&w));
    for (int i = 0; i < STEPS_MAX && w.p < w.end; i++) act(&w);
    finish(&w);
    return 0;
}
