#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/peer.h"

#include <dirent.h>
#include <grp.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/sock.h"

/* Another user than this one where there may be one, so that an answer of "my own" does not pass. */
#define OTHER 65534

static uid_t other(void) { return geteuid() == 0 ? OTHER : geteuid(); }

static int open_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* --- a listener, and a client that is a process of its own --- */

struct world {
    struct loop *l;
    struct peer_finder *f;
    struct addr at;
    int fd, fds;
    pid_t child;
    int order[2]; /* closed: the client ends */
};

static void up(struct world *w, const char *ip, int only_v6) {
    *w = (struct world){.fds = open_fds()};
    w->l = loop_new();
    w->f = peer_finder_new();
    assert_non_null(w->l);
    assert_non_null(w->f);
    assert_int_equal(addr_parse_ip(&w->at, ip, 0), 0);
    w->fd = socket(w->at.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(w->fd >= 0);
    if (only_v6 >= 0) assert_int_equal(setsockopt(w->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6), 0);
    assert_int_equal(bind(w->fd, &w->at.u.sa, w->at.len), 0);
    assert_int_equal(listen(w->fd, 4), 0);
    socklen_t len = sizeof w->at.u;
    assert_int_equal(getsockname(w->fd, &w->at.u.sa, &len), 0);
}

static void down(struct world *w) {
    int status;
    if (w->child) {
        close(w->order[1]);
        assert_int_equal(waitpid(w->child, &status, 0), w->child);
        assert_int_equal(status, 0);
    }
    close(w->fd);
    peer_finder_free(w->f);
    loop_free(w->l);
    sock_trim();
    assert_int_equal(open_fds(), w->fds);
}

/* What the client does when it is connected, before it waits for its end. */
enum deed { STAY, HALF_CLOSE, CLOSE, RESET };

static int client_life(struct world *w, const struct addr *to, uid_t uid, enum deed deed) {
    char c;
    close(w->order[1]);
    if (uid != geteuid() && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))) return 1;
    int fd = socket(to->u.sa.sa_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, &to->u.sa, to->len)) return 2;
    struct linger hard = {.l_onoff = 1};
    if (write(fd, "x", 1) != 1) return 3;
    if (deed == HALF_CLOSE) shutdown(fd, SHUT_WR);
    if (deed == RESET) setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    if (deed == CLOSE || deed == RESET) close(fd);
    return read(w->order[0], &c, 1) == 0 ? 0 : 4;
}

/* Our end of a connection that such a client made; it has done its deed. */
static struct stream *client(struct world *w, const struct addr *to, uid_t uid, enum deed deed) {
    assert_int_equal(pipe(w->order), 0);
    w->child = fork();
    assert_true(w->child >= 0);
    if (w->child == 0) _exit(client_life(w, to, uid, deed));
    close(w->order[0]);
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    p = (struct pollfd){.fd = fd, .events = deed == STAY ? POLLIN : POLLRDHUP | POLLHUP};
    assert_int_equal(poll(&p, 1, 5000), 1);
    if (deed == CLOSE) usleep(20000); /* the descriptor goes before the process is told */
    struct stream *s = sock_stream(w->l, fd, SOCK_CLIENT);
    assert_non_null(s);
    return s;
}

static void must_be(const char *ip, int only_v6, const char *to, uid_t uid, enum deed deed, uid_t want) {
    struct world w;
    struct addr at;
    up(&w, ip, only_v6);
    assert_int_equal(addr_parse_ip(&at, to, addr_port(&w.at)), 0);
    struct stream *s = client(&w, &at, uid, deed);
    struct peer p = peer_of(w.f, s);
    assert_int_equal(p.uid, want);
    assert_false(p.by_unix);
    stream_free(s);
    down(&w);
}

static void test_tcp(void **state) {
    (void)state;
    must_be("127.0.0.1", -1, "127.0.0.1", geteuid(), STAY, geteuid());
    must_be("127.0.0.1", -1, "127.0.0.1", other(), STAY, other());
    must_be("0.0.0.0", -1, "127.0.0.7", other(), STAY, other());
    must_be("::1", 1, "::1", other(), STAY, other());
}

