#include "codec/http1_error.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* One line for each err; the test holds it against ERR_TABLE. From the client's side the next hop is whatever adit
 * talks to, so an upstream's failure has the type that a target's would have; the details tell them apart. */
static const struct {
    int err, status;
    const char *type;
} table[] = {
    {ERR_CLIENT_PROTOCOL, 400, "http_request_error"},
    {ERR_CLIENT_AUTH, 407, "http_request_denied"},
    {ERR_CLIENT_TIMEOUT, 408, "http_request_error"},
    {ERR_CLIENT_GONE, 400, "http_request_error"},
    {ERR_CLIENT_RESET, 400, "http_request_error"},
    {ERR_CLIENT_COMMAND, 501, "http_request_denied"},
    {ERR_CLIENT_ADDRESS, 400, "http_request_error"},
    {ERR_CLIENT_TOO_LARGE, 431, "http_request_error"},
    {ERR_CLIENT_DESTINATION, 400, "http_request_error"},
    {ERR_CLIENT_LOOP, 403, "proxy_loop_detected"},
    {ERR_TARGET_REFUSED, 502, "connection_refused"},
    {ERR_TARGET_HOST_UNREACHABLE, 502, "destination_ip_unroutable"},
    {ERR_TARGET_NET_UNREACHABLE, 502, "destination_ip_unroutable"},
    {ERR_TARGET_TIMEOUT, 504, "connection_timeout"},
    {ERR_TARGET_DNS, 502, "dns_error"},
    {ERR_TARGET_DENIED, 403, "destination_ip_prohibited"},
    {ERR_TARGET_RESET, 502, "connection_terminated"},
    {ERR_TARGET_PROTOCOL, 502, "http_protocol_error"},
    {ERR_TARGET_CLOSED, 502, "http_response_incomplete"},
    {ERR_TARGET_TOO_LARGE, 502, "http_response_header_section_size"},
    {ERR_UPSTREAM_AUTH, 502, "proxy_configuration_error"},
    {ERR_UPSTREAM_CERTIFICATE, 502, "tls_certificate_error"},
    {ERR_UPSTREAM_TLS, 502, "tls_protocol_error"},
    {ERR_UPSTREAM_ALPN, 502, "tls_protocol_error"},
    {ERR_UPSTREAM_PROTOCOL, 502, "http_protocol_error"},
    {ERR_UPSTREAM_TIMEOUT, 504, "connection_timeout"},
    {ERR_UPSTREAM_UNREACHABLE, 502, "destination_unavailable"},
    {ERR_UPSTREAM_REFUSED, 502, "connection_refused"},
    {ERR_UPSTREAM_DNS, 502, "dns_error"},
    {ERR_UPSTREAM_CLOSED, 502, "connection_terminated"},
    {ERR_UPSTREAM_RETRY, 503, "destination_unavailable"},
    {ERR_UPSTREAM_STATUS, 502, "http_protocol_error"},
    {ERR_UPSTREAM_FAILED, 502, "destination_unavailable"},
    {ERR_UPSTREAM_BUSY, 503, "connection_limit_reached"},
    {ERR_UPSTREAM_RESET, 502, "connection_terminated"},
    {ERR_UPSTREAM_STOPPED, 502, "connection_terminated"},
    {ERR_NO_MEMORY, 503, "proxy_internal_error"},
    {ERR_LIMIT, 503, "connection_limit_reached"},
    {ERR_SHUTDOWN, 503, "proxy_internal_error"},
    {ERR_IDLE, 504, "connection_read_timeout"},
    {ERR_IO, 500, "proxy_internal_error"},
    {ERR_CONFIG, 500, "proxy_configuration_error"},
    {ERR_INTERNAL, 500, "proxy_internal_error"},
    {ERR_CANCELLED, 503, "proxy_internal_error"},
};

int http1_status(int err) {
    if (err == 0) return 200;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].err == err) return table[i].status;
    return 500;
}

const char *http1_proxy_error(int err) {
    if (err == 0) return NULL;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].err == err) return table[i].type;
    return "proxy_internal_error";
}

const char *http1_reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 407: return "Proxy Authentication Required";
    case 408: return "Request Timeout";
    case 414: return "URI Too Long";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "";
    }
}

/* --- writing texts --- */

