#include "net/sock_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/death.h"

/* Seconds of silence before the kernel asks whether the far end of a remote connection still lives. */
#define KEEPALIVE_IDLE 60
#define KEEPALIVE_INTERVAL 15
#define KEEPALIVE_PROBES 4
/* How long bytes to an upstream may stay unacknowledged, ms. */
#define UPSTREAM_USER_TIMEOUT 30000
/* Bytes to an upstream that may wait unsent in the kernel: what is queued there can no longer be scheduled. */
#define UPSTREAM_UNSENT 131072

enum tcp_state { TCP_CONNECTING, TCP_UP, TCP_DEAD };

/* What is known about the kernel's receive queue. */
enum tcp_in {
    IN_TRY,   /* nothing: a recv may or may not bring bytes */
    IN_WAIT,  /* it was emptied: readiness will tell */
    IN_READY, /* readiness was told to the owner, who has not peeked since */
    IN_EOF,
};

enum tcp_out {
    OUT_ROOM,
    OUT_FULL, /* a write was short: readiness will tell */
    OUT_FINISHED,
};

struct tcp {
    struct stream stream; /* first */
    struct loop_io io;
    struct death death; /* watches once reading paused */
    int fd;             /* -1 after a reset */
    enum sock_side side;
    enum tcp_state state;
    enum tcp_in in;
    enum tcp_out out;
    uint8_t *buf; /* SOCK_READ_MAX bytes while something is unread, else NULL */
    size_t at, end;
};

static const struct stream_ops tcp_ops;

static struct tcp *tcp_of(struct stream *s) { return (struct tcp *)s; }

static void set_state(struct tcp *t, enum tcp_state state) {
    static const char *const names[] = {"connecting", "up", "dead"};
    log_trace("sock", "tcp fd=%d %s -> %s", t->fd, names[t->state], names[state]);
    t->state = state;
}

/* What a failed call on a socket of this side means. */
static enum err side_err(enum sock_side side, int errnum) {
    if (errnum == ENOMEM || errnum == ENOBUFS) return ERR_NO_MEMORY;
    if (side == SOCK_CLIENT) return errnum == ECONNRESET ? ERR_CLIENT_RESET : ERR_CLIENT_GONE;
    if (side == SOCK_UPSTREAM && (errnum == ECONNRESET || errnum == EPIPE)) return ERR_UPSTREAM_CLOSED;
    return err_from_errno(errnum, side == SOCK_TARGET);
}

/* --- what is watched --- */

static unsigned wanted(const struct tcp *t) {
    switch (t->state) {
    case TCP_CONNECTING: return LOOP_WRITE;
    case TCP_UP: {
        bool reads = !t->buf && (t->in == IN_TRY || t->in == IN_WAIT);
        return (reads ? LOOP_READ : 0u) | (t->out == OUT_FULL ? LOOP_WRITE : 0u);
    }
    case TCP_DEAD: break;
    }
    return 0;
}

/* Adds what is wanted now. What no longer is stays watched until it fires once in vain: an owner that reads and
 * writes steadily then costs no call to the kernel but its recv and send. */
static void watch(struct tcp *t) {
    unsigned events = wanted(t);
    if (t->state == TCP_UP) events |= t->io.events;
    loop_io_set(&t->io, t->fd, events);
}

static void die(struct tcp *t, enum err why) {
    if (t->state == TCP_DEAD || (t->in == IN_EOF && t->out == OUT_FINISHED)) return;
    set_state(t, TCP_DEAD);
    watch(t);
    t->stream.err = why;
    stream_notify(&t->stream, STREAM_DEAD);
}

static void connected(struct tcp *t) {
    int errnum = 0;
    socklen_t len = sizeof errnum;
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0) errnum = errno;
    if (errnum) {
        die(t, side_err(t->side, errnum));
        return;
    }
    set_state(t, TCP_UP);
    stream_notify(&t->stream, STREAM_OPEN | (t->out == OUT_FULL ? STREAM_OUT : 0u));
    if (t->out == OUT_FULL) t->out = OUT_ROOM;
    if (t->out == OUT_FINISHED) shutdown(t->fd, SHUT_WR);
    loop_io_set(&t->io, t->fd, wanted(t));
}

