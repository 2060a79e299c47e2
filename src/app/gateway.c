#include "app/gateway.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/ticket_file.h"
#include "app/upstream.h"
#include "base/log.h"
#include "base/secret.h"
#include "flow/flow.h"
#include "inbound/listen.h"
#include "net/activation.h"
#include "net/monitor.h"
#include "net/peer.h"
#include "net/resolve.h"
#include "net/unix_sock.h"
#include "session/creds.h"
#include "upstream/dialect.h"

/* More reloads than that while old flows live end the oldest ones' flows. */
#define GATEWAY_DISMISSED 8

struct gateway {
    struct loop *loop;
    struct conf *conf;
    struct resolver *resolver;
    struct monitor *monitor;
    struct creds *creds;
    struct pool *pool;
    struct flow_set *flows;
    struct listener *listeners[CONF_LISTENERS_MAX];
    struct conf_address asked[CONF_LISTENERS_MAX]; /* as configured: port 0 is not resolved */
    struct peer_finder *peers;
    size_t n_listeners;
    void (*changed)(void *arg);
    void *changed_arg;
    struct pool *dismissed[GATEWAY_DISMISSED]; /* of earlier configurations, while flows use them; oldest first */
};

/* --- upstream --- */

static void on_pool_changed(void *arg) {
    struct gateway *g = arg;
    if (g->changed) g->changed(g->changed_arg);
}

