#include "app/notify.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
    struct loop *loop;
    int fd; /* 0: nobody wants to know */
    struct sockaddr_un to;
    socklen_t len;
    struct loop_timer watchdog;
    uint64_t every; /* ns; 0: no watchdog */
    char status[256];
} state;

static void say(const char *text) {
    if (state.fd > 0)
        (void)!sendto(state.fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&state.to, state.len);
}

static bool read_socket(const char *path) {
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof state.to.sun_path || (*path != '/' && *path != '@')) return false;
    state.to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(state.to.sun_path, path, n);
    state.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (*path == '@') state.to.sun_path[0] = 0; /* the abstract namespace */
    else state.len++;
    return true;
}

/* The loop itself proves that it turns. */
static void on_watchdog(void *arg) {
    (void)arg;
    say("WATCHDOG=1");
    loop_timer_set(&state.watchdog, loop_now(state.loop) + state.every);
}

static void start_watchdog(void) {
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t us = usec ? strtoull(usec, NULL, 10) : 0;
    if (us == 0 || us > UINT64_C(1) << 50 || (pid && strtol(pid, NULL, 10) != (long)getpid())) return;
    state.every = us * 1000 / 2;
    loop_timer_set(&state.watchdog, loop_now(state.loop) + state.every);
}

void notify_start(struct loop *l) {
    memset(&state, 0, sizeof state);
    state.loop = l;
    loop_timer_init(&state.watchdog, l, on_watchdog, NULL);
    if (read_socket(getenv("NOTIFY_SOCKET"))) {
        state.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (state.fd > 0) start_watchdog();
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_stop(void) {
    loop_timer_stop(&state.watchdog);
    if (state.fd > 0) close(state.fd);
    state.fd = 0;
}

bool notify_wanted(void) { return state.fd > 0; }

void notify_ready(void) { say("READY=1"); }

void notify_reloading(void) {
    char text[80];
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, loop_now(state.loop) / 1000);
    say(text);
}

void notify_stopping(void) { say("STOPPING=1"); }

void notify_status(const char *line) {
    char text[sizeof state.status + 8];
    if (state.fd <= 0 || strncmp(line, state.status, sizeof state.status - 1) == 0) return;
    snprintf(state.status, sizeof state.status, "%s", line);
    snprintf(text, sizeof text, "STATUS=%s", state.status);
    say(text);
}
