/* conf.h - the configuration: a TOML file becomes an immutable snapshot, or a report of all that is wrong with it.
 *
 * A `struct conf` is complete and checked: whoever holds one needs no further test of single values. It is counted
 * by reference, never changed after loading, and everything in it lives as long as it does; its memory is zeroed
 * when the last reference goes. Two shapes of file are read: a configuration with an [endpoint] table, and an
 * endpoint's export with the same options flat; keys of the official client that adit does not serve are named in
 * the report. The options themselves are in conf_table.h. Not for use from several threads.
 */
#ifndef ADIT_APP_CONF_H
#define ADIT_APP_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "app/arena.h"
#include "base/addr.h"
#include "base/dest.h"
#include "base/err.h"
#include "base/log.h"

#define CONF_LISTENERS_MAX 64
#define CONF_USERS_MAX 256    /* of one listener */
#define CONF_ADDRESSES_MAX 16 /* of the endpoint */
#define CONF_IDS_MAX 64       /* of allow_uids, and of allow_gids */
#define CONF_RANDOM_MAX 32    /* bytes of a TLS random */
#define CONF_PINS_MAX 16      /* of the endpoint */

/* --- the snapshot --- */

/* A set, in conf_listener.protocols. */
enum conf_protocol { CONF_SOCKS5 = 1, CONF_HTTP = 2, CONF_SOCKS4 = 4 };

enum conf_transport { CONF_TRANSPORT_AUTO, CONF_TRANSPORT_HTTP2, CONF_TRANSPORT_HTTP3 };

struct conf_user {
    const char *username; /* 1 to 255 bytes without ':' and control characters, as the next */
    const char *password;
};

struct conf_users {
    const struct conf_user *v;
    size_t n;
};

#define CONF_SOCKET_NAME_MAX 255 /* as systemd has it */
#define CONF_ADDRESS_TEXT_MAX (CONF_SOCKET_NAME_MAX + 10)

/* Where to listen: at an IP address, at the path of a Unix socket, or at a socket that systemd passes. */
struct conf_address {
    struct addr addr;      /* no address for systemd's */
    const char *activated; /* the name of systemd's socket; NULL for the others */
};

/* Users or groups of this machine. */
struct conf_ids {
    const unsigned *v; /* none is UINT32_MAX */
    size_t n;
};

struct conf_listener {
    const char *name; /* of the table, "mixed" for the one that is made when there is none */
    struct conf_address address;
    unsigned mode;                   /* of a Unix socket's file, 0 to 0777 */
    unsigned protocols;              /* of enum conf_protocol, not empty */
    struct conf_users users;         /* who may use it, at most CONF_USERS_MAX; n = 0: everyone who can connect */
    uint64_t handshake_timeout;      /* ms from accept until the request is complete */
    uint64_t idle_timeout;           /* ms without a byte either way; 0: no limit */
    unsigned max_connections;        /* at one time */
    unsigned max_connections_per_uid; /* of them of one user; 0: no limit */
    struct conf_ids allow_uids, allow_gids; /* who may connect; both n = 0: everyone who can */
    bool allow_open;
    bool pac;                        /* serve /proxy.pac */
    /* as written in the file, `users` has them all */
    const char *username, *password;
    struct conf_users listed;
};

struct conf_addresses {
    const struct dest *v; /* DEST_TCP; names are not resolved here */
    size_t n;
};

/* client_random: (random & mask) == (prefix & mask) over the first len bytes. */
struct conf_random {
    uint8_t prefix[CONF_RANDOM_MAX], mask[CONF_RANDOM_MAX];
    size_t len; /* 0: not set */
};

/* The SHA-256 of the endpoint's public key (SubjectPublicKeyInfo), or of its whole certificate. */
struct conf_pin {
    bool certificate;
    uint8_t sha256[32];
};

struct conf_pins {
    const struct conf_pin *v;
    size_t n;
};

/* Texts that are not set are NULL. */
struct conf_endpoint {
    const char *name;     /* for people */
    const char *hostname; /* canonical: what the certificate must carry */
    const char *custom_sni;
    struct conf_addresses addresses; /* 1 to CONF_ADDRESSES_MAX */
    bool has_ipv6;
    const char *username, *password;
    struct conf_random client_random;
    bool skip_verification;
    const char *certificate; /* PEM text with at least one BEGIN CERTIFICATE; NULL: the system's store */
    const char *client_certificate, *client_key; /* PEM; both or none */
    const char *ticket_file; /* where session tickets are kept between runs; NULL: nowhere */
    struct conf_pins pins;   /* what the endpoint's own certificate must match one of; at most CONF_PINS_MAX */
    enum conf_transport transport;
    bool anti_dpi; /* accepted, without effect yet */
    uint64_t fallback_delay, health_timeout, recovery_wait, connect_timeout, handshake_timeout; /* ms */
    uint64_t stream_window, session_window, buffer_budget;                                      /* bytes */
    const char *user_agent; /* NULL: the built-in one */
    unsigned max_pending, max_sessions, session_streams;
    uint64_t session_lifetime; /* ms; 0: no limit */
};

