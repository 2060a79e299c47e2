#include "net/resolve.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "net/sock.h"

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
    struct resolver *r;
    int fds;
} w;

static void on_stop(void *arg) { loop_stop(arg); }

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

/* --- a name server: the first label of the name says what it does --- */

#define A_TYPE 1
#define AAAA_TYPE 28
#define NOERROR 0
#define SERVFAIL 2
#define NXDOMAIN 3
#define REFUSED 5
#define MANY 1000

struct server {
    struct udp *u;
    struct listener_sock *ls;
    struct stream *tcp;
    struct addr at;
    unsigned queries, tcp_queries;
    char last_name[256];
    bool v4_is_late; /* addresses are 198.51.100.1 instead of 192.0.2.1 */
};

static void u16(uint8_t **p, unsigned v) {
    *(*p)++ = (uint8_t)(v >> 8);
    *(*p)++ = (uint8_t)v;
}

static void record(uint8_t **p, unsigned type, const char *text) {
    struct addr a;
    if (addr_parse_ip(&a, text, 0)) abort();
    size_t n = type == A_TYPE ? 4 : 16;
    u16(p, 0xc00c); /* the name of the question */
    u16(p, type);
    u16(p, 1);
    u16(p, 0), u16(p, 0); /* TTL */
    u16(p, (unsigned)n);
    memcpy(*p, type == A_TYPE ? (void *)&a.u.in.sin_addr : (void *)&a.u.in6.sin6_addr, n);
    *p += n;
}

/* The first label of a question at q + 12 as text in name's first bytes; returns the end of the question. */
static size_t read_question(const uint8_t *q, size_t n, char *name, size_t cap, unsigned *type) {
    size_t at = 12, len = 0;
    while (at < n && q[at]) {
        size_t m = q[at++];
        assert_true(at + m < n && len + m + 2 < cap);
        memcpy(name + len, q + at, m);
        len += m;
        name[len++] = '.';
        at += m;
    }
    name[len ? len - 1 : 0] = 0;
    assert_true(at + 5 <= n);
    *type = (unsigned)(q[at + 1] << 8 | q[at + 2]);
    return at + 5;
}

static bool is(const char *name, const char *label) {
    size_t n = strlen(label);
    return strncasecmp(name, label, n) == 0 && (name[n] == '.' || !name[n]);
}

/* The records of an answer; returns their number, or -1 for silence. */
static int answer_records(const struct server *s, const char *name, unsigned type, uint8_t **p) {
    if (is(name, "silent") || (is(name, "noaaaa") && type == AAAA_TYPE)) return -1;
    if (is(name, "both") || (is(name, "v4only") && type == A_TYPE) || is(name, "noaaaa")) {
        record(p, type, type == AAAA_TYPE ? "2001:db8::1" : s->v4_is_late ? "198.51.100.1" : "192.0.2.1");
        return 1;
    }
    if (is(name, "zero")) {
        record(p, type, type == A_TYPE ? "0.0.0.0" : "::");
        return 1;
    }
    if (is(name, "mixed") && type == A_TYPE) {
        record(p, type, "192.0.2.1");
        record(p, type, "0.0.0.0");
        record(p, type, "192.0.2.1");
        return 3;
    }
    if (is(name, "many") && type == A_TYPE) {
        for (int i = 0; i < MANY; i++) {
            char text[32];
            snprintf(text, sizeof text, "10.1.%d.%d", i / 250, 1 + i % 250);
            record(p, type, text);
        }
        return MANY;
    }
    if (is(name, "loop")) { /* an alias of itself */
        u16(p, 0xc00c), u16(p, 5), u16(p, 1), u16(p, 0), u16(p, 0), u16(p, 2), u16(p, 0xc00c);
        return 1;
    }
    return 0;
}

static unsigned rcode_of(const char *name) {
    if (is(name, "nx")) return NXDOMAIN;
    if (is(name, "servfail")) return SERVFAIL;
    if (is(name, "refused")) return REFUSED;
    return NOERROR;
}

