/* HTTP/2 from outside. The input plays the peer of one session in the clear, by frames whose lengths are right and by
 * bytes that are not; it also says what the owner of the streams does, how much of the output is taken, and how the
 * time goes by. What the session says meanwhile is looked at frame by frame, and its accounts are checked after every
 * step. A first byte of 3 gives the rest to a session that waits for the TLS handshake.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/h2_raw.h"
#include "lib/session_pair.h"
#include "session/h2_impl.h"

#define HELD 32
#define IDS 1024           /* streams whose frames are looked at */
#define WINDOW_FIRST 65535 /* RFC 9113 section 6.9.2 */
#define FRAME_MAX 16384
#define GONE (100 * UINT64_C(1000000000)) /* every freed stream is gone after this: H2_LINGER, H2_LINGER_END, cancels */
#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

struct held {
    struct stream *st;
    bool opened, dead, reset;
};

struct world {
    struct h2raw r; /* first: the callbacks' argument */
    const uint8_t *p, *end;
    size_t cut; /* most bytes handed over at once; 0: any */
    bool raw;   /* bytes were given that may be any frames */
    int state;
    struct held held[HELD];
    unsigned n;
    /* What the owner did. */
    size_t accepted;
    unsigned finishes, whole; /* ends asked for, by finish and with a head */
    /* What the session said. */
    unsigned frames, ends, whole_ends;
    size_t data;
    uint64_t credit; /* of the connection */
    uint32_t last;   /* number of the last stream that it opened */
    bool heard[IDS], ended[IDS], reset[IDS];
};

static uint8_t next(struct world *w) { return w->p < w->end ? *w->p++ : 0; }

static const uint8_t *take(struct world *w, size_t *n) {
    const uint8_t *p = w->p;
    if (*n > (size_t)(w->end - w->p)) *n = (size_t)(w->end - w->p);
    w->p += *n;
    return p;
}

static struct h2 *h2(struct world *w) { return h2_of(w->r.s); }

/* ---- the owner ---- */

static void on_state(struct session *s, enum session_state state, void *arg) {
    struct world *w = arg;
    CHECK((int)state > w->state);
    CHECK(s->state >= state);
    w->state = (int)state;
}

static void on_event(struct stream *st, unsigned events, void *arg) {
    struct world *w = arg;
    for (unsigned i = 0; i < w->n; i++) {
        struct held *e = &w->held[i];
        if (e->st != st) continue;
        CHECK(!e->dead && !e->reset);
        CHECK(!(events & STREAM_OPEN) || (!e->opened && !w->r.config.server));
        CHECK(!(events & STREAM_OPEN) || (st->status >= 200 && st->status <= 599));
        CHECK(!(events & STREAM_DEAD) || (int)st->err < 0);
        e->opened |= !!(events & STREAM_OPEN);
        e->dead |= !!(events & STREAM_DEAD);
        return;
    }
    CHECK(!"an event of a stream that nobody holds");
}

static void hold(struct world *w, struct stream *st) {
    if (w->n == HELD) {
        stream_free(st);
        return;
    }
    w->held[w->n++] = (struct held){.st = st};
    stream_own(st, on_event, w);
}

static void on_request(struct session *s, struct stream *st, void *arg) {
    size_t n;
    CHECK(s->cfg.server);
    CHECK(session_stream_header(st, ":method", &n));
    hold(arg, st);
}

static void drop(struct world *w, unsigned i) {
    struct stream *st = w->held[i].st;
    w->held[i] = w->held[--w->n];
    stream_free(st);
}

static void do_open(struct world *w, uint8_t how) {
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "a.test:1")};
    const struct header get[] = {HEADER(":method", "GET"), HEADER(":scheme", "https"), HEADER(":path", "/"),
                                 HEADER(":authority", "a.test")};
    const struct header answers[] = {HEADER(":status", "200"), HEADER(":status", "407"), HEADER(":status", "103")};
    unsigned capacity = session_capacity(w->r.s);
    bool fin = how & 1;
    int err;
    if (w->r.config.server) {
        bool interim = (how >> 6) % 3 == 2;
        if (!w->n) return;
        if (session_respond(w->held[how % w->n].st, &answers[(how >> 6) % 3], 1, fin) == 0) w->whole += fin && !interim;
        return;
    }
    bool tunnel = how & 2;
    struct stream *st = session_open(w->r.s, tunnel ? head : get, tunnel ? 2 : 4, fin, w->r.now, &err);
    CHECK(st ? capacity > 0 : err < 0);
    w->whole += st && fin;
    if (st) hold(w, st);
}

