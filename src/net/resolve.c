#include "net/resolve.h"

#include <ares.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/log.h"

#define SYSTEM_CONF "/etc/resolv.conf"
/* Sockets of the library at one time: two for each name server. */
#define SOCKETS_MAX 32
/* The first try's patience; it doubles with each further one. */
#define TRY_MS 1000
#define TRIES 4
/* The library answers when both families have, and some servers never answer a question for AAAA. After this long,
 * which leaves time for one more try, each family is asked for by itself; and when one has answered, the other one
 * has a last moment. */
#define PATIENCE_MS (TRY_MS + 250)
#define LAST_MOMENT_MS 250
#define NAME_MAX_LEN 254 /* with a dot at its end */

struct socket_watch {
    struct loop_io io;
    struct resolver *r;
    int fd; /* -1: free */
};

/* What a file was when it was read. */
struct file_mark {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

struct resolver {
    struct loop *loop;
    ares_channel channel; /* NULL until first needed */
    struct loop_timer timer;
    struct socket_watch sockets[SOCKETS_MAX];
    struct resolve *head;
    unsigned count;
    char *servers, *conf; /* NULL: the system's */
    uint16_t port;
    struct file_mark mark;
    bool dropping; /* the channel goes: its answers mean nothing */
};

enum resolve_state {
    RESOLVE_NEW,
    RESOLVE_ASKING,
    RESOLVE_ANSWERED, /* delivery is queued */
    RESOLVE_LEFT,     /* nobody waits; freed with the library's last answer */
};

struct resolve {
    struct resolver *r;
    struct resolve *next, *prev;
    enum resolve_state state;
    unsigned asked;  /* questions that the library will answer */
    unsigned single; /* those among them for one family */
    char *host;
    uint16_t port;
    struct loop_timer timeout, patience;
    uint32_t patience_ms;
    struct defer deliver;
    resolve_cb *cb;
    void *arg;
    int err;
    char why[128];
    size_t n;
    struct addr addrs[RESOLVE_MAX];
};

static void set_timer(struct resolver *r);

/* --- requests --- */

static void set_state(struct resolve *q, enum resolve_state state) {
    static const char *const names[] = {"new", "asking", "answered", "left"};
    char text[NAME_MAX_LEN + 8];
    log_trace("resolve", "host=%s %s -> %s", log_quote_str(q->host, text, sizeof text), names[q->state],
              names[state]);
    q->state = state;
}

static void destroy(struct resolve *q) {
    struct resolver *r = q->r;
    loop_timer_stop(&q->timeout);
    loop_timer_stop(&q->patience);
    defer_cancel(&q->deliver);
    if (q->prev)
        q->prev->next = q->next;
    else
        r->head = q->next;
    if (q->next) q->next->prev = q->prev;
    r->count--;
    free(q->host);
    free(q);
}

/* When nobody waits for anything, the library need not go on. */
static void drop_unwanted(struct resolver *r) {
    bool unwanted = false;
    for (struct resolve *q = r->head; q; q = q->next) {
        if (q->state == RESOLVE_ASKING) return;
        unwanted = unwanted || q->asked;
    }
    if (!unwanted) return;
    ares_cancel(r->channel);
    set_timer(r);
}

/* The owner has had its answer or wants none. */
static void leave(struct resolve *q) {
    struct resolver *r = q->r;
    loop_timer_stop(&q->timeout);
    loop_timer_stop(&q->patience);
    defer_cancel(&q->deliver);
    set_state(q, RESOLVE_LEFT);
    if (!q->asked) destroy(q);
    drop_unwanted(r);
}

static void deliver(void *arg) {
    struct resolve *q = arg;
    resolve_cb *cb = q->cb;
    void *cb_arg = q->arg;
    int err = q->err;
    size_t n = err ? 0 : q->n;
    char why[sizeof q->why];
    struct addr addrs[RESOLVE_MAX];
    memcpy(why, q->why, sizeof why);
    memcpy(addrs, q->addrs, sizeof addrs);
    leave(q);
    cb(err, why, addrs, n, cb_arg);
}

/* Ends the asking with what is in q->addrs, or with an error. */
static void settle(struct resolve *q, int err, const char *why) {
    q->err = err;
    snprintf(q->why, sizeof q->why, "%s", why);
    loop_timer_stop(&q->timeout);
    loop_timer_stop(&q->patience);
    set_state(q, RESOLVE_ANSWERED);
    defer_post(loop_defer(q->r->loop), &q->deliver);
}

/* --- answers --- */

static void add_address(struct resolve *q, const struct addr *a) {
    struct addr with_port = *a;
    if (addr_is_unspecified(a) || q->n == RESOLVE_MAX) return;
    addr_set_port(&with_port, q->port);
    for (size_t i = 0; i < q->n; i++)
        if (addr_equal(&q->addrs[i], &with_port)) return;
    q->addrs[q->n++] = with_port;
}

static void settle_failed(struct resolve *q, int status) {
    if (q->n) { /* but one family was found */
        settle(q, 0, "");
        return;
    }
    char why[sizeof q->why];
    const char *code = NULL;
    int err = ERR_UPSTREAM_DNS;
    switch (status) {
    case ARES_ENOTFOUND: code = "NXDOMAIN"; break;
    case ARES_ESERVFAIL: code = "SERVFAIL"; break;
    case ARES_EREFUSED: code = "REFUSED"; break;
    case ARES_EFORMERR: code = "FORMERR"; break;
    case ARES_ENOTIMP: code = "NOTIMP"; break;
    /* The library's words for servers that failed or refused, as well as for those that are not there. */
    case ARES_ECONNREFUSED: code = "no server answered"; break;
    case ARES_ETIMEOUT: err = ERR_UPSTREAM_TIMEOUT; break;
    case ARES_ENOMEM: err = ERR_NO_MEMORY; break;
    default: break;
    }
    snprintf(why, sizeof why, "%s%s%s", code ? code : "", code ? ": " : "", ares_strerror(status));
    settle(q, err, why);
}

static void add_found(struct resolve *q, const struct ares_addrinfo *ai) {
    for (const struct ares_addrinfo_node *n = ai ? ai->nodes : NULL; n && q->n < RESOLVE_MAX; n = n->ai_next) {
        struct addr a;
        if (addr_from_sockaddr(&a, n->ai_addr, (socklen_t)n->ai_addrlen)) add_address(q, &a);
    }
}

/* The answer for both families is the end of asking. */
static void take_answer(struct resolve *q, int status, const struct ares_addrinfo *ai) {
    if (status != ARES_SUCCESS) {
        settle_failed(q, status);
        return;
    }
    q->n = 0;
    add_found(q, ai);
    settle(q, q->n ? 0 : ERR_UPSTREAM_DNS, q->n ? "" : "no usable address in the answer");
}

/* The answer for one family; a failure is left to the question for both. */
static void take_single(struct resolve *q, int status, const struct ares_addrinfo *ai) {
    if (status == ARES_SUCCESS) add_found(q, ai);
    if (!q->n) return;
    if (!q->single)
        settle(q, 0, "");
    else
        loop_timer_set(&q->patience, loop_now(q->r->loop) + LAST_MOMENT_MS * LOOP_MS);
}

/* What the library calls. No owner's callback is made in here, so nobody calls the library from inside itself. */
static void on_any_answer(struct resolve *q, int status, struct ares_addrinfo *ai, bool single) {
    q->asked--;
    if (single) q->single--;
    if (q->state == RESOLVE_ASKING && !q->r->dropping) {
        if (single)
            take_single(q, status, ai);
        else
            take_answer(q, status, ai);
    }
    if (ai) ares_freeaddrinfo(ai);
    if (q->state == RESOLVE_LEFT && !q->asked) destroy(q);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *ai) {
    (void)timeouts;
    on_any_answer(arg, status, ai, false);
}

static void on_single(void *arg, int status, int timeouts, struct ares_addrinfo *ai) {
    (void)timeouts;
    on_any_answer(arg, status, ai, true);
}

/* --- the library's sockets and clock --- */

static void set_timer(struct resolver *r) {
    struct timeval tv;
    if (!r->channel || !ares_timeout(r->channel, NULL, &tv)) {
        loop_timer_stop(&r->timer);
        return;
    }
    /* A moment more, so that the library finds the time has come. */
    uint64_t after = (uint64_t)tv.tv_sec * LOOP_S + (uint64_t)tv.tv_usec * 1000 + LOOP_MS;
    loop_timer_set(&r->timer, loop_now(r->loop) + after);
}

static void on_timer(void *arg) {
    struct resolver *r = arg;
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(r);
}

static void on_socket(unsigned events, void *arg) {
    struct socket_watch *s = arg;
    struct resolver *r = s->r;
    int fd = s->fd;
    ares_process_fd(r->channel, events & LOOP_READ ? fd : ARES_SOCKET_BAD,
                    events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
    set_timer(r);
}

/* The library says what it waits for; nothing: it is about to close the socket. */
static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable) {
    struct resolver *r = arg;
    struct socket_watch *s = NULL;
    for (int i = 0; i < SOCKETS_MAX && (!s || s->fd != fd); i++)
        if (r->sockets[i].fd == fd || (!s && r->sockets[i].fd < 0)) s = &r->sockets[i];
    unsigned events = (readable ? LOOP_READ : 0u) | (writable ? LOOP_WRITE : 0u);
    if (!s) {
        log_debug("resolve", "too many sockets: one is not watched");
        return;
    }
    if (s->fd != fd && !events) return;
    s->fd = fd;
    loop_io_set(&s->io, fd, events);
    if (!events) s->fd = -1;
}

/* --- the channel --- */

static bool mark_equal(const struct file_mark *a, const struct file_mark *b) {
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
           a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static struct file_mark mark_of(const char *path) {
    struct stat st;
    if (stat(path, &st) < 0) return (struct file_mark){0};
    return (struct file_mark){.dev = st.st_dev, .ino = st.st_ino, .size = st.st_size, .mtime = st.st_mtim};
}

static const char *conf_path(const struct resolver *r) { return r->conf ? r->conf : SYSTEM_CONF; }

/* Requests keep waiting; those that nobody waits for are gone after it. */
static void close_channel(struct resolver *r) {
    if (!r->channel) return;
    r->dropping = true;
    ares_destroy(r->channel);
    r->dropping = false;
    r->channel = NULL;
    set_timer(r);
}

/* An ares status. */
static int open_channel(struct resolver *r) {
    char lookups[] = "fb"; /* the hosts file first */
    struct ares_options o = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = TRY_MS,
        .tries = TRIES,
        .lookups = lookups,
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = r,
        .udp_port = r->port,
        .tcp_port = r->port,
        .resolvconf_path = r->conf,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB |
               ARES_OPT_DOMAINS;
    if (r->port) mask |= ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT;
    if (r->conf) mask |= ARES_OPT_RESOLVCONF;
    r->mark = mark_of(conf_path(r));
    int status = ares_init_options(&r->channel, &o, mask);
    if (status != ARES_SUCCESS) {
        r->channel = NULL;
        return status;
    }
    if (!r->servers) return ARES_SUCCESS;
    status = ares_set_servers_ports_csv(r->channel, r->servers);
    if (status != ARES_SUCCESS) close_channel(r);
    return status;
}

static void ask_for(struct resolve *q, int family, ares_addrinfo_callback cb) {
    struct ares_addrinfo_hints hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    q->asked++;
    ares_getaddrinfo(q->r->channel, q->host, NULL, &hints, cb, q);
    set_timer(q->r);
}

static void ask(struct resolve *q) {
    q->n = 0;
    loop_timer_set(&q->patience, loop_now(q->r->loop) + q->patience_ms * LOOP_MS);
    ask_for(q, AF_UNSPEC, on_answer);
}

static void on_patience_over(void *arg) {
    struct resolve *q = arg;
    if (q->n) {
        settle(q, 0, "");
        return;
    }
    /* Counted together before either is asked: an answer may come at once. */
    q->single += 2;
    ask_for(q, AF_INET6, on_single);
    ask_for(q, AF_INET, on_single);
}

/* Opens a channel, and asks it whatever is waiting. */
static int reopen(struct resolver *r) {
    close_channel(r);
    int status = open_channel(r);
    struct resolve *next;
    for (struct resolve *q = r->head; q; q = next) {
        next = q->next;
        if (q->state != RESOLVE_ASKING) continue;
        if (status == ARES_SUCCESS)
            ask(q);
        else
            settle_failed(q, status);
    }
    return status;
}

/* A channel that knows the system's present configuration; an ares status. */
static int need_channel(struct resolver *r) {
    if (r->channel) {
        struct file_mark now = mark_of(conf_path(r));
        if (r->servers || mark_equal(&now, &r->mark)) return ARES_SUCCESS;
        log_info("resolve", "the resolver configuration changed");
    }
    return reopen(r);
}

/* --- the interface --- */

struct resolver *resolver_new(struct loop *l) {
    struct resolver *r = calloc(1, sizeof *r);
    if (!r || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
        free(r);
        return NULL;
    }
    r->loop = l;
    loop_timer_init(&r->timer, l, on_timer, r);
    for (int i = 0; i < SOCKETS_MAX; i++) {
        struct socket_watch *s = &r->sockets[i];
        loop_io_init(&s->io, l, on_socket, s);
        s->r = r;
        s->fd = -1;
    }
    return r;
}

void resolver_free(struct resolver *r) {
    if (!r) return;
    close_channel(r);
    while (r->head) destroy(r->head);
    free(r->servers);
    free(r->conf);
    free(r);
    ares_library_cleanup();
}

/* A copy of a text that may be NULL. */
static int replace(char **slot, const char *text) {
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy) return ERR_NO_MEMORY;
    free(*slot);
    *slot = copy;
    return 0;
}

int resolver_set_servers(struct resolver *r, const char *servers) {
    if (servers) {
        ares_channel probe;
        struct ares_options o = {0};
        int status = ares_init_options(&probe, &o, 0);
        if (status != ARES_SUCCESS) return ERR_NO_MEMORY;
        status = *servers ? ares_set_servers_ports_csv(probe, servers) : ARES_EBADSTR;
        ares_destroy(probe);
        if (status != ARES_SUCCESS) return status == ARES_ENOMEM ? ERR_NO_MEMORY : ERR_CONFIG;
    }
    int err = replace(&r->servers, servers);
    if (!err && r->channel) reopen(r);
    return err;
}

int resolver_set_conf(struct resolver *r, const char *path, uint16_t port) {
    int err = replace(&r->conf, path);
    if (err) return err;
    r->port = port;
    if (r->channel) reopen(r);
    return 0;
}

/* "localhost" and names below it (RFC 6761 section 6.3), with or without a dot at the end. */
static bool is_localhost(const char *host) {
    static const char word[] = "localhost";
    size_t n = strlen(host), m = sizeof word - 1;
    if (n && host[n - 1] == '.') n--;
    if (n < m || strncasecmp(host + n - m, word, m) != 0) return false;
    return n == m || host[n - m - 1] == '.';
}

static void on_timeout(void *arg) {
    struct resolve *q = arg;
    settle(q, q->n ? 0 : ERR_UPSTREAM_TIMEOUT, q->n ? "" : "no answer in time");
}

static void begin(struct resolve *q, uint32_t timeout) {
    struct addr a;
    if (addr_parse_ip(&a, q->host, q->port) == 0) {
        add_address(q, &a);
        settle(q, q->n ? 0 : ERR_UPSTREAM_DNS, q->n ? "" : "the address is unspecified");
        return;
    }
    if (is_localhost(q->host)) {
        static const char *const both[] = {"127.0.0.1", "::1"};
        for (int i = 0; i < 2; i++)
            if (addr_parse_ip(&a, both[i], q->port) == 0) add_address(q, &a);
        settle(q, 0, "");
        return;
    }
    if (!*q->host || strlen(q->host) > NAME_MAX_LEN) {
        settle(q, ERR_UPSTREAM_DNS, *q->host ? "the name is too long" : "the name is empty");
        return;
    }
    int status = need_channel(q->r);
    if (status != ARES_SUCCESS) {
        settle_failed(q, status);
        return;
    }
    set_state(q, RESOLVE_ASKING);
    q->patience_ms = timeout / 2 < PATIENCE_MS ? timeout / 2 : PATIENCE_MS;
    loop_timer_set(&q->timeout, loop_now(q->r->loop) + timeout * LOOP_MS);
    ask(q);
}

struct resolve *resolve_start(struct resolver *r, const char *host, uint16_t port, uint32_t timeout,
                              resolve_cb *cb, void *arg) {
    if (r->count >= RESOLVE_REQUESTS) return NULL;
    struct resolve *q = calloc(1, sizeof *q);
    if (!q || !(q->host = strdup(host))) {
        free(q);
        return NULL;
    }
    q->r = r;
    q->port = port;
    q->cb = cb;
    q->arg = arg;
    loop_timer_init(&q->timeout, r->loop, on_timeout, q);
    loop_timer_init(&q->patience, r->loop, on_patience_over, q);
    defer_init(&q->deliver, deliver, q);
    q->next = r->head;
    if (r->head) r->head->prev = q;
    r->head = q;
    r->count++;
    begin(q, timeout);
    return q;
}

void resolve_cancel(struct resolve *q) {
    if (q) leave(q);
}

const char *resolve_library_version(void) { return ares_version(NULL); }
