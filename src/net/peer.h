/* peer.h - whose program is at the other end of a connection that was accepted from this machine.
 *
 * A Unix socket tells it (SO_PEERCRED). For TCP the kernel is asked for the client's own socket (sock_diag(7)), and the
 * answer counts only if that socket is in the hands of a process, so that a connection which its client closed already is
 * nobody's. Both name who made the connection; a program can give its connection to another one afterwards. Clients on other
 * machines, in other network namespaces, and of users that this process's user namespace does not have, are unknown; the
 * user 65534, as which these appear (user_namespaces(7)), is known only where the namespace has all users. The kernel answers at
 * once; without an answer a client is unknown.
 */
#ifndef ADIT_NET_PEER_H
#define ADIT_NET_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/stream.h"

#define PEER_NOBODY ((uid_t)-1) /* the uid of an unknown client; no user has it */

/* The descriptor that the kernel is asked through, opened when it is needed. */
struct peer_finder;

struct peer {
    uid_t uid;
    bool by_unix; /* of a Unix socket */
};

/* NULL when out of memory. */
struct peer_finder *peer_finder_new(void);
/* NULL is allowed. */
void peer_finder_free(struct peer_finder *f);
/* Whether the kernel tells about sockets at all, shown by one that listens there. 0 or an errno. */
int peer_probe(struct peer_finder *f, const struct addr *listening);

/* Whether a client of that user can be known here at all. */
bool peer_knows(uid_t uid);

/* The client of an accepted stream. f may be NULL: then those of TCP are unknown. */
struct peer peer_of(struct peer_finder *f, const struct stream *s);
/* Whether the client of a Unix socket, as it was when it connected, is in one of the groups. */
bool peer_unix_in_groups(const struct stream *s, const gid_t *gids, size_t n);
/* Whether the system's databases (passwd, group) have the user in one of the groups. May block as long as these do. */
bool peer_user_in_groups(uid_t uid, const gid_t *gids, size_t n);

/* Reads the kernel's answer about the socket from `client` to `server`; PEER_NOBODY unless it is that socket, connected and
 * held by a process. For peer_of() and tests. */
uid_t peer_answer(const void *messages, size_t n, uint32_t seq, const struct addr *client, const struct addr *server);

#endif
