#include "net/dial.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

/* --- machinery --- */

static int open_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static struct {
    struct loop *l;
    struct loop_timer stop;
    int fds;
} w;

static void on_stop(void *arg) { loop_stop(arg); }

static int setup(void **state) {
    (void)state;
    w.fds = open_fds();
    w.l = loop_new();
    assert_non_null(w.l);
    loop_timer_init(&w.stop, w.l, on_stop, w.l);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    loop_free(w.l);
    assert_int_equal(open_fds(), w.fds);
    sock_trim();
    return 0;
}

static void run_ms(unsigned ms) {
    loop_timer_set(&w.stop, loop_now(w.l) + ms * LOOP_MS);
    loop_run(w.l);
    loop_timer_stop(&w.stop);
}

#define RUN_UNTIL(flag)                                                    \
    do {                                                                   \
        for (int turns_ = 0; turns_ < 800 && !(flag); turns_++) run_ms(5); \
        assert_true(flag);                                                 \
    } while (0)

static struct addr ip(const char *text, uint16_t port) {
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text, port), 0);
    return a;
}

/* --- the far sides --- */

/* Accepts, and notes how its connections end. */
struct server {
    struct listener_sock *ls;
    struct addr at;
    struct stream *s[4];
    unsigned n, dead;
};

static void on_server_event(struct stream *s, unsigned events, void *arg) {
    struct server *v = arg;
    const uint8_t *p;
    size_t n;
    if (events & STREAM_DEAD) v->dead++;
    while (stream_peek(s, &p, &n) == STREAM_BYTES) stream_consume(s, n);
}

static void on_accept(struct stream *s, const struct addr *remote, void *arg) {
    struct server *v = arg;
    (void)remote;
    assert_true(v->n < 4);
    v->s[v->n++] = s;
    stream_own(s, on_server_event, v);
}

static void serve(struct server *v) {
    int errnum;
    struct addr at = ip("127.0.0.1", 0);
    *v = (struct server){0};
    v->ls = sock_listen(w.l, &at, 16, on_accept, v, &errnum);
    assert_non_null(v->ls);
    sock_listen_addr(v->ls, &v->at);
}

static void unserve(struct server *v) {
    for (unsigned i = 0; i < v->n; i++) stream_free(v->s[i]);
    sock_listen_free(v->ls);
}

/* Listens, and answers no more: its queue is full. */
struct hole {
    int listening, filler[2];
    struct addr at;
};

static void dig(struct hole *h) {
    h->at = ip("127.0.0.1", 0);
    socklen_t len = sizeof h->at.u;
    h->listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(h->listening, &h->at.u.sa, h->at.len), 0);
    assert_int_equal(listen(h->listening, 0), 0);
    assert_int_equal(getsockname(h->listening, &h->at.u.sa, &len), 0);
    for (int i = 0; i < 2; i++) {
        h->filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(h->filler[i], &h->at.u.sa, h->at.len);
    }
}

static void fill_up(struct hole *h) {
    for (int i = 0; i < 2; i++) close(h->filler[i]);
    close(h->listening);
}

static struct addr refusing(void) {
    struct hole h;
    dig(&h);
    fill_up(&h);
    return h.at;
}

/* --- the dialler --- */

struct got {
    unsigned calls;
    struct stream *s;
    struct addr to;
    int err;
    uint64_t began, took; /* ms */
    struct dial *cancel;  /* from inside the callback */
    bool free_stream;
    unsigned seen; /* events after the stream was handed over */
};

static void on_stream_event(struct stream *s, unsigned events, void *arg) {
    struct got *g = arg;
    assert_ptr_equal(s, g->s);
    g->seen |= events;
}

static void on_dialled(struct stream *s, const struct addr *to, int err, void *arg) {
    struct got *g = arg;
    g->calls++;
    g->s = s;
    g->to = *to;
    g->err = err;
    g->took = (loop_now(w.l) - g->began) / LOOP_MS;
    if (s) stream_own(s, on_stream_event, g);
    dial_cancel(g->cancel);
    if (g->free_stream) {
        stream_free(s);
        g->s = NULL;
    }
}

static struct dial *dial(struct got *g, const struct addr *addrs, size_t n, uint32_t stagger, uint32_t timeout) {
    *g = (struct got){.began = loop_now(w.l)};
    struct dial *d = dial_start(w.l, addrs, n, stagger, timeout, SOCK_UPSTREAM, on_dialled, g);
    assert_non_null(d);
    assert_int_equal(g->calls, 0); /* never from inside */
    return d;
}

