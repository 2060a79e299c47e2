#include "codec/http1_response.h"

#include <stdio.h>
#include <string.h>

#include "codec/http1_impl.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

enum http1_fault http1_split_status_line(unsigned *minor, int *status, const char *p, size_t n) {
    if (n < 12 || p[8] != ' ' || (n > 12 && p[12] != ' ')) return HTTP1_FAULT_STATUS_LINE;
    if (http1_split_version(minor, p, 8) != HTTP1_FAULT_NONE) return HTTP1_FAULT_STATUS_LINE;
    if (!is_digit(p[9]) || p[9] == '0' || !is_digit(p[10]) || !is_digit(p[11])) return HTTP1_FAULT_STATUS_LINE;
    *status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    return HTTP1_FAULT_NONE;
}

static enum http1_end end_of(const struct http1_response *r, enum http1_framing framing, bool head_request) {
    if (head_request || r->status < 200 || r->status == 204 || r->status == 304) return HTTP1_END_NONE;
    if (framing == HTTP1_CHUNKED) return HTTP1_END_CHUNKED;
    return framing == HTTP1_LENGTH ? HTTP1_END_LENGTH : HTTP1_END_CLOSE;
}

int http1_response_parse(struct http1_response *r, const void *head, size_t n, bool head_request) {
    struct http1_scan s = {.response = true};
    const char *p = head;
    enum http1_framing framing;

    r->fault = HTTP1_FAULT_STATUS_LINE;
    int found = http1_head_end(&s, p, n);
    if (found < 0) r->fault = s.fault;
    if (found <= 0 || (size_t)found != n || p[0] == '\r') return http1_fault_err(r->fault);
    size_t line = (size_t)((const char *)memchr(p, '\r', n) - p);
    r->fault = http1_split_status_line(&r->minor, &r->status, p, line);
    r->reason = (struct http1_span){p + line, 0};
    if (line > 13) r->reason = (struct http1_span){p + 13, line - 13};
    if (r->fault == HTTP1_FAULT_NONE) r->fault = http1_split_fields(r->fields, &r->field_count, p, line + 2, n);
    if (r->fault == HTTP1_FAULT_NONE)
        r->fault = http1_find_framing(r->fields, r->field_count, r->minor, &framing, &r->content_length);
    if (r->fault != HTTP1_FAULT_NONE) return http1_fault_err(r->fault);
    r->end = end_of(r, framing, head_request);
    r->keep = r->minor == 1 && r->end != HTTP1_END_CLOSE && !http1_option(r->fields, r->field_count, "close");
    return 0;
}

bool http1_wants_upgrade(const struct http1_request *r) {
    return r->minor == 1 && http1_field(r, "upgrade", NULL) && http1_connection_has(r, "upgrade");
}

/* HTTP/1.0 has no way to keep a connection that a proxy could trust (RFC 9112 section 9.3). */
bool http1_wants_keep(const struct http1_request *r) { return r->minor == 1 && !http1_connection_has(r, "close"); }

bool http1_idempotent(const struct http1_request *r) {
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (http1_method_is(r, methods[i])) return true;
    return false;
}

/* --- passing on --- */

static void put_text(struct writer *w, const char *text) { writer_bytes(w, text, strlen(text)); }

static void put_field(struct writer *w, const struct http1_field *f) {
    writer_bytes(w, f->name.p, f->name.n);
    put_text(w, ": ");
    writer_bytes(w, f->value.p, f->value.n);
    put_text(w, "\r\n");
}

/* An equal length once more (the parser took no other) is left out. */
static bool is_repeated_length(const struct http1_field *fields, unsigned n, const struct http1_field *f) {
    return http1_span_is(f->name, "content-length") && http1_find(fields, n, "content-length", NULL) != f;
}

static bool is_one_of(struct http1_span name, const char *const *names) {
    for (; *names; names++)
        if (http1_span_is(name, *names)) return true;
    return false;
}

/* Fields whose meaning ends here. A Connection field can name any other, but not one that frames the message or says where
 * it goes: else a client could have it read differently behind us. */
static bool is_of_hop(const struct http1_field *fields, unsigned n, struct http1_span name) {
    static const char *const always[] = {"connection",          "keep-alive", "proxy-connection", "te", "upgrade",
                                         "proxy-authorization", "proxy-authenticate", NULL};
    static const char *const never[] = {"host", "content-length", "transfer-encoding", "trailer", "cache-control", NULL};
    const struct http1_field *f = NULL;
    char text[64];
    if (is_one_of(name, always)) return true;
    if (is_one_of(name, never) || name.n >= sizeof text) return false;
    memcpy(text, name.p, name.n);
    text[name.n] = 0;
    while ((f = http1_find(fields, n, "connection", f)))
        if (http1_list_has(f->value, text)) return true;
    return false;
}

void http1_put_request(struct writer *w, const struct http1_request *r) {
    bool upgrade = http1_wants_upgrade(r);
    writer_bytes(w, r->method.p, r->method.n);
    writer_u8(w, ' ');
    http1_put_origin_target(w, r);
    put_text(w, " HTTP/1.1\r\nHost: ");
    writer_bytes(w, r->authority.p, r->authority.n);
    put_text(w, "\r\n");
    for (unsigned i = 0; i < r->field_count; i++) {
        const struct http1_field *f = &r->fields[i];
        if (http1_span_is(f->name, "host") || is_repeated_length(r->fields, r->field_count, f)) continue;
        if (is_of_hop(r->fields, r->field_count, f->name) && !(upgrade && http1_span_is(f->name, "upgrade"))) continue;
        put_field(w, f);
    }
    put_text(w, upgrade ? "Connection: upgrade\r\n\r\n" : "\r\n");
}

void http1_put_response(struct writer *w, const struct http1_response *r, bool keep, bool upgrade, bool unchunk) {
    char line[32];
    int n = snprintf(line, sizeof line, "HTTP/1.1 %d ", r->status);
    writer_bytes(w, line, (size_t)n);
    writer_bytes(w, r->reason.p, r->reason.n);
    put_text(w, "\r\n");
    for (unsigned i = 0; i < r->field_count; i++) {
        const struct http1_field *f = &r->fields[i];
        if (is_repeated_length(r->fields, r->field_count, f)) continue;
        if (unchunk && (http1_span_is(f->name, "transfer-encoding") || http1_span_is(f->name, "trailer"))) continue;
        if (is_of_hop(r->fields, r->field_count, f->name) && !(upgrade && http1_span_is(f->name, "upgrade"))) continue;
        put_field(w, f);
    }
    if (upgrade) put_text(w, "Connection: upgrade\r\n");
    else if (r->status >= 200 && !keep) put_text(w, "Connection: close\r\n");
    put_text(w, "\r\n");
}
