#include "net/monitor.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

struct monitor {
    struct loop *loop;
    monitor_cb *cb;
    void *arg;
    int fd;
    struct loop_io io;
    struct loop_timer settle;
    bool woken;      /* a sleep is to be told */
    uint64_t latest; /* the burst under way is told by then; 0: there is none */
};

/* --- messages --- */

static bool link_counts(const struct nlmsghdr *h) {
    const struct ifinfomsg *i = NLMSG_DATA(h);
    if (h->nlmsg_len < NLMSG_LENGTH(sizeof *i)) return false;
    if (h->nlmsg_type == RTM_DELLINK) return true;
    return (i->ifi_change & (IFF_UP | IFF_RUNNING | IFF_LOWER_UP)) != 0;
}

/* Router advertisements renew the lifetimes of an address that has long been there. */
static bool is_renewal(const struct nlmsghdr *h) {
    const struct ifaddrmsg *a = NLMSG_DATA(h);
    int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof *a));
    for (struct rtattr *r = IFA_RTA(a); RTA_OK(r, left); r = RTA_NEXT(r, left)) {
        struct ifa_cacheinfo c;
        if (r->rta_type != IFA_CACHEINFO || RTA_PAYLOAD(r) < sizeof c) continue;
        memcpy(&c, RTA_DATA(r), sizeof c);
        return c.cstamp != c.tstamp;
    }
    return false;
}

static bool address_counts(const struct nlmsghdr *h) {
    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifaddrmsg))) return false;
    return h->nlmsg_type == RTM_DELADDR || !is_renewal(h);
}

static bool route_counts(const struct nlmsghdr *h) {
    const struct rtmsg *r = NLMSG_DATA(h);
    if (h->nlmsg_len < NLMSG_LENGTH(sizeof *r)) return false;
    return !(r->rtm_flags & RTM_F_CLONED) && r->rtm_table != RT_TABLE_LOCAL;
}

int monitor_counts(const void *messages, unsigned n) {
    for (const struct nlmsghdr *h = messages; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
        bool counts = false;
        switch (h->nlmsg_type) {
        case RTM_NEWLINK:
        case RTM_DELLINK: counts = link_counts(h); break;
        case RTM_NEWADDR:
        case RTM_DELADDR: counts = address_counts(h); break;
        case RTM_NEWROUTE:
        case RTM_DELROUTE: counts = route_counts(h); break;
        default: break;
        }
        if (counts) return true;
    }
    return false;
}

/* --- the socket --- */

static void on_settled(void *arg) {
    struct monitor *m = arg;
    enum monitor_news news = m->woken ? MONITOR_WOKEN : MONITOR_NETWORK; /* that implies this */
    m->latest = 0;
    m->woken = false;
    m->cb(news, m->arg); /* last: it may free the monitor */
}

static void changed(struct monitor *m) {
    uint64_t now = loop_now(m->loop), at = now + MONITOR_SETTLE * LOOP_MS;
    if (!m->latest) m->latest = now + MONITOR_LATEST * LOOP_MS;
    loop_timer_set(&m->settle, at < m->latest ? at : m->latest);
}

static void on_messages(unsigned events, void *arg) {
    struct monitor *m = arg;
    (void)events;
    for (int turns = 0; turns < 16; turns++) {
        char buf[16384] __attribute__((aligned(8)));
        struct sockaddr_nl from = {0};
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(m->fd, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == ENOBUFS) { /* messages were lost: some will have counted */
            changed(m);
            continue;
        }
        if (n < 0) return;
        if (from.nl_pid == 0 && monitor_counts(buf, (unsigned)n)) changed(m); /* only the kernel's */
    }
}

static void on_woken(void *arg) {
    struct monitor *m = arg;
    m->woken = true;
    changed(m);
}

static int open_socket(void) {
    struct sockaddr_nl at = {.nl_family = AF_NETLINK,
                             .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                          RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
    int errnum = errno;
    close(fd);
    errno = errnum;
    return -1;
}

struct monitor *monitor_new(struct loop *l, monitor_cb *cb, void *arg) {
    struct monitor *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->loop = l;
    m->cb = cb;
    m->arg = arg;
    loop_timer_init(&m->settle, l, on_settled, m);
    loop_io_init(&m->io, l, on_messages, m);
    m->fd = open_socket();
    if (m->fd < 0) log_warn("monitor", "changes of the network are not seen: %s", strerror(errno));
    else loop_io_set(&m->io, m->fd, LOOP_READ);
    loop_on_wake(l, on_woken, m);
    return m;
}

void monitor_free(struct monitor *m) {
    if (!m) return;
    loop_on_wake(m->loop, NULL, NULL);
    loop_io_set(&m->io, m->fd, 0);
    loop_timer_stop(&m->settle);
    if (m->fd >= 0) close(m->fd);
    free(m);
}
