/* dialect.h - what is particular to one kind of upstream: the heads it wants and how its answers are judged.
 *
 * A dialect is a constant table of functions over a context of credentials and names; it opens nothing and keeps no
 * state. The pool builds every request head and judges every answer through it. Sources: RFC 9110 section 9.3.6, and
 * for TrustTunnel its PROTOCOL.md 1.0 and deployed endpoints.
 */
#ifndef ADIT_UPSTREAM_DIALECT_H
#define ADIT_UPSTREAM_DIALECT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/dest.h"
#include "base/err.h"
#include "session/session.h"

/* Longest detail text that a judge writes, with its NUL. Foreign parts are quoted. */
#define DIALECT_DETAIL_MAX 200
#define DIALECT_FIELDS 8

/* What heads are made of; strings are owned by the holder of the context. */
struct dialect_context {
    char *authorization; /* a secret: "Basic …", made by dialect_basic(); NULL: none is sent */
    char *user_agent;    /* NULL: none is sent */
    bool no_ipv6;        /* the upstream cannot reach IPv6 literals: they fail here, at once */
};

/* A request head under construction. Values point into the context or into `text`. */
struct dialect_head {
    struct header fields[DIALECT_FIELDS];
    size_t n;
    char text[DEST_TEXT_MAX];
};

struct dialect {
    const char *name; /* "trusttunnel" */
    /* The head that opens a tunnel to d (a canonical destination). 0, ERR_TARGET_NET_UNREACHABLE for an IPv6 literal that
     * the upstream cannot reach, or ERR_INTERNAL for a network that the kind does not carry. */
    int (*connect_head)(const struct dialect_context *c, const struct dest *d, struct dialect_head *h);
    /* The head of a health check; NULL where the kind has none. */
    int (*check_head)(const struct dialect_context *c, struct dialect_head *h);
    /* Judges the final response of a CONNECT: ERR_OK opens the tunnel, ERR_UPSTREAM_AUTH condemns the credentials, the
     * rest is the flow's own failure. detail: words for the log and the client. */
    enum err (*judge)(const struct stream *st, char *detail, size_t cap);
    /* The same for the health check. */
    enum err (*judge_check)(const struct stream *st, char *detail, size_t cap);
};

extern const struct dialect dialect_trusttunnel;

/* "Basic " + base64(user ":" password), RFC 7617; a secret to be freed by secret_free(). NULL when out of memory. */
char *dialect_basic(const char *user, const char *password);

#endif
