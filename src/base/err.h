/* err.h - the one error space of adit.
 *
 * Every function that can fail returns 0 or a negative `enum err`. Each error belongs to a class that says
 * whose fault it is; it is translated only at the edges: the session turns a library's code into an err and
 * keeps the original text for the log, an inbound turns an err into a SOCKS reply or an HTTP status with
 * Proxy-Status (RFC 9209), and the flow turns it into the word of its access record.
 *
 * No state, no allocation; every function here may be called from anywhere.
 */
#ifndef ADIT_BASE_ERR_H
#define ADIT_BASE_ERR_H

enum err_class {
    ERR_CLASS_NONE,     /* no error */
    ERR_CLASS_CLIENT,   /* the application that connected to adit */
    ERR_CLASS_TARGET,   /* the destination, as reported by the upstream or seen by a direct connection */
    ERR_CLASS_UPSTREAM, /* the endpoint, or the way to it */
    ERR_CLASS_LOCAL,    /* adit itself or the machine it runs on */
};

/* X(symbol, value, class, word for logs, text for people) */
#define ERR_TABLE(X)                                                                                          \
    X(ERR_CLIENT_PROTOCOL, -1, CLIENT, "client-protocol", "the client broke its protocol")                    \
    X(ERR_CLIENT_AUTH, -2, CLIENT, "client-auth", "the client's credentials were refused")                    \
    X(ERR_CLIENT_TIMEOUT, -3, CLIENT, "client-timeout", "the client did not finish its request in time")      \
    X(ERR_CLIENT_GONE, -4, CLIENT, "client-gone", "the client closed its connection")                         \
    X(ERR_CLIENT_RESET, -5, CLIENT, "client-reset", "the client reset its connection")                        \
    X(ERR_CLIENT_COMMAND, -6, CLIENT, "client-command", "the client asked for an unsupported command")        \
    X(ERR_CLIENT_ADDRESS, -7, CLIENT, "client-address", "the client used an unsupported address type")        \
    X(ERR_CLIENT_TOO_LARGE, -8, CLIENT, "client-too-large", "the client's request is too large")              \
    X(ERR_CLIENT_DESTINATION, -9, CLIENT, "client-destination", "the destination is not a valid name or address") \
    X(ERR_CLIENT_LOOP, -10, CLIENT, "client-loop", "the destination is adit itself")                          \
    X(ERR_TARGET_REFUSED, -20, TARGET, "target-refused", "the destination refused the connection")            \
    X(ERR_TARGET_HOST_UNREACHABLE, -21, TARGET, "target-host-unreachable", "the destination host is unreachable") \
    X(ERR_TARGET_NET_UNREACHABLE, -22, TARGET, "target-net-unreachable", "the destination network is unreachable") \
    X(ERR_TARGET_TIMEOUT, -23, TARGET, "target-timeout", "the destination did not answer in time")            \
    X(ERR_TARGET_DNS, -24, TARGET, "target-dns", "the destination's name could not be resolved")              \
    X(ERR_TARGET_DENIED, -25, TARGET, "target-denied", "the destination is not allowed by the upstream")      \
    X(ERR_TARGET_RESET, -26, TARGET, "target-reset", "the destination reset the connection")                  \
    X(ERR_TARGET_PROTOCOL, -27, TARGET, "target-protocol", "the destination broke its protocol")              \
    X(ERR_TARGET_CLOSED, -28, TARGET, "target-closed", "the destination closed before its answer was complete") \
    X(ERR_TARGET_TOO_LARGE, -29, TARGET, "target-too-large", "the header of the destination's answer is too large") \
    X(ERR_UPSTREAM_AUTH, -40, UPSTREAM, "upstream-auth", "the upstream rejected the credentials")             \
    X(ERR_UPSTREAM_CERTIFICATE, -41, UPSTREAM, "upstream-certificate", "the upstream's certificate was refused") \
    X(ERR_UPSTREAM_TLS, -42, UPSTREAM, "upstream-tls", "the TLS handshake with the upstream failed")          \
    X(ERR_UPSTREAM_ALPN, -43, UPSTREAM, "upstream-alpn", "the upstream does not speak the wanted protocol")   \
    X(ERR_UPSTREAM_PROTOCOL, -44, UPSTREAM, "upstream-protocol", "the upstream broke the protocol")           \
    X(ERR_UPSTREAM_TIMEOUT, -45, UPSTREAM, "upstream-timeout", "the upstream did not answer in time")         \
    X(ERR_UPSTREAM_UNREACHABLE, -46, UPSTREAM, "upstream-unreachable", "the upstream is unreachable")         \
    X(ERR_UPSTREAM_REFUSED, -47, UPSTREAM, "upstream-refused", "the upstream refused the connection")         \
    X(ERR_UPSTREAM_DNS, -48, UPSTREAM, "upstream-dns", "the upstream's name could not be resolved")           \
    X(ERR_UPSTREAM_CLOSED, -49, UPSTREAM, "upstream-closed", "the upstream closed the session")               \
    X(ERR_UPSTREAM_RETRY, -50, UPSTREAM, "upstream-retry", "the upstream refused the stream unprocessed")     \
    X(ERR_UPSTREAM_STATUS, -51, UPSTREAM, "upstream-status", "the upstream answered with an unexpected status") \
    X(ERR_UPSTREAM_FAILED, -52, UPSTREAM, "upstream-failed", "the upstream could not connect")                \
    X(ERR_UPSTREAM_BUSY, -53, UPSTREAM, "upstream-busy", "the upstream has no room for another stream")       \
    X(ERR_UPSTREAM_RESET, -54, UPSTREAM, "upstream-reset", "the upstream reset the stream")                   \
    X(ERR_UPSTREAM_STOPPED, -55, UPSTREAM, "upstream-stopped", "the upstream stopped reading the stream")     \
    X(ERR_NO_MEMORY, -70, LOCAL, "no-memory", "out of memory")                                                \
    X(ERR_LIMIT, -71, LOCAL, "limit", "a configured limit was reached")                                       \
    X(ERR_SHUTDOWN, -72, LOCAL, "shutdown", "adit is shutting down")                                          \
    X(ERR_IDLE, -73, LOCAL, "idle", "nothing was sent for too long")                                          \
    X(ERR_IO, -74, LOCAL, "io", "a system call failed")                                                       \
    X(ERR_CONFIG, -75, LOCAL, "config", "the configuration is wrong")                                         \
    X(ERR_INTERNAL, -76, LOCAL, "internal", "an internal error")                                              \
    X(ERR_CANCELLED, -77, LOCAL, "cancelled", "no longer wanted")

enum err {
    ERR_OK = 0,
#define X(symbol, value, class_, word, text) symbol = value,
    ERR_TABLE(X)
#undef X
};

/* Class of an error; ERR_CLASS_NONE for 0 and ERR_CLASS_LOCAL for values that are not in the table. */
enum err_class err_class(int err);
/* A stable hyphenated word for logs and metrics ("ok" for 0, "unknown" outside the table). Static storage. */
const char *err_word(int err);
/* A short sentence part for people, lower case, no full stop. Static storage. */
const char *err_text(int err);
/* The word of a class: "none", "client", "target", "upstream", "local". Static storage. */
const char *err_class_word(enum err_class c);
/* What a failed connect() or send() towards the destination (target = 1) or the upstream (target = 0) means. */
enum err err_from_errno(int errnum, int target);

#endif
