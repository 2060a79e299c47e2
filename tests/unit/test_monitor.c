/* test_monitor.c - which rtnetlink messages count, and a real change in a network namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/monitor.h"

struct message {
    struct nlmsghdr h;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
    } u;
    struct rtattr attr;
    struct ifa_cacheinfo cache;
};

static struct message link_message(unsigned change) {
    struct message m = {.h = {.nlmsg_type = RTM_NEWLINK, .nlmsg_len = NLMSG_LENGTH(sizeof m.u.link)}};
    m.u.link.ifi_change = change;
    return m;
}

static void links(void **state) {
    (void)state;
    struct message m = link_message(0); /* statistics, wireless events */
    assert_false(monitor_counts(&m, m.h.nlmsg_len));
    m = link_message(IFF_PROMISC);
    assert_false(monitor_counts(&m, m.h.nlmsg_len));
    m = link_message(IFF_UP);
    assert_true(monitor_counts(&m, m.h.nlmsg_len));
    m = link_message(IFF_RUNNING | IFF_PROMISC);
    assert_true(monitor_counts(&m, m.h.nlmsg_len));
    m = link_message(0);
    m.h.nlmsg_type = RTM_DELLINK;
    assert_true(monitor_counts(&m, m.h.nlmsg_len));
}

static void addresses(void **state) {
    (void)state;
    struct message m = {.h = {.nlmsg_type = RTM_NEWADDR, .nlmsg_len = NLMSG_LENGTH(sizeof m.u.address)}};
    assert_true(monitor_counts(&m, m.h.nlmsg_len));
    struct {
        struct nlmsghdr h;
        struct ifaddrmsg a;
        struct rtattr attr;
        struct ifa_cacheinfo cache;
    } n = {.h = {.nlmsg_type = RTM_NEWADDR, .nlmsg_len = sizeof n},
           .attr = {.rta_type = IFA_CACHEINFO, .rta_len = RTA_LENGTH(sizeof n.cache)},
           .cache = {.cstamp = 100, .tstamp = 100}};
    assert_true(monitor_counts(&n, sizeof n));
    n.cache.tstamp = 700; /* its lifetime was renewed */
    assert_false(monitor_counts(&n, sizeof n));
    n.h.nlmsg_type = RTM_DELADDR;
    assert_true(monitor_counts(&n, sizeof n));
}

static void routes(void **state) {
    (void)state;
    struct message m = {.h = {.nlmsg_type = RTM_NEWROUTE, .nlmsg_len = NLMSG_LENGTH(sizeof m.u.route)}};
    m.u.route.rtm_table = RT_TABLE_MAIN;
    assert_true(monitor_counts(&m, m.h.nlmsg_len));
    m.u.route.rtm_flags = RTM_F_CLONED;
    assert_false(monitor_counts(&m, m.h.nlmsg_len));
    m.u.route.rtm_flags = 0;
    m.u.route.rtm_table = RT_TABLE_LOCAL;
    assert_false(monitor_counts(&m, m.h.nlmsg_len));
}

static void what_is_no_message(void **state) {
    (void)state;
    struct message m = link_message(IFF_UP);
    for (unsigned n = 0; n < m.h.nlmsg_len; n++) assert_false(monitor_counts(&m, n)); /* cut off */
    m.h.nlmsg_len = NLMSG_LENGTH(4); /* too short for its type */
    assert_false(monitor_counts(&m, sizeof m));
    m = link_message(IFF_UP);
    m.h.nlmsg_type = RTM_NEWNEIGH;
    assert_false(monitor_counts(&m, m.h.nlmsg_len));
    m.h.nlmsg_len = 0;
    assert_false(monitor_counts(&m, sizeof m));
    m.h.nlmsg_len = UINT32_MAX;
    assert_false(monitor_counts(&m, sizeof m));
}

static void the_second_message_counts_too(void **state) {
    (void)state;
    struct message both[2] = {link_message(0), link_message(IFF_UP)};
    uint8_t buf[2 * sizeof(struct message)];
    size_t first = NLMSG_ALIGN(both[0].h.nlmsg_len);
    memcpy(buf, &both[0], first);
    memcpy(buf + first, &both[1], both[1].h.nlmsg_len);
    assert_true(monitor_counts(buf, (unsigned)(first + both[1].h.nlmsg_len)));
}

/* --- the real thing --- */

struct heard {
    struct loop *loop;
    unsigned news[2];
    uint64_t at;
};

static void on_news(enum monitor_news news, void *arg) {
    struct heard *h = arg;
    h->news[news]++;
    h->at = loop_now(h->loop);
    loop_stop(h->loop);
}

static void on_limit(void *arg) { loop_stop(arg); }

static void run_for(struct loop *l, uint64_t ns) {
    struct loop_timer t;
    loop_timer_init(&t, l, on_limit, l);
    loop_timer_set(&t, loop_now(l) + ns);
    loop_run(l);
    loop_timer_stop(&t);
}

static void set_loopback(bool up) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {.ifr_name = "lo"};
    r.ifr_flags = up ? IFF_UP : 0;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &r), 0);
    close(fd);
}

static void a_link_goes_up_and_down(void **state) {
    (void)state;
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        print_message("# no network namespace can be made here\n");
        skip();
    }
    struct heard h = {.loop = loop_new()};
    struct monitor *m = monitor_new(h.loop, on_news, &h);
    assert_non_null(m);
    run_for(h.loop, 300 * LOOP_MS);
    assert_int_equal(h.news[MONITOR_NETWORK], 0); /* nothing happened */
    set_loopback(true);
    uint64_t from = loop_now(h.loop);
    run_for(h.loop, 3 * LOOP_S);
    assert_int_equal(h.news[MONITOR_NETWORK], 1); /* its address and routes came with it: one burst */
    assert_true(h.at - from < 1 * LOOP_S);
    run_for(h.loop, 700 * LOOP_MS);
    assert_int_equal(h.news[MONITOR_NETWORK], 1);
    set_loopback(false);
    run_for(h.loop, 3 * LOOP_S);
    assert_int_equal(h.news[MONITOR_NETWORK], 2);
    assert_int_equal(h.news[MONITOR_WOKEN], 0);
    monitor_free(m);
    monitor_free(NULL);
    loop_free(h.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links),
        cmocka_unit_test(addresses),
        cmocka_unit_test(routes),
        cmocka_unit_test(what_is_no_message),
        cmocka_unit_test(the_second_message_counts_too),
        cmocka_unit_test(a_link_goes_up_and_down),
    };
    return cmocka_run_group_tests_name("monitor", tests, NULL, NULL);
}