static void do_read(struct world *w, struct held *e) {
    const uint8_t *p;
    size_t n = 0;
    int r = stream_peek(e->st, &p, &n);
    if (r == STREAM_BYTES) {
        uint8_t x = next(w);
        CHECK(n > 0);
        stream_consume(e->st, x < n ? n - x : n);
    } else if (r < 0) {
        CHECK(r == (int)e->st->err);
    } else {
        CHECK(r == STREAM_NONE || r == STREAM_EOF);
    }
}

static void do_owner(struct world *w, uint8_t op) {
    static const uint8_t bytes[70000];
    if (!w->n) return;
    unsigned i = next(w) % w->n;
    struct held *e = &w->held[i];
    uint8_t x;
    long r;
    switch (op % 6) {
    case 0:
        x = next(w);
        size_t n = x < 200 ? x : (size_t)x * 270;
        r = stream_write(e->st, bytes, n);
        CHECK(r <= (long)n);
        if (r > 0) w->accepted += (size_t)r;
        break;
    case 1:
        stream_finish(e->st);
        w->finishes++;
        break;
    case 2:
        stream_reset(e->st, next(w) & 1 ? ERR_CLIENT_RESET : ERR_TARGET_REFUSED);
        e->reset = true;
        break;
    case 3: drop(w, i); break;
    default: do_read(w, e); break;
    }
}

static void do_session(struct world *w, uint8_t op) {
    switch (op & 0x0f) {
    case 8: session_retire(w->r.s, w->r.now); break;
    case 9: session_close(w->r.s, ERR_SHUTDOWN, w->r.now); break;
    case 10: session_in(w->r.s, NULL, 0, w->r.now); break;
    case 11: session_expire(w->r.s, w->r.now); break;
    default: session_ping(w->r.s, w->r.now); break;
    }
}

/* ---- the peer ---- */

static void give(struct world *w, const uint8_t *p, size_t n) {
    while (n) {
        size_t part = w->cut && w->cut < n ? w->cut : n;
        h2raw_bytes(&w->r, p, part);
        p += part;
        n -= part;
    }
}

