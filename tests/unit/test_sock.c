#include "net/sock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "lib/stream_suite.h"
#include "net/sock_impl.h"

/* --- machinery --- */

static int open_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

struct world {
    struct loop *l;
    struct loop_timer stop;
    int fds;
    int pair[4]; /* descriptors of the suite's streams, 0: none; may be closed */
};

static void on_stop(void *arg) { loop_stop(arg); }

static void *world_new(void) {
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->fds = open_fds();
    w->l = loop_new();
    assert_non_null(w->l);
    loop_timer_init(&w->stop, w->l, on_stop, w->l);
    return w;
}

static void run_ms(struct world *w, unsigned ms) {
    loop_timer_set(&w->stop, loop_now(w->l) + ms * LOOP_MS);
    loop_run(w->l);
    loop_timer_stop(&w->stop);
}

static void world_free(void *env) {
    struct world *w = env;
    loop_free(w->l);
    assert_int_equal(open_fds(), w->fds);
    free(w);
    sock_trim();
}

/* Turns until *flag, 2 s at the most. */
#define RUN_UNTIL(w, flag)                                                    \
    do {                                                                      \
        for (int turns_ = 0; turns_ < 400 && !(flag); turns_++) run_ms(w, 5); \
        assert_true(flag);                                                    \
    } while (0)

static struct addr loopback(uint16_t port) {
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, "127.0.0.1", port), 0);
    return a;
}

/* Two ends of a connection over loopback with kernel buffers of about `room` bytes (0: as they come). */
static void connected_fds(int room, int *a, int *b) {
    struct addr at = loopback(0);
    socklen_t len = sizeof at.u;
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(ls >= 0);
    *a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(*a >= 0);
    if (room) {
        int mss = 1400;
        int fds[2] = {ls, *a};
        for (int i = 0; i < 2; i++) {
            setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
            setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
            setsockopt(fds[i], IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss);
        }
    }
    assert_int_equal(bind(ls, &at.u.sa, at.len), 0);
    assert_int_equal(listen(ls, 4), 0);
    assert_int_equal(getsockname(ls, &at.u.sa, &len), 0);
    assert_int_equal(connect(*a, &at.u.sa, at.len), 0);
    *b = accept4(ls, NULL, NULL, SOCK_CLOEXEC);
    assert_true(*b >= 0);
    close(ls);
}

/* --- the stream suite --- */

static int suite_pair(void *env, struct stream **a, struct stream **b) {
    struct world *w = env;
    int x, y;
    connected_fds(32768, &x, &y);
    int at = w->pair[0] ? 2 : 0;
    w->pair[at] = x;
    w->pair[at + 1] = y;
    *a = sock_stream(w->l, x, SOCK_TARGET);
    *b = sock_stream(w->l, y, SOCK_TARGET);
    return *a && *b ? 0 : ERR_NO_MEMORY;
}

/* Whether the kernel still has something to do by itself: an answer to wait for, or a segment that it holds back
 * until its timer says that the small window left must do. */
static bool under_way(int fd) {
    struct tcp_info i = {0};
    socklen_t len = sizeof i;
    if (!fd || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0) return false;
    return i.tcpi_unacked || (i.tcpi_notsent_bytes && i.tcpi_snd_wnd);
}

static void suite_pump(void *env) {
    struct world *w = env;
    bool busy = true;
    for (int i = 0; i < 250 && busy; i++) {
        run_ms(w, 4);
        busy = false;
        for (int k = 0; k < 4; k++) busy |= under_way(w->pair[k]);
    }
}

static const struct stream_factory factory = {
    .name = "tcp",
    .setup = world_new,
    .pair = suite_pair,
    .pump = suite_pump,
    .teardown = world_free,
    .bound = 4 << 20,
    .reset_err = ERR_TARGET_RESET,
};

/* --- one owner that records --- */

struct owner {
    struct stream *s;
    unsigned seen; /* all events */
    unsigned calls;
};

static void on_event(struct stream *s, unsigned events, void *arg) {
    struct owner *o = arg;
    assert_ptr_equal(s, o->s);
    o->seen |= events;
    o->calls++;
}

static void own(struct owner *o, struct stream *s) {
    assert_non_null(s);
    *o = (struct owner){.s = s};
    stream_own(s, on_event, o);
}

