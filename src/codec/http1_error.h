/* http1_error.h - what an HTTP/1.1 proxy answers when it does not serve a request: the status and the Proxy-Status
 * (RFC 9209) of every error, and the whole response.
 *
 * A response says who failed and why to programs (Proxy-Status) and to people (a small page). Texts from outside
 * may be given as they are: whatever their bytes, they end neither a header line nor a quoted string, nor do they
 * become markup. Pure functions: no I/O, no clock, no allocation.
 */
#ifndef ADIT_CODEC_HTTP1_ERROR_H
#define ADIT_CODEC_HTTP1_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/wire.h"

#define HTTP1_DETAIL_MAX 256 /* bytes of a detail that are shown; "..." stands for the rest */
#define HTTP1_FIELD_MAX 256  /* name and value of the field that a caller adds */
#define HTTP1_ERROR_MAX 4096 /* no response is longer */

/* The status for an err: 200 for 0, 500 for values that are not in the table. */
int http1_status(int err);
/* The registered error type of RFC 9209 section 2.3 for an err, such as "connection_refused"; NULL for 0.
 * Static. */
const char *http1_proxy_error(int err);
/* The reason phrase of the statuses above, of those of faults, and of 404 and 405; "" for others. Static. */
const char *http1_reason(int status);

/* Appends the value of a Proxy-Status field: `adit; error=dns_error; details="..."`, where the details are the
 * text of err (err.h) and, after ": ", the n bytes of detail if n is not 0. Bytes outside printable ASCII become
 * '?'. Nothing is appended for err 0. */
void http1_put_proxy_status(struct writer *w, int err, const void *detail, size_t n);

struct http1_error {
    int err;                 /* why: gives status, Proxy-Status and the page's text; 0: without the latter two */
    int status;              /* 0: http1_status(err). A fault of http1.h brings its own (http1_fault_status) */
    const void *detail;      /* foreign text for Proxy-Status and page; not looked at when detail_len is 0 */
    size_t detail_len;       /* bytes */
    const char *field_name;  /* one more field, such as Retry-After; NULL: none. Not a token, or more than */
    const char *field_value; /* HTTP1_FIELD_MAX bytes together: the writer turns bad */
    bool head;               /* answers HEAD: all fields, no body */
};

/* Appends the response, at most HTTP1_ERROR_MAX bytes: status line, Proxy-Status, the added field, a page that no
 * browser takes for anything but text, and `Connection: close`, which the caller must do. A 407 always carries the
 * Basic challenge. */
void http1_put_error(struct writer *w, const struct http1_error *e);

#endif
