/* More sessions than one: started when those that are up are loaded, or when the one in use has lived long enough.
 *
 * The policy knows one session a transport, the one in use. The others here belong to the pool alone: nothing that
 * becomes of them is an event for the policy, and an endpoint that refuses them is used with what there is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "upstream/pool_impl.h"

#define HOLD_FIRST 60000         /* ms without another attempt after a refused one; doubles */
#define HOLD_MAX 1800000         /* ms */
#define IDLE (45 * LOOP_S)       /* a session beside the one in use ends when it had no stream for so long */
#define LOOK_EVERY (15 * LOOP_S) /* while there are such sessions */

static uint64_t now_of(const struct pool *p) { return loop_now(p->cfg.loop); }

static struct pool_more *find(struct pool *p, const struct link *l) {
    for (size_t i = 0; i < POOL_MORE; i++)
        if (p->more[i].link == l) return &p->more[i];
    return NULL;
}

static void clear(struct pool_more *m) { *m = (struct pool_more){0}; }

static unsigned count(const struct pool *p) {
    unsigned n = 0;
    for (size_t i = 0; i < POOL_MORE; i++) n += p->more[i].link != NULL;
    return n;
}

static bool starting(const struct pool *p) {
    for (size_t i = 0; i < POOL_MORE; i++)
        if (p->more[i].link && !p->more[i].ready) return true;
    return false;
}

static uint64_t age(const struct pool *p, const struct link *l) {
    struct session_info i;
    return link_info(l, &i) && i.up ? now_of(p) - i.up : 0;
}

/* Lifetimes end 0..10 % early, each session's at its own time, so that they do not all end at once. */
static uint64_t lifetime(const struct pool *p, const struct link *l) {
    uint64_t ns = p->cfg.session_lifetime * LOOP_MS;
    return ns - ns / 1000 * (((uintptr_t)l >> 5) % 100);
}

static bool outlived(const struct pool *p, const struct link *l) {
    return p->cfg.session_lifetime && age(p, l) >= lifetime(p, l);
}

/* --- choosing --- */

struct link *pool_choose(struct pool *p) {
    struct link *best = pool_link(p);
    if (!best) return NULL;
    struct link_load load, least;
    link_load(best, &least);
    for (size_t i = 0; i < POOL_MORE; i++) {
        struct link *l = p->more[i].link;
        if (!l || !p->more[i].ready || !link_is_up(l)) continue;
        link_load(l, &load);
        if (load.room == 0) continue;
        bool lighter = load.congested != least.congested ? least.congested : load.streams < least.streams;
        if (least.room && !lighter) continue;
        best = l;
        least = load;
    }
    return best;
}

void pool_want_room(struct pool *p) {
    if (pool_link(p)) link_want_room(pool_link(p));
    for (size_t i = 0; i < POOL_MORE; i++)
        if (p->more[i].link && p->more[i].ready) link_want_room(p->more[i].link);
}

/* --- starting and ending --- */

static void start_one(struct pool *p, const char *why) {
    struct pool_more *m = find(p, NULL);
    if (!m || starting(p) || now_of(p) < p->more_hold) return;
    m->link = pool_make_link(p, p->policy.use);
    if (!m->link) return;
    log_debug("pool", "another session starts upstream=%s transport=%s sessions=%u why=%s", p->cfg.name,
              transport_word(p->policy.use), count(p) + 1, why);
    loop_timer_set(&p->look, now_of(p) + LOOK_EVERY);
}

void pool_more_consider(struct pool *p) {
    struct link_load load;
    struct link *l = pool_choose(p);
    if (!l || count(p) + 1 >= p->cfg.max_sessions) return;
    link_load(l, &load);
    if (load.room == 0 || load.congested || load.streams >= p->cfg.session_streams) start_one(p, "load");
}

/* The endpoint takes no more sessions, or the new one was no good: use what there is. */
static void refused(struct pool *p, struct pool_more *m, const char *why) {
    struct link *l = m->link;
    char quoted[300];
    p->more_hold = now_of(p) + p->more_wait * LOOP_MS;
    log_info("pool", "no further session, using what there is upstream=%s transport=%s detail=%s retry_ms=%u",
             p->cfg.name, transport_word(link_transport(l)), log_quote_str(why, quoted, sizeof quoted), p->more_wait);
    p->more_wait = p->more_wait > HOLD_MAX / 2 ? HOLD_MAX : p->more_wait * 2;
    clear(m);
    pool_opens_requeue(p, l);
    link_free(l);
}

static void retire(struct pool *p, struct pool_more *m) {
    struct link *l = m->link;
    clear(m);
    pool_retire_link(p, l);
}

