#include "lib/session_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testca.h"

struct pair_packet {
    struct pair_packet *next;
    uint64_t at;
    struct addr from;
    uint8_t ecn;
    size_t len;
    uint8_t data[];
};

/* ---- credentials ---- */

static struct creds *client_creds, *server_creds;

static void make_creds(void) {
    if (client_creds) return;
    struct testca *ca = testca_new("Test Root");
    struct testca_spec spec = {.names = {"test.example"}, .ips = {"127.0.0.1", "::1"}, .cn = "test.example"};
    char *cert, *key, *trust = testca_pem(ca), why[CREDS_WHY_MAX];
    testca_issue(ca, &spec, &cert, &key);
    struct creds_config c = {.hostname = "test.example", .trust_pem = trust};
    struct creds_config s = {.server = true, .certificate_pem = cert, .key_pem = key};
    if (creds_new(&client_creds, &c, why, sizeof why) < 0 || creds_new(&server_creds, &s, why, sizeof why) < 0) {
        fprintf(stderr, "session_pair: %s\n", why);
        abort();
    }
    free(cert);
    free(key);
    free(trust);
    testca_free(ca);
}

struct creds *session_pair_client_creds(void) {
    make_creds();
    return client_creds;
}

struct creds *session_pair_server_creds(void) {
    make_creds();
    return server_creds;
}

void session_pair_cleanup(void) {
    creds_unref(client_creds);
    creds_unref(server_creds);
    client_creds = server_creds = NULL;
}

/* ---- making ---- */

static bool is_h2(const struct session_pair *p) { return p->config.client.kind == SESSION_H2; }

static uint64_t next_random(struct session_pair *p) {
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random;
}

static bool chance(struct session_pair *p, unsigned of_1000) { return of_1000 && next_random(p) % 1000 < of_1000; }

void session_pair_config_init(struct session_pair_config *c, enum session_kind kind) {
    *c = (struct session_pair_config){.seed = 1};
    session_config_init(&c->client);
    session_config_init(&c->server);
    c->client.kind = c->server.kind = kind;
    c->client.creds = session_pair_client_creds();
    c->server.creds = session_pair_server_creds();
    for (int i = 0; i < 2; i++)
        c->link[i] = (struct pair_link){.delay = 5 * PAIR_MS, .queue = kind == SESSION_H2 ? 1 << 20 : 1000};
}

static void on_wake(void *arg) { ((struct pair_side *)arg)->woken = true; }

static void on_state(struct session *s, enum session_state state, void *arg) {
    struct pair_side *side = arg;
    (void)s;
    side->states[state]++;
    side->last_state = state;
}

static void on_request(struct session *s, struct stream *st, void *arg) {
    struct session_pair *p = ((struct pair_side *)arg)->pair;
    (void)s;
    if (p->n_requests == PAIR_REQUESTS)
        stream_free(st);
    else
        p->requests[p->n_requests++] = st;
}

static void prepare(struct session_pair *p, int i) {
    struct session_config *c = i == PAIR_CLIENT ? &p->config.client : &p->config.server;
    p->side[i].pair = p;
    p->side[i].woken = true; /* a client speaks first */
    c->kind = p->config.client.kind;
    c->server = i == PAIR_SERVER;
    c->queue = &p->queue;
    c->cb = (struct session_cb){on_wake, on_state, on_request, &p->side[i]};
    c->now = p->now;
    c->local = p->addr[i];
    c->remote = p->addr[1 - i];
}

struct session_pair *session_pair_new(const struct session_pair_config *c) {
    struct session_pair *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->config = *c;
    if (!p->config.make) p->config.make = session_new;
    p->now = PAIR_S;
    p->random = c->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    defer_queue_init(&p->queue, NULL, NULL);
    addr_parse(&p->addr[PAIR_CLIENT], "192.0.2.1:40000");
    addr_parse(&p->addr[PAIR_SERVER], "192.0.2.2:443");
    prepare(p, PAIR_CLIENT);
    prepare(p, PAIR_SERVER);
    int rv = p->config.make(&p->side[PAIR_CLIENT].session, &p->config.client);
    if (rv == 0 && is_h2(p)) rv = p->config.make(&p->side[PAIR_SERVER].session, &p->config.server);
    if (rv == 0) return p;
    session_pair_free(p);
    return NULL;
}

