#include "upstream/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/dial.h"
#include "upstream/carrier.h"

#define PROVEN (4 * 1024 * 1024) /* bytes sent after which a stall is no longer blamed on batches of datagrams */

enum link_state { LINK_S_STARTING, LINK_S_UP, LINK_S_DRAINING, LINK_S_ENDED };

struct link {
    struct link_config cfg;
    struct addr addrs[LINK_ADDRESSES];
    size_t n_addrs;
    enum link_state state;
    struct dial *dial;                       /* TCP, while connecting */
    struct carrier *tries[LINK_ADDRESSES];   /* QUIC, while none is up; by address */
    size_t next;                             /* address to try next */
    struct loop_timer stagger;
    struct carrier *carrier;                 /* the one in use */
    struct addr address;
    enum err err;
    char err_text[256];

    struct loop_timer watch;
    struct stream *check;     /* a health check under way */
    uint64_t check_opened;
    uint64_t last_open;       /* when a stream was opened last */
    uint64_t due;             /* an answer is awaited since; 0: none */
    uint64_t pinged;          /* a PING is unanswered since; 0: none */
    uint64_t mark;            /* bytes_in when last looked: tells idle from busy */
    bool busy;                /* more came than answers to PINGs */
    bool silent;              /* LINK_SILENT or LINK_STALE was said */
    uint64_t silent_at;       /* when */
    uint64_t verified_from;   /* link_verify() waits for an answer since; 0: it does not */
    uint64_t verify_until;
    bool checked;             /* LINK_CHECKED was said */
    bool want_room;           /* LINK_ROOM was asked for */
    int check_status;         /* of the last answered check */
    bool congested;           /* the budget's end was logged */
};

static void set_state(struct link *l, enum link_state state) {
    static const char *const words[] = {"starting", "up", "draining", "ended"};
    if (state <= l->state) return;
    log_debug("link", "state transport=%s from=%s to=%s", transport_word(l->cfg.transport), words[l->state],
              words[state]);
    l->state = state;
}

/* What a look at the link's health found. */
enum watched { WATCHED_NOTHING, WATCHED_SILENT, WATCHED_STALE };

static void emit(struct link *l, enum link_event ev) { l->cfg.cb(l, ev, l->cfg.arg); }

static void set_error(struct link *l, enum err err, const char *text) {
    l->err = err;
    snprintf(l->err_text, sizeof l->err_text, "%s", text && *text ? text : err_text(err));
}

static void end(struct link *l) {
    if (l->state == LINK_S_ENDED) return;
    set_state(l, LINK_S_ENDED);
    loop_timer_stop(&l->watch);
    loop_timer_stop(&l->stagger);
    emit(l, LINK_ENDED);
}

/* --- health --- */

static uint64_t now_of(const struct link *l) { return loop_now(l->cfg.loop); }

static void check_done(struct link *l) {
    stream_free(l->check);
    l->check = NULL;
}

static void on_check(struct stream *s, unsigned events, void *arg) {
    struct link *l = arg;
    char detail[DIALECT_DETAIL_MAX] = "";
    if (!(events & STREAM_OPEN)) {
        if (events & STREAM_DEAD) {
            log_debug("link", "health check died reason=%s", err_word(s->err));
            check_done(l);
        }
        return;
    }
    enum err verdict = l->cfg.dialect->judge_check(s, detail, sizeof detail);
    l->check_status = s->status;
    stream_finish(s);
    check_done(l);
    if (verdict == ERR_UPSTREAM_AUTH) {
        set_error(l, ERR_UPSTREAM_AUTH, detail);
        emit(l, LINK_AUTH);
        return;
    }
    if (verdict) log_warn("link", "health check answered oddly transport=%s detail=\"%s\"",
                          transport_word(l->cfg.transport), detail);
    if (!l->checked) {
        l->checked = true;
        emit(l, LINK_CHECKED);
    }
}

static struct stream *open_head(struct link *l, struct dialect_head *h, int *err) {
    struct stream *s = session_open(carrier_session(l->carrier), h->fields, h->n, false, now_of(l), err);
    if (s) l->last_open = now_of(l);
    return s;
}

static void start_check(struct link *l) {
    struct dialect_head h;
    int err;
    if (!l->cfg.dialect->check_head) {
        l->last_open = now_of(l);
        return;
    }
    if (l->check || l->state != LINK_S_UP || l->cfg.dialect->check_head(l->cfg.context, &h)) return;
    l->check = open_head(l, &h, &err);
    l->last_open = now_of(l); /* also when there is no room: streams are being opened then */
    if (!l->check) return;
    l->check_opened = now_of(l);
    stream_own(l->check, on_check, l);
    if (!l->due) l->due = now_of(l);
}

