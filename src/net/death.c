#include "net/death.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"

#define EVENTS_MAX 64

static struct {
    struct loop *loop;
    struct loop_io io;
    int fd;
    unsigned members;
} set;

static void on_set(unsigned events, void *arg) {
    (void)events, (void)arg;
    struct epoll_event e[EVENTS_MAX];
    int n = epoll_wait(set.fd, e, EVENTS_MAX, 0);
    for (int i = 0; i < n; i++) {
        struct death *d = e[i].data.ptr;
        d->cb(d->arg);
    }
}

static bool set_open(struct loop *l) {
    if (set.members) return set.loop == l;
    set.fd = epoll_create1(EPOLL_CLOEXEC);
    if (set.fd < 0) {
        log_debug("sock", "resets of idle sockets are noticed late error=\"%s\"", strerror(errno));
        return false;
    }
    set.loop = l;
    loop_io_init(&set.io, l, on_set, NULL);
    loop_io_set(&set.io, set.fd, LOOP_READ);
    return true;
}

static void set_close(void) {
    if (set.members) return;
    loop_io_set(&set.io, set.fd, 0);
    close(set.fd);
}

void death_init(struct death *d, void (*cb)(void *arg), void *arg) { *d = (struct death){.cb = cb, .arg = arg}; }

void death_start(struct death *d, struct loop *l, int fd) {
    /* Errors and hang-ups are reported without being asked for. */
    struct epoll_event e = {.events = EPOLLET, .data.ptr = d};
    if (d->watched || !set_open(l)) return;
    if (epoll_ctl(set.fd, EPOLL_CTL_ADD, fd, &e) < 0) {
        set_close();
        return;
    }
    d->fd = fd;
    d->watched = true;
    set.members++;
}

void death_stop(struct death *d) {
    if (!d->watched) return;
    epoll_ctl(set.fd, EPOLL_CTL_DEL, d->fd, NULL);
    d->watched = false;
    set.members--;
    set_close();
}