/* The kernel has an error for a stream that is not read now. */
static void on_death(void *arg) {
    struct tcp *t = arg;
    int errnum = 0;
    socklen_t len = sizeof errnum;
    if (t->state != TCP_UP) return;
    if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0) errnum = errno;
    if (errnum) die(t, side_err(t->side, errnum));
}

static void on_io(unsigned events, void *arg) {
    struct tcp *t = arg;
    if (t->state == TCP_CONNECTING) {
        connected(t);
        return;
    }
    unsigned want = wanted(t), told = 0;
    if (events & want & LOOP_READ) {
        t->in = IN_READY;
        told |= STREAM_IN;
    }
    if (events & want & LOOP_WRITE) {
        t->out = OUT_ROOM;
        told |= STREAM_OUT;
    }
    if (told) stream_notify(&t->stream, told);
    if (events & ~want) loop_io_set(&t->io, t->fd, t->io.events & ~(events & ~want));
    if (!(t->io.events & LOOP_READ)) death_start(&t->death, t->io.loop, t->fd);
}

/* --- stream operations --- */

static void drop_unread(struct tcp *t) {
    sock_buffer_put(t->buf);
    t->buf = NULL;
    t->at = t->end = 0;
}

/* Asks the kernel for bytes; as stream_peek, but for *p and *n. */
static int fill(struct tcp *t) {
    t->buf = sock_buffer_get();
    if (!t->buf) {
        die(t, ERR_NO_MEMORY);
        return ERR_NO_MEMORY;
    }
    ssize_t r;
    do r = recv(t->fd, t->buf, SOCK_READ_MAX, 0);
    while (r < 0 && errno == EINTR);
    int errnum = errno;
    if (r > 0) {
        t->at = 0;
        t->end = (size_t)r;
        t->in = r < SOCK_READ_MAX ? IN_WAIT : IN_TRY;
        return STREAM_BYTES;
    }
    drop_unread(t);
    if (t->state == TCP_DEAD) return t->stream.err;
    if (r == 0) {
        t->in = IN_EOF;
        return STREAM_EOF;
    }
    if (errnum == EAGAIN || errnum == EWOULDBLOCK) {
        t->in = IN_WAIT;
        watch(t);
        return STREAM_NONE;
    }
    die(t, side_err(t->side, errnum));
    return t->stream.err;
}

static int tcp_peek(struct stream *s, const uint8_t **p, size_t *n) {
    struct tcp *t = tcp_of(s);
    if (!t->buf) {
        int r;
        if (t->state == TCP_CONNECTING)
            r = STREAM_NONE;
        else if (t->state == TCP_DEAD && (t->fd < 0 || t->in == IN_EOF))
            r = s->err;
        else if (t->in == IN_EOF)
            r = STREAM_EOF;
        else if (t->state == TCP_UP && t->in == IN_WAIT)
            r = STREAM_NONE;
        else
            r = fill(t);
        if (r != STREAM_BYTES) return r;
    }
    *p = t->buf + t->at;
    *n = t->end - t->at;
    return STREAM_BYTES;
}

static void tcp_consume(struct stream *s, size_t n) {
    struct tcp *t = tcp_of(s);
    t->at += n;
    if (t->at < t->end) return;
    drop_unread(t);
    watch(t);
}

static long tcp_write(struct stream *s, const uint8_t *p, size_t n) {
    struct tcp *t = tcp_of(s);
    if (t->state == TCP_DEAD) return s->err;
    if (t->out == OUT_FINISHED) return ERR_INTERNAL;
    if (n == 0 || t->out == OUT_FULL) return 0;
    ssize_t r = -1;
    if (t->state == TCP_UP) {
        do r = send(t->fd, p, n, MSG_NOSIGNAL);
        while (r < 0 && errno == EINTR);
        if (r < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            enum err why = side_err(t->side, errno);
            die(t, why);
            return why;
        }
    }
    if (r < 0) r = 0;
    if ((size_t)r < n) {
        t->out = OUT_FULL;
        watch(t);
    }
    return r;
}

static void tcp_finish(struct stream *s) {
    struct tcp *t = tcp_of(s);
    if (t->state == TCP_DEAD || t->out == OUT_FINISHED) return;
    t->out = OUT_FINISHED;
    /* It fails only when the connection is gone, which the next read tells. */
    if (t->state == TCP_UP) shutdown(t->fd, SHUT_WR);
}

/* Closes at once, and tells the peer with an RST whatever was queued. */
static void abort_fd(struct tcp *t) {
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    loop_io_set(&t->io, t->fd, 0);
    death_stop(&t->death);
    setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(t->fd);
    t->fd = -1;
}

