#include <inttypes.h>
#include <string.h>

#include "app/conf_impl.h"
#include "codec/base64.h"

#define MASK "********"
#define COLUMN 44 /* of the comments */

struct printer {
    FILE *to;
    bool secrets; /* are written, not masked */
    bool set_only; /* defaults are left out, and so are the comments */
};

/* --- values --- */

/* A TOML basic string. Returns its length. */
int conf_put_text(FILE *to, const char *p) {
    int n = 2;
    fputc('"', to);
    for (; *p; p++) {
        if (*p == '"' || *p == '\\') n += fprintf(to, "\\%c", *p);
        else if (*p == '\n') n += fprintf(to, "\\n");
        else if (*p == '\t') n += fprintf(to, "\\t");
        else if (*p == '\r') n += fprintf(to, "\\r");
        else n += fputc(*p, to) != EOF;
    }
    fputc('"', to);
    return n;
}

static int put_words(FILE *to, const char *words, unsigned set) {
    int n = fprintf(to, "[");
    size_t len;
    const char *word, *before = "";
    for (int i = 0; (word = conf_word_at(words, i, &len)); i++) {
        if (!(set >> i & 1)) continue;
        n += fprintf(to, "%s\"%.*s\"", before, (int)len, word);
        before = ", ";
    }
    return n + fprintf(to, "]");
}

static int put_addresses(FILE *to, const struct conf_addresses *a) {
    char text[DEST_TEXT_MAX];
    int n = fprintf(to, "[");
    for (size_t i = 0; i < a->n; i++)
        n += fprintf(to, "%s\"%s\"", i ? ", " : "", dest_format(&a->v[i], text, sizeof text));
    return n + fprintf(to, "]");
}

static int put_secret(const struct printer *p, const char *text) {
    return p->secrets ? conf_put_text(p->to, text) : fprintf(p->to, "\"" MASK "\"");
}

/* Lines stay lines, in a multi-line string: certificates have no backslashes and no quotes. */
static int put_pem(const struct printer *p, const char *text) {
    if (!p->set_only || strpbrk(text, "\\\"")) return conf_put_text(p->to, text);
    return fprintf(p->to, "\"\"\"\n%s%s\"\"\"", text, *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
}

static int put_users(const struct printer *p, const struct conf_users *u) {
    FILE *to = p->to;
    int n = fprintf(to, "[");
    for (size_t i = 0; i < u->n; i++) {
        n += fprintf(to, "%s{username = ", i ? ", " : "");
        n += conf_put_text(to, u->v[i].username);
        n += fprintf(to, ", password = ");
        n += put_secret(p, u->v[i].password);
        n += fprintf(to, "}");
    }
    return n + fprintf(to, "]");
}

static int put_hex(FILE *to, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) fprintf(to, "%02x", p[i]);
    return (int)(2 * n);
}

static int put_ids(FILE *to, const struct conf_ids *ids) {
    int n = fprintf(to, "[");
    for (size_t i = 0; i < ids->n; i++) n += fprintf(to, "%s%u", i ? ", " : "", ids->v[i]);
    return n + fprintf(to, "]");
}

static int put_random(FILE *to, const struct conf_random *r) {
    int n = fprintf(to, "\"");
    n += put_hex(to, r->prefix, r->len);
    n += fprintf(to, "/");
    n += put_hex(to, r->mask, r->len);
    return n + fprintf(to, "\"");
}

static int put_pins(FILE *to, const struct conf_pins *pins) {
    int n = fprintf(to, "[");
    for (size_t i = 0; i < pins->n; i++) {
        const struct conf_pin *pin = &pins->v[i];
        char text[64] = "";
        struct writer w = writer_of(text, sizeof text - 1);
        n += fprintf(to, "%s\"%s", i ? ", " : "", pin->certificate ? "cert-sha256:" : "sha256//");
        if (pin->certificate) {
            n += put_hex(to, pin->sha256, sizeof pin->sha256);
        } else {
            base64_put(&w, BASE64_STANDARD, pin->sha256, sizeof pin->sha256);
            n += fprintf(to, "%s", text);
        }
        n += fprintf(to, "\"");
    }
    return n + fprintf(to, "]");
}

static bool is_set(const struct conf_option *o, const void *at) {
    switch (o->type) {
    case CONF_ADDRESSES: return ((const struct conf_addresses *)at)->n;
    case CONF_USERS: return ((const struct conf_users *)at)->n;
    case CONF_PINS: return ((const struct conf_pins *)at)->n;
    case CONF_RANDOM: return ((const struct conf_random *)at)->len;
    case CONF_BOOLEAN:
    case CONF_DURATION:
    case CONF_SIZE:
    case CONF_INTEGER:
    case CONF_WORD:
    case CONF_WORDS:
    case CONF_MODE:
    case CONF_LISTEN: return true;
    case CONF_UIDS:
    case CONF_GIDS: return ((const struct conf_ids *)at)->n;
    case CONF_TABLE:
    case CONF_STRINGS:
    case CONF_ANY: return false;
    case CONF_STRING:
    case CONF_SECRET:
    case CONF_HOST:
    case CONF_PEM:
    case CONF_KEY:
    case CONF_PATH: break;
    }
    return *(const char *const *)at != NULL;
}

