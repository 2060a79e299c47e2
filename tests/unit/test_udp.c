#include <errno.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/sock.h"

/* --- the kernel, with faults --- */

/* While set, a call of sendmmsg yields the next of these: -errno, a number of messages that it lets through at
 * most, or 0 for an ordinary call. */
static struct {
    const int *steps;
    size_t n, at;
    unsigned calls;
} fault;

int sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags) {
    fault.calls++;
    int step = fault.at < fault.n ? fault.steps[fault.at++] : 0;
    if (step < 0) {
        errno = -step;
        return -1;
    }
    if (step && (unsigned)step < n) n = (unsigned)step;
    return (int)syscall(SYS_sendmmsg, fd, m, n, flags);
}

#define FAULTS(...)                                                                                \
    do {                                                                                           \
        static const int steps_[] = {__VA_ARGS__};                                                 \
        fault.steps = steps_, fault.n = sizeof steps_ / sizeof steps_[0], fault.at = fault.calls = 0; \
    } while (0)

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
    memset(&fault, 0, sizeof fault);
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
        for (int turns_ = 0; turns_ < 400 && !(flag); turns_++) run_ms(5); \
        assert_true(flag);                                                 \
    } while (0)

/* One socket and what its callbacks saw. */
struct end {
    struct udp *u;
    struct addr local, from;
    uint64_t count, bytes, batches, since_batch, most_in_batch;
    size_t size[256]; /* of the first datagrams */
    uint8_t ecn, last[65536];
    unsigned writables, errors;
    int errnum;
    uint64_t free_at;                          /* datagrams after which it frees itself */
    bool free_at_batch, free_at_writable, free_at_error;
};

static void free_end(struct end *e) {
    udp_free(e->u);
    e->u = NULL;
}

static void on_datagram(struct udp *u, const struct addr *from, uint8_t ecn, const uint8_t *p, size_t n,
                        void *arg) {
    struct end *e = arg;
    assert_ptr_equal(u, e->u);
    if (e->count < 256) e->size[e->count] = n;
    e->count++;
    e->bytes += n;
    e->since_batch++;
    e->from = *from;
    e->ecn = ecn;
    memcpy(e->last, p, n);
    if (e->count == e->free_at) free_end(e);
}

static void on_batch_end(struct udp *u, void *arg) {
    struct end *e = arg;
    assert_ptr_equal(u, e->u);
    assert_true(e->since_batch > 0);
    if (e->since_batch > e->most_in_batch) e->most_in_batch = e->since_batch;
    e->since_batch = 0;
    e->batches++;
    if (e->free_at_batch) free_end(e);
}

static void on_writable(struct udp *u, void *arg) {
    struct end *e = arg;
    assert_ptr_equal(u, e->u);
    e->writables++;
    if (e->free_at_writable) free_end(e);
}

static void on_error(struct udp *u, int errnum, void *arg) {
    struct end *e = arg;
    assert_ptr_equal(u, e->u);
    e->errors++;
    e->errnum = errnum;
    if (e->free_at_error) free_end(e);
}

static struct end *open_end(const struct addr *bind_to, const struct addr *to) {
    struct end *e = calloc(1, sizeof *e);
    assert_non_null(e);
    struct udp_cb cb = {
        .datagram = on_datagram,
        .batch_end = on_batch_end,
        .writable = on_writable,
        .error = on_error,
        .arg = e,
    };
    int errnum = 0;
    e->u = udp_open(w.l, bind_to, to, &cb, &errnum);
    if (!e->u) fail_msg("udp_open: %s", strerror(errnum));
    udp_local(e->u, &e->local);
    return e;
}

static void close_end(struct end *e) {
    udp_free(e->u);
    free(e);
}

static struct addr ip(const char *text, uint16_t port) {
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text, port), 0);
    return a;
}

