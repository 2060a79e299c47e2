#include "upstream/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "net/sock.h"
#include "upstream/pool_impl.h"

#define RESOLVE_TIMEOUT 5000       /* ms */
#define RESOLVE_FRESH (30 * LOOP_S) /* an answer serves both transports of a race, and quick retries */
#define VERIFY_APART (5 * LOOP_S)  /* between verifications for changes that did not concern the way to the endpoint */
#define PARK_AFTER (20 * LOOP_S)   /* without a new flow, an orderly end needs no new session */

static void start_attempt(struct pool *p, enum transport t);

/* --- policy --- */

static void arm_tick(struct pool *p) { loop_timer_set(&p->tick, policy_deadline(&p->policy)); }

static void drop_link(struct pool *p, enum transport t) {
    p->awaiting[t] = false;
    p->way_up[t] = false;
    link_free(p->way[t]);
    p->way[t] = NULL;
}

void pool_retire_link(struct pool *p, struct link *l) {
    size_t n = 0;
    while (n < POOL_LINKS && p->retired[n]) n++;
    if (n == POOL_LINKS) {
        log_warn("pool", "closing the oldest retired session upstream=%s", p->cfg.name);
        link_free(p->retired[0]);
        memmove(p->retired, p->retired + 1, --n * sizeof *p->retired);
    }
    p->retired[n] = l;
    link_retire(l);
}

static void retire_link(struct pool *p, enum transport t) {
    struct link *l = p->way[t];
    p->way[t] = NULL;
    p->way_up[t] = false;
    if (l) pool_retire_link(p, l);
}

static void log_policy(struct pool *p, enum policy_state from, int used) {
    const struct policy *y = &p->policy;
    char quoted[300];
    if (y->state == from && y->use == used) return;
    if (p->cfg.changed) p->cfg.changed(p->cfg.arg);
    const char *why = log_quote_str(*p->reason ? p->reason : err_text(y->reason), quoted, sizeof quoted);
    switch (y->state) {
    case POLICY_UP:
        if (y->use == TRANSPORT_H2 && y->reason)
            log_info("pool", "new flows use h2 upstream=%s reason=%s", p->cfg.name, err_word(y->reason));
        else
            log_info("pool", "new flows use %s upstream=%s", transport_word(y->use), p->cfg.name);
        break;
    case POLICY_WAITING:
        log_warn("pool", "upstream is down upstream=%s reason=%s detail=%s retry_ms=%u", p->cfg.name,
                 err_word(y->reason), why, (unsigned)((y->retry_at - loop_now(p->cfg.loop)) / LOOP_MS));
        break;
    case POLICY_REJECTED:
        log_error("pool", "credentials rejected upstream=%s detail=%s retry_ms=%u", p->cfg.name, why,
                  (unsigned)((y->retry_at - loop_now(p->cfg.loop)) / LOOP_MS));
        break;
    case POLICY_PARKED: log_info("pool", "session ended unused upstream=%s", p->cfg.name); break;
    case POLICY_CONNECTING:
    case POLICY_STOPPED: log_debug("pool", "%s upstream=%s", policy_state_word(y->state), p->cfg.name); break;
    }
}

void pool_policy(struct pool *p, enum policy_event_kind kind, enum transport t, enum err err, bool unused) {
    struct policy_event e = {kind, t, err, unused};
    enum policy_state from = p->policy.state;
    int used = p->policy.use;
    struct policy_actions a = policy_event(&p->policy, &e, loop_now(p->cfg.loop));
    for (int i = 0; i < TRANSPORT_COUNT; i++)
        if (a.cancel[i]) drop_link(p, i);
    for (int i = 0; i < TRANSPORT_COUNT; i++)
        if (a.retire[i]) retire_link(p, i);
    log_policy(p, from, used);
    pool_more_prune(p);
    if (a.fail_pending) pool_opens_fail(p, p->policy.reason, p->reason);
    for (int i = 0; i < TRANSPORT_COUNT; i++)
        if (a.start[i]) start_attempt(p, i);
    arm_tick(p);
    defer_post(loop_defer(p->cfg.loop), &p->serve);
}

static void on_tick(void *arg) { pool_policy(arg, POLICY_TICK, TRANSPORT_H2, ERR_OK, false); }

struct link *pool_link(struct pool *p) {
    if (p->policy.use < 0) return NULL;
    struct link *l = p->way[p->policy.use];
    return l && link_is_up(l) ? l : NULL;
}

/* --- links --- */

static void check_gone(struct pool *p) {
    if (p->gone && !p->retired[0]) defer_post(loop_defer(p->cfg.loop), &p->gone_node);
}