/* Writes the answer to a question; 0: none. */
static size_t answer(struct server *s, const uint8_t *q, size_t n, uint8_t *out) {
    unsigned type;
    size_t end = read_question(q, n, s->last_name, sizeof s->last_name, &type);
    uint8_t *p = out + end;
    memcpy(out, q, end);
    int count = answer_records(s, s->last_name, type, &p);
    if (count < 0) return 0;
    out[2] = 0x81; /* an answer, recursion desired */
    out[3] = (uint8_t)(0x80 | rcode_of(s->last_name));
    out[6] = (uint8_t)(count >> 8);
    out[7] = (uint8_t)count;
    memset(out + 8, 0, 4);
    return (size_t)(p - out);
}

static void on_datagram(struct udp *u, const struct addr *from, uint8_t ecn, const uint8_t *q, size_t n,
                        void *arg) {
    struct server *s = arg;
    uint8_t out[65536];
    (void)ecn;
    s->queries++;
    size_t m = answer(s, q, n, out);
    if (!m) return;
    if (is(s->last_name, "many") && m > 512) { /* cut to the question: over TCP, please */
        memcpy(out, q, n);
        out[2] = 0x83;
        out[3] = 0x80;
        memset(out + 6, 0, 6);
        m = n;
    }
    if (is(s->last_name, "spoofed")) {
        /* Another one's answer first: a wrong id. */
        uint8_t *p = out + m;
        out[0] ^= 0x55;
        record(&p, A_TYPE, "203.0.113.66");
        out[7] = 1;
        udp_send(u, from, 0, out, (size_t)(p - out), 0);
        out[0] ^= 0x55;
        out[7] = 0;
        if (out[m - 3] == AAAA_TYPE) { /* the type's low byte, before the class */
            udp_send(u, from, 0, out, m, 0);
            return;
        }
        p = out + m;
        record(&p, A_TYPE, "192.0.2.7");
        out[7] = 1;
        m = (size_t)(p - out);
    }
    udp_send(u, from, 0, out, m, 0);
}

static void on_tcp(struct stream *st, unsigned events, void *arg) {
    struct server *s = arg;
    const uint8_t *p;
    size_t n;
    static uint8_t out[65536 + 2];
    (void)events;
    /* A question fits one segment on loopback. */
    if (stream_peek(st, &p, &n) != STREAM_BYTES) return;
    while (n >= 2) {
        size_t len = (size_t)(p[0] << 8 | p[1]);
        assert_true(len + 2 <= n);
        s->tcp_queries++;
        size_t m = answer(s, p + 2, len, out + 2);
        out[0] = (uint8_t)(m >> 8);
        out[1] = (uint8_t)m;
        assert_int_equal(stream_write(st, out, m + 2), m + 2);
        stream_consume(st, len + 2);
        if (stream_peek(st, &p, &n) != STREAM_BYTES) return;
    }
}

static void on_accept(struct stream *st, const struct addr *remote, void *arg) {
    struct server *s = arg;
    (void)remote;
    stream_free(s->tcp);
    s->tcp = st;
    stream_own(st, on_tcp, s);
}

static void serve(struct server *s, const char *ip, uint16_t port) {
    int errnum;
    struct udp_cb cb = {.datagram = on_datagram, .arg = s};
    *s = (struct server){0};
    assert_int_equal(addr_parse_ip(&s->at, ip, port), 0);
    s->u = udp_open(w.l, &s->at, NULL, &cb, &errnum);
    assert_non_null(s->u);
    udp_local(s->u, &s->at);
}

static void unserve(struct server *s) {
    udp_free(s->u);
    sock_listen_free(s->ls);
    stream_free(s->tcp);
}

static struct server dns;

static void ask_server(const struct server *s) {
    char text[ADDR_TEXT_MAX];
    assert_int_equal(resolver_set_servers(w.r, addr_format(&s->at, text, sizeof text)), 0);
}

