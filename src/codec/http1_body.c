#include "codec/http1_body.h"

#include <string.h>

void http1_body_init(struct http1_body *b, enum http1_end end, uint64_t length) {
    *b = (struct http1_body){.state = HTTP1_BODY_DONE};
    if (end == HTTP1_END_CHUNKED) {
        b->state = HTTP1_BODY_SIZE;
    } else if (end == HTTP1_END_CLOSE || (end == HTTP1_END_LENGTH && length)) {
        b->state = HTTP1_BODY_PLAIN;
        b->left = end == HTTP1_END_CLOSE ? UINT64_MAX : length;
    }
}

bool http1_body_done(const struct http1_body *b) { return b->state == HTTP1_BODY_DONE; }

bool http1_body_eof(const struct http1_body *b) {
    return b->state == HTTP1_BODY_DONE || (b->state == HTTP1_BODY_PLAIN && b->left == UINT64_MAX);
}

static int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool is_text(uint8_t c) { return (c >= ' ' && c != 0x7f) || c == '\t'; }

/* One byte of a size line or of trailers; false: malformed. */
static bool framing_byte(struct http1_body *b, uint8_t c) {
    int digit = hex_digit(c);
    switch (b->state) {
    case HTTP1_BODY_SIZE:
        if (digit >= 0) {
            if (++b->line > 16 || b->left >> 59) return false; /* stays below 2^63 */
            b->left = b->left << 4 | (unsigned)digit;
            return true;
        }
        if (b->line == 0) return false;
        b->line = 0;
        b->state = c == '\r' ? HTTP1_BODY_SIZE_LF : HTTP1_BODY_EXTENSION;
        return c == '\r' || c == ';' || c == ' ' || c == '\t';
    case HTTP1_BODY_EXTENSION:
        if (c == '\r') b->state = HTTP1_BODY_SIZE_LF;
        return c == '\r' || (is_text(c) && ++b->line <= HTTP1_EXTENSION_MAX);
    case HTTP1_BODY_SIZE_LF:
        b->line = 0;
        b->state = b->left ? HTTP1_BODY_CHUNK : HTTP1_BODY_LINE;
        return c == '\n';
    case HTTP1_BODY_CHUNK_CR: b->state = HTTP1_BODY_CHUNK_LF; return c == '\r';
    case HTTP1_BODY_CHUNK_LF:
        b->line = 0;
        b->state = HTTP1_BODY_SIZE;
        return c == '\n';
    case HTTP1_BODY_LINE:
        b->state = c == '\r' ? HTTP1_BODY_LAST_LF : HTTP1_BODY_TRAILER;
        return c == '\r' || (c > ' ' && c < 0x7f && c != ':' && ++b->line <= HTTP1_TRAILER_MAX);
    case HTTP1_BODY_TRAILER:
        if (c == '\r') b->state = HTTP1_BODY_TRAILER_LF;
        return c == '\r' || (is_text(c) && ++b->line <= HTTP1_TRAILER_MAX);
    case HTTP1_BODY_TRAILER_LF: b->state = HTTP1_BODY_LINE; return c == '\n';
    case HTTP1_BODY_LAST_LF: b->state = HTTP1_BODY_DONE; return c == '\n';
    case HTTP1_BODY_DONE:
    case HTTP1_BODY_PLAIN:
    case HTTP1_BODY_CHUNK: break;
    }
    return false;
}

static bool in_content(const struct http1_body *b) {
    return b->state == HTTP1_BODY_PLAIN || b->state == HTTP1_BODY_CHUNK;
}

static size_t take_content(struct http1_body *b, size_t n) {
    if (n > b->left) n = (size_t)b->left;
    if (b->left != UINT64_MAX) b->left -= n;
    if (b->left == 0) b->state = b->state == HTTP1_BODY_CHUNK ? HTTP1_BODY_CHUNK_CR : HTTP1_BODY_DONE;
    return n;
}

long http1_body_take(struct http1_body *b, const void *bytes, size_t n, bool *content) {
    const uint8_t *p = bytes;
    size_t i = 0;
    *content = in_content(b);
    if (*content) return n ? (long)take_content(b, n) : 0;
    while (i < n && b->state != HTTP1_BODY_DONE && !in_content(b))
        if (!framing_byte(b, p[i++])) return ERR_CLIENT_PROTOCOL;
    return (long)i;
}

long http1_body_take_all(struct http1_body *b, const void *p, size_t n) {
    size_t at = 0;
    bool content;
    while (at < n && !http1_body_done(b)) {
        long took = http1_body_take(b, (const uint8_t *)p + at, n - at, &content);
        if (took < 0) return took;
        at += (size_t)took;
    }
    return (long)at;
}
