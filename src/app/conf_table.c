#include "app/conf_table.h"

#include <inttypes.h>
#include <string.h>

#include "app/conf_impl.h"

#define SECOND 1000u
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define ROOT(key_, type_, field)                                                                              \
    .scope = CONF_SCOPE_ROOT, .key = key_, .type = type_, .offset = offsetof(struct conf, field)
#define LISTENER(key_, type_, field)                                                                          \
    .scope = CONF_SCOPE_LISTENER, .key = key_, .type = type_, .offset = offsetof(struct conf_listener, field)
#define USER(key_, type_, field)                                                                              \
    .scope = CONF_SCOPE_USER, .key = key_, .type = type_, .offset = offsetof(struct conf_user, field)
#define ENDPOINT(key_, type_, field)                                                                          \
    .scope = CONF_SCOPE_ENDPOINT, .key = key_, .type = type_, .offset = offsetof(struct conf_endpoint, field)
/* Another option's value, from a file. */
#define FILE_OF(scope_, key_)                                                                                 \
    .scope = CONF_SCOPE_##scope_, .key = key_ "_file", .type = CONF_PATH, .offset = CONF_NOWHERE, .file_of = key_
/* Known, but nothing in the snapshot comes from it. */
#define DROPPED(scope_, key_, type_)                                                                          \
    .scope = CONF_SCOPE_##scope_, .key = key_, .type = type_, .offset = CONF_NOWHERE

#define CREDENTIAL .min = 1, .max = 255
#define RELOAD(scope_) .reload = CONF_RELOAD_##scope_
#define WARN(when) .flags = CONF_SAY_##when, .severity = CONF_WARNING
#define NOTE(when) .flags = CONF_SAY_##when, .severity = CONF_NOTE

#define NO_ROUTING ": adit has no routing yet"
#define NO_EFFECT "adit does not use it; it has no effect"

