/* Read from top to bottom: this is what happens to a connection between the client's request and its record. */
#include "flow/flow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "flow/relay.h"

#define FLOW_LISTENER_MAX 65 /* longer names are cut in the record */

enum flow_state {
    FLOW_OPENING,  /* the upstream was asked */
    FLOW_RELAYING, /* 200: both streams belong to the relay */
    FLOW_ENDED,
};

struct flow {
    struct flow_set *set;
    struct flow *next, *prev;
    enum flow_state state;
    uint64_t id;
    const char *upstream; /* the set's */
    char listener[FLOW_LISTENER_MAX];
    struct flow_request rq; /* client: owned while OPENING */
    struct pool_open *open;
    struct relay *relay;
    enum transport transport;
    uint64_t answered; /* when the upstream answered, ns */
    bool is_task;
    struct flow_task task;
    uint64_t up, down; /* moved by the task before the relay */
};

/* Names of upstreams: few, and flows of an earlier one may still live. */
struct flow_upstream {
    struct flow_upstream *next;
    char name[];
};

struct flow_set {
    struct flow_set_config cfg; /* upstream: in `upstreams` */
    struct flow_upstream *upstreams;
    struct linger_set *lingers;
    struct flow *head;
    unsigned count;
    uint64_t last_id;
    unsigned generation;
    bool draining;
    struct defer drained_node;
    struct loop_timer drain_poll;
    void (*drained)(void *arg);
    void *drained_arg;
};

static void on_opened(struct stream *far, enum transport t, int err, const char *detail, void *arg);
static void on_client_while_opening(struct stream *s, unsigned events, void *arg);
static void start_relay(struct flow *f, struct stream *far);
static void relay(struct flow *f, struct stream *far);
static void on_relayed(const struct relay_end *end, void *arg);
static void fail(struct flow *f, int err, const char *detail);
static void end(struct flow *f, int err, const char *by, const char *detail, const struct relay_end *moved);

static struct flow *flow_new(struct flow_set *set, const struct flow_request *rq) {
    struct flow *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->set = set;
    f->rq = *rq;
    f->id = ++set->last_id;
    f->upstream = set->cfg.upstream;
    snprintf(f->listener, sizeof f->listener, "%s", rq->listener);
    f->rq.listener = f->listener;
    f->next = set->head;
    if (set->head) set->head->prev = f;
    set->head = f;
    set->count++;
    return f;
}

/* 1. An inbound understood its client. Nothing is said to the client before the upstream has answered. */
void flow_open(struct flow_set *set, const struct flow_request *rq) {
    if (set->draining) {
        flow_refuse(set, rq, &rq->dest, ERR_SHUTDOWN, "");
        return;
    }
    struct flow *f = flow_new(set, rq);
    if (!f) {
        flow_refuse(set, rq, &rq->dest, ERR_NO_MEMORY, "");
        return;
    }
    stream_own(f->rq.client, on_client_while_opening, f);
    if (f->rq.client->err) { /* its DEAD event came with the last bytes of the request */
        end(f, f->rq.client->err, "client", "", NULL);
        return;
    }

    /* 2. The way out: a stream of a session, as soon as there is one. */
    f->open = pool_open(set->cfg.pool, &f->rq.dest, on_opened, f);
    if (!f->open) fail(f, ERR_NO_MEMORY, "");
}

/* While the upstream is asked only the client's death matters: early bytes stay unread in its socket, and an early EOF
 * may be a half-close after the request. */
static void on_client_while_opening(struct stream *s, unsigned events, void *arg) {
    struct flow *f = arg;
    if (!(events & STREAM_DEAD)) return;
    pool_open_cancel(f->open);
    f->open = NULL;
    end(f, s->err, "client", "", NULL);
}

/* 3. The upstream answered: 200, or the reason why not. */
static void on_opened(struct stream *far, enum transport t, int err, const char *detail, void *arg) {
    struct flow *f = arg;
    f->open = NULL;
    f->transport = t;
    f->answered = loop_now(f->set->cfg.loop);
    if (f->is_task) f->task.opened(far, t, err, detail, f->task.arg);
    else if (err) fail(f, err, detail);
    else start_relay(f, far);
}

/* Whose fault an err is, in the words of the record: client, target, upstream, adit. */
static const char *by_class(int err) {
    enum err_class c = err_class(err);
    return c == ERR_CLASS_LOCAL || c == ERR_CLASS_NONE ? "adit" : err_class_word(c);
}

static size_t word(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap) {
    return rq->reply ? rq->reply(rq, err, detail, out, cap) : 0;
}

/* 4a. The client hears the true reason. */
static void fail(struct flow *f, int err, const char *detail) {
    uint8_t reply[FLOW_REPLY_MAX];
    size_t n = word(&f->rq, err, detail, reply, sizeof reply);
    linger_close(f->set->lingers, f->rq.client, reply, n);
    f->rq.client = NULL;
    end(f, err, by_class(err), detail, NULL);
}

