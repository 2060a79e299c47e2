#include "codec/http1.h"

#include <string.h>
#include <strings.h>

#include "base/secret.h"
#include "codec/base64.h"
#include "codec/http1_impl.h"

static const struct {
    enum err err;
    int status;
    const char *text;
} faults[] = {
#define X(symbol, err_, status_, text_) [HTTP1_FAULT_##symbol] = {err_, status_, text_},
    HTTP1_FAULT_TABLE(X)
#undef X
};

enum err http1_fault_err(enum http1_fault fault) { return faults[fault].err; }

int http1_fault_status(enum http1_fault fault) { return faults[fault].status; }

const char *http1_fault_text(enum http1_fault fault) { return faults[fault].text; }

/* --- characters (RFC 9110 section 5.6.2, RFC 3986) --- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static bool is_one_of(char c, const char *set) { return c != 0 && strchr(set, c) != NULL; }

bool http1_is_token(char c) { return is_alpha(c) || is_digit(c) || is_one_of(c, "!#$%&'*+-.^_`|~"); }

/* No '#': a fragment is never sent, and what it would mean to the next parser is anyone's guess. */
static bool is_target(char c) { return c > ' ' && c < 0x7f && c != '#'; }

static bool is_scheme(char c) { return is_alpha(c) || is_digit(c) || is_one_of(c, "+-."); }

static bool is_host(char c) { return is_alpha(c) || is_digit(c) || is_one_of(c, "-._~%!$&'()*+,;=:[]"); }

