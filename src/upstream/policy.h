/* policy.h - which transport an upstream uses and when it tries again: pure decisions, no socket, no loop, no clock.
 *
 * The pool feeds events with `now` and carries out the returned actions. "auto" starts HTTP/3 at once and HTTP/2 after
 * fallback_delay, or as soon as HTTP/3 fails; the first established session wins. HTTP/3 that failed, lost the race or
 * went silent is held down for a growing time: HTTP/2 goes first then, HTTP/3 only when that failed, and beside a session
 * in use HTTP/3 is probed when the time is over and taken back when its health check passed. Whatever becomes of a probe
 * does not touch the session in use. A refused certificate or refused credentials never start the other transport.
 *
 * Invariants (tested, fuzzed): never two starts of one transport without its end between them; CONNECTING has an attempt
 * under way, WAITING and REJECTED an armed deadline, UP on a fallback an armed probe or a running one; back-off and
 * hold-down are bounded; `use` names a transport exactly in UP, and that transport is up. Attempts end by themselves
 * (handshake timeout).
 */
#ifndef ADIT_UPSTREAM_POLICY_H
#define ADIT_UPSTREAM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum transport { TRANSPORT_H2, TRANSPORT_H3, TRANSPORT_COUNT };
enum transport_choice { TRANSPORT_AUTO, TRANSPORT_ONLY_H2, TRANSPORT_ONLY_H3 };
/* "h2", "h3" */
const char *transport_word(enum transport t);

enum policy_state {
    POLICY_STOPPED,    /* before start, after stop */
    POLICY_CONNECTING, /* at least one attempt runs, no session is up */
    POLICY_UP,         /* new flows go to `use` */
    POLICY_WAITING,    /* everything failed; trying again at the deadline */
    POLICY_REJECTED,   /* the credentials were refused; trying again only after a long time */
    POLICY_PARKED,     /* the session ended while nobody used it; the next demand connects */
};
const char *policy_state_word(enum policy_state s);

enum policy_event_kind {
    POLICY_START,    /* begin; nothing unless stopped */
    POLICY_STOP,     /* cancel and retire everything */
    POLICY_DEMAND,   /* a flow wants a session */
    POLICY_KICK,     /* the network changed: forget back-off and hold-down, begin attempts under way anew */
    POLICY_TICK,     /* the deadline has come (or not: ticks are harmless) */
    POLICY_T_UP,     /* transport t: handshake complete */
    POLICY_T_CHECKED,/* transport t: the health check was answered well */
    POLICY_T_FAILED, /* transport t: the attempt ended with err before it was up */
    POLICY_T_DOWN,   /* transport t: the session in use or on probation ended with err */
    POLICY_T_SILENT, /* transport t: nothing was received for the health timeout */
    POLICY_T_DRAIN,  /* transport t: the peer takes no new streams (GOAWAY); running ones go on */
    POLICY_T_AUTH,   /* transport t: the credentials were refused */
    POLICY_T_STALE,  /* transport t: no answer after idleness, a sleep or a change of network; proves nothing against t */
};

struct policy_event {
    enum policy_event_kind kind;
    enum transport t; /* for POLICY_T_* */
    enum err err;     /* for FAILED and DOWN */
    bool unused;      /* for DOWN: no stream was open and none is wanted */
};

/* What the pool must do now, in this order: cancel, retire, start. */
struct policy_actions {
    bool cancel[TRANSPORT_COUNT]; /* drop the attempt or the session on probation */
    bool retire[TRANSPORT_COUNT]; /* the session gets no new streams and ends with its last one; its slot is free */
    bool start[TRANSPORT_COUNT];  /* begin an attempt */
    bool fail_pending;            /* fail waiting flows now with `reason`: waiting cannot help */
};

struct policy_config { /* times in ms */
    enum transport_choice choice;
    uint32_t fallback_delay;    /* 1000 */
    uint32_t backoff_first;     /* 1000 */
    uint32_t backoff_max;       /* 60000; grows by 1.3, with up to 20 % of jitter taken off */
    uint32_t hold_down_first;   /* 30000; doubles */
    uint32_t hold_down_max;     /* 1800000 */
    uint32_t stable_after;      /* 60000: up that long resets back-off and hold-down */
    uint32_t auth_retry;        /* 300000 */
    uint32_t seed;              /* of the jitter */
};
void policy_config_init(struct policy_config *c);

enum policy_way { WAY_IDLE, WAY_STARTING, WAY_PROBATION /* up, not in use yet */, WAY_UP };

/* Read-only for everyone but policy.c. */
struct policy {
    struct policy_config cfg;
    enum policy_state state;
    enum policy_way way[TRANSPORT_COUNT];
    bool tried[TRANSPORT_COUNT]; /* in this round of CONNECTING */
    int use;               /* enum transport, or -1 */
    enum err reason;       /* why it is not up, or why it is not on HTTP/3 */
    uint64_t since;        /* when the state was entered */
    uint64_t h2_at;        /* the fallback starts; LOOP_NEVER */
    uint64_t retry_at;     /* end of WAITING or REJECTED; LOOP_NEVER */
    uint64_t kicked;       /* when a kick began attempts anew; 0 never */
    uint64_t held_until;   /* HTTP/3 is not tried before; 0: not held */
    uint32_t backoff;      /* ms, the next */
    uint32_t hold_down;    /* ms, the next */
    uint32_t random;
};

void policy_init(struct policy *p, const struct policy_config *c);
struct policy_actions policy_event(struct policy *p, const struct policy_event *e, uint64_t now);
/* When POLICY_TICK is due; UINT64_MAX: never. */
uint64_t policy_deadline(const struct policy *p);

#endif
