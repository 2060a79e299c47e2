/* http1.h - the head of an HTTP/1.x message as a proxy reads it (RFC 9110, RFC 9112, RFC 7617), strictly.
 *
 * First http1_head_end() finds where the head ends, looking at each byte once however they arrive; then
 * http1_parse() takes it apart into spans of the caller's bytes; then http1_dest() says where it wants to go. What
 * another parser could read differently is refused, not repaired: bare CR or LF, NUL, folded lines, white space
 * before a colon, two lengths. Pure functions: no I/O, no clock, no allocation; which requests are served, and for
 * whom, is the caller's business. The answers to refused requests are in http1_error.h, the heads of responses in
 * http1_response.h, bodies in http1_body.h, and what a proxy makes of a head that it passes on in http1_forward.h.
 *
 * Errors    0 (or what the function says), or a negative enum err. Beside it a `fault` tells more precisely what
 *           was wrong, with the status that RFC 9110 or 9112 asks for and a text for people that quotes nothing.
 * Lifetime  Spans point into the bytes given to http1_parse() and live as long as these stay where they are. They
 *           are not terminated. A target may hold credentials: do not log one that http1_dest() refused.
 */
#ifndef ADIT_CODEC_HTTP1_H
#define ADIT_CODEC_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dest.h"
#include "base/err.h"
#include "base/wire.h"

#define HTTP1_LINE_MAX 8192  /* bytes of the request line, its CR LF included */
#define HTTP1_HEAD_MAX 65536 /* bytes of the whole head, from the first byte to the end of the empty line */
#define HTTP1_FIELDS_MAX 100 /* header fields */
#define HTTP1_BASIC_MAX 1024 /* a fair room for user, ':' and password of http1_basic() */