static void retired_event(struct pool *p, struct link *l, enum link_event ev) {
    if (ev == LINK_SILENT || ev == LINK_STALE) pool_opens_requeue(p, l);
    if (ev != LINK_ENDED) return;
    for (size_t i = 0; i < POOL_LINKS; i++) {
        if (p->retired[i] != l) continue;
        memmove(p->retired + i, p->retired + i + 1, (POOL_LINKS - 1 - i) * sizeof *p->retired);
        p->retired[POOL_LINKS - 1] = NULL;
        link_free(l);
        check_gone(p);
        return;
    }
}

static void link_ended(struct pool *p, struct link *l, enum transport t) {
    char at[ADDR_TEXT_MAX], quoted[300];
    enum err err = link_error(l);
    bool was_up = p->way_up[t];
    snprintf(p->reason, sizeof p->reason, "%s", link_error_text(l));
    log_info("pool", "%s upstream=%s transport=%s address=%s reason=%s detail=%s",
             was_up ? "session ended" : "attempt failed", p->cfg.name, transport_word(t),
             addr_format(link_address(l), at, sizeof at), err_word(err),
             log_quote_str(p->reason, quoted, sizeof quoted));
    p->way[t] = NULL;
    p->way_up[t] = false;
    pool_opens_requeue(p, l);
    link_free(l);
    if (was_up && p->policy.use == (int)t && pool_more_replace(p, t)) return;
    bool unused = p->queued == 0 && p->sent == 0 && loop_now(p->cfg.loop) - p->last_open > PARK_AFTER;
    enum policy_event_kind kind = was_up ? POLICY_T_DOWN : POLICY_T_FAILED;
    if (err == ERR_UPSTREAM_AUTH) kind = POLICY_T_AUTH;
    pool_policy(p, kind, t, err, unused);
}

static void on_link(struct link *l, enum link_event ev, void *arg) {
    struct pool *p = arg;
    enum transport t = link_transport(l);
    if (p->way[t] != l) {
        if (!pool_more_event(p, l, ev)) retired_event(p, l, ev);
        return;
    }
    switch (ev) {
    case LINK_UP:
        p->way_up[t] = true;
        pool_policy(p, POLICY_T_UP, t, ERR_OK, false);
        break;
    case LINK_CHECKED: pool_policy(p, POLICY_T_CHECKED, t, ERR_OK, false); break;
    case LINK_AUTH:
        snprintf(p->reason, sizeof p->reason, "%s", link_error_text(l));
        pool_policy(p, POLICY_T_AUTH, t, ERR_UPSTREAM_AUTH, false);
        break;
    case LINK_SILENT:
        snprintf(p->reason, sizeof p->reason, "nothing received for %u ms", p->cfg.health_timeout);
        log_warn("pool", "session is silent upstream=%s transport=%s", p->cfg.name, transport_word(t));
        pool_opens_requeue(p, l);
        pool_policy(p, POLICY_T_SILENT, t, ERR_UPSTREAM_TIMEOUT, false);
        break;
    case LINK_DRAIN:
        if (p->policy.use == (int)t && pool_more_replace(p, t)) {
            pool_retire_link(p, l);
            break;
        }
        snprintf(p->reason, sizeof p->reason, "the endpoint takes no new streams on this session");
        pool_policy(p, POLICY_T_DRAIN, t, ERR_UPSTREAM_CLOSED, false);
        break;
    case LINK_STALE:
        log_info("pool", "session does not answer any more upstream=%s transport=%s", p->cfg.name, transport_word(t));
        pool_opens_requeue(p, l);
        if (p->policy.use == (int)t && pool_more_replace(p, t)) {
            pool_retire_link(p, l);
            break;
        }
        snprintf(p->reason, sizeof p->reason, "the session did not survive idleness or a change of the network");
        pool_policy(p, POLICY_T_STALE, t, ERR_UPSTREAM_TIMEOUT, false);
        break;
    case LINK_ROOM: pool_serve(p); break;
    case LINK_ENDED: link_ended(p, l, t); break;
    }
}

struct link *pool_make_link(struct pool *p, enum transport t) {
    struct link_config c = {.loop = p->cfg.loop,
                            .transport = t,
                            .addrs = p->addrs,
                            .n_addrs = p->n_addrs,
                            .session = p->cfg.session,
                            .dialect = p->cfg.dialect,
                            .context = &p->cfg.context,
                            .health_timeout = p->cfg.health_timeout,
                            .cb = on_link,
                            .arg = p};
    return link_new(&c);
}

