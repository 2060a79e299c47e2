#include "sim/world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testca.h"
#include "net/sock.h"

#define PART 16384

struct target {
    struct world *world;
    struct target *next;
    struct stream *stream;
    uint16_t port;
    uint64_t sent, received;
    bool eof, finished;
};

struct target_port {
    struct target_port *next;
    struct world *world;
    uint16_t port;
    struct listener_sock *sock;
};

uint8_t world_pattern(uint64_t at) { return (uint8_t)(at * 31 + (at >> 8) * 17 + (at >> 16) * 7); }

static void fill(uint8_t *p, uint64_t at, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = world_pattern(at + i);
}

/* Writes the pattern from *sent to `until`; true when all of it was taken. */
static bool send_pattern(struct stream *s, uint64_t *sent, uint64_t until) {
    uint8_t part[PART];
    while (*sent < until) {
        size_t n = until - *sent < PART ? (size_t)(until - *sent) : PART;
        fill(part, *sent, n);
        long took = stream_write(s, part, n);
        if (took < 0) return false;
        *sent += (uint64_t)took;
        if ((size_t)took < n) return false;
    }
    return true;
}

/* --- targets --- */

static void target_finish(struct target *t) {
    if (!t->finished) stream_finish(t->stream);
    t->finished = true;
}

static void on_target(struct stream *s, unsigned events, void *arg) {
    struct target *t = arg;
    const uint8_t *p;
    size_t n;
    int r;
    if (t->port == 19 && !t->finished && send_pattern(s, &t->sent, t->world->source_bytes)) target_finish(t);
    if (t->port == 20) target_finish(t);
    while ((r = stream_peek(s, &p, &n)) == STREAM_BYTES) {
        if (t->port == 7) {
            long took = stream_write(s, p, n);
            if (took <= 0) break;
            n = (size_t)took;
        }
        for (size_t i = 0; i < n; i++) assert_int_equal(p[i], world_pattern(t->received + i));
        t->received += n;
        stream_consume(s, n);
        if (t->port != 7) t->world->swallowed += n;
        if (t->port == 21) {
            stream_reset(s, ERR_CANCELLED);
            return;
        }
    }
    if (r == STREAM_EOF && !t->eof) {
        t->eof = true;
        t->world->swallowed_eofs++;
        if (t->port == 9) {
            uint8_t count[8];
            for (int i = 0; i < 8; i++) count[i] = (uint8_t)(t->received >> (56 - 8 * i));
            stream_write(s, count, 8);
        }
        if (t->port != 19) target_finish(t);
    }
    (void)events;
}

static void on_target_accepted(struct stream *s, const struct addr *remote, void *arg) {
    struct target_port *tp = arg;
    struct target *t = calloc(1, sizeof *t);
    (void)remote;
    t->world = tp->world;
    t->port = tp->port;
    t->stream = s;
    t->next = tp->world->targets;
    tp->world->targets = t;
    stream_own(s, on_target, t);
    on_target(s, 0, t);
}

static void add_target(struct world *w, uint16_t port) {
    struct target_port *tp = calloc(1, sizeof *tp);
    struct addr at;
    int errnum;
    addr_parse_ip(&at, "10.0.0.5", port);
    tp->world = w;
    tp->port = port;
    tp->sock = sock_listen(w->loop, &at, 16, on_target_accepted, tp, &errnum);
    assert_non_null(tp->sock);
    tp->next = w->ports;
    w->ports = tp;
}

/* --- clients --- */

static void client_read(struct client *c) {
    const uint8_t *p;
    size_t n;
    int r = STREAM_NONE;
    while (!c->stuck && (r = stream_peek(c->stream, &p, &n)) == STREAM_BYTES) {
        for (size_t i = 0; i < n; i++) {
            if (c->raw) {
                memmove(c->tail, c->tail + 1, 7);
                c->tail[7] = p[i];
            } else if (p[i] != world_pattern(c->received + i)) {
                c->corrupt = true;
            }
        }
        c->received += n;
        stream_consume(c->stream, n);
    }
    if (r == STREAM_EOF && !c->eof) {
        c->eof = true;
        c->ended_at = loop_now(c->world->loop);
    }
}