/* Lines of the documentation that go with the manual page: keep them to one sentence. */
static const struct conf_option options[] = {
    /* ---- top level ---- */
    {ROOT("log_level", CONF_WORD, log_level), .words = "error|warn|info|debug|trace", .preset = "info",
     RELOAD(NONE), .doc = "how much goes to the log"},
    {ROOT("loglevel", CONF_WORD, log_level), .words = "error|warn|info|debug|trace", .alias_of = "log_level",
     RELOAD(NONE), .doc = "another name of log_level"},
    {ROOT("control", CONF_STRING, control), .min = 1, .max = 107, RELOAD(NONE),
     .doc = "the control socket's path, or none"},
    {DROPPED(ROOT, "listener", CONF_TABLE), RELOAD(LISTENER), .max = CONF_LISTENERS_MAX,
     .doc = "holds the listeners, one table for each"},
    {DROPPED(ROOT, "endpoint", CONF_TABLE), RELOAD(UPSTREAM),
     .doc = "holds the endpoint's options, which may stand at top level instead"},
    {DROPPED(ROOT, "vpn_mode", CONF_WORD), .words = "general|selective", .preset = "general", RELOAD(NONE),
     WARN(CHANGED), .say = "everything goes through the tunnel, not only what the exclusions select" NO_ROUTING,
     .doc = "which way the exclusions work; without effect"},
    {DROPPED(ROOT, "exclusions", CONF_STRINGS), .max = TOML_NODES_MAX, RELOAD(NONE), WARN(SET),
     .say = "everything goes through the tunnel, the exclusions too" NO_ROUTING,
     .doc = "destinations treated in another way; without effect"},
    {DROPPED(ROOT, "exclusions_scannable_ports", CONF_ANY), RELOAD(NONE), NOTE(SET), .say = NO_EFFECT,
     .doc = "without effect"},
    {DROPPED(ROOT, "exclusions_tcp_early_ack_enabled", CONF_ANY), RELOAD(NONE), NOTE(SET), .say = NO_EFFECT,
     .doc = "without effect"},
    {DROPPED(ROOT, "exclusions_preresolve_", CONF_ANY), RELOAD(NONE), .flags = CONF_SAY_SET | CONF_PREFIX,
     .severity = CONF_NOTE, .say = NO_EFFECT, .doc = "a family of options without effect"},
    {DROPPED(ROOT, "killswitch_enabled", CONF_BOOLEAN), .preset = "true", RELOAD(NONE), NOTE(CHANGED),
     .say = "adit always fails closed: what cannot go through the tunnel is refused",
     .doc = "adit fails closed whatever it says"},
    {DROPPED(ROOT, "killswitch_allow_ports", CONF_ANY), RELOAD(NONE), NOTE(SET), .say = NO_EFFECT,
     .doc = "without effect"},
    {DROPPED(ROOT, "post_quantum_group_enabled", CONF_ANY), RELOAD(NONE), NOTE(SET), .say = NO_EFFECT,
     .doc = "without effect"},
    {DROPPED(ROOT, "ssl_session_cache_path", CONF_ANY), RELOAD(NONE), NOTE(SET), .say = NO_EFFECT,
     .doc = "without effect"},
    {DROPPED(ROOT, "dns_upstreams", CONF_STRINGS), .max = 256, RELOAD(NONE), NOTE(SET),
     .say = "adit does not use it yet: the endpoint resolves names itself", .doc = "DNS servers; without effect"},

    /* ---- [listener.NAME] ---- */
    {DROPPED(LISTENERS, "tun", CONF_ANY), RELOAD(NONE), .severity = CONF_WARNING,
     .say = "adit has no TUN device: this listener is left out, and applications must use another one",
     .doc = "the TUN device of other clients; left out"},
    {LISTENER("address", CONF_LISTEN, address), .preset = "127.0.0.1:1080", RELOAD(LISTENER),
     .doc = "where to listen; port 0 lets the system choose"},
    {LISTENER("mode", CONF_MODE, mode), .preset = "0600", .max = 0777, RELOAD(NONE),
     .doc = "who may connect to a Unix socket, as for chmod"},
    {LISTENER("protocols", CONF_WORDS, protocols), .words = "socks5|http|socks4", .preset = "socks5|http|socks4",
     .min = 1, .max = 3, RELOAD(NONE), .doc = "what may be spoken there"},
    {LISTENER("username", CONF_STRING, username), CREDENTIAL, RELOAD(NONE), .flags = CONF_NO_COLON,
     .doc = "who may use it, with password"},
    {LISTENER("password", CONF_SECRET, password), CREDENTIAL, RELOAD(NONE), .doc = "goes with username"},
    {FILE_OF(LISTENER, "password"), RELOAD(NONE), .doc = "a file that holds it"},
    {LISTENER("users", CONF_USERS, listed), .max = CONF_USERS_MAX, RELOAD(NONE),
     .doc = "several who may use it, each with username and password"},
    {USER("username", CONF_STRING, username), CREDENTIAL, RELOAD(NONE), .flags = CONF_NO_COLON | CONF_REQUIRED,
     .doc = "a user's name"},
    {USER("password", CONF_SECRET, password), CREDENTIAL, RELOAD(NONE), .flags = CONF_REQUIRED,
     .doc = "that user's password"},
    {FILE_OF(USER, "password"), RELOAD(NONE), .doc = "a file that holds it"},
    {LISTENER("handshake_timeout", CONF_DURATION, handshake_timeout), .preset = "10s", .min = 100, .max = HOUR,
     RELOAD(NONE), .doc = "time for a client to finish its request, from its connection on"},
    {LISTENER("idle_timeout", CONF_DURATION, idle_timeout), .preset = "2h", .max = 30 * (uint64_t)DAY,
     RELOAD(NONE), .doc = "a connection without a byte either way for so long is closed; 0 for never"},
    {LISTENER("max_connections", CONF_INTEGER, max_connections), .preset = "4096", .min = 1, .max = 1000000,
     RELOAD(NONE), .doc = "most connections at one time"},
    {LISTENER("max_connections_per_uid", CONF_INTEGER, max_connections_per_uid), .preset = "0", .max = 1000000,
     RELOAD(NONE), .doc = "most connections of one user of this machine; 0 for no such limit"},
    {LISTENER("allow_uids", CONF_UIDS, allow_uids), .min = 1, .max = CONF_IDS_MAX, RELOAD(NONE),
     .doc = "users of this machine that may connect"},
    {LISTENER("allow_gids", CONF_GIDS, allow_gids), .min = 1, .max = CONF_IDS_MAX, RELOAD(NONE),
     .doc = "groups of this machine whose users may connect"},
    {LISTENER("allow_open", CONF_BOOLEAN, allow_open), .preset = "false", RELOAD(NONE),
     .doc = "let everyone in on an address that is not loopback"},
    {LISTENER("pac", CONF_BOOLEAN, pac), .preset = "false", RELOAD(NONE),
     .doc = "serve /proxy.pac, which points browsers to the listener"},

    /* ---- [endpoint] ---- */
    {ENDPOINT("hostname", CONF_HOST, hostname), RELOAD(UPSTREAM), .flags = CONF_REQUIRED,
     .doc = "the endpoint's name, which its certificate must carry"},
    {ENDPOINT("addresses", CONF_ADDRESSES, addresses), .min = 1, .max = CONF_ADDRESSES_MAX, RELOAD(UPSTREAM),
     .flags = CONF_REQUIRED, .doc = "where the endpoint is; the port is 443 if left out"},
    {ENDPOINT("username", CONF_STRING, username), .min = 1, .max = 1024, RELOAD(UPSTREAM),
     .flags = CONF_REQUIRED | CONF_NO_COLON, .doc = "the account at the endpoint"},
    {ENDPOINT("password", CONF_SECRET, password), .min = 1, .max = 1024, RELOAD(UPSTREAM), .flags = CONF_REQUIRED,
     .doc = "its password"},
    {FILE_OF(ENDPOINT, "password"), RELOAD(UPSTREAM), .doc = "a file that holds it"},
    {ENDPOINT("name", CONF_STRING, name), .max = 255, RELOAD(NONE), .doc = "what people call the endpoint"},
    {ENDPOINT("certificate", CONF_PEM, certificate), .max = TOML_TEXT_MAX, RELOAD(UPSTREAM),
     .doc = "certificates that are trusted instead of the system's store"},
    {FILE_OF(ENDPOINT, "certificate"), RELOAD(UPSTREAM), .doc = "a file that holds them"},
    {ENDPOINT("client_certificate", CONF_PEM, client_certificate), .max = TOML_TEXT_MAX, RELOAD(UPSTREAM),
     .doc = "what adit shows to an endpoint that asks for a certificate, with its issuers"},
    {FILE_OF(ENDPOINT, "client_certificate"), RELOAD(UPSTREAM), .doc = "a file that holds them"},
    {ENDPOINT("client_key", CONF_KEY, client_key), .max = TOML_TEXT_MAX, RELOAD(UPSTREAM),
     .doc = "the private key of client_certificate"},
    {FILE_OF(ENDPOINT, "client_key"), RELOAD(UPSTREAM), .doc = "a file that holds it"},
    {ENDPOINT("pins", CONF_PINS, pins), .max = CONF_PINS_MAX, RELOAD(UPSTREAM),
     .doc = "hashes of the endpoint's key or certificate, one of which must match too"},
    {ENDPOINT("skip_verification", CONF_BOOLEAN, skip_verification), .preset = "false", RELOAD(UPSTREAM),
     .doc = "accept any certificate, or any that a pin allows; dangerous without pins"},
    {ENDPOINT("ticket_file", CONF_PATH, ticket_file), RELOAD(UPSTREAM),
     .doc = "where TLS session tickets are kept from one run to the next; if left out in memory only"},
    {ENDPOINT("custom_sni", CONF_HOST, custom_sni), RELOAD(UPSTREAM), .flags = CONF_NAME_ONLY,
     .doc = "the name sent in the clear in the TLS handshake, instead of hostname"},
    {ENDPOINT("transport", CONF_WORD, transport), .words = "auto|http2|http3", .preset = "auto", RELOAD(UPSTREAM),
     .doc = "HTTP/2, HTTP/3, or a race of the two"},
    {ENDPOINT("upstream_protocol", CONF_WORD, transport), .words = "auto|http2|http3", .alias_of = "transport",
     RELOAD(UPSTREAM), .doc = "another name of transport"},
    {ENDPOINT("client_random", CONF_RANDOM, client_random), RELOAD(UPSTREAM),
     .doc = "bytes at the start of the TLS client random, in hex, with an optional mask"},
    {ENDPOINT("client_random_prefix", CONF_RANDOM, client_random), .alias_of = "client_random", RELOAD(UPSTREAM),
     .doc = "another name of client_random"},
    {ENDPOINT("has_ipv6", CONF_BOOLEAN, has_ipv6), .preset = "true", RELOAD(UPSTREAM),
     .doc = "whether the endpoint can reach IPv6 destinations"},
    {ENDPOINT("fallback_delay", CONF_DURATION, fallback_delay), .preset = "1s", .max = MINUTE, RELOAD(UPSTREAM),
     .doc = "how long HTTP/3 is tried before HTTP/2 joins the race"},
    {ENDPOINT("handshake_timeout", CONF_DURATION, handshake_timeout), .preset = "10s", .min = 500,
     .max = 5 * MINUTE, RELOAD(UPSTREAM), .doc = "time for a session to come up"},
    {ENDPOINT("health_timeout", CONF_DURATION, health_timeout), .preset = "7s", .min = SECOND, .max = 5 * MINUTE,
     RELOAD(UPSTREAM), .doc = "time for the endpoint to answer a health check"},
    {ENDPOINT("recovery_wait", CONF_DURATION, recovery_wait), .preset = "10s", .max = 10 * MINUTE,
     RELOAD(UPSTREAM), .doc = "how long requests wait for a lost session to come back before they fail"},
    {ENDPOINT("connect_timeout", CONF_DURATION, connect_timeout), .preset = "30s", .min = SECOND,
     .max = 10 * MINUTE, RELOAD(UPSTREAM), .doc = "time for the endpoint to reach a destination"},
    {ENDPOINT("max_pending", CONF_INTEGER, max_pending), .preset = "256", .min = 1, .max = 65536, RELOAD(UPSTREAM),
     .doc = "most requests that wait for a session"},
    {ENDPOINT("max_sessions", CONF_INTEGER, max_sessions), .preset = "4", .min = 1, .max = 8, RELOAD(UPSTREAM),
     .doc = "most sessions at one time; an endpoint that takes fewer is used with what there is"},
    {ENDPOINT("session_streams", CONF_INTEGER, session_streams), .preset = "64", .min = 1, .max = 100000,
     RELOAD(UPSTREAM), .doc = "connections on a session past which another session is opened"},
    {ENDPOINT("session_lifetime", CONF_DURATION, session_lifetime), .preset = "0s", .max = 30 * (uint64_t)DAY,
     RELOAD(UPSTREAM), .doc = "a session is renewed when it is that old; 0 for never"},
    {ENDPOINT("stream_window", CONF_SIZE, stream_window), .preset = "6MiB", .min = 64 * KIB, .max = GIB,
     RELOAD(UPSTREAM), .doc = "bytes in flight towards adit on one stream"},
    {ENDPOINT("session_window", CONF_SIZE, session_window), .preset = "15MiB", .min = 64 * KIB, .max = GIB,
     RELOAD(UPSTREAM), .doc = "bytes in flight towards adit on all streams of a session"},
    {ENDPOINT("buffer_budget", CONF_SIZE, buffer_budget), .preset = "32MiB", .min = 64 * KIB, .max = 16 * GIB,
     RELOAD(UPSTREAM), .doc = "unread bytes of a session past which the endpoint is slowed down"},
    {ENDPOINT("user_agent", CONF_STRING, user_agent), .max = 255, RELOAD(UPSTREAM), .flags = CONF_ASCII,
     .doc = "sent with every request; if left out the platform, and adit with its version"},
    {ENDPOINT("anti_dpi", CONF_BOOLEAN, anti_dpi), .preset = "false", RELOAD(UPSTREAM), WARN(CHANGED),
     .say = "adit has no such measures yet: it has no effect", .doc = "without effect yet"},
    {DROPPED(ENDPOINT, "client_random_auth_key", CONF_ANY), RELOAD(NONE), WARN(SET),
     .say = "adit does not support it yet: an endpoint that insists on it will refuse the connection",
     .doc = "without effect yet"},
    {DROPPED(ENDPOINT, "dns_upstreams", CONF_STRINGS), .max = 256, RELOAD(NONE), NOTE(SET),
     .say = "adit does not use it yet: the endpoint resolves names itself", .doc = "DNS servers; without effect"},
};

