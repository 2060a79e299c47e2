#include "net/sock_impl.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* Kernel buffers asked for, bytes; the system's limit may make it less. */
#define KERNEL_BUFFER (2 << 20)
/* Messages per receiving call; each needs a buffer of UDP_MAX bytes. */
#define RECEIVE_MAX 8
/* The kernel's limits for one send that it cuts into datagrams (UDP_MAX_SEGMENTS, the IPv4 total length). */
#define GSO_SEGMENTS 64
#define GSO_BYTES 65507
#define ECN_MASK 3

_Static_assert(SOCK_READ_MAX >= UDP_MAX, "a read buffer takes any datagram");

struct udp {
    struct loop *loop;
    struct loop_io io;
    struct udp_cb cb;
    struct defer report; /* delivers errnum */
    int errnum;          /* the first error since the last report, 0: none */
    int fd;
    int family;
    struct addr remote; /* len 0: not connected */
    bool gso;           /* the kernel cuts what is sent */
    bool coalesced;     /* the last read brought several datagrams in one message */
    bool full;          /* a send met a full socket: `writable` is due */
    bool inside, freed; /* while callbacks are made from on_io, udp_free leaves the memory to it */
};

union udp_control {
    char bytes[CMSG_SPACE(sizeof(int)) * 3];
    struct cmsghdr align;
};

/* --- errors --- */

static void on_report(void *arg) {
    struct udp *u = arg;
    int errnum = u->errnum;
    u->errnum = 0;
    u->cb.error(u, errnum, u->cb.arg);
}

static void report(struct udp *u, int errnum) {
    if (!u->cb.error || u->errnum) return;
    u->errnum = errnum;
    defer_post(loop_defer(u->loop), &u->report);
}

/* Errors that an ICMP message may have left on the socket: a send or receive that meets one does nothing else. */
static bool is_left_by_icmp(int errnum) {
    switch (errnum) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENONET:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EACCES:
    case EMSGSIZE: return true;
    default: return false;
    }
}

static bool is_worth_telling(int errnum) {
    return errnum == EPERM || errnum == EADDRNOTAVAIL || errnum == ENETDOWN ||
           (is_left_by_icmp(errnum) && errnum != EMSGSIZE);
}

/* --- receiving --- */

struct udp_batch {
    struct mmsghdr msg[RECEIVE_MAX];
    struct iovec iov[RECEIVE_MAX];
    struct sockaddr_storage from[RECEIVE_MAX];
    union udp_control control[RECEIVE_MAX];
    uint8_t *buf[RECEIVE_MAX];
    unsigned n; /* buffers there are */
};

static void batch_open(struct udp_batch *b) {
    b->n = 0;
    while (b->n < RECEIVE_MAX && (b->buf[b->n] = sock_buffer_get())) b->n++;
}

static void batch_close(struct udp_batch *b) {
    while (b->n) sock_buffer_put(b->buf[--b->n]);
}

static int batch_receive(struct udp *u, struct udp_batch *b, unsigned want) {
    for (unsigned i = 0; i < want; i++) {
        b->iov[i] = (struct iovec){b->buf[i], SOCK_READ_MAX};
        b->msg[i].msg_hdr = (struct msghdr){
            .msg_iov = &b->iov[i],
            .msg_iovlen = 1,
            .msg_control = b->control[i].bytes,
            .msg_controllen = sizeof b->control[i].bytes,
        };
        if (!u->remote.len) {
            b->msg[i].msg_hdr.msg_name = &b->from[i];
            b->msg[i].msg_hdr.msg_namelen = sizeof b->from[i];
        }
    }
    return recvmmsg(u->fd, b->msg, want, 0, NULL);
}

