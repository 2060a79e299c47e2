/* http1_response.h - the head of an HTTP/1.x response as a proxy reads it from an origin (RFC 9110, RFC 9112), strictly.
 *
 * The head is found by http1_head_end() (http1.h) with a scan whose `response` is set. Limits, errors and lifetimes are
 * those of http1.h; what a client could read in another way than adit is refused, not repaired.
 */
#ifndef ADIT_CODEC_HTTP1_RESPONSE_H
#define ADIT_CODEC_HTTP1_RESPONSE_H

#include "codec/http1.h"

struct http1_response {
    enum http1_fault fault;
    unsigned minor;           /* of HTTP/1.minor: 0 or 1 */
    int status;               /* 100..599 */
    struct http1_span reason; /* may be empty, or not ASCII */
    enum http1_framing framing; /* of the body that follows */
    uint64_t content_length;  /* HTTP1_LENGTH: at most INT64_MAX */
    bool persistent;          /* the connection may be used again after this response (RFC 9112 section 9.3) */
    struct http1_fields fields;
};

/* Takes apart the n bytes that http1_head_end() called a head: the answer to a request whose method was HEAD (`head`) or
 * another one but CONNECT. 0, or a negative err with r->fault (and the rest of *r unspecified).
 *
 * The body is what RFC 9112 section 6.3 says: none after 1xx, 204, 304 and HEAD, whatever the fields say; then by
 * Transfer-Encoding, by Content-Length, or up to the end of the connection. Refused as in requests: a length that is not
 * plain digits or contradicts another, Transfer-Encoding with Content-Length, in HTTP/1.0, or other than "chunked". */
int http1_parse_response(struct http1_response *r, const void *p, size_t n, bool head);

/* The err of a fault in a response, a class of its own: ERR_TARGET_PROTOCOL, ERR_TARGET_TOO_LARGE, ERR_TARGET_CLOSED. */
enum err http1_response_err(enum http1_fault fault);

#endif