void session_pair_free(struct session_pair *p) {
    if (!p) return;
    for (unsigned i = 0; i < p->n_requests; i++) stream_free(p->requests[i]);
    for (int i = 0; i < 2; i++) {
        session_free(p->side[i].session);
        while (p->side[i].head) {
            struct pair_packet *k = p->side[i].head;
            p->side[i].head = k->next;
            free(k);
        }
    }
    free(p);
}

/* ---- the way ---- */

/* Sorted by arrival; of equals the later sent comes later. */
static void enqueue(struct pair_side *side, struct pair_packet *k) {
    if (!side->head || side->tail->at <= k->at) {
        k->next = NULL;
        if (side->head)
            side->tail->next = k;
        else
            side->head = k;
        side->tail = k;
        return;
    }
    struct pair_packet **at = &side->head;
    while ((*at)->at <= k->at) at = &(*at)->next;
    k->next = *at;
    *at = k;
}

static void put(struct session_pair *p, int from, const uint8_t *data, size_t n, uint8_t ecn) {
    struct pair_side *side = &p->side[from];
    struct pair_link *l = &p->config.link[from];
    struct pair_packet *k = malloc(sizeof *k + n);
    if (!k) abort();
    uint64_t start = side->busy_until > p->now ? side->busy_until : p->now;
    if (l->rate) start += n * PAIR_S / l->rate;
    side->busy_until = start;
    k->at = start + l->delay + (l->jitter ? next_random(p) % l->jitter : 0);
    if (is_h2(p) && side->tail && k->at < side->tail->at) k->at = side->tail->at;
    k->from = p->addr[from];
    k->ecn = ecn;
    k->len = n;
    if (n) memcpy(k->data, data, n);
    side->under_way += is_h2(p) ? n : 1;
    enqueue(side, k);
}

static void put_datagram(struct session_pair *p, int from, const uint8_t *data, size_t n, uint8_t ecn) {
    struct pair_side *side = &p->side[from];
    struct pair_link *l = &p->config.link[from];
    side->sent++;
    if (l->hold || (l->mtu && n > l->mtu) || side->under_way >= l->queue || chance(p, l->loss)) {
        side->lost++;
        return;
    }
    if (chance(p, l->duplicate)) put(p, from, data, n, ecn);
    if (!chance(p, l->corrupt)) {
        put(p, from, data, n, ecn);
        return;
    }
    uint8_t *bad = malloc(n);
    if (!bad) abort();
    memcpy(bad, data, n);
    bad[next_random(p) % n] ^= (uint8_t)(1 << next_random(p) % 8);
    put(p, from, bad, n, ecn);
    free(bad);
}

/* Takes what the session wants to send; true if it was anything. */
static bool drain(struct session_pair *p, int i) {
    struct pair_side *side = &p->side[i];
    struct pair_link *l = &p->config.link[i];
    struct session_out o;
    bool moved = false;

    side->woken = false;
    side->blocked = false;
    while (side->session && session_out(side->session, &o, p->now)) {
        if (!is_h2(p)) {
            size_t segment = o.segment ? o.segment : o.n;
            for (size_t at = 0; at < o.n; at += segment)
                put_datagram(p, i, o.p + at, o.n - at < segment ? o.n - at : segment, o.ecn);
            session_sent(side->session, o.n, p->now);
            moved = true;
            continue;
        }
        size_t room = side->under_way < l->queue ? l->queue - side->under_way : 0;
        size_t take = o.n < room ? o.n : room;
        if (!take) {
            side->blocked = true;
            break;
        }
        put(p, i, o.p, take, 0);
        side->sent += take;
        session_sent(side->session, take, p->now);
        moved = true;
    }
    return moved;
}

/* Hands the first packet of side `from` to the other side. */
static void deliver(struct session_pair *p, int from) {
    struct pair_side *side = &p->side[from], *to = &p->side[1 - from];
    struct pair_packet *k = side->head;
    side->head = k->next;
    if (!side->head) side->tail = NULL;
    side->under_way -= is_h2(p) ? k->len : 1;
    if (side->blocked) side->woken = true;
    if (to->session) {
        if (is_h2(p))
            session_in(to->session, k->data, k->len, p->now);
        else
            session_in_datagram(to->session, &k->from, k->ecn, k->data, k->len, p->now);
    } else if (from == PAIR_CLIENT && p->config.accept) {
        p->config.server.now = p->now;
        p->config.server.remote = k->from;
        p->config.accept(p, &k->from, k->data, k->len);
        to->woken = true;
    }
    free(k);
}

