#include "net/unix_sock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define LOCK_TRIES 20
#define LOCK_STEP 10 /* ms */

static const char *path_of(const struct addr *at) { return at->u.un.sun_path; }

static int new_socket(void) { return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

/* Holds the directory until the descriptor is closed. -1 where that is not possible, which must not keep anybody from
 * listening; *busy: somebody else holds it. */
static int lock_directory(const char *path, bool *busy) {
    char dir[sizeof(struct sockaddr_un)];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    *busy = false;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
        *busy = errno == EWOULDBLOCK;
        if (!*busy) break;
        poll(NULL, 0, LOCK_STEP);
    }
    close(fd);
    return -1;
}

static bool is_still(const struct unix_sock *made) {
    struct stat st;
    return lstat(path_of(&made->at), &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == made->dev && st.st_ino == made->ino;
}

/* 0 or an errno. */
static int identify(struct unix_sock *made, const struct addr *at) {
    struct stat st;
    if (lstat(path_of(at), &st) < 0) return errno;
    if (!S_ISSOCK(st.st_mode)) return ENOTSOCK;
    *made = (struct unix_sock){.at = *at, .dev = st.st_dev, .ino = st.st_ino};
    return 0;
}

/* Whether somebody listens: 0 if so, ECONNREFUSED if not, or another errno. */
static int knock(const struct addr *at) {
    int fd = new_socket();
    if (fd < 0) return errno;
    int r = connect(fd, &at->u.sa, at->len) == 0 ? 0 : errno;
    close(fd);
    return r == EAGAIN || r == EPROTOTYPE ? 0 : r; /* a full queue, another kind of socket: in use */
}

/* What is in the way: ECONNREFUSED if it is a socket of ours at which nobody seems to listen, with *there; 0 if there is
 * nothing; else why it must stay. */
static int in_the_way(const struct addr *at, struct unix_sock *there) {
    struct stat st;
    if (lstat(path_of(at), &st) < 0) return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(st.st_mode)) return ENOTSOCK;
    if (st.st_uid != geteuid()) return EEXIST;
    *there = (struct unix_sock){.at = *at, .dev = st.st_dev, .ino = st.st_ino};
    int r = knock(at);
    return r ? r : EADDRINUSE;
}

/* Removes what is in the way if nobody can miss it; the directory is locked. 0 when the way is free, or an errno. */
static int clear_away(const struct addr *at) {
    struct unix_sock there;
    char quoted[ADDR_TEXT_MAX + 16];
    poll(NULL, 0, LOCK_STEP); /* one that was bound a moment ago listens by now */
    int r = in_the_way(at, &there);
    if (r != ECONNREFUSED) return r;
    log_info("listen", "replacing a socket that nothing answers at path=%s",
             log_quote_str(path_of(at), quoted, sizeof quoted));
    unix_sock_remove(&there);
    return 0;
}

/* The mode is there from the start: the socket brings it, and the umask takes away the rest where the directory gives
 * rights of its own. */
static int bind_once(int fd, const struct addr *at, unsigned mode) {
    mode_t was = umask(0777 & ~mode);
    int r = fchmod(fd, mode) < 0 || bind(fd, &at->u.sa, at->len) < 0 ? errno : 0;
    umask(was);
    return r;
}

static int listen_at(int fd, const struct addr *at, int backlog, struct unix_sock *made) {
    int r = identify(made, at);
    if (r) return r;
    if (listen(fd, backlog) == 0) return 0;
    r = errno;
    unix_sock_remove(made);
    return r;
}

/* Over what an earlier program left there. One at a time: what another one has just bound looks like a left-over. */
static int replace(int fd, const struct addr *at, unsigned mode, int backlog, struct unix_sock *made) {
    bool busy;
    int lock = lock_directory(path_of(at), &busy);
    if (busy) return EBUSY;
    int r = clear_away(at);
    if (r == 0) r = bind_once(fd, at, mode);
    if (r == 0) r = listen_at(fd, at, backlog, made);
    if (lock >= 0) close(lock);
    return r;
}

int unix_sock_listen(const struct addr *at, unsigned mode, int backlog, struct unix_sock *made, int *fd) {
    struct unix_sock there;
    *fd = new_socket();
    if (*fd < 0) return errno;
    int r = bind_once(*fd, at, mode);
    if (r == 0) {
        r = listen_at(*fd, at, backlog, made);
    } else if (r == EADDRINUSE) {
        r = in_the_way(at, &there);
        if (r == 0 || r == ECONNREFUSED) r = replace(*fd, at, mode, backlog, made);
    }
    if (r) close(*fd);
    return r;
}

void unix_sock_remove(const struct unix_sock *made) {
    if (is_still(made)) unlink(path_of(&made->at));
}

int unix_sock_set_mode(const struct unix_sock *made, unsigned mode) {
    char path[64];
    struct stat st;
    /* O_PATH and the detour make sure that it is this file, whatever its name means by then. */
    int fd = open(path_of(&made->at), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno;
    int r = fstat(fd, &st) < 0 ? errno : 0;
    if (r == 0 && (st.st_dev != made->dev || st.st_ino != made->ino)) r = ENOENT;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (r == 0 && chmod(path, mode) < 0) r = errno;
    close(fd);
    return r;
}

const char *unix_sock_text(int errnum) {
    switch (errnum) {
    case ENOTSOCK: return "there is a file that is not a socket; it is left alone";
    case EEXIST: return "there is a socket of another user; it is left alone";
    case EADDRINUSE: return "another program uses it";
    case EBUSY: return "another program holds the directory";
    default: return strerror(errnum);
    }
}