#define OPTIONS (sizeof options / sizeof *options)
_Static_assert(OPTIONS <= CONF_OPTIONS_MAX, "CONF_OPTIONS_MAX is too small");

const struct conf_option *conf_option_at(size_t i) { return i < OPTIONS ? &options[i] : NULL; }

const struct conf_option *conf_option_find(enum conf_scope scope, const char *key, size_t n) {
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct conf_option *o = &options[i];
        size_t len = strlen(o->key);
        if (o->scope != scope || n < len || memcmp(o->key, key, len) != 0) continue;
        if (n == len || o->flags & CONF_PREFIX) return o;
    }
    return NULL;
}

const char *conf_option_path(const struct conf_option *o, const char *listener, char *buf, size_t cap) {
    if (!listener) listener = "NAME";
    switch (o->scope) {
    case CONF_SCOPE_LISTENERS: snprintf(buf, cap, "listener.%s", o->key); break;
    case CONF_SCOPE_LISTENER: snprintf(buf, cap, "listener.%s.%s", listener, o->key); break;
    case CONF_SCOPE_USER: snprintf(buf, cap, "listener.%s.users.%s", listener, o->key); break;
    case CONF_SCOPE_ENDPOINT: snprintf(buf, cap, "endpoint.%s", o->key); break;
    default: snprintf(buf, cap, "%s", o->key); break;
    }
    return buf;
}