static void client_write(struct client *c) {
    if (c->state != CLIENT_OPEN || c->finished) return;
    if (send_pattern(c->stream, &c->sent, c->upload) && c->half_close) {
        stream_finish(c->stream);
        c->finished = true;
    }
}

/* The bytes of one handshake answer, or false while they are not all there. */
static bool take(struct client *c, uint8_t *out, size_t want) {
    const uint8_t *p;
    size_t n;
    if (stream_peek(c->stream, &p, &n) != STREAM_BYTES || n < want) return false;
    memcpy(out, p, want);
    stream_consume(c->stream, want);
    return true;
}

static void client_handshake(struct client *c) {
    uint8_t answer[10];
    if (c->state == CLIENT_GREETED && take(c, answer, 2)) {
        assert_int_equal(answer[1], 0);
        c->state = CLIENT_REQUESTED;
    }
    if (c->state == CLIENT_REQUESTED && take(c, answer, 10)) {
        c->rep = answer[1];
        c->state = c->rep ? CLIENT_FAILED : CLIENT_OPEN;
        c->opened_at = loop_now(c->world->loop);
    }
}

static void on_client(struct stream *s, unsigned events, void *arg) {
    struct client *c = arg;
    (void)s;
    if (c->state < CLIENT_OPEN) client_handshake(c);
    if (c->state == CLIENT_OPEN) {
        client_write(c);
        client_read(c);
    }
    if (events & STREAM_DEAD) {
        c->dead = true;
        c->err = s->err;
        if (c->state < CLIENT_OPEN) c->state = CLIENT_FAILED;
        c->ended_at = loop_now(c->world->loop);
    }
}

static void on_connected(struct stream *s, unsigned events, void *arg) {
    struct client *c = arg;
    if (!(events & STREAM_OPEN)) {
        on_client(s, events, arg);
        return;
    }
    c->state = CLIENT_GREETED;
    stream_own(s, on_client, c);
}

struct client *client_open(struct world *w, const char *host, uint16_t port, uint64_t upload, bool half_close) {
    struct client *c = calloc(1, sizeof *c);
    struct addr at;
    uint8_t request[300] = {5, 1, 0, 5, 1, 0, 3, (uint8_t)strlen(host)};
    int err;
    size_t n = 8 + strlen(host);
    addr_parse(&at, "127.0.0.1:1080");
    memcpy(request + 8, host, strlen(host));
    request[n] = (uint8_t)(port >> 8);
    request[n + 1] = (uint8_t)port;
    c->world = w;
    c->rep = 255;
    c->upload = upload;
    c->half_close = half_close;
    c->raw = port == 9;
    c->asked_at = loop_now(w->loop);
    c->next = w->clients;
    w->clients = c;
    c->stream = sock_connect(w->loop, &at, NULL, SOCK_TARGET, &err);
    stream_own(c->stream, on_connected, c);
    /* the virtual network takes bytes only once it is connected */
    while (c->state == CLIENT_CONNECTING) sim_pass(w->loop, LOOP_MS);
    if (c->state == CLIENT_GREETED) stream_write(c->stream, request, n + 2);
    return c;
}

void client_go(struct client *c) { on_client(c->stream, 0, c); }

void client_close(struct client *c, bool reset) {
    if (!c->stream) return;
    if (reset) stream_reset(c->stream, ERR_CANCELLED);
    else stream_finish(c->stream);
    stream_free(c->stream);
    c->stream = NULL;
    if (!c->ended_at) c->ended_at = loop_now(c->world->loop);
}

/* --- waiting --- */

static bool all_answered(void *arg) {
    for (struct client *c = ((struct world *)arg)->clients; c; c = c->next)
        if (c->stream && c->state < CLIENT_OPEN) return false;
    return true;
}

static bool all_ended(void *arg) {
    for (struct client *c = ((struct world *)arg)->clients; c; c = c->next)
        if (c->stream && !c->eof && !c->dead && c->state != CLIENT_FAILED) return false;
    return true;
}

static bool is_up(void *arg) { return world_pool(arg).state == POLICY_UP; }

bool world_all_answered(struct world *w, uint64_t limit) { return sim_until(w->loop, all_answered, w, limit); }
bool world_all_ended(struct world *w, uint64_t limit) { return sim_until(w->loop, all_ended, w, limit); }
bool world_until_up(struct world *w, uint64_t limit) { return sim_until(w->loop, is_up, w, limit); }