/* The session in use makes way for one that is ready. */
static void take_over(struct pool *p, struct pool_more *m) {
    enum transport t = link_transport(m->link);
    p->way[t] = m->link;
    p->way_up[t] = true;
    clear(m);
}

bool pool_more_replace(struct pool *p, enum transport t) {
    for (size_t i = 0; i < POOL_MORE; i++) {
        struct pool_more *m = &p->more[i];
        if (!m->link || !m->ready || !link_is_up(m->link) || link_transport(m->link) != t) continue;
        take_over(p, m);
        return true;
    }
    return false;
}

static void ready(struct pool *p, struct pool_more *m) {
    struct link *old = pool_link(p);
    m->ready = true;
    m->quiet_since = 0;
    p->more_wait = HOLD_FIRST;
    if (old && outlived(p, old)) {
        log_info("pool", "session renewed upstream=%s transport=%s", p->cfg.name, transport_word(link_transport(old)));
        take_over(p, m);
        pool_retire_link(p, old);
    } else {
        log_info("pool", "another session upstream=%s transport=%s sessions=%u", p->cfg.name,
                 transport_word(link_transport(m->link)), count(p) + 1);
    }
    pool_serve(p);
}

bool pool_more_event(struct pool *p, struct link *l, enum link_event ev) {
    struct pool_more *m = find(p, l);
    if (!m) return false;
    switch (ev) {
    case LINK_UP:
        if (!p->cfg.dialect->check_head) ready(p, m);
        break;
    case LINK_CHECKED: /* not before: endpoints refuse one session too many at its first request */
        if (!m->ready) ready(p, m);
        break;
    case LINK_AUTH: refused(p, m, link_error_text(l)); break;
    case LINK_ENDED:
        if (!m->ready) {
            refused(p, m, link_error_text(l));
            break;
        }
        log_info("pool", "session ended upstream=%s transport=%s reason=%s sessions=%u", p->cfg.name,
                 transport_word(link_transport(l)), err_word(link_error(l)), count(p));
        clear(m);
        pool_opens_requeue(p, l);
        link_free(l);
        break;
    case LINK_SILENT:
    case LINK_STALE:
        pool_opens_requeue(p, l);
        retire(p, m);
        break;
    case LINK_DRAIN: retire(p, m); break;
    case LINK_ROOM: pool_serve(p); break;
    }
    return true;
}

/* --- looking after them --- */

void pool_more_prune(struct pool *p) {
    for (size_t i = 0; i < POOL_MORE; i++) {
        struct pool_more *m = &p->more[i];
        if (!m->link || (p->policy.state == POLICY_UP && (int)link_transport(m->link) == p->policy.use)) continue;
        if (m->ready) {
            retire(p, m);
        } else {
            link_free(m->link);
            clear(m);
        }
    }
    pool_more_arm(p);
}

void pool_more_arm(struct pool *p) {
    struct link *l = pool_link(p);
    uint64_t at = count(p) ? now_of(p) + LOOK_EVERY : LOOP_NEVER;
    if (l && p->cfg.session_lifetime) {
        uint64_t left = outlived(p, l) ? LOOK_EVERY : lifetime(p, l) - age(p, l); /* a start is under way, or held */
        uint64_t due = now_of(p) + left;
        if (due < p->more_hold) due = p->more_hold;
        if (due < at) at = due;
    }
    if (at < p->look.at || p->look.at == LOOP_NEVER || at == LOOP_NEVER) loop_timer_set(&p->look, at);
}

void pool_more_look(void *arg) {
    struct pool *p = arg;
    struct link *l = pool_link(p);
    for (size_t i = 0; i < POOL_MORE; i++) {
        struct pool_more *m = &p->more[i];
        struct link_load load;
        if (!m->link || !m->ready) continue;
        link_load(m->link, &load);
        if (load.streams) m->quiet_since = 0;
        else if (!m->quiet_since) m->quiet_since = now_of(p);
        if (outlived(p, m->link) || (m->quiet_since && now_of(p) - m->quiet_since >= IDLE)) retire(p, m);
    }
    if (l && outlived(p, l)) start_one(p, "lifetime");
    pool_more_arm(p);
}

void pool_more_init(struct pool *p) {
    p->more_wait = HOLD_FIRST;
    loop_timer_init(&p->look, p->cfg.loop, pool_more_look, p);
}

void pool_more_free(struct pool *p) {
    for (size_t i = 0; i < POOL_MORE; i++) link_free(p->more[i].link);
    loop_timer_stop(&p->look);
}

void pool_more_verify(struct pool *p) {
    for (size_t i = 0; i < POOL_MORE; i++)
        if (p->more[i].link) link_verify(p->more[i].link);
}

unsigned pool_more_count(const struct pool *p) { return count(p); }
