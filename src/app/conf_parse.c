#include <string.h>

#include "app/conf_impl.h"

#define NAME_MAX_BYTES 32 /* of a listener's name */
#define IN(scope) (1u << CONF_SCOPE_##scope)

/* What was found of each option of one table, by the option's place in the table of options. */
struct seen {
    const struct toml_node *node[CONF_OPTIONS_MAX];
    enum conf_outcome outcome[CONF_OPTIONS_MAX];
};

static size_t index_of(const struct conf_option *o) { return (size_t)(o - conf_option_at(0)); }

static size_t index_of_key(enum conf_scope scope, const char *key) {
    return index_of(conf_option_find(scope, key, strlen(key)));
}

static const struct toml_node *child_of(const struct toml_node *table, const char *key) {
    const struct toml_node *c = table->u.children.first;
    while (c && (c->key_len != strlen(key) || strcmp(c->key, key) != 0)) c = c->next;
    return c;
}

/* ---- one option ---- */

static void mark(struct conf_loader *l, const struct conf_option *o, const char *listener,
                 struct toml_place place) {
    char path[128];
    if (o->scope == CONF_SCOPE_USER) return;
    conf_option_path(o, listener, path, sizeof path);
    struct conf_mark *m = arena_alloc(&l->conf->arena, sizeof *m);
    char *copy = arena_dup(&l->conf->arena, path, strlen(path));
    if (!m || !copy) {
        l->no_memory = true;
        return;
    }
    *m = (struct conf_mark){.path = copy, .place = place, .next = l->conf->marks};
    l->conf->marks = m;
}

static void *place_in(const struct conf_option *o, void *base, union conf_value *spare) {
    return o->offset == CONF_NOWHERE ? (void *)spare : (char *)base + o->offset;
}

static void remark(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                   const void *value) {
    union conf_value preset = {0};
    if (!(o->flags & (CONF_SAY_SET | CONF_SAY_CHANGED))) return;
    if (o->flags & CONF_SAY_CHANGED) {
        conf_value_default(l, o, &preset);
        if (conf_value_equal(o, value, &preset)) return;
    }
    char show[CONF_SHOW_MAX];
    conf_say(l, o->severity, node->key_place, "%s: %s", conf_show(node->key, node->key_len, show), o->say);
}

static void both(struct conf_loader *l, const struct toml_node *node, const struct toml_node *first) {
    conf_say(l, CONF_ERROR, node->key_place, "'%s' and '%s' (line %u) are both set: keep one", node->key, first->key,
             first->key_place.line);
}

static bool is_empty(const struct toml_node *node) { return node->kind == TOML_STRING && node->u.string.n == 0; }

static bool names_a_file(enum conf_scope scope, const struct toml_node *node) {
    const struct conf_option *o = conf_option_find(scope, node->key, node->key_len);
    return o && o->file_of;
}

/* Both names of an option in one table: fine if they say the same. */
static void read_again(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                       const struct toml_node *first, const void *value) {
    union conf_value other = {0};
    if (names_a_file(o->scope, first)) {
        if (!is_empty(node)) both(l, node, first);
        return;
    }
    if (conf_value_read(l, o, node, &other) != CONF_SET || conf_value_equal(o, value, &other)) return;
    conf_say(l, CONF_ERROR, node->key_place, "'%s' and '%s' (line %u) are the same option with different values",
             node->key, first->key, first->key_place.line);
}

/* The value of another option, which is then as good as set. */
static void read_file(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node, void *base,
                      const char *listener, struct seen *seen) {
    const struct conf_option *target = conf_option_find(o->scope, o->file_of, strlen(o->file_of));
    size_t i = index_of(target);
    if (is_empty(node)) return;
    if (seen->outcome[i] == CONF_SET) {
        both(l, node, seen->node[i]);
        return;
    }
    enum conf_outcome r = conf_file_value(l, o, node, target, (char *)base + target->offset);
    seen->node[i] = node;
    seen->outcome[i] = r;
    if (r == CONF_SET) mark(l, target, listener, node->place);
}