/* CR and LF are for the line ends to judge; HTAB is white space. */
bool http1_is_control(char c) {
    uint8_t u = (uint8_t)c;
    return (u < ' ' || u == 0x7f) && u != '\t' && u != '\r' && u != '\n';
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* How many bytes of p from `at` on satisfy `is`. */
static size_t span_of(bool (*is)(char), const char *p, size_t n, size_t at) {
    size_t i = at;
    while (i < n && is(p[i])) i++;
    return i - at;
}

static struct http1_span trim(struct http1_span s) {
    while (s.n > 0 && is_blank(s.p[0])) s.p++, s.n--;
    while (s.n > 0 && is_blank(s.p[s.n - 1])) s.n--;
    return s;
}

bool http1_may_begin(uint8_t first) { return first == '\r' || http1_is_token((char)first); }

/* --- the request line --- */

struct request_line {
    struct http1_span method, target;
    unsigned minor;
};

enum http1_fault http1_split_version(unsigned *minor, const char *p, size_t n) {
    if (n < 6 || memcmp(p, "HTTP/", 5) != 0 || !is_digit(p[5])) return HTTP1_FAULT_REQUEST_LINE;
    if (n == 8 && memcmp(p + 5, "1.", 2) == 0 && (p[7] == '0' || p[7] == '1')) {
        *minor = p[7] == '1';
        return HTTP1_FAULT_NONE;
    }
    for (size_t i = 5; i < n; i++)
        if (!is_digit(p[i]) && p[i] != '.') return HTTP1_FAULT_REQUEST_LINE;
    return HTTP1_FAULT_VERSION;
}

/* method SP target SP version, without the line end. */
static enum http1_fault split_request_line(struct request_line *l, const char *p, size_t n) {
    size_t method = span_of(http1_is_token, p, n, 0);
    if (method == 0 || (method < n && p[method] != ' ')) return HTTP1_FAULT_METHOD;
    if (method == n) return HTTP1_FAULT_REQUEST_LINE;

    size_t at = method + 1;
    size_t target = span_of(is_target, p, n, at);
    if (target == 0) return HTTP1_FAULT_TARGET;
    if (at + target == n) return HTTP1_FAULT_VERSION; /* HTTP/0.9 named none */
    if (p[at + target] != ' ') return HTTP1_FAULT_TARGET;

    l->method = (struct http1_span){p, method};
    l->target = (struct http1_span){p + at, target};
    at += target + 1;
    return http1_split_version(&l->minor, p + at, n - at);
}

/* --- finding the head --- */

/* Judges the line p[s->line .. end), without its CR LF. *done: it was the empty line that ends the head. */
static enum http1_fault scan_line(struct http1_scan *s, const char *p, size_t end, bool *done) {
    const char *line = p + s->line;
    size_t n = end - s->line;
    struct request_line ignored;

    if (n == 0) {
        *done = s->lines > 0;
        return s->lines == 0 && (s->line > 0 || s->response) ? HTTP1_FAULT_EMPTY_LINE : HTTP1_FAULT_NONE;
    }
    if (s->lines++ == 0) return s->response ? http1_check_status_line(line, n) : split_request_line(&ignored, line, n);
    if (s->lines - 1 > HTTP1_FIELDS_MAX) return HTTP1_FAULT_FIELD_COUNT;
    return is_blank(line[0]) ? HTTP1_FAULT_FOLD : HTTP1_FAULT_NONE;
}

/* The byte at s->at. *done as above. */
static enum http1_fault scan_byte(struct http1_scan *s, const char *p, bool *done) {
    size_t at = s->at;
    bool after_cr = at > s->line && p[at - 1] == '\r';

    if (http1_is_control(p[at])) return HTTP1_FAULT_CONTROL;
    if (after_cr != (p[at] == '\n')) return HTTP1_FAULT_LINE_END;
    if (p[at] == '\n') {
        enum http1_fault fault = scan_line(s, p, at - 1, done);
        s->line = at + 1;
        if (fault != HTTP1_FAULT_NONE || *done) return fault;
    }
    if (s->lines == 0 && at + 1 - s->line >= HTTP1_LINE_MAX) return HTTP1_FAULT_LINE_LENGTH;
    if (at + 1 >= HTTP1_HEAD_MAX) return HTTP1_FAULT_HEAD_LENGTH;
    return HTTP1_FAULT_NONE;
}

int http1_head_end(struct http1_scan *s, const void *p, size_t n) {
    bool done = false;

    for (; s->at < n && s->end == 0 && s->fault == HTTP1_FAULT_NONE; s->at++) {
        s->fault = scan_byte(s, p, &done);
        if (done) s->end = (int)s->at + 1;
    }
    return s->fault != HTTP1_FAULT_NONE ? (int)http1_fault_err(s->fault) : s->end;
}

/* --- fields --- */

bool http1_span_is(struct http1_span s, const char *text) {
    return s.n == strlen(text) && strncasecmp(s.p, text, s.n) == 0;
}

bool http1_method_is(const struct http1_request *r, const char *method) {
    return r->method.n == strlen(method) && memcmp(r->method.p, method, r->method.n) == 0;
}

const struct http1_field *http1_field(const struct http1_fields *fields, const char *name,
                                      const struct http1_field *after) {
    const struct http1_field *end = fields->v + fields->count;

    for (const struct http1_field *f = after ? after + 1 : fields->v; f < end; f++)
        if (http1_span_is(f->name, name)) return f;
    return NULL;
}

/* Cuts the first element off a comma-separated list. */
static struct http1_span next_element(struct http1_span *list) {
    const char *comma = list->n > 0 ? memchr(list->p, ',', list->n) : NULL;
    struct http1_span element = {list->p, comma ? (size_t)(comma - list->p) : list->n};
    size_t used = element.n + (comma ? 1 : 0);

    list->p += used;
    list->n -= used;
    return trim(element);
}

bool http1_list_has(struct http1_span value, const char *token) {
    while (value.n > 0)
        if (http1_span_is(next_element(&value), token)) return true;
    return false;
}

bool http1_connection_has(const struct http1_fields *fields, const char *option) {
    const struct http1_field *f = NULL;

    while ((f = http1_field(fields, "connection", f)))
        if (http1_list_has(f->value, option)) return true;
    return false;
}

bool http1_length(struct http1_span value, uint64_t *length) {
    uint64_t v = 0;

    if (value.n == 0) return false;
    for (size_t i = 0; i < value.n; i++) {
        if (!is_digit(value.p[i])) return false;
        unsigned digit = (unsigned)(value.p[i] - '0');
        if (v > ((uint64_t)INT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *length = v;
    return true;
}

/* name ":" OWS value OWS, without the line end (RFC 9112 section 5). */
static enum http1_fault split_field(struct http1_field *f, const char *p, size_t n) {
    size_t name = span_of(http1_is_token, p, n, 0);
    if (name == 0 || name == n || p[name] != ':') return HTTP1_FAULT_FIELD_NAME;
    f->name = (struct http1_span){p, name};
    f->value = trim((struct http1_span){p + name + 1, n - name - 1});
    return HTTP1_FAULT_NONE;
}

/* --- what the parts mean together --- */

/* scheme "://" authority path (RFC 3986 section 3), of which only http is taken. */
static enum http1_fault split_absolute(struct http1_request *r) {
    const char *p = r->target.p;
    size_t n = r->target.n;
    size_t scheme = span_of(is_scheme, p, n, 0);

    if (scheme == 0 || scheme == n || !is_alpha(p[0]) || p[scheme] != ':') return HTTP1_FAULT_TARGET;
    if (!http1_span_is((struct http1_span){p, scheme}, "http")) return HTTP1_FAULT_SCHEME;
    if (n - scheme < 3 || memcmp(p + scheme, "://", 3) != 0) return HTTP1_FAULT_TARGET;

    size_t at = scheme + 3, end = at;
    while (end < n && p[end] != '/' && p[end] != '?') end++;
    r->authority = (struct http1_span){p + at, end - at};
    r->path = (struct http1_span){p + end, n - end};
    return HTTP1_FAULT_NONE;
}

static enum http1_fault classify_target(struct http1_request *r) {
    const struct http1_span target = r->target;

    r->authority = r->path = (struct http1_span){target.p, 0};
    if (http1_method_is(r, "CONNECT")) {
        r->form = HTTP1_AUTHORITY;
        r->authority = target;
        return HTTP1_FAULT_NONE;
    }
    if (target.p[0] == '/') {
        r->form = HTTP1_ORIGIN;
        r->path = target;
        return HTTP1_FAULT_NONE;
    }
    if (target.n == 1 && target.p[0] == '*') {
        r->form = HTTP1_ASTERISK;
        return http1_method_is(r, "OPTIONS") ? HTTP1_FAULT_NONE : HTTP1_FAULT_TARGET;
    }
    r->form = HTTP1_ABSOLUTE;
    return split_absolute(r);
}

/* RFC 9112 section 3.2. */
static enum http1_fault check_host(struct http1_request *r) {
    r->host = http1_field(&r->fields, "host", NULL);
    if (!r->host) return r->minor == 0 || r->form == HTTP1_AUTHORITY ? HTTP1_FAULT_NONE : HTTP1_FAULT_HOST;
    if (http1_field(&r->fields, "host", r->host)) return HTTP1_FAULT_HOST;
    const struct http1_span v = r->host->value;
    return span_of(is_host, v.p, v.n, 0) == v.n ? HTTP1_FAULT_NONE : HTTP1_FAULT_HOST;
}

/* Whether the transfer codings are a lone "chunked" (RFC 9112 sections 6.1 and 6.3). */
static enum http1_fault check_coding(const struct http1_fields *fields) {
    const struct http1_field *f = NULL;
    struct http1_span list, last = {"", 0};
    unsigned count = 0;

    while ((f = http1_field(fields, "transfer-encoding", f))) {
        list = f->value;
        do {
            last = next_element(&list);
            count++;
        } while (list.n > 0);
        if (f->value.n > 0 && f->value.p[f->value.n - 1] == ',') return HTTP1_FAULT_CODING;
    }
    if (!http1_span_is(last, "chunked")) return HTTP1_FAULT_CODING;
    return count == 1 ? HTTP1_FAULT_NONE : HTTP1_FAULT_CODING_UNKNOWN;
}

enum http1_fault http1_check_framing(enum http1_framing *framing, uint64_t *content_length,
                                     const struct http1_fields *fields, unsigned minor) {
    const struct http1_field *f = NULL;
    uint64_t length;

    *framing = HTTP1_NO_BODY;
    *content_length = 0;
    while ((f = http1_field(fields, "content-length", f))) {
        if (!http1_length(f->value, &length)) return HTTP1_FAULT_LENGTH;
        if (*framing == HTTP1_LENGTH && length != *content_length) return HTTP1_FAULT_LENGTH;
        *framing = HTTP1_LENGTH;
        *content_length = length;
    }
    if (!http1_field(fields, "transfer-encoding", NULL)) return HTTP1_FAULT_NONE;
    if (*framing == HTTP1_LENGTH || minor == 0) return HTTP1_FAULT_FRAMING;
    *framing = HTTP1_CHUNKED;
    return check_coding(fields);
}

/* The lines of a head that http1_head_end() has judged: each ends in CR LF, the last is empty, none holds a control
 * character, and there are no more fields than fit. */
static size_t line_end(const char *p, size_t n, size_t at) {
    return (size_t)((const char *)memchr(p + at, '\r', n - at) - p);
}

enum http1_fault http1_split_fields(struct http1_fields *fields, const char *p, size_t n, size_t at) {
    fields->count = 0;
    for (size_t end; at + 2 < n; at = end + 2) {
        end = line_end(p, n, at);
        enum http1_fault fault = split_field(&fields->v[fields->count], p + at, end - at);
        if (fault != HTTP1_FAULT_NONE) return fault;
        fields->count++;
    }
    return HTTP1_FAULT_NONE;
}

static enum http1_fault split_head(struct http1_request *r, const char *p, size_t n) {
    struct request_line line;
    enum http1_fault fault;
    size_t at = p[0] == '\r' ? 2 : 0;
    size_t end = line_end(p, n, at);

    fault = split_request_line(&line, p + at, end - at);
    if (fault != HTTP1_FAULT_NONE) return fault;
    r->method = line.method;
    r->target = line.target;
    r->minor = line.minor;
    return http1_split_fields(&r->fields, p, n, end + 2);
}

int http1_parse(struct http1_request *r, const void *p, size_t n) {
    struct http1_scan s = {0};

    r->fields.count = 0;
    r->head_len = n;
    r->fault = HTTP1_FAULT_REQUEST_LINE;
    int end = http1_head_end(&s, p, n);
    if (end < 0) r->fault = s.fault;
    if (end <= 0 || (size_t)end != n) return http1_fault_err(r->fault);

    r->fault = split_head(r, p, n);
    if (r->fault == HTTP1_FAULT_NONE) r->fault = classify_target(r);
    if (r->fault == HTTP1_FAULT_NONE) r->fault = check_host(r);
    if (r->fault == HTTP1_FAULT_NONE) r->fault = http1_check_framing(&r->framing, &r->content_length, &r->fields, r->minor);
    return http1_fault_err(r->fault);
}

/* --- destinations --- */

/* 1 to 5 digits within 1..65535; 0 otherwise. */
static uint16_t port_of(const char *p, size_t n) {
    unsigned port = 0;

    if (n == 0 || n > 5) return 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(p[i])) return 0;
        port = port * 10 + (unsigned)(p[i] - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static enum http1_fault authority_dest(struct dest *d, struct http1_span a, uint16_t port) {
    struct http1_span host = a;
    size_t end; /* of the host as written, where the colon or nothing follows */

    if (a.n == 0) return HTTP1_FAULT_NAME;
    if (memchr(a.p, '@', a.n)) return HTTP1_FAULT_USERINFO;
    if (a.p[0] == '[') {
        const char *close = memchr(a.p, ']', a.n);
        if (!close) return HTTP1_FAULT_NAME;
        end = (size_t)(close - a.p) + 1;
        host = (struct http1_span){a.p + 1, end - 2};
        if (host.n == 0 || !memchr(host.p, ':', host.n)) return HTTP1_FAULT_NAME; /* brackets are for IPv6 alone */
        if (end < a.n && a.p[end] != ':') return HTTP1_FAULT_NAME;
    } else {
        const char *colon = memchr(a.p, ':', a.n);
        end = colon ? (size_t)(colon - a.p) : a.n;
        host.n = end;
        if (host.n == 0 || memchr(host.p, '[', host.n) || memchr(host.p, ']', host.n)) return HTTP1_FAULT_NAME;
    }
    if (end < a.n) port = port_of(a.p + end + 1, a.n - end - 1);
    if (port == 0) return HTTP1_FAULT_PORT;
    return dest_set_name(d, DEST_TCP, host.p, host.n, port) == 0 ? HTTP1_FAULT_NONE : HTTP1_FAULT_NAME;
}

int http1_authority(struct dest *d, const void *text, size_t n, uint16_t default_port) {
    return http1_fault_err(authority_dest(d, (struct http1_span){text, n}, default_port));
}

int http1_dest(struct http1_request *r, struct dest *d) {
    switch (r->form) {
    case HTTP1_AUTHORITY: r->fault = authority_dest(d, r->authority, 0); break;
    case HTTP1_ABSOLUTE: r->fault = authority_dest(d, r->authority, 80); break;
    default: r->fault = HTTP1_FAULT_NO_DESTINATION; break;
    }
    return http1_fault_err(r->fault);
}

void http1_put_origin_target(struct writer *w, const struct http1_request *r) {
    if (r->form == HTTP1_ORIGIN || r->form == HTTP1_ABSOLUTE) {
        if (r->path.n == 0 && http1_method_is(r, "OPTIONS"))
            writer_u8(w, '*');
        else if (r->path.n == 0 || r->path.p[0] == '?')
            writer_u8(w, '/');
        writer_bytes(w, r->path.p, r->path.n);
    } else {
        writer_bytes(w, r->target.p, r->target.n);
    }
}

/* --- credentials --- */

/* "Basic" 1*SP base64, as RFC 7235 section 2.1 frames it. */
static int decode_basic(struct http1_span v, uint8_t *buf, size_t cap, struct http1_basic *c) {
    struct http1_span scheme = {v.p, span_of(http1_is_token, v.p, v.n, 0)};
    size_t len;

    if (!http1_span_is(scheme, "basic") || scheme.n == v.n || v.p[scheme.n] != ' ') return ERR_CLIENT_AUTH;
    size_t at = scheme.n;
    while (at < v.n && v.p[at] == ' ') at++;
    if (!base64_get(BASE64_STANDARD, v.p + at, v.n - at, buf, cap, &len)) return ERR_CLIENT_AUTH;

    const uint8_t *colon = len > 0 ? memchr(buf, ':', len) : NULL;
    if (!colon) return ERR_CLIENT_AUTH;
    c->user = buf;
    c->user_len = (size_t)(colon - buf);
    c->password = colon + 1;
    c->password_len = len - c->user_len - 1;
    return 1;
}

int http1_basic(const struct http1_request *r, uint8_t *buf, size_t cap, struct http1_basic *c) {
    const struct http1_field *f = http1_field(&r->fields, "proxy-authorization", NULL);

    if (!f) return 0;
    if (http1_field(&r->fields, "proxy-authorization", f)) return ERR_CLIENT_PROTOCOL;
    int got = decode_basic(f->value, buf, cap, c);
    if (got < 0) secret_wipe(buf, cap);
    return got;
}

void http1_put_connect_ok(struct writer *w) {
    static const char ok[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    writer_bytes(w, ok, sizeof ok - 1);
}
