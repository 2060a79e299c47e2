#include "net/peer.h"

#include <errno.h>
#include <grp.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/sock.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define ANSWERS_MAX 8 /* late ones of earlier questions, and the one that is wanted */
#define GROUPS_FIRST 64
#define OVERFLOW_ID 65534 /* of /proc/sys/kernel/overflowuid and -gid, which nobody changes */
#define GROUPS_MAX 65536 /* NGROUPS_MAX */

struct peer_finder {
    int fd; /* -1: not open */
    uint32_t seq;
};

struct peer_finder *peer_finder_new(void) {
    struct peer_finder *f = calloc(1, sizeof *f);
    if (f) f->fd = -1;
    return f;
}

static void hang_up(struct peer_finder *f) {
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
}

void peer_finder_free(struct peer_finder *f) {
    if (!f) return;
    hang_up(f);
    free(f);
}

/* --- the user namespace --- */

/* An id that the namespace has, and that does not stand for all that it has not. */
static bool is_known(const char *map, unsigned id) {
    unsigned first, outside, n;
    uint64_t all = 0;
    bool found = false;
    FILE *f = fopen(map, "re");
    while (f && fscanf(f, "%u %u %u", &first, &outside, &n) == 3) {
        found |= id >= first && id - first < n;
        all += n;
    }
    if (f) fclose(f);
    return found && (id != OVERFLOW_ID || all >= UINT32_MAX);
}

bool peer_knows(uid_t uid) { return is_known("/proc/self/uid_map", uid); }

/* --- the question: one exact socket --- */

static void put_ip(const struct addr *a, __be32 to[4]) {
    if (a->u.sa.sa_family == AF_INET) memcpy(to, &a->u.in.sin_addr, 4);
    else memcpy(to, &a->u.in6.sin6_addr, 16);
}

/* `remote` may have no address: then a listening socket is asked for. */
static bool ask(struct peer_finder *f, const struct addr *local, const struct addr *remote) {
    struct {
        struct nlmsghdr h;
        struct inet_diag_req_v2 r;
    } q = {.h = {.nlmsg_len = sizeof q, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = ++f->seq},
           .r = {.sdiag_family = (__u8)local->u.sa.sa_family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u}};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    put_ip(local, q.r.id.idiag_src);
    q.r.id.idiag_sport = htons(addr_port(local));
    if (remote->len) put_ip(remote, q.r.id.idiag_dst);
    q.r.id.idiag_dport = htons(addr_port(remote));
    if (local->u.sa.sa_family == AF_INET6) q.r.id.idiag_if = local->u.in6.sin6_scope_id;
    q.r.id.idiag_cookie[0] = q.r.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (f->fd < 0) f->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (f->fd < 0) return false;
    return sendto(f->fd, &q, sizeof q, 0, (struct sockaddr *)&kernel, sizeof kernel) == (ssize_t)sizeof q;
}

/* --- the answer --- */

#define ANSWER_BYTES 4096
struct answer {
    char bytes[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    size_t n;
};

/* The kernel works on the question while it is sent: the answer is there already, or there is none. */
static bool hear(struct peer_finder *f, struct answer *a) {
    for (int i = 0; i < ANSWERS_MAX; i++) {
        struct sockaddr_nl from = {0};
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(f->fd, a->bytes, sizeof a->bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
        if (n < 0) return false;
        const struct nlmsghdr *h = (const struct nlmsghdr *)a->bytes;
        if (from.nl_pid != 0 || !NLMSG_OK(h, (size_t)n) || h->nlmsg_seq != f->seq) continue;
        a->n = (size_t)n;
        return true;
    }
    return false;
}

static bool is_end(int family, const __be32 ip[4], __be16 port, const struct addr *a) {
    struct addr b;
    addr_from_bytes(&b, (const uint8_t *)ip, family == AF_INET ? 4 : 16, ntohs(port));
    return addr_port(&b) == addr_port(a) && addr_same_ip(&b, a);
}

/* States in which a process may still hold the socket; without one its inode is 0, whatever the uid says. */
static bool is_held(const struct inet_diag_msg *m) {
    bool connected = m->idiag_state == TCP_ESTABLISHED || m->idiag_state == TCP_FIN_WAIT1 || m->idiag_state == TCP_FIN_WAIT2;
    return connected && m->idiag_inode != 0;
}

uid_t peer_answer(const void *messages, size_t n, uint32_t seq, const struct addr *client, const struct addr *server) {
    const struct nlmsghdr *h = messages;
    if (!NLMSG_OK(h, n) || h->nlmsg_seq != seq || h->nlmsg_type != SOCK_DIAG_BY_FAMILY) return PEER_NOBODY;
    const struct inet_diag_msg *m = NLMSG_DATA(h);
    if (h->nlmsg_len < NLMSG_LENGTH(sizeof *m)) return PEER_NOBODY;
    if (m->idiag_family != AF_INET && m->idiag_family != AF_INET6) return PEER_NOBODY;
    /* What is asked for may be answered with another one: with a listener at a port of that number. */
    if (!is_end(m->idiag_family, m->id.idiag_src, m->id.idiag_sport, client)) return PEER_NOBODY;
    if (!is_end(m->idiag_family, m->id.idiag_dst, m->id.idiag_dport, server)) return PEER_NOBODY;
    return is_held(m) ? m->idiag_uid : PEER_NOBODY;
}

int peer_probe(struct peer_finder *f, const struct addr *listening) {
    struct answer a;
    struct addr at = *listening;
    addr_unmap(&at);
    errno = 0;
    if (!ask(f, &at, &(struct addr){0})) return errno ? errno : EIO;
    if (!hear(f, &a)) return EIO;
    const struct nlmsghdr *h = (const struct nlmsghdr *)a.bytes;
    if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY) return 0;
    const struct nlmsgerr *e = NLMSG_DATA(h);
    return h->nlmsg_type == NLMSG_ERROR && h->nlmsg_len >= NLMSG_LENGTH(sizeof *e) && e->error ? -e->error : EIO;
}

/* --- a connection --- */

/* An address pair means the same socket to both: this one's network and the finder's are one. Old kernels do not tell;
 * sockets of two networks come together by socket activation only. */
static bool same_network(int a, int b) {
    uint64_t x, y;
    socklen_t nx = sizeof x, ny = sizeof y;
    if (getsockopt(a, SOL_SOCKET, SO_NETNS_COOKIE, &x, &nx) < 0) return true;
    return getsockopt(b, SOL_SOCKET, SO_NETNS_COOKIE, &y, &ny) == 0 && x == y;
}

/* As long as our end stands, no other connection can have its addresses. */
static bool stands(int fd) {
    struct tcp_info i;
    socklen_t len = sizeof i;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) < 0) return false;
    return i.tcpi_state == TCP_ESTABLISHED || i.tcpi_state == TCP_CLOSE_WAIT;
}