static int make_pool(struct gateway *g, struct pool **out, const struct conf *conf, struct creds *creds) {
    const struct conf_endpoint *e = &conf->endpoint;
    char texts[CONF_ADDRESSES_MAX][DEST_TEXT_MAX], agent[UPSTREAM_AGENT_MAX];
    const char *addresses[CONF_ADDRESSES_MAX];
    for (size_t i = 0; i < e->addresses.n; i++)
        addresses[i] = dest_format(&e->addresses.v[i], texts[i], sizeof texts[i]);
    char *basic = dialect_basic(e->username, e->password);
    if (!basic) return ERR_NO_MEMORY;

    struct pool_config c = {.name = e->hostname,
                            .loop = g->loop,
                            .resolver = g->resolver,
                            .addresses = addresses,
                            .n_addresses = e->addresses.n,
                            .dialect = &dialect_trusttunnel,
                            .context = {.authorization = basic,
                                        .user_agent = (char *)upstream_agent(e, agent),
                                        .no_ipv6 = !e->has_ipv6},
                            .health_timeout = (uint32_t)e->health_timeout,
                            .connect_timeout = (uint32_t)e->connect_timeout,
                            .recovery_wait = (uint32_t)e->recovery_wait,
                            .max_pending = e->max_pending,
                            .max_sessions = e->max_sessions,
                            .session_streams = e->session_streams,
                            .session_lifetime = e->session_lifetime,
                            .changed = on_pool_changed,
                            .arg = g};
    upstream_session(e, creds, &c.session);
    policy_config_init(&c.policy);
    c.policy.choice = upstream_choice(e);
    c.policy.fallback_delay = (uint32_t)e->fallback_delay;
    c.policy.seed = (uint32_t)(loop_now(g->loop) ^ (uintptr_t)g >> 4);
    int r = pool_new(out, &c);
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

/* users: room for CONF_USERS_MAX, to be wiped by the caller. */
static struct listen_config listen_config_of(struct gateway *g, const struct conf_listener *cl,
                                             struct listen_user *users) {
    for (size_t i = 0; i < cl->users.n; i++)
        users[i] = (struct listen_user){cl->users.v[i].username, cl->users.v[i].password};
    return (struct listen_config){.loop = g->loop,
                                  .flows = g->flows,
                                  .name = cl->name,
                                  .address = cl->address.addr,
                                  .mode = cl->mode,
                                  .activated = cl->address.activated,
                                  .protocols = (cl->protocols & CONF_SOCKS5 ? LISTEN_SOCKS5 : 0) |
                                               (cl->protocols & CONF_SOCKS4 ? LISTEN_SOCKS4 : 0) |
                                               (cl->protocols & CONF_HTTP ? LISTEN_HTTP : 0),
                                  .users = users,
                                  .n_users = cl->users.n,
                                  .handshake_timeout = (uint32_t)cl->handshake_timeout,
                                  .idle_timeout = (uint32_t)cl->idle_timeout,
                                  .max_connections = cl->max_connections,
                                  .pac = cl->pac,
                                  .max_per_uid = cl->max_connections_per_uid,
                                  .allow_uids = cl->allow_uids.v,
                                  .n_allow_uids = cl->allow_uids.n,
                                  .allow_gids = cl->allow_gids.v,
                                  .n_allow_gids = cl->allow_gids.n,
                                  .peers = g->peers,
                                  .is_self = is_self,
                                  .arg = g};
}

static const char *listen_error(const struct conf_listener *cl, int errnum) {
    return conf_address_is_unix(&cl->address) ? unix_sock_text(errnum) : strerror(errnum);
}

/* "FILE:LINE:COLUMN: cannot listen on ADDRESS: " and the reason. */
static int cannot_listen(const struct conf *conf, const struct conf_listener *cl, int err, const char *reason, char *why,
                         size_t cap) {
    char at[CONF_ADDRESS_TEXT_MAX], place[64] = "", path[300];
    unsigned line, col;
    snprintf(path, sizeof path, "listener.%s.address", cl->name);
    if (conf_place(conf, path, &line, &col)) snprintf(place, sizeof place, ":%u:%u", line, col);
    snprintf(why, cap, "%s%s: cannot listen on %s: %s", conf->name, place,
             conf_address_format(&cl->address, at, sizeof at), reason);
    return err;
}

/* What shows only when the socket is there: that what was passed is not open to everyone, and that the kernel tells about
 * clients if that matters. */
static int check_listener(struct gateway *g, const struct listener *l, const struct conf *conf,
                          const struct conf_listener *cl, char *why, size_t cap) {
    const struct addr *at = listener_addr(l);
    char reason[256], text[ADDR_TEXT_MAX];
    if (!cl->allow_open && !cl->users.n && !addr_is_loopback(at)) {
        snprintf(reason, sizeof reason, "it would be open to everyone who can reach %s: give it username and password, or "
                                        "set allow_open = true", addr_format(at, text, sizeof text));
        return cannot_listen(conf, cl, ERR_CONFIG, reason, why, cap);
    }
    bool asks = cl->allow_uids.n || cl->allow_gids.n || cl->max_connections_per_uid;
    int errnum = asks && at->u.sa.sa_family != AF_UNIX ? peer_probe(g->peers, at) : 0;
    if (!errnum) return 0;
    snprintf(reason, sizeof reason, "the kernel does not tell whose connections are (sock_diag): %s", strerror(errnum));
    return cannot_listen(conf, cl, ERR_IO, reason, why, cap);
}

static int make_listener(struct gateway *g, struct listener **out, const struct conf *conf,
                         const struct conf_listener *cl, char *why, size_t cap) {
    struct listen_user users[CONF_USERS_MAX];
    char reason[ACTIVATION_WHY_MAX];
    int errnum;
    struct listen_config c = listen_config_of(g, cl, users);
    int r = c.activated ? activation_open(c.activated, &c.fd, reason, sizeof reason) : 0;
    if (r) {
        cannot_listen(conf, cl, r, reason, why, cap);
    } else {
        r = listener_new(out, &c, &errnum);
        if (r) cannot_listen(conf, cl, r, errnum ? listen_error(cl, errnum) : err_text(r), why, cap);
    }
    secret_wipe(users, sizeof users);
    if (r == 0 && (r = check_listener(g, *out, conf, cl, why, cap))) {
        listener_free(*out);
        *out = NULL;
    }
    return r;
}

static int update_listener(struct gateway *g, struct listener *l, const struct conf_listener *cl) {
    struct listen_user users[CONF_USERS_MAX];
    struct listen_config c = listen_config_of(g, cl, users);
    int r = listener_update(l, &c);
    secret_wipe(users, sizeof users);
    return r;
}

/* --- life --- */

int gateway_check(struct conf *conf, char *why, size_t cap) {
    struct creds *creds;
    int r = upstream_creds(conf, &creds, why, cap);
    if (r == 0) creds_unref(creds);
    return r;
}

static int build(struct gateway *g, char *why, size_t cap) {
    int r = upstream_creds(g->conf, &g->creds, why, cap);
    if (r) return r;
    if (g->conf->endpoint.ticket_file) ticket_file_load(g->conf->endpoint.ticket_file, g->creds);
    snprintf(why, cap, "%s", err_text(ERR_NO_MEMORY));
    g->resolver = resolver_new(g->loop);
    g->peers = peer_finder_new();
    if (!g->peers) return ERR_NO_MEMORY;
    r = g->resolver ? make_pool(g, &g->pool, g->conf, g->creds) : ERR_NO_MEMORY;
    if (r) return r;
    struct flow_set_config fc = {.loop = g->loop, .pool = g->pool, .upstream = g->conf->endpoint.hostname};
    g->flows = flow_set_new(&fc);
    if (!g->flows) return ERR_NO_MEMORY;
    for (size_t i = 0; i < g->conf->n_listeners; i++) {
        r = make_listener(g, &g->listeners[i], g->conf, &g->conf->listeners[i], why, cap);
        if (r) return r;
        g->asked[i] = g->conf->listeners[i].address;
        g->n_listeners++;
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

/* A user namespace hides the machine's users: with some of them nobody who is listed could ever come in. */
static void say_unknown(const struct conf_listener *cl) {
    for (size_t i = 0; i < cl->allow_uids.n; i++)
        if (!peer_knows(cl->allow_uids.v[i]))
            log_warn("gateway", "this user namespace does not have the user, who is never let in (PrivateUsers=?) listener=%s uid=%u",
                     cl->name, cl->allow_uids.v[i]);
}

static void say_listening(const struct listener *l) {
    char at[ADDR_TEXT_MAX];
    log_info("gateway", "listening name=%s address=%s", listener_name(l),
             addr_format(listener_addr(l), at, sizeof at));
}

static void say_unused(const struct gateway *g) {
    const char *name;
    char quoted[ACTIVATION_NAME_MAX + 3];
    for (size_t i = 0; (name = activation_name(i)); i++) {
        size_t k = 0;
        while (k < g->n_listeners && (!g->asked[k].activated || strcmp(g->asked[k].activated, name) != 0)) k++;
        if (k == g->n_listeners)
            log_warn("gateway", "a socket was passed that no listener uses name=%s", log_quote_str(name, quoted, sizeof quoted));
    }
}

void gateway_start(struct gateway *g) {
    for (size_t i = 0; i < g->n_listeners; i++) {
        say_listening(g->listeners[i]);
        say_unknown(&g->conf->listeners[i]);
    }
    say_unused(g);
    g->monitor = monitor_new(g->loop, on_news, g);
    pool_start(g->pool);
}

/* --- reload --- */

/* What becomes of the listeners: those at an address that stays are kept, whatever else of them changed. */
struct listener_plan {
    struct listener *l[CONF_LISTENERS_MAX]; /* by the new configuration */
    bool fresh[CONF_LISTENERS_MAX];
    bool kept[CONF_LISTENERS_MAX]; /* by the old one */
};

static bool is_any_port(const struct conf_address *a) {
    return !a->activated && !conf_address_is_unix(a) && addr_port(&a->addr) == 0;
}

static void plan_kept(struct gateway *g, const struct conf *conf, struct listener_plan *plan) {
    for (size_t i = 0; i < conf->n_listeners; i++)
        for (size_t k = 0; k < g->n_listeners && !plan->l[i]; k++) {
            const struct conf_listener *cl = &conf->listeners[i];
            if (plan->kept[k] || !conf_address_equal(&g->asked[k], &cl->address)) continue;
            if (is_any_port(&cl->address) && strcmp(listener_name(g->listeners[k]), cl->name) != 0) continue;
            plan->kept[k] = true;
            plan->l[i] = g->listeners[k];
        }
}

static void plan_undo(const struct conf *conf, struct listener_plan *plan) {
    for (size_t i = 0; i < conf->n_listeners; i++)
        if (plan->fresh[i]) listener_free(plan->l[i]);
}

static int plan_listeners(struct gateway *g, const struct conf *conf, struct listener_plan *plan, char *why,
                          size_t cap) {
    plan_kept(g, conf, plan);
    for (size_t i = 0; i < conf->n_listeners; i++) {
        const struct conf_listener *cl = &conf->listeners[i];
        bool fresh = !plan->l[i];
        int r = fresh ? make_listener(g, &plan->l[i], conf, cl, why, cap)
                      : check_listener(g, plan->l[i], conf, cl, why, cap);
        if (r) {
            plan_undo(conf, plan);
            return r;
        }
        plan->fresh[i] = fresh;
    }
    return 0;
}

/* Cannot fail, but for memory: then a listener goes on as it was. */
static void carry_out(struct gateway *g, const struct conf *conf, const struct listener_plan *plan) {
    char at[ADDR_TEXT_MAX];
    for (size_t k = 0; k < g->n_listeners; k++) {
        if (plan->kept[k]) continue;
        log_info("gateway", "not listening any more name=%s address=%s", listener_name(g->listeners[k]),
                 addr_format(listener_addr(g->listeners[k]), at, sizeof at));
        listener_free(g->listeners[k]);
    }
    for (size_t i = 0; i < conf->n_listeners; i++) {
        g->listeners[i] = plan->l[i];
        g->asked[i] = conf->listeners[i].address;
        say_unknown(&conf->listeners[i]);
        if (plan->fresh[i]) say_listening(plan->l[i]);
        else if (update_listener(g, plan->l[i], &conf->listeners[i]))
            log_error("gateway", "out of memory: a listener stays as it was name=%s", listener_name(plan->l[i]));
    }
    g->n_listeners = conf->n_listeners;
}

static void on_pool_gone(struct pool *p, void *arg) {
    struct gateway *g = arg;
    size_t i = 0;
    while (g->dismissed[i] != p) i++;
    memmove(g->dismissed + i, g->dismissed + i + 1, (GATEWAY_DISMISSED - 1 - i) * sizeof *g->dismissed);
    g->dismissed[GATEWAY_DISMISSED - 1] = NULL;
    pool_free(p);
}

static void dismiss(struct gateway *g, struct pool *p) {
    size_t n = 0;
    while (n < GATEWAY_DISMISSED && g->dismissed[n]) n++;
    if (n == GATEWAY_DISMISSED) {
        log_warn("gateway", "ending the sessions of the oldest configuration that is still in use");
        pool_free(g->dismissed[0]);
        memmove(g->dismissed, g->dismissed + 1, --n * sizeof *g->dismissed);
    }
    g->dismissed[n] = p;
    pool_dismiss(p, on_pool_gone, g);
}

int gateway_reload(struct gateway *g, struct conf *conf, char *why, size_t cap) {
    struct listener_plan plan = {0};
    struct pool *fresh = NULL, *old = g->pool;
    struct creds *creds;
    int r = upstream_creds(conf, &creds, why, cap);
    if (r) return r;
    bool upstream = conf_endpoint_diff(&g->conf->endpoint, &conf->endpoint) >= CONF_RELOAD_UPSTREAM;
    r = plan_listeners(g, conf, &plan, why, cap);
    if (r == 0 && upstream) {
        snprintf(why, cap, "%s", err_text(ERR_NO_MEMORY));
        r = make_pool(g, &fresh, conf, creds);
        if (r == 0) {
            creds_move_tickets(g->creds, creds);
            pool_start(fresh);
            r = flow_set_use(g->flows, fresh, conf->endpoint.hostname);
        }
        if (r) {
            pool_free(fresh);
            plan_undo(conf, &plan);
        }
    }
    if (r || !upstream) creds_unref(creds);
    if (r) return r;
    carry_out(g, conf, &plan);
    if (upstream) {
        g->pool = fresh;
        dismiss(g, old);
        creds_unref(g->creds);
        g->creds = creds;
    }
    conf_unref(g->conf);
    g->conf = conf_ref(conf);
    log_info("gateway", "reloaded listeners=%zu upstream=%s", g->n_listeners, upstream ? "new" : "same");
    return 0;
}

/* --- end --- */

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
    peer_finder_free(g->peers);
    pool_free(g->pool);
    for (size_t i = 0; i < GATEWAY_DISMISSED; i++) pool_free(g->dismissed[i]);
    resolver_free(g->resolver);
    if (g->creds && g->conf->endpoint.ticket_file) ticket_file_save(g->conf->endpoint.ticket_file, g->creds);
    creds_unref(g->creds);
    conf_unref(g->conf);
    free(g);
}

unsigned gateway_flows(const struct gateway *g) { return flow_count(g->flows); }
const struct pool *gateway_pool(const struct gateway *g) { return g->pool; }
void gateway_on_change(struct gateway *g, void (*changed)(void *arg), void *arg) {
    g->changed = changed;
    g->changed_arg = arg;
}
const char *gateway_upstream(const struct gateway *g) { return g->conf->endpoint.hostname; }
const struct listener *gateway_listener_at(const struct gateway *g, size_t n) {
    return n < g->n_listeners ? g->listeners[n] : NULL;
}
const struct addr *gateway_listener(const struct gateway *g, size_t n) {
    return n < g->n_listeners ? listener_addr(g->listeners[n]) : NULL;
}