/* base: the struct of the option's scope. */
static void read_option(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                        void *base, const char *listener, struct seen *seen) {
    const struct conf_option *target = o;
    if (o->file_of) {
        read_file(l, o, node, base, listener, seen);
        return;
    }
    if (o->alias_of) target = conf_option_find(o->scope, o->alias_of, strlen(o->alias_of));
    size_t i = index_of(target);
    union conf_value spare = {0};
    void *at = place_in(target, base, &spare);

    if (seen->outcome[i] == CONF_SET && !(o->flags & CONF_PREFIX)) {
        read_again(l, o, node, seen->node[i], at);
        return;
    }
    enum conf_outcome r = conf_value_read(l, o, node, at);
    seen->node[i] = node;
    seen->outcome[i] = r;
    if (r != CONF_SET) return;
    if (target->type == CONF_SECRET || target->type == CONF_KEY) l->secrets = true;
    mark(l, target, listener, node->place);
    remark(l, target, node, at);
}

static void unknown(struct conf_loader *l, unsigned scopes, const struct toml_node *node) {
    static const char *const homes[CONF_SCOPES] = {
        "at top level", NULL, "in a [listener.NAME] table", "in an element of users", "in [endpoint]"};
    char show[CONF_SHOW_MAX];
    const char *name = conf_show(node->key, node->key_len, show);
    for (int s = 0; s < CONF_SCOPES; s++) {
        if (!homes[s] || scopes >> s & 1) continue;
        if (!conf_option_find((enum conf_scope)s, node->key, node->key_len)) continue;
        conf_say(l, CONF_ERROR, node->key_place, "unknown option %s here; it belongs %s", name, homes[s]);
        return;
    }
    const struct conf_option *near = conf_suggest(scopes, node->key, node->key_len);
    if (near)
        conf_say(l, CONF_ERROR, node->key_place, "unknown option %s; did you mean '%s'?", name, near->key);
    else
        conf_say(l, CONF_ERROR, node->key_place, "unknown option %s", name);
}

static void set_defaults(struct conf_loader *l, enum conf_scope scope, void *base) {
    const struct conf_option *o;
    for (size_t i = 0; (o = conf_option_at(i)); i++)
        if (o->scope == scope && !o->alias_of && o->offset != CONF_NOWHERE)
            conf_value_default(l, o, (char *)base + o->offset);
}

/* All of a table whose options are of one scope. */
static void read_table(struct conf_loader *l, enum conf_scope scope, const struct toml_node *table, void *base,
                       const char *listener, struct seen *seen) {
    for (const struct toml_node *c = table->u.children.first; c; c = c->next) {
        const struct conf_option *o = conf_option_find(scope, c->key, c->key_len);
        if (o)
            read_option(l, o, c, base, listener, seen);
        else
            unknown(l, 1u << scope, c);
    }
}

static void check_required(struct conf_loader *l, enum conf_scope scope, struct toml_place table,
                           const struct seen *seen) {
    const struct conf_option *o;
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        if (o->scope != scope || !(o->flags & CONF_REQUIRED)) continue;
        if (!seen->node[i])
            conf_say(l, CONF_ERROR, table, "'%s' is missing", o->key);
        else if (seen->outcome[i] == CONF_UNSET)
            conf_say(l, CONF_ERROR, seen->node[i]->place, "'%s' must not be empty", o->key);
    }
}

/* ---- listeners ---- */

