#include "lib/h2_raw.h"

#include <stdlib.h>
#include <string.h>

#include "session/h2_impl.h"

#define MAGIC "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static void on_wake(void *arg) { (void)arg; }

static void on_state(struct session *s, enum session_state state, void *arg) {
    (void)s;
    ((struct h2raw *)arg)->states[state]++;
}

static void on_request(struct session *s, struct stream *st, void *arg) {
    struct h2raw *r = arg;
    (void)s;
    r->request = st;
    r->requests++;
}

void h2raw_init(struct h2raw *r, bool server) {
    memset(r, 0, sizeof *r);
    defer_queue_init(&r->queue, NULL, NULL);
    r->now = 1000 * H2RAW_MS;
    session_config_init(&r->config);
    r->config.kind = SESSION_H2;
    r->config.server = server;
    r->config.queue = &r->queue;
    r->config.cb = (struct session_cb){on_wake, on_state, on_request, r};
    r->config.now = r->now;
}

void h2raw_start(struct h2raw *r) {
    if (h2_new_clear(&r->s, &r->config) < 0) abort();
    h2raw_run(r);
}

void h2raw_up(struct h2raw *r) {
    h2raw_init(r, false);
    h2raw_start(r);
    h2raw_frame(r, H2RAW_SETTINGS, 0, 0, NULL, 0);
    h2raw_run(r);
    h2raw_forget(r);
}

void h2raw_fini(struct h2raw *r) {
    session_free(r->s);
    r->s = NULL;
    defer_queue_run(&r->queue, 0);
    free(r->out);
    r->out = NULL;
}

/* ---- to the session ---- */

void h2raw_bytes(struct h2raw *r, const void *p, size_t n) {
    /* Exactly as large as it is, so that a read past it is seen. */
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    if (n) memcpy(copy, p, n);
    session_in(r->s, copy, n, r->now);
    free(copy);
}

void h2raw_frame(struct h2raw *r, unsigned type, unsigned flags, uint32_t id, const void *p, size_t n) {
    uint8_t *f = malloc(9 + n);
    if (!f) abort();
    const uint8_t head[9] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, (uint8_t)type, (uint8_t)flags,
                             (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    memcpy(f, head, 9);
    if (n) memcpy(f + 9, p, n);
    h2raw_bytes(r, f, 9 + n);
    free(f);
}

void h2raw_status(struct h2raw *r, uint32_t id, int status, bool fin) {
    const uint8_t block[] = {0x08, 3, (uint8_t)('0' + status / 100), (uint8_t)('0' + status / 10 % 10),
                             (uint8_t)('0' + status % 10)};
    h2raw_frame(r, H2RAW_HEADERS, H2RAW_END_HEADERS | (fin ? H2RAW_END_STREAM : 0), id, block, sizeof block);
}

static void put32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void h2raw_rst(struct h2raw *r, uint32_t id, uint32_t code) {
    uint8_t p[4];
    put32(p, code);
    h2raw_frame(r, H2RAW_RST, 0, id, p, 4);
}

void h2raw_window(struct h2raw *r, uint32_t id, uint32_t more) {
    uint8_t p[4];
    put32(p, more);
    h2raw_frame(r, H2RAW_WINDOW, 0, id, p, 4);
}

void h2raw_goaway(struct h2raw *r, uint32_t last, uint32_t code, const char *text) {
    uint8_t p[256];
    size_t n = strlen(text);
    put32(p, last);
    put32(p + 4, code);
    memcpy(p + 8, text, n);
    h2raw_frame(r, H2RAW_GOAWAY, 0, 0, p, 8 + n);
}

void h2raw_setting(struct h2raw *r, unsigned id, uint32_t value) {
    uint8_t p[6] = {(uint8_t)(id >> 8), (uint8_t)id};
    put32(p + 2, value);
    h2raw_frame(r, H2RAW_SETTINGS, 0, 0, p, 6);
}

/* ---- from the session ---- */

static void note(struct h2raw *r, const uint8_t *f, uint32_t len) {
    struct h2raw_frame fr = {.type = f[3], .flags = f[4], .id = get32(f + 5) & 0x7fffffff, .len = len};
    if (len >= 4) fr.word = get32(f + 9);
    if (len >= 8) fr.code = get32(f + 13);
    r->count[fr.type]++;
    if (fr.type == H2RAW_DATA) r->data += len;
    if (r->n_frames < H2RAW_FRAMES) r->frames[r->n_frames++] = fr;
}

static void parse(struct h2raw *r) {
    if (!r->parsed && !r->config.server) {
        if (r->out_len < sizeof MAGIC - 1) return;
        if (memcmp(r->out, MAGIC, sizeof MAGIC - 1) != 0) abort();
        r->parsed = sizeof MAGIC - 1;
    }
    while (r->out_len - r->parsed >= 9) {
        const uint8_t *f = r->out + r->parsed;
        uint32_t len = get32(f) >> 8;
        if (r->out_len - r->parsed < 9 + (size_t)len) return;
        note(r, f, len);
        r->parsed += 9 + len;
    }
}

static void keep(struct h2raw *r, const uint8_t *p, size_t n) {
    while (r->out_cap < r->out_len + n) {
        r->out_cap = r->out_cap ? 2 * r->out_cap : 16384;
        r->out = realloc(r->out, r->out_cap);
        if (!r->out) abort();
    }
    memcpy(r->out + r->out_len, p, n);
    r->out_len += n;
}

void h2raw_run(struct h2raw *r) {
    struct session_out o;
    bool moved;
    do {
        defer_queue_run(&r->queue, 0);
        moved = !r->deaf && session_out(r->s, &o, r->now);
        if (!moved) continue;
        size_t n = r->piece && r->piece < o.n ? r->piece : o.n;
        keep(r, o.p, n);
        session_sent(r->s, n, r->now);
    } while (moved || r->queue.head);
    parse(r);
}

void h2raw_pass(struct h2raw *r, uint64_t ns) {
    uint64_t end = r->now + ns;
    h2raw_run(r);
    for (;;) {
        uint64_t next = session_deadline(r->s);
        if (next > end) break;
        if (next > r->now) r->now = next;
        session_expire(r->s, r->now);
        h2raw_run(r);
    }
    r->now = end;
    h2raw_run(r);
}

void h2raw_forget(struct h2raw *r) {
    r->n_frames = 0;
    memset(r->count, 0, sizeof r->count);
    r->data = 0;
}

const struct h2raw_frame *h2raw_last(const struct h2raw *r, unsigned type, uint32_t id) {
    for (unsigned i = r->n_frames; i > 0; i--) {
        const struct h2raw_frame *f = &r->frames[i - 1];
        if (f->type == type && (!id || f->id == id)) return f;
    }
    return NULL;
}

struct stream *h2raw_open(struct h2raw *r, int *err) {
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "test.example:443")};
    int rv;
    return session_open(r->s, head, 2, false, r->now, err ? err : &rv);
}
