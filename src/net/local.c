#include "net/local.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "net/sock_impl.h"

struct local {
    struct listener_sock *sock;
    dev_t dev;
    ino_t ino;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static bool make_addr(struct addr *a, const char *path) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof un.sun_path) return false;
    memcpy(un.sun_path, path, n);
    return addr_from_sockaddr(a, (struct sockaddr *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1));
}

/* Whether nothing answers at the socket. */
static bool is_stale(const struct addr *a) {
    int fd = sock_new(AF_UNIX, SOCK_STREAM);
    if (fd < 0) return false;
    bool refused = connect(fd, &a->u.sa, a->len) < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

/* Makes way for the new socket; 0 or an errno. */
static int clear_path(const char *path, const struct addr *a) {
    struct stat st;
    if (lstat(path, &st) < 0) return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(st.st_mode)) return EEXIST;
    if (!is_stale(a)) return EADDRINUSE;
    log_info("listen", "replacing a socket that nothing answers at path=%s", path);
    return unlink(path) < 0 && errno != ENOENT ? errno : 0;
}

struct local *local_listen(struct loop *l, const char *path, mode_t mode, int backlog,
                           void (*accepted)(struct stream *s, const struct addr *remote, void *arg), void *arg,
                           int *errnum) {
    struct addr a;
    struct stat st;
    struct local *made = calloc(1, sizeof *made);
    *errnum = made ? 0 : ENOMEM;
    if (!*errnum && !make_addr(&a, path)) *errnum = ENAMETOOLONG;
    if (!*errnum) *errnum = clear_path(path, &a);
    if (!*errnum) {
        strcpy(made->path, path);
        mode_t before = umask(0777 & ~mode);
        made->sock = sock_listen(l, &a, backlog, accepted, arg, errnum);
        umask(before);
    }
    if (*errnum) {
        free(made);
        return NULL;
    }
    if (lstat(path, &st) == 0) {
        made->dev = st.st_dev;
        made->ino = st.st_ino;
    }
    return made;
}

void local_free(struct local *l) {
    struct stat st;
    if (!l) return;
    if (lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino) unlink(l->path);
    sock_listen_free(l->sock);
    free(l);
}

bool local_peer(const struct stream *s, struct local_peer *peer) {
    struct ucred c;
    socklen_t len = sizeof c;
    int fd = sock_stream_fd(s);
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0 || c.pid == 0) return false;
    *peer = (struct local_peer){c.uid, c.gid, c.pid};
    return true;
}