static void start_link(struct pool *p, enum transport t) {
    p->awaiting[t] = false;
    log_debug("pool", "attempt upstream=%s transport=%s", p->cfg.name, transport_word(t));
    p->way[t] = pool_make_link(p, t);
    if (!p->way[t]) pool_policy(p, POLICY_T_FAILED, t, ERR_NO_MEMORY, false);
}

/* --- addresses --- */

/* Changes when another local address leads to the endpoint, or none does any more. */
static uint32_t path_sum(const struct pool *p) {
    uint32_t sum = 2166136261u;
    for (size_t i = 0; i < p->n_addrs; i++) {
        char text[ADDR_TEXT_MAX] = "none";
        struct addr from;
        if (sock_source(&p->addrs[i], &from)) addr_format(&from, text, sizeof text);
        for (const char *c = text; *c; c++) sum = (sum ^ (uint8_t)*c) * 16777619u;
    }
    return sum;
}

static void addresses_ready(struct pool *p, int err, const char *why) {
    char quoted[200];
    size_t n = 0;
    struct addr found[POOL_ADDRESSES];
    for (size_t i = 0; i < p->cfg.n_addresses; i++)
        for (size_t k = 0; k < p->resolving[i].n && n < POOL_ADDRESSES; k++) found[n++] = p->resolving[i].found[k];
    if (n) {
        memcpy(p->addrs, found, n * sizeof *found);
        p->n_addrs = n;
        p->resolved_at = loop_now(p->cfg.loop);
        p->path = path_sum(p);
    } else {
        log_warn("pool", "no address for the endpoint upstream=%s detail=%s%s", p->cfg.name,
                 log_quote_str(why, quoted, sizeof quoted), p->n_addrs ? " using=last-good" : "");
    }
    for (int t = 0; t < TRANSPORT_COUNT; t++) {
        if (!p->awaiting[t]) continue;
        if (p->n_addrs) {
            start_link(p, t);
            continue;
        }
        p->awaiting[t] = false;
        snprintf(p->reason, sizeof p->reason, "%s", why);
        pool_policy(p, POLICY_T_FAILED, t, err ? err : ERR_UPSTREAM_DNS, false);
    }
}

static void on_resolved(int err, const char *why, const struct addr *addrs, size_t n, void *arg) {
    struct pool_name *name = arg;
    struct pool *p = name->pool;
    name->q = NULL;
    for (size_t i = 0; !err && i < n && i < RESOLVE_MAX; i++) name->found[name->n++] = addrs[i];
    if (--p->resolves == 0) addresses_ready(p, err, why ? why : "");
}

/* Splits "host:port" or "[v6]:port"; the port is there (pool_new looked). */
static uint16_t split_address(const char *text, char *host, size_t cap) {
    const char *colon = strrchr(text, ':');
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    snprintf(host, cap, "%.*s", (int)n, text);
    return (uint16_t)atoi(colon + 1);
}

static void resolve_all(struct pool *p) {
    char host[DEST_TEXT_MAX];
    p->resolves = 1; /* held until all are started */
    for (size_t i = 0; i < p->cfg.n_addresses; i++) {
        uint16_t port = split_address(p->names[i], host, sizeof host);
        struct pool_name *name = &p->resolving[i];
        name->pool = p;
        name->n = 0;
        name->q = resolve_start(p->cfg.resolver, host, port, RESOLVE_TIMEOUT, on_resolved, name);
        if (name->q) p->resolves++;
    }
    if (--p->resolves == 0) addresses_ready(p, ERR_NO_MEMORY, err_text(ERR_NO_MEMORY));
}

static void start_attempt(struct pool *p, enum transport t) {
    bool fresh = p->n_addrs && p->resolved_at && loop_now(p->cfg.loop) - p->resolved_at < RESOLVE_FRESH;
    if (fresh) {
        start_link(p, t);
        return;
    }
    p->awaiting[t] = true;
    if (p->resolves == 0) resolve_all(p);
}

/* --- the network --- */

void pool_tell(struct pool *p, enum monitor_news news) {
    uint64_t now = loop_now(p->cfg.loop);
    uint32_t path = path_sum(p);
    bool moved = news == MONITOR_WOKEN || path != p->path || p->policy.state != POLICY_UP;
    p->path = path;
    if (!moved && now - p->verified_at < VERIFY_APART) return;
    log_info("pool", "%s upstream=%s state=%s way=%s", news == MONITOR_WOKEN ? "awake again" : "the network changed",
             p->cfg.name, policy_state_word(p->policy.state), moved ? "changed" : "same");
    p->verified_at = now;
    p->resolved_at = 0;
    for (int t = 0; t < TRANSPORT_COUNT; t++)
        if (p->way[t]) link_verify(p->way[t]);
    pool_more_verify(p);
    if (moved) pool_policy(p, POLICY_KICK, TRANSPORT_H2, ERR_OK, false);
}

