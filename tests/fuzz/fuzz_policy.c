/* fuzz_policy.c - arbitrary events, also such as a sane pool never sends, against a model of the pool.
 *
 * The first byte picks the choice of transports and the times, then three bytes make an event: what and to whom, an
 * err, and how much time passes before. The model keeps what the pool would hold for each transport (nothing, an
 * attempt, a session) and knows nothing of the policy but its contract.
 */
#include <stdlib.h>
#include <string.h>

#include "upstream/policy.h"

#define MS UINT64_C(1000000)
#define NEVER UINT64_MAX
#define H2 TRANSPORT_H2
#define H3 TRANSPORT_H3

#define CHECK(x) \
    do { \
        if (!(x)) abort(); \
    } while (0)

enum slot { SLOT_NONE, SLOT_ATTEMPT, SLOT_SESSION };

struct model {
    struct policy p;
    enum slot slot[TRANSPORT_COUNT];
    uint64_t now;
    unsigned failures; /* attempts that failed since something else happened */
};

static bool is_verdict(enum err e) { return e == ERR_UPSTREAM_CERTIFICATE || e == ERR_UPSTREAM_AUTH; }

static bool allowed(const struct model *m, enum transport t) {
    if (m->p.cfg.choice == TRANSPORT_AUTO) return true;
    return (t == H3) == (m->p.cfg.choice == TRANSPORT_ONLY_H3);
}

/* What the event itself does to the pool. True if it is the end of an attempt. */
static bool happens(struct model *m, const struct policy_event *e) {
    enum slot was = m->slot[e->t];
    switch (e->kind) {
    case POLICY_T_UP:
        if (was == SLOT_ATTEMPT) m->slot[e->t] = SLOT_SESSION;
        break;
    case POLICY_T_FAILED:
    case POLICY_T_DOWN: m->slot[e->t] = SLOT_NONE; return was == SLOT_ATTEMPT;
    default: break;
    }
    return false;
}

static void carry_out(struct model *m, const struct policy_actions *a, int used) {
    for (int t = 0; t < TRANSPORT_COUNT; t++) {
        if (a->cancel[t]) {
            CHECK(m->slot[t] != SLOT_NONE);
            CHECK(used != t); /* a session with flows is retired, never dropped */
            m->slot[t] = SLOT_NONE;
        }
        if (a->retire[t]) {
            CHECK(m->slot[t] == SLOT_SESSION && used == t);
            m->slot[t] = SLOT_NONE;
        }
    }
    for (int t = 0; t < TRANSPORT_COUNT; t++) {
        if (!a->start[t]) continue;
        CHECK(m->slot[t] == SLOT_NONE);
        CHECK(allowed(m, t));
        m->slot[t] = SLOT_ATTEMPT;
    }
}

static void check_state(const struct model *m) {
    const struct policy *p = &m->p;
    const struct policy_config *c = &p->cfg;
    uint64_t at = policy_deadline(p);
    bool nothing = m->slot[H2] == SLOT_NONE && m->slot[H3] == SLOT_NONE;
    for (int t = 0; t < TRANSPORT_COUNT; t++) {
        CHECK((p->way[t] == WAY_IDLE) == (m->slot[t] == SLOT_NONE));
        CHECK((p->way[t] == WAY_STARTING) == (m->slot[t] == SLOT_ATTEMPT));
    }
    CHECK((p->state == POLICY_UP) == (p->use >= 0));
    CHECK(p->backoff >= c->backoff_first && p->backoff <= c->backoff_max);
    CHECK(p->hold_down >= c->hold_down_first && p->hold_down <= c->hold_down_max);
    CHECK(p->held_until <= m->now + c->hold_down_max * MS);
    switch (p->state) {
    case POLICY_STOPPED:
    case POLICY_PARKED: CHECK(nothing && at == NEVER); break;
    case POLICY_CONNECTING:
        CHECK(m->slot[H2] == SLOT_ATTEMPT || m->slot[H3] == SLOT_ATTEMPT);
        CHECK(m->slot[H2] != SLOT_SESSION && m->slot[H3] != SLOT_SESSION);
        CHECK(at == NEVER || at <= m->now + c->fallback_delay * MS);
        CHECK(at == NEVER || m->slot[H2] == SLOT_NONE); /* armed for the fallback only */
        break;
    case POLICY_UP:
        CHECK(m->slot[p->use] == SLOT_SESSION && allowed(m, p->use));
        if (p->use == H2 && c->choice == TRANSPORT_AUTO)
            CHECK((m->slot[H3] == SLOT_NONE) == (at != NEVER)); /* a probe is due or runs */
        else
            CHECK(at == NEVER && m->slot[1 - p->use] == SLOT_NONE);
        break;
    case POLICY_WAITING: CHECK(nothing && at != NEVER && at <= m->now + c->backoff_max * MS); break;
    case POLICY_REJECTED: CHECK(nothing && at != NEVER && at <= m->now + c->auth_retry * MS); break;
    }
}