static void ping(struct link *l) {
    session_ping(carrier_session(l->carrier), now_of(l));
    l->pinged = now_of(l);
}

/* How long after the last received byte a sign of life is asked for. */
static uint64_t quiet_limit(const struct link *l, unsigned streams) {
    uint64_t health = l->cfg.health_timeout * LOOP_MS;
    if (l->due) return health / 4;
    if (!l->busy || streams == 0) return LINK_KEEPALIVE * LOOP_MS;
    /* a QUIC tail may be lost for good unless the peer is made to answer */
    return l->cfg.transport == TRANSPORT_H3 ? health / 4 : health / 2;
}

static void note_congestion(struct link *l, bool congested) {
    struct session_info i;
    if (congested == l->congested) return;
    l->congested = congested;
    session_get_info(carrier_session(l->carrier), &i);
    if (congested)
        log_warn("link", "the buffer budget is used up by applications that do not read; all flows of the session "
                         "wait transport=%s unread=%zu streams=%u",
                 transport_word(l->cfg.transport), i.unread, i.streams);
    else
        log_info("link", "the buffer budget suffices again transport=%s", transport_word(l->cfg.transport));
}

/* Silence has just become certain. */
static enum watched fell_silent(struct link *l, enum watched how) {
    l->silent = true;
    l->silent_at = now_of(l);
    return how;
}

/* Looks at what came and asks for a sign of life when it is time. */
static enum watched watch(struct link *l) {
    struct session_load load, *i = &load;
    session_load(carrier_session(l->carrier), i);
    note_congestion(l, i->congested);
    uint64_t now = now_of(l), health = l->cfg.health_timeout * LOOP_MS;
    if (i->last_rx > l->due) l->due = 0;
    if (i->last_rx > l->verified_from) l->verified_from = 0;
    if (l->pinged && i->last_rx >= l->pinged) {
        l->busy = i->bytes_in - l->mark > 512;
        l->mark = i->bytes_in;
        l->pinged = 0;
        l->silent = false;
    }
    if (i->bytes_in - l->mark > 512) l->busy = true;
    if (l->pinged) {
        if (l->silent && now >= l->silent_at + (LINK_DEAD_AFTER - 1) * health) {
            session_close(carrier_session(l->carrier), ERR_UPSTREAM_TIMEOUT, now); /* LINK_ENDED follows */
            return WATCHED_NOTHING;
        }
        if (l->silent) return WATCHED_NOTHING;
        if (l->verified_from && now >= l->verify_until) return fell_silent(l, WATCHED_STALE);
        if (now < i->last_rx + health || now < l->pinged + health / 2) return WATCHED_NOTHING;
        return fell_silent(l, WATCHED_SILENT);
    }
    uint64_t since = l->due > i->last_rx ? l->due : i->last_rx;
    if (now >= since + quiet_limit(l, i->streams)) {
        /* stalled before batches were seen to arrive: perhaps they do not */
        if (l->busy && i->bytes_out < PROVEN) carrier_stop_gso(l->carrier);
        ping(l);
        if (l->due || (l->busy && i->streams)) start_check(l); /* traffic stalls; mere idleness needs no proof */
    } else if (l->state == LINK_S_UP && now >= l->last_open + LINK_CHECK_EVERY * LOOP_MS) {
        start_check(l);
    }
    /* a check that stays unanswered while bytes flow proves nothing; give its stream back */
    if (l->check && now >= l->check_opened + 4 * health) check_done(l);
    return WATCHED_NOTHING;
}

static void watch_arm(struct link *l) {
    struct session_load i;
    if (l->state != LINK_S_UP && l->state != LINK_S_DRAINING) return;
    uint64_t at, health = l->cfg.health_timeout * LOOP_MS;
    session_load(carrier_session(l->carrier), &i);
    if (l->pinged && i.last_rx < l->pinged) {
        at = l->silent ? now_of(l) + health : i.last_rx + health;
        if (at < l->pinged + health / 2) at = l->pinged + health / 2;
        if (l->verified_from && !l->silent && l->verify_until < at) at = l->verify_until;
    } else {
        uint64_t since = l->due > i.last_rx ? l->due : i.last_rx;
        at = since + quiet_limit(l, i.streams);
        if (l->state == LINK_S_UP && l->last_open + LINK_CHECK_EVERY * LOOP_MS < at)
            at = l->last_open + LINK_CHECK_EVERY * LOOP_MS;
    }
    loop_timer_set(&l->watch, at);
}

static void on_watch(void *arg) {
    struct link *l = arg;
    enum watched what = watch(l);
    watch_arm(l);
    if (what) emit(l, what == WATCHED_STALE ? LINK_STALE : LINK_SILENT); /* last: it may free the link */
}