/* --- life --- */

static bool valid_address(const char *text) {
    const char *colon = strrchr(text, ':');
    char *end;
    if (!colon || colon == text) return false;
    long port = strtol(colon + 1, &end, 10);
    return colon[1] && !*end && port > 0 && port < 65536 && colon - text < DEST_TEXT_MAX;
}

static int copy_config(struct pool *p, const struct pool_config *c) {
    p->cfg = *c;
    p->cfg.addresses = NULL;
    p->cfg.context = (struct dialect_context){.no_ipv6 = c->context.no_ipv6};
    p->cfg.session.creds = creds_ref(c->session.creds);
    if (c->n_addresses == 0 || c->n_addresses > POOL_ADDRESSES) return ERR_CONFIG;
    for (size_t i = 0; i < c->n_addresses; i++) {
        if (!valid_address(c->addresses[i])) return ERR_CONFIG;
        p->names[i] = strdup(c->addresses[i]);
        if (!p->names[i]) return ERR_NO_MEMORY;
    }
    p->cfg.name = strdup(c->name);
    const char *auth = c->context.authorization, *agent = c->context.user_agent;
    p->cfg.context.authorization = auth ? secret_dup(auth, strlen(auth)) : NULL;
    p->cfg.context.user_agent = agent ? strdup(agent) : NULL;
    bool short_of = !p->cfg.name || (auth && !p->cfg.context.authorization) || (agent && !p->cfg.context.user_agent);
    return short_of ? ERR_NO_MEMORY : 0;
}

static void on_gone(void *arg) {
    struct pool *p = arg;
    p->gone(p, p->gone_arg);
}

int pool_new(struct pool **out, const struct pool_config *c) {
    struct pool *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return ERR_NO_MEMORY;
    loop_timer_init(&p->tick, c->loop, on_tick, p);
    defer_init(&p->serve, pool_serve, p);
    defer_init(&p->gone_node, on_gone, p);
    p->cfg.loop = c->loop;
    pool_more_init(p);
    int r = copy_config(p, c);
    policy_init(&p->policy, &c->policy);
    if (r) {
        pool_free(p);
        return r;
    }
    *out = p;
    return 0;
}

void pool_start(struct pool *p) { pool_policy(p, POLICY_START, TRANSPORT_H2, ERR_OK, false); }

void pool_stop(struct pool *p) { pool_policy(p, POLICY_STOP, TRANSPORT_H2, ERR_SHUTDOWN, false); }

void pool_dismiss(struct pool *p, void (*gone)(struct pool *p, void *arg), void *arg) {
    pool_stop(p);
    p->gone = gone;
    p->gone_arg = arg;
    check_gone(p);
}

void pool_free(struct pool *p) {
    if (!p) return;
    pool_opens_free(p);
    for (int t = 0; t < TRANSPORT_COUNT; t++) link_free(p->way[t]);
    for (size_t i = 0; i < POOL_LINKS; i++) link_free(p->retired[i]);
    pool_more_free(p);
    for (size_t i = 0; i < POOL_ADDRESSES; i++) {
        resolve_cancel(p->resolving[i].q);
        free(p->names[i]);
    }
    loop_timer_stop(&p->tick);
    defer_cancel(&p->serve);
    defer_cancel(&p->gone_node);
    creds_unref(p->cfg.session.creds);
    secret_free(p->cfg.context.authorization);
    free(p->cfg.context.user_agent);
    free((char *)p->cfg.name);
    free(p);
}

void pool_get_info(const struct pool *p, struct pool_info *i) {
    memset(i, 0, sizeof *i);
    i->state = p->policy.state;
    i->use = p->policy.use;
    i->reason = p->policy.reason;
    i->pending = p->queued;
    i->opening = p->sent;
    i->opened = p->opened;
    i->failed = p->failed;
    i->retried = p->retried;
    i->sessions = pool_link((struct pool *)p) ? 1 + pool_more_count(p) : 0;
    i->links = pool_more_count(p);
    for (size_t k = 0; k < POOL_LINKS; k++) i->links += p->retired[k] != NULL;
    for (int t = 0; t < TRANSPORT_COUNT; t++) i->links += p->way[t] != NULL;
    if (i->use >= 0 && p->way[i->use]) link_info(p->way[i->use], &i->session);
}

const char *pool_reason_text(const struct pool *p) { return p->reason; }
