#include "lib/h3_raw.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static int make_server(struct session **out, const struct session_config *c) {
    return c->server ? qraw_new(out, c) : session_new(out, c);
}

struct session_pair_config h3raw_config(void) {
    struct session_pair_config c;
    h3_pair_config_init(&c, true);
    c.make = make_server;
    return c;
}

void h3raw_settings(struct session_pair *p) {
    qraw_write(server(p), qraw_open(server(p), false), "\0\4\0", 3, false);
}

struct session_pair *h3raw_pair(const struct session_pair_config *c) {
    struct session_pair_config plain = h3raw_config();
    struct session_pair *p = h3_pair_new(c ? c : &plain);
    assert_non_null(p);
    h3raw_settings(p);
    session_pair_settle(p, 50 * PAIR_MS);
    return p;
}

struct session_pair *h3raw_up(struct session_pair_config *c) {
    struct session_pair *p = session_pair_new(c);
    assert_non_null(p);
    if (!session_pair_up(p)) fail_msg("seed %u: %s", (unsigned)c->seed, session_error_text(p->side[0].session));
    return p;
}

const struct header h3raw_connect[2] = {HEADER(":method", "CONNECT"), HEADER(":authority", "example.test:443")};

void h3raw_open(struct session_pair *p, struct owner *w, bool fin) {
    int err;
    struct stream *st = session_open(client(p), h3raw_connect, 2, fin, p->now, &err);
    assert_non_null(st);
    own(w, st, true);
}

/* HEADERS with a status, as the QPACK static table has it, or spelt out. */
void h3raw_answer(struct session_pair *p, int64_t id, int status) {
    uint8_t spelt[] = {1, 8, 0, 0, 0x5f, 0x09, 3, '0', '0', '0'};
    spelt[7] = (uint8_t)('0' + status / 100);
    spelt[8] = (uint8_t)('0' + status / 10 % 10);
    spelt[9] = (uint8_t)('0' + status % 10);
    if (status == 200)
        qraw_write(server(p), id, "\1\3\0\0\xd9", 5, false);
    else
        qraw_write(server(p), id, spelt, sizeof spelt, false);
}

struct qraw_stream *h3raw_tunnel(struct session_pair *p, struct owner *w, unsigned n, int status) {
    h3raw_open(p, w, false);
    settle(p);
    struct qraw_stream *t = qraw_stream(server(p), 4 * (int64_t)n);
    assert_non_null(t);
    if (!status) return t;
    h3raw_answer(p, t->id, status);
    settle(p);
    assert_int_equal(w->opens, 1);
    assert_int_equal(w->st->status, status);
    return t;
}

static uint64_t varint(const uint8_t **p, const uint8_t *end) {
    if (*p >= end) return UINT64_MAX;
    unsigned n = 1u << (**p >> 6);
    if ((size_t)(end - *p) < n) return UINT64_MAX;
    uint64_t v = **p & 0x3f;
    for (unsigned i = 1; i < n; i++) v = v << 8 | (*p)[i];
    *p += n;
    return v;
}

struct h3raw_frames h3raw_parse(const struct qraw_stream *t) {
    struct h3raw_frames f = {.sum = 1};
    const uint8_t *p = t->in, *end = t->in + t->in_len;
    while (p < end) {
        uint64_t type = varint(&p, end), len = varint(&p, end);
        if (len == UINT64_MAX || len > (size_t)(end - p)) return f;
        if (!f.count++) f.first_type = (unsigned)type;
        f.last_type = (unsigned)type;
        f.last_len = len;
        if (!type) {
            f.data += len;
            f.sum = owner_sum(f.sum, p, len);
        }
        p += len;
    }
    f.whole = true;
    return f;
}

void h3raw_assert_end(const struct qraw_stream *t, size_t payload) {
    struct h3raw_frames f = h3raw_parse(t);
    assert_true(f.whole);
    assert_int_equal(f.first_type, 1);
    assert_int_equal(f.last_type, 0);
    assert_int_equal(f.last_len, 0);
    assert_int_equal(f.data, payload);
    assert_int_equal(f.sum, owner_pattern_sum(payload));
    assert_true(t->fin && t->last_fin && !t->reset);
    assert_int_equal(t->last_len, 2);
    assert_memory_equal(t->last, "\0\0", 2);
}