struct pool_info world_pool(const struct world *w) {
    struct pool_info i;
    pool_get_info(gateway_pool(w->gw), &i);
    return i;
}

/* --- the world --- */

static void make_endpoint(struct world *w, const struct world_config *c) {
    struct testca *ca = testca_new("sim CA");
    struct testca_spec spec = {.names = {c->certificate_name ? c->certificate_name : "endpoint.test"}};
    char *cert, *key, why[CREDS_WHY_MAX] = "";
    if (c->expired) {
        spec.from = -10 * TESTCA_DAY;
        spec.until = -2 * TESTCA_DAY;
    }
    testca_issue(c->self_signed ? NULL : ca, &spec, &cert, &key);
    w->trust = testca_pem(ca);
    testca_free(ca);
    struct creds_config cc = {.server = true, .certificate_pem = cert, .key_pem = key};
    assert_int_equal(creds_new(&w->server_creds, &cc, why, sizeof why), 0);
    free(cert);
    free(key);
    struct endpoint_config ec = {.loop = w->loop,
                                 .creds = w->server_creds,
                                 .user = "alice",
                                 .password = "secret",
                                 .retry = c->retry,
                                 .any_target = true,
                                 .hosts = {{"target.test", "10.0.0.5"}}};
    struct addr at, bound;
    w->ep = endpoint_new(&ec);
    assert_non_null(w->ep);
    addr_parse(&at, "10.0.0.1:443");
    assert_int_equal(endpoint_listen_tcp(w->ep, &at, &bound), 0);
    assert_int_equal(endpoint_listen_udp(w->ep, &at, &bound), 0);
}

struct conf *world_conf(struct world *w, const struct world_config *c) {
    char text[8192];
    struct conf *conf;
    struct conf_report *report = calloc(1, sizeof *report);
    int n = snprintf(text, sizeof text,
                     "[endpoint]\nhostname = \"endpoint.test\"\naddresses = [\"gate.test:443\"]\nusername = \"alice\"\n"
                     "password = \"%s\"\ntransport = \"%s\"\n%s\ncertificate = \"\"\"\n%s\"\"\"\n"
                     "[listener.mixed]\naddress = \"127.0.0.1:1080\"\n%s\n",
                     c->password ? c->password : "secret", c->transport ? c->transport : "auto",
                     c->endpoint ? c->endpoint : "", w->trust, c->listener ? c->listener : "");
    if (conf_load_text("sim.toml", text, (size_t)n, &conf, report)) {
        conf_report_print(report, stderr);
        fail();
    }
    free(report);
    return conf;
}

static void make_gateway(struct world *w, const struct world_config *c) {
    char why[GATEWAY_WHY_MAX] = "";
    w->conf = world_conf(w, c);
    sim_name("gate.test", "10.0.0.1");
    if (gateway_new(&w->gw, w->loop, w->conf, why, sizeof why)) {
        fprintf(stderr, "%s\n", why);
        fail();
    }
}

struct world *world_new(const struct world_config *c) {
    static const uint16_t ports[] = {7, 9, 19, 20, 21};
    struct world *w = calloc(1, sizeof *w);
    w->loop = loop_new();
    w->net = sim_net_init(w->loop, c->seed ? c->seed : 1);
    w->source_bytes = 100000;
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) add_target(w, ports[i]);
    make_endpoint(w, c);
    make_gateway(w, c);
    return w;
}

void world_start(struct world *w) { gateway_start(w->gw); }

void world_free(struct world *w) {
    while (w->clients) {
        struct client *c = w->clients;
        w->clients = c->next;
        client_close(c, true);
        free(c);
    }
    gateway_free(w->gw);
    endpoint_free(w->ep);
    creds_unref(w->server_creds);
    conf_unref(w->conf);
    while (w->targets) {
        struct target *t = w->targets;
        w->targets = t->next;
        stream_free(t->stream);
        free(t);
    }
    while (w->ports) {
        struct target_port *tp = w->ports;
        w->ports = tp->next;
        sock_listen_free(tp->sock);
        free(tp);
    }
    bool clean = sim_net_done();
    loop_free(w->loop);
    free(w->trust);
    free(w);
    assert_true(clean);
}
