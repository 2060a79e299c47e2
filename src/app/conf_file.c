#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/conf_impl.h"
#include "base/secret.h"

#define READ_STEP 4096
#define CREDENTIAL "credential:"

/* ---- reading ---- */

int conf_read_all(int fd, char **text, size_t *n) {
    size_t cap = 0;
    ssize_t got;
    *text = NULL;
    *n = 0;
    do {
        if (cap - *n < READ_STEP) {
            size_t larger = cap ? 2 * cap : READ_STEP;
            char *p = malloc(larger + 1);
            if (!p) return ERR_NO_MEMORY;
            if (*n) memcpy(p, *text, *n);
            secret_wipe(*text, *n);
            free(*text);
            *text = p;
            cap = larger;
        }
        do got = read(fd, *text + *n, cap - *n);
        while (got < 0 && errno == EINTR);
        if (got < 0) return ERR_IO;
        *n += (size_t)got;
    } while (got > 0 && *n <= TOML_TEXT_MAX);
    (*text)[*n] = 0;
    return 0;
}

bool conf_exposed(const struct stat *st) {
    if (!S_ISREG(st->st_mode)) return false;
    return st->st_mode & S_IROTH || (st->st_mode & S_IRGRP && st->st_uid == geteuid());
}

/* ---- names of files ---- */

static bool good_credential(const char *name) {
    return *name && *name != '.' && !strchr(name, '/') && strlen(name) < NAME_MAX;
}

static bool join(char *buf, size_t cap, const char *dir, size_t dir_len, const char *name) {
    int n = snprintf(buf, cap, "%.*s%s", (int)dir_len, dir, name);
    return n > 0 && (size_t)n < cap;
}

static bool credential_path(const char *name, char *buf, size_t cap) {
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    int n = dir && *dir ? snprintf(buf, cap, "%s/%s", dir, name) : -1;
    return n > 0 && (size_t)n < cap;
}

/* Where the value of an option points to: NULL, or what is wrong with it. */
static const char *resolve(const struct conf_loader *l, const char *value, char *buf, size_t cap, bool *credential) {
    const char *slash = strrchr(l->conf->name, '/');
    *credential = strncmp(value, CREDENTIAL, sizeof CREDENTIAL - 1) == 0;
    if (*credential) {
        const char *name = value + sizeof CREDENTIAL - 1;
        if (!good_credential(name)) return "names no credential after " CREDENTIAL;
        if (!credential_path(name, buf, cap)) return "names a credential, but there is no $CREDENTIALS_DIRECTORY";
        return NULL;
    }
    size_t dir = slash && *value != '/' ? (size_t)(slash - l->conf->name) + 1 : 0;
    return join(buf, cap, l->conf->name, dir, value) ? NULL : "is too long";
}

/* ---- values from files ---- */

static bool is_secret(const struct conf_option *o) { return o->type == CONF_SECRET || o->type == CONF_KEY; }

/* A credential may be readable through an access list, whose mask looks like the group's bits: that is the service
 * manager's matter. */
static void check_mode(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                       const char *path, const struct stat *st, bool credential) {
    char show[CONF_SHOW_MAX];
    if (!is_secret(o) || !conf_exposed(st) || (credential && !(st->st_mode & S_IROTH))) return;
    conf_say(l, CONF_WARNING, node->place, "'%s': others can read the secret in %s (mode %04o): chmod go-rwx",
             o->key, conf_show(path, strlen(path), show), (unsigned)(st->st_mode & 07777));
}

/* One line feed at the end is the editor's. */
static size_t without_line_feed(const char *text, size_t n) {
    if (n && text[n - 1] == '\n') n--;
    if (n && text[n - 1] == '\r') n--;
    return n;
}

static enum conf_outcome read_at(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                 const char *path, bool credential, void *at) {
    char show[CONF_SHOW_MAX], *text = NULL;
    struct stat st;
    size_t n = 0;
    enum conf_outcome outcome = CONF_BAD;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int r = fd < 0 || fstat(fd, &st) < 0 ? ERR_IO : conf_read_all(fd, &text, &n);
    if (r == ERR_NO_MEMORY) {
        l->no_memory = true;
    } else if (r) {
        conf_say(l, CONF_ERROR, node->place, "'%s': %s cannot be read: %s", o->key,
                 conf_show(path, strlen(path), show), strerror(errno));
    } else if (n > TOML_TEXT_MAX) {
        conf_say(l, CONF_ERROR, node->place, "'%s': %s is larger than 1 MiB", o->key,
                 conf_show(path, strlen(path), show));
    } else {
        size_t used = without_line_feed(text, n);
        text[used] = 0;
        struct toml_node value = {.kind = TOML_STRING, .place = node->place, .u.string = {text, used}};
        check_mode(l, o, node, path, &st, credential);
        outcome = conf_value_read(l, o, &value, at);
        if (outcome == CONF_UNSET)
            conf_say(l, CONF_ERROR, node->place, "'%s': %s is empty", o->key, conf_show(path, strlen(path), show));
        if (outcome == CONF_UNSET) outcome = CONF_BAD;
    }
    secret_wipe(text, n);
    free(text);
    if (fd >= 0) close(fd);
    return outcome;
}

enum conf_outcome conf_file_value(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                  const struct conf_option *target, void *at) {
    char path[PATH_MAX];
    bool credential;
    const char *name = NULL, *fault;
    enum conf_outcome r = conf_value_read(l, o, node, &name);
    if (r != CONF_SET) return r;
    fault = l->files ? resolve(l, name, path, sizeof path, &credential)
                     : "names a file, which only a configuration that is a file itself may do";
    if (fault) {
        conf_say(l, CONF_ERROR, node->place, "'%s' %s", o->key, fault);
        return CONF_BAD;
    }
    return read_at(l, target, node, path, credential, at);
}

bool conf_file_credential(struct conf_loader *l, const struct conf_option *target, const struct toml_node *node,
                          void *at, enum conf_outcome *outcome) {
    char path[PATH_MAX], name[128];
    conf_option_path(target, NULL, name, sizeof name);
    if (!l->files || !credential_path(name, path, sizeof path) || access(path, F_OK)) return false;
    *outcome = read_at(l, target, node, path, true, at);
    return true;
}

enum conf_outcome conf_file_path(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                 const char **at) {
    char path[PATH_MAX];
    bool credential;
    const char *fault = resolve(l, node->u.string.p, path, sizeof path, &credential);
    if (!fault && credential) fault = "must be a file that can be written";
    if (fault) {
        conf_say(l, CONF_ERROR, node->place, "'%s' %s", o->key, fault);
        return CONF_BAD;
    }
    *at = arena_dup(&l->conf->arena, path, strlen(path));
    if (*at) return CONF_SET;
    l->no_memory = true;
    return CONF_BAD;
}