void link_verify(struct link *l) {
    struct session_info i;
    if (l->state != LINK_S_UP || l->verified_from || l->silent) return;
    session_get_info(carrier_session(l->carrier), &i);
    uint64_t limit = 3 * i.rtt; /* may be nonsense after a sleep: bounded */
    if (limit < LINK_VERIFY * LOOP_MS) limit = LINK_VERIFY * LOOP_MS;
    if (limit > LINK_VERIFY_MAX * LOOP_MS) limit = LINK_VERIFY_MAX * LOOP_MS;
    l->verified_from = now_of(l);
    l->verify_until = now_of(l) + limit;
    ping(l);
    watch_arm(l);
}

/* Called when a stream is opened. */
static void verify_if_idle(struct link *l) {
    struct session_load i;
    session_load(carrier_session(l->carrier), &i);
    if (now_of(l) - i.last_rx >= LINK_IDLE * LOOP_MS) link_verify(l);
}

void link_expect(struct link *l) {
    if (l->state != LINK_S_UP && l->state != LINK_S_DRAINING) return;
    if (l->due) return;
    l->due = now_of(l);
    watch_arm(l);
}

/* --- the session --- */

static void session_up(struct link *l) {
    struct session_info i;
    char at[ADDR_TEXT_MAX];
    session_get_info(carrier_session(l->carrier), &i);
    set_state(l, LINK_S_UP);
    log_info("link", "session up transport=%s address=%s handshake_ms=%u alpn=%s tls=\"%s\"%s",
             transport_word(l->cfg.transport), addr_format(&l->address, at, sizeof at),
             (unsigned)((i.up - i.started) / LOOP_MS), *i.alpn ? i.alpn : "none", i.tls,
             i.resumed ? " resumed=yes" : "");
    if (i.unverified)
        log_warn("link", "THE CERTIFICATE WAS NOT VERIFIED (skip_verification): anyone on the path can read and "
                         "change this session transport=%s", transport_word(l->cfg.transport));
    if (!*i.alpn) log_info("link", "the endpoint negotiated no ALPN; taken as h2");
    l->last_open = now_of(l);
    start_check(l);
    watch_arm(l);
    emit(l, LINK_UP);
}

static void session_over(struct link *l, struct carrier *c) {
    enum err err = carrier_error(c) ? carrier_error(c) : session_error(carrier_session(c));
    const char *text = session_error_text(carrier_session(c));
    set_error(l, err ? err : ERR_UPSTREAM_CLOSED, text);
    end(l);
}

static void on_carrier_state(struct carrier *c, enum session_state state, void *arg) {
    struct link *l = arg;
    switch (state) {
    case SESSION_STARTING: break;
    case SESSION_UP: session_up(l); break;
    case SESSION_DRAINING:
        set_state(l, LINK_S_DRAINING);
        emit(l, LINK_DRAIN);
        break;
    case SESSION_DOWN: session_over(l, c); break;
    }
}

static void tell_room(struct link *l) {
    if (!l->want_room || !link_capacity(l)) return;
    l->want_room = false;
    emit(l, LINK_ROOM);
}

static void on_progress(struct carrier *c, void *arg) {
    struct link *l = arg;
    (void)c;
    /* the timer finds out by itself that bytes came: only an early one must be moved, and it re-arms when it fires */
    if (l->silent) {
        l->silent = false;
        watch_arm(l);
    }
    tell_room(l);
}

static void on_pumped(struct carrier *c, void *arg) {
    (void)c;
    tell_room(arg);
}

/* --- TCP --- */

static void on_dialled(struct stream *s, const struct addr *to, int err, void *arg) {
    struct link *l = arg;
    struct carrier_cb cb = {on_carrier_state, on_progress, on_pumped, l};
    l->dial = NULL;
    if (!s) {
        set_error(l, err, NULL);
        end(l);
        return;
    }
    l->address = *to;
    l->carrier = carrier_new_tcp(l->cfg.loop, s, &l->cfg.session, &cb, &err);
    if (!l->carrier) {
        set_error(l, err, NULL);
        end(l);
    }
}

/* --- QUIC: one carrier per address until one is up --- */

static void try_next(struct link *l);

static void on_try_state(struct carrier *c, enum session_state state, void *arg) {
    struct link *l = arg;
    size_t at = 0, left = 0;
    if (l->carrier == c) {
        on_carrier_state(c, state, arg);
        return;
    }
    while (l->tries[at] != c) at++;
    if (state == SESSION_UP) {
        l->carrier = c;
        l->address = l->addrs[at];
        l->tries[at] = NULL;
        loop_timer_stop(&l->stagger);
        for (size_t i = 0; i < l->n_addrs; i++) {
            carrier_free(l->tries[i]);
            l->tries[i] = NULL;
        }
        session_up(l);
        return;
    }
    if (state != SESSION_DOWN) return;
    enum err err = carrier_error(c) ? carrier_error(c) : session_error(carrier_session(c));
    /* the reason of the first address that gave a verdict is the one to tell */
    if (l->err != ERR_UPSTREAM_CERTIFICATE)
        set_error(l, err ? err : ERR_UPSTREAM_CLOSED, session_error_text(carrier_session(c)));
    l->tries[at] = NULL;
    carrier_free(c);
    if (l->next < l->n_addrs) {
        try_next(l);
        return;
    }
    for (size_t i = 0; i < l->n_addrs; i++) left += l->tries[i] != NULL;
    if (left == 0) end(l);
}