/* Returns the number of bytes. */
static int put_value(const struct printer *p, const struct conf_option *o, const void *at) {
    FILE *to = p->to;
    char text[CONF_VALUE_TEXT], where[CONF_ADDRESS_TEXT_MAX];
    size_t n;
    switch (o->type) {
    case CONF_BOOLEAN: return fprintf(to, "%s", *(const bool *)at ? "true" : "false");
    case CONF_DURATION:
    case CONF_SIZE:
        if (*(const uint64_t *)at == 0) return fprintf(to, "0"); /* in a string it would need a unit */
        return fprintf(to, "\"%s\"", conf_format_number(o->type, *(const uint64_t *)at, text, sizeof text));
    case CONF_INTEGER: return fprintf(to, "%u", *(const unsigned *)at);
    case CONF_WORD: {
        const char *word = conf_word_at(o->words, (int)*(const unsigned *)at, &n);
        return fprintf(to, "\"%.*s\"", (int)n, word);
    }
    case CONF_WORDS: return put_words(to, o->words, *(const unsigned *)at);
    case CONF_LISTEN: return conf_put_text(to, conf_address_format(at, where, sizeof where));
    case CONF_ADDRESSES: return put_addresses(to, at);
    case CONF_USERS: return put_users(p, at);
    case CONF_PINS: return put_pins(to, at);
    case CONF_RANDOM: return put_random(to, at);
    case CONF_SECRET: return put_secret(p, *(const char *const *)at);
    case CONF_KEY: return p->secrets ? put_pem(p, *(const char *const *)at) : put_secret(p, "");
    case CONF_PEM: return put_pem(p, *(const char *const *)at);
    case CONF_MODE: return fprintf(to, "\"%04o\"", *(const unsigned *)at);
    case CONF_UIDS:
    case CONF_GIDS: return put_ids(to, at);
    case CONF_TABLE:
    case CONF_STRINGS:
    case CONF_ANY: return 0; /* not kept */
    case CONF_STRING:
    case CONF_HOST:
    case CONF_PATH: break;
    }
    return conf_put_text(to, *(const char *const *)at);
}

/* --- options --- */

static void print_option(const struct conf *c, const struct printer *p, const struct conf_option *o,
                         const char *listener, const void *base) {
    FILE *to = p->to;
    char path[128];
    unsigned line, col;
    const void *at = (const char *)base + o->offset;
    conf_option_path(o, listener, path, sizeof path);
    bool placed = conf_place(c, path, &line, &col);
    if (!is_set(o, at) || (p->set_only && !placed)) return;
    if (o->type == CONF_MODE && !conf_address_is_unix(&((const struct conf_listener *)base)->address)) return;
    int n = fprintf(to, "%s = ", o->key);
    n += put_value(p, o, at);
    if (p->set_only) {
        fputc('\n', to);
        return;
    }
    fprintf(to, "%*s", n < COLUMN ? COLUMN - n : 1, "");
    if (placed && line) fprintf(to, "# line %u, column %u\n", line, col);
    else fprintf(to, "# %s\n", placed || !o->preset ? "credential of the service manager" : "default");
}

static void print_scope(const struct conf *c, const struct printer *p, enum conf_scope scope, const char *listener,
                        const void *base) {
    const struct conf_option *o;
    for (size_t i = 0; (o = conf_option_at(i)); i++)
        if (o->scope == scope && !o->alias_of && !o->file_of && o->offset != CONF_NOWHERE)
            print_option(c, p, o, listener, base);
}

static void print(const struct conf *c, const struct printer *p) {
    print_scope(c, p, CONF_SCOPE_ROOT, NULL, c);
    fprintf(p->to, "\n[endpoint]\n");
    print_scope(c, p, CONF_SCOPE_ENDPOINT, NULL, &c->endpoint);
    for (size_t i = 0; i < c->n_listeners; i++) {
        fprintf(p->to, "\n[listener.%s]\n", c->listeners[i].name);
        print_scope(c, p, CONF_SCOPE_LISTENER, c->listeners[i].name, &c->listeners[i]);
    }
}

void conf_print(const struct conf *c, FILE *to) {
    fprintf(to, "# %s\n", c->name);
    print(c, &(struct printer){to, false, false});
}

void conf_write(const struct conf *c, FILE *to) { print(c, &(struct printer){to, true, true}); }
