#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "app/conf_impl.h"

#define UNIX_PREFIX "unix:"
#define SYSTEMD_PREFIX "systemd:"

/* ---- where ---- */

static const char *after(const char *text, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* As systemd wants the names of sockets. */
static bool good_socket_name(const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (name[i] <= 0x20 || name[i] > 0x7e || name[i] == ':') return false;
    return n >= 1 && n <= CONF_SOCKET_NAME_MAX;
}

/* What is wrong with it, or NULL. */
static const char *read_address(struct conf_loader *l, const char *text, struct conf_address *a) {
    const char *path = after(text, UNIX_PREFIX), *name = after(text, SYSTEMD_PREFIX);
    *a = (struct conf_address){0};
    if (path) {
        if (path[0] != '/') return "must have an absolute path after unix:";
        return addr_from_path(&a->addr, path) ? "must have a path of at most 107 bytes" : NULL;
    }
    if (name) {
        if (!good_socket_name(name)) return "must have the FileDescriptorName of a systemd socket after systemd:";
        a->activated = arena_dup(&l->conf->arena, name, strlen(name));
        if (!a->activated) l->no_memory = true;
        return NULL;
    }
    if (addr_parse(&a->addr, text) == 0) return NULL;
    return "must be an IP address and a port, such as 127.0.0.1:1080 or [::1]:1080, or unix:/PATH, or systemd:NAME";
}

enum conf_outcome conf_listen_address(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                      struct conf_address *at) {
    struct conf_address a;
    char show[CONF_SHOW_MAX];
    const char *fault = read_address(l, node->u.string.p, &a);
    if (fault) {
        conf_say(l, CONF_ERROR, node->place, "'%s' %s, not %s", o->key, fault,
                 conf_show(node->u.string.p, node->u.string.n, show));
        return CONF_BAD;
    }
    *at = a;
    return l->no_memory ? CONF_BAD : CONF_SET;
}

bool conf_address_is_unix(const struct conf_address *a) { return a->addr.len && a->addr.u.sa.sa_family == AF_UNIX; }

bool conf_address_equal(const struct conf_address *a, const struct conf_address *b) {
    if (a->activated || b->activated) return a->activated && b->activated && strcmp(a->activated, b->activated) == 0;
    return addr_equal(&a->addr, &b->addr);
}

const char *conf_address_format(const struct conf_address *a, char *buf, size_t cap) {
    if (!a->activated) return addr_format(&a->addr, buf, cap);
    snprintf(buf, cap, SYSTEMD_PREFIX "%s", a->activated);
    return buf;
}

/* ---- the mode of a Unix socket ---- */

/* Octal digits in a string, as for chmod, or an integer (TOML has 0o660). */
static bool read_octal(const struct toml_node *node, uint64_t *v) {
    *v = node->kind == TOML_INTEGER ? (uint64_t)node->u.integer : 0;
    if (node->kind == TOML_INTEGER) return true;
    for (size_t i = 0; i < node->u.string.n; i++) {
        char c = node->u.string.p[i];
        if (c < '0' || c > '7' || i >= 5) return false;
        *v = *v * 8 + (uint64_t)(c - '0');
    }
    return node->u.string.n > 0;
}

enum conf_outcome conf_listen_mode(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                   unsigned *at) {
    uint64_t v;
    if (!read_octal(node, &v) || v > o->max) {
        conf_say(l, CONF_ERROR, node->place, "'%s' must be permissions in octal up to \"0777\", such as \"0660\"", o->key);
        return CONF_BAD;
    }
    *at = (unsigned)v;
    return CONF_SET;
}

/* ---- who ---- */

/* Whether a failed look-up means that there is no such name (getpwnam(3)), or that nothing is known. */
static bool means_none(int errnum) { return errnum == 0 || errnum == ENOENT || errnum == ESRCH || errnum == EPERM; }

/* The number of a name of the system's; false with a message. */
static bool look_up(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node, unsigned *id) {
    const char *name = node->u.string.p, *kind = o->type == CONF_UIDS ? "user" : "group";
    char show[CONF_SHOW_MAX];
    bool odd = node->u.string.n != strlen(name) || node->u.string.n == 0, found = false;
    errno = 0;
    if (!odd && o->type == CONF_UIDS) {
        const struct passwd *pw = getpwnam(name);
        if (pw) *id = pw->pw_uid;
        found = pw != NULL;
    } else if (!odd) {
        const struct group *gr = getgrnam(name);
        if (gr) *id = gr->gr_gid;
        found = gr != NULL;
    }
    int errnum = errno;
    if (found) return true;
    const char *shown = conf_show(name, node->u.string.n, show);
    if (means_none(errnum)) conf_say(l, CONF_ERROR, node->place, "'%s': this machine has no %s %s", o->key, kind, shown);
    else conf_say(l, CONF_ERROR, node->place, "'%s': cannot look up the %s %s: %s", o->key, kind, shown, strerror(errnum));
    return false;
}

static bool read_id(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node, unsigned *id) {
    char show[CONF_SHOW_MAX];
    if (node->kind == TOML_STRING) return look_up(l, o, node, id);
    if (node->kind == TOML_INTEGER && node->u.integer >= 0 && node->u.integer < UINT32_MAX) { /* -1 is nobody's */
        *id = (unsigned)node->u.integer;
        return true;
    }
    if (node->kind == TOML_INTEGER) snprintf(show, sizeof show, "%lld", (long long)node->u.integer);
    else snprintf(show, sizeof show, "%s", toml_kind_text(node->kind));
    conf_say(l, CONF_ERROR, node->place, "'%s' must be %s; this element is %s", o->key, conf_type_expected(o->type), show);
    return false;
}

enum conf_outcome conf_listen_ids(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                  struct conf_ids *at) {
    size_t n = 0, count = node->u.children.n;
    enum conf_outcome r = CONF_SET;
    if (count < o->min || count > o->max) { /* no list and a list of nobody must not be the same */
        conf_say(l, CONF_ERROR, node->place, count ? "'%s' has too many elements" : "'%s' must not be empty", o->key);
        return CONF_BAD;
    }
    unsigned *v = arena_alloc(&l->conf->arena, count * sizeof *v);
    if (!v) {
        l->no_memory = true;
        return CONF_BAD;
    }
    for (const struct toml_node *e = node->u.children.first; e; e = e->next) {
        if (read_id(l, o, e, &v[n])) n++;
        else r = CONF_BAD;
    }
    if (r == CONF_SET) *at = (struct conf_ids){v, n};
    return r;
}
