/* tunnel.c - one request at the test endpoint: judge it, dial the target, relay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "endpoint/endpoint_impl.h"
#include "flow/relay.h"

struct tunnel {
    struct endpoint *ep;
    struct tunnel *next, *prev;
    struct stream *client; /* of the session; NULL once the relay has it */
    struct stream *target;
    struct relay *relay;
    struct dest dest;
    struct loop_timer timer;
    bool answered;
};

static void tunnel_free(struct tunnel *t) {
    struct endpoint *ep = t->ep;
    if (t->prev) t->prev->next = t->next;
    else ep->tunnels = t->next;
    if (t->next) t->next->prev = t->prev;
    loop_timer_stop(&t->timer);
    stream_free(t->client);
    stream_free(t->target);
    relay_free(t->relay, NULL);
    ep->counts.tunnels_open--;
    free(t);
}

void tunnels_free(struct endpoint *ep) {
    while (ep->tunnels) tunnel_free(ep->tunnels);
}

/* A final answer ends the stream: nothing but the head. */
static void answer(struct stream *st, int status, int warning, const char *text) {
    char code[16], words[64];
    struct header head[2] = {{":status", code, 7, 0, false}, {"x-warning", words, 9, 0, false}};
    head[0].value_len = (size_t)snprintf(code, sizeof code, "%d", status);
    head[1].value_len = (size_t)snprintf(words, sizeof words, "%d - %s", warning, text);
    if (session_respond(st, head, warning ? 2 : 1, true)) stream_reset(st, ERR_INTERNAL);
}

static void answer_and_end(struct tunnel *t, int status, int warning, const char *text) {
    if (!t->answered) answer(t->client, status, warning, text);
    else stream_finish(t->client);
    t->answered = true;
    /* the client's side may still be open; freeing would reset what was just said if it were unread: finish first */
    linger_close(t->ep->lingers, t->client, NULL, 0);
    t->client = NULL;
    tunnel_free(t);
}

static bool say_200(struct tunnel *t) {
    struct header ok = HEADER(":status", "200");
    if (t->answered) return true;
    t->answered = true;
    return session_respond(t->client, &ok, 1, false) == 0;
}

static void on_relayed(const struct relay_end *end, void *arg) {
    struct tunnel *t = arg;
    log_debug("endpoint", "tunnel over reason=%s up=%lu down=%lu", err_word(end->err), (unsigned long)end->up,
              (unsigned long)end->down);
    t->relay = NULL;
    tunnel_free(t);
}

static void on_target(struct stream *s, unsigned events, void *arg) {
    struct tunnel *t = arg;
    if (events & STREAM_DEAD) {
        switch (s->err) {
        case ERR_TARGET_HOST_UNREACHABLE:
        case ERR_TARGET_NET_UNREACHABLE: answer_and_end(t, 502, 301, "host unreachable"); break;
        case ERR_TARGET_TIMEOUT: answer_and_end(t, 502, 302, "timed out"); break;
        default: answer_and_end(t, 502, 300, "connection refused");
        }
        return;
    }
    if (!(events & STREAM_OPEN)) return;
    if (!say_200(t)) {
        tunnel_free(t);
        return;
    }
    struct relay_config rc = {.loop = t->ep->cfg.loop,
                              .lingers = t->ep->lingers,
                              .client = t->client,
                              .far = t->target,
                              .done = on_relayed,
                              .arg = t};
    t->client = t->target = NULL;
    t->ep->counts.tunnels++;
    t->relay = relay_start(&rc);
    if (!t->relay) tunnel_free(t);
}

/* The address of a name that this endpoint knows; false for all others. */
static bool look_up(const struct endpoint *ep, struct dest *d, struct addr *a) {
    if (d->kind != DEST_NAME) {
        *a = d->ip;
        return true;
    }
    if (strcmp(d->host, "localhost") == 0) return addr_parse_ip(a, "127.0.0.1", d->port) == 0;
    for (size_t i = 0; i < ENDPOINT_HOSTS && ep->cfg.hosts[i].name; i++)
        if (strcmp(ep->cfg.hosts[i].name, d->host) == 0) return addr_parse_ip(a, ep->cfg.hosts[i].ip, d->port) == 0;
    return false;
}