static int setup(void **state) {
    (void)state;
    w.fds = open_fds();
    w.l = loop_new();
    assert_non_null(w.l);
    loop_timer_init(&w.stop, w.l, on_stop, w.l);
    w.r = resolver_new(w.l);
    assert_non_null(w.r);
    serve(&dns, "127.0.0.1", 0);
    ask_server(&dns);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    resolver_free(w.r);
    unserve(&dns);
    loop_free(w.l);
    assert_int_equal(open_fds(), w.fds);
    sock_trim();
    return 0;
}

/* --- an owner --- */

struct got {
    unsigned calls;
    int err;
    char why[200];
    size_t n;
    struct addr addrs[RESOLVE_MAX];
    struct resolve *cancel[2]; /* from inside the callback */
    bool free_resolver;
    const char *then; /* the name to ask for from inside the callback, into next */
    struct got *next;
};

static void on_resolved(int err, const char *why, const struct addr *addrs, size_t n, void *arg) {
    struct got *g = arg;
    g->calls++;
    g->err = err;
    g->n = n;
    assert_true(n <= RESOLVE_MAX);
    snprintf(g->why, sizeof g->why, "%s", why);
    for (size_t i = 0; i < n; i++) g->addrs[i] = addrs[i];
    for (int i = 0; i < 2; i++) resolve_cancel(g->cancel[i]);
    if (g->free_resolver) {
        resolver_free(w.r);
        w.r = NULL;
    }
    if (g->then) assert_non_null(resolve_start(w.r, g->then, 1, 2000, on_resolved, g->next));
}

static struct resolve *ask(struct got *g, const char *host, uint32_t timeout) {
    *g = (struct got){0};
    struct resolve *q = resolve_start(w.r, host, 443, timeout, on_resolved, g);
    assert_non_null(q);
    assert_int_equal(g->calls, 0); /* never from inside */
    return q;
}

static void ask_and_wait(struct got *g, const char *host) {
    ask(g, host, 5000);
    RUN_UNTIL(g->calls);
    run_ms(5);
    assert_int_equal(g->calls, 1);
}

static bool has(const struct got *g, const char *text) {
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text, 443), 0);
    for (size_t i = 0; i < g->n; i++)
        if (addr_equal(&a, &g->addrs[i])) return true;
    return false;
}

/* --- cases --- */

static void test_literals(void **state) {
    (void)state;
    struct got g;
    ask_and_wait(&g, "192.0.2.9");
    assert_int_equal(g.err, 0);
    assert_int_equal(g.n, 1);
    assert_true(has(&g, "192.0.2.9"));
    ask_and_wait(&g, "2001:db8::9");
    assert_int_equal(g.n, 1);
    assert_true(has(&g, "2001:db8::9"));
    ask_and_wait(&g, "0.0.0.0");
    assert_int_equal(g.err, ERR_UPSTREAM_DNS);
    assert_int_equal(g.n, 0);
    assert_int_equal(dns.queries, 0);
}

static void test_localhost(void **state) {
    (void)state;
    static const char *const names[] = {"localhost", "LocalHost.", "a.localhost"};
    struct got g;
    for (int i = 0; i < 3; i++) {
        ask_and_wait(&g, names[i]);
        assert_int_equal(g.err, 0);
        assert_int_equal(g.n, 2);
        assert_true(has(&g, "127.0.0.1"));
        assert_true(has(&g, "::1"));
    }
    assert_int_equal(dns.queries, 0);
    ask_and_wait(&g, "nx-localhost");
    assert_true(dns.queries > 0);
}

static void test_both_families(void **state) {
    (void)state;
    struct got g;
    ask_and_wait(&g, "both.example");
    assert_int_equal(g.err, 0);
    assert_string_equal(g.why, "");
    assert_int_equal(g.n, 2);
    assert_true(has(&g, "192.0.2.1"));
    assert_true(has(&g, "2001:db8::1"));
    assert_int_equal(dns.queries, 2);
    ask_and_wait(&g, "v4only.example");
    assert_int_equal(g.n, 1);
    assert_true(has(&g, "192.0.2.1"));
}

