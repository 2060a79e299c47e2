#include "codec/http1_body.h"

#include "codec/http1_impl.h"

enum body_state {
    BODY_DONE,
    BODY_LENGTH,       /* `left` bytes of content */
    BODY_CLOSE,        /* content up to the end of the connection */
    BODY_SIZE,         /* the digits of a chunk's size */
    BODY_EXTENSION,    /* what follows it up to the CR */
    BODY_SIZE_LF,
    BODY_DATA,         /* `left` bytes of the chunk */
    BODY_DATA_CR,
    BODY_DATA_LF,
    BODY_TRAILER,      /* the first byte of a trailer's line */
    BODY_TRAILER_NAME,
    BODY_TRAILER_VALUE,
    BODY_TRAILER_LF,
    BODY_END_LF,       /* of the empty line */
};

#define SIZE_DIGITS 16

static bool is_content(int state) { return state == BODY_LENGTH || state == BODY_CLOSE || state == BODY_DATA; }

void http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t content_length) {
    *b = (struct http1_body){.state = BODY_DONE};
    if (framing == HTTP1_CHUNKED) b->state = BODY_SIZE;
    if (framing == HTTP1_CLOSE) b->state = BODY_CLOSE;
    if (framing != HTTP1_LENGTH || content_length == 0) return;
    b->state = BODY_LENGTH;
    b->left = content_length;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool fail(struct http1_body *b, enum http1_fault fault) {
    b->fault = fault;
    return false;
}

static bool expect(struct http1_body *b, char c, char wanted, enum body_state next) {
    if (c != wanted) return fail(b, HTTP1_FAULT_LINE_END);
    b->state = (int)next;
    return true;
}

/* 1*HEXDIG, then extensions or the line's end. */
static bool size_byte(struct http1_body *b, char c) {
    int digit = hex_digit(c);
    if (digit >= 0) {
        if (++b->line > SIZE_DIGITS || b->left > (uint64_t)INT64_MAX >> 4) return fail(b, HTTP1_FAULT_CHUNK);
        b->left = b->left << 4 | (unsigned)digit;
        return true;
    }
    if (b->line == 0 || (c != ';' && c != '\r')) return fail(b, HTTP1_FAULT_CHUNK);
    b->state = c == '\r' ? BODY_SIZE_LF : BODY_EXTENSION;
    return true;
}

static bool extension_byte(struct http1_body *b, char c) {
    if (c == '\r') {
        b->state = BODY_SIZE_LF;
        return true;
    }
    if (c == '\n') return fail(b, HTTP1_FAULT_LINE_END);
    if (http1_is_control(c) || ++b->line >= HTTP1_CHUNK_LINE_MAX) return fail(b, HTTP1_FAULT_CHUNK);
    return true;
}

static bool size_end(struct http1_body *b, char c) {
    b->line = 0;
    return expect(b, c, '\n', b->left ? BODY_DATA : BODY_TRAILER);
}

static bool trailer_first(struct http1_body *b, char c) {
    if (c == '\r') return expect(b, c, '\r', BODY_END_LF);
    if (++b->fields > HTTP1_FIELDS_MAX) return fail(b, HTTP1_FAULT_TRAILER_LENGTH);
    b->state = BODY_TRAILER_NAME;
    return http1_is_token(c) || fail(b, HTTP1_FAULT_TRAILER);
}

static bool trailer_name(struct http1_body *b, char c) {
    if (c == ':') b->state = BODY_TRAILER_VALUE;
    else if (!http1_is_token(c)) return fail(b, HTTP1_FAULT_TRAILER);
    return true;
}

static bool trailer_value(struct http1_body *b, char c) {
    if (c == '\r') b->state = BODY_TRAILER_LF;
    else if (c == '\n') return fail(b, HTTP1_FAULT_LINE_END);
    else if (http1_is_control(c)) return fail(b, HTTP1_FAULT_TRAILER);
    return true;
}

static bool trailer_byte(struct http1_body *b, char c) {
    if (++b->total > HTTP1_TRAILER_MAX) return fail(b, HTTP1_FAULT_TRAILER_LENGTH);
    switch ((enum body_state)b->state) {
    case BODY_TRAILER: return trailer_first(b, c);
    case BODY_TRAILER_NAME: return trailer_name(b, c);
    case BODY_TRAILER_VALUE: return trailer_value(b, c);
    case BODY_TRAILER_LF: return expect(b, c, '\n', BODY_TRAILER);
    default: return expect(b, c, '\n', BODY_DONE);
    }
}

/* One byte of framing. */
static bool framing_byte(struct http1_body *b, char c) {
    switch ((enum body_state)b->state) {
    case BODY_SIZE: return size_byte(b, c);
    case BODY_EXTENSION: return extension_byte(b, c);
    case BODY_SIZE_LF: return size_end(b, c);
    case BODY_DATA_CR: return expect(b, c, '\r', BODY_DATA_LF);
    case BODY_DATA_LF: return expect(b, c, '\n', BODY_SIZE);
    default: return trailer_byte(b, c);
    }
}

static size_t content_run(struct http1_body *b, size_t n) {
    if (b->state == BODY_CLOSE) return n;
    if (n > b->left) n = (size_t)b->left;
    b->left -= n;
    if (b->left == 0) b->state = b->state == BODY_DATA ? BODY_DATA_CR : BODY_DONE;
    return n;
}

size_t http1_body_run(struct http1_body *b, const void *p, size_t n, enum http1_run *run) {
    const char *c = p;
    size_t i = 0;

    *run = is_content(b->state) ? HTTP1_RUN_CONTENT : HTTP1_RUN_FRAMING;
    if (b->fault != HTTP1_FAULT_NONE || n == 0) return 0;
    if (is_content(b->state)) return content_run(b, n);
    while (i < n && b->state != BODY_DONE && !is_content(b->state) && framing_byte(b, c[i])) i++;
    return i;
}

size_t http1_body_span(struct http1_body *b, const void *p, size_t n) {
    size_t sum = 0, got;
    enum http1_run run;

    do {
        got = http1_body_run(b, (const char *)p + sum, n - sum, &run);
        sum += got;
    } while (got > 0);
    return sum;
}

bool http1_body_done(const struct http1_body *b) { return b->fault == HTTP1_FAULT_NONE && b->state == BODY_DONE; }

bool http1_body_eof(struct http1_body *b) {
    if (b->fault != HTTP1_FAULT_NONE) return false;
    if (b->state == BODY_CLOSE) b->state = BODY_DONE;
    return b->state == BODY_DONE || fail(b, HTTP1_FAULT_INCOMPLETE);
}
