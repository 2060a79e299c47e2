#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "upstream/pool_impl.h"

#define OPEN_TRIES 3 /* the first and two more */
#define PAUSES 5     /* times that a stream may end without an answer before that is the answer */
#define PAUSE 50     /* ms before the request is sent again; doubles */

static void set_state(struct pool_open *o, enum open_state state) {
    static const char *const words[] = {"queued", "sent", "paused", "settled"};
    struct pool *p = o->pool;
    if (o->state == OPEN_QUEUED) p->queued--;
    if (o->state == OPEN_SENT) p->sent--;
    log_trace("pool", "open from=%s to=%s", words[o->state], words[state]);
    o->state = state;
    if (state == OPEN_QUEUED) p->queued++;
    if (state == OPEN_SENT) p->sent++;
}

static void unlink_open(struct pool_open *o) {
    struct pool *p = o->pool;
    if (o->prev) o->prev->next = o->next;
    else p->opens = o->next;
    if (o->next) o->next->prev = o->prev;
    else p->opens_tail = o->prev;
}

static void open_free(struct pool_open *o) {
    set_state(o, OPEN_SETTLED);
    unlink_open(o);
    stream_free(o->stream);
    loop_timer_stop(&o->timer);
    defer_cancel(&o->node);
    free(o);
}

static uint64_t now_of(const struct pool *p) { return loop_now(p->cfg.loop); }

static void deliver(void *arg) {
    struct pool_open *o = arg;
    pool_open_cb *cb = o->cb;
    void *cb_arg = o->arg;
    struct stream *s = o->err ? NULL : o->stream;
    enum transport t = o->transport;
    int err = o->err;
    char detail[POOL_DETAIL_MAX];
    memcpy(detail, o->detail, sizeof detail);
    if (s) o->stream = NULL;
    open_free(o);
    cb(s, t, err, detail, cb_arg);
}

/* The outcome is known; the owner hears of it from the deferred queue. */
static void settle(struct pool_open *o, int err, const char *detail) {
    struct pool *p = o->pool;
    set_state(o, OPEN_SETTLED);
    loop_timer_stop(&o->timer);
    o->err = err;
    snprintf(o->detail, sizeof o->detail, "%s", detail ? detail : "");
    if (err) p->failed++;
    else p->opened++;
    if (o->stream) stream_own(o->stream, NULL, NULL);
    defer_post(loop_defer(p->cfg.loop), &o->node);
}

static void requeue(struct pool_open *o) {
    struct pool *p = o->pool;
    stream_free(o->stream);
    o->stream = NULL;
    o->link = NULL;
    if (o->state == OPEN_SENT) p->retried++;
    set_state(o, OPEN_QUEUED);
    loop_timer_set(&o->timer, now_of(p) + p->cfg.recovery_wait * LOOP_MS);
    defer_post(loop_defer(p->cfg.loop), &p->serve);
}

/* Deployed endpoints drop requests whose answer does not fit into the congestion window of a busy HTTP/3 session: it has
 * to empty first. */
static void pause_open(struct pool_open *o) {
    struct pool *p = o->pool;
    uint64_t ms = (uint64_t)PAUSE << o->pauses++;
    stream_free(o->stream);
    o->stream = NULL;
    o->link = NULL;
    p->retried++;
    set_state(o, OPEN_PAUSED);
    loop_timer_set(&o->timer, now_of(p) + ms * LOOP_MS);
}

/* The peer did not process it, or its session is gone: nothing of the client was lost yet. */
static bool may_retry(const struct pool_open *o, enum err err) {
    if (o->tries >= OPEN_TRIES) return false;
    switch (err) {
    case ERR_UPSTREAM_RETRY:
    case ERR_UPSTREAM_CLOSED:
    case ERR_UPSTREAM_TIMEOUT:
    case ERR_UPSTREAM_UNREACHABLE:
    case ERR_UPSTREAM_PROTOCOL:
    case ERR_CANCELLED: return true;
    default: return false;
    }
}

/* 403, 404 or 405 to this and to the health check: that is how some endpoints are told to refuse credentials. */
static bool is_veiled_refusal(const struct pool_open *o, int status) {
    return status >= 403 && status <= 405 && o->pool->way[o->transport] == o->link &&
           link_check_status(o->link) == status;
}