/* The congestion bits of the IP header, and the length of each datagram that the kernel joined (0: it did not). */
static void read_control(struct msghdr *m, uint8_t *ecn, size_t *segment) {
    *ecn = 0;
    *segment = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        int v = 0;
        size_t len = c->cmsg_len - CMSG_LEN(0);
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS && len >= 1) {
            *ecn = *CMSG_DATA(c) & ECN_MASK; /* one byte */
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS && len >= sizeof v) {
            memcpy(&v, CMSG_DATA(c), sizeof v);
            *ecn = (uint8_t)(v & ECN_MASK);
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && len >= sizeof v) {
            memcpy(&v, CMSG_DATA(c), sizeof v);
            if (v > 0) *segment = (size_t)v;
        }
    }
}

/* Hands over what one message brought; returns the number of datagrams. Stops when the udp was freed. */
static unsigned deliver(struct udp *u, struct mmsghdr *m, const uint8_t *p) {
    struct addr from = u->remote;
    struct msghdr *h = &m->msg_hdr;
    if (h->msg_flags & MSG_TRUNC) return 0;
    if (!from.len && !addr_from_sockaddr(&from, h->msg_name, h->msg_namelen)) return 0;
    uint8_t ecn;
    size_t segment, left = m->msg_len;
    read_control(h, &ecn, &segment);
    if (!segment || segment > left) segment = left;
    u->coalesced = segment < left;
    unsigned count = 0;
    do {
        size_t n = segment < left ? segment : left;
        u->cb.datagram(u, &from, ecn, p, n, u->cb.arg);
        count++;
        p += n;
        left -= n;
    } while (left && !u->freed);
    return count;
}

/* Without memory datagrams are lost, as they are on a wire, rather than read again and again. */
static void discard(struct udp *u) {
    char byte;
    for (int i = 0; i < UDP_BATCH; i++)
        if (recv(u->fd, &byte, sizeof byte, MSG_TRUNC) < 0) return;
}

/* Returns how many datagrams were handed over. */
static unsigned receive_all(struct udp *u, struct udp_batch *b) {
    unsigned count = 0;
    for (int calls = 0; calls < UDP_BATCH && count < UDP_BATCH; calls++) {
        /* A coalesced message may hold as many datagrams as a whole batch. */
        unsigned want = u->coalesced ? 1 : b->n;
        if (want > UDP_BATCH - count) want = UDP_BATCH - count;
        int got = batch_receive(u, b, want);
        if (got < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) break;
            if (is_worth_telling(errno)) report(u, errno);
            continue;
        }
        for (int i = 0; i < got; i++) {
            count += deliver(u, &b->msg[i], b->buf[i]);
            if (u->freed) return count;
        }
        if ((unsigned)got < want) break;
    }
    return count;
}

static void on_readable(struct udp *u) {
    struct udp_batch b;
    batch_open(&b);
    if (!b.n) {
        discard(u);
        return;
    }
    unsigned count = receive_all(u, &b);
    batch_close(&b);
    if (!u->freed && count && u->cb.batch_end) u->cb.batch_end(u, u->cb.arg);
}

/* --- sending --- */

/* One call of udp_send: `done` of n bytes are taken. */
struct udp_run {
    struct sockaddr *name;
    socklen_t name_len;
    const uint8_t *p;
    size_t n, segment, done;
    uint8_t ecn;
    union udp_control control;
};

static size_t put_control(char *at, int level, int type, const void *data, size_t n) {
    struct cmsghdr head = {.cmsg_len = CMSG_LEN(n), .cmsg_level = level, .cmsg_type = type};
    memset(at, 0, CMSG_SPACE(n));
    memcpy(at, &head, sizeof head);
    memcpy(at + CMSG_LEN(0), data, n);
    return CMSG_SPACE(n);
}

/* gso: the length of each datagram, or 0. Returns the length of the control data. */
static size_t write_control(const struct udp *u, struct udp_run *r, uint16_t gso) {
    size_t n = 0;
    if (r->ecn) {
        int v = r->ecn;
        bool v6 = u->family == AF_INET6;
        int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
        n += put_control(r->control.bytes, level, v6 ? IPV6_TCLASS : IP_TOS, &v, sizeof v);
    }
    if (gso) n += put_control(r->control.bytes + n, IPPROTO_UDP, UDP_SEGMENT, &gso, sizeof gso);
    return n;
}