static void dial(struct tunnel *t) {
    struct endpoint *ep = t->ep;
    const struct endpoint_faults *f = &ep->faults;
    struct addr to;
    int err;
    if (f->status || f->x_warning) {
        answer_and_end(t, f->status ? f->status : 502, f->x_warning, "as told");
        return;
    }
    if (f->instant_200 && !say_200(t)) {
        tunnel_free(t);
        return;
    }
    if (!look_up(ep, &t->dest, &to)) {
        answer_and_end(t, 502, 300, "failed to resolve the name");
        return;
    }
    if (!ep->cfg.any_target && !addr_is_loopback(&to)) {
        answer_and_end(t, 502, 310, "destination not allowed");
        return;
    }
    t->target = sock_connect(ep->cfg.loop, &to, NULL, SOCK_TARGET, &err);
    if (t->target) stream_own(t->target, on_target, t);
    else answer_and_end(t, 502, 301, "no route");
}

static void on_timer(void *arg) { dial(arg); }

/* Until the target is there only the client's going away is of interest: dead, or it reads no longer. */
static void on_client(struct stream *s, unsigned events, void *arg) {
    if (events & STREAM_DEAD || stream_write(s, "", 0) < 0) tunnel_free(arg);
}

/* "host:port" with the port always there. */
static bool parse_authority(struct dest *d, const char *text, size_t n) {
    const char *colon = memrchr(text, ':', n);
    char port[8];
    if (!colon || (size_t)(text + n - colon - 1) >= sizeof port) return false;
    memset(port, 0, sizeof port);
    memcpy(port, colon + 1, (size_t)(text + n - colon - 1));
    int value = atoi(port);
    return value > 0 && value < 65536 &&
           dest_set_name(d, DEST_TCP, text, (size_t)(colon - text), (uint16_t)value) == 0;
}

static bool authorized(const struct endpoint *ep, const struct stream *st) {
    size_t n;
    const char *got = session_stream_header(st, "proxy-authorization", &n);
    return got && n == strlen(ep->authorization) && memcmp(got, ep->authorization, n) == 0;
}

void tunnel_refuse(struct endpoint *ep, struct stream *st, int status) {
    answer(st, status, 0, "");
    linger_close(ep->lingers, st, NULL, 0);
}

void tunnel_request(struct ep_session *es, struct stream *st, bool h3) {
    struct endpoint *ep = es->ep;
    size_t method_len = 0, n = 0;
    const char *method = session_stream_header(st, ":method", &method_len);
    const char *authority = session_stream_header(st, ":authority", &n);
    struct dest d;
    if (!method || method_len != 7 || memcmp(method, "CONNECT", 7) || !authority) {
        tunnel_refuse(ep, st, 405);
        return;
    }
    if (!authorized(ep, st)) {
        ep->counts.refused_auth++;
        tunnel_refuse(ep, st, 407);
        return;
    }
    if (n == 6 && memcmp(authority, "_check", 6) == 0) {
        ep->counts.checks++;
        tunnel_refuse(ep, st, ep->faults.check_status ? ep->faults.check_status : 200);
        return;
    }
    if (h3) ep->counts.requests_h3++;
    else ep->counts.requests_h2++;
    struct tunnel *t = parse_authority(&d, authority, n) ? calloc(1, sizeof *t) : NULL;
    if (!t) {
        tunnel_refuse(ep, st, 400);
        return;
    }
    t->ep = ep;
    t->client = st;
    t->dest = d;
    t->next = ep->tunnels;
    if (ep->tunnels) ep->tunnels->prev = t;
    ep->tunnels = t;
    ep->counts.tunnels_open++;
    loop_timer_init(&t->timer, ep->cfg.loop, on_timer, t);
    stream_own(st, on_client, t);
    if (ep->faults.slow_accept) loop_timer_set(&t->timer, loop_now(ep->cfg.loop) + ep->faults.slow_accept * LOOP_MS);
    else dial(t);
}