static const uint8_t *pattern(void) {
    static uint8_t p[300000];
    for (size_t i = 0; i < sizeof p; i++) p[i] = (uint8_t)(i * 31 + (i >> 8));
    return p;
}

/* --- cases --- */

static void echo(const char *text) {
    struct addr any = ip(text, 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    assert_int_equal(udp_send(c->u, NULL, 2, (const uint8_t *)"ping", 4, 0), 4);
    RUN_UNTIL(s->count == 1);
    assert_int_equal(s->bytes, 4);
    assert_memory_equal(s->last, "ping", 4);
    assert_int_equal(s->ecn, 2);
    assert_true(addr_equal(&s->from, &c->local));
    assert_int_equal(s->batches, 1);
    assert_int_equal(udp_send(s->u, &s->from, 3, (const uint8_t *)"pong!", 5, 0), 5);
    RUN_UNTIL(c->count == 1);
    assert_memory_equal(c->last, "pong!", 5);
    assert_int_equal(c->ecn, 3);
    assert_true(addr_equal(&c->from, &s->local));
    assert_int_equal(udp_send(s->u, &c->local, 0, (const uint8_t *)"", 0, 0), 0);
    RUN_UNTIL(c->count == 2);
    assert_int_equal(c->bytes, 5);
    assert_int_equal(c->ecn, 0);
    assert_int_equal(c->errors + s->errors, 0);
    close_end(c);
    close_end(s);
}

static void test_echo(void **state) {
    (void)state;
    echo("127.0.0.1");
}

static void test_echo_ipv6(void **state) {
    (void)state;
    struct addr a = ip("::1", 0);
    struct udp_cb cb = {0};
    int errnum;
    struct udp *u = udp_open(w.l, &a, NULL, &cb, &errnum);
    if (!u) skip();
    udp_free(u);
    echo("::1");
}

static void test_open_errors(void **state) {
    (void)state;
    struct udp_cb cb = {0};
    int errnum = 0;
    struct addr a = ip("203.0.113.1", 0), none = {0};
    assert_null(udp_open(w.l, NULL, NULL, &cb, &errnum));
    assert_int_equal(errnum, EAFNOSUPPORT);
    assert_null(udp_open(w.l, &none, NULL, &cb, &errnum));
    assert_int_equal(errnum, EAFNOSUPPORT);
    assert_null(udp_open(w.l, &a, NULL, &cb, &errnum));
    assert_int_equal(errnum, EADDRNOTAVAIL);
    udp_free(NULL);
}

/* Bound and connected at once, and deaf to anybody else. */
static void test_connected_hears_peer_only(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0), source = ip("127.0.0.5", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(&source, &s->local), *x = open_end(&any, NULL);
    assert_true(addr_same_ip(&c->local, &source));
    udp_send(x->u, &c->local, 0, (const uint8_t *)"foreign", 7, 0);
    udp_send(s->u, &c->local, 0, (const uint8_t *)"own", 3, 0);
    RUN_UNTIL(c->count == 1);
    run_ms(10);
    assert_int_equal(c->count, 1);
    assert_int_equal(c->bytes, 3);
    close_end(c);
    close_end(s);
    close_end(x);
}

/* 100 datagrams of 1200 bytes and a shorter one in one call, whichever way they leave. */
static void check_train(struct end *c, struct end *s) {
    const size_t n = 100 * 1200 + 77;
    uint64_t before = s->count;
    assert_int_equal(udp_send(c->u, NULL, 1, pattern(), n, 1200), n);
    RUN_UNTIL(s->count == before + 101);
    assert_int_equal(s->bytes, n);
    for (int i = 0; i < 100; i++) assert_int_equal(s->size[i], 1200);
    assert_int_equal(s->size[100], 77);
    assert_memory_equal(s->last, pattern() + 120000, 77);
    assert_int_equal(s->ecn, 1);
    assert_true(s->batches < 101);
}

static void test_train(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    check_train(c, s);
    /* At most 64 to a call. */
    assert_int_equal(fault.calls, 2);
    close_end(c);
    close_end(s);
}

/* A kernel or device that cannot cut: the socket remembers. */
static void test_train_without_gso(void **state) {
    (void)state;
    static const int refusals[] = {-EIO, -EINVAL};
    for (int i = 0; i < 2; i++) {
        struct addr any = ip("127.0.0.1", 0);
        struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
        fault.steps = &refusals[i];
        fault.n = 1;
        fault.at = fault.calls = 0;
        check_train(c, s);
        assert_int_equal(c->errors, 0);
        fault.calls = 0;
        uint64_t before = s->count;
        assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 2400, 1200), 2400);
        RUN_UNTIL(s->count == before + 2);
        assert_int_equal(fault.calls, 1);
        close_end(c);
        close_end(s);
    }
}