static void put(struct writer *w, const char *text) { writer_bytes(w, text, strlen(text)); }

static bool is_printable(uint8_t c) { return c >= ' ' && c < 0x7f; }

/* Text that stays in its header line. */
static void put_header(struct writer *w, uint8_t c) { writer_u8(w, is_printable(c) ? c : '?'); }

/* Text inside the quotes of an sf-string (RFC 8941 section 3.3.3). */
static void put_quoted(struct writer *w, uint8_t c) {
    if (c == '"' || c == '\\') writer_u8(w, '\\');
    put_header(w, c);
}

/* Text that stays text in HTML. */
static void put_html(struct writer *w, uint8_t c) {
    switch (c) {
    case '<': put(w, "&lt;"); break;
    case '>': put(w, "&gt;"); break;
    case '&': put(w, "&amp;"); break;
    case '"': put(w, "&quot;"); break;
    case '\'': put(w, "&#39;"); break;
    default: put_header(w, c);
    }
}

/* A foreign text, cut to what is shown. */
static void put_detail(struct writer *w, void (*put_byte)(struct writer *, uint8_t), const void *text, size_t n) {
    const uint8_t *p = text;
    size_t shown = n > HTTP1_DETAIL_MAX ? HTTP1_DETAIL_MAX : n;

    for (size_t i = 0; i < shown; i++) put_byte(w, p[i]);
    if (shown < n) put(w, "...");
}

void http1_put_proxy_status(struct writer *w, int err, const void *detail, size_t n) {
    if (err == 0) return;
    put(w, "adit; error=");
    put(w, http1_proxy_error(err));
    put(w, "; details=\"");
    put(w, err_text(err));
    if (n > 0) put(w, ": ");
    put_detail(w, put_quoted, detail, n);
    put(w, "\"");
}

/* --- the response --- */

static void put_status(struct writer *w, int status) {
    char digits[16];

    snprintf(digits, sizeof digits, "%03d ", status);
    put(w, digits);
    put(w, http1_reason(status));
}

static void put_page(struct writer *w, const struct http1_error *e, int status) {
    put(w, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    put_status(w, status);
    put(w, "</title></head>\n<body><h1>");
    put_status(w, status);
    put(w, "</h1>\n");
    if (e->err != 0) {
        put(w, "<p>adit: ");
        put(w, err_text(e->err));
        put(w, ".</p>\n");
    }
    if (e->detail_len > 0) {
        put(w, "<p>");
        put_detail(w, put_html, e->detail, e->detail_len);
        put(w, "</p>\n");
    }
    put(w, "</body></html>\n");
}

static bool is_token(const char *s) {
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return *s && s[strspn(s, token)] == 0;
}

static void put_field(struct writer *w, const char *name, const char *value) {
    if (!is_token(name) || strlen(name) + strlen(value) > HTTP1_FIELD_MAX) {
        w->bad = true;
        return;
    }
    put(w, name);
    put(w, ": ");
    for (; *value; value++) put_header(w, (uint8_t)*value);
    put(w, "\r\n");
}

void http1_put_error(struct writer *w, const struct http1_error *e) {
    uint8_t page[2560]; /* each shown byte takes six at most */
    struct writer body = writer_of(page, sizeof page);
    char length[32];
    int status = e->status ? e->status : http1_status(e->err);

    put_page(&body, e, status);
    put(w, "HTTP/1.1 ");
    put_status(w, status);
    put(w, "\r\n");
    if (e->err != 0) {
        put(w, "Proxy-Status: ");
        http1_put_proxy_status(w, e->err, e->detail, e->detail_len);
        put(w, "\r\n");
    }
    if (status == 407) put(w, "Proxy-Authenticate: Basic realm=\"adit\", charset=\"UTF-8\"\r\n");
    if (e->field_name) put_field(w, e->field_name, e->field_value);
    put(w, "Content-Type: text/html; charset=utf-8\r\n"
           "Content-Security-Policy: default-src 'none'\r\n"
           "X-Content-Type-Options: nosniff\r\n"
           "Cache-Control: no-store\r\n"
           "Connection: close\r\n");
    snprintf(length, sizeof length, "Content-Length: %zu\r\n\r\n", writer_len(&body));
    put(w, length);
    if (!e->head) writer_bytes(w, page, writer_len(&body));
    if (body.bad) w->bad = true;
}