const char *conf_type_word(enum conf_type t) {
    static const char *const words[] = {
#define X(symbol, word, expected) word,
        CONF_TYPES(X)
#undef X
    };
    return words[t];
}

const char *conf_type_expected(enum conf_type t) {
    static const char *const texts[] = {
#define X(symbol, word, expected) expected,
        CONF_TYPES(X)
#undef X
    };
    return texts[t];
}

const char *conf_reload_word(enum conf_reload r) {
    static const char *const words[] = {"same", "none", "listener", "upstream", "all"};
    return words[r];
}

const char *conf_word_at(const char *words, int index, size_t *n) {
    const char *at = words;
    for (; at && index > 0; index--) {
        at = strchr(at, '|');
        if (at) at++;
    }
    *n = at ? strcspn(at, "|") : 0;
    return at;
}

int conf_word_index(const char *words, const char *word, size_t n) {
    size_t len;
    const char *at;
    for (int i = 0; (at = conf_word_at(words, i, &len)); i++)
        if (len == n && memcmp(at, word, n) == 0) return i;
    return -1;
}

/* "100ms to 1h", "1 to 16 elements", "auto|http2|http3"; "-" where there is nothing to say. */
static const char *format_bounds(const struct conf_option *o, char *buf, size_t cap) {
    char min[CONF_VALUE_TEXT], max[CONF_VALUE_TEXT];
    switch (o->type) {
    case CONF_WORD:
    case CONF_WORDS: snprintf(buf, cap, "%s", o->words); break;
    case CONF_DURATION:
    case CONF_SIZE:
    case CONF_INTEGER:
        snprintf(buf, cap, "%s to %s", conf_format_number(o->type, o->min, min, sizeof min),
                 conf_format_number(o->type, o->max, max, sizeof max));
        break;
    case CONF_STRING:
    case CONF_SECRET: snprintf(buf, cap, "%" PRIu64 " to %" PRIu64 " bytes", o->min, o->max); break;
    case CONF_ADDRESSES:
    case CONF_PINS:
    case CONF_UIDS:
    case CONF_GIDS:
    case CONF_USERS: snprintf(buf, cap, "%" PRIu64 " to %" PRIu64 " elements", o->min, o->max); break;
    case CONF_MODE: snprintf(buf, cap, "0 to 0%o", (unsigned)o->max); break;
    case CONF_RANDOM: snprintf(buf, cap, "at most %d bytes", CONF_RANDOM_MAX); break;
    default: snprintf(buf, cap, "-"); break;
    }
    return buf;
}

void conf_print_options(FILE *to) {
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct conf_option *o = &options[i];
        char path[128], bounds[64];
        fprintf(to, "%s%s\t%s\t%s\t%s\t%s\t%s\n", conf_option_path(o, NULL, path, sizeof path),
                o->flags & CONF_PREFIX ? "*" : "", conf_type_word(o->type), o->preset ? o->preset : "-",
                format_bounds(o, bounds, sizeof bounds), conf_reload_word(o->reload), o->doc);
    }
}
