#include "upstream/policy.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"

#define NEVER UINT64_MAX
#define MS UINT64_C(1000000)
#define KICK_APART (2000 * MS) /* attempts get this long before another kick begins them anew */

const char *transport_word(enum transport t) { return t == TRANSPORT_H3 ? "h3" : "h2"; }

const char *policy_state_word(enum policy_state s) {
    static const char *const words[] = {"stopped", "connecting", "up", "waiting", "rejected", "parked"};
    return (unsigned)s < sizeof words / sizeof *words ? words[s] : "?";
}

void policy_config_init(struct policy_config *c) {
    *c = (struct policy_config){.choice = TRANSPORT_AUTO,
                                .fallback_delay = 1000,
                                .backoff_first = 1000,
                                .backoff_max = 60000,
                                .hold_down_first = 30000,
                                .hold_down_max = 1800000,
                                .stable_after = 60000,
                                .auth_retry = 300000,
                                .seed = 1};
}

void policy_init(struct policy *p, const struct policy_config *c) {
    memset(p, 0, sizeof *p);
    p->cfg = *c;
    p->use = -1;
    p->h2_at = p->retry_at = NEVER;
    p->backoff = c->backoff_first;
    p->hold_down = c->hold_down_first;
    p->random = c->seed ? c->seed : 1;
}

/* The one setter of state. */
static void set_state(struct policy *p, enum policy_state state, uint64_t now) {
    if (p->state == state) return;
    log_debug("policy", "state from=%s to=%s reason=%s", policy_state_word(p->state), policy_state_word(state),
              err_word(p->reason));
    p->state = state;
    p->since = now;
}

static bool allowed(const struct policy *p, enum transport t) {
    if (p->cfg.choice == TRANSPORT_AUTO) return true;
    return (t == TRANSPORT_H3) == (p->cfg.choice == TRANSPORT_ONLY_H3);
}

/* Failures that another transport would meet as well, and must not paper over. */
static bool is_verdict(enum err e) { return e == ERR_UPSTREAM_CERTIFICATE || e == ERR_UPSTREAM_AUTH; }

static uint32_t jitter(struct policy *p, uint32_t ms) {
    p->random ^= p->random << 13;
    p->random ^= p->random >> 17;
    p->random ^= p->random << 5;
    return ms - (uint32_t)((uint64_t)ms * (p->random % 200) / 1000);
}

/* One step of growth, never beyond max. */
static uint32_t grow(uint32_t ms, unsigned tenths, uint32_t max) {
    uint64_t next = (uint64_t)ms * tenths / 10;
    return next > max ? max : (uint32_t)next;
}

static enum transport other_than(enum transport t) { return t == TRANSPORT_H2 ? TRANSPORT_H3 : TRANSPORT_H2; }

static void start(struct policy *p, enum transport t, struct policy_actions *a) {
    if (t == TRANSPORT_H2) p->h2_at = NEVER;
    if (p->way[t] != WAY_IDLE) return;
    p->way[t] = WAY_STARTING;
    p->tried[t] = true;
    a->start[t] = true;
}

static void cancel(struct policy *p, enum transport t, struct policy_actions *a) {
    if (p->way[t] == WAY_STARTING || p->way[t] == WAY_PROBATION) {
        p->way[t] = WAY_IDLE;
        a->cancel[t] = true;
    }
}

static void retire(struct policy *p, enum transport t, struct policy_actions *a) {
    if (p->way[t] != WAY_UP) return;
    p->way[t] = WAY_IDLE;
    a->retire[t] = true;
    if (p->use == (int)t) p->use = -1;
}

/* HTTP/3 lost, failed or fell silent: HTTP/2 goes first until the time is over. */
static void hold_down(struct policy *p, uint64_t now) {
    if (p->cfg.choice != TRANSPORT_AUTO) return;
    p->held_until = now + p->hold_down * MS;
    p->hold_down = grow(p->hold_down, 20, p->cfg.hold_down_max);
}