/* 4b. The client hears of success, and from here on the relay owns both streams. */
static void start_relay(struct flow *f, struct stream *far) {
    uint8_t reply[FLOW_REPLY_MAX];
    size_t n = word(&f->rq, 0, "", reply, sizeof reply);
    long wrote = n ? stream_write(f->rq.client, reply, n) : 0;
    if (wrote < 0 || (size_t)wrote < n) {
        int err = wrote < 0 ? (int)wrote : ERR_CLIENT_GONE;
        stream_reset(far, err);
        stream_free(far);
        end(f, err, "client", "", NULL);
        return;
    }
    relay(f, far);
}

static void relay(struct flow *f, struct stream *far) {
    struct relay_config rc = {.loop = f->set->cfg.loop,
                              .lingers = f->set->lingers,
                              .client = f->rq.client,
                              .far = far,
                              .idle_timeout = f->rq.idle_timeout,
                              .done = on_relayed,
                              .arg = f};
    f->rq.client = NULL;
    f->state = FLOW_RELAYING;
    f->relay = relay_start(&rc);
    if (!f->relay) end(f, ERR_NO_MEMORY, "adit", "", NULL);
}

static const char *by_word(const struct relay_end *re) {
    if (re->by == RELAY_CLIENT) return "client";
    if (re->by == RELAY_SELF) return "adit";
    return err_class(re->err) == ERR_CLASS_UPSTREAM ? "upstream" : "target";
}

/* 5. Both directions are over. */
static void on_relayed(const struct relay_end *re, void *arg) {
    struct flow *f = arg;
    struct relay_end all = *re;
    f->relay = NULL;
    all.up += f->up;
    all.down += f->down;
    end(f, re->err, by_word(re), "", &all);
}

static unsigned ms_between(uint64_t from, uint64_t to) { return to > from ? (unsigned)((to - from) / LOOP_MS) : 0; }

/* One line for one flow, whatever became of it. */
static void record(struct flow_set *set, const struct flow_request *rq, const struct dest *dest, uint64_t id,
                   const char *upstream, const char *transport, unsigned open_ms, int err, const char *by, const char *detail,
                   const struct relay_end *moved) {
    char to[DEST_TEXT_MAX] = "-", remote[ADDR_TEXT_MAX], quoted[300];
    if (dest) dest_format(dest, to, sizeof to);
    log_info("flow",
             "end id=%" PRIu64 " listener=%s protocol=%s client=%s dest=%s upstream=%s transport=%s by=%s reason=%s "
             "up=%" PRIu64 " down=%" PRIu64 " open_ms=%u total_ms=%u%s%s",
             id, rq->listener, rq->protocol, addr_format(&rq->remote, remote, sizeof remote), to,
             transport ? upstream : "-", transport ? transport : "-", by, err_word(err),
             moved ? moved->up : 0, moved ? moved->down : 0, open_ms,
             ms_between(rq->accepted, loop_now(set->cfg.loop)), *detail ? " detail=" : "",
             *detail ? log_quote_str(detail, quoted, sizeof quoted) : "");
}

static void check_drained(struct flow_set *set) {
    if (set->draining && set->count == 0) defer_post(loop_defer(set->cfg.loop), &set->drained_node);
}

/* 6. The record, and the end. */
static void end(struct flow *f, int err, const char *by, const char *detail, const struct relay_end *moved) {
    struct flow_set *set = f->set;
    const char *transport = f->answered ? transport_word(f->transport) : NULL;
    unsigned open_ms = f->answered ? ms_between(f->rq.accepted, f->answered) : 0;
    f->state = FLOW_ENDED;
    record(set, &f->rq, &f->rq.dest, f->id, f->upstream, transport, open_ms, err, by, detail, moved);
    stream_free(f->rq.client);
    if (f->prev) f->prev->next = f->next;
    else set->head = f->next;
    if (f->next) f->next->prev = f->prev;
    set->count--;
    if (f->rq.ended) f->rq.ended(f->rq.arg);
    free(f);
    check_drained(set);
}

void flow_refuse(struct flow_set *set, const struct flow_request *rq, const struct dest *dest, int err,
                 const char *detail) {
    uint8_t reply[FLOW_REPLY_MAX];
    size_t n = word(rq, err, detail, reply, sizeof reply);
    linger_close(set->lingers, rq->client, reply, n);
    record(set, rq, dest, ++set->last_id, NULL, NULL, 0, err, by_class(err), detail, NULL);
    if (rq->ended) rq->ended(rq->arg);
}

/* --- tasks --- */

int flow_begin(struct flow **out, struct flow_set *set, const struct flow_request *rq, const struct flow_task *task) {
    struct flow *f = set->draining ? NULL : flow_new(set, rq);
    *out = f;
    if (!f) return set->draining ? ERR_SHUTDOWN : ERR_NO_MEMORY;
    f->rq.client = NULL;
    f->rq.ended = NULL;
    f->is_task = true;
    f->task = *task;
    return 0;
}

