/* local.h - listening Unix sockets: their files, and who is at the other end.
 *
 * sock_listen() binds any address; this looks after the file that goes with a Unix socket. A file left behind by a process
 * that is gone is replaced, one that something answers at is not, and what is no socket is never touched. The file is made
 * with the mode asked for from the first moment, and removed at the end only if it is still the one that was made.
 */
#ifndef ADIT_NET_LOCAL_H
#define ADIT_NET_LOCAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/addr.h"
#include "net/sock.h"

struct local;

/* path: at most 107 bytes. mode: as of chmod(2). As sock_listen() for the rest; *errnum EADDRINUSE: something answers there,
 * EEXIST: a file that is no socket, ENAMETOOLONG. */
struct local *local_listen(struct loop *l, const char *path, mode_t mode, int backlog,
                           void (*accepted)(struct stream *s, const struct addr *remote, void *arg), void *arg,
                           int *errnum);
/* Closes it and removes its file; accepted streams live on. NULL is allowed. */
void local_free(struct local *l);

/* Who connected, as the kernel noted it then (SO_PEERCRED); false if s is no stream of a Unix socket. */
struct local_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
};
bool local_peer(const struct stream *s, struct local_peer *peer);

#endif