static struct msghdr message(struct udp_run *r, struct iovec *iov, size_t control_len) {
    return (struct msghdr){
        .msg_name = r->name,
        .msg_namelen = r->name_len,
        .msg_iov = iov,
        .msg_iovlen = 1,
        .msg_control = control_len ? r->control.bytes : NULL,
        .msg_controllen = control_len,
    };
}

/* sendmmsg that goes on after a signal and after an error that an earlier datagram's ICMP message left. The number
 * of messages sent, or a negative errno. */
static int send_messages(struct udp *u, struct mmsghdr *m, unsigned n) {
    bool again = true;
    for (;;) {
        int r = sendmmsg(u->fd, m, n, MSG_NOSIGNAL);
        if (r >= 0) return r;
        if (errno == EINTR) continue;
        if (!again || !u->remote.len || !is_left_by_icmp(errno)) return -errno;
        if (is_worth_telling(errno)) report(u, errno);
        again = false;
    }
}

/* After a failed send: true if the datagrams count as taken, false if the socket is full. */
static bool is_lost(struct udp *u, int errnum) {
    if (errnum == EAGAIN || errnum == EWOULDBLOCK) {
        u->full = true;
        loop_io_set(&u->io, u->fd, LOOP_READ | LOOP_WRITE);
        return false;
    }
    if (is_worth_telling(errnum)) report(u, errnum);
    return true;
}

/* Sends the bytes up to `end` one datagram a message. Returns false when blocked; *refused counts the datagrams
 * that the kernel would not have. */
static bool send_singly(struct udp *u, struct udp_run *r, size_t end, unsigned *refused) {
    size_t control_len = write_control(u, r, 0);
    do {
        struct mmsghdr m[GSO_SEGMENTS];
        struct iovec iov[GSO_SEGMENTS];
        unsigned n = 0;
        size_t at = r->done;
        do {
            size_t len = end - at < r->segment ? end - at : r->segment;
            iov[n] = (struct iovec){(void *)(r->p + at), len};
            m[n].msg_hdr = message(r, &iov[n], control_len);
            at += len;
            n++;
        } while (at < end && n < GSO_SEGMENTS);
        int sent = send_messages(u, m, n);
        if (sent < 0) {
            if (!is_lost(u, -sent)) return false;
            ++*refused;
            sent = 1; /* the first one; the others are tried in the next round */
        }
        for (int i = 0; i < sent; i++) r->done += iov[i].iov_len;
    } while (r->done < end);
    return true;
}

/* Sends the next datagrams as one message that the kernel cuts. Returns false when blocked. */
static bool send_joined(struct udp *u, struct udp_run *r) {
    unsigned refused = 0;
    size_t segments = GSO_BYTES / r->segment, len = r->n - r->done;
    if (segments < 2) return send_singly(u, r, r->n, &refused);
    if (segments > GSO_SEGMENTS) segments = GSO_SEGMENTS;
    if (len > segments * r->segment) len = segments * r->segment;
    struct iovec iov = {(void *)(r->p + r->done), len};
    struct mmsghdr m = {.msg_hdr = message(r, &iov, write_control(u, r, (uint16_t)r->segment))};
    int errnum = -send_messages(u, &m, 1);
    switch (errnum) {
    case EIO: /* the device has no checksum offload */
    case EINVAL:
    case EOPNOTSUPP:
    case ENOPROTOOPT:
    case EMSGSIZE: break;
    default:
        if (errnum > 0 && !is_lost(u, errnum)) return false;
        r->done += len;
        return true;
    }
    bool all = send_singly(u, r, r->done + len, &refused);
    /* A segment above the MTU is refused in either form, and says nothing about the kernel's ability. */
    if (errnum != EMSGSIZE && !refused) {
        log_debug("udp", "sending datagrams one by one fd=%d error=\"%s\"", u->fd, strerror(errnum));
        u->gso = false;
    }
    return all;
}