static void test_stop_gso(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    udp_stop_gso(c->u);
    /* Three calls for 101 messages, of which the second one takes but 36: none of them carried two datagrams. */
    FAULTS(64, 36);
    check_train(c, s);
    assert_int_equal(fault.calls, 3);
    close_end(c);
    close_end(s);
}

/* A segment above the MTU is lost, and is no reason to give up joining. */
static void test_too_long_is_lost(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 65508, 0), 65508);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 140000, 66000), 140000);
    RUN_UNTIL(s->count == 1); /* the last, shorter one of the second call */
    assert_int_equal(s->bytes, 8000);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 65507, 0), 65507);
    RUN_UNTIL(s->count == 2);
    assert_int_equal(s->bytes, 8000 + 65507);
    /* Joined, then singly with a refusal: the next train is joined again. */
    FAULTS(-EMSGSIZE, -EMSGSIZE, -EMSGSIZE, -EMSGSIZE);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 3000, 1200), 3000);
    RUN_UNTIL(s->count == 4);
    fault.calls = 0;
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 3000, 1200), 3000);
    RUN_UNTIL(s->count == 7);
    assert_int_equal(fault.calls, 1);
    assert_int_equal(c->errors, 0);
    close_end(c);
    close_end(s);
}

static void test_largest_segments(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    /* Two of 32753 are 65506 bytes: just joined; two of 32754 are not. */
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 65506, 32753), 65506);
    RUN_UNTIL(s->count == 2);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 65508, 32754), 65508);
    RUN_UNTIL(s->count == 4);
    assert_int_equal(s->size[0], 32753);
    assert_int_equal(s->size[3], 32754);
    assert_memory_equal(s->last, pattern() + 32754, 32754);
    close_end(c);
    close_end(s);
}

static void test_blocked(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    FAULTS(-EIO, 3, -EAGAIN);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 12000, 1200), 3600);
    /* Nothing more until `writable`. */
    unsigned calls = fault.calls;
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 100, 0), 0);
    assert_int_equal(fault.calls, calls);
    RUN_UNTIL(c->writables == 1);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern() + 3600, 8400, 1200), 8400);
    RUN_UNTIL(s->count == 10);
    run_ms(10);
    assert_int_equal(c->writables, 1);
    assert_int_equal(s->bytes, 12000);
    /* At once, and from within the callback. */
    FAULTS(-EAGAIN);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 100, 0), 0);
    c->free_at_writable = true;
    RUN_UNTIL(c->writables == 2);
    assert_null(c->u);
    close_end(c);
    close_end(s);
}

static void test_refused_counts_as_taken(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    /* A packet filter: told once for the whole turn. */
    FAULTS(-EPERM, -EPERM, -EPERM);
    for (int i = 0; i < 3; i++) assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 5000, 1200), 5000);
    assert_int_equal(c->errors, 0); /* not from inside */
    RUN_UNTIL(c->errors == 1);
    assert_int_equal(c->errnum, EPERM);
    /* A queue of the system that is full is a loss without a word. */
    FAULTS(-ENOBUFS);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 100, 0), 100);
    run_ms(10);
    assert_int_equal(c->errors, 1);
    assert_int_equal(s->count, 0);
    /* Signals are nobody's business. */
    FAULTS(-EINTR, -EINTR);
    assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 100, 0), 100);
    RUN_UNTIL(s->count == 1);
    close_end(c);
    close_end(s);
}

