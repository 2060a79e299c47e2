/* monitor.h - tells when this machine's network changed, and when the machine woke from a sleep.
 *
 * Links, addresses and routes come from rtnetlink; sleeps from the loop. Bursts are told once, MONITOR_SETTLE ms after
 * the last of their messages, at most MONITOR_LATEST ms after the first. A sleep is told MONITOR_SETTLE ms late, when
 * what had been received before it has been read and proves nothing any more. What happens all the time and moves nothing
 * (renewed lifetimes of IPv6 addresses, cloned routes, statistics of a link) is left out. One monitor per loop; it is
 * freed before the loop. Where the system gives no netlink socket, only sleeps are told, and the log says so.
 */
#ifndef ADIT_NET_MONITOR_H
#define ADIT_NET_MONITOR_H

#include "base/loop.h"

#define MONITOR_SETTLE 150
#define MONITOR_LATEST 600

enum monitor_news {
    MONITOR_NETWORK, /* a link, an address or a route changed */
    MONITOR_WOKEN,   /* the machine slept, or the process did not run for some seconds; the network may have changed */
};

struct monitor;
/* Called from the loop or its deferred queue; may free the monitor. */
typedef void monitor_cb(enum monitor_news news, void *arg);

/* NULL when out of memory. */
struct monitor *monitor_new(struct loop *l, monitor_cb *cb, void *arg);
/* NULL is allowed. */
void monitor_free(struct monitor *m);

/* Whether n bytes of rtnetlink messages hold one that counts. Bytes that are no message do not. */
int monitor_counts(const void *messages, unsigned n);

#endif
