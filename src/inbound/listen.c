#include "inbound/listen.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "codec/socks.h"
#include "inbound/conn.h"
#include "inbound/http_forward.h"
#include "inbound/http_in.h"
#include "inbound/socks_in.h"
#include "net/sock.h"

#define BACKLOG 1024
#define CONN_BYTES 600 /* holds every SOCKS message; HTTP heads grow from here to HTTP1_HEAD_MAX */

static void conn_read(struct conn *c);
static void on_stream(struct stream *s, unsigned events, void *arg);

void conn_set_state(struct conn *c, enum conn_state state) {
    static const char *const words[] = {"first", "socks-greeting", "socks-auth", "socks-request",
                                        "socks4", "http",          "forwarding", "done"};
    log_trace("inbound", "connection from=%s to=%s", words[c->state], words[state]);
    c->state = state;
}

/* --- the listener --- */

static void config_free(struct listen_config *c) {
    for (size_t i = 0; i < c->n_users; i++) {
        free((char *)c->users[i].name);
        secret_free((char *)c->users[i].password);
    }
    free((struct listen_user *)c->users);
    free((uid_t *)c->allow_uids);
    free((gid_t *)c->allow_gids);
    free((char *)c->activated);
    free((char *)c->name);
}

static void listener_release(struct listener *l) {
    if (!l->closing || l->connections) return;
    config_free(&l->cfg);
    free(l->limit);
    free(l);
}

/* One connection of the user less: the listener may go with it. */
static void connection_gone(void *arg) {
    struct access_user *u = arg;
    struct listener *l = u->listener;
    access_leave(u);
    l->connections--;
    listener_release(l);
}

static int copy_users(struct listen_config *to, const struct listen_config *c) {
    struct listen_user *users = c->n_users ? calloc(c->n_users, sizeof *users) : NULL;
    to->users = users;
    to->n_users = 0;
    if (c->n_users && !users) return ERR_NO_MEMORY;
    for (size_t i = 0; i < c->n_users; i++) {
        users[i].name = strdup(c->users[i].name);
        users[i].password = secret_dup(c->users[i].password, strlen(c->users[i].password));
        to->n_users = i + 1;
        if (!users[i].name || !users[i].password) return ERR_NO_MEMORY;
    }
    return 0;
}

/* A copy of n bytes; NULL for none of them, and *ok false without memory. */
static void *copy_list(const void *from, size_t n, bool *ok) {
    void *to = n ? malloc(n) : NULL;
    if (to) memcpy(to, from, n);
    else if (n) *ok = false;
    return to;
}

/* `to` is to be freed either way. */
static int config_copy(struct listen_config *to, const struct listen_config *c) {
    bool ok = true;
    *to = *c;
    to->name = copy_list(c->name, strlen(c->name) + 1, &ok);
    to->activated = copy_list(c->activated, c->activated ? strlen(c->activated) + 1 : 0, &ok);
    to->allow_uids = copy_list(c->allow_uids, c->n_allow_uids * sizeof *c->allow_uids, &ok);
    to->allow_gids = copy_list(c->allow_gids, c->n_allow_gids * sizeof *c->allow_gids, &ok);
    int r = copy_users(to, c);
    return ok ? r : ERR_NO_MEMORY;
}

static void on_accepted(struct stream *s, const struct addr *remote, void *arg) { listener_accept(arg, s, remote); }

/* Takes over c->fd, also when this fails. */
static int start_listening(struct listener *l, const struct listen_config *c, int *errnum) {
    bool is_unix = !c->activated && c->address.len && c->address.u.sa.sa_family == AF_UNIX;
    int fd = c->fd;
    if (is_unix) {
        *errnum = unix_sock_listen(&c->address, c->mode, BACKLOG, &l->file, &fd);
        if (*errnum) return ERR_IO;
    }
    if (is_unix || c->activated) l->sock = sock_listen_fd(c->loop, fd, on_accepted, l, errnum);
    else l->sock = sock_listen(c->loop, &c->address, BACKLOG, on_accepted, l, errnum);
    return l->sock ? 0 : ERR_IO;
}

int listener_new(struct listener **out, const struct listen_config *c, int *errnum) {
    struct listener *l = calloc(1, sizeof *l);
    *out = NULL;
    *errnum = 0;
    if (!l) {
        if (c->activated) close(c->fd);
        return ERR_NO_MEMORY;
    }
    l->limit = calloc(1, sizeof *l->limit);
    int r = config_copy(&l->cfg, c);
    if (!l->limit) r = ERR_NO_MEMORY;
    if (r == 0) r = start_listening(l, c, errnum);
    else if (c->activated) close(c->fd);
    if (r) {
        listener_free(l);
        return r;
    }
    sock_listen_addr(l->sock, &l->address);
    *out = l;
    return 0;
}

