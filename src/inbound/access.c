#include "inbound/access.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "inbound/conn.h"

static bool is_listed(const struct listen_config *c, uid_t uid) {
    for (size_t i = 0; i < c->n_allow_uids; i++)
        if (c->allow_uids[i] == uid) return true;
    return false;
}

static void remember(struct access *a, uid_t uid, bool in) {
    unsigned i = a->n_members < ACCESS_MEMBERS ? a->n_members++ : a->oldest++ % ACCESS_MEMBERS;
    a->members[i].uid = uid;
    a->members[i].in = in;
}

static bool user_in_groups(struct listener *l, uid_t uid) {
    struct access *a = &l->access;
    for (unsigned i = 0; i < a->n_members; i++)
        if (a->members[i].uid == uid) return a->members[i].in;
    bool in = peer_user_in_groups(uid, l->cfg.allow_gids, l->cfg.n_allow_gids);
    remember(a, uid, in);
    return in;
}

static bool in_groups(struct listener *l, const struct stream *s, struct peer p) {
    const struct listen_config *c = &l->cfg;
    if (!c->n_allow_gids) return false;
    return p.by_unix ? peer_unix_in_groups(s, c->allow_gids, c->n_allow_gids) : user_in_groups(l, p.uid);
}

static void say_refused(struct listener *l, uid_t uid, const struct addr *remote) {
    unsigned suppressed;
    char who[16] = "unknown", from[ADDR_TEXT_MAX], quoted[ADDR_TEXT_MAX + 16];
    if (!log_limit_pass(&l->access.limit, loop_now(l->cfg.loop), &suppressed)) return;
    if (uid != PEER_NOBODY) snprintf(who, sizeof who, "%u", (unsigned)uid);
    log_quote_str(addr_format(remote, from, sizeof from), quoted, sizeof quoted);
    log_warn("inbound", "a connection is refused: its user may not use this listener listener=%s uid=%s client=%s refused=%" PRIu64
             " suppressed=%u", l->cfg.name, who, quoted, l->counts.refused_user, suppressed);
}

bool access_admit(struct listener *l, const struct stream *s, const struct addr *remote, uid_t *uid) {
    const struct listen_config *c = &l->cfg;
    bool listed = c->n_allow_uids || c->n_allow_gids;
    *uid = PEER_NOBODY;
    if (!listed && !c->max_per_uid) return true;
    struct peer p = peer_of(c->peers, s);
    *uid = p.uid;
    if (!listed) return true;
    if (p.uid != PEER_NOBODY && (is_listed(c, p.uid) || in_groups(l, s, p))) return true;
    l->counts.refused_user++;
    say_refused(l, p.uid, remote);
    return false;
}

struct access_user *access_enter(struct listener *l, uid_t uid) {
    struct access_user *u = l->access.users;
    while (u && u->uid != uid) u = u->next;
    if (!u) {
        u = calloc(1, sizeof *u);
        if (!u) return NULL;
        *u = (struct access_user){.next = l->access.users, .listener = l, .uid = uid};
        l->access.users = u;
    }
    u->connections++;
    return u;
}

void access_leave(struct access_user *u) {
    if (--u->connections) return;
    struct access_user **at = &u->listener->access.users;
    while (*at != u) at = &(*at)->next;
    *at = u->next;
    free(u);
}

void access_forget(struct access *a) { a->n_members = a->oldest = 0; }