/* What must follow from this event in particular. */
static void check_event(struct model *m, const struct policy_event *e, const struct policy_actions *a,
                        enum policy_state was, int used, bool attempt_ended) {
    const struct policy *p = &m->p;
    bool started = a->start[H2] || a->start[H3];
    bool beside = was == POLICY_UP && used != (int)e->t;
    bool verdict = e->kind == POLICY_T_AUTH || (attempt_ended && is_verdict(e->err));
    if (verdict) CHECK(!started);
    if (a->fail_pending)
        CHECK(p->state == POLICY_REJECTED || p->state == POLICY_STOPPED ||
              (p->state == POLICY_WAITING && verdict));
    if (beside && e->kind >= POLICY_T_UP && e->kind != POLICY_T_CHECKED) /* a probe's fate is its own */
        CHECK(p->state == POLICY_UP && p->use == used && !started && !a->fail_pending);
    if (attempt_ended && was == POLICY_CONNECTING) m->failures++;
    else if (!attempt_ended && e->kind != POLICY_TICK) m->failures = 0;
    if (p->state != POLICY_CONNECTING) m->failures = 0;
    CHECK(m->failures <= TRANSPORT_COUNT); /* failures alone never make attempts without a wait */
    switch (e->kind) {
    case POLICY_START: CHECK(p->state != POLICY_STOPPED); break;
    case POLICY_STOP: CHECK(p->state == POLICY_STOPPED && a->fail_pending && !started); break;
    case POLICY_DEMAND: CHECK(p->state != POLICY_PARKED && started == (was == POLICY_PARKED)); break;
    case POLICY_KICK:
        CHECK(p->state != POLICY_WAITING);
        CHECK(was == POLICY_STOPPED || p->held_until <= m->now);
        if (p->state == POLICY_UP && p->use == H2 && allowed(m, H3) && m->slot[H3] == SLOT_NONE)
            CHECK(policy_deadline(p) <= m->now);
        break;
    case POLICY_TICK: CHECK(policy_deadline(p) > m->now); break; /* no tick asks for another one at once */
    default: break;
    }
}

static void feed(struct model *m, const struct policy_event *e) {
    enum policy_state was = m->p.state;
    int used = m->p.use;
    bool probed = used == H2 && m->slot[H3] != SLOT_NONE;
    bool attempt_ended = happens(m, e);
    struct policy_actions a = policy_event(&m->p, e, m->now);
    carry_out(m, &a, used);
    check_state(m);
    check_event(m, e, &a, was, used, attempt_ended);
    if (probed && m->p.use == H2 && m->slot[H3] == SLOT_NONE) /* the next probe comes after a growing time */
        CHECK(policy_deadline(&m->p) >= m->now + m->p.cfg.hold_down_first * MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const enum err errs[] = {ERR_UPSTREAM_TIMEOUT, ERR_UPSTREAM_CERTIFICATE, ERR_UPSTREAM_REFUSED,
                                    ERR_UPSTREAM_CLOSED,  ERR_OK,                   ERR_UPSTREAM_PROTOCOL,
                                    ERR_NO_MEMORY,        ERR_UPSTREAM_AUTH};
    struct model m = {.now = 1000 * 1000 * MS};
    struct policy_config c;
    if (size < 1) return 0;
    policy_config_init(&c);
    c.choice = (enum transport_choice)(data[0] % 3);
    c.seed = data[0];
    if (data[0] & 0x80) { /* growth that begins at its end */
        c.backoff_first = c.backoff_max;
        c.hold_down_first = c.hold_down_max;
    }
    policy_init(&m.p, &c);
    check_state(&m);
    for (size_t i = 1; i + 3 <= size; i += 3) {
        struct policy_event e = {.kind = (enum policy_event_kind)((data[i] & 15) % (POLICY_T_STALE + 1)),
                                 .t = data[i] >> 4 & 1,
                                 .err = errs[data[i + 1] & 7],
                                 .unused = data[i + 1] >> 3 & 1};
        uint64_t at = policy_deadline(&m.p);
        if (data[i + 2] == 255) {
            if (at != NEVER && at > m.now) m.now = at;
        } else {
            m.now += data[i + 2] * (data[i] & 0x80 ? 1000 : 10) * MS;
        }
        feed(&m, &e);
    }
    return 0;
}