/* --- cases --- */

static void test_one_address(void **state) {
    (void)state;
    struct server v;
    struct got g;
    serve(&v);
    dial(&g, &v.at, 1, 250, 5000);
    RUN_UNTIL(g.calls && v.n);
    assert_int_equal(g.err, 0);
    assert_true(addr_equal(&g.to, &v.at));
    /* The stream works both ways, and OPEN is not told again. */
    assert_int_equal(stream_write(g.s, "hello", 5), 5);
    assert_int_equal(stream_write(v.s[0], "hello", 5), 5);
    RUN_UNTIL(g.seen & STREAM_IN);
    assert_int_equal(g.seen, STREAM_IN);
    assert_int_equal(g.calls, 1);
    stream_free(g.s);
    unserve(&v);
}

static void test_refused_then_next_at_once(void **state) {
    (void)state;
    struct server v;
    struct got g;
    serve(&v);
    struct addr a[] = {refusing(), refusing(), v.at};
    dial(&g, a, 3, 3000, 5000);
    RUN_UNTIL(g.calls);
    assert_int_equal(g.err, 0);
    assert_true(addr_equal(&g.to, &v.at));
    assert_true(g.took < 1000);
    stream_free(g.s);
    unserve(&v);
}

static void test_impossible_then_next_at_once(void **state) {
    (void)state;
    struct server v;
    struct got g;
    serve(&v);
    /* TCP to a broadcast address fails inside connect. */
    struct addr a[] = {ip("255.255.255.255", 9), ip("255.255.255.255", 10), v.at};
    dial(&g, a, 3, 3000, 5000);
    RUN_UNTIL(g.calls);
    assert_true(addr_equal(&g.to, &v.at));
    assert_true(g.took < 1000);
    stream_free(g.s);
    unserve(&v);
}

static void test_black_hole_then_next_after_stagger(void **state) {
    (void)state;
    struct server v;
    struct hole h;
    struct got g;
    serve(&v);
    dig(&h);
    struct addr a[] = {h.at, v.at};
    dial(&g, a, 2, 200, 5000);
    RUN_UNTIL(g.calls);
    assert_true(addr_equal(&g.to, &v.at));
    assert_true(g.took >= 195 && g.took < 1000);
    stream_free(g.s);
    fill_up(&h);
    unserve(&v);
}

/* The first one that is started is not given up when its turn is over. */
static void test_slow_first_wins(void **state) {
    (void)state;
    struct hole slow, h;
    struct got g;
    dig(&slow);
    dig(&h);
    struct addr a[] = {slow.at, h.at};
    dial(&g, a, 2, 50, 5000);
    run_ms(200);
    assert_int_equal(g.calls, 0);
    /* There is room now: the kernel's next try, a second after the first one, is answered. */
    for (int i = 0; i < 2; i++) {
        int fd = accept4(slow.listening, NULL, NULL, SOCK_NONBLOCK);
        if (fd >= 0) close(fd);
        close(slow.filler[i]);
        slow.filler[i] = dup(slow.listening);
    }
    RUN_UNTIL(g.calls);
    assert_int_equal(g.err, 0);
    assert_true(addr_equal(&g.to, &slow.at));
    stream_free(g.s);
    fill_up(&slow);
    fill_up(&h);
}

static void test_all_fail(void **state) {
    (void)state;
    struct got g;
    struct addr a[] = {refusing(), ip("255.255.255.255", 9), refusing()};
    dial(&g, a, 3, 50, 5000);
    RUN_UNTIL(g.calls);
    assert_null(g.s);
    assert_int_equal(g.err, ERR_UPSTREAM_REFUSED);
    assert_true(g.took < 1000);
    dial(&g, a, 0, 50, 5000);
    RUN_UNTIL(g.calls);
    assert_null(g.s);
    assert_int_equal(g.err, ERR_UPSTREAM_UNREACHABLE);
}

/* One that hangs keeps the dial going when the others have failed. */
static void test_timeout(void **state) {
    (void)state;
    struct hole h;
    struct got g;
    dig(&h);
    struct addr a[] = {h.at, refusing()};
    dial(&g, a, 2, 20, 200);
    RUN_UNTIL(g.calls);
    assert_null(g.s);
    assert_int_equal(g.err, ERR_UPSTREAM_TIMEOUT);
    assert_true(g.took >= 195 && g.took < 1000);
    g = (struct got){.began = loop_now(w.l)};
    assert_non_null(dial_start(w.l, a, 1, 20, 50, SOCK_TARGET, on_dialled, &g));
    RUN_UNTIL(g.calls);
    assert_int_equal(g.err, ERR_TARGET_TIMEOUT);
    fill_up(&h);
}

