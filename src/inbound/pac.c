#include "inbound/pac.h"

#include <stdio.h>
#include <string.h>

#include "inbound/http_in.h"
#include "net/sock.h"

static const char path[] = "/proxy.pac";

bool pac_is_asked(const struct listener *l, const struct http1_request *r) {
    bool reads = http1_method_is(r, "GET") || http1_method_is(r, "HEAD");
    if (!l->cfg.pac || l->address.u.sa.sa_family == AF_UNIX) return false; /* no browser could name it */
    return r->form == HTTP1_ORIGIN && reads && r->target.n == sizeof path - 1 &&
           memcmp(r->target.p, path, sizeof path - 1) == 0;
}

/* As the client sees it: one that listens everywhere was reached somewhere. */
static const char *address_of(const struct listener *l, const struct stream *client, char *text, size_t cap) {
    struct addr at = l->address, local;
    if (addr_is_unspecified(&at) && sock_stream_local(client, &local)) at = local;
    addr_unmap(&at);
    return addr_format(&at, text, cap);
}

size_t pac_reply(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap) {
    const struct listener *l = ((const struct access_user *)rq->arg)->listener;
    bool socks = l->cfg.protocols & LISTEN_SOCKS5 && l->cfg.n_users == 0; /* browsers have no password for it */
    char at[ADDR_TEXT_MAX], file[3 * ADDR_TEXT_MAX];
    (void)err, (void)detail;
    address_of(l, rq->client, at, sizeof at);
    int len = snprintf(file, sizeof file, "function FindProxyForURL(url, host) {\n    return \"PROXY %s%s%s\";\n}\n", at,
                       socks ? "; SOCKS5 " : "", socks ? at : "");
    int n = snprintf((char *)out, cap,
                     "HTTP/1.1 200 OK\r\n"
                     "Content-Type: application/x-ns-proxy-autoconfig\r\n"
                     "X-Content-Type-Options: nosniff\r\n"
                     "Cache-Control: no-store\r\n"
                     "Connection: close\r\n"
                     "Content-Length: %d\r\n\r\n%s",
                     len, rq->hint & HTTP_IN_HEAD ? "" : file);
    return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}
