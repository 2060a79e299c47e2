#include "net/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define NO_NAME "unknown"

static struct {
    struct {
        int fd;
        char name[ACTIVATION_NAME_MAX + 1];
    } sock[ACTIVATION_MAX];
    size_t n;
} passed;

/* A number of digits alone. */
static bool parse(const char *text, unsigned long max, unsigned long *v) {
    char *end;
    if (!text || *text < '0' || *text > '9') return false;
    errno = 0;
    *v = strtoul(text, &end, 10);
    return !*end && errno == 0 && *v <= max;
}

static void take_name(size_t i, const char **names) {
    const char *name = *names ? *names : NO_NAME;
    size_t n = strcspn(name, ":");
    if (*names) *names = name[n] ? name + n + 1 : NULL;
    snprintf(passed.sock[i].name, sizeof passed.sock[i].name, "%.*s", (int)(n > ACTIVATION_NAME_MAX ? 0 : n), name);
}

static int take(const char *fds, const char *names, char *why, size_t cap) {
    unsigned long n;
    if (!parse(fds, ACTIVATION_MAX, &n)) {
        snprintf(why, cap, "socket activation: $LISTEN_FDS is no number from 0 to %d", ACTIVATION_MAX);
        return ERR_CONFIG;
    }
    for (unsigned long i = 0; i < n; i++) {
        int fd = FIRST_FD + (int)i;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
            snprintf(why, cap, "socket activation: $LISTEN_FDS is %lu, but descriptor %d is not open", n, fd);
            return ERR_CONFIG;
        }
        passed.sock[i].fd = fd;
        take_name(i, &names);
        passed.n = i + 1;
    }
    return 0;
}

int activation_take(char *why, size_t cap) {
    const char *fds = getenv("LISTEN_FDS");
    unsigned long pid;
    int r = 0;
    /* Another process's, when it was inherited by mistake. */
    if (fds && parse(getenv("LISTEN_PID"), (unsigned long)-1, &pid) && pid == (unsigned long)getpid())
        r = take(fds, getenv("LISTEN_FDNAMES"), why, cap);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    unsetenv("LISTEN_PIDFDID");
    return r;
}

static int option(int fd, int name) {
    int v = -1;
    socklen_t len = sizeof v;
    return getsockopt(fd, SOL_SOCKET, name, &v, &len) < 0 ? -1 : v;
}

/* What is wrong with it as a listener's socket, or NULL. */
static const char *fault(int fd) {
    int family = option(fd, SO_DOMAIN);
    if (family < 0) return "is no socket";
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) return "is neither of TCP nor a Unix socket";
    if (option(fd, SO_TYPE) != SOCK_STREAM) return "carries datagrams, not connections";
    if (option(fd, SO_ACCEPTCONN) != 1) return "does not listen (in its unit Accept= must be no)";
    return NULL;
}

static void say_missing(const char *name, char *why, size_t cap) {
    if (!passed.n) {
        snprintf(why, cap, "adit was not started by socket activation");
        return;
    }
    char names[ACTIVATION_WHY_MAX / 2] = "", quoted[ACTIVATION_NAME_MAX + 3];
    for (size_t i = 0, at = 0; i < passed.n && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "",
                               log_quote_str(passed.sock[i].name, quoted, sizeof quoted));
    snprintf(why, cap, "no socket '%s' was passed; there is: %s", name, names);
}

int activation_open(const char *name, int *fd, char *why, size_t cap) {
    size_t found = passed.n, many = 0;
    for (size_t i = 0; i < passed.n; i++) {
        if (strcmp(passed.sock[i].name, name) != 0) continue;
        found = i;
        many++;
    }
    if (many != 1) {
        if (many) snprintf(why, cap, "%zu sockets '%s' were passed: give each a FileDescriptorName= of its own", many, name);
        else say_missing(name, why, cap);
        return ERR_CONFIG;
    }
    const char *wrong = fault(passed.sock[found].fd);
    if (wrong) {
        snprintf(why, cap, "what was passed as '%s' %s", name, wrong);
        return ERR_CONFIG;
    }
    *fd = fcntl(passed.sock[found].fd, F_DUPFD_CLOEXEC, 0);
    if (*fd >= 0 && fcntl(*fd, F_SETFL, O_NONBLOCK) == 0) return 0;
    snprintf(why, cap, "%s", strerror(errno));
    if (*fd >= 0) close(*fd);
    return ERR_CONFIG;
}

const char *activation_name(size_t i) { return i < passed.n ? passed.sock[i].name : NULL; }

void activation_close(void) {
    while (passed.n) close(passed.sock[--passed.n].fd);
}
