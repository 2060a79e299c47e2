#include "net/sock_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* Connections taken per readiness, so that a flood of them leaves the rest of the loop its turn. */
#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE LOOP_S

struct listener_sock {
    struct loop *loop;
    struct loop_io io;
    struct loop_timer pause; /* armed while descriptors or memory ran out; nothing is watched then */
    struct log_limit warned;
    void (*accepted)(struct stream *s, const struct addr *remote, void *arg);
    void *arg;
    bool inside, freed; /* while callbacks are made, sock_listen_free leaves the memory to on_readable */
    int fd;
};

static void on_pause_over(void *arg) {
    struct listener_sock *ls = arg;
    loop_io_set(&ls->io, ls->fd, LOOP_READ);
}

static void pause_accepting(struct listener_sock *ls, int errnum) {
    uint64_t now = loop_now(ls->loop);
    unsigned suppressed;
    loop_io_set(&ls->io, ls->fd, 0);
    loop_timer_set(&ls->pause, now + ACCEPT_PAUSE);
    if (!log_limit_pass(&ls->warned, now, &suppressed)) return;
    struct addr at;
    char text[ADDR_TEXT_MAX], quoted[ADDR_TEXT_MAX + 16];
    sock_listen_addr(ls, &at);
    log_quote_str(addr_format(&at, text, sizeof text), quoted, sizeof quoted);
    log_warn("listen", "accepting pauses for a second at=%s error=\"%s\" suppressed=%u", quoted, strerror(errnum),
             suppressed);
}

/* Errors that belong to one connection that is gone again, not to the listener (accept(2)). */
static bool is_connections_own(int errnum) {
    switch (errnum) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET: return true;
    default: return false;
    }
}

/* Takes one connection; false when there is none or accepting pauses. */
static bool accept_one(struct listener_sock *ls) {
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    int fd = accept4(ls->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (is_connections_own(errno)) return true;
        if (errno != EAGAIN && errno != EWOULDBLOCK) pause_accepting(ls, errno);
        return false;
    }
    struct addr remote;
    if (!addr_from_sockaddr(&remote, (struct sockaddr *)&ss, len)) remote = (struct addr){0};
    struct stream *s = sock_stream_adopt(ls->loop, fd, ss.ss_family, SOCK_CLIENT);
    if (!s) {
        pause_accepting(ls, ENOMEM);
        return false;
    }
    ls->accepted(s, &remote, ls->arg);
    return true;
}

static void on_readable(unsigned events, void *arg) {
    (void)events;
    struct listener_sock *ls = arg;
    ls->inside = true;
    for (int i = 0; i < ACCEPT_BATCH && !ls->freed && accept_one(ls); i++) continue;
    ls->inside = false;
    if (ls->freed) free(ls);
}

/* 0 or an errno. */
static int start_listening(int fd, const struct addr *at, int backlog) {
    if (at->u.sa.sa_family != AF_UNIX) sock_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (at->u.sa.sa_family == AF_INET6) sock_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind(fd, &at->u.sa, at->len) < 0 || listen(fd, backlog) < 0) return errno;
    return 0;
}

struct listener_sock *sock_listen_fd(struct loop *l, int fd,
                                     void (*accepted)(struct stream *s, const struct addr *remote, void *arg), void *arg,
                                     int *errnum) {
    struct listener_sock *ls = calloc(1, sizeof *ls);
    if (!ls) {
        *errnum = ENOMEM;
        close(fd);
        return NULL;
    }
    *ls = (struct listener_sock){.loop = l, .accepted = accepted, .arg = arg, .fd = fd};
    loop_io_init(&ls->io, l, on_readable, ls);
    loop_timer_init(&ls->pause, l, on_pause_over, ls);
    loop_io_set(&ls->io, ls->fd, LOOP_READ);
    return ls;
}

struct listener_sock *sock_listen(struct loop *l, const struct addr *at, int backlog,
                                  void (*accepted)(struct stream *s, const struct addr *remote, void *arg),
                                  void *arg, int *errnum) {
    int fd = sock_new(at->len ? at->u.sa.sa_family : AF_UNSPEC, SOCK_STREAM);
    *errnum = fd < 0 ? errno : start_listening(fd, at, backlog);
    if (!*errnum) return sock_listen_fd(l, fd, accepted, arg, errnum);
    if (fd >= 0) close(fd);
    return NULL;
}

void sock_listen_addr(const struct listener_sock *ls, struct addr *a) { sock_name(ls->fd, false, a); }

void sock_listen_free(struct listener_sock *ls) {
    if (!ls) return;
    loop_io_set(&ls->io, ls->fd, 0);
    loop_timer_stop(&ls->pause);
    close(ls->fd);
    ls->freed = true;
    if (!ls->inside) free(ls);
}
