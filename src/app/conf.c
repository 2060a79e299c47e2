#include "app/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/conf_impl.h"
#include "base/secret.h"

/* Of a snapshot: all texts of the largest file, and the tables made of them. */
#define ARENA_MAX ((size_t)8 * 1024 * 1024)

static const struct toml_place whole_file;

/* ---- loading ---- */

static int load(struct conf_loader *l, const char *name, const void *text, size_t n) {
    struct toml_doc *doc;
    struct toml_error error;
    int r = toml_parse(&doc, text, n, &error);
    if (r == ERR_CONFIG) conf_say(l, CONF_ERROR, error.place, "%s", error.why);
    if (r) return r;
    l->conf->name = arena_dup(&l->conf->arena, name, strlen(name));
    if (!l->conf->name) l->no_memory = true;
    conf_parse(l, toml_root(doc));
    toml_free(doc);
    if (l->no_memory) return ERR_NO_MEMORY;
    return l->rep->found[CONF_ERROR] ? ERR_CONFIG : 0;
}

/* The report has been begun. */
static int load_text(struct conf_loader *l, const char *name, const void *text, size_t n, struct conf **out) {
    l->conf = calloc(1, sizeof *l->conf);
    if (!l->conf) return ERR_NO_MEMORY;
    l->conf->refs = 1;
    arena_init(&l->conf->arena, ARENA_MAX);
    int r = load(l, name, text, n);
    if (r == 0)
        *out = l->conf;
    else
        conf_unref(l->conf);
    return r;
}

int conf_load_text(const char *name, const void *text, size_t n, struct conf **out, struct conf_report *rep) {
    *out = NULL;
    struct conf_loader l = {.rep = rep};
    conf_report_init(rep, name);
    return load_text(&l, name, text, n, out);
}

int conf_load_file(const char *path, struct conf **out, struct conf_report *rep) {
    struct conf_loader l = {.rep = rep, .files = true};
    struct stat st;
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    conf_report_init(rep, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int r = fd < 0 || fstat(fd, &st) < 0 ? ERR_IO : conf_read_all(fd, &text, &n);
    if (r == ERR_IO) conf_say(&l, CONF_ERROR, whole_file, "cannot be read: %s", strerror(errno));
    if (r == 0) r = load_text(&l, path, text, n, out);
    if (l.secrets && conf_exposed(&st))
        conf_say(&l, CONF_WARNING, whole_file, "others can read the secrets in it (mode %04o): chmod go-rwx",
                 (unsigned)(st.st_mode & 07777));
    secret_wipe(text, n);
    free(text);
    if (fd >= 0) close(fd);
    return r;
}

struct conf *conf_ref(struct conf *c) {
    c->refs++;
    return c;
}

void conf_unref(struct conf *c) {
    if (!c || --c->refs > 0) return;
    arena_free(&c->arena);
    secret_wipe(c, sizeof *c);
    free(c);
}

/* ---- looking things up ---- */

bool conf_place(const struct conf *c, const char *path, unsigned *line, unsigned *col) {
    const struct conf_mark *m = c->marks;
    while (m && strcmp(m->path, path) != 0) m = m->next;
    if (!m) return false;
    *line = m->place.line;
    *col = m->place.col;
    return true;
}

const struct conf_listener *conf_listener_find(const struct conf *c, const char *name) {
    for (size_t i = 0; i < c->n_listeners; i++)
        if (strcmp(c->listeners[i].name, name) == 0) return &c->listeners[i];
    return NULL;
}

static enum conf_reload diff(enum conf_scope scope, const void *a, const void *b) {
    enum conf_reload most = CONF_RELOAD_SAME;
    const struct conf_option *o;
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        if (o->scope != scope || o->alias_of || o->offset == CONF_NOWHERE || o->reload <= most) continue;
        if (!conf_value_equal(o, (const char *)a + o->offset, (const char *)b + o->offset)) most = o->reload;
    }
    return most;
}

enum conf_reload conf_listener_diff(const struct conf_listener *a, const struct conf_listener *b) {
    return diff(CONF_SCOPE_LISTENER, a, b);
}

enum conf_reload conf_endpoint_diff(const struct conf_endpoint *a, const struct conf_endpoint *b) {
    return diff(CONF_SCOPE_ENDPOINT, a, b);
}