static bool held(const struct policy *p, uint64_t now) { return p->held_until > now; }

/* Begins a round of attempts; each transport gets at most one in it. */
static void connect_now(struct policy *p, uint64_t now, struct policy_actions *a) {
    set_state(p, POLICY_CONNECTING, now);
    p->retry_at = NEVER;
    for (int t = 0; t < TRANSPORT_COUNT; t++) p->tried[t] = p->way[t] == WAY_STARTING;
    if (allowed(p, TRANSPORT_H3) && !held(p, now)) {
        start(p, TRANSPORT_H3, a);
        if (allowed(p, TRANSPORT_H2) && p->way[TRANSPORT_H2] == WAY_IDLE)
            p->h2_at = now + p->cfg.fallback_delay * MS;
    } else {
        start(p, TRANSPORT_H2, a);
    }
}

static void wait_for_retry(struct policy *p, uint64_t now) {
    p->retry_at = now + jitter(p, p->backoff) * MS;
    p->backoff = grow(p->backoff, 13, p->cfg.backoff_max);
    p->h2_at = NEVER;
    set_state(p, POLICY_WAITING, now);
}

/* Every attempt and session is given up. */
static void drop_all(struct policy *p, struct policy_actions *a) {
    for (int t = 0; t < TRANSPORT_COUNT; t++) {
        cancel(p, t, a);
        retire(p, t, a);
    }
    p->use = -1;
    p->h2_at = NEVER;
}

static void use_transport(struct policy *p, enum transport t, uint64_t now, struct policy_actions *a) {
    enum transport other = other_than(t);
    if (p->way[other] == WAY_STARTING && other == TRANSPORT_H3) {
        hold_down(p, now);
        p->reason = ERR_UPSTREAM_TIMEOUT;
    }
    cancel(p, other, a);
    retire(p, other, a);
    p->way[t] = WAY_UP;
    p->use = (int)t;
    p->h2_at = p->retry_at = NEVER;
    if (t == TRANSPORT_H3) p->held_until = 0;
    if (t == TRANSPORT_H3 || p->cfg.choice == TRANSPORT_ONLY_H2) p->reason = ERR_OK;
    set_state(p, POLICY_UP, now);
    p->since = now; /* also when UP only changed its transport */
}

static void on_up(struct policy *p, enum transport t, uint64_t now, struct policy_actions *a) {
    if (p->way[t] != WAY_STARTING) return;
    if (p->state == POLICY_UP)
        p->way[t] = WAY_PROBATION; /* a probe beside the session in use: its check decides */
    else
        use_transport(p, t, now, a);
}

/* A probe or a session on probation came to nothing; the session in use stays. Always held down: else the next probe
 * would be due at once. */
static void probe_failed(struct policy *p, enum transport t, enum err err, uint64_t now) {
    p->way[t] = WAY_IDLE;
    p->reason = err;
    if (t == TRANSPORT_H3) hold_down(p, now);
}

static void on_failed(struct policy *p, enum transport t, enum err err, uint64_t now, struct policy_actions *a) {
    enum transport other = other_than(t);
    if (p->state == POLICY_UP) {
        probe_failed(p, t, err, now);
        return;
    }
    p->way[t] = WAY_IDLE;
    p->reason = err;
    if (is_verdict(err)) { /* no hold-down: that would hand the next round to the other transport */
        drop_all(p, a);
        a->fail_pending = true;
        wait_for_retry(p, now);
        return;
    }
    if (t == TRANSPORT_H3) hold_down(p, now);
    /* at once; also HTTP/3 that is held down, for HTTP/2 may be what the network drops */
    if (allowed(p, other) && !p->tried[other]) start(p, other, a);
    if (p->way[other] == WAY_IDLE) wait_for_retry(p, now);
}

/* A session that lasted proves its way: the next trouble is a new one. */
static bool was_stable(struct policy *p, uint64_t now) {
    if (now - p->since < p->cfg.stable_after * MS) return false;
    p->backoff = p->cfg.backoff_first;
    p->hold_down = p->cfg.hold_down_first;
    return true;
}