static void check_failure(const char *name, const char *word) {
    struct got g;
    ask_and_wait(&g, name);
    assert_int_equal(g.err, ERR_UPSTREAM_DNS);
    assert_int_equal(g.n, 0);
    /* Older libraries keep to themselves how the servers failed. */
    bool vague = strstr(g.why, "no server answered") && (is(name, "servfail") || is(name, "refused"));
    if (!vague && !strstr(g.why, word)) fail_msg("%s: %s", name, g.why);
}

static void test_failures(void **state) {
    (void)state;
    char long_name[400];
    check_failure("nx.example", "NXDOMAIN");
    check_failure("servfail.example", "SERVFAIL");
    check_failure("refused.example", "REFUSED");
    check_failure("empty.example", "no data");
    check_failure("zero.example", "no usable address");
    check_failure("", "empty");
    check_failure("bad..example", "");
    check_failure("loop.example", "");
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    check_failure(long_name, "too long");
    for (int i = 50; i < 250; i += 50) long_name[i] = '.';
    long_name[253] = 0;
    check_failure(long_name, "");
}

static void test_answers_are_cleaned(void **state) {
    (void)state;
    struct got g;
    ask_and_wait(&g, "mixed.example");
    assert_int_equal(g.err, 0);
    assert_int_equal(g.n, 1);
    assert_true(has(&g, "192.0.2.1"));
}

static void test_foreign_answers_are_ignored(void **state) {
    (void)state;
    struct got g;
    ask_and_wait(&g, "spoofed.example");
    assert_int_equal(g.err, 0);
    assert_int_equal(g.n, 1);
    assert_true(has(&g, "192.0.2.7"));
}

static void test_many_addresses_over_tcp(void **state) {
    (void)state;
    struct got g;
    int errnum;
    /* TCP at the same port, which some connection of another program may have. */
    for (int i = 0; i < 100 && !dns.ls; i++) {
        unserve(&dns);
        serve(&dns, "127.0.0.1", 0);
        dns.ls = sock_listen(w.l, &dns.at, 16, on_accept, &dns, &errnum);
    }
    assert_non_null(dns.ls);
    ask_server(&dns);
    ask_and_wait(&g, "many.example");
    assert_int_equal(g.err, 0);
    assert_int_equal(g.n, RESOLVE_MAX);
    assert_int_equal(dns.tcp_queries, 1);
}

static void test_timeout(void **state) {
    (void)state;
    struct got g;
    uint64_t began = loop_now(w.l);
    ask(&g, "silent.example", 200);
    RUN_UNTIL(g.calls);
    uint64_t took = (loop_now(w.l) - began) / LOOP_MS;
    assert_int_equal(g.err, ERR_UPSTREAM_TIMEOUT);
    assert_true(took >= 195 && took < 1000);
    assert_true(dns.queries > 0);
    /* The library has given up, too. */
    unsigned queries = dns.queries;
    run_ms(1300);
    assert_int_equal(dns.queries, queries);
    assert_int_equal(g.calls, 1);
}

static void test_server_that_never_answers_aaaa(void **state) {
    (void)state;
    struct got g;
    uint64_t began = loop_now(w.l);
    ask_and_wait(&g, "noaaaa.example");
    assert_int_equal(g.err, 0);
    assert_int_equal(g.n, 1);
    assert_true(has(&g, "192.0.2.1"));
    assert_true(loop_now(w.l) - began < 2 * LOOP_S);
}

static void test_no_server(void **state) {
    (void)state;
    struct got g;
    struct server dead;
    serve(&dead, "127.0.0.1", 0);
    unserve(&dead);
    ask_server(&dead);
    ask_and_wait(&g, "both.example");
    assert_true(g.err == ERR_UPSTREAM_DNS || g.err == ERR_UPSTREAM_TIMEOUT);
    assert_true(*g.why);
}