/* X(symbol, err, status, text) */
#define HTTP1_FAULT_TABLE(X)                                                                                  \
    X(NONE, ERR_OK, 200, "no fault")                                                                          \
    X(LINE_LENGTH, ERR_CLIENT_TOO_LARGE, 414, "the first line is too long")                                   \
    X(HEAD_LENGTH, ERR_CLIENT_TOO_LARGE, 431, "the header is too long")                                       \
    X(FIELD_COUNT, ERR_CLIENT_TOO_LARGE, 431, "there are too many header fields")                             \
    X(LINE_END, ERR_CLIENT_PROTOCOL, 400, "a carriage return or a line feed stands alone")                    \
    X(CONTROL, ERR_CLIENT_PROTOCOL, 400, "a control character in the header")                                 \
    X(EMPTY_LINE, ERR_CLIENT_PROTOCOL, 400, "empty lines where the message should begin")                     \
    X(METHOD, ERR_CLIENT_PROTOCOL, 400, "the method is malformed")                                            \
    X(REQUEST_LINE, ERR_CLIENT_PROTOCOL, 400, "the request line is malformed")                                \
    X(VERSION, ERR_CLIENT_PROTOCOL, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here")                        \
    X(TARGET, ERR_CLIENT_PROTOCOL, 400, "the request target is malformed")                                    \
    X(SCHEME, ERR_CLIENT_DESTINATION, 400, "only http:// targets can be requested; use CONNECT for others")   \
    X(FOLD, ERR_CLIENT_PROTOCOL, 400, "a header line is folded")                                              \
    X(FIELD_NAME, ERR_CLIENT_PROTOCOL, 400, "a header field's name is malformed")                             \
    X(HOST, ERR_CLIENT_PROTOCOL, 400, "the Host field is missing, repeated or malformed")                     \
    X(LENGTH, ERR_CLIENT_PROTOCOL, 400, "the Content-Length field is malformed or contradicts itself")        \
    X(CODING, ERR_CLIENT_PROTOCOL, 400, "the last transfer coding is not chunked")                            \
    X(CODING_UNKNOWN, ERR_CLIENT_PROTOCOL, 501, "a transfer coding other than chunked")                       \
    X(FRAMING, ERR_CLIENT_PROTOCOL, 400, "a Transfer-Encoding field with Content-Length or in HTTP/1.0")      \
    X(STATUS_LINE, ERR_CLIENT_PROTOCOL, 400, "the status line is malformed")                                  \
    X(CHUNK, ERR_CLIENT_PROTOCOL, 400, "a chunk of the body is malformed")                                    \
    X(TRAILER, ERR_CLIENT_PROTOCOL, 400, "a trailer field is malformed")                                      \
    X(TRAILER_LENGTH, ERR_CLIENT_TOO_LARGE, 431, "the trailer is too long")                                   \
    X(INCOMPLETE, ERR_CLIENT_GONE, 400, "the message ends too early")                                         \
    X(NO_DESTINATION, ERR_CLIENT_DESTINATION, 400, "this is a proxy, and the request names no destination")   \
    X(USERINFO, ERR_CLIENT_DESTINATION, 400, "the destination contains user information")                     \
    X(PORT, ERR_CLIENT_DESTINATION, 400, "the destination's port is missing or not within 1 to 65535")        \
    X(NAME, ERR_CLIENT_DESTINATION, 400, "the destination is not a valid name or address")

enum http1_fault {
#define X(symbol, err, status, text) HTTP1_FAULT_##symbol,
    HTTP1_FAULT_TABLE(X)
#undef X
};

/* The err that comes with a fault. */
enum err http1_fault_err(enum http1_fault fault);
/* The HTTP status to answer with. */
int http1_fault_status(enum http1_fault fault);
/* A short sentence part for people, lower case, no full stop; static storage. */
const char *http1_fault_text(enum http1_fault fault);

/* --- finding the head --- */

/* Whether a request can begin with this byte: a letter or another token character, or the CR of an empty line. A
 * port that serves several protocols tells HTTP from SOCKS and TLS by it. */
bool http1_may_begin(uint8_t first);

/* How far the search has come. All zeros at the start of each message, but for `response`; the other fields are private,
 * `fault` excepted. */
struct http1_scan {
    bool response;          /* what is searched is a response's head (http1_response.h) */
    size_t at;              /* bytes already seen */
    size_t line;            /* where the current line begins */
    unsigned lines;         /* complete lines before it: the request line and the fields */
    int end;                /* length of the head, once known */
    enum http1_fault fault; /* why the last call failed */
};

/* Looks through the n contiguous bytes that have arrived since the message began: each time the same as before
 * (wherever they lie now) and more. Returns the length of the head with its empty line, 0 when more bytes are
 * needed, or a negative err with s->fault; both outcomes stay. With n >= HTTP1_HEAD_MAX it never returns 0.
 *
 * Limits, line ends, control characters and the request line are judged as soon as they are there, and the outcome
 * does not depend on how the bytes were cut. One empty line before the request line is skipped and counts into the
 * length. A request line without version is HTTP/0.9 and gets the fault VERSION, as does the preface of HTTP/2. A
 * response begins with its status line. */
int http1_head_end(struct http1_scan *s, const void *p, size_t n);

/* --- taking it apart --- */

struct http1_span {
    const char *p;
    size_t n;
};

struct http1_field {
    struct http1_span name;  /* a token, as written */
    struct http1_span value; /* without blanks at its ends, no control bytes but HTAB; may be empty or not ASCII */
};

struct http1_fields {
    unsigned count;
    struct http1_field v[HTTP1_FIELDS_MAX];
};

/* Equal but for the case of ASCII letters. */
bool http1_span_is(struct http1_span s, const char *text);
/* The first field of that name (in any case) after `after`, or from the start for NULL. NULL: no more. */
const struct http1_field *http1_field(const struct http1_fields *fields, const char *name,
                                      const struct http1_field *after);
/* Whether a comma-separated value holds the token, in any case. */
bool http1_list_has(struct http1_span value, const char *token);
/* Whether any Connection field holds the option, in any case: "close", or the name of a field that must not be
 * passed on. */
bool http1_connection_has(const struct http1_fields *fields, const char *option);
/* 1*DIGIT up to INT64_MAX: no sign, no blanks, no list. false otherwise. */
bool http1_length(struct http1_span value, uint64_t *length);

enum http1_form {
    HTTP1_ORIGIN,    /* "/path?query" */
    HTTP1_ABSOLUTE,  /* "http://authority/path?query" */
    HTTP1_AUTHORITY, /* "host:port", of CONNECT and always there */
    HTTP1_ASTERISK,  /* "*", of OPTIONS only */
};

/* What ends the body. */
enum http1_framing {
    HTTP1_NO_BODY,
    HTTP1_LENGTH,
    HTTP1_CHUNKED,
    HTTP1_CLOSE, /* the end of the connection; responses only */
};

struct http1_request {
    enum http1_fault fault;
    size_t head_len;          /* bytes of the head */
    struct http1_span method; /* a token; methods are case-sensitive */
    struct http1_span target; /* visible ASCII without '#' */
    unsigned minor;           /* of HTTP/1.minor: 0 or 1 */
    enum http1_form form;
    struct http1_span authority; /* ABSOLUTE, AUTHORITY: as written, not yet judged; else empty */
    struct http1_span path;      /* ORIGIN: the target. ABSOLUTE: what follows the authority: empty, or from '/' or
                                  * '?' on (see http1_put_origin_target). Else empty */
    enum http1_framing framing;  /* of the body that follows; meaningless for CONNECT: there the tunnel follows */
    uint64_t content_length;     /* HTTP1_LENGTH: at most INT64_MAX */
    const struct http1_field *host; /* NULL: none. For the log only: the target is what names the destination */
    struct http1_fields fields;
};

/* Takes apart the n bytes that http1_head_end() called a head. 0, or a negative err with r->fault (and the rest of
 * *r unspecified). The bytes need not have been searched before: anything but exactly one head is refused.
 *
 * Refused as well: a Host that is repeated, malformed, or missing in HTTP/1.1 (a CONNECT may lack it: its target
 * says all, and clients in use leave it out); a length that is not plain digits, too large, or repeated with
 * another value; Transfer-Encoding other than a lone "chunked", along with Content-Length, or in HTTP/1.0; an
 * absolute target of another scheme than http. */
int http1_parse(struct http1_request *r, const void *p, size_t n);

/* Case-sensitive, as methods are. */
bool http1_method_is(const struct http1_request *r, const char *method);

/* --- where it wants to go --- */

/* The destination of a CONNECT (port required) or of an absolute target (port 80 unless given), always DEST_TCP.
 * 0, or ERR_CLIENT_DESTINATION with r->fault: userinfo, a bad or missing port, a host that dest.h refuses, or a
 * form that names no destination. The Host field is never consulted. */
int http1_dest(struct http1_request *r, struct dest *d);

/* host[:port] as in an authority or a Host field: the host a name, an IPv4 address or an IPv6 address in brackets,
 * the port 1 to 5 digits within 1..65535, and required when default_port is 0. 0 or ERR_CLIENT_DESTINATION. */
int http1_authority(struct dest *d, const void *text, size_t n, uint16_t default_port);

/* Appends the target to ask the origin server for (RFC 9112 section 3.2.1): path and query, with the '/' that an
 * absolute target may lack, or "*" for an OPTIONS without path. */
void http1_put_origin_target(struct writer *w, const struct http1_request *r);

/* --- credentials --- */

struct http1_basic {
    const uint8_t *user, *password; /* in the caller's buffer; any bytes, but no ':' in user; may be empty */
    size_t user_len, password_len;
};

/* Decodes the Basic credentials of Proxy-Authorization into buf (cap bytes; what does not fit is not accepted). 1
 * when there are some, 0 when there is no such field, ERR_CLIENT_AUTH when they are of another scheme, not strict
 * base64, without colon or too long, ERR_CLIENT_PROTOCOL when the field is repeated. The caller wipes buf after a
 * 1; otherwise nothing is left in it. */
int http1_basic(const struct http1_request *r, uint8_t *buf, size_t cap, struct http1_basic *c);

/* --- the answer to a CONNECT that is served --- */

/* "HTTP/1.1 200 Connection established" and the empty line: everything after it is the tunnel. 39 bytes. */
void http1_put_connect_ok(struct writer *w);

#endif