/* A session on probation is better than none. */
static bool promote(struct policy *p, uint64_t now, struct policy_actions *a) {
    for (int t = 0; t < TRANSPORT_COUNT; t++) {
        if (p->way[t] != WAY_PROBATION) continue;
        use_transport(p, t, now, a);
        return true;
    }
    return false;
}

/* The session in use is gone or useless: replace it. A session that was stable is replaced at once. */
static void replace(struct policy *p, uint64_t now, struct policy_actions *a) {
    bool stable = was_stable(p, now);
    p->use = -1;
    if (promote(p, now, a)) return;
    if (stable || p->backoff == p->cfg.backoff_first || p->way[TRANSPORT_H3] == WAY_STARTING) {
        /* the first loss costs no waiting, the next ones of an unstable upstream do */
        if (!stable) p->backoff = grow(p->backoff, 13, p->cfg.backoff_max);
        connect_now(p, now, a);
    } else {
        wait_for_retry(p, now);
    }
}

static void on_down(struct policy *p, const struct policy_event *e, uint64_t now, struct policy_actions *a) {
    if (p->way[e->t] == WAY_PROBATION) {
        probe_failed(p, e->t, e->err, now);
        return;
    }
    if (p->way[e->t] != WAY_UP) return;
    p->way[e->t] = WAY_IDLE;
    p->reason = e->err;
    p->use = -1;
    bool orderly = e->err == ERR_OK || e->err == ERR_UPSTREAM_CLOSED || e->err == ERR_UPSTREAM_TIMEOUT;
    if (e->unused && orderly && p->way[TRANSPORT_H2] == WAY_IDLE && p->way[TRANSPORT_H3] == WAY_IDLE) {
        was_stable(p, now);
        set_state(p, POLICY_PARKED, now);
        return;
    }
    replace(p, now, a);
}

/* Gives up what is beside the session in use. */
static void drop_probe(struct policy *p, enum transport t, enum err err, uint64_t now, struct policy_actions *a) {
    cancel(p, t, a);
    probe_failed(p, t, err, now);
}

static void on_silent(struct policy *p, enum transport t, uint64_t now, struct policy_actions *a) {
    if (p->way[t] == WAY_PROBATION) drop_probe(p, t, ERR_UPSTREAM_TIMEOUT, now, a);
    if (p->way[t] != WAY_UP) return;
    p->reason = ERR_UPSTREAM_TIMEOUT;
    was_stable(p, now);
    retire(p, t, a);
    if (t == TRANSPORT_H3) hold_down(p, now);
    /* at once, whatever the back-off: flows are waiting for this */
    if (!promote(p, now, a)) connect_now(p, now, a);
}

/* What broke it was the sleep or the change, not the way: nothing is held against it. */
static void on_stale(struct policy *p, enum transport t, uint64_t now, struct policy_actions *a) {
    if (p->way[t] == WAY_PROBATION) drop_probe(p, t, ERR_UPSTREAM_TIMEOUT, now, a);
    if (p->way[t] != WAY_UP) return;
    p->reason = ERR_UPSTREAM_TIMEOUT;
    was_stable(p, now);
    retire(p, t, a);
    if (!promote(p, now, a)) connect_now(p, now, a);
}

static void on_drain(struct policy *p, enum transport t, uint64_t now, struct policy_actions *a) {
    if (p->way[t] == WAY_PROBATION) drop_probe(p, t, ERR_UPSTREAM_CLOSED, now, a);
    if (p->way[t] != WAY_UP) return;
    p->reason = ERR_UPSTREAM_CLOSED;
    retire(p, t, a);
    replace(p, now, a);
}

