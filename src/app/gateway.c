#include "app/gateway.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/log.h"
#include "base/secret.h"
#include "flow/flow.h"
#include "inbound/listen.h"
#include "net/monitor.h"
#include "net/resolve.h"
#include "session/creds.h"
#include "upstream/dialect.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

struct gateway {
    struct loop *loop;
    struct conf *conf;
    struct resolver *resolver;
    struct monitor *monitor;
    struct pool *pool;
    struct flow_set *flows;
    struct listener *listeners[CONF_LISTENERS_MAX];
    size_t n_listeners;
};

/* --- upstream --- */

static int make_creds(const struct conf *conf, struct creds **out, char *why, size_t cap) {
    const struct conf_endpoint *e = &conf->endpoint;
    char text[CREDS_WHY_MAX];
    unsigned line = 0, col = 0;
    struct creds_config c = {.hostname = e->hostname,
                             .sni = e->custom_sni,
                             .trust_pem = e->certificate,
                             .skip_verification = e->skip_verification,
                             .random_len = e->client_random.len};
    memcpy(c.random_prefix, e->client_random.prefix, sizeof c.random_prefix);
    memcpy(c.random_mask, e->client_random.mask, sizeof c.random_mask);
    int r = creds_new(out, &c, text, sizeof text);
    if (r == 0) return 0;
    if (e->certificate && conf_place(conf, "endpoint.certificate", &line, &col))
        snprintf(why, cap, "%s:%u:%u: certificate: %s", conf->name, line, col, text);
    else
        snprintf(why, cap, "%s: %s", conf->name, text);
    return r;
}

/* "<platform> <app>", as endpoints of this protocol expect it. */
static void default_user_agent(char *buf, size_t cap) {
    struct utsname u;
    if (uname(&u)) strcpy(u.sysname, "Linux");
    snprintf(buf, cap, "%.32s adit/" PACKAGE_VERSION, u.sysname);
}

static enum transport_choice choice_of(enum conf_transport t) {
    if (t == CONF_TRANSPORT_HTTP2) return TRANSPORT_ONLY_H2;
    return t == CONF_TRANSPORT_HTTP3 ? TRANSPORT_ONLY_H3 : TRANSPORT_AUTO;
}

static int make_pool(struct gateway *g, struct creds *creds) {
    const struct conf_endpoint *e = &g->conf->endpoint;
    char texts[CONF_ADDRESSES_MAX][DEST_TEXT_MAX], agent[64];
    const char *addresses[CONF_ADDRESSES_MAX];
    for (size_t i = 0; i < e->addresses.n; i++)
        addresses[i] = dest_format(&e->addresses.v[i], texts[i], sizeof texts[i]);
    default_user_agent(agent, sizeof agent);
    char *basic = dialect_basic(e->username, e->password);
    if (!basic) return ERR_NO_MEMORY;

    struct pool_config c = {.name = e->hostname,
                            .loop = g->loop,
                            .resolver = g->resolver,
                            .addresses = addresses,
                            .n_addresses = e->addresses.n,
                            .dialect = &dialect_trusttunnel,
                            .context = {.authorization = basic,
                                        .user_agent = (char *)(e->user_agent ? e->user_agent : agent),
                                        .no_ipv6 = !e->has_ipv6},
                            .health_timeout = (uint32_t)e->health_timeout,
                            .connect_timeout = (uint32_t)e->connect_timeout,
                            .recovery_wait = (uint32_t)e->recovery_wait,
                            .max_pending = e->max_pending,
                            .max_sessions = e->max_sessions,
                            .session_streams = e->session_streams,
                            .session_lifetime = e->session_lifetime};
    session_config_init(&c.session);
    c.session.creds = creds;
    c.session.handshake_timeout = (uint32_t)e->handshake_timeout;
    c.session.stream_window = (uint32_t)e->stream_window;
    c.session.session_window = (uint32_t)e->session_window;
    c.session.budget = e->buffer_budget;
    c.session.allow_no_alpn = true;
    policy_config_init(&c.policy);
    c.policy.choice = choice_of(e->transport);
    c.policy.fallback_delay = (uint32_t)e->fallback_delay;
    c.policy.seed = (uint32_t)(loop_now(g->loop) ^ (uintptr_t)g >> 4);
    int r = pool_new(&g->pool, &c);
    secret_free(basic);
    return r;
}

/* --- inbound --- */

static bool is_loopback_name(const struct dest *d) {
    size_t n = strlen(d->host), tail = sizeof ".localhost" - 1;
    return d->kind == DEST_NAME &&
           (strcmp(d->host, "localhost") == 0 || (n > tail && strcmp(d->host + n - tail, ".localhost") == 0));
}

/* A destination that would come back to adit: one of its ports, on an address that reaches it. */
static bool is_self(const struct dest *d, void *arg) {
    const struct gateway *g = arg;
    for (size_t i = 0; i < g->n_listeners; i++) {
        const struct addr *at = listener_addr(g->listeners[i]);
        if (addr_port(at) != d->port) continue;
        if (is_loopback_name(d)) return true;
        if (d->kind == DEST_NAME) continue;
        if (addr_same_ip(at, &d->ip) || addr_is_unspecified(&d->ip)) return true;
        if (addr_is_loopback(&d->ip) && (addr_is_loopback(at) || addr_is_unspecified(at))) return true;
    }
    return false;
}