static void on_stagger(void *arg) { try_next(arg); }

static void try_next(struct link *l) {
    struct carrier_cb cb = {on_try_state, on_progress, on_pumped, l};
    int err = ERR_OK;
    while (l->next < l->n_addrs) {
        size_t at = l->next++;
        l->address = l->addrs[at];
        l->tries[at] = carrier_new_udp(l->cfg.loop, &l->addrs[at], &l->cfg.session, &cb, &err);
        if (l->tries[at]) {
            if (l->next < l->n_addrs) loop_timer_set(&l->stagger, now_of(l) + DIAL_STAGGER * LOOP_MS);
            return;
        }
        set_error(l, err, NULL);
    }
    for (size_t i = 0; i < l->n_addrs; i++)
        if (l->tries[i]) return;
    end(l);
}

/* --- life --- */

struct link *link_new(const struct link_config *c) {
    struct link *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->cfg = *c;
    l->cfg.addrs = NULL;
    l->n_addrs = c->n_addrs < LINK_ADDRESSES ? c->n_addrs : LINK_ADDRESSES;
    memcpy(l->addrs, c->addrs, l->n_addrs * sizeof *l->addrs);
    dial_interleave(l->addrs, l->n_addrs);
    l->address = l->addrs[0];
    loop_timer_init(&l->watch, c->loop, on_watch, l);
    loop_timer_init(&l->stagger, c->loop, on_stagger, l);
    if (c->transport == TRANSPORT_H2) {
        l->dial = dial_start(c->loop, l->addrs, l->n_addrs, DIAL_STAGGER, c->session.handshake_timeout, SOCK_UPSTREAM,
                             on_dialled, l);
        if (!l->dial) {
            free(l);
            return NULL;
        }
    } else {
        /* from the loop, so that a failure at once is an event as well */
        loop_timer_set(&l->stagger, loop_now(c->loop));
    }
    return l;
}

void link_free(struct link *l) {
    if (!l) return;
    dial_cancel(l->dial);
    stream_free(l->check);
    for (size_t i = 0; i < l->n_addrs; i++) carrier_free(l->tries[i]);
    carrier_free(l->carrier);
    loop_timer_stop(&l->watch);
    loop_timer_stop(&l->stagger);
    free(l);
}

struct stream *link_open(struct link *l, const struct dest *d, int *err) {
    struct dialect_head h;
    *err = ERR_UPSTREAM_CLOSED;
    if (l->state != LINK_S_UP) return NULL;
    *err = l->cfg.dialect->connect_head(l->cfg.context, d, &h);
    if (*err) return NULL;
    struct stream *s = open_head(l, &h, err);
    if (!s) return NULL;
    verify_if_idle(l);
    link_expect(l);
    return s;
}

unsigned link_capacity(const struct link *l) {
    return l->state == LINK_S_UP ? session_capacity(carrier_session(l->carrier)) : 0;
}

void link_load(const struct link *l, struct link_load *load) {
    *load = (struct link_load){0};
    if (l->state != LINK_S_UP) return;
    struct session *s = carrier_session(l->carrier);
    load->room = session_capacity(s);
    struct session_load now;
    session_load(s, &now);
    load->streams = now.streams;
    load->congested = now.congested;
}

void link_want_room(struct link *l) { l->want_room = true; }

void link_retire(struct link *l) {
    if (l->carrier && l->state != LINK_S_ENDED) {
        set_state(l, LINK_S_DRAINING);
        if (l->check) check_done(l);
        session_retire(carrier_session(l->carrier), now_of(l));
    }
}

int link_check_status(const struct link *l) { return l->check_status; }
enum transport link_transport(const struct link *l) { return l->cfg.transport; }
bool link_is_up(const struct link *l) { return l->state == LINK_S_UP; }
const struct addr *link_address(const struct link *l) { return &l->address; }
enum err link_error(const struct link *l) { return l->err; }
const char *link_error_text(const struct link *l) { return l->err_text; }

bool link_info(const struct link *l, struct session_info *i) {
    if (!l->carrier) return false;
    session_get_info(carrier_session(l->carrier), i);
    return true;
}