static void test_port_unreachable(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL);
    struct addr to = s->local;
    close_end(s);
    struct end *c = open_end(NULL, &to);
    assert_int_equal(udp_send(c->u, NULL, 0, (const uint8_t *)"x", 1, 0), 1);
    RUN_UNTIL(c->errors == 1);
    assert_int_equal(c->errnum, ECONNREFUSED);
    /* The socket stays usable, and an old error does not cost the next datagram. */
    assert_int_equal(udp_send(c->u, NULL, 0, (const uint8_t *)"x", 1, 0), 1);
    s = open_end(&to, NULL);
    assert_int_equal(udp_send(c->u, NULL, 0, (const uint8_t *)"yy", 2, 0), 2);
    RUN_UNTIL(s->count == 1 && c->errors == 2);
    assert_int_equal(s->bytes, 2);
    /* Freed by the callback. */
    close_end(s);
    c->free_at_error = true;
    assert_int_equal(udp_send(c->u, NULL, 0, (const uint8_t *)"x", 1, 0), 1);
    RUN_UNTIL(c->errors == 3);
    assert_null(c->u);
    close_end(c);
}

/* An error that waits in the deferred queue goes with the socket. */
static void test_free_drops_report(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *c = open_end(&any, NULL);
    FAULTS(-EPERM);
    assert_int_equal(udp_send(c->u, &c->local, 0, pattern(), 10, 0), 10);
    free_end(c);
    run_ms(10);
    assert_int_equal(c->errors, 0);
    close_end(c);
}

static void test_batches_are_bounded(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    for (int i = 0; i < 200; i++) assert_int_equal(udp_send(c->u, NULL, 0, pattern(), 10, 0), 10);
    RUN_UNTIL(s->count == 200);
    assert_true(s->most_in_batch <= UDP_BATCH);
    assert_true(s->batches >= 4 && s->batches < 200);
    close_end(c);
    close_end(s);
}

static void test_freed_by_datagram(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    for (int joined = 0; joined < 2; joined++) {
        struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
        s->free_at = 3;
        if (joined)
            udp_send(c->u, NULL, 0, pattern(), 6000, 1000);
        else
            for (int i = 0; i < 6; i++) udp_send(c->u, NULL, 0, pattern(), 1000, 0);
        RUN_UNTIL(!s->u);
        run_ms(5);
        assert_int_equal(s->count, 3);
        assert_int_equal(s->batches, 0);
        close_end(c);
        close_end(s);
    }
}

static void test_freed_by_batch_end(void **state) {
    (void)state;
    struct addr any = ip("127.0.0.1", 0);
    struct end *s = open_end(&any, NULL), *c = open_end(NULL, &s->local);
    s->free_at_batch = true;
    udp_send(c->u, NULL, 0, pattern(), 6000, 1000);
    RUN_UNTIL(!s->u);
    assert_int_equal(s->count, 6);
    close_end(c);
    close_end(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_echo),
        T(test_echo_ipv6),
        T(test_open_errors),
        T(test_connected_hears_peer_only),
        T(test_train),
        T(test_train_without_gso),
        T(test_stop_gso),
        T(test_too_long_is_lost),
        T(test_largest_segments),
        T(test_blocked),
        T(test_refused_counts_as_taken),
        T(test_port_unreachable),
        T(test_free_drops_report),
        T(test_batches_are_bounded),
        T(test_freed_by_datagram),
        T(test_freed_by_batch_end),
#undef T
    };
    return cmocka_run_group_tests_name("udp", tests, NULL, NULL);
}