static int make_listener(struct gateway *g, const struct conf_listener *cl, char *why, size_t cap) {
    struct listen_user users[CONF_USERS_MAX];
    char at[ADDR_TEXT_MAX], place[64] = "";
    unsigned line, col;
    int errnum;
    for (size_t i = 0; i < cl->users.n; i++)
        users[i] = (struct listen_user){cl->users.v[i].username, cl->users.v[i].password};
    struct listen_config c = {.loop = g->loop,
                              .flows = g->flows,
                              .name = cl->name,
                              .address = cl->address,
                              .protocols = (cl->protocols & CONF_SOCKS5 ? LISTEN_SOCKS5 : 0) |
                                           (cl->protocols & CONF_HTTP ? LISTEN_HTTP : 0),
                              .users = users,
                              .n_users = cl->users.n,
                              .handshake_timeout = (uint32_t)cl->handshake_timeout,
                              .idle_timeout = (uint32_t)cl->idle_timeout,
                              .max_connections = cl->max_connections,
                              .is_self = is_self,
                              .arg = g};
    int r = listener_new(&g->listeners[g->n_listeners], &c, &errnum);
    secret_wipe(users, sizeof users);
    if (r == 0) {
        g->n_listeners++;
        return 0;
    }
    char path[300];
    snprintf(path, sizeof path, "listener.%s.address", cl->name);
    if (conf_place(g->conf, path, &line, &col)) snprintf(place, sizeof place, ":%u:%u", line, col);
    snprintf(why, cap, "%s%s: cannot listen on %s: %s", g->conf->name, place,
             addr_format(&cl->address, at, sizeof at), errnum ? strerror(errnum) : err_text(r));
    return r;
}

/* --- life --- */

int gateway_check(struct conf *conf, char *why, size_t cap) {
    struct creds *creds;
    int r = make_creds(conf, &creds, why, cap);
    if (r == 0) creds_unref(creds);
    return r;
}

static int build(struct gateway *g, char *why, size_t cap) {
    struct creds *creds;
    int r = make_creds(g->conf, &creds, why, cap);
    if (r) return r;
    snprintf(why, cap, "%s", err_text(ERR_NO_MEMORY));
    g->resolver = resolver_new(g->loop);
    r = g->resolver ? make_pool(g, creds) : ERR_NO_MEMORY;
    creds_unref(creds);
    if (r) return r;
    struct flow_set_config fc = {.loop = g->loop, .pool = g->pool, .upstream = g->conf->endpoint.hostname};
    g->flows = flow_set_new(&fc);
    if (!g->flows) return ERR_NO_MEMORY;
    for (size_t i = 0; i < g->conf->n_listeners; i++) {
        r = make_listener(g, &g->conf->listeners[i], why, cap);
        if (r) return r;
    }
    return 0;
}

int gateway_new(struct gateway **out, struct loop *l, struct conf *conf, char *why, size_t cap) {
    struct gateway *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) {
        snprintf(why, cap, "%s", err_text(ERR_NO_MEMORY));
        return ERR_NO_MEMORY;
    }
    g->loop = l;
    g->conf = conf_ref(conf);
    int r = build(g, why, cap);
    if (r) {
        gateway_free(g);
        return r;
    }
    *out = g;
    return 0;
}

static void on_news(enum monitor_news news, void *arg) {
    struct gateway *g = arg;
    pool_tell(g->pool, news);
}

void gateway_start(struct gateway *g) {
    char at[ADDR_TEXT_MAX];
    for (size_t i = 0; i < g->n_listeners; i++)
        log_info("gateway", "listening name=%s address=%s", listener_name(g->listeners[i]),
                 addr_format(listener_addr(g->listeners[i]), at, sizeof at));
    g->monitor = monitor_new(g->loop, on_news, g);
    pool_start(g->pool);
}

static void close_listeners(struct gateway *g) {
    for (size_t i = 0; i < g->n_listeners; i++) listener_free(g->listeners[i]);
    g->n_listeners = 0;
}

void gateway_drain(struct gateway *g, void (*drained)(void *arg), void *arg) {
    close_listeners(g);
    flow_set_drain(g->flows, drained, arg);
}

void gateway_free(struct gateway *g) {
    if (!g) return;
    close_listeners(g);
    monitor_free(g->monitor);
    flow_set_free(g->flows);
    pool_free(g->pool);
    resolver_free(g->resolver);
    conf_unref(g->conf);
    free(g);
}

unsigned gateway_flows(const struct gateway *g) { return flow_count(g->flows); }
const struct pool *gateway_pool(const struct gateway *g) { return g->pool; }
const struct addr *gateway_listener(const struct gateway *g, size_t n) {
    return n < g->n_listeners ? listener_addr(g->listeners[n]) : NULL;
}