/* --- connecting --- */

struct server {
    struct listener_sock *ls;
    struct addr at, remote;
    struct stream *s[8];
    unsigned n;
    unsigned free_after; /* frees the listener inside this callback */
};

static void on_accept(struct stream *s, const struct addr *remote, void *arg) {
    struct server *v = arg;
    assert_true(v->n < 8);
    v->s[v->n++] = s;
    v->remote = *remote;
    if (v->n == v->free_after) {
        sock_listen_free(v->ls);
        v->ls = NULL;
    }
}

static void serve(struct world *w, struct server *v, const char *ip, int backlog) {
    int errnum;
    struct addr at;
    *v = (struct server){0};
    assert_int_equal(addr_parse_ip(&at, ip, 0), 0);
    v->ls = sock_listen(w->l, &at, backlog, on_accept, v, &errnum);
    assert_non_null(v->ls);
    sock_listen_addr(v->ls, &v->at);
    assert_true(addr_same_ip(&v->at, &at));
    assert_int_not_equal(addr_port(&v->at), 0);
}

static void unserve(struct server *v) {
    for (unsigned i = 0; i < v->n; i++) stream_free(v->s[i]);
    sock_listen_free(v->ls);
}

static void check_connect(const char *ip) {
    struct world *w = world_new();
    struct server v;
    struct owner o;
    struct addr a, b;
    const uint8_t *p;
    size_t n;
    int err;
    serve(w, &v, ip, 16);
    own(&o, sock_connect(w->l, &v.at, NULL, SOCK_TARGET, &err));
    /* Nothing before OPEN. */
    assert_int_equal(o.calls, 0);
    assert_int_equal(stream_peek(o.s, &p, &n), STREAM_NONE);
    assert_int_equal(stream_write(o.s, "early", 5), 0);
    RUN_UNTIL(w, v.n == 1 && (o.seen & STREAM_OPEN));
    assert_int_equal(o.seen, STREAM_OPEN | STREAM_OUT);
    assert_int_equal(o.s->status, 0);
    assert_true(sock_stream_local(o.s, &a));
    assert_true(addr_equal(&a, &v.remote));
    assert_true(sock_stream_remote(v.s[0], &b));
    assert_true(addr_equal(&a, &b));
    assert_true(sock_stream_remote(o.s, &b));
    assert_true(addr_equal(&b, &v.at));
    assert_int_equal(stream_write(o.s, "early", 5), 5);
    stream_reset(o.s, ERR_CANCELLED);
    assert_false(sock_stream_local(o.s, &a));
    stream_free(o.s);
    unserve(&v);
    world_free(w);
}

static void test_connect(void **state) {
    (void)state;
    check_connect("127.0.0.1");
}

static void test_connect_ipv6(void **state) {
    (void)state;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct addr a;
    addr_parse_ip(&a, "::1", 0);
    bool has = fd >= 0 && bind(fd, &a.u.sa, a.len) == 0;
    if (fd >= 0) close(fd);
    if (!has) skip();
    check_connect("::1");
}

static void test_finish_before_open(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v;
    struct owner o, far;
    const uint8_t *p;
    size_t n;
    int err;
    serve(w, &v, "127.0.0.1", 16);
    own(&o, sock_connect(w->l, &v.at, NULL, SOCK_TARGET, &err));
    stream_finish(o.s);
    RUN_UNTIL(w, v.n == 1);
    own(&far, v.s[0]);
    RUN_UNTIL(w, far.seen & STREAM_IN);
    assert_int_equal(stream_peek(far.s, &p, &n), STREAM_EOF);
    assert_int_equal(stream_write(far.s, "still", 5), 5);
    RUN_UNTIL(w, o.seen & STREAM_IN);
    assert_int_equal(stream_peek(o.s, &p, &n), STREAM_BYTES);
    assert_int_equal(n, 5);
    stream_consume(o.s, n);
    stream_free(o.s);
    unserve(&v);
    world_free(w);
}

static uint16_t unused_port(void) {
    struct addr a = loopback(0);
    socklen_t len = sizeof a.u;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, &a.u.sa, a.len), 0);
    assert_int_equal(getsockname(fd, &a.u.sa, &len), 0);
    close(fd);
    return addr_port(&a);
}