int flow_ask(struct flow *f) {
    f->open = pool_open(f->set->cfg.pool, &f->rq.dest, on_opened, f);
    return f->open ? 0 : ERR_NO_MEMORY;
}

void flow_reuse(struct flow *f, enum transport t) {
    f->transport = t;
    f->answered = loop_now(f->set->cfg.loop);
}

void flow_end(struct flow *f, int err, const char *detail, uint64_t up, uint64_t down) {
    struct relay_end moved = {.up = up, .down = down};
    pool_open_cancel(f->open);
    end(f, err, err ? by_class(err) : "target", detail, &moved);
}

void flow_tunnel(struct flow *f, struct stream *client, struct stream *far, void (*ended)(void *arg), void *arg,
                 uint64_t up, uint64_t down) {
    f->is_task = false;
    f->rq.client = client;
    f->rq.ended = ended;
    f->rq.arg = arg;
    f->up = up;
    f->down = down;
    relay(f, far);
}

unsigned flow_generation(const struct flow_set *set) { return set->generation; }

/* --- the set --- */

static void on_drain_poll(void *arg) {
    struct flow_set *set = arg;
    defer_post(loop_defer(set->cfg.loop), &set->drained_node);
}

static void on_drained(void *arg) {
    struct flow_set *set = arg;
    if (!set->drained || set->count) return;
    if (linger_count(set->lingers)) {
        loop_timer_set(&set->drain_poll, loop_now(set->cfg.loop) + 50 * LOOP_MS);
        return;
    }
    void (*drained)(void *) = set->drained;
    set->drained = NULL;
    drained(set->drained_arg);
}

static const char *keep_name(struct flow_set *set, const char *name) {
    for (struct flow_upstream *u = set->upstreams; u; u = u->next)
        if (strcmp(u->name, name) == 0) return u->name;
    struct flow_upstream *u = malloc(sizeof *u + strlen(name) + 1);
    if (!u) return NULL;
    strcpy(u->name, name);
    u->next = set->upstreams;
    set->upstreams = u;
    return u->name;
}

static void free_names(struct flow_set *set) {
    while (set->upstreams) {
        struct flow_upstream *u = set->upstreams;
        set->upstreams = u->next;
        free(u);
    }
}

struct flow_set *flow_set_new(const struct flow_set_config *c) {
    struct flow_set *set = calloc(1, sizeof *set);
    if (!set) return NULL;
    set->cfg = *c;
    set->cfg.upstream = keep_name(set, c->upstream);
    set->lingers = linger_set_new(c->loop);
    if (!set->lingers || !set->cfg.upstream) {
        linger_set_free(set->lingers);
        free_names(set);
        free(set);
        return NULL;
    }
    defer_init(&set->drained_node, on_drained, set);
    loop_timer_init(&set->drain_poll, c->loop, on_drain_poll, set);
    return set;
}

void flow_set_free(struct flow_set *set) {
    if (!set) return;
    set->draining = true;
    set->drained = NULL;
    while (set->head) {
        struct flow *f = set->head;
        if (f->is_task) {
            f->task.quit(f->task.arg);
            continue;
        }
        pool_open_cancel(f->open);
        struct relay_end moved = {.err = ERR_SHUTDOWN, .by = RELAY_SELF};
        if (f->relay) relay_free(f->relay, &moved);
        else if (f->rq.client) stream_reset(f->rq.client, ERR_SHUTDOWN);
        end(f, moved.err, by_word(&moved), "", &moved);
    }
    linger_set_free(set->lingers);
    defer_cancel(&set->drained_node);
    loop_timer_stop(&set->drain_poll);
    free_names(set);
    free(set);
}

int flow_set_use(struct flow_set *set, struct pool *pool, const char *upstream) {
    const char *name = keep_name(set, upstream);
    if (!name) return ERR_NO_MEMORY;
    set->cfg.pool = pool;
    set->cfg.upstream = name;
    set->generation++;
    for (struct flow *f = set->head, *next; f; f = next) {
        next = f->next;
        if (f->state != FLOW_OPENING || !f->open) continue;
        pool_open_cancel(f->open);
        f->upstream = name;
        f->open = pool_open(pool, &f->rq.dest, on_opened, f);
        if (f->open) continue;
        if (f->is_task) f->task.opened(NULL, f->transport, ERR_NO_MEMORY, "", f->task.arg);
        else fail(f, ERR_NO_MEMORY, "");
    }
    return 0;
}

unsigned flow_count(const struct flow_set *set) { return set->count; }

void flow_set_drain(struct flow_set *set, void (*drained)(void *arg), void *arg) {
    set->draining = true;
    set->drained = drained;
    set->drained_arg = arg;
    check_drained(set);
}

struct linger_set *flow_lingers(struct flow_set *set) { return set->lingers; }