int listener_update(struct listener *l, const struct listen_config *c) {
    struct listen_config fresh;
    int r = config_copy(&fresh, c);
    if (r) {
        config_free(&fresh);
        return r;
    }
    fresh.address = l->cfg.address;
    if (l->file.at.len && fresh.mode != l->cfg.mode && (r = unix_sock_set_mode(&l->file, fresh.mode)))
        log_error("inbound", "the mode of a socket stays as it was listener=%s error=\"%s\"", fresh.name, strerror(r));
    config_free(&l->cfg);
    l->cfg = fresh;
    access_forget(&l->access);
    return 0;
}

const struct addr *listener_addr(const struct listener *l) { return &l->address; }
const char *listener_name(const struct listener *l) { return l->cfg.name; }
unsigned listener_connections(const struct listener *l) { return l->connections; }
const struct listen_counts *listener_counts(const struct listener *l) { return &l->counts; }

/* --- a connection --- */

static void drop_bytes(struct conn *c) {
    if (c->bytes) secret_wipe(c->bytes, c->cap); /* may hold credentials */
    free(c->bytes);
    c->bytes = NULL;
    c->cap = c->len = c->have = 0;
}

/* The connection is over: from here on it does not touch its listener, which may go with the last of them. */
static void conn_leave(struct conn *c) {
    conn_set_state(c, CONN_DONE);
    if (c->prev) c->prev->next = c->next;
    else c->listener->head = c->next;
    if (c->next) c->next->prev = c->prev;
}

/* After conn_leave(). */
static void conn_free(struct conn *c) {
    loop_timer_stop(&c->timer);
    http_forward_free(c->forward);
    stream_free(c->stream);
    drop_bytes(c);
    free(c);
}

/* What the client speaks, as far as it is known. */
static const char *protocol_of(const struct conn *c) {
    switch (c->state) {
    case CONN_SOCKS_GREETING:
    case CONN_SOCKS_AUTH:
    case CONN_SOCKS_REQUEST: return "socks5";
    case CONN_SOCKS4: return "socks4";
    case CONN_HTTP:
    case CONN_FORWARDING: return "http";
    case CONN_FIRST:
    case CONN_DONE: break;
    }
    return "-";
}

void listener_free(struct listener *l) {
    if (!l) return;
    if (l->file.at.len) unix_sock_remove(&l->file);
    l->file = (struct unix_sock){0};
    sock_listen_free(l->sock);
    l->sock = NULL;
    for (struct conn *c = l->head, *next; c; c = next) {
        next = c->next;
        if (c->state == CONN_FORWARDING) {
            http_forward_last(c->forward);
        } else if (c->waiting) {
            conn_close(c, NULL, 0);
        } else { /* each with its record */
            stream_reset(c->stream, ERR_SHUTDOWN); /* nothing lingers */
            conn_refuse(c, NULL, protocol_of(c), NULL, ERR_SHUTDOWN, 0, "");
            conn_free(c);
        }
    }
    l->closing = true;
    listener_release(l);
}

static struct flow_request request_of(struct conn *c, flow_reply *reply, const char *protocol) {
    struct listener *l = c->listener;
    struct stream *s = c->stream;
    c->stream = NULL;
    stream_own(s, NULL, NULL);
    return (struct flow_request){.client = s,
                                 .reply = reply,
                                 .listener = l->cfg.name,
                                 .protocol = protocol,
                                 .remote = c->remote,
                                 .accepted = c->accepted,
                                 .idle_timeout = l->cfg.idle_timeout,
                                 .ended = connection_gone,
                                 .arg = c->user};
}

void conn_refuse(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d, int err, int hint,
                 const char *detail) {
    struct flow_request rq = request_of(c, reply, protocol);
    rq.hint = hint;
    conn_leave(c);
    flow_refuse(c->listener->cfg.flows, &rq, d, err, detail);
}

bool conn_admit(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d, int hint) {
    struct listener *l = c->listener;
    if (l->cfg.is_self && l->cfg.is_self(d, l->cfg.arg))
        conn_refuse(c, reply, protocol, d, ERR_CLIENT_LOOP, hint, "");
    else if (c->over_limit)
        conn_refuse(c, reply, protocol, d, ERR_LIMIT, hint, c->over_limit);
    return c->state != CONN_DONE;
}

void conn_flow(struct conn *c, flow_reply *reply, const char *protocol, const struct dest *d) {
    if (!conn_admit(c, reply, protocol, d, 0)) return;
    struct flow_request rq = request_of(c, reply, protocol);
    rq.dest = *d;
    conn_leave(c);
    flow_open(c->listener->cfg.flows, &rq);
}