static void check_refused(enum sock_side side, enum err expected) {
    struct world *w = world_new();
    struct addr to = loopback(unused_port());
    struct owner o;
    const uint8_t *p;
    size_t n;
    int err = 0;
    struct stream *s = sock_connect(w->l, &to, NULL, side, &err);
    if (s) {
        own(&o, s);
        RUN_UNTIL(w, o.seen & STREAM_DEAD);
        assert_int_equal(o.seen, STREAM_DEAD);
        err = s->err;
        assert_int_equal(stream_peek(s, &p, &n), expected);
        assert_int_equal(stream_write(s, "x", 1), expected);
        stream_free(s);
    }
    assert_int_equal(err, expected);
    world_free(w);
}

static void test_refused(void **state) {
    (void)state;
    check_refused(SOCK_TARGET, ERR_TARGET_REFUSED);
    check_refused(SOCK_UPSTREAM, ERR_UPSTREAM_REFUSED);
}

static void test_connect_fails_at_once(void **state) {
    (void)state;
    struct world *w = world_new();
    struct addr to = loopback(9), v6;
    int err = 0;
    to.u.in.sin_addr.s_addr = htonl(0xffffffff); /* broadcast */
    assert_null(sock_connect(w->l, &to, NULL, SOCK_TARGET, &err));
    assert_true(err < 0);
    err = 0;
    to = (struct addr){0};
    assert_null(sock_connect(w->l, &to, NULL, SOCK_TARGET, &err));
    assert_true(err < 0);
    /* A source of the other family. */
    err = 0;
    to = loopback(9);
    addr_parse_ip(&v6, "::1", 0);
    assert_null(sock_connect(w->l, &to, &v6, SOCK_TARGET, &err));
    assert_true(err < 0);
    world_free(w);
}

static void test_source_address(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v;
    struct addr source = loopback(0), a;
    int err;
    source.u.in.sin_addr.s_addr = htonl(0x7f000003);
    serve(w, &v, "127.0.0.1", 16);
    struct stream *s = sock_connect(w->l, &v.at, &source, SOCK_UPSTREAM, &err);
    assert_non_null(s);
    RUN_UNTIL(w, v.n == 1);
    assert_true(addr_same_ip(&v.remote, &source));
    assert_true(sock_stream_local(s, &a));
    assert_true(addr_same_ip(&a, &source));
    stream_free(s);
    unserve(&v);
    world_free(w);
}

static void test_free_while_connecting(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v;
    struct owner o;
    int err;
    serve(w, &v, "127.0.0.1", 16);
    own(&o, sock_connect(w->l, &v.at, NULL, SOCK_TARGET, &err));
    stream_free(o.s);
    run_ms(w, 20);
    assert_int_equal(o.calls, 0);
    unserve(&v);
    world_free(w);
}