/* An IPv6 socket at either end of what is IPv4 on the way. */
static void test_mapped(void **state) {
    (void)state;
    must_be("::", 0, "127.0.0.1", other(), STAY, other());
    must_be("127.0.0.1", -1, "::ffff:127.0.0.1", other(), STAY, other());
    must_be("::", 0, "::ffff:127.0.0.1", other(), STAY, other());
    must_be("::", 0, "::1", other(), STAY, other());
}

/* The kernel calls a socket that no process holds root's: this must not open doors. */
static void test_closed_is_nobodys(void **state) {
    (void)state;
    must_be("127.0.0.1", -1, "127.0.0.1", other(), HALF_CLOSE, other());
    must_be("127.0.0.1", -1, "127.0.0.1", other(), CLOSE, PEER_NOBODY);
    must_be("127.0.0.1", -1, "127.0.0.1", other(), RESET, PEER_NOBODY);
    must_be("::1", 1, "::1", other(), CLOSE, PEER_NOBODY);
}

static void test_without_a_finder(void **state) {
    (void)state;
    struct world w;
    up(&w, "127.0.0.1", -1);
    struct stream *s = client(&w, &w.at, geteuid(), STAY);
    assert_int_equal(peer_of(NULL, s).uid, PEER_NOBODY);
    assert_int_equal(peer_of(w.f, s).uid, geteuid());
    stream_reset(s, ERR_SHUTDOWN);
    assert_int_equal(peer_of(w.f, s).uid, PEER_NOBODY);
    stream_free(s);
    peer_finder_free(NULL);
    down(&w);
}

/* No descriptor left: nobody is known, and the next question works. */
static void test_the_finder_recovers(void **state) {
    (void)state;
    struct world w;
    struct rlimit was, low;
    up(&w, "127.0.0.1", -1);
    struct stream *s = client(&w, &w.at, geteuid(), STAY);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = was;
    low.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(peer_of(w.f, s).uid, PEER_NOBODY);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(peer_of(w.f, s).uid, geteuid());
    stream_free(s);
    down(&w);
}

static void test_probe(void **state) {
    (void)state;
    static const char *const ips[] = {"127.0.0.1", "0.0.0.0", "::1", "::"};
    for (size_t i = 0; i < sizeof ips / sizeof *ips; i++) {
        struct world w;
        up(&w, ips[i], -1);
        assert_int_equal(peer_probe(w.f, &w.at), 0);
        close(w.fd);
        assert_int_not_equal(peer_probe(w.f, &w.at), 0);
        w.fd = dup(0);
        down(&w);
    }
}

static void test_other_streams(void **state) {
    (void)state;
    static const struct stream_ops none = {.name = "test"};
    struct stream s;
    struct defer_queue q;
    gid_t g = getegid();
    defer_queue_init(&q, NULL, NULL);
    stream_init(&s, &none, &q);
    struct peer_finder *f = peer_finder_new();
    assert_non_null(f);
    assert_int_equal(peer_of(f, &s).uid, PEER_NOBODY);
    assert_false(peer_unix_in_groups(&s, &g, 1));
    peer_finder_free(f);
}

/* --- Unix sockets, and groups --- */

static void test_unix(void **state) {
    (void)state;
    struct world w = {.fds = open_fds()};
    w.l = loop_new();
    w.f = peer_finder_new();
    char path[64];
    snprintf(path, sizeof path, "/tmp/test_peer.%d", (int)getpid());
    assert_int_equal(addr_from_path(&w.at, path), 0);
    w.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w.fd, &w.at.u.sa, w.at.len), 0);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(listen(w.fd, 4), 0);
    struct stream *s = client(&w, &w.at, other(), STAY);
    struct peer p = peer_of(NULL, s);
    assert_int_equal(p.uid, other());
    assert_true(p.by_unix);
    gid_t wanted[2] = {12345678, geteuid() == 0 ? OTHER : getegid()};
    assert_true(peer_unix_in_groups(s, wanted, 2));
    assert_false(peer_unix_in_groups(s, wanted, 1));
    assert_false(peer_unix_in_groups(s, wanted, 0));
    unlink(path);
    stream_free(s);
    down(&w);
}

