/* http1_response.h - the head of an HTTP/1.x response as a proxy reads it, and the heads that it passes on.
 *
 * As strict as http1.h, for the same reason: what a client could read differently is refused. Find the head with
 * http1_head_end() (`response` set), then http1_response_parse(). The http1_put_ functions write what goes to the other
 * side: fields of the hop (Connection and what it names, Keep-Alive, Proxy-*, TE, Upgrade unless it is used) stay behind,
 * everything else is passed on byte for byte and in order. No Via is added: adit does not tell of itself.
 * Pure functions: no I/O, no clock, no allocation. Sources: RFC 9110 sections 6.4, 7.6 and 15, RFC 9112 sections 4, 6, 9.
 */
#ifndef ADIT_CODEC_HTTP1_RESPONSE_H
#define ADIT_CODEC_HTTP1_RESPONSE_H

#include "codec/http1.h"

/* Bytes that a head grows at most when it is passed on. */
#define HTTP1_HEAD_GROWTH 512

enum http1_end {
    HTTP1_END_NONE,    /* no body: 1xx, 204, 304, an answer to HEAD */
    HTTP1_END_LENGTH,
    HTTP1_END_CHUNKED,
    HTTP1_END_CLOSE,   /* the body goes on to the end of the connection */
};

struct http1_response {
    enum http1_fault fault;
    int status;     /* 100 to 999 */
    unsigned minor; /* of HTTP/1.minor */
    struct http1_span reason;
    enum http1_end end;
    uint64_t content_length; /* HTTP1_END_LENGTH */
    bool keep;               /* the connection can carry another exchange after the body */
    unsigned field_count;
    struct http1_field fields[HTTP1_FIELDS_MAX];
};

/* Takes apart the n bytes of a head. head_request: it answers HEAD. 0, or a negative err (ERR_CLIENT_*, by the fault:
 * callers say that the destination broke the protocol) with r->fault. */
int http1_response_parse(struct http1_response *r, const void *p, size_t n, bool head_request);

/* Whether the client asks to change the protocol: an Upgrade field that Connection names, in HTTP/1.1. */
bool http1_wants_upgrade(const struct http1_request *r);
/* Whether the client's connection may carry another request. */
bool http1_wants_keep(const struct http1_request *r);
/* Whether the request may be sent twice: a safe method, or one that is idempotent (RFC 9110 section 9.2.2). */
bool http1_idempotent(const struct http1_request *r);

/* The request as the origin server gets it: origin-form, Host from the target, HTTP/1.1, and no credentials of the proxy. */
void http1_put_request(struct writer *w, const struct http1_request *r);
/* The response as the client gets it. keep: whether its connection stays open; upgrade: 101, whose fields of the hop are
 * passed on; unchunk: Transfer-Encoding is left out. */
void http1_put_response(struct writer *w, const struct http1_response *r, bool keep, bool upgrade, bool unchunk);

#endif