static void test_options(void **state) {
    (void)state;
    struct world *w = world_new();
    int a, b, v = 0;
    socklen_t len = sizeof v;
    connected_fds(0, &a, &b);
    struct stream *s = sock_stream(w->l, a, SOCK_UPSTREAM), *t = sock_stream(w->l, b, SOCK_CLIENT);
    assert_int_equal(getsockopt(a, IPPROTO_TCP, TCP_NODELAY, &v, &len), 0);
    assert_int_not_equal(v, 0);
    assert_int_equal(getsockopt(a, SOL_SOCKET, SO_KEEPALIVE, &v, &len), 0);
    assert_int_not_equal(v, 0);
    assert_int_equal(getsockopt(a, IPPROTO_TCP, TCP_USER_TIMEOUT, &v, &len), 0);
    assert_int_equal(v, 30000);
    assert_int_equal(getsockopt(b, IPPROTO_TCP, TCP_USER_TIMEOUT, &v, &len), 0);
    assert_int_equal(v, 0);
    assert_true(fcntl(a, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
    stream_free(s);
    stream_free(t);
    world_free(w);
}

/* --- how streams end --- */

/* The kernel's own view of the other end of a stream: 0 for EOF, or the errno of a read. */
static int raw_end(struct world *w, int fd) {
    char c[4096];
    ssize_t r;
    do r = recv(fd, c, sizeof c, MSG_DONTWAIT);
    while (r > 0);
    if (r < 0 && errno == EAGAIN) {
        run_ms(w, 10);
        r = recv(fd, c, sizeof c, MSG_DONTWAIT);
    }
    return r < 0 ? errno : 0;
}

static struct stream *against_raw(struct world *w, enum sock_side side, int *raw) {
    int a;
    connected_fds(0, &a, raw);
    struct stream *s = sock_stream(w->l, a, side);
    assert_non_null(s);
    return s;
}

static void raw_reset(int fd) {
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

static void test_reset_reaches_peer_at_once(void **state) {
    (void)state;
    struct world *w = world_new();
    int raw;
    struct stream *s = against_raw(w, SOCK_TARGET, &raw);
    stream_reset(s, ERR_IDLE);
    assert_int_equal(raw_end(w, raw), ECONNRESET);
    assert_int_equal(s->err, ERR_IDLE);
    stream_free(s);
    close(raw);
    world_free(w);
}

static void test_free_tells_peer(void **state) {
    (void)state;
    struct world *w = world_new();
    int raw;
    const uint8_t *p;
    size_t n;
    /* without finish */
    stream_free(against_raw(w, SOCK_TARGET, &raw));
    assert_int_equal(raw_end(w, raw), ECONNRESET);
    close(raw);
    /* finished, all read */
    struct stream *s = against_raw(w, SOCK_TARGET, &raw);
    assert_int_equal(stream_write(s, "bye", 3), 3);
    stream_finish(s);
    stream_free(s);
    char got[8];
    assert_int_equal(recv(raw, got, sizeof got, 0), 3);
    assert_int_equal(raw_end(w, raw), 0);
    close(raw);
    /* finished, with shown bytes unread */
    s = against_raw(w, SOCK_TARGET, &raw);
    assert_int_equal(send(raw, "abc", 3, 0), 3);
    run_ms(w, 10);
    assert_int_equal(stream_peek(s, &p, &n), STREAM_BYTES);
    stream_consume(s, 1);
    stream_finish(s);
    stream_free(s);
    run_ms(w, 10);
    assert_int_equal(send(raw, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    close(raw);
    world_free(w);
}

static void check_reset_err(enum sock_side side, enum err on_read, enum err on_write) {
    struct world *w = world_new();
    struct owner o;
    const uint8_t *p;
    size_t n;
    int raw;
    own(&o, against_raw(w, side, &raw));
    raw_reset(raw);
    RUN_UNTIL(w, o.seen & STREAM_IN);
    assert_int_equal(stream_peek(o.s, &p, &n), on_read);
    RUN_UNTIL(w, o.seen & STREAM_DEAD);
    assert_int_equal(o.s->err, on_read);
    assert_int_equal(stream_write(o.s, "x", 1), on_read);
    stream_free(o.s);
    /* The end, then a reset in answer to what is written. */
    own(&o, against_raw(w, side, &raw));
    close(raw);
    RUN_UNTIL(w, o.seen & STREAM_IN);
    assert_int_equal(stream_peek(o.s, &p, &n), STREAM_EOF);
    assert_int_equal(stream_write(o.s, "x", 1), 1);
    run_ms(w, 10);
    assert_int_equal(stream_write(o.s, "x", 1), on_write);
    assert_int_equal(o.s->err, on_write);
    stream_free(o.s);
    world_free(w);
}

static void test_reset_by_side(void **state) {
    (void)state;
    check_reset_err(SOCK_CLIENT, ERR_CLIENT_RESET, ERR_CLIENT_GONE);
    check_reset_err(SOCK_TARGET, ERR_TARGET_RESET, ERR_TARGET_RESET);
    check_reset_err(SOCK_UPSTREAM, ERR_UPSTREAM_CLOSED, ERR_UPSTREAM_CLOSED);
}

/* An owner that does not read: no work for the loop, and a reset is told none the less. */
static void test_paused(void **state) {
    (void)state;
    struct world *w = world_new();
    struct owner o;
    struct timespec t0, t1;
    const uint8_t *p;
    size_t n;
    int raw;
    own(&o, against_raw(w, SOCK_CLIENT, &raw));
    assert_int_equal(send(raw, "waiting", 7, 0), 7);
    RUN_UNTIL(w, o.seen & STREAM_IN);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
    run_ms(w, 300);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
    assert_true((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 < 100);
    assert_int_equal(o.calls, 1);
    raw_reset(raw);
    RUN_UNTIL(w, o.seen & STREAM_DEAD);
    assert_int_equal(o.s->err, ERR_CLIENT_RESET);
    assert_int_equal(stream_peek(o.s, &p, &n), STREAM_BYTES);
    assert_memory_equal(p, "waiting", n);
    stream_consume(o.s, n);
    assert_int_equal(stream_peek(o.s, &p, &n), ERR_CLIENT_RESET);
    stream_free(o.s);
    world_free(w);
}

static void test_idle_holds_no_buffer(void **state) {
    (void)state;
    struct world *w = world_new();
    struct owner o;
    const uint8_t *p;
    size_t n;
    int raw;
    own(&o, against_raw(w, SOCK_CLIENT, &raw));
    sock_trim();
    assert_int_equal(send(raw, "abc", 3, 0), 3);
    RUN_UNTIL(w, o.seen & STREAM_IN);
    assert_int_equal(stream_peek(o.s, &p, &n), STREAM_BYTES);
    assert_int_equal(n, 3);
    stream_consume(o.s, n);
    /* What was shown a moment ago is the next buffer handed out. */
    uint8_t *b = sock_buffer_get();
    assert_ptr_equal(b, p);
    sock_buffer_put(b);
    assert_int_equal(stream_peek(o.s, &p, &n), STREAM_NONE);
    stream_finish(o.s);
    stream_free(o.s);
    close(raw);
    world_free(w);
}

static void test_spare_buffers_are_bounded(void **state) {
    (void)state;
    uint8_t *b[SOCK_SPARE_MAX + 4];
    for (unsigned i = 0; i < SOCK_SPARE_MAX + 4; i++) {
        b[i] = sock_buffer_get();
        assert_non_null(b[i]);
        memset(b[i], 0xa5, SOCK_READ_MAX);
    }
    for (unsigned i = 0; i < SOCK_SPARE_MAX + 4; i++) sock_buffer_put(b[i]);
    sock_buffer_put(NULL);
    /* The last ones that fitted come back first. */
    uint8_t *again = sock_buffer_get();
    assert_ptr_equal(again, b[SOCK_SPARE_MAX - 1]);
    sock_buffer_put(again);
    sock_trim();
}

static void test_other_streams_have_no_address(void **state) {
    (void)state;
    static const struct stream_ops none = {.name = "none"};
    struct defer_queue q;
    struct stream s;
    struct addr a;
    defer_queue_init(&q, NULL, NULL);
    stream_init(&s, &none, &q);
    assert_false(sock_stream_local(&s, &a));
    assert_false(sock_stream_remote(&s, &a));
}

/* --- listening --- */

static void test_listen_errors(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v, other;
    int errnum = 0;
    serve(w, &v, "127.0.0.1", 16);
    assert_null(sock_listen(w->l, &v.at, 16, on_accept, &other, &errnum));
    assert_int_equal(errnum, EADDRINUSE);
    struct addr a = loopback(0);
    a.u.in.sin_addr.s_addr = htonl(0xcb007101); /* 203.0.113.1: not ours */
    assert_null(sock_listen(w->l, &a, 16, on_accept, &other, &errnum));
    assert_int_equal(errnum, EADDRNOTAVAIL);
    a = (struct addr){0};
    assert_null(sock_listen(w->l, &a, 16, on_accept, &other, &errnum));
    assert_int_equal(errnum, EAFNOSUPPORT);
    unserve(&v);
    sock_listen_free(NULL);
    world_free(w);
}

static void test_listener_freed_in_callback(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v;
    struct stream *s[4];
    int err;
    serve(w, &v, "127.0.0.1", 16);
    v.free_after = 2;
    for (int i = 0; i < 4; i++) assert_non_null(s[i] = sock_connect(w->l, &v.at, NULL, SOCK_TARGET, &err));
    run_ms(w, 50);
    assert_int_equal(v.n, 2);
    assert_null(v.ls);
    /* The accepted ones live on. */
    assert_int_equal(stream_write(v.s[0], "x", 1), 1);
    for (int i = 0; i < 4; i++) stream_free(s[i]);
    unserve(&v);
    world_free(w);
}

static void test_port_is_free_again(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v;
    int err, errnum;
    serve(w, &v, "127.0.0.1", 16);
    struct stream *s = sock_connect(w->l, &v.at, NULL, SOCK_TARGET, &err);
    RUN_UNTIL(w, v.n == 1);
    /* The accepting side closes first: its connection stays in TIME_WAIT at the listener's port. */
    stream_finish(v.s[0]);
    run_ms(w, 10);
    stream_finish(s);
    run_ms(w, 10);
    stream_free(s);
    unserve(&v);
    struct addr at = v.at;
    v = (struct server){0};
    v.ls = sock_listen(w->l, &at, 16, on_accept, &v, &errnum);
    assert_non_null(v.ls);
    unserve(&v);
    world_free(w);
}

static void count_warning(enum log_level level, const char *line, void *arg) {
    unsigned *n = arg;
    if (level == LOG_WARN && strstr(line, "accepting pauses")) ++*n;
}

static void test_out_of_descriptors(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v;
    struct stream *s[3];
    struct rlimit was, low;
    struct timespec t0, t1;
    unsigned warnings = 0;
    int err;
    serve(w, &v, "127.0.0.1", 16);
    for (int i = 0; i < 3; i++) assert_non_null(s[i] = sock_connect(w->l, &v.at, NULL, SOCK_TARGET, &err));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    int next = dup(0);
    close(next);
    low = was;
    low.rlim_cur = (rlim_t)next + 1; /* room for one more */
    log_set_sink(count_warning, &warnings);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
    run_ms(w, 700);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(v.n, 1);
    assert_int_equal(warnings, 1);
    assert_true((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 < 200);
    /* The one that was accepted works meanwhile, and accepting goes on by itself. */
    assert_int_equal(stream_write(v.s[0], "x", 1), 1);
    RUN_UNTIL(w, v.n == 3);
    assert_int_equal(warnings, 1);
    log_set_sink(NULL, NULL);
    for (int i = 0; i < 3; i++) stream_free(s[i]);
    unserve(&v);
    world_free(w);
}

static void test_unix_listener(void **state) {
    (void)state;
    struct world *w = world_new();
    struct server v = {0};
    struct owner o, far;
    struct addr at = {0};
    int err, errnum;
    snprintf(at.u.un.sun_path, sizeof at.u.un.sun_path, "test_sock.%d", (int)getpid());
    at.u.un.sun_family = AF_UNIX;
    at.len = sizeof at.u.un;
    v.ls = sock_listen(w->l, &at, 16, on_accept, &v, &errnum);
    assert_non_null(v.ls);
    own(&o, sock_connect(w->l, &at, NULL, SOCK_TARGET, &err));
    RUN_UNTIL(w, v.n == 1 && (o.seen & STREAM_OPEN));
    own(&far, v.s[0]);
    assert_int_equal(stream_write(o.s, "hello", 5), 5);
    RUN_UNTIL(w, far.seen & STREAM_IN);
    unlink(at.u.un.sun_path);
    stream_free(o.s);
    unserve(&v);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest own_tests[] = {
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_connect_ipv6),
        cmocka_unit_test(test_finish_before_open),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_connect_fails_at_once),
        cmocka_unit_test(test_source_address),
        cmocka_unit_test(test_free_while_connecting),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_reset_reaches_peer_at_once),
        cmocka_unit_test(test_free_tells_peer),
        cmocka_unit_test(test_reset_by_side),
        cmocka_unit_test(test_paused),
        cmocka_unit_test(test_idle_holds_no_buffer),
        cmocka_unit_test(test_spare_buffers_are_bounded),
        cmocka_unit_test(test_other_streams_have_no_address),
        cmocka_unit_test(test_listen_errors),
        cmocka_unit_test(test_listener_freed_in_callback),
        cmocka_unit_test(test_port_is_free_again),
        cmocka_unit_test(test_out_of_descriptors),
        cmocka_unit_test(test_unix_listener),
    };
    return stream_suite_run(&factory, own_tests, sizeof own_tests / sizeof own_tests[0]);
}