void conn_close(struct conn *c, const void *last, size_t n) {
    struct access_user *user = c->user;
    struct stream *s = c->stream;
    c->stream = NULL;
    conn_leave(c);
    linger_close(flow_lingers(c->listener->cfg.flows), s, last, n);
    conn_free(c);
    connection_gone(user);
}

void conn_reset(struct conn *c, int err) {
    struct access_user *user = c->user;
    stream_reset(c->stream, (enum err)err);
    conn_leave(c);
    conn_free(c);
    connection_gone(user);
}

void conn_tunnel(struct conn *c, struct flow *f, struct stream *far, uint64_t up, uint64_t down) {
    struct stream *s = c->stream;
    c->stream = NULL;
    conn_leave(c);
    flow_tunnel(f, s, far, connection_gone, c->user, up, down);
    conn_free(c);
}

void conn_next(struct conn *c) {
    struct listener *l = c->listener;
    drop_bytes(c);
    c->scan = (struct http1_scan){0};
    c->waiting = true;
    conn_set_state(c, CONN_HTTP);
    loop_timer_set(&c->timer, loop_now(l->cfg.loop) + HTTP_KEEP_ALIVE * LOOP_MS);
    stream_own(c->stream, on_stream, c);
    conn_read(c);
}

bool conn_user_ok(const struct conn *c, const void *name, size_t name_len, const void *password,
                  size_t password_len) {
    const struct listen_config *cfg = &c->listener->cfg;
    bool ok = false;
    for (size_t i = 0; i < cfg->n_users; i++) {
        const struct listen_user *u = &cfg->users[i];
        bool same_name = secret_equal(u->name, strlen(u->name), name, name_len);
        bool same_password = secret_equal(u->password, strlen(u->password), password, password_len);
        ok |= same_name & same_password;
    }
    return ok;
}

void conn_take(struct conn *c, size_t used) {
    if (used > c->len) stream_consume(c->stream, used - c->len);
    c->len = c->have = 0;
}

bool conn_say(struct conn *c, const void *p, size_t n) {
    long wrote = stream_write(c->stream, p, n);
    if (wrote == (long)n) return true;
    conn_refuse(c, NULL, protocol_of(c), NULL, wrote < 0 ? (int)wrote : ERR_CLIENT_GONE, 0, "");
    return false;
}

/* The first byte picks the protocol. */
static bool first_byte(struct conn *c) {
    struct listener *l = c->listener;
    uint8_t b = c->bytes[0];
    unsigned suppressed;
    if (b == SOCKS5_VERSION && l->cfg.protocols & LISTEN_SOCKS5) {
        conn_set_state(c, CONN_SOCKS_GREETING);
    } else if (b == SOCKS4_VERSION && l->cfg.protocols & (LISTEN_SOCKS4 | LISTEN_SOCKS5)) {
        conn_set_state(c, CONN_SOCKS4);
    } else if (l->cfg.protocols & LISTEN_HTTP && http1_may_begin(b)) {
        conn_set_state(c, CONN_HTTP);
    } else {
        if (b == 0x16 && log_limit_pass(l->limit, loop_now(l->cfg.loop), &suppressed))
            log_warn("inbound", "a client speaks TLS to a listener that serves plain SOCKS and HTTP listener=%s",
                     l->cfg.name);
        conn_refuse(c, NULL, "-", NULL, ERR_CLIENT_PROTOCOL, 0, "the first byte is no protocol served here");
        return false;
    }
    return true;
}

static bool step(struct conn *c) {
    switch (c->state) {
    case CONN_FIRST: return first_byte(c);
    case CONN_SOCKS_GREETING: return socks_in_greeting(c);
    case CONN_SOCKS_AUTH: return socks_in_auth(c);
    case CONN_SOCKS_REQUEST: return socks_in_request(c);
    case CONN_SOCKS4: return socks_in_socks4(c);
    case CONN_HTTP: return http_in_request(c);
    case CONN_FORWARDING:
    case CONN_DONE: break;
    }
    return false;
}

/* Copies what the stream shows behind what is there already. */
static int fill(struct conn *c, const uint8_t *p, size_t n) {
    size_t limit = c->state == CONN_HTTP || c->state == CONN_FIRST ? HTTP1_HEAD_MAX : CONN_BYTES;
    if (n > limit - c->len) n = limit - c->len;
    if (c->len + n > c->cap) {
        size_t cap = c->cap ? c->cap : CONN_BYTES;
        while (cap < c->len + n) cap *= 2;
        if (cap > HTTP1_HEAD_MAX) cap = HTTP1_HEAD_MAX;
        uint8_t *grown = malloc(cap);
        if (!grown) return ERR_NO_MEMORY;
        if (c->bytes) {
            memcpy(grown, c->bytes, c->len);
            secret_wipe(c->bytes, c->cap);
        }
        free(c->bytes);
        c->bytes = grown;
        c->cap = cap;
    }
    memcpy(c->bytes + c->len, p, n);
    c->have = c->len + n;
    return 0;
}