/* Both answer: one is taken, the other one is told by a reset. */
static void test_losers_are_closed(void **state) {
    (void)state;
    struct server v[3];
    struct hole h;
    struct got g;
    struct addr a[4];
    dig(&h);
    a[0] = h.at;
    for (int i = 0; i < 3; i++) {
        serve(&v[i]);
        a[i + 1] = v[i].at;
    }
    dial(&g, a, 4, 0, 5000);
    RUN_UNTIL(g.calls);
    run_ms(50);
    assert_int_equal(g.calls, 1);
    unsigned accepted = v[0].n + v[1].n + v[2].n, dead = v[0].dead + v[1].dead + v[2].dead;
    assert_true(accepted >= 1);
    assert_int_equal(dead, accepted - 1);
    stream_free(g.s);
    fill_up(&h);
    for (int i = 0; i < 3; i++) unserve(&v[i]);
}

static void test_addresses_are_bounded(void **state) {
    (void)state;
    struct server v;
    struct got g;
    struct addr a[DIAL_MAX + 1];
    serve(&v);
    for (int i = 0; i < DIAL_MAX; i++) a[i] = refusing();
    a[DIAL_MAX] = v.at;
    dial(&g, a, DIAL_MAX + 1, 10, 5000);
    RUN_UNTIL(g.calls);
    assert_int_equal(g.err, ERR_UPSTREAM_REFUSED);
    assert_int_equal(v.n, 0);
    unserve(&v);
}

static void test_cancel(void **state) {
    (void)state;
    struct server v;
    struct hole h;
    struct got g;
    int fds;
    serve(&v);
    dig(&h);
    fds = open_fds();
    struct addr a[] = {h.at, h.at, v.at};
    /* Before the first attempt, and amid some. */
    dial_cancel(dial(&g, a, 3, 10, 5000));
    run_ms(50);
    assert_int_equal(g.calls, 0);
    struct dial *d = dial(&g, a, 2, 10, 5000);
    run_ms(50);
    assert_int_equal(open_fds(), fds + 2);
    dial_cancel(d);
    assert_int_equal(open_fds(), fds);
    run_ms(50);
    assert_int_equal(g.calls, 0);
    dial_cancel(NULL);
    fill_up(&h);
    unserve(&v);
}

static void test_callback_cancels_another(void **state) {
    (void)state;
    struct server v;
    struct got g, other;
    struct hole h;
    serve(&v);
    dig(&h);
    struct dial *d = dial(&other, &h.at, 1, 10, 5000);
    dial(&g, &v.at, 1, 10, 5000);
    g.cancel = d;
    g.free_stream = true;
    RUN_UNTIL(g.calls);
    run_ms(50);
    assert_int_equal(other.calls, 0);
    fill_up(&h);
    unserve(&v);
}

static void test_interleave(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"6a", "6a"},
        {"6a6b4c4d", "6a4c6b4d"},
        {"4a4b4c6d", "4a6d4b4c"},
        {"6a6b6c6d4e", "6a4e6b6c6d"},
        {"6a4b4c4d6e", "6a4b6e4c4d"},
        {"4a4b4c", "4a4b4c"},
        {"4a6b4c6d", "4a6b4c6d"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct addr a[8];
        char out[32] = "";
        size_t n = strlen(rows[i].in) / 2;
        for (size_t k = 0; k < n; k++)
            a[k] = ip(rows[i].in[2 * k] == '6' ? "2001:db8::1" : "192.0.2.1", (uint16_t)rows[i].in[2 * k + 1]);
        dial_interleave(a, n);
        for (size_t k = 0; k < n; k++) {
            out[2 * k] = a[k].u.sa.sa_family == AF_INET6 ? '6' : '4';
            out[2 * k + 1] = (char)addr_port(&a[k]);
        }
        assert_string_equal(out, rows[i].out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_one_address),
        T(test_refused_then_next_at_once),
        T(test_impossible_then_next_at_once),
        T(test_black_hole_then_next_after_stagger),
        T(test_slow_first_wins),
        T(test_all_fail),
        T(test_timeout),
        T(test_losers_are_closed),
        T(test_addresses_are_bounded),
        T(test_cancel),
        T(test_callback_cancels_another),
        T(test_interleave),
#undef T
    };
    return cmocka_run_group_tests_name("dial", tests, NULL, NULL);
}