static void test_users_groups(void **state) {
    (void)state;
    const struct passwd *pw = getpwuid(geteuid());
    assert_non_null(pw);
    gid_t g[2] = {12345678, pw->pw_gid};
    assert_true(peer_user_in_groups(geteuid(), g, 2));
    assert_false(peer_user_in_groups(geteuid(), g, 1));
    assert_false(peer_user_in_groups(23456789, g, 2));
    assert_false(peer_user_in_groups(PEER_NOBODY, g, 2));
}

/* --- answers --- */

struct message {
    struct nlmsghdr h;
    struct inet_diag_msg m;
};

static struct addr client_at, server_at;

static struct message good(void) {
    struct message a = {.h = {.nlmsg_len = sizeof a, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_seq = 7},
                        .m = {.idiag_family = AF_INET, .idiag_state = TCP_ESTABLISHED, .idiag_uid = 1234, .idiag_inode = 99}};
    assert_int_equal(addr_parse(&client_at, "127.0.0.1:40000"), 0);
    assert_int_equal(addr_parse(&server_at, "127.0.0.1:1080"), 0);
    a.m.id.idiag_src[0] = a.m.id.idiag_dst[0] = htonl(INADDR_LOOPBACK);
    a.m.id.idiag_sport = htons(40000);
    a.m.id.idiag_dport = htons(1080);
    return a;
}

static uid_t answer(const struct message *a) { return peer_answer(a, sizeof *a, 7, &client_at, &server_at); }

static void test_answers(void **state) {
    (void)state;
    struct message a = good();
    assert_int_equal(answer(&a), 1234);
    for (unsigned s = 0; s <= TCP_CLOSING; s++) {
        a.m.idiag_state = (__u8)s;
        bool held = s == TCP_ESTABLISHED || s == TCP_FIN_WAIT1 || s == TCP_FIN_WAIT2;
        assert_int_equal(answer(&a), held ? 1234 : PEER_NOBODY);
    }
#define REFUSED(change)                            \
    do {                                           \
        a = good();                                \
        change;                                    \
        assert_int_equal(answer(&a), PEER_NOBODY); \
    } while (0)
    REFUSED(a.m.idiag_inode = 0);
    REFUSED(a.m.id.idiag_sport = htons(40001));
    REFUSED(a.m.id.idiag_dport = htons(1081));
    REFUSED(a.m.id.idiag_src[0] = htonl(0x7f000002));
    REFUSED(a.m.id.idiag_dst[0] = 0);
    REFUSED(a.m.idiag_family = AF_INET6); /* 7f00:1:: is another address */
    REFUSED(a.m.idiag_family = AF_UNIX);
    REFUSED(a.h.nlmsg_seq = 6);
    REFUSED(a.h.nlmsg_type = NLMSG_ERROR);
    REFUSED(a.h.nlmsg_type = NLMSG_DONE);
    REFUSED(a.h.nlmsg_len = NLMSG_LENGTH(sizeof a.m) - 4);
    REFUSED(a.h.nlmsg_len = sizeof a + 4);
    REFUSED(a.h.nlmsg_len = 0);
    a = good();
    assert_int_equal(peer_answer(&a, sizeof a.h - 1, 7, &client_at, &server_at), PEER_NOBODY);
    assert_int_equal(peer_answer(&a, 0, 7, &client_at, &server_at), PEER_NOBODY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_closed_is_nobodys),
        cmocka_unit_test(test_without_a_finder),
        cmocka_unit_test(test_the_finder_recovers),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_other_streams),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_users_groups),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
