#include "lib/inbound_rig.h"

#include <stdlib.h>
#include <string.h>

#include "lib/pipe.h"

#define CHECK(x) ((x) ? (void)0 : abort())

struct pool; /* the rig itself, as far as flows are concerned */

/* --- the opening half of pool.h --- */

struct pool_open *pool_open(struct pool *p, const struct dest *d, pool_open_cb *cb, void *arg) {
    struct rig *r = (struct rig *)p;
    struct pool_open **at = &r->opens, *o = calloc(1, sizeof *o);
    CHECK(o);
    while (*at) at = &(*at)->next;
    *at = o;
    r->n_opens++;
    o->rig = r;
    o->dest = *d;
    o->cb = cb;
    o->arg = arg;
    return o;
}

void pool_open_cancel(struct pool_open *o) {
    if (!o) return;
    CHECK(o->state == RIG_OPEN_ASKED || o->state == RIG_OPEN_ANSWERED);
    defer_cancel(&o->node);
    stream_free(o->inner);
    o->inner = NULL;
    o->state = RIG_OPEN_CANCELLED;
}

static void tell(void *arg) {
    struct pool_open *o = arg;
    struct stream *inner = o->inner;
    CHECK(o->state == RIG_OPEN_ANSWERED);
    o->inner = NULL;
    o->state = RIG_OPEN_TOLD;
    o->cb(inner, TRANSPORT_H2, o->err, o->detail, o->arg);
}

static void answered(struct pool_open *o, int err, const char *detail) {
    o->state = RIG_OPEN_ANSWERED;
    o->err = err;
    o->detail = detail;
    defer_init(&o->node, tell, o);
    defer_post(loop_defer(o->rig->loop), &o->node);
}

struct pool_open *rig_opened(const struct rig *r, unsigned i) {
    struct pool_open *o = r->opens;
    while (o && i--) o = o->next;
    return o;
}

void rig_answer(struct pool_open *o) {
    CHECK(o->state == RIG_OPEN_ASKED);
    CHECK(pipe_pair(loop_defer(o->rig->loop), RIG_ROOM, &o->far, &o->inner) == 0);
    answered(o, 0, "");
}

void rig_refuse(struct pool_open *o, int err, const char *detail) {
    CHECK(o->state == RIG_OPEN_ASKED && err < 0);
    answered(o, err, detail);
}

/* --- the log --- */

static void on_line(enum log_level level, const char *line, void *arg) {
    struct rig *r = arg;
    if (level == LOG_INFO && strstr(line, " flow: end id=")) {
        r->records++;
        strcpy(r->record, line);
    } else if (level == LOG_WARN) {
        r->warnings++;
        strcpy(r->warning, line);
    }
}

/* --- the rig --- */

static bool is_self(const struct dest *d, void *arg) {
    (void)arg;
    return d->port == RIG_SELF_PORT;
}

struct rig *rig_new(const struct listen_config *c) {
    struct rig *r = calloc(1, sizeof *r);
    int errnum;
    CHECK(r);
    log_set_sink(on_line, r);
    log_set_level(LOG_INFO);
    r->loop = loop_new();
    CHECK(r->loop);
    sim_net_init(r->loop, 1);
    struct flow_set_config fc = {.loop = r->loop, .pool = (struct pool *)r, .upstream = "fake"};
    r->flows = flow_set_new(&fc);
    r->room = RIG_ROOM;
    r->cfg = *c;
    r->cfg.loop = r->loop;
    r->cfg.flows = r->flows;
    r->cfg.name = "test";
    r->cfg.is_self = is_self;
    addr_parse(&r->cfg.address, "127.0.0.1:1080");
    if (!r->cfg.protocols) r->cfg.protocols = LISTEN_ALL;
    if (!r->cfg.handshake_timeout) r->cfg.handshake_timeout = 10000;
    if (!r->cfg.max_connections) r->cfg.max_connections = 100;
    CHECK(listener_new(&r->listener, &r->cfg, &errnum) == 0);
    return r;
}

static void free_opens(struct rig *r) {
    while (r->opens) {
        struct pool_open *o = r->opens;
        r->opens = o->next;
        CHECK(o->state == RIG_OPEN_TOLD || o->state == RIG_OPEN_CANCELLED); /* nobody waits for it */
        stream_free(o->far);
        free(o);
    }
}

bool rig_free(struct rig *r) {
    for (struct pool_open *o = r->opens; o; o = o->next) {
        stream_free(o->far);
        o->far = NULL;
    }
    sim_pass(r->loop, (LINGER_TIME + 1000) * LOOP_MS);
    bool clean = flow_count(r->flows) == 0 && linger_count(flow_lingers(r->flows)) == 0;
    if (r->listener) clean &= listener_connections(r->listener) == 0;
    listener_free(r->listener);
    flow_set_free(r->flows);
    free_opens(r);
    clean &= sim_net_done();
    loop_free(r->loop);
    log_set_level(LOG_ERROR);
    log_set_sink(NULL, NULL);
    free(r);
    return clean;
}

void rig_settle(struct rig *r) { sim_pass(r->loop, LOOP_MS); }

struct stream *rig_connect(struct rig *r) {
    struct stream *client, *inner;
    struct addr remote;
    CHECK(pipe_pair(loop_defer(r->loop), r->room, &client, &inner) == 0);
    addr_parse(&remote, "127.0.0.1:40000");
    listener_accept(r->listener, inner, &remote);
    return client;
}