static bool due(const struct session_pair *p, int from, uint64_t at) {
    const struct pair_side *side = &p->side[from];
    return side->head && side->head->at <= at && !(is_h2(p) && p->config.link[from].hold);
}

/* When something happens next; UINT64_MAX: never. */
static uint64_t next_time(const struct session_pair *p) {
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < 2; i++) {
        if (due(p, i, UINT64_MAX) && p->side[i].head->at < next) next = p->side[i].head->at;
        if (!p->side[i].session) continue;
        uint64_t deadline = session_deadline(p->side[i].session);
        if (deadline < next) next = deadline;
    }
    return next;
}

/* What can be done at this instant. */
static bool step(struct session_pair *p) {
    bool moved = false;
    for (int i = 0; i < 2; i++) {
        if (p->side[i].woken) moved |= drain(p, i);
        if (p->side[i].session && session_deadline(p->side[i].session) <= p->now) {
            session_expire(p->side[i].session, p->now);
            moved = true;
        }
        while (due(p, i, p->now)) {
            deliver(p, i);
            moved = true;
        }
    }
    return moved;
}

bool session_pair_io(struct session_pair *p, uint64_t patience) {
    if (step(p)) return true;
    uint64_t next = next_time(p);
    if (next == UINT64_MAX || next > p->now + patience) return false;
    if (next > p->now) p->now = next;
    return step(p);
}

/* ---- running ---- */

void session_pair_settle(struct session_pair *p, uint64_t patience) {
    bool moved;
    do {
        moved = session_pair_io(p, patience);
        if (p->queue.head) moved = true;
        defer_queue_run(&p->queue, 0);
    } while (moved);
}

bool session_pair_until(struct session_pair *p, bool (*done)(void *arg), void *arg, uint64_t limit) {
    uint64_t end = p->now + limit;
    for (;;) {
        defer_queue_run(&p->queue, 0);
        if (done(arg)) return true;
        if (step(p) || p->queue.head) continue;
        uint64_t next = next_time(p);
        if (next > end) {
            if (p->now < end) p->now = end;
            return done(arg);
        }
        if (next > p->now) p->now = next;
        step(p);
    }
}

static bool never(void *arg) {
    (void)arg;
    return false;
}

void session_pair_pass(struct session_pair *p, uint64_t ns) { session_pair_until(p, never, NULL, ns); }

static bool both_up_or_one_down(void *arg) {
    struct session_pair *p = arg;
    bool up = true;
    for (int i = 0; i < 2; i++) {
        if (p->side[i].states[SESSION_DOWN]) return true;
        if (!p->side[i].states[SESSION_UP]) up = false;
    }
    return up;
}

bool session_pair_up(struct session_pair *p) {
    session_pair_until(p, both_up_or_one_down, p, 60 * PAIR_S);
    for (int i = 0; i < 2; i++)
        if (!p->side[i].states[SESSION_UP] || p->side[i].states[SESSION_DOWN]) return false;
    return true;
}

struct stream *session_pair_request(struct session_pair *p) {
    if (!p->n_requests) return NULL;
    struct stream *st = p->requests[0];
    memmove(p->requests, p->requests + 1, --p->n_requests * sizeof *p->requests);
    return st;
}

bool session_pair_tunnel(struct session_pair *p, int status, struct stream **client, struct stream **server) {
    const struct header head[] = {HEADER(":method", "CONNECT"), HEADER(":authority", "test.example:443")};
    char digits[4];
    struct header answer = {":status", digits, 7, 3, false};
    int err;

    snprintf(digits, sizeof digits, "%03u", (unsigned)status % 1000);
    *client = session_open(p->side[PAIR_CLIENT].session, head, 2, false, p->now, &err);
    if (!*client) return false;
    for (int i = 0; i < 100 && !p->n_requests; i++) session_pair_pass(p, 100 * PAIR_MS);
    *server = session_pair_request(p);
    if (!*server) return false;
    if (session_respond(*server, &answer, 1, false) < 0) return false;
    for (int i = 0; i < 100 && !(*client)->status; i++) session_pair_pass(p, 100 * PAIR_MS);
    return (*client)->status == status;
}

void session_pair_answer(struct session_pair *p, const uint8_t *data, size_t n) {
    put_datagram(p, PAIR_SERVER, data, n, 0);
}

void session_pair_cut(struct session_pair *p, int side) {
    p->side[side].ended = true;
    put(p, side, NULL, 0, 0);
}

void session_pair_inject(struct session_pair *p, int side, const void *data, size_t n) {
    put(p, side, data, n, 0);
}
