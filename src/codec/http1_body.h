/* http1_body.h - where the body of an HTTP/1.x message ends, and what of it is content (RFC 9112 sections 6 and 7).
 *
 * A machine that is fed the bytes after the head, cut anyhow, and says how many of the next ones belong to the body and
 * which are content. It keeps none of them: a proxy passes them on as they are, chunk framing included. Strict: chunk
 * sizes are 1 to 16 hexadecimal digits, lines end in CR LF, extensions and trailers are bounded and hold no control bytes.
 * Pure functions: no I/O, no clock, no allocation; a plain value that may be copied, so that a caller can try.
 */
#ifndef ADIT_CODEC_HTTP1_BODY_H
#define ADIT_CODEC_HTTP1_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/http1_response.h"

#define HTTP1_EXTENSION_MAX 1024 /* bytes of one chunk's extensions */
#define HTTP1_TRAILER_MAX 8192   /* bytes of the trailers */

enum http1_body_state {
    HTTP1_BODY_DONE,
    HTTP1_BODY_PLAIN, /* `left` bytes of content; UINT64_MAX: until the end of the connection */
    HTTP1_BODY_SIZE,
    HTTP1_BODY_EXTENSION,
    HTTP1_BODY_SIZE_LF,
    HTTP1_BODY_CHUNK,
    HTTP1_BODY_CHUNK_CR,
    HTTP1_BODY_CHUNK_LF,
    HTTP1_BODY_LINE,    /* at the start of a trailer line, or of the empty one */
    HTTP1_BODY_TRAILER, /* inside of one */
    HTTP1_BODY_TRAILER_LF,
    HTTP1_BODY_LAST_LF,
};

struct http1_body {
    enum http1_body_state state;
    uint64_t left; /* of the content, or of the chunk */
    unsigned line; /* digits of the size, bytes of the extension or of all trailers */
};

void http1_body_init(struct http1_body *b, enum http1_end end, uint64_t length);
bool http1_body_done(const struct http1_body *b);
/* Looks at the next n bytes: takes one piece of them and returns its length, more than 0 unless done or n is 0.
 * *content: the piece is content, not framing. ERR_CLIENT_PROTOCOL: malformed. */
long http1_body_take(struct http1_body *b, const void *p, size_t n, bool *content);
/* The same for as many pieces as there are: how many of the n bytes belong to the body. */
long http1_body_take_all(struct http1_body *b, const void *p, size_t n);
/* The connection ended: whether the body is complete (it was to end so, or had ended). */
bool http1_body_eof(const struct http1_body *b);

#endif