/* The first byte of another request: it has its own deadline. */
static void begin_next(struct conn *c) {
    c->waiting = false;
    c->accepted = loop_now(c->listener->cfg.loop);
    loop_timer_set(&c->timer, c->accepted + c->listener->cfg.handshake_timeout * LOOP_MS);
}

static void conn_read(struct conn *c) {
    while (c->state != CONN_DONE) {
        const uint8_t *p;
        size_t n;
        int r = stream_peek(c->stream, &p, &n);
        if (r == STREAM_NONE) return;
        if (c->waiting && r != STREAM_BYTES) { /* it has had all it wanted */
            conn_close(c, NULL, 0);
            return;
        }
        if (c->waiting) begin_next(c);
        if (r == STREAM_BYTES) r = fill(c, p, n);
        else if (r == STREAM_EOF) r = ERR_CLIENT_GONE;
        if (r < 0) {
            conn_refuse(c, NULL, protocol_of(c), NULL, r, 0, "before its request was complete");
            break;
        }
        while (c->have && step(c)) continue;
        if (c->state == CONN_DONE) break;
        if (c->state == CONN_FORWARDING) {
            drop_bytes(c);
            return;
        }
        if (c->have > c->len) { /* a part of a message: the stream goes on behind it */
            stream_consume(c->stream, c->have - c->len);
            c->len = c->have;
        }
    }
    conn_free(c);
}

static void on_stream(struct stream *s, unsigned events, void *arg) {
    (void)s;
    if (events & (STREAM_IN | STREAM_DEAD)) conn_read(arg);
}

static void on_timeout(void *arg) {
    struct conn *c = arg;
    if (c->waiting) {
        conn_close(c, NULL, 0);
        return;
    }
    conn_refuse(c, c->state == CONN_HTTP ? http_in_reply : NULL, protocol_of(c), NULL, ERR_CLIENT_TIMEOUT, 0, "");
    conn_free(c);
}

/* --- accepting --- */

static void link_conn(struct listener *l, struct conn *c) {
    c->listener = l;
    c->next = l->head;
    if (l->head) l->head->prev = c;
    l->head = c;
    loop_timer_init(&c->timer, l->cfg.loop, on_timeout, c);
}

static void drop(struct stream *s, int err) {
    stream_reset(s, err);
    stream_free(s);
}

/* The limit that one more connection of the user would break by `more`, or NULL. */
static const char *limit_of(const struct access_user *u, unsigned more) {
    const struct listener *l = u->listener;
    if (l->connections >= l->cfg.max_connections + more) return "too many connections on this listener";
    if (l->cfg.max_per_uid && u->connections > l->cfg.max_per_uid + more) return "too many connections of this user";
    return NULL;
}

static void say_too_many(struct listener *l, const char *limit, uid_t uid) {
    unsigned suppressed;
    char who[16] = "";
    if (!log_limit_pass(l->limit, loop_now(l->cfg.loop), &suppressed)) return;
    if (uid != PEER_NOBODY) snprintf(who, sizeof who, " uid=%u", (unsigned)uid);
    log_warn("inbound", "connections are refused: %s listener=%s%s refused=%" PRIu64 " suppressed=%u", limit, l->cfg.name,
             who, l->counts.refused_limit, suppressed);
}

/* Room for a connection; NULL if there is none, which was told. */
static struct conn *conn_new(struct listener *l, uid_t uid) {
    struct access_user *u = access_enter(l, uid);
    const char *over = u ? limit_of(u, LISTEN_OVERFLOW) : "out of memory";
    struct conn *c = over ? NULL : calloc(1, sizeof *c);
    if (c) {
        c->user = u;
        c->over_limit = limit_of(u, 0);
        l->connections++;
        l->counts.accepted++;
        over = c->over_limit;
    }
    if (over || !c) {
        l->counts.refused_limit++;
        say_too_many(l, over ? over : "out of memory", uid);
    }
    if (!c && u) access_leave(u);
    return c;
}

void listener_accept(struct listener *l, struct stream *s, const struct addr *remote) {
    uid_t uid;
    if (!access_admit(l, s, remote, &uid)) {
        drop(s, ERR_CLIENT_AUTH);
        return;
    }
    struct conn *c = conn_new(l, uid);
    if (!c) {
        drop(s, ERR_LIMIT);
        return;
    }
    c->stream = s;
    c->remote = *remote;
    c->accepted = loop_now(l->cfg.loop);
    link_conn(l, c);
    loop_timer_set(&c->timer, c->accepted + l->cfg.handshake_timeout * LOOP_MS);
    stream_own(s, on_stream, c);
    conn_read(c); /* what came with the connection */
}
