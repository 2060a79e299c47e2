/* http1_body.h - where the body of an HTTP/1.x message ends (RFC 9112 sections 6 and 7), strictly, in any pieces.
 *
 * A machine that is shown the bytes behind a head, each once and in order, and says how many of them belong to the body.
 * Nothing is copied, kept or changed: whoever passes a body on passes on just these bytes. Chunk extensions and trailer
 * fields are judged by their form alone. Pure functions: no I/O, no clock, no allocation.
 *
 * Refused: a size that is not 1 to 16 hexadecimal digits up to INT64_MAX, white space around it, a line end other than CR
 * LF, control characters, and trailers that are no header fields.
 */
#ifndef ADIT_CODEC_HTTP1_BODY_H
#define ADIT_CODEC_HTTP1_BODY_H

#include "codec/http1.h"

#define HTTP1_CHUNK_LINE_MAX 1024 /* bytes of a chunk's size and extensions, without CR LF */
#define HTTP1_TRAILER_MAX 8192    /* bytes of all trailer fields, with the empty line; at most HTTP1_FIELDS_MAX fields */

enum http1_run {
    HTTP1_RUN_CONTENT, /* what the message says */
    HTTP1_RUN_FRAMING, /* chunk sizes, extensions, line ends, trailers */
};

/* Private but for `fault`. */
struct http1_body {
    enum http1_fault fault; /* why a call failed */
    int state;
    uint64_t left;   /* of the length, or of the chunk */
    unsigned line;   /* bytes of the current line */
    unsigned total;  /* bytes of the trailer */
    unsigned fields; /* in it */
};

/* content_length is looked at for HTTP1_LENGTH alone. */
void http1_body_init(struct http1_body *b, enum http1_framing framing, uint64_t content_length);

/* How many of the n next bytes are one run of the body, and of which kind: 0 to n. 0 with n > 0 when the body is over or
 * the next byte is wrong; which, http1_body_done() or b->fault say. */
size_t http1_body_run(struct http1_body *b, const void *p, size_t n, enum http1_run *run);
/* The same over runs of both kinds. What comes before a wrong byte is counted, the fault is there at once. */
size_t http1_body_span(struct http1_body *b, const void *p, size_t n);
bool http1_body_done(const struct http1_body *b);
/* The connection ended here: false, with fault INCOMPLETE, unless the body is done or ends so. */
bool http1_body_eof(struct http1_body *b);

#endif
