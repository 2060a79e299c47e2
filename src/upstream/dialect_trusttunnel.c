#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "upstream/dialect.h"

static void add(struct dialect_head *h, const char *name, const char *value, bool sensitive) {
    if (!value || h->n == DIALECT_FIELDS) return;
    h->fields[h->n++] = (struct header){name, value, strlen(name), strlen(value), sensitive};
}

static void add_common(const struct dialect_context *c, struct dialect_head *h, const char *authority) {
    h->n = 0;
    add(h, ":method", "CONNECT", false);
    add(h, ":authority", authority, false);
    add(h, "user-agent", c->user_agent, false);
    add(h, "proxy-authorization", c->authorization, true);
}

static int connect_head(const struct dialect_context *c, const struct dest *d, struct dialect_head *h) {
    if (d->network != DEST_TCP) return ERR_INTERNAL;
    if (c->no_ipv6 && d->kind == DEST_IPV6) return ERR_TARGET_NET_UNREACHABLE;
    dest_format(d, h->text, sizeof h->text);
    add_common(c, h, h->text);
    return 0;
}

/* A pseudo-host: bare, never with a port, or the endpoint looks it up as a name. */
static int check_head(const struct dialect_context *c, struct dialect_head *h) {
    add_common(c, h, "_check");
    return 0;
}

/* "x-warning: 300 - connection refused": the leading number, -1 if there is none. */
static int warning_code(const struct stream *st, const char **text, size_t *len) {
    *text = session_stream_header(st, "x-warning", len);
    if (!*text) return -1;
    int code = 0;
    size_t i = 0;
    while (i < *len && (*text)[i] == ' ') i++;
    size_t digits = i;
    for (; i < *len && i - digits < 4 && isdigit((unsigned char)(*text)[i]); i++) code = code * 10 + ((*text)[i] - '0');
    return i == digits ? -1 : code;
}

static bool mentions(const char *text, size_t len, const char *word) {
    return text && memmem(text, len, word, strlen(word)) != NULL;
}

/* Deployed endpoints say 300 for a refused connection, a failed look-up and other I/O errors alike; the text tells. */
static enum err judge_warning(int code, const char *text, size_t len) {
    switch (code) {
    case 300:
        if (mentions(text, len, "resolve") || mentions(text, len, "DNS") || mentions(text, len, "dns"))
            return ERR_TARGET_DNS;
        return ERR_TARGET_REFUSED;
    case 301: return ERR_TARGET_HOST_UNREACHABLE;
    case 302: return ERR_TARGET_TIMEOUT;
    case 310:
    case 311: return ERR_TARGET_DENIED;
    default: return ERR_UPSTREAM_FAILED;
    }
}

static bool is_auth_status(int status) { return status == 407 || status == 401; }

static enum err judge(const struct stream *st, char *detail, size_t cap) {
    int status = st->status;
    if (status >= 200 && status < 300) return ERR_OK;
    const char *text = NULL;
    size_t len = 0;
    int code = warning_code(st, &text, &len);
    if (text) {
        char quoted[128];
        snprintf(detail, cap, "status %d, warning %s", status, log_quote(text, len, quoted, sizeof quoted));
    } else {
        snprintf(detail, cap, "status %d", status);
    }
    if (is_auth_status(status)) return ERR_UPSTREAM_AUTH;
    if (code >= 0) return judge_warning(code, text, len);
    if (status == 504) return ERR_TARGET_TIMEOUT;
    if (status == 429) return ERR_UPSTREAM_BUSY;
    if (status == 502 || status == 503) return ERR_UPSTREAM_FAILED; /* proxies tell an unreachable target by either */
    return ERR_UPSTREAM_STATUS;
}

/* Endpoints may hide refused credentials behind 403, 404 or 405; but those may also come from a server that knows no
 * health check. The pool takes them for a refusal when a CONNECT is answered the same. */
static enum err judge_check(const struct stream *st, char *detail, size_t cap) {
    int status = st->status;
    if (status >= 200 && status < 300) return ERR_OK;
    snprintf(detail, cap, "status %d to the health check", status);
    return is_auth_status(status) ? ERR_UPSTREAM_AUTH : ERR_UPSTREAM_STATUS;
}

const struct dialect dialect_trusttunnel = {
    .name = "trusttunnel",
    .connect_head = connect_head,
    .check_head = check_head,
    .judge = judge,
    .judge_check = judge_check,
};