static void tcp_reset(struct stream *s, enum err why) {
    struct tcp *t = tcp_of(s);
    if (t->fd < 0) return;
    drop_unread(t);
    if (t->state != TCP_DEAD) {
        set_state(t, TCP_DEAD);
        s->err = why;
    }
    abort_fd(t);
}

static void tcp_free(struct stream *s) {
    struct tcp *t = tcp_of(s);
    if (t->fd >= 0) {
        bool orderly = t->state == TCP_UP && t->out == OUT_FINISHED && !t->buf;
        if (!orderly) abort_fd(t);
    }
    if (t->fd >= 0) {
        loop_io_set(&t->io, t->fd, 0);
        death_stop(&t->death);
        close(t->fd);
    }
    drop_unread(t);
    free(t);
}

static const struct stream_ops tcp_ops = {
    .name = "tcp",
    .peek = tcp_peek,
    .consume = tcp_consume,
    .write = tcp_write,
    .finish = tcp_finish,
    .reset = tcp_reset,
    .free = tcp_free,
};

/* --- making one --- */

static void set_options(int fd, enum sock_side side) {
    sock_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    sock_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (side == SOCK_CLIENT) return;
    sock_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
    sock_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL);
    sock_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    if (side != SOCK_UPSTREAM) return;
    sock_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UPSTREAM_USER_TIMEOUT);
    sock_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UPSTREAM_UNSENT);
}

static struct stream *make(struct loop *l, int fd, enum sock_side side, enum tcp_state state) {
    struct tcp *t = calloc(1, sizeof *t);
    if (!t) {
        close(fd);
        return NULL;
    }
    stream_init(&t->stream, &tcp_ops, loop_defer(l));
    loop_io_init(&t->io, l, on_io, t);
    death_init(&t->death, on_death, t);
    t->fd = fd;
    t->side = side;
    t->state = state;
    watch(t);
    return &t->stream;
}

struct stream *sock_stream_adopt(struct loop *l, int fd, int family, enum sock_side side) {
    if (family != AF_UNIX) set_options(fd, side);
    return make(l, fd, side, TCP_UP);
}

struct stream *sock_stream(struct loop *l, int fd, enum sock_side side) {
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    struct addr local;
    sock_name(fd, false, &local);
    return sock_stream_adopt(l, fd, local.len ? local.u.sa.sa_family : AF_UNIX, side);
}

/* 0 or an errno. */
static int start_connect(int fd, const struct addr *to, const struct addr *source) {
    if (source && source->len) {
        /* With port 0 the port is chosen by connect, which can share it among destinations. */
        if (!addr_port(source)) sock_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (bind(fd, &source->u.sa, source->len) < 0) return errno;
    }
    if (connect(fd, &to->u.sa, to->len) == 0 || errno == EINPROGRESS || errno == EINTR) return 0;
    return errno;
}

struct stream *sock_connect(struct loop *l, const struct addr *to, const struct addr *source,
                            enum sock_side side, int *err) {
    int fd = sock_new(to->len ? to->u.sa.sa_family : AF_UNSPEC, SOCK_STREAM);
    if (fd < 0) {
        *err = side_err(side, errno);
        return NULL;
    }
    if (to->u.sa.sa_family != AF_UNIX) set_options(fd, side);
    int errnum = start_connect(fd, to, source);
    if (errnum) {
        close(fd);
        *err = side_err(side, errnum);
        return NULL;
    }
    /* A connection that is up already is writable at once: OPEN comes the same way. */
    struct stream *s = make(l, fd, side, TCP_CONNECTING);
    *err = s ? 0 : ERR_NO_MEMORY;
    return s;
}

int sock_stream_fd(const struct stream *s) { return s->ops == &tcp_ops ? ((const struct tcp *)s)->fd : -1; }

static bool name_of(const struct stream *s, bool peer, struct addr *a) {
    if (s->ops != &tcp_ops) return false;
    const struct tcp *t = (const struct tcp *)s;
    if (t->fd < 0) return false;
    sock_name(t->fd, peer, a);
    return a->len != 0;
}

bool sock_stream_local(const struct stream *s, struct addr *a) { return name_of(s, false, a); }

bool sock_stream_remote(const struct stream *s, struct addr *a) { return name_of(s, true, a); }