static void test_second_server(void **state) {
    (void)state;
    struct got g;
    char text[ADDR_TEXT_MAX], both[2 * ADDR_TEXT_MAX + 2];
    struct server dead;
    serve(&dead, "127.0.0.1", 0);
    unserve(&dead);
    int n = snprintf(both, sizeof both, "%s,", addr_format(&dead.at, text, sizeof text));
    snprintf(both + n, sizeof both - (size_t)n, "%s", addr_format(&dns.at, text, sizeof text));
    assert_int_equal(resolver_set_servers(w.r, both), 0);
    ask_and_wait(&g, "both.example");
    assert_int_equal(g.err, 0);
    assert_int_equal(g.n, 2);
}

static void test_set_servers_refuses(void **state) {
    (void)state;
    struct got g;
    assert_int_equal(resolver_set_servers(w.r, "not an address"), ERR_CONFIG);
    assert_int_equal(resolver_set_servers(w.r, ""), ERR_CONFIG);
    ask_and_wait(&g, "both.example");
    assert_int_equal(g.err, 0);
    assert_int_equal(dns.queries, 2);
}

/* In flight: no callback, no more questions, no descriptor left. */
static void test_cancel(void **state) {
    (void)state;
    struct got g, other;
    int fds = open_fds();
    struct resolve *q = ask(&g, "silent.example", 5000);
    RUN_UNTIL(dns.queries >= 2);
    assert_true(open_fds() > fds);
    resolve_cancel(q);
    assert_int_equal(open_fds(), fds);
    run_ms(20);
    assert_int_equal(g.calls, 0);
    /* Beside one that goes on. */
    q = ask(&g, "silent.example", 5000);
    ask(&other, "both.example", 5000);
    resolve_cancel(q);
    RUN_UNTIL(other.calls);
    assert_int_equal(other.err, 0);
    assert_int_equal(g.calls, 0);
    /* With the answer in the deferred queue already. */
    q = ask(&g, "192.0.2.1", 5000);
    resolve_cancel(q);
    run_ms(20);
    assert_int_equal(g.calls, 0);
    resolve_cancel(NULL);
}

static void test_cancel_in_callback(void **state) {
    (void)state;
    struct got g, a, b;
    struct resolve *qa = ask(&a, "silent.example", 5000), *qb = ask(&b, "both.example", 5000);
    ask(&g, "192.0.2.1", 5000);
    g.cancel[0] = qa;
    g.cancel[1] = qb;
    RUN_UNTIL(g.calls);
    run_ms(50);
    assert_int_equal(a.calls + b.calls, 0);
}

static void test_callback_frees_resolver(void **state) {
    (void)state;
    struct got g, a;
    ask(&a, "silent.example", 5000);
    ask(&g, "both.example", 5000);
    g.free_resolver = true;
    RUN_UNTIL(g.calls);
    assert_int_equal(g.n, 2);
    run_ms(20);
    assert_int_equal(a.calls, 0);
}

static void test_callback_asks_again(void **state) {
    (void)state;
    struct got g, next = {0};
    ask(&g, "nx.example", 5000);
    g.then = "v4only.example";
    g.next = &next;
    RUN_UNTIL(next.calls);
    assert_int_equal(next.err, 0);
    assert_int_equal(addr_port(&next.addrs[0]), 1);
}

static void test_free_with_requests(void **state) {
    (void)state;
    struct got a, b;
    ask(&a, "silent.example", 5000);
    ask(&b, "192.0.2.1", 5000);
    RUN_UNTIL(dns.queries);
    ask(&b, "192.0.2.1", 5000);
    resolver_free(w.r);
    w.r = NULL;
    run_ms(20);
    assert_int_equal(a.calls + b.calls, 0);
    resolver_free(NULL);
}

