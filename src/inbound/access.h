/* access.h - who may use a listener: which users of this machine, and how many connections each may have. Private to
 * src/inbound.
 *
 * A listener has one `struct access`. Clients of TCP are in a group if the system's databases say so when their user first
 * connects; that is remembered until the lists change. Those of a Unix socket have the groups of their process.
 */
#ifndef ADIT_INBOUND_ACCESS_H
#define ADIT_INBOUND_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "inbound/listen.h"
#include "net/peer.h"

#define ACCESS_MEMBERS 64 /* users of TCP whose membership is remembered */

/* One who has connections to the listener; all whose user is not known, or not asked for, are one. */
struct access_user {
    struct access_user *next;
    struct listener *listener;
    uid_t uid;
    unsigned connections;
};

struct access {
    struct access_user *users;
    struct {
        uid_t uid;
        bool in;
    } members[ACCESS_MEMBERS];
    unsigned n_members, oldest;
    struct log_limit limit;
};

/* Whether the client of the stream may use the listener, and who it is; what is refused is counted and told in the log. */
bool access_admit(struct listener *l, const struct stream *s, const struct addr *remote, uid_t *uid);
/* One more connection of the user. NULL when out of memory. */
struct access_user *access_enter(struct listener *l, uid_t uid);
/* One less; may free it. */
void access_leave(struct access_user *u);
/* The lists have changed. */
void access_forget(struct access *a);

#endif