static void frame(struct world *w, unsigned type, unsigned flags, uint32_t id, const uint8_t *p, size_t n) {
    uint8_t f[9 + FRAME_MAX] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, (uint8_t)type, (uint8_t)flags,
                                (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    CHECK(n <= FRAME_MAX);
    if (n) memcpy(f + 9, p, n);
    if (type == H2RAW_HEADERS && id < IDS) w->heard[id] = true;
    give(w, f, 9 + n);
}

/* A stream that there may be. */
static uint32_t some_id(struct world *w) {
    uint8_t x = next(w);
    if (x == 255) return 0x7fffffff;
    return x < 128 ? 2u * x + 1 : x - 128u;
}

static void do_frame(struct world *w, bool own_payload) {
    unsigned type = next(w), flags = next(w);
    uint32_t id = some_id(w);
    size_t n = next(w);
    static const uint8_t zeros[8];
    if (own_payload) {
        const uint8_t *p = take(w, &n);
        frame(w, type, flags, id, p, n);
        return;
    }
    /* The same again and again. */
    for (size_t i = 0; i < n * 4 && w->r.s->state != SESSION_DOWN; i++) frame(w, type, flags, id, zeros, sizeof zeros);
}

static void do_data(struct world *w, uint8_t op) {
    static const uint8_t zeros[FRAME_MAX];
    uint32_t id = some_id(w);
    size_t n = next(w) * 64u;
    frame(w, H2RAW_DATA, (op & 8 ? H2RAW_END_STREAM : 0) | (op & 4 && n ? H2RAW_PADDED : 0), id, zeros, n);
}

static void do_status(struct world *w, uint8_t op) {
    static const uint16_t statuses[] = {200, 407, 502, 103, 204, 404, 101, 999};
    uint32_t id = some_id(w);
    unsigned status = statuses[op & 7];
    const uint8_t block[] = {0x08, 3, (uint8_t)('0' + status / 100), (uint8_t)('0' + status / 10 % 10),
                             (uint8_t)('0' + status % 10)};
    frame(w, H2RAW_HEADERS, H2RAW_END_HEADERS | (op & 8 ? H2RAW_END_STREAM : 0), id, block, sizeof block);
}

static void do_control(struct world *w, uint8_t op) {
    static const uint32_t codes[] = {0, 1, 7, 8, 0x0b, 0x1f, 0x64, 0xffffffff};
    uint32_t id = some_id(w);
    uint8_t x = next(w);
    switch (op & 3) {
    case 0: h2raw_rst(&w->r, id, codes[x & 7]); break;
    case 1: h2raw_window(&w->r, id, x * (op & 4 ? 1u : 1u << 16)); break;
    case 2: h2raw_goaway(&w->r, id, codes[x & 7], "why"); break;
    case 3: h2raw_setting(&w->r, id & 15, x * (op & 4 ? 1u : 1u << 10)); break;
    }
}

static void do_raw(struct world *w) {
    size_t n = next(w);
    const uint8_t *p = take(w, &n);
    if (n) give(w, p, n);
    w->raw = true;
}

/* ---- what the session says ---- */

static void look_at(struct world *w, const struct h2raw_frame *f) {
    bool server = w->r.config.server, end = f->flags & H2RAW_END_STREAM;
    CHECK(f->len <= FRAME_MAX);
    if (!w->frames++) CHECK(f->type == H2RAW_SETTINGS && !(f->flags & H2RAW_ACK));
    bool known = f->id && f->id < IDS;
    switch (f->type) {
    case H2RAW_HEADERS:
        CHECK(f->id % 2 == 1 && f->flags & H2RAW_END_HEADERS);
        CHECK(server || f->id > w->last);
        CHECK(!known || (!w->ended[f->id] && !w->reset[f->id]));
        w->last = f->id;
        w->whole_ends += end;
        if (known) w->ended[f->id] = end;
        break;
    case H2RAW_DATA:
        CHECK(!(f->flags & H2RAW_PADDED) && f->len <= H2_DATA_MAX);
        CHECK(!known || (!w->ended[f->id] && !w->reset[f->id]));
        /* The end waits for the answer. */
        CHECK(!end || server || w->raw || !known || w->heard[f->id]);
        w->data += f->len;
        w->ends += end;
        if (known) w->ended[f->id] |= end;
        break;
    case H2RAW_RST:
        CHECK(f->id && (server || (f->id % 2 == 1 && f->id <= w->last)));
        if (known) w->reset[f->id] = true;
        break;
    case H2RAW_WINDOW:
        CHECK(f->word > 0 && f->word <= INT32_MAX);
        if (!f->id) w->credit += f->word;
        break;
    case H2RAW_SETTINGS:
    case H2RAW_PING:
    case H2RAW_GOAWAY: CHECK(f->id == 0); break;
    default: CHECK(!"a frame that is never sent");
    }
}

static void listen_to(struct world *w) {
    h2raw_run(&w->r);
    for (unsigned i = 0; i < w->r.n_frames; i++) look_at(w, &w->r.frames[i]);
    CHECK(w->r.n_frames < H2RAW_FRAMES);
    h2raw_forget(&w->r);
    /* Nothing that the owner did not say, and nothing left over. */
    CHECK(w->data <= w->accepted && w->ends <= w->finishes && w->whole_ends <= w->whole);
    CHECK(w->r.deaf || w->r.parsed == w->r.out_len);
}

static size_t window_of(struct world *w) {
    return w->r.config.session_window > WINDOW_FIRST ? w->r.config.session_window : WINDOW_FIRST;
}

static void check_account(struct world *w) {
    struct h2 *h = h2(w);
    size_t unread = 0, live = 0;
    for (struct h2_stream *t = h->streams; t; t = t->next) {
        CHECK(t->in.len <= w->r.config.stream_window && t->out.len <= w->r.config.send_buffer);
        unread += t->in.len;
        live += t->id >= 0;
    }
    CHECK(unread == h->s.unread && live == h->live);
    CHECK(h->withheld <= unread && h->withheld <= window_of(w));
    CHECK(unread - h->withheld <= w->r.config.budget);
    CHECK(h->out.len <= H2_OUT_CONTROL + 4 * TLS_RECORD);
    CHECK(w->credit <= window_of(w) - WINDOW_FIRST + h->s.bytes_in);
    for (const char *c = session_error_text(&h->s); *c; c++) CHECK(*c >= ' ' && *c < 0x7f);
    CHECK((h->ng == NULL) == (h->s.state == SESSION_DOWN));
    CHECK(h->ng || (!h->streams && session_deadline(&h->s) == UINT64_MAX));
    /* With nothing unread all credit is given back: else the peer would be stopped for ever. */
    if (h->ng && !unread && !w->r.deaf)
        CHECK(nghttp2_session_get_effective_recv_data_length(h->ng) <
              nghttp2_session_get_effective_local_window_size(h->ng) / 2 + 1);
}

static void step(struct world *w) {
    uint8_t op = next(w);
    switch (op & 0x0f) {
    case 0: do_open(w, next(w)); break;
    case 1:
    case 2:
    case 3: do_owner(w, op >> 4); break;
    case 4:
    case 5: do_frame(w, true); break;
    case 6: do_frame(w, false); break;
    case 7:
    case 8: do_data(w, op >> 4); break;
    case 9:
    case 10: do_status(w, op >> 4); break;
    case 11: do_control(w, op >> 4); break;
    case 12: do_raw(w); break;
    case 13: h2raw_pass(&w->r, (uint64_t)next(w) * (op & 0x10 ? 100 : 1) * H2RAW_MS); break;
    case 14:
        w->r.deaf = op & 0x10;
        w->r.piece = op >> 5;
        break;
    default: do_session(w, op >> 4); break;
    }
    listen_to(w);
}

/* Every bit of `limits` chooses one. */
static void begin(struct world *w, uint8_t limits) {
    bool server = next(w) & 1;
    h2raw_init(&w->r, server);
    w->state = SESSION_STARTING;
    w->r.config.cb.state = on_state;
    w->r.config.cb.request = on_request;
    w->r.config.budget = limits & 1 ? 300 : 70000;
    w->r.config.send_buffer = limits & 2 ? 100 : 20000;
    w->r.config.stream_window = limits & 4 ? 1000 : 200000;
    w->r.config.session_window = limits & 8 ? 1 : 100000;
    w->r.config.max_streams = limits & 16 ? 2 : 1000;
    if (limits & 32) w->cut = 1;
    h2raw_start(&w->r);
    if (limits & 64) return; /* the input says how it begins */
    if (server) h2raw_bytes(&w->r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    h2raw_frame(&w->r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    h2raw_frame(&w->r, H2RAW_SETTINGS, H2RAW_ACK, 0, NULL, 0);
    listen_to(w);
    CHECK(w->r.s->state == SESSION_UP);
}

/* All are given up: with time, none is left. */
static void leave(struct world *w) {
    while (w->n) drop(w, w->n - 1);
    w->r.deaf = false;
    w->r.piece = 0;
    listen_to(w);
    h2raw_pass(&w->r, GONE);
    listen_to(w);
    check_account(w);
    CHECK(w->r.config.server || !h2(w)->streams);
}

static void in_the_clear(struct world *w) {
    unsigned after = 0;
    uint8_t limits = next(w);
    begin(w, limits);
    for (unsigned i = 0; i < 1000 && w->p < w->end && after < 8; i++) {
        step(w);
        check_account(w);
        after += w->r.s->state == SESSION_DOWN;
    }
    if (limits & 128) leave(w);
    h2raw_fini(&w->r);
    while (w->n) drop(w, w->n - 1);
    CHECK(!w->r.queue.head);
}

/* ---- before there is TLS ---- */

static void over_tls(struct world *w) {
    h2raw_init(&w->r, next(w) & 1);
    w->state = SESSION_STARTING;
    w->r.config.cb.state = on_state;
    w->r.config.creds = w->r.config.server ? session_pair_server_creds() : session_pair_client_creds();
    CHECK(session_new(&w->r.s, &w->r.config) == 0);
    while (w->p < w->end) {
        struct session_out o;
        size_t n = next(w);
        const uint8_t *p = take(w, &n);
        h2raw_bytes(&w->r, p, n);
        while (session_out(w->r.s, &o, w->r.now)) session_sent(w->r.s, o.n, w->r.now);
        defer_queue_run(&w->r.queue, 0);
        CHECK(w->r.s->state == SESSION_STARTING || w->r.s->state == SESSION_DOWN);
        CHECK(w->r.s->state != SESSION_DOWN || w->r.s->err);
    }
    h2raw_fini(&w->r);
}

/* No foreign word makes or splits a line. */
static void on_line(enum log_level level, const char *line, void *arg) {
    (void)level;
    (void)arg;
    for (; *line; line++) CHECK((uint8_t)*line >= ' ' && *line != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct world w;
    size_t chunks = buf_chunks();
    memset(&w, 0, sizeof w);
    log_set_sink(on_line, NULL);
    log_set_level(LOG_TRACE);
    w.p = data;
    w.end = data + size;
    if (next(&w) == 3)
        over_tls(&w);
    else
        in_the_clear(&w);
    CHECK(buf_chunks() == chunks);
    return 0;
}
