/* unix_sock.h - a listening Unix socket at a path, safely made and safely taken away.
 *
 * The file has its mode from the first moment on. What is in the way is removed only if it is certainly a left-over of this
 * user: a socket that he owns and at which nobody listens; files, links, and sockets of others stay as they are. Two
 * programs that replace such a left-over do not get into each other's way (flock(2) on the directory). Source: unix(7).
 */
#ifndef ADIT_NET_UNIX_SOCK_H
#define ADIT_NET_UNIX_SOCK_H

#include <sys/types.h>

#include "base/addr.h"

#define UNIX_MODE 0600 /* the owner's programs alone may connect */

/* What was made; a plain value. */
struct unix_sock {
    struct addr at;
    dev_t dev;
    ino_t ino;
};

/* Makes the socket, non-blocking and close-on-exec, and listens. mode: who may connect, the permission bits of the file.
 * Waits only to replace a left-over: for another program that is at it, 200 ms at most. 0 with *made and *fd; else an errno, for unix_sock_text(). */
int unix_sock_listen(const struct addr *at, unsigned mode, int backlog, struct unix_sock *made, int *fd);
/* Removes the file if it still is the one that was made: to be called before its descriptor is closed. */
void unix_sock_remove(const struct unix_sock *made);
/* Another mode for the file if it still is the one that was made. 0 or an errno. */
int unix_sock_set_mode(const struct unix_sock *made, unsigned mode);
/* What an error of unix_sock_listen() means, for people. Static storage. */
const char *unix_sock_text(int errnum);

#endif