static void test_requests_are_bounded(void **state) {
    (void)state;
    static struct got g[RESOLVE_REQUESTS];
    static struct resolve *q[RESOLVE_REQUESTS];
    struct got more = {0};
    for (int i = 0; i < RESOLVE_REQUESTS; i++) q[i] = ask(&g[i], "silent.example", 5000);
    assert_null(resolve_start(w.r, "both.example", 1, 1000, on_resolved, &more));
    run_ms(20);
    for (int i = 0; i < RESOLVE_REQUESTS; i++) resolve_cancel(q[i]);
    ask_and_wait(&more, "both.example");
    assert_int_equal(more.err, 0);
}

/* --- the system's configuration --- */

static void write_conf(const char *path, const char *ip) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "nameserver %s\nsearch search.example\noptions ndots:3\n", ip);
    assert_int_equal(fclose(f), 0);
}

static void test_conf_is_read_again(void **state) {
    (void)state;
    char path[64], next[80];
    struct server second;
    struct got g, waiting;
    snprintf(path, sizeof path, "test_resolve.%d.conf", (int)getpid());
    snprintf(next, sizeof next, "%s.new", path);
    serve(&second, "127.0.0.2", addr_port(&dns.at));
    second.v4_is_late = true;
    assert_int_equal(resolver_set_servers(w.r, NULL), 0);
    write_conf(path, "127.0.0.1");
    assert_int_equal(resolver_set_conf(w.r, path, addr_port(&dns.at)), 0);
    ask_and_wait(&g, "v4only");
    assert_true(has(&g, "192.0.2.1"));
    /* No search domain is tried. */
    ask_and_wait(&g, "nx");
    assert_int_equal(g.err, ERR_UPSTREAM_DNS);
    assert_string_equal(dns.last_name, "nx");
    /* Unchanged: the same server. */
    ask_and_wait(&g, "v4only.again.example");
    assert_true(has(&g, "192.0.2.1"));
    assert_int_equal(second.queries, 0);
    /* One that waits for the first server is asked anew at the second. */
    ask(&waiting, "silent.example", 5000);
    write_conf(next, "127.0.0.2");
    assert_int_equal(rename(next, path), 0);
    RUN_UNTIL(strcmp(dns.last_name, "silent.example") == 0);
    ask_and_wait(&g, "v4only.later.example");
    assert_true(has(&g, "198.51.100.1"));
    assert_true(second.queries >= 4);
    assert_int_equal(waiting.calls, 0);
    unlink(path);
    resolver_free(w.r);
    w.r = NULL;
    unserve(&second);
}

/* The first name of the hosts file that is not localhost, and its address. */
static bool find_host(char *name, char *ip) {
    char line[512];
    bool found = false;
    FILE *f = fopen("/etc/hosts", "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        struct addr a;
        if (sscanf(line, "%63s %127s", ip, name) != 2 || addr_parse_ip(&a, ip, 0)) continue;
        found = !strstr(name, "localhost") && !addr_is_unspecified(&a);
    }
    if (f) fclose(f);
    return found;
}

static void test_hosts_file(void **state) {
    (void)state;
    char name[128], ip[64];
    struct got g;
    if (!find_host(name, ip)) skip();
    ask_and_wait(&g, name);
    assert_int_equal(g.err, 0);
    assert_true(has(&g, ip));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_literals),
        T(test_localhost),
        T(test_both_families),
        T(test_failures),
        T(test_answers_are_cleaned),
        T(test_foreign_answers_are_ignored),
        T(test_many_addresses_over_tcp),
        T(test_timeout),
        T(test_server_that_never_answers_aaaa),
        T(test_no_server),
        T(test_second_server),
        T(test_set_servers_refuses),
        T(test_cancel),
        T(test_cancel_in_callback),
        T(test_callback_frees_resolver),
        T(test_callback_asks_again),
        T(test_free_with_requests),
        T(test_requests_are_bounded),
        T(test_conf_is_read_again),
        T(test_hosts_file),
#undef T
    };
    return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