static void on_stream(struct stream *s, unsigned events, void *arg) {
    struct pool_open *o = arg;
    struct pool *p = o->pool;
    char detail[DIALECT_DETAIL_MAX] = "";
    if (events & STREAM_OPEN) {
        enum err verdict = p->cfg.dialect->judge(s, detail, sizeof detail);
        if (verdict == ERR_UPSTREAM_STATUS && is_veiled_refusal(o, s->status)) verdict = ERR_UPSTREAM_AUTH;
        settle(o, verdict, detail);
        if (verdict == ERR_UPSTREAM_AUTH) {
            snprintf(p->reason, sizeof p->reason, "%s", detail);
            if (p->way[o->transport] == o->link) pool_policy(p, POLICY_T_AUTH, o->transport, verdict, false);
        }
        return;
    }
    if (!(events & STREAM_DEAD)) return;
    if (s->err == ERR_UPSTREAM_RESET && o->pauses < PAUSES) {
        pause_open(o);
        return;
    }
    if (may_retry(o, s->err)) {
        requeue(o);
        return;
    }
    settle(o, s->err == ERR_UPSTREAM_RETRY ? ERR_UPSTREAM_BUSY : s->err, "the stream ended before the answer");
}

static void on_timer(void *arg) {
    struct pool_open *o = arg;
    struct pool *p = o->pool;
    if (o->state == OPEN_PAUSED) {
        requeue(o);
    } else if (o->state == OPEN_QUEUED) {
        enum err why = pool_link(p) ? ERR_UPSTREAM_BUSY : p->policy.reason ? p->policy.reason : ERR_UPSTREAM_TIMEOUT;
        settle(o, why, *p->reason ? p->reason : "no session became ready in time");
    } else if (o->state == OPEN_SENT) {
        settle(o, ERR_TARGET_TIMEOUT, "the upstream did not answer the request in time");
    }
}

struct pool_open *pool_open(struct pool *p, const struct dest *d, pool_open_cb *cb, void *arg) {
    struct pool_open *o = calloc(1, sizeof *o);
    if (!o) return NULL;
    o->pool = p;
    o->dest = *d;
    o->cb = cb;
    o->arg = arg;
    o->state = OPEN_QUEUED;
    o->prev = p->opens_tail;
    if (p->opens_tail) p->opens_tail->next = o;
    else p->opens = o;
    p->opens_tail = o;
    p->queued++;
    defer_init(&o->node, deliver, o);
    loop_timer_init(&o->timer, p->cfg.loop, on_timer, o);
    p->last_open = now_of(p);

    enum policy_state state = p->policy.state;
    bool hopeless = state == POLICY_REJECTED || state == POLICY_STOPPED ||
                    (state == POLICY_WAITING && p->policy.reason == ERR_UPSTREAM_CERTIFICATE);
    if (hopeless) {
        settle(o, p->policy.reason ? p->policy.reason : ERR_SHUTDOWN, p->reason);
    } else if (p->queued > p->cfg.max_pending) {
        settle(o, ERR_UPSTREAM_BUSY, "too many requests are waiting for a session");
    } else {
        loop_timer_set(&o->timer, now_of(p) + p->cfg.recovery_wait * LOOP_MS);
        defer_post(loop_defer(p->cfg.loop), &p->serve);
    }
    return o;
}

void pool_open_cancel(struct pool_open *o) {
    if (o) open_free(o);
}

void pool_serve(void *arg) {
    struct pool *p = arg;
    if (p->queued && p->policy.state == POLICY_PARKED) pool_policy(p, POLICY_DEMAND, TRANSPORT_H2, ERR_OK, false);
    for (struct pool_open *o = p->opens, *next; o && p->queued; o = next) {
        int err;
        next = o->next;
        if (o->state != OPEN_QUEUED) continue;
        struct link *l = pool_choose(p);
        if (!l) return;
        o->stream = link_open(l, &o->dest, &err);
        if (!o->stream) {
            if (err == ERR_UPSTREAM_BUSY) {
                pool_want_room(p);
                break;
            }
            if (err == ERR_UPSTREAM_CLOSED) return; /* its end will be an event */
            settle(o, err, err == ERR_TARGET_NET_UNREACHABLE ? "the endpoint carries no IPv6 (has_ipv6 = false)" : "");
            continue;
        }
        if (o->pauses == 0) o->tries++;
        o->link = l;
        o->transport = link_transport(l);
        set_state(o, OPEN_SENT);
        loop_timer_set(&o->timer, now_of(p) + p->cfg.connect_timeout * LOOP_MS);
        stream_own(o->stream, on_stream, o);
    }
    pool_more_consider(p);
}

void pool_opens_fail(struct pool *p, enum err err, const char *detail) {
    for (struct pool_open *o = p->opens; o; o = o->next)
        if (o->state == OPEN_QUEUED) settle(o, err, detail);
}

void pool_opens_requeue(struct pool *p, const struct link *l) {
    for (struct pool_open *o = p->opens, *next; o; o = next) {
        next = o->next;
        if (o->state == OPEN_SENT && o->link == l && o->tries < OPEN_TRIES) requeue(o);
    }
}

void pool_opens_free(struct pool *p) {
    while (p->opens) open_free(p->opens);
}
