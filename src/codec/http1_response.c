#include "codec/http1_response.h"

#include <string.h>

#include "codec/http1_impl.h"

struct status_line {
    unsigned minor;
    int status;
    struct http1_span reason;
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* version SP 3DIGIT [SP reason]: the second blank is left out by servers in use when there is no reason. */
static enum http1_fault split_status_line(struct status_line *l, const char *p, size_t n) {
    if (n < 12 || p[8] != ' ') return HTTP1_FAULT_STATUS_LINE;
    enum http1_fault fault = http1_split_version(&l->minor, p, 8);
    if (fault != HTTP1_FAULT_NONE) return fault == HTTP1_FAULT_VERSION ? fault : HTTP1_FAULT_STATUS_LINE;
    for (size_t i = 9; i < 12; i++)
        if (!is_digit(p[i])) return HTTP1_FAULT_STATUS_LINE;
    l->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    if (l->status < 100 || l->status > 599) return HTTP1_FAULT_STATUS_LINE;
    if (n > 12 && p[12] != ' ') return HTTP1_FAULT_STATUS_LINE;
    l->reason = (struct http1_span){p + (n > 12 ? 13 : 12), n > 12 ? n - 13 : 0};
    return HTTP1_FAULT_NONE;
}

enum http1_fault http1_check_status_line(const char *p, size_t n) {
    struct status_line ignored;
    return split_status_line(&ignored, p, n);
}

static enum http1_fault check_body(struct http1_response *r, bool head) {
    enum http1_fault fault = http1_check_framing(&r->framing, &r->content_length, &r->fields, r->minor);
    if (head || r->status < 200 || r->status == 204 || r->status == 304) r->framing = HTTP1_NO_BODY;
    else if (r->framing == HTTP1_NO_BODY) r->framing = HTTP1_CLOSE;
    return fault;
}

static bool is_persistent(const struct http1_response *r) {
    if (r->framing == HTTP1_CLOSE || http1_connection_has(&r->fields, "close")) return false;
    return r->minor == 1 || http1_connection_has(&r->fields, "keep-alive");
}

static enum http1_fault split_head(struct http1_response *r, const char *p, size_t n) {
    struct status_line line;
    size_t end = (size_t)((const char *)memchr(p, '\r', n) - p);
    enum http1_fault fault = split_status_line(&line, p, end);
    if (fault != HTTP1_FAULT_NONE) return fault;
    r->minor = line.minor;
    r->status = line.status;
    r->reason = line.reason;
    return http1_split_fields(&r->fields, p, n, end + 2);
}

int http1_parse_response(struct http1_response *r, const void *p, size_t n, bool head) {
    struct http1_scan s = {.response = true};

    r->fields.count = 0;
    r->fault = HTTP1_FAULT_STATUS_LINE;
    int end = http1_head_end(&s, p, n);
    if (end < 0) r->fault = s.fault;
    if (end <= 0 || (size_t)end != n) return http1_response_err(r->fault);

    r->fault = split_head(r, p, n);
    if (r->fault == HTTP1_FAULT_NONE) r->fault = check_body(r, head);
    if (r->fault != HTTP1_FAULT_NONE) return http1_response_err(r->fault);
    r->persistent = is_persistent(r);
    return 0;
}

enum err http1_response_err(enum http1_fault fault) {
    if (fault == HTTP1_FAULT_NONE) return ERR_OK;
    if (fault == HTTP1_FAULT_INCOMPLETE) return ERR_TARGET_CLOSED;
    return http1_fault_err(fault) == ERR_CLIENT_TOO_LARGE ? ERR_TARGET_TOO_LARGE : ERR_TARGET_PROTOCOL;
}
