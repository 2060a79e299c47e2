#include "codec/http1_forward.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void put(struct writer *w, const char *text) { writer_bytes(w, text, strlen(text)); }

static void put_span(struct writer *w, struct http1_span s) { writer_bytes(w, s.p, s.n); }

static void put_field(struct writer *w, const struct http1_field *f) {
    put_span(w, f->name);
    put(w, ": ");
    put_span(w, f->value);
    put(w, "\r\n");
}

static void put_number(struct writer *w, const char *name, uint64_t n) {
    char line[64];
    snprintf(line, sizeof line, "%s: %" PRIu64 "\r\n", name, n);
    put(w, line);
}

static bool is_any(struct http1_span name, const char *const *names) {
    for (; *names; names++)
        if (http1_span_is(name, *names)) return true;
    return false;
}

/* Whether some Connection field names this one. */
static bool is_named(const struct http1_fields *fields, struct http1_span name) {
    char text[256];
    if (name.n >= sizeof text) return false; /* nobody's hop-by-hop field */
    memcpy(text, name.p, name.n);
    text[name.n] = 0;
    return http1_connection_has(fields, text);
}

/* Everything but what is for one hop alone, and what the caller writes by itself. */
static void put_fields(struct writer *w, const struct http1_fields *fields, const char *const *own) {
    static const char *const hop[] = {"connection", "keep-alive", "proxy-connection", "te", "upgrade",
                                      "http2-settings", "proxy-authorization", "proxy-authenticate",
                                      "proxy-authentication-info", "content-length", "transfer-encoding", NULL};
    for (unsigned i = 0; i < fields->count; i++) {
        const struct http1_field *f = &fields->v[i];
        if (!is_any(f->name, hop) && !is_any(f->name, own) && !is_named(fields, f->name)) put_field(w, f);
    }
}

static void put_connection(struct writer *w, const struct http1_fields *fields, unsigned flags) {
    const struct http1_field *f = NULL;
    if (flags & HTTP1_FORWARD_CLOSE) put(w, "Connection: close\r\n");
    if (!(flags & HTTP1_FORWARD_UPGRADE)) return;
    put(w, "Connection: upgrade\r\n");
    while ((f = http1_field(fields, "upgrade", f))) put_field(w, f);
}

/* --- requests --- */

static bool traces(const struct http1_request *r) {
    return http1_method_is(r, "TRACE") || http1_method_is(r, "OPTIONS");
}

enum http1_hops http1_hops(const struct http1_request *r) {
    const struct http1_field *f = http1_field(&r->fields, "max-forwards", NULL);
    uint64_t left;
    if (!f || !traces(r)) return HTTP1_HOPS_ON;
    if (http1_field(&r->fields, "max-forwards", f) || !http1_length(f->value, &left)) return HTTP1_HOPS_BROKEN;
    return left ? HTTP1_HOPS_ON : HTTP1_HOPS_END;
}

bool http1_wants_upgrade(const struct http1_request *r) {
    const struct http1_field *f = NULL;
    bool body = r->framing == HTTP1_CHUNKED || (r->framing == HTTP1_LENGTH && r->content_length > 0);
    if (r->minor == 0 || body || !http1_connection_has(&r->fields, "upgrade")) return false;
    while ((f = http1_field(&r->fields, "upgrade", f)))
        if (http1_list_has(f->value, "h2c")) return false;
    return http1_field(&r->fields, "upgrade", NULL) != NULL;
}

bool http1_repeatable(const struct http1_request *r) {
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    if (r->framing == HTTP1_CHUNKED || (r->framing == HTTP1_LENGTH && r->content_length > 0)) return false;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (http1_method_is(r, methods[i])) return true;
    return false;
}

/* host[:port], the port only where it is not 80. */
static void put_host(struct writer *w, const struct dest *d) {
    char text[DEST_TEXT_MAX];
    dest_format(d, text, sizeof text);
    if (d->port == 80) *strrchr(text, ':') = 0;
    put(w, "Host: ");
    put(w, text);
    put(w, "\r\n");
}

void http1_put_request(struct writer *w, const struct http1_request *r, const struct dest *d, unsigned flags) {
    const struct http1_field *hops = http1_field(&r->fields, "max-forwards", NULL);
    const char *own[4] = {"host"};
    uint64_t left;
    size_t n = 1;

    if (hops && traces(r) && http1_length(hops->value, &left) && left > 0) own[n++] = "max-forwards";
    else hops = NULL;
    if (r->minor == 0) own[n++] = "expect"; /* nobody waits for it (RFC 9110 section 10.1.1) */

    put_span(w, r->method);
    put(w, " ");
    http1_put_origin_target(w, r);
    put(w, " HTTP/1.1\r\n");
    put_host(w, d);
    put_fields(w, &r->fields, own);
    if (hops) put_number(w, "Max-Forwards", left - 1);
    if (r->framing == HTTP1_LENGTH) put_number(w, "Content-Length", r->content_length);
    if (r->framing == HTTP1_CHUNKED) put(w, "Transfer-Encoding: chunked\r\n");
    put_connection(w, &r->fields, flags);
    put(w, "\r\n");
}

/* --- responses --- */

/* What a response says of the body that a GET would have had; 1xx and 204 must not say anything. */
static void put_absent_body(struct writer *w, const struct http1_response *r) {
    const struct http1_field *f = http1_field(&r->fields, "content-length", NULL);
    if (f && r->status >= 200 && r->status != 204) put_field(w, f);
}

void http1_put_response(struct writer *w, const struct http1_response *r, unsigned flags) {
    static const char *const own[] = {NULL};
    char version[24];

    snprintf(version, sizeof version, "HTTP/1.1 %03d ", r->status);
    put(w, version);
    put_span(w, r->reason);
    put(w, "\r\n");
    put_fields(w, &r->fields, own);
    if (r->framing == HTTP1_NO_BODY) put_absent_body(w, r);
    if (r->framing == HTTP1_LENGTH) put_number(w, "Content-Length", r->content_length);
    if (r->framing == HTTP1_CHUNKED && !(flags & HTTP1_FORWARD_PLAIN)) put(w, "Transfer-Encoding: chunked\r\n");
    put_connection(w, &r->fields, flags);
    put(w, "\r\n");
}
