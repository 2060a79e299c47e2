/* death.h - tells of the reset of a socket that nobody reads or writes now.
 *
 * A loop reports descriptors as readable or writable, and one whose owner is paused must be watched for neither,
 * or it would report without end. Such sockets join one epoll set that asks for errors only, by edges; the set
 * itself is watched by the loop. It exists while it has members. Process-wide, for one loop at a time: while it
 * serves one, sockets of another are not watched and their resets are noticed at the next operation.
 */
#ifndef ADIT_NET_DEATH_H
#define ADIT_NET_DEATH_H

#include <stdbool.h>

#include "base/loop.h"

/* Embedded in its owner, who stops it before the descriptor is closed. */
struct death {
    void (*cb)(void *arg); /* an error or the end of both directions; must not free any member */
    void *arg;
    int fd;
    bool watched;
};

void death_init(struct death *d, void (*cb)(void *arg), void *arg);
/* Nothing if d is watched already. */
void death_start(struct death *d, struct loop *l, int fd);
void death_stop(struct death *d);

#endif