size_t udp_send(struct udp *u, const struct addr *to, uint8_t ecn, const uint8_t *p, size_t n, size_t segment) {
    if (u->full) return 0;
    struct udp_run r = {.p = p, .n = n, .segment = segment && segment < n ? segment : n, .ecn = ecn & ECN_MASK};
    if (!u->remote.len && to) {
        r.name = (struct sockaddr *)(void *)&to->u.sa;
        r.name_len = to->len;
    }
    unsigned refused = 0;
    bool room = true;
    do room = u->gso && n - r.done > r.segment ? send_joined(u, &r) : send_singly(u, &r, n, &refused);
    while (room && r.done < n);
    return r.done;
}

/* --- opening --- */

static void on_io(unsigned events, void *arg) {
    struct udp *u = arg;
    u->inside = true;
    if ((events & LOOP_WRITE) && u->full) {
        u->full = false;
        loop_io_set(&u->io, u->fd, LOOP_READ);
        if (u->cb.writable) u->cb.writable(u, u->cb.arg);
    }
    if (!u->freed && (events & LOOP_READ)) on_readable(u);
    u->inside = false;
    if (u->freed) free(u);
}

static void set_options(struct udp *u) {
    int one = 1, segment = 0;
    sock_option(u->fd, SOL_SOCKET, SO_RCVBUF, KERNEL_BUFFER);
    sock_option(u->fd, SOL_SOCKET, SO_SNDBUF, KERNEL_BUFFER);
    /* PROBE: "don't fragment" is set, and what ICMP claims about the path is left to the protocol above. */
    if (u->family == AF_INET6) {
        sock_option(u->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        sock_option(u->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
        sock_option(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    } else {
        sock_option(u->fd, IPPROTO_IP, IP_RECVTOS, 1);
        sock_option(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    }
    setsockopt(u->fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one);
    u->gso = setsockopt(u->fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) == 0;
}

/* 0 or an errno. */
static int open_socket(struct udp *u, const struct addr *bind_to, const struct addr *to) {
    u->fd = sock_new(u->family, SOCK_DGRAM);
    if (u->fd < 0) return errno;
    set_options(u);
    if (bind_to && bind_to->len && bind(u->fd, &bind_to->u.sa, bind_to->len) < 0) return errno;
    if (!to) return 0;
    if (connect(u->fd, &to->u.sa, to->len) < 0) return errno;
    u->remote = *to;
    return 0;
}

struct udp *udp_open(struct loop *l, const struct addr *bind_to, const struct addr *to, const struct udp_cb *cb,
                     int *errnum) {
    const struct addr *known = to ? to : bind_to;
    int family = known && known->len ? known->u.sa.sa_family : AF_UNSPEC;
    if (family != AF_INET && family != AF_INET6) {
        *errnum = EAFNOSUPPORT;
        return NULL;
    }
    struct udp *u = calloc(1, sizeof *u);
    if (!u) {
        *errnum = ENOMEM;
        return NULL;
    }
    *u = (struct udp){.loop = l, .cb = *cb, .family = family};
    *errnum = open_socket(u, bind_to, to);
    if (*errnum) {
        if (u->fd >= 0) close(u->fd);
        free(u);
        return NULL;
    }
    defer_init(&u->report, on_report, u);
    loop_io_init(&u->io, l, on_io, u);
    loop_io_set(&u->io, u->fd, LOOP_READ);
    return u;
}

void udp_free(struct udp *u) {
    if (!u) return;
    defer_cancel(&u->report);
    loop_io_set(&u->io, u->fd, 0);
    close(u->fd);
    u->freed = true;
    if (!u->inside) free(u);
}

void udp_local(const struct udp *u, struct addr *a) { sock_name(u->fd, false, a); }

void udp_stop_gso(struct udp *u) { u->gso = false; }