static uid_t tcp_peer(struct peer_finder *f, const struct stream *s, int fd) {
    struct addr client, server;
    struct answer a;
    if (!f || !sock_stream_remote(s, &client) || !sock_stream_local(s, &server)) return PEER_NOBODY;
    addr_unmap(&client);
    addr_unmap(&server);
    if (client.u.sa.sa_family != server.u.sa.sa_family) return PEER_NOBODY;
    if (!ask(f, &client, &server) || !hear(f, &a)) {
        hang_up(f); /* the next question gets a fresh one */
        return PEER_NOBODY;
    }
    uid_t uid = peer_answer(a.bytes, a.n, f->seq, &client, &server);
    return same_network(fd, f->fd) && stands(fd) ? uid : PEER_NOBODY;
}

static uid_t unix_peer(int fd) {
    struct ucred c;
    socklen_t len = sizeof c;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) == 0 && len == sizeof c ? c.uid : PEER_NOBODY;
}

struct peer peer_of(struct peer_finder *f, const struct stream *s) {
    int fd = sock_stream_fd(s), family = AF_UNSPEC;
    socklen_t len = sizeof family;
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) < 0) return (struct peer){.uid = PEER_NOBODY};
    struct peer p = {.by_unix = family == AF_UNIX};
    p.uid = p.by_unix ? unix_peer(fd) : tcp_peer(f, s, fd);
    if (!peer_knows(p.uid)) p.uid = PEER_NOBODY;
    return p;
}

/* --- groups --- */

static bool has(const gid_t *gids, size_t n, gid_t g) {
    for (size_t i = 0; i < n; i++)
        if (gids[i] == g) return true;
    return false;
}

static bool meet(const gid_t *gids, size_t n, const gid_t *of, size_t n_of) {
    for (size_t i = 0; i < n_of; i++)
        if (has(gids, n, of[i])) return true;
    return false;
}

static bool process_in(const gid_t *gids, size_t n, const gid_t *of, size_t n_of) {
    for (size_t i = 0; i < n_of; i++)
        if (has(gids, n, of[i]) && is_known("/proc/self/gid_map", of[i])) return true;
    return false;
}

bool peer_unix_in_groups(const struct stream *s, const gid_t *gids, size_t n) {
    struct ucred c;
    socklen_t len = sizeof c, bytes = GROUPS_MAX * sizeof(gid_t);
    int fd = sock_stream_fd(s);
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0 || len != sizeof c) return false;
    if (process_in(gids, n, &c.gid, 1)) return true;
    gid_t *of = malloc(bytes);
    bool in = of && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, of, &bytes) == 0 &&
              process_in(gids, n, of, bytes / sizeof *of);
    free(of);
    return in;
}

bool peer_user_in_groups(uid_t uid, const gid_t *gids, size_t n) {
    const struct passwd *pw = uid == PEER_NOBODY ? NULL : getpwuid(uid);
    if (!pw) return false;
    for (int room = GROUPS_FIRST; room <= GROUPS_MAX; room *= 4) {
        int got = room;
        gid_t *of = malloc((size_t)room * sizeof *of);
        int r = of ? getgrouplist(pw->pw_name, pw->pw_gid, of, &got) : 0;
        bool in = of && r >= 0 && meet(gids, n, of, (size_t)got);
        free(of);
        if (!of || r >= 0) return in;
    }
    return false;
}
