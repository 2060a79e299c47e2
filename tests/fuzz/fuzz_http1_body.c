/* The first byte picks the framing and the length; the rest is a body and what follows it. Beyond memory safety: however
 * the bytes are cut, the same number of them belong to the body and the same content is in it; nothing is taken after the
 * end or after a fault; and a chunked body that was taken whole is one to a second, plainer reader, with the same content. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/http1_body.h"

#define CHECK(cond) ((cond) ? (void)0 : abort())

struct outcome {
    size_t span, content;
    uint32_t sum;
    enum http1_fault fault;
    bool done;
};

static uint32_t sum_of(uint32_t sum, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) sum = sum * 31 + p[i];
    return sum;
}

static struct outcome feed(enum http1_framing framing, uint64_t length, const uint8_t *p, size_t n, size_t step) {
    struct outcome o = {0};
    struct http1_body b;
    http1_body_init(&b, framing, length);
    while (o.span < n) {
        size_t piece = n - o.span < step ? n - o.span : step;
        enum http1_run run;
        size_t got = http1_body_run(&b, p + o.span, piece, &run);
        CHECK(got <= piece);
        if (got == 0) break;
        if (run == HTTP1_RUN_CONTENT) {
            o.sum = sum_of(o.sum, p + o.span, got);
            o.content += got;
        }
        o.span += got;
    }
    CHECK(o.span == n || http1_body_done(&b) || b.fault != HTTP1_FAULT_NONE);
    o.fault = b.fault;
    o.done = http1_body_done(&b);
    CHECK(http1_body_eof(&b) == (o.fault == HTTP1_FAULT_NONE && (o.done || framing == HTTP1_CLOSE)));
    CHECK(http1_body_span(&b, p, n) == 0);
    return o;
}

/* Reads a body that is known to be well-formed. */
static void check_again(const uint8_t *p, const struct outcome *o) {
    const uint8_t *at = p, *end = p + o->span;
    uint32_t sum = 0;
    size_t content = 0;
    for (;;) {
        char *rest;
        unsigned long long size = strtoull((const char *)at, &rest, 16);
        const uint8_t *line = memmem(at, (size_t)(end - at), "\r\n", 2);
        CHECK(line && (const uint8_t *)rest <= line && (const uint8_t *)rest > at);
        at = line + 2;
        if (size == 0) break;
        CHECK(size + 2 <= (size_t)(end - at));
        sum = sum_of(sum, at, size);
        content += size;
        at += size;
        CHECK(at[0] == '\r' && at[1] == '\n');
        at += 2;
    }
    while (at[0] != '\r') {
        const uint8_t *line = memmem(at, (size_t)(end - at), "\r\n", 2);
        CHECK(line && memchr(at, ':', (size_t)(line - at)));
        at = line + 2;
    }
    CHECK(at[1] == '\n' && at + 2 == end && sum == o->sum && content == o->content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    enum http1_framing framing = (enum http1_framing)(data[0] & 3);
    uint64_t length = data[0] >> 2;
    size_t n = size - 1;
    uint8_t *text = malloc(n + 1); /* terminated, for the second reader */
    CHECK(text);
    memcpy(text, data + 1, n);
    text[n] = 0;
    struct outcome whole = feed(framing, length, text, n, n ? n : 1);
    for (size_t step = 1; step < 8; step += 3) {
        struct outcome bits = feed(framing, length, text, n, step);
        CHECK(memcmp(&bits.span, &whole.span, sizeof bits.span) == 0 && bits.content == whole.content);
        CHECK(bits.sum == whole.sum && bits.fault == whole.fault && bits.done == whole.done);
    }
    struct http1_body b;
    http1_body_init(&b, framing, length);
    CHECK(http1_body_span(&b, text, n) == whole.span && b.fault == whole.fault);
    if (framing == HTTP1_LENGTH) CHECK(whole.span == (n < length ? n : length));
    if (framing == HTTP1_NO_BODY) CHECK(whole.span == 0 && whole.done);
    if (framing == HTTP1_CHUNKED && whole.done) check_again(text, &whole);
    free(text);
    return 0;
}