struct conf_mark;

struct conf {
    enum log_level log_level;
    const char *control; /* path, or "none"; NULL: control_default_path() */
    const struct conf_listener *listeners; /* in the order of the file; at least one */
    size_t n_listeners;
    struct conf_endpoint endpoint;
    const char *name; /* of the file, as given */

    /* conf's own */
    unsigned refs;
    struct arena arena;
    const struct conf_mark *marks;
};

/* --- the report --- */

enum conf_severity {
    CONF_ERROR,   /* there is no snapshot because of it */
    CONF_WARNING, /* adit will not do what the text asks for, or it is dangerous */
    CONF_NOTE,    /* known, and without effect */
};

#define CONF_MESSAGES_MAX 20 /* kept of each severity */
#define CONF_TEXT_MAX 256
#define CONF_NAME_MAX 1024

struct conf_message {
    enum conf_severity severity;
    unsigned line, col;        /* 0: the file as a whole */
    char text[CONF_TEXT_MAX]; /* printable ASCII, no value of a secret */
};

/* A plain value without owned memory, about 17 KiB. */
struct conf_report {
    char name[CONF_NAME_MAX];
    struct conf_message messages[3 * CONF_MESSAGES_MAX]; /* by place */
    size_t n;                                            /* kept */
    unsigned found[3];                                   /* of each severity, kept or not */
};

/* Writes a line "NAME:LINE:COLUMN: TEXT" for each message ("NAME: TEXT" without a place; with "warning: " or
 * "note: " in front of the text if it is one), and how many more there are. */
void conf_report_print(const struct conf_report *rep, FILE *to);
/* "error", "warning", "note" */
const char *conf_severity_word(enum conf_severity s);

/* --- loading --- */

/* Reads the file at path (at most 1 MiB; a pipe will do), and the files that its options name. 0 and *out, which the
 * caller must unref; or ERR_CONFIG, with *out NULL and at least one CONF_ERROR, or ERR_IO when the file cannot be read
 * (in the report too), or ERR_NO_MEMORY. rep is overwritten and may hold warnings and notes either way. A file with a
 * secret that others may read is worth a warning. */
int conf_load_file(const char *path, struct conf **out, struct conf_report *rep);
/* The same from n bytes of text; name stands for the file in the report. Options that name a file to be read are
 * errors in it. */
int conf_load_text(const char *name, const void *text, size_t n, struct conf **out, struct conf_report *rep);

struct conf *conf_ref(struct conf *c);
/* NULL is allowed. */
void conf_unref(struct conf *c);

/* Where the value of an option stood: path as in "log_level", "endpoint.certificate" (flat files too) or
 * "listener.NAME.address"; by the name of the option itself, even if the file used an alias of it. false if the
 * file does not set it. For errors that only show when the snapshot is put to use. */
bool conf_place(const struct conf *c, const char *path, unsigned *line, unsigned *col);

/* Writes a line for every option, fields separated by tabs: path, type, default ("-": none), bounds ("-":
 * none), reload scope, text. The manual page is checked against it. */
void conf_print_options(FILE *to);

/* Writes the snapshot as a configuration that would make it again, but for secrets, which are masked: each option that has a
 * value, with a comment that says where it came from (line and column, "default", or the end that it was derived from). What
 * came from a file of its own is marked by the place that named the file. */
void conf_print(const struct conf *c, FILE *to);
/* The same with its secrets, without what is at its default, and without comments: to be used as a configuration. */
void conf_write(const struct conf *c, FILE *to);

/* --- reloading --- */

/* What has to be made anew when an option changed, in rising order. */
enum conf_reload {
    CONF_RELOAD_SAME = 0,     /* nothing changed */
    CONF_RELOAD_NONE,         /* nothing: whatever starts from now on reads the new value */
    CONF_RELOAD_LISTENER,     /* the listening socket */
    CONF_RELOAD_UPSTREAM,     /* the sessions to the endpoint: new ones, the old ones drain */
    CONF_RELOAD_ALL,          /* the process */
};

/* The most that any difference between the two asks for. Listeners are compared whatever their names. */
enum conf_reload conf_listener_diff(const struct conf_listener *a, const struct conf_listener *b);
enum conf_reload conf_endpoint_diff(const struct conf_endpoint *a, const struct conf_endpoint *b);
bool conf_address_is_unix(const struct conf_address *a);
bool conf_address_equal(const struct conf_address *a, const struct conf_address *b);
/* As in the file. cap: CONF_ADDRESS_TEXT_MAX holds all. Returns buf. */
const char *conf_address_format(const struct conf_address *a, char *buf, size_t cap);
/* The listener of that name; NULL if there is none. */
const struct conf_listener *conf_listener_find(const struct conf *c, const char *name);

#endif