static bool same_name(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

enum conf_outcome conf_parse_users(struct conf_loader *l, const struct toml_node *list, struct conf_users *out) {
    if (list->u.children.n == 0) return CONF_UNSET;
    if (list->u.children.n > CONF_USERS_MAX) {
        conf_say(l, CONF_ERROR, list->place, "'users' may have at most %d elements", CONF_USERS_MAX);
        return CONF_BAD;
    }
    struct conf_user *v = arena_alloc(&l->conf->arena, list->u.children.n * sizeof *v);
    if (!v) {
        l->no_memory = true;
        return CONF_BAD;
    }
    unsigned before = l->rep->found[CONF_ERROR];
    size_t n = 0;
    for (const struct toml_node *e = list->u.children.first; e; e = e->next) {
        struct seen seen = {0};
        if (e->kind != TOML_TABLE) {
            conf_say(l, CONF_ERROR, e->place, "'users' must be %s; this element is %s",
                     conf_type_expected(CONF_USERS), toml_kind_text(e->kind));
            continue;
        }
        read_table(l, CONF_SCOPE_USER, e, &v[n], NULL, &seen);
        check_required(l, CONF_SCOPE_USER, e->place, &seen);
        for (size_t i = 0; i < n; i++)
            if (same_name(v[i].username, v[n].username))
                conf_say(l, CONF_ERROR, e->place, "this user name is in the list already");
        n++;
    }
    if (l->rep->found[CONF_ERROR] != before) return CONF_BAD;
    *out = (struct conf_users){v, n};
    return CONF_SET;
}

/* username and password of the table itself, and the list, become one list. */
static void join_users(struct conf_loader *l, struct conf_listener *li, const struct seen *seen) {
    size_t name = index_of_key(CONF_SCOPE_LISTENER, "username");
    size_t pass = index_of_key(CONF_SCOPE_LISTENER, "password");
    if (seen->outcome[name] == CONF_SET && seen->outcome[pass] == CONF_UNSET)
        conf_say(l, CONF_ERROR, seen->node[name]->key_place, "'username' needs a 'password'");
    if (seen->outcome[pass] == CONF_SET && seen->outcome[name] == CONF_UNSET)
        conf_say(l, CONF_ERROR, seen->node[pass]->key_place, "'password' needs a 'username'");
    li->users = li->listed;
    if (!li->username || !li->password) return;

    for (size_t i = 0; i < li->listed.n; i++)
        if (same_name(li->listed.v[i].username, li->username))
            conf_say(l, CONF_ERROR, seen->node[name]->place, "'username' is one of 'users' too");
    if (li->listed.n >= CONF_USERS_MAX)
        conf_say(l, CONF_ERROR, seen->node[name]->place, "'username' and 'users' together are more than %d",
                 CONF_USERS_MAX);
    struct conf_user *v = arena_alloc(&l->conf->arena, (li->listed.n + 1) * sizeof *v);
    if (!v) {
        l->no_memory = true;
        return;
    }
    v[0] = (struct conf_user){li->username, li->password};
    if (li->listed.n) memcpy(v + 1, li->listed.v, li->listed.n * sizeof *v);
    li->users = (struct conf_users){v, li->listed.n + 1};
}

/* Who is not on this machine must prove who he is, unless the file says in so many words that he need not. */
static void check_open(struct conf_loader *l, const struct conf_listener *li, struct toml_place place,
                       const struct seen *seen) {
    char at[CONF_ADDRESS_TEXT_MAX];
    if (li->address.activated) return; /* it shows when it is passed */
    if (li->allow_open || li->users.n || addr_is_loopback(&li->address.addr)) return;
    /* Credentials that are there but wrong were reported. */
    static const char *const keys[] = {"username", "password", "users"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (seen->outcome[index_of_key(CONF_SCOPE_LISTENER, keys[i])] != CONF_UNSET) return;
    conf_say(l, CONF_ERROR, place,
             "listener '%s' would be open to everyone who can reach %s: give it username and password, or set "
             "allow_open = true",
             li->name, conf_address_format(&li->address, at, sizeof at));
}

static bool same_family(const struct addr *a, const struct addr *b) {
    return a->u.sa.sa_family == b->u.sa.sa_family;
}

/* Listening on both would fail: the same address, or one of them is all addresses. */
static bool collide(const struct conf_address *x, const struct conf_address *y) {
    const struct addr *a = &x->addr, *b = &y->addr;
    if (x->activated || y->activated || (conf_address_is_unix(x) && conf_address_is_unix(y)))
        return conf_address_equal(x, y);
    if (addr_port(a) == 0 || addr_port(a) != addr_port(b)) return false;
    return addr_equal(a, b) || (same_family(a, b) && (addr_is_unspecified(a) || addr_is_unspecified(b)));
}

static void check_collision(struct conf_loader *l, const struct conf_listener *v, size_t n,
                            struct toml_place place) {
    char at[CONF_ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < n; i++) {
        if (!collide(&v[i].address, &v[n].address)) continue;
        conf_say(l, CONF_ERROR, place, "listener '%s' cannot listen at %s: listener '%s' does", v[n].name,
                 conf_address_format(&v[n].address, at, sizeof at), v[i].name);
        return;
    }
}

static void check_mode(struct conf_loader *l, const struct conf_listener *li, const struct seen *seen) {
    const struct toml_node *node = seen->node[index_of_key(CONF_SCOPE_LISTENER, "mode")];
    if (node && !conf_address_is_unix(&li->address))
        conf_say(l, CONF_ERROR, node->key_place, "'mode' goes with a Unix socket, an address such as unix:/run/adit.socks");
}

static bool good_name(const struct toml_node *node) {
    if (node->key_len == 0 || node->key_len > NAME_MAX_BYTES) return false;
    for (size_t i = 0; i < node->key_len; i++) {
        char c = node->key[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '-' && c != '_') return false;
    }
    return true;
}

/* Makes the n-th of v. */
static bool read_listener(struct conf_loader *l, const struct toml_node *node, struct conf_listener *v, size_t n) {
    char show[CONF_SHOW_MAX];
    if (node->kind != TOML_TABLE) {
        conf_say(l, CONF_ERROR, node->key_place,
                 "%s in [listener]: a listener is a table of its own, [listener.NAME]",
                 conf_show(node->key, node->key_len, show));
        return false;
    }
    if (!good_name(node)) {
        conf_say(l, CONF_ERROR, node->key_place,
                 "the name of a listener has 1 to %d letters, digits, '-' or '_', not %s", NAME_MAX_BYTES,
                 conf_show(node->key, node->key_len, show));
        return false;
    }
    struct conf_listener *li = &v[n];
    struct seen seen = {0};
    li->name = arena_dup(&l->conf->arena, node->key, node->key_len);
    if (!li->name) {
        l->no_memory = true;
        return false;
    }
    set_defaults(l, CONF_SCOPE_LISTENER, li);
    read_table(l, CONF_SCOPE_LISTENER, node, li, li->name, &seen);
    size_t address = index_of_key(CONF_SCOPE_LISTENER, "address");
    struct toml_place place = seen.node[address] ? seen.node[address]->place : node->key_place;
    join_users(l, li, &seen);
    if (seen.outcome[address] == CONF_BAD) return true;
    check_mode(l, li, &seen);
    check_open(l, li, place, &seen);
    check_collision(l, v, n, place);
    return true;
}

static void read_listeners(struct conf_loader *l, const struct toml_node *table) {
    size_t room = table ? table->u.children.n : 0, n = 0;
    if (room > CONF_LISTENERS_MAX + 1) {
        conf_say(l, CONF_ERROR, table->key_place, "there may be at most %d listeners", CONF_LISTENERS_MAX);
        return;
    }
    struct conf_listener *v = arena_alloc(&l->conf->arena, (room + 1) * sizeof *v);
    if (!v) {
        l->no_memory = true;
        return;
    }
    for (const struct toml_node *c = room ? table->u.children.first : NULL; c; c = c->next) {
        const struct conf_option *o = conf_option_find(CONF_SCOPE_LISTENERS, c->key, c->key_len);
        if (o)
            conf_say(l, o->severity, c->key_place, "'listener.%s': %s", o->key, o->say);
        else if (read_listener(l, c, v, n))
            n++;
    }
    if (n > CONF_LISTENERS_MAX)
        conf_say(l, CONF_ERROR, table->key_place, "there may be at most %d listeners", CONF_LISTENERS_MAX);
    if (n == 0) {
        v[0].name = "mixed";
        set_defaults(l, CONF_SCOPE_LISTENER, &v[0]);
        n = 1;
    }
    l->conf->listeners = v;
    l->conf->n_listeners = n;
}

/* ---- the endpoint ---- */

/* What the text says nothing about may come from the service manager. */
static void read_credentials(struct conf_loader *l, struct seen *seen) {
    const struct conf_option *o;
    struct toml_node *whole_file = arena_alloc(&l->conf->arena, sizeof *whole_file);
    if (!whole_file) {
        l->no_memory = true;
        return;
    }
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        if (o->scope != CONF_SCOPE_ENDPOINT || !o->file_of) continue;
        const struct conf_option *target = conf_option_find(o->scope, o->file_of, strlen(o->file_of));
        size_t at = index_of(target);
        if (seen->outcome[at] != CONF_UNSET) continue;
        if (conf_file_credential(l, target, whole_file, (char *)&l->conf->endpoint + target->offset,
                                 &seen->outcome[at]))
            seen->node[at] = whole_file;
    }
}

static void check_pair(struct conf_loader *l, const struct seen *seen) {
    size_t certificate = index_of_key(CONF_SCOPE_ENDPOINT, "client_certificate");
    size_t key = index_of_key(CONF_SCOPE_ENDPOINT, "client_key");
    if (seen->outcome[certificate] == CONF_SET && seen->outcome[key] == CONF_UNSET)
        conf_say(l, CONF_ERROR, seen->node[certificate]->place, "'client_certificate' needs a 'client_key'");
    if (seen->outcome[key] == CONF_SET && seen->outcome[certificate] == CONF_UNSET)
        conf_say(l, CONF_ERROR, seen->node[key]->place, "'client_key' needs a 'client_certificate'");
}

static void check_endpoint(struct conf_loader *l, struct toml_place place, struct seen *seen) {
    const struct conf_endpoint *e = &l->conf->endpoint;
    const struct toml_node *window = seen->node[index_of_key(CONF_SCOPE_ENDPOINT, "session_window")];
    if (!window) window = seen->node[index_of_key(CONF_SCOPE_ENDPOINT, "stream_window")];
    const struct toml_node *skip = seen->node[index_of_key(CONF_SCOPE_ENDPOINT, "skip_verification")];
    read_credentials(l, seen);
    check_required(l, CONF_SCOPE_ENDPOINT, place, seen);
    check_pair(l, seen);
    if (skip && e->skip_verification && !e->pins.n)
        conf_say(l, CONF_WARNING, skip->key_place,
                 "'skip_verification': any certificate is accepted: whoever is on the way can read and change "
                 "everything");
    if (window && e->session_window < e->stream_window)
        conf_say(l, CONF_WARNING, window->place, "'session_window' is smaller than 'stream_window' and limits it");
}

/* ---- top level ---- */

/* Where a key of the root goes: its own options first, then, in a file without [endpoint], the endpoint's. */
static void read_root(struct conf_loader *l, const struct toml_node *root, struct seen *seen) {
    bool nested = child_of(root, "endpoint");
    const struct toml_node *flat = NULL;
    for (const struct toml_node *c = root->u.children.first; c; c = c->next) {
        const struct conf_option *o = conf_option_find(CONF_SCOPE_ROOT, c->key, c->key_len);
        if (o) {
            read_option(l, o, c, l->conf, NULL, seen);
            continue;
        }
        o = conf_option_find(CONF_SCOPE_ENDPOINT, c->key, c->key_len);
        if (!o) {
            unknown(l, nested ? IN(ROOT) : IN(ROOT) | IN(ENDPOINT), c);
            continue;
        }
        if (nested && !flat)
            conf_say(l, CONF_ERROR, c->key_place,
                     "'%s' is the endpoint's and stands at top level, but there is an [endpoint] table too: keep "
                     "one form",
                     o->key);
        if (!flat) flat = c;
        if (!nested) read_option(l, o, c, &l->conf->endpoint, NULL, seen);
    }
    if (!nested && flat) check_endpoint(l, flat->key_place, seen);
    if (!nested && !flat)
        conf_say(l, CONF_ERROR, (struct toml_place){1, 1},
                 "no endpoint is configured: hostname, addresses, username and password are needed");
}

void conf_parse(struct conf_loader *l, const struct toml_node *root) {
    struct seen seen = {0};
    set_defaults(l, CONF_SCOPE_ROOT, l->conf);
    set_defaults(l, CONF_SCOPE_ENDPOINT, &l->conf->endpoint);
    read_root(l, root, &seen);

    size_t endpoint = index_of_key(CONF_SCOPE_ROOT, "endpoint");
    size_t listener = index_of_key(CONF_SCOPE_ROOT, "listener");
    if (seen.outcome[endpoint] == CONF_SET) {
        read_table(l, CONF_SCOPE_ENDPOINT, seen.node[endpoint], &l->conf->endpoint, NULL, &seen);
        check_endpoint(l, seen.node[endpoint]->key_place, &seen);
    }
    if (!seen.node[listener])
        read_listeners(l, NULL);
    else if (seen.outcome[listener] == CONF_SET)
        read_listeners(l, seen.node[listener]);
}