static void on_auth(struct policy *p, enum transport t, uint64_t now, struct policy_actions *a) {
    if (p->way[t] == WAY_IDLE) return;
    if (p->state == POLICY_UP && p->use != (int)t) {
        /* the same credentials serve the session in use: endpoints refuse one session too many in these words */
        drop_probe(p, t, ERR_UPSTREAM_AUTH, now, a);
        return;
    }
    p->reason = ERR_UPSTREAM_AUTH;
    drop_all(p, a);
    a->fail_pending = true;
    p->retry_at = now + p->cfg.auth_retry * MS;
    set_state(p, POLICY_REJECTED, now);
}

/* Attempts made over the network as it was would only time out. */
static void on_kick(struct policy *p, uint64_t now, struct policy_actions *a) {
    p->backoff = p->cfg.backoff_first;
    p->hold_down = p->cfg.hold_down_first;
    if (p->held_until) p->held_until = now;
    if (p->state == POLICY_CONNECTING && (!p->kicked || now - p->kicked >= KICK_APART)) {
        p->kicked = now;
        drop_all(p, a);
        connect_now(p, now, a);
    }
    if (p->state == POLICY_WAITING) connect_now(p, now, a);
}

static void on_tick(struct policy *p, uint64_t now, struct policy_actions *a) {
    switch (p->state) {
    case POLICY_CONNECTING:
        if (p->h2_at <= now) start(p, TRANSPORT_H2, a);
        break;
    case POLICY_WAITING:
    case POLICY_REJECTED:
        if (p->retry_at <= now) connect_now(p, now, a);
        break;
    case POLICY_UP:
        if (p->use == TRANSPORT_H2 && p->held_until && p->held_until <= now && allowed(p, TRANSPORT_H3))
            start(p, TRANSPORT_H3, a);
        break;
    case POLICY_STOPPED:
    case POLICY_PARKED: break;
    }
}

static void on_checked(struct policy *p, enum transport t, uint64_t now, struct policy_actions *a) {
    if (p->way[t] == WAY_PROBATION) use_transport(p, t, now, a);
}

struct policy_actions policy_event(struct policy *p, const struct policy_event *e, uint64_t now) {
    struct policy_actions a = {0};
    enum transport t = e->t;
    bool running = p->state != POLICY_STOPPED;
    switch (e->kind) {
    case POLICY_START:
        if (!running) connect_now(p, now, &a);
        break;
    case POLICY_STOP:
        drop_all(p, &a);
        p->retry_at = NEVER;
        a.fail_pending = true;
        p->reason = ERR_SHUTDOWN;
        set_state(p, POLICY_STOPPED, now);
        break;
    case POLICY_DEMAND:
        if (p->state == POLICY_PARKED) connect_now(p, now, &a);
        break;
    case POLICY_KICK:
        if (running) on_kick(p, now, &a);
        break;
    case POLICY_TICK: on_tick(p, now, &a); break;
    case POLICY_T_UP: on_up(p, t, now, &a); break;
    case POLICY_T_CHECKED: on_checked(p, t, now, &a); break;
    case POLICY_T_FAILED:
    case POLICY_T_DOWN:
        if (p->way[t] == WAY_STARTING) on_failed(p, t, e->err, now, &a);
        else on_down(p, e, now, &a);
        break;
    case POLICY_T_SILENT: on_silent(p, t, now, &a); break;
    case POLICY_T_DRAIN: on_drain(p, t, now, &a); break;
    case POLICY_T_AUTH: on_auth(p, t, now, &a); break;
    case POLICY_T_STALE: on_stale(p, t, now, &a); break;
    }
    return a;
}

uint64_t policy_deadline(const struct policy *p) {
    switch (p->state) {
    case POLICY_CONNECTING: return p->h2_at;
    case POLICY_WAITING:
    case POLICY_REJECTED: return p->retry_at;
    case POLICY_UP:
        if (p->use == TRANSPORT_H2 && p->held_until && p->way[TRANSPORT_H3] == WAY_IDLE &&
            p->cfg.choice == TRANSPORT_AUTO)
            return p->held_until;
        return NEVER;
    case POLICY_STOPPED:
    case POLICY_PARKED: break;
    }
    return NEVER;
}
